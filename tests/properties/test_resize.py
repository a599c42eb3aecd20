"""In-place resize (spec/resize.md, RESIZE-1 to RESIZE-6)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from test_quota import MERGE_PATCH as MERGE
from test_quota import PODS, Namespaced, a_container, a_pod, made
from workload_helpers import NOW

from refk8s.adapters.fake.course import Scene, compute_command
from refk8s.checking.simulator.scenario import creation
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.core.actions import Submit
from refk8s.core.api.core_v1 import Pod, PodCondition
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.kubelet.memory import STOP, UPDATE, ContainerMemory, PodMemory
from refk8s.core.kubelet.resize import conditions
from refk8s.core.kubelet.results import after_result
from refk8s.core.pods.resize import limits_in_use, requests_in_use
from refk8s.core.ports import ContainerConfig, Done, Failed, Resources, UpdateContainerResources
from refk8s.core.ports import ContainerStatus as RuntimeStatus
from refk8s.core.quota.usage import usage_of
from refk8s.core.scheduler.needs import needs_of

STRATEGIC = "application/strategic-merge-patch+json"


class Resized(Namespaced):
    def resize(self, *containers: dict[str, Any], name: str = "p", **more: Any) -> Any:
        body = {"spec": {"containers": list(containers), **more}}
        headers = {"content-type": STRATEGIC}
        return self.send("PATCH", f"pods/{name}/resize", body, **headers)

    def containers(self) -> Any:
        return self.get(PODS, "p").spec.containers


def sized(cpu: str, memory: str = "64Mi", limits: dict[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"requests": {"cpu": cpu, "memory": memory}}
    return {**found, "limits": limits} if limits else found


def messages(answer: Any) -> list[tuple[str, str]]:
    return [
        (cause.get("field", ""), cause["message"].partition(": ")[2])
        for cause in answer["details"]["causes"]
    ]


# --- the subresource


def test_resize_1_only_resources_of_existing_containers_change():
    world = Resized()
    assert world.post("pods", a_pod("p", a_container("c", **sized("100m")))) == ""
    bigger = {"name": "c", "image": "other:1", "resources": sized("200m")}
    code, answer = world.resize(bigger, {"name": "d", "image": "i:1"}, activeDeadlineSeconds=5)
    assert code == 200, answer
    pod = world.get(PODS, "p")
    assert [(one.name, one.image) for one in pod.spec.containers] == [("c", "i:1")]
    assert pod.spec.containers[0].resources.requests["cpu"] == "200m"
    assert pod.spec.active_deadline_seconds is None and pod.metadata.generation == 2


def test_resize_1_the_main_resource_rejects_changed_resources():
    world = Resized()
    assert world.post("pods", a_pod("p", a_container("c", **sized("100m")))) == ""
    body = {"spec": {"containers": [{"name": "c", "resources": sized("200m")}]}}
    code, _ = world.send("PATCH", "pods/p", body, **{"content-type": STRATEGIC})
    assert code == 422


def test_resize_1_limit_ranges_and_quotas_apply():
    world = Resized()
    world.quota(hard={"requests.cpu": "1"})
    assert world.post("pods", a_pod("p", a_container("c", **sized("300m")))) == ""
    assert world.resize({"name": "c", "resources": sized("800m")})[0] == 200
    assert world.used() == {"requests.cpu": "800m"}
    code, answer = world.resize({"name": "c", "resources": sized("1100m")})
    assert (
        code == 403 and "requested: requests.cpu=300m, used: requests.cpu=800m" in answer["message"]
    )
    assert world.resize({"name": "c", "resources": sized("100m")})[0] == 200
    assert world.used() == {"requests.cpu": "800m"}, "given back by the controller"
    bounds = {"type": "Container", "max": {"cpu": "500m"}, "default": {"cpu": "500m"}}
    limits = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}}
    assert world.send("POST", "limitranges", {**limits, "spec": {"limits": [bounds]}})[0] == 201
    code, answer = world.resize({"name": "c", "resources": sized("600m", limits={"cpu": "600m"})})
    assert code == 403 and "maximum cpu usage per Container is 500m" in answer["message"]


GUARANTEED = sized("1", "1Gi", {"cpu": "1", "memory": "1Gi"})


@pytest.mark.parametrize(
    ("before", "after", "field", "message"),
    [
        (GUARANTEED, sized("500m", "1Gi", {"cpu": "1", "memory": "1Gi"}), "spec",
         '"Guaranteed": Pod QOS Class may not change as a result of resizing'),
        (sized("1"), {"requests": {"cpu": "1", "memory": "64Mi", "example.com/a": "1"},
                      "limits": {"example.com/a": "1"}}, "spec",
         "only cpu and memory resources are mutable"),
        (sized("1"), {"requests": {"cpu": "1", "memory": None}},
         "spec.containers[0].resources.requests", "resource requests cannot be removed"),
        (sized("1", limits={"cpu": "2"}), {"requests": {"cpu": "1"}, "limits": {"cpu": None}},
         "spec.containers[0].resources.limits", "resource limits cannot be removed"),
    ],
)  # fmt: skip
def test_resize_2_what_is_rejected(before, after, field, message):
    world = Resized()
    assert world.post("pods", a_pod("p", a_container("c", **before))) == ""
    code, answer = world.resize({"name": "c", "resources": after})
    assert code == 422 and (field, message) in messages(answer), answer


def test_resize_2_regular_init_containers_and_policies_stay():
    world = Resized()
    sidecar = a_container("s", **sized("1")) | {"restartPolicy": "Always"}
    inits = [a_container("i", **sized("1")), sidecar]
    pod = a_pod("p", a_container("c", **sized("1")), initContainers=inits)
    assert world.post("pods", pod) == ""
    more = {"resources": sized("2")}
    assert world.resize(initContainers=[{"name": "s", **more}])[0] == 200
    code, answer = world.resize(initContainers=[{"name": "i", **more}])
    assert (code, messages(answer)) == (
        422, [("spec", "only cpu and memory resources are mutable")],
    )  # fmt: skip
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    assert world.resize({"name": "c", "resizePolicy": policy})[0] == 422


def test_resize_2_static_and_windows_pods_and_kubelets_without_support():
    world = Resized()
    assert world.post("pods", a_pod("p", a_container("c", **sized("1")))) == ""
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    status = {
        "name": "c",
        "image": "i:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "state": state,
    }
    told = {"status": {"phase": "Running", "containerStatuses": [status]}}
    assert world.send("PATCH", "pods/p/status", told, **MERGE)[0] == 200
    code, answer = world.resize({"name": "c", "resources": sized("2")})
    assert (code, messages(answer)) == (
        422, [("spec", "Pod running on node without support for resize")],
    )  # fmt: skip


# --- what counts meanwhile


def resizing(desired: str, actual: str | None, allocated: str | None, reason: str = "") -> Pod:
    status: dict[str, Any] = {"name": "c", "image": "i:1"}
    if actual is not None:
        status["resources"] = {"requests": {"cpu": actual}, "limits": {"cpu": actual}}
    if allocated is not None:
        status["allocatedResources"] = {"cpu": allocated}
    tree = a_pod("p", a_container("c", requests={"cpu": desired}, limits={"cpu": desired}))
    pod = made(PODS, {**tree, "status": {"containerStatuses": [status]}})
    if reason:
        pending = PodCondition(type="PodResizePending", status="True", reason=reason)
        pod = replace(pod, status=replace(pod.status, conditions=(pending,)))
    return replace(pod, metadata=replace(pod.metadata, generation=2))


amounts = st.integers(1, 9)


@given(amounts, amounts, amounts, st.sampled_from(["", "Deferred", "Infeasible"]))
def test_resize_6_the_larger_amount_counts(desired, actual, allocated, reason):
    pod = resizing(str(desired), str(actual), str(allocated), reason)
    expected = max(actual, allocated, 0 if reason == "Infeasible" else desired)
    limit = actual if reason == "Infeasible" else max(actual, desired)
    assert needs_of(pod).cpu == expected * 1000
    usage = usage_of(PODS, pod)
    assert usage["requests.cpu"].value == expected and usage["limits.cpu"].value == limit


def test_resize_6_a_pod_without_a_report_counts_as_it_is_desired():
    assert not requests_in_use(resizing("2", None, None)) and not limits_in_use(
        resizing("2", "2", "2")
    )
    fresh = resizing("1", "2", "2")
    fresh = replace(fresh, metadata=replace(fresh.metadata, generation=1))
    assert needs_of(fresh).cpu == 1000


# --- the kubelet, on simulated nodes


def playing(*patches: tuple[str, dict[str, Any]], policy: str = "", cpu: str = "500m") -> Any:
    """A cluster with one node of 4 CPUs, on which pod p is resized."""
    container = a_container("c", **sized(cpu))
    if policy:
        container["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": policy}]
    other = a_pod("q", a_container("c", **sized("2")))
    pods = [a_pod("p", container), other]
    requests = tuple(
        creation(made(PODS, {**pod, "metadata": {**pod["metadata"], "namespace": "default"}}))
        for pod in pods
    )
    setup = Setup(seed=1, steps=400, nodes=1, faults={}, requests=requests, user=False)
    cluster = simulate(setup).cluster
    for name, document in patches:
        request = Request(
            "patch", PODS, "default", name, "resize", body=Patch(STRATEGIC, document), user=ADMIN
        )
        if not document:
            request = Request("delete", PODS, "default", name, user=ADMIN)
        cluster = settled(step(cluster, Submit(request)))
    return cluster


def settled(cluster: Any) -> Any:
    from workload_helpers import settle

    return settle(cluster, seconds_max=60)


def to(cpu: str) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "c", "resources": sized(cpu)}]}}


def seen(cluster: Any, name: str = "p") -> tuple[Any, ...]:
    """(restarts, allocated CPU, actual CPU, conditions of the resize)"""
    pod = cluster.history.get(PODS.key("default", name)).value
    [status] = pod.status.container_statuses
    conditions = [(one.type, one.reason) for one in pod.status.conditions if "Resize" in one.type]
    return (
        status.restart_count, status.allocated_resources["cpu"], status.resources.requests["cpu"], conditions,
    )  # fmt: skip


def runs_with(cluster: Any) -> list[int]:
    """The CPU requests of the running containers of pod p, as the runtime has them."""
    return [
        fake.config.resources.cpu_request_milli
        for world in cluster.worlds.values()
        for fake in world.containers.values()
        if fake.config.pod_name == "p" and fake.status.state == "running"
    ]


def test_resize_3_resize_4_resize_5_a_running_container_gets_more():
    cluster = playing(("p", to("1500m")))
    assert seen(cluster) == (0, "1500m", "1500m", []) and runs_with(cluster) == [1500]


def test_resize_4_a_policy_restarts_the_container():
    cluster = playing(("p", to("1500m")), policy="RestartContainer")
    assert seen(cluster) == (1, "1500m", "1500m", []) and runs_with(cluster) == [1500]


def test_resize_3_what_a_node_can_never_give_is_infeasible():
    cluster = playing(("p", to("5")))
    assert seen(cluster) == (0, "500m", "500m", [("PodResizePending", "Infeasible")])
    cluster = playing(("p", to("5")), ("p", to("1")))
    assert seen(cluster) == (0, "1", "1", []), "the client has changed its mind"


def test_resize_3_what_finds_no_room_is_deferred_until_another_pod_has_ended():
    cluster = playing(("p", to("3")))
    assert seen(cluster) == (0, "500m", "500m", [("PodResizePending", "Deferred")])
    assert runs_with(cluster) == [500]
    cluster = playing(("p", to("3")), ("q", {}))
    assert seen(cluster) == (0, "3", "3", []) and runs_with(cluster) == [3000]
    cluster = playing(("p", to("3")), ("q", to("1")))
    assert seen(cluster) == (0, "3", "3", [])


def test_resize_5_a_resize_is_in_progress_until_the_container_has_what_is_allocated():
    pod = made(PODS, {**a_pod("p", a_container("c", **sized("2"))), "metadata": {"uid": "u"}})
    wanted = pod.spec.containers[0].resources
    had = replace(wanted, requests={"cpu": "1", "memory": "64Mi"})
    current = RuntimeStatus("id", "s", "u", "c", 0, "running")
    held = ContainerMemory(current=current, applied=had, updating=wanted, operation=UPDATE)
    memory = PodMemory(
        "u", "default", "p", pod=pod, containers={"c": held}, allocated={"c": wanted}
    )
    operation = UpdateContainerResources("u", "id", Resources())

    def told(memory: PodMemory) -> list[tuple[str, str | None, str | None]]:
        return [(one.type, one.reason, one.message) for one in conditions(pod, memory, (), NOW)]

    assert told(memory) == [("PodResizeInProgress", None, None)]
    failed = after_result(memory, operation, Failed("", "in use"), NOW, SECOND)
    words = "failed to resize container c: in use"
    assert told(failed) == [("PodResizeInProgress", "Error", words)]
    assert failed.container("c").retry_at == NOW + SECOND and len(failed.notes) == 1
    again = replace(failed.container("c"), updating=wanted, operation=UPDATE)
    again = after_result(
        failed.with_container("c", again), operation, Failed("", "in use"), NOW, SECOND
    )
    assert len(again.notes) == 1, "said once"
    done = after_result(memory, operation, Done(), NOW, SECOND)
    assert told(done) == [] and done.container("c").applied == wanted
    kept = PodCondition(type="Other", status="True")
    pending = replace(done, resize_pending=("Deferred", "no room"))
    assert [one.type for one in conditions(pod, pending, (kept,), NOW)] == [
        "PodResizePending",
        "Other",
    ]
    stopping = replace(held, operation=STOP)
    left = after_result(memory.with_container("c", stopping), operation, Done(), NOW, SECOND)
    assert left.container("c").operation == STOP, "a stop goes on"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Resources(500, 1 << 20, 1000), b"50000 100000\n39\n1048576\n"),
        (Resources(), b"max 100000\n1\nmax\n"),
    ],
)
def test_shell_4_resize_4_a_simulated_container_sees_its_limits(given, expected):
    config = ContainerConfig("u", "n", "p", "c", "i:1", resources=given)
    names = [f"/sys/fs/cgroup/{name}" for name in ("cpu.max", "cpu.weight", "memory.max")]
    course, output = compute_command(Scene(config, "p", Map(), Map()), ("cat", *names), NOW)
    assert (course.exit_code, output) == (0, expected)
