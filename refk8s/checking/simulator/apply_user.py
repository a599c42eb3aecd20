"""Server-side applies of a simulated user. Rule SIM-2 (spec/simulation.md).

Two managers apply the same Deployments, one of them sometimes with the status that it has read. The
user sends them only in runs that begin with an apply, besides the requests of `user.py`.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import deployment
from refk8s.core.actions import Submit
from refk8s.core.api.codec import encode
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.resources import DEPLOYMENTS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

APPLY = "application/apply-patch+yaml"
NAMES = ("web", "db")
MANAGERS = ("team", "platform")
REPLICAS_MAX = 4
OWN = "default"


def is_apply(request: Request) -> bool:
    """Whether a request is a server-side apply."""
    return isinstance(request.body, Patch) and request.body.media_type == APPLY


def applied(name: str, manager: str, tree: dict[str, Any], force: bool = False) -> Request:
    """The apply of a Deployment by a manager."""
    options = Options(field_manager=manager, force=force)
    body = Patch(APPLY, encode({"apiVersion": "apps/v1", "kind": "Deployment", **tree}))
    return Request("patch", DEPLOYMENTS, OWN, name, "", body, options, ADMIN)


def whole(name: str, replicas: int, image: str) -> dict[str, Any]:
    """A configuration that creates a Deployment if there is none."""
    tree = deployment(name, replicas, image)
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": tree["spec"]}


def begin() -> tuple[Request, ...]:
    """What a run with applies begins with, besides other objects."""
    return tuple(applied(name, "team", whole(name, 2, "app:1")) for name in NAMES)


def _apply_whole(cluster: Cluster, chance: Random) -> Submit | None:
    """One manager applies everything, as after `kubectl get`: with the status, too."""
    name = chance.choice(NAMES)
    tree = whole(name, chance.randrange(REPLICAS_MAX), f"app:{chance.randrange(1, 5)}")
    if chance.random() < 0.5:
        tree["status"] = {"readyReplicas": chance.randrange(3), "observedGeneration": 1}
    return Submit(applied(name, chance.choice(MANAGERS), tree, chance.random() < 0.3))


def _apply_part(cluster: Cluster, chance: Random) -> Submit | None:
    """One manager applies a few fields, and no longer those that it applied before."""
    name = chance.choice(NAMES)
    if cluster.history.get(f"{DEPLOYMENTS.prefix}{OWN}/{name}") is None:
        return None
    manager = chance.choice(MANAGERS)
    container = {"name": "main", "image": f"app:{chance.randrange(1, 5)}"}
    tree: dict[str, Any] = chance.choice(
        (
            {"metadata": {"labels": {manager: chance.choice("ab")}}},
            {"metadata": {"labels": {manager: "c", "tier": chance.choice("ab")}}},
            {"spec": {"replicas": chance.randrange(REPLICAS_MAX)}},
            {"spec": {"template": {"spec": {"containers": [container]}}}},
            {"status": {"replicas": 7}, "spec": {"minReadySeconds": chance.randrange(3)}},
        )
    )
    return Submit(applied(name, manager, tree, chance.random() < 0.3))


ACTS = (_apply_whole, _apply_part)
