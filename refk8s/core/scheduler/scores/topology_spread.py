"""Pods of one owner should be on different nodes and in different zones. Rule SCHED-27 (spec/scheduler.md).

These are the constraints that every pod of a ReplicaSet, ReplicationController or StatefulSet has by default: spread over nodes with a
skew of 3, over zones with a skew of 5, both only as a preference.
Source: Kubernetes documentation, "Pod Topology Spread Constraints" (built-in default constraints).
Left out: pods that only a Service has in common are not spread by default (divergence).
"""

from collections.abc import Iterable, Mapping
from math import floor, log

HOSTNAME_SKEW, ZONE_SKEW = 3, 5

Place = tuple[int | None, str, bool]  # siblings on the node (None: not spread), zone, whether the node has a host name


def points(places: Iterable[Place], nodes: int, zones: Mapping[str, int]) -> dict[Place, int]:
    """SCHED-27: 0 to 100 for each kind of place, the more the fewer siblings are near; 0 for all where the pod is not spread.

    `nodes` is the number of nodes in question. A sibling weighs the more the more domains there are, so that zones and nodes compare.
    """
    per_node = log(nodes + 2)
    per_zone = log(len({zone for _, zone, _ in places}) + 2)
    crowds: dict[Place, int] = {}
    for place in places:
        siblings, zone, has_hostname = place
        if siblings is None:
            crowds[place] = -1
            continue
        crowd = siblings * per_node + HOSTNAME_SKEW - 1 if has_hostname else 0.0
        crowd += zones.get(zone, 0) * per_zone + ZONE_SKEW - 1 if zone else 0.0
        crowds[place] = floor(crowd + 0.5)
    most, least = max(crowds.values()), min(crowds.values())
    if most <= 0:
        return {place: 100 if crowd == 0 else 0 for place, crowd in crowds.items()}
    return {place: 100 * (most + least - crowd) // most for place, crowd in crowds.items()}
