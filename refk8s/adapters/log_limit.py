"""The limit of a log request in bytes. Rule RT-13."""

from collections.abc import AsyncGenerator
from contextlib import aclosing


async def limited(
    pieces: AsyncGenerator[bytes, None], bytes_max: int
) -> AsyncGenerator[bytes, None]:
    """Yield at most this many bytes of `pieces` (-1: all of them), then close `pieces`."""
    left = bytes_max
    async with aclosing(pieces):
        async for piece in pieces:
            if left >= 0:
                piece, left = piece[:left], left - min(left, len(piece))
            if piece:
                yield piece
            if left == 0:
                return
