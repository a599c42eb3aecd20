"""test, [ and [[: conditions on texts, numbers and files. Rule SHELL-3. Source: POSIX.1-2017,
"test"."""

import fnmatch
import re

from refk8s.adapters.fake.shell.expansion import assign_array
from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.system_calls import STDERR, Program, Write

PATTERN_CHARACTERS_MAX = 500
TEXT_CHARACTERS_MAX = 100_000
GROUPS_MAX = 10  # of BASH_REMATCH
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_FILE = {"-e", "-f", "-d", "-s", "-r", "-w", "-x", "-L", "-h"}
_NUMBERS = {"-eq": "==", "-ne": "!=", "-lt": "<", "-le": "<=", "-gt": ">", "-ge": ">="}


class _Problem(Exception):
    pass


def test(end: str) -> Builtin:
    """`end`: the last word that [ and [[ need; empty for test."""

    def run(shell: Shell, arguments: list[str]) -> Program:
        words = list(arguments)
        if end and (not words or words.pop() != end):
            yield Write(STDERR, f"sh: {'[' * len(end)}: missing {end}\n".encode())
            return 2
        try:
            return int(not (_matching(shell, words) if end == "]]" else _either(shell, words)))
        except _Problem as problem:
            yield Write(STDERR, f"sh: {problem}\n".encode())
            return 2

    return run


def _either(shell: Shell, words: list[str]) -> bool:
    for joint, whole in (("-o", any), ("-a", all)):
        if joint in words[1:-1]:
            at = words.index(joint, 1)
            return whole([_either(shell, words[:at]), _either(shell, words[at + 1 :])])
    return _one(shell, words)


def _matching(shell: Shell, words: list[str]) -> bool:
    """[[ ]]: the right side is a pattern of == and !=, or a regular expression of =~."""
    for joint, whole in (("-o", any), ("-a", all)):
        if joint in words[1:-1]:
            at = words.index(joint, 1)
            return whole([_matching(shell, words[:at]), _matching(shell, words[at + 1 :])])
    match words:
        case ["!", *rest]:
            return not _matching(shell, rest)
        case [left, "=" | "==", right]:
            return fnmatch.fnmatchcase(left, right)
        case [left, "!=", right]:
            return not fnmatch.fnmatchcase(left, right)
        case [left, "=~", right]:
            return _regular(shell, left, right)
    return _one(shell, words)


def _regular(shell: Shell, text: str, pattern: str) -> bool:
    """Whether the text has a match; its groups are the elements of BASH_REMATCH."""
    import re2  # its time is linear in the text

    if len(pattern) > PATTERN_CHARACTERS_MAX or len(text) > TEXT_CHARACTERS_MAX:
        raise _Problem("the pattern or the text is too long")
    try:
        found = re2.search(pattern, text)
    except re2.error:
        raise _Problem(f"{pattern[:40]}: the pattern is not understood") from None
    groups = (found.group(0), *found.groups()) if found is not None else ()
    assign_array(shell, "BASH_REMATCH", [value or "" for value in groups[:GROUPS_MAX]])
    return found is not None


def _one(shell: Shell, words: list[str]) -> bool:
    match words:
        case []:
            return False
        case ["!", *rest]:
            return not _one(shell, rest)
        case ["(", *inner, ")"]:
            return _either(shell, inner)
        case [word]:
            return bool(word)
        case ["-n", word]:
            return bool(word)
        case ["-z", word]:
            return not word
        case ["-t", _]:
            return False
        case [question, path] if question in _FILE:
            return _file(shell, question, shell.path(path))
        case [left, "=" | "==", right]:
            return left == right
        case [left, "!=", right]:
            return left != right
        case [left, operator, right] if operator in _NUMBERS:
            return _compare(_number(left), _NUMBERS[operator], _number(right))
    raise _Problem(f"{words[1] if len(words) > 1 else words[0]}: unknown operand")


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text.strip()):
        raise _Problem(f"{text}: bad number")
    return int(text)


def _compare(left: int, operator: str, right: int) -> bool:
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]


def _file(shell: Shell, question: str, path: str) -> bool:
    kind = shell.files.kind(path)
    match question:
        case "-f":
            return kind == "file"
        case "-d":
            return kind == "directory"
        case "-s":
            return kind == "directory" or (kind == "file" and bool(shell.files.read(path)))
        case "-x":
            return bool(kind) and bool(shell.files.mode(path) & 0o111)
        case "-L" | "-h":
            return False
    return bool(kind)
