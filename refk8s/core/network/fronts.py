"""Which service has which front: an address, protocol and port to which clients send. Rule NET-9
(spec/network.md).

Two services may have the same external address and port. The front belongs to the service that is
first by `namespace/name`, so every node and every restart computes the same. When that service is
deleted, the front belongs to the other.
"""

from collections.abc import Mapping
from typing import TypeAlias

from immutables import Map

from refk8s.core.ports import Rule, RuleSet
from refk8s.core.value import Value, field

Front: TypeAlias = tuple[str, str, int]
"""(address, protocol, port); the address of a node port is that of `NODE_PORTS`."""


def front_of(rule: Rule) -> Front:
    return rule.address, rule.protocol, rule.port


class Fronts(Value, frozen=True, eq=False):
    """The rule of every front, and the services that claim it, first by name. `services`: the rules
    from which this was computed."""

    services: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    rules: Map[Front, Rule] = field(default_factory=Map)
    claims: Map[Front, tuple[str, ...]] = field(default_factory=Map)


NO_FRONTS = Fronts()


def change_fronts(fronts: Fronts, rule_set: RuleSet) -> tuple[Fronts, list[Front]]:
    """The fronts of this set, and those whose rule changed. O(services) comparisons by identity,
    then O(changed)."""
    before, after = fronts.services, rule_set.services
    changed = [
        key
        for key, rules in after.items()
        if (old := before.get(key)) is not rules and old != rules
    ]
    if len(before) + len(changed) > len(after):  # else no service was removed
        changed += [key for key in before if key not in after]
    touched: dict[Front, None] = {}
    claims = fronts.claims.mutate()
    for key in sorted(changed):
        for rule in before.get(key, ()):
            front = front_of(rule)
            touched[front] = None
            claims[front] = tuple(claimant for claimant in claims[front] if claimant != key)
        for rule in after.get(key, ()):
            front = front_of(rule)
            touched[front] = None
            others = claims.get(front)
            claims[front] = tuple(sorted((key, *others))) if others else (key,)
    rules = fronts.rules.mutate()
    differing = []
    for front in touched:
        if claimants := claims[front]:
            rule = next(rule for rule in after[claimants[0]] if front_of(rule) == front)
            if rules.get(front) != rule:
                rules[front] = rule
                differing.append(front)
        else:
            del claims[front]
            if front in rules:
                del rules[front]
                differing.append(front)
    return Fronts(after, rules.finish(), claims.finish()), differing
