"""What nodes and containers use: measured, computed, and shown as metrics.k8s.io. Rules STREAM-17,
SHELL-11."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_http import TOKEN, USER, a_server, asked

from refk8s.adapters.docker.streams.usage import read_stats
from refk8s.adapters.fake.load import CPU, MEMORY, compute_load
from refk8s.adapters.linux.machine_usage import machine_usage
from refk8s.components.http import Front
from refk8s.components.kubelet import metrics as reading
from refk8s.components.kubelet.metrics import Metrics
from refk8s.components.kubelet.stats import Stats
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Container, Node, Pod, PodSpec, PodStatus
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.quantity import parse
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.config import Config
from refk8s.core.client.summary import Summary
from refk8s.core.context import SECOND
from refk8s.core.kubelet.usage import compute_summary, write_metrics
from refk8s.core.ports import RUNNING, ContainerStatus, ContainerUsage, StreamFailed, Usage
from refk8s.core.store import Put, Txn

T = 10**15
ROOT = "/apis/metrics.k8s.io/v1beta1"


def a_pod(name: str, node: str = "node-1", phase: str = "Running", **labels: str) -> Pod:
    return Pod(
        metadata=ObjectMeta(
            name=name, namespace="default", uid=f"uid-{name}", labels=labels or None
        ),
        spec=PodSpec(containers=(Container(name="a"),), node_name=node),
        status=PodStatus(phase=phase),
    )


def used(name: str, nanoseconds: int, started_at: int = T, **more: int) -> ContainerUsage:
    return ContainerUsage(f"uid-{name}", "a", started_at, nanoseconds, **more)


# --- rates ----------------------------------------------------------------------------------------

COUNTS = st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 3)), min_size=2, max_size=2)


@given(st.integers(0, 10 * SECOND), COUNTS, COUNTS)
@example(0, [(5, 0), (3, 0)], [(5, 0), (3, 1)])
@example(0, [(0, 0), (0, 0)], [(0, 1), (1, 1)])
def test_stream_17_a_rate_is_never_negative_whatever_the_counters_do(
    passed: int, machine: list[tuple[int, int]], container: list[tuple[int, int]]
) -> None:
    # Shows STREAM-17.h.
    before, now = (
        Usage(at, machine[i][0], 1, (used("web", container[i][0], T - container[i][1] * SECOND),))
        for i, at in enumerate((T, T + passed))
    )
    summary = compute_summary("node-1", [a_pod("web")], before, now)
    assert summary.node.cpu.usage_nano_cores >= 0
    [pod] = summary.pods
    [one] = pod.containers
    assert one.cpu.usage_nano_cores >= 0
    (first, first_start), (last, last_start) = container
    if passed and first_start == last_start and last >= first:
        assert one.cpu.usage_nano_cores == (last - first) * SECOND // passed
    elif passed + last_start * SECOND:
        assert one.cpu.usage_nano_cores == last * SECOND // (passed + last_start * SECOND)


def test_stream_17_containers_of_unknown_pods_are_left_out() -> None:
    now = Usage(T, 0, 0, (used("web", 1), used("stranger", 1)))
    summary = compute_summary("node-1", [a_pod("web"), a_pod("idle")], None, now)
    assert [pod.pod_ref.name for pod in summary.pods] == ["web"]
    text = write_metrics(summary).decode()
    assert (
        'container_cpu_usage_seconds_total{container="a",namespace="default",pod="web"} 0' in text
    )
    assert "stranger" not in text and "resource_scrape_error 0" in text
    again = msgspec.json.decode(msgspec.json.encode(summary), type=Summary)
    assert again == summary


class Counting:
    """A node whose counters grow by half a core."""

    def __init__(self) -> None:
        self.now = T
        self.measured = 0

    async def usage(self, pods: Mapping[str, Pod]) -> Usage:
        self.measured += 1
        self.now += SECOND
        seconds = (self.now - T) // SECOND
        containers = (used("web", seconds * 10**8),)
        return Usage(self.now, seconds * 5 * 10**8, 1 << 20, containers)


def test_stream_17_a_kubelet_measures_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Shows STREAM-17.f, STREAM-17.g, STREAM-17.i.
    async def main() -> None:
        containers = Counting()
        stats = Stats(
            "node-1", containers, lambda: {"default/web": a_pod("web")}, lambda: containers.now
        )  # type: ignore[arg-type]
        waited = []

        async def sleep(seconds: float) -> None:
            waited.append(seconds)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        first = await stats.summary()
        assert waited == [1.0] and containers.measured == 2
        assert (first.node.cpu.usage_nano_cores, first.window_seconds) == (5 * 10**8, 1.0)
        assert await stats.summary() is first and containers.measured == 2
        containers.now += 30 * SECOND  # older than two seconds: the last measurement is the base
        await stats.summary()
        assert containers.measured == 3 and waited == [1.0]
        containers.now += 1000 * SECOND  # too old for a base
        await stats.summary()
        assert containers.measured == 5 and waited == [1.0, 1.0]

    asyncio.run(main())


# --- adapters -------------------------------------------------------------------------------------


@given(st.text("0123456789.mkKMGiEn-+ex", max_size=8))
def test_shell_11_a_load_is_a_quantity_or_the_container_is_not_measured(text: str) -> None:
    # Shows SHELL-11.d.
    load = compute_load({CPU: text}, "a")
    if load is not None:
        assert load == (-(-parse(text).nano // 1), 0) and 0 <= load[0] <= 10**15


def test_shell_11_a_load_is_for_all_containers_or_for_one() -> None:
    # Shows SHELL-11.a, SHELL-11.b.
    annotations = {CPU: "250m", f"{CPU}.b": "2", f"{MEMORY}.a": "64Mi"}
    assert compute_load(annotations, "a") == (250 * 10**6, 64 << 20)
    assert compute_load(annotations, "b") == (2 * 10**9, 0)
    assert compute_load({}, "a") == (0, 0)
    for text in ("-1", "1000001", "x", ""):
        assert compute_load({CPU: text}, "a") is None


CONTAINER = ContainerStatus("c" * 64, "s", "uid-web", "a", 0, RUNNING, started_at=T)


def test_stream_17_the_working_set_is_memory_without_inactive_file_pages() -> None:
    # Shows STREAM-17.j.
    for details, wanted in (
        ({"inactive_file": 100}, 900),
        ({"total_inactive_file": 300, "inactive_file": 100}, 700),
        ({}, 1000),
        ({"inactive_file": 5000}, 0),
    ):
        answer = {
            "cpu_stats": {"cpu_usage": {"total_usage": 7}},
            "memory_stats": {"usage": 1000, "stats": details},
        }
        found = read_stats(CONTAINER, answer)
        assert (found.cpu_nanoseconds, found.memory_bytes, found.started_at) == (7, wanted, T)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["cpu_stats", "cpu_usage", "total_usage", "memory_stats", "usage", "stats"]), inner)))  # fmt: skip
def test_stream_17_an_answer_of_the_engine_without_counters_is_no_measurement(answer: Any) -> None:
    try:
        found = read_stats(CONTAINER, answer)
    except ValueError:
        return
    assert found.memory_bytes >= 0


def test_stream_17_the_machine_has_used_processors_and_memory() -> None:
    nanoseconds, memory = machine_usage()
    assert nanoseconds > 0 and memory > 0
    assert machine_usage()[0] >= nanoseconds


# --- the API --------------------------------------------------------------------------------------


class Fixed:
    """The stats of a node that never change; with `fails`, there are none."""

    def __init__(self, *pods: str, fails: bool = False, hangs: bool = False) -> None:
        self.pods, self.fails, self.hangs = pods, fails, hangs
        self.asked = 0

    async def summary(self) -> Summary:
        self.asked += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise StreamFailed("the engine does not answer")
        containers = tuple(
            [
                used(name, 0, cpu_nanocores=25 * 10**7, memory_bytes=(1 << 20) + 1)
                for name in self.pods
            ]
        )
        now = Usage(T, 0, 64 << 20, containers, 10**9)
        return compute_summary("n", [a_pod(name) for name in self.pods], None, now)


async def with_metrics(nodes: dict[str, Fixed]) -> tuple[Any, Any]:
    api = await a_server(config=Config(users={TOKEN: USER}, has_metrics=True))

    async def find(node: Node) -> Any:
        raise StreamFailed("away")

    objects: list[tuple[Any, Any]] = [
        (resources.NODES, Node(metadata=ObjectMeta(name=name, labels={"zone": name})))
        for name in (*nodes, "node-away")
    ]
    objects += [(resources.PODS, a_pod(name, app=name)) for name in ("web", "db")]
    objects.append((resources.PODS, a_pod("done", phase="Succeeded")))
    objects.append((resources.PODS, a_pod("far", "node-away")))
    for resource, obj in objects:
        done = asyncio.get_running_loop().create_future()
        key = resource.key(obj.metadata.namespace or "", obj.metadata.name)
        api.store.submit(Txn((), (Put(key, obj),)), done.set_result)
        await done
    api.measure = Metrics(api, nodes, find).submit  # type: ignore[arg-type]
    return api, Front(api)


def test_stream_17_the_answers_of_the_group() -> None:
    # Shows STREAM-17.a, STREAM-17.d, STREAM-17.e.
    node = Fixed("web", "db", "done")

    async def main() -> None:
        api, front = await with_metrics({"node-1": node, "node-2": Fixed(fails=True)})

        async def get(path: str, query: bytes = b"") -> tuple[int, Any]:
            code, _, body = await asked(front, "GET", f"{ROOT}/{path}", query=query)
            return code, msgspec.json.decode(body)

        code, found = await get("nodes")
        assert code == 200 and found["kind"] == "NodeMetricsList"
        [one] = found["items"]
        assert one["metadata"]["name"] == "node-1" and one["metadata"]["labels"] == {
            "zone": "node-1"
        }
        assert one["usage"] == {"cpu": "1", "memory": "64Mi"}
        code, found = await get("namespaces/default/pods")
        assert [each["metadata"]["name"] for each in found["items"]] == ["db", "web"]
        assert found["items"][0]["containers"] == [
            {"name": "a", "usage": {"cpu": "250m", "memory": "1025Ki"}}
        ]
        _, found = await get("pods", b"labelSelector=app%3Dweb")
        assert [each["metadata"]["name"] for each in found["items"]] == ["web"]
        assert (await get("namespaces/default/pods/web"))[1]["kind"] == "PodMetrics"
        for path in (
            "nodes/node-2",
            "nodes/none",
            "namespaces/default/pods/far",
            "namespaces/x/pods/web",
        ):
            code, found = await get(path)
            assert code == 404 and "metrics.k8s.io" in found["message"], path
        assert (await get("pods", b"labelSelector=%2C"))[0] == 400
        assert node.asked == 1  # STREAM-17.c
        _, _, groups = await asked(front, "GET", "/apis")
        assert b'"metrics.k8s.io/v1beta1"' in groups
        for path in ("/openapi/v2", "/openapi/v3"):
            assert (await asked(front, "GET", path))[0] == 200
        code, _, body = await asked(
            front,
            "GET",
            f"{ROOT}/nodes",
            accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        )
        assert msgspec.json.decode(body)["rows"][0]["cells"] == ["node-1", "1", "64Mi", "1.000s"]
        assert (await asked(front, "POST", f"{ROOT}/nodes", b"{}"))[0] == 405
        answered = asyncio.get_running_loop().create_future()
        api.submit(
            Request("list", resources.POD_METRICS, "default", user=ADMIN), answered.set_result
        )
        assert len((await answered).body.items) == 2
        api.stop()

    asyncio.run(main())


def test_stream_17_a_node_that_does_not_answer_delays_a_list_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows STREAM-17.d.
    monkeypatch.setattr(reading, "SECONDS_MAX", 0.05)

    async def main() -> None:
        api, front = await with_metrics({"node-1": Fixed("web"), "node-2": Fixed(hangs=True)})
        _, _, body = await asked(front, "GET", f"{ROOT}/nodes")
        assert [one["metadata"]["name"] for one in msgspec.json.decode(body)["items"]] == ["node-1"]
        api.stop()

    asyncio.run(main())
