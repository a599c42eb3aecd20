"""Termination messages of containers: a file of this machine at the pod's path. Rule RT-16.

| the file | the policy is FallbackToLogsOnError, and it failed | the message |
|---|---|---|
| not empty | any | its first 4096 bytes |
| empty | yes | the last 80 lines of the log, at most their last 2048 bytes |
| empty | no | none |

Source: Kubernetes documentation, "Determine the Reason for Pod Failure".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.adapters.linux.tree import UnsafePath
from refk8s.core.ports import EXITED, ContainerConfig, ContainerStatus
from refk8s.core.value import evolve

FILE_BYTES_MAX = 4096
LOG_LINES_MAX = 80
LOG_BYTES_MAX = 2048


class Messages:
    """The files of one cluster's containers."""

    def __init__(self, engine: Engine, volumes: Volumes) -> None:
        self._engine = engine
        self._volumes = volumes

    @staticmethod
    def _name(container: str, attempt: int | str) -> str:
        return f"{container}.{attempt}.message"

    def prepare(self, config: ContainerConfig) -> Path:
        """Create an empty file that every user in the container may write."""
        return self._volumes.write_file(
            config.pod_uid, self._name(config.name, config.attempt), b"", 0o666
        )

    def status(self, inspected: Mapping[str, Any]) -> ContainerStatus:
        """The container's status, with its message after its end (RT-16)."""
        status = labels.container_status(inspected)
        if status.state != EXITED or status.message:
            return status
        return evolve(status, message=self._file(status) or self._log(status, inspected["Config"]))

    def _file(self, status: ContainerStatus) -> str:
        try:
            found = self._volumes.read_file(
                status.pod_uid, self._name(status.name, status.attempt), FILE_BYTES_MAX
            )
        except UnsafePath:
            return ""  # These labels are not written by refk8s.
        return (found or b"").decode("utf-8", "replace")

    def _log(self, status: ContainerStatus, config: Mapping[str, Any]) -> str:
        if not status.exit_code or (config["Labels"] or {}).get(labels.MESSAGE_FROM_LOG) != "1":
            return ""
        try:
            log: bytes = self._engine.found("logs", status.id, tail=LOG_LINES_MAX) or b""
        except Refused:
            return ""
        return log[-LOG_BYTES_MAX:].decode("utf-8", "replace")
