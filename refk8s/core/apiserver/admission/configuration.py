"""Reads an AdmissionConfiguration. Rules PSA-7 (spec/pod_security.md), QUOTA-9 (spec/quota.md),
HOOK-13 (spec/webhooks.md).

The plugins PodSecurity, ResourceQuota and those of webhooks have a configuration here; whatever
cannot be enforced is refused, with the field and the reason. Source: Kubernetes documentation,
"Configure the Admission Controller", "Resource Quotas", "Dynamic Admission Control" (Authenticate
apiservers); API reference, "kube-apiserver Configuration (v1)".
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from refk8s.core.api.core_v1 import ScopedResourceSelectorRequirement
from refk8s.core.apiserver.admission.outcome import (
    LevelVersion,
    LimitedResource,
    PodSecurityConfig,
    SecurityPolicy,
)
from refk8s.core.apiserver.admission.pod_security.policy import (
    LATEST,
    LEVELS,
    MODES,
    PRIVILEGED,
    is_version,
)
from refk8s.core.apiserver.admission.review import MUTATING, VALIDATING
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain
from refk8s.core.quota.scopes import OPERATORS, SCOPES
from refk8s.core.value import Value, field

API_VERSION, KIND = "apiserver.config.k8s.io/v1", "AdmissionConfiguration"
POD_SECURITY: Final = "PodSecurity"
POD_SECURITY_VERSION: Final = "pod-security.admission.config.k8s.io/v1"
POD_SECURITY_KIND: Final = "PodSecurityConfiguration"
EXEMPTIONS_MAX: Final = 1000
QUOTA, QUOTA_KIND = "ResourceQuota", "ResourceQuotaConfiguration"
WEBHOOKS: Final = {
    "MutatingAdmissionWebhook": MUTATING,
    "ValidatingAdmissionWebhook": VALIDATING,
}
WEBHOOKS_KIND: Final = "WebhookAdmissionConfiguration"
LIMITED_MAX: Final = 100


class AdmissionFile(Value, frozen=True):
    """What an AdmissionConfiguration says. `kubeconfigs`: the path of the kubeconfig with the
    credentials for mutating and for validating webhooks."""

    pod_security: PodSecurityConfig = PodSecurityConfig()
    limited: tuple[LimitedResource, ...] = ()
    kubeconfigs: Mapping[str, str] = field(default_factory=dict)


class BadConfiguration(ValueError):
    """The configuration cannot be used. The message names the field and the reason."""


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    pass


class _Plugin(_Strict):
    name: str
    path: str = ""
    configuration: Any = None


class _Admission(_Strict):
    api_version: str
    kind: str
    plugins: list[_Plugin] = []


class _Defaults(
    msgspec.Struct, forbid_unknown_fields=True, rename=lambda name: name.replace("_", "-")
):
    enforce: str = PRIVILEGED
    enforce_version: str = LATEST
    audit: str = PRIVILEGED
    audit_version: str = LATEST
    warn: str = PRIVILEGED
    warn_version: str = LATEST


class _Exemptions(_Strict):
    usernames: list[str] = []
    runtime_classes: list[str] = []
    namespaces: list[str] = []


class _PodSecurity(_Strict):
    api_version: str
    kind: str
    defaults: _Defaults = msgspec.field(default_factory=_Defaults)
    exemptions: _Exemptions = msgspec.field(default_factory=_Exemptions)


class _Scope(_Strict):
    scope_name: str
    operator: str
    values: list[str] = []


class _Limited(_Strict):
    resource: str
    api_group: str = ""
    match_contains: list[str] = []
    match_scopes: list[_Scope] = []


class _Quota(_Strict):
    api_version: str
    kind: str
    limited_resources: list[_Limited] = []


class _Webhooks(_Strict):
    api_version: str
    kind: str
    kube_config_file: str = ""


def read_admission(tree: Any, load: Callable[[str], Any]) -> AdmissionFile:
    """What an AdmissionConfiguration says. `load` returns the document of a file that it names.
    Raises BadConfiguration."""
    whole = _converted(tree, _Admission, "")
    _check_kind(whole, API_VERSION, KIND, "")
    pod_security = PodSecurityConfig()
    limited: tuple[LimitedResource, ...] = ()
    kubeconfigs: dict[str, str] = {}
    for place, plugin in enumerate(whole.plugins):
        where = f"plugins[{place}]"
        if plugin.name not in (POD_SECURITY, QUOTA, *WEBHOOKS):
            raise BadConfiguration(f'{where}.name: "{plugin.name}" has no configuration here')
        if plugin.name in [one.name for one in whole.plugins[:place]]:
            raise BadConfiguration(f'{where}.name: Duplicate value: "{plugin.name}"')
        if bool(plugin.path) == (plugin.configuration is not None):
            raise BadConfiguration(f"{where}: must have either a path or a configuration")
        document = load(plugin.path) if plugin.path else plugin.configuration
        where = f"{where}.configuration"
        if plugin.name == POD_SECURITY:
            pod_security = _read_pod_security(document, where)
        elif plugin.name == QUOTA:
            limited = _read_limited(document, where)
        else:
            kubeconfigs[WEBHOOKS[plugin.name]] = _read_kubeconfig(document, where)
    return AdmissionFile(pod_security, limited, kubeconfigs)


def _read_limited(tree: Any, where: str) -> tuple[LimitedResource, ...]:
    """QUOTA-9."""
    part = _converted(tree, _Quota, where)
    _check_kind(part, API_VERSION, QUOTA_KIND, where)
    if len(part.limited_resources) > LIMITED_MAX:
        raise BadConfiguration(f"{where}.limitedResources: must have at most {LIMITED_MAX} items")
    found = []
    for place, one in enumerate(part.limited_resources):
        at = f"{where}.limitedResources[{place}]"
        if not one.resource:
            raise BadConfiguration(f"{at}.resource: Required value")
        if not all(one.match_contains):
            raise BadConfiguration(f"{at}.matchContains: must have no empty text")
        scopes = [_scope(scope, f"{at}.matchScopes") for scope in one.match_scopes]
        found.append(
            LimitedResource(one.api_group, one.resource, tuple(one.match_contains), tuple(scopes))
        )
    return tuple(found)


def _scope(scope: _Scope, where: str) -> ScopedResourceSelectorRequirement:
    if scope.scope_name not in SCOPES:
        raise BadConfiguration(f"{where}.scopeName: must be one of {', '.join(sorted(SCOPES))}")
    if scope.operator not in OPERATORS:
        raise BadConfiguration(f"{where}.operator: must be one of {', '.join(OPERATORS)}")
    if bool(scope.values) != (scope.operator in ("In", "NotIn")):
        raise BadConfiguration(f"{where}.values: required for In and NotIn, and only for these")
    return ScopedResourceSelectorRequirement(
        scope_name=scope.scope_name, operator=scope.operator, values=tuple(scope.values) or None
    )


def _read_kubeconfig(tree: Any, where: str) -> str:
    """HOOK-13."""
    part = _converted(tree, _Webhooks, where)
    _check_kind(part, API_VERSION, WEBHOOKS_KIND, where)
    path: str = part.kube_config_file
    if not path.startswith("/"):
        raise BadConfiguration(f"{where}.kubeConfigFile: must be an absolute file path")
    return path


def _read_pod_security(tree: Any, where: str) -> PodSecurityConfig:
    part = _converted(tree, _PodSecurity, where)
    _check_kind(part, POD_SECURITY_VERSION, POD_SECURITY_KIND, where)
    modes = {}
    for mode in MODES:
        level = getattr(part.defaults, mode)
        version = getattr(part.defaults, f"{mode}_version")
        if level not in LEVELS:
            raise BadConfiguration(f"{where}.defaults.{mode}: must be one of {', '.join(LEVELS)}")
        if not is_version(version):
            words = 'must be "latest" or "v1.x"'
            raise BadConfiguration(f"{where}.defaults.{mode}-version: {words}")
        modes[mode] = LevelVersion(level, version)
    exempt = part.exemptions
    return PodSecurityConfig(
        SecurityPolicy(**modes),
        _names(exempt.usernames, f"{where}.exemptions.usernames", None),
        _names(exempt.namespaces, f"{where}.exemptions.namespaces", dns_label),
        _names(exempt.runtime_classes, f"{where}.exemptions.runtimeClasses", dns_subdomain),
    )


def _names(names: list[str], where: str, problems: Callable[[str], Any] | None) -> frozenset[str]:
    if len(names) > EXEMPTIONS_MAX:
        raise BadConfiguration(f"{where}: must have at most {EXEMPTIONS_MAX} items")
    for place, name in enumerate(names):
        if not name or (problems is not None and problems(name)):
            raise BadConfiguration(f"{where}[{place}]: Invalid value: {name!r}")
        if name in names[:place]:
            raise BadConfiguration(f"{where}[{place}]: Duplicate value: {name!r}")
    return frozenset(names)


def _converted(tree: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(tree, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        prefix = f"{where}: " if where else ""
        raise BadConfiguration(f"{prefix}{error}") from None


def _check_kind(part: Any, version: str, kind: str, where: str) -> None:
    if (part.api_version, part.kind) != (version, kind):
        prefix = f"{where}: " if where else ""
        raise BadConfiguration(f"{prefix}must be of kind {kind}, {version}")
