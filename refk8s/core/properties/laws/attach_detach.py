"""Laws of attachments of volumes. Rule ATTACH-3 (spec/workloads/attach_detach.md)."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.resources import PERSISTENT_VOLUMES, VOLUME_ATTACHMENTS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.attach_detach import attach_3_one_node
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


OF_CHANGES = (Law("ATTACH-3", volumes_are_on_one_node, VOLUME_ATTACHMENTS.prefix),)
