"""The nodes where preemption helps pods of one kind, with cached results. Rules SCHED-17, SCHED-36
(spec/scheduler.md).

The result is that of `preempt`. Nodes are tried in the order of their names until enough of them
have victims, and again when their pods or the start times of these have changed: O(changed nodes),
and the nodes that are compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from refk8s.core.scheduler.preempt import Eviction, Started, candidates_max, victims_on
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.reasons import NO_VICTIMS, UNHELPFUL, Refusal
from refk8s.core.scheduler.snapshot import Change, Load, NodeFacts, PodInfo, Snapshot, changes_since
from refk8s.core.value import Value

Found = Eviction | tuple[str, ...]
Verdict = Callable[[str], Refusal | None]
"""The refusal of a node by its name; None if it can run the pod."""


class _Tried(Value, frozen=True, eq=False):
    """The result of one node, with everything from which it follows."""

    facts: NodeFacts
    load: Load
    lesser: tuple[PodInfo, ...]
    started: tuple[str, ...]
    found: Found | None  # None: it can run the pod


class Candidates:
    """The results of the nodes for pods with equal needs and priority to which other pods do not
    matter, without budgets."""

    def __init__(self) -> None:
        self._results: dict[str, _Tried] = {}  # of the nodes up to `_last`
        self._last = ""
        self._names: list[str] = []  # the nodes with victims, sorted
        self._ranks: list[tuple[Any, ...]] = []  # of these; the last item is the name
        self._counts: dict[str, int] = {}  # the others, by message
        self._seen: Change | None = None
        self._starts: Change | None = None

    def best(
        self,
        pod: PodInfo,
        names: Sequence[str],
        verdict: Verdict,
        snapshot: Snapshot,
        started: Started,
        starts: Change | None,
        profile: Profile,
    ) -> tuple[Eviction | None, dict[str, int]]:
        """The same result as `preempt`. `names`: of all nodes, sorted. `starts`: the last change of
        a start time."""

        def attempt(name: str) -> None:
            self._try(pod, name, verdict(name), snapshot, started, profile)

        for name in self._changed(names, snapshot, started, starts):
            self._forget(name)
            if name <= self._last and name in snapshot.nodes:
                attempt(name)
        self._seen, self._starts = snapshot.last_change, starts
        tries = candidates_max(profile, len(names))
        place = bisect_right(names, self._last)
        while len(self._names) < tries and place < len(names):
            self._last = names[place]
            attempt(self._last)
            place += 1
        if not self._names:
            return None, {UNHELPFUL: 0, NO_VICTIMS: 0} | self._counts
        return self._eviction(min(self._ranks[:tries])[-1]), {}

    def _changed(
        self,
        names: Sequence[str],
        snapshot: Snapshot,
        started: Started,
        starts: Change | None,
    ) -> Sequence[str]:
        """The nodes whose results may differ."""
        nodes = snapshot.changed_since(self._seen)
        times = changes_since(starts, self._starts)
        if nodes is not None and times is not None:
            return list(dict.fromkeys((*nodes, *times)))
        known = names[: bisect_right(names, self._last)]
        return [
            *(name for name in self._results if name not in snapshot.nodes),
            *(name for name in known if not self._is_current(name, snapshot, started)),
        ]

    def _is_current(self, name: str, snapshot: Snapshot, started: Started) -> bool:
        tried = self._results.get(name)
        return (
            tried is not None
            and tried.load is snapshot.load(name)
            and tried.facts is snapshot.nodes[name]
            and tried.started == tuple(map(started, tried.lesser))
        )

    def _try(
        self,
        pod: PodInfo,
        name: str,
        refusal: Refusal | None,
        snapshot: Snapshot,
        started: Started,
        profile: Profile,
    ) -> None:
        load = snapshot.load(name)
        lesser = tuple([one for one in load.pods.values() if one.priority < pod.priority])
        found: Found | None = None
        if refusal is not None:
            found = victims_on(pod, name, refusal, snapshot, {}, started, (), profile)
        times = tuple(map(started, lesser))
        self._results[name] = _Tried(snapshot.nodes[name], load, lesser, times, found)
        if isinstance(found, Eviction):
            place = bisect_left(self._names, name)
            self._names.insert(place, name)
            self._ranks.insert(place, found.rank)
        else:
            for message in found or ():
                self._counts[message] = self._counts.get(message, 0) + 1

    def _forget(self, name: str) -> None:
        tried = self._results.pop(name, None)
        if tried is None:
            return
        if isinstance(tried.found, Eviction):
            place = bisect_left(self._names, name)
            del self._names[place], self._ranks[place]
        else:
            for message in tried.found or ():
                self._counts[message] -= 1

    def _eviction(self, name: str) -> Eviction:
        found = self._results[name].found
        assert isinstance(found, Eviction)
        return found
