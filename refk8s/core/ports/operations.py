"""Operations of a container runtime and their results, by the names of the Container Runtime
Interface (CRI).

Every operation may be repeated after a crash of the agent: running what runs and removing what is
gone succeed. Source: Kubernetes documentation, "Container Runtime Interface (CRI)".
"""

from collections.abc import Mapping
from typing import TypeAlias

from refk8s.core.context import Instant
from refk8s.core.value import Value, field

# --- what runs ------------------------------------------------------------------------------------


class PortMapping(Value, frozen=True):
    """A host port that leads to a port of the pod."""

    container_port: int
    host_port: int
    protocol: str = "TCP"
    host_ip: str = ""


class SandboxConfig(Value, frozen=True):
    """A pod's sandbox: the pause container that owns its network."""

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
    """A file or directory of the node's agent shown in a container. `source` names a volume of the
    pod that the adapter keeps."""

    source: str
    path: str
    read_only: bool = False
    # a volume that the agent alone writes: no container can change what its paths lead to
    managed: bool = False
    # HostToContainer, Bidirectional or empty: mounts made later are seen on neither side
    propagation: str = ""
    recursive_read_only: bool = False  # what is mounted below it must be read-only too


class Resources(Value, frozen=True):
    """Limits of a container: milli-CPUs (0: none), bytes of memory (0: none), and the share of CPU
    that was requested."""

    cpu_limit_milli: int = 0
    memory_limit_bytes: int = 0
    cpu_request_milli: int = 0


class ContainerConfig(Value, frozen=True):
    """A container to make in a sandbox. `attempt` counts its restarts in this pod."""

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
    user: str = ""  # "user", "user:group" or empty: the image's own
    groups: tuple[int, ...] = ()  # further groups
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    seccomp: str = ""  # RuntimeDefault, Unconfined, "Localhost/NAME" or empty: as the runtime does
    app_armor: str = ""  # the same
    se_linux: tuple[tuple[str, str], ...] = ()  # (user, role, type or level; value)
    unmasked_proc: bool = False
    capabilities_add: tuple[str, ...] = ()
    capabilities_drop: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False  # its stdin ends with that of the first client who attaches
    # it is expected to end by itself: an init container, a Job's, a command that is not restarted
    runs_to_end: bool = False
    termination_grace_seconds: int = 30
    # a file in the container whose content is told when it has ended
    termination_message_path: str = ""
    # where that is empty and it failed: the end of its log
    termination_message_from_log: bool = False
    spec_hash: str = ""  # changes when the container must be made anew
    image_id: str = ""  # as the pull answered; empty: whatever has the name
    hosts: str = ""  # what /etc/hosts holds; empty: as the runtime makes it
    # the lines of the node's own /etc/hosts come after the first of `hosts`
    host_network: bool = False


class SandboxStatus(Value, frozen=True):
    """A sandbox as the runtime sees it."""

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
    """A container as the runtime sees it. `state` is created, running or exited."""

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
    reason: str = ""  # "OOMKilled" or empty: the exit code tells
    message: str = ""
    spec_hash: str = ""
    init: bool = False


# --- operations -----------------------------------------------------------------------------------


class ListPods(Value, frozen=True):
    """Everything of ours on this node: answered by `PodsListed`. With `pod_uids`, only those
    pods."""

    pod_uids: tuple[str, ...] = ()


class RunPodSandbox(Value, frozen=True):
    """Start the sandbox; answered by `SandboxStarted`."""

    config: SandboxConfig


class StopPodSandbox(Value, frozen=True):
    """Stop the sandbox and kill what still runs in it; answered by `Done`."""

    pod_uid: str
    sandbox_id: str


class RemovePodSandbox(Value, frozen=True):
    """Remove the sandbox with its containers and volumes; answered by `Done`."""

    pod_uid: str
    sandbox_id: str


class PullImage(Value, frozen=True):
    """Have the image on the node. `policy` is Always, IfNotPresent or Never; answered by
    `ImagePulled`."""

    pod_uid: str
    image: str
    policy: str


class CreateContainer(Value, frozen=True):
    """Make the container in its sandbox, not started; answered by `ContainerCreated`."""

    sandbox_id: str
    config: ContainerConfig


class StartContainer(Value, frozen=True):
    """Start a created container; answered by `Done` with the runtime's status of it."""

    pod_uid: str
    container_id: str


class StopContainer(Value, frozen=True):
    """SIGTERM, then SIGKILL after so many seconds; answered by `Done` once it has ended."""

    pod_uid: str
    container_id: str
    grace_period_seconds: int


class RemoveContainer(Value, frozen=True):
    """Remove an ended container and its log; answered by `Done`."""

    pod_uid: str
    container_id: str


class Probe(Value, frozen=True):
    """Ask a container once; answered by `Probed`.

    `action` is http, tcp, grpc or exec. For http `host` may be empty (the pod's address), `scheme`
    HTTP or HTTPS; for grpc `path` is the service asked about; for exec `command` runs in the
    container.
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
    """A lifecycle hook (postStart, preStop): like a probe, but run to its end or the timeout;
    answered by `Probed`."""

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
    """Make (or refresh, atomically) a volume of the pod from these files; an empty mapping makes an
    empty directory.

    `modes` and `users` have the permissions and owners of single files where they are not the
    volume's `mode` and the agent's own user. `fs_group` (-1: none) owns the volume and what is made
    in it. `host_path` names a path of the node instead; `medium` "Memory" asks for a tmpfs, of at
    most `size_limit_bytes` (0: no limit). Answered by `Done`.
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


class DescribeNode(Value, frozen=True):
    """What the machine is and has; answered by `NodeDescribed`."""


Operation: TypeAlias = (
    ListPods | RunPodSandbox | StopPodSandbox | RemovePodSandbox | PullImage | CreateContainer | StartContainer | StopContainer
    | RemoveContainer | Probe | RunHook | WriteVolume | DescribeNode
)  # fmt: skip


# --- results --------------------------------------------------------------------------------------


class Failed(Value, frozen=True):
    """The operation did not take effect, or not wholly. `reason` is a word that users see:
    ErrImagePull, RunContainerError ..."""

    reason: str
    message: str


class Done(Value, frozen=True):
    """It took effect. `status` is the container as it is now, where the operation was about one."""

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
    user: str = ""  # "user[:group]" that it runs as where nobody says otherwise; empty: root


class ContainerCreated(Value, frozen=True):
    status: ContainerStatus


class Probed(Value, frozen=True):
    """`success` False with the words of the failure; `unknown` where the question itself could not
    be put."""

    success: bool
    output: str = ""
    unknown: bool = False


class NodeDescribed(Value, frozen=True):
    """Facts for the Node object: addresses, capacity in quantities' base units, versions,
    images."""

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


Result: TypeAlias = (
    Failed
    | Done
    | PodsListed
    | SandboxStarted
    | ImagePulled
    | ContainerCreated
    | Probed
    | NodeDescribed
)


class Later(Value, frozen=True):
    """No result yet: the runtime is at it until this instant. Who carries operations out asks again
    then; no machine ever hears of it."""

    at: Instant
