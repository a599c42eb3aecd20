"""Roles and role bindings. Rule VAL-33 (spec/validation.md).

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from refk8s.core.api.rbac_v1 import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding
from refk8s.core.apiserver.validation.field import (
    Causes,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_subdomain, path_segment
from refk8s.core.apiserver.validation.selectors import validate_selector

RBAC_GROUP = "rbac.authorization.k8s.io"


def validate_role(role: Role | ClusterRole) -> Causes:
    """VAL-33: every rule has verbs, and resources or paths."""
    causes: Causes = []
    for position, rule in enumerate(role.rules or ()):
        causes += _validate_rule(rule, isinstance(role, Role), f"rules[{position}]")
    if isinstance(role, ClusterRole) and role.aggregation_rule is not None:
        selectors = role.aggregation_rule.cluster_role_selectors
        if not selectors:
            words = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            causes.append(required("aggregationRule.clusterRoleSelectors", words))
        for position, selector in enumerate(selectors or ()):
            here = f"aggregationRule.clusterRoleSelectors[{position}]"
            wrong = validate_selector(selector, here)
            causes += [*wrong, invalid(here, None, "invalid label selector.")] if wrong else []
    return causes


def _validate_rule(rule: PolicyRule, namespaced: bool, at: str) -> Causes:
    causes: Causes = []
    if not rule.verbs:
        causes.append(required(f"{at}.verbs", "verbs must contain at least one value"))
    if rule.non_resource_urls:
        if namespaced:
            words = "namespaced rules cannot apply to non-resource URLs"
            causes.append(invalid(f"{at}.nonResourceURLs", rule.non_resource_urls, words))
        if rule.api_groups or rule.resources or rule.resource_names:
            words = "rules cannot apply to both regular resources and non-resource URLs"
            causes.append(invalid(f"{at}.nonResourceURLs", rule.non_resource_urls, words))
        return causes
    if not rule.api_groups:
        causes.append(
            required(f"{at}.apiGroups", "resource rules must supply at least one api group")
        )
    if not rule.resources:
        causes.append(
            required(f"{at}.resources", "resource rules must supply at least one resource")
        )
    return causes


def validate_binding(binding: RoleBinding | ClusterRoleBinding) -> Causes:
    """VAL-33: a reference to a role of a permitted kind, and complete subjects."""
    role = binding.role_ref
    causes: Causes = []
    if role.api_group != RBAC_GROUP:
        causes.append(not_supported("roleRef.apiGroup", role.api_group, (RBAC_GROUP,)))
    kinds = ("Role", "ClusterRole") if isinstance(binding, RoleBinding) else ("ClusterRole",)
    if role.kind not in kinds:
        causes.append(not_supported("roleRef.kind", role.kind, kinds))
    if not role.name:
        causes.append(required("roleRef.name"))
    else:
        causes += malformed("roleRef.name", role.name, path_segment)
    for position, subject in enumerate(binding.subjects or ()):
        here = f"subjects[{position}]"
        if not subject.name:
            causes.append(required(f"{here}.name"))
        if subject.kind == "ServiceAccount":
            if subject.name:
                causes += malformed(f"{here}.name", subject.name, dns_subdomain)
            if subject.api_group:
                causes.append(not_supported(f"{here}.apiGroup", subject.api_group, ("",)))
            if isinstance(binding, ClusterRoleBinding) and not subject.namespace:
                causes.append(required(f"{here}.namespace"))
        elif subject.kind in ("User", "Group"):
            if subject.api_group != RBAC_GROUP:
                causes.append(not_supported(f"{here}.apiGroup", subject.api_group, (RBAC_GROUP,)))
        else:
            causes.append(
                not_supported(f"{here}.kind", subject.kind, ("ServiceAccount", "User", "Group"))
            )
    return causes


def validate_binding_update(
    new: RoleBinding | ClusterRoleBinding, old: RoleBinding | ClusterRoleBinding
) -> Causes:
    """VAL-33: the roleRef is immutable."""
    causes = validate_binding(new)
    if new.role_ref != old.role_ref:
        causes.append(invalid("roleRef", new.role_ref, "cannot change roleRef"))
    return causes
