"""Predicates of volumes and claims. Rules VOL-1, VOL-2, VOL-7 (spec/workloads/volume_binding.md).

change    VOL-1          one write
state     VOL-2, VOL-7   a settled cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.api.quantity import parse


def vol_1_a_reservation_is_not_taken_over(before: Any, after: Any) -> Iterator[str]:
    """A claimRef with a uid does not become that of another claim in one write."""
    old, new = before.spec.claim_ref, after.spec.claim_ref
    if old is not None and old.uid and new is not None and new.uid and old.uid != new.uid:
        yield f"volume {after.metadata.name} of {old.name} is reserved for {new.name}"


def vol_2_bound_volumes_fit(claims: Sequence[Any], volumes: Sequence[Any]) -> Iterator[str]:
    """A bound claim has a volume that is large enough, has its class and no other claim."""
    by_name = {volume.metadata.name: volume for volume in volumes}
    for claim in claims:
        if claim.status.phase != "Bound":
            continue
        name = claim.metadata.name
        volume = by_name.get(claim.spec.volume_name)
        if volume is None:
            yield f"claim {name} is Bound, and volume {claim.spec.volume_name} does not exist"
            continue
        reference = volume.spec.claim_ref
        if reference is None or reference.uid != claim.metadata.uid:
            yield f"claim {name} is Bound to {volume.metadata.name}, which has another claim"
        size = parse((volume.spec.capacity or {}).get("storage", "0")).nano
        if size < parse((claim.status.capacity or {}).get("storage", "0")).nano:
            yield f"claim {name} has more than its volume"


def vol_7_phases(claims: Sequence[Any], volumes: Sequence[Any]) -> Iterator[str]:
    """The phase of every volume follows from its claimRef."""
    uids = {claim.metadata.uid: claim for claim in claims}
    for volume in volumes:
        reference = volume.spec.claim_ref
        claim = uids.get(reference.uid) if reference is not None else None
        wanted = ["Available"]
        if reference is not None and reference.uid:
            wanted = ["Bound"] if claim is not None else ["Released", "Failed"]
        if volume.status.phase not in wanted:
            yield f"volume {volume.metadata.name} is {volume.status.phase}, not {wanted[0]}"
