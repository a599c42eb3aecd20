"""The result of admission, and its configuration."""

from ipaddress import IPv4Network
from typing import Any

from refk8s.core.store import Compare, Delete, Put
from refk8s.core.value import Value


class Admission(Value, frozen=True):
    """The object to store, the compares that must hold at the commit, and the writes of the same
    transaction."""

    object: Any
    compares: tuple[Compare, ...] = ()
    writes: tuple[Put[Any] | Delete, ...] = ()


class AdmissionConfig(Value, frozen=True):
    """The ranges of addresses and node ports of services: first to last, both included."""

    service_cidr: IPv4Network = IPv4Network("10.96.0.0/12")
    node_port_first: int = 30000
    node_port_last: int = 32767
