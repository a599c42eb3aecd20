"""One batch of decisions, each on a snapshot with the decisions before it. Rules SCHED-10, 16, 28,
35, 37 and 38 (spec/scheduler.md).

The decision about a pod is a node, or the reasons why no node can run it, and perhaps victims of
preemption. No request is sent here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from refk8s.core.api.core_v1 import Pod
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.budgets import Budgets
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.nominated import Nominated, Nomination
from refk8s.core.scheduler.placement import Chooser
from refk8s.core.scheduler.preempt import Started, preempt
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import (
    NEVER_PREEMPTS,
    NO_NODES,
    NO_REFUSALS,
    VICTIMS_TERMINATING,
    Refusal,
    explain,
    explain_block,
    histogram,
)
from refk8s.core.scheduler.snapshot import PodInfo, Snapshot
from refk8s.core.scheduler.volumes import Volumes
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
        volumes: Callable[[PodInfo], Volumes],
    ) -> None:
        self.nominated = nominated  # with the pods placed and nominated in this batch
        self.gone: list[Key] = []
        self.placed: list[tuple[Waiting, str]] = []
        self.refused: list[Waiting] = []
        self.displaced: list[Key] = []  # pods whose nomination a pod of higher priority removed
        self.failures: list[tuple[Pod, PodInfo, str]] = []  # with the message, if it changed
        self.victims: list[tuple[PodInfo, PodInfo, str]] = []  # (victim, preempting pod, node)
        self.problems: list[Exception] = []  # exceptions of decisions (LOOP-10)
        self._choosers, self._namespaces, self._started = choosers, namespaces, started
        self._read_budgets, self._volumes = budgets, volumes
        self._refused: Mapping[str, Refusal] = {}  # by node: because of the current pod's volumes
        self._budgets: Budgets | None = None  # read when the first pod looks for victims
        # messages by kind of pod, valid until the next change in this batch
        self._reasons: dict[tuple[bytes, str], str] = {}

    def decide(self, waiting: Waiting, pod: Pod | None) -> None:
        """Decide about one pod. `pod` is the pod in the view; None if it must not be scheduled."""
        if pod is None or pod.metadata.uid != waiting.pod.uid:
            self.gone.append(waiting.key)
            return
        try:
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
        self._refused = NO_REFUSALS
        if waiting.pod.claims:
            volumes = self._volumes(waiting.pod)
            if volumes.blocked:
                self._block(waiting, pod, len(around.nodes), volumes.blocked)
                return
            # of the node's own filters, or of its volumes
            self._refused = refused_by_volumes(volumes, around)
        node, refusals = self._choose(waiting, around)
        if node is not None:
            self._place(waiting, node)
        elif waiting.parked_at is None:
            self._refuse(waiting, pod, around, refusals)
        # Else it stays parked: other pods of its kind used the room in this batch.

    def _block(self, waiting: Waiting, pod: Pod, nodes: int, why: str) -> None:
        """SCHED-40: no node can run the pod as long as its claims are as they are."""
        if waiting.parked_at is not None:
            return
        message = f"0/{nodes} nodes are available:{explain_block(why)}" if nodes else NO_NODES
        self.refused.append(evolve(waiting, message=message))
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
            and nomination.node not in self._refused
            and self._can_run(pod, nomination.node, around)
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
        return self._chooser_of(pod).choose(pod, around, self._namespaces, self._refused)

    def _chooser_of(self, pod: PodInfo) -> Chooser:
        return self._choosers[pod.scheduler_name]

    def _place(self, waiting: Waiting, node: str) -> None:
        self.placed.append((waiting, node))
        self.nominated.place(waiting.pod, node)
        self._reasons.clear()

    def _refuse(
        self, waiting: Waiting, pod: Pod, around: Snapshot, refusals: Mapping[Refusal, int]
    ) -> None:
        kind = (waiting.kind, pod.spec.preemption_policy or "")
        message = self._reasons.get(kind)
        if message is None or waiting.key in self.nominated.nominations:
            nodes = len(around.nodes)
            message = explain(refusals, nodes, self._preempt(waiting, pod, around) if nodes else "")
            if waiting.key not in self.nominated.nominations:
                self._reasons[kind] = message
        self.refused.append(evolve(waiting, message=message))
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _preempt(self, waiting: Waiting, pod: Pod, around: Snapshot) -> str:
        """Nominate the pod for a node with victims, or return why it cannot preempt (SCHED-35)."""
        chooser = self._chooser_of(waiting.pod)
        if not chooser.profile.has_preemption:
            return ""
        if pod.spec.preemption_policy == "Never":
            return NEVER_PREEMPTS
        nominated = self.nominated
        nomination = nominated.nominations.get(waiting.key)
        if nomination is not None and self._is_emptying(nomination):
            return VICTIMS_TERMINATING
        if self._budgets is None:
            self._budgets = self._read_budgets()
        eviction, counts = preempt(
            waiting.pod,
            chooser.refusing(waiting.pod, around, self._namespaces, self._refused),
            around,
            self._namespaces,
            self._started,
            self._budgets,
            chooser.profile,
            self._refused,
            None if self._budgets else chooser.tries_of(waiting.pod, around),
        )
        if eviction is None:
            nominated.remove(waiting.key)
            return histogram(counts, len(around.nodes))
        for key, other in sorted(nominated.nominations.items()):
            if other.node == eviction.node and other.pod.priority < waiting.pod.priority:
                nominated.remove(key)
                self.displaced.append(key)
        nominated.nominate(waiting.key, Nomination(waiting.pod, eviction.node, eviction.victims))
        self.victims += [(victim, waiting.pod, eviction.node) for victim in eviction.victims]
        self._reasons.clear()
        return ""

    def _is_emptying(self, nomination: Nomination) -> bool:
        """Whether victims or terminating pods of lower priority are still on the node."""
        there = self.nominated.working.load(nomination.node).pods
        return any(victim.uid in there for victim in nomination.victims) or any(
            other.is_terminating and other.priority < nomination.pod.priority
            for other in there.values()
        )


def refused_by_volumes(volumes: Volumes, snapshot: Snapshot) -> dict[str, Refusal]:
    """The nodes that cannot run a pod because of its volumes, by name. O(nodes * volumes)."""
    verdicts = {
        name: volumes.refusal(facts, snapshot.load(name)) for name, facts in snapshot.nodes.items()
    }
    return {name: verdicts[name] for name in sorted(verdicts) if verdicts[name] is not None}  # type: ignore[misc]
