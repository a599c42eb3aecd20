"""Tokens that a webhook knows: OIDC-7, OIDC-8 (spec/oidc.md)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_http import TOKEN, a_server, asked
from test_webhook_credentials import Server

from refk8s.components import review_webhook, token_webhook
from refk8s.components.files import CannotRun
from refk8s.components.http import Front
from refk8s.components.review_webhook import posting
from refk8s.components.token_webhook import TokenWebhook, read_token_webhook
from refk8s.core.api.user import ADMIN, AUTHENTICATED, User
from refk8s.core.apiserver.authenticate import check_token
from refk8s.core.apiserver.config import Config, Decision
from refk8s.core.apiserver.review_answer import BadReview
from refk8s.core.apiserver.token_webhook import Checked, read_review, write_review
from refk8s.core.client.kubeconfig import Access, Pem

OWN = Config().audiences
V1 = "authentication.k8s.io/v1"
JANE = {"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"a": ["b"]}}
SECONDS = 120.0


def review(status: Any, version: str = V1, kind: str = "TokenReview") -> bytes:
    return json.dumps({"kind": kind, "apiVersion": version, "status": status}).encode()


def known(user: Any = JANE, **status: Any) -> bytes:
    return review({"authenticated": True, "user": user, **status})


class Webhook:
    """A webhook that answers with what `answers` returns for a token."""

    def __init__(self, answers: Callable[[str], Any], audiences: tuple[str, ...] = OWN) -> None:
        self.asked: list[str] = []
        self.time = 0.0
        self._answers = answers
        self.tokens = TokenWebhook(self.post, "v1", audiences, SECONDS, lambda: self.time)

    async def post(self, question: bytes) -> tuple[int, bytes]:
        spec = json.loads(question)["spec"]
        self.asked.append(spec["token"])
        answer = self._answers(spec["token"])
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, tuple) else (200, answer)


def only(token: str) -> Callable[[str], bytes]:
    """A webhook that knows this token alone."""
    return lambda one: known() if one == token else review({"authenticated": False})


# --- what an answer means

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["username", "groups", "uid", "extra", "authenticated", "user", "audiences", "status"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(json_values | st.builds(lambda user: {"authenticated": True, "user": user}, json_values))
def test_oidc_7_any_answer_is_a_result_or_refused(status):
    try:
        found = read_review(review(status), "v1", OWN, OWN)
    except BadReview:
        return
    if found.user is not None:
        assert status["authenticated"] is True and found.user.name == status["user"]["username"]
        assert AUTHENTICATED in found.user.groups and found.audiences == OWN


@given(st.binary(max_size=40))
def test_oidc_7_bytes_that_are_no_review_are_refused(text):
    with pytest.raises(BadReview):
        read_review(text, "v1", OWN, OWN)


def test_oidc_7_the_user_is_that_of_the_answer_and_authenticated():
    user = User("jane", "7", ("devs", AUTHENTICATED), (("a", ("b",)),))
    assert read_review(known(), "v1", OWN, OWN) == Checked(user, OWN)
    assert read_review(review({"error": "no"}), "v1", OWN, OWN) == Checked(problem="no")
    for answer in (
        review({"authenticated": True}, "authentication.k8s.io/v1beta1"),
        review({"authenticated": True}, kind="Pod"),
        known({"username": ""}),
        known({"username": "a\r\nb"}),
        known({"username": "a", "groups": ["system:unauthenticated"]}),
    ):
        with pytest.raises(BadReview):
            read_review(answer, "v1", OWN, OWN)


@given(
    st.lists(st.sampled_from("abc"), unique=True, min_size=1),
    st.none() | st.lists(st.sampled_from("abc"), unique=True),
)
def test_oidc_7_a_token_is_for_the_audiences_that_the_webhook_names(wanted, named):
    """Without any it is for those of the API server."""
    answer = known(audiences=named) if named is not None else known()
    found = read_review(answer, "v1", tuple(wanted), ("a",))
    common = tuple(one for one in wanted if one in (named or ["a"]))
    assert (found.user is not None, found.audiences) == (bool(common), common)
    assert json.loads(write_review("v1", "t", tuple(wanted)))["spec"]["audiences"] == wanted


# --- when it is asked, and how long an answer holds


def test_oidc_8_an_answer_holds_for_two_minutes():
    async def run() -> None:
        webhook = Webhook(only("mine"))
        for token, is_known in (("mine", True), ("other", False)):
            for _ in range(3):
                assert await webhook.tokens.review(token) is is_known
        assert webhook.asked == ["mine", "other"]
        webhook.time = SECONDS - 1
        assert webhook.tokens.find("mine", OWN) is not None
        webhook.time = SECONDS
        assert webhook.tokens.find("mine", OWN) is None
        assert webhook.tokens.find("mine", ("elsewhere",)) is None, "of another audience"
        assert await webhook.tokens.review("mine") and webhook.asked[2:] == ["mine"]

    asyncio.run(run())


def test_oidc_8_without_a_lifetime_the_request_that_asked_is_still_decided_by_the_answer():
    webhook = Webhook(only("mine"))
    tokens = TokenWebhook(webhook.post, "v1", OWN, 0.0, lambda: webhook.time)
    assert asyncio.run(tokens.review("mine"))
    assert tokens.find("mine", OWN) is not None
    webhook.time = 1.0
    assert tokens.find("mine", OWN) is None


@pytest.mark.parametrize(
    "fault", [OSError("refused"), (503, b""), (429, b""), (404, b""), (302, known()), b"{", known({})]
)  # fmt: skip
def test_oidc_8_no_usable_answer_is_no_user_and_is_not_kept(monkeypatch, fault):
    monkeypatch.setattr(review_webhook, "DELAY_SECONDS", 0.001)
    faults = [fault] * 20

    async def run() -> None:
        webhook = Webhook(lambda _: faults.pop() if faults else known())
        assert not await webhook.tokens.review("mine")
        attempts = len(webhook.asked)
        is_passing = isinstance(fault, OSError) or (fault[0] in (503, 429))
        assert attempts == (review_webhook.ATTEMPTS if is_passing else 1)
        faults.clear()
        assert await webhook.tokens.review("mine")

    asyncio.run(run())


def test_oidc_8_a_slow_webhook_is_given_up_and_one_question_serves_all(monkeypatch):
    monkeypatch.setattr(token_webhook, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(review_webhook, "ASKED_MAX", 2)

    async def run() -> None:
        questions: list[bytes] = []

        async def post(question: bytes) -> tuple[int, bytes]:
            questions.append(question)
            await asyncio.sleep(60)
            raise AssertionError("unreachable")

        tokens = TokenWebhook(post, "v1", OWN, SECONDS)
        names = ["a", "a", "b", "c", "a" * (8 << 10), "a" * (8 << 10) + "a", ""]
        found = await asyncio.gather(*[tokens.review(name) for name in names])
        assert not any(found)
        assert [json.loads(one)["spec"]["token"] for one in questions] == ["a", "b"]

    asyncio.run(run())


def test_oidc_8_the_number_of_kept_answers_is_bounded(monkeypatch):
    monkeypatch.setattr(review_webhook, "KEPT_MAX", 3)

    async def run() -> None:
        webhook = Webhook(lambda _: known())
        for number in range(5):
            await webhook.tokens.review(f"t{number}")
        kept = [webhook.tokens.find(f"t{number}", OWN) is not None for number in range(5)]
        assert kept == [False, False, True, True, True]

    asyncio.run(run())


# --- requests


def with_webhook(answers: Callable[[str], Any]) -> tuple[Webhook, Config]:
    webhook = Webhook(answers)

    def authorizer(attributes: Any, store: Any) -> Decision:
        return Decision(attributes.user.name in ("jane", "system:anonymous"))

    users = {TOKEN: ADMIN}
    return webhook, Config(users=users, webhook=webhook.tokens, authorizer=authorizer)


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (lambda _: known(), 200),
        (lambda _: review({"authenticated": False}), 401),
        (lambda _: (404, b""), 401),
        (lambda _: b"odd", 401),
        (lambda _: known(audiences=["elsewhere"]), 401),
    ],
)
def test_oidc_7_a_token_that_nothing_else_accepts_is_asked_about(answers, code):
    """What the webhook does not know is 401, also where anonymous users may do everything."""

    async def run() -> None:
        webhook, config = with_webhook(answers)
        front = Front(await a_server(config=config))
        front.webhook = webhook.tokens
        assert (await asked(front, "GET", CONFIG_MAPS))[0] == 200 and not webhook.asked
        for _ in range(2):
            got = await asked(front, "GET", CONFIG_MAPS, authorization="Bearer mine")
            assert got[0] == code
        assert set(webhook.asked) == {"mine"}
        got = await asked(front, "GET", CONFIG_MAPS, authorization="Basic mine")
        assert got[0] == 401 and set(webhook.asked) == {"mine"}

    asyncio.run(run())


def test_oidc_7_a_token_review_asks_too_unless_the_token_is_known():
    async def run() -> None:
        webhook, config = with_webhook(only("mine"))
        front = Front(await a_server(config=config))
        front.webhook = webhook.tokens
        said = {}
        for token in (TOKEN, "mine", "other"):
            body = {"kind": "TokenReview", "apiVersion": V1, "spec": {"token": token}}
            code, _, content = await asked(
                front,
                "POST",
                "/apis/authentication.k8s.io/v1/tokenreviews",
                json.dumps(body).encode(),
                content_type="application/json",
            )
            assert code == 201
            said[token] = json.loads(content)["status"]
        assert webhook.asked == ["mine", "other"]
        assert said["mine"]["user"]["username"] == "jane" and said["mine"]["audiences"] == [*OWN]
        assert said[TOKEN]["user"]["username"] == ADMIN.name
        assert not said["other"].get("authenticated")

    asyncio.run(run())


def test_oidc_7_without_a_webhook_nothing_changes():
    assert check_token("mine", Config(), 0).user is None


# --- over TLS


class Reviewer(Server):
    """A webhook over TLS. It answers with the token as the name of the user."""

    answer = staticmethod(lambda token: known({"username": token}))
    seen: list[tuple[str, str, list[str]]]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("ssl_object").getpeercert() or {}
        subject = [value for part in peer.get("subject", ()) for _, value in part]
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        question = json.loads(await reader.readexactly(int(lines["content-length"])))
        self.seen.append((head.split("\r\n")[0], lines.get("authorization", ""), subject))
        body = self.answer(question["spec"]["token"])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


def test_oidc_7_the_webhook_is_asked_over_tls_with_the_credentials_of_the_file(tmp_path: Path):
    async def run() -> None:
        server = Reviewer(tmp_path)
        server.seen = []
        port = await server.start()
        cluster = {"server": f"https://127.0.0.1:{port}/reviews", "certificate-authority": str(tmp_path / "ca")}  # fmt: skip
        user = {"token": "of-the-server"}
        tree = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        file = tmp_path / "config"
        file.write_text(json.dumps(tree))
        flags = {"config_file": str(file), "version": "v1", "cache_seconds": SECONDS}
        webhook = read_token_webhook(flags, OWN)
        assert webhook is not None and await webhook.review("mine")
        assert webhook.find("mine", OWN).user.name == "mine"
        line = "POST /reviews HTTP/1.1"
        assert server.seen == [(line, "Bearer of-the-server", [])]
        # another authority, and an answer that is too long
        other = make_other_authority()
        access = Access(f"https://127.0.0.1:{port}", authority=Pem(content=other))
        with pytest.raises(OSError):
            await posting(access)(b"{}")
        Reviewer.answer = staticmethod(lambda _: b" " * (review_webhook.ANSWER_BYTES_MAX + 1))
        assert not await webhook.review("other")
        server.server.close()

    asyncio.run(run())


def make_other_authority() -> bytes:
    from test_webhook_credentials import AUTHORITY_NAME, NOW, make_key, make_self_signed

    return make_self_signed(make_key(), AUTHORITY_NAME, NOW)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("{", "no YAML"),
        ("kind: Config", "current-context"),
        ("{clusters: [{name: c, cluster: {server: 'http://a'}}], contexts: [{name: x, context: {cluster: c}}], current-context: x}", "https"),
    ],
)  # fmt: skip
def test_oidc_7_a_file_that_cannot_be_used_keeps_the_server_from_starting(tmp_path, text, words):
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    flags = {"config_file": str(file), "version": "v1", "cache_seconds": SECONDS}
    with pytest.raises(CannotRun, match=words):
        read_token_webhook(flags, OWN)
    assert read_token_webhook({"config_file": ""}, OWN) is None
