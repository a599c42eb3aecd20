"""Laws of devices and their claims. Rules DRA-5, DRA-8, DRA-12 to DRA-14, DRA-21, DRA-22,
DRA-25 (spec/devices.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action, Operate
from refk8s.core.api.resources import (
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    NODES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.ports import StartContainer
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.devices import (
    by_name,
    dra_5_one_claim_for_a_device,
    dra_8_has_its_devices,
    dra_12_settled,
    dra_13_reserved_while_it_runs,
    dra_13_settled,
    dra_14_settled,
    dra_21_settled,
    dra_22_settled,
    dra_25_devices_for_extended_resources,
)
from refk8s.core.store import Change


def one_claim_for_a_device(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DRA-5, for a write that allocates devices."""
    new = None if change.record is None else change.record.value
    old = None if change.previous is None else change.previous.value
    if new is None or new.status.allocation is None:
        return None
    if old is not None and old.status.allocation == new.status.allocation:
        return None
    return dra_5_one_claim_for_a_device(objects(after, RESOURCE_CLAIMS.prefix))


def bound_with_its_devices(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DRA-8, for a change that gave a pod a node."""
    new = None if change.record is None else change.record.value
    if new is None or not new.spec.node_name or not _has_claims(new):
        return None
    if change.previous is None or change.previous.value.spec.node_name:
        return None
    node = after.history.get(f"{NODES.prefix}{new.spec.node_name}")
    if node is None:
        return None
    claims = by_name(objects(after, RESOURCE_CLAIMS.prefix))
    return dra_8_has_its_devices(new, node.value, claims)


def _has_claims(pod: Any) -> bool:
    return bool(pod.spec.resource_claims or pod.status.extended_resource_claim_status)


def bound_with_devices_for_its_resources(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DRA-25, for a change that gave a pod a node."""
    new = None if change.record is None else change.record.value
    if new is None or not new.spec.node_name:
        return None
    if change.previous is None or change.previous.value.spec.node_name:
        return None
    classes = objects(after, DEVICE_CLASSES.prefix)
    node = after.history.get(f"{NODES.prefix}{new.spec.node_name}")
    if not classes or node is None:
        return None
    return dra_25_devices_for_extended_resources(new, node.value, classes)


def reserved_while_it_runs(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """DRA-13, for a change of a claim that is reserved for pods."""
    if change.record is None or change.previous is None:
        return None
    if not change.previous.value.status.reserved_for:
        return None
    pods = {pod.metadata.uid: pod for pod in objects(after, PODS.prefix)}
    return dra_13_reserved_while_it_runs(change.previous.value, change.record.value, pods)


def starts_with_its_devices(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """DRA-8: no container is started of a pod without its devices."""
    assert isinstance(action, Operate)
    operation = before.operations[action.operation].operation
    if not isinstance(operation, StartContainer):
        return None
    uid, node = operation.pod_uid, action.operation[0].removeprefix("kubelet/")
    there = after.history.get(f"{NODES.prefix}{node}")
    pods = [pod for pod in objects(after, PODS.prefix) if pod.metadata.uid == uid]
    if there is None or not pods or not _has_claims(pods[0]):
        return None
    claims = by_name(objects(after, RESOURCE_CLAIMS.prefix))
    return dra_8_has_its_devices(pods[0], there.value, claims)


def claims_are_made(cluster: Cluster) -> Iterable[str] | None:
    """DRA-12."""
    templates = by_name(objects(cluster, RESOURCE_CLAIM_TEMPLATES.prefix))
    if not templates:
        return None
    claims = by_name(objects(cluster, RESOURCE_CLAIMS.prefix))
    return list(dra_12_settled(objects(cluster, PODS.prefix), claims, templates))


def reservations_end(cluster: Cluster) -> Iterable[str] | None:
    """DRA-13."""
    claims = objects(cluster, RESOURCE_CLAIMS.prefix)
    return list(dra_13_settled(claims, objects(cluster, PODS.prefix))) if claims else None


def claims_go(cluster: Cluster) -> Iterable[str] | None:
    """DRA-14."""
    claims = objects(cluster, RESOURCE_CLAIMS.prefix)
    return list(dra_14_settled(claims, objects(cluster, PODS.prefix))) if claims else None


def tainted_devices_are_not_used(cluster: Cluster) -> Iterable[str] | None:
    """DRA-21."""
    claims = objects(cluster, RESOURCE_CLAIMS.prefix)
    if not claims:
        return None
    slices = objects(cluster, RESOURCE_SLICES.prefix)
    rules = objects(cluster, DEVICE_TAINT_RULES.prefix)
    return list(dra_21_settled(objects(cluster, PODS.prefix), claims, slices, rules))


def rules_are_reported(cluster: Cluster) -> Iterable[str] | None:
    """DRA-22."""
    rules = objects(cluster, DEVICE_TAINT_RULES.prefix)
    return list(dra_22_settled(rules)) if rules else None


OF_CHANGES = (
    Law("DRA-5", one_claim_for_a_device, RESOURCE_CLAIMS.prefix),
    Law("DRA-8", bound_with_its_devices, PODS.prefix),
    Law("DRA-13", reserved_while_it_runs, RESOURCE_CLAIMS.prefix),
    Law("DRA-25", bound_with_devices_for_its_resources, PODS.prefix),
)
OF_STEPS = (Law("DRA-8", starts_with_its_devices, actions=(Operate,)),)
OF_REST = (
    Law("DRA-12", claims_are_made),
    Law("DRA-13", reservations_end),
    Law("DRA-14", claims_go),
    Law("DRA-21", tainted_devices_are_not_used),
    Law("DRA-22", rules_are_reported),
)
