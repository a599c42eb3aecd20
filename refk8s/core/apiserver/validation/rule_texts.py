"""The texts of the validation rules in a schema, apart from their expressions. Rule CRD-24
(spec/custom_resources.md).

They are checked wherever a rule is, also if the schema is not structural. Source: Kubernetes
documentation, "Extend the Kubernetes API with CustomResourceDefinitions" (Validation rules).
"""

from typing import Any

from refk8s.core.apiserver.custom.paths import FIELD_STEP
from refk8s.core.apiserver.validation.field import Causes, invalid, not_supported, required

VALIDATIONS = "x-kubernetes-validations"
REASONS = (
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
)
_EMPTY, _BROKEN = "must be non-empty if specified", "must not contain line breaks"


def validate_rule_texts(schema: dict[str, Any], at: str, *, is_readable: bool = True) -> Causes:
    """The causes of the rules at one place of a schema. Whether a path leads to a field is known
    only of a schema that `is_readable`."""
    causes: Causes = []
    for place, rule in enumerate(schema.get(VALIDATIONS, ())):
        here = f"{at}.{VALIDATIONS}[{place}]"
        causes += _message(rule.get("rule", ""), rule.get("message", ""), here)
        expression = rule.get("messageExpression", "")
        if expression and not expression.strip():
            causes.append(required(f"{here}.messageExpression", f"messageExpression {_EMPTY}"))
        reason = rule.get("reason")
        if reason is not None and reason not in REASONS:
            causes.append(not_supported(f"{here}.reason", reason, REASONS))
        path = rule.get("fieldPath", "")
        if path and not path.strip():
            causes.append(invalid(f"{here}.fieldPath", path, _EMPTY))
        if _is_broken(path):
            causes.append(invalid(f"{here}.fieldPath", path, _BROKEN))
        if path and is_readable and not _names_field(schema, path):
            causes.append(invalid(f"{here}.fieldPath", path, "must be a valid path"))
    return causes


def _message(rule: str, message: str, at: str) -> Causes:
    rule, shown = rule.strip(), message.strip()
    if not rule:
        return [required(f"{at}.rule", "rule is not specified")]
    if message and not shown:
        return [invalid(f"{at}.message", message, _EMPTY)]
    if _is_broken(shown):
        return [invalid(f"{at}.message", message, _BROKEN)]
    if _is_broken(rule) and not shown:
        words = "message must be specified if rule contains line breaks"
        return [required(f"{at}.message", words)]
    return []


def _is_broken(text: str) -> bool:
    return "\n" in text or "\r" in text


def _names_field(schema: dict[str, Any], path: str) -> bool:
    """Whether the path leads to a field of the schema."""
    place: Any = schema
    for name, key in FIELD_STEP.findall(path):
        child = place.get("properties", {}).get(name or key)
        if child is None and key:
            child = place.get("additionalProperties")
        if not isinstance(child, dict):
            return False
        place = child
    return not FIELD_STEP.sub("", path)
