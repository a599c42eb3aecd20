"""Laws of the store, rules STORE-1 ... STORE-17 (spec/store.md). STORE-18: test_store_open.py; kill
-9: tests/integration.

The first half holds `History` and `commit` to the predicates of properties/predicates/store.py. The
second runs the engines in lockstep with them, so that what holds for the one holds for the others.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from refk8s.core.properties.predicates import store as must
from refk8s.core.store import (
    ABSENT,
    EMPTY,
    Change,
    Committed,
    Compacted,
    Compare,
    Conflict,
    Delete,
    FutureRevision,
    History,
    Page,
    Put,
    Record,
    Txn,
    commit,
    compact,
    resource_prefix,
)
from refk8s.core.store_port import StoreUnavailable
from refk8s.store.memory import MemoryEngine
from refk8s.store.sqlite import SqliteEngine

# --- What is generated. Few keys, so that they meet; names that are beginnings of one another, so
# that prefixes can go wrong.

KEYS = [
    *(
        f"/core/{resource}/{namespace}/{name}"
        for resource in ("pods", "pods-x")
        for namespace in ("default", "default-2")
        for name in "ab"
    ),
    "/core/nodes/a",
    "/core/nodes/a-b",
    "/example.com/pods/default/a",
]
PREFIXES = [
    "/",
    "/core/",
    "/core/pods/",
    "/core/pods/default/",
    "/core/pods/default-2/",
    "/core/pods-x/",
    "/core/nodes/",
]
PREFIXES += [
    "/example.com/pods/",
    "/core/pods/default",
    "/core/pods/default/a",
    "/core/po",
    "/core/nodes/a",
    "/core/services/",
]

Value = tuple[int, int]
"""A number that tells writes apart, and the revision that the stamp puts in."""


def stamp(value: Value, revision: int) -> Value:
    return (value[0], revision)


def encode(value: Value) -> bytes:
    return msgspec.json.encode(value)


def decode(key: str, wire: bytes) -> Value:
    return msgspec.json.decode(wire, type=tuple[int, int])


class Attempt(msgspec.Struct, frozen=True):
    """A transaction still without revisions: each compare guesses how far the key's mod_revision is
    from what it is (None: absent)."""

    guesses: tuple[tuple[str, int | None], ...]
    writes: tuple[Put[Value] | Delete, ...]

    def against(self, look_up: Callable[[str], Record[Value] | None]) -> Txn[Value]:
        compares = []
        for key, distance in self.guesses:
            record = look_up(key)
            found = ABSENT if record is None else record.mod_revision
            compares.append(Compare(key, ABSENT if distance is None else max(0, found + distance)))
        return Txn(tuple(compares), self.writes)


keys = st.sampled_from(KEYS)
writes = st.one_of(
    st.builds(Put, keys, st.tuples(st.integers(0, 9), st.just(0))), st.builds(Delete, keys)
)
attempts = st.builds(
    Attempt,
    st.lists(st.tuples(keys, st.sampled_from([0, 0, 0, 0, -1, 1, None])), max_size=3).map(tuple),
    st.lists(writes, max_size=4, unique_by=lambda write: write.key).map(tuple),
)


class Step(msgspec.Struct, frozen=True):
    before: History[Value]
    txn: Txn[Value]
    outcome: Committed[Value] | Conflict
    after: History[Value]


def run(tried: Sequence[Attempt], history: History[Value] = EMPTY) -> list[Step]:
    steps = []
    for attempt in tried:
        txn = attempt.against(history.get)
        after, outcome = commit(history, txn, stamp)
        steps.append(Step(history, txn, outcome, after))
        history = after
    return steps


runs = st.lists(attempts, min_size=1, max_size=15).map(run)


def state_of(history: History[Value], prefix: str = "/") -> dict[str, Record[Value]]:
    return {record.key: record for record in history.list(prefix).records}


def holds(violations: Iterator[str]) -> None:
    assert list(violations) == []


# --- Writing


@given(runs)
def test_store_1_a_transaction_that_changes_something_raises_the_revision_by_one_and_nothing_else_does(
    steps: list[Step],
) -> None:
    assert steps[0].before.revision == 1
    for step in steps:
        holds(
            must.store_1_one_transaction_one_revision(
                step.before.revision, step.outcome, step.after.revision
            )
        )


@given(runs)
def test_store_2_a_transaction_takes_effect_exactly_when_every_compare_holds(
    steps: list[Step],
) -> None:
    for step in steps:
        holds(must.store_2_compare_then_commit(state_of(step.before), step.txn, step.outcome))


@given(runs)
def test_store_3_all_writes_of_a_transaction_show_or_none(steps: list[Step]) -> None:
    for step in steps:
        holds(
            must.store_3_all_or_nothing(
                state_of(step.before), step.txn, step.outcome, state_of(step.after)
            )
        )


@given(keys)
def test_store_3_a_key_twice_among_the_writes_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        commit(EMPTY, Txn((), (Put(key, 1), Put(KEYS[0] + "0", 2), Delete(key))))


@given(runs)
def test_store_4_deleting_what_does_not_exist_is_no_change(steps: list[Step]) -> None:
    for step in steps:
        holds(
            must.store_4_deleting_what_does_not_exist_is_no_change(
                state_of(step.before), step.txn, step.outcome
            )
        )


@given(runs)
def test_store_5_a_record_knows_its_revisions_and_so_does_its_value(steps: list[Step]) -> None:
    for step in steps:
        holds(
            must.store_5_a_record_knows_its_revisions(
                state_of(step.before), step.txn, step.outcome, stamp
            )
        )


# --- Reading


@given(runs, st.sampled_from(PREFIXES))
def test_store_6_changes_come_in_the_order_of_revision_and_key(
    steps: list[Step], prefix: str
) -> None:
    history = steps[-1].after
    changes = history.changes(prefix, 0)
    holds(must.store_6_changes_have_one_order(changes))
    answered = [
        change
        for step in steps
        if isinstance(step.outcome, Committed)
        for change in step.outcome.changes
    ]
    assert list(changes) == [change for change in answered if change.key.startswith(prefix)]


@given(runs, st.sampled_from(PREFIXES))
def test_store_7_a_past_revision_is_read_as_it_was(steps: list[Step], prefix: str) -> None:
    present = steps[-1].after
    for past in [EMPTY, *(step.after for step in steps)]:
        then = state_of(past)
        holds(
            must.store_7_a_past_revision_is_read_as_it_was(
                then, present.list(prefix, at=past.revision), prefix
            )
        )
        assert {key: present.get(key, at=past.revision) for key in KEYS} == {
            key: then.get(key) for key in KEYS
        }


@given(runs, st.integers(0, 20))
def test_store_8_compaction_forgets_what_is_older_and_nothing_else(
    steps: list[Step], back: int
) -> None:
    before = steps[-1].after
    revision = max(0, before.revision - back)
    after = compact(before, revision)
    assert (after.revision, after.compacted, after.list("/")) == (
        before.revision,
        revision,
        before.list("/"),
    )
    for at in range(before.revision + 1):
        if at < revision:
            for refused in (
                lambda at=at: after.list("/", at),
                lambda at=at: after.get(KEYS[0], at),
                lambda at=at: after.changes("/", at),
            ):
                with pytest.raises(
                    Compacted, match=f"compacted up to revision {revision}"
                ) as caught:
                    refused()
                assert caught.value.compact_revision == revision
        else:
            assert after.list("/", at) == before.list("/", at)
            assert after.changes("/", at) == before.changes("/", at)
    assert compact(after, max(0, revision - 1)) == after, "compaction never goes back"


@given(runs, st.integers(1, 3))
def test_store_9_the_future_is_refused(steps: list[Step], ahead: int) -> None:
    history = steps[-1].after
    future = history.revision + ahead
    for refused in (
        lambda: history.list("/", future),
        lambda: history.get(KEYS[0], future),
        lambda: history.changes("/", future),
        lambda: compact(history, future),
    ):
        with pytest.raises(FutureRevision, match=f"at revision {history.revision} ") as caught:
            refused()
        assert caught.value.revision == history.revision


@given(runs, st.sampled_from(PREFIXES), st.integers(1, 4), st.lists(attempts, max_size=8))
def test_store_10_pages_make_one_list_whatever_is_written_meanwhile(
    steps: list[Step], prefix: str, limit: int, meanwhile: list[Attempt]
) -> None:
    history = steps[-1].after
    whole = history.list(prefix)
    pages = [history.list(prefix, limit=limit)]
    for attempt in [*meanwhile, *([Attempt((), ())] * len(KEYS))]:
        if not pages[-1].more:
            break
        history = run([attempt], history)[0].after
        pages.append(
            history.list(prefix, at=whole.revision, after=pages[-1].records[-1].key, limit=limit)
        )
    holds(must.store_10_pages_make_one_list(pages, limit, whole))


@given(runs, st.sampled_from(PREFIXES))
def test_store_11_the_changes_after_a_list_lead_from_it_to_the_present(
    steps: list[Step], prefix: str
) -> None:
    present = steps[-1].after
    for past in [EMPTY, *(step.after for step in steps)]:
        changes = present.changes(prefix, past.revision)
        holds(
            must.store_11_a_watch_is_complete(
                state_of(past, prefix), past.revision, changes, state_of(present, prefix)
            )
        )
        holds(
            must.store_11_no_revision_is_missing(
                past.revision, present.changes("/", past.revision), present.revision
            )
        )


@given(runs, st.sampled_from(PREFIXES), st.integers(1, 4))
def test_store_11_a_watch_that_is_resumed_misses_nothing_and_never_sees_half_a_transaction(
    steps: list[Step], prefix: str, limit: int
) -> None:
    chunks: list[tuple[Change[Value], ...]] = []
    for step in steps:  # reads as it goes, always behind
        after = chunks[-1][-1].revision if chunks else 1
        chunk = step.after.changes(prefix, after, limit)
        chunks += [chunk] if chunk else []
    history = steps[-1].after
    while rest := history.changes(prefix, chunks[-1][-1].revision if chunks else 1, limit):
        chunks.append(rest)
    holds(must.store_11_a_revision_is_never_split(chunks))
    assert tuple(change for chunk in chunks for change in chunk) == history.changes(prefix, 1)


@given(runs, st.sampled_from(PREFIXES), st.integers(0, 10))
def test_store_12_nothing_below_a_prefix_has_changed_after_its_revision(
    steps: list[Step], prefix: str, back: int
) -> None:
    for history in (
        steps[-1].after,
        compact(steps[-1].after, max(0, steps[-1].after.revision - back)),
    ):
        changes = history.changes(prefix, history.compacted)
        holds(
            must.store_12_the_prefix_revision_tells_a_cache(
                history.prefix_revision(prefix), history.compacted, changes
            )
        )


@given(runs, st.integers(0, 5))
def test_store_10_to_store_12_what_a_prefix_and_a_limit_show_is_a_beginning_of_the_whole(
    steps: list[Step], limit: int
) -> None:
    """All prefixes of one history: a page is so many of the records; a limit on changes is met at
    the next end of a revision."""
    history = steps[-1].after
    for prefix in PREFIXES:
        records = tuple(
            record for record in history.list("/").records if record.key.startswith(prefix)
        )
        assert history.list(prefix) == Page(records, history.revision, False, 0)
        left = max(0, len(records) - limit)
        assert history.list(prefix, limit=limit) == Page(
            records[:limit], history.revision, left > 0, left
        )
        assert history.list(prefix, at=1) == Page((), 1, False, 0), "a page of the past says which"
        changes = tuple(
            change for change in history.changes("/", 1) if change.key.startswith(prefix)
        )
        assert history.prefix_revision(prefix) == (changes[-1].revision if changes else 0)
        ends = [
            n
            for n, (one, other) in enumerate(pairwise(changes), 1)
            if one.revision != other.revision
        ]
        assert (
            history.changes(prefix, 1, limit)
            == changes[: next((n for n in ends if n >= limit), len(changes))]
        )


@given(st.lists(st.tuples(attempts, st.integers(0, 3)), max_size=20))
def test_store_13_a_history_stays_as_it_was_whatever_is_committed_to_it_and_to_its_forks(
    tree: list[tuple[Attempt, int]],
) -> None:
    def reading(history: History[Value]) -> Any:
        return (
            history.revision,
            history.list("/"),
            history.changes("/", 0),
            history.prefix_revision("/core/pods/"),
        )

    grown = [(EMPTY, reading(EMPTY))]
    for attempt, back in tree:  # from the newest, or from one a little older, which is a fork
        (step,) = run([attempt], grown[max(0, len(grown) - 1 - back)][0])
        made = step.outcome.changes if isinstance(step.outcome, Committed) else ()
        assert step.after.changes("/", 0) == step.before.changes("/", 0) + made, (
            "its past is its own"
        )
        grown.append((step.after, reading(step.after)))
    for history, as_it_was in grown:
        assert reading(history) == as_it_was


@given(st.lists(attempts, max_size=12), st.lists(attempts, max_size=12))
def test_store_13_histories_are_equal_when_no_reader_can_tell_them_apart(
    one: list[Attempt], other: list[Attempt]
) -> None:
    def reading(history: History[Value]) -> Any:
        return (
            history.revision,
            history.compacted,
            history.list("/").records,
            history.changes("/", history.compacted),
        )

    histories = [run(attempts)[-1].after if attempts else EMPTY for attempts in (one, other, one)]
    histories.append(compact(histories[0], histories[0].revision))
    for a in histories:
        for b in histories:
            assert (a == b) == (reading(a) == reading(b))
        assert (a == "a history") is False
    records = [
        change.record
        for history in histories
        for change in history.changes("/", history.compacted)
        if change.record is not None
    ]
    for x in records:
        for y in records:
            same = [
                getattr(x, name) == getattr(y, name)
                for name in ("key", "value", "create_revision", "mod_revision", "version")
            ]
            assert (x == y) == all(same)
        for name in ("mod_revision", "create_revision", "version"):
            assert x != msgspec.structs.replace(x, **{name: 99})
        assert x != msgspec.structs.replace(x, key="/core/pods/x/y")


@given(st.text("/ab", max_size=6))
def test_store_7_a_key_names_its_resource_with_its_first_two_segments(key: str) -> None:
    parts = key.split("/")
    if key.startswith("/") and len(parts) >= 4 and parts[1]:
        assert resource_prefix(key) == "/" + "/".join(parts[1:3]) + "/"
    elif not key.startswith("/") or len(parts) < 4:
        with pytest.raises(ValueError, match="not a key of the form"):
            resource_prefix(key)


# Every law has a premise; these show that the runs above meet it, so that no law holds for want of
# a case.
PREMISES: dict[str, Callable[[list[Step]], bool]] = {
    "STORE-1 nothing changes": lambda steps: any(
        s.txn.writes and s.after.revision == s.before.revision for s in steps
    ),
    "STORE-2 only the second compare fails": lambda steps: any(
        isinstance(s.outcome, Conflict)
        and s.outcome.failed == (s.txn.compares[-1].key,)
        and len({c.key for c in s.txn.compares}) == 2
        for s in steps
    ),
    "STORE-3 a transaction writes and deletes": lambda steps: any(
        isinstance(s.outcome, Committed)
        and {c.record is None for c in s.outcome.changes} == {True, False}
        for s in steps
    ),
    "STORE-4 an absent key is deleted": lambda steps: any(
        isinstance(s.outcome, Committed) and len(s.outcome.changes) < len(s.txn.writes)
        for s in steps
    ),
    "STORE-5 a key is created again": lambda steps: any(
        change.previous is None and any(c.key == change.key for c in s.before.changes("/", 0))
        for s in steps
        if isinstance(s.outcome, Committed)
        for change in s.outcome.changes
    ),
    "STORE-6 writes are listed in another order": lambda steps: any(
        len(s.txn.writes) > 1
        and s.txn.writes[0].key > s.txn.writes[1].key
        and isinstance(s.outcome, Committed)
        for s in steps
    ),
    "STORE-7 a key is gone that was there": lambda steps: any(
        change.record is None for change in steps[-1].after.changes("/", 0)
    ),
    "STORE-7 a key is there that was gone and there": lambda steps: any(
        record.create_revision > change.revision
        and record.key == change.key
        and change.record is None
        for change in steps[-1].after.changes("/", 0)
        for record in steps[-1].after.list("/").records
    ),
    "STORE-11 a limit falls inside a revision": lambda steps: any(
        isinstance(s.outcome, Committed) and len(s.outcome.changes) > 2 for s in steps
    ),
}


@pytest.mark.parametrize("premise", PREMISES)
def test_the_premises_of_the_laws_are_reached(premise: str) -> None:
    find(
        runs,
        PREMISES[premise],
        settings=settings(max_examples=3000, phases=[Phase.generate], database=None),
    )


# --- Engines


@contextmanager
def full_disk(bytes_per_file: int = 0) -> Iterator[None]:
    """Let writes to a file beyond so many bytes fail, as on a disk that takes no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


reached: Counter[str] = Counter()


class Lockstep(RuleBasedStateMachine):
    """The same requests to the history and to both engines. Whatever can be asked has the same
    answer (STORE-17)."""

    @initialize(past=st.lists(attempts, max_size=12))
    def start(self, past: list[Attempt]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="refk8s-store-"))
        self.path = self.directory / "store.db"
        self.history: History[Value] = EMPTY
        self.memory: MemoryEngine[Value] = MemoryEngine(stamp, lambda value: len(encode(value)))
        self.sqlite = self.open()
        for attempt in past:
            self.commit_batch([attempt])

    def open(self) -> SqliteEngine[Value]:
        return SqliteEngine(self.path, encode, decode, stamp, "ours")

    @rule(batch=st.lists(attempts, max_size=4))
    def commit_batch(self, batch: list[Attempt]) -> None:
        """STORE-16: one by one to the history, together to the engines."""
        txns, expected = [], []
        for attempt in batch:
            txns.append(attempt.against(self.history.get))
            self.history, outcome = commit(self.history, txns[-1], stamp)
            expected.append(outcome)
        assert list(self.memory.commit_batch(txns)) == expected
        assert list(self.sqlite.commit_batch(txns)) == expected
        reached["two in a batch write one key"] += any(
            {w.key for w in one.writes} & {w.key for w in other.writes}
            for one, other in pairwise(txns)
        )

    @rule(changes_max=st.integers(0, 9), bytes_max=st.integers(0, 200))
    def ask_for_the_surplus(self, changes_max: int, bytes_max: int) -> None:
        """STORE-29: the least revision up to which the history has to go."""
        history = self.history.changes("/", self.history.compacted)
        for expected in (self.history.compacted, *[change.revision for change in history]):
            kept = [each for each in history if each.revision > expected]
            sizes = [len(encode((each.record or each.previous).value)) for each in kept]
            if len(kept) <= changes_max and sum(sizes) <= bytes_max:
                break
        for engine in (self.memory, self.sqlite):
            found = engine.surplus(changes_max, bytes_max)
            assert found == (None if expected == self.history.compacted else expected)
        reached["surplus"] += expected != self.history.compacted

    @rule(
        batch=st.lists(attempts, min_size=1, max_size=4),
        room=st.sampled_from([None, 0, 100, 4200, 9000]),
    )
    def commit_batch_to_a_full_disk(self, batch: list[Attempt], room: int | None) -> None:
        """STORE-15: nothing of it is in effect, also when a part was written before the disk was
        full; or all of it, if it fits."""
        txns = [attempt.against(self.history.get) for attempt in batch]
        written = self.path.with_name("store.db-wal").stat().st_size
        try:
            with full_disk(0 if room is None else written + room):
                answers = self.sqlite.commit_batch(txns)
        except StoreUnavailable:
            reached["full disk after a part was written" if room else "full disk"] += 1
            return
        assert room is not None or not any(
            isinstance(answer, Committed) and answer.changes for answer in answers
        )
        reached["nearly full disk"] += room is not None
        self.memory.commit_batch(txns)
        for txn in txns:
            self.history, _ = commit(self.history, txn, stamp)

    @rule(batch=st.lists(attempts, min_size=1, max_size=3))
    def look_before_it_is_durable(self, batch: list[Attempt]) -> None:
        """STORE-16: staged and even written, a batch shows nowhere before it is published."""
        txns = [attempt.against(self.history.get) for attempt in batch]
        staged = self.sqlite.stage(txns)
        self.compare_everything()
        self.sqlite.write(staged)
        self.compare_everything()
        self.sqlite.publish(staged)
        self.memory.commit_batch(txns)
        for txn in txns:
            self.history, _ = commit(self.history, txn, stamp)

    @rule(back=st.sampled_from([2, 6, 12, 0]))
    def compact(self, back: int) -> None:
        revision = max(0, self.history.revision - back)
        self.history = compact(self.history, revision)
        self.memory.compact(revision)
        self.sqlite.compact(revision)
        reached["compacted to the present"] += back == 0
        needed = len(self.history.list("/", at=self.history.compacted).records) + len(
            self.history.changes("/", self.history.compacted)
        )
        assert self.sqlite._connection.execute("SELECT count(*) FROM journal").fetchone() == (
            needed,
        ), "what is forgotten takes no room"

    @rule()
    def compact_on_a_full_disk(self) -> None:
        if self.history.compacted < self.history.revision:
            with full_disk(), pytest.raises(StoreUnavailable):
                self.sqlite.compact(self.history.revision)

    @rule()
    def reopen(self) -> None:
        """STORE-14, after an orderly end."""
        self.sqlite.close()
        self.sqlite = self.open()

    @rule()
    def crash(self) -> None:
        """STORE-14, after none: a new process finds what the old one had given to the operating
        system."""
        fresh = Path(tempfile.mkdtemp(prefix="crash-", dir=self.directory))
        for file in self.path.parent.glob("store.db*"):
            shutil.copy(file, fresh)
        self.sqlite.close()
        self.path = fresh / "store.db"
        self.sqlite = self.open()
        reached["crash with changes"] += self.history.revision > 1

    @rule(
        prefix=st.sampled_from(PREFIXES),
        key=keys,
        after=st.none() | keys,
        limit=st.none() | st.integers(0, 5),
    )
    def read(self, prefix: str, key: str, after: str | None, limit: int | None) -> None:
        """At the present, at every revision that is known, and at one to either side."""
        self.ask(lambda store: store.prefix_revision(prefix))
        for at in (None, *range(self.history.compacted - 1, self.history.revision + 2)):
            self.ask(lambda store, at=at: store.get(key, at))
            self.ask(
                lambda store, at=at: store.changes(
                    prefix, store.revision if at is None else at, limit
                )
            )
            page = self.ask(lambda store, at=at: store.list(prefix, at, after, limit))
            reached[type(page).__name__] += 1
            reached["a page of the past with more"] += (
                isinstance(page, Page) and page.more and page.revision < self.history.revision
            )

    def ask(self, question: Callable[[Any], Any]) -> Any:
        answers = []
        for store in (self.history, self.memory, self.sqlite):
            try:
                answers.append(question(store))
            except (Compacted, FutureRevision) as error:
                answers.append(error)
        expected, *others = answers
        for answer in others:
            if isinstance(expected, Exception):
                assert (type(answer), vars(answer)) == (type(expected), vars(expected))
            else:
                assert answer == expected
        return expected

    @invariant()
    def compare_everything(self) -> None:
        self.ask(lambda store: (store.revision, store.compacted))
        self.ask(lambda store: store.list("/"))
        self.ask(lambda store: store.changes("/", store.compacted))

    def teardown(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()
            shutil.rmtree(self.directory)


def test_store_17_engines_cannot_be_told_apart_from_the_history() -> None:
    """With STORE-14 (reopen, crash), STORE-15 (full disk) and STORE-16 (batches, and looking in
    between) on the way."""
    reached.clear()
    run_state_machine_as_test(
        Lockstep,
        settings=settings(
            max_examples=80,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    premises = ["two in a batch write one key", "compacted to the present", "crash with changes"]
    premises += ["full disk", "full disk after a part was written", "nearly full disk"]
    premises += ["surplus", "Page", "Compacted", "FutureRevision", "a page of the past with more"]
    assert [premise for premise in premises if not reached[premise]] == []


def test_store_16_a_batch_decided_on_a_state_that_is_no_more_is_not_published() -> None:
    engine: MemoryEngine[Value] = MemoryEngine(stamp)
    late = engine.stage([Txn((), (Put(KEYS[0], (1, 0)),))])
    engine.commit_batch([Txn((), (Put(KEYS[0], (2, 0)),))])
    with pytest.raises(ValueError, match="staged at revision 1"):
        engine.publish(late)


def test_store_15_a_key_that_cannot_be_written_takes_its_whole_batch_with_it_and_no_later_one(
    tmp_path: Path,
) -> None:
    engine = SqliteEngine(tmp_path / "store.db", encode, decode)
    with pytest.raises(UnicodeEncodeError):
        engine.commit_batch(
            [Txn((), (Put(KEYS[0], (1, 0)),)), Txn((), (Put("/core/pods/default/\ud800", (2, 0)),))]
        )
    assert (engine.revision, engine.list("/").records) == (1, ())
    engine.commit_batch([Txn((), (Put(KEYS[1], (3, 0)),))])
    engine.close()
    engine = SqliteEngine(tmp_path / "store.db", encode, decode)
    assert [(record.key, record.mod_revision) for record in engine.list("/").records] == [
        (KEYS[1], 2)
    ]


def test_store_14_every_commit_is_synchronised_to_the_disk_before_it_is_answered(
    tmp_path: Path,
) -> None:
    """Killing processes cannot show this, for the operating system outlives them."""
    engine = SqliteEngine(tmp_path / "store.db", encode, decode)
    pragmas = ("journal_mode", "synchronous", "fullfsync")
    assert [engine._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas] == [
        "wal",
        2,
        1,
    ]
