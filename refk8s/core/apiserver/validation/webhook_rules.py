"""The rules by which webhooks and policies match requests. Rule HOOK-2 (spec/webhooks.md).

Source: API reference, "RuleWithOperations", "NamedRuleWithOperations"; Kubernetes documentation,
"Dynamic Admission Control" (Matching requests: rules).
"""

from typing import Any, Final

from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import path_segment

OPERATIONS: Final = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
SCOPES: Final = ("*", "Cluster", "Namespaced")


def validate_rule(rule: Any, at: str) -> Causes:
    """Operations, groups, versions and resources are named, and beside `*` no others. The rule of a
    policy may name objects, each once."""
    names = tuple(getattr(rule, "resource_names", None) or ())
    named: Causes = []
    for place, name in enumerate(names):
        named += malformed(f"{at}.resourceNames[{place}]", name, path_segment)
        if name in names[:place]:
            named.append(duplicate(f"{at}.resourceNames[{place}]", name))
    return named + _validate_rule(rule, at)


def _validate_rule(rule: Any, at: str) -> Causes:
    operations = tuple(rule.operations or ())
    causes = _listed(operations, f"{at}.operations", "operations")
    causes += [
        not_supported(f"{at}.operations[{place}]", operation, OPERATIONS)
        for place, operation in enumerate(operations)
        if operation not in OPERATIONS
    ]
    causes += _listed(tuple(rule.api_groups or ()), f"{at}.apiGroups", "API groups")
    versions = tuple(rule.api_versions or ())
    causes += _listed(versions, f"{at}.apiVersions", "API versions")
    causes += [
        required(f"{at}.apiVersions[{place}]")
        for place, version in enumerate(versions)
        if not version
    ]
    causes += _resources(tuple(rule.resources or ()), f"{at}.resources")
    if rule.scope is not None and rule.scope not in SCOPES:
        causes.append(not_supported(f"{at}.scope", rule.scope, SCOPES))
    return causes


def _listed(values: tuple[str, ...], at: str, what: str) -> Causes:
    if not values:
        return [required(at)]
    if len(values) > 1 and "*" in values:
        words = f"if '*' is present, must not specify other {what}"
        return [invalid(at, list(values), words)]
    return []


def _resources(values: tuple[str, ...], at: str) -> Causes:
    """No name is covered by an earlier one with `*`."""
    causes: Causes = [] if values else [required(at)]
    with_any_part: set[str] = set()
    parts_of_any: set[str] = set()
    is_last_plain = False
    for place, value in enumerate(values):
        here = f"{at}[{place}]"
        if not value:
            causes.append(required(here))
            continue
        name, slash, part = value.partition("/")
        if not slash:
            is_last_plain = value != "*"
            continue
        if name in with_any_part:
            words = f"if '{name}/*' is present, must not specify {value}"
            causes.append(invalid(here, value, words))
        if part in parts_of_any:
            words = f"if '*/{part}' is present, must not specify {value}"
            causes.append(invalid(here, value, words))
        if part == "*":
            with_any_part.add(name)
        if name == "*":
            parts_of_any.add(part)
    if len(values) > 1 and "*/*" in values:
        words = "if '*/*' is present, must not specify other resources"
        causes.append(invalid(at, list(values), words))
    if "*" in values and is_last_plain:
        words = "if '*' is present, must not specify other resources without subresources"
        causes.append(invalid(at, list(values), words))
    return causes
