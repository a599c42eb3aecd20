"""Devices, function by function: which claims a pod has, taints, selectors, what the API server adds,
capacities and counters, and pools (spec/devices.md). Each compares the whole result."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from test_dra import DRIVER, GONE, a_claim, a_device, a_slice, allocated, exactly, made, using
from test_dra_taints import a_rule, tolerating
from workload_helpers import NOW, change

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    Namespace,
    PodExtendedResourceClaimStatus,
    PodResourceClaim,
    PodResourceClaimStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.request import Request
from refk8s.core.api.resource_v1 import (
    AllocatedDeviceStatus,
    Device,
    DeviceAttribute,
    DeviceCapacity,
    DeviceTaint,
    DeviceToleration,
    ResourceClaimConsumerReference,
    ResourceClaimTemplate,
)
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import devices as admission
from refk8s.core.context import SECOND, Context, SeededChance, timestamp
from refk8s.core.pods import devices as of_pod
from refk8s.core.pods.device_selectors import (
    EXPRESSION_UNITS_MAX,
    SelectorProblem,
    attribute_value,
    device_value,
    selects,
)
from refk8s.core.pods.device_taints import end_of_use, selects_device
from refk8s.core.pods.devices import UsedClaim

# --- the claims of a pod --------------------------------------------------------------------------


def with_claims(*claims, statuses=None, extended=None):
    """Each claim: its name in the pod, then the name of a claim, or None and a template."""
    listed = tuple(
        PodResourceClaim(name=name, resource_claim_name=own, resource_claim_template_name=template)
        for name, own, template in claims
    )
    told = tuple(
        PodResourceClaimStatus(name=name, resource_claim_name=own)
        for name, own in (statuses or {}).items()
    )
    status = (
        PodExtendedResourceClaimStatus(resource_claim_name=extended, request_mappings=())
        if extended
        else None
    )
    return change(
        using(), resource_claims=listed or None, resource_claim_statuses=told or None,
        extended_resource_claim_status=status,
    )  # fmt: skip


def test_dra_1_the_claims_of_a_pod_are_named_generated_or_not_there_yet():
    pod = with_claims(
        ("a", "mine", None), ("b", None, "t"), ("c", None, "t"), ("d", None, "t"), ("e", "last", None),
        statuses={"x": "other", "b": "p-b-1", "c": None}, extended="p-ext",
    )  # fmt: skip
    expected = (
        UsedClaim("a", "default/mine", False),
        UsedClaim("b", "default/p-b-1", True),
        UsedClaim("d", "", True),  # not created yet; c turned out to need none
        UsedClaim("e", "default/last", False),
    )
    assert of_pod.used_claims(pod) == expected
    extended = UsedClaim("", "default/p-ext", True)
    assert of_pod.all_claims(pod) == (*expected, extended)
    keys = ["default/mine", "default/p-b-1", "default/last", "default/p-ext"]
    assert of_pod.claim_keys(pod) == keys
    names = {one.name: of_pod.generated_name(pod, one) for one in pod.spec.resource_claims[1:4]}
    assert names == {"b": (True, "p-b-1"), "c": (True, ""), "d": (False, "")}
    plain = with_claims(("a", "mine", None))
    assert of_pod.all_claims(plain) == of_pod.used_claims(plain)
    for none in (with_claims(), replace(pod, spec=None)):
        assert of_pod.used_claims(none) == ()
    unborn = replace(pod, status=None)
    assert of_pod.generated_name(unborn, pod.spec.resource_claims[1]) == (False, "")
    assert [one.key for one in of_pod.all_claims(unborn)] == ["default/mine", "", "", "", "default/last"]  # fmt: skip


def test_dra_1_the_parts_of_a_pod_on_which_its_claims_depend():
    pod = with_claims(("a", None, "t"), statuses={"a": "x"}, extended="e")
    parts = of_pod.parts_of(pod)
    assert parts == (
        pod.spec.resource_claims,
        pod.status.resource_claim_statuses,
        pod.status.extended_resource_claim_status,
    )
    assert of_pod.parts_of(with_claims(("a", None, "t"))) == (pod.spec.resource_claims, None, None)
    only = with_claims(extended="e")
    assert of_pod.parts_of(only) == (None, None, only.status.extended_resource_claim_status)
    for none in (with_claims(), replace(pod, spec=None, status=None), replace(using(), status=None)):  # fmt: skip
        assert not of_pod.parts_of(none)
    unborn = replace(with_claims(("a", None, "t")), status=None)
    assert of_pod.parts_of(unborn) == (unborn.spec.resource_claims, None, None)


def owner(**parts):
    known = {"api_version": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    return OwnerReference(**{**known, **parts})


def owned_by(*references, annotations=None):
    claim = a_claim(exactly())
    metadata = replace(claim.metadata, owner_references=references or None, annotations=annotations)
    return replace(claim, metadata=metadata)


@pytest.mark.parametrize(
    ("references", "uid"),
    [
        ((), ""),
        ((owner(),), "u"),
        ((owner(controller=False), owner(uid="v")), "v"),
        ((owner(controller=None),), ""),
        ((owner(kind="Job"), owner(uid="v")), "v"),
        ((owner(api_version="v2"),), ""),
        ((owner(uid=None),), ""),
        ((owner(uid="w"), owner(uid="v")), "w"),
    ],
)
def test_dra_12_a_claim_belongs_to_the_pod_that_controls_it(references, uid):
    claim = owned_by(*references)
    assert of_pod.owner_uid(claim) == uid
    assert of_pod.belongs_to(claim, "u") is (uid == "u")
    marked = {of_pod.EXTENDED_ANNOTATION: "true"}
    assert of_pod.extended_owner(owned_by(*references, annotations=marked)) == ([uid] if uid else [])  # fmt: skip
    for other in (None, {}, {of_pod.EXTENDED_ANNOTATION: "false"}, {"x": "true"}):
        assert of_pod.extended_owner(owned_by(*references, annotations=other)) == []


def test_dra_8_a_claim_is_reserved_by_uid():
    claim = allocated(a_claim(exactly()), "a", "d", "p", "q")
    found = tuple(of_pod.consumer(name, f"uid-{name}") for name in "pq")
    assert found[0] == ResourceClaimConsumerReference(resource="pods", name="p", uid="uid-p")
    assert of_pod.consumers(claim) == found
    assert of_pod.is_reserved_for(claim, "uid-q") and not of_pod.is_reserved_for(claim, "q")
    assert of_pod.consumers(a_claim(exactly())) == ()


# --- taints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", list(product([None, "same", "other"], repeat=3)))
def test_dra_20_a_rule_selects_what_all_its_fields_name(named):
    mine = dict(zip(("driver", "pool", "device"), ("d", "p", "x"), strict=True))
    selector = {
        key: mine[key] if value == "same" else "other"
        for key, value in zip(mine, named, strict=True)
        if value
    }
    assert selects_device(a_rule(selector=selector), "d", "p", "x") is ("other" not in named)
    assert not selects_device(a_rule(selector=None), "d", "p", "x")


@pytest.mark.parametrize(
    ("tolerated", "end"),
    [
        ([], 0),
        ([tolerating("y", 5)], 0),
        ([tolerating("x")], None),
        ([tolerating("x", 5)], 5),
        ([tolerating("x", 7), tolerating("x", 5), tolerating("y", 1)], 5),
        ([tolerating("x", 5), tolerating("x")], None),
        ([tolerating("x", -5)], 0),
        ([tolerating("x", 0)], 0),
    ],
)
def test_dra_21_a_device_may_be_used_until_the_shortest_toleration_ends(tolerated, end):
    listed = [codec.from_tree(DeviceToleration, one) for one in tolerated]
    for added, start in ((timestamp(NOW - 3 * SECOND), NOW - 3 * SECOND), (None, NOW)):
        taint = DeviceTaint(key="x", effect="NoExecute", time_added=added)
        expected = None if end is None else start + end * SECOND
        assert end_of_use(taint, iter(listed), NOW) == expected


# --- selectors ------------------------------------------------------------------------------------


def a_full_device(**more):
    tree = {
        "name": "d",
        "attributes": {
            "n": {"int": 3},
            "other.io/n": {"bool": False},
            f"{DRIVER}/s": {"string": ""},
            "v": {"version": "1.2.3"},
        },
        "capacity": {"m": {"value": "1Gi"}, "other.io/c": {"value": "2"}},
        **more,
    }
    return codec.from_tree(Device, tree)


def test_dra_3_an_expression_sees_attributes_and_capacity_by_domain():
    found = device_value(DRIVER, a_full_device(allowMultipleAllocations=True))
    assert list(found) == ["driver", "attributes", "capacity", "allowMultipleAllocations"]
    assert found["driver"] == DRIVER and found["allowMultipleAllocations"] is True
    assert device_value(DRIVER, a_full_device())["allowMultipleAllocations"] is False
    own, other = found["attributes"][DRIVER], found["attributes"]["other.io"]
    assert set(own) == {"n", "s", "v"} and own["n"] == 3 and own["s"] == ""
    assert other == {"n": False}
    assert set(found["capacity"]) == {DRIVER, "other.io"}
    assert found["attributes"]["absent"] == {} and found["capacity"]["absent"] == {}
    bare = device_value(DRIVER, codec.from_tree(Device, {"name": "d"}))
    assert bare["attributes"] == {} and bare["capacity"] == {}
    for text in (
        f'device.attributes["{DRIVER}"].v.isGreaterThan(semver("1.2.2"))',
        'device.attributes["other.io"].n == false',
        f'device.capacity["{DRIVER}"].m.compareTo(quantity("1Gi")) == 0',
        'device.capacity["other.io"].c.compareTo(quantity("2")) == 0',
        f'device.attributes["{DRIVER}"].n == 3',
    ):
        assert selects(text, found)[0] is True, text


def test_dra_3_an_attribute_has_one_value_and_false_and_nothing_count():
    assert attribute_value(DeviceAttribute(int_=0)) == 0
    assert attribute_value(DeviceAttribute(bool_=False)) is False
    assert attribute_value(DeviceAttribute(string="")) == ""
    with pytest.raises(ValueError, match=r"^unsupported attribute value$"):
        attribute_value(DeviceAttribute())
    with pytest.raises(SelectorProblem, match=r"^attribute x: unsupported attribute value$"):
        device_value(DRIVER, a_full_device(attributes={"x": {}}))
    with pytest.raises(SelectorProblem, match=r"^attribute x: "):
        device_value(DRIVER, a_full_device(attributes={"x": {"version": "one"}}))
    with pytest.raises(SelectorProblem, match=r"^capacity x: "):
        device_value(DRIVER, replace(a_full_device(), capacity={"x": DeviceCapacity(value="much")}))  # fmt: skip


def test_dra_3_dra_9_an_evaluation_has_a_result_and_a_cost():
    value = device_value(DRIVER, a_full_device())
    cheap = selects("true", value)
    dear = selects("[1, 2, 3].all(a, a > 0)", value)
    assert cheap[0] is dear[0] is True and 0 <= cheap[1] < dear[1] < EXPRESSION_UNITS_MAX
    assert selects("false", value)[0] is False
    for text, words in (
        ("device.", "^compilation failed: "),
        ("device.absent == 1", "^compilation failed: "),
        ("1 + 1", "^must evaluate to bool or the unknown type, not int$"),
        ('device.attributes["x"].y', "no such key: y"),
        (f'device.attributes["{DRIVER}"].n', "^the result is no boolean$"),
    ):
        with pytest.raises(SelectorProblem, match=words):
            selects(text, value)
    nested = "[1,2,3,4,5,6,7,8,9]"
    endless = "".join(f"{nested}.all({name}, " for name in "abcdefg") + "true" + ")" * 7
    with pytest.raises(SelectorProblem) as ended:
        selects(endless, value)
    assert ended.value.units == EXPRESSION_UNITS_MAX
    with pytest.raises(SelectorProblem) as failed:
        selects('[1, 2, 3].all(a, a > 0) && device.attributes["x"].y', value)
    assert dear[1] <= failed.value.units < 1_000


# --- what the API server adds ---------------------------------------------------------------------


AT = Context(NOW + SECOND, SeededChance(b"seed"))


class Store:
    """A store with one namespace, or without it."""

    def __init__(self, labels=None, is_there=True):
        self.labels, self.is_there = labels, is_there

    def get(self, key):
        assert key.endswith("/default")
        value = Namespace(metadata=ObjectMeta(name="default", labels=self.labels))
        return type("Record", (), {"value": value}) if self.is_there else None


def refused(obj, resource, store=None, old=None):
    request = Request("create", resource, "default", body=obj)
    try:
        exchange = SimpleNamespace(request=request, store=store or Store())
        admission.check_admin_access(exchange, obj, old)
    except ApiError as error:
        return error.status
    return None


def test_dra_7_every_request_with_administrative_access_is_named():
    admin = exactly(adminAccess=True)
    claim = a_claim(admin, exactly(), [exactly()], admin)
    template = made(ResourceClaimTemplate, "t", spec={"spec": codec.to_tree(claim.spec)})
    words = (
        "admin access to devices requires the `resource.kubernetes.io/admin-access: "
        "true` label on the containing namespace"
    )
    for obj, resource, at in (
        (claim, RESOURCE_CLAIMS, "spec.devices"),
        (template, RESOURCE_CLAIM_TEMPLATES, "spec.spec.devices"),
    ):
        for store in (Store(), Store(is_there=False), Store({admission.ADMIN_LABEL: "True"})):
            found = refused(obj, resource, store)
            assert found.code == 422 and found.details.name == obj.metadata.name
            told = [(one.reason, one.field, one.message) for one in found.details.causes]
            assert told == [
                ("FieldValueForbidden", f"{at}.requests[{n}].exactly.adminAccess", f"Forbidden: {words}")
                for n in (0, 3)
            ]  # fmt: skip
        assert refused(obj, resource, Store({admission.ADMIN_LABEL: "true"})) is None
        assert refused(obj, resource, old=obj) is None
    for plain in (a_claim(exactly()), a_claim([exactly()]), a_claim(exactly(adminAccess=False))):
        assert refused(plain, RESOURCE_CLAIMS) is None
    empty = replace(template, spec=replace(template.spec, spec=None))
    assert refused(empty, RESOURCE_CLAIM_TEMPLATES) is None
    none = replace(claim, spec=replace(claim.spec, devices=replace(claim.spec.devices, requests=None)))  # fmt: skip
    assert refused(none, RESOURCE_CLAIMS) is None


def a_status(device, share=None, pool="a"):
    return AllocatedDeviceStatus(driver=DRIVER, pool=pool, device=device, share_id=share)


def with_devices(claim, *statuses):
    return replace(claim, status=replace(claim.status, devices=statuses or None))


def test_dra_19_the_status_of_a_device_that_is_released_is_removed():
    old = allocated(a_claim(exactly()), "a", "d", "p")
    free = replace(old, status=replace(old.status, allocation=None))
    mine, other, share = a_status("d"), a_status("e"), a_status("d", "s")
    for new, found, before in (
        (with_devices(free, mine, other, share), (other, share), old),
        (with_devices(free, mine), None, old),
        (with_devices(old, mine, other), (mine, other), old),
        (with_devices(free, mine), (mine,), None),
        (with_devices(free, mine), (mine,), free),
        (free, None, old),
    ):
        request = Request("update", RESOURCE_CLAIMS, "default", subresource="status", body=new)
        kept = admission.drop_released(request, new, before, Store(), AT)
        assert kept.status.devices == found
        assert with_devices(kept) == with_devices(new)


def test_dra_20_taints_without_a_time_get_one():
    taints = [{"key": "x", "effect": "NoExecute"}, {"key": "y", "effect": "None", "timeAdded": GONE}]  # fmt: skip
    one = a_slice("a", a_device("d") | {"taints": taints}, a_device("e"))
    request = Request("create", RESOURCE_SLICES, body=one)
    found = admission.date_taints(request, one, None, Store(), AT)
    first, second = found.spec.devices
    assert [each.time_added for each in first.taints] == [timestamp(NOW + SECOND), GONE]
    assert first.taints[0] == replace(one.spec.devices[0].taints[0], time_added=timestamp(AT.now))
    assert second == one.spec.devices[1] and second.taints is None
    assert replace(found, spec=one.spec) == one
    dated = a_slice("a", a_device("d") | {"taints": taints[1:]}, a_device("e"))
    empty = replace(one, spec=replace(one.spec, devices=None))
    for same in (dated, empty, a_slice("a", a_device("d"))):
        assert admission.date_taints(request, same, None, Store(), AT) is same


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, a_rule(at=None), NOW + SECOND),
        (None, a_rule(at=NOW), NOW),
        (a_rule(at=NOW), a_rule(at=NOW, effect="None"), NOW + SECOND),
        (a_rule(at=NOW), a_rule(at=NOW - SECOND, effect="None"), NOW - SECOND),
        (a_rule(at=NOW), a_rule(at=NOW - SECOND), NOW - SECOND),
        (a_rule(at=NOW), a_rule(at=NOW, key="y"), NOW),
        (a_rule(at=NOW), a_rule(at=None), NOW + SECOND),
    ],
)
def test_dra_20_the_taint_of_a_rule_has_the_time_of_its_effect(old, new, expected):
    request = Request("update", DEVICE_TAINT_RULES, body=new)
    found = admission.date_taint(request, new, old, Store(), AT)
    taint = replace(new.spec.taint, time_added=timestamp(expected))
    assert found == replace(new, spec=replace(new.spec, taint=taint))
