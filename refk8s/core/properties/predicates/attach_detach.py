"""Predicates of attachments of volumes. Rule ATTACH-3 (spec/workloads/attach_detach.md).

change    ATTACH-3       one write
"""

from collections.abc import Iterator, Sequence
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
