"""What a model of the explorer is, and the parts that models have in common.

Spec: spec/explorer.md. All decisions are made by the real code (refk8s/core). A component that a
model leaves out, such as the kubelet, sends nothing or is simulated by the model's `environment`:
requests that are sent as long as they change something.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    NAMESPACES,
    NODES,
    PODS,
    Resource,
)
from refk8s.core.api.user import ADMIN, AUTHENTICATED, NODE_PREFIX, User
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.reconciler import Reconciler
from refk8s.core.machine import AnyMachine
from refk8s.core.pods.status import is_active
from refk8s.core.properties.law import Law, objects
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


def node(name: str, cpu: str) -> tuple[Request, Request]:
    """The requests that create a node that is ready."""
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


def only(reconciler: Reconciler, resources: tuple[Resource, ...]) -> Reconciler:
    """A reconciler that watches only these resources: a model has no objects of the others."""
    reconciler.interests = tuple(
        [interest for interest in reconciler.interests if interest.resource in resources]
    )
    reconciler.indexes = tuple(
        [index for index in reconciler.indexes if index.resource in resources]
    )
    return reconciler


def one_loop(name: str, *reconcilers: Reconciler) -> Callable[[], Mapping[str, AnyMachine]]:
    """The machines of a model with one loop of these reconcilers."""
    return lambda: {name: Loop(name, reconcilers)}
