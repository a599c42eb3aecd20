"""The relations of a pod to the existing pods: counts by domain. Rules SCHED-30 to SCHED-34
(spec/scheduler.md).

A domain is the set of nodes with the same value of a topology key. The snapshot gives three
results: how many pods in each domain match a term (a tally); and in which domains existing pods
have anti-affinity or preferences that may match the new pod (neighbours). `Plain` computes them
from every pod; `Remembered` gives the same results and reads only the changed nodes again.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from refk8s.core.api.core_v1 import TopologySpreadConstraint
from refk8s.core.api.selector import Selector
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS, Arguments
from refk8s.core.scheduler.filters import node_affinity, node_unschedulable, taints
from refk8s.core.scheduler.inter_pod import (
    HARD,
    REQUIRED,
    Constraint,
    InterPodTerms,
    Term,
    default_constraint,
)
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.snapshot import Change, Group, Load, NodeFacts, PodInfo, Snapshot
from refk8s.core.value import Value

# by value of the topology key; a domain without such pods is present with 0
Counts = Mapping[str, int]
TALLIES_MAX = 512  # cached tallies


class Tally(Value, frozen=True, cache_hash=True):
    """The question how many pods that match all of `selectors` (labels, namespaces) are in each
    domain of the topology key.

    Only nodes with all of `keys` count. The policies may also exclude nodes that `needs` does not
    match or tolerate (SCHED-32).
    """

    topology_key: str
    keys: tuple[str, ...]
    selectors: tuple[tuple[Selector, tuple[str, ...]], ...]
    only_staying: bool = False  # pods that are being deleted do not count
    needs: bytes = b""  # for the policies
    honors_affinity: bool = False
    honors_taints: bool = False

    def domain(self, facts: NodeFacts | None) -> str | None:
        """The domain of the node; None if the node does not count."""
        if facts is None or any(key not in facts.labels for key in self.keys):
            return None
        if self.honors_affinity or self.honors_taints:
            needs = Needs.of(self.needs)
            if self.honors_affinity and node_affinity.check(needs, facts) is not None:
                return None
            if self.honors_taints and (
                taints.check(needs, facts) is not None
                or node_unschedulable.check(needs, facts) is not None
            ):
                return None
        return facts.labels[self.topology_key]

    def count(self, load: Load) -> int:
        return sum(
            not (self.only_staying and pod.is_terminating)
            and all(
                pod.namespace in namespaces and selector.matches(pod.labels)
                for selector, namespaces in self.selectors
            )
            for pod in load.pods.values()
        )


class Neighbours:
    """The number of existing pods with each required anti-affinity term, and with each preferred
    term and its weight, by domain."""

    def __init__(self) -> None:
        self.anti_affinity: dict[Term, dict[str, int]] = {}
        self.preferences: dict[tuple[int, Term], dict[str, int]] = {}

    def add(self, facts: NodeFacts | None, load: Load, sign: int) -> None:
        """Count (or no longer count) the pods of a node."""
        if facts is None:
            return
        for pod in load.bound.values():
            assert pod.inter_pod is not None
            for term in pod.inter_pod.anti_affinity:
                _count(self.anti_affinity, term, facts.labels.get(term.topology_key), sign)
            for preference in pod.inter_pod.preferences:
                _count(
                    self.preferences, preference, facts.labels.get(preference[1].topology_key), sign
                )


def _count(counts: dict[Any, dict[str, int]], what: Any, domain: str | None, sign: int) -> None:
    if domain is None:
        return
    domains = counts.setdefault(what, {})
    domains[domain] = domains.get(domain, 0) + sign
    if not domains[domain]:
        del domains[domain]
        if not domains:
            del counts[what]


class Source(Protocol):
    """`Plain` or `Remembered`."""

    def tally(self, question: Tally, snapshot: Snapshot) -> Counts: ...

    def neighbours(self, snapshot: Snapshot) -> Neighbours: ...


class Plain:
    """Computes from all pods. O(pods)."""

    def tally(self, question: Tally, snapshot: Snapshot) -> Counts:
        counts: dict[str, int] = {}
        for name, facts in snapshot.nodes.items():
            domain = question.domain(facts)
            if domain is not None:
                counts[domain] = counts.get(domain, 0) + question.count(snapshot.load(name))
        return counts

    def neighbours(self, snapshot: Snapshot) -> Neighbours:
        found = Neighbours()
        for name in snapshot.bound:
            found.add(snapshot.nodes.get(name), snapshot.load(name), 1)
        return found


PLAIN = Plain()


class Relations(Value, frozen=True, eq=False):
    """The relations of one pod to the others: (topology key, pods in each domain) for each term."""

    affinity: tuple[tuple[str, Counts], ...]  # its required affinity: must not be 0
    is_first: bool  # no pod matches its affinity, except the pod itself (SCHED-30)
    anti_affinity: tuple[tuple[str, Counts], ...]  # its required anti-affinity: must be 0
    # required anti-affinity of existing pods that matches this one: must be 0
    existing_anti_affinity: tuple[tuple[str, Counts], ...]
    # with whether the pod itself counts, and the lowest count of a domain
    hard: tuple[tuple[Constraint, int, int, Counts], ...]
    soft: tuple[tuple[Constraint, Counts], ...]
    preferred: Mapping[tuple[str, str], int]  # (topology key, domain) -> weight


def relate(
    pod: PodInfo,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    source: Source,
    arguments: Arguments = DEFAULT_ARGUMENTS,
) -> Relations | None:
    """The relations of the pod to all others; None if there are none."""
    terms = pod.inter_pod
    defaults = arguments.default_constraints
    if defaults and pod.group is not None:
        hard, soft = _defaults(defaults, pod.group, pod, source, snapshot)
    elif terms is None and not len(snapshot.bound):
        return None
    else:
        hard, soft = _stated(terms, pod, source, snapshot) if terms is not None else ((), ())
    neighbours = source.neighbours(snapshot)
    existing_anti_affinity = [
        (term.topology_key, counts)
        for term, counts in neighbours.anti_affinity.items()
        if _matches(term, pod, namespaces)
    ]
    preferred: dict[tuple[str, str], int] = {}
    for (weight, term), counts in neighbours.preferences.items():
        if weight == REQUIRED:
            weight = arguments.hard_pod_affinity_weight
        if weight and _matches(term, pod, namespaces):
            _add_weights(preferred, term.topology_key, counts, weight)
    if arguments.ignores_preferences_of_existing and (terms is None or not terms.preferred):
        preferred = {}
    if terms is None:
        if not existing_anti_affinity and not preferred and not hard and not soft:
            return None
        return Relations((), False, (), tuple(existing_anti_affinity), hard, soft, preferred)
    all_of = tuple((term.selector, term.resolve(namespaces)) for term in terms.affinity)
    affinity = tuple(
        (term.topology_key, _tally(term.topology_key, all_of, source, snapshot))
        for term in terms.affinity
    )
    for weight, term in terms.preferred:
        one = ((term.selector, term.resolve(namespaces)),)
        _add_weights(
            preferred, term.topology_key, _tally(term.topology_key, one, source, snapshot), weight
        )
    return Relations(
        affinity=affinity,
        is_first=not any(any(counts.values()) for _, counts in affinity)
        and all(_matches(term, pod, namespaces) for term in terms.affinity),
        anti_affinity=tuple(
            (
                term.topology_key,
                _tally(
                    term.topology_key,
                    ((term.selector, term.resolve(namespaces)),),
                    source,
                    snapshot,
                ),
            )
            for term in terms.anti_affinity
        ),
        existing_anti_affinity=tuple(existing_anti_affinity),
        hard=hard,
        soft=soft,
        preferred=preferred,
    )


Hard = tuple[tuple[Constraint, int, int, Counts], ...]
Soft = tuple[tuple[Constraint, Counts], ...]


def _stated(
    terms: InterPodTerms, pod: PodInfo, source: Source, snapshot: Snapshot
) -> tuple[Hard, Soft]:
    """The pod's own constraints."""
    return _counted(terms.hard, terms.soft, pod, source, snapshot)


def _counted(
    hard: tuple[Constraint, ...],
    soft: tuple[Constraint, ...],
    pod: PodInfo,
    source: Source,
    snapshot: Snapshot,
) -> tuple[Hard, Soft]:
    return tuple(
        [
            _spread(each, int(each.selector.matches(pod.labels)), counts)
            for each, counts in _constraints(hard, pod, source, snapshot)
        ]
    ), tuple(_constraints(soft, pod, source, snapshot))


def _defaults(
    constraints: Iterable[TopologySpreadConstraint],
    group: Group,
    pod: PodInfo,
    source: Source,
    snapshot: Snapshot,
) -> tuple[Hard, Soft]:
    """SCHED-53: the constraints of the profile, which count the pods of the group."""
    hard: list[Constraint] = []
    soft: list[Constraint] = []
    for each in constraints:
        (hard if each.when_unsatisfiable == HARD else soft).append(
            default_constraint(each, group.selector)
        )
    return _counted(tuple(hard), tuple(soft), pod, source, snapshot)


def _matches(term: Term, pod: PodInfo, namespaces: Mapping[str, Any]) -> bool:
    return term.matches(pod.namespace, pod.labels, namespaces)


def _add_weights(
    preferred: dict[tuple[str, str], int], topology_key: str, counts: Counts, weight: int
) -> None:
    for domain, count in counts.items():
        if count:
            preferred[topology_key, domain] = (
                preferred.get((topology_key, domain), 0) + weight * count
            )


def _tally(topology_key: str, selectors: Any, source: Source, snapshot: Snapshot) -> Counts:
    return source.tally(Tally(topology_key, (topology_key,), selectors), snapshot)


def _constraints(
    among: tuple[Constraint, ...],
    pod: PodInfo,
    source: Source,
    snapshot: Snapshot,
) -> Iterable[tuple[Constraint, Counts]]:
    """Each constraint with the pods in each domain. Nodes without the keys of all constraints do
    not count."""
    keys = tuple(sorted({each.topology_key for each in among}))
    for each in among:
        question = Tally(
            each.topology_key,
            keys,
            ((each.selector, (pod.namespace,)),),
            True,
            pod.needs.key,
            each.honors_affinity,
            each.honors_taints,
        )
        yield each, source.tally(question, snapshot)


def _spread(
    constraint: Constraint, own: int, counts: Counts
) -> tuple[Constraint, int, int, Counts]:
    least = min(counts.values()) if len(counts) >= constraint.min_domains else 0
    return constraint, own, least, counts


class _Remembered:
    """One cached tally."""

    __slots__ = ("counts", "nodes", "question", "rows", "seen")

    def __init__(self, question: Tally) -> None:
        self.question = question
        self.rows: dict[str, tuple[NodeFacts, Load, str | None, int]] = {}
        self.counts: dict[str, int] = {}
        self.nodes: dict[str, int] = {}  # by domain
        self.seen: Change | None = None

    def catch_up(self, snapshot: Snapshot) -> Counts:
        for name in changed_nodes(snapshot, self.seen, self.rows):
            self._update(name, snapshot.nodes.get(name), snapshot.load(name))
        self.seen = snapshot.last_change
        return self.counts

    def _update(self, name: str, facts: NodeFacts | None, load: Load) -> None:
        row = self.rows.pop(name, None)
        if row is not None and row[2] is not None:
            self.counts[row[2]] -= row[3]
            self.nodes[row[2]] -= 1
            if not self.nodes[row[2]]:
                del self.nodes[row[2]], self.counts[row[2]]
        if facts is None:
            return
        domain = row[2] if row is not None and row[0] is facts else self.question.domain(facts)
        count = self.question.count(load) if domain is not None else 0
        self.rows[name] = (facts, load, domain, count)
        if domain is not None:
            self.counts[domain] = self.counts.get(domain, 0) + count
            self.nodes[domain] = self.nodes.get(domain, 0) + 1


class Remembered:
    """The same results as `Plain`, cached. O(pods of the changed nodes)."""

    def __init__(self) -> None:
        self._tallies: dict[Tally, _Remembered] = {}
        self._neighbours = Neighbours()
        self._rows: dict[str, tuple[NodeFacts | None, Load]] = {}
        self._seen: Change | None = None

    def tally(self, question: Tally, snapshot: Snapshot) -> Counts:
        kept = self._tallies.pop(question, None)
        if kept is None:
            kept = _Remembered(question)
            if len(self._tallies) >= TALLIES_MAX:
                del self._tallies[next(iter(self._tallies))]
        self._tallies[question] = kept
        return kept.catch_up(snapshot)

    def neighbours(self, snapshot: Snapshot) -> Neighbours:
        for name in changed_nodes(snapshot, self._seen, self._rows):
            facts, load = snapshot.nodes.get(name), snapshot.load(name)
            before = self._rows.pop(name, None)
            if before is not None:
                self._neighbours.add(before[0], before[1], -1)
            if len(load.bound):
                self._neighbours.add(facts, load, 1)
                self._rows[name] = (facts, load)
        self._seen = snapshot.last_change
        return self._neighbours


def changed_nodes(snapshot: Snapshot, seen: Change | None, known: Iterable[str]) -> Iterable[str]:
    """The nodes to read again for a cache that has these nodes as of the change `seen`."""
    if snapshot.last_change is seen and seen is not None:
        return ()
    changed = snapshot.changed_since(seen)
    return (
        changed
        if changed is not None
        else [*snapshot.nodes, *(name for name in known if name not in snapshot.nodes)]
    )
