"""Objects that an API server sends more than once. Rule CLIENT-7 (spec/client.md).

A component that writes an object gets it in the answer, and again in its watch. The second time,
the record is found by its text, and both are the same value.
"""

from typing import Any, Final

from refk8s.core.api.codec import decode_answer
from refk8s.core.api.managed_fields import with_shared_entries
from refk8s.core.memo import remember_within

TEXTS_BYTES_MAX: Final = 2 << 20
"""The bytes of the texts that are kept. A write and its event are milliseconds apart."""


def decode_object(type_: type[Any], text: bytes) -> Any:
    """The object of this type, with shared entries of managedFields. Raises DecodeError."""
    return _decode(type_, text.rstrip(b"\n"))


def _size_of(type_: type[Any], text: bytes) -> int:
    return len(text)


@remember_within(TEXTS_BYTES_MAX, _size_of)
def _decode(type_: type[Any], text: bytes) -> Any:
    return with_shared_entries(decode_answer(type_, text))
