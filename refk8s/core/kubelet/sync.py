"""One decision about one pod in the making: the draft that the steps of `sync_pod` and `lifecycle` write into.

A draft never outlives the decision. `Facts` is what a decision may know besides the pod and the memory of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod, Service
from refk8s.core.context import Instant
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import ContainerMemory, Note, PodMemory
from refk8s.core.ports import NodeDescribed, Operation


@frozen
class Facts:
    """The node's side of a decision. `objects` are the config maps, secrets and tokens fetched so far (None: there is none)."""

    config: KubeletConfig
    node: NodeDescribed
    objects: Mapping[str, Any]
    services: Sequence[Service] = ()


class Sync:
    """The draft: memory so far, operations to run, notes to tell, the next instant to look again, objects that are needed."""

    __slots__ = ("facts", "memory", "needed", "now", "operations", "pod", "wake_at")

    def __init__(self, facts: Facts, pod: Pod | None, memory: PodMemory, now: Instant) -> None:
        self.facts = facts
        self.pod = pod
        self.memory = memory
        self.now = now
        self.operations: list[Operation] = []
        self.needed: list[str] = []
        self.wake_at: Instant | None = None

    def wake(self, at: Instant) -> None:
        """Look again at this instant, if not earlier."""
        if self.wake_at is None or at < self.wake_at:
            self.wake_at = at

    def remember(self, **changes: Any) -> None:
        self.memory = replace(self.memory, **changes)

    def set_container(self, name: str, container: ContainerMemory) -> None:
        self.memory = self.memory.with_container(name, container)

    def note(self, reason: str, message: str, type: str = "Normal", container: Container | None = None) -> None:
        path = ""
        if container is not None and self.pod is not None:
            inits = self.pod.spec.init_containers
            path = f"spec.{'initContainers' if inits and container in inits else 'containers'}{{{container.name}}}"
        self.memory = replace(self.memory, notes=(*self.memory.notes, Note(reason, message, type, path)))


def regular_init(pod: Pod) -> list[Container]:
    """The init containers that run to their end, in order."""
    return [container for container in pod.spec.init_containers or () if container.restart_policy != "Always"]


def is_sidecar(container: Container) -> bool:
    """An init container that keeps running: restartPolicy Always."""
    return container.restart_policy == "Always"


def all_containers(pod: Pod) -> list[Container]:
    """Init containers, then the others, in order."""
    return [*(pod.spec.init_containers or ()), *pod.spec.containers]
