"""The order of the answers to independent requests of one connection. Rule HTTP-28 (spec/http.md).

Requests are answered when their transactions are committed, or at once. Their answers are sent in
the order of the requests: an answer waits here for those before it.
"""

from collections import deque
from collections.abc import Iterator

from refk8s.components.head import Answering


class AnswerOrder:
    """The requests of a connection that are not answered, in their order."""

    __slots__ = ("_unsent",)

    def __init__(self) -> None:
        self._unsent: deque[Answering] = deque()

    def __len__(self) -> int:
        return len(self._unsent)

    def add(self, answering: Answering) -> None:
        """A request has begun."""
        self._unsent.append(answering)

    def ready(self) -> Iterator[Answering]:
        """Remove the answers that are complete and wait for no other, in their order."""
        unsent = self._unsent
        while unsent and unsent[0].response_complete:
            yield unsent.popleft()
        if unsent:
            unsent[0].wake()

    async def turn_of(self, answering: Answering) -> None:
        """Wait until all answers before this one are sent, or the connection has ended."""
        while self._unsent and self._unsent[0] is not answering and not answering.disconnected:
            await answering.woken()

    def end_after_last(self) -> None:
        """Let the last answer end the connection."""
        self._unsent[-1].keep_alive = False

    def disconnect(self) -> None:
        """The connection has ended: what is not sent is discarded."""
        for answering in self._unsent:
            answering.disconnected = True
            answering.wake()
        self._unsent.clear()
