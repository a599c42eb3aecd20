"""One decision about one pod in the making: the draft that the steps of `sync_pod` and `lifecycle`
write into.

A draft never outlives the decision. `Facts` is what a decision may know besides the pod and the
memory of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod, Service
from refk8s.core.context import SECONDS_MAX, Instant
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import NEVER, ContainerMemory, Note, PodMemory
from refk8s.core.kubelet.objects import Library
from refk8s.core.pods.containers import field_path
from refk8s.core.ports import NodeDescribed, Operation
from refk8s.core.value import Value

GRACE_SECONDS_DEFAULT = 30
GRACE_SECONDS_MIN = 1


class Facts(Value, frozen=True):
    """The node's side of a decision. `services(namespace, linked)` are those that a pod's
    environment names."""

    config: KubeletConfig
    node: NodeDescribed
    services: Callable[[str, bool], Sequence[Service]] = lambda namespace, linked: ()


class Sync:
    """The draft: memory so far, operations to run, the next instant to look again. `library` has
    the objects that pods need."""

    __slots__ = ("facts", "library", "memory", "now", "operations", "pod", "wake_at")

    def __init__(
        self, facts: Facts, pod: Pod | None, memory: PodMemory, library: Library, now: Instant
    ) -> None:
        self.library = library
        self.facts = facts
        self.pod = pod
        self.memory = memory
        self.now = now
        self.operations: list[Operation] = []
        self.wake_at: Instant | None = None

    def wake(self, at: Instant) -> None:
        """Look again at this instant, if not earlier."""
        if at < NEVER and (self.wake_at is None or at < self.wake_at):
            self.wake_at = at

    def remember(self, **changes: Any) -> None:
        self.memory = replace(self.memory, **changes)

    def set_container(self, name: str, container: ContainerMemory) -> None:
        self.memory = self.memory.with_container(name, container)

    def note(
        self, reason: str, message: str, type: str = "Normal", container: Container | None = None
    ) -> None:
        path = ""
        if container is not None and self.pod is not None:
            path = field_path(self.pod.spec, container.name)
        self.memory = replace(
            self.memory, notes=(*self.memory.notes, Note(reason, message, type, path))
        )


def bounded_grace(seconds: int | None) -> int:
    """A grace period of an object as a runtime takes it: GRACE_SECONDS_DEFAULT where there is none,
    from one second to SECONDS_MAX."""
    return min(
        max(GRACE_SECONDS_DEFAULT if seconds is None else seconds, GRACE_SECONDS_MIN), SECONDS_MAX
    )
