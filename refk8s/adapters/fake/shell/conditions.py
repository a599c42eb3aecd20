"""test, [ and [[: conditions on texts, numbers and files. Rule SHELL-3. Source: POSIX.1-2017,
"test"."""

import re

from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.system_calls import STDERR, Program, Write

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
            return int(not _either(shell, words))
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
