"""exec and attach: copies bytes between a client and a session in a container.

Rules RT-14, STREAM-3. core/apiserver/pod_exec.py interprets the messages; `wires.py` transfers them
over a WebSocket or SPDY.
"""

import asyncio
import contextlib
from typing import Protocol

from refk8s.core.api.meta_v1 import Status
from refk8s.core.apiserver.pod_exec import Input, compute_end, compute_failure
from refk8s.core.ports import ExecOptions, Session


class Wire(Protocol):
    """The connection to the client, over any of the protocols."""

    async def receive(self) -> Input | None:
        """The next message of the client; None after it has disconnected."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes on a channel. Waits while the client does not read."""

    async def end(self, status: Status) -> None:
        """Send the final status, then end the stream."""


async def carry(session: Session, options: ExecOptions, wire: Wire) -> None:
    """Copy both directions until the command ends or the client disconnects.

    The last message is the status, sent once.
    """
    incoming = asyncio.ensure_future(_carry_input(session, options, wire))
    outgoing = asyncio.ensure_future(_carry_output(session, options, wire))
    try:
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        if not outgoing.done():
            return  # The client has left.
        try:
            outgoing.result()
            # As upstream, attach reports no exit code: its clients read it from the pod's
            # status.
            end = compute_end(options.command, await session.exit_code() if options.command else 0)
        except Exception as error:
            end = compute_failure(str(error) or type(error).__name__)
        incoming.cancel()
        # From here on the wire reads the input itself.
        await asyncio.gather(incoming, return_exceptions=True)
        # The client may disconnect at this moment.
        with contextlib.suppress(RuntimeError, OSError):
            await wire.end(end)
    finally:
        session.close()
        for task in (incoming, outgoing):
            task.cancel()
        await asyncio.gather(incoming, outgoing, return_exceptions=True)


async def _carry_input(session: Session, options: ExecOptions, wire: Wire) -> None:
    """Copy from the client to the container until the client disconnects."""
    while (message := await wire.receive()) is not None:
        with contextlib.suppress(OSError):  # The program may have ended.
            if message.size is not None:
                await session.resize(*message.size)
            elif message.is_end:
                session.end_input()
            elif message.data and options.stdin:
                await session.write(message.data)


async def _carry_output(session: Session, options: ExecOptions, wire: Wire) -> None:
    """Copy from the container to the client until the end of its output."""
    wanted = {1: options.stdout, 2: options.stderr}
    async for channel, data in session.output():
        if wanted.get(channel):
            await wire.send(channel, data)
