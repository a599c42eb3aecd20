"""Limit ranges and resource quotas. Rules VAL-63, VAL-64 (spec/validation.md).

Source: Kubernetes documentation, "Limit Ranges", "Resource Quotas" (quota scopes); API reference,
"LimitRange", "ResourceQuota".
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import LimitRange, LimitRangeItem, ResourceQuota
from refk8s.core.apiserver.validation.field import Causes, duplicate, forbidden, invalid, required
from refk8s.core.apiserver.validation.names import qualified_name
from refk8s.core.apiserver.validation.resources import (
    QUOTA_RESOURCES,
    amount,
    is_overcommittable,
    is_whole,
    validate_container_resource_name,
    validate_quantity,
    validate_quota_resource_name,
    validate_resource_name,
)

LIMIT_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_COMPUTE = frozenset(
    ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"]
)
_COUNTED = frozenset(["pods"])
# The resources that each scope can restrict.
SCOPES = {
    "Terminating": _COMPUTE, "NotTerminating": _COMPUTE, "BestEffort": _COUNTED, "NotBestEffort": _COMPUTE, "PriorityClass": _COMPUTE,
    "CrossNamespacePodAffinity": _COMPUTE, "VolumeAttributesClass": frozenset(["persistentvolumeclaims", "requests.storage"]),
}  # fmt: skip
_ONLY_EXISTS = (
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
)
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


# --- LimitRange


def validate_limit_range(limit_range: LimitRange) -> Causes:
    """VAL-63: each type once; bounds and defaults in the order min, defaultRequest, default,
    max."""
    causes: Causes = []
    seen: set[str] = set()
    for position, item in enumerate(limit_range.spec.limits):
        here = f"spec.limits[{position}]"
        words = qualified_name(item.type)
        causes += [invalid(f"{here}.type", item.type, word) for word in words]
        if not words and "/" not in item.type and item.type not in LIMIT_TYPES:
            causes.append(
                invalid(
                    f"{here}.type", item.type, "must be a standard limit type or fully qualified"
                )
            )
        if item.type in seen:
            causes.append(duplicate(f"{here}.type", item.type))
        seen.add(item.type)
        causes += _validate_limit(item, here)
    return causes


def _validate_limit(item: LimitRangeItem, at: str) -> Causes:
    causes: Causes = []
    check = (
        validate_container_resource_name
        if item.type in ("Pod", "Container")
        else validate_resource_name
    )
    bounds = [
        (item.max, "max"),
        (item.min, "min"),
        (item.max_limit_request_ratio, "maxLimitRequestRatio"),
    ]
    defaults = [(item.default, "default"), (item.default_request, "defaultRequest")]
    if item.type == "Pod":
        causes += [
            forbidden(f"{at}.{name}", "may not be specified when `type` is 'Pod'")
            for amounts, name in defaults
            if amounts
        ]
    else:
        bounds += defaults
    named: dict[str, None] = {}
    for amounts, name in bounds:
        for resource in amounts or {}:
            named[resource] = None
            causes += check(resource, f"{at}.{name}[{resource}]")
    if item.type == "PersistentVolumeClaim" and not (
        "storage" in (item.min or {}) or "storage" in (item.max or {})
    ):
        causes.append(
            required(
                f"{at}.limits",
                "either minimum or maximum storage value is required, but neither was provided",
            )
        )
    for resource in sorted(named):
        causes += _validate_order(item, resource, at) + _validate_ratio(item, resource, at)
    return causes


def _validate_order(item: LimitRangeItem, resource: str, at: str) -> Causes:
    """Each bound is at most the next one; each pair has its own message of Kubernetes."""
    causes: Causes = []
    least, most = (item.min or {}).get(resource), (item.max or {}).get(resource)
    request, limit = (item.default_request or {}).get(resource), (item.default or {}).get(resource)
    if item.type == "Pod":
        request = limit = None
    pairs = (
        (least, most, "min", least, "min value {} is greater than max value {}"),
        (
            least,
            request,
            "defaultRequest",
            request,
            "min value {} is greater than default request value {}",
        ),
        (
            request,
            most,
            "defaultRequest",
            request,
            "default request value {} is greater than max value {}",
        ),
        (
            request,
            limit,
            "defaultRequest",
            request,
            "default request value {} is greater than default limit value {}",
        ),
        (least, limit, "default", least, "min value {} is greater than default value {}"),
        (limit, most, "default", most, "default value {} is greater than max value {}"),
    )
    for low, high, name, shown, words in pairs:
        if low is not None and high is not None and _nano(low) > _nano(high):
            causes.append(invalid(f"{at}.{name}[{resource}]", shown, words.format(low, high)))
    if (
        not is_overcommittable(resource)
        and request is not None
        and limit is not None
        and _nano(request) != _nano(limit)
    ):
        words = f"default value {limit} must equal to defaultRequest value {request} in {resource}"
        causes.append(invalid(f"{at}.defaultRequest[{resource}]", request, words))
    return causes


def _validate_ratio(item: LimitRangeItem, resource: str, at: str) -> Causes:
    """A limit is at least its request, and the largest limit over the smallest request is within
    the ratio."""
    ratio = (item.max_limit_request_ratio or {}).get(resource)
    if ratio is None:
        return []
    where = f"{at}.maxLimitRequestRatio[{resource}]"
    causes: Causes = (
        [invalid(where, ratio, f"ratio {ratio} is less than 1")] if _nano(ratio) < 10**9 else []
    )
    least, most = (item.min or {}).get(resource), (item.max or {}).get(resource)
    if least is not None and most is not None:
        low, high = _nano(least), _nano(most)
        if low > 0 and _nano(ratio) * low > high * 10**9:
            causes.append(
                invalid(where, ratio, f"ratio {ratio} is greater than max/min = {high / low:f}")
            )
    return causes


def _nano(text: str) -> int:
    number = amount(text)
    return 0 if number is None else number.nano


# --- ResourceQuota


def validate_resource_quota(quota: ResourceQuota) -> Causes:
    """VAL-64: known resources with valid amounts, and scopes that apply to them."""
    spec = quota.spec
    causes = _validate_amounts(spec.hard, "spec.hard")
    hard = sorted(name for name in spec.hard or {} if name in QUOTA_RESOURCES)
    if spec.scopes:
        for scope in spec.scopes:
            if scope not in SCOPES:
                causes.append(invalid("spec.scopes", spec.scopes, "unsupported scope"))
            causes += [
                invalid("spec.scopes", spec.scopes, "unsupported scope applied to resource")
            ] * _unrestricted(scope, hard)
        causes += [invalid("spec.scopes", spec.scopes, "conflicting scopes")] * _conflicts(
            spec.scopes
        )
    return causes + _validate_scope_selector(quota, hard)


def _validate_scope_selector(quota: ResourceQuota, hard: list[str]) -> Causes:
    selector = quota.spec.scope_selector
    if selector is None:
        return []
    causes: Causes = []
    at = "spec.scopeSelector.matchExpressions"
    requirements = selector.match_expressions or ()
    for one in requirements:
        if one.scope_name not in SCOPES:
            causes.append(invalid(f"{at}.scopeName", one.scope_name, "unsupported scope"))
        causes += [invalid(at, selector, "unsupported scope applied to resource")] * _unrestricted(
            one.scope_name, hard
        )
        if one.scope_name in _ONLY_EXISTS and one.operator != "Exists":
            words = (
                "must be 'Exists' when scope is any of "
                f"{', '.join(f'ResourceQuotaScope{scope}' for scope in _ONLY_EXISTS)}"
            )
            causes.append(invalid(f"{at}.operator", one.operator, words))
        if one.operator in ("In", "NotIn"):
            if not one.values:
                words = (
                    "must be at least one value when `operator` is 'In' or 'NotIn' for "
                    "scope selector"
                )
                causes.append(required(f"{at}.values", words))
        elif one.operator in ("Exists", "DoesNotExist"):
            if one.values:
                words = (
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for "
                    "scope selector"
                )
                causes.append(invalid(f"{at}.values", one.values, words))
        else:
            causes.append(invalid(f"{at}.operator", one.operator, "not a valid selector operator"))
    conflicts = _conflicts([one.scope_name for one in requirements])
    return causes + [invalid(at, quota.spec.scopes, "conflicting scopes")] * conflicts


def _unrestricted(scope: str, hard: list[str]) -> int:
    """The number of resources that a scope cannot restrict."""
    allowed = SCOPES.get(scope)
    return 0 if allowed is None else sum(name not in allowed for name in hard)


def _conflicts(scopes: Iterable[str]) -> int:
    found = set(scopes)
    return sum(found.issuperset(pair) for pair in _CONFLICTS)


def _validate_amounts(amounts: dict[str, str] | None, at: str) -> Causes:
    causes: Causes = []
    for resource, text in (amounts or {}).items():
        here = f"{at}[{resource}]"
        causes += validate_quota_resource_name(resource, here) + validate_quantity(
            text, here, whole=is_whole(resource)
        )
    return causes


def validate_resource_quota_update(new: ResourceQuota, old: ResourceQuota) -> Causes:
    """VAL-64: the scopes are immutable, apart from their order."""
    causes = validate_resource_quota(new)
    if set(new.spec.scopes or ()) != set(old.spec.scopes or ()):
        causes.append(invalid("spec.scopes", new.spec.scopes, "field is immutable"))
    return causes


def validate_resource_quota_status(new: ResourceQuota, old: ResourceQuota) -> Causes:
    return _validate_amounts(new.status.hard, "status.hard") + _validate_amounts(
        new.status.used, "status.used"
    )
