"""The best node for a pod, with and without cached results. Rules SCHED-16, SCHED-17
(spec/scheduler.md).

`choose` is the definition: it evaluates every node. A `Ranking` gives the same result for pods of
one kind and evaluates only the nodes that have changed since its last use: O(changed nodes) instead
of O(nodes). Dropping it at any time changes only the duration.

    all nodes -> filters -> nodes that can run the pod -> scores -> most points,
    then fewest pods, then first by name (SCHED-29: no random choice)
"""

from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from refk8s.core.scheduler.filters import node_affinity
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.plugin import Plugin, points_of, refusal_of
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import (
    PLAIN,
    Relations,
    Remembered,
    Source,
    changed_nodes,
    relate,
)
from refk8s.core.scheduler.scores import Crowd, Raw, raw_of, related_points, relative_points
from refk8s.core.scheduler.scores.image_locality import Images
from refk8s.core.scheduler.snapshot import Change, Load, NodeFacts, PodInfo, Snapshot, is_alike
from refk8s.core.value import Value

# limits of the cache: results for (kind, node) at most, and kinds at least
ROWS_MAX, KINDS_MIN = 200_000, 16
INFEASIBLE_MAX = 50_000  # cached kinds that no node can run

NO_NAMESPACES: Mapping[str, Any] = {}
NO_REFUSALS: Mapping[str, Refusal] = {}

Rank = tuple[int, int, str]  # (-points, pods, name): the smallest is the best


class Offer(Value, frozen=True):
    """A node that can run the pod: the input of its relative scores, its local points, and its
    number of pods."""

    raw: Raw
    local: int
    pods: int


def judge(
    pod: PodInfo,
    name: str,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    profile: Profile = DEFAULT_PROFILE,
) -> Refusal | None:
    """The refusal of one node, without the cache. O(1), or O(pods) if other pods matter."""
    facts, load = snapshot.nodes[name], snapshot.load(name)
    refusal = _evaluate(profile, pod.needs, facts, load).refusal
    if refusal is None:
        relations = relate(pod, snapshot, namespaces, PLAIN, profile.arguments)
        refusal = _reject(profile, pod, relations, facts, load)
    return refusal


def _reject(
    profile: Profile, pod: PodInfo, relations: Relations | None, facts: NodeFacts, load: Load
) -> Refusal | None:
    """The refusal of the filters that depend on other pods, or on more than the pod's needs."""
    if relations is not None:
        for _, check in profile.related:
            if (refusal := check(relations, facts)) is not None:
                return refusal
    for plugin in profile.plugins:
        if (refusal := refusal_of(plugin, pod, facts, load)) is not None:
            return refusal
    return None


class _Evaluation(Value, frozen=True, eq=False):
    """The result of a node for pods with equal needs: the refusal or the local points, and whether
    its pods count for spreading."""

    facts: NodeFacts
    load: Load
    static: Refusal | None
    refusal: Refusal | None
    taints: int
    preference: int
    images: Images
    local: int
    counts: bool


def _evaluate(
    profile: Profile,
    needs: Needs,
    facts: NodeFacts,
    load: Load,
    before: _Evaluation | None = None,
) -> _Evaluation:
    if before is not None and before.facts is facts:
        static, taints_raw, preference, images, counts = (
            before.static,
            before.taints,
            before.preference,
            before.images,
            before.counts,
        )
    else:
        static = None
        for _, on_node in profile.by_node:
            if (static := on_node(needs, facts)) is not None:
                break
        taints_raw, preference, images = raw_of(needs, facts, profile.arguments)
        counts = node_affinity.check(needs, facts) is None
    refusal = static
    if refusal is None:
        for _, on_load in profile.by_load:
            if (refusal := on_load(needs, facts, load)) is not None:
                break
    local = 0
    if refusal is None:
        for _, weight, points in profile.local:
            local += weight * points(needs, facts, load)
    return _Evaluation(facts, load, static, refusal, taints_raw, preference, images, local, counts)


def _offer(
    profile: Profile, pod: PodInfo, facts: NodeFacts, load: Load, evaluation: _Evaluation
) -> Offer | Refusal:
    if evaluation.refusal is not None:
        return evaluation.refusal
    siblings = (
        load.siblings.get(pod.owner, 0)
        if pod.owner and not pod.needs.constraints and profile.arguments.default_constraints is None
        else None
    )
    return Offer(
        Raw(
            evaluation.taints,
            evaluation.preference,
            siblings,
            facts.zone,
            facts.has_hostname,
            evaluation.images,
        ),
        evaluation.local,
        len(load.pods),
    )


class Survey(Value, frozen=True, eq=False):
    """The results of all nodes for one pod."""

    offers: dict[str, Offer]  # the nodes that can run the pod
    refusals: dict[Refusal, int]
    crowd: Crowd
    relations: Relations | None


def survey(
    pod: PodInfo,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any] = NO_NAMESPACES,
    source: Source = PLAIN,
    evaluations: dict[str, _Evaluation] | None = None,
    profile: Profile = DEFAULT_PROFILE,
    refused: Mapping[str, Refusal] = NO_REFUSALS,
) -> Survey:
    """Evaluate every node. O(nodes), and the time of `source`.

    `evaluations`: earlier results for pods with the same needs; it is updated. `refused`: further
    refusals by node, which count after those of the node's own filters (SCHED-41).
    """
    evaluations = {} if evaluations is None else evaluations
    relations = relate(pod, snapshot, namespaces, source, profile.arguments)
    offers: dict[str, Offer] = {}
    refusals: dict[Refusal, int] = {}
    zones: dict[str, int] = {}
    names = candidates(pod, snapshot, profile)
    if len(names) < len(snapshot.nodes):
        refusals[node_affinity.NOT_NAMED] = len(snapshot.nodes) - len(names)
    has_more = relations is not None or bool(profile.plugins)
    for name in names:
        facts, load = snapshot.nodes[name], snapshot.load(name)
        evaluation = evaluations.get(name)
        if evaluation is None or evaluation.facts is not facts or evaluation.load is not load:
            evaluation = evaluations[name] = _evaluate(profile, pod.needs, facts, load, evaluation)
        verdict = _offer(profile, pod, facts, load, evaluation)
        if refused and isinstance(verdict, Offer):
            verdict = refused.get(name) or verdict
        if has_more and isinstance(verdict, Offer):
            verdict = _reject(profile, pod, relations, facts, load) or verdict
        if isinstance(verdict, Refusal):
            refusals[verdict] = refusals.get(verdict, 0) + 1
        else:
            offers[name] = verdict
        if evaluation.counts:
            zones[facts.zone] = zones.get(facts.zone, 0) + load.siblings.get(pod.owner, 0)
    return Survey(offers, refusals, _crowd(pod, snapshot, zones), relations)


def _crowd(pod: PodInfo, snapshot: Snapshot, zones: Mapping[str, int]) -> Crowd:
    return Crowd(zones, len(pod.needs.images), snapshot.images, len(snapshot.nodes))


def choose(
    pod: PodInfo,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any] = NO_NAMESPACES,
    source: Source = PLAIN,
    evaluations: dict[str, _Evaluation] | None = None,
    profile: Profile = DEFAULT_PROFILE,
    refused: Mapping[str, Refusal] = NO_REFUSALS,
) -> tuple[str | None, dict[Refusal, int]]:
    """SCHED-16: the best node, or None with the number of nodes for each refusal. O(nodes), and the
    time of `source`. The arguments are those of `survey`."""
    found = survey(pod, snapshot, namespaces, source, evaluations, profile, refused)
    if not found.offers:
        return None, found.refusals
    best = min(
        (-points, found.offers[name].pods, name)
        for name, points in total_points(pod, snapshot, found, profile).items()
    )
    return best[2], found.refusals


def total_points(
    pod: PodInfo, snapshot: Snapshot, found: Survey, profile: Profile
) -> dict[str, int]:
    """The weighted sum of all scores, for each node that can run the pod. O(those nodes)."""
    relative = relative_points(profile.weights, sizes_of(found.offers), found.crowd)
    total = {name: offer.local + relative[offer.raw] for name, offer in found.offers.items()}
    if found.relations is not None:
        nodes = {name: snapshot.nodes[name] for name in found.offers}
        for name, points in related_points(profile.weights, found.relations, nodes).items():
            total[name] += points
    for plugin in profile.plugins:
        if weight := profile.weights.get(plugin.name):
            for name, points in plugin_points(plugin, pod, snapshot, found).items():
                total[name] += weight * points
    return total


def sizes_of(offers: Mapping[str, Offer]) -> dict[Raw, int]:
    """The number of nodes of each kind."""
    sizes: dict[Raw, int] = {}
    for offer in offers.values():
        sizes[offer.raw] = sizes.get(offer.raw, 0) + 1
    return sizes


def plugin_points(
    plugin: Plugin, pod: PodInfo, snapshot: Snapshot, found: Survey
) -> dict[str, int]:
    """The points of a plugin of another package, for each node that can run the pod."""
    nodes = {name: (snapshot.nodes[name], snapshot.load(name)) for name in found.offers}
    return points_of(plugin, pod, nodes)


def candidates(pod: PodInfo, snapshot: Snapshot, profile: Profile = DEFAULT_PROFILE) -> list[str]:
    """The nodes to evaluate, by name: all, or only those that the pod names."""
    names = pod.needs.node_names
    return (
        sorted(snapshot.nodes)
        if names is None or "NodeAffinity" not in profile.filters
        else [name for name in names if name in snapshot.nodes]
    )


class _Group:
    """Nodes with equal raw numbers, in a heap by local points. Outdated entries are removed when
    they become the first."""

    __slots__ = ("heap", "size")

    def __init__(self) -> None:
        # (-local points, pods, name, number of the row)
        self.heap: list[tuple[int, int, str, int]] = []
        self.size = 0


class _Row:
    """The result of one node in a ranking."""

    __slots__ = ("counted", "facts", "load", "number", "verdict")

    def __init__(
        self, facts: NodeFacts, load: Load, verdict: Offer | Refusal, number: int, counted: int
    ) -> None:
        self.facts, self.load, self.verdict, self.number, self.counted = (
            facts,
            load,
            verdict,
            number,
            counted,
        )


class Ranking:
    """SCHED-17: the cached results of all nodes for one kind of pod (needs and owner)."""

    def __init__(
        self,
        pod: PodInfo,
        evaluations: dict[str, _Evaluation],
        profile: Profile = DEFAULT_PROFILE,
    ) -> None:
        self._pod = pod
        self._profile = profile
        self._evaluations = evaluations  # shared by all kinds with these needs
        self._rows: dict[str, _Row] = {}
        self._groups: dict[Raw, _Group] = {}
        self._refusals: dict[Refusal, int] = {}
        self._zones: dict[str, int] = {}  # siblings by zone
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
            _crowd(self._pod, snapshot, self._zones),
        )
        best: Rank | None = None
        for raw, group in self._groups.items():
            local, pods, name = self._first(group)
            rank = (local - relative[raw], pods, name)
            if best is None or rank < best:
                best = rank
        return (best[2] if best else None), self._refusals

    def refusing(self, snapshot: Snapshot) -> dict[str, Refusal]:
        """The refusals by node. O(nodes)."""
        self._catch_up(snapshot)
        return {
            name: row.verdict
            for name, row in self._rows.items()
            if isinstance(row.verdict, Refusal)
        }

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
            evaluation = self._evaluations[name] = _evaluate(
                self._profile, self._pod.needs, facts, load, evaluation
            )
        verdict = _offer(self._profile, self._pod, facts, load, evaluation)
        counted = load.siblings.get(self._pod.owner, 0) if evaluation.counts else 0
        if counted:
            self._zones[facts.zone] = self._zones.get(facts.zone, 0) + counted
        self._number += 1
        self._rows[name] = _Row(facts, load, verdict, self._number, counted)
        if isinstance(verdict, Refusal):
            self._refusals[verdict] = self._refusals.get(verdict, 0) + 1
            return
        group = self._groups.get(verdict.raw)
        if group is None:
            group = self._groups[verdict.raw] = _Group()
        group.size += 1
        if len(group.heap) > 2 * group.size + 64:
            group.heap = [entry for entry in group.heap if self._is_current(entry)]
            heapify(group.heap)
        heappush(group.heap, (-verdict.local, verdict.pods, name, self._number))

    def _forget(self, row: _Row) -> None:
        if row.counted:
            self._zones[row.facts.zone] -= row.counted
        if isinstance(row.verdict, Refusal):
            self._refusals[row.verdict] -= 1
            return
        group = self._groups[row.verdict.raw]
        group.size -= 1
        if not group.size:
            del self._groups[row.verdict.raw]

    def _is_current(self, entry: tuple[int, int, str, int]) -> bool:
        row = self._rows.get(entry[2])
        return row is not None and row.number == entry[3]

    def _first(self, group: _Group) -> Rank:
        while not self._is_current(group.heap[0]):
            heappop(group.heap)
        return group.heap[0][:3]


class Chooser:
    """The choice with a cache: a ranking if no other pods matter to the pod, else `choose` with
    cached results.

    The least recently used kinds are dropped.
    """

    def __init__(self, profile: Profile = DEFAULT_PROFILE) -> None:
        self.profile = profile
        self._rankings: dict[tuple[bytes, str], Ranking] = {}
        self._evaluations: dict[bytes, dict[str, _Evaluation]] = {}
        self._relations = Remembered()
        # at that change no node could run pods with these needs
        self._infeasible: dict[bytes, Change] = {}

    def choose(
        self,
        pod: PodInfo,
        snapshot: Snapshot,
        namespaces: Mapping[str, Any] = NO_NAMESPACES,
        refused: Mapping[str, Refusal] = NO_REFUSALS,
    ) -> tuple[str | None, Mapping[Refusal, int]]:
        """The same result as the function `choose`."""
        relations, profile = self._relations, self.profile
        if pod.needs.node_names is not None:  # Few nodes are evaluated anyway.
            return choose(pod, snapshot, namespaces, relations, None, profile, refused)
        if not refused and not self._needs_survey(pod, snapshot, namespaces):
            return self._ranking(pod, snapshot).choose(snapshot)
        evaluations = self._evaluations_of(pod.needs, snapshot)
        return choose(pod, snapshot, namespaces, relations, evaluations, profile, refused)

    def _needs_survey(
        self, pod: PodInfo, snapshot: Snapshot, namespaces: Mapping[str, Any]
    ) -> bool:
        """Whether the result depends on more than each node's own pods and the pod's needs."""
        return bool(self.profile.plugins) or (
            relate(pod, snapshot, namespaces, self._relations, self.profile.arguments) is not None
        )

    def refusing(
        self, pod: PodInfo, snapshot: Snapshot, namespaces: Mapping[str, Any] = NO_NAMESPACES
    ) -> dict[str, Refusal]:
        """The refusals by node, in the order of their names. O(nodes log nodes)."""
        profile = self.profile
        relations = relate(pod, snapshot, namespaces, self._relations, profile.arguments)
        refusing = self._ranking(pod, snapshot).refusing(snapshot)
        if relations is not None or profile.plugins:
            others = {
                name: _reject(profile, pod, relations, facts, snapshot.load(name))
                for name, facts in snapshot.nodes.items()
                if name not in refusing
            }
            refusing |= {name: refusal for name, refusal in others.items() if refusal is not None}
        return {name: refusing[name] for name in sorted(refusing)}

    def has_offer(
        self, pod: PodInfo, snapshot: Snapshot, namespaces: Mapping[str, Any] = NO_NAMESPACES
    ) -> bool:
        """Whether a node can run a pod of this kind. O(changed nodes) if none could before and no
        other pods matter."""
        key = pod.needs.key
        if self._needs_survey(pod, snapshot, namespaces):
            return self.choose(pod, snapshot, namespaces)[0] is not None
        seen = self._infeasible.pop(key, None)
        changed = snapshot.changed_since(seen) if seen is not None else None
        names = changed if changed is not None else candidates(pod, snapshot, self.profile)
        for name in names:
            facts = snapshot.nodes.get(name)
            if (
                facts is not None
                and _evaluate(self.profile, pod.needs, facts, snapshot.load(name)).refusal is None
            ):
                return True
        if snapshot.last_change is not None:
            if len(self._infeasible) >= INFEASIBLE_MAX:
                del self._infeasible[next(iter(self._infeasible))]
            self._infeasible[key] = snapshot.last_change
        return False

    def _ranking(self, pod: PodInfo, snapshot: Snapshot) -> Ranking:
        kind = (pod.needs.key, pod.owner)
        ranking = self._rankings.pop(kind, None)
        if ranking is None:
            ranking = Ranking(pod, self._evaluations_of(pod.needs, snapshot), self.profile)
            _make_room(self._rankings, snapshot)
        self._rankings[kind] = ranking
        return ranking

    def _evaluations_of(self, needs: Needs, snapshot: Snapshot) -> dict[str, _Evaluation]:
        evaluations = self._evaluations.pop(needs.key, None)
        if evaluations is None:
            evaluations = {}
            _make_room(self._evaluations, snapshot)
        self._evaluations[needs.key] = evaluations
        return evaluations


def _make_room(kinds: dict[Any, Any], snapshot: Snapshot) -> None:
    while len(kinds) >= max(KINDS_MIN, ROWS_MAX // max(1, len(snapshot.nodes))):
        del kinds[next(iter(kinds))]
