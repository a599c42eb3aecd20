"""Properties of the port of the store: the API server on a shared store that answers late, loses
answers or fails, and the store that only one process writes. Rules STORE-23 ... STORE-29, LIST-14.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from api_world import World
from hypothesis import event, example, given
from hypothesis import strategies as st
from scripted_store import ScriptedStore
from test_http import TOKEN, asked, config_map
from test_store import Attempt, attempts, decode, encode
from test_store import stamp as stamp_number

from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import CHANCE, Clock
from refk8s.components.http import Front
from refk8s.core.api import codec, resources
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions, Status
from refk8s.core.api.request import Options, Patch, Request, Response, WatchEvent
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authenticate import make_token
from refk8s.core.apiserver.config import Attributes, Config, Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.outcome import Commit, Reader
from refk8s.core.context import Context
from refk8s.core.store import EMPTY, Change, Committed, Delete, History, Put, Txn, commit
from refk8s.core.store_port import StoreUnavailable, TxnRefused
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine
from refk8s.store.sqlite import SqliteEngine

CONFIG_MAPS = resources.CONFIG_MAPS
CONFIG_MAPS_PATH = "/api/v1/namespaces/default/configmaps"
PREFIX = CONFIG_MAPS.prefix + "default/"
WRITES = ("create", "update", "patch", "delete")


def a_start() -> History[Any]:
    """The namespaces, and the object "a" that was written twice."""
    world = World()
    for request in (a_request("create", "a", "-", None), a_request("update", "a", "-", None)):
        assert world.do(request).response.ok
    return world.history


def a_request(verb: str, name: str, by: str, revision: int | None) -> Request:
    """A request of this verb. A write marks the object as written `by` it; with a revision it has
    that as its precondition, a read asks for it."""
    text = "" if revision is None else str(revision)
    where = (verb, CONFIG_MAPS, "default", "" if verb in ("list", "watch") else name)
    if verb in ("create", "update"):
        metadata = ObjectMeta(
            name=name, namespace="default", resource_version=text if verb == "update" else None
        )
        obj = config_map(name, by=by)
        return Request(*where, body=type(obj)(metadata=metadata, data=obj.data), user=ADMIN)
    if verb == "patch":
        document = json.dumps({"data": {"by": by}}).encode()
        return Request(*where, body=Patch("application/merge-patch+json", document), user=ADMIN)
    if verb == "delete":
        preconditions = Preconditions(resource_version=text) if text else None
        return Request(*where, body=DeleteOptions(preconditions=preconditions), user=ADMIN)
    return Request(*where, options=Options(resource_version=text), user=ADMIN)


class Asked:
    """A request that the API server under test got, and what became of it."""

    def __init__(self, request: Request, store: ScriptedStore) -> None:
        self.request, self.store = request, store
        self.begun = store.truth.revision
        self.ended = 0
        self.answers: list[Response | None] = []

    @property
    def response(self) -> Response | None:
        """The answer, None where it is unknown what happened."""
        [response] = self.answers
        return response

    def answer(self, response: Response | None) -> None:
        self.answers.append(response)
        self.ended = self.store.truth.revision
        if self.request.verb in WRITES and response is not None and response.ok:
            # STORE-23: the client reads its own write here
            assert (revision_of(response.body) or 0) <= self.store.revision

    async def send(self, front: Front) -> None:
        """Send the request over the wire."""
        request = self.request
        body, headers, query = b"", {}, b""
        if request.verb == "patch":
            body, headers = request.body.document, {"content_type": request.body.media_type}
        elif request.body is not None:
            body, headers = codec.encode(request.body), {"content_type": "application/json"}
        if request.options.resource_version:
            query = b"resourceVersion=" + request.options.resource_version.encode()
        path = CONFIG_MAPS_PATH + (f"/{request.name}" if METHODS[request.verb][1] else "")
        method = METHODS[request.verb][0]
        code, _, content = await asked(front, method, path, body, query, **headers)
        if code == 504:
            self.answer(None)
            return
        decoded = Status if code >= 300 or request.verb == "delete" else CONFIG_MAPS.type
        if request.verb == "list" and code == 200:
            decoded = CONFIG_MAPS.list_type
        self.answer(Response(code, codec.decode(decoded, content)))

    def records(self) -> list[Any]:
        """The object's records at every revision while the request was handled."""
        past, key = self.store.past, PREFIX + self.request.name
        return [past[at].get(key) for at in range(self.begun, self.ended + 1)]


METHODS = {
    "create": ("POST", False), "update": ("PUT", True), "patch": ("PATCH", True),
    "delete": ("DELETE", True), "get": ("GET", True), "list": ("GET", False),
}  # fmt: skip


def revision_of(obj: Any) -> int | None:
    revision = obj.metadata.resource_version
    return None if revision is None else int(revision)


def check_writes(writes: dict[int, Asked], changes: list[Change[Any]], others: set[str]) -> None:
    """Whether the answers to the writes say what happened to the store. `others`: the uids of what
    other API servers deleted."""
    deleted = {c.previous.value.metadata.uid for c in changes if c.record is None and c.previous}
    surely_deleted: set[str] = set()
    for number, one in writes.items():
        response, verb = one.response, one.request.verb
        event(f"{verb}: {response and response.code}")
        made = [c.record for c in changes if c.record and c.record.value.data["by"] == str(number)]
        assert len(made) <= 1, "a transaction takes effect at most once"
        if response is None:
            continue  # STORE-26: it took effect, or not
        if response.ok and verb == "delete":
            uid = response.body.details.uid
            assert uid in deleted - others - surely_deleted
            surely_deleted.add(uid)
        elif response.ok:
            assert [r.mod_revision for r in made] == [revision_of(response.body)]
            assert one.begun < made[0].mod_revision <= one.ended
        else:
            assert not made, f"answered with {response.code}, and yet it took effect"
            check_refusal(one, response.code)
    unknown = [o for o in writes.values() if o.request.verb == "delete" and o.response is None]
    assert len(deleted - others - surely_deleted) <= len(unknown)


def check_refusal(one: Asked, code: int) -> None:
    """Whether the store had a state, while the request was handled, in which it is refused
    (LIST-14)."""
    request, records = one.request, one.records()
    if code == 404:
        assert None in records, "the object existed all the time"
    elif code == 409 and request.verb == "create":
        assert any(records), "the object never existed"
    elif code == 409:
        wanted = (
            request.body.metadata.resource_version
            if request.verb == "update"
            else request.body.preconditions.resource_version
        )
        assert any(record and str(record.mod_revision) != wanted for record in records)
    else:
        assert code in (500, 503)  # STORE-26: it failed, without effect


def check_read(one: Asked) -> None:
    """Whether a read shows a state that is recent enough (LIST-14)."""
    request, response, past = one.request, one.response, one.store.past
    assert response is not None
    latest = not request.options.resource_version
    event(f"{request.verb} {'latest' if latest else 'any'}: {response.code}")
    if response.code == 503:
        assert latest or request.verb == "get"  # a refresh failed
    elif request.verb == "list":
        revision = revision_of(response.body)
        assert revision in past and (not latest or one.begun <= revision <= one.ended)
        shown = [
            (r.value.metadata.name, r.mod_revision) for r in past[revision].list(PREFIX).records
        ]
        assert [(o.metadata.name, revision_of(o)) for o in response.body.items] == shown
    elif latest or not response.ok:
        found = revision_of(response.body) if response.ok else None
        assert found in [record and record.mod_revision for record in one.records()]


class Watching:
    """A watch of the API server under test; with a revision it starts there, else now."""

    def __init__(self, api: ApiServer, store: ScriptedStore, start: int | None) -> None:
        self.store = store
        self.starts = [start] if start else [store.truth.revision]
        self.is_exact = start is not None
        self.events: list[WatchEvent] = []
        self.ended: list[int] = []
        api.watch(a_request("watch", "", "", start), self.deliver, self.ended.append)

    def deliver(self, events: tuple[WatchEvent, ...]) -> None:
        if not self.events and not self.is_exact:
            self.starts = list(range(self.starts[0], self.store.truth.revision + 1))
        self.events += events

    def expected(self, start: int) -> list[tuple[str, str, int]]:
        """The events of a watch that starts at this revision."""
        changes = self.store.truth.changes(PREFIX, start)
        initial = [] if self.is_exact else self.store.past[start].list(PREFIX).records
        return [
            *(("ADDED", record.value.metadata.name, record.mod_revision) for record in initial),
            *(
                (
                    "DELETED" if c.record is None else "MODIFIED" if c.previous else "ADDED",
                    c.key.removeprefix(PREFIX),
                    c.revision,
                )
                for c in changes
            ),
        ]

    def check(self) -> None:
        """Whether it got what the store had, and every change after that, once and in order."""
        told = [(e.type, e.object.metadata.name, e.revision) for e in self.events]
        if not told and not self.is_exact:
            self.starts = list(range(self.starts[0], self.store.truth.revision + 1))
        if self.ended:
            assert self.ended == [503] and not told and not self.is_exact
        else:
            assert told in [self.expected(start) for start in self.starts]


asks = st.tuples(
    st.just("ask"),
    st.sampled_from([*WRITES, *WRITES, "get", "list"]),
    st.sampled_from("ab"),
    st.sampled_from(["none", "none", "old", "any", "known"]),
)
acts = st.one_of(
    asks,
    asks,
    st.tuples(st.just("commit"), st.integers(0, 3)),
    st.tuples(st.just("commit"), st.integers(0, 3)),
    st.tuples(st.just("show")),
    st.tuples(st.just("show")),
    st.tuples(
        st.just("other"), st.sampled_from(["create", "patch", "delete"]), st.sampled_from("ab")
    ),
    st.tuples(st.just("lose"), st.integers(0, 3)),
    st.tuples(st.just("find"), st.integers(0, 3)),
    st.tuples(st.just("fail"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("refuse_refreshes")),
    st.tuples(st.just("watch")),
)


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


A_LIST = ("ask", "list", "a", "none")


@example([A_LIST, ("show",), ("show",), ("other", "create", "b"), A_LIST, ("show",)], True)
@given(st.lists(acts, min_size=15, max_size=50), st.booleans())
def test_list_14_store_23_24_26_answers_and_watches_of_a_server_on_a_shared_store_are_true(
    script: list[tuple[Any, ...]], over_http: bool
) -> None:
    # Shows STORE-23.a, STORE-23.c, STORE-23.e, STORE-24.a, STORE-26.a, STORE-26.b, STORE-26.c,
    # STORE-26.d, LIST-14.a, LIST-14.b, LIST-14.c, LIST-14.d, LIST-14.e.
    async def test() -> None:
        store = ScriptedStore(a_start())
        start = store.truth.revision
        api = ApiServer(store, Clock(), Config(users={TOKEN: ADMIN}))
        front, tasks = Front(api), []
        every: list[Asked] = []
        watches = [Watching(api, store, start)]
        others: set[str] = set()

        def ask(verb: str, name: str, wish: str) -> None:
            known = store.here.get(PREFIX + name)
            revision = None
            if verb in ("get", "list"):
                revision = 0 if wish == "any" else None
            elif wish == "old" or wish == "known":
                revision = known.mod_revision if known and wish == "known" else start - 1
            one = Asked(a_request(verb, name, str(len(every)), revision), store)
            every.append(one)
            if over_http:
                tasks.append(asyncio.ensure_future(one.send(front)))
            else:
                api.submit(one.request, one.answer)

        def other(verb: str, name: str) -> None:
            request = a_request(verb, name, "other", None)
            outcome = handle(Exchange(request, store.truth, api.context()))
            if isinstance(outcome, Commit):
                committed = store.write(outcome.txn)
                assert isinstance(committed, Committed)
                others.update(
                    c.previous.value.metadata.uid
                    for c in committed.changes
                    if c.record is None and c.previous
                )

        def watch() -> None:
            watches.append(Watching(api, store, None))

        here = {"ask": ask, "other": other, "watch": watch}
        for name, *arguments in script:
            (here.get(name) or getattr(store, name))(*arguments)
            await turns()
        while not store.is_settled:
            store.commit(0)
            store.show()
            await turns()
        await asyncio.gather(*tasks)
        writes = {n: one for n, one in enumerate(every) if one.request.verb in WRITES}
        check_writes(writes, list(store.truth.changes("/", start)), others)
        for one in every:
            if one.request.verb not in WRITES:
                check_read(one)
        for one in watches:
            one.check()
        codes = Counter(one.response.code for one in every if one.response)
        assert codes[500] == store.failures[TxnRefused]
        assert (
            codes[503] + sum(len(one.ended) for one in watches) == store.failures[StoreUnavailable]
        )
        api.stop()

    asyncio.run(test())


@pytest.mark.parametrize("late", ["account", "permission", "never"])
def test_list_14_a_user_and_a_permission_of_another_server_count_at_once(late: str) -> None:
    # Shows LIST-14.c, STORE-25.b, STORE-25.d.
    def may(attributes: Attributes, reader: Reader) -> Decision:
        return Decision(reader.get(PREFIX + "b") is not None)

    async def test() -> None:
        store = ScriptedStore(a_start())
        clock = Clock()
        config = Config(authorizer=may)
        token = make_token(
            "default",
            "robot",
            "sa",
            config.audiences,
            600,
            {},
            config,
            Context(clock.now(), CHANCE),
        )
        account = resources.SERVICE_ACCOUNTS.type(
            metadata=ObjectMeta(name="robot", namespace="default", uid="sa")
        )
        front = Front(ApiServer(store, clock, config))
        store.write(Txn((), (Put("/core/serviceaccounts/default/robot", account),)))
        if late == "permission":
            store.show()
        store.write(Txn((), (Put(PREFIX + "b", config_map("b")),)))
        path = CONFIG_MAPS_PATH + "/a"
        headers = {"authorization": f"Bearer {token}"}
        answer = asyncio.ensure_future(asked(front, "GET", path, **headers))
        while not answer.done():
            await turns()
            if late == "never":
                store.refuse_refreshes()
            else:
                store.show()
        assert answer.result()[0] == (401 if late == "never" else 200)

    asyncio.run(test())


# --- the store that only this process writes


class Outcomes:
    """What a `LocalStore` announces and reports, compared with `History`."""

    def __init__(self, store: LocalStore[Any]) -> None:
        self.store, self.history = store, EMPTY
        self.announced: list[Change[Any]] = []
        self.waiting: list[Txn[Any]] = []
        self.is_submitting = False
        store.listen(self.announce)

    def announce(self, changes: Sequence[Change[Any]]) -> None:
        assert {c.revision for c in changes} & {c.revision for c in self.announced} == set()
        assert changes[-1].revision == self.store.revision
        self.announced += changes

    def submit(self, txn: Txn[Any]) -> None:
        self.waiting.append(txn)
        self.is_submitting = True
        self.store.submit(txn, partial(self.done, txn))
        self.is_submitting = False

    def done(self, txn: Txn[Any], outcome: Any) -> None:
        assert not self.is_submitting and self.waiting.pop(0) is txn
        event(type(outcome).__name__)
        if isinstance(outcome, StoreUnavailable):
            return
        if isinstance(outcome, TxnRefused):
            assert txn is REFUSED
            return
        self.history, expected = commit(self.history, txn, stamp_number)
        assert outcome == expected
        if isinstance(outcome, Committed):
            assert all(change in self.announced for change in outcome.changes)
            for change in outcome.changes:
                assert self.store.get(change.key, change.revision) == change.record
        else:
            assert self.store.revision >= outcome.revision


REFUSED: Txn[Any] = Txn((), (Put("/core/nodes/a", (1, 0)), Put("/core/nodes/a", (2, 0))))


@pytest.mark.parametrize("durable", [False, True])
def test_store_29_whatever_is_written_memory_and_file_are_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, durable: bool
) -> None:
    # Shows STORE-29.a, STORE-29.b, STORE-29.c.
    monkeypatch.setattr("refk8s.store.window.HISTORY_CHANGES_MAX", 1_000)
    monkeypatch.setattr("refk8s.store.window.HISTORY_BYTES_MAX", 100_000)
    monkeypatch.setattr("refk8s.store.local.COMPACT_PAUSE_SECONDS", 0)

    def write(number: int, size: int) -> Txn[bytes]:
        key = f"/core/nodes/n{number // 2 % 20}"
        return Txn((), (Put(key, b"x" * size) if number % 2 == 0 else Delete(key),))

    async def test() -> list[int]:
        engine: Any = MemoryEngine(size_of=len)
        if durable:
            engine = SqliteEngine(tmp_path / "store.db", bytes, lambda key, wire: wire)
        store: LocalStore[bytes] = LocalStore(engine)
        files: list[int] = []
        for size in (10, 1_000):
            for number in range(8_000):
                store.submit(write(number, size), lambda outcome: None)
                while number % 100 == 99 and (store._waiting or store._writing is not None):
                    await asyncio.sleep(0)
            while store._discarding is not None:
                await asyncio.sleep(0)
            history = store.changes("/", store.compacted)
            kept = sum(len((each.record or each.previous).value) for each in history)
            assert 50 < len(history) <= 1_000 and kept <= 100_000
            assert max(len(history) / 1_000, kept / 100_000) > 0.7
            if durable:
                [rows] = engine._connection.execute("SELECT count(*) FROM journal").fetchone()
                assert rows <= len(history) + 20 + 1
                files.append((tmp_path / "store.db").stat().st_size)
        await store.close()
        return files

    assert all(size < 2 << 20 for size in asyncio.run(test()))


def test_store_30_a_store_in_memory_commits_in_the_next_turn() -> None:
    # Shows STORE-30.e, STORE-30.f.
    async def play() -> None:
        store: LocalStore[Any] = LocalStore(MemoryEngine())
        outcomes: list[Any] = []
        for name in ("a", "b"):
            store.submit(Txn((), (Put(PREFIX + name, name),)), outcomes.append)
        assert not outcomes and store.get(PREFIX + "a") is None
        await asyncio.sleep(0)
        assert [type(one) for one in outcomes] == [Committed, Committed]
        assert store.get(PREFIX + "b") is not None
        store.submit(Txn((), (Put(PREFIX + "c", "c"),)), outcomes.append)
        await store.close()
        assert store.get(PREFIX + "c") is not None and len(outcomes) == 3

    asyncio.run(play())


def test_store_30_reads_go_on_while_a_batch_is_made_durable(tmp_path: Path) -> None:
    # Shows STORE-30.a, STORE-30.b, STORE-30.c, STORE-30.d.
    async def test() -> None:
        engine: Any = SqliteEngine(tmp_path / "store.db", encode, decode, stamp_number)
        disk, writes = threading.Event(), [0]
        end_write = engine.end_write

        def slow() -> None:
            disk.wait()
            writes[0] += 1
            end_write()

        engine.end_write = slow
        store: LocalStore[Any] = LocalStore(engine)
        seen: list[tuple[str, bool]] = []

        def put(name: str) -> Txn[Any]:
            return Txn((), (Put(f"/core/nodes/{name}", (1, 0)),))

        store.submit(put("a"), lambda _: seen.append(("a", store._writing is not None)))
        while store._writing is None:
            await asyncio.sleep(0)
        for name in "bcd":
            store.submit(put(name), lambda _, name=name: seen.append((name, False)))
            await turns()
            assert store.get("/core/nodes/a") is None and store.revision == 1 and not seen
        probe = asyncio.create_task(store.probe())
        await turns()
        assert not probe.done(), "it waits for the file"
        disk.set()
        await probe
        while len(seen) < 4:
            await asyncio.sleep(0)
        assert seen == [("a", True), ("b", False), ("c", False), ("d", False)]
        assert writes == [2] and store.revision == 5
        store.submit(put("e"), lambda _: seen.append(("e", False)))
        await store.close()
        assert seen[-1] == ("e", False)

    asyncio.run(test())


@given(
    st.lists(
        st.one_of(
            attempts, attempts, st.sampled_from(["turns", "a turn", "probe", "fail", "refuse"])
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_store_23_24_28_a_local_store_commits_announces_and_reports_like_the_history(
    script: list[Attempt | str], durable: bool
) -> None:
    # Shows STORE-23.a, STORE-23.b, STORE-23.d, STORE-23.f, STORE-24.a, STORE-24.b, STORE-25.c,
    # STORE-28.a, STORE-28.b.
    async def test(path: Path) -> None:
        engine: Any = MemoryEngine(stamp_number)
        if durable:
            engine = SqliteEngine(path / "store.db", encode, decode, stamp_number)
        failures, commit_batch = [0], engine.commit_batch

        def flaky(txns: Sequence[Txn[Any]]) -> Any:
            if failures[0]:
                failures[0] -= 1
                raise StoreUnavailable("full")
            return commit_batch(txns)

        engine.commit_batch = flaky
        if durable:
            end_write = engine.end_write

            def flaky_end() -> None:
                if failures[0]:
                    failures[0] -= 1
                    engine._connection.execute("ROLLBACK")
                    raise StoreUnavailable("full")
                end_write()

            engine.end_write = flaky_end
        store = LocalStore(engine)
        outcomes = Outcomes(store)

        async def settled() -> None:
            await turns()
            while store._waiting or store._writing is not None:
                await asyncio.sleep(0)

        probes: list[asyncio.Task[None]] = []
        for act in script:
            if act == "turns":
                await settled()
                assert not outcomes.waiting
            elif act == "a turn":
                await asyncio.sleep(0)
            elif act == "probe":
                probes.append(asyncio.create_task(store.probe()))
            elif act == "fail":
                failures[0] += 1
            elif act == "refuse":
                outcomes.submit(REFUSED)
            else:
                outcomes.submit(act.against(store.get))
        shown = asyncio.get_running_loop().create_future()
        store.refresh(shown.set_result)
        assert not shown.done() and await shown is None
        await settled()
        assert not outcomes.waiting
        history = outcomes.history
        assert outcomes.announced == list(history.changes("/", 1))
        assert (store.revision, store.list("/")) == (history.revision, history.list("/"))
        failures[0] = 0
        outcomes.submit(Txn((), (Put("/core/nodes/z", (9, 0)),)))
        await store.close()
        await asyncio.gather(*probes)
        assert not outcomes.waiting, "what was submitted is committed before the store is closed"

    with TemporaryDirectory() as path:
        asyncio.run(test(Path(path)))
