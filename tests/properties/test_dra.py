"""Devices: the search against one that tries everything, claims of pods in runs with faults, and
the controller of claims (spec/devices.md)."""

from __future__ import annotations

from itertools import combinations, product
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from runs import choices, run, settle
from sched_worlds import a_node, a_pod
from workload_helpers import NOW, change, create, get, nothing_wrong, patch, remove, stored, view_of

from refk8s.core.actions import Stop
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Namespace, PodResourceClaim, PodResourceClaimStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resource_v1 import (
    DeviceClass,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from refk8s.core.api.resources import NODES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.devices import ADMIN_LABEL, check_admin_access
from refk8s.core.apiserver.validation.devices import validate_resource_claim
from refk8s.core.cluster.state import begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.resource_claim import ResourceClaimController
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Local
from refk8s.core.pods.device_selectors import SelectorProblem, device_value, selects
from refk8s.core.pods.devices import FINALIZER, POD_CLAIM_ANNOTATION
from refk8s.core.scheduler import claims as limits
from refk8s.core.scheduler.claimed import claimed_by
from refk8s.core.scheduler.claims import (
    CANNOT_ALLOCATE,
    NOT_AVAILABLE,
    TIMED_OUT,
    Devices,
    Kept,
    reservations,
)
from refk8s.core.scheduler.cycle import Scheduler, scheduler
from refk8s.core.scheduler.device_pools import (
    EMPTY_INVENTORY,
    Pools,
    fold_devices,
    id_of,
    results_of,
)
from refk8s.core.scheduler.devices import BadClaim, Effort, Taken, allocate
from refk8s.core.scheduler.profile import DEFAULT_PROFILE
from refk8s.core.scheduler.snapshot import facts_of, info_of, recompute

SCHEDULER, CONTROLLER = Scheduler(), ResourceClaimController()
EVERY_FAULT = ["lose", "crash", "twice", "cut", "give up"]
DRIVER = "gpu.example.com"
GONE = "2026-01-01T00:00:00Z"


def made(kind, name, namespace="default", **fields):
    metadata = {"name": name, "uid": f"uid-{name}"} | (
        {"namespace": namespace} if namespace else {}
    )
    return codec.from_tree(kind, {"metadata": metadata, **fields})


def a_device(name, size=1, taints=(), **more):
    tree = {
        "name": name,
        "attributes": {
            "size": {"int": size},
            f"{DRIVER}/model": {"string": more.pop("model", "m")},
        },
    }
    if taints:
        tree["taints"] = [{"key": key, "effect": effect} for key, effect in taints]
    return tree | more  # fmt: skip


def a_slice(node, *devices, pool=None, generation=1, count=1, name=None, **spec):
    place = {"nodeName": node} if node else {"allNodes": True}
    numbers = {"name": pool or node, "generation": generation, "resourceSliceCount": count}
    spec = {"driver": DRIVER, "pool": numbers, **place, "devices": list(devices), **spec}
    return made(ResourceSlice, name or f"slice-{node}", "", spec=spec)


def a_class(name="gpu", *expressions):
    spec = {"selectors": [{"cel": {"expression": text}} for text in expressions]}
    return made(DeviceClass, name, "", spec=spec)


def exactly(count=1, *expressions, device_class="gpu", mode="ExactCount", **more):
    found = {"deviceClassName": device_class, "allocationMode": mode, **more}
    if mode == "ExactCount":
        found["count"] = count
    if expressions:
        found["selectors"] = [{"cel": {"expression": text}} for text in expressions]
    return found


def size(least):
    return f'device.attributes["{DRIVER}"].size >= {least}'


def a_claim(*requests, name="c", constraints=(), **more):
    """Each request: what is wanted exactly, or a list of alternatives."""
    listed = [
        {"name": f"r{n}", "firstAvailable": [{"name": f"s{k}", **sub} for k, sub in enumerate(one)]}
        if isinstance(one, list)
        else {"name": f"r{n}", "exactly": one}
        for n, one in enumerate(requests)
    ]
    devices = {"requests": listed, "constraints": list(constraints), **more}
    return made(ResourceClaim, name, spec={"devices": devices})


def using(*claims, name="p", **parts):
    pod = a_pod(name)
    metadata = replace(pod.metadata, namespace="default", uid=f"uid-{name}")
    named = tuple(PodResourceClaim(name=each, resource_claim_name=each) for each in claims)
    return change(replace(pod, metadata=metadata), resource_claims=named, **parts)


def from_template(name="p", template="t", generated=None):
    pod = using(name=name)
    wanted = (PodResourceClaim(name="g", resource_claim_template_name=template),)
    statuses = (PodResourceClaimStatus(name="g", resource_claim_name=generated),)
    return change(pod, resource_claims=wanted, resource_claim_statuses=statuses if generated else None)  # fmt: skip


def inventory_of(*objects):
    inventory = EMPTY_INVENTORY
    for each in objects:
        resource = RESOURCE_SLICES if each.kind == "ResourceSlice" else RESOURCE_CLAIMS
        inventory = fold_devices(inventory, resource, None, each)
    return inventory


def allocation(claims, slices, node="a", classes=(), taken=(), effort=None):
    """The names of the devices for each request, or None."""
    found = {each.metadata.name: each for each in (a_class(), *classes)}
    pools = Pools().of_node(inventory_of(*slices), facts_of(a_node(node)))
    results = allocate(
        claims, pools, found.get, Taken(lambda device: device[2] in taken), Kept().selects, effort or Effort(100_000, 10_000_000), node
    )  # fmt: skip
    if results is None:
        return None
    return [[(one.request, one.device) for one in results_of(each)] for each in results]


def seen(pod, *objects):
    view = view_of(SCHEDULER, pod, *objects)
    return Devices(view, info_of(pod), Map(), Kept(), 2)


# --- the search -----------------------------------------------------------------------------------

wants = st.builds(
    lambda count, least, is_all, is_admin: (1 if is_all else count, least, is_all, is_admin),
    st.integers(1, 3), st.integers(0, 3), st.integers(0, 5).map(lambda n: n == 0), st.integers(0, 5).map(lambda n: n == 0),
)  # fmt: skip
requests = st.one_of(wants, st.lists(wants, min_size=1, max_size=2))
constraint_names = st.lists(st.sampled_from(["r0", "r1", "r0/s1"]), max_size=2, unique=True)


def as_tree(want, is_alternative=False):
    count, least, is_all, is_admin = want
    more = {"adminAccess": True} if is_admin and not is_alternative else {}
    return exactly(count, size(least), mode="All" if is_all else "ExactCount", **more)


def naive(claims, devices, taken):
    """Every choice of alternatives and devices, in the order of DRA-6; the first that is allowed.

    `claims`: lists of (requests, names of the one constraint or None). `devices`: (name, size,
    model), in order."""
    slots = [
        (number, f"r{place}", one)
        for number, (listed, _) in enumerate(claims)
        for place, one in enumerate(listed)
    ]
    options = []
    for number, base, one in slots:
        alternatives = (
            [(f"{base}/s{k}", base, (*sub[:3], False)) for k, sub in enumerate(one)]
            if isinstance(one, list)
            else [(base, base, one)]
        )
        found = []
        for name, parent, (count, least, is_all, is_admin) in alternatives:
            able = [each for each in devices if each[1] >= least]
            sets = [tuple(able)] if is_all and able else [] if is_all else combinations(able, count)
            found += [(number, name, parent, is_admin, chosen) for chosen in sets]
        options.append(found)
    for choice in product(*options):
        if is_allowed(choice, claims, taken):
            result = [[] for _ in claims]
            for number, name, _, _, chosen in choice:
                result[number] += [(name, device[0]) for device in chosen]
            return result
    return None


def is_allowed(choice, claims, taken):
    held, by_claim = [], {}
    for number, _, _, is_admin, chosen in choice:
        for device in chosen:
            if not is_admin:
                if device[0] in taken or device[0] in held:
                    return False
                held.append(device[0])
            by_claim.setdefault(number, []).append((is_admin, device[0]))
    for number, (_, names) in enumerate(claims):
        mine = by_claim.get(number, ())
        if any(is_admin and [n for _, n in mine].count(name) > 1 for is_admin, name in mine):
            return False  # an administrator's device once in a claim
        if names is not None:
            models = {
                device[2]
                for claim, name, base, _, chosen in choice
                if claim == number and (not names or {name, base} & set(names))
                for device in chosen
            }
            if len(models) > 1:
                return False
    return True


def is_ordered(claims):
    """Whether the order of the choice is independent of administrators: one that comes first does
    not see what a later request of the claim takes."""
    return not any(isinstance(one, tuple) and one[3] for listed, _ in claims for one in listed)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("mn")), min_size=1, max_size=5),
    st.lists(st.tuples(st.lists(requests, min_size=1, max_size=2), st.none() | constraint_names), min_size=1, max_size=2),
    st.sets(st.integers(0, 4), max_size=2),
)  # fmt: skip
def test_dra_5_dra_6_dra_7_the_search_finds_what_one_finds_that_tries_everything(
    drawn, claims, held
):
    """The devices are in two slices of one pool."""
    devices = [(f"d{n}", each, model) for n, (each, model) in enumerate(drawn)]
    taken = {f"d{n}" for n in held}
    trees = [a_device(name, each, model=model) for name, each, model in devices]
    half = len(trees) // 2
    slices = [a_slice("a", *trees[:half], count=2, name="s1"), a_slice("a", *trees[half:], count=2, name="s2")]  # fmt: skip
    objects = []
    for number, (listed, names) in enumerate(claims):
        constraints = (
            [{"matchAttribute": f"{DRIVER}/model", **({"requests": names} if names else {})}]
            if names is not None
            else []
        )
        shown = [
            [as_tree(sub, True) for sub in one] if isinstance(one, list) else as_tree(one)
            for one in listed
        ]
        objects.append(a_claim(*shown, name=f"c{number}", constraints=constraints))
    expected = naive(claims, devices, taken)
    try:
        found = allocation(objects, slices, taken=taken)
    except BadClaim as problem:
        assert "cannot add device" in str(problem)  # all devices, which a constraint excludes
        return
    if is_ordered(claims):
        assert found == expected
    else:
        assert (found is None) == (expected is None)


@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 3))
def test_dra_2_only_devices_of_whole_pools_of_the_newest_generation_are_allocated(newest, older, count):  # fmt: skip
    new = a_slice("a", a_device("new"), generation=newest, count=count, name="s2")
    old = a_slice("a", a_device("old"), generation=min(older, newest - 1), name="s1")
    found = allocation([a_claim(exactly())], [old, new])
    assert found == ([[("r0", "new")]] if count == 1 else None)
    twice = a_slice("a", a_device("x"), a_device("x"))
    with pytest.raises(BadClaim, match="invalid resource pools were encountered"):
        allocation([a_claim(exactly())], [twice])
    for broken in (twice, a_slice("a", a_device("x"), count=2)):
        with pytest.raises(BadClaim, match="asks for all devices, but resource pool"):
            allocation([a_claim(exactly(mode="All"))], [broken])


def test_dra_2_dra_4_devices_are_reached_by_name_by_selector_or_by_all():
    term = {"key": "zone", "operator": "In", "values": ["z"]}
    selector = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    spec = {"driver": DRIVER, "pool": {"name": "net", "generation": 1, "resourceSliceCount": 1}}
    per_device = made(ResourceSlice, "net", "", spec=spec | {
        "perDeviceNodeSelection": True,
        "devices": [
            {"name": "one", "nodeName": "a"}, {"name": "some", "nodeSelector": selector}, {"name": "any", "allNodes": True},
        ],
    })  # fmt: skip
    in_zone = facts_of(change(a_node("b"), labels={"zone": "z"}))
    for facts, names in (
        (facts_of(a_node("a")), ["one", "any"]),
        (in_zone, ["some", "any"]),
        (facts_of(a_node("c")), ["any"]),
    ):
        ((_, offers),) = Pools().of_node(inventory_of(per_device), facts)
        assert [each.device.name for each in offers] == names
    claim = a_claim(exactly(2))
    (found,) = allocate(
        [claim], Pools().of_node(inventory_of(per_device), in_zone), {"gpu": a_class()}.get, Taken(lambda device: False), Kept().selects, Effort(100, 100), "a"
    )  # fmt: skip
    assert codec.to_tree(found.node_selector) == selector
    assert allocation([claim], [per_device], node="c") is None


def test_dra_3_expressions_select_devices():
    device = a_slice("a", a_device("d", 3, capacity={"memory": {"value": "16Gi"}})).spec.devices[0]
    value = device_value(DRIVER, device)
    for text, expected in (
        ("true", True),
        (size(3), True),
        (size(4), False),
        (f'device.driver == "{DRIVER}"', True),
        (f'device.capacity["{DRIVER}"].memory.compareTo(quantity("8Gi")) > 0', True),
        ('"model" in device.attributes["other.example.com"]', False),
        (f'has(device.attributes["{DRIVER}"].model)', True),
        ('"other.example.com" in device.attributes', False),
        (f'cel.bind(gpu, device.attributes["{DRIVER}"], gpu.size == 3 && gpu.model == "m")', True),
    ):
        assert selects(text, value)[0] is expected, text
    with pytest.raises(SelectorProblem, match="no such key: absent"):
        selects(f'device.attributes["{DRIVER}"].absent == 1', value)
    slices = [a_slice("a", a_device("d", 3))]
    wrong = a_claim(exactly(1, f'device.attributes["{DRIVER}"].absent == 1'))
    with pytest.raises(BadClaim, match=r"claim default/c: selector #0 on device .*: CEL runtime error"):  # fmt: skip
        allocation([wrong], slices)
    assert allocation([a_claim(exactly())], slices, classes=[a_class("gpu", size(4))]) is None


def test_dra_15_a_selector_that_is_no_expression_is_refused():
    (cause,) = validate_resource_claim(a_claim(exactly(1, "device.atributes.x")))
    assert cause.field == "spec.devices.requests[0].exactly.selectors[0].cel.expression"
    assert "undefined field" in cause.detail
    (cause,) = validate_resource_claim(a_claim(exactly(1, "device.driver")))
    assert cause.detail == "must evaluate to bool or the unknown type, not string"
    assert not validate_resource_claim(a_claim(exactly(1, size(2))))


def test_dra_5_a_tainted_device_is_for_requests_that_tolerate_it():
    slices = [a_slice("a", a_device("d", taints=[("bad", "NoSchedule")]))]
    assert allocation([a_claim(exactly())], slices) is None
    tolerating = exactly(tolerations=[{"key": "bad", "operator": "Exists"}])
    assert allocation([a_claim(tolerating)], slices) == [[("r0", "d")]]
    assert allocation([a_claim(exactly())], [a_slice("a", a_device("d", taints=[("x", "None")]))])


def test_d_346_attributes_that_are_lists_match_no_constraint():
    devices = [a_device(f"d{n}", attributes={"kind": {"strings": ["x"]}}) for n in range(2)]
    for constraint in ("matchAttribute", "distinctAttribute"):
        alike = [{constraint: f"{DRIVER}/kind"}]
        claim = a_claim(exactly(2), constraints=alike)
        assert allocation([claim], [a_slice("a", *devices)]) is None
    assert allocation([a_claim(exactly(2))], [a_slice("a", *devices)]) is not None


def test_dra_6_a_claim_gets_at_most_32_devices():
    slices = [a_slice("a", *[a_device(f"d{n}") for n in range(40)])]
    assert allocation([a_claim(exactly(32))], slices) is not None
    with pytest.raises(BadClaim, match="number of requested devices 33 exceeds the claim limit of 32"):  # fmt: skip
        allocation([a_claim(exactly(33))], slices)
    either = a_claim(exactly(30), [exactly(3), exactly(2)])
    (found,) = allocation([either], slices)
    assert len(found) == 32 and found[-1][0] == "r1/s1"


def test_dra_9_a_search_ends():
    """Forty equal devices, of which a constraint admits fifteen, and a costly expression."""
    devices = [a_device(f"d{n}", model=f"m{n // 15}") for n in range(40)]
    claim = a_claim(exactly(16), constraints=[{"matchAttribute": f"{DRIVER}/model"}])
    objects = (claim, a_class(), a_slice("a", *devices))
    facts = facts_of(a_node("a"))
    assert seen(using("c"), *objects).refusal(facts) is TIMED_OUT
    costly = f"{'x'.join(['[1, 2, 3, 4, 5, 6, 7, 8, 9]'] * 1)}"
    nested = (
        f"{costly}.all(a, {costly}.all(b, {costly}.all(c, {costly}.all(d, {costly}.all(e, "
        "a + b + c + d + e > 0)))))"
    )
    hostile = a_claim(exactly(1, nested))
    refusal = seen(using("c"), hostile, a_class(), a_slice("a", *devices)).refusal(facts)
    assert "cost limit exceeded" in refusal.messages[0] or refusal is TIMED_OUT


@given(st.integers(1, 30), st.integers(0, 60))
def test_dra_9_the_effort_of_all_nodes_is_bounded_and_kept_results_change_nothing(spent, nodes):
    """With results kept from an earlier decision, and without."""
    devices = [a_device(f"d{n}", model=f"m{n // 3}") for n in range(9)]
    claim = a_claim(exactly(4), constraints=[{"matchAttribute": f"{DRIVER}/model"}])
    slices = [a_slice(f"n{n}", *devices) for n in range(3)]
    pod = using("c")
    view = view_of(SCHEDULER, pod, claim, a_class(), *slices)
    kept = Kept()

    def results(one):
        devices = Devices(view, info_of(pod), Map(), one, nodes)
        devices._steps = spent * 10
        return [devices.refusal(facts_of(a_node(f"n{n}"))) for n in range(3)]

    first = results(kept)
    assert first == results(kept) == results(Kept())
    assert first[0] in (CANNOT_ALLOCATE, TIMED_OUT)
    if TIMED_OUT in first:
        assert set(first[first.index(TIMED_OUT) :]) == {TIMED_OUT}
    assert limits.STEPS >= limits.STEPS_OF_NODE


# --- claims of a pod ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "objects", "words"),
    [
        (from_template(), (), 'pod "default/p": ResourceClaim not created yet'),
        (using("c"), (), 'could not find ResourceClaim "default/c"'),
        (using("c"), (change(a_claim(), deletion_timestamp=GONE),), 'resourceclaim "c" is being deleted'),
        (from_template(generated="c"), (a_claim(),), "ResourceClaim default/c was not created for pod default/p (pod is not owner)"),
        (using("c"), (a_claim(exactly()),), "request r0: device class gpu does not exist"),
        (using("c"), (a_claim([exactly()]),), "request r0/s0: device class gpu does not exist"),
        (using("c"), (a_claim(exactly()), a_class()), ""),
    ],
)  # fmt: skip
def test_dra_1_dra_4_a_pod_waits_for_its_claims_and_classes(pod, objects, words):
    assert seen(pod, *objects).blocked == words


def allocated(claim, node="a", device="d", *consumers):
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    results = [{"request": "r0", "driver": DRIVER, "pool": node, "device": device}]
    tree = {
        "allocation": {"devices": {"results": results}, "nodeSelector": {"nodeSelectorTerms": [term]}},
        "reservedFor": [{"resource": "pods", "name": each, "uid": f"uid-{each}"} for each in consumers],
    }  # fmt: skip
    finalized = change(claim, finalizers=(FINALIZER,))
    return replace(finalized, status=codec.from_tree(type(claim.status), tree))


def test_dra_4_dra_11_an_allocated_claim_is_used_on_its_node_and_freed_if_nobody_else_does():
    claim = a_claim(exactly())
    other = facts_of(a_node("b"))
    for consumers, released in (((), True), (("p",), True), (("q",), False)):
        devices = seen(using("c"), allocated(claim, "a", "d", *consumers), a_class())
        assert devices.refusal(facts_of(a_node("a"))) is None and not devices.releasable()
        assert devices.refusal(other) is NOT_AVAILABLE
        assert devices.releasable() == (("default/c",) if released else ())
    crowd = [f"q{n}" for n in range(256)]
    assert seen(using("c"), allocated(claim, "a", "d", *crowd)).blocked == "resourceclaim in use"
    assert not seen(using("c", name="q7"), allocated(claim, "a", "d", *crowd)).blocked


def test_dra_5_dra_8_a_decided_allocation_holds_its_device_until_it_is_written():
    """DRA-8: and is given up if the claim or the device is lost meanwhile."""
    facts, pod = facts_of(a_node("a")), using("c")
    claim, other = a_claim(exactly()), a_claim(exactly(), name="e")
    objects = (a_class(), a_slice("a", a_device("d")))
    decided = seen(pod, claim, *objects).allocations(facts)
    in_flight = Map({one.claim: one for one in decided})
    for late, expected in ((using("e", name="q"), CANNOT_ALLOCATE), (using("c", name="q"), None)):
        view = view_of(SCHEDULER, late, claim, other, *objects)
        devices = Devices(view, info_of(late), in_flight, Kept(), 2)
        assert devices.blocked == ("" if expected else "resource claim default/c is in the process of being allocated")  # fmt: skip
        assert not expected or devices.refusal(facts) is expected

    def writes(*seen_now):
        view = view_of(SCHEDULER, pod, *objects, *seen_now)
        found = reservations(view, info_of(pod), facts, decided, NOW)
        return found and [(one.subresource, one.body) for one in found]

    ((subresource, body),) = writes(claim)
    assert subresource == "" and body.metadata.finalizers == (FINALIZER,)
    ((subresource, body),) = writes(change(claim, finalizers=(FINALIZER,)))
    assert subresource == "status" and body.status.allocation.allocation_timestamp == timestamp(NOW)
    untimed = replace(body.status.allocation, allocation_timestamp=None)
    assert untimed == decided[0].allocation
    assert [one.uid for one in body.status.reserved_for] == ["uid-p"]
    assert writes(replace(claim, status=body.status)) == ()
    elsewhere = allocated(claim, "b", "d")
    for lost in (
        (),
        (change(claim, deletion_timestamp=GONE),),
        (replace(claim, metadata=replace(claim.metadata, uid="new")),),
        (elsewhere,),
        (claim, allocated(other, "a", "d")),
    ):
        assert writes(*lost) is None


def test_dra_10_earlier_alternatives_give_more_points():
    claim = a_claim([exactly(1, size(3)), exactly(2)])
    objects = (
        claim,
        a_class(),
        a_slice("a", a_device("d1"), a_device("d2")),
        a_slice("b", a_device("big", 3)),
    )
    pod, snapshot = using("c"), recompute([a_node("a"), a_node("b")], [])  # fmt: skip
    claimed = claimed_by(view_of(SCHEDULER, pod, *objects), info_of(pod), DEFAULT_PROFILE, snapshot)
    assert claimed.points(["a", "b"]) == {"a": 87, "b": 100}
    plain = seen(pod, a_claim(exactly()), a_class())
    assert plain.points([facts_of(a_node("a"))]) == {}


def test_dra_7_only_some_namespaces_have_administrative_access():
    claim = a_claim(exactly(adminAccess=True))
    template = made(ResourceClaimTemplate, "t", spec={"spec": codec.to_tree(claim.spec)})

    class Store:
        def __init__(self, labels):
            self.labels = labels

        def get(self, key):
            value = Namespace(metadata=ObjectMeta(name="default", labels=self.labels))
            return type("Record", (), {"value": value})

    def asked(request, labels):
        return SimpleNamespace(request=request, store=Store(labels))

    for obj, at in ((claim, "spec.devices"), (template, "spec.spec.devices")):
        resource = RESOURCE_CLAIMS if obj is claim else codec_resource(template)
        request = Request("create", resource, "default", body=obj)
        check_admin_access(asked(request, {ADMIN_LABEL: "true"}), obj, None)
        check_admin_access(asked(request, None), a_claim(exactly()) if obj is claim else made(ResourceClaimTemplate, "t", spec={"spec": {}}), None)  # fmt: skip
        with pytest.raises(ApiError) as refused:
            check_admin_access(asked(request, {ADMIN_LABEL: "yes"}), obj, None)
        (cause,) = refused.value.status.details.causes
        assert cause.field == f"{at}.requests[0].exactly.adminAccess"


def codec_resource(obj):
    from refk8s.core.api.resources import by_kind

    return by_kind(obj.api_version, obj.kind)


# --- the controller -------------------------------------------------------------------------------

TEMPLATE = made(ResourceClaimTemplate, "t", spec={
    "metadata": {"labels": {"l": "x"}}, "spec": codec.to_tree(a_claim(exactly()).spec),
})  # fmt: skip


def planned(key, *objects, memory=None, now=NOW):
    local = Local(memory=CONTROLLER.start_memory(NOW) if memory is None else memory)
    return CONTROLLER.reconcile(view_of(CONTROLLER, *objects), key, now, local)


def owned(claim, pod="p"):
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod,
        "uid": f"uid-{pod}",
        "controller": True,
    }
    metadata = codec.from_tree(ObjectMeta, {
        "name": claim.metadata.name, "namespace": "default", "uid": claim.metadata.uid,
        "annotations": {POD_CLAIM_ANNOTATION: "g"}, "ownerReferences": [reference],
    })  # fmt: skip
    return replace(claim, metadata=metadata)


def test_dra_12_a_claim_is_created_for_a_template_and_named_in_the_status():
    pod = from_template()
    (request,) = planned("pod default/p", pod, TEMPLATE).requests
    body = request.body
    assert body.metadata.generate_name == "p-g-" and body.metadata.labels == {"l": "x"}
    assert body.metadata.annotations == {POD_CLAIM_ANNOTATION: "g"}
    assert body.metadata.owner_references[0].uid == "uid-p" and body.spec == TEMPLATE.spec.spec
    claim = owned(a_claim(exactly(), name="p-g-x"))
    (request,) = planned("pod default/p", pod, TEMPLATE, claim).requests
    assert request.body.document["status"] == {
        "resourceClaimStatuses": [{"name": "g", "resourceClaimName": "p-g-x"}]
    }
    assert not planned("pod default/p", from_template(generated="p-g-x"), TEMPLATE, claim).requests
    again = planned("pod default/p", from_template(generated="p-g-x"), TEMPLATE).requests
    assert [one.verb for one in again] == ["create"]
    plan = planned("pod default/p", pod)
    assert plan.failed and plan.notes[0].reason == "FailedResourceClaimCreation"
    assert not planned("pod default/p", change(pod, deletion_timestamp=GONE), TEMPLATE).requests
    long = replace(pod, metadata=replace(pod.metadata, name="p" * 60))
    (request,) = planned(f"pod default/{'p' * 60}", long, TEMPLATE).requests
    assert len(request.body.metadata.generate_name) <= 58


def test_dra_13_dra_14_a_claim_is_freed_when_its_pods_have_ended():
    """DRA-13: the reservation goes with the pod; DRA-14: the finalizer with the allocation."""
    claim = allocated(a_claim(exactly()), "a", "d", "p", "q")
    running = change(using("c"), node_name="a")
    over = change(using("c", name="q"), node_name="a", phase="Succeeded")
    (request,) = planned("claim default/c", claim, running, over).requests
    assert [one.name for one in request.body.status.reserved_for] == ["p"]
    assert request.body.status.allocation is not None
    ended = change(running, phase="Failed")
    (request,) = planned("claim default/c", claim, ended, over).requests
    assert request.body.status.reserved_for is None and request.body.status.allocation is None
    free = replace(request.body, metadata=claim.metadata)
    plan = planned("claim default/c", free, ended, over)
    assert not plan.requests and plan.wake_at == NOW + 10 * SECOND
    changed = replace(free, metadata=replace(free.metadata, resource_version="99"))
    for one, seconds, is_written in ((free, 9, False), (changed, 10, False), (free, 10, True)):
        now = NOW + seconds * SECOND
        found = planned("claim default/c", one, ended, over, memory=plan.memory, now=now)
        assert bool(found.requests) is is_written, "DRA-14: only if it stays as it is"
    (request,) = found.requests
    assert not request.body.metadata.finalizers and not found.memory
    assert not planned("claim default/c", using("c"), memory=plan.memory).memory
    assert not planned("claim default/c", free, using("c")).requests, "a pod may be about to use it"
    deleted = change(free, deletion_timestamp=GONE)
    (request,) = planned("claim default/c", deleted, using("c")).requests
    assert not request.body.metadata.finalizers
    (request,) = planned("claim default/c", owned(a_claim(exactly())), ended).requests
    assert request.verb == "delete"
    assert not planned("claim default/c", owned(a_claim(exactly())), running).requests
    (request,) = planned("pod default/p", running, allocated(a_claim(exactly()))).requests
    assert request.body.status.reserved_for[0].uid == "uid-p"


def test_dra_13_a_pod_that_the_view_does_not_show_is_asked_for_first():
    claim = allocated(a_claim(exactly()), "a", "d", "p")
    plan = planned("claim default/c", claim)
    (question,) = plan.queries
    assert not plan.requests and question.name == "p" and plan.wake_at
    memory = plan.memory
    assert not planned("claim default/c", claim, memory=memory).requests
    for response, is_gone in (
        (Response(404, None), True),
        (Response(200, using("c", name="other")), True),
        (Response(200, using("c")), False),
        (None, False),
    ):
        after, keys = CONTROLLER.answered(memory, "claim default/c", question, response, NOW)
        assert list(keys) == (["claim default/c"] if is_gone else [])
        plan = planned("claim default/c", claim, memory=after)
        assert bool(plan.requests) is is_gone and bool(plan.queries) is not is_gone


def test_dra_13_only_references_to_pods_are_removed():
    claim = allocated(a_claim(exactly()), "a", "d", "p")
    other = {"resource": "groups", "apiGroup": "example.com", "name": "g", "uid": "uid-g"}
    (group,) = codec.from_tree(type(claim.status), {"reservedFor": [other]}).reserved_for
    status = replace(claim.status, reserved_for=(*claim.status.reserved_for, group))
    ended = change(using("c"), node_name="a", phase="Succeeded")
    found = planned("claim default/c", replace(claim, status=status), ended).requests
    assert [one.body.status.reserved_for for one in found] == [(group,)], "DRA-13"
    assert found[0].body.status.allocation is not None


def test_dra_13_a_pod_that_has_ended_is_not_reserved_again():
    """Another pod still uses the claim."""
    cluster = world(a_class(), a_node("a"), a_slice("a", a_device("d")), a_claim(exactly()), using("c"), using("c", name="q"))  # fmt: skip
    cluster = settle(cluster, both, seconds_max=30)
    cluster = patch(cluster, PODS, "p", {"status": {"phase": "Succeeded"}}, "status")
    cluster = settle(cluster, both, seconds_max=30)
    names = [one.name for one in get(cluster, RESOURCE_CLAIMS, "c").status.reserved_for]
    assert names == ["q"], f"DRA-13: the claim is reserved for {names}"
    assert not planned("pod default/p", change(using("c"), node_name="a", phase="Failed"), allocated(a_claim(exactly()))).requests, "DRA-13"  # fmt: skip


def test_dra_13_dra_14_a_deleted_claim_goes_although_the_controller_was_stopped():
    """DRA-13, DRA-14: its only pod went meanwhile, so no change of a pod is seen."""
    cluster = world(a_class(), a_node("a"), a_slice("a", a_device("d")), a_claim(exactly()), using("c"))  # fmt: skip
    cluster = settle(cluster, both, seconds_max=30)
    cluster = remove(cluster, RESOURCE_CLAIMS, "c")
    cluster = step(cluster, Stop("controllers", cluster.now + 20 * SECOND))
    cluster = remove(cluster, PODS, "p", grace_period_seconds=0)
    cluster = settle(cluster, both, seconds_max=60)
    assert not stored(cluster, RESOURCE_CLAIMS), "DRA-13: the claim stays"


def test_dra_13_an_answer_after_the_key_was_forgotten_changes_nothing():
    claim = allocated(a_claim(exactly()), "a", "d", "p", "q")
    plan = planned("claim default/c", claim)
    first, second = plan.queries
    memory = plan.memory
    for question in (first, second):
        memory, _ = CONTROLLER.answered(memory, "claim default/c", question, None, NOW)
    memory, keys = CONTROLLER.answered(memory, "claim default/c", first, None, NOW)
    assert not memory and not list(keys)


# --- runs -----------------------------------------------------------------------------------------


def fresh(obj):
    cleared = replace(obj, metadata=replace(obj.metadata, uid=None, creation_timestamp=None))
    return replace(cleared, status=type(cleared.status)()) if hasattr(cleared, "status") else cleared  # fmt: skip


def world(*objects, loops=None):
    loops = {
        "controllers": Loop("controllers", (ResourceClaimController(),)),
        "kube-scheduler": scheduler(),
    } | (loops or {})
    cluster = create(begin(loops, {}, b"seed", NOW), Namespace(metadata=ObjectMeta(name="default")))
    for obj in objects:
        cluster = create(cluster, obj if obj.kind == "Node" else fresh(obj))
        if obj.kind == "Node":
            cluster = patch(cluster, NODES, obj.metadata.name, {"spec": {"taints": None}})
    return start_all(cluster)


def message_of(cluster, name):
    conditions = get(cluster, PODS, name).status.conditions or ()
    return next((one.message for one in conditions if one.type == "PodScheduled"), None)


def one_holder(before, after):
    """DRA-5: no device is in two allocations."""
    held = [
        id_of(one)
        for claim in stored(after, RESOURCE_CLAIMS)
        if claim.status.allocation is not None
        for one in results_of(claim.status.allocation)
    ]
    if len(set(held)) != len(held):
        yield f"allocated twice: {held}"


def reserved(before, after):
    """DRA-8: a pod with a node has its claims reserved, on this node."""
    had = {pod.metadata.name for pod in stored(before, PODS) if pod.spec.node_name}
    for pod in stored(after, PODS):
        if not pod.spec.node_name or pod.metadata.name in had:
            continue
        for status in pod.status.resource_claim_statuses or ():
            claim = get(after, RESOURCE_CLAIMS, status.resource_claim_name)
            if pod.metadata.uid not in [one.uid for one in claim.status.reserved_for or ()]:
                yield f"{pod.metadata.name} is bound and not reserved"
            elif results_of(claim.status.allocation)[0].pool != pod.spec.node_name:
                yield f"{pod.metadata.name} is not where its device is"


def both(before, after):
    yield from nothing_wrong(before, after)
    yield from one_holder(before, after)
    yield from reserved(before, after)


@settings(max_examples=15)
@given(choices, st.integers(1, 4), st.integers(0, 2), st.integers(0, 2))
def test_dra_5_dra_8_dra_12_pods_of_a_template_get_a_device_each(drawn, pods, at_a, at_b):
    """As many pods are bound as there are devices; when they are gone, the others are."""
    slices = [
        a_slice(node, *[a_device(f"d{n}") for n in range(count)])
        for node, count in (("a", at_a), ("b", at_b))
    ]
    made_of = [from_template(f"p{n}") for n in range(pods)]
    cluster = world(a_class(), TEMPLATE, a_node("a"), a_node("b"), *slices, *made_of)
    cluster = run(cluster, drawn, both, EVERY_FAULT)
    cluster = settle(cluster, both, seconds_max=400)
    bound = [pod for pod in stored(cluster, PODS) if pod.spec.node_name]
    assert len(bound) == min(pods, at_a + at_b)
    for pod in bound:
        cluster = patch(cluster, PODS, pod.metadata.name, {"status": {"phase": "Succeeded"}}, "status")  # fmt: skip
    cluster = settle(cluster, both, seconds_max=400)
    bound_later = [pod for pod in stored(cluster, PODS) if pod.spec.node_name]
    assert len(bound_later) == min(pods, 2 * (at_a + at_b))
    assert len(stored(cluster, RESOURCE_CLAIMS)) == pods - len(bound)


def test_dra_1_a_pod_is_tried_when_its_claims_exist():
    cluster = settle(world(a_class(), a_node("a"), a_slice("a", a_device("d")), using("c")), both, seconds_max=5)  # fmt: skip
    assert message_of(cluster, "p") == 'could not find ResourceClaim "default/c"'
    cluster = settle(create(cluster, fresh(a_claim(exactly()))), both, seconds_max=5)
    assert get(cluster, PODS, "p").spec.node_name == "a"
    claim = get(cluster, RESOURCE_CLAIMS, "c")
    assert claim.metadata.finalizers == (FINALIZER,)
    assert [one.name for one in claim.status.reserved_for] == ["p"]


def test_dra_4_dra_8_claims_are_shared_and_messages_are_upstreams():
    cluster = world(
        a_class(), a_node("a"), a_node("b"), a_slice("b", a_device("d")), a_claim(exactly()),
        a_claim(exactly(), name="e"), using("c"), using("c", name="q"),
    )  # fmt: skip
    cluster = settle(cluster, both, seconds_max=30)
    assert {get(cluster, PODS, name).spec.node_name for name in "pq"} == {"b"}
    assert len(get(cluster, RESOURCE_CLAIMS, "c").status.reserved_for) == 2
    cluster = settle(create(cluster, fresh(using("e", name="r"))), both, seconds_max=5)
    assert message_of(cluster, "r") == (
        "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, preemption: "
        "0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    for name in "pq":
        cluster = remove(cluster, PODS, name, grace_period_seconds=0)
    cluster = settle(cluster, both, seconds_max=60)
    assert get(cluster, PODS, "r").spec.node_name == "b"
    cluster = settle(create(cluster, fresh(a_claim(exactly(device_class="x"), name="f")), fresh(using("f", name="s"))), both, seconds_max=5)  # fmt: skip
    assert message_of(cluster, "s") == (
        "0/2 nodes are available: request r0: device class x does not exist. no new claims to "
        "deallocate, preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )


def test_dra_11_a_claim_on_a_node_that_became_unschedulable_is_allocated_anew():
    cluster = world(
        a_class(), a_node("a"), a_node("b"), a_slice("a", a_device("d")), a_slice("b", a_device("d")), a_claim(exactly()),
    )  # fmt: skip
    cluster = settle(create(cluster, fresh(using("c"))), both, seconds_max=30)
    first = get(cluster, PODS, "p").spec.node_name
    cluster = patch(cluster, NODES, first, {"spec": {"unschedulable": True}})
    taken = get(cluster, RESOURCE_CLAIMS, "c")
    cluster = remove(cluster, PODS, "p", grace_period_seconds=0)
    cluster = create(cluster, fresh(using("c", name="q")))
    assert taken.status.allocation is not None
    cluster = settle(cluster, both, seconds_max=60)
    assert get(cluster, PODS, "q").spec.node_name not in ("", None, first)
