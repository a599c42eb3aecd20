"""The labels of this cluster's containers, and the status of a container from its labels and the
engine's answer. Rules RT-1, RT-2.

The labels have everything that a restarted kubelet needs to know about a container. They are
written when the container is created, and nothing is kept elsewhere.
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.ports import (
    CREATED,
    EXITED,
    RUNNING,
    ContainerConfig,
    ContainerStatus,
    SandboxConfig,
    SandboxStatus,
)

PREFIX = "refk8s."
CLUSTER = PREFIX + "cluster"
TYPE = PREFIX + "type"
POD_UID = PREFIX + "pod-uid"
NAMESPACE = PREFIX + "namespace"
POD = PREFIX + "pod"
CONTAINER = PREFIX + "container"
SANDBOX = PREFIX + "sandbox"
ATTEMPT = PREFIX + "attempt"
SPEC_HASH = PREFIX + "spec-hash"
INIT = PREFIX + "init"
IMAGE = PREFIX + "image"
HOST_PID = PREFIX + "host-pid"
MESSAGE_FROM_LOG = PREFIX + "message-from-log"

IS_SANDBOX, IS_CONTAINER = "sandbox", "container"
IS_COPY = "copy"
"""A container that is never started: it copies an image to a volume (RT-40)."""

STATES = {
    "created": CREATED,
    "running": RUNNING,
    "paused": RUNNING,
    "restarting": RUNNING,
    "exited": EXITED,
    "dead": EXITED,
    "removing": EXITED,
}
"""The state in the runtime interface for each state of the engine."""

Labels = Mapping[str, str]


def sandbox_labels(cluster: str, config: SandboxConfig) -> dict[str, str]:
    """The labels of a pod's sandbox (RT-1)."""
    return {
        CLUSTER: cluster,
        TYPE: IS_SANDBOX,
        POD_UID: config.pod_uid,
        NAMESPACE: config.namespace,
        POD: config.name,
        ATTEMPT: str(config.attempt),
        HOST_PID: str(int(config.host_pid)),
    }


def container_labels(cluster: str, sandbox_id: str, config: ContainerConfig) -> dict[str, str]:
    """The labels of a container (RT-1)."""
    return {
        CLUSTER: cluster,
        TYPE: IS_CONTAINER,
        POD_UID: config.pod_uid,
        NAMESPACE: config.namespace,
        POD: config.pod_name,
        CONTAINER: config.name,
        SANDBOX: sandbox_id,
        ATTEMPT: str(config.attempt),
        SPEC_HASH: config.spec_hash,
        INIT: str(int(config.init)),
        IMAGE: config.image,
        MESSAGE_FROM_LOG: str(int(config.termination_message_from_log)),
    }


def sandbox_name(config: SandboxConfig) -> str:
    """The name of a sandbox in the engine. Names are unique, so a second creation of the same
    sandbox finds the first one (RT-3). No container has the name POD."""
    return f"refk8s_POD_{config.name}_{config.namespace}_{config.pod_uid}_{config.attempt}"


def container_name(config: ContainerConfig) -> str:
    """The name of a container in the engine."""
    return f"refk8s_{config.name}_{config.pod_name}_{config.namespace}_{config.pod_uid}_{config.attempt}"


def sandbox_status(
    id: str, labels: Labels, state: str, ips: tuple[str, ...], created_at: Instant
) -> SandboxStatus:
    """The status of a sandbox from its labels and the engine. A sandbox that does not run has no
    address."""
    ready = STATES.get(state) == RUNNING
    return SandboxStatus(
        id=id,
        pod_uid=labels.get(POD_UID, ""),
        namespace=labels.get(NAMESPACE, ""),
        name=labels.get(POD, ""),
        attempt=number(labels.get(ATTEMPT)),
        ready=ready,
        ips=ips if ready else (),
        created_at=created_at,
    )


def container_status(inspected: Mapping[str, Any]) -> ContainerStatus:
    """The status of a container from the engine's answer to an inspect request (RT-2)."""
    labels: Labels = inspected["Config"]["Labels"] or {}
    state = inspected["State"]
    status = STATES.get(state["Status"], EXITED)
    oom = bool(state.get("OOMKilled"))
    return ContainerStatus(
        id=inspected["Id"],
        sandbox_id=labels.get(SANDBOX, ""),
        pod_uid=labels.get(POD_UID, ""),
        name=labels.get(CONTAINER, ""),
        attempt=number(labels.get(ATTEMPT)),
        state=status,
        image=labels.get(IMAGE, ""),
        image_id=inspected.get("Image", ""),
        created_at=instant(inspected.get("Created")),
        started_at=instant(state.get("StartedAt")) if status != CREATED else 0,
        finished_at=instant(state.get("FinishedAt")) if status == EXITED else 0,
        exit_code=int(state.get("ExitCode") or 0) if status == EXITED else 0,
        reason="OOMKilled" if oom and status == EXITED else "",
        message=str(state.get("Error") or "") if status == EXITED else "",
        spec_hash=labels.get(SPEC_HASH, ""),
        init=labels.get(INIT) == "1",
    )


def number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def instant(text: str | None) -> Instant:
    """The instant of a time in the engine's answers; 0 for the year 1, which means never."""
    if not text or text.startswith("0001-"):
        return 0
    return parse_timestamp(text)


def whole_seconds(moment: Instant) -> Instant:
    """The instant in whole seconds, because the lists of the engine have only these."""
    return moment - moment % SECOND
