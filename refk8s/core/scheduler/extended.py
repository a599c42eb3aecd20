"""Decisions about pods in which an extender is interested. Rules SCHED-57 to SCHED-60
(spec/scheduler_profiles.md).

    nodes that the plugins leave -> each extender in turn: filter -> points of plugins and extenders
    no node is left -> victims that the plugins find -> each extender in turn: preempt

Every node is evaluated for such a pod.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.loop.view import View
from refk8s.core.scheduler.batch import Batch
from refk8s.core.scheduler.consult import Concerned, Consult, Needed, Question
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.extenders import BadAnswer, Extender
from refk8s.core.scheduler.placement import Survey, total_points
from refk8s.core.scheduler.preempt import Eviction, evictions
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import Refusal, explain, histogram
from refk8s.core.scheduler.snapshot import Change, Snapshot
from refk8s.core.value import evolve

NO_CANDIDATE = "no candidate node for preemption"


class ExtendedBatch(Batch):
    """A batch of a scheduler with extenders. `truth`: the last change that the decisions know."""

    def __init__(self, *arguments: Any, consult: Consult, truth: Change | None) -> None:
        super().__init__(*arguments)
        self.consult: Consult = consult
        self._truth = truth

    def _decide(self, waiting: Waiting, pod: Pod) -> None:
        concerned = self.consult.concerned(pod)
        if not concerned:
            super()._decide(waiting, pod)
            return
        if not self.consult.is_turn_of(waiting):
            return  # another pod is asked about; it stays in the queue
        try:
            self._decide_extended(waiting, pod, concerned)
        except Needed as needed:
            self.consult.ask(waiting, needed)
            return
        except BadAnswer as error:  # SCHED-58: it is tried again after its back-off
            self._fail(waiting, pod, str(error))
        self.consult.end()

    def _fail(self, waiting: Waiting, pod: Pod, message: str) -> None:
        self.refused.append(
            evolve(waiting, message=message, blocked="", release=(), is_error=True, seen=None)
        )
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _decide_extended(self, waiting: Waiting, pod: Pod, concerned: Concerned) -> None:
        around = self.nominated.around(waiting.pod)
        if not self._claim(waiting, pod, around):
            return
        found = self._survey(waiting, around)
        passing, rejected = self.consult.filter(concerned, pod, sorted(found.offers))
        if passing:
            node = self._best(waiting, pod, concerned, around, found, passing)
            self._place(waiting, pod, node)
            return
        refusals = dict(found.refusals)
        for refusal in rejected.values():
            refusals[refusal] = refusals.get(refusal, 0) + 1
        why = self._preempt_extended(waiting, pod, concerned, around, rejected)
        profile = self._chooser_of(waiting.pod).profile
        outcome = self._claimed.outcome if profile.frees_claims else ""
        message = explain(refusals, len(around.nodes), why, outcome)
        release = self._claimed.release
        # SCHED-58: tried again after any change of nodes or pods, if an extender has rejected one
        seen = self._truth if rejected else None
        self.refused.append(
            evolve(waiting, message=message, blocked="", release=release, is_error=False, seen=seen)
        )
        if message != waiting.message:
            self.failures.append((pod, waiting.pod, message))

    def _survey(self, waiting: Waiting, around: Snapshot) -> Survey:
        info, working = waiting.pod, self.nominated.working
        chooser = self._chooser_of(info)
        found = chooser.survey(info, around, self._namespaces, self._claimed)
        if around is working or info.inter_pod is None:
            return found
        # as in `Batch._choose`: a nominated pod may never be bound
        offers, refusals = dict(found.offers), dict(found.refusals)
        for name in found.offers:
            refusal = judge(info, name, working, self._namespaces, chooser.profile)
            if refusal is not None:
                del offers[name]
                refusals[refusal] = refusals.get(refusal, 0) + 1
        return evolve(found, offers=offers, refusals=refusals)

    def _best(
        self,
        waiting: Waiting,
        pod: Pod,
        concerned: Concerned,
        around: Snapshot,
        found: Survey,
        passing: list[str],
    ) -> str:
        """SCHED-59: the node with the most points, of plugins and extenders."""
        nomination = self.nominated.nominations.get(waiting.key)
        if (
            nomination is not None
            and nomination.pod.uid == waiting.pod.uid
            and nomination.node in passing
        ):
            return nomination.node  # SCHED-37
        if len(passing) == 1:
            return passing[0]
        more = self.consult.points(concerned, pod, passing)
        found = evolve(found, offers={name: found.offers[name] for name in passing})
        profile = self._chooser_of(waiting.pod).profile
        total = total_points(waiting.pod, around, found, profile, self._claimed)
        return min(
            (-points - more.get(name, 0), found.offers[name].pods, name)
            for name, points in total.items()
        )[2]

    def _preempt_extended(
        self,
        waiting: Waiting,
        pod: Pod,
        concerned: Concerned,
        around: Snapshot,
        rejected: Mapping[str, Refusal],
    ) -> str:
        """As `_preempt`, with the extenders' choice among the candidates (SCHED-60)."""
        if not len(around.nodes):
            return ""
        if (why := self._why_no_preemption(waiting, pod)) is not None:
            return why
        info, chooser = waiting.pod, self._chooser_of(waiting.pod)
        refusing = dict(chooser.refusing(info, around, self._namespaces, self._claimed))
        tried = list(
            evictions(
                info,
                sorted({**refusing, **rejected}.items()),
                around,
                self._namespaces,
                self._started,
                self._budgets_now(),
                chooser.profile,
                self._claimed,
            )
        )
        candidates = [one for one in tried if isinstance(one, Eviction)]
        if not candidates:
            self.nominated.remove(waiting.key)
            counts: dict[str, int] = {}
            for messages in tried:
                for message in messages if isinstance(messages, tuple) else ():
                    counts[message] = counts.get(message, 0) + 1
            return histogram(counts, len(around.nodes))
        try:
            left = self.consult.victims(concerned, pod, candidates, around, self._started)
        except BadAnswer as error:
            return str(error)
        if not left:
            return NO_CANDIDATE
        self._nominate(waiting, min(left, key=lambda one: one.rank))
        return ""


def consult_of(extenders: Sequence[Extender], question: Question | None, view: View) -> Consult:
    """The questions of one reconciliation, about pods and nodes of the view."""
    pods, nodes = view.table(PODS).objects, view.table(NODES).objects
    return Consult(extenders, question, pods.get, nodes.get)
