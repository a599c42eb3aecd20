"""Logs, exec, attach and port-forward of simulated containers. Rules SHELL-1, SHELL-8, SHELL-9
(spec/shell.md).

A program is run here in real time: its pauses take their time, its input comes from the client, and
its files are written to the node's state at once.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from refk8s.adapters.fake.course import given, main_program, outputs
from refk8s.adapters.fake.files import NO_DISK, Disk, Entry, Files
from refk8s.adapters.fake.load import compute_load
from refk8s.adapters.fake.runtime import FakeRuntime
from refk8s.adapters.fake.server import serve
from refk8s.adapters.fake.shell.running import Interrupted
from refk8s.adapters.fake.shell.system_calls import STDOUT, Now, Pause, Program, Read, Tick, Write
from refk8s.adapters.fake.state import scene, settle, write
from refk8s.adapters.fake.terminal import Terminal
from refk8s.adapters.log_limit import limited
from refk8s.adapters.pod_listing import list_pod
from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import SECOND, Instant, micro_timestamp
from refk8s.core.ports import (
    RUNNING,
    ContainerStatus,
    ContainerUsage,
    LogOptions,
    PodsListed,
    SandboxStatus,
    StreamFailed,
    Usage,
)

INPUT_BYTES_MAX = 1 << 18
EAGER_TICKS = 200
"""How many commands run without a pause. Then each takes a moment, so that an endless script
leaves time for others."""
TICK_SECONDS = 0.005
YIELD_EVERY = 256
"""After this many lines of a log, other tasks of the event loop run."""
KILLED, INTERRUPTED = 137, 130


class LiveDisks:
    """The present disks of a container."""

    def __init__(self, runtime: FakeRuntime, id: str) -> None:
        self._runtime = runtime
        self._id = id

    def disk(self, name: str) -> Disk:
        fake = self._runtime.world.containers.get(self._id)
        if fake is None:
            return NO_DISK
        world = settle(self._runtime.world, fake.status.pod_uid, self._runtime.now())
        self._runtime.world = world
        return scene(world, world.containers[self._id]).disks.get(name, NO_DISK)

    def put(self, name: str, path: str, entry: Entry) -> None:
        if self._id in self._runtime.world.containers:
            self._runtime.world = write(self._runtime.world, self._id, name, path, entry)

    def given(self, name: str) -> Mapping[str, Entry]:
        fake = self._runtime.world.containers.get(self._id)
        return given(scene(self._runtime.world, fake), name) if fake is not None else {}


class ProgramSession:
    """A program with a client: input, output and an end. `is_main`: the container ends with it."""

    def __init__(
        self,
        runtime: FakeRuntime,
        id: str,
        program: Program,
        terminal: Terminal | None,
        is_main: bool = False,
    ) -> None:
        self._runtime = runtime
        self._id = id
        self._program = program
        self._terminal = terminal
        self._is_main = is_main
        self._input: deque[bytes] = deque()
        self._input_ended = False
        self._changed = asyncio.Event()
        self._code = KILLED
        self._end = runtime.ended(id)
        self._interrupted = False
        self._is_reading = False

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Run the program; yields its output until it ends."""
        answer: bytes | Instant | None = None
        ticks = 0
        while True:
            try:
                call = (
                    self._program.throw(Interrupted())
                    if self._interrupted
                    else self._program.send(answer)
                )
                self._interrupted = False
            except StopIteration as stop:
                self._code = int(stop.value or 0) & 255
                break
            except Interrupted:
                self._code = INTERRUPTED
                break
            answer = None
            match call:
                case Write(stream, data) if data:
                    yield (
                        (STDOUT, self._terminal.shown(data))
                        if self._terminal is not None
                        else (stream, data)
                    )
                case Now():
                    answer = self._runtime.now()
                case Pause(microseconds):
                    await self._wait(microseconds / SECOND)
                case Tick(cost):
                    ticks += cost
                    await self._wait(0 if ticks < EAGER_TICKS else TICK_SECONDS)
                case Read():
                    self._is_reading = True
                    while not (self._input or self._input_ended or self._end.done()):
                        self._changed.clear()
                        await self._wait(None)
                        if self._terminal is not None and (echo := self._terminal.take_echo()):
                            yield STDOUT, echo
                    self._is_reading = False
                    answer = self._input.popleft() if self._input else None
                    self._changed.set()
            if self._terminal is not None and (echo := self._terminal.take_echo()):
                yield STDOUT, echo
            if self._end.done():
                self._code = KILLED
                break
        self._program.close()
        if self._is_main:
            self._runtime.end(self._id, self._code)

    async def _wait(self, seconds: float | None) -> None:
        """Wait for this time, or until input arrives or the container ends (None: no limit)."""
        if seconds == 0:
            await asyncio.sleep(0)
            return
        self._changed.clear()
        changed = asyncio.ensure_future(self._changed.wait())
        end = asyncio.get_running_loop().time() + (seconds or 0)
        try:
            while not (self._end.done() or self._interrupted):
                left = None if seconds is None else end - asyncio.get_running_loop().time()
                if left is not None and left <= 0:
                    return
                await asyncio.wait(
                    (changed, self._end), timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                if changed.done():
                    if seconds is None:
                        return
                    self._changed.clear()
                    changed = asyncio.ensure_future(self._changed.wait())
        finally:
            changed.cancel()

    async def write(self, data: bytes) -> None:
        """Write to its stdin; waits until it has read the input before."""
        if self._terminal is not None:
            lines, interrupted, ended = self._terminal.typed(data)
            self._input_ended = self._input_ended or ended
            self._input.extend(lines)
            if interrupted and self._is_reading:
                self._input.append(b"\n")  # A shell that waits for a line shows its prompt again.
            elif interrupted:
                self._interrupted = True
        else:
            self._input.append(data)
        self._changed.set()
        while sum(map(len, self._input)) > INPUT_BYTES_MAX and not self._end.done():
            self._changed.clear()
            await self._changed.wait()

    def end_input(self) -> None:
        """Close its stdin."""
        self._input_ended = True
        self._changed.set()

    async def resize(self, columns: int, rows: int) -> None:
        """Ignored: simulated programs do not use the size."""

    async def exit_code(self) -> int:
        """Its exit code."""
        return self._code

    def close(self) -> None:
        self._end.cancel()
        self._changed.set()


class AttachedSession:
    """The output of a container from now on; input from the client is discarded."""

    def __init__(
        self, lines: AsyncGenerator[tuple[Instant, int, bytes], None], end: "asyncio.Future[int]"
    ) -> None:
        self._lines = lines
        self._end = end

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        async for _, stream, data in self._lines:
            yield stream, data

    async def write(self, data: bytes) -> None:
        """Ignored: the program does not read it."""

    def end_input(self) -> None:
        """Ignored: the program does not read it."""

    async def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    async def exit_code(self) -> int:
        """The exit code of the container."""
        return self._end.result() if self._end.done() else 0

    def close(self) -> None:
        """Nothing is open."""


class SimulatedContainers:
    """Streams of the containers of one simulated node."""

    def __init__(self, runtime: FakeRuntime, node: str) -> None:
        self._runtime = runtime
        self._node = node

    async def list_pod(self, pod_uid: str) -> PodsListed:
        """The container of this pod's uid on the simulated node (STREAM-1)."""
        return await list_pod(self._runtime, pod_uid)

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The output of the container's program (SHELL-8)."""
        return limited(self._pieces(container, options), options.limit_bytes)

    async def _pieces(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        wanted = {1: options.stdout, 2: options.stderr}
        past = [
            one for one in await self._past(container) if wanted[one[1]] and one[0] >= options.since
        ]
        lines = _lines(past)
        if options.tail_lines >= 0:
            lines = lines[max(0, len(lines) - options.tail_lines) :]
        for at, line in lines:
            yield _stamped(at, line, options.timestamps)
        if not options.follow:
            return
        async with aclosing(self._following(container)) as following:
            async for at, stream, data in following:
                if wanted[stream] and at >= options.since:
                    yield _stamped(at, data, options.timestamps)

    def _until(self, id: str) -> Instant:
        """The instant up to which the container has run."""
        fake = self._runtime.world.containers.get(id)
        if fake is None:
            return 0
        return fake.status.finished_at if fake.status.state != RUNNING else self._runtime.now()

    async def _past(self, container: ContainerStatus) -> list[tuple[Instant, int, bytes]]:
        """The output until now."""
        fake = self._runtime.world.containers.get(container.id)
        if fake is None or fake.start is None:
            return []
        until = self._until(container.id)
        found = []
        for one in outputs(fake.start, fake.status.started_at):
            if one[0] > until:
                break
            found.append(one)
            if len(found) % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return found

    async def _following(
        self, container: ContainerStatus
    ) -> AsyncGenerator[tuple[Instant, int, bytes], None]:
        """The output from now on, at its instants, until the container ends."""
        begun = self._until(container.id)
        end = self._runtime.ended(container.id)
        fake = self._runtime.world.containers.get(container.id)
        try:
            for one in (
                outputs(fake.start, fake.status.started_at)
                if fake is not None and fake.start is not None
                else ()
            ):
                if one[0] <= begun:
                    continue
                while not end.done() and (left := one[0] - self._runtime.now()) > 0:
                    await asyncio.wait((end,), timeout=left / SECOND)
                if one[0] > self._until(container.id):
                    return
                yield one
            await asyncio.wait((end,))
        finally:
            end.cancel()

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> ProgramSession:
        """Run a command in a container. Raises StreamFailed if it is not simulated (SHELL-3)."""
        from refk8s.adapters.fake.shell.container import is_known, make_shell, not_found

        fake = self._runtime.world.containers.get(container.id)
        if fake is None or fake.status.state != RUNNING:
            raise StreamFailed("the container does not run")
        seen = scene(self._runtime.world, fake)
        files = Files(
            LiveDisks(self._runtime, container.id), fake.config.mounts, fake.config.read_only_root
        )
        shell = make_shell(fake.config, seen.hostname, files, not_found, stdin)
        if not command or not is_known(shell, command[0]):
            digest = hashlib.sha256("\0".join((container.id, *command)).encode()).hexdigest()
            name = command[0] if command else ""
            place = (
                "no such file or directory" if "/" in name else "executable file not found in $PATH"
            )
            words = f'unable to start container process: exec: "{name}": {place}: unknown'
            failed = (
                f'failed to exec in container: failed to start exec "{digest}": '
                f"OCI runtime exec failed: exec failed: {words}"
            )
            raise StreamFailed(f"error executing command in container: {failed}")
        terminal = Terminal() if tty else None
        shell.terminal = tty
        return ProgramSession(self._runtime, container.id, shell.run_words(list(command)), terminal)

    async def attach(
        self, container: ContainerStatus, stdin: bool
    ) -> ProgramSession | AttachedSession:
        """Attach to the container's own program. With stdin, a program that reads it starts again
        with the client; otherwise the client gets its output (SHELL-9)."""
        fake = self._runtime.world.containers.get(container.id)
        if fake is None or fake.status.state != RUNNING:
            raise StreamFailed("the container does not run")
        if stdin and fake.config.stdin and fake.start is not None:
            disks = LiveDisks(self._runtime, container.id)
            program = main_program(scene(self._runtime.world, fake), disks)
            return ProgramSession(
                self._runtime,
                container.id,
                program,
                Terminal() if fake.config.tty else None,
                is_main=True,
            )
        code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def lines() -> AsyncGenerator[tuple[Instant, int, bytes], None]:
            async for one in self._following(container):
                yield one
            ended = self._runtime.world.containers.get(container.id)
            code.set_result(ended.status.exit_code if ended is not None else 0)

        return AttachedSession(lines(), code)

    async def connect(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a simulated server that names the pod; refused at a port that the pod
        does not declare (SHELL-10)."""
        declared = {
            found.container_port
            for container in pod.spec.containers
            for found in container.ports or ()
        }
        if declared and port not in declared:
            raise ConnectionRefusedError(111, "Connection refused")
        return await serve(pod.metadata.name or "", pod.metadata.namespace or "", self._node, port)

    async def dial(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The same server: a simulated pod has one network."""
        return await self.connect(pod, sandbox, port)

    async def usage(self, pods: Mapping[str, Pod]) -> Usage:
        """The load that the pods' annotations set (SHELL-11). A container with an invalid one is
        not measured."""
        now = self._runtime.now()
        found = []
        for fake in self._runtime.world.containers.values():
            status = fake.status
            pod = pods.get(status.pod_uid)
            if status.state != RUNNING or pod is None:
                continue
            load = compute_load(pod.metadata.annotations or {}, status.name)
            if load is None:
                continue
            seconds = max(0, now - status.started_at) // SECOND
            found.append(
                ContainerUsage(
                    status.pod_uid,
                    status.name,
                    status.started_at,
                    load[0] * seconds,
                    load[1],
                    load[0],
                )
            )
        found.sort(key=lambda one: (one.pod_uid, one.name))
        return Usage(
            now,
            sum(one.cpu_nanoseconds for one in found),
            sum(one.memory_bytes for one in found),
            tuple(found),
            sum(one.cpu_nanocores for one in found),
        )


def _lines(pieces: list[tuple[Instant, int, bytes]]) -> list[tuple[Instant, bytes]]:
    """The lines in these pieces, each with the instant of its first byte; stdout and stderr are not
    mixed in a line."""
    found: list[tuple[Instant, bytes]] = []
    open_line: dict[int, int] = {}
    for at, stream, data in pieces:
        for part in data.splitlines(True):
            place = open_line.pop(stream, None)
            if place is None:
                found.append((at, part))
                place = len(found) - 1
            else:
                found[place] = (found[place][0], found[place][1] + part)
            if not part.endswith(b"\n"):
                open_line[stream] = place
    return found


def _stamped(at: Instant, line: bytes, timestamps: bool) -> bytes:
    return f"{micro_timestamp(at)[:-1]}000Z ".encode() + line if timestamps else line
