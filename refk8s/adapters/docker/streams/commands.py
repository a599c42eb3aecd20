"""Commands that are run in a container to their end, for probes and hooks. Rule RT-10."""

import asyncio

from attrs import frozen

from refk8s.adapters.docker.streams.connection import StreamRefused, Streams, engine_id
from refk8s.core.ports import Probed

OUTPUT_BYTES_MAX = 10 * 1024


@frozen
class Ended:
    """The result of a command in a container."""

    exit_code: int
    output: str


async def run_command(streams: Streams, container_id: str, command: tuple[str, ...]) -> Ended:
    """Run a command in a running container to its end. The caller limits the time; the engine
    cannot end a command (divergence)."""
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
    id = (await streams.ask("POST", f"/containers/{engine_id(container_id)}/exec", body))["Id"]
    conversation = await streams.open(
        f"/exec/{engine_id(id)}/start", {"Detach": False, "Tty": False}
    )
    output = b""
    try:
        async for _, data in conversation.output(False):
            if len(output) < OUTPUT_BYTES_MAX:
                output += data[: OUTPUT_BYTES_MAX - len(output)]
    finally:
        conversation.close()
    found = await streams.ask("GET", f"/exec/{id}/json")
    return Ended(int(found.get("ExitCode") or 0), output.decode("utf-8", "replace"))


async def probe_command(
    streams: Streams, container_id: str, command: tuple[str, ...], timeout_seconds: int
) -> Probed:
    """An exec probe or hook (RT-10). Exit code 0 is success. If the command cannot be run, because
    the container has just ended, the result is unknown."""
    try:
        ended = await asyncio.wait_for(
            run_command(streams, container_id, command), max(1, timeout_seconds)
        )
    except TimeoutError:
        return Probed(
            False, f"command timed out: {list(command)!r} timed out after {timeout_seconds}s"
        )
    except StreamRefused as error:
        if error.code in (404, 409):
            return Probed(False, error.words, unknown=True)
        return Probed(False, error.words)
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return Probed(False, str(error) or type(error).__name__, unknown=True)
    return Probed(ended.exit_code == 0, ended.output)
