"""What must be true of every change to an object, whoever asked for it.

Rules API-4, API-5, API-8, API-26, DEL-2, DEL-4, DEL-12 (spec/api.md). Each predicate yields a
sentence for every way in which a change (or a sequence of them) breaks its rule, so none is good.
They look at the objects before and after and at nothing of ours, so that they judge a simulated
run, a running store and a foreign cluster's recording alike.

    act   API-4, API-5, DEL-2, DEL-4, DEL-12   one change
    act   API-8                                one change, and the path that made it
    inv   API-26                               a whole history
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.resources import by_kind
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.context import parse_timestamp
from refk8s.core.properties.law import Law
from refk8s.core.store import Change


def _pair(change: Change[Any]) -> tuple[Any, Any] | None:
    """(before, after) where one object was changed; None where one appeared or went, or another
    took its name."""
    if change.record is None or change.previous is None:
        return None
    before, after = change.previous.value, change.record.value
    return (before, after) if before.metadata.uid == after.metadata.uid else None


def api_4_the_resource_version_is_the_revision(change: Change[Any]) -> Iterator[str]:
    """A written object bears the revision, and something else in it is new."""
    if change.record is None:
        return
    metadata = change.record.value.metadata
    if metadata.resource_version != str(change.revision):
        yield f"{change.key} at revision {change.revision} bears resourceVersion {metadata.resource_version}"
    if (pair := _pair(change)) is not None:
        before, after = pair
        if before == replace(
            after, metadata=replace(metadata, resource_version=before.metadata.resource_version)
        ):
            yield f"{change.key} was written at revision {change.revision} and nothing in it changed"


def api_5_the_generation_counts_what_is_desired(change: Change[Any]) -> Iterator[str]:
    """It never falls, rises one at a time, and where it stays neither `spec` nor the mark of
    deletion is new (of a pod: but its node)."""
    if (pair := _pair(change)) is None:
        return
    before, after = pair
    old, new = before.metadata.generation, after.metadata.generation
    if old is None or new is None:
        if old != new:
            yield f"{change.key}: generation {old} became {new}"
        return
    marked = (
        before.metadata.deletion_timestamp is None and after.metadata.deletion_timestamp is not None
    )
    if not 0 <= new - old <= 1 + marked:
        yield f"{change.key}: generation {old} became {new}"
    if marked and new == old:
        yield f"{change.key} was marked as going and kept generation {old}"
    if new == old and _counts(after) and _desired(before) != _desired(after):
        yield f"{change.key}: spec changed and generation {old} stayed"
    if new - old > marked and _wished(before) == _wished(after) is not None:
        yield f"{change.key}: generation {old} became {new} and nothing else was desired"


def _counts(obj: Any) -> bool:
    """Whether the kind's generation counts its changes; elsewhere it is what the creator wrote."""
    resource = by_kind(obj.api_version, obj.kind)
    return resource is not None and bool(strategy_of(resource).generation)


def _desired(obj: Any) -> Any:
    spec: Any = getattr(obj, "spec", None)
    # a binding is no wish of the user's (API-17)
    return replace(spec, node_name=None) if obj.kind == "Pod" else spec


def _wished(obj: Any) -> Any:
    """All that may raise the generation, where that is known: of a Deployment the annotations
    too."""
    spec = getattr(obj, "spec", None)
    return (spec, obj.metadata.annotations or None) if obj.kind == "Deployment" else spec


def api_8_a_path_changes_only_its_part(subresource: str, change: Change[Any]) -> Iterator[str]:
    """`subresource` is that of the request: "" for the object itself."""
    if (pair := _pair(change)) is None:
        return
    before, after = pair
    same_status = getattr(before, "status", None) == getattr(after, "status", None)
    if subresource == "" and not same_status and after.metadata.deletion_timestamp is None:
        yield f"{change.key}: a write of the object changed its status"
    if subresource == "status":
        for attribute in before.__struct_fields__:
            if attribute not in ("status", "metadata") and getattr(before, attribute) != getattr(
                after, attribute
            ):
                yield f"{change.key}: a write of the status changed {attribute}"


def api_26_a_uid_is_never_used_again(changes: Iterable[Change[Any]]) -> Iterator[str]:
    """`changes`: all of a history, from its beginning."""
    seen: dict[str, str] = {}
    for change in changes:
        if change.record is None or (change.previous is not None and _pair(change) is not None):
            continue
        uid = change.record.value.metadata.uid
        if not uid:
            yield f"{change.key} has no uid"
        elif uid in seen:
            yield f"{change.key} has the uid that {seen[uid]} had"
        seen[uid] = change.key


def del_2_the_mark_stays_and_moves_nearer(change: Change[Any]) -> Iterator[str]:
    """deletionTimestamp and the grace, once set."""
    if (pair := _pair(change)) is None:
        return
    before, after = pair[0].metadata, pair[1].metadata
    if before.deletion_timestamp is None:
        return
    if after.deletion_timestamp is None:
        yield f"{change.key} was going and is not any more"
    elif parse_timestamp(after.deletion_timestamp) > parse_timestamp(before.deletion_timestamp):
        yield f"{change.key} was to go by {before.deletion_timestamp}, and now by {after.deletion_timestamp}"
    if before.deletion_grace_period_seconds is not None and (
        after.deletion_grace_period_seconds is None
        or after.deletion_grace_period_seconds > before.deletion_grace_period_seconds
    ):
        yield f"{change.key}: a grace of {before.deletion_grace_period_seconds} s became {after.deletion_grace_period_seconds}"


def del_4_an_object_goes_when_nothing_holds_it(change: Change[Any]) -> Iterator[str]:
    """What disappears had no finalizers, or was marked, with no grace left, and lost them with this
    change."""
    if change.record is not None or change.previous is None:
        return
    metadata = change.previous.value.metadata
    if metadata.finalizers and (
        metadata.deletion_timestamp is None or metadata.deletion_grace_period_seconds
    ):
        yield f"{change.key} went although {', '.join(metadata.finalizers)} held it"


def del_12_who_is_going_takes_on_no_new_finalizers(change: Change[Any]) -> Iterator[str]:
    """But those by which a delete says what becomes of the dependents."""
    if (pair := _pair(change)) is None or pair[0].metadata.deletion_timestamp is None:
        return
    had = {*(pair[0].metadata.finalizers or ()), "orphan", "foregroundDeletion"}
    if added := [
        finalizer for finalizer in pair[1].metadata.finalizers or () if finalizer not in had
    ]:
        yield f"{change.key} is going and got {', '.join(added)}"


OF_ONE_CHANGE = (
    api_4_the_resource_version_is_the_revision,
    api_5_the_generation_counts_what_is_desired,
    del_2_the_mark_stays_and_moves_nearer,
    del_4_an_object_goes_when_nothing_holds_it,
    del_12_who_is_going_takes_on_no_new_finalizers,
)
"""What holds of each change by itself."""


def _of_change(check: Callable[[Change[Any]], Iterable[str]]) -> Law:
    """A law from a predicate that bears its rule in its name."""
    prefix, number, _ = check.__name__.split("_", 2)
    return Law(f"{prefix.upper()}-{number}", lambda change, before, after: check(change))


LAWS = tuple([_of_change(check) for check in OF_ONE_CHANGE])
