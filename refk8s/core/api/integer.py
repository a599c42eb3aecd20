"""Whole numbers of 64 bits in texts, as Go's `strconv` reads them: annotations, selectors, queries,
revisions.

Leading zeros do not count. Error messages are Go's, because a Kubernetes API server returns them.
Source: Go documentation, package strconv, "ParseInt" and "ParseUint" with base 10.
"""

from refk8s.core.api.status import show

INT64_MIN, INT64_MAX, UINT64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_DIGITS_MAX = 20


def parse_int64(text: str) -> int:
    """The number; it may have a sign. Raises ValueError with Go's message for any other text.
    O(text)."""
    return _parse(
        "ParseInt", text, text[1:] if text[:1] in ("+", "-") else text, INT64_MIN, INT64_MAX
    )


def parse_uint64(text: str) -> int:
    """The number; it has no sign. Raises ValueError with Go's message for any other text.
    O(text)."""
    return _parse("ParseUint", text, text, 0, UINT64_MAX)


def int64(text: str) -> int | None:
    """As `parse_int64`, but None for a text that is not such a number."""
    try:
        return parse_int64(text)
    except ValueError:
        return None


def _parse(function: str, text: str, digits: str, least: int, most: int) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"strconv.{function}: parsing {show(text)}: invalid syntax")
    # More digits than that are out of range, and Python reads a number of thousands of digits
    # slowly or rejects it.
    significant = digits.lstrip("0")[: _DIGITS_MAX + 1] or "0"
    number = -int(significant) if text[0] == "-" else int(significant)
    if not least <= number <= most:
        raise ValueError(f"strconv.{function}: parsing {show(text)}: value out of range")
    return number
