"""Definitions and objects that are meant to cost much, or to break something
(spec/custom_resources.md)."""

from __future__ import annotations

import json
from typing import Any

from custom_world import DEFINITIONS, GROUP, CustomWorld, a_definition, a_version, causes, gadgets
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.user import MASTERS, User
from refk8s.core.apiserver.config import ALLOWED, NO_OPINION, Attributes, Config, Decision
from refk8s.core.apiserver.custom.formats import has_format
from refk8s.core.apiserver.custom.paths import InvalidPath, find, parse_path
from refk8s.core.apiserver.custom.schema import compile_schema
from refk8s.core.apiserver.custom.validate import CAUSES_MAX, validate
from refk8s.core.apiserver.validation.schemas import DEPTH_MAX, NODES_MAX

AT = "spec.validation.openAPIV3Schema"


def _refused(schema: Any, **more: Any) -> list[tuple[str, str]]:
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema, **more)))
    assert code == 422, (code, answer)
    return causes(answer)


def test_crd_22_a_schema_is_bounded_in_depth_and_size():
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(DEPTH_MAX):
        deep = {"type": "array", "items": deep}
    assert _refused({"type": "object", "properties": {"spec": deep}}) == [(AT, "FieldValueInvalid")]
    wide = {f"f{number}": {"type": "string"} for number in range(NODES_MAX)}
    assert _refused({"type": "object", "properties": wide}) == [(AT, "FieldValueInvalid")]


def test_crd_22_an_object_at_the_greatest_depth_is_handled():
    deep: dict[str, Any] = {"type": "string"}
    value: Any = "x"
    for _ in range(DEPTH_MAX - 3):
        deep, value = {"type": "array", "items": deep}, [value]
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"spec": deep}})))
    assert world.put_gadget(spec=value)[0] == 201
    free: Any = 1
    for _ in range(180):
        free = {"a": free}
    world = CustomWorld(a_definition())
    assert world.put_gadget(spec=free)[0] == 201
    assert world.send("GET", gadgets() + "/a")[1]["spec"] == free


def test_crd_22_a_pattern_that_backtracks_elsewhere_takes_linear_time():
    spec = {"type": "string", "pattern": "^(a+)+$"}
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"spec": spec}})))
    code, answer = world.put_gadget(spec="a" * 100_000 + "!")
    assert code == 422 and causes(answer) == [("spec", "FieldValueInvalid")]


def test_crd_22_patterns_that_need_much_memory_or_backtracking_are_refused():
    for pattern in ("((a{1,100}){1,100}){1,100}", r"(a)\1", "(?=a)b", "a" * 10_000):
        field = {"type": "string", "pattern": pattern}
        found = _refused({"type": "object", "properties": {"spec": field}})
        assert found == [(f"{AT}.properties[spec].pattern", "FieldValueInvalid")], pattern


def test_crd_22_versions_columns_and_selectable_fields_are_few():
    columns = [{"name": "x", "type": "string", "jsonPath": ".spec"}] * 101
    assert ("spec.additionalPrinterColumns", "FieldValueTooMany") in _refused(
        None, additionalPrinterColumns=columns
    )
    named = [f"f{number}" for number in range(9)]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in named}}
    fields = [{"jsonPath": f".{name}"} for name in named]
    assert _refused(schema, selectableFields=fields) == [
        ("spec.selectableFields", "FieldValueTooMany")
    ]
    versions = [a_version(name=f"v{number}", storage=number == 1) for number in range(1, 102)]
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(*versions))
    assert code == 422 and ("spec.versions", "FieldValueTooMany") in causes(answer)


def test_crd_22_an_answer_has_a_bounded_number_of_causes():
    schema = compile_schema({"type": "array", "items": {"type": "string"}})
    assert len(validate(schema, [1] * 100_000, "x")) == CAUSES_MAX


_TEXT = st.text(alphabet=".[]()?@*'\"=<>!:-\\ab01 ", max_size=30)


@given(_TEXT, st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=2), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2), max_leaves=6))  # fmt: skip
def test_crd_16_every_text_is_a_path_or_is_refused(text, value):
    try:
        steps = parse_path(text)
    except InvalidPath:
        return
    find(steps, value)


@given(st.text(max_size=40), st.sampled_from(["byte", "date", "date-time", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "cidr", "mac", "uuid", "uuid4", "isbn", "creditcard", "rgbcolor"]))  # fmt: skip
def test_crd_9_every_text_has_a_format_or_not(text, name):
    assert has_format(name, text) in (True, False)


@given(st.binary(max_size=60) | st.sampled_from([b"[]", b"1", b'"x"', b"null", b"{}", b'{"metadata":1}', b'{"metadata":{"labels":[1]}}', b'{"kind":1}', b'{"apiVersion":{}}']))  # fmt: skip
def test_crd_14_no_body_is_an_internal_error(body):
    world = CustomWorld(a_definition())
    for method, path, kind in (
        ("POST", gadgets(), "application/json"),
        ("PUT", gadgets() + "/a", "application/json"),
        ("PATCH", gadgets() + "/a", "application/merge-patch+json"),
        ("PATCH", gadgets() + "/a", "application/json-patch+json"),
    ):
        world.put_gadget()
        code, _ = world.send(method, path, body, kind)
        assert code < 500, (method, body)


@given(st.recursive(st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "object", "array", "string", "x", "("]), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "properties", "items", "additionalProperties", "default", "enum", "pattern", "not", "anyOf", "a", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string", "metadata"]), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_crd_6_no_schema_is_an_internal_error(schema):
    definition = a_definition()
    definition["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": schema}
    world = CustomWorld()
    code, answer = world.send("POST", DEFINITIONS, json.dumps(definition).encode())
    assert code in (201, 400, 422), answer
    if code == 201:
        world.settle()
        assert world.put_gadget(spec={"a": 1})[0] < 500


def test_authz_1_no_way_leads_to_a_custom_object_past_the_authorizer():
    seen: list[tuple[str, ...]] = []

    def authorizer(attributes: Attributes, store: Any) -> Decision:
        if MASTERS in attributes.user.groups:
            return ALLOWED
        seen.append(
            (attributes.verb, attributes.group, attributes.resource, attributes.subresource)
        )
        return NO_OPINION

    world = CustomWorld(a_definition(a_version(subresources={"status": {}})))
    world.put_gadget(spec={"secret": 1})
    world.config = Config(authorizer=authorizer)
    jane = User("jane", groups=("system:authenticated",))
    one = gadgets() + "/a"
    asked = [
        ("GET", one, "get", ""),
        ("GET", gadgets(), "list", ""),
        ("GET", f"/apis/{GROUP}/v1/gadgets", "list", ""),
        ("GET", gadgets() + "?watch=1&resourceVersion=0", "watch", ""),
        ("GET", f"/apis/{GROUP}/v1/watch/namespaces/default/gadgets/a", "watch", ""),
        ("GET", one + "/status", "get", "status"),
        ("POST", gadgets(), "create", ""),
        ("PUT", one, "update", ""),
        ("PATCH", one + "/status", "patch", "status"),
        ("DELETE", one, "delete", ""),
        ("DELETE", gadgets(), "deletecollection", ""),
    ]
    for method, path, verb, part in asked:
        for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
            seen.clear()
            reply: Any = world.http(method, path, b"{}", {"accept": accept}, jane)
            assert reply.code == 403 and b"secret" not in reply.content, (method, path)
            assert seen == [(verb, GROUP, "gadgets", part)]
    assert world.history.get(f"/{GROUP}/gadgets/default/a") is not None
