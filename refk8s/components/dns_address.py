"""Where a process that is not the API server learns the address of the cluster's DNS. Rule HOST-18
(spec/host.md)."""

import asyncio
from typing import TYPE_CHECKING

from refk8s.components.listening import DNS_ADDRESS
from refk8s.core.api.request import Request
from refk8s.core.api.resources import SERVICES

if TYPE_CHECKING:
    from refk8s.components.component_process import Component


ANSWER_SECONDS_MAX = 3.0


async def find_dns_address(component: "Component") -> str:
    """The cluster IP of the Service kube-system/kube-dns; that of the default range while the
    Service cannot be read, or if it is headless."""
    request = Request("get", SERVICES, "kube-system", "kube-dns")
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            response = await component.api.call(request)
    except (OSError, TimeoutError):
        return DNS_ADDRESS
    if response is None or not response.ok:
        return DNS_ADDRESS
    address = response.body.spec.cluster_ip or ""
    return DNS_ADDRESS if address in ("", "None") else str(address)
