"""Defaults inside a container: probes, hooks, environment. Rule DEF-7 (spec/defaults.md).

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes"; API reference,
"Pod".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import EnvVar, HTTPGetAction, Lifecycle, LifecycleHandler, Probe

TIMEOUT_SECONDS, PERIOD_SECONDS, SUCCESS_THRESHOLD, FAILURE_THRESHOLD = 1, 10, 1, 3


def default_probe(probe: Probe) -> Probe:
    """DEF-7: a timeout of one second, a period of ten seconds, and thresholds of one success and
    three failures."""
    if (
        probe.timeout_seconds
        and probe.period_seconds
        and probe.success_threshold
        and probe.failure_threshold
        and probe.grpc is None
    ):
        action = probe.http_get
        if action is None or (action.path and action.scheme):
            return probe
    changed: dict[str, Any] = {
        "timeout_seconds": probe.timeout_seconds or TIMEOUT_SECONDS,
        "period_seconds": probe.period_seconds or PERIOD_SECONDS,
        "success_threshold": probe.success_threshold or SUCCESS_THRESHOLD,
        "failure_threshold": probe.failure_threshold or FAILURE_THRESHOLD,
    }
    if probe.http_get is not None:
        changed["http_get"] = default_http_get(probe.http_get)
    if probe.grpc is not None and probe.grpc.service is None:
        changed["grpc"] = replace(probe.grpc, service="")
    return replace(probe, **changed)


def default_http_get(action: HTTPGetAction) -> HTTPGetAction:
    """DEF-7: the path `/`, over HTTP."""
    if action.path and action.scheme:
        return action
    return replace(action, path=action.path or "/", scheme=action.scheme or "HTTP")


def default_lifecycle(lifecycle: Lifecycle) -> Lifecycle:
    post_start, pre_stop = (
        _default_handler(lifecycle.post_start),
        _default_handler(lifecycle.pre_stop),
    )
    if post_start is lifecycle.post_start and pre_stop is lifecycle.pre_stop:
        return lifecycle
    return replace(lifecycle, post_start=post_start, pre_stop=pre_stop)


def _default_handler(handler: LifecycleHandler | None) -> LifecycleHandler | None:
    if handler is None or handler.http_get is None:
        return handler
    action = default_http_get(handler.http_get)
    return handler if action is handler.http_get else replace(handler, http_get=action)


def default_env(variable: EnvVar) -> EnvVar:
    """DEF-7: a fieldRef names a field of a v1 pod."""
    source = variable.value_from
    if source is None or source.field_ref is None or source.field_ref.api_version:
        return variable
    return replace(
        variable, value_from=replace(source, field_ref=replace(source.field_ref, api_version="v1"))
    )
