"""How a pod ends, and what its status says: POD-1 to POD-18 (spec/pod.md)."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from kubelet_bench import START, Bench, make_pod
from kubelet_chaos import EXEC, Chaos, container, scripted, shell
from msgspec.structs import replace

from refk8s.adapters.fake import world as fake
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.core.api.core_v1 import (
    Container,
    Lifecycle,
    LifecycleHandler,
    PodCondition,
    PodReadinessGate,
    Probe,
    SleepAction,
    VolumeMount,
)
from refk8s.core.api.resources import PODS
from refk8s.core.context import SECOND, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.status import Counts, compute_phase, mount_statuses
from refk8s.core.ports import (
    CreateContainer,
    Failed,
    Probed,
    RemovePodSandbox,
    RunPodSandbox,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    WriteVolume,
)
from refk8s.core.properties.predicates.kubelet import kubelet_42_only_pods_of_the_api


def ready(*args, seed=0, **spec):
    """A bench with one pod, as settled as it can be without time passing."""
    bench = Bench(seed).start().settle()
    bench.add(make_pod("p", *args, **spec))
    return bench.run_for(0)


def stops(bench):
    """(when, container name, grace period) of every stop that was asked for."""
    names = {status.id: status.name for status in bench.every_container}
    return [
        (at, names[op.container_id], op.grace_period_seconds)
        for at, op in bench.asked
        if isinstance(op, StopContainer)
    ]


def condition(bench, type):
    return next(c for c in bench.pod().status.conditions if c.type == type)


# --- how a pod ends -------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=3),
    st.sampled_from(["Never", "OnFailure"]),
)
def test_pod_1_a_pod_ends_when_nothing_runs_and_nothing_will(containers, policy):
    """Each container is (how long it runs, its exit code). A sidecar does not keep the pod
    alive."""
    specs = tuple(
        shell(f"c{n}", f"sleep {seconds}; exit {code}")
        for n, (seconds, code) in enumerate(containers)
    )
    bench = ready(
        specs, restart_policy=policy, init_containers=(container("s", restart_policy="Always"),)
    )
    failed = any(code for _, code in containers)
    bench.run_for(max(seconds for seconds, _ in containers) + 1)
    if failed and policy == "OnFailure":
        assert bench.pod().status.phase == "Running"
        assert bench.world.running()
        return
    assert bench.pod().status.phase == ("Failed" if failed else "Succeeded")
    assert not bench.world.running()
    assert bench.world.pods, (
        "its containers stay until it is deleted, so that people can read the logs"
    )


def test_pod_1_a_pod_whose_containers_always_restart_does_not_end():
    bench = ready((shell("c", "true"),))
    bench.run_for(1000)
    assert bench.pod().status.phase == "Running"


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["deleted", "gone", "deadline", "finished"]), st.integers(0, 3))
def test_pod_2_a_pod_that_ends_never_runs_again(why, agents):
    spec = {"active_deadline_seconds": 5} if why == "deadline" else {}
    line = "sleep 5" if why == "finished" else "sleep 10000"
    bench = ready((shell("c", line),), restart_policy="OnFailure", **spec)
    bench.run_for(3)
    if why == "deleted":
        bench.delete()
    elif why == "gone":
        bench.delete(grace=0)
    bench.run_for(10)
    starts = len(bench.did(StartContainer))
    for _ in range(agents):
        bench.start().run_for(30)
    bench.run_for(100)
    assert len(bench.did(StartContainer)) == starts == 1
    assert not bench.world.running()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(1, 40)),
    st.integers(0, 60),
    st.integers(0, 30),
)
@example(30, None, 60, 10)
def test_pod_3_a_container_gets_its_grace_period_and_not_more(
    spec_grace, deletion_grace, takes, hook
):
    """`takes` is how long the container takes to end after SIGTERM, `hook` how long its preStop
    hook does."""
    hooks = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=hook))) if hook else None
    bench = ready(
        (replace(scripted("c", stop_seconds=str(takes)), lifecycle=hooks),),
        termination_grace_period_seconds=spec_grace,
    )
    if spec_grace == 0 and deletion_grace is None:
        return  # It would be gone at once.
    bench.delete(grace=deletion_grace)
    grace = max(spec_grace if deletion_grace is None else deletion_grace, 1)
    bench.run_for(120)
    first, *_ = stops(bench)
    hooked = min(hook, grace)
    assert first == (hooked, "c", max(grace - hooked, 2 if hook else 1))
    assert bench.ended_at("c") == hooked + min(takes, first[2])
    assert not bench.has_pod()


def test_pod_3_a_pod_that_is_gone_gets_what_it_had():
    bench = ready((scripted("c", stop_seconds="100"),), termination_grace_period_seconds=20)
    bench.delete(grace=0)
    bench.run_for(30)
    assert stops(bench) == [(0, "c", 20)]


def test_pod_3_a_restart_of_the_agent_begins_the_period_anew():
    bench = ready((scripted("c", stop_seconds="100"),))
    bench.delete(grace=20)
    bench.run_for(10)
    bench.start().run_for(100)
    assert stops(bench) == [(0, "c", 20), (10, "c", 20)]
    assert not bench.has_pod()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 5))
def test_pod_4_containers_end_together_then_sidecars_in_reverse_then_the_network(
    count, sidecars, seconds
):
    specs = tuple(scripted(f"c{n}", stop_seconds=str(seconds)) for n in range(count))
    inits = tuple(
        replace(scripted(f"s{n}", stop_seconds="1"), restart_policy="Always")
        for n in range(sidecars)
    )
    bench = ready(specs, init_containers=inits)
    bench.delete()
    bench.run_for(60)
    asked = stops(bench)
    assert asked[:count] == [(0, f"c{n}", 30) for n in range(count)] or seconds == 0
    assert [name for _, name, _ in asked[count:]] == [f"s{n}" for n in reversed(range(sidecars))]
    assert [at for at, _, _ in asked[count:]] == [seconds + n for n in range(sidecars)]
    kinds = [type(operation) for _, operation, _ in bench.operations]
    assert kinds.index(StopPodSandbox) > max(
        i for i, kind in enumerate(kinds) if kind is StopContainer
    )
    assert not bench.has_pod()


@given(st.integers(1, 3), st.integers(0, 5))
def test_pod_4_sidecars_outlive_an_init_container_too(sidecars, seconds):
    """The pod is deleted while it is being initialized; the init container takes so long to end."""
    inits = tuple(
        replace(scripted(f"s{n}", stop_seconds="1"), restart_policy="Always")
        for n in range(sidecars)
    )
    bench = ready(
        init_containers=(
            *inits,
            replace(scripted("i", stop_seconds=str(seconds)), command=("sleep", "1000")),
        )
    )
    bench.run_for(10)
    bench.delete()
    bench.run_for(60)
    asked = [(at - 10, name) for at, name, _ in stops(bench)]
    assert asked == [(0, "i"), *((seconds + n, f"s{sidecars - 1 - n}") for n in range(sidecars))]
    assert not bench.has_pod()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.booleans(), st.integers(0, 30))
def test_pod_5_a_pod_is_active_no_longer_than_its_deadline(seconds, restart, takes):
    bench = ready((scripted("c", stop_seconds=str(takes)),), active_deadline_seconds=seconds)
    bench.run_for(seconds - 0.5)
    if restart:
        bench.start().settle()
    assert bench.pod().status.phase == "Running"
    bench.run_for(0.5 + takes - 0.1 if takes else 0.4)
    assert bench.pod().status.phase == "Running"
    bench.run_for(2)
    assert (bench.pod().status.phase, bench.pod().status.reason) == ("Failed", "DeadlineExceeded")
    assert [at for at, _, _ in stops(bench)] == [seconds]
    bench.run_for(1000)
    assert len(bench.did(StartContainer)) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([StopContainer, StopPodSandbox, RemovePodSandbox]),
    st.integers(0, 4),
    st.booleans(),
)
def test_pod_6_nothing_of_a_deleted_pod_stays(kind, failures, orphan):
    """The operation fails so often; each time it is tried again ten seconds later (KUBELET-23)."""
    bench = ready((container("c"),))
    left = [failures]

    def script(operation):
        if isinstance(operation, kind) and left[0]:
            left[0] -= 1
            return Failed("", "device busy")
        return None

    bench.script = script
    bench.delete(grace=0 if orphan else None)
    bench.run_for(10 * failures + 1)
    assert [at for at, operation in bench.asked if isinstance(operation, kind)] == [
        10 * n for n in range(failures + 1)
    ]
    assert not kubelet_42_only_pods_of_the_api(Chaos.runtime_of(bench), [])
    assert not bench.has_pod()


def test_pod_6_a_pod_that_never_got_a_sandbox_leaves_no_volumes():
    from refk8s.core.api.core_v1 import EmptyDirVolumeSource, Volume

    bench = Bench().start().settle()
    bench.world = fake.set_faults(bench.world, sandbox_error="broken")
    bench.add(make_pod(volumes=(Volume(name="v", empty_dir=EmptyDirVolumeSource()),)))
    bench.run_for(1)
    assert bench.did(WriteVolume)
    bench.delete()
    bench.run_for(1)
    assert not bench.has_pod()
    assert not bench.world.pods


@settings(max_examples=60, deadline=None)
@given(
    st.integers(5, 60),
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 60)), max_size=3),
    st.integers(0, 20),
)
def test_pod_7_a_shorter_grace_period_counts_at_once_and_a_longer_one_never(first, later, hook):
    """`later` are further deletions: (how many seconds after the one before, the period they ask
    for)."""
    hooks = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=hook))) if hook else None
    bench = ready((replace(scripted("c", stop_seconds="1000"), lifecycle=hooks),))
    at, nominal, until, period = (
        0,
        first,
        max(first, min(hook, first) + 2) if hook else first,
        first,
    )
    bench.delete(grace=first)
    for after, seconds in later:
        bench.run_for(after)
        at += after
        if not bench.has_pod():
            break
        bench.delete(grace=seconds)
        bench.settle()
        if seconds < period:
            period = seconds
            if at + seconds < nominal:  # The two seconds after a hook do not count here.
                nominal = at + seconds
                until = min(until, nominal)
    bench.run_for(100)
    assert bench.ended_at("c") == until
    assert not bench.has_pod()


@given(st.integers(0, 2000), st.integers(1, 5))
def test_pod_8_a_deleted_pod_may_wait_a_moment(milliseconds, grace):
    bench = Bench(config=KubeletConfig(stop_delay=milliseconds * 1000)).start().settle()
    bench.add(make_pod())
    bench.settle()
    bench.delete(grace=grace)
    bench.run_for(30)
    (at, _, period), *rest = stops(bench)
    assert not rest
    assert (at, period) == (milliseconds / 1000 if grace > 1 else 0, grace)
    assert not bench.has_pod()


# --- what the status says -------------------------------------------------------------------------


RANKS = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]), st.integers(0, 2))
def test_pod_10_a_phase_never_goes_back_not_even_one_that_the_runtime_cannot_explain(phase, agents):
    """The API says that a pod was so far; the runtime knows nothing of it."""
    bench = Bench().start().settle()
    pod = make_pod(restart_policy="OnFailure")
    pod = bench.add(
        replace(pod, status=replace(pod.status, phase=phase, start_time=timestamp(START)))
    )
    bench.world = fake.set_faults(bench.world, sandbox_error="broken")
    for _ in range(agents):
        bench.start()
    bench.run_for(30)
    assert RANKS[bench.pod().status.phase] >= RANKS[phase]
    if phase in ("Succeeded", "Failed"):
        assert bench.pod().status.phase == phase
        assert not bench.did(RunPodSandbox)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.sampled_from(["deleted", "deadline", "finished", "init"]))
def test_pod_11_no_phase_is_final_while_a_container_runs(takes, why):
    """A sidecar that is slow to stop runs on while everything else has ended."""
    sidecar = replace(scripted("s", stop_seconds=str(takes)), restart_policy="Always")
    containers = (
        shell("c", "sleep 2") if why == "finished" else scripted("c", stop_seconds=str(takes)),
        shell("d", "exit 1"),
    )
    inits = (sidecar, shell("i", "exit 1")) if why == "init" else (sidecar,)
    bench = ready(
        containers, init_containers=inits, restart_policy="Never", active_deadline_seconds=5
    )
    seen = set()

    def look():
        if bench.has_pod() and bench.world.running():
            seen.add(bench.memory().pods[bench.pod().metadata.uid].ending)
            assert bench.pod().status.phase not in ("Succeeded", "Failed")

    bench.check = look
    if why == "deleted":
        bench.delete()
    bench.run_for(5 + 2 * takes + 2)
    assert seen & {"deleted", "deadline", "finished"}, "it was seen running while it ended"
    assert not bench.has_pod() if why == "deleted" else bench.pod().status.phase == "Failed"


counts = st.builds(
    Counts,
    init_failed=st.booleans(),
    waiting=st.integers(0, 2),
    running=st.integers(0, 2),
    succeeded=st.integers(0, 2),
    failed=st.integers(0, 2),
)


@given(counts, st.sampled_from(["Always", "OnFailure", "Never"]), st.booleans())
def test_pod_12_the_phase_is_what_the_table_says(count, policy, over):
    """The table of the page, row by row: the first that fits counts."""
    ended = count.succeeded + count.failed
    rows = [
        (count.init_failed, "Failed"),
        (count.waiting > 0, "Failed" if over else "Pending"),
        (count.running > 0, "Running"),
        (ended > 0 and count.failed == 0 and (policy != "Always" or over), "Succeeded"),
        (ended > 0 and count.failed > 0 and (policy == "Never" or over), "Failed"),
        (ended > 0, "Running"),
        (True, "Pending"),
    ]
    assert compute_phase(count, policy, over) == next(phase for fits, phase in rows if fits)


@given(st.integers(0, 3))
def test_pod_13_a_pod_with_init_containers_is_initializing(inits):
    bench = Bench().start().settle()
    bench.world = replace(bench.world, pull_time=2 * SECOND)
    names = [f"i{n}" for n in range(inits)]
    bench.add(
        make_pod(init_containers=tuple(shell(name, "sleep 5; exit 0") for name in names) or None)
    )
    for _ in range(3 * inits + 1):
        bench.run_for(1)
        status = bench.pod().status
        waiting = [
            s.state.waiting
            for s in (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
        ]
        assert {w.reason for w in waiting if w is not None} <= {
            "PodInitializing" if inits else "ContainerCreating"
        }
        assert status.container_statuses[0].state.waiting is not None


def test_pod_13_a_container_waits_runs_and_ends():
    bench = Bench().start().settle()
    bench.world = replace(bench.world, pull_time=2 * SECOND)
    bench.add(make_pod(containers=(shell("c", "sleep 3; exit 7"),)))
    told = []

    def look():
        status = (bench.pod().status.container_statuses or (None,))[0]
        if status is None:
            return
        states = (
            ("waiting", status.state.waiting),
            ("running", status.state.running),
            ("terminated", status.state.terminated),
        )
        ended = status.last_state.terminated
        now = next((name, getattr(s, "reason", "")) for name, s in states if s is not None)
        if not told or told[-1] != (*now, ended and ended.exit_code, status.restart_count):
            told.append((*now, ended and ended.exit_code, status.restart_count))

    bench.check = look
    bench.run_for(12)
    assert told == [
        ("waiting", "ContainerCreating", None, 0),
        ("running", "", None, 0),
        ("terminated", "Error", None, 0),
        ("running", "", 7, 1),
        ("waiting", "CrashLoopBackOff", 7, 1),
    ]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["Always", "Never"]), st.integers(0, 1))
def test_pod_14_what_the_runtime_has_lost_is_told_as_lost(policy, ended_before):
    bench = ready(
        (shell("c", "sleep 2; exit 5") if ended_before else container("c"), container("d")),
        restart_policy=policy,
    )
    bench.run_for(3)
    bench.world = fake.make_world("node")
    bench.start().run_for(30)
    told = {
        s.name: (s.state.terminated or s.last_state.terminated)
        for s in bench.pod().status.container_statuses
    }
    assert (told["d"].exit_code, told["d"].reason) == (137, "ContainerStatusUnknown")
    if policy == "Never":
        assert bench.pod().status.phase == "Failed"
        assert told["c"].exit_code == (5 if ended_before else 137)
    else:
        assert bench.pod().status.phase == "Running"


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.booleans(), st.sampled_from(["Always", "Never"]))
def test_pod_15_the_conditions_follow_from_the_containers(initialized, probes, policy):
    inits = (shell("i", "sleep 1" if initialized else "sleep 1000"),)
    probe = Probe(exec=EXEC, period_seconds=1, failure_threshold=1) if probes else None
    bench = Bench().start().settle()
    bench.script = lambda operation: (
        Probed(False, "no") if type(operation).__name__ == "Probe" else None
    )
    containers = (shell("c", "sleep 5"), container("d", readiness_probe=probe))
    bench.add(make_pod(containers=containers, init_containers=inits, restart_policy=policy))
    bench.add(make_pod("other"))
    bench.run_for(3)
    held = {c.type: (c.status, c.reason) for c in bench.pod().status.conditions}
    assert [c.type for c in bench.pod().status.conditions] == [
        "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    ]  # fmt: skip
    assert held["PodScheduled"] == held["PodReadyToStartContainers"] == ("True", None)
    assert held["Initialized"] == (
        ("True", None) if initialized else ("False", "ContainersNotInitialized")
    )
    good = initialized and not probes
    assert (
        held["ContainersReady"]
        == held["Ready"]
        == (("True", None) if good else ("False", "ContainersNotReady"))
    )
    if initialized and probes:
        assert condition(bench, "Ready").message == "containers with unready status: [d]"
    assert {c.observed_generation for c in bench.pod().status.conditions} == {
        bench.pod().metadata.generation
    }


@given(st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=16, deadline=None)
def test_pod_15_a_failed_pod_names_the_init_containers_that_are_incomplete(before, after):
    inits = (
        *(shell(f"a{number}", "exit 0") for number in range(before)),
        shell("bad", "exit 1"),
        *(shell(f"z{number}", "exit 0") for number in range(after)),
    )
    bench = Bench().start().settle()
    bench.add(make_pod(containers=(container("c"),), init_containers=inits, restart_policy="Never"))
    bench.run_for(20)
    assert bench.pod().status.phase == "Failed"
    held = condition(bench, "Initialized")
    names = " ".join(["bad", *(f"z{number}" for number in range(after))])
    assert (held.status, held.reason) == ("False", "ContainersNotInitialized")
    assert held.message == f"containers with incomplete status: [{names}]"
    assert condition(bench, "Ready").reason == "PodFailed"


def test_pod_15_an_ended_pod_says_how_and_keeps_the_conditions_of_others():
    bench = ready((shell("c", "sleep 1"),), restart_policy="Never")
    mine = PodCondition(type="example.com/audited", status="True")
    pod = bench.pod()
    bench.put(
        PODS, replace(pod, status=replace(pod.status, conditions=(*pod.status.conditions, mine)))
    )
    bench.run_for(3)
    held = {c.type: (c.status, c.reason) for c in bench.pod().status.conditions}
    assert held["Ready"] == held["ContainersReady"] == ("False", "PodCompleted")
    assert held["Initialized"] == ("True", "PodCompleted")
    assert held["PodReadyToStartContainers"] == ("False", None)
    assert held["example.com/audited"] == ("True", None)


@given(st.sampled_from([None, "True", "False"]))
def test_pod_16_readiness_gates_hold_back_ready_only(gate):
    bench = ready(readiness_gates=(PodReadinessGate(condition_type="example.com/ok"),))
    if gate is not None:
        pod = bench.pod()
        mine = PodCondition(type="example.com/ok", status=gate)
        bench.put(
            PODS,
            replace(pod, status=replace(pod.status, conditions=(*pod.status.conditions, mine))),
        )
        bench.settle()
    assert condition(bench, "ContainersReady").status == "True"
    assert condition(bench, "Ready").status == ("True" if gate == "True" else "False")
    assert condition(bench, "Ready").reason == (
        None if gate == "True" else "ReadinessGatesNotReady"
    )


def test_pod_17_a_transition_time_is_that_of_the_last_change():
    bench = ready()
    bench.run_for(100)
    since = condition(bench, "Initialized").last_transition_time
    id = bench.world.running()[0].id
    bench.disturb(lambda world, now: fake.crash_container(world, id, 1, now))
    bench.run_for(100)
    assert since == condition(bench, "Initialized").last_transition_time == timestamp(START)
    assert condition(bench, "Ready").last_transition_time == timestamp(START + 100 * SECOND)


@given(st.integers(0, 3), st.integers(0, 50))
def test_pod_18_the_start_time_is_set_once(agents, seconds):
    bench = Bench().start().settle()
    bench.run_for(seconds)
    bench.add(make_pod())
    bench.settle()
    for _ in range(agents):
        bench.run_for(7)
        bench.start().settle()
    assert bench.pod().status.start_time == timestamp(START + seconds * SECOND)


def test_pod_the_addresses_are_in_the_status_and_each_is_given_once():
    bench = Bench().start().settle()
    for n in range(20):
        bench.add(make_pod(f"p{n}"))
    bench.settle()
    ips = [bench.pod(f"p{n}").status.pod_ip for n in range(20)]
    assert len(set(ips)) == 20
    assert {bench.pod("p0").status.host_ip} == {"192.168.0.1"}
    assert bench.pod("p3").status.pod_ips[0].ip == ips[3]
    assert [op.config.name for _, op in bench.did(CreateContainer)].count("c") == 20


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, "Disabled", "Enabled"])), max_size=3)
)
def test_pod_25_a_status_lists_the_mounts_of_its_container(drawn):
    mounts = tuple([
        VolumeMount(name=f"v{n}", mount_path=f"/v{n}", read_only=is_read_only or None, recursive_read_only=mode if is_read_only else None)
        for n, (is_read_only, mode) in enumerate(drawn)
    ])  # fmt: skip
    told = mount_statuses(Container(name="c", volume_mounts=mounts or None))
    assert [(one.name, one.mount_path, one.read_only) for one in told or ()] == [
        (one.name, one.mount_path, one.read_only) for one in mounts
    ]
    for one, mount in zip(told or (), mounts, strict=True):
        expected = (mount.recursive_read_only or "Disabled") if mount.read_only else None
        assert one.recursive_read_only == expected


def test_pod_25_in_a_cluster_every_container_status_has_the_mounts_of_the_spec():
    run = simulate(Setup(seed=3, steps=800, requests=read_manifests(default_manifests())))
    seen = 0
    for record in run.cluster.history.list(PODS.prefix).records:
        specs = {one.name: one for one in record.value.spec.containers}
        for status in record.value.status.container_statuses or ():
            assert status.volume_mounts == mount_statuses(specs[status.name])
            seen += bool(status.volume_mounts)
    assert seen
