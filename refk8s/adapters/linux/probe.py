"""Probes and hooks over the network, from the node to the pod, on asyncio. Rule RT-10.

| answer of an HTTP server | verdict |
|---|---|
| 200 to 399 | success; a redirection within the same host is followed first, at most ten times |
| any other code, a time-out, no connection | failure, with the message of Kubernetes |

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes" (HTTP probes,
TCP probes).
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urljoin, urlsplit

import httptools

from refk8s.adapters.linux.grpc_probe import probe_grpc
from refk8s.core.ports import Probe, Probed, RunHook

REDIRECTIONS_MAX = 10
BODY_BYTES_MAX = 10 * 1024
USER_AGENT = "kube-probe/1.37"


class _Reply:
    """The parsed response of an HTTP server."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        # Scripts of small servers end their lines with LF only.
        self.parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        self.code = 0
        self.location = ""
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.code = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if len(self.body) < BODY_BYTES_MAX:
            self.body += body[: BODY_BYTES_MAX - len(self.body)]

    def on_message_complete(self) -> None:
        self.complete = True


async def run_probe(operation: Probe | RunHook, address: str) -> Probed:
    """Run an http, tcp or grpc probe, or an http hook, against this address, with the time-out of
    the operation (RT-10)."""
    host = operation.host or address
    if operation.action == "grpc":
        late = "error: health rpc did not complete within the time-out"
        return await _in_time(_grpc(host, operation.port, operation.path), operation, late)
    if operation.action == "tcp":
        return await _in_time(
            _tcp(host, operation.port),
            operation,
            f"dial tcp {_place(host, operation.port)}: i/o timeout",
        )
    url = f"{operation.scheme.lower()}://{_place(host, operation.port)}/{operation.path.removeprefix('/')}"
    late = (
        f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    )
    return await _in_time(_http(url, operation.headers), operation, late)


async def _in_time(
    question: Coroutine[Any, Any, Probed], operation: Probe | RunHook, late: str
) -> Probed:
    try:
        return await asyncio.wait_for(question, max(1, operation.timeout_seconds))
    except TimeoutError:
        return Probed(False, late)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _grpc(host: str, port: int, service: str) -> Probed:
    try:
        return await probe_grpc(host, port, service)
    except OSError as error:
        return Probed(
            False, f'error: failed to connect service "{_place(host, port)}": {_plain(error)}'
        )


async def _tcp(host: str, port: int) -> Probed:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Probed(False, f"dial tcp {_place(host, port)}: connect: {_plain(error)}")
    await _close(writer)
    return Probed(True)


async def _http(url: str, headers: tuple[tuple[str, str], ...]) -> Probed:
    for _ in range(REDIRECTIONS_MAX + 1):
        parts = urlsplit(url)
        try:
            reply = await _get(
                parts.scheme,
                parts.hostname or "",
                parts.port,
                parts.path or "/",
                parts.query,
                headers,
            )
        except OSError as error:
            return Probed(False, f'Get "{url}": dial tcp {parts.netloc}: connect: {_plain(error)}')
        except (httptools.HttpParserError, ValueError):
            return Probed(False, f'Get "{url}": malformed HTTP response')
        if reply.code == 0:
            return Probed(False, f'Get "{url}": EOF')
        following = (
            urljoin(url, reply.location) if reply.location and 300 <= reply.code < 400 else ""
        )
        if not following or urlsplit(following).hostname != parts.hostname:
            words = reply.body.decode("utf-8", "replace")
            return (
                Probed(True, words)
                if 200 <= reply.code < 400
                else Probed(False, f"HTTP probe failed with statuscode: {reply.code}")
            )
        url = following
    return Probed(False, f'Get "{url}": stopped after {REDIRECTIONS_MAX} redirects')


def _plain(error: OSError) -> str:
    """The system's message for an error, in lower case as in Kubernetes. (asyncio's message would
    repeat the address.)"""
    return (os.strerror(error.errno) if error.errno else str(error) or type(error).__name__).lower()


async def _get(
    scheme: str,
    host: str,
    port: int | None,
    path: str,
    query: str,
    headers: tuple[tuple[str, str], ...],
) -> _Reply:
    tls = None
    if scheme == "https":
        tls = ssl.create_default_context()
        # As in Kubernetes, the certificate of a pod is not verified.
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    default = 443 if scheme == "https" else 80
    reader, writer = await asyncio.open_connection(host, port or default, ssl=tls)
    try:
        target = f"{path}?{query}" if query else path
        given = {name.lower() for name, _ in headers}
        lines = [f"GET {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers]]
        if "host" not in given:
            lines.append(f"Host: {_place(host, port or default)}")
        if "user-agent" not in given:
            lines.append(f"User-Agent: {USER_AGENT}")
        if "accept" not in given:
            lines.append("Accept: */*")
        lines.append("Connection: close")
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
        reply = _Reply()
        while not reply.complete and len(reply.body) < BODY_BYTES_MAX:
            data = await reader.read(65536)
            if not data:
                break
            reply.parser.feed_data(data)
        return reply
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
