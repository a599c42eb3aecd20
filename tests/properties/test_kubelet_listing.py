"""What a kubelet remembers after a list of the runtime, and of the API server's status, in full:
KUBELET-40 (spec/kubelet.md), POD-14 and POD-18 (spec/pod.md). How long a status is held back
(KUBELET-31), and the addresses of a node (KUBELET-119)."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api import core_v1
from refk8s.core.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
)
from refk8s.core.context import SECOND, parse_timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.held_back import held_back_until, is_starting
from refk8s.core.kubelet.listing import after_list, has_news, is_as_known, with_pod_status
from refk8s.core.kubelet.memory import ContainerMemory, Note, PodMemory, ProbeMemory
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.ports import ContainerStatus, NodeDescribed, SandboxStatus

NOW = 100 * SECOND
CHANGED = Note("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")


def sandbox(id="s", attempt=0, ready=True, created=0) -> SandboxStatus:
    return SandboxStatus(id, "u", "default", "p", attempt, ready, created_at=created)


def attempt(number=0, state="running", name="c", **more) -> ContainerStatus:
    return ContainerStatus(
        id=more.pop("id", f"{name}-{number}"),
        sandbox_id="s",
        pod_uid="u",
        name=name,
        attempt=number,
        state=state,
        image="c:1",
        image_id="sha",
        started_at=5 * SECOND,
        finished_at=60 * SECOND if state == "exited" else 0,
        exit_code=3 if state == "exited" else 0,
        **more,
    )


def lost(status):
    return replace(
        status,
        state="exited",
        exit_code=137,
        reason="ContainerStatusUnknown",
        message="The container could not be located when the pod was terminated",
        finished_at=NOW,
    )


def a_memory(**parts) -> PodMemory:
    given_ = {"listing": True, "in_whole_list": True, "has_waited": True, **parts}
    return PodMemory("u", "default", "p", **given_)


def listed(memory, sandboxes=(), containers=()):
    found = after_list(memory, list(sandboxes), list(containers), NOW)
    assert (found.listing, found.in_whole_list, found.has_waited) == (False, False, False)
    return found


# --- sandboxes ------------------------------------------------------------------------------------


def test_kubelet_40_the_newest_living_sandbox_is_the_pods():
    dead, old, new = sandbox("a", 2, ready=False), sandbox("b", 0), sandbox("c", 1)
    for order in permutations([dead, old, new]):
        found = listed(a_memory(), order)
        assert (found.sandbox, found.dead_sandboxes) == (new, (old, dead))
        assert found.sandbox_attempt == 3 and found.notes == ()
    # without a living one it is the newest, by attempt, time of creation and id
    for first, second in (
        (sandbox("z", 0, False), sandbox("a", 1, False)),
        (sandbox("z", 0, False, 1), sandbox("a", 0, False, 2)),
        (sandbox("a", 0, False), sandbox("b", 0, False)),
    ):
        for order in permutations([first, second]):
            found = listed(a_memory(), order)
            assert (found.sandbox, found.dead_sandboxes) == (second, (first,))
    assert listed(a_memory(sandbox_attempt=9), [new]).sandbox_attempt == 9
    found = listed(a_memory(sandbox_attempt=4, dead_sandboxes=(dead,)))
    assert (found.sandbox, found.dead_sandboxes, found.sandbox_attempt) == (None, (), 4)


def test_kubelet_40_a_sandbox_that_the_kubelet_had_stopped_is_not_the_pods():
    dead = sandbox(ready=False)
    for memory in (a_memory(ended=True), a_memory(dead_sandboxes=(dead,))):
        found = listed(memory, [dead])
        assert (found.sandbox, found.dead_sandboxes) == (None, (dead,))
    other = listed(a_memory(dead_sandboxes=(sandbox("x", ready=False),)), [dead])
    assert (other.sandbox, other.dead_sandboxes) == (dead, ())
    alive = listed(a_memory(ended=True, dead_sandboxes=(sandbox(),)), [sandbox()])
    assert alive.sandbox == sandbox(), "one that runs is not stopped yet"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (sandbox(), [sandbox()], False),
        (sandbox(), [], True),
        (sandbox(), [sandbox(ready=False)], True),
        (sandbox(), [sandbox("t", 1)], True),
        (sandbox(ready=False), [], False),
        (None, [sandbox()], False),
    ],
)
def test_kubelet_10_a_changed_sandbox_is_told(before, after, told):
    known = Note("a", "b")
    found = listed(a_memory(sandbox=before, notes=(known,)), after)
    assert found.notes == ((known, CHANGED) if told else (known,))
    for ending in ({"ended": True}, {"ending": "deleted"}):
        assert listed(a_memory(sandbox=before, **ending), after).notes == ()


# --- containers -----------------------------------------------------------------------------------


def container_after(held, *statuses):
    memory = a_memory(containers={"c": held} if held is not None else {})
    return listed(memory, [sandbox()], statuses).containers.get("c")


def test_kubelet_40_the_newest_attempt_is_current_and_the_one_before_is_kept():
    first, second, third = attempt(0, "exited"), attempt(1, "exited"), attempt(2)
    for order in permutations([first, second, third]):
        found = container_after(None, *order)
        assert found == ContainerMemory(third, second, ("c-0",))
    same = [attempt(1, id="z", created_at=1), attempt(1, id="a", created_at=2)]
    for order in permutations(same):
        assert container_after(None, *order) == ContainerMemory(same[1], same[0])
    alike = [attempt(1, id="a"), attempt(1, id="b")]
    for order in permutations(alike):
        assert container_after(None, *order) == ContainerMemory(alike[1], alike[0])
    assert container_after(None, third) == ContainerMemory(third)


def test_kubelet_40_what_is_remembered_of_the_same_attempt_stays():
    probes = {"liveness": ProbeMemory("c-2", True)}
    held = ContainerMemory(
        attempt(2),
        attempt(1, "exited"),
        ("c-0",),
        operation="postStart",
        image="c:1",
        image_id="sha",
        probes=probes,
        removing=True,
        grace_until=7,
    )
    three = (attempt(0, "exited"), attempt(1, "exited"), attempt(2))
    assert container_after(held, *three) == replace(held, removing=False)
    assert container_after(held, three[2]) == replace(held, removing=False, stale=())
    # it has exited meanwhile
    over = attempt(2, "exited")
    expected = held.after_exit(over)
    assert container_after(held, *three[:2], over) == replace(expected, removing=False)
    assert expected.probes == {} and expected.operation == ""
    # that was known already: what was remembered since then stays
    knows = replace(held, current=over, operation="pull", reason="CrashLoopBackOff", message="m")
    assert container_after(knows, *three[:2], over) == replace(knows, removing=False)


def test_kubelet_43_an_attempt_that_could_not_start_stays_exited():
    failed = replace(attempt(2, "exited"), reason="StartError")
    held = ContainerMemory(failed, attempt(1, "exited"), reason="RunContainerError")
    assert container_after(held, attempt(2, "created")) == held
    found = container_after(held, attempt(2))
    assert found == replace(held, current=attempt(2)), "unless it runs"


def test_kubelet_40_another_attempt_than_the_known_one():
    known, before = attempt(1, "exited"), attempt(0, "exited")
    new = attempt(2)
    held = ContainerMemory(known, before, operation="start", image="c:1")
    assert container_after(held, new) == replace(held, current=new, last=known)
    assert container_after(held, known, new) == replace(held, current=new, last=known)
    found = container_after(held, before, known, new)
    assert found == replace(held, current=new, last=known, stale=("c-0",))
    bare = ContainerMemory(None, before)
    assert container_after(bare, new) == ContainerMemory(new, before)
    assert container_after(bare) == bare and container_after(replace(bare, stale=("x",))) == bare
    ended = attempt(2, "exited")
    found = container_after(held, ended)
    assert found == replace(held, last=known).after_exit(ended)


@pytest.mark.parametrize("there", [(), (attempt(0, "exited"),), (attempt(1, id="x"),)])
def test_pod_14_an_attempt_that_the_runtime_has_lost_has_exited(there):
    held = ContainerMemory(attempt(1), operation="pull", image="c:1", image_id="sha", stale=("z",))
    stale = tuple(one.id for one in there)
    expected = ContainerMemory(lost(attempt(1)), operation="pull", image="c:1", stale=stale)
    assert container_after(held, *there) == expected
    over = replace(held, current=attempt(1, "exited"), reason="r")
    assert container_after(over, *there) == replace(over, stale=stale), "its end was known"
    if there:
        newer = attempt(2)
        assert container_after(held, newer).current == newer


def test_kubelet_40_every_container_of_the_list_and_of_the_memory_is_looked_at():
    held = {"a": ContainerMemory(attempt(name="a")), "b": ContainerMemory()}
    memory = a_memory(containers=held)
    found = listed(memory, [sandbox()], [attempt(name="c"), attempt(3, name="d")])
    assert {name: one.current for name, one in found.containers.items()} == {
        "a": lost(attempt(name="a")),
        "b": None,
        "c": attempt(name="c"),
        "d": attempt(3, name="d"),
    }


# --- news -----------------------------------------------------------------------------------------


def known(**parts):
    containers = {"c": ContainerMemory(attempt()), "d": ContainerMemory(attempt(name="d"))}
    return a_memory(
        **{"sandbox": sandbox(), "sandbox_attempt": 1, "containers": containers, **parts}
    )


def test_kubelet_41_a_list_that_shows_what_is_known():
    there = [attempt(), attempt(name="d")]
    assert is_as_known(known(), [sandbox()], there)
    assert after_list(known(), [sandbox()], there, NOW) == replace(
        known(), listing=False, in_whole_list=False, has_waited=False
    )
    c, d = known().containers["c"], known().containers["d"]
    for memory, sandboxes, containers in (
        (known(), [], there),
        (known(), [sandbox(), sandbox("t")], there),
        (known(), [sandbox()], there[:1]),
        (known(), [sandbox()], [*there, attempt(name="e")]),
        (known(dead_sandboxes=(sandbox("x"),)), [sandbox()], there),
        (known(sandbox=sandbox(ready=False)), [sandbox(ready=False)], there),
        (known(sandbox=None), [sandbox()], there),
        (known(sandbox_attempt=0), [sandbox()], there),
        (known(), [sandbox()], [attempt(), attempt(1, name="d")]),
        (known(containers={"c": replace(c, stale=("x",)), "d": d}), [sandbox()], there),
        (known(containers={"c": c, "d": replace(d, removing=True)}), [sandbox()], there),
    ):
        assert not is_as_known(memory, sandboxes, containers)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, False),
        ({"sandbox": None}, True),
        ({"dead_sandboxes": (sandbox(),)}, True),
        ({"sandbox_attempt": 5}, True),
        ({"containers": {}}, True),
        ({"notes": (CHANGED,)}, True),
        ({"listing": False, "dirty": True, "busy_since": 5}, False),
    ],
)
def test_kubelet_41_which_changes_are_news(parts, expected):
    assert has_news(known(), known(**parts)) == has_news(known(**parts), known()) == expected


# --- what only the API server knows ---------------------------------------------------------------

EARLY, LATE = "2026-01-01T00:00:01Z", "2026-01-01T00:00:09Z"
ENDED = ContainerStateTerminated(
    exit_code=4, reason="Error", message="m", started_at=EARLY, finished_at=LATE
)
BARE_END = ContainerStateTerminated(exit_code=0)
TOLD = core_v1.ContainerStatus(
    name="c", image="c:1", image_id="sha", container_id="fake://c-3", restart_count=3
)


def from_status(status, of="container_statuses", held=None, start_time=None):
    pod = make_pod("p", (Container(name="c"),))
    pod = replace(pod, status=replace(pod.status, start_time=start_time, **{of: (status,)}))
    memory = PodMemory("u", "default", "p", started_at=7, containers=held or {})
    return with_pod_status(memory, pod, NOW)


@pytest.mark.parametrize("of", ["container_statuses", "init_container_statuses"])
@pytest.mark.parametrize(
    ("state", "last", "expected"),
    [
        (ContainerState(terminated=ENDED), ContainerState(), (4, "Error", "m", EARLY, LATE)),
        (
            ContainerState(waiting=ContainerStateWaiting()),
            ContainerState(terminated=ENDED),
            (4, "Error", "m", EARLY, LATE),
        ),
        (
            ContainerState(terminated=BARE_END),
            ContainerState(terminated=ENDED),
            (0, "", "", None, None),
        ),
        (
            ContainerState(running=ContainerStateRunning(started_at=EARLY)),
            ContainerState(terminated=ENDED),
            (137, "lost", "lost", EARLY, None),
        ),
        (
            ContainerState(running=ContainerStateRunning()),
            ContainerState(),
            (137, "lost", "lost", None, None),
        ),
        (ContainerState(), ContainerState(), (137, "lost", "lost", None, None)),
    ],
)
def test_pod_14_an_attempt_that_only_the_status_knows_has_exited(of, state, last, expected):
    code, reason, message, started, finished = expected
    found = from_status(replace(TOLD, state=state, last_state=last), of)
    unknown = lost(attempt())
    assert found.containers["c"] == ContainerMemory(
        ContainerStatus(
            id="c-3",
            sandbox_id="",
            pod_uid="u",
            name="c",
            attempt=3,
            state="exited",
            image="c:1",
            image_id="sha",
            exit_code=code,
            reason=unknown.reason if reason == "lost" else reason,
            message=unknown.message if message == "lost" else message,
            started_at=parse_timestamp(started) if started else 0,
            finished_at=parse_timestamp(finished) if finished else NOW,
        )
    )
    assert found.started_at == 7


def test_pod_14_pod_18_what_the_runtime_has_comes_first_and_the_start_time_is_taken():
    held = {"c": ContainerMemory(attempt())}
    assert from_status(TOLD, held=held).containers == held
    both = (TOLD, replace(TOLD, name="d", container_id="fake://d-1", restart_count=1))
    pod = make_pod("p")
    pod = replace(pod, status=replace(pod.status, container_statuses=both))
    found = with_pod_status(PodMemory("u", "default", "p", containers=held), pod, NOW)
    assert (found.containers["c"], found.containers["d"].current.id) == (held["c"], "d-1")
    none = replace(TOLD, container_id=None)
    assert from_status(none).containers == {}
    two = from_status(none, start_time=EARLY)
    assert two.started_at == parse_timestamp(EARLY)
    kept = {"c": ContainerMemory(None, attempt(1), stale=("x",))}
    found = from_status(replace(TOLD, state=ContainerState(terminated=ENDED)), held=kept)
    assert (found.containers["c"].last, found.containers["c"].stale) == (attempt(1), ("x",))


# --- how long a status is held back ---------------------------------------------------------------

CONFIG = KubeletConfig(status_held_back=3 * SECOND)


@given(
    st.lists(st.sampled_from(["none", "runs", "pull", "failed", "exited"]), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_kubelet_31_a_pod_starts_until_its_containers_run_or_one_fails(
    whats, has_sandbox, ended, rejected
):
    kinds = {
        "none": ContainerMemory(),
        "runs": ContainerMemory(attempt()),
        "pull": ContainerMemory(attempt(), operation="pull"),
        "failed": ContainerMemory(reason="ErrImagePull"),
        "exited": ContainerMemory(attempt(0, "exited")),
    }
    pod = make_pod("p", tuple(Container(name=f"c{at}") for at in range(len(whats))))
    memory = PodMemory(
        "u",
        "default",
        "p",
        containers={f"c{at}": kinds[what] for at, what in enumerate(whats)},
        ended=ended,
        sandbox=sandbox() if has_sandbox else None,
        rejected=("a", "b") if rejected else None,
    )
    is_on_its_way = any(what in ("none", "pull", "exited") for what in whats)
    expected = not ended and not rejected and (is_on_its_way or not has_sandbox)
    assert is_starting(pod, memory) == expected


def test_kubelet_31_the_instant_from_which_a_status_may_be_written():
    pod = make_pod("p")
    begun = replace(pod, status=replace(pod.status, start_time=EARLY))
    quiet = PodMemory(
        "u",
        "default",
        "p",
        seen_at=20,
        ending_at=30,
        sandbox=sandbox(),
        containers={"c": ContainerMemory(attempt())},
    )
    for one, memory, expected in (
        (pod, replace(quiet, containers={}), 20 + 3 * SECOND),
        (begun, replace(quiet, containers={}), 0),
        (pod, quiet, 0),
        (begun, replace(quiet, ending="deleted"), 30 + 3 * SECOND),
        (begun, replace(quiet, ending="deleted", removed=True), 0),
        (begun, replace(quiet, ending="finished"), 0),
        (begun, replace(quiet, busy_since=9), 9 + 3 * SECOND),
        (pod, replace(quiet, containers={}, ending="deleted", busy_since=9), 20 + 3 * SECOND),
    ):
        assert held_back_until(CONFIG, one, memory) == expected


@pytest.mark.parametrize(
    ("configured", "second", "expected"),
    [
        ("", "", ("10.0.0.1",)),
        ("", "fd00::1", ("10.0.0.1", "fd00::1")),
        ("10.9.9.9", "", ("10.9.9.9",)),
        ("10.9.9.9", "fd00::1", ("10.9.9.9", "fd00::1")),
        ("fd00::9", "fd00::1", ("fd00::9",)),
        ("10.9.9.9,fd00::9", "fd00::1", ("10.9.9.9", "fd00::9")),
        ("fd00::9", "10.0.0.2", ("fd00::9", "10.0.0.2")),
    ],
)
def test_kubelet_119_the_addresses_of_a_node(configured, second, expected):
    node = NodeDescribed(
        "n", "10.0.0.1", 1, 1, 1, 1, "amd64", "linux", "", "", "", second_ip=second
    )
    assert node_ips(KubeletConfig(node_ip=configured), node) == expected
