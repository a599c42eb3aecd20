"""Schemas of custom resources: which are structural, and pruning, defaulting and validation against
a validator of JSON Schema (spec/custom_resources.md)."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from custom_world import DEFINITIONS, CustomWorld, a_definition, a_version, causes, gadgets
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.core.apiserver.custom.prune import prune, unknown_fields
from refk8s.core.apiserver.custom.schema import compile_schema
from refk8s.core.apiserver.custom.validate import validate
from refk8s.core.apiserver.validation.schemas import validate_schema

X = "x-kubernetes-"
KEYS = st.sampled_from(["a", "b", "c"])
_SCALARS = st.none() | st.booleans() | st.integers(-3, 12) | st.sampled_from([0.5, 2.0, "", "a", "ab", "abc", "B"])  # fmt: skip
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def _some(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=parts)


_RULES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "string": _some(minLength=st.integers(0, 3), maxLength=st.integers(0, 3), pattern=st.sampled_from(["^a", "b$", "^[a-z]*$"]), enum=st.lists(st.sampled_from(["a", "ab"]), min_size=1, unique=True)),
    "integer": _some(minimum=st.integers(-2, 5), maximum=st.integers(3, 11), multipleOf=st.sampled_from([2, 3])),
    "number": _some(minimum=st.integers(-2, 5), maximum=st.integers(3, 11)),
    "boolean": _some(enum=st.just([True])),
}  # fmt: skip


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    """A structural schema."""
    kinds = [*_RULES, *(["object", "map", "array", "free"] if depth else [])]
    kind = draw(st.sampled_from(kinds))
    nullable = {"nullable": True} if draw(st.booleans()) else {}
    if kind in _RULES:
        junctors = {}
        if draw(st.integers(0, 3)) == 0:
            key = draw(st.sampled_from(["allOf", "anyOf", "oneOf"]))
            junctors[key] = draw(st.lists(_RULES[kind], min_size=1, max_size=2))
        return {"type": kind, **draw(_RULES[kind]), **nullable, **junctors}
    if kind == "array":
        bounds = draw(_some(minItems=st.integers(0, 2), maxItems=st.integers(0, 3)))
        return {"type": "array", "items": draw(schemas(depth - 1)), **bounds, **nullable}
    if kind == "map":
        bounds = draw(_some(minProperties=st.integers(0, 2), maxProperties=st.integers(0, 3)))
        return {"type": "object", "additionalProperties": draw(schemas(depth - 1)), **bounds, **nullable}  # fmt: skip
    if kind == "free":
        return {"type": "object", X + "preserve-unknown-fields": True, **nullable}
    properties = draw(st.dictionaries(KEYS, schemas(depth - 1), min_size=1, max_size=3))
    required = draw(st.lists(KEYS, max_size=2, unique=True))
    return {"type": "object", "properties": properties, **({"required": required} if required else {}), **nullable}  # fmt: skip


def as_json_schema(tree: dict[str, Any]) -> dict[str, Any]:
    """The same schema in the words of JSON Schema: a nullable type is a list of two types."""
    found = dict(tree)
    if found.pop("nullable", False):
        # upstream tests a null for its type and the enumeration alone
        rest = as_json_schema(found)
        alone = {"type": "null"} | ({"enum": tree["enum"]} if "enum" in tree else {})
        return {"anyOf": [alone, rest]}
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = as_json_schema(found[key])
    if "properties" in found:
        found["properties"] = {key: as_json_schema(one) for key, one in found["properties"].items()}
    return found


@given(schemas(), VALUES)
@example({"type": "integer"}, 2.0)
@example({"type": "number", "enum": [1]}, True)
@example({"type": "integer", "maximum": 5}, 5)
@example({"type": "integer", "minimum": 5}, 5)
@example({"type": "string", "maxLength": 2, "minLength": 2}, "ab")
@example({"type": "array", "items": {"type": "string"}, "maxItems": 1, "minItems": 1}, ["a"])
def test_crd_9_a_value_is_valid_exactly_if_json_schema_says_so(tree, value):
    expected = jsonschema.Draft202012Validator(as_json_schema(tree)).is_valid(value)
    assert (validate(compile_schema(tree), value, "x") == []) == expected


@given(schemas(), VALUES)
def test_crd_11_what_has_not_changed_has_no_causes(tree, value):
    assert validate(compile_schema(tree), value, "x", copy.deepcopy(value)) == []


@given(schemas(), st.dictionaries(KEYS, VALUES, max_size=3), KEYS, VALUES)
def test_crd_11_a_changed_field_is_checked_and_the_others_are_not(tree, old, key, value):
    schema = compile_schema({"type": "object", "properties": {"a": tree, "b": tree, "c": tree}})
    new = {**old, key: value}
    found = {cause.field for cause in validate(schema, new, "x", old)}
    alone = {cause.field for cause in validate(schema, {key: value}, "x", {key: old.get(key)} if key in old else {})}  # fmt: skip
    assert found == alone


def _declared(tree: Any, value: Any) -> Any:
    """Naive pruning: the value with the declared fields."""
    if tree is None:
        if isinstance(value, dict):
            return {}
        return [_declared(None, item) for item in value] if isinstance(value, list) else value
    if tree.get(X + "preserve-unknown-fields"):
        return value
    if isinstance(value, list):
        return [_declared(tree.get("items"), item) for item in value]
    if not isinstance(value, dict):
        return value
    additional = tree.get("additionalProperties")
    properties = tree.get("properties", {})
    return {
        key: _declared(properties.get(key, additional), item)
        for key, item in value.items()
        if key in properties or additional is not None
    }


@given(schemas(), st.dictionaries(KEYS, VALUES, max_size=3))
def test_crd_7_pruning_keeps_exactly_the_declared_fields(tree, value):
    schema = compile_schema(tree)
    before = copy.deepcopy(value)
    pruned = prune(schema, value, defaults=False)
    assert pruned == _declared(tree, value)
    assert value == before
    assert prune(schema, pruned, defaults=False) is pruned
    assert (pruned is value) == (unknown_fields(schema, value) == [])


@st.composite
def defaulted_schemas(draw: st.DrawFn) -> dict[str, Any]:
    """An object schema in which some scalar fields and some objects have defaults."""
    properties = {}
    for key in draw(st.lists(KEYS, unique=True, min_size=1)):
        nullable = {"nullable": True} if draw(st.booleans()) else {}
        if draw(st.booleans()):
            inner = draw(st.dictionaries(KEYS, st.integers(0, 9), max_size=2))
            fields = {name: {"type": "integer", "default": number} for name, number in inner.items()}  # fmt: skip
            default = {"default": {}} if draw(st.booleans()) else {}
            properties[key] = {"type": "object", "properties": fields, **default, **nullable}
        else:
            default = {"default": draw(st.integers(0, 9))} if draw(st.booleans()) else {}
            properties[key] = {"type": "integer", **default, **nullable}
    return {"type": "object", "properties": properties}


@given(defaulted_schemas(), st.dictionaries(KEYS, VALUES, max_size=3))
def test_crd_8_absent_fields_get_defaults_and_given_values_are_kept(tree, value):
    schema = compile_schema(tree)
    made = prune(schema, value)
    assert prune(schema, made) is made  # Shows CRD-7.b
    for key, child in tree["properties"].items():
        given_value = value.get(key)
        if given_value is None and not (key in value and child.get("nullable")):
            assert (key in made) == ("default" in child)
        elif not isinstance(given_value, dict | list):
            assert made[key] == given_value
        if isinstance(made.get(key), dict) and "properties" in child:
            for name, inner in child["properties"].items():
                assert made[key][name] is not None
                if not isinstance(given_value, dict) or given_value.get(name) is None:
                    assert made[key][name] == inner["default"]


def test_crd_8_defaults_reach_into_items_and_values_of_maps():
    item = {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}}
    schema = compile_schema(
        {
            "type": "object",
            "properties": {
                "list": {"type": "array", "items": item},
                "map": {"type": "object", "additionalProperties": item},
                "absent": item,
            },
        }
    )
    made = prune(schema, {"list": [{}, {"n": 2}], "map": {"k": {}}})
    assert made == {"list": [{"n": 1}, {"n": 2}], "map": {"k": {"n": 1}}}


@pytest.mark.parametrize(
    ("field", "value", "field_at", "reason"),
    [
        ({"type": "string", "format": "date-time"}, "yesterday", "spec.x", "FieldValueTypeInvalid"),
        ({"type": "string", "format": "ipv4"}, "300.1.1.1", "spec.x", "FieldValueTypeInvalid"),
        ({"type": "string", "format": "uuid"}, "nope", "spec.x", "FieldValueTypeInvalid"),
        ({"type": "string", "format": "byte"}, "no base64!", "spec.x", "FieldValueTypeInvalid"),
        ({"type": "integer", "format": "int32"}, 2**31, "<nil>", "FieldValueInvalid"),
        ({"type": "string", "maxLength": 1}, "ab", "spec.x", "FieldValueTooLong"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 1, "spec.x", "FieldValueInvalid"),
        ({X + "int-or-string": True}, 1.5, "spec.x", "FieldValueTypeInvalid"),
        ({"type": "integer", "not": {"enum": [1]}}, 1, "<nil>", "FieldValueInvalid"),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 1}, [1, 2], "spec.x", "FieldValueTooMany"),
        ({"type": "array", "items": {"type": "integer"}, X + "list-type": "set"}, [1, 2, 1], "spec.x[2]", "FieldValueDuplicate"),
        ({"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}}, {}, "spec.x.y", "FieldValueRequired"),
        ({"type": "object", X + "embedded-resource": True, X + "preserve-unknown-fields": True}, {"kind": "A"}, "spec.x.apiVersion", "FieldValueRequired"),
    ],
)  # fmt: skip
def test_crd_9_a_violation_has_upstreams_cause(field, value, field_at, reason):
    spec = {"type": "object", "properties": {"x": field}}
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"spec": spec}})))
    code, answer = world.put_gadget(spec={"x": value})
    assert code == 422 and (field_at, reason) in causes(answer)


def test_crd_9_keys_of_a_list_of_type_map_are_unique_with_their_defaults():
    item = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer", "default": 1}}}  # fmt: skip
    parts = {"type": "array", X + "list-type": "map", X + "list-map-keys": ["name", "port"], "items": item}  # fmt: skip
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"parts": parts}})))
    code, answer = world.put_gadget(parts=[{"name": "x"}, {"name": "x", "port": 1}])
    assert code == 422 and causes(answer) == [("parts[1]", "FieldValueDuplicate")]
    assert world.put_gadget(parts=[{"name": "x"}, {"name": "x", "port": 2}])[0] == 201


def test_crd_10_unknown_fields_are_refused_warned_of_or_dropped():
    spec = {"type": "object", "properties": {"size": {"type": "integer"}}}
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"spec": spec}})))
    body = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}, "spec": {"size": 1, "colour": 2}, "extra": 1}  # fmt: skip
    code, answer = world.send("POST", gadgets() + "?fieldValidation=Strict", body)
    assert code == 400
    assert answer["message"].endswith(
        'strict decoding error: unknown field "extra", unknown field "spec.colour"'
    )
    twice = b'{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{"name":"b"},"spec":{"size":1,"size":2}}'
    code, answer = world.send("POST", gadgets() + "?fieldValidation=Strict", twice)
    assert code == 400 and 'duplicate field "spec.size"' in answer["message"]
    reply: Any = world.http("POST", gadgets(), body)
    assert reply.warnings == ('unknown field "extra"', 'unknown field "spec.colour"')
    reply = world.http("POST", gadgets() + "?fieldValidation=Ignore", {**body, "metadata": {"name": "c"}})  # fmt: skip
    assert reply.code == 201 and reply.warnings == ()
    assert world.send("GET", gadgets() + "/a")[1]["spec"] == {"size": 1}
    kind = "application/merge-patch+json"
    path = gadgets() + "/a?fieldValidation=Strict"
    assert world.send("PATCH", path, {"spec": {"colour": 1}}, kind)[0] == 422


def test_crd_11_an_object_from_before_a_bound_can_still_be_labelled():
    size = {"type": "integer"}
    spec = {"type": "object", "properties": {"size": size, "name": {"type": "string"}}}
    world = CustomWorld(a_definition(a_version({"type": "object", "properties": {"spec": spec}})))
    world.put_gadget(spec={"size": 9, "name": "x"})

    def bound(tree: Any) -> None:
        schema = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["size"]["maximum"] = 5

    world.redefine("gadgets.example.com", bound)
    assert world.patch_gadget("a", {"metadata": {"labels": {"x": "y"}}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"name": "y"}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"size": 8}})[0] == 422
    assert world.put_gadget("b", spec={"size": 9})[0] == 422


# --- structural schemas


@given(schemas())
def test_crd_6_a_structural_schema_has_no_causes(tree):
    root = {"type": "object", "properties": {"spec": tree}}
    assert validate_schema(root, "x") == []


AT = "spec.validation.openAPIV3Schema.properties[spec]"


@pytest.mark.parametrize(
    ("field", "place", "reason"),
    [
        ({"properties": {"a": {"type": "string"}}}, "type", "FieldValueRequired"),
        ({"type": "object", "properties": {"a": {}}}, "properties[a].type", "FieldValueRequired"),
        ({"type": "array"}, "items", "FieldValueRequired"),
        ({"type": "array", "items": {}}, "items.type", "FieldValueRequired"),
        ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "uniqueItems", "FieldValueForbidden"),
        ({"$ref": "#/x"}, "$ref", "FieldValueForbidden"),
        ({"type": "string", "pattern": "("}, "pattern", "FieldValueInvalid"),
        ({"type": "integer", "anyOf": [{"type": "integer"}]}, "anyOf[0].type", "FieldValueForbidden"),
        ({"type": "string", "not": {"description": "x"}}, "not.description", "FieldValueForbidden"),
        ({"type": "array", "allOf": [{"items": {"title": "x"}}], "items": {"type": "string"}}, "allOf[0].items.title", "FieldValueForbidden"),
        ({"type": "object", "not": {"properties": {"metadata": {"minProperties": 1}}}}, "not.properties[metadata]", "FieldValueForbidden"),
        ({"type": "string", "anyOf": [{"type": "string"}, {"type": "integer"}]}, "anyOf[1].type", "FieldValueForbidden"),
        ({X + "int-or-string": True, "oneOf": [{"type": "integer"}, {"type": "string"}]}, "oneOf[0].type", "FieldValueForbidden"),
        ({X + "int-or-string": True, X + "preserve-unknown-fields": True}, X + "preserve-unknown-fields", "FieldValueInvalid"),
        ({X + "int-or-string": True, X + "embedded-resource": True}, X + "embedded-resource", "FieldValueInvalid"),
        ({"type": "object", X + "embedded-resource": True, X + "preserve-unknown-fields": True, "additionalProperties": True}, "additionalProperties", "FieldValueForbidden"),
        ({"type": "object", X + "embedded-resource": True, "properties": {"kind": {X + "preserve-unknown-fields": True}}}, "properties[kind].type", "FieldValueInvalid"),
        ({"$ref": "", "type": "string"}, "$ref", "FieldValueForbidden"),
        ({"type": "object", "additionalItems": {}}, "additionalItems", "FieldValueForbidden"),
        ({"type": "object", "definitions": {"a": {"uniqueItems": True}}}, "definitions[a].uniqueItems", "FieldValueForbidden"),
        ({"type": "object", X + "preserve-unknown-fields": False}, X + "preserve-unknown-fields", "FieldValueInvalid"),
        ({"type": "object", X + "embedded-resource": True}, "properties", "FieldValueRequired"),
        ({"type": "array", "items": {"type": "object"}, X + "list-type": "map"}, X + "list-map-keys", "FieldValueRequired"),
        ({"type": "array", "items": {"type": "object"}, X + "list-type": "bag"}, X + "list-type", "FieldValueNotSupported"),
        ({"type": "integer", "default": "x"}, "default", "FieldValueTypeInvalid"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}}, "default", "FieldValueInvalid"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}, "additionalProperties", "FieldValueForbidden"),
    ],
)  # fmt: skip
def test_crd_6_a_schema_that_is_not_structural_is_refused(field, place, reason):
    schema = {"type": "object", "properties": {"spec": field}}
    world = CustomWorld()
    code, answer = world.send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422 and (f"{AT}.{place}", reason) in causes(answer), answer


ROOT = "spec.validation.openAPIV3Schema"


@given(st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_crd_6_a_default_keeps_the_rules_of_its_place(bound, value, is_inside):
    # Shows CRD-6.k.
    rule = {X + "validations": [{"rule": f"self >= {bound}"}]}
    inner: dict[str, object] = {"type": "integer", **rule}
    if is_inside:
        tree = {"type": "object", "properties": {"a": inner}, "default": {"a": value}}
    else:
        tree = {**inner, "default": value}
    at = "x.properties[b].default" + (".a" if is_inside else "")
    causes = validate_schema({"type": "object", "properties": {"b": tree}}, "x")
    wrong = [(at, f"failed rule: self >= {bound}")] if value < bound else []
    assert [(cause.field, cause.detail) for cause in causes] == wrong


@pytest.mark.parametrize(
    ("rule", "is_wrong"),
    [
        ({"rule": "self == oldSelf"}, False),
        ({"rule": "self != oldSelf"}, True),
        ({"rule": "oldSelf.hasValue()", "optionalOldSelf": True}, True),
        (
            {"rule": "!oldSelf.hasValue() || self == oldSelf.value()", "optionalOldSelf": True},
            False,
        ),
    ],
)
def test_crd_6_a_default_is_new_and_unchanged(rule, is_wrong):
    tree = {"type": "integer", "default": 1, X + "validations": [rule]}
    causes = validate_schema({"type": "object", "properties": {"b": tree}}, "x")
    assert [cause.field for cause in causes] == ["x.properties[b].default"] * is_wrong


def test_crd_6_a_default_beside_a_rule_without_text_has_no_cause_of_its_own():
    tree = {"type": "integer", "default": 1, X + "validations": [{}]}
    causes = validate_schema({"type": "object", "properties": {"b": tree}}, "x")
    assert [cause.field for cause in causes] == ["x.properties[b].x-kubernetes-validations[0].rule"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"additionalProperties": True}, [("additionalProperties", "FieldValueForbidden")]),
        ({"default": "x"}, [("default", "FieldValueTypeInvalid")]),
        ({"properties": {"kind": {"type": "string", "default": "x"}}}, [("properties[kind].default", "FieldValueForbidden")]),
        ({"properties": {"kind": {}}}, [("properties[kind].type", "FieldValueInvalid"), ("properties[kind].type", "FieldValueRequired")]),
        ({"properties": {"metadata": {"type": "object", "description": "x"}}}, [("properties[metadata]", "FieldValueForbidden")]),
        # what a junctor of the root restricts is declared, however deep
        ({"properties": {"a": {"type": "object"}}, "allOf": [{"not": {"properties": {"a": {"properties": {"b": {}}}}}}]},
         [("properties[a].properties[b]", "FieldValueRequired")]),
        ({"properties": {"a": {"type": "object", "not": {"properties": {"b": {}}}}}}, []),
        # the types of a value that is an integer or a string
        ({"properties": {"a": {"type": "object", "anyOf": [{"type": "integer"}, {"type": "string"}]}}}, []),
        ({"properties": {"a": {X + "int-or-string": True, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"minimum": 1}]}}}, []),
        ({"properties": {"a": {X + "int-or-string": True, "type": "integer"}}}, []),
        # these are not read further, so the pattern is not looked at
        ({"properties": {"a": {"pattern": "(", "id": "x"}}}, [("properties[a].id", "FieldValueForbidden")]),
        ({"properties": {"a": {"type": "number", "multipleOf": 0}}}, []),
        ({"properties": {"a": {"type": "number", "multipleOf": 0, "default": 1}}}, [("properties[a].default", "FieldValueInvalid")]),
    ],
)  # fmt: skip
def test_crd_6_the_root_of_a_schema_is_the_schema_of_a_whole_object(fields, expected):
    version = a_version({"type": "object", **fields})
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(version))
    assert code == (422 if expected else 201), answer
    found = sorted(set(causes(answer))) if expected else []
    assert found == [(f"{ROOT}.{place}", reason) for place, reason in expected]


def test_crd_6_a_version_needs_a_schema_and_one_is_stored():
    world = CustomWorld()
    bare = {"name": "v1", "served": True, "storage": True}
    code, answer = world.send("POST", DEFINITIONS, a_definition(bare))
    assert code == 422
    assert ("spec.versions[0].schema.openAPIV3Schema", "FieldValueRequired") in causes(answer)
    both = a_definition(a_version(), a_version(name="v2"))
    code, answer = world.send("POST", DEFINITIONS, both)
    assert code == 422 and ("spec.versions", "FieldValueInvalid") in causes(answer)
    wrong = a_definition()
    wrong["metadata"]["name"] = "other.example.com"
    code, answer = world.send("POST", DEFINITIONS, wrong)
    assert code == 422 and causes(answer) == [("metadata.name", "FieldValueInvalid")]


@pytest.mark.parametrize("key", ["patternProperties", "definitions", "dependencies"])
def test_crd_6_keywords_that_no_structural_schema_has_are_read_nevertheless(key):
    """As upstream, what is no schema within them is refused before anything is checked."""
    schema = {"type": "object", key: {"a": {"additionalProperties": "x"}}}
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 400 and "boolean or JSON schema expected" in answer["message"]
    schema[key] = {"a": {"additionalProperties": True}}
    code, _ = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422


def test_crd_6_a_schema_names_no_standard():
    spec = {"type": "string", "$schema": "http://json-schema.org/schema#"}
    schema = {"type": "object", "properties": {"spec": spec}}
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    causes = [(one["field"], one["message"]) for one in answer["details"]["causes"]]
    words = "Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"
    assert (code, causes) == (422, [("spec.validation.openAPIV3Schema", words)])
