"""The summary of a kubelet at `/stats/summary`: written by the kubelet, read by the API server.
Rule STREAM-17.

Source: Kubernetes documentation, "Node metrics data" (Summary API); the types of
k8s.io/kubelet stats/v1alpha1, of which these are the fields for processor and memory.
"""

from msgspec import Struct

from refk8s.core.context import Instant, micro_timestamp


class Cpu(Struct, frozen=True, rename="camel"):
    time: str = ""
    usage_nano_cores: int = 0
    usage_core_nano_seconds: int = 0


class Memory(Struct, frozen=True, rename="camel"):
    time: str = ""
    working_set_bytes: int = 0


class ContainerStats(Struct, frozen=True, rename="camel"):
    name: str
    cpu: Cpu
    memory: Memory
    start_time: str = ""


class PodReference(Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    uid: str = ""


class PodStats(Struct, frozen=True, rename="camel"):
    pod_ref: PodReference
    containers: tuple[ContainerStats, ...] = ()


class NodeStats(Struct, frozen=True, rename="camel"):
    node_name: str
    cpu: Cpu
    memory: Memory


class Summary(Struct, frozen=True, rename="camel"):
    """A node and its pods. `window_seconds` is ours: the time over which the rates were
    measured."""

    node: NodeStats
    pods: tuple[PodStats, ...] = ()
    window_seconds: float = 0.0


def stamp_of(at: Instant) -> str:
    """An instant as the summary has it."""
    return micro_timestamp(at)
