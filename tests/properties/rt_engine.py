"""A Docker engine as a value in memory: the calls that the adapter makes, with the engine's rules
about names, states and networks.

It keeps the engine's contract as Docker's documentation of its API has it (names are used once, a
running container is not removed without force, 404, 409), so that what is checked on it holds on
the real one; tests/integration does the same on a real one.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refk8s.adapters.docker.engine.client import Refused


class PretendEngine:
    """`call` and `found` as the adapter's connection has them."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.images: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.starts: list[str] = []
        self.starting: set[str] = set()
        """Containers that are just being started: listed as created, and other requests wait."""
        self.version: tuple[int, ...] = (1, 48)
        self._made = 0

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        return getattr(self, f"_{method}")(*arguments, **more)

    def found(self, method: str, *arguments: Any, **more: Any) -> Any:
        try:
            return self.call(method, *arguments, **more)
        except Refused as error:
            if error.is_missing:
                return None
            raise

    def snapshot(self) -> dict[str, tuple[str, str, int]]:
        """name -> (id, state, exit code)."""
        return {
            c["Name"]: (c["Id"], c["State"]["Status"], c["State"]["ExitCode"])
            for c in self.containers.values()
        }

    def one(self, id: str) -> dict[str, Any]:
        for container in self.containers.values():
            if id in (container["Id"], container["Name"]):
                return container
        raise Refused(404, f"No such container: {id}")

    def end(self, id: str, exit_code: int) -> None:
        """A container ends by itself."""
        state = self.one(id)["State"]
        if state["Status"] == "running":
            state.update(
                Status="exited", ExitCode=exit_code, FinishedAt="2026-01-01T00:00:02.000000002Z"
            )

    # --- what the engine understands --------------------------------------------------------------

    def _create_container_from_config(self, body: dict[str, Any], name: str) -> dict[str, str]:
        if any(c["Name"] == name for c in self.containers.values()):
            raise Refused(409, f"Conflict. The container name {name} is already in use")
        if body["Image"] not in self.images:
            raise Refused(404, f"No such image: {body['Image']}")
        self._made += 1
        id = f"{self._made:064x}"
        endpoints = body.get("NetworkingConfig", {}).get("EndpointsConfig", {})
        state = {
            "Status": "created",
            "ExitCode": 0,
            "StartedAt": "0001-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        }
        self.containers[id] = {
            "Id": id, "Name": name, "Image": "sha256:1", "Created": "2026-01-01T00:00:00.000000001Z", "State": state,
            "Config": {
                "Labels": dict(body["Labels"]), "Tty": False, "StopSignal": "", "Image": body["Image"],
                "OpenStdin": body.get("OpenStdin", False), "StdinOnce": body.get("StdinOnce", False),
            },
            "HostConfig": body["HostConfig"],
            "NetworkSettings": {"Networks": {n: {"IPAddress": "", "Asked": e["IPAMConfig"]["IPv4Address"]} for n, e in endpoints.items()}},
        }  # fmt: skip
        return {"Id": id}

    def _start(self, id: str) -> None:
        container = self.one(id)
        for name, network in container["NetworkSettings"]["Networks"].items():
            if name not in self.networks:
                raise Refused(404, f"network {name} not found")
            if any(
                network["Asked"] == address
                for address, by in self._addresses(name)
                if by != container["Name"]
            ):
                raise Refused(403, "Address already in use")
        container["State"].update(Status="running", StartedAt="2026-01-01T00:00:01.000000001Z")
        for network in container["NetworkSettings"]["Networks"].values():
            network["IPAddress"] = network["Asked"]
        self.starts.append(container["Id"])

    def _addresses(self, network: str) -> list[tuple[str, str]]:
        return [
            (settings["IPAddress"], c["Name"])
            for c in self.containers.values()
            if c["State"]["Status"] == "running"
            for name, settings in c["NetworkSettings"]["Networks"].items()
            if name == network
        ]

    def end_starts(self) -> None:
        """What is being started runs."""
        for id in sorted(self.starting & self.containers.keys()):
            self._start(id)
        self.starting.clear()

    def _kill(self, id: str, signal: str = "SIGKILL") -> None:
        self.end_starts()
        container = self.one(id)
        if container["State"]["Status"] != "running":
            raise Refused(409, f"Container {id} is not running")
        self.end(container["Id"], 137 if signal == "SIGKILL" else 143)

    def _update_container(self, id: str, **limits: int) -> None:
        self.one(id)["Limits"] = limits

    def _unpause(self, id: str) -> None:
        self.one(id)["State"]["Status"] = "running"

    def _remove_container(self, id: str, force: bool = False, v: bool = False) -> None:
        container = self.one(id)
        if container["State"]["Status"] == "running" and not force:
            raise Refused(409, "You cannot remove a running container")
        del self.containers[container["Id"]]

    def _logs(self, id: str, tail: int) -> bytes:
        return b"\n".join(self.one(id).get("Log", b"").split(b"\n")[-tail:])

    def _inspect_container(self, id: str) -> dict[str, Any]:
        return self.one(id)

    def _containers(
        self, all: bool = False, filters: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        wanted = (filters or {}).get("label", [])
        wanted = [wanted] if isinstance(wanted, str) else wanted
        found = []
        for c in self.containers.values():
            its = c["Config"]["Labels"]
            if not all and c["State"]["Status"] != "running":
                continue
            if any(its.get(label.partition("=")[0]) != label.partition("=")[2] for label in wanted):
                continue
            found.append({
                "Id": c["Id"], "Names": [f"/{c['Name']}"], "Labels": its, "State": c["State"]["Status"], "Created": 1767225600,
                "HostConfig": {"NetworkMode": c["HostConfig"]["NetworkMode"]}, "NetworkSettings": c["NetworkSettings"],
            })  # fmt: skip
        return found

    def _inspect_image(self, name: str) -> dict[str, Any]:
        if name not in self.images:
            raise Refused(404, f"No such image: {name}")
        return self.images[name]

    def _export(self, id: str) -> Iterator[bytes]:
        archive = io.BytesIO()
        files: dict[str, bytes] = self.images[self.one(id)["Config"]["Image"]].get("Files", {})
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        yield archive.getvalue()

    def _put_archive(self, id: str, path: str, data: Iterator[bytes]) -> bool:
        (mount,) = [m for m in self.one(id)["HostConfig"]["Mounts"] if m["Target"] == path]
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as tar:
            for entry in tar:
                content = tar.extractfile(entry)
                assert content is not None
                Path(mount["Source"], entry.name).write_bytes(content.read())
        return True

    def _import_image_from_data(
        self, data: bytes, repository: str, tag: str, changes: list[str]
    ) -> None:
        self.images[f"{repository}:{tag}"] = {"Id": f"sha256:{len(self.images)}", "Size": len(data)}

    def _inspect_network(self, name: str) -> dict[str, Any]:
        if name not in self.networks:
            raise Refused(404, f"network {name} not found")
        told = {
            c["Id"]: {
                "Name": c["Name"],
                "IPv4Address": f"{c['NetworkSettings']['Networks'][name]['IPAddress']}/24",
            }
            for c in self.containers.values()
            if c["State"]["Status"] == "running" and name in c["NetworkSettings"]["Networks"]
        }
        return {**self.networks[name], "Containers": told}

    def _create_network(self, name: str, **more: Any) -> None:
        self.networks[name] = {
            "IPAM": more["ipam"],
            "Labels": more["labels"],
            "Options": more["options"],
        }

    def _create_volume(
        self, name: str, driver: str, driver_opts: dict[str, str], labels: dict[str, str]
    ) -> None:
        self.volumes[name] = {"Name": name, "Labels": labels, "Options": driver_opts}

    def _volumes(self, filters: dict[str, Any]) -> dict[str, Any]:
        wanted = [label.partition("=")[::2] for label in filters["label"]]
        return {
            "Volumes": [
                v
                for v in self.volumes.values()
                if all(v["Labels"].get(name) == value for name, value in wanted)
            ]
        }

    def _remove_volume(self, name: str) -> None:
        if name not in self.volumes:
            raise Refused(404, f"get {name}: no such volume")
        if any(
            m["Source"] == name
            for c in self.containers.values()
            for m in c["HostConfig"].get("Mounts") or ()
        ):
            raise Refused(409, "volume is in use")
        del self.volumes[name]

    def _remove_network(self, name: str) -> None:
        if self._inspect_network(name)["Containers"]:
            raise Refused(403, f"network {name} has active endpoints")
        del self.networks[name]
