"""Interprets YAML scalars, and writes a JSON tree as YAML. Rules HTTP-20 and HTTP-22
(spec/http.md).

Kubernetes converts YAML to JSON, with the types of YAML 1.1 except two: dates and numbers in base
60 are strings. Each function here depends on the text of one scalar. `components/yaml_reader.py`
reads documents, because it needs a library. Source: YAML 1.1, "Type repository"; the documentation
of sigs.k8s.io/yaml. O(length of the text).
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any, Final

from refk8s.core.value import Value

_TAG: Final = "tag:yaml.org,2002:"
STRING, BOOLEAN, INTEGER, FLOAT, NULL = (
    _TAG + name for name in ("str", "bool", "int", "float", "null")
)
BINARY, MERGE, TIMESTAMP = (_TAG + name for name in ("binary", "merge", "timestamp"))
_TYPED: Final = frozenset((BOOLEAN, INTEGER, FLOAT, NULL, TIMESTAMP))

KEY_LENGTH_MAX: Final = 128
"""A longer key is written with a question mark, as by upstream: readers of YAML look for the colon
of another key in 1,024 characters only."""

DIGITS_MAX: Final = 1_000
"""The most digits of a number: no field has more than 20, and converting them takes quadratic
time."""


def _spellings(*words: str) -> list[str]:
    return [spelling for word in words for spelling in (word, word.capitalize(), word.upper())]


_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(_spellings("y", "yes", "true", "on"), True),
    **dict.fromkeys(_spellings("n", "no", "false", "off"), False),
    **dict.fromkeys(["", "~", *_spellings("null")], None),
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys(
        [sign + inf for sign in ("", "+") for inf in (".inf", ".Inf", ".INF")], math.inf
    ),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_FIRST: Final = frozenset("+-.0123456789")
_INTEGER: Final = re.compile(
    r"([-+]?)(?:0[bB]([01]+)|0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))"
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class YamlDocument(Value, frozen=True):
    """One document as a JSON tree. `duplicates`: `line 3: key "a" already set in map`, in order of
    appearance; of a repeated key the last value counts."""

    tree: Any
    duplicates: tuple[str, ...] = ()


class BadScalar(ValueError):
    """The text is not a value of the type that its tag names, or is a number that JSON cannot
    represent."""


def resolve(text: str, tag: str = "") -> Any:
    """The value of a plain scalar (`tag` empty) or of one with an explicit tag. Raises BadScalar if
    the text does not match the tag."""
    if tag and tag not in _TYPED:
        return text
    value = _plain(text)
    if not tag or tag == TIMESTAMP:
        return text if tag else value
    if tag == FLOAT and type(value) is int:
        return float(value)
    if tag != _tag_of(value):
        raise BadScalar(f"cannot decode {_short(_tag_of(value))} `{text}` as a {_short(tag)}")
    return value


def _plain(text: str) -> Any:
    first = text[:1]
    if first not in _FIRST or not first:
        return _WORDS.get(text, text) if len(text) <= 5 else text
    if text in _WORDS:
        return _WORDS[text]
    # Underscores may separate the digits of an integer, not of a number that begins with a point.
    plain = text.replace("_", "") if first != "." else text
    if (found := _INTEGER.fullmatch(plain)) is not None:
        return _integer(*found.groups())
    if (
        _FLOAT.fullmatch(plain)
        and len(plain) <= DIGITS_MAX
        and not math.isinf(number := float(plain))
    ):
        return number
    return text


def _integer(sign: str, *digits: str | None) -> int:
    for text, base in zip(digits, (2, 16, 8, 10), strict=True):
        if text is not None:
            if len(text) > DIGITS_MAX:
                raise BadScalar(f"a number has more than {DIGITS_MAX} digits")
            return -int(text, base) if sign == "-" else int(text, base)
    raise AssertionError("one of the four alternatives has matched")


def _tag_of(value: Any) -> str:
    if value is None:
        return NULL
    return {bool: BOOLEAN, int: INTEGER, float: FLOAT}.get(type(value), STRING)


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def key_text(key: Any) -> str:
    """The JSON key of a YAML key. Raises BadScalar for null, which is not a key."""
    if type(key) is str:
        return key
    if type(key) is bool:
        return "true" if key else "false"
    if type(key) is float:
        return _short_float(key)
    if type(key) is int and -(2**63) <= key < 2**63:
        return str(key)
    raise BadScalar(
        "unsupported map key of type: "
        + ("%!s(<nil>), key: <nil>" if key is None else f"uint64, key: {key}")
    )


def _short_float(number: float) -> str:
    """The shortest decimal text that is read back as the same 32-bit float, as Go writes it."""
    try:
        (narrow,) = struct.unpack("f", struct.pack("f", number))
    except OverflowError:
        narrow = math.copysign(math.inf, number)
    if math.isnan(narrow):
        return ".nan"
    if math.isinf(narrow):
        return ".inf" if narrow > 0 else "-.inf"
    for places in range(9):
        text = f"{narrow:.{places}e}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == narrow:
            break
    digits, _, exponent = text.partition("e")
    if -4 <= int(exponent) < 6:
        return f"{narrow:.{max(0, places - int(exponent))}f}"
    return f"{digits}e{exponent}"


def number_for_json(number: float) -> int | float:
    """A float as JSON writes it, whole ones without a point. Raises BadScalar for values that JSON
    cannot represent."""
    if math.isnan(number):
        raise BadScalar("json: unsupported value: NaN")
    if math.isinf(number):
        raise BadScalar(f"json: unsupported value: {'+' if number > 0 else '-'}Inf")
    return int(number) if number.is_integer() and abs(number) < 2**63 else number


# --- writing

_SIMPLE: Final = re.compile(
    r"[A-Za-z0-9_./(][A-Za-z0-9_./+@%$(),=~^;*!\[\]{}<>\\-]*(?:[ :][A-Za-z0-9_./+@%$(),=~^;*!\[\]{}<>\\-]+)*"
)
_NOT_PRINTABLE: Final = re.compile(
    "[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_NOT_BLOCK: Final = re.compile(
    "[^\x20-\x7e\n\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_SEXAGESIMAL: Final = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|[0-9]{4}-[0-9]")


def write_yaml(tree: Any) -> bytes:
    """A JSON tree as YAML: keys sorted, lists not indented, text of several lines as a block.
    O(size)."""
    lines: list[str] = []
    _write(tree, "", "", lines)
    return "\n".join([*lines, ""]).encode()


def _write(tree: Any, head: str, indent: str, lines: list[str]) -> None:
    """Append the tree. `head` precedes its first line, `indent` each later line."""
    if isinstance(tree, dict) and tree:
        for key in sorted(tree):
            if len(key) <= KEY_LENGTH_MAX:
                head = f"{head}{_string(key)}:"
            else:
                lines.append(f"{head}? {_string(key)}")
                head = f"{indent}:"
            _write_entry(head, tree[key], indent, lines)
            head = indent
    elif isinstance(tree, list) and tree:
        for item in tree:
            _write(item, head + "- ", indent + "  ", lines)
            head = indent
    else:
        lines.append(head + _scalar(tree, indent))


def _write_entry(head: str, value: Any, indent: str, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(head)
        _write(value, indent + "  ", indent + "  ", lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _write(value, indent, indent, lines)
    else:
        lines.append(f"{head} {_scalar(value, indent + '  ')}")


def _scalar(value: Any, indent: str) -> str:
    if isinstance(value, str):
        return _block(value, indent) if "\n" in value and _is_block(value) else _string(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return json.dumps(value)


def _is_block(text: str) -> bool:
    return (
        not _NOT_BLOCK.search(text)
        and not text.startswith((" ", "\n"))
        and " \n" not in text
        and bool(text.strip("\n"))
    )


def _block(text: str, indent: str) -> str:
    body = text.rstrip("\n")
    ends = len(text) - len(body)
    style = "|-" if ends == 0 else "|" if ends == 1 else "|+"
    written = [indent + line if line else "" for line in body.split("\n")] + [""] * (ends - 1)
    return "\n".join([style, *written])


def _string(text: str) -> str:
    if (
        _SIMPLE.fullmatch(text)
        and len(text) <= 1_024
        and type(resolve_or_none(text)) is str
        and not _SEXAGESIMAL.match(text)
    ):
        return text
    return '"' + _NOT_PRINTABLE.sub(_escape, text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def resolve_or_none(text: str) -> Any:
    """As `resolve` without a tag; None for a number with too many digits."""
    try:
        return resolve(text)
    except BadScalar:
        return None


_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return _ESCAPES.get(character) or (
        f"\\u{ord(character):04x}" if ord(character) < 2**16 else f"\\U{ord(character):08x}"
    )
