"""The conditions of a status. Rule POL-5 (spec/admission_policies.md).

Source: API conventions, "Typical status properties"; API reference, "Condition".
"""

import re
from collections.abc import Sequence
from typing import Final

from refk8s.core.api.meta_v1 import Condition
from refk8s.core.apiserver.validation.field import (
    NOT_NEGATIVE,
    Causes,
    duplicate,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
)
from refk8s.core.apiserver.validation.names import qualified_name

REASON_BYTES_MAX: Final = 1024
MESSAGE_BYTES_MAX: Final = 32 * 1024
_STATUSES = ("False", "True", "Unknown")
_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", re.ASCII)
_REASON_WORDS = (
    "a condition reason must start with alphabetic character, optionally followed by a string of "
    "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. "
    "'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex "
    "used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
)


def validate_conditions(conditions: Sequence[Condition], at: str) -> Causes:
    """POL-5: each type once, with a status, a reason and the time of its last transition."""
    causes: Causes = []
    seen: set[str] = set()
    for position, condition in enumerate(conditions):
        here = f"{at}[{position}]"
        if condition.type in seen:
            causes.append(duplicate(f"{here}.type", condition.type))
        seen.add(condition.type)
        causes += _validate(condition, here)
    return causes


def _validate(condition: Condition, at: str) -> Causes:
    causes = malformed(f"{at}.type", condition.type, qualified_name) if condition.type else []
    if not condition.type:
        causes.append(required(f"{at}.type", "must be set"))
    if condition.status not in _STATUSES:
        causes.append(not_supported(f"{at}.status", condition.status, _STATUSES))
    generation = condition.observed_generation
    if generation is not None and generation < 0:
        causes.append(invalid(f"{at}.observedGeneration", generation, NOT_NEGATIVE))
    if not condition.last_transition_time:
        causes.append(required(f"{at}.lastTransitionTime", "must be set"))
    reason = condition.reason
    if len(reason.encode()) > REASON_BYTES_MAX:
        causes.append(too_long(f"{at}.reason", REASON_BYTES_MAX))
    if not reason:
        causes.append(required(f"{at}.reason", "must be set"))
    elif not _REASON.fullmatch(reason):
        causes.append(invalid(f"{at}.reason", reason, _REASON_WORDS))
    if len(condition.message.encode()) > MESSAGE_BYTES_MAX:
        causes.append(too_long(f"{at}.message", MESSAGE_BYTES_MAX))
    return causes
