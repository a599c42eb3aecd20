"""Reads an AdmissionConfiguration. Rule PSA-7 (spec/pod_security.md).

Only the plugin PodSecurity has a configuration here; whatever cannot be enforced is refused, with
the field and the reason. Source: Kubernetes documentation, "Configure the Admission Controller";
API reference, "kube-apiserver Configuration (v1)".
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from refk8s.core.apiserver.admission.outcome import LevelVersion, PodSecurityConfig, SecurityPolicy
from refk8s.core.apiserver.admission.pod_security.policy import (
    LATEST,
    LEVELS,
    MODES,
    PRIVILEGED,
    is_version,
)
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain

API_VERSION, KIND = "apiserver.config.k8s.io/v1", "AdmissionConfiguration"
POD_SECURITY: Final = "PodSecurity"
POD_SECURITY_VERSION: Final = "pod-security.admission.config.k8s.io/v1"
POD_SECURITY_KIND: Final = "PodSecurityConfiguration"
EXEMPTIONS_MAX: Final = 1000


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


def read_admission(tree: Any, load: Callable[[str], Any]) -> PodSecurityConfig:
    """The configuration of PodSecurity in an AdmissionConfiguration. `load` returns the document of
    a file that it names. Raises BadConfiguration."""
    whole = _converted(tree, _Admission, "")
    _check_kind(whole, API_VERSION, KIND, "")
    found = PodSecurityConfig()
    for place, plugin in enumerate(whole.plugins):
        where = f"plugins[{place}]"
        if plugin.name != POD_SECURITY:
            raise BadConfiguration(f'{where}.name: "{plugin.name}" has no configuration here')
        if plugin.name in [one.name for one in whole.plugins[:place]]:
            raise BadConfiguration(f'{where}.name: Duplicate value: "{plugin.name}"')
        if bool(plugin.path) == (plugin.configuration is not None):
            raise BadConfiguration(f"{where}: must have either a path or a configuration")
        document = load(plugin.path) if plugin.path else plugin.configuration
        found = _read_pod_security(document, f"{where}.configuration")
    return found


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
