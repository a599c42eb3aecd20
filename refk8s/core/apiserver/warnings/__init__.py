"""Warnings about valid objects that may not have the intended effect. Rules WARN-1 to WARN-4
(spec/validation.md).

    deprecated    every request about an API that is going away
    warnings_of   create and update of an object that is valid, on the object as it is to be

A warning has no other effect. Functions take objects and return Kubernetes' messages in its order.
Source: Kubernetes documentation, "Kubernetes Deprecation Policy" (warnings); API conventions,
"Warnings".
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource

Warnings = Callable[[Any, Any], list[str]]
"""(new object, old object or None) -> texts."""

_DEPRECATED: Mapping[Resource, tuple[str, ...]] = {
    resources.ENDPOINTS: (
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    resources.COMPONENT_STATUSES: ("v1 ComponentStatus is deprecated in v1.19+",),
}
_NONE: tuple[str, ...] = ()

# The warnings of each kind, as `file.function` of this package.
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
    "discovery_v1.EndpointSlice": "network.warn_endpoint_slice",
    "networking_v1.Ingress": "network.warn_ingress",
    "networking_v1.NetworkPolicy": "network.warn_network_policy",
    "core_v1.PersistentVolume": "storage.warn_volume",
    "core_v1.PersistentVolumeClaim": "storage.warn_claim",
    "storage_v1.StorageClass": "storage.warn_storage_class",
    "storage_v1.CSIDriver": "storage.warn_csi_driver",
    "storage_v1.CSIStorageCapacity": "storage.warn_capacity",
}


def deprecated(resource: Resource) -> tuple[str, ...]:
    """WARN-1: the warnings of every answer about this resource."""
    if resource.is_custom:
        version = resource.definition.version
        if not version.deprecated:
            return _NONE
        return (
            version.deprecation_warning or f"{resource.api_version} {resource.kind} is deprecated",
        )
    return _DEPRECATED.get(resource, _NONE)


def warnings_of(resource: Resource, new: Any, old: Any = None) -> tuple[str, ...]:
    """WARN-2: the warnings about a valid object, each once; `old` is None on create."""
    warn = None if resource.is_custom else _warn(resource)
    return () if warn is None else tuple(dict.fromkeys(warn(new, old)))


@cache
def _warn(resource: Resource) -> Warnings | None:
    place = _KINDS.get(f"{resource.module}.{resource.kind}")
    if place is None:
        return None
    file, _, name = place.partition(".")
    found: Warnings = getattr(import_module(f"{__name__}.{file}"), name)
    return found
