"""Connections to pods and to the endpoints of services, for the proxy subresources and for
webhooks. Rules STREAM-12 to STREAM-14 (spec/streams.md).

A connection to a pod is made by the kubelet of its node to the address that the runtime has for it,
so no API object can lead it elsewhere (STREAM-14).
"""

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen

from refk8s.components.apiserver import ApiServer
from refk8s.components.client.exchange import Streams, dial
from refk8s.components.clock import CHANCE
from refk8s.core.api import status
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.resources import ENDPOINT_SLICES, PODS, SERVICES, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.calls import ServicePort
from refk8s.core.apiserver.proxy import (
    Endpoint,
    Named,
    choose_pod_port,
    is_endpoint_of,
    list_addresses,
    list_endpoints,
)
from refk8s.core.ports import Kubelet


@frozen
class Destination:
    """What a request is sent to. `host`: that of its own URLs, and of the header Host if
    `has_own_host`."""

    connect: Callable[[], Awaitable[Streams]]
    host: str
    is_tls: bool = False
    has_own_host: bool = False


class Destinations:
    """The pods and services of one API server's store."""

    def __init__(self, api: ApiServer, kubelet_of: Callable[[Pod], Awaitable[Kubelet]]) -> None:
        self._api = api
        self._kubelet_of = kubelet_of

    def get(self, resource: Resource, namespace: str, name: str) -> Any:
        """The object. Raises ApiError 404."""
        record = self._api.store.get(resource.key(namespace, name))
        if record is None:
            raise ApiError(status.not_found(resource, name))
        return record.value

    async def of_pod(self, namespace: str, named: Named) -> Destination:
        """The port of a pod. Raises ApiError 400 and 404."""
        pod: Pod = self.get(PODS, namespace, named.name)
        return await self._to_pod(pod, choose_pod_port(pod, named), named)

    async def _to_pod(self, pod: Pod, port: int, named: Named) -> Destination:
        kubelet = await self._kubelet_of(pod)
        address = (pod.status.pod_ip if pod.status is not None else "") or ""
        host = f"[{address}]" if ":" in address else address
        return Destination(
            lambda: kubelet.dial(pod, port), f"{host}:{port}", named.scheme == "https"
        )

    def slices_of(self, namespace: str, service: str) -> list[EndpointSlice]:
        """The slices of a service."""
        prefix = f"{ENDPOINT_SLICES.prefix}{namespace}/"
        return [
            record.value
            for record in self._api.store.list(prefix).records
            if (record.value.metadata.labels or {}).get("kubernetes.io/service-name") == service
        ]

    async def of_service(self, namespace: str, named: Named) -> Destination:
        """A ready pod of the service, chosen at random. Raises ApiError 404 and 503."""
        service = self.get(SERVICES, namespace, named.name)
        waiting = list_endpoints(service, named, self.slices_of(namespace, named.name))
        while waiting:
            number = int.from_bytes(CHANCE.draw(4), "big") % len(waiting)
            endpoint: Endpoint = waiting.pop(number)
            record = self._api.store.get(PODS.key(namespace, endpoint.pod))
            if record is not None and is_endpoint_of(endpoint, record.value):
                return await self._to_pod(record.value, endpoint.port, named)
        words = f"no endpoints available for service {status.show(named.name)}"
        raise ApiError(status.unavailable(words))

    async def reach(self, port: ServicePort) -> Streams:
        """A connection to a service's port: to one of its ready pods; to the host that it names, if
        it is one of type ExternalName; else to an endpoint that is no pod (CALL-4). Raises
        ApiError, StreamFailed and OSError."""
        record = self._api.store.get(SERVICES.key(port.namespace, port.name))
        if record is None:
            raise ApiError(status.unavailable(f"service {status.show(port.name)} not found"))
        service = record.value
        if service.spec.type == "ExternalName":
            return await dial(service.spec.external_name or "", port.port)
        named = Named("https", port.name, str(port.port))
        slices = self.slices_of(port.namespace, port.name)
        if not list_endpoints(service, named, slices):
            others = list_addresses(service, named, slices)
            if others:
                number = int.from_bytes(CHANCE.draw(4), "big") % len(others)
                return await dial(*others[number])
        return await (await self.of_service(port.namespace, named)).connect()
