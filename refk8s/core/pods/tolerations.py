"""Which taints a toleration matches. Rule POD-20 (spec/pod.md).

| operator | matches |
|---|---|
| Exists | every value |
| Equal, also the default | the same value; an absent value is empty |
| any other | nothing; the API server rejects it (VAL-13) |

Source: Kubernetes documentation, "Taints and Tolerations". Left out: the operators Gt and Lt, whose
feature TaintTolerationComparisonOperators is alpha and disabled by default (D-64).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from refk8s.core.api.core_v1 import Taint, Toleration

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import DeviceTaint, DeviceToleration

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"
EFFECTS = (NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE)
EQUAL, EXISTS = "Equal", "Exists"
OPERATORS = (EQUAL, EXISTS)


def tolerates(toleration: Toleration | DeviceToleration, taint: Taint | DeviceTaint) -> bool:
    """Whether the toleration matches the taint: equal effect or none, equal key or none, and the
    value by the operator (POD-20)."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    operator = toleration.operator or EQUAL
    if operator == EQUAL:
        return (toleration.value or "") == (taint.value or "")
    return operator == EXISTS


def is_tolerated(
    taint: Taint | DeviceTaint, tolerations: Iterable[Toleration | DeviceToleration]
) -> bool:
    """Whether one of the tolerations matches the taint. O(tolerations)."""
    return any(tolerates(toleration, taint) for toleration in tolerations)
