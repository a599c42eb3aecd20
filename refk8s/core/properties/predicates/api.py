"""Predicates of one change of an object. Rules API-4, API-5, API-6, API-8, API-26, DEL-2, DEL-4,
DEL-11, DEL-12, VAL-4 (spec/api.md).

Each predicate yields a sentence for every way in which a change (or a sequence of them) breaks its
rule. They compare the object before and after the change, so they judge a simulated run, a running
store and the recorded history of any cluster alike.

    act   API-4, API-5, DEL-2, DEL-4, DEL-12, VAL-4   one change
    act   API-6, API-8, DEL-4, DEL-11                 one change, and the request that made it
    inv   API-26                                      a whole history
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, by_kind
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.context import parse_timestamp
from refk8s.core.properties.oracle import takes_room
from refk8s.core.store import Change


def _pair(change: Change[Any]) -> tuple[Any, Any] | None:
    """(before, after) if the change is one of an existing object; None if an object was created,
    removed, or replaced by another one with its name."""
    if change.record is None or change.previous is None:
        return None
    before, after = change.previous.value, change.record.value
    return (before, after) if before.metadata.uid == after.metadata.uid else None


def api_4_resource_version_is_the_revision(change: Change[Any]) -> Iterator[str]:
    """A written object has the revision as its resourceVersion, and something else in it is new;
    quotas and their namespaces may be written unchanged (QUOTA-2, QUOTA-8)."""
    if change.record is None:
        return
    metadata = change.record.value.metadata
    if metadata.resource_version != str(change.revision):
        yield (
            f"{change.key} at revision {change.revision} has resourceVersion "
            f"{metadata.resource_version}"
        )
    if change.record.value.kind in ("Namespace", "ResourceQuota"):
        return
    if (pair := _pair(change)) is not None:
        before, after = pair
        if before == replace(
            after, metadata=replace(metadata, resource_version=before.metadata.resource_version)
        ):
            yield f"{change.key} was written at revision {change.revision} and nothing in it changed"


def api_5_generation_counts_desired_changes(change: Change[Any]) -> Iterator[str]:
    """The generation never decreases and increases by one. If it stays, neither `spec` (except the
    node of a pod) nor deletionTimestamp is new."""
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
        yield f"{change.key} was marked for deletion and kept generation {old}"
    if new == old and _counts(after) and _desired(before) != _desired(after):
        yield f"{change.key}: spec changed and generation {old} stayed"
    if new - old > marked and _raising(before) == _raising(after) is not None:
        yield f"{change.key}: generation {old} became {new} and spec did not change"


def _counts(obj: Any) -> bool:
    """Whether the generation of this kind counts changes; for other kinds it is what the creator
    wrote."""
    resource = by_kind(obj.api_version, obj.kind)
    return resource is not None and bool(strategy_of(resource).generation)


def _desired(obj: Any) -> Any:
    spec: Any = getattr(obj, "spec", None)
    # a binding does not change the desired state (API-17)
    return replace(spec, node_name=None) if obj.kind == "Pod" else spec


def _raising(obj: Any) -> Any:
    """The fields that may increase the generation, if that is known: for a Deployment also the
    annotations."""
    spec = getattr(obj, "spec", None)
    return (spec, obj.metadata.annotations or None) if obj.kind == "Deployment" else spec


def api_6_preconditions_match(request: Request, change: Change[Any]) -> Iterator[str]:
    """A request with a precondition on uid or resourceVersion changes only an object that matches
    it (API-6, DEL-3). A PUT that creates its object compares no resourceVersion (API-7)."""
    uid, version = preconditions(request)
    there = change.previous.value.metadata if change.previous is not None else None
    if uid and (there is None or there.uid != uid):
        found = there.uid if there is not None else "nothing"
        yield f"{request.verb} of {change.key} with precondition uid {uid} changed uid {found}"
    creates = there is None and request.verb == "update"
    if version and not creates and (there is None or there.resource_version != version):
        was = there.resource_version if there is not None else "absent"
        yield (
            f"{request.verb} of {change.key} with precondition resourceVersion "
            f"{version} changed {was}"
        )


def preconditions(request: Request) -> tuple[str | None, str | None]:
    """The preconditions of a request on uid and resourceVersion, if any."""
    body = request.body
    if request.verb == "delete":
        wanted = body.preconditions if body is not None else None
        return (wanted.uid, wanted.resource_version) if wanted is not None else (None, None)
    if request.verb == "update":
        return body.metadata.uid, body.metadata.resource_version
    if request.verb == "patch" and isinstance(body, Patch) and isinstance(body.document, Mapping):
        metadata = body.document.get("metadata") or {}
        return metadata.get("uid"), metadata.get("resourceVersion")
    return None, None


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
    """`changes`: the whole history."""
    seen: dict[str, str] = {}
    for change in changes:
        if change.record is None or (change.previous is not None and _pair(change) is not None):
            continue
        uid = change.record.value.metadata.uid
        if not uid:
            yield f"{change.key} has no uid"
        elif uid in seen:
            yield f"{change.key} has the uid of {seen[uid]}"
        seen[uid] = change.key


def del_2_deletion_timestamp_never_moves_later(change: Change[Any]) -> Iterator[str]:
    """deletionTimestamp and the grace period, once set, never increase."""
    if (pair := _pair(change)) is None:
        return
    before, after = pair[0].metadata, pair[1].metadata
    if before.deletion_timestamp is None:
        return
    if after.deletion_timestamp is None:
        yield f"{change.key} was being deleted and no longer is"
    elif parse_timestamp(after.deletion_timestamp) > parse_timestamp(before.deletion_timestamp):
        yield (
            f"{change.key}: deletionTimestamp {before.deletion_timestamp} became "
            f"{after.deletion_timestamp}"
        )
    if before.deletion_grace_period_seconds is not None and (
        after.deletion_grace_period_seconds is None
        or after.deletion_grace_period_seconds > before.deletion_grace_period_seconds
    ):
        yield (
            f"{change.key}: a grace of {before.deletion_grace_period_seconds} s became "
            f"{after.deletion_grace_period_seconds}"
        )


def del_4_removed_without_finalizers(change: Change[Any]) -> Iterator[str]:
    """An object that is removed had no finalizers, or it was being deleted without a grace period
    left and lost its last finalizer with this change."""
    if change.record is not None or change.previous is None:
        return
    metadata = change.previous.value.metadata
    if metadata.finalizers and (
        metadata.deletion_timestamp is None or metadata.deletion_grace_period_seconds
    ):
        yield f"{change.key} was removed with the finalizers {', '.join(metadata.finalizers)}"


def del_4_removed_as_requested(request: Request, change: Change[Any]) -> Iterator[str]:
    """A request removes an object if it is a delete that nothing delays, or if it removes the last
    finalizer of an object that is being deleted and has no grace period left."""
    assert change.previous is not None
    obj = change.previous.value
    metadata = obj.metadata
    marked, waits = (
        metadata.deletion_timestamp is not None,
        bool(metadata.deletion_grace_period_seconds),
    )
    is_namespace = change.key.startswith(NAMESPACES.prefix)
    if request.verb in ("update", "patch"):
        held = bool(metadata.finalizers) or (is_namespace and bool(obj.spec.finalizers))
        if not marked or waits or not held:
            yield (
                f"{change.key} was removed by {request.verb}, being deleted: {marked}, "
                f"grace period {metadata.deletion_grace_period_seconds} s"
            )
    elif is_namespace and obj.spec is not None and obj.spec.finalizers:
        yield f"{change.key} was removed by {request.verb}, and spec.finalizers are left"
    elif metadata.finalizers and not set(metadata.finalizers) <= {"orphan", "foregroundDeletion"}:
        yield (
            f"{change.key} was removed by {request.verb} with the finalizers "
            f"{', '.join(metadata.finalizers)}"
        )


def del_11_grace_period_is_over(request: Request, pod: Any) -> Iterator[str]:
    """A pod that has a node and has not finished is removed only if its grace period is over, or
    the request asks for none."""
    if not takes_room(pod):
        return
    requested: int | None = getattr(request.body, "grace_period_seconds", None)
    over = (
        pod.metadata.deletion_timestamp is not None
        and not pod.metadata.deletion_grace_period_seconds
    )
    own = (
        pod.metadata.deletion_timestamp is None
        and requested is None
        and not pod.spec.termination_grace_period_seconds
    )
    if not (over or own or requested == 0):
        yield (
            f"pod {pod.metadata.name} was removed at once by {request.verb} with grace "
            f"period {requested} s"
        )


def del_12_no_new_finalizers_while_being_deleted(change: Change[Any]) -> Iterator[str]:
    """Except those that a delete adds for its propagation policy."""
    if (pair := _pair(change)) is None or pair[0].metadata.deletion_timestamp is None:
        return
    had = {*(pair[0].metadata.finalizers or ()), "orphan", "foregroundDeletion"}
    if added := [
        finalizer for finalizer in pair[1].metadata.finalizers or () if finalizer not in had
    ]:
        yield f"{change.key} is being deleted and got the finalizers {', '.join(added)}"


def val_4_one_controller(key: str, owner_references: Iterable[Any]) -> Iterator[str]:
    """At most one owner is the controller."""
    controllers = [reference.name for reference in owner_references if reference.controller]
    if len(controllers) > 1:
        yield f"{key} is controlled by {' and '.join(controllers)}"


OF_ONE_CHANGE = (
    api_4_resource_version_is_the_revision,
    api_5_generation_counts_desired_changes,
    del_2_deletion_timestamp_never_moves_later,
    del_4_removed_without_finalizers,
    del_12_no_new_finalizers_while_being_deleted,
)
"""The predicates of single changes."""
