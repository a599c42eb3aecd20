"""Predicates of API servers whose memory is behind the store. Rules LIST-14 (spec/watch_api.md),
CLUSTER-15 (spec/cluster.md).

`expected` is the outcome of the same request on the newest state.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.store import Change, Put


def list_14_an_answer_is_of_the_newest_state(
    request: Request, answer: Response | None, changes: Iterable[Change[Any]], expected: Response
) -> Iterator[str]:
    """The answer (None: not known) to a request that writes nothing on the newest state."""
    what = f"{request.verb} of {request.resource.plural} {request.name}"
    for change in changes:
        yield f"{what} wrote {change.key}, and on the newest state it is answered {expected.code}"
    if answer is not None and (answer.code, answer.body) != (expected.code, expected.body):
        yield f"{what} was answered {answer.code} on an older state, not {expected.code}"


def cluster_15_a_transaction_is_of_the_newest_state(
    request: Request, changes: Iterable[Change[Any]], expected: Commit, exists: Iterable[str]
) -> Iterator[str]:
    """What a request wrote is what it writes on the newest state, in which the keys `exists` are
    those of its deletions that exist."""
    what = f"{request.verb} of {request.resource.plural} {request.name}"
    wanted = {
        write.key: write.value if isinstance(write, Put) else None
        for write in expected.txn.writes
        if isinstance(write, Put) or write.key in exists
    }
    found = {change.key: change for change in changes}
    for key in sorted(wanted.keys() | found.keys()):
        change = found.get(key)
        if change is None or key not in wanted:
            yield f"{what}: {key} was {'not ' if change is None else ''}written"
            continue
        value = wanted[key]
        record = change.record
        if value is None or record is None:
            if value is not None or record is not None:
                yield f"{what}: {key} was {'deleted' if record is None else 'not deleted'}"
        elif stamp(value, change.revision) != record.value:
            yield f"{what}: {key} was written as decided on an older state"
