"""The operations of the container runtime on a simulated node, each a function of the state:
(state, operation) -> (state, result)."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from msgspec.structs import replace

from refk8s.adapters.fake.course import (
    Course,
    command_of,
    compute_command,
    compute_course,
    compute_stop,
)
from refk8s.adapters.fake.state import (
    IMAGE_BYTES,
    IMAGE_USER,
    KILLED,
    NO_POD,
    TERMINATED,
    Carried,
    Fake,
    S,
    State,
    end,
    end_at,
    forget,
    free_addresses,
    scene,
    scripted,
    seconds,
    set_pod,
    settle,
    write,
)
from refk8s.core.api.families import IPV4, IPV6, family_of, of_family
from refk8s.core.context import SECOND, Chance, Instant
from refk8s.core.ports import (
    CREATED,
    RUNNING,
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
    PodsListed,
    Probe,
    Probed,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    RunHook,
    RunPodSandbox,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
    UpdateRuntimeConfig,
    WriteVolume,
)
from refk8s.core.value import evolve

OUTPUT_BYTES_MAX = 10 * 1024
LONG = 10**6 * SECOND


def _list(world: S, operation: ListPods, now: Instant, chance: Chance) -> Carried[S]:
    uids = operation.pod_uids or sorted(world.pods)
    found = [world.pods[uid] for uid in uids if uid in world.pods]
    sandboxes = tuple([sandbox for pod in found for sandbox in pod.sandboxes])
    containers = tuple([world.containers[id].status for pod in found for id in pod.containers])
    return world, PodsListed(sandboxes, containers)


def _run_sandbox(world: S, operation: RunPodSandbox, now: Instant, chance: Chance) -> Carried[S]:
    config = operation.config
    if world.faults.sandbox_error:
        return world, Failed("FailedCreatePodSandBox", world.faults.sandbox_error)
    pod = world.pods.get(config.pod_uid, NO_POD)
    for known in pod.sandboxes:
        if known.attempt == config.attempt:
            return (
                (world, SandboxStarted(known))
                if known.ready
                else (world, Failed("", f"sandbox {config.attempt} has died"))
            )
    ips: tuple[str, ...] = (world.node.internal_ip,)
    if world.node.second_ip:
        ips = (*ips, world.node.second_ip)
    if not config.host_network:
        address = _free_address(world)
        if address is None:
            return world, Failed("", "no address is free")
        ips = (f"{world.pod_network}.{address}",) if world.pod_network else ()
        if world.pod_network6:
            second = str(IPv6Address(world.pod_network6) + address)
            is_first = ":" in world.node.internal_ip
            ips = (second, *ips) if is_first else (*ips, second)
        world = replace(
            world, last_address=address, addresses=world.addresses.set(address, config.pod_uid)
        )
    id = chance.draw(32).hex()
    sandbox = SandboxStatus(
        id, config.pod_uid, config.namespace, config.name, config.attempt, True, ips, now
    )
    pod = replace(pod, sandboxes=(*pod.sandboxes, sandbox), hostname=config.hostname)
    return set_pod(world, config.pod_uid, pod), SandboxStarted(sandbox)


def _free_address(world: State) -> int | None:
    """The next address after the last that was given, so that one is not used again soon."""
    for step in range(1, 254):
        address = 2 + (world.last_address - 2 + step) % 253
        if address not in world.addresses:
            return address
    return None


def _stop_sandbox(world: S, operation: StopPodSandbox, now: Instant, chance: Chance) -> Carried[S]:
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    pod = world.pods.get(operation.pod_uid, NO_POD)
    for id in pod.containers:
        fake = world.containers[id]
        if fake.status.sandbox_id == operation.sandbox_id and fake.status.state == RUNNING:
            world = end(world, fake, KILLED, now)
    stopped = [
        sandbox for sandbox in pod.sandboxes if sandbox.id == operation.sandbox_id and sandbox.ready
    ]
    if not stopped:
        return world, Done()
    dead = tuple(
        [
            evolve(s, ready=False, ips=()) if s.id == operation.sandbox_id else s
            for s in pod.sandboxes
        ]
    )
    return free_addresses(
        set_pod(world, operation.pod_uid, replace(pod, sandboxes=dead)), tuple(stopped)
    ), Done()


def _remove_sandbox(
    world: S, operation: RemovePodSandbox, now: Instant, chance: Chance
) -> Carried[S]:
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    world, _ = _stop_sandbox(
        world, StopPodSandbox(operation.pod_uid, operation.sandbox_id), now, chance
    )
    pod = world.pods.get(operation.pod_uid)
    if pod is None:
        return world, Done()
    gone = [
        id
        for id in pod.containers
        if world.containers[id].status.sandbox_id == operation.sandbox_id
    ]
    for id in gone:
        world = forget(world, id)
    left = tuple([sandbox for sandbox in pod.sandboxes if sandbox.id != operation.sandbox_id])
    if not left:
        return replace(world, pods=world.pods.delete(operation.pod_uid)), Done()
    pod = replace(
        pod, sandboxes=left, containers=tuple([id for id in pod.containers if id not in gone])
    )
    return set_pod(world, operation.pod_uid, pod), Done()


def _pull(world: S, operation: PullImage, now: Instant, chance: Chance) -> Carried[S]:
    image = operation.image
    there = world.images.get(image)
    if there is not None and operation.policy != "Always":
        return world, ImagePulled(there, False, IMAGE_BYTES, IMAGE_USER)
    if operation.policy == "Never":
        return world, Failed(
            "ErrImageNeverPull",
            f'Container image "{image}" is not present with pull policy of Never',
        )
    message = world.faults.images.get(image, "")
    if not message and "missing" in re.split(r"[^a-z0-9]+", image):
        message = "not found"
    if message:
        return world, Failed("ErrImagePull", f'failed to pull image "{image}": {message}')
    if world.pull_time:
        done = world.pulls.get(image)
        if done is None:
            return replace(world, pulls=world.pulls.set(image, now + world.pull_time)), Later(
                now + world.pull_time
            )
        if now < done:
            return world, Later(done)
        world = replace(world, pulls=world.pulls.delete(image))
    id = "sha256:" + chance.draw(32).hex() if there is None else there
    return replace(world, images=world.images.set(image, id)), ImagePulled(
        id, True, IMAGE_BYTES, IMAGE_USER
    )


def _create(world: S, operation: CreateContainer, now: Instant, chance: Chance) -> Carried[S]:
    config = operation.config
    if world.faults.create_error:
        return world, Failed("CreateContainerError", world.faults.create_error)
    pod = world.pods.get(config.pod_uid, NO_POD)
    if not any(sandbox.id == operation.sandbox_id and sandbox.ready for sandbox in pod.sandboxes):
        return world, Failed(
            "CreateContainerError", f"sandbox {operation.sandbox_id[:12]} does not run"
        )
    for known in pod.containers:
        status = world.containers[known].status
        if status.name == config.name and status.attempt == config.attempt:
            if status.state == CREATED and status.sandbox_id == operation.sandbox_id:
                return world, ContainerCreated(status)
            return world, Failed(
                "CreateContainerError",
                f"container {config.name} has had its attempt {config.attempt}",
            )
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
    return set_pod(
        world, config.pod_uid, replace(pod, containers=(*pod.containers, id))
    ), ContainerCreated(status)


def _start(world: S, operation: StartContainer, now: Instant, chance: Chance) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Failed("RunContainerError", "no such container")
    if fake.status.state != CREATED:
        return world, Done(fake.status)
    error = world.faults.start_error or scripted(fake, "FAKE_START_ERROR")
    if error:
        return world, Failed("RunContainerError", error)
    slow = seconds(fake, "FAKE_START_SECONDS") or world.start_time
    if slow and not fake.starts_at:
        fake = replace(fake, starts_at=now + slow)
        return replace(world, containers=world.containers.set(fake.status.id, fake)), Later(
            fake.starts_at
        )
    if now < fake.starts_at:
        return world, Later(fake.starts_at)
    world = settle(world, operation.pod_uid, now)
    seen = scene(world, fake)
    course = compute_course(seen, now)
    status = evolve(fake.status, state=RUNNING, started_at=now)
    fake = replace(
        fake,
        status=status,
        exit_code=course.exit_code,
        changes=course.changes,
        start=seen if command_of(fake.config) else None,
    )
    world = replace(
        world, containers=world.containers.set(status.id, fake), started=world.started + 1
    )
    if course.takes is not None:
        world = end_at(world, fake, now + course.takes, course.exit_code)
    return world, Done(status)


def _update(
    world: S, operation: UpdateContainerResources, now: Instant, chance: Chance
) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None or fake.status.state != RUNNING:
        return world, Failed("", "the container does not run")
    fake = replace(fake, config=evolve(fake.config, resources=operation.resources))
    return replace(world, containers=world.containers.set(fake.status.id, fake)), Done()


def _stop(world: S, operation: StopContainer, now: Instant, chance: Chance) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Done()
    if fake.status.state != RUNNING:
        return world, Done(fake.status)
    if world.faults.stop_error:
        return world, Failed("", world.faults.stop_error)
    grace = operation.grace_period_seconds * SECOND
    takes = seconds(fake, "FAKE_STOP_SECONDS")
    code = int(scripted(fake, "FAKE_EXIT_CODE") or TERMINATED)
    if fake.ends_at > now and not takes:
        course = compute_stop(scene(world, fake), fake.status.started_at, now)
        if course is not None:
            takes, code = grace + 1 if course.takes is None else course.takes, course.exit_code
    if takes == 0:
        world = end(world, fake, code, now)
        return world, Done(world.containers[operation.container_id].status)
    at, code = (now + takes, code) if takes <= grace else (now + grace, KILLED)
    if fake.ends_at <= now:
        world = end(world, fake, fake.exit_code, fake.ends_at)
        return world, Done(world.containers[operation.container_id].status)
    if fake.ends_at <= at:  # It was stopped before, and may end earlier by itself.
        return world, Later(fake.ends_at)
    return end_at(world, fake, at, code), Later(at)


def _remove(world: S, operation: RemoveContainer, now: Instant, chance: Chance) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None:
        return world, Done()
    if fake.status.state == RUNNING:
        return world, Failed("", "the container runs")
    uid = fake.status.pod_uid
    pod = world.pods.get(uid, NO_POD)
    pod = replace(
        pod, containers=tuple([id for id in pod.containers if id != operation.container_id])
    )
    return set_pod(forget(world, operation.container_id), uid, pod), Done()


def _probe(world: S, operation: Probe, now: Instant, chance: Chance) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None or fake.status.state != RUNNING:
        return world, Probed(False, "the container does not run")
    age = now - fake.status.started_at
    if age < seconds(fake, "FAKE_READY_SECONDS"):
        return world, Probed(False, "not ready yet")
    healthy = seconds(fake, "FAKE_HEALTHY_SECONDS")
    if healthy and age >= healthy:
        return world, Probed(False, "not healthy any more")
    if operation.action == "exec":
        world, course, output = _carried(world, fake, operation.command, now)
        if course.takes is None or course.takes > operation.timeout_seconds * SECOND:
            words = (
                f"command timed out: {list(operation.command)!r} timed out after "
                f"{operation.timeout_seconds}s"
            )
            return world, Probed(False, words)
        return world, Probed(course.exit_code == 0, output)
    return world, Probed(True, "ok")


def _carried(world: S, fake: Fake, command: tuple[str, ...], now: Instant) -> tuple[S, Course, str]:
    """Run the command of a probe or hook; its files are written at once (SHELL-7)."""
    world = settle(world, fake.status.pod_uid, now)
    course, output = compute_command(scene(world, world.containers[fake.status.id]), command, now)
    for change in course.changes:
        world = write(world, fake.status.id, change.disk, change.path, change.entry)
    return world, course, output[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")


def _hook(world: S, operation: RunHook, now: Instant, chance: Chance) -> Carried[S]:
    fake = world.containers.get(operation.container_id)
    if fake is None or fake.status.state != RUNNING:
        return world, Probed(False, "the container does not run")
    takes = max(operation.seconds * SECOND, seconds(fake, "FAKE_HOOK_SECONDS"))
    begun = fake.starts_at if fake.starts_at > fake.status.started_at else 0
    if operation.action == "exec" and not begun:
        world, course, output = _carried(world, fake, operation.command, now)
        takes = max(takes, LONG if course.takes is None else course.takes)
        if course.exit_code and takes <= operation.timeout_seconds * SECOND:
            return world, Probed(False, output)
        fake = world.containers[fake.status.id]
    if takes == 0:
        return world, Probed(True)
    if not begun:  # After the start, `starts_at` has no other use.
        end = now + min(takes, operation.timeout_seconds * SECOND)
        return replace(
            world, containers=world.containers.set(fake.status.id, replace(fake, starts_at=end))
        ), Later(end)
    if now < begun:
        return world, Later(begun)
    world = replace(
        world, containers=world.containers.set(fake.status.id, replace(fake, starts_at=0))
    )
    return world, Probed(takes <= operation.timeout_seconds * SECOND)


def _write_volume(world: S, operation: WriteVolume, now: Instant, chance: Chance) -> Carried[S]:
    pod = world.pods.get(operation.pod_uid, NO_POD)
    return set_pod(
        world, operation.pod_uid, replace(pod, volumes=pod.volumes.set(operation.volume, operation))
    ), Done()


def _describe(world: S, operation: DescribeNode, now: Instant, chance: Chance) -> Carried[S]:
    return world, world.node


def _configure(
    world: S, operation: UpdateRuntimeConfig, now: Instant, chance: Chance
) -> Carried[S]:
    """A simulated node has at most 253 addresses of each family, and keeps its range of a family
    while an address is in use. With a range of IPv6 it has an address of that family itself."""
    cidrs = operation.pod_cidr.split(",")
    network, _, length = of_family(cidrs, IPV4).rpartition(".")
    six = of_family(cidrs, IPV6).partition("/")[0]
    if six:
        own = node_ips(world.node, cidrs)
        node = evolve(world.node, internal_ip=own[0], second_ip=own[1] if network else "")
        world = replace(world, node=node)
        if not (world.addresses and world.pod_network6):
            world = replace(world, pod_network6=six)
    if not world.addresses and (length == "0/24" or (six and not length)):
        world = replace(world, pod_network=network)
    return world, Done()


def node_ips(node: NodeDescribed, cidrs: list[str]) -> list[str]:
    """The addresses of a simulated node, that of the family of its first range first."""
    four = of_family((node.internal_ip, node.second_ip), IPV4)
    known = of_family((node.internal_ip, node.second_ip), IPV6)
    six = known or str(NODES6 + int(IPv4Address(four)))
    return [six, four] if family_of(cidrs[0]) == IPV6 else [four, six]


NODES6 = IPv6Address("fd00:192:168::")
"""The addresses of simulated nodes of IPv6 follow this one."""

OPERATIONS: dict[type, Any] = {
    ListPods: _list,
    RunPodSandbox: _run_sandbox,
    StopPodSandbox: _stop_sandbox,
    RemovePodSandbox: _remove_sandbox,
    PullImage: _pull,
    CreateContainer: _create,
    StartContainer: _start,
    UpdateContainerResources: _update,
    StopContainer: _stop,
    RemoveContainer: _remove,
    Probe: _probe,
    RunHook: _hook,
    WriteVolume: _write_volume,
    DescribeNode: _describe,
    UpdateRuntimeConfig: _configure,
}
