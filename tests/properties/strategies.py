"""Hypothesis strategies for Kubernetes objects, made from the same records as everything else.

`objects(type)` draws any canonical value of a record class, small but reaching every field in time;
`json_trees(type)` the same as a JSON tree; `messy_trees(type)` a tree as clients send them, with
what is wrong in it. The rest are the parts that most tests need: names, labels, selectors,
quantities, and pods, nodes and services as a user would write them.

Speed: a record with a hundred optional fields gets a handful of them a draw, so that an example
costs about a millisecond.
"""

from __future__ import annotations

import base64
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from refk8s.core.api import base, codec, resources
from refk8s.core.api import meta_v1 as meta
from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    ResourceRequirements,
    Service,
    ServicePort,
    ServiceSpec,
    Taint,
    Toleration,
)
from refk8s.core.api.quantity import BINARY_SI, DECIMAL_EXPONENT, DECIMAL_SI, LARGEST, NANO, Amount

DEPTH_MAX = 5
FIELDS_MAX = 4

# Names and texts

letters = "abcxyz019"
names = st.builds("{}{}".format, st.sampled_from("abcx"), st.text(letters, max_size=6))
"""Names that every kind of object may have (DNS labels)."""

namespaces = st.sampled_from(["default", "kube-system", "team-a", "team-b"])
uids = st.uuids(version=4).map(str)
odd_texts = st.sampled_from(
    (
        "-1",
        "--1",
        "+7",
        "\u00b2",
        "\u0663",
        "99%",
        "-5%",
        "9" * 40,
        "1" * 5_000,
        "None",
        "Unknown",
        "Always",
        "0.0.0.0",
        "::",
        "/",
        "..",
        "a/b/c",
        " ",
        "\n",
    )
)
"""Texts that code may take for a number, an address, a path or a word that it knows."""

odd_times = st.sampled_from(
    (
        "2020-13-45T99:99:99Z",
        "0000-00-00T00:00:00Z",
        "2021-02-29T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        "2020-01-01T00:00:60Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01",
        "20200-01-01T00:00:00Z",
        "2020-01-01T00:00:00+99:99",
        "2020-01-01T00:00:00.Z",
        "2020-01-01t00:00:00z",
        "\uff12\uff10\uff12\uff10-01-01T00:00:00Z",
        "",
    )
)
"""Texts that look like times and are none."""

any_text = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=6), odd_texts, odd_times
)
"""Any text that JSON can carry."""

label_names = st.sampled_from(
    ["app", "tier", "env", "track", "app.kubernetes.io/name", "Release", "x", "a.b_c-D"]
)
label_values = st.sampled_from(["", "web", "db", "prod", "1", "7", "A.b_c-d", "canary"])
labels = st.dictionaries(label_names, label_values, max_size=4)
"""Label maps from a small alphabet, so that selectors meet them."""

moments = st.one_of(
    st.datetimes(min_value=datetime(1, 1, 2)),
    st.sampled_from([datetime(1, 1, 2), datetime(9999, 12, 31, 23, 59, 59)]),
)
times = moments.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20))
micro_times = moments.map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27))
"""Times as text, from the year 1 to 9999; the very first day is left out, since its midnight stands
for "no time"."""

# Numbers

amounts = st.builds(
    lambda number, power, style: Amount(
        min(number * (10**power if style != BINARY_SI else 1024 ** (power % 5) * NANO), LARGEST),
        style,
    ),
    st.one_of(st.integers(-2000, 2000), st.integers(0, 10**9)),
    st.integers(0, 15),
    st.sampled_from([DECIMAL_SI, BINARY_SI, DECIMAL_EXPONENT]),
)
"""Quantities as numbers, of every style and size."""

quantities = amounts.map(str)
"""Quantities as canonical text."""

cpu_quantities = st.sampled_from(["0", "1m", "100m", "250m", "500m", "1", "1500m", "2", "4"])
memory_quantities = st.sampled_from(
    ["0", "1Mi", "64Mi", "128Mi", "1Gi", "1536Mi", "2Gi", "1e9", "128974848"]
)

percentages = st.integers(0, 200).map(lambda number: f"{number}%")
counts_or_percentages = st.one_of(st.integers(0, 50), percentages)

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        any_text,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(any_text, inner, max_size=3)
    ),
    max_leaves=4,
)
"""Any JSON tree."""

odd_values = st.one_of(
    json_values,
    odd_texts,
    odd_times,
    st.sampled_from(
        [
            2**31 - 1,
            2**31,
            -(2**31) - 1,
            2**63 - 1,
            2**63,
            -(2**63),
            -(2**63) - 1,
            10**40,
            1e300,
            1.5,
            -0.0,
        ]
    ),
    st.sampled_from(["1e999999999", "9" * 20, "-9Ei"]),
)
"""What a client may send in any place: numbers at the edges of their types and beyond, texts that
are nearly times and quantities."""


# Any value of any record


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Whole numbers, the greatest and the least of them often: what is added to or multiplied with
    them leaves 64 bits and the calendar."""
    return st.one_of(st.integers(low, high), st.sampled_from([low, low + 1, high - 1, high]))


_SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: any_text,
    bool: st.booleans(),
    base.Text: st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6),
    base.Flag: st.just(True),
    base.Int32: integers(-(2**31), 2**31 - 1),
    base.Int64: integers(-(2**63), 2**63 - 1),
    base.Count32: st.one_of(integers(1, 2**31 - 1), integers(-(2**31), -1)),
    base.Count64: st.one_of(integers(1, 2**63 - 1), integers(-(2**63), -1)),
    base.Float: st.one_of(
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False).filter(
            lambda number: not (number.is_integer() and abs(number) < 2**53)
        ),
    ),
    base.IntOrString: st.one_of(integers(-(2**31), 2**31 - 1), any_text),
    base.Quantity: quantities,
    base.Time: times,
    base.MicroTime: micro_times,
    base.Base64: st.binary(max_size=6).map(lambda raw: base64.b64encode(raw).decode()),
    base.Bytes: st.binary(min_size=1, max_size=6).map(lambda raw: base64.b64encode(raw).decode()),
    base.FieldsV1: st.dictionaries(any_text, st.just({}), max_size=2).map(
        lambda tree: base.FieldsV1(msgspec.json.encode(tree))
    ),
    Any: json_values.filter(lambda tree: tree is not None),
}


# What stands for "absent" besides null.
_ZEROS: dict[Any, Any] = {
    base.Text: "",
    base.Flag: False,
    base.Count32: 0,
    base.Count64: 0,
    base.Bytes: "",
}


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if annotation in _SCALARS or get_origin(annotation) not in (Union, UnionType):
        return annotation, annotation is Any or annotation is base.FieldsV1
    rest = [part for part in get_args(annotation) if part is not type(None)]
    either = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007
    return either, len(rest) < len(get_args(annotation))


@cache
def _plan(type_: Any) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, Any], ...]]:
    """The fields of a record class: those that always have a value, and those that need not; kind
    and apiVersion in neither."""
    always, maybe = [], []
    for part in msgspec.structs.fields(type_):
        if part.encode_name in ("kind", "apiVersion") and issubclass(
            type_, meta.Object | meta.ListObject | meta.Status
        ):
            continue
        annotation, optional = _without_none(part.type)
        (maybe if optional else always).append((part.name, annotation))
    return tuple(always), tuple(maybe)


def _draw(draw: st.DrawFn, annotation: Any, depth: int) -> Any:
    if annotation in _SCALARS:
        return draw(_SCALARS[annotation])
    origin = get_origin(annotation)
    at_least = 0
    if origin is Annotated:
        at_least = int(base.SOME in get_args(annotation)[1:])
        annotation = get_args(annotation)[0]
        origin = get_origin(annotation)
    if origin is tuple:
        size = draw(st.integers(at_least, 2)) if depth < DEPTH_MAX else at_least
        return tuple(_draw(draw, get_args(annotation)[0], depth + 1) for _ in range(size))
    if origin is dict:
        keys = draw(
            st.lists(
                any_text,
                min_size=at_least,
                max_size=2 if depth < DEPTH_MAX else at_least,
                unique=True,
            )
        )
        return {key: _draw(draw, get_args(annotation)[1], depth + 1) for key in keys}
    return _draw_record(draw, annotation, depth + 1)


def _draw_record(draw: st.DrawFn, type_: Any, depth: int) -> Any:
    always, maybe = _plan(type_)
    chosen: tuple[tuple[str, Any], ...] = always if depth < DEPTH_MAX else ()
    if maybe and depth < DEPTH_MAX:
        indices = draw(st.lists(st.integers(0, len(maybe) - 1), unique=True, max_size=FIELDS_MAX))
        chosen += tuple(maybe[index] for index in indices)
    return type_(**{name: _draw(draw, annotation, depth) for name, annotation in chosen})


@cache
def objects(type_: Any) -> st.SearchStrategy[Any]:
    """Any canonical value of a record class: what decoding its tree leaves as it is (OBJ-4)."""
    return st.composite(lambda draw: _draw_record(draw, type_, 0))()


_SERVERS_OWN = ("name", "namespace", "uid", "resource_version", "kind", "api_version")
"""Fields that no client can give any value it likes: the API server sets or checks them for every
kind."""


@st.composite
def disturbed(draw: st.DrawFn, obj: Any) -> Any:
    """The object with one to four of its fields, however deep, replaced by any value that decodes:
    what a client may have stored."""
    for _ in range(draw(st.integers(1, 4))):
        obj = _disturb(draw, obj, type(obj), 0)
    return obj


def _disturb(draw: st.DrawFn, value: Any, annotation: Any, depth: int) -> Any:
    annotation, optional = _without_none(annotation)
    bare = (
        get_args(annotation)[0]
        if get_origin(annotation) is Annotated and annotation not in _SCALARS
        else annotation
    )
    if value is None or annotation in _SCALARS or (depth > 1 and draw(st.integers(0, 5)) == 0):
        return (
            None
            if optional and depth > 1 and draw(st.integers(0, 5)) == 0
            else _draw(draw, annotation, max(depth, DEPTH_MAX - 3))
        )
    if get_origin(bare) is tuple:
        if not value:
            return _draw(draw, annotation, DEPTH_MAX - 3)
        index = draw(st.integers(0, len(value) - 1))
        return (
            *value[:index],
            _disturb(draw, value[index], get_args(bare)[0], depth + 1),
            *value[index + 1 :],
        )
    if get_origin(bare) is dict:
        key = draw(st.one_of(any_text, st.sampled_from(sorted(value)) if value else any_text))
        return {**value, key: _draw(draw, get_args(bare)[1], DEPTH_MAX - 1)}
    if not isinstance(value, msgspec.Struct):
        return value
    parts = [
        part
        for part in msgspec.structs.fields(type(value))
        if part.name not in _SERVERS_OWN or depth > 1
    ]
    part = draw(st.sampled_from(parts))
    return msgspec.structs.replace(
        value, **{part.name: _disturb(draw, getattr(value, part.name), part.type, depth + 1)}
    )


def json_trees(type_: Any) -> st.SearchStrategy[Any]:
    """Any canonical value of a record class as a JSON tree of its own."""
    return objects(type_).map(codec.to_tree)


@st.composite
def messy_trees(draw: st.DrawFn, type_: Any) -> tuple[Any, tuple[str, ...]]:
    """A JSON tree as a careless client sends it, and the places of the fields in it that the type
    does not have, in order.

    Nulls and zeros stand where nothing is meant.
    """
    tree = draw(json_trees(type_))
    unknown: list[str] = []

    def visit(value: Any, annotation: Any, place: str) -> Any:
        annotation, _ = _without_none(annotation)
        if value is None:
            return None  # written as null by rule
        if get_origin(annotation) is Annotated and annotation not in _SCALARS:
            annotation = get_args(annotation)[0]
        if get_origin(annotation) is tuple:
            return [
                visit(item, get_args(annotation)[0], f"{place}[{index}]")
                for index, item in enumerate(value)
            ]
        if get_origin(annotation) is dict:
            return {
                key: visit(item, get_args(annotation)[1], f"{place}.{key}")
                for key, item in value.items()
            }
        if not (isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)):
            return value
        made: dict[str, Any] = {}
        parts = {part.encode_name: part for part in msgspec.structs.fields(annotation)}
        for wire, item in value.items():
            made[wire] = visit(item, parts[wire].type, f"{place}.{wire}" if place else wire)
        for wire, part in parts.items():
            inner, optional = _without_none(part.type)
            if wire not in made and optional and len(made) < 6 and draw(st.integers(0, 9)) == 0:
                made[wire] = draw(st.sampled_from([None, _ZEROS.get(inner)]))
        if draw(st.integers(0, 3)) == 0:
            key = draw(
                st.sampled_from(["foo", "Spec", "nope", "x-y"]).filter(
                    lambda name: name not in parts
                )
            )
            made[key] = draw(json_values)
            unknown.append(f"{place}.{key}" if place else key)
        return made

    return visit(tree, type_, ""), tuple(unknown)


KINDS: tuple[type, ...] = tuple(
    dict.fromkeys(
        [resource.type for resource in resources.ALL]
        + [resource.list_type for resource in resources.ALL if "list" in resource.verbs]
        + [resources.load("autoscaling_v1", "Scale"), resources.load("policy_v1", "Eviction")]
        + [resources.load("authentication_v1", "TokenRequest")]
        + [
            meta.Status,
            meta.Table,
            meta.PartialObjectMetadata,
            meta.PartialObjectMetadataList,
            meta.DeleteOptions,
            meta.WatchEvent,
        ]
        + [meta.APIGroup, meta.APIGroupList, meta.APIResourceList, meta.APIVersions]
    )
)
"""Every record class that stands alone on the wire."""


# Selectors


def _expressions(draw: st.DrawFn) -> meta.LabelSelectorRequirement:
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]))
    values = (
        tuple(draw(st.lists(label_values, min_size=1, max_size=3)))
        if operator in ("In", "NotIn")
        else None
    )
    return meta.LabelSelectorRequirement(key=draw(label_names), operator=operator, values=values)


label_expressions = st.composite(_expressions)()

label_selectors = st.builds(
    lambda equal, expressions: meta.LabelSelector(
        match_labels=equal or None, match_expressions=tuple(expressions) or None
    ),
    st.dictionaries(label_names, label_values, max_size=2),
    st.lists(label_expressions, max_size=2),
)
"""Valid LabelSelector objects."""

selector_texts = st.lists(
    st.one_of(
        st.builds(
            "{}{}{}".format, label_names, st.sampled_from(["=", "==", "!=", " = "]), label_values
        ),
        st.builds(
            lambda key, operator, values: f"{key} {operator} ({','.join(values)})",
            label_names,
            st.sampled_from(["in", "notin"]),
            st.lists(label_values, min_size=1, max_size=3),
        ),
        st.builds(
            lambda key, operator, number: f"{key} {operator} {number}",
            label_names,
            st.sampled_from([">", "<"]),
            st.integers(0, 9),
        ),
        label_names,
        label_names.map(lambda key: f"!{key}"),
    ),
    max_size=3,
).map(",".join)
"""Valid labelSelector parameters."""


# Objects as users write them

ports = st.integers(1, 65535)
protocols = st.sampled_from(["TCP", "UDP"])

owner_references = st.builds(
    lambda name, uid: meta.OwnerReference(
        api_version="apps/v1", kind="ReplicaSet", name=name, uid=uid, controller=True
    ),
    names,
    uids,
)


@st.composite
def metadata(draw: st.DrawFn, *, namespaced: bool = True) -> meta.ObjectMeta:
    """A name, perhaps labels, a uid and a namespace."""
    return meta.ObjectMeta(
        name=draw(names),
        namespace=draw(namespaces) if namespaced else None,
        uid=draw(uids),
        labels=draw(labels) or None,
    )


@st.composite
def containers(draw: st.DrawFn, name: str) -> Container:
    requests = {}
    if draw(st.booleans()):
        requests["cpu"] = draw(cpu_quantities)
    if draw(st.booleans()):
        requests["memory"] = draw(memory_quantities)
    open_ports = draw(st.lists(ports, max_size=2, unique=True))
    return Container(
        name=name,
        image=draw(st.sampled_from(["nginx:1.27", "busybox", "registry.example/app@sha256:1"])),
        resources=ResourceRequirements(requests=requests or None),
        ports=tuple(ContainerPort(container_port=port, protocol="TCP") for port in open_ports)
        or None,
    )


@st.composite
def tolerations(draw: st.DrawFn) -> Toleration:
    operator = draw(st.sampled_from(["Exists", "Equal"]))
    return Toleration(
        key=draw(label_names),
        operator=operator,
        value=(draw(label_values) or None) if operator == "Equal" else None,
        effect=draw(st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute", None])),
    )


@st.composite
def pods(draw: st.DrawFn, *, node_names: tuple[str, ...] = ()) -> Pod:
    """A pod as a user or a controller writes it; bound to one of the nodes or to none."""
    node_name = draw(st.sampled_from((None, *node_names)))
    count = draw(st.integers(1, 3))
    return Pod(
        metadata=draw(metadata()),
        spec=PodSpec(
            containers=tuple(draw(containers(f"c{index}")) for index in range(count)),
            node_name=node_name,
            node_selector=draw(st.dictionaries(label_names, label_values, max_size=1)) or None,
            tolerations=tuple(draw(st.lists(tolerations(), max_size=2))) or None,
            restart_policy=draw(st.sampled_from(["Always", "OnFailure", "Never"])),
        ),
    )


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    """A node with capacity, labels and perhaps a taint."""
    capacity = {
        "cpu": draw(cpu_quantities),
        "memory": draw(memory_quantities),
        "pods": str(draw(st.integers(0, 9))),
    }
    effect = draw(st.sampled_from(["NoSchedule", "NoExecute", None]))
    return Node(
        metadata=draw(metadata(namespaced=False)),
        spec=NodeSpec(
            taints=(Taint(key=draw(label_names), effect=effect),) if effect else None,
            unschedulable=draw(st.sampled_from([True, None])),
        ),
        status=NodeStatus(capacity=capacity, allocatable=capacity),
    )


@st.composite
def services(draw: st.DrawFn) -> Service:
    """A service with a selector and a port or two."""
    numbers = draw(st.lists(ports, min_size=1, max_size=2, unique=True))
    return Service(
        metadata=draw(metadata()),
        spec=ServiceSpec(
            selector=draw(labels) or None,
            type=draw(st.sampled_from(["ClusterIP", "NodePort"])),
            ports=tuple(
                ServicePort(
                    name=f"p{number}", port=number, protocol=draw(protocols), target_port=number
                )
                for number in numbers
            ),
        ),
    )


@st.composite
def odd_trees(draw: st.DrawFn, type_: Any) -> Any:
    """A JSON tree with one of its values, however deep, replaced by an odd one; the tree may be
    refused, and must not be an exception."""
    tree = draw(json_trees(type_))
    place = tree
    while place:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or draw(st.integers(0, 3)) == 0
        ):
            place[key] = draw(odd_values)
            break
        place = place[key]
    return tree
