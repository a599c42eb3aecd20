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
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from immutables import Map

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.api.user import component_user
from refk8s.core.context import Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, Index, View, key_of
from refk8s.core.pods.devices import claim_keys, extended_owner, parts_of
from refk8s.core.pods.services import SERVICES_BY_PAIR
from refk8s.core.pods.status import is_finished
from refk8s.core.pods.volumes import claims_of, unclaimed
from refk8s.core.ports import Operation, Result
from refk8s.core.scheduler.batch import Batch
from refk8s.core.scheduler.budgets import budgets_of
from refk8s.core.scheduler.claimed import PLUGIN, Claimed, claimed_by
from refk8s.core.scheduler.device_pools import EMPTY_INVENTORY, fold_devices
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.hints import INTERESTS, SCHEDULE
from refk8s.core.scheduler.memory import Decision, Memory, catch_up
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.nominated import Nominated, Nomination, key_of_info
from refk8s.core.scheduler.permit import PERMIT, Permission, expect, give_up, reject_preempted
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.plugin_writes import (
    PluginFailed,
    after_binding,
    before_binding,
    binding_of,
)
from refk8s.core.scheduler.prebind import bind_devices, bind_volumes
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.queue import DEFAULT_BACKOFF, Backoff, Waiting
from refk8s.core.scheduler.reasons import NO_NODES
from refk8s.core.scheduler.snapshot import (
    EMPTY,
    PodInfo,
    Snapshot,
    fold,
    fold_starts,
    info_of,
    is_same_load,
    node_taken,
)
from refk8s.core.scheduler.spreading import Groups
from refk8s.core.scheduler.volume_limits import node_of_attachment
from refk8s.core.scheduler.writes import (
    GATED,
    deallocate,
    evict,
    note,
    preempted,
    remaining,
    started_of,
    write_status,
)
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.core.scheduler.claims import Kept
    from refk8s.core.scheduler.extenders import Extender

TRUTH, STARTS, DEVICES = "truth", "starts", "devices"
NOT_CREATED = "ResourceClaim not created yet"
BATCH_MAX = 1_000  # pods decided in one reconciliation

GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"
UNSCHEDULABLE, ERROR = "Unschedulable", "SchedulerError"


class Scheduler(Reconciler):
    """Reconciles the pods that name this scheduler and have no node (SCHED-23)."""

    user = component_user("kube-scheduler")
    folds = (
        Fold(TRUTH, (PODS, NODES), EMPTY, fold),
        Fold(STARTS, (PODS,), None, fold_starts),
        Fold(
            DEVICES,
            (RESOURCE_CLAIMS, RESOURCE_SLICES, DEVICE_TAINT_RULES),
            EMPTY_INVENTORY,
            fold_devices,
        ),
    )
    indexes = (
        Index("claim", PODS, claims_of, attrgetter("spec.volumes")),
        Index("resource_claim", PODS, claim_keys, parts_of),
        Index("extended", RESOURCE_CLAIMS, extended_owner, attrgetter("metadata")),
        SERVICES_BY_PAIR,
        Index("unclaimed", PERSISTENT_VOLUMES, unclaimed),
        Index("attached_to", VOLUME_ATTACHMENTS, node_of_attachment, attrgetter("spec")),
    )
    initial_keys = (SCHEDULE,)

    def __init__(
        self,
        profiles: Sequence[Profile] = (DEFAULT_PROFILE,),
        backoff: Backoff = DEFAULT_BACKOFF,
        extenders: "Sequence[Extender]" = (),
    ) -> None:
        self.backoff = backoff
        self.extenders = extenders
        self.name = profiles[0].scheduler_name
        self.profiles = {profile.scheduler_name: profile for profile in profiles}
        self.interests = (
            Interest(PODS, self._keys_of_pod),
            *INTERESTS,
        )
        self.forget()

    def forget(self) -> None:
        """Drop the caches of values computed from snapshots and pods (SCHED-17); they are not a
        part of the state."""
        self._choosers = {name: Chooser(profile) for name, profile in self.profiles.items()}
        self._groups = Groups()
        self._kept: Kept | None = None  # of devices; made when a pod has claims

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        if key == PERMIT:
            return self._permit(view, now, local.memory)
        if key == SCHEDULE:
            plan = self._schedule(view, now, local.memory)
        else:
            plan = self._reconcile_pod(view, key, now, local)
        memory: Memory = local.memory if plan.memory is UNCHANGED else plan.memory
        if memory.released or (key == SCHEDULE and len(memory.waits)):
            return evolve(plan, enqueue=(*plan.enqueue, (self.name, PERMIT)))
        return plan

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
        if not decision.permitted:
            return expect(memory, key, pod, decision)
        if not decision.sent:
            try:
                return self._bind(view, memory, key, pod, decision, now, local.failure)
            except PluginFailed as error:
                return give_up(memory, key, pod, error, now, self.backoff, self.name)
        if decision.reply is not None:
            return self._after_reply(memory, key, pod, decision, now)
        # The binding was rejected; an unknown outcome would have been read (LOOP-7). The room is
        # free again.
        if local.failure is not None:
            return self._try_again(memory, key, decision, now)
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
                return evolve(plan, waves=(write_status(pod, GATED, GATED_MESSAGE, "", now),))
            return plan
        info = self._as_now(view, info_of(pod))
        if info.devices and (why := self._why_not_created(view, info)):
            return self._wait_for_claims(memory, key, pod, why, now)
        if known is None or not known.is_about(info):
            memory = memory.with_queue(memory.queue.admit(key, info))
            former = memory.nominations.get(key)
            if former is not None and former.pod.uid != info.uid:
                memory = memory.nominate(key, None)
            # An earlier process has nominated it (SCHED-37).
            if pod.status is not None and pod.status.nominated_node_name and known is None:
                memory = memory.nominate(key, Nomination(info, pod.status.nominated_node_name))
            return Plan(memory=memory, enqueue=((self.name, SCHEDULE),))
        if known.parked_at is None:
            return NOTHING
        if (
            info.has_claims
            and known.message != NO_NODES
            and self._claimed(view, info, memory.working, memory.in_flight).blocked != known.blocked
        ):
            # SCHED-40: its claims have changed, so there is another reason, or none
            return Plan(
                memory=memory.with_queue(memory.queue.activate((known,))),
                enqueue=((self.name, SCHEDULE),),
            )
        nomination = memory.nominations.get(key)
        name = pod.spec.scheduler_name or DEFAULT_SCHEDULER
        evictions = [evict(victim, name, now) for victim in remaining(view, nomination)]
        conditions = tuple(request for requests, _ in evictions for request in requests)
        status = write_status(
            pod,
            ERROR if known.is_error else UNSCHEDULABLE,
            known.message,
            nomination.node if nomination is not None else "",
            now,
        )
        freed = deallocate(view, known.release, info) if known.release else ()
        stale = self._stale_claims(view, info)
        deletions = tuple(delete for _, delete in evictions)
        waves = tuple(wave for wave in (conditions, deletions, freed, *stale, status) if wave)
        return Plan(waves) if waves else NOTHING

    def _as_now(self, view: View, pod: PodInfo) -> PodInfo:
        """The pod with what Services, owners (SCHED-27) and classes of devices (DRA-23) are now."""
        pod = self._groups.of(view, pod)
        if not pod.needs.extended:
            return pod
        from refk8s.core.scheduler.extended_devices import with_backed

        return with_backed(view, pod, self.profiles[pod.scheduler_name])

    def _stale_claims(self, view: View, pod: PodInfo) -> tuple[tuple[Request, ...], ...]:
        """DRA-25: the writes that delete the claim of an earlier attempt."""
        if not pod.needs.extended:
            return ()
        from refk8s.core.scheduler.extended_devices import removals

        return removals(view, pod.uid)

    def _why_not_created(self, view: View, pod: PodInfo) -> str:
        """DRA-1: why the pod is not tried before its claims exist; empty if they do."""
        if PLUGIN not in self.profiles[pod.scheduler_name].filters:
            return ""
        from refk8s.core.scheduler.claims import why_not_created

        return why_not_created(view, pod)

    def _wait_for_claims(self, memory: Memory, key: Key, pod: Pod, why: str, now: Instant) -> Plan:
        """DRA-1: the pod is not in the queue. The claims of templates are created soon, so waiting
        for these is not reported."""
        if key in memory.queue.pods or key in memory.nominations:
            queue = memory.queue.without((key,))
            memory = memory.with_queue(queue).nominate(key, None)
        if why.endswith(NOT_CREATED):
            return Plan(memory=memory)
        status = write_status(pod, UNSCHEDULABLE, why, "", now)
        return Plan((status,) if status else (), memory=memory)

    def _has_node(
        self,
        view: View,
        pod: PodInfo,
        nominated: Nominated,
        namespaces: Mapping[str, Any],
        in_flight: Map[Key, Any],
    ) -> bool:
        """SCHED-19, SCHED-37: whether a node can run the pod."""
        pod = self._as_now(view, pod)
        around = nominated.around(pod)
        chooser = self._choosers[pod.scheduler_name]
        own = nominated.nominations.get(key_of_info(pod))
        if pod.has_claims:
            claimed = self._claimed(view, pod, around, in_flight)
            if claimed.blocked:
                return False
            node, _ = chooser.choose(pod, around, namespaces, claimed)
            return node is not None or bool(claimed.release)  # DRA-11: it is freed by an attempt
        if own is None or pod.inter_pod is not None or len(around.bound):
            return chooser.has_offer(pod, around, namespaces)
        # its own nomination concerns only its node, so the other nodes are as for pods without one
        return (
            own.node in around.nodes
            and judge(pod, own.node, around, namespaces, chooser.profile) is None
        ) or chooser.has_offer(pod, nominated.base(pod.priority), namespaces)

    def _claimed(
        self, view: View, pod: PodInfo, snapshot: Snapshot, in_flight: Map[Key, Any]
    ) -> Claimed:
        """The claims of the pod; what was computed for its devices before is used again."""
        if (pod.devices or pod.needs.backed) and self._kept is None:
            from refk8s.core.scheduler.claims import Kept

            self._kept = Kept()
        profile = self.profiles[pod.scheduler_name]
        return claimed_by(view, pod, profile, snapshot, in_flight, self._kept)

    def _permit(self, view: View, now: Instant, memory: Memory) -> Plan:
        """SCHED-63: ask the plugins about the pods that wait for them."""
        if not len(memory.waits) and not memory.released:
            return NOTHING
        pods = view.table(PODS).objects
        arguments = (view.fold(TRUTH), self.profiles, pods.get, now, self.backoff, self.name)
        return Permission(memory, *arguments).plan()

    def _bind(
        self, view: View, memory: Memory, key: Key, pod: Pod, decision: Decision, now: Instant,
        failure: Response | None,
    ) -> Plan:  # fmt: skip
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
                    self._as_now(view, info_of(pod)),
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
        profile = self.profiles[decision.pod.scheduler_name]
        again = partial(self._try_again, memory, key, decision, now)
        for bind, is_needed in (
            (bind_volumes, decision.pod.claims),
            (bind_devices, decision.pod.devices or decision.pod.needs.backed),
        ):
            plan = bind(view, memory, key, decision, now, profile, again) if is_needed else None
            if plan is not None:
                return plan
        if profile.plugins.pre_bind:
            plan = before_binding(view, memory, key, pod, decision, now, profile, failure, again)
            if plan is not None:
                return plan
        if self.extenders:
            from refk8s.core.scheduler.binder import ask_binder, binder_of

            if (binder := binder_of(self.extenders, pod)) is not None:
                return ask_binder(binder, memory, key, pod, decision)
        return self._send_binding(memory, key, pod, decision)

    def _send_binding(self, memory: Memory, key: Key, pod: Pod, decision: Decision) -> Plan:
        request = binding_of(self.profiles[decision.pod.scheduler_name], pod, decision.node)
        sent = memory.decisions.set(key, evolve(decision, sent=True, reply=None))
        return Plan(((request,),), memory=evolve(memory, decisions=sent))

    def ran(
        self, memory: Memory, key: Key, operation: Operation, result: Result, now: Instant
    ) -> tuple[Memory, tuple[Key, ...]]:
        """An extender has answered, or failed to (SCHED-57, SCHED-61)."""
        return memory.with_result(key, operation, result, now), (key,)

    def _after_reply(
        self, memory: Memory, key: Key, pod: Pod, decision: Decision, now: Instant
    ) -> Plan:
        """SCHED-61: wait until the view shows the pod that an extender has bound."""
        from refk8s.core.scheduler.binder import after_reply

        profile = self.profiles[decision.pod.scheduler_name]
        arguments = (self.extenders, memory, key, pod, decision, now, profile, self.backoff)
        return after_reply(*arguments, self.name) or self._send_binding(memory, key, pod, decision)

    def _try_again(self, memory: Memory, key: Key, decision: Decision, now: Instant) -> Plan:
        """The decision does not hold any more: the pod is decided again after its back-off."""
        again = decision.waiting.after_attempt(now, self.backoff)
        memory = memory.settle(key)
        return Plan(
            memory=memory.with_queue(memory.queue.activate((again,))),
            enqueue=((self.name, SCHEDULE),),
        )

    def _conclude(self, memory: Memory, key: Key, pod: Pod | None, decision: Decision) -> Plan:
        """The pod has a node, is removed, or must not be scheduled any more: end the assumption."""
        notes: tuple[Note, ...] = ()
        again: list[tuple[str, Key]] = []
        after: tuple[Request, ...] = ()
        problems: tuple[Exception, ...] = ()
        is_bound = (
            pod is not None
            and pod.metadata.uid == decision.pod.uid
            and pod.spec.node_name == decision.node
        )
        if is_bound and pod is not None:
            after, problems = after_binding(
                self.profiles[decision.pod.scheduler_name], pod, decision.node
            )
            words = (
                f"Successfully assigned {pod.metadata.namespace}/{pod.metadata.name} to "
                f"{decision.node}"
            )
            notes = (note(pod, decision.pod, "Scheduled", words, "Binding"),)
        elif self._is_ours(pod):
            # Another pod of that name, about which nothing is decided yet.
            again.append((self.name, key))
        if node_taken(pod) != decision.node:
            # SCHED-26: its room is free, even if it was bound and finished meanwhile.
            again.append((self.name, SCHEDULE))
        memory = memory.settle(key, is_bound=is_bound)
        waves = (after,) if after else ()
        return Plan(waves, memory=memory, notes=notes, enqueue=tuple(again), problems=problems)

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
            waiting = queue.pods[key_of_info(pod)]
            if waiting.seen is not None and waiting.seen is truth.last_change:
                return False  # SCHED-58
            try:
                return self._has_node(view, pod, nominated, namespaces, memory.in_flight)
            except Exception as error:  # LOOP-10: it stays parked.
                problems.append(error)
                return False

        ready, next_ready = queue.ready(now, has_node, memory.nominations)

        # Decide
        pods = view.table(PODS).objects
        started = lambda pod: started_of(pods, pod)  # noqa: E731
        budgets = lambda: budgets_of(view.table(POD_DISRUPTION_BUDGETS).objects.values())  # noqa: E731
        claims = partial(self._claimed, view)
        arguments = (
            self._choosers,
            nominated,
            namespaces,
            started,
            budgets,
            claims,
            memory.in_flight,
            view.fold(STARTS),
            partial(self._as_now, view),
            memory.reserved,
        )
        if self.extenders:
            from refk8s.core.scheduler.extended import ExtendedBatch, consult_of

            consult = consult_of(self.extenders, memory.question, view)
            ready = consult.order(ready, queue)
            batch: Batch = ExtendedBatch(*arguments, consult=consult, truth=truth.last_change)
        else:
            consult, batch = None, Batch(*arguments)
        for waiting in ready[:BATCH_MAX]:
            pod = view.get(PODS, waiting.key)
            batch.decide(waiting, pod if self._may_be_scheduled(pod) else None)

        # Act
        decided = [self._decision(truth, *placed) for placed in batch.placed]
        queue = queue.without([*batch.gone, *(each.waiting.key for each in decided)]).park(
            batch.refused, now, self.backoff
        )
        queue = queue.activate(queue.pods[key] for key in batch.displaced if key in queue.pods)
        memory = memory.assume(
            decided, queue, nominated.working, nominated.nominations, batch.in_flight,
            batch.reserved, batch.released,
        )  # fmt: skip
        memory, preempted_notes, rejected = reject_preempted(
            memory, batch.victims, view.table(PODS).objects.get, now, self.backoff
        )
        keys = [waiting.key for waiting in (*[each.waiting for each in decided], *batch.refused)]
        again = bool(batch.displaced or rejected) or any(
            one.is_error for one in batch.refused
        )  # SCHED-58
        keys += [*batch.displaced, *rejected, *((SCHEDULE,) if again else ())]

        # Report
        notes = tuple(
            note(pod, info, "FailedScheduling", message, "Scheduling", type="Warning")
            for pod, info, message in batch.failures
        )
        notes += tuple(
            preempted(victim, by, node, view)
            for info, by, node in batch.victims
            if (victim := view.get(PODS, f"{info.namespace}/{info.name}")) is not None
        )
        notes += preempted_notes
        wake_at = (
            now
            if len(ready) > BATCH_MAX
            else min((at for at in (next_ready, queue.alarm) if at is not None), default=None)
        )
        enqueue = tuple((self.name, key) for key in keys)
        if consult is not None:
            memory = evolve(memory, question=consult.question)
        return Plan(
            memory=memory,
            enqueue=enqueue,
            notes=notes,
            wake_at=wake_at,
            problems=(*problems, *batch.problems),
            runs=consult.posts if consult is not None else (),
        )

    def _decision(
        self, truth: Snapshot, waiting: Waiting, node: str, allocated: tuple[Any, ...]
    ) -> Decision:
        plugins = self.profiles[waiting.pod.scheduler_name].plugins
        decision = Decision(waiting, node, truth.last_change, allocated=allocated)
        return evolve(decision, permitted=not plugins.permit, reserves=bool(plugins.reserve))


def _namespaces(view: View) -> Mapping[str, Any]:
    """The Namespace objects by name, for terms that select namespaces by label."""
    return view.table(NAMESPACES).objects


def scheduler(
    profiles: Sequence[Profile] = (DEFAULT_PROFILE,),
    backoff: Backoff = DEFAULT_BACKOFF,
    extenders: "Sequence[Extender]" = (),
) -> Loop:
    """The scheduler as a component: a loop with one reconciler."""
    reconciler = Scheduler(profiles, backoff, extenders)
    return Loop("kube-scheduler", [reconciler], component=reconciler.name)
