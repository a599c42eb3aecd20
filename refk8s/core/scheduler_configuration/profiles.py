"""The plugins of a profile: what `plugins` enables and disables at each extension point. Rules
SCHED-50, SCHED-51 (spec/scheduler_profiles.md).

Source: Kubernetes documentation, "Scheduler Configuration" (extension points, multiPoint), and what
kube-scheduler answers.
"""

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from refk8s.core.scheduler.profile import FILTERS, WEIGHTS
from refk8s.core.scheduler_configuration.types import PluginName, Plugins, PluginSet

EXTENSION_POINTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pre_filter": (
        "PreFilterPlugin",
        (
            "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions",
            "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread",
            "InterPodAffinity", "DynamicResources",
        ),
    ),
    "filter": ("FilterPlugin", FILTERS),
    "post_filter": ("PostFilterPlugin", ("DynamicResources", "DefaultPreemption")),
    "reserve": ("ReservePlugin", ("VolumeBinding", "DynamicResources")),
    "pre_score": (
        "PreScorePlugin",
        (
            "TaintToleration", "NodeAffinity", "NodeResourcesFit", "PodTopologySpread",
            "InterPodAffinity", "NodeResourcesBalancedAllocation",
        ),
    ),
    "score": ("ScorePlugin", tuple(WEIGHTS)),
    "pre_bind": ("PreBindPlugin", ("VolumeBinding", "DynamicResources")),
    "bind": ("BindPlugin", ("DefaultBinder",)),
    "post_bind": ("PostBindPlugin", ()),
    "permit": ("PermitPlugin", ()),
    "pre_enqueue": ("PreEnqueuePlugin", ("SchedulingGates", "DynamicResources")),
    "queue_sort": ("QueueSortPlugin", ("PrioritySort",)),
}  # fmt: skip
"""For each extension point: upstream's name of its interface, and the plugins that implement it."""

KNOWN = tuple(dict.fromkeys(name for _, names in EXTENSION_POINTS.values() for name in names))

MULTI_POINT = (
    "SchedulingGates", "PrioritySort", "NodeUnschedulable", "NodeName", "TaintToleration",
    "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits",
    "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity", "DynamicResources", "DefaultPreemption",
    "NodeResourcesBalancedAllocation", "ImageLocality", "DefaultBinder",
)  # fmt: skip
"""The plugins that are enabled by default, in upstream's order."""
ANY = "*"
_EMPTY = PluginSet()

Enabled = Mapping[str, tuple[str, ...]]
"""The names of the enabled plugins by extension point."""


class BadProfile(ValueError):
    """The plugins cannot be used. The message is upstream's."""


def merge(plugins: Plugins | None) -> Plugins:
    """The default plugins, changed as the profile says."""
    multi_point = PluginSet(
        enabled=tuple([PluginName(name=name, weight=WEIGHTS.get(name, 0)) for name in MULTI_POINT])
    )
    if plugins is None:
        return Plugins(multi_point=multi_point)
    return replace(plugins, multi_point=_merge(multi_point, plugins.multi_point or _EMPTY))


def _merge(default: PluginSet, custom: PluginSet) -> PluginSet:
    """The default set without the disabled plugins; what the custom set enables again replaces the
    default entry, or follows."""
    disabled = {one.name for one in custom.disabled}
    changed = {one.name: one for one in custom.enabled}
    kept = [
        changed.get(one.name, one)
        for one in default.enabled
        if one.name not in disabled and ANY not in disabled
    ]
    names = {one.name for one in kept}
    more = [one for one in custom.enabled if one.name not in names]
    return PluginSet(enabled=(*kept, *more), disabled=custom.disabled)


def expand(plugins: Plugins, external: Mapping[str, Collection[str]]) -> Enabled:
    """The plugins of each extension point: those that it enables, and those of multiPoint that
    implement it and are not disabled there. `external`: plugins of other packages, with the points
    that each implements. Raises BadProfile."""
    multi_point = plugins.multi_point or _EMPTY
    found: dict[str, tuple[str, ...]] = {}
    for point, (interface, implementing) in EXTENSION_POINTS.items():
        implemented = (*implementing, *[one for one in external if point in external[one]])
        chosen: PluginSet = getattr(plugins, point) or _EMPTY
        names = [one.name for one in chosen.enabled]
        for number, name in enumerate(names):
            if name not in KNOWN and name not in external:
                raise BadProfile(f'{interface} "{name}" does not exist')
            if name not in implemented:
                raise BadProfile(f'plugin "{name}" does not extend {interface} plugin')
            if name in names[:number]:
                raise BadProfile(f'plugin "{name}" already registered as "{interface}"')
        disabled = {one.name for one in chosen.disabled}
        for one in multi_point.enabled:
            if one.name not in KNOWN and one.name not in external:
                raise BadProfile(f'{interface} "{one.name}" does not exist')
            if (
                one.name in implemented
                and one.name not in names
                and one.name not in disabled
                and ANY not in disabled
            ):
                names.append(one.name)
        found[point] = tuple(names)
    return found


def weights_of(plugins: Plugins, enabled: Enabled) -> dict[str, int]:
    """The weight of each plugin that scores: that of `score`, else of multiPoint, else 1. Raises
    BadProfile."""
    entries = [
        *(plugins.score or _EMPTY).enabled,
        *(plugins.multi_point or _EMPTY).enabled,
    ]
    weights: dict[str, int] = {}
    for one in entries:
        if one.name in enabled["score"] and one.name not in weights:
            if one.weight < 0:
                raise BadProfile(f'score plugin "{one.name}" has a negative weight')
            weights[one.name] = one.weight or 1
    return {name: weights[name] for name in enabled["score"]}


def check(enabled: Enabled, scheduler_name: str) -> None:
    """Refuse a profile without what every decision needs. Raises BadProfile."""
    sorting = len(enabled["queue_sort"])
    if sorting != 1:
        raise BadProfile(
            "only one queue sort plugin required for profile with scheduler name "
            f'"{scheduler_name}", but got {sorting}'
        )
    if not enabled["bind"]:
        raise BadProfile(
            f'at least one bind plugin is needed for profile with scheduler name "{scheduler_name}"'
        )
    if "SchedulingGates" not in enabled["pre_enqueue"]:
        raise BadProfile(
            'plugin "SchedulingGates" cannot be disabled: the API server binds no pod with gates'
        )
    filters = filters_of(enabled)
    for name in _WHOLE:
        parts = [point for point in _parts_of(name) if name not in enabled[point]]
        if parts and name in filters:
            raise BadProfile(f'plugin "{name}" can only be disabled at all its extension points')


_WHOLE = ("VolumeBinding", "DynamicResources")
"""These plugins write what they have filtered for, so they work at all their points or at none."""


def _parts_of(name: str) -> list[str]:
    """The extension points of such a plugin besides those of filters and scores."""
    points = ("pre_enqueue", "reserve", "pre_bind")
    return [point for point in points if name in EXTENSION_POINTS[point][1]]


def filters_of(enabled: Enabled) -> tuple[str, ...]:
    """The plugins that filter: one whose preFilter is disabled does not (D-271)."""
    before = EXTENSION_POINTS["pre_filter"][1]
    return tuple(
        [name for name in enabled["filter"] if name not in before or name in enabled["pre_filter"]]
    )


def scores_of(enabled: Enabled, weights: Mapping[str, int]) -> dict[str, int]:
    """The plugins that score: one whose preScore is disabled does not (D-271)."""
    before = EXTENSION_POINTS["pre_score"][1]
    return {
        name: weight
        for name, weight in weights.items()
        if name not in before or name in enabled["pre_score"]
    }
