"""Executes operations on the engine. Called in worker threads, independent of the event loop.

Every operation is idempotent (RT-3): a running container is left running, and the removal of a
missing one succeeds.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused, Unreachable
from refk8s.adapters.docker.engine.images import Images
from refk8s.adapters.docker.engine.location import engine_process
from refk8s.adapters.docker.engine.network import Network, NoAddress
from refk8s.adapters.docker.engine.volumes import EngineVolumes
from refk8s.adapters.docker.machine import describe
from refk8s.adapters.docker.pods.containers import Containers
from refk8s.adapters.docker.pods.image_volumes import ImageVolumes
from refk8s.adapters.docker.pods.listing import Listing
from refk8s.adapters.docker.pods.sandboxes import Sandboxes, remove_container
from refk8s.adapters.docker.pods.termination_messages import Messages
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.adapters.linux import abilities
from refk8s.adapters.linux.tree import NotPossible
from refk8s.core.network.node_routes import NONE
from refk8s.core.ports import (
    RUNNING,
    ContainerStatus,
    CreateContainer,
    DescribeNode,
    Done,
    Failed,
    ListPods,
    Operation,
    PullImage,
    RemoveContainer,
    RemovePodSandbox,
    Result,
    RunPodSandbox,
    StartContainer,
    StopPodSandbox,
    UpdateContainerResources,
    UpdateRuntimeConfig,
    WriteVolume,
)

Answer = TypeVar("Answer")


class Operations:
    """The operations of one node on its engine."""

    def __init__(
        self,
        cluster: str,
        data: Path,
        node_name: str,
        node_ip: str,
        engine: Engine | None = None,
        resolv_conf: Path | None = None,
        network_mode: str = NONE,
    ) -> None:
        self.engine = Engine() if engine is None else engine
        self.cluster = cluster
        self.node_ip = node_ip
        self.abilities = abilities.look(engine_process())
        self.volumes = Volumes(data / "pods", self.abilities)
        self.network = Network(self.engine, cluster, node_ip, network_mode)
        self.images = Images(self.engine, os.uname().machine)
        self.image_volumes = ImageVolumes(self.engine, cluster, self.images, self.volumes)
        self.messages = Messages(self.engine, self.volumes)
        self.containers = Containers(
            self.engine, cluster, self.volumes, self.messages, self.abilities, data / "seccomp"
        )
        self.sandboxes = Sandboxes(
            self.engine, cluster, self.network, self.images, self.volumes, self.abilities
        )
        self.listing = Listing(self.engine, cluster, self.sandboxes, self.messages)
        self._data = data
        self._node_name = node_name
        self._resolv_conf = resolv_conf
        self._handlers: dict[type, Callable[[Any], Result]] = {
            ListPods: self.listing.list,
            RunPodSandbox: self.sandboxes.run,
            StopPodSandbox: self.sandboxes.stop,
            RemovePodSandbox: self.sandboxes.remove,
            PullImage: self.images.pull,
            CreateContainer: self.containers.create,
            StartContainer: self.containers.start,
            UpdateContainerResources: self.containers.update,
            RemoveContainer: self.containers.remove,
            WriteVolume: self._write_volume,
            DescribeNode: self._describe,
            UpdateRuntimeConfig: self._configure,
        }

    def carry_out(self, operation: Operation) -> Result:
        """Execute an operation; an error is a result too."""
        return self.answer(operation, self._handlers[type(operation)])

    def answer(self, operation: Operation, handler: Callable[[Any], Answer]) -> Answer | Failed:
        """Call this handler with the operation; an error is an answer too."""
        try:
            return handler(operation)
        except Refused as error:
            return Failed(REASONS.get(type(operation), ""), error.words)
        except Unreachable as error:
            return Failed("RuntimeUnavailable", f"the engine does not answer: {error}")
        except (NotPossible, NoAddress) as error:
            return Failed(REASONS.get(type(operation), ""), str(error))
        except OSError as error:
            return Failed(
                REASONS.get(type(operation), ""),
                f"{error.strerror or error}: {error.filename or ''}".rstrip(": "),
            )

    def _write_volume(self, operation: WriteVolume) -> Result:
        return (self.image_volumes if operation.image_id else self.volumes).write(operation)

    def _describe(self, operation: DescribeNode) -> Result:
        return describe(
            self.engine,
            self.images,
            self._node_name,
            self.network.node_ips,
            self._data,
            self._resolv_conf,
            self.network.problem(),
        )

    def _configure(self, operation: UpdateRuntimeConfig) -> Result:
        problem = self.network.configure(operation.pod_cidr)
        return Failed("NetworkNotReady", problem) if problem else Done()

    def terminate(self, id: str) -> ContainerStatus | Failed | None:
        """Send the stop signal to a container, as the first step of StopContainer."""
        return self._status(self.containers.terminate, id)

    def kill(self, id: str) -> ContainerStatus | Failed | None:
        """Kill a container."""
        return self._status(self.containers.kill, id)

    def status(self, id: str) -> ContainerStatus | Failed | None:
        """The status of a container; None if it does not exist."""
        return self._status(self.containers.status, id)

    def _status(
        self, ask: Callable[[str], ContainerStatus | None], id: str
    ) -> ContainerStatus | Failed | None:
        try:
            return ask(id)
        except Refused as error:
            return Failed("", error.words)
        except Unreachable as error:
            return Failed("RuntimeUnavailable", f"the engine does not answer: {error}")

    # --- removing everything ----------------------------------------------------------------------

    def remove_everything(self, grace_seconds: float, threads: int = 8) -> None:
        """Stop and remove all containers of the cluster, then its network and volumes (RT-8).

        Sandboxes are removed after the other containers.
        """
        found = self.engine.call(
            "containers", all=True, filters={"label": f"{labels.CLUSTER}={self.cluster}"}
        )
        inside = [c for c in found if c["Labels"].get(labels.TYPE) != labels.IS_SANDBOX]
        running = [c["Id"] for c in inside if labels.STATES.get(c["State"]) == RUNNING]
        _in_threads(self.terminate, running, threads)
        self._wait_for(running, grace_seconds)
        for group in (
            inside,
            [c for c in found if c["Labels"].get(labels.TYPE) == labels.IS_SANDBOX],
        ):
            _in_threads(
                lambda id: remove_container(self.engine, id), [c["Id"] for c in group], threads
            )
        self.network.remove()
        EngineVolumes(self.engine, self.cluster).remove()
        self.volumes.remove_all()

    def _wait_for(self, ids: list[str], seconds: float) -> None:
        """Wait until none of these runs, or until the timeout."""
        wait = threading.Event()
        wanted = {"label": f"{labels.CLUSTER}={self.cluster}", "status": "running"}
        for _ in range(int(seconds / WAIT_SECONDS)):
            running = {c["Id"] for c in self.engine.call("containers", filters=wanted)}
            if not running.intersection(ids):
                return
            wait.wait(WAIT_SECONDS)


WAIT_SECONDS = 0.2

REASONS: dict[type, str] = {
    RunPodSandbox: "FailedCreatePodSandBox",
    PullImage: "ErrImagePull",
    CreateContainer: "CreateContainerError",
    StartContainer: "RunContainerError",
    WriteVolume: "FailedMount",
}


def _in_threads(work: Callable[[str], Any], ids: list[str], threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, ids))
