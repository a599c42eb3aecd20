"""The workloads of upstream's scheduler_perf: pods bound in a second, and growth from a tenth.

    python benchmarks/scheduler_perf.py                     every workload, full size and a tenth
    python benchmarks/scheduler_perf.py basic spread --scale 0.1
    python benchmarks/scheduler_perf.py basic --profile     where the time goes

The scheduler and an API server with a store in memory run in this process; there are no kubelets.
As upstream's tests do, a workload creates nodes and the first pods, waits until these are bound,
then creates the measured pods and counts those that are bound. *pods/s* is of the wall clock, and
includes the API server's part: a create, a binding and an Event for each pod. *us a pod* is the
processor time of the scheduler alone, with the minimum of the rounds. *growth* compares it with a
tenth of the nodes and pods; 1 means that a pod costs the same.

Upstream's floors are of machines with many more cores; the API server and etcd are other processes
there.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import os
import pstats
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import Clock
from refk8s.components.driver import Driver
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Namespace, Node, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, NODES, PODS, PRIORITY_CLASSES
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.scheduler.cycle import scheduler
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
WAIT_SECONDS = 1_800.0
BURST = 500  # creates that are sent before the event loop gets a turn

Make = Callable[[int], dict[str, Any]]


def pod(name: str, namespace: str, labels: dict[str, str] | None = None, **spec: Any) -> Any:
    requests = spec.pop("requests", {"cpu": "100m", "memory": "500Mi"})
    container = {
        "name": "pause",
        "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": requests},
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {
        "metadata": metadata,
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def basic(prefix: str, namespace: str) -> Make:
    return lambda number: pod(f"{prefix}-{number}", namespace)


def term(color: str, key: str) -> dict[str, Any]:
    return {
        "labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key,
        "namespaces": ["sched-0", "sched-1"],
    }  # fmt: skip


def affine(prefix: str, namespace: str) -> Make:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term("blue", ZONE)]}
    return lambda number: pod(
        f"{prefix}-{number}", namespace, {"color": "blue"}, affinity={"podAffinity": required}
    )


def averse(prefix: str, namespace: str) -> Make:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term("green", HOST)]}
    return lambda number: pod(
        f"{prefix}-{number}", namespace, {"color": "green"}, affinity={"podAntiAffinity": required}
    )


def spread(prefix: str, namespace: str) -> Make:
    constraint = {
        "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"color": "blue"}},
    }  # fmt: skip
    return lambda number: pod(
        f"{prefix}-{number}", namespace, {"color": "blue"}, topologySpreadConstraints=[constraint]
    )


def low(prefix: str, namespace: str) -> Make:
    return lambda number: pod(
        f"{prefix}-{number}", namespace, requests={"cpu": "900m", "memory": "500Mi"}
    )


def high(prefix: str, namespace: str) -> Make:
    return lambda number: pod(
        f"{prefix}-{number}",
        namespace,
        requests={"cpu": "3000m", "memory": "500Mi"},
        priorityClassName="high",
    )


class Workload(NamedTuple):
    """Nodes, the pods before, the measured pods; upstream's floor in pods a second."""

    nodes: int
    before: int
    measured: int
    floor: int
    make_before: Callable[[str, str], Make]
    make: Callable[[str, str], Make]
    zones: int = 0
    has_churn: bool = False


WORKLOADS = {
    "basic": Workload(5000, 1000, 10_000, 680, basic, basic),
    "affinity": Workload(5000, 5000, 5000, 35, affine, affine, zones=1),
    "anti-affinity": Workload(5000, 1000, 2000, 60, averse, averse),
    "spread": Workload(5000, 1000, 5000, 460, basic, spread, zones=3),
    "preemption": Workload(5000, 20_000, 5000, 570, low, high),
    "churn": Workload(5000, 0, 10_000, 710, basic, basic, has_churn=True),
}


class World:
    """An API server and a scheduler in this process."""

    def __init__(self) -> None:
        self.api = ApiServer(LocalStore(MemoryEngine(stamp)), Clock())
        self.driver = Driver(scheduler(), self.api, Clock())
        self.bound = 0
        self.deleted = 0
        self.seconds = 0.0  # of the scheduler
        self.profile: cProfile.Profile | None = None
        inner = self.driver._turn

        def turn() -> None:
            begin = time.thread_time()
            if self.profile is not None:
                self.profile.enable()
            inner()
            if self.profile is not None:
                self.profile.disable()
            self.seconds += time.thread_time() - begin

        self.driver._turn = turn  # type: ignore[method-assign]
        self.api.listeners.append(self._written)

    def _written(self, request: Request, committed: Any) -> None:
        if request.resource is PODS and request.subresource == "binding":
            self.bound += 1

    async def call(self, request: Request) -> Any:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.api.submit(request, answered.set_result)
        response = await answered
        assert response.ok, response.body.message
        return response.body

    async def create_all(self, resource: Any, kind: type, count: int, make: Make) -> None:
        """Create so many objects, some at a time."""
        for first in range(0, count, BURST):
            bodies = [
                codec.from_tree(
                    kind,
                    {"apiVersion": resource.api_version, "kind": resource.kind, **make(number)},
                )
                for number in range(first, min(count, first + BURST))
            ]
            await asyncio.gather(
                *[
                    self.call(
                        Request(
                            "create", resource, body.metadata.namespace or "", body=body, user=ADMIN
                        )
                    )
                    for body in bodies
                ]
            )

    async def create_nodes(self, count: int, zones: int) -> None:
        def make(number: int) -> dict[str, Any]:
            labels = {HOST: f"node-{number}"}
            if zones:
                labels[ZONE] = f"zone{number % zones}"
            return {"metadata": {"name": f"node-{number}", "labels": labels}}

        allocatable = {"cpu": "4", "memory": "32Gi", "pods": "110"}
        status = Patch(
            "application/merge-patch+json",
            {"status": {"allocatable": allocatable, "capacity": allocatable}},
        )
        no_taint = Patch("application/merge-patch+json", {"spec": {"taints": None}})
        await self.create_all(NODES, Node, count, make)
        for first in range(0, count, BURST):
            names = [f"node-{number}" for number in range(first, min(count, first + BURST))]
            await asyncio.gather(
                *[
                    self.call(Request("patch", NODES, "", name, "status", body=status, user=ADMIN))
                    for name in names
                ]
            )
            await asyncio.gather(
                *[
                    self.call(Request("patch", NODES, "", name, body=no_taint, user=ADMIN))
                    for name in names
                ]
            )

    async def until_bound(self, count: int) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while self.bound < count:
            assert time.monotonic() < end, f"{self.bound} of {count} are bound"
            await asyncio.sleep(0.005)


async def churn(world: World) -> None:
    """Each second a node, and a pod of high priority that fits on no node, come and go."""
    number = 0
    while True:
        name = f"churn-{number % 10}"
        large = pod(name, "churn", requests={"cpu": "9", "memory": "1Gi"}, priorityClassName="high")
        body = codec.from_tree(Pod, {"apiVersion": "v1", "kind": "Pod", **large})
        if number >= 10:
            await world.call(Request("delete", PODS, "churn", name, user=ADMIN))
            await world.call(Request("delete", NODES, "", name, user=ADMIN))
        await world.call(Request("create", PODS, "churn", body=body, user=ADMIN))
        node = Node(metadata=ObjectMeta(name=name, labels={HOST: name}))
        await world.call(Request("create", NODES, body=node, user=ADMIN))
        number += 1
        await asyncio.sleep(1.0)


class Figures(NamedTuple):
    pods_a_second: float
    microseconds: float  # of the scheduler, for each pod


async def measure(workload: Workload, scale: float, is_profiled: bool) -> Figures:
    world = World()
    for name in ("sched-0", "sched-1", "churn"):
        await world.call(
            Request(
                "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name=name)), user=ADMIN
            )
        )
    high_class = PriorityClass(metadata=ObjectMeta(name="high"), value=1000)
    await world.call(Request("create", PRIORITY_CLASSES, body=high_class, user=ADMIN))
    nodes, before, measured = (max(1, round(each * scale)) if each else 0 for each in workload[:3])
    await world.create_nodes(nodes, workload.zones)
    world.driver.start()
    await world.create_all(PODS, Pod, before, workload.make_before("init", "sched-0"))
    await world.until_bound(before)
    gc.collect()
    gc.freeze()
    churning = asyncio.create_task(churn(world)) if workload.has_churn else None
    if is_profiled:
        world.profile = cProfile.Profile()
    begin, used = time.monotonic(), world.seconds
    creating = asyncio.create_task(
        world.create_all(PODS, Pod, measured, workload.make("pod", "sched-1"))
    )
    await world.until_bound(before + measured)
    await creating
    took, used = time.monotonic() - begin, world.seconds - used
    if churning is not None:
        churning.cancel()
    world.driver.stop()
    world.api.stop()
    if world.profile is not None:
        pstats.Stats(world.profile).sort_stats("tottime").print_stats(30)
    return Figures(measured / took, used / measured * 1e6)


def best_of(workload: Workload, scale: float, rounds: int, is_profiled: bool) -> Figures:
    found = []
    for _ in range(rounds):
        found.append(asyncio.run(measure(workload, scale, is_profiled)))
        gc.unfreeze()
        gc.collect()
    return Figures(max(one.pods_a_second for one in found), min(one.microseconds for one in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--scale", type=float, default=1.0, help="of nodes and pods")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    gc.set_threshold(200_000, 10, 100)  # as `refk8s run`
    print(
        f"{'workload':<14}{'nodes':>6}{'pods':>7}{'floor':>7}{'pods/s':>8}{'us a pod':>10}{'growth':>8}"
    )
    for name in options.workloads or WORKLOADS:
        workload = WORKLOADS[name]
        full = best_of(workload, options.scale, options.rounds, options.profile)
        growth = ""
        if not options.profile:
            tenth = best_of(workload, options.scale / 10, options.rounds, False)
            growth = f"{full.microseconds / tenth.microseconds:.2f}"
        nodes, pods = (
            round(workload.nodes * options.scale),
            round(workload.measured * options.scale),
        )
        print(
            f"{name:<14}{nodes:>6}{pods:>7}{workload.floor:>7}{full.pods_a_second:>8.0f}"
            f"{full.microseconds:>10.0f}{growth:>8}",
            flush=True,
        )
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
