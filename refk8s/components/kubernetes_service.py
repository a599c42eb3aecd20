"""The service default/kubernetes, at which pods reach the API servers. Rules HOST-2, HOST-20
(spec/host.md).

The objects are checked every ten seconds, as in Kubernetes. Pods cannot reach a loopback address.
If the API server listens at one, it also listens at the address of the pods' bridge, for
connections that arrive at the bridge or come from this machine. If other API servers may write to
the same store, a machine does the rest (core/apiserver/kubernetes_service.py): each server keeps
a Lease, and the service leads to all that live.
"""

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from refk8s.adapters.warn_once import WarnOnce
from refk8s.components.apiserver import ApiServer
from refk8s.components.connection import Listening
from refk8s.components.driver import Driver
from refk8s.components.files import CannotRun
from refk8s.components.http import Front
from refk8s.components.listening import listen
from refk8s.components.periodic import Periodic
from refk8s.components.this_machine import hostname
from refk8s.core.api import resources
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.bootstrap import (
    is_of_servers,
    kubernetes_corrections,
    service_cidr_correction,
)
from refk8s.core.apiserver.admission.service_ranges import DEFAULT_NAME
from refk8s.core.apiserver.kubernetes_service import NAME, kubernetes_service
from refk8s.core.apiserver.live_servers import NAMESPACE, Server, find_live, lease_name
from refk8s.core.ports import Nodes

RECONCILE_SECONDS = 10.0
LOOPBACK = "lo"
_SINGLE = (resources.SERVICES, resources.ENDPOINTS)
UNREACHABLE = "192.0.2.1"
"""For simulated nodes on a machine without an address; reserved for documentation."""

_WHERE = (
    (resources.SERVICES, "Service"),
    (resources.ENDPOINTS, "Endpoints"),
    (resources.ENDPOINT_SLICES, "EndpointSlice"),
)


class KubernetesService(Periodic):
    """Reconciles the service and its listening socket. The HTTP server closes the socket."""

    subject = "the service kubernetes"
    failure_pause_seconds = RECONCILE_SECONDS

    def __init__(
        self, api: ApiServer, front: Front, nodes: Nodes | None, call: Callable[[Request], Awaitable[Response]], user: User,
        bind: str, port: int, node_address: str,
    ) -> None:  # fmt: skip
        self._api, self._front, self._nodes, self._call, self._user = api, front, nodes, call, user
        self._bind, self._port, self._node_address = ipaddress.ip_address(bind), port, node_address
        self._listening: Listening | None = None
        self._listening_at: tuple[str, int] | None = None  # the bridge's address and number
        self._warn_once = WarnOnce()
        self._identity = secrets.token_hex(8)
        self._own: Server | None = None
        self._driver: Driver | None = None  # of the machine that knows this address

    async def round(self) -> float:
        """Check the socket and the objects."""
        await self.reconcile()
        return RECONCILE_SECONDS

    async def leave(self) -> None:
        """Remove this server from the service, unless it is the last one. To be called after
        `stop`, while the store is open."""
        if self._own is None:
            return
        name, self._own = lease_name(self._own), None
        await self._write("delete", resources.LEASES, NAMESPACE, name)
        assert self._driver is not None
        seen = self._driver.state.memories[NAME].seen
        others, _, _ = find_live(self._leases(), seen, self._api.clock.now())
        servers = [one for one in others if lease_name(one) != name]
        if servers:
            await self._correct(servers)

    async def reconcile(self) -> None:
        """Open the socket if needed, and correct the objects."""
        await self._reconcile_ranges()
        server = Server(await self._address(), self._port)
        if self._api.store.is_current or not server.address:
            await self._correct((server,))
        else:
            await self._run_machine(server)

    async def _correct(self, servers: Sequence[Server]) -> None:
        store = self._api.store
        records = [store.get(kind.key("default", "kubernetes")) for kind in _SINGLE]
        service, endpoints = [None if record is None else record.value for record in records]
        prefix = f"{resources.ENDPOINT_SLICES.prefix}default/kubernetes"
        slices = [record.value for record in store.list(prefix).records]
        for verb, obj in kubernetes_corrections(
            service,
            endpoints,
            [one for one in slices if one.metadata.name == "kubernetes" or is_of_servers(one)],
            servers,
            self._api.config.admission,
        ):
            resource = next(resource for resource, kind in _WHERE if kind == obj.kind)
            body = None if verb == "delete" else obj
            await self._write(verb, resource, "default", obj.metadata.name, body)

    async def _run_machine(self, own: Server) -> None:
        """Let the machine keep the Lease of this server and the objects."""
        if own == self._own:
            return
        if self._own is not None:  # its address has changed
            self._stop_machine()
            await self._write("delete", resources.LEASES, NAMESPACE, lease_name(self._own))
        self._own = own
        machine = kubernetes_service(own, hostname(), self._identity, self._api.config.admission)
        self._driver = Driver(machine, self._api, self._api.clock)
        self._driver.start()

    def _stop_machine(self) -> None:
        if self._driver is not None:
            self._driver.stop()

    def stop(self) -> None:
        super().stop()
        self._stop_machine()

    def _leases(self) -> list[Lease]:
        prefix = f"{resources.LEASES.prefix}{NAMESPACE}/apiserver-"
        return [record.value for record in self._api.store.list(prefix).records]

    async def _write(
        self,
        verb: str,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any = None,
    ) -> bool:
        """Whether it has taken effect."""
        request = Request(
            verb,
            resource,
            namespace,
            name,
            body=body,
            user=self._user,
            because="pods reach the API server by it",
        )
        response = await self._call(request)
        # a conflict is tried again in the next round
        if not response.ok and response.code not in (404, 409):
            self._warn_once(
                f"the {resource.kind} {namespace}/{name} cannot be corrected: {response.body.message}"
            )
        return response.ok

    async def _reconcile_ranges(self) -> None:
        """HOST-18: the ServiceCIDR of the flags is created again if it was deleted."""
        where = (resources.SERVICE_CIDRS, "", DEFAULT_NAME)
        record = self._api.store.get(resources.SERVICE_CIDRS.key("", DEFAULT_NAME))
        found = None if record is None else record.value
        correction = service_cidr_correction(found, self._api.config.admission)
        if correction is None:
            return
        verb, body = correction
        because = "services get addresses of the ranges of the flags"
        response = await self._call(
            Request(verb, *where, body=body, user=self._user, because=because)
        )
        if not response.ok and response.code != 409:
            self._warn_once(f"the ServiceCIDR kubernetes is not made: {response.body.message}")

    async def _address(self) -> str:
        """The address at which pods reach the API server; empty while unknown."""
        if self._bind.version == 4 and not self._bind.is_loopback and not self._bind.is_unspecified:
            return str(self._bind)
        try:
            address, device = ("", "") if self._nodes is None else await self._nodes.bridge()
            if address and not self._bind.is_unspecified:
                await self._listen(address, device)
        except (OSError, CannotRun) as error:
            self._warn_once(f"pods cannot reach the API server: {error}; it is tried again")
            return ""
        if not address or self._bind.is_unspecified:
            return (
                self._node_address
                if not ipaddress.ip_address(self._node_address).is_loopback
                else address or UNREACHABLE
            )
        return address

    async def _listen(self, address: str, device: str) -> None:
        """Listen at the bridge, for connections from the bridge and from this machine.

        Those from this machine are of its proxy and of pods in its network. Packets that arrive at
        another device are dropped, also if a neighbour routes the address to this machine.
        """
        at = (address, socket.if_nametoindex(device))
        if at == self._listening_at:
            return
        # the network was created again, and its device has another index
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        self._listening = await self._front.listen_also(
            listen(address, self._port, (device, LOOPBACK))
        )
        self._listening_at = at
