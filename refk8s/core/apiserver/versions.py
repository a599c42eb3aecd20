"""One object in several versions: converts between the requested version and the stored one. Rule
API-28 (spec/api.md).

    requested                    stored
    events.k8s.io/v1 Event       v1 Event
    autoscaling/v1 HPA           autoscaling/v2 HPA

A request in another version is converted to the same request in the stored version (`as_stored`)
and handled, and its outcome is converted back (`as_asked`). Fields that only the stored version has
are kept by writes in the other one. Source: Kubernetes documentation, "Kubernetes Deprecation
Policy" (rule 2: objects must round trip), "Events"; API reference, "Event". Left out: the
annotations in which autoscaling/v1 shows what only autoscaling/v2 can express
(spec/divergences.md).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import autoscaling_v1, autoscaling_v2, core_v1, events_v1, resources
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource, by_kind
from refk8s.core.api.selector import FieldRequirement, FieldSelector, SelectorError, parse_fields
from refk8s.core.apiserver import patch, read, write
from refk8s.core.apiserver.outcome import Commit, Outcome, Reader, Stream
from refk8s.core.store import Committed
from refk8s.core.value import evolve


def stored_resource(resource: Resource) -> Resource:
    """The resource in the stored version; itself if that is the stored one."""
    if not resource.storage_api_version:
        return resource
    stored = by_kind(resource.storage_api_version, resource.kind)
    assert stored is not None, f"{resource} is kept as nothing that there is"
    return stored


def _stored_fields(requested: Resource, field_selector: str) -> str:
    """The field selector in terms of the stored version."""
    return (
        _event_fields(field_selector)
        if field_selector and requested == resources.EVENTS_V1
        else field_selector
    )


def as_stored(request: Request, store: Reader) -> Request:
    """The same request about the stored version. A patch applies to the requested version, so it is
    applied here."""
    requested, stored = request.resource, stored_resource(request.resource)
    options = request.options
    if (fields := _stored_fields(requested, options.field_selector)) != options.field_selector:
        options = evolve(options, field_selector=fields)
    inner = evolve(request, resource=stored, options=options, requested_resource=requested)
    if request.subresource not in ("", "status") or request.verb not in (
        "create",
        "update",
        "patch",
    ):
        return inner
    if request.verb == "patch":
        if request.body.media_type == patch.APPLY_PATCH:  # applied by handle.py (APPLY-19)
            return inner
        current = read.find(inner, store).value
        shown = from_stored(requested, current)
        body, _ = write.patched(
            requested, requested.type, shown, request.body, request.options.field_validation
        )
        return evolve(inner, verb="update", body=to_stored(requested, body, current))
    record = store.get(stored.key(request.namespace, request.name)) if request.name else None
    return evolve(
        inner, body=to_stored(requested, request.body, None if record is None else record.value)
    )


def as_requested(outcome: Outcome, requested: Resource) -> Outcome:
    """The outcome in terms of the requested version."""
    if isinstance(outcome, Response):
        return _answer(outcome, requested)
    if isinstance(outcome, Commit):
        inner = outcome.respond

        def respond(committed: Committed[Any]) -> Response:
            return _answer(inner(committed), requested)

        rest, again = (
            None if one is None else evolve(one, resource=requested)
            for one in (outcome.rest, outcome.again)
        )
        return Commit(outcome.txn, respond, rest, again)
    if isinstance(outcome, Stream):
        return evolve(outcome, resource=requested)
    return outcome


def _answer(response: Response, requested: Resource) -> Response:
    body = response.body
    stored = stored_resource(requested)
    if body.kind == stored.kind and body.api_version == stored.api_version:
        shown: Any = from_stored(requested, body)
    elif body.kind == stored.list_kind and body.api_version == stored.api_version:
        items = tuple([from_stored(requested, item) for item in body.items])
        shown = requested.list_type(metadata=body.metadata, items=items)  # type: ignore[call-arg]
    else:
        return response
    return Response(response.code, shown, warnings=response.warnings, prefix=response.prefix)


def from_stored(requested: Resource, obj: Any) -> Any:
    """The stored object in the requested version."""
    return _event_from_core(obj) if requested == resources.EVENTS_V1 else _autoscaler_v1(obj)


def to_stored(requested: Resource, obj: Any, current: Any) -> Any:
    """An object of the requested version in the stored one; `current`: the stored object, or
    None."""
    return _event_to_core(obj) if requested == resources.EVENTS_V1 else _autoscaler_v2(obj, current)


# --- events


def _event_fields(text: str) -> str:
    """The field selector in terms of v1."""
    try:
        parsed = parse_fields(text)
    except SelectorError:
        return text  # rejected when it is parsed (LIST-3)
    renamed = [_renamed(one) for one in parsed.requirements]
    return str(FieldSelector(tuple(renamed)))


def _renamed(requirement: FieldRequirement) -> FieldRequirement:
    """regarding.name is involvedObject.name, reportingController is reportingComponent."""
    key = requirement.key
    if key.startswith("regarding."):
        key = "involvedObject." + key.removeprefix("regarding.")
    elif key == "reportingController":
        key = "reportingComponent"
    return FieldRequirement(key, requirement.operator, requirement.value)


def _event_from_core(event: core_v1.Event) -> events_v1.Event:
    series = event.series
    return events_v1.Event(
        metadata=event.metadata,
        action=event.action,
        deprecated_count=event.count,
        deprecated_first_timestamp=event.first_timestamp,
        deprecated_last_timestamp=event.last_timestamp,
        deprecated_source=event.source,
        event_time=event.event_time,
        note=event.message,
        reason=event.reason,
        regarding=event.involved_object,
        related=event.related,
        reporting_controller=event.reporting_component or None,
        reporting_instance=event.reporting_instance or None,
        series=None
        if series is None
        else events_v1.EventSeries(
            count=series.count or 0, last_observed_time=series.last_observed_time
        ),
        type=event.type,
    )


def _event_to_core(event: events_v1.Event) -> core_v1.Event:
    series = event.series
    return core_v1.Event(
        metadata=event.metadata,
        action=event.action,
        count=event.deprecated_count,
        event_time=event.event_time,
        first_timestamp=event.deprecated_first_timestamp,
        involved_object=event.regarding,
        last_timestamp=event.deprecated_last_timestamp,
        message=event.note,
        reason=event.reason,
        related=event.related,
        reporting_component=event.reporting_controller or "",
        reporting_instance=event.reporting_instance or "",
        series=None
        if series is None
        else core_v1.EventSeries(
            count=series.count or None, last_observed_time=series.last_observed_time
        ),
        source=event.deprecated_source,
        type=event.type,
    )


# --- horizontal pod autoscalers


def _is_cpu(metric: autoscaling_v2.MetricSpec) -> bool:
    """The only metric of v1: the share of the requested CPU."""
    source = metric.resource
    return (
        source is not None
        and source.name == "cpu"
        and source.target.average_utilization is not None
    )


def _autoscaler_v1(
    scaler: autoscaling_v2.HorizontalPodAutoscaler,
) -> autoscaling_v1.HorizontalPodAutoscaler:
    spec, status = scaler.spec, scaler.status
    targets = [
        m.resource.target.average_utilization
        for m in spec.metrics or ()
        if m.resource is not None and _is_cpu(m)
    ]
    seen = [
        m.resource.current.average_utilization
        for m in status.current_metrics or ()
        if m.resource and m.resource.name == "cpu"
    ]
    return autoscaling_v1.HorizontalPodAutoscaler(
        metadata=scaler.metadata,
        spec=autoscaling_v1.HorizontalPodAutoscalerSpec(
            max_replicas=spec.max_replicas,
            min_replicas=spec.min_replicas,
            scale_target_ref=_reference(
                autoscaling_v1.CrossVersionObjectReference, spec.scale_target_ref
            ),
            target_cpu_utilization_percentage=targets[0] if targets else None,
        ),
        status=autoscaling_v1.HorizontalPodAutoscalerStatus(
            current_cpu_utilization_percentage=seen[0] if seen else None,
            current_replicas=status.current_replicas or 0,
            desired_replicas=status.desired_replicas,
            last_scale_time=status.last_scale_time,
            observed_generation=status.observed_generation,
        ),
    )


def _autoscaler_v2(
    scaler: autoscaling_v1.HorizontalPodAutoscaler, current: Any
) -> autoscaling_v2.HorizontalPodAutoscaler:
    spec, status = scaler.spec, scaler.status
    kept = current or autoscaling_v2.HorizontalPodAutoscaler()
    metrics = [metric for metric in kept.spec.metrics or () if not _is_cpu(metric)]
    if spec.target_cpu_utilization_percentage is not None:
        target = autoscaling_v2.MetricTarget(
            type="Utilization", average_utilization=spec.target_cpu_utilization_percentage
        )
        source = autoscaling_v2.ResourceMetricSource(name="cpu", target=target)
        metrics.append(autoscaling_v2.MetricSpec(type="Resource", resource=source))
    seen = kept.status.current_metrics
    if status.current_cpu_utilization_percentage is not None:
        value = autoscaling_v2.MetricValueStatus(
            average_utilization=status.current_cpu_utilization_percentage
        )
        others = [
            metric
            for metric in seen or ()
            if metric.resource is None or metric.resource.name != "cpu"
        ]
        cpu = autoscaling_v2.MetricStatus(
            type="Resource", resource=autoscaling_v2.ResourceMetricStatus(name="cpu", current=value)
        )
        seen = (*others, cpu)
    return autoscaling_v2.HorizontalPodAutoscaler(
        metadata=scaler.metadata,
        spec=replace(
            kept.spec,
            max_replicas=spec.max_replicas,
            min_replicas=spec.min_replicas,
            metrics=tuple(metrics) or None,
            scale_target_ref=_reference(
                autoscaling_v2.CrossVersionObjectReference, spec.scale_target_ref
            ),
        ),
        status=replace(
            kept.status,
            current_metrics=seen,
            current_replicas=status.current_replicas or None,
            desired_replicas=status.desired_replicas,
            last_scale_time=status.last_scale_time,
            observed_generation=status.observed_generation,
        ),
    )


def _reference(record: Any, reference: Any) -> Any:
    return record(api_version=reference.api_version, kind=reference.kind, name=reference.name)
