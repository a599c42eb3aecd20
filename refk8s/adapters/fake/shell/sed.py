"""sed: the substitutions, deletions and prints that scripts use. Rule SHELL-2.

    [address]s/expression/replacement/[g][i][p]    [address]d    [address]p

An address is N, $ or /expression/.
Expressions are matched in linear time. Anything else is an error with exit code 1. Source:
POSIX.1-2017, "sed"; options -n, -i, -e, -E and -r as BusyBox has them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from refk8s.adapters.fake.files import FILE_BYTES_MAX
from refk8s.adapters.fake.shell.interpreter import Shell
from refk8s.adapters.fake.shell.paths import failed
from refk8s.adapters.fake.shell.system_calls import STDOUT, Program, Tick, Write, cost_of
from refk8s.adapters.fake.shell.texts import inputs
from refk8s.core.value import Value

EXPRESSION_CHARACTERS_MAX = 500
COMMANDS_MAX = 100
_ADDRESS = re.compile(r"\s*(?:(\d{1,9})|(\$)|/((?:[^/\\]|\\.)*)/)?\s*([sdp])")
_FLAGS = re.compile(r"([gip]*)\s*(?:[;\n]|$)")
_MARKS = re.compile(r"\\(.)|&", re.DOTALL)


class Command(Value, frozen=True):
    """`line`: a number, -1 for the last line, or 0; `where`: an expression, or None."""

    name: str
    line: int = 0
    where: Any = None
    find: Any = None
    replacement: str = ""
    flags: str = ""


def _compile(text: str, extended: bool, ignore_case: bool = False) -> Any:
    import re2

    if len(text) > EXPRESSION_CHARACTERS_MAX:
        raise ValueError("the expression is too long")
    if not extended:  # there \( is a group and ( a character
        text = re.sub(r"\\([(){}+?|])|([(){}+?|])", lambda found: found[1] or "\\" + found[2], text)
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error:
        raise ValueError(f"unsupported expression {text[:40]!r}") from None


def parse(script: str, extended: bool) -> Iterator[Command]:
    """The commands of a script. Raises ValueError."""
    at = 0
    while script[at:].strip(" ;\n"):
        at += len(script[at:]) - len(script[at:].lstrip(" ;\n"))
        head = _ADDRESS.match(script, at)
        if head is None:
            raise ValueError(f"unsupported command {script[at:][:40]!r}")
        line = int(head[1]) if head[1] else -1 if head[2] else 0
        where = _compile(head[3].replace("\\/", "/"), extended) if head[3] is not None else None
        at = head.end()
        find, replacement, flags = None, "", ""
        if head[4] == "s":
            mark = re.escape(script[at : at + 1])
            part = rf"((?:[^\\{mark}]|\\.|\\\n)*)"
            found = re.compile(f"{mark}{part}{mark}{part}{mark}", re.DOTALL).match(script, at)
            end = _FLAGS.match(script, found.end()) if found is not None else None
            if found is None or end is None or not mark:
                raise ValueError("bad option in substitution expression")
            expression = found[1].replace("\\" + script[at], script[at])
            find = _compile(expression, extended, "i" in end[1])
            replacement, flags, at = (
                found[2].replace("\\" + script[at], script[at]),
                end[1],
                end.end(),
            )
        yield Command(head[4], line, where, find, replacement, flags)


def edit(commands: list[Command], text: str, silent: bool) -> str:
    """The text after all commands. Raises ValueError if it is too long."""
    lines = text.splitlines()
    made: list[str] = []
    size = 0
    for number, line in enumerate(lines, 1):
        shown: list[str] = []
        for command in commands:
            last = command.line == -1 and number == len(lines)
            if command.line and command.line != number and not last:
                continue
            if command.where is not None and not command.where.search(line):
                continue
            if command.name == "d":
                break
            if command.name == "p":
                shown.append(line)
            elif command.find.search(line):
                count = 0 if "g" in command.flags else 1
                line = command.find.sub(_replaced(command.replacement), line, count)
                shown += [line] if "p" in command.flags else []
        else:
            shown += [] if silent else [line]
        size += sum(map(len, shown)) + len(line)
        if size > FILE_BYTES_MAX:
            raise ValueError("the text is too long")
        made += shown
    return "".join([line + "\n" for line in made])


def _replaced(replacement: str) -> Callable[[Any], str]:
    """What replaces a match: & is the match, \\1 to \\9 are its groups."""

    def of(match: Any) -> str:
        def value(mark: re.Match[str]) -> str:
            name = mark[1]
            if name is None:
                return str(match.group(0))
            if name.isdigit():
                groups = match.groups()
                return (groups[int(name) - 1] or "") if 0 < int(name) <= len(groups) else ""
            return {"n": "\n", "t": "\t"}.get(name, name)

        return _MARKS.sub(value, replacement)

    return of


def sed(shell: Shell, arguments: list[str]) -> Program:
    """sed [-n] [-i] [-E] [-e script] [script] [file ...]"""
    letters, scripts, paths = "", [], []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-e" and rest:
            scripts.append(rest.pop(0))
        elif word.startswith("-") and len(word) > 1:
            letters += word[1:]
        else:
            paths.append(word)
    if not scripts and paths:
        scripts.append(paths.pop(0))
    try:
        commands = list(parse("\n".join(scripts), "E" in letters or "r" in letters))
        if not commands or len(commands) > COMMANDS_MAX:
            raise ValueError("no command, or too many")
        if "i" not in letters:
            code, data = yield from inputs(shell, "sed", paths)
            text = edit(commands, data.decode("utf-8", "replace"), "n" in letters)
            yield Write(STDOUT, text.encode())
            return code
        for path in [shell.path(path) for path in paths]:
            data = shell.files.read(path)
            yield Tick(cost_of(len(data)))
            text = edit(commands, data.decode("utf-8", "replace"), "n" in letters)
            shell.files.write(path, text.encode())
    except ValueError as problem:
        yield failed(f"sed: {problem}")
        return 1
    return 0
