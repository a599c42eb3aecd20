"""The kubelet of a node: KUBELET-1 to KUBELET-44 (spec/kubelet.md). What containers are made from
is in test_kubelet_making.py."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kubelet_bench import START, Bench, make_pod
from kubelet_chaos import EXEC, Chaos, container, scripted, shell
from msgspec.structs import replace

from refk8s.adapters.fake import world as fake
from refk8s.core.api.core_v1 import (
    ConfigMap,
    ConfigMapKeySelector,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    EmptyDirVolumeSource,
    EnvVar,
    EnvVarSource,
    Lifecycle,
    LifecycleHandler,
    Pod,
    Probe,
    SecurityContext,
    Volume,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS
from refk8s.core.context import SECOND
from refk8s.core.kubelet.listing import after_list, has_news, is_as_known
from refk8s.core.kubelet.memory import PodMemory
from refk8s.core.machine import RuntimeChanged
from refk8s.core.ports import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerStatus,
    CreateContainer,
    DescribeNode,
    Done,
    Failed,
    Later,
    ListPods,
    Probed,
    PullImage,
    RemoveContainer,
    RunHook,
    RunPodSandbox,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateRuntimeConfig,
    WriteVolume,
)
from refk8s.core.properties.predicates.kubelet import kubelet_42_only_pods_of_the_api

tapes = st.lists(st.integers(0, 4095), max_size=150)


def ready(*pods: Pod, seed: int = 0) -> Bench:
    """A bench with these pods, settled."""
    bench = Bench(seed).start().settle()
    for pod in pods:
        bench.add(pod)
    return bench.run_for(0)


def state(bench: Bench, name: str = "c") -> str:
    """The state of a container in a word: running, or the reason of the other states."""
    statuses = (
        *(bench.pod().status.init_container_statuses or ()),
        *(bench.pod().status.container_statuses or ()),
    )
    status = next(status for status in statuses if status.name == name)
    if status.state.running is not None:
        return "running"
    return str((status.state.waiting or status.state.terminated).reason)  # type: ignore[union-attr]


def restarts(bench: Bench, name: str = "c") -> int:
    return next(
        status.restart_count
        for status in bench.pod().status.container_statuses or ()
        if status.name == name
    )


def crash(bench: Bench, name: str = "c", exit_code: int = 1) -> None:
    id = next(status.id for status in bench.world.running() if status.name == name)
    bench.disturb(lambda world, now: fake.crash_container(world, id, exit_code, now))


# --- always ---------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(tapes)
@example([0, 14, 96, 14, 3, 14, 4, 14, 5, 14, 1, 14])
def test_kubelet_whatever_happens_to_a_node_its_laws_hold_and_it_settles(tape: list[int]) -> None:
    """KUBELET-2, KUBELET-4, KUBELET-16, KUBELET-30, KUBELET-32, KUBELET-42, KUBELET-44; POD-3,
    POD-10, POD-11, POD-13, POD-15, POD-18."""
    Chaos().play(tape).mend().settled()


def test_kubelet_the_lives_of_a_node_reach_what_is_interesting() -> None:
    """The sometimes of the law above: a fixed tape shows that its premises are reached."""
    seen: set[str] = set()
    for seed in range(12):
        numbers = [(seed * 7919 + i * i * 104_729 + i * 31) % 4096 for i in range(150)]
        seen |= Chaos(seed).play(numbers).mend().seen
    wanted = {
        "agent restarted",
        "sandbox crashed",
        "final delete",
        "CrashLoopBackOff",
        "Running",
        "Failed",
    }
    wanted |= {"StopContainer", "RemoveContainer"}
    assert wanted <= seen, wanted - seen


@given(st.integers(1, 4))
def test_kubelet_1_containers_are_restarted_while_the_api_is_away(crashes: int) -> None:
    bench = ready(make_pod())
    bench.api_away = True
    for _ in range(crashes):
        crash(bench)
        bench.run_for(601)
    assert len(bench.did(StartContainer)) == crashes + 1
    bench.api_away = False
    bench.settle()
    assert restarts(bench) == crashes


def test_kubelet_2_a_dead_sandbox_is_stopped_before_the_next_is_started() -> None:
    bench = ready(make_pod())
    uid = bench.pod().metadata.uid or ""
    done = len(bench.operations)
    bench.disturb(lambda world, now: fake.crash_sandbox(world, uid, now))
    bench.settle()
    kinds = [type(operation) for _, operation, _ in bench.operations[done:]]
    assert kinds.index(StopPodSandbox) < kinds.index(RunPodSandbox)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 100), max_size=200))
def test_kubelet_3_one_operation_at_a_time_on_a_container(count: int, order: list[int]) -> None:
    """Also KUBELET-14: one container at a time is made, in the order of the list."""
    bench = Bench().start().settle()
    bench.add(make_pod(containers=tuple(container(f"c{i}") for i in range(count))))
    names = {f"c{i}" for i in range(count)}
    for number in order:
        if choices := bench.choices():
            bench.do(choices[number % len(choices)])
        flying = [operation for _, _, operation, _ in bench.runs]
        making = [op for op in flying if isinstance(op, (CreateContainer, StartContainer))]
        assert len(making) <= 1
        assert len([op for op in flying if isinstance(op, RunPodSandbox)]) <= 1
        assert len([op for op in flying if isinstance(op, PullImage)]) <= len(names)
    bench.settle()
    assert [operation.config.name for _, operation in bench.did(CreateContainer)] == [
        f"c{i}" for i in range(count)
    ]


def test_kubelet_4_a_start_whose_answer_was_lost_in_a_crash_is_not_repeated() -> None:
    bench = Bench().start().settle()
    bench.add(make_pod())
    while not bench.did(StartContainer):
        bench.do(bench.choices()[0])
    bench.start().settle()
    assert bench.world.started == 1
    assert state(bench) == "running"
    assert restarts(bench) == 0


# --- from a pod to running containers -------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["Always", "OnFailure", "Never"]), st.integers(1, 3))
def test_kubelet_10_a_pod_whose_sandbox_dies_gets_the_next(policy: str, deaths: int) -> None:
    bench = ready(make_pod(restart_policy=policy))
    uid = bench.pod().metadata.uid or ""
    for _ in range(deaths):
        bench.disturb(lambda world, now: fake.crash_sandbox(world, uid, now))
        bench.settle()
    attempts = [operation.config.attempt for _, operation in bench.did(RunPodSandbox)]
    if policy == "Never":
        assert attempts == [0]
        assert bench.pod().status.phase == "Failed"
    else:
        assert attempts == list(range(deaths + 1))
        assert [operation.grace_period_seconds for _, operation in bench.did(StopContainer)] == [
            30
        ] * deaths
        assert restarts(bench) == deaths  # and without waiting
        assert len(bench.world.pods[uid].sandboxes) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(0, 50), max_size=40))
def test_kubelet_11_containers_are_made_when_sandbox_and_volumes_are_there(
    volumes: int, order: list[int]
) -> None:
    bench = Bench().start().settle()
    empty = tuple(Volume(name=f"v{i}", empty_dir=EmptyDirVolumeSource()) for i in range(volumes))
    bench.add(make_pod(volumes=empty))
    for number in order:
        if choices := bench.choices():
            bench.do(choices[number % len(choices)])
    bench.settle()
    kinds = [type(operation) for _, operation, _ in bench.operations]
    create = kinds.index(CreateContainer)
    assert kinds.index(RunPodSandbox) < create
    assert kinds.count(WriteVolume) == volumes
    assert WriteVolume not in kinds[create:]


init_lists = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(init_lists)
def test_kubelet_12_init_containers_one_after_another_then_the_others(
    inits: list[tuple[bool, int]],
) -> None:
    """Each is (is it a sidecar, how long it runs)."""
    bench = Bench().start().settle()
    specs = [
        container(f"i{n}", restart_policy="Always")
        if sidecar
        else shell(f"i{n}", f"sleep {seconds}")
        for n, (sidecar, seconds) in enumerate(inits)
    ]
    bench.add(make_pod(containers=(container("c"),), init_containers=tuple(specs)))
    started: list[str] = []

    def order() -> None:
        for status in sorted(bench.world.running(), key=lambda status: status.started_at):
            if status.name in started:
                continue
            started.append(status.name)
            number = len(inits) if status.name == "c" else int(status.name[1:])
            held = {c.status.name: c.status.state for c in bench.world.containers.values()}
            for before in range(number):
                assert held[f"i{before}"] == (RUNNING if inits[before][0] else "exited")

    bench.check = order
    bench.run_for(sum(seconds for _, seconds in inits) + 1)
    assert started[-1] == "c"
    assert bench.pod().status.phase == "Running"
    assert state(bench) == "running"


@settings(max_examples=20, deadline=None)
@given(init_lists, st.integers(1, 2))
def test_kubelet_12_every_sandbox_begins_with_the_init_containers(
    inits: list[tuple[bool, int]], deaths: int
) -> None:
    """Each is (is it a sidecar, how long it runs). What ended well in a sandbox that died does not
    count in the next."""
    bench = Bench().start().settle()
    specs = [
        container(f"i{n}", restart_policy="Always")
        if sidecar
        else shell(f"i{n}", f"sleep {seconds}")
        for n, (sidecar, seconds) in enumerate(inits)
    ]
    bench.add(make_pod(containers=(container("c"),), init_containers=tuple(specs)))
    uid = bench.pod().metadata.uid or ""
    for death in range(deaths + 1):
        if death:
            bench.disturb(lambda world, now: fake.crash_sandbox(world, uid, now))
        bench.run_for(60)
    made: dict[str, list[str]] = {}
    for _, operation in bench.did(CreateContainer):
        made.setdefault(operation.sandbox_id, []).append(operation.config.name)
    assert list(made.values()) == [[*(spec.name for spec in specs), "c"]] * (deaths + 1)


@given(st.integers(0, 20))
def test_kubelet_12_what_follows_a_sidecar_waits_for_its_startup_probe(seconds: int) -> None:
    slow = replace(scripted("s", ready_seconds=str(seconds)), restart_policy="Always")
    slow = replace(slow, startup_probe=Probe(exec=EXEC, period_seconds=1, failure_threshold=100))
    bench = ready(make_pod(init_containers=(slow, shell("i", "true"))))
    bench.run_for(60)
    names = {status.id: status.name for status in bench.every_container}
    starts = {
        names[op.container_id]: at for at, op in bench.asked if isinstance(op, StartContainer)
    }
    assert starts == {"s": 0, "i": seconds, "c": seconds}


def test_kubelet_12_an_init_container_that_fails_for_good_fails_the_pod() -> None:
    bench = ready(make_pod(restart_policy="Never", init_containers=(shell("i", "exit 3"),)))
    assert bench.pod().status.phase == "Failed"
    assert not [op for _, op in bench.did(CreateContainer) if op.config.name == "c"]


def test_kubelet_12_an_init_container_that_fails_is_restarted_with_back_off() -> None:
    bench = Bench().start().settle()
    bench.add(make_pod(init_containers=(shell("i", "exit 3"),)))
    bench.run_for(35)
    assert [at for at, _ in bench.did(StartContainer)] == [0, 0, 10, 30]
    assert bench.pod().status.phase == "Pending"


@given(
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.integers(0, 2),
    st.sampled_from([None, "Always", "OnFailure", "Never"]),
    st.sampled_from([None, ("In", 1), ("NotIn", 1)]),
)
def test_kubelet_13_the_restart_policy_is_a_table(
    policy: str, exit_code: int, own: str | None, rule: tuple[str, int] | None
) -> None:
    rules = None
    if rule is not None:
        codes = ContainerRestartRuleOnExitCodes(operator=rule[0], values=(rule[1],))
        rules = (ContainerRestartRule(action="Restart", exit_codes=codes),)
    spec = replace(shell("c", f"exit {exit_code}"), restart_policy=own, restart_policy_rules=rules)
    bench = ready(make_pod(containers=(spec, container("d")), restart_policy=policy))
    table = {
        ("Always", False): True, ("Always", True): True,
        ("OnFailure", False): True, ("OnFailure", True): False,
        ("Never", False): False, ("Never", True): False,
    }  # fmt: skip
    expected = table[own or policy, exit_code == 0]
    if rule is not None and ((exit_code == rule[1]) == (rule[0] == "In")):
        expected = True
    starts = [op for _, op in bench.did(CreateContainer) if op.config.name == "c"]
    assert len(starts) == (2 if expected else 1)  # the first restart does not wait


@pytest.mark.parametrize("kind", ["liveness", "startup"])
@given(
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
    own=st.sampled_from([None, "Always", "OnFailure", "Never"]),
    exit_code=st.sampled_from([0, 1, 143]),
)
def test_kubelet_13_what_a_probe_ended_is_restarted_whatever_its_exit_code(
    kind: str, policy: str, own: str | None, exit_code: int
) -> None:
    """A program that ends well when it is asked to has not done its work: OnFailure restarts it
    too."""
    probe = Probe(exec=EXEC, period_seconds=1, failure_threshold=1)
    ill = scripted(
        "c",
        **({"healthy_seconds": "2"} if kind == "liveness" else {"ready_seconds": "99"}),
        exit_code=str(exit_code),
    )
    ill = replace(ill, restart_policy=own, **{f"{kind}_probe": probe})
    bench = ready(make_pod(containers=(ill, container("d")), restart_policy=policy))
    bench.run_for(5)
    starts = [op for _, op in bench.did(CreateContainer) if op.config.name == "c"]
    assert len(bench.did(StopContainer)) >= 1
    assert (len(starts) > 1) is ((own or policy) != "Never")


def test_kubelet_14_a_slow_post_start_hook_holds_up_the_next_container() -> None:
    """Also KUBELET-17."""
    hook = Lifecycle(post_start=LifecycleHandler(exec=EXEC))
    first = replace(scripted("a", hook_seconds="4"), lifecycle=hook)
    bench = ready(make_pod(containers=(first, container("b"))))
    bench.run_for(3.9)
    assert [op.config.name for _, op in bench.did(CreateContainer)] == ["a"]
    assert not [s for s in bench.pod().status.container_statuses or () if s.started]
    bench.run_for(0.2)
    assert [op.config.name for _, op in bench.did(CreateContainer)] == ["a", "b"]


def edit_image(bench: Bench, image: str) -> None:
    pod = bench.pod()
    containers = (replace(pod.spec.containers[0], image=image), *pod.spec.containers[1:])
    bench.put(PODS, replace(pod, spec=replace(pod.spec, containers=containers)))
    bench.settle()


def test_kubelet_15_a_changed_image_restarts_its_container_only_and_at_once() -> None:
    bench = ready(make_pod(containers=(container("c"), container("d")), restart_policy="Never"))
    edit_image(bench, "example.invalid/app:2")
    edit_image(bench, "example.invalid/app:3")
    assert [op.config.image for _, op in bench.did(CreateContainer) if op.config.name == "c"][
        -1
    ] == "example.invalid/app:3"
    assert (restarts(bench, "c"), restarts(bench, "d")) == (2, 0)
    assert bench.pod().status.phase == "Running"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["crash", "agent", "node", "lost"]), max_size=6))
def test_kubelet_16_restarts_are_counted_across_everything(events: list[str]) -> None:
    bench = ready(make_pod())
    expected = 0
    for event in events:
        if event == "crash":
            crash(bench)
        elif event == "agent":
            bench.start()
        elif event == "node":
            bench.disturb(fake.crash_node)
        else:  # The runtime forgets everything, the agent with it.
            bench.world = fake.make_world("node")
            bench.start()
        expected += event != "agent"
        bench.run_for(700)
        assert restarts(bench) == expected, event
    assert state(bench) == "running"


def test_kubelet_17_a_post_start_hook_that_fails_ends_its_container() -> None:
    hook = Lifecycle(post_start=LifecycleHandler(exec=EXEC))
    bench = Bench().start().settle()
    bench.script = lambda operation: Probed(False, "no") if isinstance(operation, RunHook) else None
    bench.add(make_pod(containers=(container("c", lifecycle=hook),)))
    bench.run_for(15)
    assert [at for at, _ in bench.did(StartContainer)] == [0, 0, 10]
    assert len(bench.did(StopContainer)) == 3
    assert "FailedPostStartHook" in bench.reasons()
    assert state(bench) == "CrashLoopBackOff"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5))
def test_kubelet_18_the_last_ended_attempt_is_kept_and_older_ones_are_removed(crashes: int) -> None:
    bench = ready(make_pod())
    for _ in range(crashes):
        crash(bench)
        bench.run_for(700)
    held = sorted(
        fake_container.status.attempt for fake_container in bench.world.containers.values()
    )
    assert held == [crashes - 1, crashes]
    assert len(bench.did(RemoveContainer)) == crashes - 1


def expected_starts(runs: list[int]) -> list[int]:
    """When a container is started that each time runs so many seconds: the rule said plainly."""
    at, delay, last_start = 0, 0, 0
    starts = [0]
    for count, seconds in enumerate(runs):
        ended = at + seconds
        if count == 0 or ended - last_start > 600:
            delay, at = 10, ended
        else:
            at, delay = ended + delay, min(2 * delay, 300)
        last_start = at
        starts.append(at)
    return starts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, 30, 299, 599, 600, 601, 2000]), min_size=1, max_size=9))
@example([0] * 9)
def test_kubelet_20_restarts_wait_exactly_so_long(runs: list[int]) -> None:
    bench = Bench().start().settle()
    bench.add(make_pod())
    bench.settle()
    for index, seconds in enumerate(runs):
        if index:
            while len(bench.did(StartContainer)) <= index:
                at = bench.next_instant()
                assert at is not None
                bench.elapse_to(at)
                bench.settle()
                if not bench.world.running():
                    assert state(bench) == "CrashLoopBackOff"
        bench.run_for(seconds)
        crash(bench)
        bench.settle()
    bench.run_for(301)
    assert [at for at, _ in bench.did(StartContainer)] == expected_starts(runs)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 8))
def test_kubelet_21_pulls_wait_exactly_so_long(failures: int) -> None:
    bench = Bench().start().settle()
    bench.world = fake.break_image(bench.world, "example.invalid/app:1")
    bench.add(make_pod())
    expected, at, delay = [0], 0, 10
    for _ in range(failures):
        at, delay = at + delay, min(2 * delay, 300)
        expected.append(at)
    bench.settle()
    bench.run_for(0.6)
    assert state(bench) == "ErrImagePull"
    bench.run_for(2)
    assert state(bench) == "ImagePullBackOff"
    bench.run_for(expected[failures - 1] + 0.1 - 2.6)
    bench.world = fake.break_image(bench.world, "example.invalid/app:1", "")
    bench.run_for(301)
    assert [at for at, _ in bench.did(PullImage)] == expected
    assert state(bench) == "running"


def set_image(bench: Bench, image: str) -> None:
    pod = bench.pod()
    changed = tuple(replace(c, image=image) for c in pod.spec.containers)
    bench.put(PODS, replace(pod, spec=replace(pod.spec, containers=changed)))


# A pull takes two seconds: at 1 s it is in progress, at 3 s its result is known, later there may be
# a back-off.
@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.sampled_from([1, 3, 7, 60]))
@example(False, 1)
@example(True, 1)
def test_kubelet_21_a_changed_image_is_pulled_at_once(broken: bool, seconds: int) -> None:
    bench = Bench().start().settle()
    bench.world = fake.break_image(bench.world, "example.invalid/app:1", "not found" * broken)
    pulled = bench.now + 2 * SECOND
    bench.script = lambda operation: (
        Later(pulled) if isinstance(operation, PullImage) and bench.now < pulled else None
    )
    bench.add(make_pod())
    bench.run_for(seconds)
    set_image(bench, "example.invalid/app:2")
    bench.run_for(3)
    assert state(bench) == "running"
    started = [operation.config.image for _, operation in bench.did(CreateContainer)]
    first = ["example.invalid/app:1"] if not broken and seconds > 1 else []
    assert started == [*first, "example.invalid/app:2"]


def test_kubelet_20_a_changed_image_ends_a_back_off() -> None:
    bench = ready(make_pod())
    for _ in range(2):
        bench.run_for(1)
        crash(bench)
    bench.run_for(1)
    assert state(bench) == "CrashLoopBackOff"
    set_image(bench, "example.invalid/app:2")
    bench.run_for(2)
    assert state(bench) == "running"


def test_kubelet_21_what_is_no_image_name_is_not_pulled() -> None:
    identifier, short = "a" * 64, "a@sha512:" + "0" * 64
    for image in (
        *("Not An Image", "UPPER/Case", "a//b", "a:", "-a", "a@sha256:12", ""),
        *(identifier, short, "a@md5:" + "0" * 32, "a/" * 127 + "ab"),
    ):
        bench = ready(make_pod(containers=(container("c", image=image), container("d"))))
        bench.run_for(1)
        assert state(bench) == "InvalidImageName", image
        assert state(bench, "d") == "running"
    for image in (
        "a",
        "a:1",
        "localhost:5000/a/b_c:v1.2-x",
        "docker.io/library/a--b@sha256:" + "0" * 64,
    ):
        assert state(ready(make_pod(containers=(container("c", image=image),)))) == "running", image


def test_kubelet_21_an_image_that_may_not_be_pulled_says_so() -> None:
    bench = ready(make_pod(containers=(container("c", pull="Never"),)))
    bench.run_for(5)
    assert state(bench) == "ErrImageNeverPull"


def setting(optional: bool | None = None) -> EnvVar:
    ref = ConfigMapKeySelector(name="settings", key="mode", optional=optional)
    return EnvVar(name="MODE", value_from=EnvVarSource(config_map_key_ref=ref))


def config_map(**data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="settings", namespace="default"), data=data)


def test_kubelet_22_a_missing_config_map_keeps_its_container_waiting_and_says_so() -> None:
    bench = ready(make_pod(containers=(container("c", env=(setting(),)), container("d"))))
    bench.run_for(1)
    assert (state(bench, "c"), state(bench, "d")) == ("CreateContainerConfigError", "running")
    status = next(s for s in bench.pod().status.container_statuses or () if s.name == "c")
    assert status.state.waiting is not None
    assert status.state.waiting.message == 'configmap "settings" not found'
    bench.put(CONFIG_MAPS, config_map(other="x"))
    bench.run_for(30)
    told = {request.body.message for request in bench.sent(EVENTS) if request.verb == "create"}
    assert "Error: couldn't find key mode in ConfigMap default/settings" in told
    bench.put(CONFIG_MAPS, config_map(mode="dark"))
    bench.run_for(90)
    assert state(bench, "c") == "running"


def test_kubelet_22_root_is_refused_where_root_is_forbidden() -> None:
    bench = ready(
        make_pod(
            containers=(
                container(
                    "c", security_context=SecurityContext(run_as_non_root=True, run_as_user=0)
                ),
            )
        )
    )
    bench.run_for(1)
    assert state(bench) == "CreateContainerConfigError"


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["sandbox_error", "create_error", "down"]), st.integers(0, 3))
def test_kubelet_23_what_failed_is_tried_again_after_ten_seconds(fault: str, failures: int) -> None:
    bench = Bench().start().settle()
    bench.world = fake.set_faults(bench.world, **{fault: "broken"})
    bench.add(make_pod())
    bench.run_for(10 * failures + 5)
    bench.world = fake.set_faults(bench.world, **{fault: ""})
    bench.run_for(60)
    assert state(bench) == "running"
    if fault == "sandbox_error":
        assert [at for at, _ in bench.did(RunPodSandbox)] == [10 * n for n in range(failures + 2)]
    if fault == "create_error":
        assert [at for at, _ in bench.did(CreateContainer)] == [10 * n for n in range(failures + 2)]


# --- telling the API ------------------------------------------------------------------------------


@given(st.sampled_from(["before", "after", "never"]), st.booleans())
def test_kubelet_30_a_status_that_another_client_overwrites_is_written_again(
    when: str, restarted: bool
) -> None:
    """What was written is not computed again when the view shows it, and anything else is."""
    bench = Bench().start().settle()
    bench.add(make_pod())

    def overwrite() -> None:
        pod = bench.pod()
        bench.put(PODS, replace(pod, status=replace(pod.status, phase="Unknown", pod_ip=None)))

    while (choices := bench.choices()) and not bench.sent(PODS, "status"):
        if (
            any(request.subresource == "status" for _, _, request in bench.calls)
            and when == "before"
        ):
            overwrite()
        bench.do(choices[0])
    if when == "after":
        overwrite()
    if restarted:
        bench.start()
    bench.run_for(5)
    assert bench.pod().status.phase == "Running" and bench.pod().status.pod_ip
    assert not bench.memory().sent


def test_kubelet_30_a_node_at_rest_writes_nothing_but_heartbeats() -> None:
    bench = ready(make_pod(), make_pod("q", (container("c"), container("d"))))
    before = len(bench.requests)
    operations = len(bench.operations)
    bench.run_for(250)
    quiet = [r for r in bench.requests[before:] if r.resource not in (LEASES, NODES)]
    assert not quiet
    assert {type(operation) for _, operation, _ in bench.operations[operations:]} == {
        DescribeNode,
        ListPods,
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.sampled_from([0, 100, 999, 1001, 3000]))
def test_kubelet_31_a_pod_that_starts_at_once_is_written_once(
    containers: int, milliseconds: int
) -> None:
    bench = Bench().start().settle()
    bench.world = replace(bench.world, pull_time=milliseconds * SECOND // 1000)
    bench.add(make_pod(containers=tuple(container(f"c{i}") for i in range(containers))))
    bench.run_for(10)
    phases = [r.body.status.phase for r in bench.sent(PODS, "status")]
    assert phases == (["Running"] if milliseconds < 1000 else ["Pending", "Running"])
    assert len(bench.sent(PODS)) == 0


@given(st.integers(1, 4), st.sampled_from([0, 700]))
def test_kubelet_31_a_status_that_is_held_back_is_not_reconciled_meanwhile(
    containers: int, milliseconds: int
) -> None:
    bench = Bench().start().settle()
    writer, reconciled = bench.loop.reconcilers["pod-status"], 0
    reconcile = writer.reconcile

    def counted(*arguments: Any) -> Any:
        nonlocal reconciled
        reconciled += 1
        return reconcile(*arguments)

    writer.reconcile = counted  # type: ignore[method-assign]
    bench.world = replace(bench.world, pull_time=milliseconds * SECOND // 1000)
    bench.add(make_pod(containers=tuple(container(f"c{i}") for i in range(containers))))
    bench.run_for(10)
    assert len(bench.sent(PODS, "status")) == 1
    assert reconciled == 2, "once for the write, and once after it"


def test_kubelet_31_a_container_that_dies_is_told_at_once() -> None:
    bench = ready(make_pod())
    crash(bench)
    bench.settle()
    told = [[s.ready for s in r.body.status.container_statuses] for r in bench.sent(PODS, "status")]
    assert told == [[True], [False], [True]]


def test_kubelet_32_a_deleted_pod_is_given_up_once_and_in_order() -> None:
    bench = ready(make_pod())
    bench.delete()
    bench.run_for(5)
    assert not bench.has_pod()
    *_, last = bench.sent(PODS, "status")
    assert (
        last.body.status.phase,
        [s.state.terminated is not None for s in last.body.status.container_statuses],
    ) == ("Failed", [True])
    assert len([r for r in bench.sent(PODS) if r.verb == "delete"]) == 1
    assert bench.requests.index(last) < bench.requests.index(bench.sent(PODS)[-1])


def test_kubelet_32_a_pod_that_finalizers_hold_is_not_deleted_twice() -> None:
    bench = ready(make_pod())
    pod = bench.delete()
    assert pod is not None
    bench.refuse = lambda request: hold(bench) if request.verb == "delete" else None

    def hold(bench: Bench):  # type: ignore[no-untyped-def]
        from refk8s.core.api.request import Response

        held = bench.pod()
        return Response(
            200,
            bench.put(
                PODS,
                replace(held, metadata=replace(held.metadata, deletion_grace_period_seconds=0)),
            ),
        )

    bench.run_for(100)
    assert len([r for r in bench.sent(PODS) if r.verb == "delete"]) == 1


# --- knowing what runs ----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.booleans(), st.integers(0, 100))
def test_kubelet_40_a_restarted_agent_adopts_what_runs(
    agents: int, init: bool, seconds: int
) -> None:
    inits = (shell("i", "true"), container("s", restart_policy="Always")) if init else None
    bench = ready(make_pod(containers=(container("c"), container("d")), init_containers=inits))
    bench.run_for(seconds)
    operations, writes, running = (
        len(bench.operations),
        len(bench.sent(PODS, "status")),
        bench.world.running(),
    )
    for _ in range(agents):
        bench.start().settle()
    bench.run_for(30)
    assert {type(operation) for _, operation, _ in bench.operations[operations:]} <= {
        ListPods,
        DescribeNode,
    }
    assert len(bench.sent(PODS, "status")) == writes
    assert bench.world.running() == running


def test_kubelet_40_nothing_is_decided_before_the_runtime_was_listed() -> None:
    bench = Bench()
    bench.add(make_pod())
    minute = START + 60 * SECOND
    bench.script = lambda operation: (
        Later(minute) if isinstance(operation, ListPods) and bench.now < minute else None
    )
    bench.start().run_for(30)
    bench.add(make_pod("q"))
    bench.run_for(29)
    assert not bench.did(RunPodSandbox)
    bench.run_for(2)
    assert state(bench) == "running"
    assert bench.pod("q").status.phase == "Running"


@settings(max_examples=20, deadline=None)
@given(st.booleans())
def test_kubelet_41_what_changes_by_itself_is_seen(told: bool) -> None:
    """Even where the runtime keeps silent about it: within a minute."""
    bench = ready(make_pod())
    bench.run_for(3)
    crash(bench)
    if not told:
        bench.inbox.clear()
    bench.run_for(1 if told else 61)
    assert restarts(bench) == 1


def test_kubelet_42_pods_that_the_api_does_not_know_are_removed() -> None:
    bench = ready(make_pod(), make_pod("q"))
    bench.watches.clear()  # The kubelet receives no more changes.
    bench.delete(grace=0)
    assert kubelet_42_only_pods_of_the_api(
        Chaos.runtime_of(bench), [bench.pod("q").metadata.uid or ""]
    )
    bench.start().run_for(40)
    assert not kubelet_42_only_pods_of_the_api(
        Chaos.runtime_of(bench), [bench.pod("q").metadata.uid or ""]
    )
    assert [op.grace_period_seconds for _, op in bench.did(StopContainer)] == [1]
    assert len(bench.world.running()) == 1


def test_kubelet_43_a_container_that_cannot_start_has_ended() -> None:
    bench = ready(make_pod(containers=(scripted("c", start_error="no such file"),)))
    bench.run_for(35)
    assert [at for at, _ in bench.did(StartContainer)] == [0, 0, 10, 30]
    assert state(bench) == "CrashLoopBackOff"
    status = (bench.pod().status.container_statuses or ())[0]
    assert status.last_state.terminated is not None
    assert (status.last_state.terminated.exit_code, status.last_state.terminated.reason) == (
        128,
        "StartError",
    )


def whole_list(bench: Bench) -> int:
    """The whole runtime is to be listed; the number of this operation."""
    bench.inbox.append(RuntimeChanged())
    bench.step()
    return next(i for i, run in enumerate(bench.runs) if isinstance(run[2], ListPods))


@given(st.booleans())
def test_kubelet_44_a_pod_that_became_due_during_a_list_is_reconciled_after_it(
    replaced: bool,
) -> None:
    """A list without news makes no pod due, except one that was not changed because of it."""
    bench = Bench().start().settle()
    bench.add(make_pod())
    bench.settle()
    number = whole_list(bench)
    if replaced:
        pod = bench.pod()
        changed = replace(pod.spec.containers[0], image="example.invalid/app:2")
        bench.put(PODS, replace(pod, spec=replace(pod.spec, containers=(changed,))))
        bench.step()
    assert not bench.did(StopContainer)
    memory = bench.memory().pods[bench.pod().metadata.uid or ""]
    assert memory.has_waited is replaced
    bench.do(("run", number))
    bench.run_for(40)
    assert len(bench.did(StartContainer)) == 1 + replaced


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), max_size=60))
def test_kubelet_44_a_pod_is_not_listed_while_it_is_being_changed(order: list[int]) -> None:
    bench = Bench().start().settle()
    bench.add(make_pod(containers=(container("c"), container("d"))))

    def look() -> None:
        for memory in bench.memory().pods.values():
            assert not (memory.listing and memory.busy)

    bench.check = look
    for number in order:
        if number % 10 == 0 and bench.world.running():
            crash(bench, bench.world.running()[0].name)
        elif choices := bench.choices():
            bench.do(choices[number % len(choices)])
    bench.settle()


listed_containers = st.lists(
    st.builds(
        ContainerStatus,
        id=st.sampled_from(["1", "2"]),
        sandbox_id=st.just("s"),
        pod_uid=st.just("u"),
        name=st.sampled_from(["c", "d"]),
        attempt=st.integers(0, 1),
        state=st.sampled_from([CREATED, RUNNING, EXITED]),
        exit_code=st.integers(0, 1),
    ),
    max_size=3,
    unique_by=lambda status: (status.name, status.id),
)
listed_sandboxes = st.lists(
    st.builds(
        SandboxStatus,
        id=st.sampled_from(["s", "t"]),
        pod_uid=st.just("u"),
        namespace=st.just("default"),
        name=st.just("p"),
        attempt=st.integers(0, 1),
        ready=st.booleans(),
    ),
    max_size=2,
    unique_by=lambda status: status.id,
)


parts: list[dict[str, Any]] = [{}, {"removing": True}, {"stale": ("9",)}, {"operation": "remove"}]


@settings(max_examples=300)
@given(listed_sandboxes, listed_containers, st.booleans(), st.sampled_from(parts), st.data())
def test_kubelet_40_a_list_of_what_is_known_changes_nothing(
    sandboxes: list[SandboxStatus],
    containers: list[ContainerStatus],
    ended: bool,
    part: dict[str, Any],
    data: st.DataObject,
) -> None:
    before = after_list(PodMemory("u", "default", "p"), sandboxes, containers, START)
    before = replace(before, ended=ended, listing=True)
    held = {
        name: replace(one, **part) if name == "c" else one
        for name, one in before.containers.items()
    }
    before = replace(before, containers=held)
    if data.draw(st.booleans()):
        sandboxes, containers = data.draw(listed_sandboxes), data.draw(listed_containers)
    after = after_list(before, sandboxes, containers, START + SECOND)
    if is_as_known(before, sandboxes, containers):
        assert after == replace(before, listing=False)
        assert not has_news(before, after)


@given(st.integers(0, 7), st.booleans())
@example(7, True)
def test_kubelet_44_a_listing_of_before_is_not_believed(steps: int, reported: bool) -> None:
    """The runtime is listed, and the result arrives when a pod that came since has been made, or
    half made. `reported`: meanwhile the pod is listed alone, since the runtime reports a change."""
    bench = Bench().start().settle()
    bench.inbox.append(RuntimeChanged())
    bench.step()
    bench.do(
        (
            "run",
            next(
                i
                for i, (_, _, operation, _) in enumerate(bench.runs)
                if isinstance(operation, ListPods)
            ),
        )
    )
    late = bench.inbox.pop()
    bench.add(make_pod())
    for _ in range(steps):
        bench.do(bench.choices()[0])
    if reported:
        bench.inbox.append(RuntimeChanged((bench.pod().metadata.uid or "",)))
        bench.step()
    bench.inbox.append(late)
    bench.run_for(100)
    assert len(bench.did(RunPodSandbox)) == len(bench.did(StartContainer)) == 1
    assert restarts(bench) == 0


# --- the range of the node's pods -----------------------------------------------------------------


def ready_condition(bench: Bench) -> tuple[str, str]:
    condition = next(each for each in bench.node().status.conditions if each.type == "Ready")
    return condition.status, condition.message


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30), st.integers(0, 2))
def test_kubelet_64_the_runtime_is_configured_with_the_range_of_the_node(
    seconds: int, failures: int
) -> None:
    configured: list[str] = []
    not_before = 0

    def runtime(operation: Any) -> Any:
        if isinstance(operation, UpdateRuntimeConfig) and bench.now < not_before:
            return Later(not_before)
        if isinstance(operation, UpdateRuntimeConfig):
            configured.append(operation.pod_cidr)
            return Failed("", "in use") if len(configured) <= failures else Done()
        if isinstance(operation, DescribeNode):
            has_network = len(configured) > failures
            return replace(bench.world.node, network_error="" if has_network else "no podCIDR")
        return None

    bench = Bench()
    bench.script = runtime
    bench.start().run_for(seconds)
    assert ready_condition(bench) == ("False", "container runtime network not ready: no podCIDR")
    assert not configured
    node = bench.node()
    spec = replace(node.spec, pod_cidr="10.244.3.0/24", pod_cidrs=("10.244.3.0/24",))
    bench.put(NODES, replace(node, spec=spec))
    bench.settle()
    assert configured == ["10.244.3.0/24"]
    bench.run_for(10 * failures + 1)
    assert configured == ["10.244.3.0/24"] * (1 + failures)
    assert ready_condition(bench)[0] == "True"
    # a restarted kubelet configures the runtime again, and its Node stays ready meanwhile
    writes = len(bench.sent(NODES, "status"))
    configured.clear()
    failures = 0
    not_before = bench.now + SECOND
    bench.start().run_for(30)
    assert configured == ["10.244.3.0/24"]
    assert all(
        condition.status == "True"
        for request in bench.sent(NODES, "status")[writes:]
        for condition in request.body.status.conditions
        if condition.type == "Ready"
    )
