"""Preemption: which less important pods must go, so that a pod that fits nowhere fits somewhere.
Rules SCHED-35 to SCHED-38.

    nodes that could be cured --all less important pods gone: fits?--> take back whom it still fits
    with --> victims --> the least harm

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from collections.abc import Callable, Mapping
from typing import Any

from refk8s.core.scheduler.budgets import Budgets, find_protected
from refk8s.core.scheduler.placement import judge
from refk8s.core.scheduler.reasons import NO_VICTIMS, UNHELPFUL, Refusal
from refk8s.core.scheduler.snapshot import PodInfo, Snapshot
from refk8s.core.value import Value

# how many nodes are tried at most: the greater of the two
CANDIDATES_MIN, CANDIDATES_PERCENT = 100, 10
PRIORITY_OFFSET = 2**31  # makes every priority count in a sum
RUNNING_SINCE_NOW = "~"  # sorts after every time

Started = Callable[[PodInfo], str]
"""When a pod started, as RFC 3339 text; RUNNING_SINCE_NOW where it has not."""


class Nomination(Value, frozen=True, eq=False):
    """A pod that waits for its victims to leave. Until it has its node, no pod of its priority or
    less takes the room (SCHED-37)."""

    pod: PodInfo
    node: str
    victims: tuple[PodInfo, ...] = ()


class Eviction(Value, frozen=True, eq=False):
    """A node, and who would have to leave it, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int  # how many of them a budget protects


def preempt(
    pod: PodInfo,
    refusing: Mapping[str, Refusal],
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets = (),
) -> tuple[Eviction | None, dict[str, int]]:
    """SCHED-35, SCHED-36: the eviction that does the least harm, or None with how many nodes are
    not to be had for what reason.

    `refusing` says why each node refuses the pod, in the order of their names. O(candidates · pods
    of a node).
    """
    counts = {UNHELPFUL: 0, NO_VICTIMS: 0}
    tries = max(CANDIDATES_MIN, len(snapshot.nodes) * CANDIDATES_PERCENT // 100)
    best: Eviction | None = None
    for name, refusal in refusing.items():
        if not refusal.resolvable:
            counts[UNHELPFUL] += 1
            continue
        found = _victims(pod, name, snapshot, namespaces, started, budgets)
        if isinstance(found, Eviction):
            best = (
                found
                if best is None
                else min(best, found, key=lambda eviction: _harm(eviction, started))
            )
            tries -= 1
            # SCHED-38: a node where no budget is broken may come yet
            if tries <= 0 and not best.violations:
                break
        else:
            for message in found:
                counts[message] = counts.get(message, 0) + 1
    return best, counts


def _victims(
    pod: PodInfo,
    name: str,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    started: Started,
    budgets: Budgets,
) -> Eviction | tuple[str, ...]:
    """SCHED-35: the fewest that must leave this node, or why that would not help."""
    load = snapshot.load(name)
    lesser = sorted(
        (other for other in load.pods.values() if other.priority < pod.priority),
        key=lambda other: _importance(other, started),
    )
    if not lesser:
        return (NO_VICTIMS,)
    for other in lesser:
        load = load.minus(other)
    refusal = judge(pod, name, snapshot.with_load(name, load), namespaces)
    if refusal is not None:
        return refusal.messages
    protected = find_protected(lesser, budgets) if budgets else frozenset()
    spared = set()
    # Those whom a budget protects are spared first (SCHED-38), and among them the most important.
    for other in (
        sorted(lesser, key=lambda other: other.uid not in protected) if protected else lesser
    ):
        if judge(pod, name, snapshot.with_load(name, load.plus(other)), namespaces) is None:
            load = load.plus(other)
            spared.add(other.uid)
    victims = tuple([other for other in lesser if other.uid not in spared])
    return Eviction(name, victims, sum(victim.uid in protected for victim in victims))


def _importance(pod: PodInfo, started: Started) -> tuple[int, str, str]:
    """The smaller the more important: the higher priority, then who has run longer."""
    return -pod.priority, started(pod), pod.uid


def _harm(eviction: Eviction, started: Started) -> tuple[int, int, int, int, tuple[int, ...], str]:
    """SCHED-36, SCHED-38: the smaller the better."""
    highest = max(victim.priority for victim in eviction.victims)
    oldest = min(started(victim) for victim in eviction.victims if victim.priority == highest)
    total = sum(victim.priority + PRIORITY_OFFSET for victim in eviction.victims)
    # The later the better, so the text is compared the other way round.
    late = tuple(-ord(letter) for letter in oldest)
    return eviction.violations, highest, total, len(eviction.victims), late, eviction.node


def with_nominated(
    snapshot: Snapshot, nominations: Mapping[str, Nomination], pod: PodInfo
) -> Snapshot:
    """SCHED-37: the snapshot in which those who wait for their victims and are no less important
    than the pod are there already."""
    for key in sorted(nominations):
        nomination = nominations[key]
        load = snapshot.load(nomination.node)
        if (
            nomination.pod.priority >= pod.priority
            and nomination.pod.uid != pod.uid
            and nomination.pod.uid not in load.pods
        ):
            snapshot = snapshot.with_load(nomination.node, load.plus(nomination.pod))
    return snapshot
