"""The metadata of an object from its creation to its removal.

Rules API-1, API-2, API-4, API-5, DEL-1, DEL-2, DEL-4 (spec/api.md).

    created             uid, creationTimestamp, generation 1, whatever the body has (API-1)
    changed             resourceVersion; generation + 1 if the desired state changes (API-4, API-5)
    marked for          deletionTimestamp, deletionGracePeriodSeconds; generation + 1 (DEL-1);
    deletion            never undone (DEL-2)
    without finalizers  removed (DEL-4)

Source: API conventions, "Metadata"; Kubernetes documentation, "Finalizers" and "Garbage
Collection". Left out: selfLink, which Kubernetes no longer writes.
"""

from typing import TypeVar

from msgspec.structs import replace

from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.context import SUFFIX_LENGTH, Context, Instant, parse_timestamp, timestamp

O = TypeVar("O")  # noqa: E741

NAME_LENGTH_MAX = 63
GENERATED_BASE_LENGTH_MAX = NAME_LENGTH_MAX - SUFFIX_LENGTH

FOREGROUND_DELETION = "foregroundDeletion"
ORPHAN = "orphan"

GRACE_SECONDS_MAX = 2**63 // 10**9
"""The longest duration of Kubernetes, 292 years: a longer grace period counts as this (DEL-11)."""


def stamp(obj: O, revision: int) -> O:
    """The object with the revision of its commit as resourceVersion (API-4)."""
    changed: O = replace(obj, metadata=replace(obj.metadata, resource_version=str(revision)))  # type: ignore[attr-defined,type-var]
    return changed


def generate_name(base: str, context: Context) -> str:
    """The base, cut so that the name is at most a label, and five random characters (API-2)."""
    return base[:GENERATED_BASE_LENGTH_MAX] + context.suffix()


def begin(
    metadata: ObjectMeta, namespace: str, name: str, generation: int | None, context: Context
) -> ObjectMeta:
    """The metadata of a new object: the fields that the API server owns are set (API-1); the others
    are the client's."""
    return replace(
        metadata,
        name=name,
        namespace=namespace or None,
        uid=context.uid(),  # API-26: a uid is never reused
        creation_timestamp=timestamp(context.now),
        generation=generation,
        resource_version=None,
        deletion_timestamp=None,
        deletion_grace_period_seconds=None,
        self_link=None,
        labels=metadata.labels or None,
        annotations=metadata.annotations or None,
        finalizers=metadata.finalizers or None,
        owner_references=metadata.owner_references or None,
    )


def carry_over(old: ObjectMeta, new: ObjectMeta) -> ObjectMeta:
    """The metadata of a changed object: the fields that the API server owns are kept (API-1,
    DEL-2); the others are the client's. A deletion time in the body is kept, and validation rejects
    it (VAL-5)."""
    grace = new.deletion_grace_period_seconds
    return replace(
        new,
        namespace=old.namespace,
        uid=new.uid or old.uid,
        creation_timestamp=old.creation_timestamp,
        generation=old.generation,
        resource_version=old.resource_version,
        deletion_timestamp=old.deletion_timestamp or new.deletion_timestamp,
        deletion_grace_period_seconds=old.deletion_grace_period_seconds if grace is None else grace,
        self_link=None,
        labels=new.labels or None,
        annotations=new.annotations or None,
        finalizers=new.finalizers or None,
        owner_references=new.owner_references or None,
    )


def raised(generation: int | None) -> int | None:
    """The next generation, for objects that have one."""
    return generation + 1 if generation else generation


def mark_deleted(
    metadata: ObjectMeta,
    now: Instant,
    grace_period_seconds: int,
    finalizers: tuple[str, ...] | None,
) -> ObjectMeta:
    """The metadata of an object that is to be removed after so many seconds. The first call raises
    the generation; a later one can only shorten the period (DEL-1, DEL-2)."""
    generation = metadata.generation
    grace_period_seconds = min(grace_period_seconds, GRACE_SECONDS_MAX)
    at = now + grace_period_seconds * 1_000_000
    if metadata.deletion_timestamp is None:
        generation = raised(generation)
    else:
        asked_at = (
            parse_timestamp(metadata.deletion_timestamp)
            - (metadata.deletion_grace_period_seconds or 0) * 1_000_000
        )
        at = min(
            parse_timestamp(metadata.deletion_timestamp),
            asked_at + grace_period_seconds * 1_000_000,
        )
        grace_period_seconds = min(
            grace_period_seconds, metadata.deletion_grace_period_seconds or 0
        )
    return replace(
        metadata,
        generation=generation,
        deletion_timestamp=timestamp(at),
        deletion_grace_period_seconds=grace_period_seconds,
        finalizers=finalizers or None,
    )


def is_due(old: ObjectMeta, finalizers: tuple[str, ...] | None) -> bool:
    """Whether nothing keeps an object that is being deleted: no finalizer, no grace period
    (DEL-4)."""
    return (
        not finalizers
        and old.deletion_timestamp is not None
        and not old.deletion_grace_period_seconds
    )
