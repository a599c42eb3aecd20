"""The ResourceClaims of a pod: which it names, and which were made for it. Rules DRA-1, DRA-8
(spec/devices.md).

Source: Kubernetes documentation, "Dynamic Resource Allocation".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from refk8s.core.api.core_v1 import Pod, PodResourceClaim

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import ResourceClaim, ResourceClaimConsumerReference

FINALIZER = "resource.kubernetes.io/delete-protection"
"""Of an allocated claim, so that it is not removed while it holds devices."""

POD_CLAIM_ANNOTATION = "resource.kubernetes.io/pod-claim-name"
"""On a claim made from a template: the name of the claim in the pod."""

EXTENDED_ANNOTATION = "resource.kubernetes.io/extended-resource-claim"
"""On a claim that the scheduler makes for the extended resources of a pod (DRA-24)."""

CONSUMERS_MAX = 256
"""The pods for which one claim can be reserved."""


class UsedClaim(NamedTuple):
    """A claim of a pod: its name there, its key (empty: not created yet), and whether it was made
    from a template for this pod."""

    name: str
    key: str
    is_generated: bool


def used_claims(pod: Pod) -> tuple[UsedClaim, ...]:
    """The claims that the pod names. One of a template is left out if the pod turned out to need
    none."""
    if pod.spec is None or not pod.spec.resource_claims:
        return ()
    found: list[UsedClaim] = []
    for one in pod.spec.resource_claims:
        name = one.resource_claim_name
        if name is not None:
            found.append(UsedClaim(one.name, f"{pod.metadata.namespace}/{name}", False))
            continue
        is_known, generated = generated_name(pod, one)
        if generated or not is_known:
            key = f"{pod.metadata.namespace}/{generated}" if generated else ""
            found.append(UsedClaim(one.name, key, True))
    return tuple(found)


def generated_name(pod: Pod, claim: PodResourceClaim) -> tuple[bool, str]:
    """Whether the pod's status has this claim of a template, and the name there; empty if it needs
    none."""
    statuses = pod.status.resource_claim_statuses if pod.status is not None else None
    for status in statuses or ():
        if status.name == claim.name:
            return True, status.resource_claim_name or ""
    return False, ""


def all_claims(pod: Pod) -> tuple[UsedClaim, ...]:
    """The claims that the pod names, and the one for its extended resources (DRA-25)."""
    found = used_claims(pod)
    extended = pod.status.extended_resource_claim_status if pod.status is not None else None
    if extended is None:
        return found
    key = f"{pod.metadata.namespace}/{extended.resource_claim_name}"
    return (*found, UsedClaim("", key, True))


def claim_keys(pod: Pod) -> list[str]:
    """The keys of the claims that exist for the pod, for an index of pods."""
    return [one.key for one in all_claims(pod) if one.key]


def parts_of(pod: Pod) -> Any:
    """The part of a pod on which `claim_keys` depends."""
    status = pod.status
    extended = status.extended_resource_claim_status if status is not None else None
    if extended is None and (pod.spec is None or not pod.spec.resource_claims):
        return None
    return pod.spec.resource_claims, status and status.resource_claim_statuses, extended


def extended_owner(claim: ResourceClaim) -> list[str]:
    """The uid of the pod for whose extended resources the claim was made, for an index."""
    annotations = claim.metadata.annotations or {}
    if annotations.get(EXTENDED_ANNOTATION) != "true":
        return []
    uid = owner_uid(claim)
    return [uid] if uid else []


def is_reserved_for(claim: ResourceClaim, uid: str) -> bool:
    """Whether the claim is reserved for the pod with this uid."""
    return any(one.uid == uid for one in consumers(claim))


def consumers(claim: ResourceClaim) -> tuple[ResourceClaimConsumerReference, ...]:
    """For whom the claim is reserved."""
    return claim.status.reserved_for or ()


def consumer(name: str, uid: str) -> ResourceClaimConsumerReference:
    """The reference to a pod in `reservedFor`."""
    from refk8s.core.api.resource_v1 import ResourceClaimConsumerReference

    return ResourceClaimConsumerReference(resource="pods", name=name, uid=uid)


def belongs_to(claim: ResourceClaim, uid: str) -> bool:
    """Whether the pod with this uid is the controller of the claim."""
    return owner_uid(claim) == uid


def owner_uid(claim: ResourceClaim) -> str:
    """The uid of the pod for which the claim was made; empty without one."""
    references: Iterable[Any] = claim.metadata.owner_references or ()
    for one in references:
        if one.controller and one.kind == "Pod" and one.api_version == "v1":
            return one.uid or ""
    return ""
