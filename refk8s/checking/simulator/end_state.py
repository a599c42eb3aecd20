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
from refk8s.core.loop.view import controller_of

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
UID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
OF_MINUTE = re.compile(r"-\d{8}-$")
"""The end of a generated name of a pod whose Job is named after its scheduled minute."""
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
        names.update(_names_of(record.value))
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


def _names_of(obj: Any) -> dict[str, str]:
    """The names that depend on chance or on time: generated ones, and those of the Jobs of a
    CronJob (CRON-3) and of their pods."""
    found = {}
    metadata = obj.metadata
    generated, name = metadata.generate_name or "", metadata.name or ""
    if generated and name != generated:
        plain = OF_MINUTE.sub("-*-", generated)
        found = {name: f"{plain}*", generated: plain}
    owner = controller_of(obj)
    if owner is not None and owner.kind == "CronJob":
        found[name] = OF_MINUTE.sub("-*-", f"{name}-").removesuffix("-")
    return found


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
        tree = UID.sub("<uid>", TIME.sub("<time>", tree))
        return TOKEN.sub("kube-api-access-*", ADDRESS.sub("<address>", tree))
    return tree
