"""Laws of the service default/kubernetes of several API servers. Rule HOST-20 (spec/host.md).

They apply to clusters whose API servers keep Leases.
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.core_v1 import Endpoints
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS
from refk8s.core.apiserver.kubernetes_service import NAME, KubernetesServiceReconciler
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.cluster.state import Cluster, is_up
from refk8s.core.loop.loop import Loop
from refk8s.core.machine import server_number
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.kubernetes_service import (
    host_20_servers_are_listed,
    host_20_the_endpoints_are_the_servers_that_live,
)
from refk8s.core.store import Change

KEY = "default/kubernetes"


def endpoints_are_the_servers_that_live(cluster: Cluster) -> Iterable[str] | None:
    """HOST-20: the Endpoints, and the EndpointSlices together."""
    servers = _servers(cluster)
    living = {
        server
        for name, server in servers.items()
        if is_up(cluster, name) and server_number(name) not in cluster.down
    }
    if not living:
        return None  # nothing could write them
    return [
        words
        for what, found in zip(("Endpoints", "EndpointSlices"), listed(cluster), strict=True)
        for words in host_20_the_endpoints_are_the_servers_that_live(what, found, living)
    ]


def listed(cluster: Cluster) -> tuple[set[Server], set[Server]]:
    """The servers in the Endpoints, and those in the EndpointSlices."""
    endpoints = objects(cluster, f"{ENDPOINTS.prefix}{KEY}")
    slices = objects(cluster, f"{ENDPOINT_SLICES.prefix}{KEY}")
    return (
        {server for one in endpoints for server in _in_endpoints(one)},
        {server for one in slices for server in _in_slice(one)},
    )


def endpoints_list_servers(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """HOST-20: a write of the Endpoints."""
    known = set(_servers(after).values())
    if not known or change.record is None:
        return None
    old = _in_endpoints(change.previous.value) if change.previous is not None else set[Server]()
    return host_20_servers_are_listed("Endpoints", old, _in_endpoints(change.record.value), known)


def _servers(cluster: Cluster) -> dict[str, Server]:
    """By the name of the machine in its process."""
    found: dict[str, Server] = {}
    for name, machine in cluster.machines.items():
        if server_number(name) is not None and isinstance(machine, Loop):
            reconciler = machine.reconcilers[NAME]
            assert isinstance(reconciler, KubernetesServiceReconciler)
            found[name] = reconciler.server
    return found


def _in_endpoints(endpoints: Endpoints) -> set[Server]:
    return {
        Server(address.ip, port.port)
        for subset in endpoints.subsets or ()
        for address in subset.addresses or ()
        for port in subset.ports or ()
    }


def _in_slice(endpoint_slice: EndpointSlice) -> set[Server]:
    return {
        Server(address, port.port or 0)
        for endpoint in endpoint_slice.endpoints or ()
        for address in endpoint.addresses
        for port in endpoint_slice.ports or ()
    }


OF_CHANGES = (Law("HOST-20", endpoints_list_servers, prefix=f"{ENDPOINTS.prefix}{KEY}"),)
OF_REST = (Law("HOST-20", endpoints_are_the_servers_that_live),)
