"""Extended resources that classes of devices provide: on which nodes a pod needs devices for them,
the claim for these, and how it is written. Rules DRA-23 to DRA-25 (spec/devices.md).

    the node has the resource itself -> it is counted there, as any other (SCHED-9)
    else a class has its name        -> the node needs free devices of the class
    decided -> the claim is created, allocated and reserved; the pod's status names it; binding
    back to the queue                -> the claim is deleted before the pod is decided again

Source: KEP-5004 "DRA: extended resource support"; API reference, "DeviceClass"
(extendedResourceName); the plugin DynamicResources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from refk8s.core.api import quantity
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference, Preconditions
from refk8s.core.api.request import Request, update_of
from refk8s.core.api.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.view import View
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.pods.devices import (
    EXTENDED_ANNOTATION,
    FINALIZER,
    consumer,
    consumers,
    is_reserved_for,
)
from refk8s.core.pods.requests import patch_status
from refk8s.core.pods.resources import CLASS_PREFIX
from refk8s.core.scheduler.claimed import PLUGIN
from refk8s.core.scheduler.device_pools import Inventory, is_lost, results_of
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.core.api.core_v1 import Container, Pod
    from refk8s.core.api.resource_v1 import DeviceClass, DeviceRequest, ResourceClaim
    from refk8s.core.scheduler.claims import InFlight

NOT_CREATED = "<extended-resources>"
"""The name of a claim that is not created yet; no object can have it."""
STALE = "the claim of an earlier attempt for its extended resources is being deleted"


class Mapped(NamedTuple):
    """Which request of the claim has devices for a resource of a container."""

    container: str
    resource: str
    request: str


# --- on which nodes -------------------------------------------------------------------------------


def with_backed(view: View, pod: PodInfo, profile: Profile) -> PodInfo:
    """DRA-23: the pod with the extended resources that classes provide now. O(its resources), and
    O(classes) after a change of these."""
    extended = pod.needs.extended
    if not extended:
        return pod
    names: tuple[str, ...] = ()
    if PLUGIN in profile.filters:
        classes = classes_by_resource(view.table(DEVICE_CLASSES).objects)
        names = tuple([name for name in extended if name in classes])
    return pod if names == pod.needs.backed else evolve(pod, needs=pod.needs.with_backed(names))


@remember_identical(8)
def classes_by_resource(classes: Mapping[str, DeviceClass]) -> Mapping[str, str]:
    """The class for each extended resource: its own name, and that of its spec. Of several classes
    with one name the class that was created last counts, and of these the first by name."""
    by_name = sorted(classes.values(), key=lambda one: one.metadata.name or "", reverse=True)
    found: dict[str, str] = {}
    for one in sorted(by_name, key=lambda one: one.metadata.creation_timestamp or ""):
        if one.spec.extended_resource_name:
            found[one.spec.extended_resource_name] = one.metadata.name or ""
    own = {f"{CLASS_PREFIX}{name}": name for name in sorted(classes)}
    return {**found, **own}


def lacking(backed: Iterable[str], facts: NodeFacts) -> tuple[str, ...]:
    """The resources for which this node needs devices."""
    return tuple([name for name in backed if not facts.extended.get(name)])


# --- the claim ------------------------------------------------------------------------------------


class ExtendedClaims:
    """The claim for the extended resources of one pod: another one for each set of resources that
    nodes lack."""

    def __init__(self, pod: Pod, backed: tuple[str, ...], classes: Mapping[str, DeviceClass]):
        self._pod, self._backed = pod, backed
        self._classes = classes_by_resource(classes)
        self._kept: dict[tuple[str, ...], tuple[ResourceClaim, tuple[Mapped, ...]]] = {}

    def of_node(self, facts: NodeFacts) -> tuple[ResourceClaim, tuple[Mapped, ...]] | None:
        """The claim that the pod needs on this node; None if it needs none."""
        names = lacking(self._backed, facts)
        if not names:
            return None
        if names not in self._kept:
            requests, mapped = requests_of(self._pod, names, self._classes)
            self._kept[names] = _claim(self._pod, requests), mapped
        return self._kept[names]


def _claim(pod: Pod, requests: tuple[DeviceRequest, ...]) -> ResourceClaim:
    from refk8s.core.api.resource_v1 import DeviceClaim, ResourceClaim, ResourceClaimSpec

    metadata = pod.metadata
    owner = OwnerReference(
        api_version="v1",
        kind="Pod",
        name=metadata.name or "",
        uid=metadata.uid or "",
        controller=True,
    )
    return ResourceClaim(
        metadata=ObjectMeta(
            name=NOT_CREATED,
            namespace=metadata.namespace,
            annotations={EXTENDED_ANNOTATION: "true"},
            owner_references=(owner,),
        ),
        spec=ResourceClaimSpec(devices=DeviceClaim(requests=requests)),
    )


def requests_of(
    pod: Pod, names: Iterable[str], classes: Mapping[str, str]
) -> tuple[tuple[DeviceRequest, ...], tuple[Mapped, ...]]:
    """DRA-24: the requests of a claim for these resources of the pod's containers, by name, and
    which containers use them."""
    from refk8s.core.api.resource_v1 import DeviceRequest, ExactDeviceRequest

    counts: dict[str, tuple[int, str]] = {}  # by name of the request: with the class
    mapped: list[Mapped] = []
    for resource in sorted(names):
        found, uses = _requests_of(pod, resource)
        counts |= {name: (count, classes[resource]) for name, count in found.items()}
        mapped += uses
    requests = [
        DeviceRequest(
            name=name,
            exactly=ExactDeviceRequest(
                device_class_name=device_class, allocation_mode="ExactCount", count=count
            ),
        )
        for name, (count, device_class) in sorted(counts.items())
    ]
    return tuple(requests), tuple(mapped)


def _requests_of(pod: Pod, resource: str) -> tuple[dict[str, int], list[Mapped]]:
    """The requests for one resource: one for each container that stays, and one for all init
    containers that end, for what they need besides the devices of containers that start later."""
    initial = pod.spec.init_containers or ()
    containers = (*initial, *pod.spec.containers)
    ending = [n for n, one in enumerate(initial) if not is_sidecar(one)]
    lasting: dict[int, tuple[str, int]] = {}
    mapped: list[Mapped] = []
    for number, one in enumerate(containers):
        if number not in ending and (count := _amount(one, resource)):
            name = _name(number, one, resource)
            lasting[number] = name, count
            mapped.append(Mapped(one.name, resource, name))
    largest = ("", 0)
    additional: list[int] = []  # where `mapped` names the request of an ending container
    for number in ending:
        one = containers[number]
        missing = _amount(one, resource)
        for later, (name, count) in lasting.items():
            if later > number and missing > 0:
                mapped.append(Mapped(one.name, resource, name))
                missing -= count
        if missing > 0:
            additional.append(len(mapped))
            mapped.append(Mapped(one.name, resource, ""))
            if missing > largest[1]:
                largest = _name(number, one, resource), missing
    for position in additional:
        mapped[position] = mapped[position]._replace(request=largest[0])
    requests = dict(lasting.values())
    return requests | ({largest[0]: largest[1]} if largest[1] else {}), mapped


def _amount(container: Container, resource: str) -> int:
    text = (container.resources.requests or {}).get(resource)
    return quantity.value(text) if text is not None else 0


def _name(number: int, container: Container, resource: str) -> str:
    position = sorted(container.resources.requests or {}).index(resource)
    return f"container-{number}-request-{position}"


# --- what is written ------------------------------------------------------------------------------


def claims_for(view: View, uid: str) -> Sequence[ResourceClaim]:
    """The claims that exist for the extended resources of the pod with this uid."""
    found: Sequence[ResourceClaim] = view.indexed(RESOURCE_CLAIMS, "extended", uid)
    return found


def extended_writes(
    view: View, pod: PodInfo, decided: Sequence[InFlight], inventory: Inventory, now: Instant
) -> tuple[Request, ...] | None:
    """DRA-25: the next write for the extended resources of a pod that was decided. Empty if all is
    done; None if the pod must be decided again."""
    mine = next((one for one in decided if one.claimed is not None), None)
    there = claims_for(view, pod.uid)
    if mine is None or mine.claimed is None:
        return None if there else ()
    if not there:
        if is_lost(inventory, results_of(mine.allocation)):
            return None
        return (_creation(pod, mine.claimed),)
    claim = there[0]
    if (
        len(there) > 1
        or claim.metadata.deletion_timestamp is not None
        or _summary(claim) != _summary(mine.claimed)
    ):
        return None
    allocation = claim.status.allocation
    if allocation is None:
        if is_lost(inventory, results_of(mine.allocation)):
            return None
        if FINALIZER not in (claim.metadata.finalizers or ()):
            marks = (*(claim.metadata.finalizers or ()), FINALIZER)
            marked = replace(claim, metadata=replace(claim.metadata, finalizers=marks))
            because = f"devices are allocated to it for pod {pod.namespace}/{pod.name}"
            return (update_of(RESOURCE_CLAIMS, marked, because),)
        allocation = replace(mine.allocation, allocation_timestamp=timestamp(now))
    elif replace(allocation, allocation_timestamp=None) != mine.allocation:
        return None
    if not is_reserved_for(claim, pod.uid):
        reserved = (*consumers(claim), consumer(pod.name, pod.uid))
        status = replace(claim.status, allocation=allocation, reserved_for=reserved)
        because = f"pod {pod.namespace}/{pod.name} has a node with its devices"
        return (update_of(RESOURCE_CLAIMS, replace(claim, status=status), because, "status"),)
    return _naming(view, pod, claim.metadata.name or "", mine.mapped)


def _summary(claim: ResourceClaim) -> list[tuple[str, str, int | None]]:
    return [
        (one.name, one.exactly.device_class_name, one.exactly.count)
        for one in claim.spec.devices.requests or ()
        if one.exactly is not None
    ]


def _creation(pod: PodInfo, claim: ResourceClaim) -> Request:
    metadata = replace(claim.metadata, name=None, generate_name=f"{pod.name}-extended-resources-")
    body = replace(claim, metadata=metadata)
    because = f"pod {pod.namespace}/{pod.name} requests resources that classes of devices provide"
    return Request("create", RESOURCE_CLAIMS, pod.namespace, body=body, because=because)


def _naming(view: View, pod: PodInfo, name: str, mapped: Sequence[Mapped]) -> tuple[Request, ...]:
    """The pod's status names the claim, and the requests of its containers."""
    stored: Pod | None = view.get(PODS, f"{pod.namespace}/{pod.name}")
    known = stored.status.extended_resource_claim_status if stored is not None else None
    if stored is None or (known is not None and known.resource_claim_name == name):
        return ()
    told: dict[str, Any] = {
        "resourceClaimName": name,
        "requestMappings": [
            {
                "containerName": one.container,
                "resourceName": one.resource,
                "requestName": one.request,
            }
            for one in mapped
        ],
    }
    because = f"its devices are allocated to claim {name}"
    return (patch_status(stored, {"extendedResourceClaimStatus": told}, because),)


def removals(view: View, uid: str) -> tuple[tuple[Request, ...], ...]:
    """DRA-25: the writes that delete the claims of a pod that is not bound with them."""
    unprotected: list[Request] = []
    deletions: list[Request] = []
    for claim in claims_for(view, uid):
        metadata, because = claim.metadata, "its pod was not bound with it"
        if FINALIZER in (metadata.finalizers or ()):
            rest = tuple([one for one in metadata.finalizers or () if one != FINALIZER])
            changed = replace(claim, metadata=replace(metadata, finalizers=rest or None))
            unprotected.append(update_of(RESOURCE_CLAIMS, changed, because))
        if metadata.deletion_timestamp is None:
            options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
            deletions.append(
                Request(
                    "delete",
                    RESOURCE_CLAIMS,
                    metadata.namespace or "",
                    metadata.name or "",
                    body=options,
                    because=because,
                )
            )
    return tuple([tuple(wave) for wave in (unprotected, deletions) if wave])
