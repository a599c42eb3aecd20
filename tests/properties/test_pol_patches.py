"""The patches of mutations from plain values (spec/admission_policies.md, POL-13), and the
parameters of bindings (POL-7)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from custom_world import a_definition
from hypothesis import given
from hypothesis import strategies as st
from test_pol_evaluation import RULE, Cluster, configuration, operations
from test_quota_controller import established

from refk8s.core.api import resources
from refk8s.core.api.admissionregistration_v1 import ParamKind, ParamRef
from refk8s.core.api.codec import from_tree, to_tree
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.policies.parameters import (
    Misconfigured,
    find_parameters,
    parameter_resource,
)
from refk8s.core.apiserver.admission.policies.patches import (
    PatchFailed,
    _atomics,
    _check_names,
    _merged,
    _patched_by_operations,
    plain,
)
from refk8s.core.apiserver.apply.types import record_type
from refk8s.core.cel.values import Duration, MessageValue, Quantity, Timestamp, UInt
from refk8s.core.store import EMPTY, Put, Txn, commit

SERVICES, PODS, CONFIG_MAPS = resources.SERVICES, resources.PODS, resources.CONFIG_MAPS

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3)
trees = st.recursive(
    scalars,
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from("abc"), part, max_size=2),
    max_leaves=5,
)  # fmt: skip


@given(trees)
def test_pol_13_json_is_made_as_it_is(tree):
    assert plain(tree) == tree
    assert plain(MessageValue("Object", {"a": [tree]})) == {"a": [tree]}
    assert type(plain(MessageValue("Object", {}))) is dict


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UInt(7), 7),
        (1.5, 1.5),
        (Timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)), "2026-01-02T03:04:05Z"),
        (Duration(timedelta(minutes=2)), "120s"),
        (Quantity(Decimal("1500")), "1500"),
        ([Duration(timedelta(seconds=1))], ["1s"]),
    ],
)
def test_pol_13_values_that_json_has_in_another_form(value, expected):
    found = plain(value)
    assert found == expected and type(found) is type(expected)


def why_not(function: Any, *arguments: Any) -> str:
    with pytest.raises(PatchFailed) as failed:
        function(*arguments)
    return str(failed.value)


def test_pol_13_what_json_does_not_have():
    assert why_not(plain, {1: "a"}) == "keys of an object are strings"
    assert why_not(plain, [object()]) == "a value of type object is not JSON"


# --- names of types


def message(name: str, **fields: Any) -> MessageValue:
    return MessageValue(name, fields)


PORT = message("Object.spec.ports")


@pytest.mark.parametrize(
    "value",
    [
        message("Object"),
        message("Object", spec=message("Object.spec", ports=[PORT, PORT], x=1)),
        message("Object", spec={"any": message("Object.spec")}),
        {"a": message("Object")}, [message("Object")], "x", None,
    ],
)  # fmt: skip
def test_pol_13_messages_are_named_by_their_paths(value):
    _check_names(value, "Object")


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        (message("Odd"), "Odd", "Object"),
        (message("Object", spec=message("Object")), "Object", "Object.spec"),
        (message("Object", spec=message("Object.spec", ports=[PORT, message("Object.x")])), "Object.x", "Object.spec.ports"),
        (message("Object", spec={"any": message("Object.spec.any")}), "Object.spec.any", "Object.spec"),
        ([message("Odd")], "Odd", "Object"),
    ],
)  # fmt: skip
def test_pol_13_a_message_of_another_path_is_refused(value, name, expected):
    assert why_not(_check_names, value, "Object") == (
        f'type mismatch: unexpected type name "{name}", expected "{expected}", '
        "which matches field name path from root Object type"
    )


# --- configurations


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SERVICES, {"spec": {"externalIPs": [], "ports": [{"port": 1}]}}, [".spec.externalIPs"]),
        (SERVICES, {"spec": {"selector": {"a": "b"}}}, [".spec.selector"]),
        (PODS, {"spec": {"containers": [{"name": "c", "args": ["x"], "env": [{"name": "e", "valueFrom": {"fieldRef": {}}}]}]}},
         [".spec.containers[0].args", ".spec.containers[0].env[0].valueFrom.fieldRef"]),
        (PODS, {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {}}}, [".spec.nodeSelector"]),
        (CONFIG_MAPS, {"data": {"a": "b"}, "odd": [1]}, []),
        (CONFIG_MAPS, [1], []),
        (CONFIG_MAPS, "x", []),
    ],
)  # fmt: skip
def test_pol_13_the_paths_of_what_is_atomic(kind, value, expected):
    assert sorted(_atomics(record_type(kind.type), value, "")) == sorted(expected)


def test_pol_13_a_configuration_is_merged_into_an_object_of_its_kind():
    tree = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1, "protocol": "TCP"}], "type": "ClusterIP"}}  # fmt: skip
    more = {"spec": {"ports": [{"port": 1, "protocol": "TCP", "name": "p"}, {"port": 2, "protocol": "TCP"}]}}  # fmt: skip
    expected = {**tree, "spec": {"type": "ClusterIP", "ports": more["spec"]["ports"]}}
    assert _merged({**more, "kind": "Odd"}, tree, SERVICES) == expected
    # a subresource of another kind is merged by that kind
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 1}}
    merged = _merged({"spec": {"replicas": 2}}, scale, resources.DEPLOYMENTS)
    assert merged == {**scale, "spec": {"replicas": 2}}
    unknown = {"apiVersion": "example.com/v1", "kind": "Odd"}
    assert _merged({"data": {"a": "b"}}, unknown, CONFIG_MAPS) == {**unknown, "data": {"a": "b"}}
    both = {"spec": {"externalIPs": ["1.2.3.4"], "selector": {"a": "b"}}}
    words = "may not mutate atomic arrays, maps or structs: .spec.externalIPs, .spec.selector"
    assert why_not(_merged, both, tree, SERVICES) == (
        f"error applying patch: invalid ApplyConfiguration: {words}"
    )
    assert why_not(_merged, {"spec": {"odd": 1}}, tree, SERVICES).startswith(
        "error applying patch: failed to convert patch object to typed object: .spec.odd"
    )


# --- operations


def operation(**fields: Any) -> MessageValue:
    return MessageValue("JSONPatch", fields)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x", "type mismatch: JSONPatchType.expression should evaluate to array"),
        (["x"], "type mismatch: JSONPatchType.expression elements should evaluate to JSONPatch"),
        ([{"op": "add"}], "type mismatch: JSONPatchType.expression elements should evaluate to JSONPatch"),
        ([message("Object")], "type mismatch: JSONPatchType.expression elements should evaluate to JSONPatch"),
        ([operation(op="odd", path="/a")], "invalid JSONPatch operation: 'odd'"),
        ([operation(path="/a")], "invalid JSONPatch operation: ''"),
        ([operation(op="add", path="/a", value=message("Object.a", b=message("Object.c")))],
         'type mismatch: unexpected type name "Object.c", expected "Object.a.b", which matches field name path from root Object type'),
    ],
)  # fmt: skip
def test_pol_13_what_is_no_list_of_operations(value, words):
    assert why_not(_patched_by_operations, value, {"a": 1}) == words


def test_pol_13_operations_are_applied_in_order():
    tree = {"a": 1}
    assert _patched_by_operations([], tree) is tree
    value = [
        operation(op="add", path="/b", value=message("Object.b", c=Duration(timedelta(seconds=1)))),
        operation(op="copy", **{"from": "/b", "path": "/d"}),
        operation(op="test", path="/d/c", value="1s"),
        operation(op="remove", path="/a"),
        operation(op="move", **{"from": "/b", "path": "/e"}),
        operation(op="replace", path="/d", value=2),
    ]
    assert _patched_by_operations(value, tree) == {"d": 2, "e": {"c": "1s"}} and tree == {"a": 1}


# --- the object that a mutation makes


@pytest.mark.parametrize(
    ("mutation", "words"),
    [
        (operations("[JSONPatch{op: 'add', path: '/data/n', value: 1}]"), "error applying patch: "),
        (operations("[JSONPatch{op: 'add', path: '/data', value: 'x'}]"), "error applying patch: "),
        (configuration("Object{data: {'k': object.data.none}}"), "resulted in error: no such key: none"),
        (operations("[JSONPatch{op: 'add', path: '/data/n', value: string(object.data.none)}]"), "resulted in error: no such key: none"),
    ],
)  # fmt: skip
def test_pol_13_an_object_that_has_another_form_is_not_made(mutation, words):
    for failure, code in (("Fail", 403), ("Ignore", 201)):
        world = Cluster()
        after = operations("[JSONPatch{op: 'add', path: '/data/after', value: 'x'}]")
        world.mutating(mutation, after, failurePolicy=failure)
        answer = world.create("a", {"k": "v"})
        assert answer.code == code, answer.body
        if code == 403:
            assert words in answer.body.message and answer.body.reason == "Invalid"
        else:  # the others of the policy still count (POL-9)
            assert answer.body.data == {"k": "v", "after": "x"}


# --- parameters


def stored(*objects: tuple[Any, Any]) -> Any:
    history = EMPTY
    for kind, obj in objects:
        key = kind.key(obj.metadata.namespace or "", obj.metadata.name)
        history = commit(history, Txn((), (Put(key, obj),)))[0]
    return history


def labelled(kind: Any, name: str, namespace: str, **labels: str) -> tuple[Any, Any]:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return kind, from_tree(kind.type, {"metadata": metadata})


NODES = resources.NODES
KIND = ParamKind(api_version="v1", kind="ConfigMap")
STORE = stored(
    labelled(CONFIG_MAPS, "a", "n", x="1"), labelled(CONFIG_MAPS, "b", "n", x="2"),
    labelled(CONFIG_MAPS, "a", "m", x="2"), labelled(NODES, "a", "", x="1"), labelled(NODES, "b", "", x="2"),
)  # fmt: skip


def found(resource: Any, where: str, **ref: Any) -> list[tuple[str, str]]:
    given_ = from_tree(ParamRef, ref)
    return [
        (one.metadata.namespace or "", one.metadata.name)
        for one in find_parameters(KIND, resource, given_, where, STORE)
    ]


def test_pol_7_parameters_are_found_by_name_and_by_selector():
    assert find_parameters(None, None, ParamRef(name="a"), "n", STORE) == (None,)
    assert find_parameters(KIND, CONFIG_MAPS, None, "n", STORE) == (None,)
    assert found(CONFIG_MAPS, "n", name="a") == [("n", "a")]
    assert found(CONFIG_MAPS, "n", name="a", namespace="m") == [("m", "a")]
    assert found(CONFIG_MAPS, "", name="a", namespace="m") == [("m", "a")]
    assert found(CONFIG_MAPS, "n", selector={}) == [("n", "a"), ("n", "b")]
    two = {"matchLabels": {"x": "2"}}
    assert found(CONFIG_MAPS, "n", selector=two) == [("n", "b")]
    assert found(NODES, "n", selector=two) == [("", "b")]
    assert found(NODES, "", selector={}) == [("", "a"), ("", "b")]
    assert found(NODES, "n", name="a") == [("", "a")]
    assert found(CONFIG_MAPS, "n", name="none", parameterNotFoundAction="Allow") == []


@pytest.mark.parametrize(
    ("resource", "namespace", "ref", "words"),
    [
        (NODES, "n", {"name": "a", "namespace": "n"}, "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"),
        (CONFIG_MAPS, "", {"name": "a"}, "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"),
        (CONFIG_MAPS, "n", {"name": "c", "parameterNotFoundAction": "Deny"}, "no params found for policy binding with `Deny` parameterNotFoundAction"),
        (CONFIG_MAPS, "n", {"selector": {"matchLabels": {"x": "3"}}, "parameterNotFoundAction": "Deny"}, "no params found for policy binding with `Deny` parameterNotFoundAction"),
        (CONFIG_MAPS, "n", {"selector": {"matchExpressions": [{"key": "x", "operator": "Odd"}]}}, '"Odd" is not a valid label selector operator'),
    ],
)  # fmt: skip
def test_pol_7_parameters_that_cannot_be_found(resource, namespace, ref, words):
    with pytest.raises(Misconfigured) as misconfigured:
        found(resource, namespace, **ref)
    assert str(misconfigured.value) == words


def test_pol_7_the_resource_of_a_kind_of_parameters():
    assert parameter_resource(None, EMPTY) is None
    assert parameter_resource(KIND, EMPTY) == CONFIG_MAPS
    crds = resources.CUSTOM_RESOURCE_DEFINITIONS
    store = stored(
        (crds, established()), (crds, from_tree(crds.type, a_definition(plural="others")))
    )
    gadget = parameter_resource(ParamKind(api_version="example.com/v1", kind="Gadget"), store)
    assert gadget is not None and gadget.plural == "gadgets"
    for version, kind in (("example.com/v1", "Other"), ("example.com/v2", "Gadget"), ("", "")):
        with pytest.raises(Misconfigured) as misconfigured:
            parameter_resource(ParamKind(api_version=version, kind=kind), store)
        words = "failed to find resource referenced by paramKind"
        assert str(misconfigured.value) == f"{words}: '{version}, Kind={kind}'"


def test_pol_12_the_object_as_stored_has_what_the_mutations_made():
    world = Cluster()
    world.mutating(
        configuration("Object{metadata: Object.metadata{labels: {'a': object.data.k}}}"),
        operations("[JSONPatch{op: 'add', path: '/metadata/labels/b', value: object.metadata.labels.a}]"),
    )  # fmt: skip
    taken = world.create("a", {"k": "v"})
    assert taken.code == 201 and taken.body.metadata.labels == {"a": "v", "b": "v"}
    assert to_tree(world.get(CONFIG_MAPS, "a"))["metadata"]["labels"] == {"a": "v", "b": "v"}
    delete = Request("delete", CONFIG_MAPS, "default", "a", user=ADMIN)
    assert world.do(delete).response.code == 200 and RULE["resources"] == ["configmaps"]
