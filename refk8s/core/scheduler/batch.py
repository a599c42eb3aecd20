"""One batch of decisions, each on a snapshot with the decisions before it. Rules SCHED-10, 16, 28,
35, 37 and 38 (spec/scheduler.md).

The decision about a pod is a node, or the reasons why no node can run it, and perhaps victims of
preemption. No request is sent here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Pod
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.budgets import Budgets
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED, ClaimsOf
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.nominated import Nominated, Nomination
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import Eviction, Started
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import (
    NEVER_PREEMPTS,
    VICTIMS_TERMINATING,
    Refusal,
    explain,
    explain_block,
    histogram,
)
from refk8s.core.scheduler.reservations import NOTHING_RESERVED, Reserved, reserve
from refk8s.core.scheduler.snapshot import Change, PodInfo, Snapshot
from refk8s.core.value import evolve


class Batch:
    """The batch of one reconciliation of the key `schedule`; not kept afterwards."""

    def __init__(
        self,
        choosers: Mapping[str, Chooser],
        nominated: Nominated,
        namespaces: Mapping[str, Any],
        started: Started,
        budgets: Callable[[], Budgets],
        claims_of: ClaimsOf,
        in_flight: Map[Key, Any],
        starts: Change | None = None,
        with_group: Callable[[PodInfo], PodInfo] = lambda pod: pod,
        reserved: Reserved = NOTHING_RESERVED,
    ) -> None:
        self.nominated = nominated  # with the pods placed and nominated in this batch
        self.gone: list[Key] = []
        # with the allocations of its claims for devices
        self.placed: list[tuple[Waiting, str, tuple[Any, ...]]] = []
        self.refused: list[Waiting] = []
        self.displaced: list[Key] = []  # pods whose nomination a pod of higher priority removed
        self.failures: list[tuple[Pod, PodInfo, str]] = []  # with the message, if it changed
        self.victims: list[tuple[PodInfo, PodInfo, str]] = []  # (victim, preempting pod, node)
        self.problems: list[Exception] = []  # exceptions of decisions (LOOP-10)
        self._choosers, self._namespaces, self._started = choosers, namespaces, started
        self._read_budgets, self._claims_of = budgets, claims_of
        self._with_group = with_group  # SCHED-27: as Services and owners are now
        self._starts = starts  # the last change of a start time
        self._claimed = NOTHING_CLAIMED  # by the current pod
        self.in_flight = in_flight  # the devices that are allocated, also in this batch
        self.reserved = reserved  # by plugins of other packages, also in this batch
        self.released: list[tuple[PodInfo, str]] = []  # pods for which a plugin denied to reserve
        self._budgets: Budgets | None = None  # read when the first pod looks for victims
        # messages by kind of pod, valid until the next change in this batch
        self._reasons: dict[tuple[bytes, str], str] = {}

    def decide(self, waiting: Waiting, pod: Pod | None) -> None:
        """Decide about one pod. `pod` is the pod in the view; None if it must not be scheduled."""
        if pod is None or pod.metadata.uid != waiting.pod.uid:
            self.gone.append(waiting.key)
            return
        try:
            grouped = self._with_group(waiting.pod)
            if grouped is not waiting.pod:
                waiting = evolve(waiting, pod=grouped)
            self._decide(waiting, pod)
        except Exception as error:  # LOOP-10: it is parked, and the others are decided.
            self.problems.append(error)
            self.refused.append(
                evolve(
                    waiting,
                    message=f"the scheduler failed on this pod: {type(error).__name__}: {error}",
                )
            )

    def _decide(self, waiting: Waiting, pod: Pod) -> None:
        around = self.nominated.around(waiting.pod)
        if not self._claim(waiting, pod, around):
            return
        node, refusals = self._choose(waiting, around)
        if node is not None:
            self._place(waiting, pod, node)
        elif waiting.parked_at is None or self._claimed.release:
            self._refuse(waiting, pod, around, refusals)
        # Else it stays parked: other pods of its kind used the room in this batch.

    def _claim(self, waiting: Waiting, pod: Pod, around: Snapshot) -> bool:
        """Look at the pod's claims; whether a node may run the pod (SCHED-40)."""
        self._claimed = NOTHING_CLAIMED
        if waiting.pod.has_claims:
            self._claimed = self._claims_of(waiting.pod, around, self.in_flight)
            if self._claimed.blocked:
                self._block(waiting, pod, len(around.nodes))
                return False
        return True

    def _block(self, waiting: Waiting, pod: Pod, nodes: int) -> None:
        """SCHED-40: no node can run the pod as long as its claims are as they are."""
        if waiting.parked_at is not None:
            return
        why = self._claimed.blocked
        message = explain_block(why, nodes, is_about_devices=self._claimed.is_about_devices)
        self.refused.append(evolve(waiting, message=message, blocked=why, release=()))
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _choose(
        self, waiting: Waiting, around: Snapshot
    ) -> tuple[str | None, Mapping[Refusal, int]]:
        pod, working = waiting.pod, self.nominated.working
        nomination = self.nominated.nominations.get(waiting.key)
        if (
            nomination is not None
            and nomination.pod.uid == pod.uid
            and self._can_run(pod, nomination.node, around)
            and self._claimed.refusal(nomination.node) is None
            and (pod.inter_pod is None or self._can_run(pod, nomination.node, working))
        ):
            return nomination.node, {}  # SCHED-37: its victims have ended
        node, refusals = self._choose_once(pod, around)
        if around is working or pod.inter_pod is None:
            return node, refusals
        # A nominated pod may match this pod's affinity and never be bound. So the node must also be
        # able to run this pod without the nominated ones.
        profile = self._chooser_of(pod).profile
        without: list[Refusal] = []
        while (
            node is not None
            and (refusal := judge(pod, node, working, self._namespaces, profile)) is not None
        ):
            without.append(refusal)
            around = around.with_node(node, None)
            node, refusals = self._choose_once(pod, around)
        return node, {
            each: refusals.get(each, 0) + without.count(each)
            for each in {**refusals, **dict.fromkeys(without)}
        }

    def _can_run(self, pod: PodInfo, node: str, snapshot: Snapshot) -> bool:
        profile = self._chooser_of(pod).profile
        return (
            node in snapshot.nodes and judge(pod, node, snapshot, self._namespaces, profile) is None
        )

    def _choose_once(
        self, pod: PodInfo, around: Snapshot
    ) -> tuple[str | None, Mapping[Refusal, int]]:
        return self._chooser_of(pod).choose(pod, around, self._namespaces, self._claimed)

    def _chooser_of(self, pod: PodInfo) -> Chooser:
        return self._choosers[pod.scheduler_name]

    def _place(self, waiting: Waiting, pod: Pod, node: str) -> None:
        profile = self._chooser_of(waiting.pod).profile
        if profile.plugins.reserve:
            facts = self.nominated.working.nodes[node]
            reserved = reserve(profile, waiting.key, waiting.pod, facts, self.reserved)
            if isinstance(reserved, Refusal):
                self._deny(waiting, pod, node, reserved)
                return
            self.reserved = reserved
        devices = self._claimed.devices
        allocated = devices.allocations(self.nominated.working.nodes[node]) if devices else ()
        for one in allocated:
            self.in_flight = self.in_flight.set(one.claim, one)
        self.placed.append((waiting, node, allocated))
        self.nominated.place(waiting.pod, node)
        self._reasons.clear()

    def _deny(self, waiting: Waiting, pod: Pod, node: str, refusal: Refusal) -> None:
        """SCHED-62: a plugin does not reserve the node; it is tried again after its back-off."""
        self.released.append((waiting.pod, node))
        message = explain({refusal: 1}, 1, "")
        self.refused.append(evolve(waiting, message=message, blocked="", release=()))
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _refuse(
        self, waiting: Waiting, pod: Pod, around: Snapshot, refusals: Mapping[Refusal, int]
    ) -> None:
        kind = (waiting.kind, pod.spec.preemption_policy or "")
        message = self._reasons.get(kind)
        if message is None or waiting.key in self.nominated.nominations:
            nodes = len(around.nodes)
            why = self._preempt(waiting, pod, around) if nodes else ""
            profile = self._chooser_of(waiting.pod).profile
            outcome = self._claimed.outcome if profile.frees_claims else ""
            message = explain(refusals, nodes, why, outcome)
            if waiting.key not in self.nominated.nominations:
                self._reasons[kind] = message
        release = self._claimed.release
        self.refused.append(evolve(waiting, message=message, blocked="", release=release))
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _preempt(self, waiting: Waiting, pod: Pod, around: Snapshot) -> str:
        """Nominate the pod for a node with victims, or return why it cannot preempt (SCHED-35)."""
        if (why := self._why_no_preemption(waiting, pod)) is not None:
            return why
        eviction, counts = self._chooser_of(waiting.pod).preempt(
            waiting.pod,
            around,
            self._namespaces,
            self._started,
            self._starts,
            self._budgets_now(),
            self._claimed,
        )
        if eviction is None:
            self.nominated.remove(waiting.key)
            return histogram(counts, len(around.nodes))
        self._nominate(waiting, eviction)
        return ""

    def _why_no_preemption(self, waiting: Waiting, pod: Pod) -> str | None:
        """Why no victims are looked for; None if they are."""
        if not self._chooser_of(waiting.pod).profile.has_preemption:
            return ""
        if pod.spec.preemption_policy == "Never":
            return NEVER_PREEMPTS
        nomination = self.nominated.nominations.get(waiting.key)
        if nomination is not None and self._is_emptying(nomination):
            return VICTIMS_TERMINATING
        return None

    def _budgets_now(self) -> Budgets:
        if self._budgets is None:
            self._budgets = self._read_budgets()
        return self._budgets

    def _nominate(self, waiting: Waiting, eviction: Eviction) -> None:
        """SCHED-37: reserve the room of the victims for the pod."""
        nominated = self.nominated
        for key in nominated.keys_on(eviction.node):
            if nominated.nominations[key].pod.priority < waiting.pod.priority:
                nominated.remove(key)
                self.displaced.append(key)
        nominated.nominate(waiting.key, Nomination(waiting.pod, eviction.node, eviction.victims))
        self.victims += [(victim, waiting.pod, eviction.node) for victim in eviction.victims]
        self._reasons.clear()

    def _is_emptying(self, nomination: Nomination) -> bool:
        """Whether victims or terminating pods of lower priority are still on the node."""
        there = self.nominated.working.load(nomination.node).pods
        return any(victim.uid in there for victim in nomination.victims) or any(
            other.is_terminating and other.priority < nomination.pod.priority
            for other in there.values()
        )
