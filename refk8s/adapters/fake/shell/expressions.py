"""expr: an expression in separate words. Rule SHELL-2. Source: POSIX.1-2017, "expr" (without
regular expressions)."""

import operator
import re
from typing import Any

from refk8s.adapters.fake.shell.interpreter import Shell
from refk8s.adapters.fake.shell.system_calls import STDERR, STDOUT, Program, Write

WORDS_MAX = 200
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_LEVELS: tuple[dict[str, Any], ...] = (
    {"|": lambda a, b: a if _is_true(a) else b},
    {"&": lambda a, b: a if _is_true(a) and _is_true(b) else "0"},
    {"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    {"+": operator.add, "-": operator.sub},
    {
        "*": operator.mul,
        "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
        "%": lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
    },
)  # fmt: skip
"""The operators, from those that bind least to those that bind most."""


class _Problem(Exception):
    pass


def expr(shell: Shell, arguments: list[str]) -> Program:
    """Print the value; the exit code is 1 for an empty or zero value, and 2 for an error."""
    try:
        if len(arguments) > WORDS_MAX:
            raise _Problem("too many words")
        value, rest = _value(arguments, 0)
        if rest:
            raise _Problem("syntax error")
    except _Problem as problem:
        yield Write(STDERR, f"expr: {problem}\n".encode())
        return 2
    yield Write(STDOUT, f"{value}\n".encode())
    return int(not _is_true(value))


def _is_true(value: str) -> bool:
    return value not in ("", "0")


def _value(words: list[str], level: int) -> tuple[str, list[str]]:
    """The value of the words up to an operator of a lower level, and the words after it."""
    if level == len(_LEVELS):
        return _operand(words)
    value, rest = _value(words, level + 1)
    while rest and rest[0] in _LEVELS[level]:
        other, after = _value(rest[1:], level + 1)
        value, rest = _apply(level, rest[0], value, other), after
    return value, rest


def _operand(words: list[str]) -> tuple[str, list[str]]:
    if not words:
        raise _Problem("syntax error")
    if words[0] != "(":
        return words[0], words[1:]
    value, rest = _value(words[1:], 0)
    if rest[:1] != [")"]:
        raise _Problem("syntax error")
    return value, rest[1:]


def _apply(level: int, name: str, left: str, right: str) -> str:
    function = _LEVELS[level][name]
    if level < 2:
        return str(function(left, right))
    are_numbers = bool(_NUMBER.fullmatch(left) and _NUMBER.fullmatch(right))
    if level == 2:
        return str(int(function(int(left), int(right)) if are_numbers else function(left, right)))
    if not are_numbers:
        raise _Problem("non-numeric argument")
    try:
        return str(function(int(left), int(right)))
    except ZeroDivisionError:
        raise _Problem("division by zero") from None
