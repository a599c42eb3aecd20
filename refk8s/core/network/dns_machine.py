"""The machine that keeps the records of a name server current. Rules DNS-1, DNS-11 (spec/dns.md).

One reconciler computes the names of a service when the service or one of its slices changes. The
other gives all records to the name server. Both share one memory: the records. So a change costs
the work of one service, whatever the number of services. Namespaces are counted by a fold.
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES, Resource
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Fold, Index, View, key_of
from refk8s.core.network.dns_records import (
    NO_NAMES,
    change_records,
    compute_names,
    records_of,
)
from refk8s.core.network.proxy import service_of_slice, services_of_slice
from refk8s.core.ports import Records, ServiceNames
from refk8s.core.value import Value, evolve

USER = service_account_user("kube-system", "coredns")
"""The user that upstream's cluster DNS has."""
MEMORY = "records"
ALL = "all"
NAMES = "namespaces"


class Memory(Value, frozen=True, eq=False):
    """The records, and those that the name server got last.

    `complete_at` are the revisions of the view from which all records were computed.
    """

    records: Records = Records()
    handed: Records | None = None
    complete_at: tuple[int, int] = (-1, -1)


def _revisions(view: View) -> tuple[int, int]:
    return view.table(SERVICES).revision, view.table(ENDPOINT_SLICES).revision


def _count_namespace(names: Map[str, None], resource: Resource, old: Any, new: Any) -> Any:
    if new is None:
        return names.delete(old.metadata.name)
    return names if old is not None else names.set(new.metadata.name, None)


def _when_created_or_deleted(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    return (ALL,) if old is None or new is None else ()


class ServiceRecords(Reconciler):
    """Computes the names of one service."""

    name = "service-records"
    user = USER
    memory_name = MEMORY
    interests = (Interest(SERVICES, own_key), Interest(ENDPOINT_SLICES, services_of_slice))
    indexes = (Index("service", ENDPOINT_SLICES, service_of_slice),)

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        if memory.complete_at == _revisions(view):
            return NOTHING  # all that was listed is in the first records
        service: Service | None = view.get(SERVICES, key)
        slices: list[EndpointSlice] = view.indexed(ENDPOINT_SLICES, "service", key)

        # Decide
        names = NO_NAMES if service is None else compute_names(service, slices, self.domain)
        if names == memory.records.services.get(key, NO_NAMES):
            return NOTHING

        # Report
        records = change_records(memory.records, key, names)
        return Plan(memory=evolve(memory, records=records), enqueue=((ProgramRecords.name, ALL),))


class ProgramRecords(Reconciler):
    """Gives the records to the name server. Changes during that time are in the next ones."""

    name = "program-records"
    user = USER
    memory_name = MEMORY
    interests = (Interest(NAMESPACES, _when_created_or_deleted),)
    folds = (Fold(NAMES, (NAMESPACES,), Map(), _count_namespace),)
    initial_keys = (ALL,)

    def __init__(self, domain: str) -> None:
        self.domain = domain

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        namespaces = view.fold(NAMES)

        # Decide
        records, complete_at = memory.records, memory.complete_at
        problems: tuple[Exception, ...] = ()
        if memory.handed is None:  # the first records are complete (DNS-11)
            records, problems = compute_all(view, self.domain)
            complete_at = _revisions(view)
        if records.namespaces is not namespaces:
            records = evolve(records, namespaces=namespaces)
        if memory.handed is records and not local.failures:
            return NOTHING

        # Report
        return Plan(rules=records, memory=Memory(records, records, complete_at), problems=problems)


def dns(name: str = "dns", domain: str = "cluster.local") -> Loop:
    """The machine of one name server. Its records do not depend on the node."""
    return Loop(name, (ServiceRecords(domain), ProgramRecords(domain)), "coredns", user=USER)


def compute_all(view: View, domain: str) -> tuple[Records, tuple[Exception, ...]]:
    """The records of every service, and exceptions; a service with one has none (LOOP-10)."""
    found: dict[Key, ServiceNames] = {}
    problems: list[Exception] = []
    for service in view.list(SERVICES):
        key = key_of(service)
        try:
            slices = view.indexed(ENDPOINT_SLICES, "service", key)
            found[key] = compute_names(service, slices, domain)
        except Exception as error:
            problems.append(error)
    return records_of(found), tuple(problems)
