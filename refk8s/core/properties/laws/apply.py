"""Laws of the ownership of fields. Rules APPLY-7, APPLY-12, APPLY-15 (spec/apply.md).

They are about objects that a manager has applied.
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.request import Patch
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Arrived, Law
from refk8s.core.properties.predicates.apply import (
    apply_7_the_main_path_owns_no_status,
    apply_12_a_changed_value_has_one_owner,
    apply_15_others_keep_their_fields,
    is_applied,
)
from refk8s.core.store import Change

APPLY = "application/apply-patch+yaml"
KUBECTL = "kubectl"
"""The manager that may take over fields (APPLY-17)."""


def changed_values_have_one_owner(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """APPLY-12, for a change of an object that was applied."""
    if change.record is None or change.previous is None or not is_applied(change.previous.value):
        return None
    return apply_12_a_changed_value_has_one_owner(change)


def _is_apply(arrived: Arrived) -> bool:
    body = arrived.request.body
    return isinstance(body, Patch) and body.media_type == APPLY


def owns_no_status(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """APPLY-7, for an apply that changed its object."""
    change = arrived.target if _is_apply(arrived) else None
    if change is None or arrived.request.subresource:
        return None
    return apply_7_the_main_path_owns_no_status(arrived.request, change)


def others_keep_theirs(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """APPLY-15, for an apply without force that changed an object with managers."""
    change = arrived.target if _is_apply(arrived) else None
    options = arrived.request.options
    if change is None or change.previous is None or options.force or change.record is None:
        return None
    if options.field_manager == KUBECTL:
        return None
    return apply_15_others_keep_their_fields(arrived.request, change)


OF_CHANGES = (Law("APPLY-12", changed_values_have_one_owner),)
OF_REQUESTS = (Law("APPLY-7", owns_no_status), Law("APPLY-15", others_keep_theirs))
