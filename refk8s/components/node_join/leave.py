"""`refk8s node leave`: takes this machine out of its cluster. Rule TRUST-15 (spec/trust.md)."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from refk8s.components.command_client import CommandClient
from refk8s.components.credentials import CLUSTER_ID
from refk8s.components.files import CannotRun
from refk8s.components.node_directory import NodeDirectory, data_path
from refk8s.components.node_join.credentials import NodeCredentials
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODES
from refk8s.core.client.kubeconfig import Access
from refk8s.core.value import evolve

FOLDERS = ("pods", "seccomp")
"""What the Docker adapter keeps in the data directory."""


def run_leave(
    data_dir: str | None, kubeconfig: str | None, context: str, say: Callable[[str], None]
) -> int:
    """Delete the Node, and remove its containers, networks and rules and the files of the data
    directory; returns the exit status. `kubeconfig`: of a user who may delete the Node. Raises
    CannotRun; then nothing has been removed."""
    path = data_path(data_dir)
    if not NodeCredentials(path).kubeconfig.exists():
        raise CannotRun(f"this machine has not joined a cluster with the data directory {path}")
    directory = NodeDirectory(data_dir)
    credentials = NodeCredentials(directory.path)
    name = credentials.node_name()
    try:
        problem = asyncio.run(_leave(directory, credentials, name, kubeconfig, context))
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


async def _leave(
    directory: NodeDirectory,
    credentials: NodeCredentials,
    name: str,
    kubeconfig: str | None,
    context: str,
) -> str:
    """Delete the Node first, so that no Service leads to its pods any more; then remove what runs.
    Returns words if the Node could not be deleted. Raises CannotRun."""
    from refk8s.components.choose_nodes import choose_nodes
    from refk8s.components.clock import Clock

    nodes = choose_nodes("docker", 1, directory.path, Clock(), None, name)
    problem = await _delete_node(credentials, name, kubeconfig, context)
    if problem and kubeconfig is not None:
        raise CannotRun(f"nothing has been removed, because the Node is still there: {problem}")
    nodes.start(directory.cluster_id)
    await nodes.close(False)
    if not problem:
        return ""
    return f"; its Node is still there ({problem}): kubectl delete node {name or 'NAME'}"


async def _delete_node(
    credentials: NodeCredentials, name: str, kubeconfig: str | None, context: str
) -> str:
    """Delete the Node; returns why it is still there, or nothing."""
    from refk8s.components.client.access import read_kubeconfig

    if not name:
        return "its certificate cannot be read"
    own = read_kubeconfig(credentials.kubeconfig)
    access = own
    if kubeconfig is not None:
        # The file may be of another machine, where the server has another address. That of the node
        # is verified by the authority of the node's cluster, so no other one gets the credentials.
        user = read_kubeconfig(Path(kubeconfig).expanduser().absolute(), context)
        access = evolve(
            user,
            server=own.server,
            more_servers=own.more_servers,
            authority=own.authority,
            server_name=own.server_name,
            insecure=own.insecure,
        )
    response = await _call(access, Request("delete", NODES, "", name))
    if response is None:
        return "the API server does not answer"
    if response.code == 403 and kubeconfig is None:
        read = await _call(own, Request("get", NODES, "", name))
        if read is not None and read.code == 404:
            return ""  # an administrator has deleted it
        return "only an administrator may delete it"
    return "" if response.ok or response.code == 404 else str(response.body.message)


async def _call(access: Access, request: Request) -> Response | None:
    client = CommandClient(access)
    try:
        return await client.api.call(request)
    finally:
        client.api.close()
