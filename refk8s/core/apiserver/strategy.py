"""The differences between resources, as a table; everything else is the same for all of them.

Rules API-4, API-6, API-7, DEL-5, DEL-6, LIST-3 (spec/api.md). Source: Kubernetes API reference,
resource by resource ("selectable fields", garbage collection defaults); API conventions,
"Concurrency Control and Consistency" and "Metadata" (generation). Left out: differences that need
code, which are in defaults/, validation/ and admission/.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource, load
from refk8s.core.apiserver.custom.paths import InvalidPath, get_at, selectable_keys
from refk8s.core.store import Change
from refk8s.core.value import Value, field

Field = Callable[[Any], str]
"""Reads the value of a selectable field from an object; absent is empty."""

BACKGROUND, FOREGROUND, ORPHAN_DEPENDENTS, NO_COLLECTION = "Background", "Foreground", "Orphan", ""


def _path(path: str) -> Field:
    """A reader of a path such as `spec.node_name`: empty if a part is absent; booleans as words,
    numbers as digits."""
    *way, last = path.split(".")

    def read(obj: Any) -> str:
        for step in way:
            obj = getattr(obj, step, None)
            if obj is None:
                return ""
        value = getattr(obj, last, None)
        if value is None:
            return ""
        return (
            value
            if isinstance(value, str)
            else str(value).lower()
            if isinstance(value, bool)
            else str(value)
        )

    return read


def _flag(path: str) -> Field:
    """A boolean field: absent is false."""
    read = _path(path)
    return lambda obj: read(obj) or "false"


def _number(path: str) -> Field:
    """A count: absent is 0."""
    read = _path(path)
    return lambda obj: read(obj) or "0"


def _event_source(event: Any) -> str:
    """The reporter of an event: the source's component, else the reporting controller."""
    source = event.source.component if event.source is not None else None
    return source or event.reporting_component or ""


_METADATA: Mapping[str, Field] = {
    "metadata.name": _path("metadata.name"),
    "metadata.namespace": _path("metadata.namespace"),
}

_INVOLVED = {
    f"involvedObject.{wire}": _path(f"involved_object.{attribute}")
    for wire, attribute in (
        ("kind", "kind"), ("namespace", "namespace"), ("name", "name"), ("uid", "uid"), ("apiVersion", "api_version"),
        ("resourceVersion", "resource_version"), ("fieldPath", "field_path"),
    )
}  # fmt: skip


class Strategy(Value, frozen=True):
    """The facts about one resource.

    `generation`: the attributes whose change raises metadata.generation; empty if no change does
    (API-5). `has_generation`: metadata.generation is 1 on create; otherwise it is that of the body.
    `unconditional_update`: a PUT needs no resourceVersion (API-6). `create_on_update`: a PUT may
    create the object (API-7). `propagation`: the default propagation policy (DEL-6); empty: the
    garbage collector ignores the resource. `answers_deleted`: DELETE is answered with the object
    and not with a Status (DEL-5). `fields`: the selectable fields (LIST-3). `status_keeps`: the
    metadata that a write to /status does not change. `spec_is_final`: a changed spec is dropped
    silently (API-8). `created_with_status`: a create keeps the status of the body, as for a Node.
    """

    resource: Resource
    generation: tuple[str, ...] = ()
    has_generation: bool = False
    unconditional_update: bool = True
    create_on_update: bool = False
    propagation: str = BACKGROUND
    answers_deleted: bool = False
    fields: Mapping[str, Field] = field(default_factory=lambda: _METADATA)
    status_keeps: tuple[str, ...] = ()
    created_with_status: bool = False
    spec_is_final: bool = False

    @property
    def knows_own_fields(self) -> bool:
        """Whether there are selectable fields besides name and namespace."""
        return self.fields is not _METADATA

    def new_status(self) -> Any:
        """The initial status of an object; None if the kind has no status."""
        return _empty_status(self.resource)


@cache
def _empty_status(resource: Resource) -> Any:
    if not resource.has_status:
        return None
    return load(resource.module, resource.kind + "Status")()


_SPEC = ("spec",)
_ALL_METADATA = ("labels", "annotations", "finalizers", "owner_references")
_FACTS: Mapping[Resource, Mapping[str, Any]] = {
    resources.PODS: {
        "generation": _SPEC,
        "answers_deleted": True,
        "status_keeps": ("owner_references",),
        "fields": {
            "spec.nodeName": _path("spec.node_name"),
            "spec.host": _path("spec.node_name"),
            "spec.restartPolicy": _path("spec.restart_policy"),
            "spec.schedulerName": _path("spec.scheduler_name"),
            "spec.serviceAccountName": _path("spec.service_account_name"),
            "spec.hostNetwork": _flag("spec.host_network"),
            "status.phase": _path("status.phase"),
            "status.podIP": _path("status.pod_ip"),
            "status.podIPs": lambda _: "",
            "status.nominatedNodeName": _path("status.nominated_node_name"),
        },
    },
    resources.EVENTS: {
        "create_on_update": True,
        "propagation": NO_COLLECTION,
        "fields": {
            **_INVOLVED,
            "reason": _path("reason"),
            "reportingComponent": _path("reporting_component"),
            "source": _event_source,
            "type": _path("type"),
        },
    },
    resources.SECRETS: {"fields": {"type": _path("type")}},
    resources.NODES: {
        "created_with_status": True,
        "fields": {"spec.unschedulable": _flag("spec.unschedulable")},
    },
    resources.NAMESPACES: {
        "answers_deleted": True,
        "fields": {"status.phase": _path("status.phase")},
    },
    resources.SERVICES: {
        "create_on_update": True,
        "answers_deleted": True,
        "fields": {"spec.clusterIP": _path("spec.cluster_ip"), "spec.type": _path("spec.type")},
    },
    resources.REPLICATION_CONTROLLERS: {
        "generation": _SPEC,
        "propagation": ORPHAN_DEPENDENTS,
        "fields": {"status.replicas": _number("status.replicas")},
    },
    resources.REPLICA_SETS: {
        "generation": _SPEC,
        "fields": {"status.replicas": _number("status.replicas")},
    },
    resources.DEPLOYMENTS: {
        "generation": ("spec", "metadata.annotations"),
        "status_keeps": ("labels",),
    },
    resources.DAEMON_SETS: {"generation": _SPEC},
    resources.STATEFUL_SETS: {"generation": _SPEC},
    resources.JOBS: {
        "generation": _SPEC,
        "propagation": ORPHAN_DEPENDENTS,
        "fields": {"status.successful": _number("status.succeeded")},
    },
    resources.CRON_JOBS: {"generation": _SPEC},
    resources.ENDPOINTS: {"create_on_update": True},
    resources.ENDPOINT_SLICES: {
        "generation": ("address_type", "endpoints", "ports", "metadata.labels")
    },
    resources.LIMIT_RANGES: {"create_on_update": True},
    resources.LEASES: {"create_on_update": True, "unconditional_update": False},
    resources.POD_TEMPLATES: {"generation": ("template",), "answers_deleted": True},
    resources.PERSISTENT_VOLUMES: {"answers_deleted": True},
    resources.PERSISTENT_VOLUME_CLAIMS: {"answers_deleted": True},
    resources.RESOURCE_QUOTAS: {"answers_deleted": True},
    resources.SERVICE_ACCOUNTS: {"answers_deleted": True},
    resources.INGRESSES: {"generation": _SPEC},
    resources.INGRESS_CLASSES: {"generation": _SPEC},
    resources.NETWORK_POLICIES: {"generation": _SPEC},
    resources.POD_DISRUPTION_BUDGETS: {"generation": _SPEC, "unconditional_update": False},
    resources.ROLES: {"create_on_update": True},
    resources.ROLE_BINDINGS: {"create_on_update": True},
    resources.CLUSTER_ROLES: {"create_on_update": True},
    resources.CLUSTER_ROLE_BINDINGS: {"create_on_update": True},
    resources.PRIORITY_CLASSES: {"has_generation": True},
    resources.STORAGE_CLASSES: {"answers_deleted": True},
    resources.CSI_DRIVERS: {"unconditional_update": False, "answers_deleted": True},
    resources.CSI_NODES: {"unconditional_update": False, "answers_deleted": True},
    resources.VOLUME_ATTACHMENTS: {
        "unconditional_update": False,
        "answers_deleted": True,
        "status_keeps": _ALL_METADATA,
    },
    resources.VOLUME_ATTRIBUTES_CLASSES: {"answers_deleted": True},
    resources.CSI_STORAGE_CAPACITIES: {"unconditional_update": False},
    resources.RUNTIME_CLASSES: {"unconditional_update": False},
    resources.CERTIFICATE_SIGNING_REQUESTS: {
        "spec_is_final": True,
        "fields": {"spec.signerName": _path("spec.signer_name")},
    },
    resources.CLUSTER_TRUST_BUNDLES: {
        "unconditional_update": False,
        "fields": {"spec.signerName": _path("spec.signer_name")},
    },
    resources.POD_CERTIFICATE_REQUESTS: {
        "unconditional_update": False,
        "status_keeps": _ALL_METADATA,
        "fields": {
            "spec.signerName": _path("spec.signer_name"),
            "spec.podName": _path("spec.pod_name"),
            "spec.nodeName": _path("spec.node_name"),
        },
    },
    resources.RESOURCE_CLAIMS: {"answers_deleted": True, "status_keeps": _ALL_METADATA},
    resources.DEVICE_TAINT_RULES: {
        "generation": _SPEC,
        "unconditional_update": False,
        "status_keeps": _ALL_METADATA,
    },
    resources.RESOURCE_CLAIM_TEMPLATES: {"answers_deleted": True},
    resources.RESOURCE_SLICES: {
        "generation": _SPEC,
        "answers_deleted": True,
        "fields": {"spec.nodeName": _path("spec.node_name"), "spec.driver": _path("spec.driver")},
    },
    resources.DEVICE_CLASSES: {"generation": _SPEC, "answers_deleted": True},
    resources.FLOW_SCHEMAS: {"generation": _SPEC, "status_keeps": _ALL_METADATA},
    resources.PRIORITY_LEVEL_CONFIGURATIONS: {
        "generation": _SPEC,
        "status_keeps": _ALL_METADATA,
    },
    resources.API_SERVICES: {"unconditional_update": False, "status_keeps": _ALL_METADATA},
    resources.CUSTOM_RESOURCE_DEFINITIONS: {"generation": _SPEC, "unconditional_update": False},
    resources.MUTATING_WEBHOOK_CONFIGURATIONS: {
        "generation": ("webhooks",),
        "unconditional_update": False,
    },
    resources.VALIDATING_WEBHOOK_CONFIGURATIONS: {
        "generation": ("webhooks",),
        "unconditional_update": False,
    },
    resources.MUTATING_ADMISSION_POLICIES: {"generation": _SPEC, "unconditional_update": False},
    resources.MUTATING_ADMISSION_POLICY_BINDINGS: {
        "generation": _SPEC,
        "unconditional_update": False,
    },
    resources.VALIDATING_ADMISSION_POLICIES: {
        "generation": _SPEC,
        "unconditional_update": False,
        "status_keeps": _ALL_METADATA,
    },
    resources.SERVICE_CIDRS: {"status_keeps": _ALL_METADATA},
    resources.STORAGE_VERSION_MIGRATIONS: {
        "unconditional_update": False,
        "status_keeps": _ALL_METADATA,
    },
    resources.VALIDATING_ADMISSION_POLICY_BINDINGS: {
        "generation": _SPEC,
        "unconditional_update": False,
    },
}


def strategy_of(resource: Resource) -> Strategy:
    """The strategy of a resource; the default one if the table does not name it."""
    return _custom_strategy(resource) if resource.is_custom else _strategy_of(resource)


@lru_cache(maxsize=512)
def _custom_strategy(resource: Resource) -> Strategy:
    """The strategy of a custom resource (CRD-12)."""
    return Strategy(
        resource,
        generation=("content",),
        has_generation=True,
        unconditional_update=False,
        fields=_custom_fields(resource),
    )


def _custom_fields(resource: Resource) -> Mapping[str, Field]:
    """The selectable fields of a custom resource (CRD-18)."""
    found = {"metadata.name": _path("metadata.name")}
    if resource.namespaced:
        found["metadata.namespace"] = _path("metadata.namespace")
    for one in resource.definition.version.selectable_fields or ():
        try:
            keys = selectable_keys(one.json_path)
        except InvalidPath:
            continue
        found[one.json_path.removeprefix(".")] = _content_field(keys)
    return found


def _content_field(keys: tuple[str, ...]) -> Field:
    def read(obj: Any) -> str:
        value = get_at(obj.content, keys)
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, str | int) else ""

    return read


@cache
def _strategy_of(resource: Resource) -> Strategy:
    facts = dict(_FACTS.get(resource, {}))
    if "fields" in facts:
        facts["fields"] = {**_METADATA, **facts["fields"]}
    return Strategy(resource, **{"has_generation": "generation" in facts, **facts})


# --- indexes of watchers


INDEXED: Mapping[str, tuple[str, ...]] = {resources.PODS.prefix: ("spec.nodeName", "metadata.name")}
"""The indexed fields of watchers, by the resource's prefix. Every other resource: metadata.name
only (WATCHAPI-9)."""

_BY_NAME = ("metadata.name",)


def indexed_fields(prefix: str) -> tuple[str, ...]:
    """The indexed fields of a resource, the most selective first."""
    return INDEXED.get(prefix, _BY_NAME)


def index_values(prefix: str, change: Change[Any]) -> tuple[tuple[str, str], ...]:
    """The (field, value) pairs under which the watchers of a change are found: the object's values
    before and after it, each once (WATCHAPI-9)."""
    record, previous = change.record, change.previous
    found = [("metadata.name", change.key.rpartition("/")[2])]
    if prefix == _PODS_PREFIX:
        after = "" if record is None else record.value.spec.node_name or ""
        found.append(("spec.nodeName", after))
        if previous is not None and (before := previous.value.spec.node_name or "") != after:
            found.append(("spec.nodeName", before))
    return tuple(found)


_PODS_PREFIX = resources.PODS.prefix
