"""Laws of volumes and claims. Rules VOL-1, VOL-2, VOL-7 (spec/workloads/volume_binding.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.volume_binding import (
    vol_1_a_reservation_is_not_taken_over,
    vol_2_bound_volumes_fit,
    vol_7_phases,
)
from refk8s.core.store import Change


def is_not_taken_over(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """VOL-1."""
    if change.record is None or change.previous is None:
        return None
    return vol_1_a_reservation_is_not_taken_over(change.previous.value, change.record.value)


def bound_volumes_fit(cluster: Cluster) -> Iterable[str] | None:
    """VOL-2."""
    claims = objects(cluster, PERSISTENT_VOLUME_CLAIMS.prefix)
    volumes = objects(cluster, PERSISTENT_VOLUMES.prefix)
    return list(vol_2_bound_volumes_fit(claims, volumes)) if claims else None


def phases_of_volumes(cluster: Cluster) -> Iterable[str] | None:
    """VOL-7."""
    claims = objects(cluster, PERSISTENT_VOLUME_CLAIMS.prefix)
    volumes = objects(cluster, PERSISTENT_VOLUMES.prefix)
    return list(vol_7_phases(claims, volumes)) if volumes else None


OF_CHANGES = (Law("VOL-1", is_not_taken_over, PERSISTENT_VOLUMES.prefix),)
OF_REST = (Law("VOL-2", bound_volumes_fit), Law("VOL-7", phases_of_volumes))
