"""The next steps of a StatefulSet: which pods are created, deleted and corrected. Rules STS-4 to
STS-7, STS-12 (spec/workloads/stateful_set.md).

    1  wanted ordinals, lowest first     create missing pods, delete finished ones, correct others
    2  condemned pods, highest first     delete
    3  pods of another revision,         delete (they are created anew with the new revision)
       highest first

With OrderedReady each of these waits for every pod that is not healthy, so a plan has at most one
creation or deletion of a pod. With Parallel nothing waits before 3.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import StatefulSet
from refk8s.core.api.core_v1 import Pod, PodTemplateSpec
from refk8s.core.api.intstr import IntOrStringError, scaled
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.context import Instant
from refk8s.core.controllers.controller_revisions import History, template_of
from refk8s.core.controllers.owners import deletion
from refk8s.core.controllers.stateful_set_claims import (
    claims_of_pod,
    is_owned_by_an_earlier_pod,
    missing_claims,
    retention_changes,
)
from refk8s.core.controllers.stateful_set_pods import (
    Layout,
    corrected,
    is_healthy,
    is_terminating,
    new_pod,
    replaced_at,
    revision_of,
)
from refk8s.core.loop.plan import Note, slow_start
from refk8s.core.loop.view import View
from refk8s.core.pods.status import PENDING, is_finished
from refk8s.core.value import Value

BURST_MAX = 500
"""The most pods that one plan creates or deletes; the next plan does the rest (STS-5)."""

ROLLING_UPDATE, PARALLEL = "RollingUpdate", "Parallel"

Wave: TypeAlias = tuple[Request, ...]


class Steps(Value, frozen=True):
    """The waves of a plan. `is_blocked`: later phases have to wait. `obstacle`: the name of a pod
    that cannot be created, because a pod of another owner has it."""

    waves: tuple[Wave, ...] = ()
    is_blocked: bool = False
    obstacle: str = ""


class Situation(Value, frozen=True, eq=False):
    """What the steps are computed from."""

    view: View
    stateful_set: StatefulSet
    layout: Layout
    history: History
    current: Any  # the revision of pods below the partition
    now: Instant

    @property
    def is_ordered(self) -> bool:
        return self.stateful_set.spec.pod_management_policy != PARALLEL

    def is_healthy(self, pod: Pod) -> bool:
        return is_healthy(pod, self.stateful_set.spec.min_ready_seconds or 0, self.now)


def compute_steps(situation: Situation) -> Steps:
    """The steps of all three phases, as far as they may be taken now."""
    steps = ordered(situation) if situation.is_ordered else parallel(situation)
    if steps.is_blocked:
        return steps
    return replace(steps, waves=(*steps.waves, deletions_for_update(situation)))


# --- phases 1 and 2 -------------------------------------------------------------------------------


def ordered(situation: Situation) -> Steps:
    """STS-4: one pod at a time. O(pods)."""
    layout = situation.layout
    waves: tuple[Wave, ...] = ()
    for ordinal in layout.ordinals():
        pod = layout.wanted.get(ordinal)
        if pod is None:
            creation = creation_of(situation, ordinal)
            return replace(creation, waves=(*waves, *creation.waves), is_blocked=True)
        if is_finished(pod):
            return Steps((*waves, replacements(situation, [pod])), True)
        if pod.status.phase == PENDING:
            waves += (claims_for(situation, pod),)
        if not situation.is_healthy(pod):
            return Steps(waves, True)
        waves += (corrections(situation, pod),)
    waves += (condemned_claims(situation),)
    lowest_unhealthy = next(
        (pod for pod in reversed(layout.condemned) if not situation.is_healthy(pod)), None
    )
    for pod in layout.condemned:
        if is_terminating(pod) or not (situation.is_healthy(pod) or pod is lowest_unhealthy):
            return Steps(waves, True)
        return Steps((*waves, deletions(situation, [pod], too_high(layout))), True)
    return Steps(waves)


def parallel(situation: Situation) -> Steps:
    """STS-5: all pods at once. O(pods + creations)."""
    layout = situation.layout
    creations: list[Steps] = []
    finished: list[Pod] = []
    changes: Wave = ()
    for ordinal in layout.ordinals():
        pod = layout.wanted.get(ordinal)
        if pod is None:
            if len(creations) == BURST_MAX:
                break
            creations.append(creation_of(situation, ordinal))
        elif is_finished(pod):
            finished.append(pod)
        else:
            if pod.status.phase == PENDING:
                changes += missing_claims(situation.view, situation.stateful_set, name_of(pod))
            changes += corrections(situation, pod)
    made: list[Wave] = []
    for batch in slow_start(tuple([one for one in creations if one.waves])):
        for waves in zip(*[one.waves for one in batch], strict=True):  # claims, then pods
            made.append(tuple([request for wave in waves for request in wave]))
    condemned = [pod for pod in layout.condemned if not is_terminating(pod)][:BURST_MAX]
    obstacle = next((one.obstacle for one in creations if one.obstacle), "")
    return Steps(
        (
            replacements(situation, finished),
            *made,
            changes,
            condemned_claims(situation),
            deletions(situation, condemned, too_high(layout)),
        ),
        # creations of this plan are pods that are not available
        bool(creations),
        obstacle,
    )


def replacements(situation: Situation, finished: Iterable[Pod]) -> Wave:
    """Delete pods that have finished, if they are old enough (STS-14)."""
    now = situation.now
    return deletions(
        situation, [pod for pod in finished if replaced_at(pod, now) <= now], "it has finished"
    )


def name_of(pod: Pod) -> str:
    return pod.metadata.name or ""


def too_high(layout: Layout) -> str:
    if not layout.replicas:
        return "no pods are wanted"
    return f"ordinals {layout.start} to {layout.start + layout.replicas - 1} are wanted"


def creation_of(situation: Situation, ordinal: int) -> Steps:
    """Requests that create the claims and then the pod with this ordinal. None if a claim is about
    to be deleted (STS-10), or if a pod of another owner has the name (STS-2). The earlier pod of
    this ordinal, which a lost node may still run, is among the set's own (STS-15)."""
    stateful_set, view = situation.stateful_set, situation.view
    template, revision = template_for(situation, ordinal)
    pod = new_pod(stateful_set, template, revision, ordinal)
    name = name_of(pod)
    namespace = stateful_set.metadata.namespace or ""
    if view.get(PODS, f"{namespace}/{name}") is not None:
        return Steps(obstacle=name)
    claims = claims_of_pod(view, stateful_set, name)
    if any(
        is_owned_by_an_earlier_pod(claim, name) or claim.metadata.deletion_timestamp is not None
        for claim in claims
    ):
        return Steps()
    words = f"create Pod {name} in StatefulSet {stateful_set.metadata.name} successful"
    creation = Request(
        "create",
        PODS,
        namespace,
        body=pod,
        because=f"ordinal {ordinal} has no pod",
        note=Note(stateful_set, "SuccessfulCreate", words),
    )
    return Steps((claims_for(situation, pod), (creation,)))


def claims_for(situation: Situation, pod: Pod) -> Wave:
    """Create the missing claims of a wanted pod (STS-8), and give the others their owner
    (STS-9)."""
    view, stateful_set = situation.view, situation.stateful_set
    made = missing_claims(view, stateful_set, name_of(pod))
    return made + retention_changes(view, stateful_set, pod, False)


def template_for(situation: Situation, ordinal: int) -> tuple[PodTemplateSpec, str]:
    """The template of a new pod, and the name of its revision: below the partition of a rolling
    update the current one, else that of the set (STS-7)."""
    stateful_set, update = situation.stateful_set, situation.history.update
    if ordinal < situation.layout.start + partition_of(stateful_set):
        template = template_of(situation.current)
        if template is not None:
            return template, situation.current.metadata.name
    return stateful_set.spec.template, update.metadata.name or ""


def partition_of(stateful_set: StatefulSet) -> int:
    """How many of the lowest ordinals a rolling update leaves alone; 0 with OnDelete."""
    strategy = stateful_set.spec.update_strategy
    if strategy.type != ROLLING_UPDATE or strategy.rolling_update is None:
        return 0
    return strategy.rolling_update.partition or 0


def corrections(situation: Situation, pod: Pod) -> Wave:
    """Restore the identity of the pod (STS-3), and the owners of its claims (STS-9)."""
    stateful_set, name = situation.stateful_set, name_of(pod)
    changes = retention_changes(situation.view, stateful_set, pod, False)
    body = corrected(stateful_set, pod)
    if body is None:
        return changes
    words = f"update Pod {name} in StatefulSet {stateful_set.metadata.name} successful"
    request = Request(
        "update",
        PODS,
        pod.metadata.namespace or "",
        name,
        body=body,
        because="its identity is not that of its ordinal",
        note=Note(stateful_set, "SuccessfulUpdate", words),
    )
    return (*missing_claims(situation.view, stateful_set, name), *changes, request)


def condemned_claims(situation: Situation) -> Wave:
    """STS-9, for the pods that are scaled away."""
    return tuple(
        [
            request
            for pod in situation.layout.condemned
            for request in retention_changes(situation.view, situation.stateful_set, pod, True)
        ]
    )


def deletions(situation: Situation, pods: Iterable[Pod], because: str) -> Wave:
    """Delete these pods, except those that are being deleted."""
    stateful_set = situation.stateful_set
    return tuple(
        [
            deletion(
                PODS,
                pod,
                because,
                Note(
                    stateful_set,
                    "SuccessfulDelete",
                    f"delete Pod {name_of(pod)} in StatefulSet "
                    f"{stateful_set.metadata.name} successful",
                ),
            )
            for pod in pods
            if not is_terminating(pod)
        ]
    )


# --- phase 3 --------------------------------------------------------------------------------------


def deletions_for_update(situation: Situation) -> Wave:
    """Delete pods of another revision, from the highest ordinal down to the partition (STS-6).

    Without maxUnavailable one pod, and none while a higher one is not healthy. With it as many as
    leave at most that number of wanted pods unhealthy.
    """
    stateful_set, layout = situation.stateful_set, situation.layout
    strategy = stateful_set.spec.update_strategy
    if strategy.type != ROLLING_UPDATE:
        return ()
    update = situation.history.update.metadata.name
    lowest = layout.start + partition_of(stateful_set)
    rolling = strategy.rolling_update
    many = rolling.max_unavailable if rolling is not None else None
    because = "it has an earlier revision"
    above = [pod for ordinal, pod in reversed(layout.wanted.items()) if ordinal >= lowest]
    if many is None:
        for pod in above:
            if revision_of(pod) != update and not is_terminating(pod):
                return deletions(situation, [pod], because)
            if not situation.is_healthy(pod):
                return ()
        return ()
    unhealthy = sum(not situation.is_healthy(pod) for pod in layout.wanted.values())
    room = max_unavailable(many, layout.replicas) - unhealthy
    outdated = [pod for pod in above if revision_of(pod) != update and not is_terminating(pod)]
    return deletions(situation, outdated[: max(0, min(room, BURST_MAX))], because)


def max_unavailable(value: int | str, replicas: int) -> int:
    """The count, or the percentage of the replicas rounded down; at least 1."""
    try:
        return max(1, scaled(value, replicas, round_up=False))
    except IntOrStringError:  # LOOP-12: validation rejects it
        return 1
