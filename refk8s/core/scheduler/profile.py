"""A profile: which plugins filter and score for the pods of one scheduler name, with which weights
and arguments. Rules SCHED-50, SCHED-51 (spec/scheduler_profiles.md).

Source: Kubernetes documentation, "Scheduler Configuration" (profiles, scheduling plugins).
"""

from collections.abc import Callable, Collection, Mapping

from refk8s.core.scheduler import scores
from refk8s.core.scheduler.arguments import DEFAULT_ARGUMENTS, Arguments
from refk8s.core.scheduler.filters import LoadCheck, NodeCheck, pod_affinity, topology_spread
from refk8s.core.scheduler.filters import by_load as load_filters
from refk8s.core.scheduler.filters import by_node as node_filters
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.plugin import NO_PLUGINS, ExternalPlugins
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import Relations
from refk8s.core.scheduler.snapshot import NodeFacts
from refk8s.core.value import Value

FILTERS = (
    "NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts",
    "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone",
    "PodTopologySpread", "InterPodAffinity", "DynamicResources",
)  # fmt: skip
"""The plugins that filter by default, in upstream's order."""

WEIGHTS = {
    "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "PodTopologySpread": 2,
    "InterPodAffinity": 2, "DynamicResources": 2, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
}  # fmt: skip
"""The plugins that score by default, with upstream's weights."""

RelatedCheck = Callable[[Relations, NodeFacts], Refusal | None]
_RELATED: tuple[tuple[str, RelatedCheck], ...] = (
    ("PodTopologySpread", topology_spread.check),
    ("InterPodAffinity", pod_affinity.check),
)


class Profile(Value, frozen=True, eq=False):
    """The plugins of one scheduler name, as functions in the order in which they are evaluated."""

    scheduler_name: str
    filters: frozenset[str]
    weights: Mapping[str, int]
    arguments: Arguments
    by_node: tuple[tuple[str, NodeCheck], ...]
    by_load: tuple[tuple[str, LoadCheck], ...]
    related: tuple[tuple[str, RelatedCheck], ...]
    local: tuple[tuple[str, int, scores.LocalPoints], ...]
    has_preemption: bool = True
    plugins: ExternalPlugins = NO_PLUGINS  # of other packages (SCHED-56)
    frees_claims: bool = True  # DRA-11


def make_profile(
    scheduler_name: str = DEFAULT_SCHEDULER,
    filters: Collection[str] = FILTERS,
    weights: Mapping[str, int] = WEIGHTS,
    arguments: Arguments = DEFAULT_ARGUMENTS,
    has_preemption: bool = True,
    plugins: ExternalPlugins = NO_PLUGINS,
    frees_claims: bool = True,
) -> Profile:
    """The profile with these filters and weights of scores, which name plugins."""
    return Profile(
        scheduler_name,
        frozenset(filters),
        dict(weights),
        arguments,
        node_filters(filters, arguments),
        load_filters(filters, arguments),
        tuple([(name, check) for name, check in _RELATED if name in filters]),
        scores.local_scores(weights, arguments),
        has_preemption,
        plugins,
        frees_claims,
    )


DEFAULT_PROFILE = make_profile()
