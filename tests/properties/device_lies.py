"""Steps and clusters that break a rule of devices and their claims (test_laws.py)."""

from typing import Any

from immutables import Map
from lies import Lie, Runtime, node, on_node, put, queries, world
from workload_helpers import change, pod

from refk8s.core.actions import Operate
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Pod, PodResourceClaim
from refk8s.core.api.resource_v1 import (
    DeviceClass,
    DeviceTaintRule,
    ResourceClaim,
    ResourceClaimTemplate,
)
from refk8s.core.cluster.state import Component, Pending
from refk8s.core.ports import StartContainer
from refk8s.core.value import evolve

NAMED = (PodResourceClaim(name="own", resource_claim_name="c"),)
FROM_TEMPLATE = (PodResourceClaim(name="own", resource_claim_template_name="t"),)


def claim(name: str = "c", device: str = "", *pods: str, owner: str = "") -> Any:
    """A claim that holds this device, reserved for these pods, made for this one."""
    metadata: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if owner:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": f"uid-{owner}"}
        metadata["ownerReferences"] = [reference | {"controller": True}]
    result = {"request": "r", "driver": "d.example.com", "pool": "n1", "device": device}
    status: dict[str, Any] = {}
    if device:
        status["allocation"] = {"devices": {"results": [result]}}
        status["reservedFor"] = [
            {"resource": "pods", "name": each, "uid": f"uid-{each}"} for each in pods
        ]
    return codec.from_tree(ResourceClaim, {"metadata": metadata, "status": status})


def template() -> Any:
    metadata = {"name": "t", "namespace": "default", "uid": "uid-t"}
    return codec.from_tree(ResourceClaimTemplate, {"metadata": metadata, "spec": {"spec": {}}})


def taint_rule() -> Any:
    tree = {
        "metadata": {"name": "r", "uid": "uid-r", "generation": 1},
        "spec": {"deviceSelector": {}, "taint": {"key": "x", "effect": "NoExecute"}},
    }
    return codec.from_tree(DeviceTaintRule, tree)


def a_device_of_two() -> Lie:
    before = world(claim("c", "gpu", "p"), claim("e"))
    again = claim("e", "gpu", "q")
    return before, queries("update", again, sub="status"), put(before, again)


def bound_without_a_device() -> Lie:
    waiting = change(pod("p"), resource_claims=NAMED)
    before = world(node(), claim(), waiting)
    bound = change(waiting, node_name="n1")
    return before, queries("create", bound, sub="binding"), put(before, bound)


def freed_while_it_runs() -> Lie:
    before = world(change(on_node("p"), resource_claims=NAMED), claim("c", "gpu", "p"))
    return before, queries("update", claim(), sub="status"), put(before, claim())


def starts_without_a_device() -> Lie:
    before = world(
        node(),
        claim("c", "gpu", "q"),
        change(on_node("p"), resource_claims=NAMED),
        components=Map({"kubelet/n1": Component(None, 1)}),
        worlds=Map({"kubelet/n1": Runtime()}),
        operations=Map({("kubelet/n1", 1, 1): Pending(StartContainer("uid-p", "c"))}),
    )
    started = evolve(before, worlds=Map({"kubelet/n1": Runtime("uid-p")}))
    return before, Operate(("kubelet/n1", 1, 1)), started


def bound_without_its_resource() -> Lie:
    tree = {"metadata": {"name": "g", "uid": "uid-g"}, "spec": {"extendedResourceName": "x.io/g"}}
    provides = codec.from_tree(DeviceClass, tree)
    requests = {"resources": {"requests": {"x.io/g": "1"}}}
    spec = {"containers": [{"name": "c", "image": "i", **requests}]}
    waiting = change(pod("p"), containers=codec.from_tree(Pod, {"spec": spec}).spec.containers)
    before = world(node(), provides, waiting)
    bound = change(waiting, node_name="n1")
    return before, queries("create", bound, sub="binding"), put(before, bound)


OF_CHANGES = {
    "DRA-5": a_device_of_two,
    "DRA-8": bound_without_a_device,
    "DRA-13": freed_while_it_runs,
    "DRA-25": bound_without_its_resource,
}
OF_STEPS = {"DRA-8": starts_without_a_device}
OF_REST = {
    "DRA-12": lambda: world(change(pod("p"), resource_claims=FROM_TEMPLATE), template()),
    "DRA-13": lambda: world(claim("c", "gpu", "p")),
    "DRA-14": lambda: world(claim(owner="p")),
    "DRA-21": lambda: world(on_node("p"), claim("c", "gpu", "p"), taint_rule()),
    "DRA-22": lambda: world(taint_rule()),
}
