"""The tables of the remaining groups: networking, storage, access, admission, scheduling, devices.
Rule TABLE-1 (spec/table.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refk8s.core.api.conditions import get_condition
from refk8s.core.apiserver.table.core import balancer_addresses
from refk8s.core.apiserver.table.duration import age, human_duration
from refk8s.core.apiserver.table.layout import (
    AGE,
    NAME,
    NONE,
    SHOWN_MAX,
    UNSET,
    Cells,
    Column,
    Layout,
    integer,
    named,
    selector_text,
    wide,
)
from refk8s.core.context import SECOND, Instant

if TYPE_CHECKING:
    from refk8s.core.api.apiregistration_v1 import APIService
    from refk8s.core.api.certificates_v1 import (
        CertificateSigningRequest,
        ClusterTrustBundle,
        PodCertificateRequest,
    )
    from refk8s.core.api.coordination_v1 import Lease
    from refk8s.core.api.flowcontrol_v1 import FlowSchema, PriorityLevelConfiguration
    from refk8s.core.api.networking_v1 import (
        Ingress,
        IngressClass,
        IPAddress,
        NetworkPolicy,
        ServiceCIDR,
    )
    from refk8s.core.api.node_v1 import RuntimeClass
    from refk8s.core.api.resource_v1 import ResourceClaim, ResourceSlice
    from refk8s.core.api.scheduling_v1 import PriorityClass
    from refk8s.core.api.storage_v1 import (
        CSIDriver,
        CSINode,
        CSIStorageCapacity,
        StorageClass,
        VolumeAttachment,
        VolumeAttributesClass,
    )
    from refk8s.core.api.storagemigration_v1 import StorageVersionMigration

DEFAULT_CLASS_ANNOTATIONS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _bare(one: Any, now: Instant) -> Cells:
    return named(one, now)


# --- networking


def ingress(one: Ingress, now: Instant) -> Cells:
    spec = one.spec
    balancer = one.status.load_balancer
    address = ",".join(balancer_addresses((balancer.ingress or ()) if balancer is not None else ()))
    return named(
        one,
        now,
        spec.ingress_class_name or NONE,
        _hosts(spec.rules or ()),
        address,
        "80, 443" if spec.tls else "80",
    )


def _hosts(rules: tuple[Any, ...]) -> str:
    """The first three hosts, and the number of further rules."""
    hosts: list[str] = []
    more = False
    for rule in rules:
        more = more or len(hosts) == SHOWN_MAX
        if not more and rule.host:
            hosts.append(rule.host)
    shown = ",".join(hosts) or "*"
    return f"{shown} + {len(rules) - SHOWN_MAX} more..." if more else shown


def ingress_class(one: IngressClass, now: Instant) -> Cells:
    parameters = one.spec.parameters
    text = NONE
    if parameters is not None:
        text = (
            parameters.kind
            + (f".{parameters.api_group}" if parameters.api_group is not None else "")
            + f"/{parameters.name}"
        )
    return named(one, now, one.spec.controller or "", text)


def network_policy(one: NetworkPolicy, now: Instant) -> Cells:
    return named(one, now, selector_text(one.spec.pod_selector) or NONE)


def service_cidr(one: ServiceCIDR, now: Instant) -> Cells:
    return named(one, now, ",".join(one.spec.cidrs or ()))


def ip_address(one: IPAddress, now: Instant) -> Cells:
    parent = one.spec.parent_ref
    resource = f"{parent.resource}.{parent.group}" if parent.group else parent.resource or ""
    place = [parent.namespace] if parent.namespace else []
    shown = "/".join([resource.lower(), *place, parent.name or ""])
    return (one.metadata.name or "", shown)  # as upstream, without its age


# --- storage


def storage_class(one: StorageClass, now: Instant) -> Cells:
    annotations = one.metadata.annotations or {}
    is_default = any(annotations.get(key) == "true" for key in DEFAULT_CLASS_ANNOTATIONS)
    name = (one.metadata.name or "") + (" (default)" if is_default else "")
    return (
        name, one.provisioner, one.reclaim_policy or "Delete", one.volume_binding_mode or "Immediate",
        bool(one.allow_volume_expansion), age(one.metadata.creation_timestamp, now),
    )  # fmt: skip


def volume_attributes_class(one: VolumeAttributesClass, now: Instant) -> Cells:
    return named(one, now, one.driver_name)


def volume_attachment(one: VolumeAttachment, now: Instant) -> Cells:
    attached = one.status.attached if one.status is not None else False
    return named(
        one,
        now,
        one.spec.attacher,
        one.spec.source.persistent_volume_name or "",
        one.spec.node_name,
        attached,
    )


def csi_node(one: CSINode, now: Instant) -> Cells:
    return named(one, now, len(one.spec.drivers))


def csi_driver(one: CSIDriver, now: Instant) -> Cells:
    spec = one.spec
    tokens = (
        UNSET
        if spec.token_requests is None
        else ",".join(request.audience for request in spec.token_requests)
    )
    modes = ",".join(spec.volume_lifecycle_modes or ()) or NONE
    return named(
        one, now, spec.attach_required is not False, bool(spec.pod_info_on_mount), bool(spec.storage_capacity), tokens,
        bool(spec.requires_republish), modes,
    )  # fmt: skip


def csi_storage_capacity(one: CSIStorageCapacity, now: Instant) -> Cells:
    return (
        one.metadata.name or "",
        one.storage_class_name,
        one.capacity if one.capacity is not None else UNSET,
    )


def storage_version_migration(one: StorageVersionMigration, now: Instant) -> Cells:
    resource = one.spec.resource
    return (
        one.metadata.name or "",
        f"{resource.resource}.{resource.group}" if resource.group else resource.resource,
    )


# --- access


def role_binding(one: Any, now: Instant) -> Cells:
    """A RoleBinding or ClusterRoleBinding."""
    subjects = one.subjects or ()
    users, groups = (
        [subject.name for subject in subjects if subject.kind == kind] for kind in ("User", "Group")
    )
    accounts = [
        f"{subject.namespace or ''}/{subject.name}"
        for subject in subjects
        if subject.kind == "ServiceAccount"
    ]
    return (
        *named(one, now, f"{one.role_ref.kind}/{one.role_ref.name}"),
        ", ".join(users),
        ", ".join(groups),
        ", ".join(accounts),
    )


def certificate_signing_request(one: CertificateSigningRequest, now: Instant) -> Cells:
    spec, status = one.spec, one.status
    types = {condition.type for condition in (status.conditions or ())}  # for membership only
    state = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    state += ",Failed" if "Failed" in types else ""
    state += ",Issued" if status.certificate else ""
    duration = (
        NONE
        if spec.expiration_seconds is None
        else human_duration(spec.expiration_seconds * SECOND)
    )
    return *named(one, now), spec.signer_name or NONE, spec.username or "", duration, state


def cluster_trust_bundle(one: ClusterTrustBundle, now: Instant) -> Cells:
    return one.metadata.name or "", one.spec.signer_name or NONE


def pod_certificate_request(one: PodCertificateRequest, now: Instant) -> Cells:
    spec = one.spec
    true = [
        condition.type for condition in one.status.conditions or () if condition.status == "True"
    ]
    state = next((state for state in ("Denied", "Failed", "Issued") if state in true), "Pending")
    return named(
        one, now, spec.pod_name, spec.service_account_name, spec.node_name, spec.signer_name, state
    )


def lease(one: Lease, now: Instant) -> Cells:
    return named(one, now, one.spec.holder_identity or "")


# --- admission, aggregation, flow control


def webhook_configuration(one: Any, now: Instant) -> Cells:
    return named(one, now, len(one.webhooks or ()))


def admission_policy(one: Any, now: Instant) -> Cells:
    rules = one.spec.validations if one.kind == "ValidatingAdmissionPolicy" else one.spec.mutations
    kind = one.spec.param_kind
    return named(
        one,
        now,
        len(rules or ()),
        UNSET if kind is None else f"{kind.api_version or ''}/{kind.kind or ''}",
    )


def admission_policy_binding(one: Any, now: Instant) -> Cells:
    reference = one.spec.param_ref
    text = UNSET
    if reference is not None and reference.name:
        text = f"{reference.namespace or '*'}/{reference.name}"
    elif reference is not None and reference.selector is not None:
        text = selector_text(reference.selector)
    return named(one, now, one.spec.policy_name or "", text)


def api_service(one: APIService, now: Instant) -> Cells:
    service = one.spec.service
    available = get_condition(one.status.conditions, "Available")
    state = "Unknown"
    if available is not None:
        state = (
            available.status
            if available.status == "True"
            else f"{available.status} ({available.reason or ''})"
        )
    return named(
        one,
        now,
        "Local" if service is None else f"{service.namespace or ''}/{service.name or ''}",
        state,
    )


def flow_schema(one: FlowSchema, now: Instant) -> Cells:
    spec = one.spec
    method = spec.distinguisher_method.type if spec.distinguisher_method is not None else NONE
    dangling = next(
        (
            condition.status or ""
            for condition in one.status.conditions or ()
            if condition.type == "Dangling"
        ),
        "?",
    )
    return *named(
        one, now, spec.priority_level_configuration.name, spec.matching_precedence, method
    ), dangling


def priority_level(one: PriorityLevelConfiguration, now: Instant) -> Cells:
    limited = one.spec.limited
    numbers: list[Any] = [NONE] * 4
    if limited is not None:
        numbers[0] = limited.nominal_concurrency_shares or 0
        if (queuing := limited.limit_response.queuing) is not None:
            numbers[1:] = [
                queuing.queues or 0,
                queuing.hand_size or 0,
                queuing.queue_length_limit or 0,
            ]
    return named(one, now, one.spec.type, *numbers)


# --- scheduling and devices


def priority_class(one: PriorityClass, now: Instant) -> Cells:
    return *named(one, now, one.value, bool(one.global_default)), one.preemption_policy or ""


def runtime_class(one: RuntimeClass, now: Instant) -> Cells:
    return named(one, now, one.handler)


def resource_claim(one: ResourceClaim, now: Instant) -> Cells:
    states = ["deleted"] if one.metadata.deletion_timestamp is not None else []
    if one.status.allocation is not None:
        states += ["allocated", *(["reserved"] if one.status.reserved_for else [])]
    return named(one, now, ",".join(states) or "pending")


def resource_slice(one: ResourceSlice, now: Instant) -> Cells:
    return named(one, now, one.spec.node_name or "", one.spec.driver, one.spec.pool.name)


# --- columns


def _boolean(name: str, description: str) -> Column:
    return Column(name, description, type="boolean")


_ROLE_BINDING = Layout(
    (
        NAME, Column("Role", "The role it grants."), AGE, wide("Users", "The users of the binding."),
        wide("Groups", "The groups of the binding."), wide("ServiceAccounts", "The service accounts of the binding."),
    ),
    role_binding,
)  # fmt: skip
_WEBHOOKS = Layout(
    (NAME, integer("Webhooks", "The number of webhooks."), AGE), webhook_configuration
)
_POLICY_BINDING = Layout(
    (
        NAME,
        Column("PolicyName", "The bound policy."),
        Column("ParamRef", "The bound parameters."),
        AGE,
    ),
    admission_policy_binding,
)
_PARAM_KIND = Column("ParamKind", "The kind of its parameters.")
_ADMISSION = "admissionregistration.k8s.io"
_STORAGE = "storage.k8s.io"
_NETWORKING = "networking.k8s.io"
_FLOW = "flowcontrol.apiserver.k8s.io"

LAYOUTS: dict[tuple[str, str], Layout] = {
    (_NETWORKING, "Ingress"): Layout(
        (
            NAME, Column("Class", "The ingress class."), Column("Hosts", "The hosts of its rules."),
            Column("Address", "The address of the load balancer."), Column("Ports", "The ports it opens."), AGE,
        ),
        ingress,
    ),
    (_NETWORKING, "IngressClass"): Layout(
        (NAME, Column("Controller", "The controller that implements the class."), Column("Parameters", "The reference to its parameters."), AGE), ingress_class,
    ),
    (_NETWORKING, "NetworkPolicy"): Layout((NAME, Column("Pod-Selector", "The selector of the pods to which it applies."), AGE), network_policy),
    (_NETWORKING, "ServiceCIDR"): Layout((NAME, Column("CIDRs", "The ranges of service addresses."), AGE), service_cidr),
    (_NETWORKING, "IPAddress"): Layout((NAME, Column("ParentRef", "The object that uses the address.")), ip_address),
    (_STORAGE, "StorageClass"): Layout(
        (
            NAME, Column("Provisioner", "The provisioner."), Column("ReclaimPolicy", "What happens to a volume after its claim is deleted."),
            Column("VolumeBindingMode", "When a volume is provisioned and bound."),
            Column("AllowVolumeExpansion", "Whether volumes may grow."), AGE,
        ),
        storage_class,
    ),
    (_STORAGE, "VolumeAttributesClass"): Layout((NAME, Column("DriverName", "The name of the driver."), AGE), volume_attributes_class),
    (_STORAGE, "VolumeAttachment"): Layout(
        (
            NAME, Column("Attacher", "The attacher.", format="name"), Column("PV", "The volume."), Column("Node", "The node."),
            _boolean("Attached", "Whether it is attached."), AGE,
        ),
        volume_attachment,
    ),
    (_STORAGE, "CSINode"): Layout((NAME, integer("Drivers", "The number of drivers on the node."), AGE), csi_node),
    (_STORAGE, "CSIDriver"): Layout(
        (
            NAME, _boolean("AttachRequired", "Whether volumes are attached."), _boolean("PodInfoOnMount", "Whether the driver gets information about the pod."),
            _boolean("StorageCapacity", "Whether the driver reports its capacity."), Column("TokenRequests", "The audiences of the requested tokens."),
            _boolean("RequiresRepublish", "Whether the driver is called periodically."), Column("Modes", "The lifecycle modes of its volumes."), AGE,
        ),
        csi_driver,
    ),
    (_STORAGE, "CSIStorageCapacity"): Layout(
        (NAME, Column("StorageClassName", "The storage class."), Column("Capacity", "The free capacity.")), csi_storage_capacity,
    ),
    ("storagemigration.k8s.io", "StorageVersionMigration"): Layout(
        (Column("Name", NAME.description), Column("Resource", "The resource that is migrated.")), storage_version_migration,
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): _ROLE_BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _ROLE_BINDING,
    ("certificates.k8s.io", "CertificateSigningRequest"): Layout(
        (
            NAME, AGE, Column("SignerName", "The requested signer."), Column("Requestor", "The requesting user."),
            Column("RequestedDuration", "The requested lifetime."), Column("Condition", "Whether it is approved and issued."),
        ),
        certificate_signing_request,
    ),
    ("certificates.k8s.io", "ClusterTrustBundle"): Layout((NAME, Column("SignerName", "The signer of the certificates.")), cluster_trust_bundle),
    ("certificates.k8s.io", "PodCertificateRequest"): Layout(
        (
            NAME, Column("PodName", "The pod."), Column("ServiceAccountName", "The service account."),
            Column("NodeName", "The node of the pod."), Column("SignerName", "The requested signer."), Column("State", "The state of the object."), AGE,
        ),
        pod_certificate_request,
    ),
    ("coordination.k8s.io", "Lease"): Layout((NAME, Column("Holder", "The current holder."), AGE), lease),
    (_ADMISSION, "MutatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "ValidatingWebhookConfiguration"): _WEBHOOKS,
    (_ADMISSION, "ValidatingAdmissionPolicy"): Layout(
        (NAME, integer("Validations", "The number of rules."), _PARAM_KIND, AGE), admission_policy,
    ),
    (_ADMISSION, "MutatingAdmissionPolicy"): Layout(
        (NAME, integer("Mutations", "The number of rules."), _PARAM_KIND, AGE), admission_policy,
    ),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): _POLICY_BINDING,
    (_ADMISSION, "MutatingAdmissionPolicyBinding"): _POLICY_BINDING,
    ("apiregistration.k8s.io", "APIService"): Layout(
        (NAME, Column("Service", "The service that serves it."), Column("Available", "Whether the server is available."), AGE), api_service,
    ),
    (_FLOW, "FlowSchema"): Layout(
        (
            NAME, Column("PriorityLevel", "The priority level of its requests."), Column("MatchingPrecedence", "Lower values are matched first."),
            Column("DistinguisherMethod", "The attribute that separates flows."), AGE,
            Column("MissingPL", "Whether its priority level does not exist."),
        ),
        flow_schema,
    ),
    (_FLOW, "PriorityLevelConfiguration"): Layout(
        (
            NAME, Column("Type", "Limited or Exempt."), Column("NominalConcurrencyShares", "The share of the server's concurrency."),
            Column("Queues", "The number of queues."), Column("HandSize", "The number of queues of a flow."),
            Column("QueueLengthLimit", "The maximum length of a queue."), AGE,
        ),
        priority_level,
    ),
    ("scheduling.k8s.io", "PriorityClass"): Layout(
        (
            NAME, integer("Value", "The priority."), _boolean("Global-Default", "Whether it is the default for pods."), AGE,
            Column("PreemptionPolicy", "Whether its pods preempt others."),
        ),
        priority_class,
    ),
    ("node.k8s.io", "RuntimeClass"): Layout((NAME, Column("Handler", "The runtime's configuration."), AGE), runtime_class),
    ("resource.k8s.io", "DeviceClass"): Layout((NAME, AGE), _bare),
    ("resource.k8s.io", "DeviceTaintRule"): Layout((NAME, AGE), _bare),
    ("resource.k8s.io", "ResourceClaimTemplate"): Layout((NAME, AGE), _bare),
    ("resource.k8s.io", "ResourceClaim"): Layout((NAME, Column("State", "Pending, allocated, reserved or deleted."), AGE), resource_claim),
    ("resource.k8s.io", "ResourceSlice"): Layout(
        (NAME, Column("Node", "The node."), Column("Driver", "The driver."), Column("Pool", "The pool."), AGE), resource_slice,
    ),
}  # fmt: skip
