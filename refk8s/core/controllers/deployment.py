"""Deployment: rollouts from one pod template to the next. Rules DEP-1 to DEP-20
(spec/workloads/deployment.md).

    state of the Deployment     step
    being deleted               none
    paused                      scale the existing ReplicaSets
    spec.replicas was changed   scale the existing ReplicaSets, in proportion
    Recreate                    scale the old ones to 0; wait for their last pod;
                                then scale the new one up
    RollingUpdate               scale the new one up, within replicas + maxSurge;
                                else scale old ones down, within replicas - maxUnavailable

A reconciliation takes one such step and writes the status; its writes make the key due again. The
arithmetic is in `rollout.py`, templates and revisions are in `revision.py`, requests in
`deployment_acts.py`, counts and conditions in `deployment_status.py`.

Source: Kubernetes documentation, "Deployments". Left out: the rollback request of
extensions/v1beta1; `kubectl rollout undo` writes the old template into the Deployment.
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.api.request import Response
from refk8s.core.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from refk8s.core.context import Instant
from refk8s.core.controllers import deployment_status as statuses
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers import rollout
from refk8s.core.controllers.deployment_acts import (
    cleanings,
    creation,
    new_replica_set,
    report,
    resizings,
    synchronized,
)
from refk8s.core.controllers.deployment_observed import Decision, Observed, member, observe
from refk8s.core.controllers.owners import (
    claim,
    claim_waves,
    dependent_keys,
    list_orphans,
    orphan_index,
    selects,
    why_not_created,
)
from refk8s.core.controllers.rollout import Member, Sizes
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, controller_of, namespace_index, owner_index
from refk8s.core.pods.status import is_finished

COLLISIONS_MAX = 5
"""The most ReplicaSets that are created for one template. Two templates have the same hash with a
probability of one in four billion, so five collisions in a row have another cause."""


class DeploymentReconciler(Reconciler):
    """Reconciles one Deployment."""

    name = component = "deployment-controller"

    def __init__(self) -> None:
        self.interests = (
            Interest(DEPLOYMENTS, own_key),
            Interest(
                REPLICA_SETS,
                dependent_keys(
                    "Deployment", DEPLOYMENTS, lambda deployment: deployment.spec.selector
                ),
            ),
            Interest(PODS, keys_of_last_pod),
        )
        self.indexes = (
            namespace_index(DEPLOYMENTS),
            owner_index(REPLICA_SETS),
            orphan_index(REPLICA_SETS),
            owner_index(PODS),
        )

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Take the next step of the rollout. O(ReplicaSets of this Deployment)."""
        # Observe
        deployment = view.get(DEPLOYMENTS, key)
        if deployment is None:
            return NOTHING  # The garbage collector deletes its dependents.
        selector = deployment.spec.selector
        if selector is None or (not selector.match_labels and not selector.match_expressions):
            return refuse_everything(deployment)
        controlled = view.indexed(REPLICA_SETS, "owner", deployment.metadata.uid)
        orphans = list_orphans(view, REPLICA_SETS, deployment.metadata.namespace, selector)
        claimed = claim(deployment, controlled, orphans, selects(selector))
        if not claimed.is_settled:
            return Plan(claim_waves(deployment, DEPLOYMENTS, REPLICA_SETS, claimed))
        observed = observe(deployment, claimed.owned)

        # Decide
        decision = decide(observed, view)
        if decision.create is not None:
            return create(observed, decision.create, view, local.failure, now)

        # Act
        new = (
            None
            if observed.new is None or observed.is_terminating
            else synchronized(observed, observed.new)
        )
        waves = (*resizings(observed, new, decision), cleanings(observed) if decision.clean else ())

        # Report
        conditions = deployment.status.conditions or ()
        if not observed.is_terminating:
            conditions = statuses.compute_beginning(
                deployment, statuses.compute_pause(deployment, now), new, now
            )
        status = statuses.compute_counts(
            deployment, observed.bounds, observed.new, observed.all, conditions, now
        )
        wake_at = None
        if decision.is_rollout:
            status = statuses.compute_progress(deployment, status, observed.new, observed.all, now)
            wake_at = statuses.compute_wake(deployment, status)
        return Plan((*waves, report(deployment, status, new)), wake_at=wake_at)


# --- observe --------------------------------------------------------------------------------------


def keys_of_last_pod(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """A pod makes its Deployment due when it finishes or is removed: Recreate waits for the last
    old pod (DEP-10)."""
    if old is None or (new is not None and (not is_finished(new) or is_finished(old))):
        return ()
    namespace = old.metadata.namespace
    reference = controller_of(old)
    rs = (
        view.get(REPLICA_SETS, f"{namespace}/{reference.name}")
        if reference is not None and reference.kind == "ReplicaSet"
        else None
    )
    owner = controller_of(rs) if rs is not None else None
    key = f"{namespace}/{owner.name}" if owner is not None and owner.kind == "Deployment" else ""
    deployment = view.get(DEPLOYMENTS, key)
    return (
        (key,)
        if deployment is not None and deployment.spec.strategy.type == rollout.RECREATE
        else ()
    )


# --- decide ---------------------------------------------------------------------------------------


def decide(observed: Observed, view: View) -> Decision:
    """The next step, by the table at the head of this file. When no step is left, the new
    ReplicaSet has all replicas and the old ones have none (DEP-19)."""
    deployment = observed.deployment
    is_recreate = deployment.spec.strategy.type == rollout.RECREATE
    if observed.is_terminating:
        return Decision(is_rollout=False)  # DEP-18
    if deployment.spec.paused:
        # DEP-11
        return Decision(
            scale(observed), "the Deployment was scaled while paused", is_rollout=False, clean=True
        )
    # Recreate scales all old ReplicaSets to 0 anyway, so it does not scale them in proportion.
    if is_scaled(observed) and not (is_recreate and len(observed.active) > 1):
        return Decision(
            scale(observed),
            f"the Deployment was scaled to {observed.bounds.replicas}",
            is_rollout=False,
        )
    return decide_recreate(observed, view) if is_recreate else decide_rolling(observed)


def is_scaled(observed: Observed) -> bool:
    """Whether a ReplicaSet with replicas was scaled for another `spec.replicas` (DEP-9)."""
    return any(_was_sized_for_another(rs, observed) for rs in observed.active)


def _was_sized_for_another(rs: ReplicaSet, observed: Observed) -> bool:
    desired = revisions.whole_number(rs.metadata.annotations, revisions.DESIRED_REPLICAS)
    return desired is not None and desired != observed.bounds.replicas


def scale(observed: Observed) -> Sizes:
    """Sizes after a change of `spec.replicas` (DEP-9).

    The only ReplicaSet with replicas, or else the latest, gets all. If the new one is saturated,
    the old ones are scaled to 0. Otherwise each keeps its share.
    """
    wanted = observed.bounds.replicas
    active = observed.active
    if len(active) <= 1:
        only = active[0] if active else observed.latest
        # One with the right size may still have the annotation for another number. Without this
        # update `is_scaled` would be true for ever.
        if only is None or (
            only.spec.replicas == wanted and not _was_sized_for_another(only, observed)
        ):
            return {}
        return {only.metadata.name or "": wanted}
    if is_saturated(observed):
        return {rs.metadata.name or "": 0 for rs in observed.old if rs.spec.replicas}
    if observed.deployment.spec.strategy.type == rollout.RECREATE:
        return {}
    return rollout.spread(
        observed.bounds, [member(rs) for rs in active], observed.deployment.status.replicas or 0
    )


def is_saturated(observed: Observed) -> bool:
    """Whether the new ReplicaSet has all replicas, was scaled for that number, and all of them are
    available."""
    new, wanted = observed.new, observed.bounds.replicas
    return (
        new is not None
        and new.spec.replicas == wanted
        and (new.status.available_replicas or 0) == wanted
        and revisions.whole_number(new.metadata.annotations, revisions.DESIRED_REPLICAS) == wanted
    )


def decide_rolling(observed: Observed) -> Decision:
    """Scale the new ReplicaSet up, else the old ones down (DEP-7, DEP-8)."""
    bounds = observed.bounds
    old = [member(rs) for rs in observed.old if rs.spec.replicas]
    new = member(observed.new) if observed.new is not None else Member("", 0)
    size = rollout.grow(bounds, new, old)
    if observed.new is None:
        return Decision(create=size)
    if size != new.replicas:
        return Decision({new.name: size}, f"there may be {bounds.most} pods in all")
    sizes = rollout.shrink(bounds, new, old)
    if sizes:
        return Decision(sizes, f"{bounds.fewest_available} available pods are enough")
    return Decision(clean=statuses.is_complete(observed.deployment, observed.deployment.status))


def decide_recreate(observed: Observed, view: View) -> Decision:
    """Scale the old ReplicaSets to 0; scale the new one up after their last pod (DEP-10)."""
    wanted = observed.bounds.replicas
    shrinking = {rs.metadata.name or "": 0 for rs in observed.old if rs.spec.replicas}
    if shrinking:
        return Decision(shrinking, "Recreate deletes old pods before it creates new ones")
    if any(_has_pods(view, rs) for rs in observed.old):
        return Decision()
    if observed.new is None:
        return Decision(create=wanted)
    if observed.new.spec.replicas != wanted:
        return Decision({observed.new.metadata.name or "": wanted}, "the last old pod is gone")
    return Decision(clean=statuses.is_complete(observed.deployment, observed.deployment.status))


def _has_pods(view: View, rs: ReplicaSet) -> bool:
    """Whether the ReplicaSet may still have running pods. Its controller may be creating some until
    it has observed the newest size."""
    status = rs.status
    if (
        (status.observed_generation or 0) < (rs.metadata.generation or 0)
        or status.replicas > 0
        or status.terminating_replicas
    ):
        return True
    return any(not is_finished(pod) for pod in view.indexed(PODS, "owner", rs.metadata.uid or ""))


# --- act ------------------------------------------------------------------------------------------


def create(
    observed: Observed, size: int, view: View, failure: Response | None, now: Instant
) -> Plan:
    """Create a ReplicaSet with the Deployment's template (DEP-2). If its name is taken, increment
    the collision count. A rejected creation is reported (DEP-20)."""
    deployment, status = observed.deployment, observed.deployment.status
    new = new_replica_set(observed, size)
    if view.get(REPLICA_SETS, f"{new.metadata.namespace}/{new.metadata.name}") is not None:
        if collisions(observed, view) < COLLISIONS_MAX:
            return Plan(
                (
                    report(
                        deployment,
                        replace(status, collision_count=(status.collision_count or 0) + 1),
                    ),
                )
            )
        refusal: str | None = (
            f"{COLLISIONS_MAX} ReplicaSets were created from this template, "
            "and each has another template now"
        )
    else:
        refusal = why_not_created(selects(deployment.spec.selector), new.metadata.labels)
    conditions = statuses.compute_pause(deployment, now)
    notes: tuple[Note, ...] = ()
    if (words := refusal or creation_failure(failure)) is not None:
        text = f'Failed to create new replica set "{new.metadata.name}": {words}'
        notes = (Note(deployment, statuses.CREATE_ERROR, text, "Warning"),)
        failed = statuses.compute_refusal(deployment, conditions, text, now)
        if failed != (status.conditions or ()):
            return Plan((report(deployment, replace(status, conditions=failed)),), notes=notes)
    if refusal is not None:
        return Plan(notes=notes)
    conditions = statuses.compute_beginning(deployment, conditions, new, now, created=True)
    status = statuses.compute_counts(
        deployment, observed.bounds, new, [*observed.old, new], conditions, now
    )
    status = statuses.compute_progress(deployment, status, new, [*observed.old, new], now)
    waves = ((creation(deployment, new),), report(deployment, status, new))
    return Plan(waves, wake_at=statuses.compute_wake(deployment, status), notes=notes)


def collisions(observed: Observed, view: View) -> int:
    """How many of the last names for this template are taken by ReplicaSets that this Deployment
    controls (DEP-2)."""
    deployment = observed.deployment
    metadata, count = deployment.metadata, deployment.status.collision_count or 0
    found = 0
    for tried in range(count, count - COLLISIONS_MAX, -1):
        hash = revisions.template_hash(deployment.spec.template, tried or None)
        rs = view.get(
            REPLICA_SETS,
            f"{metadata.namespace}/{revisions.replica_set_name(metadata.name or '', hash)}",
        )
        owner = controller_of(rs) if rs is not None else None
        found += owner is not None and owner.uid == metadata.uid
    return found


def creation_failure(response: Response | None) -> str | None:
    """The message of a rejected creation of a ReplicaSet; None if it is not reported. A conflict is
    resolved by the next reconciliation, and a namespace may be terminating."""
    if response is None or response.code == 409:
        return None
    details = getattr(response.body, "details", None)
    if details is not None and any(
        cause.reason == "NamespaceTerminating" for cause in details.causes or ()
    ):
        return None
    return getattr(response.body, "message", None) or f"the API server answered {response.code}"


# --- report ---------------------------------------------------------------------------------------


def refuse_everything(deployment: Deployment) -> Plan:
    """An empty selector would select every ReplicaSet of the namespace; none is changed (DEP-1)."""
    text = "This deployment is selecting all pods. A non-empty selector is required."
    status = deployment.status
    if (status.observed_generation or 0) < (deployment.metadata.generation or 0):
        status = replace(status, observed_generation=deployment.metadata.generation)
    return Plan(
        (report(deployment, status),), notes=(Note(deployment, "SelectingAll", text, "Warning"),)
    )
