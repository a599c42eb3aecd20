"""The choice of an endpoint in the user-space proxy, the same as the kernel's. Rules NET-5, NET-7,
NET-20 (spec/network.md).

The caller chooses the random number, and passes the affinity entries in and gets them back.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from immutables import Map

from refk8s.core.context import SECOND, Instant
from refk8s.core.network.fronts import Front, front_of
from refk8s.core.ports import Rule, Target
from refk8s.core.value import Value, field

HELD_MAX = 65_536  # affinity entries


class Held(Value, frozen=True, eq=False):
    """Affinity: the target of each client of a front, and until when."""

    entries: Map[tuple[Front, str], tuple[Target, Instant]] = field(default_factory=Map)


NONE_HELD = Held()


def targets_for(rule: Rule, within: bool) -> tuple[Target, ...]:
    """The targets for a client on the node (`within`) or outside (NET-7)."""
    return rule.inside if rule.local and within else rule.targets


def may_use(rule: Rule, client: str) -> bool:
    """Whether this address may use the front of the rule (NET-21). O(ranges)."""
    return not rule.restricted or any(
        ip_address(client) in ip_network(source) for source in rule.sources
    )


def pick(
    rule: Rule, client: str, within: bool, number: int, held: Held, now: Instant
) -> tuple[Target | None, Held]:
    """The target of a new connection; None if the connection is rejected. `number` is a uniformly
    distributed whole number. O(targets)."""
    targets = targets_for(rule, within)
    if not targets or not may_use(rule, client):
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
    """Add an entry. If there are too many, expired ones are removed, and else all."""
    entries = held.entries
    if len(entries) >= HELD_MAX and key not in entries:
        entries = Map({known: entry for known, entry in entries.items() if entry[1] > now})
        if len(entries) >= HELD_MAX:
            entries = Map()
    return Held(entries.set(key, (target, until)))


def order_of_trying(rule: Rule, within: bool, first: Target) -> Iterable[Target]:
    """The chosen target, then the others, which are tried if it does not accept (NET-20)."""
    targets = targets_for(rule, within)
    at = targets.index(first)
    return (*targets[at:], *targets[:at])
