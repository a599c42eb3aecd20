"""Pod-level resources. Rule VAL-12 (spec/validation.md).

Source: Kubernetes documentation, "Assign Pod-level CPU and memory resources".
"""

from refk8s.core.api.core_v1 import PodSpec
from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid
from refk8s.core.apiserver.validation.resources import amount, validate_requirements
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.pods.resources import compute_requests

Totals = dict[str, int]
"""Amounts of resources in billionths."""


def validate_pod_resources(spec: PodSpec, claims: frozenset[str], at: str) -> Causes:
    """VAL-12: a pod requests at least what its containers request together, and no container's
    limit is above the pod's."""
    resources = spec.resources
    if resources is None:
        return []
    causes: Causes = []
    if resources.claims is not None:
        causes.append(forbidden(f"{at}.claims", "claims cannot be set for Resources at pod-level"))
    causes += validate_requirements(resources, at, claims, of_pod=True)
    requests, limits = resources.requests or {}, resources.limits or {}
    for name, total in sorted(total_requests(spec).items()):
        if name in requests and total > _nano(requests[name]):
            words = "must be greater than or equal to aggregate container requests"
            causes.append(invalid(f"{at}.requests[{name}]", requests[name], words))
    for position, container in enumerate(spec.containers):
        for name, text in (container.resources.limits or {}).items():
            if name in limits and _nano(text) > _nano(limits[name]):
                words = f"must be less than or equal to pod limits of {limits[name]}"
                causes.append(invalid(f"{at}.containers[{position}][{name}].limits", text, words))
    return causes


def total_requests(spec: PodSpec) -> Totals:
    """The largest sum of requests of the pod's containers that run at the same time (SCHED-2), in
    billionths."""
    return compute_requests(
        [container.resources.requests for container in spec.containers],
        [(one.resources.requests, is_sidecar(one)) for one in spec.init_containers or ()],
        count=lambda resource, text: _nano(text),
    )


def _nano(text: str) -> int:
    number = amount(text)
    return 0 if number is None else number.nano
