"""Laws of what is asked for in another form than it is kept in, or not kept at all: rules API-27,
API-28 (spec/api.md)."""

from __future__ import annotations

import json

import pytest
from api_world import World, populated
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import objects

from refk8s.core.api import autoscaling_v1, autoscaling_v2, core_v1, events_v1, resources
from refk8s.core.api.core_v1 import ServiceAccount
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.versions import from_stored, stored_resource, to_stored

TWICE = [resource for resource in resources.ALL if resource.storage_api_version]
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"


@given(objects(core_v1.Event))
def test_api_28_an_event_to_the_other_version_and_back_is_the_event(event):
    # Shows API-28.c.
    there = from_stored(resources.EVENTS_V1, event)
    assert to_stored(resources.EVENTS_V1, there, event) == replace(
        event, kind="Event", api_version="v1"
    )


@given(objects(events_v1.Event))
def test_api_28_and_the_other_way_round(event):
    # Shows API-28.c.
    back = from_stored(resources.EVENTS_V1, to_stored(resources.EVENTS_V1, event, None))
    assert back == replace(event, kind="Event", api_version="events.k8s.io/v1")


@given(
    objects(autoscaling_v1.HorizontalPodAutoscaler),
    st.one_of(st.none(), objects(autoscaling_v2.HorizontalPodAutoscaler)),
)
def test_api_28_whatever_is_kept_what_v1_says_is_read_as_it_was_written(scaler, kept):
    # Shows API-28.c.
    kind = resources.HORIZONTAL_POD_AUTOSCALERS_V1
    status = replace(
        scaler.status,
        current_cpu_utilization_percentage=scaler.status.current_cpu_utilization_percentage or 0,
    )
    scaler = replace(
        scaler, kind="HorizontalPodAutoscaler", api_version="autoscaling/v1", status=status
    )
    assert from_stored(kind, to_stored(kind, scaler, kept)) == scaler


@given(objects(autoscaling_v2.HorizontalPodAutoscaler))
def test_api_28_what_only_v2_says_stays_when_v1_is_written(kept):
    # Shows API-28.b.
    kind = resources.HORIZONTAL_POD_AUTOSCALERS_V1
    again = to_stored(kind, from_stored(kind, kept), kept)
    assert (
        again.spec.behavior == kept.spec.behavior
        and again.status.conditions == kept.status.conditions
    )
    for metric in kept.spec.metrics or ():
        source = metric.resource
        is_cpu = (
            source is not None
            and source.name == "cpu"
            and source.target.average_utilization is not None
        )
        assert is_cpu or metric in again.spec.metrics


@pytest.mark.parametrize("resource", TWICE, ids=repr)
def test_api_28_versions_share_their_keys(resource):
    stored = stored_resource(resource)
    assert (
        stored.prefix == resource.prefix
        and stored.api_version == resource.storage_api_version
        and not stored.storage_api_version
    )


def test_api_28_a_write_in_one_version_is_seen_in_all():
    # Shows API-28.a.
    world = World()
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "message": "it began",
        "count": 2,
    }
    made = json.loads(world.http("POST", "/api/v1/namespaces/default/events", event).content)
    seen = json.loads(world.http("GET", f"{EVENTS}/e").content)
    assert (
        seen["apiVersion"] == "events.k8s.io/v1"
        and seen["note"] == "it began"
        and seen["regarding"]["name"] == "p"
        and seen["deprecatedCount"] == 2
    )
    assert seen["metadata"] == made["metadata"]
    patch = {"content-type": "application/merge-patch+json"}
    assert world.http("PATCH", f"{EVENTS}/e", {"note": "it went on"}, patch).code == 422, "VAL-65"
    named = world.http("PATCH", f"{EVENTS}/e", {"metadata": {"labels": {"a": "b"}}}, patch)
    changed = world.http(
        "PATCH", "/api/v1/namespaces/default/events/e", {"message": "it went on"}, patch
    )
    assert (named.code, changed.code) == (200, 200) and json.loads(changed.content)["metadata"][
        "labels"
    ] == {"a": "b"}
    assert json.loads(world.http("GET", f"{EVENTS}/e").content)["note"] == "it went on"
    line = json.loads(
        world.http("GET", f"{EVENTS}?watch=1&fieldSelector=regarding.name%3Dp").content
    )
    assert line["type"] == "ADDED" and line["object"]["note"] == "it went on"
    for path, code in (
        (f"{EVENTS}?fieldSelector=regarding.name%3Dp", 1),
        (f"{EVENTS}?fieldSelector=regarding.name%3Dq", 0),
    ):
        listed = json.loads(world.http("GET", path).content)
        assert (
            listed["kind"] == "EventList"
            and listed["apiVersion"] == "events.k8s.io/v1"
            and len(listed["items"]) == code
        )
    assert world.http("GET", f"{EVENTS}?fieldSelector=note%3Dx").code == 400
    assert (
        world.http("DELETE", f"{EVENTS}/e").code == 200
        and world.http("GET", "/api/v1/namespaces/default/events/e").code == 404
    )


def test_api_28_an_autoscaler_is_one_object_in_both_versions():
    world = World()
    path, other = (
        f"/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers"
        for version in ("v1", "v2")
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    made = json.loads(
        world.http(
            "POST",
            path,
            {"metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}},
        ).content
    )
    assert made["spec"] == {
        "maxReplicas": 3,
        "minReplicas": 1,
        "scaleTargetRef": target,
        "targetCPUUtilizationPercentage": 80,
    }
    seen = json.loads(world.http("GET", f"{other}/a").content)
    assert seen["spec"]["metrics"][0]["resource"]["target"] == {
        "type": "Utilization",
        "averageUtilization": 80,
    }
    scaler = world.get(resources.HORIZONTAL_POD_AUTOSCALERS, "a")
    asked = Request(
        "patch",
        resources.HORIZONTAL_POD_AUTOSCALERS_V1,
        "default",
        "a",
        body=Patch("application/merge-patch+json", {"spec": {"maxReplicas": 5}}),
        user=ADMIN,
    )
    assert world.do(asked).response.body.spec.max_replicas == 5
    assert world.get(resources.HORIZONTAL_POD_AUTOSCALERS, "a").spec.metrics == scaler.spec.metrics


# --- reviews


@pytest.mark.parametrize(
    ("path", "spec", "allowed"),
    [
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"resourceAttributes": {"verb": "get", "resource": "pods"}},
            201,
        ),
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"nonResourceAttributes": {"verb": "get", "path": "/"}},
            201,
        ),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, 422),
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"resourceAttributes": {"verb": "get"}, "user": "u"},
            201,
        ),
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"resourceAttributes": {"verb": "get"}},
            422,
        ),
        (
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            {"resourceAttributes": {"namespace": "default"}, "user": "u"},
            201,
        ),
        (
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            {"resourceAttributes": {"namespace": "other"}, "user": "u"},
            422,
        ),
        ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"namespace": "default"}, 201),
    ],
)
def test_api_27_a_review_of_access_is_answered_and_not_kept(path, spec, allowed):
    # Shows API-27.a API-27.b.
    world = World()
    before = world.history
    reply = world.http("POST", path, {"spec": spec})
    assert reply.code == allowed and world.history is before
    if allowed == 201 and "rules" not in path:
        assert json.loads(reply.content)["status"]["allowed"] is True


def test_api_27_who_am_i_and_whose_token_is_this():
    world = World()
    said = json.loads(
        world.http("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}).content
    )
    assert said["status"]["userInfo"]["username"] == "kubernetes-admin"
    world.do(
        Request(
            "create",
            resources.SERVICE_ACCOUNTS,
            "default",
            body=ServiceAccount(metadata=ObjectMeta(name="robot")),
            user=ADMIN,
        )
    )
    path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
    token = json.loads(world.http("POST", path, {"spec": {"audiences": ["vault"]}}).content)[
        "status"
    ]["token"]
    for audiences, known in ((["vault"], True), ([], False), (["other"], False)):
        said = json.loads(
            world.http(
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                {"spec": {"token": token, "audiences": audiences}},
            ).content
        )
        assert said["status"].get("authenticated", False) is known
        assert ("username" in said["status"]["user"]) is known
    assert (
        world.http("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {}}).code == 400
    )


def test_api_17_the_old_path_of_bindings_binds_too():
    world = populated()
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "node-1"}}
    assert world.http("POST", "/api/v1/namespaces/default/bindings", binding).code == 201
    assert world.get(resources.PODS, "a").spec.node_name == "node-1"
    assert not world.history.list("/core/bindings/").records
    assert world.do(
        Request(
            "list",
            resources.PODS,
            "default",
            options=Options(field_selector="spec.nodeName=node-1"),
            user=ADMIN,
        )
    ).response.body.items
