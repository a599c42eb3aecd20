"""The pod worker computes the operations of the container runtime for each pod. Rules KUBELET-1 ...
KUBELET-4, KUBELET-40 ... KUBELET-44 (spec/kubelet.md).

It writes nothing to the API server, so its operations never wait for a write. The key is
"namespace/name/uid", because two successive pods of one name are different pods. The empty key
stands for the node itself: listing the runtime. Source: Kubernetes documentation, "Components"
(kubelet); the enhancement "Kubelet Evented PLEG for Better Performance".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod, Service
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES, PODS, SERVICES
from refk8s.core.api.user import node_user
from refk8s.core.context import Instant
from refk8s.core.kubelet import probes, resize
from refk8s.core.kubelet.admission import capacity_of, requests_of, why_rejected
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Draft, Facts
from refk8s.core.kubelet.held_back import held_back_until
from refk8s.core.kubelet.listing import after_list, has_news, is_as_known, with_pod_status
from refk8s.core.kubelet.memory import NodeMemory, PodMemory
from refk8s.core.kubelet.memory import Note as MemoryNote
from refk8s.core.kubelet.node_status import compute_labels
from refk8s.core.kubelet.objects import (
    NOT_HELD,
    Library,
    compute_read,
    has_changed,
    is_token,
    key_of_read,
    prune,
    taken_in,
)
from refk8s.core.kubelet.results import after_result
from refk8s.core.kubelet.sync_pod import sync_pod
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, no_keys
from refk8s.core.loop.view import View, namespace_index
from refk8s.core.pods.host_ports import pod_host_ports
from refk8s.core.pods.resize import DEFERRED, is_desired
from refk8s.core.pods.status import FINAL_PHASES, is_finished
from refk8s.core.ports import ListPods, Operation, PodsListed, Probe, Result

NODE_KEY = ""
WORKER, STATUS = "pod-worker", "pod-status"


def pod_key(pod: Any) -> Key:
    """ "namespace/name/uid" of a pod, or of the memory of a pod."""
    if isinstance(pod, PodMemory):
        return f"{pod.namespace}/{pod.name}/{pod.uid}"
    return f"{pod.metadata.namespace}/{pod.metadata.name}/{pod.metadata.uid}"


def pod_of(view: View, key: Key) -> tuple[Pod | None, str]:
    """(the pod of this key as the API server has it, its uid)."""
    path, _, uid = key.rpartition("/")
    pod = view.get(PODS, path)
    return (pod if pod is not None and pod.metadata.uid == uid else None), uid


def changed_pods(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """The pods whose runtime may have to change: not after a change of the status alone."""
    if old is None or new is None:
        return [pod_key(pod) for pod in (old, new) if pod is not None]
    if old.metadata.uid != new.metadata.uid:
        return [pod_key(old), pod_key(new)]
    before, after = old.metadata, new.metadata
    same = (
        before.deletion_timestamp == after.deletion_timestamp
        and before.deletion_grace_period_seconds == after.deletion_grace_period_seconds
        and (old.spec is new.spec or old.spec == new.spec)
        and (old.status.phase == new.status.phase or new.status.phase not in FINAL_PHASES)
        and before.labels == after.labels
        and before.annotations == after.annotations
    )
    return [] if same else [pod_key(new)]


class PodWorker(Reconciler):
    """Computes the operations of each pod of one node."""

    name = WORKER
    memory_name = "kubelet"
    initial_keys = (NODE_KEY,)

    def __init__(self, node_name: str, config: KubeletConfig) -> None:
        self.user = node_user(node_name)
        self.node_name = node_name
        self.config = config
        self.interests = (
            Interest(PODS, changed_pods, field_selector=f"spec.nodeName={node_name}"),
            Interest(SERVICES, no_keys),
        )
        self.indexes = (namespace_index(SERVICES),)

    def start_memory(self, now: Instant) -> NodeMemory:
        return NodeMemory()

    # --- reconciling ------------------------------------------------------------------------------

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """The operations of one pod, or a listing of the runtime."""
        node: NodeMemory = local.memory
        if key == NODE_KEY:
            return self._list(view, node, now)
        # Observe
        if not node.begun or node.described is None:
            return NOTHING  # KUBELET-40: the runtime must be listed first.
        pod, uid = pod_of(view, key)
        known = memory = node.pods.get(uid)
        if memory is None:
            if pod is None:
                return NOTHING
            memory = self._first_seen(view, pod, now)
        if pod is not None and memory.since < 0:
            memory = replace(memory, since=_since(view, pod))  # Only the runtime had it so far.
        if pod is not None and memory.pod is not pod:
            before = memory.pod.metadata if memory.pod is not None else None
            same = (
                before is not None
                and before.labels == pod.metadata.labels
                and before.annotations == pod.metadata.annotations
            )
            memory = replace(memory, pod=pod, volumes_due=memory.volumes_due if same else 0)

        # Decide
        used_before = node.used
        if pod is not None and not memory.admitted and memory.rejected is None:
            node, memory = self._admit(view, node, pod, memory, now)
        if (
            pod is not None
            and memory.admitted
            and (memory.allocated_for is not pod.spec or memory.resize_pending[0])
        ):
            node, memory = self._resize(view, node, pod, memory)
        library = Library(node.objects, now, memory.since)
        shown = pod
        if pod is not None and (
            memory.resize_pending[0] or (memory.allocated and memory.allocated_for is not pod.spec)
        ):  # else everything that the spec desires is allocated
            shown = resize.allocated_pod(memory, pod)
        draft = Draft(self._facts(view, node), shown, memory, library, now)
        if memory.dirty and not memory.listing and not memory.busy:
            draft.operations.append(ListPods((uid,)))
            draft.remember(dirty=False, listing=True)
        if draft.memory.listing and not draft.memory.has_waited:
            draft.remember(has_waited=True)
        sync_pod(draft)

        # Act
        memory = draft.memory
        changes: dict[str, Any] = {}
        notes: tuple[Note, ...] = ()
        if memory.notes:
            if memory.pod is not None:
                notes = tuple([_note(memory.pod, one) for one in memory.notes])
            changes["notes"] = ()
        if library.mounted and (names := tuple(dict.fromkeys(library.mounted))) != memory.mounted:
            changes["mounted"] = names
        busy_since = (memory.busy_since or now) if memory.busy else 0
        if busy_since != memory.busy_since:
            changes["busy_since"] = busy_since
        if changes:
            memory = replace(memory, **changes)
        if memory.ended and memory.uses:
            node, memory = (
                replace(node, used=_less(node.used, memory.uses)),
                replace(memory, uses={}),
            )
        if pod is None and memory.removed:
            node = replace(node, pods=node.pods.delete(uid) if uid in node.pods else node.pods)
        elif memory is not known:
            node = replace(node, pods=node.pods.set(uid, memory))
        queries: tuple[Request, ...] = ()
        if library.needed:
            queries, node = _request_missing(node, library.needed, key, now, _revision(view))

        # Report
        if library.wake_at is not None:
            draft.wake(library.wake_at)
        report: tuple[tuple[str, Key], ...] = ((STATUS, key),) if pod is not None else ()
        if node.used is not used_before and _has_room(node.used, used_before):
            report += _deferred(node, uid)  # RESIZE-3
        held_back = held_back_until(self.config, pod, memory) if pod is not None else 0
        return Plan(
            runs=tuple(draft.operations),
            queries=queries,
            notes=notes,
            memory=node,
            wake_at=draft.wake_at,
            enqueue=report,
            enqueue_at=held_back if held_back > now else None,  # KUBELET-31
        )

    def _facts(self, view: View, node: NodeMemory) -> Facts:
        def services(namespace: str, linked: bool) -> list[Service]:
            master = view.get(SERVICES, "default/kubernetes")
            found = view.indexed(SERVICES, "namespace", namespace) if linked else []
            return (
                found if master is None or (linked and namespace == "default") else [master, *found]
            )

        assert node.described is not None
        return Facts(self.config, node.described, services)

    def _admit(
        self, view: View, node: NodeMemory, pod: Pod, memory: PodMemory, now: Instant
    ) -> tuple[NodeMemory, PodMemory]:
        """Decide on the admission of a new pod, once (KUBELET-81)."""
        assert node.described is not None
        memory = with_pod_status(memory, pod, now)
        if pod.metadata.deletion_timestamp is not None or is_finished(pod):
            return node, replace(memory, admitted=True)
        wants = requests_of(pod)
        if pod.status.start_time is None and memory.sandbox is None:
            others = (
                [
                    other
                    for uid, other in sorted(node.pods.items())
                    if other.admitted and not other.ended and _exists(view, other)
                ]
                if pod_host_ports(pod.spec)
                else []
            )
            own = view.get(NODES, self.node_name)
            labels = (
                own.metadata.labels or {}
                if own is not None
                else compute_labels(self.node_name, self.config, node.described)
            )
            capacity, modules = capacity_of(node.described, own), node.described.security_modules
            problem = why_rejected(pod, wants, node.used, capacity, labels, others, modules)
            if problem is not None and (left := _used_by_gone(view, node)):
                used = _less(node.used, left)
                problem = why_rejected(pod, wants, used, capacity, labels, others, modules)
            if problem is not None:
                note = MemoryNote(problem[0], problem[1], "Warning")
                return node, replace(memory, rejected=problem).with_notes(note)
        return replace(node, used=_more(node.used, wants)), replace(
            memory, admitted=True, uses=wants
        )

    def _resize(
        self, view: View, node: NodeMemory, pod: Pod, memory: PodMemory
    ) -> tuple[NodeMemory, PodMemory]:
        """Decide whether the pod gets the resources that its spec desires (RESIZE-3)."""
        if memory.ending or memory.ended:
            return node, memory
        if not memory.allocated:
            memory = resize.begin(memory, pod)
        if is_desired(pod.spec, memory.allocated):
            return node, replace(memory, resize_pending=("", ""), allocated_for=pod.spec)
        assert node.described is not None
        capacity = capacity_of(node.described, view.get(NODES, self.node_name))
        before = memory.uses
        memory = replace(resize.allocate(memory, pod, node.used, capacity), allocated_for=pod.spec)
        if memory.uses is not before:
            node = replace(node, used=_more(_less(node.used, before), memory.uses))
        return node, memory

    def answered(
        self,
        memory: NodeMemory,
        key: Key,
        request: Request,
        response: Response | None,
        now: Instant,
    ) -> tuple[NodeMemory, Iterable[Key]]:
        """Handle the response to a read of an object that pods wait for."""
        name = key_of_read(request)
        held = memory.objects.get(name, NOT_HELD)
        following = taken_in(held, response, now, self.config.objects_kept)
        memory = replace(memory, objects=memory.objects.set(name, following))
        keys = list(held.waiting)
        if has_changed(held, following):
            # a token is of one pod, the one of the key; another object may be mounted by any
            own = key.rpartition("/")[2]
            pods = [own] if is_token(name) and own in memory.pods else sorted(memory.pods)
            for uid in pods:
                pod = memory.pods[uid]
                if name in pod.mounted:
                    memory = replace(memory, pods=memory.pods.set(uid, replace(pod, volumes_due=0)))
                    keys.append(pod_key(pod))
        return memory, keys

    def _first_seen(self, view: View, pod: Pod, now: Instant) -> PodMemory:
        metadata = pod.metadata
        uid, namespace, name = metadata.uid or "", metadata.namespace or "", metadata.name or ""
        return PodMemory(
            uid, namespace, name, pod=pod, seen_at=now, started_at=now, since=_since(view, pod)
        )

    def _refresh(
        self, view: View, node: NodeMemory, now: Instant
    ) -> tuple[tuple[Request, ...], NodeMemory]:
        """KUBELET-58: the requests that read again what volumes show. O(pods of the node)."""
        shown = {key for pod in node.pods.values() for key in pod.mounted if not is_token(key)}
        stale = [
            key
            for key in sorted(shown)
            if node.objects.get(key, NOT_HELD).value is not None
            and not node.objects[key].requested_at
        ]
        return _request_missing(node, stale, "", now, _revision(view))

    # --- listing ----------------------------------------------------------------------------------

    def _list(self, view: View, node: NodeMemory, now: Instant) -> Plan:
        """List the whole runtime (KUBELET-41).

        The list runs at the start, regularly, and when the runtime reports a change without a pod.
        """
        runs: list[Operation] = []
        queries: tuple[Request, ...] = ()
        if not node.listing and now >= node.relist_at:
            node = replace(node, objects=prune(node.objects, now))
            queries, node = self._refresh(view, node, now)
            runs.append(ListPods())
            node = replace(node, listing=True, pods=_all_listing(node.pods))
        due: set[Key] = set()
        if node.listed and node.described is not None and not node.begun:
            node = replace(node, begun=True)
            due = {pod_key(memory) for memory in node.pods.values()} | {
                pod_key(pod) for pod in view.list(PODS)
            }
        wake = node.relist_at if not node.listing else None
        return Plan(
            runs=tuple(runs),
            queries=queries,
            memory=node,
            wake_at=wake,
            enqueue=tuple([(WORKER, key) for key in sorted(due)]),
        )

    def ran(
        self, memory: NodeMemory, key: Key, operation: Operation, result: Result, now: Instant
    ) -> tuple[NodeMemory, Iterable[Key]]:
        """Handle the result of an operation."""
        if isinstance(operation, ListPods):
            return self._listed(memory, operation, result, now)
        uid = key.rpartition("/")[2]
        pod = memory.pods.get(uid)
        if pod is None:
            return memory, ()
        if isinstance(operation, Probe):
            pod = probes.probed(pod, operation, result, now)
        else:
            pod = after_result(pod, operation, result, now, self.config.retry_after)
        return replace(memory, pods=memory.pods.set(uid, pod)), (key,)

    def _listed(
        self, memory: NodeMemory, operation: ListPods, result: Result, now: Instant
    ) -> tuple[NodeMemory, Iterable[Key]]:
        whole = not operation.pod_uids
        if not isinstance(result, PodsListed):
            failures = memory.list_failures + 1
            again = now + min(failures, 10) * self.config.retry_after
            pods = memory.pods
            for uid in operation.pod_uids or sorted(pods):
                pod = pods.get(uid)
                if pod is not None and pod.listing and pod.in_whole_list == whole:
                    again_alone = replace(pod, listing=False, in_whole_list=False, dirty=True)
                    pods = pods.set(uid, again_alone)
            memory = replace(memory, pods=pods, list_failures=failures, relist_at=again)
            return (replace(memory, listing=False) if whole else memory), (NODE_KEY,)
        by_uid: dict[str, tuple[list[Any], list[Any]]] = {}
        for sandbox in result.sandboxes:
            by_uid.setdefault(sandbox.pod_uid, ([], []))[0].append(sandbox)
        for container in result.containers:
            by_uid.setdefault(container.pod_uid, ([], []))[1].append(container)
        pods = memory.pods
        keys: list[Key] = []
        for uid in sorted({*by_uid, *(operation.pod_uids or pods)}):
            known = pods.get(uid)
            sandboxes, containers = by_uid.get(uid, ([], []))
            if known is None:
                if not sandboxes:
                    continue
                namespace, name = sandboxes[0].namespace, sandboxes[0].name
                known = PodMemory(
                    uid=uid,
                    namespace=namespace,
                    name=name,
                    seen_at=now,
                    started_at=now,
                    listing=True,
                    in_whole_list=whole,
                )
            if not known.listing or known.in_whole_list != whole:
                # An operation was running, so the pod is listed again, alone, after it; this list
                # may be older than the operation (KUBELET-44).
                continue
            is_same = is_as_known(known, sandboxes, containers)
            following = (
                replace(known, listing=False, in_whole_list=False, has_waited=False)
                if is_same
                else after_list(known, sandboxes, containers, now)
            )
            pods = pods.set(uid, following)
            # without news, only what became due during the list has waited for it
            if known.has_waited or known.dirty or (not is_same and has_news(known, following)):
                keys.append(pod_key(following))
        memory = replace(memory, pods=pods, list_failures=0)
        if whole:
            memory = replace(
                memory, listing=False, listed=True, relist_at=now + self.config.relist_every
            )
            keys.append(NODE_KEY)
        return memory, keys

    def runtime_changed(
        self, memory: NodeMemory, pod_uids: tuple[str, ...], now: Instant
    ) -> tuple[NodeMemory, Iterable[Key]]:
        """The runtime reports that these pods changed: list them (KUBELET-41)."""
        if not pod_uids:
            return replace(memory, relist_at=now), (NODE_KEY,)
        pods = memory.pods
        keys: list[Key] = []
        for uid in pod_uids:
            if (pod := pods.get(uid)) is not None:
                pods = pods.set(uid, replace(pod, dirty=True))
                keys.append(pod_key(pod))
        return replace(memory, pods=pods), keys


def _note(pod: Pod, one: MemoryNote) -> Note:
    return Note(pod, one.reason, one.message, one.type, one.container)


def _has_room(used: Mapping[str, int], before: Mapping[str, int]) -> bool:
    """Whether less of a resource is used than before: not after the admission of a pod."""
    return any(used.get(name, 0) < amount for name, amount in before.items())


def _deferred(node: NodeMemory, uid: str) -> tuple[tuple[str, Key], ...]:
    """The other pods whose resize waits for room. O(pods of the node)."""
    return tuple(
        (WORKER, pod_key(other))
        for name, other in sorted(node.pods.items())
        if other.resize_pending[0] == DEFERRED and name != uid
    )


def _revision(view: View) -> int:
    """The revision of the store at which the view shows this node's pods."""
    return view.table(PODS).revision


def _request_missing(
    node: NodeMemory, needed: Iterable[str], pod: Key, now: Instant, as_of: int
) -> tuple[tuple[Request, ...], NodeMemory]:
    """The requests for the missing objects; `pod` is reconciled after the responses.

    No response is older than `as_of`.
    """
    queries: list[Request] = []
    objects = node.objects
    for name in needed:
        held = objects.get(name, NOT_HELD)
        if not held.requested_at:
            queries.append(compute_read(name, as_of))
            held = replace(held, requested_at=now, requested_as_of=as_of)
        if pod and pod not in held.waiting:
            held = replace(held, waiting=(*held.waiting, pod))
        objects = objects.set(name, held)
    return tuple(queries), replace(node, objects=objects)


def _since(view: View, pod: Pod) -> int:
    """The pod's revision in the view: the objects that it uses must not be older (KUBELET-95)."""
    return min(int(pod.metadata.resource_version or 0), _revision(view))


def _exists(view: View, memory: PodMemory) -> bool:
    """Whether the API server still has the pod."""
    return memory.pod is not None and pod_of(view, pod_key(memory.pod))[0] is not None


def _used_by_gone(view: View, node: NodeMemory) -> dict[str, int]:
    """What pods used that the API server does not have any more (KUBELET-81)."""
    left: dict[str, int] = {}
    for memory in node.pods.values():
        if memory.uses and not _exists(view, memory):
            left = _more(left, memory.uses)
    return left


def _more(used: Mapping[str, int], amounts: Mapping[str, int]) -> dict[str, int]:
    return {**used, **{name: used.get(name, 0) + count for name, count in amounts.items()}}


def _less(used: Mapping[str, int], amounts: Mapping[str, int]) -> dict[str, int]:
    return {**used, **{name: used.get(name, 0) - count for name, count in amounts.items()}}


def _all_listing(pods: Map[str, PodMemory]) -> Map[str, PodMemory]:
    """The pods during a list of the runtime.

    Pods with running operations are listed again, alone, after these.
    """
    for uid in sorted(pods):
        pod = pods[uid]
        if pod.busy:
            pods = pods.set(uid, replace(pod, dirty=True))
        elif not pod.listing:
            pods = pods.set(uid, replace(pod, listing=True, in_whole_list=True))
    return pods
