"""The name server of a node as a process of its own. Rules PROC-1, PROC-5 (spec/processes.md),
DNS-19 (spec/dns.md)."""

from collections.abc import Awaitable, Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path

from attrs import frozen

from refk8s.components.component_process import ClientOptions, Component, run_client
from refk8s.components.files import CannotRun
from refk8s.components.listening import DNS_ADDRESS
from refk8s.core.api import resources
from refk8s.core.api.request import Request


@frozen
class DnsOptions(ClientOptions):
    """The flags of `refk8s dns`."""

    node_name: str | None = None
    address: str | None = None
    pod_cidr: str | None = None
    cluster_domain: str = "cluster.local"
    resolv_conf: str | None = None


class PodNetwork:
    """The pods' network of a node: by the flags, or by the Node's podCIDR, whose first address is
    that of the bridge."""

    def __init__(self, component: Component, node_name: str, options: DnsOptions) -> None:
        self._component = component
        self._node_name = node_name
        try:
            self._cidr = IPv4Network(options.pod_cidr) if options.pod_cidr else None
        except (AddressValueError, NetmaskValueError, ValueError):
            raise CannotRun(
                f"--pod-cidr {options.pod_cidr}: not a range such as 10.244.1.0/24"
            ) from None
        try:
            self._address = str(IPv4Address(options.address)) if options.address else ""
        except AddressValueError:
            raise CannotRun(f"--address {options.address}: not an IPv4 address") from None

    async def find(self) -> tuple[str, IPv4Network]:
        """(the node's address in the pods' network, that network). OSError while it is unknown."""
        cidr = self._cidr or await self._of_node()
        return self._address or str(cidr[1]), cidr

    async def _of_node(self) -> IPv4Network:
        request = Request("get", resources.NODES, "", self._node_name)
        response = await self._component.api.call(request)
        if response is None or not response.ok:
            raise OSError(f"the API server does not return the node {self._node_name}")
        text = response.body.spec.pod_cidr or ""
        try:
            return IPv4Network(text)
        except ValueError:
            raise OSError(
                f"the node {self._node_name} has no podCIDR of IPv4; give --pod-cidr and --address"
            ) from None


def run_dns(options: DnsOptions) -> int:
    """Run `refk8s dns` until a signal; returns the exit status."""

    async def prepare(component: Component) -> tuple[str, Callable[[], Awaitable[None]]]:
        from refk8s.components.cluster_dns import ClusterDns
        from refk8s.components.this_machine import create_name_server, hostname
        from refk8s.core.network.dns_machine import dns

        node_name = options.node_name or hostname()
        conf = Path(options.resolv_conf).absolute() if options.resolv_conf else None
        pods = PodNetwork(component, node_name, options)
        server = create_name_server(options.cluster_domain, conf, DNS_ADDRESS, pods.find)
        keeper = ClusterDns(server, node_name, component.api.call)
        words = f" for node {node_name}"
        if options.address:
            try:
                address, ports = await server.listen()
            except OSError as error:
                raise CannotRun(
                    f"cannot listen at {options.address}: {error.strerror or error}; choose another with --address"
                ) from None
            words = f" at {address}:{ports['dns']}{words}"
        component.add(dns("dns", options.cluster_domain), name_server=server)
        keeper.start()

        async def close() -> None:
            keeper.stop()

        return words, close

    return run_client("dns", options, prepare)
