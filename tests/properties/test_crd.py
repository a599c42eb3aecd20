"""Custom resources: what is served, in which version, and the life of objects and definitions
(spec/custom_resources.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from custom_world import (
    DEFINITIONS,
    GROUP,
    CustomWorld,
    a_definition,
    a_version,
    as_record,
    causes,
    gadgets,
)
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.custom import CLEANUP_FINALIZER, CustomObject, version_order
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS as CRDS
from refk8s.core.api.resources import NETWORK_POLICIES
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.custom.definitions import served
from refk8s.core.apiserver.discovery import discover
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.openapi import openapi
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.stored import decode_stored, encode_stored
from refk8s.core.store import Committed, Conflict, commit

NAME = f"gadgets.{GROUP}"
SIZED = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string"}},
        },
        "status": {"type": "object", "properties": {"seen": {"type": "integer", "minimum": 0}}},
    },
}


# --- what is served


def test_crd_1_versions_that_were_stored_stay_in_the_definition():
    two = a_version(name="v2", storage=False)
    world = CustomWorld(a_definition(a_version(), two))

    def swap(tree: Any) -> None:
        for version in tree["spec"]["versions"]:
            version["storage"] = version["name"] == "v2"

    world.redefine(NAME, swap)
    assert world.get(CRDS, NAME).status.stored_versions == ("v1", "v2")
    without = [a_version(name="v2")]
    patch = {"spec": {"versions": without}}
    code, answer = world.send(
        "PATCH", f"{DEFINITIONS}/{NAME}", patch, "application/merge-patch+json"
    )
    assert code == 422 and causes(answer) == [("status.storedVersions[0]", "FieldValueInvalid")]
    migrated = {"status": {"storedVersions": ["v2"]}}
    path, kind = f"{DEFINITIONS}/{NAME}/status", "application/merge-patch+json"
    assert world.send("PATCH", path, migrated, kind)[0] == 200
    assert world.send("PATCH", f"{DEFINITIONS}/{NAME}", patch, kind)[0] == 200


def test_crd_2_a_resource_is_served_while_its_definition_is_established():
    world = CustomWorld()
    assert world.send("POST", DEFINITIONS, a_definition(shortNames=["gd"]))[0] == 201
    assert world.send("GET", gadgets()) == (404, "404 page not found\n")
    assert discover(f"/apis/{GROUP}", resources=served(world.history)) is None
    world.settle()
    code, listed = world.send("GET", gadgets())
    assert (code, listed["kind"], listed["items"]) == (200, "GadgetList", [])
    found = discover(f"/apis/{GROUP}/v1", resources=served(world.history))
    assert found is not None
    (entry,) = found.tree["resources"]
    assert (entry["name"], entry["kind"], entry["shortNames"]) == ("gadgets", "Gadget", ["gd"])
    # Shows CRD-2.b
    assert world.send("GET", gadgets("v2")) == (404, "404 page not found\n")


def test_crd_2_another_scope_than_that_of_the_definition_has_no_path():
    world = CustomWorld(a_definition(scope="Cluster"))
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    assert world.send("POST", f"/apis/{GROUP}/v1/gadgets", body)[0] == 201
    for method in ("GET", "POST"):
        assert world.send(method, gadgets(), body)[0] == 404
    world = CustomWorld(a_definition())
    assert world.send("POST", f"/apis/{GROUP}/v1/gadgets", body)[0] == 404
    assert world.send("GET", f"/apis/{GROUP}/v1/gadgets")[0] == 200


def test_crd_2_a_version_that_is_not_served_has_no_path():
    hidden = {**a_version(name="v2", storage=False), "served": False}
    world = CustomWorld(a_definition(a_version(), hidden))
    assert world.send("GET", gadgets("v1"))[0] == 200
    assert world.send("GET", gadgets("v2"))[0] == 404


def test_crd_2_versions_are_ordered_by_stability_and_number():
    names = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]  # fmt: skip
    shuffled = [names[place * 3 % 10] for place in range(10)]
    assert sorted(shuffled, key=version_order) == names
    versions = [
        a_version(name=name, storage=name == "v1beta1") for name in ("v1alpha1", "v1beta1", "v1")
    ]
    world = CustomWorld(a_definition(*versions))
    found = discover(f"/apis/{GROUP}", resources=served(world.history))
    assert found is not None
    assert found.tree["preferredVersion"]["version"] == "v1"
    assert [one["version"] for one in found.tree["versions"]] == ["v1", "v1beta1", "v1alpha1"]


def test_crd_3_a_request_is_decided_on_the_definition_of_that_state():
    world = CustomWorld(a_definition(a_version(SIZED)))
    resource = served(world.history)[-1]
    obj = CustomObject(
        kind="Gadget",
        api_version=f"{GROUP}/v1",
        metadata=ObjectMeta(name="a"),
        content={"spec": {"color": "red"}},
    )
    request = Request("create", resource, "default", body=obj, user=ADMIN)

    def require(tree: Any) -> None:
        tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
            "required"
        ] = ["size"]

    world.redefine(NAME, require)
    assert world.do(request).response.code == 422
    assert world.send("DELETE", f"{DEFINITIONS}/{NAME}")[0] == 200
    world.settle()
    assert world.do(request).response.code == 404


def test_crd_20_a_definition_does_not_take_over_a_built_in_resource():
    definition = a_definition(
        plural="networkpolicies", kind="NetworkPolicy", group="networking.k8s.io"
    )
    definition["metadata"]["annotations"] = {"api-approved.kubernetes.io": "https://example.com"}
    definition["spec"]["versions"][0]["name"] = "v9"
    world = CustomWorld()
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "keep"},
        "spec": {"podSelector": {}},
    }
    path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
    assert world.send("POST", path, policy)[0] == 201
    world.define(definition)
    assert world.send("GET", path.replace("v1", "v9", 1))[0] == 404
    world.send("DELETE", f"{DEFINITIONS}/networkpolicies.networking.k8s.io")
    world.settle()
    assert world.get(CRDS, "networkpolicies.networking.k8s.io") is None
    assert world.get(NETWORK_POLICIES, "keep") is not None


def test_crd_21_openapi_has_the_schema_of_a_custom_resource():
    world = CustomWorld(a_definition(a_version(SIZED, subresources={"status": {}})))
    text = openapi(f"/openapi/v3/apis/{GROUP}/v1", "", served(world.history))
    assert text is not None
    document = json.loads(text)
    schema = document["components"]["schemas"]["com.example.v1.Gadget"]
    assert schema["properties"]["spec"] == SIZED["properties"]["spec"]  # type: ignore[index]
    for field in ("apiVersion", "kind", "metadata"):
        assert schema["properties"][field]["description"]  # DISC-18
    assert schema["x-kubernetes-group-version-kind"] == [
        {"group": GROUP, "kind": "Gadget", "version": "v1"}
    ]
    assert f"/apis/{GROUP}/v1/namespaces/{{namespace}}/gadgets/{{name}}/status" in document["paths"]
    references = set(_references(document))
    assert references <= set(document["components"]["schemas"])
    second = json.loads(openapi("/openapi/v2", "", served(world.history)) or b"")
    assert second["definitions"]["com.example.v1.Gadget"]["properties"]["spec"]["properties"]


def _references(tree: Any) -> list[str]:
    if isinstance(tree, dict):
        own = [tree["$ref"].rpartition("/")[2]] if isinstance(tree.get("$ref"), str) else []
        return own + [name for value in tree.values() for name in _references(value)]
    return [name for value in tree for name in _references(value)] if isinstance(tree, list) else []


# --- versions


def _two_versions() -> CustomWorld:
    def schema(*fields: str) -> Any:
        spec = {field: {"type": "string"} for field in fields}
        return {"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}

    return CustomWorld(
        a_definition(
            a_version(schema("both", "old"), "v1"),
            a_version(schema("both", "new"), "v2", storage=False),
        )
    )


def test_crd_4_what_the_storage_version_does_not_have_is_lost():
    world = _two_versions()
    assert world.put_gadget("a", "v2", spec={"both": "x", "new": "y"})[0] == 201
    record = world.history.get(f"/{GROUP}/gadgets/default/a")
    assert record is not None
    assert (record.value.api_version, record.value.content) == (
        f"{GROUP}/v1",
        {"spec": {"both": "x"}},
    )
    code, shown = world.send("GET", gadgets("v2") + "/a")
    assert (code, shown["apiVersion"], shown["spec"]) == (200, f"{GROUP}/v2", {"both": "x"})


def test_crd_4_crd_5_every_read_shows_the_requested_version():
    world = _two_versions()
    assert world.put_gadget("a", spec={"both": "x", "old": "y"})[0] == 201
    for path in (gadgets("v2"), gadgets("v2") + "?watch=1&resourceVersion=0"):
        _, answer = world.send("GET", path)
        (item,) = answer["items"] if "items" in answer else (answer["object"],)
        assert (item["apiVersion"], item["spec"]) == (f"{GROUP}/v2", {"both": "x"})
    code, answer = world.patch_gadget("a", {"spec": {"both": "z"}}, version="v2")
    assert (code, answer["apiVersion"]) == (200, f"{GROUP}/v2")
    assert world.send("GET", gadgets() + "/a")[1]["spec"] == {"both": "z"}


def test_crd_5_a_stored_object_is_shown_as_its_definition_now_describes_it():
    world = CustomWorld(a_definition(a_version(SIZED)))
    _, made = world.put_gadget(spec={"size": 1, "color": "red"})

    def change(tree: Any) -> None:
        spec = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["properties"]["color"]
        spec["properties"]["weight"] = {"type": "integer", "default": 7}

    world.redefine(NAME, change)
    _, shown = world.send("GET", gadgets() + "/a")
    assert shown["spec"] == {"size": 1, "weight": 7}
    assert shown["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert world.send("GET", gadgets())[1]["items"][0]["spec"] == shown["spec"]


# --- objects


def test_crd_12_the_status_subresource_separates_the_status():
    world = CustomWorld(a_definition(a_version(SIZED, subresources={"status": {}})))
    _, made = world.put_gadget(spec={"size": 1}, status={"seen": 5})
    assert "status" not in made and made["metadata"]["generation"] == 1
    _, changed = world.patch_gadget("a", {"spec": {"size": 9}, "status": {"seen": 1}}, "/status")
    assert (changed["spec"], changed["status"]) == ({"size": 1}, {"seen": 1})
    assert changed["metadata"]["generation"] == 1
    _, changed = world.patch_gadget("a", {"spec": {"size": 2}, "status": {"seen": 2}})
    assert (changed["spec"], changed["status"]) == ({"size": 2}, {"seen": 1})
    assert changed["metadata"]["generation"] == 2
    _, changed = world.patch_gadget("a", {"metadata": {"labels": {"x": "y"}}})
    assert changed["metadata"]["generation"] == 2
    code, answer = world.patch_gadget("a", {"status": {"seen": -1}}, "/status")
    assert code == 422 and causes(answer) == [("status.seen", "FieldValueInvalid")]


def test_crd_12_without_the_subresource_the_status_is_a_field_like_others():
    world = CustomWorld(a_definition(a_version(SIZED)))
    _, made = world.put_gadget(status={"seen": 5})
    assert made["status"] == {"seen": 5}
    _, changed = world.patch_gadget("a", {"status": {"seen": 6}})
    assert changed["metadata"]["generation"] == 2
    assert world.patch_gadget("a", {"status": {"seen": 7}}, "/status")[0] == 404


def test_crd_13_a_write_that_was_decided_before_its_definition_changed_conflicts():
    world = CustomWorld(a_definition(a_version(SIZED)))
    resource = served(world.history)[-1]
    obj = CustomObject(
        kind="Gadget", api_version=f"{GROUP}/v1", metadata=ObjectMeta(name="a"), content={}
    )
    request = Request("create", resource, "default", body=obj, user=ADMIN)
    decided = handle(Exchange(request, world.history, world.context()))
    assert isinstance(decided, Commit)
    assert world.send("DELETE", f"{DEFINITIONS}/{NAME}")[0] == 200
    _, result = commit(world.history, decided.txn, stamp)
    assert isinstance(result, Conflict)
    assert world.do(request).response.code == 403  # decided again, while it is Terminating
    # the same create without the deletion is committed
    other = CustomWorld(a_definition(a_version(SIZED)))
    decided = handle(Exchange(request, other.history, other.context()))
    assert isinstance(decided, Commit)
    assert isinstance(commit(other.history, decided.txn, stamp)[1], Committed)


def test_crd_14_a_custom_object_obeys_the_rules_of_every_object():
    world = CustomWorld(a_definition())
    _, made = world.put_gadget(metadata={"name": "a", "labels": {"x": "y"}, "colour": "red"})
    assert made["metadata"]["uid"] and "colour" not in made["metadata"]
    assert world.put_gadget()[0] == 409
    code, answer = world.put_gadget("Upper")
    assert code == 422 and causes(answer) == [("metadata.name", "FieldValueInvalid")]
    code, answer = world.send("POST", gadgets(), {**made, "kind": "Gizmo"})
    assert code == 422 and causes(answer) == [("kind", "FieldValueInvalid")]
    assert world.send("POST", gadgets(), {**made, "apiVersion": "other/v1"})[0] == 400
    without = {**made, "metadata": {"name": "a"}}
    code, answer = world.send("PUT", gadgets() + "/a", without)
    assert code == 422 and causes(answer) == [("metadata.resourceVersion", "FieldValueInvalid")]
    assert world.send("PUT", gadgets() + "/a", made)[0] == 200
    _, listed = world.send("GET", gadgets() + "?labelSelector=x%3Dy")
    assert [item["kind"] for item in listed["items"]] == ["Gadget"]
    kind = "application/strategic-merge-patch+json"
    assert world.send("PATCH", gadgets() + "/a", {}, kind)[0] == 415
    patch = [{"op": "add", "path": "/spec", "value": {"x": [1]}}]
    code, answer = world.send("PATCH", gadgets() + "/a", patch, "application/json-patch+json")
    assert (code, answer["spec"]) == (200, {"x": [1]})
    code, answer = world.send("DELETE", gadgets() + "/a")
    assert (code, answer["kind"], answer["status"]) == (200, "Status", "Success")


def test_crd_14_true_is_another_value_than_one():
    world = CustomWorld(a_definition())
    _, made = world.put_gadget(spec={"n": 1})
    _, same = world.patch_gadget("a", {"spec": {"n": 1}})
    assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    _, changed = world.patch_gadget("a", {"spec": {"n": True}})
    assert changed["spec"] == {"n": True}
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=5), _JSON, max_size=4))
def test_crd_14_the_stored_text_is_read_back(content):
    content = {key: value for key, value in content.items() if key not in ("kind", "apiVersion", "metadata")}  # fmt: skip
    obj = CustomObject(
        kind="Gadget",
        api_version=f"{GROUP}/v1",
        metadata=ObjectMeta(name="a", namespace="default"),
        content=content,
    )
    key = f"/{GROUP}/gadgets/default/a"
    assert decode_stored(key, encode_stored(obj)) == obj
    for other in (f"/{GROUP}/gadgets/default/b", f"/{GROUP}/gadgets/other/a", "/other.com/gadgets/default/a"):  # fmt: skip
        with pytest.raises(ValueError):
            decode_stored(other, encode_stored(obj))


def test_crd_15_a_definition_goes_after_its_objects():
    world = CustomWorld(a_definition())
    world.put_gadget("a")
    world.put_gadget("b", metadata={"name": "b", "finalizers": ["example.com/keep"]})
    code, answer = world.send("DELETE", f"{DEFINITIONS}/{NAME}")
    assert (code, answer["metadata"]["finalizers"]) == (200, [CLEANUP_FINALIZER])
    (terminating,) = [one for one in answer["status"]["conditions"] if one["type"] == "Terminating"]
    assert terminating["status"] == "True"
    assert world.put_gadget("c")[0] == 403
    world.settle()
    assert world.send("GET", gadgets() + "/a")[0] == 404
    assert world.get(CRDS, NAME) is not None
    found = discover(f"/apis/{GROUP}/v1", resources=served(world.history))
    assert found is not None and "create" not in found.tree["resources"][0]["verbs"]
    assert world.patch_gadget("b", {"metadata": {"finalizers": None}})[0] == 200
    world.settle()
    assert world.get(CRDS, NAME) is None
    assert world.send("GET", gadgets() + "/b") == (404, "404 page not found\n")
    # a new definition of that name has none of the old objects
    world.define(a_definition())
    assert world.send("GET", gadgets())[1]["items"] == []


def test_crd_15_objects_of_a_version_that_is_not_served_are_deleted_too():
    hidden = {**a_version(), "served": False}
    world = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
    world.put_gadget("a")
    world.redefine(NAME, lambda tree: tree["spec"].update(versions=[hidden]))
    world.send("DELETE", f"{DEFINITIONS}/{NAME}")
    world.settle()
    assert world.get(CRDS, NAME) is None
    assert world.history.get(f"/{GROUP}/gadgets/default/a") is None


TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def test_crd_16_a_table_has_the_columns_of_the_definition():
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Born", "type": "date", "jsonPath": ".spec.born"},
        {"name": "Dotted", "type": "string", "jsonPath": r".metadata.labels.a\.b/c"},
    ]  # fmt: skip
    world = CustomWorld(a_definition(a_version(additionalPrinterColumns=columns)))
    ready = [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]
    labels = {"name": "a", "labels": {"a.b/c": "x"}}
    world.put_gadget("a", metadata=labels, spec={"size": 3}, status={"conditions": ready})
    world.put_gadget("b", spec={"size": "3", "born": "never"})
    reply: Any = world.http("GET", gadgets(), headers=TABLE)
    table = json.loads(reply.content)
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", *[one["name"] for one in columns]]  # fmt: skip
    assert [row["cells"] for row in table["rows"]] == [
        ["a", 3, "True", None, "x"],
        ["b", None, None, "<invalid>", None],
    ]
    reply = world.http("GET", gadgets() + "/a?includeObject=Object", headers=TABLE)
    assert json.loads(reply.content)["rows"][0]["object"]["spec"] == {"size": 3}


SCALE = {
    "specReplicasPath": ".spec.count",
    "statusReplicasPath": ".status.count",
    "labelSelectorPath": ".status.selector",
}


def test_crd_17_scale_reads_and_writes_at_the_paths():
    world = CustomWorld(a_definition(a_version(subresources={"scale": SCALE})))
    world.put_gadget(spec={"count": 2, "other": 1}, status={"count": 1, "selector": "a=b"})
    code, scale = world.send("GET", gadgets() + "/a/scale")
    assert (code, scale["spec"], scale["status"]) == (
        200,
        {"replicas": 2},
        {"replicas": 1, "selector": "a=b"},
    )
    code, scale = world.patch_gadget("a", {"spec": {"replicas": 4}}, "/scale")
    assert (code, scale["spec"]) == (200, {"replicas": 4})
    _, obj = world.send("GET", gadgets() + "/a")
    assert obj["spec"] == {"count": 4, "other": 1} and obj["metadata"]["generation"] == 2
    assert world.patch_gadget("a", {"spec": {"replicas": -1}}, "/scale")[0] == 422
    world.put_gadget("b", spec={"count": "many"})
    assert world.send("GET", gadgets() + "/b/scale")[0] == 500


def test_crd_18_selectable_fields_select():
    fields = [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}]
    world = CustomWorld(a_definition(a_version(SIZED, selectableFields=fields)))
    world.put_gadget("a", spec={"color": "red", "size": 1})
    world.put_gadget("b", spec={"color": "blue"})

    def selected(text: str) -> list[str]:
        _, listed = world.send("GET", f"{gadgets()}?fieldSelector={text}")
        return [item["metadata"]["name"] for item in listed["items"]]

    assert selected("spec.color%3Dred") == ["a"]
    assert selected("spec.color!%3Dred") == ["b"]
    assert selected("spec.size%3D1") == ["a"]
    assert world.send("GET", f"{gadgets()}?fieldSelector=spec.weight%3D1")[0] == 400
    _, event = world.send(
        "GET", f"{gadgets()}?watch=1&resourceVersion=0&fieldSelector=spec.color%3Dblue"
    )
    assert event["object"]["metadata"]["name"] == "b"


def test_crd_19_names_that_are_taken_are_not_accepted_until_they_are_free():
    world = CustomWorld(a_definition(shortNames=["gd"]))
    second = world.define(a_definition(plural="gizmos", kind="Gizmo", shortNames=["gd"]))
    conditions = {one.type: (one.status, one.reason) for one in second.status.conditions}
    assert conditions == {
        "NamesAccepted": ("False", "ShortNamesConflict"),
        "Established": ("False", "NotAccepted"),
    }
    assert second.status.accepted_names.plural == "gizmos"
    assert world.send("GET", f"/apis/{GROUP}/v1/gizmos")[0] == 404
    world.define(a_definition(plural="gd", kind="Third"))
    assert world.send("GET", f"/apis/{GROUP}/v1/gd")[0] == 404
    world.define(a_definition(plural="fourths", kind="GadgetList"))
    assert world.send("GET", f"/apis/{GROUP}/v1/fourths")[0] == 404
    # another group has names of its own
    world.define(a_definition(shortNames=["gd"], group="other.com"))
    assert world.send("GET", "/apis/other.com/v1/gadgets")[0] == 200
    world.send("DELETE", f"{DEFINITIONS}/{NAME}")
    world.settle()
    accepted = [
        path for path in ("gizmos", "gd") if world.send("GET", f"/apis/{GROUP}/v1/{path}")[0] == 200
    ]
    assert len(accepted) == 1  # one of the two that waited for the name


def test_crd_19_two_definitions_of_one_moment_do_not_both_get_a_name():
    world = CustomWorld()
    one, other = a_definition(shortNames=["x"]), a_definition(plural="gizmos", kind="Gizmo", shortNames=["x"])  # fmt: skip
    assert world.send("POST", DEFINITIONS, one)[0] == 201
    assert world.send("POST", DEFINITIONS, other)[0] == 201
    world.settle()
    accepted = [
        any(c.type == "NamesAccepted" and c.status == "True" for c in crd.status.conditions or ())
        for crd in (world.get(CRDS, NAME), world.get(CRDS, f"gizmos.{GROUP}"))
    ]
    assert sorted(accepted) == [False, True]


def test_def_23_the_other_names_follow_from_the_kind():
    from refk8s.core.apiserver.defaults import default

    made = default(CRDS, as_record(a_definition()))
    assert (made.spec.names.singular, made.spec.names.list_kind) == ("gadget", "GadgetList")
    assert made.spec.conversion.strategy == "None"
    assert default(CRDS, made) is made
    given = default(CRDS, as_record(a_definition(singular="g", listKind="Gadgets")))
    assert (given.spec.names.singular, given.spec.names.list_kind) == ("g", "Gadgets")
