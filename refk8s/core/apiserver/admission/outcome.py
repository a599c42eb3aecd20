"""The result of admission, and its configuration."""

from ipaddress import IPv4Network
from typing import Any

from refk8s.core.api.core_v1 import ScopedResourceSelectorRequirement
from refk8s.core.api.families import IPV4, IPV6, Network
from refk8s.core.store import Compare, Delete, Put
from refk8s.core.value import Value


class Admission(Value, frozen=True):
    """The object to store, the compares that must hold at the commit, the writes of the same
    transaction, and warnings for the client."""

    object: Any
    compares: tuple[Compare, ...] = ()
    writes: tuple[Put[Any] | Delete, ...] = ()
    warnings: tuple[str, ...] = ()


class LevelVersion(Value, frozen=True):
    """A level of the Pod Security Standards as of a version: `latest` or v1.N."""

    level: str = "privileged"
    version: str = "latest"


class SecurityPolicy(Value, frozen=True):
    """The level of each mode of PodSecurity."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()


class PodSecurityConfig(Value, frozen=True):
    """The policy of namespaces without labels, and what is exempt from every policy."""

    defaults: SecurityPolicy = SecurityPolicy()
    users: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()


class LimitedResource(Value, frozen=True):
    """A resource that may be used only under a quota (QUOTA-9). `contains`: parts of the names of
    `spec.hard` that need one; `scopes`: the objects that need one."""

    group: str
    resource: str
    contains: tuple[str, ...] = ()
    scopes: tuple[ScopedResourceSelectorRequirement, ...] = ()


class AdmissionConfig(Value, frozen=True):
    """The ranges of addresses of services, one of each family of the cluster, its default first;
    their node ports, first to last, both included; the configuration of PodSecurity; the
    plugins that are on although they are off by default; and the resources that may be used only
    under a quota."""

    service_cidrs: tuple[Network, ...] = (IPv4Network("10.96.0.0/12"),)
    node_port_first: int = 30000
    node_port_last: int = 32767
    pod_security: PodSecurityConfig = PodSecurityConfig()
    plugins: frozenset[str] = frozenset()
    limited: tuple[LimitedResource, ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        """The families of the cluster, its default first."""
        return tuple([IPV4 if each.version == 4 else IPV6 for each in self.service_cidrs])
