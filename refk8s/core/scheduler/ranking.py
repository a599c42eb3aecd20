"""The cached results of all nodes for one kind of pod. Rule SCHED-17 (spec/scheduler.md).

A ranking reads only the nodes that have changed since its last use. Nodes with equal numbers are in
one group, a heap by local points: the best node of a group is its first.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from msgspec.structs import replace

from refk8s.core.scheduler.evaluation import Evaluation, Offer, crowd_of, evaluate, offer_of
from refk8s.core.scheduler.filters import pod_affinity
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import Counts, Relations, changed_nodes
from refk8s.core.scheduler.scores import Raw, related_points, relative_points
from refk8s.core.scheduler.snapshot import (
    HOSTNAME_LABEL,
    Change,
    Load,
    NodeFacts,
    PodInfo,
    Snapshot,
    is_alike,
)

Rank = tuple[int, int, str]  # (-points, pods, name): the smallest is the best


class _Group:
    """Nodes with equal raw numbers, in a heap by local points. Outdated entries are removed when
    they become the first."""

    __slots__ = ("facts", "heap", "raw", "size")

    def __init__(self, raw: Raw, facts: NodeFacts) -> None:
        self.raw, self.facts = raw, facts  # the facts of one of its nodes
        # (-local points, pods, name, number of the row)
        self.heap: list[tuple[int, int, str, int]] = []
        self.size = 0


class _Row:
    """The result of one node in a ranking."""

    __slots__ = ("counted", "facts", "key", "load", "number", "verdict")

    def __init__(
        self,
        facts: NodeFacts,
        load: Load,
        verdict: Offer | Refusal,
        number: int,
        counted: int,
        key: Any,
    ) -> None:
        self.facts, self.load, self.verdict = facts, load, verdict
        self.number, self.counted, self.key = number, counted, key


class Ranking:
    """SCHED-17: the cached results of all nodes for one kind of pod (needs and group)."""

    def __init__(
        self,
        pod: PodInfo,
        evaluations: dict[str, Evaluation],
        profile: Profile = DEFAULT_PROFILE,
    ) -> None:
        self._pod = pod
        self._profile = profile
        self._evaluations = evaluations  # shared by all kinds with these needs
        self._rows: dict[str, _Row] = {}
        self._names: list[str] | None = None  # of the rows, sorted
        self._groups: dict[Any, _Group] = {}  # by what `_key` returns
        self._refusals: dict[Refusal, int] = {}
        self._zones: dict[str, int] = {}  # pods of the group by zone
        self._seen: Change | None = None
        self._number = 0

    def choose(self, snapshot: Snapshot) -> tuple[str | None, Mapping[Refusal, int]]:
        """The same result as `choose`. O(changed nodes · log nodes + groups)."""
        self._catch_up(snapshot)
        if not self._groups:
            return None, self._refusals
        # All nodes have equal raw numbers, so the relative points do not decide.
        if len(self._groups) == 1:
            (group,) = self._groups.values()
            return self._first(group)[2], self._refusals
        relative = relative_points(
            self._profile.weights,
            {raw: group.size for raw, group in self._groups.items()},
            crowd_of(self._pod, snapshot, self._zones),
        )
        ranks: list[Rank] = []
        for raw, group in self._groups.items():
            local, pods, name = self._first(group)
            ranks.append((local - relative[raw], pods, name))
        return min(ranks)[2], self._refusals

    def refusing(self, snapshot: Snapshot) -> Iterator[tuple[str, Refusal | None]]:
        """Each node with its refusal, None if it can run the pod, in the order of their names.
        O(changed nodes) and the nodes that are read."""
        for name in self.names(snapshot):
            yield name, self.refusal(name)

    def names(self, snapshot: Snapshot) -> list[str]:
        """The names of all nodes, sorted. O(changed nodes)."""
        self._catch_up(snapshot)
        if self._names is None:
            self._names = sorted(self._rows)
        return self._names

    def refusal(self, name: str) -> Refusal | None:
        """The refusal of this node, as of the last use; None if it can run the pod."""
        verdict = self._rows[name].verdict
        return verdict if isinstance(verdict, Refusal) else None

    def _catch_up(self, snapshot: Snapshot) -> None:
        """Evaluate the changed nodes."""
        for name in changed_nodes(snapshot, self._seen, self._rows):
            self._update(name, snapshot.nodes.get(name), snapshot.load(name))
        self._seen = snapshot.last_change

    def _update(self, name: str, facts: NodeFacts | None, load: Load) -> None:
        row = self._rows.get(name)
        if row is not None:
            if row.facts is facts and row.load is load:
                return
            self._forget(row)
        if facts is None or row is None:
            self._names = None
        if facts is None:
            self._rows.pop(name, None)
            self._evaluations.pop(name, None)
            return
        evaluation = self._evaluations.get(name)
        if (
            evaluation is None
            or evaluation.facts is not facts
            or not is_alike(evaluation.load, load)
        ):
            evaluation = self._evaluations[name] = evaluate(
                self._profile, self._pod.needs, facts, load, evaluation
            )
        verdict = self._verdict(facts, offer_of(self._profile, self._pod, facts, load, evaluation))
        counted = self._counted(load, verdict) if evaluation.counts else 0
        if counted:
            self._zones[facts.zone] = self._zones.get(facts.zone, 0) + counted
        self._number += 1
        key = self._key(verdict, facts) if isinstance(verdict, Offer) else None
        self._rows[name] = _Row(facts, load, verdict, self._number, counted, key)
        if isinstance(verdict, Refusal):
            self._refusals[verdict] = self._refusals.get(verdict, 0) + 1
            return
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(verdict.raw, facts)
        group.size += 1
        if len(group.heap) > 2 * group.size + 64:
            group.heap = [entry for entry in group.heap if self._is_current(entry)]
            heapify(group.heap)
        heappush(group.heap, (-verdict.local, verdict.pods, name, self._number))

    def _verdict(self, facts: NodeFacts, verdict: Offer | Refusal) -> Offer | Refusal:
        """The result of a node, from that of its own filters."""
        return verdict

    def _key(self, offer: Offer, facts: NodeFacts) -> Any:
        """What the nodes of one group have in common."""
        return offer.raw

    def _counted(self, load: Load, verdict: Offer | Refusal) -> int:
        """The pods of the group on this node."""
        group = self._pod.group
        if group is None:
            return 0
        if isinstance(verdict, Offer) and verdict.raw.siblings is not None:
            return verdict.raw.siblings
        return group.count(load)

    def _forget(self, row: _Row) -> None:
        if row.counted:
            self._zones[row.facts.zone] -= row.counted
        if isinstance(row.verdict, Refusal):
            self._refusals[row.verdict] -= 1
            return
        group = self._groups[row.key]
        group.size -= 1
        if not group.size:
            del self._groups[row.key]

    def _is_current(self, entry: tuple[int, int, str, int]) -> bool:
        row = self._rows.get(entry[2])
        return row is not None and row.number == entry[3]

    def _first(self, group: _Group) -> Rank:
        while not self._is_current(group.heap[0]):
            heappop(group.heap)
        return group.heap[0][:3]


class RelatedRanking(Ranking):
    """SCHED-17: as `Ranking`, for one kind of pod whose relations to other pods matter.

    Nodes with equal raw numbers and equal values of the topology keys are one group, for which the
    relations are evaluated once. Anti-affinity by host name concerns only the pods of one node, so
    it is a part of the row of that node. O(changed nodes · log nodes + groups + domains).
    """

    def __init__(self, pod: PodInfo, evaluations: dict[str, Evaluation], profile: Profile) -> None:
        super().__init__(pod, evaluations, profile)
        self._hosts: dict[str, int] = {}  # nodes by host name
        self._shared = 0  # host names that several nodes have
        self._relations: Relations | None = None
        self._topology: tuple[str, ...] = ()  # the keys of groups

    def choose_among(self, snapshot: Snapshot, relations: Relations) -> str | None:
        """The node that `choose` would return; None if there is none, or if it cannot be found
        without a survey of all nodes."""
        if not _is_by_groups(relations):
            return None
        self._adopt(relations)
        self._catch_up(snapshot)
        if self._shared:
            return None
        groups = {
            key: group
            for key, group in self._groups.items()
            if self._refusal_of(relations, group.facts) is None
        }
        if not groups:
            return None
        sizes: dict[Raw, int] = {}
        for group in groups.values():
            sizes[group.raw] = sizes.get(group.raw, 0) + group.size
        weights = self._profile.weights
        relative = relative_points(weights, sizes, crowd_of(self._pod, snapshot, self._zones))
        related = related_points(
            weights, relations, {key: group.facts for key, group in groups.items()}
        )
        ranks: list[Rank] = []
        for key, group in groups.items():
            local, pods, name = self._first(group)
            ranks.append((local - relative[group.raw] - related[key], pods, name))
        return min(ranks)[2]

    def _adopt(self, relations: Relations) -> None:
        """Start anew if other topology keys or other terms by host name matter than before."""
        topology = _topology_of(relations)
        if (
            self._relations is None
            or topology != self._topology
            or not _are_same(_by_host(relations), _by_host(self._relations))
        ):
            self.__init__(self._pod, self._evaluations, self._profile)  # type: ignore[misc]
            self._topology = topology
        self._relations = relations

    def _refusal_of(self, relations: Relations, facts: NodeFacts) -> Refusal | None:
        """Of the terms that concern whole groups: those by host name are in the rows."""
        away = _without_hosts(relations)
        for _, check in self._profile.related:
            if (refusal := check(away, facts)) is not None:
                return refusal
        return None

    def _update(self, name: str, facts: NodeFacts | None, load: Load) -> None:
        row = self._rows.get(name)
        before = row.facts.labels.get(HOSTNAME_LABEL) if row is not None else None
        after = facts.labels.get(HOSTNAME_LABEL) if facts is not None else None
        if before != after:
            for host, sign in ((before, -1), (after, 1)):
                if host is not None:
                    count = self._hosts.get(host, 0) + sign
                    # the second node with the name begins, the last but one ends the sharing
                    self._shared += sign * (count == (2 if sign > 0 else 1))
                    self._hosts[host] = count
        super()._update(name, facts, load)

    def _verdict(self, facts: NodeFacts, verdict: Offer | Refusal) -> Offer | Refusal:
        host = facts.labels.get(HOSTNAME_LABEL)
        if host is None or isinstance(verdict, Refusal):
            return verdict
        assert self._relations is not None
        if "InterPodAffinity" not in self._profile.filters:
            return verdict
        own, existing = _by_host(self._relations)
        if any(counts.get(host, 0) for counts in own):
            return pod_affinity.ANTI_AFFINITY
        if any(counts.get(host, 0) for counts in existing):
            return pod_affinity.EXISTING_ANTI_AFFINITY
        return verdict

    def _key(self, offer: Offer, facts: NodeFacts) -> Any:
        return offer.raw, tuple([facts.labels.get(key) for key in self._topology])


def _is_by_groups(relations: Relations) -> bool:
    """Whether only anti-affinity is by host name."""
    keys = [key for key, _ in relations.affinity]
    keys += [each.topology_key for each, _, _, _ in relations.hard]
    keys += [each.topology_key for each, _ in relations.soft]
    return HOSTNAME_LABEL not in keys and not any(
        key == HOSTNAME_LABEL for key, _ in relations.preferred
    )


def _topology_of(relations: Relations) -> tuple[str, ...]:
    """The topology keys of all terms, except the host name."""
    terms = (*relations.affinity, *relations.anti_affinity, *relations.existing_anti_affinity)
    keys = {key for key, _ in terms} | {key for key, _ in relations.preferred}
    keys |= {each.topology_key for each, _, _, _ in relations.hard}
    keys |= {each.topology_key for each, _ in relations.soft}
    return tuple(sorted(keys - {HOSTNAME_LABEL}))


def _by_host(relations: Relations) -> tuple[list[Counts], list[Counts]]:
    """The counts of anti-affinity by host name: of the pod's own terms, and of existing pods."""
    return (
        [counts for key, counts in relations.anti_affinity if key == HOSTNAME_LABEL],
        [counts for key, counts in relations.existing_anti_affinity if key == HOSTNAME_LABEL],
    )


def _are_same(
    one: tuple[list[Counts], list[Counts]], other: tuple[list[Counts], list[Counts]]
) -> bool:
    """Whether these are the same cached counts, which change only with the nodes that they count:
    the rows of other nodes are still right."""
    return all(
        len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))
        for mine, theirs in zip(one, other, strict=True)
    )


def _without_hosts(relations: Relations) -> Relations:
    return replace(
        relations,
        anti_affinity=tuple([one for one in relations.anti_affinity if one[0] != HOSTNAME_LABEL]),
        existing_anti_affinity=tuple(
            [one for one in relations.existing_anti_affinity if one[0] != HOSTNAME_LABEL]
        ),
    )
