"""Administrative access to devices, the status of devices that are released, and the times of
taints. Rules DRA-7, DRA-19, DRA-20 (spec/devices.md).

Source: Kubernetes documentation, "Dynamic Resource Allocation" (admin access); API reference,
"ResourceClaim" (status.devices), "DeviceTaint" (timeAdded).
"""

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.request import Request
from refk8s.core.api.status import FORBIDDEN, ApiError, Cause
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context, timestamp

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import (
        Device,
        DeviceTaint,
        DeviceTaintRule,
        ResourceClaim,
        ResourceSlice,
    )
    from refk8s.core.apiserver.exchange import Exchange

ADMIN_LABEL: Final = "resource.kubernetes.io/admin-access"


def check_admin_access(exchange: "Exchange", new: Any, old: Any) -> None:
    """DRA-7: raise ApiError 422 for a new claim or template with administrative access in a
    namespace without the label."""
    if old is not None:
        return
    request, store = exchange.request, exchange.store
    is_template = request.resource == resources.RESOURCE_CLAIM_TEMPLATES
    spec = new.spec.spec if is_template else new.spec
    at = "spec.spec.devices" if is_template else "spec.devices"
    asking = [
        number
        for number, one in enumerate((spec.devices.requests or ()) if spec is not None else ())
        if one.exactly is not None and one.exactly.admin_access
    ]
    if not asking:
        return
    record = store.get(resources.NAMESPACES.key("", request.namespace))
    labels = (record.value.metadata.labels or {}) if record is not None else {}
    if labels.get(ADMIN_LABEL) == "true":
        return
    words = (
        f"admin access to devices requires the `{ADMIN_LABEL}: "
        "true` label on the containing namespace"
    )
    causes = [
        Cause(FORBIDDEN, f"{at}.requests[{number}].exactly.adminAccess", words) for number in asking
    ]
    raise ApiError(status.invalid(request.resource, new.metadata.name or "", causes))


def drop_released(
    request: Request,
    new: "ResourceClaim",
    old: "ResourceClaim | None",
    store: Reader,
    context: Context,
) -> "ResourceClaim":
    """DRA-19: the status of a device ends with its allocation."""
    if old is None or not new.status.devices or old.status.allocation is None:
        return new
    released = _allocated(old) - _allocated(new)
    if not released:
        return new
    kept = tuple([one for one in new.status.devices if _share(one) not in released])
    return replace(new, status=replace(new.status, devices=kept or None))


def date_taints(
    request: Request, new: "ResourceSlice", old: Any, store: Reader, context: Context
) -> "ResourceSlice":
    """DRA-20: each taint of a device has the time at which it was added."""
    devices = new.spec.devices or ()
    if all(taint.time_added for device in devices for taint in device.taints or ()):
        return new
    now = timestamp(context.now)
    dated = tuple([_with_dates(device, now) for device in devices])
    return replace(new, spec=replace(new.spec, devices=dated))


def _with_dates(device: "Device", now: str) -> "Device":
    taints = device.taints or ()
    return replace(device, taints=tuple([_with_date(taint, now) for taint in taints]) or None)


def _with_date(taint: "DeviceTaint", now: str) -> "DeviceTaint":
    return taint if taint.time_added else replace(taint, time_added=now)


def date_taint(
    request: Request,
    new: "DeviceTaintRule",
    old: "DeviceTaintRule | None",
    store: Reader,
    context: Context,
) -> "DeviceTaintRule":
    """DRA-20: the taint of a rule has the time at which it got its effect."""
    taint, now = new.spec.taint, timestamp(context.now)
    before = old.spec.taint if old is not None else taint
    is_other = taint.effect != before.effect and taint.time_added == before.time_added
    taint = replace(taint, time_added=now) if is_other else _with_date(taint, now)
    return replace(new, spec=replace(new.spec, taint=taint))


def _allocated(claim: "ResourceClaim") -> set[tuple[Any, ...]]:
    allocation = claim.status.allocation
    results = allocation.devices.results if allocation is not None else None
    return {_share(one) for one in results or ()}


def _share(one: Any) -> tuple[Any, ...]:
    return one.driver, one.pool, one.device, one.share_id
