"""The plans of the quota controller in full, beside a plain reading of the table in its file
(spec/quota.md, QUOTA-7, QUOTA-8)."""

from typing import Any

import pytest
from custom_world import a_definition, a_version
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from test_quota import (
    CLAIMS,
    CONFIG_MAPS,
    PODS,
    QUOTAS,
    a_claim,
    a_container,
    a_pod,
    a_quota,
    config_map,
    listed,
    made,
    reconciled,
    viewed,
    written,
)
from workload_helpers import NOW, change, without_reasons

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ResourceQuotaStatus
from refk8s.core.api.request import Request
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.resource_quota import (
    DOUBT,
    RETRY,
    Doubt,
    ResourceQuotaController,
    resource_of,
)
from refk8s.core.loop.plan import Local, Plan
from refk8s.core.quota.usage import concerns

SECRETS = resources.SECRETS
NAMES = (
    "pods",
    "count/pods",
    "configmaps",
    "count/configmaps",
    "secrets",
    "count/none.example.com",
)
SERVED = {"pods": PODS, "configmaps": CONFIG_MAPS, "secrets": SECRETS}
NO_DOUBTS: Map[str, Any] = Map()


def a_dying_pod(name: str, grace: int | None) -> Any:
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    if grace is not None:
        metadata |= {"deletionTimestamp": timestamp(NOW), "deletionGracePeriodSeconds": grace}
    pod = {**a_pod(name), "metadata": metadata}
    return made(PODS, {**pod, "status": {"phase": "Running", "qosClass": "BestEffort"}})


@st.composite
def worlds(draw: st.DrawFn) -> Any:
    """(quota, objects, use of each name, the ends of grace periods, now)"""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    seconds = draw(st.integers(0, 3))
    now = NOW + seconds * SECOND
    graces = draw(st.lists(st.none() | st.integers(0, 4), max_size=3))
    pods = [a_dying_pod(f"p{number}", grace) for number, grace in enumerate(graces)]
    configs = [config_map(name) for name in "ab"[: draw(st.integers(0, 2))]]
    alive = [grace for grace in graces if grace is None or grace >= seconds]
    use = {
        "pods": len(alive), "count/pods": len(pods), "secrets": 0,
        "configmaps": len(configs), "count/configmaps": len(configs),
    }  # fmt: skip
    ends = [NOW + grace * SECOND + 1 for grace in alive if grace is not None]
    scoped = draw(st.sampled_from([{}, {"scopes": ["BestEffort"]}, {"scopes": ["NotBestEffort"]}]))
    if scoped:
        use |= {"configmaps": 0, "count/configmaps": 0}
    if scoped.get("scopes") == ["NotBestEffort"]:
        use, ends = dict.fromkeys(use, 0), []
    used = {}
    for name in (*names, "count/gone"):
        difference = draw(st.sampled_from([0, 0, 0, 1, -1, None]))
        if difference is not None and (name != "count/gone" or difference > 0):
            used[name] = str(use.get(name, 4) + difference)
    hard = draw(st.sampled_from([dict.fromkeys(names, "9"), dict.fromkeys(names, "9"), {"x": "1"}]))
    quota = a_quota(names, **scoped)
    quota = replace(quota, status=ResourceQuotaStatus(hard=hard, used=used or None))
    return quota, (*pods, *configs), use, ends, now


def resource_named(name: str) -> Any:
    return SERVED.get(name.removeprefix("count/"))


@given(
    worlds(),
    st.sampled_from([6, 7, 9]),
    st.sampled_from([None, 0, DOUBT - 1, DOUBT, DOUBT + 5]),
    st.sampled_from([None, 0, RETRY - 1, RETRY]),
)
def test_quota_7_quota_8_the_plan_in_full(world, revision, doubted, asked):
    """`revision`: of every table; that of the quota is 7. `doubted` and `asked`: for how long there
    is a doubt, and since when a list of ConfigMaps is waited for."""
    quota, objects, use, ends, now = world
    before, hard = quota.status.used or {}, quota.spec.hard
    memory, lists = NO_DOUBTS, {} if asked is None else {CONFIG_MAPS.prefix: now - asked}
    since = now if doubted is None else now - doubted
    if doubted is not None:
        memory = Map({"default/q": Doubt(since, Map(lists)), "default/r": Doubt(1)})
    # Decide
    counts, unproven, is_new, is_more = {}, [], quota.status.hard != hard, False
    for name in hard:
        resource = resource_named(name)
        if resource is None:
            counts |= {name: before[name]} if name in before else {}
            continue
        counts[name] = str(use[name])
        was = int(before[name]) if name in before else None
        is_new |= was is None
        is_more |= was is not None and use[name] > was
        if (was is None or use[name] < was) and revision < 7 and resource not in unproven:
            unproven.append(resource)
    uses_pods = any(resource_named(name) == PODS for name in hard)
    wake_at = min(ends, default=None) if uses_pods else None
    rest = memory.delete("default/q") if "default/q" in memory else memory
    with_doubt = memory.set("default/q", Doubt(since, Map(lists if doubted is not None else {})))
    if counts == before and quota.status.hard == hard:
        expected = Plan(wake_at=wake_at, memory=rest)
    elif (unproven or is_more) and not is_new and now < since + DOUBT:
        expected = Plan(wake_at=since + DOUBT, memory=with_doubt)
    elif unproven:
        waited = lists if doubted is not None else {}
        due = [one for one in unproven if now >= waited.get(one.prefix, now - RETRY) + RETRY]
        lists = {**waited, **{one.prefix: now for one in due}}
        expected = Plan(
            queries=tuple(Request("list", one, "default") for one in due),
            wake_at=now + RETRY,
            memory=memory.set("default/q", Doubt(since, Map(lists))),
        )
    else:
        status = ResourceQuotaStatus(hard=hard, used=counts or None)
        body = replace(quota, status=status)
        request = Request("update", QUOTAS, "default", "q", "status", body=body)
        expected = Plan(((request,),), wake_at=wake_at, memory=rest)

    plan = reconciled(quota, *objects, revision=revision, now=now, memory=memory)
    assert without_reasons(plan.requests) == [*expected.requests]
    assert sorted(map(str, plan.queries)) == sorted(map(str, expected.queries))
    assert plan.wake_at == expected.wake_at
    assert doubts(plan) == doubts(expected)


def doubts(plan: Plan) -> Any:
    return {key: (one.since, dict(one.asked), dict(one.listed)) for key, one in plan.memory.items()}


def test_quota_7_what_a_lost_node_keeps_is_given_back_when_its_grace_period_is_over():
    quota = a_quota(("pods", "count/pods"), used={"pods": "2", "count/pods": "2"})
    pods = [a_dying_pod("p", 10), a_dying_pod("q", 20)]
    waiting = reconciled(quota, *pods)
    assert not waiting.requests and waiting.wake_at == NOW + 10 * SECOND + 1
    later = reconciled(quota, *pods, now=waiting.wake_at)
    assert written(later) == {"pods": "1", "count/pods": "2"}
    assert later.wake_at == NOW + 20 * SECOND + 1


# --- answers


@pytest.mark.parametrize(
    ("revision", "is_proven"), [("7", True), ("10", True), ("6", False), ("", False), ("x", False)]
)
def test_quota_8_a_list_is_as_new_as_its_revision_says(revision, is_proven):
    controller, quota = ResourceQuotaController(), a_quota(("requests.storage",))
    first = reconciled(quota, revision=6)
    [query] = first.queries
    assert query.resource == CLAIMS
    claims = [
        change(a_claim(size), namespace="default", name=size.lower()) for size in ("1Gi", "2Gi")
    ]
    answer = listed(7, *claims)
    answer.body.metadata = replace(answer.body.metadata, resource_version=revision or None)
    memory, _ = controller.answered(first.memory, "default/q", query, answer, NOW)
    plan = reconciled(quota, revision=6, memory=memory)
    assert written(plan) == ({"requests.storage": "3Gi"} if is_proven else None)
    # a list that was sent again is answered twice
    again, keys = controller.answered(memory, "default/q", query, answer, NOW)
    assert keys == ("default/q",) and set(again["default/q"].listed) == {CLAIMS.prefix}


# --- custom resources


def established(*versions: Any, **more: Any) -> Any:
    definition = made(resources.CUSTOM_RESOURCE_DEFINITIONS, a_definition(*versions, **more))
    names = {"plural": "gadgets", "kind": "Gadget"}
    condition = {"type": "Established", "status": "True", "lastTransitionTime": timestamp(NOW)}
    status = {"conditions": [condition], "acceptedNames": names, "storedVersions": ["v1"]}
    kind = resources.CUSTOM_RESOURCE_DEFINITIONS
    return replace(definition, status=made(kind, {**a_definition(), "status": status}).status)


GADGETS = "count/gadgets.example.com"


@pytest.mark.parametrize(
    ("definition", "name", "is_counted"),
    [
        (established(), GADGETS, True),
        (
            established(a_version(name="v1beta1", storage=False), a_version(name="v1")),
            GADGETS,
            True,
        ),
        (established(), "gadgets.example.com", False),
        (established(), "count/others.example.com", False),
        (established(scope="Cluster"), GADGETS, False),
        (made(resources.CUSTOM_RESOURCE_DEFINITIONS, a_definition()), GADGETS, False),
    ],
)
def test_quota_3_quota_7_a_name_counts_the_objects_of_a_definition(definition, name, is_counted):
    view = viewed(a_quota((name,)), definition, revision=7)
    found = resource_of(view, name)
    assert (found is not None) == is_counted
    if found is not None:
        assert (found.plural, found.group, found.version) == ("gadgets", "example.com", "v1")
        assert concerns(found, name)
        # the view has no table of gadgets yet, so they are listed
        plan = ResourceQuotaController().reconcile(view, "default/q", NOW, Local(NO_DOUBTS))
        assert [(one.verb, one.resource, one.namespace) for one in plan.queries] == [
            ("list", found, "default")
        ]


def test_quota_8_a_new_name_and_a_new_limit_do_not_wait():
    quota = a_quota(("configmaps", "count/configmaps"))
    partly = replace(
        quota, status=ResourceQuotaStatus(hard=quota.spec.hard, used={"configmaps": "0"})
    )
    # `configmaps` is more than before, which alone would wait
    plan = reconciled(partly, config_map("a"), revision=9)
    assert written(plan) == {"configmaps": "1", "count/configmaps": "1"}
    limited = replace(
        a_quota(("configmaps",)),
        status=ResourceQuotaStatus(hard={"configmaps": "1"}, used={"configmaps": "0"}),
    )
    assert written(reconciled(limited, config_map("a"), revision=9)) == {"configmaps": "1"}


def test_quota_7_a_quota_with_a_scope_counts_what_it_selects():
    fast = made(PODS, {**a_pod("p", a_container()), "metadata": {"name": "p", "namespace": "default"}, "status": {"qosClass": "BestEffort"}})  # fmt: skip
    quota = a_quota(("pods",), scopes=["BestEffort"])
    assert written(reconciled(quota, fast)) == {"pods": "1"}
