"""The adapter that runs the pods of this process's nodes: a Docker engine, or simulated nodes."""

import os
from ipaddress import ip_network
from pathlib import Path

from refk8s.adapters.fake.nodes import FakeNodes
from refk8s.components.clock import CHANCE, Clock
from refk8s.components.files import CannotRun
from refk8s.components.listening import SERVICE_CIDR
from refk8s.components.this_machine import hostname
from refk8s.core.api.families import Network
from refk8s.core.api.service_addresses import dns_address
from refk8s.core.network.node_routes import AUTO
from refk8s.core.ports import Nodes


def choose_nodes(
    adapter: str,
    count: int | None,
    data: Path,
    clock: Clock,
    resolv_conf: Path | None = None,
    node_name: str = "",
    node_ip: str = "",
    network_mode: str | None = None,
    service_cidrs: tuple[Network, ...] = (ip_network(SERVICE_CIDR),),
    cluster_dns: str = "",
) -> Nodes:
    """The nodes of `--adapter` and `--nodes`; nothing is started. Raises CannotRun.

    `node_name`, `node_ip`: of this machine as a node, if not its own name and usual address.
    `network_mode`: how packets reach the pods of other nodes, if not auto. `service_cidrs`: of all
    services. `cluster_dns`: the address of the DNS, if it does not follow from them.
    """
    if adapter in ("docker", "auto"):
        from refk8s.adapters.docker.nodes import DockerNodes, NoEngine

        try:
            name = node_name or hostname()
            dns = cluster_dns or dns_address(service_cidrs)
            return DockerNodes(data, name, dns, resolv_conf, node_ip, network_mode or AUTO)
        except NoEngine as error:
            if adapter == "docker":
                raise _without_engine(str(error)) from None
    return FakeNodes(1 if count is None else count, clock.now, CHANCE)


def check_engine(adapter: str) -> None:
    """Raises CannotRun if the adapter needs a Docker engine and none answers. To be called before
    what takes longer, and reports problems of its own."""
    if adapter == "docker":
        from refk8s.adapters.docker.engine.location import why_not

        problem = why_not(os.environ)
        if problem:
            raise _without_engine(problem)


def _without_engine(problem: str) -> CannotRun:
    return CannotRun(f"{problem}; start the engine, set DOCKER_HOST, or use --adapter fake")
