"""A bounded cache of the texts of lists. Rules LIST-13, HTTP-7 and HTTP-16.

core/apiserver/list_text.py decides which lists are cached; this file bounds their number and size.
"""

import asyncio
from typing import Any

from refk8s.core.api.request import Response
from refk8s.core.apiserver.accept import PLAIN_JSON
from refk8s.core.apiserver.http import Received
from refk8s.core.apiserver.list_text import ListText, keep, recall
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.respond import Reply, compressed
from refk8s.core.value import Value, evolve

LISTS_MAX = 16
LISTS_BYTES_MAX = 64 << 20  # of all together, compressed forms included
PLACE_BYTES_MAX = 1 << 10  # of a path and query
# A cached list is joined to pieces of this length. Each piece is one write, and the connection
# keeps a copy of it until the client has read it.
PIECE_BYTES_MAX = 256 << 10

Place = tuple[bytes, bytes]


class _Kept(Value, frozen=True):
    text: ListText
    packed: bytes = b""  # the part after the revision, compressed
    is_joined: bool = False

    @property
    def size(self) -> int:
        return len(self.text.before) + sum(map(len, self.text.after)) + len(self.packed)


def joined(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The same bytes in pieces of at most PIECE_BYTES_MAX; a longer piece is not split."""
    found: list[list[bytes]] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if not found or length > PIECE_BYTES_MAX:
            found.append([])
            length = len(piece)
        found[-1].append(piece)
    return tuple([b"".join(together) for together in found])


class KeptLists:
    """At most LISTS_MAX lists and LISTS_BYTES_MAX bytes of them, by path and query; the oldest is
    dropped first."""

    def __init__(self) -> None:
        self._kept: dict[Place, _Kept] = {}

    def recall(self, place: Place, received: Received, store: Reader) -> Reply | None:
        """The reply to this request, if its list is cached and current. The user must have been
        authorized before."""
        kept = self._kept.get(place)
        if kept is None or received.form != PLAIN_JSON:
            return None
        reply = recall(kept.text, store)
        if reply is not None and not kept.is_joined:
            # It is joined only now, because a list that changes between two requests is never
            # recalled.
            after = joined(reply.more)
            self._kept[place] = evolve(kept, text=evolve(kept.text, after=after), is_joined=True)
            reply = evolve(reply, more=after)
        return reply

    async def gzipped(self, place: Place, reply: Reply) -> Reply:
        """A recalled reply, compressed; only its first bytes are compressed again each time."""
        kept = self._kept[place]
        packed = kept.packed or await asyncio.to_thread(compressed, kept.text.after)
        if not kept.packed and self._kept.get(place) is kept:
            self._put(place, evolve(kept, packed=packed))
        return evolve(reply, content=compressed((reply.content,)), more=(packed,), encoding="gzip")

    def keep(
        self, place: Place, received: Received, response: Response, reply: Reply, store: Reader
    ) -> None:
        """Cache the reply to a list, if it can be cached."""
        if (
            sum(map(len, place)) <= PLACE_BYTES_MAX
            and (text := keep(received, response, reply, store)) is not None
        ):
            self._put(place, _Kept(text))

    def _put(self, place: Place, kept: Any) -> None:
        self._kept.pop(place, None)
        if kept.size > LISTS_BYTES_MAX:
            return
        self._kept[place] = kept
        while (
            len(self._kept) > LISTS_MAX
            or sum(one.size for one in self._kept.values()) > LISTS_BYTES_MAX
        ):
            del self._kept[next(iter(self._kept))]
