"""The name server of a node behind the service kube-system/kube-dns. Rule DNS-19 (spec/dns.md).

The node's slice is checked every ten seconds, as that of the service `kubernetes` is.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from refk8s.adapters.warn_once import WarnOnce
from refk8s.components.periodic import Periodic
from refk8s.core.api import resources
from refk8s.core.api.dns_slice import NAME, NAMESPACE, slice_name
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.network.dns_machine import USER
from refk8s.core.network.dns_slice import correct_slice
from refk8s.core.ports import NameServer

LOOK_SECONDS = 10.0
RETRY_SECONDS = 1.0


class Unavailable(Exception):
    """The API server does not say whether an object exists; the message is the reason."""


class ClusterDns(Periodic):
    """Keeps the sockets of a name server and the slice that leads to it."""

    subject = "the service kube-dns"
    failure_pause_seconds = RETRY_SECONDS

    def __init__(
        self,
        server: NameServer,
        node_name: str,
        call: Callable[[Request], Awaitable[Response | None]],
    ) -> None:
        self._server = server
        self._node_name = node_name
        self._call = call
        self._warn_once = WarnOnce()

    def stop(self) -> None:
        """Stop checking, and stop the server."""
        super().stop()
        self._server.close()

    async def round(self) -> float:
        """Check the sockets and the slice."""
        return LOOK_SECONDS if await self.reconcile() else RETRY_SECONDS

    async def reconcile(self) -> bool:
        """Open the sockets and correct the slice if needed; whether nothing is left to do."""
        try:
            address, ports = await self._server.listen()
        except OSError as error:
            self._warn_once(f"pods cannot resolve names: {error}; it is tried again")
            return False
        where = (resources.ENDPOINT_SLICES, NAMESPACE, slice_name(self._node_name))
        try:
            node = await self._get(resources.NODES, "", self._node_name)
            service = await self._get(resources.SERVICES, NAMESPACE, NAME)
            found = await self._get(*where)
        except Unavailable as error:
            self._warn_once(f"the service {NAME} cannot be checked: {error}; it is tried again")
            return False
        writes = correct_slice(service, found, node, address, ports)
        for verb, obj in writes:
            body = None if verb == "delete" else obj
            response = await self._call(
                Request(verb, *where, body=body, user=USER, because="pods resolve names by it")
            )
            if response is None or not (response.ok or response.code in (404, 409)):
                self._warn_once(
                    f"the EndpointSlice {NAMESPACE}/{where[2]} cannot be corrected: "
                    f"{_words(response)}"
                )
        return node is not None and not writes

    async def _get(self, resource: Resource, namespace: str, name: str) -> Any | None:
        """The object, or None if it does not exist. Raises Unavailable if that is unknown."""
        response = await self._call(Request("get", resource, namespace, name, user=USER))
        if response is not None and (response.ok or response.code == 404):
            return response.body if response.ok else None
        raise Unavailable(_words(response))


def _words(response: Response | None) -> str:
    return "no answer" if response is None else str(response.body.message)
