"""What the API server counts of its requests, for /metrics. Rule HTTP-25 (spec/http.md).

A request costs two readings of the clock, one look-up and one bisection; names and texts are made
when /metrics is read.
"""

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api.aggregated import is_available
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ALL, API_SERVICES
from refk8s.core.durations import Durations

if TYPE_CHECKING:
    from refk8s.components.apiserver import ApiServer
    from refk8s.components.auditing import Trail
    from refk8s.components.fair_queues import Ticket
    from refk8s.core.apiserver.legacy_tokens import LegacyUse

SERIES_MAX: Final = 2_000
"""The most combinations of labels; further ones are counted without their resource."""

MUTATING, READ_ONLY = "mutating", "readOnly"
LONG = ("watch", "connect")
_VERBS: Final = {
    "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
    "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_LABELS: Final = (
    "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version",
)  # fmt: skip


class Meter:
    """One request while it is served."""

    __slots__ = (
        "begin", "code", "is_long", "method", "request", "takes_no_seat", "ticket", "trail", "use",
    )  # fmt: skip

    def __init__(self, method: str) -> None:
        self.method = method
        self.begin = perf_counter()
        self.request: Request | None = None
        self.code = 0  # of the answer; 0: there was none
        self.is_long = False
        self.takes_no_seat = False  # a path that is no resource, a watch or a stream
        self.ticket: Ticket | None = None  # of its flow (FAIR-1)
        self.trail: Trail | None = None  # in the audit log
        self.use: LegacyUse | None = None  # of the token of a Secret (SA-6)


class _Series:
    """The requests with the same labels."""

    __slots__ = ("codes", "durations")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.durations = Durations()


Key = tuple[str, str, str, str, str, str, str]


class ApiServerMetrics:
    """Counts the requests of one API server."""

    def __init__(self) -> None:
        self._series: dict[Key, _Series] = {}
        self._in_flight = {MUTATING: 0, READ_ONLY: 0}
        self._long: dict[tuple[str, str, str, str], int] = {}

    # --- counting

    def begin(self, method: str) -> Meter:
        """A request has arrived."""
        meter = Meter(method)
        self.enter(meter)
        return meter

    def enter(self, meter: Meter) -> None:
        """This request is in flight."""
        self._in_flight[_kind_of(meter.method)] += 1

    def run_long(self, meter: Meter, request: Request) -> None:
        """This request is a watch or a stream: it is not in flight any more (as upstream)."""
        meter.request, meter.code, meter.is_long = request, 200, True
        self._in_flight[_kind_of(meter.method)] -= 1
        key = _long_key(request)
        self._long[key] = self._long.get(key, 0) + 1

    def end(self, meter: Meter) -> None:
        """The request has been answered, or its connection is gone."""
        request, ticket = meter.request, meter.ticket
        if ticket is not None and (ticket.is_free or meter.takes_no_seat):
            ticket.counts.dispatched += 1
        if meter.is_long and request is not None:
            key = _long_key(request)
            self._long[key] -= 1
            if not self._long[key]:
                del self._long[key]
        else:
            self._in_flight[_kind_of(meter.method)] -= 1
        if not meter.code:
            return
        labels = _labels_of(meter.method, request)
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= SERIES_MAX:
                labels = ("", "", "", "", "", labels[5], "")
            series = self._series.setdefault(labels, _Series())
        series.codes[meter.code] = series.codes.get(meter.code, 0) + 1
        series.durations.add(perf_counter() - meter.begin)

    # --- reading

    def collect(self, api: "ApiServer") -> Iterator[Any]:
        """The metrics as prometheus_client has them."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        total = CounterMetricFamily(
            "apiserver_request_total",
            "Requests by verb, resource and code.",
            labels=("code", *_LABELS),
        )
        duration = HistogramMetricFamily(
            "apiserver_request_duration_seconds",
            "How long requests took, by verb and resource.",
            labels=_LABELS,
        )
        for key, series in sorted(self._series.items()):
            labels = ("apiserver", *key)
            for code, count in sorted(series.codes.items()):
                total.add_metric((str(code), *labels), count)
            duration.add_metric(labels, series.durations.buckets(), series.durations.seconds)
        yield total
        yield duration
        in_flight = GaugeMetricFamily(
            "apiserver_current_inflight_requests",
            "Requests that are being served, without watches and streams.",
            labels=("request_kind",),
        )
        for kind, count in sorted(self._in_flight.items()):
            in_flight.add_metric((kind,), count)
        yield in_flight
        long = GaugeMetricFamily(
            "apiserver_longrunning_requests",
            "Watches and streams over HTTP that are open.",
            labels=("group", "resource", "verb", "version"),
        )
        for names, count in sorted(self._long.items()):
            long.add_metric(names, count)
        yield long
        objects = GaugeMetricFamily(
            "apiserver_storage_objects", "Stored objects by resource.", labels=("resource",)
        )
        prefixes = {r.prefix: r for r in ALL if not r.storage_api_version}
        for prefix, resource in sorted(prefixes.items()):
            if count := api.store.list(prefix, limit=0).remaining:
                name = f"{resource.plural}.{resource.group}" if resource.group else resource.plural
                objects.add_metric((name,), count)
        yield objects
        yield from api.outgoing.webhooks.collect()
        yield _unavailable_of(api)
        yield from _calls_of(api)


def _unavailable_of(api: "ApiServer") -> Any:
    """Which APIServices are not available (APISVC-9)."""
    from prometheus_client.core import GaugeMetricFamily

    found = GaugeMetricFamily(
        "aggregator_unavailable_apiservice", "APIServices without Available.", labels=("name",)
    )
    for record in api.store.list(API_SERVICES.prefix).records:
        found.add_metric((record.value.metadata.name,), 0 if is_available(record.value) else 1)
    return found


def _calls_of(api: "ApiServer") -> Iterator[Any]:
    """The calls to etcd. A store in this process makes none."""
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    labels = ("operation", "type")
    total = CounterMetricFamily("etcd_requests_total", "Calls to etcd.", labels=labels)
    failed = CounterMetricFamily("etcd_request_errors_total", "Calls that failed.", labels=labels)
    duration = HistogramMetricFamily(
        "etcd_request_duration_seconds", "How long calls to etcd took.", labels=labels
    )
    calls = getattr(api.store, "calls", {})
    for operation, (durations, errors) in sorted(calls.items()):
        names = (operation, "")
        total.add_metric(names, durations.count)
        failed.add_metric(names, errors)
        duration.add_metric(names, durations.buckets(), durations.seconds)
    if calls:
        yield from (total, failed, duration)


def _kind_of(method: str) -> str:
    return READ_ONLY if method == "GET" or method == "HEAD" else MUTATING


def _labels_of(method: str, request: Request | None) -> Key:
    """dry_run, group, resource, scope, subresource, verb, version."""
    if request is None:
        return "", "", "", "", "", method, ""
    resource = request.resource
    scope = "resource" if request.name or request.verb == "create" else "cluster"
    if scope == "cluster" and request.namespace:
        scope = "namespace"
    verb = _VERBS.get(request.verb) or request.verb.upper()
    dry_run = "All" if request.options.dry_run else ""
    return (
        dry_run, resource.group, resource.plural, scope, request.subresource, verb, resource.version,
    )  # fmt: skip


def _long_key(request: Request) -> tuple[str, str, str, str]:
    resource = request.resource
    return resource.group, resource.plural, request.verb.upper(), resource.version
