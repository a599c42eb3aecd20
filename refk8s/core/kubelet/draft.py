"""The draft of one reconcile of a pod, which the steps of `sync_pod` and `lifecycle` fill.

A draft is discarded at the end of the reconcile. `Facts` has the inputs besides the pod and its
memory.
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
    """The inputs from the node. `services(namespace, linked)` are those of a pod's environment."""

    config: KubeletConfig
    node: NodeDescribed
    services: Callable[[str, bool], Sequence[Service]] = lambda namespace, linked: ()


class Draft:
    """The draft: the new memory, the operations to run, and the time of the next reconcile.

    `library` has the objects that pods need.
    """

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
        """Reconcile again at this instant, or earlier."""
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
        self.memory = self.memory.with_notes(Note(reason, message, type, path))


def bounded_grace(seconds: int | None) -> int:
    """A grace period of an object, bounded for the runtime: from one second to SECONDS_MAX. Without
    one it is GRACE_SECONDS_DEFAULT."""
    return min(
        max(GRACE_SECONDS_DEFAULT if seconds is None else seconds, GRACE_SECONDS_MIN), SECONDS_MAX
    )
