"""What a node knows of the cluster that it has joined: files in its data directory. Rules TRUST-12,
TRUST-14 (spec/trust.md).

| file | content |
|---|---|
| kubeconfig | the API server, and the names of the next two; written last |
| pki/ca.crt | the authority of the cluster |
| pki/kubelet-client-current.pem | the client certificate of the node and its key |
| pki/kubelet-server-current.pem | the serving certificate and its key, when it has been issued |
"""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from refk8s.components.client.access import read_kubeconfig
from refk8s.components.cluster_info import ClusterInfo, certificates_of, key_hash
from refk8s.components.command_client import CommandClient
from refk8s.components.files import CannotRun, make_directory, read_file, write_file
from refk8s.components.kubelet.certificates import (
    Held,
    client_certificate,
    read_held,
    request_certificate,
)
from refk8s.components.node_join.discovery import Invitation, discover
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES
from refk8s.core.client.kubeconfig import Access, Pem, servers_extension
from refk8s.core.context import Instant

log = logging.getLogger("refk8s")

NODE_PREFIX = "system:node:"


class NodeCredentials:
    """The files of a node in its data directory."""

    def __init__(self, data: Path) -> None:
        self.kubeconfig = data / "kubeconfig"
        self.pki = data / "pki"
        self.authority = self.pki / "ca.crt"
        self.client = self.pki / "kubelet-client-current.pem"
        self.serving = self.pki / "kubelet-server-current.pem"

    def held(self) -> Held | None:
        """The client certificate; None if this machine has not joined a cluster."""
        if read_file(self.kubeconfig) is None or read_file(self.authority) is None:
            return None
        return read_held(self.client)

    def node_name(self) -> str:
        """The name of the Node; empty if this machine has not joined a cluster."""
        held = self.held()
        names = held.names if held is not None else ()
        found = [each for each in names if each.startswith(NODE_PREFIX)]
        return found[0].removeprefix(NODE_PREFIX) if len(found) == 1 else ""

    def are_valid(self, now: Instant) -> bool:
        """Whether the node authenticates with them."""
        held = self.held()
        return held is not None and now < held.not_after

    def is_of(self, ca_hashes: tuple[str, ...]) -> bool:
        """Whether the authority of the cluster is one of these."""
        content = read_file(self.authority) or b""
        try:
            return {key_hash(each) for each in certificates_of(content)} <= set(ca_hashes)
        except (ValueError, UnicodeDecodeError):
            return False

    def servers(self) -> tuple[str, ...]:
        """The API servers; the first is that of the join. Raises CannotRun."""
        access = read_kubeconfig(self.kubeconfig)
        return (access.server, *access.more_servers)

    def write(self, info: ClusterInfo, servers: tuple[str, ...], pem: bytes) -> None:
        """Write what the node has got. Raises CannotRun."""
        make_directory(self.pki, "--data-dir")
        write_file(self.authority, info.authority)
        write_file(self.client, pem)
        self.write_kubeconfig(servers)

    def write_kubeconfig(self, servers: tuple[str, ...]) -> None:
        """Write the kubeconfig of the node for these API servers. Raises CannotRun."""
        name, certificate = "refk8s", str(self.client)
        cluster: dict[str, Any] = {
            "server": servers[0],
            "certificate-authority": str(self.authority),
        }
        if extensions := servers_extension(servers[1:]):
            cluster["extensions"] = extensions
        user = {"client-certificate": certificate, "client-key": certificate}
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        write_file(self.kubeconfig, json.dumps(tree, indent=1).encode() + b"\n")

    def remove(self) -> None:
        """Remove the files, the kubeconfig first."""
        for path in (self.kubeconfig, self.client, self.serving, self.authority):
            path.unlink(missing_ok=True)
        if self.pki.is_dir() and not any(self.pki.iterdir()):
            self.pki.rmdir()


def join_cluster(invitation: Invitation, node_name: str, credentials: NodeCredentials) -> None:
    """Verify the cluster, get a client certificate for this node, and write the files. Raises
    CannotRun; then the files are as before."""
    info = discover(invitation)
    more = tuple([each for each in invitation.servers if each != info.server])
    authority = Pem(content=info.authority)
    access = Access(info.server, authority, token=invitation.token, more_servers=more)

    async def main() -> bytes:
        client = CommandClient(access)
        try:
            await _check_name(client, node_name)
            return await request_certificate(
                client_certificate(node_name), client.api.call, log.warning
            )
        finally:
            client.api.close()

    credentials.write(info, invitation.servers, asyncio.run(main()))


async def _check_name(client: CommandClient, node_name: str) -> None:
    """Raise CannotRun if another machine runs as this Node."""
    response = await client.api.call(Request("get", NODES, "", node_name))
    if response is None:
        raise CannotRun(f"the API server at {client.api.server} does not answer: try again")
    if response.code == 401:
        raise CannotRun("the bootstrap token has expired or been deleted: create another one")
    if not response.ok:
        return  # 404, or the token may not read Nodes
    conditions = response.body.status.conditions or ()
    if any(each.type == "Ready" and each.status == "True" for each in conditions):
        raise CannotRun(
            f"a Node {node_name} is in the cluster already, and ready: "
            "choose another name with --node-name, or remove that one first"
        )
