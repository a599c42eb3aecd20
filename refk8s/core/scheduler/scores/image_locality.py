"""A node that has the images of the pod has more points. Rule SCHED-45 (spec/scheduler.md).

Source: Kubernetes documentation, "Scheduler Configuration" (ImageLocality).
"""

from collections.abc import Mapping

from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.snapshot import NodeFacts

MEBIBYTE = 1 << 20
BYTES_MIN = 23 * MEBIBYTE  # images that are smaller in all give no points
BYTES_MAX = 1000 * MEBIBYTE  # for each container: more gives no more points

Images = tuple[tuple[str, int], ...]
"""The images of a pod that a node has, one for each container, with their bytes."""


def raw(needs: Needs, facts: NodeFacts) -> Images:
    """The images of the pod's containers on the node. O(images of the node)."""
    if not facts.images:
        return ()
    sizes = {name: image.size_bytes or 0 for image in facts.images for name in image.names or ()}
    wanted = [full_name(image) for image in needs.images]
    return tuple([(name, sizes[name]) for name in wanted if name in sizes])


def points(images: Images, containers: int, counts: Mapping[str, int], nodes: int) -> int:
    """SCHED-45: 0 to 100. `counts`: the number of nodes that have each image."""
    size = sum([int(size * (counts.get(name, 0) / nodes)) for name, size in images])
    most = BYTES_MAX * containers
    return 100 * (min(max(size, BYTES_MIN), most) - BYTES_MIN) // (most - BYTES_MIN)


def full_name(image: str) -> str:
    """The image with its tag; `latest` without one."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"
