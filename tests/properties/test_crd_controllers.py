"""Garbage collection and the deletion of namespaces cover custom resources (LOOP-15, GC-, NS-)."""

from __future__ import annotations

from typing import Any

import pytest
from custom_world import DEFINITIONS, GROUP, CustomWorld, a_definition, a_version, gadgets

from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES
from refk8s.core.apiserver import watch as watching
from refk8s.core.apiserver.custom.definitions import served
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.client.response import Unreadable, to_response
from refk8s.core.client.watch_lines import WatchLines
from refk8s.core.components import controller_manager
from refk8s.core.context import SECOND
from refk8s.core.machine import Answered, Call, Problem, Unwatch, Watch, Watched, WatchEnded, Woken

NAME = f"gadgets.{GROUP}"
SCALE = {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"}


class Managed(CustomWorld):
    """A world whose controller manager runs: its calls are answered at once, and its watches get
    every change. A subclass may have another component."""

    component: Any = staticmethod(controller_manager)

    def __init__(self, *definitions: dict[str, Any]) -> None:
        super().__init__(*definitions)
        self.manager = self.component()
        self.watches: dict[int, tuple[Stream, int]] = {}
        self.state, effects = self.manager.start(self.now, b"")
        self._carry_out(effects)

    def _carry_out(self, effects: Any) -> None:
        events: list[Any] = []
        for effect in effects:
            match effect:
                case Problem():
                    raise effect.error
                case Call(id, request):
                    response = self.do(request).response
                    assert isinstance(response, Response)
                    events.append(Answered(id, response))
                case Watch(id, request):
                    stream = self.do(request).response
                    if isinstance(stream, Stream):
                        self.watches[id] = (stream, stream.revision)
                    else:
                        events.append(WatchEnded(id, stream.code))
                case Unwatch(id):
                    del self.watches[id]
        if events:
            self._step(events)

    def _step(self, events: list[Any]) -> None:
        self.state, effects = self.manager.step(self.state, events, self.now)
        self._carry_out(effects)

    def run(self, rounds: int = 12) -> None:
        """Deliver changes and let time pass, several times."""
        for _ in range(rounds):
            self.settle()
            self.now += 10 * SECOND
            for id, (stream, revision) in list(self.watches.items()):
                changes = self.history.changes(stream.prefix, revision)
                found = watching.events(stream, changes)
                if id in self.watches:
                    self.watches[id] = (stream, self.history.revision)
                    bookmark = watching.WatchEvent("BOOKMARK", None, self.history.revision)
                    self._step([Watched(id, (*found, bookmark))])
            self._step([Woken()])


def _owned(name: str, owner: Any, **more: Any) -> dict[str, Any]:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **more,
    }
    return {"name": name, "ownerReferences": [reference]}


CONFIGS = "/api/v1/namespaces/default/configmaps"


def test_loop_15_an_object_of_a_built_in_kind_goes_with_its_custom_owner():
    world = Managed(a_definition())
    _, owner = world.put_gadget()
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _owned("c", owner)}
    assert world.send("POST", CONFIGS, body)[0] == 201
    world.run()
    assert world.get(CONFIG_MAPS, "c") is not None
    assert world.send("DELETE", gadgets() + "/a")[0] == 200
    world.run()
    assert world.get(CONFIG_MAPS, "c") is None


def test_loop_15_a_custom_object_goes_with_its_owner_in_any_version():
    world = Managed(a_definition(a_version(), a_version(name="v1beta1", storage=False)))
    _, owner = world.put_gadget("a", "v1beta1")
    assert world.put_gadget("b", metadata=_owned("b", owner))[0] == 201
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    _, config = world.send("POST", CONFIGS, body)
    assert world.put_gadget("d", metadata=_owned("d", config))[0] == 201
    world.run()
    assert world.send("GET", gadgets() + "/b")[0] == world.send("GET", gadgets() + "/d")[0] == 200
    world.send("DELETE", gadgets() + "/a")
    world.send("DELETE", CONFIGS + "/c")
    world.run()
    assert world.send("GET", gadgets() + "/b")[0] == world.send("GET", gadgets() + "/d")[0] == 404


def test_loop_15_a_foreground_deletion_waits_for_custom_dependents():
    world = Managed(a_definition())
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    _, config = world.send("POST", CONFIGS, body)
    metadata = {**_owned("a", config, blockOwnerDeletion=True), "finalizers": ["example.com/keep"]}
    assert world.put_gadget(metadata=metadata)[0] == 201
    world.run()
    world.send("DELETE", CONFIGS + "/c", {"propagationPolicy": "Foreground"})
    world.run()
    assert world.get(CONFIG_MAPS, "c") is not None
    assert world.send("GET", gadgets() + "/a")[1]["metadata"]["deletionTimestamp"]
    world.patch_gadget("a", {"metadata": {"finalizers": None}})
    world.run()
    assert world.get(CONFIG_MAPS, "c") is None


@pytest.mark.parametrize("is_held", [False, True])
def test_loop_15_a_namespace_goes_after_its_custom_objects(is_held):
    world = Managed(a_definition())
    metadata = {"name": "a", "finalizers": ["example.com/keep"]} if is_held else {"name": "a"}
    path = gadgets(namespace="other")
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", "metadata": metadata}
    assert world.send("POST", path, body)[0] == 201
    world.run(2)
    assert world.send("DELETE", "/api/v1/namespaces/other")[0] == 200
    world.run()
    if is_held:
        assert world.get(NAMESPACES, "other", "") is not None
        kind = "application/merge-patch+json"
        world.send("PATCH", path + "/a", {"metadata": {"finalizers": None}}, kind)
        world.run()
    assert world.get(NAMESPACES, "other", "") is None
    assert world.history.get(f"/{GROUP}/gadgets/other/a") is None


def test_loop_15_watches_follow_the_definitions():
    world = Managed()
    prefix = f"/{GROUP}/gadgets/"
    assert prefix not in world.state.informers
    world.define(a_definition())
    world.run(2)
    assert world.state.informers[prefix].phase == "watching"
    world.put_gadget()
    world.run(1)
    assert world.state.view.tables[prefix].objects.get("default/a") is not None
    world.send("DELETE", f"{DEFINITIONS}/{NAME}")
    world.run()
    assert prefix not in world.state.informers and prefix not in world.state.view.tables
    assert not [one for one in world.watches.values() if one[0].prefix == prefix]
    world.define(a_definition())
    world.run(2)
    assert world.state.informers[prefix].phase == "watching"


def test_client_2_custom_objects_are_read_from_answers_and_watches():
    world = CustomWorld(a_definition(a_version(subresources={"scale": SCALE})))
    world.put_gadget(spec={"count": 2}, extra=[1, {"x": None}])
    resource = served(world.history)[-1]
    stored = world.history.get(f"/{GROUP}/gadgets/default/a")
    assert stored is not None

    def read(verb: str, path: str, **more: Any) -> Any:
        reply: Any = world.http("GET", path)
        request = Request(verb, resource, "default", **more)
        answer = to_response(request, reply.code, reply.content)
        assert answer is not None
        return answer.body

    assert read("get", gadgets() + "/a", name="a") == stored.value
    listed = read("list", gadgets())
    assert listed.items == (stored.value,) and int(listed.metadata.resource_version)
    assert read("get", gadgets() + "/a/scale", name="a", subresource="scale").spec.replicas == 2
    assert read("get", gadgets() + "/b", name="b").reason == "NotFound"
    lines: Any = world.http("GET", gadgets() + "?watch=1&resourceVersion=0")
    (event,), over = WatchLines(resource).feed(lines.content)
    assert (event.type, event.object, over) == ("ADDED", stored.value, None)
    for text in (b"[]", b"{}", b'{"kind":1}', b"x"):
        with pytest.raises(Unreadable):
            to_response(Request("get", resource, "default", "a"), 200, text)
        assert (
            WatchLines(resource).feed(b'{"type":"ADDED","object":' + text + b"}\n")[1] is not None
        )
