"""The log of a container, as the engine keeps it. Rule RT-13."""

from collections.abc import AsyncIterator
from urllib.parse import urlencode

from refk8s.adapters.docker.stream import Frames, Streams
from refk8s.core.apiserver.pod_log import LogOptions
from refk8s.core.context import SECOND


async def read_log(streams: Streams, container_id: str, options: LogOptions) -> AsyncIterator[bytes]:
    """The part of the log that is asked for, as it comes; with `follow` until the container ends."""
    inspected = await streams.ask("GET", f"/containers/{container_id}/json")
    query = {
        "stdout": int(options.stdout),
        "stderr": int(options.stderr),
        "follow": int(options.follow),
        "timestamps": int(options.timestamps),
        "tail": "all" if options.tail_lines < 0 else options.tail_lines,
    }
    if options.since:
        query["since"] = f"{options.since // SECOND}.{options.since % SECOND * 1000:09d}"
    left = options.limit_bytes
    frames = None if inspected["Config"]["Tty"] else Frames()
    async for data in streams.read("GET", f"/containers/{container_id}/logs?{urlencode(query)}"):
        pieces = [data] if frames is None else [piece for _, piece in frames.take(data)]
        for piece in pieces:
            if left >= 0:
                piece, left = piece[:left], left - min(left, len(piece))
            if piece:
                yield piece
            if left == 0:
                return


