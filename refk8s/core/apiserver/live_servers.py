"""The API servers of a cluster that live, by their Leases. Rule HOST-20 (spec/host.md).

Each server keeps a Lease in kube-system. An observer sees whether it is renewed, so it compares no
clocks: a Lease that it has not seen renewed for a time belongs to a server that has ended.
Source: Kubernetes documentation, "Leases" (API server identity); KEP-1965.
"""

from base64 import b32encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import NamedTuple

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver.validation.names import parse_ip
from refk8s.core.apiserver.validation.ports import validate_non_special
from refk8s.core.context import SECOND, Instant, micro_timestamp

NAMESPACE = "kube-system"
LABEL, LABEL_VALUE = "apiserver.kubernetes.io/identity", "kube-apiserver"
ADDRESS = "refk8s.io/address"
"""The annotation with the address and port at which pods reach the server."""
RENEW_SECONDS = 5
LIVE_SECONDS = 15
LEASE_SECONDS = 3600
SERVERS_MAX = 100


class Server(NamedTuple):
    """Where pods reach an API server."""

    address: str
    port: int


class Renewal(NamedTuple):
    """A Lease as it was seen last, and when it had changed."""

    version: str
    seen_at: Instant


Seen = Mapping[str, Renewal]
"""By the name of the Lease."""


def lease_name(server: Server) -> str:
    digest = sha256(f"{server.address}:{server.port}".encode()).digest()[:16]
    return f"apiserver-{b32encode(digest).decode().lower().rstrip('=')}"


def server_lease(server: Server, hostname: str, identity: str, now: Instant) -> Lease:
    """The Lease of a server, as it is now. `identity`: of this process."""
    name = lease_name(server)
    return Lease(
        metadata=ObjectMeta(
            name=name,
            namespace=NAMESPACE,
            labels={LABEL: LABEL_VALUE, "kubernetes.io/hostname": hostname},
            annotations={ADDRESS: f"{server.address} {server.port}"},
        ),
        spec=LeaseSpec(
            holder_identity=f"{name}_{identity}",
            lease_duration_seconds=LEASE_SECONDS,
            renew_time=micro_timestamp(now),
        ),
    )


def server_of(lease: Lease) -> Server | None:
    """The server of a Lease; None for other Leases, and if it is malformed."""
    metadata = lease.metadata
    if (metadata.labels or {}).get(LABEL) != LABEL_VALUE:
        return None
    address, _, port = (metadata.annotations or {}).get(ADDRESS, "").partition(" ")
    if parse_ip(address) is None or validate_non_special(address, ""):
        return None
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        return None
    server = Server(address, int(port))
    return server if lease_name(server) == metadata.name else None


def find_live(
    leases: Iterable[Lease], seen: Seen, now: Instant
) -> tuple[tuple[Server, ...], Seen, tuple[Lease, ...]]:
    """(the servers that live, in order; what has been seen; the Leases of those that ended)."""
    live, ended, after = [], [], dict[str, Renewal]()
    for lease in leases:
        server = server_of(lease)
        if server is None:
            continue
        name, version = lease.metadata.name or "", lease.metadata.resource_version or ""
        before = seen.get(name)
        renewal = before if before and before.version == version else Renewal(version, now)
        after[name] = renewal
        if now - renewal.seen_at <= LIVE_SECONDS * SECOND:
            live.append(server)
        else:
            ended.append(lease)
    return tuple(sorted(live)[:SERVERS_MAX]), after, tuple(ended)
