"""Match conditions of webhooks and policies. Rule HOOK-4 (spec/webhooks.md).

Source: API reference, "MatchCondition"; Kubernetes documentation, "Dynamic Admission Control"
(Matching requests: matchConditions).
"""

from collections.abc import Iterable
from typing import Any, Final

from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    malformed,
    required,
    too_many,
)
from refk8s.core.apiserver.validation.names import qualified_name

CONDITIONS_MAX: Final = 64


def validate_match_conditions(
    conditions: Iterable[Any] | None, at: str, *, has_params: bool = False
) -> Causes:
    """Each has an expression with a boolean value and a name of its own. `has_params`: those of a
    policy with parameters."""
    listed = tuple(conditions or ())
    if not listed:
        return []
    # imported here: a start without conditions loads no expressions
    from refk8s.core.cel.admission import (
        Environment,
        compile_condition,
    )
    from refk8s.core.cel.environment import InvalidExpression

    environment = Environment(has_params)
    causes: Causes = []
    if len(listed) > CONDITIONS_MAX:
        causes.append(too_many(at, len(listed), CONDITIONS_MAX))
    names = set()
    for place, condition in enumerate(listed[:CONDITIONS_MAX]):
        here = f"{at}[{place}]"
        text = condition.expression.strip()
        if not text:
            causes.append(required(f"{here}.expression"))
        else:
            try:
                compile_condition(text, environment)
            except InvalidExpression as error:
                causes.append(invalid(f"{here}.expression", text, str(error)))
        if not condition.name:
            causes.append(required(f"{here}.name"))
            continue
        causes += malformed(f"{here}.name", condition.name, qualified_name)
        if condition.name in names:
            causes.append(duplicate(f"{here}.name", condition.name))
        names.add(condition.name)
    return causes
