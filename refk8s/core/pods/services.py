"""Which Services select a pod. Rules EP-1 (spec/workloads/endpoints.md), SCHED-27
(spec/scheduler.md).

A Service is found by one label that each of its pods has, so the cost does not depend on the number
of Services. Source: Kubernetes documentation, "Service" (selectors).
"""

from collections.abc import Mapping

from refk8s.core.api.core_v1 import Service
from refk8s.core.api.resources import SERVICES
from refk8s.core.loop.view import Index, View


def matches(selector: Mapping[str, str], labels: Mapping[str, str] | None) -> bool:
    have = labels or {}
    return all(have.get(key) == value for key, value in selector.items())


def pairs_of(namespace: str | None, labels: Mapping[str, str]) -> list[str]:
    """The entries under which the Services of a pod with these labels may be found."""
    return [f"{namespace}/{key}={labels[key]}" for key in sorted(labels)]


def selector_pair(service: Service) -> tuple[str, ...]:
    """One label that every selected pod has; none for a Service without a selector."""
    if service.spec is None or not service.spec.selector:
        return ()
    key, value = min(service.spec.selector.items())
    return (f"{service.metadata.namespace}/{key}={value}",)


SERVICES_BY_PAIR = Index("selector", SERVICES, selector_pair)


def services_selecting(
    view: View, namespace: str | None, labels: Mapping[str, str]
) -> list[Service]:
    """The Services of the namespace that select these labels. O(labels and services found)."""
    return [
        service
        for pair in pairs_of(namespace, labels)
        for service in view.indexed(SERVICES, "selector", pair)
        if matches(service.spec.selector, labels)
    ]
