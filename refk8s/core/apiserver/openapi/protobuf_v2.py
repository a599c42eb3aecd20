"""The OpenAPI 2.0 document in protobuf: the paths, without the definitions. Rule DISC-13
(spec/discovery.md).

kubectl requests it, and accepts nothing else, when it applies a List: it searches for the PATCH
operation of a kind with the parameter fieldValidation, which shows that the server checks fields.
Messages and field numbers are those of the published openapi.v2 definitions.

    Document        1 swagger, 2 info, 8 paths            Info        1 title, 2 version
    Paths           2 path (name 1, value 2)              PathItem    2 get, 3 put, 4 post, 5 delete, 8 patch, 9 parameters
    Operation       5 operationId, 8 parameters, 13 vendor extensions (name 1, value 2; its YAML 2)
    ParametersItem  1 parameter; Parameter  2 non-body; NonBodyParameter  3 query; QueryParameterSubSchema  2 in, 4 name, 6 type
"""

from typing import Any

import msgspec

from refk8s.core.apiserver.protobuf_wire import bytes_field

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

ANSWERED_AS = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The media type of the answer: without the at sign, which is not valid in a media type and which
clients reject."""

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_EXTENSIONS = ("x-kubernetes-action", "x-kubernetes-group-version-kind")


def encode_paths(title: str, version: str, paths: dict[str, Any]) -> bytes:
    """The document with these paths (as in the JSON document)."""
    info = _text(1, title) + _text(2, version)
    items = b"".join(bytes_field(2, _named(name, _path_item(item))) for name, item in paths.items())
    return _text(1, "2.0") + bytes_field(2, info) + bytes_field(8, items)


def _text(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode())


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + bytes_field(2, value)


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
            yaml = msgspec.json.encode(operation[name])  # JSON is YAML
            written += bytes_field(13, _named(name, bytes_field(2, yaml)))
    return written


def _query(parameter: dict[str, Any]) -> bytes:
    schema = (
        _text(2, "query") + _text(4, parameter["name"]) + _text(6, parameter.get("type", "string"))
    )
    return bytes_field(1, bytes_field(2, bytes_field(3, schema)))
