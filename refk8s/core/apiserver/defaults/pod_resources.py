"""Defaults of pod-level resources. Rule DEF-33 (spec/defaults.md).

Source: KEP-2837 "Pod Level Resource Specifications" (Proposed validation and defaulting rules).
Left out: pod-level limits of CPU and memory from the limits of the containers, which v1.36 does
not set.
"""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, PodSpec
from refk8s.core.api.quantity import QuantityError, parse
from refk8s.core.pods.containers import every_container, is_sidecar
from refk8s.core.pods.resources import CPU, MEMORY, compute_requests

HUGE_PAGES = "hugepages-"


def default_pod_resources(spec: PodSpec) -> PodSpec:
    """DEF-33: the spec with the limits and requests that follow from its containers."""
    resources = spec.resources
    if resources is None or not (resources.limits or resources.requests):
        return spec
    limits, requests = dict(resources.limits or {}), dict(resources.requests or {})
    for name, text in _totals(spec, "limits"):
        if name.startswith(HUGE_PAGES) and name not in requests:
            limits.setdefault(name, text)
    if limits:
        for name, text in _totals(spec, "requests"):
            if name in (CPU, MEMORY):
                requests.setdefault(name, text)
        for name, text in limits.items():
            if name in (CPU, MEMORY) or name.startswith(HUGE_PAGES):
                requests.setdefault(name, text)
    if limits == (resources.limits or {}) and requests == (resources.requests or {}):
        return spec
    changed = replace(resources, limits=limits or None, requests=requests or None)
    return replace(spec, resources=changed)


def _totals(spec: PodSpec, part: str) -> Iterator[tuple[str, str]]:
    """The largest sum of what containers request, or are limited to, at the same time."""

    def of(container: Container) -> Any:
        return getattr(container.resources, part)

    styles: dict[str, Any] = {}
    try:
        for container in every_container(spec):
            for name, text in (of(container) or {}).items():
                styles.setdefault(name, parse(text))
        totals = compute_requests(
            [of(one) for one in spec.containers],
            [(of(one), is_sidecar(one)) for one in spec.init_containers or ()],
            count=lambda _, text: parse(text).nano,
        )
    except QuantityError:
        return  # the decoder rejects such text; here it comes from code
    for name, nano in totals.items():
        yield name, str(replace(styles[name], nano=nano))
