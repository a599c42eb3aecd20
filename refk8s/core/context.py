"""Time, randomness and generated identities: their only source in the core.

Nothing in `refk8s/core` reads a clock or draws a random number. A driver passes the current instant
and a `Chance`. A simulator passes virtual time and a `SeededChance`, so the same seed gives the
same history.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol, TypeVar

from refk8s.core.memo import remember
from refk8s.core.value import Value

Instant = int
"""A point in time: whole microseconds since the Unix epoch."""

MILLISECOND: Instant = 1_000
SECOND: Instant = 1_000_000
MINUTE: Instant = 60 * SECOND

SECONDS_MAX = 2**31 - 1
"""The longest duration that is passed to an adapter, about 68 years. Container engines and timers
use 32 or 64 bits for a duration, in different units."""

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The alphabet of generated names: without vowels, so that no words arise, and without characters
# that look alike.
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5


def safe_text(number: int) -> str:
    """The digits of a number in the alphabet of generated names, as upstream writes hashes."""
    return "".join([SUFFIX_ALPHABET[ord(digit) % len(SUFFIX_ALPHABET)] for digit in str(number)])


_SECOND_MIN = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
_SECOND_MAX = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    """The second in RFC 3339, which has four digits for a year. A time outside the years 1 to 9999
    becomes the first or last second of them."""
    second = min(max(second, _SECOND_MIN), _SECOND_MAX)
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").zfill(19)


@lru_cache(maxsize=64)
def _second_in_utc(second: int) -> str:
    """The text of a second. It is cached, since one pod has twenty times of the same second."""
    return _second_text(second) + "Z"


def timestamp(now: Instant) -> str:
    """The instant as Kubernetes' Time: RFC 3339, UTC, whole seconds (rounded down).

    An instant outside the years 1 to 9999 becomes the first or the last one that can be written
    (LOOP-12).
    """
    return _second_in_utc(now // SECOND)


def micro_timestamp(now: Instant) -> str:
    """The instant as Kubernetes' MicroTime: RFC 3339, UTC, six decimals."""
    return f"{_second_text(now // SECOND)}.{now % SECOND:06d}Z"


def duration_text(seconds: int) -> str:
    """Seconds as Go writes them, below an hour: 10s, 2m40s, 5m0s."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


@remember(4096)
def parse_timestamp(text: str) -> Instant:
    """The instant of an RFC 3339 text. Raises ValueError for any other text."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


class Chance(Protocol):
    """A source of random bytes."""

    def draw(self, count: int) -> bytes:
        """So many random bytes; each call returns other ones."""


class SeededChance:
    """Random bytes from a seed: the n-th draw for a seed is always the same."""

    __slots__ = ("_count", "_seed")

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._count = 0

    def draw(self, count: int) -> bytes:
        self._count += 1
        return blake2b(self._seed + self._count.to_bytes(8, "big"), digest_size=count).digest()


class Context(Value, frozen=True):
    """The inputs of a decision besides its arguments: the current instant, and random bytes."""

    now: Instant
    chance: Chance

    def uid(self) -> str:
        """A new UUID of version 4."""
        return format_uid(self.chance.draw(16))

    def suffix(self) -> str:
        """The suffix that generateName appends: five letters or digits of Kubernetes' safe
        alphabet."""
        return format_suffix(self.chance.draw(SUFFIX_LENGTH))

    def choose(self, options: Sequence[T]) -> T:
        """One of the options, each with the same probability (to within 2**-32)."""
        return options[int.from_bytes(self.chance.draw(8), "big") % len(options)]

    def below(self, bound: int) -> int:
        """A number from 0 up to but not including the bound."""
        return int.from_bytes(self.chance.draw(8), "big") % bound


def format_uid(raw: bytes) -> str:
    """Sixteen bytes as a UUID of version 4, variant RFC 4122."""
    text, variant = raw.hex(), "89ab"[raw[8] >> 4 & 0x3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def format_suffix(raw: bytes) -> str:
    """Each byte as a letter or digit of the safe alphabet."""
    return raw.translate(_SUFFIX_TABLE).decode("ascii")


_SUFFIX_TABLE = bytes([ord(SUFFIX_ALPHABET[byte % len(SUFFIX_ALPHABET)]) for byte in range(256)])
