"""The OpenAPI 2.0 document in protobuf: the paths and the definitions. Rule DISC-13
(spec/discovery.md).

Clients written in Go accept nothing else. kubectl requests it when it applies a List: it searches
for the PATCH operation of a kind with the parameter fieldValidation, which shows that the server
checks fields. From the definitions, older clients check manifests and compute patches. Messages and
field numbers are those of the published openapi.v2 definitions; those of Schema are in the tables
below. A value of any type is written as YAML. Left out: the answers of operations.

    Document        1 swagger, 2 info, 8 paths, 9 definitions (1 named schemas)
    Info            1 title, 2 version
    Paths           2 path (name 1, value 2)              PathItem    2 get, 3 put, 4 post, 5 delete, 8 patch, 9 parameters
    Operation       5 operationId, 8 parameters, 13 vendor extensions (name 1, value 2; its YAML 2)
    ParametersItem  1 parameter; Parameter  2 non-body; NonBodyParameter  3 query; QueryParameterSubSchema  2 in, 4 name, 6 type
"""

from typing import Any

import msgspec

from refk8s.core.apiserver.protobuf_wire import bytes_field, double_field, varint_field

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

ANSWERED_AS = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The media type of the answer: without the at sign, which is not valid in a media type and which
clients reject."""

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_EXTENSIONS = ("x-kubernetes-action", "x-kubernetes-group-version-kind")

_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_DOUBLES = {"multipleOf": 6, "maximum": 7, "minimum": 9}
_FLAGS = {"exclusiveMaximum": 8, "exclusiveMinimum": 10, "uniqueItems": 16}
_COUNTS = {
    "maxLength": 11,
    "minLength": 12,
    "maxItems": 14,
    "minItems": 15,
    "maxProperties": 17,
    "minProperties": 18,
}
_REQUIRED, _ENUM, _ADDITIONAL, _TYPE, _ITEMS, _PROPERTIES = 19, 20, 21, 22, 23, 25
_DEFAULT, _VENDOR_EXTENSION = 5, 31


def encode_document(
    title: str, version: str, paths: dict[str, Any], definitions: dict[str, Any]
) -> bytes:
    """The document with these paths and definitions (as in the JSON document)."""
    info = _text(1, title) + _text(2, version)
    items = b"".join(bytes_field(2, _named(name, _path_item(item))) for name, item in paths.items())
    schemas = bytes_field(9, _named_schemas(definitions))
    return _text(1, "2.0") + bytes_field(2, info) + bytes_field(8, items) + schemas


def _text(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + bytes_field(2, value)


def _any(value: Any) -> bytes:
    return bytes_field(2, msgspec.json.encode(value))  # JSON is YAML


def _path_item(item: dict[str, Any]) -> bytes:
    return b"".join(
        bytes_field(number, _operation(item[method]))
        for method, number in _METHODS.items()
        if method in item
    )


def _operation(operation: dict[str, Any]) -> bytes:
    queries = [
        parameter for parameter in operation.get("parameters", ()) if parameter.get("in") == "query"
    ]
    written = _text(5, operation.get("operationId", ""))
    written += b"".join(bytes_field(8, _query(parameter)) for parameter in queries)
    for name in _EXTENSIONS:
        if name in operation:
            written += bytes_field(13, _named(name, _any(operation[name])))
    return written


def _query(parameter: dict[str, Any]) -> bytes:
    schema = (
        _text(2, "query") + _text(4, parameter["name"]) + _text(6, parameter.get("type", "string"))
    )
    return bytes_field(1, bytes_field(2, bytes_field(3, schema)))


def _named_schemas(schemas: dict[str, Any]) -> bytes:
    return b"".join(bytes_field(1, _named(name, _schema(one))) for name, one in schemas.items())


def _schema(schema: dict[str, Any]) -> bytes:
    return b"".join(_keyword(key, value) for key, value in schema.items())


def _keyword(key: str, value: Any) -> bytes:
    """One keyword of a schema; nothing for one that version 2 does not have."""
    if key in _TEXTS:
        return _text(_TEXTS[key], value)
    if key in _DOUBLES:
        return double_field(_DOUBLES[key], float(value))
    if key in _FLAGS:
        return varint_field(_FLAGS[key], int(value))
    if key in _COUNTS:
        return varint_field(_COUNTS[key], int(value))
    if key.startswith("x-"):
        return bytes_field(_VENDOR_EXTENSION, _named(key, _any(value)))
    match key:
        case "type":
            return bytes_field(_TYPE, _text(1, value))
        case "required":
            return b"".join(_text(_REQUIRED, name) for name in value)
        case "enum":
            return b"".join(bytes_field(_ENUM, _any(one)) for one in value)
        case "default":
            return bytes_field(_DEFAULT, _any(value))
        case "properties":
            return bytes_field(_PROPERTIES, _named_schemas(value))
        case "items":
            return bytes_field(_ITEMS, bytes_field(1, _schema(value)))
        case "additionalProperties":
            allowed = isinstance(value, bool)
            inner = varint_field(2, value) if allowed else bytes_field(1, _schema(value))
            return bytes_field(_ADDITIONAL, inner)
    return b""
