"""Small clusters for the explorer, by name: which machines there are, what is stored at first, what a user does. Spec: spec/explorer.md.

Everything that decides is the real code (refk8s/core). What a model leaves out (kubelets, say) is either silent or played by its
`environment`: writes that somebody outside makes as long as they change something.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request, User
from refk8s.core.api.resources import NAMESPACES, PODS, REPLICA_SETS, Resource
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.loop.loop import Loop
from refk8s.core.machine import AnyMachine
from refk8s.core.controllers.pods import is_active
from refk8s.core.properties.law import Law, objects
from refk8s.core.store import Change
from refk8s.core.value import Value

START: Instant = 1_790_000_000 * SECOND
KUBELET = User("system:node:played")


def _nothing(reader: Reader, now: Instant) -> Iterable[Request]:
    return ()


class Model(Value, frozen=True, eq=False):
    """A cluster to explore. `script`: what a user does, in this order, each at any moment. `horizon_seconds`: how long time goes on."""

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
    horizon_seconds: int = 120
    start: Instant = START


def create(resource: Resource, tree: dict[str, Any], namespace: str = "default") -> Request:
    """The request that creates what this manifest says."""
    obj = codec.from_tree(resource.type, tree)
    return Request("create", resource, namespace if resource.namespaced else "", obj.metadata.name or "", body=obj)


def patch(resource: Resource, name: str, tree: dict[str, Any], namespace: str = "default") -> Request:
    """A merge patch of an object."""
    return Request("patch", resource, namespace if resource.namespaced else "", name, body=Patch("application/merge-patch+json", tree))


def delete(resource: Resource, name: str, namespace: str = "default", **options: Any) -> Request:
    """Ask for an object to go."""
    return Request("delete", resource, namespace if resource.namespaced else "", name, body=DeleteOptions(**options))


NAMESPACE = Request("create", NAMESPACES, "", "default", body=Namespace(metadata=ObjectMeta(name="default")))


def pod_template(labels: dict[str, str], cpu: str = "") -> dict[str, Any]:
    """The least that a template says."""
    container: dict[str, Any] = {"name": "main", "image": "app:1"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"labels": labels}, "spec": {"containers": [container], "automountServiceAccountToken": False}}


def replica_set(name: str, replicas: int) -> dict[str, Any]:
    """A ReplicaSet as a manifest has it."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod_template(labels)},
    }  # fmt: skip


def pods_become_ready(reader: Reader, now: Instant) -> Iterable[Request]:
    """What kubelets would write: every pod runs and is ready, in whatever order; one that is going is gone."""
    for record in reader.list(PODS.prefix).records:
        pod = record.value
        metadata = pod.metadata
        if metadata.deletion_timestamp is not None:
            yield Request("delete", PODS, metadata.namespace, metadata.name, body=DeleteOptions(grace_period_seconds=0), user=KUBELET)
        elif pod.status is None or pod.status.phase != "Running":
            at = timestamp(now)
            held = ("Initialized", "ContainersReady", "Ready")
            conditions = [{"type": type, "status": "True", "lastTransitionTime": at} for type in held]
            container = {"name": "main", "image": "app:1", "imageID": "app:1", "containerID": "played://1", "ready": True, "started": True,
                         "restartCount": 0, "state": {"running": {"startedAt": at}}}  # fmt: skip
            tree = {"status": {"phase": "Running", "startTime": at, "conditions": conditions, "containerStatuses": [container]}}
            body = Patch("application/merge-patch+json", tree)
            yield Request("patch", PODS, metadata.namespace, metadata.name, "status", body=body, user=KUBELET)


def _active(cluster: Any) -> list[Any]:
    return [pod for pod in objects(cluster, PODS.prefix) if is_active(pod)]


def never_outside(fewest: int, most: int) -> Law:
    """RS-2, of what is stored: where at least `fewest` and at most `most` replicas were ever asked for, no write of a controller leaves
    fewer active pods or makes more; but a creation under way when the controller crashes may come on top (one for each further life).
    """

    def check(change: Change[Any], before: Any, after: Any) -> Iterable[str] | None:
        count = len(_active(after))
        if change.previous is None and count > most:
            lives = sum(component.life for component in after.components.values())
            return [f"{count} active pods, where at most {most} were ever asked for"] if count > most + lives - 1 else []
        is_ended = change.record is None or change.record.value.metadata.deletion_timestamp is not None
        if is_ended and count < fewest and count < len(_active(before)):
            return [f"{count} active pods are left, where at least {fewest} were asked for"]
        return []

    return Law("RS-2", check, PODS.prefix)


def _machines(*machines: AnyMachine) -> Callable[[], Mapping[str, AnyMachine]]:
    return lambda: {machine.name: machine for machine in machines}


def _replicaset(replicas: int, then: int) -> Model:
    return Model(
        "replicaset",
        f"a ReplicaSet of {replicas}, scaled to {then}; pods become ready in any order",
        lambda: {"replicaset-controller": Loop("replicaset-controller", [ReplicaSetReconciler()])},
        (NAMESPACE, create(REPLICA_SETS, replica_set("web", replicas))) if not replicas else (NAMESPACE,),
        (create(REPLICA_SETS, replica_set("web", replicas)), patch(REPLICA_SETS, "web", {"spec": {"replicas": then}})),
        pods_become_ready,
        laws=(never_outside(min(replicas, then), max(replicas, then)),),
    )


MODELS: dict[str, Callable[[], Model]] = {
    "replicaset": lambda: _replicaset(2, 1),
}
"""Every model by name."""
