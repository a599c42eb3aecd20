"""Warnings: what is accepted and yet is not what its writer may think. Rules WARN-1 ... WARN-4
(spec/validation.md).

    deprecated    every request about an API that is going away
    warnings_of   create and update of an object that is valid, on the object as it is to be

A warning never changes what happens. Functions take objects and give texts in Kubernetes' words, in
its order. Source: Kubernetes documentation, "Kubernetes Deprecation Policy" (warnings); API
conventions, "Warnings".
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource

Warnings = Callable[[Any, Any], list[str]]
"""(the object as it is to be, as it was or None) -> texts."""

_DEPRECATED: Mapping[Resource, tuple[str, ...]] = {
    resources.ENDPOINTS: (
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    resources.COMPONENT_STATUSES: ("v1 ComponentStatus is deprecated in v1.19+",),
}
_NONE: tuple[str, ...] = ()

# Where a kind's warnings stand, as `file.function` of this package.
_KINDS = {
    "core_v1.Pod": "pods.of_pod",
    "core_v1.PodTemplate": "workloads.of_pod_template",
    "core_v1.ReplicationController": "workloads.of_replication_controller",
    "core_v1.Secret": "config.of_secret",
    "core_v1.ServiceAccount": "config.of_service_account",
    "apps_v1.Deployment": "workloads.of_workload",
    "apps_v1.ReplicaSet": "workloads.of_workload",
    "apps_v1.DaemonSet": "workloads.of_workload",
    "apps_v1.StatefulSet": "workloads.of_stateful_set",
    "batch_v1.Job": "workloads.of_job",
    "batch_v1.CronJob": "workloads.of_cron_job",
    "node_v1.RuntimeClass": "config.of_runtime_class",
    "core_v1.Service": "network.warn_service",
    "core_v1.Endpoints": "network.warn_endpoints",
    "core_v1.Node": "network.warn_node",
    "networking_v1.Ingress": "network.warn_ingress",
    "core_v1.PersistentVolume": "storage.warn_volume",
    "core_v1.PersistentVolumeClaim": "storage.warn_claim",
    "storage_v1.StorageClass": "storage.warn_storage_class",
    "storage_v1.CSIDriver": "storage.warn_csi_driver",
}


def deprecated(resource: Resource) -> tuple[str, ...]:
    """WARN-1: what every answer about this resource says."""
    return _DEPRECATED.get(resource, _NONE)


def warnings_of(resource: Resource, new: Any, old: Any = None) -> tuple[str, ...]:
    """WARN-2: what is odd about a valid object; `old` is None on create. Each text once."""
    warn = _warn(resource)
    return () if warn is None else tuple(dict.fromkeys(warn(new, old)))


@cache
def _warn(resource: Resource) -> Warnings | None:
    place = _KINDS.get(f"{resource.module}.{resource.kind}")
    if place is None:
        return None
    file, _, name = place.partition(".")
    found: Warnings = getattr(import_module(f"{__name__}.{file}"), name)
    return found
