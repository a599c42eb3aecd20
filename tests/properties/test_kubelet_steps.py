"""Single steps of the kubelet beside a plain reading: how one container is ended (POD-3, POD-7) and
told (POD-13, POD-14), in full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import make_pod
from kubelet_chaos import container
from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Lifecycle,
    LifecycleHandler,
    SleepAction,
)
from refk8s.core.context import SECOND, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Draft, Facts
from refk8s.core.kubelet.lifecycle import is_stray, stop
from refk8s.core.kubelet.memory import (
    LOST_EXIT_CODE,
    LOST_MESSAGE,
    LOST_REASON,
    NEVER,
    SANDBOX,
    ContainerMemory,
    Note,
    PodMemory,
)
from refk8s.core.kubelet.objects import Library
from refk8s.core.kubelet.results import after_result
from refk8s.core.kubelet.status import compute_pod_status
from refk8s.core.ports import ContainerStatus as Found
from refk8s.core.ports import (
    Done,
    NodeDescribed,
    RunHook,
    SandboxStatus,
    StopContainer,
    StopPodSandbox,
)

NODE = NodeDescribed(
    "node", "10.0.0.9", 1000, 1 << 30, 1 << 30, 10, "amd64", "linux", "os", "kernel", "fake://1"
)
FACTS = Facts(KubeletConfig(), NODE)
NOW = 100 * SECOND
RUNS = Found(
    id="c-2",
    sandbox_id="s-1",
    pod_uid="u",
    name="c",
    attempt=2,
    state="running",
    image="app:1",
    image_id="sha",
    started_at=5 * SECOND,
)
PRE_STOP = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=9)))


def a_draft(held: ContainerMemory, spec=None, **memory) -> Draft:
    pod = make_pod("p", (spec or container("c"),))
    return Draft(
        FACTS,
        pod,
        PodMemory("u", "default", "p", pod=pod, containers={"c": held}, **memory),
        Library({}, NOW),
        NOW,
    )


@given(
    state=st.sampled_from(["running", "running", "running", "created", "exited"]),
    operation=st.sampled_from(["", "", "pull", "create", "start", "postStart", "preStop", "stop"]),
    has_hook=st.booleans(),
    pre_stop_done=st.booleans(),
    left=st.sampled_from([None, None, -SECOND, 0, 1, SECOND, 5 * SECOND, 10 * SECOND]),
    seconds=st.sampled_from([1, 2, 5, 30]),
    rests=st.sampled_from([0, 0, NOW, NOW + 1]),
    message=st.sampled_from(["", "Stopping container c"]),
)
def test_pod_3_pod_7_the_next_step_of_ending_a_container(
    state, operation, has_hook, pre_stop_done, left, seconds, rests, message
):
    """preStop once and first; SIGTERM with what is left of the period; a shorter period at once;
    nothing while an answer is to come."""
    grace_until = NEVER if left is None else NOW + left
    spec = container("c", lifecycle=PRE_STOP) if has_hook else container("c")
    held = ContainerMemory(
        replace(RUNS, state=state),
        operation=operation,
        pre_stop_done=pre_stop_done,
        grace_until=grace_until,
        retry_at=rests,
    )
    draft = a_draft(held, spec)
    stop(draft, spec, seconds, message)
    after = draft.memory.container("c")
    if state != "running" or operation in ("create", "start") or rests > NOW:
        assert (draft.operations, after, draft.memory.notes) == ([], held, ())
        assert draft.wake_at == (
            rests if state == "running" and operation not in ("create", "start") else None
        )
        return
    assert draft.wake_at is None
    told = Note("Killing", message, "Normal", "spec.containers{c}")
    assert draft.memory.notes == ((told,) if message and left is None else ())
    until = min(NOW + seconds * SECOND, grace_until)
    if operation == "" and has_hook and not pre_stop_done and left is None:
        assert draft.operations == [
            RunHook("u", "c-2", "sleep" if has_hook else "", seconds, seconds=9)
        ]
        assert after == replace(held, operation="preStop", grace_until=until)
    elif operation in ("", "postStart"):
        whole = -((NOW - until) // SECOND)
        assert draft.operations == [
            StopContainer("u", "c-2", max(whole, 2 if pre_stop_done else 1))
        ]
        assert after == replace(held, operation="stop", grace_until=until)
    elif operation in ("preStop", "stop", "pull") and NOW + seconds * SECOND < grace_until:
        assert draft.operations == [StopContainer("u", "c-2", seconds)]
        assert after == replace(held, operation="stop", grace_until=until)
    else:
        assert (draft.operations, after) == ([], held)


@given(
    st.sampled_from(["running", "created", "exited"]),
    st.sampled_from([None, ("s-1", True), ("s-1", False), ("s-2", True)]),
)
def test_kubelet_2_what_runs_in_another_sandbox_or_a_dead_one_is_a_stray(state, sandbox):
    newest = SandboxStatus(sandbox[0], "u", "default", "p", 0, sandbox[1]) if sandbox else None
    draft = a_draft(ContainerMemory(replace(RUNS, state=state)), sandbox=newest)
    assert is_stray(draft, "c") == (state == "running" and sandbox != ("s-1", True))
    assert not is_stray(draft, "nobody")


LOST = replace(
    RUNS,
    state="exited",
    exit_code=LOST_EXIT_CODE,
    reason=LOST_REASON,
    message=LOST_MESSAGE,
    finished_at=NOW,
)


@given(st.sampled_from([None, "running", "exited"]), st.sampled_from(["stop", "pull"]))
def test_pod_14_a_stopped_container_without_an_exit_status_is_reported_as_lost(state, operation):
    """The runtime answers the stop, and reports nothing, or a container that still runs."""
    status = None if state is None else replace(RUNS, state=state, exit_code=7)
    held = ContainerMemory(RUNS, operation=operation, grace_until=NOW, pre_stop_done=True)
    memory = after_result(
        a_draft(held).memory, StopContainer("u", "c-2", 1), Done(status), NOW, SECOND
    )
    after = memory.container("c")
    assert after.current == (status if state == "exited" else LOST)
    assert (after.operation, after.grace_until, after.pre_stop_done) == (
        operation if operation == "pull" else "",
        NEVER,
        False,
    )


@given(st.sampled_from(["s-1", "s-2"]), st.sampled_from(["running", "exited"]))
def test_kubelet_10_a_stopped_sandbox_has_killed_its_running_containers(stopped, state):
    """They restart without a back-off; containers of other sandboxes are unchanged."""
    held = ContainerMemory(replace(RUNS, state=state))
    sandbox = SandboxStatus("s-1", "u", "default", "p", 0, True)
    draft = a_draft(held, sandbox=sandbox, sandbox_operation="stop")
    memory = after_result(draft.memory, StopPodSandbox("u", stopped), Done(), NOW, SECOND)
    is_ours = stopped == "s-1"
    assert memory.sandbox_operation == ""
    assert memory.sandbox == (None if is_ours else sandbox)
    assert memory.dead_sandboxes == ((replace(sandbox, ready=False),) if is_ours else ())
    after = memory.container("c")
    if is_ours and state == "running":
        assert (after.current, after.stop_reason) == (LOST, SANDBOX)
    else:
        assert after == held


# --- what the API is told of one container

ENDED = replace(RUNS, state="exited", finished_at=60 * SECOND, exit_code=3)
TOLD_ENDED = ContainerStateTerminated(
    container_id="fake://c-2",
    exit_code=3,
    reason="Error",
    started_at=timestamp(5 * SECOND),
    finished_at=timestamp(60 * SECOND),
)


def told(held: ContainerMemory, before: ContainerStatus | None = None, **memory) -> ContainerStatus:
    draft = a_draft(held, **memory)
    pod = replace(
        draft.pod,
        status=replace(draft.pod.status, container_statuses=(before,) if before else None),
    )
    (status,) = compute_pod_status(FACTS, pod, draft.memory, NOW).container_statuses
    return status


def test_pod_13_each_state_of_a_container_in_full():
    known = ContainerStatus(
        name="c",
        image="app:1",
        image_id="sha",
        container_id="fake://c-2",
        restart_count=2,
        last_state=ContainerState(),
        ready=False,
        started=False,
    )
    waiting = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
    image = container("c").image
    none_yet = ContainerStatus(
        name="c",
        image=image,
        image_id="",
        last_state=ContainerState(),
        ready=False,
        started=False,
        restart_count=0,
    )
    assert told(ContainerMemory()) == replace(none_yet, state=waiting)
    runs = ContainerState(running=ContainerStateRunning(started_at=timestamp(5 * SECOND)))
    assert told(ContainerMemory(RUNS)) == replace(known, state=runs, ready=True, started=True)
    assert told(ContainerMemory(ENDED)) == replace(
        known, state=ContainerState(terminated=TOLD_ENDED)
    )
    looping = ContainerMemory(ENDED, reason="CrashLoopBackOff", message="back-off")
    waits = ContainerState(
        waiting=ContainerStateWaiting(reason="CrashLoopBackOff", message="back-off")
    )
    assert told(looping) == replace(
        known, state=waits, last_state=ContainerState(terminated=TOLD_ENDED)
    )
    for over in ({"ended": True}, {"ending": "deleted"}):
        assert told(looping, **over) == replace(
            known, state=ContainerState(terminated=TOLD_ENDED)
        ), "nothing will be started any more"
    earlier = replace(
        ENDED, id="c-1", attempt=1, exit_code=0, message="done", finished_at=0, started_at=0
    )
    completed = ContainerStateTerminated(
        container_id="fake://c-1", exit_code=0, reason="Completed", message="done"
    )
    both = told(ContainerMemory(RUNS, last=earlier))
    assert both == replace(
        known, state=runs, ready=True, started=True, last_state=ContainerState(terminated=completed)
    )
    killed = told(ContainerMemory(replace(ENDED, reason="OOMKilled")))
    assert killed.state.terminated == replace(TOLD_ENDED, reason="OOMKilled")


@given(st.sampled_from(["waiting", "running", "terminated"]), st.booleans(), st.integers(0, 5))
def test_pod_14_what_was_told_of_an_attempt_that_is_gone_is_its_end(state, has_next, count):
    """The attempt that the API knows is no more in the runtime: its end is the one told, or that
    nobody knows it."""
    end = ContainerStateTerminated(container_id="fake://c-0", exit_code=1, reason="Error")
    states = {
        "waiting": ContainerState(waiting=ContainerStateWaiting(reason="CrashLoopBackOff")),
        "running": ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z")),
        "terminated": ContainerState(terminated=end),
    }
    older = ContainerState(terminated=replace(end, container_id="fake://c-older"))
    before = ContainerStatus(
        name="c",
        container_id="fake://c-0",
        state=states[state],
        last_state=older,
        restart_count=count,
    )
    after = told(ContainerMemory(RUNS if has_next else None), before)
    assert after.restart_count == (max(count, 2) if has_next else count), (
        "restarts are never counted down"
    )
    lost = ContainerStateTerminated(
        container_id="fake://c-0",
        exit_code=LOST_EXIT_CODE,
        reason=LOST_REASON,
        message=LOST_MESSAGE,
        started_at="2026-01-01T00:00:00Z",
    )
    ends = {
        "waiting": older,
        "running": ContainerState(terminated=lost),
        "terminated": states["terminated"],
    }
    assert after.last_state == (ends[state] if has_next else older)
