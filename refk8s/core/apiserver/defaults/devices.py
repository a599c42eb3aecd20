"""Defaults of claims of devices. Rule DEF-30 (spec/defaults.md).

Source: Kubernetes API reference, "ResourceClaim" (allocationMode, count, tolerations).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.resource_v1 import (
    DeviceClaim,
    DeviceRequest,
    ResourceClaim,
    ResourceClaimTemplate,
)


def default_resource_claim(claim: ResourceClaim) -> ResourceClaim:
    """DEF-30."""
    devices = _default_claim(claim.spec.devices)
    return (
        claim
        if devices == claim.spec.devices
        else replace(claim, spec=replace(claim.spec, devices=devices))
    )


def default_resource_claim_template(template: ResourceClaimTemplate) -> ResourceClaimTemplate:
    spec = template.spec.spec
    if spec is None or (devices := _default_claim(spec.devices)) == spec.devices:
        return template
    return replace(template, spec=replace(template.spec, spec=replace(spec, devices=devices)))


def _default_claim(claim: DeviceClaim) -> DeviceClaim:
    if not claim.requests:
        return claim
    return replace(claim, requests=tuple([_default_request(request) for request in claim.requests]))


def _default_request(request: DeviceRequest) -> DeviceRequest:
    first = request.first_available and tuple(
        [_default_subrequest(sub) for sub in request.first_available]
    )
    exactly = _default_subrequest(request.exactly) if request.exactly is not None else None
    return replace(request, exactly=exactly, first_available=first)


def _default_subrequest(subrequest: Any) -> Any:
    """DEF-30: exactly one device; a toleration has the operator Equal."""
    mode = subrequest.allocation_mode or "ExactCount"
    tolerations = subrequest.tolerations and tuple(
        [one if one.operator else replace(one, operator="Equal") for one in subrequest.tolerations]
    )
    count = 1 if mode == "ExactCount" and not subrequest.count else subrequest.count
    return replace(subrequest, allocation_mode=mode, count=count, tolerations=tolerations)
