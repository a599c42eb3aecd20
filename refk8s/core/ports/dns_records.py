"""The DNS records of a cluster, as its name server gets them (spec/dns.md)."""

from collections.abc import Mapping
from typing import TypeAlias

from immutables import Map

from refk8s.core.value import Value, field

Labels: TypeAlias = tuple[str, ...]
"""The labels of a domain name in lower case, without the root."""

Data: TypeAlias = Mapping[str, tuple[str, ...]]
"""The records of one name: the data of each type, in the presentation form of zone files."""


class ServiceNames(Value, frozen=True):
    """The names of one service.

    `names` has the labels below the service's own name (none: that name itself) with their records.
    A name without records exists because a longer one does. `pointers` has the full names of the
    addresses of the service.
    """

    names: Mapping[Labels, Data] = field(default_factory=dict)
    pointers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Records(Value, frozen=True, eq=False):
    """All records of a cluster.

    `services` has the names of each service by its key ("namespace/name"), `namespaces` the
    namespaces that exist, and `pointers` the names of each address.
    """

    services: Map[str, ServiceNames] = field(default_factory=Map)
    namespaces: Map[str, None] = field(default_factory=Map)
    pointers: Map[str, tuple[str, ...]] = field(default_factory=Map)
