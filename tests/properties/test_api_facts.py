"""The facts about each kind (core/apiserver/strategy.py), put to the test by requests: API-1, API-4
to API-8, API-14 (spec/api.md).

The table here was written from the API reference and from the answers of a v1.36.2, and not from
the program's own table.
"""

import json
from functools import cache
from typing import Any

import pytest
from api_world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import odd_trees
from val_examples import C, J, S, T

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource

COUNTED = (
    resources.PODS, resources.POD_TEMPLATES, resources.REPLICATION_CONTROLLERS, resources.REPLICA_SETS, resources.DEPLOYMENTS,
    resources.DAEMON_SETS, resources.STATEFUL_SETS, resources.JOBS, resources.CRON_JOBS, resources.POD_DISRUPTION_BUDGETS,
)  # fmt: skip
"""Kinds whose generation counts what is desired."""
NOT_COUNTED = (
    resources.HORIZONTAL_POD_AUTOSCALERS, resources.RESOURCE_QUOTAS, resources.LIMIT_RANGES, resources.EVENTS, resources.LEASES,
    resources.CONFIG_MAPS, resources.SECRETS, resources.SERVICE_ACCOUNTS, resources.NAMESPACES, resources.CONTROLLER_REVISIONS,
    resources.RUNTIME_CLASSES,
)  # fmt: skip
ALWAYS_ONE = (resources.PRIORITY_CLASSES,)
KINDS = (*COUNTED, *NOT_COUNTED, *ALWAYS_ONE)
WITH_STATUS = (
    *COUNTED,
    resources.HORIZONTAL_POD_AUTOSCALERS,
    resources.RESOURCE_QUOTAS,
    resources.NAMESPACES,
)
CREATED_BY_PUT = (resources.EVENTS, resources.LIMIT_RANGES, resources.LEASES)
ONLY_WITH_VERSION = (resources.LEASES, resources.POD_DISRUPTION_BUDGETS, resources.RUNTIME_CLASSES)
IN_THE_CLUSTER = (resources.NAMESPACES, resources.RUNTIME_CLASSES, resources.PRIORITY_CLASSES)

NO_STATUS: dict[Resource, Any] = {
    resources.PODS: {"phase": "Pending", "qosClass": "BestEffort"},
    resources.NAMESPACES: {"phase": "Active"},
}
"""What a new object's status is, where it is anything."""

_TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
_WORK = (
    {"spec": {"selector": S, "template": T}},
    {"spec": {"selector": S, "template": T, "minReadySeconds": 5}},
)
_CLAIMLESS = {"selector": S, "template": T, "serviceName": "s"}
_EVENT = {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "R"}
BODIES: dict[Resource, tuple[Any, Any]] = {
    resources.PODS: ({"spec": {"containers": [C]}}, {"spec": {"containers": [{**C, "image": "j"}]}}),
    resources.POD_TEMPLATES: ({"template": T}, {"template": {**T, "metadata": {"labels": {"a": "c"}}}}),
    resources.REPLICATION_CONTROLLERS: (
        {"spec": {"selector": {"a": "b"}, "template": T}}, {"spec": {"selector": {"a": "b"}, "template": T, "replicas": 2}},
    ),
    resources.REPLICA_SETS: _WORK,
    resources.DEPLOYMENTS: _WORK,
    resources.DAEMON_SETS: _WORK,
    resources.STATEFUL_SETS: ({"spec": _CLAIMLESS}, {"spec": {**_CLAIMLESS, "replicas": 2}}),
    resources.JOBS: ({"spec": {"template": J}}, {"spec": {"template": J, "parallelism": 2}}),
    resources.CRON_JOBS: (
        {"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": J}}}},
        {"spec": {"schedule": "@hourly", "jobTemplate": {"spec": {"template": J}}}},
    ),
    resources.POD_DISRUPTION_BUDGETS: ({"spec": {"selector": S, "minAvailable": 1}}, {"spec": {"selector": S, "minAvailable": 2}}),
    resources.HORIZONTAL_POD_AUTOSCALERS: (
        {"spec": {"maxReplicas": 3, "scaleTargetRef": _TARGET}}, {"spec": {"maxReplicas": 4, "scaleTargetRef": _TARGET}},
    ),
    resources.RESOURCE_QUOTAS: ({"spec": {"hard": {"pods": "1"}}}, {"spec": {"hard": {"pods": "2"}}}),
    resources.LIMIT_RANGES: (
        {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}, {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}},
    ),
    resources.EVENTS: (_EVENT, {**_EVENT, "message": "m"}),
    resources.LEASES: ({"spec": {"holderIdentity": "a"}}, {"spec": {"holderIdentity": "b"}}),
    resources.CONFIG_MAPS: ({"data": {"a": "1"}}, {"data": {"a": "2"}}),
    resources.SECRETS: ({"data": {"a": "MQ=="}}, {"data": {"a": "Mg=="}}),
    resources.SERVICE_ACCOUNTS: ({}, {"automountServiceAccountToken": False}),
    resources.NAMESPACES: ({}, {"spec": {"finalizers": ["kubernetes"]}}),
    resources.CONTROLLER_REVISIONS: ({"revision": 1, "data": {}}, {"revision": 2, "data": {}}),
    resources.RUNTIME_CLASSES: ({"handler": "a"}, {"handler": "a", "overhead": {"podFixed": {"cpu": "1"}}}),
    resources.PRIORITY_CLASSES: ({"value": 1}, {"value": 1, "description": "d"}),
}  # fmt: skip


def path_of(kind: Resource) -> str:
    place = "" if kind in IN_THE_CLUSTER else "/namespaces/default"
    return (
        f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    ) + f"{place}/{kind.plural}"


def body_of(kind: Resource, fields: Any, **metadata: Any) -> Any:
    return {
        "kind": kind.kind,
        "apiVersion": kind.api_version,
        **fields,
        "metadata": {"name": "a", **metadata},
    }


def said(reply: Any) -> tuple[int, Any]:
    return reply.code, json.loads(reply.content)


def merged(old: Any, new: Any) -> Any:
    """The new object with what is in the old one besides, as a client sends back what it has
    read."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [merged(*pair) for pair in zip(old, new, strict=True)]
    return new


def created(kind: Resource, fields: Any, **metadata: Any) -> tuple[World, Any]:
    world = World()
    if kind is resources.PODS:
        account = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}}
        assert world.http("POST", "/api/v1/namespaces/default/serviceaccounts", account).code == 201
    code, made = said(world.http("POST", path_of(kind), body_of(kind, fields, **metadata)))
    assert code == 201, made
    return world, made


def of_every(kinds: Any = KINDS) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=[kind.kind for kind in kinds])


@of_every()
def test_api_5_the_generation_begins_at_one_and_counts_what_is_desired(kind):
    # Shows API-5.a API-5.b API-5.c API-5.d.
    first, second = BODIES[kind]
    world, made = created(kind, first, generation=7)
    begins = 7 if kind in NOT_COUNTED else 1
    assert made["metadata"]["generation"] == begins
    code, relabelled = said(
        world.http(
            "PUT",
            f"{path_of(kind)}/a",
            {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}},
        )
    )
    assert code == 200 and relabelled["metadata"]["generation"] == begins
    code, changed = said(world.http("PUT", f"{path_of(kind)}/a", merged(relabelled, second)))
    assert code == 200, changed
    assert changed["metadata"].get("generation") == (begins + 1 if kind in COUNTED else begins)
    if kind is resources.DEPLOYMENTS:
        annotated = {**changed, "metadata": {**changed["metadata"], "annotations": {"n": "1"}}}
        assert (
            said(world.http("PUT", f"{path_of(kind)}/a", annotated))[1]["metadata"]["generation"]
            == 3
        )


@of_every()
def test_api_6_some_kinds_are_changed_only_from_a_state_that_is_named(kind):
    world, made = created(kind, BODIES[kind][0])
    del made["metadata"]["resourceVersion"]
    code, answer = said(world.http("PUT", f"{path_of(kind)}/a", made))
    if kind in ONLY_WITH_VERSION:
        assert (code, answer["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    else:
        assert code == 200


@of_every()
def test_api_7_a_put_creates_these_kinds_alone(kind):
    code = World().http("PUT", f"{path_of(kind)}/a", body_of(kind, BODIES[kind][0])).code
    assert code == (201 if kind in CREATED_BY_PUT else 404)


@of_every()
def test_api_10_a_kind_is_in_a_namespace_or_in_the_cluster(kind):
    assert kind.namespaced is (kind not in IN_THE_CLUSTER)
    elsewhere = (
        f"/namespaces/default/{kind.plural}" if kind in IN_THE_CLUSTER else f"/{kind.plural}"
    )
    start = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    assert World().http("POST", start + elsewhere, body_of(kind, BODIES[kind][0])).code in (
        404,
        405,
    )


STATUS: dict[str, Any] = {
    "phase": "Failed", "message": "m", "replicas": 7, "observedGeneration": 9, "currentHealthy": 4, "desiredReplicas": 5,
    "hard": {"pods": "9"},
}  # fmt: skip


@of_every(WITH_STATUS)
def test_api_8_no_creator_and_no_change_of_the_object_says_its_status(kind):
    # Shows API-8.a API-8.g.
    if not kind.has_status:
        return
    first, _ = BODIES[kind]
    path = f"{path_of(kind)}/a"
    bare = created(kind, first)[1].get("status")
    world, made = created(kind, {**first, "status": STATUS})
    assert made.get("status") == bare
    if kind in NO_STATUS:
        assert bare == NO_STATUS[kind]
    code, changed = said(world.http("PUT", path, {**made, "status": STATUS}))
    assert (
        code == 200
        and changed.get("status") == bare
        and changed["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    )


# --- whatever a client sends in any place


@cache
def _base(kind: Resource) -> tuple[World, Any]:
    return created(kind, BODIES[kind][0])


@of_every()
def test_api_14_an_odd_value_in_any_place_is_answered(kind):
    """Times that are none, numbers outside of their types: 400 in upstream's words, or 422, or
    taken; a refusal changes nothing."""
    # Shows API-14.a API-14.b.

    @settings(max_examples=60)
    @given(odd_trees(kind.type), st.sampled_from(["POST", "PUT"]), st.booleans())
    def law(tree, method, is_merged):
        world, made = _base(kind)
        if is_merged:
            tree = {**made, **tree, "metadata": made["metadata"]}
        before = world.history
        reply = world.http(method, path_of(kind) + ("/a" if method == "PUT" else ""), tree)
        answer = json.loads(reply.content)
        if reply.code >= 500:
            # API-2, API-6
            assert (
                "resourceVersion" in answer["message"] or "strconv.ParseUint" in answer["message"]
            )
        if reply.code >= 400:
            assert answer["message"] and world.history is before
        world.history = before

    law()
