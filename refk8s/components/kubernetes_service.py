"""The service default/kubernetes, at which pods reach the API server. Rule HOST-2 (spec/host.md).

The objects are checked every ten seconds, as in Kubernetes. Pods cannot reach a loopback address.
If the API server listens at one, it also listens at the address of the pods' bridge, for
connections that arrive at the bridge or come from this machine.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from refk8s.adapters.warn_once import WarnOnce
from refk8s.components.apiserver import ApiServer
from refk8s.components.connection import Listening
from refk8s.components.files import CannotRun
from refk8s.components.http import Front
from refk8s.components.listening import listen
from refk8s.components.periodic import Periodic
from refk8s.core.api import resources
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.bootstrap import (
    kubernetes_corrections,
    service_cidr_correction,
)
from refk8s.core.apiserver.admission.service_ranges import DEFAULT_NAME
from refk8s.core.ports import Nodes

RECONCILE_SECONDS = 10.0
LOOPBACK = "lo"
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

    async def round(self) -> float:
        """Check the socket and the objects."""
        await self.reconcile()
        return RECONCILE_SECONDS

    async def reconcile(self) -> None:
        """Open the socket if needed, and correct the objects."""
        await self._reconcile_ranges()
        address = await self._address()
        records = [
            self._api.store.get(resource.key("default", "kubernetes")) for resource, _ in _WHERE
        ]
        service, endpoints, endpoint_slice = [
            None if record is None else record.value for record in records
        ]
        for verb, obj in kubernetes_corrections(
            service, endpoints, endpoint_slice, address, self._port, self._api.config.admission
        ):
            resource = next(resource for resource, kind in _WHERE if kind == obj.kind)
            body: Any = None if verb == "delete" else obj
            where = (resource, "default", "kubernetes")
            response = await self._call(
                Request(
                    verb,
                    *where,
                    body=body,
                    user=self._user,
                    because="pods reach the API server by it",
                )
            )
            # a conflict is retried in the next round
            if not response.ok and response.code != 409:
                self._warn_once(
                    f"the {obj.kind} default/kubernetes cannot be corrected: {response.body.message}"
                )

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
