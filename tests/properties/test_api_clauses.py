"""Clauses of the API server's rules that no other test shows, one by one: API-1 to API-27, DEL-9
(spec/api.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_samples import Tree
from api_world import KINDS, START, World, an_object, populated
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_api_cross import PODS, SCALED, collection, path_of, stored, with_value, world_of
from test_http import a_server, all_answered, create, in_loop

from refk8s.components.yaml_reader import read_yaml
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.authenticate import authenticate
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.http import WireRequest, receive, user_of
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.respond import Reply
from refk8s.core.context import Context
from refk8s.core.store import Committed, Conflict, commit

CONFIG_MAPS = resources.CONFIG_MAPS
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = {"content-type": "application/merge-patch+json"}


# --- objects


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.kind)
@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "marks", [{"deletionTimestamp": "2001-01-01T00:00:00Z"}, {"deletionGracePeriodSeconds": 5}]
)
def test_api_1_a_change_cannot_mark_an_object_for_deletion(kind, verb, marks):
    # Shows API-1.e.
    world = populated()
    path = f"{collection(kind)}/a"
    there = json.loads(world.http("GET", path).content)
    before = world.history
    body = (
        {"metadata": marks}
        if verb == "PATCH"
        else {**there, "metadata": {**there["metadata"], **marks}}
    )
    reply = world.http(verb, path, body, MERGE if verb == "PATCH" else {})
    assert reply.code == 422 and world.history is before
    assert {cause["field"] for cause in json.loads(reply.content)["details"]["causes"]} == {
        f"metadata.{name}" for name in marks
    }


class Repeats:
    """Chance that draws the same suffix so many times, and then others."""

    def __init__(self, times: int) -> None:
        self.left = times

    def draw(self, count: int) -> bytes:
        self.left -= 1
        return bytes(count) if self.left >= 0 else bytes([1]) * count


@pytest.mark.parametrize("times", range(10))
def test_api_2_a_generated_name_that_is_taken_is_drawn_again_up_to_eight_times(times):
    # Shows API-2.d.
    world = World()
    world.do(
        Request(
            "create",
            CONFIG_MAPS,
            "default",
            body=ConfigMap(metadata=ObjectMeta(name="web-bbbbb")),
            user=ADMIN,
        )
    )
    asked = Request(
        "create",
        CONFIG_MAPS,
        "default",
        body=ConfigMap(metadata=ObjectMeta(generate_name="web-")),
        user=ADMIN,
    )
    outcome = handle(Exchange(asked, world.history, Context(START, Repeats(times))))
    assert isinstance(outcome, Commit) == (times < 8)
    if isinstance(outcome, Commit):
        _, done = commit(world.history, outcome.txn, stamp)
        assert (
            isinstance(done, Committed) and outcome.respond(done).body.metadata.name == "web-ccccc"
        )
    else:
        assert outcome.code == 409


@pytest.mark.parametrize(
    ("kind", "version", "code"),
    [("ConfigMap", "v1", 200), ("", "", 200), ("Secret", "v1", 400), ("ConfigMap", "v2", 400)],
)
def test_api_3_a_put_of_another_kind_is_refused(kind, version, code):
    # Shows API-3.a.
    body = {"kind": kind, "apiVersion": version, "metadata": {"name": "a"}, "data": {"k": "v"}}
    assert populated().http("PUT", f"{MAPS}/a", body).code == code


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
@pytest.mark.parametrize("part", ["ephemeralcontainers", "resize"])
def test_api_8_a_part_of_a_pod_changes_its_containers_and_the_metadata_alone(part, verb):
    # Shows API-8.d API-8.e.
    world = world_of(resources.PODS, "placed")
    before = stored(world, resources.PODS)
    assert before is not None
    mine: Any = stored(world, resources.PODS)
    mine["metadata"] |= {"labels": {"app": "x", "of": "the-client"}, "annotations": {"note": "2"}}
    mine["spec"] |= {
        "activeDeadlineSeconds": 5,
        "ephemeralContainers": [{"name": "x", "image": "i"}],
    }
    mine["status"] = {**mine["status"], "message": "mine"}
    mine["spec"]["containers"][0]["image"] = "other"
    reply = world.http(verb, f"{PODS}/a/{part}", mine, MERGE if verb == "PATCH" else {})
    assert reply.code == 200, reply.content
    after = stored(world, resources.PODS)
    assert after is not None
    assert after["metadata"]["labels"] == {"app": "x", "of": "the-client"} and after["metadata"][
        "annotations"
    ] == {"note": "2"}
    made = after["spec"].pop("ephemeralContainers", [])
    assert [one["name"] for one in made] == (["x"] if part == "ephemeralcontainers" else [])
    assert after["spec"] == before["spec"] and after["status"] == before["status"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + len(made)


@pytest.mark.parametrize("verb", ["PUT", "PATCH"])
def test_api_8_d_71_no_path_changes_the_resources_of_a_container(verb):
    """The rule said that /resize does."""
    # Shows API-8.e.
    for part in ("", "/resize"):
        world = world_of(resources.PODS, "placed")
        before = world.history
        mine: Any = stored(world, resources.PODS)
        mine["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
        reply = world.http(verb, f"{PODS}/a{part}", mine, MERGE if verb == "PATCH" else {})
        assert reply.code == 422 and world.history is before


@given(st.permutations(["one", "two", "three"]))
def test_api_9_a_request_that_another_write_overtook_is_handled_again(writers):
    """In one batch: the patches all hold, and of the creates of one name one."""
    # Shows API-9.a API-9.b PATCH-1.b.

    async def test() -> None:
        api = await a_server()
        codes = await all_answered(api, [create("a", writer=writer) for writer in writers])
        assert codes == [201, 409, 409]
        patches = [
            Patch("application/merge-patch+json", {"metadata": {"labels": {writer: "here"}}})
            for writer in writers
        ]
        codes = await all_answered(
            api,
            [
                Request("patch", CONFIG_MAPS, "default", "a", body=patch, user=ADMIN)
                for patch in patches
            ],
        )
        kept = api.store.get(CONFIG_MAPS.key("default", "a")).value
        assert (
            codes == [200] * 3
            and kept.metadata.labels == dict.fromkeys(writers, "here")
            and kept.data == {"writer": writers[0]}
        )

    in_loop(test)


def test_api_24_gets_lists_and_watches_hand_out_the_text_that_is_kept():
    # Shows API-24.a API-24.b.
    world = populated()
    [record] = world.history.list(CONFIG_MAPS.prefix).records
    world.http("GET", f"{MAPS}/a")
    record.wire = (
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","labels":{"kept":"text"}}}'
    )
    for path in (f"{MAPS}/a", MAPS, f"{MAPS}?watch=1"):
        assert (
            b'"metadata":{"name":"a","labels":{"kept":"text"}}' in world.http("GET", path).content
        ), path
    assert b"kept" not in world.http("GET", f"{MAPS}?limit=1&labelSelector=kept").content, (
        "what is chosen is the object"
    )


# --- who asks


@pytest.mark.parametrize("resource", resources.ALL, ids=repr)
def test_api_11_a_method_that_is_not_served_is_answered_with_a_status(resource):
    # Shows API-11.a.
    path = f"{collection(resource)}/a"
    for method in ("POST", "FOO"):
        reply = World().http(method, path)
        said = json.loads(reply.content)
        assert (reply.code, said["kind"], said["reason"], said["code"]) == (
            405,
            "Status",
            "MethodNotAllowed",
            405,
        )


@pytest.mark.parametrize(
    "name", ["system:anonymous-but-known", "system:serviceaccount:other:robot", "somebody"]
)
@pytest.mark.parametrize(
    "resource",
    [CONFIG_MAPS, resources.SECRETS, resources.CLUSTER_ROLES, resources.NODES],
    ids=lambda one: one.kind,
)
def test_api_13_every_user_is_answered_as_the_administrator(name, resource):
    # Shows API-13.a.
    worlds = [world_of(resource, "there") for _ in range(2)]
    there = stored(worlds[0], resource)
    asked = [
        ("GET", path_of(resource), b""),
        ("GET", collection(resource), b""),
        ("PUT", path_of(resource), there),
    ]
    asked += [
        ("PATCH", path_of(resource), {"metadata": {"labels": {"x": "y"}}}),
        ("DELETE", path_of(resource), b""),
    ]
    asked += [
        ("POST", collection(resource), {**(there or {}), "metadata": {"name": "b"}}),
        ("DELETE", collection(resource), b""),
    ]
    for method, path, body in asked:
        headers = MERGE if method == "PATCH" else {}
        mine, theirs = (
            w.http(method, path, body, headers, user)
            for w, user in zip(worlds, (ADMIN, User(name)), strict=True)
        )
        assert mine.code == theirs.code < 400, (method, path, mine.content)


TOKENS = Config(users={"good": User("u", groups=("g",))})
OPEN = ("/healthz", "/livez", "/readyz", "/version", "/readyz/ping")
paths = st.sampled_from(OPEN) | st.sampled_from(
    [
        MAPS,
        f"{MAPS}/a",
        "/api",
        "/apis",
        "/",
        "/nothing",
        "/openapi/v3",
        "/healthzz",
        "/versions",
        "/x/healthz",
        "/metrics",
        "/version/x",
    ]
)


@given(paths, st.sampled_from(["GET", "POST", "DELETE"]), st.sampled_from(["", "Bearer good", "bearer good", "Bearer", "Basic good"])
       | st.text("god .Bearer", min_size=1, max_size=12).map(lambda text: "Bearer " + text))  # fmt: skip
def test_api_15_a_wrong_token_is_refused_on_every_path_and_none_on_all_but_the_open(
    path, method, header
):
    # Shows API-15.a API-15.b API-15.c.
    wire = WireRequest(method, path, "", {"authorization": header} if header else {}, b"")
    is_good = header.lower().startswith("bearer ") and header.partition(" ")[2].strip() == "good"
    try:
        found = user_of(wire, TOKENS, START)
    except ApiError as error:
        assert error.status.code == 401 and not is_good and (header or path not in OPEN)
        return
    assert found == (TOKENS.users["good"] if is_good else None) and (
        is_good or (not header and path in OPEN)
    )
    if found is None:
        assert isinstance(receive(WireRequest(method, MAPS, "", {}, b""), None), Reply), (
            "nobody gets to a resource"
        )


# --- bodies


# a YAML text has no escaped surrogates
texts = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=8)
trees = st.dictionaries(st.text("ab-1", min_size=1, max_size=5), texts, max_size=3)


@given(trees)
def test_api_22_yaml_and_json_make_the_same_object(data):
    # Shows API-22.a.
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
    body = json.dumps(tree).encode()
    plain, same = (
        receive(WireRequest("POST", MAPS, "", {"content-type": media_type}, body), ADMIN, read_yaml)
        for media_type in ("application/json", "application/yaml")
    )
    assert plain == same and not isinstance(plain, Reply)
    assert plain.request.body.data == (data or None) or plain.request.body.data == data


BROKEN = (b"{", b"[1", b"\xff", b"a: [b")


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("body", BROKEN)
def test_api_22_what_cannot_be_read_is_400(media_type, method, body):
    # Shows API-22.b.
    path = MAPS if method == "POST" else f"{MAPS}/a"
    reply = receive(
        WireRequest(method, path, "", {"content-type": media_type}, body), ADMIN, read_yaml
    )
    assert isinstance(reply, Reply) and reply.code == 400


# --- parts


def test_api_17_a_pod_with_scheduling_gates_is_not_bound():
    # Shows API-17.b API-17.c.
    world = World()
    world.http(
        "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
    )
    spec = {
        "containers": [{"name": "c", "image": "i"}],
        "schedulingGates": [{"name": "example.com/wait"}],
    }
    assert world.http("POST", PODS, {"metadata": {"name": "a"}, "spec": spec}).code == 201
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "no-such-node"}}
    before = world.history
    reply = world.http("POST", f"{PODS}/a/binding", binding)
    assert (
        reply.code == 409
        and json.loads(reply.content)["reason"] == "Conflict"
        and world.history is before
    )
    assert world.http("PATCH", f"{PODS}/a", {"spec": {"schedulingGates": None}}, MERGE).code == 200
    assert world.http("POST", f"{PODS}/a/binding", binding).code == 201


MARKS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"]))


@given(MARKS, MARKS, MARKS, MARKS, st.sampled_from(["", "uid", "resourceVersion"]))
def test_api_17_a_binding_adds_its_labels_and_annotations_if_its_preconditions_hold(
    pod_labels, pod_annotations, labels, annotations, wrong
):
    # Shows API-17.a API-17.e API-17.f.
    world = World()
    world.http(
        "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
    )
    metadata = {"name": "a", "labels": pod_labels, "annotations": pod_annotations}
    spec = {"containers": [{"name": "c", "image": "i"}]}
    made = json.loads(world.http("POST", PODS, {"metadata": metadata, "spec": spec}).content)
    names = {"name": "a", "labels": labels, "annotations": annotations}
    for field in ("uid", "resourceVersion"):
        names[field] = "12345" if field == wrong else made["metadata"][field]
    binding = {"metadata": names, "target": {"kind": "Node", "name": "n"}}
    reply = world.http("POST", f"{PODS}/a/binding", binding)
    after = json.loads(world.http("GET", f"{PODS}/a").content)
    if wrong:
        assert reply.code == 409 and after == made
        return
    assert reply.code == 201 and after["spec"]["nodeName"] == "n"
    assert after["metadata"].get("labels", {}) == {**labels, **pod_labels}
    assert after["metadata"].get("annotations", {}) == {**pod_annotations, **annotations}


@pytest.mark.parametrize("resource", SCALED, ids=lambda one: one.kind)
def test_api_19_a_scale_shows_what_is_wanted_what_is_there_and_the_selector(resource):
    # Shows API-19.a.
    world = world_of(resource, "there")
    before = stored(world, resource)
    assert before is not None
    is_map = resource.kind == "ReplicationController"
    selector = before["spec"]["selector"] if is_map else before["spec"]["selector"]["matchLabels"]
    written = with_value(before, "status.replicas", 5)
    assert world.http("PUT", f"{path_of(resource)}/status", written).code == 200
    scale: Tree = json.loads(world.http("GET", f"{path_of(resource)}/scale").content)
    assert (
        scale["spec"]["replicas"] == before["spec"]["replicas"] and scale["status"]["replicas"] == 5
    )
    assert scale["status"]["selector"] == ",".join(
        f"{key}={value}" for key, value in sorted(selector.items())
    )
    shown = ("name", "namespace", "uid", "creationTimestamp")
    assert [scale["metadata"][key] for key in shown] == [before["metadata"][key] for key in shown]


ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/robot"


def test_api_20_a_token_request_is_answered_with_what_was_asked_or_the_usual():
    # Shows API-20.a API-20.b.
    world = World()
    account = json.loads(
        world.http("POST", ACCOUNT.removesuffix("/robot"), {"metadata": {"name": "robot"}}).content
    )
    for spec, audiences, seconds in (
        ({}, list(Config().audiences), 3600),
        ({"audiences": ["x", "y"], "expirationSeconds": 700}, ["x", "y"], 700),
    ):
        said = json.loads(world.http("POST", f"{ACCOUNT}/token", {"spec": spec}).content)
        assert (
            said["spec"]["audiences"] == audiences and said["spec"]["expirationSeconds"] == seconds
        )
        assert (
            said["status"]["expirationTimestamp"]
            and said["metadata"]["uid"] == account["metadata"]["uid"]
        )


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("Secret", "/api/v1/namespaces/default/secrets", {}),
        ("Node", "/api/v1/nodes", {}),
    ],
)
def test_api_20_a_token_may_be_bound_to_a_secret_or_a_node(kind, path, body):
    # Shows API-20.d.
    world = World()
    world.http("POST", ACCOUNT.removesuffix("/robot"), {"metadata": {"name": "robot"}})
    reference = {"kind": kind, "apiVersion": "v1", "name": "its"}
    assert (
        world.http("POST", f"{ACCOUNT}/token", {"spec": {"boundObjectRef": reference}}).code == 404
    )
    assert world.http("POST", path, {"metadata": {"name": "its"}, **body}).code == 201
    reply = world.http("POST", f"{ACCOUNT}/token", {"spec": {"boundObjectRef": reference}})
    assert reply.code == 201, reply.content
    header = f"Bearer {json.loads(reply.content)['status']['token']}"
    assert authenticate(header, Config(), world.now, world.history) is not None
    assert (
        world.http(
            "POST", f"{ACCOUNT}/token", {"spec": {"boundObjectRef": {**reference, "uid": "1-2-3"}}}
        ).code
        == 409
    )
    assert world.http("DELETE", f"{path}/its", {"gracePeriodSeconds": 0}).code == 200
    assert authenticate(header, Config(), world.now, world.history) is None, (
        "it goes with what it is bound to"
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", {}),
        ("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": "x"}}),
        (
            "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            {"spec": {"namespace": "default"}},
        ),
    ],
)
def test_api_27_a_review_has_a_status_and_is_nowhere_afterwards(path, body):
    # Shows API-27.a API-27.b.
    world = World()
    before = world.history
    reply = world.http("POST", path, body)
    assert reply.code == 201 and json.loads(reply.content)["status"] and world.history is before
    assert world.http("GET", path).code == 405


# --- collections


def test_del_9_a_deletion_that_conflicts_is_decided_again_and_the_list_is_the_first_one():
    # Shows DEL-9.d DEL-9.e.
    world = World()
    count = 5
    for number in range(count):
        world.do(
            Request(
                "create",
                CONFIG_MAPS,
                "default",
                body=an_object(CONFIG_MAPS, ObjectMeta(name=f"c{number}")),
                user=ADMIN,
            )
        )
    asked = Request("deletecollection", CONFIG_MAPS, "default", user=ADMIN)
    deleted = []
    for turn, conflict in enumerate((False, True, True, False)):
        outcome = handle(Exchange(asked, world.history, world.context()))
        assert isinstance(outcome, Commit)
        [write] = outcome.txn.writes
        if conflict:
            name = write.key.rpartition("/")[2]
            changed = replace(world.get(CONFIG_MAPS, name), data={"turn": str(turn)})
            world.do(Request("update", CONFIG_MAPS, "default", name, body=changed, user=ADMIN))
            assert isinstance(commit(world.history, outcome.txn, stamp)[1], Conflict)
            assert outcome.again is not None
            asked = outcome.again
            continue
        world.history, done = commit(world.history, outcome.txn, stamp)
        assert isinstance(done, Committed) and outcome.rest is not None
        deleted.append(write.key.rpartition("/")[2])
        asked = outcome.rest
    assert deleted == ["c0", "c1"]
    create = an_object(CONFIG_MAPS, ObjectMeta(name="later"))
    world.do(Request("create", CONFIG_MAPS, "default", body=create, user=ADMIN))
    assert len(world.do(asked).response.body.items) == count
    [kept] = world.history.list(CONFIG_MAPS.prefix).records
    assert kept.value.metadata.name == "later"
