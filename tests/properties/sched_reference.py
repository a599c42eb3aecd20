"""A second implementation of the scheduler's scores: from pods and nodes as the API has them, with
every pod and node read for every score, and without the scheduler's code.

It follows the statements of SCHED-12 to SCHED-15, 27, 33, 34, 45, 52 and 53 one by one. The filters
are in refk8s/core/properties/predicates/scheduler.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor, log, sqrt

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ReplicaSet
from refk8s.core.api.core_v1 import Node, Pod, Service
from refk8s.core.api.selector import from_label_selector, from_map
from refk8s.core.properties.oracle import amount, requests, takes_room, term_matches, tolerates
from refk8s.core.properties.predicates.scheduler import _alike, _counts_for, _means
from refk8s.core.scheduler.arguments import Arguments

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
MIB = 1 << 20
SPREAD = ("ReplicaSet", "ReplicationController", "StatefulSet")


def on(node: Node, pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if takes_room(pod) and pod.spec.node_name == node.metadata.name]


def scored(pod: Pod) -> dict[str, int]:
    """The requests, where a container without one counts as 100m and 200Mi."""

    def full(container):
        given = {"cpu": "100m", "memory": "200Mi"} | (container.resources.requests or {})
        return replace(container, resources=replace(container.resources, requests=given))

    spec = pod.spec
    inits = tuple(map(full, spec.init_containers or ())) or None
    filled = replace(spec, containers=tuple(map(full, spec.containers)), init_containers=inits)
    return requests(replace(pod, spec=filled))


def share(name: str, pod: Pod, node: Node, pods: Sequence[Pod], count) -> tuple[int, int]:
    """(requested with the pod, allocatable)."""
    own = count(pod).get(name, 0)
    if name not in ("cpu", "memory", "ephemeral-storage") and not own:
        return 0, 0
    used = sum(count(other).get(name, 0) for other in on(node, pods))
    return used + own, amount(name, (node.status.allocatable or {}).get(name, "0"))


def fit(pod: Pod, node: Node, pods: Sequence[Pod], arguments: Arguments) -> int:
    strategy, points, weights = arguments.strategy, 0, 0
    for name, weight in strategy.resources:
        count = scored if name in ("cpu", "memory") else requests
        taken, given = share(name, pod, node, pods, count)
        if not given:
            continue
        if strategy.type == "LeastAllocated":
            each = max(given - taken, 0) * 100 // given
        elif strategy.type == "MostAllocated":
            each = min(taken, given) * 100 // given
        else:
            each = line(strategy.shape, 100 if taken > given else taken * 100 // given)
            if not each:
                continue
        points, weights = points + weight * each, weights + weight
    if not weights:
        return 0
    if strategy.type == "RequestedToCapacityRatio":
        return floor(Fraction(points, weights) + Fraction(1, 2))
    return points // weights


def line(shape: Sequence[tuple[int, int]], x: int) -> int:
    left = [(at, 10 * score) for at, score in shape if at < x]
    right = [(at, 10 * score) for at, score in shape if at >= x]
    if not left:
        return right[0][1]
    if not right:
        return left[-1][1]
    (x0, y0), (x1, y1) = left[-1], right[0]
    return y0 + int(Fraction((y1 - y0) * (x - x0), x1 - x0))


def balance(pod: Pod, node: Node, pods: Sequence[Pod], arguments: Arguments) -> int:
    if not any(requests(pod).get(name) for name in arguments.balanced):
        return 0
    shares = [share(name, pod, node, pods, requests) for name in arguments.balanced]
    found = [min(taken / given, 1.0) for taken, given in shares if given]
    if len(found) == 2:
        deviation = abs(found[0] - found[1]) / 2
    elif found:
        mean = sum(found) / len(found)
        deviation = sqrt(sum((each - mean) ** 2 for each in found) / len(found))
    else:
        deviation = 0.0
    return int((1 - deviation) * 100)


def relative(raw: dict[str, int]) -> dict[str, int]:
    most = max(raw.values())
    return {name: 100 * much // most if most else 0 for name, much in raw.items()}


def taint_points(pod: Pod, nodes: Sequence[Node]) -> dict[str, int]:
    raw = {
        node.metadata.name: sum(
            taint.effect == "PreferNoSchedule"
            and not any(tolerates(one, taint) for one in pod.spec.tolerations or ())
            for taint in node.spec.taints or ()
        )
        for node in nodes
    }
    return {name: 100 - much for name, much in relative(raw).items()}


def affinity_points(pod: Pod, nodes: Sequence[Node], arguments: Arguments) -> dict[str, int]:
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    terms = [
        (each.weight, each.preference)
        for each in (
            affinity.preferred_during_scheduling_ignored_during_execution if affinity else None
        )
        or ()
    ]
    raw = {
        node.metadata.name: sum(
            weight
            for weight, term in [*terms, *arguments.added_preferences]
            if term_matches(term, node.metadata.labels or {}, node.metadata.name)
        )
        for node in nodes
    }
    return relative(raw)


def image_points(pod: Pod, node: Node, everything: Sequence[Node]) -> int:
    containers = [*(pod.spec.init_containers or ()), *pod.spec.containers]
    total = 0
    for container in containers:
        tag = container.image.rpartition("/")[2]
        name = container.image if ":" in tag else f"{container.image}:latest"
        having = [
            [image for image in each.status.images or () if name in (image.names or ())]
            for each in everything
        ]
        here = having[[each.metadata.name for each in everything].index(node.metadata.name)]
        if here:
            spread = sum(bool(each) for each in having) / len(everything)
            total += int(here[-1].size_bytes * spread)
    least, most = 23 * MIB, 1000 * MIB * len(containers)
    return 100 * (min(max(total, least), most) - least) // (most - least)


def group_of(pod: Pod, services: Sequence[Service], owners: Sequence[ReplicaSet]):
    """SCHED-27: whether another pod is spread together with this one; None if nothing selects
    it."""
    labels = pod.metadata.labels or {}
    selectors = [
        from_map(one.spec.selector)
        for one in services
        if one.metadata.namespace == pod.metadata.namespace
        and one.spec.selector
        and from_map(one.spec.selector).matches(labels)
    ] + [
        from_label_selector(one.spec.selector)
        for one in owners
        if one.metadata.namespace == pod.metadata.namespace and one.metadata.name == owner_of(pod)
    ]

    def alike(other: Pod) -> bool:
        return (
            other.metadata.namespace == pod.metadata.namespace
            and other.metadata.deletion_timestamp is None
            and all(each.matches(other.metadata.labels) for each in selectors)
        )

    return alike if selectors else None


def owner_of(pod: Pod) -> str:
    for each in pod.metadata.owner_references or ():
        if each.controller and each.kind in SPREAD:
            return each.name
    return ""


def scaled(crowds: dict[str, int]) -> dict[str, int]:
    most, least = max(crowds.values()), min(crowds.values())
    return {
        name: 100 * (most + least - crowd) // most if most else 100
        for name, crowd in crowds.items()
    }


def spread_points(
    pod: Pod,
    nodes: Sequence[Node],
    everything: Sequence[Node],
    pods: Sequence[Pod],
    arguments,
    group,
) -> dict[str, int]:
    """SCHED-27, SCHED-33: `nodes` are those that can run the pod."""
    nothing = {node.metadata.name: 0 for node in nodes}
    own = pod.spec.topology_spread_constraints or ()
    stated = [each for each in own if each.when_unsatisfiable == "ScheduleAnyway"]
    alike = lambda each, other: group(other)  # noqa: E731
    if own:
        alike = lambda each, other: _alike(each, pod, other)  # noqa: E731
    elif arguments.default_constraints is not None and group is not None:
        stated = [
            each
            for each in arguments.default_constraints
            if each.when_unsatisfiable == "ScheduleAnyway"
        ]
    elif group is not None and arguments.default_constraints is None:
        return system_points(pod, nodes, everything, pods, alike)
    if not stated:
        return nothing
    keys = {each.topology_key for each in stated}
    whole = [node for node in nodes if keys <= set(node.metadata.labels or {})]
    if not whole:
        return nothing
    crowds = dict.fromkeys([node.metadata.name for node in whole], 0.0)
    for each in stated:
        key = each.topology_key
        counted = [
            node
            for node in everything
            if keys <= set(node.metadata.labels or {}) and _counts_for(each, pod, node)
        ]
        weight = log(len({node.metadata.labels[key] for node in whole}) + 2)
        for node in whole:
            domain = node.metadata.labels[key]
            count = sum(
                alike(each, other)
                for there in counted
                if there.metadata.labels[key] == domain
                for other in on(there, pods)
            )
            crowds[node.metadata.name] += count * weight + each.max_skew - 1
    return nothing | scaled({name: floor(crowd + 0.5) for name, crowd in crowds.items()})


def system_points(pod, nodes, everything, pods, alike) -> dict[str, int]:
    """SCHED-27: a skew of 3 over nodes and of 5 over zones."""
    zone_of = lambda node: (node.metadata.labels or {}).get(ZONE, "")  # noqa: E731
    per_node, per_zone = log(len(nodes) + 2), log(len({zone_of(node) for node in nodes}) + 2)
    crowds: dict[str, int] = {}
    for node in nodes:
        crowd = 0.0
        if HOST in (node.metadata.labels or {}):
            crowd += sum(alike(None, other) for other in on(node, pods)) * per_node + 2
        if zone_of(node):
            counted = [
                other
                for there in everything
                if zone_of(there) == zone_of(node) and may_count(pod, there)
                for other in on(there, pods)
            ]
            crowd += sum(alike(None, other) for other in counted) * per_zone + 4
        crowds[node.metadata.name] = floor(crowd + 0.5)
    return scaled(crowds)


def may_count(pod: Pod, node: Node) -> bool:
    """Whether the node matches the pod's own node selector and affinity."""
    labels = node.metadata.labels or {}
    selector = pod.spec.node_selector or {}
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    needed = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    return all(labels.get(key) == text for key, text in selector.items()) and (
        needed is None
        or any(
            term_matches(term, labels, node.metadata.name) for term in needed.node_selector_terms
        )
    )


def together_points(
    pod: Pod, nodes: Sequence[Node], everything: Sequence[Node], pods: Sequence[Pod], namespaces,
    arguments: Arguments,
) -> dict[str, int]:  # fmt: skip
    """SCHED-34."""
    raw = {node.metadata.name: 0 for node in nodes}
    own = preferences(pod)
    if arguments.ignores_preferences_of_existing and not own:
        return raw
    for there in everything:
        for other in on(there, pods):
            found = [(w, term) for w, term in own if _means(term, pod, other, namespaces)]
            theirs = preferences(other)
            near = other.spec.affinity.pod_affinity if other.spec.affinity else None
            for term in (
                near.required_during_scheduling_ignored_during_execution if near else None
            ) or ():
                theirs.append((arguments.hard_pod_affinity_weight, term))
            found += [(w, term) for w, term in theirs if _means(term, other, pod, namespaces)]
            for weight, term in found:
                domain = (there.metadata.labels or {}).get(term.topology_key)
                for node in nodes:
                    mine = (node.metadata.labels or {}).get(term.topology_key)
                    if domain is not None and mine == domain:
                        raw[node.metadata.name] += weight
    least, most = min(raw.values()), max(raw.values())
    return {
        name: 100 * (much - least) // (most - least) if most > least else 0
        for name, much in raw.items()
    }


def preferences(pod: Pod) -> list:
    affinity = pod.spec.affinity
    found = []
    for part, sign in (
        (affinity.pod_affinity if affinity else None, 1),
        (affinity.pod_anti_affinity if affinity else None, -1),
    ):
        for each in (
            part.preferred_during_scheduling_ignored_during_execution if part else None
        ) or ():
            found.append((sign * each.weight, each.pod_affinity_term))
    return found


def all_points(
    pod: Pod, nodes: Sequence[Node], everything: Sequence[Node], pods: Sequence[Pod], namespaces,
    arguments: Arguments, group,
) -> dict[str, dict[str, int]]:  # fmt: skip
    """The points of each plugin for each node that can run the pod."""
    return {
        "TaintToleration": taint_points(pod, nodes),
        "NodeAffinity": affinity_points(pod, nodes, arguments),
        "NodeResourcesFit": {n.metadata.name: fit(pod, n, pods, arguments) for n in nodes},
        "PodTopologySpread": spread_points(pod, nodes, everything, pods, arguments, group),
        "InterPodAffinity": together_points(pod, nodes, everything, pods, namespaces, arguments),
        "NodeResourcesBalancedAllocation": {
            n.metadata.name: balance(pod, n, pods, arguments) for n in nodes
        },
        "ImageLocality": {n.metadata.name: image_points(pod, n, everything) for n in nodes},
    }


def is_enforced(node: Node, arguments: Arguments) -> bool:
    """SCHED-53: whether the node matches the terms that the profile adds."""
    return arguments.added_terms is None or any(
        term_matches(term, node.metadata.labels or {}, node.metadata.name)
        for term in arguments.added_terms
    )


def default_skew(pod: Pod, node: Node, everything, pods, arguments: Arguments, group) -> bool:
    """SCHED-53: whether the default constraints with DoNotSchedule allow the node."""
    if not arguments.default_constraints or group is None or pod.spec.topology_spread_constraints:
        return True
    hard = [e for e in arguments.default_constraints if e.when_unsatisfiable == "DoNotSchedule"]
    keys = {each.topology_key for each in hard}
    for each in hard:
        key, labels = each.topology_key, node.metadata.labels or {}
        if key not in labels:
            return False
        domains: dict[str, int] = {}
        for there in everything:
            if keys <= set(there.metadata.labels or {}) and _counts_for(each, pod, there):
                domain = there.metadata.labels[key]
                domains[domain] = domains.get(domain, 0) + sum(
                    group(other) for other in on(there, pods)
                )
        least = min(domains.values(), default=0) if len(domains) >= (each.min_domains or 1) else 0
        if domains.get(labels[key], 0) + group(pod) - least > each.max_skew:
            return False
    return True
