"""The result of one node for one pod: the refusal, or the numbers from which its points are
computed. Rules SCHED-16, SCHED-17 (spec/scheduler.md).
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.scheduler.filters import node_affinity
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.plugin import refusal_of
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, Profile
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.relations import PLAIN, Relations, relate
from refk8s.core.scheduler.scores import Crowd, Raw, raw_of
from refk8s.core.scheduler.scores.image_locality import Images
from refk8s.core.scheduler.snapshot import Load, NodeFacts, PodInfo, Snapshot
from refk8s.core.value import Value


class Offer(Value, frozen=True):
    """A node that can run the pod: the input of its relative scores, its local points, and its
    number of pods."""

    raw: Raw
    local: int
    pods: int


def judge(
    pod: PodInfo,
    name: str,
    snapshot: Snapshot,
    namespaces: Mapping[str, Any],
    profile: Profile = DEFAULT_PROFILE,
) -> Refusal | None:
    """The refusal of one node, without the cache. O(1), or O(pods) if other pods matter."""
    facts, load = snapshot.nodes[name], snapshot.load(name)
    refusal = refuse(profile, pod.needs, facts, load)
    if refusal is None:
        relations = relate(pod, snapshot, namespaces, PLAIN, profile.arguments)
        refusal = reject(profile, pod, relations, facts, load)
    return refusal


def refuse(profile: Profile, needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """The refusal of the filters that depend only on the node and its pods."""
    for _, on_node in profile.by_node:
        if (refusal := on_node(needs, facts)) is not None:
            return refusal
    return refuse_load(profile, needs, facts, load)


def refuse_load(profile: Profile, needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """The refusal of those that depend on the pods of the node."""
    for _, on_load in profile.by_load:
        if (refusal := on_load(needs, facts, load)) is not None:
            return refusal
    return None


def reject(
    profile: Profile, pod: PodInfo, relations: Relations | None, facts: NodeFacts, load: Load
) -> Refusal | None:
    """The refusal of the filters that depend on other pods, or on more than the pod's needs."""
    if relations is not None:
        for _, check in profile.related:
            if (refusal := check(relations, facts)) is not None:
                return refusal
    for plugin in profile.plugins.filter:
        if (refusal := refusal_of(plugin, pod, facts, load)) is not None:
            return refusal
    return None


class Evaluation(Value, frozen=True, eq=False):
    """The result of a node for pods with equal needs: the refusal or the local points, and whether
    its pods count for spreading."""

    facts: NodeFacts
    load: Load
    static: Refusal | None
    refusal: Refusal | None
    taints: int
    preference: int
    images: Images
    local: int
    counts: bool


def evaluate(
    profile: Profile,
    needs: Needs,
    facts: NodeFacts,
    load: Load,
    before: Evaluation | None = None,
) -> Evaluation:
    if before is not None and before.facts is facts:
        static, taints_raw, preference, images, counts = (
            before.static,
            before.taints,
            before.preference,
            before.images,
            before.counts,
        )
    else:
        static = None
        for _, on_node in profile.by_node:
            if (static := on_node(needs, facts)) is not None:
                break
        taints_raw, preference, images = raw_of(needs, facts, profile.arguments)
        counts = node_affinity.check(needs, facts) is None
    refusal = static if static is not None else refuse_load(profile, needs, facts, load)
    local = 0
    if refusal is None:
        for _, weight, points in profile.local:
            local += weight * points(needs, facts, load)
    return Evaluation(facts, load, static, refusal, taints_raw, preference, images, local, counts)


def offer_of(
    profile: Profile, pod: PodInfo, facts: NodeFacts, load: Load, evaluation: Evaluation
) -> Offer | Refusal:
    if evaluation.refusal is not None:
        return evaluation.refusal
    siblings = (
        pod.group.count(load)
        if pod.group is not None and profile.arguments.default_constraints is None
        else None
    )
    return Offer(
        Raw(
            evaluation.taints,
            evaluation.preference,
            siblings,
            facts.zone,
            facts.has_hostname,
            evaluation.images,
        ),
        evaluation.local,
        len(load.pods),
    )


def crowd_of(pod: PodInfo, snapshot: Snapshot, zones: Mapping[str, int]) -> Crowd:
    return Crowd(zones, len(pod.needs.images), snapshot.images, len(snapshot.nodes))
