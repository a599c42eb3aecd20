"""Further stages of admission from plain values: fields that kinds get once, dropped fields,
volumes, certificates, owners, and the plugins in their order (spec/admission.md)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from api_world import World
from custom_world import CustomWorld, a_definition, a_version
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT, NOW, store_of
from test_adm_more import b64, pem
from test_match import an_operation
from val_examples_cluster import REQUEST

from refk8s.core.api import resources
from refk8s.core.api.apiextensions_v1 import CustomResourceDefinitionCondition
from refk8s.core.api.apps_v1 import DaemonSet
from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.codec import from_tree, to_tree
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Namespace,
    NamespaceStatus,
    Node,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeStatus,
    Pod,
    ServiceAccount,
    Taint,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference, StatusCause
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission import (
    admit,
    api_services,
    authorizer,
    certificates,
    check,
    create,
    definitions,
    dropped,
    namespace,
    node,
    optional,
    plugins,
    removed,
    storage,
)
from refk8s.core.apiserver.config import Attributes, Config, Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.cel.authorizer import Answer, Check
from refk8s.core.store import EMPTY, Compare, Put, Txn, commit

JANE = User("jane", groups=("team",))


def asked(verb: str = "create", resource: Any = resources.CONFIG_MAPS, **fields: Any) -> Request:
    return Request(verb, resource, **{"namespace": "n", "user": JANE, **fields})


def staged(stage: Any, new: Any, old: Any = None, store: Any = EMPTY, request: Any = None) -> Any:
    return stage(request or asked(), new, old, store, CONTEXT)


def refusal(function: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as error:
        function(*arguments)
    return error.value.status.code, error.value.status.message


# --- namespaces and nodes


@pytest.mark.parametrize(
    ("metadata", "phase"),
    [({"deletion_timestamp": NOW}, "Active"), ({}, "Terminating"), ({}, "Active"), ({}, None)],
)
def test_adm_2_a_namespace_that_exists_and_does_not_end(metadata, phase):
    found = Namespace(
        metadata=ObjectMeta(name="n", **metadata), status=NamespaceStatus(phase=phase)
    )
    store = store_of(ConfigMap(metadata=ObjectMeta(name="a", namespace="n")), found)
    new = ConfigMap(metadata=ObjectMeta(name="c"))
    arguments = (asked(), resources.CONFIG_MAPS, new, store)
    if not metadata and phase != "Terminating":
        key = resources.NAMESPACES.key("", "n")
        revision = store.get(key).mod_revision
        assert namespace.check_namespace(*arguments) == (Compare(key, revision),)
        return
    with pytest.raises(ApiError) as error:
        namespace.check_namespace(*arguments)
    status = error.value.status
    assert (status.code, status.details.name) == (403, "c")
    why = "unable to create new content in namespace n because it is being terminated"
    assert status.message == f'configmaps "c" is forbidden: {why}'
    words = "namespace n is being terminated"
    assert status.details.causes == (
        StatusCause(reason="NamespaceTerminating", message=words, field="metadata.namespace"),
    )


def test_adm_2_a_namespace_that_does_not_exist():
    new = ConfigMap(metadata=ObjectMeta())
    code = refusal(namespace.check_namespace, asked(), resources.CONFIG_MAPS, new, EMPTY)
    assert code == (404, 'namespaces "n" not found')
    ends = Namespace(metadata=ObjectMeta(name="n", deletion_timestamp=NOW))
    code, words = refusal(namespace.check_namespace, asked(), resources.CONFIG_MAPS, new, store_of(ends))  # fmt: skip
    assert code == 403 and words.startswith("configmaps is forbidden: ")


UNREADY = "node.kubernetes.io/not-ready"


@pytest.mark.parametrize(
    ("taints", "is_added"),
    [
        ((), True),
        (((UNREADY, "NoExecute"),), True),
        ((("a", "NoSchedule"),), True),
        (((UNREADY, "NoSchedule"),), False),
        ((("a", "NoSchedule"), (UNREADY, "NoSchedule")), False),
    ],
)
def test_adm_9_the_taint_of_a_new_node(taints, is_added):
    given = tuple([Taint(key=key, effect=effect) for key, effect in taints])
    new = from_tree(Node, {"metadata": {"name": "x"}, "spec": {}})
    new = replace(new, spec=replace(new.spec, taints=given or None, pod_cidr="10.0.0.0/24"))
    added = (Taint(key=UNREADY, effect="NoSchedule"),)
    if is_added:
        expected = replace(new, spec=replace(new.spec, taints=(*given, *added)))
        assert staged(node.admit_node, new) == expected
    else:
        assert staged(node.admit_node, new) is new
    assert staged(node.admit_node, new, new) is new


@pytest.mark.parametrize("finalizers", [None, ("a.b/c",), ("kubernetes",), ("kubernetes", "a.b/c")])
def test_adm_10_the_fields_of_a_new_namespace(finalizers):
    new = from_tree(Namespace, {"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {}, "status": {"phase": "Odd"}})  # fmt: skip
    new = replace(new, spec=replace(new.spec, finalizers=finalizers))
    made = staged(create.admit_namespace, new)
    given = finalizers or ()
    assert made.spec.finalizers == (given if "kubernetes" in given else (*given, "kubernetes"))
    assert made.status == NamespaceStatus(phase="Active")
    labels = {"a": "b", "kubernetes.io/metadata.name": "x"}
    assert made.metadata.labels == labels
    kept = staged(create.admit_namespace, new, new)
    assert (kept.spec, kept.status, kept.metadata.labels) == (new.spec, new.status, labels)


# --- daemon sets and jobs

GENERATION = "deprecated.daemonset.template.generation"


def daemon_set(generation: Any = None, image: str = "i", **annotations: str) -> DaemonSet:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}  # fmt: skip
    given = {**annotations, **({} if generation is None else {GENERATION: generation})}
    metadata = {"name": "d", **({"annotations": given} if given else {})}
    return from_tree(DaemonSet, {"metadata": metadata, "spec": {"selector": {}, "template": template}})  # fmt: skip


@pytest.mark.parametrize(
    ("before", "count"),
    [(None, 0), ("0", 0), ("1", 1), ("17", 17), ("x", 0), ("-1", 0), ("٣", 0), ("9" * 17, int("9" * 17)), ("1" * 18, 0)],
)  # fmt: skip
def test_adm_10_the_generation_of_a_template(before, count):
    old = daemon_set(before)
    for image in ("i", "j"):
        expected = str(count + (image == "j"))
        for given in (None, "5", expected):
            new = daemon_set(given, image, own="x")
            made = staged(create.admit_daemon_set, new, old)
            annotations = {"own": "x", GENERATION: expected}
            assert made == replace(new, metadata=replace(new.metadata, annotations=annotations))
            assert (made is new) is (given == expected)
    for given in (None, "1", "7"):
        made = staged(create.admit_daemon_set, daemon_set(given))
        assert made.metadata.annotations == {GENERATION: "1"}


UID, NAME = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"


@pytest.mark.parametrize(
    "labels", [None, {"app": "x"}, {NAME: "other"}, {"controller-uid": "other"}]
)
@pytest.mark.parametrize("own", [None, {}, {"app": "x"}, {"mine": "y"}, {NAME: "other"}])
@pytest.mark.parametrize("selector", [None, {"matchLabels": {"s": "t"}}, {"matchExpressions": []}])
def test_adm_10_the_labels_of_a_job(labels, own, selector):
    template = {"spec": {"containers": [{"name": "c"}]}, **({"metadata": {"labels": labels}} if labels else {})}  # fmt: skip
    metadata = {"name": "j", "uid": "u", **({} if own is None else {"labels": own})}
    spec = {"template": template, **({} if selector is None else {"selector": selector})}
    new = from_tree(resources.JOBS.type, {"metadata": metadata, "spec": spec})
    marks = {"controller-uid": "u", "job-name": "j", UID: "u", NAME: "j"}
    wanted = {**marks, **(labels or {})}
    made = staged(create.admit_job, new)
    assert made.spec.template.metadata.labels == wanted
    assert made.spec.template.spec == new.spec.template.spec
    matched = {**((selector or {}).get("matchLabels") or {}), UID: "u"}
    assert made.spec.selector.match_labels == matched
    assert made.metadata.labels == (wanted if not own or own == (labels or {}) else own)
    assert staged(create.admit_job, new, new) is new
    by_hand = replace(new, spec=replace(new.spec, manual_selector=True))
    assert staged(create.admit_job, by_hand) is by_hand


# --- definitions


def definition(*versions: tuple[str, bool], known: Any = None) -> Any:
    kind = resources.CUSTOM_RESOURCE_DEFINITIONS.type
    tree = {
        "metadata": {"name": "a.b"},
        "spec": {
            "group": "b", "scope": "Cluster", "names": {"plural": "a", "kind": "A"},
            "versions": [{"name": name, "served": True, "storage": storage} for name, storage in versions],
        },
    }  # fmt: skip
    found = from_tree(kind, tree)
    return replace(found, status=replace(found.status, stored_versions=known))


@pytest.mark.parametrize(
    ("versions", "known", "expected"),
    [
        ([("v1", True)], None, ("v1",)),
        ([("v1", False), ("v2", True)], ("v1",), ("v1", "v2")),
        ([("v1", True), ("v2", False)], ("v2", "v1"), ("v2", "v1")),
        ([("v1", False)], ("v0",), ("v0",)),
    ],
)
def test_crd_1_the_versions_in_which_objects_are_stored(versions, known, expected):
    new = definition(*versions, known=known)
    made = staged(definitions.admit_definition, new)
    assert made == replace(new, status=replace(new.status, stored_versions=expected))
    assert (made is new) is (known == expected)


CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


@pytest.mark.parametrize("finalizers", [None, ("a.b/c",), (CLEANUP, "a.b/c")])
def test_crd_15_a_definition_that_is_to_be_deleted(finalizers):
    given = definition(("v1", True))
    old = CustomResourceDefinitionCondition(type="Established", status="True")
    stale = CustomResourceDefinitionCondition(type="Terminating", status="False")
    status = replace(given.status, conditions=(stale, old))
    given = replace(given, metadata=replace(given.metadata, finalizers=finalizers), status=status)
    condition = CustomResourceDefinitionCondition(
        type="Terminating", status="True", reason="InstanceDeletionPending",
        message="CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        last_transition_time=NOW,
    )  # fmt: skip
    held = tuple(finalizers or ())
    held = held if CLEANUP in held else (*held, CLEANUP)
    metadata = replace(given.metadata, deletion_timestamp=NOW, finalizers=held)
    expected = replace(
        given, metadata=metadata, status=replace(status, conditions=(old, condition))
    )
    assert definitions.marked_for_deletion(given, CONTEXT) == expected


# --- dropped fields

CLAIM = {"kind": "PersistentVolumeClaim", "name": "x"}
SNAPSHOT = {"kind": "VolumeSnapshot", "name": "x", "apiGroup": "snapshot.storage.k8s.io"}
ODD = {"kind": "Pod", "name": "x"}
SOURCES = [None, CLAIM, SNAPSHOT, ODD, {**SNAPSHOT, "apiGroup": "other"}, {**CLAIM, "apiGroup": ""}]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("reference", [*SOURCES, {**CLAIM, "namespace": "other"}])
def test_adm_23_the_source_of_a_claim(source, reference):
    spec = {
        **({} if source is None else {"dataSource": source}),
        **({} if reference is None else {"dataSourceRef": reference}),
    }
    new = from_tree(PersistentVolumeClaim, {"metadata": {"name": "c"}, "spec": spec})
    made = staged(dropped.drop_data_source, new)
    here = source if source is None or (source.get("apiGroup") or "", source["kind"]) in (
        ("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"),
    ) else None  # fmt: skip
    there = None if reference is not None and "namespace" in reference else reference
    expected = {"dataSource": here or there, "dataSourceRef": there or here}
    wanted = from_tree(PersistentVolumeClaim, {"metadata": {"name": "c"}, "spec": {key: value for key, value in expected.items() if value}})  # fmt: skip
    assert to_tree(made.spec) == to_tree(wanted.spec)
    assert (made is new) is (source is None and reference is None)


def test_adm_23_what_is_dropped():
    secrets = (ObjectReference(name="a"), ObjectReference(name="b", kind="Secret", namespace="n"))
    account = ServiceAccount(metadata=ObjectMeta(name="s"), secrets=secrets)
    names = (ObjectReference(name="a"), ObjectReference(name="b"))
    made = staged(dropped.drop_secret_fields, account)
    assert made == replace(account, secrets=names)
    for plain in (made, replace(account, secrets=None), replace(account, secrets=())):
        assert staged(dropped.drop_secret_fields, plain) is plain
    endpoints = [{"addresses": ["10.0.0.1"], "deprecatedTopology": {"a": "b"}}, {"addresses": ["10.0.0.2"]}]  # fmt: skip
    kind = resources.ENDPOINT_SLICES.type
    tree = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints}
    made = staged(dropped.drop_topology, from_tree(kind, tree))
    assert [one["addresses"] for one in to_tree(made)["endpoints"]] == [["10.0.0.1"], ["10.0.0.2"]]
    assert all(one.deprecated_topology is None for one in made.endpoints)
    assert staged(dropped.drop_topology, made) is made
    bare = replace(made, endpoints=None)
    assert staged(dropped.drop_topology, bare) is bare


SOURCE = {"configMap": {"name": "x", "namespace": "y", "kubeletConfigKey": "z"}}


def a_node(has_source: bool, has_status: bool, cidr: Any = None, cidrs: Any = None) -> Node:
    spec = {"configSource": SOURCE} if has_source else {}
    status = {"config": {"error": "x"}} if has_status else {}
    found = from_tree(Node, {"metadata": {"name": "x"}, "spec": spec, "status": status})
    return replace(found, spec=replace(found.spec, pod_cidr=cidr, pod_cidrs=cidrs))


@pytest.mark.parametrize("old", [None, (False, False), (True, False), (False, True)])
@pytest.mark.parametrize("new", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("cidrs", [(None, None), ("a", None), (None, ("b",)), ("a", ("a", "b")), ("a", ("b", "a"))])  # fmt: skip
def test_adm_23_the_configuration_and_ranges_of_a_node(old, new, cidrs):
    given = a_node(*new, *cidrs)
    made = staged(dropped.drop_node_config, given, None if old is None else a_node(*old))
    kept = old is not None and any(old)
    ranges = (cidrs[0],) if cidrs == ("a", ("b", "a")) else cidrs[1]
    assert to_tree(made) == to_tree(a_node(new[0] and kept, new[1] and kept, cidrs[0], ranges))
    assert (made is given) is (made == given)


# --- volumes

CLAIMS, VOLUMES = resources.PERSISTENT_VOLUME_CLAIMS, resources.PERSISTENT_VOLUMES


@pytest.mark.parametrize(
    ("resource", "finalizer"),
    [
        (CLAIMS, "kubernetes.io/pvc-protection"),
        (VOLUMES, "kubernetes.io/pv-protection"),
        (resources.VOLUME_ATTRIBUTES_CLASSES, "kubernetes.io/vac-protection"),
    ],
)
def test_adm_21_the_finalizer_of_a_new_claim_or_volume(resource, finalizer):
    request = asked(resource=resource)
    for given in (None, ("a.b/c",), (finalizer, "a.b/c")):
        new = resource.type(metadata=ObjectMeta(name="x", finalizers=given))
        held = given or ()
        held = held if finalizer in held else (*held, finalizer)
        made = staged(storage.protect, new, request=request)
        assert made == replace(new, metadata=replace(new.metadata, finalizers=held))
        assert staged(storage.protect, new, new, request=request) is new


def volume(phase: Any, since: Any = None) -> PersistentVolume:
    status = PersistentVolumeStatus(phase=phase, last_phase_transition_time=since, message="m")
    return PersistentVolume(metadata=ObjectMeta(name="v"), status=status)


EARLIER, LATER = "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("before", "after", "since"),
    [
        (("Pending", EARLIER), ("Pending", EARLIER), EARLIER),
        (("Pending", EARLIER), ("Pending", None), EARLIER),
        (("Pending", EARLIER), ("Pending", LATER), LATER),
        (("Pending", EARLIER), ("Bound", EARLIER), NOW),
        (("Pending", EARLIER), ("Bound", None), NOW),
        (("Pending", EARLIER), ("Bound", LATER), LATER),
        (("Pending", None), ("Pending", None), None),
        (("Pending", None), ("Bound", None), NOW),
    ],
)
def test_adm_21_since_when_a_volume_is_in_its_phase(before, after, since):
    new = volume(*after)
    expected = replace(new, status=replace(new.status, last_phase_transition_time=since))
    assert staged(storage.admit_volume_status, new, volume(*before)) == expected
    began = staged(storage.admit_volume, new)
    assert began == replace(new, status=replace(new.status, last_phase_transition_time=NOW))
    assert staged(storage.admit_volume, new, new) is new


MARK = "storageclass.kubernetes.io/is-default-class"
BETA = "storageclass.beta.kubernetes.io/is-default-class"


def a_class(name: str, mark: str, of: Any = resources.STORAGE_CLASSES, **fields: Any) -> Any:
    metadata = {"name": name, "annotations": {mark: "true"}}
    needed = {"provisioner": "p"} if of == resources.STORAGE_CLASSES else {"spec": {"controller": "a/b"}}  # fmt: skip
    return from_tree(of.type, {"metadata": metadata, **needed, **fields})


def test_adm_22_the_default_class_of_a_claim():
    new = from_tree(PersistentVolumeClaim, {"metadata": {"name": "c"}, "spec": {"volumeName": "v"}})
    for mark in (MARK, BETA):
        store = store_of(a_class("other", "x"), a_class("d", mark))
        made = staged(storage.admit_class, new, None, store)
        assert made == replace(new, spec=replace(new.spec, storage_class_name="d"))
        assert staged(storage.admit_class, new, new, store) is new
        for name in ("", "mine"):
            named = replace(new, spec=replace(new.spec, storage_class_name=name))
            assert staged(storage.admit_class, named, None, store) is named
    assert staged(storage.admit_class, new, None, store_of(a_class("d", "x"))) is new


INGRESS_MARK = "ingressclass.kubernetes.io/is-default-class"


def test_adm_22_the_default_class_of_an_ingress():
    kind, of = resources.INGRESSES.type, resources.INGRESS_CLASSES
    new = from_tree(kind, {"metadata": {"name": "i"}, "spec": {"rules": []}})
    store = store_of(a_class("d", INGRESS_MARK, of), a_class("x", MARK, of))
    made = staged(storage.admit_ingress, new, None, store)
    assert made == replace(new, spec=replace(new.spec, ingress_class_name="d"))
    assert staged(storage.admit_ingress, new, new, store) is new
    assert staged(storage.admit_ingress, new, None, EMPTY) is new
    named = replace(new, spec=replace(new.spec, ingress_class_name="mine"))
    assert staged(storage.admit_ingress, named, None, store) is named
    for key, is_filled in (("kubernetes.io/ingress.class", False), ("other", True)):
        marked = replace(new, metadata=replace(new.metadata, annotations={key: "x"}))
        made = staged(storage.admit_ingress, marked, None, store)
        assert (made.spec.ingress_class_name == "d") is is_filled


def claim(size: Any, phase: Any = "Bound", name: Any = "c") -> PersistentVolumeClaim:
    spec = {} if name is None else {"storageClassName": name}
    status = {} if phase is None else {"phase": phase}
    found = from_tree(PersistentVolumeClaim, {"metadata": {"name": "x"}, "spec": spec, "status": status})  # fmt: skip
    requests = replace(found.spec.resources, requests={"storage": size} if size else None)
    return replace(found, spec=replace(found.spec, resources=requests))


@pytest.mark.parametrize("allows", [None, False, True])
@pytest.mark.parametrize("phase", ["Bound", "Pending", None])
@pytest.mark.parametrize("name", ["c", "none", "", None])
@pytest.mark.parametrize(
    ("before", "after"),
    [("1Gi", "1Gi"), ("1Gi", "1024Mi"), ("2Gi", "1Gi"), ("1Gi", "2Gi"), (None, "1"), (None, None), ("x", "1"), ("1", "x")],
)  # fmt: skip
def test_adm_22_which_claims_may_grow(allows, phase, name, before, after):
    more = {} if allows is None else {"allowVolumeExpansion": allows}
    request = asked("update", CLAIMS)
    exchange = Exchange(request, store_of(a_class("c", "x", **more)), CONTEXT)
    new, old = claim(after, phase, name), claim(before, phase, name)
    grows = (before, after) in (("1Gi", "2Gi"), (None, "1"), ("x", "1"))
    if not grows or (phase == "Bound" and name == "c" and allows):
        assert storage.check_growth(exchange, new, old) is None
    else:
        words = (
            "Only bound persistent volume claims can be expanded" if phase != "Bound" else
            "only dynamically provisioned pvc can be resized and the storageclass that provisions "
            "the pvc must support resize"
        )  # fmt: skip
        found = refusal(storage.check_growth, exchange, new, old)
        assert found == (403, f'persistentvolumeclaims "x" is forbidden: {words}')
    assert storage.check_growth(exchange, new, None) is None


# --- certificates and API services

CLIENT = "kubernetes.io/kube-apiserver-client"


def signing(request: Any = REQUEST, signer: str = "a.b/c", conditions: Any = None) -> Any:
    spec = {"request": request, "signerName": signer, "usages": ["any"], "username": "x", "uid": "y", "groups": ["z"], "extra": {"k": ["v"]}}  # fmt: skip
    found = from_tree(CertificateSigningRequest, {"metadata": {"name": "c"}, "spec": spec})
    return replace(found, status=replace(found.status, conditions=conditions))


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (User("jane", "u", ("g",), (("k", ("v", "w")),)), ("jane", "u", ("g",), {"k": ("v", "w")})),
        (User("jane"), ("jane", None, None, None)),
        (User(""), (None, None, None, None)),
    ],
)
def test_adm_20_a_request_has_the_identity_of_its_user(user, expected):
    new = signing()
    made = staged(certificates.admit_signing_request, new, request=asked(user=user))
    found = made.spec.username, made.spec.uid, made.spec.groups, made.spec.extra
    assert found == expected and made.spec.signer_name == "a.b/c"
    assert staged(certificates.admit_signing_request, new, new, request=asked(user=user)) is new


def test_adm_20_who_may_not_sign():
    from cryptography.x509 import NameOID

    def of(*organizations: str) -> str:
        return b64(pem([(NameOID.ORGANIZATION_NAME, one) for one in organizations]))

    request = asked(resource=resources.CERTIFICATE_SIGNING_REQUESTS)
    exchange = Exchange(request, EMPTY, CONTEXT)
    subject = 'certificatesigningrequests.certificates.k8s.io "c" is forbidden: '
    bad = signing(of("devs", "system:masters"), CLIENT)
    words = f"use of {CLIENT} signer with system:masters group is not allowed"
    assert refusal(certificates.check_subject, exchange, bad, None) == (403, subject + words)
    code, said = refusal(certificates.check_subject, exchange, signing("YQ==", CLIENT), None)
    assert code == 403 and said.startswith(f"{subject}failed to parse CSR: ")
    assert len(said) > len(f"{subject}failed to parse CSR: ")
    certificates.check_subject(exchange, signing(of("devs"), CLIENT), None)
    certificates.check_subject(exchange, signing(of("system:masters")), None)
    certificates.check_subject(exchange, bad, bad)


def conditions(*given: Any) -> Any:
    return tuple([
        CertificateSigningRequestCondition(type=kind, status=status, last_update_time=update, last_transition_time=since)
        for kind, status, update, since in given
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [("A", "True", None, None)], [("A", "True", NOW, NOW)]),
        ([], [("A", "True", EARLIER, None)], [("A", "True", EARLIER, NOW)]),
        ([], [("A", "True", None, EARLIER)], [("A", "True", NOW, EARLIER)]),
        ([("A", "True", LATER, EARLIER)], [("A", "True", None, None)], [("A", "True", NOW, EARLIER)]),
        ([("A", "False", LATER, EARLIER)], [("A", "True", None, None)], [("A", "True", NOW, NOW)]),
        ([("B", "True", LATER, EARLIER)], [("A", "True", None, None)], [("A", "True", NOW, NOW)]),
        ([("A", "True", LATER, None)], [("A", "True", None, None)], [("A", "True", NOW, NOW)]),
        ([("A", "True", LATER, EARLIER)], [("A", "True", LATER, EARLIER)], [("A", "True", LATER, EARLIER)]),
        ([("A", "True", LATER, EARLIER)], [], []),
    ],
)  # fmt: skip
def test_adm_20_the_times_of_conditions(before, after, expected):
    new = signing(conditions=conditions(*after) or None)
    old = signing(conditions=conditions(*before) or None)
    made = staged(certificates.admit_conditions, new, old)
    assert (made.status.conditions or ()) == conditions(*expected)
    assert (made is new) is (after == expected)
    assert made.spec == new.spec


def test_apisvc_2_an_api_service_of_this_server_is_available():
    kind = resources.API_SERVICES.type
    spec = {"group": "g", "version": "v1", "groupPriorityMinimum": 9, "versionPriority": 9}
    local = from_tree(kind, {"metadata": {"name": "v1.g"}, "spec": spec})
    tree = to_tree(staged(api_services.admit_api_service, local))
    assert tree["status"] == {
        "conditions": [
            {
                "type": "Available", "status": "True", "reason": "Local", "lastTransitionTime": NOW,
                "message": "Local APIServices are always available",
            }
        ]
    }  # fmt: skip
    assert staged(api_services.admit_api_service, local, local) is local
    remote = from_tree(kind, {"metadata": {"name": "v1.g"}, "spec": {**spec, "service": {"name": "s", "namespace": "n"}}})  # fmt: skip
    made = staged(api_services.admit_api_service, replace(remote, status=staged(api_services.admit_api_service, local).status))  # fmt: skip
    assert made == replace(remote, status=type(remote.status)())


def test_apisvc_3_the_api_services_of_this_server():
    served = (resources.PODS, resources.NODES, resources.DEPLOYMENTS, resources.EVENTS_V1, resources.HORIZONTAL_POD_AUTOSCALERS, resources.API_SERVICES)  # fmt: skip
    found = [to_tree(one) for one in api_services.local_api_services(served)]
    expected = [("", "v1", 18_000, 1), ("apps", "v1", 17_800, 15), ("events.k8s.io", "v1", 17_750, 15), ("autoscaling", "v2", 17_500, 30)]  # fmt: skip
    for tree, (group, version, minimum, priority) in zip(found, expected, strict=True):
        labels = {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
        assert tree["metadata"] == {"name": f"{version}.{group}", "labels": labels}
        of_group = {"group": group} if group else {}
        assert tree["spec"] == {**of_group, "version": version, "groupPriorityMinimum": minimum, "versionPriority": priority}  # fmt: skip
    assert len(api_services.local_api_services()) == len(
        {(one.group, one.version) for one in resources.SERVED} - {("apiregistration.k8s.io", "v1")}
    )


# --- the authorizer, and owners


class Asked:
    """An authorizer that allows what is listed, and keeps what it was asked."""

    def __init__(self, *allowed: tuple[str, str, str]) -> None:
        self.allowed = allowed
        self.asked: list[Attributes] = []

    def __call__(self, attributes: Attributes, store: Any) -> Decision:
        assert store is EMPTY
        self.asked.append(attributes)
        what = (attributes.verb, attributes.resource, attributes.subresource)
        return Decision(what in self.allowed, "why")


@pytest.mark.parametrize("is_allowed", [True, False])
def test_match_5_what_an_expression_asks_of_the_authorizer(is_allowed):
    may = Asked(*[("get", "pods", "exec")] * is_allowed)
    request = an_operation(resources.PODS, "CONNECT", "exec", user=JANE)
    found = authorizer.authorizer_of(request, EMPTY, Config(authorizer=may))
    about = Check("", "", "pods", "exec", "default", "a")
    assert found.request == about
    what = Check("", "g", "pods", "exec", "n", "x", "f")
    assert found.ask(what, "get") == Answer(is_allowed, "why")
    scaled = an_operation(resources.DEPLOYMENTS, part="scale", user=JANE)
    about = Check("", "apps", "deployments", "scale", "default", "a")
    assert authorizer.authorizer_of(scaled, EMPTY, Config(authorizer=may)).request == about
    account = replace(what, account=("ns", "robot"))
    found.ask(account, "get")
    found.ask(Check(path="/healthz"), "GET")
    robot = User(
        "system:serviceaccount:ns:robot",
        groups=("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
    )
    assert may.asked == [
        Attributes(JANE, "get", "g", "pods", "exec", "n", "x", fields="f", version="*"),
        Attributes(robot, "get", "g", "pods", "exec", "n", "x", fields="f", version="*"),
        Attributes(JANE, "get", path="/healthz"),
    ]


def owner(uid: str = "u", kind: str = "Pod", version: str = "v1", blocks: Any = None) -> Any:
    return OwnerReference(api_version=version, kind=kind, name="o", uid=uid, block_owner_deletion=blocks)  # fmt: skip


def config_map(*owners: Any) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="c", owner_references=owners or None))


DELETE = ("delete", "configmaps", "")
CANNOT = "cannot set an ownerRef on a resource you can't delete: , <nil>"
BLOCKED = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"  # fmt: skip
FINALIZE = ("update", "pods", "finalizers")


@pytest.mark.parametrize(
    ("allowed", "before", "after", "words"),
    [
        ((), (), (), ""),
        ((), (), (owner(),), CANNOT),
        ((), (owner(),), (), CANNOT),
        ((), (owner(),), (owner(),), ""),
        ((DELETE,), (), (owner(),), ""),
        ((DELETE,), (), (owner(blocks=False), owner("v", blocks=True)), BLOCKED),
        ((DELETE, FINALIZE), (), (owner(blocks=True),), ""),
        ((DELETE, FINALIZE), (), (owner(blocks=True), owner("v", "Node", blocks=True)), BLOCKED),
        ((DELETE,), (owner(blocks=True),), (owner("v"), owner(blocks=True)), ""),
        ((DELETE,), (owner(blocks=True),), (owner(blocks=True), owner("v", blocks=True)), BLOCKED),
        ((DELETE,), (owner(blocks=False),), (owner(blocks=True),), BLOCKED),
        ((DELETE,), (), (owner(kind="Odd", version="a.b/v1", blocks=True),), 'cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion a.b/v1 Kind Odd: no matches for kind "Odd" in version "a.b/v1"'),
    ],
)  # fmt: skip
def test_adm_44_who_may_set_owners(allowed, before, after, words):
    may = Asked(*allowed)
    request = asked("update" if before else "create", name="c")
    exchange = Exchange(request, EMPTY, CONTEXT, Config(authorizer=may))
    new, old = config_map(*after), config_map(*before)
    for stored in [old] if before else [None, old]:
        if words:
            found = refusal(optional.check_owners, exchange, new, stored)
            assert found == (403, f'configmaps "c" is forbidden: {words}')
        else:
            assert optional.check_owners(exchange, new, stored) is None
    if before != after:
        assert may.asked[0] == Attributes(JANE, "delete", "", "configmaps", "", "n", "c")


def test_adm_44_in_which_namespace_an_owner_is():
    for kind, plural, where in (("Pod", "pods", "n"), ("Node", "nodes", "")):
        may = Asked(DELETE)
        exchange = Exchange(asked(), EMPTY, CONTEXT, Config(authorizer=may))
        refusal(optional.check_owners, exchange, config_map(owner(kind=kind, blocks=True)), None)
        assert may.asked[1:] == [Attributes(JANE, "update", "", plural, "finalizers", where, "o")]
    pod = Pod(metadata=ObjectMeta(name="p", owner_references=(owner(),)))
    for resource, part, is_checked in (
        (resources.PODS, "status", False), (resources.PODS, "", True), (resources.NODES, "status", True),
    ):  # fmt: skip
        may = Asked()
        exchange = Exchange(asked("update", resource, subresource=part), EMPTY, CONTEXT, Config(authorizer=may))  # fmt: skip
        if is_checked:
            refusal(optional.check_owners, exchange, pod, None)
            assert may.asked[0].subresource == part
        else:
            optional.check_owners(exchange, pod, None)
            assert may.asked == []


def test_adm_44_the_kinds_of_owners():
    world = CustomWorld(
        a_definition(a_version(), a_version(name="v2", storage=False)),
        a_definition(plural="others", kind="Other"),
    )
    store = world.history

    def kinds(version: str, kind: str) -> list[tuple[str, str]]:
        return [(one.version, one.plural) for one in optional._of_kind(version, kind, store)]

    assert kinds("example.com/v1", "Gadget") == [("v1", "gadgets")]
    assert kinds("example.com/v2", "Gadget") == [("v2", "gadgets")]
    assert kinds("example.com/v2", "Other") == kinds("a.b/v1", "Gadget") == []
    assert kinds("v1", "Pod") == [("v1", "pods")]


GPU, NIC = "example.com/gpu", "example.com/nic"


def test_adm_43_the_tolerations_of_devices():
    def container(*names: str) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": dict.fromkeys(names, "1")}}

    own = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    bare = {"containers": [{"name": "c"}, container("cpu", "hugepages-2Mi")]}
    pod = from_tree(Pod, {"metadata": {"name": "p"}, "spec": bare})
    assert optional.tolerate(pod) is pod
    spec = {"containers": [container(NIC, "cpu", GPU)], "initContainers": [container("a.b/c")]}
    pod = from_tree(Pod, {"metadata": {"name": "p"}, "spec": {**spec, "tolerations": [own, {"key": "x"}]}})  # fmt: skip
    made = optional.tolerate(pod)
    added = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in ("a.b/c", NIC)]
    assert to_tree(made.spec) == {**to_tree(pod.spec), "tolerations": [own, {"key": "x"}, *added]}
    assert optional.tolerate(made) is made


# --- the plugins in their order


@pytest.mark.parametrize(
    ("stage", "where", "name"),
    [
        ("_check_security", "refk8s.core.apiserver.admission.pod_security.enforce", "check"),
        ("_check_owners", "refk8s.core.apiserver.admission.optional", "check_owners"),
        ("_check_approval", "refk8s.core.apiserver.authorize.further", "check_approval"),
        ("_check_signature", "refk8s.core.apiserver.authorize.further", "check_signature"),
        ("_tolerate", "refk8s.core.apiserver.admission.optional", "tolerate"),
        ("_check_types", "refk8s.core.apiserver.admission.policies.type_checking", "check_types"),
    ],
)
def test_adm_45_a_stage_that_is_loaded_when_it_is_needed(monkeypatch, stage, where, name):
    seen: list[Any] = []
    monkeypatch.setattr(f"{where}.{name}", lambda *given: seen.append(given) or ("made",))
    given = tuple("abcde" if stage in ("_tolerate", "_check_types") else "abc")
    made = getattr(plugins, stage)(*given)
    assert seen == [("b",) if stage == "_tolerate" else given]
    if stage in ("_check_security", "_tolerate", "_check_types"):
        assert made == ("made",)


def test_adm_45_the_stages_of_a_kind():
    def stage(name: str) -> Any:
        return SimpleNamespace(name=name)

    kind = resources.CONFIG_MAPS
    a, b, c, d, e, f = [stage(name) for name in "abcdef"]
    given = [
        plugins.Plugin("one", {(kind, ""): a, (kind, "status"): b}, {(kind, ""): c}),
        plugins.Plugin("two", {(kind, plugins.EVERY_PART): d}, checks=e),
        plugins.Plugin("three", {(resources.PODS, ""): f}, {(resources.PODS, ""): f}),
    ]
    found = plugins.compile_stages(given, kind, "")
    assert (found.mutating, found.preparing, found.validating) == ((a, d), (), (c, e))
    found = plugins.compile_stages(given, kind, "status")
    assert (found.mutating, found.preparing, found.validating) == ((b, d), (), (e,))
    found = plugins.compile_stages(given, resources.PODS, "")
    expected = ((f,), plugins.PREPARING[resources.PODS, ""], (e, f))
    assert (found.mutating, found.preparing, found.validating) == expected
    claims = plugins.compile_stages([], resources.RESOURCE_CLAIMS, "")
    assert claims.validating == (plugins.devices.check_admin_access,)
    assert plugins.compile_stages([], resources.RESOURCE_CLAIMS, "status").validating == ()


def test_adm_45_the_optional_plugins_that_are_on():
    pods, none = resources.PODS, frozenset[str]()
    plain = plugins.stages_of(pods, "", none)
    more = plugins.stages_of(pods, "", frozenset([plugins.EXTENDED_RESOURCES]))
    assert plugins._tolerate not in plain.mutating and plugins._tolerate in more.mutating
    owners = plugins.stages_of(pods, "", frozenset([plugins.OWNER_REFERENCES]))
    assert owners.validating == (
        *plain.validating[:-1],
        plugins._check_owners,
        plain.validating[-1],
    )
    assert plugins.read_plugins(["LimitRanger", plugins.OWNER_REFERENCES]) == {plugins.OWNER_REFERENCES}  # fmt: skip
    with pytest.raises(plugins.UnknownPlugin) as error:
        plugins.read_plugins(["b", "a", "LimitRanger"])
    assert str(error.value) == 'admission plugin "a" is unknown'


# --- the whole of it


def test_adm_1_the_conditions_of_a_create_and_an_update():
    world = World()
    store = world.history
    new = ConfigMap(metadata=ObjectMeta(name="c", namespace="default"))
    exchange = Exchange(asked(namespace="default", body=new), store, CONTEXT)
    key = resources.NAMESPACES.key("", "default")
    found = admit(exchange, new, None)
    assert (found.object, found.writes, found.warnings) == (new, (), ())
    assert found.compares == (Compare(key, store.get(key).mod_revision),)
    assert admit(exchange, new, new).compares == ()
    checked = check(exchange, new, None)
    assert (checked.object, checked.compares, checked.writes, checked.warnings) == (new, (), (), ())
    spread = Request("create", resources.NODES, body=None, user=JANE)
    made = admit(
        Exchange(spread, store, CONTEXT), from_tree(Node, {"metadata": {"name": "x"}}), None
    )
    assert made.compares == () and made.object.spec.taints[0].key == UNREADY


def test_alloc_6_only_a_service_frees_something():
    kind = resources.SERVICES
    spec = {"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 1, "nodePort": 30001}]}  # fmt: skip
    service = from_tree(kind.type, {"metadata": {"name": "s", "namespace": "n"}, "spec": spec})
    held = from_tree(resources.IP_ADDRESSES.type, {
        "metadata": {"name": "10.96.0.9"},
        "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}},
    })  # fmt: skip
    key = resources.IP_ADDRESSES.prefix + "10.96.0.9"
    store, _ = commit(EMPTY, Txn((), (Put(key, held),)))
    compares, writes = removed(kind, service, store)
    assert [one.key for one in compares] == [one.key for one in writes] == [key]
    assert compares[0].mod_revision == store.get(key).mod_revision
    assert removed(kind, service, EMPTY) == ((), ())
    assert removed(resources.CONFIG_MAPS, service, store) == ((), ())
