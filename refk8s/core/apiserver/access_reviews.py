"""Access reviews: whether a user may do something, and what a user may do. Rule AUTHZ-5
(spec/authorization.md).

The same authorizer answers as for requests. Source: Kubernetes documentation, "Authorization"
(checking API access); API reference, "SubjectAccessReview", "SelfSubjectRulesReview".
"""

from typing import Any, Final

from refk8s.core.api import status
from refk8s.core.api.authorization_v1 import (
    FieldSelectorAttributes,
    LabelSelectorAttributes,
    NonResourceRule,
    ResourceAttributes,
    ResourceRule,
    SubjectAccessReviewStatus,
    SubjectRulesReviewStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.api.user import AUTHENTICATED, User, node_name_of
from refk8s.core.apiserver.authorize import decide
from refk8s.core.apiserver.authorize.modes import WEBHOOK, aggregated
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.write import check_namespace

GROUP: Final = "authorization.k8s.io"
# As upstream, the kind is missing in the answer to an incomplete question.
_NAMELESS: Final = Resource(GROUP, "v1", "", "", "", False)

_LABEL_TEXTS: Final = {
    "In": "{} in ({})",
    "NotIn": "{} notin ({})",
    "Exists": "{}",
    "DoesNotExist": "!{}",
}

_EVERYTHING: Final = SubjectRulesReviewStatus(
    resource_rules=(ResourceRule(verbs=("*",), api_groups=("*",), resources=("*",)),),
    non_resource_rules=(NonResourceRule(verbs=("*",), non_resource_urls=("*",)),),
)


def access(exchange: Exchange) -> SubjectAccessReviewStatus:
    """Whether the user of the question, or the one who asks, may do this. Raises ApiError 422 for
    an incomplete question."""
    request = exchange.request
    _check_question(request)
    spec = request.body.spec
    if request.resource.kind == "SelfSubjectAccessReview":
        user = request.user
    else:
        extra = tuple(sorted((spec.extra or {}).items()))
        user = User(spec.user or "", spec.uid or "", tuple(spec.groups or ()), extra)
    decision = decide(_asked(user, spec), exchange.store, exchange.config)
    return SubjectAccessReviewStatus(
        allowed=decision.allowed,
        denied=decision.is_denied or None,
        reason=decision.reason or None,
        evaluation_error=decision.problem or None,
    )


def _asked(user: User, spec: Any) -> Attributes:
    if (path := spec.non_resource_attributes) is not None:
        return Attributes(user, path.verb or "", path=path.path or "")
    asked: ResourceAttributes = spec.resource_attributes
    return Attributes(
        user,
        asked.verb or "",
        asked.group or "",
        asked.resource or "",
        asked.subresource or "",
        asked.namespace or "",
        asked.name or "",
        fields=_fields(asked.field_selector),
        labels=_labels(asked.label_selector),
        version=asked.version or "",
    )


def _fields(selector: FieldSelectorAttributes | None) -> str:
    """The requirements of a field selector that name one value, as the text of a selector."""
    if selector is None:
        return ""
    return selector.raw_selector or ",".join(
        f"{one.key}={one.values[0]}"
        for one in selector.requirements or ()
        if one.operator == "In" and one.values and len(one.values) == 1
    )


def _labels(selector: LabelSelectorAttributes | None) -> str:
    """The requirements of a label selector as the text of a selector."""
    if selector is None:
        return ""
    return selector.raw_selector or ",".join(
        _LABEL_TEXTS[one.operator].format(one.key, ",".join(one.values or ()))
        for one in selector.requirements or ()
        if one.operator in _LABEL_TEXTS
    )


def _check_question(request: Request) -> None:
    spec, kind = request.body.spec, request.resource.kind
    asked, path = spec.resource_attributes, spec.non_resource_attributes
    causes = []
    if asked is not None and path is not None:
        shown = {"Path": path.path or "", "Verb": path.verb or ""}
        words = "cannot be specified in combination with resourceAttributes"
        causes.append(Cause(status.INVALID, "spec.nonResourceAttributes", words, shown))
    if asked is None and path is None:
        words = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(Cause(status.INVALID, "spec.resourceAttributes", words, None))
    if kind != "SelfSubjectAccessReview" and not spec.user and not spec.groups:
        words = "at least one of user or group must be specified"
        causes.append(Cause(status.INVALID, "spec.user", words, spec.user or ""))
    if asked is not None:
        for name, selector in (
            ("fieldSelector", asked.field_selector),
            ("labelSelector", asked.label_selector),
        ):
            causes += _check_selector(f"spec.resourceAttributes.{name}", name, selector)
    metadata = request.body.metadata
    if kind == "LocalSubjectAccessReview":
        check_namespace(request, metadata)
        if asked is not None and (asked.namespace or "") != request.namespace:
            words, where = "must match metadata.namespace", "spec.resourceAttributes.namespace"
            causes.append(Cause(status.INVALID, where, words, asked.namespace or ""))
        if path is not None:
            words = "disallowed on this kind of request"
            causes.append(Cause(status.INVALID, "spec.nonResourceAttributes", words, None))
        if metadata not in (ObjectMeta(), ObjectMeta(namespace=metadata.namespace)):
            words = "must be empty except for namespace"
            causes.append(Cause(status.INVALID, "metadata", words, metadata))
    elif metadata != ObjectMeta():
        causes.append(Cause(status.INVALID, "metadata", "must be empty", metadata))
    if causes:
        raise ApiError(status.invalid(_NAMELESS, "", causes))


def _check_selector(
    at: str, name: str, selector: FieldSelectorAttributes | LabelSelectorAttributes | None
) -> list[Cause]:
    if selector is None:
        return []
    if selector.raw_selector and selector.requirements:
        words = "may not specified at the same time as requirements"
        return [Cause(status.INVALID, f"{at}.rawSelector", words, selector.raw_selector)]
    if not selector.raw_selector and not selector.requirements:
        words = f"when {at} is specified, requirements or rawSelector is required"
        return [Cause(status.REQUIRED, f"{at}.requirements", words)]
    return []


# --- what a user may do


def rules_review(exchange: Exchange) -> Any:
    """The SelfSubjectRulesReview with the rules of the user. As upstream, it has no spec. Raises
    ApiError 400 without a namespace."""
    request, config = exchange.request, exchange.config
    namespace = request.body.spec.namespace
    if not namespace:
        raise ApiError(status.bad_request("no namespace on request"))
    if config.authorizer is None and AUTHENTICATED in request.user.groups:
        return type(request.body)(status=_EVERYTHING)  # API-13
    rules: tuple[PolicyRule, ...] = ()
    problems: list[str] = []
    incomplete = False
    for mode in config.modes:
        if mode == "RBAC" and config.roles is not None:
            found = config.roles.rules_of(request.user, namespace, exchange.store)
            rules, problems = found.rules, [*problems, *found.problems]
        elif mode == WEBHOOK or (mode == "Node" and node_name_of(request.user)):
            incomplete = True
            problems.append(f"{mode.lower()} authorizer does not support user rule resolution")
    answer = SubjectRulesReviewStatus(
        resource_rules=tuple(
            ResourceRule(
                verbs=rule.verbs,
                api_groups=rule.api_groups,
                resources=rule.resources,
                resource_names=rule.resource_names,
            )
            for rule in rules
            if rule.resources
        ),
        non_resource_rules=tuple(
            NonResourceRule(verbs=rule.verbs, non_resource_urls=rule.non_resource_urls)
            for rule in rules
            if rule.non_resource_urls
        ),
        incomplete=incomplete,
        evaluation_error=aggregated(problems) or None,
    )
    return type(request.body)(status=answer)
