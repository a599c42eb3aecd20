"""The state of a cluster at rest, without names, uids, times, revisions and addresses.

Rules SIM-5 ... SIM-7. Two runs with the same user requests are equivalent if their end states are
equal. Left out: leases, Events, and the order of lists.
"""

import json
import re
from collections import Counter
from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.resources import EVENTS, EVENTS_V1, LEASES
from refk8s.core.cluster.state import Cluster
from refk8s.core.controllers.node_ipam import FENCE

UNTOLD = (LEASES.prefix, EVENTS.prefix, EVENTS_V1.prefix)
CHANCE = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "observedGeneration",
    "containerID",
    "imageID",
    FENCE,
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
TOKEN = re.compile(r"\bkube-api-access-\w{5}\b")
"""The volume of a pod's token; the API server adds five random letters to its name."""
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")


def end_state(cluster: Cluster) -> "Counter[str]":
    """Every stored object, running container and forwarded port: its line, and how often."""
    trees: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for record in cluster.history.list("/").records:
        if record.key.startswith(UNTOLD):
            continue
        metadata = record.value.metadata
        if metadata.generate_name and metadata.name != metadata.generate_name:
            names[metadata.name] = f"{metadata.generate_name}*"
        trees.append(codec.to_tree(record.value))
    lines = [_line(tree, names) for tree in trees]
    pods = {
        record.value.metadata.uid: record.value.metadata
        for record in cluster.history.list("/core/pods/").records
    }
    for name in sorted(cluster.worlds):
        for status in cluster.worlds[name].running():
            owner = pods.get(status.pod_uid)
            whose = names.get(owner.name, owner.name) if owner is not None else "(deleted)"
            lines.append(
                f"{name} runs container {status.name} of pod {whose}, attempt {status.attempt}"
            )
    for name in sorted(cluster.rules):
        for service, rules in sorted(cluster.rules[name].services.items()):
            lines += [
                f"{name} sends {rule.protocol} {rule.port} of {service} to "
                f"{len(rule.targets)} targets"
                for rule in rules
            ]
    return Counter(lines)


def difference(wanted: "Counter[str]", found: "Counter[str]") -> list[str]:
    """The differences of two end states in words; empty if they are equal.

    Of objects in both, only the fields that differ.
    """
    missing, surplus = sorted((wanted - found).elements()), sorted((found - wanted).elements())
    words = []
    for line in list(missing):
        twin = next((other for other in surplus if _title(other) == _title(line)), None)
        if twin is not None and line.startswith("{"):
            missing.remove(line)
            surplus.remove(twin)
            words += [
                f"{_title(line)}: {where}"
                for where in _fields(json.loads(line), json.loads(twin), "")
            ]
    return [
        *words,
        *(f"missing: {_title(line)}" for line in missing),
        *(f"too much: {_title(line)}" for line in surplus),
    ]


def _title(line: str) -> str:
    if not line.startswith("{"):
        return line
    tree = json.loads(line)
    metadata = tree["metadata"]
    return f"{tree['kind']} {metadata.get('namespace', '')}/{metadata['name']}".replace(" /", " ")


def _fields(wanted: Any, found: Any, path: str) -> list[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            words
            for key in sorted({**wanted, **found})
            for words in _fields(wanted.get(key), found.get(key), f"{path}.{key}".strip("."))
        ]
    return (
        []
        if wanted == found
        else [f"{path} is {json.dumps(found)}, where the undisturbed run has {json.dumps(wanted)}"]
    )


def _line(tree: dict[str, Any], names: dict[str, str]) -> str:
    return json.dumps(_plain(tree, names), sort_keys=True)


def _plain(tree: Any, names: dict[str, str]) -> Any:
    if isinstance(tree, dict):
        return {key: _plain(value, names) for key, value in tree.items() if key not in CHANCE}
    if isinstance(tree, list):
        return sorted(
            [_plain(value, names) for value in tree],
            key=lambda value: json.dumps(value, sort_keys=True),
        )
    if isinstance(tree, str):
        if tree in names:
            return names[tree]
        return TOKEN.sub("kube-api-access-*", ADDRESS.sub("<address>", TIME.sub("<time>", tree)))
    return tree
