"""Namespaces, nodes, priority classes, leases, addresses of services. Rules VAL-13, VAL-25, VAL-26
(spec/validation.md).

Source: Kubernetes documentation, "Namespaces", "Nodes", "Pod Priority and Preemption", "Leases",
"Taints and Tolerations".
"""

from ipaddress import ip_address, ip_network

from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.core_v1 import Namespace, Node
from refk8s.core.api.networking_v1 import IPAddress, ServiceCIDR
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.apiserver.validation.field import (
    IMMUTABLE,
    NOT_NEGATIVE,
    POSITIVE,
    Causes,
    duplicate,
    forbidden,
    internal,
    invalid,
    malformed,
    not_supported,
    required,
    unchanged,
)
from refk8s.core.apiserver.validation.metadata import STANDARD_FINALIZERS
from refk8s.core.apiserver.validation.names import (
    dns_subdomain,
    is_cidr,
    parse_ip,
    path_segment,
    qualified_name,
)
from refk8s.core.apiserver.validation.resources import (
    WHOLE_RESOURCES,
    is_extended,
    validate_quantity,
    validate_resource_name,
)
from refk8s.core.apiserver.validation.scheduling import validate_taints

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_PRIORITIES = {
    "system-node-critical": 2_000_001_000,
    "system-cluster-critical": 2_000_000_000,
}
SYSTEM_PREFIX = "system-"
STRATEGIES = ("OldestEmulationVersion",)


def validate_namespace(namespace: Namespace) -> Causes:
    """VAL-25: finalizers in the spec are qualified names, or Kubernetes' own."""
    causes: Causes = []
    for finalizer in namespace.spec.finalizers or ():
        words = qualified_name(finalizer)
        causes += [invalid("spec.finalizers", finalizer, word) for word in words]
        if not words and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            causes.append(
                invalid(
                    "spec.finalizers",
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
    return causes


def validate_namespace_update(new: Namespace, old: Namespace) -> Causes:
    return validate_namespace(new) if new.spec != old.spec else []


def validate_namespace_status(new: Namespace, old: Namespace) -> Causes:
    """VAL-25: Terminating if and only if it is being deleted."""
    if new.metadata.deletion_timestamp is None:
        if new.status.phase != "Active":
            return [
                invalid(
                    "status.Phase",
                    new.status.phase,
                    "may only be 'Active' if `deletionTimestamp` is empty",
                )
            ]
    elif new.status.phase != "Terminating":
        return [
            invalid(
                "status.Phase",
                new.status.phase,
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            )
        ]
    return []


def validate_node(node: Node) -> Causes:
    """VAL-13, VAL-26. The path of a taint begins with metadata, as upstream's does."""
    causes: Causes = []
    if node.spec.taints:
        causes += validate_taints(node.spec.taints, "metadata.taints")
    causes += _validate_cidrs(node)
    return causes + _validate_amounts(node)


def _validate_cidrs(node: Node) -> Causes:
    cidrs = node.spec.pod_cidrs or ()
    causes: Causes = []
    for position, cidr in enumerate(cidrs):
        if not is_cidr(cidr):
            causes.append(
                invalid(
                    f"spec.podCIDRs[{position}]",
                    cidr,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                )
            )
        if cidr in cidrs[:position]:
            causes.append(duplicate(f"spec.podCIDRs[{position}]", cidr))
    if len(cidrs) > 1:
        causes += _validate_families(cidrs)
    return causes


def _validate_families(cidrs: tuple[str, ...]) -> Causes:
    """VAL-26: several ranges are one of each family."""
    at = "spec.podCIDRs"
    unreadable = next((cidr for cidr in cidrs if not is_cidr(cidr)), None)
    causes: Causes = []
    if unreadable is not None:
        words = "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR address"
        causes.append(internal(at, f"{words}: {unreadable}"))
    versions = [ip_network(cidr, strict=False).version for cidr in cidrs if is_cidr(cidr)]
    if sorted(versions) != [4, 6] or len(cidrs) > 2:
        words = "may specify no more than one CIDR for each IP family"
        causes.append(invalid(at, cidrs, words))
    return causes


def _validate_amounts(node: Node) -> Causes:
    causes: Causes = []
    for amounts, name in (
        (node.status.capacity, "capacity"),
        (node.status.allocatable, "allocatable"),
    ):
        for resource, text in (amounts or {}).items():
            here = f"status.{name}.{resource}"
            causes += validate_resource_name(resource, here)
            causes += validate_quantity(
                text, here, whole=resource in WHOLE_RESOURCES or is_extended(resource)
            )
    return causes


def validate_node_update(new: Node, old: Node) -> Causes:
    """VAL-26: `podCIDRs` and `providerID` are immutable once set."""
    causes: Causes = []
    if new.spec is old.spec:
        return causes
    if new.spec.taints and new.spec.taints != old.spec.taints:
        causes += validate_taints(new.spec.taints, "metadata.taints")
    if old.spec.pod_cidrs and new.spec.pod_cidrs != old.spec.pod_cidrs:
        causes.append(
            forbidden(
                "spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'
            )
        )
    elif new.spec.pod_cidrs != old.spec.pod_cidrs or new.spec.pod_cidr != old.spec.pod_cidr:
        causes += _validate_cidrs(new)
    if old.spec.provider_id and new.spec.provider_id != old.spec.provider_id:
        causes.append(
            forbidden(
                "spec.providerID", 'node updates may not change providerID except from "" to valid'
            )
        )
    return causes


def validate_node_status(new: Node, old: Node) -> Causes:
    same = (
        new.status.capacity == old.status.capacity
        and new.status.allocatable == old.status.allocatable
    )
    return [] if same else _validate_amounts(new)


def validate_priority_class(priority_class: PriorityClass) -> Causes:
    """VAL-26: names with the prefix `system-`, and the values above one billion, are reserved."""
    causes: Causes = []
    name, value = priority_class.metadata.name or "", priority_class.value or 0
    if name.startswith(SYSTEM_PREFIX):
        if SYSTEM_PRIORITIES.get(name) != value:
            words = (
                "priority class names with 'system-' prefix are reserved for system "
                "use only. error: "
            )
            causes.append(
                forbidden("metadata.name", f"{words}{name} is not a known system priority class")
            )
    elif value > HIGHEST_USER_PRIORITY:
        words = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        causes.append(forbidden("value", words))
    policy = priority_class.preemption_policy
    if policy is not None and policy not in ("PreemptLowerPriority", "Never"):
        causes.append(not_supported("preemptionPolicy", policy, ("PreemptLowerPriority", "Never")))
    return causes


def validate_priority_class_update(new: PriorityClass, old: PriorityClass) -> Causes:
    causes: Causes = []
    if (new.value or 0) != (old.value or 0):
        causes.append(forbidden("value", "may not be changed in an update."))
    return causes + unchanged("preemptionPolicy", new.preemption_policy, old.preemption_policy)


def validate_lease(lease: Lease) -> Causes:
    """VAL-26: a positive duration, and a number of transitions that is not negative."""
    spec = lease.spec
    causes: Causes = []
    if spec.lease_duration_seconds is not None and spec.lease_duration_seconds <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", spec.lease_duration_seconds, POSITIVE))
    if spec.lease_transitions is not None and spec.lease_transitions < 0:
        causes.append(invalid("spec.leaseTransitions", spec.lease_transitions, NOT_NEGATIVE))
    if spec.strategy is not None:
        if "/" not in spec.strategy and spec.strategy not in STRATEGIES:
            causes.append(not_supported("spec.strategy", spec.strategy, STRATEGIES))
    elif spec.preferred_holder:
        causes.append(
            forbidden("spec.preferredHolder", "may only be specified when `strategy` is defined")
        )
    return causes


def validate_lease_update(new: Lease, old: Lease) -> Causes:
    return [] if new.spec is old.spec else validate_lease(new)


def validate_ip_address(address: IPAddress) -> Causes:
    """VAL-26: the name is the canonical form of the address, and there is a parentRef."""
    causes: Causes = []
    name = address.metadata.name or ""
    parsed = parse_ip(name)
    if parsed is not None and str(parsed) != name:
        causes.append(invalid("metadata.name", name, "must be a canonical format IP address"))
    parent = address.spec.parent_ref
    if not parent.name and not parent.resource:
        causes.append(required("spec.parentRef"))
        return causes
    if parent.group:
        causes += malformed("spec.parentRef.group", parent.group, dns_subdomain)
    for text, part in ((parent.resource, "resource"), (parent.name, "name")):
        if not text:
            causes.append(required(f"spec.parentRef.{part}"))
        else:
            causes += malformed(f"spec.parentRef.{part}", text, path_segment)
    if parent.namespace:
        causes += malformed("spec.parentRef.namespace", parent.namespace, path_segment)
    return causes


def validate_ip_address_update(new: IPAddress, old: IPAddress) -> Causes:
    return unchanged("spec.parentRef", new.spec.parent_ref, old.spec.parent_ref)


def validate_service_cidr(service_cidr: ServiceCIDR) -> Causes:
    """VAL-26: at most one range of each family, without bits after its prefix."""
    cidrs = service_cidr.spec.cidrs or ()
    if not cidrs:
        return [required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid("spec.cidrs", {"CIDRs": list(cidrs)}, "may only hold up to 2 values")]
    causes: Causes = []
    for position, cidr in enumerate(cidrs):
        causes += validate_cidr(cidr, f"spec.cidrs[{position}]")
    versions = [ip_network(cidr, strict=False).version for cidr in cidrs if is_cidr(cidr)]
    if len(versions) == 2 and set(versions) != {4, 6}:
        words = (
            "may specify no more than one IP for each IP family, "
            "i.e 192.168.0.0/24 and 2001:db8::/64"
        )
        causes.append(invalid("spec.cidrs", cidrs, words))
    return causes


def validate_cidr(text: str, at: str) -> Causes:
    """A range in canonical form, without bits after its prefix, as upstream requires in new
    fields."""
    if not is_cidr(text):
        return [
            invalid(at, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
        ]
    network = str(ip_network(text, strict=False))
    if network == text:
        return []
    address = text.partition("/")[0]
    if ip_address(address) != ip_network(text, strict=False).network_address:
        return [invalid(at, text, "must not have bits set beyond the prefix length")]
    return [invalid(at, text, f'must be in canonical form ("{network}")')]


def validate_service_cidr_update(new: ServiceCIDR, old: ServiceCIDR) -> Causes:
    """VAL-26: ranges are immutable; one of the other family may be added."""
    before, after = old.spec.cidrs or (), new.spec.cidrs or ()
    if len(after) < len(before):
        return [invalid("spec.cidrs", after, IMMUTABLE)]
    causes: Causes = []
    for position, (was, is_) in enumerate(zip(before, after, strict=False)):
        causes += unchanged(f"spec.cidrs[{position}]", is_, was)
    return causes + (validate_service_cidr(new) if len(after) > len(before) else [])
