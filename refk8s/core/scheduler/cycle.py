"""The scheduler: which node each pod goes to, one at a time, best pods first. Rules SCHED-1 to SCHED-29 (spec/scheduler.md).

A pod's own key brings it into the queue, sends what has been decided about it, and settles its account when the view shows the outcome.
The key `schedule` decides: it takes the waiting pods in order, each against a snapshot that counts all those decided before.

    pod appears -> own key: admit -> schedule: choose a node, assume the pod there -> own key: bind -> view shows it: no longer assumed
                                               no node: park it                    -> own key: say why (condition, event)

A binding without an answer is neither done nor failed: the loop sends it again until it is answered (LOOP-6), and until then the pod
counts on its node (SCHED-22). So no answer, however late, finds the room given away.
Source: Kubernetes documentation, "Kubernetes Scheduler", "Scheduling Framework", "Pod Scheduling Readiness".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Binding, ObjectReference, Pod, PodCondition
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, NODES, PODS
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View, key_of, split_key
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.placement import Chooser, judge
from refk8s.core.scheduler.queue import EMPTY as EMPTY_QUEUE
from refk8s.core.scheduler.queue import Queue, Waiting
from refk8s.core.scheduler.reasons import NO_VICTIMS, POLITE, UNHELPFUL, Refusal, explain, histogram
from refk8s.core.scheduler.snapshot import EMPTY, Change, PodInfo, Snapshot, facts_of, fold, info_of, is_finished, is_same_load, node_taken
from refk8s.core.value import Value, evolve, field

SCHEDULE: Key = "schedule"
TRUTH = "truth"
BATCH_MAX = 1_000  # pods decided in one go, before others get their turn

GATED = "SchedulingGated"
GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"
UNSCHEDULABLE = "Unschedulable"


class Decision(Value, frozen=True, eq=False):
    """A pod's node. From here until the outcome is seen the pod is assumed to be there (SCHED-22)."""

    waiting: Waiting
    node: str
    truth: Change | None  # what was known when it was decided
    sent: bool = False

    @property
    def pod(self) -> PodInfo:
        return self.waiting.pod


class Memory(Value, frozen=True, eq=False):
    """What the scheduler remembers; a crash forgets it, and a list of pods and nodes brings back all that matters."""

    queue: Queue = EMPTY_QUEUE
    decisions: Map[Key, Decision] = field(default_factory=Map)
    assumed: Map[str, Map[str, PodInfo]] = field(default_factory=Map)  # node -> uid -> pod
    working: Snapshot = EMPTY
    truth: Change | None = None  # how much of the truth is in `working`
    touched: Map[str, None] = field(default_factory=Map)  # nodes whose assumed pods have changed since

    def assume(self, decided: Iterable[Decision], queue: Queue, working: Snapshot) -> "Memory":
        """The memory with these decisions; their pods are in `working` already."""
        decisions, assumed = self.decisions.mutate(), self.assumed.mutate()
        for decision in decided:
            decisions[decision.waiting.key] = decision
            assumed[decision.node] = assumed.get(decision.node, _NOBODY).set(decision.pod.uid, decision.pod)
        return Memory(queue, decisions.finish(), assumed.finish(), working, self.truth, self.touched)

    def with_queue(self, queue: Queue) -> "Memory":
        return Memory(queue, self.decisions, self.assumed, self.working, self.truth, self.touched)

    def settle(self, key: Key) -> "Memory":
        """The pod is no longer assumed: the truth shows what became of it."""
        decision = self.decisions[key]
        rest = self.assumed[decision.node].delete(decision.pod.uid)
        assumed = self.assumed.set(decision.node, rest) if len(rest) else self.assumed.delete(decision.node)
        touched = self.touched.set(decision.node, None)
        return Memory(self.queue, self.decisions.delete(key), assumed, self.working, self.truth, touched)


_NOBODY: Map[str, PodInfo] = Map()


def catch_up(memory: Memory, truth: Snapshot) -> Memory:
    """The working snapshot made equal to the truth plus what is assumed and not yet in it (SCHED-4, SCHED-22). O(changed)."""
    changed = truth.changed_since(memory.truth)
    if changed is None:
        changed = [*truth.nodes, *truth.loads, *memory.working.nodes, *memory.working.loads]
    if not changed and not len(memory.touched):
        return memory
    working = memory.working
    for name in sorted({*changed, *memory.touched}):
        working = working.with_node(name, truth.nodes.get(name))
        load = truth.load(name)
        for uid, pod in memory.assumed.get(name, _NOBODY).items():
            if uid not in load.pods:
                load = load.plus(pod)
        if load is not working.load(name):
            working = working.with_load(name, load)
    return Memory(memory.queue, memory.decisions, memory.assumed, working, truth.last_change)


class Scheduler(Reconciler):
    """Decides for every pod that asks for this scheduler and has no node yet."""

    user = "system:kube-scheduler"
    folds = (Fold(TRUTH, (PODS, NODES), EMPTY, fold),)
    initial_keys = (SCHEDULE,)

    def __init__(self, name: str = DEFAULT_SCHEDULER) -> None:
        self.name = name
        self.interests = (Interest(PODS, self._keys_of_pod), Interest(NODES, _keys_of_node), Interest(NAMESPACES, _keys_of_namespace))
        # What has been worked out, and no more than that: a function of snapshots and pods (SCHED-17), so it is no part of the state.
        self._chooser = Chooser()

    def forget(self) -> None:
        """Work everything out anew from now on (SCHED-17)."""
        self._chooser = Chooser()

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        if key == SCHEDULE:
            return self._schedule(view, now, local.memory)
        return self._reconcile_pod(view, key, now, local)

    # --- which keys a change concerns ----------------------------------------------------------------------------------

    def _keys_of_pod(self, view: View, old: Pod | None, new: Pod | None) -> list[Key]:
        keys = [key_of(new or old)] if self._is_ours(old) or self._is_ours(new) else []
        before, after = node_taken(old), node_taken(new)
        if before != after or (before and old is not None and new is not None and not is_same_load(old, new)):
            keys.append(SCHEDULE)  # It may have made room, or be one that others want to be near.
        return keys

    def _is_ours(self, pod: Pod | None) -> bool:
        """SCHED-23: it names this scheduler (as a pod that names none does) and has no node."""
        return pod is not None and not pod.spec.node_name and (pod.spec.scheduler_name or DEFAULT_SCHEDULER) == self.name

    def _may_be_scheduled(self, pod: Pod | None) -> bool:
        """SCHED-23, SCHED-24: ours, not being deleted, not finished and without gates."""
        return (
            pod is not None
            and self._is_ours(pod)
            and pod.metadata.deletion_timestamp is None
            and not pod.spec.scheduling_gates
            and not is_finished(pod)
        )

    # --- a pod's own key -----------------------------------------------------------------------------------------------

    def _reconcile_pod(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Admit the pod, send what has been decided about it, or settle what came of it."""
        # Observe
        memory: Memory = local.memory
        pod: Pod | None = view.get(PODS, key)
        decision = memory.decisions.get(key)

        # Decide, Act, Report: by how far the pod has come
        if decision is None:
            return self._admit(memory, key, pod, now)
        if not self._may_be_scheduled(pod) or pod is None or pod.metadata.uid != decision.pod.uid:
            return self._conclude(memory, key, pod, decision)
        if not decision.sent:
            return self._bind(view, memory, key, pod, decision)
        if local.failure is not None:  # Refused for good, since what is in doubt is looked up (LOOP-7): the room is free again.
            waiting = decision.waiting.after_attempt(now)
            memory = memory.settle(key)
            return Plan(memory=memory.with_queue(memory.queue.activate((waiting,))), enqueue=((self.name, SCHEDULE),))
        return NOTHING  # The view does not show it yet.

    def _admit(self, memory: Memory, key: Key, pod: Pod | None, now: Instant) -> Plan:
        known = memory.queue.pods.get(key)
        if pod is None or not self._may_be_scheduled(pod):
            plan = NOTHING if known is None else Plan(memory=memory.with_queue(memory.queue.without((key,))))
            if pod is not None and self._is_ours(pod) and pod.spec.scheduling_gates and pod.metadata.deletion_timestamp is None:
                return evolve(plan, waves=_write_condition(pod, GATED, GATED_MESSAGE, now))
            return plan
        info = info_of(pod)
        if known is not None and known.pod.uid == info.uid and known.pod.needs.key == info.needs.key and known.pod.labels == info.labels:
            if known.parked_at is None:
                return NOTHING
            waves = _write_condition(pod, UNSCHEDULABLE, known.message, now)
            return Plan(waves) if waves else NOTHING
        return Plan(memory=memory.with_queue(memory.queue.admit(key, info)), enqueue=((self.name, SCHEDULE),))

    def _bind(self, view: View, memory: Memory, key: Key, pod: Pod, decision: Decision) -> Plan:
        """Ask the API server to give the pod its node (SCHED-1), unless the truth has moved on and the node would not do any more."""
        truth: Snapshot = view.fold(TRUTH)
        if truth.last_change is not decision.truth:
            memory = catch_up(memory, truth)
            others = memory.working.with_load(decision.node, memory.working.load(decision.node).minus(decision.pod))
            if decision.node not in others.nodes or judge(info_of(pod), decision.node, others, _namespaces(view)) is not None:
                memory = memory.settle(key)
                return Plan(memory=memory.with_queue(memory.queue.activate((decision.waiting,))), enqueue=((self.name, SCHEDULE),))
        namespace, name = split_key(key)
        binding = Binding(
            metadata=ObjectMeta(namespace=namespace, name=name, uid=pod.metadata.uid),
            target=ObjectReference(kind="Node", name=decision.node),
        )
        request = Request("create", PODS, namespace, name, "binding", body=binding, because=f"{decision.node} is the best node for it")
        sent = memory.decisions.set(key, Decision(decision.waiting, decision.node, decision.truth, sent=True))
        return Plan(((request,),), memory=Memory(memory.queue, sent, memory.assumed, memory.working, memory.truth, memory.touched))

    def _conclude(self, memory: Memory, key: Key, pod: Pod | None, decision: Decision) -> Plan:
        """The pod has its node, or is gone, or must not have one any more: nothing is assumed of it any longer."""
        notes: tuple[Note, ...] = ()
        again: list[tuple[str, Key]] = []
        if pod is not None and pod.metadata.uid == decision.pod.uid and pod.spec.node_name == decision.node:
            words = f"Successfully assigned {pod.metadata.namespace}/{pod.metadata.name} to {decision.node}"
            notes = (Note(pod, "Scheduled", words),)
        elif self._is_ours(pod):
            again.append((self.name, key))  # Another pod of that name, which waits for its own decision.
        if node_taken(pod) != decision.node:
            again.append((self.name, SCHEDULE))  # Its room is free, also where it has come and ended before it was settled.
        return Plan(memory=memory.settle(key), notes=notes, enqueue=tuple(again))

    # --- the key "schedule" ---------------------------------------------------------------------------------------------

    def _schedule(self, view: View, now: Instant, memory: Memory) -> Plan:
        """Find a node for each pod whose turn it is."""
        # Observe
        queue = memory.queue.flush(now)
        if not len(queue.pods):
            return Plan(memory=memory.with_queue(queue)) if queue is not memory.queue else NOTHING
        truth: Snapshot = view.fold(TRUTH)
        memory = catch_up(memory, truth)
        working = before = memory.working
        namespaces = _namespaces(view)
        ready, next_ready = queue.ready(now, lambda pod: self._chooser.has_offer(pod, before, namespaces))

        # Decide
        gone: list[Key] = []
        decided: list[Decision] = []
        refused: list[Waiting] = []
        notes: list[Note] = []
        for waiting in ready[:BATCH_MAX]:
            pod = view.get(PODS, waiting.key)
            if pod is None or not self._may_be_scheduled(pod) or pod.metadata.uid != waiting.pod.uid:
                gone.append(waiting.key)
                continue
            node, refusals = self._chooser.choose(waiting.pod, working, namespaces)
            if node is not None:
                decided.append(Decision(waiting, node, truth.last_change))
                working = working.with_load(node, working.load(node).plus(waiting.pod))
            elif waiting.parked_at is None:
                nodes = len(working.nodes)
                message = explain(refusals, nodes, _why_no_preemption(pod, refusals, nodes))
                refused.append(evolve(waiting, message=message))
                if message != waiting.message:
                    notes.append(Note(pod, "FailedScheduling", message, "Warning"))
            # else: it was parked, and others of its kind have taken the room: for it nothing has changed.

        # Act
        queue = queue.without([*gone, *(decision.waiting.key for decision in decided)]).park(refused, now)
        enqueue = [(self.name, decision.waiting.key) for decision in decided] + [(self.name, waiting.key) for waiting in refused]

        # Report
        wake_at = now if len(ready) > BATCH_MAX else min((at for at in (next_ready, queue.alarm) if at is not None), default=None)
        return Plan(memory=memory.assume(decided, queue, working), enqueue=tuple(enqueue), notes=tuple(notes), wake_at=wake_at)


def _namespaces(view: View) -> Mapping[str, Any]:
    """The Namespace objects by name, for terms that select namespaces by label."""
    return view.table(NAMESPACES).objects


def _keys_of_namespace(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """Only the labels of a namespace matter."""
    return (SCHEDULE,) if old is not None and new is not None and old.metadata.labels != new.metadata.labels else ()


def _keys_of_node(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """A heartbeat concerns nobody."""
    return () if old is not None and new is not None and facts_of(old) == facts_of(new) else (SCHEDULE,)


def _why_no_preemption(pod: Pod, refusals: Mapping[Refusal, int], nodes: int) -> str:
    if pod.spec.preemption_policy == "Never":
        return POLITE
    counts = {NO_VICTIMS: 0, UNHELPFUL: 0}
    for refusal, count in refusals.items():
        counts[NO_VICTIMS if refusal.resolvable else UNHELPFUL] += count
    return histogram(counts, nodes)


def _write_condition(pod: Pod, reason: str, message: str, now: Instant) -> tuple[tuple[Request, ...], ...]:
    """SCHED-11: the condition PodScheduled=False with this reason and message, unless the pod has it already."""
    metadata = pod.metadata
    found: PodCondition | None = next((c for c in (pod.status.conditions if pod.status else None) or () if c.type == "PodScheduled"), None)
    if found is not None and (found.status, found.reason, found.message) == ("False", reason, message):
        return ()
    condition: dict[str, Any] = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    if metadata.generation:
        condition["observedGeneration"] = metadata.generation
    if found is None or found.status != "False":
        condition["lastTransitionTime"] = timestamp(now)
    patch = Patch("application/strategic-merge-patch+json", {"metadata": {"uid": metadata.uid}, "status": {"conditions": [condition]}})
    because = "no node would take it" if reason == UNSCHEDULABLE else "its scheduling gates are closed"
    return ((Request("patch", PODS, metadata.namespace or "", metadata.name or "", "status", body=patch, because=because),),)


def scheduler(name: str = DEFAULT_SCHEDULER) -> Loop:
    """The scheduler as a component: a loop around one decider."""
    return Loop("kube-scheduler", [Scheduler(name)], component=name)
