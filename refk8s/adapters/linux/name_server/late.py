"""A name server whose modules are loaded after the start of the process. They take 70 ms to load,
and no pod asks before it runs."""

import asyncio
from collections.abc import Callable, Mapping

from refk8s.core.ports import NameServer, Records


class LateNameServer:
    """Creates the name server in a worker thread, when it shall listen for the first time."""

    def __init__(self, create: Callable[[], NameServer]) -> None:
        self._create = create
        self._server: NameServer | None = None
        self._records: Records | None = None

    def program(self, records: Records, done: Callable[[str], None]) -> None:
        """Answer from these records from now on, or from the moment of the first question."""
        self._records = records
        if self._server is None:
            done("")
        else:
            self._server.program(records, done)

    async def listen(self) -> tuple[str, Mapping[str, int]]:
        """As the name server's; it is created if needed."""
        if self._server is None:
            self._server = await asyncio.to_thread(self._create)
            if self._records is not None:
                self._server.program(self._records, lambda error: None)
        return await self._server.listen()

    def close(self) -> None:
        """Close the sockets."""
        if self._server is not None:
            self._server.close()
