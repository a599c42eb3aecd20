"""Defaults of resource lists. Rule DEF-9 (spec/defaults.md).

Source: Kubernetes documentation, "Resource Management for Pods and Containers" (CPU resource
units).
"""

from msgspec.structs import replace

from refk8s.core.api.core_v1 import ResourceRequirements
from refk8s.core.api.quantity import QuantityError, from_milli, parse

_FINE_ENDINGS = "nu"
"""The suffixes of canonical quantities finer than a thousandth, unless written as a power of
ten."""


def default_requirements(resources: ResourceRequirements) -> ResourceRequirements:
    """DEF-9 for the limits and the requests."""
    if resources.limits is None and resources.requests is None:
        return resources
    limits = resources.limits and default_resource_list(resources.limits)
    requests = resources.requests and default_resource_list(resources.requests)
    if limits is resources.limits and requests is resources.requests:
        return resources
    return replace(resources, limits=limits, requests=requests)


def default_resource_list(amounts: dict[str, str]) -> dict[str, str]:
    """DEF-9: an amount finer than a thousandth is rounded up to the next thousandth."""
    for amount in amounts.values():
        if amount[-1:] in _FINE_ENDINGS or "e-" in amount:
            return {name: _round_up(amount) for name, amount in amounts.items()}
    return amounts


def _round_up(amount: str) -> str:
    try:
        number = parse(amount)
    except QuantityError:
        # The decoder rejects text that is not a quantity. Here it comes from code, and validation
        # reports it.
        return amount
    return amount if number.nano % 10**6 == 0 else from_milli(number.milli)
