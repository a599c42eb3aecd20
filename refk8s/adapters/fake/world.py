"""A simulated container runtime as a value: sandboxes, containers and images of one node.

`carry_out` does one operation, `advance` lets time pass, `next_change` says when something will
happen by itself. Nothing is changed in place, so a simulator can fork and a test can look back.
Containers run their command if it is simulated (spec/shell.md). Otherwise they run on, or end after
a moment if a container of this kind is expected to end (SHELL-6).

Environment variables of a container control the rest:

    FAKE_STOP_SECONDS      from SIGTERM to its end (at the latest SIGKILL, after the grace period)
    FAKE_EXIT_CODE         its exit code after SIGTERM (default: 143)
    FAKE_START_SECONDS     the duration of its start
    FAKE_START_ERROR       the message with which its start fails
    FAKE_READY_SECONDS     how long its probes fail after its start
    FAKE_HEALTHY_SECONDS   after which time its probes fail
    FAKE_HOOK_SECONDS      the duration of its hooks

Images with `missing` as a word of their name (example.invalid/missing:1) cannot be pulled. `Faults`
has the failures that a simulator injects.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.adapters.fake.faults import (
    DISTURBANCES,
    break_image,
    crash_container,
    crash_node,
    crash_sandbox,
    set_faults,
)
from refk8s.adapters.fake.operations import OPERATIONS
from refk8s.adapters.fake.state import KILLED, NEVER, NO_POD, Fake, Faults, Pod, State, end
from refk8s.core.context import Chance, Instant
from refk8s.core.ports import Failed, Later, NodeDescribed, Operation, Result

Carried = tuple["World", Result | Later]
Changed = tuple["World", tuple[str, ...]]


class World(State, frozen=True):
    """The runtime of one node."""

    def carry_out(self, operation: Operation, now: Instant, chance: Chance) -> Carried:
        """The runtime after the operation, and its result. `Later`: the operation takes until then,
        and is to be carried out again. O(log n); listing is O(listed)."""
        if self.faults.down:
            return self, Failed("RuntimeUnavailable", self.faults.down)
        carried: Carried = OPERATIONS[type(operation)](self, operation, now, chance)
        return carried

    def advance(self, now: Instant) -> Changed:
        """The runtime at this instant, and the uids of the pods whose containers ended since."""
        if self.next_end > now:
            return self, ()
        changed: set[str] = set()
        ended: list[str] = []
        rest = NEVER
        for id, at in self.ends.items():
            if at <= now:
                ended.append(id)
            else:
                rest = min(rest, at)
        world = replace(self, next_end=rest)
        for id in sorted(ended):
            fake = world.containers[id]
            changed.add(fake.status.pod_uid)
            world = end(world, fake, fake.exit_code, fake.ends_at)
        return world, tuple(sorted(changed))

    def next_change(self) -> Instant | None:
        """The earliest instant at which something happens by itself."""
        return self.next_end if self.next_end != NEVER else None

    def disturb(self, what: str, which: str, now: Instant) -> Changed:
        """Inject one of the faults of `DISTURBANCES`, by name. `which`: an image, or the index of a
        container among the running ones."""
        changed: Any = DISTURBANCES[what](self, which, now)
        world, uids = changed
        return world, uids


def make_world(
    name: str,
    index: int = 0,
    cpu_milli: int = 4_000,
    memory_bytes: int = 32 << 30,
    pods: int = 110,
    **more: Any,
) -> World:
    """The runtime of a simulated node; `index` (below 65,536) gives it addresses of its own."""
    high, low = divmod(index, 256)
    node = NodeDescribed(
        hostname=name,
        internal_ip=f"192.168.{high}.{low + 1}" if low < 254 else f"192.169.{high}.{low - 253}",
        cpu_milli=cpu_milli,
        memory_bytes=memory_bytes,
        ephemeral_storage_bytes=100 << 30,
        pods=pods,
        architecture="amd64",
        operating_system="linux",
        os_image="refk8s fake node",
        kernel_version="0.0.0-fake",
        container_runtime_version="fake://1.0",
        machine_id=name,
        system_uuid=name,
        boot_id=name,
        security_modules=("apparmor", "seccomp", "selinux"),
    )
    return World(node=node, pod_network=f"10.{(244 + high) % 256}.{low}", **more)


__all__ = [
    "KILLED", "NEVER", "NO_POD", "Fake", "Faults", "Pod", "World", "break_image", "crash_container", "crash_node", "crash_sandbox",
    "make_world", "set_faults",
]  # fmt: skip
