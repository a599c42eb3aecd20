"""What the quota controller asks and is called for, beside a plain reading of QUOTA-3, QUOTA-4,
QUOTA-7 and QUOTA-8 (spec/quota.md)."""

from typing import Any

import pytest
from custom_world import a_definition
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
from refk8s.core.api.request import Request, Response
from refk8s.core.controllers.resource_quota import DOUBT, RETRY, ResourceQuotaController
from refk8s.core.loop.plan import NOTHING, Local
from refk8s.core.quota.counts import is_same
from refk8s.core.quota.scopes import selects, traits_of

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
