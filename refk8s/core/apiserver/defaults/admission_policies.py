"""Defaults of admission policies and of rules. Rule POL-1 (spec/admission_policies.md).

Source: Kubernetes API reference (the defaults named with each field).
"""

from typing import Any, TypeVar

from msgspec.structs import replace

from refk8s.core.api.admissionregistration_v1 import (
    MatchResources,
    MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from refk8s.core.api.meta_v1 import LabelSelector

Policy = TypeVar("Policy", ValidatingAdmissionPolicy, MutatingAdmissionPolicy)
Binding = TypeVar("Binding", ValidatingAdmissionPolicyBinding, MutatingAdmissionPolicyBinding)
_EVERYTHING = LabelSelector()


def default_policy(policy: Policy) -> Policy:
    """POL-1: a policy fails closed, and matches equivalent resources, every namespace and
    object."""
    spec = policy.spec
    match = spec.match_constraints
    fresh: Any = replace(
        spec,
        failure_policy=spec.failure_policy or "Fail",
        match_constraints=None if match is None else _default_match(match),
    )
    return policy if fresh == spec else replace(policy, spec=fresh)


def default_binding(binding: Binding) -> Binding:
    """POL-1: as a policy."""
    match = binding.spec.match_resources
    if match is None:
        return binding
    fresh: Any = replace(binding.spec, match_resources=_default_match(match))
    return binding if fresh == binding.spec else replace(binding, spec=fresh)


def _default_match(match: MatchResources) -> MatchResources:
    return replace(
        match,
        match_policy=match.match_policy if match.match_policy is not None else "Equivalent",
        namespace_selector=match.namespace_selector or _EVERYTHING,
        object_selector=match.object_selector or _EVERYTHING,
        resource_rules=default_scopes(match.resource_rules),
        exclude_resource_rules=default_scopes(match.exclude_resource_rules),
    )


def default_scopes(rules: Any) -> Any:
    """POL-1: rules without a scope are for every scope. The same rules if none is added."""
    if all(rule.scope is not None for rule in rules or ()):
        return rules
    return tuple([rule if rule.scope is not None else replace(rule, scope="*") for rule in rules])
