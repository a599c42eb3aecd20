"""The runtime's adapter: labels, adoption, repetition, addresses, removal. Rules RT-1, RT-2, RT-3,
RT-5, RT-8, RT-9, RT-12, RT-13."""

import copy
import os
import subprocess
import sys
import tempfile
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rt_engine import PretendEngine

from refk8s.adapters.docker.engine import labels, network
from refk8s.adapters.docker.engine.client import Refused
from refk8s.adapters.docker.engine.images import split_reference
from refk8s.adapters.docker.engine.network import Addresses, NoAddress
from refk8s.adapters.docker.engine.pause_image import pause_program
from refk8s.adapters.docker.operations import Operations
from refk8s.adapters.linux.abilities import (
    CAPABILITIES,
    Abilities,
    look_at_oom_floor,
    missing_capabilities,
)
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.ports import (
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    Done,
    Failed,
    ListPods,
    Operation,
    PodsListed,
    RemoveContainer,
    RemovePodSandbox,
    Resources,
    RunPodSandbox,
    SandboxConfig,
    SandboxStarted,
    StartContainer,
    StopPodSandbox,
    UpdateContainerResources,
    UpdateRuntimeConfig,
    WriteVolume,
)
from refk8s.core.value import evolve

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
UIDS = st.uuids(version=4).map(str)
IMAGE = "busybox:1"
CLUSTER, OTHER = "11111111-aaaa", "22222222-bbbb"


def operations(
    engine: PretendEngine, cluster: str = CLUSTER, data: Path | None = None
) -> Operations:
    """An agent as it starts: it remembers nothing."""
    made = Operations(
        cluster,
        data or Path(tempfile.gettempdir()) / "refk8s-test-nowhere",
        "node",
        "192.0.2.1",
        engine,
    )  # type: ignore[arg-type]
    made.network.configure("10.244.0.0/24")
    made.network.let_pods_reach_themselves = lambda: None  # type: ignore[method-assign]  # the pretended bridge has no ports
    return made


def make_engine() -> PretendEngine:
    engine = PretendEngine()
    engine.images[IMAGE] = {"Id": "sha256:1", "Size": 1}
    return engine


# --- labels ---------------------------------------------------------------------------------------


@given(
    st.builds(
        ContainerConfig,
        pod_uid=UIDS, namespace=NAMES, pod_name=NAMES, name=NAMES, image=st.text(min_size=1, max_size=20), attempt=st.integers(0, 10**6),
        init=st.booleans(), spec_hash=st.text("0123456789abcdef", max_size=16),
    ),
    UIDS,
)  # fmt: skip
def test_rt_1_what_was_asked_for_is_read_back_from_the_labels(
    config: ContainerConfig, sandbox: str
) -> None:
    # Shows RT-1.c.
    inspected = {
        "Id": "c1", "Image": "sha256:1", "Created": "2026-01-01T00:00:00.5Z",
        "State": {"Status": "exited", "ExitCode": 3, "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "2026-01-01T00:00:02.000001Z"},
        "Config": {"Labels": labels.container_labels(CLUSTER, sandbox, config)},
    }  # fmt: skip
    status = labels.container_status(inspected)
    told = (
        status.pod_uid,
        status.name,
        status.attempt,
        status.init,
        status.spec_hash,
        status.image,
        status.sandbox_id,
    )
    assert told == (
        config.pod_uid,
        config.name,
        config.attempt,
        config.init,
        config.spec_hash,
        config.image,
        sandbox,
    )
    assert (status.state, status.exit_code) == (EXITED, 3)
    assert (
        status.finished_at - status.started_at == 1_000_001
        and status.started_at - status.created_at == 500_000
    )


SANDBOXES = st.builds(
    SandboxConfig, pod_uid=UIDS, namespace=NAMES, name=NAMES, attempt=st.integers(0, 99)
)


@given(SANDBOXES, st.sampled_from(sorted(labels.STATES)))
def test_rt_1_a_sandbox_is_read_back_and_has_an_address_only_while_it_runs(
    config: SandboxConfig, state: str
) -> None:
    # Shows RT-1.c.
    status = labels.sandbox_status(
        "s1", labels.sandbox_labels(CLUSTER, config), state, ("10.244.0.9",), 5
    )
    told = (status.pod_uid, status.namespace, status.name, status.attempt)
    assert told == (config.pod_uid, config.namespace, config.name, config.attempt)
    assert bool(status.ips) == status.ready == (labels.STATES[state] == RUNNING)


@given(
    st.lists(
        st.tuples(NAMES, NAMES, NAMES, UIDS, st.integers(0, 9)), unique=True, min_size=2, max_size=6
    )
)
def test_rt_1_no_two_containers_have_one_name(found: list[tuple[str, str, str, str, int]]) -> None:
    configs = [
        ContainerConfig(uid, namespace, pod, name, IMAGE, attempt)
        for name, pod, namespace, uid, attempt in found
    ]
    sandboxes = {
        labels.sandbox_name(SandboxConfig(c.pod_uid, c.namespace, c.pod_name, c.attempt))
        for c in configs
    }
    names = {labels.container_name(c) for c in configs}
    assert len(names) == len(
        {(c.name, c.pod_uid, c.attempt, c.namespace, c.pod_name) for c in configs}
    )
    assert not names & sandboxes


# --- lives of an agent ----------------------------------------------------------------------------

UID = "00000000-0000-4000-8000-00000000000"
ACTIONS = st.sampled_from(
    [
        "up",
        "up",
        "sandbox",
        "create",
        "start",
        "start",
        "stop",
        "remove",
        "remove container",
        "end",
        "end unheard",
        "crash",
        "list",
    ]
)


def act(
    agent: Operations, engine: PretendEngine, action: str, pod: int, attempt: int
) -> tuple[Operation | None, Any]:
    """One thing that a kubelet asks for; the operation and its result."""
    uid = f"{UID}{pod}"
    sandbox_config = SandboxConfig(uid, "default", f"pod-{pod}", attempt)
    name = labels.sandbox_name(sandbox_config)
    sandbox = next((c["Id"] for c in engine.containers.values() if c["Name"] == name), "gone")
    config = ContainerConfig(uid, "default", f"pod-{pod}", "main", IMAGE, attempt)
    container = next(
        (c["Id"] for c in engine.containers.values() if c["Name"] == labels.container_name(config)),
        "gone",
    )
    asked: Operation | None = None
    if action == "up":
        for step in ("sandbox", "create"):
            act(agent, engine, step, pod, attempt)
        action = "start"
        container = next(
            (
                c["Id"]
                for c in engine.containers.values()
                if c["Name"] == labels.container_name(config)
            ),
            "gone",
        )
    match action:
        case "sandbox":
            asked = RunPodSandbox(sandbox_config)
        case "create":
            asked = CreateContainer(sandbox, config)
        case "start":
            asked = StartContainer(uid, container)
        case "stop":
            asked = StopPodSandbox(uid, sandbox)
        case "remove":
            asked = RemovePodSandbox(uid, sandbox)
        case "remove container":
            asked = RemoveContainer(uid, container)
        case "end" | "end unheard":
            if container != "gone":
                engine.end(container, 1)
                if action == "end":
                    agent.listing.forget(container)  # as the engine's events make it
            return None, None
    return asked, agent.carry_out(asked) if asked is not None else None


LIVES = st.lists(st.tuples(ACTIONS, st.integers(1, 2), st.integers(0, 1)), max_size=25)


@given(LIVES)
@settings(max_examples=150)
def test_rt_2_a_listing_tells_everything_of_ours_after_any_life_and_nothing_else(
    life: list[tuple[str, int, int]],
) -> None:
    # Shows RT-1.c RT-2.a.
    engine = make_engine()
    stranger = operations(engine, OTHER)
    stranger.carry_out(RunPodSandbox(SandboxConfig("f" * 8, "default", "foreign")))
    agent = operations(engine)
    for action, pod, attempt in life:
        if action == "crash":
            agent = operations(engine)
        act(agent, engine, action, pod, attempt)
        told = agent.carry_out(ListPods())
        afresh = operations(engine).carry_out(ListPods())
        assert told == afresh, "what an agent has seen makes no difference to what it tells"
        assert isinstance(told, PodsListed)
        ours = {
            id
            for id, c in engine.containers.items()
            if c["Config"]["Labels"][labels.CLUSTER] == CLUSTER
        }
        assert {status.id for status in (*told.sandboxes, *told.containers)} == ours
        for status in told.containers:
            assert status.state == labels.STATES[engine.one(status.id)["State"]["Status"]]
        for uid in sorted({status.pod_uid for status in told.sandboxes}):
            some = agent.carry_out(ListPods((uid,)))
            assert isinstance(some, PodsListed)
            assert some.sandboxes == tuple([s for s in told.sandboxes if s.pod_uid == uid])
            assert some.containers == tuple([c for c in told.containers if c.pod_uid == uid])


@given(LIVES)
@settings(max_examples=150)
def test_rt_3_an_operation_that_is_repeated_after_a_crash_changes_nothing_more(
    life: list[tuple[str, int, int]],
) -> None:
    # Shows RT-3.a RT-3.b.
    engine = make_engine()
    agent = operations(engine)
    for action, pod, attempt in life:
        asked, first = act(agent, engine, action, pod, attempt)
        if asked is None:
            continue
        before = copy.deepcopy(engine.snapshot())
        agent = operations(engine)
        again = agent.carry_out(asked)
        assert engine.snapshot() == before, f"{asked} twice is not {asked} once"
        assert type(again) is type(first), f"{asked}: first {first}, then {again}"
        if isinstance(first, (SandboxStarted, ContainerCreated)):
            assert again == first
    assert len(engine.starts) == len(set(engine.starts)), "a container was started twice"


def test_rt_3_a_sandbox_that_is_just_being_started_is_stopped() -> None:
    """Seen on a real engine: the process was killed after it had asked for the start. The next one
    found the sandbox created, did not stop it and ran another, so that the pod had two."""
    # Shows RT-3.c.
    engine = make_engine()
    config = SandboxConfig(f"{UID}1", "default", "a")
    started = operations(engine).carry_out(RunPodSandbox(config))
    assert isinstance(started, SandboxStarted)
    id = started.status.id
    engine.one(id)["State"]["Status"] = "created"
    engine.starting.add(id)
    agent = operations(engine)
    assert agent.carry_out(StopPodSandbox(config.pod_uid, id)) == Done()
    assert isinstance(agent.carry_out(RunPodSandbox(evolve(config, attempt=1))), SandboxStarted)
    engine.end_starts()
    running = [c["Id"] for c in engine.containers.values() if c["State"]["Status"] == "running"]
    assert len(running) == 1 and id not in running


@given(LIVES)
@settings(max_examples=100)
def test_rt_8_what_is_taken_down_leaves_nothing_and_touches_no_stranger(
    life: list[tuple[str, int, int]],
) -> None:
    # Shows RT-8.a RT-8.c.
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        engine = make_engine()
        stranger = operations(engine, OTHER)
        stranger.carry_out(RunPodSandbox(SandboxConfig("f" * 8, "default", "foreign")))
        foreign = dict(engine.snapshot())
        agent = operations(engine, data=data)
        for action, pod, attempt in life:
            agent.carry_out(WriteVolume(f"{UID}{pod}", "data", {"key": b"value"}))
            asked, result = act(agent, engine, action, pod, attempt)
            if isinstance(asked, RemovePodSandbox):
                assert result == Done()
                left = [
                    c
                    for c in engine.containers.values()
                    if c["Config"]["Labels"].get(labels.POD_UID) == asked.pod_uid
                ]
                assert all(
                    c["Config"]["Labels"].get(labels.SANDBOX) != asked.sandbox_id
                    and c["Id"] != asked.sandbox_id
                    for c in left
                )
                alone = not any(
                    c["Config"]["Labels"][labels.TYPE] == labels.IS_SANDBOX for c in left
                )
                assert (data / "pods" / asked.pod_uid).exists() is not alone, (
                    "the volumes go with the last sandbox, and not before"
                )
        operations(engine, data=data).remove_everything(1)
        assert engine.snapshot() == foreign
        assert list(engine.networks) == [f"refk8s-{OTHER[:8]}"]
        assert list(data.iterdir()) == []


# --- the words of an end --------------------------------------------------------------------------


LINES = st.lists(st.binary(max_size=60).map(lambda line: line.replace(b"\n", b"")), max_size=100)


@given(st.one_of(st.just(b""), st.binary(max_size=6000)), LINES, st.booleans(), st.integers(0, 2))
@example(b"x" * 4097, [], False, 1)
@example(b"", [b"%060d" % number for number in range(100)], True, 1)
@settings(max_examples=60)
def test_rt_16_the_message_is_what_was_written_or_the_end_of_the_log(
    written: bytes, log: list[bytes], from_log: bool, code: int
) -> None:
    # Shows RT-16.a RT-16.b.
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine()
        agent = operations(engine, data=Path(folder))
        agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
        [sandbox] = engine.containers
        config = ContainerConfig(
            UID,
            "default",
            "pod",
            "main",
            IMAGE,
            termination_message_path="/dev/end",
            termination_message_from_log=from_log,
        )
        made = agent.carry_out(CreateContainer(sandbox, config))
        assert isinstance(made, ContainerCreated)
        agent.carry_out(StartContainer(UID, made.status.id))
        [mount] = engine.one(made.status.id)["HostConfig"]["Mounts"]
        assert mount["Target"] == "/dev/end" and Path(mount["Source"]).read_bytes() == b""
        Path(mount["Source"]).write_bytes(written)
        engine.one(made.status.id)["Log"] = b"\n".join(log)
        engine.end(made.status.id, code)
        told = operations(engine, data=Path(folder)).carry_out(ListPods())
        assert isinstance(told, PodsListed)
        expected = written[:4096] or (b"\n".join(log[-80:])[-2048:] if from_log and code else b"")
        assert told.containers[0].message == expected.decode("utf-8", "replace")


# --- addresses ------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 14), max_size=120),
    st.sampled_from(["10.244.0.0/28", "10.244.7.16/28", "192.168.5.8/29"]),
)
def test_rt_5_an_address_that_became_free_is_the_last_to_be_given_again(
    steps: list[int], cidr: str
) -> None:
    # Shows RT-5.a RT-5.b.
    addresses = Addresses(cidr)
    count = (16 if cidr.endswith("28") else 8) - 3
    owners: dict[str, str] = {}
    rested: list[str] = []  # free again, by the moment they became free
    for step in steps:
        owner = f"pod-{step}"
        if owner in owners:
            addresses.free(owner)
            rested.append(owners.pop(owner))
            continue
        try:
            given_now = addresses.take(owner)
        except NoAddress:
            assert len(owners) == count
            continue
        assert given_now not in owners.values(), "two have one address"
        if given_now in rested:
            assert count == len(owners) + len(rested), "one that was never given was there"
            assert rested.pop(0) == given_now, "another had been free for longer"
        owners[owner] = given_now
    assert all(ip_address(address) in ip_network(cidr) for address in owners.values())


@given(st.sets(st.integers(2, 14), max_size=12))
def test_rt_5_addresses_found_in_use_are_not_given(held: set[int]) -> None:
    # Shows RT-5.a.
    addresses = Addresses(
        "10.244.0.0/28", {f"10.244.0.{number}": f"old-{number}" for number in sorted(held)}
    )
    given_now = {addresses.take(f"new-{n}") for n in range(13 - len(held))}
    assert given_now == {f"10.244.0.{n}" for n in range(2, 15) if n not in held}


# --- what the machine cannot give -----------------------------------------------------------------


@given(st.sets(st.sampled_from(CAPABILITIES)), st.integers(36, 40))
def test_rt_9_what_an_engine_lacks_is_read_from_its_process(missing: set[str], last: int) -> None:
    bounds = sum(
        1 << number
        for number, name in enumerate(CAPABILITIES)
        if number <= last and name not in missing
    )
    status = f"Name:\tdockerd\nCapEff:\t{bounds:016x}\nCapBnd:\t{bounds:016x}\nSeccomp:\t0\n"
    assert missing_capabilities(status, last) == frozenset(missing) & frozenset(
        CAPABILITIES[: last + 1]
    )


@given(st.integers(-1000, 1000), st.sampled_from([-1000, 0, 200]))
def test_rt_46_an_engine_without_the_right_gives_no_score_below_its_own(
    wanted: int, floor: int
) -> None:
    # Shows RT-46.a RT-46.b.
    assert Abilities(frozenset(), floor).oom_score_adj(wanted) == max(wanted, floor)


def test_rt_46_the_lowest_score_is_what_this_process_can_give() -> None:
    """Against the kernel: what the engine of this machine could do, this process can do."""
    # Shows RT-46.b RT-46.c.
    floor = look_at_oom_floor(os.getpid())
    assert look_at_oom_floor(0) == look_at_oom_floor(1 << 30) == 0
    tried = "for n in -1 0; do (echo $n > /proc/self/oom_score_adj) 2>/dev/null && echo $n; done"
    told = subprocess.run(
        ["sh", "-c", tried], capture_output=True, text=True, check=False
    ).stdout.split()
    assert ("-1" in told) == (floor == -1000) or int(Path("/proc/self/oom_score_adj").read_text())
    within = "from refk8s.adapters.linux.abilities import look_at_oom_floor as f; import os; print(f(os.getpid()))"
    made = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", within],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" not in made.stderr:
        assert int(made.stdout) >= 0, "in a user namespace the capability is worth nothing"


WANTED = st.lists(st.sampled_from(["ALL", "CAP_CHOWN", *CAPABILITIES]), max_size=5)


@given(st.sets(st.sampled_from(CAPABILITIES)), WANTED, st.integers(1, 3))
def test_rt_9_what_cannot_be_given_is_left_out_and_said_once(
    missing: set[str], wanted: list[str], times: int
) -> None:
    # Shows RT-9.a RT-9.b.
    abilities = Abilities(frozenset(missing))
    said: list[str] = []
    abilities.warn_once = WarnOnce(said.append)
    for _ in range(times):
        add, drop = abilities.grantable(tuple(wanted))
        if "ALL" in wanted:
            assert (add, drop) == (["ALL"], sorted(missing))
        else:
            assert (add, drop) == (
                [
                    name.removeprefix("CAP_")
                    for name in wanted
                    if name.removeprefix("CAP_") not in missing
                ],
                [],
            )
    lacking = (
        missing & {name.removeprefix("CAP_") for name in wanted} if "ALL" not in wanted else missing
    )
    assert len(said) == bool(lacking)


# --- images ---------------------------------------------------------------------------------------


def test_rt_3_names_of_images_are_taken_apart() -> None:
    assert split_reference("nginx") == ("nginx", "latest")
    assert split_reference("nginx:1.27") == ("nginx", "1.27")
    assert split_reference("localhost:5000/a/b") == ("localhost:5000/a/b", "latest")
    assert split_reference("localhost:5000/a/b:2") == ("localhost:5000/a/b", "2")
    assert split_reference("a/b:2@sha256:00ff") == ("a/b", "sha256:00ff")


def test_rt_3_the_pause_program_is_small_and_the_same_every_time() -> None:
    for machine in ("x86_64", "aarch64"):
        program = pause_program(machine)
        assert (
            program == pause_program(machine) and len(program) < 200 and program[:4] == b"\x7fELF"
        )


def test_rt_3_a_container_without_its_sandbox_is_refused() -> None:
    agent = operations(make_engine())
    refused = agent.carry_out(
        CreateContainer("nobody", ContainerConfig("u", "default", "p", "main", IMAGE))
    )
    assert isinstance(refused, Failed) and "does not run" in refused.message


@given(st.booleans(), st.booleans())
@settings(max_examples=4)
def test_rt_14_the_engine_is_told_whether_stdin_ends_with_its_first_client(
    stdin: bool, once: bool
) -> None:
    engine = make_engine()
    agent = operations(engine)
    agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
    [sandbox] = engine.containers
    config = ContainerConfig(UID, "default", "pod", "main", IMAGE, stdin=stdin, stdin_once=once)
    made = agent.carry_out(CreateContainer(sandbox, config))
    assert isinstance(made, ContainerCreated)
    body = engine.one(made.status.id)["Config"]
    assert (body["OpenStdin"], body["StdinOnce"]) == (stdin, once)


# --- the pods' network ----------------------------------------------------------------------------


def test_rt_36_the_network_has_the_range_that_was_configured():
    engine = PretendEngine()
    made = operations(engine)
    assert engine.networks[made.network.name]["IPAM"]["Config"][0]["Subnet"] == "10.244.0.0/24"
    assert made.carry_out(UpdateRuntimeConfig("10.244.7.0/24")) == Done()
    assert engine.networks[made.network.name]["IPAM"]["Config"][0]["Subnet"] == "10.244.7.0/24"
    assert made.network.take("a") == "10.244.7.2"
    engine.containers["id"] = {
        "Id": "id",
        "Name": "a",
        "State": {"Status": "running"},
        "NetworkSettings": {"Networks": {made.network.name: {"IPAddress": "10.244.7.2"}}},
    }
    result = made.carry_out(UpdateRuntimeConfig("10.244.8.0/24"))
    assert isinstance(result, Failed) and "has containers" in result.message
    assert made.network.take("b") == "10.244.7.3"


def test_rt_36_operations_wait_for_the_range(monkeypatch):
    monkeypatch.setattr(network, "CONFIGURE_SECONDS_MAX", 0.02)
    fresh = network.Network(PretendEngine(), "12345678-cluster")
    assert fresh.problem() == network.NO_RANGE
    with pytest.raises(Refused, match="no podCIDR"):
        fresh.take("a")
    monkeypatch.setattr(network, "CONFIGURE_SECONDS_MAX", 30)
    taken: list[str] = []
    waiting = threading.Thread(target=lambda: taken.append(fresh.take("a")))
    waiting.start()
    fresh.configure("10.244.3.0/24")
    waiting.join(30)
    assert taken == ["10.244.3.2"] and not fresh.problem()


def test_resize_4_a_running_container_gets_other_limits():
    engine = make_engine()
    made = operations(engine)
    config = ContainerConfig(pod_uid="uid", namespace="n", pod_name="p", name="c", image=IMAGE)
    body = {
        "Image": IMAGE,
        "Labels": labels.container_labels(CLUSTER, "s", config),
        "HostConfig": {},
    }
    id = engine.call("create_container_from_config", body, name="c")["Id"]
    more = UpdateContainerResources("uid", id, Resources(500, 1 << 30, 250))
    assert made.carry_out(more) == Failed("", "the container does not run")
    engine.call("start", id)
    assert made.carry_out(more) == Done()
    assert engine.one(id)["Limits"] == {
        "cpu_shares": 256, "cpu_period": 100_000, "cpu_quota": 50_000,
        "mem_limit": 1 << 30, "memswap_limit": 1 << 30,
    }  # fmt: skip
    strange = UpdateContainerResources("other", id, Resources(1, 1, 1))
    assert made.carry_out(strange) == Failed("", "the container does not run")


class Interrupted(Exception):
    """The process ends here."""


@given(
    st.dictionaries(st.sampled_from("abc"), st.binary(max_size=20)),
    st.integers(0, 3),
    st.sampled_from(["inspect_image", "create_container_from_config", "put_archive"]),
)
@settings(max_examples=60)
def test_rt_40_an_image_volume_has_the_files_of_the_image_wherever_a_copy_was_interrupted(
    files: dict[str, bytes], interruptions: int, where: str
) -> None:
    # Shows RT-40.a RT-40.c.
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine()
        engine.images["sha256:9"] = {"Id": "sha256:9", "Size": 1, "Files": files}
        asked = WriteVolume(f"{UID}0", "v", image_id="sha256:9")
        call = engine.call

        def interrupted(method: str, *arguments: Any, **more: Any) -> Any:
            if method == where:
                if method == "put_archive":  # A part of the copy is there.
                    mount = engine.one(arguments[0])["HostConfig"]["Mounts"][0]
                    Path(mount["Source"], "part").write_bytes(b"")
                engine.call = call  # type: ignore[method-assign]
                raise Interrupted
            return call(method, *arguments, **more)

        for _ in range(interruptions):
            engine.call = interrupted  # type: ignore[method-assign]
            with pytest.raises(Interrupted):
                operations(engine, data=Path(folder)).carry_out(asked)
        agent = operations(engine, data=Path(folder))
        for _ in range(2):
            assert agent.carry_out(asked) == Done()
            place = agent.volumes.path(f"{UID}0", "v")
            assert {one.name: one.read_bytes() for one in place.iterdir()} == files
        assert agent.carry_out(ListPods()) == PodsListed((), ())
        assert not engine.containers


def test_rt_40_an_image_that_is_gone_or_too_large_is_refused() -> None:
    # Shows RT-40.d.
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine()
        agent = operations(engine, data=Path(folder))
        asked = WriteVolume(f"{UID}0", "v", image_id="sha256:9")
        assert isinstance(agent.carry_out(asked), Failed)
        for size, result in (((4 << 30) + 1, Failed), (4 << 30, Done)):
            engine.images["sha256:9"] = {"Id": "sha256:9", "Size": size}
            assert isinstance(agent.carry_out(asked), result)


def test_rt_40_the_containers_of_a_copy_are_in_no_list_and_are_removed_with_the_pod() -> None:
    # Shows RT-40.c.
    engine = make_engine()
    agent = operations(engine)
    started = agent.carry_out(RunPodSandbox(SandboxConfig(f"{UID}0", "default", "p")))
    assert isinstance(started, SandboxStarted)
    its = {labels.CLUSTER: CLUSTER, labels.TYPE: labels.IS_COPY, labels.POD_UID: f"{UID}0"}
    body = {"Image": IMAGE, "Labels": its, "HostConfig": {"NetworkMode": "none"}}
    engine.call("create_container_from_config", body, name="copy")
    assert agent.carry_out(ListPods()).containers == ()  # type: ignore[union-attr]
    agent.carry_out(RemovePodSandbox(f"{UID}0", started.status.id))
    assert not engine.containers
