"""Finds the engine and checks whether it answers, without the engine's client library.

So the error on a machine without Docker appears at once.

DOCKER_HOST is respected: unix://PATH, or tcp://HOST:PORT (with DOCKER_TLS_VERIFY only the
connection itself is tried).
"""

import http.client
import os
import socket
from collections.abc import Mapping

DEFAULT_HOST = "unix:///var/run/docker.sock"
PING_SECONDS_MAX = 2.0


def engine_host(environment: Mapping[str, str]) -> str:
    """The engine's address from the environment."""
    return environment.get("DOCKER_HOST", "").strip() or DEFAULT_HOST


def why_not(environment: Mapping[str, str], timeout_seconds: float = PING_SECONDS_MAX) -> str:
    """Why no engine can be used; empty if one answers."""
    host = engine_host(environment)
    kind, _, place = host.partition("://")
    if kind not in ("unix", "tcp", "http", "https"):
        return f"DOCKER_HOST {host!r} is neither unix://PATH nor tcp://HOST:PORT"
    try:
        code = _ping(kind, place, bool(environment.get("DOCKER_TLS_VERIFY")), timeout_seconds)
    except PermissionError:
        return f"this user may not open {place}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"no Docker engine answers at {host} ({words.lower() or 'no words'})"
    return (
        ""
        if code == 200
        else f"what answers at {host} is no Docker engine (it says {code} to /_ping)"
    )


def _ping(kind: str, place: str, tls: bool, timeout_seconds: float) -> int:
    connection = (
        _UnixConnection(place, timeout_seconds) if kind == "unix" else _tcp(place, timeout_seconds)
    )
    try:
        if tls or kind == "https":
            connection.connect()
            return 200
        connection.request("GET", "/_ping")
        return connection.getresponse().status
    finally:
        connection.close()


def _tcp(place: str, timeout_seconds: float) -> http.client.HTTPConnection:
    host, _, port = place.rstrip("/").rpartition(":")
    return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout_seconds)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket of this machine."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def engine_process() -> int:
    """The process that listens at the engine's socket on this machine, or 0 if unknown."""
    kind, _, place = engine_host(os.environ).partition("://")
    if kind != "unix" or not hasattr(socket, "SO_PEERCRED"):
        return 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(place)
            return int.from_bytes(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little"
            )
        except OSError:
            return 0


def sees_this_process() -> bool:
    """Whether this process has the same process id for the engine, as needed for /proc/PID."""
    engine = engine_process()
    try:
        with open(f"/proc/{engine}/status") as status:
            numbers = [line.split()[1:] for line in status if line.startswith("NSpid:")]
    except OSError:
        return False
    # In its own PID namespace it would have a second process id.
    return numbers == [[str(engine)]]
