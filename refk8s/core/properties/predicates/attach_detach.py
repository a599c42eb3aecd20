"""Predicates of attachments of volumes. Rules ATTACH-3 and ATTACH-6
(spec/workloads/attach_detach.md).

change    ATTACH-3       one write
rest      ATTACH-6       all pods, claims, volumes and attachments
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any


def attach_3_one_node(attachment: Any, volume: Any, others: Sequence[Any]) -> Iterator[str]:
    """A volume for one node is attached to no second one. `others`: the attachments that there are
    besides the new one."""
    modes = volume.spec.access_modes or ()
    if not modes or "ReadWriteMany" in modes or "ReadOnlyMany" in modes:
        return
    mine = attachment.spec
    for other in others:
        if (
            other.spec.source.persistent_volume_name == mine.source.persistent_volume_name
            and other.spec.node_name != mine.node_name
        ):
            yield (
                f"volume {volume.metadata.name} is attached to {other.spec.node_name} and now to "
                f"{mine.node_name}"
            )


def attach_6_settled(
    pods: Iterable[Any],
    claims: Mapping[tuple[str, str], Any],
    volumes: Mapping[str, Any],
    attachments: Iterable[Any],
) -> Iterator[str]:
    """Each pod with a node has its volumes of drivers attached there, and nothing else is attached.
    A volume for one node is on one of the nodes with its pods. `claims`: by namespace and name."""
    wanted: dict[str, set[str]] = {}  # the nodes of each volume
    for pod in pods:
        if not pod.spec.node_name or pod.status.phase in ("Succeeded", "Failed"):
            continue
        for each in pod.spec.volumes or ():
            source = each.persistent_volume_claim
            claim = claims.get((pod.metadata.namespace, source.claim_name)) if source else None
            if claim is None or claim.status.phase != "Bound":
                continue
            volume = volumes.get(claim.spec.volume_name or "")
            if volume is not None and volume.spec.csi is not None:
                wanted.setdefault(volume.metadata.name, set()).add(pod.spec.node_name)
    there: dict[str, set[str]] = {}
    for one in attachments:
        name = one.spec.source.persistent_volume_name
        there.setdefault(name, set()).add(one.spec.node_name)
        if one.spec.node_name not in wanted.get(name, ()):
            yield f"volume {name} is attached to {one.spec.node_name}, where no pod uses it"
    for name, nodes in sorted(wanted.items()):
        modes = set(volumes[name].spec.access_modes or ())
        missing = nodes - there.get(name, set())
        is_for_many = not modes or modes & {"ReadWriteMany", "ReadOnlyMany"}
        if missing and (is_for_many or missing == nodes):
            yield f"volume {name} is not attached to {min(missing)}"
