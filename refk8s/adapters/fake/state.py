"""The state of a simulated node as one value: sandboxes, containers, images and volumes; and the
functions that change it.

Nothing is changed in place, so a simulator can fork and a test can look back.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import TypeVar

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from refk8s.adapters.fake.course import Change, Disks, Scene, given, outputs
from refk8s.adapters.fake.files import NO_DISK, ROOT, Disk, Entry, FileProblem, Files
from refk8s.core.context import SECOND, Instant
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerStatus,
    Later,
    NodeDescribed,
    Result,
    SandboxStatus,
    WriteVolume,
)
from refk8s.core.value import evolve

NEVER: Instant = 1 << 62
KILLED, TERMINATED = 137, 143
IMAGE_BYTES = 1_000_000
IMAGE_USER = "65532"
"""The user of every simulated image: not root, so that pods with runAsNonRoot run."""
MESSAGE_BYTES_MAX = 4096
LOG_LINES_MAX, LOG_BYTES_MAX, LOG_BYTES_KEPT = 80, 2048, 1 << 16


class Fake(Struct, frozen=True, gc=False):
    """One simulated container: its status, its configuration, and its future course."""

    status: ContainerStatus
    config: ContainerConfig
    ends_at: Instant = NEVER  # by itself, or because it was stopped
    disk: Disk = NO_DISK  # its own disk: what it wrote outside its volumes
    changes: tuple[Change, ...] = ()  # what its program will write
    start: Scene | None = (
        None  # the environment in which its program started; its output is computed from this
    )
    exit_code: int = 0
    starts_at: Instant = 0  # of a container that starts slowly: when it runs


class Pod(Struct, frozen=True, gc=False):
    """One pod on the node."""

    sandboxes: tuple[SandboxStatus, ...] = ()
    containers: tuple[str, ...] = ()
    volumes: Map[str, WriteVolume] = Map()
    disks: Disks = Map()  # what was written into its volumes
    hostname: str = ""


NO_POD = Pod()


class Faults(Struct, frozen=True):
    """The injected failures: images that cannot be pulled (name -> message), sandboxes and
    containers that cannot be created, a runtime that does not answer."""

    images: Map[str, str] = Map()
    sandbox_error: str = ""
    create_error: str = ""
    start_error: str = ""
    stop_error: str = ""
    down: str = ""


class State(Struct, frozen=True):
    """The runtime of one node; `World` adds its operations."""

    node: NodeDescribed
    # the first three numbers of its pods' addresses of IPv4; empty without that family
    pod_network: str = "10.244.0"
    # the address of its pods' network of IPv6; empty without that family
    pod_network6: str = ""
    last_address: int = 1  # .1 is the node's own
    pods: Map[str, Pod] = Map()
    containers: Map[str, Fake] = Map()
    images: Map[str, str] = Map()  # name -> id
    addresses: Map[int, str] = Map()  # in use -> pod uid
    ends: Map[str, Instant] = Map()  # containers that will end by themselves
    next_end: Instant = NEVER  # at or before the earliest of these
    pull_time: Instant = 0
    pulls: Map[str, Instant] = Map()  # in progress -> when done
    start_time: Instant = 0  # how long every container takes to start
    started: int = 0  # containers ever started, for tests
    faults: Faults = Faults()

    def running(self) -> list[ContainerStatus]:
        """The running containers by id."""
        return [
            self.containers[id].status
            for id in sorted(self.containers)
            if self.containers[id].status.state == RUNNING
        ]


S = TypeVar("S", bound=State)
"""The state itself, or a World."""
Carried = tuple[S, Result | Later]
Changed = tuple[S, tuple[str, ...]]


def set_pod(world: S, uid: str, pod: Pod) -> S:
    return replace(world, pods=world.pods.set(uid, pod))


def forget(world: S, id: str) -> S:
    world = replace(world, containers=world.containers.delete(id))
    return replace(world, ends=world.ends.delete(id)) if id in world.ends else world


def end(world: S, fake: Fake, exit_code: int, at: Instant) -> S:
    if fake.changes or fake.start is not None:
        world = settle(world, fake.status.pod_uid, at)
        fake = replace(world.containers[fake.status.id], changes=())
    status = evolve(fake.status, state=EXITED, exit_code=exit_code, finished_at=at)
    if fake.disk is not NO_DISK or (exit_code and fake.config.termination_message_from_log):
        status = evolve(status, message=_message(world, fake) or _end_of_log(fake, exit_code, at))
    world = replace(world, containers=world.containers.set(status.id, replace(fake, status=status)))
    return replace(world, ends=world.ends.delete(status.id)) if status.id in world.ends else world


def end_at(world: S, fake: Fake, at: Instant, exit_code: int) -> S:
    fake = replace(fake, ends_at=at, exit_code=exit_code)
    containers = world.containers.set(fake.status.id, fake)
    return replace(
        world,
        containers=containers,
        ends=world.ends.set(fake.status.id, at),
        next_end=min(world.next_end, at),
    )


def free_addresses(world: S, sandboxes: tuple[SandboxStatus, ...]) -> S:
    addresses = world.addresses
    for sandbox in sandboxes:
        for ip in sandbox.ips:
            number = _number(world, ip)
            if number in addresses:
                addresses = addresses.delete(number)
    return replace(world, addresses=addresses)


def _number(world: State, ip: str) -> int:
    """The number of an address of this node's pods, the same in both families; 0 if it is none."""
    if ":" in ip:
        first = int(IPv6Address(world.pod_network6)) if world.pod_network6 else 0
        return max(int(IPv6Address(ip)) - first, 0) if first else 0
    network, _, number = ip.rpartition(".")
    return int(number) if network and network == world.pod_network else 0


def scripted(fake: Fake, name: str) -> str:
    for variable, value in fake.config.env:
        if variable == name:
            return value
    return ""


def seconds(fake: Fake, name: str) -> Instant:
    try:
        return int(float(scripted(fake, name) or "0") * SECOND)
    except ValueError:
        return 0


# --- files ----------------------------------------------------------------------------------------


def scene(world: State, fake: Fake) -> Scene:
    """The present environment of a program in this container."""
    pod = world.pods.get(fake.status.pod_uid, NO_POD)
    return Scene(
        fake.config,
        pod.hostname or fake.config.pod_name,
        pod.volumes,
        pod.disks.set(ROOT, fake.disk),
    )


def settle(world: S, pod_uid: str, now: Instant) -> S:
    """The state with everything that the programs of this pod have written until now."""
    pod = world.pods.get(pod_uid, NO_POD)
    writers = [world.containers[id] for id in pod.containers if world.containers[id].changes]
    due = sorted(
        [
            (change.at, fake.status.id, n)
            for fake in writers
            for n, change in enumerate(fake.changes)
            if change.at <= now
        ]
    )
    if not due:
        return world
    for _, id, number in due:
        change = world.containers[id].changes[number]
        world = write(world, id, change.disk, change.path, change.entry)
    for fake in writers:
        rest = tuple([change for change in fake.changes if change.at > now])
        kept = replace(world.containers[fake.status.id], changes=rest)
        world = replace(world, containers=world.containers.set(fake.status.id, kept))
    return world


def write(world: S, id: str, disk: str, path: str, entry: Entry) -> S:
    """Write an entry to the own disk of a container or to a volume. Raises FileProblem if it is
    full."""
    fake = world.containers[id]
    if disk == ROOT:
        return replace(
            world,
            containers=world.containers.set(id, replace(fake, disk=fake.disk.put(path, entry))),
        )
    pod = world.pods.get(fake.status.pod_uid, NO_POD)
    disks = pod.disks.set(disk, pod.disks.get(disk, NO_DISK).put(path, entry))
    return set_pod(world, fake.status.pod_uid, replace(pod, disks=disks))


class _Still:
    """Disks for reading only."""

    def __init__(self, seen: Scene) -> None:
        self._seen = seen

    def disk(self, name: str) -> Disk:
        return self._seen.disks.get(name, NO_DISK)

    def put(self, name: str, path: str, entry: Entry) -> None:
        raise FileProblem("Read-only file system")

    def given(self, name: str) -> Mapping[str, Entry]:
        return given(self._seen, name)


def _message(world: State, fake: Fake) -> str:
    """The termination message that the container wrote (RT-16)."""
    path = fake.config.termination_message_path
    try:
        data = Files(_Still(scene(world, fake)), fake.config.mounts).read(path) if path else b""
    except FileProblem:
        return ""
    return data[:MESSAGE_BYTES_MAX].decode("utf-8", "replace")


def _end_of_log(fake: Fake, exit_code: int, until: Instant) -> str:
    """The last lines of the log of a container that failed without a message of its own
    (RT-16)."""
    if not exit_code or not fake.config.termination_message_from_log or fake.start is None:
        return ""
    output = b""
    for at, _, data in outputs(fake.start, fake.status.started_at):
        if at > until:
            break
        output = (output + data)[-LOG_BYTES_KEPT:]
    lines = output.splitlines(True)[-LOG_LINES_MAX:]
    return b"".join(lines)[-LOG_BYTES_MAX:].decode("utf-8", "replace")
