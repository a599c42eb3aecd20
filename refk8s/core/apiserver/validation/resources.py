"""Requests and limits of resources. Rule VAL-12 (spec/validation.md).

Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Manage HugePages".
"""

from collections.abc import Collection

from refk8s.core.api.core_v1 import ResourceClaim, ResourceRequirements
from refk8s.core.api.quantity import ZERO, Amount, QuantityError, parse
from refk8s.core.api.status import NOT_FOUND, Cause
from refk8s.core.apiserver.validation.field import (
    NOT_NEGATIVE,
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_label, qualified_name
from refk8s.core.memo import remember
from refk8s.core.pods.resources import is_native

CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
POD_RESOURCES = ("cpu", "memory")
WHOLE_RESOURCES = (
    "pods", "persistentvolumeclaims", "services", "secrets", "configmaps", "replicationcontrollers", "resourcequotas",
    "services.nodeports", "services.loadbalancers",
)  # fmt: skip
"""Resources that are counted, without fractions."""
QUOTA_RESOURCES = frozenset([
    *CONTAINER_RESOURCES, *WHOLE_RESOURCES, "requests.storage",
    *[f"{side}.{name}" for side in ("requests", "limits") for name in CONTAINER_RESOURCES],
])  # fmt: skip
STANDARD_RESOURCES = QUOTA_RESOURCES | {"storage"}
HUGE_PAGES = "hugepages-"


def amount(text: str) -> Amount | None:
    """The quantity as a number; None for other text (the decoder rejects it, but objects made in
    code can have it)."""
    try:
        return parse(text)
    except QuantityError:
        return None


def validate_quantity(text: str, at: str, whole: bool = False) -> Causes:
    """VAL-12: a quantity that is not negative; a whole number if fractions of the resource are
    impossible."""
    number = amount(text)
    if number is None:
        return [invalid(at, text, "must be a valid quantity")]
    causes: Causes = []
    if number.nano < 0:
        causes.append(invalid(at, text, NOT_NEGATIVE))
    if whole and number.nano % 10**9:
        causes.append(invalid(at, text, "must be an integer"))
    return causes


def validate_requirements(
    resources: ResourceRequirements, at: str, claims: Collection[str] = (), of_pod: bool = False
) -> Causes:
    """VAL-12: known resources, or ones with a domain; requests at most their limits, and equal if
    the resource cannot be overcommitted.

    `claims`: the names of the pod's resource claims. `of_pod`: the resources of a whole pod, for
    which fewer are supported than for a container.
    """
    causes: Causes = []
    limits, requests = resources.limits or {}, resources.requests or {}
    for amounts, side in ((limits, "limits"), (requests, "requests")):
        for name, text in amounts.items():
            if of_pod:
                causes += _validate_pod_resource(name, text, f"{at}.{side}[{name}]")
            elif not _is_common(name, text):
                causes += _validate_container_resource(name, text, f"{at}.{side}[{name}]")
    for name, text in requests.items():
        limit = limits.get(name)
        if limit is None:
            if name not in CONTAINER_RESOURCES and not is_overcommittable(name):
                causes.append(
                    required(f"{at}.limits", "Limit must be set for non overcommitable resources")
                )
        elif limit != text:
            requested, limited = amount(text) or ZERO, amount(limit) or ZERO
            if not is_overcommittable(name) and requested.nano != limited.nano:
                causes.append(
                    invalid(f"{at}.requests", text, f"must be equal to {name} limit of {limit}")
                )
            elif requested.nano > limited.nano:
                causes.append(
                    invalid(
                        f"{at}.requests",
                        text,
                        f"must be less than or equal to {name} limit of {limit}",
                    )
                )
    usual = "cpu" in limits or "memory" in limits or "cpu" in requests or "memory" in requests
    if not usual and any(name.startswith(HUGE_PAGES) for name in (*limits, *requests)):
        causes.append(forbidden(at, "HugePages require cpu or memory"))
    if resources.claims:
        causes += _validate_claims(resources.claims, claims, f"{at}.claims")
    return causes


def _validate_claims(used: tuple[ResourceClaim, ...], claims: Collection[str], at: str) -> Causes:
    """VAL-12: each claim is one of the pod, and is used once as a whole or once for each of its
    requests."""
    causes: Causes = []
    seen: set[str] = set()
    for position, claim in enumerate(used):
        here, name = f"{at}[{position}]", claim.name
        if not name:
            causes.append(required(here))
            continue
        key = f"{name}/{claim.request}" if claim.request else name
        if name in seen or key in seen:
            causes.append(duplicate(here, name if name in seen else key))
        else:
            if claim.request:
                causes += malformed(f"{here}.request", claim.request, dns_label)
            elif any(other.startswith(f"{name}/") for other in seen):
                causes.append(duplicate(here, name))
            seen.add(key)
        if name not in claims:
            known = f": {', '.join(sorted(claims))}" if claims else " which is empty"
            causes.append(
                Cause(
                    NOT_FOUND,
                    here,
                    f"must be one of the names in pod.spec.resourceClaims{known}",
                    name,
                )
            )
    return causes


@remember(4096)
def _is_common(name: str, text: str) -> bool:
    """Whether it is a valid amount of a resource that every node has. Cached, because most amounts
    are such, and the same ones recur."""
    number = amount(text) if name in CONTAINER_RESOURCES else None
    return number is not None and number.nano >= 0


def _validate_pod_resource(name: str, text: str, at: str) -> Causes:
    causes = validate_resource_name(name, at)
    if not causes and name not in POD_RESOURCES and not name.startswith(HUGE_PAGES):
        causes.append(not_supported(at, name, POD_RESOURCES))
    return (
        causes + validate_quantity(text, at, whole=is_whole(name)) + _validate_pages(name, text, at)
    )


def _validate_container_resource(name: str, text: str, at: str) -> Causes:
    if name in CONTAINER_RESOURCES:
        return validate_quantity(text, at)
    causes = validate_container_resource_name(name, at)
    return (
        causes + validate_quantity(text, at, whole=is_whole(name)) + _validate_pages(name, text, at)
    )


def validate_container_resource_name(name: str, at: str) -> Causes:
    causes = validate_resource_name(name, at)
    if "/" not in name:
        if name not in CONTAINER_RESOURCES and not name.startswith(HUGE_PAGES):
            causes.append(invalid(at, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        causes.append(invalid(at, name, "doesn't follow extended resource name standard"))
    return causes


def _validate_pages(name: str, text: str, at: str) -> Causes:
    """VAL-12: an amount of huge pages is a whole number of pages."""
    if not name.startswith(HUGE_PAGES):
        return []
    size, number = amount(name.removeprefix(HUGE_PAGES)), amount(text)
    if (
        size is None
        or number is None
        or size.nano <= 0
        or size.nano % 10**9
        or -(-number.nano // 10**9) % (size.nano // 10**9)
    ):
        return [invalid(at, text, f"{text} is not positive integer multiple of {name}")]
    return []


def validate_resource_name(name: str, at: str) -> Causes:
    causes = malformed(at, name, qualified_name)
    if not causes and "/" not in name and not is_standard(name):
        causes.append(invalid(at, name, "must be a standard resource type or fully qualified"))
    return causes


def validate_quota_resource_name(name: str, at: str) -> Causes:
    causes = validate_resource_name(name, at)
    if "/" not in name and name not in QUOTA_RESOURCES and not _is_quota_of_pages(name):
        causes.append(invalid(at, name, "must be a standard resource for quota"))
    return causes


def is_standard(name: str) -> bool:
    return name in STANDARD_RESOURCES or _is_quota_of_pages(name)


def _is_quota_of_pages(name: str) -> bool:
    return name.startswith((HUGE_PAGES, f"requests.{HUGE_PAGES}"))


def is_whole(name: str) -> bool:
    """Whether fractions of the resource are impossible."""
    return name in WHOLE_RESOURCES or is_extended(name)


def is_extended(name: str) -> bool:
    """A resource that an administrator adds to nodes, such as example.com/gpu. In a quota it has
    the prefix `requests.`."""
    return (
        not is_native(name)
        and not name.startswith("requests.")
        and not qualified_name(f"requests.{name}")
    )


def is_overcommittable(name: str) -> bool:
    """Whether the limit may be above the request: for Kubernetes' own resources except huge
    pages."""
    return is_native(name) and not name.startswith(HUGE_PAGES)
