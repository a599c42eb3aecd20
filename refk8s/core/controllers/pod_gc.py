"""Pod garbage collection: pods whose node does not exist, and too many finished pods. Rules PODGC-1
to PODGC-4 (spec/workloads/node.md).

No other controller deletes a pod without grace period, and this one only if the Node object does
not exist: then no kubelet can report that the containers have stopped. Source: Kubernetes
documentation, "Pod Lifecycle" (garbage collection of pods); pod-safety design proposal.
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.node_lifecycle import pods_by_node
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View, key_of
from refk8s.core.pods.requests import delete_pod, patch_status
from refk8s.core.pods.status import FAILED, FINAL_PHASES, disruption_target, is_finished
from refk8s.core.value import Value, evolve, field

QUARANTINE: Instant = 40 * SECOND
FINISHED_MAX = 12_500
TOO_MANY = "too many finished"  # the key of PODGC-3
BACK = "is back: "  # prefix of the key of a node that appeared in the view


class Memory(Value, frozen=True, eq=False):
    # node name -> since when it is not in the view
    missing: Map[str, Instant] = field(default_factory=Map)
    gone: Map[str, bool] = field(default_factory=Map)  # node name -> the API server answered 404


def fold_finished(
    finished: Map[Key, str], resource: Any, old: Pod | None, new: Pod | None
) -> Map[Key, str]:
    """Finished pods and when they were created. O(1)."""
    was = old is not None and old.status.phase in FINAL_PHASES
    now = new is not None and new.status.phase in FINAL_PHASES
    if was and not now:
        return finished.delete(key_of(old))
    if now and not was:
        assert new is not None
        return finished.set(key_of(new), new.metadata.creation_timestamp or "")
    return finished


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    keys = []
    if len(view.fold("finished")) > FINISHED_MAX:
        keys.append(TOO_MANY)
    if new is not None and (_is_without_its_node(view, new) or _ends_without_node(new)):
        keys.append(key_of(new))
    return keys


def _is_without_its_node(view: View, pod: Pod) -> bool:
    return bool(pod.spec.node_name) and view.get(NODES, pod.spec.node_name or "") is None


def _ends_without_node(pod: Pod) -> bool:
    """PODGC-4: it is being deleted, has no node and has not finished."""
    return (
        pod.metadata.deletion_timestamp is not None
        and not pod.spec.node_name
        and not is_finished(pod)
    )


def _of_node(view: View, old: Node | None, new: Node | None) -> list[Key]:
    """The pods of a node that was removed; or the node, if it is new."""
    if old is None and new is not None:
        return [BACK + (new.metadata.name or "")]
    return (
        view.indexed_keys(PODS, "node", old.metadata.name or "")
        if new is None and old is not None
        else []
    )


class PodGarbageCollector(Reconciler):
    """Reconciles one pod, the number of finished pods, or a node that appeared."""

    name = "pod-garbage-collector"
    interests = (Interest(PODS, _of_pod), Interest(NODES, _of_node))
    indexes = (pods_by_node(),)
    folds = (Fold("finished", (PODS,), Map(), fold_finished),)

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Delete a pod if its node has been absent for 40 seconds and the API server confirms that
        it does not exist (PODGC-1, PODGC-2)."""
        if key == TOO_MANY:
            return _remove_oldest(view)
        if key.startswith(BACK):
            return _forget(view, local.memory, key.removeprefix(BACK))
        # Observe
        memory: Memory = local.memory
        pod: Pod | None = view.get(PODS, key)
        if pod is not None and _ends_without_node(pod):
            return Plan(((_ended(pod),),))
        if pod is None or not _is_without_its_node(view, pod):
            return NOTHING
        node_name = pod.spec.node_name or ""

        # Decide
        since = memory.missing.get(node_name, now)
        memory = evolve(memory, missing=memory.missing.set(node_name, since))
        if now < since + QUARANTINE:
            return Plan(memory=memory, wake_at=since + QUARANTINE)
        if not memory.gone.get(node_name):
            question = Request("get", NODES, "", node_name, because="the view has no such node")
            return Plan(queries=(question,), memory=memory, wake_at=now + QUARANTINE)

        # Act
        because = f"its node {node_name} does not exist"
        waves = (
            ((_failed(pod, now, because),), (_forced(pod, because),))
            if not is_finished(pod)
            else ((_forced(pod, because),),)
        )
        return Plan(waves, memory=memory)

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep the result of reading the node. If it exists, the view is late, and the 40 seconds
        start again."""
        if response is None:
            return memory, ()
        if response.code == 404:
            return evolve(memory, gone=memory.gone.set(request.name, True)), (key,)
        missing = (
            memory.missing.delete(request.name)
            if request.name in memory.missing
            else memory.missing
        )
        return evolve(memory, missing=missing), ()


def _forget(view: View, memory: Memory, node_name: str) -> Plan:
    """Forget that a node was absent. When it is removed again, the 40 seconds start again and it is
    read again."""
    if view.get(NODES, node_name) is None or (
        node_name not in memory.missing and node_name not in memory.gone
    ):
        return NOTHING
    missing, gone = dict(memory.missing.items()), dict(memory.gone.items())
    missing.pop(node_name, None)
    gone.pop(node_name, None)
    return Plan(memory=Memory(Map(missing), Map(gone)))


def _remove_oldest(view: View) -> Plan:
    """PODGC-3: delete the finished pods beyond the limit, the oldest first."""
    finished: Map[Key, str] = view.fold("finished")
    surplus = len(finished) - FINISHED_MAX
    if surplus <= 0:
        return NOTHING
    oldest = sorted(finished.items(), key=lambda entry: (entry[1], entry[0]))[:surplus]
    pods = [pod for key, _ in oldest if (pod := view.get(PODS, key)) is not None]
    return Plan(
        (tuple(_forced(pod, f"more than {FINISHED_MAX} pods have finished") for pod in pods),)
    )


def _ended(pod: Pod) -> Request:
    return patch_status(pod, {"phase": FAILED}, "it is being deleted and was never bound")


def _failed(pod: Pod, now: Instant, because: str) -> Request:
    condition = disruption_target(pod, "DeletionByPodGC", "PodGC: node no longer exists", now)
    return patch_status(pod, {"phase": FAILED, "conditions": [condition]}, because)


def _forced(pod: Pod, because: str) -> Request:
    return delete_pod(pod, because, grace_period_seconds=0)
