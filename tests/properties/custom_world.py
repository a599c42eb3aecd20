"""A `World` with custom resources, for tests: definitions take effect by their controller, which is
run on a view of the whole store until it has nothing to do."""

from __future__ import annotations

import json
from typing import Any

from api_world import World

from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS as CRDS
from refk8s.core.api.user import ADMIN
from refk8s.core.context import SECOND
from refk8s.core.controllers.custom_resource_definition import DefinitionController
from refk8s.core.loop.plan import UNCHANGED, Local
from refk8s.core.loop.view import Viewer, key_of

GROUP = "example.com"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROUNDS_MAX = 20


def a_version(
    schema: Any = None, name: str = "v1", *, storage: bool = True, **more: Any
) -> dict[str, Any]:
    """A version of a definition; without a schema it preserves every field."""
    schema = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "name": name,
        "served": True,
        "storage": storage,
        "schema": {"openAPIV3Schema": schema},
        **more,
    }


def a_definition(
    *versions: dict[str, Any],
    plural: str = "gadgets",
    kind: str = "Gadget",
    scope: str = "Namespaced",
    group: str = GROUP,
    **names: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "kind": kind, **names},
            "versions": list(versions) or [a_version()],
        },
    }


class CustomWorld(World):
    """`World` with the controller of definitions."""

    def __init__(self, *definitions: dict[str, Any]) -> None:
        super().__init__()
        self.controller = DefinitionController()
        self.memory = self.controller.start_memory(self.now)
        for definition in definitions:
            self.define(definition)

    def define(self, definition: dict[str, Any]) -> Any:
        """Create the definition, and let it take effect."""
        code, tree = self.send("POST", DEFINITIONS, definition)
        assert code == 201, tree
        self.settle()
        return self.get(CRDS, definition["metadata"]["name"])

    def redefine(self, name: str, change: Any) -> Any:
        """Change the definition by a function of its tree, and let it take effect."""
        _, tree = self.send("GET", f"{DEFINITIONS}/{name}")
        change(tree)
        code, answer = self.send("PUT", f"{DEFINITIONS}/{name}", tree)
        assert code == 200, answer
        self.settle()
        return answer

    def send(
        self, method: str, path: str, body: Any = b"", media_type: str = "application/json"
    ) -> tuple[int, Any]:
        """One request: its code, and the answer's tree (or text)."""
        reply: Any = self.http(method, path, body, {"content-type": media_type})
        try:
            return reply.code, json.loads(reply.content)
        except ValueError:
            return reply.code, reply.content.decode()

    def put_gadget(self, name: str = "a", version: str = "v1", **content: Any) -> tuple[int, Any]:
        """Create an object of the definition that `a_definition` makes."""
        body = {
            "apiVersion": f"{GROUP}/{version}",
            "kind": "Gadget",
            "metadata": {"name": name},
            **content,
        }
        return self.send("POST", gadgets(version), body)

    def patch_gadget(
        self, name: str, patch: Any, part: str = "", version: str = "v1"
    ) -> tuple[int, Any]:
        path = f"{gadgets(version)}/{name}{part}"
        return self.send("PATCH", path, patch, "application/merge-patch+json")

    def settle(self) -> int:
        """Run the controller on every definition until it requests nothing more; the number of
        requests."""
        count = 0
        for _ in range(ROUNDS_MAX):
            before = count
            for record in self.history.list(CRDS.prefix).records:
                count += self._reconcile(key_of(record.value))
            self.now += 3 * SECOND
            if count == before:
                return count
        raise AssertionError("the controller does not come to an end")

    def _reconcile(self, key: str) -> int:
        controller = self.controller
        viewer = Viewer([CRDS], controller.indexes, ())
        records = self.history.list(CRDS.prefix).records
        listed = [(key_of(one.value), one.value) for one in records]
        view, _ = viewer.apply(viewer.empty(), CRDS, listed, self.history.revision)
        plan = controller.reconcile(view, key, self.now, Local(self.memory))
        if plan.memory is not UNCHANGED:
            self.memory = plan.memory
        for question in plan.queries:
            answer = self.do(_by(question)).response
            self.memory, _ = controller.answered(self.memory, key, question, answer, self.now)
        for wave in (*plan.waves, plan.last):
            for request in wave:
                response = self.do(_by(request)).response
                assert response.code < 300, response.body
        if plan.queries:
            return self._reconcile(key)
        return len(plan.requests)


def _by(request: Request) -> Request:
    from refk8s.core.value import evolve

    return evolve(request, user=ADMIN)


def gadgets(version: str = "v1", namespace: str = "default") -> str:
    return f"/apis/{GROUP}/{version}/namespaces/{namespace}/gadgets"


def causes(answer: Any) -> list[tuple[str, str]]:
    """(field, reason) of each cause of a refusal."""
    found = answer["details"].get("causes") or []
    return [(cause.get("field", ""), cause["reason"]) for cause in found]


def as_record(definition: dict[str, Any]) -> Any:
    from refk8s.core.api.apiextensions_v1 import CustomResourceDefinition

    return from_tree(CustomResourceDefinition, definition)
