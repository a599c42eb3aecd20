"""The QoS class of a pod. Rule ADM-6 (spec/admission.md).

Source: Kubernetes documentation, "Pod Quality of Service Classes".
"""

from refk8s.core.api.core_v1 import PodSpec, ResourceRequirements
from refk8s.core.api.quantity import QuantityError, parse
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import every_container


@remember_identical(16)
def compute_qos_class(spec: PodSpec) -> str:
    """ADM-6: BestEffort if nothing requests CPU or memory, Guaranteed if every container limits
    both at its request, else Burstable. Pod-level resources count instead of those of the
    containers, even if they are empty."""
    if spec.resources is not None:
        return _class_of((spec.resources,))
    return _class_of(tuple([container.resources for container in every_container(spec)]))


def _class_of(requirements: tuple[ResourceRequirements, ...]) -> str:
    if not any(one.limits or one.requests for one in requirements):
        return "BestEffort"
    requests_any, guaranteed = False, True
    for resources_of in requirements:
        limits, requests = resources_of.limits, resources_of.requests
        for name in ("cpu", "memory"):
            limit, request = _some(limits, name), _some(requests, name)
            requests_any = requests_any or limit != 0 or request != 0
            guaranteed = guaranteed and limit != 0 and limit == request
    return "BestEffort" if not requests_any else "Guaranteed" if guaranteed else "Burstable"


def _some(amounts: dict[str, str] | None, name: str) -> int:
    if not amounts or name not in amounts:
        return 0
    try:
        return parse(amounts[name]).nano
    except QuantityError:
        return 0  # validation rejects it
