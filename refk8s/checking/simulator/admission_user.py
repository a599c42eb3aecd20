"""Requests of a simulated user about ResourceQuotas and admission policies. Rule SIM-2
(spec/simulation.md).

Quotas and policies come, change and go while the user creates what they limit, and while API servers
are behind. They select pods with `activeDeadlineSeconds`, which no component creates here, so nothing
that others desire is impossible. The user sends these requests only in runs that begin with such an
object, besides the requests of `user.py`.
"""

from random import Random
from typing import Any

from refk8s.checking.simulator.scenario import creation
from refk8s.core.actions import Submit
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod, ResourceQuota, Service
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    PODS,
    RESOURCE_QUOTAS,
    SERVICES,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    Resource,
    type_of_kind,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import objects
from refk8s.core.properties.predicates.admission_policies import deadline_at_most

RESOURCES = (RESOURCE_QUOTAS, VALIDATING_ADMISSION_POLICIES)
OWN = "default"
PODS_MAX = 8
POLICY = "deadlines"
SECONDS = (30, 300, 3_000)
_REGISTRATION = "admissionregistration.k8s.io/v1"


def quota(name: str, hard: dict[str, str], *scopes: str) -> dict[str, Any]:
    """A ResourceQuota."""
    spec = {"hard": hard, **({"scopes": list(scopes)} if scopes else {})}
    return {
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": name, "namespace": OWN}, "spec": spec,
    }  # fmt: skip


def policy(seconds: int) -> dict[str, Any]:
    """A policy by which a new pod has at most this deadline."""
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    return {
        "apiVersion": _REGISTRATION, "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": deadline_at_most(seconds)}],
        },
    }  # fmt: skip


def binding() -> dict[str, Any]:
    """The binding by which the policy takes effect."""
    return {
        "apiVersion": _REGISTRATION, "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY}, "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    }  # fmt: skip


def begin() -> tuple[dict[str, Any], ...]:
    """What a run with quotas and policies begins with, besides other objects."""
    return (
        quota("timed", {"pods": "3"}, "Terminating"),
        quota("all", {"pods": "60", "services": "5", "count/replicasets.apps": "90"}),
        policy(300),
        binding(),
    )


def _make_pod(cluster: Cluster, chance: Random) -> Submit | None:
    """A pod with a deadline, which quotas and policies may reject."""
    name = f"timed-{chance.randrange(PODS_MAX)}"
    if cluster.history.get(f"{PODS.prefix}{OWN}/{name}") is not None:
        return None
    container = {
        "name": "main",
        "image": "app:1",
        "command": ["sleep", str(chance.choice((5, 900)))],
    }
    tree = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": OWN},
        "spec": {
            "activeDeadlineSeconds": chance.choice(SECONDS), "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2, "containers": [container],
        },
    }  # fmt: skip
    return _create(Pod, tree)


def _delete_pod(cluster: Cluster, chance: Random) -> Submit | None:
    found = [one for one in objects(cluster, PODS.prefix) if one.spec.active_deadline_seconds]
    if not found:
        return None
    options = DeleteOptions(grace_period_seconds=chance.choice((None, 0)))
    return _delete(PODS, chance.choice(found), options)


def _make_service(cluster: Cluster, chance: Random) -> Submit | None:
    """A Service, which the quota counts."""
    name = f"extra-{chance.randrange(4)}"
    found = cluster.history.get(f"{SERVICES.prefix}{OWN}/{name}")
    if found is not None:
        return _delete(SERVICES, found.value, DeleteOptions()) if chance.random() < 0.5 else None
    tree = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": OWN},
        "spec": {"ports": [{"port": 80}]},
    }  # fmt: skip
    return _create(Service, tree)


def _limit(cluster: Cluster, chance: Random) -> Submit | None:
    """The limit of a quota changes."""
    found = list(objects(cluster, RESOURCE_QUOTAS.prefix))
    if not found:
        return None
    one = chance.choice(found)
    name, most = chance.choice((("pods", 4), ("services", 5)))
    if one.metadata.name == "all":
        name = "services"
    limit = str(chance.randrange(1, most + 1))
    return _patch(RESOURCE_QUOTAS, one, {"spec": {"hard": {name: limit}}})


def _quota(cluster: Cluster, chance: Random) -> Submit | None:
    """A quota is deleted, or comes late."""
    trees = [tree for tree in begin() if tree["kind"] == "ResourceQuota"]
    tree = chance.choice(trees)
    found = cluster.history.get(f"{RESOURCE_QUOTAS.prefix}{OWN}/{tree['metadata']['name']}")
    if found is not None:
        return _delete(RESOURCE_QUOTAS, found.value, DeleteOptions())
    return _create(ResourceQuota, tree)


def _policy(cluster: Cluster, chance: Random) -> Submit | None:
    """The policy changes, is deleted, or comes late."""
    seconds = chance.choice(SECONDS)
    found = cluster.history.get(f"{VALIDATING_ADMISSION_POLICIES.prefix}{POLICY}")
    if found is None:
        kind = type_of_kind(_REGISTRATION, "ValidatingAdmissionPolicy")
        return _create(kind, policy(seconds))
    if chance.random() < 0.2:
        return _delete(VALIDATING_ADMISSION_POLICIES, found.value, DeleteOptions())
    spec = {"validations": policy(seconds)["spec"]["validations"]}
    return _patch(VALIDATING_ADMISSION_POLICIES, found.value, {"spec": spec})


def _bind(cluster: Cluster, chance: Random) -> Submit | None:
    """The binding is deleted, or comes late."""
    found = cluster.history.get(f"{VALIDATING_ADMISSION_POLICY_BINDINGS.prefix}{POLICY}")
    if found is not None:
        return _delete(VALIDATING_ADMISSION_POLICY_BINDINGS, found.value, DeleteOptions())
    kind = type_of_kind(_REGISTRATION, "ValidatingAdmissionPolicyBinding")
    return _create(kind, binding())


ACTS = (
    *[_make_pod] * 8, *[_delete_pod] * 3, *[_make_service] * 3,
    *[_limit] * 2, _quota, *[_policy] * 2, _bind,
)  # fmt: skip


def _create(kind: Any, tree: dict[str, Any]) -> Submit:
    return Submit(creation(codec.from_tree(kind, tree)))


def _patch(resource: Resource, obj: Any, tree: Any) -> Submit:
    metadata, body = obj.metadata, Patch("application/merge-patch+json", tree)
    return Submit(
        Request("patch", resource, metadata.namespace or "", metadata.name, body=body, user=ADMIN)
    )


def _delete(resource: Resource, obj: Any, options: DeleteOptions) -> Submit:
    metadata = obj.metadata
    return Submit(
        Request(
            "delete", resource, metadata.namespace or "", metadata.name, body=options, user=ADMIN
        )
    )
