"""The next steps of a DaemonSet: which pods are deleted, and which nodes get one. Rules DS-5 to
DS-9 (spec/workloads/daemon_set.md).

    manage        one pod on every node that gets one, none on nodes that keep none; finished pods
                  and surplus pods are deleted
    roll          RollingUpdate, when manage has nothing to do: within maxUnavailable old pods are
                  deleted, or within maxSurge new pods are created beside the old ones

Source: Kubernetes documentation, "DaemonSet", "Perform a Rolling Update on a DaemonSet"; KEP-1591
(maxSurge).
"""

from collections.abc import Mapping, Sequence

from immutables import Map

from refk8s.core.api.apps_v1 import DaemonSet
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.intstr import IntOrStringError, scaled
from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.controllers.daemon_set_nodes import Fit, is_updated
from refk8s.core.pods.status import FAILED, SUCCEEDED, available_at, is_ready, ready_condition
from refk8s.core.value import Value

ROLLING_UPDATE = "RollingUpdate"
BACKOFF_FIRST: Instant = 1 * SECOND
BACKOFF_MAX: Instant = 15 * MINUTE

Backoffs = Map[str, tuple[Instant, Instant]]
"""By node: when a failed pod was last deleted, and how long the next one is kept."""


class Situation(Value, frozen=True, eq=False):
    """What the steps are computed from. `fits`: by node; `pods`: those of each node, assigned and
    oldest first; `hash` and `generation` of the set's template."""

    daemon_set: DaemonSet
    fits: Mapping[str, Fit]
    pods: Mapping[str, Sequence[Pod]]
    hash: str
    generation: str
    now: Instant

    def is_available(self, pod: Pod) -> bool:
        condition = ready_condition(pod)
        if condition is None:
            return False
        at = available_at(condition, self.daemon_set.spec.min_ready_seconds or 0)
        return at is not None and at <= self.now

    def is_updated(self, pod: Pod) -> bool:
        return is_updated(pod, self.hash, self.generation)


class Steps(Value, frozen=True, eq=False):
    """Pods to delete with the reason, nodes that get a pod, the pods that have finished, the new
    back-offs, and when to look again at a failed pod."""

    delete: list[tuple[Pod, str]]
    create: list[str]
    finished: list[tuple[Pod, str]]
    backoffs: Backoffs
    wake_at: Instant | None = None


def compute_steps(situation: Situation, backoffs: Backoffs) -> Steps:
    """The steps that may be taken now. O(nodes + pods)."""
    steps = manage(situation, backoffs)
    strategy = situation.daemon_set.spec.update_strategy
    if steps.delete or steps.create or strategy.type != ROLLING_UPDATE:
        return steps
    max_unavailable, max_surge = compute_bounds(situation)
    if max_surge:
        delete, create = roll_with_surge(situation, max_surge)
    else:
        delete, create = roll(situation, max_unavailable), []
    because = "it has an earlier template"
    return Steps([(pod, because) for pod in delete], create, [], steps.backoffs, steps.wake_at)


# --- one pod on every node ------------------------------------------------------------------------


def manage(situation: Situation, backoffs: Backoffs) -> Steps:
    """DS-5 to DS-7."""
    delete: list[tuple[Pod, str]] = []
    create: list[str] = []
    finished: list[tuple[Pod, str]] = []
    wake_at: Instant | None = None
    surges = compute_bounds(situation)[1] > 0
    for node, fit in situation.fits.items():
        pods = situation.pods.get(node, ())
        if not fit.keeps:
            delete += [(pod, "its node may not run it") for pod in pods if not is_going(pod)]
            continue
        if fit.gets and not pods:
            create.append(node)
            continue
        running: list[Pod] = []
        for pod in pods:
            if is_going(pod):
                continue
            if pod.status.phase == FAILED:  # DS-7
                until = backed_off_until(backoffs, node)
                if until is not None and situation.now < until:
                    wake_at = until if wake_at is None else min(wake_at, until)
                    continue
                backoffs = backoffs.set(node, (situation.now, next_backoff(backoffs, node)))
                finished.append((pod, node))
                delete.append((pod, "it has failed"))
            elif pod.status.phase == SUCCEEDED:
                finished.append((pod, node))
                delete.append((pod, "it has finished"))
            else:
                running.append(pod)
        if surges:
            delete += surplus_of_surge(situation, running)
            if not running and fit.gets and not any(pod.status.phase == FAILED for pod in pods):
                create.append(node)
        else:
            delete += [(pod, "another pod is on its node") for pod in running[1:]]
    for node, pods in situation.pods.items():
        if node not in situation.fits:  # DS-6
            delete += [
                (pod, "its node does not exist")
                for pod in pods
                if not pod.spec.node_name and not is_going(pod)
            ]
    return Steps(delete, create, finished, backoffs, wake_at)


def is_going(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def surplus_of_surge(situation: Situation, running: Sequence[Pod]) -> list[tuple[Pod, str]]:
    """DS-9: a node has at most one pod of the set's template and one earlier one; the earlier one
    goes when it is not ready, or when the new one is available."""
    if len(running) < 2:
        return []
    new = [pod for pod in running if situation.is_updated(pod)]
    old = [pod for pod in running if not situation.is_updated(pod)]
    surplus = [(pod, "another pod is on its node") for pod in (*new[1:], *old[1:])]
    if new and old:
        if not is_ready(old[0]):
            surplus.append((old[0], "it is not ready, and a new pod is on its node"))
        elif situation.is_available(new[0]):
            surplus.append((old[0], "the new pod of its node is available"))
    return surplus


def backed_off_until(backoffs: Backoffs, node: str) -> Instant | None:
    """Until when a failed pod of the node is kept; None if it is deleted at once."""
    found = backoffs.get(node)
    return None if found is None else found[0] + found[1]


def next_backoff(backoffs: Backoffs, node: str) -> Instant:
    """Twice the one before. After a long time without a failure, `backoffs` does not have it."""
    found = backoffs.get(node)
    if found is None:
        return BACKOFF_FIRST
    return min(2 * found[1], BACKOFF_MAX)


# --- rolling updates ------------------------------------------------------------------------------


def compute_bounds(situation: Situation) -> tuple[int, int]:
    """(maxUnavailable, maxSurge); percentages of the nodes that get a pod are rounded up. If both
    are 0, one pod may be unavailable."""
    rolling = situation.daemon_set.spec.update_strategy.rolling_update
    if rolling is None:
        return 1, 0
    total = sum(fit.gets for fit in situation.fits.values())
    unavailable = share_of(rolling.max_unavailable, total, 1)
    surge = share_of(rolling.max_surge, total, 0)
    return (1, 0) if not unavailable and not surge else (unavailable, surge)


def share_of(value: int | str | None, total: int, default: int) -> int:
    try:
        return max(0, scaled(default if value is None else value, total, round_up=True))
    except IntOrStringError:  # LOOP-12: validation rejects it
        return default


def by_template(situation: Situation, node: str) -> tuple[Pod | None, Pod | None] | None:
    """(pod of the set's template, earlier pod) of a node that has pods; None if there are more."""
    pods = [pod for pod in situation.pods[node] if not is_going(pod)]
    new = [pod for pod in pods if situation.is_updated(pod)]
    old = [pod for pod in pods if not situation.is_updated(pod)]
    if len(new) > 1 or len(old) > 1:
        return None
    return (new[0] if new else None, old[0] if old else None)


def roll(situation: Situation, max_unavailable: int) -> list[Pod]:
    """DS-8: delete the old pods that are not available, and others as long as at most
    maxUnavailable nodes have no available pod. Every node that gets a pod has one: `manage` has
    nothing to do."""
    unavailable = 0
    replaced: list[Pod] = []
    candidates: list[Pod] = []
    for node in sorted(situation.pods):
        found = by_template(situation, node)
        new, old = found if found is not None else (None, None)
        if (new is None) == (old is None):  # the next plan creates or deletes a pod here
            unavailable += 1
        elif new is not None:
            unavailable += not situation.is_available(new)
        elif old is not None and not situation.is_available(old):
            unavailable += 1
            replaced.append(old)
        elif old is not None:
            candidates.append(old)
    return replaced + candidates[: max(0, max_unavailable - unavailable)]


def roll_with_surge(situation: Situation, max_surge: int) -> tuple[list[Pod], list[str]]:
    """DS-9: delete old pods beside an available new one; create new pods beside old ones that are
    not available, and on others as long as at most maxSurge nodes have an unavailable new pod."""
    surging = 0
    delete: list[Pod] = []
    allowed: list[str] = []
    candidates: list[str] = []
    for node in sorted(situation.pods):
        found = by_template(situation, node)
        if found is None:
            surging += 1
            continue
        new, old = found
        fit = situation.fits.get(node)
        if old is None:
            continue
        if new is None:
            if fit is not None and fit.gets:
                (candidates if situation.is_available(old) else allowed).append(node)
        elif situation.is_available(new):
            delete.append(old)
        else:
            surging += 1
    return delete, allowed + candidates[: max(0, max_surge - surging)]
