"""Makes the calls to other servers that requests need: admission webhooks, conversions and other
API servers. Rules CALL-1 to CALL-4, HOOK-13 (spec/webhooks.md), APISVC-7 (spec/api_services.md).

core/apiserver/calls.py says what is sent and what follows from the answer. The certificate of each
connection is verified, and no redirect is followed.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refk8s.components.certificates import Pair
from refk8s.components.client.exchange import CONNECT_SECONDS, BadAnswer, Streams, ask, dial
from refk8s.components.webhook_metrics import WebhookMetrics
from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.aggregation.remotes import Remote
from refk8s.core.apiserver.calls import (
    Answered,
    Call,
    Result,
    ServicePort,
    Unanswered,
)
from refk8s.core.ports import StreamFailed

if TYPE_CHECKING:
    from refk8s.components.webhook_credentials import OwnPair, WebhookCredentials

log = logging.getLogger("refk8s")

CALLS_MAX = 512
"""The most calls of one API server at a time. A further one fails at once: it may be a part of one
that is waiting (a webhook that is asked about its own writes)."""
IDLE_MAX = 64
IDLE_SECONDS = 30.0
"""How many connections are kept, and how long."""
CLOSED = "closed before an answer"
TOO_LATE = "context deadline exceeded"

Reach = Callable[[ServicePort], Awaitable[Streams]]
"""A connection to a ready endpoint of a service. Raises ApiError, StreamFailed and OSError."""


class OutgoingCalls:
    """The calls of one API server. `reach` connects to services; None before there are nodes.
    Connections are kept for further calls to the same server, for a short time."""

    def __init__(self) -> None:
        self.reach: Reach | None = None
        self.find_certificate: Callable[[], Pair] | None = None  # of this server as a client
        self._certificate: Pair | None = None
        # by the type of webhooks: mutating and validating ones (HOOK-13)
        self.credentials: Mapping[str, WebhookCredentials] = {}
        self.webhooks = WebhookMetrics()
        self._open = 0
        self._idle: dict[Key, list[tuple[float, Streams]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def make(self, calls: Sequence[Call], seconds: float) -> list[Result]:
        """Make these calls at the same time; their results, in their order. `seconds`: how long
        they may take at most."""
        return list(await asyncio.gather(*[self._measured(call, seconds) for call in calls]))

    def close(self) -> None:
        """Close the idle connections."""
        if self._timer is not None:
            self._timer.cancel()
        for kept in self._idle.values():
            for _, streams in kept:
                streams[1].transport.abort()
        self._idle.clear()

    async def _measured(self, call: Call, seconds: float) -> Result:
        if call.asked is None:
            return await self._make(call, seconds)
        start = perf_counter()
        result = await self._make(call, seconds)
        self.webhooks.add(call, result, perf_counter() - start)
        return result

    async def _make(self, call: Call, seconds: float) -> Result:
        if self._open >= CALLS_MAX:
            return _failed(call, "too many calls to other servers are in progress")
        self._open += 1
        try:
            async with asyncio.timeout(max(0.0, min(call.seconds, seconds))):
                if (streams := self._take(call)) is not None:
                    try:
                        return await self._exchange(call, streams)
                    except ConnectionError:
                        pass  # the server has closed the idle connection: a new one is made
                    except BadAnswer as error:
                        if CLOSED not in str(error):
                            raise
                return await self._exchange(call, await self._connect(call))
        except TimeoutError:
            return _failed(call, TOO_LATE)
        except ApiError as error:
            return _failed(call, error.status.message or "")
        except (OSError, StreamFailed, ValueError) as error:
            return _failed(call, words_of(error, call.url))
        except Exception:
            log.exception("a call to %s has failed with an internal error", call.url)
            return _failed(call, "internal error")
        finally:
            self._open -= 1

    async def _connect(self, call: Call) -> Streams:
        parts = urlsplit(call.url)
        context = self._context(call.ca_bundle, call.is_verified, call.is_of_proxy)
        if (known := self._credentials_of(call)) is not None:
            context = _context(call.ca_bundle, call.is_verified, known.certificate(call))
        host = parts.hostname or ""
        if call.service is not None:
            return await self._start_tls(await self._reach(call.service), context, host)
        return await self._start_tls(await dial(host, parts.port or 443), context, host)

    async def connect_to(self, remote: Remote) -> Streams:
        """A connection to another API server, whose certificate is verified (APISVC-7). Raises
        ApiError, StreamFailed, OSError and ValueError."""
        context = self._context(remote.ca_bundle, remote.is_verified, True)
        async with asyncio.timeout(CONNECT_SECONDS):
            streams = await self._reach(remote.service)
            return await self._start_tls(streams, context, remote.host)

    async def _reach(self, service: ServicePort) -> Streams:
        if self.reach is None:
            name = status.show(service.name)
            raise StreamFailed(f"no endpoints available for service {name}")
        return await self.reach(service)

    async def _start_tls(self, streams: Streams, context: ssl.SSLContext, host: str) -> Streams:
        try:
            await streams[1].start_tls(context, server_hostname=host)
        except BaseException:
            streams[1].transport.abort()
            raise
        return streams

    def _context(self, ca_bundle: bytes, is_verified: bool, is_of_proxy: bool) -> ssl.SSLContext:
        if is_of_proxy and self._certificate is None and self.find_certificate is not None:
            self._certificate = self.find_certificate()
        return _context(ca_bundle, is_verified, self._certificate if is_of_proxy else None)

    async def _exchange(self, call: Call, streams: Streams) -> Result:
        is_kept = False
        try:
            # after the request has been written, because sending ends the mode
            asyncio.get_running_loop().call_soon(_acknowledge_quickly, streams[1])
            known = self._credentials_of(call)
            answer = await ask(streams, _message(call, known.headers(call) if known else ()))
            answer.is_kept = True
            result = Answered(answer.code, await answer.read(call.answer_bytes_max))
            if answer.can_be_kept:
                is_kept = self._keep(call, streams)
            return result
        finally:
            if not is_kept:
                with contextlib.suppress(Exception):
                    streams[1].transport.abort()

    def _credentials_of(self, call: Call) -> "WebhookCredentials | None":
        return self.credentials.get(call.asked.type) if call.asked is not None else None

    # --- idle connections

    def _take(self, call: Call) -> Streams | None:
        """An idle connection to the same server, whose certificate was verified in the same way."""
        kept = self._idle.get(_key(call), [])
        while kept:
            _, streams = kept.pop()
            if not streams[0].at_eof() and not streams[1].is_closing():
                return streams
            streams[1].transport.abort()
        return None

    def _keep(self, call: Call, streams: Streams) -> bool:
        if sum(map(len, self._idle.values())) >= IDLE_MAX:
            return False
        loop = asyncio.get_running_loop()
        self._idle.setdefault(_key(call), []).append((loop.time(), streams))
        if self._timer is None:
            self._timer = loop.call_later(IDLE_SECONDS, self._expire)
        return True

    def _expire(self) -> None:
        """Close the connections that have been idle for long."""
        loop = asyncio.get_running_loop()
        self._timer = None
        for key, kept in list(self._idle.items()):
            while kept and kept[0][0] + IDLE_SECONDS <= loop.time():
                kept.pop(0)[1][1].transport.abort()
            if not kept:
                del self._idle[key]
        if self._idle:
            self._timer = loop.call_later(IDLE_SECONDS, self._expire)


def _acknowledge_quickly(writer: asyncio.StreamWriter) -> None:
    """A server that writes the head and the body of its answer apart may wait for our kernel to
    acknowledge the head, which it does after 40 ms otherwise."""
    sock = writer.get_extra_info("socket")
    if (
        sock is not None
        and hasattr(socket, "TCP_QUICKACK")
        and sock.family in (socket.AF_INET, socket.AF_INET6)
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


Key = tuple[str, ServicePort | None, bytes, bool, bool, str]


def _key(call: Call) -> Key:
    place = urlsplit(call.url).netloc, call.service
    # credentials for mutating and validating webhooks are different ones
    type_ = "" if call.asked is None else call.asked.type
    return *place, call.ca_bundle, call.is_verified, call.is_of_proxy, type_


def _message(call: Call, credentials: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    parts = urlsplit(call.url)
    lines = [
        f"{call.method} {parts.path or '/'}?{parts.query} HTTP/1.1",
        f"host: {parts.netloc}",
        "accept: application/json",
        f"user-agent: {'kube-aggregator' if call.is_of_proxy else 'kube-apiserver-admission'}",
    ]
    if call.body or call.method == "POST":
        lines.append(f"content-length: {len(call.body)}")
    if call.content_type:
        lines.append(f"content-type: {call.content_type}")
    found = [line.encode("latin-1", "replace") for line in lines]
    found += [name + b": " + value for name, value in (*call.headers, *credentials)]
    return b"\r\n".join(found) + b"\r\n\r\n" + call.body


@lru_cache(maxsize=128)
def _context(ca_bundle: bytes, is_verified: bool, own: "Pair | OwnPair | None") -> ssl.SSLContext:
    """Verifies the certificate by these authorities, or by those of the system. `own`: the
    certificate of this side. Raises ValueError."""
    if not is_verified:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not ca_bundle:
        context = ssl.create_default_context()
    else:
        try:
            context = ssl.create_default_context(cadata=ca_bundle.decode("ascii"))
        except (ssl.SSLError, ValueError):
            words = "unable to load root certificates: unable to parse bytes as PEM block"
            raise ValueError(words) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if isinstance(own, Pair):
        context.load_cert_chain(own.certificate, own.key)
    elif own is not None:  # few servers have credentials for webhooks
        from refk8s.components.client.tls import as_file, no_password
        from refk8s.core.client.kubeconfig import Pem

        with as_file(Pem(content=own[0])) as certificate, as_file(Pem(content=own[1])) as key:
            context.load_cert_chain(certificate, key, password=no_password)
    return context


def _failed(call: Call, why: str) -> Unanswered:
    return Unanswered(f"{call.method.capitalize()} {status.show(call.url)}: {why}")


def words_of(error: Exception, url: str) -> str:
    """The error of a connection to this URL as upstream's client says it."""
    place = urlsplit(url)
    address = f"{place.hostname}:{place.port or 443}"
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"tls: failed to verify certificate: x509: {_of_certificate(error, place.hostname)}"
            )
        case ssl.SSLError():
            return f"tls: {error.reason or error}"
        case ConnectionRefusedError():
            return f"dial tcp {address}: connect: connection refused"
        case ConnectionResetError():
            return "read: connection reset by peer"
        case BadAnswer() if "closed" in str(error):
            return "EOF"
    if type(error).__name__ == "gaierror":
        return f"dial tcp: lookup {place.hostname}: no such host"
    return str(getattr(error, "strerror", None) or error).lower()


def _of_certificate(error: ssl.SSLCertVerificationError, host: str | None) -> str:
    expired, not_yet, mismatch, ip_mismatch = 10, 9, 62, 64
    if error.verify_code in (expired, not_yet):
        return "certificate has expired or is not yet valid"
    if error.verify_code in (mismatch, ip_mismatch):
        return f"certificate is not valid for {host}"
    return "certificate signed by unknown authority"
