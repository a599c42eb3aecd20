"""What follows from the answers of webhooks: the stages of admission that ask them, with answers as
plain values (HOOK-5 to HOOK-12, spec/webhooks.md)."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from custom_world import CustomWorld, a_definition, a_version
from hook_world import add, allow, answer_of, deny, patched
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT
from test_hook import ANY_RULE, MUTATING, VALIDATING, a_webhook
from test_hook_requests import configuration
from test_match import USER

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ConfigMap, Namespace, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.versioned import admission_request
from refk8s.core.apiserver.admission.webhooks import mutate, same, validate
from refk8s.core.apiserver.calls import Answered, Calls, Needed, Unanswered
from refk8s.core.apiserver.config import Config, Decision
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.properties.laws.webhooks import OF_CHANGES
from refk8s.core.store import EMPTY, Change, Put, Record, Txn, commit

CONFIG_MAPS = resources.CONFIG_MAPS
NEW = ConfigMap(metadata=ObjectMeta(name="a", namespace="n"), data={"k": "v"})
MINE = [{**ANY_RULE, "resources": ["configmaps"]}]


class Asked:
    """A store with webhooks, whose answers are functions of the review by name; `turns` has the
    name of each webhook that is called, and `warnings` and `annotations` what is kept."""

    def __init__(self, *hooks: tuple[str, str, Any, dict[str, Any]], now: int = 0, until: int = 9) -> None:  # fmt: skip
        self.store: Any = EMPTY
        self.servers, self.turns, self.reviews = {}, [], []
        self.now, self.until = now, until
        self.options: dict[str, Any] = {}
        self.config = Config()
        self.put(resources.NAMESPACES.key("", "n"), Namespace(metadata=ObjectMeta(name="n")))
        for place, (kind, name, server, fields) in enumerate(hooks):
            self.servers[name] = server
            given = {"name": f"{name}.b.c", "clientConfig": {"url": f"https://{name}/"}, "rules": MINE, **fields}  # fmt: skip
            found = configuration(kind, a_webhook(**given), name=f"c{place}")
            resource = resources.by_kind(found.api_version, found.kind)
            self.put(resource.key("", f"c{place}"), found)

    def put(self, key: str, obj: Any) -> None:
        self.store, _ = commit(self.store, Txn((), (Put(key, obj),)))

    def run(self, act: Any) -> Any:
        """What `act` makes of an exchange whose calls are answered."""
        results: dict[str, Any] = {}
        fields = {
            "verb": "create",
            "resource": CONFIG_MAPS,
            "namespace": "n",
            "user": USER,
            **self.options,
        }
        request = Request(**fields)
        while True:
            calls = Calls(b"s" * 16, 0, self.until, results, self.now >= self.until)
            self.calls = calls
            exchange = Exchange(request, self.store, CONTEXT, self.config, calls)
            try:
                return act(exchange)
            except Needed as needed:
                for call in needed.calls:
                    name = call.url.removeprefix("https://").partition("/")[0]
                    review = json.loads(call.body)
                    self.turns.append(name)
                    self.reviews.append(review["request"])
                    found = self.servers[name](review["request"])
                    results[call.id] = (
                        answer_of(review, found) if isinstance(found, dict) else found
                    )

    def mutate(self, new: Any = NEW, old: Any = None, remake: Any = same, rerun: Any = None) -> Any:
        operation = "CREATE" if old is None else "UPDATE"
        return self.run(lambda exchange: mutate(
            exchange, new, lambda obj: admission_request(exchange, operation, obj, old), remake,
            rerun or (lambda obj: obj),
        ))  # fmt: skip

    def validate(self, new: Any = NEW, old: Any = None, operation: str = "CREATE") -> None:
        self.run(lambda exchange: validate(
            exchange, lambda: admission_request(exchange, operation, new, old)
        ))  # fmt: skip

    def refused(self, act: Any) -> tuple[int, str, str]:
        with pytest.raises(ApiError) as error:
            act()
        status = error.value.status
        return status.code, status.reason, status.message


def setting(**data: str) -> Any:
    """A server that sets the data of a ConfigMap, where it differs."""

    def server(request: dict[str, Any]) -> Any:
        before = request["object"].get("data") or {}
        if all(before.get(key) == value for key, value in data.items()):
            return allow(request)
        return patched(add("/data", {**before, **data}))

    return server


# --- mutating webhooks


def test_hook_9_a_patch_makes_the_object_and_remake_completes_it():
    asked = Asked((MUTATING, "a", setting(x="1"), {}))
    seen = []

    def remake(changed: Any, before: Any) -> Any:
        seen.append((changed, before))
        return replace(changed, data={**changed.data, "made": "yes"})

    changed = replace(NEW, data={"k": "v", "x": "1"})
    made = replace(NEW, data={"k": "v", "x": "1", "made": "yes"})
    rerun = []
    assert asked.mutate(remake=remake, rerun=lambda obj: rerun.append(obj) or obj) == made
    assert (seen, rerun) == ([(changed, NEW)], [made])


@pytest.mark.parametrize("server", [allow, lambda _: patched(), lambda _: patched(add("/data", {"k": "v"}))])  # fmt: skip
def test_hook_9_a_patch_that_changes_nothing_leaves_the_object(server):
    asked = Asked((MUTATING, "a", server, {}))
    assert asked.mutate(rerun=lambda _: pytest.fail("nothing has changed")) is NEW
    assert Asked().mutate() is NEW
    none = Asked((MUTATING, "a", server, {"rules": [{**ANY_RULE, "resources": ["pods"]}]}))
    assert none.mutate() is NEW and none.turns == []
    deletions = [{**ANY_RULE, "operations": ["DELETE"]}]
    asked = Asked(
        (MUTATING, "a", server, {"rules": deletions}), (MUTATING, "b", setting(x="1"), {})
    )
    assert asked.mutate().data["x"] == "1" and asked.turns == ["b"]


def test_hook_9_a_change_of_the_order_of_keys_is_a_change():
    both = replace(NEW, data={"a": "1", "b": "2"})
    asked = Asked((MUTATING, "a", lambda _: patched(add("/data", {"b": "2", "a": "1"})), {}))
    assert list(asked.mutate(both).data) == ["b", "a"]


def test_hook_9_what_a_patch_may_not_do():
    words = 'admission webhook "a.b.c" attempted to modify the object, which is not supported for this operation'  # fmt: skip
    asked = Asked((MUTATING, "a", lambda _: patched(add("/data", {})), {}))
    found = asked.refused(lambda: asked.mutate(None, NEW))
    assert found == (500, "InternalError", f"Internal error occurred: {words}")
    odd = Asked((MUTATING, "a", lambda _: patched(add("/data", 7)), {}))
    code, _, told = odd.refused(odd.mutate)
    assert code == 500 and told.startswith("Internal error occurred: ") and "data" in told
    asked = Asked((MUTATING, "a", allow, {}))
    assert asked.mutate(None, NEW) is None


def test_hook_5_every_webhook_sees_the_object_of_the_one_before():
    asked = Asked(
        (MUTATING, "b", setting(b="1"), {}), (MUTATING, "a", setting(a="1"), {}),
        (VALIDATING, "v", deny(), {}),
    )  # fmt: skip
    assert asked.mutate().data == {"k": "v", "b": "1", "a": "1"}
    assert asked.turns == ["b", "a"]
    assert asked.reviews[1]["object"]["data"] == {"k": "v", "b": "1"}


AGAIN = {"reinvocationPolicy": "IfNeeded"}


@pytest.mark.parametrize("changes", [*product((False, True), repeat=3)])
@pytest.mark.parametrize("policies", [*product((False, True), repeat=3)])
def test_hook_10_who_is_asked_again(changes, policies):
    """A webhook is asked again if the object has changed after it, by a webhook or by a stage."""
    names = "abc"
    servers = [setting(**{name: "1"}) if is_change else allow for name, is_change in zip(names, changes, strict=True)]  # fmt: skip
    for of_stage in (False, True):
        asked = Asked(*[
            (MUTATING, name, server, AGAIN if policy else {})
            for name, server, policy in zip(names, servers, policies, strict=True)
        ])  # fmt: skip
        stage = (lambda obj: replace(obj, data={**obj.data, "stage": "1"})) if of_stage else None
        asked.mutate(rerun=stage)
        due = [
            name for place, name in enumerate(names)
            if policies[place] and any(changes) and (of_stage or any(changes[place + 1 :]))
        ]  # fmt: skip
        assert "".join(asked.turns) == names + "".join(due)


def test_hook_10_a_change_in_the_second_turn_makes_no_third_one():
    turn = iter(range(9))

    def counting(request: Any) -> Any:
        return patched(add("/data", {"n": str(next(turn))}))

    asked = Asked((MUTATING, "a", counting, AGAIN), (MUTATING, "b", counting, AGAIN), (MUTATING, "c", allow, AGAIN))  # fmt: skip
    runs = []
    assert asked.mutate(rerun=lambda obj: runs.append(obj) or obj).data == {"n": "3"}
    assert asked.turns == ["a", "b", "c"] * 2
    assert {one.data["n"] for one in runs} == {"1"}, "the stages run before the second turn"


def test_hook_10_the_second_question_about_the_same_object_is_another_one():
    def server(request: Any) -> Any:
        return patched({"op": "remove", "path": "/data/x"} if "x" in request["object"]["data"] else add("/data/x", "1"))  # fmt: skip

    asked = Asked(
        (MUTATING, "a", allow, AGAIN), (MUTATING, "b", server, {}), (MUTATING, "c", server, {})
    )
    assert asked.mutate().data == {"k": "v"}
    assert asked.turns == ["a", "b", "c", "a"]
    assert asked.reviews[0]["uid"] != asked.reviews[3]["uid"]


# --- validating webhooks


def test_hook_11_the_first_denial_in_order_counts():
    asked = Asked(
        (VALIDATING, "a", allow, {}), (VALIDATING, "b", deny(409, message="second"), {}),
        (VALIDATING, "c", deny(403, message="third"), {}), (MUTATING, "m", deny(), {}),
        (VALIDATING, "d", deny(401), {"rules": [{**ANY_RULE, "resources": ["pods"]}]}),
    )  # fmt: skip
    code, _, words = asked.refused(asked.validate)
    assert (code, words) == (409, 'admission webhook "b.b.c" denied the request: second')
    assert asked.turns == ["a", "b", "c"]
    fine = Asked((VALIDATING, "a", allow, {}))
    assert fine.validate() is None and fine.turns == ["a"]
    none = Asked((VALIDATING, "a", deny(), {"rules": [{**ANY_RULE, "resources": ["pods"]}]}))
    assert none.validate() is None and none.turns == []
    Asked().run(lambda exchange: validate(exchange, lambda: pytest.fail("nothing is asked")))


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize("is_late", [False, True])
def test_hook_8_a_webhook_that_does_not_answer(kind, policy, is_late):
    asked = Asked((kind, "a", lambda _: Unanswered("EOF"), {"failurePolicy": policy}), now=9 if is_late else 8)  # fmt: skip
    act = asked.mutate if kind == MUTATING else asked.validate
    if policy == "Fail":
        words = 'failed calling webhook "a.b.c": failed to call webhook: EOF'
        assert asked.refused(act) == (500, "InternalError", f"Internal error occurred: {words}")
    elif is_late:
        words = "Timeout: request did not complete within requested timeout"
        assert asked.refused(act) == (504, "Timeout", words)
    else:
        assert act() in (NEW, None)


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("code", [200, 500])
def test_hook_7_warnings_and_annotations_are_kept(kind, code):
    def server(request: Any) -> Any:
        response = {"uid": request["uid"], "allowed": True, "warnings": ["w"], "auditAnnotations": {"k": "v"}}  # fmt: skip
        tree = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }
        return Answered(code, json.dumps(tree).encode())

    asked = Asked((kind, "a", server, {"failurePolicy": "Ignore"}))
    (asked.mutate if kind == MUTATING else asked.validate)()
    assert (asked.calls.warnings, asked.calls.annotations) == (["w"], {"a.b.c/k": "v"})


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_hook_12_a_dry_run_and_webhooks_with_side_effects(kind):
    for effects, is_dry in product(("None", "NoneOnDryRun", "Some", "Unknown"), (False, True)):
        asked = Asked((kind, "a", allow, {"sideEffects": effects}))
        asked.options = {"options": Options(dry_run=is_dry)}
        act = asked.mutate if kind == MUTATING else asked.validate
        if is_dry and effects in ("Some", "Unknown"):
            words = 'admission webhook "a.b.c" does not support dry run'
            assert asked.refused(act) == (400, "BadRequest", words) and asked.turns == []
        else:
            act()
            assert asked.turns == ["a"]


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("policy", ["Fail", "Ignore"])
@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("object.metadata.name == 'a'", True),
        ("object.metadata.name == 'b'", False),
        ("object.none == 1", None),
        ("authorizer.group('').resource('pods').namespace('n').check('get').allowed()", True),
        ("authorizer.group('').resource('nodes').check('get').allowed()", False),
    ],
)
def test_match_5_the_conditions_of_a_webhook(kind, policy, text, holds):
    conditions = [{"name": "c", "expression": text}]
    asked = Asked((kind, "a", allow, {"matchConditions": conditions, "failurePolicy": policy}))
    asked.config = Config(
        authorizer=lambda about, store: Decision(store is asked.store and about.resource == "pods")
    )
    act = asked.mutate if kind == MUTATING else asked.validate
    if holds is None and policy == "Fail":
        words = f"expression '{text}' resulted in error: no such key: none"
        assert asked.refused(act) == (403, "Forbidden", f'configmaps "a" is forbidden: {words}')
    else:
        act()
    assert asked.turns == (["a"] if holds else [])


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_match_4_nothing_is_asked_about_configurations(kind):
    resource = resources.VALIDATING_WEBHOOK_CONFIGURATIONS
    every = [{**ANY_RULE, "resources": ["*"]}]
    for of, is_asked in ((resource, False), (resources.NODES, True)):
        asked = Asked((kind, "a", allow, {"rules": every}))
        asked.options = {"resource": of, "namespace": ""}
        new = of.type(metadata=ObjectMeta(name="x"))
        (asked.mutate if kind == MUTATING else asked.validate)(new)
        assert bool(asked.turns) is is_asked


def test_match_2_the_review_is_in_the_version_of_the_rule():
    only = [{**ANY_RULE, "apiGroups": ["events.k8s.io"], "resources": ["events"]}]
    asked = Asked((VALIDATING, "a", allow, {"rules": only}))
    asked.options = {"resource": resources.EVENTS}
    event = resources.EVENTS.type(metadata=ObjectMeta(name="e", namespace="n"), message="m")
    asked.validate(event)
    [review] = asked.reviews
    assert review["object"]["note"] == "m" and review["kind"]["group"] == "events.k8s.io"
    noting = [{"op": "replace", "path": "/note", "value": "other"}]
    asked = Asked((MUTATING, "a", lambda _: patched(*noting), {"rules": only}))
    asked.options = {"resource": resources.EVENTS}
    assert asked.mutate(event).message == "other"


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_hook_8_only_the_older_version_may_leave_the_uid_out(kind, version):
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"allowed": True}})  # fmt: skip
    server = lambda _: Answered(200, body.encode())  # noqa: E731
    asked = Asked((kind, "a", server, {"admissionReviewVersions": [version]}))
    act = asked.mutate if kind == MUTATING else asked.validate
    if version == "v1":
        code, _, words = asked.refused(act)
        assert code == 500 and "expected response.uid" in words
    else:
        assert act() in (NEW, None)


@pytest.mark.parametrize("kind", [MUTATING, VALIDATING])
def test_match_3_the_namespace_of_the_object_is_selected(kind):
    for label, is_asked in (("b", True), ("c", False)):
        selector = {"matchLabels": {"a": label}}
        asked = Asked((kind, "a", allow, {"namespaceSelector": selector}))
        labelled = Namespace(metadata=ObjectMeta(name="n", labels={"a": "b"}))
        asked.put(resources.NAMESPACES.key("", "n"), labelled)
        (asked.mutate if kind == MUTATING else asked.validate)()
        assert bool(asked.turns) is is_asked


def test_match_2_a_custom_object_is_converted_for_the_review():
    world = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
    assert world.put_gadget()[0] == 201
    only = [{**ANY_RULE, "apiVersions": ["v2"], "resources": ["gadgets"]}]
    asked = Asked()
    asked.store = world.history
    kind = find_custom("example.com", "v1", "gadgets", world.history)
    gadget = world.history.get(kind.key("default", "a")).value
    found = configuration(VALIDATING, a_webhook(name="a.b.c", clientConfig={"url": "https://a/"}, rules=only))  # fmt: skip
    asked.put(resources.VALIDATING_WEBHOOK_CONFIGURATIONS.key("", "c"), found)
    asked.servers["a"] = allow
    asked.options = {"resource": kind, "namespace": "default"}
    asked.validate(gadget)
    assert asked.reviews[0]["object"]["apiVersion"] == "example.com/v2"


# --- the law


class Guard:
    """A webhook of the simulator, as the law sees it."""

    def complaints(self, obj: Any) -> list[str]:
        return [] if obj.metadata.name == "good" else [f"{obj.metadata.name} is not allowed"]


def a_state(policy: Any) -> Any:
    asked = Asked(
        *([] if policy is None else [(VALIDATING, "a", allow, {"failurePolicy": policy})])
    )
    return asked.store


@pytest.mark.parametrize("policies", [*product((None, "Fail", "Ignore"), repeat=2)])
@pytest.mark.parametrize("has_guard", [True, False])
def test_hook_11_the_law_is_about_new_pods_that_every_api_server_asks_about(policies, has_guard):
    from types import SimpleNamespace

    [law] = OF_CHANGES
    first, second = [a_state(policy) for policy in policies]
    before = SimpleNamespace(
        webhooks=Guard() if has_guard else None, history=first,
        caches={"x": SimpleNamespace(history=second)},
    )  # fmt: skip

    def verdict(name: str, *, is_new: bool = True, is_gone: bool = False) -> Any:
        record = Record("k", Pod(metadata=ObjectMeta(name=name)), 1, 1, 1)
        change = Change(1, "k", None if is_gone else record, None if is_new else record)
        return law.check(change, before, before)

    applies = has_guard and policies == ("Fail", "Fail")
    assert verdict("good") == (() if applies else None)
    assert verdict("bad") == (("bad is not allowed",) if applies else None)
    assert (
        verdict("bad", is_new=False) is None and verdict("bad", is_new=False, is_gone=True) is None
    )
