"""Connections from the network namespace of another process.

A socket belongs to the network namespace of the thread that creates it. So a new thread enters the
other namespace, connects, and returns the socket.
"""

import asyncio
import ctypes
import os
import socket
import threading
from typing import Any

CONNECT_SECONDS_MAX = 10.0
_NEW_NETWORK = 0x40000000


class CannotEnter(Exception):
    """This process may not enter the namespace, or the process has ended."""


async def connect_in_namespace(process: int, port: int) -> socket.socket:
    """Connect to this port of the loopback device in the network namespace of a process (0: none).

    Raises CannotEnter, or OSError if the connection fails.
    """
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

    # The thread cannot leave the namespace, so it is used once.
    threading.Thread(target=work, name="refk8s-forward", daemon=True).start()
    return await done


def _enter_and_connect(process: int, port: int) -> socket.socket:
    """Runs in a thread that ends afterwards."""
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
