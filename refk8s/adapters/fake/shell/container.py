"""The shell of a simulated container, and the effect of a command that is not simulated. Rules
SHELL-3, SHELL-6."""

from posixpath import basename

from refk8s.adapters.fake.files import Files
from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.programs import PROGRAMS, SHELL_ONLY, SLEEP_SECONDS_MAX
from refk8s.adapters.fake.shell.running import Stdin
from refk8s.adapters.fake.shell.system_calls import (
    STDERR,
    Forever,
    Pause,
    Program,
    Unsimulated,
    Write,
)
from refk8s.core.context import SECOND
from refk8s.core.ports import ContainerConfig

NOT_FOUND = 127
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_shell(
    config: ContainerConfig, hostname: str, files: Files, unknown: Builtin, stdin: bool = False
) -> Shell:
    """The shell of a container: its environment, directory and files. `unknown`: the program
    of a command that is not simulated."""
    env = {"PATH": PATH, "HOME": "/root", "HOSTNAME": hostname, **dict(config.env)}
    shell = Shell(files, env, hostname, PROGRAMS, unknown, config.working_dir or "/")
    shell.stdin = Stdin(b"", not stdin)
    shell.user = config.user or "0"
    return shell


def is_known(shell: Shell, name: str) -> bool:
    """Whether this can be executed without a shell."""
    return basename(name) not in SHELL_ONLY and shell.find(name) is not None


def forever(shell: Shell, words: list[str]) -> Program:
    """It never ends."""
    yield Unsimulated()
    yield Forever()
    yield Pause(SLEEP_SECONDS_MAX * SECOND)
    return 0


def moment(shell: Shell, words: list[str]) -> Program:
    """It succeeds after a second."""
    yield Unsimulated()
    yield Pause(SECOND)
    return 0


def not_found(shell: Shell, words: list[str]) -> Program:
    """The answer to a client that executes a script."""
    yield Write(STDERR, f"sh: {words[0]}: not found\n".encode())
    return NOT_FOUND


def succeeds(shell: Shell, words: list[str]) -> Program:
    """A probe or hook succeeds."""
    yield Unsimulated()
    return 0
