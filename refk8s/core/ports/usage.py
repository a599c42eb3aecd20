"""What a node and its containers have used, as a runtime measures it (STREAM-17)."""

from refk8s.core.context import Instant
from refk8s.core.value import Value


class ContainerUsage(Value, frozen=True):
    """One running container. `cpu_nanoseconds` is the processor time since its start;
    `cpu_nanocores` is the present rate, if the runtime knows it (-1: it does not). `memory_bytes`
    is the working set."""

    pod_uid: str
    name: str
    started_at: Instant = 0
    cpu_nanoseconds: int = 0
    memory_bytes: int = 0
    cpu_nanocores: int = -1


class Usage(Value, frozen=True):
    """A node at one instant, with its containers."""

    at: Instant
    cpu_nanoseconds: int
    memory_bytes: int
    containers: tuple[ContainerUsage, ...] = ()
    cpu_nanocores: int = -1
