"""The best node for a pod, with and without cached results. Rules SCHED-16, SCHED-17
(spec/scheduler.md).

`choose` is the definition: it evaluates every node. A `Ranking` gives the same result for pods of
one kind and evaluates only the nodes that have changed since its last use: O(changed nodes) instead
of O(nodes). Dropping it at any time changes only the duration.

    all nodes -> filters -> nodes that can run the pod -> scores -> most points,
    then fewest pods, then first by name (SCHED-29: no random choice)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from refk8s.core.scheduler.budgets import Budgets
from refk8s.core.scheduler.candidates import Candidates
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED, PLUGIN, Claimed
from refk8s.core.scheduler.evaluation import (
    Evaluation,
    Offer,
    crowd_of,
    evaluate,
    offer_of,
    refuse,
    reject,
)
from refk8s.core.scheduler.filters import node_affinity
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.plugin import ScorePlugin, points_of
from refk8s.core.scheduler.preempt import Eviction, Started, preempt
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.ranking import Ranking, RelatedRanking
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import PLAIN, Relations, Remembered, Source, relate
from refk8s.core.scheduler.scores import Crowd, Raw, related_points, relative_points
from refk8s.core.scheduler.snapshot import Change, Group, PodInfo, Snapshot
from refk8s.core.value import Value

# limits of the cache: results for (kind, node) at most, and kinds at least
ROWS_MAX, KINDS_MIN = 200_000, 16
INFEASIBLE_MAX = 50_000  # cached kinds that no node can run

NO_NAMESPACES: Mapping[str, Any] = {}


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
    evaluations: dict[str, Evaluation] | None = None,
    profile: Profile = DEFAULT_PROFILE,
    claimed: Claimed = NOTHING_CLAIMED,
) -> Survey:
    """Evaluate every node. O(nodes), and the time of `source`.

    `evaluations`: earlier results for pods with the same needs; it is updated. `claimed`: the
    claims of the pod, whose refusals count after those of the node's own filters (SCHED-41).
    """
    evaluations = {} if evaluations is None else evaluations
    relations = relate(pod, snapshot, namespaces, source, profile.arguments)
    offers: dict[str, Offer] = {}
    refusals: dict[Refusal, int] = {}
    zones: dict[str, int] = {}
    names = candidates(pod, snapshot, profile)
    if len(names) < len(snapshot.nodes):
        refusals[node_affinity.NOT_NAMED] = len(snapshot.nodes) - len(names)
    has_more, has_claims = relations is not None or bool(profile.plugins.filter), bool(claimed)
    for name in names:
        facts, load = snapshot.nodes[name], snapshot.load(name)
        evaluation = evaluations.get(name)
        if evaluation is None or evaluation.facts is not facts or evaluation.load is not load:
            evaluation = evaluations[name] = evaluate(profile, pod.needs, facts, load, evaluation)
        verdict = offer_of(profile, pod, facts, load, evaluation)
        if has_claims and isinstance(verdict, Offer):
            verdict = claimed.early(name) or verdict
        if has_more and isinstance(verdict, Offer):
            verdict = reject(profile, pod, relations, facts, load) or verdict
        if has_claims and isinstance(verdict, Offer):
            verdict = claimed.late(name) or verdict
        if isinstance(verdict, Refusal):
            refusals[verdict] = refusals.get(verdict, 0) + 1
        else:
            offers[name] = verdict
        if evaluation.counts and pod.group is not None:
            zones[facts.zone] = zones.get(facts.zone, 0) + pod.group.count(load)
    return Survey(offers, refusals, crowd_of(pod, snapshot, zones), relations)


def choose(
    pod: PodInfo,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any] = NO_NAMESPACES,
    source: Source = PLAIN,
    evaluations: dict[str, Evaluation] | None = None,
    profile: Profile = DEFAULT_PROFILE,
    claimed: Claimed = NOTHING_CLAIMED,
) -> tuple[str | None, dict[Refusal, int]]:
    """SCHED-16: the best node, or None with the number of nodes for each refusal. O(nodes), and the
    time of `source`. The arguments are those of `survey`."""
    found = survey(pod, snapshot, namespaces, source, evaluations, profile, claimed)
    if not found.offers:
        return None, found.refusals
    best = min(
        (-points, found.offers[name].pods, name)
        for name, points in total_points(pod, snapshot, found, profile, claimed).items()
    )
    return best[2], found.refusals


def total_points(
    pod: PodInfo,
    snapshot: Snapshot,
    found: Survey,
    profile: Profile,
    claimed: Claimed = NOTHING_CLAIMED,
) -> dict[str, int]:
    """The weighted sum of all scores, for each node that can run the pod. O(those nodes)."""
    relative = relative_points(profile.weights, sizes_of(found.offers), found.crowd)
    total = {name: offer.local + relative[offer.raw] for name, offer in found.offers.items()}
    if found.relations is not None:
        nodes = {name: snapshot.nodes[name] for name in found.offers}
        for name, points in related_points(profile.weights, found.relations, nodes).items():
            total[name] += points
    for plugin in profile.plugins.score:
        if weight := profile.weights.get(plugin.name):
            for name, points in plugin_points(plugin, pod, snapshot, found).items():
                total[name] += weight * points
    if claimed and (weight := profile.weights.get(PLUGIN)):
        for name, points in claimed.points(found.offers).items():
            total[name] += weight * points
    return total


def sizes_of(offers: Mapping[str, Offer]) -> dict[Raw, int]:
    """The number of nodes of each kind."""
    sizes: dict[Raw, int] = {}
    for offer in offers.values():
        sizes[offer.raw] = sizes.get(offer.raw, 0) + 1
    return sizes


def plugin_points(
    plugin: ScorePlugin, pod: PodInfo, snapshot: Snapshot, found: Survey
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


class Chooser:
    """The choice with a cache: a ranking if no other pods matter to the pod, else `choose` with
    cached results.

    The least recently used kinds are dropped.
    """

    def __init__(self, profile: Profile = DEFAULT_PROFILE) -> None:
        self.profile = profile
        self._rankings: dict[tuple[bytes, Group | None], Ranking] = {}
        self._related: dict[tuple[Any, ...], RelatedRanking] = {}
        self._candidates: dict[tuple[bytes, int], Candidates] = {}
        self._evaluations: dict[bytes, dict[str, Evaluation]] = {}
        self._relations = Remembered()
        # at that change no node could run pods with these needs
        self._infeasible: dict[bytes, Change] = {}

    def choose(
        self,
        pod: PodInfo,
        snapshot: Snapshot,
        namespaces: Mapping[str, Any] = NO_NAMESPACES,
        claimed: Claimed = NOTHING_CLAIMED,
    ) -> tuple[str | None, Mapping[Refusal, int]]:
        """The same result as the function `choose`."""
        relations, profile = self._relations, self.profile
        if pod.needs.node_names is not None:  # Few nodes are evaluated anyway.
            return choose(pod, snapshot, namespaces, relations, None, profile, claimed)
        if not claimed and not profile.plugins.decides:
            related = self._relate(pod, snapshot, namespaces)
            if related is None:
                return self._ranking(pod, snapshot).choose(snapshot)
            best = self._related_ranking(pod, snapshot).choose_among(snapshot, related)
            if best is not None:
                return best, {}
        evaluations = self._evaluations_of(pod.needs, snapshot)
        return choose(pod, snapshot, namespaces, relations, evaluations, profile, claimed)

    def survey(
        self,
        pod: PodInfo,
        snapshot: Snapshot,
        namespaces: Mapping[str, Any] = NO_NAMESPACES,
        claimed: Claimed = NOTHING_CLAIMED,
    ) -> Survey:
        """The same result as the function `survey`. O(nodes)."""
        evaluations = self._evaluations_of(pod.needs, snapshot)
        source, profile = self._relations, self.profile
        return survey(pod, snapshot, namespaces, source, evaluations, profile, claimed)

    def _relate(
        self, pod: PodInfo, snapshot: Snapshot, namespaces: Mapping[str, Any]
    ) -> Relations | None:
        arguments = self.profile.arguments
        if (
            pod.inter_pod is None
            and not len(snapshot.bound)
            and not (pod.group is not None and arguments.default_constraints)
        ):
            return None
        return relate(pod, snapshot, namespaces, self._relations, arguments)

    def refusing(
        self,
        pod: PodInfo,
        snapshot: Snapshot,
        namespaces: Mapping[str, Any] = NO_NAMESPACES,
        claimed: Claimed = NOTHING_CLAIMED,
    ) -> Iterator[tuple[str, Refusal]]:
        """The refusals by node, in the order of their names. O(changed nodes) and the nodes that
        are read."""
        profile = self.profile
        relations = self._relate(pod, snapshot, namespaces)
        for name, refusal in self._ranking(pod, snapshot).refusing(snapshot):
            if refusal is None:
                refusal = claimed.early(name)
            if refusal is None and (relations is not None or profile.plugins.filter):
                facts, load = snapshot.nodes[name], snapshot.load(name)
                refusal = reject(profile, pod, relations, facts, load)
            if refusal is None:
                refusal = claimed.late(name)
            if refusal is not None:
                yield name, refusal

    def has_offer(
        self, pod: PodInfo, snapshot: Snapshot, namespaces: Mapping[str, Any] = NO_NAMESPACES
    ) -> bool:
        """Whether a node can run a pod of this kind. O(changed nodes) if none could before and no
        other pods matter."""
        key = pod.needs.key
        related = self._relate(pod, snapshot, namespaces)
        if self.profile.plugins.decides or related is not None:
            return self.choose(pod, snapshot, namespaces)[0] is not None
        seen = self._infeasible.pop(key, None)
        changed = snapshot.changed_since(seen) if seen is not None else None
        names = changed if changed is not None else candidates(pod, snapshot, self.profile)
        for name in names:
            facts = snapshot.nodes.get(name)
            if (
                facts is not None
                and refuse(self.profile, pod.needs, facts, snapshot.load(name)) is None
            ):
                return True
        if snapshot.last_change is not None:
            if len(self._infeasible) >= INFEASIBLE_MAX:
                del self._infeasible[next(iter(self._infeasible))]
            self._infeasible[key] = snapshot.last_change
        return False

    def _ranking(self, pod: PodInfo, snapshot: Snapshot) -> Ranking:
        kind = (pod.needs.key, pod.group)
        ranking = self._rankings.pop(kind, None)
        if ranking is None:
            ranking = Ranking(pod, self._evaluations_of(pod.needs, snapshot), self.profile)
            _make_room(self._rankings, snapshot)
        self._rankings[kind] = ranking
        return ranking

    def preempt(
        self,
        pod: PodInfo,
        snapshot: Snapshot,
        namespaces: Mapping[str, Any],
        started: Started,
        starts: Change | None,
        budgets: Budgets = (),
        claimed: Claimed = NOTHING_CLAIMED,
    ) -> tuple[Eviction | None, dict[str, int]]:
        """The same result as the function `preempt`, from cached results if other pods, claims and
        budgets do not matter. `starts`: the last change of a start time."""
        profile = self.profile
        if (
            claimed
            or budgets
            or profile.plugins.decides
            or pod.needs.node_names is not None
            or self._relate(pod, snapshot, namespaces) is not None
        ):
            refusing = self.refusing(pod, snapshot, namespaces, claimed)
            return preempt(pod, refusing, snapshot, namespaces, started, budgets, profile, claimed)
        kind = (pod.needs.key, pod.priority)
        candidates = self._candidates.pop(kind, None)
        if candidates is None:
            candidates = Candidates()
            _make_room(self._candidates, snapshot)
        self._candidates[kind] = candidates
        ranking = self._ranking(pod, snapshot)
        names = ranking.names(snapshot)
        return candidates.best(pod, names, ranking.refusal, snapshot, started, starts, profile)

    def _related_ranking(self, pod: PodInfo, snapshot: Snapshot) -> RelatedRanking:
        kind = (pod.needs.key, pod.group, pod.namespace, tuple(sorted(pod.labels.items())))
        ranking = self._related.pop(kind, None)
        if ranking is None:
            evaluations = self._evaluations_of(pod.needs, snapshot)
            ranking = RelatedRanking(pod, evaluations, self.profile)
            _make_room(self._related, snapshot)
        self._related[kind] = ranking
        return ranking

    def _evaluations_of(self, needs: Needs, snapshot: Snapshot) -> dict[str, Evaluation]:
        evaluations = self._evaluations.pop(needs.key, None)
        if evaluations is None:
            evaluations = {}
            _make_room(self._evaluations, snapshot)
        self._evaluations[needs.key] = evaluations
        return evaluations


def _make_room(kinds: dict[Any, Any], snapshot: Snapshot) -> None:
    while len(kinds) >= max(KINDS_MIN, ROWS_MAX // max(1, len(snapshot.nodes))):
        del kinds[next(iter(kinds))]
