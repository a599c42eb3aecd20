"""Topology aware hints: the endpoints of a Service are divided among the zones in proportion to the
CPUs of their nodes. Rule SLICE-10 (spec/workloads/endpoints.md).

    minimum       the share of a zone / 1.2, so that no endpoint has more than 20 % too much
    first         each endpoint is for its own zone
    then          zones with too many endpoints give some to zones with too few
    unchanged     slices keep their hints, unless the minima of other zones are impossible then

Source: Kubernetes documentation, "Topology Aware Routing"; KEP-2433 "Topology Aware Hints".
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node, Service
from refk8s.core.api.discovery_v1 import Endpoint, EndpointHints, EndpointSlice, ForZone
from refk8s.core.api.quantity import QuantityError, milli_value
from refk8s.core.controllers.node_lifecycle import is_ready_node
from refk8s.core.controllers.slices import Layout, Wanted, identity
from refk8s.core.loop.plan import Note
from refk8s.core.value import Value

ZONE = "topology.kubernetes.io/zone"
EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
OVERLOAD_MAX = 0.2

NO_ZONE = "One or more endpoints do not have a zone specified"
NO_NODE_INFO = (
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
)
TOO_FEW = "Insufficient number of endpoints"
TOO_UNEVEN = (
    "Unable to allocate minimum required endpoints to each zone without exceeding "
    "overload threshold"
)
ENABLED = "Topology Aware Hints has been enabled"

ZoneCpus = Mapping[str, int]
"""The allocatable CPUs of each zone, in thousandths."""


class Share(Value, frozen=True):
    """How many endpoints a zone gets: at least, at most, and in proportion."""

    minimum: int
    maximum: int
    desired: float


def node_facts(node: Node | None) -> tuple[str, int] | None:
    """The zone and CPUs of a node as far as they count; None for a node that is not ready or of the
    control plane."""
    if node is None or not is_ready_node(node):
        return None
    labels = node.metadata.labels or {}
    if any(label in labels for label in EXCLUDED):
        return None
    allocatable = node.status.allocatable or {}
    try:
        cpus = milli_value(allocatable.get("cpu", "0"))
    except QuantityError:
        cpus = 0
    return labels.get(ZONE, ""), max(cpus, 0)


def compute_cpus(nodes: Iterable[Node]) -> ZoneCpus:
    """The CPUs of each zone. Empty if a node has no zone or no CPUs, or if there is one zone.
    O(nodes)."""
    found: dict[str, int] = {}
    for node in nodes:
        facts = node_facts(node)
        if facts is None:
            continue
        zone, cpus = facts
        if not zone or not cpus:
            return {}
        found[zone] = found.get(zone, 0) + cpus
    return found if len(found) > 1 else {}


def compute_shares(cpus: ZoneCpus, count: int) -> tuple[dict[str, Share], str]:
    """The share of each zone in so many ready endpoints, or why there are none."""
    if not cpus:
        return {}, NO_NODE_INFO
    if len(cpus) > count:
        return {}, f"{TOO_FEW} ({count} endpoints, {len(cpus)} zones)"
    total = sum(cpus.values())
    desired = {zone: cpus[zone] / total * count for zone in sorted(cpus)}
    minimum = {zone: math.ceil(much * (1 / (1 + OVERLOAD_MAX))) for zone, much in desired.items()}
    spare = count - sum(minimum.values())
    if spare < 0:
        return {}, f"{TOO_UNEVEN} ({count} endpoints, {len(cpus)} zones)"
    return {
        zone: Share(least, least + spare, max(desired[zone], float(least)))
        for zone, least in minimum.items()
    }, ""


def with_old_hints(wanted: Wanted, slices: Iterable[EndpointSlice]) -> Wanted:
    """The endpoints with the hints that they have in these slices, so that a slice in which nothing
    else changes counts as unchanged."""
    known = {
        identity(endpoint): endpoint.hints for slice in slices for endpoint in slice.endpoints or ()
    }
    return {
        ports: [
            replace(one, hints=known.get(identity(one))) if _is_ready(one) else one
            for one in endpoints
        ]
        for ports, endpoints in wanted.items()
    }


def add_hints_of(
    service: Service,
    layouts: Iterable[Layout],
    slices: Iterable[EndpointSlice],
    nodes: Iterable[Node],
) -> tuple[tuple[Layout, ...], tuple[Note, ...]]:
    """The slices of each family with their hints, and Events: when hints begin, and why there are
    none. `slices`: as they are now."""
    cpus, found, notes = compute_cpus(nodes), [], []
    had_hints = any(one.hints is not None for slice in slices for one in slice.endpoints or ())
    for layout in layouts:
        if not layout.kept and not layout.created:
            found.append(layout)
            continue
        with_hints, why = add_hints(layout, cpus)
        found.append(with_hints)
        words = f"{why or ENABLED}, addressType: {layout.family}"
        if why:
            notes.append(Note(service, "TopologyAwareHintsDisabled", words, "Warning"))
        elif not had_hints:
            notes.append(Note(service, "TopologyAwareHintsEnabled", words))
    return tuple(found), tuple(notes)


def add_hints(layout: Layout, cpus: ZoneCpus) -> tuple[Layout, str]:
    """SLICE-10: the slices with their hints, or without hints and why."""
    kept = [list(endpoints) for _, _, endpoints in layout.kept]
    created = [list(endpoints) for _, endpoints in layout.created]
    ready = [one for endpoints in (*kept, *created) for one in endpoints if _is_ready(one)]
    shares, why = compute_shares(cpus, len(ready))
    if not why and any(not one.zone for one in ready):
        why = NO_ZONE
    if why:
        plain = [[_for(one, "") for one in endpoints] for endpoints in (*kept, *created)]
        return _replaced(layout, plain), why
    hinted: dict[str, int] = {}
    changed = list(created)
    for (slice, _, before), endpoints in zip(layout.kept, kept, strict=True):
        counts = None
        if tuple(slice.endpoints or ()) == before:
            counts = _counts(endpoints, hinted, shares)
        if counts is None:
            changed.append(endpoints)
        for zone, count in (counts or {}).items():
            hinted[zone] = hinted.get(zone, 0) + count
    for endpoints in changed:
        for number, one in enumerate(endpoints):
            endpoints[number] = _for(one, (one.zone or "") if _is_ready(one) else "")
            if _is_ready(one):
                hinted[one.zone or ""] = hinted.get(one.zone or "", 0) + 1
    _redistribute(changed, *_exchange(shares, hinted))
    return _replaced(layout, [*kept, *created]), ""


def _counts(
    endpoints: Sequence[Endpoint], hinted: Mapping[str, int], shares: Mapping[str, Share]
) -> dict[str, int] | None:
    """How many endpoints of an unchanged slice are for each zone; None if one is for none, or if
    with these a zone has more than its maximum."""
    found: dict[str, int] = {}
    for one in endpoints:
        if not _is_ready(one):
            continue
        zones = [each.name for each in (one.hints.for_zones if one.hints else None) or ()]
        if not zones or any(zone not in shares for zone in zones):
            return None
        for zone in zones:
            found[zone] = found.get(zone, 0) + 1
    is_possible = all(
        count + hinted.get(zone, 0) <= shares[zone].maximum for zone, count in found.items()
    )
    return found if is_possible else None


def _exchange(
    shares: Mapping[str, Share], hinted: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone gives to others, and gets from them. One is passed on as long as
    a zone has, or lacks, a whole one, and the other at least half of one."""
    surplus = {zone: hinted.get(zone, 0) - share.desired for zone, share in shares.items()}
    lack = {zone: -much for zone, much in surplus.items() if much < 0}
    surplus = {zone: much for zone, much in surplus.items() if much > 0}
    giving: dict[str, int] = {}
    receiving: dict[str, int] = {}
    while surplus and lack:
        giver, taker = max(surplus, key=surplus.__getitem__), max(lack, key=lack.__getitem__)
        most, least = max(surplus[giver], lack[taker]), min(surplus[giver], lack[taker])
        if most < 1 or least < 0.5:
            break
        giving[giver] = giving.get(giver, 0) + 1
        receiving[taker] = receiving.get(taker, 0) + 1
        surplus[giver] -= 1
        lack[taker] -= 1
    return giving, receiving


def _redistribute(
    changed: Sequence[list[Endpoint]], giving: dict[str, int], receiving: dict[str, int]
) -> None:
    """Give endpoints of the changed slices to other zones."""
    for endpoints in changed:
        for number, one in enumerate(endpoints):
            if not _is_ready(one) or not giving.get(one.zone or ""):
                continue
            taker = next((zone for zone, count in receiving.items() if count), None)
            if taker is None:
                return
            endpoints[number] = _for(one, taker)
            giving[one.zone or ""] -= 1
            receiving[taker] -= 1


def _replaced(layout: Layout, endpoints: Sequence[list[Endpoint]]) -> Layout:
    rest = iter(endpoints)
    return Layout(
        layout.family,
        tuple([(slice, ports, tuple(next(rest))) for slice, ports, _ in layout.kept]),
        tuple([(ports, tuple(next(rest))) for ports, _ in layout.created]),
        layout.deleted,
    )


def _is_ready(endpoint: Endpoint) -> bool:
    return bool(endpoint.conditions.ready)


def _for(endpoint: Endpoint, zone: str) -> Endpoint:
    hints = EndpointHints(for_zones=(ForZone(name=zone),)) if zone else None
    return endpoint if endpoint.hints == hints else replace(endpoint, hints=hints)
