"""The records of metrics.k8s.io/v1beta1: what nodes and pods use at present. Rule STREAM-17
(spec/streams.md).

Source: Kubernetes documentation, "Resource metrics pipeline" (Metrics API); the types of
k8s.io/metrics v1beta1. The published definitions do not have this group.
"""

from collections.abc import Mapping

from refk8s.core.api.base import Record, constant, empty_tuple, field
from refk8s.core.api.meta_v1 import ListMeta, ListObject, Object, ObjectMeta

GROUP_VERSION = "metrics.k8s.io/v1beta1"


class ContainerMetrics(Record, frozen=True, kw_only=True):
    """`usage`: cpu in cores and memory in bytes, as quantities."""

    name: str = ""
    usage: Mapping[str, str] = field(default_factory=dict)


class NodeMetrics(Object, frozen=True, kw_only=True):
    """`timestamp`: the end of the `window` of time over which the use was measured."""

    kind: str = field(default_factory=constant("NodeMetrics"))
    api_version: str = field(default_factory=constant(GROUP_VERSION))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    timestamp: str = ""
    window: str = ""
    usage: Mapping[str, str] = field(default_factory=dict)


class NodeMetricsList(ListObject, frozen=True, kw_only=True):
    kind: str = field(default_factory=constant("NodeMetricsList"))
    api_version: str = field(default_factory=constant(GROUP_VERSION))
    metadata: ListMeta = field(default_factory=ListMeta)
    items: tuple[NodeMetrics, ...] = field(default_factory=empty_tuple)


class PodMetrics(Object, frozen=True, kw_only=True):
    kind: str = field(default_factory=constant("PodMetrics"))
    api_version: str = field(default_factory=constant(GROUP_VERSION))
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    timestamp: str = ""
    window: str = ""
    containers: tuple[ContainerMetrics, ...] = field(default_factory=empty_tuple)


class PodMetricsList(ListObject, frozen=True, kw_only=True):
    kind: str = field(default_factory=constant("PodMetricsList"))
    api_version: str = field(default_factory=constant(GROUP_VERSION))
    metadata: ListMeta = field(default_factory=ListMeta)
    items: tuple[PodMetrics, ...] = field(default_factory=empty_tuple)
