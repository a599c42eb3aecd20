"""Validation: checks an object before it is stored. Rules VAL-1 to VAL-68 (spec/validation.md).

Each function takes objects and yields causes: a field, and why it is invalid, in Kubernetes' order
and with its messages. An object without causes is valid. A check never raises (VAL-1): hostile
input leads to causes, not exceptions.

    create          metadata, then the kind's own rules
    update          metadata as on create and against the old object, then the kind's rules for a change
    status update   metadata against the old object, then the kind's rules for its status

Source: API conventions, "Validation"; the sources named in each file.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.resources import Resource
from refk8s.core.api.status import Cause

# As a module: it imports a module of this package, so its names may not be there yet.
from refk8s.core.apiserver.custom import objects as custom_objects
from refk8s.core.apiserver.validation.field import Causes
from refk8s.core.apiserver.validation.metadata import (
    check_metadata,
    name_check,
    validate_metadata,
    validate_metadata_update,
)
from refk8s.core.apiserver.validation.names import path_segment
from refk8s.core.value import Value

__all__ = [
    "validate_approval_update",
    "validate_create",
    "validate_metadata",
    "validate_metadata_update",
    "validate_status_update",
    "validate_update",
]

Create = Callable[[Any], Causes]
Update = Callable[[Any, Any], Causes]


class Kind(Value, frozen=True):
    """The checks of a kind, as `file.function` of this package; empty if it has none.

    `whole`: an update is checked like a new object too, its metadata included (upstream does this
    for some kinds, and reports a bad label once more for it). `any_finalizer`: a finalizer needs no
    domain. `metadata_last`: the metadata is checked only if nothing else is wrong, and only by the
    checks for every kind. A version that is not stored (API-28) has a row of its own if its checks
    differ; its functions take the object in the stored version.
    """

    create: str = ""
    update: str = ""
    status: str = ""
    approval: str = ""
    whole: bool = False
    any_finalizer: bool = False
    metadata_last: bool = False


_AUTOSCALER = Kind(
    "autoscaling.validate_autoscaler",
    "autoscaling.validate_autoscaler_update",
    "autoscaling.validate_autoscaler_status",
)
_WEBHOOKS = Kind(
    "webhooks.validate_webhook_configuration",
    "webhooks.validate_webhook_configuration_update",
    any_finalizer=True,
)
_POLICIES = "admissionregistration_v1"
_KINDS = {
    "admissionregistration_v1.MutatingWebhookConfiguration": _WEBHOOKS,
    "admissionregistration_v1.ValidatingWebhookConfiguration": _WEBHOOKS,
    f"{_POLICIES}.ValidatingAdmissionPolicy": Kind(
        "admission_policies.validate_validating_policy",
        "admission_policies.validate_validating_policy_update",
        "admission_policies.validate_validating_policy_status",
        whole=True,
        any_finalizer=True,
    ),
    f"{_POLICIES}.ValidatingAdmissionPolicyBinding": Kind(
        "admission_policies.validate_validating_binding",
        "admission_policies.validate_validating_binding_update",
        whole=True,
        any_finalizer=True,
    ),
    f"{_POLICIES}.MutatingAdmissionPolicy": Kind(
        "admission_policies.validate_mutating_policy",
        "admission_policies.validate_mutating_policy_update",
        whole=True,
        any_finalizer=True,
    ),
    f"{_POLICIES}.MutatingAdmissionPolicyBinding": Kind(
        "admission_policies.validate_mutating_binding",
        "admission_policies.validate_mutating_binding_update",
        whole=True,
        any_finalizer=True,
    ),
    "apiextensions_v1.CustomResourceDefinition": Kind(
        "definitions.validate_definition",
        "definitions.validate_definition_update",
        "definitions.validate_definition_status",
        any_finalizer=True,
    ),
    "apiregistration_v1.APIService": Kind(
        "api_services.validate_api_service",
        "api_services.validate_api_service_update",
        "api_services.validate_api_service_status",
        whole=True,
        any_finalizer=True,
    ),
    "core_v1.Pod": Kind(
        "pod.validate_new_pod",
        "pod.validate_pod_update",
        "pod_status.validate_pod_status_update",
        whole=True,
    ),
    "core_v1.PodTemplate": Kind("pod.validate_pod_template", whole=True),
    "core_v1.ReplicationController": Kind(
        "workloads.validate_replication_controller",
        "workloads.validate_replication_controller_update",
        "workloads.validate_replica_counts",
    ),
    "core_v1.Service": Kind(
        "service.validate_service",
        "service.validate_service_update",
        "service.validate_service_status",
        whole=True,
    ),
    "core_v1.Endpoints": Kind(
        "endpoints.validate_endpoints", "endpoints.validate_endpoints_update"
    ),
    "core_v1.Namespace": Kind(
        "cluster.validate_namespace",
        "cluster.validate_namespace_update",
        "cluster.validate_namespace_status",
    ),
    "core_v1.Node": Kind(
        "cluster.validate_node", "cluster.validate_node_update", "cluster.validate_node_status"
    ),
    "core_v1.ConfigMap": Kind(
        "config.validate_config_map", "config.validate_config_map_update", whole=True
    ),
    "core_v1.Secret": Kind("config.validate_secret", "config.validate_secret_update", whole=True),
    "core_v1.ServiceAccount": Kind(whole=True),
    "core_v1.Event": Kind(
        "events.validate_event", "events.validate_event_update", metadata_last=True
    ),
    "events_v1.Event": Kind("events.validate_new_event", "events.validate_new_event_update"),
    "core_v1.LimitRange": Kind("quota.validate_limit_range", whole=True),
    "core_v1.ResourceQuota": Kind(
        "quota.validate_resource_quota",
        "quota.validate_resource_quota_update",
        "quota.validate_resource_quota_status",
    ),
    "apps_v1.Deployment": Kind(
        "workloads.validate_deployment",
        "workloads.validate_deployment_update",
        "workloads.validate_deployment_status",
    ),
    "apps_v1.ReplicaSet": Kind(
        "workloads.validate_replica_set",
        "workloads.validate_replica_set_update",
        "workloads.validate_replica_counts",
    ),
    "apps_v1.StatefulSet": Kind(
        "stateful_set.validate_stateful_set",
        "stateful_set.validate_stateful_set_update",
        "stateful_set.validate_stateful_set_status",
    ),
    "apps_v1.ControllerRevision": Kind(
        "stateful_set.validate_controller_revision",
        "stateful_set.validate_controller_revision_update",
        whole=True,
    ),
    "apps_v1.DaemonSet": Kind(
        "workloads.validate_daemon_set",
        "workloads.validate_daemon_set_update",
        "workloads.validate_daemon_set_status",
    ),
    "discovery_v1.EndpointSlice": Kind(
        "endpoints.validate_endpoint_slice", "endpoints.validate_endpoint_slice_update", whole=True
    ),
    "scheduling_v1.PriorityClass": Kind(
        "cluster.validate_priority_class", "cluster.validate_priority_class_update"
    ),
    "coordination_v1.Lease": Kind(
        "cluster.validate_lease", "cluster.validate_lease_update", any_finalizer=True
    ),
    "node_v1.RuntimeClass": Kind(
        "runtime_class.validate_runtime_class",
        "runtime_class.validate_runtime_class_update",
        whole=True,
        any_finalizer=True,
    ),
    "core_v1.PersistentVolume": Kind(
        "storage.validate_persistent_volume",
        "storage.validate_persistent_volume_update",
        whole=True,
    ),
    "core_v1.PersistentVolumeClaim": Kind(
        "storage.validate_persistent_volume_claim",
        "storage.validate_persistent_volume_claim_update",
        "storage.validate_persistent_volume_claim_status",
    ),
    "storage_v1.StorageClass": Kind(
        "storage.validate_storage_class", "storage.validate_storage_class_update", whole=True
    ),
    "storage_v1.CSIDriver": Kind("csi.validate_csi_driver", "csi.validate_csi_driver_update"),
    "storage_v1.CSINode": Kind("csi.validate_csi_node", "csi.validate_csi_node_update"),
    "storage_v1.CSIStorageCapacity": Kind(
        "csi.validate_csi_storage_capacity", "csi.validate_csi_storage_capacity_update"
    ),
    "storage_v1.VolumeAttachment": Kind(
        "csi.validate_volume_attachment",
        "csi.validate_volume_attachment_update",
        "csi.validate_volume_attachment_update",
    ),
    "storage_v1.VolumeAttributesClass": Kind(
        "csi.validate_volume_attributes_class", "csi.validate_volume_attributes_class_update"
    ),
    "resource_v1.DeviceClass": Kind(
        "devices.validate_device_class", "devices.validate_device_class_update"
    ),
    "resource_v1.ResourceClaim": Kind(
        "devices.validate_resource_claim",
        "devices.validate_resource_claim_update",
        "allocations.validate_resource_claim_status",
    ),
    "resource_v1.DeviceTaintRule": Kind(
        "allocations.validate_taint_rule",
        "allocations.validate_taint_rule_update",
        "allocations.validate_taint_rule_status",
    ),
    "resource_v1.ResourceClaimTemplate": Kind(
        "devices.validate_resource_claim_template",
        "devices.validate_resource_claim_template_update",
    ),
    "resource_v1.ResourceSlice": Kind(
        "devices.validate_resource_slice", "devices.validate_resource_slice_update"
    ),
    "certificates_v1.CertificateSigningRequest": Kind(
        "certificates.validate_signing_request",
        status="certificates.validate_status",
        approval="certificates.validate_approval",
    ),
    "certificates_v1.ClusterTrustBundle": Kind(
        "trust.validate_trust_bundle", "trust.validate_trust_bundle_update"
    ),
    "certificates_v1.PodCertificateRequest": Kind(
        "trust.validate_pod_request",
        "trust.validate_pod_request_update",
        "trust.validate_pod_request_status",
    ),
    "storagemigration_v1.StorageVersionMigration": Kind(
        "migrations.validate_migration",
        "migrations.validate_migration_update",
        "migrations.validate_migration_status",
        whole=True,
    ),
    "batch_v1.Job": Kind(
        "batch.validate_job",
        "batch.validate_job_update",
        "job_status.validate_job_status",
        whole=True,
    ),
    "batch_v1.CronJob": Kind("batch.validate_cron_job", "batch.validate_cron_job_update"),
    "networking_v1.Ingress": Kind(
        "network.validate_new_ingress",
        "network.validate_ingress_update",
        "network.validate_ingress_status",
        whole=True,
    ),
    "networking_v1.IngressClass": Kind(
        "network.validate_ingress_class", "network.validate_ingress_class_update"
    ),
    "networking_v1.NetworkPolicy": Kind("network.validate_network_policy", whole=True),
    "flowcontrol_v1.FlowSchema": Kind(
        "flow_control.validate_flow_schema", status="flow_control.validate_conditions", whole=True
    ),
    "flowcontrol_v1.PriorityLevelConfiguration": Kind(
        "flow_control.validate_priority_level",
        status="flow_control.validate_conditions",
        whole=True,
    ),
    "policy_v1.PodDisruptionBudget": Kind(
        "policy.validate_disruption_budget",
        "policy.validate_disruption_budget_update",
        "policy.validate_disruption_budget_status",
        metadata_last=True,
    ),
    "autoscaling_v1.HorizontalPodAutoscaler": _AUTOSCALER,
    "autoscaling_v2.HorizontalPodAutoscaler": _AUTOSCALER,
    "rbac_v1.Role": Kind("rbac.validate_role", whole=True),
    "rbac_v1.ClusterRole": Kind("rbac.validate_role", whole=True),
    "rbac_v1.RoleBinding": Kind(
        "rbac.validate_binding", "rbac.validate_binding_update", whole=True
    ),
    "rbac_v1.ClusterRoleBinding": Kind(
        "rbac.validate_binding", "rbac.validate_binding_update", whole=True
    ),
    "networking_v1.IPAddress": Kind(
        "cluster.validate_ip_address", "cluster.validate_ip_address_update"
    ),
    "networking_v1.ServiceCIDR": Kind(
        "cluster.validate_service_cidr", "cluster.validate_service_cidr_update"
    ),
}
_PLAIN = Kind()


def validate_create(resource: Resource, obj: Any) -> tuple[Cause, ...]:
    """The causes of a new object. It is defaulted; its name may not be generated yet."""
    if resource.is_custom:
        return custom_objects.causes_of(resource, obj, None)
    checks = _checks(resource)
    if checks.metadata_last:
        causes = checks.create(obj) if checks.create is not None else []
        return tuple(
            causes
            or check_metadata(obj.metadata, path_segment, resource.namespaced, any_finalizer=True)
        )
    causes = check_metadata(
        obj.metadata, checks.name, resource.namespaced, any_finalizer=checks.any_finalizer
    )
    if checks.create is not None:
        causes += checks.create(obj)
    return tuple(causes)


def validate_update(resource: Resource, new: Any, old: Any) -> tuple[Cause, ...]:
    """The causes of an update (VAL-5)."""
    if resource.is_custom:
        return custom_objects.causes_of(resource, new, old)
    checks = _checks(resource)
    causes = _check_changed_metadata(resource, checks, new, old)
    if checks.whole:
        causes += check_metadata(
            new.metadata, checks.name, resource.namespaced, any_finalizer=checks.any_finalizer
        )
    if checks.update is not None:
        causes += checks.update(new, old)
    elif checks.create is not None and checks.whole:
        causes += checks.create(new)
    return tuple(causes)


def validate_ephemeral_update(resource: Resource, new: Any, old: Any) -> tuple[Cause, ...]:
    """The causes of an update of a pod's ephemeral containers."""
    from refk8s.core.apiserver.validation import pod

    causes = _check_changed_metadata(resource, _checks(resource), new, old)
    return tuple(causes + pod.validate_ephemeral_update(new, old))


def validate_resize_update(resource: Resource, new: Any, old: Any) -> tuple[Cause, ...]:
    """The causes of an update of the resources of a pod's containers."""
    from refk8s.core.apiserver.validation import resize

    causes = _check_changed_metadata(resource, _checks(resource), new, old)
    return tuple(causes + resize.validate_resize(new, old))


def validate_status_update(resource: Resource, new: Any, old: Any) -> tuple[Cause, ...]:
    """The causes of an update of the status."""
    if resource.is_custom:
        return custom_objects.causes_of(resource, new, old, "status")
    checks = _checks(resource)
    causes = _check_changed_metadata(resource, checks, new, old)
    if checks.status is not None:
        causes += checks.status(new, old)
    return tuple(causes)


def _check_changed_metadata(resource: Resource, checks: "_Checks", new: Any, old: Any) -> Causes:
    # In most writes of a status only managedFields of the metadata change, and the rest was checked
    # before.
    if replace(new.metadata, managed_fields=old.metadata.managed_fields) == old.metadata:
        return []
    any_finalizer = checks.any_finalizer or checks.metadata_last
    causes = check_metadata(
        new.metadata, path_segment, resource.namespaced, any_finalizer=any_finalizer
    )
    return causes + validate_metadata_update(new.metadata, old.metadata) * 2


def validate_approval_update(resource: Resource, new: Any, old: Any) -> tuple[Cause, ...]:
    """The causes of a write to /approval."""
    checks = _checks(resource)
    causes = _check_changed_metadata(resource, checks, new, old)
    if checks.approval is not None:
        causes += checks.approval(new, old)
    return tuple(causes)


class _Checks(Value, frozen=True):
    name: Callable[[str], tuple[str, ...]]
    create: Create | None
    update: Update | None
    status: Update | None
    approval: Update | None
    whole: bool
    any_finalizer: bool
    metadata_last: bool


@cache
def _checks(resource: Resource) -> _Checks:
    kind = _KINDS.get(f"{resource.module}.{resource.kind}", _PLAIN)
    create, update, status, approval = [
        _load(place) for place in (kind.create, kind.update, kind.status, kind.approval)
    ]
    return _Checks(
        name_check(resource),
        create,
        update,
        status,
        approval,
        kind.whole,
        kind.any_finalizer,
        kind.metadata_last,
    )


def _load(place: str) -> Any:
    if not place:
        return None
    file, _, name = place.partition(".")
    return getattr(import_module(f"{__name__}.{file}"), name)
