"""Whole numbers in texts, and the load balancers of a status: LIST-8, VAL-22, VAL-30."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.core.api.core_v1 import LoadBalancerIngress
from refk8s.core.api.integer import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    int64,
    parse_int64,
    parse_uint64,
)
from refk8s.core.api.networking_v1 import IngressLoadBalancerIngress
from refk8s.core.apiserver.validation.ports import validate_load_balancer

near = st.one_of(
    st.integers(-(10**25), 10**25), st.sampled_from([INT64_MIN, INT64_MAX, UINT64_MAX])
).flatmap(lambda number: st.integers(number - 1, number + 1))


@given(near, st.integers(0, 40))
@example(7, 5000)
def test_list_8_a_number_is_read_in_its_range_whatever_zeros_precede_it(number, zeros):
    sign = "-" if number < 0 else ""
    text = f"{sign}{'0' * zeros}{abs(number)}"
    for parse, least, most in ((parse_int64, INT64_MIN, INT64_MAX), (parse_uint64, 0, UINT64_MAX)):
        if least <= number <= most:
            assert parse(text) == number
            continue
        words = "invalid syntax" if number < 0 and least == 0 else "value out of range"
        with pytest.raises(ValueError, match=words):
            parse(text)


@given(st.text(st.sampled_from("0189+-_. ²٣"), max_size=6))
def test_list_8_a_text_is_a_number_or_nothing(text):
    digits = text[1:] if text[:1] in ("+", "-") else text
    is_number = digits != "" and set(digits) <= set("0123456789")
    assert int64(text) == (int(text) if is_number else None)


@pytest.mark.parametrize("point", [LoadBalancerIngress, IngressLoadBalancerIngress])
@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"ip": "192.0.2.1"}, []),
        ({"hostname": "a.example"}, []),
        ({"ip": "a.example"}, ["at[0].ip"]),
        ({"hostname": "192.0.2.1"}, ["at[0].hostname"]),
        ({"hostname": "A"}, ["at[0].hostname"]),
    ],
)
def test_val_22_val_30_a_load_balancer_has_an_address_or_a_name(point, fields, wrong):
    assert [cause.field for cause in validate_load_balancer((point(**fields),), "at")] == wrong
