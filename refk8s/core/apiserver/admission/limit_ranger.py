"""LimitRanges: default requests and limits, and the bounds of what containers, pods and claims
request. Rules ADM-40, ADM-41 (spec/admission.md).

Source: Kubernetes documentation, "Limit Ranges", "Admission Control in Kubernetes" (LimitRanger).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import (
    Container,
    LimitRange,
    LimitRangeItem,
    PersistentVolumeClaim,
    Pod,
)
from refk8s.core.api.quantity import ZERO, Amount, parse
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.pods.containers import every_container
from refk8s.core.quota.usage import amounts, pod_limits, pod_requests

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

ANNOTATION = "kubernetes.io/limit-ranger"
_PREFIX = resources.LIMIT_RANGES.prefix

Amounts = Mapping[str, Amount]


def _ranges_of(request: Request, store: Reader) -> list[LimitRange]:
    """The limit ranges of the namespace, in the order of their names. O(result), and one look-up if
    there is none."""
    if store.prefix_revision(_PREFIX) == 0:
        return []
    return [record.value for record in store.list(f"{_PREFIX}{request.namespace}/").records]


def _items(limit_range: LimitRange, type_: str) -> Iterable[LimitRangeItem]:
    return [item for item in limit_range.spec.limits if item.type == type_]


def _is_limited(request: Request, old: Pod | None) -> bool:
    """Whether the request creates or resizes a pod, and the pod is not being deleted."""
    if old is None:
        return True
    return request.subresource == "resize" and old.metadata.deletion_timestamp is None


# --- defaults


def fill(request: Request, new: Pod, old: Any, store: Reader, context: Context) -> Pod:
    """ADM-40: a new or resized pod with the default requests and limits of its namespace."""
    if not _is_limited(request, old):
        return new
    for limit_range in _ranges_of(request, store):
        requests: dict[str, str] = {}
        limits: dict[str, str] = {}
        for item in _items(limit_range, "Container"):
            requests.update(item.default_request or {})
            limits.update(item.default or {})
        if requests or limits:
            new = _filled(new, requests, limits)
    return new


def _filled(pod: Pod, requests: dict[str, str], limits: dict[str, str]) -> Pod:
    words: list[str] = []

    def filled(container: Container, kind: str) -> Container:
        mine = container.resources
        more = {
            name: requests[name] for name in sorted(requests) if name not in (mine.requests or {})
        }
        limited = {name: limits[name] for name in sorted(limits) if name not in (mine.limits or {})}
        if more:
            words.append(f"{', '.join(more)} request for {kind} {container.name}")
        if limited:
            words.append(f"{', '.join(limited)} limit for {kind} {container.name}")
        if not more and not limited:
            return container
        changed = replace(
            mine,
            requests={**(mine.requests or {}), **more} or None,
            limits={**(mine.limits or {}), **limited} or None,
        )
        return replace(container, resources=changed)

    spec = pod.spec
    containers = tuple([filled(one, "container") for one in spec.containers])
    first = tuple([filled(one, "init container") for one in spec.init_containers or ()])
    if not words:
        return pod
    note = {ANNOTATION: "LimitRanger plugin set: " + "; ".join(words)}
    metadata = replace(pod.metadata, annotations={**(pod.metadata.annotations or {}), **note})
    spec = replace(spec, containers=containers, init_containers=first or None)
    return replace(pod, metadata=metadata, spec=spec)


# --- bounds


def check_pod(exchange: "Exchange", new: Pod, old: Any) -> None:
    """ADM-41: raise ApiError 403 for a new or resized pod outside the bounds of a limit range."""
    request, store = exchange.request, exchange.store
    if not _is_limited(request, old):
        return
    for limit_range in _ranges_of(request, store):
        problems: list[str] = []
        for item in limit_range.spec.limits:
            if item.type == "Container":
                for container in every_container(new.spec):
                    mine = container.resources
                    problems += _problems(item, amounts(mine.requests), amounts(mine.limits))
            elif item.type == "Pod":
                bare = replace(new, spec=replace(new.spec, overhead=None))
                problems += _problems(item, pod_requests(bare), pod_limits(bare))
        _refuse(request, new, problems)


def check_claim(
    exchange: "Exchange", new: PersistentVolumeClaim, old: PersistentVolumeClaim | None
) -> None:
    """ADM-41: raise ApiError 403 for a claim outside the bounds of a limit range."""
    request, store = exchange.request, exchange.store
    if old is not None and old.metadata.deletion_timestamp is not None:
        return
    for limit_range in _ranges_of(request, store):
        requests = amounts(new.spec.resources.requests)
        problems: list[str] = []
        for item in _items(limit_range, "PersistentVolumeClaim"):
            for name, least in sorted((item.min or {}).items()):
                problems += _below(item.type, name, least, requests, {})
            for name, most in sorted((item.max or {}).items()):
                if name not in requests:
                    problems.append(_maximum(item.type, name, most, ".  No request is specified"))
                elif requests[name].milli > parse(most).milli:
                    words = f", but request is {requests[name]}"
                    problems.append(_maximum(item.type, name, most, words))
        _refuse(request, new, problems)


def _refuse(request: Request, obj: Any, problems: list[str]) -> None:
    if found := list(dict.fromkeys(problems)):  # containers may have the same problem
        words = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
        raise ApiError(status.forbidden(request.resource, obj.metadata.name or "", words))


def _problems(item: LimitRangeItem, requests: Amounts, limits: Amounts) -> list[str]:
    """What is wrong with these requests and limits, in Kubernetes' words."""
    found: list[str] = []
    for name, least in sorted((item.min or {}).items()):
        found += _below(item.type, name, least, requests, limits)
    for name, most in sorted((item.max or {}).items()):
        found += _above(item.type, name, most, requests, limits)
    for name, ratio in sorted((item.max_limit_request_ratio or {}).items()):
        found += _too_far(item.type, name, ratio, requests, limits)
    return found


def _below(type_: str, name: str, least: str, requests: Amounts, limits: Amounts) -> list[str]:
    bound, request, limit = parse(least).milli, requests.get(name), limits.get(name)
    if request is None:
        words = ".  No request is specified"
    elif request.milli < bound:
        words = f", but request is {request}"
    elif limit is not None and limit.milli < bound:
        words = f", but limit is {limit}"
    else:
        return []
    return [f"minimum {name} usage per {type_} is {least}{words}"]


def _above(type_: str, name: str, most: str, requests: Amounts, limits: Amounts) -> list[str]:
    bound, request, limit = parse(most).milli, requests.get(name), limits.get(name)
    if limit is None:
        words = ".  No limit is specified"
    elif limit.milli > bound:
        words = f", but limit is {limit}"
    elif request is not None and request.milli > bound:
        words = f", but request is {request}"
    else:
        return []
    return [_maximum(type_, name, most, words)]


def _maximum(type_: str, name: str, most: str, words: str) -> str:
    return f"maximum {name} usage per {type_} is {most}{words}"


def _too_far(type_: str, name: str, ratio: str, requests: Amounts, limits: Amounts) -> list[str]:
    request, limit = requests.get(name, ZERO), limits.get(name, ZERO)
    if not request.nano:
        words = "no request is specified or request is 0"
    elif not limit.nano:
        words = "no limit is specified or limit is 0"
    elif limit.milli * 1000 > parse(ratio).milli * request.milli:
        words = f"provided ratio is {limit.milli / request.milli:.6f}"
    else:
        return []
    return [f"{name} max limit to request ratio per {type_} is {ratio}, but {words}"]
