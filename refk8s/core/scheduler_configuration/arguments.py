"""The arguments of plugins: their checks with upstream's messages, and their values. Rules
SCHED-51 to SCHED-54 (spec/scheduler_profiles.md).

Source: kube-scheduler configuration (v1), and what kube-scheduler answers.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import TopologySpreadConstraint
from refk8s.core.api.cron_schedule import ScheduleError, parse_duration
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import qualified_name
from refk8s.core.apiserver.validation.scheduling import validate_node_affinity
from refk8s.core.context import SECOND, Instant
from refk8s.core.scheduler.arguments import (
    CPU_AND_MEMORY,
    LEAST_ALLOCATED,
    MOST_ALLOCATED,
    REQUESTED_TO_CAPACITY,
    Arguments,
    Strategy,
)
from refk8s.core.scheduler_configuration.types import (
    DefaultPreemptionArgs,
    DynamicResourcesArgs,
    InterPodAffinityArgs,
    NodeAffinityArgs,
    NodeResourcesBalancedAllocationArgs,
    NodeResourcesFitArgs,
    PodTopologySpreadArgs,
    ResourceSpec,
    ShapePoint,
    VolumeBindingArgs,
)

STRATEGIES = (LEAST_ALLOCATED, MOST_ALLOCATED, REQUESTED_TO_CAPACITY)
SYSTEM, LIST = "System", "List"
BIND_TIMEOUT_SECONDS_MAX = 365 * 24 * 3600
_DEFAULTS = tuple([ResourceSpec(name=name, weight=weight) for name, weight in CPU_AND_MEMORY])


def _fit(args: NodeResourcesFitArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    causes: Causes = []
    for number, name in enumerate(args.ignored_resources):
        causes += malformed(f"{at}.ignoredResources[{number}]", name, qualified_name)
    for number, group in enumerate(args.ignored_resource_groups):
        here = f"{at}.ignoredResourceGroups[{number}]"
        if "/" in group:
            causes.append(invalid(here, group, "resource group name can't contain '/'"))
        causes += malformed(here, group, qualified_name)
    strategy = args.scoring_strategy
    here = f"{at}.scoringStrategy"
    kind = strategy.type if strategy is not None else LEAST_ALLOCATED
    resources = tuple(
        [
            one if one.weight else replace(one, weight=1)
            for one in (strategy.resources if strategy is not None else ()) or _DEFAULTS
        ]
    )
    ratio = strategy.requested_to_capacity_ratio if strategy is not None else None
    if kind not in STRATEGIES:
        causes.append(not_supported(f"{here}.type", kind, STRATEGIES))
    for number, one in enumerate(resources):
        if not 0 < one.weight <= 100:
            words = f"resource weight of {one.name} not in valid range (0, 100]"
            causes.append(invalid(f"{here}.resources[{number}].weight", one.weight, words))
    where = f"{here}.requestedToCapacityRatio"
    if kind == REQUESTED_TO_CAPACITY:
        if ratio is None:
            words = f"must be specified when type is {REQUESTED_TO_CAPACITY}"
            causes.append(required(where, words))
        else:
            causes += _check_shape(ratio.shape, f"{where}.shape")
    elif ratio is not None:
        words = f"must be nil when type is not {REQUESTED_TO_CAPACITY}"
        causes.append(forbidden(where, words))
    chosen = Strategy(
        kind,
        tuple([(one.name, one.weight) for one in resources]),
        tuple([(one.utilization, one.score) for one in ratio.shape]) if ratio is not None else (),
    )
    return causes, replace(
        known,
        strategy=chosen,
        ignored_resources=args.ignored_resources,
        ignored_groups=args.ignored_resource_groups,
    )


def _check_shape(shape: tuple[ShapePoint, ...], at: str) -> Causes:
    if not shape:
        return [required(at, "at least one point must be specified")]
    causes: Causes = []
    for number in range(1, len(shape)):
        if shape[number - 1].utilization >= shape[number].utilization:
            here, words = f"{at}[{number}].utilization", "values must be sorted in increasing order"
            causes.append(invalid(here, shape[number].utilization, words))
            break
    for number, point in enumerate(shape):
        for name, value, most in (
            ("utilization", point.utilization, 100),
            ("score", point.score, 10),
        ):
            if not 0 <= value <= most:
                words = f"not in valid range [0, {most}]"
                causes.append(invalid(f"{at}[{number}].{name}", value, words))
    return causes


def _balanced(
    args: NodeResourcesBalancedAllocationArgs, at: str, known: Arguments
) -> tuple[Causes, Arguments]:
    causes: Causes = []
    seen: set[str] = set()
    for number, one in enumerate(args.resources):
        here = f"{at}.resources[{number}]"
        if one.name in seen:
            causes.append(duplicate(f"{here}.name", one.name))
        seen.add(one.name)
        if one.weight not in (0, 1):
            causes.append(invalid(f"{here}.weight", one.weight, "must be 1"))
    names = tuple([one.name for one in args.resources or _DEFAULTS])
    return causes, replace(known, balanced=names)


def _node_affinity(args: NodeAffinityArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    added = args.added_affinity
    if added is None:
        return [], known
    needed = added.required_during_scheduling_ignored_during_execution
    preferred = added.preferred_during_scheduling_ignored_during_execution or ()
    return validate_node_affinity(added, f"{at}.addedAffinity"), replace(
        known,
        added_terms=needed.node_selector_terms or () if needed is not None else None,
        added_preferences=tuple([(one.weight, one.preference) for one in preferred]),
    )


def _inter_pod(args: InterPodAffinityArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    weight = 1 if args.hard_pod_affinity_weight is None else args.hard_pod_affinity_weight
    causes: Causes = []
    if not 0 <= weight <= 100:
        here, words = f"{at}.hardPodAffinityWeight", "not in valid range [0, 100]"
        causes.append(invalid(here, weight, words))
    return causes, replace(
        known,
        hard_pod_affinity_weight=weight,
        ignores_preferences_of_existing=args.ignore_preferred_terms_of_existing_pods,
    )


def _spread(args: PodTopologySpreadArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    causes: Causes = []
    constraints, kind = args.default_constraints, args.defaulting_type or SYSTEM
    if kind not in (SYSTEM, LIST):
        causes.append(not_supported(f"{at}.defaultingType", kind, (SYSTEM, LIST)))
    elif kind == SYSTEM and constraints:
        here, words = f"{at}.defaultingType", "when .defaultConstraints are not empty"
        causes.append(invalid(here, kind, words))
    for number in range(len(constraints)):
        causes += _check_constraint(constraints, number, f"{at}.defaultConstraints[{number}]")
    return causes, replace(known, default_constraints=constraints if kind == LIST else None)


def _check_constraint(
    constraints: tuple[TopologySpreadConstraint, ...], number: int, at: str
) -> Causes:
    one, causes = constraints[number], Causes()
    if one.max_skew <= 0:
        causes.append(invalid(f"{at}.maxSkew", one.max_skew, "not in valid range (0, inf)"))
    if not one.topology_key:
        causes.append(required(f"{at}.topologyKey", "can not be empty"))
    else:
        causes += malformed(f"{at}.topologyKey", one.topology_key, qualified_name)
    when, known = one.when_unsatisfiable, ("DoNotSchedule", "ScheduleAnyway")
    if not when:
        causes.append(required(f"{at}.whenUnsatisfiable", "can not be empty"))
    elif when not in known:
        causes.append(not_supported(f"{at}.whenUnsatisfiable", when, known))
    if one.label_selector is not None:
        words = "constraint must not define a selector, as they deduced for each pod"
        causes.append(forbidden(f"{at}.labelSelector", words))
    if any(
        (each.topology_key, each.when_unsatisfiable) == (one.topology_key, when)
        for each in constraints[:number]
    ):
        causes.append(duplicate(at, f"{{{one.topology_key}, {when}}}"))
    return causes


def _volumes(args: VolumeBindingArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    seconds = 600 if args.bind_timeout_seconds is None else args.bind_timeout_seconds
    causes: Causes = []
    if seconds < 0:
        words = "invalid BindTimeoutSeconds, should not be a negative value"
        causes.append(invalid(f"{at}.bindTimeoutSeconds", seconds, words))
    if args.shape is not None:
        words = (
            "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        )
        causes.append(invalid(f"{at}.shape", args.shape, words))
    timeout = min(seconds, BIND_TIMEOUT_SECONDS_MAX) * SECOND
    return causes, replace(known, bind_timeout=timeout)


def _devices(args: DynamicResourcesArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    """A search for devices is bounded in steps, so no other time can be followed (D-347)."""
    causes: Causes = []
    times: list[Instant] = []
    for field, text, default in (
        ("filterTimeout", args.filter_timeout, "10s"),
        ("bindingTimeout", args.binding_timeout, "10m"),
    ):
        try:
            times.append(parse_duration(default if text is None else text))
        except ScheduleError as error:
            causes.append(invalid(f"{at}.{field}", text, str(error)))
    if causes:
        return causes, known
    of_filter, of_binding = times
    if of_filter < 0:
        causes.append(
            invalid(f"{at}.filterTimeout", args.filter_timeout, "must be zero or positive")
        )
    elif of_filter != 10 * SECOND:
        words = "a search for devices ends after a number of steps; only 10s is accepted"
        causes.append(invalid(f"{at}.filterTimeout", args.filter_timeout, words))
    if of_binding < SECOND:
        words = "must be at least 1 second"
        causes.append(invalid(f"{at}.bindingTimeout", args.binding_timeout, words))
    timeout = min(of_binding, BIND_TIMEOUT_SECONDS_MAX * SECOND)
    return causes, replace(known, device_timeout=timeout)


def _preemption(args: DefaultPreemptionArgs, at: str, known: Arguments) -> tuple[Causes, Arguments]:
    percent, absolute = args.min_candidate_nodes_percentage, args.min_candidate_nodes_absolute
    percent = 10 if percent is None else percent
    absolute = 100 if absolute is None else absolute
    causes: Causes = []
    of_percent, of_number = f"{at}.minCandidateNodesPercentage", f"{at}.minCandidateNodesAbsolute"
    if not 0 <= percent <= 100:
        causes.append(invalid(of_percent, percent, "not in valid range [0, 100]"))
    if absolute < 0:
        causes.append(invalid(of_number, absolute, "not in valid range [0, inf)"))
    if percent == 0 and absolute == 0:
        words = "cannot be zero at the same time as minCandidateNodes"
        causes.append(invalid(of_percent, percent, f"{words}Absolute"))
        causes.append(invalid(of_number, absolute, f"{words}Percentage"))
    return causes, replace(known, candidates_percent=percent, candidates_min=absolute)


READERS: dict[str, Callable[[Any, str, Arguments], tuple[Causes, Arguments]]] = {
    "NodeResourcesFit": _fit,
    "NodeResourcesBalancedAllocation": _balanced,
    "NodeAffinity": _node_affinity,
    "InterPodAffinity": _inter_pod,
    "PodTopologySpread": _spread,
    "VolumeBinding": _volumes,
    "DynamicResources": _devices,
    "DefaultPreemption": _preemption,
}
"""For each plugin: what is wrong with its arguments at that place, and the arguments with them."""


def lines(causes: Iterable[Any]) -> list[str]:
    """The causes as upstream prints them: the field and the message."""
    return [f"{cause.field}: {cause.message}" for cause in causes]
