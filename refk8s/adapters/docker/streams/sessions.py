"""Sessions of exec and attach: input, output, terminal size, exit code. Rule RT-14."""

from collections.abc import AsyncIterator

from refk8s.adapters.docker.streams.connection import (
    Conversation,
    StreamRefused,
    Streams,
    engine_id,
)


class ContainerSession:
    """One command in a container, or the container's own program."""

    def __init__(self, streams: Streams, conversation: Conversation, tty: bool, path: str) -> None:
        self._streams = streams
        self._conversation = conversation
        self._tty = tty
        self._path = path

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 for stdout or 2 for stderr, bytes) until it ends."""
        async for kind, data in self._conversation.output(self._tty):
            yield kind, data

    async def write(self, data: bytes) -> None:
        """Write to its stdin."""
        await self._conversation.write(data)

    def end_input(self) -> None:
        """Close its stdin."""
        self._conversation.end_input()

    async def resize(self, columns: int, rows: int) -> None:
        """Resize its terminal; no effect without a terminal or after its end."""
        try:
            await self._streams.ask("POST", f"{self._path}/resize?h={rows}&w={columns}")
        except StreamRefused:
            return

    async def exit_code(self) -> int:
        """The exit code; 0 if the program still runs after a detach."""
        found = await self._streams.ask("GET", f"{self._path}/json")
        state = found.get("State", found)
        return int(state.get("ExitCode") or 0)

    def close(self) -> None:
        self._conversation.close()


async def execute(
    streams: Streams, container_id: str, command: tuple[str, ...], stdin: bool, tty: bool
) -> ContainerSession:
    """Run a command in a running container. Raises StreamRefused with the engine's message."""
    body = {
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": tty,
        "Cmd": list(command),
    }
    id = engine_id(
        (await streams.ask("POST", f"/containers/{engine_id(container_id)}/exec", body))["Id"]
    )
    return ContainerSession(
        streams,
        await streams.open(f"/exec/{id}/start", {"Detach": False, "Tty": tty}),
        tty,
        f"/exec/{id}",
    )


async def attach(streams: Streams, container_id: str, stdin: bool) -> ContainerSession:
    """Attach to a running container. Raises StreamRefused with the engine's message."""
    inspected = await streams.ask("GET", f"/containers/{engine_id(container_id)}/json")
    conversation = await streams.open(
        f"/containers/{container_id}/attach?stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
    )
    return ContainerSession(
        streams, conversation, bool(inspected["Config"]["Tty"]), f"/containers/{container_id}"
    )
