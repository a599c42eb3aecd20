"""The APIServices of the groups that this API server serves. Rules APISVC-2, APISVC-3
(spec/api_services.md).

Source: Kubernetes documentation, "Kubernetes API Aggregation Layer"; the published priorities of
upstream's groups.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apiregistration_v1 import (
    APIService,
    APIServiceCondition,
    APIServiceSpec,
    APIServiceStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import SERVED, Resource
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context, timestamp

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
GROUP_PRIORITIES = {
    "": 18_000,
    "apps": 17_800,
    "events.k8s.io": 17_750,
    "authentication.k8s.io": 17_700,
    "authorization.k8s.io": 17_600,
    "autoscaling": 17_500,
    "batch": 17_400,
    "certificates.k8s.io": 17_300,
    "networking.k8s.io": 17_200,
    "policy": 17_100,
    "rbac.authorization.k8s.io": 17_000,
    "storage.k8s.io": 16_800,
    "apiextensions.k8s.io": 16_700,
    "admissionregistration.k8s.io": 16_700,
    "scheduling.k8s.io": 16_600,
    "coordination.k8s.io": 16_500,
    "node.k8s.io": 16_300,
    "discovery.k8s.io": 16_200,
    "flowcontrol.apiserver.k8s.io": 16_100,
    "resource.k8s.io": 15_900,
    "storagemigration.k8s.io": 15_800,
    "metrics.k8s.io": 100,
}
"""Groups with a higher number come first in discovery. The group apiregistration.k8s.io has no
APIService of its own."""
VERSION_PRIORITIES = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("metrics.k8s.io", "v1beta1"): 100,
}
VERSION_PRIORITY = 15


def admit_api_service(
    request: Request, new: APIService, old: Any, store: Reader, context: Context
) -> APIService:
    """APISVC-2: what this server itself serves is available from the beginning."""
    if old is not None:
        return new
    if new.spec.service is not None:
        return replace(new, status=APIServiceStatus())
    condition = APIServiceCondition(
        type="Available",
        status="True",
        reason="Local",
        message="Local APIServices are always available",
        last_transition_time=timestamp(context.now),
    )
    return replace(new, status=APIServiceStatus(conditions=(condition,)))


def local_api_services(served: tuple[Resource, ...] = SERVED) -> list[APIService]:
    """APISVC-3: one for each built-in group version, in the order of the table of resources."""
    found = dict.fromkeys((one.group, one.version) for one in served)
    return [
        APIService(
            metadata=ObjectMeta(name=f"{version}.{group}", labels={AUTOMANAGED: "onstart"}),
            spec=APIServiceSpec(
                group=group or None,
                version=version,
                group_priority_minimum=GROUP_PRIORITIES[group],
                version_priority=VERSION_PRIORITIES.get((group, version), VERSION_PRIORITY),
            ),
        )
        for group, version in found
        if group in GROUP_PRIORITIES
    ]
