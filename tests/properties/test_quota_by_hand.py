"""What the quota controller asks and is called for, beside a plain reading of QUOTA-3, QUOTA-4,
QUOTA-7 and QUOTA-8 (spec/quota.md)."""

from collections import Counter
from typing import Any

import pytest
from custom_world import a_definition
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from test_quota import (
    CONFIG_MAPS,
    PODS,
    QUOTAS,
    SERVICES,
    a_claim,
    a_container,
    a_pod,
    a_quota,
    change_status,
    config_map,
    expression,
    listed,
    made,
    reconciled,
    written,
)
from workload_helpers import NOW, change, view_of, without_reasons

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ResourceQuotaStatus
from refk8s.core.api.quantity import parse
from refk8s.core.api.request import Request, Response
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.resource_quota import DOUBT, RETRY, ResourceQuotaController
from refk8s.core.loop.plan import NOTHING, Local
from refk8s.core.quota.counts import NO_GROUPS, add, fold_counts, group_of, is_same, selected
from refk8s.core.quota.scopes import selects, traits_of
from refk8s.core.quota.usage import named, usage_of

CONTROLLER = ResourceQuotaController()
KEYS = {interest.resource: interest.keys for interest in ResourceQuotaController.interests}
CLAIMS, DEFINITIONS = resources.PERSISTENT_VOLUME_CLAIMS, resources.CUSTOM_RESOURCE_DEFINITIONS
NO_DOUBTS: Map[str, Any] = Map()

# --- which quotas are due -------------------------------------------------------------------------


def in_namespace(quota, name, namespace="default"):
    return change(quota, name=name, namespace=namespace)


CUSTOM = "count/gadgets.example.com"
ALL = (
    in_namespace(a_quota(("pods",)), "a"),
    in_namespace(a_quota((CUSTOM,)), "b"),
    in_namespace(a_quota(("pods", CUSTOM)), "c", "other"),
)


def pod_of(**parts):
    return change(
        made(
            PODS, {**a_pod("p"), "metadata": {"name": "p", "namespace": "default", "generation": 1}}
        ),
        **parts,
    )


@pytest.mark.parametrize(
    ("parts", "same"),
    [
        ({}, True), ({"node_name": "n"}, True), ({"annotations": {"a": "b"}}, True), ({"message": "m"}, True),
        ({"deletion_timestamp": "2026-01-01T00:00:00Z"}, False), ({"deletion_grace_period_seconds": 5}, False),
        ({"phase": "Failed"}, False), ({"qos_class": "Guaranteed"}, False), ({"priority_class_name": "x"}, False),
    ],
)  # fmt: skip
def test_quota_7_the_quotas_of_the_namespace_are_due_when_a_pod_uses_something_else(parts, same):
    view, old, new = view_of(CONTROLLER, *ALL), pod_of(), pod_of(**parts)
    assert is_same(PODS, old, new) == same
    assert list(KEYS[PODS](view, old, new)) == ([] if same else ["default/a", "default/b"])
    everyone = ["default/a", "default/b"]
    assert list(KEYS[PODS](view, None, new)) == list(KEYS[PODS](view, new, None)) == everyone
    elsewhere = change(new, namespace="other")
    assert list(KEYS[PODS](view, None, elsewhere)) == ["other/c"]
    assert list(KEYS[PODS](view_of(CONTROLLER), None, new)) == []


def test_quota_7_resized_pods_and_other_objects():
    small, large = (a_container(requests={"cpu": text}) for text in ("1", "2"))
    pods = [
        made(PODS, {**a_pod("p", one), "metadata": {"name": "p", "generation": 2}})
        for one in (small, large)
    ]
    assert not is_same(PODS, *pods) and is_same(PODS, pods[0], pods[0])
    service = made(SERVICES, {"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}})
    assert is_same(SERVICES, service, change(service, annotations={"a": "b"}))
    assert not is_same(SERVICES, service, change(service, type="NodePort"))
    claim = a_claim("1Gi")
    assert is_same(CLAIMS, claim, claim) and not is_same(CLAIMS, claim, a_claim("2Gi"))
    assert not is_same(CLAIMS, claim, a_claim("1Gi", allocated="2Gi"))
    assert is_same(CONFIG_MAPS, config_map("a"), replace(config_map("a"), data={"k": "v"}))


def test_quota_7_which_quotas_other_changes_concern():
    view = view_of(CONTROLLER, *ALL)
    first = ALL[0]
    quotas = KEYS[QUOTAS]
    assert list(quotas(view, first, first)) == ["default/a"]
    for found in (quotas(view, None, first), quotas(view, first, None)):
        assert sorted(found) == ["default/a", "default/a", "default/b"]
    gadget = config_map("g")
    custom = ResourceQuotaController.custom_keys
    assert list(custom(view, gadget, gadget)) == []
    for found in (custom(view, None, gadget), custom(view, gadget, None)):
        assert list(found) == ["default/a", "default/b"]
    definition = made(DEFINITIONS, a_definition())
    named = change(definition, name="gadgets.example.com")
    for found in (KEYS[DEFINITIONS](view, None, named), KEYS[DEFINITIONS](view, named, None)):
        assert sorted(found) == ["default/b", "other/c"]
    assert list(KEYS[DEFINITIONS](view, None, change(named, name="x.y"))) == []


# --- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "term", "crosses"),
    [
        (where, term, bool(term))
        for where in ("podAffinity", "podAntiAffinity")
        for term in ({}, {"namespaces": ["x"]}, {"namespaceSelector": {}})
    ],
)
@pytest.mark.parametrize("strength", ["required", "preferred"])
def test_quota_4_which_pods_cross_namespaces(where, term, crosses, strength):
    found = {"topologyKey": "z", **term}
    terms = [found] if strength == "required" else [{"weight": 1, "podAffinityTerm": found}]
    tree = a_pod(
        "p", affinity={where: {f"{strength}DuringSchedulingIgnoredDuringExecution": terms}}
    )
    quota = a_quota(scopes=["CrossNamespacePodAffinity"])
    assert selects(quota, PODS, traits_of(PODS, made(PODS, tree))) == crosses


def test_quota_4_a_deadline_of_zero_terminates_and_all_scopes_must_select():
    pod = made(PODS, a_pod("p", activeDeadlineSeconds=0, priorityClassName="high"))
    traits = traits_of(PODS, pod)
    assert selects(a_quota(scopes=["Terminating"]), PODS, traits)
    assert not selects(a_quota(scopes=["Terminating", "NotTerminating"]), PODS, traits)
    both = a_quota(scopes=["NotTerminating"], **expression("In", "high"))
    assert not selects(both, PODS, traits)
    two = expression("In", "high")["scopeSelector"]["matchExpressions"]
    two = [*two, {"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]
    assert not selects(a_quota(scopeSelector={"matchExpressions": two}), PODS, traits)
    odd = a_quota(**expression("Odd", "high"))
    assert not selects(odd, PODS, traits)
    assert selects(a_quota(scopeSelector={}), PODS, traits)


# --- what one object uses, and what many do


def nanos(usage: Any) -> dict[str, int]:
    return {name: much.nano for name, much in usage.items() if much.nano}


@st.composite
def pods_of_all_kinds(draw: st.DrawFn) -> Any:
    """A pod with a priority and requests, which may have finished or be on its way out."""
    requests = {"cpu": str(draw(st.integers(1, 3)))} if draw(st.booleans()) else {}
    tree = a_pod(
        "p", a_container(requests=requests), priorityClassName=draw(st.sampled_from(["a", "b"]))
    )
    metadata: dict[str, Any] = {"name": "p", "namespace": "default"}
    if draw(st.booleans()):
        metadata["deletionTimestamp"] = timestamp(NOW)
        if draw(st.booleans()):
            metadata["deletionGracePeriodSeconds"] = draw(st.integers(0, 3))
    phase = draw(st.sampled_from(["Running", "Running", "Failed"]))
    return made(PODS, {**tree, "metadata": metadata, "status": {"phase": phase}})


@given(
    st.lists(pods_of_all_kinds(), max_size=6),
    st.integers(0, 3),
    st.integers(0, 1),
    st.sampled_from(
        [a_quota(), a_quota(**expression("In", "a")), a_quota(**expression("In", "c"))]
    ),
)
def test_quota_7_what_a_quota_counts_is_the_sum_of_the_objects_that_it_selects(
    pods, seconds, more, quota
):
    now = NOW + seconds * SECOND + more
    groups, total, ends = NO_GROUPS, Counter[str](), []
    for pod in pods:
        groups = add(groups, PODS, pod)
        if not selects(quota, PODS, traits_of(PODS, pod)):
            continue
        metadata = pod.metadata
        usage, grace = nanos(usage_of(PODS, pod)), metadata.deletion_grace_period_seconds
        if metadata.deletion_timestamp is not None and grace is not None:
            end = NOW + grace * SECOND
            if now > end:
                usage = {"count/pods": usage["count/pods"]}
            else:
                ends.append(end + 1)
        total.update(usage)
    found, wake_at = selected(quota, PODS, groups, now)
    assert nanos(found) == total and wake_at == min(ends, default=None)


def test_quota_7_the_earliest_end_of_the_selected_pods_counts():
    groups = NO_GROUPS
    for priority, graces in (("a", (3, 1, 2)), ("b", (5, 4))):
        for grace in graces:
            metadata = {"name": "p", "namespace": "default"}
            metadata |= {"deletionTimestamp": timestamp(NOW), "deletionGracePeriodSeconds": grace}
            pod = {**a_pod("p", priorityClassName=priority), "metadata": metadata}
            groups = add(groups, PODS, made(PODS, pod))
    for priority, number, first in (("a", 3, 1), ("b", 2, 4)):
        found, wake_at = selected(a_quota(**expression("In", priority)), PODS, groups, NOW)
        assert found["pods"].value == number and wake_at == NOW + first * SECOND + 1


def test_quota_3_a_sidecar_that_is_resized_uses_the_larger_amounts():
    both = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
    more = {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}}
    status = {"name": "s", "allocatedResources": {"cpu": "3"}, "resources": more}
    sidecar = {**a_container("s", **both), "restartPolicy": "Always"}
    tree = a_pod("p", a_container("c", **both), initContainers=[sidecar])
    tree["metadata"]["generation"] = 2
    usage = usage_of(PODS, made(PODS, {**tree, "status": {"initContainerStatuses": [status]}}))
    assert (usage["requests.cpu"].value, usage["limits.cpu"].value) == (4, 5)


def test_quota_7_an_object_of_another_resource_has_no_end():
    claim = change(
        a_claim("1Gi"), deletion_timestamp=timestamp(NOW), deletion_grace_period_seconds=0
    )
    assert group_of(CLAIMS, claim) == (traits_of(CLAIMS, claim), None)
    deployment = made(resources.DEPLOYMENTS, {"metadata": {"name": "d", "namespace": "default"}})
    counts = fold_counts(Map(), resources.DEPLOYMENTS, None, deployment)
    place = ("default", resources.DEPLOYMENTS.prefix)
    assert [nanos(usage) for usage in counts[place].values()] == [{"count/deployments.apps": 10**9}]
    assert not fold_counts(counts, resources.DEPLOYMENTS, deployment, None)
    two = fold_counts(counts, resources.DEPLOYMENTS, None, change(deployment, name="e"))
    assert fold_counts(two, resources.DEPLOYMENTS, deployment, None) == counts


def test_quota_7_a_status_of_a_resized_pod_may_change_what_it_uses():
    def resized(allocated: str) -> Any:
        status = {
            "containerStatuses": [
                {
                    "name": "c",
                    "allocatedResources": {"cpu": allocated},
                    "resources": {"requests": {"cpu": allocated}},
                }
            ]
        }
        pod = a_pod("p", a_container(requests={"cpu": "1"}))
        return made(PODS, {**pod, "metadata": {"name": "p", "generation": 2}, "status": status})

    assert usage_of(PODS, resized("1")) != usage_of(PODS, resized("2"))
    assert not is_same(PODS, resized("1"), resized("2"))
    assert is_same(PODS, resized("1"), resized("1"))


def test_quota_3_the_old_annotation_of_a_claim_names_its_class():
    of_class = "{}.storageclass.storage.k8s.io/requests.storage"
    for name, old in (("gold", None), (None, "silver"), ("gold", "silver"), ("gold", "")):
        metadata = {"name": "c"}
        if old is not None:
            metadata["annotations"] = {"volume.beta.kubernetes.io/storage-class": old}
        spec = {"resources": {"requests": {"storage": "1Gi"}}, "storageClassName": name}
        usage = usage_of(CLAIMS, made(CLAIMS, {"metadata": metadata, "spec": spec}))
        expected = name if old is None else old
        classes = {key for key in usage if ".storageclass." in key and "requests" in key}
        assert classes == ({of_class.format(expected)} if expected else set())


def test_quota_3_the_largest_init_container_counts_whatever_follows():
    for sizes in ([5, 2], [2, 5], [5, 2, 3]):
        first = [a_container(f"i{n}", requests={"cpu": str(size)}) for n, size in enumerate(sizes)]
        tree = a_pod("p", a_container(requests={"cpu": "1"}), initContainers=first)
        assert usage_of(PODS, made(PODS, tree))["requests.cpu"].value == 5


def test_quota_3_only_extended_resources_have_a_name_of_their_own():
    amounts = {
        name: parse("1") for name in ("cpu", "hugepages-2Mi", "a.b/c", "kubernetes.io/x", "odd")
    }
    assert named(amounts, amounts).keys() == {
        "cpu", "requests.cpu", "limits.cpu", "hugepages-2Mi", "requests.hugepages-2Mi", "requests.a.b/c",
    }  # fmt: skip
    assert named(None, None) == {}


# --- the controller -------------------------------------------------------------------------------


def test_quota_7_the_write_in_full():
    quota = a_quota(("configmaps", "pods"))
    (request,) = without_reasons(reconciled(quota, config_map("a")).requests)
    status = ResourceQuotaStatus(
        hard={"configmaps": "9", "pods": "9"}, used={"configmaps": "1", "pods": "0"}
    )
    body = replace(quota, status=status)
    assert request == Request("update", QUOTAS, "default", "q", "status", body=body)
    empty = a_quota(())
    assert not reconciled(empty).requests
    gone = CONTROLLER.reconcile(view_of(CONTROLLER), "default/q", NOW, Local(NO_DOUBTS))
    assert gone == NOTHING


def test_quota_7_the_form_of_a_quantity_is_kept_where_the_amount_is_right():
    quota = a_quota(("requests.cpu",), used={"requests.cpu": "1000m"})
    pod = made(
        PODS,
        {
            **a_pod("p", a_container(requests={"cpu": "1"})),
            "metadata": {"name": "p", "namespace": "default"},
        },
    )
    assert not reconciled(quota, pod).requests
    wrong = change_status(
        quota, ResourceQuotaStatus(hard=quota.spec.hard, used={"requests.cpu": "none"})
    )
    assert written(reconciled(wrong, pod)) == {"requests.cpu": "1"}


def test_quota_8_a_doubt_ends_when_the_count_agrees_and_with_the_quota():
    quota = a_quota(("configmaps",), used={"configmaps": "1"})
    first = reconciled(quota, revision=6)
    assert first.wake_at == NOW + DOUBT and list(first.memory) == ["default/q"]
    assert first.memory["default/q"].since == NOW
    later = reconciled(quota, revision=6, now=NOW + DOUBT - 1, memory=first.memory)
    assert not later.queries and later.memory["default/q"].since == NOW
    agrees = reconciled(quota, config_map("a"), revision=6, memory=first.memory)
    assert not agrees.requests and agrees.memory == NO_DOUBTS and agrees.wake_at is None
    gone = CONTROLLER.reconcile(view_of(CONTROLLER), "default/q", NOW, Local(first.memory))
    assert gone.memory == NO_DOUBTS and not gone.requests


def test_quota_8_lists_are_asked_for_once_and_counted_in_full():
    quota = a_quota(("configmaps", "secrets"))
    first = reconciled(quota, revision=6)
    expected = [Request("list", one, "default") for one in (CONFIG_MAPS, resources.SECRETS)]
    assert sorted(map(str, first.queries)) == sorted(map(str, expected))
    assert first.wake_at == NOW + RETRY
    memory, keys = CONTROLLER.answered(
        first.memory, "default/q", first.queries[0], listed(7, config_map("a")), NOW
    )
    assert keys == ("default/q",)
    doubt = memory["default/q"]
    assert first.queries[0].resource.prefix not in doubt.asked and len(doubt.asked) == 1
    again = reconciled(quota, revision=6, now=NOW + RETRY, memory=memory)
    assert [one.resource for one in again.queries] == [first.queries[1].resource]
    for response in (None, Response(500, None)):
        assert CONTROLLER.answered(memory, "default/q", first.queries[1], response, NOW) == (
            memory,
            (),
        )
    assert CONTROLLER.answered(NO_DOUBTS, "default/q", first.queries[0], listed(7), NOW) == (
        NO_DOUBTS,
        (),
    )
