"""Which objects a quota with scopes counts. Rule QUOTA-4 (spec/quota.md).

The traits of an object are everything about it that a scope can select. A quota selects traits, so
objects with the same traits are counted together.

Source: Kubernetes documentation, "Resource Quotas" (quota scopes); API reference,
"ResourceQuotaSpec".
"""

from typing import Any

from refk8s.core.api.attributes_classes import classes_of_claim
from refk8s.core.api.core_v1 import (
    Affinity,
    PersistentVolumeClaim,
    Pod,
    PodAffinityTerm,
    ResourceQuota,
    ScopedResourceSelectorRequirement,
)
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS, Resource

Traits = frozenset[tuple[str, str]]
"""(scope, value) of everything about an object that scopes select; most scopes have no value."""

NO_TRAITS: Traits = frozenset()
PRIORITY_CLASS, CROSS_NAMESPACE = "PriorityClass", "CrossNamespacePodAffinity"
VOLUME_ATTRIBUTES_CLASS = "VolumeAttributesClass"
_OF_PODS = frozenset(
    (
        "Terminating",
        "NotTerminating",
        "BestEffort",
        "NotBestEffort",
        PRIORITY_CLASS,
        CROSS_NAMESPACE,
    )
)
_OF_CLAIMS = frozenset([VOLUME_ATTRIBUTES_CLASS])
SCOPES = _OF_PODS | _OF_CLAIMS
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def traits_of(resource: Resource, obj: Any) -> Traits:
    """The traits of an object; none if no scope applies to its resource."""
    if resource == PODS:
        return _traits_of_pod(obj)
    if resource == PERSISTENT_VOLUME_CLAIMS:
        return _traits_of_claim(obj)
    return NO_TRAITS


def _traits_of_pod(pod: Pod) -> Traits:
    spec = pod.spec
    deadline = spec.active_deadline_seconds
    best_effort = pod.status.qos_class == "BestEffort"
    found = [
        ("Terminating" if deadline is not None and deadline >= 0 else "NotTerminating", ""),
        ("BestEffort" if best_effort else "NotBestEffort", ""),
    ]
    if spec.priority_class_name:
        found.append((PRIORITY_CLASS, spec.priority_class_name))
    if spec.affinity is not None and _crosses_namespaces(spec.affinity):
        found.append((CROSS_NAMESPACE, ""))
    return frozenset(found)


def _crosses_namespaces(affinity: Affinity) -> bool:
    """Whether an affinity term names namespaces."""
    terms: list[PodAffinityTerm] = []
    for one in (affinity.pod_affinity, affinity.pod_anti_affinity):
        if one is not None:
            terms += one.required_during_scheduling_ignored_during_execution or ()
            terms += [
                weighted.pod_affinity_term
                for weighted in one.preferred_during_scheduling_ignored_during_execution or ()
            ]
    return any(term.namespaces or term.namespace_selector is not None for term in terms)


def _traits_of_claim(claim: PersistentVolumeClaim) -> Traits:
    """The VolumeAttributesClasses that the claim has, and the one that it is to get."""
    return frozenset((VOLUME_ATTRIBUTES_CLASS, name) for name in classes_of_claim(claim))


def selects(quota: ResourceQuota, resource: Resource, traits: Traits) -> bool:
    """Whether the quota's scopes, all of them, select objects with these traits."""
    return all(is_in_scope(one, resource, traits) for one in requirements_of(quota))


def requirements_of(quota: ResourceQuota) -> tuple[ScopedResourceSelectorRequirement, ...]:
    """The scopes of a quota, each as a requirement."""
    spec = quota.spec
    if not spec.scopes and spec.scope_selector is None:
        return ()
    plain = [
        ScopedResourceSelectorRequirement(scope_name=scope, operator="Exists")
        for scope in spec.scopes or ()
    ]
    selector = spec.scope_selector
    return (*plain, *((selector.match_expressions or ()) if selector is not None else ()))


def is_in_scope(
    requirement: ScopedResourceSelectorRequirement, resource: Resource, traits: Traits
) -> bool:
    """Whether an object with these traits is selected. Objects of other resources than pods and
    claims are in no scope."""
    scopes = _OF_PODS if resource == PODS else _OF_CLAIMS
    if resource not in (PODS, PERSISTENT_VOLUME_CLAIMS):
        scopes = frozenset()
    return requirement.scope_name in scopes and _matches(requirement, traits)


def _matches(requirement: ScopedResourceSelectorRequirement, traits: Traits) -> bool:
    values = [value for name, value in traits if name == requirement.scope_name]
    wanted = requirement.values or ()
    match requirement.operator:
        case "Exists":
            return bool(values)
        case "DoesNotExist":
            return not values
        case "In":
            return any(value in wanted for value in values)
        case "NotIn":
            return not values or any(value not in wanted for value in values)
    return False
