"""Preemption: which pods of lower priority are deleted so that a node can run a pod. Rules SCHED-35
to SCHED-38 (spec/scheduler.md).

    nodes that reject the pod, where deletions could help
      -> remove all pods of lower priority: does the pod fit?
      -> spare pods while it still fits; the others are the victims
      -> choose the node with the least important victims

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from refk8s.core.scheduler.budgets import Budgets, find_protected
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED, Claimed
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.reasons import NO_VICTIMS, UNHELPFUL, Refusal
from refk8s.core.scheduler.snapshot import Load, PodInfo, Snapshot
from refk8s.core.value import Value

PRIORITY_OFFSET = 2**31  # makes every priority count in a sum
RUNNING_SINCE_NOW = "~"  # sorts after every time

Started = Callable[[PodInfo], str]
"""When a pod started, as RFC 3339 text; RUNNING_SINCE_NOW if it has not."""


class Eviction(Value, frozen=True, eq=False):
    """A node and the victims there, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int  # how many of them a budget protects
    rank: tuple[Any, ...] = ()  # a sorting key, the best node first (SCHED-36, SCHED-38)


def preempt(
    pod: PodInfo,
    refusing: Iterable[tuple[str, Refusal]],
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets = (),
    profile: Profile = DEFAULT_PROFILE,
    claimed: Claimed = NOTHING_CLAIMED,
) -> tuple[Eviction | None, dict[str, int]]:
    """SCHED-35, SCHED-36: the node with the least important victims, or None with the number of
    nodes for each reason.

    `refusing`: the refusal of each node, in the order of their names. `claimed`: the claims of the
    pod.
    O(candidates · pods of a node).
    """
    counts = {UNHELPFUL: 0, NO_VICTIMS: 0}
    best: Eviction | None = None
    tried = evictions(pod, refusing, snapshot, namespaces, started, budgets, profile, claimed)
    for found in tried:
        if isinstance(found, Eviction):
            best = found if best is None or found.rank < best.rank else best
        else:
            for message in found:
                counts[message] = counts.get(message, 0) + 1
    return best, counts


def candidates_max(profile: Profile, nodes: int) -> int:
    """SCHED-36: how many nodes with victims are compared, at least one. `nodes`: of the cluster."""
    arguments = profile.arguments
    return max(1, arguments.candidates_min, nodes * arguments.candidates_percent // 100)


def evictions(
    pod: PodInfo,
    refusing: Iterable[tuple[str, Refusal]],
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets,
    profile: Profile,
    claimed: Claimed,
) -> Iterator[Eviction | tuple[str, ...]]:
    """The victims on each node that is tried, or why deleting pods there does not help. The
    arguments are those of `preempt`."""
    tries = candidates_max(profile, len(snapshot.nodes))
    has_harmless = False  # one without violations of a budget
    for name, refusal in refusing:
        found = victims_on(
            pod, name, refusal, snapshot, namespaces, started, budgets, profile, claimed
        )
        yield found
        if isinstance(found, Eviction):
            tries -= 1
            has_harmless = has_harmless or not found.violations
            # SCHED-38: a later node may have victims without violating a budget
            if tries <= 0 and has_harmless:
                return


def victims_on(
    pod: PodInfo,
    name: str,
    refusal: Refusal,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets,
    profile: Profile,
    claimed: Claimed = NOTHING_CLAIMED,
) -> Eviction | tuple[str, ...]:
    """The victims on a node that rejects the pod, or why deleting pods there does not help."""
    if not refusal.resolvable:
        return (UNHELPFUL,)
    found = _victims(pod, name, snapshot, namespaces, started, budgets, profile, claimed)
    if isinstance(found, Eviction) and not found.victims:
        return (f'expected at least one victim pod on node "{name}"',)
    return found


def _victims(
    pod: PodInfo,
    name: str,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets,
    profile: Profile,
    claimed: Claimed,
) -> Eviction | tuple[str, ...]:
    """SCHED-35: the fewest victims on this node, or why deleting pods there does not help."""
    load = snapshot.load(name)
    lesser = sorted(
        (other for other in load.pods.values() if other.priority < pod.priority),
        key=lambda other: _importance(other, started),
    )
    if not lesser:
        return (NO_VICTIMS,)
    for other in lesser:
        load = load.minus(other)

    def refusal_with(load: Load) -> Refusal | None:
        found = judge(pod, name, snapshot.with_load(name, load), namespaces, profile)
        return claimed.refusal_with(name, load) if found is None and claimed else found

    refusal = refusal_with(load)
    if refusal is not None:
        return refusal.messages
    protected = find_protected(lesser, budgets) if budgets else frozenset()
    spared = set()
    # Protected pods are spared first (SCHED-38), the more important ones before the others.
    for other in (
        sorted(lesser, key=lambda other: other.uid not in protected) if protected else lesser
    ):
        with_other = load.plus(other)
        if refusal_with(with_other) is None:
            load = with_other
            spared.add(other.uid)
    victims = tuple([other for other in lesser if other.uid not in spared])
    violations = sum(victim.uid in protected for victim in victims)
    return Eviction(name, victims, violations, rank_of(name, victims, violations, started))


def _importance(pod: PodInfo, started: Started) -> tuple[int, str, str]:
    """A sorting key, the most important pod first: higher priority, then longer running."""
    return -pod.priority, started(pod), pod.uid


def rank_of(
    node: str, victims: tuple[PodInfo, ...], violations: int, started: Started
) -> tuple[Any, ...]:
    """A sorting key, the best node first (SCHED-36, SCHED-38)."""
    if not victims:
        return ()
    highest = max(victim.priority for victim in victims)
    oldest = min(started(victim) for victim in victims if victim.priority == highest)
    total = sum(victim.priority + PRIORITY_OFFSET for victim in victims)
    # A later start is better, so the order of the text is reversed.
    late = tuple([-ord(letter) for letter in oldest])
    return violations, highest, total, len(victims), late, node
