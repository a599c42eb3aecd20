"""Run files: the setup and the actions of a run, one line of JSON each.

Rule SIM-1 (spec/simulation.md).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refk8s.checking.simulator.scenario import CPU_MILLI
from refk8s.checking.simulator.script import Entry, Fairly
from refk8s.checking.simulator.simulate import Setup
from refk8s.core import actions as alphabet
from refk8s.core.actions import Submit
from refk8s.core.api import codec
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import Resource, by_kind, type_of_kind
from refk8s.core.api.user import User

FORMAT = "refk8s-run-1"


class BadFile(Exception):
    """The file is not a valid run; the message is the reason, in one line."""


def write(path: Path, setup: Setup, script: Sequence[Entry], words: str = "") -> None:
    """Write a run. `words` describes the failure, for the reader of the file."""
    head = {
        "format": FORMAT,
        "seed": setup.seed,
        "nodes": setup.nodes,
        "cpu": setup.cpu_milli,
        "instances": setup.instances,
        "apiservers": setup.apiservers,
        **({"lists_servers": True} if setup.lists_servers else {}),
        **({"dual_stack": True} if setup.is_dual_stack else {}),
        **({"gangs": True} if setup.has_gangs else {}),
        **({"other_server": seconds} if (seconds := setup.other_server_seconds) else {}),
        "because": words,
    }
    path.write_text(
        "\n".join([json.dumps(head), *[json.dumps(to_tree(action)) for action in script]]) + "\n"
    )


def read(path: Path) -> tuple[Setup, list[Entry]]:
    """Read a run. Raises BadFile with the line number and the reason."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read: {error}") from None
    number = 1
    try:
        head = json.loads(lines[0])
        if head.get("format") != FORMAT:
            raise ValueError(f"the first line must have the format {FORMAT}")
        cpu = int(head.get("cpu", CPU_MILLI))
        setup = Setup(
            seed=int(head["seed"]),
            steps=len(lines) - 1,
            nodes=int(head["nodes"]),
            cpu_milli=cpu,
            instances=int(head.get("instances", 1)),
            apiservers=int(head.get("apiservers", 1)),
            other_server_seconds=int(head.get("other_server", 0)),
            has_gangs=bool(head.get("gangs", False)),
            lists_servers=bool(head.get("lists_servers", False)),
            is_dual_stack=bool(head.get("dual_stack", False)),
            faults={},
            user=False,
        )
        found = []
        for line in lines[1:]:
            number += 1
            found.append(from_tree(json.loads(line)))
    except Exception as error:
        raise BadFile(f"{path}, line {number}: {error}") from None
    return setup, found


def to_tree(action: Entry) -> list[Any]:
    """An action as a list: its name, then its fields."""
    if isinstance(action, Submit):
        return ["Submit", _request(action.request), action.server]
    return [type(action).__name__, *[getattr(action, name) for name in action.__struct_fields__]]


def from_tree(tree: list[Any]) -> Entry:
    """The action of a tree made by `to_tree`.

    Raises KeyError, TypeError or ValueError if the tree is not an action.
    """
    name, *rest = tree
    if name == "Submit":
        return Submit(_submitted(rest[0]), *map(int, rest[1:2]))
    if name == "Fairly":
        return Fairly(int(rest[0]))
    kind = getattr(alphabet, name)
    if not all(isinstance(each, (str, int, list)) for each in rest):
        raise ValueError(f"the fields of {name} are strings, numbers and channels")
    fields = [
        (str(each[0]), int(each[1]), int(each[2])) if isinstance(each, list) else each
        for each in rest
    ]
    return kind(*fields)  # type: ignore[no-any-return]


def _request(request: Request) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "verb": request.verb, "apiVersion": request.resource.api_version, "kind": request.resource.kind, "namespace": request.namespace,
        "name": request.name, "subresource": request.subresource, "user": request.user.name, "groups": list(request.user.groups),
    }  # fmt: skip
    if isinstance(request.body, Patch):
        tree["patch"] = [request.body.media_type, request.body.document]
    elif request.body is not None:
        tree["body"] = codec.to_tree(request.body)
    return tree


def _submitted(tree: dict[str, Any]) -> Request:
    resource = by_kind(tree["apiVersion"], tree["kind"])
    if resource is None:
        raise ValueError(f"{tree['apiVersion']} {tree['kind']} is not a known kind")
    body: Any = None
    if "patch" in tree:
        body = Patch(*tree["patch"])
    elif "body" in tree:
        body = codec.from_tree(_body_type(tree, resource), tree["body"])
    return Request(
        tree["verb"],
        resource,
        tree["namespace"],
        tree["name"],
        tree["subresource"],
        body=body,
        user=User(tree["user"], groups=tuple(tree["groups"])),
    )


def _body_type(tree: dict[str, Any], resource: Resource) -> Any:
    """The record class of the body: of its own kind, such as Eviction, if it has one."""
    if tree["verb"] in ("delete", "deletecollection"):
        return DeleteOptions
    body = tree["body"]
    kind = type_of_kind(str(body.get("apiVersion")), str(body.get("kind")))
    return kind or resource.type
