"""The policies of a store with their bindings, compiled. Rule POL-6 (spec/admission_policies.md).

A policy without a binding has no effect. Policies and bindings are compiled when one of them has
changed. Source: Kubernetes documentation, "Validating Admission Policy", "Mutating Admission
Policy".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api import resources
from refk8s.core.api.admissionregistration_v1 import MatchResources, NamedRuleWithOperations
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.admission import matching
from refk8s.core.apiserver.admission.conditions import Conditions
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.admission.matching import ANY, Criteria, compile_criteria
from refk8s.core.apiserver.admission.policies.expressions import Declared
from refk8s.core.cel.admission import Environment
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

VALIDATING: Final = (
    resources.VALIDATING_ADMISSION_POLICIES,
    resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
)
MUTATING: Final = (
    resources.MUTATING_ADMISSION_POLICIES,
    resources.MUTATING_ADMISSION_POLICY_BINDINGS,
)
EXEMPT: Final = matching.EXEMPT - {
    resources.MUTATING_WEBHOOK_CONFIGURATIONS.prefix,
    resources.VALIDATING_WEBHOOK_CONFIGURATIONS.prefix,
}
"""Resources that no policy is for: policies themselves, and reviews. Webhooks are not among
them."""


class Bound(Value, frozen=True, eq=False):
    """A policy that has bindings, each with its criteria; None if a binding has none of its own."""

    policy: Any
    declared: Declared
    criteria: Criteria
    conditions: Conditions
    fails_closed: bool
    bindings: tuple[tuple[Any, Criteria | None], ...]


class Index(Value, frozen=True, eq=False):
    """Policies by the plural of the resources that they name; `others`: those for every one."""

    by_plural: Mapping[str, tuple[Bound, ...]]
    others: tuple[Bound, ...]

    def of(self, plural: str) -> tuple[Bound, ...]:
        """The policies that may be for this resource, by name. O(1)."""
        return self.by_plural.get(plural, self.others)


def compile_policies(objects: Sequence[Sequence[Any]]) -> Index:
    """The policies and their bindings, both in the order of their names."""
    policies, bindings = objects
    of_policy: dict[str, list[Any]] = {}
    for binding in bindings:
        of_policy.setdefault(binding.spec.policy_name or "", []).append(binding)
    bound = [
        _compile(policy, of_policy[policy.metadata.name])
        for policy in policies
        if policy.metadata.name in of_policy
    ]
    plurals = {plural for one in bound for plural in one.criteria.plurals()} - {ANY}
    return Index(
        {
            plural: tuple([one for one in bound if one.criteria.plurals() & {plural, ANY}])
            for plural in sorted(plurals)
        },
        tuple([one for one in bound if ANY in one.criteria.plurals()]),
    )


def _compile(policy: Any, bindings: Sequence[Any]) -> Bound:
    spec = policy.spec
    return Bound(
        policy,
        Declared(spec, is_mutation=policy.kind == "MutatingAdmissionPolicy"),
        _criteria(spec.match_constraints or MatchResources()),
        Conditions(spec.match_conditions, Environment(has_params=spec.param_kind is not None)),
        spec.failure_policy != "Ignore",
        tuple([(one, _criteria_of_binding(one.spec.match_resources)) for one in bindings]),
    )


def _criteria_of_binding(match: MatchResources | None) -> Criteria | None:
    return None if match is None else _criteria(match)


_EVERYTHING: Final = NamedRuleWithOperations(
    operations=(ANY,), api_groups=(ANY,), api_versions=(ANY,), resources=("*/*",), scope=ANY
)


def _criteria(match: MatchResources) -> Criteria:
    """Without rules, every request is matched; unlike a webhook, which then matches none."""
    return compile_criteria(
        match.resource_rules or (_EVERYTHING,),
        match.match_policy,
        match.namespace_selector,
        match.object_selector,
        match.exclude_resource_rules,
    )


_EMPTY: Final = Index({}, ())

_KEPT: Final = {kinds[0].plural: Kept(kinds, compile_policies) for kinds in (VALIDATING, MUTATING)}
"""The policies of the last store. Only a cache: another store is read anew."""


def policies_of(kinds: tuple[Resource, Resource], exchange: Exchange) -> Index:
    """The policies of this state of the store. O(1) unless one of them has changed."""
    if exchange.request.resource.prefix in EXEMPT:
        return _EMPTY
    return _KEPT[kinds[0].plural].of(exchange.store)
