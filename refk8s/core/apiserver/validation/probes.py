"""Probes and hooks of a container. Rule VAL-9 (spec/validation.md).

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes", "Container
Lifecycle Hooks".
"""

from refk8s.core.api.core_v1 import Container, Lifecycle, LifecycleHandler, Probe
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import http_header
from refk8s.core.apiserver.validation.ports import validate_port, validate_port_number


def validate_probes_and_hooks(container: Container, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    if container.lifecycle is not None:
        causes += _validate_lifecycle(container.lifecycle, grace, f"{at}.lifecycle")
    if container.liveness_probe is not None:
        causes += _validate_probe(container.liveness_probe, f"{at}.livenessProbe", True)
    if container.readiness_probe is not None:
        causes += _validate_probe(container.readiness_probe, f"{at}.readinessProbe", False)
    if container.startup_probe is not None:
        causes += _validate_probe(container.startup_probe, f"{at}.startupProbe", True)
    return causes


def _validate_probe(probe: Probe, at: str, once: bool) -> Causes:
    """VAL-9: one action, no negative times; `once`: successThreshold must be 1."""
    causes = _validate_handler(probe, None, at)
    causes += not_negative(f"{at}.initialDelaySeconds", probe.initial_delay_seconds)
    causes += not_negative(f"{at}.timeoutSeconds", probe.timeout_seconds)
    causes += not_negative(f"{at}.periodSeconds", probe.period_seconds)
    causes += not_negative(f"{at}.successThreshold", probe.success_threshold)
    causes += not_negative(f"{at}.failureThreshold", probe.failure_threshold)
    grace = probe.termination_grace_period_seconds
    if grace is not None and (grace <= 0 or not once):
        if once:
            causes.append(
                invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than 0")
            )
        else:
            causes.append(
                invalid(
                    f"{at}.terminationGracePeriodSeconds",
                    grace,
                    "must not be set for readinessProbes",
                )
            )
    if once and probe.success_threshold != 1:
        causes.append(invalid(f"{at}.successThreshold", probe.success_threshold, "must be 1"))
    return causes


def _validate_lifecycle(lifecycle: Lifecycle, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    if lifecycle.post_start is not None:
        causes += _validate_handler(lifecycle.post_start, grace, f"{at}.postStart")
    if lifecycle.pre_stop is not None:
        causes += _validate_handler(lifecycle.pre_stop, grace, f"{at}.preStop")
    return causes


def _validate_handler(handler: Probe | LifecycleHandler, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    kinds: list[str] = []

    def first(kind: str) -> bool:
        kinds.append(kind)
        if len(kinds) > 1:
            causes.append(forbidden(f"{at}.{kind}", "may not specify more than 1 handler type"))
        return len(kinds) == 1

    if handler.exec is not None and first("exec") and not handler.exec.command:
        causes.append(required(f"{at}.exec.command"))
    if handler.http_get is not None and first("httpGet"):
        action = handler.http_get
        if not action.path:
            causes.append(required(f"{at}.httpGet.path"))
        causes += validate_port(action.port, f"{at}.httpGet.port")
        if action.scheme not in ("HTTP", "HTTPS"):
            causes.append(not_supported(f"{at}.httpGet.scheme", action.scheme, ("HTTP", "HTTPS")))
        for header in action.http_headers or ():
            causes += malformed(f"{at}.httpGet.httpHeaders", header.name, http_header)
    if handler.tcp_socket is not None and first("tcpSocket"):
        causes += validate_port(handler.tcp_socket.port, f"{at}.tcpSocket.port")
    if isinstance(handler, Probe):
        if handler.grpc is not None and first("grpc"):
            causes += validate_port_number(handler.grpc.port, f"{at}.grpc.port")
    elif handler.sleep is not None and first("sleep"):
        seconds = handler.sleep.seconds
        if grace is not None and not 0 <= seconds <= grace:
            words = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            causes.append(invalid(f"{at}.sleep", seconds, words))
    if not kinds:
        causes.append(required(at, "must specify a handler type"))
    return causes
