"""Admission policies and their bindings. Rules POL-3, POL-4 (spec/admission_policies.md).

Source: Kubernetes documentation, "Validating Admission Policy", "Mutating Admission Policy"; API
reference, "ValidatingAdmissionPolicy", "MutatingAdmissionPolicy" and their bindings.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from refk8s.core.api.admissionregistration_v1 import (
    AuditAnnotation,
    MatchResources,
    MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding,
    MutatingAdmissionPolicySpec,
    Mutation,
    ParamKind,
    ParamRef,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicySpec,
    Validation,
)
from refk8s.core.apiserver.validation.conditions import validate_conditions
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.match_conditions import validate_match_conditions
from refk8s.core.apiserver.validation.names import (
    dns_label_1035,
    dns_subdomain,
    path_segment,
    qualified_name,
)
from refk8s.core.apiserver.validation.selectors import validate_selector
from refk8s.core.apiserver.validation.webhook_rules import validate_rule
from refk8s.core.apiserver.validation.webhooks import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
)
from refk8s.core.cel.admission import (
    Environment,
    Expression,
    Variables,
    compile_annotation,
    compile_apply_configuration,
    compile_condition,
    compile_json_patch,
    compile_message,
    compile_variable,
)
from refk8s.core.cel.environment import InvalidExpression
from refk8s.core.cel.syntax import RESERVED
from refk8s.core.cel.types import DYN

ANNOTATIONS_MAX: Final = 20
VALUE_EXPRESSION_BYTES_MAX: Final = 5 * 1024
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
ACTIONS = ("Audit", "Deny", "Warn")
PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_MUTATED_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_ITEMS_REQUIRED = "validations or auditAnnotations must contain at least one item"

Spec = ValidatingAdmissionPolicySpec | MutatingAdmissionPolicySpec
Compile = Callable[[str, Environment, Variables], Expression]


def validate_validating_policy(policy: ValidatingAdmissionPolicy) -> Causes:
    """POL-3: expressions of the right type, and rules that say what their variables are."""
    return _validate_validating(policy, has_new_conditions=True)


def validate_validating_policy_update(
    new: ValidatingAdmissionPolicy, old: ValidatingAdmissionPolicy
) -> Causes:
    """POL-3. Match conditions that stay as they are, are not compiled again."""
    return _validate_validating(new, has_new_conditions=_has_new_conditions(new.spec, old.spec))


def _has_new_conditions(new: Spec, old: Spec) -> bool:
    return (new.param_kind, new.match_conditions) != (old.param_kind, old.match_conditions)


def _validate_validating(policy: ValidatingAdmissionPolicy, has_new_conditions: bool) -> Causes:
    spec = policy.spec
    causes, environment, variables = _validate_common(
        spec, has_new_conditions, "name is not a valid CEL identifier"
    )
    if not spec.validations and not spec.audit_annotations:
        causes.append(required("spec.validations", _ITEMS_REQUIRED))
        causes.append(required("spec.auditAnnotations", _ITEMS_REQUIRED))
        return causes
    for position, validation in enumerate(spec.validations or ()):
        here = f"spec.validations[{position}]"
        causes += _validate_validation(validation, environment, variables, here)
    annotations = spec.audit_annotations or ()
    if len(annotations) > ANNOTATIONS_MAX:
        words = f"must not have more than {ANNOTATIONS_MAX} auditAnnotations"
        causes.append(invalid("spec.auditAnnotations", annotations, words))
    seen: set[str] = set()
    for position, annotation in enumerate(annotations[: ANNOTATIONS_MAX + 1]):
        here = f"spec.auditAnnotations[{position}]"
        name = policy.metadata.name or ""
        causes += _validate_annotation(annotation, name, environment, variables, here)
        if annotation.key in seen:
            causes.append(duplicate(f"{here}.key", annotation.key))
        seen.add(annotation.key)
    return causes


def validate_mutating_policy(policy: MutatingAdmissionPolicy) -> Causes:
    """POL-3: expressions of the right type, and rules that say what their variables are."""
    return _validate_mutating(policy, has_new_conditions=True)


def validate_mutating_policy_update(
    new: MutatingAdmissionPolicy, old: MutatingAdmissionPolicy
) -> Causes:
    """POL-3. Match conditions that stay as they are, are not compiled again."""
    return _validate_mutating(new, has_new_conditions=_has_new_conditions(new.spec, old.spec))


def _validate_mutating(policy: MutatingAdmissionPolicy, has_new_conditions: bool) -> Causes:
    spec = policy.spec
    causes, environment, variables = _validate_common(
        spec, has_new_conditions, "must be a valid CEL identifier"
    )
    causes += _validate_mutated_operations(spec.match_constraints, "spec.matchConstraints")
    if not spec.mutations:
        causes.append(required("spec.mutations", "mutations must contain at least one item"))
    for position, mutation in enumerate(spec.mutations or ()):
        here = f"spec.mutations[{position}]"
        causes += _validate_mutation(mutation, environment, variables, here)
    where = "spec.reinvocationPolicy"
    return causes + _validate_choice(spec.reinvocation_policy, where, REINVOCATION_POLICIES)


def _validate_mutated_operations(match: MatchResources | None, at: str) -> Causes:
    """What is being deleted cannot be changed."""
    return [
        not_supported(f"{at}.resourceRules.operations", operation, _MUTATED_OPERATIONS)
        for rule in (match.resource_rules if match is not None else None) or ()
        for operation in rule.operations or ()
        if operation not in _MUTATED_OPERATIONS
    ]


# --- what both have


def _validate_common(
    spec: Spec, has_new_conditions: bool, no_identifier: str
) -> tuple[Causes, Environment, Variables]:
    """The causes of what both kinds have, and what their expressions see."""
    causes = _validate_choice(spec.failure_policy, "spec.failurePolicy", FAILURE_POLICIES)
    environment = Environment(
        has_params=spec.param_kind is not None,
        has_variables=bool(spec.variables),
        is_mutation=isinstance(spec, MutatingAdmissionPolicySpec),
    )
    if spec.param_kind is not None:
        causes += _validate_param_kind(spec.param_kind)
    match = spec.match_constraints
    if match is None:
        causes.append(required("spec.matchConstraints"))
    else:
        causes += _validate_match_resources(match, "spec.matchConstraints")
        if not match.resource_rules:
            causes.append(required("spec.matchConstraints.resourceRules"))
    if has_new_conditions:
        causes += validate_match_conditions(
            spec.match_conditions, "spec.matchConditions", has_params=environment.has_params
        )
    variables: Variables = ()
    for position, variable in enumerate(spec.variables or ()):
        here = f"spec.variables[{position}]"
        kind = DYN
        if not variable.name.strip():
            causes.append(required(f"{here}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(variable.name) or variable.name in RESERVED:
            causes.append(invalid(f"{here}.name", variable.name, no_identifier))
        if not variable.expression.strip():
            causes.append(required(f"{here}.expression", "expression is not specified"))
        else:
            text = variable.expression
            try:
                kind = compile_variable(text, environment, variables).type
            except InvalidExpression as error:
                causes.append(invalid(f"{here}.expression", text, str(error)))
        variables = (*variables, (variable.name, kind))
    return causes, environment, variables


def _validate_choice(value: str | None, at: str, choices: Sequence[str]) -> Causes:
    """A required field that has one of these values."""
    if not value:
        return [required(at)]
    return [] if value in choices else [not_supported(at, value, choices)]


def _validate_match_resources(match: MatchResources, at: str) -> Causes:
    """POL-2: the criteria of a policy or a binding."""
    causes = _validate_choice(match.match_policy, f"{at}.matchPolicy", MATCH_POLICIES)
    causes += validate_selector(match.namespace_selector, f"{at}.namespaceSelector")
    causes += validate_selector(match.object_selector, f"{at}.objectSelector")
    for position, rule in enumerate(match.resource_rules or ()):
        causes += validate_rule(rule, f"{at}.resourceRules[{position}]")
    for position, rule in enumerate(match.exclude_resource_rules or ()):
        causes += validate_rule(rule, f"{at}.excludeResourceRules[{position}]")
    return causes


def _validate_param_kind(kind: ParamKind) -> Causes:
    """The group, version and kind are those that a resource can have."""
    causes: Causes = []
    at, version_at = "spec.paramKind.kind", "spec.paramKind.apiVersion"
    api_version = kind.api_version or ""
    group, _, version = api_version.rpartition("/")
    if not api_version:
        causes.append(required(version_at))
    elif "/" in group:
        words = f"unexpected GroupVersion string: {api_version}"
        causes.append(invalid(version_at, api_version, words))
    else:
        if group and (wrong := dns_subdomain(group)):
            causes.append(invalid(version_at, group, ",".join(wrong)))
        if not version:
            causes.append(invalid(version_at, api_version, "version must be specified"))
        elif wrong := dns_label_1035(version):
            causes.append(invalid(version_at, version, ",".join(wrong)))
    if not kind.kind:
        causes.append(required(at))
    elif wrong := dns_label_1035(kind.kind.lower()):
        words = "may have mixed case, but should otherwise match: " + ",".join(wrong)
        causes.append(invalid(at, kind.kind, words))
    return causes


def _compiled(
    compile_text: Compile, text: str, environment: Environment, variables: Variables, at: str
) -> Causes:
    try:
        compile_text(text, environment, variables)
    except InvalidExpression as error:
        return [invalid(at, text, str(error))]
    return []


# --- validations


def _validate_validation(
    validation: Validation, environment: Environment, variables: Variables, at: str
) -> Causes:
    causes: Causes = []
    here = f"{at}.expression"
    if not validation.expression.strip():
        causes.append(required(here, "expression is not specified"))
    else:
        text = validation.expression
        causes += _compiled(compile_condition, text, environment, variables, here)
    expression, message = validation.message_expression, validation.message
    if expression:
        here = f"{at}.messageExpression"
        if not expression.strip():
            causes.append(invalid(here, expression, "must be non-empty if specified"))
        else:
            plain = Environment(environment.has_params, False, environment.has_variables)
            causes += _compiled(compile_message, expression, plain, variables, here)
    if message:
        if not message.strip():
            words = "message must be non-empty if specified"
            causes.append(invalid(f"{at}.message", message, words))
        elif re.search(r"[\n\r]", message.strip()):
            words = "message must not contain line breaks"
            causes.append(invalid(f"{at}.message", message, words))
    if validation.reason is not None and validation.reason not in REASONS:
        causes.append(not_supported(f"{at}.reason", validation.reason, REASONS))
    return causes


def _validate_annotation(
    annotation: AuditAnnotation,
    policy_name: str,
    environment: Environment,
    variables: Variables,
    at: str,
) -> Causes:
    key, text = annotation.key, annotation.value_expression.strip()
    if policy_name:
        name = f"{policy_name}/{key}"
        causes = [invalid(f"{at}.key", name, words) for words in qualified_name(name)]
    else:
        causes = [invalid(f"{at}.key", key, "requires metadata.name be non-empty")]
    here = f"{at}.valueExpression"
    if not text:
        causes.append(required(here, "valueExpression is not specified"))
    elif len(text.encode()) > VALUE_EXPRESSION_BYTES_MAX:
        words = f"must not exceed {VALUE_EXPRESSION_BYTES_MAX} bytes in length"
        causes.append(required(here, words))
    else:
        causes += _compiled(compile_annotation, text, environment, variables, here)
    return causes


# --- mutations


def _validate_mutation(
    mutation: Mutation, environment: Environment, variables: Variables, at: str
) -> Causes:
    kind = mutation.patch_type
    causes = _validate_choice(kind, f"{at}.patchType", PATCH_TYPES)
    if causes:
        return causes
    parts = {
        "ApplyConfiguration": (
            "applyConfiguration",
            mutation.apply_configuration,
            compile_apply_configuration,
        ),
        "JSONPatch": ("jsonPatch", mutation.json_patch, compile_json_patch),
    }
    for patch_type, (name, part, compile_text) in parts.items():
        here = f"{at}.{name}"
        if patch_type != kind:
            if part is not None:
                words = f"must not be specified when patchType is {kind}"
                causes.append(invalid(here, f"{{{name}}}", words))
        elif part is None:
            causes.append(required(here, f"must be specified when patchType is {kind}"))
        elif not (part.expression or "").strip():
            causes.append(required(f"{here}.expression"))
        else:
            text = part.expression or ""
            where = f"{here}.expression"
            causes += _compiled(compile_text, text, environment, variables, where)
    return causes


# --- bindings


def validate_validating_binding(binding: ValidatingAdmissionPolicyBinding) -> Causes:
    """POL-4: a policy, at most one way to name parameters, and actions that go together."""
    spec = binding.spec
    causes = _validate_binding(spec.policy_name, spec.param_ref, spec.match_resources)
    at, actions = "spec.validationActions", spec.validation_actions
    for position, action in enumerate(actions):
        if action not in ACTIONS:
            causes.append(not_supported(f"{at}[{position}]", action, ACTIONS))
        if action in actions[:position]:
            causes.append(duplicate(f"{at}[{position}]", action))
    if "Deny" in actions and "Warn" in actions:
        words = (
            "must not contain both Deny and Warn (repeating the same validation failure "
            "information in the API response and headers serves no purpose)"
        )
        causes.append(invalid(at, actions, words))
    if not actions:
        causes.append(required(at, "at least one validation action is required"))
    return causes


def validate_validating_binding_update(
    new: ValidatingAdmissionPolicyBinding, old: ValidatingAdmissionPolicyBinding
) -> Causes:
    """POL-4."""
    return validate_validating_binding(new)


def validate_mutating_binding(binding: MutatingAdmissionPolicyBinding) -> Causes:
    """POL-4: a policy, and at most one way to name parameters."""
    spec = binding.spec
    causes = _validate_binding(spec.policy_name or "", spec.param_ref, spec.match_resources)
    return causes + _validate_mutated_operations(spec.match_resources, "spec.matchResources")


def validate_mutating_binding_update(
    new: MutatingAdmissionPolicyBinding, old: MutatingAdmissionPolicyBinding
) -> Causes:
    """POL-4."""
    return validate_mutating_binding(new)


def _validate_binding(
    policy_name: str, param_ref: ParamRef | None, match: MatchResources | None
) -> Causes:
    at = "spec.policyName"
    causes = malformed(at, policy_name, dns_subdomain) if policy_name else [required(at)]
    if param_ref is not None:
        causes += _validate_param_ref(param_ref, "spec.paramRef")
    if match is not None:
        causes += _validate_match_resources(match, "spec.matchResources")
    return causes


def _validate_param_ref(ref: ParamRef, at: str) -> Causes:
    causes: Causes = []
    both = bool(ref.name) and ref.selector is not None
    words = "name and selector are mutually exclusive"
    if ref.name:
        causes += malformed(f"{at}.name", ref.name, path_segment)
    if both:
        causes.append(forbidden(f"{at}.name", words))
    if ref.selector is not None:
        causes += validate_selector(ref.selector, f"{at}.selector")
    if both:
        causes.append(forbidden(f"{at}.selector", words))
    if not ref.name and ref.selector is None:
        causes.append(required(at, "one of name or selector must be specified"))
    where = f"{at}.parameterNotFoundAction"
    return causes + _validate_choice(ref.parameter_not_found_action, where, ("Deny", "Allow"))


# --- the status


def validate_validating_policy_status(
    new: ValidatingAdmissionPolicy, old: ValidatingAdmissionPolicy
) -> Causes:
    """POL-3: a warning of the type checker has a text and a field."""
    checking = new.status.type_checking
    causes: Causes = []
    for position, one in enumerate((checking.expression_warnings if checking else None) or ()):
        here = f"status.typeChecking.expressionWarnings[{position}]"
        if not one.warning:
            causes.append(required(f"{here}.warning"))
        if not one.field_ref.strip():
            causes.append(required(f"{here}.fieldRef"))
    return causes + validate_conditions(new.status.conditions or (), "status.conditions")
