"""Verb x subresource x option x kind, against a plain reference (api_reference.py): rules API-1 to
API-8, API-12, API-17 to API-20, API-23, DEL-1, DEL-3 to DEL-6, DEL-10, DEL-11, LIST-3,
WATCHAPI-4."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from api_reference import (
    ANSWERED_WHEN_DELETED,
    CREATED_BY_PUT,
    GENERATION,
    NEEDS_RESOURCE_VERSION,
    ORPHANED,
    STATUS_KEEPS_METADATA,
    STATUS_OF_THE_CREATOR,
    UNCOLLECTED,
    Ask,
    Expected,
    delete,
    tidy,
    without,
    write,
)
from api_samples import CHANGES, NAMES, SAMPLES, STATUSES, Tree, sample, value_at, with_value
from api_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.value import evolve

KEPT = tuple(
    one
    for one in resources.ALL
    if "update" in one.verbs and not one.storage_api_version and one.kind in SAMPLES
)
HELD = "example.com/hold"
PODS = "/api/v1/namespaces/default/pods"


def test_the_reference_knows_the_facts_of_every_kind():
    """strategy.py, kind by kind: also of the kinds without a sample."""
    for resource in resources.ALL:
        if "update" not in resource.verbs or resource.storage_api_version:
            continue
        strategy, kind = strategy_of(resource), resource.kind
        wire = {"address_type": "addressType"}
        found = (
            tuple(wire.get(name, name) for name in strategy.generation)
            if strategy.has_generation
            else None
        )
        assert found == GENERATION.get(kind), kind
        assert strategy.unconditional_update == (kind not in NEEDS_RESOURCE_VERSION), kind
        assert strategy.create_on_update == (kind in CREATED_BY_PUT), kind
        assert strategy.answers_deleted == (kind in ANSWERED_WHEN_DELETED), kind
        assert strategy.created_with_status == (kind in STATUS_OF_THE_CREATOR), kind
        assert strategy.propagation == (
            "Orphan" if kind in ORPHANED else "" if kind in UNCOLLECTED else "Background"
        ), kind
        kept = {"Deployment": 1, "Pod": 1} | dict.fromkeys(STATUS_KEEPS_METADATA, 4)
        assert len(strategy.status_keeps) == kept.get(kind, 0), kind
    assert {one.kind for one in resources.ALL if "update" in one.verbs} - set(SAMPLES) == {
        "ClusterTrustBundle",
        "PodCertificateRequest",
    }
    assert set(GENERATION) <= {one.kind for one in KEPT}
    assert all(
        any(path.startswith(field) for path, _ in CHANGES.get(kind, ()))
        for kind, fields in GENERATION.items()
        for field in fields
        if field != "addressType"  # which never changes
    ), "every field that the generation counts is changed"


# --- worlds


def collection(resource: Resource) -> str:
    base = f"/apis/{resource.group}/{resource.version}" if resource.group else "/api/v1"
    return (
        f"{base}/namespaces/default/{resource.plural}"
        if resource.namespaced
        else f"{base}/{resource.plural}"
    )


def name_of(resource: Resource) -> str:
    return NAMES.get(resource.kind, "a")


@cache
def _made(resource: Resource, state: str) -> World:
    """A world with an object of the kind: absent, there, going (held by a finalizer), placed (a pod
    on a node)."""
    world = World()
    world.http(
        "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
    )
    if state == "absent":
        return world
    body = sample(
        resource.kind, resource.api_version, labels={"app": "x"}, annotations={"note": "1"}
    )
    if state == "going":
        body["metadata"]["finalizers"] = [HELD]
    made = world.http("POST", collection(resource), body)
    assert made.code == 201, made.content
    if state == "going":
        assert (
            world.http("DELETE", path_of(resource), {"propagationPolicy": "Background"}).code == 200
        )
    if state == "placed":
        target = {"kind": "Node", "name": "n"}
        assert (
            world.http(
                "POST", f"{PODS}/a/binding", {"metadata": {"name": "a"}, "target": target}
            ).code
            == 201
        )
    return world


def path_of(resource: Resource) -> str:
    return f"{collection(resource)}/{name_of(resource)}"


def world_of(resource: Resource, state: str) -> World:
    """A copy of such a world, which is a value but for its clock."""
    made = _made(resource, state)
    world = World(namespaces=())
    world.history, world.now, world.turn = made.history, made.now, made.turn
    return world


def plain_fields(tree: Tree) -> Tree:
    """The object without managedFields, which test_apply.py is about, and without what the API
    server itself writes to the status of a policy (POL-15), which test_pol_evaluation.py is
    about."""
    found = {**tree, "metadata": without(tree["metadata"], "managedFields")}
    if tree.get("kind") == "ValidatingAdmissionPolicy":
        status = without(tree.get("status") or {}, "observedGeneration", "typeChecking")
        found["status"] = status or None
    return found


def stored(world: World, resource: Resource) -> Tree | None:
    """The object in the store, without managedFields."""
    reply = world.http("GET", path_of(resource))
    if reply.code != 200:
        return None
    tree = json.loads(reply.content)
    tree["metadata"].pop("managedFields", None)
    return dict(tree)


def same(found: Tree | None, expected: Tree | None, world: World, is_written: bool = True) -> None:
    """The trees are equal, but for the resourceVersion of what is written and the instant of a
    deletion."""
    if found is None or expected is None:
        assert found is expected
        return
    found, expected = tidy(plain_fields(found)), tidy(plain_fields(expected))
    if expected["metadata"].get("deletionTimestamp") == "<now>":
        assert found["metadata"].get("deletionTimestamp")
        for tree in (found, expected):
            tree["metadata"] = without(tree["metadata"], "deletionTimestamp")
    if is_written:
        for tree in (found, expected):
            tree["metadata"] = without(tree["metadata"], "resourceVersion")
    for tree in (found, expected):
        tree["metadata"] = {
            k: sorted(v) if k == "finalizers" else v for k, v in tree["metadata"].items() if v != 0
        }
    assert found == expected


# --- writes of an object and of its parts

SERVERS = {
    "creationTimestamp": "2001-01-01T00:00:00Z",
    "generation": 77,
    "selfLink": "/x",
    "deletionTimestamp": "2001-01-01T00:00:00Z",
}


OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"}


def wanted(resource: Resource, before: Tree, ask: Ask) -> tuple[Tree, Tree]:
    """(the whole object that the client wants, what a merge patch for it has)."""
    kind, sent, patch = resource.kind, before, dict[str, Any]()
    metadata: Tree = {}
    if ask.labels:
        metadata["labels"] = {**before["metadata"].get("labels", {}), "more": "1"}
        metadata["annotations"] = {**before["metadata"].get("annotations", {}), "note": "3"}
    if ask.holds:
        metadata |= {
            "finalizers": [*before["metadata"].get("finalizers", []), "example.com/new"],
            "ownerReferences": [OWNER],
        }
    if ask.servers:
        metadata |= without(SERVERS, "deletionTimestamp")  # another one is refused: VAL-5
    version = {
        "none": None,
        "zero": "0",
        "present": before["metadata"]["resourceVersion"],
        "old": "1",
        "odd": "x",
    }[ask.version]
    if ask.verb == "patch":
        metadata |= {} if version is None else {"resourceVersion": version}
        sent = {**sent, "metadata": {**before["metadata"], **metadata}}
        patch = {"metadata": metadata} if metadata else {}
    else:
        uid = {"none": None, "present": before["metadata"]["uid"], "other": "1-2-3"}[ask.uid]
        kept = without(before["metadata"], "resourceVersion", "uid")
        sent = {
            **sent,
            "metadata": tidy({**kept, **metadata, "resourceVersion": version, "uid": uid}),
        }
    changes = CHANGES.get(kind, [])
    if ask.change >= 0 and changes:
        path, value = changes[ask.change % len(changes)]
        sent = with_value(sent, path, value)
        patch = with_value(patch, path, value)
    if ask.status and kind in STATUSES:
        sent = {**sent, "status": {**before.get("status", {}), **STATUSES[kind]}}
        patch = {**patch, "status": STATUSES[kind]}
    if ask.unknown:
        patch = {**patch, "odd": 1}
    return sent, patch


def query_of(**parameters: Any) -> str:
    """The query of those that are not None or empty."""
    texts = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in parameters.items()
    }
    return "?" + "&".join(
        f"{key}={quote(text)}" for key, text in texts.items() if text not in ("", "none")
    )


def send_write(world: World, resource: Resource, before: Tree, ask: Ask) -> tuple[Any, Tree]:
    sent, patch = wanted(resource, before, ask)
    path = path_of(resource) + (f"/{ask.part}" if ask.part else "")
    path += query_of(dryRun="All" if ask.dry_query else "", fieldValidation=ask.validation)
    if ask.verb == "update":
        return world.http("PUT", path, {**sent, "odd": 1} if ask.unknown else sent), sent
    if ask.media == "json":
        tops = [key for key in patch if key != "metadata"]
        operations = [{"op": "add", "path": f"/{key}", "value": sent.get(key, 1)} for key in tops]
        operations += [
            {"op": "add", "path": f"/metadata/{key}", "value": value}
            for key, value in patch.get("metadata", {}).items()
        ]
        return world.http(
            "PATCH", path, operations, {"content-type": "application/json-patch+json"}
        ), sent
    media = "strategic-merge-patch" if ask.media == "strategic" else "merge-patch"
    return world.http("PATCH", path, patch, {"content-type": f"application/{media}+json"}), sent


asks_to_write = st.builds(
    Ask,
    verb=st.sampled_from(["update", "update", "patch"]),
    dry_query=st.booleans(),
    validation=st.sampled_from(["", "Ignore", "Warn", "Strict"]),
    unknown=st.sampled_from([False, False, True]),
    version=st.sampled_from(["none", "none", "zero", "present", "old", "odd"]),
    uid=st.sampled_from(["none", "none", "present", "other"]),
    media=st.sampled_from(["merge", "strategic", "json"]),
    labels=st.booleans(),
    holds=st.booleans(),
    change=st.integers(-1, 2),
    status=st.booleans(),
    servers=st.booleans(),
)


def parts_of(resource: Resource) -> list[str]:
    return [
        "",
        *(
            one.name
            for one in resource.subresources
            if one.name in ("status", "approval", "finalize")
        ),
    ]


def is_list_change(resource: Resource, ask: Ask) -> bool:
    changes = CHANGES.get(resource.kind, [])
    return (
        ask.change >= 0
        and bool(changes)
        and isinstance(changes[ask.change % len(changes)][1], list | dict)
    )


def check_write(resource: Resource, ask: Ask, state: str) -> None:
    if ask.part == "finalize" and ask.verb != "update":
        ask = evolve(ask, verb="update")
    if ask.media == "strategic" and (is_list_change(resource, ask) or ask.status):
        ask = evolve(ask, media="merge")  # lists and maps are merged otherwise there: test_patch.py
    if state == "going":
        ask = evolve(ask, holds=False)  # such an object takes on no finalizers: DEL-12
    if resource.kind == "Namespace" and state == "going":
        ask = evolve(ask, status=False)  # whose phase must be Terminating
    world = world_of(resource, state)
    before = stored(world, resource)
    revision = world.history.revision
    if before is None:
        body = sample(resource.kind, resource.api_version)
        options = query_of(dryRun="All" if ask.dry_query else "")
        if ask.verb == "patch":
            reply = world.http(
                "PATCH",
                path_of(resource) + options,
                {},
                {"content-type": "application/merge-patch+json"},
            )
        else:
            reply = world.http(
                "PUT", path_of(resource) + (f"/{ask.part}" if ask.part else "") + options, body
            )
        creates = ask.verb == "update" and resource.kind in CREATED_BY_PUT and not ask.part
        assert reply.code == (201 if creates else 404)
        assert (stored(world, resource) is not None) == (creates and not ask.dry_query)
        return
    reply, sent = send_write(world, resource, before, ask)
    expected = write(resource.kind, before, ask, sent)
    after = stored(world, resource)
    assert reply.code == expected.code, reply.content
    is_same = expected.after is before
    assert world.history.revision - revision == (0 if is_same else 1)
    same(after, expected.after, world, not is_same)
    if expected.code == 200:
        assert any("unknown field" in warning for warning in reply.warnings) == expected.warned
        same(json.loads(reply.content), expected.object, world)
        shown = json.loads(reply.content)["metadata"]["resourceVersion"]
        assert shown == (after or before)["metadata"]["resourceVersion"], "of what is stored"


@pytest.mark.parametrize("resource", KEPT, ids=lambda one: one.kind)
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(
    data=st.data(),
    ask=asks_to_write,
    state=st.sampled_from(["there", "there", "there", "going", "absent"]),
)
def test_api_1_api_4_api_5_api_6_api_8_api_12_api_23_a_write_does_what_the_reference_does(
    resource, data, ask, state
):
    # Shows API-1.c API-1.d API-4.b API-5.a API-5.b API-5.c API-5.d API-5.e API-6.a API-6.b
    # API-6.d API-6.e API-7.a API-7.b API-8.a API-8.b API-8.c API-8.f API-12.a API-23.a API-23.b
    # API-23.c.
    part = data.draw(st.sampled_from(parts_of(resource)))
    check_write(resource, evolve(ask, part=part), state)


@pytest.mark.parametrize("resource", KEPT, ids=lambda one: one.kind)
def test_api_5_api_6_api_7_api_8_api_12_each_option_alone(resource):
    """Without chance: every part, alone with every option and every change."""
    # Shows API-5.a API-5.b API-5.c API-5.d API-6.a API-6.b API-6.c API-6.d API-6.e API-7.a
    # API-7.b API-8.a API-8.b API-8.c API-8.f.
    plain = [
        Ask(verb, version=version)
        for verb in ("update", "patch")
        for version in ("present", "none", "zero", "old", "odd")
    ]
    alone = [
        Ask("update", version="present", change=number)
        for number in range(len(CHANGES.get(resource.kind, ())))
    ]
    alone += [
        Ask("update", version="present", **{flag: True})
        for flag in ("labels", "holds", "status", "servers")
    ]
    alone += [
        Ask("update", version="present", uid="other", labels=True),
        Ask("update", version="old", labels=True),
    ]
    for ask in plain + alone:
        for part in parts_of(resource):
            for dry in (False, True):
                for state in ("there", "absent"):
                    check_write(resource, evolve(ask, part=part, dry_query=dry), state)


# --- creation


@pytest.mark.parametrize("resource", KEPT, ids=lambda one: one.kind)
@settings(max_examples=max(5, settings.default.max_examples // 5))
@given(ask=asks_to_write, state=st.sampled_from(["absent", "absent", "there", "going"]))
def test_api_1_api_2_api_5_api_8_api_12_a_creation_does_what_the_reference_does(
    resource, ask, state
):
    # Shows API-1.b API-1.f API-2.c API-2.f API-5.a API-8.g.
    plain = stored(world_of(resource, "there"), resource)
    assert plain is not None
    world = world_of(resource, state)
    before = stored(world, resource)
    body = sample(
        resource.kind, resource.api_version, labels={"app": "x"}, annotations={"note": "1"}
    )
    if ask.servers:
        body["metadata"] |= SERVERS | {"uid": "of the client"}
    if ask.status and resource.kind in STATUSES:
        body["status"] = STATUSES[resource.kind]
    if ask.unknown:
        body["odd"] = 1
    if ask.version in ("old", "odd", "zero"):
        body["metadata"]["resourceVersion"] = {"old": "1", "odd": "x", "zero": "0"}[ask.version]
    query = query_of(dryRun="All" if ask.dry_query else "", fieldValidation=ask.validation)
    reply = world.http("POST", collection(resource) + query, body)
    after = stored(world, resource)
    if ask.unknown and ask.validation == "Strict":
        assert reply.code == 400
    elif ask.version == "old" and not ask.dry_query:
        assert reply.code == 500
    elif before is not None:
        assert reply.code == 409
    else:
        assert reply.code == 201, reply.content
        assert (after is not None) == (not ask.dry_query)
        made = json.loads(reply.content)
        if resource.kind in GENERATION:
            assert made["metadata"]["generation"] == 1
        else:
            assert made["metadata"].pop("generation", None) == (77 if ask.servers else None)
        fresh = ("uid", "creationTimestamp", "resourceVersion", "generation")
        addresses = ("clusterIP", "clusterIPs")

        def bare(tree: Tree) -> Tree:
            tree = plain_fields(tree)
            spec = (
                without(tree["spec"], *addresses)
                if resource.kind == "Service"
                else tree.get("spec")
            )
            status = without(tree.get("status") or {}, "lastPhaseTransitionTime")
            return tidy(
                {
                    **tree,
                    "metadata": without(tree["metadata"], *fresh),
                    "spec": spec,
                    "status": status,
                }
            )

        assert made["metadata"]["uid"] != "of the client" and (
            "resourceVersion" in made["metadata"]
        ) == (not ask.dry_query)
        # whose labels and volumes have fresh names
        if resource.kind not in STATUS_OF_THE_CREATOR and resource.kind not in ("Job", "Pod"):
            assert bare(made) == bare(plain)
        return
    same(after, before, world, False)


# --- deletion

asks_to_delete = st.builds(
    Ask,
    verb=st.just("delete"),
    in_body=st.booleans(),
    dry=st.booleans(),
    policy=st.sampled_from(["", "Background", "Foreground", "Orphan"]),
    orphan=st.sampled_from([None, None, None, True, False]),
    grace=st.sampled_from([None, 0, 5, -1]),
    wanted_uid=st.sampled_from(["none", "none", "present", "other"]),
    wanted_version=st.sampled_from(["none", "none", "present", "old"]),
)


def delete_body(before: Tree, ask: Ask) -> Tree:
    """The DeleteOptions that say what is asked."""
    uid = {"none": None, "present": before["metadata"]["uid"], "other": "1-2-3"}[ask.wanted_uid]
    version = {"none": None, "present": before["metadata"]["resourceVersion"], "old": "1"}[
        ask.wanted_version
    ]
    preconditions = {
        key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value
    }
    body = {
        "dryRun": ["All"] if ask.dry else None,
        "gracePeriodSeconds": ask.grace,
        "propagationPolicy": ask.policy or None,
    }
    body |= {"orphanDependents": ask.orphan, "preconditions": preconditions or None}
    return {key: value for key, value in body.items() if value is not None}


def send_delete(world: World, path: str, before: Tree, ask: Ask) -> Any:
    body = delete_body(before, ask)
    if ask.in_body:
        # What stands in the query beside a body is ignored.
        ignored = "?dryRun=All&propagationPolicy=Sideways&uid=9"
        return world.http(
            "DELETE", path + ignored, {"kind": "DeleteOptions", "apiVersion": "v1", **body}
        )
    preconditions = body.pop("preconditions", {})
    return world.http(
        "DELETE", path + query_of(**{**body, **preconditions, "dryRun": "All" if ask.dry else ""})
    )


@pytest.mark.parametrize(
    "resource",
    # a namespace and a definition wait for their content (DEL-7, CRD-15)
    [one for one in KEPT if one.kind not in ("Namespace", "CustomResourceDefinition")],
    ids=lambda one: one.kind,
)
@settings(max_examples=max(10, settings.default.max_examples // 3))
@given(ask=asks_to_delete, data=st.data())
def test_del_1_del_3_del_4_del_5_del_6_del_10_del_11_a_delete_does_what_the_reference_does(
    resource, ask, data
):
    # Shows DEL-1.b DEL-3.a DEL-4.a DEL-5.a DEL-5.b DEL-5.c DEL-6.a DEL-6.b DEL-6.c DEL-6.d
    # DEL-10.a DEL-10.b DEL-10.c DEL-11.a DEL-11.c DEL-12.c.
    states = ["there", "there", "going", "absent"] + (
        ["placed", "placed"] if resource.kind == "Pod" else []
    )
    world = world_of(resource, data.draw(st.sampled_from(states)))
    before = stored(world, resource)
    revision = world.history.revision
    if before is None:
        placeholder = {"metadata": {"uid": "1", "resourceVersion": "1"}}
        expected_code = 422 if ask.policy and ask.orphan is not None else 404
        assert send_delete(world, path_of(resource), placeholder, ask).code == expected_code
        return
    reply = send_delete(world, path_of(resource), before, ask)
    expected: Expected = delete(resource.kind, before, ask)
    after = stored(world, resource)
    assert reply.code == expected.code, reply.content
    is_same = expected.after is before or tidy(expected.after) == tidy(before)
    same(after, before if is_same else expected.after, world, not is_same)
    assert (world.history.revision == revision) == is_same
    said = json.loads(reply.content)
    if expected.code >= 400:
        return
    if expected.object is None:
        assert (
            said["kind"] == "Status"
            and said["status"] == "Success"
            and said["details"]["uid"] == before["metadata"]["uid"]
        )
        return
    assert said["kind"] == resource.kind and said["metadata"]["uid"] == before["metadata"]["uid"]
    if not is_same:
        assert said["metadata"]["resourceVersion"] == str(world.history.revision), "of the deletion"
    # a pod that goes at once is shown as marked
    if resource.kind != "Pod" or expected.object is not before:
        same(said, expected.object, world)


@pytest.mark.parametrize(
    "ask",
    [Ask("delete", in_body=in_body, dry=dry) for in_body in (False, True) for dry in (False, True)],
)
def test_del_7_del_10_api_12_a_namespace_is_marked_unless_it_is_a_dry_run(ask):
    resource = resources.NAMESPACES
    world = world_of(resource, "there")
    before = stored(world, resource)
    assert before is not None
    reply = send_delete(world, path_of(resource), before, ask)
    expected = delete("Namespace", before, ask)
    assert reply.code == 200
    same(stored(world, resource), expected.after, world, not ask.dry)
    same(json.loads(reply.content), expected.object, world)


@pytest.mark.parametrize(
    "resource", [one for one in KEPT if "deletecollection" in one.verbs], ids=lambda one: one.kind
)
@settings(max_examples=5)
@given(ask=asks_to_delete, chosen=st.booleans())
def test_del_9_del_10_a_collection_is_deleted_as_the_reference_deletes_its_objects(
    resource, ask, chosen
):
    # Shows DEL-9.a DEL-9.b DEL-9.c.
    ask = evolve(ask, wanted_uid="none", wanted_version="none")
    world = world_of(resource, "there")
    before = stored(world, resource)
    assert before is not None
    path = collection(resource)
    selector = "labelSelector=app%3Dx" if chosen else "labelSelector=app%3Dother"
    body = delete_body(before, ask)
    if ask.in_body:
        reply = world.http(
            "DELETE",
            f"{path}?{selector}&dryRun=All&propagationPolicy=Sideways",
            {"kind": "DeleteOptions", **body},
        )
    else:
        options = query_of(**{**body, "dryRun": "All" if ask.dry else ""})
        reply = world.http("DELETE", f"{path}{options}&{selector}")
    expected = delete(resource.kind, before, ask)
    if expected.code == 422:
        assert reply.code == 422
        same(stored(world, resource), before, world, False)
        return
    assert reply.code == 200
    assert len(json.loads(reply.content)["items"]) == chosen
    changed = chosen and not ask.dry
    same(stored(world, resource), expected.after if changed else before, world, changed)


# --- parts that do something else


@pytest.mark.parametrize("state", ["there", "placed", "going", "absent"])
def test_api_6_api_12_api_17_a_binding_does_what_the_reference_does(state):
    """All 144 combinations."""
    # Shows API-17.a API-17.b API-17.c API-17.d.
    uids, versions, flags = ("none", "present", "other"), ("none", "present", "old"), (False, True)
    for uid, version, dry, through_pod, validation, unknown in product(
        uids, versions, flags, flags, ("", "Strict"), flags
    ):
        check_binding(state, dry, uid, version, through_pod, validation, unknown)


def check_binding(
    state: str, dry: bool, uid: str, version: str, through_pod: bool, validation: str, unknown: bool
) -> None:
    pods = resources.PODS
    world = world_of(pods, state)
    before = stored(world, pods)
    there = before["metadata"] if before is not None else {"uid": "1", "resourceVersion": "1"}
    metadata = {"name": "a", "annotations": {"bound": "1"}}
    metadata |= {"uid": {"present": there["uid"], "other": "1-2-3"}[uid]} if uid != "none" else {}
    metadata |= (
        {"resourceVersion": {"present": there["resourceVersion"], "old": "1"}[version]}
        if version != "none"
        else {}
    )
    body = {"metadata": metadata, "target": {"kind": "Node", "name": "m"}} | (
        {"odd": 1} if unknown else {}
    )
    path = f"{PODS}/a/binding" if through_pod else "/api/v1/namespaces/default/bindings"
    reply = world.http(
        "POST", path + query_of(dryRun="All" if dry else "", fieldValidation=validation), body
    )
    after = stored(world, pods)
    if unknown and validation:
        code = 400
    elif before is None:
        code = 404
    else:
        code = 201 if state == "there" and uid != "other" and version != "old" else 409
    assert reply.code == code, reply.content
    if code != 201 or dry:
        same(after, before, world, False)
        return
    assert after is not None and before is not None
    assert after["spec"] == {**before["spec"], "nodeName": "m"}
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["metadata"]["annotations"] == {"note": "1", "bound": "1"}
    assert [(c["type"], c["status"]) for c in after["status"]["conditions"]] == [
        ("PodScheduled", "True")
    ]


@given(
    asks_to_delete,
    st.sampled_from(["there", "placed", "going", "absent"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "Strict"]),
)
def test_api_12_api_18_del_10_an_eviction_does_what_the_reference_does(
    ask, state, dry_query, unknown, validation
):
    """Without a budget; with one: test_pdb.py."""
    pods = resources.PODS
    world = world_of(pods, state)
    before = stored(world, pods)
    options = delete_body(before or {"metadata": {"uid": "1", "resourceVersion": "1"}}, ask)
    body = {"metadata": {"name": "a"}, "deleteOptions": options} | ({"odd": 1} if unknown else {})
    reply = world.http(
        "POST",
        f"{PODS}/a/eviction"
        + query_of(dryRun="All" if dry_query else "", fieldValidation=validation),
        body,
    )
    after = stored(world, pods)
    if unknown and validation:
        assert reply.code == 400
        same(after, before, world, False)
        return
    if before is None:
        assert (
            reply.code == (422 if ask.policy and ask.orphan is not None else 404)
            or reply.code == 404
        )
        return
    expected = delete("Pod", before, evolve(ask, dry=ask.dry or dry_query))
    assert reply.code == (201 if expected.code < 400 else expected.code), reply.content
    if expected.code >= 400 or ask.dry or dry_query:
        same(after, before, world, False)
    elif expected.after is None:
        assert after is None
    else:
        assert after is not None
        conditions = [c for c in after["status"]["conditions"] if c["type"] == "DisruptionTarget"]
        assert [(c["status"], c["reason"]) for c in conditions] == [
            ("True", "EvictionByEvictionAPI")
        ]
        left = [c for c in after["status"]["conditions"] if c["type"] != "DisruptionTarget"]
        same(with_value(after, "status.conditions", left), expected.after, world)


SCALED = [one for one in KEPT if one.subresource("scale") is not None]


@pytest.mark.parametrize("resource", SCALED, ids=lambda one: one.kind)
@given(
    st.sampled_from(["update", "patch"]), st.integers(0, 3), st.booleans(), st.sampled_from(["none", "present", "old", "zero", "odd"]),
    st.sampled_from(["there", "going", "absent"]), st.sampled_from(["none", "present", "other"]),
)  # fmt: skip
def test_api_5_api_6_api_12_api_19_a_scale_does_what_the_reference_does(
    resource, verb, replicas, dry, version, state, uid
):
    # Shows API-19.b.
    world = world_of(resource, state)
    before = stored(world, resource)
    there = before["metadata"] if before is not None else {"resourceVersion": "1", "uid": "1"}
    metadata: Tree = {"name": "a"}
    if version != "none":
        metadata["resourceVersion"] = {
            "present": there["resourceVersion"],
            "old": "1",
            "zero": "0",
            "odd": "x",
        }[version]
    if uid != "none" and verb == "update":
        metadata["uid"] = {"present": there["uid"], "other": "1-2-3"}[uid]
    path = f"{path_of(resource)}/scale" + query_of(dryRun="All" if dry else "")
    body = {"metadata": metadata, "spec": {"replicas": replicas}}
    if verb == "update":
        reply = world.http("PUT", path, body)
    else:
        reply = world.http("PATCH", path, body, {"content-type": "application/merge-patch+json"})
    after = stored(world, resource)
    if before is None:
        assert reply.code == 404
        return
    ask = Ask(verb, dry_query=dry, version=version, uid=uid)
    expected = write(resource.kind, before, ask, with_value(before, "spec.replicas", replicas))
    assert reply.code == expected.code, reply.content
    same(after, expected.after, world, expected.after is not before)
    if reply.code == 200:
        said = json.loads(reply.content)
        assert said["kind"] == "Scale" and said["spec"].get("replicas", 0) == replicas
        assert said["metadata"]["resourceVersion"] == (after or {})["metadata"]["resourceVersion"]


@given(st.booleans(), st.booleans(), st.sampled_from(["", "Strict"]), st.booleans())
def test_api_12_api_20_a_token_request_stores_nothing(dry, unknown, validation, there):
    # Shows API-20.b API-20.e.
    accounts = resources.SERVICE_ACCOUNTS
    world = world_of(accounts, "there" if there else "absent")
    before, revision = stored(world, accounts), world.history.revision
    body = {"spec": {"audiences": ["x"]}} | ({"odd": 1} if unknown else {})
    reply = world.http(
        "POST",
        f"{path_of(accounts)}/token"
        + query_of(dryRun="All" if dry else "", fieldValidation=validation),
        body,
    )
    assert reply.code == (400 if unknown and validation else 201 if there else 404)
    assert stored(world, accounts) == before and world.history.revision == revision
    if reply.code == 201:
        metadata = json.loads(reply.content)["metadata"]
        assert before is not None and metadata["creationTimestamp"]
        assert [metadata[key] for key in ("name", "namespace", "uid")] == [
            before["metadata"][key] for key in ("name", "namespace", "uid")
        ]


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_api_8_api_12_ephemeral_containers_are_all_that_their_path_changes(dry, verb):
    # Shows API-8.d API-12.a.
    pods = resources.PODS
    world = world_of(pods, "placed")
    before = stored(world, pods)
    assert before is not None
    debugger = {"name": "d", "image": "i"}
    sent = with_value(
        with_value(before, "spec.ephemeralContainers", [debugger]), "spec.activeDeadlineSeconds", 5
    )
    sent = {**sent, "status": STATUSES["Pod"]}
    path = f"{PODS}/a/ephemeralcontainers" + query_of(dryRun="All" if dry else "")
    reply = world.http(
        verb,
        path,
        sent,
        {"content-type": "application/merge-patch+json"} if verb == "PATCH" else {},
    )
    after = stored(world, pods)
    assert reply.code == 200 and after is not None
    if dry:
        same(after, before, world, False)
        return
    [made] = after["spec"].pop("ephemeralContainers")
    assert (made["name"], made["image"]) == ("d", "i")
    same(
        after,
        with_value(before, "metadata.generation", before["metadata"]["generation"] + 1),
        world,
    )


@pytest.mark.parametrize("part", ["", "status", "finalize"])
@pytest.mark.parametrize("dry", [False, True])
def test_api_8_api_12_only_finalize_changes_the_finalizers_of_a_namespace(part, dry):
    # Shows API-8.a API-8.c API-12.a.
    namespaces = resources.NAMESPACES
    world = world_of(namespaces, "there")
    before = stored(world, namespaces)
    assert before is not None
    sent = {
        **with_value(before, "spec.finalizers", ["kubernetes", "example.com/x"]),
        "status": STATUSES["Namespace"],
    }
    path = (
        path_of(namespaces) + (f"/{part}" if part else "") + query_of(dryRun="All" if dry else "")
    )
    assert world.http("PUT", path, sent).code == 200
    after = stored(world, namespaces)
    assert after is not None
    written = "" if dry else part or "nothing"
    assert (after["spec"] == sent["spec"]) == (written == "finalize")
    assert (after["status"] == sent["status"]) == (written == "status")


# --- reading: fields, names and bookmarks of every kind

FIELDS: dict[str, dict[str, str]] = {
    "Pod": {
        "spec.nodeName": "spec.nodeName", "spec.restartPolicy": "spec.restartPolicy", "spec.schedulerName": "spec.schedulerName",
        "spec.serviceAccountName": "spec.serviceAccountName", "status.phase": "status.phase", "status.podIP": "status.podIP",
        "status.nominatedNodeName": "status.nominatedNodeName",
    },
    "Event": {
        **{f"involvedObject.{name}": f"involvedObject.{name}" for name in
           ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")},
        "reason": "reason", "reportingComponent": "reportingComponent", "source": "source.component", "type": "type",
    },
    "Secret": {"type": "type"},
    "Namespace": {"status.phase": "status.phase"},
    "Service": {"spec.clusterIP": "spec.clusterIP", "spec.type": "spec.type"},
    "CertificateSigningRequest": {"spec.signerName": "spec.signerName"},
    "ResourceSlice": {"spec.nodeName": "spec.nodeName", "spec.driver": "spec.driver"},
}  # fmt: skip
OTHER_FIELDS = {
    "Pod": {"spec.hostNetwork", "spec.host", "status.podIPs"}, "Node": {"spec.unschedulable"}, "ReplicationController": {"status.replicas"},
    "ReplicaSet": {"status.replicas"},
    "Job": {"status.successful"}, "ClusterTrustBundle": {"spec.signerName"},
    "PodCertificateRequest": {"spec.signerName", "spec.podName", "spec.nodeName"},
}  # fmt: skip
"""Of which an absent one is not empty, or which no sample has."""

FULL_EVENT = {
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p", "uid": "u", "apiVersion": "v1", "resourceVersion": "7",
                       "fieldPath": "f"},
    "reason": "R", "type": "Normal", "source": {"component": "s"}, "reportingComponent": "r",
}  # fmt: skip


def test_list_3_these_are_the_fields_that_can_be_selected():
    for resource in resources.ALL:
        own = set(strategy_of(resource).fields) - {"metadata.name", "metadata.namespace"}
        if not resource.storage_api_version:
            assert own == set(FIELDS.get(resource.kind, ())) | OTHER_FIELDS.get(
                resource.kind, set()
            ), resource


@pytest.mark.parametrize(
    "resource", [one for one in KEPT if one.kind in FIELDS], ids=lambda one: one.kind
)
def test_list_3_watchapi_5_a_field_selects_what_has_its_value(resource):
    # Shows LIST-3.a.
    world = world_of(resource, "absent")
    body = sample(resource.kind, resource.api_version, labels={"app": "x"})
    body |= FULL_EVENT if resource.kind == "Event" else {}
    if resource.kind == "Pod":
        body["spec"] = {**body["spec"], "nodeName": "n"}
    assert world.http("POST", collection(resource), body).code == 201
    tree = stored(world, resource)
    assert tree is not None
    for label, path in FIELDS[resource.kind].items():
        value = value_at(tree, path) or ""
        for operator, wish, found in (
            ("=", value, True),
            ("=", "other", False),
            ("!=", value, False),
            ("!=", "other", True),
        ):
            query = "?fieldSelector=" + quote(
                f"{label}{operator}{wish},metadata.name={tree['metadata']['name']}"
            )
            assert (
                len(json.loads(world.http("GET", collection(resource) + query).content)["items"])
                == found
            ), query
            watched = world.http(
                "GET", collection(resource) + query + "&watch=1&timeoutSeconds=1"
            ).content
            assert (b'"ADDED"' in watched) == found, query


@pytest.mark.parametrize("resource", KEPT, ids=lambda one: one.kind)
@pytest.mark.parametrize("state", ["there", "absent"])
@pytest.mark.parametrize("initial", [None, True, False])
@pytest.mark.parametrize("bookmarks", [None, True, False])
def test_watchapi_4_initial_events_end_with_a_bookmark_also_where_there_are_none(
    resource, state, initial, bookmarks
):
    # Shows WATCHAPI-4.b WATCHAPI-4.c.
    world = world_of(resource, state)
    there = [
        record
        for record in world.history.list(resource.prefix).records
        if f"/{name_of(resource)}" in record.key
    ]
    query = "?watch=1&fieldSelector=" + quote(f"metadata.name={name_of(resource)}")
    query += (
        ""
        if initial is None
        else f"&sendInitialEvents={str(initial).lower()}&resourceVersionMatch=NotOlderThan"
    )
    query += "" if bookmarks is None else f"&allowWatchBookmarks={str(bookmarks).lower()}"
    reply = world.http("GET", collection(resource) + query)
    events = [json.loads(line) for line in reply.content.splitlines()]
    shown = len(there) if initial is not False else 0
    assert [event["type"] for event in events] == ["ADDED"] * shown + ["BOOKMARK"] * bool(
        initial and bookmarks
    )
    if initial and bookmarks:
        last = events[-1]["object"]
        assert last["kind"] == resource.kind and last["metadata"]["annotations"] == {
            "k8s.io/initial-events-end": "true"
        }
        assert last["metadata"]["resourceVersion"] == str(world.history.revision)
