"""Server-side apply: the laws of its parts, beside plain references. Rules APPLY-1 ... APPLY-19.

A set of fields is a Python set of paths here, an object of `data` a dict, and ownership a dict from
managers to keys.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import strategies
from api_world import World
from custom_world import CustomWorld, a_definition, a_version
from hypothesis import assume, event, example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import codec, resources
from refk8s.core.api.base import NO_FIELDS, FieldsV1
from refk8s.core.api.core_v1 import Node, Pod, Service
from refk8s.core.api.managed_fields import with_shared_entries
from refk8s.core.api.meta_v1 import ManagedFieldsEntry, ObjectMeta
from refk8s.core.apiserver.apply import field_set, managers, records
from refk8s.core.apiserver.apply.check import problems
from refk8s.core.apiserver.apply.compare import applied_paths, compare, element_of, is_equal
from refk8s.core.apiserver.apply.field_set import (
    NEVER_OWNED,
    contains,
    decode,
    difference,
    encode,
    intersection,
    of_paths,
    paths,
    recursive_difference,
    text_of,
    union,
)
from refk8s.core.apiserver.apply.merge import merge, without
from refk8s.core.apiserver.apply.reset import reset_fields
from refk8s.core.apiserver.apply.types import DEDUCED, Type, record_type, type_of

APPLY = {"content-type": "application/apply-patch+yaml"}
MERGE = {"content-type": "application/merge-patch+json"}
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def sent(
    world: World, method: str, target: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """The status code and the body of an answer."""
    reply = world.http(method, target, body, headers or {})
    return reply.code, json.loads(reply.content)


def owned(obj: Any) -> dict[tuple[str, str], Any]:
    """The fields of each manager and operation."""
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", [])
    }


# --- sets of fields

elements = st.sampled_from(["f:a", "f:b", 'k:{"name":"c"}', 'v:"x"'])
field_paths = st.lists(elements, min_size=1, max_size=3).map(tuple)
path_sets = st.frozensets(field_paths, max_size=6)


def as_set(fields: field_set.FieldSet) -> frozenset[tuple[str, ...]]:
    return frozenset(paths(fields))


@given(path_sets, path_sets)
def test_apply_1_the_operations_on_fields_are_those_of_sets_of_paths(one, other):
    left, right = of_paths(*one), of_paths(*other)
    before = encode(left), encode(right)
    assert as_set(left) == one
    assert as_set(union(left, right)) == one | other
    assert as_set(difference(left, right)) == one - other
    assert as_set(intersection(left, right)) == one & other
    below = {path for path in one if any(path[: len(stop)] == stop for stop in other)}
    assert as_set(recursive_difference(left, right)) == one - below
    assert all(contains(left, path) == (path in one) for path in one | other)
    for result in (
        union(left, right),
        difference(left, right),
        intersection(left, right),
        recursive_difference(left, right),
    ):
        assert encode(of_paths(*as_set(result))) == encode(result), "not in canonical form"
    assert (encode(left), encode(right)) == before


@given(path_sets)
def test_apply_1_a_set_is_read_as_it_was_written(one):
    fields = of_paths(*one)
    assert decode(encode(fields)) == fields
    later = json.loads(encode(fields)) | {"z:new": {}}
    assert decode(json.dumps(later).encode()) == fields


@pytest.mark.parametrize(
    "text", [b"[]", b'{"f:a":1}', b'{"a":{}}', b'{"k:x":{}}', b"{", b'{"i:x":{}}']
)
def test_apply_1_what_is_no_set_of_fields_is_refused(text):
    with pytest.raises(field_set.InvalidFields):
        decode(text)


# --- types and elements


def test_apply_2_items_are_known_by_their_keys_with_defaults_or_by_their_value():
    container = record_type(Pod).fields["spec"].fields["containers"].item
    ports = container.fields["ports"]
    assert element_of(ports, {"containerPort": 80}) == 'k:{"containerPort":80,"protocol":"TCP"}'
    udp = element_of(ports, {"protocol": "UDP", "containerPort": 80})
    assert udp == 'k:{"containerPort":80,"protocol":"UDP"}'
    assert text_of(("f:ports", udp)) == '.ports[containerPort=80,protocol="UDP"]'
    assert (
        element_of(record_type(Pod).fields["spec"].fields["imagePullSecrets"], {})
        == 'k:{"name":""}'
    )
    finalizers = record_type(Pod).fields["metadata"].fields["finalizers"]
    assert element_of(finalizers, "a/b") == 'v:"a/b"'
    assert text_of(('v:"a/b"',)) == '[="a/b"]'


def test_apply_4_types_follow_from_the_definitions():
    service = record_type(Service).fields["spec"]
    assert service.fields["selector"].is_atomic_map
    assert service.fields["ports"].keys == ("port", "protocol")
    pod = record_type(Pod).fields["spec"]
    assert pod.fields["nodeSelector"].is_atomic_map
    assert pod.fields["tolerations"].is_list and not pod.fields["tolerations"].is_list_set
    assert pod.fields["volumes"].keys == ("name",)
    metadata = record_type(Pod).fields["metadata"]
    assert metadata.fields["finalizers"].is_list_set and not metadata.fields["finalizers"].keys
    assert metadata.fields["ownerReferences"].item.is_atomic_map
    for resource in resources.ALL:  # every type can be read to its end
        assert type_of(resource).fields["metadata"].is_map


def test_apply_5_types_of_custom_kinds_follow_from_their_schema():
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "ports": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port", "protocol"],
                        "items": {
                            "type": "object",
                            "required": ["port"],
                            "properties": {
                                "port": {"type": "integer"},
                                "protocol": {"type": "string", "default": "TCP"},
                            },
                        },
                    },
                    "tags": {
                        "type": "array",
                        "x-kubernetes-list-type": "set",
                        "items": {"type": "string"},
                    },
                    "whole": {
                        "type": "object",
                        "x-kubernetes-map-type": "atomic",
                        "additionalProperties": {"type": "string"},
                    },
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        },
    }
    world = CustomWorld(a_definition(a_version(schema)))
    body = {
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
        "metadata": {"name": "a"},
        "spec": {
            "ports": [{"port": 80}],
            "tags": ["a"],
            "whole": {"k": "v"},
            "free": {"x": {"y": [1]}},
        },
    }
    path = "/apis/example.com/v1/namespaces/default/gadgets/a?fieldManager=me"
    code, made = sent(world, "PATCH", path, body, APPLY)
    assert code == 201, made
    assert made["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:spec": {
            "f:ports": {
                'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}},
            },
            "f:tags": {'v:"a"': {}},
            "f:whole": {},
            "f:free": {"f:x": {".": {}, "f:y": {}}},
        }
    }


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["x", "y"]), JSON_VALUES, max_size=2), st.booleans())
@example({"x": [{"y": [1]}]}, True)
def test_apply_5_values_without_a_schema_may_have_any_form_and_lists_own_their_items(value, below):
    """Objects in a list were refused: the items of such a list counted as scalars."""
    free: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"free": free}} if below else free
    world = CustomWorld(a_definition(a_version(schema)))
    body = {
        "apiVersion": "example.com/v1",
        "kind": "Gadget",
        "metadata": {"name": "a"},
        "free": value,
    }
    path = "/apis/example.com/v1/namespaces/default/gadgets/a?fieldManager=me"
    code, made = sent(world, "PATCH", path, body, APPLY)
    assert code == 201, made

    def owned_in(tree: Any) -> Any:
        """What belongs to the manager: each value of a map, and a list as a whole."""
        if not isinstance(tree, dict) or not tree:
            return {}
        return {f"f:{name}": {**mark(child), **owned_in(child)} for name, child in tree.items()}

    def mark(child: Any) -> dict[str, Any]:
        return {".": {}} if isinstance(child, dict) and child else {}

    (entry,) = made["metadata"]["managedFields"]
    found = entry["fieldsV1"]["f:free"]
    found.pop(".", None)
    assert found == owned_in(value)


# --- comparisons


def flat(type_: Type, value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every path of a value, with a leaf's value; NODE for what contains others."""
    if isinstance(value, dict) and value and type_.is_map and not type_.is_atomic_map:
        found: dict[tuple[str, ...], Any] = {path: NODE}
        for key, child in value.items():
            found |= flat(type_.child(key), child, (*path, "f:" + key))
        return found
    if isinstance(value, list) and value and type_.is_list_set:
        found = {path: NODE}
        for item in value:
            found |= flat(type_.item or DEDUCED, item, (*path, element_of(type_, item)))
        return found
    return {path: value}


NODE = object()


def has_repeated(type_: Type, value: Any) -> bool:
    """Whether a list has two items with the same element, or one without an element."""
    return bool(problems(type_, value))


def reference_comparison(type_: Type, old: Any, new: Any) -> tuple[set[Any], set[Any], set[Any]]:
    before, after = flat(type_, old), flat(type_, new)
    modified = set()
    for path in before.keys() & after.keys():
        one, other = before[path], after[path]
        if one is NODE or other is NODE:
            continue  # what was empty or null and is filled has its content added, or the reverse
        if not is_equal(one, other):
            modified.add(path)
    return set(after.keys() - before.keys()), modified, set(before.keys() - after.keys())


@pytest.mark.parametrize("record", [Pod, Node, Service])
def test_apply_6_a_comparison_is_that_of_all_paths(record):
    @given(st.data())
    def check(data):
        old = data.draw(strategies.objects(record))
        new = data.draw(st.one_of(strategies.objects(record), strategies.disturbed(old)))
        type_ = record_type(record)
        trees = codec.to_tree(old), codec.to_tree(new)
        assume(not any(has_repeated(type_, tree) for tree in trees))
        found = compare(type_, *trees)
        added, modified, removed = reference_comparison(type_, *trees)
        assert as_set(found.added) == added
        assert as_set(found.removed) == removed
        assert as_set(found.modified) == modified
        event(f"something modified: {bool(modified)}")

    check()


def ownable(fields: field_set.FieldSet) -> field_set.FieldSet:
    return difference(fields, NEVER_OWNED)


def comparable(obj: Any) -> Any:
    """The object without what is not compared (APPLY-11)."""
    return replace(obj, metadata=replace(obj.metadata, managed_fields=None))


@pytest.mark.parametrize("record", [Pod, Node, Service])
def test_apply_6_records_compare_as_their_trees(record):
    @given(st.data())
    def check(data):
        old = data.draw(strategies.objects(record))
        new = data.draw(st.one_of(strategies.objects(record), strategies.disturbed(old)))
        type_ = record_type(record)
        before, after = comparable(old), comparable(new)
        plain = compare(type_, codec.to_tree(before), codec.to_tree(after))
        fast = records.compare_records(old, new)
        for name in ("added", "modified", "removed"):
            assert ownable(getattr(fast, name)) == ownable(getattr(plain, name)), name
        plain = compare(type_, codec.to_tree(record()), codec.to_tree(after))
        fast = records.compare_new(new)
        assert ownable(fast.changed) == ownable(plain.changed)
        assert decode(records.fields_of_new(new)) == fast.changed

    check()


# --- merges

labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3)
port_lists = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["TCP", "UDP"]), st.sampled_from("xyz")),
    max_size=4,
    unique_by=lambda port: port[:2],
).map(lambda found: [{"port": n, "protocol": p, "name": name} for n, p, name in found])


@st.composite
def service_trees(draw: st.DrawFn) -> dict[str, Any]:
    tree: dict[str, Any] = {"metadata": {"name": "s"}, "spec": {"ports": draw(port_lists)}}
    if draw(st.booleans()):
        tree["metadata"]["labels"] = draw(labels.filter(bool))
    if draw(st.booleans()):
        tree["spec"]["selector"] = draw(labels.filter(bool))
    if not tree["spec"]["ports"]:
        del tree["spec"]["ports"]
    return tree


SERVICE = record_type(Service)


def unordered(tree: Any) -> Any:
    """The tree with sorted lists."""
    if isinstance(tree, dict):
        return {key: unordered(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return sorted((unordered(item) for item in tree), key=json.dumps)
    return tree


@given(service_trees(), service_trees(), service_trees())
def test_apply_8_merging_is_idempotent_and_associative(live, one, other):
    merged = merge(SERVICE, live, one)
    assert merge(SERVICE, merged, one) == merged
    step_by_step = merge(SERVICE, merged, other)
    at_once = merge(SERVICE, live, merge(SERVICE, one, other))
    assert unordered(step_by_step) == unordered(at_once)


@given(service_trees(), service_trees())
def test_apply_8_a_merge_sets_what_is_applied_and_leaves_the_rest(live, config):
    merged = merge(SERVICE, live, config)
    before, applied, after = flat(SERVICE, live), flat(SERVICE, config), flat(SERVICE, merged)
    filled = {path: value for path, value in applied.items() if value != {} or path not in before}
    assert after == before | filled
    ports = [
        element_of(SERVICE.fields["spec"].fields["ports"], item)
        for item in merged["spec"].get("ports", ())
    ]
    ours = [
        element_of(SERVICE.fields["spec"].fields["ports"], item)
        for item in config["spec"].get("ports", ())
    ]
    assert [element for element in ports if element in ours] == ours


@given(service_trees())
def test_apply_7_a_configuration_owns_its_values_and_items(config):
    fields = as_set(applied_paths(SERVICE, config))
    values = {path for path, value in flat(SERVICE, config).items() if value is not NODE}
    items = {path for path in flat(SERVICE, config) if path and path[-1][:2] in ("k:", "v:")}
    assert fields == values | items


@given(service_trees())
def test_apply_9_an_object_without_what_was_applied_has_none_of_it(config):
    left = without(SERVICE, config, applied_paths(SERVICE, config)) or {}
    values = {path: value for path, value in flat(SERVICE, left).items() if path}
    assert all(value is NODE or value is None for value in values.values())


# --- the whole: managers of a ConfigMap, beside a dict


@st.composite
def writes(draw: st.DrawFn) -> tuple[str, str, dict[str, str], bool]:
    kind = draw(st.sampled_from(["apply", "apply", "replace", "patch"]))
    return kind, draw(st.sampled_from(["m1", "m2", "m3"])), draw(labels), draw(st.booleans())


class Ownership:
    """The plain reference: values, and the keys of each manager and operation."""

    def __init__(self) -> None:
        self.data: dict[str, str] = {}
        self.keys: dict[tuple[str, str], set[str]] = {}

    def settle(self, new: dict[str, str], but: tuple[str, str] | None) -> set[str]:
        """Give the object new data; its changed keys leave all managers but one."""
        changed = {key for key in new if self.data.get(key) != new[key]}
        gone = changed | (self.data.keys() - new.keys())
        for who, keys in self.keys.items():
            if who != but:
                keys -= gone
        self.data = new
        return changed

    def update(self, manager: str, new: dict[str, str]) -> None:
        changed = self.settle(new, None)
        if changed:
            self.keys.setdefault((manager, "Update"), set()).update(changed)

    def apply(self, manager: str, config: dict[str, str], force: bool) -> bool:
        """Whether there is no conflict."""
        who = (manager, "Apply")
        changed = {key for key in config if self.data.get(key) != config[key]}
        others = [keys for other, keys in self.keys.items() if other != who]
        if not force and any(keys & changed for keys in others):
            return False
        dropped = self.keys.get(who, set()) - config.keys()
        kept = {key for key in dropped if any(key in keys for keys in others)}
        new = {key: value for key, value in self.data.items() if key not in dropped - kept}
        self.settle({**new, **config}, who)
        self.keys[who] = set(config)
        return True


@given(st.lists(writes(), max_size=12))
def test_apply_12_apply_15_managers_own_what_they_wrote_as_in_a_plain_reference(steps):
    world, reference = World(), Ownership()
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    # what the maker keeps: an object without managers gets none by updates (APPLY-14)
    head["metadata"]["labels"] = {"app": "x"}
    code, obj = sent(world, "POST", f"{CONFIG_MAPS}?fieldManager=maker", head)
    assert code == 201
    for kind, manager, data, force in steps:
        target = f"{CONFIG_MAPS}/a?fieldManager={manager}"
        body = {**head, "data": data} if data else head
        if kind == "apply":
            target += "&force=true" if force else ""
            code, obj_or_failure = sent(world, "PATCH", target, body, APPLY)
            accepted = reference.apply(manager, data, force)
            assert code == (200 if accepted else 409), obj_or_failure
        elif kind == "replace":
            reference.update(manager, data)
            code, obj_or_failure = sent(world, "PUT", target, body)
            assert code == 200
        else:
            reference.update(manager, {**reference.data, **data})
            code, obj_or_failure = sent(world, "PATCH", target, {"data": data}, MERGE)
            assert code == 200
        event(f"{kind} {code}")
        code, obj = sent(world, "GET", f"{CONFIG_MAPS}/a", b"")
        assert obj.get("data", {}) == reference.data
        found = {
            who: {key[2:] for key in fields.get("f:data", {}) if key.startswith("f:")}
            for who, fields in owned(obj).items()
        }
        assert {who: keys for who, keys in found.items() if keys} == {
            who: keys for who, keys in reference.keys.items() if keys
        }


# --- entries


def applied_as(world: World, manager: str, config: Any, more: str = "") -> tuple[int, Any]:
    name = config["metadata"]["name"]
    target = f"{CONFIG_MAPS}/{name}?fieldManager={manager}{more}"
    return sent(world, "PATCH", target, config, APPLY)


def a_config(name: str = "a", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_apply_3_entries_are_ordered_and_shared_by_objects_of_one_shape():
    world = World()
    assert sent(world, "POST", f"{CONFIG_MAPS}?fieldManager=z", a_config(k="v"))[0] == 201
    assert applied_as(world, "y", a_config(l="v"))[0] == 200
    assert applied_as(world, "x", a_config(m="v"))[0] == 200
    patch = {"data": {"n": "v"}}
    _, obj = sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=w", patch, MERGE)
    entries = obj["metadata"]["managedFields"]
    assert [(entry["operation"], entry["manager"]) for entry in entries] == [
        ("Apply", "y"),
        ("Apply", "x"),
        ("Update", "z"),
        ("Update", "w"),
    ]
    assert all(entry["fieldsType"] == "FieldsV1" and entry["time"] for entry in entries)
    world.now -= 1_000_000  # the next request is in the same second
    for name in ("b", "c"):
        assert applied_as(world, "z", a_config(name, k=name))[0] == 201
        world.now -= 1_000_000
    one, other = (
        world.get(resources.CONFIG_MAPS, name).metadata.managed_fields for name in ("b", "c")
    )
    assert one[0] is other[0]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"metadata": {"name": "a"}}, 400, "invalid object type: /, Kind="),
        ({**a_config(), "apiVersion": "v2"}, 400, "invalid object type: /v2, Kind=ConfigMap"),
        ({**a_config(), "kind": "Pod"}, 400, "invalid object type: /v1, Kind=Pod"),
        ([], 400, "error decoding YAML"),
        (b"", 400, "error decoding YAML"),
        (b"a: [", 400, "error decoding YAML"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, 400, "error decoding YAML"),
        ({**a_config(), "data": {"k": 1}}, 500, ".data.k: expected string, got"),
        ({**a_config(), "data": [1]}, 500, ".data: expected map, got &{[1]}"),
        ({**a_config(), "odd": 1}, 500, ".odd: field not declared in schema"),
        ({**a_config(), "immutable": "x"}, 500, ".immutable: expected boolean, got &{x}"),
        ({**a_config(), "metadata": {"name": "a", "finalizers": ["a/b", "a/b"]}}, 500,
         'duplicate entries for key [="a/b"]'),
        ({**a_config(), "metadata": {"name": "a", "finalizers": "x"}}, 500, "expected list"),
        ({**a_config(), "metadata": {"name": "a", "finalizers": [None]}}, 500, "explicit null"),
        ({**a_config(), "metadata": {"name": "a", "ownerReferences": [1]}}, 500, "non-map"),
        ({**a_config(), "metadata": {"name": "a", "managedFields": []}}, 400, "must be nil"),
    ],
)  # fmt: skip
def test_apply_10_a_configuration_of_the_wrong_form_is_refused(body, code, words):
    world = World()
    found, status = sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=m", body, APPLY)
    assert (found, words in status["message"]) == (code, True), status
    assert world.get(resources.CONFIG_MAPS, "a") is None


def test_apply_10_options_of_an_apply_are_checked():
    world = World()
    code, status = sent(world, "PATCH", f"{CONFIG_MAPS}/a", a_config(), APPLY)
    assert code == 422 and "fieldManager: Required value" in status["message"]
    target = f"{CONFIG_MAPS}/a?fieldManager=m&force=true"
    code, status = sent(world, "PATCH", target, {"data": {}}, MERGE)
    assert code == 422 and "force: Forbidden" in status["message"]


@given(st.text(max_size=8), st.text(max_size=200))
def test_apply_11_the_manager_is_the_user_agent_up_to_its_first_slash(version, program):
    name = managers.program_of(f"{program}/{version}")
    assert name == "unknown" or program.startswith(name[:1]) or not program[:1].isprintable()
    assert "/" not in name and name.isprintable() and 0 < len(name.encode()) <= 128
    assert managers.program_of("curl/8.0 (x)") == "curl" and managers.program_of("") == "unknown"


def test_apply_11_metadata_of_the_api_server_belongs_to_nobody():
    world = World()
    config = a_config(k="v")
    config["metadata"] |= {"namespace": "default", "labels": {"app": "x"}}
    _, obj = applied_as(world, "m", config)
    assert owned(obj) == {
        ("m", "Apply"): {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:app": {}}}}
    }


def test_apply_12_a_write_that_changes_nothing_but_times_writes_nothing():
    world = World()
    assert applied_as(world, "m", a_config(k="v"))[0] == 201
    before = world.history.revision
    assert applied_as(world, "m", a_config(k="v"))[0] == 200
    assert sent(world, "PATCH", f"{CONFIG_MAPS}/a", {"data": {"k": "v"}}, MERGE)[0] == 200
    assert world.history.revision == before


def test_apply_12_what_admission_adds_belongs_to_nobody():
    world = World()
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}
    pod["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    code, obj = sent(world, "POST", "/api/v1/namespaces/default/pods?fieldManager=m", pod)
    fields = owned(obj)[("m", "Update")]
    assert code == 201 and obj["spec"]["tolerations"]
    assert "f:tolerations" not in fields["f:spec"] and "f:dnsPolicy" in fields["f:spec"]
    assert "." not in fields["f:spec"]


def test_apply_13_old_updates_are_merged_to_one_entry_of_each_version():
    world = World()
    assert sent(world, "POST", f"{CONFIG_MAPS}?fieldManager=m0", a_config(k="v"))[0] == 201
    for number in range(1, 14):
        patch = {"data": {f"k{number}": "v"}}
        code, obj = sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=m{number}", patch, MERGE)
        assert code == 200 and len(obj["metadata"]["managedFields"]) == min(number + 1, 10)
    found = owned(obj)
    assert set(found[("ancient-changes", "Update")]["f:data"]) == {
        ".", "f:k", *[f"f:k{number}" for number in range(1, 5)],
    }  # fmt: skip
    assert found[("m13", "Update")] == {"f:data": {"f:k13": {}}}


@pytest.mark.parametrize("entries", [[], [{}]])
def test_apply_14_an_empty_list_or_entry_removes_all_entries(entries):
    world = World()
    assert applied_as(world, "m", a_config(k="v"))[0] == 201
    patch = {"metadata": {"managedFields": entries}}
    code, obj = sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=n", patch, MERGE)
    assert code == 200 and "managedFields" not in obj["metadata"]
    patch = {"data": {"k": "w"}}
    code, obj = sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=n", patch, MERGE)
    assert code == 200 and "managedFields" not in obj["metadata"]  # nobody owns, nothing recorded
    code, obj = applied_as(world, "m", a_config(l="v"))  # APPLY-16
    assert set(owned(obj)) == {("before-first-apply", "Update"), ("m", "Apply")}


entries = st.builds(
    ManagedFieldsEntry,
    manager=st.sampled_from(["m", "n", None]),
    operation=st.sampled_from(["Apply", "Update", "Odd", None]),
    api_version=st.sampled_from(["v1", "v2", None]),
    fields_type=st.sampled_from(["FieldsV1", "FieldsV2", None]),
    fields_v1=st.sampled_from([b'{"f:data":{"f:k":{}}}', b"{}", b"[]", b'{"x":{}}']).map(FieldsV1),
)


@given(st.lists(entries, min_size=1, max_size=3))
def test_apply_14_entries_in_a_request_count_if_they_are_valid(given_entries):
    world = World()
    assert applied_as(world, "before", a_config(k="v"))[0] == 201
    before = owned(sent(world, "GET", f"{CONFIG_MAPS}/a", b"")[1])
    body = a_config(k="v")
    body["metadata"]["managedFields"] = codec.to_tree(given_entries)
    code, obj = sent(world, "PUT", f"{CONFIG_MAPS}/a?fieldManager=editor", body)
    assert code == 200, obj
    try:
        expected = managers.decode(given_entries)
    except managers.InvalidEntry:
        assert owned(obj) == before
        return
    served = {
        (who.manager or "", who.operation)
        for who, one in expected.items()
        if one.api_version == "v1" and one.fields
    }
    found = {
        (entry.get("manager", ""), entry["operation"])
        for entry in obj["metadata"].get("managedFields", [])
    }
    assert found == served


def test_apply_16_what_nobody_owned_belongs_to_before_first_apply():
    world = World()
    assert applied_as(world, "m", a_config(k="v", l="v"))[0] == 201
    reset = {"metadata": {"managedFields": [{}]}}
    assert sent(world, "PATCH", f"{CONFIG_MAPS}/a", reset, MERGE)[0] == 200
    code, status = applied_as(world, "n", a_config(k="w"))
    assert code == 409
    assert 'conflict with "before-first-apply" using v1: .data.k' in status["message"]


LAST = "kubectl.kubernetes.io/last-applied-configuration"


def client_side(world: World, **data: str) -> None:
    """Apply as kubectl does without --server-side."""
    config = a_config(**data)
    config["metadata"]["annotations"] = {LAST: json.dumps(a_config(**data))}
    target = f"{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply"
    assert sent(world, "POST", target, config)[0] == 201


def test_apply_17_kubectl_takes_over_what_it_applied_on_the_clients_side():
    world = World()
    client_side(world, k="v", l="v")
    patch = {"data": {"l": "edited"}}
    assert sent(world, "PATCH", f"{CONFIG_MAPS}/a?fieldManager=e", patch, MERGE)[0] == 200
    code, status = applied_as(world, "other", a_config(k="w"))
    assert code == 409, "only kubectl takes over"
    code, status = applied_as(world, "kubectl", a_config(k="w", l="w"))
    assert code == 409 and [cause["field"] for cause in status["details"]["causes"]] == [".data.l"]
    code, obj = applied_as(world, "kubectl", a_config(k="w"))
    assert code == 200 and obj["data"] == {"k": "w", "l": "edited"}
    kept = json.loads(obj["metadata"]["annotations"][LAST])
    assert kept["data"] == {"k": "w"} and kept["metadata"]["annotations"] == {}
    code, obj = applied_as(world, "other", a_config(m="v"))
    assert json.loads(obj["metadata"]["annotations"][LAST])["data"] == {"k": "w"}


def test_apply_9_a_field_that_is_no_longer_applied_is_removed_if_nobody_owns_it():
    world = World()
    assert applied_as(world, "m", a_config(k="v", l="v", m="v"))[0] == 201
    assert applied_as(world, "n", a_config(l="v"))[0] == 200
    code, obj = applied_as(world, "m", a_config(m="v"))
    assert code == 200 and obj["data"] == {"l": "v", "m": "v"}


def test_apply_15_an_apply_creates_on_the_main_path_only():
    world = World()
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "status": {"phase": "Failed"},
    }
    target = "/api/v1/namespaces/default/pods/p"
    assert sent(world, "PATCH", f"{target}/status?fieldManager=m", body, APPLY)[0] == 404
    body["spec"] = {"containers": [{"name": "c", "image": "i"}]}
    code, obj = sent(world, "PATCH", f"{target}?fieldManager=m", body, APPLY)
    assert code == 201 and obj["status"]["phase"] == "Pending"
    assert "f:status" not in owned(obj)[("m", "Apply")]
    config = a_config("g")
    config["metadata"]["deletionGracePeriodSeconds"] = 2
    code, obj = applied_as(world, "m", config)
    assert code == 201 and obj["metadata"]["deletionGracePeriodSeconds"] == 2
    config = a_config("u")
    config["metadata"]["uid"] = "11111111-2222-4333-8444-555555555555"
    code, status = applied_as(world, "m", config)
    assert code == 409 and "uid mismatch" in status["message"]


@given(service_trees(), st.integers(0, 2**16))
def test_apply_15_a_conflict_changes_nothing(config, seed):
    world = World()
    assert applied_as(world, "m", a_config(k="v"))[0] == 201
    before = world.history.revision
    assert applied_as(world, "n", a_config(k=f"w{seed}"))[0] == 409
    assert world.history.revision == before


def test_apply_12_a_dry_run_shows_the_entries_and_stores_none():
    world = World()
    code, obj = applied_as(world, "m", a_config(k="v"), "&dryRun=All")
    assert code == 201 and owned(obj) == {("m", "Apply"): {"f:data": {"f:k": {}}}}
    assert world.get(resources.CONFIG_MAPS, "a") is None


# --- scale and versions

SCALE_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["apply", "apply scale", "put scale", "patch scale", "replace"]),
        st.sampled_from(["m1", "m2"]),
        st.integers(1, 3),
        st.booleans(),
    ),
    max_size=8,
)
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def a_deployment(replicas: int) -> dict[str, Any]:
    labels = {"app": "x"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template,
        },
    }


@given(SCALE_STEPS)
def test_apply_18_the_replicas_belong_to_who_scaled_last_or_applied_the_same_number(steps):
    """The reference: the number, and its owners as (manager, operation, subresource)."""
    world = World()
    assert sent(world, "POST", f"{DEPLOYMENTS}?fieldManager=maker", a_deployment(1))[0] == 201
    replicas, owners = 1, {("maker", "Update", "")}
    for kind, manager, number, force in steps:
        scale = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": "d"},
            "spec": {"replicas": number},
        }
        part = "/scale" if "scale" in kind else ""
        target = f"{DEPLOYMENTS}/d{part}?fieldManager={manager}"
        who = (manager, "Apply" if "apply" in kind else "Update", part[1:])
        if "apply" in kind:
            target += "&force=true" if force else ""
            body = scale if part else a_deployment(number)
            code, answer = sent(world, "PATCH", target, body, APPLY)
            is_conflict = number != replicas and bool(owners - {who}) and not force
            assert code == (409 if is_conflict else 200), answer
            if is_conflict:
                assert ".spec.replicas" in [one["field"] for one in answer["details"]["causes"]]
                continue
            owners = {who} | (owners if number == replicas else set())
        else:
            if kind == "patch scale":
                body = {"spec": {"replicas": number}}
                code, answer = sent(world, "PATCH", target, body, MERGE)
            else:
                code, answer = sent(world, "PUT", target, scale if part else a_deployment(number))
            assert code == 200, answer
            owners = {who} if number != replicas else owners
        replicas = number
        if part:
            assert answer["spec"]["replicas"] == number
            assert "managedFields" not in answer["metadata"]
        code, obj = sent(world, "GET", f"{DEPLOYMENTS}/d", b"")
        entries = obj["metadata"]["managedFields"]
        assert {
            (entry["manager"], entry["operation"], entry.get("subresource", ""))
            for entry in entries
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        } == owners
        assert all(entry["apiVersion"] == "apps/v1" for entry in entries)
        event(kind)


def test_apply_19_managers_of_two_versions_of_one_object_meet():
    world = World()
    path = "namespaces/default/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    spec = {"scaleTargetRef": target, "maxReplicas": 3}
    head = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}}
    first = {**head, "apiVersion": "autoscaling/v1", "spec": spec}
    first["spec"] = {**spec, "targetCPUUtilizationPercentage": 50}
    code, obj = sent(
        world, "PATCH", f"/apis/autoscaling/v1/{path}/a?fieldManager=one", first, APPLY
    )
    assert code == 201, obj
    second = {**head, "apiVersion": "autoscaling/v2", "spec": {**spec, "maxReplicas": 4}}
    other = f"/apis/autoscaling/v2/{path}/a?fieldManager=two"
    code, status = sent(world, "PATCH", other, second, APPLY)
    assert code == 409 and 'conflict with "one": .spec.maxReplicas' in status["message"]
    code, obj = sent(world, "PATCH", other + "&force=true", second, APPLY)
    assert code == 200 and obj["spec"]["metrics"]
    fields = {entry["manager"]: entry for entry in obj["metadata"]["managedFields"]}
    assert fields["one"]["apiVersion"] == "autoscaling/v1"
    assert "f:targetCPUUtilizationPercentage" in fields["one"]["fieldsV1"]["f:spec"]
    assert "f:maxReplicas" not in fields["one"]["fieldsV1"]["f:spec"]
    # what one drops, in its own version, goes from the object
    first["spec"] = {"scaleTargetRef": target}
    code, obj = sent(
        world, "PATCH", f"/apis/autoscaling/v1/{path}/a?fieldManager=one", first, APPLY
    )
    assert code == 200 and obj["spec"]["maxReplicas"] == 4
    assert obj["spec"]["targetCPUUtilizationPercentage"] == 80, "the default, not what one applied"


def test_apply_19_managers_of_a_version_that_is_not_served_are_dropped():
    world = World()
    assert applied_as(world, "m", a_config(k="v"))[0] == 201
    entry = {
        "manager": "old",
        "operation": "Update",
        "apiVersion": "v0",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}}},
    }
    body = a_config(k="v")
    body["metadata"]["managedFields"] = [entry, {**entry, "apiVersion": "v1"}]
    code, obj = sent(world, "PUT", f"{CONFIG_MAPS}/a?fieldManager=e", body)
    assert code == 200
    assert [one["apiVersion"] for one in obj["metadata"]["managedFields"]] == ["v1"]


def test_apply_7_a_kind_that_resets_its_spec_has_no_owner_of_it():
    """A CertificateSigningRequest: its spec is that of its creation, so nobody owns it."""
    kept = reset_fields(resources.CERTIFICATE_SIGNING_REQUESTS, "")
    assert as_set(kept) == {("f:spec",), ("f:status",)}
    assert as_set(reset_fields(resources.PODS, "status")) == {
        ("f:spec",),
        ("f:metadata", "f:ownerReferences"),
    }
    assert as_set(reset_fields(resources.DEPLOYMENTS, "status")) == {
        ("f:spec",),
        ("f:metadata", "f:labels"),
    }
    assert as_set(reset_fields(resources.CONFIG_MAPS, "")) == set()


@given(st.lists(strategies.objects(ManagedFieldsEntry), max_size=3).map(tuple))
def test_apply_3_shared_entries_are_equal_and_do_not_keep_what_they_were_decoded_from(found):
    obj = Pod(metadata=ObjectMeta(name="p", managed_fields=found))
    decoded = codec.decode(Pod, codec.encode(obj))
    shared = with_shared_entries(decoded)
    assert shared == decoded and codec.encode(shared) == codec.encode(obj)
    again = with_shared_entries(codec.decode(Pod, codec.encode(obj)))
    for one, other in zip(
        shared.metadata.managed_fields or (), again.metadata.managed_fields or (), strict=True
    ):
        kept = one.fields_type == "FieldsV1" and one.fields_v1 is not NO_FIELDS
        assert one is other or not kept
