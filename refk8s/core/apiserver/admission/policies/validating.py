"""ValidatingAdmissionPolicies: which are evaluated for a request, and what follows. Rules POL-6 to
POL-11 (spec/admission_policies.md).

    policy matches -> binding matches -> parameters -> match conditions -> validations -> actions

Source: Kubernetes documentation, "Validating Admission Policy"; API reference,
"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api.codec import to_tree
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import matching
from refk8s.core.apiserver.admission.conditions import ConditionsFailed
from refk8s.core.apiserver.admission.matching import AdmissionRequest
from refk8s.core.apiserver.admission.policies.bound import VALIDATING, Bound, policies_of
from refk8s.core.apiserver.admission.policies.expressions import (
    Evaluation,
    ExpressionFailed,
    OutOfBudget,
    first,
    values_of,
)
from refk8s.core.apiserver.admission.policies.parameters import (
    Misconfigured,
    find_parameters,
    parameter_resource,
)
from refk8s.core.apiserver.admission.policies.refusal import refused
from refk8s.core.apiserver.admission.versioned import in_version
from refk8s.core.cel.admission import (
    compile_annotation,
    compile_condition,
    compile_message,
)
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange, Notes

MESSAGE_BYTES_MAX: Final = 5 * 1024
ANNOTATION_BYTES_MAX: Final = 10 * 1024
FAILURE_KEY: Final = "validation.policy.admission.k8s.io/validation_failure"
_KIND: Final = "ValidatingAdmissionPolicy"


class Denial(Value, frozen=True):
    """A validation that does not hold, or an error of a policy that fails closed. `place`: that of
    the expression in the policy."""

    message: str
    reason: str = "Invalid"
    place: int = 0


class Annotations:
    """The audit annotations of one policy on one request (POL-11)."""

    def __init__(self, policy: str, notes: Notes) -> None:
        self._policy, self._notes = policy, notes
        self._texts: dict[str, list[str]] = {}

    def add(self, key: str, text: str) -> None:
        """Add a value to those of the key, if it is not there yet."""
        text = text.encode()[:ANNOTATION_BYTES_MAX].decode(errors="ignore")
        texts = self._texts.setdefault(key, [])
        if text not in texts:
            texts.append(text)
            self._notes.annotations[f"{self._policy}/{key}"] = ", ".join(texts)


def validate(exchange: Exchange, request_of: Callable[[], AdmissionRequest]) -> None:
    """Evaluate the policies that match (POL-6). Raises ApiError for the first that denies the
    request (POL-10)."""
    waiting = policies_of(VALIDATING, exchange).of(exchange.request.resource.plural)
    if not waiting:
        return
    request = request_of()
    for bound in waiting:
        _validate_by(exchange, bound, request)


def _validate_by(exchange: Exchange, bound: Bound, request: AdmissionRequest) -> None:
    """Evaluate a policy for each of its bindings and parameters."""
    store, policy = exchange.store, bound.policy
    name = policy.metadata.name
    try:
        resource = matching.match(bound.criteria, request, store)
        if resource is None:
            return
        kind = policy.spec.param_kind
        param_resource = parameter_resource(kind, store)
    except (ApiError, Misconfigured) as error:
        if bound.fails_closed:
            words = f"failed to configure policy: {error}"
            raise refused(_KIND, request, name, "", words) from None
        return
    values: dict[str, Any] | None = None
    annotations = Annotations(name or "", exchange.notes)
    for binding, criteria in bound.bindings:
        binding_name = binding.metadata.name
        try:
            if criteria is not None and matching.match(criteria, request, store) is None:
                continue
            ref = binding.spec.param_ref
            found = find_parameters(kind, param_resource, ref, request.namespace, store)
        except (ApiError, Misconfigured) as error:
            if bound.fails_closed:
                words = f"failed to configure binding: {error}"
                raise refused(_KIND, request, name, binding_name, words) from None
            continue
        if values is None:
            asked = in_version(exchange, request, resource)
            values = values_of(asked, resource, store, exchange.config)
        for parameter in found:
            given = {**values, "params": to_tree(parameter)}
            for denial in _denials(bound, given, annotations):
                _act(binding, denial, request, name, exchange.notes)


def _act(
    binding: Any,
    denial: Denial,
    request: AdmissionRequest,
    policy_name: str,
    notes: Notes,
) -> None:
    """Do what the binding says about a denial (POL-10)."""
    binding_name, actions = binding.metadata.name, binding.spec.validation_actions
    if "Audit" in actions:
        failure = {
            "message": denial.message,
            "policy": binding.spec.policy_name,
            "binding": binding_name,
            "expressionIndex": denial.place,
            "validationActions": list(actions),
        }
        notes.annotations.setdefault(FAILURE_KEY, json.dumps([failure], separators=(",", ":")))
    if "Deny" in actions:
        raise refused(_KIND, request, policy_name, binding_name, denial.message, denial.reason)
    if "Warn" in actions:
        where = f"{_KIND} '{policy_name}' with binding '{binding_name}'"
        notes.warnings.append(f"Validation failed for {where}: {denial.message}")


def _denials(bound: Bound, values: dict[str, Any], annotations: Annotations) -> Iterator[Denial]:
    """The denials of a policy with one parameter (POL-9)."""
    try:
        if not bound.conditions.hold(values):
            return
    except ConditionsFailed as failed:
        if bound.fails_closed:
            yield Denial(str(failed))
        return
    evaluation = Evaluation(bound.declared, values)
    try:
        for place, validation in enumerate(bound.policy.spec.validations or ()):
            try:
                if evaluation.value(validation.expression, compile_condition) is not True:
                    message = _message(evaluation, validation)
                    yield Denial(message, validation.reason or "Invalid", place)
            except ExpressionFailed as failed:
                if bound.fails_closed:
                    yield Denial(str(failed), place=place)
        yield from _annotate(bound, Evaluation(bound.declared, values), annotations)
    except OutOfBudget as error:
        if bound.fails_closed:
            yield Denial(str(error))


def _message(evaluation: Evaluation, validation: Any) -> str:
    """The message of a validation that does not hold: that of its expression, if it has one that
    makes a text of one line."""
    made = ""
    if validation.message_expression:
        try:
            value = evaluation.value(
                validation.message_expression, compile_message, has_authorizer=False
            )
            made = value.strip()
        except (ExpressionFailed, OutOfBudget):
            made = ""  # the validation does not hold all the same
        if "\n" in made or len(made.encode()) > MESSAGE_BYTES_MAX:
            made = ""
    text = f"failed expression: {validation.expression.strip()}"
    return first((made, validation.message or "", text))


def _annotate(bound: Bound, evaluation: Evaluation, annotations: Annotations) -> Iterator[Denial]:
    """Add the audit annotations of the policy (POL-11). Of an expression that has no value: a
    denial, if the policy fails closed."""
    for annotation in bound.policy.spec.audit_annotations or ():
        try:
            value = evaluation.value(annotation.value_expression.strip(), compile_annotation)
        except ExpressionFailed as failed:
            if bound.fails_closed:
                yield Denial(str(failed))
            continue
        text = value.strip() if isinstance(value, str) else ""
        if text:
            annotations.add(annotation.key, text)
