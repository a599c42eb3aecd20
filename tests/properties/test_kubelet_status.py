"""The status of a pod from the memory of its kubelet, beside a plain reading of POD-10 to POD-18
(spec/pod.md), and the back-offs of KUBELET-20 and KUBELET-21 (spec/kubelet.md).

`test_pod.py` shows the same rules in a running kubelet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import make_pod
from msgspec.structs import replace
from random_cases import cases, some

from refk8s.core.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    EphemeralContainer,
    HostIP,
    Pod,
    PodCondition,
    PodIP,
    PodReadinessGate,
    PodStatus,
    Probe,
    ResourceRequirements,
    VolumeMount,
    VolumeMountStatus,
)
from refk8s.core.context import SECOND, timestamp
from refk8s.core.kubelet import backoff
from refk8s.core.kubelet.backoff import Backoff
from refk8s.core.kubelet.conditions import compute_conditions
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Facts
from refk8s.core.kubelet.memory import ContainerMemory, PodMemory, ProbeMemory
from refk8s.core.kubelet.status import compute_pod_status, is_initialized
from refk8s.core.ports import ContainerStatus as Found
from refk8s.core.ports import NodeDescribed, SandboxStatus

NODE = NodeDescribed(
    "node", "10.0.0.9", 1000, 1 << 30, 1 << 30, 10, "amd64", "linux", "os", "kernel", "fake://1"
)
FACTS = Facts(KubeletConfig(), NODE)
NOW = 100 * SECOND
SANDBOX = SandboxStatus("s", "u", "default", "p", 0, True, ips=("10.1.0.5", "fd00::5"))


def a_container(name: str, **more) -> Container:
    return Container(name=name, image=f"{name}:1", **more)


def attempt(name: str, state: str, code: int = 0, number: int = 0, **more) -> Found:
    return Found(
        id=f"{name}-{number}",
        sandbox_id="s",
        pod_uid="u",
        name=name,
        attempt=number,
        state=state,
        image=f"{name}:run",
        image_id=f"sha-{name}",
        started_at=5 * SECOND,
        finished_at=60 * SECOND if state == "exited" else 0,
        exit_code=code,
        **more,
    )


def held_in(name: str, what: str) -> ContainerMemory:
    """The memory of a container: absent, created, runs, 0 and 1 (exited), waits (for a restart)."""
    if what == "absent":
        return ContainerMemory()
    if what == "waits":
        return ContainerMemory(attempt(name, "exited", 1), reason="CrashLoopBackOff")
    if what in ("0", "1"):
        return ContainerMemory(attempt(name, "exited", int(what)))
    return ContainerMemory(attempt(name, {"runs": "running"}.get(what, what)))


def a_pod(containers, inits=(), policy="Always", status=None, **spec) -> Pod:
    pod = make_pod(
        "p", tuple(containers), init_containers=tuple(inits) or None, restart_policy=policy, **spec
    )
    metadata = replace(pod.metadata, uid="u", generation=7)
    return replace(pod, metadata=metadata, status=status or pod.status)


def a_memory(pod: Pod, containers, **parts) -> PodMemory:
    memory = PodMemory("u", "default", "p", pod=pod, containers=containers, started_at=90 * SECOND)
    return replace(memory, **{"sandbox": SANDBOX, **parts})


def status_of(pod: Pod, containers, facts: Facts = FACTS, **parts) -> PodStatus:
    return compute_pod_status(facts, pod, a_memory(pod, containers, **parts), NOW)


# --- phase ----------------------------------------------------------------------------------------

WHAT = ["absent", "created", "runs", "0", "1", "waits"]
INITS = ["absent", "runs", "0", "1", "sidecar absent", "sidecar runs", "sidecar 1"]


def plain_phase(whats, inits, policy: str, over: bool) -> str:
    """POD-12, row by row. A container that waits for a restart has ended with its last exit code."""
    begun = bool(inits) and any(what not in ("absent", "created") for what in whats)
    ran = [what for what in whats if what not in ("absent", "created")]
    for init in inits:
        if init == "1" and policy == "Never":
            return "Failed"
    complete = {"0", "sidecar runs"}
    if not begun and any(init not in complete for init in inits):
        return "Failed" if over else "Pending"
    if len(ran) < len(whats):
        return "Failed" if over else "Pending"
    if "runs" in ran:
        return "Running"
    if all(what == "0" for what in ran):
        return "Succeeded" if over or policy != "Always" else "Running"
    return "Failed" if over or policy == "Never" else "Running"


def test_pod_10_pod_11_pod_12_the_phase_follows_from_the_containers():
    for rng in cases(1500):
        whats, inits = some(rng, WHAT, 3, 1), some(rng, INITS, 2)
        policy = rng.choice(["Always", "OnFailure", "Never", None])
        over = rng.random() < 0.5
        before = rng.choice(["Pending", "Pending", "Running", "Succeeded", "Failed", None, "odd"])
        containers = [a_container(f"c{at}") for at in range(len(whats))]
        first = [
            a_container(f"i{at}", restart_policy="Always" if "sidecar" in what else None)
            for at, what in enumerate(inits)
        ]
        pod = a_pod(containers, first, policy, PodStatus(phase=before))
        held = {f"c{at}": held_in(f"c{at}", what) for at, what in enumerate(whats)}
        held |= {f"i{at}": held_in(f"i{at}", what.split()[-1]) for at, what in enumerate(inits)}
        expected = plain_phase(whats, inits, policy or "Always", over)
        if not over and expected in ("Succeeded", "Failed"):
            known = before if before in ("Running", "Succeeded", "Failed") else "Pending"
            expected = "Running" if "runs" in whats else known
        order = {"Running": 1, "Succeeded": 2, "Failed": 2}
        if order.get(before, 0) == 2 or order.get(before, 0) > order.get(expected, 0):
            expected = before
        assert status_of(pod, held, ended=over).phase == expected, (whats, inits, policy, before)


@pytest.mark.parametrize("before", ["Pending", "Running", "Succeeded", "Failed"])
@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("code", ["0", "1"])
def test_pod_5_pod_11_a_pod_that_exceeds_its_deadline_fails_when_it_has_ended(before, over, code):
    told = PodStatus(phase=before, reason="r", message="m")
    pod = a_pod([a_container("c")], policy="Never", status=told)
    found = status_of(pod, {"c": held_in("c", code)}, ended=over, ending="deadline")
    is_new = over and before in ("Pending", "Running")
    assert found.phase == ("Failed" if is_new else before)
    words = "Pod was active on the node longer than the specified deadline"
    assert (found.reason, found.message) == (("DeadlineExceeded", words) if is_new else ("r", "m"))


def test_pod_12_a_rejected_pod_is_failed_and_says_why():
    told = PodStatus(phase="Pending", start_time="2026-01-01T00:00:00Z")
    pod = a_pod([a_container("c")], status=told)
    found = status_of(pod, {}, rejected=("OutOfcpu", "no room"))
    assert found == replace(
        told, phase="Failed", reason="OutOfcpu", message="no room", observed_generation=7
    )


# --- the rest of the status -----------------------------------------------------------------------


def test_pod_18_start_time_addresses_and_generation_are_written():
    pod = a_pod([a_container("c")])
    found = status_of(pod, {"c": held_in("c", "runs")})
    assert found.start_time == timestamp(90 * SECOND) and found.observed_generation == 7
    assert (found.host_ip, found.host_ips) == ("10.0.0.9", (HostIP(ip="10.0.0.9"),))
    assert found.pod_ip == "10.1.0.5"
    assert found.pod_ips == (PodIP(ip="10.1.0.5"), PodIP(ip="fd00::5"))
    assert (found.init_container_statuses, found.ephemeral_container_statuses) == (None, None)
    again = status_of(
        replace(pod, status=found), {"c": held_in("c", "runs")}, sandbox=None, started_at=NOW
    )
    assert again.start_time == found.start_time and again.pod_ips == found.pod_ips
    assert again.pod_ip == "10.1.0.5", "the addresses stay when the sandbox is gone"
    none = status_of(pod, {}, sandbox=None)
    assert (none.pod_ip, none.pod_ips) == (None, None)


def test_pod_18_a_pod_on_the_host_network_has_the_addresses_of_its_node():
    facts = replace(FACTS, node=replace(NODE, second_ip="fd00::9"))
    pod = a_pod([a_container("c")], host_network=True)
    found = status_of(pod, {}, facts)
    assert found.host_ips == (HostIP(ip="10.0.0.9"), HostIP(ip="fd00::9"))
    assert found.pod_ips == (PodIP(ip="10.0.0.9"), PodIP(ip="fd00::9"))
    assert status_of(pod, {}, facts, sandbox=None).pod_ips is None
    known = replace(pod, status=replace(pod.status, pod_ip="10.0.0.9"))
    assert status_of(known, {}, facts, sandbox=None).pod_ips == found.pod_ips


def test_pod_15_the_status_has_the_conditions_of_its_containers_and_its_sandbox():
    def told_of(pod, held, **parts):
        return {one.type: one.status for one in status_of(pod, held, **parts).conditions}

    plain, first = a_pod([a_container("c")]), a_pod([a_container("c")], [a_container("i")])
    runs = {"c": held_in("c", "runs")}
    good = dict.fromkeys(TYPES, "True")
    assert told_of(plain, runs) == good
    assert told_of(plain, {}) == good | {"Ready": "False", "ContainersReady": "False"}
    for parts in ({"sandbox": None}, {"sandbox": replace(SANDBOX, ready=False)}, {"ended": True}):
        assert told_of(plain, runs, **parts)["PodReadyToStartContainers"] == "False"
    for what, done in (("0", "True"), ("1", "False"), ("runs", "False")):
        assert told_of(first, {"i": held_in("i", what)})["Initialized"] == done
    resized = status_of(plain, runs, resize_pending=("Deferred", "later"))
    assert "PodResizePending" in [one.type for one in resized.conditions]


def test_pod_13_what_the_status_says_of_each_kind_is_kept():
    """Restarts are not counted down, and a pod that has ended says how each container ended."""
    debugger = EphemeralContainer(name="e", image="e:1")
    told = {
        f"{kind}container_statuses": (
            ContainerStatus(name="other", restart_count=9),
            ContainerStatus(name=name, restart_count=4),
        )
        for kind, name in (("init_", "i"), ("", "c"), ("ephemeral_", "e"))
    }
    pod = a_pod(
        [a_container("c")],
        [a_container("i")],
        ephemeral_containers=(debugger,),
        status=PodStatus(phase="Running", **told),
    )
    found = status_of(pod, {name: held_in(name, "waits") for name in "ice"}, ended=True)
    for one in (
        *found.init_container_statuses,
        *found.container_statuses,
        *found.ephemeral_container_statuses,
    ):
        assert one.restart_count == 4 and one.state.terminated.exit_code == 1
    unknown = replace(pod, status=PodStatus(container_statuses=told["container_statuses"][:1]))
    (one,) = status_of(unknown, {}).container_statuses
    assert (one.name, one.restart_count, one.last_state) == ("c", 0, ContainerState())


@pytest.mark.parametrize("what", ["absent", "runs"])
def test_pod_25_the_status_lists_the_mounts(what):
    """Shows POD-25."""
    drawn = [
        (read_only, mode)
        for read_only in (None, False, True)
        for mode in (None, "Disabled", "IfPossible", "Enabled")
    ]
    mounts = tuple(
        VolumeMount(
            name=f"v{at}", mount_path=f"/{at}", read_only=read_only, recursive_read_only=mode
        )
        for at, (read_only, mode) in enumerate(drawn)
    )
    pod = a_pod([a_container("c", volume_mounts=mounts)])
    (found,) = status_of(pod, {"c": held_in("c", what)}).container_statuses
    assert found.volume_mounts == tuple(
        VolumeMountStatus(
            name=f"v{at}",
            mount_path=f"/{at}",
            read_only=read_only,
            recursive_read_only=None
            if not read_only
            else "Enabled"
            if mode == "Enabled"
            else "Disabled",
        )
        for at, (read_only, mode) in enumerate(drawn)
    )
    (bare,) = status_of(a_pod([a_container("c")]), {}).container_statuses
    assert bare.volume_mounts is None


def test_pod_13_every_kind_of_container_has_its_own_list():
    first = a_container("i")
    debugger = EphemeralContainer(name="e", image="e:1")
    pod = a_pod([a_container("c")], [first], ephemeral_containers=(debugger,))
    held = {"i": held_in("i", "0"), "c": held_in("c", "runs"), "e": held_in("e", "runs")}
    found = status_of(pod, held)
    ((init,), (main,), (extra,)) = (
        found.init_container_statuses,
        found.container_statuses,
        found.ephemeral_container_statuses,
    )
    assert [one.name for one in (init, main, extra)] == ["i", "c", "e"]
    assert (init.ready, init.started, main.ready, main.started) == (True, False, True, True)
    assert (extra.ready, extra.started) == (False, None), "no probe and no gate is about it"
    # the state of each is found again in the list of its kind
    gone = replace(pod, status=found)
    after = status_of(gone, {})
    for one in (
        *after.init_container_statuses,
        *after.container_statuses,
        *after.ephemeral_container_statuses,
    ):
        assert one.last_state == ContainerState() and one.restart_count == 0
    assert [one.state.waiting.reason for one in after.container_statuses] == ["PodInitializing"]


@pytest.mark.parametrize("code", [0, 1])
def test_pod_13_an_init_container_is_ready_when_it_has_exited_with_0(code):
    pod = a_pod([a_container("c")], [a_container("i")])
    (one,) = status_of(
        pod, {"i": ContainerMemory(attempt("i", "exited", code))}
    ).init_container_statuses
    assert one.ready == (code == 0) and one.started is False
    sidecar = a_container("i", restart_policy="Always")
    pod = a_pod([a_container("c")], [sidecar])
    for what, ready in (("runs", True), ("0", False), ("absent", False)):
        (one,) = status_of(pod, {"i": held_in("i", what)}).init_container_statuses
        assert (one.ready, one.started) == (ready, ready)
    (one,) = status_of(
        a_pod([a_container("c")], [a_container("i")]), {"i": held_in("i", "runs")}
    ).init_container_statuses
    assert (one.ready, one.started) == (False, True)


def test_pod_13_a_container_in_full():
    asked = ResourceRequirements(requests={"cpu": "1"}, limits={"cpu": "2"})
    applied = ResourceRequirements(requests={"cpu": "3"})
    one = a_container("c", resources=asked)
    pod = a_pod([one], status=PodStatus(phase="Running"))
    held = ContainerMemory(attempt("c", "running", number=2), applied=applied)
    (found,) = status_of(pod, {"c": held}).container_statuses
    expected = ContainerStatus(
        name="c",
        image="c:run",
        image_id="sha-c",
        container_id="fake://c-2",
        last_state=ContainerState(),
        ready=True,
        restart_count=2,
        started=True,
        state=ContainerState(running=ContainerStateRunning(started_at=timestamp(5 * SECOND))),
        resources=applied,
        allocated_resources={"cpu": "1"},
    )
    assert found == expected
    (found,) = status_of(
        pod, {"c": held}, allocated={"c": ResourceRequirements(requests={"cpu": "4"})}
    ).container_statuses
    assert found == replace(expected, allocated_resources={"cpu": "4"})
    nameless = replace(held, current=replace(held.current, image=""))
    (found,) = status_of(pod, {"c": nameless}).container_statuses
    assert found.image == "c:1"
    (found,) = status_of(pod, {}).container_statuses
    assert (found.image, found.container_id, found.image_id) == ("c:1", None, "")
    odd = replace(FACTS, node=replace(NODE, container_runtime_version="fake://1:2"))
    (found,) = status_of(pod, {"c": held}, odd).container_statuses
    assert found.container_id == "fake://c-2"
    unknown = replace(FACTS, node=replace(NODE, container_runtime_version=""))
    (found,) = status_of(pod, {"c": held}, unknown).container_statuses
    assert found.container_id == "container://c-2"


def probe_of(name: str, result: bool | None) -> ProbeMemory:
    return ProbeMemory(f"{name}-0", result)


@given(
    st.sampled_from([None, True, False]),
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.booleans(),
)
def test_pod_13_started_and_ready_are_those_of_the_probes(startup, readiness, has_both, pending):
    parts = {"startup_probe": Probe(), "readiness_probe": Probe()} if has_both else {}
    pod = a_pod([a_container("c", **parts)])
    probes = {"startup": probe_of("c", startup), "readiness": probe_of("c", readiness)}
    held = ContainerMemory(attempt("c", "running"), probes=probes, post_start_pending=pending)
    (found,) = status_of(pod, {"c": held}).container_statuses
    started = not pending and (not has_both or startup is True)
    assert found.started == started
    assert found.ready == (started and (not has_both or readiness is True))


def test_pod_13_a_container_that_could_not_start_keeps_how_the_last_attempt_ended():
    """The runtime has a created attempt, and the API knows how an earlier kubelet's start failed."""
    failed = ContainerState(terminated=ContainerStateTerminated(exit_code=128, reason="StartError"))
    older = ContainerState(terminated=ContainerStateTerminated(exit_code=2, reason="Error"))
    before = ContainerStatus(
        name="c", container_id="fake://c-0", state=failed, last_state=older, restart_count=4
    )
    pod = a_pod([a_container("c")], status=PodStatus(phase="Running", container_statuses=(before,)))
    (found,) = status_of(pod, {"c": held_in("c", "created")}).container_statuses
    assert found.last_state == failed and found.restart_count == 4
    assert found.state == ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
    (found,) = status_of(pod, {"c": held_in("c", "runs")}).container_statuses
    assert found.last_state == older, "the same attempt: what came before it is kept"
    for unknown in (None, "fake://c-0"):
        still = replace(before, container_id=unknown)
        known = replace(pod, status=replace(pod.status, container_statuses=(still,)))
        (found,) = status_of(known, {"c": held_in("c", "runs")}).container_statuses
        assert found.last_state == older
    last = attempt("c", "exited", 9, number=1)
    (found,) = status_of(pod, {"c": replace(held_in("c", "runs"), last=last)}).container_statuses
    assert found.last_state.terminated.exit_code == 9, "the runtime's own account comes first"


@pytest.mark.parametrize("ending", ["", "deleted"])
@pytest.mark.parametrize("over", [False, True])
def test_pod_13_an_exited_container_waits_only_if_it_will_be_restarted(ending, over):
    pod = a_pod([a_container("c")])
    held = ContainerMemory(attempt("c", "exited", 3), reason="CrashLoopBackOff", message="why")
    (found,) = status_of(pod, {"c": held}, ended=over, ending=ending).container_statuses
    end = ContainerStateTerminated(
        container_id="fake://c-0",
        exit_code=3,
        reason="Error",
        started_at=timestamp(5 * SECOND),
        finished_at=timestamp(60 * SECOND),
    )
    if over or ending:
        assert (found.state, found.last_state) == (
            ContainerState(terminated=end),
            ContainerState(),
        )
    else:
        words = ContainerStateWaiting(reason="CrashLoopBackOff", message="why")
        assert found.state == ContainerState(waiting=words)
        assert found.last_state == ContainerState(terminated=end)


# --- initialization -------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(INITS), max_size=3),
    st.sampled_from(["none", "of this sandbox", "of another sandbox", "without a sandbox"]),
)
def test_pod_15_the_init_containers_are_complete(inits, main):
    """All have exited with code 0 or run as sidecars; or a container of this sandbox was created."""
    first = [
        a_container(f"i{at}", restart_policy="Always" if "sidecar" in what else None)
        for at, what in enumerate(inits)
    ]
    pod = a_pod([a_container("b"), a_container("c")], first)
    held = {f"i{at}": held_in(f"i{at}", what.split()[-1]) for at, what in enumerate(inits)}
    if main != "none":
        place = "t" if main == "of another sandbox" else "s"
        held["c"] = ContainerMemory(replace(attempt("c", "exited", 1), sandbox_id=place))
    sandbox = None if main == "without a sandbox" else SANDBOX
    expected = main in ("of this sandbox", "without a sandbox") or all(
        what in ("0", "sidecar runs") for what in inits
    )
    memory = replace(a_memory(pod, held), sandbox=sandbox)
    assert is_initialized(pod, memory) == expected


# --- conditions -----------------------------------------------------------------------------------

TYPES = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]


def conditions_of(
    pod: Pod, statuses=(), inits=(), phase="Running", network=True, initialized=True, now=NOW
):
    status = PodStatus(
        phase=phase,
        container_statuses=tuple(statuses) or None,
        init_container_statuses=tuple(inits) or None,
    )
    found = compute_conditions(pod, status, network, initialized, now)
    assert [one.type for one in found[:5]] == TYPES
    return {one.type: one for one in found}


def told(one: PodCondition):
    return one.status, one.reason, one.message


def is_ready(name: str, ready: bool = True, started: bool | None = None) -> ContainerStatus:
    return ContainerStatus(name=name, ready=ready, started=started)


def test_pod_15_all_is_true_in_full():
    pod = a_pod([a_container("c"), a_container("d")])
    found = conditions_of(pod, [is_ready("c"), is_ready("d")])
    for type_ in TYPES:
        assert found[type_] == PodCondition(
            type=type_,
            status="True",
            last_transition_time=timestamp(NOW),
            observed_generation=7,
        )
    assert told(conditions_of(pod, network=False)["PodReadyToStartContainers"]) == (
        "False",
        None,
        None,
    )


def test_pod_15_the_message_names_the_containers_that_are_not_ready():
    """Sidecars first; init containers that end do not count."""
    for rng in cases(400):
        mains = some(rng, ["ready", "unready", "unknown"], 3, 1)
        inits = some(rng, ["ready", "unready", "unknown", "init"], 2)
        is_mixed = rng.random() < 0.5
        containers = [a_container(f"c{at}") for at in range(len(mains))]
        first = [
            a_container(f"i{at}", restart_policy=None if what == "init" else "Always")
            for at, what in enumerate(inits)
        ]
        pod = a_pod(containers, first)
        statuses = [
            is_ready(f"c{at}", what == "ready")
            for at, what in enumerate(mains)
            if what != "unknown"
        ]
        of_inits = [
            is_ready(f"i{at}", what == "ready")
            for at, what in enumerate(inits)
            if what != "unknown"
        ]
        if is_mixed:
            statuses.reverse()
        found = conditions_of(pod, statuses, of_inits)
        counted = [(f"i{at}", what) for at, what in enumerate(inits) if what != "init"]
        counted += [(f"c{at}", what) for at, what in enumerate(mains)]
        words = []
        for kind in ("unknown", "unready"):
            if names := [name for name, what in counted if what == kind]:
                words.append(f"containers with {kind} status: [{' '.join(names)}]")
        expected = (
            ("False", "ContainersNotReady", ", ".join(words)) if words else ("True", None, None)
        )
        assert told(found["ContainersReady"]) == told(found["Ready"]) == expected


def test_pod_15_no_status_of_another_container_counts():
    pod = a_pod([a_container("c")])
    for statuses in (
        [is_ready("x")],
        [is_ready("c"), is_ready("x", False)],
        [is_ready("x"), is_ready("c")],
    ):
        found = conditions_of(pod, statuses)["ContainersReady"]
        assert (found.status == "True") == any(one.name == "c" for one in statuses)


@pytest.mark.parametrize(
    ("phase", "reason"), [("Succeeded", "PodCompleted"), ("Failed", "PodFailed")]
)
def test_pod_15_the_reasons_of_a_final_phase(phase, reason):
    pod = a_pod([a_container("c")], readiness_gates=(PodReadinessGate(condition_type="g"),))
    found = conditions_of(pod, [is_ready("c")], phase=phase)
    assert told(found["Ready"]) == told(found["ContainersReady"]) == ("False", reason, None)
    done = ("True", reason if phase == "Succeeded" else None, None)
    assert told(found["Initialized"]) == done
    found = conditions_of(pod, phase=phase, initialized=False)
    empty = ("False", "ContainersNotInitialized", "containers with incomplete status: []")
    assert told(found["Initialized"]) == (done if phase == "Succeeded" else empty)


@given(st.lists(st.sampled_from(["done", "open", "unknown", "up", "down"]), max_size=3))
def test_pod_15_the_message_names_the_incomplete_init_containers(inits):
    """One that ends is complete when it is ready, a sidecar when it has started."""
    first = [
        a_container(f"i{at}", restart_policy="Always" if what in ("up", "down") else None)
        for at, what in enumerate(inits)
    ]
    statuses = [
        is_ready(f"i{at}", what in ("done", "down"), what in ("up", "open"))
        for at, what in enumerate(inits)
        if what != "unknown"
    ]
    found = conditions_of(a_pod([a_container("c")], first), inits=statuses, initialized=False)
    names = " ".join(
        [f"i{at}" for at, what in enumerate(inits) if what in ("open", "unknown", "down")]
    )
    words = f"containers with incomplete status: [{names}]"
    assert told(found["Initialized"]) == ("False", "ContainersNotInitialized", words)


@given(st.lists(st.sampled_from([None, "True", "False", "Unknown"]), max_size=3), st.booleans())
def test_pod_16_ready_waits_for_every_gate_and_names_it(gates, is_good):
    conditions = [
        PodCondition(type=f"g{at}", status=value) for at, value in enumerate(gates) if value
    ]
    pod = a_pod(
        [a_container("c")],
        status=PodStatus(phase="Running", conditions=tuple(conditions) or None),
        readiness_gates=tuple(PodReadinessGate(condition_type=f"g{at}") for at in range(len(gates)))
        or None,
    )
    found = conditions_of(pod, [is_ready("c", is_good)])
    assert [found[one.type] for one in conditions] == conditions, "those of others are kept"
    if not is_good:
        assert told(found["Ready"]) == told(found["ContainersReady"])
        return
    words = []
    for at, value in enumerate(gates):
        if value is None:
            words.append(f'corresponding condition of pod readiness gate "g{at}" does not exist.')
        elif value != "True":
            words.append(f'the status of pod readiness gate "g{at}" is not "True", but {value}')
    expected = (
        ("False", "ReadinessGatesNotReady", ", ".join(words)) if words else ("True", None, None)
    )
    assert told(found["Ready"]) == expected
    assert told(found["ContainersReady"]) == ("True", None, None)


@pytest.mark.parametrize("status", ["True", "False"])
@pytest.mark.parametrize("reason", [None, "", "ContainersNotReady"])
@pytest.mark.parametrize("message", [None, "", "containers with unready status: [c]", "other"])
@pytest.mark.parametrize("generation", [6, 7, None])
@pytest.mark.parametrize("probed", [None, "2026-01-01T00:00:09Z"])
@pytest.mark.parametrize("is_good", [False, True])
def test_pod_17_the_transition_time_changes_only_with_the_status(
    status, reason, message, generation, probed, is_good
):
    since = "2026-01-01T00:00:00Z"
    old = PodCondition(
        type="ContainersReady",
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
        last_probe_time=probed,
    )
    pod = a_pod([a_container("c")], status=PodStatus(phase="Running", conditions=(old,)))
    found = conditions_of(pod, [is_ready("c", is_good)])["ContainersReady"]
    now = "True" if is_good else "False"
    expected = (
        ("True", "", "")
        if is_good
        else ("False", "ContainersNotReady", "containers with unready status: [c]")
    )
    assert (found.status, found.reason or "", found.message or "") == expected
    assert found.last_transition_time == (since if status == now else timestamp(NOW))
    assert (found.observed_generation, found.last_probe_time) == (7, None)


# --- back-off -------------------------------------------------------------------------------------


def test_kubelet_20_restarts_wait_ten_seconds_then_twice_as_long_up_to_five_minutes():
    kept, waits = None, []
    at = NOW
    for _ in range(8):
        waits.append(max(backoff.restart_at(kept, at) - at, 0) // SECOND)
        now = at + waits[-1] * SECOND
        kept = backoff.restarted(kept, at, now)
        assert kept.tried_at == now
        at = now + SECOND
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("seconds", "is_kept"), [(599, True), (600, True), (601, False)])
def test_kubelet_20_kubelet_21_a_back_off_is_reset_after_ten_minutes(seconds, is_kept):
    kept = Backoff(40 * SECOND, NOW)
    later = NOW + seconds * SECOND
    assert backoff.restart_at(kept, later) == (later + 40 * SECOND if is_kept else 0)
    longer = 80 if is_kept else 10
    assert backoff.restarted(kept, later, later + 1) == Backoff(longer * SECOND, later + 1)
    assert backoff.pull_failed(kept, later) == Backoff(longer * SECOND, later)


def test_kubelet_21_pulls_wait_ten_seconds_then_twice_as_long_up_to_five_minutes():
    kept, waits, now = None, [], NOW
    assert backoff.pull_at(None) == 0
    for _ in range(7):
        kept = backoff.pull_failed(kept, now)
        waits.append((backoff.pull_at(kept) - now) // SECOND)
        now = backoff.pull_at(kept)
    assert waits == [10, 20, 40, 80, 160, 300, 300]
