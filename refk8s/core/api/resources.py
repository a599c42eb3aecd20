"""The table of served resources: the paths under /api and /apis, and the types of their objects.

Rules OBJ-5 and OBJ-6 (spec/object_model.md). Names, short names, categories, scopes, verbs and
subresources are those that an API server of v1.37 lists in discovery. Source: Kubernetes
documentation, "Kubernetes API Concepts" and "API Overview". The table imports no record: a type is
loaded at its first use, so unused types do not delay the start. Resources of
CustomResourceDefinitions are not in it: they follow from the state of the store (custom.py). Left
out: alpha and beta versions.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import force_setattr

from refk8s.core.value import Value, field

if TYPE_CHECKING:
    from refk8s.core.api.meta_v1 import ListObject, Object

EVERY_VERB = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
PART_VERBS = ("get", "patch", "update")
PROXY_VERBS = ("create", "delete", "get", "patch", "update")


class Subresource(Value, frozen=True):
    """A part of an object, or an operation on it, with a path of its own: pods/status,
    deployments/scale.

    `kind` is the kind of its body; `group` and `version` are empty if the body belongs to the
    resource's own group.
    """

    name: str
    kind: str
    verbs: tuple[str, ...] = PART_VERBS
    group: str = ""
    version: str = ""


class Resource(Value, frozen=True, eq=False):
    """One resource in one version of its group. Two are equal if group, version and plural are."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = EVERY_VERB
    subresources: tuple[Subresource, ...] = ()
    module: str = ""
    """The generated module that has the kind; empty for a custom resource, whose objects have no
    record class."""
    storage_api_version: str = ""
    """The group version in which objects are stored, if not this one: events.k8s.io/v1 is stored as
    v1 (OBJ-6)."""
    definition: Any = None
    """Of a custom resource: the version of its definition (core/api/custom.py), which is equal to
    itself only. So resources of two states of a definition differ."""

    # Used very often, so computed once, from those above.
    api_version: str = ""
    """`v1` for the core group, else `group/version`: the apiVersion of its objects."""
    prefix: str = ""
    """The prefix of every store key of this resource; it ends with a slash. Versions of one
    resource have the same (OBJ-6)."""
    has_status: bool = False
    is_custom: bool = False
    _parts: dict[str, Subresource] = field(default_factory=dict)
    _hash: int = 0

    def __post_init__(self) -> None:
        group, version = self.group, self.version
        stored = self.storage_api_version.rpartition("/")[0] if self.storage_api_version else group
        force_setattr(self, "api_version", f"{group}/{version}" if group else version)
        force_setattr(self, "prefix", f"/{stored or 'core'}/{self.plural}/")
        force_setattr(self, "has_status", any(part.name == "status" for part in self.subresources))
        force_setattr(self, "is_custom", self.definition is not None)
        force_setattr(self, "_parts", {part.name: part for part in self.subresources})
        force_setattr(self, "_hash", hash((group, version, self.plural, self.definition)))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Resource)
            and self.plural == other.plural
            and (self.group, self.version) == (other.group, other.version)
            and self.definition == other.definition
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<{self.plural}.{self.api_version}>"

    @property
    def list_kind(self) -> str:
        return self.kind + "List" if self.definition is None else str(self.definition.list_kind)

    def key(self, namespace: str, name: str) -> str:
        """The store key of one object. The namespace is ignored for a cluster-scoped resource."""
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else f"{self.prefix}{name}"

    @property
    def list_type(self) -> type[ListObject]:
        """The record class of the list kind. Only for resources that can be listed."""
        return cast("type[ListObject]", load(self.module, self.list_kind))

    @property
    def type(self) -> type[Object]:
        """The record class of the kind; for custom resources the one of every custom object."""
        if self.definition is not None:
            return cast("type[Object]", load("custom", "CustomObject"))
        return cast("type[Object]", load(self.module, self.kind))

    def subresource(self, name: str) -> Subresource | None:
        return self._parts.get(name)


@cache
def load(module: str, name: str) -> type:
    """The record class `name` of a generated module; imported on first use."""
    found = getattr(import_module("refk8s.core.api." + module), name)
    assert isinstance(found, type)
    return found


def _resource(
    module: str,
    group: str,
    version: str,
    kind: str,
    plural: str,
    short: str = "",
    *,
    scope: str = "Namespaced",
    categories: str = "",
    verbs: tuple[str, ...] = EVERY_VERB,
    status: bool = False,
    parts: tuple[Subresource, ...] = (),
    stored: str = "",
) -> Resource:
    """A row: `short` and `categories` are separated by spaces; `status` adds the status
    subresource."""
    subresources = (*parts, Subresource("status", kind)) if status else parts
    return Resource(
        group=group,
        version=version,
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        namespaced=scope == "Namespaced",
        short_names=tuple(short.split()),
        categories=tuple(categories.split()),
        verbs=verbs,
        subresources=tuple(sorted(subresources, key=lambda part: part.name)),
        module=module,
        storage_api_version=stored,
    )


_SCALE = Subresource("scale", "Scale", group="autoscaling", version="v1")
_CREATE = ("create",)
_STREAM = ("create", "get")

# core/v1
_CORE = ("core_v1", "", "v1")
BINDINGS = _resource(*_CORE, "Binding", "bindings", verbs=_CREATE)
COMPONENT_STATUSES = _resource(
    *_CORE, "ComponentStatus", "componentstatuses", "cs", scope="Cluster", verbs=("get", "list")
)
CONFIG_MAPS = _resource(*_CORE, "ConfigMap", "configmaps", "cm")
ENDPOINTS = _resource(*_CORE, "Endpoints", "endpoints", "ep")
EVENTS = _resource(*_CORE, "Event", "events", "ev")
LIMIT_RANGES = _resource(*_CORE, "LimitRange", "limitranges", "limits")
NAMESPACES = _resource(
    *_CORE,
    "Namespace",
    "namespaces",
    "ns",
    scope="Cluster",
    status=True,
    parts=(Subresource("finalize", "Namespace", ("update",)),),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
)
NODES = _resource(
    *_CORE,
    "Node",
    "nodes",
    "no",
    scope="Cluster",
    status=True,
    parts=(Subresource("proxy", "NodeProxyOptions", PROXY_VERBS),),
)
PERSISTENT_VOLUME_CLAIMS = _resource(
    *_CORE, "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", status=True
)
PERSISTENT_VOLUMES = _resource(
    *_CORE, "PersistentVolume", "persistentvolumes", "pv", scope="Cluster", status=True
)
PODS = _resource(
    *_CORE,
    "Pod",
    "pods",
    "po",
    categories="all",
    status=True,
    parts=(
        Subresource("attach", "PodAttachOptions", _STREAM),
        Subresource("binding", "Binding", _CREATE),
        Subresource("ephemeralcontainers", "Pod"),
        Subresource("eviction", "Eviction", _CREATE, group="policy", version="v1"),
        Subresource("exec", "PodExecOptions", _STREAM),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", _STREAM),
        Subresource("proxy", "PodProxyOptions", PROXY_VERBS),
        Subresource("resize", "Pod"),
    ),
)
POD_TEMPLATES = _resource(*_CORE, "PodTemplate", "podtemplates")
REPLICATION_CONTROLLERS = _resource(
    *_CORE,
    "ReplicationController",
    "replicationcontrollers",
    "rc",
    categories="all",
    status=True,
    parts=(_SCALE,),
)
RESOURCE_QUOTAS = _resource(*_CORE, "ResourceQuota", "resourcequotas", "quota", status=True)
SECRETS = _resource(*_CORE, "Secret", "secrets")
SERVICE_ACCOUNTS = _resource(
    *_CORE,
    "ServiceAccount",
    "serviceaccounts",
    "sa",
    parts=(
        Subresource("token", "TokenRequest", _CREATE, group="authentication.k8s.io", version="v1"),
    ),
)
SERVICES = _resource(
    *_CORE,
    "Service",
    "services",
    "svc",
    categories="all",
    status=True,
    parts=(Subresource("proxy", "ServiceProxyOptions", PROXY_VERBS),),
)

# apiregistration.k8s.io
API_SERVICES = _resource(
    "apiregistration_v1",
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    scope="Cluster",
    categories="api-extensions",
    status=True,
)

# apps
_APPS = ("apps_v1", "apps", "v1")
CONTROLLER_REVISIONS = _resource(*_APPS, "ControllerRevision", "controllerrevisions")
DAEMON_SETS = _resource(*_APPS, "DaemonSet", "daemonsets", "ds", categories="all", status=True)
DEPLOYMENTS = _resource(
    *_APPS, "Deployment", "deployments", "deploy", categories="all", status=True, parts=(_SCALE,)
)
REPLICA_SETS = _resource(
    *_APPS, "ReplicaSet", "replicasets", "rs", categories="all", status=True, parts=(_SCALE,)
)
STATEFUL_SETS = _resource(
    *_APPS, "StatefulSet", "statefulsets", "sts", categories="all", status=True, parts=(_SCALE,)
)

# events.k8s.io
EVENTS_V1 = _resource("events_v1", "events.k8s.io", "v1", "Event", "events", "ev", stored="v1")

# authentication.k8s.io, authorization.k8s.io
_AUTHENTICATION = ("authentication_v1", "authentication.k8s.io", "v1")
SELF_SUBJECT_REVIEWS = _resource(
    *_AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", scope="Cluster", verbs=_CREATE
)
TOKEN_REVIEWS = _resource(
    *_AUTHENTICATION, "TokenReview", "tokenreviews", scope="Cluster", verbs=_CREATE
)
_AUTHORIZATION = ("authorization_v1", "authorization.k8s.io", "v1")
LOCAL_SUBJECT_ACCESS_REVIEWS = _resource(
    *_AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=_CREATE
)
SELF_SUBJECT_ACCESS_REVIEWS = _resource(
    *_AUTHORIZATION,
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    scope="Cluster",
    verbs=_CREATE,
)
SELF_SUBJECT_RULES_REVIEWS = _resource(
    *_AUTHORIZATION,
    "SelfSubjectRulesReview",
    "selfsubjectrulesreviews",
    scope="Cluster",
    verbs=_CREATE,
)
SUBJECT_ACCESS_REVIEWS = _resource(
    *_AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", scope="Cluster", verbs=_CREATE
)

# autoscaling: v2 is preferred and kept
HORIZONTAL_POD_AUTOSCALERS = _resource(
    "autoscaling_v2",
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    categories="all",
    status=True,
)
HORIZONTAL_POD_AUTOSCALERS_V1 = _resource(
    "autoscaling_v1",
    "autoscaling",
    "v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "hpa",
    categories="all",
    status=True,
    stored="autoscaling/v2",
)

# batch
_BATCH = ("batch_v1", "batch", "v1")
CRON_JOBS = _resource(*_BATCH, "CronJob", "cronjobs", "cj", categories="all", status=True)
JOBS = _resource(*_BATCH, "Job", "jobs", categories="all", status=True)

# certificates.k8s.io
_CERTIFICATES = ("certificates_v1", "certificates.k8s.io", "v1")
CERTIFICATE_SIGNING_REQUESTS = _resource(
    *_CERTIFICATES,
    "CertificateSigningRequest",
    "certificatesigningrequests",
    "csr",
    scope="Cluster",
    status=True,
    parts=(Subresource("approval", "CertificateSigningRequest"),),
)
CLUSTER_TRUST_BUNDLES = _resource(
    *_CERTIFICATES, "ClusterTrustBundle", "clustertrustbundles", scope="Cluster"
)
POD_CERTIFICATE_REQUESTS = _resource(
    *_CERTIFICATES, "PodCertificateRequest", "podcertificaterequests", status=True
)

# networking.k8s.io
_NETWORKING = ("networking_v1", "networking.k8s.io", "v1")
INGRESS_CLASSES = _resource(*_NETWORKING, "IngressClass", "ingressclasses", scope="Cluster")
INGRESSES = _resource(*_NETWORKING, "Ingress", "ingresses", "ing", status=True)
IP_ADDRESSES = _resource(*_NETWORKING, "IPAddress", "ipaddresses", "ip", scope="Cluster")
NETWORK_POLICIES = _resource(*_NETWORKING, "NetworkPolicy", "networkpolicies", "netpol")
SERVICE_CIDRS = _resource(*_NETWORKING, "ServiceCIDR", "servicecidrs", scope="Cluster", status=True)

# policy, rbac.authorization.k8s.io
POD_DISRUPTION_BUDGETS = _resource(
    "policy_v1", "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", status=True
)
_RBAC = ("rbac_v1", "rbac.authorization.k8s.io", "v1")
CLUSTER_ROLE_BINDINGS = _resource(
    *_RBAC, "ClusterRoleBinding", "clusterrolebindings", scope="Cluster"
)
CLUSTER_ROLES = _resource(*_RBAC, "ClusterRole", "clusterroles", scope="Cluster")
ROLE_BINDINGS = _resource(*_RBAC, "RoleBinding", "rolebindings")
ROLES = _resource(*_RBAC, "Role", "roles")

# storage.k8s.io, storagemigration.k8s.io
_STORAGE = ("storage_v1", "storage.k8s.io", "v1")
CSI_DRIVERS = _resource(*_STORAGE, "CSIDriver", "csidrivers", scope="Cluster")
CSI_NODES = _resource(*_STORAGE, "CSINode", "csinodes", scope="Cluster")
CSI_STORAGE_CAPACITIES = _resource(*_STORAGE, "CSIStorageCapacity", "csistoragecapacities")
STORAGE_CLASSES = _resource(*_STORAGE, "StorageClass", "storageclasses", "sc", scope="Cluster")
VOLUME_ATTACHMENTS = _resource(
    *_STORAGE, "VolumeAttachment", "volumeattachments", scope="Cluster", status=True
)
VOLUME_ATTRIBUTES_CLASSES = _resource(
    *_STORAGE, "VolumeAttributesClass", "volumeattributesclasses", "vac", scope="Cluster"
)
STORAGE_VERSION_MIGRATIONS = _resource(
    "storagemigration_v1",
    "storagemigration.k8s.io",
    "v1",
    "StorageVersionMigration",
    "storageversionmigrations",
    scope="Cluster",
    status=True,
)

# admissionregistration.k8s.io, apiextensions.k8s.io
_ADMISSION = ("admissionregistration_v1", "admissionregistration.k8s.io", "v1")
MUTATING_ADMISSION_POLICIES = _resource(
    *_ADMISSION,
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
    scope="Cluster",
    categories="api-extensions",
)
MUTATING_ADMISSION_POLICY_BINDINGS = _resource(
    *_ADMISSION,
    "MutatingAdmissionPolicyBinding",
    "mutatingadmissionpolicybindings",
    scope="Cluster",
    categories="api-extensions",
)
MUTATING_WEBHOOK_CONFIGURATIONS = _resource(
    *_ADMISSION,
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    scope="Cluster",
    categories="api-extensions",
)
VALIDATING_ADMISSION_POLICIES = _resource(
    *_ADMISSION,
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    scope="Cluster",
    categories="api-extensions",
    status=True,
)
VALIDATING_ADMISSION_POLICY_BINDINGS = _resource(
    *_ADMISSION,
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    scope="Cluster",
    categories="api-extensions",
)
VALIDATING_WEBHOOK_CONFIGURATIONS = _resource(
    *_ADMISSION,
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    scope="Cluster",
    categories="api-extensions",
)
CUSTOM_RESOURCE_DEFINITIONS = _resource(
    "apiextensions_v1",
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "crd crds",
    scope="Cluster",
    categories="api-extensions",
    status=True,
)

# scheduling.k8s.io, coordination.k8s.io, node.k8s.io, discovery.k8s.io
PRIORITY_CLASSES = _resource(
    "scheduling_v1",
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    "pc",
    scope="Cluster",
)
LEASES = _resource("coordination_v1", "coordination.k8s.io", "v1", "Lease", "leases")
RUNTIME_CLASSES = _resource(
    "node_v1", "node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", scope="Cluster"
)
ENDPOINT_SLICES = _resource(
    "discovery_v1", "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"
)

# flowcontrol.apiserver.k8s.io, resource.k8s.io
_FLOW = ("flowcontrol_v1", "flowcontrol.apiserver.k8s.io", "v1")
FLOW_SCHEMAS = _resource(*_FLOW, "FlowSchema", "flowschemas", scope="Cluster", status=True)
PRIORITY_LEVEL_CONFIGURATIONS = _resource(
    *_FLOW,
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
    scope="Cluster",
    status=True,
)
_DEVICES = ("resource_v1", "resource.k8s.io", "v1")
DEVICE_CLASSES = _resource(*_DEVICES, "DeviceClass", "deviceclasses", scope="Cluster")
DEVICE_TAINT_RULES = _resource(
    *_DEVICES, "DeviceTaintRule", "devicetaintrules", scope="Cluster", status=True
)
RESOURCE_CLAIMS = _resource(*_DEVICES, "ResourceClaim", "resourceclaims", status=True)
RESOURCE_CLAIM_TEMPLATES = _resource(*_DEVICES, "ResourceClaimTemplate", "resourceclaimtemplates")
RESOURCE_SLICES = _resource(*_DEVICES, "ResourceSlice", "resourceslices", scope="Cluster")

ALL: tuple[Resource, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Resource)
)
"""Every built-in resource, in the order of groups in discovery, the preferred version first."""

LATER = frozenset(
    [
        IP_ADDRESSES,
        SERVICE_CIDRS,
        VOLUME_ATTRIBUTES_CLASSES,
        DEVICE_CLASSES,
        RESOURCE_CLAIMS,
        RESOURCE_CLAIM_TEMPLATES,
        RESOURCE_SLICES,
        DEVICE_TAINT_RULES,
        MUTATING_ADMISSION_POLICIES,
        MUTATING_ADMISSION_POLICY_BINDINGS,
        STORAGE_VERSION_MIGRATIONS,
        CLUSTER_TRUST_BUNDLES,
        POD_CERTIFICATE_REQUESTS,
    ]
)
"""Resources that became generally available with v1.33 or later, so that an API server of an older
version of Kubernetes may not serve them (LOOP-16)."""

# metrics.k8s.io: computed for each request, never stored (STREAM-17)
_METRICS = ("metrics", "metrics.k8s.io", "v1beta1")
_READ = ("get", "list")
NODE_METRICS = _resource(*_METRICS, "NodeMetrics", "nodes", scope="Cluster", verbs=_READ)
POD_METRICS = _resource(*_METRICS, "PodMetrics", "pods", verbs=_READ)
METRICS = (NODE_METRICS, POD_METRICS)
SERVED: tuple[Resource, ...] = (*ALL, *METRICS)
"""Every resource in discovery; those of METRICS have no objects in the store."""

_BY_PATH = {(resource.group, resource.version, resource.plural): resource for resource in SERVED}
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in SERVED}
# Bodies that are not resources: kind -> module.
_BODIES = {
    ("autoscaling/v1", "Scale"): "autoscaling_v1",
    ("policy/v1", "Eviction"): "policy_v1",
    ("authentication.k8s.io/v1", "TokenRequest"): "authentication_v1",
    ("v1", "Status"): "meta_v1",
}


def by_path(group: str, version: str, plural: str) -> Resource | None:
    """The resource served under /apis/GROUP/VERSION/.../PLURAL (the core group is "", under /api);
    None if there is none."""
    return _BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The resource whose objects have this apiVersion and kind; None if there is none."""
    return _BY_KIND.get((api_version, kind))


def type_of_kind(api_version: str, kind: str) -> type | None:
    """The record class of any kind that can be a whole body: resources, bodies of subresources, and
    lists of them."""
    if (module := _BODIES.get((api_version, kind))) is not None:
        return load(module, kind)
    if (resource := by_kind(api_version, kind)) is not None:
        return resource.type
    resource = by_kind(api_version, kind.removesuffix("List")) if kind.endswith("List") else None
    return resource.list_type if resource is not None and "list" in resource.verbs else None


GROUPS: tuple[str, ...] = tuple(
    dict.fromkeys(resource.group for resource in SERVED if resource.group)
)
"""The named groups in the order of discovery."""
