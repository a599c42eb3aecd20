"""What a kubelet remembers after each result of an operation of the runtime, in full, beside a plain
reading of KUBELET-17 to KUBELET-22, KUBELET-43 and KUBELET-110 (spec/kubelet.md), POD-14
(spec/pod.md) and RESIZE-4 (spec/resize.md)."""

from __future__ import annotations

import pytest
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, EphemeralContainer, ResourceRequirements
from refk8s.core.context import SECOND
from refk8s.core.kubelet.backoff import Backoff
from refk8s.core.kubelet.memory import (
    HOOK,
    NEVER,
    SANDBOX,
    ContainerMemory,
    Note,
    PodMemory,
    ProbeMemory,
    live_sandbox,
)
from refk8s.core.kubelet.results import after_result
from refk8s.core.ports import (
    ContainerConfig,
    ContainerCreated,
    ContainerStatus,
    CreateContainer,
    Done,
    Failed,
    ImagePulled,
    ListPods,
    Probed,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    Resources,
    RunHook,
    RunPodSandbox,
    SandboxConfig,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateContainerResources,
    WriteVolume,
)

NOW, RETRY = 100 * SECOND, 7 * SECOND
POD = make_pod(
    "p",
    (Container(name="c", image="c:1"), Container(name="d", image="d:1")),
    init_containers=(Container(name="i", image="i:1"),),
    ephemeral_containers=(EphemeralContainer(name="e"),),
)
ALIVE = SandboxStatus("s", "u", "default", "p", 0, True)
RUNS = ContainerStatus(
    id="c-1",
    sandbox_id="s",
    pod_uid="u",
    name="c",
    attempt=1,
    state="running",
    image="c:1",
    image_id="sha",
    started_at=SECOND,
)
OVER = replace(RUNS, state="exited", finished_at=50 * SECOND, exit_code=3)
PATH = "spec.containers{c}"


def a_memory(container=None, **parts) -> PodMemory:
    """A pod whose container c is remembered like this, with another one beside it."""
    other = ContainerMemory(replace(RUNS, id="d-1", name="d"), operation="preStop")
    containers = {"d": other} if container is None else {"d": other, "c": container}
    return replace(PodMemory("u", "default", "p", pod=POD, containers=containers), **parts)


def after(memory, operation, result):
    return after_result(memory, operation, result, NOW, RETRY)


def with_c(memory, container, *notes):
    """The memory with this container c and these Events, and nothing else changed."""
    return replace(memory, containers={**memory.containers, "c": container}, notes=notes)


def lost(status, at=NOW):
    return replace(
        status,
        state="exited",
        exit_code=137,
        reason="ContainerStatusUnknown",
        message="The container could not be located when the pod was terminated",
        finished_at=at,
    )


def test_kubelet_3_a_result_of_no_pod_changes_nothing():
    memory = a_memory(ContainerMemory(RUNS))
    assert after(memory, ListPods(), Done()) is memory


# --- sandboxes ------------------------------------------------------------------------------------


def test_kubelet_10_a_sandbox_that_was_started_or_was_not():
    memory = a_memory(sandbox_operation="run", sandbox_attempt=4)
    operation = RunPodSandbox(SandboxConfig("u", "default", "p", 4))
    assert after(memory, operation, SandboxStarted(ALIVE)) == replace(
        memory, sandbox=ALIVE, sandbox_operation="", sandbox_attempt=5
    )
    for result, words in (
        (Failed("x", "no network"), "no network"),
        (Done(), "unexpected result Done"),
    ):
        note = Note("FailedCreatePodSandBox", f"Failed to create pod sandbox: {words}", "Warning")
        assert after(memory, operation, result) == replace(
            memory, sandbox_operation="", sandbox_retry_at=NOW + RETRY, notes=(note,)
        )


def test_kubelet_10_a_sandbox_that_was_stopped_or_was_not():
    held = ContainerMemory(
        RUNS, operation="stop", grace_until=5, probes={"a": ProbeMemory("c-1", True)}
    )
    old = replace(ALIVE, id="old", ready=False)
    memory = a_memory(held, sandbox=ALIVE, dead_sandboxes=(old,), sandbox_operation="stop")
    note = Note("FailedKillPod", "error killing pod: busy", "Warning")
    assert after(memory, StopPodSandbox("u", "s"), Failed("x", "busy")) == replace(
        memory, sandbox_operation="", end_retry_at=NOW + RETRY, notes=(note,)
    )
    found = after(memory, StopPodSandbox("u", "s"), Done())
    d = memory.containers["d"]
    assert found == replace(
        memory,
        sandbox=None,
        sandbox_operation="",
        dead_sandboxes=(old, replace(ALIVE, ready=False)),
        containers={
            "c": ContainerMemory(lost(RUNS), stop_reason=SANDBOX),
            "d": replace(d, current=lost(d.current), operation="", stop_reason=SANDBOX),
        },
    )
    assert after(memory, StopPodSandbox("u", "other"), Done()) == replace(
        memory, sandbox_operation=""
    )
    for quiet in (OVER, replace(RUNS, state="created"), replace(RUNS, sandbox_id="old")):
        memory = a_memory(ContainerMemory(quiet), sandbox=None)
        assert after(memory, StopPodSandbox("u", "s"), Done()).container("c").current == quiet


def test_pod_6_a_sandbox_that_was_removed_takes_the_volumes_with_it_if_it_was_the_last():
    first, last = (replace(ALIVE, id=id, ready=False) for id in "ab")
    volumes = {"v": "1"}
    memory = a_memory(sandbox_operation="remove", dead_sandboxes=(first, last), volumes=volumes)
    free = replace(memory, sandbox_operation="")
    assert after(memory, RemovePodSandbox("u", "a"), Done()) == replace(
        free, dead_sandboxes=(last,)
    )
    assert after(memory, RemovePodSandbox("u", "a"), Failed("x", "busy")) == replace(
        free, end_retry_at=NOW + RETRY
    )
    one = replace(memory, dead_sandboxes=(first,))
    gone = replace(free, dead_sandboxes=(), volumes={})
    assert after(one, RemovePodSandbox("u", "a"), Done()) == gone
    new = replace(one, sandbox=ALIVE)
    assert after(new, RemovePodSandbox("u", "a"), Done()) == replace(
        gone, sandbox=ALIVE, volumes=volumes
    )


def test_kubelet_55_a_volume_that_was_written_or_was_not():
    memory = a_memory(
        volume_writes_running=2,
        volumes={"v": "1", "w": "2"},
        volumes_due=NOW + 9,
        volume_images={"a": "sha-a", "b": "sha-b"},
    )
    operation = WriteVolume("u", "v", image_id="sha-a")
    one_less = replace(memory, volume_writes_running=1)
    assert after(memory, operation, Done()) == one_less
    words = 'MountVolume.SetUp failed for volume "v" : full'
    assert after(memory, operation, Failed("x", "full")) == replace(
        one_less,
        volumes={"w": "2"},
        volume_images={"b": "sha-b"},
        volumes_due=0,
        volumes_retry_at=NOW + RETRY,
        notes=(Note("FailedMount", words, "Warning"),),
    )


# --- images ---------------------------------------------------------------------------------------

PULLS = ContainerMemory(
    operation="pull",
    image="c:1",
    pull_backoff=Backoff(20 * SECOND, 60 * SECOND),
    reason="ErrImagePull",
    message="m",
)


@pytest.mark.parametrize("id", ["sha", ""])
def test_kubelet_21_an_image_that_is_on_the_node(id):
    memory = a_memory(PULLS)
    operation = PullImage("u", "c:1", "Always")
    held = replace(PULLS, operation="", image_id=id or "c:1", image_user="7", pull_backoff=None)
    found = after(memory, operation, ImagePulled(id, True, 12, "7"))
    assert found == with_c(
        memory,
        held,
        Note("Pulling", 'Pulling image "c:1"', "Normal", PATH),
        Note("Pulled", 'Successfully pulled image "c:1". Image size: 12 bytes.', "Normal", PATH),
    )
    found = after(memory, operation, ImagePulled(id, False, 12, "7"))
    words = 'Container image "c:1" already present on machine'
    assert found == with_c(memory, held, Note("Pulled", words, "Normal", PATH))


@pytest.mark.parametrize(
    ("result", "reason", "words"),
    [
        (Failed("RegistryUnavailable", "no route"), "RegistryUnavailable", "no route"),
        (Failed("", "no route"), "ErrImagePull", "no route"),
        (Done(), "ErrImagePull", "unexpected result Done"),
    ],
)
def test_kubelet_21_an_image_that_could_not_be_pulled(result, reason, words):
    memory = a_memory(PULLS)
    found = after(memory, PullImage("u", "c:1", "Always"), result)
    held = replace(
        PULLS, operation="", reason=reason, message=words, pull_backoff=Backoff(40 * SECOND, NOW)
    )
    assert found == with_c(
        memory,
        held,
        Note("Failed", f'Failed to pull image "c:1": {words}', "Warning", PATH),
        Note("Failed", f"Error: {reason}", "Warning", PATH),
    )


def test_kubelet_21_a_pull_is_that_of_one_container_with_this_image():
    both = a_memory(PULLS)
    both = replace(both, containers={**both.containers, "i": PULLS})
    found = after(both, PullImage("u", "c:1", "Always"), ImagePulled("sha", False))
    assert (found.container("c").operation, found.container("i").operation) == ("", "pull")
    again = after(found, PullImage("u", "c:1", "Always"), ImagePulled("sha", False))
    assert again.container("i").operation == ""
    assert again.notes[-1].container == "spec.initContainers{i}"
    for other in (
        replace(PULLS, operation=""),
        replace(PULLS, image="other"),
        replace(PULLS, operation="create"),
    ):
        memory = a_memory(other)
        assert after(memory, PullImage("u", "c:1", "Always"), ImagePulled("sha", False)) is memory


def test_kubelet_110_the_image_of_a_volume():
    memory = a_memory(volume_images={"a": "pull", "b": "sha-b"})
    operation = PullImage("u", "a", "Always")
    for id in ("sha-a", ""):
        found = after(memory, operation, ImagePulled(id, True))
        assert found == replace(memory, volume_images={"a": id or "a", "b": "sha-b"})
    note = Note("FailedMount", 'Failed to pull image volume "a": gone', "Warning")
    assert after(memory, operation, Failed("x", "gone")) == replace(
        memory, volume_images={"b": "sha-b"}, volumes_retry_at=NOW + RETRY, notes=(note,)
    )
    assert after(memory, PullImage("u", "b", "Always"), ImagePulled("x", True)) is memory


# --- containers -----------------------------------------------------------------------------------


def creation():
    return CreateContainer("s", ContainerConfig("u", "default", "p", "c", "c:1"))


@pytest.mark.parametrize("has_current", [True, False])
@pytest.mark.parametrize("has_last", [True, False])
def test_kubelet_16_kubelet_18_the_new_attempt_and_those_before_it(has_current, has_last):
    last = replace(OVER, id="c-0", attempt=0)
    held = ContainerMemory(
        OVER if has_current else None,
        last if has_last else None,
        stale=("c-old",),
        operation="create",
        grace_until=5,
        pre_stop_done=True,
        image_id="sha",
    )
    new = replace(RUNS, id="c-2", attempt=2, state="created")
    memory = a_memory(held)
    found = after(memory, creation(), ContainerCreated(new))
    stale = ("c-old", "c-0") if has_current and has_last else ("c-old",)
    expected = replace(
        held,
        current=new,
        last=OVER if has_current else held.last,
        stale=stale,
        operation="",
        grace_until=NEVER,
        pre_stop_done=False,
    )
    assert found == with_c(memory, expected, Note("Created", "Container created", "Normal", PATH))


@pytest.mark.parametrize(
    ("result", "reason", "words"),
    [
        (Failed("CreateContainerConfigError", "no"), "CreateContainerConfigError", "no"),
        (Failed("", "no"), "CreateContainerError", "no"),
        (Done(), "CreateContainerError", "unexpected result Done"),
    ],
)
def test_kubelet_22_an_attempt_that_could_not_be_created(result, reason, words):
    held = ContainerMemory(OVER, operation="create", image_id="sha", image="c:1")
    memory = a_memory(held)
    expected = replace(
        held, operation="", reason=reason, message=words, retry_at=NOW + RETRY, image_id=""
    )
    note = Note("Failed", f"Error: {words}", "Warning", PATH)
    assert after(memory, creation(), result) == with_c(memory, expected, note)


def test_kubelet_14_an_attempt_that_was_started():
    made = replace(RUNS, state="created", started_at=0)
    held = ContainerMemory(
        made,
        operation="start",
        image_id="sha",
        image="c:1",
        reason="CrashLoopBackOff",
        message="m",
        post_start_pending=True,
        pre_stop_done=True,
    )
    memory = a_memory(held)
    free = replace(held, operation="", image_id="", reason="", message="")
    note = Note("Started", "Container started", "Normal", PATH)
    operation = StartContainer("u", "c-1")
    assert after(memory, operation, Done(RUNS)) == with_c(memory, replace(free, current=RUNS), note)
    for result in (Done(), Probed(True)):
        unknown = replace(made, state="running", started_at=NOW)
        assert after(memory, operation, result) == with_c(
            memory, replace(free, current=unknown), note
        )
    over = replace(free, current=OVER, post_start_pending=False, pre_stop_done=False)
    assert after(memory, operation, Done(OVER)) == with_c(memory, over, note)
    assert after(memory, StartContainer("u", "other"), Done(RUNS)) is memory


@pytest.mark.parametrize("reason", ["ContainerCannotRun", ""])
def test_kubelet_43_an_attempt_that_could_not_be_started_counts_as_exited(reason):
    made = replace(RUNS, state="created", started_at=3)
    held = ContainerMemory(made, operation="start", image_id="sha", image="c:1", grace_until=5)
    memory = a_memory(held)
    ended = replace(
        made,
        state="exited",
        exit_code=128,
        reason="StartError",
        message="no such file",
        started_at=0,
        finished_at=NOW,
    )
    expected = ContainerMemory(
        ended, image="c:1", reason=reason or "RunContainerError", message="no such file"
    )
    note = Note("Failed", "Error: no such file", "Warning", PATH)
    found = after(memory, StartContainer("u", "c-1"), Failed(reason, "no such file"))
    assert found == with_c(memory, expected, note)


WANTED = ResourceRequirements(limits={"cpu": "2"})


@pytest.mark.parametrize(("operation", "left"), [("update", ""), ("stop", "stop")])
def test_resize_4_resources_that_were_given_or_were_not(operation, left):
    held = ContainerMemory(RUNS, operation=operation, updating=WANTED, resize_error="old")
    memory = a_memory(held)
    request = UpdateContainerResources("u", "c-1", Resources(2000))
    expected = replace(held, operation=left, updating=None, applied=WANTED, resize_error="")
    note = Note("ResizeCompleted", "Container c resized", "Normal", PATH)
    assert after(memory, request, Done()) == with_c(memory, expected, note)
    words = "failed to resize container c: busy"
    expected = replace(
        held, operation=left, updating=None, resize_error=words, retry_at=NOW + RETRY
    )
    failed = after(memory, request, Failed("x", "busy"))
    assert failed == with_c(memory, expected, Note("ResizeError", words, "Warning", PATH))
    again = a_memory(replace(held, resize_error=words))
    assert after(again, request, Failed("x", "busy")) == with_c(again, expected)
    for quiet in (a_memory(replace(held, updating=None)), a_memory()):
        assert after(quiet, request, Done()) is quiet


def test_pod_3_pod_14_a_container_that_was_stopped_or_was_not():
    held = ContainerMemory(
        RUNS,
        operation="stop",
        grace_until=5,
        pre_stop_done=True,
        post_start_pending=True,
        reason="r",
        message="m",
        image_id="sha",
        probes={"a": ProbeMemory("c-1", True)},
        stop_reason=HOOK,
    )
    memory = a_memory(held)
    operation = StopContainer("u", "c-1", 5)
    for result, status in (
        (Done(OVER), OVER),
        (Done(RUNS), lost(RUNS)),
        (Done(), lost(RUNS)),
        (Probed(True), lost(RUNS)),
    ):
        expected = ContainerMemory(status, stop_reason=HOOK)
        assert after(memory, operation, result) == with_c(memory, expected)
    assert after(memory, operation, Failed("x", "busy")) == with_c(
        memory, replace(held, operation="", retry_at=NOW + RETRY)
    )
    for quiet in (a_memory(ContainerMemory(OVER)), a_memory()):
        assert after(quiet, operation, Done(OVER)) is quiet


def test_kubelet_18_an_old_attempt_that_was_removed_or_was_not():
    held = ContainerMemory(RUNS, stale=("a", "b"), removing=True)
    memory = a_memory(held)
    assert after(memory, RemoveContainer("u", "a"), Done()) == with_c(
        memory, replace(held, removing=False, stale=("b",))
    )
    assert after(memory, RemoveContainer("u", "a"), Failed("x", "busy")) == with_c(
        memory, replace(held, removing=False, retry_at=NOW + RETRY)
    )
    assert after(memory, RemoveContainer("u", "z"), Done()) is memory


@pytest.mark.parametrize(
    ("result", "worked"),
    [(Probed(True), True), (Probed(False), False), (Failed("x", "y"), False), (Done(), False)],
)
def test_kubelet_17_a_hook_that_worked_or_did_not(result, worked):
    hook = RunHook("u", "c-1", "exec", 5)
    held = ContainerMemory(RUNS, operation="preStop", grace_until=5)
    memory = a_memory(held)
    notes = () if worked else (Note("FailedPreStopHook", "PreStopHook failed", "Warning", PATH),)
    assert after(memory, hook, result) == with_c(
        memory, replace(held, operation="", pre_stop_done=True), *notes
    )
    held = ContainerMemory(RUNS, operation="postStart")
    memory = a_memory(held)
    if worked:
        assert after(memory, hook, result) == with_c(memory, replace(held, operation=""))
    else:
        note = Note("FailedPostStartHook", "PostStartHook failed", "Warning", PATH)
        expected = replace(held, operation="", stop_reason=HOOK, pre_stop_done=True)
        assert after(memory, hook, result) == with_c(memory, expected, note)
    for quiet in (a_memory(replace(held, operation="stop")), a_memory()):
        assert after(quiet, hook, result) is quiet


def test_an_event_names_the_kind_of_container():
    for name, path in (("i", "initContainers"), ("e", "ephemeralContainers"), ("c", "containers")):
        config = ContainerConfig("u", "default", "p", name, "x")
        found = after(a_memory(), CreateContainer("s", config), ContainerCreated(RUNS))
        assert found.notes[0].container == f"spec.{path}{{{name}}}"


# --- the memory -----------------------------------------------------------------------------------


def test_kubelet_10_containers_are_created_in_a_sandbox_that_lives_and_is_not_changed():
    for sandbox in (None, ALIVE, replace(ALIVE, ready=False)):
        for operation in ("", "run", "stop", "remove"):
            memory = a_memory(sandbox=sandbox, sandbox_operation=operation)
            expected = ALIVE if sandbox is ALIVE and not operation else None
            assert live_sandbox(memory) is expected


@pytest.mark.parametrize("operation", ["", "pull", "create", "stop", "preStop"])
def test_kubelet_3_of_the_operations_only_a_pull_outlives_the_exit_of_a_container(operation):
    found = ContainerMemory(RUNS, operation=operation).after_exit(OVER)
    assert found == ContainerMemory(OVER, operation="pull" if operation == "pull" else "")


def test_an_event_about_a_pod_that_only_the_runtime_has():
    assert a_memory(pod=None).field_path("i") == "spec.containers{i}"
    assert a_memory().field_path("i") == "spec.initContainers{i}"
