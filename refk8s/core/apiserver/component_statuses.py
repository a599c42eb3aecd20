"""ComponentStatuses: the store, the scheduler and the controller manager. Rule DISC-17
(spec/discovery.md).

Source: Kubernetes API reference, "ComponentStatus" (deprecated).
"""

from typing import Any

from refk8s.core.api import status
from refk8s.core.api.core_v1 import ComponentCondition, ComponentStatus, ComponentStatusList
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.request import Response
from refk8s.core.api.resources import COMPONENT_STATUSES, LEASES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.selection import select
from refk8s.core.context import SECOND, parse_timestamp
from refk8s.core.value import evolve

STORE = "etcd-0"
LEASES_OF = {"controller-manager": "kube-controller-manager", "scheduler": "kube-scheduler"}
"""The Lease of each component that is elected."""
_SINGULAR = evolve(COMPONENT_STATUSES, plural="componentstatus")


def get(exchange: Exchange) -> Response:
    """One of them. Raises ApiError 404, with upstream's word for the resource."""
    name = exchange.request.name
    if name != STORE and name not in LEASES_OF:
        raise ApiError(status.not_found(_SINGULAR, name))
    return Response(200, _status_of(name, exchange))


def list_statuses(exchange: Exchange) -> Response:
    """Those that the selectors of the request match, by name. Raises ApiError 400."""
    options = exchange.request.options
    selection = select(COMPONENT_STATUSES, "", options.label_selector, options.field_selector)
    found = [_status_of(name, exchange) for name in sorted((STORE, *LEASES_OF))]
    matches = selection.matches
    items = tuple([one for one in found if matches is None or matches(one)])
    return Response(200, ComponentStatusList(metadata=ListMeta(), items=items))


def _status_of(name: str, exchange: Exchange) -> ComponentStatus:
    problem = "" if name == STORE else _problem_of(name, exchange)
    condition = ComponentCondition(
        type="Healthy", status="False" if problem else "True", message=problem or "ok"
    )
    return ComponentStatus(metadata=ObjectMeta(name=name), conditions=(condition,))


def _problem_of(name: str, exchange: Exchange) -> str:
    """Why an elected component is not healthy; empty if it runs in this process or holds its
    Lease."""
    if name in exchange.config.components:
        return ""
    lease = LEASES_OF[name]
    record = exchange.store.get(LEASES.key("kube-system", lease))
    spec: Any = None if record is None else record.value.spec
    if spec is None or not spec.holder_identity or not spec.renew_time:
        return f"no instance holds the lease kube-system/{lease}"
    try:
        renewed = parse_timestamp(spec.renew_time)
    except ValueError:
        return f"the lease kube-system/{lease} has no valid renew time"
    if exchange.context.now > renewed + (spec.lease_duration_seconds or 0) * SECOND:
        return f"the lease kube-system/{lease} has expired"
    return ""
