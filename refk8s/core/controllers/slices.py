"""The division of endpoints into slices: few writes, at most 100 endpoints in one. Rules SLICE-2,
SLICE-4, SLICE-9 (spec/workloads/endpoints.md).

An endpoint stays in its slice. New endpoints are put into slices that are written anyway, then into
one slice with room for all that are left, then into new slices. An empty slice is reused in place
of a new one, because one write is one change for every watcher. Each family has slices of its own
(SLICE-9), because a slice has one address type, which is immutable. Source: KEP-752
"EndpointSlice"; Kubernetes documentation, "IPv4/IPv6 dual-stack".
"""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from refk8s.core.api.discovery_v1 import Endpoint, EndpointPort, EndpointSlice
from refk8s.core.api.families import IPV4
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINT_SLICES
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import Index, View
from refk8s.core.value import Value

ENDPOINTS_MAX = 100  # in one slice
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"

Ports = tuple[EndpointPort, ...]
Wanted = dict[Ports, list[Endpoint]]


def _service_of(slice: EndpointSlice) -> tuple[str, ...]:
    name = (slice.metadata.labels or {}).get(SERVICE_NAME)
    return (f"{slice.metadata.namespace}/{name}",) if name else ()


def services_of_slice(
    view: View, old: EndpointSlice | None, new: EndpointSlice | None
) -> list[Key]:
    """The services that the label of a slice names, before and after."""
    return list(
        dict.fromkeys(
            key for slice in (old, new) if slice is not None for key in _service_of(slice)
        )
    )


BY_SERVICE = Index("service", ENDPOINT_SLICES, _service_of)


def slices_of(view: View, key: Key, manager: str) -> list[EndpointSlice]:
    """The slices of a service that this controller manages, in key order."""
    found: list[EndpointSlice] = view.indexed(ENDPOINT_SLICES, "service", key)
    return [slice for slice in found if (slice.metadata.labels or {}).get(MANAGED_BY) == manager]


class Layout(Value, frozen=True):
    """The wanted slices of one family: (slice, ports, endpoints) for each that is kept, (ports,
    endpoints) for each new one."""

    family: str
    kept: tuple[tuple[EndpointSlice, Ports, tuple[Endpoint, ...]], ...]
    created: tuple[tuple[Ports, tuple[Endpoint, ...]], ...]
    deleted: tuple[EndpointSlice, ...]


def lay_out_families(
    slices: list[EndpointSlice],
    wanted: Mapping[str, Wanted],
    placeholder: bool,
    endpoints_max: int = ENDPOINTS_MAX,
) -> tuple[Layout, ...]:
    """Divide the wanted endpoints of each family into slices of it (SLICE-9); slices of other
    families are deleted. O(endpoints)."""
    by_family: dict[str, list[EndpointSlice]] = {family: [] for family in wanted}
    for slice in slices:
        by_family.setdefault(slice.address_type, []).append(slice)
    return tuple([
        lay_out(of_family, wanted.get(family, {}), placeholder and family in wanted, endpoints_max, family)
        for family, of_family in by_family.items()
    ])  # fmt: skip


def lay_out(
    slices: list[EndpointSlice],
    wanted: Wanted,
    placeholder: bool,
    endpoints_max: int = ENDPOINTS_MAX,
    family: str = IPV4,
) -> Layout:
    """Divide the wanted endpoints into slices, which are all of this family. `placeholder`: without
    endpoints there is one empty slice. O(endpoints)."""
    kept: list[tuple[EndpointSlice, Ports, tuple[Endpoint, ...]]] = []
    created: list[tuple[Ports, tuple[Endpoint, ...]]] = []
    deleted: list[EndpointSlice] = []
    by_ports: dict[Ports, list[EndpointSlice]] = {ports: [] for ports in wanted}
    for slice in slices:
        by_ports.setdefault(tuple(slice.ports or ()), []).append(slice)
    for ports, of_ports in by_ports.items():
        filled, rest = _fill(of_ports, wanted.get(ports, []), endpoints_max)
        for slice, endpoints in zip(of_ports, filled, strict=True):
            if endpoints:
                kept.append((slice, ports, endpoints))
            else:
                deleted.append(slice)
        created += [
            (ports, tuple(rest[start : start + endpoints_max]))
            for start in range(0, len(rest), endpoints_max)
        ]
    if placeholder and not kept and not created:
        empty = next((slice for slice in deleted if not slice.ports and not slice.endpoints), None)
        if empty is None:
            created.append(((), ()))
        else:
            deleted.remove(empty)
            kept.append((empty, (), ()))
    reused = deleted[: len(created)]
    kept += [(slice, *made) for slice, made in zip(reused, created, strict=False)]
    return Layout(
        family,
        tuple(kept),
        tuple(created[len(reused) :]),
        tuple(slice for slice in deleted if slice not in reused),
    )


def _fill(
    slices: list[EndpointSlice], wanted: list[Endpoint], endpoints_max: int
) -> tuple[list[tuple[Endpoint, ...]], list[Endpoint]]:
    """The endpoints of each of these slices (with the same ports), and those that are left for new
    slices (SLICE-4)."""
    waiting = {identity(endpoint): endpoint for endpoint in wanted}
    filled: list[list[Endpoint]] = []
    for slice in slices:
        staying: list[Endpoint] = []
        for endpoint in slice.endpoints or ():
            if len(staying) < endpoints_max and identity(endpoint) in waiting:
                staying.append(waiting.pop(identity(endpoint)))
        filled.append(staying)
    rest = list(waiting.values())
    is_written = [
        tuple(staying) != tuple(slice.endpoints or ())
        for slice, staying in zip(slices, filled, strict=True)
    ]
    for staying, written in zip(filled, is_written, strict=True):
        if written:
            room = endpoints_max - len(staying)
            staying += rest[:room]
            rest = rest[room:]
    unwritten = [
        staying for staying, written in zip(filled, is_written, strict=True) if not written
    ]
    fitting = [staying for staying in unwritten if len(staying) + len(rest) <= endpoints_max]
    if rest and fitting:
        max(fitting, key=len).extend(rest)
        rest = []
    return [tuple(staying) for staying in filled], rest


def identity(endpoint: Endpoint) -> tuple[str, str]:
    """What makes it the same endpoint: its address and its pod."""
    reference = endpoint.target_ref
    return endpoint.addresses[0] if endpoint.addresses else "", (
        reference.uid or ""
    ) if reference is not None else ""


def writes(layouts: Iterable[Layout], template: ObjectMeta, service: str) -> tuple[Request, ...]:
    """The requests for these layouts. `template`: the metadata of new slices; all slices get its
    labels and annotations."""
    return tuple([each for layout in layouts for each in _writes(layout, template, service)])


def _writes(layout: Layout, template: ObjectMeta, service: str) -> list[Request]:
    requests = [deletion(slice, "it has no endpoints left") for slice in layout.deleted]
    for slice, ports, endpoints in layout.kept:
        old = slice.metadata
        metadata = replace(old, labels=template.labels, annotations=template.annotations)
        same = (old.labels or {}) == (template.labels or {}) and (old.annotations or {}) == (
            template.annotations or {}
        )
        if same and tuple(slice.endpoints or ()) == endpoints and tuple(slice.ports or ()) == ports:
            continue
        body = replace(slice, metadata=metadata, endpoints=endpoints or None, ports=ports or None)
        because = _because(endpoints, service)
        requests.append(
            Request(
                "update",
                ENDPOINT_SLICES,
                old.namespace or "",
                old.name or "",
                body=body,
                because=because,
            )
        )
    for ports, endpoints in layout.created:
        body = EndpointSlice(
            metadata=template,
            address_type=layout.family,
            endpoints=endpoints or None,
            ports=ports or None,
        )
        because = _because(endpoints, service)
        requests.append(
            Request(
                "create", ENDPOINT_SLICES, template.namespace or "", "", body=body, because=because
            )
        )
    return requests


def _because(endpoints: tuple[Endpoint, ...], service: str) -> str:
    ready = sum(1 for endpoint in endpoints if endpoint.conditions.ready)
    return f"{ready} of {len(endpoints)} endpoints of service {service} are ready"


def deletion(slice: EndpointSlice, because: str) -> Request:
    """The request that deletes this slice, and no later one with the same name."""
    metadata = slice.metadata
    options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
    return Request(
        "delete",
        ENDPOINT_SLICES,
        metadata.namespace or "",
        metadata.name or "",
        body=options,
        because=because,
    )
