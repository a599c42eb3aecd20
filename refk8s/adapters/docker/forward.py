"""Connections into a pod's network, for port forwarding: to its own loopback, as if from inside.
Rule RT-15.

A socket belongs to the network namespace of the thread that makes it; so a thread of its own enters
the pod's, connects, and hands the socket out. Where this process may not do that, the pod's address
is tried from here: then servers on the pod's loopback are not reached.
"""

import asyncio
import ctypes
import os
import socket
import threading
from typing import Any

from refk8s.adapters.docker.stream import Streams, engine_id

CONNECT_SECONDS_MAX = 10.0
_NEW_NETWORK = 0x40000000


class CannotEnter(Exception):
    """This process may not enter other namespaces, or there is none to enter."""


async def connect(
    streams: Streams, sandbox_id: str, address: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to this port in the network of a sandbox that has this address. OSError where it
    is refused."""
    inspected = await streams.ask("GET", f"/containers/{engine_id(sandbox_id)}/json")
    process = int(inspected["State"].get("Pid") or 0)
    try:
        connected = await _in_namespace(process, port)
    except CannotEnter:
        return await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_SECONDS_MAX)
    return await asyncio.open_connection(sock=connected)


async def _in_namespace(process: int, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[socket.socket] = loop.create_future()

    def finish(result: Any, error: Exception | None) -> None:
        if done.cancelled():
            if result is not None:
                result.close()
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            result = _enter_and_connect(process, port)
        except Exception as problem:
            error = problem
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, result, error)

    # It stays in that namespace, so it is used once.
    threading.Thread(target=work, name="refk8s-forward", daemon=True).start()
    return await done


def _enter_and_connect(process: int, port: int) -> socket.socket:
    """In a thread that ends after this."""
    if not process or not hasattr(ctypes.CDLL(None), "setns"):
        raise CannotEnter
    try:
        namespace = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
    except OSError:
        raise CannotEnter from None
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _NEW_NETWORK) != 0:
            raise CannotEnter
    finally:
        os.close(namespace)
    try:
        connected = socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS_MAX)
    except ConnectionRefusedError as refused:
        try:
            connected = socket.create_connection(("::1", port), CONNECT_SECONDS_MAX)
        except OSError:
            raise refused from None
    connected.setblocking(False)
    return connected
