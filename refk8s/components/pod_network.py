"""The pods' network of a node, for the processes that run beside another program's kubelet."""

from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from refk8s.components.component_process import Component
from refk8s.components.files import CannotRun
from refk8s.core.api import resources
from refk8s.core.api.request import Request


class PodNetwork:
    """The pods' network of a node: by the flags, or by the Node's podCIDR, whose first address is
    that of the bridge."""

    def __init__(
        self, component: Component, node_name: str, pod_cidr: str | None, address: str | None = None
    ) -> None:
        """`pod_cidr`, `address`: the flags. Raises CannotRun if they are not valid."""
        self._component = component
        self._node_name = node_name
        try:
            self._cidr = IPv4Network(pod_cidr) if pod_cidr else None
        except (AddressValueError, NetmaskValueError, ValueError):
            raise CannotRun(f"--pod-cidr {pod_cidr}: not a range such as 10.244.1.0/24") from None
        try:
            self._address = str(IPv4Address(address)) if address else ""
        except AddressValueError:
            raise CannotRun(f"--address {address}: not an IPv4 address") from None

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
                f"the node {self._node_name} has no podCIDR of IPv4; give --pod-cidr"
            ) from None
