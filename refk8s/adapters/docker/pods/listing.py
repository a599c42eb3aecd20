"""Lists the cluster's containers on the engine. Rule RT-2.

One request lists all containers. Exit codes and exact times are not in the list, so each container
is inspected for them. The result is cached until the engine reports a change of the container.
"""

from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine
from refk8s.adapters.docker.pods.sandboxes import Sandboxes
from refk8s.adapters.docker.pods.termination_messages import Messages
from refk8s.core.context import SECOND
from refk8s.core.ports import ContainerStatus, ListPods, PodsListed, SandboxStatus


class Listing:
    """Lists the pods of one cluster."""

    def __init__(
        self, engine: Engine, cluster: str, sandboxes: Sandboxes, messages: Messages
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._messages = messages
        self._known: dict[str, ContainerStatus] = {}
        self._doubtful: set[str] = set()

    def forget(self, id: str = "") -> None:
        """This container or sandbox (empty: any) may have changed."""
        if id:
            self._known.pop(id, None)
            self._doubtful.add(id)
        else:
            self._known.clear()

    def list(self, operation: ListPods) -> PodsListed:
        """The containers of the cluster, or of these pods (RT-2)."""
        uids = set(operation.pod_uids)
        wanted = [f"{labels.CLUSTER}={self._cluster}"]
        if len(uids) == 1:
            wanted.append(f"{labels.POD_UID}={operation.pod_uids[0]}")
        found: list[dict[str, Any]] = self._engine.call(
            "containers", all=True, filters={"label": wanted}
        )
        sandboxes: list[SandboxStatus] = []
        containers: list[ContainerStatus] = []
        for entry in sorted(found, key=lambda entry: entry["Id"]):
            its = entry["Labels"] or {}
            if uids and its.get(labels.POD_UID) not in uids:
                continue
            if its.get(labels.TYPE) == labels.IS_COPY:
                continue
            if its.get(labels.TYPE) == labels.IS_SANDBOX:
                ips = self._sandboxes.ips(
                    entry["NetworkSettings"]["Networks"], entry["HostConfig"]["NetworkMode"]
                )
                sandboxes.append(
                    labels.sandbox_status(
                        entry["Id"], its, self._state(entry), ips, entry["Created"] * SECOND
                    )
                )
            elif (status := self._status(entry)) is not None:
                containers.append(status)
        if not uids:
            there = {entry["Id"] for entry in found}
            self._known = {id: status for id, status in self._known.items() if id in there}
            self._doubtful &= there
        return PodsListed(tuple(sandboxes), tuple(containers))

    def _state(self, entry: dict[str, Any]) -> str:
        """The state of a sandbox, inspected after the engine has reported a change.

        A list shows a dead sandbox as running until the engine has removed its network.
        """
        id = entry["Id"]
        if id not in self._doubtful:
            return str(entry["State"])
        found = self._engine.found("inspect_container", id)
        self._doubtful.discard(id)
        return "removing" if found is None else str(found["State"]["Status"])

    def _status(self, entry: dict[str, Any]) -> ContainerStatus | None:
        id = entry["Id"]
        known = self._known.get(id)
        if known is not None and known.state == labels.STATES.get(entry["State"]):
            return known
        found = self._engine.found("inspect_container", id)
        if found is None:
            return None
        status = self._messages.status(found)
        self._known[id] = status
        return status
