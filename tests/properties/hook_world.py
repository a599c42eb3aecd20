"""A `CustomWorld` with webhooks: servers as functions of the review, for tests."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

from custom_world import CustomWorld
from test_hook import KINDS, MUTATING, VALIDATING, a_configuration, a_webhook

from refk8s.core.api.resources import SERVED
from refk8s.core.apiserver.calls import Answered, Call, Result, Unanswered
from refk8s.core.context import SECOND

Server = Callable[[dict[str, Any]], Any]
"""(the request of a review) -> the response without its uid, or a Result."""


class HookWorld(CustomWorld):
    """Webhooks are asked at `https://NAME.example/`; `asked` has every review."""

    def __init__(self, *definitions: dict[str, Any]) -> None:
        super().__init__(*definitions)
        self.servers: dict[str, Server] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[Call] = []

    def hook(
        self, kind: str, name: str, server: Server, configuration: str = "", **fields: Any
    ) -> None:
        """Configure a webhook for all writes of the namespace default, and start its server."""
        webhook = a_webhook(
            name=f"{name}.example.com", clientConfig={"url": f"https://{name}.example/"}, **fields
        )
        self.servers[name] = server
        body = a_configuration(kind, webhook, name=configuration or name)
        code, tree = self.send("POST", kind, body)
        assert code == 201, tree

    def answer(self, call: Call) -> Result:
        name = call.url.removeprefix("https://").partition(".")[0]
        review = json.loads(call.body)
        self.calls.append(call)
        self.asked.append((name, review["request"]))
        found = self.servers[name](review["request"])
        if isinstance(found, Answered | Unanswered):
            return found
        return answer_of(review, found)

    def names(self) -> list[str]:
        """The webhooks that were asked since the last call, in their order."""
        found = [name for name, _ in self.asked]
        self.asked.clear()
        return found

    def create(self, name: str = "a", plural: str = "configmaps", **fields: Any) -> tuple[int, Any]:
        """Create an object of the core group in the namespace default."""
        (kind,) = [one.kind for one in SERVED if (one.plural, one.group) == (plural, "")]
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}
        return self.send("POST", f"/api/v1/namespaces/default/{plural}", body)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def answer_of(review: dict[str, Any], response: dict[str, Any]) -> Answered:
    """The answer of a server that keeps to the protocol."""
    tree = {
        "apiVersion": review["apiVersion"],
        "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], **response},
    }
    return Answered(200, json.dumps(tree).encode())


def allow(request: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def deny(code: int = 403, **status: Any) -> Server:
    return lambda request: {"allowed": False, "status": {"code": code, **status}}


def patch(*operations: dict[str, Any]) -> Server:
    """A server that answers with this patch."""
    return lambda request: patched(*operations)


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    document = b64encode(json.dumps(list(operations)).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": document}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


__all__ = [
    "KINDS",
    "MUTATING",
    "VALIDATING",
    "HookWorld",
    "add",
    "allow",
    "deny",
    "patch",
    "patched",
]
