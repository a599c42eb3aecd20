"""The operations for a pod that runs: its sandbox, then its containers in order, and restarts.
Rules KUBELET-10 ... KUBELET-22, KUBELET-100.

The function is level-based: it compares the running containers with the pod's spec, and returns the
next operations. It waits for a running operation; an image pull delays only its own container.

| the container's newest attempt | operations |
|---|---|
| none, or exited and to be restarted | back-off, pull, create (in the sandbox, with its volumes), start, postStart |
| created | start |
| running, image changed or probe failed | preStop, stop, then as exited |
| running, other resources allocated | update, or stop and then as exited (resize.py) |
| running | none |
| exited, not to be restarted | none; when all are so, the pod ends |

Source: Kubernetes documentation, "Pod Lifecycle", "Init Containers", "Sidecar Containers",
"Container Lifecycle Hooks", "Ephemeral Containers".
"""

from msgspec.structs import replace

from refk8s.core.api import reference
from refk8s.core.api.core_v1 import Container, Pod
from refk8s.core.context import duration_text
from refk8s.core.kubelet import lifecycle, probes, resize
from refk8s.core.kubelet.backoff import pull_at, restart_at, restarted
from refk8s.core.kubelet.container import (
    compute_container_config,
    compute_sandbox_config,
    spec_hash,
)
from refk8s.core.kubelet.draft import Draft
from refk8s.core.kubelet.memory import (
    CHANGED,
    CREATE,
    LIVENESS,
    POST_START,
    PULL,
    RESIZED,
    RUN,
    START,
    STARTUP,
    STOPS_WITHOUT_BACKOFF,
    ContainerMemory,
    live_sandbox,
)
from refk8s.core.kubelet.objects import NotYet
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.kubelet.pull_secrets import pull_credentials
from refk8s.core.kubelet.volumes import plan_volumes
from refk8s.core.pods.containers import ephemeral_containers, is_init, is_sidecar
from refk8s.core.ports import (
    CREATED,
    RUNNING,
    CreateContainer,
    PullImage,
    RemoveContainer,
    RunPodSandbox,
    StartContainer,
)

IMMEDIATE_OPERATIONS = (CREATE, START, POST_START)


def sync_pod(draft: Draft) -> None:
    """Add the next operations of a running or ending pod to the draft. O(containers)."""
    why = lifecycle.why_ending(draft)
    if why:
        lifecycle.end(draft, why)
        probes.plan_probes(draft)
        return
    assert draft.pod is not None
    if draft.memory.listing:
        return
    stage = plan_containers(draft, draft.pod)
    if stage == FINISHED:
        lifecycle.end(draft, "finished")
    probes.plan_probes(draft)


RUNNING_STAGE, FINISHED = "running", "finished"


def plan_containers(draft: Draft, pod: Pod) -> str:
    """Start what is missing and stop what differs from the spec, in order.

    FINISHED when no container runs and none will be started again (POD-1).
    """
    if not lifecycle.take_down_dead_sandbox(draft, pod):
        return RUNNING_STAGE
    alive, wanted = False, []
    for container in pod.spec.containers:
        memory = draft.memory.container(container.name)
        if memory.running:
            alive = True
        elif is_wanted(pod, container, memory):
            wanted.append(container)
    if not alive and not wanted and not draft.memory.busy:
        return FINISHED  # KUBELET-10, POD-1: with nothing to run, no sandbox and no init container.
    starts = wanted
    if pod.spec.init_containers:
        first, regular, failed = init_starts(draft, pod)
        if failed:
            return FINISHED
        starts = [*first, *wanted] if regular else first
    for container in pod.spec.init_containers or ():
        if is_sidecar(container):
            check_running(draft, pod, container)
    for container in pod.spec.containers:
        check_running(draft, pod, container)
    ephemeral = ephemeral_starts(draft, pod) if pod.spec.ephemeral_containers else []
    ready = bring_up(draft, pod) if starts or alive or ephemeral else False
    for container in (*ephemeral, *starts):
        advance(draft, pod, container, ready)
    for name in sorted([name for name, one in draft.memory.containers.items() if one.stale]):
        remove_stale(draft, name)
    return RUNNING_STAGE


def ephemeral_starts(draft: Draft, pod: Pod) -> list[Container]:
    """The ephemeral containers that have not run yet; they wait for no other container
    (KUBELET-100)."""
    return [
        container
        for container in ephemeral_containers(pod.spec)
        if (memory := draft.memory.container(container.name)).current is None
        or (memory.created and in_sandbox(draft, memory))
    ]


def is_wanted(pod: Pod, container: Container, memory: ContainerMemory) -> bool:
    """Whether the container does not run, and should."""
    return not memory.running and (not memory.exited or restarts(pod, container, memory))


def in_sandbox(draft: Draft, memory: ContainerMemory) -> bool:
    """The newest attempt, if in the newest sandbox; one in an older sandbox counts as exited."""
    sandbox = draft.memory.sandbox
    return (
        sandbox is not None
        and memory.current is not None
        and memory.current.sandbox_id == sandbox.id
        and sandbox.ready
    )


def init_starts(draft: Draft, pod: Pod) -> tuple[list[Container], bool, bool]:
    """The state of the init containers (KUBELET-12).

    Returned are the init containers to start now, whether the regular ones may start, and whether
    initialization has failed for good. An init container delays all later ones until it has exited
    with code 0, a sidecar until it has started. After a regular container was created in this
    sandbox, initialization is complete, and only sidecars are started again.
    """
    starts: list[Container] = []
    over = any(
        in_sandbox(draft, draft.memory.container(container.name))
        for container in pod.spec.containers
    )
    for container in pod.spec.init_containers or ():
        memory = draft.memory.container(container.name)
        here = memory.current if in_sandbox(draft, memory) else None
        if is_sidecar(container):
            if here is None or here.state != RUNNING:
                starts.append(container)
            if not over and not probes.is_started(container, memory):
                return starts, False, False
        elif not over and (here is None or here.state == CREATED):
            return [*starts, container], False, False
        elif not over and here is not None and here.state == RUNNING:
            return starts, False, False
        elif not over and here is not None and here.exit_code != 0:
            if restarts(pod, container, memory):
                return [*starts, container], False, False
            return [], False, True
    return starts, True, False


def restarts(pod: Pod, container: Container, memory: ContainerMemory) -> bool:
    """Whether a container that has exited is restarted (KUBELET-13).

    | policy | exit code 0 | failed |
    |---|---|---|
    | Always | yes | yes |
    | OnFailure | no | yes |
    | Never | no | no |

    The container's rules for exit codes come first, then the container's own policy, then the
    pod's. A container that the kubelet stopped to restart it is restarted unless the policy is
    Never.
    """
    exit_code = memory.current.exit_code if memory.current is not None else 0
    for rule in container.restart_policy_rules or ():
        codes = rule.exit_codes
        if codes is not None and ((exit_code in (codes.values or ())) == (codes.operator == "In")):
            return rule.action == "Restart"
    policy = container.restart_policy or pod.spec.restart_policy or "Always"
    if is_init(pod.spec, container) and not is_sidecar(container) and policy == "Always":
        policy = "OnFailure"
    if memory.stop_reason:
        return policy != "Never" or memory.stop_reason in (CHANGED, RESIZED)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


# --- the sandbox ----------------------------------------------------------------------------------


def bring_up(draft: Draft, pod: Pod) -> bool:
    """Create a sandbox and volumes; whether containers may follow (KUBELET-10, KUBELET-11)."""
    mounted = plan_volumes(draft, pod)
    memory = draft.memory
    if memory.sandbox_operation:
        return False
    if memory.sandbox is None:  # KUBELET-2: a new one only after that
        if draft.now < memory.sandbox_retry_at:
            draft.wake(memory.sandbox_retry_at)
        else:
            try:
                config = compute_sandbox_config(
                    draft.facts, pod, memory.sandbox_attempt, draft.note
                )
            except BadConfig as problem:
                draft.note(problem.reason, f"Failed to create pod sandbox: {problem}", "Warning")
                draft.remember(sandbox_retry_at=draft.now + draft.facts.config.retry_after)
                draft.wake(draft.memory.sandbox_retry_at)
                return False
            draft.operations.append(RunPodSandbox(config))
            draft.remember(sandbox_operation=RUN)
        return False
    if memory.dead_sandboxes and draft.now >= memory.end_retry_at:
        lifecycle.remove_sandbox(draft, memory.dead_sandboxes[0].id)
        return False
    return mounted


# --- one container --------------------------------------------------------------------------------


def check_running(draft: Draft, pod: Pod, container: Container) -> None:
    """Stop a container that differs from its spec or failed a probe (KUBELET-15, PROBE-5)."""
    memory = draft.memory.container(container.name)
    current = memory.current
    if current is None or current.state != RUNNING:
        return
    if memory.post_start_pending and not memory.operation:
        start_hook(draft, container, memory)
        return
    if not memory.stop_reason:
        stop_reason, why = "", ""
        if current.spec_hash and current.spec_hash != spec_hash(container):
            stop_reason, why = CHANGED, "definition changed"
        elif memory.probes and probes.is_failing(memory, "startup"):
            stop_reason, why = STARTUP, "failed startup probe"
        elif memory.probes and probes.is_failing(memory, "liveness"):
            stop_reason, why = LIVENESS, "failed liveness probe"
        if stop_reason:
            memory = replace(memory, stop_reason=stop_reason)
            draft.set_container(container.name, memory)
            message = f"Container {container.name} {why}, will be restarted"
            draft.note("Killing", message, container=container)
    memory = resize.apply(draft, pod, container, memory)
    if memory.stop_reason:
        lifecycle.stop(draft, container, probes.grace_seconds(pod, container, memory.stop_reason))


def advance(draft: Draft, pod: Pod, container: Container, ready: bool) -> None:
    """The next operation towards a running container: wait, pull, create or start.

    KUBELET-14, KUBELET-20 ... KUBELET-22.
    """
    name = container.name
    memory = draft.memory.container(name)
    if memory.operation:
        return
    if memory.image and memory.image != container.image:
        memory = forget_image(draft, name, memory)
    if memory.created and in_sandbox(draft, memory):
        if ready and not is_held_up(draft):
            assert memory.current is not None
            draft.operations.append(StartContainer(draft.memory.uid, memory.current.id))
            draft.set_container(name, replace(memory, operation=START))
        return
    if memory.exited and not memory.image_id and memory.stop_reason not in STOPS_WITHOUT_BACKOFF:
        assert memory.current is not None
        at = restart_at(memory.crash_backoff, memory.current.finished_at)
        if draft.now < at:  # KUBELET-20
            if memory.reason != "CrashLoopBackOff":
                assert memory.crash_backoff is not None
                seconds = memory.crash_backoff.delay // 1_000_000
                where = (
                    f"{name} pod={pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
                )
                draft.note(
                    "BackOff",
                    f"Back-off restarting failed container {name} in pod {where.partition('=')[2]}",
                    "Warning",
                    container,
                )
                message = f"back-off {duration_text(seconds)} restarting failed container={where}"
                draft.set_container(
                    name, replace(memory, reason="CrashLoopBackOff", message=message)
                )
            draft.wake(at)
            return
    if not memory.image_id:
        pull(draft, container, memory)
        return
    if not ready or is_held_up(draft):
        return
    if draft.now < memory.retry_at:
        draft.wake(memory.retry_at)
        return
    create(draft, pod, container, memory)


def is_held_up(draft: Draft) -> bool:
    """Whether a container of the pod is being started: the next one waits (KUBELET-14)."""
    for memory in draft.memory.containers.values():
        if memory.operation in IMMEDIATE_OPERATIONS:
            return True
    return False


def forget_image(draft: Draft, name: str, memory: ContainerMemory) -> ContainerMemory:
    """The pod has another image now: errors and back-offs of the old one do not count (KUBELET-20,
    KUBELET-21)."""
    memory = replace(
        memory,
        image="",
        image_id="",
        image_user="",
        reason="",
        message="",
        pull_backoff=None,
        crash_backoff=None,
    )
    draft.set_container(name, memory)
    return memory


def pull(draft: Draft, container: Container, memory: ContainerMemory) -> None:
    """Pull the image to the node, with a back-off after failures (KUBELET-21)."""
    image = container.image or ""
    if reference.parse(image) is None:
        if memory.reason != "InvalidImageName":
            words = (
                f'Failed to apply default image tag "{image}": '
                f'couldn\'t parse image name "{image}": invalid reference format'
            )
            draft.note("InspectFailed", words, "Warning", container)
            draft.note("Failed", "Error: InvalidImageName", "Warning", container)
            draft.set_container(
                container.name, replace(memory, reason="InvalidImageName", message=words)
            )
        return
    at = pull_at(memory.pull_backoff)
    if draft.now < at:
        shown = memory.pull_backoff.tried_at + ERROR_SHOWN if memory.pull_backoff is not None else 0
        if memory.reason in PULL_ERRORS and draft.now >= shown:
            draft.note("BackOff", f'Back-off pulling image "{image}"', container=container)
            draft.note("Failed", "Error: ImagePullBackOff", "Warning", container)
            message = f'Back-off pulling image "{image}": {memory.reason}: {memory.message}'
            draft.set_container(
                container.name, replace(memory, reason="ImagePullBackOff", message=message)
            )
        elif memory.reason in PULL_ERRORS:
            draft.wake(shown)
        draft.wake(at)
        return
    try:
        credentials = pull_credentials(draft, image)
    except NotYet:
        return  # KUBELET-70, as for `create`
    policy = container.image_pull_policy or "IfNotPresent"
    draft.operations.append(PullImage(draft.memory.uid, image, policy, credentials))
    draft.set_container(container.name, replace(memory, operation=PULL, image=image))


ERROR_SHOWN = 2_000_000
"""The error of a pull is shown for this time, before the back-off message (microseconds)."""
PULL_ERRORS = ("ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed")


def create(draft: Draft, pod: Pod, container: Container, memory: ContainerMemory) -> None:
    """Create the next attempt of the container in the sandbox."""
    sandbox = live_sandbox(draft.memory)
    assert sandbox is not None
    attempt = next_attempt(memory)
    try:
        config = compute_container_config(draft, pod, container, attempt, sandbox)
    except NotYet:
        return  # KUBELET-70: the response makes the pod due.
    except BadConfig as problem:  # KUBELET-22
        if memory.message != str(problem):
            draft.note("Failed", f"Error: {problem}", "Warning", container)
        draft.set_container(
            container.name,
            replace(
                memory,
                reason=problem.reason,
                message=str(problem),
                retry_at=draft.now + draft.facts.config.retry_after,
            ),
        )
        draft.wake(draft.now + draft.facts.config.retry_after)
        return
    draft.operations.append(CreateContainer(sandbox.id, config))
    backoff = memory.crash_backoff
    if (
        memory.current is not None
        and memory.exited
        and memory.stop_reason not in STOPS_WITHOUT_BACKOFF
    ):
        backoff = restarted(backoff, memory.current.finished_at, draft.now)
    draft.set_container(
        container.name,
        replace(
            memory,
            operation=CREATE,
            applied=container.resources,
            resize_error="",
            crash_backoff=backoff,
            stop_reason="",
            post_start_pending=has_post_start(container),
        ),
    )


def next_attempt(memory: ContainerMemory) -> int:
    """The number of the next attempt (KUBELET-16).

    It is one more than that of any attempt that the runtime or the API server has had.
    """
    return memory.current.attempt + 1 if memory.current is not None else 0


def start_hook(draft: Draft, container: Container, memory: ContainerMemory) -> None:
    """Run postStart after the start; the containers after this one wait for it (KUBELET-17)."""
    assert (
        memory.current is not None
        and container.lifecycle is not None
        and container.lifecycle.post_start is not None
    )
    handler = container.lifecycle.post_start
    draft.operations.append(
        probes.compute_hook(container, handler, memory.current, HOOK_SECONDS_MAX)
    )
    draft.set_container(
        container.name, replace(memory, operation=POST_START, post_start_pending=False)
    )


def has_post_start(container: Container) -> bool:
    return container.lifecycle is not None and container.lifecycle.post_start is not None


HOOK_SECONDS_MAX = 3600


def remove_stale(draft: Draft, name: str) -> None:
    """Remove the attempts before the last, whose logs users may still read (KUBELET-18)."""
    memory = draft.memory.containers[name]
    if not memory.stale or memory.removing:
        return
    if draft.now < memory.retry_at:
        draft.wake(memory.retry_at)
    else:
        draft.operations.append(RemoveContainer(draft.memory.uid, memory.stale[0]))
        draft.set_container(name, replace(memory, removing=True))
