"""The health check node ports of one node, by HTTP. Rule NET-22 (spec/network.md).

Load balancers in front of the nodes ask here which node has endpoints of a Service. Clients are
unknown, so a port answers few connections at a time, each for a few seconds and one request.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping

import h11

from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.ports import HealthCheck

log = logging.getLogger("refk8s")

CONNECTIONS_MAX = 64  # of one port
SECONDS_MAX = 5.0  # of one connection
READ_BYTES = 16_384
REQUEST_BYTES_MAX = 16_384


class HealthChecks:
    """Answers at the ports of the last set. All methods are called in the event loop's thread."""

    def __init__(self) -> None:
        self._checks: Mapping[str, HealthCheck] = {}
        self._ports: dict[str, _Port] = {}
        self._warn_once = WarnOnce()
        self._changing = asyncio.Lock()

    async def program(self, checks: Mapping[str, HealthCheck]) -> None:
        """Listen as these checks require. A port that cannot be opened is logged once; the next set
        tries again."""
        self._checks = checks
        async with self._changing:
            for service in [
                service
                for service, port in self._ports.items()
                if self._checks.get(service, NO_CHECK).port != port.number
            ]:
                await self._ports.pop(service).close()
            for service, check in sorted(self._checks.items()):
                port = self._ports.get(service)
                if port is None:
                    port = _Port(service, check.port)
                    try:
                        await port.open()
                    except OSError as error:
                        self._warn_once(
                            f"the health check port {check.port} of the service {service} "
                            f"cannot be opened: {error.strerror or error}"
                        )
                        continue
                    self._ports[service] = port
                port.endpoints = check.endpoints

    async def close(self) -> None:
        """Close all ports."""
        await self.program({})


NO_CHECK = HealthCheck(0, 0)


class _Port:
    """The port of one service."""

    def __init__(self, service: str, number: int) -> None:
        self.number = number
        self.endpoints = 0
        self._namespace, _, self._name = service.partition("/")
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "0.0.0.0", self.number)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            # a client that disconnects or sends no request gets no answer
            with contextlib.suppress(OSError, TimeoutError, h11.RemoteProtocolError):
                async with asyncio.timeout(SECONDS_MAX):
                    await self._answer(reader, writer)
        except asyncio.CancelledError:
            pass  # the port is closed
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_BYTES_MAX)
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        if not isinstance(event, h11.Request):
            return
        body = self._body()
        response = h11.Response(
            status_code=200 if self.endpoints else 503,
            headers=[
                ("Content-Type", "application/json"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Load-Balancing-Endpoint-Weight", str(self.endpoints)),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ],
        )
        sent = connection.send(response) or b""
        if event.method != b"HEAD":
            sent += connection.send(h11.Data(data=body)) or b""
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def _body(self) -> bytes:
        described = {
            "service": {"namespace": self._namespace, "name": self._name},
            "localEndpoints": self.endpoints,
            "serviceProxyHealthy": True,
        }
        return json.dumps(described, indent="\t").encode() + b"\n"
