"""Laws of the store in a cluster. Rules STORE-1, STORE-5, STORE-7, STORE-8,
STORE-11, CLUSTER-4, CLUSTER-5, CLUSTER-7 (spec/store.md, spec/cluster.md).

`predicates/store.py` has the same rules for any store and for single transactions.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.actions import Action, Arrive, Compact, Duplicate, Elapse, Submit
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Arrived, Law
from refk8s.core.store import Change, Compacted, FutureRevision


def one_revision_per_write(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """STORE-1: a transaction raises the revision by one, and nothing else does."""
    commit = after.last_commit
    was, is_ = before.history.revision, after.history.revision
    if commit is None and was == is_:
        return None
    revisions = sorted({change.revision for change in commit.changes}) if commit is not None else []
    if revisions == list(range(was + 1, is_ + 1)):
        return []
    return [f"the store went from revision {was} to {is_}, with changes at {revisions}"]


def only_requests_write(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """CLUSTER-5: the store changes only when a request arrives (for the first or second time), or
    comes from outside."""
    if before.history.revision == after.history.revision:
        return None
    allowed = isinstance(action, (Arrive, Duplicate, Submit))
    return [] if allowed else [f"{type(action).__name__} wrote revision {after.history.revision}"]


def only_time_passes_time(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """CLUSTER-4."""
    if isinstance(action, Elapse):
        return (
            []
            if before.now <= after.now == action.to
            else [f"time went from {before.now} to {after.now}, not to {action.to}"]
        )
    return None if before.now == after.now else [f"{type(action).__name__} changed the time"]


def rejected_requests_change_nothing(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """CLUSTER-7, API-6: a request that is rejected changes nothing."""
    answer = arrived.answer
    if answer is None or answer.code < 400:
        return None
    request = arrived.request
    return [
        f"{request.verb} of {request.name} was rejected with {answer.code}, and {c.key} changed"
        for c in arrived.changes
    ]


def records_count_their_revisions(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterator[str]:
    """STORE-5: a change names the record that it replaced, and the new record counts its
    revisions."""
    there, record = before.history.get(change.key), change.record
    if change.previous is not there:
        yield f"{change.key} at {change.revision}: the replaced record was not stored"
    if record is not None:
        created, version = (
            (change.revision, 1) if there is None else (there.create_revision, there.version + 1)
        )
        if (record.create_revision, record.mod_revision, record.version) != (
            created,
            change.revision,
            version,
        ):
            yield (
                f"{change.key}: {record.create_revision}, {record.mod_revision}, "
                f"{record.version} at revision {change.revision}"
            )
    if after.history.get(change.key) is not record:
        yield f"{change.key} at {change.revision}: is not what was written"


def the_past_stays(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """STORE-7: the state of the revision before is still read as it was."""
    at = before.history.revision
    if at < after.history.compacted:
        return None
    then = after.history.get(change.key, at=at)
    return (
        []
        if then is change.previous
        else [f"the read of {change.key} at {at} has another result since {change.revision}"]
    )


def watches_get_every_change(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """STORE-11: a watch of everything from the revision before delivers exactly these changes."""
    if after.last_commit is None or not after.last_commit.changes:
        return None
    delivered = after.history.changes("/", before.history.revision)
    if delivered == after.last_commit.changes:
        return []
    return [
        f"a watch after {before.history.revision} gets {[c.key for c in delivered]}, "
        f"not {[c.key for c in after.last_commit.changes]}"
    ]


def compacted_revisions_are_refused(
    before: Cluster, action: Action, after: Cluster
) -> Iterator[str]:
    """STORE-8, STORE-9: after a compaction, reads of the present are unchanged, and reads of
    compacted or future revisions are refused."""
    history = after.history
    if history.list("/").records != before.history.list("/").records:
        yield "a compaction changed the present state"
    for at, refusal in ((history.compacted - 1, Compacted), (history.revision + 1, FutureRevision)):
        try:
            history.list("/core/namespaces/", at=at)
        except refusal:
            continue
        yield f"revision {at} is answered, but only {history.compacted} to {history.revision} exist"


OF_CHANGES = (Law("STORE-5", records_count_their_revisions), Law("STORE-7", the_past_stays))
OF_REQUESTS = (Law("CLUSTER-7", rejected_requests_change_nothing),)
OF_STEPS = (
    Law("STORE-1", one_revision_per_write),
    Law("CLUSTER-5", only_requests_write),
    Law("CLUSTER-4", only_time_passes_time),
    Law("STORE-11", watches_get_every_change),
    Law("STORE-8", compacted_revisions_are_refused, actions=(Compact,)),
)
