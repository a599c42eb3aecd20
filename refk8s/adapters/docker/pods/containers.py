"""Creates, starts, stops and removes the containers of pods.

Rules RT-1, RT-3, RT-4, RT-9, RT-34, RT-35.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.engine.volumes import EngineVolumes
from refk8s.adapters.docker.pods.sandboxes import RESOLV_CONF, remove_container
from refk8s.adapters.docker.pods.termination_messages import Messages
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.adapters.linux import tree
from refk8s.adapters.linux.abilities import Abilities
from refk8s.adapters.linux.tree import NotPossible
from refk8s.core.ports import (
    CREATED,
    RUNNING,
    ContainerConfig,
    ContainerCreated,
    ContainerStatus,
    CreateContainer,
    Done,
    Failed,
    Mount,
    RemoveContainer,
    Resources,
    Result,
    StartContainer,
    UpdateContainerResources,
)

CPU_PERIOD = 100_000
CPU_QUOTA_MIN = 1_000
CPU_SHARES_MIN = 2
_OF_UPDATE = {
    "CpuShares": "cpu_shares",
    "CpuPeriod": "cpu_period",
    "CpuQuota": "cpu_quota",
    "Memory": "mem_limit",
    "MemorySwap": "memswap_limit",
}
"""The names of limits in the client's call."""
NODE_HOSTS = "/etc/hosts"
HOSTS_BYTES_MAX = 1 << 20
PROFILE_BYTES_MAX = 1 << 20
PROPAGATIONS = {"HostToContainer": "rslave", "Bidirectional": "rshared"}
# of the engine's API; earlier versions ignore unknown fields
RECURSIVE_READ_ONLY_VERSION = (1, 44)
LOG_OPTIONS = {"max-size": "10m", "max-file": "5"}
"""A container's log is rotated at this size, the kubelet's default."""


class Containers:
    """The containers of one cluster on one engine."""

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        volumes: Volumes,
        messages: Messages,
        abilities: Abilities,
        profiles: Path,
    ) -> None:
        """`profiles`: the directory of the node's seccomp profiles."""
        self._profiles = profiles
        self._engine = engine
        self._cluster = cluster
        self._engine_volumes = EngineVolumes(engine, cluster)
        self._volumes = volumes
        self._messages = messages
        self._abilities = abilities

    def create(self, operation: CreateContainer) -> Result:
        """Create the container; an existing one is reused unless it was started (RT-3)."""
        config = operation.config
        sandbox = self._engine.found("inspect_container", operation.sandbox_id)
        if sandbox is None or sandbox["State"]["Status"] != "running":
            return Failed(
                "CreateContainerError", f"sandbox {operation.sandbox_id[:12]} does not run"
            )
        name = labels.container_name(config)
        try:
            id = self._engine.call(
                "create_container_from_config", self._body(operation, sandbox), name=name
            )["Id"]
        except NotPossible as error:
            return Failed("CreateContainerConfigError", str(error))
        except Refused as error:
            if not error.is_conflict:
                return Failed("CreateContainerError", error.words)
            found = self._engine.found("inspect_container", name)
            if found is None:
                return Failed("CreateContainerError", error.words)
            status = labels.container_status(found)
            if status.state == CREATED and status.sandbox_id == operation.sandbox_id:
                return ContainerCreated(status)
            return Failed(
                "CreateContainerError",
                f"attempt {config.attempt} of container {config.name} exists already",
            )
        made = self.status(id)
        return (
            ContainerCreated(made)
            if made is not None
            else Failed("CreateContainerError", "the container was removed at once")
        )

    def _own(self, id: str, pod_uid: str = "") -> dict[str, Any] | None:
        """Inspect a container of this cluster (and pod); None for any other (STREAM-1).

        A restarted kubelet reads ids from the status of its pods, which clients can write.
        """
        found: dict[str, Any] | None = self._engine.found("inspect_container", id)
        its = (found["Config"]["Labels"] or {}) if found is not None else {}
        is_own = its.get(labels.CLUSTER) == self._cluster and (
            not pod_uid or its.get(labels.POD_UID) == pod_uid
        )
        return found if is_own else None

    def status(self, id: str, pod_uid: str = "") -> ContainerStatus | None:
        """The status of a container of this cluster (and pod), or None."""
        found = self._own(id, pod_uid)
        return self._messages.status(found) if found is not None else None

    def start(self, operation: StartContainer) -> Result:
        """Start the container, unless it runs or has ended (RT-3)."""
        status = self.status(operation.container_id, operation.pod_uid)
        if status is None:
            return Failed("RunContainerError", "no such container")
        if status.state == CREATED:
            made = self._own(operation.container_id, operation.pod_uid)
            if made is not None and not all(
                self._volumes.is_held(place) for place in self._engine_volumes.places(made)
            ):
                return Failed("RunContainerError", "a subPath was open in an agent that has ended")
            try:
                self._engine.call("start", operation.container_id)
            except Refused as error:
                return Failed("RunContainerError", error.words)
            finally:
                self._volumes.release(status.pod_uid, status.name)
            status = self.status(operation.container_id)
        return Done(status)

    def update(self, operation: UpdateContainerResources) -> Result:
        """Change the limits and shares of a running container (RESIZE-4)."""
        found = self._own(operation.container_id, operation.pod_uid)
        if found is None or labels.STATES.get(found["State"]["Status"]) != RUNNING:
            return Failed("", "the container does not run")
        limits = compute_limits(operation.resources)
        words = {_OF_UPDATE[name]: value for name, value in limits.items()}
        self._engine.call("update_container", operation.container_id, **words)
        return Done()

    def terminate(self, id: str) -> ContainerStatus | None:
        """Send the stop signal of its image, without waiting; returns the status, or None."""
        found = self._own(id)
        if found is None:
            return None
        if found["State"]["Status"] == "paused":
            self._engine.found("unpause", id)
        if labels.STATES.get(found["State"]["Status"]) == RUNNING:
            self._signal(id, found["Config"].get("StopSignal") or "SIGTERM")
        return self.status(id)

    def kill(self, id: str) -> ContainerStatus | None:
        """Kill the container; returns its status, or None."""
        if self._own(id) is None:
            return None
        self._signal(id, "SIGKILL")
        return self.status(id)

    def _signal(self, id: str, name: str) -> None:
        try:
            self._engine.found("kill", id, signal=name)
        except Refused as error:
            if not error.is_conflict and "is not running" not in error.words:
                raise

    def remove(self, operation: RemoveContainer) -> Result:
        """Remove the container with its log."""
        found = self._own(operation.container_id, operation.pod_uid)
        if found is None:
            return Done()
        if labels.STATES.get(found["State"]["Status"]) == RUNNING:
            return Failed("", "the container runs")
        remove_container(self._engine, operation.container_id)
        self._engine_volumes.remove_of(found)
        return Done()

    # --- the request to the engine ----------------------------------------------------------------

    def _body(self, operation: CreateContainer, sandbox: dict[str, Any]) -> dict[str, Any]:
        config = operation.config
        joined = f"container:{operation.sandbox_id}"
        host: dict[str, Any] = {
            "NetworkMode": joined,
            "IpcMode": "host" if sandbox["HostConfig"]["IpcMode"] == "host" else joined,
            "PidMode": self._process_namespace(config, sandbox),
            "Mounts": self._mounts(config),
            "LogConfig": {"Type": "json-file", "Config": LOG_OPTIONS},
            "ReadonlyRootfs": config.read_only_root,
            "RestartPolicy": {"Name": "no"},
            **compute_limits(config.resources),
            "OomScoreAdj": self._abilities.oom_score_adj(config.oom_score_adj),
            **self._rights(config),
        }
        body: dict[str, Any] = {
            "Image": config.image_id or config.image,
            "Env": [f"{name}={value}" for name, value in config.env],
            "Labels": labels.container_labels(self._cluster, operation.sandbox_id, config),
            "Tty": config.tty,
            "OpenStdin": config.stdin,
            "StdinOnce": config.stdin_once,  # RT-14
            "StopTimeout": config.termination_grace_seconds,
            "HostConfig": host,
        }
        if config.command:
            body["Entrypoint"] = list(config.command)
        if config.args:
            body["Cmd"] = list(config.args)
        if config.working_dir:
            body["WorkingDir"] = config.working_dir
        if config.user:
            body["User"] = config.user
        return body

    def _process_namespace(self, config: ContainerConfig, sandbox: dict[str, Any]) -> str:
        """The node's, that of a container of the same pod (KUBELET-101), or its own."""
        if sandbox["Config"]["Labels"].get(labels.HOST_PID) == "1":
            return "host"
        if not config.target_id:
            return ""
        found = self._own(config.target_id, config.pod_uid)
        if found is None:
            raise Refused(404, "the target container is gone")
        return f"container:{config.target_id}"

    def _mounts(self, config: ContainerConfig) -> list[dict[str, Any]]:
        mounts: list[dict[str, Any]] = []
        for index, mount in enumerate(config.mounts):
            source = str(self._volumes.source(config.pod_uid, mount, config.name, index))
            shown: dict[str, Any] = {"Type": "bind", "Source": source}
            if self._volumes.is_held(source):
                name = self._engine_volumes.make(config, index, source)
                shown = {"Type": "volume", "Source": name, "VolumeOptions": {"NoCopy": True}}
            if options := self._bind_options(mount, shown["Type"] == "bind"):
                shown["BindOptions"] = options
            mounts.append({**shown, "Target": mount.path, "ReadOnly": mount.read_only})
        if config.termination_message_path:
            source = str(self._messages.prepare(config))
            mounts.append(
                {
                    "Type": "bind",
                    "Source": source,
                    "Target": config.termination_message_path,
                    "ReadOnly": False,
                }
            )
        resolv_conf = self._volumes.file(config.pod_uid, RESOLV_CONF)
        if resolv_conf is not None and all(
            mount["Target"] != "/etc/resolv.conf" for mount in mounts
        ):
            mounts.append(
                {
                    "Type": "bind",
                    "Source": str(resolv_conf),
                    "Target": "/etc/resolv.conf",
                    "ReadOnly": False,
                }
            )
        if config.hosts:
            mounts.append(
                {
                    "Type": "bind",
                    "Source": str(self._hosts(config)),
                    "Target": "/etc/hosts",
                    "ReadOnly": False,
                }
            )
        return mounts

    def _bind_options(self, mount: Mount, is_bind: bool) -> dict[str, Any]:
        """Mount propagation, and whether submounts are read-only (RT-35).

        Raises NotPossible for an unsupported or contradictory combination.
        """
        options: dict[str, Any] = {}
        if mount.propagation:
            if mount.propagation not in PROPAGATIONS:
                raise NotPossible(
                    f"mountPropagation {mount.propagation!r} of {mount.path} is not supported"
                )
            options["Propagation"] = PROPAGATIONS[mount.propagation]
        if mount.recursive_read_only:
            if mount.propagation:
                raise NotPossible(
                    f"recursiveReadOnly of {mount.path} cannot be combined with mountPropagation"
                )
            if self._engine.version < RECURSIVE_READ_ONLY_VERSION:
                raise NotPossible(
                    f"recursiveReadOnly of {mount.path} needs a newer container engine"
                )
            # the engine accepts one only together with the other
            options |= {"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}
        if options and not is_bind:
            raise NotPossible(
                f"mountPropagation and recursiveReadOnly of the subPath at {mount.path} need a process that may mount"
            )
        return options

    def _hosts(self, config: ContainerConfig) -> Path:
        """The pod's /etc/hosts, which its containers share (KUBELET-94)."""
        head, _, rest = config.hosts.partition("\n")
        own = ""
        if config.host_network:
            with suppress(OSError), open(NODE_HOSTS, "rb") as file:
                own = file.read(HOSTS_BYTES_MAX).decode("utf-8", "replace")
        return self._volumes.write_file(
            config.pod_uid, "etc-hosts", f"{head}\n{own}{rest}".encode()
        )

    def _rights(self, config: ContainerConfig) -> dict[str, Any]:
        """Groups, profiles, and the capabilities that this machine can give (RT-9, RT-35)."""
        confined = self._security_options(config)
        rights: dict[str, Any] = {
            "GroupAdd": [str(group) for group in config.groups],
            **self._capabilities(config),
        }
        if confined:
            rights["SecurityOpt"] = [*rights.get("SecurityOpt", ()), *confined]
        if config.unmasked_proc:
            rights |= {"MaskedPaths": [], "ReadonlyPaths": []}
        return rights

    def _security_options(self, config: ContainerConfig) -> list[str]:
        """The engine's security options (RT-35). Raises BadProfile for a missing profile."""
        options = ["no-new-privileges"] if config.no_new_privileges else []
        if config.seccomp == "Unconfined":
            options.append("seccomp=unconfined")
        elif config.seccomp.startswith("Localhost/"):
            options.append(f"seccomp={self._seccomp_profile(config.seccomp.partition('/')[2])}")
        if config.app_armor == "Unconfined":
            options.append("apparmor=unconfined")
        elif config.app_armor.startswith("Localhost/"):
            options.append(f"apparmor={config.app_armor.partition('/')[2]}")
        return [*options, *[f"label={part}:{value}" for part, value in config.se_linux]]

    def _seccomp_profile(self, name: str) -> str:
        """The text of a profile in DATA_DIR/seccomp, as the kubelet keeps them."""
        at = -1
        try:
            with tree.opened(self._profiles) as directory:
                names = tree.split_path(name)
                at = tree.walk(directory, names[:-1])
                text = tree.read(names[-1], at, PROFILE_BYTES_MAX + 1)
        except OSError:
            text = None
        finally:
            if at >= 0:
                os.close(at)
        if text is None or len(text) > PROFILE_BYTES_MAX:
            raise NotPossible(f"seccomp profile {name!r} is not in {self._profiles}")
        return text.decode("utf-8", "replace")

    def _capabilities(self, config: ContainerConfig) -> dict[str, Any]:
        if config.privileged and not self._abilities.missing:
            return {"Privileged": True}
        if config.privileged:
            add, drop = self._abilities.grantable(("ALL",))
            return {
                "CapAdd": add,
                "CapDrop": drop,
                "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
                "MaskedPaths": [],
                "ReadonlyPaths": [],
                "DeviceCgroupRules": ["a *:* rwm"],
            }
        add, drop = self._abilities.grantable(config.capabilities_add)
        return {
            "CapAdd": add,
            "CapDrop": [
                *[name.upper().removeprefix("CAP_") for name in config.capabilities_drop],
                *drop,
            ],
        }


def compute_limits(resources: Resources) -> dict[str, int]:
    """The kernel's limits and shares: 1000 milli-CPUs are 1024 shares or a quota of one period."""
    limits = {"CpuShares": max(CPU_SHARES_MIN, resources.cpu_request_milli * 1024 // 1000)}
    if resources.cpu_limit_milli:
        limits |= {
            "CpuPeriod": CPU_PERIOD,
            "CpuQuota": max(CPU_QUOTA_MIN, resources.cpu_limit_milli * CPU_PERIOD // 1000),
        }
    if resources.memory_limit_bytes:
        limits |= {
            "Memory": resources.memory_limit_bytes,
            "MemorySwap": resources.memory_limit_bytes,
        }
    return limits
