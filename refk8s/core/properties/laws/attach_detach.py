"""Laws of attachments of volumes. Rules ATTACH-3 and ATTACH-6 (spec/workloads/attach_detach.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import (
    CSI_DRIVERS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.attach_detach import attach_3_one_node, attach_6_settled
from refk8s.core.store import Change


def volumes_are_on_one_node(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """ATTACH-3, for a new VolumeAttachment."""
    if change.record is None or change.previous is not None:
        return None
    attachment = change.record.value
    name = attachment.spec.source.persistent_volume_name
    volume = after.history.get(f"{PERSISTENT_VOLUMES.prefix}{name}")
    if volume is None:
        return None
    return attach_3_one_node(attachment, volume.value, objects(before, VOLUME_ATTACHMENTS.prefix))


def volumes_of_pods_are_attached(cluster: Cluster) -> Iterable[str] | None:
    """ATTACH-6."""
    if not objects(cluster, CSI_DRIVERS.prefix):
        return None
    claims = {
        (one.metadata.namespace, one.metadata.name): one
        for one in objects(cluster, PERSISTENT_VOLUME_CLAIMS.prefix)
    }
    volumes = {one.metadata.name: one for one in objects(cluster, PERSISTENT_VOLUMES.prefix)}
    attachments = objects(cluster, VOLUME_ATTACHMENTS.prefix)
    return list(attach_6_settled(objects(cluster, PODS.prefix), claims, volumes, attachments))


OF_CHANGES = (Law("ATTACH-3", volumes_are_on_one_node, VOLUME_ATTACHMENTS.prefix),)
OF_REST = (Law("ATTACH-6", volumes_of_pods_are_attached),)
