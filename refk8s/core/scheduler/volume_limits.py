"""How many volumes of a driver a node can have. Rule SCHED-44 (spec/scheduler.md).

Source: Kubernetes documentation, "Node-specific Volume Limits". Left out: volumes in a pod's own
spec that a driver replaces (D-270).
"""

from collections.abc import Iterable

from refk8s.core.api.resources import (
    CSI_NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.api.storage_v1 import CSINode, VolumeAttachment
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import View
from refk8s.core.pods.volumes import class_of
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load

TOO_MANY = Refusal("NodeVolumeLimits", ("node(s) exceed max volume count",), resolvable=True)

CsiVolume = tuple[str, str]
"""A driver, and what identifies the volume there: its handle, or the claim that waits for one."""


def csi_volumes(view: View, claims: Iterable[Key]) -> frozenset[CsiVolume]:
    """The volumes of drivers behind these claims. O(claims)."""
    found: set[CsiVolume] = set()
    for key in claims:
        claim = view.get(PERSISTENT_VOLUME_CLAIMS, key)
        if claim is None:
            continue
        volume = view.get(PERSISTENT_VOLUMES, claim.spec.volume_name or "")
        if volume is None:
            storage_class = view.get(STORAGE_CLASSES, class_of(claim))
            if storage_class is not None:
                found.add((storage_class.provisioner, f"claim {key}"))
        elif volume.spec.csi is not None:
            found.add((volume.spec.csi.driver, volume.spec.csi.volume_handle))
    return frozenset(found)


def node_of_attachment(attachment: VolumeAttachment) -> list[str]:
    """The node of an attachment, for an index."""
    return [attachment.spec.node_name]


def attached_volumes(view: View, node: str) -> frozenset[CsiVolume]:
    """The volumes that are attached to the node or about to be. O(attachments of the node)."""
    found: set[CsiVolume] = set()
    for attachment in view.indexed(VOLUME_ATTACHMENTS, "attached_to", node):
        name = attachment.spec.source.persistent_volume_name
        volume = view.get(PERSISTENT_VOLUMES, name or "")
        if volume is not None and volume.spec.csi is not None:
            found.add((attachment.spec.attacher, volume.spec.csi.volume_handle))
    return frozenset(found)


def is_over_limit(view: View, new: frozenset[CsiVolume], node: str, load: Load) -> bool:
    """SCHED-44: whether the node cannot have these volumes too. O(pods and attachments of the
    node)."""
    limits = _limits(view.get(CSI_NODES, node), new)
    if not limits:
        return False
    claims = dict.fromkeys(key for pod in load.pods.values() for key in pod.claims)
    there = csi_volumes(view, claims) | attached_volumes(view, node)
    together = there | new
    return any(
        sum(each == driver for each, _ in together) > limit
        for driver, limit in limits.items()
        if any(each == driver for each, _ in new - there)
    )


def _limits(csi_node: CSINode | None, volumes: frozenset[CsiVolume]) -> dict[str, int]:
    """The limits of the node for the drivers of these volumes."""
    drivers = csi_node.spec.drivers or () if csi_node is not None else ()
    wanted = {driver for driver, _ in volumes}
    return {
        each.name: each.allocatable.count
        for each in drivers
        if each.name in wanted
        and each.allocatable is not None
        and each.allocatable.count is not None
    }
