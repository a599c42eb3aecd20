"""Injected failures of a simulated node, each a function of its state."""

from collections.abc import Callable

from msgspec.structs import replace

from refk8s.adapters.fake.state import KILLED, Changed, S, State, end, free_addresses, set_pod
from refk8s.core.context import SECOND, Instant
from refk8s.core.ports import RUNNING
from refk8s.core.value import evolve


def break_image(world: S, image: str, message: str = "not found") -> S:
    """Remove this image and let its pulls fail; an empty message repairs it."""
    broken = world.faults.images
    images = (
        broken.set(image, message)
        if message
        else broken.delete(image)
        if image in broken
        else broken
    )
    world = replace(world, faults=replace(world.faults, images=images))
    return replace(world, images=world.images.delete(image)) if image in world.images else world


def set_faults(world: S, **faults: str) -> S:
    """Set or (with an empty text) clear a failure.

    Its name: sandbox_error, create_error, start_error, stop_error, down.
    """
    return replace(world, faults=replace(world.faults, **faults))


def crash_container(world: S, id: str, exit_code: int, now: Instant) -> Changed[S]:
    """A running container terminates."""
    fake = world.containers.get(id)
    if fake is None or fake.status.state != RUNNING:
        return world, ()
    return end(world, fake, exit_code, now), (fake.status.pod_uid,)


def crash_sandbox(world: S, pod_uid: str, now: Instant) -> Changed[S]:
    """A pod's pause container terminates; the pod's other containers continue to run."""
    pod = world.pods.get(pod_uid)
    if pod is None:
        return world, ()
    dead = tuple([evolve(sandbox, ready=False, ips=()) for sandbox in pod.sandboxes])
    return free_addresses(set_pod(world, pod_uid, replace(pod, sandboxes=dead)), pod.sandboxes), (
        pod_uid,
    )


def crash_node(world: S, now: Instant) -> Changed[S]:
    """The machine restarts: all containers terminate, images and records stay."""
    for id in sorted(world.containers):
        if world.containers[id].status.state == RUNNING:
            world = end(world, world.containers[id], KILLED, now)
    for uid in sorted(world.pods):
        world, _ = crash_sandbox(world, uid, now)
    return world, tuple(sorted(world.pods))


def _crash_one(world: S, which: str, now: Instant) -> Changed[S]:
    running = world.running()
    return (
        crash_container(world, running[int(which or 0) % len(running)].id, KILLED, now)
        if running
        else (world, ())
    )


def _crash_pause(world: S, which: str, now: Instant) -> Changed[S]:
    uids = sorted(world.pods)
    return crash_sandbox(world, uids[int(which or 0) % len(uids)], now) if uids else (world, ())


DISTURBANCES: dict[str, Callable[[State, str, Instant], Changed[State]]] = {
    "container dies": _crash_one,
    "pause container dies": _crash_pause,
    "machine restarts": lambda world, which, now: crash_node(world, now),
    "image is gone": lambda world, which, now: (break_image(world, which), ()),
    "image is back": lambda world, which, now: (break_image(world, which, ""), ()),
    "runtime is down": lambda world, which, now: (
        set_faults(world, down="the runtime does not answer"),
        (),
    ),
    "runtime is back": lambda world, which, now: (set_faults(world, down=""), ()),
    "pulls are slow": lambda world, which, now: (
        replace(world, pull_time=int(which or 5) * SECOND),
        (),
    ),
    "starts are slow": lambda world, which, now: (
        replace(world, start_time=int(which or 5) * SECOND),
        (),
    ),
}
"""The failures that the simulator injects, by their names in the story."""
