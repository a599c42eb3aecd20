"""Laws of what a request did to the object that it names. Rules API-6, API-8, API-26, DEL-4, DEL-7,
DEL-11, ADM-2, VAL-4 (spec/api.md).

What holds of a change whoever made it is in api.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, PODS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.api import (
    api_8_a_path_changes_only_its_part,
    api_26_a_uid_is_never_used_again,
)
from refk8s.core.properties.law import Arrived, Law
from refk8s.core.properties.oracle import takes_room
from refk8s.core.store import Change


def meant(request: Request) -> tuple[str | None, str | None]:
    """(uid, resourceVersion) of the object that a request is about, as far as it says."""
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


def a_change_meets_what_it_means(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """API-6, DEL-3: who says which object, or which state of it, changes no other."""
    uid, version = meant(arrived.request)
    change = arrived.target
    if change is None or not (uid or version):
        return None
    there = change.previous.value.metadata if change.previous is not None else None
    found = []
    if uid and (there is None or there.uid != uid):
        found.append(
            f"{arrived.request.verb} meant uid {uid} of {change.key}, and changed {there.uid if there is not None else 'nothing'}"
        )
    if version and (there is None or there.resource_version != version):
        was = there.resource_version if there is not None else "absent"
        found.append(f"{arrived.request.verb} meant {change.key} at {version}, and it was {was}")
    return found


def a_path_changes_its_part(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """API-8."""
    change = arrived.target
    if (
        change is None
        or arrived.request.verb not in ("update", "patch")
        or arrived.request.subresource not in ("", "status")
    ):
        return None
    return api_8_a_path_changes_only_its_part(arrived.request.subresource, change)


def what_goes_was_free_to_go(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DEL-4: by a delete, or by the change that takes the last finalizer off what is marked and has
    no grace left."""
    gone = [
        change
        for change in arrived.changes
        if change.record is None and change.previous is not None and _is_asked(arrived, change)
    ]
    if not gone:
        return None
    return [words for change in gone for words in _why_it_may_not(arrived.request, change)]


def _is_asked(arrived: Arrived, change: Change[Any]) -> bool:
    return change is arrived.target or arrived.request.verb == "deletecollection"


def _why_it_may_not(request: Request, change: Change[Any]) -> Iterator[str]:
    assert change.previous is not None
    obj = change.previous.value
    metadata = obj.metadata
    marked, waits = (
        metadata.deletion_timestamp is not None,
        bool(metadata.deletion_grace_period_seconds),
    )
    if request.verb in ("update", "patch"):
        held = bool(metadata.finalizers) or (
            change.key.startswith(NAMESPACES.prefix) and bool(obj.spec.finalizers)
        )
        if not marked or waits or not held:
            yield f"{change.key} went by a {request.verb}, marked {marked}, with {metadata.deletion_grace_period_seconds} s left"
    elif change.key.startswith(NAMESPACES.prefix) and obj.spec is not None and obj.spec.finalizers:
        yield f"{change.key} went by a {request.verb}, and its content held it"
    elif metadata.finalizers and not set(metadata.finalizers) <= {"orphan", "foregroundDeletion"}:
        yield f"{change.key} went by a {request.verb}, and {', '.join(metadata.finalizers)} held it"


def a_pod_has_its_time(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """DEL-11: a pod that is on a node and has not ended goes only when no grace is left, or none is
    asked for."""
    request = arrived.request
    found = []
    pods = [
        c.previous.value
        for c in arrived.changes
        if c.record is None and c.previous is not None and c.key.startswith(PODS.prefix)
    ]
    pods = [pod for pod in pods if takes_room(pod)]
    if not pods:
        return None
    for pod in pods:
        asked = _grace_asked(request)
        over = (
            pod.metadata.deletion_timestamp is not None
            and not pod.metadata.deletion_grace_period_seconds
        )
        own = (
            pod.metadata.deletion_timestamp is None
            and asked is None
            and not pod.spec.termination_grace_period_seconds
        )
        if not (over or own or asked == 0):
            found.append(
                f"pod {pod.metadata.name} went at once by a {request.verb} that asked for {asked} s"
            )
    return found


def _grace_asked(request: Request) -> int | None:
    seconds: int | None = getattr(request.body, "grace_period_seconds", None)
    return seconds


def a_uid_is_new(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """API-26, of what is created: nothing of its kind that is remembered had its uid."""
    if change.record is None or change.previous is not None:
        return None
    prefix = change.key[: change.key.find("/", change.key.find("/", 1) + 1) + 1]
    uid = change.record.value.metadata.uid
    past = before.history.changes(prefix, before.history.compacted)
    had = [
        past_change.previous.value
        for past_change in past
        if past_change.record is None and past_change.previous is not None
    ]
    if not uid:
        return [f"{change.key} has no uid"]
    return [f"{change.key} has the uid that another had" for obj in had if obj.metadata.uid == uid]


def uids_are_unique(cluster: Cluster) -> Iterable[str]:
    """API-26, of all that is remembered."""
    return api_26_a_uid_is_never_used_again(cluster.history.changes("/", cluster.history.compacted))


def one_controller(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """VAL-4: of all owners one at most is the controller."""
    references = (
        change.record.value.metadata.owner_references if change.record is not None else None
    )
    if not references:
        return None
    controllers = [reference.name for reference in references if reference.controller]
    return (
        [f"{change.key} is controlled by {' and '.join(controllers)}"]
        if len(controllers) > 1
        else []
    )


def created_in_a_living_namespace(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """ADM-2."""
    if (
        change.record is None
        or change.previous is not None
        or not (name := change.record.value.metadata.namespace)
    ):
        return None
    namespace = before.history.get(f"{NAMESPACES.prefix}{name}")
    if namespace is None:
        return [f"{change.key} was created, and there is no namespace {name}"]
    return (
        []
        if namespace.value.metadata.deletion_timestamp is None
        else [f"{change.key} was created, and namespace {name} is going"]
    )


def a_namespace_goes_last(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DEL-7: it stays Terminating, and nothing is left in it when it has gone."""
    if change.previous is None or change.previous.value.metadata.deletion_timestamp is None:
        return None
    name = change.previous.value.metadata.name
    if change.record is not None:
        phase = change.record.value.status.phase if change.record.value.status is not None else None
        return (
            [] if phase == "Terminating" else [f"namespace {name} was Terminating and is {phase}"]
        )
    left = [
        record.key
        for record in after.history.list("/").records
        if record.value.metadata.namespace == name
    ]
    return [f"namespace {name} has gone, and left {', '.join(left)}"] if left else []


OF_CHANGES = (
    Law("API-26", a_uid_is_new),
    Law("VAL-4", one_controller),
    Law("ADM-2", created_in_a_living_namespace),
    Law("DEL-7", a_namespace_goes_last, NAMESPACES.prefix),
)
OF_REQUESTS = (
    Law("API-6", a_change_meets_what_it_means),
    Law("API-8", a_path_changes_its_part),
    Law("DEL-4", what_goes_was_free_to_go),
    Law("DEL-11", a_pod_has_its_time),
)
OF_REST = (Law("API-26", uids_are_unique),)
