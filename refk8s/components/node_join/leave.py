"""`refk8s node leave`: takes this machine out of its cluster. Rule TRUST-15 (spec/trust.md)."""

import asyncio
import shutil
from collections.abc import Callable

from refk8s.components.command_client import CommandClient
from refk8s.components.credentials import CLUSTER_ID
from refk8s.components.files import CannotRun
from refk8s.components.node_directory import NodeDirectory, data_path
from refk8s.components.node_join.credentials import NodeCredentials
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES

FOLDERS = ("pods", "seccomp")
"""What the Docker adapter keeps in the data directory."""


def run_leave(data_dir: str | None, say: Callable[[str], None]) -> int:
    """Delete the Node, and remove its containers, networks and rules and the files of the data
    directory; returns the exit status. Raises CannotRun."""
    path = data_path(data_dir)
    if not NodeCredentials(path).kubeconfig.exists():
        raise CannotRun(f"this machine has not joined a cluster with the data directory {path}")
    directory = NodeDirectory(data_dir)
    credentials = NodeCredentials(directory.path)
    name = credentials.node_name()
    try:
        problem = asyncio.run(_leave(directory, credentials, name))
        credentials.remove()
        for folder in FOLDERS:
            shutil.rmtree(directory.path / folder, ignore_errors=True)
        (directory.path / CLUSTER_ID).unlink(missing_ok=True)
    except BaseException:
        directory.release()
        raise
    directory.remove()
    say(f"node {name} has left the cluster{problem}")
    return 0


async def _leave(directory: NodeDirectory, credentials: NodeCredentials, name: str) -> str:
    """Delete the Node first, so that no Service leads to its pods any more; then remove what runs.
    Returns words if the Node could not be deleted. Raises CannotRun."""
    from refk8s.components.choose_nodes import choose_nodes
    from refk8s.components.clock import Clock

    nodes = choose_nodes("docker", 1, directory.path, Clock(), None, name)
    problem = await _delete_node(credentials, name)
    nodes.start(directory.cluster_id)
    await nodes.close(False)
    if not problem:
        return ""
    return f"; its Node is still there ({problem}): kubectl delete node {name or 'NAME'}"


async def _delete_node(credentials: NodeCredentials, name: str) -> str:
    from refk8s.components.client.access import read_kubeconfig

    if not name:
        return "its certificate cannot be read"
    client = CommandClient(read_kubeconfig(credentials.kubeconfig))
    try:
        response = await client.api.call(Request("delete", NODES, "", name))
    finally:
        client.api.close()
    if response is None:
        return "the API server does not answer"
    if response.code == 403:
        return "only an administrator may delete it"
    return "" if response.ok or response.code == 404 else str(response.body.message)
