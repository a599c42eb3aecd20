"""`refk8s kubelet`: the kubelet of this machine, or of simulated nodes, as a process of its own.
Rules PROC-1, PROC-5, PROC-7 (spec/processes.md)."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from refk8s.components.component_process import ClientOptions, Component, run_client
from refk8s.components.dns_address import find_dns_address
from refk8s.components.files import CannotRun
from refk8s.core.api.families import IPV4, IPV6, family_of
from refk8s.core.ports import Nodes


@frozen
class KubeletOptions(ClientOptions):
    """The flags of `refk8s kubelet`."""

    adapter: str = "fake"
    nodes: int | None = None
    node_name: str | None = None
    node_ip: str | None = None
    data_dir: str | None = None
    resolv_conf: str | None = None
    keep: bool = False
    address: str | None = None
    port: int | None = None
    tls_cert_file: str | None = None
    tls_private_key_file: str | None = None
    client_ca_file: str | None = None
    pki: str | None = None
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    network: str | None = None

    @property
    def resolv_conf_path(self) -> Path | None:
        return Path(self.resolv_conf).absolute() if self.resolv_conf else None


def run_kubelet(options: KubeletOptions) -> int:
    """Run `refk8s kubelet` until a signal; returns the exit status. Raises CannotRun."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.choose_nodes import check_engine, choose_nodes
        from refk8s.components.kubelet.port import open_port, serve_nodes
        from refk8s.components.node_directory import NodeDirectory
        from refk8s.core.kubelet.config import KubeletConfig
        from refk8s.core.kubelet.kubelet import kubelet
        from refk8s.core.network.node_network_machine import node_network

        if options.adapter == "fake":
            nodes: Nodes = choose_nodes("fake", options.nodes, Path(), component.clock)
            directory = None
            addresses = find_addresses(component, options.node_ip)
            started = nodes.start("")
        else:
            name = find_name(options.node_name)
            addresses = find_addresses(component, options.node_ip)
            check_engine(options.adapter)
            dns = await find_dns_address(component)
            with ExitStack() as undo:
                directory = NodeDirectory(options.data_dir)
                undo.callback(directory.abandon)
                nodes = choose_nodes(
                    options.adapter,
                    1,
                    directory.path,
                    component.clock,
                    options.resolv_conf_path,
                    name,
                    ",".join(addresses),
                    options.network,
                    cluster_dns=dns,
                )
                started = nodes.start(directory.cluster_id)
                undo.pop_all()
        names = (started[0].name,) if len(started) == 1 else ()
        port = open_port(component, options, addresses[0], names)
        config = KubeletConfig(
            node_ip=",".join(addresses) if port is not None else "",
            port=port.number if port is not None else 0,
            cluster_dns=options.cluster_dns,
            cluster_domain=options.cluster_domain,
            simulates_devices=nodes.simulates_devices,
        )
        if len(started) > 1:
            component.share_watches()
        for node in started:
            component.add(kubelet(node.name, config), runtime=node.runtime)
            if node.network is not None:
                component.add(node_network(node.name), network=node.network)
        words = f" for node {started[0].name}" if directory is not None else ""
        if port is not None:
            serve_nodes(port, component, started)
            words += f" at {port.url}"

        async def close() -> None:
            if port is not None:
                await port.close()
            # a start that failed has not run any container
            await nodes.close(options.keep or not component.is_ready)
            if directory is not None:
                directory.release() if component.is_ready else directory.abandon()

        return f"{words} with {nodes.words}", close

    return run_client("kubelet", options, prepare)


def find_name(flag: str | None) -> str:
    """The name of this machine's Node. Raises CannotRun if it is no name of a Node."""
    from refk8s.components.this_machine import hostname
    from refk8s.core.apiserver.validation.names import dns_subdomain

    name = flag or hostname()
    if dns_subdomain(name):
        what = f"--node-name {name}" if flag else f"the name of this machine, {name},"
        also = "" if flag else "; give one with --node-name"
        raise CannotRun(
            f"{what}: not a name of a Node: small letters, digits, dashes and dots, "
            f"at most 253 characters{also}"
        )
    return name


def find_addresses(component: Component, flag: str | None) -> tuple[str, ...]:
    """The addresses of this machine's Node: one of IPv4, by default the one that leads to the API
    server, and one of IPv6 if the flag has it. Raises CannotRun if they are not of this machine."""
    from refk8s.components.this_machine import address_towards, is_own_address

    if not flag:
        url = urlsplit(component.api.server)
        return (address_towards(url.hostname or "", url.port or 443),)
    found = tuple(flag.split(","))
    if [family_of(each) for each in found] not in ([IPV4], [IPV4, IPV6]):
        raise CannotRun(f"--node-ip {flag}: not an IPv4 address, or one and an IPv6 address")
    for each in found:
        if not is_own_address(each):
            raise CannotRun(f"--node-ip {flag}: {each} is not an address of this machine")
    return found
