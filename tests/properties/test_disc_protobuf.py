"""The OpenAPI 2.0 document in protobuf, read with the reader of request bodies. Rule DISC-13
(spec/discovery.md)."""

import json
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.apiserver.openapi import openapi, protobuf_v2
from refk8s.core.apiserver.protobuf_wire import read_fields

TEXTS = {1: "$ref", 2: "format", 3: "title", 4: "description", 13: "pattern"}
DOUBLES = {6: "multipleOf", 7: "maximum", 9: "minimum"}
FLAGS = {8: "exclusiveMaximum", 10: "exclusiveMinimum", 16: "uniqueItems"}
COUNTS = {
    11: "maxLength", 12: "minLength", 14: "maxItems", 15: "minItems", 17: "maxProperties",
    18: "minProperties",
}  # fmt: skip


def fields(data: Any, number: int) -> list[Any]:
    return [value for found, _, value in read_fields(memoryview(bytes(data))) if found == number]


def one(data: Any, *numbers: int) -> bytes:
    for number in numbers:
        [data] = fields(data, number)
    return bytes(data)


def schema_of(data: Any) -> dict[str, Any]:
    """The JSON form of a Schema, by the published numbers of its fields."""
    found: dict[str, Any] = {}
    for number, _, value in read_fields(memoryview(bytes(data))):
        if number in TEXTS:
            found[TEXTS[number]] = bytes(value).decode()
        elif number in DOUBLES:
            [found[DOUBLES[number]]] = struct.unpack("<d", value)
        elif number in FLAGS:
            found[FLAGS[number]] = bool(value)
        elif number in COUNTS:
            found[COUNTS[number]] = value
        elif number == 5:
            found["default"] = json.loads(one(value, 2))
        elif number == 19:
            found.setdefault("required", []).append(bytes(value).decode())
        elif number == 20:
            found.setdefault("enum", []).append(json.loads(one(value, 2)))
        elif number == 21:
            [(kind, _, inner)] = read_fields(memoryview(bytes(value)))
            found["additionalProperties"] = schema_of(inner) if kind == 1 else bool(inner)
        elif number == 22:
            found["type"] = one(value, 1).decode()
        elif number == 23:
            found["items"] = schema_of(one(value, 1))
        elif number == 25:
            found["properties"] = schemas_of(value)
        else:
            assert number == 31
            found[one(value, 1).decode()] = json.loads(one(value, 2, 2))
    return found


def schemas_of(data: Any) -> dict[str, Any]:
    return {one(named, 1).decode(): schema_of(one(named, 2)) for named in fields(data, 1)}


def test_disc_13_version_2_in_protobuf_names_the_query_parameters_of_every_patch():
    """Held against the JSON document."""
    document = openapi("/openapi/v2", protobuf_v2.MEDIA_TYPE)
    told = {}
    for path in fields(one(document, 8), 2):
        for patch in fields(one(path, 2), 8):
            extensions = {one(e, 1).decode(): json.loads(one(e, 2, 2)) for e in fields(patch, 13)}
            names = [one(p, 1, 2, 3, 4).decode() for p in fields(patch, 8)]
            told[one(path, 1).decode()] = (extensions["x-kubernetes-group-version-kind"], names)
    plain = {}
    for path, item in json.loads(openapi("/openapi/v2"))["paths"].items():
        if "patch" in item:
            queries = [p["name"] for p in item["patch"].get("parameters", ()) if p["in"] == "query"]
            plain[path] = (item["patch"]["x-kubernetes-group-version-kind"], queries)
    assert told == plain and any("fieldValidation" in names for _, names in told.values())


def test_disc_13_version_2_in_protobuf_has_the_definitions_of_the_json_document():
    document = openapi("/openapi/v2", protobuf_v2.MEDIA_TYPE)
    told = schemas_of(one(document, 9))
    assert told == json.loads(openapi("/openapi/v2"))["definitions"]
    assert "io.k8s.api.core.v1.Pod" in told


counts, numbers, names = st.integers(0, 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=9)
keywords = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXTS.values(), names),
        **dict.fromkeys(DOUBLES.values(), numbers),
        **dict.fromkeys(FLAGS.values(), st.booleans()),
        **dict.fromkeys(COUNTS.values(), counts),
        "type": st.sampled_from(("object", "array", "string", "integer", "number", "boolean")),
        "required": st.lists(names, min_size=1, max_size=3),
        "enum": st.lists(st.one_of(names, counts, st.none()), min_size=1, max_size=3),
        "default": st.one_of(names, st.dictionaries(names, counts, max_size=3)),
        "x-kubernetes-validations": st.lists(st.dictionaries(names, names, max_size=2), max_size=2),
    },
)


def wider(inner: Any) -> Any:
    more = {
        "items": inner,
        "properties": st.dictionaries(names, inner, max_size=3),
        "additionalProperties": st.one_of(inner, st.booleans()),
    }
    parts = st.fixed_dictionaries({}, optional=more)
    return st.builds(lambda schema, found: schema | found, keywords, parts)


@given(st.dictionaries(names, st.recursive(keywords, wider, max_leaves=6), max_size=3))
def test_disc_13_a_schema_in_protobuf_is_the_one_in_json(schemas):
    """Custom resources have keywords that no kind that is built in has."""
    document = protobuf_v2.encode_document("t", "v", {}, schemas)
    assert schemas_of(one(document, 9)) == schemas
