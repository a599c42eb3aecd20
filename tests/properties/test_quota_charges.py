"""Charges of drawn requests to drawn quotas, beside a plain reading of QUOTA-1, QUOTA-2, QUOTA-5,
QUOTA-6 and QUOTA-9 (spec/quota.md)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_adm_limits_by_hand import dying
from test_quota import (
    CLAIMS,
    CONFIG_MAPS,
    PODS,
    QUOTAS,
    SERVICES,
    a_claim,
    a_container,
    a_pod,
    config_map,
    expression,
    made,
)

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import (
    Namespace,
    ResourceQuotaStatus,
    ScopedResourceSelectorRequirement,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.quantity import parse
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.outcome import LimitedResource
from refk8s.core.apiserver.admission.resource_quota import charge
from refk8s.core.quota.scopes import selects, traits_of
from refk8s.core.quota.usage import concerns, usage_of
from refk8s.core.store import EMPTY, Compare, Put, Txn, commit

NAMESPACE = resources.NAMESPACES.key("", "default")
NAMES = (
    "pods", "requests.cpu", "limits.cpu", "memory", "services", "services.nodeports",
    "persistentvolumeclaims", "requests.storage", "configmaps", "resourcequotas",
)  # fmt: skip


def numbers(first: int, last: int) -> Any:
    """Some of the names with a number each."""
    value = st.integers(first, last).map(str)
    return st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, value))


@st.composite
def drawn_quotas(draw: st.DrawFn, name: str) -> Any:
    """A quota whose status limits some of what its spec limits, and lacks a count now and then."""
    hard = draw(numbers(0, 6))
    scopes = draw(
        st.sampled_from(
            [
                {}, {}, {"scopes": ["BestEffort"]}, expression("In", "high"),
                expression("In", "fast", scope="VolumeAttributesClass"),
            ]
        )
    )  # fmt: skip
    metadata = {"name": name, "namespace": "default"}
    quota = made(QUOTAS, {"metadata": metadata, "spec": {"hard": hard, **scopes}})
    kind = draw(st.sampled_from(["counted", "counted", "counted", "new", "partial", "unknown"]))
    if kind == "new":
        return quota
    limited = {key: text for key, text in hard.items() if kind != "partial" or draw(st.booleans())}
    used = {
        key: str(draw(st.integers(0, 5)))
        for key in limited
        if kind != "unknown" or draw(st.booleans())
    }
    return replace(quota, status=ResourceQuotaStatus(hard=limited or None, used=used or None))


def a_drawn_pod(cpu: int, memory: bool, priority: str) -> Any:
    amounts = {"cpu": str(cpu)} if cpu else {}
    requests = {**amounts, **({"memory": "1"} if memory else {})}
    first = a_container("c", requests=requests, limits=amounts)
    other = a_container("d", requests={"cpu": "1"}, limits={"cpu": "1"})
    pod = made(
        PODS, a_pod("p", first, other, **({"priorityClassName": priority} if priority else {}))
    )
    quality = "Burstable" if cpu or memory else "BestEffort"
    return replace(pod, status=replace(pod.status, qos_class=quality))


def a_drawn_service(kind: str, ports: int) -> Any:
    listed = [{"port": 80 + number, "name": f"p{number}"} for number in range(ports)]
    return made(SERVICES, {"metadata": {"name": "p"}, "spec": {"type": kind, "ports": listed}})


pods = st.builds(a_drawn_pod, st.integers(0, 2), st.booleans(), st.sampled_from(["", "high"]))
services = st.builds(a_drawn_service, st.sampled_from(["ClusterIP", "NodePort"]), st.integers(1, 3))


def a_drawn_claim(size: int, allocated: int, is_fast: bool) -> Any:
    claim = a_claim(str(size), str(allocated) if allocated else "")
    name = "fast" if is_fast else None
    return replace(claim, spec=replace(claim.spec, volume_attributes_class_name=name))


claims = st.builds(a_drawn_claim, st.integers(1, 4), st.integers(0, 6), st.booleans())
# (resource, subresource, whether an update of it is charged, objects)
KINDS = [
    (PODS, "resize", True, pods),
    (PODS, "", False, pods),
    (PODS, "status", False, pods),
    (SERVICES, "", True, services),
    (SERVICES, "status", False, services),
    (CLAIMS, "", True, claims),
    (CLAIMS, "status", True, claims),
    (CONFIG_MAPS, "", False, st.just(config_map("a"))),
]


@st.composite
def drawn_requests(draw: st.DrawFn) -> Any:
    """(request, new object, old object or None, whether it is charged)"""
    resource, subresource, is_charged, objects = draw(st.sampled_from(KINDS))
    new = draw(objects)
    if draw(st.booleans()):
        return Request("create", resource, "default", "p"), new, None, True
    return Request("update", resource, "default", "p", subresource), new, draw(objects), is_charged


limits = st.builds(
    LimitedResource,
    group=st.just(""),
    resource=st.sampled_from(["pods", "services", "persistentvolumeclaims"]),
    contains=st.lists(st.sampled_from(["cpu", "requests.", "services", "s"]), max_size=2).map(tuple),
    scopes=st.sampled_from(
        [
            (),
            (ScopedResourceSelectorRequirement(scope_name="PriorityClass", operator="In", values=("high", "low")),),
            (
                ScopedResourceSelectorRequirement(scope_name="NotBestEffort", operator="Exists"),
                ScopedResourceSelectorRequirement(scope_name="PriorityClass", operator="In", values=("high",)),
            ),
            (ScopedResourceSelectorRequirement(scope_name="BestEffort", operator="Exists"),),
        ]
    ),
)  # fmt: skip


def stored(*quotas: Any, namespace: bool = True) -> Any:
    history = EMPTY
    if namespace:
        there = Namespace(metadata=ObjectMeta(name="default"))
        history = commit(history, Txn((), (Put(NAMESPACE, there),)))[0]
    for quota in quotas:
        key = QUOTAS.key(quota.metadata.namespace, quota.metadata.name)
        history = commit(history, Txn((), (Put(key, quota),)))[0]
    return history


def rejection(*arguments: Any) -> Any:
    """(code, reason, message) of a request that is rejected; None if it is not."""
    try:
        charge(*arguments)
    except ApiError as refused:
        answer = refused.status
        return answer.code, answer.reason, answer.message
    return None


class Rejected(Exception):
    """What the plain reading says against the request."""


def amount_of(usage: Any, name: str) -> int:
    return usage[name].nano if name in usage else 0


def plain_growth(quota: Any, resource: Any, new: Any, old: Any) -> dict[str, Any]:
    """What is charged: of an update what grows, in a quota that selected the object before."""
    now, before = usage_of(resource, new), {}
    if old is not None and (quota is None or selects(quota, resource, traits_of(resource, old))):
        before = usage_of(resource, old)
    grown = {name: much.nano - amount_of(before, name) for name, much in now.items()}
    return {
        name: type(now[name])(nano, now[name].format) for name, nano in grown.items() if nano > 0
    }


def plain_countable(quota: Any, resource: Any, new: Any) -> None:
    hard, used = quota.status.hard or {}, quota.status.used or {}
    names = [name for name in hard if concerns(resource, name)]
    if not names or not selects(quota, resource, traits_of(resource, new)):
        return
    name = quota.metadata.name
    if resource == PODS:
        words = []
        for wanted in sorted({"requests.cpu", "limits.cpu", "memory"} & set(names)):
            lacking = []
            for one in new.spec.containers:
                which = one.resources.limits if wanted[0] == "l" else one.resources.requests
                if wanted.rpartition(".")[2] not in (which or {}):
                    lacking.append(one.name)
            if lacking:
                words.append(f"{wanted} for: {','.join(lacking)}")
        if words:
            raise Rejected(f"failed quota: {name}: must specify {'; '.join(words)}")
    if not used.keys() >= set(names):
        shown = ",".join(sorted(names))
        raise Rejected(f"status unknown for quota: {name}, resources: {shown}")


def plain_covered(limited: Any, quotas: Any, resource: Any, new: Any, old: Any) -> None:
    mine = [one for one in limited if one.resource == resource.plural]
    used = [name for name, much in usage_of(resource, new).items() if much.nano]
    needed = {name for name in used for one in mine for part in one.contains if part in name}
    traits = traits_of(resource, new)

    def in_scope(requirement: Any) -> bool:
        if resource != PODS:
            return False
        values = [value for scope, value in traits if scope == requirement.scope_name]
        exists = requirement.operator == "Exists"
        return bool(values) if exists else bool({*values} & {*(requirement.values or ())})

    scopes = [scope for one in limited for scope in one.scopes if in_scope(scope)]
    selecting = [quota for quota in quotas if selects(quota, resource, traits)]
    grows = [plain_growth(quota, resource, new, old) for quota in (selecting or [None])]
    if not (needed or scopes) or not any(grows):
        return
    for quota in selecting:
        needed -= (quota.status.hard or {}).keys()
    if needed:
        raise Rejected(f"insufficient quota to consume: {','.join(sorted(needed))}")
    covered = set()
    for quota in quotas:
        if "BestEffort" in (quota.spec.scopes or ()) and ("BestEffort", "") in traits:
            covered.add("BestEffort")
        if quota.spec.scope_selector is not None and ("PriorityClass", "high") in traits:
            covered.add("PriorityClass")
    left = [scope for scope in scopes if scope.scope_name not in covered]
    if left:
        shown = [
            f"{{{one.scope_name} {one.operator} [{' '.join(one.values or ())}]}}" for one in left
        ]
        raise Rejected(f"insufficient quota to match these scopes: [{' '.join(shown)}]")


def plain_charge(quota: Any, request: Request, new: Any, old: Any) -> Any:
    """The quota as it is written; None if it is not."""
    resource = request.resource
    hard, used = quota.status.hard or {}, quota.status.used or {}
    if not selects(quota, resource, traits_of(resource, new)):
        return None
    plain_countable(quota, resource, new)
    waits = any(concerns(resource, name) for name in (quota.spec.hard or {}).keys() - hard.keys())
    grown = plain_growth(quota, resource, new, old)
    more = {name: grown[name] for name in hard if concerns(resource, name) and name in grown}
    if not more:
        return quota if waits else None
    after = {name: parse(used[name]) + much for name, much in more.items()}
    over = sorted(name for name in after if after[name].nano > parse(hard[name]).nano)
    if over and request.subresource != "status":
        shown = [",".join(f"{name}={of[name]}" for name in over) for of in (more, used, hard)]
        raise Rejected(
            f"exceeded quota: {quota.metadata.name}, requested: {shown[0]}, used: {shown[1]}, "
            f"limited: {shown[2]}"
        )
    counted = {**used, **{name: str(much) for name, much in after.items()}}
    return replace(quota, status=replace(quota.status, used=counted))


def expected_charge(
    request: Request, new: Any, old: Any, is_charged: bool, quotas: Any, limited: Any, store: Any
) -> Any:
    resource = request.resource
    if not is_charged:
        return (), ()
    compares = [] if old is None else [Compare(NAMESPACE, store.get(NAMESPACE).mod_revision)]
    writes = []
    if limited:
        for quota in quotas:
            plain_countable(quota, resource, new)
        plain_covered(limited, quotas, resource, new, old)
    for quota in quotas:
        charged = plain_charge(quota, request, new, old)
        if charged is not None:
            key = QUOTAS.key("default", quota.metadata.name)
            compares.append(Compare(key, store.get(key).mod_revision))
            writes.append(Put(key, charged))
    return tuple(compares), tuple(writes)


@settings(max_examples=settings.default.max_examples * 2)
@given(
    drawn_requests(),
    st.lists(st.sampled_from("abc"), max_size=3, unique=True).flatmap(
        lambda names: st.tuples(*map(drawn_quotas, sorted(names)))
    ),
    st.one_of(st.just(()), st.lists(limits, max_size=2).map(tuple)),
)
def test_quota_1_quota_2_quota_5_quota_6_quota_9_the_charge_in_full(drawn, quotas, limited):
    request, new, old, is_charged = drawn
    store = stored(*quotas)
    try:
        expected: Any = expected_charge(request, new, old, is_charged, quotas, limited, store)
    except Rejected as rejected:
        name = new.metadata.name
        words = f'{request.resource.plural} "{name}" is forbidden: {rejected}'
        assert rejection(request, new, old, store, limited) == (403, "Forbidden", words)
    else:
        assert charge(request, new, old, store, limited) == expected


A_QUOTA = made(
    QUOTAS, {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}}
)


@pytest.mark.parametrize(
    ("old", "is_announced"),
    [
        (None, True),
        (A_QUOTA, False),
        (replace(A_QUOTA, spec=replace(A_QUOTA.spec, hard={"pods": "1"})), False),
        (replace(A_QUOTA, spec=replace(A_QUOTA.spec, hard={"pods": "2"})), True),
        (replace(A_QUOTA, spec=replace(A_QUOTA.spec, scopes=("BestEffort",))), True),
    ],
)
def test_quota_2_a_quota_that_limits_something_else_is_announced(old, is_announced):
    store = stored()
    record = store.get(NAMESPACE)
    request = Request("create" if old is None else "update", QUOTAS, "default", "q")
    written = ((Compare(NAMESPACE, record.mod_revision),), (Put(NAMESPACE, record.value),))
    assert charge(request, A_QUOTA, old, store) == (written if is_announced else ((), ()))
    # in a namespace that does not exist there is nothing to write, and the request fails by itself
    assert charge(request, A_QUOTA, old, stored(namespace=False)) == ((), ())


def test_quota_1_a_count_that_is_no_quantity_is_left_to_the_controller():
    quota = replace(A_QUOTA, status=ResourceQuotaStatus(hard={"pods": "1"}, used={"pods": "none"}))
    pod, request = made(PODS, a_pod("p")), Request("create", PODS, "default", "p")
    assert charge(request, pod, None, stored(quota)) == ((), ())
    waits = replace(quota, spec=replace(quota.spec, hard={"pods": "1", "count/pods": "1"}))
    store = stored(waits)
    key = QUOTAS.key("default", "q")
    expected = ((Compare(key, store.get(key).mod_revision),), (Put(key, waits),))
    assert charge(request, pod, None, store) == expected


def test_quota_3_objects_of_the_cluster_and_events_are_charged_to_nothing():
    quota = replace(
        A_QUOTA, status=ResourceQuotaStatus(hard={"count/events": "0"}, used={"count/events": "0"})
    )
    store = stored(quota)
    for resource in (resources.EVENTS, resources.NODES):
        request = Request("create", resource, "default", "p")
        obj = made(resource, {"metadata": {"name": "p"}})
        assert charge(request, obj, None, store, (LimitedResource("", "pods", ("x",)),)) == ((), ())


def test_quota_9_what_is_limited_needs_a_quota_also_where_none_was_ever_made():
    limited = (LimitedResource("", "pods", ("pods",)),)
    request, pod = Request("create", PODS, "default", "p"), made(PODS, a_pod("p"))
    code, _, message = rejection(request, dying(pod), None, stored(), limited)
    assert code == 403 and message.endswith("insufficient quota to consume: count/pods,pods")
    assert charge(request, pod, None, stored()) == ((), ())


# --- cases that are rarely drawn

FAST = expression("In", "fast", scope="VolumeAttributesClass")


def counted(hard: dict[str, str], used: dict[str, str], **spec: Any) -> Any:
    metadata = {"name": "q", "namespace": "default"}
    quota = made(QUOTAS, {"metadata": metadata, "spec": {"hard": hard, **spec}})
    return replace(quota, status=ResourceQuotaStatus(hard=hard, used=used))


def used_after(quota: Any, request: Request, new: Any, old: Any, *limited: Any) -> Any:
    """`status.used` as it is written; None if the quota is not written."""
    _, writes = charge(request, new, old, stored(quota), limited)
    return writes[0].value.status.used if writes else None


UPDATE = Request("update", CLAIMS, "default", "c")


def test_quota_6_a_claim_that_a_quota_did_not_select_before_is_charged_in_full():
    hard = {"requests.storage": "9", "persistentvolumeclaims": "9"}
    quota = counted(hard, dict.fromkeys(hard, "1"), **FAST)
    slow, fast, larger = a_drawn_claim(2, 0, False), a_drawn_claim(2, 0, True), a_drawn_claim(3, 0, True)  # fmt: skip
    assert used_after(quota, UPDATE, fast, slow) == {
        "requests.storage": "3", "persistentvolumeclaims": "2",
    }  # fmt: skip
    assert used_after(quota, UPDATE, larger, fast) == {
        "requests.storage": "2", "persistentvolumeclaims": "1",
    }  # fmt: skip
    assert used_after(quota, UPDATE, slow, fast) is None
    # a claim that had no request
    everything = counted(hard, dict.fromkeys(hard, "1"))
    assert used_after(everything, UPDATE, slow, a_claim(None)) == {
        "requests.storage": "3", "persistentvolumeclaims": "1",
    }  # fmt: skip


def test_quota_6_the_status_of_a_claim_is_charged_beyond_the_limit():
    quota = counted({"requests.storage": "2"}, {"requests.storage": "2"})
    request = Request("update", CLAIMS, "default", "c", "status")
    old, new = a_drawn_claim(2, 0, False), a_drawn_claim(2, 5, False)
    assert used_after(quota, request, new, old) == {"requests.storage": "5"}
    words = "exceeded quota: q, requested: requests.storage=3, used: requests.storage=2"
    assert words in rejection(UPDATE, new, old, stored(quota))[2]


def test_quota_9_what_counts_as_covered():
    limited = LimitedResource("", "persistentvolumeclaims", ("requests.storage",))
    slow, fast = a_drawn_claim(2, 0, False), a_drawn_claim(2, 0, True)
    covering = counted({"requests.storage": "9"}, {"requests.storage": "0"}, **FAST)
    create = Request("create", CLAIMS, "default", "c")
    assert used_after(covering, create, fast, None, limited) == {"requests.storage": "2"}
    names = {"persistentvolumeclaims": "9"}
    lacking = counted(names, dict.fromkeys(names, "0"), **FAST)
    # the quota has not selected the claim before, so all of it is used in addition
    assert rejection(UPDATE, fast, slow, stored(lacking), (limited,))[2].endswith(
        "insufficient quota to consume: requests.storage"
    )
    assert rejection(UPDATE, fast, fast, stored(lacking), (limited,)) is None


def test_quota_9_a_quota_that_does_not_select_the_pod_requires_nothing_of_it():
    quota = counted({"requests.cpu": "9"}, {"requests.cpu": "0"}, scopes=["BestEffort"])
    pod, request = a_drawn_pod(0, True, ""), Request("create", PODS, "default", "p")
    limited = LimitedResource("", "pods", ("odd",))
    assert charge(request, pod, None, stored(quota), (limited,)) == ((), ())


def test_quota_9_every_uncovered_scope_is_named_with_its_values():
    scopes = (
        ScopedResourceSelectorRequirement(
            scope_name="PriorityClass", operator="In", values=("high", "low")
        ),
        ScopedResourceSelectorRequirement(scope_name="NotBestEffort", operator="Exists"),
    )
    limited = LimitedResource("", "pods", (), scopes)
    request = Request("create", PODS, "default", "p")
    assert rejection(request, a_drawn_pod(1, True, "high"), None, stored(), (limited,))[2].endswith(
        "insufficient quota to match these scopes: "
        "[{PriorityClass In [high low]} {NotBestEffort Exists []}]"
    )
