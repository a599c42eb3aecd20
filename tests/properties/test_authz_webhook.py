"""Authorizers that are webhooks: AUTHZ-10 to AUTHZ-12 (spec/authorization.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_http import TOKEN, a_server, asked
from test_webhook_credentials import Server

from refk8s.components import review_webhook
from refk8s.components.apiserver import ApiServer
from refk8s.components.auditing import Auditor
from refk8s.components.authorization import AuthorizationWebhook, read_authorizers
from refk8s.components.files import CannotRun
from refk8s.components.http import Front
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, PODS
from refk8s.core.api.user import AUTHENTICATED, User
from refk8s.core.apiserver.audit.policy import read_policy
from refk8s.core.apiserver.authorize.configuration import WebhookEntry, read_authorization
from refk8s.core.apiserver.authorize.modes import InOrder, aggregated, authorizers
from refk8s.core.apiserver.authorize.webhook import (
    BOTH,
    WebhookAuthorizer,
    read_review,
    spec_of,
    write_review,
)
from refk8s.core.apiserver.calls import Needed
from refk8s.core.apiserver.config import NO_OPINION, Attributes, Config, Decision
from refk8s.core.apiserver.configuration_part import BadConfiguration
from refk8s.core.apiserver.review_answer import BadReview

V1 = "authorization.k8s.io/v1"
JANE = User("jane", "7", ("devs", AUTHENTICATED), (("a", ("b",)),))
LIST = Attributes(JANE, "list", "", "pods", "", "default", version="v1")
MAPS = "/api/v1/namespaces/default/configmaps"


def review(status: Any, version: str = V1, kind: str = "SubjectAccessReview") -> bytes:
    return json.dumps({"kind": kind, "apiVersion": version, "status": status}).encode()


class Webhook:
    """A webhook that answers with what `answers` returns for the spec of a review."""

    def __init__(
        self, answers: Callable[[Any], Any], fails_closed: bool = False, conditions: Any = ()
    ) -> None:
        self.asked: list[Any] = []
        self.time = 0.0
        self._answers = answers
        entry = WebhookEntry("w", "", "v1", 300.0, 30.0, 5.0, fails_closed, tuple(conditions))
        self.kept = AuthorizationWebhook(entry, self.post, "https://w", lambda: self.time)

    async def post(self, question: bytes) -> tuple[int, bytes]:
        spec = json.loads(question)["spec"]
        self.asked.append(spec)
        answer = self._answers(spec)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, tuple) else (200, review(answer))

    def config(self, *modes: str) -> Config:
        authorizer, roles = authorizers(modes or ("Webhook",), [self.kept.authorizer])
        return Config(
            users={TOKEN: JANE}, authorizer=authorizer, roles=roles, modes=modes or ("Webhook",)
        )

    async def server(self, *modes: str) -> ApiServer:
        api = await a_server(config=self.config(*modes))
        api.webhooks = {"w": self.kept}
        return api


def allow(*verbs: str) -> Callable[[Any], Any]:
    """Allows these verbs."""

    def answer(spec: Any) -> Any:
        asked = spec.get("resourceAttributes") or spec["nonResourceAttributes"]
        return {"allowed": asked["verb"] in verbs, "reason": "as told"}

    return answer


def run(test: Callable[[], Any]) -> Any:
    return asyncio.run(test())


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_webhook, "DELAY_SECONDS", 0.001)


# --- the order

DECISIONS = st.builds(
    Decision,
    st.booleans(),
    st.sampled_from(["", "r1", "r2"]),
    st.booleans(),
    st.sampled_from(["", "p1", "p2"]),
)


@given(st.lists(DECISIONS, max_size=5))
def test_authz_10_the_first_that_allows_or_denies_decides(decisions: list[Decision]) -> None:
    order = InOrder(tuple([lambda a, s, one=one: one for one in decisions]))
    found = order(LIST, None)  # type: ignore[arg-type]
    deciding = [one for one in decisions if one.allowed or one.is_denied]
    if deciding:
        assert found is deciding[0]
        return
    assert not found.allowed and not found.is_denied
    assert found.reason == "\n".join(one.reason for one in decisions if one.reason)
    assert found.problem == aggregated([one.problem for one in decisions if one.problem])


def test_authz_10_several_problems_are_in_brackets() -> None:
    assert [aggregated(texts) for texts in ([], ["a"], ["a", "a"], ["a", "b"])] == [
        "", "a", "a", "[a, b]",
    ]  # fmt: skip


# --- questions and answers


def test_authz_10_the_question_has_the_attributes_of_the_request() -> None:
    selectors = Attributes(
        JANE, "list", "", "pods", namespace="n", version="v1",
        fields="spec.nodeName=a,status.phase!=Failed", labels="a=b,c notin (d,e),f,!g,h>1",
    )  # fmt: skip
    asked = json.loads(write_review("v1", selectors))
    assert (asked["kind"], asked["apiVersion"]) == ("SubjectAccessReview", V1)
    assert asked["spec"] == {
        "user": "jane", "uid": "7", "groups": ["devs", AUTHENTICATED], "extra": {"a": ["b"]},
        "resourceAttributes": {
            "verb": "list", "version": "v1", "resource": "pods", "namespace": "n",
            "fieldSelector": {"requirements": [
                {"key": "spec.nodeName", "operator": "In", "values": ["a"]},
                {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
            ]},
            "labelSelector": {"requirements": [
                {"key": "a", "operator": "In", "values": ["b"]},
                {"key": "c", "operator": "NotIn", "values": ["d", "e"]},
                {"key": "f", "operator": "Exists"}, {"key": "g", "operator": "DoesNotExist"},
            ]},
        },
    }  # fmt: skip
    older = json.loads(write_review("v1beta1", LIST))
    assert older["apiVersion"] == "authorization.k8s.io/v1beta1"
    assert older["spec"]["group"] == ["devs", AUTHENTICATED] and "groups" not in older["spec"]
    path = json.loads(write_review("v1", Attributes(User("j"), "get", path="/metrics")))["spec"]
    assert path == {"user": "j", "nonResourceAttributes": {"path": "/metrics", "verb": "get"}}
    odd = Attributes(JANE, "list", "", "pods", fields="nothing", labels="((")
    assert "Selector" not in str(spec_of(odd))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["allowed", "denied", "reason", "status", "x"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_authz_10_any_answer_is_a_decision_or_refused(status: Any) -> None:
    try:
        found = read_review(review(status), "v1")
    except BadReview:
        return
    said = status or {}
    denied = said.get("denied") is True
    assert found.is_denied == denied
    assert found.allowed == (said.get("allowed") is True and not denied)
    assert bool(found.problem) == (denied and said.get("allowed") is True)


@given(st.binary(max_size=40))
def test_authz_10_bytes_that_are_no_review_are_refused(text: bytes) -> None:
    with pytest.raises(BadReview):
        read_review(text, "v1")


def test_authz_10_allowed_and_denied_is_denied() -> None:
    assert read_review(review({"allowed": True, "denied": True}), "v1") == Decision(
        False, "", True, BOTH
    )
    assert read_review(review({"allowed": True, "reason": "a\nb"}), "v1").reason == "a\nb"
    for answer in (review({}, "authorization.k8s.io/v1beta1"), review({}, kind="Pod")):
        with pytest.raises(BadReview):
            read_review(answer, "v1")


# --- conditions


class Known:
    """Reviews that say yes to every question, and count them."""

    def __init__(self) -> None:
        self.count = 0

    def find(self, question: bytes) -> Decision:
        self.count += 1
        return Decision(True)


@pytest.mark.parametrize("fails_closed", [False, True])
@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ((), "asked"),
        (("has(request.resourceAttributes)",), "asked"),
        (("request.resourceAttributes.namespace == 'other'",), "skipped"),
        (("request.nonResourceAttributes.path == '/'", "false"), "skipped"),
        (("request.nonResourceAttributes.path == '/'", "true"), "failed"),
        (("'devs' in request.groups", "request.user == 'jane'", "request.extra['a'] == ['b']"), "asked"),
        (("request.resourceAttributes.subresource == ''",), "asked"),
        (("!has(request.resourceAttributes.labelSelector)",), "asked"),
        (("[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c, "
          "[1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, a + b + c + d + e > 0)))))",), "failed"),
    ],
)  # fmt: skip
def test_authz_10_conditions_say_whether_it_is_asked(
    conditions: tuple[str, ...], outcome: str, fails_closed: bool
) -> None:
    reviews = Known()
    webhook = WebhookAuthorizer("w", "v1", reviews, conditions, fails_closed)
    found = webhook(LIST, None)  # type: ignore[arg-type]
    assert reviews.count == (outcome == "asked")
    if outcome == "asked":
        assert found == Decision(True)
    elif outcome == "skipped":
        assert found == NO_OPINION
    else:
        assert found.is_denied == fails_closed and not found.allowed
        assert found.problem.startswith("cel evaluation error: expression '")


# --- requests


@pytest.mark.parametrize("modes", [("Webhook",), ("Webhook", "Node", "RBAC"), ("RBAC", "Webhook")])
def test_authz_10_the_webhook_decides_requests_over_http(modes: tuple[str, ...]) -> None:
    async def test() -> None:
        webhook = Webhook(allow("list"))
        front = Front(await webhook.server(*modes))
        for _ in range(3):
            assert (await asked(front, "GET", MAPS))[0] == 200
        assert len(webhook.asked) == 1
        code, _, body = await asked(front, "GET", f"{MAPS}/a")
        said = json.loads(body)["message"]
        assert code == 403 and said.endswith('in the namespace "default": as told'), said
        code, _, body = await asked(front, "GET", "/metrics")
        assert (code, json.loads(body)["message"]) == (
            403,
            'forbidden: User "jane" cannot get path "/metrics": as told',
        )
        code, _, _ = await asked(front, "POST", MAPS, b"{}", content_type="application/json")
        assert code == 403
        assert webhook.asked[-1]["resourceAttributes"]["verb"] == "create"

    run(test)


def test_authz_10_who_is_denied_is_allowed_by_no_later_mode() -> None:
    async def test() -> None:
        webhook = Webhook(lambda _: {"denied": True, "reason": "never"})
        front = Front(await webhook.server("Webhook", "AlwaysAllow"))
        code, _, body = await asked(front, "GET", MAPS)
        assert code == 403 and json.loads(body)["message"].endswith(": never")
        silent = Webhook(lambda _: {})
        front = Front(await silent.server("Webhook", "AlwaysAllow"))
        assert (await asked(front, "GET", MAPS))[0] == 200

    run(test)


def test_authz_10_members_of_masters_are_not_asked_about() -> None:
    async def test() -> None:
        webhook = Webhook(lambda _: {"denied": True})
        api = await webhook.server()  # which creates a namespace as one of them
        assert not webhook.asked
        api.stop()

    run(test)


def test_authz_10_a_components_request_is_decided_by_it_too() -> None:
    async def test() -> None:
        webhook = Webhook(allow("list"))
        api = await webhook.server()
        loop = asyncio.get_running_loop()
        codes = []
        for verb in ("list", "get"):
            answered: asyncio.Future[Response | None] = loop.create_future()
            request = Request(verb, CONFIG_MAPS, "default", "a" if verb == "get" else "", user=JANE)
            api.submit(request, answered.set_result)
            response = await answered
            assert response is not None
            codes.append(response.code)
        assert codes == [200, 403] and len(webhook.asked) == 2

    run(test)


def test_authz_10_a_watch_of_a_component_begins_after_the_answer() -> None:
    async def test() -> None:
        webhook = Webhook(allow("watch"))
        api = await webhook.server()
        ended: list[int] = []
        close = api.watch(
            Request("watch", CONFIG_MAPS, "default", user=JANE), lambda _: None, ended.append
        )
        await asyncio.sleep(0.05)
        assert len(webhook.asked) == 1 and not ended
        close()
        api.watch(Request("watch", PODS, "default", user=User("joe")), lambda _: None, ended.append)
        webhook._answers = lambda _: {}
        await asyncio.sleep(0.05)
        assert ended == [403]

    run(test)


def test_authz_10_impersonation_asks_about_each_part() -> None:
    async def test() -> None:
        webhook = Webhook(lambda spec: {"allowed": spec["user"] != "mallory"})
        front = Front(await webhook.server())
        headers = {"impersonate_user": "joe", "impersonate_group": "ops", "impersonate_uid": "9"}
        assert (await asked(front, "GET", MAPS, **headers))[0] == 200
        asked_about = [one["resourceAttributes"] for one in webhook.asked]
        assert [one["resource"] for one in asked_about] == ["users", "groups", "uids", "configmaps"]
        assert webhook.asked[-1]["user"] == "joe" and asked_about[2]["version"] == "v1"
        webhook._answers = lambda spec: OSError("away")
        code, _, _ = await asked(front, "GET", MAPS, impersonate_user="jim")
        assert code == 403

    run(test)


def test_authz_10_an_access_review_says_what_it_says() -> None:
    async def test() -> None:
        answers = {"get": {"allowed": True}, "list": {}, "watch": {"denied": True, "reason": "no"}}

        def answer(spec: Any) -> Any:
            asked = spec["resourceAttributes"]
            if asked["resource"] == "selfsubjectaccessreviews":
                return {"allowed": True}
            return answers.get(asked["verb"]) or (
                {} if asked["verb"] == "list" else OSError("away")
            )

        front = Front(await Webhook(answer).server())
        said = {}
        for verb in ("get", "list", "watch", "delete"):
            spec = {"resourceAttributes": {"verb": verb, "resource": "pods"}}
            body = {"kind": "SelfSubjectAccessReview", "apiVersion": V1, "spec": spec}
            code, _, content = await asked(
                front, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                json.dumps(body).encode(), content_type="application/json",
            )  # fmt: skip
            assert code == 201
            said[verb] = json.loads(content)["status"]
        assert said["get"] == {"allowed": True} and said["list"] == {"allowed": False}
        assert said["watch"] == {"allowed": False, "denied": True, "reason": "no"}
        assert said["delete"]["evaluationError"] == 'Post "https://w": away'

    run(test)


def test_authz_10_rules_of_a_webhook_are_not_known() -> None:
    async def test() -> None:
        front = Front(await Webhook(lambda _: {"allowed": True}).server("Webhook", "RBAC"))
        body = {
            "kind": "SelfSubjectRulesReview",
            "apiVersion": V1,
            "spec": {"namespace": "default"},
        }
        _, _, content = await asked(
            front, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
            json.dumps(body).encode(), content_type="application/json",
        )  # fmt: skip
        status = json.loads(content)["status"]
        assert status["incomplete"] is True
        assert status["evaluationError"] == (
            "webhook authorizer does not support user rule resolution"
        )

    run(test)


def test_authz_10_the_audit_event_has_the_decision() -> None:
    async def test() -> None:
        webhook = Webhook(allow("list"))
        front = Front(await webhook.server())
        lines: list[bytes] = []
        log: Any = type("Log", (), {"write": staticmethod(lines.append)})
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "rules": [{"level": "Metadata"}],
        }
        front.auditor = Auditor(read_policy(policy), log, front.api.clock)
        assert (await asked(front, "GET", MAPS))[0] == 200
        assert (await asked(front, "GET", f"{MAPS}/a"))[0] == 403
        found = [json.loads(line)["annotations"] for line in lines if b"ResponseComplete" in line]
        assert [one["authorization.k8s.io/decision"] for one in found] == ["allow", "forbid"]

    run(test)


# --- how long an answer holds, and failures


def test_authz_11_an_answer_holds_for_its_time() -> None:
    async def test() -> None:
        webhook = Webhook(allow("list"))
        front = Front(await webhook.server())
        paths = (MAPS, f"{MAPS}/a")
        for time, count in ((0.0, 2), (29.0, 2), (30.0, 3), (59.0, 3), (299.0, 4), (300.0, 5)):
            webhook.time = time
            for path in paths:
                await asked(front, "GET", path)
            assert len(webhook.asked) == count, time

    run(test)


@pytest.mark.parametrize("fails_closed", [False, True])
@pytest.mark.parametrize("answer", [OSError("away"), (404, b""), (200, b"odd"), (503, b"")])
def test_authz_11_without_an_answer_the_policy_decides(answer: Any, fails_closed: bool) -> None:
    """What nothing allows is then an error of the server, as upstream."""

    async def test() -> None:
        webhook = Webhook(lambda _: answer, fails_closed)
        front = Front(await webhook.server("Webhook", "AlwaysAllow"))
        code, headers, body = await asked(front, "GET", MAPS, query=b"limit=1")
        if not fails_closed:
            assert code == 200
        else:
            assert code == 500 and headers[b"content-type"] == b"text/plain; charset=utf-8"
            start = f'Internal Server Error: "{MAPS}?limit=1": Post "https://w": '
            assert body.decode().startswith(start)
        count = len(webhook.asked)
        await asked(front, "GET", MAPS, query=b"limit=1")
        assert len(webhook.asked) == count
        webhook.time += 1.0
        webhook._answers = lambda _: {"allowed": True}
        assert (await asked(front, "GET", MAPS))[0] == 200

    run(test)


def test_authz_11_nothing_else_allows_so_it_is_an_error() -> None:
    async def test() -> None:
        webhook = Webhook(lambda _: OSError("<away>"))
        api = await webhook.server("Webhook", "RBAC")
        code, _, body = await asked(Front(api), "GET", "/metrics")
        assert code == 500 and b"&lt;away&gt;" in body
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Response | None] = loop.create_future()
        api.submit(Request("list", CONFIG_MAPS, "default", user=JANE), answered.set_result)
        response = await answered
        assert response is not None and response.code == 500

    run(test)


def test_authz_11_too_many_questions_at_a_time_end_in_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        monkeypatch.setattr(review_webhook, "ASKED_MAX", 0)
        api = await Webhook(allow("list")).server()
        assert (await asked(Front(api), "GET", MAPS))[0] == 500
        assert sum("too many questions" in one.message for one in caplog.records) == 1
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Response | None] = loop.create_future()
        api.submit(Request("list", CONFIG_MAPS, "default", user=JANE), answered.set_result)
        response = await answered
        assert response is not None and response.code == 500

    run(test)


def test_authz_10_a_decision_waits_for_the_answer() -> None:
    class Nothing:
        def find(self, question: bytes) -> None:
            return None

    with pytest.raises(Needed) as needed:
        WebhookAuthorizer("w", "v1", Nothing())(LIST, None)  # type: ignore[arg-type]
    assert needed.value.question is not None
    assert needed.value.question.text == write_review("v1", LIST)


# --- the file

WEBHOOK: Mapping[str, Any] = {
    "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
    "authorizedTTL": "30s", "unauthorizedTTL": "1m",
    "matchConditionSubjectAccessReviewVersion": "v1",
    "matchConditions": [{"expression": "has(request.resourceAttributes)"}],
    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/etc/w"},
}  # fmt: skip


def a_file(webhook: Mapping[str, Any] = WEBHOOK, **more: Any) -> Any:
    first = {"type": "Webhook", "name": "first", "webhook": dict(webhook)}
    others = [{"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthorizationConfiguration",
        "authorizers": [first, *others],
        **more,
    }


def test_authz_12_a_file_has_the_authorizers_in_order() -> None:
    found = read_authorization(a_file())
    condition = "has(request.resourceAttributes)"
    entry = WebhookEntry("first", "/etc/w", "v1", 30.0, 60.0, 3.0, True, (condition,))
    assert (found.modes, found.webhooks) == (("Webhook", "Node", "RBAC"), (entry,))
    uncached = {**WEBHOOK, "cacheAuthorizedRequests": False, "failurePolicy": "NoOpinion"}
    [entry] = read_authorization(a_file(uncached)).webhooks
    assert (entry.authorized_seconds, entry.unauthorized_seconds) == (0.0, 60.0)
    assert not entry.fails_closed


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in WEBHOOK.items() if name != key}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ([], "must be a mapping"),
        (a_file(kind="Pod"), "must be of kind AuthorizationConfiguration"),
        (a_file(authorizers=[]), "at least one authorization mode must be defined"),
        (a_file(more=1), "more: not known"),
        (a_file(authorizers=[{"type": "Node", "name": "a"}, {"type": "Node", "name": "b"}]), 'authorizers[1].type: Duplicate value: "Node"'),
        (a_file(authorizers=[{"type": "Node", "name": "a"}, {"type": "RBAC", "name": "a"}]), 'authorizers[1].name: Duplicate value: "a"'),
        (a_file(authorizers=[{"type": "Node", "name": "A"}]), "authorizer name is invalid"),
        (a_file(authorizers=[{"type": "ABAC", "name": "a"}]), 'Unsupported value: "ABAC"'),
        (a_file(authorizers=[{"type": "RBAC", "name": "a", "webhook": {}}]), "may only be specified when type=Webhook"),
        (a_file(authorizers=[{"type": "Webhook", "name": "a"}]), "webhook: required when type=Webhook"),
        (a_file(authorizers=[{"type": "RBAC", "name": "a", "x": 1}]), "authorizers[0].x: not known"),
        *[(a_file(without(key)), key) for key in WEBHOOK if "match" not in key],
        (a_file(without("matchConditionSubjectAccessReviewVersion")), "matchConditionSubjectAccessReviewVersion: Required"),
        (a_file({**WEBHOOK, "timeout": "31s"}), "must be > 0s and <= 30s"),
        (a_file({**WEBHOOK, "timeout": "0s"}), "must be > 0s"),
        (a_file({**WEBHOOK, "authorizedTTL": "-1s"}), "must be > 0s"),
        (a_file({**WEBHOOK, "authorizedTTL": "long"}), "authorizedTTL: time: invalid duration"),
        (a_file({**WEBHOOK, "failurePolicy": "Allow"}), 'Unsupported value: "Allow"'),
        (a_file({**WEBHOOK, "matchConditions": [{"expression": "1"}]}), "must evaluate to a bool"),
        (a_file({**WEBHOOK, "matchConditions": [{"expression": "request.x"}]}), "undefined field"),
        (a_file({**WEBHOOK, "matchConditions": [{"expression": "true"}] * 2}), 'Duplicate value: "true"'),
        (a_file({**WEBHOOK, "matchConditions": [{"expression": f"{n} > 0"} for n in range(65)]}), "at most 64"),
        (a_file({**WEBHOOK, "connectionInfo": {"type": "InClusterConfig"}}), 'Unsupported value: "InClusterConfig"'),
        (a_file({**WEBHOOK, "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "w"}}), "must be an absolute path"),
        (a_file({**WEBHOOK, "more": 1}), "authorizers[0].webhook.more: not known"),
    ],
)  # fmt: skip
def test_authz_12_what_cannot_be_followed_is_refused(tree: Any, words: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        read_authorization(tree)
    assert words in str(refused.value)


@given(JSON)
def test_authz_12_any_document_is_read_or_refused(tree: Any) -> None:
    for whole in (tree, a_file(authorizers=tree), a_file(tree if isinstance(tree, dict) else {})):
        with pytest.raises(BadConfiguration):
            read_authorization(whole)


class Reviewer(Server):
    """A webhook over TLS, which allows what jane does."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        question = json.loads(await reader.readexactly(int(lines["content-length"])))
        version = question["apiVersion"]
        body = review({"allowed": question["spec"]["user"] == "jane"}, version)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


@pytest.mark.parametrize("by", ["flags", "file"])
def test_authz_12_the_webhook_of_the_flags_or_of_the_file_is_asked(tmp_path: Path, by: str) -> None:
    async def test() -> None:
        server = Reviewer(tmp_path)
        port = await server.start()
        cluster = {"server": f"https://127.0.0.1:{port}/w", "certificate-authority": str(tmp_path / "ca")}  # fmt: skip
        tree = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
            "current-context": "x",
        }
        kubeconfig, file = tmp_path / "config", tmp_path / "authorization"
        kubeconfig.write_text(json.dumps(tree))
        connection = {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)}
        file.write_text(json.dumps(a_file({**WEBHOOK, "connectionInfo": connection})))
        flags = {"config_file": str(kubeconfig), "version": "v1beta1", "authorized_seconds": 9.0}
        given = (
            read_authorizers(str(file), ("Node", "RBAC"), {})
            if by == "file"
            else read_authorizers("", ("Webhook", "RBAC"), flags)
        )
        assert given.modes[0] == "Webhook" and len(given.webhooks) == 1
        [webhook] = given.webhooks.values()
        question = write_review(webhook.authorizer.version, LIST)
        await webhook.review(question)
        assert webhook.find(question) == Decision(True)
        server.server.close()

    run(test)


@pytest.mark.parametrize(
    ("path", "modes", "flags", "words"),
    [
        ("/none", ("RBAC",), {}, "there is no such file"),
        ("/none", ("RBAC",), {"config_file": "x"}, "cannot be used with"),
        ("", ("Webhook",), {}, "Webhook needs --authorization-webhook-config-file"),
        ("", ("RBAC",), {"config_file": "x"}, "Webhook needs --authorization-webhook-config-file"),
        ("", ("Webhook",), {"config_file": "/none"}, "there is no such file"),
    ],
)  # fmt: skip
def test_authz_12_flags_that_cannot_be_followed_end_the_start(
    path: str, modes: tuple[str, ...], flags: Any, words: str
) -> None:
    with pytest.raises(CannotRun, match=words):
        read_authorizers(path, modes, flags)
