"""IntOrString: a count, or a percentage of a total. Rule OBJ-11 (spec/object_model.md).

Source: Kubernetes documentation, "Deployments", maxSurge and maxUnavailable; API reference,
"IntOrString".
"""

from __future__ import annotations

import re
from typing import Final

_PERCENT: Final = re.compile(r"([+-]?[0-9]{1,18})%", re.ASCII)


class IntOrStringError(ValueError):
    """The string is not a percentage. The message is Kubernetes' own."""


def is_percent(value: int | str) -> bool:
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def scaled(value: int | str, total: int, *, round_up: bool) -> int:
    """The count itself, or the percentage of the total, rounded up or down to a whole number.

    Raises IntOrStringError for any other string. maxSurge rounds up and maxUnavailable down:
    `scaled("25%", 10, round_up=True)` is 3.
    """
    if isinstance(value, int):
        return value
    percent = _PERCENT.fullmatch(value)
    if percent is None:
        raise IntOrStringError(
            "invalid value for IntOrString: invalid type: string is not a percentage"
        )
    hundredths = int(percent[1]) * total
    return -(-hundredths // 100) if round_up else hundredths // 100
