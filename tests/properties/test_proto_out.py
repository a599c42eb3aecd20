"""Answers in protobuf: the same as in JSON, and what the official decoder reads. Rules PROTO-8 ...
PROTO-10, and the media types of API-21."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from api_world import World
from custom_world import CustomWorld, a_definition
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from test_proto import (
    CREATE_CONFIG_MAP,
    CREATE_DEPLOYMENT,
    CREATE_JOB,
    CREATE_QUOTA,
    CREATE_SERVICE,
    KNOWN,
    known_objects,
)

from refk8s.core.api import codec
from refk8s.core.api.meta_v1 import (
    PartialObjectMetadata,
    PartialObjectMetadataList,
    Status,
)
from refk8s.core.api.resources import type_of_kind
from refk8s.core.apiserver.accept import PROTOBUF
from refk8s.core.apiserver.protobuf import MAGIC, decode, fields_of, message_of
from refk8s.core.apiserver.protobuf_encode import encode, encode_message
from refk8s.core.apiserver.protobuf_fields import MESSAGES
from refk8s.core.store import compact

PATHS = "/api/v1/namespaces/default/configmaps"
ACCEPT = {"accept": PROTOBUF}
META = {
    "Status": Status,
    "PartialObjectMetadata": PartialObjectMetadata,
    "PartialObjectMetadataList": PartialObjectMetadataList,
}


def tree_of(body: bytes) -> Any:
    """The object of a protobuf body as the API writes it in JSON."""
    tree = decode(body)
    type_ = META.get(tree["kind"]) or type_of_kind(tree["apiVersion"], tree["kind"])
    assert type_ is not None
    return codec.to_tree(codec.decode_tolerant(type_, tree)[0])


def normalised(text: bytes) -> Any:
    tree = json.loads(text)
    type_ = META.get(tree["kind"]) or type_of_kind(tree["apiVersion"], tree["kind"])
    assert type_ is not None
    return codec.to_tree(codec.decode_tolerant(type_, tree)[0])


# --- the encoder


@pytest.mark.parametrize(
    "text", [CREATE_CONFIG_MAP, CREATE_DEPLOYMENT, CREATE_SERVICE, CREATE_QUOTA, CREATE_JOB]
)
def test_proto_8_the_bytes_are_those_of_a_go_client(text: str) -> None:
    sent = bytes.fromhex(text)
    assert encode(decode(sent)) == sent
    assert encode(tree_of(sent)) == sent, "the zeros that the record does not have are written"


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(one) for key, one in reversed(value.items())}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


@given(known_objects([one for one in KNOWN if one[1] != "CustomResourceDefinition"]))
def test_proto_8_equal_objects_have_equal_bytes(drawn: tuple[type, Any]) -> None:
    tree = codec.to_tree(drawn[1])
    raw = {"data", "fieldsV1", "parameters", "object", "raw"}  # JSON inside keeps its order
    if not raw & set(json.dumps(tree).replace('"', " ").split()):
        assert encode(_reversed(tree)) == encode(tree)


FORMS = {
    "Time": [(1, "int64", ""), (2, "int32", "")],
    "MicroTime": [(1, "int64", ""), (2, "int32", "")],
    "Quantity": [(1, "string", "")],
    "IntOrString": [(1, "int64", ""), (2, "int32", ""), (3, "string", "")],
    "Raw": [(1, "bytes", "")],
    "Strings": [(1, "string", "*")],
    "SchemaOrArray": [(1, "apiextensions.v1.JSONSchemaProps", ""), (2, "apiextensions.v1.JSONSchemaProps", "*")],
    "SchemaOrBool": [(1, "bool", ""), (2, "apiextensions.v1.JSONSchemaProps", "")],
    "SchemaOrStrings": [(1, "apiextensions.v1.JSONSchemaProps", ""), (2, "string", "*")],
}  # fmt: skip
_Proto = descriptor_pb2.FieldDescriptorProto


def _add_field(message: Any, number: int, kind: str, shape: str) -> None:
    field = message.field.add(name=f"f{number}", number=number)
    field.label = _Proto.LABEL_REPEATED if shape in ("*", "%") else _Proto.LABEL_OPTIONAL
    if shape == "%":
        entry = message.nested_type.add(name=f"F{number}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "string", "")
        _add_field(entry, 2, kind, "")
        entry.field[0].name, entry.field[1].name = "key", "value"
        field.type, field.type_name = _Proto.TYPE_MESSAGE, f".k.{message.name}.F{number}Entry"
    elif kind in ("string", "bytes", "bool", "int32", "int64", "double"):
        field.type = getattr(_Proto, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _Proto.TYPE_MESSAGE, ".k." + kind.replace(".", "_")


@cache
def _official() -> dict[str, Any]:
    """A class of the official library for each message of the table."""
    file = descriptor_pb2.FileDescriptorProto(name="k.proto", package="k", syntax="proto2")
    for name in MESSAGES:
        message = file.message_type.add(name=name.replace(".", "_"))
        for one in fields_of(name):
            _add_field(message, one.number, one.type, one.shape)
    for name, fields in FORMS.items():
        message = file.message_type.add(name=name)
        for number, kind, shape in fields:
            _add_field(message, number, kind, shape)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName("k." + name.replace(".", "_")) for name in MESSAGES}
    return {name: message_factory.GetMessageClass(one) for name, one in found.items()}


@given(known_objects(KNOWN))
def test_proto_8_the_official_decoder_reads_every_field(drawn: tuple[type, Any]) -> None:
    """It writes the same bytes again, apart from the order of maps."""
    tree = codec.to_tree(drawn[1])
    name = message_of(tree["apiVersion"], tree["kind"])
    data = encode_message(name, tree)
    message = _official()[name].FromString(data)
    message.DiscardUnknownFields()
    again = message.SerializeToString(deterministic=True)
    assert sorted(again) == sorted(data)
    assert _official()[name].FromString(again) == message


# --- answers

NAMES = st.sampled_from(["a", "b"])
LABELS = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", ""]), max_size=2)
TEMPLATE = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A method, a path and a body: good ones and bad ones."""
    name, labels = draw(NAMES), draw(LABELS)
    plural, kind, spec = draw(
        st.sampled_from(
            [
                ("api/v1/namespaces/default/configmaps", "ConfigMap", {"data": {"k": "v"}}),
                (
                    "api/v1/namespaces/default/services",
                    "Service",
                    {"spec": {"ports": [{"port": 80, "targetPort": "http"}]}},
                ),
                (
                    "apis/apps/v1/namespaces/default/deployments",
                    "Deployment",
                    {"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": TEMPLATE}},
                ),
                ("api/v1/namespaces/default/pods", "Pod", {"spec": TEMPLATE["spec"]}),
            ]
        )
    )
    body = {"kind": kind, "metadata": {"name": name, "labels": labels}, **spec}
    one, patch = f"/{plural}/{name}", {"metadata": {"labels": labels}}
    return draw(
        st.sampled_from(
            [
                ("POST", f"/{plural}", body),
                ("POST", f"/{plural}", {**body, "metadata": {}}),
                ("PUT", one, body),
                ("PATCH", one, patch),
                ("GET", one, b""),
                ("GET", f"/{plural}", b""),
                ("GET", f"/{plural}?limit=1", b""),
                ("DELETE", one, b""),
                ("DELETE", f"/{plural}", b""),
                ("GET", f"{one}/none", b""),
                ("GET", f"/{plural}?limit=x", b""),
                ("POST", f"/{plural}", b"{"),
            ]
        )
    )


def _same(
    worlds: tuple[World, World], sent: tuple[str, str, Any], forms: tuple[str, str]
) -> tuple[Any, Any]:
    """The replies of two worlds that get the same request and accept different forms."""
    method, path, body = sent
    more = {"content-type": "application/merge-patch+json"} if method == "PATCH" else {}
    first, second = (
        world.http(method, path, body, {"accept": form, **more})
        for world, form in zip(worlds, forms, strict=True)
    )
    return first, second


@given(st.lists(requests(), max_size=8), st.sampled_from(["", "PartialObjectMetadata"]))
def test_proto_9_an_answer_is_the_same_as_in_json(
    sequence: list[tuple[str, str, Any]], shown: str
) -> None:
    worlds = (World(), World())
    for sent in sequence:
        is_list = sent[0] == "GET" and sent[1].partition("?")[0].endswith("s")
        part = f";as={shown}{'List' if is_list else ''};g=meta.k8s.io;v=v1" if shown else ""
        forms = (f"application/json{part},application/json", f"{PROTOBUF}{part},{PROTOBUF}")
        plain, packed = _same(worlds, sent, forms)
        assert (packed.code, packed.warnings) == (plain.code, plain.warnings)
        if plain.media_type.startswith("text/plain"):
            assert packed == plain
            continue
        assert packed.media_type == PROTOBUF and packed.content[:4] == MAGIC
        assert tree_of(packed.content) == normalised(plain.content)


def test_proto_9_a_message_is_kept_and_dropped_with_its_revision() -> None:
    world = World()
    world.http("POST", PATHS, {"metadata": {"name": "a"}, "data": {"k": "1"}})
    first = world.http("GET", f"{PATHS}/a", headers=ACCEPT).content
    assert first == world.http("GET", f"{PATHS}/a", headers=ACCEPT).content
    world.http("PUT", f"{PATHS}/a", {"metadata": {"name": "a"}, "data": {"k": "2"}})
    assert tree_of(world.http("GET", f"{PATHS}/a", headers=ACCEPT).content)["data"] == {"k": "2"}


def test_proto_9_objects_of_definitions_have_no_message_and_their_metadata_has() -> None:
    world = CustomWorld(a_definition())
    path = "/apis/example.com/v1/namespaces/default/gadgets"
    body = {"kind": "Gadget", "apiVersion": "example.com/v1", "metadata": {"name": "a"}}
    assert world.http("POST", path, body).code == 201
    for url in (path, f"{path}/a", f"{path}?watch=1"):
        assert world.http("GET", url, headers=ACCEPT).code == 406
        reply = world.http("GET", url, headers={"accept": f"{PROTOBUF},application/json"})
        assert (reply.code, reply.media_type) == (200, "application/json")
    partial = {"accept": f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    reply = world.http("GET", f"{path}/a", headers=partial)
    assert reply.media_type == PROTOBUF and decode(reply.content)["metadata"]["name"] == "a"
    missing = world.http("GET", f"{path}/b", headers={"accept": f"{PROTOBUF},application/json"})
    assert missing.code == 404 and tree_of(missing.content)["reason"] == "NotFound"


def test_proto_9_the_group_of_a_definition_that_begins_like_another_has_no_message() -> None:
    world = CustomWorld(
        a_definition(group="apps.example.com", plural="deployments", kind="Deployment")
    )
    path = "/apis/apps.example.com/v1/namespaces/default/deployments"
    assert world.http("GET", path, headers=ACCEPT).code == 406


def test_proto_9_an_error_is_in_protobuf_only_if_errors_can_be() -> None:
    world = World()
    partial = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    for accepted, media_type in (
        (PROTOBUF, PROTOBUF),
        (f"{partial},{PROTOBUF}", PROTOBUF),
        (f"{partial},application/json", "application/json"),
        (partial, "application/json"),
        ("text/html", "application/json"),
    ):
        for user in (None, "admin"):
            more = {} if user else {"user": None}
            reply = world.http("GET", f"{PATHS}/none", headers={"accept": accepted}, **more)
            assert reply.code in (401, 403, 404, 406)
            assert reply.media_type == media_type


# --- watches


def frames(data: bytes) -> list[tuple[str, bytes]]:
    """The events of a stream: type, and the body of the object."""
    found = []
    while data:
        size = int.from_bytes(data[:4], "big")
        event = _official()["meta.v1.WatchEvent"].FromString(data[4 : 4 + size])
        found.append((event.f1, event.f2.f1))
        data = data[4 + size :]
    return found


@given(st.lists(requests(), max_size=8), st.sampled_from(["", "PartialObjectMetadata"]))
def test_proto_10_events_are_the_same_as_in_json(
    sequence: list[tuple[str, str, Any]], shown: str
) -> None:
    worlds = (World(), World())
    for sent in sequence:
        _same(worlds, sent, ("", ""))
    part = f";as={shown};g=meta.k8s.io;v=v1" if shown else ""
    query = (
        "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    )
    for start in ("", "&resourceVersion=1"):
        url = f"{PATHS}?{query}" if not start else f"{PATHS}?watch=1{start}"
        forms = (f"application/json{part}", f"{PROTOBUF}{part};stream=watch")
        plain, packed = _same(worlds, ("GET", url, b""), forms)
        if plain.code != 200:
            assert packed.code == plain.code
            continue
        assert packed.media_type == f"{PROTOBUF};stream=watch"
        lines = [json.loads(line) for line in plain.content.splitlines()]
        events = frames(packed.content)
        assert [one["type"] for one in lines] == [type_ for type_, _ in events]
        for line, (_, body) in zip(lines, events, strict=True):
            assert tree_of(body) == normalised(json.dumps(line["object"]).encode())


def test_proto_10_a_watch_that_cannot_start_ends_with_an_error_in_protobuf() -> None:
    world = World()
    for number in range(3):
        world.http("POST", PATHS, {"metadata": {"name": f"a{number}"}})
    world.history = compact(world.history, world.history.revision)
    reply = world.http("GET", f"{PATHS}?watch=1&resourceVersion=1", headers=ACCEPT)
    assert reply.code == 200 and reply.media_type == f"{PROTOBUF};stream=watch"
    [(type_, body)] = frames(reply.content)
    assert type_ == "ERROR" and tree_of(body)["code"] == 410


def test_proto_10_a_watch_is_not_sent_as_yaml() -> None:
    reply = World().http("GET", f"{PATHS}?watch=1", headers={"accept": "application/yaml"})
    assert reply.code == 406
