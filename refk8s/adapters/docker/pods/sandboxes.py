"""A pod's sandbox: the pause container that owns its network. Rules RT-1, RT-3, RT-5, RT-8,
RT-46."""

from pathlib import Path
from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.engine.images import Images
from refk8s.adapters.docker.engine.network import Network
from refk8s.adapters.docker.engine.pause_image import PAUSE_IMAGE, PAUSE_PATH
from refk8s.adapters.docker.engine.volumes import EngineVolumes
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.adapters.linux.abilities import Abilities
from refk8s.core.ports import (
    EXITED,
    Done,
    Failed,
    RemovePodSandbox,
    Result,
    RunPodSandbox,
    SandboxConfig,
    SandboxStarted,
    StopPodSandbox,
)

TRIES_MAX = 5
RESOLV_CONF = "resolv.conf"
OOM_SCORE_ADJ = -998
"""With a sandbox the kernel would end the whole pod, and free nothing."""


class Sandboxes:
    """The sandboxes of one cluster on one engine."""

    def __init__(
        self,
        engine: Engine,
        cluster: str,
        network: Network,
        images: Images,
        volumes: Volumes,
        abilities: Abilities,
    ) -> None:
        self._abilities = abilities
        self._engine = engine
        self._cluster = cluster
        self._network = network
        self._images = images
        self._volumes = volumes

    # --- start ------------------------------------------------------------------------------------

    def run(self, operation: RunPodSandbox) -> Result:
        """Start the sandbox. A running one of this attempt is used; one that has ended is not
        started again (RT-3)."""
        config = operation.config
        name = labels.sandbox_name(config)
        self._images.ensure_pause()
        for _ in range(TRIES_MAX):
            address = "" if config.host_network else self._network.take(name)
            try:
                id = self._engine.call(
                    "create_container_from_config", self._body(config, address), name=name
                )["Id"]
            except Refused as error:
                if not error.is_conflict:
                    self._network.free(name)
                if error.is_conflict:
                    return self._known(name, config)
                if error.is_missing and "image" in error.words.lower():
                    self._images.forget_pause()
                    self._images.ensure_pause()
                    continue
                raise
            try:
                self._engine.call("start", id)
            except Refused as error:
                self._engine.found("remove_container", id, force=True)
                if "address already in use" in error.words.lower() and address:
                    # another container of the network has the address
                    self._network.keep_off(name)
                    continue
                self._network.free(name)
                if "network" in error.words.lower() and "not found" in error.words.lower():
                    self._network.forget()
                    continue
                raise
            if address:
                self._network.let_pods_reach_themselves()
            return self._started(id)
        return Failed(
            "FailedCreatePodSandBox",
            f"no sandbox for {config.namespace}/{config.name} in {TRIES_MAX} tries",
        )

    def _known(self, name: str, config: SandboxConfig) -> Result:
        found = self._engine.found("inspect_container", name)
        if found is None:
            return Failed("", f"sandbox {config.attempt} is just being removed")
        if (found["Config"]["Labels"] or {}).get(labels.CLUSTER) != self._cluster:
            return Failed("", f"there is a container {name} of another cluster")
        if found["State"]["Status"] == "created":
            self._engine.call("start", found["Id"])
        elif found["State"]["Status"] != "running":
            return Failed("", f"sandbox {config.attempt} has died")
        return self._started(found["Id"])

    def _started(self, id: str) -> SandboxStarted:
        found = self._engine.call("inspect_container", id)
        ips = self.ips(found["NetworkSettings"]["Networks"], found["HostConfig"]["NetworkMode"])
        created = labels.whole_seconds(labels.instant(found["Created"]))
        return SandboxStarted(
            labels.sandbox_status(
                id, found["Config"]["Labels"], found["State"]["Status"], ips, created
            )
        )

    def ips(self, networks: dict[str, Any] | None, mode: str) -> tuple[str, ...]:
        """The pod's addresses, that of the family of the node's first range first: the node's own
        for the host's network."""
        if mode == "host":
            return self._network.node_ips
        found = [
            network[name]
            for _, network in sorted((networks or {}).items())
            for name in ("IPAddress", "GlobalIPv6Address")
            if network.get(name)
        ]
        is_six_first = ":" in self._network.cidr.partition(",")[0]
        return tuple(sorted(found, key=lambda address: (":" in address) != is_six_first))

    def _body(self, config: SandboxConfig, address: str) -> dict[str, Any]:
        """The engine's configuration of the sandbox."""
        ports: dict[str, list[dict[str, str]]] = {}
        for mapping in config.port_mappings:
            key = f"{mapping.container_port}/{mapping.protocol.lower()}"
            ports.setdefault(key, []).append(
                {"HostIp": mapping.host_ip, "HostPort": str(mapping.host_port)}
            )
        host: dict[str, Any] = {
            "NetworkMode": "host" if config.host_network else self._network.name,
            "IpcMode": "host" if config.host_ipc else "shareable",
            "PidMode": "host" if config.host_pid else "",
            "PortBindings": ports,
            "Sysctls": dict(config.sysctls),
            "LogConfig": {"Type": "none"},
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "ReadonlyRootfs": True,
            "RestartPolicy": {"Name": "no"},
            "CpuShares": 2,
            "OomScoreAdj": self._abilities.oom_score_adj(OOM_SCORE_ADJ),
        }
        path = self._resolv_conf(config)
        if path is not None:
            host["Mounts"] = [
                {
                    "Type": "bind",
                    "Source": str(path),
                    "Target": "/etc/resolv.conf",
                    "ReadOnly": True,
                }
            ]
        body: dict[str, Any] = {
            "Image": PAUSE_IMAGE,
            "Entrypoint": [PAUSE_PATH],
            "Hostname": config.hostname,
            "Labels": labels.sandbox_labels(self._cluster, config),
            "ExposedPorts": {key: {} for key in ports},
            "HostConfig": host,
        }
        if address:
            addresses = {"IPv4Address": address}
            if second := self._network.second_address(address):
                addresses["IPv6Address"] = second
            body["NetworkingConfig"] = {
                "EndpointsConfig": {self._network.name: {"IPAMConfig": addresses}}
            }
        return body

    def _resolv_conf(self, config: SandboxConfig) -> Path | None:
        """The pod's own resolv.conf, if it has a DNS configuration. Otherwise the engine provides
        the node's."""
        lines = [f"nameserver {server}" for server in config.dns_servers]
        if config.dns_searches:
            lines.append("search " + " ".join(config.dns_searches))
        if config.dns_options:
            lines.append("options " + " ".join(config.dns_options))
        if not lines:
            return None
        return self._volumes.write_file(
            config.pod_uid, RESOLV_CONF, "\n".join(lines).encode() + b"\n"
        )

    # --- stop and remove --------------------------------------------------------------------------

    def _of_pod(self, pod_uid: str) -> list[dict[str, Any]]:
        wanted = [f"{labels.CLUSTER}={self._cluster}", f"{labels.POD_UID}={pod_uid}"]
        found: list[dict[str, Any]] = self._engine.call(
            "containers", all=True, filters={"label": wanted}
        )
        return found

    def stop(self, operation: StopPodSandbox) -> Result:
        """Kill the containers that still run in the sandbox, then the sandbox.

        One that is created is killed too: a process that was killed may have asked the engine to
        start it, and the engine lists it as created until that is done. A request to kill waits
        for it.
        """
        found = self._of_pod(operation.pod_uid)
        inside = [c for c in found if c["Labels"].get(labels.SANDBOX) == operation.sandbox_id]
        for container in (*inside, *[c for c in found if c["Id"] == operation.sandbox_id]):
            if labels.STATES.get(container["State"]) != EXITED:
                self._kill(container["Id"])
            if container["Id"] == operation.sandbox_id:
                self._network.free(container["Names"][0].lstrip("/"))
        return Done()

    def _kill(self, id: str) -> None:
        try:
            self._engine.found("kill", id)
        except Refused as error:
            if not error.is_conflict:  # a conflict: it does not run
                raise

    def remove(self, operation: RemovePodSandbox) -> Result:
        """Remove the sandbox with its containers and, with the last one of the pod, its volumes
        (RT-8)."""
        found = self._of_pod(operation.pod_uid)
        inside = [c for c in found if c["Labels"].get(labels.SANDBOX) == operation.sandbox_id]
        own = [c for c in found if c["Id"] == operation.sandbox_id]
        for container in (*inside, *own):
            remove_container(self._engine, container["Id"])
        for container in own:
            self._network.free(container["Names"][0].lstrip("/"))
        left = [
            c
            for c in found
            if c["Labels"].get(labels.TYPE) == labels.IS_SANDBOX and c["Id"] != operation.sandbox_id
        ]
        if not left:
            for container in found:
                if container["Labels"].get(labels.TYPE) == labels.IS_COPY:
                    remove_container(self._engine, container["Id"])
            EngineVolumes(self._engine, self._cluster).remove(operation.pod_uid)
            self._volumes.remove(operation.pod_uid)
        return Done()


def remove_container(engine: Engine, id: str) -> None:
    """Remove it, running or not. If it is missing or being removed, that is a success (RT-3)."""
    try:
        engine.found("remove_container", id, force=True, v=True)
    except Refused as error:
        if not (error.is_conflict and "already in progress" in error.words):
            raise
