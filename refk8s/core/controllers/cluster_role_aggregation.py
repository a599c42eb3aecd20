"""A ClusterRole with an aggregationRule gets the rules of the roles that it selects. Rule RBAC-9
(spec/authorization.md).

Source: Kubernetes documentation, "Using RBAC Authorization" (aggregated ClusterRoles).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.rbac_v1 import ClusterRole, PolicyRule
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CLUSTER_ROLES
from refk8s.core.api.selector import Selector, SelectorError, from_label_selector
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View

_AGGREGATING = "aggregating"


def _selectors(role: ClusterRole) -> tuple[Selector, ...] | None:
    """The selectors of the role; None if one is invalid, and then the role keeps its rules."""
    rule = role.aggregation_rule
    try:
        given = rule.cluster_role_selectors or () if rule is not None else ()
        return tuple([from_label_selector(one) for one in given])
    except SelectorError:
        return None


def _concerned(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """The aggregating roles that select the changed role, or that are the changed role. O(roles
    that aggregate)."""
    changed = [role for role in (old, new) if role is not None]
    keys = [role.metadata.name for role in changed if role.aggregation_rule is not None]
    for role in view.indexed(CLUSTER_ROLES, _AGGREGATING, "role"):
        selectors = _selectors(role) or ()
        if any(one.matches(each.metadata.labels) for one in selectors for each in changed):
            keys.append(role.metadata.name)
    return tuple(dict.fromkeys(keys))


class ClusterRoleAggregation(Reconciler):
    """RBAC-9: the rules of a role that aggregates others."""

    name = "clusterrole-aggregation-controller"
    interests = (Interest(CLUSTER_ROLES, _concerned),)
    indexes = (
        Index(
            _AGGREGATING,
            CLUSTER_ROLES,
            lambda role: ("role",) if role.aggregation_rule is not None else (),
        ),
    )
    user = service_account_user("kube-system", name)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Compare the rules with those of the selected roles."""
        # Observe
        role: ClusterRole | None = view.get(CLUSTER_ROLES, key)
        if role is None or role.aggregation_rule is None or role.metadata.deletion_timestamp:
            return NOTHING
        selectors = _selectors(role)
        if selectors is None:
            return NOTHING
        others = [one for one in view.list(CLUSTER_ROLES) if one.metadata.name != key]

        # Decide
        rules = aggregate(selectors, others)
        if rules == (role.rules or ()):
            return NOTHING

        # Act
        because = "it has the rules of the roles that it selects"
        body = replace(role, rules=rules)
        return Plan(((Request("update", CLUSTER_ROLES, "", key, body=body, because=because),),))


def aggregate(selectors: tuple[Selector, ...], roles: list[ClusterRole]) -> tuple[PolicyRule, ...]:
    """The rules of the roles that a selector matches, selector by selector and by name; equal rules
    once."""
    ordered = sorted(roles, key=lambda role: role.metadata.name or "")
    found: list[PolicyRule] = []
    for selector in selectors:
        for role in ordered:
            for rule in (role.rules or ()) if selector.matches(role.metadata.labels) else ():
                if rule not in found:
                    found.append(rule)
    return tuple(found)
