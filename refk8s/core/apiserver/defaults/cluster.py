"""Defaults of namespaces, nodes, limit ranges and priority classes. Rules DEF-14, DEF-15
(spec/defaults.md).

Source: Kubernetes documentation, "Namespaces", "Limit Ranges", "Pod Priority and Preemption"; API
reference, "Node".
"""

from msgspec.structs import replace

from refk8s.core.api.core_v1 import LimitRange, LimitRangeItem, Namespace, Node
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.apiserver.defaults.resources import default_resource_list

NAME_LABEL = "kubernetes.io/metadata.name"


def default_namespace(namespace: Namespace) -> Namespace:
    """DEF-14: phase Active, and its name as a label."""
    metadata, status = namespace.metadata, namespace.status
    if metadata.name and (metadata.labels or {}).get(NAME_LABEL) != metadata.name:
        metadata = replace(metadata, labels={**(metadata.labels or {}), NAME_LABEL: metadata.name})
    if not status.phase:
        status = replace(status, phase="Active")
    if metadata is namespace.metadata and status is namespace.status:
        return namespace
    return replace(namespace, metadata=metadata, status=status)


def default_node(node: Node) -> Node:
    """DEF-15: allocatable is the capacity, and podCIDR and the first of podCIDRs default to each
    other. If they differ, podCIDR counts."""
    spec, status = node.spec, node.status
    cidrs = spec.pod_cidrs or ()
    if spec.pod_cidr and (not cidrs or cidrs[0] != spec.pod_cidr):
        node = replace(node, spec=replace(spec, pod_cidrs=(spec.pod_cidr,)))
    elif cidrs and cidrs[0] and not spec.pod_cidr:
        node = replace(node, spec=replace(spec, pod_cidr=cidrs[0]))
    capacity, allocatable = status.capacity, status.allocatable
    if capacity:
        capacity = default_resource_list(capacity)
    if allocatable:
        allocatable = default_resource_list(allocatable)
    elif allocatable is None and capacity is not None:
        allocatable = capacity
    if capacity is status.capacity and allocatable is status.allocatable:
        return node
    return replace(node, status=replace(status, capacity=capacity, allocatable=allocatable))


def default_limit_range(limit_range: LimitRange) -> LimitRange:
    limits = tuple([_default_limit(item) for item in limit_range.spec.limits])
    if limits == limit_range.spec.limits:
        return limit_range
    return replace(limit_range, spec=replace(limit_range.spec, limits=limits))


def _default_limit(item: LimitRangeItem) -> LimitRangeItem:
    """DEF-15: for containers, the default limit is the maximum, and the default request is the
    default limit, else the minimum."""
    if item.type != "Container":
        return item
    default = {**(item.max or {}), **(item.default or {})}
    request = {**(item.min or {}), **default, **(item.default_request or {})}
    return replace(
        item, default=default or item.default, default_request=request or item.default_request
    )


def default_priority_class(priority_class: PriorityClass) -> PriorityClass:
    """DEF-15: it may preempt pods of lower priority."""
    if priority_class.preemption_policy:
        return priority_class
    return replace(priority_class, preemption_policy="PreemptLowerPriority")
