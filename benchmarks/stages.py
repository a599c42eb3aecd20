"""What a pod and the renewal of a Lease cost, and where: processor time by stage.

    python benchmarks/stages.py                      1,000 pods on 100 simulated nodes
    python benchmarks/stages.py --pods 2000 --nodes 70 --store memory
    python benchmarks/stages.py --calls              calls of functions instead of time

A whole cluster runs in this process. The cost of a pod is the processor time from the creation of
the Deployment until all its pods are ready; that of a Lease is the time that an idle cluster uses
for each renewal. A stage has its own time without that of the stages that it calls. Shares of the
whole depend little on the load of the machine. `--calls` counts the calls of functions instead, to
compare two versions.

Measured on 2 cores with a load average of 13, Python 3.11, 1,000 pods on 100 nodes: a pod takes
1.5 ms (kubelet 39 %, API server 26 %, store 9 %, scheduler 8 %, controllers 7 %, signatures of
tokens 4 %, simulated runtime 4 %). Of the store, half is the rows that SQLite gets, a third the
COMMIT in its thread, and the rest is in memory (300 pods on 30 nodes). Later versions are compared
by calls, because the machines were busy: a pod takes 3,320. With 30 pods on each of 60 nodes, a
renewal takes 865 calls with everything that an idle cluster does beside it. A busy machine adds the
calls of Leases and of statuses that are written twice.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from refk8s.adapters.fake.runtime import FakeRuntime
from refk8s.components.apiserver import ApiServer
from refk8s.components.driver import Driver
from refk8s.components.options import RunOptions
from refk8s.components.process import run_process, started
from refk8s.components.running_cluster import RunningCluster
from refk8s.components.token_signer import Es256
from refk8s.core import components
from refk8s.core.api.apps_v1 import Deployment, DeploymentSpec
from refk8s.core.api.core_v1 import Container, PodSpec, PodTemplateSpec
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import DEPLOYMENTS, LEASES, NODES
from refk8s.core.api.user import ADMIN
from refk8s.core.loop.reconciler import Reconciler
from refk8s.store.memory import MemoryEngine
from refk8s.store.sqlite import SqliteEngine

IDLE_SECONDS = 15.0
REST = "event loop, HTTP, memory"


class Stages:
    """The processor time of each stage in seconds, without that of the stages which it calls. All
    stages but the COMMIT run in the thread that makes this object, that of the event loop."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.entered: Counter[str] = Counter()
        self._stack = [REST]
        self._thread = threading.get_ident()
        self._since = time.thread_time()
        gc.callbacks.append(self._collecting)

    def _switch(self) -> None:
        now = time.thread_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def enter(self, stage: str) -> None:
        self._switch()
        self._stack.append(stage)
        self.entered[stage] += 1

    def leave(self) -> None:
        self._switch()
        self._stack.pop()

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        if threading.get_ident() != self._thread:
            return  # counted with the work of that thread
        if phase == "start":
            self.enter("garbage collection")
        else:
            self.leave()

    def measure(self, owner: type, method: str, stage_of: Callable[[Any], str]) -> None:
        """Count the method's time as the stage that `stage_of` names for its object."""
        inner = getattr(owner, method)

        @wraps(inner)
        def outer(self_: Any, *arguments: Any, **named: Any) -> Any:
            self.enter(stage_of(self_))
            try:
                return inner(self_, *arguments, **named)
            finally:
                self.leave()

        setattr(owner, method, outer)

    def measure_in_thread(self, owner: type, method: str, stage: str) -> None:
        """Count as this stage the time of the method in a thread other than the event loop's."""
        inner = getattr(owner, method)

        @wraps(inner)
        def outer(self_: Any, *arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return inner(self_, *arguments, **named)
            finally:
                if threading.get_ident() != self._thread:
                    self.seconds[stage] += time.thread_time() - begun

        setattr(owner, method, outer)

    def measure_all(self) -> None:
        """Measure every stage of a cluster in this process."""
        assert components  # the reconcilers are loaded
        self.measure(Driver, "_turn", lambda driver: f"{_component(driver.machine.name)}: loop")
        for reconciler in _subclasses(Reconciler):
            if "reconcile" in vars(reconciler):
                self.measure(
                    reconciler, "reconcile", lambda one: f"{_folder(type(one))}: reconcilers"
                )
        for method in ("submit", "watch", "_done", "_drain_background"):
            self.measure(ApiServer, method, lambda _: "API server: requests")
        self.measure(ApiServer, "_changed", lambda _: "API server: watches")
        for engine in (MemoryEngine, SqliteEngine):
            for method in ("stage", "publish", "compact"):
                self.measure(engine, method, lambda _: "store: in memory")
        self.measure(SqliteEngine, "begin_write", lambda _: "store: rows of a commit")
        self.measure_in_thread(SqliteEngine, "end_write", "store: COMMIT, in its thread")
        self.measure(Es256, "sign", lambda _: "API server: signatures of tokens")
        self.measure(FakeRuntime, "run", lambda _: "simulated runtime")

    def since(self, before: Counter[str]) -> Counter[str]:
        self._switch()
        return Counter({name: used - before[name] for name, used in self.seconds.items()})

    def now(self) -> Counter[str]:
        self._switch()
        return Counter(self.seconds)


def _subclasses(owner: type) -> list[type]:
    return [found for each in owner.__subclasses__() for found in (each, *_subclasses(each))]


def _component(machine: str) -> str:
    name = machine.partition("/")[0]
    return {"kube-controller-manager": "controllers", "kube-scheduler": "scheduler"}.get(name, name)


def _folder(reconciler: type) -> str:
    """The component of a reconciler: the folder of its module below refk8s/core."""
    return reconciler.__module__.split(".")[2]


async def call(
    cluster: RunningCluster, verb: str, resource: Any, name: str = "", body: Any = None
) -> Any:
    namespace = "default" if resource.namespaced and verb != "list" else ""
    response = await cluster.call(Request(verb, resource, namespace, name, body=body, user=ADMIN))
    assert response.ok, response
    return response.body


def _is_ready(node: Any) -> bool:
    conditions = (node.status.conditions if node.status else None) or ()
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


async def until(check: Callable[[], Any], every: float) -> None:
    while not await check():
        await asyncio.sleep(every)


async def all_ready(cluster: RunningCluster, pods: int) -> None:
    """Create a Deployment of so many pods, and wait until all are ready."""
    labels = {"app": "many"}
    template = PodTemplateSpec(
        metadata=ObjectMeta(labels=labels),
        spec=PodSpec(containers=(Container(name="c", image="nginx"),)),
    )
    deployment = Deployment(
        api_version="apps/v1",
        kind="Deployment",
        metadata=ObjectMeta(name="many"),
        spec=DeploymentSpec(
            replicas=pods, selector=LabelSelector(match_labels=labels), template=template
        ),
    )
    await call(cluster, "create", DEPLOYMENTS, body=deployment)

    async def ready() -> bool:
        found = await call(cluster, "get", DEPLOYMENTS, "many")
        return bool(found.status and found.status.ready_replicas == pods)

    await until(ready, 0.02)


def table(title: str, used: Counter[str], count: int) -> None:
    total = sum(used.values())
    print(f"\n{title}: {total / count * 1e6:.0f} µs\n")
    for name, seconds in sorted(used.items(), key=lambda item: -item[1]):
        if seconds / total > 0.002:
            print(f"| {name:34} | {seconds / count * 1e6:6.0f} µs | {seconds / total:5.1%} |")


async def measure(arguments: argparse.Namespace, options: RunOptions, stages: Stages) -> None:
    cluster = RunningCluster(options, lambda line: None)
    renewals = 0

    def committed(request: Request, outcome: Any) -> None:
        nonlocal renewals
        renewals += request.verb == "patch" and request.resource == LEASES

    try:
        await cluster.start()
        started()
        assert cluster.served.api is not None
        cluster.served.api.listeners.append(committed)

        async def nodes_ready() -> bool:
            found = (await call(cluster, "list", NODES)).items
            return sum(map(_is_ready, found)) == arguments.nodes

        await until(nodes_ready, 0.1)
        await asyncio.sleep(1)
        if arguments.calls:
            profile = cProfile.Profile()
            profile.enable()
            await all_ready(cluster, arguments.pods)
            profile.disable()
            calls = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
            print(f"{calls / arguments.pods:.0f} calls for a pod")
            return
        before = stages.now()
        await all_ready(cluster, arguments.pods)
        table(
            f"One pod of {arguments.pods:,} on {arguments.nodes} nodes",
            stages.since(before),
            arguments.pods,
        )
        if arguments.idle:
            await asyncio.sleep(arguments.idle / 5)  # until the Events are written
            before, renewals = stages.now(), 0
            await asyncio.sleep(arguments.idle)
            used = stages.since(before)
            if renewals:
                table(
                    f"One renewal of a Lease, of {renewals} in {arguments.idle:.0f} s",
                    used,
                    renewals,
                )
    finally:
        await cluster.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--store", default="sqlite", choices=("sqlite", "memory"))
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS, help="seconds; 0: no Leases")
    parser.add_argument("--calls", action="store_true")
    arguments = parser.parse_args()
    stages = Stages()
    if not arguments.calls:
        stages.measure_all()
    with tempfile.TemporaryDirectory(prefix="refk8s-benchmark-") as directory:
        options = RunOptions(
            store="memory"
            if arguments.store == "memory"
            else f"sqlite:{Path(directory, 'store.db')}",
            port=0,
            data_dir=directory,
            adapter="fake",
            nodes=arguments.nodes,
        )
        run_process(lambda write_line, stop: measure(arguments, options, stages))


if __name__ == "__main__":
    main()
