"""What webhooks are asked, and what follows from their answers: HOOK-5 to HOOK-12, CALL-1 to CALL-3
(spec/webhooks.md). The servers are functions (hook_world.py)."""

from __future__ import annotations

import json

import pytest
from custom_world import a_definition, a_version
from hook_world import (
    MUTATING,
    VALIDATING,
    HookWorld,
    add,
    allow,
    answer_of,
    deny,
    patch,
    patched,
)
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_hook import ANY_RULE

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.calls import REQUEST_SECONDS_MAX, Answered, Ask, Unanswered, begun
from refk8s.core.apiserver.config import Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import again, handle, resume
from refk8s.core.apiserver.http import WireRequest, receive
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import Put, Txn, commit
from refk8s.core.value import evolve

POD = {"containers": [{"name": "c", "image": "i:1"}]}
LABEL = add("/metadata/labels", {"a": "b"})


def rules(*operations, resource="*/*", group="*"):
    return [{**ANY_RULE, "operations": list(operations) or ["*"], "resources": [resource], "apiGroups": [group]}]  # fmt: skip


@given(st.permutations(["a", "b", "c"]), st.permutations(["a", "b", "c"]))
def test_hook_5_webhooks_are_asked_in_the_order_of_their_configurations(names, order):
    world = HookWorld()
    for name, configuration in zip(names, order, strict=True):
        world.hook(MUTATING, name, allow, configuration)
    assert world.create()[0] == 201
    placed = dict(zip(names, order, strict=True))
    assert world.names() == sorted(names, key=placed.__getitem__)


def test_hook_5_a_changed_configuration_counts_at_once():
    world = HookWorld()
    world.hook(VALIDATING, "a", deny(), rules=rules("CREATE", resource="configmaps"))
    assert world.create("one")[0] == 403
    assert world.create("two", "services", spec={"ports": [{"port": 1}]})[0] == 201
    assert world.send("DELETE", f"{VALIDATING}/a")[0] == 200
    assert world.create("one")[0] == 201


@pytest.mark.parametrize("resource", ["configmaps", "secrets"])
def test_match_5_a_condition_asks_what_the_user_may_do(resource):
    """The API server of this test lets service accounts get ConfigMaps only."""
    world = HookWorld()

    def authorizer(attributes, store):
        return Decision(attributes.verb != "get" or attributes.resource == "configmaps")

    account = "authorizer.serviceAccount('default', 'a').group('')"
    expression = f"{account}.resource('{resource}').namespace('default').check('get').allowed()"
    conditions = [{"name": "may-get", "expression": expression}]
    world.hook(VALIDATING, "a", deny(), rules=rules("CREATE"), matchConditions=conditions)
    world.config = evolve(world.config, authorizer=authorizer)
    assert world.create()[0] == (403 if resource == "configmaps" else 201)


def test_hook_6_a_review_has_the_objects_of_its_operation():
    world = HookWorld()
    world.hook(MUTATING, "m", allow, rules=rules(resource="configmaps"))
    world.hook(VALIDATING, "v", allow, rules=rules(resource="configmaps"))
    path = "/api/v1/namespaces/default/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}
    _, made = world.send("POST", path, body)
    name = made["metadata"]["name"]
    world.send("PATCH", f"{path}/{name}", {"data": {"k": "v"}}, "application/merge-patch+json")
    world.send("DELETE", f"{path}/{name}?dryRun=All")
    mutating = [request for server, request in world.asked if server == "m"]
    validating = [request for server, request in world.asked if server == "v"]
    operations = [("CREATE", True, False), ("UPDATE", True, True), ("DELETE", False, True)]
    for requests in (mutating, validating):
        assert operations == [
            (one["operation"], one["object"] is not None, one["oldObject"] is not None)
            for one in requests
        ]
    first, last = mutating[0], validating[-1]
    assert not {"uid", "name", "creationTimestamp"} & set(first["object"]["metadata"])
    assert first["options"]["kind"] == "CreateOptions"
    assert validating[0]["object"]["metadata"]["uid"] == made["metadata"]["uid"]
    assert validating[0]["name"] == name
    assert last["dryRun"] is True
    assert last["userInfo"]["username"] == ADMIN.name
    assert last["kind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert last["resource"]["resource"] == "configmaps"
    assert len({one["uid"] for _, one in world.asked}) == len(world.asked)


def test_hook_6_a_review_has_the_version_that_matched():
    world = HookWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
    only_v2 = [{**rules(group="example.com", resource="gadgets")[0], "apiVersions": ["v2"]}]
    world.hook(MUTATING, "m", patch(add("/spec", {"x": 1})), rules=only_v2)
    code, made = world.put_gadget()
    assert code == 201, made
    assert (made["apiVersion"], made["spec"]) == ("example.com/v1", {"x": 1})
    request = world.asked[0][1]
    assert request["object"]["apiVersion"] == "example.com/v2"
    assert request["kind"]["version"] == request["resource"]["version"] == "v2"
    assert request["requestKind"]["version"] == "v1"
    events = [{**rules(resource="events")[0], "apiGroups": [""]}]
    world.hook(VALIDATING, "e", allow, rules=events)
    event = {
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "action": "a",
        "reason": "r", "type": "Normal", "note": "text", "eventTime": "2025-01-01T00:00:00.000000Z",
        "reportingController": "c.io/c", "reportingInstance": "c",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    }  # fmt: skip
    code, made = world.send("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert code == 201, made
    assert world.asked[-1][1]["object"]["message"] == "text"
    assert world.asked[-1][1]["requestResource"]["group"] == "events.k8s.io"


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (None, 400, "without explanation"),
        ({"message": "no"}, 400, ": no"),
        ({"code": 403, "reason": "Forbidden"}, 403, ": Forbidden"),
        ({"code": 200, "message": "no", "status": "Success"}, 400, ": no"),
        ({"code": 418, "message": "tea"}, 418, ": tea"),
    ],
)
@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_hook_7_a_denial_has_the_status_of_the_webhook(kind, status, code, message):
    world = HookWorld()
    world.hook(kind, "a", lambda request: {"allowed": False, "status": status, "warnings": ["w1"]})
    found, answer = world.create()
    assert (found, answer["status"]) == (code, "Failure")
    denied = 'admission webhook "a.example.com" denied the request'
    assert answer["message"] == f"{denied}{'' if message.startswith(':') else ' '}{message}"


def test_hook_7_warnings_reach_the_client_up_to_a_number():
    world = HookWorld()
    world.hook(VALIDATING, "a", lambda _: {"allowed": True, "warnings": ["w1", 7, "w2"]})
    world.hook(MUTATING, "b", lambda _: {"allowed": True, "warnings": ["m"] * 100_000})
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    reply = world.http("POST", "/api/v1/namespaces/default/configmaps", body, {"content-type": "application/json"})  # fmt: skip
    assert reply.code == 201
    assert 1 <= len(reply.warnings) <= 64
    assert "m" in reply.warnings


@pytest.mark.parametrize("is_allowed", [True, False])
def test_hook_7_annotations_reach_the_audit_log_by_the_name_of_the_webhook(is_allowed):
    world = HookWorld()
    notes = {"why": "text", "n": 7, "long": "x" * 20_000}
    world.hook(VALIDATING, "a", lambda _: {"allowed": is_allowed, "auditAnnotations": notes})
    many = {f"k{number}": "v" for number in range(1000)}
    world.hook(VALIDATING, "b", lambda _: {"allowed": True, "auditAnnotations": many})
    world.create()
    found = dict(world.taken[-1].response.annotations)
    assert found["a.example.com/why"] == "text"
    assert not {"a.example.com/n", "a.example.com/long"} & set(found)
    assert len(found) == 64


def bad_answers(review):
    """(an answer that is none, what is said of it)."""
    uid = review["uid"]
    good = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    return {
        "not reached": (Unanswered('Post "u": EOF'), 'failed to call webhook: Post "u": EOF'),
        "code 404": (Answered(404, b""), "could not find the requested resource"),
        "code 500": (Answered(500, b"oops"), 'an error on the server ("oops")'),
        "redirect": (Answered(302, b""), "status code 302"),
        "no json": (Answered(200, b"<html>"), "json parse error"),
        "list": (Answered(200, b"[]"), "json parse error"),
        "deep": (Answered(200, b"[" * 100_000), "json parse error"),
        "empty": (Answered(200, b"{}"), "webhook response was absent"),
        "uid": ({**good, "response": {"uid": "x", "allowed": True}}, f'expected response.uid="{uid}"'),
        "no uid": ({**good, "response": {"allowed": True}}, "expected response.uid"),
        "kind": ({**good, "kind": "X", "response": {"uid": uid}}, "expected webhook response of"),
        "version": ({**good, "apiVersion": "v1", "response": {"uid": uid}}, "expected webhook"),
        "patch without type": (
            {**good, "response": {"uid": uid, "allowed": True, "patch": "W10="}},
            "patch",
        ),
    }  # fmt: skip


FAULTS = sorted(bad_answers({"uid": "u"}))


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
def test_hook_8_the_failure_policy_decides_about_no_valid_answer(kind, fault, policy):
    world = HookWorld()
    words = []

    def server(request):
        found, said = bad_answers(request)[fault]
        words.append(said)
        return found if not isinstance(found, dict) else Answered(200, json.dumps(found).encode())

    world.hook(kind, "a", server, failurePolicy=policy)
    code, answer = world.create()
    if policy == "Ignore":
        assert code == 201
        return
    assert (code, answer["reason"]) == (500, "InternalError")
    start = 'Internal error occurred: failed calling webhook "a.example.com": '
    assert answer["message"].startswith(start)
    assert words[0] in answer["message"]


def test_hook_9_a_patch_is_followed_by_defaults_stages_and_validation():
    world = HookWorld()
    world.hook(MUTATING, "a", patch(add("/spec/containers/-", {"name": "d", "image": "j"})))
    code, made = world.create(plural="pods", spec=POD)
    assert code == 201, made
    added = made["spec"]["containers"][1]
    assert added["imagePullPolicy"] == "Always"
    assert added["terminationMessagePath"]
    world.servers["a"] = patch(add("/spec/containers/-", {"name": "Not Valid", "image": "j"}))
    code, answer = world.create("b", plural="pods", spec=POD)
    assert code == 422
    assert answer["details"]["causes"][0]["field"] == "spec.containers[1].name"


SERVER_FIELDS = [
    ("uid", "11111111-1111-4111-8111-111111111111"),
    ("creationTimestamp", "2001-01-01T00:00:00Z"),
    ("generation", 77),
    ("resourceVersion", "77"),
    ("deletionTimestamp", "2001-01-01T00:00:00Z"),
    ("managedFields", []),
    ("selfLink", "/x"),
]


@pytest.mark.parametrize(("field", "value"), SERVER_FIELDS)
def test_hook_9_a_patch_changes_no_metadata_of_the_server(field, value):
    world = HookWorld()
    world.hook(MUTATING, "a", patch(add(f"/metadata/{field}", value), add("/data", {"k": "v"})))
    code, made = world.create()
    assert code == 201, made
    assert made["data"] == {"k": "v"}
    assert made["metadata"].get(field) != value
    path = "/api/v1/namespaces/default/configmaps/a"
    before = world.get(resources.CONFIG_MAPS, "a")
    world.servers["a"] = patch(add(f"/metadata/{field}", value), add("/data", {"k": "w"}))
    code, _ = world.send("PATCH", path, {}, "application/merge-patch+json")
    after = world.get(resources.CONFIG_MAPS, "a")
    assert after.metadata.uid == before.metadata.uid
    assert after.metadata.creation_timestamp == before.metadata.creation_timestamp
    assert after.metadata.deletion_timestamp is None
    assert code in (200, 422)


def test_hook_9_a_write_of_a_part_changes_no_other_part():
    world = HookWorld()
    world.create(plural="pods", spec=POD)
    both = (add("/spec/activeDeadlineSeconds", 5), add("/status/message", "m"))
    world.hook(MUTATING, "a", patch(*both), rules=rules(resource="pods/status"))
    path = "/api/v1/namespaces/default/pods/a/status"
    code, made = world.send("PATCH", path, {"status": {"phase": "Running"}}, "application/merge-patch+json")  # fmt: skip
    assert code == 200, made
    assert made["status"]["message"] == "m"
    assert "activeDeadlineSeconds" not in made["spec"]


def test_hook_9_another_namespace_or_name_is_refused():
    world = HookWorld()
    world.hook(MUTATING, "a", patch(add("/metadata/namespace", "other")))
    assert world.create()[0] == 400
    world.servers["a"] = patch(add("/kind", "Secret"))
    assert world.create()[0] == 500
    world.servers["a"] = patch(add("/metadata/name", "b"))
    assert world.create()[1]["metadata"]["name"] == "b", "upstream creates it by its new name"


BOMB = [add("/data", {"x": "y" * 1000})] + [
    {"op": "copy", "from": "/data", "path": f"/data/c{n}"} for n in range(60)
]


@pytest.mark.parametrize(
    "operations",
    [
        [{"op": "remove", "path": "/nothing"}],
        [{"op": "sing", "path": "/data"}],
        [{"path": 7}],
        ["x"],
        [add("/data", "text")],
        [add("", [])],
        BOMB,
        [add("/data", {"k": "v" * (4 << 20)})],
        [add("/data", {})] * 10_001,
    ],
)
def test_hook_9_a_patch_that_does_not_apply_rejects_the_request(operations):
    world = HookWorld()
    world.hook(MUTATING, "a", patch(*operations), failurePolicy="Ignore")
    code, answer = world.create()
    assert (code, answer["reason"]) == (500, "InternalError")
    assert world.get(resources.CONFIG_MAPS, "a") is None


def labelling(key):
    """A server that adds a label if it is not there."""

    def server(request):
        labels = request["object"]["metadata"].get("labels") or {}
        return allow(request) if key in labels else patched(add("/metadata/labels", {**labels, key: "x"}))  # fmt: skip

    return server


def test_hook_10_a_webhook_is_asked_again_after_a_change_by_another():
    world = HookWorld()
    world.hook(MUTATING, "a", labelling("a"), reinvocationPolicy="IfNeeded")
    world.hook(MUTATING, "b", labelling("b"))
    world.hook(MUTATING, "c", labelling("c"), reinvocationPolicy="IfNeeded")
    code, made = world.create()
    assert (code, made["metadata"]["labels"]) == (201, {"a": "x", "b": "x", "c": "x"})
    assert world.names() == ["a", "b", "c", "a"]
    world.create("b", metadata={"name": "b", "labels": {"a": "x", "b": "x", "c": "x"}})
    assert world.names() == ["a", "b", "c"], "nothing has changed"


def test_hook_10_no_webhook_is_asked_more_than_twice():
    world = HookWorld()
    counter = iter(range(100))

    def server(request):
        return patched(add("/data", {"n": str(next(counter))}))

    for name in "ab":
        world.hook(MUTATING, name, server, reinvocationPolicy="IfNeeded")
    assert world.create()[0] == 201
    assert world.names() == ["a", "b", "a", "b"]


def test_hook_10_a_change_by_a_built_in_stage_counts_too():
    world = HookWorld()

    def without_tolerations(request):
        found = "tolerations" in request["object"]["spec"]
        return patched({"op": "remove", "path": "/spec/tolerations"}) if found else allow(request)

    world.hook(MUTATING, "a", without_tolerations, reinvocationPolicy="IfNeeded")
    world.hook(MUTATING, "b", allow)
    code, made = world.create(plural="pods", spec=POD)
    assert code == 201
    assert "tolerations" not in made["spec"], "the stage that adds them runs between both calls"
    assert world.names() == ["a", "b", "a"]


def test_hook_10_a_webhook_is_asked_again_also_about_the_same_object():
    world = HookWorld()
    world.hook(MUTATING, "a", allow, reinvocationPolicy="IfNeeded")
    world.hook(MUTATING, "b", patch(LABEL))
    world.hook(MUTATING, "c", patch({"op": "remove", "path": "/metadata/labels"}))
    assert world.create()[0] == 201
    asked = [request for name, request in world.asked if name == "a"]
    assert [one["object"] for one in asked] == [asked[0]["object"]] * 2


def test_hook_11_validating_webhooks_see_what_is_stored_and_the_first_denial_counts():
    world = HookWorld()
    world.hook(MUTATING, "m", patch(LABEL))
    world.hook(VALIDATING, "v", allow)
    _, made = world.create()
    shown = world.asked[-1][1]["object"]
    assert shown["metadata"]["labels"] == {"a": "b"}
    assert shown["metadata"]["uid"] == made["metadata"]["uid"]
    world.names()
    world.hook(VALIDATING, "w", deny(409, message="second"))
    world.servers["v"] = deny(403, message="first")
    code, answer = world.create("b")
    assert code == 403
    assert answer["message"].endswith("first")
    assert world.names() == ["m", "v", "w"], "all of them are asked"


PARTS = [
    ("PATCH", "/api/v1/namespaces/default/pods/a/status", {"status": {"phase": "Running"}}, "UPDATE", "status"),
    ("PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", {"spec": {"replicas": 3}}, "UPDATE", "scale"),
    ("POST", "/api/v1/namespaces/default/pods/a/binding", {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "a"}, "target": {"name": "n"}}, "CREATE", "binding"),
    ("POST", "/api/v1/namespaces/default/pods/a/eviction", {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "a"}}, "CREATE", "eviction"),
    ("POST", "/api/v1/namespaces/default/serviceaccounts/s/token", {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}, "CREATE", "token"),
    ("POST", "/api/v1/namespaces/default/pods/a/exec?command=x&stdout=1&container=c", b"", "CONNECT", "exec"),
    ("POST", "/api/v1/namespaces/default/pods/a/attach?stdin=true", b"", "CONNECT", "attach"),
    ("POST", "/api/v1/namespaces/default/pods/a/portforward?ports=80", b"", "CONNECT", "portforward"),
    ("GET", "/api/v1/namespaces/default/pods/a/proxy/x", b"", "CONNECT", "proxy"),
    ("DELETE", "/api/v1/namespaces/default/pods/a", b"", "DELETE", ""),
    ("DELETE", "/api/v1/namespaces/default/pods", b"", "DELETE", ""),
]  # fmt: skip


def a_crowd():
    world = HookWorld()
    world.create(plural="pods", spec=POD)
    world.send("POST", "/api/v1/namespaces/default/serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}})  # fmt: skip
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    assert world.send("POST", "/apis/apps/v1/namespaces/default/deployments", body)[0] == 201
    return world


def request_part(world, method, path, body):
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    return world.http(method, path, body, {"content-type": kind})


@pytest.mark.parametrize(("method", "path", "body", "operation", "part"), PARTS)
def test_hook_12_every_write_and_every_stream_is_asked_about(method, path, body, operation, part):
    world = a_crowd()
    world.hook(VALIDATING, "v", deny(message="no"))
    reply = request_part(world, method, path, body)
    assert reply.code == 403, reply
    assert b"denied the request: no" in reply.content
    request = world.asked[-1][1]
    assert (request["operation"], request.get("subResource", "")) == (operation, part)
    assert len(world.asked) == 1
    if operation == "CONNECT":
        assert request["object"]["kind"].endswith("Options")
        assert request["oldObject"] is request["options"] is None
    elif operation == "UPDATE":
        assert request["object"]["kind"] == request["oldObject"]["kind"] == request["kind"]["kind"]
    world.servers["v"] = allow
    world.asked.clear()
    code = getattr(request_part(world, method, path, body), "code", 101)
    assert code < 300, "allowed, it goes on"
    assert len(world.asked) == 1


def test_hook_12_a_collection_is_asked_about_one_by_one():
    world = HookWorld()
    for name in "abc":
        world.create(name)

    def server(request):
        is_b = request["oldObject"]["metadata"]["name"] == "b"
        return {"allowed": not is_b, "status": {"code": 403}}

    world.hook(VALIDATING, "v", server, rules=rules("DELETE"))
    code, _ = world.send("DELETE", "/api/v1/namespaces/default/configmaps")
    assert code == 403
    left = [name for name in "abc" if world.get(resources.CONFIG_MAPS, name) is not None]
    assert left == ["b", "c"]


def test_hook_12_reads_are_not_asked_about():
    world = a_crowd()
    world.hook(VALIDATING, "v", deny())
    for path in ("pods/a", "pods", "pods/a/status", "pods/a/log"):
        reply = world.http("GET", f"/api/v1/namespaces/default/{path}")
        assert getattr(reply, "code", 101) < 300
    assert world.asked == []


@pytest.mark.parametrize("effects", ["Some", "Unknown"])
def test_hook_12_a_dry_run_asks_no_webhook_with_side_effects(effects):
    world = HookWorld()
    world.hook(VALIDATING, "v", allow)
    key = resources.VALIDATING_WEBHOOK_CONFIGURATIONS.key("", "v")
    old = world.history.get(key).value  # from a version that allowed it
    changed = replace(old, webhooks=(replace(old.webhooks[0], side_effects=effects),))
    world.history, _ = commit(world.history, Txn((), (Put(key, changed),)), stamp)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    path = "/api/v1/namespaces/default/configmaps"
    code, answer = world.send("POST", f"{path}?dryRun=All", body)
    words = 'admission webhook "v.example.com" does not support dry run'
    assert (code, answer["message"], world.asked) == (400, words, [])
    assert world.send("POST", path, body)[0] == 201


def test_hook_12_configurations_are_never_asked_about():
    world = HookWorld()
    world.hook(MUTATING, "m", deny())
    world.hook(VALIDATING, "v", deny())
    merge = "application/merge-patch+json"
    assert (
        world.send("PATCH", f"{VALIDATING}/v", {"metadata": {"labels": {"a": "b"}}}, merge)[0]
        == 200
    )
    assert world.send("DELETE", f"{MUTATING}/m")[0] == 200
    assert world.send("DELETE", f"{VALIDATING}/v")[0] == 200
    assert world.asked == []


# --- calls


def asking(world, name="a"):
    """A create that waits for its webhook."""
    request = Request("create", resources.CONFIG_MAPS, "default", body=ConfigMap(metadata=ObjectMeta(name=name)), user=ADMIN)  # fmt: skip
    outcome = handle(Exchange(request, world.history, world.context(), world.config))
    assert isinstance(outcome, Ask)
    return outcome


def test_call_1_a_request_is_decided_on_the_state_after_its_calls():
    world = HookWorld()
    world.hook(VALIDATING, "v", allow)
    waiting = asking(world)
    results = [world.answer(call) for call in waiting.calls]
    made = resume(waiting, results, world.history, world.config, world.now)
    assert isinstance(made, Commit)
    world.names()
    assert world.create()[0] == 201
    taken = resume(waiting, results, world.history, world.config, world.now)
    assert taken.code == 409, "another request was faster"


def test_call_1_two_requests_of_one_moment_have_random_values_of_their_own():
    """In a simulation both draw the same: without this two pods would get one uid."""
    world = HookWorld()

    def uid(name: str, verb: str = "create") -> str:
        body = ConfigMap(metadata=ObjectMeta(name=name))
        request = Request(verb, resources.CONFIG_MAPS, "default", "" if verb == "create" else name, body=body)  # fmt: skip
        context = Context(world.now, SeededChance(b"one"))
        return begun(Exchange(request, world.history, context)).context.uid()

    assert uid("a") == uid("a")
    assert len({uid("a"), uid("b"), uid("a", "update")}) == 3


def test_call_1_the_time_and_uid_are_those_of_the_first_decision():
    world = HookWorld()
    world.hook(VALIDATING, "v", allow)
    waiting = asking(world)
    results = [world.answer(call) for call in waiting.calls]
    shown = json.loads(waiting.calls[0].body)["request"]["object"]["metadata"]
    world.wait(20)
    made = resume(waiting, results, world.history, world.config, world.now)
    stored = made.txn.writes[0].value.metadata
    assert (stored.uid, stored.creation_timestamp) == (shown["uid"], shown["creationTimestamp"])


def test_call_2_the_same_question_is_asked_once_and_another_one_again():
    world = HookWorld()
    world.create(data={"n": "0"})
    world.hook(VALIDATING, "v", allow, rules=rules("UPDATE", resource="configmaps"))
    old = world.get(resources.CONFIG_MAPS, "a")
    request = Request("update", resources.CONFIG_MAPS, "default", "a", body=ConfigMap(metadata=ObjectMeta(name="a"), data={"n": "1"}), user=ADMIN)  # fmt: skip
    waiting = handle(Exchange(request, world.history, world.context(), world.config))
    results = [world.answer(call) for call in waiting.calls]
    made = resume(waiting, results, world.history, world.config, world.now)
    assert isinstance(made, Commit)
    assert isinstance(
        resume(again(request, made.calls), [], world.history, world.config, world.now), Commit
    )
    world.servers["v"] = allow
    merge = "application/merge-patch+json"
    world.send("PATCH", "/api/v1/namespaces/default/configmaps/a", {"data": {"n": "2"}}, merge)
    once_more = resume(again(request, made.calls), [], world.history, world.config, world.now)
    assert isinstance(once_more, Ask), "the old object is another one"
    shown = json.loads(once_more.calls[0].body)["request"]["oldObject"]
    assert shown["data"] == {"n": "2"} != old.data


@pytest.mark.parametrize(("policy", "late", "code"), [("Ignore", False, 201), ("Ignore", True, 504), ("Fail", True, 500)])  # fmt: skip
def test_call_3_the_calls_of_a_request_end(policy, late, code):
    world = HookWorld()
    world.hook(VALIDATING, "v", allow, failurePolicy=policy)
    waiting = asking(world)
    assert waiting.known.until - waiting.known.now == REQUEST_SECONDS_MAX * 1_000_000
    world.wait(REQUEST_SECONDS_MAX + 1 if late else 1)
    results = [Unanswered("context deadline exceeded")]
    found = resume(waiting, results, world.history, world.config, world.now)
    assert (201 if isinstance(found, Commit) else found.code) == code


def test_hook_8_a_webhook_may_speak_the_older_version():
    world = HookWorld()
    world.hook(MUTATING, "a", patch(LABEL), admissionReviewVersions=["v0", "v1beta1", "v1"])
    code, made = world.create()
    assert (code, made["metadata"]["labels"]) == (201, {"a": "b"})
    assert json.loads(world.calls[0].body)["apiVersion"] == "admission.k8s.io/v1beta1"
    assert answer_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 34), ("5s", 5), ("1m", 34), ("1500ms", 2), ("0", 34), ("1m1s", 34), ("0.5s", 1)],
)
def test_call_3_the_client_may_wait_for_a_shorter_time(text, seconds):
    world = HookWorld()
    found = []
    world.hook(VALIDATING, "v", allow)
    world.answer = lambda call: found.append(call) or Unanswered("x")
    wire = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    path = f"/api/v1/namespaces/default/configmaps?timeout={text}"
    received = receive(WireRequest("POST", path.partition("?")[0], path.partition("?")[2], {"content-type": "application/json"}, json.dumps(wire).encode()), ADMIN, config=world.config, store=world.history)  # fmt: skip
    waiting = handle(Exchange(received.request, world.history, world.context(), world.config))
    assert waiting.known.until - waiting.known.now == seconds * 1_000_000


def test_call_3_a_timeout_that_is_no_duration_is_refused():
    for text in ("x", "5", "-5s", "5s5", "1e9s", "9999999999h"):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
        path = f"/api/v1/namespaces/default/configmaps?timeout={text}"
        assert HookWorld().send("POST", path, body)[0] == 400
