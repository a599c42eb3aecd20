"""Which endpoint a new connection gets where no kernel picks: the same choice in plain Python.
Rules NET-5, NET-7, NET-20.

The caller draws the number; the memory of affinity is a value that goes in and comes out.
"""

from collections.abc import Iterable

from immutables import Map

from refk8s.core.context import SECOND, Instant
from refk8s.core.network.fronts import Front, front_of
from refk8s.core.ports import Rule, Target
from refk8s.core.value import Value, field

HELD_MAX = 65_536  # clients that are remembered


class Held(Value, frozen=True, eq=False):
    """Which target each client of a front has, and until when."""

    entries: Map[tuple[Front, str], tuple[Target, Instant]] = field(default_factory=Map)


NOBODY_HELD = Held()


def targets_for(rule: Rule, within: bool) -> tuple[Target, ...]:
    """Who may answer a client from within the node, or from elsewhere (NET-7)."""
    return rule.inside if rule.local and within else rule.targets


def pick(
    rule: Rule, client: str, within: bool, number: int, held: Held, now: Instant
) -> tuple[Target | None, Held]:
    """The target of a new connection; None where it is to be refused. `number` is any whole number,
    each as likely. O(targets)."""
    targets = targets_for(rule, within)
    if not targets:
        return None, held
    if not rule.affinity_seconds:
        return targets[number % len(targets)], held
    key = front_of(rule), client
    entry = held.entries.get(key)
    if entry is not None and entry[1] > now and entry[0] in targets:
        target = entry[0]
    else:
        target = targets[number % len(targets)]
    return target, hold(held, key, target, now + rule.affinity_seconds * SECOND, now)


def hold(held: Held, key: tuple[Front, str], target: Target, until: Instant, now: Instant) -> Held:
    """Remember; when there are too many, first forget whose time is over, and then everybody."""
    entries = held.entries
    if len(entries) >= HELD_MAX and key not in entries:
        entries = Map({known: entry for known, entry in entries.items() if entry[1] > now})
        if len(entries) >= HELD_MAX:
            entries = Map()
    return Held(entries.set(key, (target, until)))


def order_of_trying(rule: Rule, within: bool, first: Target) -> Iterable[Target]:
    """The target picked, then the others: who does not answer is passed over."""
    targets = targets_for(rule, within)
    at = targets.index(first)
    return (*targets[at:], *targets[:at])
