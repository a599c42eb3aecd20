"""The scheduler: binds each pod without a node to the best node that can run it. Rules SCHED-1 to
SCHED-43 (spec/scheduler.md).

The key of a pod puts it into the queue, sends its binding or writes its condition, and ends the
assumption when the view shows the outcome. The key `schedule` decides: it tries the pods of the
queue one after another, each on a snapshot that includes the decisions before.

    pod's key: admit to the queue
      -> key "schedule": choose a node and assume the pod there
           -> pod's key: bind -> the view shows it bound: no longer assumed
      -> or, if no node can run it, park it
           -> pod's key: write condition and Event

A binding without an answer is neither done nor failed: the loop sends it again until it is answered
(LOOP-6), and until then the pod counts on its node (SCHED-22). So a late answer never finds the
room used by another pod. Source: Kubernetes documentation, "Kubernetes Scheduler", "Scheduling
Framework", "Pod Scheduling Readiness".
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.core_v1 import Binding, ObjectReference, Pod, PodCondition, PodStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    CSI_NODES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    STORAGE_CLASSES,
)
from refk8s.core.api.user import component_user
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, no_keys
from refk8s.core.loop.view import Fold, Index, View, key_of, split_key
from refk8s.core.pods.requests import delete_pod, patch_status
from refk8s.core.pods.status import DISRUPTION_TARGET, disruption_target, is_finished
from refk8s.core.pods.volumes import claims_of, unclaimed
from refk8s.core.scheduler.batch import Batch, refused_by_volumes
from refk8s.core.scheduler.budgets import budgets_of
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.memory import Decision, Memory, catch_up
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.nominated import Nominated, Nomination, key_of_info
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import RUNNING_SINCE_NOW
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.queue import DEFAULT_BACKOFF, Backoff
from refk8s.core.scheduler.reasons import NO_NODES, NO_REFUSALS, blocked_in, explain_block
from refk8s.core.scheduler.snapshot import (
    EMPTY,
    PodInfo,
    Snapshot,
    facts_of,
    fold,
    info_of,
    is_same_load,
    node_taken,
)
from refk8s.core.scheduler.volumes import Volumes, bindings, volumes_of
from refk8s.core.value import evolve

SCHEDULE: Key = "schedule"
TRUTH = "truth"
BATCH_MAX = 1_000  # pods decided in one reconciliation

GATED = "SchedulingGated"
GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"
UNSCHEDULABLE = "Unschedulable"
PREEMPTED = "preempting to accommodate a higher priority pod"


class Scheduler(Reconciler):
    """Reconciles the pods that name this scheduler and have no node (SCHED-23)."""

    user = component_user("kube-scheduler")
    folds = (Fold(TRUTH, (PODS, NODES), EMPTY, fold),)
    indexes = (
        Index("claim", PODS, claims_of, attrgetter("spec.volumes")),
        Index("unclaimed", PERSISTENT_VOLUMES, unclaimed),
    )
    initial_keys = (SCHEDULE,)

    def __init__(
        self,
        profiles: Sequence[Profile] = (DEFAULT_PROFILE,),
        backoff: Backoff = DEFAULT_BACKOFF,
    ) -> None:
        self.backoff = backoff
        self.name = profiles[0].scheduler_name
        self.profiles = {profile.scheduler_name: profile for profile in profiles}
        self.interests = (
            Interest(PODS, self._keys_of_pod),
            Interest(NODES, _keys_of_node),
            Interest(NAMESPACES, _keys_of_namespace),
            # SCHED-38: read when victims are chosen
            Interest(POD_DISRUPTION_BUDGETS, no_keys),
            Interest(PERSISTENT_VOLUME_CLAIMS, _keys_of_claim),
            Interest(PERSISTENT_VOLUMES, _keys_of_volume, while_any=PERSISTENT_VOLUME_CLAIMS),
            Interest(STORAGE_CLASSES, _keys_of_volume, while_any=PERSISTENT_VOLUME_CLAIMS),
            Interest(CSI_NODES, _keys_of_volume, while_any=PERSISTENT_VOLUME_CLAIMS),
        )
        self.forget()

    def forget(self) -> None:
        """Drop the caches of values computed from snapshots and pods (SCHED-17); they are not a part
        of the state."""
        self._choosers = {name: Chooser(profile) for name, profile in self.profiles.items()}

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        if key == SCHEDULE:
            return self._schedule(view, now, local.memory)
        return self._reconcile_pod(view, key, now, local)

    # --- which keys a change concerns -------------------------------------------------------------

    def _keys_of_pod(self, view: View, old: Pod | None, new: Pod | None) -> list[Key]:
        keys = [key_of(new or old)] if self._is_ours(old) or self._is_ours(new) else []
        before, after = node_taken(old), node_taken(new)
        if before != after or (
            before and old is not None and new is not None and not is_same_load(old, new)
        ):
            keys.append(SCHEDULE)  # It may have freed room, or match the affinity of others.
        return keys

    def _is_ours(self, pod: Pod | None) -> bool:
        """SCHED-23: it has no node and names a profile; without a name, the default scheduler."""
        return (
            pod is not None
            and not pod.spec.node_name
            and (pod.spec.scheduler_name or DEFAULT_SCHEDULER) in self.profiles
        )

    def _may_be_scheduled(self, pod: Pod | None) -> bool:
        """SCHED-23, SCHED-24: ours, not being deleted, not finished and without gates."""
        return (
            pod is not None
            and self._is_ours(pod)
            and pod.metadata.deletion_timestamp is None
            and not pod.spec.scheduling_gates
            and not is_finished(pod)
        )

    # --- a pod's own key --------------------------------------------------------------------------

    def _reconcile_pod(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Admit the pod to the queue, send its binding, or end its assumption."""
        # Observe
        memory: Memory = local.memory
        pod: Pod | None = view.get(PODS, key)
        decision = memory.decisions.get(key)

        # Decide, Act, Report: by the state of the pod
        if decision is None:
            return self._admit(view, memory, key, pod, now)
        if not self._may_be_scheduled(pod) or pod is None or pod.metadata.uid != decision.pod.uid:
            return self._conclude(memory, key, pod, decision)
        if not decision.sent:
            return self._bind(view, memory, key, pod, decision, now)
        # The binding was rejected; an unknown outcome would have been read (LOOP-7). The room is
        # free again.
        if local.failure is not None:
            waiting = decision.waiting.after_attempt(now, self.backoff)
            memory = memory.settle(key)
            return Plan(
                memory=memory.with_queue(memory.queue.activate((waiting,))),
                enqueue=((self.name, SCHEDULE),),
            )
        return NOTHING  # The view does not show it yet.

    def _admit(self, view: View, memory: Memory, key: Key, pod: Pod | None, now: Instant) -> Plan:
        """Put the pod into the queue, or write why no node can run it."""
        known = memory.queue.pods.get(key)
        if pod is None or not self._may_be_scheduled(pod):
            plan = NOTHING
            if known is not None or key in memory.nominations:
                plan = Plan(
                    memory=memory.with_queue(memory.queue.without((key,))).nominate(key, None)
                )
            if (
                pod is not None
                and self._is_ours(pod)
                and pod.spec.scheduling_gates
                and pod.metadata.deletion_timestamp is None
            ):
                return evolve(plan, waves=(_write_status(pod, GATED, GATED_MESSAGE, "", now),))
            return plan
        info = info_of(pod)
        if (
            known is None
            or known.pod.uid != info.uid
            or known.pod.needs.key != info.needs.key
            or known.pod.labels != info.labels
        ):
            memory = memory.with_queue(memory.queue.admit(key, info))
            # An earlier process has nominated it (SCHED-37).
            if pod.status is not None and pod.status.nominated_node_name and known is None:
                memory = memory.nominate(key, Nomination(info, pod.status.nominated_node_name))
            return Plan(memory=memory, enqueue=((self.name, SCHEDULE),))
        if known.parked_at is None:
            return NOTHING
        blocked = explain_block(self._volumes(view, info).blocked) if info.claims else ""
        if info.claims and known.message != NO_NODES and blocked != blocked_in(known.message):
            # SCHED-40: its claims have changed, so there is another reason, or none
            return Plan(
                memory=memory.with_queue(memory.queue.activate((known,))),
                enqueue=((self.name, SCHEDULE),),
            )
        nomination = memory.nominations.get(key)
        name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
        evictions = [_evict(victim, name, now) for victim in _remaining(view, nomination)]
        conditions = tuple(request for requests, _ in evictions for request in requests)
        status = _write_status(
            pod,
            UNSCHEDULABLE,
            known.message,
            nomination.node if nomination is not None else "",
            now,
        )
        waves = tuple(
            wave for wave in (conditions, tuple(delete for _, delete in evictions), status) if wave
        )
        return Plan(waves) if waves else NOTHING

    def _has_node(
        self, view: View, pod: PodInfo, nominated: Nominated, namespaces: Mapping[str, Any]
    ) -> bool:
        """SCHED-19, SCHED-37: whether a node can run the pod."""
        around = nominated.around(pod)
        chooser = self._choosers[pod.scheduler_name]
        own = nominated.nominations.get(key_of_info(pod))
        if pod.claims:
            volumes = self._volumes(view, pod)
            refused = NO_REFUSALS if volumes.blocked else refused_by_volumes(volumes, around)
            return not volumes.blocked and (
                chooser.choose(pod, around, namespaces, refused)[0] is not None
            )
        if own is None or pod.inter_pod is not None or len(around.bound):
            return chooser.has_offer(pod, around, namespaces)
        # its own nomination concerns only its node, so the other nodes are as for pods without one
        return (
            own.node in around.nodes
            and judge(pod, own.node, around, namespaces, chooser.profile) is None
        ) or chooser.has_offer(pod, nominated.base(pod.priority), namespaces)

    def _volumes(self, view: View, pod: PodInfo) -> Volumes:
        return volumes_of(view, pod, self.profiles[pod.scheduler_name].filters)

    def _bind(
        self, view: View, memory: Memory, key: Key, pod: Pod, decision: Decision, now: Instant
    ) -> Plan:
        """Send the binding (SCHED-1). If the truth has changed since the decision, every filter is
        evaluated again, and a pod that does not pass goes back to the queue (SCHED-28)."""
        truth: Snapshot = view.fold(TRUTH)
        if truth.last_change is not decision.truth:
            memory = catch_up(memory, truth)
            others = memory.working.with_load(
                decision.node, memory.working.load(decision.node).minus(decision.pod)
            )
            if (
                decision.node not in others.nodes
                or judge(
                    info_of(pod),
                    decision.node,
                    others,
                    _namespaces(view),
                    self.profiles[decision.pod.scheduler_name],
                )
                is not None
            ):
                memory = memory.settle(key)
                return Plan(
                    memory=memory.with_queue(memory.queue.activate((decision.waiting,))),
                    enqueue=((self.name, SCHEDULE),),
                )
        if decision.pod.claims:
            plan = self._bind_volumes(view, memory, key, decision, now)
            if plan is not None:
                return plan
        namespace, name = split_key(key)
        binding = Binding(
            metadata=ObjectMeta(namespace=namespace, name=name, uid=pod.metadata.uid),
            target=ObjectReference(kind="Node", name=decision.node),
        )
        request = Request(
            "create",
            PODS,
            namespace,
            name,
            "binding",
            body=binding,
            because=f"{decision.node} is the best node for it",
        )
        sent = memory.decisions.set(
            key, Decision(decision.waiting, decision.node, decision.truth, sent=True)
        )
        return Plan(((request,),), memory=evolve(memory, decisions=sent))

    def _bind_volumes(
        self, view: View, memory: Memory, key: Key, decision: Decision, now: Instant
    ) -> Plan | None:
        """Bind the claims of the pod on its node, and wait for them (SCHED-42); None if all are
        bound. The pod goes back to the queue if its volumes no longer fit, and after ten minutes
        (SCHED-43)."""
        volumes = self._volumes(view, decision.pod)
        facts = memory.working.nodes.get(decision.node)
        timeout = self.profiles[decision.pod.scheduler_name].arguments.bind_timeout
        choices = volumes.choose(facts) if facts is not None else None
        is_late = bool(decision.since) and now >= decision.since + timeout
        if (
            volumes.blocked
            or facts is None
            or choices is None
            or is_late
            or volumes.refusal(facts, memory.working.load(decision.node)) is not None
        ):
            again = decision.waiting.after_attempt(now, self.backoff)
            memory = memory.settle(key)
            return Plan(
                memory=memory.with_queue(memory.queue.activate((again,))),
                enqueue=((self.name, SCHEDULE),),
            )
        if not choices:
            return None
        since = decision.since or now
        waits = memory.decisions.set(key, evolve(decision, since=since))
        requests = bindings(choices, decision.node)
        return Plan(
            (requests,) if requests else (),
            memory=evolve(memory, decisions=waits),
            wake_at=since + timeout,
        )

    def _conclude(self, memory: Memory, key: Key, pod: Pod | None, decision: Decision) -> Plan:
        """The pod has a node, is removed, or must not be scheduled any more: end the assumption."""
        notes: tuple[Note, ...] = ()
        again: list[tuple[str, Key]] = []
        if (
            pod is not None
            and pod.metadata.uid == decision.pod.uid
            and pod.spec.node_name == decision.node
        ):
            words = f"Successfully assigned {pod.metadata.namespace}/{pod.metadata.name} to {decision.node}"
            notes = (_note(pod, decision.pod, "Scheduled", words, "Binding"),)
        elif self._is_ours(pod):
            # Another pod of that name, about which nothing is decided yet.
            again.append((self.name, key))
        if node_taken(pod) != decision.node:
            # SCHED-26: its room is free, even if it was bound and finished meanwhile.
            again.append((self.name, SCHEDULE))
        return Plan(memory=memory.settle(key), notes=notes, enqueue=tuple(again))

    # --- the key "schedule" -----------------------------------------------------------------------

    def _schedule(self, view: View, now: Instant, memory: Memory) -> Plan:
        """Choose a node for each pod that is to be tried now."""
        # Observe
        queue = memory.queue.flush(now)
        if not len(queue.pods):
            return Plan(memory=memory.with_queue(queue)) if queue is not memory.queue else NOTHING
        truth: Snapshot = view.fold(TRUTH)
        memory = catch_up(memory, truth)
        nominated = Nominated(memory.working, memory.nominations)
        namespaces = _namespaces(view)
        problems: list[Exception] = []

        def has_node(pod: PodInfo) -> bool:
            try:
                return self._has_node(view, pod, nominated, namespaces)
            except Exception as error:  # LOOP-10: it stays parked.
                problems.append(error)
                return False

        ready, next_ready = queue.ready(now, has_node, memory.nominations)

        # Decide
        pods = view.table(PODS).objects
        started = lambda pod: started_of(pods, pod)  # noqa: E731
        budgets = lambda: budgets_of(view.table(POD_DISRUPTION_BUDGETS).objects.values())  # noqa: E731
        volumes = lambda pod: self._volumes(view, pod)  # noqa: E731
        batch = Batch(self._choosers, nominated, namespaces, started, budgets, volumes)
        for waiting in ready[:BATCH_MAX]:
            pod = view.get(PODS, waiting.key)
            batch.decide(waiting, pod if self._may_be_scheduled(pod) else None)

        # Act
        decided = [Decision(waiting, node, truth.last_change) for waiting, node in batch.placed]
        queue = queue.without([*batch.gone, *(waiting.key for waiting, _ in batch.placed)]).park(
            batch.refused, now, self.backoff
        )
        queue = queue.activate(queue.pods[key] for key in batch.displaced if key in queue.pods)
        memory = memory.assume(decided, queue, nominated.working, nominated.nominations)
        keys = (
            [waiting.key for waiting, _ in batch.placed]
            + [waiting.key for waiting in batch.refused]
            + batch.displaced
        )
        again = (SCHEDULE,) if batch.displaced else ()

        # Report
        notes = tuple(
            _note(pod, info, "FailedScheduling", message, "Scheduling", type="Warning")
            for pod, info, message in batch.failures
        )
        notes += tuple(
            _preempted(victim, by, node, view)
            for info, by, node in batch.victims
            if (victim := view.get(PODS, f"{info.namespace}/{info.name}")) is not None
        )
        wake_at = (
            now
            if len(ready) > BATCH_MAX
            else min((at for at in (next_ready, queue.alarm) if at is not None), default=None)
        )
        enqueue = tuple((self.name, key) for key in (*keys, *again))
        return Plan(
            memory=memory,
            enqueue=enqueue,
            notes=notes,
            wake_at=wake_at,
            problems=(*problems, *batch.problems),
        )


def _remaining(view: View, nomination: Nomination | None) -> list[Pod]:
    """The victims that are not deleted yet."""
    found = (
        [view.get(PODS, f"{info.namespace}/{info.name}") for info in nomination.victims]
        if nomination is not None
        else []
    )
    uids = {info.uid for info in nomination.victims} if nomination is not None else set()
    return [
        pod
        for pod in found
        if pod is not None and pod.metadata.uid in uids and pod.metadata.deletion_timestamp is None
    ]


def _preempted(victim: Pod, by: PodInfo, node: str, view: View) -> Note:
    words = f"Preempted by pod {by.uid} on node {node}"
    related = view.get(PODS, f"{by.namespace}/{by.name}")
    return _note(victim, by, "Preempted", words, "Preempting", related=related)


def _note(pod: Pod, by: PodInfo, reason: str, message: str, action: str, **more: Any) -> Note:
    """An Event about the pod, with the name of the profile that scheduled `by` as its source."""
    return Note(pod, reason, message, action=action, component=by.scheduler_name, **more)


def started_of(pods: Mapping[Key, Pod], pod: PodInfo) -> str:
    """When the pod started, as RFC 3339 text; RUNNING_SINCE_NOW if it has not. `pods`: by key."""
    found = pods.get(f"{pod.namespace}/{pod.name}")
    return (
        found.status.start_time if found is not None and found.status else None
    ) or RUNNING_SINCE_NOW


def _namespaces(view: View) -> Mapping[str, Any]:
    """The Namespace objects by name, for terms that select namespaces by label."""
    return view.table(NAMESPACES).objects


def _keys_of_claim(view: View, old: Any, new: Any) -> list[Key]:
    """The pods that wait for the claim, and those that no node can run."""
    claim = new if new is not None else old
    return [SCHEDULE, *view.indexed_keys(PODS, "claim", key_of(claim))]


def _keys_of_volume(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    return (SCHEDULE,)


def _keys_of_namespace(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """Only a change of a namespace's labels matters."""
    return (
        (SCHEDULE,)
        if old is not None and new is not None and old.metadata.labels != new.metadata.labels
        else ()
    )


def _keys_of_node(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """A heartbeat makes no key due."""
    return (
        ()
        if old is not None and new is not None and facts_of(old) == facts_of(new)
        else (SCHEDULE,)
    )


def _write_status(
    pod: Pod, reason: str, message: str, nominated: str, now: Instant
) -> tuple[Request, ...]:
    """SCHED-11: the condition PodScheduled=False with this reason and message, and the nominated
    node, unless the pod has them already."""
    metadata, status = pod.metadata, pod.status or PodStatus()
    found: PodCondition | None = get_condition(status.conditions, "PodScheduled")
    tree: dict[str, Any] = {}
    if found is None or (found.status, found.reason, found.message) != ("False", reason, message):
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
        }
        if metadata.generation:
            condition["observedGeneration"] = metadata.generation
        if found is None or found.status != "False":
            condition["lastTransitionTime"] = timestamp(now)
        tree["conditions"] = [condition]
    if (status.nominated_node_name or "") != nominated:
        tree["nominatedNodeName"] = nominated or None
    because = "it has scheduling gates" if reason == GATED else "no node can run it"
    return (patch_status(pod, tree, because),) if tree else ()


def _evict(pod: Pod, scheduler_name: str, now: Instant) -> tuple[tuple[Request, ...], Request]:
    """The request that sets a victim's condition, if it is not set, and the deletion (SCHED-35)."""
    marking: tuple[Request, ...] = ()
    if not any(each.type == DISRUPTION_TARGET for each in pod.status.conditions or ()):
        condition = disruption_target(
            pod, "PreemptionByScheduler", f"{scheduler_name}: {PREEMPTED}", now
        )
        because = "it is a victim of preemption"
        marking = (patch_status(pod, {"conditions": [condition]}, because),)
    return marking, delete_pod(pod, "a pod of higher priority needs its room")


def scheduler(
    profiles: Sequence[Profile] = (DEFAULT_PROFILE,), backoff: Backoff = DEFAULT_BACKOFF
) -> Loop:
    """The scheduler as a component: a loop with one reconciler."""
    reconciler = Scheduler(profiles, backoff)
    return Loop("kube-scheduler", [reconciler], component=reconciler.name)
