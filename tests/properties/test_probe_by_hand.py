"""When a probe runs and what its results mean, from one memory of a container at a time, beside a
plain reading of PROBE-1 to PROBE-8 (spec/kubelet.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    HTTPHeader,
    LifecycleHandler,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from refk8s.core.context import SECOND
from refk8s.core.kubelet.draft import Draft
from refk8s.core.kubelet.memory import ContainerMemory, Note, PodMemory, ProbeMemory
from refk8s.core.kubelet.probes import (
    LIVENESS,
    READINESS,
    STARTUP,
    compute_hook,
    compute_probe,
    grace_seconds,
    is_failing,
    is_ready,
    is_started,
    plan_probes,
    port_number,
    probed,
    probes_of,
    should_run,
)
from refk8s.core.ports import ContainerStatus, Failed, Probed, RunHook
from refk8s.core.ports import Probe as Question

KINDS = (STARTUP, LIVENESS, READINESS)
T = 1_000 * SECOND


def status(id="id", state="running", started=0):
    return ContainerStatus(id, "sandbox", "uid", "c", 0, state, started_at=started)


def a_probe(name, **parts):
    return Probe(exec=ExecAction(command=(name,)), **parts)


def a_container(name="c", *kinds, restart_policy=None, **parts):
    found = {f"{kind}_probe": a_probe(f"{name} {kind}", **parts) for kind in kinds}
    return Container(name=name, image="i", restart_policy=restart_policy, **found)


def running(*states, id="id", **parts):
    """The memory of a running container with these (kind, state of the probe)."""
    return ContainerMemory(current=status(id), probes=dict(states), **parts)


def known(result, id="id", **parts):
    return ProbeMemory(id, result, **parts)


def planned(container, memory, now=T, is_sidecar=False, **parts):
    """(operations, when to look again, memory of the container) after one plan."""
    pod = make_pod(containers=(container,))
    if is_sidecar:
        pod = make_pod(containers=(Container(name="other"),), init_containers=(container,))
    before = PodMemory("uid", "default", "p", pod=pod, containers={container.name: memory}, **parts)
    draft = Draft(None, pod, before, None, now)
    plan_probes(draft)
    return draft.operations, draft.wake_at, draft.memory.container(container.name)


def asked(container, kind, **parts):
    """The operation of a probe of exec."""
    return Question("uid", "id", "exec", command=(f"{container.name} {kind}",), **parts)


# --- when it runs ---------------------------------------------------------------------------------


@given(st.sampled_from([None, 0, 5]), st.sampled_from([None, 7]), st.integers(-3, 9))
def test_probe_1_the_first_run_and_the_next(delay, period, seconds):
    one = a_container("c", LIVENESS, initial_delay_seconds=delay, period_seconds=period)
    memory = replace(running(), current=status(started=T))
    now = T + seconds * SECOND
    operations, wake_at, after = planned(one, memory, now)
    first = T + (delay or 0) * SECOND
    if now < first:
        assert operations == [] and wake_at == first
        assert after.probes == {LIVENESS: ProbeMemory("id", None, due=first)}
        return
    question = asked(one, LIVENESS)
    assert operations == [question] and wake_at is None
    step = (period or 10) * SECOND
    due = first + step if first + step > now else now + step
    assert after.probes == {LIVENESS: ProbeMemory("id", None, due=due, asking=question)}
    assert after.probes[LIVENESS].asking is operations[0]
    # while it runs it is not run again, and a late one is not run twice
    assert planned(one, after, now + 99 * SECOND)[0] == []
    late = replace(after, probes={LIVENESS: replace(after.probes[LIVENESS], asking=None)})
    operations, _, again = planned(one, late, T + 500 * SECOND)
    assert len(operations) == 1 and again.probes[LIVENESS].due == T + 500 * SECOND + step


def test_probe_1_every_container_and_sidecar_that_runs():
    everyone = a_container("c", *KINDS)
    assert [kind for kind, _ in probes_of(everyone)] == list(KINDS)
    assert probes_of(a_container("c")) == ()
    one = a_container("c", READINESS)
    assert planned(one, running())[0] == [asked(one, READINESS)]
    sidecar = a_container("c", READINESS, restart_policy="Always")
    assert planned(sidecar, running(), is_sidecar=True)[0] == [asked(sidecar, READINESS)]
    assert planned(one, running(), is_sidecar=True)[0] == [], "an init container has no probes"
    for memory in (ContainerMemory(), ContainerMemory(current=status(state="exited"))):
        operations, wake_at, after = planned(one, memory)
        assert (operations, wake_at, after) == ([], None, memory)
    draft = Draft(None, None, PodMemory("uid", "default", "p"), None, T)
    plan_probes(draft)
    assert draft.operations == []


def test_probe_1_one_that_cannot_be_asked_holds_up_no_other():
    broken = Probe(tcp_socket=TCPSocketAction(port="nowhere"))
    one = replace(a_container("c", READINESS), liveness_probe=broken)
    operations, _, after = planned(one, running())
    assert operations == [asked(one, READINESS)]
    assert after.probes[LIVENESS] == ProbeMemory("id", None, due=0)
    one = replace(a_container("c", LIVENESS, READINESS, initial_delay_seconds=2000))
    one = replace(one, readiness_probe=a_probe("c readiness"))
    operations, wake_at, _ = planned(one, running())
    assert operations == [asked(one, READINESS)] and wake_at == 2000 * SECOND


def test_probe_3_what_is_known_of_another_attempt_is_forgotten():
    one = a_container("c", LIVENESS)
    old = known(False, "earlier", streak=3, last=False, due=T + 9 * SECOND)
    operations, _, after = planned(one, running((LIVENESS, old)))
    assert operations == [asked(one, LIVENESS)]
    assert after.probes[LIVENESS].result is None and after.probes[LIVENESS].streak == 0
    same = known(True, due=T + 9 * SECOND)
    operations, wake_at, after = planned(one, running((LIVENESS, same)))
    assert operations == [] and wake_at == T + 9 * SECOND and after.probes == {LIVENESS: same}
    for kind in KINDS:
        memory = running((kind, known(False, "earlier")))
        assert not is_failing(memory, kind) and is_failing(running((kind, known(False))), kind)
        assert not is_failing(running((kind, known(None))), kind)
        assert not is_failing(ContainerMemory(probes={kind: known(False)}), kind)


@given(
    st.sampled_from(KINDS), st.sampled_from([None, True, False]), st.booleans(),
    st.sampled_from(["", "liveness"]), st.sampled_from(["", "deleted"]),
)  # fmt: skip
def test_probe_4_the_table(kind, result, started, stopping, ending):
    memory = running(stop_reason=stopping)
    runs = should_run(kind, known(result), started, memory, ending != "")
    if kind == READINESS:
        assert runs == started
    elif stopping or ending or result is False:
        assert not runs
    else:
        assert runs == (result is None if kind == STARTUP else started)
    # the same for a pod that is ending: only its readiness is probed
    one = a_container("c", LIVENESS, READINESS)
    operations, _, _ = planned(one, running(), ending=ending)
    wanted = [READINESS] if ending else [LIVENESS, READINESS]
    assert operations == [asked(one, each) for each in wanted]


# --- what its results mean ------------------------------------------------------------------------


def after(container, kind, state, result, name="c", pod=None):
    """(state of the probe, notes) after this result of the run that is under way."""
    question = asked(container, kind)
    state = replace(state, asking=question)
    pod = pod or make_pod(containers=(Container(name="first"), container))
    containers = {
        "first": running((kind, replace(state, asking=asked(container, kind))), id="other"),
        name: running((STARTUP, known(True)), (kind, state)),
    }
    memory = PodMemory("uid", "default", "p", pod=pod, containers=containers)
    found = probed(memory, question, result, T)
    assert found.containers["first"] == containers["first"], "another container"
    if kind != STARTUP:
        assert found.containers[name].probes[STARTUP] == known(True), "another probe"
    return found.containers[name].probes[kind], found.notes


@given(
    st.sampled_from([LIVENESS, READINESS]), st.sampled_from([None, True, False]), st.integers(0, 4),
    st.sampled_from([None, True, False]), st.sampled_from([None, 1, 2]), st.sampled_from([None, 1, 2, 3]), st.booleans(),
)  # fmt: skip
def test_probe_5_a_result_counts_after_enough_equal_ones(
    kind, last, streak, result, successes, failures, good
):
    one = a_container("c", kind, success_threshold=successes, failure_threshold=failures)
    before = known(result, last=last, streak=streak, due=T)
    state, notes = after(one, kind, before, Probed(good, "words"))
    count = streak + 1 if last == good else 1
    enough = (successes or 1) if good else (failures or 3)
    expected = good if count >= enough else result
    assert state == known(expected, last=good, streak=count, due=T)
    words = f"{kind.capitalize()} probe failed: words"
    note = Note("Unhealthy", words, "Warning", "spec.containers{c}")
    assert notes == (() if good else (note,))


def test_probe_5_the_event_names_a_sidecar_as_an_init_container():
    sidecar = a_container("c", LIVENESS, restart_policy="Always")
    pod = make_pod(containers=(Container(name="first"),), init_containers=(sidecar,))
    _, (note,) = after(sidecar, LIVENESS, known(None), Probed(False, "x"), pod=pod)
    assert note == Note(
        "Unhealthy", "Liveness probe failed: x", "Warning", "spec.initContainers{c}"
    )


@pytest.mark.parametrize("result", [Probed(False, "x", unknown=True), Failed("", "x")])
def test_probe_6_a_run_that_failed_changes_nothing(result):
    one = a_container("c", LIVENESS)
    before = known(True, last=True, streak=2, due=T)
    assert after(one, LIVENESS, before, result) == (before, ())
    # nor does one of a container or a probe that the pod no longer has, or of no pod
    for pod in (make_pod(containers=(Container(name="x"),)), make_pod(containers=(a_container(),))):
        assert after(one, LIVENESS, before, Probed(False), pod=pod) == (before, ())
    question = asked(one, LIVENESS)
    memory = PodMemory(
        "uid", "default", "p", containers={"c": running((LIVENESS, known(None, asking=question)))}
    )
    found = probed(memory, question, Probed(False), T)
    assert found.containers["c"].probes == {LIVENESS: known(None)}


def test_probe_3_a_run_that_is_not_under_way_changes_nothing():
    one = a_container("c", LIVENESS)
    pod = make_pod(containers=(one,))
    for container in (
        running(
            (LIVENESS, known(None, asking=asked(one, LIVENESS)))
        ),  # another run, which is equal
        running((LIVENESS, known(None))),
        running((LIVENESS, known(None)), id="later"),
        ContainerMemory(),
    ):
        memory = PodMemory("uid", "default", "p", pod=pod, containers={"c": container})
        assert probed(memory, asked(one, LIVENESS), Probed(False), T) is memory


@given(
    st.sets(st.sampled_from([STARTUP, READINESS])), st.sampled_from([None, True, False]), st.sampled_from([None, True, False]),
    st.sampled_from(["running", "exited"]), st.booleans(), st.sampled_from(["", "postStart", "pull"]),
)  # fmt: skip
def test_probe_7_started_and_ready(kinds, startup, readiness, state, pending, operation):
    one = a_container("c", *kinds)
    states = {STARTUP: known(startup), READINESS: known(readiness)}
    memory = ContainerMemory(
        current=status(state=state),
        probes={kind: states[kind] for kind in kinds},
        post_start_pending=pending,
        operation=operation,
    )
    runs = state == "running" and not pending and operation != "postStart"
    started = runs and (STARTUP not in kinds or startup is True)
    assert is_started(one, memory) == started
    assert is_ready(one, memory) == (started and (READINESS not in kinds or readiness is True))


def test_probe_8_the_grace_period_is_that_of_the_probe_that_failed():
    one = replace(
        a_container("c", LIVENESS, STARTUP, READINESS),
        liveness_probe=a_probe("l", termination_grace_period_seconds=5),
        startup_probe=a_probe("s", termination_grace_period_seconds=0),
    )
    for pod_has, kind, expected in (
        (40, LIVENESS, 5), (40, STARTUP, 1), (40, READINESS, 40), (40, "", 40), (None, "", 30), (0, "", 1),
    ):  # fmt: skip
        pod = make_pod(containers=(one,), termination_grace_period_seconds=pod_has)
        assert grace_seconds(pod, one, kind) == expected
    bare = a_container("c", LIVENESS)
    pod = make_pod(containers=(bare,), termination_grace_period_seconds=40)
    assert grace_seconds(pod, bare, LIVENESS) == grace_seconds(pod, bare, STARTUP) == 40


# --- operations -----------------------------------------------------------------------------------

PORTS = Container(
    name="c",
    ports=(ContainerPort(container_port=9, name="x"), ContainerPort(container_port=80, name="web")),
)


def test_probe_1_the_port_by_number_or_name():
    rows = ((7, 7), ("web", 80), ("x", 9), ("81", 81), ("other", 0), ("", 0))
    for port, number in rows:
        assert port_number(PORTS, port) == number
    assert port_number(Container(name="c"), "web") == 0


def test_probe_1_the_operations_in_full():
    plain = HTTPGetAction(port="web")
    full = HTTPGetAction(
        port=7, host="h", path="/p", scheme="HTTPS", http_headers=(HTTPHeader(name="n", value="v"),)
    )
    base = Question("uid", "id", "exec")
    for probe, expected in (
        (Probe(exec=ExecAction()), base),
        (Probe(exec=ExecAction(command=("a", "b")), timeout_seconds=4), replace(base, command=("a", "b"), timeout_seconds=4)),
        (Probe(http_get=plain), replace(base, action="http", port=80, path="/")),
        (
            Probe(http_get=full),
            replace(base, action="http", host="h", port=7, path="/p", scheme="HTTPS", headers=(("n", "v"),)),
        ),
        (Probe(http_get=HTTPGetAction(port="other")), None),
        (Probe(tcp_socket=TCPSocketAction(port="x", host="h")), replace(base, action="tcp", host="h", port=9)),
        (Probe(tcp_socket=TCPSocketAction(port=5)), replace(base, action="tcp", port=5)),
        (Probe(tcp_socket=TCPSocketAction(port="other")), None),
        (Probe(grpc=GRPCAction(port=6)), replace(base, action="grpc", port=6)),
        (Probe(grpc=GRPCAction(port=6, service="s")), replace(base, action="grpc", port=6, path="s")),
        (Probe(), None),
    ):  # fmt: skip
        assert compute_probe(PORTS, probe, status()) == expected
    hook = RunHook("uid", "id", "exec", 30)
    for handler, expected in (
        (LifecycleHandler(exec=ExecAction(command=("a",))), replace(hook, command=("a",))),
        (LifecycleHandler(exec=ExecAction()), hook),
        (LifecycleHandler(http_get=plain), replace(hook, action="http", port=80, path="/")),
        (
            LifecycleHandler(http_get=full),
            replace(hook, action="http", host="h", port=7, path="/p", scheme="HTTPS", headers=(("n", "v"),)),
        ),
        (LifecycleHandler(http_get=HTTPGetAction(port="other")), replace(hook, action="http", path="/")),
        (LifecycleHandler(sleep=SleepAction(seconds=3)), replace(hook, action="sleep", seconds=3)),
        (LifecycleHandler(), hook),
    ):  # fmt: skip
        assert compute_hook(PORTS, handler, status(), 30) == expected
