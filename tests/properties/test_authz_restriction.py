"""What a kubelet may write: rules NAUTH-4 to NAUTH-7 (spec/authorization.md), ADM-3."""

from typing import Any

import pytest
from authz_world import USER, AuthorizedWorld, rule
from hypothesis import given
from hypothesis import strategies as st
from val_examples_cluster import REQUEST

from refk8s.core.api.user import ADMIN, node_user
from refk8s.core.apiserver.admission.node_restriction import _is_forbidden

NODE, OTHER = node_user("node-1"), node_user("node-2")
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
MERGE = {"content-type": "application/merge-patch+json"}
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"


def a_cluster() -> AuthorizedWorld:
    world = AuthorizedWorld()
    for name in ("node-1", "node-2"):
        assert world.ask("POST", NODES, node_user(name), {"metadata": {"name": name}})[0] == 201
    account = {"metadata": {"name": "robot"}}
    assert world.ask("POST", ACCOUNTS, ADMIN, account)[0] == 201
    for name, node in (("mine", "node-1"), ("theirs", "node-2"), ("free", None)):
        assert world.ask("POST", PODS, ADMIN, pod(name, node, serviceAccountName="robot"))[0] == 201
    return world


def pod(name: str, node: str | None, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i"}]
    return {
        "metadata": {"name": name},
        "spec": {"containers": containers, "nodeName": node, **spec},
    }


# --- nodes


@pytest.mark.parametrize(
    ("label", "forbidden"),
    [
        ("team", False),
        ("example.com/team", False),
        ("kubernetes.io/hostname", False),
        ("topology.kubernetes.io/zone", False),
        ("node.kubernetes.io/x", False),
        ("sub.kubelet.kubernetes.io/x", False),
        ("node-restriction.kubernetes.io/x", True),
        ("a.node-restriction.kubernetes.io/x", True),
        ("kubernetes.io/x", True),
        ("node-role.kubernetes.io/control-plane", True),
        ("x.k8s.io/y", True),
    ],
)
def test_nauth_4_a_kubelet_sets_labels_of_kubelets(label, forbidden):
    # Shows NAUTH-4.c.
    assert _is_forbidden(label) is forbidden
    world, body = AuthorizedWorld(), {"metadata": {"name": "node-1", "labels": {label: "x"}}}
    code, said = world.ask("POST", NODES, NODE, body)
    assert code == (403 if forbidden else 201)
    if forbidden:
        assert said["message"].endswith(f"is not allowed to set the following labels: {label}")
    patch = {"metadata": {"labels": {label: "y"}}}
    world = a_cluster()
    assert world.ask("PATCH", f"{NODES}/node-1", NODE, patch, **MERGE)[0] == (
        403 if forbidden else 200
    )
    assert world.ask("PATCH", f"{NODES}/node-1", ADMIN, patch, **MERGE)[0] == 200
    removal = {"metadata": {"labels": {label: None}}}
    assert world.ask("PATCH", f"{NODES}/node-1", NODE, removal, **MERGE)[0] == (
        403 if forbidden else 200
    )


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}, "is not allowed to modify taints"),
        ({"spec": {"taints": None}}, "is not allowed to modify taints"),
        ({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "1"}]}}, "is not allowed to modify ownerReferences"),
    ],
)  # fmt: skip
def test_nauth_4_a_kubelet_changes_neither_taints_nor_owners(patch, words):
    # Shows NAUTH-4.b.
    world = a_cluster()
    code, said = world.ask("PATCH", f"{NODES}/node-1", NODE, patch, **MERGE)
    assert code == 403 and said["message"].endswith(words)


@pytest.mark.parametrize("user", [NODE, OTHER])
def test_nauth_4_only_the_objects_of_its_own_node_are_written(user):
    """Also if a role would allow it."""
    # Shows NAUTH-4.a.
    world, own = a_cluster(), user is NODE
    for number, (group, what) in enumerate(
        (
            ("", "nodes nodes/status"),
            ("coordination.k8s.io", "leases"),
            ("storage.k8s.io", "csinodes"),
        )
    ):
        world.grant(user, "", rule("*", what, group), name=f"all-{number}")
    annotation = {"metadata": {"annotations": {"a": "b"}}}
    assert world.ask("PATCH", f"{NODES}/node-1", user, annotation, **MERGE)[0] == (
        200 if own else 403
    )
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    code, said = world.ask("PATCH", f"{NODES}/node-1/status", user, ready, **MERGE)
    assert code == (200 if own else 403), said
    for path in (LEASES, "/apis/storage.k8s.io/v1/csinodes"):
        body: dict[str, Any] = {"metadata": {"name": "node-1"}}
        if "csi" in path:
            body["spec"] = {"drivers": []}
        code, said = world.ask("POST", path, user, body)
        assert code == (201 if own else 403), said
        world.ask("POST", path, ADMIN, body)
        assert world.ask("PATCH", f"{path}/node-1", user, annotation, **MERGE)[0] == (
            200 if own else 403
        )
        assert world.ask("DELETE", f"{path}/node-1", user)[0] == (200 if own else 403)
    elsewhere = LEASES.replace("kube-node-lease", "default")
    assert world.ask("POST", elsewhere, user, {"metadata": {"name": user.name[12:]}})[0] == 403
    assert world.ask("DELETE", f"{NODES}/node-1", user)[0] == (200 if own else 403)


def test_nauth_4_a_kubelet_changes_the_status_of_a_claim_only():
    # Shows NAUTH-4.d.
    world = a_cluster()
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert world.ask("POST", claims, ADMIN, {"metadata": {"name": "c"}, "spec": spec})[0] == 201
    world.grant(
        NODE, "", rule("*", "persistentvolumeclaims persistentvolumeclaims/status"), name="c"
    )
    status = {"status": {"capacity": {"storage": "1Gi"}}}
    assert world.ask("PATCH", f"{claims}/c/status", NODE, status, **MERGE)[0] == 200
    code, said = world.ask(
        "PATCH", f"{claims}/c", NODE, {"metadata": {"labels": {"a": "b"}}}, **MERGE
    )
    assert code == 403 and "may only update PVC status" in said["message"]


def test_nauth_4_a_certificate_of_a_kubelet_is_for_itself():
    # Shows NAUTH-4.e.
    world = a_cluster()
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    spec = {"request": REQUEST, "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth", "digital signature"]}  # fmt: skip
    code, said = world.ask("POST", path, NODE, {"metadata": {"name": "c"}, "spec": spec})
    assert code == 403
    assert said["message"].endswith("can only create a node CSR with CN=system:node:node-1")


# --- pods


def mirror(**changes: Any) -> dict[str, Any]:
    made = pod("m", "node-1")
    owner = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "UID", "controller": True}
    made["metadata"] |= {
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner],
    }
    made["metadata"] |= changes.pop("metadata", {})
    made["spec"] |= changes
    return made


def with_uid(world: AuthorizedWorld, body: Any) -> Any:
    uid = world.ask("GET", f"{NODES}/node-1", ADMIN)[1]["metadata"]["uid"]
    for owner in body["metadata"].get("ownerReferences") or ():
        owner["uid"] = owner["uid"].replace("UID", uid)
    return body


OWNER = {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "UID", "controller": True}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (mirror(), ""),
        (mirror(metadata={"annotations": {}}), 'pod does not have "kubernetes.io/config.mirror" annotation, node "node-1" can only create mirror pods'),
        (mirror(nodeName="node-2"), 'node "node-1" can only create pods with spec.nodeName set to itself'),
        (mirror(nodeName=None), 'node "node-1" can only create pods with spec.nodeName set to itself'),
        (mirror(volumes=[{"name": "v", "secret": {"secretName": "s"}}]), "a mirror pod may not reference secrets"),
        (mirror(serviceAccountName="robot"), "a mirror pod may not reference service accounts"),
        (mirror(volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]), "a mirror pod may not use ServiceAccountToken volume projections"),
        (mirror(volumes=[{"name": "v", "configMap": {"name": "s"}}]), 'node "node-1" can not create pods that reference configmaps'),
        (mirror(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]), 'node "node-1" can not create pods that reference persistentvolumeclaims'),
        (mirror(metadata={"ownerReferences": []}), 'node "node-1" can only create pods with an owner reference set to itself'),
        (mirror(metadata={"ownerReferences": [OWNER | {"name": "node-2"}]}), 'node "node-1" can only create pods with an owner reference set to itself'),
        (mirror(metadata={"ownerReferences": [OWNER | {"controller": False}]}), 'node "node-1" can only create pods with a controller owner reference set to itself'),
        (mirror(metadata={"ownerReferences": [OWNER | {"blockOwnerDeletion": True}]}), 'node "node-1" must not set blockOwnerDeletion on an owner reference'),
        (mirror(metadata={"ownerReferences": [OWNER | {"uid": "wrong"}]}), "got wrong"),
        (mirror(metadata={"ownerReferences": [OWNER, OWNER | {"name": "x", "controller": False}]}), "a single owner reference set to itself"),
    ],
)  # fmt: skip
def test_nauth_5_a_new_pod_of_a_kubelet_shows_a_static_pod(body, words):
    # Shows NAUTH-5.a.
    import copy

    world = a_cluster()
    code, said = world.ask("POST", PODS, NODE, with_uid(world, copy.deepcopy(body)))
    assert code == (403 if words else 201), said
    if words:
        assert said["message"].endswith(words)


@pytest.mark.parametrize(("name", "own"), [("mine", True), ("theirs", False), ("free", False)])
def test_nauth_5_a_kubelet_changes_and_deletes_pods_of_its_node(name, own):
    # Shows NAUTH-5.b NAUTH-5.c.
    world = a_cluster()
    status = {"status": {"message": "hello"}}
    code, said = world.ask("PATCH", f"{PODS}/{name}/status", NODE, status, **MERGE)
    assert code == (200 if own else 403)
    if not own:
        assert said["message"] == f'pods "{name}" is forbidden: node "node-1" can only update pod status for pods with spec.nodeName set to itself'  # fmt: skip
    world.grant(NODE, "", rule("*", "pods"), name="all")
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert world.ask("PATCH", f"{PODS}/{name}", NODE, labels, **MERGE)[0] == 403
    eviction = {"metadata": {"name": name}}
    code, said = world.ask("POST", f"{PODS}/{name}/eviction?dryRun=All", NODE, eviction)
    assert code == (201 if own else 403), said
    code, said = world.ask("DELETE", f"{PODS}/{name}", NODE)
    assert code == (200 if own else 403)
    if not own:
        assert said["message"] == f'pods "{name}" is forbidden: node "node-1" can only delete pods with spec.nodeName set to itself'  # fmt: skip


# --- tokens


@given(
    st.sampled_from(("mine", "theirs", "free", "absent", None)),
    st.sampled_from(("right", "wrong", None)),
    st.sampled_from(("Pod", "Secret")),
)
def test_nauth_6_a_token_is_bound_to_a_pod_of_the_node(name, uid, kind):
    # Shows NAUTH-6.a.
    world = a_cluster()
    found = world.ask("GET", f"{PODS}/{name}", ADMIN)[1] if name else {}
    known = found.get("metadata", {}).get("uid", "u")
    bound = {
        "kind": kind,
        "apiVersion": "v1",
        "name": name,
        "uid": known if uid == "right" else uid,
    }
    body = {"spec": {"boundObjectRef": bound}} if name else {"spec": {}}
    code, said = world.ask("POST", f"{ACCOUNTS}/robot/token", NODE, body)
    allowed = (name, uid, kind) == ("mine", "right", "Pod")
    assert code == (
        201 if allowed else 404 if name == "absent" and uid and kind == "Pod" else 403
    ), said
    other = world.ask("POST", f"{ACCOUNTS}/default/token", NODE, body)
    assert other[0] == 403, "no pod of the node has this account"


def test_nauth_6_users_are_not_limited():
    world = a_cluster()
    world.grant(USER, "default", rule("create", "serviceaccounts/token"))
    assert world.ask("POST", f"{ACCOUNTS}/robot/token", USER, {"spec": {}})[0] == 201


# --- the name server of a node

SLICES = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"


def a_slice(name: str, node: str, service: str = "kube-dns") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": node}],
    }


@pytest.mark.parametrize(
    ("name", "node", "service", "code"),
    [
        ("kube-dns-node-1", "node-1", "kube-dns", 201),
        ("kube-dns-node-2", "node-1", "kube-dns", 403),
        ("kube-dns-node-1", "node-2", "kube-dns", 403),
        ("kube-dns-node-1", "node-1", "metrics-server", 403),
        ("other", "node-1", "kube-dns", 403),
    ],
)
def test_nauth_7_a_kubelet_creates_the_slice_of_its_own_name_server(name, node, service, code):
    world = a_cluster()
    assert world.ask("POST", SLICES, NODE, a_slice(name, node, service))[0] == code


def test_nauth_7_a_kubelet_changes_and_deletes_no_slice_of_another_node():
    world = a_cluster()
    assert world.ask("POST", SLICES, OTHER, a_slice("kube-dns-node-2", "node-2"))[0] == 201
    path = f"{SLICES}/kube-dns-node-2"
    assert world.ask("PUT", path, NODE, a_slice("kube-dns-node-2", "node-2"))[0] == 403
    assert world.ask("DELETE", path, NODE)[0] == 403
    assert world.ask("PUT", path, OTHER, a_slice("kube-dns-node-2", "node-1"))[0] == 403
    assert world.ask("PUT", path, OTHER, a_slice("kube-dns-node-2", "node-2"))[0] == 200
    assert world.ask("DELETE", path, OTHER)[0] == 200
