"""Sends the questions of a scheduler to its extenders. Rule SCHED-61 (spec/scheduler_profiles.md).

core/scheduler/extenders.py says what is asked and what the answers mean. A question has a
connection of its own, no redirect is followed, and no answer is longer than ANSWER_BYTES_MAX.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Callable
from urllib.parse import urlsplit

from refk8s.components.client.exchange import ask, dial
from refk8s.components.files import CannotRun, read_bounded
from refk8s.components.outgoing_calls import words_of
from refk8s.core.api import status
from refk8s.core.ports import Failed, Operation, Post, Posted, Result, Tls
from refk8s.core.scheduler.extenders import Extender
from refk8s.core.scheduler_configuration.extenders import TlsFiles
from refk8s.core.value import evolve

log = logging.getLogger("refk8s")

ANSWER_BYTES_MAX = 32 << 20
"""The longest answer: an extender without a cache returns whole nodes."""
PEM_BYTES_MAX = 1 << 20
TOO_LATE = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
USER_AGENT = "kube-scheduler"


class ExtenderCalls:
    """Carries out `Post`, as the port Runtime of a scheduler. Raises CannotRun if a certificate or
    key cannot be used."""

    def __init__(self, extenders: tuple[Extender, ...]) -> None:
        self._contexts = {one.tls: _context(one) for one in extenders}
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, operation: Operation, done: Callable[[Result], None]) -> None:
        assert isinstance(operation, Post)
        task = asyncio.get_running_loop().create_task(self._answer(operation, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Extenders report nothing by themselves."""

    async def _answer(self, post: Post, done: Callable[[Result], None]) -> None:
        result: Result
        try:
            async with asyncio.timeout(post.seconds):
                result = await self._exchange(post)
        except TimeoutError:
            result = _failed(post, TOO_LATE)
        except (OSError, ValueError) as error:
            result = _failed(post, words_of(error, post.url))
        except Exception:
            log.exception("a question to the extender %s has failed", post.url)
            result = _failed(post, "internal error")
        done(result)

    async def _exchange(self, post: Post) -> Result:
        parts = urlsplit(post.url)
        host, is_tls = parts.hostname or "", parts.scheme == "https"
        context = self._contexts[post.tls] if is_tls else None
        name = post.tls.server_name or host
        streams = await dial(host, parts.port or (443 if is_tls else 80), context, name)
        try:
            head = (
                f"POST {parts.path or '/'} HTTP/1.1\r\nhost: {parts.netloc.rpartition('@')[2]}\r\n"
                f"user-agent: {USER_AGENT}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(post.body)}\r\nconnection: close\r\n\r\n"
            )
            answer = await ask(streams, head.encode("latin-1") + post.body)
            if answer.code != 200:
                return Posted(answer.code, b"")
            return Posted(answer.code, await answer.read(ANSWER_BYTES_MAX))
        finally:
            with contextlib.suppress(Exception):
                streams[1].transport.abort()


def _failed(post: Post, why: str) -> Failed:
    return Failed("Unanswered", f"Post {status.show(post.url)}: {why}")


def with_files(extender: Extender, files: TlsFiles) -> Extender:
    """The extender with the content of its files. Raises CannotRun."""

    def content(path: str, data: bytes, field: str) -> bytes:
        if not path:
            return data
        return read_bounded(path, f"extenders: tlsConfig.{field}", PEM_BYTES_MAX)

    tls = extender.tls
    return evolve(
        extender,
        tls=Tls(
            tls.is_verified,
            tls.server_name,
            content(files.authorities, tls.authorities, "caFile"),
            content(files.certificate, tls.certificate, "certFile"),
            content(files.key, tls.key, "keyFile"),
        ),
    )


def _context(extender: Extender) -> ssl.SSLContext:
    """The TLS of connections to an extender. Raises CannotRun."""
    tls = extender.tls
    try:
        context = ssl.create_default_context(cadata=tls.authorities.decode("ascii") or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not tls.is_verified:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls.certificate or tls.key:
            _load_pair(context, tls)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise CannotRun(
            f"extender {extender.url}: the certificates of tlsConfig cannot be used: {error}"
        ) from None
    return context


def _load_pair(context: ssl.SSLContext, tls: Tls) -> None:
    """The certificate and key of this side, which `ssl` reads only from a file; it is readable by
    this user only, and removed at once."""
    descriptor, path = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(tls.certificate + b"\n" + tls.key)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
