"""YAML in and out. Rules HTTP-20 ... HTTP-22 (spec/http.md)."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.yaml_reader import BadYaml, read_yaml, read_yaml_documents
from refk8s.core.api.codec import encode
from refk8s.core.api.user import User
from refk8s.core.api.yaml_text import write_yaml
from refk8s.core.apiserver.http import Received, WireRequest, receive
from refk8s.core.apiserver.respond import Reply

ME = User("me")
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def sent(body: bytes, query: str = "") -> Any:
    headers = {"content-type": "application/yaml"}
    return receive(WireRequest("POST", CONFIG_MAPS, query, headers, body), ME, read_yaml)


def as_json(body: str) -> Any:
    return json.loads(json.dumps(read_yaml(body).tree))


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("12:30:45", "12:30:45"), ("2001-01-01", "2001-01-01"), ("2001-99-99T99:99:99Z", "2001-99-99T99:99:99Z"), ("=", "="),
        ("yes", True), ("y", True), ("On", True), ("TRUE", True), ("no", False), ("N", False), ("OFF", False), ("oN", "oN"),
        ("~", None), ("Null", None), ("", None), ("nULL", "nULL"),
        ("017", 15), ("0o17", 15), ("08", 8), ("0x1F", 31), ("-0x1f", -31), ("0b101", 5), ("1_000", 1000), ("+1", 1), ("0", 0),
        ("1e3", 1000), (".5", 0.5), ("1.5", 1.5), ("-1.25e-2", -0.0125), ("1.", 1), ("1e999", "1e999"), ("._5", "._5"),
        ("18446744073709551615", 2**64 - 1), ("99999999999999999999999999", 99999999999999999999999999),
        ("1.2.3", "1.2.3"), ("1Gi", "1Gi"), ("100m", "100m"), ("-", [None]), ("0x", "0x"), ("09a", "09a"),
        ("'12'", "12"), ('"yes"', "yes"), ("!!str 12", "12"), ("!!int '12'", 12), ("!!float 3", 3), ("!!binary Zm9v", "foo"),
        ("!other 12", "12"), ("! 12", "12"), ("!!timestamp x", "x"),
    ],
)  # fmt: skip
def test_http_20_a_scalar_has_the_type_that_kubernetes_gives_it(scalar: str, value: Any) -> None:
    got = as_json(f"a: {scalar}" if scalar != "-" else "a:\n-")
    assert got == {"a": value} and type(got["a"]) is type(value)


def test_http_20_keys_are_strings_and_the_first_document_counts() -> None:
    assert as_json("1: a\non: b\n1.5: c\n1e6: d\n0x10: e\n12:30: f\n--- \nsecond: 1") == {
        "1": "a", "true": "b", "1.5": "c", "1e+06": "d", "16": "e", "12:30": "f",
    }  # fmt: skip
    assert [document.tree for document in read_yaml_documents("a: 1\n---\nb: 2\n---\n")] == [
        {"a": 1},
        {"b": 2},
        None,
    ]


def test_http_20_merge_keys_merge_in_order_and_the_first_of_several_maps_counts() -> None:
    assert as_json("a: &a {p: 1, q: 2}\nb: &b {p: 3, r: 4}\nc:\n  <<: [*a, *b]\n  q: 5\n")["c"] == {
        "p": 1,
        "q": 5,
        "r": 4,
    }
    assert as_json("a:\n  '<<': 1\n") == {"a": {"<<": 1}}
    with pytest.raises(BadYaml, match="map merge requires"):
        read_yaml("<<: 1")


@pytest.mark.parametrize(
    "body",
    [
        "~: 1",
        "{? [a] : b}",
        ".nan: .nan",
        "a: .inf",
        "!!int x",
        "a: *b",
        "a: &a [*a]",
        "a: b: c",
        "a: \x01",
    ],
)
def test_http_20_what_json_cannot_say_is_a_bad_request(body: str) -> None:
    reply = sent(body.encode())
    assert isinstance(reply, Reply) and reply.code == 400
    assert "error converting YAML to JSON: " in json.loads(reply.content)["message"]


BODY = b"metadata: {name: x}\ndata:\n  a: '1'\n  a: '2'\n  b: '3'\n  b: '4'\n"


def test_http_20_a_repeated_key_is_a_warning_and_under_strict_refused() -> None:
    warned = sent(BODY)
    assert isinstance(warned, Received) and dict(warned.request.body.data) == {"a": "2", "b": "4"}
    assert warned.warnings == (
        'line 4: key "a" already set in map',
        'line 6: key "b" already set in map',
    )
    assert sent(BODY, "fieldValidation=Ignore").warnings == ()
    reply = sent(BODY, "fieldValidation=Strict")
    assert reply.code == 400
    assert json.loads(reply.content)["message"] == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        "error converting YAML to JSON: "
        'yaml: unmarshal errors:\n  line 4: key "a" already set in map\n  line 6: '
        'key "b" already set in map'
    )


def bomb(levels: int) -> bytes:
    """A body of a few hundred bytes that stands for 9 to the power of `levels` nodes."""
    lines = [
        f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]"
        for number in range(1, levels)
    ]
    return "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x]", *lines]).encode()


@pytest.mark.parametrize(
    "body",
    [
        bomb(12),
        b"a: &a " + b"x" * 100_000 + b"\nb: [" + b",".join([b"*a"] * 1_000) + b"]",
        b"[" * 100_000,
        b"{a: " * 100_000,
        b"? " * 100_000,
        b"- " * 100_000,
        b"[" + b"1," * 300_000 + b"1]",
        b"9" * 100_000,
        b"a: &a {" + b",".join(b"k%d: 1" % n for n in range(1_000)) + b"}\n" + b"b: {<<: [" + b",".join([b"*a"] * 3_000) + b"]}",
        b"\xff\xfe\xfd", b"\xff", b"a: \xed\xa0\x80", b"%YAML 9.9\n--- x", b"\x00", b"!!python/object:os.system x: &a *a",
        b"a: !!binary ====x",
    ],
    ids=range(16),
)  # fmt: skip
def test_http_21_an_attack_is_a_bad_request(body: bytes) -> None:
    reply = sent(body)
    assert isinstance(reply, Reply) and reply.code == 400


def test_http_21_nested_anchors_multiply_depth_too() -> None:
    deep = "[" * 200 + "1" + "]" * 200
    with pytest.raises(BadYaml, match="max depth"):
        read_yaml(f"a: &a {deep}\nb: {'[' * 100}*a{']' * 100}")


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="&*a!<>?:-[]{},'\"|\n #%0.1_~yT+e", max_size=40).map(str.encode),
    )
)
def test_http_21_whatever_the_bytes_are_they_are_a_request_or_a_bad_request(body: bytes) -> None:
    got = sent(body)
    assert isinstance(got, Received) or got.code == 400


@given(
    st.lists(
        st.sampled_from("yYnNtrueTRUEfalseonOFF~null0123456789_.xXoObBeE+-:=infNa"), max_size=8
    ).map("".join)
)
def test_http_20_a_plain_scalar_differs_from_the_library_only_where_kubernetes_does(
    text: str,
) -> None:
    """The library of the parser reads YAML 1.1 to the letter: every known difference is named
    here."""
    try:
        theirs, ours = yaml.safe_load(text), read_yaml(text).tree
    except (yaml.YAMLError, ValueError):
        return
    # y, n; numbers that YAML 1.1 does not have
    if isinstance(theirs, str) and not isinstance(ours, str):
        assert (
            text in ("y", "Y", "n", "N")
            or any(mark in text for mark in "eEoO")
            or text.lstrip("+-0_").startswith(("8", "9"))
        )
    elif isinstance(ours, str) and not isinstance(theirs, str):
        assert ":" in text or "_" in text or text.count("-") == 2 or text[:1] in ("+", "-", "."), (
            text
        )
    elif isinstance(ours, float) and "_" not in text:
        assert theirs == ours


ODD = [
    "yes",
    "y",
    "=",
    "12:30:45",
    "2001-01-01",
    "a\nb\n",
    "\n",
    " a",
    "a: b",
    "- x",
    "a #b",
    "0x1",
    "1e3",
    "<<",
    "l\n\nm\n\n",
]
KEYS = st.one_of(
    st.text(max_size=6), st.sampled_from(["yes", "1", "a b", "k" * 128, "k" * 129, '"' * 2_000])
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        FLOATS,
        st.text(max_size=12),
        st.sampled_from(ODD),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=15,
)


@given(JSON)
def test_http_22_what_is_written_as_yaml_is_read_as_the_same_tree(tree: Any) -> None:
    written = write_yaml(tree)
    assert json.loads(encode(read_yaml(written).tree)) == json.loads(encode(tree)), written


@given(JSON)
def test_http_22_other_readers_read_the_same_tree(tree: Any) -> None:
    """But for numbers with an exponent, which YAML 1.1 wants with a point and a sign."""
    written = write_yaml(tree)
    if not any(mark in json.dumps(tree) for mark in ("e+", "e-", "E")):
        assert yaml.safe_load(written) == tree, written
