"""The status of ResourceClaims, and DeviceTaintRules. Rule VAL-52 (spec/validation.md).

Source: Kubernetes documentation, "Dynamic Resource Allocation"; API reference, "ResourceClaim",
"DeviceTaintRule". Left out: the data that a driver writes for an allocated device.
"""

from refk8s.core.api.resource_v1 import (
    DeviceTaintRule,
    ResourceClaim,
    ResourceClaimConsumerReference,
)
from refk8s.core.apiserver.validation.conditions import validate_conditions
from refk8s.core.apiserver.validation.devices import validate_device_taint, validate_pool_name
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    required,
    too_many,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.volume_sources import validate_driver_name

CONSUMERS_MAX, RESULTS_MAX, CONDITIONS_MAX = 256, 32, 8


# --- claims


def validate_resource_claim_status(new: ResourceClaim, old: ResourceClaim) -> Causes:
    """VAL-52: only an allocated claim is reserved, and an allocation changes only by its
    removal."""
    status, before = new.status, old.status
    consumers = status.reserved_for or ()
    causes = _validate_consumers(consumers)
    at = "status.reservedFor"
    if consumers and status.allocation is None:
        causes.append(forbidden(at, "may not be specified when `allocated` is not set"))
    elif new.metadata.deletion_timestamp is not None and any(
        one not in (before.reserved_for or ()) for one in consumers
    ):
        words = (
            "new entries may not be added while `deallocationRequested` or "
            "`deletionTimestamp` are set"
        )
        causes.append(forbidden(at, words))
    if status.allocation is not None and before.allocation is not None:
        return causes + unchanged("status.allocation", status.allocation, before.allocation)
    if status.allocation is not None:
        causes += _validate_allocation(new)
    return causes


def _validate_consumers(consumers: tuple[ResourceClaimConsumerReference, ...]) -> Causes:
    at = "status.reservedFor"
    causes: Causes = []
    seen: set[str] = set()
    for position, one in enumerate(consumers):
        here = f"{at}[{position}]"
        for field, value in (("resource", one.resource), ("name", one.name), ("uid", one.uid)):
            if not value:
                causes.append(required(f"{here}.{field}"))
        if one.uid in seen:
            causes.append(duplicate(f"{here}.uid", one.uid))
        seen.add(one.uid)
    if len(consumers) > CONSUMERS_MAX:
        causes.append(too_many(at, len(consumers), CONSUMERS_MAX))
    return causes


def _validate_allocation(claim: ResourceClaim) -> Causes:
    """Each result is for a request of the claim, and names a device."""
    allocation, spec = claim.status.allocation, claim.spec.devices
    assert allocation is not None
    results = allocation.devices.results or ()
    at = "status.allocation.devices.results"
    names: set[str] = set()
    for request in spec.requests or ():
        names.add(request.name)
        names.update(f"{request.name}/{one.name}" for one in request.first_available or ())
    causes = [too_many(at, len(results), RESULTS_MAX)] if len(results) > RESULTS_MAX else []
    for position, result in enumerate(results):
        here = f"{at}[{position}]"
        if result.request not in names:
            words = (
                "must be the name of a request in the claim or the name of a request and a "
                "subrequest separated by a slash"
            )
            causes.append(invalid(f"{here}.request", result.request, words))
        causes += validate_driver_name(result.driver, f"{here}.driver")
        causes += validate_pool_name(result.pool, f"{here}.pool")
        causes += malformed(f"{here}.device", result.device, dns_label)
    return causes


# --- taints


def validate_taint_rule(rule: DeviceTaintRule) -> Causes:
    """VAL-52: a taint, and the devices that get it."""
    spec = rule.spec
    causes: Causes = []
    if (selector := spec.device_selector) is not None:
        at = "spec.deviceSelector"
        if selector.driver is not None:
            causes += validate_driver_name(selector.driver, f"{at}.driver")
        if selector.pool is not None:
            causes += validate_pool_name(selector.pool, f"{at}.pool")
        if selector.device is not None:
            causes += malformed(f"{at}.device", selector.device, dns_label)
    return causes + validate_device_taint(spec.taint, "spec.taint")


def validate_taint_rule_update(new: DeviceTaintRule, old: DeviceTaintRule) -> Causes:
    """VAL-52: as a new one."""
    return validate_taint_rule(new)


def validate_taint_rule_status(new: DeviceTaintRule, old: DeviceTaintRule) -> Causes:
    """VAL-52: at most eight conditions."""
    conditions = new.status.conditions or ()
    causes = validate_conditions(conditions, "status.conditions")
    if len(conditions) > CONDITIONS_MAX:
        causes.append(too_many("status.conditions", len(conditions), CONDITIONS_MAX))
    return causes
