"""Capacities, counters and pools of devices, function by function (spec/devices.md). Each compares the
whole result."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node
from test_dra import DRIVER, a_claim, a_device, a_slice, exactly, made
from workload_helpers import change

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    NodeSelector,
    Pod,
)
from refk8s.core.api.quantity import parse
from refk8s.core.api.resource_v1 import (
    AllocationResult,
    CapacityRequirements,
    Device,
)
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.scheduler import capacity
from refk8s.core.scheduler.device_pools import (
    EMPTY_INVENTORY,
    Pools,
    fold_devices,
    held,
    id_of,
    is_lost,
    is_reached,
    pool_of,
    results_of,
    selects_node,
    shared,
)
from refk8s.core.scheduler.snapshot import facts_of

# --- capacities and counters ----------------------------------------------------------------------


def sized(policy=None, value="10", **more):
    one = {"value": value, **({"requestPolicy": policy} if policy else {})}
    return codec.from_tree(Device, {"name": "d", "capacity": {"b": one, **more}})


def consumed(policy, asked, value="10"):
    required = CapacityRequirements(requests={"b": asked} if asked is not None else None)
    found = capacity.consumption(sized(policy, value), DRIVER, required)
    return found and {name: str(amount) for name, amount in found.items()}


RANGE = {"min": "2", "max": "6", "step": "2"}


@pytest.mark.parametrize(
    ("policy", "asked", "expected"),
    [
        (None, None, "10"), (None, "0", "0"), (None, "10", "10"), (None, "10001m", None),
        (None, "-1", None),
        ({}, None, "10"), ({"default": "3"}, None, "3"), ({"default": "11"}, None, None),
        ({"default": "3"}, "4", "4"),
        ({"validValues": ["2", "4"]}, "1", "2"), ({"validValues": ["2", "4"]}, "2", "2"),
        ({"validValues": ["2", "4"]}, "4", "4"), ({"validValues": ["2", "4"]}, "5", None),
        ({"validValues": ["2", "4"]}, None, None),
        ({"default": "9", "validValues": ["2", "4"]}, None, "9"),
        ({"default": "9", "validValues": ["2", "4"]}, "9", "9"),
        ({"validRange": RANGE}, "0", "2"), ({"validRange": RANGE}, "2", "2"),
        ({"validRange": RANGE}, "2001m", "4"), ({"validRange": RANGE}, "4", "4"),
        ({"validRange": RANGE}, "6", "6"), ({"validRange": RANGE}, "6001m", None),
        ({"validRange": RANGE}, None, None),
        ({"validRange": {"min": "3", "step": "2"}}, "4", "5"),
        ({"validRange": {"min": "3", "step": "2"}}, "10", None),
        ({"validRange": {"min": "1", "step": "3"}}, "2", "4"),
        ({"validRange": {"min": "3"}}, "2", "3"), ({"validRange": {"min": "3"}}, "4100m", "4100m"),
        ({"validRange": {"min": "3", "max": "4"}}, "4100m", None),
        ({"validRange": {"min": "3", "max": "4"}}, "4", "4"),
        ({"default": "1", "validRange": RANGE}, None, "1"),
        ({"validRange": {"min": "1Ki", "step": "1Ki"}}, "1", None),
    ],
)  # fmt: skip
def test_dra_17_what_a_request_consumes(policy, asked, expected):
    name = f"{DRIVER}/b"
    assert consumed(policy, asked) == (None if expected is None else {name: expected})


def test_dra_17_amounts_keep_the_format_of_the_step():
    assert consumed({"validRange": {"min": "1Ki", "step": "1Ki"}}, "1025", "4Ki") == {f"{DRIVER}/b": "2Ki"}  # fmt: skip


def test_dra_17_a_request_names_the_capacities_that_the_device_has():
    device = sized(**{"other.io/c": {"value": "5"}})
    own, other = f"{DRIVER}/b", "other.io/c"

    def found(**requests):
        asked = {name.replace("_", "/").replace("-io", ".io"): much for name, much in requests.items()}  # fmt: skip
        amounts = capacity.consumption(device, DRIVER, CapacityRequirements(requests=asked))
        return amounts and {name: str(much) for name, much in amounts.items()}

    assert found(b="3") == {own: "3", other: "5"}
    assert found(**{"other-io_c": "2"}) == {own: "10", other: "2"}
    assert found(c="2") is None and found(b="3", z="1") is None
    assert capacity.consumption(device, DRIVER, None) == {own: parse("10"), other: parse("5")}
    assert capacity.consumption(codec.from_tree(Device, {"name": "d"}), DRIVER, None) == {}
    with pytest.raises(capacity.AmbiguousCapacity, match=f"^{own}$"):
        capacity.consumption(device, DRIVER, CapacityRequirements(requests={own: "1", "b": "1"}))
    assert capacity.full_name("b", DRIVER) == own and capacity.full_name("a/b", DRIVER) == "a/b"


def test_dra_17_a_capacity_with_the_domain_counts_first():
    own = f"{DRIVER}/b"
    for names in (("b", own), (own, "b")):
        listed = {name: {"value": "9" if name == own else "1"} for name in names}
        device = codec.from_tree(Device, {"name": "d", "capacity": listed})
        ((full, (name, amount)),) = capacity.capacities_of(device, DRIVER).items()
        assert (full, name, amount.value) == (own, own, "9")
        assert capacity.published(device, DRIVER, {own: parse("4")}) == {own: "4"}
    assert capacity.published(sized(), DRIVER, {own: parse("4")}) == {"b": "4"}


def test_dra_17_shares_together_are_at_most_the_capacity():
    own, other = f"{DRIVER}/b", "other.io/c"
    device = sized(**{"other.io/c": {"value": "5"}})
    for shares, fits in (
        ([], True),
        ([(4, 1), (6, 4)], True),
        ([(4, 1), (7, 0)], False),
        ([(1, 3), (1, 3)], False),
        ([(10, 5)], True),
        ([(11, 0)], False),
    ):
        amounts = [{own: parse(str(a)), other: parse(str(b))} for a, b in shares]
        assert capacity.is_within(device, DRIVER, amounts) is fits
    assert capacity.is_within(device, DRIVER, [{"gone.io/x": parse("9")}])
    recorded = capacity.consumed_of({"b": "4", "a.io/c": "1"}, DRIVER)
    assert recorded == {own: parse("4"), "a.io/c": parse("1")}
    assert capacity.consumed_of(None, DRIVER) == {}


def consuming(name, *counters):
    listed = [{"counterSet": of, "counters": {key: {"value": str(n)}}} for of, key, n in counters]
    return {"name": name, **({"consumesCounters": listed} if counters else {})}


def test_dra_18_a_device_consumes_the_sum_of_its_counters():
    device = codec.from_tree(Device, consuming("d", ("s", "m", 2), ("t", "m", 3), ("s", "m", 4), ("s", "n", 1)))  # fmt: skip
    nano = parse("1").nano
    assert capacity.counters_of(device) == {
        ("s", "m"): 6 * nano, ("t", "m"): 3 * nano, ("s", "n"): nano,
    }  # fmt: skip
    assert capacity.counters_of(codec.from_tree(Device, {"name": "d"})) == {}


# --- pools ----------------------------------------------------------------------------------------


def folded(*changes):
    """The inventory after these changes: (old, new)."""
    inventory = EMPTY_INVENTORY
    resources = {
        "ResourceSlice": RESOURCE_SLICES,
        "ResourceClaim": RESOURCE_CLAIMS,
        "DeviceTaintRule": DEVICE_TAINT_RULES,
    }
    for old, new in changes:
        resource = resources[(new or old).kind]
        inventory = fold_devices(inventory, resource, old, new)
    return inventory


def as_plain(inventory):
    return (
        {pool: dict(slices) for pool, slices in inventory.slices.items()},
        {node: dict(pools) for node, pools in inventory.pools.items()},
        {device: sorted(claims) for device, claims in inventory.holders.items()},
        {device: dict(claims) for device, claims in inventory.shares.items()},
        dict(inventory.rules),
    )


def test_dra_2_the_inventory_has_slices_by_pool_and_pools_by_node():
    one, two = a_slice("a", a_device("d"), name="s1"), a_slice("a", a_device("e"), name="s2")
    net = a_slice(None, a_device("f"), pool="net", name="s3")
    here, wide = (DRIVER, "a"), (DRIVER, "net")
    both = folded((None, one), (None, two), (None, net))
    slices = {here: {"s1": one, "s2": two}, wide: {"s3": net}}
    pools = {"a": {"s1": here, "s2": here}, "": {"s3": wide}}
    assert as_plain(both) == (slices, pools, {}, {}, {})
    assert both.pool_ids("a") == [here, wide] and both.pool_ids("b") == [wide]
    moved = a_slice("b", a_device("d"), pool="z", name="s1")
    after = folded((None, one), (None, two), (one, moved))
    there = (DRIVER, "z")
    assert as_plain(after)[:2] == (
        {here: {"s2": two}, there: {"s1": moved}},
        {"a": {"s2": here}, "b": {"s1": there}},
    )
    gone = folded((None, one), (None, net), (one, None), (net, None))
    assert as_plain(gone) == as_plain(EMPTY_INVENTORY)
    assert as_plain(folded((one, None))) == as_plain(EMPTY_INVENTORY)
    assert as_plain(folded((None, two), (one, None)))[0] == {here: {"s2": two}}
    assert fold_devices(both, PODS, None, Pod()) is both


def having(*results, name="c"):
    """A claim with these results: the device, its share or None, and more."""
    listed = [
        {"request": "r", "driver": DRIVER, "pool": "a", "device": device, **({"shareID": share, "consumedCapacity": {"b": "1"}} if share else {}), **more}
        for device, share, more in results
    ]  # fmt: skip
    claim = a_claim(exactly(), name=name)
    tree = {"allocation": {"devices": {"results": listed}}}
    return replace(claim, status=codec.from_tree(type(claim.status), tree))


def results(claim):
    return claim.status.allocation.devices.results


def test_dra_5_dra_7_dra_17_an_allocation_holds_devices_or_shares_of_them():
    claim = having(("d", None, {}), ("e", "s1", {}), ("e", "s2", {}), ("f", None, {"adminAccess": True}), ("g", "s", {"adminAccess": True}))  # fmt: skip
    d, e = (DRIVER, "a", "d"), (DRIVER, "a", "e")
    one = {f"{DRIVER}/b": parse("1")}
    assert held(results(claim)) == [d] and shared(results(claim)) == {e: (one, one)}
    assert id_of(results(claim)[0]) == d
    other = having(("e", "s3", {}), name="x")
    key, key_of_other = "default/c", "default/x"
    inventory = folded((None, claim), (None, other))
    holders, shares = {d: [key]}, {e: {key: (one, one), key_of_other: (one,)}}
    assert as_plain(inventory) == ({}, {}, holders, shares, {})
    assert inventory.shares_of(e) == (one, one, one) and inventory.shares_of(d) == ()
    swapped = having(("d", "s", {}), ("e", None, {}))
    after = fold_devices(inventory, RESOURCE_CLAIMS, claim, swapped)
    assert as_plain(after)[2:4] == ({e: [key]}, {d: {key: (one,)}, e: {key_of_other: (one,)}})
    unallocated = a_claim(exactly())
    freed = fold_devices(inventory, RESOURCE_CLAIMS, claim, unallocated)
    assert as_plain(freed)[2:4] == ({}, {e: {key_of_other: (one,)}})
    assert as_plain(fold_devices(freed, RESOURCE_CLAIMS, other, None)) == as_plain(EMPTY_INVENTORY)
    same = replace(claim, metadata=replace(claim.metadata, resource_version="9"))
    assert fold_devices(inventory, RESOURCE_CLAIMS, claim, same) is inventory
    twice = fold_devices(inventory, RESOURCE_CLAIMS, None, having(("d", None, {}), name="y"))
    assert as_plain(twice)[2] == {d: [key, "default/y"]}
    assert as_plain(fold_devices(twice, RESOURCE_CLAIMS, claim, None))[2] == {d: ["default/y"]}


def slice_of(*devices, name="s1", generation=1, count=1, counters=None, **spec):
    numbers = {"name": "a", "generation": generation, "resourceSliceCount": count}
    tree = {"driver": DRIVER, "pool": numbers, "nodeName": "a", **spec}
    if devices:
        tree["devices"] = list(devices)
    if counters:
        tree["sharedCounters"] = [
            {"name": of, "counters": {key: {"value": str(n)} for key, n in each.items()}}
            for of, each in counters
        ]
    return made(type(a_slice("a")), name, "", spec=tree)


def the_pool(*slices):
    return pool_of((DRIVER, "a"), Map({one.metadata.name: one for one in slices}))


def test_dra_2_a_pool_is_the_newest_generation_by_name():
    old = slice_of({"name": "old"}, name="s0", generation=1)
    first, second = (slice_of({"name": n}, name=n, generation=2, count=2) for n in ("s1", "s2"))
    pool = the_pool(second, old, first)
    assert pool.id == (DRIVER, "a") and pool.slices == (first, second)
    assert pool.is_complete and pool.is_valid
    assert pool.device("s2") is second.spec.devices[0] and pool.device("old") is None
    assert not the_pool(first).is_complete
    assert not the_pool(first, second, slice_of(name="s3", generation=2, count=2)).is_complete


@pytest.mark.parametrize(
    ("slices", "is_valid"),
    [
        ([slice_of({"name": "d"}, {"name": "e"})], True),
        ([slice_of({"name": "d"}, {"name": "d"})], False),
        ([slice_of({"name": "d"}, count=2), slice_of({"name": "d"}, name="s2", count=2)], False),
        ([slice_of(consuming("d", ("s", "m", 1)), counters=[("s", {"m": 1})])], True),
        ([slice_of(consuming("d", ("s", "m", 1)), counters=[("s", {"n": 1})])], False),
        ([slice_of(consuming("d", ("s", "m", 1)), counters=[("t", {"m": 1})])], False),
        ([slice_of(consuming("d", ("s", "m", 1)))], False),
        ([slice_of(counters=[("s", {"m": 1}), ("s", {"n": 1})])], False),
        ([slice_of(counters=[("s", {"m": 1}), ("t", {"m": 1})])], True),
    ],
)
def test_dra_2_dra_18_names_are_unique_and_counters_exist(slices, is_valid):
    assert the_pool(*slices).is_valid is is_valid


def test_dra_18_what_is_left_of_counters():
    devices = [consuming("d", ("s", "m", 2)), {"name": "e"}, consuming("f", ("s", "m", 3), ("s", "n", 4))]  # fmt: skip
    pool = the_pool(slice_of(*devices, counters=[("s", {"m": 6, "n": 4})]))
    nano, m, n = parse("1").nano, ("s", "m"), ("s", "n")
    assert pool.counters == {m: 6 * nano, n: 4 * nano}
    assert [one.name for one in pool.consumers] == ["d", "f"]
    for used, left in ((set(), (6, 4)), ({"d"}, (4, 4)), ({"f"}, (3, 0)), ({"d", "e", "f"}, (1, 0))):  # fmt: skip
        found = pool.left(lambda id, used=used: id[:2] == (DRIVER, "a") and id[2] in used)
        assert found == {m: left[0] * nano, n: left[1] * nano}
    assert pool.counters == {m: 6 * nano, n: 4 * nano}
    missing = the_pool(slice_of(devices[0], counters=[("s", {"n": 4})]))  # it is not valid
    assert missing.left(lambda id: True) == {n: 4 * nano, m: -2 * nano}


def test_dra_20_the_inventory_has_the_rules_by_name():
    from test_dra_taints import a_rule

    rule, other = a_rule(), a_rule("s")
    both = folded((None, rule), (None, other))
    assert dict(both.rules) == {"r": rule, "s": other}
    told = change(rule, resource_version="9")
    assert told != rule and folded((None, rule), (rule, told)).rules["r"] is rule
    changed = a_rule(key="y")
    assert dict(folded((None, rule), (None, other), (rule, changed)).rules) == {"r": changed, "s": other}  # fmt: skip
    assert dict(fold_devices(both, DEVICE_TAINT_RULES, rule, None).rules) == {"s": other}
    assert dict(folded((None, other), (rule, None)).rules) == {"s": other}


ZONE = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]}  # fmt: skip


def facts(name="a", **labels):
    return facts_of(change(a_node(name), labels=labels or None))


@pytest.mark.parametrize("is_named", [None, "", "a", "b"])
@pytest.mark.parametrize("is_for_all", [None, False, True])
@pytest.mark.parametrize("selector", [None, ZONE])
@pytest.mark.parametrize("zone", ["z", "y"])
def test_dra_2_a_name_counts_before_all_nodes_and_these_before_a_selector(is_named, is_for_all, selector, zone):  # fmt: skip
    chosen = codec.from_tree(NodeSelector, selector) if selector else None
    expected = is_named == "a" if is_named else bool(is_for_all) or (selector is not None and zone == "z")  # fmt: skip
    assert is_reached(facts(zone=zone), is_named, is_for_all, chosen) is expected


def test_dra_4_a_selector_matches_with_any_of_its_terms():
    terms = [*ZONE["nodeSelectorTerms"], {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]  # fmt: skip
    selector = codec.from_tree(NodeSelector, {"nodeSelectorTerms": terms})
    found = [selects_node(selector, each) for each in (facts("b", zone="z"), facts("a"), facts("b"))]  # fmt: skip
    assert found == [True, True, False]
    assert not selects_node(NodeSelector(node_selector_terms=()), facts())


def test_dra_2_a_node_is_offered_the_devices_that_it_reaches():
    own = a_slice("a", a_device("d"), a_device("e"), name="s1")
    other = a_slice("b", a_device("x"), name="s2")
    zone = a_slice(None, a_device("z"), pool="zone", name="s3")
    spec = replace(zone.spec, all_nodes=None, node_selector=codec.from_tree(NodeSelector, ZONE))
    zone = replace(zone, spec=spec)
    each = made(type(zone), "s4", "", spec={
        "driver": DRIVER, "pool": {"name": "each", "generation": 1, "resourceSliceCount": 1}, "perDeviceNodeSelection": True,
        "devices": [{"name": "n", "nodeName": "a"}, {"name": "m", "nodeName": "b"}, {"name": "s", "nodeSelector": ZONE}, {"name": "w", "allNodes": True}],
    })  # fmt: skip
    inventory = folded(*[(None, one) for one in (own, other, zone, each)])
    pools = Pools()

    def offered(of):
        return [
            (pool.id[1], [(one.id, one.node_name, one.selector) for one in offers])
            for pool, offers in pools.of_node(inventory, of)
        ]

    def one(pool, device, node="", selector=None):
        return ((DRIVER, pool, device), node, selector)

    selector = spec.node_selector
    assert offered(facts("a", zone="z")) == [
        ("a", [one("a", "d", "a"), one("a", "e", "a")]),
        ("each", [one("each", "n", "a"), one("each", "s", "", selector), one("each", "w")]),
        ("zone", [one("zone", "z", "", selector)]),
    ]
    assert offered(facts("c")) == [("each", [one("each", "w")])]
    offers = [each for _, of_pool in pools.of_node(inventory, facts("a", zone="z")) for each in of_pool]  # fmt: skip
    assert all(each.device.name == each.id[2] for each in offers)


def test_sched_17_pools_are_kept_while_their_slices_are_the_same():
    one, two = a_slice("a", a_device("d")), a_slice("b", a_device("e"))
    inventory, pools = folded((None, one), (None, two)), Pools()
    ((first, _),), ((second, _),) = (pools.of_node(inventory, facts(n)) for n in "ab")
    changed = a_slice("a", a_device("x"))
    later = fold_devices(inventory, RESOURCE_SLICES, one, changed)
    ((now, offers),) = pools.of_node(later, facts("a"))
    assert now is not first and [each.device.name for each in offers] == ["x"]
    ((kept, _),) = pools.of_node(later, facts("b"))
    assert kept is second
    held_now = fold_devices(later, RESOURCE_CLAIMS, None, having(("d", None, {})))
    assert pools.of_node(held_now, facts("a"))[0][0] is now
    gone = fold_devices(held_now, RESOURCE_SLICES, changed, None)
    assert pools.of_node(gone, facts("a")) == [] and set(pools._kept) == {(DRIVER, "b")}


# --- what another claim got meanwhile -------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "theirs", "lost"),
    [
        (("d", None), [], False),
        (("d", None), [("e", None)], False),
        (("d", None), [("d", None)], True),
        (("d", None), [("d", "s")], True),
        (("d", "t"), [("d", None)], True),
        (("b", "t"), [("b", "s")] * 9, False),
        (("b", "t"), [("b", "s")] * 10, True),
        (("b", "t"), [("d", "s")] * 10, False),
        (("m", None), [], False),
        (("m", None), [("n", None)], True),
        (("m", None), [("n", "s")], True),
        (("m", None), [("o", None)], False),
        (("d", None), [("n", None), ("m", None)], False),  # the counters are not its own
        (("gone", None), [], False),
        (("gone", "t"), [], False),
    ],
)
def test_dra_5_dra_17_dra_18_an_allocation_is_lost_to_what_others_got(mine, theirs, lost):
    devices = [
        {"name": "d"}, {"name": "e"}, {"name": "b", "allowMultipleAllocations": True, "capacity": {"b": {"value": "10"}}},
        consuming("m", ("s", "m", 4)), consuming("n", ("s", "m", 4)), consuming("o", ("s", "m", 3)),
    ]  # fmt: skip
    pool = slice_of(*devices, counters=[("s", {"m": 7})])
    others = [having((*one, {}), name=f"o{n}") for n, one in enumerate(theirs)]
    inventory = folded((None, pool), *[(None, one) for one in others])
    assert is_lost(inventory, results(having((*mine, {})))) is lost
    elsewhere = folded(*[(None, one) for one in others])  # the pool has been removed
    is_same = any(device == mine[0] and (share is None or mine[1] is None) for device, share in theirs)  # fmt: skip
    assert is_lost(elsewhere, results(having((*mine, {})))) is is_same


def test_dra_5_dra_17_an_allocation_of_two_pools_is_lost_in_either():
    """A pool that has been removed decides nothing, and a device of one pool is not one of another
    with the same name."""
    shared_ = {"name": "b", "allowMultipleAllocations": True, "capacity": {"b": {"value": "1"}}}
    pool = slice_of(shared_)
    wide = slice_of({**shared_, "capacity": {"b": {"value": "9"}}}, name="s2", pool={"name": "z", "generation": 1, "resourceSliceCount": 1})  # fmt: skip

    def mine(*ids):
        return results(having(*[(device, "t", {"pool": where}) for where, device in ids]))

    other = having(("b", "s", {}), name="o")
    inventory = folded((None, pool), (None, wide), (None, other))
    assert is_lost(inventory, mine(("gone", "x"), ("a", "b")))
    assert is_lost(inventory, mine(("a", "b"), ("gone", "x")))
    assert not is_lost(inventory, mine(("gone", "x"), ("z", "b")))
    two = folded((None, pool), (None, wide), (None, having(("b", "s", {"pool": "z"}), name="o")))
    assert not is_lost(two, mine(("a", "b"), ("z", "b")))
    assert not is_lost(two, mine(("z", "b"), ("a", "b")))


def test_dra_5_an_allocation_without_devices_holds_none():
    claim = having()
    none = replace(claim, status=replace(claim.status, allocation=AllocationResult()))
    for one in (claim, none):
        assert results_of(one.status.allocation) == ()
        assert as_plain(folded((None, one))) == as_plain(EMPTY_INVENTORY)
