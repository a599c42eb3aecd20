"""Quantities: exact numbers with a unit, and the canonical text of each. Rules QTY-1 to QTY-6
(spec/object_model.md).

On the wire, in records and in requests a quantity is text: `100m`, `1Gi`, `1e3`. `parse` returns
its number as a whole count of nano units, so that sums and comparisons are exact; `str` of that is
the canonical text. The style is kept: a quantity read with a binary suffix is written with one if
that is exact. Source: Kubernetes documentation, "Quantity" (API reference, common definitions) and
"Resource Management for Pods and Containers".
"""

from __future__ import annotations

import re
from typing import Final

from refk8s.core.memo import remember
from refk8s.core.value import Value

NANO: Final = 10**9
"""Nano units in one."""
LARGEST: Final = (2**63 - 1) * NANO
"""The largest quantity of the binary style, 2**63 - 1; a larger one counts as this (QTY-4)."""

DECIMAL_SI: Final = "DecimalSI"
BINARY_SI: Final = "BinarySI"
DECIMAL_EXPONENT: Final = "DecimalExponent"

_DECIMAL_SUFFIXES: Final = {
    "n": -9,
    "u": -6,
    "m": -3,
    "": 0,
    "k": 3,
    "M": 6,
    "G": 9,
    "T": 12,
    "P": 15,
    "E": 18,
}
_DECIMAL_SUFFIX_OF: Final = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_SUFFIXES: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_BINARY_SUFFIX_OF: Final = ("", *_BINARY_SUFFIXES)
_FORM: Final = re.compile(
    r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*(?:[+-]?[0-9]*))", re.ASCII
)
_EXPONENT: Final = re.compile(r"[eE]([+-]?[0-9]+)", re.ASCII)

# Beyond these, a digit or an exponent does not change the result, only the time to compute it.
_DIGITS_MAX: Final = 120
_MAGNITUDE_MAX: Final = 40
LARGEST_DECIMAL: Final = 10**_MAGNITUDE_MAX * NANO
"""The largest quantity of the other styles. Upstream has no bound for them."""

WRONG_FORMAT: Final = (
    r"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
WRONG_SUFFIX: Final = "unable to parse quantity's suffix"


class QuantityError(ValueError):
    """The text is not a quantity. The message is Kubernetes' own."""


class Amount(Value, frozen=True):
    """A quantity as a number: `nano` units, and the style in which it is written. Two are equal if
    number and style are."""

    nano: int
    format: str = DECIMAL_SI

    def __str__(self) -> str:
        """The canonical text (QTY-2): with the largest unit that gives a whole number.
        O(digits)."""
        if self.nano == 0:
            return "0"
        # The binary style is kept if a binary suffix fits; else the decimal style is exact. A
        # number without a suffix is read back in the decimal style, so it must be written in it
        # (2000 as 2k).
        if self.format == BINARY_SI and self.nano % (1024 * NANO) == 0:
            number, steps = self.nano // (1024 * NANO), 1
            while number % 1024 == 0 and steps < 6:
                number, steps = number // 1024, steps + 1
            return f"{number}{_BINARY_SUFFIX_OF[steps]}"
        number, exponent = self.nano, -9
        while number % 1000 == 0 and (exponent < 18 or self.format == DECIMAL_EXPONENT):
            number, exponent = number // 1000, exponent + 3
        if self.format == DECIMAL_EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        return f"{number}{_DECIMAL_SUFFIX_OF[exponent]}"

    @property
    def value(self) -> int:
        """The number in whole units, rounded up (away from zero)."""
        return _round_up(self.nano, NANO)

    @property
    def milli(self) -> int:
        """The number in thousandths, rounded up (away from zero)."""
        return _round_up(self.nano, NANO // 1000)

    def __add__(self, other: Amount) -> Amount:
        """The exact sum, in the style of this one, or of the other if this is zero (QTY-5)."""
        return Amount(self.nano + other.nano, self.format if self.nano else other.format)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.nano - other.nano, self.format if self.nano else other.format)


ZERO: Final = Amount(0)


def _round_up(nano: int, unit: int) -> int:
    whole = -(-abs(nano) // unit)
    return whole if nano >= 0 else -whole


@remember(8192)
def parse(text: str) -> Amount:
    """The number of the text. Raises QuantityError for any other text (QTY-1).

    A number finer than a nano unit is rounded up, away from zero, so that a request that is not
    zero never becomes zero (QTY-4).
    """
    form = _FORM.fullmatch(text)
    if form is None or not text:
        raise QuantityError(WRONG_FORMAT)
    sign, whole, fraction, suffix = form.groups()
    fraction = (fraction or "").rstrip("0")
    power, shift, style = 0, 0, DECIMAL_SI
    if suffix in _DECIMAL_SUFFIXES:
        power = _DECIMAL_SUFFIXES[suffix]
    elif suffix in _BINARY_SUFFIXES:
        shift, style = _BINARY_SUFFIXES[suffix], BINARY_SI
    else:
        exponent = _EXPONENT.fullmatch(suffix)
        if exponent is None or len(exponent[1]) > 19:
            raise QuantityError(WRONG_SUFFIX)
        power, style = int(exponent[1]), DECIMAL_EXPONENT
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return Amount(0, style)

    # The number is below 10 ** magnitude. If that decides already, the digits are not read: there
    # could be millions.
    magnitude = len(digits) - len(fraction) + power
    places = len(fraction) - power - 9
    if magnitude > _MAGNITUDE_MAX:
        nano = LARGEST_DECIMAL
    elif magnitude < -_MAGNITUDE_MAX:
        nano = 1
    else:
        number = int(digits[:_DIGITS_MAX])
        if len(digits) > _DIGITS_MAX:
            # Below a nano unit it only matters whether a digit is not zero: then it is rounded up.
            number, places = (
                number + bool(digits[_DIGITS_MAX:].strip("0")),
                places - len(digits) + _DIGITS_MAX,
            )
        number <<= shift
        nano = number * 10**-places if places <= 0 else -(-number // 10**places)
    nano = min(nano, LARGEST if style == BINARY_SI else LARGEST_DECIMAL)
    if style == BINARY_SI and nano < NANO:
        style = DECIMAL_SI
    return Amount(-nano if sign == "-" else nano, style)


def canonical(text: str) -> str:
    """The text as the API server writes it: `1000m` -> `1`, `1024Mi` -> `1Gi` (QTY-2). Raises
    QuantityError if it is not a quantity."""
    return str(parse(text))


def is_quantity(text: str) -> bool:
    try:
        parse(text)
    except QuantityError:
        return False
    return True


def value(text: str) -> int:
    """The quantity in whole units (bytes, cores, pods), rounded up."""
    return parse(text).value


def milli_value(text: str) -> int:
    """The quantity in thousandths (millicores), rounded up."""
    return parse(text).milli


def compare(left: str, right: str) -> int:
    """-1, 0 or 1: the order of the numbers, whatever their styles (QTY-3)."""
    difference = parse(left).nano - parse(right).nano
    return (difference > 0) - (difference < 0)


def add(left: str, right: str) -> str:
    """The canonical text of the exact sum."""
    return str(parse(left) + parse(right))


def from_milli(number: int) -> str:
    """The canonical text of so many thousandths: `from_milli(1500)` is `1500m`, `from_milli(2000)`
    is `2`."""
    return str(Amount(number * (NANO // 1000)))
