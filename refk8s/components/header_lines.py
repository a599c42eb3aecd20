"""The lines of HTTP headers. Source: RFC 9112, "Field Syntax"."""

import re
from collections.abc import Iterable

_INVALID = re.compile(b"[\x00-\x08\x0a-\x1f\x7f]")


def header_lines(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """These headers as lines. Raises ValueError for a value that could end its line."""
    lines: list[bytes] = []
    for name, value in pairs:
        if _INVALID.search(value):
            raise ValueError(f"a control character in the header {name!r}")
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)
