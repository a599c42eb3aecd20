"""Conversion of custom objects by a webhook: CRD-26 to CRD-28 (spec/custom_resources.md). The
server is a function; a watch is tested with a real one (tests/integration/test_webhooks.py)."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from custom_world import DEFINITIONS, CustomWorld, a_definition, a_version, causes, gadgets
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.custom import resource_to_list
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS as CRDS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import watch
from refk8s.core.apiserver.calls import Answered, Needed, Unanswered, answered, begin
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.http import WireRequest, receive

SCHEMA_1 = {"type": "object", "properties": {"host": {"type": "string"}}}
SCHEMA_2 = {
    "type": "object",
    "properties": {"who": {"type": "string"}, "port": {"type": "string", "default": "80"}},
}


def by_webhook(storage="v1"):
    definition = a_definition(
        a_version(SCHEMA_1, "v1", storage=storage == "v1", subresources={"status": {}}),
        a_version(SCHEMA_2, "v2", storage=storage == "v2"),
    )
    definition["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://convert.example/"},
        },
    }
    return definition


def to_version(tree, version):
    made = {**tree, "apiVersion": version}
    if version.endswith("v2"):
        if "host" in made:
            made["who"], _, made["port"] = made.pop("host").partition(":")
    elif "who" in made:
        made["host"] = f"{made.pop('who')}:{made.pop('port', '')}"
    return made


class ConversionWorld(CustomWorld):
    """`fault` changes the answer of the server."""

    def __init__(self, storage="v1"):
        self.reviews = []
        self.fault = lambda tree: tree
        super().__init__(by_webhook(storage))

    def answer(self, call):
        request = json.loads(call.body)["request"]
        self.reviews.append(request)
        found = [to_version(one, request["desiredAPIVersion"]) for one in request["objects"]]
        tree = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "response": {
                "uid": request["uid"],
                "convertedObjects": found,
                "result": {"status": "Success"},
            },
        }
        made = self.fault(tree)
        return made if not isinstance(made, dict) else Answered(200, json.dumps(made).encode())


def test_crd_26_objects_are_stored_in_one_version_and_shown_in_another():
    world = ConversionWorld()
    code, made = world.put_gadget("a", "v2", who="x", port="1")
    assert code == 201, made
    assert (made["apiVersion"], made["who"], made["port"]) == ("example.com/v2", "x", "1")
    stored = world.history.get("/example.com/gadgets/default/a").value
    assert (stored.api_version, stored.content) == ("example.com/v1", {"host": "x:1"})
    assert made["metadata"]["resourceVersion"] == stored.metadata.resource_version
    world.reviews.clear()
    code, shown = world.send("GET", f"{gadgets('v1')}/a")
    assert (code, shown["host"], world.reviews) == (200, "x:1", [])
    code, shown = world.send("GET", f"{gadgets('v2')}/a")
    assert (code, shown["who"], len(world.reviews)) == (200, "x", 1)
    code, made = world.patch_gadget("a", {"port": "2"}, version="v2")
    assert (code, made["port"]) == (200, "2")
    assert world.history.get("/example.com/gadgets/default/a").value.content == {"host": "x:2"}
    code, made = world.patch_gadget("a", {"status": {}}, "/status", version="v1")
    assert code == 200


def test_crd_26_a_list_is_converted_by_one_call():
    world = ConversionWorld()
    for number in range(5):
        assert world.put_gadget(f"a{number}", "v1", host=f"h:{number}")[0] == 201

    def move(tree):
        tree["spec"]["versions"][0]["storage"] = False
        tree["spec"]["versions"][1]["storage"] = True

    world.redefine("gadgets.example.com", move)
    assert world.put_gadget("b", "v2", who="n", port="9")[0] == 201
    world.reviews.clear()
    code, found = world.send("GET", gadgets("v2"))
    assert code == 200
    assert [one["port"] for one in found["items"]] == ["0", "1", "2", "3", "4", "9"]
    assert [len(one["objects"]) for one in world.reviews] == [5]
    world.reviews.clear()
    code, found = world.send("GET", gadgets("v1"))
    assert [one["host"] for one in found["items"]][-1] == "n:9"
    assert [len(one["objects"]) for one in world.reviews] == [1]


def test_crd_26_components_read_the_stored_version():
    world = ConversionWorld("v1")
    crd = world.get(CRDS, "gadgets.example.com")
    assert resource_to_list(crd).version == "v1", "although v2 is preferred"


def test_crd_27_changes_are_converted_before_there_are_events():
    world = ConversionWorld()
    world.put_gadget("a", "v1", host="h:1")
    wire = WireRequest("GET", gadgets("v2"), "watch=true&resourceVersion=1")
    received = receive(wire, ADMIN, config=world.config, store=world.history)
    stream = handle(Exchange(received.request, world.history, world.context(), world.config))
    assert watch.is_converted(stream)
    changes = world.history.changes(stream.prefix, stream.revision)
    calls = begin(world.context())
    with pytest.raises(Needed) as needed:
        watch.converted(stream, changes, calls, world.history)
    results = [world.answer(call) for call in needed.value.calls]
    calls = answered(calls, needed.value.calls, results, world.now)
    found = watch.converted(stream, changes, calls, world.history)
    events = watch.events(stream, found)
    assert [(one.type, one.object.content) for one in events] == [("ADDED", {"who": "h", "port": "1"})]  # fmt: skip


def broken(change):
    def fault(tree):
        change(tree)
        return tree

    return fault


def in_object(**changes):
    def change(tree):
        tree["response"]["convertedObjects"][0] |= changes

    return broken(change)


def in_metadata(**changes):
    def change(tree):
        tree["response"]["convertedObjects"][0]["metadata"] |= changes

    return broken(change)


FAULTS = {
    "dead": (lambda _: Unanswered('Post "u": EOF'), 'failed: Post "u": EOF'),
    "code": (lambda _: Answered(500, b"oops"), "an error on the server"),
    "no json": (lambda _: Answered(200, b"x"), "json parse error"),
    "uid": (broken(lambda tree: tree["response"].update(uid="x")), "expected response.uid"),
    "kind of review": (broken(lambda tree: tree.update(kind="X")), "expected webhook response of"),
    "failure": (
        broken(lambda tree: tree["response"].update(result={"status": "Failure", "message": "no way"})),
        "conversion webhook for example.com/v1, Kind=Gadget failed: no way",
    ),
    "fewer": (broken(lambda tree: tree["response"].update(convertedObjects=[])), "returned 0 objects, expected 1"),
    "no object": (broken(lambda tree: tree["response"].update(convertedObjects=[7])), "invalid converted object at index 0"),
    "version": (in_object(apiVersion="example.com/v3"), "invalid groupVersion"),
    "kind": (in_object(kind="Other"), "invalid kind"),
    "name": (in_metadata(name="b"), "must have the same name"),
    "namespace": (in_metadata(namespace="other"), "must have the same namespace"),
    "uid of object": (in_metadata(uid="u"), "must have the same UID"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_crd_28_a_wrong_conversion_fails_the_request_and_writes_nothing(name):
    fault, words = FAULTS[name]
    world = ConversionWorld()
    world.put_gadget("a", "v1", host="h:1")
    before = world.history.revision
    world.fault = fault
    for code, answer in (
        world.send("GET", f"{gadgets('v2')}/a"),
        world.patch_gadget("a", {"port": "2"}, version="v2"),
    ):
        assert code == 500, answer
        assert words in answer["message"]
    code, _ = world.put_gadget("c", "v2", who="x")
    assert code == 500
    assert world.history.revision == before
    assert world.send("GET", f"{gadgets('v1')}/a")[0] == 200


def test_crd_28_labels_and_annotations_are_the_webhooks_and_the_rest_stays():
    world = ConversionWorld()
    world.put_gadget("a", "v1", host="h:1")
    world.fault = in_metadata(
        labels={"a": "b"}, annotations={"c": "d"}, finalizers=["x.io/y"], resourceVersion="7",
        creationTimestamp="2001-01-01T00:00:00Z", generation=77,
    )  # fmt: skip
    _, plain = world.send("GET", f"{gadgets('v1')}/a")
    _, shown = world.send("GET", f"{gadgets('v2')}/a")
    metadata = {**plain["metadata"], "labels": {"a": "b"}, "annotations": {"c": "d"}}
    assert shown["metadata"] == metadata


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


_PEM = "-----BEGIN CERTIFICATE-----\nMAIFAA==\n-----END CERTIFICATE-----\n"
USABLE = (None, "", _encoded(_PEM), _encoded(f"words\n{_PEM}"))
UNUSABLE = (
    _encoded("\n"), _encoded("no certificate"), _encoded(_PEM.replace("MAIFAA==", "!")),
    _encoded(_PEM.replace("MAIFAA==", "MAIF")), _encoded(_PEM.replace("CERTIFICATE", "PUBLIC KEY")),
)  # fmt: skip


@given(st.lists(st.sampled_from((*USABLE, *UNUSABLE)), min_size=1, max_size=5))
def test_crd_29_a_definition_is_established_with_authorities_that_can_be_used(
    bundles: list[str | None],
) -> None:
    # Shows CRD-29.a, CRD-29.b, CRD-29.c.
    world = CustomWorld()
    stored: str | None = None
    established = False
    for number, bundle in enumerate(bundles):
        client: dict[str, Any] = {"url": "https://convert.example/"}
        if bundle is not None:
            client["caBundle"] = bundle
        webhook = {"conversionReviewVersions": ["v1"], "clientConfig": client}
        definition = a_definition(a_version())
        definition["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
        if number == 0:
            code, answer = world.send("POST", DEFINITIONS, definition)
        else:
            _, now = world.send("GET", f"{DEFINITIONS}/gadgets.example.com")
            code, answer = world.send(
                "PUT", f"{DEFINITIONS}/gadgets.example.com", {**now, "spec": definition["spec"]}
            )
        if established and stored in USABLE and bundle in UNUSABLE:
            field = "spec.conversion.webhookClientConfig.caBundle"
            assert code == 422 and causes(answer) == [(field, "FieldValueInvalid")]
            continue
        assert code in (200, 201), answer
        stored = bundle
        world.settle()
        established = established or stored in USABLE
        _, now = world.send("GET", f"{DEFINITIONS}/gadgets.example.com")
        said = {one["type"]: (one["status"], one["reason"]) for one in now["status"]["conditions"]}
        assert said["NamesAccepted"] == ("True", "NoConflicts")
        assert said["Established"] == (
            ("True", "InitialNamesAccepted") if established else ("False", "InvalidCABundle")
        )
        assert world.send("GET", gadgets())[0] == (200 if established else 404)
