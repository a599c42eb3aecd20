"""The log of a container, as the engine keeps it. Rule RT-13."""

import contextlib
from collections.abc import AsyncGenerator
from urllib.parse import urlencode

from refk8s.adapters.docker.streams.connection import Frames, Streams, engine_id
from refk8s.adapters.log_limit import limited
from refk8s.core.context import SECOND
from refk8s.core.ports import LogOptions


async def open_log(
    streams: Streams, container_id: str, options: LogOptions
) -> AsyncGenerator[bytes, None]:
    """Stream the requested part of the log; with `follow` until the container ends.

    Returns after the engine has accepted the request, even if the log is still empty. Raises
    StreamRefused with the engine's message.
    """
    inspected = await streams.ask("GET", f"/containers/{engine_id(container_id)}/json")
    query = {
        "stdout": int(options.stdout),
        "stderr": int(options.stderr),
        "follow": int(options.follow),
        "timestamps": int(options.timestamps),
        "tail": "all" if options.tail_lines < 0 else options.tail_lines,
    }
    if options.since:
        query["since"] = f"{options.since // SECOND}.{options.since % SECOND * 1000:09d}"
    frames = None if inspected["Config"]["Tty"] else Frames()
    body = await streams.read(
        "GET", f"/containers/{engine_id(container_id)}/logs?{urlencode(query)}"
    )
    return limited(_pieces(body, frames), options.limit_bytes)


async def _pieces(
    body: AsyncGenerator[bytes, None], frames: Frames | None
) -> AsyncGenerator[bytes, None]:
    """The data of the frames; all bytes if the container has a terminal."""
    async with contextlib.aclosing(body):
        async for data in body:
            for piece in [data] if frames is None else [part for _, part in frames.take(data)]:
                yield piece
