"""Token secrets that a controller has made: rules SA-5 to SA-8
(spec/workloads/service_account.md)."""

import asyncio
from base64 import b64encode
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_http import a_server, asked
from workload_helpers import view_of

from refk8s.components.auditing import Auditor
from refk8s.components.clock import Clock
from refk8s.components.http import Front
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Container,
    ObjectReference,
    Pod,
    PodSpec,
    Secret,
    SecretVolumeSource,
    ServiceAccount,
    Volume,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from refk8s.core.api.status import not_found
from refk8s.core.api.token_secret import (
    ACCOUNT_NAME,
    ACCOUNT_UID,
    INVALID_SINCE,
    LAST_USED,
    TOKEN_SECRET,
    TRACKING_KEY,
    TRACKING_NAME,
    read_day,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.audit.policy import read_policy
from refk8s.core.apiserver.authenticate import check_token, make_token
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.legacy_tokens import WARNING
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.context import SECOND, Context, SeededChance, timestamp
from refk8s.core.controllers.legacy_tokens import (
    TRACKING,
    LegacyTokenCleaner,
    LegacyTokenTracking,
    Tracked,
)
from refk8s.core.loop.plan import NOTHING, Local
from refk8s.core.store import Put, Txn
from refk8s.store.memory import MemoryEngine

CLEANER, TRACKER = LegacyTokenCleaner(), LegacyTokenTracking()
TODAY = date(2026, 11, 30)
YEAR = timedelta(days=365)
MIDDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)
NOW = int(MIDDAY.timestamp()) * SECOND
ACCOUNT = ServiceAccount(
    metadata=ObjectMeta(name="bot", namespace="default", uid="b"),
    secrets=(ObjectReference(name="tok"),),
)


def a_secret(created: datetime = MIDDAY, **labels: str) -> Secret:
    named = {
        {"used": LAST_USED, "refused": INVALID_SINCE}[key]: text for key, text in labels.items()
    }
    return Secret(
        metadata=ObjectMeta(
            name="tok",
            namespace="default",
            uid="s",
            resource_version="7",
            labels=named or None,
            annotations={ACCOUNT_NAME: "bot", ACCOUNT_UID: "b"},
            creation_timestamp=timestamp(int(created.timestamp()) * SECOND),
        ),
        type=TOKEN_SECRET,
    )


def a_pod(namespace: str, secret: str) -> Pod:
    volumes = (Volume(name="v", secret=SecretVolumeSource(secret_name=secret)),)
    spec = PodSpec(containers=(Container(name="c", image="i"),), volumes=volumes)
    return Pod(metadata=ObjectMeta(name="p", namespace=namespace), spec=spec)


# --- the cleaner


def days_ago(*near: int) -> st.SearchStrategy[int]:
    """A number of days: mostly those at which something may change."""
    return st.sampled_from([0, 1, 364, 365, 366, 367, 729, 730, 731, 800, *near])


@given(
    created=days_ago(),
    used=st.none() | days_ago(-1) | st.sampled_from(["yesterday", "2026-13-01", "20261130"]),
    refused=st.none() | days_ago() | st.just("never"),
    since=st.none() | days_ago() | st.just("always"),
    is_listed=st.sampled_from([True, True, False]),
    account=st.sampled_from(["b", "b", "another", None]),
    pod=st.sampled_from([None, None, ("default", "tok"), ("default", "x"), ("other", "tok")]),
    type=st.sampled_from([TOKEN_SECRET, TOKEN_SECRET, "Opaque"]),
)
@example(366, None, None, 800, True, "b", None, TOKEN_SECRET)
@example(366, None, 366, 800, True, "b", None, TOKEN_SECRET)
def test_sa_7_what_nobody_uses_is_refused_and_then_deleted(
    created: int,
    used: int | str | None,
    refused: int | str | None,
    since: int | str | None,
    is_listed: bool,
    account: str | None,
    pod: tuple[str, str] | None,
    type: str,
) -> None:
    """Against the same in calendar days."""

    def day(ago: int | str) -> str:
        return ago if isinstance(ago, str) else str(TODAY - timedelta(days=ago))

    labels = {}
    if used is not None:
        labels["used"] = day(used)
    if refused is not None:
        labels["refused"] = day(refused)
    made = MIDDAY - timedelta(days=created, seconds=1 if created == 365 else 0)
    secret = replace(a_secret(made, **labels), type=type)
    owner = replace(ACCOUNT, metadata=replace(ACCOUNT.metadata, uid=account))
    objects: list[Any] = [secret]
    if account is not None:
        objects.append(owner if is_listed else replace(owner, secrets=None))
    if pod is not None:
        objects.append(a_pod(*pod))
    memory = Tracked("" if since is None else day(since), NOW)
    view = view_of(CLEANER, *objects)
    plan = CLEANER.reconcile(view, "default/tok", NOW, Local(memory=memory))

    border = TODAY - YEAR
    is_unused = (
        type == TOKEN_SECRET
        and created >= 365
        and not isinstance(used, str)
        and (used is None or TODAY - timedelta(days=used) < border)
        and is_listed
        and account == "b"
        and pod != ("default", "tok")
    )
    is_tracked = isinstance(since, int) and since >= 366
    assert not plan.queries
    if not is_unused or not is_tracked:
        assert not plan.waves
        return
    if not isinstance(refused, int):
        [[request]] = plan.waves
        assert (request.verb, request.resource, request.key) == ("patch", SECRETS, "default/tok")
        metadata = {"uid": "s", "labels": {INVALID_SINCE: str(TODAY)}}
        assert request.body.document == {"metadata": metadata}
        return
    if TODAY - timedelta(days=refused) >= border:
        assert not plan.waves and plan.wake_at is not None and plan.wake_at > NOW
        return
    [[request]] = plan.waves
    assert (request.verb, request.key) == ("delete", "default/tok")
    assert request.body.preconditions.resource_version == "7"


def test_sa_7_a_secret_goes_through_its_years() -> None:
    """The reconciler is due at each moment at which something is to be done."""
    tracked = date(2025, 1, 1)
    secret = a_secret(datetime(2025, 1, 1, 8, tzinfo=UTC))
    now = int(datetime(2025, 1, 1, 9, tzinfo=UTC).timestamp()) * SECOND
    memory: Any = CLEANER.start_memory(now)
    seen: list[tuple[str, str]] = []
    for _ in range(2_000):
        view = view_of(CLEANER, secret, ACCOUNT)
        plan = CLEANER.reconcile(view, "default/tok", now, Local(memory=memory))
        if plan.queries:
            [question] = plan.queries
            assert (question.verb, question.resource, question.name) == (
                "get",
                CONFIG_MAPS,
                TRACKING_NAME,
            )
            found = Response(200, ConfigMap(data={TRACKING_KEY: str(tracked)}))
            memory, keys = CLEANER.answered(memory, "default/tok", question, found, now)
            assert keys == ("default/tok",)
            continue
        if plan.waves:
            [[request]] = plan.waves
            seen.append((request.verb, timestamp(now)[:10]))
            if request.verb == "delete":
                break
            labels = request.body.document["metadata"]["labels"]
            secret = replace(secret, metadata=replace(secret.metadata, labels=labels))
            continue
        assert plan.wake_at is not None and plan.wake_at > now
        now = plan.wake_at
    assert seen == [("patch", "2026-01-02"), ("delete", "2027-01-03")]


@pytest.mark.parametrize(
    "answer", [None, Response(500, None), Response(404, not_found(CONFIG_MAPS, "x"))]
)
def test_sa_7_without_the_day_nothing_is_cleaned(answer: Response | None) -> None:
    secret = a_secret(MIDDAY - 2 * YEAR)
    view = view_of(CLEANER, secret, ACCOUNT)
    plan = CLEANER.reconcile(view, "default/tok", NOW, Local(memory=CLEANER.start_memory(NOW)))
    [question] = plan.queries
    memory, _ = CLEANER.answered(CLEANER.start_memory(NOW), "default/tok", question, answer, NOW)
    plan = CLEANER.reconcile(view, "default/tok", NOW, Local(memory=memory))
    assert not plan.waves and plan.wake_at is not None


def test_sa_7_a_secret_that_is_being_deleted_is_left_alone() -> None:
    secret = a_secret(MIDDAY - 3 * YEAR)
    marked = replace(secret, metadata=replace(secret.metadata, deletion_timestamp=timestamp(NOW)))
    local = Local(memory=Tracked("2020-01-01", NOW))
    assert (
        CLEANER.reconcile(view_of(CLEANER, marked, ACCOUNT), "default/tok", NOW, local) == NOTHING
    )


# --- the day since which uses are recorded


@given(st.sampled_from([None, "none", "2025-01-01", "2025-02-30", "2025-1-1", "", "20250101"]))
def test_sa_5_the_config_map_has_a_day(said: str | None) -> None:
    is_day = said == "2025-01-01"
    assert (read_day(said) is not None) == is_day
    data = None if said == "none" else {TRACKING_KEY: said or "", "more": "x"}
    metadata = ObjectMeta(name=TRACKING_NAME, namespace="kube-system", resource_version="3")
    objects = [] if said is None else [ConfigMap(metadata=metadata, data=data)]
    plan = TRACKER.reconcile(view_of(TRACKER, *objects), TRACKING, NOW, Local())
    if is_day:
        assert plan == NOTHING
        return
    [[request]] = plan.waves
    assert request.verb == ("create" if said is None else "update")
    assert request.body.data == {**(data or {}), TRACKING_KEY: "2026-11-30"} or said is None
    assert request.body.data[TRACKING_KEY] == "2026-11-30"
    assert TRACKER.initial_keys == (TRACKING,)


# --- uses


class Still(Clock):
    """A clock that stands."""

    def now(self) -> int:
        return NOW


class Served:
    """A server whose store has an account, its Secret, and tokens of both kinds."""

    def __init__(self, is_listed: bool, policy: Any = None, **labels: str) -> None:
        self.context = Context(NOW, SeededChance(b"t"))
        self.engine: MemoryEngine[Any] = MemoryEngine(stamp)
        bound = {"secret": {"name": "tok", "uid": "s"}}
        self.token = self._make(bound, 600)
        self.requested = self._make(bound, 601)
        secret = replace(
            a_secret(**labels), data={"token": b64encode(self.token.encode()).decode()}
        )
        account = ACCOUNT if is_listed else replace(ACCOUNT, secrets=None)
        for kind, name, value in (
            (SERVICE_ACCOUNTS, "bot", account),
            (SECRETS, "tok", secret),
        ):
            self.engine.commit_batch([Txn((), (Put(kind.key("default", name), value),))])
        self.config = Config(users={"t" * 32: ADMIN})
        self.policy = policy

    def _make(self, bound: Any, seconds: int) -> str:
        config = DEFAULT_CONFIG
        return make_token(
            "default", "bot", "b", config.audiences, seconds, bound, config, self.context
        )

    def run(self, *asks: tuple[str, str, dict[str, str]]) -> tuple[list[Any], Secret, list[Any]]:
        """The answers to requests (method, path, headers), the Secret then, and audit events."""

        async def test() -> tuple[list[Any], Secret, list[Any]]:
            api = await a_server(self.engine, self.config)
            api.clock = Still()
            front = Front(api)
            lines: list[bytes] = []
            if self.policy is not None:
                log: Any = type("Log", (), {"write": staticmethod(lines.append)})
                front.auditor = Auditor(read_policy(self.policy), log, api.clock)
            found = []
            for method, path, headers in asks:
                found.append(await asked(front, method, path, **headers))
            for _ in range(20):
                await asyncio.sleep(0.01)
            record = api.store.get(SECRETS.key("default", "tok"))
            api.stop()
            assert record is not None
            return found, record.value, lines

        return asyncio.run(test())


PATH = "/api/v1/namespaces/default/configmaps"


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", **more}


@given(
    is_listed=st.booleans(),
    is_requested=st.booleans(),
    used=st.sampled_from([None, "2026-11-29", "2026-11-30", "2026-12-01", "bad"]),
    refused=st.sampled_from([None, None, "2026-11-01"]),
    path=st.sampled_from([PATH, "/version", "/api", "/api/v1/namespaces/default/nothings"]),
)
@example(True, False, None, None, PATH)
@example(True, False, None, "2026-11-01", PATH)
@example(False, False, "2026-11-29", None, "/version")
def test_sa_6_sa_8_a_use_is_recorded_and_a_refused_token_is_401(
    is_listed: bool, is_requested: bool, used: str | None, refused: str | None, path: str
) -> None:
    labels = {key: text for key, text in (("used", used), ("refused", refused)) if text}
    world = Served(is_listed, **labels)
    token = world.requested if is_requested else world.token
    [(code, headers, _)], secret, _ = world.run(("GET", path, bearer(token)))
    is_use = not is_requested
    is_refused = is_use and refused is not None
    assert (code == 401) == is_refused
    assert (b"warning" in headers) == (is_use and is_listed)
    if is_use and is_listed:
        assert headers[b"warning"] == f'299 - "{WARNING}"'.encode()
    is_known = used in ("2026-11-30", "2026-12-01")
    last = (secret.metadata.labels or {}).get(LAST_USED)
    assert last == ("2026-11-30" if is_use and not is_known else used)


def test_sa_6_a_day_is_written_once() -> None:
    world = Served(True)
    asks = [("GET", PATH, bearer(world.token))] * 5
    found, secret, _ = world.run(*asks)
    assert [code for code, _, _ in found] == [200] * 5
    assert all(b"warning" in headers for _, headers, _ in found)
    _, after_one, _ = Served(True).run(*asks[:1])
    assert secret.metadata.resource_version == after_one.metadata.resource_version


def test_sa_6_the_token_of_who_acts_as_another_is_used_and_a_token_beside_none_is_not() -> None:
    world = Served(True)
    acts = {**bearer(world.token), "impersonate_user": "jane"}
    found, secret, _ = world.run(("GET", PATH, acts))
    assert b"warning" in found[0][1] and LAST_USED in (secret.metadata.labels or {})
    found, secret, _ = Served(True).run(("GET", PATH, {}))
    assert b"warning" not in found[0][1] and not secret.metadata.labels


@pytest.mark.parametrize("is_listed", [True, False])
def test_sa_6_the_audit_event_names_the_secret(is_listed: bool) -> None:
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    world = Served(is_listed, policy, refused="2026-11-01")
    _, _, lines = world.run(("GET", PATH, bearer(world.token)))
    kind = "autogenerated" if is_listed else "manual"
    text = b"".join(lines).decode()
    assert f'"authentication.k8s.io/legacy-token-{kind}-secret":"tok"' in text
    assert '"authentication.k8s.io/legacy-token-invalidated":"tok/default"' in text


def test_sa_8_a_review_says_why() -> None:
    world = Served(True, refused="2026-11-01")
    checked = check_token(world.token, DEFAULT_CONFIG, NOW, world.engine)
    assert checked.user is None
    assert "the token in secret default/tok for service account default/bot" in checked.problem
    assert check_token(world.requested, DEFAULT_CONFIG, NOW, world.engine).user is not None


def test_warn_1_a_watch_of_a_deprecated_kind_warns() -> None:
    """A watch is answered with a stream, which has a writer of its own."""
    from test_http import a_listener
    from test_http_writes import read

    async def test() -> bytes:
        api = await a_server(config=Config(users={"t" * 32: ADMIN}))
        server, connect = await a_listener(Front(api))
        one = await connect()
        path = "/api/v1/endpoints?watch=1&timeoutSeconds=1"
        lines = f"GET {path} HTTP/1.1\r\nauthorization: Bearer {'t' * 32}\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(one.client, lines.encode())
        try:
            return await read(one.client, lambda got: b"\r\n\r\n" in got)
        finally:
            one.client.close()
            await server.close(0)
            api.stop()

    assert b"use discovery.k8s.io/v1 EndpointSlice" in asyncio.run(test())
