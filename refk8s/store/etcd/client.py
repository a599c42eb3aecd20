"""Calls of an etcd cluster over one connection, and what their errors mean. Rules ETCD-1, ETCD-5
and ETCD-10 (spec/etcd.md).

One HTTP/2 connection to one member carries all calls and the watch. After a call fails because of
the connection or the member, the next call goes to the next member, with the files of the URL read
again. Callers repeat calls; an error only shows whether a failed call may have taken effect.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any, Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its lines about connections are not useful
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # a fork here always runs another program

import grpc
import grpc.aio

from refk8s.core.durations import Durations
from refk8s.core.store import Revision
from refk8s.core.store_port import StoreFull, StoreUnavailable, StoreUnknown, TxnRefused
from refk8s.store.errors import StoreRefused
from refk8s.store.etcd.address import EtcdAddress
from refk8s.store.etcd.messages import (
    CompactionRequest,
    CompactionResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
    WatchRequest,
    WatchResponse,
)

CALL_SECONDS: Final = 3.0
"""The time for the answer to one call. When the leader has died, calls of the other members get
none, and are repeated then."""

ANSWER_BYTES_MAX: Final = 256 << 20
"""The largest message that is accepted: a page of a list, or the changes of one transaction."""

CLOSE_SECONDS: Final = 5.0
"""The time that calls in flight get when the connection is left."""

FILE_BYTES_MAX: Final = 1 << 20

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.keepalive_time_ms", 10_000),  # etcd refuses clients that ping more often than every 5 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # also the time to connect
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.minimal_stack", 1),  # 35 µs less for a call: no retries, no load balancing
)

_LEADER: Final = (("hasleader", "true"),)
"""A member without a leader refuses the call, and ends the watch (ETCD-10)."""

_UNSENT: Final = (
    "failed to connect to all addresses",
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: requested lease not found",
    "etcdserver: invalid auth token",
    "etcdserver: permission denied",
    "etcdserver: user name is empty",
)
"""The beginnings of errors after which the call certainly has no effect."""

_FULL: Final = "etcdserver: mvcc: database space exceeded"
"""The beginning of the error of a full etcd. The transaction that passes the quota takes effect,
and etcd answers this all the same."""

_REFUSED: Final = (
    "etcdserver: request is too large",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: key is not provided",
    "grpc: received message larger than max",
)
"""The beginnings of errors that the same call would always get."""

COMPACTED: Final = "etcdserver: mvcc: required revision has been compacted"


class RevisionCompacted(Exception):
    """The requested revision is compacted in etcd."""


class EtcdClient:
    """The calls of one etcd cluster. Raises StoreRefused if a file of the address cannot be
    read."""

    def __init__(self, address: EtcdAddress) -> None:
        self.address: Final = address
        self._place = 0
        # for /metrics: how long the calls of each operation took, and how many failed
        self.calls: dict[str, tuple[Durations, int]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._open()

    @property
    def endpoint(self) -> str:
        """The member to which the next call is sent."""
        return self.address.endpoints[self._place % len(self.address.endpoints)]

    def _open(self) -> None:
        address = self.address
        if address.is_tls:
            credentials = grpc.ssl_channel_credentials(
                _content(address.cacert), _content(address.key), _content(address.cert)
            )
            self._channel = grpc.aio.secure_channel(self.endpoint, credentials, _OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(self.endpoint, _OPTIONS)
        self._range = self._call("KV/Range", RangeRequest, RangeResponse)
        self._txn = self._call("KV/Txn", TxnRequest, TxnResponse)
        self._put = self._call("KV/Put", PutRequest, PutResponse)
        self._compact = self._call("KV/Compact", CompactionRequest, CompactionResponse)
        self._grant = self._call("Lease/LeaseGrant", LeaseGrantRequest, LeaseGrantResponse)

    def _call(self, name: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def txn(self, request: Any) -> Any:
        """Raises StoreUnavailable, StoreUnknown or TxnRefused, as all calls here."""
        return await self._answer("txn", self._txn, request)

    async def range(self, request: Any) -> Any:
        """A linearizable read; of the past if the request has a revision. Also raises
        RevisionCompacted."""
        return await self._answer("range", self._range, request)

    async def put(self, key: bytes, value: bytes) -> Any:
        """Write one key, whatever it holds."""
        return await self._answer("put", self._put, PutRequest(key=key, value=value))

    async def compact(self, revision: Revision) -> None:
        """Compact etcd at the revision."""
        try:
            await self._answer("compact", self._compact, CompactionRequest(revision=revision))
        except RevisionCompacted:
            return

    async def grant(self, seconds: int) -> int:
        """A new lease, after whose time etcd deletes the keys that are bound to it."""
        return int(
            (await self._answer("lease_grant", self._grant, LeaseGrantRequest(TTL=seconds))).ID
        )

    async def watch(self, request: Any) -> AsyncIterator[Any]:
        """The answers to a watch request, until an error ends it. Raises StoreUnavailable."""
        channel = self._channel
        call = channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=WatchRequest.SerializeToString,
            response_deserializer=WatchResponse.FromString,
        )(metadata=_LEADER)
        try:
            await call.write(request)
            while (response := await call.read()) is not grpc.aio.EOF:
                yield response
            raise StoreUnavailable(f"etcd at {self.endpoint} has ended the watch")
        except grpc.aio.AioRpcError as error:
            raise StoreUnavailable(_words(self.endpoint, error)) from error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise StoreUnavailable(f"etcd at {self.endpoint}: the connection was left") from None
        finally:
            call.cancel()
            self._leave(channel)

    async def _answer(self, operation: str, call: Any, request: Any) -> Any:
        begin, failed = perf_counter(), 1
        try:
            answer = await self._attempt(call, request)
            failed = 0
            return answer
        finally:
            durations, errors = self.calls.get(operation) or (Durations(), 0)
            durations.add(perf_counter() - begin)
            self.calls[operation] = durations, errors + failed

    async def _attempt(self, call: Any, request: Any) -> Any:
        channel = self._channel
        try:
            return await call(request, timeout=CALL_SECONDS, metadata=_LEADER)
        except grpc.aio.AioRpcError as error:
            details = error.details() or ""
            if details.startswith(COMPACTED):
                raise RevisionCompacted(details) from error
            words = _words(self.endpoint, error)
            if details.startswith(_REFUSED):
                raise TxnRefused(words) from error
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                self._leave(channel)
            if details.startswith(_FULL):
                raise StoreFull(words) from error
            kind = StoreUnavailable if details.startswith(_UNSENT) else StoreUnknown
            raise kind(words) from error
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise StoreUnknown(f"etcd at {self.endpoint}: the connection was left") from None

    def _leave(self, channel: Any) -> None:
        """Use the next member from now on, if this connection is still the present one."""
        if channel is not self._channel:
            return
        self._close_later(channel)
        self._place += 1
        try:
            self._open()
        except StoreRefused:
            # a file is being replaced: the old connection's files are gone, so wait for the new
            self._channel = grpc.aio.insecure_channel("ipv4:127.0.0.1:0")

    def _close_later(self, channel: Any) -> None:
        task = asyncio.get_running_loop().create_task(channel.close(CLOSE_SECONDS))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End the connection. What is in flight fails."""
        await self._channel.close()
        for task in list(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)


def _is_cancelled() -> bool:
    """Whether this task is cancelled. A call raises the same error if its connection is closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _words(endpoint: str, error: Any) -> str:
    """One line about an error of a call."""
    details = " ".join((error.details() or "").split())[:300]
    return f"etcd at {endpoint}: {details or error.code().name}"


def _content(path: str) -> bytes | None:
    """The content of a file of keys, None without a path."""
    if not path:
        return None
    try:
        with open(path, "rb") as file:
            return file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise StoreRefused(f"store {path}: {error.strerror}; check the files in the URL") from None
