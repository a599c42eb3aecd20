"""The ports: the interfaces of the adapters to the drivers and to the HTTP front of the API server.

    Nodes ─┬─ start ──> Node: a Runtime for its kubelet, Rules for its proxy, its Containers
           └─ containers_of(node name) ──> Containers: streams to what runs on that node

An adapter makes no decisions. It carries out each operation completely or not at all, and answers
it exactly once. Operations of one pod are carried out in the order given, those of different pods
may run in parallel. The parameters and results are in `operations.py`, `service_rules.py`,
`dns_records.py` and `streams.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from refk8s.core.ports.dns_records import Data, Labels, Records, ServiceNames
from refk8s.core.ports.node_network import NodeNetwork
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
    Post,
    Posted,
    Probe,
    Probed,
    PullImage,
    RegistryCredential,
    RemoveContainer,
    RemovePodSandbox,
    Resolver,
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
    Tls,
    UpdateContainerResources,
    UpdateRuntimeConfig,
    WriteVolume,
)
from refk8s.core.ports.policy_rules import (
    NO_POLICIES,
    Allowance,
    Allowances,
    Block,
    Entry,
    LocalPod,
    Member,
    PolicySet,
    PortRange,
)
from refk8s.core.ports.service_rules import HealthCheck, Rule, RuleSet, Target
from refk8s.core.ports.streams import ExecOptions, LogOptions
from refk8s.core.ports.usage import ContainerUsage, Usage
from refk8s.core.value import Value

NodeRules: TypeAlias = RuleSet | Records | PolicySet | NodeNetwork
"""What a machine programs at one moment: a node's service rules, policies or routes to other nodes,
or the records of its name server."""

if TYPE_CHECKING:
    import asyncio

    from refk8s.core.api.core_v1 import Pod
    from refk8s.core.api.families import Network as AnyNetwork
    from refk8s.core.api.request import Request, Response, WatchEvent


# --- for drivers ----------------------------------------------------------------------------------


class Api(Protocol):
    """The destination of a component's requests: the API server in this process, or a client of
    another one."""

    def submit(
        self, request: Request, answer: Callable[[Response | None], None], background: bool = False
    ) -> None:
        """Send the request; `answer` gets the response, or None if it is unknown whether the
        request took effect. A background request waits until no others are in progress."""

    def watch(
        self,
        request: Request,
        deliver: Callable[[tuple[WatchEvent, ...]], None],
        ended: Callable[[int], None],
    ) -> Callable[[], None]:
        """Open a watch; `ended` gets the code with which the server ends it. Returns a function
        that closes the watch."""


class Runtime(Protocol):
    """The container runtime of one node."""

    def run(self, operation: Operation, done: Callable[[Result], None]) -> None:
        """Carry out the operation; `done` gets its result, once, in the event loop's thread."""

    def listen(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Call `changed` with pod uids when containers start or exit without an operation, and
        without uids if the pods are unknown."""


class Rules(Protocol):
    """The service rules of one node."""

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Replace the node's rules; `done` gets "", or the reason of a failure, in the event loop's
        thread."""


class Policies(Protocol):
    """The network policies of one node."""

    def program(self, policies: PolicySet, done: Callable[[str], None]) -> None:
        """Enforce these from now on; `done` gets "", or why the node does not enforce them, in the
        event loop's thread."""


class Network(Protocol):
    """The routes from one node to the pods of the others."""

    def program(self, network: NodeNetwork, done: Callable[[str], None]) -> None:
        """Make this the network of the node; `done` gets "", or the reason of a failure, in the
        event loop's thread."""


class NameServer(Protocol):
    """The name server of one node (spec/dns.md)."""

    def program(self, records: Records, done: Callable[[str], None]) -> None:
        """Answer from these records from now on; `done` gets "" in the event loop's thread."""

    async def listen(self) -> tuple[str, Mapping[str, int]]:
        """Open the sockets if needed: (the address at which pods reach the server, the numbers of
        its ports by their names in the Service kube-dns). OSError if they cannot be opened."""

    def close(self) -> None:
        """Close the sockets."""


# --- for the HTTP front of the API server ---------------------------------------------------------


class StreamFailed(Exception):
    """A stream to a container cannot be opened; the message is for the user."""


class ContainerNotFound(StreamFailed):
    """The pod has no running container of this name."""


class Session(Protocol):
    """A running command in a container, or its main program, with a client attached."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(1 for stdout or 2 for stderr, bytes) until it ends."""

    async def write(self, data: bytes) -> None:
        """Write to its stdin. Waits while the program does not read; raises OSError if it has
        ended."""

    def end_input(self) -> None:
        """Close its stdin."""

    async def resize(self, columns: int, rows: int) -> None:
        """Set the size of its terminal; ignored if it has no terminal."""

    async def exit_code(self) -> int:
        """Its exit code; 0 while it runs."""

    def close(self) -> None:
        """Detach from it."""


class Containers(Protocol):
    """The containers of one node. Sandboxes and containers are those of `list_pod`, never ids from
    an API object (STREAM-1)."""

    async def list_pod(self, pod_uid: str) -> PodsListed:
        """The sandboxes and containers that the node's runtime has for this uid. Raises
        StreamFailed if the runtime does not answer."""

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of its log as they are written (RT-13). Raises StreamFailed if it cannot be
        read."""

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> Session:
        """Run a command in it (RT-14). Raises StreamFailed if that is impossible."""

    async def attach(self, container: ContainerStatus, stdin: bool) -> Session:
        """Attach to its main program (RT-14). Raises StreamFailed if the container does not run."""

    async def connect(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port in the network of this sandbox (RT-15). Raises OSError or
        StreamFailed if it is refused."""

    async def dial(
        self, pod: Pod, sandbox: SandboxStatus, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port at the address of this sandbox (STREAM-14). Raises OSError or
        StreamFailed if it is refused."""

    async def usage(self, pods: Mapping[str, Pod]) -> Usage:
        """What the node and its running containers have used until now (STREAM-17). `pods`: those
        that the kubelet knows, by uid. Raises StreamFailed if that is not known."""


class Kubelet(Protocol):
    """The streams of one node's pods, in this process or at the kubelet's port (STREAM-8).

    The pod is that of the caller; its containers are those that the node's runtime has for its uid
    (STREAM-1). Every method raises ApiError or StreamFailed if the stream cannot be opened.
    """

    async def log(
        self, pod: Pod, container: str, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of the log of the requested attempt as they are written (RT-12, RT-13)."""

    async def execute(self, pod: Pod, container: str, options: ExecOptions) -> Session:
        """Run a command in the container; ContainerNotFound if it does not run."""

    async def attach(self, pod: Pod, container: str, options: ExecOptions) -> Session:
        """Attach to the container's main program; ContainerNotFound if it does not run."""

    async def check(self, pod: Pod) -> None:
        """Raise StreamFailed if the pod has no network to connect to."""

    async def connect(
        self, pod: Pod, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port in the pod's network; OSError if it is refused (RT-15)."""

    async def dial(self, pod: Pod, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port at the pod's address; OSError if it is refused (STREAM-14)."""


# --- for a cluster --------------------------------------------------------------------------------


class Node(Value, frozen=True):
    """A node whose kubelet and proxy run in this process."""

    name: str
    runtime: Runtime
    rules: Rules
    containers: Containers
    name_server: NameServer | None = None  # None: pods resolve names as the node does
    policies: Policies | None = None  # None: its pods have no network
    network: Network | None = None  # None: there are no routes to the pods of other nodes


class Nodes(Protocol):
    """The nodes that an adapter provides to a cluster."""

    words: str
    """The kind of nodes, for the ready line."""
    simulates_devices: bool
    """Whether pods can use the devices of ResourceSlices without their driver (DRA-16)."""

    cluster_cidr: str
    """The range of all pods, of which each Node gets a part (IPAM-2)."""

    receive_packets: bool
    """Whether clients reach Services at the addresses of the nodes (LB-2)."""

    def start(self, cluster_id: str) -> Sequence[Node]:
        """Create the nodes, once, in a running event loop. Existing containers with this cluster id
        belong to them."""

    def used_networks(self, cluster_id: str) -> Sequence[AnyNetwork]:
        """Networks that the range of a Node must not overlap."""

    def containers_of(self, node_name: str) -> Containers | None:
        """The containers of this node; None if there is no such node."""

    async def bridge(self) -> tuple[str, str]:
        """(an address of this machine that pods reach, the device that has it); empty if pods have
        no network. Raises OSError if it is not known."""

    async def close(self, keep: bool) -> None:
        """Stop carrying out operations. Unless `keep`, remove the cluster's containers, networks
        and rules (RT-8)."""


__all__ = [
    "CREATED",
    "EXITED",
    "NO_POLICIES",
    "RUNNING",
    "Allowance",
    "Allowances",
    "Api",
    "Block",
    "ContainerConfig",
    "ContainerCreated",
    "ContainerNotFound",
    "ContainerStatus",
    "ContainerUsage",
    "Containers",
    "CreateContainer",
    "Data",
    "DescribeNode",
    "Done",
    "Entry",
    "ExecOptions",
    "Failed",
    "HealthCheck",
    "ImagePulled",
    "Kubelet",
    "Labels",
    "Later",
    "ListPods",
    "LocalPod",
    "LogOptions",
    "Member",
    "Mount",
    "NameServer",
    "Network",
    "Node",
    "NodeDescribed",
    "NodeNetwork",
    "NodeRules",
    "Nodes",
    "Operation",
    "PodsListed",
    "Policies",
    "PolicySet",
    "PortMapping",
    "PortRange",
    "Post",
    "Posted",
    "Probe",
    "Probed",
    "PullImage",
    "Records",
    "RegistryCredential",
    "RemoveContainer",
    "RemovePodSandbox",
    "Resolver",
    "Resources",
    "Result",
    "Rule",
    "RuleSet",
    "Rules",
    "RunHook",
    "RunPodSandbox",
    "Runtime",
    "SandboxConfig",
    "SandboxStarted",
    "SandboxStatus",
    "ServiceNames",
    "Session",
    "StartContainer",
    "StopContainer",
    "StopPodSandbox",
    "StreamFailed",
    "Target",
    "Tls",
    "UpdateContainerResources",
    "UpdateRuntimeConfig",
    "Usage",
    "WriteVolume",
]  # fmt: skip
