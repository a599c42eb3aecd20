"""Defaulting: values for fields that are absent. Rules DEF-1 to DEF-33 (spec/defaults.md).

`default` is applied to every object that is written, on create and on update alike, and is a
function of the object alone. Applying it twice is the same as applying it once (DEF-1), and values
of the writer are kept (DEF-2). If nothing is absent the same object is returned, so a pod made from
a defaulted template is not copied.

Source: Kubernetes API reference (the defaults named with each field); API conventions,
"Defaulting". Resources that the table does not name have no defaults upstream either. Left out:
defaults of groups that no component here reads (storagemigration.k8s.io). Fields that are set only
on create belong to admission (refk8s/core/apiserver/admission/create.py).
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from refk8s.core.api.resources import PODS, Resource

# The module with the record of each kind, the kind, and the file here with its defaults (the
# function `default_<kind in snake case>`).
_FILES = {
    "admissionregistration_v1.MutatingWebhookConfiguration": (
        "webhooks.default_webhook_configuration"
    ),
    "admissionregistration_v1.ValidatingWebhookConfiguration": (
        "webhooks.default_webhook_configuration"
    ),
    "admissionregistration_v1.ValidatingAdmissionPolicy": "admission_policies.default_policy",
    "admissionregistration_v1.MutatingAdmissionPolicy": "admission_policies.default_policy",
    "admissionregistration_v1.ValidatingAdmissionPolicyBinding": "admission_policies.default_binding",
    "admissionregistration_v1.MutatingAdmissionPolicyBinding": "admission_policies.default_binding",
    "apiextensions_v1.CustomResourceDefinition": ("definitions.default_custom_resource_definition"),
    "apiregistration_v1.APIService": "api_services.default_api_service",
    "certificates_v1.PodCertificateRequest": "certificates.default_pod_request",
    "core_v1.Pod": "pod.default_pod",
    "core_v1.PodTemplate": "pod.default_pod_template",
    "core_v1.ReplicationController": "workloads.default_replication_controller",
    "core_v1.Service": "service.default_service",
    "core_v1.Endpoints": "service.default_endpoints",
    "core_v1.Namespace": "cluster.default_namespace",
    "core_v1.Node": "cluster.default_node",
    "core_v1.Secret": "config.default_secret",
    "core_v1.PersistentVolume": "storage.default_persistent_volume",
    "core_v1.PersistentVolumeClaim": "storage.default_persistent_volume_claim",
    "core_v1.LimitRange": "cluster.default_limit_range",
    "apps_v1.Deployment": "workloads.default_deployment",
    "apps_v1.ReplicaSet": "workloads.default_replica_set",
    "apps_v1.StatefulSet": "workloads.default_stateful_set",
    "apps_v1.DaemonSet": "workloads.default_daemon_set",
    "batch_v1.Job": "batch.default_job",
    "batch_v1.CronJob": "batch.default_cron_job",
    "discovery_v1.EndpointSlice": "service.default_endpoint_slice",
    "flowcontrol_v1.FlowSchema": "flow_control.default_flow_schema",
    "flowcontrol_v1.PriorityLevelConfiguration": "flow_control.default_priority_level",
    "networking_v1.NetworkPolicy": "network.default_network_policy",
    "networking_v1.IngressClass": "network.default_ingress_class",
    "scheduling_v1.PriorityClass": "cluster.default_priority_class",
    "storage_v1.StorageClass": "storage.default_storage_class",
    "storage_v1.CSIDriver": "storage.default_csi_driver",
    "storage_v1.VolumeAttachment": "storage.default_volume_attachment",
    "autoscaling_v1.HorizontalPodAutoscaler": "autoscaling.default_autoscaler_v1",
    "autoscaling_v2.HorizontalPodAutoscaler": "autoscaling.default_autoscaler",
    "resource_v1.ResourceClaim": "devices.default_resource_claim",
    "resource_v1.ResourceClaimTemplate": "devices.default_resource_claim_template",
    "rbac_v1.RoleBinding": "rbac.default_binding",
    "rbac_v1.ClusterRoleBinding": "rbac.default_binding",
}

_OF_STATUS = frozenset((
    "core_v1.Namespace", "core_v1.Node", "core_v1.PersistentVolume", "core_v1.PersistentVolumeClaim",
    "core_v1.Service",
))  # fmt: skip
"""The kinds that have defaults in the status too. Those of a pod have a function of their own: its
status is written often."""

Defaulter = Callable[[Any], Any]


def default(resource: Resource, obj: Any) -> Any:
    """The object with all defaults of Kubernetes. The same object if none was missing. Never
    raises."""
    defaulter = _defaulter(resource.module, resource.kind)
    return obj if defaulter is None else defaulter(obj)


def default_status(resource: Resource, obj: Any) -> Any:
    """The object of a write to /status with the defaults of its status. What it has of the stored
    object has them already."""
    if resource == PODS:
        from refk8s.core.apiserver.defaults.pod import default_pod_status

        return default_pod_status(obj)
    if f"{resource.module}.{resource.kind}" in _OF_STATUS:
        return default(resource, obj)
    return obj


@cache
def _defaulter(module: str, kind: str) -> Defaulter | None:
    place = _FILES.get(f"{module}.{kind}")
    if place is None:
        return None
    file, _, name = place.partition(".")
    found: Defaulter = getattr(import_module(f"{__name__}.{file}"), name)
    return found
