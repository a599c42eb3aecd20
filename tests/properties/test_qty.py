"""Quantities, rules QTY-1 to QTY-6 (spec/object_model.md)."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
import strategies
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refk8s.core.api import quantity
from refk8s.core.api.quantity import (
    BINARY_SI,
    DECIMAL_EXPONENT,
    LARGEST,
    LARGEST_DECIMAL,
    NANO,
    Amount,
    QuantityError,
)

UNITS = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1), "k": Fraction(10**3), "M": Fraction(10**6),
    "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18), "Ki": Fraction(2**10), "Mi": Fraction(2**20),
    "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
suffixes = st.one_of(
    st.sampled_from(sorted(UNITS)), st.integers(-20, 20).map(lambda exponent: f"e{exponent}")
)
decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}{'.' + fraction if fraction else ''}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**20),
    st.text("0123456789", max_size=20),
)


def number_of(decimal: str, suffix: str) -> Fraction:
    """The number by plain arithmetic, before rounding and bounds."""
    return Fraction(decimal) * (
        Fraction(10) ** int(suffix[1:]) if re.match("e-?[0-9]", suffix) else UNITS[suffix]
    )


def as_kept(number: Fraction, suffix: str) -> int:
    """Nano units, rounded away from zero, within bounds: the rule QTY-4 in one line."""
    size = abs(number) * NANO
    largest = LARGEST if suffix.endswith("i") else LARGEST_DECIMAL
    nano = min(-(-size.numerator // size.denominator), largest)
    return nano if number >= 0 else -nano


@given(st.text("0123456789.+-eEinumkKMGTP", max_size=8))
@example("1e")
@example("1i")
@example("")
@example("1.1.1")
@example(" 1")
@example("1Kii")
@example("٣")
def test_qty_1_a_text_is_a_quantity_or_is_refused_in_kubernetes_words(text):
    form = re.fullmatch(r"[+-]?\d*(\.\d*)?([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?", text, re.ASCII)
    assert quantity.is_quantity(text) == (form is not None and text != "")
    if form is None or text == "":
        with pytest.raises(
            QuantityError,
            match=r"quantities must match the regular expression|unable to parse quantity's suffix",
        ):
            quantity.parse(text)


@given(decimals, suffixes)
@example("0.1", "Ki")
@example("1024", "Mi")
@example("9" * 5000, "m")
@example("1" + "0" * 150, "e-150")
@example("0." + "0" * 60 + "1", "Ei")
@example("1", "e999999999999999999")
@example("1", "e-999999999999999999")
def test_qty_2_the_canonical_text_says_the_same_number_and_is_its_own(decimal, suffix):
    amount = quantity.parse(decimal + suffix)
    if len(suffix) < 10 and len(decimal) < 4000:
        assert amount.nano == as_kept(number_of(decimal, suffix), suffix)
    text = str(amount)
    assert quantity.parse(text).nano == amount.nano
    assert quantity.canonical(text) == text


@pytest.mark.parametrize("text, canonical", [
    ("1000m", "1"), ("0.5", "500m"), ("1024Mi", "1Gi"), ("1e3", "1e3"), ("1E4", "10e3"), ("1000", "1k"), ("1500m", "1500m"),
    ("0.1Ki", "102400m"), ("1.953125Ki", "2k"), ("1.5Gi", "1536Mi"), ("512", "512"), ("0", "0"), ("0Gi", "0"), ("1023", "1023"),
    ("1024", "1024"), ("1Ki", "1Ki"), ("-500m", "-500m"),
    ("128974848", "128974848"), ("129e6", "129e6"), ("129M", "129M"), ("123Mi", "123Mi"), ("+2", "2"), (".5", "500m"), ("100e-3", "100e-3"),
])  # fmt: skip
def test_qty_2_known_texts(text, canonical):
    assert quantity.canonical(text) == canonical


@given(strategies.amounts)
def test_qty_2_every_number_has_a_text_that_means_it(amount):
    text = str(amount)
    assert quantity.parse(text).nano == amount.nano and str(quantity.parse(text)) == text
    suffix = text.lstrip("-0123456789")
    assert suffix in UNITS or suffix.startswith("e")


@given(strategies.quantities, strategies.quantities)
def test_qty_3_the_order_is_that_of_the_numbers(left, right):
    a, b = quantity.parse(left).nano, quantity.parse(right).nano
    assert quantity.compare(left, right) == (a > b) - (a < b)
    assert quantity.compare(left, right) == -quantity.compare(right, left)


@given(decimals, suffixes)
def test_qty_4_rounding_is_away_from_zero_and_by_less_than_a_nano_unit(decimal, suffix):
    exact, kept = number_of(decimal, suffix) * NANO, quantity.parse(decimal + suffix).nano
    assume(abs(exact) <= LARGEST)
    assert abs(exact) <= abs(kept) < abs(exact) + 1
    assert (kept > 0) == (exact > 0)


@given(st.integers(41, 10**6), st.sampled_from(["", "-"]))
def test_qty_4_what_is_too_large_counts_as_the_largest_of_its_style(exponent, sign):
    one = -1 if sign else 1
    assert quantity.parse(f"{sign}1e{exponent}").nano == one * LARGEST_DECIMAL
    assert quantity.parse(f"{sign}1{'0' * min(exponent, 300)}Ki").nano == one * LARGEST


@given(st.integers(2**63, 10**39))
def test_qty_4_a_decimal_number_beyond_the_binary_bound_is_kept(number):
    assert quantity.parse(str(number)).value == number
    assert quantity.parse(f"{number}Ki").value == 2**63 - 1


@given(strategies.quantities, strategies.quantities)
def test_qty_5_sums_are_exact_and_keep_the_left_style(left, right):
    assume(
        abs(quantity.parse(left).nano) < LARGEST // 2
        and abs(quantity.parse(right).nano) < LARGEST // 2
    )
    a, b = quantity.parse(left), quantity.parse(right)
    assert quantity.parse(quantity.add(left, right)).nano == a.nano + b.nano
    assert (a + b).format == (a.format if a.nano else b.format)


@given(strategies.amounts)
def test_qty_6_whole_units_and_thousandths_are_rounded_up(amount):
    for rounded, unit in ((amount.value, NANO), (amount.milli, NANO // 1000)):
        assert abs(amount.nano) <= abs(rounded) * unit < abs(amount.nano) + unit
        assert rounded == 0 or (rounded > 0) == (amount.nano > 0)


@given(st.integers(-(10**15), 10**15), st.sampled_from([BINARY_SI, DECIMAL_EXPONENT, "DecimalSI"]))
def test_qty_6_whole_units_and_thousandths_come_back(number, style):
    assert quantity.milli_value(quantity.from_milli(number)) == number
    assert quantity.from_milli(1500) == "1500m"
    assert Amount(number * NANO, style).value == number
