"""The status of a pod. Rule VAL-18 (spec/validation.md).

Source: Kubernetes API reference, "PodStatus"; documentation, "Pod Lifecycle". Left out: the health
of devices (D-71).
"""

from typing import Final

from refk8s.core.api.core_v1 import (
    ContainerStatus,
    Pod,
    PodCondition,
    PodResourceClaimStatus,
    PodSpec,
    PodStatus,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_subdomain, parse_ip, qualified_name
from refk8s.core.apiserver.validation.pod_annotations import validate_pod_annotations_update
from refk8s.core.apiserver.validation.ports import validate_address

_STAYS_TERMINATED = "may not be transitioned to non-terminated state"
_ONE_OF_EACH_FAMILY = "may specify no more than one IP for each IP family"
_NOT_AN_ID = "must be between 0 and 2147483647, inclusive"
_ID_MAX: Final = 2**31 - 1
_WELL_FORMED: Final = frozenset((
    "ContainersReady", "DisruptionTarget", "Initialized", "PodReadyToStartContainers", "PodScheduled",
    "Ready",
))  # fmt: skip
"""Types of conditions that need no check: every write of a kubelet has them."""


def validate_pod_status_update(new: Pod, old: Pod) -> Causes:
    """VAL-18: `nodeName` and the QoS class are immutable; terminated containers that are not
    restarted stay terminated; conditions, addresses, claims and users are valid."""
    status, before = new.status, old.status
    causes: Causes = []
    annotations, had = new.metadata.annotations or {}, old.metadata.annotations or {}
    if annotations != had:
        causes += validate_pod_annotations_update(
            annotations, had, new.spec, "metadata.annotations"
        )
    causes += _validate_conditions(status.conditions or ())
    if new.spec.node_name != old.spec.node_name:
        causes.append(forbidden("status.nodeName", "may not be changed directly"))
    nominated = status.nominated_node_name
    if nominated and nominated != before.nominated_node_name:
        causes += malformed("status.nominatedNodeName", nominated, dns_subdomain)
    causes += unchanged("status.qosClass", status.qos_class or "", before.qos_class or "")
    causes += _validate_transitions(status, before, old.spec)
    if status.resource_claim_statuses:
        causes += _validate_claims(status.resource_claim_statuses, new.spec)
    causes += _validate_addresses(status)
    for statuses, at in (
        (status.container_statuses, "status.containerStatuses"),
        (status.init_container_statuses, "status.initContainerStatuses"),
        (status.ephemeral_container_statuses, "status.ephemeralContainerStatuses"),
    ):
        if statuses:
            causes += _validate_users(statuses, new.spec, at)
    return causes


def _validate_conditions(conditions: tuple[PodCondition, ...]) -> Causes:
    """The types of other components' conditions are qualified names. The path is upstream's."""
    causes: Causes = []
    for position, condition in enumerate(conditions):
        if condition.type not in _WELL_FORMED:
            at = f"metadata.conditions[{position}].Type"
            causes += malformed(at, condition.type, qualified_name)
    return causes


def _validate_transitions(status: PodStatus, before: PodStatus, spec: PodSpec) -> Causes:
    """Sidecars may always restart, and ephemeral containers never."""
    policy = spec.restart_policy or "Always"
    causes: Causes = []
    if policy != "Always":
        after, at = status.container_statuses or (), "status.containerStatuses"
        causes += _validate_ended(after, before.container_statuses or (), policy, at)
        sidecars = {one.name for one in spec.init_containers or () if one.restart_policy}
        after, at = status.init_container_statuses or (), "status.initContainerStatuses"
        ended = before.init_container_statuses or ()
        causes += _validate_ended(after, ended, policy, at, sidecars)
    ended = before.ephemeral_container_statuses or ()
    if ended:
        after, at = status.ephemeral_container_statuses or (), "status.ephemeralContainerStatuses"
        causes += _validate_ended(after, ended, "Never", at)
    return causes


def _validate_ended(
    after: tuple[ContainerStatus, ...],
    before: tuple[ContainerStatus, ...],
    policy: str,
    at: str,
    exempt: set[str] | frozenset[str] = frozenset(),
) -> Causes:
    """The position in a path is that of the earlier status, as upstream has it."""
    causes: Causes = []
    running = {one.name for one in after if one.state.terminated is None} - exempt
    for position, one in enumerate(before):
        end = one.state.terminated
        if end is None or (end.exit_code and policy == "OnFailure"):
            continue
        if one.name in running:
            causes.append(forbidden(f"{at}[{position}].state", _STAYS_TERMINATED))
    return causes


def _validate_claims(statuses: tuple[PodResourceClaimStatus, ...], spec: PodSpec) -> Causes:
    known = {claim.name for claim in spec.resource_claims or ()}
    causes: Causes = []
    seen: set[str] = set()
    for position, one in enumerate(statuses):
        at = f"status.resourceClaimStatuses[{position}].name"
        if one.name not in known:
            words = "must match the name of an entry in `spec.resourceClaims`"
            causes.append(invalid(at, one.name, words))
        if one.name in seen:
            causes.append(duplicate(at, one.name))
        seen.add(one.name)
        if one.resource_claim_name is not None:
            causes += malformed(at, one.resource_claim_name, dns_subdomain)
    return causes


def _validate_addresses(status: PodStatus) -> Causes:
    addresses = [one.ip for one in status.pod_ips or ()]
    causes = _validate_family(addresses, "status.podIPs")
    hosts = [one.ip for one in status.host_ips or ()]
    if hosts and (status.host_ip or "") != hosts[0]:
        causes.append(invalid("status.hostIPs[0].ip", hosts[0], "must be equal to `hostIP`"))
    return causes + _validate_family(hosts, "status.hostIPs")


def _validate_family(addresses: list[str], at: str) -> Causes:
    """Addresses, at most one of each family."""
    causes: Causes = []
    for position, address in enumerate(addresses):
        causes += validate_address(address, f"{at}[{position}]")
    if len(addresses) > 1:
        found = [parse_ip(address) for address in addresses]
        if sorted(one.version for one in found if one is not None) != [4, 6]:
            causes.append(invalid(at, addresses, _ONE_OF_EACH_FAMILY))
        seen: set[str] = set()
        for position, address in enumerate(addresses):
            if address in seen:
                causes.append(duplicate(f"{at}[{position}]", {"ip": address}))
            seen.add(address)
    return causes


def _validate_users(statuses: tuple[ContainerStatus, ...], spec: PodSpec, at: str) -> Causes:
    is_windows = spec.os is not None and spec.os.name == "windows"
    causes: Causes = []
    for position, status in enumerate(statuses):
        user = status.user.linux if status.user is not None else None
        if user is None:
            continue
        where = f"{at}[{position}].linux"
        if is_windows:
            causes.append(forbidden(where, "cannot be set for a windows pod"))
            continue
        numbers = [(user.uid, f"{where}.uid"), (user.gid, f"{where}.gid")]
        numbers += [
            (group, f"{where}.supplementalGroups[{place}]")
            for place, group in enumerate(user.supplemental_groups or ())
        ]
        causes += [
            invalid(path, number, _NOT_AN_ID)
            for number, path in numbers
            if not 0 <= number <= _ID_MAX
        ]
    return causes
