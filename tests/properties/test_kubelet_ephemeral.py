"""Ephemeral containers at the kubelet. Rules KUBELET-100, KUBELET-101 (spec/kubelet.md)."""

import json
from typing import Any

import pytest
from api_world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from kubelet_bench import Bench, make_pod
from msgspec.structs import replace
from rt_engine import PretendEngine
from test_rt import CLUSTER, make_engine, operations

from refk8s.adapters.docker.engine.labels import container_labels
from refk8s.adapters.fake.faults import crash_container
from refk8s.core.api.core_v1 import Container, ContainerStatus, EphemeralContainer, Pod
from refk8s.core.api.resources import PODS
from refk8s.core.pods.containers import as_container, field_path, find_container
from refk8s.core.ports import ContainerConfig, CreateContainer, Failed, StartContainer


def debugger(name: str = "debugger", **more: Any) -> EphemeralContainer:
    return EphemeralContainer(
        name=name, image="busybox:1", image_pull_policy="IfNotPresent", **more
    )


def debug(bench: Bench, *containers: EphemeralContainer) -> None:
    pod = bench.pod()
    bench.put(PODS, replace(pod, spec=replace(pod.spec, ephemeral_containers=containers)))


def status_of(bench: Bench, name: str = "debugger") -> ContainerStatus:
    [found] = [
        one for one in bench.pod().status.ephemeral_container_statuses or () if one.name == name
    ]
    return found


def crash(bench: Bench, name: str, code: int = 0) -> None:
    [id] = [
        each.status.id
        for each in bench.world.containers.values()
        if each.status.name == name and each.status.state == "running"
    ]
    bench.disturb(lambda world, now: crash_container(world, id, code, now))


def started(bench: Bench) -> list[str]:
    names = {each.status.id: each.status.name for each in bench.world.containers.values()}
    return [names.get(one.container_id, "") for _, one in bench.did(StartContainer)]


@given(st.sampled_from(["Always", "OnFailure", "Never"]), st.sampled_from([0, 1]))
@settings(max_examples=6)
def test_kubelet_100_an_ephemeral_container_runs_once_and_the_pod_is_as_before(
    policy: str, code: int
) -> None:
    # Shows KUBELET-100.b, KUBELET-100.c, KUBELET-100.e.
    bench = Bench().start()
    bench.add(make_pod(restart_policy=policy))
    bench.run_for(10)
    conditions = bench.pod().status.conditions
    debug(bench, debugger())
    bench.run_for(10)
    status = status_of(bench)
    assert status.state.running is not None and not status.ready and status.started is None
    crash(bench, "debugger", code)
    bench.run_for(700)
    ended = status_of(bench).state.terminated
    assert ended is not None and ended.exit_code == code
    assert started(bench) == ["c", "debugger"]
    assert bench.pod().status.phase == "Running"
    assert bench.pod().status.conditions == conditions


def test_kubelet_100_it_starts_while_an_init_container_runs() -> None:
    # Shows KUBELET-100.a.
    init = Container(name="init", image="example.invalid/app:1", image_pull_policy="IfNotPresent")
    bench = Bench().start()
    bench.add(make_pod(init_containers=(init,), containers=(Container(name="c", image="a"),)))
    for _ in range(200):
        if any(each.status.name == "init" for each in bench.world.containers.values()):
            break
        bench.run_for(0.05)
    debug(bench, debugger())
    bench.run_for(5)
    assert "debugger" in started(bench)


def test_kubelet_100_a_pod_ends_although_an_ephemeral_container_runs() -> None:
    # Shows KUBELET-100.d.
    bench = Bench().start()
    bench.add(make_pod(restart_policy="Never"))
    bench.run_for(10)
    debug(bench, debugger())
    bench.run_for(10)
    crash(bench, "c")
    bench.run_for(60)
    assert bench.pod().status.phase == "Succeeded"
    assert status_of(bench).state.terminated is not None
    assert not [one for one in bench.world.containers.values() if one.status.state == "running"]


def test_kubelet_100_it_is_removed_with_its_pod() -> None:
    bench = Bench().start()
    bench.add(make_pod())
    bench.run_for(10)
    debug(bench, debugger(), debugger("second"))
    bench.run_for(10)
    assert started(bench)[-2:] == ["debugger", "second"]
    bench.delete()
    bench.run_for(120)
    assert not bench.has_pod() and not bench.world.containers


def test_kubelet_101_it_joins_the_processes_of_a_running_container() -> None:
    # Shows KUBELET-101.a, KUBELET-101.c.
    for host_pid in (False, True):
        bench = Bench().start()
        bench.add(make_pod(host_pid=host_pid))
        bench.run_for(10)
        debug(bench, debugger(target_container_name="c"), debugger("alone"))
        bench.run_for(10)
        by_name = {each.status.name: each for each in bench.world.containers.values()}
        target = "" if host_pid else by_name["c"].status.id
        assert by_name["debugger"].config.target_id == target
        assert by_name["alone"].config.target_id == by_name["c"].config.target_id == ""


def test_kubelet_101_it_waits_for_a_target_that_does_not_run() -> None:
    # Shows KUBELET-101.b.
    bench = Bench().start()
    bench.add(make_pod())
    bench.run_for(10)
    crash(bench, "c", 1)
    bench.run_for(2)
    for _ in range(3):  # until the restart is delayed by a back-off
        if [one for one in bench.world.containers.values() if one.status.state == "running"]:
            crash(bench, "c", 1)
        bench.run_for(2)
    debug(bench, debugger(target_container_name="c"))
    bench.run_for(3)
    waiting = status_of(bench).state.waiting
    assert waiting is not None and waiting.reason == "CreateContainerConfigError"
    assert waiting.message == 'the target container "c" does not run'
    bench.run_for(120)
    assert status_of(bench).state.running is not None


@pytest.mark.parametrize("cluster, uid, is_allowed", [
    (CLUSTER, "u", True), (CLUSTER, "other", False), ("another", "u", False),
])  # fmt: skip
def test_kubelet_101_docker_joins_only_containers_of_the_same_pod(
    cluster: str, uid: str, is_allowed: bool
) -> None:
    # Shows KUBELET-101.d.
    engine: PretendEngine = make_engine()
    agent = operations(engine)
    engine.images["image"] = {"Id": "sha256:1"}
    ids = {}
    for name, owner in (("sandbox", "u"), ("victim", uid)):
        config = ContainerConfig(owner, "default", "p", name, "image")
        body = {
            "Image": "image",
            "Labels": container_labels(cluster if name == "victim" else CLUSTER, "s", config),
            "HostConfig": {"IpcMode": ""},
        }
        ids[name] = engine.call("create_container_from_config", body, name=name)["Id"]
        engine.one(ids[name])["State"]["Status"] = "running"
        engine.one(ids[name])["HostConfig"]["IpcMode"] = ""
    config = ContainerConfig("u", "default", "p", "debugger", "image", target_id=ids["victim"])
    result = agent.containers.create(CreateContainer(ids["sandbox"], config))
    if is_allowed:
        made = engine.one(result.status.id)  # type: ignore[union-attr]
        assert made["HostConfig"]["PidMode"] == f"container:{ids['victim']}"
    else:
        assert isinstance(result, Failed) and "target container is gone" in result.message


def test_kubelet_100_the_kinds_of_containers_share_their_fields() -> None:
    one = debugger(stdin=True, tty=True, command=("sh",))
    found = as_container(one)
    assert (found.name, found.image, found.stdin, found.tty) == (
        "debugger",
        "busybox:1",
        True,
        True,
    )
    pod: Pod = make_pod()
    spec = replace(pod.spec, ephemeral_containers=(one,))
    assert find_container(spec, "debugger") == found and find_container(spec, "x") is None
    assert field_path(spec, "debugger") == "spec.ephemeralContainers{debugger}"
    assert field_path(spec, "c") == "spec.containers{c}"


@pytest.mark.parametrize("path", ["/a", "/a/status", "/a/resize", "/a/ephemeralcontainers"])
def test_val_17_ephemeral_containers_are_added_through_their_own_path_only(path: str) -> None:
    """A user who may only update pods cannot start a container in another user's pod."""
    world = World()
    pods = "/api/v1/namespaces/default/pods"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    world.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    assert world.http("POST", pods, body).code == 201
    found = json.loads(world.http("GET", f"{pods}/a").content)
    found["spec"]["ephemeralContainers"] = [{"name": "d", "image": "i", "targetContainerName": "c"}]
    reply = world.http("PUT", pods + path, found)
    after = json.loads(world.http("GET", f"{pods}/a").content)
    names = [one["name"] for one in after["spec"].get("ephemeralContainers", ())]
    if path == "/a":
        assert reply.code == 422 and b"pod updates may not change fields" in reply.content
    assert names == (["d"] if path.endswith("ephemeralcontainers") else [])
    if names:  # they are neither changed nor removed
        for changed in ([], [{**found["spec"]["ephemeralContainers"][0], "image": "other"}]):
            after["spec"]["ephemeralContainers"] = changed
            assert world.http("PUT", pods + path, after).code == 422
