"""Requests of a simulated user about pods with volumes of a CSI driver, and of the attacher of that
driver. Rule SIM-2 (spec/simulation.md).

The user sends them only in runs that begin with a CSIDriver, besides the requests of `user.py`. The
nodes do not mount such volumes (D-70), so these pods wait; their volumes are attached all the same.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import creation, volume_pod
from refk8s.core.actions import Action, Submit
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import CSI_DRIVERS, PODS, VOLUME_ATTACHMENTS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import objects

RESOURCES = (CSI_DRIVERS,)
OWN = "default"
CLAIMS = ("one", "many")


def _make_pod(cluster: Cluster, chance: Random) -> Submit | None:
    name = f"stores-{chance.randrange(4)}"
    if cluster.history.get(f"{PODS.prefix}{OWN}/{name}") is not None:
        return None
    return Submit(creation(codec.from_tree(Pod, volume_pod(name, chance.choice(CLAIMS)))))


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = [pod for pod in objects(cluster, PODS.prefix) if pod.spec.volumes and _stores(pod)]
    if not found:
        return None
    options = DeleteOptions(grace_period_seconds=chance.choice((None, None, 0)))
    name = chance.choice(found).metadata.name
    return Submit(Request("delete", PODS, OWN, name, body=options, user=ADMIN))


def _stores(pod: Any) -> bool:
    return (pod.metadata.name or "").startswith("stores-")


def _attach(cluster: Cluster, chance: Random) -> Submit | None:
    """The attacher attaches a volume, or reports an error."""
    found = [one for one in objects(cluster, VOLUME_ATTACHMENTS.prefix) if not one.status.attached]
    if not found:
        return None
    if chance.random() < 0.2:
        return _patch(chance.choice(found), {"attachError": {"message": "the disk is busy"}})
    return _patch(chance.choice(found), {"attached": True, "attachError": None})


ACTS = (_make_pod, _make_pod, _delete_pod, _delete_pod, _attach, _attach) * 4


def resume(cluster: Cluster) -> tuple[Action, ...]:
    """The last actions of the attacher: everything is attached."""
    return tuple(
        [
            _patch(one, {"attached": True, "attachError": None})
            for one in objects(cluster, VOLUME_ATTACHMENTS.prefix)
            if not one.status.attached
        ]
    )


def _patch(attachment: Any, status: dict[str, Any]) -> Submit:
    body = Patch("application/merge-patch+json", {"status": status})
    name = attachment.metadata.name
    return Submit(Request("patch", VOLUME_ATTACHMENTS, "", name, "status", body=body, user=ADMIN))
