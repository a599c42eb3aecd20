"""Amounts of resources that are asked for and given. Rule VAL-12 (spec/validation.md).

Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Manage HugePages".
Left out: claims of the resource.k8s.io group beyond their names.
"""


from refk8s.core.api.core_v1 import ResourceRequirements
from refk8s.core.api.quantity import ZERO, Amount, QuantityError, parse
from refk8s.core.apiserver.validation.field import NOT_NEGATIVE, Causes, duplicate, forbidden, invalid, required
from refk8s.core.apiserver.validation.names import qualified_name
from refk8s.core.memo import remember

CONTAINER_RESOURCES = ("cpu", "memory", "ephemeral-storage")
WHOLE_RESOURCES = ("pods", "persistentvolumeclaims", "services", "secrets", "configmaps", "replicationcontrollers", "resourcequotas")
"""Counted things: no fractions of them."""


def amount(text: str) -> Amount | None:
    """The quantity as a number, or None where the text is none (a decoder refuses those; objects made in code can hold them)."""
    try:
        return parse(text)
    except QuantityError:
        return None


def validate_quantity(text: str, at: str, whole: bool = False) -> Causes:
    """VAL-12: a quantity, not negative; whole where parts make no sense."""
    number = amount(text)
    if number is None:
        return [invalid(at, text, "must be a valid quantity")]
    causes: Causes = []
    if number.nano < 0:
        causes.append(invalid(at, text, NOT_NEGATIVE))
    if whole and number.nano % 10**9:
        causes.append(invalid(at, text, "must be an integer"))
    return causes


def validate_requirements(resources: ResourceRequirements, at: str) -> Causes:
    """VAL-12: known resources or ones with a domain; requests at most their limits, and equal where there is no overcommitting."""
    causes: Causes = []
    limits, requests = resources.limits or {}, resources.requests or {}
    for name in limits:
        if not _is_common(name, limits[name]):
            causes += _validate_container_resource(name, limits[name], f"{at}.limits[{name}]")
    for name in requests:
        if not _is_common(name, requests[name]):
            causes += _validate_container_resource(name, requests[name], f"{at}.requests[{name}]")
        limit = limits.get(name)
        if limit is None:
            if name not in CONTAINER_RESOURCES and not is_overcommittable(name):
                causes.append(required(f"{at}.limits", "Limit must be set for non overcommitable resources"))
        elif limit != requests[name]:
            asked, given = amount(requests[name]) or ZERO, amount(limit) or ZERO
            if not is_overcommittable(name) and asked.nano != given.nano:
                causes.append(invalid(f"{at}.requests", requests[name], f"must be equal to {name} limit of {limit}"))
            elif asked.nano > given.nano:
                causes.append(invalid(f"{at}.requests", requests[name], f"must be less than or equal to {name} limit of {limit}"))
    usual = "cpu" in limits or "memory" in limits or "cpu" in requests or "memory" in requests
    if not usual and any(name.startswith("hugepages-") for name in (*limits, *requests)):
        causes.append(forbidden(at, "HugePages require cpu or memory"))
    if resources.claims:
        names = [claim.name for claim in resources.claims]
        for position, name in enumerate(names):
            if not name:
                causes.append(required(f"{at}.claims[{position}]"))
            elif name in names[:position]:
                causes.append(duplicate(f"{at}.claims[{position}]", name))
    return causes


@remember(4096)
def _is_common(name: str, text: str) -> bool:
    """An amount of a resource that every node has: nearly all are, and the same ones again and again."""
    number = amount(text) if name in CONTAINER_RESOURCES else None
    return number is not None and number.nano >= 0


def _validate_container_resource(name: str, text: str, at: str) -> Causes:
    if name in CONTAINER_RESOURCES:
        return validate_quantity(text, at)
    causes = validate_resource_name(name, at)
    if not causes:
        if name.startswith("hugepages-"):
            pass
        elif "/" not in name:
            causes.append(invalid(at, name, "must be a standard resource for containers"))
        elif not is_native(name) and not is_extended(name):
            causes.append(invalid(at, name, "doesn't follow extended resource name standard"))
    return causes + validate_quantity(text, at, whole=is_extended(name))


def validate_resource_name(name: str, at: str) -> Causes:
    causes = [invalid(at, name, word) for word in qualified_name(name)]
    if not causes and "/" not in name and not is_standard(name):
        causes.append(invalid(at, name, "must be a standard resource type or fully qualified"))
    return causes


def is_standard(name: str) -> bool:
    return name in CONTAINER_RESOURCES or name in WHOLE_RESOURCES or name == "storage" or name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """Kubernetes' own: without a domain, or below kubernetes.io."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A resource that an administrator announces on nodes, such as example.com/gpu."""
    return not is_native(name) and not name.startswith("requests.")


def is_overcommittable(name: str) -> bool:
    """Whether a limit may be above its request: of Kubernetes' own resources, all but huge pages."""
    return is_native(name) and not name.startswith("hugepages-")


def validate_resource_list(amounts: dict[str, str], at: str) -> Causes:
    """Of nodes, quotas and limits: names and amounts each right by themselves."""
    causes: Causes = []
    for name, text in amounts.items():
        causes += validate_resource_name(name, f"{at}[{name}]")
        causes += validate_quantity(text, f"{at}[{name}]", whole=name in WHOLE_RESOURCES or is_extended(name))
    return causes



