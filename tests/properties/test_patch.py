"""Patches: the laws of the three kinds, by example and at large. Rules PATCH-1 ... PATCH-14."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import event, example, given, target
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api.apiextensions_v1 import JSONSchemaProps
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Pod,
    PodSecurityContext,
    PodSpec,
    PodTemplate,
    Service,
)
from refk8s.core.api.json_text import equal
from refk8s.core.api.meta_v1 import ManagedFieldsEntry, ObjectMeta
from refk8s.core.api.request import Patch
from refk8s.core.api.resources import LEASES, PODS, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import write
from refk8s.core.apiserver.patch import (
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    apply,
    merge_record,
)
from refk8s.core.apiserver.patch.document import DEPTH_MAX
from refk8s.core.apiserver.patch.json_patch import COPY_BYTES_MAX, OPERATIONS_MAX
from refk8s.core.apiserver.patch.shape import Field, Shape, field_of

keys = st.sampled_from(["a", "b", "c", "", "a/b", "~", "metadata", "0"])
floats = st.floats(allow_nan=False, allow_infinity=False, width=16)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), floats, st.text(max_size=2))
media_types = st.sampled_from([JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=4)


def patched(
    tree: dict[str, Any], media_type: str, document: Any, record: type | None = Pod
) -> dict[str, Any]:
    """The tree under the patch; neither may change by it (PATCH-1), and bytes and tree must mean
    the same."""
    before = copy.deepcopy((tree, document))
    result = apply(record, tree, Patch(media_type, document))
    assert (tree, document) == before
    return result


def refusal(
    tree: dict[str, Any], media_type: str, document: Any, record: type | None = Pod
) -> tuple[int, str]:
    with pytest.raises(ApiError) as raised:
        patched(tree, media_type, document, record)
    status = raised.value.status
    assert status.code is not None and status.reason is not None
    return status.code, status.reason


# --- all of them


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/apply-patch+yaml", "", "text/plain"]
)
def test_patch_2_other_media_types_are_not_supported(media_type: str) -> None:
    # Shows PATCH-2.b.
    assert refusal({}, media_type, {}) == (415, "UnsupportedMediaType")


def test_patch_2_a_custom_resource_has_no_strategic_merge_patch() -> None:
    # Shows PATCH-2.c.
    assert refusal({}, STRATEGIC_MERGE_PATCH, {}, None) == (415, "UnsupportedMediaType")
    assert patched({"a": 1}, MERGE_PATCH, {"a": 2}, None) == {"a": 2}


@given(st.one_of(st.binary(max_size=20), values.map(msgspec.json.encode)), media_types)
@example(b"[" * 100_000, MERGE_PATCH)
@example(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, STRATEGIC_MERGE_PATCH)
@example(b'[{"op":"add","path":"/a","value":' + b"[" * 900 + b"]" * 900 + b"}]", JSON_PATCH)
def test_patch_3_whatever_the_bytes_are_nothing_but_an_api_error_comes_of_them(
    document: bytes, media_type: str
) -> None:
    # Shows PATCH-3.a.
    tree = {"metadata": {"name": "a", "finalizers": ["x"]}, "spec": {"containers": [{"name": "c"}]}}
    try:
        assert isinstance(patched(tree, media_type, document), dict)
    except ApiError as error:
        assert error.status.code in (400, 413, 422)


@pytest.mark.parametrize("media_type", [MERGE_PATCH, STRATEGIC_MERGE_PATCH])
@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b"1", b'"x"', b"null", b"\xff", [], None, 1]
)
def test_patch_3_a_merge_patch_that_is_no_object_is_a_bad_request(
    media_type: str, document: Any
) -> None:
    # Shows PATCH-3.a PATCH-3.b.
    if media_type == STRATEGIC_MERGE_PATCH and document in (None, b"null"):
        assert apply(Pod, {"a": 1}, Patch(media_type, document)) == {"a": 1}
    else:
        assert refusal({"a": 1}, media_type, document) == (400, "BadRequest")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{}",
        b"1",
        b"[1]",
    ],
)
def test_patch_3_a_json_patch_that_is_no_list_of_operations_is_a_bad_request(
    document: bytes,
) -> None:
    assert refusal({"a": 1}, JSON_PATCH, document) == (400, "BadRequest")


@pytest.mark.parametrize(
    "document",
    [
        b"[null]",
        b'[{"op":1}]',
        b'[{"op":[]}]',
        b'[{"op":"add","path":2}]',
        b'[{"op":"copy","path":"/a","from":[]}]',
    ],
)
def test_patch_3_operations_of_the_wrong_type_do_not_apply(document: bytes) -> None:
    assert refusal({"a": 1}, JSON_PATCH, document) == (422, "Invalid")
    assert apply(None, {"a": 1}, Patch(JSON_PATCH, b"null")) == {"a": 1}


def _nested(levels: int, leaf: Any = 1) -> Any:
    for _ in range(levels):
        leaf = {"a": leaf}
    return leaf


def test_patch_4_depth_is_bounded_and_the_bound_itself_is_fine() -> None:
    # Shows PATCH-4.c.
    for media_type in (MERGE_PATCH, STRATEGIC_MERGE_PATCH):
        assert patched({}, media_type, _nested(DEPTH_MAX)) == _nested(DEPTH_MAX)
        assert refusal({}, media_type, _nested(DEPTH_MAX + 1)) == (400, "BadRequest")
    # No single document is deep here: the operations build on each other.
    deeper = [{"op": "copy", "from": "", "path": "/a"}] * (DEPTH_MAX + 1)
    assert refusal({}, JSON_PATCH, deeper) == (422, "Invalid")
    add = [{"op": "add", "path": "/a" * level, "value": {}} for level in range(1, DEPTH_MAX + 3)]
    assert refusal({}, JSON_PATCH, add) == (422, "Invalid")


def test_patch_4_the_number_of_operations_is_bounded() -> None:
    # Shows PATCH-4.a.
    operation = {"op": "test", "path": "/a", "value": 1}
    assert patched({"a": 1}, JSON_PATCH, [operation] * OPERATIONS_MAX) == {"a": 1}
    assert refusal({"a": 1}, JSON_PATCH, [operation] * (OPERATIONS_MAX + 1)) == (
        413,
        "RequestEntityTooLarge",
    )


def test_patch_4_copies_that_double_the_document_are_stopped() -> None:
    # Shows PATCH-4.b.
    doubling = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60
    assert refusal({"a": ["x" * 100]}, JSON_PATCH, doubling) == (422, "Invalid")
    assert refusal(
        {"a": "x" * (COPY_BYTES_MAX + 1)}, JSON_PATCH, [{"op": "copy", "from": "/a", "path": "/b"}]
    ) == (422, "Invalid")


# --- JSON merge patch


def difference(old: Any, new: Any) -> Any:
    """A merge patch that leads from one object to another; possible where the new one holds no
    null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch = {key: None for key in old if key not in new}
    return patch | {
        key: difference(old.get(key), value)
        for key, value in new.items()
        if key not in old or not equal(old[key], value)
    }


def without_null_members(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_null_members(inner) for key, inner in value.items() if inner is not None
        }
    return value


@given(objects, objects.map(without_null_members))
def test_patch_7_a_merge_patch_leads_from_any_object_to_any_other(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    """PATCH-7, and PATCH-1, which `patched` asks of every patch here."""
    # Shows PATCH-1.a PATCH-2.a PATCH-7.a PATCH-7.b PATCH-7.d.
    assert equal(patched(old, MERGE_PATCH, difference(old, new)), new)


@given(objects, objects)
def test_patch_7_merging_twice_is_merging_once(tree: dict[str, Any], patch: dict[str, Any]) -> None:
    # Shows PATCH-7.d.
    once = patched(tree, MERGE_PATCH, patch)
    assert equal(patched(once, MERGE_PATCH, patch), once)


@pytest.mark.parametrize(
    ("target_", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_patch_7_the_cases_of_the_rfc(
    target_: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    """RFC 7386, appendix A, those whose two sides are objects."""
    # Shows PATCH-7.a PATCH-7.b PATCH-7.c.
    assert patched(target_, MERGE_PATCH, patch) == result


# --- JSON patch

paths = st.lists(
    st.sampled_from(["a", "b", "0", "1", "-", "-1", "~0", "a~1b", "metadata", ""]), max_size=3
).map(lambda tokens: "".join("/" + token for token in tokens))
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": paths},
    optional={"from": paths, "value": values},
)


def _reference(tree: Any, operation: dict[str, Any]) -> Any:
    """One operation as RFC 6902 tells it, on a deep copy: the plain twin of the fast way.
    LookupError where it does not apply."""
    tree = copy.deepcopy(tree)
    box = [tree]

    def tokens_of(pointer: str) -> list[Any]:
        return [
            0,
            *[token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]],
        ]

    def index(container: list[Any], token: Any, end: int) -> int:
        if isinstance(token, int):
            return token
        number = int(token) if token.lstrip("-").isdigit() and token.count("-") <= 1 else None
        if number is None or not -end <= number < end:
            raise LookupError
        return number + end if number < 0 else number

    def get(tokens: list[Any]) -> Any:
        value: Any = box
        for token in tokens:
            if isinstance(value, list):
                value = value[index(value, token, len(value))]
            elif isinstance(value, dict):
                value = value[token]
            else:
                raise LookupError
        return value

    def add(tokens: list[Any], value: Any) -> None:
        if len(tokens) == 1:
            box[0] = value
            return
        holder = get(tokens[:-1])
        if isinstance(holder, dict):
            holder[tokens[-1]] = value
        elif isinstance(holder, list):
            holder.insert(
                len(holder) if tokens[-1] == "-" else index(holder, tokens[-1], len(holder) + 1),
                value,
            )
        else:
            raise LookupError

    def remove(tokens: list[Any]) -> Any:
        if len(tokens) == 1:
            raise LookupError
        holder = get(tokens[:-1])
        value = get(tokens)
        del holder[
            tokens[-1] if isinstance(holder, dict) else index(holder, tokens[-1], len(holder))
        ]
        return value

    path, value = tokens_of(operation["path"]), copy.deepcopy(operation.get("value"))
    if operation["op"] in ("move", "copy") and "from" not in operation:
        raise LookupError
    match operation["op"]:
        case "add":
            add(path, value)
        case "remove":
            remove(path)
        case "replace":
            get(path)
            if len(path) == 1:
                box[0] = value
            else:
                holder = get(path[:-1])
                holder[
                    path[-1] if isinstance(holder, dict) else index(holder, path[-1], len(holder))
                ] = value
        case "move":
            source = tokens_of(operation["from"])
            if source == path:
                get(source)
            else:
                add(path, remove(source))
        case "copy":
            add(path, copy.deepcopy(get(tokens_of(operation["from"]))))
        case "test":
            missing = (
                len(path) > 1
                and isinstance(get(path[:-1]), dict)
                and path[-1] not in get(path[:-1])
            )
            if not (missing and value is None) and not equal(get(path), value):
                raise LookupError
    return box[0]


@given(objects, st.lists(operations, max_size=5))
@example({"a": 1}, [{"op": "test", "path": "/a", "value": True}])
@example(
    {"a": {}},
    [
        {"op": "add", "path": "/a/b"},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "remove", "path": "/b/b"},
    ],
)
def test_patch_5_operations_apply_one_after_the_other_or_not_at_all(
    tree: dict[str, Any], patch: list[dict[str, Any]]
) -> None:
    # Shows PATCH-2.a PATCH-5.a PATCH-5.b PATCH-6.d.
    expected: Any = tree
    try:
        for operation in patch:
            expected = _reference(expected, operation)
    except LookupError:
        expected = None
    target(float(len(patch)) if expected is not None else 0.0)
    event("applies" if isinstance(expected, dict) and patch else "does not")
    if isinstance(expected, dict):
        assert equal(patched(tree, JSON_PATCH, patch), expected)
    else:
        assert refusal(tree, JSON_PATCH, patch) == (422, "Invalid")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/k", "value": "other"},
        {"op": "remove", "path": "/data/none"},
        {"op": "add", "path": "/metadata/labels/app", "value": "x"},
        {"op": "replace", "path": "/data/none", "value": "x"},
        {"op": "move", "from": "/data/none", "path": "/data/k"},
        {"op": "move", "from": "/data", "path": "/data/k"},
        {"op": "wash", "path": "/data"},
        {"path": "/data"},
        {"op": "remove"},
        {"op": "remove", "path": ""},
        {"op": "replace", "path": "", "value": []},
        {"op": "add", "path": "data/k", "value": "x"},
    ],
)
def test_patch_5_a_failed_test_or_a_missing_place_is_invalid_in_upstreams_words(
    operation: dict[str, Any],
) -> None:
    # Shows PATCH-5.b PATCH-5.c PATCH-6.a.
    tree = {"metadata": {"name": "a"}, "data": {"k": "v"}}
    before = [{"op": "replace", "path": "/data/k", "value": "w"}]
    with pytest.raises(ApiError) as raised:
        patched(tree, JSON_PATCH, [*before, operation])
    assert raised.value.status.code == 422 and raised.value.status.reason == "Invalid"
    assert (
        raised.value.status.message
        == "the server rejected our request due to an error in our request"
    )


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ({"op": "add", "path": "/l/-", "value": 9}, [1, 2, 9]),
        ({"op": "add", "path": "/l/0", "value": 9}, [9, 1, 2]),
        ({"op": "add", "path": "/l/2", "value": 9}, [1, 2, 9]),
        ({"op": "add", "path": "/l/-1", "value": 9}, [1, 2, 9]),
        ({"op": "remove", "path": "/l/-1"}, [1]),
        ({"op": "replace", "path": "/l/1", "value": None}, [1, None]),
        ({"op": "move", "from": "/l/0", "path": "/l/1"}, [2, 1]),
        ({"op": "copy", "from": "/l/0", "path": "/l/-"}, [1, 2, 1]),
        ({"op": "test", "path": "/none", "value": None}, [1, 2]),
        ({"op": "test", "path": "/none"}, [1, 2]),
    ],
)
def test_patch_6_places_in_lists(operation: dict[str, Any], result: list[Any]) -> None:
    # Shows PATCH-6.c PATCH-6.e.
    assert patched({"l": [1, 2]}, JSON_PATCH, [operation])["l"] == result


@pytest.mark.parametrize("token", ["2", "-3", "-", "x", "", "1e0", "01x", "٣"])
def test_patch_6_what_is_no_place_in_the_list_does_not_apply(token: str) -> None:
    # Shows PATCH-6.c.
    assert refusal({"l": [1, 2]}, JSON_PATCH, [{"op": "remove", "path": f"/l/{token}"}]) == (
        422,
        "Invalid",
    )


def test_patch_6_slash_and_tilde_are_escaped_in_paths() -> None:
    # Shows PATCH-6.b.
    tree = {"metadata": {"labels": {"app.kubernetes.io/name": "x", "~1": "y"}}}
    labels = "/metadata/labels"
    patch = [
        {"op": "remove", "path": f"{labels}/app.kubernetes.io~1name"},
        {"op": "test", "path": f"{labels}/~01", "value": "y"},
    ]
    assert patched(tree, JSON_PATCH, patch) == {"metadata": {"labels": {"~1": "y"}}}


# --- strategic merge patch

names = st.sampled_from("abcdef")
containers = st.lists(
    st.fixed_dictionaries(
        {"name": names},
        optional={
            "image": st.sampled_from(["i:1", "i:2"]),
            "env": st.lists(
                st.fixed_dictionaries({"name": names, "value": names}),
                max_size=3,
                unique_by=lambda one: one["name"],
            ),
            "args": st.lists(names, max_size=2),
            "stdin": st.booleans(),
        },
    ),
    max_size=4,
    unique_by=lambda one: one["name"],
)
maps = st.dictionaries(names, names, max_size=3)
finalizers = st.lists(names, max_size=4, unique=True)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    tree: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": draw(containers)}}
    for place, key, strategy in (
        ("metadata", "labels", maps),
        ("metadata", "finalizers", finalizers),
        ("spec", "nodeSelector", maps),
    ):
        if draw(st.booleans()):
            tree[place][key] = draw(strategy)
    return tree


@st.composite
def pod_patches(draw: st.DrawFn) -> dict[str, Any]:
    """A patch of pods in which nothing contradicts itself: with nulls, deletions and, at times, an
    order."""
    elements = draw(containers)
    for element in elements:
        if draw(st.integers(0, 4)) == 0:
            element.clear()
            element |= {"name": draw(names), "$patch": "delete"}
        elif draw(st.integers(0, 4)) == 0:
            element["image"] = None
    doomed = [element["name"] for element in elements if "$patch" in element]
    elements = [
        element for element in elements if "$patch" in element or element["name"] not in doomed
    ]
    spec: dict[str, Any] = {"containers": elements}
    if draw(st.booleans()):
        others = [name for name in draw(st.permutations("abcdef")) if name not in doomed]
        spec["$setElementOrder/containers"] = [{"name": name} for name in others]
        spec["containers"].sort(
            key=lambda element: others.index(element["name"]) if element["name"] in others else -1
        )
    metadata: dict[str, Any] = {}
    if draw(st.booleans()):
        metadata["labels"] = draw(st.dictionaries(names, st.one_of(names, st.none()), max_size=3))
    if draw(st.booleans()):
        metadata["finalizers"] = draw(finalizers)
    if draw(st.booleans()):
        taken = [name for name in draw(finalizers) if name not in metadata.get("finalizers", [])]
        metadata["$deleteFromPrimitiveList/finalizers"] = taken
    if draw(st.booleans()):
        spec["nodeSelector"] = draw(
            st.one_of(st.none(), maps, maps.map(lambda one: {**one, "$patch": "replace"}))
        )
    return {"metadata": metadata, "spec": spec}


def strategic(tree: dict[str, Any], patch: dict[str, Any], record: type = Pod) -> dict[str, Any]:
    return patched(tree, STRATEGIC_MERGE_PATCH, patch, record)


@given(pods(), pod_patches())
def test_patch_8_patching_twice_is_patching_once(
    tree: dict[str, Any], patch: dict[str, Any]
) -> None:
    if tree["spec"].get("nodeSelector") is None and isinstance(
        patch["spec"].get("nodeSelector"), dict
    ):
        # PATCH-14: to replace what is not there is to leave it out
        patch["spec"]["nodeSelector"].pop("$patch", None)
    once = strategic(tree, patch)
    assert strategic(once, patch) == once


@given(pods(), pod_patches())
def test_patch_9_lists_with_a_merge_key_stay_unique_and_nobody_is_lost(
    tree: dict[str, Any], patch: dict[str, Any]
) -> None:
    # Shows PATCH-9.a PATCH-9.c.
    result = [element["name"] for element in strategic(tree, patch)["spec"]["containers"]]
    assert len(set(result)) == len(result)
    doomed = {element["name"] for element in patch["spec"]["containers"] if "$patch" in element}
    asked = {element["name"] for element in patch["spec"]["containers"]} | {
        element["name"] for element in tree["spec"]["containers"]
    }
    assert set(result) == asked - doomed


@given(pods(), pod_patches())
def test_patch_14_no_directive_and_no_null_is_left_in_the_object(
    tree: dict[str, Any], patch: dict[str, Any]
) -> None:
    # Shows PATCH-14.a.
    text = msgspec.json.encode(strategic(tree, patch)).decode()
    assert "$" not in text and "null" not in text


@given(pods(), pod_patches())
def test_patch_13_the_order_asked_for_holds_and_the_rest_keeps_its_own(
    tree: dict[str, Any], patch: dict[str, Any]
) -> None:
    # Shows PATCH-13.a.
    result = [element["name"] for element in strategic(tree, patch)["spec"]["containers"]]
    spec = patch["spec"]
    changed = [one for one in spec["containers"] if "$patch" not in one]
    wanted = [element["name"] for element in spec.get("$setElementOrder/containers", changed)]
    named = [name for name in result if name in wanted]
    assert named == [name for name in wanted if name in named]
    server = [element["name"] for element in tree["spec"]["containers"]]
    rest = [name for name in result if name not in wanted]
    assert rest == [name for name in server if name in rest]
    event("both" if rest and named else "one of them")


def container_names(tree: dict[str, Any]) -> list[str]:
    return [element["name"] for element in tree["spec"]["containers"]]


@pytest.mark.parametrize(
    ("server", "order", "result"),
    [
        ("cd", "dec", "dec"),  # as asked
        ("abc", "ca", "bca"),  # b stood before c, and so it does now
        ("abcd", "db", "acdb"),
        ("abc", "xb", "xabc"),  # of a new element nobody knows where it stood: it goes first
        ("ab", "", "ab"),
    ],
)
def test_patch_13_how_the_two_orders_are_woven(server: str, order: str, result: str) -> None:
    # Shows PATCH-13.b PATCH-13.c.
    tree = {"spec": {"containers": [{"name": name} for name in server]}}
    new = [{"name": name, "image": "i"} for name in order if name not in server]
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": name} for name in order],
            "containers": new,
        }
    }
    assert "".join(container_names(strategic(tree, patch))) == result


def test_patch_8_a_map_in_a_map_merges_and_null_takes_a_key_away() -> None:
    tree = {"metadata": {"labels": {"x": "1", "y": "2"}, "annotations": {"a": "b"}}}
    result = strategic(tree, {"metadata": {"labels": {"x": None, "z": "3"}, "annotations": None}})
    assert result == {"metadata": {"labels": {"y": "2", "z": "3"}}}


def test_patch_8_a_list_without_a_merge_strategy_is_replaced() -> None:
    # Shows PATCH-2.a PATCH-8.a.
    tree = {
        "spec": {
            "containers": [{"name": "c", "command": ["a", "b"]}],
            "tolerations": [{"key": "a"}],
        }
    }
    result = strategic(
        tree,
        {"spec": {"containers": [{"name": "c", "command": ["z"]}], "tolerations": [{"key": "b"}]}},
    )
    assert result == {
        "spec": {"containers": [{"name": "c", "command": ["z"]}], "tolerations": [{"key": "b"}]}
    }


def test_patch_9_service_ports_merge_by_port_and_primitive_lists_by_value() -> None:
    # Shows PATCH-9.a PATCH-9.b.
    tree = {
        "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 443}]},
        "metadata": {"finalizers": ["a", "b"]},
    }
    patch = {
        "spec": {"ports": [{"port": 443, "name": "b"}, {"port": 8080}]},
        "metadata": {"finalizers": ["b", "c", "b"]},
    }
    result = strategic(tree, patch, Service)
    assert result["spec"]["ports"] == [
        {"port": 80, "name": "a"},
        {"port": 443, "name": "b"},
        {"port": 8080},
    ]
    assert result["metadata"]["finalizers"] == ["a", "b", "c"]


def test_patch_9_an_element_that_a_patch_names_twice_is_there_once() -> None:
    twice = [{"name": "c", "image": "i:1"}, {"name": "c", "stdin": True}]
    result = strategic({"spec": {"containers": []}}, {"spec": {"containers": twice}})
    assert result["spec"]["containers"] == [{"name": "c", "image": "i:1", "stdin": True}]


def test_patch_9_fields_are_found_through_lists_and_maps() -> None:
    pod = field_of(Shape(Deployment), "spec").shape
    template = field_of(field_of(pod, "template").shape, "spec").shape
    containers_ = field_of(template, "containers")
    assert (containers_.merge, containers_.merge_key) == (True, "name")
    assert field_of(containers_.shape, "ports").merge_key == "containerPort"
    properties = field_of(Shape(JSONSchemaProps), "properties").shape
    assert field_of(properties, "anything").shape == Shape(JSONSchemaProps)
    assert field_of(field_of(properties, "anything").shape, "properties").shape == properties
    assert field_of(field_of(Shape(Pod), "nothing").shape, "at all") == Field()


def test_patch_9_true_and_one_are_two_values() -> None:
    assert strategic({"metadata": {"finalizers": [1]}}, {"metadata": {"finalizers": [True, 1.0]}})[
        "metadata"
    ]["finalizers"] == [True, 1]


def test_patch_10_delete_and_replace_in_lists_and_maps() -> None:
    # Shows PATCH-10.a PATCH-10.b.
    tree = {
        "spec": {
            "nodeSelector": {"a": "b"},
            "containers": [{"name": "c", "env": [{"name": "A"}, {"name": "B"}]}, {"name": "d"}],
        }
    }
    gone = {
        "spec": {
            "containers": [
                {"name": "d", "$patch": "delete"},
                {"name": "c", "env": [{"name": "A", "$patch": "delete"}]},
            ]
        }
    }
    assert strategic(tree, gone)["spec"]["containers"] == [{"name": "c", "env": [{"name": "B"}]}]
    replaced = {
        "spec": {
            "nodeSelector": {"$patch": "replace", "x": "y"},
            "containers": [{"$patch": "replace"}, {"name": "e"}],
        }
    }
    assert strategic(tree, replaced) == {
        "spec": {"nodeSelector": {"x": "y"}, "containers": [{"name": "e"}]}
    }
    assert (
        strategic(tree, {"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"]
        == {}
    )
    assert strategic(tree, {"spec": {"nodeSelector": {"$patch": "merge", "c": "d"}}})["spec"][
        "nodeSelector"
    ] == {"a": "b", "c": "d"}


def test_patch_10_a_directive_in_a_template_reaches_the_template() -> None:
    tree = {"template": {"spec": {"containers": [{"name": "c"}, {"name": "d"}]}}}
    patch = {"template": {"spec": {"containers": [{"name": "c", "$patch": "delete"}]}}}
    assert strategic(tree, patch, PodTemplate) == {
        "template": {"spec": {"containers": [{"name": "d"}]}}
    }


def test_patch_11_retain_keys_drops_what_it_does_not_name() -> None:
    # Shows PATCH-11.a.
    tree = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic(tree, patch, Deployment) == {"spec": {"strategy": {"type": "Recreate"}}}
    volumes = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    other = {
        "spec": {
            "volumes": [
                {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}
            ]
        }
    }
    assert strategic(volumes, other) == {
        "spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    }


def test_patch_12_additions_to_a_list_come_before_what_is_taken_out_of_it() -> None:
    # Shows PATCH-12.c.
    patch = {"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert strategic({"metadata": {"finalizers": ["a"]}}, patch, ConfigMap) == {
        "metadata": {"finalizers": ["c", "a"]}
    }


@pytest.mark.parametrize(
    "there", [{}, {"nodeSelector": "text"}, {"nodeSelector": ["a"]}, {"nodeSelector": None}]
)
def test_patch_8_what_the_object_has_not_or_of_another_kind_is_the_patchs_value(
    there: dict[str, Any],
) -> None:
    # Shows PATCH-8.b PATCH-14.a.
    patch = {"spec": {"nodeSelector": {"a": "b", "c": None, "$retainKeys": ["a"]}}}
    assert strategic({"spec": there}, patch) == {"spec": {"nodeSelector": {"a": "b"}}}


def test_patch_12_values_are_taken_out_of_a_list_wherever_they_are() -> None:
    # Shows PATCH-12.a PATCH-12.b.
    tree = {"metadata": {"finalizers": ["a", "b", "a", "c"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "x"]}}
    assert strategic(tree, patch, ConfigMap) == {"metadata": {"finalizers": ["b", "c"]}}
    assert strategic({"metadata": {}}, patch, ConfigMap) == {"metadata": {}}


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"containers": [{"image": "x"}]}},  # no merge key
        {"spec": {"containers": [{"$patch": "delete"}]}},
        {"spec": {"containers": [{"name": "c", "$patch": "wash"}]}},
        {"spec": {"$patch": {}}},
        {"spec": {"containers": ["c"]}},
        {"spec": {"containers": [["c"]]}},
        {"spec": {"containers": [{"name": ["c"]}]}},
        {"spec": {"$retainKeys": "containers"}},
        {"spec": {"$retainKeys": None}},
        {"spec": {"$retainKeys": ["containers", None]}},
        {"spec": {"$retainKeys": ["volumes"], "containers": []}},
        {"spec": {"$setElementOrder/containers": {}}},
        {"spec": {"$setElementOrder/containers": [{"name": "x"}], "containers": [{"name": "c"}]}},
        {"spec": {"$setElementOrder/containers": [1]}},
        {"spec": {"$setElementOrder/nodeSelector": []}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": [{}]}},
        {"metadata": {"finalizers": [None]}},
    ],
)
def test_patch_10_a_malformed_directive_is_a_bad_request(patch: dict[str, Any]) -> None:
    # Shows PATCH-9.d PATCH-10.c PATCH-11.b PATCH-13.d.
    tree = {
        "metadata": {"finalizers": ["a"]},
        "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "c"}]},
    }
    assert refusal(tree, STRATEGIC_MERGE_PATCH, patch) == (400, "BadRequest")


directives = [
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$setElementOrder/a",
    "$deleteFromPrimitiveList/finalizers",
]
words = st.sampled_from(
    [*directives, "metadata", "spec", "containers", "name", "finalizers", "env"]
)
hostile = st.recursive(
    st.one_of(scalars, st.sampled_from(["delete", "replace", "merge"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=12,
)


@given(hostile, st.sampled_from([Pod, Deployment, Service, ConfigMap]))
def test_patch_10_no_strategic_patch_raises_anything_but_an_api_error(
    patch: Any, record: type
) -> None:
    tree = {
        "metadata": {"finalizers": ["a"]},
        "spec": {
            "containers": [{"name": "delete", "env": [{"name": "x"}]}],
            "ports": [{"port": 1}],
        },
    }
    try:
        assert isinstance(
            patched(tree, STRATEGIC_MERGE_PATCH, {"spec": patch, "metadata": patch}, record), dict
        )
        event("applies")
    except ApiError as error:
        assert error.status.code == 400


# --- the same without a tree

texts = st.sampled_from(
    [
        "",
        "node-1",
        "2026-01-01T00:00:10Z",
        "2026-01-01T00:00:10.000000Z",
        "2026-01-01T01:00:10+01:00",
    ]
)
lease_patches = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.dictionaries(
            st.sampled_from(["holderIdentity", "renewTime", "acquireTime", "strategy", "other"]),
            st.one_of(texts, st.none(), st.integers(0, 2)),
            max_size=3,
        ),
        "kind": st.sampled_from(["Lease", "Pod"]),
        "metadata": st.just({"labels": {"a": "b"}}),
    },
)
pod_patches = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.dictionaries(
            st.sampled_from(["nodeName", "hostname", "securityContext", "dnsConfig"]),
            st.one_of(texts, st.just({"runAsUser": 1}), st.just({"fsGroupChangePolicy": "Always"})),
            max_size=3,
        ),
        "status": st.dictionaries(st.sampled_from(["phase", "startTime", "podIP"]), texts),
    },
)
LEASE = Lease(
    metadata=ObjectMeta(name="node-1", managed_fields=(ManagedFieldsEntry(manager="kubelet"),)),
    spec=LeaseSpec(holder_identity="node-1", renew_time="2026-01-01T00:00:00.000000Z"),
)
POD = Pod(
    metadata=ObjectMeta(name="p"),
    spec=PodSpec(security_context=PodSecurityContext(run_as_user=5), hostname="h"),
)


@example((LEASES, LEASE), {"spec": {"renewTime": "2026-01-01T00:00:10.000000Z"}})
@given(
    st.one_of(st.just((LEASES, LEASE)), st.just((PODS, POD))), st.one_of(lease_patches, pod_patches)
)
def test_patch_7_a_patch_of_a_record_is_that_of_its_tree(
    there: tuple[Resource, Any], document: dict[str, Any]
) -> None:
    """A component's patch of texts makes no tree of the record; bytes always do."""
    resource, record = there

    def after(document: Any) -> Any:
        change = Patch(MERGE_PATCH, document)
        try:
            made, warnings = write.patched(resource, resource.type, record, change, "Warn")
        except ApiError as error:
            return error.status
        return replace(made, metadata=replace(made.metadata, managed_fields=None)), warnings

    result = after(document)
    event("made without a tree" if merge_record(record, document) is not None else "made of a tree")
    assert result == after(msgspec.json.encode(document))
