"""Taints of devices: rules that give them, pods that do not tolerate them, and what a rule says
about its evictions (spec/devices.md, DRA-5, DRA-20 to DRA-22), against plain statements of the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import choices, run, settle
from sched_worlds import a_node
from test_dra import (
    DRIVER,
    EVERY_FAULT,
    GONE,
    NOW,
    a_claim,
    a_class,
    a_device,
    a_slice,
    allocated,
    both,
    exactly,
    made,
    message_of,
    using,
    world,
)
from workload_helpers import change, create, get, patch, remove, stored, view_of

from refk8s.core.api import codec
from refk8s.core.api.resource_v1 import DeviceTaintRule, DeviceToleration
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.device_taint_eviction import (
    DeviceTaintEviction,
    Memory,
)
from refk8s.core.controllers.resource_claim import ResourceClaimController
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Local
from refk8s.core.scheduler.claims import Kept
from refk8s.core.scheduler.device_pools import EMPTY_INVENTORY, Pools, fold_devices, results_of
from refk8s.core.scheduler.devices import Effort, OutOfEffort, Taken, allocate
from refk8s.core.scheduler.snapshot import facts_of

CONTROLLER = DeviceTaintEviction()
KEYS, EFFECTS = ["x", "y"], ["NoSchedule", "NoExecute", "None"]
ALL_OF_IT = {}  # a selector that matches every device


def a_rule(name="r", key="x", effect="NoExecute", selector=ALL_OF_IT, at=NOW, **taint):
    added = {"timeAdded": timestamp(at)} if at is not None else {}
    tree: dict[str, Any] = {"taint": {"key": key, "effect": effect, **added, **taint}}
    if selector is not None:
        tree["deviceSelector"] = selector
    rule = made(DeviceTaintRule, name, "", spec=tree)
    return replace(rule, metadata=replace(rule.metadata, generation=1))


def tolerating(key="x", seconds=None, **more):
    found = {"key": key, "operator": "Exists", **more}
    return found | ({"tolerationSeconds": seconds} if seconds is not None else {})


# --- which devices are tainted --------------------------------------------------------------------

selectors = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "driver": st.sampled_from([DRIVER, "other.example.com"]),
            "pool": st.sampled_from(["a", "b"]),
            "device": st.sampled_from(["d0", "d1"]),
        },
    ),
)
taints = st.tuples(st.sampled_from(KEYS), st.sampled_from(EFFECTS))
tolerations = st.lists(
    st.builds(
        lambda key, effect, seconds: tolerating(key, seconds, **({"effect": effect} if effect else {})),
        st.sampled_from(KEYS), st.sampled_from(["", "NoSchedule", "NoExecute"]), st.sampled_from([None, None, 5]),
    ),
    max_size=2,
)  # fmt: skip


def is_kept_off(taint, tolerated):
    key, effect = taint
    return effect != "None" and not any(
        one["key"] == key and one.get("effect", effect) == effect for one in tolerated
    )


def is_meant(selector, device):
    mine = {"driver": DRIVER, "pool": "a", "device": device}
    return selector is not None and all(mine[name] == value for name, value in selector.items())


def found_by(claims, slices, rules, effort=None):
    inventory = EMPTY_INVENTORY
    for resource, objects in ((RESOURCE_SLICES, slices), (DEVICE_TAINT_RULES, rules)):
        for each in objects:
            inventory = fold_devices(inventory, resource, None, each)
    pools = Pools().of_node(inventory, facts_of(a_node("a")))
    taken = Taken(lambda device: False, rules=tuple(inventory.rules.values()))
    found = allocate(claims, pools, {"gpu": a_class()}.get, taken, Kept().selects, effort or Effort(10_000, 1_000), "a")  # fmt: skip
    return None if found is None else [one.device for one in results_of(found[0])]


@given(
    st.lists(st.lists(taints, max_size=2), min_size=2, max_size=2),
    st.lists(st.tuples(selectors, taints), max_size=3),
    tolerations,
)
def test_dra_5_dra_20_only_devices_without_untolerated_taints_are_allocated(own, given_, tolerated):
    slices = [a_slice("a", *[a_device(f"d{n}", taints=each) for n, each in enumerate(own)])]
    rules = [a_rule(f"r{n}", *taint, selector=selector) for n, (selector, taint) in enumerate(given_)]  # fmt: skip
    wanted = a_claim(exactly(tolerations=tolerated))
    free = [
        f"d{n}"
        for n, each in enumerate(own)
        if not any(is_kept_off(taint, tolerated) for taint in each)
        and not any(
            is_meant(selector, f"d{n}") and is_kept_off(taint, tolerated)
            for selector, taint in given_
        )
    ]
    assert found_by([wanted], slices, rules) == (free[:1] or None)


def test_dra_20_the_inventory_follows_the_rules():
    rule = a_rule()
    inventory = fold_devices(EMPTY_INVENTORY, DEVICE_TAINT_RULES, None, rule)
    assert dict(inventory.rules) == {"r": rule}
    told = replace(rule, metadata=replace(rule.metadata, resource_version="2"))
    assert fold_devices(inventory, DEVICE_TAINT_RULES, rule, told) is inventory
    other = a_rule(effect="None")
    inventory = fold_devices(inventory, DEVICE_TAINT_RULES, rule, other)
    assert dict(inventory.rules) == {"r": other}
    assert not fold_devices(inventory, DEVICE_TAINT_RULES, other, None).rules


def test_dra_9_dra_20_many_rules_end_a_search():
    rules = [a_rule(f"r{n}", selector=None) for n in range(1_000)]
    slices = [a_slice("a", *[a_device(f"d{n}") for n in range(40)])]
    with pytest.raises(OutOfEffort):
        found_by([a_claim(exactly(30))], slices, rules, Effort(1_000, 0))


# --- the API server sets the time -----------------------------------------------------------------


def test_dra_20_a_taint_has_the_time_at_which_it_was_added_or_got_its_effect():
    cluster = create(world(), a_rule(at=None))
    taint = get(cluster, DEVICE_TAINT_RULES, "r").spec.taint
    assert taint.time_added == timestamp(cluster.now)
    later = replace(cluster, now=cluster.now + 60 * SECOND)

    def changed(**spec):
        tree = patch(later, DEVICE_TAINT_RULES, "r", {"spec": {"taint": spec}})
        return get(tree, DEVICE_TAINT_RULES, "r").spec.taint.time_added

    assert changed(value="v") == taint.time_added  # only the effect counts
    assert changed(effect="NoSchedule") == timestamp(later.now)
    assert changed(effect="NoSchedule", timeAdded=GONE) == GONE
    assert changed(timeAdded=GONE) == GONE

    device = a_device("d", taints=[("x", "NoExecute")])
    cluster = create(cluster, a_slice("a", device, a_device("e")))
    first, second = get(cluster, RESOURCE_SLICES, "slice-a").spec.devices
    assert first.taints[0].time_added == timestamp(cluster.now) and second.taints is None


# --- which pods are deleted -----------------------------------------------------------------------


def holding(*tolerated, name="p", device="d", node="a", **parts):
    """A pod on the node, and its claim, which has this device with these tolerations."""
    claim = allocated(a_claim(exactly(), name=f"c-{name}"), node, device, name)
    (result,) = results_of(claim.status.allocation)
    listed = tuple([codec.from_tree(DeviceToleration, each) for each in tolerated])
    result = replace(result, tolerations=listed or None)
    devices = replace(claim.status.allocation.devices, results=(result,))
    allocation = replace(claim.status.allocation, devices=devices)
    claim = replace(claim, status=replace(claim.status, allocation=allocation))
    return change(using(f"c-{name}", name=name), node_name=node, **parts), claim


def planned(key, *objects, memory=None, now=NOW):
    local = Local(memory=memory or Memory())
    return CONTROLLER.reconcile(view_of(CONTROLLER, *objects), key, now, local)


def tainted(*taints, **more):
    return a_slice("a", a_device("d", taints=taints), **more)


@given(
    st.lists(st.tuples(taints, st.integers(-20, 20)), max_size=2),
    st.lists(st.tuples(selectors, taints, st.integers(-20, 20)), max_size=2),
    tolerations,
)
def test_dra_21_a_pod_is_deleted_when_the_first_taint_is_tolerated_no_longer(own, given_, tolerated):  # fmt: skip
    dated = [
        {"key": key, "effect": effect, "timeAdded": timestamp(NOW + at * SECOND)}
        for (key, effect), at in own
    ]
    device = {**a_device("d0"), **({"taints": dated} if dated else {})}
    rules = [
        a_rule(f"r{n}", *taint, selector=selector, at=NOW + at * SECOND)
        for n, (selector, taint, at) in enumerate(given_)
    ]
    ends = []
    for taint, at in [*own, *[(taint, at) for one, taint, at in given_ if is_meant(one, "d0")]]:
        key, effect = taint
        matching = [
            one.get("tolerationSeconds")
            for one in tolerated
            if one["key"] == key and one.get("effect", effect) == effect
        ]
        if effect == "NoExecute" and None not in matching:
            ends.append(at + min(matching, default=0))
    pod, claim = holding(*tolerated, device="d0")
    plan = planned("pod default/p", pod, claim, a_slice("a", device), *rules)
    if not ends or min(ends) > 0:
        assert not plan.requests
        assert plan.wake_at == (NOW + min(ends) * SECOND if ends else None)
        return
    marking, deletion = plan.requests
    (condition,) = marking.body.document["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("DisruptionTarget", "DeletionByDeviceTaintManager")  # fmt: skip
    assert condition["message"] == "Device Taint manager: deleting due to NoExecute taint"
    assert (marking.verb, deletion.verb) == ("patch", "delete")
    assert deletion.body.preconditions.uid == "uid-p"
    assert deletion.body.grace_period_seconds is None
    assert [(note.reason, note.message) for note in plan.notes] == [("DeviceTaintManagerEviction", "Marking for deletion")]  # fmt: skip


def test_dra_21_of_several_tolerations_one_without_a_time_keeps_the_pod():
    for seconds in ((None, 5), (5, None)):
        pod, claim = holding(*[tolerating(seconds=each) for each in seconds])
        plan = planned("pod default/p", pod, claim, a_rule())
        assert not plan.requests and plan.wake_at is None
    pod, claim = holding(tolerating(seconds=7), tolerating(seconds=5))
    assert planned("pod default/p", pod, claim, a_rule()).wake_at == NOW + 5 * SECOND


def test_d_490_a_toleration_without_an_effect_keeps_the_pod():
    pod, claim = holding(tolerating("bad"))
    assert not planned("pod default/p", pod, claim, tainted(("bad", "NoExecute"))).requests
    pod, claim = holding()
    assert planned("pod default/p", pod, claim, tainted(("bad", "NoExecute"))).requests


def test_dra_21_only_pods_that_use_the_device_are_deleted():
    pod, claim = holding()
    bad = tainted(("x", "NoExecute"))
    for other in (
        change(pod, node_name=None),
        change(pod, phase="Succeeded"),
        change(pod, deletion_timestamp=GONE),
        replace(pod, metadata=replace(pod.metadata, uid="another")),  # not reserved for it
    ):
        assert not planned("pod default/p", other, claim, bad).requests
    assert not planned("pod default/p", pod, bad).requests  # no claim
    assert not planned("pod default/p", claim, bad).requests  # no pod
    assert not planned("pod default/p", pod, claim).requests  # no slice
    newer = tainted(generation=2, name="newer")
    assert not planned("pod default/p", pod, claim, bad, newer).requests
    older = a_slice("a", a_device("d"), generation=0, name="older")
    assert planned("pod default/p", pod, claim, bad, older).requests
    of_another = allocated(a_claim(exactly(), name="c-p"), "a", "e", "p")
    assert not planned("pod default/p", pod, of_another, bad).requests


def test_dra_21_an_eviction_is_cancelled_if_its_taint_goes():
    pod, claim = holding(tolerating(seconds=30))
    plan = planned("pod default/p", pod, claim, a_rule())
    assert plan.wake_at == NOW + 30 * SECOND and not plan.notes
    assert plan.enqueue == ((CONTROLLER.name, "rule r"),)
    after = planned("pod default/p", pod, claim, memory=plan.memory)
    assert [note.message for note in after.notes] == ["Cancelling deletion"]
    assert not after.requests and after.wake_at is None and not after.memory.pods
    quiet = planned("pod default/p", pod, claim, memory=after.memory)
    assert not quiet.notes


def test_dra_21_a_taint_without_a_time_counts_from_when_it_is_seen():
    """It was written by an API server that sets none."""
    pod, claim = holding(tolerating(seconds=30))
    memory = planned("pod default/p", pod, claim, a_rule(at=None)).memory
    for seconds, is_deleted in ((29, False), (30, True)):
        now = NOW + seconds * SECOND
        plan = planned("pod default/p", pod, claim, a_rule(at=None), memory=memory, now=now)
        assert bool(plan.requests) == is_deleted
        memory = plan.memory


def test_dra_21_dra_22_a_change_makes_the_pods_due_that_it_concerns():
    (pod, claim), (other, of_other) = holding(), holding(name="q", node="b")
    view = view_of(CONTROLLER, pod, claim, other, of_other, tainted())
    keys = {interest.resource: interest.keys for interest in CONTROLLER.interests}
    assert list(keys[PODS](view, None, pod)) == ["pod default/p"]
    assert list(keys[PODS](view, None, change(pod, resource_claims=()))) == []
    assert keys[RESOURCE_CLAIMS](view, claim, None) == ["pod default/p"]
    assert keys[RESOURCE_CLAIMS](view, of_other, claim) == ["pod default/q", "pod default/p"]
    assert keys[RESOURCE_SLICES](view, None, tainted()) == ["pod default/p"]
    assert keys[RESOURCE_SLICES](view, tainted(), a_slice("b")) == ["pod default/p", "pod default/q"]  # fmt: skip
    rule = a_rule(selector={"pool": "b"})
    assert keys[DEVICE_TAINT_RULES](view, None, rule) == ["rule r", "pod default/q"]
    assert keys[DEVICE_TAINT_RULES](view, rule, None) == ["rule r", "pod default/q"]
    assert keys[DEVICE_TAINT_RULES](view, rule, rule) == ["rule r"]


# --- what a rule says -----------------------------------------------------------------------------


def said(*objects, memory=None, now=NOW):
    """Status, reason and message that are written."""
    plan = planned("rule r", *objects, memory=memory, now=now)
    if not plan.requests:
        return None
    (write,) = plan.requests
    assert (write.verb, write.subresource, write.name) == ("update", "status", "r")
    (condition,) = write.body.status.conditions
    assert (condition.type, condition.observed_generation) == ("EvictionInProgress", 1)
    assert condition.last_transition_time == timestamp(now)
    return condition.status, condition.reason, condition.message


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        (0, ("False", "NotStarted", "")),
        (1, ("True", "PodsPendingEviction", "1 pod needs to be evicted in 1 namespace.")),
        (2, ("True", "PodsPendingEviction", "2 pods need to be evicted in 1 namespace.")),
    ],
)
def test_dra_22_the_condition_counts_the_pods_that_have_to_go(pods, words):
    held = [each for n in range(pods) for each in holding(tolerating(seconds=9), name=f"p{n}")]
    free = holding(tolerating(), name="q")
    leaving = holding(name="l", deletion_timestamp=GONE)
    assert said(*held, *free, *leaving, a_rule()) == words


def test_dra_22_namespaces_are_counted_and_what_was_deleted():
    pod, claim = holding()
    elsewhere = [
        replace(each, metadata=replace(each.metadata, namespace="other", uid=uid))
        for each, uid in zip(holding(), ("uid-p", "uid-other"), strict=True)
    ]
    memory = Memory(deleted=Memory().deleted.set("uid-r", 3))
    words = "2 pods need to be evicted in 2 different namespaces."
    assert said(pod, claim, *elsewhere, a_rule())[2] == words
    more = f"{words} 3 pods evicted since starting the controller."
    assert said(pod, claim, *elsewhere, a_rule(), memory=memory)[2] == more
    done = ("False", "Completed", "3 pods evicted since starting the controller.")
    assert said(a_rule(), memory=memory) == done


def test_dra_22_other_effects_evict_nobody_and_none_says_what_would_be():
    (pod, claim), bad = holding(), a_slice("a", a_device("d"), a_device("e"))
    assert said(pod, claim, bad, a_rule(effect="NoSchedule")) == (
        "False", "OtherEffect", "Eviction only happens for the NoExecute effect.",
    )  # fmt: skip
    rest = (
        "if the effect was NoExecute. This information will not be updated again. "
        "Recreate the DeviceTaintRule to trigger an update."
    )
    assert said(pod, claim, bad, a_rule(effect="None")) == (
        "False", "NoEffect", f"2 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace {rest}",
    )  # fmt: skip
    narrow = a_rule(effect="None", selector={"device": "e"})
    assert said(pod, claim, bad, narrow)[2] == (
        "1 published device selected. 0 allocated devices selected. "
        f"0 pods would be evicted in 0 different namespaces {rest}"
    )


def test_dra_22_a_status_is_written_at_most_every_ten_seconds():
    plan = planned("rule r", a_rule())
    written = plan.requests[0].body
    assert planned("rule r", written, memory=plan.memory).wake_at == NOW + 10 * SECOND
    later = NOW + 10 * SECOND
    unchanged = planned("rule r", written, memory=plan.memory, now=later)
    assert not unchanged.requests and unchanged.wake_at is None
    held = holding(tolerating(seconds=60))
    early = planned("rule r", written, *held, memory=plan.memory, now=later - 1)
    assert not early.requests and early.wake_at == later
    assert planned("rule r", written, *held, memory=plan.memory, now=later).requests
    newer = replace(written, metadata=replace(written.metadata, generation=2))
    (at_once,) = planned("rule r", newer, *held, memory=plan.memory, now=NOW + SECOND).requests
    assert at_once.body.status.conditions[0].observed_generation == 2
    assert planned("rule r", written, *held, now=NOW + SECOND).requests  # after a restart
    none = planned("rule r", a_rule(effect="None"))
    assert not planned("rule r", none.requests[0].body, *held, now=later).requests


def test_dra_22_what_is_known_of_a_rule_goes_with_it():
    memory = Memory().deleted.set("uid-r", 1).set("uid-s", 2)
    plan = planned("rule r", a_rule("s"), memory=Memory(deleted=memory, written=memory))
    assert dict(plan.memory.deleted) == dict(plan.memory.written) == {"uid-s": 2}


def test_dra_22_a_pod_that_was_deleted_is_counted_once():
    pod, claim = holding()
    memory = planned("pod default/p", pod, claim, a_rule()).memory
    leaving = change(pod, deletion_timestamp=GONE)
    plan = planned("pod default/p", leaving, claim, a_rule(), memory=memory)
    assert dict(plan.memory.deleted) == {"uid-r": 1}
    assert (CONTROLLER.name, "rule r") in plan.enqueue
    again = planned("pod default/p", leaving, claim, a_rule(), memory=plan.memory)
    assert not again.waves and not again.enqueue
    waiting, held = holding(tolerating(seconds=9))
    memory = planned("pod default/p", waiting, held, a_rule()).memory
    by_somebody = planned("pod default/p", held, a_rule(), memory=memory)
    assert not by_somebody.memory.deleted and not by_somebody.memory.pods


# --- in a cluster ---------------------------------------------------------------------------------


def with_controllers(*objects):
    loops = {"controllers": Loop("controllers", (ResourceClaimController(), DeviceTaintEviction()))}
    return world(*objects, loops=loops)


def condition_of(cluster, name="r"):
    (found,) = get(cluster, DEVICE_TAINT_RULES, name).status.conditions
    return found.status, found.reason, found.message


@settings(max_examples=15)
@given(choices, st.booleans())
def test_dra_20_dra_21_dra_22_a_rule_moves_a_pod_to_another_device(drawn, by_rule):
    """The pod of a tainted device is deleted; another one gets the other device."""
    slices = a_slice("a", a_device("d"), a_device("e"))
    cluster = with_controllers(a_class(), a_node("a"), slices, a_claim(exactly()), using("c"))
    cluster = settle(cluster, both, seconds_max=60)
    (claim,) = stored(cluster, RESOURCE_CLAIMS)
    (result,) = results_of(claim.status.allocation)
    if by_rule:
        cluster = create(cluster, a_rule(selector={"device": result.device}, at=None))
    else:
        devices = [a_device("d"), a_device("e")]
        devices[result.device == "e"]["taints"] = [{"key": "x", "effect": "NoExecute"}]
        cluster = patch(cluster, RESOURCE_SLICES, "slice-a", {"spec": {"devices": devices}})  # fmt: skip
    cluster = settle(run(cluster, drawn, both, EVERY_FAULT), both, seconds_max=400)
    pod = get(cluster, PODS, "p")
    assert pod is None or pod.metadata.deletion_timestamp is not None
    if pod is not None:
        cluster = remove(cluster, PODS, "p", grace_period_seconds=0)
    cluster = settle(cluster, both, seconds_max=60)  # the claim is free
    cluster = settle(create(cluster, using("c", name="q")), both, seconds_max=60)
    assert get(cluster, PODS, "q").spec.node_name == "a"
    (claim,) = stored(cluster, RESOURCE_CLAIMS)
    assert results_of(claim.status.allocation)[0].device == ({"d", "e"} - {result.device}).pop()
    if by_rule:
        status, reason, _ = condition_of(cluster)
        assert status == "False" and reason in ("Completed", "NotStarted")


def test_dra_20_a_pod_waits_until_the_rule_is_gone():
    cluster = with_controllers(
        a_class(), a_node("a"), a_slice("a", a_device("d")), a_claim(exactly()), a_rule(effect="NoSchedule"), using("c")
    )  # fmt: skip
    cluster = settle(cluster, both, seconds_max=60)
    assert "1 cannot allocate all claims" in message_of(cluster, "p")
    assert condition_of(cluster)[1] == "OtherEffect"
    cluster = settle(remove(cluster, DEVICE_TAINT_RULES, "r"), both, seconds_max=60)
    assert get(cluster, PODS, "p").spec.node_name == "a"
