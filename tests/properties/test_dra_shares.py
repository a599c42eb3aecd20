"""Devices that share counters, that claims share, and that become ready later (spec/devices.md,
DRA-17 to DRA-19), against a search that tries everything."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from runs import choices, run, settle
from sched_worlds import a_node
from test_dra import (
    DRIVER,
    EVERY_FAULT,
    NOW,
    a_claim,
    a_class,
    a_device,
    a_slice,
    both,
    exactly,
    from_template,
    inventory_of,
    made,
    using,
    world,
)
from test_sched_profiles import of_plugin, read
from workload_helpers import get, patch, stored, view_of

from refk8s.core.api import codec
from refk8s.core.api.resource_v1 import Device, ResourceClaimTemplate, ResourceSlice
from refk8s.core.api.resources import PODS, RESOURCE_CLAIMS
from refk8s.core.context import MINUTE, timestamp
from refk8s.core.scheduler.capacity import AmbiguousCapacity, consumption
from refk8s.core.scheduler.claims import InFlight, Kept, given_back, readiness
from refk8s.core.scheduler.cycle import Scheduler, scheduler
from refk8s.core.scheduler.device_pools import Pools, fold_devices, id_of, is_lost, results_of
from refk8s.core.scheduler.devices import BadClaim, Effort, Taken, allocate
from refk8s.core.scheduler.snapshot import facts_of, info_of
from refk8s.core.scheduler_configuration.read import BadConfiguration

SCHEDULER = Scheduler()


def a_share_of(name, bandwidth, policy=None, **more):
    capacity = {"value": str(bandwidth), **({"requestPolicy": policy} if policy else {})}
    return a_device(name, allowMultipleAllocations=True, capacity={"bandwidth": capacity}, **more)


def consuming(name, *counters, **more):
    """Each counter: a set and an amount."""
    consumed = [{"counterSet": of, "counters": {"memory": {"value": str(n)}}} for of, n in counters]
    return a_device(name, consumesCounters=consumed, **more)


def counters(count=2, **sets):
    """The slice with these counter sets, which has no devices."""
    shared = [{"name": of, "counters": {"memory": {"value": str(n)}}} for of, n in sets.items()]
    numbers = {"name": "a", "generation": 1, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "pool": numbers, "nodeName": "a", "sharedCounters": shared}
    return made(ResourceSlice, "counters", "", spec=spec)


def wanting(count=1, bandwidth=None, **more):
    if bandwidth is not None:
        more["capacity"] = {"requests": {"bandwidth": str(bandwidth)}}
    return exactly(count, **more)


def allocated_by(claims, slices, *held, node="a", effort=None):
    """The results for each claim; None if there are none. `held`: claims with allocations."""
    inventory = inventory_of(*slices, *held)
    results = allocate(
        claims, Pools().of_node(inventory, facts_of(a_node(node))), {"gpu": a_class()}.get,
        Taken(lambda device: device in inventory.holders, inventory.shares_of), Kept().selects,
        effort or Effort(100_000, 10_000_000), node,
    )  # fmt: skip
    return None if results is None else [results_of(each) for each in results]


def holding(name, results):
    """A claim with this allocation."""
    trees = [codec.to_tree(one) for one in results]
    claim = a_claim(exactly(), name=name)
    status = {"allocation": {"devices": {"results": trees}}}
    return replace(claim, status=codec.from_tree(type(claim.status), status))


# --- against a search that tries everything -------------------------------------------------------

SETS = {"s": 10, "t": 6}
some_devices = st.lists(
    st.tuples(
        st.booleans(),  # whether claims share it
        st.integers(1, 10),  # its bandwidth
        st.lists(st.tuples(st.sampled_from("st"), st.integers(1, 6)), max_size=2, unique_by=lambda one: one[0]),
        st.integers(0, 2),  # an attribute
    ),
    min_size=1, max_size=4,
)  # fmt: skip
some_requests = st.lists(
    st.tuples(st.integers(1, 2), st.none() | st.integers(1, 8)), min_size=1, max_size=3
)
some_constraints = st.sampled_from([None, "matchAttribute", "distinctAttribute"])


def consumed_by(device, asked):
    """What a request consumes of the bandwidth: all of it, if it does not say."""
    return device[1] if asked is None else asked


def is_possible(choice, devices, requests, constraint, before):
    """Whether these devices can be allocated together. `before`: what earlier claims have."""
    used = [
        (number, asked)
        for chosen, (_, asked) in zip(choice, requests, strict=True)
        for number in chosen
    ]
    for number, device in enumerate(devices):
        amounts = [consumed_by(device, asked) for at, asked in (*before, *used) if at == number]
        if any(amount > device[1] for amount in amounts):
            return False
        if sum(amounts) > device[1] if device[0] else len(amounts) > 1:
            return False
    for of, most in SETS.items():
        in_use = {at for at, _ in (*before, *used)}
        if sum(dict(devices[at][2]).get(of, 0) for at in in_use) > most:
            return False
    values = [devices[at][3] for at, _ in used]
    if constraint == "matchAttribute" and len(set(values)) > 1:
        return False
    return constraint != "distinctAttribute" or len(set(values)) == len(values)


def naive(devices, requests, constraint, before=()):
    """The first choice, in the order of DRA-6, that is possible."""
    sets = [combinations(range(len(devices)), count) for count, _ in requests]
    return next(
        (
            each
            for each in product(*sets)
            if is_possible(each, devices, requests, constraint, before)
        ),
        None,
    )


def trees_of(devices):
    for number, (is_shared, bandwidth, consumed, value) in enumerate(devices):
        tree = consuming(f"d{number}", *consumed, capacity={"bandwidth": {"value": str(bandwidth)}})
        tree["attributes"]["kind"] = {"int": value}
        if not consumed:
            del tree["consumesCounters"]
        yield tree | ({"allowMultipleAllocations": True} if is_shared else {})


def claim_of(requests, constraint, name):
    listed = [wanting(count, asked) for count, asked in requests]
    constraints = [{constraint: f"{DRIVER}/kind"}] if constraint else []
    return a_claim(*listed, name=name, constraints=constraints)


@settings(max_examples=200)
@given(some_devices, some_requests, some_requests, some_constraints)
def test_dra_6_dra_17_dra_18_shares_and_counters_are_allocated_as_by_one_who_tries_everything(
    devices, first, second, constraint
):
    """Two claims, one after the other: the second sees what the first has got."""
    slices = [counters(**SETS), a_slice("a", *trees_of(devices), count=2)]
    held, before = [], ()
    for name, requests in (("c", first), ("e", second)):
        found = allocated_by([claim_of(requests, constraint, name)], slices, *held)
        expected = naive(devices, requests, constraint, before)
        if expected is None:
            assert found is None
            continue
        (results,) = found
        numbers = [int(one.device[1:]) for one in results]
        assert numbers == [number for chosen in expected for number in chosen]
        asked = [
            asked for (_, asked), chosen in zip(requests, expected, strict=True) for _ in chosen
        ]
        for one, number, wish in zip(results, numbers, asked, strict=True):
            is_shared, *_ = devices[number]
            assert (one.share_id is not None) is is_shared
            amounts = {"bandwidth": str(consumed_by(devices[number], wish))} if is_shared else None
            assert one.consumed_capacity == amounts
        ids = [(id_of(one), one.share_id) for one in results if one.share_id]
        assert len(set(ids)) == len(ids)
        inventory = inventory_of(*slices, *held)
        assert not is_lost(inventory, results)
        held.append(holding(name, results))
        before = (*before, *zip(numbers, asked, strict=True))
        again = inventory_of(*slices, *held)
        is_full = not is_possible(
            (), devices, (), None, (*before, *zip(numbers, asked, strict=True))
        )
        assert is_lost(again, results) is is_full


# --- capacity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "asked", "consumed"),
    [
        (None, None, "10"),
        (None, "3", "3"),
        (None, "11", None),
        ({"default": "2"}, None, "2"),
        ({"default": "2", "validValues": ["2", "4", "8"]}, "3", "4"),
        ({"default": "2", "validValues": ["2", "4", "8"]}, "9", None),
        ({"default": "2", "validRange": {"min": "2", "max": "6", "step": "2"}}, "1", "2"),
        ({"default": "2", "validRange": {"min": "2", "max": "6", "step": "2"}}, "3", "4"),
        ({"default": "2", "validRange": {"min": "2", "max": "6", "step": "2"}}, "7", None),
        ({"default": "2", "validRange": {"min": "1", "max": "6"}}, "2500m", "2500m"),
        ({"default": "1", "validRange": {"min": "500m", "step": "500m"}}, "1200m", "1500m"),
    ],
)
def test_dra_17_a_request_is_rounded_up_as_the_policy_says(policy, asked, consumed):
    device = codec.from_tree(Device, a_share_of("d", 10, policy))
    claim = a_claim(wanting(bandwidth=asked))
    required = claim.spec.devices.requests[0].exactly.capacity
    found = consumption(device, DRIVER, required)
    assert found == (consumed and {f"{DRIVER}/bandwidth": found[f"{DRIVER}/bandwidth"]})
    assert consumed is None or str(found[f"{DRIVER}/bandwidth"]) == consumed
    results = allocated_by([claim], [a_slice("a", a_share_of("d", 10, policy))])
    assert results is None if consumed is None else results[0][0].consumed_capacity == {"bandwidth": consumed}  # fmt: skip


def test_dra_17_a_capacity_is_found_with_and_without_its_domain():
    device = codec.from_tree(Device, a_share_of("d", 10))

    def consumed(**requests):
        claim = a_claim(exactly(capacity={"requests": {name.replace("__", "/"): "1" for name in requests}}))  # fmt: skip
        return consumption(device, DRIVER, claim.spec.devices.requests[0].exactly.capacity)

    full = f"{DRIVER}/bandwidth"
    for name in ("bandwidth", full):
        claim = a_claim(exactly(capacity={"requests": {name: "1"}}))
        found = consumption(device, DRIVER, claim.spec.devices.requests[0].exactly.capacity)
        assert {each: str(amount) for each, amount in found.items()} == {full: "1"}
    assert consumed(other=1) is None
    both_ways = a_claim(exactly(capacity={"requests": {"bandwidth": "1", full: "2"}}))
    with pytest.raises(AmbiguousCapacity):
        consumption(device, DRIVER, both_ways.spec.devices.requests[0].exactly.capacity)
    with pytest.raises(BadClaim, match="with and without its domain"):
        allocated_by([both_ways], [a_slice("a", a_share_of("d", 10))])


def test_dra_7_dra_17_administrators_and_all_devices():
    """DRA-7: an administrator takes no share; DRA-17: All means those with room."""
    slices = [a_slice("a", a_share_of("d", 10), a_share_of("e", 10))]
    ((one,),) = allocated_by([a_claim(wanting(bandwidth=6))], slices)
    held = holding("h", [one])
    (admin,) = allocated_by([a_claim(exactly(2, adminAccess=True))], slices, held)
    assert [each.share_id for each in admin] == [None, None]
    every = a_claim(exactly(mode="All", capacity={"requests": {"bandwidth": "6"}}))
    (rest,) = allocated_by([every], slices, held)
    assert [each.device for each in rest] == ["e"]


def test_dra_5_dra_17_dra_18_what_other_claims_got_meanwhile_is_seen():
    """DRA-5, DRA-17: a device is alone or shared; DRA-18: counters of another device are gone; and
    what is removed is free again."""
    shared, alone = a_slice("a", a_share_of("d", 10)), a_slice("a", a_device("d"))
    ((share,),) = allocated_by([a_claim(wanting(bandwidth=6))], [shared])
    ((whole,),) = allocated_by([a_claim(exactly())], [alone])
    for slices, mine, other in (([shared], share, whole), ([alone], whole, share)):
        held = holding("h", [other])
        assert is_lost(inventory_of(*slices, held), [mine])
        assert allocated_by([a_claim(exactly())], slices, held) is None
        left = fold_devices(inventory_of(*slices, held), RESOURCE_CLAIMS, held, None)
        assert not left.holders and not left.shares and not is_lost(left, [mine])
    slices = [
        counters(s=8),
        a_slice("a", consuming("d", ("s", 6)), consuming("e", ("s", 6)), count=2),
    ]
    ((first,),) = allocated_by([a_claim(exactly())], slices)
    other = holding("h", [replace(first, device="e")])
    assert is_lost(inventory_of(*slices, other), [first])
    assert not is_lost(inventory_of(*slices), [first])


def test_dra_17_a_name_with_the_domain_of_the_driver_counts_first():
    full = f"{DRIVER}/bandwidth"
    for names in (("bandwidth", full), (full, "bandwidth")):
        capacity = {name: {"value": "9" if name == full else "1"} for name in names}
        device = codec.from_tree(Device, a_device("d", capacity=capacity))
        assert {name: str(amount) for name, amount in consumption(device, DRIVER, None).items()} == {full: "9"}  # fmt: skip


def test_d_420_a_share_of_the_same_request_has_the_same_id():
    slices = [a_slice("a", a_share_of("d", 10))]
    claims = [a_claim(wanting(bandwidth=2), wanting(bandwidth=2)), a_claim(wanting(bandwidth=2), name="e")]  # fmt: skip
    (first, second), (third,) = allocated_by(claims, slices)
    assert len({first.share_id, second.share_id, third.share_id}) == 3
    ((again, _), _) = allocated_by(claims, slices)
    assert again.share_id == first.share_id


def test_dra_18_counters_must_exist_and_be_unique():
    one = a_slice("a", consuming("d", ("s", 1)), count=2)
    assert allocated_by([a_claim(exactly())], [counters(s=1), one])
    other = replace(counters(s=1), metadata=replace(counters().metadata, name="more"))
    for slices in (
        [counters(t=1), one],
        [counters(count=3, s=1), other, replace(one, spec=replace(one.spec, pool=other.spec.pool))],
    ):
        count = len(slices)
        slices = [replace(each, spec=replace(each.spec, pool=replace(each.spec.pool, resource_slice_count=count))) for each in slices]  # fmt: skip
        with pytest.raises(BadClaim, match="invalid resource pools"):
            allocated_by([a_claim(exactly())], slices)


def test_dra_4_a_device_that_binds_to_its_node_is_available_there():
    everywhere = a_slice(None, a_device("d", bindsToNode=True), pool="net", name="net")
    inventory = inventory_of(everywhere)
    (found,) = allocate(
        [a_claim(exactly())], Pools().of_node(inventory, facts_of(a_node("b"))), {"gpu": a_class()}.get,
        Taken(lambda device: False), Kept().selects, Effort(100, 100), "b",
    )  # fmt: skip
    ((term,),) = [one.match_fields for one in found.node_selector.node_selector_terms]
    assert term.values == ("b",)


def test_dra_5_shares_that_are_decided_count():
    slices = [a_slice("a", a_share_of("d", 10))]
    ((one,),) = allocated_by([a_claim(wanting(bandwidth=6))], slices)
    held = holding("h", [one])
    decided = InFlight("default/h", "uid-h", "uid-p", held.status.allocation)
    from refk8s.core.scheduler.claims import CANNOT_ALLOCATE, Devices

    pod = using("c", name="q")
    for bandwidth, is_possible_now in ((4, True), (5, False)):
        claim = a_claim(wanting(bandwidth=bandwidth))
        view = view_of(SCHEDULER, pod, claim, a_class(), *slices)
        devices = Devices(view, info_of(pod), Map({decided.claim: decided}), Kept(), 1)
        refusal = devices.refusal(facts_of(a_node("a")))
        assert refusal is (None if is_possible_now else CANNOT_ALLOCATE)


# --- devices that become ready later --------------------------------------------------------------

ATTACHED = {"bindingConditions": ["attached"], "bindingFailureConditions": ["broken"]}


def told(claim, **conditions):
    """The claim with these conditions of its device."""
    listed = [
        {"type": name, "status": status, "reason": "R", "message": "m", "lastTransitionTime": timestamp(NOW)}
        for name, status in conditions.items()
    ]  # fmt: skip
    results = [codec.to_tree(one) for one in results_of(claim.status.allocation)]
    devices = [
        {
            "driver": one["driver"],
            "pool": one["pool"],
            "device": one["device"],
            "conditions": listed,
        }
        for one in results
    ]
    return {"status": {"devices": devices}}


def test_dra_19_a_pod_is_ready_when_all_conditions_are_true():
    slices = [a_slice("a", a_device("d", **ATTACHED))]
    ((one,),) = allocated_by([a_claim(exactly())], slices)
    assert one.binding_conditions == ("attached",) and one.binding_failure_conditions == ("broken",)
    claim, pod = holding("c", [one]), using("c")
    allocation = replace(claim.status.allocation, allocation_timestamp=timestamp(NOW))
    claim = replace(claim, status=replace(claim.status, allocation=allocation))

    def seen(now=NOW, **conditions):
        tree = codec.to_tree(claim.status) | told(claim, **conditions)["status"]
        with_them = replace(claim, status=codec.from_tree(type(claim.status), tree))
        return readiness(view_of(SCHEDULER, pod, with_them), info_of(pod), now, 10 * MINUTE)

    assert seen(attached="True").is_ready and seen(attached="True", broken="False").is_ready
    for waits in (seen(), seen(attached="False"), seen(NOW + MINUTE, attached="Unknown")):
        assert not waits.is_ready and waits.until == NOW + 10 * MINUTE and not waits.failure
    broken = seen(attached="True", broken="True")
    assert broken.failure == 'claim c binding failed: reason=R, message="m"'
    assert seen(NOW + 10 * MINUTE).failure == "claim c binding timeout"
    assert seen(NOW + 20 * MINUTE, attached="True").is_ready


def test_dra_19_a_pod_waits_for_its_devices_and_gives_them_back_if_they_fail():
    cluster = world(
        a_class(), a_node("a"), a_slice("a", a_device("d", **ATTACHED)), a_claim(exactly()), using("c"),
    )  # fmt: skip
    cluster = settle(cluster, both, seconds_max=20)
    claim = get(cluster, RESOURCE_CLAIMS, "c")
    assert not get(cluster, PODS, "p").spec.node_name and claim.status.reserved_for
    assert claim.status.allocation.allocation_timestamp
    first = claim.metadata.resource_version
    cluster = patch(cluster, RESOURCE_CLAIMS, "c", told(claim, broken="True"), "status")
    cluster = settle(cluster, both, seconds_max=1)
    freed = get(cluster, RESOURCE_CLAIMS, "c")
    assert freed.status.allocation is None or freed.metadata.resource_version != first
    cluster = settle(cluster, both, seconds_max=60)
    again = get(cluster, RESOURCE_CLAIMS, "c")
    assert again.status.allocation is not None, "it is allocated anew"
    cluster = patch(cluster, RESOURCE_CLAIMS, "c", told(again, attached="True"), "status")
    cluster = settle(cluster, both, seconds_max=60)
    assert get(cluster, PODS, "p").spec.node_name == "a"


def test_sched_53_dra_19_the_configuration_says_how_long_a_pod_waits_for_its_devices():
    """SCHED-53: a minute and a half, instead of ten minutes (DRA-19)."""
    profiles = read(**of_plugin("DynamicResources", bindingTimeout="1m30s", filterTimeout="10s")).profiles  # fmt: skip
    objects = (a_class(), a_node("a"), a_slice("a", a_device("d", **ATTACHED)), a_claim(exactly()), using("c"))  # fmt: skip
    loops = {"kube-scheduler": scheduler(profiles)}
    cluster = settle(world(*objects, loops=loops), both, seconds_max=85)
    first = get(cluster, RESOURCE_CLAIMS, "c").status
    assert first.reserved_for and not get(cluster, PODS, "p").spec.node_name
    cluster = settle(cluster, both, seconds_max=95)
    second = get(cluster, RESOURCE_CLAIMS, "c").status
    assert second.allocation is None or (
        second.allocation.allocation_timestamp != first.allocation.allocation_timestamp
    )


def test_d_422_a_time_for_the_search_is_refused():
    with pytest.raises(BadConfiguration, match="ends after a number of steps; only 10s is accepted"):  # fmt: skip
        read(**of_plugin("DynamicResources", filterTimeout="11s"))


def test_dra_19_only_its_own_reservation_is_given_back():
    claim = holding("c", [])
    consumers = [{"resource": "pods", "name": each, "uid": f"uid-{each}"} for each in "pq"]
    for names, is_kept in (("pq", True), ("p", False)):
        tree = codec.to_tree(claim.status) | {"reservedFor": consumers[: len(names)]}
        held = replace(claim, status=codec.from_tree(type(claim.status), tree))
        (request,) = given_back(view_of(SCHEDULER, using("c"), held), info_of(using("c")))
        kept = request.body.status.reserved_for
        assert (kept is not None and [one.name for one in kept] == ["q"]) is is_kept
        assert (request.body.status.allocation is not None) is is_kept
    assert not given_back(view_of(SCHEDULER, using("c"), claim), info_of(using("c")))


# --- runs -----------------------------------------------------------------------------------------


def shares_fit(before, after):
    """DRA-17: no more than 10 of a device is consumed."""
    consumed = {}
    for claim in stored(after, RESOURCE_CLAIMS):
        for one in results_of(claim.status.allocation) if claim.status.allocation else ():
            amount = int((one.consumed_capacity or {}).get("bandwidth", 0))
            consumed[id_of(one)] = consumed.get(id_of(one), 0) + amount
    for device, amount in consumed.items():
        if amount > 10:
            yield f"DRA-17: {amount} of {device} is consumed"


@settings(max_examples=15)
@given(choices, st.integers(1, 4), st.integers(1, 6))
def test_dra_5_dra_17_pods_share_devices_whatever_is_lost(drawn, pods, bandwidth):
    template = made(ResourceClaimTemplate, "t", spec={
        "spec": codec.to_tree(a_claim(wanting(bandwidth=bandwidth)).spec),
    })  # fmt: skip
    slices = [a_slice("a", a_share_of("d", 10)), a_slice("b", a_share_of("d", 10))]
    made_of = [from_template(f"p{n}") for n in range(pods)]
    cluster = world(a_class(), template, a_node("a"), a_node("b"), *slices, *made_of)
    cluster = run(cluster, drawn, shares_fit, EVERY_FAULT)
    cluster = settle(cluster, shares_fit, seconds_max=400)
    bound = [pod for pod in stored(cluster, PODS) if pod.spec.node_name]
    assert len(bound) == min(pods, 2 * (10 // bandwidth))
