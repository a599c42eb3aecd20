"""What a kubelet may write, from plain values: each refusal with its words (NAUTH-4 to NAUTH-7,
spec/authorization.md)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.x509 import NameOID
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT, store_of
from test_adm_more import b64, pem
from test_adm_stages import refusal, signing

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.core_v1 import Node, PersistentVolumeClaim, Pod
from refk8s.core.api.meta_v1 import ManagedFieldsEntry, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.user import NODES, User, node_user
from refk8s.core.apiserver.admission import node_restriction
from refk8s.core.apiserver.admission.node_restriction import (
    restrict,
    restrict_delete,
    restrict_eviction,
    restrict_token,
)
from refk8s.core.store import EMPTY

NODE, JANE = node_user("n1"), User("jane")
PODS = resources.PODS


def asked(verb: str = "update", resource: Any = PODS, **fields: Any) -> Request:
    return Request(verb, resource, **{"namespace": "default", "user": NODE, **fields})


def told(request: Request, new: Any, old: Any = None, store: Any = EMPTY) -> str:
    """Why the kubelet of n1 may not write it; empty if it may. Others may always."""
    other = replace(request, user=JANE)
    assert restrict(other, new, old, store, CONTEXT) is new
    return why(lambda: restrict(request, new, old, store, CONTEXT), request, new)


def why(act: Any, request: Request, obj: Any = None) -> str:
    try:
        found = act()
    except Exception:
        code, words = refusal(act)
        assert code == 403
        name = request.name if obj is None else obj.metadata.name
        group = f".{request.resource.group}" if request.resource.group else ""
        about = (
            f'{request.resource.plural}{group} "{name}"'
            if name
            else request.resource.plural + group
        )
        assert words.startswith(f"{about} is forbidden: "), words
        return words.removeprefix(f"{about} is forbidden: ")
    assert found is obj or found is None
    return ""


def pod(name: str = "p", node: Any = "n1", **tree: Any) -> Pod:
    metadata = {"name": name, **tree.pop("metadata", {})}
    spec = {"containers": [{"name": "c"}], **tree.pop("spec", {})}
    spec |= {} if node is None else {"nodeName": node}
    return from_tree(Pod, {"metadata": metadata, "spec": spec, **tree})


def test_nauth_4_only_users_of_nodes_are_limited():
    lost = User("system:node:", groups=(NODES,))
    odd = User("ada", groups=(NODES,))
    for user in (lost, odd):
        request = asked(user=user, name="p")
        for act in (
            lambda request=request: restrict(request, pod(), pod(), EMPTY, CONTEXT),
            lambda request=request: restrict_delete(request, pod()),
            lambda request=request: restrict_eviction(request, pod()),
            lambda request=request: restrict_token(request, None, EMPTY),
        ):
            words = f'could not determine node from user "{user.name}"'
            assert refusal(act) == (403, f'pods "p" is forbidden: {words}')


def test_nauth_5_the_status_of_a_pod():
    status = asked(subresource="status")
    only = "can only update pod status for pods with spec.nodeName set to itself"
    for node in (None, "n2"):
        assert told(status, pod(), pod(node=node)) == f'node "n1" {only}'
    bare = replace(pod(), spec=None)
    assert told(status, pod(), bare) == f'node "n1" {only}'
    labelled = pod(metadata={"labels": {"a": "b"}})
    words = 'node "n1" cannot update labels through pod status'
    assert told(status, labelled, pod()) == told(status, pod(), labelled) == words
    assert (
        told(status, labelled, labelled) == told(status, pod(metadata={"labels": {}}), pod()) == ""
    )
    claimed = pod(status={"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "x"}]})
    words = 'node "n1" cannot update resource claim statuses'
    assert told(status, claimed, pod()) == told(status, pod(), claimed) == words
    assert told(status, claimed, claimed) == ""
    other = pod(status={"resourceClaimStatuses": [{"name": "r", "resourceClaimName": "y"}]})
    assert told(status, other, claimed) == words
    without = replace(pod(), status=None)
    assert told(status, without, pod()) == told(status, pod(), without) == ""
    assert told(status, pod(node=None), pod()) == ""


def test_nauth_5_other_writes_of_a_pod():
    words = "unexpected pod subresource \"ephemeralcontainers\", only 'status' and 'eviction' are allowed"
    assert told(asked(subresource="ephemeralcontainers"), pod(), pod()) == words
    created = "unexpected pod subresource \"status\", only 'status' and 'eviction' are allowed"
    assert told(asked("create", subresource="status"), pod()) == created
    assert told(asked(), pod(), pod()) == 'unexpected operation "UPDATE"'


MIRROR = {"kubernetes.io/config.mirror": "x"}
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": True}
STORE = store_of(Node(metadata=ObjectMeta(name="n1", uid="u")))
ONLY = 'node "n1" can only create pods with'


def mirror(owners: Any = (OWNER,), node: Any = "n1", annotations: Any = MIRROR, **spec: Any) -> Pod:
    metadata = {"annotations": annotations, "ownerReferences": [*owners]}
    return pod(node=node, metadata=metadata, spec=spec)


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def no(what: str) -> str:
    return f'node "n1" can not create pods that reference {what}'


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (mirror(), ""),
        (mirror(annotations={}), 'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods'),
        (replace(mirror(), metadata=replace(mirror().metadata, annotations=None)), 'pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods'),
        (mirror(node="n2"), f"{ONLY} spec.nodeName set to itself"),
        (mirror(node=None), f"{ONLY} spec.nodeName set to itself"),
        (mirror(serviceAccountName="s"), no("a service account")),
        (mirror(serviceAccount="s"), no("a service account")),
        (mirror(**volume(secret={"secretName": "s"})), no("secrets")),
        (mirror(**volume(configMap={"name": "s"})), no("configmaps")),
        (mirror(**volume(persistentVolumeClaim={"claimName": "s"})), no("persistentvolumeclaims")),
        (mirror(resourceClaims=[{"name": "r", "resourceClaimName": "x"}]), no("resourceclaims")),
        (mirror([OWNER, OWNER]), f"{ONLY} a single owner reference set to itself"),
        (mirror([]), f"{ONLY} an owner reference set to itself"),
        (replace(mirror(), metadata=replace(mirror().metadata, owner_references=None)), f"{ONLY} an owner reference set to itself"),
        (mirror([{**OWNER, "apiVersion": "v2"}]), f"{ONLY} an owner reference set to itself"),
        (mirror([{**OWNER, "kind": "Pod"}]), f"{ONLY} an owner reference set to itself"),
        (mirror([{**OWNER, "name": "n2"}]), f"{ONLY} an owner reference set to itself"),
        (mirror([{**OWNER, "controller": False}]), f"{ONLY} a controller owner reference set to itself"),
        (mirror([{key: value for key, value in OWNER.items() if key != "controller"}]), f"{ONLY} a controller owner reference set to itself"),
        (mirror([{**OWNER, "blockOwnerDeletion": True}]), 'node "n1" must not set blockOwnerDeletion on an owner reference'),
        (mirror([{**OWNER, "blockOwnerDeletion": False}]), ""),
        (mirror([{**OWNER, "uid": "v"}]), "node n1 UID mismatch: expected u got v"),
    ],
)  # fmt: skip
def test_nauth_5_a_new_pod_of_a_kubelet(new, words):
    assert told(asked("create"), new, None, STORE) == words
    if not words:
        assert told(asked("create"), new) == "node n1 UID mismatch: expected  got u"


def node(name: str = "n1", labels: Any = None, **tree: Any) -> Node:
    metadata = {"name": name, **({} if labels is None else {"labels": labels}), **tree.pop("metadata", {})}  # fmt: skip
    return from_tree(Node, {"metadata": metadata, **tree})


SPECIAL = {"b.k8s.io/x": "1", "a.k8s.io/x": "1", "kubernetes.io/arch": "x", "team": "y"}


def test_nauth_4_the_labels_of_a_node():
    create, update = asked("create", resources.NODES), asked("update", resources.NODES)
    words = 'node "n1" is not allowed to {}: a.k8s.io/x, b.k8s.io/x'
    setting, changing = words.format("set the following labels"), words.format("modify labels")
    assert told(create, node(labels=SPECIAL)) == setting
    assert told(update, node(labels=SPECIAL), node()) == changing
    assert told(update, node(), node(labels=SPECIAL)) == changing
    assert told(update, node(labels=SPECIAL), node(labels=SPECIAL)) == ""
    other = {**SPECIAL, "a.k8s.io/x": "2", "team": "z"}
    found = told(update, node(labels=other), node(labels=SPECIAL))
    assert found == 'node "n1" is not allowed to modify labels: a.k8s.io/x'
    free = {"team": "y", "kubernetes.io/arch": "x"}
    assert told(create, node(labels=free)) == told(update, node(labels=free), node()) == ""
    assert told(create, node()) == ""


def test_nauth_4_other_fields_of_a_node():
    update = asked("update", resources.NODES)
    tainted = node(spec={"taints": [{"key": "a", "effect": "NoSchedule"}]})
    words = 'node "n1" is not allowed to modify taints'
    assert told(update, tainted, node()) == told(update, node(), tainted) == words
    assert told(update, tainted, tainted) == told(update, node(spec={"taints": []}), node()) == ""
    owned = node(metadata={"ownerReferences": [OWNER]})
    words = 'node "n1" is not allowed to modify ownerReferences'
    assert told(update, owned, node()) == told(update, node(), owned) == words
    assert told(update, owned, owned) == ""
    words = 'node "n1" is not allowed to modify node "n2"'
    assert told(update, node("n2"), node("n2")) == words
    assert told(asked("create", resources.NODES), tainted) == ""
    assert told(asked("create", resources.NODES), node("n2")) == words


LEASES, SYSTEM = resources.LEASES, "kube-node-lease"


@pytest.mark.parametrize(
    ("namespace", "name", "words"),
    [
        (SYSTEM, "n1", ""),
        ("default", "n1", 'can only access leases in the "kube-node-lease" system namespace'),
        (SYSTEM, "n2", "can only access node lease with the same name as the requesting node"),
    ],
)
def test_nauth_4_the_lease_of_a_node(namespace, name, words):
    lease = LEASES.type(metadata=ObjectMeta(name=name))
    request = asked("update", LEASES, namespace=namespace, name="of-the-path")
    assert told(request, lease, lease) == words
    request = asked("delete", LEASES, namespace=namespace, name=name)
    assert why(lambda: restrict_delete(request, lease), request, lease if words else None) == words


def plain(resource: Any, name: str) -> Any:
    return from_tree(resource.type, {"metadata": {"name": name}})


CSI, SLICES, DEVICES = resources.CSI_NODES, resources.ENDPOINT_SLICES, resources.RESOURCE_SLICES
SAME = "can only access CSINode with the same name as the requesting node"
OWN = "a node can only write the EndpointSlice of its own name server"


def test_nauth_4_the_csi_node_and_the_resource_slice_of_a_node():
    for name, words in (("n1", ""), ("n2", SAME)):
        new = CSI.type(metadata=ObjectMeta(name=name))
        assert told(asked("create", CSI, namespace=""), new) == words
    words = "can only create ResourceSlice with the same NodeName as the requesting node"
    for name, expected in (("n1", ""), ("n2", words), (None, words)):
        new = SimpleNamespace(metadata=ObjectMeta(name="s"), spec=SimpleNamespace(node_name=name))
        assert told(asked("create", DEVICES, namespace=""), new) == expected


@pytest.mark.parametrize(
    ("resource", "namespace", "obj", "words"),
    [
        (PODS, "default", pod(), ""),
        (PODS, "default", pod(node="n2"), 'node "n1" can only delete pods with spec.nodeName set to itself'),
        (PODS, "default", pod(node=None), 'node "n1" can only delete pods with spec.nodeName set to itself'),
        (CSI, "", CSI.type(metadata=ObjectMeta(name="n1")), ""),
        (CSI, "", CSI.type(metadata=ObjectMeta(name="n2")), SAME),
        (resources.NODES, "", node(), ""),
        (resources.NODES, "", node("n2"), 'node "n1" is not allowed to modify node "n2"'),
        (SLICES, "kube-system", SLICES.type(metadata=ObjectMeta(name="kube-dns-n1")), ""),
        (SLICES, "kube-system", SLICES.type(metadata=ObjectMeta(name="kube-dns-n2")), OWN),
        (SLICES, "default", SLICES.type(metadata=ObjectMeta(name="kube-dns-n1")), OWN),
        (resources.CONFIG_MAPS, "default", plain(resources.CONFIG_MAPS, "n2"), ""),
    ],
)  # fmt: skip
def test_nauth_4_what_a_kubelet_deletes(resource, namespace, obj, words):
    request = asked("delete", resource, namespace=namespace)
    assert why(lambda: restrict_delete(request, obj), request, obj if words else None) == words
    assert restrict_delete(replace(request, user=JANE), obj) is None


def test_nauth_5_which_pods_a_kubelet_evicts():
    request = asked("create", subresource="eviction", name="p")
    restrict_eviction(request, pod())
    words = "node n1 can only evict pods with spec.nodeName set to itself"
    for found in (pod(node="n2"), pod(node=None), replace(pod(), spec=None)):
        assert why(lambda found=found: restrict_eviction(request, found), request) == words
    restrict_eviction(replace(request, user=JANE), pod(node="n2"))


def claim(**tree: Any) -> PersistentVolumeClaim:
    metadata = {"name": "c", **tree.pop("metadata", {})}
    return from_tree(PersistentVolumeClaim, {"metadata": metadata, **tree})


def test_nauth_4_the_status_of_a_claim():
    kind = resources.PERSISTENT_VOLUME_CLAIMS
    status = asked("update", kind, subresource="status")
    old = claim(metadata={"resourceVersion": "1"})
    before = (ManagedFieldsEntry(manager="o"),)
    old = replace(old, metadata=replace(old.metadata, managed_fields=before))
    entries = (ManagedFieldsEntry(manager="m"),)
    new = claim(metadata={"resourceVersion": "2"}, status={"phase": "Bound"})
    new = replace(new, metadata=replace(new.metadata, managed_fields=entries))
    assert told(status, new, old) == ""
    assert told(asked("update", kind), new, old) == "may only update PVC status"
    words = 'node "n1" is not allowed to update fields other than status'
    assert told(status, claim(metadata={"labels": {"a": "b"}}), old) == words
    assert told(status, claim(spec={"volumeName": "v"}), old) == words


CLIENT, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"


def request_of(*names: str) -> str:
    return b64(pem([(NameOID.COMMON_NAME, one) for one in names]))


def test_nauth_4_the_certificate_of_a_kubelet():
    create = asked("create", resources.CERTIFICATE_SIGNING_REQUESTS, namespace="")
    words = "can only create a node CSR with CN=system:node:n1"
    own, other = request_of("system:node:n1"), request_of("system:node:n2")
    both = request_of("system:node:n2", "system:node:n1")
    for signer in (CLIENT, SERVING):
        assert told(create, signing(own, signer)) == told(create, signing(both, signer)) == ""
        assert told(create, signing(other, signer)) == told(create, signing(request_of(), signer)) == words  # fmt: skip
        swapped = request_of("system:node:n1", "system:node:n2")
        assert told(create, signing(swapped, signer)) == words
        assert told(create, signing("YQ==", signer)) == "", "validation refuses it"
        assert told(create, signing(other, signer), signing(other, signer)) == ""
    assert told(create, signing(other, "a.b/c")) == ""


def dns(name: str = "kube-dns-n1", service: Any = "kube-dns", nodes: Any = ("n1",)) -> Any:
    labels = {} if service is None else {"kubernetes.io/service-name": service}
    endpoints = [{"addresses": ["10.0.0.1"], **({"nodeName": one} if one else {})} for one in nodes]
    tree = {
        "metadata": {"name": name, "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
    }
    return from_tree(SLICES.type, tree)


@pytest.mark.parametrize(
    ("namespace", "new", "is_own"),
    [
        ("kube-system", dns(), True),
        ("kube-system", dns(service=None), True),
        ("kube-system", replace(dns(), metadata=replace(dns().metadata, labels=None)), True),
        ("kube-system", replace(dns(), endpoints=None), True),
        ("kube-system", dns(service="other"), False),
        ("kube-system", dns("kube-dns-n2"), False),
        ("kube-system", dns(nodes=("n1", "n2")), False),
        ("kube-system", dns(nodes=("n1", None)), False),
        ("default", dns(), False),
    ],
)
def test_nauth_7_the_slice_of_a_name_server(namespace, new, is_own):
    assert told(asked("update", SLICES, namespace=namespace), new) == ("" if is_own else OWN)


def bound(**fields: Any) -> Any:
    return SimpleNamespace(
        **{"api_version": "v1", "kind": "Pod", "name": "p", "uid": "u", **fields}
    )


def test_nauth_6_a_token_of_a_kubelet():
    kind = resources.SERVICE_ACCOUNTS
    request = asked("create", kind, subresource="token", name="robot")
    mine = pod(metadata={"namespace": "default", "uid": "u"})
    theirs = pod("t", "n2", metadata={"namespace": "default", "uid": "u"})
    store = store_of(mine, theirs)

    def words(given: Any) -> str:
        assert restrict_token(replace(request, user=JANE), given, store) is None
        return why(lambda: restrict_token(request, given, store), request)

    assert words(bound()) == ""
    for given in (
        None,
        bound(api_version="v2"),
        bound(kind="Secret"),
        bound(name=""),
        bound(name=None),
    ):
        assert words(given) == "node requested token not bound to a pod"
    for uid in ("", None):
        assert words(bound(uid=uid)) == "node requested token with a pod binding without a uid"
    told_ = "The object might have been deleted and then recreated"
    assert words(bound(uid="v")) == f"the UID in the bound object reference (v) does not match the UID in record. {told_}"  # fmt: skip
    elsewhere = "node requested token bound to a pod scheduled on a different node"
    assert words(bound(name="t")) == elsewhere
    code = refusal(restrict_token, request, bound(name="none"), store)
    assert code == (404, 'pods "none" not found')


@pytest.mark.parametrize("domain", ["kubernetes.io", "k8s.io"])
def test_nauth_4_labels_without_a_domain_or_of_others_are_free(domain):
    forbidden = node_restriction._is_forbidden
    assert forbidden(f"{domain}/x") and forbidden(f"a.{domain}/x")
    assert (
        not forbidden(domain) and not forbidden(f"x{domain}/x") and not forbidden(f"{domain}.a/x")
    )
    for own in ("kubelet.kubernetes.io", "node.kubernetes.io"):
        assert not forbidden(f"{own}/x") and not forbidden(f"a.{own}/x") and forbidden(f"x{own}/x")
