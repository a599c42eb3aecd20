"""The parts of topology aware hints from plain values (SLICE-10, spec/workloads/endpoints.md)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node, NodeCondition, NodeStatus, ObjectReference, Service
from refk8s.core.api.discovery_v1 import (
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointSlice,
    ForZone,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.controllers import topology_hints as hints
from refk8s.core.controllers.slices import Layout
from refk8s.core.controllers.topology_hints import Share
from refk8s.core.loop.plan import Note

SERVICE = Service(metadata=ObjectMeta(name="s"))


def node(zone: Any, cpu: Any = "1", ready: str = "True", **labels: str) -> Node:
    given = {**({hints.ZONE: zone} if zone else {}), **labels}
    status = NodeStatus(
        conditions=(NodeCondition(type="Ready", status=ready),),
        allocatable={"cpu": cpu} if cpu is not None else None,
    )
    return Node(metadata=ObjectMeta(name="n", labels=given or None), status=status)


def one(number: int, zone: Any = "a", ready: Any = True, for_zones: Any = None) -> Endpoint:
    found = None if for_zones is None else EndpointHints(for_zones=tuple([ForZone(name=name) for name in for_zones]))  # fmt: skip
    return Endpoint(
        addresses=(f"10.0.0.{number}",),
        conditions=EndpointConditions(ready=ready),
        target_ref=ObjectReference(kind="Pod", uid=f"u{number}"),
        zone=zone,
        hints=found,
    )


def a_slice(*endpoints: Endpoint) -> EndpointSlice:
    return EndpointSlice(metadata=ObjectMeta(name="x"), address_type="IPv4", endpoints=endpoints)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (node("a"), ("a", 1000)),
        (node("a", "1500m"), ("a", 1500)),
        (node("a", None), ("a", 0)),
        (node("a", "odd"), ("a", 0)),
        (node("a", "-1"), ("a", 0)),
        (node(None), ("", 1000)),
        (node("a", ready="False"), None),
        (node("a", **{hints.EXCLUDED[0]: ""}), None),
        (node("a", **{hints.EXCLUDED[1]: "x"}), None),
    ],
)
def test_slice_10_what_counts_of_a_node(given, expected):
    assert hints.node_facts(given) == expected


def test_slice_10_the_cpus_of_zones():
    two = [node("a"), node("b", "2"), node("a", "3")]
    assert hints.compute_cpus(two) == {"a": 4000, "b": 2000}
    assert hints.compute_cpus([node("c", ready="False"), *two]) == {"a": 4000, "b": 2000}
    for odd in ([*two, node(None)], [*two, node("c", "0")], [node("a"), node("a")], []):
        assert hints.compute_cpus(odd) == {}


def test_slice_10_shares():
    assert hints.compute_shares({}, 5) == ({}, hints.NO_NODE_INFO)
    few = "Insufficient number of endpoints (1 endpoints, 2 zones)"
    assert hints.compute_shares({"a": 1, "b": 1}, 1) == ({}, few)
    even = {"a": Share(1, 1, 1.0), "b": Share(1, 1, 1.0)}
    assert hints.compute_shares({"b": 1, "a": 1}, 2) == (even, "")
    assert list(hints.compute_shares({"b": 1, "a": 1}, 2)[0]) == ["a", "b"]
    found, why = hints.compute_shares({"a": 3000, "b": 1000}, 12)
    assert why == "" and found == {"a": Share(8, 9, 9.0), "b": Share(3, 4, 3.0)}
    found, why = hints.compute_shares({"a": 9, "b": 1}, 6)
    assert why == "" and found == {"a": Share(5, 5, pytest.approx(5.4)), "b": Share(1, 1, 1.0)}
    uneven = f"{hints.TOO_UNEVEN} (3 endpoints, 3 zones)"
    assert hints.compute_shares({"a": 9, "b": 1, "c": 1}, 3) == ({}, uneven)


def test_slice_10_hints_that_were():
    kept, plain = one(1, for_zones=["b"]), one(2)
    ports: Any = ()
    wanted = {ports: [one(1), one(2, for_zones=["a"]), one(3, ready=False)]}
    slices = [a_slice(kept), a_slice(plain, one(3, for_zones=["a"]))]
    empty = EndpointSlice(metadata=ObjectMeta(name="y"), address_type="IPv4", endpoints=None)
    found = hints.with_old_hints(wanted, [*slices, empty])
    assert found == {ports: [kept, plain, one(3, ready=False)]}


SHARES = {"a": Share(1, 2, 1.5), "b": Share(1, 2, 1.5)}


@pytest.mark.parametrize(
    ("endpoints", "hinted", "expected"),
    [
        ([], {}, {}),
        ([one(1, for_zones="a"), one(2, for_zones="b")], {}, {"a": 1, "b": 1}),
        ([one(1, for_zones="a"), one(2, for_zones="a")], {}, {"a": 2}),
        ([one(1, for_zones="a"), one(2, for_zones="a")], {"a": 1}, None),
        ([one(1, for_zones="a")], {"a": 1, "b": 9}, {"a": 1}),
        ([one(1, for_zones="a"), one(2, for_zones="a"), one(3, for_zones="a")], {}, None),
        ([one(1, for_zones="ab")], {}, {"a": 1, "b": 1}),
        ([one(1, for_zones="ac")], {}, None),
        ([one(1, for_zones="c")], {}, None),
        ([one(1, for_zones="")], {}, None),
        ([one(1)], {}, None),
        ([one(1, ready=False), one(2, for_zones="b")], {}, {"b": 1}),
        ([one(1, ready=None), one(2)], {}, None),
    ],
)
def test_slice_10_what_a_slice_counts_that_is_not_changed(endpoints, hinted, expected):
    assert hints._counts(endpoints, hinted, SHARES) == expected


def wants(**desired: float) -> dict[str, Share]:
    return {zone: Share(0, 99, much) for zone, much in desired.items()}


@pytest.mark.parametrize(
    ("shares", "hinted", "giving", "receiving"),
    [
        (wants(a=2, b=2), {"a": 2, "b": 2}, {}, {}),
        (wants(a=2, b=2), {"a": 4}, {"a": 2}, {"b": 2}),
        (wants(a=2, b=2), {"a": 3, "b": 1}, {"a": 1}, {"b": 1}),
        (wants(a=1.5, b=1.5), {"a": 2, "b": 1}, {}, {}),
        (wants(a=1, b=1.4, c=0.6), {"a": 2, "b": 1}, {"a": 1}, {"c": 1}),
        (wants(a=1, b=1.5, c=1.5), {"a": 2, "b": 1, "c": 1}, {"a": 1}, {"b": 1}),
        (wants(a=1, b=1.4, c=1.6), {"a": 2, "b": 1, "c": 1}, {"a": 1}, {"c": 1}),
        (wants(a=1, b=1.4, c=1.4), {"a": 2, "b": 1, "c": 1}, {}, {}),
        (wants(a=1, b=1, c=4), {"a": 2, "b": 4}, {"b": 3, "a": 1}, {"c": 4}),
        (wants(a=5, b=0, c=1), {"b": 3, "c": 3}, {"b": 3, "c": 2}, {"a": 5}),
        (wants(a=3, b=4, c=0), {"c": 7}, {"c": 7}, {"a": 3, "b": 4}),
        (wants(a=1, b=0), {"b": 0}, {}, {}),
        (wants(a=0, b=1), {"a": 3}, {"a": 1}, {"b": 1}),
        (wants(a=2.4, b=1.6), {"b": 4}, {"b": 2}, {"a": 2}),
        ({}, {"a": 1}, {}, {}),
    ],
)
def test_slice_10_what_zones_give_to_others(shares, hinted, giving, receiving):
    assert hints._exchange(shares, hinted) == (giving, receiving)


def test_slice_10_endpoints_are_given_away():
    first = [one(1, "b"), one(2, "a", ready=False), one(3, "a"), one(4, "a")]
    second = [one(5, "a"), one(6, None), one(7, "c"), one(8, "a")]
    giving, receiving = {"a": 3, "c": 1}, {"x": 1, "y": 3}
    hints._redistribute([first, second], giving, receiving)
    shown = [
        "".join([each.name for each in (item.hints.for_zones if item.hints else None) or ()])
        for item in (*first, *second)
    ]
    assert shown == ["", "", "x", "y", "y", "", "y", ""]
    assert (giving, receiving) == ({"a": 0, "c": 0}, {"x": 0, "y": 0})
    left = [one(1), one(2), one(3)]
    giving = {"a": 9}
    hints._redistribute([left, [one(4)]], giving, {"x": 0, "y": 1})
    assert left == [one(1, for_zones="y"), one(2), one(3)] and giving == {"a": 8}


def test_slice_10_for_which_zone():
    assert hints._for(one(1), "b") == one(1, for_zones="b")
    assert hints._for(one(1, for_zones="b"), "") == one(1)
    same = one(1, for_zones="b")
    assert hints._for(same, "b") is same
    assert [hints._is_ready(one(1, ready=ready)) for ready in (True, False, None)] == [True, False, False]  # fmt: skip


CPUS = {"a": 1000, "b": 1000}


def layout(kept: Any = (), created: Any = (), deleted: Any = ()) -> Layout:
    return Layout("IPv6", tuple([(given, (), tuple(all_)) for given, all_ in kept]), tuple([((), tuple(all_)) for all_ in created]), tuple(deleted))  # fmt: skip


def test_slice_10_the_hints_of_a_family():
    new = [one(1), one(2), one(3, ready=False), one(4), one(5, "b")]
    gone = a_slice()
    found, why = hints.add_hints(layout(created=[new[:2], new[2:]], deleted=[gone]), CPUS)
    hinted = [one(1, for_zones="b"), one(2, for_zones="a")], [one(3, ready=False), one(4, for_zones="a"), one(5, "b", for_zones="b")]  # fmt: skip
    assert why == "" and found == layout(created=hinted, deleted=[gone])
    kept = a_slice(*hinted[0])
    same, why = hints.add_hints(layout([(kept, hinted[0])], [new[2:]]), CPUS)
    assert why == "" and same == layout([(kept, hinted[0])], [hinted[1]])
    own = [one(1, for_zones="a"), one(2, for_zones="a")]
    given = [one(3, ready=False), one(4, for_zones="b"), one(5, "b", for_zones="b")]
    odd = a_slice(one(1, for_zones="c"), one(2, for_zones="a"))
    anew, _ = hints.add_hints(layout([(odd, odd.endpoints)], [new[2:]]), CPUS)
    assert anew == layout([(odd, own)], [given])
    changed = a_slice(one(9))
    anew, _ = hints.add_hints(layout([(changed, new[:2])], [new[2:]]), CPUS)
    assert anew == layout([(changed, own)], [given])
    full = [a_slice(one(1, for_zones="a"), one(2, for_zones="a")), a_slice(one(3, for_zones="a"), one(4, for_zones="a"))]  # fmt: skip
    moved, _ = hints.add_hints(layout([(each, each.endpoints) for each in full]), CPUS)
    second = [one(3, for_zones="b"), one(4, for_zones="b")]
    assert moved == layout([(full[0], full[0].endpoints), (full[1], second)])
    without = [one(1, for_zones="a"), replace(one(2), zone=None)]
    plain, why = hints.add_hints(layout(created=[without]), CPUS)
    assert (why, plain) == (hints.NO_ZONE, layout(created=[[one(1), without[1]]]))
    unready = [one(1), one(2, "b"), one(3, None, ready=False)]
    assert hints.add_hints(layout(created=[unready]), CPUS)[1] == ""
    plain, why = hints.add_hints(layout([(odd, odd.endpoints)]), {})
    assert (why, plain) == (hints.NO_NODE_INFO, layout([(odd, [one(1), one(2)])]))


def test_slice_10_what_unchanged_slices_have_counts():
    kept = [[one(number, for_zones="a")] for number in (1, 2)]
    slices = [(a_slice(*each), each) for each in kept]
    found, why = hints.add_hints(layout(slices, [[one(3), one(4)]]), CPUS)
    given = [one(3, for_zones="b"), one(4, for_zones="b")]
    assert why == "" and found == layout(slices, [given]), "two of four are in zone a already"
    new = [one(number, "a" if number < 5 else "b") for number in range(2, 8)]
    found, why = hints.add_hints(layout(slices[:1], [new]), CPUS)
    own = [replace(each, hints=one(1, for_zones=each.zone).hints) for each in new]
    assert why == "" and found == layout(slices[:1], [own]), "four and three are near enough"


def test_slice_10_events_of_hints():
    nodes = [node("a"), node("b")]
    empty, made = layout(deleted=[a_slice()]), layout(created=[[one(1), one(2, "b")]])
    expected = layout(created=[[one(1, for_zones="a"), one(2, "b", for_zones="b")]])
    enabled = Note(SERVICE, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled, addressType: IPv6")  # fmt: skip
    found = hints.add_hints_of(SERVICE, [empty, made], [a_slice(one(1))], nodes)
    assert found == ((empty, expected), (enabled,))
    found = hints.add_hints_of(SERVICE, [made], [], nodes)
    assert found == ((expected,), (enabled,))
    bare = EndpointSlice(metadata=ObjectMeta(name="x"), address_type="IPv4", endpoints=None)
    known = [bare, a_slice(one(9), one(1, for_zones="a"))]
    assert hints.add_hints_of(SERVICE, [made], known, nodes) == ((expected,), ())
    words = f"{hints.NO_NODE_INFO}, addressType: IPv6"
    off = Note(SERVICE, "TopologyAwareHintsDisabled", words, "Warning")
    for slices in ([], known):
        assert hints.add_hints_of(SERVICE, [made, empty], slices, nodes[:1]) == ((made, empty), (off,))  # fmt: skip
    kept = layout([(a_slice(), [one(1), one(2, "b")])])
    assert hints.add_hints_of(SERVICE, [kept], [], nodes)[1] == (enabled,)
