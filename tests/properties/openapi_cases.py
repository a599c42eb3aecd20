"""Requests that are made from the served OpenAPI documents: any operation, with parameters and a
body that its schema describes, or that is wrong in a few places.

A body begins as the sample of its kind, since a value that is drawn from the schema alone hardly
ever passes validation. Parts of it are then drawn from the schema, and others replaced by values of
the wrong type, of no meaning, or of enormous size.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

from api_samples import SAMPLES, sample
from attrs import frozen
from custom_world import GROUP, CustomWorld, a_definition, a_version
from hypothesis import strategies as st

from refk8s.components.yaml_reader import read_yaml
from refk8s.core.api import codec
from refk8s.core.api.meta_v1 import Status
from refk8s.core.api.resources import type_of_kind
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import protobuf, protobuf_encode
from refk8s.core.apiserver.calls import Answered, Call, Result
from refk8s.core.apiserver.http import Forward, Received, WireRequest, failure, receive, reply_to
from refk8s.core.apiserver.outcome import Connect, Stream
from refk8s.core.apiserver.respond import Reply

DEPTH_MAX = 6
FIELDS_MAX = 3
PARAMETERS_MAX = 3
PARTS_MAX = 3

# kinds whose objects would change or refuse most requests
_LEFT_OUT = (
    "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "LimitRange", "ResourceQuota",
)  # fmt: skip
# bodies that are not objects of a kind
_BODIES: dict[str, Any] = {
    "Scale": {"metadata": {"name": "a", "namespace": "default"}, "spec": {"replicas": 2}},
    "Eviction": {"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 0}},
    "Binding": {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "a"}},
    "TokenRequest": {"spec": {"audiences": ["x"], "expirationSeconds": 3600}},
    "TokenReview": {"spec": {"token": "x"}},
    "SubjectAccessReview": {"spec": {"user": "u", "resourceAttributes": {"verb": "get"}}},
    "SelfSubjectAccessReview": {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}},
    "LocalSubjectAccessReview": {"spec": {"user": "u", "resourceAttributes": {"namespace": "default"}}},
    "SelfSubjectRulesReview": {"spec": {"namespace": "default"}},
}  # fmt: skip

# a custom kind with every construct of a schema that the other kinds do not use
GADGET = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "x-kubernetes-validations": [
                {"rule": "self.size <= 9 || has(self.note)", "message": "a large one has a note"},
                {"rule": "self.size >= oldSelf.size", "reason": "FieldValueForbidden"},
            ],
            "properties": {
                "size": {"type": "integer", "minimum": 0, "maximum": 99, "default": 1},
                "ratio": {"type": "number", "multipleOf": 0.5},
                "note": {"type": "string", "pattern": "^[a-z ]*$", "maxLength": 20},
                "at": {"type": "string", "format": "date-time"},
                "mode": {"type": "string", "enum": ["Fast", "Slow"]},
                "port": {"x-kubernetes-int-or-string": True},
                "tags": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                    "maxItems": 5,
                },
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "count": {"type": "integer", "nullable": True, "default": 2},
                        },
                    },
                },
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "inner": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "either": {
                    "type": "string",
                    "oneOf": [{"pattern": "^a"}, {"pattern": "b$"}],
                },
            },
        },
        "status": {
            "type": "object",
            "properties": {"ready": {"type": "integer"}, "selector": {"type": "string"}},
        },
    },
}
GADGET_PARTS = {
    "status": {},
    "scale": {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.ready",
        "labelSelectorPath": ".status.selector",
    },
}
A_GADGET = {
    "spec": {"size": 3, "mode": "Fast", "parts": [{"name": "a", "count": 1}], "tags": ["x"]},
    "status": {"ready": 1},
}


@frozen(repr=False)
class Operation:
    """One method of one path of the served documents. `schema`: of the body, or None."""

    method: str
    path: str
    action: str
    parameters: tuple[tuple[str, str], ...]
    media_types: tuple[str, ...]
    schema: Any
    components: Any
    kind: str
    api_version: str

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_connect(self) -> bool:
        return self.action == "connect"


@frozen(repr=False)
class Case:
    """A request as it is sent."""

    operation: Operation
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __repr__(self) -> str:
        return f"{self.operation.method} {self.target} {dict(self.headers)} {self.body!r}"


class FuzzWorld(CustomWorld):
    """A world that requests of any form are sent to, as bytes. A webhook that is called allows
    everything."""

    def copy(self) -> FuzzWorld:
        """The same world, whose changes do not concern this one."""
        other = copy.copy(self)
        other.taken = []
        return other

    def answer(self, call: Call) -> Result:
        review = {"uid": json.loads(call.body)["request"]["uid"], "allowed": True}
        text = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": review}
        return Answered(200, json.dumps(text).encode())

    def ask(self, case: Case) -> Reply | Connect | Stream:
        """The answer; that of a watch and of a stream is its beginning."""
        path, _, query = case.target.partition("?")
        wire = WireRequest(case.operation.method, path, query, dict(case.headers), case.body)
        try:
            received = receive(wire, ADMIN, read_yaml, config=self.config, store=self.history)
            if isinstance(received, Reply):
                return received
            if isinstance(received, Forward):
                return Reply(503)
            assert isinstance(received, Received)
            response = self.do(received.request).response
            if isinstance(response, Stream | Connect):
                return response
            return reply_to(received, response, self.now).whole()
        except ApiError as error:
            return failure(error)


DEFINITION = a_definition(a_version(GADGET, subresources=GADGET_PARTS), shortNames=["gd"])


def a_world() -> FuzzWorld:
    """A world with one object of nearly every kind, and of a custom one."""
    world = FuzzWorld(DEFINITION)
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    assert world.send("POST", accounts, {"metadata": {"name": "default"}})[0] == 201
    for path, body in first_objects(operations(world)):
        code, answer = world.send("POST", path, body)
        # an Event of the other group needs more
        assert code in (201, 409) or body["kind"] == "Event", (path, answer)
    return world


def first_objects(among: list[Operation]) -> Iterator[tuple[str, Any]]:
    """The creates of one object of nearly every kind: path and body."""
    for operation in among:
        is_create = operation.method == "POST" and "{name}" not in operation.path
        kind = operation.kind
        if is_create and (kind in SAMPLES or kind == "Gadget") and kind not in _LEFT_OUT:
            yield operation.path.replace("{namespace}", "default"), _sample_of(operation)


def documents(world: FuzzWorld) -> dict[str, Any]:
    """The served documents of OpenAPI v3 by their paths."""
    _, index = world.send("GET", "/openapi/v3")
    return {path: world.send("GET", f"/openapi/v3/{path}")[1] for path in index["paths"]}


def operations(world: FuzzWorld) -> list[Operation]:
    """Every operation of every document."""
    found: list[Operation] = []
    for document in documents(world).values():
        components = document.get("components", {}).get("schemas", {})
        for path, item in document["paths"].items():
            shared = item.get("parameters", [])
            for method, stated in item.items():
                if method != "parameters":
                    found.append(_operation(path, method, stated, shared, components))
    return found


def _operation(path: str, method: str, stated: Any, shared: Any, components: Any) -> Operation:
    parameters = [*shared, *stated.get("parameters", ())]
    contents = stated.get("requestBody", {}).get("content", {})
    named = stated.get("x-kubernetes-group-version-kind", {})
    version = "/".join(part for part in (named.get("group"), named.get("version")) if part)
    return Operation(
        method.upper(),
        path,
        stated.get("x-kubernetes-action", ""),
        tuple((one["name"], one["schema"]["type"]) for one in parameters if one["in"] == "query"),
        tuple(contents),
        next((content["schema"] for content in contents.values()), None),
        components,
        named.get("kind", ""),
        version,
    )


# --- values

WORDS = (
    "a", "b", "app", "default", "kube-system", "kubernetes.io/os", "example.com/x", "Always", "Never",
    "IfNotPresent", "Exists", "In", "Equal", "NoExecute", "TCP", "True", "Ready", "Cluster", "v1",
    "apps/v1", "Pod", "ConfigMap", "pods", "*", "100m", "1Gi", "25%", "10.96.0.7", "10.1.0.0/16",
    "fd00::1", "http", "/var/a", "2026-01-01T00:00:00Z", "* * * * *", "self.x == 1",
    "object.spec.replicas < 5", "runtime/default", "Merge", "$patch", "metadata.name",
)  # fmt: skip
ODD_WORDS = (
    "", " ", "..", "/", "a/b/c", "A_b", "-", "\u0000", "\ud7ff\u20ac", "x" * 300, "9" * 40, "1e9999", "NaN",
    "-1", "0x1F", "1Ki1", "%", "1" * 5_000, "=,!in ()", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z",
    "fe80::1%lo", "1.2.3.4/33", "{{.x}}", "(" * 50, "a" * 70_000, "${HOME}", "\\", "yes", "null",
    "[[[[", "has(self.a) && self.a.all(x, x)", "object.metadata.labels['a']", "(a+)+$", "\u202e",
)  # fmt: skip
NUMBERS = (0, 1, 2, 80, 443, 3600, 30000)
ODD_NUMBERS = (-1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e300)
JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 0.5, "", "x", "x" * 3_000, [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}},
    {"$patch": "delete"}, {"$patch": "replace"}, {"$retainKeys": ["a"]}, [{"$patch": "delete", "name": "c"}],
    {"$setElementOrder/containers": [{"name": "c"}]}, {"$deleteFromPrimitiveList/finalizers": ["a"]},
    [{}] * 50, "a" * 70_000,
)  # fmt: skip

_chance = st.integers(0, 99)
_words = st.sampled_from(WORDS)
_odd_words = st.sampled_from(ODD_WORDS)
_numbers = st.sampled_from(NUMBERS)
_odd_numbers = st.sampled_from(ODD_NUMBERS)
_junk = st.sampled_from(JUNK)
_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


class Maker:
    """Draws values of the schemas of one document. `oddness`: of a hundred values, so many are
    odd ones of the right type."""

    def __init__(self, draw: st.DrawFn, components: Any, oddness: int) -> None:
        self.draw = draw
        self.components = components
        self.oddness = oddness

    def is_so(self, percent: int) -> bool:
        return percent > 0 and self.draw(_chance) < percent

    def resolved(self, schema: Any) -> Any:
        while True:
            if "$ref" in schema:
                schema = self.components[schema["$ref"].rpartition("/")[2]]
            elif "allOf" in schema and len(schema["allOf"]) == 1:
                schema = schema["allOf"][0]
            else:
                return schema

    def value(self, schema: Any, depth: int = 0) -> Any:
        schema = self.resolved(schema)
        match schema.get("type"):
            case "object":
                return self.object(schema, depth)
            case "array":
                size = 0 if depth > DEPTH_MAX else self.draw(st.integers(0, 2))
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(size)]
            case "string":
                if "enum" in schema and not self.is_so(self.oddness):
                    return self.draw(st.sampled_from(schema["enum"]))
                return self.text()
            case "integer" | "number":
                return self.draw(_odd_numbers if self.is_so(self.oddness) else _numbers)
            case "boolean":
                return self.draw(st.booleans())
        if "oneOf" in schema or schema.get("format") == "int-or-string":
            return self.draw(_numbers) if self.draw(st.booleans()) else self.text()
        return self.draw(_junk)

    def object(self, schema: Any, depth: int) -> Any:
        properties = schema.get("properties", {})
        names = [name for name in schema.get("required", ()) if name in properties]
        if properties and depth < DEPTH_MAX:
            optional = st.sampled_from(sorted(properties))
            names += self.draw(st.lists(optional, max_size=FIELDS_MAX))
        tree = {name: self.value(properties[name], depth + 1) for name in names}
        further = schema.get("additionalProperties")
        if isinstance(further, dict) and depth < DEPTH_MAX:
            for name in self.draw(st.lists(_words, max_size=2)):
                tree[name] = self.value(further, depth + 1)
        if self.is_so(self.oddness // 3):
            tree[self.text()] = self.draw(_junk)
        return tree

    def text(self) -> str:
        if not self.is_so(self.oddness):
            return self.draw(_words)
        return self.draw(_odd_words if self.draw(st.booleans()) else _texts)

    def changed(self, tree: Any, schema: Any, depth: int = 0) -> Any:
        """The tree with a part of it drawn anew from the schema."""
        schema = self.resolved(schema)
        if schema.get("type") == "array" and isinstance(tree, list) and tree:
            place = self.draw(st.integers(0, len(tree) - 1))
            new = self.changed(tree[place], schema.get("items", {}), depth + 1)
            return [*tree[:place], new, *tree[place + 1 :]]
        properties = schema.get("properties", {})
        if not properties or not isinstance(tree, dict) or (depth and self.is_so(20)):
            return self.value(schema, depth)
        # mostly goes down where the tree has something already
        present = sorted(name for name in tree if name in properties)
        names = present if present and not self.is_so(40) else sorted(properties)
        if depth == 0:
            names = [name for name in names if name not in ("apiVersion", "kind")] or names
        name = self.draw(st.sampled_from(names))
        return {**tree, name: self.changed(tree.get(name), properties[name], depth + 1)}

    def spoiled(self, tree: Any) -> Any:
        """The tree with one place replaced by junk."""
        if isinstance(tree, dict) and tree and not self.is_so(12):
            key = self.draw(st.sampled_from(sorted(tree)))
            return {**tree, key: self.spoiled(tree[key])}
        if isinstance(tree, list) and tree and not self.is_so(12):
            place = self.draw(st.integers(0, len(tree) - 1))
            return [*tree[:place], self.spoiled(tree[place]), *tree[place + 1 :]]
        return self.draw(_junk)


# --- requests

_PARAMETERS: dict[str, tuple[str, ...]] = {
    "limit": ("1", "2", "500", "0", "-1", "x", "9" * 30),
    "continue": ("x", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MX0", "%00", "%ff"),
    "fieldSelector": ("metadata.name%3Da", "spec.nodeName!%3D", "status.phase%3D%3DRunning", "x%3D1", "%3D", "a,,b", "%5C"),
    "labelSelector": ("app%3Dx", "app%20in%20(a,b)", "!a", "a%3D%3D%3Db", "a%20in%20(", ",", "x" * 300, "a>1", "a<b"),
    "resourceVersion": ("0", "1", "5", "999999", "-1", "x", "9" * 40, "01"),
    "resourceVersionMatch": ("Exact", "NotOlderThan", "exact", ""),
    "watch": ("true", "1", "0", "x", ""),
    "sendInitialEvents": ("true", "false", "x"),
    "allowWatchBookmarks": ("true", "x"),
    "timeoutSeconds": ("1", "0", "-1", "x", "9" * 30),
    "timeout": ("1s", "0", "-1s", "x", "9h", "34m59s"),
    "gracePeriodSeconds": ("0", "5", "-1", "x", "9" * 30),
    "propagationPolicy": ("Foreground", "Background", "Orphan", "x"),
    "orphanDependents": ("true", "false", "x"),
    "dryRun": ("All", "None", "All&dryRun=All", "x", ""),
    "fieldManager": ("me", "", "x" * 200, "%00", "a%0Ab"),
    "fieldValidation": ("Strict", "Warn", "Ignore", "strict", ""),
    "force": ("true", "false", "x"),
    "pretty": ("true", "x"),
    "container": ("c", "x", "%00"),
    "command": ("ls", ""),
    "tailLines": ("1", "-1", "x"),
    "sinceSeconds": ("1", "-1", "x"),
    "sinceTime": ("2026-01-01T00:00:00Z", "x"),
    "limitBytes": ("1", "0", "x"),
    "ignoreStoreReadErrorWithClusterBreakingPotential": ("true", "x"),
    "path": ("x", "../x", "%2e%2e"),
}  # fmt: skip
_ODD = ("", "true", "-1", "x", "%00", "%ff", "%zz", "9" * 30, "{}", "a%20b")
_ACCEPTED = (
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "text/html", ";",
    "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/cbor", "application/json;as=X",
    "application/json;stream=watch", "application/json;q=x, */*;q=0.1", "application/cbor-seq",
    "application/vnd.kubernetes.protobuf, */*", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
)  # fmt: skip
_CONTENT_TYPES = (
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor", "text/plain",
    "", ";;;", "application/json; charset=latin-1", "application/apply-patch+cbor", "application/json-patch+json",
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml",
)  # fmt: skip
_NAMES = ("a", "a", "a", "default", "none", "UPPER", "%2e%2e", "n" * 300, "a%00", "%ff", "a:b")
_NAMED = {"IPAddress": "10.9.0.1", "APIService": "v1.g.example.com", "Namespace": "default"}


@st.composite
def bodies_of(draw: st.DrawFn, operation: Operation, oddness: int) -> Any:
    """A tree for the body of an operation."""
    maker = Maker(draw, operation.components, oddness)
    schema = operation.schema
    tree: Any = _sample_of(operation)
    if tree is None or maker.is_so(15):
        tree = maker.value(schema)
        if isinstance(tree, dict) and operation.method != "DELETE" and not maker.is_so(15):
            tree["apiVersion"], tree["kind"] = operation.api_version, operation.kind
    else:
        for _ in range(draw(st.integers(0, PARTS_MAX))):
            tree = maker.changed(tree, schema)
        if operation.method == "POST" and tree.get("metadata") == {"name": "a"} and maker.is_so(80):
            tree = {**tree, "metadata": {"generateName": "b-"}}
    for _ in range(draw(st.integers(0, 2)) if oddness else 0):
        tree = maker.spoiled(tree)
    return tree


def _sample_of(operation: Operation) -> Any:
    if operation.method == "DELETE":
        return {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
    named = {"apiVersion": operation.api_version, "kind": operation.kind}
    if operation.kind in _BODIES:
        return {**named, **_BODIES[operation.kind]}
    if operation.kind in SAMPLES:
        return sample(operation.kind, operation.api_version)
    if operation.api_version.startswith(GROUP):
        return {**named, "metadata": {"name": "a"}, **A_GADGET}
    return None


@st.composite
def requests(draw: st.DrawFn, among: list[Operation], oddness: int) -> Case:
    """A request of one of the operations."""
    operation = draw(st.sampled_from(among))
    maker = Maker(draw, operation.components, oddness)
    return Case(operation, _target(maker, operation), *_content(maker, operation))


def _target(maker: Maker, operation: Operation) -> str:
    draw = maker.draw
    name = _NAMED.get(operation.kind, "a")
    if maker.is_so(maker.oddness // 2):
        name = draw(st.sampled_from(_NAMES))
    namespace = "default"
    if maker.is_so(maker.oddness // 4):
        namespace = draw(st.sampled_from(_NAMES))
    path = operation.path.replace("{namespace}", namespace).replace("{name}", name)
    path = path.replace("{path}", "x/y").replace("{logpath}", "x")
    known = [named for named, _ in operation.parameters]
    chosen = draw(st.lists(st.sampled_from(known), max_size=PARAMETERS_MAX)) if known else []
    if maker.is_so(maker.oddness // 4):
        chosen.append(draw(st.sampled_from(sorted(_PARAMETERS))))
    pairs = []
    for parameter in chosen:
        values = _PARAMETERS.get(parameter, _ODD)
        if maker.oddness and maker.is_so(20):
            values = _ODD
        elif not maker.oddness:
            values = values[:1]
        pairs.append(f"{parameter}={draw(st.sampled_from(values))}")
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _content(maker: Maker, operation: Operation) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """The headers and the body."""
    draw, headers, body = maker.draw, {}, b""
    if maker.is_so(30):
        headers["accept"] = draw(st.sampled_from(_ACCEPTED))
    if operation.schema is not None:
        media_type = draw(st.sampled_from(operation.media_types))
        body, media_type = _encoded(maker, operation, media_type)
        headers["content-type"] = media_type
    if maker.is_so(maker.oddness // 4):
        headers["content-type"] = draw(st.sampled_from(_CONTENT_TYPES))
    return tuple(headers.items()), body


def _encoded(maker: Maker, operation: Operation, media_type: str) -> tuple[bytes, str]:
    """The body in a form that the operation takes: that of its sample for a merge, else a
    document of the kind."""
    draw = maker.draw
    if media_type == "application/json-patch+json":
        return json.dumps(draw(json_patches(operation, maker.oddness))).encode(), media_type
    tree = draw(bodies_of(operation, maker.oddness)) if operation.action != "patch" else None
    if operation.action == "patch":
        tree = _patch(maker, operation)
    if media_type == "application/json" and isinstance(tree, dict) and maker.is_so(25):
        try:
            return protobuf_encode.encode(tree), "application/vnd.kubernetes.protobuf"
        except Exception:  # a tree that is no message: its form is JSON then
            return json.dumps(tree).encode(), media_type
    if media_type == "application/json" and maker.is_so(15):
        return json.dumps(tree, ensure_ascii=False).encode(), "application/yaml"
    return json.dumps(tree).encode(), media_type


def _patch(maker: Maker, operation: Operation) -> Any:
    """A tree for a patch: a body of the kind whose schema is that of the object itself."""
    schema = schema_of(operation)
    tree: Any = _sample_of(operation) or {
        "apiVersion": operation.api_version,
        "kind": operation.kind,
    }
    for _ in range(maker.draw(st.integers(0, PARTS_MAX))):
        tree = maker.changed(tree, schema)
    for _ in range(maker.draw(st.integers(0, 2)) if maker.oddness else 0):
        tree = maker.spoiled(tree)
    return tree


def schema_of(operation: Operation) -> Any:
    """The schema of the kind of an operation."""
    found = _schema_named(operation.components, operation.kind, operation.api_version)
    return found or {"type": "object"}


def _schema_named(components: Any, kind: Any, api_version: Any) -> Any:
    """The schema of a kind, or None."""
    for schema in components.values():
        for named in schema.get("x-kubernetes-group-version-kind", ()):
            version = "/".join(part for part in (named["group"], named["version"]) if part)
            if (named["kind"], version) == (kind, api_version):
                return schema
    return None


@st.composite
def json_patches(draw: st.DrawFn, operation: Operation, oddness: int) -> Any:
    """A list of operations at places of the sample, and at others."""
    maker = Maker(draw, operation.components, oddness)
    places = [
        "",
        "/metadata/labels",
        "/metadata/annotations/a~1b",
        "/spec",
        "/metadata/finalizers/-",
    ]
    places += list(_places(_sample_of(operation) or {}, ""))
    if oddness:
        places += [
            "/",
            "/-",
            "x",
            "/spec/~2",
            "/metadata/labels/~0~1",
            "/metadata/name/0",
            "/" * 500,
        ]
        places += ["/metadata/ownerReferences/00", "/metadata/finalizers/99999999999999999999"]
    patch = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(("add", "replace", "remove", "test", "copy", "move")))
        step = {"op": kind, "path": draw(st.sampled_from(places))}
        if kind in ("copy", "move"):
            step["from"] = draw(st.sampled_from(places))
        elif kind != "remove":
            step["value"] = (
                draw(_junk) if maker.is_so(oddness) else maker.value(schema_of(operation))
            )
        patch.append(step)
    return maker.spoiled(patch) if maker.is_so(oddness // 2) else patch


def _places(tree: Any, place: str) -> Any:
    if place:
        yield place
    steps = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for step, value in steps if isinstance(tree, dict | list) else ():
        text = str(step).replace("~", "~0").replace("/", "~1")
        if isinstance(value, dict | list):
            yield from _places(value, f"{place}/{text}")
        else:
            yield f"{place}/{text}"


# --- bytes

_NESTED = (
    b"[" * 20_000, b'{"a":' * 20_000, b'{"metadata":{"labels":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_002,
    b"- " * 5_000, b"a: &a [*a]", b"{" * 5_000, b'{"a":"' + b"\\u0000" * 5_000 + b'"}',
    b"&a [&b [*b, *b], *a]", b"? " * 2_000, b"!!python/object/apply:os.system [x]", b"%YAML 9.9\n---\n",
    b"[" + b"0," * 30_000 + b"0]", b'{"n":' + b"9" * 20_000 + b"}", b'{"n":1e' + b"9" * 400 + b"}",
    b"k8s\x00" + b"\x0a\xff\xff\xff\xff\x0f" * 9, b"k8s\x00" + b"\x0a\x02\x0a\x00\x12" + b"\x80" * 40,
    b"k8s\x00" + b"\x12\x04" * 4_000, b"\xd9\xd9\xf7\xa0", b"\xd9\xd9\xf7" + b"\x81" * 3_000, b"\x1f\x8b\x08\x00",
    b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"null", b"", b" ", b"0", b'"x"', b"[]", b"{}{}", b"--- \n- : [",
    b'{"kind":"A","kind":"B"}', b'{"\xed\xa0\x80":1}', b'{"a":"\\ud800"}', b"12:30:45", b"yes",
)  # fmt: skip


@st.composite
def raw_requests(draw: st.DrawFn, among: list[Operation]) -> Case:
    """A request with a body of bytes: a right one that was damaged, or one of no form."""
    operation = draw(st.sampled_from(among))
    maker = Maker(draw, operation.components, 20)
    headers, body = _content(maker, operation)
    named = dict(headers)
    match draw(st.integers(0, 5)):
        case 0:
            body = draw(st.sampled_from(_NESTED))
            named["content-type"] = draw(st.sampled_from(_CONTENT_TYPES))
        case 1:
            body = draw(st.binary(max_size=60))
            named["content-type"] = draw(st.sampled_from(_CONTENT_TYPES))
        case 2:
            body = b"k8s\x00" + draw(st.binary(max_size=60))
            named["content-type"] = "application/vnd.kubernetes.protobuf"
        case _:
            body = _damaged(draw, body)
    return Case(operation, _target(maker, operation), tuple(named.items()), body)


def _damaged(draw: st.DrawFn, body: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 3)):
            case 0:
                body = body[:place]
            case 1:
                body = body[:place] + draw(st.binary(min_size=1, max_size=4)) + body[place:]
            case 2:
                body = body[:place] + draw(st.binary(min_size=1, max_size=1)) + body[place + 1 :]
            case 3:
                body = body[:place] + body[place : place + 40] * 2 + body[place + 40 :]
    return body


# --- answers

# 5xx of upstream: the message, and the rule that says so (API-14)
_AS_UPSTREAM = re.compile(
    r"strconv.ParseUint: parsing "  # API-6
    r"|resourceVersion should not be set on objects to be created"  # API-2
    r"|Too large resource version"  # LIST-9
    r"|failed to convert new object|failed to create manager for existing fields"  # APPLY-10
    r"|target\.(kind|name): "  # API-17
    r"|error dialing backend|error trying to reach service|no endpoints available"  # STREAM-8 ...
)


def what_is_wrong(operation: Operation, reply: Reply) -> str:
    """What no answer of an API server may be; empty if nothing is wrong. A Status of an error has
    Kubernetes' form, and an object is as its schema says."""
    if operation.is_connect and reply.code < 400:
        return ""  # what a container or a node answers
    tree = _tree_of(reply)
    if reply.code >= 400 and reply.media_type.startswith("text/plain"):
        return "" if reply.code < 500 else f"{reply.code} {reply.content[:300]!r}"
    if not isinstance(tree, dict):
        return f"{reply.code} with a body of no form: {reply.content[:300]!r}"
    if reply.code < 400:
        return misfit(tree, operation)
    message = tree.get("message") or ""
    if reply.code >= 500 and not _AS_UPSTREAM.search(message):
        return f"{reply.code} {message[:300]}"
    is_status = tree.get("kind") == "Status" and tree.get("apiVersion") == "v1"
    if not is_status or tree.get("status") != "Failure" or tree.get("code") != reply.code:
        return f"{reply.code} without a Status: {reply.content[:300]!r}"
    if not message or (not tree.get("reason") and reply.code < 500):
        return f"{reply.code} without a message or reason: {reply.content[:300]!r}"
    return ""


def _tree_of(reply: Reply) -> Any:
    """The tree of an answer in JSON, YAML or protobuf; of a schema in protobuf an empty one."""
    if reply.content.startswith(protobuf.MAGIC):
        tree = protobuf.decode(reply.content)
        found = (
            Status if tree["kind"] == "Status" else type_of_kind(tree["apiVersion"], tree["kind"])
        )
        return codec.to_tree(codec.decode_tolerant(found, tree)[0]) if found else tree
    if "protobuf" in reply.media_type or not reply.content:
        return {}
    if "yaml" in reply.media_type:
        return read_yaml(reply.content).tree
    try:
        return json.loads(reply.content)
    except ValueError:
        return None


def misfit(tree: Any, operation: Operation) -> str:
    """Where an answer is not as the schema of its kind says; empty if it is."""
    named = (tree.get("kind"), tree.get("apiVersion"))
    schema = _schema_named(operation.components, *named)
    if schema is None:
        return ""
    found = next(_misfits(Maker(None, operation.components, 0), schema, tree, ""), "")
    return f"{named}: {found}" if found else ""


def _misfits(maker: Maker, schema: Any, value: Any, place: str) -> Iterator[str]:
    schema = maker.resolved(schema)
    expected = _TYPES.get(schema.get("type"))
    if expected is None or value is None:  # upstream writes null for some empty fields
        return
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        yield f"{place} is no {schema['type']}: {value!r:.100}"
        return
    if isinstance(value, list):
        for entry in value:
            yield from _misfits(maker, schema.get("items", {}), entry, f"{place}[]")
    if not isinstance(value, dict):
        return
    properties, further = schema.get("properties"), schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name} is missing"
    for name, entry in value.items():
        if properties and name in properties:
            yield from _misfits(maker, properties[name], entry, f"{place}.{name}")
        elif isinstance(further, dict):
            yield from _misfits(maker, further, entry, f"{place}[*]")
        elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{place}.{name[:50]} is no field"


_TYPES: dict[Any, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
