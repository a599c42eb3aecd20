"""Small clusters for the explorer, by name: machines, first objects and requests of a user.

Spec: spec/explorer.md. All decisions are made by the real code (refk8s/core). A component that a
model leaves out, such as the kubelet, sends nothing or is simulated by the model's `environment`:
requests that are sent as long as they change something.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refk8s.adapters.fake.world import make_world
from refk8s.checking.explorer.store import chance_of_name
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICES,
    Resource,
)
from refk8s.core.api.user import ADMIN, AUTHENTICATED, NODE_PREFIX, User
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import SECOND, Context, Instant, SeededChance, timestamp
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
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.machine import AnyMachine
from refk8s.core.pods.status import is_active
from refk8s.core.properties.law import Law, objects
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.store import Change
from refk8s.core.value import Value

START: Instant = 1_790_000_000 * SECOND
KUBELET = User(f"{NODE_PREFIX}simulated", groups=(AUTHENTICATED,))
"""Not in system:nodes: it stands for the kubelets of all nodes, each of which NodeRestriction would
limit to its own pods (NAUTH-5)."""


def _nothing(reader: Reader, now: Instant) -> Iterable[Request]:
    return ()


class Model(Value, frozen=True, eq=False):
    """A cluster to explore.

    `script`: the user's requests, in this order, each at any moment. `horizon_seconds`: the bound
    of virtual time.
    """

    name: str
    summary: str
    machines: Callable[[], Mapping[str, AnyMachine]]
    setup: tuple[Request, ...] = ()
    script: tuple[Request, ...] = ()
    environment: Callable[[Reader, Instant], Iterable[Request]] = _nothing
    worlds: Callable[[], Mapping[str, Any]] = dict
    disturbances: tuple[tuple[str, str], ...] = ()
    laws: tuple[Law, ...] = ()  # of changes, besides those that hold of every cluster
    laws_of_rest: tuple[Law, ...] = ()
    one_revision: bool = False  # whether revisions of different resources are compared
    rests_first: bool = True  # whether the machines come to rest before the user's first request
    rests: bool = True  # whether the laws of rest apply at the horizon
    horizon_seconds: int = 120
    start: Instant = START


def create(resource: Resource, tree: dict[str, Any], namespace: str = "default") -> Request:
    """The request that creates the object of this manifest."""
    obj = codec.from_tree(resource.type, tree)
    return Request(
        "create",
        resource,
        namespace if resource.namespaced else "",
        obj.metadata.name or "",
        body=obj,
        user=ADMIN,
    )


def patch(
    resource: Resource, name: str, tree: dict[str, Any], namespace: str = "default"
) -> Request:
    """A merge patch of an object."""
    return Request(
        "patch",
        resource,
        namespace if resource.namespaced else "",
        name,
        body=Patch("application/merge-patch+json", tree),
        user=ADMIN,
    )


def delete(resource: Resource, name: str, namespace: str = "default", **options: Any) -> Request:
    """The request that deletes an object."""
    return Request(
        "delete",
        resource,
        namespace if resource.namespaced else "",
        name,
        body=DeleteOptions(**options),
        user=ADMIN,
    )


def _namespace_named(name: str) -> Request:
    body = Namespace(metadata=ObjectMeta(name=name))
    return Request("create", NAMESPACES, "", name, body=body, user=ADMIN)


NAMESPACE, KUBE_SYSTEM = _namespace_named("default"), _namespace_named("kube-system")


def pod_template(labels: dict[str, str], cpu: str = "") -> dict[str, Any]:
    """A minimal pod template."""
    container: dict[str, Any] = {"name": "main", "image": "app:1"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


def replica_set(name: str, replicas: int) -> dict[str, Any]:
    """The manifest of a ReplicaSet."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod_template(labels)},
    }  # fmt: skip


def pods_become_ready(reader: Reader, now: Instant) -> Iterable[Request]:
    """The writes of kubelets: each pod becomes ready, and each terminating pod is deleted."""
    for record in reader.list(PODS.prefix).records:
        pod = record.value
        metadata = pod.metadata
        if metadata.deletion_timestamp is not None:
            yield Request(
                "delete",
                PODS,
                metadata.namespace,
                metadata.name,
                body=DeleteOptions(grace_period_seconds=0),
                user=KUBELET,
            )
        elif pod.status is None or pod.status.phase != "Running":
            at = timestamp(now)
            held = ("Initialized", "ContainersReady", "Ready")
            conditions = [
                {"type": type, "status": "True", "lastTransitionTime": at} for type in held
            ]
            container = {"name": "main", "image": "app:1", "imageID": "app:1", "containerID": "simulated://1", "ready": True, "started": True,
                         "restartCount": 0, "state": {"running": {"startedAt": at}}}  # fmt: skip
            tree = {
                "status": {
                    "phase": "Running",
                    "startTime": at,
                    "conditions": conditions,
                    "containerStatuses": [container],
                }
            }
            body = Patch("application/merge-patch+json", tree)
            yield Request(
                "patch", PODS, metadata.namespace, metadata.name, "status", body=body, user=KUBELET
            )


def _active(cluster: Any) -> list[Any]:
    return [pod for pod in objects(cluster, PODS.prefix) if is_active(pod)]


def always_between(fewest: int, most: int) -> Law:
    """RS-2 for stored objects, if `replicas` was always from `fewest` to `most`.

    No write of a controller leaves fewer active pods or creates more. Requests in transit at a
    crash of the controller may create more (one for each further life).
    """

    def check(change: Change[Any], before: Any, after: Any) -> Iterable[str] | None:
        count = len(_active(after))
        if change.previous is None and count > most:
            lives = sum(component.life for component in after.components.values())
            return (
                [f"{count} active pods, and spec.replicas was never above {most}"]
                if count > most + lives - 1
                else []
            )
        is_ended = (
            change.record is None or change.record.value.metadata.deletion_timestamp is not None
        )
        if is_ended and count < fewest and count < len(_active(before)):
            lives = sum(component.life for component in after.components.values())
            return (
                [f"{count} active pods are left, and spec.replicas was never below {fewest}"]
                if count < fewest - lives + 1
                else []
            )
        return []

    return Law("RS-2", check, PODS.prefix)


def _loop(name: str, *reconcilers: Reconciler) -> Callable[[], Mapping[str, AnyMachine]]:
    return lambda: {name: Loop(name, reconcilers)}


# --- the models -----------------------------------------------------------------------------------


def _replicaset(replicas: int = 2, then: int = 1) -> Model:
    return Model(
        "replicaset",
        f"a ReplicaSet of {replicas}, scaled to {then}; pods become ready in any order",
        _loop("replicaset-controller", ReplicaSetReconciler()),
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


def _node(name: str, cpu: str) -> tuple[Request, Request]:
    room = {"cpu": cpu, "memory": "1Gi", "pods": "10"}
    status = {
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }
    body = Patch("application/merge-patch+json", status)
    made = create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    return made, Request("patch", NODES, "", name, "status", body=body, user=ADMIN)


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
        (NAMESPACE, *_node("n1", "1"), patch(NODES, "n1", {"spec": {"taints": None}})),
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


def _only(reconciler: Reconciler, resources: tuple[Resource, ...]) -> Reconciler:
    """A reconciler that watches only these resources: a model has no objects of the others."""
    reconciler.interests = tuple(
        [interest for interest in reconciler.interests if interest.resource in resources]
    )
    reconciler.indexes = tuple(
        [index for index in reconciler.indexes if index.resource in resources]
    )
    return reconciler


def _garbage() -> Model:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    return Model(
        "garbage",
        "an owner is deleted in the foreground; one dependent has a finalizer, "
        "another is created late",
        lambda: {
            "garbage-collector": Loop(
                "garbage-collector", [_only(GarbageCollector(), (CONFIG_MAPS, SECRETS))]
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
        _loop("endpoint-controllers", EndpointSliceController(), EndpointsController()),
        (NAMESPACE, *_node("n1", "1"), create(PODS, pod("a", node="n1"))),
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
}
"""Every model by name."""
