"""What one decision allocates and frees: the compares and writes of its transaction. Rules ALLOC-1,
ALLOC-5, ALLOC-6 (spec/admission.md).

Source: Kubernetes documentation, "Service ClusterIP allocation" (avoiding collisions).
"""

from collections.abc import Callable
from itertools import chain
from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Service
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import IPAddress, IPAddressSpec, ParentReference
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.names import parse_ip
from refk8s.core.context import Context, timestamp
from refk8s.core.store import ABSENT, Compare, Delete, Put

NODE_PORT_PREFIX = "/internal/nodeports/"
PROBES_MAX = 16
"""This many random tries find a free number with a probability of 65,535 in 65,536 if at least half
of the numbers are free. Then the free ones are counted."""

Write = Put[Any] | Delete


class Ledger:
    """What one decision allocates and frees: the compares and writes of its transaction."""

    def __init__(
        self,
        service: Service,
        store: Reader,
        context: Context,
        config: AdmissionConfig,
        is_dry_run: bool = False,
    ) -> None:
        self.service, self.store, self.context, self.config = service, store, context, config
        self.is_dry_run = is_dry_run
        self.compares: list[Compare] = []
        self.writes: list[Write] = []

    def is_free(self, key: str) -> bool:
        return self.store.get(key) is None and not any(write.key == key for write in self.writes)

    def allocate_requested(self, key: str, name: str, labels: dict[str, str] | None) -> bool:
        """Allocate a requested address or port; False if another service has it.

        A service of this name keeps what it holds. So a client that creates an existing service
        again gets AlreadyExists, and not an error about the service's own address.
        """
        if self.is_free(key):
            self.allocate(key, name, labels)
            return True
        record = self.store.get(key)
        if record is None or not holds(self.service, record.value):
            return False
        self.compares.append(Compare(key, record.mod_revision))
        return True

    def allocate(self, key: str, name: str, labels: dict[str, str] | None) -> None:
        """ALLOC-1: allocate it, on the condition that no service has it."""
        metadata = self.service.metadata
        owner = ParentReference(
            group="", resource="services", namespace=metadata.namespace, name=metadata.name or ""
        )
        held = IPAddress(
            metadata=ObjectMeta(
                name=name,
                uid=self.context.uid(),
                creation_timestamp=timestamp(self.context.now),
                labels=labels,
            ),
            spec=IPAddressSpec(parent_ref=owner),
        )
        self.compares.append(Compare(key, ABSENT))
        self.writes.append(Put(key, held))

    def free(self, key: str) -> None:
        """ALLOC-6: free it, but only if this service holds it."""
        record = self.store.get(key)
        if record is not None and holds(self.service, record.value):
            self.compares.append(Compare(key, record.mod_revision))
            self.writes.append(Delete(key))


def holds(service: Service, held: IPAddress) -> bool:
    """Whether this record belongs to the service."""
    owner, metadata = held.spec.parent_ref, service.metadata
    return (owner.resource, owner.namespace, owner.name) == (
        "services",
        metadata.namespace,
        metadata.name,
    )


def ip_key(address: str) -> str:
    """The key of the IPAddress of a valid address, whose name is the canonical form."""
    return resources.IP_ADDRESSES.prefix + str(parse_ip(address) or address)


def port_key(port: int) -> str:
    """The key of a node port. It does not depend on the protocol, because services do not share a
    node port (ALLOC-4)."""
    return f"{NODE_PORT_PREFIX}{port}"


def choose(
    first: int, last: int, band: int, key: Callable[[int], str], prefix: str, ledger: Ledger
) -> int | None:
    """ALLOC-5: a random free number above the band, else one within it; None if all are taken.
    O(taken) if few are free."""
    bounds = ((first + band, last), (first, min(first + band - 1, last)))
    for low, high in bounds:
        if low > high:
            continue
        for _ in range(PROBES_MAX):
            number = low + ledger.context.below(high - low + 1)
            if ledger.is_free(key(number)):
                return number
        taken = {record.key for record in ledger.store.list(prefix).records} | {
            write.key for write in ledger.writes
        }
        start = low + ledger.context.below(high - low + 1)
        for number in chain(range(start, high + 1), range(low, start)):
            if key(number) not in taken:
                return number
    return None
