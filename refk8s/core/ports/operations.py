"""Operations of a container runtime and their results, by the names of the Container Runtime
Interface (CRI).

Every operation may be repeated after a crash of the kubelet: running a sandbox that runs, and
removing what is already gone, succeed. Source: Kubernetes documentation, "Container Runtime
Interface (CRI)".
"""

from collections.abc import Mapping
from typing import TypeAlias

from refk8s.core.context import Instant
from refk8s.core.value import Value, field

# --- sandboxes and containers ---------------------------------------------------------------------


class PortMapping(Value, frozen=True):
    """A host port that is forwarded to a port of the pod."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


class SandboxConfig(Value, frozen=True):
    """The sandbox of a pod: the pause container that holds its network."""

    pod_uid: str
    namespace: str
    name: str
    attempt: int = 0
    hostname: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    port_mappings: tuple[PortMapping, ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()


class Mount(Value, frozen=True):
    """A file or directory that the adapter keeps on the node, mounted into a container. `source`:
    the name of a volume of the pod."""

    source: str
    path: str
    read_only: bool = False
    # only the kubelet writes the volume: no container can put a link into it
    managed: bool = False
    # HostToContainer, Bidirectional, or empty: later mounts are not propagated
    propagation: str = ""
    recursive_read_only: bool = False  # mounts below it must be read-only too


class Resources(Value, frozen=True):
    """Limits of a container: milli-CPUs (0: none) and bytes of memory (0: none); and its CPU
    request."""

    cpu_limit_milli: int = 0
    memory_limit_bytes: int = 0
    cpu_request_milli: int = 0


class ContainerConfig(Value, frozen=True):
    """A container to create in a sandbox. `attempt` counts its restarts in this pod."""

    pod_uid: str
    namespace: str
    pod_name: str
    name: str
    image: str
    attempt: int = 0
    init: bool = False
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    oom_score_adj: int = 0  # added to the score by which the kernel chooses what it ends first
    user: str = ""  # "user", "user:group" or empty: the image's own
    groups: tuple[int, ...] = ()  # further groups
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""  # RuntimeDefault, Unconfined, "Localhost/NAME"; empty: the runtime's choice
    app_armor: str = ""  # the same
    se_linux: tuple[tuple[str, str], ...] = ()  # (user, role, type or level; value)
    unmasked_proc: bool = False
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False  # its stdin is closed when the first attached client ends its input
    # it is expected to exit: an init container, one of a Job, a command that is not restarted
    runs_to_end: bool = False
    termination_grace_seconds: int = 30
    # a file in the container whose content becomes the message after the exit
    termination_message_path: str = ""
    # if that is empty and the container failed: the end of its log
    termination_message_from_log: bool = False
    spec_hash: str = ""  # changes if the container must be recreated
    image_id: str = ""  # as returned by the pull; empty: the image that has the name
    hosts: str = ""  # the content of /etc/hosts; empty: the runtime's own
    # the lines of the node's /etc/hosts follow the first line of `hosts`
    host_network: bool = False
    target_id: str = ""  # the container whose process namespace it joins; empty: its own


class SandboxStatus(Value, frozen=True):
    """A sandbox as the runtime reports it."""

    id: str
    pod_uid: str
    namespace: str
    name: str
    attempt: int
    ready: bool
    ips: tuple[str, ...] = ()
    created_at: Instant = 0


CREATED, RUNNING, EXITED = "created", "running", "exited"


class ContainerStatus(Value, frozen=True):
    """A container as the runtime reports it. `state` is created, running or exited."""

    id: str
    sandbox_id: str
    pod_uid: str
    name: str
    attempt: int
    state: str
    image: str = ""
    image_id: str = ""
    created_at: Instant = 0
    started_at: Instant = 0
    finished_at: Instant = 0
    exit_code: int = 0
    reason: str = ""  # "OOMKilled", or empty: see the exit code
    message: str = ""
    spec_hash: str = ""
    init: bool = False


# --- operations -----------------------------------------------------------------------------------


class ListPods(Value, frozen=True):
    """List the sandboxes and containers of this cluster on this node; answered by `PodsListed`.
    `pod_uids`: only of these pods."""

    pod_uids: tuple[str, ...] = ()


class RunPodSandbox(Value, frozen=True):
    """Start the sandbox; answered by `SandboxStarted`."""

    config: SandboxConfig


class StopPodSandbox(Value, frozen=True):
    """Stop the sandbox and kill its running containers; answered by `Done`."""

    pod_uid: str
    sandbox_id: str


class RemovePodSandbox(Value, frozen=True):
    """Remove the sandbox with its containers and volumes; answered by `Done`."""

    pod_uid: str
    sandbox_id: str


class RegistryCredential(Value, frozen=True):
    """A user of a registry. It is never printed, so its text form shows nothing of it."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "RegistryCredential(...)"


class PullImage(Value, frozen=True):
    """Pull the image to the node, if the policy requires it. `policy` is Always, IfNotPresent or
    Never; answered by `ImagePulled`. The credentials are tried in this order; without any, the
    runtime uses its own."""

    pod_uid: str
    image: str
    policy: str
    credentials: tuple[RegistryCredential, ...] = ()


class CreateContainer(Value, frozen=True):
    """Create the container in its sandbox without starting it; answered by `ContainerCreated`."""

    sandbox_id: str
    config: ContainerConfig


class StartContainer(Value, frozen=True):
    """Start a created container; answered by `Done` with the runtime's status of it."""

    pod_uid: str
    container_id: str


class UpdateContainerResources(Value, frozen=True):
    """Give a running container these limits and shares, without a restart; answered by `Done`."""

    pod_uid: str
    container_id: str
    resources: Resources


class StopContainer(Value, frozen=True):
    """Send SIGTERM, then SIGKILL after so many seconds; answered by `Done` once the container has
    exited."""

    pod_uid: str
    container_id: str
    grace_period_seconds: int


class RemoveContainer(Value, frozen=True):
    """Remove a container that has exited, and its log; answered by `Done`."""

    pod_uid: str
    container_id: str


class Probe(Value, frozen=True):
    """Probe a container once; answered by `Probed`.

    `action` is http, tcp, grpc or exec. For http `host` may be empty (the pod's address), and
    `scheme` is HTTP or HTTPS. For grpc `path` is the name of the service. For exec `command` runs
    in the container.
    """

    pod_uid: str
    container_id: str
    action: str
    timeout_seconds: int = 1
    host: str = ""
    port: int = 0
    path: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()


class RunHook(Value, frozen=True):
    """Run a lifecycle hook (postStart, preStop) to its end or its timeout; answered by `Probed`."""

    pod_uid: str
    container_id: str
    action: str  # http, exec or sleep
    timeout_seconds: int
    host: str = ""
    port: int = 0
    path: str = ""
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    seconds: int = 0


class WriteVolume(Value, frozen=True):
    """Create a volume of the pod with these files, or update it atomically; without files it is an
    empty directory.

    `modes` and `users` have the permissions and owners of single files if they differ from the
    volume's `mode` and the kubelet's own user. `fs_group` (-1: none) owns the volume and everything
    created in it. `host_path` names a path of the node instead, and `image_id` an image on the node
    whose files the volume has. `medium` "Memory" requests a tmpfs of at most `size_limit_bytes`
    (0: no limit). Answered by `Done`.
    """

    pod_uid: str
    volume: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    mode: int = 0o644
    host_path: str = ""
    host_path_type: str = ""
    medium: str = ""
    modes: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)
    fs_group: int = -1
    size_limit_bytes: int = 0
    image_id: str = ""


class DescribeNode(Value, frozen=True):
    """Describe the machine and its resources; answered by `NodeDescribed`."""


class UpdateRuntimeConfig(Value, frozen=True):
    """Give the pods of this node addresses of this range, or of one of each family with a comma
    between them, as the CRI has it; answered by `Done`."""

    pod_cidr: str


# --- other servers --------------------------------------------------------------------------------


class Tls(Value, frozen=True):
    """How a connection to another server is made: whether its certificate is verified, by the name
    (empty: that of the URL) and by these PEM certificates of authorities (empty: those of the
    system); and the PEM certificate and key of this side, if it has one."""

    is_verified: bool = True
    server_name: str = ""
    authorities: bytes = b""
    certificate: bytes = b""
    key: bytes = b""


class Post(Value, frozen=True):
    """Send JSON to a scheduler extender. Without an answer within `seconds` the operation has
    failed, and the other server may have taken the request or not (SCHED-58)."""

    url: str
    body: bytes
    seconds: float
    tls: Tls = Tls()


Operation: TypeAlias = (
    ListPods | RunPodSandbox | StopPodSandbox | RemovePodSandbox | PullImage | CreateContainer | StartContainer | StopContainer
    | UpdateContainerResources | RemoveContainer | Probe | RunHook | WriteVolume | DescribeNode | UpdateRuntimeConfig
    | Post
)  # fmt: skip


# --- results --------------------------------------------------------------------------------------


class Failed(Value, frozen=True):
    """The operation had no effect, or only a part of it. `reason` is shown to users: ErrImagePull,
    RunContainerError ..."""

    reason: str
    message: str


class Done(Value, frozen=True):
    """The operation took effect. `status`: the container, if the operation was on one."""

    status: ContainerStatus | None = None


class PodsListed(Value, frozen=True):
    sandboxes: tuple[SandboxStatus, ...]
    containers: tuple[ContainerStatus, ...]


class SandboxStarted(Value, frozen=True):
    status: SandboxStatus


class ImagePulled(Value, frozen=True):
    image_id: str
    pulled: bool  # False: it was on the node already
    size_bytes: int = 0
    user: str = ""  # the image's own "user[:group]"; empty: root


class ContainerCreated(Value, frozen=True):
    status: ContainerStatus


class Probed(Value, frozen=True):
    """The outcome of a probe. `output` has the message of a failure; `unknown`: the probe could not
    run."""

    success: bool
    output: str = ""
    unknown: bool = False


class Resolver(Value, frozen=True):
    """How a node resolves names: the content of its resolv.conf. `pod_servers` are the servers as
    pods with a network of their own reach them."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    pod_servers: tuple[str, ...] = ()


class NodeDescribed(Value, frozen=True):
    """Facts for the Node object: addresses, capacity in base units, versions, images."""

    hostname: str
    internal_ip: str
    cpu_milli: int
    memory_bytes: int
    ephemeral_storage_bytes: int
    pods: int
    architecture: str
    operating_system: str
    os_image: str
    kernel_version: str
    container_runtime_version: str
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    images: tuple[tuple[tuple[str, ...], int], ...] = ()  # (names, bytes)
    memory_available_bytes: int = -1  # -1: not known
    disk_available_fraction: float = -1.0  # -1: not known
    pids_available: int = -1
    # of apparmor, seccomp, selinux: those that the runtime can enforce
    security_modules: tuple[str, ...] = ()
    resolver: Resolver = Resolver()
    network_error: str = ""  # why pods cannot have a network; empty if they can
    second_ip: str = ""  # of the other family than `internal_ip`; empty without one


class Posted(Value, frozen=True):
    """The answer of another server: the status code of HTTP and the body."""

    code: int
    body: bytes


Result: TypeAlias = (
    Failed
    | Done
    | PodsListed
    | SandboxStarted
    | ImagePulled
    | ContainerCreated
    | Probed
    | NodeDescribed
    | Posted
)


class Later(Value, frozen=True):
    """No result before this instant: the runtime is busy with the operation. Only a driver or the
    cluster handles this; it repeats the operation then. A machine never receives it."""

    at: Instant
