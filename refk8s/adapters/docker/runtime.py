"""The container runtime of a node with a Docker engine, for the kubelet's driver.

Used in the event loop's thread; worker threads do the slow work.

| operation | where |
|---|---|
| changes and listings of a pod | in the pod's lane, in a worker thread (RT-4) |
| pulls | the check outside the lanes, the fetch in threads for pulls only (RT-33) |
| stops | SIGTERM in the lane; no thread waits for the end (RT-11) |
| probes and hooks | in the event loop |

The first worker thread imports the engine's client library, so the cluster serves requests earlier.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from refk8s.adapters.linux.lanes import Lanes
from refk8s.adapters.linux.pulls import FETCHES_MAX, Pulls
from refk8s.adapters.linux.stopping import Stopping
from refk8s.core.api.families import IPV4, of_family
from refk8s.core.network.node_routes import NONE
from refk8s.core.ports import (
    CreateContainer,
    DescribeNode,
    Done,
    Failed,
    ListPods,
    Operation,
    PodsListed,
    Post,
    Probe,
    Probed,
    PullImage,
    RemovePodSandbox,
    Result,
    RunHook,
    RunPodSandbox,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    UpdateRuntimeConfig,
)

if TYPE_CHECKING:
    from refk8s.adapters.docker.engine.events import EventStream
    from refk8s.adapters.docker.operations import Operations
    from refk8s.adapters.docker.streams.connection import Streams

log = logging.getLogger("refk8s")

THREADS = 8
REMOVAL_SECONDS_MAX = 5.0
"""The grace period of containers when the whole cluster is removed."""
UNDER_WAY_SECONDS_MAX = 20.0
"""How long to wait for running operations before the whole cluster is removed."""
NODE_LANE, DESCRIBE_LANE, NETWORK_LANE = "", "describe", "network"

Then = Callable[[Result], None]
Answer = TypeVar("Answer")


class DockerRuntime:
    """One node. Created and used inside a running event loop."""

    def __init__(
        self,
        cluster: str,
        data: Path,
        node_name: str,
        node_ip: str,
        resolv_conf: Path | None = None,
        network_mode: str = NONE,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make = partial(
            _make_operations, cluster, data, node_name, node_ip, resolv_conf, network_mode
        )
        self._made: Operations | None = None
        self._making = threading.Lock()
        self._lanes = Lanes(THREADS, "refk8s-docker")
        self._pull_lanes = Lanes(FETCHES_MAX, "refk8s-pull")
        self._pulls = Pulls(
            self._lanes,
            self._pull_lanes,
            lambda op: self._with_engine(lambda made: made.answer(op, made.images.look)),
            lambda op: self._with_engine(lambda made: made.answer(op, made.images.fetch)),
        )
        self._stopping = Stopping(
            self._lanes,
            lambda id: self._operations().terminate(id),
            lambda id: self._operations().kill(id),
            lambda id: self._operations().status(id),
        )
        self._changed: Callable[[tuple[str, ...]], None] = lambda uids: None
        self._addresses: dict[str, str] = {}  # pod uid -> address
        # called before the containers of a new sandbox are created, with what to do then
        self.on_sandbox: Callable[[SandboxStatus, Callable[[], None]], None] = _at_once
        self._sandboxes: dict[str, set[str]] = {}  # pod uid -> ids
        self._own_starts: set[str] = set()
        self._own_ends: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cluster = cluster
        self._events: EventStream | None = None
        self._streams: Streams | None = None
        self._closed = False

    # --- the engine, from worker threads ----------------------------------------------------------

    def _operations(self) -> Operations:
        """The connection, created at first use; raises while no engine answers."""
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    def _carry_out(self, operation: Operation) -> Result:
        return self._with_engine(lambda operations: operations.carry_out(operation))

    def _with_engine(self, work: Callable[[Operations], Answer]) -> Answer | Failed:
        from refk8s.adapters.docker.engine.client import Refused, Unreachable

        try:
            operations = self._operations()
        except (Unreachable, Refused) as error:
            return Failed("RuntimeUnavailable", f"the engine does not answer: {error}")
        return work(operations)

    @property
    def streams(self) -> Streams:
        """Streams of the engine: logs and commands."""
        if self._streams is None:
            from refk8s.adapters.docker.streams.connection import Streams

            self._streams = Streams()
        return self._streams

    def aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `work` in a worker thread, then `then` in the event loop's thread."""
        self._lanes.put_aside(work, then)

    def pod_cidr(self) -> tuple[str, str]:
        """(the range of this node's pods, why it is not known).

        Creates the network; called in worker threads.
        """
        from refk8s.adapters.docker.engine.client import Refused, Unreachable

        try:
            network = self._operations().network
            network.ensure()
        except (Unreachable, Refused) as error:
            return "", str(error)
        return network.cidr, ""

    def pods_bridge(self) -> tuple[str, str, str]:
        """(this machine's address on the pods' bridge, the bridge, why they are not known).

        Creates the network; called in worker threads.
        """
        cidr, problem = self.pod_cidr()
        if problem:
            return "", "", problem
        network = self._operations().network
        four = of_family(cidr.split(","), IPV4)
        return str(ipaddress.ip_network(four)[1]), network.bridge, ""

    # --- called by the driver ---------------------------------------------------------------------

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Call `changed` with pod uids when containers end or are started by another program."""
        self._changed = changed
        if self._events is None:
            from refk8s.adapters.docker.engine.events import EventStream

            def on_event(action: str, id: str, labels: dict[str, str]) -> None:
                self._loop.call_soon_threadsafe(self._handle_event, action, id, labels)

            def reconnected() -> None:
                self._loop.call_soon_threadsafe(self._reconnected)

            self._events = EventStream(
                lambda: self._operations().engine, self._cluster, on_event, reconnected
            )
            self._events.start()

    def run(self, operation: Operation, done: Then) -> None:
        """Execute one operation; `done` gets its result in the event loop's thread."""
        if self._closed:
            return
        match operation:
            case StopContainer(uid, id, grace):
                self._stopping.stop(uid, id, grace, done)
            case Probe() | RunHook():
                self._start_task(self._probe(operation, done))
            case PullImage():
                self._pulls.pull(operation, lambda result: done(self._taken(result)))
            case _:
                if isinstance(operation, StartContainer):
                    self._own_starts.add(operation.container_id)
                elif isinstance(operation, (StopPodSandbox, RemovePodSandbox)):
                    self._own_ends.add(operation.sandbox_id)
                lane = lane_of(operation)
                self._lanes.put(
                    lane,
                    lambda: self._carry_out(operation),
                    lambda result: self._finish(operation, result, done),
                )

    def _taken(self, result: Any) -> Result:
        return (
            Failed("", f"an internal error: {result}")
            if isinstance(result, BaseException)
            else result
        )

    def _finish(self, operation: Operation, result: Any, done: Then) -> None:
        result = self._taken(result)
        match result:
            case SandboxStarted(status):
                self._remember(status)
                self.on_sandbox(status, lambda: done(result))
                return
            case PodsListed(sandboxes, _):
                for sandbox in sandboxes:
                    self._remember(sandbox)
            case Failed():
                if isinstance(operation, StartContainer):
                    self._own_starts.discard(operation.container_id)
            case Done() if isinstance(operation, RemovePodSandbox):
                self._forget(operation)
        if isinstance(operation, RemovePodSandbox):
            self._own_ends.discard(operation.sandbox_id)
        done(result)

    def _remember(self, sandbox: SandboxStatus) -> None:
        self._sandboxes.setdefault(sandbox.pod_uid, set()).add(sandbox.id)
        if sandbox.ready and sandbox.ips:
            self._addresses[sandbox.pod_uid] = sandbox.ips[0]

    def _forget(self, operation: RemovePodSandbox) -> None:
        """Forget a sandbox and, with the last one of a pod, the pod's pulls (RT-33)."""
        uid = operation.pod_uid
        left = self._sandboxes.get(uid, set())
        left.discard(operation.sandbox_id)
        if not left:
            self._sandboxes.pop(uid, None)
            self._addresses.pop(uid, None)
            self._pulls.forget(uid)

    # --- probes and hooks -------------------------------------------------------------------------

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, operation: Probe | RunHook, done: Then) -> None:
        try:
            result = await self._asked(operation)
        except Exception as error:  # A probe must be answered, even after an internal error.
            log.exception("a probe failed with an internal error")
            result = Probed(
                False, str(error) or type(error).__name__, unknown=isinstance(operation, Probe)
            )
        if not self._closed:
            done(result)

    async def _asked(self, operation: Probe | RunHook) -> Probed:
        from refk8s.adapters.docker.streams.commands import probe_command
        from refk8s.adapters.linux import probe

        if operation.action == "exec":
            return await probe_command(
                self.streams, operation.container_id, operation.command, operation.timeout_seconds
            )
        if isinstance(operation, RunHook) and operation.action == "sleep":
            await asyncio.sleep(min(operation.seconds, operation.timeout_seconds))
            return Probed(operation.seconds <= operation.timeout_seconds)
        if operation.action in ("http", "tcp", "grpc"):
            address = operation.host or self._addresses.get(operation.pod_uid, "")
            if not address:
                return Probed(False, "the pod has no address", unknown=True)
            return await probe.run_probe(operation, address)
        return Probed(
            False, f"probes of the kind {operation.action} are not carried out on this node"
        )

    # --- events of the engine ---------------------------------------------------------------------

    def _handle_event(self, action: str, id: str, its: dict[str, str]) -> None:
        if self._closed:
            return
        if self._made is not None:
            self._made.listing.forget(id)
        if action == "die" and id in self._stopping:
            self._stopping.ended(id)
            return
        if action == "die" and (
            id in self._own_ends or its.get("refk8s.sandbox") in self._own_ends
        ):
            return
        if action == "start":
            if id in self._own_starts:
                self._own_starts.discard(id)
                return
            if its.get("refk8s.type") == "sandbox":
                return
        self._changed((its.get("refk8s.pod-uid", ""),))

    def _reconnected(self) -> None:
        if self._closed or self._made is None:
            return
        self._made.listing.forget()
        self._stopping.look_at_all()
        self._changed(())

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Execute and report nothing more; containers continue to run."""
        self._closed = True
        if self._events is not None:
            self._events.close()
        self._stopping.close()
        for task in tuple(self._tasks):
            task.cancel()
        self._lanes.close()
        self._pull_lanes.close()

    async def remove_everything(self) -> str:
        """Remove every container, network and volume of this cluster (RT-8); returns the error."""
        return await asyncio.to_thread(self._remove_everything)

    def _remove_everything(self) -> str:
        from refk8s.adapters.docker.engine.client import Refused, Unreachable

        # Wait for creations in progress, so that their containers are removed as well.
        self._lanes.wait(UNDER_WAY_SECONDS_MAX)
        try:
            self._operations().remove_everything(REMOVAL_SECONDS_MAX)
        except (Refused, Unreachable) as error:
            return str(error)
        return ""


def _at_once(sandbox: SandboxStatus, then: Callable[[], None]) -> None:
    then()


def lane_of(operation: Operation) -> str:
    """The lane of an operation: its pod's, or the node's for no or several pods (RT-4)."""
    match operation:
        case RunPodSandbox(config):
            return config.pod_uid
        case ListPods(uids):
            return uids[0] if len(uids) == 1 else NODE_LANE
        case DescribeNode():
            return DESCRIBE_LANE
        case UpdateRuntimeConfig():
            return NETWORK_LANE
        case CreateContainer(_, container):
            return container.pod_uid
    assert not isinstance(operation, Post)  # a scheduler sends it, not a kubelet
    uid: str = operation.pod_uid
    return uid


def _make_operations(
    cluster: str,
    data: Path,
    node_name: str,
    node_ip: str,
    resolv_conf: Path | None,
    network_mode: str,
) -> Operations:
    from refk8s.adapters.docker.operations import Operations

    return Operations(
        cluster, data, node_name, node_ip, resolv_conf=resolv_conf, network_mode=network_mode
    )
