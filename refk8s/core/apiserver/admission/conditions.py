"""Match conditions: expressions that say whether a webhook or policy is asked. Rule MATCH-5
(spec/webhooks.md).

Source: Kubernetes documentation, "Dynamic Admission Control" (Matching requests: matchConditions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api.codec import to_tree
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import info_tree
from refk8s.core.apiserver.admission.matching import AdmissionRequest

if TYPE_CHECKING:  # expressions are loaded with the first condition
    from refk8s.core.cel.admission import Environment

CONDITIONS_UNITS_MAX: Final = 50_000
"""What the match conditions of one webhook or policy may cost together: about a twentieth of a
second."""


class ConditionsFailed(Exception):
    """A condition has no value, and none is false. The message has every error."""


class Conditions:
    """The match conditions of one webhook or policy, compiled when they are first evaluated."""

    __slots__ = ("environment", "texts")

    def __init__(
        self, conditions: Iterable[Any] | None, environment: Environment | None = None
    ) -> None:
        self.texts = tuple([one.expression for one in conditions or ()])
        self.environment = environment

    def hold(self, variables: Mapping[str, Any]) -> bool:
        """Whether no condition is false. A false one decides, even if another has no value. Raises
        ConditionsFailed."""
        from refk8s.core.cel.environment import InvalidExpression
        from refk8s.core.cel.evaluate import Budget, evaluate
        from refk8s.core.cel.values import BudgetExceeded, CelError

        budget, problems = Budget(CONDITIONS_UNITS_MAX), []
        for text in self.texts:
            try:
                if evaluate(_compiled(text, self.environment), variables, budget) is False:
                    return False
            except (CelError, InvalidExpression) as error:
                problems.append(f"expression '{text}' resulted in error: {error}")
            except BudgetExceeded:
                problems.append(
                    "validation failed due to running out of cost budget, "
                    "no further validation rules will be run"
                )
                break
        if problems:
            text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
            raise ConditionsFailed(text)
        return True


def _compiled(text: str, environment: Environment | None) -> Any:
    from refk8s.core.cel.admission import MATCH_CONDITION, compile_condition

    return compile_condition(text.strip(), environment or MATCH_CONDITION).node


def variables_of(request: AdmissionRequest, resource: Resource) -> dict[str, Any]:
    """The variables of conditions: the objects, which are those of `resource`'s version, and the
    request."""
    return {
        "object": to_tree(request.object),
        "oldObject": to_tree(request.old_object),
        "request": request_tree(request, resource),
    }


def request_tree(request: AdmissionRequest, resource: Resource) -> dict[str, Any]:
    """The attributes of a request for admission, as an AdmissionReview has them. `resource`: that
    by which the criteria match; the client's own is named too (MATCH-2)."""
    group, version, kind = request.kind
    tree: dict[str, Any] = {
        "kind": _kind_in(request, resource),
        "resource": _resource(resource),
    }
    if request.subresource:
        tree["subResource"] = request.subresource
    tree["requestKind"] = _kind(group, version, kind)
    tree["requestResource"] = _resource(request.resource)
    if request.subresource:
        tree["requestSubResource"] = request.subresource
    if request.name:
        tree["name"] = request.name
    if request.namespace:
        tree["namespace"] = request.namespace
    tree["operation"] = request.operation
    tree["userInfo"] = info_tree(request.user)
    tree["dryRun"] = request.dry_run
    tree["options"] = request.options
    return tree


def _kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def _kind_in(request: AdmissionRequest, resource: Resource) -> dict[str, str]:
    """The kind of the object in this resource: that of the resource, or of its subresource, which
    may have a version of its own."""
    part = resource.subresource(request.subresource)
    if part is not None and part.kind != resource.kind:
        return _kind(*request.kind)
    return _kind(resource.group, resource.version, resource.kind)


def _resource(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}
