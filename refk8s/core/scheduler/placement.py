"""The best node for a pod, plainly and with a memory of what has been worked out. Rules SCHED-16, SCHED-17 (spec/scheduler.md).

`choose` is the definition: ask every node. A `Table` gives the same answer for pods of one kind without asking the nodes that have not
changed since it was last asked: O(changed nodes) instead of O(nodes). It may be forgotten or shared at any time; nothing depends on
its being there, only the time that a decision takes.

    all nodes --filters--> nodes that may run it --points--> most points, then fewest pods, then first by name
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from attrs import frozen

from refk8s.core.scheduler.filters import BY_LOAD, BY_NODE
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.scores import local_points, node_affinity, relative_points, taints
from refk8s.core.scheduler.snapshot import Change, Load, NodeFacts, Snapshot, is_alike

TABLES_MAX = 512  # kinds of pods remembered at once


@frozen
class Offer:
    """A node that may run the pod: its raw numbers for the relative scores, its local points, and how many pods it has."""

    taints: int
    preference: int
    local: int
    pods: int


def judge(needs: Needs, facts: NodeFacts, load: Load) -> Offer | Refusal:
    """One node, asked afresh."""
    static = _judge_facts(needs, facts)
    return static if isinstance(static, Refusal) else _judge_load(needs, facts, load, static)


def _judge_facts(needs: Needs, facts: NodeFacts) -> tuple[int, int] | Refusal:
    for check in BY_NODE:
        if (refusal := check(needs, facts)) is not None:
            return refusal
    return taints.raw(needs, facts), node_affinity.raw(needs, facts)


def _judge_load(needs: Needs, facts: NodeFacts, load: Load, static: tuple[int, int]) -> Offer | Refusal:
    for check in BY_LOAD:
        if (refusal := check(needs, facts, load)) is not None:
            return refusal
    return Offer(static[0], static[1], local_points(needs, facts, load), len(load.pods))


def choose(needs: Needs, snapshot: Snapshot) -> tuple[str | None, dict[Refusal, int]]:
    """SCHED-16: the best node, or None with how many nodes refuse for what reason. O(nodes)."""
    offers: dict[str, Offer] = {}
    refusals: dict[Refusal, int] = {}
    for name in sorted(snapshot.nodes):
        verdict = judge(needs, snapshot.nodes[name], snapshot.load(name))
        if isinstance(verdict, Refusal):
            refusals[verdict] = refusals.get(verdict, 0) + 1
        else:
            offers[name] = verdict
    if not offers:
        return None, refusals
    taints_max = max(offer.taints for offer in offers.values())
    preference_max = max(offer.preference for offer in offers.values())

    def rank(name: str) -> tuple[int, int, str]:
        offer = offers[name]
        points = offer.local + relative_points(offer.taints, taints_max, offer.preference, preference_max)
        return -points, offer.pods, name

    return min(offers, key=rank), refusals


class _Row:
    """What a table knows of one node: the facts and load that it looked at, and what came of it."""

    __slots__ = ("facts", "load", "number", "static", "verdict")

    def __init__(self, facts: NodeFacts, load: Load, static: tuple[int, int] | Refusal, verdict: Offer | Refusal, number: int) -> None:
        self.facts, self.load, self.static, self.verdict, self.number = facts, load, static, verdict, number


class _Group:
    """Nodes with the same raw numbers: among them the local order decides. A heap with stale entries, left there until they come up."""

    __slots__ = ("heap", "size")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, str, int]] = []  # (-local points, pods, name, number of the row)
        self.size = 0


class Table:
    """SCHED-17: every node's verdict on one kind of pod, brought up to date before each answer."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._rows: dict[str, _Row] = {}
        self._groups: dict[tuple[int, int], _Group] = {}
        self._refusals: dict[Refusal, int] = {}
        self._seen: Change | None = None
        self._number = 0

    def choose(self, snapshot: Snapshot) -> tuple[str | None, Mapping[Refusal, int]]:
        """The same as `choose`. O(changed nodes · log nodes)."""
        self.catch_up(snapshot)
        groups = [(raw, group) for raw, group in self._groups.items() if group.size]
        if not groups:
            return None, self._refusals
        taints_max = max(raw[0] for raw, _ in groups)
        preference_max = max(raw[1] for raw, _ in groups)
        best: tuple[int, int, str] | None = None
        for (taint_count, preference), group in groups:
            local, pods, name = self._first(group)
            rank = (local - relative_points(taint_count, taints_max, preference, preference_max), pods, name)
            if best is None or rank < best:
                best = rank
        return (best[2] if best else None), self._refusals

    def has_offer(self, snapshot: Snapshot) -> bool:
        """Some node would take a pod of this kind."""
        self.catch_up(snapshot)
        return any(group.size for group in self._groups.values())

    def refusing(self, snapshot: Snapshot) -> dict[str, Refusal]:
        """What each refusing node says, in the order of their names. O(nodes log nodes)."""
        self.catch_up(snapshot)
        return {name: row.verdict for name, row in sorted(self._rows.items()) if isinstance(row.verdict, Refusal)}

    def catch_up(self, snapshot: Snapshot) -> None:
        """Look again at the nodes that are not what they were."""
        if snapshot.last_change is self._seen and self._seen is not None:
            return
        changed = snapshot.changed_since(self._seen)
        if changed is None:
            changed = [*snapshot.nodes, *(name for name in self._rows if name not in snapshot.nodes)]
        for name in changed:
            self._look(name, snapshot.nodes.get(name), snapshot.load(name))
        self._seen = snapshot.last_change

    def _look(self, name: str, facts: NodeFacts | None, load: Load) -> None:
        row = self._rows.get(name)
        if row is not None:
            if row.facts is facts and is_alike(row.load, load):
                return
            self._forget(row)
        if facts is None:
            self._rows.pop(name, None)
            return
        static = row.static if row is not None and row.facts is facts else _judge_facts(self._needs, facts)
        verdict = static if isinstance(static, Refusal) else _judge_load(self._needs, facts, load, static)
        self._number += 1
        self._rows[name] = _Row(facts, load, static, verdict, self._number)
        if isinstance(verdict, Refusal):
            self._refusals[verdict] = self._refusals.get(verdict, 0) + 1
            return
        group = self._groups.setdefault((verdict.taints, verdict.preference), _Group())
        group.size += 1
        if len(group.heap) > 2 * group.size + 64:
            group.heap = [entry for entry in group.heap if self._is_current(entry)]
            heapify(group.heap)
        heappush(group.heap, (-verdict.local, verdict.pods, name, self._number))

    def _forget(self, row: _Row) -> None:
        if isinstance(row.verdict, Refusal):
            self._refusals[row.verdict] -= 1
        else:
            self._groups[row.verdict.taints, row.verdict.preference].size -= 1

    def _is_current(self, entry: tuple[int, int, str, int]) -> bool:
        row = self._rows.get(entry[2])
        return row is not None and row.number == entry[3]

    def _first(self, group: _Group) -> tuple[int, int, str]:
        while not self._is_current(group.heap[0]):
            heappop(group.heap)
        return group.heap[0][:3]


class Tables:
    """A table for each kind of pod, the least recently used forgotten."""

    def __init__(self) -> None:
        self._tables: dict[bytes, Table] = {}

    def of(self, needs: Needs) -> Table:
        table = self._tables.pop(needs.key, None)
        if table is None:
            table = Table(needs)
            if len(self._tables) >= TABLES_MAX:
                del self._tables[next(iter(self._tables))]
        self._tables[needs.key] = table
        return table
