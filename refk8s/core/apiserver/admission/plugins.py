"""The admission plugins as one list, in upstream's order. Rule ADM-45 (spec/admission.md).

A write of an object passes these stages:

    1. `mutates` of each plugin, in the order of ORDER
    2. `PREPARING`: fields that the registry of a kind sets, which no webhook can change
    3. validation
    4. `validates` of each plugin, in the order of ORDER

Plugins without functions here concern every kind, and `admit` and `check` of this package run them
at their places: NamespaceLifecycle before the other plugins; policies, webhooks and quotas after
them. A kind that a plugin does not concern has no stage of it. What a deletion or a connection is
asked is not in this list (NAUTH-6, HOOK-12).

Source: Kubernetes documentation, "Admission Control in Kubernetes"; the order is that of
kube-apiserver.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import field

from refk8s.core.api import resources
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.admission import (
    api_services,
    certificates,
    create,
    definitions,
    devices,
    dropped,
    limit_ranger,
    node,
    node_restriction,
    pod,
    priority,
    runtime_class,
    storage,
)
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

Stage: TypeAlias = Callable[[Request, Any, Any, Reader, Context], Any]
"""(request, new object, old object or None, store, context) -> the object."""
Check: TypeAlias = "Callable[[Exchange, Any, Any], tuple[str, ...] | None]"
"""(exchange, valid new object, old object or None) -> warnings. Raises ApiError to reject it."""
Key: TypeAlias = tuple[Resource, str]
"""A resource and a subresource: empty, or EVERY_PART."""

EVERY_PART: Final = "*"
"""An object and all its subresources."""


class Plugin(Value, frozen=True, eq=False):
    """What a plugin does to the kinds that it concerns. `checks`: what it does to every kind."""

    name: str
    mutates: Mapping[Key, Stage] = field(default_factory=dict)
    validates: Mapping[Key, Check] = field(default_factory=dict)
    checks: "Check | None" = None
    is_optional: bool = False


class Stages(Value, frozen=True, eq=False):
    """The stages of one resource and subresource."""

    mutating: tuple[Stage, ...]
    preparing: tuple[Stage, ...]
    validating: tuple[Check, ...]


# The modules of these are loaded when they are needed first, or need this package themselves.


def _check_security(exchange: "Exchange", new: Any, old: Any) -> tuple[str, ...]:
    from refk8s.core.apiserver.admission.pod_security import enforce

    return enforce.check(exchange, new, old)


def _tolerate(request: Request, new: Any, old: Any, store: Reader, context: Context) -> Any:
    from refk8s.core.apiserver.admission import optional

    return optional.tolerate(new)


def _check_owners(exchange: "Exchange", new: Any, old: Any) -> None:
    from refk8s.core.apiserver.admission import optional

    optional.check_owners(exchange, new, old)


def _check_approval(exchange: "Exchange", new: Any, old: Any) -> None:
    from refk8s.core.apiserver.authorize import further

    further.check_approval(exchange, new, old)


def _check_signature(exchange: "Exchange", new: Any, old: Any) -> None:
    from refk8s.core.apiserver.authorize import further

    further.check_signature(exchange, new, old)


def _check_types(request: Request, new: Any, old: Any, store: Reader, context: Context) -> Any:
    """POL-15."""
    from refk8s.core.apiserver.admission.policies.type_checking import check_types

    return check_types(request, new, old, store, context)


_POD: Final = (resources.PODS, "")
_RESIZE: Final = (resources.PODS, "resize")
_EPHEMERAL: Final = (resources.PODS, "ephemeralcontainers")
_CLAIM: Final = (resources.PERSISTENT_VOLUME_CLAIMS, "")
_VOLUME: Final = (resources.PERSISTENT_VOLUMES, "")
_REQUEST: Final = resources.CERTIFICATE_SIGNING_REQUESTS
_TEMPLATED: Final = (
    resources.POD_TEMPLATES, resources.JOBS, resources.REPLICATION_CONTROLLERS,
    resources.REPLICA_SETS, resources.DEPLOYMENTS, resources.STATEFUL_SETS, resources.DAEMON_SETS,
    resources.CRON_JOBS,
)  # fmt: skip

EXTENDED_RESOURCES: Final = "ExtendedResourceToleration"
OWNER_REFERENCES: Final = "OwnerReferencesPermissionEnforcement"

ORDER: Final[tuple[Plugin, ...]] = (
    Plugin("NamespaceLifecycle"),
    Plugin(
        "LimitRanger",
        {_POD: limit_ranger.fill, _RESIZE: limit_ranger.fill},
        {
            _POD: limit_ranger.check_pod,
            _RESIZE: limit_ranger.check_pod,
            _CLAIM: limit_ranger.check_claim,
        },
    ),
    Plugin("ServiceAccount", {_POD: pod.admit_account}),
    Plugin(
        "NodeRestriction",
        {(kind, EVERY_PART): node_restriction.restrict for kind in node_restriction.LIMITED},
    ),
    Plugin("TaintNodesByCondition", {(resources.NODES, ""): node.admit_node}),
    Plugin(
        "PodSecurity",
        {},
        {
            **dict.fromkeys((_POD, _RESIZE, _EPHEMERAL), _check_security),
            (resources.NAMESPACES, ""): _check_security,
            **{(kind, ""): _check_security for kind in _TEMPLATED},
        },
    ),
    Plugin(
        "Priority",
        dict.fromkeys((_POD, _RESIZE, _EPHEMERAL), pod.admit_priority),
        {(resources.PRIORITY_CLASSES, ""): priority.check_class},
    ),
    Plugin(
        "DefaultTolerationSeconds",
        dict.fromkeys((_POD, _RESIZE, _EPHEMERAL), pod.admit_tolerations),
    ),
    Plugin(EXTENDED_RESOURCES, {_POD: _tolerate}, is_optional=True),
    Plugin("DefaultStorageClass", {_CLAIM: storage.admit_class}),
    Plugin(
        "StorageObjectInUseProtection",
        dict.fromkeys(
            (_CLAIM, _VOLUME, (resources.VOLUME_ATTRIBUTES_CLASSES, "")), storage.protect
        ),
    ),
    Plugin(OWNER_REFERENCES, checks=_check_owners, is_optional=True),
    Plugin("PersistentVolumeClaimResize", {}, {_CLAIM: storage.check_growth}),
    Plugin("RuntimeClass", {_POD: pod.admit_runtime_class}, {_POD: runtime_class.check_overhead}),
    Plugin("CertificateApproval", {}, {(_REQUEST, "approval"): _check_approval}),
    Plugin("CertificateSigning", {}, {(_REQUEST, "status"): _check_signature}),
    Plugin("CertificateSubjectRestriction", {}, {(_REQUEST, ""): certificates.check_subject}),
    Plugin("DefaultIngressClass", {(resources.INGRESSES, ""): storage.admit_ingress}),
    Plugin("PodTopologyLabels", {_POD: pod.admit_topology}),
    Plugin("MutatingAdmissionPolicy"),
    Plugin("MutatingAdmissionWebhook"),
    Plugin("ValidatingAdmissionPolicy"),
    Plugin("ValidatingAdmissionWebhook"),
    Plugin("ResourceQuota"),
)
OPTIONAL: Final = tuple([one.name for one in ORDER if one.is_optional])

PREPARING: Final[dict[Key, tuple[Stage, ...]]] = {
    _POD: (pod.prepare,),
    (resources.PODS, "status"): (pod.keep_of_status,),
    (resources.NODES, ""): (dropped.drop_node_config,),
    (resources.NAMESPACES, ""): (create.admit_namespace,),
    (resources.DAEMON_SETS, ""): (create.admit_daemon_set,),
    (resources.JOBS, ""): (create.admit_job,),
    (resources.SERVICE_ACCOUNTS, ""): (dropped.drop_secret_fields,),
    (_REQUEST, ""): (certificates.admit_signing_request,),
    (_REQUEST, "status"): (certificates.admit_conditions,),
    (_REQUEST, "approval"): (certificates.admit_conditions,),
    _VOLUME: (storage.admit_volume,),
    (resources.PERSISTENT_VOLUMES, "status"): (storage.admit_volume_status,),
    _CLAIM: (dropped.drop_data_source,),
    (resources.CUSTOM_RESOURCE_DEFINITIONS, ""): (definitions.admit_definition,),
    (resources.API_SERVICES, ""): (api_services.admit_api_service,),
    (resources.ENDPOINT_SLICES, ""): (dropped.drop_topology,),
    (resources.RESOURCE_CLAIMS, "status"): (devices.drop_released,),
    (resources.RESOURCE_SLICES, ""): (devices.date_taints,),
    (resources.DEVICE_TAINT_RULES, ""): (devices.date_taint,),
    (resources.VALIDATING_ADMISSION_POLICIES, ""): (_check_types,),
}
"""What the registry of a kind sets after the plugins, as upstream."""

_ALLOWED: Final[dict[Key, Check]] = {
    (resources.RESOURCE_CLAIMS, ""): devices.check_admin_access,
    (resources.RESOURCE_CLAIM_TEMPLATES, ""): devices.check_admin_access,
}
"""What the registry of a kind rejects itself, before the plugins."""


@lru_cache(1024)
def stages_of(resource: Resource, subresource: str, enabled: frozenset[str]) -> Stages:
    """The stages of a write, with these optional plugins. A custom resource has only those of every
    kind."""
    plugins = [one for one in ORDER if not one.is_optional or one.name in enabled]
    return compile_stages(plugins, resource, subresource)


def compile_stages(plugins: Iterable[Plugin], resource: Resource, subresource: str) -> Stages:
    """The stages of these plugins, in their order."""
    key, every = (resource, subresource), (resource, EVERY_PART)
    mutating: list[Stage] = []
    validating: list[Check] = [_ALLOWED[key]] if key in _ALLOWED else []
    for plugin in plugins:
        stage = plugin.mutates.get(key) or plugin.mutates.get(every)
        check = plugin.validates.get(key) or plugin.checks
        if stage is not None:
            mutating.append(stage)
        if check is not None:
            validating.append(check)
    return Stages(tuple(mutating), PREPARING.get(key, ()), tuple(validating))


class UnknownPlugin(ValueError):
    """The name is that of no plugin of this API server."""


def read_plugins(names: Iterable[str]) -> frozenset[str]:
    """The optional plugins among these names. Raises UnknownPlugin."""
    wanted = frozenset(names)
    known = {one.name for one in ORDER}
    for name in sorted(wanted - known):
        raise UnknownPlugin(f'admission plugin "{name}" is unknown')
    return wanted & frozenset(OPTIONAL)
