"""What a simulated user does: scale, update, pause, roll over, delete; new things come and old ones go. Rule SIM-2 (spec/simulation.md)."""

from random import Random
from typing import Any

from refk8s.checking.scenario import creation, deployment, service
from refk8s.core.actions import Submit
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import Namespace, Service
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import DEPLOYMENTS, NAMESPACES, PODS, SERVICES, Resource
from refk8s.core.cluster import Cluster

REPLICAS_MAX = 4
OWN = "default"


def act(cluster: Cluster, chance: Random) -> Submit | None:
    """The next thing that the user does; None where this one finds nothing to do it to."""
    return chance.choice(_ACTS)(cluster, chance)


def _scale(cluster: Cluster, chance: Random) -> Submit | None:
    return _change(cluster, chance, {"spec": {"replicas": chance.randrange(REPLICAS_MAX + 1)}})


def _update(cluster: Cluster, chance: Random) -> Submit | None:
    image = f"app:{chance.randrange(1, 5)}"
    container = {"name": "main", "image": image}
    return _change(cluster, chance, {"spec": {"template": {"spec": {"containers": [container]}}}})


def _pause(cluster: Cluster, chance: Random) -> Submit | None:
    return _change(cluster, chance, {"spec": {"paused": chance.random() < 0.3}})


def _bound(cluster: Cluster, chance: Random) -> Submit | None:
    surge = chance.randrange(3)
    unavailable = chance.randrange(0 if surge else 1, 3)
    return _change(cluster, chance, {"spec": {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}})


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, PODS)
    if found is None:
        return None
    grace = chance.choice((None, None, 0, 2))
    return _delete(PODS, found, DeleteOptions(grace_period_seconds=grace))


def _delete_deployment(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, DEPLOYMENTS)
    policy = chance.choice(("Background", "Foreground", "Foreground", "Orphan"))
    return _delete(DEPLOYMENTS, found, DeleteOptions(propagation_policy=policy)) if found is not None else None


def _make_deployment(cluster: Cluster, chance: Random) -> Submit | None:
    name = chance.choice(("web", "db", "cache"))
    if cluster.history.get(f"{DEPLOYMENTS.prefix}{OWN}/{name}") is not None:
        return None
    tree = deployment(name, chance.randrange(1, REPLICAS_MAX), f"app:{chance.randrange(1, 5)}", surge=chance.randrange(1, 3))
    return Submit(creation(codec.from_tree(Deployment, tree)))


def _service(cluster: Cluster, chance: Random) -> Submit | None:
    name = chance.choice(("web", "db"))
    there = cluster.history.get(f"{SERVICES.prefix}{OWN}/{name}")
    if there is not None:
        return _delete(SERVICES, there.value, DeleteOptions()) if chance.random() < 0.3 else None
    return Submit(creation(codec.from_tree(Service, service(name, name))))


def _namespace(cluster: Cluster, chance: Random) -> Submit | None:
    """A namespace comes with a deployment in it, or goes with all that it holds."""
    there = cluster.history.get(f"{NAMESPACES.prefix}stage")
    if there is None:
        return Submit(creation(Namespace(metadata=ObjectMeta(name="stage"))))
    if cluster.history.get(f"{DEPLOYMENTS.prefix}stage/web") is None and there.value.metadata.deletion_timestamp is None:
        tree = deployment("web", 1)
        tree["metadata"]["namespace"] = "stage"
        return Submit(creation(codec.from_tree(Deployment, tree)))
    return Submit(Request("delete", NAMESPACES, "", "stage", body=DeleteOptions()))


_ACTS = (_scale, _scale, _scale, _update, _update, _update, _pause, _bound, _delete_pod, _delete_pod, _delete_deployment,
         _make_deployment, _make_deployment, _service, _namespace)  # fmt: skip


def resume(cluster: Cluster) -> tuple[Submit, ...]:
    """What a user does at last who wants things to be done: no deployment stays paused."""
    paused = [d for d in _all(cluster, DEPLOYMENTS) if d.spec.paused]
    return tuple([_patch(DEPLOYMENTS, d, {"spec": {"paused": False}}) for d in paused])


def _all(cluster: Cluster, resource: Resource) -> list[Any]:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def _one(cluster: Cluster, chance: Random, resource: Resource) -> Any | None:
    found = [obj for obj in _all(cluster, resource) if obj.metadata.namespace == OWN]
    return chance.choice(found) if found else None


def _change(cluster: Cluster, chance: Random, tree: dict[str, Any]) -> Submit | None:
    found = _one(cluster, chance, DEPLOYMENTS)
    return _patch(DEPLOYMENTS, found, tree) if found is not None else None


def _patch(resource: Resource, obj: Any, tree: dict[str, Any]) -> Submit:
    patch = Patch("application/strategic-merge-patch+json", tree)
    return Submit(Request("patch", resource, obj.metadata.namespace, obj.metadata.name, body=patch))


def _delete(resource: Resource, obj: Any, options: DeleteOptions) -> Submit:
    return Submit(Request("delete", resource, obj.metadata.namespace or "", obj.metadata.name, body=options))
