"""A simulated container runtime as a value: sandboxes, containers and images of one node.

`carry_out` does one operation, `advance` lets time pass, `next_change` says when something will happen by itself. Nothing is changed in
place, so a simulator can fork and a test can look back. Containers do what their command says, if it is one of these; else they run on:

    true · false · exit N · sleep N · sh -c "sleep N; exit M"       (also with a path: /bin/sleep; and several joined by ; or &&)

Environment variables of a container script the rest (each a number of seconds, or a word):

    FAKE_STOP_SECONDS      it takes so long to end after SIGTERM (SIGKILL comes when the grace period is over)
    FAKE_EXIT_CODE         with what it ends after SIGTERM (else 143)
    FAKE_START_SECONDS     so long it takes to start
    FAKE_START_ERROR       it cannot start, and says so
    FAKE_READY_SECONDS     its probes fail for so long after its start
    FAKE_HEALTHY_SECONDS   its probes fail after so long
    FAKE_HOOK_SECONDS      so long its hooks take

Images with `missing` as a word of their name (example.invalid/missing:1) cannot be pulled. `Faults` has what a simulator breaks by force.
"""

import re
from collections.abc import Callable
from typing import Any

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from refk8s.core.context import SECOND, Chance, Instant
from refk8s.core.ports import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerCreated,
    ContainerStatus,
    CreateContainer,
    DescribeNode,
    Done,
    Failed,
    ImagePulled,
    Later,
    ListPods,
    NodeDescribed,
    Operation,
    PodsListed,
    Probe,
    Probed,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    Result,
    RunHook,
    RunPodSandbox,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    WriteVolume,
)
from refk8s.core.value import evolve

NEVER: Instant = 1 << 62
KILLED, TERMINATED = 137, 143
IMAGE_BYTES = 1_000_000
IMAGE_USER = "65532"
"""The user of every simulated image: not root, so that pods with runAsNonRoot run."""
Carried = tuple["World", Result | Later]
Changed = tuple["World", tuple[str, ...]]


class Fake(Struct, frozen=True):
    """One simulated container: what it is, what it was made from, and what will happen to it."""

    status: ContainerStatus
    config: ContainerConfig
    ends_at: Instant = NEVER  # by itself, or because it was told to
    exit_code: int = 0
    starts_at: Instant = 0  # for one that starts slowly: when it is up


class Pod(Struct, frozen=True):
    """What the node has of one pod."""

    sandboxes: tuple[SandboxStatus, ...] = ()
    containers: tuple[str, ...] = ()
    volumes: Map[str, WriteVolume] = Map()


NO_POD = Pod()


class Faults(Struct, frozen=True):
    """What is broken: images that cannot be had (by name, with the message), sandboxes and creations that fail, a runtime that is down."""

    images: Map[str, str] = Map()
    sandbox_error: str = ""
    create_error: str = ""
    start_error: str = ""
    stop_error: str = ""
    down: str = ""


class World(Struct, frozen=True):
    """The runtime of one node."""

    node: NodeDescribed
    pod_network: str = "10.244.0"  # the first three numbers of its pods' addresses
    last_address: int = 1  # .1 is the node's own
    pods: Map[str, Pod] = Map()
    containers: Map[str, Fake] = Map()
    images: Map[str, str] = Map()  # name -> id
    addresses: Map[int, str] = Map()  # in use -> pod uid
    ends: Map[str, Instant] = Map()  # containers that will end by themselves
    next_end: Instant = NEVER  # at or before the earliest of these
    pull_time: Instant = 0
    pulls: Map[str, Instant] = Map()  # under way -> when done
    start_time: Instant = 0  # so long any container takes to start
    started: int = 0  # containers ever started, for tests
    faults: Faults = Faults()

    def carry_out(self, operation: Operation, now: Instant, chance: Chance) -> Carried:
        """The runtime after the operation and its result; `Later` where it takes until then: ask again. O(log n), listing O(asked)."""
        if self.faults.down:
            return self, Failed("RuntimeUnavailable", self.faults.down)
        carried: Carried = _OPERATIONS[type(operation)](self, operation, now, chance)
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
            world = _end(world, fake, fake.exit_code, fake.ends_at)
        return world, tuple(sorted(changed))

    def next_change(self) -> Instant | None:
        """When something happens by itself, at the earliest."""
        return self.next_end if self.next_end != NEVER else None

    def disturb(self, what: str, which: str, now: Instant) -> Changed:
        """One of the faults of `DISTURBANCES`, by name; `which`: an image, or the place of a container among those that run."""
        return DISTURBANCES[what](self, which, now)

    def running(self) -> list[ContainerStatus]:
        """What runs, by id."""
        return [self.containers[id].status for id in sorted(self.containers) if self.containers[id].status.state == RUNNING]


def make_world(name: str, index: int = 0, cpu_milli: int = 4_000, memory_bytes: int = 32 << 30, pods: int = 110, **more: Any) -> World:
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
    return World(node=node, pod_network=f"10.{244 + high}.{low}", **more)


# --- faults --------------------------------------------------------------------------------------------------------------


def break_image(world: World, image: str, message: str = "not found") -> World:
    """From now on this image cannot be pulled (an empty message mends it); it is forgotten if it was there."""
    broken = world.faults.images
    images = broken.set(image, message) if message else broken.delete(image) if image in broken else broken
    world = replace(world, faults=replace(world.faults, images=images))
    return replace(world, images=world.images.delete(image)) if image in world.images else world


def set_faults(world: World, **faults: str) -> World:
    """Break (or, with empty words, mend) by name: sandbox_error, create_error, start_error, stop_error, down."""
    return replace(world, faults=replace(world.faults, **faults))


def crash_container(world: World, id: str, exit_code: int, now: Instant) -> Changed:
    """A running container ends, just so."""
    fake = world.containers.get(id)
    if fake is None or fake.status.state != RUNNING:
        return world, ()
    return _end(world, fake, exit_code, now), (fake.status.pod_uid,)


def crash_sandbox(world: World, pod_uid: str, now: Instant) -> Changed:
    """A pod's pause container ends; what runs in its network runs on."""
    pod = world.pods.get(pod_uid)
    if pod is None:
        return world, ()
    dead = tuple([evolve(sandbox, ready=False, ips=()) for sandbox in pod.sandboxes])
    return _free_addresses(_set_pod(world, pod_uid, replace(pod, sandboxes=dead)), pod.sandboxes), (pod_uid,)


def crash_node(world: World, now: Instant) -> Changed:
    """The machine restarts: everything that ran has ended, images and records stay."""
    for id in sorted(world.containers):
        if world.containers[id].status.state == RUNNING:
            world = _end(world, world.containers[id], KILLED, now)
    for uid in sorted(world.pods):
        world, _ = crash_sandbox(world, uid, now)
    return world, tuple(sorted(world.pods))


def _crash_one(world: World, which: str, now: Instant) -> Changed:
    running = world.running()
    return crash_container(world, running[int(which or 0) % len(running)].id, KILLED, now) if running else (world, ())


def _crash_pause(world: World, which: str, now: Instant) -> Changed:
    uids = sorted(world.pods)
    return crash_sandbox(world, uids[int(which or 0) % len(uids)], now) if uids else (world, ())


DISTURBANCES: dict[str, Callable[[World, str, Instant], Changed]] = {
    "container dies": _crash_one,
    "pause container dies": _crash_pause,
    "machine restarts": lambda world, which, now: crash_node(world, now),
    "image is gone": lambda world, which, now: (break_image(world, which), ()),
    "image is back": lambda world, which, now: (break_image(world, which, ""), ()),
    "runtime is down": lambda world, which, now: (set_faults(world, down="the runtime does not answer"), ()),
    "runtime is back": lambda world, which, now: (set_faults(world, down=""), ()),
    "pulls are slow": lambda world, which, now: (replace(world, pull_time=int(which or 5) * SECOND), ()),
    "starts are slow": lambda world, which, now: (replace(world, start_time=int(which or 5) * SECOND), ()),
}
"""What a simulator does to a node by force, by the words that its story uses."""


# --- operations ----------------------------------------------------------------------------------------------------------


def _list(world: World, operation: ListPods, now: Instant, chance: Chance) -> Carried:
    uids = operation.pod_uids or sorted(world.pods)
    found = [world.pods[uid] for uid in uids if uid in world.pods]
    sandboxes = tuple([sandbox for pod in found for sandbox in pod.sandboxes])
    containers = tuple([world.containers[id].status for pod in found for id in pod.containers])
    return world, PodsListed(sandboxes, containers)


def _run_sandbox(world: World, operation: RunPodSandbox, now: Instant, chance: Chance) -> Carried:
    config = operation.config
    if world.faults.sandbox_error:
        return world, Failed("FailedCreatePodSandBox", world.faults.sandbox_error)
    pod = world.pods.get(config.pod_uid, NO_POD)
    for known in pod.sandboxes:
        if known.attempt == config.attempt:
            return (world, SandboxStarted(known)) if known.ready else (world, Failed("", f"sandbox {config.attempt} has died"))
    ips: tuple[str, ...] = (world.node.internal_ip,)
    if not config.host_network:
        address = _free_address(world)
        if address is None:
            return world, Failed("", "no address is free")
        ips = (f"{world.pod_network}.{address}",)
        world = replace(world, last_address=address, addresses=world.addresses.set(address, config.pod_uid))
    id = chance.draw(32).hex()
    sandbox = SandboxStatus(id, config.pod_uid, config.namespace, config.name, config.attempt, True, ips, now)
    return _set_pod(world, config.pod_uid, replace(pod, sandboxes=(*pod.sandboxes, sandbox))), SandboxStarted(sandbox)


def _free_address(world: World) -> int | None:
    """The next address after the last that was given, so that one is not used again soon."""
    for step in range(1, 254):
        address = 2 + (world.last_address - 2 + step) % 253
        if address not in world.addresses:
            return address
    return None


def _stop_sandbox(world: World, operation: StopPodSandbox, now: Instant, chance: Chance) -> Carried:
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    pod = world.pods.get(operation.pod_uid, NO_POD)
    for id in pod.containers:
        fake = world.containers[id]
        if fake.status.sandbox_id == operation.sandbox_id and fake.status.state == RUNNING:
            world = _end(world, fake, KILLED, now)
    stopped = [sandbox for sandbox in pod.sandboxes if sandbox.id == operation.sandbox_id and sandbox.ready]
    if not stopped:
        return world, Done()
    dead = tuple([evolve(s, ready=False, ips=()) if s.id == operation.sandbox_id else s for s in pod.sandboxes])
    return _free_addresses(_set_pod(world, operation.pod_uid, replace(pod, sandboxes=dead)), tuple(stopped)), Done()


def _remove_sandbox(world: World, operation: RemovePodSandbox, now: Instant, chance: Chance) -> Carried:
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    world, _ = _stop_sandbox(world, StopPodSandbox(operation.pod_uid, operation.sandbox_id), now, chance)
    pod = world.pods.get(operation.pod_uid)
    if pod is None:
        return world, Done()
    gone = [id for id in pod.containers if world.containers[id].status.sandbox_id == operation.sandbox_id]
    for id in gone:
        world = _forget(world, id)
    left = tuple([sandbox for sandbox in pod.sandboxes if sandbox.id != operation.sandbox_id])
    if not left:
        return replace(world, pods=world.pods.delete(operation.pod_uid)), Done()
    pod = replace(pod, sandboxes=left, containers=tuple([id for id in pod.containers if id not in gone]))
    return _set_pod(world, operation.pod_uid, pod), Done()


def _pull(world: World, operation: PullImage, now: Instant, chance: Chance) -> Carried:
    image = operation.image
    there = world.images.get(image)
    if there is not None and operation.policy != "Always":
        return world, ImagePulled(there, False, IMAGE_BYTES, IMAGE_USER)
    if operation.policy == "Never":
        return world, Failed("ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never')
    message = world.faults.images.get(image, "")
    if not message and "missing" in re.split(r"[^a-z0-9]+", image):
        message = "not found"
    if message:
        return world, Failed("ErrImagePull", f'failed to pull image "{image}": {message}')
    if world.pull_time:
        done = world.pulls.get(image)
        if done is None:
            return replace(world, pulls=world.pulls.set(image, now + world.pull_time)), Later(now + world.pull_time)
        if now < done:
            return world, Later(done)
        world = replace(world, pulls=world.pulls.delete(image))
    id = "sha256:" + chance.draw(32).hex() if there is None else there
    return replace(world, images=world.images.set(image, id)), ImagePulled(id, True, IMAGE_BYTES, IMAGE_USER)


def _create(world: World, operation: CreateContainer, now: Instant, chance: Chance) -> Carried:
    config = operation.config
    if world.faults.create_error:
        return world, Failed("CreateContainerError", world.faults.create_error)
    pod = world.pods.get(config.pod_uid, NO_POD)
    if not any(sandbox.id == operation.sandbox_id and sandbox.ready for sandbox in pod.sandboxes):
        return world, Failed("CreateContainerError", f"sandbox {operation.sandbox_id[:12]} does not run")
    for known in pod.containers:
        status = world.containers[known].status
        if status.name == config.name and status.attempt == config.attempt:
            if status.state == CREATED and status.sandbox_id == operation.sandbox_id:
                return world, ContainerCreated(status)
            return world, Failed("CreateContainerError", f"container {config.name} has had its attempt {config.attempt}")
    id = chance.draw(32).hex()
    image_id = world.images.get(config.image, "")
    status = ContainerStatus(
        id,
        operation.sandbox_id,
        config.pod_uid,
        config.name,
        config.attempt,
        CREATED,
        config.image,
        image_id,
        now,
        spec_hash=config.spec_hash,
        init=config.init,
    )
    world = replace(world, containers=world.containers.set(id, Fake(status, config)))
    return _set_pod(world, config.pod_uid, replace(pod, containers=(*pod.containers, id))), ContainerCreated(status)


def _start(world: World, operation: StartContainer, now: Instant, chance: Chance) -> Carried:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Failed("RunContainerError", "no such container")
    if fake.status.state != CREATED:
        return world, Done(fake.status)
    error = world.faults.start_error or _scripted(fake, "FAKE_START_ERROR")
    if error:
        return world, Failed("RunContainerError", error)
    slow = _seconds(fake, "FAKE_START_SECONDS") or world.start_time
    if slow and not fake.starts_at:
        fake = replace(fake, starts_at=now + slow)
        return replace(world, containers=world.containers.set(fake.status.id, fake)), Later(fake.starts_at)
    if now < fake.starts_at:
        return world, Later(fake.starts_at)
    after, code = _program((*fake.config.command, *fake.config.args))
    status = evolve(fake.status, state=RUNNING, started_at=now)
    fake = replace(fake, status=status, exit_code=code)
    world = replace(world, containers=world.containers.set(status.id, fake), started=world.started + 1)
    if after is not None:
        world = _end_at(world, fake, now + after, code)
    return world, Done(status)


def _stop(world: World, operation: StopContainer, now: Instant, chance: Chance) -> Carried:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Done()
    if fake.status.state != RUNNING:
        return world, Done(fake.status)
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    grace = operation.grace_period_seconds * SECOND
    takes = _seconds(fake, "FAKE_STOP_SECONDS")
    code = int(_scripted(fake, "FAKE_EXIT_CODE") or TERMINATED)
    if takes == 0:
        world = _end(world, fake, code, now)
        return world, Done(world.containers[operation.container_id].status)
    at, code = (now + takes, code) if takes <= grace else (now + grace, KILLED)
    if fake.ends_at <= now:
        world = _end(world, fake, fake.exit_code, fake.ends_at)
        return world, Done(world.containers[operation.container_id].status)
    if fake.ends_at <= at:  # It was told before, and may end sooner by itself.
        return world, Later(fake.ends_at)
    return _end_at(world, fake, at, code), Later(at)


def _remove(world: World, operation: RemoveContainer, now: Instant, chance: Chance) -> Carried:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Done()
    if fake.status.state == RUNNING:
        return world, Failed("", "the container runs")
    uid = fake.status.pod_uid
    pod = world.pods.get(uid, NO_POD)
    pod = replace(pod, containers=tuple([id for id in pod.containers if id != operation.container_id]))
    return _set_pod(_forget(world, operation.container_id), uid, pod), Done()


def _probe(world: World, operation: Probe, now: Instant, chance: Chance) -> Carried:
    fake = world.containers.get(operation.container_id)
    if fake is None or fake.status.state != RUNNING:
        return world, Probed(False, "the container does not run")
    age = now - fake.status.started_at
    if age < _seconds(fake, "FAKE_READY_SECONDS"):
        return world, Probed(False, "not ready yet")
    healthy = _seconds(fake, "FAKE_HEALTHY_SECONDS")
    if healthy and age >= healthy:
        return world, Probed(False, "not healthy any more")
    return world, Probed(True, "ok")


def _hook(world: World, operation: RunHook, now: Instant, chance: Chance) -> Carried:
    fake = world.containers.get(operation.container_id)
    if fake is None or fake.status.state != RUNNING:
        return world, Probed(False, "the container does not run")
    takes = max(operation.seconds * SECOND, _seconds(fake, "FAKE_HOOK_SECONDS"))
    if takes == 0:
        return world, Probed(True)
    begun = fake.starts_at if fake.starts_at > fake.status.started_at else 0
    if not begun:  # `starts_at` is of no other use once the container is up.
        end = now + min(takes, operation.timeout_seconds * SECOND)
        return replace(world, containers=world.containers.set(fake.status.id, replace(fake, starts_at=end))), Later(end)
    if now < begun:
        return world, Later(begun)
    world = replace(world, containers=world.containers.set(fake.status.id, replace(fake, starts_at=0)))
    return world, Probed(takes <= operation.timeout_seconds * SECOND)


def _write_volume(world: World, operation: WriteVolume, now: Instant, chance: Chance) -> Carried:
    pod = world.pods.get(operation.pod_uid, NO_POD)
    return _set_pod(world, operation.pod_uid, replace(pod, volumes=pod.volumes.set(operation.volume, operation))), Done()


def _describe(world: World, operation: DescribeNode, now: Instant, chance: Chance) -> Carried:
    return world, world.node


# --- small things ----------------------------------------------------------------------------------------------------------


def _set_pod(world: World, uid: str, pod: Pod) -> World:
    return replace(world, pods=world.pods.set(uid, pod))


def _forget(world: World, id: str) -> World:
    world = replace(world, containers=world.containers.delete(id))
    return replace(world, ends=world.ends.delete(id)) if id in world.ends else world


def _end(world: World, fake: Fake, exit_code: int, at: Instant) -> World:
    status = evolve(fake.status, state=EXITED, exit_code=exit_code, finished_at=at)
    world = replace(world, containers=world.containers.set(status.id, replace(fake, status=status)))
    return replace(world, ends=world.ends.delete(status.id)) if status.id in world.ends else world


def _end_at(world: World, fake: Fake, at: Instant, exit_code: int) -> World:
    fake = replace(fake, ends_at=at, exit_code=exit_code)
    containers = world.containers.set(fake.status.id, fake)
    return replace(world, containers=containers, ends=world.ends.set(fake.status.id, at), next_end=min(world.next_end, at))


def _free_addresses(world: World, sandboxes: tuple[SandboxStatus, ...]) -> World:
    addresses = world.addresses
    for sandbox in sandboxes:
        for ip in sandbox.ips:
            network, _, number = ip.rpartition(".")
            if network == world.pod_network and int(number) in addresses:
                addresses = addresses.delete(int(number))
    return replace(world, addresses=addresses)


def _scripted(fake: Fake, name: str) -> str:
    for variable, value in fake.config.env:
        if variable == name:
            return value
    return ""


def _seconds(fake: Fake, name: str) -> Instant:
    try:
        return int(float(_scripted(fake, name) or "0") * SECOND)
    except ValueError:
        return 0


def _program(words: tuple[str, ...]) -> tuple[Instant | None, int]:
    """(how long it runs, its exit code) of a command that the simulation understands; (None, 0): it runs on."""
    if not words:
        return None, 0
    name = words[0].rpartition("/")[2]
    if name in ("sh", "bash", "ash") and len(words) >= 3 and words[1] in ("-c", "-ec"):
        after: Instant = 0
        for line in re.split(r";|&&|\n", words[2]):
            if not line.strip():
                continue
            takes, code = _program(tuple(line.split()))
            if takes is None:
                if line.split()[0] in ("echo", "date", "set", "export", "cd", "printf", "touch", "cat", ":"):
                    continue
                return None, 0
            after += takes
            if code or line.split()[0] == "exit":
                return after, code
        return after, 0
    argument = words[1] if len(words) > 1 else ""
    try:
        if name == "true":
            return 0, 0
        if name == "false":
            return 0, 1
        if name == "exit":
            return 0, int(argument or "0")
        if name == "sleep":
            return int(float(argument) * SECOND), 0
    except ValueError:
        pass
    return None, 0


_OPERATIONS: dict[type, Any] = {
    ListPods: _list,
    RunPodSandbox: _run_sandbox,
    StopPodSandbox: _stop_sandbox,
    RemovePodSandbox: _remove_sandbox,
    PullImage: _pull,
    CreateContainer: _create,
    StartContainer: _start,
    StopContainer: _stop,
    RemoveContainer: _remove,
    Probe: _probe,
    RunHook: _hook,
    WriteVolume: _write_volume,
    DescribeNode: _describe,
}
