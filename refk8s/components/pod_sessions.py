"""exec and attach: a client on one side, a session with a container on the other. Rules RT-14,
STREAM-3.

What the messages mean is decided in core/apiserver/pod_exec.py; `wires.py` carries them over a
WebSocket or SPDY.
"""

import asyncio
import contextlib
from typing import Protocol

from refk8s.core.api.meta_v1 import Status
from refk8s.core.apiserver.pod_exec import ExecOptions, Input, compute_end, compute_failure
from refk8s.core.ports import Session


class Wire(Protocol):
    """The client's side of a session, whatever the protocol."""

    async def receive(self) -> Input | None:
        """The next message of the client; None when it has left."""

    async def send(self, channel: int, data: bytes) -> None:
        """Bytes of a channel. Waits while the client does not read."""

    async def end(self, status: Status) -> None:
        """How it ended; then the end of the stream."""


async def carry(session: Session, options: ExecOptions, wire: Wire) -> None:
    """Carry everything both ways until the command ends or the client leaves; then send the end,
    once and last."""
    incoming = asyncio.ensure_future(_carry_input(session, options, wire))
    outgoing = asyncio.ensure_future(_carry_output(session, options, wire))
    try:
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        if not outgoing.done():
            return  # The client has left.
        try:
            outgoing.result()
            # A client of attach reads the exit code from the pod's status: as upstream, attach
            # reports none.
            end = compute_end(options.command, await session.exit_code() if options.command else 0)
        except Exception as error:
            end = compute_failure(str(error) or type(error).__name__)
        incoming.cancel()
        # From here on the wire reads by itself.
        await asyncio.gather(incoming, return_exceptions=True)
        # The client may leave at this very moment.
        with contextlib.suppress(RuntimeError, OSError):
            await wire.end(end)
    finally:
        session.close()
        for task in (incoming, outgoing):
            task.cancel()
        await asyncio.gather(incoming, outgoing, return_exceptions=True)


async def _carry_input(session: Session, options: ExecOptions, wire: Wire) -> None:
    """From the client to the container; returns when the client has left."""
    while (message := await wire.receive()) is not None:
        with contextlib.suppress(OSError):  # The program may have ended.
            if message.size is not None:
                await session.resize(*message.size)
            elif message.is_end:
                session.end_input()
            elif message.data and options.stdin:
                await session.write(message.data)


async def _carry_output(session: Session, options: ExecOptions, wire: Wire) -> None:
    """From the container to the client; returns at the end of its output."""
    wanted = {1: options.stdout, 2: options.stderr}
    async for channel, data in session.output():
        if wanted.get(channel):
            await wire.send(channel, data)
