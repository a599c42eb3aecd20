"""The service default/kubernetes of several API servers. Rule HOST-20 (spec/host.md).

Each API server runs one machine, which asks the server itself. It has two keys:

    renew      the Lease of this server, every five seconds
    correct    the service, its Endpoints and its EndpointSlices list the servers that live; Leases
               of servers that have ended are deleted

A server counts as ended if its Lease was not renewed for 15 seconds on the clock of this machine,
while that of this server was. So no clocks are compared, and a server that could not renew its own
Lease, or did not run, waits for 15 seconds more: the others could perhaps not renew theirs either.
Two servers may disagree for a time, so none corrects the objects more often than every five
seconds.
Source: Kubernetes documentation, "Leases" (API server identity); the reconciler of the service in
Kubernetes' API server, whose leases are records of etcd.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, LEASES, SERVICES, Resource
from refk8s.core.api.user import API_SERVER
from refk8s.core.apiserver.admission.bootstrap import is_of_servers, kubernetes_corrections
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.live_servers import (
    NAMESPACE,
    RENEW_SECONDS,
    Renewal,
    Server,
    find_live,
    lease_name,
    server_lease,
    server_of,
)
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View, key_of
from refk8s.core.value import Value, evolve

NAME: Final = "kubernetes-service"
RENEW, CORRECT = "renew", "correct"
SERVICE: Final = "default/kubernetes"
BECAUSE: Final = "pods reach the API server by it"
PERIOD: Instant = RENEW_SECONDS * SECOND
_OF_SERVICE: Final = "metadata.namespace=default,metadata.name=kubernetes"
_KINDS: Final = (SERVICES, ENDPOINTS, ENDPOINT_SLICES)


class Memory(Value, frozen=True, eq=False):
    """`seen`: the Leases as this machine saw them last. `renewed_at`: when it last sent a renewal
    of its own; None: never. `looked_at`: when it last looked at the Leases. `corrected_at`: when it
    last sent corrections."""

    seen: Map[str, Renewal]
    renewed_at: Instant | None = None
    looked_at: Instant = 0
    corrected_at: Instant | None = None


def _of_lease(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    changed: Any = new if new is not None else old
    return (CORRECT,) if server_of(changed) is not None else ()


def _of_service(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    changed: Any = new if new is not None else old
    return (CORRECT,) if key_of(changed) == SERVICE or is_of_servers(changed) else ()


class KubernetesServiceReconciler(Reconciler):
    """`server`: this one. `hostname` and `identity` are for the reader of its Lease."""

    name = NAME
    user = API_SERVER
    interests = (
        Interest(LEASES, _of_lease, field_selector=f"metadata.namespace={NAMESPACE}"),
        Interest(SERVICES, _of_service, field_selector=_OF_SERVICE),
        Interest(ENDPOINTS, _of_service, field_selector=_OF_SERVICE),
        Interest(ENDPOINT_SLICES, _of_service, field_selector="metadata.namespace=default"),
    )
    initial_keys = (RENEW, CORRECT)

    def __init__(
        self, server: Server, hostname: str, identity: str, config: AdmissionConfig
    ) -> None:
        self.server = server
        self._lease = lease_name(server)
        self._hostname, self._identity, self._config = hostname, identity, config

    def start_memory(self, now: Instant) -> Memory:
        return Memory(Map())

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        memory: Memory = local.memory
        if key == RENEW:
            return self._renew(view, memory, now)
        return self._correct(view, memory, now)

    def _renew(self, view: View, memory: Memory, now: Instant) -> Plan:
        # Observe
        stored: Lease | None = view.get(LEASES, f"{NAMESPACE}/{self._lease}")

        # Decide
        if not _is_due(memory.renewed_at, now):
            return Plan(wake_at=(memory.renewed_at or 0) + PERIOD)
        lease = server_lease(self.server, self._hostname, self._identity, now)
        if stored is not None:
            version = stored.metadata.resource_version
            lease = replace(lease, metadata=replace(lease.metadata, resource_version=version))

        # Act
        verb = "create" if stored is None else "update"
        request = _request(verb, LEASES, lease)

        # Report
        return Plan(((request,),), memory=evolve(memory, renewed_at=now), wake_at=now + PERIOD)

    def _correct(self, view: View, memory: Memory, now: Instant) -> Plan:
        # Observe
        leases = view.list(LEASES)
        seen = memory.seen if 0 <= now - memory.looked_at <= 2 * PERIOD else Map[str, Renewal]()
        live, found, ended = find_live(leases, seen, now)
        memory = evolve(memory, seen=Map(found), looked_at=now)

        # Decide
        own = found.get(self._lease)
        deletions, corrections = [], list[Request]()
        if own is None or now - own.seen_at > 2 * PERIOD:
            memory = evolve(memory, seen=Map())  # the others may have been unable to renew, too
        elif _is_due(memory.corrected_at, now):
            deletions = [_deletion(lease) for lease in ended]
            corrections = self._corrections(view, {self.server, *live})

        # Act
        waves = (tuple(deletions), *((one,) for one in corrections))

        # Report
        enqueue = ((NAME, RENEW),) if _is_due(memory.renewed_at, now) else ()
        waves = tuple(wave for wave in waves if wave)
        if waves:
            memory = evolve(memory, corrected_at=now)
        return Plan(waves, memory=memory, wake_at=now + PERIOD, enqueue=enqueue)

    def _corrections(self, view: View, servers: Iterable[Server]) -> list[Request]:
        found = kubernetes_corrections(
            view.get(SERVICES, SERVICE),
            view.get(ENDPOINTS, SERVICE),
            [
                one
                for one in view.list(ENDPOINT_SLICES)
                if key_of(one) == SERVICE or is_of_servers(one)
            ],
            sorted(servers),
            self._config,
        )
        kinds = {kind.kind: kind for kind in _KINDS}
        return [_request(verb, kinds[obj.kind], obj) for verb, obj in found]


def _is_due(last: Instant | None, now: Instant) -> bool:
    """Whether it is time again; also after the clock was set back."""
    return last is None or not 0 <= now - last < PERIOD


def _request(verb: str, resource: Resource, obj: Any) -> Request:
    metadata: ObjectMeta = obj.metadata
    where = (resource, metadata.namespace or "", metadata.name or "")
    body = None if verb == "delete" else obj
    return Request(verb, *where, body=body, because=BECAUSE)


def _deletion(lease: Lease) -> Request:
    """Of the Lease of a server that has ended, unless it was just renewed."""
    version = Preconditions(resource_version=lease.metadata.resource_version)
    request = _request("delete", LEASES, lease)
    return evolve(request, body=DeleteOptions(preconditions=version))


def kubernetes_service(
    server: Server,
    hostname: str,
    identity: str,
    config: AdmissionConfig | None = None,
    name: str = NAME,
) -> Loop:
    """The machine of one API server. `name`: of the machine."""
    reconciler = KubernetesServiceReconciler(
        server, hostname, identity, config or AdmissionConfig()
    )
    return Loop(name, (reconciler,), component=NAME, user=API_SERVER)
