"""The scores: which node that can run a pod is the best, one file each. Rules SCHED-12 to 15, 27,
33, 34 and 45 (spec/scheduler.md).

Each score gives a node 0 to 100 points, and the weighted points are added. *Local* scores depend
only on the node and its load. *Relative* scores start from raw numbers of the node and are scaled
by those of the other nodes that can run the pod. *Related* scores depend on the pods of all nodes.
Source: Kubernetes documentation, "Scheduler Configuration" and the default weights there.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from refk8s.core.scheduler.arguments import Arguments
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.scores import (
    image_locality,
    node_affinity,
    node_resources,
    pod_affinity,
    taints,
    topology_spread,
)
from refk8s.core.scheduler.scores.image_locality import Images
from refk8s.core.scheduler.snapshot import Load, NodeFacts

K = TypeVar("K", bound=Hashable)
"""The name of a node, or what stands for a group of nodes."""
POINTS_MAX = 100

LocalPoints = Callable[[Needs, NodeFacts, Load], int]
Weights = Mapping[str, int]
"""The weights of the score plugins of a profile, by name; a plugin without one gives no points."""


class Raw(NamedTuple):
    """The input of the relative scores. Nodes with equal numbers get equal points."""

    taints: int
    preference: int
    # pods of the same group on the node; None: the pod has no group (SCHED-27)
    siblings: int | None
    zone: str
    has_hostname: bool
    images: Images = ()


class Crowd(NamedTuple):
    """What the relative scores need besides the nodes that can run the pod."""

    zones: Mapping[str, int]  # the number of pods of the same group in each zone
    containers: int  # the number of containers of the pod
    images: Mapping[str, int]  # the number of nodes with each image
    nodes: int  # the number of all nodes


def raw_of(needs: Needs, facts: NodeFacts, arguments: Arguments) -> tuple[int, int, Images]:
    """The raw numbers that depend only on the node: (taints, preference, images)."""
    preference = node_affinity.raw(needs.preferred_terms, facts)
    if arguments.added_preferences:
        preference += node_affinity.raw(arguments.added_preferences, facts)
    return taints.raw(needs, facts), preference, image_locality.raw(needs, facts)


def local_scores(
    weights: Weights, arguments: Arguments
) -> tuple[tuple[str, int, LocalPoints], ...]:
    """The local scores with a weight: (name, weight, points)."""
    found: tuple[tuple[str, LocalPoints], ...] = (
        ("NodeResourcesFit", node_resources.fit_points(arguments.strategy)),
        ("NodeResourcesBalancedAllocation", node_resources.balanced_points(arguments.balanced)),
    )
    return tuple([(name, weights[name], points) for name, points in found if weights.get(name)])


def relative_scores(
    weights: Weights, sizes: Mapping[Raw, int], crowd: Crowd
) -> Iterator[tuple[str, int, dict[Raw, int]]]:
    """The relative scores with a weight: (name, weight, points for each kind of node that can run
    the pod). `sizes`: the number of nodes of each kind. O(kinds)."""
    differing = {name: points for name, _, points in _differing(weights, sizes, crowd)}
    for name, constant in _CONSTANT.items():
        if weight := weights.get(name):
            yield name, weight, differing.get(name) or dict.fromkeys(sizes, constant)


def relative_points(weights: Weights, sizes: Mapping[Raw, int], crowd: Crowd) -> dict[Raw, int]:
    """The weighted sum of the relative scores for each kind of node, without those that are the
    same for all kinds, which do not decide. O(kinds)."""
    total: dict[Raw, int] | None = None
    for _, weight, points in _differing(weights, sizes, crowd):
        if total is None:
            total = {raw: weight * each for raw, each in points.items()}
        else:
            for raw, each in points.items():
                total[raw] += weight * each
    return total if total is not None else dict.fromkeys(sizes, 0)


_CONSTANT = {
    "TaintToleration": POINTS_MAX, "NodeAffinity": 0, "PodTopologySpread": 0, "ImageLocality": 0,
}  # fmt: skip
"""The relative scores, and their points if their input is the same for all nodes."""


def _differing(
    weights: Weights, sizes: Mapping[Raw, int], crowd: Crowd
) -> Iterator[tuple[str, int, dict[Raw, int]]]:
    """The relative scores with a weight whose points may differ between the kinds."""
    most_taints = most_preference = 0
    is_spread = False
    for raw in sizes:
        if raw.taints > most_taints:
            most_taints = raw.taints
        if raw.preference > most_preference:
            most_preference = raw.preference
        is_spread = raw.siblings is not None
    if most_taints and (weight := weights.get("TaintToleration")):
        yield "TaintToleration", weight, {
            raw: POINTS_MAX - POINTS_MAX * raw.taints // most_taints for raw in sizes
        }  # fmt: skip
    if most_preference and (weight := weights.get("NodeAffinity")):
        yield "NodeAffinity", weight, {
            raw: POINTS_MAX * raw.preference // most_preference for raw in sizes
        }  # fmt: skip
    if is_spread and (weight := weights.get("PodTopologySpread")):
        spread = topology_spread.points(
            dict.fromkeys([(raw.siblings, raw.zone, raw.has_hostname) for raw in sizes]),
            sum(sizes.values()),
            crowd.zones,
        )
        yield "PodTopologySpread", weight, {
            raw: spread[raw.siblings, raw.zone, raw.has_hostname] for raw in sizes
        }  # fmt: skip
    if len(crowd.images) and (weight := weights.get("ImageLocality")):
        yield "ImageLocality", weight, {
            raw: image_locality.points(raw.images, crowd.containers, crowd.images, crowd.nodes)
            if raw.images
            else 0
            for raw in sizes
        }  # fmt: skip


def related_scores(
    weights: Weights, relations: Relations, nodes: Mapping[K, NodeFacts]
) -> Iterator[tuple[str, int, dict[K, int]]]:
    """The scores from other pods with a weight: (name, weight, points of each node that can run the
    pod). O(nodes · domains)."""
    if weight := weights.get("PodTopologySpread"):
        yield "PodTopologySpread", weight, topology_spread.stated_points(relations, nodes)
    if weight := weights.get("InterPodAffinity"):
        yield "InterPodAffinity", weight, pod_affinity.points(relations, nodes)


def related_points(
    weights: Weights, relations: Relations, nodes: Mapping[K, NodeFacts]
) -> dict[K, int]:
    """The weighted sum of the scores from other pods, for the nodes that can run the pod."""
    total = dict.fromkeys(nodes, 0)
    for _, weight, points in related_scores(weights, relations, nodes):
        for name, each in points.items():
            total[name] += weight * each
    return total
