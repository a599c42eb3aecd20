"""The conditions of a status: a list with at most one condition of each type.

Source: API conventions, "Typical status properties": `lastTransitionTime` changes with `status`.
"""

from collections.abc import Iterable
from typing import Any


def get_condition(conditions: Iterable[Any] | None, type: str) -> Any | None:
    """The condition of this type, or None. O(conditions)."""
    return next((condition for condition in conditions or () if condition.type == type), None)


def remove_condition(conditions: Iterable[Any] | None, type: str) -> tuple[Any, ...]:
    """The conditions without those of this type."""
    return tuple([condition for condition in conditions or () if condition.type != type])


def transition_time(known: Any | None, status: str, now: str | None) -> str | None:
    """The `lastTransitionTime` of a condition with this status: that of the known one if its status
    is the same, else `now`."""
    if known is not None and known.status == status:
        now = known.last_transition_time
    return now
