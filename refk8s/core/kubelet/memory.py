"""The memory of the kubelet of a node: the state of the runtime, running operations, and times of
the next attempts (spec/kubelet.md).

A crash discards all of it: the runtime and the API server have the data that matters, and the first
list of the runtime restores it (KUBELET-40).
"""

from collections.abc import Mapping

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod, PodSpec, PodStatus, ResourceRequirements
from refk8s.core.context import Instant
from refk8s.core.kubelet.backoff import Backoff
from refk8s.core.kubelet.objects import Held
from refk8s.core.pods.containers import field_path
from refk8s.core.ports import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerStatus,
    NodeDescribed,
    Probe,
    SandboxStatus,
)
from refk8s.core.value import Value, evolve

# The operation that runs on a container or sandbox, at most one (KUBELET-3); "" is none.
PULL, CREATE, START, POST_START, PRE_STOP, STOP, UPDATE = (
    "pull",
    "create",
    "start",
    "postStart",
    "preStop",
    "stop",
    "update",
)
RUN, REMOVE = "run", "remove"

# The reasons for which the kubelet stops a running container to restart it.
CHANGED, LIVENESS, STARTUP, SANDBOX, HOOK = "changed", "liveness", "startup", "sandbox", "postStart"
RESIZED = "resized"
STOPS_WITHOUT_BACKOFF = (CHANGED, SANDBOX, RESIZED)
"""Stops that are not a failure of the container: the restart has no back-off."""

NEVER: Instant = 1 << 62

# The status of an attempt that the runtime has lost.
LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The container could not be located when the pod was terminated"


class Note(Value, frozen=True):
    """An Event to record about a pod, kept until the next reconcile."""

    reason: str
    message: str
    type: str = "Normal"
    container: str = ""  # "spec.containers{name}"


class ProbeMemory(Value, frozen=True):
    """One probe of one attempt of a container: its result, and the time of its next run."""

    container_id: str
    result: bool | None  # None: no result yet
    last: bool | None = None
    streak: int = 0  # consecutive results equal to `last`
    due: Instant = 0
    asking: Probe | None = None  # the run that is under way


class ContainerMemory(Value, frozen=True):
    """One container of a pod by name: its attempts in the runtime, and the next attempt.

    `current` is the newest attempt, `last` the one before it; `stale` are older ones, which are
    removed.
    """

    current: ContainerStatus | None = None
    last: ContainerStatus | None = None
    stale: tuple[str, ...] = ()
    operation: str = ""
    image: str = ""  # that `image_id` and `pull_backoff` are about; empty: none was pulled
    image_id: str = ""  # on the node, for the next attempt
    image_user: str = ""  # "user[:group]" of that image; empty: root
    reason: str = ""  # why it is waiting
    message: str = ""
    pull_backoff: Backoff | None = None
    crash_backoff: Backoff | None = None
    retry_at: Instant = 0  # after a failed create or stop
    removing: bool = False
    stop_reason: str = ""  # why a running attempt is stopped and restarted
    grace_until: Instant = NEVER  # the instant of SIGKILL at the latest
    post_start_pending: bool = False  # postStart is still to run
    pre_stop_done: bool = False  # preStop has run in this attempt, or is skipped
    probes: Mapping[str, ProbeMemory] = {}
    # the resources of the newest attempt; None: not known
    applied: ResourceRequirements | None = None
    updating: ResourceRequirements | None = None  # what an update in progress gives it
    resize_error: str = ""  # of the last update

    @property
    def running(self) -> bool:
        return self.current is not None and self.current.state == RUNNING

    @property
    def created(self) -> bool:
        return self.current is not None and self.current.state == CREATED

    @property
    def exited(self) -> bool:
        return self.current is not None and self.current.state == EXITED

    def after_exit(self, status: ContainerStatus) -> "ContainerMemory":
        """The container after its newest attempt has exited, with no operation running on it."""
        return replace(
            self,
            current=status,
            operation=self.operation if self.operation == PULL else "",
            image_id="",
            reason="",
            message="",
            post_start_pending=False,
            pre_stop_done=False,
            grace_until=NEVER,
            probes={},
        )


NO_CONTAINER = ContainerMemory()


class PodMemory(Value, frozen=True):
    """One pod of this node, by uid."""

    uid: str
    namespace: str
    name: str
    pod: Pod | None = None  # as last seen in the view; None: only the runtime has it
    seen_at: Instant = 0
    since: int = -1  # its revision when it was first seen; -1: not seen yet
    started_at: Instant = 0  # status.startTime
    admitted: bool = False
    uses: Mapping[str, int] = {}  # its share of the node's resources
    allocated: Mapping[str, ResourceRequirements] = {}  # by container, as admitted or resized
    allocated_for: PodSpec | None = None  # the spec for which that was decided
    resize_pending: tuple[str, str] = ("", "")  # (reason, message)
    rejected: tuple[str, str] | None = None  # (reason, message)
    sandbox: SandboxStatus | None = None  # the newest
    dead_sandboxes: tuple[SandboxStatus, ...] = ()
    sandbox_operation: str = ""
    sandbox_attempt: int = 0  # of the next
    sandbox_retry_at: Instant = 0  # after a failed start
    end_retry_at: Instant = 0  # after a failed stop or removal
    containers: Mapping[str, ContainerMemory] = {}
    volumes: Mapping[str, str] = {}  # volume -> fingerprint of what was written
    # image of a volume -> its id; PULL while it is pulled
    volume_images: Mapping[str, str] = {}
    volume_writes_running: int = 0
    volumes_retry_at: Instant = 0
    volumes_due: Instant = 0  # when they are checked again; 0: now
    complained_at: Instant = 0  # about a volume
    mounted: tuple[str, ...] = ()  # the objects that its volumes show
    busy_since: Instant = 0  # start of the running operations; 0: none runs
    listing: bool = False
    in_whole_list: bool = False  # the list in progress is that of the whole runtime
    has_waited: bool = False  # it was reconciled during the list in progress
    dirty: bool = False  # the runtime reported a change: list again
    # why it ends: "deleted", "gone", "deadline", "rejected", "finished", "terminal"
    ending: str = ""
    ending_at: Instant = 0  # since when
    ended: bool = False  # no container runs and the network is down
    removed: bool = False  # nothing of it is left on the node
    notes: tuple[Note, ...] = ()

    @property
    def busy(self) -> bool:
        """Whether operations that change the pod are running (image pulls do not)."""
        if self.sandbox_operation or self.volume_writes_running:
            return True
        for container in self.containers.values():
            if container.operation and container.operation != PULL:
                return True
        return False

    def container(self, name: str) -> ContainerMemory:
        return self.containers.get(name, NO_CONTAINER)

    def with_container(self, name: str, container: ContainerMemory, *notes: Note) -> "PodMemory":
        containers = {**self.containers, name: container}
        if not notes:
            return replace(self, containers=containers)
        return replace(self, containers=containers, notes=(*self.notes, *notes))

    def with_notes(self, *notes: Note) -> "PodMemory":
        return replace(self, notes=(*self.notes, *notes))

    def field_path(self, name: str) -> str:
        """The place of a container in the pod, as Events have it."""
        return field_path(self.pod.spec if self.pod is not None else None, name)


class Sent(Value, frozen=True, eq=False):
    """The last status that was sent, and the memory of the pod from which it was computed."""

    memory: PodMemory
    status: PodStatus


class NodeMemory(Value, frozen=True):
    """The memory that the reconcilers of one kubelet share."""

    pods: Map[str, PodMemory] = Map()
    listed: bool = False  # the runtime has been listed once
    begun: bool = False  # and the machine is described: pods may be reconciled
    listing: bool = False
    list_failures: int = 0
    relist_at: Instant = 0
    described: NodeDescribed | None = None
    describe_error: str = ""
    describing: bool = False
    described_at: Instant = 0  # when the last description was requested
    host_ips: tuple[str, ...] = ()  # the addresses of the node that the statuses of pods show
    registered: bool = False
    renewed_at: Instant = 0  # when the last renewal of the Lease was sent
    renewal_fails: bool = False
    status_at: Instant = 0
    pod_cidr: str = ""  # the range that the runtime was configured with
    configuring: str = ""  # the one that it is being configured with
    network_error: str = ""  # of the last attempt
    configured_at: Instant = 0  # the end of the last attempt
    # by admitted pods that have not ended: milli-CPUs, and whole units of all others
    used: Mapping[str, int] = {}
    objects: Map[str, Held] = Map()  # config maps, secrets, tokens
    sent: Map[str, Sent] = Map()  # by uid of the pod, until the view shows the status


def lost_status(status: ContainerStatus, now: Instant) -> ContainerStatus:
    """The status of an attempt that the runtime has lost: its exit code is unknown."""
    return evolve(
        status,
        state=EXITED,
        exit_code=LOST_EXIT_CODE,
        reason=LOST_REASON,
        message=LOST_MESSAGE,
        finished_at=now,
    )


def live_sandbox(memory: PodMemory) -> SandboxStatus | None:
    """The sandbox in which containers may be created, or None."""
    sandbox = memory.sandbox
    return (
        sandbox if sandbox is not None and sandbox.ready and not memory.sandbox_operation else None
    )
