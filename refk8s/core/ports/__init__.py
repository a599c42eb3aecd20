"""The ports: what the drivers and the API server's front ask of the adapters.

    Nodes ─┬─ start ──> Node: a Runtime for its kubelet, Rules for its proxy, its Containers
           └─ containers_of(node name) ──> Containers: streams to what runs on that node

An adapter makes no decisions. It carries out each operation whole or not at all and answers it
exactly once. It carries out operations of one pod in the order given; those of different pods may
run at the same time. The values that pass through the ports are in `operations.py`,
`service_rules.py` and `streams.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from refk8s.core.ports.operations import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerCreated,
    ContainerStatus,
    CreateContainer,
    DescribeNode,
    Done,
    Failed,
    ImagePulled,
    Later,
    ListPods,
    Mount,
    NodeDescribed,
    Operation,
    PodsListed,
    PortMapping,
    Probe,
    Probed,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    Resources,
    Result,
    RunHook,
    RunPodSandbox,
    SandboxConfig,
    SandboxStarted,
    SandboxStatus,
    StartContainer,
    StopContainer,
    StopPodSandbox,
    WriteVolume,
)
from refk8s.core.ports.service_rules import Rule, RuleSet, Target
from refk8s.core.ports.streams import LogOptions

if TYPE_CHECKING:
    import asyncio

    from refk8s.core.api.core_v1 import Pod
    from refk8s.core.api.request import Request, Response, WatchEvent


# --- what a driver asks ---------------------------------------------------------------------------


class Api(Protocol):
    """Where a component sends its requests: the API server in this process, or a client of another
    one."""

    def submit(
        self, request: Request, answer: Callable[[Response | None], None], background: bool = False
    ) -> None:
        """Send the request; `answer` gets the response, or None where it is not known whether the
        request took effect. A request in the background waits for the others."""

    def watch(
        self,
        request: Request,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
    ) -> Callable[[], None]:
        """Open a watch; `ended` gets the code with which the server ends it. Returns what closes
        it."""


class Runtime(Protocol):
    """The container runtime of one node."""

    def run(self, operation: Operation, done: Callable[[Result], None]) -> None:
        """Carry out the operation; `done` gets its result, once, in the event loop's thread."""

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Call `changed` with pod uids when containers start or end without an operation; with
        none where any may have."""


class Rules(Protocol):
    """The service rules of one node."""

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Replace the node's rules by these; `done` gets "" or why they could not be programmed, in
        the event loop's thread."""


# --- what the API server's front asks -------------------------------------------------------------


class StreamFailed(Exception):
    """Why a stream to a container cannot be had, in words for a user."""


class Session(Protocol):
    """A command in a container, or the container's own program, with a client."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 for stdout or 2 for stderr, bytes) until it ends."""

    async def write(self, data: bytes) -> None:
        """Write to its stdin. Waits while it does not read; OSError where it has ended."""

    def end_input(self) -> None:
        """Close its stdin."""

    async def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal; ignored where it has none."""

    async def exit_code(self) -> int:
        """Its exit code; 0 while it runs."""

    def close(self) -> None:
        """Detach from it."""


class Containers(Protocol):
    """The containers of one node. What a stream is about comes from `list_pod`, never from an
    object (STREAM-1)."""

    async def list_pod(self, pod_uid: str) -> PodsListed:
        """The sandboxes and containers that the node's runtime has under this uid; StreamFailed
        where the runtime does not answer."""

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of its log as they come (RT-13); StreamFailed where it cannot be read."""

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> Session:
        """Run a command in it (RT-14); StreamFailed where it cannot be run."""

    async def attach(self, container: ContainerStatus, stdin: bool) -> Session:
        """Attach to its main program (RT-14); StreamFailed where it does not run."""

    async def connect(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port in the network of this sandbox (RT-15); OSError or StreamFailed
        where it is refused."""


# --- what a cluster asks --------------------------------------------------------------------------


@frozen
class Node:
    """A node whose kubelet and proxy run in this process."""

    name: str
    runtime: Runtime
    rules: Rules
    containers: Containers


class Nodes(Protocol):
    """The nodes that one adapter gives a cluster."""

    words: str
    """What they are, for the line that says that the cluster is ready."""

    def start(self, cluster_id: str) -> Sequence[Node]:
        """Make the nodes, once, in a running event loop. What runs already under this cluster id
        belongs to them."""

    def containers_of(self, node_name: str) -> Containers | None:
        """The containers of this node; None where there is no such node."""

    async def bridge(self) -> tuple[str, str]:
        """(an address of this machine that pods reach, the device that has it); empty where pods
        have no network. OSError where it is not known."""

    async def close(self, keep: bool) -> None:
        """Stop carrying out operations. Unless `keep`, remove the cluster's containers, networks and
        rules (RT-8)."""


__all__ = [
    "CREATED", "EXITED", "RUNNING", "Api", "ContainerConfig", "ContainerCreated", "ContainerStatus",
    "Containers", "CreateContainer", "DescribeNode", "Done", "Failed", "ImagePulled", "Later",
    "ListPods", "LogOptions", "Mount", "Node", "NodeDescribed", "Nodes", "Operation", "PodsListed",
    "PortMapping", "Probe", "Probed", "PullImage", "RemoveContainer", "RemovePodSandbox",
    "Resources", "Result", "Rule", "RuleSet", "Rules", "RunHook", "RunPodSandbox", "Runtime",
    "SandboxConfig", "SandboxStarted", "SandboxStatus", "Session", "StartContainer",
    "StopContainer", "StopPodSandbox", "StreamFailed", "Target", "WriteVolume",
]  # fmt: skip
