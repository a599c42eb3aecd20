"""Small clusters for the explorer, by name: machines, first objects and requests of a user.

Spec: spec/explorer.md. `model.py` says what a model is; models of workloads and quotas are in
`workload_models.py`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refk8s.adapters.fake.world import make_world
from refk8s.checking.explorer.model import (
    KUBE_SYSTEM,
    NAMESPACE,
    START,
    Model,
    always_between,
    create,
    delete,
    node,
    one_loop,
    only,
    patch,
    pod_template,
    pods_become_ready,
)
from refk8s.checking.explorer.store import chance_of_name
from refk8s.checking.explorer.workload_models import WORKLOADS
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
)
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import SECOND, Context, Instant, SeededChance
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.controllers.garbage_collector import GarbageCollector
from refk8s.core.controllers.namespace import NamespaceController
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.kubelet import kubelet
from refk8s.core.loop.elector import Elector
from refk8s.core.loop.lease_lock import ElectionConfig
from refk8s.core.loop.loop import Loop
from refk8s.core.machine import AnyMachine
from refk8s.core.scheduler.cycle import scheduler


def replica_set(name: str, replicas: int) -> dict[str, Any]:
    """The manifest of a ReplicaSet."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod_template(labels)},
    }  # fmt: skip


# --- the models -----------------------------------------------------------------------------------


def _replicaset(replicas: int = 2, then: int = 1) -> Model:
    return Model(
        "replicaset",
        f"a ReplicaSet of {replicas}, scaled to {then}; pods become ready in any order",
        one_loop("replicaset-controller", ReplicaSetReconciler()),
        (NAMESPACE,),
        (
            create(REPLICA_SETS, replica_set("web", replicas)),
            patch(REPLICA_SETS, "web", {"spec": {"replicas": then}}),
        ),
        pods_become_ready,
        laws=(always_between(min(replicas, then), max(replicas, then)),),
    )


def _deployment() -> Model:
    labels = {"app": "web"}
    tree = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels}, "template": pod_template(labels),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    }  # fmt: skip
    changed = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "app:2"}]}}}}
    return Model(
        "deployment",
        "a Deployment of 1 whose image changes once (surge 1, unavailable 0); "
        "either controller may crash",
        lambda: {
            "deployment-controller": Loop("deployment-controller", [DeploymentReconciler()]),
            "replicaset-controller": Loop("replicaset-controller", [ReplicaSetReconciler()]),
        },
        (NAMESPACE, create(DEPLOYMENTS, tree)),
        (patch(DEPLOYMENTS, "web", changed),),
        pods_become_ready,
    )


def pod(name: str, cpu: str = "", node: str = "") -> dict[str, Any]:
    """The manifest of a pod."""
    tree: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", **pod_template({"app": name}, cpu)}
    tree["metadata"]["name"] = name
    if node:
        tree["spec"]["nodeName"] = node
    return tree


def _scheduler() -> Model:
    return Model(
        "scheduler",
        "two pods, one node with room for one of them, the first is deleted",
        lambda: {"kube-scheduler": scheduler()},
        (NAMESPACE, *node("n1", "1"), patch(NODES, "n1", {"spec": {"taints": None}})),
        (
            create(PODS, pod("a", "600m")),
            create(PODS, pod("b", "600m")),
            delete(PODS, "a", grace_period_seconds=0),
        ),
        horizon_seconds=10,
    )


def _uid(key: str) -> str:
    """The uid of the first object with this key in the explorer."""
    return Context(START, SeededChance(chance_of_name(b"explore", key, 0))).uid()


def _owned(kind: str, name: str, owner: str, holds: bool = False) -> dict[str, Any]:
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "blockOwnerDeletion": True,
                 "uid": _uid(f"{CONFIG_MAPS.prefix}default/{owner}")}  # fmt: skip
    metadata: dict[str, Any] = {"name": name, "ownerReferences": [reference]}
    if holds:
        metadata["finalizers"] = ["example.com/hold"]
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _remove_finalizers(reader: Reader, now: Instant) -> Iterable[Request]:
    """The owner of a finalizer removes it from an object that is being deleted."""
    for record in (*reader.list(CONFIG_MAPS.prefix).records, *reader.list(SECRETS.prefix).records):
        metadata = record.value.metadata
        if metadata.deletion_timestamp is not None and "example.com/hold" in (
            metadata.finalizers or ()
        ):
            resource = CONFIG_MAPS if record.key.startswith(CONFIG_MAPS.prefix) else SECRETS
            rest = [name for name in metadata.finalizers if name != "example.com/hold"]
            yield patch(
                resource,
                metadata.name,
                {"metadata": {"finalizers": rest or None}},
                metadata.namespace,
            )


def _garbage() -> Model:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    return Model(
        "garbage",
        "an owner is deleted in the foreground; one dependent has a finalizer, "
        "another is created late",
        lambda: {
            "garbage-collector": Loop(
                "garbage-collector", [only(GarbageCollector(), (CONFIG_MAPS, SECRETS))]
            )
        },
        (
            NAMESPACE,
            create(CONFIG_MAPS, owner),
            create(SECRETS, _owned("Secret", "held", "owner", holds=True)),
        ),
        (
            delete(CONFIG_MAPS, "owner", propagation_policy="Foreground"),
            create(SECRETS, _owned("Secret", "late", "owner")),
        ),
        _remove_finalizers,
    )


def _kubelet() -> Model:
    return Model(
        "kubelet",
        "one pod on one node is started and deleted; the kubelet may restart, and containers die",
        lambda: {"kubelet/n1": kubelet("n1", KubeletConfig())},
        (
            NAMESPACE,
            create(
                CONFIG_MAPS,
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}},
            ),
        ),
        (create(PODS, pod("a", node="n1")), delete(PODS, "a")),
        worlds=lambda: {"kubelet/n1": make_world("n1")},
        disturbances=(("container dies", "0"),),
        horizon_seconds=5,
    )


def _endpoints() -> Model:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
               "spec": {"clusterIP": "None", "selector": {"app": "a"}, "ports": [{"port": 80}]}}  # fmt: skip
    return Model(
        "endpoints",
        "a service that selects one pod, which becomes ready and is deleted",
        one_loop("endpoint-controllers", EndpointSliceController(), EndpointsController()),
        (NAMESPACE, *node("n1", "1"), create(PODS, pod("a", node="n1"))),
        (create(SERVICES, service), delete(PODS, "a", grace_period_seconds=0)),
        _pods_get_addresses,
    )


def _pods_get_addresses(reader: Reader, now: Instant) -> Iterable[Request]:
    for request in pods_become_ready(reader, now):
        if request.verb == "patch":
            request.body.document["status"] |= {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}
        yield request


def _namespace() -> Model:
    inside = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "inside", "finalizers": ["example.com/hold"]},
    }
    stage = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "stage"}}
    return Model(
        "namespace",
        "a namespace is deleted that has an object with a finalizer; "
        "another object is created in it",
        lambda: {
            "namespace-controller": Loop(
                "namespace-controller", [NamespaceController((CONFIG_MAPS,))]
            )
        },
        (create(NAMESPACES, stage), create(CONFIG_MAPS, inside, "stage")),
        (
            delete(NAMESPACES, "stage"),
            create(CONFIG_MAPS, {**inside, "metadata": {"name": "another"}}, "stage"),
        ),
        _remove_finalizers,
        one_revision=True,
        horizon_seconds=20,
    )


def _scaled_every_eight_seconds(reader: Reader, now: Instant) -> Iterable[Request]:
    """So there is work for each leader."""
    for record in reader.list(REPLICA_SETS.prefix).records:
        replicas = 1 + (now - START) // (8 * SECOND) % 2
        if record.value.spec.replicas != replicas:
            yield patch(REPLICA_SETS, record.value.metadata.name, {"spec": {"replicas": replicas}})


def _election() -> Model:
    def instances() -> Mapping[str, AnyMachine]:
        loop = Loop("replicaset-controller", [ReplicaSetReconciler()])
        config = ElectionConfig(loop.name)
        return {
            name: Elector(loop, config, name, loop.user, loop.component, name)
            for name in ("host-1", "host-2")
        }

    return Model(
        "election",
        "two instances of the replicaset controller elect a leader, which scales a ReplicaSet",
        instances,
        (NAMESPACE, KUBE_SYSTEM, create(REPLICA_SETS, replica_set("web", 1))),
        environment=_scaled_every_eight_seconds,
        rests=False,
        rests_first=False,
        horizon_seconds=40,
    )


MODELS: dict[str, Callable[[], Model]] = {
    "replicaset": _replicaset,
    "deployment": _deployment,
    "scheduler": _scheduler,
    "garbage": _garbage,
    "kubelet": _kubelet,
    "endpoints": _endpoints,
    "namespace": _namespace,
    "election": _election,
    **WORKLOADS,
}
"""Every model by name."""
