"""Which requests a webhook or an admission policy is for. Rules MATCH-1 to MATCH-4
(spec/webhooks.md).

    AdmissionRequest   one operation on one object, as rules, selectors and conditions see it
    rule_matches       operations, groups, versions, resources, scope (and resourceNames)
    Criteria           rules, excluded rules, matchPolicy and both selectors, compiled once
    match              the resource by which the criteria match, or None

Source: Kubernetes documentation, "Dynamic Admission Control" (Matching requests); API reference,
"MutatingWebhookConfiguration", "ValidatingAdmissionPolicy" (matchConstraints).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.resources import Resource, by_kind
from refk8s.core.api.selector import NOTHING, Selector, SelectorError, from_label_selector
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.custom.definitions import definition_key
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.value import Value

CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"
CONNECT: Final = "CONNECT"
ANY: Final = "*"

EXEMPT: Final = frozenset([
    one.prefix
    for one in (
        resources.MUTATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_WEBHOOK_CONFIGURATIONS,
        resources.VALIDATING_ADMISSION_POLICIES,
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
        resources.MUTATING_ADMISSION_POLICIES,
        resources.MUTATING_ADMISSION_POLICY_BINDINGS,
        resources.TOKEN_REVIEWS,
        resources.SELF_SUBJECT_REVIEWS,
        resources.SUBJECT_ACCESS_REVIEWS,
        resources.LOCAL_SUBJECT_ACCESS_REVIEWS,
        resources.SELF_SUBJECT_ACCESS_REVIEWS,
        resources.SELF_SUBJECT_RULES_REVIEWS,
    )
])  # fmt: skip
"""Resources that no webhook and no policy is asked about: so a wrong one can always be removed, and
none prevents that users are authenticated and authorized (MATCH-4)."""


class AdmissionRequest(Value, frozen=True, eq=False):
    """One operation on one object.

    `object` and `old_object` are the records as the request's version shows them; None where the
    operation has none (CREATE has no old one, DELETE no new one). `kind`: (group, version, kind) of
    the object, which differs from that of the resource for some subresources. `namespace` of an
    operation on a Namespace is its name. `options`: the options of the request, as a JSON tree.
    """

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    kind: tuple[str, str, str]
    object: Any
    old_object: Any
    options: Any
    user: User
    dry_run: bool = False


def rule_matches(rule: Any, request: AdmissionRequest, resource: Resource) -> bool:
    """Whether a RuleWithOperations or NamedRuleWithOperations matches the operation, taken as one
    on this resource (MATCH-1). O(length of the rule)."""
    return (
        _has(rule.operations, request.operation)
        and _has(rule.api_groups, resource.group)
        and _has(rule.api_versions, resource.version)
        and _has_resource(rule.resources or (), resource.plural, request.subresource)
        and _in_scope(rule.scope, request)
        and _is_named(getattr(rule, "resource_names", None), request.name)
    )


def _has(values: Iterable[str] | None, value: str) -> bool:
    return any(one in (value, ANY) for one in values or ())


def _has_resource(values: Iterable[str], plural: str, subresource: str) -> bool:
    for value in values:
        name, _, part = value.partition("/")
        if name in (ANY, plural) and part in (ANY, subresource):
            return True
    return False


def _in_scope(scope: str | None, request: AdmissionRequest) -> bool:
    """A Namespace is cluster-scoped, although requests for it have a namespace."""
    is_cluster_scoped = request.resource == resources.NAMESPACES or not request.namespace
    match scope:
        case "Namespaced":
            return not is_cluster_scoped
        case "Cluster":
            return is_cluster_scoped
    return True


def _is_named(names: Iterable[str] | None, name: str) -> bool:
    """No names, or an empty list of them, stand for every name."""
    listed = tuple(names or ())
    return not listed or name in listed


class Criteria(Value, frozen=True, eq=False):
    """The compiled criteria of one webhook or policy. `problem`: why a selector is invalid."""

    rules: tuple[Any, ...]
    excluded: tuple[Any, ...] = ()
    is_equivalent: bool = True
    namespaces: Selector | None = None  # None: every namespace
    objects: Selector | None = None  # None: every object
    problem: str = ""

    def plurals(self) -> frozenset[str]:
        """The resources that a rule names, without their subresources; `*` stands for all."""
        found = [one.partition("/")[0] for rule in self.rules for one in rule.resources or ()]
        return frozenset(found)


def compile_criteria(
    rules: Iterable[Any] | None,
    match_policy: str | None,
    namespace_selector: LabelSelector | None,
    object_selector: LabelSelector | None,
    excluded: Iterable[Any] | None = None,
) -> Criteria:
    """The criteria of these fields. An absent selector selects everything, as the empty one that is
    its default does."""
    problem, compiled = "", []
    for selector in (namespace_selector, object_selector):
        try:
            made = None if selector is None else from_label_selector(selector)
        except SelectorError as error:
            made, problem = NOTHING, str(error)
        compiled.append(None if made is not None and made.is_everything else made)
    return Criteria(
        tuple(rules or ()),
        tuple(excluded or ()),
        match_policy != "Exact",
        compiled[0],
        compiled[1],
        problem,
    )


def match(criteria: Criteria, request: AdmissionRequest, store: Reader) -> Resource | None:
    """The resource by which the criteria match the request: that of the request, else an equivalent
    one (MATCH-2); None if they do not match. Raises ApiError for a namespace that does not exist
    and for an invalid selector."""
    found = _matched_resource(criteria, request, store)
    if found is None:
        return None
    if criteria.problem:
        raise ApiError(status.internal_error(criteria.problem))
    if not _selects_namespace(criteria.namespaces, request, store):
        return None
    return found if _selects_object(criteria.objects, request) else None


def _matched_resource(
    criteria: Criteria, request: AdmissionRequest, store: Reader
) -> Resource | None:
    if _any_matches(criteria.excluded, criteria, request, store) is not None:
        return None
    return _any_matches(criteria.rules, criteria, request, store)


def _any_matches(
    rules: tuple[Any, ...], criteria: Criteria, request: AdmissionRequest, store: Reader
) -> Resource | None:
    """The resource by which the first rule that matches does so; the request's own one comes before
    the equivalent ones of all rules."""
    if any(rule_matches(rule, request, request.resource) for rule in rules):
        return request.resource
    if rules and criteria.is_equivalent:
        others = equivalents(request.resource, request.subresource, store)
        for rule in rules:
            for other in others:
                if rule_matches(rule, request, other):
                    return other
    return None


def equivalents(resource: Resource, subresource: str, store: Reader) -> tuple[Resource, ...]:
    """The other resources with the same objects (MATCH-2): other versions of a custom resource, and
    built-in resources that are stored as one. O(versions)."""
    if resource.is_custom:
        from refk8s.core.api.custom import resources_of  # loaded with the first definition

        record = store.get(definition_key(resource.group, resource.plural))
        found = () if record is None else resources_of(record.value)
        return tuple([one for one in found if one.version != resource.version and _has_part(one, subresource)])  # fmt: skip
    return tuple([one for one in _same_objects(resource) if _has_part(one, subresource)])


def _has_part(resource: Resource, subresource: str) -> bool:
    return not subresource or resource.subresource(subresource) is not None


def _same_objects(resource: Resource) -> tuple[Resource, ...]:
    if resource.storage_api_version:
        stored = by_kind(resource.storage_api_version, resource.kind)
        assert stored is not None, f"{resource} is kept as nothing that there is"
        return (stored,)
    return _SHARED.get(resource, ())


_SHARED: Final = {
    resources.EVENTS: (resources.EVENTS_V1,),
    resources.HORIZONTAL_POD_AUTOSCALERS: (resources.HORIZONTAL_POD_AUTOSCALERS_V1,),
}
"""The other resource of those that are stored in another one."""


# --- selectors


def _selects_namespace(selector: Selector | None, request: AdmissionRequest, store: Reader) -> bool:
    """Whether the labels of the request's namespace satisfy the selector; true for a cluster-scoped
    object that is no Namespace (MATCH-3)."""
    if selector is None:
        return True
    is_namespace = request.resource == resources.NAMESPACES
    if not request.namespace and not is_namespace:
        return True
    if is_namespace and not request.subresource and request.operation in (CREATE, UPDATE):
        return selector.matches(request.object.metadata.labels)
    record = store.get(resources.NAMESPACES.key("", request.namespace))
    if record is None:
        raise ApiError(status.not_found(resources.NAMESPACES, request.namespace))
    return selector.matches(record.value.metadata.labels)


def _selects_object(selector: Selector | None, request: AdmissionRequest) -> bool:
    """Whether the labels of the object or of the old object satisfy the selector (MATCH-3). An
    object that can have no labels is not selected."""
    if selector is None:
        return True
    for obj in (request.object, request.old_object):
        metadata = getattr(obj, "metadata", None)
        if metadata is not None and selector.matches(metadata.labels):
            return True
    return False
