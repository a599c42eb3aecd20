"""Predicates of any store. Rules STORE-1 to STORE-7, STORE-10 to STORE-12 (spec/store.md).

Each predicate yields a sentence for every way in which an observation breaks its rule. Observations
are plain values (answers, states as dictionaries, sequences of changes), so the predicates check an
engine, a simulated run and the recording of another cluster alike.

    act   STORE-1 to STORE-5    one transaction: state before, request, answer, state after
    inv   STORE-6, 7, 10, 11    reads and watches
    inv   STORE-12              caches

Left out: STORE-8, STORE-9 and the rules from STORE-14 on are about errors, disks and processes;
their tests check them directly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from refk8s.core.store import (
    ABSENT,
    Change,
    Committed,
    Conflict,
    Page,
    Put,
    Record,
    Revision,
    Stamp,
    Txn,
    unstamped,
)

State: TypeAlias = Mapping[str, Record[Any]]
"""All records by key, at one revision."""

Outcome: TypeAlias = Committed[Any] | Conflict


def store_1_one_transaction_one_revision(
    before: Revision, outcome: Outcome, after: Revision
) -> Iterator[str]:
    """`before` and `after` are the store's revisions around the transaction."""
    expected = before + 1 if isinstance(outcome, Committed) and outcome.changes else before
    if after != expected:
        yield f"the revision went from {before} to {after}, not to {expected}"
    if outcome.revision != after:
        yield f"the answer has revision {outcome.revision} and the store {after}"


def store_2_compare_then_commit(before: State, txn: Txn[Any], outcome: Outcome) -> Iterator[str]:
    """A transaction is committed if and only if all compares hold on `before`; a conflict names
    those that do not."""
    differing = []
    for compare in txn.compares:
        found = before[compare.key].mod_revision if compare.key in before else ABSENT
        if found != compare.mod_revision:
            differing.append(compare.key)
    answered = list(outcome.failed) if isinstance(outcome, Conflict) else []
    if differing != answered:
        yield f"the compares of {differing} do not hold, and the answer is {answered}"


def store_3_all_or_nothing(
    before: State, txn: Txn[Any], outcome: Outcome, after: State
) -> Iterator[str]:
    """Every write of a committed transaction is in the state after, and nothing else changed."""
    expected = {key: record.mod_revision for key, record in before.items()}
    if isinstance(outcome, Committed):
        for write in txn.writes:
            if isinstance(write, Put):
                expected[write.key] = outcome.revision
            else:
                expected.pop(write.key, None)
    for key in sorted(expected.keys() | after.keys()):
        found = after[key].mod_revision if key in after else None
        if found != expected.get(key):
            yield f"{key}: last written at {found}, not at {expected.get(key)}"


def store_4_deleting_what_does_not_exist_is_no_change(
    before: State, txn: Txn[Any], outcome: Outcome
) -> Iterator[str]:
    """A committed transaction has one change for each put and for each delete of a key that
    existed, and no other."""
    if isinstance(outcome, Committed):
        expected = {
            write.key for write in txn.writes if isinstance(write, Put) or write.key in before
        }
        found = [change.key for change in outcome.changes]
        if sorted(found) != sorted(expected):
            yield f"changed {found}, not {sorted(expected)}"


def store_5_a_record_knows_its_revisions(
    before: State, txn: Txn[Any], outcome: Outcome, stamp: Stamp[Any] = unstamped
) -> Iterator[str]:
    """Each change has the replaced record and the new one, whose revisions and version follow from
    that; the written value has the revision stamped in."""
    written = {write.key: write.value for write in txn.writes if isinstance(write, Put)}
    for change in outcome.changes if isinstance(outcome, Committed) else ():
        previous, record = before.get(change.key), change.record
        if change.previous != previous:
            yield f"{change.key}: replaced {previous}, the change has {change.previous}"
        if record is None:
            continue
        created, version = (
            (change.revision, 1)
            if previous is None
            else (previous.create_revision, previous.version + 1)
        )
        if (record.key, record.create_revision, record.mod_revision, record.version) != (
            change.key,
            created,
            change.revision,
            version,
        ):
            yield (
                f"{change.key}: {record}, not created at {created}, written at {change.revision}, "
                f"version {version}"
            )
        if record.value != stamp(written.get(change.key), change.revision):
            yield f"{change.key}: is {record.value}, was written as {written.get(change.key)}"


def store_6_changes_have_one_order(changes: Sequence[Change[Any]]) -> Iterator[str]:
    """Changes are strictly increasing by (revision, key), so none is repeated."""
    for one, other in pairwise(changes):
        if (one.revision, one.key) >= (other.revision, other.key):
            yield f"{other.key} at {other.revision} comes after {one.key} at {one.revision}"


def store_7_a_past_revision_is_read_as_it_was(
    state: State, page: Page[Any], prefix: str
) -> Iterator[str]:
    """`state`: the state when `page.revision` was the present; `page`: the complete read of that
    revision now."""
    expected = [state[key] for key in sorted(state) if key.startswith(prefix)]
    if list(page.records) != expected:
        yield (
            f"{prefix} at {page.revision}: read {_described(page.records)}, "
            f"was {_described(expected)}"
        )


def store_10_pages_make_one_list(
    pages: Sequence[Page[Any]], limit: int, whole: Page[Any]
) -> Iterator[str]:
    """`pages` were read one after the other at `whole.revision`, at most `limit` records each."""
    if [record for page in pages for record in page.records] != list(whole.records):
        yield (
            f"pages {[_described(page.records) for page in pages]} do not make "
            f"{_described(whole.records)}"
        )
    seen = 0
    for page in pages:
        seen += len(page.records)
        remaining = len(whole.records) - seen
        if len(page.records) > limit or page.revision != whole.revision:
            yield (
                f"a page of {len(page.records)} at {page.revision}, "
                f"not of {limit} at {whole.revision}"
            )
        if (page.remaining, page.more) != (remaining, remaining > 0):
            yield f"{remaining} remain, the page has remaining={page.remaining} and more={page.more}"


def store_11_a_watch_is_complete(
    state: State, after: Revision, changes: Iterable[Change[Any]], present: State
) -> Iterator[str]:
    """`state`: the records of a prefix at `after`; `present`: those now. The changes lead from one
    to the other."""
    replayed = dict(state)
    for change in changes:
        if change.revision <= after:
            yield f"{change.key} at {change.revision} was already seen at {after}"
        if change.previous != replayed.get(change.key):
            yield (
                f"{change.key} at {change.revision} replaces {change.previous}, "
                f"but {replayed.get(change.key)} was there"
            )
        if change.record is None:
            replayed.pop(change.key, None)
        else:
            replayed[change.key] = change.record
    for key in sorted(replayed.keys() | present.keys()):
        if replayed.get(key) != present.get(key):
            yield f"{key}: the changes leave {replayed.get(key)}, but {present.get(key)} is there"


def store_11_a_revision_is_never_split(chunks: Sequence[Sequence[Change[Any]]]) -> Iterator[str]:
    """`chunks`: answers read one after the other, each from the last revision of the one before."""
    for one, other in pairwise(chunks):
        if one and other and other[0].revision <= one[-1].revision:
            yield f"revision {other[0].revision} comes after revision {one[-1].revision}"


def store_11_no_revision_is_missing(
    after: Revision, changes: Iterable[Change[Any]], present: Revision
) -> Iterator[str]:
    """`changes`: all changes after `after`. Every revision up to the present has at least one."""
    expected = after + 1
    for change in changes:
        if change.revision > expected:
            yield f"revision {expected} is missing before {change.revision}"
        expected = change.revision + 1
    if expected != present + 1:
        yield f"the changes end at {expected - 1} and the store is at {present}"


def store_12_the_prefix_revision_tells_a_cache(
    prefix_revision: Revision, compacted: Revision, changes: Sequence[Change[Any]]
) -> Iterator[str]:
    """`changes`: all changes in the history below the prefix."""
    expected = changes[-1].revision if changes else compacted
    if prefix_revision != expected:
        yield f"the prefix revision is {prefix_revision}, not {expected}"


def _described(records: Iterable[Record[Any]]) -> str:
    return "[" + ", ".join(f"{record.key}@{record.mod_revision}" for record in records) + "]"
