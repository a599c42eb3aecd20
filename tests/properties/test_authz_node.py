"""What the kubelet of a node may do: rules NAUTH-1 to NAUTH-3 (spec/authorization.md)."""

from typing import Any

import pytest
from authz_world import AuthorizedWorld
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import (
    ConfigMapVolumeSource,
    Container,
    EnvVar,
    EnvVarSource,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    Pod,
    PodSpec,
    SecretKeySelector,
    SecretVolumeSource,
    Volume,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.user import NODES, User, node_user
from refk8s.core.apiserver.authorize.node import NodeAuthorizer
from refk8s.core.apiserver.authorize.pods_of_nodes import PodsOfNodes
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.pods.references import MIRROR_ANNOTATION, references
from refk8s.core.store import Delete, Put, Txn
from refk8s.store.memory import MemoryEngine

NODE = node_user("node-1")
KINDS = ("secrets", "configmaps", "persistentvolumeclaims", "serviceaccounts")


def pod(name: str, node: str, kind: str = "", of: str = "", mirror: bool = False) -> Pod:
    env: tuple[EnvVar, ...] = ()
    volumes: tuple[Volume, ...] = ()
    if kind == "secrets":
        volumes = (Volume(name="v", secret=SecretVolumeSource(secret_name=of)),)
    elif kind == "env":
        source = EnvVarSource(secret_key_ref=SecretKeySelector(name=of, key="k"))
        env = (EnvVar(name="E", value_from=source),)
    elif kind == "configmaps":
        volumes = (Volume(name="v", config_map=ConfigMapVolumeSource(name=of)),)
    elif kind == "persistentvolumeclaims":
        claim = PersistentVolumeClaimVolumeSource(claim_name=of)
        volumes = (Volume(name="v", persistent_volume_claim=claim),)
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="a", annotations={MIRROR_ANNOTATION: "x"} if mirror else None
        ),
        spec=PodSpec(
            node_name=node or None,
            containers=(Container(name="c", image="i", env=env or None),),
            volumes=volumes or None,
            service_account_name=of if kind == "serviceaccounts" else None,
        ),
    )


PODS = st.builds(
    pod,
    st.sampled_from(("p", "q", "r")),
    st.sampled_from(("", "node-1", "node-2")),
    st.sampled_from((*KINDS, "env", "")),
    st.sampled_from(("x", "y")),
    st.booleans(),
)


@given(st.lists(st.one_of(PODS, st.sampled_from(("p", "q", "r", "asked", "compact"))), max_size=20))
def test_nauth_2_a_node_is_related_to_what_its_pods_refer_to_and_to_nothing_else(
    steps: Any,
) -> None:
    # Shows NAUTH-2.a NAUTH-2.b.
    engine, index = MemoryEngine(stamp), PodsOfNodes()
    for step in (*steps, "asked"):
        if step == "compact":
            engine.compact(engine.revision)
        elif step == "asked":
            pods = [record.value for record in engine.list(resources.PODS.prefix).records]
            for node in ("node-1", "node-2"):
                for kind in KINDS:
                    for name in ("x", "y"):
                        related = any(
                            one.spec.node_name == node
                            and MIRROR_ANNOTATION not in (one.metadata.annotations or {})
                            and (kind, name) in references(one)
                            for one in pods
                        )
                        assert index.refer(node, kind, "a", name, engine) is related
                        assert not index.refer(node, kind, "b", name, engine)
        else:
            name = step if isinstance(step, str) else step.metadata.name
            key = resources.PODS.key("a", name)
            write = Delete(key) if isinstance(step, str) else Put(key, step)
            engine.commit_batch([Txn((), (write,))])


def engine_with(*objects: Any) -> MemoryEngine[Any]:
    engine: MemoryEngine[Any] = MemoryEngine(stamp)
    for obj in objects:
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None
        key = resource.key(obj.metadata.namespace or "", obj.metadata.name)
        engine.commit_batch([Txn((), (Put(key, obj),))])
    return engine


@pytest.mark.parametrize(
    ("verb", "resource", "subresource", "name", "allowed"),
    [
        ("get", "secrets", "", "x", True),
        ("watch", "secrets", "", "x", True),
        ("list", "secrets", "", "", False),
        ("get", "secrets", "", "y", False),
        ("update", "secrets", "", "x", False),
        ("get", "configmaps", "", "x", False),
        ("create", "serviceaccounts", "token", "robot", False),
        ("get", "pods", "", "p", True),
        ("get", "pods", "", "q", False),
        ("create", "pods", "exec", "p", False),
        ("get", "pods", "log", "p", False),
        ("update", "pods", "status", "p", True),
        ("create", "pods", "eviction", "p", True),
        ("deletecollection", "pods", "", "", False),
        ("get", "services", "", "x", True),
        ("delete", "services", "", "x", False),
    ],
)
def test_nauth_2_only_the_verbs_of_a_kubelet_are_allowed(
    verb, resource, subresource, name, allowed
):
    # Shows NAUTH-2.c.
    store = engine_with(pod("p", "node-1", "secrets", "x"), pod("q", "node-2", "configmaps", "x"))
    asked = Attributes(NODE, verb, "", resource, subresource, "a", name)
    assert NodeAuthorizer()(asked, store).allowed is allowed


def test_nauth_2_a_volume_belongs_to_the_claim_of_a_pod():
    volume = PersistentVolume(
        metadata=ObjectMeta(name="pv"),
        spec=PersistentVolumeSpec(claim_ref=ObjectReference(namespace="a", name="x")),
    )
    asked = Attributes(NODE, "get", "", "persistentvolumes", name="pv")
    for node, allowed in (("node-1", True), ("node-2", False)):
        store = engine_with(volume, pod("p", node, "persistentvolumeclaims", "x"))
        decision = NodeAuthorizer()(asked, store)
        assert decision.allowed is allowed
        if not allowed:
            words = "no relationship found between node 'node-1' and this object"
            assert decision.reason == words
    claim = Attributes(NODE, "patch", "", "persistentvolumeclaims", "status", "a", "x")
    store = engine_with(pod("p", "node-1", "persistentvolumeclaims", "x"))
    assert NodeAuthorizer()(claim, store).allowed


@pytest.mark.parametrize(
    ("verb", "group", "resource", "namespace", "name", "fields", "allowed"),
    [
        ("list", "", "pods", "", "", "spec.nodeName=node-1", True),
        ("watch", "", "pods", "", "", "spec.nodeName=node-1,metadata.name!=x", True),
        ("list", "", "pods", "", "", "spec.nodeName=node-2", False),
        ("list", "", "pods", "", "", "spec.nodeName!=node-1", False),
        ("list", "", "pods", "", "", "", False),
        ("get", "", "nodes", "", "node-1", "", True),
        ("get", "", "nodes", "", "node-2", "", False),
        ("list", "", "nodes", "", "node-1", "metadata.name=node-1", True),
        ("list", "", "nodes", "", "", "", False),
        ("delete", "", "nodes", "", "node-1", "", False),
        ("get", "coordination.k8s.io", "leases", "kube-node-lease", "node-1", "", True),
        ("update", "coordination.k8s.io", "leases", "kube-node-lease", "node-2", "", False),
        ("update", "coordination.k8s.io", "leases", "kube-system", "node-1", "", False),
        ("list", "coordination.k8s.io", "leases", "kube-node-lease", "", "", False),
        ("update", "storage.k8s.io", "csinodes", "", "node-1", "", True),
        ("update", "storage.k8s.io", "csinodes", "", "node-2", "", False),
        ("list", "resource.k8s.io", "resourceslices", "", "", "spec.nodeName=node-1", True),
        ("list", "resource.k8s.io", "resourceslices", "", "", "", False),
    ],
)
def test_nauth_3_a_kubelet_reads_what_is_its_own(
    verb, group, resource, namespace, name, fields, allowed
):
    # Shows NAUTH-3.a.
    asked = Attributes(NODE, verb, group, resource, "", namespace, name, fields=fields)
    assert NodeAuthorizer()(asked, engine_with()).allowed is allowed


def test_nauth_1_there_is_no_opinion_about_anybody_else():
    # Shows NAUTH-1.a.
    store = engine_with(pod("p", "node-1", "secrets", "x"))
    for user in (
        User("system:node:node-1", groups=("system:authenticated",)),
        User("node-1", groups=(NODES,)),
        User("system:node:", groups=(NODES,)),
    ):
        assert not NodeAuthorizer()(
            Attributes(user, "get", "", "secrets", "", "a", "x"), store
        ).allowed
        assert not NodeAuthorizer()(
            Attributes(user, "get", "", "services", "", "a", "x"), store
        ).allowed
    world = AuthorizedWorld()
    assert world.ask("GET", "/api/v1/nodes/node-1", NODE)[0] == 404
    code, said = world.ask("GET", "/api/v1/nodes/node-2", NODE)
    assert code == 403 and said["message"].endswith(
        "at the cluster scope: node 'node-1' cannot read 'node-2', only its own Node object"
    )
    assert world.ask("GET", "/api", NODE)[0] == 200, "as every authenticated user"
