"""Laws of requests and the objects that they name. Rules API-4, API-5, API-6, API-8, API-26,
DEL-2, DEL-4, DEL-11, DEL-12, VAL-4 (spec/api.md).
"""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.api.resources import PODS, VALIDATING_ADMISSION_POLICIES
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Arrived, Law
from refk8s.core.properties.oracle import takes_room
from refk8s.core.properties.predicates.api import (
    OF_ONE_CHANGE,
    api_6_preconditions_match,
    api_8_a_path_changes_only_its_part,
    api_26_a_uid_is_never_used_again,
    del_4_removed_as_requested,
    del_11_grace_period_is_over,
    preconditions,
    val_4_one_controller,
)
from refk8s.core.store import Change


def _of_one_change(check: Callable[[Change[Any]], Iterable[str]]) -> Law:
    """A law from a predicate whose name has the rule."""
    prefix, number, _ = check.__name__.split("_", 2)
    return Law(f"{prefix.upper()}-{number}", lambda change, before, after: check(change))


def uid_is_new(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """API-26, for an object that is created: no object of its resource that is still in the history
    had its uid."""
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
    return [f"{change.key} has the uid of another object" for obj in had if obj.metadata.uid == uid]


def uids_are_unique(cluster: Cluster) -> Iterable[str]:
    """API-26, for the whole history."""
    return api_26_a_uid_is_never_used_again(cluster.history.changes("/", cluster.history.compacted))


def at_most_one_controller(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """VAL-4, for an object that has owners."""
    references = (
        change.record.value.metadata.owner_references if change.record is not None else None
    )
    return val_4_one_controller(change.key, references) if references else None


def preconditions_hold(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """API-6, for a request that has preconditions and changed its object."""
    change = arrived.target
    if change is None or not any(preconditions(arrived.request)):
        return None
    return api_6_preconditions_match(arrived.request, change)


def path_changes_its_part(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """API-8, for an update of an object or of its status. The status of a policy is written with
    its spec (POL-15)."""
    change = arrived.target
    if (
        change is None
        or arrived.request.resource == VALIDATING_ADMISSION_POLICIES
        or arrived.request.verb not in ("update", "patch")
        or arrived.request.subresource not in ("", "status")
    ):
        return None
    return api_8_a_path_changes_only_its_part(arrived.request.subresource, change)


def removed_as_requested(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """DEL-4, for a request that removed the object that it names, or a collection."""
    gone = [
        change
        for change in arrived.changes
        if change.record is None
        and change.previous is not None
        and (change is arrived.target or arrived.request.verb == "deletecollection")
    ]
    if not gone:
        return None
    return [
        words for change in gone for words in del_4_removed_as_requested(arrived.request, change)
    ]


def grace_period_is_over(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """DEL-11, for a request that removed pods that have a node and have not finished."""
    pods = [
        change.previous.value
        for change in arrived.changes
        if change.record is None
        and change.previous is not None
        and change.key.startswith(PODS.prefix)
    ]
    pods = [pod for pod in pods if takes_room(pod)]
    if not pods:
        return None
    return [words for pod in pods for words in del_11_grace_period_is_over(arrived.request, pod)]


OF_CHANGES = (
    *[_of_one_change(check) for check in OF_ONE_CHANGE],
    Law("API-26", uid_is_new),
    Law("VAL-4", at_most_one_controller),
)
OF_REQUESTS = (
    Law("API-6", preconditions_hold),
    Law("API-8", path_changes_its_part),
    Law("DEL-4", removed_as_requested),
    Law("DEL-11", grace_period_is_over),
)
OF_REST = (Law("API-26", uids_are_unique),)
