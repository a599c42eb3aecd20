"""Open directories as volumes of the engine, for a kubelet that may not mount. Rules RT-8, RT-34.

The engine mounts the directory by the number under which this process has it open, when the
container is started; so no container can exchange it. The volume's name has the number: a container
that was made by an earlier process is not started. Source: Docker documentation, "docker volume
create" (the local driver and its options).
"""

from collections.abc import Mapping
from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.core.ports import ContainerConfig

PREFIX = "refk8s-"


class EngineVolumes:
    """The volumes of one cluster that the engine mounts."""

    def __init__(self, engine: Engine, cluster: str) -> None:
        self._engine = engine
        self._cluster = cluster

    def make(self, config: ContainerConfig, index: int, place: str) -> str:
        """The name of a volume that shows this place ("/proc/PID/fd/NUMBER") to one mount of a
        container."""
        process, number = place.split("/")[2::2]
        name = f"{PREFIX}{config.pod_uid}-{config.name}-{index}-{process}-{number}"
        self._remove(name)  # It is of an earlier attempt with the same number.
        its = {labels.CLUSTER: self._cluster, labels.POD_UID: config.pod_uid}
        options = {"type": "none", "o": "bind", "device": place}
        self._engine.call(
            "create_volume", name=name, driver="local", driver_opts=options, labels=its
        )
        return name

    @staticmethod
    def places(inspected: Mapping[str, Any]) -> list[str]:
        """The volumes of open directories that a container was created with."""
        mounts = inspected["HostConfig"].get("Mounts") or ()
        names = [
            mount["Source"]
            for mount in mounts
            if mount["Type"] == "volume" and mount["Source"].startswith(PREFIX)
        ]
        return ["/proc/{}/fd/{}".format(*name.rsplit("-", 2)[1:]) for name in names]

    def remove_of(self, inspected: Mapping[str, Any]) -> None:
        """Remove the volumes of a removed container."""
        for mount in inspected["HostConfig"].get("Mounts") or ():
            if mount["Type"] == "volume" and mount["Source"].startswith(PREFIX):
                self._remove(mount["Source"])

    def remove(self, pod_uid: str = "") -> None:
        """Remove the volumes of a pod whose containers were removed; without one, of every pod."""
        wanted = [
            f"{labels.CLUSTER}={self._cluster}",
            *([f"{labels.POD_UID}={pod_uid}"] if pod_uid else []),
        ]
        for volume in self._engine.call("volumes", filters={"label": wanted})["Volumes"] or ():
            self._remove(volume["Name"])

    def _remove(self, name: str) -> None:
        try:
            self._engine.found("remove_volume", name)
        except Refused as error:
            if not error.is_conflict:  # A container still has it; it is removed with the container.
                raise
