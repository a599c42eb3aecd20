"""The expressions of one policy, evaluated on one request. Rules POL-8, POL-9
(spec/admission_policies.md).

Source: Kubernetes documentation, "Validating Admission Policy" (Validation Expression, Variable
composition), "Common Expression Language in Kubernetes" (Resource constraints).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.codec import to_tree
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.admission.authorizer import authorizer_of
from refk8s.core.apiserver.admission.conditions import variables_of
from refk8s.core.apiserver.admission.matching import AdmissionRequest
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.cel.admission import (
    Environment,
    Expression,
    Variables,
    compile_variable,
)
from refk8s.core.cel.environment import InvalidExpression
from refk8s.core.cel.evaluate import Budget, evaluate
from refk8s.core.cel.types import DYN
from refk8s.core.cel.values import BudgetExceeded, CelError

EXPRESSION_UNITS_MAX: Final = 100_000
"""What one evaluation of an expression may cost: about a tenth of a second."""

POLICY_UNITS_MAX: Final = 300_000
"""What the expressions of one policy may cost for one request and parameter."""

OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)

Compile = Callable[[str, Environment, Variables], Expression]
_NO_VALUE = object()


class OutOfBudget(Exception):
    """The expressions of the policy have used up what they may cost together."""


class ExpressionFailed(Exception):
    """An expression has no value. The message names the expression and says why."""


class Declared:
    """What the expressions of a policy see: their environment, and the variables with their types,
    which are found when they are first needed."""

    def __init__(self, spec: Any, *, is_mutation: bool = False) -> None:
        self.environment = Environment(
            has_params=spec.param_kind is not None,
            has_variables=bool(spec.variables),
            is_mutation=is_mutation,
        )
        self.texts = {one.name: one.expression for one in spec.variables or ()}
        self._types: Variables | None = None

    @property
    def variables(self) -> Variables:
        if self._types is None:
            found: Variables = ()
            for name, text in self.texts.items():
                try:
                    kind = compile_variable(text, self.environment, found).type
                except InvalidExpression:
                    kind = DYN
                found = (*found, (name, kind))
            self._types = found
        return self._types


class _Composed(dict[str, Any]):
    """The values of the policy's variables, each evaluated when it is first read."""

    def __init__(self, evaluation: Evaluation) -> None:
        super().__init__()
        self._evaluation = evaluation

    def get(self, name: Any, default: Any = None) -> Any:
        found = super().get(name, _NO_VALUE)
        if found is _NO_VALUE and name in self._evaluation.declared.texts:
            found = self._evaluation.variable(name)
            self[name] = found
        if isinstance(found, CelError):
            raise found
        return default if found is _NO_VALUE else found


class Evaluation:
    """The expressions of a policy on one request, with one parameter."""

    def __init__(
        self, declared: Declared, values: dict[str, Any], units: int = POLICY_UNITS_MAX
    ) -> None:
        self.declared = declared
        self.values = {**values, "variables": _Composed(self)}
        self.left = units
        self._budget = Budget(0)

    def value(self, text: str, compile_text: Compile, *, has_authorizer: bool = True) -> Any:
        """The value of an expression. Raises ExpressionFailed and OutOfBudget."""
        environment = self.declared.environment
        if not has_authorizer:
            environment = Environment(
                environment.has_params, False, environment.has_variables, environment.is_mutation
            )
        allowed = min(EXPRESSION_UNITS_MAX, self.left)
        self._budget = Budget(allowed)
        try:
            expression = compile_text(text, environment, self.declared.variables)
            return evaluate(expression.node, self.values, self._budget)
        except InvalidExpression as error:
            raise ExpressionFailed(str(error)) from None
        except CelError as error:
            words = f"expression '{text}' resulted in error: {error}"
            raise ExpressionFailed(words) from None
        except BudgetExceeded as error:
            if allowed == self.left:
                raise OutOfBudget(OUT_OF_BUDGET) from None
            words = f"expression '{text}' resulted in error: {error}"
            raise ExpressionFailed(words) from None
        finally:
            self.left -= allowed - max(self._budget.left, 0)

    def variable(self, name: str) -> Any:
        """The value of a variable, or the error that it has instead."""
        text = self.declared.texts[name]
        try:
            known = self.declared.variables
            node = compile_variable(text, self.declared.environment, known).node
            return evaluate(node, self.values, self._budget)
        except (CelError, InvalidExpression) as error:
            return CelError(f'composited variable "{name}" fails to evaluate: {error}')


def values_of(
    request: AdmissionRequest, resource: Resource, store: Reader, config: Config
) -> dict[str, Any]:
    """The values of all variables except `params` and `variables`."""
    values = variables_of(request, resource)
    values["namespaceObject"] = _namespace(request, store)
    values["authorizer"] = authorizer_of(request, store, config)
    return values


def _namespace(request: AdmissionRequest, store: Reader) -> Any:
    """The namespace of the object, without the fields that expressions do not see."""
    if not request.namespace or request.resource == resources.NAMESPACES:
        return None
    record = store.get(resources.NAMESPACES.key("", request.namespace))
    if record is None:
        return None
    tree = to_tree(record.value)
    metadata = tree["metadata"]
    for key in ("managedFields", "ownerReferences", "selfLink"):
        metadata.pop(key, None)
    return tree


def first(texts: Iterable[str]) -> str:
    """The first text that is not empty, without space around it."""
    return next((text.strip() for text in texts if text and text.strip()), "")
