"""Connections to the loopback address in a pod's network, for port forwarding. Rule RT-15.

If this process may not enter the pod's network namespace, it connects to the pod's address. Servers
that listen only on the pod's loopback address are then not reachable.
"""

import asyncio

from refk8s.adapters.docker.streams.connection import Streams, engine_id
from refk8s.adapters.linux.namespaces import CONNECT_SECONDS_MAX, CannotEnter, connect_in_namespace


async def connect(
    streams: Streams, sandbox_id: str, address: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to this port in the network of a sandbox with this address. Raises OSError if it
    is refused."""
    inspected = await streams.ask("GET", f"/containers/{engine_id(sandbox_id)}/json")
    process = int(inspected["State"].get("Pid") or 0)
    try:
        connected = await connect_in_namespace(process, port)
    except CannotEnter:
        return await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_SECONDS_MAX)
    return await asyncio.open_connection(sock=connected)
