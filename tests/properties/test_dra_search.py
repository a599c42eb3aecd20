"""The search for devices, function by function: what it gives to each request, what it costs, and why a
claim is refused (spec/devices.md). Each compares the whole result."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from test_dra import (
    DRIVER,
    a_claim,
    a_class,
    a_device,
    a_slice,
    exactly,
    inventory_of,
    size,
)
from test_dra_pools import consuming, facts, having, slice_of
from test_dra_taints import a_rule, tolerating

from refk8s.core.api import codec
from refk8s.core.api.resource_v1 import (
    DeviceClassConfiguration,
    DeviceRequestAllocationResult,
    DeviceSelector,
)
from refk8s.core.api.resources import DEVICE_TAINT_RULES
from refk8s.core.pods.device_selectors import SelectorProblem
from refk8s.core.scheduler.claims import (
    Kept,
)
from refk8s.core.scheduler.device_pools import Pools, fold_devices, results_of
from refk8s.core.scheduler.devices import BadClaim, Effort, OutOfEffort, Taken, allocate, share_id

# --- the search -----------------------------------------------------------------------------------


def found(claims, *slices, held=(), classes=(), rules=(), effort=None, node="", selects=None):
    """The allocation of each claim, or None."""
    inventory = inventory_of(*slices, *held)
    for rule in rules:
        inventory = fold_devices(inventory, DEVICE_TAINT_RULES, None, rule)
    by_name = {one.metadata.name: one for one in (a_class(), *classes)}
    taken = Taken(
        lambda device: device in inventory.holders,
        inventory.shares_of,
        tuple(inventory.rules.values()),
    )
    return allocate(
        claims, Pools().of_node(inventory, facts()), by_name.get, taken, selects or Kept().selects,
        effort or Effort(10_000, 100_000), node,
    )  # fmt: skip


def names(allocations):
    return allocations and [
        [(one.request, one.device) for one in results_of(each)] for each in allocations
    ]


def refusal(claims, *slices, **more):
    with pytest.raises(BadClaim) as refused:
        found(claims, *slices, **more)
    return str(refused.value)


def opaque(name, **more):
    return {"opaque": {"driver": DRIVER, "parameters": {"name": name}}, **more}


def configured(name, *configs):
    one = a_class(name)
    listed = tuple(codec.from_tree(DeviceClassConfiguration, opaque(each)) for each in configs)
    return replace(one, spec=replace(one.spec, config=listed))


def test_dra_6_a_result_has_all_that_the_driver_and_the_node_need():
    device = a_device(
        "d", bindingConditions=["up"], bindingFailureConditions=["broken"], taints=[("x", "NoExecute")]
    )  # fmt: skip
    claim = a_claim(exactly(tolerations=[tolerating("x", 5)]), exactly(adminAccess=True))
    one, admin = a_slice("a", device), a_device("e")
    (result,) = found([claim], a_slice("a", device, admin))
    first, second = results_of(result)
    assert first == DeviceRequestAllocationResult(
        request="r0", driver=DRIVER, pool="a", device="d",
        tolerations=claim.spec.devices.requests[0].exactly.tolerations,
        binding_conditions=("up",), binding_failure_conditions=("broken",),
    )  # fmt: skip
    assert second == DeviceRequestAllocationResult(
        request="r1", driver=DRIVER, pool="a", device="e", admin_access=True
    )
    assert result.devices.config is None and result.allocation_timestamp is None
    ((term,),) = [each.match_fields for each in result.node_selector.node_selector_terms]
    assert (term.key, term.operator, term.values) == ("metadata.name", "In", ("a",))
    assert found([claim], one) is None
    (empty,) = found([a_claim()], one)
    assert empty.devices.results is None and empty.node_selector is None


def test_dra_17_d_420_a_share_has_an_id_and_the_names_of_the_slice():
    device = a_device("d", allowMultipleAllocations=True, capacity={"b": {"value": "10"}})
    claim = a_claim(exactly(capacity={"requests": {f"{DRIVER}/b": "4"}}))
    ((result,),) = [results_of(each) for each in found([claim], a_slice("a", device))]
    assert result.consumed_capacity == {"b": "4"}
    assert result.share_id == share_id(claim, "r0", (DRIVER, "a", "d"))
    parts = result.share_id.split("-")
    assert [len(part) for part in parts] == [8, 4, 4, 4, 12]
    assert parts[2][0] == "4" and parts[3][0] == "8" and set("".join(parts)) <= set("0123456789abcdef")  # fmt: skip
    import hashlib

    text = hashlib.sha256(f"uid-c/r0/{DRIVER}/a/d".encode()).hexdigest()
    assert result.share_id == f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"
    unborn = replace(claim, metadata=replace(claim.metadata, uid=None))
    assert share_id(unborn, "r", ("\ud800", "b", "c")) != result.share_id
    free = a_device("d", allowMultipleAllocations=True)
    ((result,),) = [results_of(each) for each in found([a_claim(exactly())], a_slice("a", free))]
    assert result.consumed_capacity is None and result.share_id
    ((result,),) = [results_of(each) for each in found([a_claim(exactly(adminAccess=True))], a_slice("a", device))]  # fmt: skip
    assert result.consumed_capacity is result.share_id is None


def test_dra_6_configurations_are_those_of_the_classes_and_then_of_the_claim():
    classes = [configured("one", "A", "B"), configured("two", "C")]
    claim = a_claim(
        exactly(device_class="one"), exactly(device_class="two"), [exactly(device_class="one"), exactly()],
        config=[
            opaque("all"), opaque("first", requests=["r0"]), opaque("base", requests=["r2"]), opaque("sub", requests=["r2/s0"]),
            opaque("other", requests=["r2/s1"]), opaque("none", requests=["x"]), opaque("three", requests=["r0", "r1", "r2"]),
        ],
    )  # fmt: skip
    devices = [a_device(name) for name in "defg"]
    (result,) = found([claim], a_slice("a", *devices), classes=classes)
    told = [(one.source, one.requests, one.opaque.parameters["name"]) for one in result.devices.config]  # fmt: skip
    assert told == [
        ("FromClass", ("r0", "r2/s0"), "A"),
        ("FromClass", ("r0", "r2/s0"), "B"),
        ("FromClass", ("r1",), "C"),
        ("FromClaim", None, "all"),
        ("FromClaim", ("r0",), "first"),
        ("FromClaim", ("r2",), "base"),
        ("FromClaim", ("r2/s0",), "sub"),
        ("FromClaim", None, "three"),
    ]
    only = a_claim(exactly(device_class="one"), name="e")
    first, second = found([only, a_claim(exactly(device_class="two"))], a_slice("a", *devices), classes=classes)  # fmt: skip
    for each, expected in ((first, ["A", "B"]), (second, ["C"])):
        assert [one.opaque.parameters["name"] for one in each.devices.config] == expected
        assert [one.requests for one in each.devices.config] == [None] * len(expected)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (exactly(device_class="x"), "request r0: could not retrieve device class x"),
        ([exactly(device_class="x")], "request s0: could not retrieve device class x"),
        (exactly(mode="Some"), "request r0: unsupported count mode Some"),
        ([exactly(mode="Some")], "request s0: unsupported count mode Some"),
    ],
)
def test_dra_3_dra_6_a_request_that_cannot_be_understood_is_refused(request_, words):
    assert refusal([a_claim(request_)], a_slice("a", a_device("d"))) == f"claim default/c, {words}"


def test_dra_2_dra_6_all_devices_are_allocated_of_whole_pools_only():
    every = a_claim(exactly(mode="All"))
    devices = [a_device(name) for name in "de"]
    assert names(found([every], a_slice("a", *devices))) == [[("r0", "d"), ("r0", "e")]]
    assert found([every]) is None
    words = "claim default/c, request r0: asks for all devices, but resource pool"
    for broken, state in (
        (a_slice("a", *devices, count=2), "being updated"),
        (a_slice("a", devices[0], devices[0]), "invalid"),
        (a_slice("a", devices[0], devices[0], count=2), "being updated"),
    ):
        assert refusal([every], broken) == f"{words} {DRIVER}/a is currently {state}"
    fits = a_claim(exactly(1, size(2), mode="All"))
    both = a_slice("a", a_device("d", 1), a_device("e", 2), a_device("f", 3))
    assert names(found([fits], both)) == [[("r0", "e"), ("r0", "f")]]
    held = having(("f", None, {}), name="h")
    assert found([fits], both, held=[held]) is None
    admin = a_claim(exactly(1, size(2), mode="All", adminAccess=True))
    assert names(found([admin], both, held=[held])) == [[("r0", "e"), ("r0", "f")]]
    either = a_claim([exactly(1, size(9), mode="All"), exactly()])
    assert names(found([either], both)) == [[("r0/s1", "d")]]
    invalid = refusal([a_claim(exactly())], a_slice("a", devices[0], devices[0]))
    assert invalid == "invalid resource pools were encountered"
    assert found([a_claim(exactly())], a_slice("a", devices[0], count=2)) is None
    more = a_slice("a", devices[0], devices[0]), a_slice("a", a_device("z"), pool="q", name="q")
    assert names(found([a_claim(exactly())], *more)) == [[("r0", "z")]]


def test_dra_6_a_claim_has_at_most_32_devices_and_alternatives_that_fit():
    many = a_slice("a", *[a_device(f"d{n}") for n in range(40)])
    words = "number of requested devices {} exceeds the claim limit of 32"
    for requests, count in (
        ([exactly(33)], 33),
        ([exactly(20), exactly(20)], 40),
        ([exactly(20), [exactly(20), exactly(13)]], 33),
    ):
        assert refusal([a_claim(*requests)], many) == f"claim default/c: {words.format(count)}"
    for claims, expected in (
        ([a_claim(exactly(20), [exactly(20), exactly(12)])], [32]),
        ([a_claim(exactly(20)), a_claim(exactly(20), name="e")], [20, 20]),
    ):
        allocations = found(claims, many)
        assert (allocations and [len(results_of(each)) for each in allocations]) == (
            expected if sum(expected) <= 40 else None
        )
    empty = a_claim([])
    assert found([empty], many) is None


def test_dra_6_devices_that_are_taken_back_do_not_count_to_the_32():
    """The first alternative of r0 and the second request are 33 devices together."""
    pool = a_slice("a", *[a_device(f"d{n:02}") for n in range(33)])
    claim = a_claim([exactly(2), exactly()], exactly(31))
    expected = [("r0/s1", "d00"), *[("r1", f"d{n:02}") for n in range(1, 32)]]
    assert names(found([claim], pool)) == [expected]


def test_dra_3_selectors_of_the_class_are_evaluated_before_those_of_the_request():
    """Each once for a device. The text of an error says which one it is."""
    asked = []

    def selects(text, id, device):
        asked.append((text, id[2]))
        if text == "bad":
            return SelectorProblem("no"), 7
        return text != "none", 5

    strict = a_class("gpu", "yes", "also")
    claim = a_claim(exactly(1, "mine"), exactly(1, "mine"))
    one = a_slice("a", a_device("d"), a_device("e"))
    effort = Effort(1_000, 1_000)
    assert names(found([claim], one, classes=[strict], selects=selects, effort=effort))
    assert asked == [(text, name) for name in "de" for text in ("yes", "also", "mine")]
    assert effort.units == 1_000 - 5 * 6
    asked.clear()
    assert (
        found([a_claim(exactly(1, "none", "bad"))], one, classes=[strict], selects=selects) is None
    )
    assert ("bad", "d") not in asked
    words = "on device gpu.example.com/a/d: CEL runtime error: no"
    told = refusal([a_claim(exactly(1, "yes", "bad"))], one, selects=selects)
    assert told == f"claim default/c: selector #1 {words}"
    told = refusal([a_claim(exactly())], one, classes=[a_class("gpu", "bad")], selects=selects)
    assert told == f"class gpu: selector #0 {words}"
    bare = a_class()
    bare = replace(bare, spec=replace(bare.spec, selectors=(DeviceSelector(),)))
    told = refusal([a_claim(exactly())], one, classes=[bare])
    assert told == "class gpu, selector #0: CEL expression empty (unsupported selector type?)"
    assert found([claim], one, classes=[strict], selects=selects, effort=Effort(1_000, 30))
    for units in (14, 29):
        with pytest.raises(OutOfEffort):
            found([claim], one, classes=[strict], selects=selects, effort=Effort(1_000, units))
    asked.clear()
    two = a_claim(exactly(1, "a"), exactly(2, "a"))
    assert found([two], one, selects=selects) is None
    assert asked == [("a", "d"), ("a", "e")]  # once, however often the search goes back


def test_dra_9_every_step_is_counted():
    """How much of a search costs what, and that exactly as much is enough."""
    one = a_slice("a", *[a_device(f"d{n}") for n in range(3)])
    for claim, rules, steps in (
        (a_claim(exactly()), 0, 3),  # the alternative, the device, its capacity
        (a_claim(exactly(3)), 0, 7),
        (a_claim([exactly(9), exactly()]), 0, 4),
        (a_claim(exactly()), 15, 3),
        (a_claim(exactly()), 16, 4),
        (a_claim(exactly(2)), 33, 9),
        (a_claim(exactly(1, "true")), 0, 4),
    ):
        listed = [a_rule(f"x{n}", selector=None) for n in range(rules)]
        effort = Effort(100, 1_000)
        assert found([claim], one, rules=listed, effort=effort)
        assert 100 - effort.steps == steps
        assert found([claim], one, rules=listed, effort=Effort(steps, 1_000))
        with pytest.raises(OutOfEffort):
            found([claim], one, rules=listed, effort=Effort(steps - 1, 1_000))
    counted = slice_of(*[consuming(f"d{n}", ("s", "m", 1)) for n in range(33)], counters=[("s", {"m": 9})])  # fmt: skip
    effort = Effort(100, 1_000)
    assert found([a_claim(exactly())], counted, effort=effort)
    assert 100 - effort.steps == 5
    held = [having(("d0", None, {}), ("d1", None, {}), name="h")]
    effort = Effort(100, 1_000)
    assert found([a_claim(exactly())], one, held=held, effort=effort)
    assert 100 - effort.steps == 3  # devices that are held cost nothing
    listed = [a_rule(f"x{n}", effect="None", selector=None) for n in range(16)]
    effort = Effort(100, 1_000)
    assert found([a_claim(exactly(), exactly(3))], one, rules=listed, effort=effort) is None
    # r0 tries each device: its step, taints and capacity, and r1 in vain: its alternative and the
    # devices up to that of r0. The taints of a device, and its capacity for r1, cost once.
    assert 100 - effort.steps == 1 + (3 + 1 + 1) + (3 + 1 + 2 + 1) + (3 + 1 + 1 + 2 + 1)


@pytest.mark.parametrize(
    ("constraint", "values", "expected"),
    [
        ({"matchAttribute": f"{DRIVER}/k"}, "aab", [0, 1]),
        ({"matchAttribute": f"{DRIVER}/k"}, "abb", [1, 2]),
        ({"matchAttribute": f"{DRIVER}/k"}, "aba", [0, 2]),
        ({"matchAttribute": f"{DRIVER}/k"}, "abc", None),
        ({"distinctAttribute": f"{DRIVER}/k"}, "aab", [0, 2]),
        ({"distinctAttribute": f"{DRIVER}/k"}, "aaa", None),
        ({"matchAttribute": f"{DRIVER}/k"}, " bb", [1, 2]),
        ({"distinctAttribute": f"{DRIVER}/k"}, " ab", [1, 2]),
        ({"matchAttribute": "x.io/k"}, "aab", None),
        ({"matchAttribute": f"{DRIVER}/k", "requests": ["r0"]}, "abc", [0, 1]),
        ({"matchAttribute": f"{DRIVER}/k", "requests": ["r0", "r1"]}, "abc", None),
        ({"matchAttribute": f"{DRIVER}/k", "requests": ["r1/s0"]}, "abc", [0, 1]),
    ],
)
def test_dra_6_a_constraint_concerns_the_devices_of_its_requests(constraint, values, expected):
    devices = [
        a_device(f"d{n}", attributes={"k": {"string": value}} if value != " " else {})
        for n, value in enumerate(values)
    ]
    for requests in ([exactly(), exactly()], [exactly(), [exactly()]]):
        claim = a_claim(*requests, constraints=[constraint])
        allocations = names(found([claim], a_slice("a", *devices)))
        if isinstance(requests[1], list) or "r1/s0" not in constraint.get("requests", ()):
            chosen = allocations and [int(device[1:]) for _, device in allocations[0]]
            assert chosen == expected


def test_dra_6_the_type_and_the_domain_of_an_attribute_count():
    def match(*attributes, name=f"{DRIVER}/k", kind="matchAttribute"):
        devices = [a_device(f"d{n}", attributes=one) for n, one in enumerate(attributes)]
        claim = a_claim(exactly(2), constraints=[{kind: name}])
        return found([claim], a_slice("a", *devices)) is not None

    own = f"{DRIVER}/k"
    assert match({"k": {"int": 1}}, {own: {"int": 1}})
    assert not match({"k": {"int": 1}}, {"k": {"string": "1"}})
    assert not match({"k": {"int": 1}}, {"k": {"bool": True}})
    assert match({"k": {"bool": False}}, {"k": {"bool": False}})
    assert match({"k": {"version": "1.0.0"}}, {"k": {"version": "1.0.0"}})
    assert not match({"k": {"version": "1.0.0"}}, {"k": {"string": "1.0.0"}})
    assert match({"x.io/k": {"int": 1}}, {"x.io/k": {"int": 1}}, name="x.io/k")
    assert not match({"k": {"int": 1}}, {"k": {"int": 1}}, name="x.io/k")
    assert match({own: {"int": 1}, "k": {"int": 2}}, {own: {"int": 1}, "k": {"int": 3}})
    assert match({"k": {"int": 1}}, {"k": {"string": "1"}}, kind="distinctAttribute")
    assert not match({"k": {}}, {"k": {}}, kind="distinctAttribute")
    claim = a_claim(exactly(), constraints=[{"matchAttribute": own}, {}])
    words = "claim default/c, constraint #1: empty constraint (unsupported constraint type?)"
    assert refusal([claim], a_slice("a", a_device("d"))) == words
    every = a_claim(exactly(mode="All"), constraints=[{"matchAttribute": f"{DRIVER}/model"}])
    different = a_slice("a", a_device("d"), a_device("e", model="n"))
    words = (
        "cannot add device gpu.example.com/a/e because a claim constraint would not be satisfied"
    )
    assert refusal([every], different) == f"claim default/c, request r0: {words}"
    sub = a_claim([exactly(mode="All")], constraints=[{"matchAttribute": f"{DRIVER}/model"}])
    assert refusal([sub], different) == f"claim default/c, request s0: {words}"


def test_dra_6_two_constraints_are_met_together_after_going_back():
    """The values of a device that is taken back are forgotten, for every constraint."""
    kinds = [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3)]
    devices = [
        a_device(f"d{n}", attributes={"k": {"string": k}, "n": {"int": v}})
        for n, (k, v) in enumerate(kinds)
    ]
    constraints = [{"matchAttribute": f"{DRIVER}/k"}, {"distinctAttribute": f"{DRIVER}/n"}]
    claim = a_claim(exactly(3), constraints=constraints)
    assert names(found([claim], a_slice("a", *devices))) == [[("r0", f"d{n}") for n in (2, 3, 4)]]
    swapped = a_claim(exactly(3), constraints=constraints[::-1])
    assert names(found([swapped], a_slice("a", *devices))) == [[("r0", f"d{n}") for n in (2, 3, 4)]]
    only = [{**one, "requests": ["r0"]} for one in constraints[:1]]
    mixed = a_claim(exactly(), exactly(2), constraints=[*only, constraints[1]])
    assert names(found([mixed], a_slice("a", *devices[:4]))) is None
    assert names(found([mixed], a_slice("a", *devices))) == [
        [("r0", "d0"), ("r1", "d1"), ("r1", "d4")]
    ]
    of_two = a_claim(exactly(2), exactly(), constraints=[{**constraints[0], "requests": ["r0"]}])
    assert names(found([of_two], a_slice("a", *devices[1:]))) == [
        [("r0", "d2"), ("r0", "d3"), ("r1", "d1")]
    ]


def test_dra_5_dra_7_a_device_is_taken_once_and_by_administrators_besides():
    one = a_slice("a", a_device("d"), a_device("e"))
    admin, plain = exactly(adminAccess=True), exactly()
    for requests, expected in (
        ([plain, plain], ["d", "e"]),
        ([plain, plain, plain], None),
        ([admin, admin], ["d", "e"]),  # an administrator's device once in a claim
        ([admin, admin, admin], None),
        ([plain, admin], ["d", "e"]),
        ([plain, plain, admin], None),
    ):
        allocations = names(found([a_claim(*requests)], one))
        assert (allocations and [device for _, device in allocations[0]]) == expected
    both = found([a_claim(plain, plain), a_claim(admin, admin, name="e")], one)
    assert names(both)[1] == [("r0", "d"), ("r1", "e")]
    held = [having(("d", None, {}), name="h")]
    assert names(found([a_claim(plain)], one, held=held)) == [[("r0", "e")]]
    assert names(found([a_claim(admin)], one, held=held)) == [[("r0", "d")]]
    share = [having(("d", "s", {}), name="h")]
    assert names(found([a_claim(plain)], one, held=share)) == [[("r0", "e")]]


def test_dra_5_dra_20_taints_of_slices_and_rules_keep_requests_off():
    tainted = a_device("d", taints=[("x", "NoSchedule"), ("y", "NoExecute")])
    one = a_slice("a", tainted, a_device("e"))
    for tolerated, device in (
        ([], "e"), ([tolerating("x")], "e"), ([tolerating("y")], "e"),
        ([tolerating("x"), tolerating("y")], "d"), ([tolerating("y", 0), tolerating("x", 9)], "d"),
    ):  # fmt: skip
        assert names(found([a_claim(exactly(tolerations=tolerated))], one)) == [[("r0", device)]]
    plain = a_slice("a", a_device("d"), a_device("e"))
    for effect, device in (("NoSchedule", "e"), ("NoExecute", "e"), ("None", "d")):
        rule = a_rule(effect=effect, selector={"device": "d"})
        assert names(found([a_claim(exactly())], plain, rules=[rule])) == [[("r0", device)]]
        wide = a_rule("w", effect=effect, key="z")
        assert (found([a_claim(exactly())], plain, rules=[rule, wide]) is None) is (
            effect != "None"
        )
    admin = a_claim(exactly(adminAccess=True))
    assert names(found([admin], one)) == [[("r0", "e")]]


def test_dra_17_dra_18_counters_and_shares_are_given_back_when_a_search_goes_back():
    """The first alternative takes what the second request needs."""
    devices = [consuming("d", ("s", "m", 3)), consuming("e", ("s", "m", 2)), consuming("f", ("s", "m", 2)), {"name": "g"}]  # fmt: skip
    pool = slice_of(*devices, counters=[("s", {"m": 4})])
    assert names(found([a_claim(exactly(2))], pool)) == [[("r0", "d"), ("r0", "g")]]
    assert names(found([a_claim(exactly(3))], pool)) == [[("r0", "e"), ("r0", "f"), ("r0", "g")]]
    assert names(found([a_claim(exactly(3, adminAccess=True))], pool)) == [
        [("r0", "d"), ("r0", "e"), ("r0", "f")]
    ]
    held = [having(("e", None, {}), name="h")]
    assert names(found([a_claim(exactly())], pool, held=held)) == [[("r0", "f")]]
    shared = {"name": "x", "allowMultipleAllocations": True, "capacity": {"b": {"value": "5"}}}
    own = {"name": "y", "capacity": {"b": {"value": "9"}}}
    asked = [exactly(capacity={"requests": {"b": much}}) for much in ("3", "2", "1")]
    pool = slice_of(shared, own)
    assert names(found([a_claim(*asked[:2])], pool)) == [[("r0", "x"), ("r1", "x")]]
    assert names(found([a_claim(*asked)], pool)) == [[("r0", "x"), ("r1", "x"), ("r2", "y")]]
    big = exactly(capacity={"requests": {"b": "5"}})
    assert names(found([a_claim(asked[0], big)], pool)) == [[("r0", "x"), ("r1", "y")]]
    assert names(found([a_claim(asked[0], big, asked[1])], pool)) == [
        [("r0", "x"), ("r1", "y"), ("r2", "x")]
    ]
    nine = exactly(capacity={"requests": {"b": "9"}})
    assert names(found([a_claim(asked[0], nine, big)], pool)) is None
    twice = a_claim(exactly(capacity={"requests": {"b": "1", f"{DRIVER}/b": "1"}}))
    words = f"claim default/c, request r0: capacity {DRIVER}/b is requested with and without its domain"  # fmt: skip
    assert refusal([twice], pool) == words
    counted = {**shared, **consuming("x", ("s", "m", 3))}
    pool = slice_of(counted, consuming("z", ("s", "m", 2)), counters=[("s", {"m": 4})])
    assert names(found([a_claim(*asked[:2])], pool)) == [[("r0", "x"), ("r1", "x")]]
    assert found([a_claim(*asked)], pool) is None
    held = [having(("x", "s", {}), name="h")]
    assert names(found([a_claim(*asked[:1])], pool, held=held)) == [[("r0", "x")]]
    assert found([a_claim(exactly(2))], pool, held=held) is None
    assert found([a_claim(exactly())], pool, held=held) is None  # the share has consumed 3 of 4
    assert names(found([a_claim(big)], pool)) == [[("r0", "x")]]
    assert found([a_claim(big)], pool, held=held) is None  # 1 of its capacity is consumed
    small = slice_of(counted, consuming("w", ("s", "m", 1)), counters=[("s", {"m": 4})])
    assert names(found([a_claim(*asked[:2], exactly())], small)) == [
        [("r0", "x"), ("r1", "x"), ("r2", "w")]  # counters are consumed once, however many shares
    ]


def test_dra_18_administrators_consume_no_counters_and_need_none():
    three, two = consuming("d", ("s", "m", 3)), consuming("e", ("s", "m", 2))
    pool = slice_of(three, two, counters=[("s", {"m": 4})])
    admin = exactly(adminAccess=True)
    assert names(found([a_claim(admin, exactly())], pool)) == [[("r0", "d"), ("r1", "e")]]
    held = [having(("e", None, {}), name="h")]
    assert names(found([a_claim(admin)], pool, held=held)) == [[("r0", "d")]]


def test_dra_18_what_is_given_back_is_what_was_taken():
    """A search that goes back does not find more counters, nor less, than there were."""
    devices = [consuming(name, ("s", "m", 2)) for name in "abc"]
    pool = slice_of(*devices, {"name": "z"}, counters=[("s", {"m": 4})])
    three = a_claim(exactly(3))
    assert names(found([three], pool)) == [[("r0", "a"), ("r0", "b"), ("r0", "z")]]
    assert found([a_claim(exactly(4))], pool) is None
    matching_ = [{"matchAttribute": f"{DRIVER}/k"}]
    odd = [{**one, "attributes": {"k": {"int": n}}} for n, one in enumerate(devices)]
    last = [{**odd[2], "name": name} for name in "xy"]
    wide = slice_of(*odd[:2], *last, counters=[("s", {"m": 4})])
    two = a_claim(exactly(2), constraints=matching_)
    assert names(found([two], wide)) == [[("r0", "x"), ("r0", "y")]]
    narrow = slice_of(*odd[:2], *last, counters=[("s", {"m": 3})])
    assert found([two], narrow) is None


def test_dra_6_the_alternatives_of_a_request_for_all_devices_are_configured():
    claim = a_claim([exactly(mode="All")], exactly(), config=[opaque("base", requests=["r0"])])
    first, second = a_slice("a", a_device("d"), a_device("e")), a_device("f")
    strict = a_class("other", size(2))
    other = a_claim([exactly(mode="All")], exactly(device_class="other"), config=[opaque("base", requests=["r0"])])  # fmt: skip
    assert found([claim], first) is None  # no device is left for the other request
    all_of = a_claim([exactly(1, size(2), mode="All")], exactly(), config=[opaque("base", requests=["r0"])])  # fmt: skip
    pool = a_slice("a", a_device("d", 2), second)
    (result,) = found([all_of], pool)
    assert names([result]) == [[("r0/s0", "d"), ("r1", "f")]]
    assert [one.requests for one in result.devices.config] == [("r0",)]
    assert found([other], pool, classes=[strict]) is None


def selector_of(*devices, node="n"):
    """The selector of an allocation of all these devices, each in a slice of its own."""
    slices = [slice_of({"name": f"d{n}"}, name=f"s{n}", count=len(devices), **{"nodeName": None, **one}) for n, one in enumerate(devices)]  # fmt: skip
    claim = a_claim(exactly(len(devices)))
    inventory = inventory_of(*slices)
    of = facts("a", zone="z", rack="r")
    (result,) = allocate(
        [claim], Pools().of_node(inventory, of), {"gpu": a_class()}.get, Taken(lambda device: False),
        Kept().selects, Effort(100, 100), node,
    )  # fmt: skip
    found = result.node_selector
    return found and [
        (
            [(one.key, one.operator, one.values) for one in term.match_fields or ()],
            [(one.key, one.operator, one.values) for one in term.match_expressions or ()],
        )
        for term in found.node_selector_terms
    ]


def matching(*keys, fields=()):
    listed = [{"key": key, "operator": "Exists"} for key in keys]
    own = [{"key": "metadata.name", "operator": "In", "values": [name]} for name in fields]
    term = {**({"matchExpressions": listed} if listed else {}), **({"matchFields": own} if own else {})}  # fmt: skip
    return {"nodeSelector": {"nodeSelectorTerms": [term]}}


def test_dra_4_the_nodes_of_an_allocation():
    everywhere = {"allNodes": True}
    zone, rack = ("zone", "Exists", None), ("rack", "Exists", None)
    name = ("metadata.name", "In", ("a",))
    assert selector_of(everywhere) is None
    assert selector_of(everywhere, {"nodeName": "a"}) == [([name], [])]
    assert selector_of(matching("zone"), {"nodeName": "a"}) == [([name], [])]
    assert selector_of(matching("zone"), everywhere) == [([], [zone])]
    assert selector_of(matching("zone"), matching("rack", "zone")) == [([], [zone, rack])]
    assert selector_of(matching(fields="a"), matching(fields="a")) == [([name], [])]
    assert selector_of(matching(fields="a"), matching("zone")) == [([name], [zone])]
    assert selector_of(everywhere, node="x") is None
    bound = a_slice(None, a_device("d", bindsToNode=True), pool="net", name="net")
    (result,) = found([a_claim(exactly())], bound, node="x")
    ((term,),) = [one.match_fields for one in result.node_selector.node_selector_terms]
    assert term.values == ("x",)
