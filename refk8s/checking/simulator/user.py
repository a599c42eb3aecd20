"""Requests of a simulated user. Rule SIM-2 (spec/simulation.md).

The user creates, scales, updates, pauses and deletes objects, and cordons and removes nodes.
"""

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from refk8s.checking.simulator import (
    admission_user,
    apply_user,
    device_user,
    family_user,
    job_user,
    set_user,
    volume_user,
)
from refk8s.checking.simulator.scenario import creation, deployment, service
from refk8s.core.actions import Action, Crash, Submit
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import ConfigMap, Namespace, Pod, Service
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Resource,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster

REPLICAS_MAX = 4
OWN = "default"
CPU = "900m"  # of the four of a node: not all requested pods fit


Act = Callable[[Cluster, Random], Submit | None]


def acts_of(requests: Iterable[Request]) -> tuple[Act, ...]:
    """What the user of a run does that begins with these requests: sets, Jobs and claims are
    changed only in runs that begin with one, the families of Services in runs that begin with a
    Service of two, and objects are applied in runs that begin with an apply."""
    requests = tuple(requests)
    begins = [request.resource for request in requests]
    acts = _ACTS
    if any(resource in begins for resource in admission_user.RESOURCES):
        acts += admission_user.ACTS * 10
    if any(map(apply_user.is_apply, requests)):
        acts += apply_user.ACTS * 30
    if family_user.is_about_families(requests):
        acts += family_user.ACTS * 20
    for each in (set_user, job_user, device_user, volume_user):
        if any(resource in begins for resource in each.RESOURCES):
            acts += each.ACTS * 2
    return acts


def act(acts: Sequence[Act], cluster: Cluster, chance: Random) -> Submit | None:
    """The user's next request; None if there is no object for it."""
    return chance.choice(acts)(cluster, chance)


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
    bounds = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }
    if chance.random() < 0.4:
        return _change(
            cluster, chance, {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
        )
    return _change(cluster, chance, {"spec": {"strategy": bounds}})


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, PODS)
    if found is None:
        return None
    grace = chance.choice((None, None, 0, 2))
    return _delete(PODS, found, DeleteOptions(grace_period_seconds=grace))


def _delete_deployment(cluster: Cluster, chance: Random) -> Submit | None:
    found = _one(cluster, chance, DEPLOYMENTS)
    policy = chance.choice(("Background", "Foreground", "Foreground", "Orphan"))
    return (
        _delete(DEPLOYMENTS, found, DeleteOptions(propagation_policy=policy))
        if found is not None
        else None
    )


def _make_deployment(cluster: Cluster, chance: Random) -> Submit | None:
    name = chance.choice(("web", "db", "cache"))
    if cluster.history.get(f"{DEPLOYMENTS.prefix}{OWN}/{name}") is not None:
        return None
    replicas, image, surge = (
        chance.randrange(1, REPLICAS_MAX),
        f"app:{chance.randrange(1, 5)}",
        chance.randrange(1, 3),
    )
    tree = deployment(name, replicas, image, cpu=CPU, surge=surge, reads="settings")
    tree["spec"]["template"]["spec"]["tolerations"] = [
        {
            "key": f"node.kubernetes.io/{key}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": chance.choice((5, 30)),
        }
        for key in ("unreachable", "not-ready")
    ]
    return Submit(creation(codec.from_tree(Deployment, tree)))


def _service(cluster: Cluster, chance: Random) -> Submit | None:
    name = chance.choice(("web", "db"))
    there = cluster.history.get(f"{SERVICES.prefix}{OWN}/{name}")
    if there is not None:
        return _delete(SERVICES, there.value, DeleteOptions()) if chance.random() < 0.3 else None
    return Submit(creation(codec.from_tree(Service, service(name, name))))


def _odd_service(cluster: Cluster, chance: Random) -> Submit | None:
    """A service changes its type, gets or loses a finalizer (with another change), or is deleted.

    A deletion can be of the whole collection.
    """
    if chance.random() < 0.2:
        return Submit(Request("deletecollection", SERVICES, OWN, body=DeleteOptions(), user=ADMIN))
    found = _one(cluster, chance, SERVICES)
    if found is None or found.metadata.name == "kubernetes":
        return None
    of_type = chance.choice(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
    spec = {
        "type": of_type,
        **({"externalName": "example.com"} if of_type == "ExternalName" else {}),
        **_traffic(chance, of_type),
    }
    tree: dict[str, Any] = {"spec": spec} if chance.random() < 0.7 else {}
    if chance.random() < 0.6:
        finalizers = None if found.metadata.finalizers else ["example.com/hold"]
        tree["metadata"] = {"finalizers": finalizers}
    patch = Patch("application/merge-patch+json", tree)
    return Submit(Request("patch", SERVICES, OWN, found.metadata.name, body=patch, user=ADMIN))


def _traffic(chance: Random, of_type: str) -> dict[str, Any]:
    """Which clients and endpoints a service has (NET-5 to NET-7, NET-21)."""
    if of_type == "ExternalName" or chance.random() < 0.3:
        return {}
    policies = ("Cluster", "Local")
    is_outside = of_type in ("NodePort", "LoadBalancer")
    return {
        "internalTrafficPolicy": chance.choice(policies),
        "sessionAffinity": chance.choice(("None", "ClientIP")),
        "externalIPs": chance.choice((None, ["198.51.100.1"])),
        "externalTrafficPolicy": chance.choice(policies) if is_outside else None,
        "loadBalancerSourceRanges": chance.choice((None, ["203.0.113.0/24"]))
        if of_type == "LoadBalancer"
        else None,
    }


def _namespace(cluster: Cluster, chance: Random) -> Submit | None:
    """A namespace is created with a Deployment in it, or is deleted with its objects."""
    there = cluster.history.get(f"{NAMESPACES.prefix}stage")
    if there is None:
        return Submit(creation(Namespace(metadata=ObjectMeta(name="stage"))))
    empty = cluster.history.get(f"{DEPLOYMENTS.prefix}stage/web") is None
    if empty and chance.random() < 0.6 and there.value.metadata.deletion_timestamp is None:
        tree = deployment("web", 1)
        tree["metadata"]["namespace"] = "stage"
        return Submit(creation(codec.from_tree(Deployment, tree)))
    return Submit(Request("delete", NAMESPACES, "", "stage", body=DeleteOptions(), user=ADMIN))


def _loner(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod without a controller, which a Service may select, terminates and is then deleted."""
    name = chance.choice(("web", "db"))
    there = cluster.history.get(f"{PODS.prefix}{OWN}/loner-{name}")
    if there is not None:
        return _delete(PODS, there.value, DeleteOptions()) if chance.random() < 0.5 else None
    container = {
        "name": "main",
        "image": "app:1",
        "command": ["sleep", str(chance.choice((1, 20, 300)))],
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}
    metadata = {"name": f"loner-{name}", "namespace": OWN, "labels": {"app": name}}
    tree = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    return Submit(creation(codec.from_tree(Pod, tree)))


def _settings(cluster: Cluster, chance: Random) -> Submit | None:
    """The ConfigMap that some Deployments read is created, changed or deleted."""
    there = cluster.history.get(f"{CONFIG_MAPS.prefix}{OWN}/settings")
    data = {"version": str(chance.randrange(1000))}
    if there is None:
        return Submit(
            creation(ConfigMap(metadata=ObjectMeta(name="settings", namespace=OWN), data=data))
        )
    return (
        _delete(CONFIG_MAPS, there.value, DeleteOptions())
        if chance.random() < 0.2
        else _patch(CONFIG_MAPS, there.value, {"data": data})
    )


INT64_MAX = 2**63 - 1
ODD_SECONDS = (0, 1, 2**31 - 1, 2**31, 10**12, INT64_MAX)
ODD_WORDS = ("", "Weird", "Unknown", "\u00b2", "99%", "-1", "9" * 40)


def _odd_pod(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod with extreme valid values is created, or is deleted with an extreme grace period."""
    there = cluster.history.get(f"{PODS.prefix}{OWN}/odd")
    if there is not None:
        return _delete(
            PODS, there.value, DeleteOptions(grace_period_seconds=chance.choice(ODD_SECONDS))
        )
    long = chance.choice((1, 2**31 - 1))
    probe = {
        "exec": {"command": ["true"]},
        "periodSeconds": long,
        "initialDelaySeconds": chance.choice((0, 2**31 - 1)),
    }
    container = {
        "name": "main", "image": "app:1", "command": ["sleep", chance.choice(("20", "x", "9" * 40, "-1"))],
        "readinessProbe": probe, "env": [{"name": "A", "value": chance.choice(ODD_WORDS)}],
        "lifecycle": {"postStart": {"sleep": {"seconds": 1}}},
    }  # fmt: skip
    tolerations = [
        {
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": chance.choice((*ODD_SECONDS, -1, -INT64_MAX)),
        }
    ]
    spec: dict[str, Any] = {
        "restartPolicy": chance.choice(("Always", "OnFailure", "Never")), "terminationGracePeriodSeconds": chance.choice(ODD_SECONDS),
        "containers": [container], "tolerations": tolerations,
    }  # fmt: skip
    if chance.random() < 0.5:
        spec["activeDeadlineSeconds"] = chance.choice((1, 2**31 - 1))
    annotations = {
        "controller.kubernetes.io/pod-deletion-cost": chance.choice(("-5", "2147483647"))
    }
    metadata = {
        "name": "odd",
        "namespace": OWN,
        "labels": {"app": chance.choice(("web", "odd"))},
        "annotations": annotations,
    }
    return Submit(
        creation(
            codec.from_tree(
                Pod, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            )
        )
    )


def _odd_status(cluster: Cluster, chance: Random) -> Submit | None:
    """The user writes unknown values into the status of pods and nodes."""
    resource = chance.choice((PODS, PODS, NODES))
    found = _one(cluster, chance, resource, OWN if resource is PODS else "")
    if found is None:
        return None
    word = chance.choice(ODD_WORDS)
    condition = {
        "type": "example.com/odd",
        "status": word or "Unknown",
        "lastTransitionTime": "9999-12-31T23:59:59Z",
    }
    tree: dict[str, Any] = {"conditions": [condition]}
    if resource is PODS:
        tree |= {"phase": word or "Weird", "reason": word}
    patch = Patch("application/strategic-merge-patch+json", {"status": tree})
    return Submit(
        Request(
            "patch",
            resource,
            found.metadata.namespace or "",
            found.metadata.name,
            "status",
            body=patch,
            user=ADMIN,
        )
    )


def _odd_deployment(cluster: Cluster, chance: Random) -> Submit | None:
    """Extreme numbers in a Deployment, and invalid or huge annotations of its ReplicaSets."""
    if chance.random() < 0.5:
        found = _one(cluster, chance, REPLICA_SETS)
        name = chance.choice(("revision", "desired-replicas", "max-replicas"))
        value = chance.choice((*ODD_WORDS, str(INT64_MAX), str(-INT64_MAX)))
        return (
            _patch(
                REPLICA_SETS,
                found,
                {"metadata": {"annotations": {f"deployment.kubernetes.io/{name}": value}}},
            )
            if found
            else None
        )
    field = chance.choice(("progressDeadlineSeconds", "revisionHistoryLimit"))
    return _change(cluster, chance, {"spec": {field: chance.choice((30, 2**31 - 1))}})


def _wrong_path(cluster: Cluster, chance: Random) -> Submit | None:
    """A write of fields that its path ignores: status at the object, spec at /status (API-8)."""
    found = _one(cluster, chance, DEPLOYMENTS)
    if found is None:
        return None
    body = replace(found, spec=replace(found.spec, replicas=REPLICAS_MAX + 1))
    sub = "status"
    if chance.random() < 0.5:
        body, sub = replace(found, status=replace(found.status, replicas=99)), ""
    return Submit(
        Request("update", DEPLOYMENTS, OWN, found.metadata.name, sub, body=body, user=ADMIN)
    )


def _release(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod loses the label that its ReplicaSet selects, or gets it back and is adopted."""
    pods = [pod for pod in _all(cluster, PODS) if pod.metadata.namespace == OWN]
    aside = [pod for pod in pods if "aside" in (pod.metadata.labels or {})]
    if aside:
        pod = chance.choice(aside)
        return _patch(
            PODS,
            pod,
            {"metadata": {"labels": {"app": pod.metadata.labels["aside"], "aside": None}}},
        )
    free = [pod for pod in pods if pod not in aside]
    if not free:
        return None
    pod = chance.choice(free)
    return _patch(
        PODS,
        pod,
        {"metadata": {"labels": {"app": None, "aside": (pod.metadata.labels or {}).get("app")}}},
    )


def _shut(cluster: Cluster, chance: Random) -> Submit | None:
    """A node is cordoned or uncordoned."""
    found = _one(cluster, chance, NODES, "")
    return (
        _patch(
            NODES, found, {"spec": {"unschedulable": None if found.spec.unschedulable else True}}
        )
        if found is not None
        else None
    )


def _remove_node(cluster: Cluster, chance: Random) -> Submit | None:
    """A Node is deleted. Its kubelet creates it again only after a restart (KUBELET-60)."""
    if len(_all(cluster, NODES)) < len(cluster.worlds):
        return None
    found = _one(cluster, chance, NODES, "")
    return _delete(NODES, found, DeleteOptions()) if found is not None else None


_ACTS: tuple[Act, ...] = (
    _scale, _scale, _scale, _update, _update, _update, _pause, _bound, _bound, _delete_pod, _delete_pod, _delete_deployment,
    _delete_deployment, _make_deployment, _make_deployment, _make_deployment, _service, _namespace, _namespace, _namespace,
    _namespace, _release, _release, _release, _loner, _loner, _wrong_path, _shut, _remove_node,
    _odd_pod, _odd_pod, _odd_status, _odd_deployment, _odd_service, _odd_service, _settings, _settings, _settings,
)  # fmt: skip


def resume(cluster: Cluster) -> tuple[Action, ...]:
    """The user's last actions: resume Deployments, uncordon nodes, restore missing Nodes."""
    found: list[Action] = [
        _patch(DEPLOYMENTS, d, {"spec": {"paused": False}})
        for d in _all(cluster, DEPLOYMENTS)
        if d.spec.paused
    ]
    nodes = _all(cluster, NODES)
    found += [
        _patch(NODES, node, {"spec": {"unschedulable": None}})
        for node in nodes
        if node.spec.unschedulable
    ]
    missing = [
        name
        for name in sorted(cluster.worlds)
        if name.removeprefix("kubelet/") not in {node.metadata.name for node in nodes}
    ]
    found += [*set_user.resume(cluster), *job_user.resume(cluster)]
    found += [*device_user.resume(cluster), *volume_user.resume(cluster)]
    return (*found, *[Crash(name) for name in missing if cluster.components[name].back_at is None])


def _all(cluster: Cluster, resource: Resource) -> list[Any]:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def _one(cluster: Cluster, chance: Random, resource: Resource, namespace: str = OWN) -> Any | None:
    found = [obj for obj in _all(cluster, resource) if (obj.metadata.namespace or "") == namespace]
    return chance.choice(found) if found else None


def _change(cluster: Cluster, chance: Random, tree: dict[str, Any]) -> Submit | None:
    found = _one(cluster, chance, DEPLOYMENTS)
    return _patch(DEPLOYMENTS, found, tree) if found is not None else None


def _patch(resource: Resource, obj: Any, tree: dict[str, Any]) -> Submit:
    return _submit("patch", resource, obj, Patch("application/strategic-merge-patch+json", tree))


def _delete(resource: Resource, obj: Any, options: DeleteOptions) -> Submit:
    return _submit("delete", resource, obj, options)


def _submit(verb: str, resource: Resource, obj: Any, body: Any) -> Submit:
    metadata = obj.metadata
    return Submit(
        Request(verb, resource, metadata.namespace or "", metadata.name, body=body, user=ADMIN)
    )
