"""Label selectors and field selectors, rules SEL-1 to SEL-7 (spec/object_model.md)."""

from __future__ import annotations

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.core.api import selector
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from refk8s.core.api.selector import NOTHING, Selector, SelectorError

label_sets = st.lists(strategies.labels, min_size=1, max_size=5)


def by_the_book(key: str, operator: str, values: tuple[str, ...], labels: dict[str, str]) -> bool:
    """One requirement as the documentation puts it."""
    match operator:
        case "In" | "=" | "in":
            return key in labels and labels[key] in values
        case "NotIn" | "!=" | "notin":
            return key not in labels or labels[key] not in values
        case "Exists" | "exists":
            return key in labels
        case "DoesNotExist" | "!":
            return key not in labels
        case _:
            raise AssertionError(operator)


@given(strategies.label_selectors, label_sets)
def test_sel_1_an_object_matches_when_every_requirement_holds(given_selector, label_maps):
    parsed = selector.from_label_selector(given_selector)
    for labels in label_maps:
        expected = all(
            labels.get(key) == value for key, value in (given_selector.match_labels or {}).items()
        ) and all(
            by_the_book(one.key, one.operator, one.values or (), labels)
            for one in given_selector.match_expressions or ()
        )
        assert parsed.matches(labels) == expected


@given(strategies.labels, strategies.labels)
def test_sel_1_a_map_selects_what_has_all_of_it(wanted, labels):
    assert selector.from_map(wanted).matches(labels) == (wanted.items() <= labels.items())


@given(
    strategies.label_names,
    st.lists(strategies.label_values, min_size=1, max_size=3),
    strategies.labels,
)
def test_sel_2_an_operator_and_its_opposite_divide_all_objects(key, values, labels):
    listed = ",".join(values)
    for yes, no in (
        (f"{key}={values[0]}", f"{key}!={values[0]}"),
        (f"{key} in ({listed})", f"{key} notin ({listed})"),
        (key, f"!{key}"),
    ):
        assert selector.parse(yes).matches(labels) != selector.parse(no).matches(labels)
    if key not in labels:
        assert selector.parse(f"{key}!=x").matches(labels) and not selector.parse(
            f"{key}="
        ).matches(labels)


@given(st.integers(-5, 15).map(str), st.integers(0, 9))
@example("", 1)
@example("web", 1)
@example("1" * 40, 1)
def test_sel_2_greater_and_less_compare_numbers_and_nothing_else(value, bound):
    number = int(value) if value.lstrip("-").isdigit() and len(value) < 19 else None
    assert selector.parse(f"a>{bound}").matches({"a": value}) == (
        number is not None and number > bound
    )
    assert selector.parse(f"a<{bound}").matches({"a": value}) == (
        number is not None and number < bound
    )


@given(st.text("ab=!,()<> inot/-.1", max_size=14))
@example("app===x")
@example("a in (x")
def test_sel_3_a_text_is_a_selector_or_is_refused(text):
    try:
        parsed = selector.parse(text)
    except SelectorError as error:
        assert str(error)
    else:
        assert selector.parse(str(parsed)) == parsed


@pytest.mark.parametrize("text, message", [
    ("app===x", "unable to parse requirement: found '=', expected: identifier"),
    ("app in prod", "unable to parse requirement: found 'prod' expected: '('"),
    ("=b", "found '=', expected: !, identifier, or 'end of string'"),
    ("a,", "found '', expected: identifier after ','"),
    ("!a=b", "found '=', expected: ',' or 'end of string'"),
    ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
    ("a>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"),
])  # fmt: skip
def test_sel_3_the_words_are_upstreams(text, message):
    with pytest.raises(SelectorError) as error:
        selector.parse(text)
    assert str(error.value) == message


@pytest.mark.parametrize("bad", [
    LabelSelectorRequirement(key="a", operator="Has"), LabelSelectorRequirement(key="a", operator="In"),
    LabelSelectorRequirement(key="a", operator="Exists", values=("x",)), LabelSelectorRequirement(key="-a", operator="Exists"),
    LabelSelectorRequirement(key="a/b/c", operator="Exists"), LabelSelectorRequirement(key="a" * 64, operator="Exists"),
    LabelSelectorRequirement(key="a", operator="In", values=("-",)), LabelSelectorRequirement(key="", operator="Exists"),
])  # fmt: skip
def test_sel_3_an_object_that_is_no_selector_is_refused(bad):
    with pytest.raises(SelectorError):
        selector.from_label_selector(LabelSelector(match_expressions=(bad,)))


@given(strategies.selector_texts, label_sets)
def test_sel_4_the_canonical_text_is_the_same_selector(text, label_maps):
    parsed = selector.parse(text)
    again = selector.parse(str(parsed))
    assert again == parsed and str(again) == str(parsed)
    for labels in label_maps:
        assert again.matches(labels) == parsed.matches(labels)


@given(strategies.label_selectors, label_sets)
def test_sel_4_an_object_and_its_text_select_alike(given_selector, label_maps):
    parsed = selector.from_label_selector(given_selector)
    if not parsed.is_everything:
        assert [selector.parse(str(parsed)).matches(labels) for labels in label_maps] == [
            parsed.matches(labels) for labels in label_maps
        ]


@given(strategies.labels)
def test_sel_5_absent_selects_nothing_and_empty_everything(labels):
    assert not selector.from_label_selector(None).matches(
        labels
    ) and not selector.from_label_selector(None).matches(None)
    assert selector.from_label_selector(LabelSelector()).matches(labels) and selector.from_map(
        None
    ).matches(labels)
    assert selector.parse("").matches(labels) and selector.parse("") == Selector()
    assert (
        selector.from_label_selector(None) == NOTHING
        and Selector() != NOTHING
        and not NOTHING.is_everything
    )


field_maps = st.dictionaries(
    st.sampled_from(["metadata.name", "spec.nodeName", "status.phase"]),
    strategies.any_text,
    max_size=3,
)


@given(field_maps, field_maps, st.lists(st.booleans(), min_size=3, max_size=3))
def test_sel_6_a_field_selector_compares_each_named_field(wanted, fields, equal):
    chosen = tuple(zip(sorted(wanted), equal, strict=False))
    parsed = selector.FieldSelector(
        tuple(
            selector.FieldRequirement(key, "=" if is_equal else "!=", wanted[key])
            for key, is_equal in chosen
        )
    )
    expected = all((fields.get(key, "") == wanted[key]) == is_equal for key, is_equal in chosen)
    assert parsed.matches(fields) == expected == parsed.matches(lambda key: fields.get(key, ""))
    for key, is_equal in chosen:
        assert parsed.value_of(key) == (wanted[key] if is_equal else None)


@given(field_maps, st.lists(st.sampled_from(["=", "==", "!="]), min_size=3, max_size=3))
@example({"metadata.name": "a,b=c\\"}, ["==", "=", "="])
def test_sel_7_any_value_can_be_written_and_read_back(wanted, operators):
    def escape(value: str) -> str:
        return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")

    text = ",".join(
        f"{key}{operator}{escape(value)}"
        for (key, value), operator in zip(wanted.items(), operators, strict=False)
    )
    parsed = selector.parse_fields(text)
    assert {one.key: one.value for one in parsed.requirements} == wanted
    assert selector.parse_fields(str(parsed)) == parsed


@given(st.text("ab=!,\\.", max_size=12))
@example("a")
@example("a=b=c")
def test_sel_7_a_text_is_a_field_selector_or_is_refused(text):
    try:
        parsed = selector.parse_fields(text)
    except SelectorError as error:
        assert str(error).startswith("invalid")
    else:
        assert selector.parse_fields(str(parsed)) == parsed
