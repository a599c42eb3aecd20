"""The name server of a node as a process of its own. Rules PROC-1, PROC-5 (spec/processes.md),
DNS-19 (spec/dns.md)."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import frozen

from refk8s.components.component_process import ClientOptions, Component, run_client
from refk8s.components.dns_address import find_dns_address
from refk8s.components.files import CannotRun
from refk8s.components.listening import DNS_ADDRESS
from refk8s.components.pod_network import PodNetwork


@frozen
class DnsOptions(ClientOptions):
    """The flags of `refk8s dns`."""

    node_name: str | None = None
    address: str | None = None
    pod_cidr: str | None = None
    cluster_domain: str = "cluster.local"
    resolv_conf: str | None = None


def run_dns(options: DnsOptions) -> int:
    """Run `refk8s dns` until a signal; returns the exit status."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.cluster_dns import ClusterDns
        from refk8s.components.this_machine import create_name_server, hostname
        from refk8s.core.network.dns_machine import dns

        node_name = options.node_name or hostname()
        conf = Path(options.resolv_conf).absolute() if options.resolv_conf else None
        pods = PodNetwork(component, node_name, options.pod_cidr, options.address)
        server = create_name_server(options.cluster_domain, conf, DNS_ADDRESS, pods.find)
        keeper = ClusterDns(server, node_name, component.api.call)
        words = f" for node {node_name}"
        if options.address:
            try:
                address, ports = await server.listen()
            except OSError as error:
                raise CannotRun(
                    f"cannot listen at {options.address}: {error.strerror or error}; "
                    "choose another with --address"
                ) from None
            words = f" at {address}:{ports['dns']}{words}"
        # after the port is open: the API server may not answer yet
        server.cluster_address = await find_dns_address(component)
        component.add(dns("dns", options.cluster_domain), name_server=server)
        keeper.start()

        async def close() -> None:
            keeper.stop()

        return words, close

    return run_client("dns", options, prepare)
