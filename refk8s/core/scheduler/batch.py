"""One batch of decisions: each pod against what all those before it have left. Rules SCHED-10, 16,
28, 35, 37 and 38 (spec/scheduler.md).

For each pod: a node, or a refusal with its reasons and perhaps with victims who would have to go.
Nothing is sent from here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from refk8s.core.api.core_v1 import Pod
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.budgets import Budgets
from refk8s.core.scheduler.placement import Chooser, judge
from refk8s.core.scheduler.preempt import Nomination, Started, preempt, with_nominated
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import LEAVING, POLITE, Refusal, explain, histogram
from refk8s.core.scheduler.snapshot import PodInfo, Snapshot
from refk8s.core.value import evolve


class Batch:
    """A batch in the making; never outlives the decision of the key `schedule`."""

    def __init__(
        self,
        chooser: Chooser,
        working: Snapshot,
        nominations: Mapping[Key, Nomination],
        namespaces: Mapping[str, Any],
        started: Started,
        budgets: Callable[[], Budgets],
    ) -> None:
        self.working = working  # with those that have got a node in this batch
        self.nominations = dict(nominations.items())
        self.gone: list[Key] = []
        self.placed: list[tuple[Waiting, str]] = []
        self.refused: list[Waiting] = []
        self.displaced: list[Key] = []  # whose nomination a more important pod has taken
        self.failures: list[tuple[Pod, str]] = []  # with a message that is new
        self.victims: list[tuple[PodInfo, PodInfo, str]] = []  # (victim, for whom, on which node)
        self.problems: list[Exception] = []  # what decisions raised: our bugs, to be reported
        self._chooser, self._namespaces, self._started = chooser, namespaces, started
        self._read_budgets = budgets
        self._budgets: Budgets | None = None  # read when the first pod looks for victims
        # of refusals since the last thing that changed
        self._reasons: dict[tuple[bytes, int, str], str] = {}

    def decide(self, waiting: Waiting, pod: Pod | None) -> None:
        """A node, or why there is none. `pod` is the pod as it is now; None where it must not be
        scheduled."""
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
        around = (
            with_nominated(self.working, self.nominations, waiting.pod)
            if self.nominations
            else self.working
        )
        node, refusals = self._choose(waiting.pod, around)
        if node is not None:
            self._place(waiting, node)
        elif waiting.parked_at is None:
            self._refuse(waiting, pod, around, refusals)
        # Else it was parked, and others of its kind have taken the room: for it nothing has
        # changed.

    def _choose(self, pod: PodInfo, around: Snapshot) -> tuple[str | None, Mapping[Refusal, int]]:
        node, refusals = self._chooser.choose(pod, around, self._namespaces)
        if around is self.working or pod.bonds is None:
            return node, refusals
        # A nominated pod may be what this one wants to be near, and may never come: the node must
        # do without it too.
        without: list[Refusal] = []
        while (
            node is not None
            and (refusal := judge(pod, node, self.working, self._namespaces)) is not None
        ):
            without.append(refusal)
            around = around.with_node(node, None)
            node, refusals = self._chooser.choose(pod, around, self._namespaces)
        return node, {
            each: refusals.get(each, 0) + without.count(each)
            for each in {**refusals, **dict.fromkeys(without)}
        }

    def _place(self, waiting: Waiting, node: str) -> None:
        self.placed.append((waiting, node))
        self.working = self.working.with_load(node, self.working.load(node).plus(waiting.pod))
        self.nominations.pop(waiting.key, None)
        self._reasons.clear()

    def _refuse(
        self, waiting: Waiting, pod: Pod, around: Snapshot, refusals: Mapping[Refusal, int]
    ) -> None:
        kind = (waiting.kind, waiting.pod.priority, pod.spec.preemption_policy or "")
        message = self._reasons.get(kind)
        if message is None or waiting.key in self.nominations:
            nodes = len(around.nodes)
            message = explain(refusals, nodes, self._preempt(waiting, pod, around) if nodes else "")
            if waiting.key not in self.nominations:
                self._reasons[kind] = message
        self.refused.append(evolve(waiting, message=message))
        if message != waiting.message:
            self.failures.append((pod, message))

    def _preempt(self, waiting: Waiting, pod: Pod, around: Snapshot) -> str:
        """Nominate the pod for a node whose less important pods have to go, or say why not."""
        if pod.spec.preemption_policy == "Never":
            return POLITE
        nomination = self.nominations.get(waiting.key)
        if nomination is not None and self._is_emptying(nomination):
            return LEAVING
        refusing = self._chooser.refusing(waiting.pod, around, self._namespaces)
        if self._budgets is None:
            self._budgets = self._read_budgets()
        eviction, counts = preempt(
            waiting.pod, refusing, around, self._namespaces, self._started, self._budgets
        )
        if eviction is None:
            self.nominations.pop(waiting.key, None)
            return histogram(counts, len(around.nodes))
        for key, other in sorted(self.nominations.items()):
            if other.node == eviction.node and other.pod.priority < waiting.pod.priority:
                del self.nominations[key]
                self.displaced.append(key)
        self.nominations[waiting.key] = Nomination(waiting.pod, eviction.node, eviction.victims)
        self.victims += [(victim, waiting.pod, eviction.node) for victim in eviction.victims]
        self._reasons.clear()
        return ""

    def _is_emptying(self, nomination: Nomination) -> bool:
        """Its victims, or other less important pods there, have yet to leave."""
        there = self.working.load(nomination.node).pods
        return any(victim.uid in there for victim in nomination.victims) or any(
            other.is_terminating and other.priority < nomination.pod.priority
            for other in there.values()
        )
