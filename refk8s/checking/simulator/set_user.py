"""Requests of a simulated user about StatefulSets and DaemonSets. Rule SIM-2 (spec/simulation.md).

The user sends them only in runs that begin with such an object, besides the requests of `user.py`.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import creation, daemon_set, stateful_set
from refk8s.core.actions import Action, Submit
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import DaemonSet, StatefulSet
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    NODES,
    PODS,
    STATEFUL_SETS,
    Resource,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

RESOURCES = (STATEFUL_SETS, DAEMON_SETS)
REPLICAS_MAX = 4
OWN = "default"
TAINT = "example.com/late"


def _scale(cluster: Cluster, chance: Random) -> Submit | None:
    tree = {"spec": {"replicas": chance.randrange(REPLICAS_MAX + 1)}}
    return _change(cluster, chance, STATEFUL_SETS, tree)


def _update(cluster: Cluster, chance: Random) -> Submit | None:
    container = {"name": "main", "image": f"app:{chance.randrange(1, 5)}"}
    tree = {"spec": {"template": {"spec": {"containers": [container]}}}}
    return _change(cluster, chance, chance.choice(RESOURCES), tree)


def _bound(cluster: Cluster, chance: Random) -> Submit | None:
    """Other bounds of a rolling update, or OnDelete."""
    resource = chance.choice(RESOURCES)
    if chance.random() < 0.2:
        return _strategy(cluster, chance, resource, "OnDelete", None)
    if resource is STATEFUL_SETS:
        rolling: dict[str, Any] = {"partition": chance.choice((0, 0, 1, 2))}
    else:
        surge = chance.choice((0, 0, 1, "50%"))
        rolling = {
            "maxSurge": surge,
            "maxUnavailable": 0 if surge else chance.choice((1, 1, 2, "50%")),
        }
    return _strategy(cluster, chance, resource, "RollingUpdate", rolling)


def _strategy(
    cluster: Cluster, chance: Random, resource: Resource, kind: str, rolling: Any
) -> Submit | None:
    tree = {"spec": {"updateStrategy": {"type": kind, "rollingUpdate": rolling}}}
    return _change(cluster, chance, resource, tree)


def _delete(cluster: Cluster, chance: Random) -> Submit | None:
    resource = chance.choice(RESOURCES)
    found = _one(cluster, chance, resource)
    if found is None:
        return None
    policy = chance.choice(("Background", "Foreground", "Orphan", "Orphan"))
    options = DeleteOptions(propagation_policy=policy)
    return Submit(Request("delete", resource, OWN, found.metadata.name, body=options, user=ADMIN))


def _make(cluster: Cluster, chance: Random) -> Submit | None:
    """A set is created, if it is missing; it may adopt pods of an earlier one."""
    image = f"app:{chance.randrange(1, 5)}"
    if chance.random() < 0.5:
        if cluster.history.get(f"{STATEFUL_SETS.prefix}{OWN}/store") is not None:
            return None
        policy = chance.choice(("OrderedReady", "Parallel"))
        tree = stateful_set("store", chance.randrange(1, REPLICAS_MAX), policy, image)
        return Submit(creation(codec.from_tree(StatefulSet, tree)))
    if cluster.history.get(f"{DAEMON_SETS.prefix}{OWN}/agent") is not None:
        return None
    return Submit(creation(codec.from_tree(DaemonSet, daemon_set("agent", image))))


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, PODS)
    if found is None:
        return None
    options = DeleteOptions(grace_period_seconds=chance.choice((None, None, 2)))
    return Submit(Request("delete", PODS, OWN, found.metadata.name, body=options, user=ADMIN))


def _release(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod loses the label that its set selects, or gets it back."""
    found = _one(cluster, chance, PODS)
    if found is None:
        return None
    labels = found.metadata.labels or {}
    moved = {"app": None, "aside": labels.get("app")}
    if "aside" in labels:
        moved = {"app": labels["aside"], "aside": None}
    return _patch(PODS, found, {"metadata": {"labels": moved}})


def _taint(cluster: Cluster, chance: Random) -> Submit | None:
    """A node gets a taint that no pod tolerates, or loses it."""
    found = _one(cluster, chance, NODES, "")
    if found is None:
        return None
    taint: dict[str, Any] = {"key": TAINT, "effect": chance.choice(("NoSchedule", "NoExecute"))}
    if chance.random() < 0.5:
        taint = {"key": TAINT, "$patch": "delete"}
    return _patch(NODES, found, {"spec": {"taints": [taint]}})


def _lose_revision(cluster: Cluster, chance: Random) -> Submit | None:
    """A revision is deleted."""
    found = _one(cluster, chance, CONTROLLER_REVISIONS)
    if found is None:
        return None
    name = found.metadata.name
    return Submit(
        Request("delete", CONTROLLER_REVISIONS, OWN, name, body=DeleteOptions(), user=ADMIN)
    )


ACTS = (
    _scale, _scale, _scale, _update, _update, _update, _update, _bound, _bound, _delete, _delete, _make, _make, _make,
    _delete_pod, _delete_pod, _release, _taint, _taint, _lose_revision,
)  # fmt: skip


def resume(cluster: Cluster) -> tuple[Action, ...]:
    """The user's last actions: remove its taints."""
    return tuple(
        [
            _patch(NODES, node, {"spec": {"taints": [{"key": TAINT, "$patch": "delete"}]}})
            for node in _all(cluster, NODES)
            if any(taint.key == TAINT for taint in node.spec.taints or ())
        ]
    )


def _all(cluster: Cluster, resource: Resource) -> list[Any]:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def _one(cluster: Cluster, chance: Random, resource: Resource, namespace: str = OWN) -> Any | None:
    found = [obj for obj in _all(cluster, resource) if (obj.metadata.namespace or "") == namespace]
    return chance.choice(found) if found else None


def _change(cluster: Cluster, chance: Random, resource: Resource, tree: Any) -> Submit | None:
    found = _one(cluster, chance, resource)
    return _patch(resource, found, tree) if found is not None else None


def _patch(resource: Resource, obj: Any, tree: Any, subresource: str = "") -> Submit:
    metadata = obj.metadata
    body = Patch("application/strategic-merge-patch+json", tree)
    namespace = metadata.namespace or ""
    return Submit(
        Request("patch", resource, namespace, metadata.name, subresource, body=body, user=ADMIN)
    )
