"""Parses JSON text to a tree, with everything that a fast decoder omits: repeated keys, upstream's
error messages, and bounds.

Rules OBJ-7 and OBJ-10 (spec/object_model.md). For any bytes the result is a tree or a
`MalformedJson`, in time and stack bounded by their length. Source: RFC 8259; Kubernetes
documentation, "Kubernetes API Concepts", "Field validation".
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

DEPTH_MAX: Final = 256
"""The greatest nesting of arrays and objects. Upstream's bound is 10,000; no API type needs more
than a few dozen."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_ESCAPED_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


class MalformedJson(ValueError):
    """The bytes are not a JSON document. The message is upstream's."""


class Repeated(dict[str, Any]):
    """A JSON object in which keys are repeated; the last value counts. `keys_repeated` is in order
    of appearance."""

    __slots__ = ("keys_repeated",)
    keys_repeated: tuple[str, ...]


def parse(data: bytes) -> Any:
    """The tree; objects with repeated keys are `Repeated`. Raises MalformedJson for any other
    bytes. O(len(data))."""
    check_depth(data)
    text = data.decode("utf-8", "replace")
    try:
        tree = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise MalformedJson(_explain(error, text)) from None
    except RecursionError:
        raise MalformedJson("exceeded max depth") from None
    except _NotANumber as error:
        raise MalformedJson(str(error)) from None
    except ValueError:
        raise MalformedJson("a number has too many digits") from None
    # An unpaired surrogate is a valid escape but not a character: upstream reads it as the
    # replacement character.
    return _without_surrogates(tree) if _ESCAPED_SURROGATE.search(data) else tree


def holds_repeated(tree: Any) -> bool:
    """Whether a key is repeated in an object of a parsed tree."""
    if isinstance(tree, Repeated):
        return True
    if isinstance(tree, dict):
        return any(map(holds_repeated, tree.values()))
    return isinstance(tree, list) and any(map(holds_repeated, tree))


def repeated_fields(tree: Any) -> list[str]:
    """The places of all repeated keys of a parsed tree, as field validation names them."""
    found: list[str] = []
    _find_repeated(tree, "", found)
    return found


def _find_repeated(tree: Any, at: str, found: list[str]) -> None:
    if isinstance(tree, list):
        for number, item in enumerate(tree):
            _find_repeated(item, f"{at}[{number}]", found)
    elif isinstance(tree, dict):
        prefix = f"{at}." if at else ""
        if isinstance(tree, Repeated):
            found.extend([prefix + key for key in tree.keys_repeated])
        for key, item in tree.items():
            _find_repeated(item, prefix + key, found)


def check_depth(data: bytes) -> None:
    """Raise MalformedJson if the document nests deeper than DEPTH_MAX. Only a document with that
    many brackets is examined."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for token in _TOKEN.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise MalformedJson("exceeded max depth")
        elif first in b"]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    seen: dict[str, bool] = {}
    for key, _ in pairs:
        seen[key] = key in seen
    marked = Repeated(made)
    marked.keys_repeated = tuple(key for key, again in seen.items() if again)
    return marked


class _NotANumber(ValueError):
    """A number that JSON or a 64-bit float cannot represent."""


def _no_constant(word: str) -> Any:
    # NaN, Infinity and -Infinity are not JSON, but Python's parser accepts them.
    at = 1 if word.startswith("-") else 0
    where = "in numeric literal" if at else "looking for beginning of value"
    raise _NotANumber(f"invalid character {_character(word[at])} {where}")


def _finite(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise _NotANumber(f"json: cannot unmarshal number {literal} into Go value of type float64")
    return number


def _without_surrogates(tree: Any) -> Any:
    if isinstance(tree, str):
        return _SURROGATE.sub("\ufffd", tree)
    if isinstance(tree, list):
        return [_without_surrogates(item) for item in tree]
    if isinstance(tree, dict):
        cleaned: dict[str, Any] = {
            _without_surrogates(key): _without_surrogates(item) for key, item in tree.items()
        }
        if isinstance(tree, Repeated):
            marked = Repeated(cleaned)
            marked.keys_repeated = tuple(_without_surrogates(key) for key in tree.keys_repeated)
            return marked
        return cleaned
    return tree


def _explain(error: json.JSONDecodeError, text: str) -> str:
    """The parser's error as upstream's message."""
    at = error.pos
    if error.msg.startswith("Unterminated string") or not text[at:].strip(" \t\r\n"):
        return "unexpected end of JSON input"
    if error.msg.startswith("Extra data"):
        context = "after top-level value"
    elif error.msg.startswith("Expecting property name"):
        context = "looking for beginning of object key string"
    elif error.msg.startswith("Expecting ':'"):
        context = "after object key"
    elif error.msg.startswith("Expecting ','"):
        context = (
            "after object key:value pair" if _innermost(text[:at]) == "{" else "after array element"
        )
    elif error.msg.startswith("Invalid control character"):
        context = "in string literal"
    elif error.msg.startswith("Invalid \\escape"):
        at, context = min(at + 1, len(text) - 1), "in string escape code"
    elif error.msg.startswith("Invalid \\uXXXX"):
        context = "in \\u hexadecimal character escape"
    else:
        context = "looking for beginning of value"
    while context != "in string literal" and text[at] in " \t\r\n" and at + 1 < len(text):
        at += 1
    return f"invalid character {_character(text[at])} {context}"


def _innermost(before: str) -> str:
    """The innermost bracket that is open at the end of this text, which is the beginning of a
    document."""
    brackets: list[str] = []
    for token in _TOKEN.finditer(before.encode("utf-8", "replace")):
        first = token[0][:1].decode("ascii")
        if first in "[{":
            brackets.append(first)
        elif first in "]}" and brackets:
            brackets.pop()
    return brackets[-1] if brackets else ""


def _character(character: str) -> str:
    """A character in single quotes. Of a character outside ASCII, its first byte, since upstream
    reads byte by byte."""
    first = chr(character.encode("utf-8", "replace")[0])
    special = {
        "'": "\\'",
        '"': '"',
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\\": "\\\\",
        "\0": "\\x00",
    }
    if first in special:
        return f"'{special[first]}'"
    return f"'{first}'" if first.isprintable() else f"'\\x{ord(first):02x}'"


def equal(one: Any, other: Any) -> bool:
    """JSON equality: unlike in Python, true differs from 1. Raises RecursionError for values nested
    too deep."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(equal(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
