"""Answers that a real v1.36 gives and that one would not guess: rules API-2, API-14, API-18, DEL-5,
DEL-9 to DEL-11, LIST-5, LIST-7."""

from __future__ import annotations

import json

import pytest
from api_world import START, World, an_object, populated
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NOW, pod

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Event, ObjectReference
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver import delete as deleting
from refk8s.core.apiserver import list_text
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.http import WireRequest, receive, reply_to
from refk8s.core.apiserver.lifecycle import GRACE_SECONDS_MAX, stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.context import Context, SeededChance, micro_timestamp, parse_timestamp, timestamp
from refk8s.core.loop.plan import Note
from refk8s.core.loop.recorder import Recorder, record
from refk8s.core.store import Conflict, commit, compact

CONFIG_MAPS = resources.CONFIG_MAPS
PATH = "/api/v1/namespaces/default/configmaps"


def create(world: World, name: str, **metadata: object):
    return world.do(
        Request(
            "create",
            CONFIG_MAPS,
            "default",
            body=an_object(CONFIG_MAPS, ObjectMeta(name=name, **metadata)),
            user=ADMIN,
        )
    )


# --- creation


@pytest.mark.parametrize(
    ("version", "dry", "code"),
    [("5", False, 500), ("18446744073709551615", False, 500), ("5", True, 201)]
    + [
        (odd, False, 201)
        for odd in ("", "0", "000", "abc", "-1", "1.5", "18446744073709551616", "9" * 5000)
    ],
)
def test_api_2_a_new_object_has_no_resource_version(version, dry, code):
    # Shows API-2.f API-2.g API-14.d.
    world = World()
    reply = world.http(
        "POST",
        PATH + ("?dryRun=All" if dry else ""),
        {"metadata": {"name": "a", "resourceVersion": version}},
    )
    said = json.loads(reply.content)
    assert reply.code == code and (world.get(CONFIG_MAPS, "a") is not None) == (
        code == 201 and not dry
    )
    if code == 500:
        assert said["message"] == "resourceVersion should not be set on objects to be created"
        assert "reason" not in said and said["status"] == "Failure"


def test_api_2_a_put_that_creates_may_have_a_resource_version():
    world = World()
    lease = an_object(resources.LEASES, ObjectMeta(name="a", resource_version="5"))
    assert (
        world.do(
            Request("update", resources.LEASES, "default", "a", body=lease, user=ADMIN)
        ).response.code
        == 201
    )


# --- patches


@pytest.mark.parametrize(
    "said", [{"kind": "Pod"}, {"apiVersion": "v9"}, {"kind": None, "apiVersion": None}]
)
@pytest.mark.parametrize(
    ("media_type", "code"), [("strategic-merge-patch", 200), ("merge-patch", 422)]
)
def test_patch_1_a_strategic_patch_does_not_change_the_kind(said, media_type, code):
    # Shows PATCH-1.c.
    world = populated()
    patch = Patch(f"application/{media_type}+json", {**said, "data": {"k": "new"}})
    answer = world.do(
        Request("patch", CONFIG_MAPS, "default", "a", body=patch, user=ADMIN)
    ).response
    if media_type == "merge-patch" and None in said.values():
        code = 200  # an absent kind is that of the path
    assert answer.code == code
    assert (world.get(CONFIG_MAPS, "a").data.get("k") == "new") == (code == 200)


@pytest.mark.parametrize("media_type", ["strategic-merge-patch", "merge-patch", "json-patch"])
def test_api_23_an_unknown_field_in_a_patch_is_422_where_in_a_create_it_is_400(media_type):
    # Shows API-23.c.
    world = populated()
    document = (
        [{"op": "add", "path": "/odd", "value": 1}] if media_type == "json-patch" else {"odd": 1}
    )
    headers = {"content-type": f"application/{media_type}+json"}
    assert world.http("PATCH", f"{PATH}/a?fieldValidation=Strict", document, headers).code == 422
    assert (
        world.http(
            "POST", f"{PATH}?fieldValidation=Strict", {"metadata": {"name": "b"}, "odd": 1}
        ).code
        == 400
    )


@pytest.mark.parametrize(
    ("media_type", "document", "warning"),
    [
        ("merge-patch", b'{"data": {"k": "v", "k": "w"}}', 'duplicate field "data.k"'),
        ("strategic-merge-patch", b'{"data":{"k":"v","k":"w"}}', 'duplicate field "data.k"'),
        ("json-patch", b'[{"op":"test","op":"add","path":"/data/k","value":"w"}]', 'json patch duplicate field "[0].op"'),
    ],
)  # fmt: skip
def test_api_23_a_repeated_field_of_a_patch_is_reported(media_type, document, warning):
    # Shows API-23.d.
    world = populated()
    headers = {"content-type": f"application/{media_type}+json"}
    for validation, code, warnings in (
        ("Warn", 200, (warning,)),
        ("Ignore", 200, ()),
        ("Strict", 422, ()),
    ):
        path = f"{PATH}/a?dryRun=All&fieldValidation={validation}"
        reply = world.http("PATCH", path, document, headers)
        assert (reply.code, tuple(reply.warnings)) == (code, warnings)


def test_api_22_null_is_an_object_without_fields():
    answer = populated().http("POST", PATH, b" null ")
    assert answer.code == 422 and b"name or generateName is required" in answer.content


# --- deletes


ANSWERED = (
    "Service",
    "DeviceClass",
    "ResourceClaim",
    "ResourceClaimTemplate",
    "ResourceSlice",
    "VolumeAttributesClass",
)


def test_del_5_these_kinds_are_answered_as_they_were():
    from refk8s.core.apiserver.strategy import strategy_of

    more = (
        "CSIDriver", "CSINode", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate",
        "ResourceQuota", "ServiceAccount", "StorageClass", "VolumeAttachment",
    )  # fmt: skip
    found = {one.kind for one in resources.ALL if strategy_of(one).answers_deleted}
    assert found == {*ANSWERED, *more}


def test_del_5_a_deleted_service_is_the_answer():
    # Shows DEL-5.b.
    world = World()
    made = world.http(
        "POST",
        "/api/v1/namespaces/default/services",
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}},
    )
    assert made.code == 201
    reply = world.http("DELETE", "/api/v1/namespaces/default/services/a")
    said, was = json.loads(reply.content), json.loads(made.content)
    assert (
        int(said["metadata"].pop("resourceVersion"))
        == int(was["metadata"].pop("resourceVersion")) + 1
    ), "of its deletion"
    assert said == was


@given(st.integers(GRACE_SECONDS_MAX - 2, 2**63 - 1), st.booleans())
def test_del_11_no_grace_period_is_beyond_the_calendar(seconds, own):
    """Was 500: an OverflowError, and a controller whose delete was never answered."""
    # Shows DEL-11.c.
    world = World()
    a_pod = an_object(resources.PODS, ObjectMeta(name="p"))
    spec = replace(
        a_pod.spec, node_name="node-1", termination_grace_period_seconds=seconds if own else 30
    )
    world.do(
        Request("create", resources.PODS, "default", body=replace(a_pod, spec=spec), user=ADMIN)
    )
    body = DeleteOptions(grace_period_seconds=None if own else seconds)
    said = world.do(
        Request("delete", resources.PODS, "default", "p", body=body, user=ADMIN)
    ).response
    kept = min(seconds, GRACE_SECONDS_MAX)
    assert said.code == 200 and said.body.metadata.deletion_grace_period_seconds == kept
    asked_at = parse_timestamp(said.body.metadata.deletion_timestamp) - kept * 1_000_000
    assert START < asked_at <= world.now
    shorter = world.do(
        Request(
            "delete",
            resources.PODS,
            "default",
            "p",
            body=DeleteOptions(grace_period_seconds=5),
            user=ADMIN,
        )
    ).response
    assert shorter.body.metadata.deletion_grace_period_seconds == 5


@given(st.integers(-(2**90), 2**90))
def test_api_14_every_instant_can_be_written(now):
    # Shows API-14.i.
    for written in (timestamp(now), micro_timestamp(now)):
        assert len(written) in (20, 27)
        parse_timestamp(written)


def test_del_9_a_collection_is_deleted_one_by_one_and_others_write_in_between():
    """Was one transaction: 66,000 objects failed together with their neighbours, a stream of writes
    made it start again for ever."""
    # Shows DEL-9.d DEL-9.e.
    world = World()
    for number in range(11):
        create(world, f"c{number:02}")
    asked = Request(
        "deletecollection", CONFIG_MAPS, "default", body=deleting.DeleteOptions(), user=ADMIN
    )
    context = Context(START, SeededChance(b"x"))
    portions, created, refused = [], 0, 0
    while True:
        outcome = handle(Exchange(asked, world.history, context))
        if not isinstance(outcome, Commit):
            break
        # Before it is committed, somebody changes the last object of all, and creates another.
        last = world.get(CONFIG_MAPS, "c10")
        if last is not None and refused < 6:
            world.do(
                Request(
                    "update",
                    CONFIG_MAPS,
                    "default",
                    "c10",
                    body=replace(last, data={"written": str(created)}),
                    user=ADMIN,
                )
            )
        create(world, f"new-{created}")
        created += 1
        history, result = commit(world.history, outcome.txn, stamp)
        if isinstance(result, Conflict):
            refused += 1
            assert outcome.again is not None
            asked = outcome.again
            continue
        world.history = history
        portions.append(sum(1 for change in result.changes if change.record is None))
        if outcome.rest is None:
            break
        asked = outcome.rest
    answer = outcome if not isinstance(outcome, Commit) else outcome.respond(result)
    assert [item.metadata.name for item in answer.body.items] == [
        f"c{number:02}" for number in range(11)
    ]
    assert portions == [1] * 11 and refused
    kept = [record.value.metadata.name for record in world.history.list(CONFIG_MAPS.prefix).records]
    assert sorted(kept) == sorted(f"new-{number}" for number in range(created)), (
        "what came later stays"
    )


def test_del_9_an_object_that_took_the_name_of_a_listed_one_stays():
    # Shows DEL-9.d.
    world = World()
    for name in ("a", "b"):
        create(world, name)
    listed = tuple(
        (r.key, r.value.metadata.uid) for r in world.history.list(CONFIG_MAPS.prefix).records
    )
    answer = world.do(Request("list", CONFIG_MAPS, "default", user=ADMIN)).response
    world.do(Request("delete", CONFIG_MAPS, "default", "b", user=ADMIN))
    create(world, "b")
    rest = Request(
        "deletecollection",
        CONFIG_MAPS,
        "default",
        body=deleting.Collection(DeleteOptions(), listed, answer),
        user=ADMIN,
    )
    assert world.do(rest).response is answer
    assert world.get(CONFIG_MAPS, "a") is None and world.get(CONFIG_MAPS, "b") is not None


def test_del_9_each_object_of_a_collection_has_a_revision_of_its_own():
    # Shows DEL-9.d.
    world = World()
    count = 203
    for number in range(count):
        create(world, f"c{number:04}")
    before = world.history.revision
    said = world.do(Request("deletecollection", CONFIG_MAPS, "default", user=ADMIN)).response
    assert len(said.body.items) == count and not world.history.list(CONFIG_MAPS.prefix).records
    assert [change.revision for change in world.history.changes("/", before)] == list(
        range(before + 1, before + count + 1)
    )


# --- lists


@pytest.mark.parametrize(
    "selector",
    ["reason=x", "regarding.name=y", "reason=x,regarding.name=y", "reportingController=z"],
)
def test_list_13_lists_of_another_version_are_kept_by_its_own_field_names(selector):
    """Was 500: the text was kept by a selection that named the fields of the other version."""
    world = World()
    about = ObjectReference(name="y", namespace="default")
    event = Event(
        metadata=ObjectMeta(name="e"), reason="x", involved_object=about, reporting_component="z"
    )
    world.do(Request("create", resources.EVENTS, "default", body=event, user=ADMIN))
    wire = WireRequest(
        "GET",
        "/apis/events.k8s.io/v1/namespaces/default/events",
        f"fieldSelector={selector}",
        {},
        b"",
    )
    received = receive(wire, User("u"))
    response = world.do(received.request).response
    reply = reply_to(received, response, START)
    assert reply.code == 200 and len(response.body.items) == 1
    kept = list_text.keep(received, response, reply, world.history)
    assert kept is not None and list_text.recall(kept, world.history).whole() == reply.whole()


@given(st.integers(1, 3), st.integers(0, 3))
def test_list_5_a_chain_that_goes_on_after_410_is_of_the_state_of_its_first_page(limit, made):
    """Its later tokens named no revision: each page was of another state."""
    # Shows LIST-5.b LIST-5.c LIST-7.a.
    world = World()
    for number in range(9):
        create(world, f"c{number}")
    first = world.do(
        Request("list", CONFIG_MAPS, "default", options=Options(limit=1), user=ADMIN)
    ).response.body
    create(world, "z")
    world.history = compact(world.history, world.history.revision)
    refused = world.do(
        Request(
            "list",
            CONFIG_MAPS,
            "default",
            options=Options(limit=1, continue_=first.metadata.continue_),
            user=ADMIN,
        )
    ).response
    assert refused.code == 410
    expected = world.do(Request("list", CONFIG_MAPS, "default", user=ADMIN)).response.body.items[1:]
    token, items, revisions = refused.body.metadata.continue_, [], set()
    while token:
        page = world.do(
            Request(
                "list",
                CONFIG_MAPS,
                "default",
                options=Options(limit=limit, continue_=token),
                user=ADMIN,
            )
        ).response.body
        items += page.items
        revisions.add(page.metadata.resource_version)
        for number in range(made):
            create(world, f"x{len(items)}{number}")
        token = page.metadata.continue_
    assert items == list(expected) and len(revisions) == 1


# --- evictions


@pytest.mark.parametrize("target", [{"kind": "Pod", "name": "n"}, {"kind": "Node"}])
def test_api_17_a_binding_without_a_node_is_500_without_a_reason(target):
    # Shows API-17.g.
    world = World()
    path = "/api/v1/namespaces/default/pods"
    spec = {"containers": [{"name": "c", "image": "app:1"}]}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    assert world.http("POST", path, made).code == 201
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": target}
    reply = world.http("POST", f"{path}/a/binding", binding)
    assert reply.code == 500 and "reason" not in json.loads(reply.content)


@pytest.mark.parametrize(
    ("version", "code"),
    [("policy/v1", 201), ("policy/v1beta1", 201), ("", 201), ("policy/v2", 400), ("v1", 400)],
)
def test_api_18_an_eviction_may_be_of_the_old_version(version, code):
    # Shows API-18.l.
    world = populated()
    body = {"kind": "Eviction", "apiVersion": version, "metadata": {"name": "a"}}
    assert world.http("POST", "/api/v1/namespaces/default/pods/a/eviction", body).code == code
    assert (world.get(resources.PODS, "a") is None) == (code == 201)


def test_api_3_the_old_version_is_of_evictions_alone():
    body = {
        "kind": "PodDisruptionBudget",
        "apiVersion": "policy/v1beta1",
        "metadata": {"name": "a"},
        "spec": {},
    }
    assert (
        World().http("POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", body).code
        == 400
    )


# --- events


@given(st.lists(st.integers(0, 3), min_size=2, max_size=25), st.text("a-.", max_size=260))
def test_event_5_the_names_of_events_are_in_the_order_of_time(pauses, more):
    """Their names were random, so that one second's events about a pod were listed in any order."""
    recorder, now, names = Recorder(), NOW, []
    about = replace(pod("p"), metadata=replace(pod("p").metadata, name="p" + more))
    for number, pause in enumerate(pauses):
        chance = SeededChance(number.to_bytes(4, "big"))
        recorder, request = record(
            recorder,
            Note(about, "R", f"m{number}"),
            "c",
            "",
            User("u"),
            Context(now, chance).suffix(),
            now,
        )
        assert request is not None
        names.append(request.body.metadata.name)
        now += pause
    assert names == sorted(names) and len(set(names)) == len(names)
    assert max(map(len, names)) <= 253
    world = World()
    body = replace(request.body, metadata=replace(request.body.metadata, namespace="default"))
    body = replace(body, involved_object=replace(body.involved_object, namespace="default"))
    assert (
        world.do(
            Request("create", resources.EVENTS, "default", body=body, user=ADMIN)
        ).response.code
        == 201
    )


def test_api_6_preconditions_of_a_query_are_those_of_a_body():
    world = populated()
    there = world.get(CONFIG_MAPS, "a").metadata
    assert (
        world.http(
            "DELETE", f"{PATH}/a?uid={there.uid}&resourceVersion={there.resource_version}"
        ).code
        == 200
    )
