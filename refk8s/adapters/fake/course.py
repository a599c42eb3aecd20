"""The course of a simulated container's program in virtual time: its end and its file writes.

Rule SHELL-6.

A course is computed when the container starts, from the files as they are then; files that the
program writes later are kept with their instants and appear when the files are read. What it prints
is not kept: reading the log runs the program again.

| the command | its course |
|---|---|
| one of the shell's programs, a script in a file, or `sh -c` | the course of the program |
| any other, or none, in an init container, a Job's pod or (with a command) one that is not restarted | it succeeds after a moment |
| any other, or none | it never ends |
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from immutables import Map
from msgspec import Struct

from refk8s.adapters.fake.files import (
    DIRECTORY,
    IMAGE_DIRECTORIES,
    IMAGE_FILES,
    NO_DISK,
    ROOT,
    Disk,
    Entry,
    FileProblem,
    Files,
)
from refk8s.adapters.fake.files import Disks as Keeper
from refk8s.adapters.fake.shell.system_calls import (
    Forever,
    Now,
    Pause,
    Program,
    Read,
    Tick,
    Unsimulated,
    Write,
    cost_of,
)
from refk8s.core.context import SECOND, Instant
from refk8s.core.ports import ContainerConfig, Resources, WriteVolume

if TYPE_CHECKING:
    from refk8s.adapters.fake.shell.interpreter import Shell

STEPS_MAX = 2000
"""A program that has not ended after this many commands counts as one that never ends."""
LOG_STEPS_MAX = 20_000
LOG_BYTES_MAX = 1 << 20
"""The most commands, and the most bytes of their output, in a log."""
WORK_FACTOR = 8
"""The factor by which work beyond a single command counts more in a log, which is computed while
other requests wait."""
CHANGES_MAX = 1000
NOT_ENDED = 255
"""The exit code of a trap after which the script goes on (-1 in eight bits)."""
MOMENT = SECOND

Disks = Map[str, Disk]


class Change(Struct, frozen=True, gc=False):
    """A program writes this entry of a disk at this instant."""

    at: Instant
    disk: str
    path: str
    entry: Entry


class Course(Struct, frozen=True):
    """`takes`: the microseconds to the end, or None if the program never ends. Then its exit code
    and what it writes."""

    takes: Instant | None = None
    exit_code: int = 0
    changes: tuple[Change, ...] = ()


class Scene(Struct, frozen=True):
    """The environment of a program: its container, the pod's host name and volumes, and the present
    disks."""

    config: ContainerConfig
    hostname: str = ""
    volumes: Map[str, WriteVolume] = Map()
    disks: Disks = Map()


# --- disks ----------------------------------------------------------------------------------------


class Draft:
    """The disks of a scene while a program writes to them in virtual time."""

    def __init__(self, scene: Scene, at: Instant) -> None:
        self._scene = scene
        self._disks = scene.disks
        self.at = at
        self.changes: list[Change] = []

    def disk(self, name: str) -> Disk:
        return self._disks.get(name, NO_DISK)

    def put(self, name: str, path: str, entry: Entry) -> None:
        if len(self.changes) >= CHANGES_MAX:
            raise FileProblem("No space left on device")
        self._disks = self._disks.set(name, self.disk(name).put(path, entry))
        self.changes.append(Change(self.at, name, path, entry))

    def given(self, name: str) -> Mapping[str, Entry]:
        return given(self._scene, name)


CPU_PERIOD = 100_000


def _cgroup(resources: Resources) -> dict[str, Entry]:
    """The container's limits, as the kernel shows them (SHELL-4)."""
    quota = resources.cpu_limit_milli * CPU_PERIOD // 1000
    shares = max(2, resources.cpu_request_milli * 1024 // 1000)
    files = {
        "cpu.max": f"{max(1_000, quota) if quota else 'max'} {CPU_PERIOD}",
        "cpu.weight": str(1 + (shares - 2) * 9_999 // 262_142),
        "memory.max": str(resources.memory_limit_bytes or "max"),
    }
    return {f"/sys/fs/cgroup/{name}": Entry(f"{text}\n".encode()) for name, text in files.items()}


def given(scene: Scene, name: str) -> Mapping[str, Entry]:
    """The files below a disk: those that the kubelet wrote to a volume, or those of the image."""
    if name == ROOT:
        hosts = (
            scene.config.hosts or f"127.0.0.1\tlocalhost\n127.0.1.1\t{scene.hostname}\n"
        ).encode()
        return {
            **_IMAGE,
            "/etc/hostname": Entry(f"{scene.hostname}\n".encode()),
            "/etc/hosts": Entry(hosts),
            **_cgroup(scene.config.resources),
        }
    volume = scene.volumes.get(name)
    if volume is None:
        return {}
    return {
        f"/{path}": Entry(data, volume.modes.get(path, volume.mode))
        for path, data in volume.files.items()
    }


_IMAGE = {
    **dict.fromkeys(IMAGE_DIRECTORIES, DIRECTORY),
    **{path: Entry(data) for path, data in IMAGE_FILES.items()},
}


# --- programs -------------------------------------------------------------------------------------
# The shell is loaded when the first command is computed: most simulations have none.


def command_of(config: ContainerConfig) -> list[str]:
    """The command line of a container. Without a command, a terminal gets a shell. None: the
    image's own program."""
    words = [*config.command, *config.args]
    return ["sh"] if not words and config.tty and config.stdin else words


def main_program(scene: Scene, disks: Keeper) -> Program:
    """The program of the container itself."""
    return _main_shell(scene, disks).run_words(command_of(scene.config) or [""])


def _main_shell(scene: Scene, disks: Keeper) -> "Shell":
    from refk8s.adapters.fake.shell.container import forever, make_shell, moment

    config = scene.config
    files = Files(disks, config.mounts, config.read_only_root)
    shell = make_shell(
        config, scene.hostname, files, moment if config.runs_to_end else forever, config.stdin
    )
    shell.terminal = config.tty
    return shell


def compute_course(scene: Scene, now: Instant) -> Course:
    """The course of the container's program if it starts now."""
    if not command_of(scene.config):
        return Course(MOMENT) if scene.config.runs_to_end else Course()
    draft = Draft(scene, now)
    return _run(main_program(scene, draft), draft, now, lenience=MOMENT)


def compute_stop(scene: Scene, started: Instant, now: Instant) -> Course | None:
    """The course of the container after SIGTERM, if its script has a trap for it (SHELL-12). It
    never ends if the trap does not end the script. None: there is no trap."""
    command = command_of(scene.config)
    if not any("trap" in word for word in command):
        return None
    draft = Draft(scene, started)
    shell = _main_shell(scene, draft)
    played, steps = _play(shell.run_words(command), draft), 0
    for call in played:
        steps += call.cost if isinstance(call, Tick) else 0
        if steps > STEPS_MAX or draft.at >= now or isinstance(call, Forever | Read):
            break
    running = shell.running if shell.running is not None else shell
    found = None
    if running.traps.get("TERM"):
        draft = Draft(scene, now)
        course = _run(running.run_trap("TERM"), draft, now)
        found = course if course.exit_code != NOT_ENDED else Course(None, 0, course.changes)
    played.close()
    return found


def compute_command(scene: Scene, command: tuple[str, ...], now: Instant) -> tuple[Course, bytes]:
    """The course and output of a probe's or hook's command. One that is not simulated succeeds."""
    from refk8s.adapters.fake.shell.container import make_shell, succeeds

    draft = Draft(scene, now)
    shell = make_shell(
        scene.config,
        scene.hostname,
        Files(draft, scene.config.mounts, scene.config.read_only_root),
        succeeds,
    )
    output = bytearray()
    program = shell.run_words(list(command) or [""])
    return _run(program, draft, now, output, lenience=0), bytes(output)


def _play(program: Program, draft: Draft) -> Program:
    """Run the program in the draft's virtual time, which its pauses advance. All other system calls
    are passed on."""
    answer: Instant | None = None
    try:
        while True:
            call = program.send(answer)
            answer = None
            match call:
                case Pause(microseconds):
                    draft.at += microseconds
                case Now():
                    answer = draft.at
                case _:
                    yield call
    except StopIteration as stop:
        return int(stop.value or 0)
    finally:
        program.close()


def _run(
    program: Program,
    draft: Draft,
    now: Instant,
    output: bytearray | None = None,
    lenience: Instant | None = None,
) -> Course:
    """The course of a program. With `lenience`, one that reads the output of a program that is not
    simulated, and then fails or does not end, succeeds so long after that (SHELL-13)."""
    steps = 0
    read_at: Instant | None = None
    played = _play(program, draft)
    while True:
        try:
            call = next(played)
        except StopIteration as stop:
            code = stop.value & 255
            if code and read_at is not None and lenience is not None:
                return _lenient(draft, now, read_at + lenience)
            return Course(draft.at - now, code, tuple(draft.changes))
        match call:
            case Tick(cost):
                steps += cost
            case Write(_, data):
                steps += cost_of(len(data))
                if output is not None and len(output) < LOG_BYTES_MAX:
                    output += data
            case Unsimulated(True) if read_at is None:
                read_at = draft.at
        if steps > STEPS_MAX or isinstance(call, Forever | Read):
            played.close()
            if read_at is not None and lenience is not None and not isinstance(call, Forever):
                return _lenient(draft, now, read_at + lenience)
            return Course(None, 0, tuple(draft.changes))


def _lenient(draft: Draft, now: Instant, end: Instant) -> Course:
    """A success at this instant, with the files as they are then."""
    return Course(end - now, 0, tuple([change for change in draft.changes if change.at <= end]))


def outputs(scene: Scene, started: Instant) -> Iterator[tuple[Instant, int, bytes]]:
    """The output of the container's program, with its instants. If the program never ends, neither
    does the output, so the caller takes only what is due."""
    draft = Draft(scene, started)
    steps, size = 0, 0
    for call in _play(main_program(scene, draft), draft):
        match call:
            case Tick(cost):
                steps += cost if cost <= 1 else cost * WORK_FACTOR
            case Write(stream, data) if data:
                size += len(data)
                yield draft.at, stream, data
            case Read():
                return
        if steps >= LOG_STEPS_MAX or size >= LOG_BYTES_MAX:
            return
