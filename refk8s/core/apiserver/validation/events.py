"""Events. Rule VAL-65 (spec/validation.md).

Source: Kubernetes API reference, "Event" (core/v1 and events.k8s.io/v1).
"""

from refk8s.core.api.core_v1 import Event
from refk8s.core.apiserver.validation.field import Causes, invalid, malformed, required, unchanged
from refk8s.core.apiserver.validation.names import dns_subdomain, qualified_name

TEXT_BYTES_MAX = 128
MESSAGE_BYTES_MAX = 1024
TYPES = ("Normal", "Warning")
NOT_OF_SERIES = "needs to be unset"


def validate_event(event: Event) -> Causes:
    """VAL-65: an event is in the namespace of the object that it is about, or in `default` if that
    has none. An event with an eventTime has an action, a reason and a reporting controller."""
    about, namespace = event.involved_object.namespace or "", event.metadata.namespace or ""
    elsewhere = invalid("involvedObject.namespace", about, "does not match event.namespace")
    causes: Causes = []
    if event.event_time is None:
        if namespace != about and not (not about and namespace in ("", "default")):
            causes.append(elsewhere)
    else:
        if not about and namespace not in ("default", "kube-system"):
            causes.append(elsewhere)
        causes += _validate_report(event)
    return causes + malformed("namespace", namespace, dns_subdomain)


def _validate_report(event: Event) -> Causes:
    controller = event.reporting_component or ""
    causes: Causes = [] if controller else [required("reportingController")]
    causes += malformed("reportingController", controller, qualified_name)
    texts = (
        (event.reporting_instance, "reportingInstance", TEXT_BYTES_MAX), (event.action, "action", TEXT_BYTES_MAX),
        (event.reason, "reason", TEXT_BYTES_MAX),
    )  # fmt: skip
    for text, name, bytes_max in texts:
        causes += ([] if text else [required(name)]) + _validate_length(text, name, bytes_max)
    return causes + _validate_length(event.message, "message", MESSAGE_BYTES_MAX)


def _validate_length(text: str | None, at: str, bytes_max: int) -> Causes:
    is_long = len((text or "").encode("utf-8", "surrogatepass")) > bytes_max
    return [invalid(at, "", f"can have at most {bytes_max} characters")] if is_long else []


def validate_new_event(event: Event) -> Causes:
    """VAL-65: an event that is created as events.k8s.io/v1."""
    causes = validate_event(event) + _validate_series(event)
    if event.event_time is None:
        causes.append(required("eventTime"))
    if event.type not in TYPES:
        causes.append(invalid("type", "", f"has invalid value: {event.type or ''}"))
    source = event.source
    for value, name in (
        (event.first_timestamp, "firstTimestamp"), (event.last_timestamp, "lastTimestamp"), (event.count, "count"),
        (source is not None and (source.component or source.host), "source"),
    ):  # fmt: skip
        if value:
            causes.append(invalid(name, "", NOT_OF_SERIES))
    return causes


def _validate_series(event: Event) -> Causes:
    series = event.series
    if series is None:
        return []
    causes: Causes = (
        [] if (series.count or 0) >= 2 else [invalid("series.count", "", "should be at least 2")]
    )
    return (
        causes
        if series.last_observed_time is not None
        else [*causes, required("series.lastObservedTime")]
    )


def validate_event_update(new: Event, old: Event) -> Causes:
    return validate_event(new)


def validate_new_event_update(new: Event, old: Event) -> Causes:
    """VAL-65: an update as events.k8s.io/v1 changes only the series."""
    causes = validate_event(new)
    if new.series != old.series:
        causes += _validate_series(new)
    for attribute, name in (
        ("involved_object", "involvedObject"), ("reason", "reason"), ("message", "message"), ("source", "source"),
        ("first_timestamp", "firstTimestamp"), ("last_timestamp", "lastTimestamp"), ("count", "count"), ("type", "type"),
        ("event_time", "eventTime"), ("action", "action"), ("related", "related"),
        ("reporting_component", "reportingController"), ("reporting_instance", "reportingInstance"),
    ):  # fmt: skip
        causes += unchanged(name, getattr(new, attribute), getattr(old, attribute))
    return causes
