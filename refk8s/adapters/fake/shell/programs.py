"""The programs of the simulated shell: its built-in commands, and those for files and the system.
Rules SHELL-3, SHELL-5.

Source: POSIX.1-2017, "Utilities"; options and messages as BusyBox has them.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from posixpath import normpath

from refk8s.adapters.fake.shell.conditions import test
from refk8s.adapters.fake.shell.expressions import expr
from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.paths import PATHS, failed, to_stdout
from refk8s.adapters.fake.shell.running import Exit, Interrupted, Leave, Return
from refk8s.adapters.fake.shell.sed import sed
from refk8s.adapters.fake.shell.system_calls import Forever, Now, Pause, Program
from refk8s.adapters.fake.shell.tar import tar
from refk8s.adapters.fake.shell.texts import TEXTS
from refk8s.core.context import SECOND, timestamp

SLEEP_SECONDS_MAX = 10**9
INTERRUPTED = 130
_NUMBER = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"([0-9]{0,12}(?:\.[0-9]{0,9})?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> float | None:
    """The duration of a text such as "1.5", "10s" or "infinity"; None for any other text."""
    if text in ("inf", "infinity"):
        return float(SLEEP_SECONDS_MAX)
    match = _SECONDS.fullmatch(text)
    if match is None or not match[1].strip("."):
        return None
    return min(float(match[1]) * _UNITS[match[2]], float(SLEEP_SECONDS_MAX))


# --- the shell's own ------------------------------------------------------------------------------


def _nothing(shell: Shell, arguments: list[str]) -> Program:
    return 0
    yield


def _true(code: int) -> Builtin:
    def run(shell: Shell, arguments: list[str]) -> Program:
        return code
        yield

    return run


def _exit(shell: Shell, arguments: list[str]) -> Program:
    raise Exit(int(arguments[0]) if arguments and _NUMBER.fullmatch(arguments[0]) else shell.status)
    yield


def _return(shell: Shell, arguments: list[str]) -> Program:
    raise Return(
        int(arguments[0]) if arguments and _NUMBER.fullmatch(arguments[0]) else shell.status
    )
    yield


def _trap(shell: Shell, arguments: list[str]) -> Program:
    """Keep what is to be done at a signal; it is done only at SIGTERM (SHELL-12)."""
    for signal in arguments[1:]:
        shell.traps[signal.upper().removeprefix("SIG")] = arguments[0]
    return 0
    yield


def _leave(again: bool) -> Builtin:
    def run(shell: Shell, arguments: list[str]) -> Program:
        raise Leave(
            int(arguments[0]) if arguments and _NUMBER.fullmatch(arguments[0]) else 1, again
        )
        yield

    return run


def _cd(shell: Shell, arguments: list[str]) -> Program:
    path = normpath(shell.path(arguments[0] if arguments else shell.variables.get("HOME", "/")))
    if shell.files.kind(path) != "directory":
        yield failed(
            f"sh: cd: can't cd to {arguments[0] if arguments else path}: No such file or directory"
        )
        return 2
    shell.cwd = path
    return 0


def _export(shell: Shell, arguments: list[str]) -> Program:
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals:
            shell.variables[name] = value
        shell.exported.add(name)
    if not arguments:
        yield to_stdout(
            "".join([f"export {name}='{value}'\n" for name, value in shell.env.items()])
        )
    return 0


def _unset(shell: Shell, arguments: list[str]) -> Program:
    for name in arguments:
        shell.variables.pop(name, None)
    return 0
    yield


def _set(shell: Shell, arguments: list[str]) -> Program:
    for number, argument in enumerate(arguments):
        if argument == "--" or argument[:1] not in ("-", "+"):
            shell.arguments = [shell.arguments[0], *arguments[number + (argument == "--") :]]
            break
        if "e" in argument:
            shell.stops_on_error = argument[0] == "-"
    if not arguments:
        yield to_stdout(
            "".join([f"{name}='{value}'\n" for name, value in sorted(shell.variables.items())])
        )
    return 0


def _shift(shell: Shell, arguments: list[str]) -> Program:
    count = int(arguments[0]) if arguments and _NUMBER.fullmatch(arguments[0]) else 1
    if count >= len(shell.arguments):
        return 1
    shell.arguments = [shell.arguments[0], *shell.arguments[1 + count :]]
    return 0
    yield


def _read(shell: Shell, arguments: list[str]) -> Program:
    names = [argument for argument in arguments if not argument.startswith("-")] or ["REPLY"]
    line = yield from shell.stdin.line()
    fields = (
        line.decode("utf-8", "replace").rstrip("\n").split(None, len(names) - 1)
        if len(names) > 1
        else [line.decode().strip()]
    )
    for number, name in enumerate(names):
        shell.variables[name] = fields[number].strip() if number < len(fields) else ""
    return 0 if line else 1


def _eval(shell: Shell, arguments: list[str]) -> Program:
    return (yield from shell.child().run_text(" ".join(arguments)))


def _source(shell: Shell, arguments: list[str]) -> Program:
    text = (
        shell.files.read(shell.path(arguments[0])).decode("utf-8", "replace") if arguments else ""
    )
    return (yield from shell.run_text(text))


def _exec(shell: Shell, arguments: list[str]) -> Program:
    if arguments:
        raise Exit((yield from shell.run_words(arguments)))
    return 0


def _command(shell: Shell, arguments: list[str]) -> Program:
    if arguments and arguments[0] in ("-v", "-V"):
        found = [name for name in arguments[1:] if shell.find(name) is not None]
        yield to_stdout("".join([f"{name if '/' in name else '/bin/' + name}\n" for name in found]))
        return 0 if len(found) == len(arguments) - 1 else 127
    return (yield from shell.run_words(arguments)) if arguments else 0


def _which(shell: Shell, arguments: list[str]) -> Program:
    return (yield from _command(shell, ["-v", *arguments])) and 1


def _sh(shell: Shell, arguments: list[str]) -> Program:
    """sh [-e] [-c script [name arguments]] | sh file | sh, which reads its script from stdin."""
    inner = shell.running = shell.child()
    rest = list(arguments)
    is_script = False
    while rest and rest[0][:1] == "-" and len(rest[0]) > 1:
        option = rest.pop(0)
        is_script = is_script or (not option.startswith("--") and "c" in option)
        inner.stops_on_error = inner.stops_on_error or (
            not option.startswith("--") and "e" in option
        )
    if is_script:
        if not rest:
            yield failed("sh: -c requires an argument")
            return 2
        return (yield from inner.run_text(rest[0], rest[1:] or ["sh"]))
    if rest:
        return (yield from inner.run_file(rest[0], rest[1:]))
    return (yield from _read_script(inner))


def _read_script(shell: Shell) -> Program:
    """A shell that reads commands from stdin, one at a time; at a terminal it shows a prompt."""
    from refk8s.adapters.fake.shell.parser import parse
    from refk8s.adapters.fake.shell.syntax import SyntaxProblem

    text = ""
    try:
        while True:
            if shell.terminal:
                yield to_stdout("> " if text else f"{shell.cwd} # ")
            line = yield from shell.stdin.line()
            if not line:
                return shell.status
            text += line.decode("utf-8", "replace")
            try:
                script = parse(text)
            except SyntaxProblem as problem:
                if not problem.incomplete:
                    yield failed(f"sh: {problem}")
                    shell.status, text = 2, ""
                continue
            text = ""
            try:
                yield from shell.run(script)
            except SyntaxProblem as problem:
                yield failed(f"sh: {problem}")
                shell.status = 2
            except Leave:
                pass
            except Interrupted:
                if not shell.terminal:
                    raise
                shell.status = INTERRUPTED
    except Exit as end:
        return end.code


# --- the system -----------------------------------------------------------------------------------


def _sleep(shell: Shell, arguments: list[str]) -> Program:
    total = 0.0
    for argument in arguments:
        seconds = seconds_of(argument)
        if seconds is None:
            yield failed(f"sleep: invalid number '{argument}'")
            return 1
        total += seconds
    if not arguments:
        yield failed("sleep: missing operand")
        return 1
    yield Pause(int(min(total, SLEEP_SECONDS_MAX) * SECOND))
    return 0


def _timeout(shell: Shell, arguments: list[str]) -> Program:
    """timeout [-s signal] [-k seconds] seconds command: the command itself, which is not
    stopped."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in ("-s", "-k") and rest:
            rest.pop(0)
    if len(rest) < 2 or seconds_of(rest[0]) is None:
        yield failed("timeout: usage: timeout [-s SIG] SECONDS COMMAND")
        return 1
    return (yield from shell.run_words(rest[1:]))


def _env(shell: Shell, arguments: list[str]) -> Program:
    rest = list(arguments)
    child = shell.child()
    while rest and (rest[0] == "-" or "=" in rest[0] or rest[0] == "-i"):
        name, equals, value = rest.pop(0).partition("=")
        if equals:
            child.variables[name] = value
            child.exported.add(name)
        else:
            child.exported.clear()
    if rest:
        return (yield from child.run_words(rest))
    yield to_stdout("".join([f"{name}={value}\n" for name, value in child.env.items()]))
    return 0


def _printenv(shell: Shell, arguments: list[str]) -> Program:
    if not arguments:
        return (yield from _env(shell, []))
    env = shell.env
    yield to_stdout("".join([env[name] + "\n" for name in arguments if name in env]))
    return 0 if all(name in env for name in arguments) else 1


def _hostname(shell: Shell, arguments: list[str]) -> Program:
    yield to_stdout(shell.hostname + "\n")
    return 0


def _date(shell: Shell, arguments: list[str]) -> Program:
    """In UTC; formats with %s %Y %m %d %H %M %S %F %T."""
    now = yield Now()
    text = timestamp(now)  # 2026-01-02T03:04:05Z
    day, time = text[:10], text[11:19]
    values = {
        "s": str(now // SECOND),
        "Y": day[:4],
        "m": day[5:7],
        "d": day[8:],
        "H": time[:2],
        "M": time[3:5],
        "S": time[6:],
    }
    values |= {
        "F": day,
        "T": time,
        "%": "%",
        "N": f"{now % SECOND * 1000:09d}",
        "Z": "UTC",
        "z": "+0000",
    }
    wanted = next((argument[1:] for argument in arguments if argument.startswith("+")), None)
    if wanted is None:
        text_day = datetime.fromtimestamp(now // SECOND, UTC).strftime("%a %b %e")
        yield to_stdout(
            f"{text_day} {time} UTC {day[:4]}\n" if "-I" not in arguments else day + "\n"
        )
    else:
        yield to_stdout(
            re.sub(r"%(.)", lambda match: values.get(match[1], match[0]), wanted) + "\n"
        )
    return 0


def _fixed(text: Callable[[Shell, list[str]], str]) -> Builtin:
    def run(shell: Shell, arguments: list[str]) -> Program:
        yield to_stdout(text(shell, arguments))
        return 0

    return run


def _uname(shell: Shell, arguments: list[str]) -> str:
    values = {"s": "Linux", "n": shell.hostname, "r": "0.0.0-fake", "m": "x86_64"}
    letters = "".join([argument[1:] for argument in arguments if argument.startswith("-")]) or "s"
    return (
        " ".join([value for name, value in values.items() if name in letters or "a" in letters])
        + "\n"
    )


def _user(shell: Shell, arguments: list[str]) -> str:
    number = shell.user.partition(":")[0]
    return "root\n" if number == "0" else f"{number}\n"


def _id(shell: Shell, arguments: list[str]) -> str:
    user, _, group = shell.user.partition(":")
    if arguments[:1] in (["-u"], ["-g"]):
        return f"{user if arguments[0] == '-u' else group or 0}\n"
    names = [f"{number}(root)" if number == "0" else number for number in (user, group or "0")]
    return f"uid={names[0]} gid={names[1]} groups={names[1]}\n"


def _kill(shell: Shell, arguments: list[str]) -> Program:
    if "1" in arguments[-1:]:
        raise Exit(143 if "-9" not in arguments else 137)
    yield failed(f"kill: can't kill pid {arguments[-1] if arguments else ''}: No such process")
    return 1


def _tail(shell: Shell, arguments: list[str]) -> Program:
    """tail -f never ends; otherwise tail prints its files."""
    follows = any(argument in ("-f", "-F") for argument in arguments)
    rest = [argument for argument in arguments if argument not in ("-f", "-F")]
    code = yield from TEXTS["tail"](shell, rest or (["/dev/null"] if follows else rest))
    if follows:
        yield Forever()
        yield Pause(SLEEP_SECONDS_MAX * SECOND)
    return code


PROGRAMS: dict[str, Builtin] = {
    ":": _nothing, "true": _true(0), "false": _true(1), "exit": _exit, "return": _return, "break": _leave(False), "continue": _leave(True),
    "cd": _cd, "export": _export, "readonly": _export, "local": _export, "unset": _unset, "set": _set, "shift": _shift, "read": _read,
    "eval": _eval, ".": _source, "source": _source, "exec": _exec, "command": _command, "which": _which, "type": _which,
    "trap": _trap, "wait": _nothing, "umask": _nothing, "ulimit": _nothing, "sync": _nothing, "chown": _nothing, "chgrp": _nothing,
    "sh": _sh, "ash": _sh, "bash": _sh, "test": test(""), "[": test("]"), "[[": test("]]"), "expr": expr,
    "sleep": _sleep, "env": _env, "printenv": _printenv, "hostname": _hostname, "date": _date, "kill": _kill,
    "pwd": _fixed(lambda shell, arguments: shell.cwd + "\n"), "whoami": _fixed(_user), "id": _fixed(_id),
    "uname": _fixed(_uname), "nproc": _fixed(lambda shell, arguments: "1\n"),
    "ps": _fixed(lambda shell, arguments: "PID   USER     TIME  COMMAND\n    1 root      0:00 simulated\n"),
    **PATHS, **TEXTS, "tar": tar, "tail": _tail, "sed": sed, "timeout": _timeout,
}  # fmt: skip
"""Every program by its name."""

SHELL_ONLY = frozenset([
    ":", "return", "break", "continue", "cd", "export", "readonly", "local", "unset", "set", "shift", "read", "eval", ".", "source", "exec",
    "command", "type", "trap", "wait", "umask", "ulimit", "exit",
])  # fmt: skip
"""Built-in commands, which cannot be executed without a shell."""
