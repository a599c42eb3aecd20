"""The flags of `refk8s run` and `refk8s apiserver`, and the paths that follow from them."""

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from refk8s.components.listening import LOCAL, SERVICE_CIDR
from refk8s.core.api.families import Network
from refk8s.core.value import Value, field

EVENT_TTL_SECONDS = (1, 10 * 365 * 86_400)  # the least and the most

AUTHORIZATION_MODES = ("Node", "RBAC", "Webhook", "AlwaysAllow", "AlwaysDeny")


class ServerOptions(Value, frozen=True):
    """The flags of the API server; those of `refk8s run` and `refk8s apiserver`."""

    store: str | None = None
    bind: str = LOCAL
    advertise_address: str = ""
    port: int = 6443
    data_dir: str | None = None
    pki: str | None = None
    kubeconfig: str | None = None
    event_ttl_seconds: float = 3600
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    authorization_config: str = ""
    authorization_webhook: Mapping[str, Any] = field(default_factory=dict)
    authentication_config: str = ""
    oidc: Mapping[str, Any] = field(default_factory=dict)  # the arguments of `issuer_of_flags`
    token_webhook: Mapping[str, Any] = field(default_factory=dict)  # of `read_token_webhook`
    service_account_keys: tuple[str, ...] = ()  # files with keys of earlier tokens
    request_headers: Mapping[str, Any] = field(default_factory=dict)  # `--requestheader-*`
    audit: Mapping[str, Any] = field(default_factory=dict)  # the flags of the audit log
    encryption_provider_config: str = ""
    admission_control_config_file: str = ""
    admission_plugins: frozenset[str] = frozenset()
    service_cidrs: tuple[Network, ...] = (ip_network(SERVICE_CIDR),)

    @property
    def data(self) -> Path:
        return Path(self.data_dir or "~/.refk8s").expanduser().absolute()

    @property
    def machine_address(self) -> str:
        """The address of IPv4 by which others reach this machine (HOST-19); empty if the flags do
        not say it."""
        bound = ip_address(self.bind)
        is_own = bound.version == 4 and not (bound.is_loopback or bound.is_unspecified)
        return self.advertise_address or (self.bind if is_own else "")

    @property
    def kubeconfig_path(self) -> Path:
        return (
            Path(self.kubeconfig).expanduser().absolute()
            if self.kubeconfig
            else self.data / "kubeconfig"
        )

    @property
    def own_pki(self) -> Path:
        """The directory of this server's own certificate."""
        return self.data / "pki"

    @property
    def shared_pki(self) -> Path:
        """The directory of the keys that all servers of a cluster share."""
        return Path(self.pki).expanduser().absolute() if self.pki else self.own_pki

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:{self.data / 'store.db'}"


class RunOptions(ServerOptions, frozen=True):
    """The flags of `refk8s run`."""

    adapter: str = "auto"
    nodes: int | None = None
    story: bool = False
    config: str = ""  # of the scheduler
    keep: bool = False
    manifests: tuple[str, ...] = ()
    resolv_conf: str | None = None
    network: str | None = None
    cluster_cidr: str = ""  # empty: that of the adapter

    @property
    def resolv_conf_path(self) -> Path | None:
        return Path(self.resolv_conf).absolute() if self.resolv_conf else None


def parse_duration(text: str) -> float:
    """The seconds of a duration such as 1h, 90s or 1h30m. Raises ValueError if it is invalid."""
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|h|m|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
