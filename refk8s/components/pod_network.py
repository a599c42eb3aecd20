"""The pods' network of a node, for the processes that run beside another program's kubelet."""

from ipaddress import AddressValueError, IPv4Address, IPv4Network

from refk8s.components.component_process import Component
from refk8s.components.files import CannotRun
from refk8s.core.api import resources
from refk8s.core.api.families import Network, read_ranges
from refk8s.core.api.request import Request


class PodNetwork:
    """The pods' network of a node: by the flags, or by the Node's podCIDRs. The first address of
    the range of IPv4 is that of the bridge."""

    def __init__(
        self, component: Component, node_name: str, pod_cidr: str | None, address: str | None = None
    ) -> None:
        """`pod_cidr`, `address`: the flags. Raises CannotRun if they are not valid."""
        self._component = component
        self._node_name = node_name
        try:
            self._ranges = read_ranges(pod_cidr) if pod_cidr else ()
            if pod_cidr:
                _of_ipv4(self._ranges)
        except ValueError:
            raise CannotRun(f"--pod-cidr {pod_cidr}: not a range such as 10.244.1.0/24") from None
        try:
            self._address = str(IPv4Address(address)) if address else ""
        except AddressValueError:
            raise CannotRun(f"--address {address}: not an IPv4 address") from None

    async def find(self) -> tuple[str, IPv4Network]:
        """(the node's address in the pods' network, that network). OSError while it is unknown."""
        cidr = _of_ipv4(await self.ranges())
        return self._address or str(cidr[1]), cidr

    async def ranges(self) -> tuple[Network, ...]:
        """One range, or one of each family. OSError while they are unknown."""
        return self._ranges or await self._of_node()

    async def _of_node(self) -> tuple[Network, ...]:
        request = Request("get", resources.NODES, "", self._node_name)
        response = await self._component.api.call(request)
        if response is None or not response.ok:
            raise OSError(f"the API server does not return the node {self._node_name}")
        spec = response.body.spec
        try:
            found = read_ranges(",".join(spec.pod_cidrs or (spec.pod_cidr or "",)))
            _of_ipv4(found)
            return found
        except ValueError:
            raise OSError(
                f"the node {self._node_name} has no podCIDR of IPv4; give --pod-cidr"
            ) from None


def _of_ipv4(ranges: tuple[Network, ...]) -> IPv4Network:
    """The range of IPv4, which every node has (D-23). ValueError without one."""
    found = next((each for each in ranges if isinstance(each, IPv4Network)), None)
    if found is None:
        raise ValueError("no range of IPv4")
    return found
