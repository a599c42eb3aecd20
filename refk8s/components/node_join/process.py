"""`refk8s node join`: makes this machine a node of a cluster and runs it. Rules TRUST-11 to
TRUST-14 (spec/trust.md), PROC-7.

One process has the kubelet with its HTTPS port, the proxy and the name server. A second start uses
the credentials of the first.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import frozen

from refk8s.components.cluster_dns import ClusterDns
from refk8s.components.component_process import ClientOptions, Component, run_client
from refk8s.components.files import CannotRun
from refk8s.components.kubelet_process import find_addresses, find_name
from refk8s.components.node_directory import NodeDirectory
from refk8s.components.node_join.credentials import NodeCredentials, join_cluster
from refk8s.components.node_join.discovery import check_invitation, check_servers
from refk8s.core.client.kubeconfig import Pem
from refk8s.core.client.servers import after_command, known_servers


@frozen
class JoinOptions(ClientOptions):
    """The flags of `refk8s node join`."""

    servers: tuple[str, ...] = ()
    token: str = ""
    ca_hashes: tuple[str, ...] = ()
    node_name: str | None = None
    node_ip: str | None = None
    data_dir: str | None = None
    resolv_conf: str | None = None
    keep: bool = False
    network: str | None = None
    port: int | None = None

    @property
    def resolv_conf_path(self) -> Path | None:
        return Path(self.resolv_conf).absolute() if self.resolv_conf else None


def run_join(options: JoinOptions) -> int:
    """Join if this machine has not joined yet, and run the node until a signal; returns the exit
    status. Raises CannotRun."""
    directory = NodeDirectory(options.data_dir)
    running = _RunningNode(options, directory)
    try:
        running.join()
        return run_client("kubelet", running.client_options, running.prepare, running.keep_servers)
    finally:
        if running.has_joined:
            directory.release()
        else:
            directory.abandon()


class _RunningNode:
    """The parts of the process, in the order of their start: `join`, `prepare`."""

    def __init__(self, options: JoinOptions, directory: NodeDirectory) -> None:
        self._options = options
        self._directory = directory
        self._credentials = NodeCredentials(directory.path)
        self._dns: ClusterDns | None = None
        self._name = ""
        self.has_joined = bool(self._credentials.node_name())

    def join(self) -> None:
        """Have credentials: those of an earlier start, or new ones. Raises CannotRun."""
        from refk8s.components.choose_nodes import choose_nodes
        from refk8s.components.clock import Clock

        options, credentials, clock = self._options, self._credentials, Clock()
        stored = credentials.node_name()
        self._name = find_name(options.node_name or stored or None)
        if stored and stored != self._name:
            raise CannotRun(
                f"this machine has joined as {stored}: refk8s node leave comes before another name"
            )
        if stored and options.ca_hashes and not credentials.is_of(options.ca_hashes):
            raise CannotRun(
                "this machine has joined another cluster, which has not the key of --ca-hash: refk8s node leave comes first"
            )
        # before a token is used: without an engine there is no node
        choose_nodes("docker", 1, self._directory.path, clock, None, self._name)
        if credentials.are_valid(clock.now()):
            self._use_servers(check_servers(options.servers))
            return
        if not options.servers or not options.token:
            problem = "its certificate has expired" if stored else "it has not joined a cluster"
            raise CannotRun(
                f"this machine needs a token, since {problem}: run what refk8s token create --print-join-command prints"
            )
        invitation = check_invitation(options.servers, options.token, options.ca_hashes)
        join_cluster(invitation, self._name, credentials)
        self.has_joined = True

    def _use_servers(self, given: tuple[str, ...]) -> None:
        """Store the API servers of the command."""
        stored = self._credentials.servers()
        if (servers := after_command(given, stored)) != stored:
            self._credentials.write_kubeconfig(servers)

    @property
    def client_options(self) -> ClientOptions:
        return ClientOptions(
            str(self._credentials.kubeconfig),
            bind_address=self._options.bind_address,
            secure_port=self._options.secure_port,
        )

    def keep_servers(self, learnt: tuple[str, ...]) -> None:
        """Store the API servers for the next start: the first, and those of the cluster now."""
        first = self._credentials.servers()[0]
        self._credentials.write_kubeconfig(known_servers((first,), learnt))

    async def prepare(self, component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        """Start the node's parts; returns words for the ready line, and what ends them."""
        from refk8s.components.choose_nodes import choose_nodes
        from refk8s.components.dns_address import find_dns_address
        from refk8s.components.kubelet.certificates import (
            CertificateKeeper,
            client_certificate,
            serving_certificate,
        )
        from refk8s.components.kubelet.port import KubeletPort, serve_nodes
        from refk8s.components.node_parts import node_parts
        from refk8s.core.kubelet.config import KubeletConfig

        options, credentials, name = self._options, self._credentials, self._name
        addresses = find_addresses(component, options.node_ip)
        address, node_ip = addresses[0], ",".join(addresses)
        port = KubeletPort(component, credentials.authority.read_bytes())
        port.listen(address, options.port)
        dns = await find_dns_address(component)
        nodes = choose_nodes(
            "docker",
            1,
            self._directory.path,
            component.clock,
            options.resolv_conf_path,
            name,
            node_ip,
            options.network,
            cluster_dns=dns,
        )
        started = nodes.start(self._directory.cluster_id)
        [node] = started
        config = KubeletConfig(
            node_ip=node_ip,
            port=port.number,
            cluster_dns=(dns,) if node.name_server is not None else (),
        )
        parts, self._dns = node_parts(node, config, component.api.call)
        for machine, adapters in parts:
            component.add(machine, **adapters)
        serve_nodes(port, component, started)

        def use(path: Path) -> None:
            port.use(Pem(path=str(path)), Pem(path=str(path)))

        call, now = component.api.call, component.clock.now
        keepers = [
            CertificateKeeper(credentials.client, client_certificate(name), call, now),
            CertificateKeeper(
                credentials.serving, serving_certificate(name, address), call, now, use
            ),
        ]
        for keeper in keepers:
            keeper.start()
        if self._dns is not None:
            self._dns.start()

        async def close() -> None:
            for keeper in keepers:
                keeper.stop()
            if self._dns is not None:
                self._dns.stop()
            await port.close()
            # a start that failed has not run any container
            await nodes.close(options.keep or not component.is_ready)

        return f" for node {name} at {port.url} with {nodes.words}", close
