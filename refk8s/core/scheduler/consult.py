"""Asking extenders while a pod is decided. Rules SCHED-57 to SCHED-60 (spec/scheduler_profiles.md).

A decision that needs an answer which is not there ends with `Needed`. The questions are sent as
operations, and when all are answered, the pod is decided again, on the newest snapshot. So the
decision is written as if every answer was there, and nothing waits inside the core. One pod is
asked about at a time, as kube-scheduler does; pods that no extender is interested in are decided
meanwhile (D-410).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.loop.plan import Key
from refk8s.core.ports import Operation, Post, Result
from refk8s.core.scheduler.extenders import (
    BadAnswer,
    Extender,
    ask_about,
    ask_for_victims,
    read_scores,
    read_verdict,
    read_victims,
)
from refk8s.core.scheduler.preempt import Eviction, Started, rank_of
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import PodInfo, Snapshot
from refk8s.core.value import Value, evolve


class Asked(Value, frozen=True, eq=False):
    """A question to the extender of this number about these nodes, and its answer."""

    number: int
    verb: str
    names: tuple[str, ...]
    post: Post
    result: Result | None = None


class Question(Value, frozen=True, eq=False):
    """What extenders are asked about one pod, so far."""

    key: Key
    uid: str
    asked: tuple[Asked, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether an answer is missing."""
        return any(one.result is None for one in self.asked)

    def with_result(self, post: Operation, result: Result) -> "Question":
        asked = [
            evolve(one, result=result) if one.result is None and one.post is post else one
            for one in self.asked
        ]
        return evolve(self, asked=tuple(asked))


class Needed(Exception):
    """These questions are to be asked before the decision can go on."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        super().__init__("answers of extenders are needed")
        self.asked = tuple(asked)


Concerned = Sequence[tuple[int, Extender]]
"""The extenders that are interested in a pod, with their numbers."""


class Consult:
    """The questions of one reconciliation. `question`: that of earlier ones."""

    def __init__(
        self,
        extenders: Sequence[Extender],
        question: Question | None,
        pod_of: Callable[[Key], Pod | None],
        node_of: Callable[[str], Node | None],
    ) -> None:
        self.question = question
        self.posts: tuple[Post, ...] = ()  # to send now
        self._extenders = extenders
        self._pod_of, self._node_of = pod_of, node_of

    def concerned(self, pod: Pod) -> Concerned:
        """The extenders that are interested in the pod (SCHED-57)."""
        return [
            (number, one) for number, one in enumerate(self._extenders) if one.is_interested(pod)
        ]

    def order(self, ready: Sequence[Waiting], queue: Any) -> list[Waiting]:
        """The pods to try now: first the one about which everything is answered. While an answer is
        missing, no pod of interest to an extender is tried."""
        question = self.question
        if question is None:
            return list(ready)
        if question.is_open:
            return [one for one in ready if not self._is_of_interest(one.key)]
        first = queue.pods.get(question.key)
        if first is None or first.pod.uid != question.uid:
            self.question = None
            return list(ready)
        return [first, *[one for one in ready if one.key != question.key]]

    def _is_of_interest(self, key: Key) -> bool:
        pod = self._pod_of(key)
        return pod is not None and bool(self.concerned(pod))

    def is_turn_of(self, waiting: Waiting) -> bool:
        """Whether this pod can be decided now."""
        return self.question is None or (
            self.question.key == waiting.key
            and self.question.uid == waiting.pod.uid
            and not self.question.is_open
        )

    def ask(self, waiting: Waiting, needed: Needed) -> None:
        """Send the questions of this pod."""
        before = self.question.asked if self.question is not None else ()
        self.question = Question(waiting.key, waiting.pod.uid, (*before, *needed.asked))
        self.posts = tuple([one.post for one in needed.asked])

    def end(self) -> None:
        """The pod is decided."""
        self.question = None

    # --- stages of a decision

    def filter(
        self, concerned: Concerned, pod: Pod, names: Sequence[str]
    ) -> tuple[list[str], dict[str, Refusal]]:
        """SCHED-58: the nodes that all extenders let pass, in order, and why others are rejected.
        An extender is asked about the nodes that those before it let pass. A node that has become
        suitable after the question is not one of the answer, so the pod does not run there. Raises
        Needed and BadAnswer."""
        refusals: dict[str, Refusal] = {}
        left = list(names)
        for number, extender in concerned:
            if not extender.filter_verb or not left:
                continue
            asked = self._answered(number, extender, extender.filter_verb, pod, left)
            assert asked.result is not None
            try:
                verdict = read_verdict(extender, asked.names, asked.result)
            except BadAnswer:
                if extender.is_ignorable:
                    continue
                raise
            for name in left:
                if name not in verdict.passing:
                    refusals[name] = verdict.refusals.get(name) or Refusal(extender.url, (), True)
            left = [name for name in left if name in verdict.passing]
        return left, refusals

    def points(self, concerned: Concerned, pod: Pod, names: Sequence[str]) -> dict[str, int]:
        """SCHED-59: the points that extenders add to these nodes. All are asked at the same time;
        one that does not answer gives none. Raises Needed."""
        scoring = [(number, one) for number, one in concerned if one.prioritize_verb]
        needed: list[Asked] = []
        found: dict[str, int] = {}
        for number, extender in scoring:
            try:
                asked = self._answered(number, extender, extender.prioritize_verb, pod, names)
            except Needed as error:
                needed += error.asked
                continue
            try:
                scores = read_scores(extender, asked.result)  # type: ignore[arg-type]
            except BadAnswer:
                continue
            for name, much in scores.items():
                found[name] = found.get(name, 0) + much
        if needed:
            raise Needed(needed)
        return found

    def _answered(
        self, number: int, extender: Extender, verb: str, pod: Pod, names: Sequence[str]
    ) -> Asked:
        """The question with its answer. Raises Needed."""
        found = self._find(number, verb)
        if found is None:
            nodes = [node for name in names if (node := self._node_of(name)) is not None]
            post = ask_about(extender, verb, pod, nodes)
            raise Needed([Asked(number, verb, tuple(names), post)])
        return found

    def _find(self, number: int, verb: str) -> Asked | None:
        asked = self.question.asked if self.question is not None else ()
        return next((one for one in asked if (one.number, one.verb) == (number, verb)), None)

    def victims(
        self,
        concerned: Concerned,
        pod: Pod,
        candidates: Iterable[Eviction],
        around: Snapshot,
        started: Started,
    ) -> list[Eviction]:
        """SCHED-60: the nodes and victims that the extenders leave. They may choose other pods of
        lower priority on these nodes. Raises Needed and BadAnswer."""
        left = {one.node: one for one in candidates}
        for number, extender in concerned:
            if not extender.preempt_verb or not left:
                continue
            asked = self._find(number, extender.preempt_verb)
            if asked is None:
                post = ask_for_victims(extender, pod, self._with_pods(left))
                raise Needed([Asked(number, extender.preempt_verb, tuple(left), post)])
            assert asked.result is not None
            lesser = {
                name: {
                    uid: one
                    for uid, one in around.load(name).pods.items()
                    if one.priority < (pod.spec.priority or 0)
                }
                for name in left
            }
            allowed = {name: frozenset(pods) for name, pods in lesser.items()}
            try:
                found = read_victims(extender, allowed, asked.result)
            except BadAnswer:
                if extender.is_ignorable:
                    continue
                raise
            left = {
                name: _eviction(
                    name, [lesser[name][uid] for uid in each.uids], each.violations, started
                )
                for name, each in found.items()
            }
        return list(left.values())

    def _with_pods(self, left: dict[str, Eviction]) -> dict[str, tuple[list[Pod], int]]:
        return {
            name: (
                [pod for one in each.victims if (pod := self._pod_of(_key(one))) is not None],
                each.violations,
            )
            for name, each in left.items()
        }


def _eviction(node: str, victims: list[PodInfo], violations: int, started: Started) -> Eviction:
    ordered = tuple(sorted(victims, key=lambda one: (-one.priority, started(one), one.uid)))
    return Eviction(node, ordered, violations, rank_of(node, ordered, violations, started))


def _key(pod: PodInfo) -> Key:
    return f"{pod.namespace}/{pod.name}"
