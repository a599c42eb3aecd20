"""Requests of a simulated user about ResourceClaims, pods with claims, drivers of devices, and
taints of devices. Rule SIM-2 (spec/simulation.md).

The user sends them only in runs that begin with such an object, besides the requests of `user.py`.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import (
    creation,
    device_pod,
    extended_pod,
    resource_claim,
    resource_slice,
)
from refk8s.core.actions import Action, Submit
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resource_v1 import DeviceTaintRule, ResourceClaim, ResourceSlice
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Resource,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.devices import ADMIN_LABEL
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import objects

RESOURCES = (RESOURCE_CLAIMS, RESOURCE_SLICES, DEVICE_TAINT_RULES)
OWN = "default"
DEVICES_MAX = 3  # of a node
TAINT = "example.com/broken"


def _make_pod(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod of the template, one that shares a claim, or one that requests an extended resource; it
    ends, fails or runs for ever."""
    script = chance.choice(("sleep 2", "sleep 20", "sleep 3; exit 1", "sleep 900", "sleep 900"))
    kind, claim = chance.choice(
        (
            ("trains", "one"),
            ("trains", "one"),
            ("shares", "shared"),
            ("watches", "watch"),
            ("counts", ""),
        )
    )
    name = f"{kind}-{chance.randrange(4)}"
    if cluster.history.get(f"{PODS.prefix}{OWN}/{name}") is not None:
        return None
    if not claim:
        tree = extended_pod(name, script, chance.choice((1, 1, 2)))
        return Submit(creation(codec.from_tree(Pod, tree)))
    return Submit(creation(codec.from_tree(Pod, device_pod(name, claim, script, claim == "one"))))


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = [
        pod
        for pod in objects(cluster, PODS.prefix)
        if pod.spec.resource_claims or (pod.metadata.name or "").startswith("counts-")
    ]
    if not found:
        return None
    options = DeleteOptions(grace_period_seconds=chance.choice((None, None, 0)))
    name = chance.choice(found).metadata.name
    return Submit(Request("delete", PODS, OWN, name, body=options, user=ADMIN))


def _make_claim(cluster: Cluster, chance: Random) -> Submit | None:
    """The claims that pods name; one has administrative access (DRA-7)."""
    name = chance.choice(("shared", "shared", "watch"))
    if cluster.history.get(f"{RESOURCE_CLAIMS.prefix}{OWN}/{name}") is not None:
        return None
    tree = resource_claim(name, chance.choice((1, 1, 2)), is_admin=name == "watch")
    return Submit(creation(codec.from_tree(ResourceClaim, tree)))


def _allow_administrators(cluster: Cluster, chance: Random) -> Submit | None:
    """The label with which claims with administrative access can be created."""
    found = cluster.history.get(f"{NAMESPACES.prefix}{OWN}")
    if found is None or ADMIN_LABEL in (found.value.metadata.labels or {}):
        return None
    return _patch(NAMESPACES, found.value, {"metadata": {"labels": {ADMIN_LABEL: "true"}}})


def _delete_claim(cluster: Cluster, chance: Random) -> Submit | None:
    """A claim is deleted, that pods use or that was made for one."""
    found = objects(cluster, RESOURCE_CLAIMS.prefix)
    if not found:
        return None
    name = chance.choice(found).metadata.name
    return Submit(Request("delete", RESOURCE_CLAIMS, OWN, name, body=DeleteOptions(), user=ADMIN))


def _change_slice(cluster: Cluster, chance: Random) -> Submit | None:
    """The driver of a node writes other devices, some with a taint, or removes its slice."""
    nodes = objects(cluster, NODES.prefix)
    if not nodes:
        return None
    node = chance.choice(nodes).metadata.name
    record = cluster.history.get(f"{RESOURCE_SLICES.prefix}slice-{node}")
    if record is None:
        tree = resource_slice(node, chance.randrange(1, DEVICES_MAX + 1))
        return Submit(creation(codec.from_tree(ResourceSlice, tree)))
    name = record.value.metadata.name
    if chance.random() < 0.2:
        return Submit(
            Request("delete", RESOURCE_SLICES, "", name, body=DeleteOptions(), user=ADMIN)
        )
    generation = record.value.spec.pool.generation + 1
    spec = resource_slice(node, chance.randrange(1, DEVICES_MAX + 1), generation)["spec"]
    if chance.random() < 0.3:
        effect = chance.choice(("NoSchedule", "NoExecute"))
        spec["devices"][0]["taints"] = [{"key": TAINT, "effect": effect}]
    body = Patch("application/merge-patch+json", {"spec": spec})
    return Submit(Request("patch", RESOURCE_SLICES, "", name, body=body, user=ADMIN))


def _change_rule(cluster: Cluster, chance: Random) -> Submit | None:
    """An administrator taints the devices of a node, or all, changes the effect, or ends it."""
    taint = {"key": TAINT, "effect": chance.choice(("NoExecute", "NoSchedule", "None"))}
    record = cluster.history.get(f"{DEVICE_TAINT_RULES.prefix}maintenance")
    if record is None:
        pool = chance.choice([{}, *[{"pool": name} for name in _names(cluster)]])
        tree = {
            "metadata": {"name": "maintenance"},
            "spec": {"deviceSelector": pool, "taint": taint},
        }
        return Submit(creation(codec.from_tree(DeviceTaintRule, tree)))
    if chance.random() < 0.5:
        return Submit(
            Request(
                "delete", DEVICE_TAINT_RULES, "", "maintenance", body=DeleteOptions(), user=ADMIN
            )
        )
    return _patch(DEVICE_TAINT_RULES, record.value, {"spec": {"taint": taint}})


def _names(cluster: Cluster) -> list[str]:
    return [each.metadata.name for each in objects(cluster, NODES.prefix)]


ACTS = (
    _make_pod, _make_pod, _make_pod, _make_pod, _delete_pod, _delete_pod, _delete_pod, _make_claim, _make_claim,
    _allow_administrators, _delete_claim, _change_slice, _change_rule,
)  # fmt: skip


def resume(cluster: Cluster) -> tuple[Action, ...]:
    """The user's last actions: devices are no longer broken."""
    found: list[Action] = []
    for each in objects(cluster, RESOURCE_SLICES.prefix):
        tree = codec.to_tree(each)
        devices = tree["spec"].get("devices", [])
        if any(device.pop("taints", None) for device in devices):
            found.append(_patch(RESOURCE_SLICES, each, {"spec": {"devices": devices}}))
    return tuple(found)


def _patch(resource: Resource, obj: Any, tree: Any) -> Submit:
    metadata = obj.metadata
    body = Patch("application/merge-patch+json", tree)
    namespace = metadata.namespace or ""
    return Submit(Request("patch", resource, namespace, metadata.name, body=body, user=ADMIN))
