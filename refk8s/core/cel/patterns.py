"""Regular expressions of schemas and of matches(): RE2, whose time is linear in the text. Rules
CRD-9 and CRD-22 (spec/custom_resources.md).

Upstream's are those of Go, which have the same syntax. Python's own would let a client keep the
server busy with one text (catastrophic backtracking). Source: RE2, "Syntax".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

PATTERN_LENGTH_MAX: Final = 8_192
MEMORY_BYTES_MAX: Final = 1 << 20
"""The memory of one compiled pattern; a larger one is refused as invalid."""


class InvalidPattern(ValueError):
    """The text is no regular expression. The message says why."""


class Pattern:
    """A compiled pattern. Without anchors it may match anywhere in a text."""

    __slots__ = ("_matches", "text")

    def __init__(self, text: str, compiled: Any) -> None:
        self.text = text
        self._matches = compiled.search

    def matches(self, text: str) -> bool:
        """Whether the text has a match. O(length)."""
        return self._matches(text) is not None

    def find_all(self, text: str, count_max: int) -> list[str]:
        """The first matches, at most so many. O(length)."""
        found: list[str] = []
        at = 0
        while at <= len(text) and len(found) < count_max:
            match = self._matches(text, at)
            if match is None:
                break
            found.append(match.group())
            at = match.end() if match.end() > match.start() else match.end() + 1
        return found


def compile_pattern(text: str) -> Pattern:
    """The pattern. Raises InvalidPattern."""
    if len(text) > PATTERN_LENGTH_MAX:
        raise InvalidPattern(f"a pattern has at most {PATTERN_LENGTH_MAX} characters")
    return _compile(text)


@lru_cache(maxsize=256)
def _compile(text: str) -> Pattern:
    import re2  # loaded with the first pattern

    options = re2.Options()
    options.max_mem = MEMORY_BYTES_MAX
    options.log_errors = False
    try:
        return Pattern(text, re2.compile(text, options))
    except re2.error as error:
        message = error.args[0] if error.args else ""
        shown = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
        raise InvalidPattern(f"error parsing regexp: {shown}") from None
