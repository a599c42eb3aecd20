"""The claims of a pod in the scheduler, function by function: which nodes can run it, what is kept,
and what is written (spec/devices.md). Each compares the whole result."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node
from test_dra import (
    DRIVER,
    GONE,
    SCHEDULER,
    a_claim,
    a_class,
    a_device,
    a_slice,
    allocated,
    exactly,
    from_template,
    size,
    using,
)
from test_dra_by_hand import owned_by, owner
from test_dra_pools import facts, having
from test_dra_taints import a_rule, tolerating
from workload_helpers import NOW, change, view_of

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    PersistentVolumeClaim,
    PersistentVolumeClaimVolumeSource,
    Volume,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import RESOURCE_CLAIMS
from refk8s.core.context import MINUTE, timestamp
from refk8s.core.pods.device_selectors import SelectorProblem
from refk8s.core.pods.devices import FINALIZER
from refk8s.core.scheduler import claims as of_claims
from refk8s.core.scheduler.claimed import NOTHING_CLAIMED, Claimed, claimed_by
from refk8s.core.scheduler.claims import (
    CANNOT_ALLOCATE,
    NOT_AVAILABLE,
    TIMED_OUT,
    Devices,
    Kept,
    Readiness,
    deallocations,
    given_back,
    readiness,
    reservations,
    why_not_created,
)
from refk8s.core.scheduler.device_pools import results_of
from refk8s.core.scheduler.profile import DEFAULT_PROFILE
from refk8s.core.scheduler.reasons import CLAIM_FREED, CLAIMS_KEPT, NO_CLAIMS
from refk8s.core.scheduler.snapshot import info_of, recompute
from refk8s.core.value import evolve

# --- the claims of a pod --------------------------------------------------------------------------


def seen(pod, *objects, in_flight=(), kept=None, nodes=2):
    view = view_of(SCHEDULER, pod, *objects)
    decided = Map({one.claim: one for one in in_flight})
    return Devices(view, info_of(pod), decided, kept or Kept(), nodes)


ONE = (a_class(), a_slice("a", a_device("d")))


def test_dra_1_a_pod_waits_for_the_first_claim_that_is_not_there():
    mine, other = a_claim(exactly()), a_claim(exactly(), name="e")

    def why(pod, *objects):
        return why_not_created(view_of(SCHEDULER, pod, *objects), info_of(pod))

    pod = using("c", "e")
    assert why(pod, mine, other) == ""
    assert why(pod, mine) == 'could not find ResourceClaim "default/e"'
    assert why(pod, other) == 'could not find ResourceClaim "default/c"'
    going = change(other, deletion_timestamp=GONE)
    assert why(pod, mine, going) == 'resourceclaim "e" is being deleted'
    generated = from_template(generated="c")
    assert why(generated, mine).endswith("(pod is not owner)")
    assert why(generated, owned_by(owner(uid="uid-p"))) == ""


def test_dra_4_classes_are_looked_up_by_request():
    for requests, words in (
        ([exactly(), exactly(device_class="x")], "request r1: device class x does not exist"),
        ([[exactly(), exactly(device_class="y")]], "request r0/s1: device class y does not exist"),
        ([exactly(), [exactly()]], ""),
    ):
        assert seen(using("c"), a_claim(*requests), a_class()).blocked == words
    both = seen(using("c", "e"), a_claim(exactly()), a_claim(exactly(device_class="x"), name="e"), a_class())  # fmt: skip
    assert both.blocked == "request r0: device class x does not exist"
    there = allocated(a_claim(exactly(device_class="x")), "a", "d")
    assert seen(using("c"), there).blocked == ""
    twice = seen(using("c", "c"), a_claim(exactly()), *ONE)
    assert len(twice.claims) == len(twice.unallocated) == 1
    again = seen(using("c", "c", "e"), a_claim(exactly()), a_claim(exactly(), name="e"), *ONE)
    assert [one.metadata.name for one in again.unallocated] == ["c", "e"]
    mixed = seen(using("c", "e"), there, a_claim(exactly(), name="e"), *ONE)
    assert [one.metadata.name for one in mixed.claims] == ["c", "e"]
    assert [one.metadata.name for one in mixed.unallocated] == ["e"]


def decided_for(pod, *objects):
    (one,) = seen(pod, *objects).allocations(facts())
    return one


def test_dra_5_dra_8_an_allocation_that_is_decided_blocks_its_claim_until_it_is_another():
    claim = a_claim(exactly())
    one = decided_for(using("c"), claim, *ONE)
    assert (one.claim, one.uid, one.pod_uid) == ("default/c", "uid-c", "uid-p")
    assert one.claimed is None and one.mapped == ()
    assert one.devices == [(DRIVER, "a", "d")] and one.shares == {}
    late = using("c", name="q")
    words = "resource claim default/c is in the process of being allocated"
    assert seen(late, claim, *ONE, in_flight=[one]).blocked == words
    renewed = replace(claim, metadata=replace(claim.metadata, uid="new"))
    again = seen(late, renewed, *ONE, in_flight=[one])
    assert again.blocked == "" and again.refusal(facts()) is CANNOT_ALLOCATE
    other = seen(using("e", name="q"), a_claim(exactly(), name="e"), *ONE, in_flight=[one])
    assert other.refusal(facts()) is CANNOT_ALLOCATE and other.allocations(facts()) == ()
    kept = Kept()
    assert seen(late, claim, *ONE, in_flight=[one], kept=kept).blocked and kept._nodes == {}


@pytest.mark.parametrize("stored", [0, 3])
@pytest.mark.parametrize("decided", [(), (2,), (2, 2)])
@pytest.mark.parametrize("asked", [1, 3, 5, 7, 8, 10])
def test_dra_17_shares_that_are_stored_and_decided_count_together(stored, decided, asked):
    """Of a device with a capacity of 10 and of one with 5, which is the second."""
    objects = (
        a_class(),
        a_slice("a", *[
            a_device(name, allowMultipleAllocations=True, capacity={"b": {"value": much}})
            for name, much in (("d", "10"), ("e", "5"))
        ]),
    )  # fmt: skip

    def sharing(much, name):
        return a_claim(exactly(capacity={"requests": {"b": str(much)}}), name=name)

    others = []
    if stored:
        others.append(having(("d", "s", {"consumedCapacity": {"b": str(stored)}}), name="h"))
    in_flight = []
    for number, much in enumerate(decided):
        claim = sharing(much, f"f{number}")
        (one,) = seen(using(f"f{number}"), claim, *objects, *others).allocations(facts())
        assert [each.device for each in results_of(one.allocation)] == ["d"]
        in_flight.append(one)
    claim = sharing(asked, "c")
    found = seen(using("c"), claim, *objects, *others, in_flight=in_flight).allocations(facts())
    device = "d" if stored + sum(decided) + asked <= 10 else "e" if asked <= 5 else None
    assert [one.device for each in found for one in results_of(each.allocation)] == (
        [device] if device else []
    )


def test_dra_4_dra_8_at_most_256_pods_use_a_claim():
    claim = a_claim(exactly())
    crowd = [f"q{n}" for n in range(256)]
    for count, words in ((255, ""), (256, "resourceclaim in use")):
        there = allocated(claim, "a", "d", *crowd[:count])
        assert seen(using("c"), there, a_class()).blocked == words
    assert seen(using("c", name="q3"), allocated(claim, "a", "d", *crowd), a_class()).blocked == ""


def test_dra_4_every_claim_that_a_node_does_not_reach_is_remembered():
    """DRA-11: one of them, which nobody else uses, is freed."""
    claims = [a_claim(exactly(), name=name) for name in "cef"]
    there = [allocated(claims[0], "b", "d", "q"), allocated(claims[1], "b", "d"), allocated(claims[2], "b", "e", "p")]  # fmt: skip
    devices = seen(using("c", "e", "f"), *there, a_class())
    assert devices.refusal(facts("b")) is None and devices.releasable() == ()
    assert devices.refusal(facts("a")) is NOT_AVAILABLE
    assert list(devices.unavailable) == ["default/c", "default/e", "default/f"]
    assert devices.releasable() == ("default/e",)
    mine = seen(using("f"), there[2], a_class())
    assert mine.refusal(facts("a")) is NOT_AVAILABLE and mine.releasable() == ("default/f",)
    everywhere = having(("d", None, {}))
    free = seen(using("c"), everywhere, a_class())
    assert free.refusal(facts("z")) is None and free.unavailable == {}
    both = seen(using("c", "e"), there[0], a_claim(exactly(), name="e"), *ONE)
    assert both.refusal(facts("b")) is CANNOT_ALLOCATE  # the allocation is tried first
    assert both.refusal(facts("a")) is NOT_AVAILABLE


def test_dra_3_dra_9_a_node_is_refused_with_what_went_wrong():
    wrong = a_claim(exactly(1, 'device.attributes["x"].y'))
    refusal = seen(using("c"), wrong, *ONE).refusal(facts())
    (message,) = refusal.messages
    assert message.startswith("claim default/c: selector #0 on device gpu.example.com/a/d: CEL")
    assert refusal.plugin == "DynamicResources" and refusal.resolvable is False
    for other, words in (
        (CANNOT_ALLOCATE, "cannot allocate all claims"),
        (NOT_AVAILABLE, "resourceclaim not available on the node"),
        (TIMED_OUT, "timed out trying to allocate devices"),
    ):
        assert other.messages == (words,) and other.plugin == "DynamicResources"
        assert not other.resolvable


def test_dra_9_a_search_that_costs_too_much_on_one_node_ends_there():
    devices = [a_device(f"d{n}", attributes={"k": {"int": n}}) for n in range(20)]
    hopeless = a_claim(exactly(8), exactly(8), exactly(8), constraints=[{"distinctAttribute": f"{DRIVER}/k"}])  # fmt: skip
    one = seen(using("c"), hopeless, a_class(), a_slice("a", *devices))
    begun = one._steps
    assert one.refusal(facts()) is TIMED_OUT and one.allocations(facts()) == ()
    assert begun - one._steps == 10_001


def test_dra_4_dra_20_a_node_is_searched_with_its_name_and_the_rules():
    bound = a_slice(None, a_device("d", bindsToNode=True), pool="net", name="net")
    (found,) = seen(using("c"), a_claim(exactly()), a_class(), bound).allocations(facts("b"))
    ((term,),) = [each.match_fields for each in found.allocation.node_selector.node_selector_terms]
    assert term.values == ("b",)
    ruled = seen(using("c"), a_claim(exactly()), *ONE, a_rule())
    assert ruled.refusal(facts()) is CANNOT_ALLOCATE
    tolerated = a_claim(exactly(tolerations=[tolerating()]))
    assert seen(using("c"), tolerated, *ONE, a_rule()).refusal(facts()) is None


def test_dra_9_the_effort_of_a_decision_grows_with_the_nodes():
    for nodes in (0, 3):
        devices = seen(using("c"), a_claim(exactly()), *ONE, nodes=nodes)
        assert devices._steps == 100_000 + 20 * nodes
        assert devices._units == 2_000_000 + 1_000 * nodes
    devices = seen(using("c"), a_claim(exactly(1, "true")), *ONE)
    begun = devices._steps, devices._units
    assert devices.refusal(facts()) is None
    spent = begun[0] - devices._steps, begun[1] - devices._units
    assert spent[0] == 4 and spent[1] >= 1
    assert devices.refusal(facts()) is None
    assert (devices._steps, devices._units) == (begun[0] - spent[0], begun[1] - spent[1])
    for left, expected in ((spent, None), ((spent[0] - 1, 99), TIMED_OUT), ((99, spent[1] - 1), TIMED_OUT)):  # fmt: skip
        fresh = seen(using("c"), a_claim(exactly(1, "true")), *ONE)
        fresh._steps, fresh._units = left
        assert fresh.refusal(facts()) is expected
    for exhausted in ((-1, 5), (5, -1)):
        fresh = seen(using("c"), a_claim(exactly()), *ONE)
        fresh._steps, fresh._units = exhausted
        assert fresh.refusal(facts()) is TIMED_OUT
        assert (fresh._steps, fresh._units) == exhausted


def test_sched_17_results_are_kept_while_their_inputs_are_the_same():
    """And their cost counts again."""
    kept, claim, pod = Kept(), a_claim(exactly(1, "true")), using("c")
    view, none, here = view_of(SCHEDULER, pod, claim, *ONE), Map(), facts()
    first = Devices(view, info_of(pod), none, kept, 2)
    assert first.refusal(here) is None
    known = kept.results_of("uid-p", (first.inventory, first.classes, none, *first.claims))
    assert set(known) == {"a"}
    second = Devices(view, info_of(pod), none, kept, 2)
    assert second.refusal(here) is None and second._steps == first._steps < 100_040
    assert second._units == first._units
    assert second.allocations(here)[0].allocation is first.allocations(here)[0].allocation
    other_facts = facts()
    third = Devices(view, info_of(pod), none, kept, 2)
    assert third.allocations(other_facts)[0].allocation is not first.allocations(here)[0].allocation
    for inputs in ((object(), first.classes, none, *first.claims), (first.inventory, first.classes, none, object())):  # fmt: skip
        assert kept.results_of("uid-p", inputs) == {}
    inputs = (first.inventory, first.classes, none)
    kept.results_of("uid-p", inputs)["x"] = 1
    for n in range(63):
        kept.results_of(f"u{n}", inputs)
    assert kept.results_of("uid-p", inputs) == {"x": 1}
    for n in range(63, 126):
        kept.results_of(f"u{n}", inputs)
    assert kept.results_of("uid-p", inputs) == {"x": 1}  # the oldest go first
    for n in range(64):
        kept.results_of(f"v{n}", inputs)
    assert kept.results_of("uid-p", inputs) == {} and len(kept._nodes) == 64


def test_dra_3_dra_9_a_verdict_is_kept_with_its_cost_by_text_driver_and_device():
    kept = Kept()
    d, e = (a_slice("a", a_device(name, size_)).spec.devices[0] for name, size_ in (("d", 1), ("e", 2)))  # fmt: skip
    id = (DRIVER, "a", "d")
    first = kept.selects(size(2), id, d)
    assert first[0] is False and first[1] > 0 and kept.selects(size(2), id, d) == first
    assert kept.selects(size(2), id, e)[0] is True and kept.selects(size(1), id, d)[0] is True
    problem, units = kept.selects(size(1), ("other.io", "a", "d"), d)
    assert isinstance(problem, SelectorProblem) and units == problem.units > 0
    assert kept.selects(size(1), ("other.io", "a", "d"), d)[0] is problem
    assert len(kept._verdicts) == 4


def test_dra_3_dra_9_verdicts_are_dropped_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(of_claims, "VERDICTS_MAX", 2)
    kept, device = Kept(), a_slice("a", a_device("d")).spec.devices[0]
    for count, text in ((1, size(1)), (2, size(2)), (2, size(2)), (1, size(3))):
        kept.selects(text, (DRIVER, "a", "d"), device)
        assert len(kept._verdicts) == count


def test_dra_10_points_are_the_sum_over_requests_in_proportion():
    claim = a_claim([exactly(1, size(3)), exactly(1, size(2)), exactly()], [exactly(1, size(3)), exactly()])  # fmt: skip
    objects = (
        claim, a_class(), a_slice("a", a_device("d"), a_device("e")), a_slice("b", a_device("d", 3), a_device("e", 3)),
        a_slice("c", a_device("d", 2), a_device("e", 3)),
    )  # fmt: skip
    devices = seen(using("c"), *objects)
    nodes = [facts(name) for name in "abcz"]
    assert [devices._score(each) for each in nodes] == [6 + 7, 8 + 8, 8 + 7, 0]
    assert devices.points(iter(nodes)) == {"a": 81, "b": 100, "c": 93, "z": 0}
    assert devices.points([]) == {} and devices.points([nodes[3]]) == {"z": 0}
    assert seen(using("c"), a_claim(exactly()), *objects[1:]).points(nodes) == {}
    two = seen(using("c", "e"), a_claim(exactly()), a_claim([exactly(), exactly()], name="e"), *objects[1:])  # fmt: skip
    assert [two._score(each) for each in nodes] == [8, 8, 8, 0]


# --- what is written ------------------------------------------------------------------------------


def marked(claim):
    return change(claim, finalizers=("own", FINALIZER))


def writes(pod, decided, *objects, now=NOW, node="a"):
    return reservations(view_of(SCHEDULER, pod, *objects), info_of(pod), facts(node), decided, now)


def test_dra_8_finalizer_then_allocation_and_reservation():
    pod, claim = using("c"), change(a_claim(exactly()), finalizers=("own",))
    one = decided_for(pod, claim, *ONE)
    (request,) = writes(pod, [one], claim, *ONE)
    assert (request.verb, request.resource, request.subresource) == ("update", RESOURCE_CLAIMS, "")
    assert request.body == marked(claim)
    assert request.because == "devices are allocated to it for pod default/p"
    crowded = replace(marked(claim), status=replace(claim.status, reserved_for=allocated(claim, "a", "d", "x").status.reserved_for))  # fmt: skip
    for there, before in ((marked(claim), []), (crowded, ["uid-x"])):
        (request,) = writes(pod, [one], there, *ONE)
        assert request.subresource == "status" and request.because == "pod default/p runs on a"
        dated = replace(one.allocation, allocation_timestamp=timestamp(NOW))
        assert request.body.status.allocation == dated
        assert [each.uid for each in request.body.status.reserved_for] == [*before, "uid-p"]
        assert request.body.metadata == there.metadata
        done = request.body
        assert writes(pod, [one], done, *ONE) == () == writes(pod, [], done, *ONE)
    shared = allocated(claim, "a", "d", "q")
    (request,) = writes(pod, [], shared, *ONE)
    assert [each.uid for each in request.body.status.reserved_for] == ["uid-q", "uid-p"]
    assert request.body.status.allocation == shared.status.allocation


def test_dra_8_a_pod_is_decided_again_if_its_claims_are_not_as_they_were():
    pod, claim = using("c"), a_claim(exactly())
    one = decided_for(pod, claim, *ONE)
    unborn = replace(claim, metadata=replace(claim.metadata, uid=None))
    crowd = [f"q{n}" for n in range(256)]
    moved = allocated(claim, "b", "d")
    for decided, there in (
        ([], claim),
        ([replace(one, uid="x")], claim),
        ([one], unborn),
        ([one], moved),
        ([], moved),  # its node is another one
        ([], allocated(claim, "a", "d", *crowd)),
        ([one], change(claim, deletion_timestamp=GONE)),
    ):
        assert writes(pod, decided, there, *ONE) is None
    assert writes(pod, [one], *ONE) is None
    assert (
        writes(pod, [one], claim, *ONE, allocated(a_claim(exactly(), name="e"), "a", "d")) is None
    )
    assert writes(pod, [], moved, *ONE, node="b")
    many = using("c", "e")
    both = seen(many, claim, a_claim(exactly(), name="e"), a_class(), a_slice("a", a_device("d"), a_device("e")))  # fmt: skip
    decided = both.allocations(facts())
    later = marked(a_claim(exactly(), name="e"))
    found_now = writes(many, decided, claim, later, *ONE)
    assert [(each.name, each.subresource) for each in found_now] == [("c", ""), ("e", "status")]
    done = allocated(claim, "a", "d", "p")
    (last,) = writes(many, decided[1:], done, later, *ONE)
    assert (last.verb, last.resource, last.name) == ("update", RESOURCE_CLAIMS, "e")
    assert [(one.resource, one.name, one.uid) for one in last.body.status.reserved_for] == [
        ("pods", "p", "uid-p")
    ]


def test_dra_11_only_a_claim_that_nobody_else_uses_is_freed():
    claim, pod = a_claim(exactly()), using("c")
    there = allocated(claim, "a", "d", "p")

    def freed(*objects, keys=("default/c",)):
        return deallocations(view_of(SCHEDULER, pod, *objects), keys, info_of(pod))

    (request,) = freed(there)
    assert (request.verb, request.subresource, request.name) == ("update", "status", "c")
    assert request.resource == RESOURCE_CLAIMS
    assert request.body.status.allocation is request.body.status.reserved_for is None
    assert request.body.metadata == there.metadata
    assert request.because == "pod default/p can run on no node that its devices are on"
    for other in ((), (claim,), (allocated(claim, "a", "d", "p", "q"),)):
        assert freed(*other) == ()
    second = allocated(a_claim(exactly(), name="e"), "a", "d")
    keys = ("default/x", "default/c", "default/e")
    assert [each.name for each in freed(there, second, keys=keys)] == ["c", "e"]


# --- devices that become ready later --------------------------------------------------------------


def binding(name, *results_, at=NOW, told=(), consumers="p"):
    """A claim whose results are (device, share, conditions, failure conditions)."""
    listed = [
        (device, share, {"bindingConditions": list(wait), "bindingFailureConditions": list(fail)})
        for device, share, wait, fail in results_
    ]
    claim = having(*listed, name=name)
    timed = replace(claim.status.allocation, allocation_timestamp=timestamp(at) if at else None)
    statuses = [
        {"driver": DRIVER, "pool": "a", "device": device, **({"shareID": share} if share else {}), "conditions": [
            {"type": type, "status": status, "reason": f"R{type}", "message": 'say "m"', "lastTransitionTime": GONE}
            for type, status in conditions.items()
        ]}
        for device, share, conditions in told
    ]  # fmt: skip
    tree = {"devices": statuses, "reservedFor": [{"resource": "pods", "name": each, "uid": f"uid-{each}"} for each in consumers]}  # fmt: skip
    status = codec.from_tree(type(claim.status), tree)
    return replace(claim, status=replace(status, allocation=timed))


def ready(*claims, now=NOW, pod=None):
    pod = pod or using(*[one.metadata.name for one in claims])
    found_now = readiness(view_of(SCHEDULER, pod, *claims), info_of(pod), now, 10 * MINUTE)
    return found_now.is_ready, found_now.until, found_now.failure


def test_dra_19_all_devices_have_to_be_ready_in_time():
    wait = ("d", None, ("up", "on"), ("bad", "worse"))
    yes, later = (True, None, ""), (False, NOW + 10 * MINUTE, "")
    for told, expected in (
        ([], later),
        ([("d", None, {"up": "True"})], later),
        ([("d", None, {"up": "True", "on": "True"})], yes),
        ([("d", None, {"up": "True", "on": "True", "bad": "False"})], yes),
        ([("d", None, {"up": "True", "on": "Unknown"})], later),
        ([("d", "s", {"up": "True", "on": "True"})], later),
        ([("e", None, {"up": "True", "on": "True"})], later),
        ([("d", None, {"worse": "True"})], (False, None, 'claim c binding failed: reason=Rworse, message="say \\"m\\""')),
    ):  # fmt: skip
        assert ready(binding("c", wait, told=told)) == expected
    assert Readiness() == Readiness(True, None, "") or Readiness().is_ready
    shared = ("d", "s", ("up",), ())
    assert ready(binding("c", shared, told=[("d", "s", {"up": "True"})])) == yes
    plain = ("x", None, (), ("bad",))
    assert ready(binding("c", plain, told=[("x", None, {"bad": "True"})])) == yes
    both = binding("c", plain, ("d", None, ("up",), ()), ("e", None, ("up",), ()), told=[("e", None, {"up": "True"})])  # fmt: skip
    assert ready(both) == later
    assert ready(a_claim(exactly())) == yes  # not allocated
    assert ready(a_claim(exactly(), name="b"), binding("c", wait)) == later
    assert ready(pod=using("gone")) == yes
    early = binding("e", wait, at=NOW - 3 * MINUTE)
    assert ready(binding("c", wait), early) == (False, NOW + 7 * MINUTE, "")
    assert ready(early, binding("f", wait)) == (False, NOW + 7 * MINUTE, "")
    done = binding("a", wait, told=[("d", None, {"up": "True", "on": "True"})])
    assert ready(done, binding("c", wait)) == later == ready(binding("c", wait), done)
    late = binding("c", wait, at=NOW - 10 * MINUTE)
    assert ready(late) == (False, None, "claim c binding timeout")
    assert ready(late, now=NOW - 1) == (False, NOW, "")
    assert ready(binding("c", wait, at=0)) == later


def test_dra_19_reservations_are_given_back_with_the_last_allocation():
    pod = using("c", "e", "f")
    claims = [binding("c", ("d", None, (), ())), binding("e", ("e", None, (), ()), consumers="qp"), binding("f", ("f", None, (), ()), consumers="q")]  # fmt: skip
    first, second = given_back(view_of(SCHEDULER, pod, *claims), info_of(pod))
    assert [(one.verb, one.subresource, one.name) for one in (first, second)] == [("update", "status", "c"), ("update", "status", "e")]  # fmt: skip
    assert first.body.status == replace(claims[0].status, reserved_for=None, allocation=None)
    kept = tuple([one for one in claims[1].status.reserved_for if one.uid == "uid-q"])
    assert second.body.status == replace(claims[1].status, reserved_for=kept)
    assert first.because == "devices for pod default/p do not become ready"
    assert first.resource == RESOURCE_CLAIMS
    after_another = using("f", "c")
    (one,) = given_back(view_of(SCHEDULER, after_another, *claims), info_of(after_another))
    assert one.name == "c"
    twice = using("c", "c")
    assert len(given_back(view_of(SCHEDULER, twice, claims[0]), info_of(twice))) == 1


# --- all claims of a pod --------------------------------------------------------------------------


class Volumes:
    def __init__(self, blocked="", refused=()):
        self.blocked, self.refused, self.asked = blocked, refused, []

    def refusal(self, facts, load):
        self.asked.append((facts.name, load))
        return "no volume" if facts.name in self.refused else None


def test_sched_40_dra_4_volumes_count_before_devices():
    snapshot = recompute([a_node("a"), a_node("b")], [change(using(name="q"), node_name="b")])
    assert snapshot.load("a") != snapshot.load("b")
    claim = allocated(a_claim(exactly()), "a", "d")
    devices = seen(using("c"), claim, a_class())
    volumes = Volumes(refused=("a",))
    both = Claimed(volumes, devices, snapshot)
    assert both.early("a") == "no volume" == both.refusal("a") and both.early("b") is None
    assert both.late("a") is None and both.late("b") is NOT_AVAILABLE is both.refusal("b")
    assert volumes.asked == [("a", snapshot.load("a")), ("b", snapshot.load("b"))]  # once each
    load = object()
    assert both.refusal_with("a", load) == "no volume" and volumes.asked[-1] == ("a", load)
    assert both.refusal_with("b", load) is NOT_AVAILABLE
    assert bool(both) and not NOTHING_CLAIMED
    assert bool(Claimed(volumes, None, snapshot)) and bool(Claimed(None, devices, snapshot))
    for empty in (NOTHING_CLAIMED, Claimed(volumes, devices, None)):
        assert empty.early("a") is empty.late("a") is empty.refusal_with("a", load) is None
        assert empty.points(["a"]) == {}
    only = Claimed(None, devices, snapshot)
    assert only.early("a") is None and only.refusal_with("b", load) is NOT_AVAILABLE
    assert Claimed(volumes, None, snapshot).late("b") is None
    free = seen(using("c"), a_claim([exactly(1, size(2)), exactly()]), a_class(), a_slice("a", a_device("d", 2)), a_slice("b", a_device("d")))  # fmt: skip
    assert Claimed(None, free, snapshot).points(["a", "b"]) == {"a": 100, "b": 87}
    assert Claimed(None, free, snapshot).points(["b"]) == {"b": 100}
    assert Claimed(volumes, None, snapshot).points(["a"]) == {}


def test_dra_1_dra_11_what_keeps_a_pod_from_all_nodes_and_what_is_freed():
    snapshot = recompute([a_node("a"), a_node("b")], [])
    waits = seen(using("c"))
    words = 'could not find ResourceClaim "default/c"'
    for volumes, blocked, is_about in (
        (None, words, True), (Volumes(), words, True), (Volumes("unbound"), "unbound", False),
    ):  # fmt: skip
        one = Claimed(volumes, waits, snapshot)
        assert (one.blocked, one.is_about_devices) == (blocked, is_about)
    assert Claimed(Volumes("unbound"), None, snapshot).blocked == "unbound"
    assert Claimed(Volumes(), None, snapshot).blocked == NOTHING_CLAIMED.blocked == ""
    claim = a_claim(exactly())
    free, used = (seen(using("c"), allocated(claim, "b", "d", *by), a_class()) for by in ("", "q"))
    for devices in (free, used):
        devices.refusal(facts("a"))
    for devices, outcome, release in (
        (free, CLAIM_FREED, ("default/c",)), (used, CLAIMS_KEPT, ()), (None, NO_CLAIMS, ()),
        (seen(using()), NO_CLAIMS, ()),
    ):  # fmt: skip
        one = Claimed(None, devices, snapshot)
        assert (one.outcome, one.release) == (outcome, release)
        silent = Claimed(None, devices, snapshot, frees=False)
        assert (silent.outcome, silent.release) == ("", ())


def test_dra_4_a_profile_without_the_plugin_looks_at_no_devices():
    snapshot, pod = recompute([a_node("a")], []), using("c")
    view = view_of(SCHEDULER, pod, a_claim(exactly()), *ONE)
    without = evolve(DEFAULT_PROFILE, filters=DEFAULT_PROFILE.filters - {"DynamicResources"})
    one = claimed_by(view, info_of(pod), DEFAULT_PROFILE, snapshot)
    assert one.devices is not None and one.volumes is None and one.late("a") is None
    assert one.devices._steps <= 100_020 and one.devices.in_flight == Map()
    assert claimed_by(view, info_of(using()), DEFAULT_PROFILE, snapshot) is NOTHING_CLAIMED
    other = claimed_by(view, info_of(pod), without, snapshot)
    assert not other and other.outcome == ("" if not without.frees_claims else NO_CLAIMS)
    decided = Map({"default/c": decided_for(using("c"), a_claim(exactly()), *ONE)})
    busy = claimed_by(view, info_of(using("c", name="q")), DEFAULT_PROFILE, snapshot, decided)
    assert "in the process" in busy.blocked
    kept = Kept()
    assert (
        claimed_by(view, info_of(pod), DEFAULT_PROFILE, snapshot, None, kept).devices.kept is kept
    )


def test_sched_40_dra_4_the_claims_of_a_pod_for_its_profile():
    """Volumes for the plugins of the profile, with or without devices."""
    snapshot, source = recompute([a_node("a"), a_node("b")], []), PersistentVolumeClaimVolumeSource
    volume = Volume(name="v", persistent_volume_claim=source(claim_name="data"))
    plain, both = (change(using(*names), volumes=(volume,)) for names in ((), ("c",)))
    objects = (a_claim(exactly()), *ONE)
    quiet = evolve(DEFAULT_PROFILE, frees_claims=False)
    unbound = evolve(DEFAULT_PROFILE, filters=DEFAULT_PROFILE.filters - {"VolumeBinding"})
    for pod in (plain, both):
        view = view_of(SCHEDULER, pod, *objects)
        for profile, blocked in ((DEFAULT_PROFILE, True), (quiet, True), (unbound, False)):
            one = claimed_by(view, info_of(pod), profile, snapshot)
            assert bool(one.volumes.blocked) is blocked
            assert one.blocked == one.volumes.blocked
            assert (one.devices is not None) is (pod is both)
            assert one._snapshot is snapshot and one._frees is profile.frees_claims
    there = PersistentVolumeClaim(metadata=ObjectMeta(name="data", namespace="default", uid="u"))
    view = view_of(SCHEDULER, plain, there)
    assert claimed_by(view, info_of(plain), DEFAULT_PROFILE, snapshot).blocked != ""
    nothing = claimed_by(view, info_of(using()), quiet, snapshot)
    assert not nothing and nothing.outcome == "" and NOTHING_CLAIMED.outcome == NO_CLAIMS
