"""Pods of one group are spread over nodes and zones. Rules SCHED-27, SCHED-33 (spec/scheduler.md).

Every pod with a group (spreading.py) has two constraints by default: over nodes with a skew of 3
and over zones with a skew of 5, both only as a preference. A pod with its own constraints has those
instead. Source: Kubernetes documentation, "Pod Topology Spread Constraints" (and built-in default
constraints).
"""

from collections.abc import Collection, Mapping
from math import floor, log
from typing import TypeVar

from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts

HOSTNAME_SKEW, ZONE_SKEW = 3, 5

P = TypeVar("P")
# siblings on the node (None: not spread), zone, whether the node has a host name
Place = tuple[int | None, str, bool]


def points(places: Collection[Place], nodes: int, zones: Mapping[str, int]) -> dict[Place, int]:
    """SCHED-27: 0 to 100 for each kind of node, more with fewer siblings on the node and in the
    zone; 0 for all if the pod is not spread.

    `nodes`: the number of nodes that can run the pod. The weight of a sibling grows with the number
    of domains, so that zones and nodes are comparable.
    """
    per_node, per_zone = _weight(nodes), _weight(len({zone for _, zone, _ in places}))
    crowds: dict[Place, int] = {}
    for place in places:
        siblings, zone, has_hostname = place
        if siblings is None:
            return dict.fromkeys(places, 0)
        crowd = siblings * per_node + HOSTNAME_SKEW - 1 if has_hostname else 0.0
        crowd += zones.get(zone, 0) * per_zone + ZONE_SKEW - 1 if zone else 0.0
        crowds[place] = _round(crowd)
    return _normalize(crowds)


def stated_points(relations: Relations, nodes: Mapping[P, NodeFacts]) -> dict[P, int]:
    """SCHED-33: the same for the pod's own soft constraints; a node without the labels gets 0."""
    if not relations.soft:
        return dict.fromkeys(nodes, 0)
    complete = {
        name: facts
        for name, facts in nodes.items()
        if all(each.topology_key in facts.labels for each, _ in relations.soft)
    }
    crowds = dict.fromkeys(complete, 0.0)
    for constraint, counts in relations.soft:
        domains = {name: facts.labels[constraint.topology_key] for name, facts in complete.items()}
        weight = _weight(len(set(domains.values())))
        for name, domain in domains.items():
            crowds[name] += counts.get(domain, 0) * weight + constraint.max_skew - 1
    return dict.fromkeys(nodes, 0) | (
        _normalize({name: _round(crowd) for name, crowd in crowds.items()}) if crowds else {}
    )


def _weight(domains: int) -> float:
    return log(domains + 2)


def _round(crowd: float) -> int:
    return floor(crowd + 0.5)


def _normalize(crowds: Mapping[P, int]) -> dict[P, int]:
    most, least = max(crowds.values()), min(crowds.values())
    return {
        place: 100 * (most + least - crowd) // most if most else 100
        for place, crowd in crowds.items()
    }
