"""The checksums of the rows of a store's file, and their sum. Rule STORE-21 (spec/store.md).

They detect altered and lost rows, and are no protection against a user who alters the file on
purpose.
"""

from hashlib import blake2b
from struct import Struct
from struct import error as StructError
from typing import Any, Final
from zlib import crc32

from refk8s.core.store import Revision

SUM_BITS: Final = 64
"""The bits of the sum."""

_NUMBERS: Final = Struct("<qqqq")
_NOT_ZERO: Final = 1 << 32


def checksum(
    position: int, key: str, value: bytes | None, create_revision: Revision, version: int
) -> int:
    """The checksum of a row's columns: a CRC, which differs after any change of up to 32
    neighbouring bits. It is never zero, so that the sum of a store without the row differs. Raises
    TypeError or struct.error for columns of other types."""
    numbers = _NUMBERS.pack(position, create_revision, version, -1 if value is None else len(value))
    head = crc32(key.encode(), crc32(numbers))
    return _NOT_ZERO + (head if value is None else crc32(value, head))


def checksum_of_layout_2(
    position: int, key: str, value: bytes | None, create_revision: Revision, version: int
) -> int:
    """The checksum of rows that an older refk8s wrote, and of what a store has once. A signed
    64-bit number. Raises as `checksum`."""
    numbers = _NUMBERS.pack(position, create_revision, version, -1 if value is None else len(value))
    whole = numbers + key.encode() + (value or b"")
    return int.from_bytes(blake2b(whole, digest_size=8).digest(), "little", signed=True)


def is_whole(
    position: int, key: Any, value: Any, create_revision: Any, version: Any, found: Any
) -> bool:
    """Whether a row has its checksum; the columns of an altered row may have any type."""
    row = (position, key, value, create_revision, version)
    try:
        return bool(found == checksum(*row) or found == checksum_of_layout_2(*row))
    except (TypeError, AttributeError, ValueError, StructError):
        return False


def checksum_of_compacted(revision: Revision) -> int:
    """The checksum of the compacted revision, which is a part of the sum."""
    return checksum_of_layout_2(revision, "compacted", None, 0, 0)


def checksum_of_cluster(cluster_id: Any) -> int:
    """The checksum of the cluster's id, a part of the sum too. Raises TypeError for no string."""
    if not isinstance(cluster_id, str):
        raise TypeError("the cluster's id is not a string")
    return checksum_of_layout_2(0, cluster_id, None, 0, 0)


def wrapped(total: int) -> int:
    """The sum as a signed 64-bit number."""
    half = 1 << (SUM_BITS - 1)
    return (total + half) % (2 * half) - half
