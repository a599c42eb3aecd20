"""Expressions (spec/cel.md)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import cel
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.core.cel.check import CelTypeError, check
from refk8s.core.cel.evaluate import Budget, evaluate
from refk8s.core.cel.syntax import CelSyntaxError, parse
from refk8s.core.cel.types import (
    BOOL,
    DYN,
    INT,
    STRING,
    Type,
    list_of,
    map_of,
    object_of,
)
from refk8s.core.cel.values import BudgetExceeded, CelError

SELF = {"n": 3, "s": "abc", "l": [1, 2, 3], "m": {"x": 1}, "d": 1.5, "b": True}
UNITS = 100_000


def value(text: str, **variables: Any) -> Any:
    return evaluate(parse(text), {"self": SELF, **variables}, Budget(UNITS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4 / 2", 5),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("1 < 2 && !(2 < 1)", True),
        ("1/0 == 1 || true", True),
        ("false && 1/0 == 1", False),
        ("self.n > 2 ? 'a' : 'b'", "a"),
        ("has(self.n) && !has(self.q)", True),
        ("self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 3)", True),
        ("self.l.map(x, x * 2).filter(x, x > 2)", [4, 6]),
        ("self.l.map(x, x > 1, x + 1)", [3, 4]),
        ("self.m.all(k, self.m[k] == 1)", True),
        ("self.l.transformList(i, v, i + v)", [1, 3, 5]),
        ("self.m.transformMap(k, v, v + 1)", {"x": 2}),
        ("self.?q.orValue(7)", 7),
        ("self[?'n'].hasValue() && self.?n.value() == 3", True),
        ("optional.of(2).optMap(x, x + 1).value()", 3),
        ("cel.bind(x, 2, x * x)", 4),
        ("2 in self.l && 'x' in self.m && !('y' in self.m)", True),
        ("self.s.startsWith('a') && self.s.matches('^[a-c]+$') && self.s.size() == 3", True),
        ("'a-b-c'.split('-').join('+')", "a+b+c"),
        ("'abc'.substring(1) + 'abc'.charAt(0) + 'AB'.lowerAscii()", "bcaab"),
        ("'a1b22'.findAll('[0-9]+')", ["1", "22"]),
        ("'%s is %d, %.1f'.format(['x', 3, 1.25])", "x is 3, 1.2"),
        ("[3, 1].isSorted() || [1, 2].sum() == 3 && [1, 5].max() == 5", True),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1])", True),
        ("quantity('1Gi').isGreaterThan(quantity('1000Mi')) && isQuantity('1k')", True),
        ("quantity('500m').add(quantity('1500m')).asInteger()", 2),
        ("url('https://h.example:8/p?q=1').getHostname()", "h.example"),
        ("isIP('::1') && ip('10.0.0.1').family() == 4 && !isIP('300.1.1.1')", True),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3') && !isCIDR('10.0.0.0/40')", True),
        ("semver('1.10.0').isGreaterThan(semver('1.9.0-rc.1'))", True),
        ("duration('1h') > duration('59m') && duration('90s').getMinutes() == 1", True),
        ("timestamp('2024-02-29T01:02:03Z').getDayOfYear()", 59),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')", True),
        ("type(1) == int && type('a') == string && string(1) + 'a' == '1a'", True),
        ("[1, 2] + [3] == [1, 2, 3] && {'a': 1} == {'a': 1.0}", True),
        ("r'\\d' == '\\\\d' && '\\u0041\\n' == 'A' + '\\x0a'", True),
        ("size('') == 0 && b'ab' == bytes('ab')", True),
        ("true == true && !(true == dyn(1))", True),
    ],
)  # fmt: skip
def test_cel_3_an_expression_has_its_value(text, expected):
    found = value(text)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    ["self.q", "1/0", "[1][9]", "{'a': 1}['b']", "9223372036854775807 + 1", "-9223372036854775807 - 2", "1 + 1u", "'a' + 1", "quantity('x')", "int('x')", "'abc'.substring(4)", "self.l.all(x, 1)", "optional.none().value()", "timestamp('x')", "[1, 'a'].max()", "'a' < 1"],
)  # fmt: skip
def test_cel_3_what_has_no_value_is_an_error(text):
    with pytest.raises(CelError):
        value(text)


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "(1", "a b", "[1, 2", "1 = 1", "'a", "has(1)", "x.all(1, true)", "if", "a.b.", "9223372036854775808", "\\", "'\\q'", "(" * 100 + "1" + ")" * 100],
)  # fmt: skip
def test_cel_1_what_is_no_expression_is_refused(text):
    with pytest.raises(CelSyntaxError, match="ERROR: <input>:1:"):
        parse(text)


_OPERANDS = ["1", "2", "self.n", "self.s", "'abc'", "true", "self.b", "self.l", "[1, 2, 3]", "1.5", "self.d", "self.l[0]", "size(self.l)", "self.m"]  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    """An expression that both implementations can read; many are not well typed."""
    if depth == 0:
        return draw(st.sampled_from(_OPERANDS))
    inner = expressions(depth=depth - 1)
    kind = draw(st.integers(0, 6))
    one, other = draw(inner), draw(inner)
    if kind <= 2:
        operator = draw(st.sampled_from(["+", "-", "*", "==", "!=", "<", ">=", "&&", "||"]))
        return f"({one} {operator} {other})"
    if kind == 3:
        return f"({one} ? {other} : {draw(inner)})"
    if kind == 4:
        macro = draw(st.sampled_from(["all", "exists", "exists_one"]))
        return f"self.l.{macro}(x, x {draw(st.sampled_from(['<', '==', '>']))} 2)"
    if kind == 5:
        return f"({one} in self.l)"
    return f"!{one}"


@given(expressions())
@example("(1 + (2 * self.n))")
def test_cel_3_a_value_is_that_of_another_implementation(text):
    """Where both have a value, it is the same; where the other has one, ours is a type error at
    most (it compares and adds a few types that the specification does not)."""
    try:
        theirs = cel.compile(text).execute({"self": SELF})
    except Exception:
        return
    try:
        ours = value(text)
    except CelError as error:
        assert "overload" in str(error) or "no such" in str(error), error
        return
    assert ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool)


_LOOPS = "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"


def test_cel_2_an_evaluation_ends_within_its_budget():
    budget = Budget(UNITS)
    with pytest.raises(BudgetExceeded):
        evaluate(parse(f"true || {_LOOPS} || true"), {"self": [1] * 1_000}, Budget(1))
    with pytest.raises(BudgetExceeded):
        evaluate(parse(_LOOPS), {"self": [1] * 1_000}, budget)
    assert budget.left < 0
    text = "cel.bind(a, self + self, cel.bind(b, a + a, cel.bind(c, b + b, size(c + c))))"
    with pytest.raises(BudgetExceeded):
        evaluate(parse(text), {"self": "x" * 100_000}, Budget(UNITS))
    big = [list(range(1_000))] * 100
    with pytest.raises(BudgetExceeded):
        evaluate(parse("self.all(x, self == self)"), {"self": big}, Budget(UNITS))


TYPES = {
    "self": object_of(
        {
            "n": INT,
            "s": Type("string", size=10),
            "l": list_of(INT, 5),
            "m": map_of(STRING, INT, 5),
            "free": list_of(STRING),
            "any": DYN,
        }
    )
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("self.q == 1", "undefined field 'q'"),
        ("other == 1", "undeclared reference to 'other'"),
        ("nope(1)", "undeclared reference to 'nope'"),
        ("self.n + 'a' == 'b'", r"found no matching overload for '_\+_' applied to '\(int, string\)'"),
        ("self.n == 'a'", "found no matching overload for '_==_'"),
        ("self.s.startsWith(1)", "found no matching overload for 'startsWith'"),
        ("self.n.all(x, true)", "cannot be range of a comprehension"),
        ("self.l.all(x, x + 1)", "expected type 'bool'"),
        ("!self.n", "found no matching overload for '!_'"),
        ("self.n ? 1 : 2", "found no matching overload"),
        ("self.s.x", "does not support field selection"),
        ("self.l['a'] == 1", "found no matching overload for '_\\[_\\]'"),
    ],
)  # fmt: skip
def test_cel_4_an_expression_that_is_not_well_typed_is_refused(text, words):
    with pytest.raises(CelTypeError, match=words):
        check(parse(text), TYPES)


@pytest.mark.parametrize(
    "text",
    ["self.n > 1 && self.s.size() < 3", "self.l.map(x, x + 1).all(x, x > 0)", "self.m['a'] == 1 && self.m.a == 1", "self.any.b.c == 1", "self.?s.orValue('x') == 'y'", "self.l.exists(x, x in [1, 2])", "(self.n > 0 ? 'a' : 'b') == 'a'", "has(self.s)"],
)  # fmt: skip
def test_cel_4_an_expression_that_is_well_typed_is_accepted(text):
    assert check(parse(text), TYPES).type == BOOL


@given(expressions(), st.lists(st.integers(0, 3), max_size=5), st.text(max_size=10))
@example("self.l.all(x, x < 2)", [0] * 5, "")
def test_cel_5_no_evaluation_costs_more_than_the_estimate(text, numbers, word):
    variables = {**SELF, "l": numbers or [1], "s": word}
    types = {
        "self": object_of(
            {"n": INT, "s": Type("string", size=10), "l": list_of(INT, 5), "m": map_of(STRING, INT, 1), "d": Type("double"), "b": BOOL}
        )
    }  # fmt: skip
    node = parse(text)
    try:
        cost = check(node, types).cost
    except CelTypeError:
        return
    budget = Budget(UNITS)
    with suppress(CelError):
        evaluate(node, {"self": variables}, budget)
    assert UNITS - budget.left <= cost


def test_cel_5_nested_loops_over_an_unbounded_list_are_expensive():
    one = check(parse("self.free.all(x, x != '')"), TYPES).cost
    two = check(parse("self.free.all(x, self.free.all(y, x != y))"), TYPES).cost
    assert 10**6 < one < 10**8 and two > 10**12
    few = {"self": list_of(STRING, 50)}
    for text in ("self.all(x, x.startsWith('a'))", "self.exists(x, x == 'abc')"):
        assert check(parse(text), few).cost < 1_000


_SOUP = st.text(alphabet="self.nlm()[]{}?:,+-*/%!<>=&|'\"x012 \\abin", max_size=30)


@pytest.mark.parametrize("text", ["1" + "+1" * 5_000, "self" + ".a" * 5_000, "!" * 5_000 + "true", "[" * 5_000, "1 ? " * 500 + "1" + " : 1" * 500])  # fmt: skip
def test_cel_6_a_long_or_deep_expression_is_refused(text):
    with pytest.raises((CelSyntaxError, CelTypeError)):
        check(parse(text), {"self": DYN})
    with pytest.raises((CelSyntaxError, CelError)):
        evaluate(parse(text), {"self": {}}, Budget(UNITS))


@given(_SOUP | expressions())
def test_cel_6_every_text_is_an_expression_or_a_syntax_error(text):
    try:
        node = parse(text)
    except CelSyntaxError:
        return
    with suppress(CelTypeError):
        check(node, {"self": DYN})
    with suppress(CelError, BudgetExceeded):
        evaluate(node, {"self": SELF}, Budget(UNITS))


@pytest.mark.parametrize("digits", ["1" * 65, "0x" + "f" * 65, "9" * 5_000, "9" * 65 + "u"])
def test_cel_6_a_number_of_very_many_digits_is_refused(digits):
    with pytest.raises(CelSyntaxError, match=r"invalid u?int literal"):
        parse(digits)
    assert evaluate(parse("0" * 5_000 + "7"), {}, Budget(UNITS)) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1Gi", ["1:2: Syntax error: extraneous input 'Gi' expecting <EOF>\n | 1Gi\n | .^"]),
        ("object.", ["1:8: Syntax error: no viable alternative at input '.'\n | object.\n | .......^"]),
        ("10.0.0.1", ["1:5: Syntax error: mismatched input '.0' expecting <EOF>\n | 10.0.0.1\n | ....^"]),
        ("O{a", ["1:4: Syntax error: mismatched input '<EOF>' expecting ':'\n | O{a\n | ...^"]),
        ("a/b", ["1:1: undeclared reference to 'a' (in container '')\n | a/b\n | ^", "1:3: undeclared reference to 'b' (in container '')\n | a/b\n | ..^"]),
        ("true &&\n\tsize(1)", ["2:6: found no matching overload for 'size' applied to '(int)'\n |  size(1)\n | .....^"]),
        ("'宽' + x", ["1:7: undeclared reference to 'x' (in container '')\n | '宽' + x\n | .．....^"]),
    ],
)  # fmt: skip
def test_cel_1_errors_have_their_line_and_a_mark(text, expected):
    with pytest.raises((CelSyntaxError, CelTypeError)) as found:
        check(parse(text), {}, text)
    assert str(found.value) == "\n".join(f"ERROR: <input>:{one}" for one in expected)


def test_cel_1_an_operand_that_is_missing_is_reported_and_the_rest_is_read():
    with pytest.raises(CelSyntaxError) as found:
        parse("*")
    lines = [line for line in str(found.value).split("\n") if line.startswith("ERROR")]
    expected = ["1:1: Syntax error: mismatched input '*'", "1:2: Syntax error: mismatched input '<EOF>'"]  # fmt: skip
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith(f"ERROR: <input>:{words} expecting {{'[', '{{', '(', '.', '-', '!',")


def test_cel_3_optional_entries_are_left_out_if_they_have_no_value():
    assert value("[?self.?n, ?self.?q, 1]") == [3, 1]
    assert value("{?'a': self.?n, ?'b': self.?q}") == {"a": 3}
    assert value("Object{?a: self.?n, ?b: self.?q, c: 1}") == {"a": 3, "c": 1}
    with pytest.raises(CelError):
        value("[?1]")


def test_cel_8_the_authorizer_is_asked_for_the_user_or_an_account():
    from refk8s.core.cel.authorizer import Answer, Authorizer, Check

    asked = []

    def ask(what: Check, verb: str) -> Answer:
        asked.append((what, verb))
        return Answer(verb == "get", "because")

    request = Check(group="apps", resource="deployments", namespace="n", name="d")
    known = {"authorizer": Authorizer(ask, request)}
    deep = "authorizer.group('').resource('pods').subresource('log').namespace('n').name('p')"
    assert value(
        f"{deep}.check('get').allowed() && {deep}.check('x').reason() == 'because'", **known
    )
    assert asked[0] == (Check(resource="pods", subresource="log", namespace="n", name="p"), "get")
    assert value("authorizer.requestResource.check('get').allowed()", **known)
    assert asked[-1] == (request, "get")
    text = "authorizer.serviceAccount('n', 'a').path('/x').check('get').errored()"
    assert value(text, **known) is False and asked[-1][0] == Check(path="/x", account=("n", "a"))
    asked.clear()
    wrong = (
        "authorizer.group('').resource('pods').fieldSelector('a==').labelSelector('(').check('get')"
    )
    assert value(f"{wrong}.errored() && {wrong}.error() != '' && !{wrong}.allowed()", **known)
    assert not asked
    with pytest.raises(CelError):
        value("authorizer.group('').resource('').check('get').allowed()", **known)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("object.spec.replicas", "int"), ("object.metadata.creationTimestamp", "google.protobuf.Timestamp"), ("object.metadata.labels.x", "string"), ("object.spec.template.spec.containers", "list(Container)"), ("object.spec.strategy.rollingUpdate.maxSurge", "dyn")],
)  # fmt: skip
def test_cel_9_a_built_in_kind_has_the_fields_of_its_record(text, kind):
    from refk8s.core.api.apps_v1 import Deployment
    from refk8s.core.cel.records import record_type

    assert str(check(parse(text), {"object": record_type(Deployment)}).type) == kind
    with pytest.raises(CelTypeError, match="undefined field 'none'"):
        check(parse("object.spec.none"), {"object": record_type(Deployment)})


def test_cel_3_sets_and_lists_of_type_map_are_joined_by_their_items():
    from refk8s.core.cel.values import Unordered

    some, more = Unordered(["a", "b"]), Unordered(["b", "c"])
    assert value("some + more", some=some, more=more) == ["a", "b", "c"]
    assert value("some + more == ['c', 'b', 'a'] + []", some=some, more=more) is False
    maps = Unordered([{"k": 1, "v": "x"}, {"k": 2}], ("k",))
    others = Unordered([{"k": 2, "v": "y"}, {"k": 3}], ("k",))
    found = value("(maps + others).map(one, [one.k, one.?v.orValue('')])", maps=maps, others=others)
    assert found == [[1, "x"], [2, "y"], [3, ""]]
    assert value("maps + maps == maps", maps=maps)


def test_cel_3_parts_of_times_are_those_of_a_zone():
    moment = "timestamp('2026-07-01T23:30:00Z')"
    assert value(f"{moment}.getHours('Europe/Berlin')") == 1
    assert value(f"{moment}.getDate('Europe/Berlin')") == 2
    assert value(f"{moment}.getHours('-02:30')") == 21 and value(f"{moment}.getHours()") == 23
    for zone in ("Nowhere/At_All", "../../etc/passwd", "/etc/localtime", "", "a\\u0000b"):
        with pytest.raises(CelError):
            value(f"{moment}.getHours('{zone}')")
