"""What is wrong with an expression, and where: the texts of its errors. Rule CEL-1 (spec/cel.md).

    ERROR: <input>:1:5: undefined field 'size'
     | self.size > 1
     | ....^

Source: Common Expression Language specification; the form is that of cel-go, whose texts clients of
the API see.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

SHOWN_MAX = 100
"""How many errors of one expression are shown."""


class Problem(NamedTuple):
    """An error at a place of the text."""

    at: int
    words: str


class CelProblem(ValueError):
    """The text is no expression, or the expression is not well typed. The message has all errors,
    in the order of their places."""

    def __init__(self, text: str, problems: Iterable[Problem]) -> None:
        found = sorted(dict.fromkeys(problems), key=lambda one: one.at)[:SHOWN_MAX]
        super().__init__("\n".join([_shown(text, one) for one in found]))


def _shown(text: str, problem: Problem) -> str:
    """The error, the line of the text in which it is, and a mark below its place. O(line)."""
    at = min(problem.at, len(text))
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    number = text.count("\n", 0, at) + 1
    column = at - start
    dots = "".join([_dot(one) for one in line[:column]])
    mark = "＾" if column < len(line) and _is_wide(line[column]) else "^"
    return f"ERROR: <input>:{number}:{column + 1}: {problem.words}\n | {line}\n | {dots}{mark}"


def _is_wide(letter: str) -> bool:
    return ord(letter) > 127 and unicodedata.east_asian_width(letter) in "WF"


def _dot(letter: str) -> str:
    return "．" if _is_wide(letter) else "."
