"""Deployment: one ReplicaSet for each template, and a way from one to the next. Rules DEP-1 to
DEP-20 (spec/workloads/deployment.md).

    being deleted            nothing but the status
    paused                   scale what there is; no rollout
    replicas were changed    scale what there is, in proportion; the rollout goes on in the next turn
    Recreate                 old ones to nothing; wait for the last pod; then the new one
    RollingUpdate            the new one grows within the surge, else the old ones shrink within availability

One turn takes one such step and reports; what it changed makes the next turn due. The arithmetic is
in `rollout.py`, templates and revisions are in `revision.py`, requests in `deployment_acts.py`,
counts and conditions in `deployment_status.py`.

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
from refk8s.core.controllers.deployment_picture import Decision, Picture, look, member
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
"""So many ReplicaSets of one template at most. Of two templates one in four billion has the other's
hash; so many never do in a row."""


class DeploymentReconciler(Reconciler):
    """Decides one Deployment at a time."""

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
        """Take the next step from the ReplicaSets that are to the one that is asked for.
        O(ReplicaSets of this Deployment)."""
        # Observe
        deployment = view.get(DEPLOYMENTS, key)
        if deployment is None:
            return NOTHING  # What it owned is the garbage collector's.
        selector = deployment.spec.selector
        if selector is None or (not selector.match_labels and not selector.match_expressions):
            return refuse_everything(deployment)
        controlled = view.indexed(REPLICA_SETS, "owner", deployment.metadata.uid)
        orphans = list_orphans(view, REPLICA_SETS, deployment.metadata.namespace, selector)
        claimed = claim(deployment, controlled, orphans, selects(selector))
        if not claimed.is_settled:
            return Plan(claim_waves(deployment, DEPLOYMENTS, REPLICA_SETS, claimed))
        picture = look(deployment, claimed.owned)

        # Decide
        decision = decide(picture, view)
        if decision.create is not None:
            return create(picture, decision.create, view, local.failure, now)

        # Act
        new = (
            None if picture.new is None or picture.is_dying else synchronized(picture, picture.new)
        )
        waves = (*resizings(picture, new, decision), cleanings(picture) if decision.clean else ())

        # Report
        conditions = deployment.status.conditions or ()
        if not picture.is_dying:
            conditions = statuses.compute_beginning(
                deployment, statuses.compute_pause(deployment, now), new, now
            )
        status = statuses.compute_counts(
            deployment, picture.bounds, picture.new, picture.all, conditions, now
        )
        wake_at = None
        if decision.is_rollout:
            status = statuses.compute_progress(deployment, status, picture.new, picture.all, now)
            wake_at = statuses.compute_wake(deployment, status)
        return Plan((*waves, report(deployment, status, new)), wake_at=wake_at)


# --- observe --------------------------------------------------------------------------------------


def keys_of_last_pod(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    """A Recreate waits until the last old pod is gone or has finished, so only that is news to it
    (DEP-10)."""
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


def decide(picture: Picture, view: View) -> Decision:
    """The next step, by the table at the head of this file. When none is left, the new ReplicaSet has
    all replicas and the old ones have none (DEP-19)."""
    deployment = picture.deployment
    is_recreate = deployment.spec.strategy.type == rollout.RECREATE
    if picture.is_dying:
        return Decision(is_rollout=False)  # DEP-18
    if deployment.spec.paused:
        # DEP-11
        return Decision(
            scale(picture), "the Deployment was scaled while paused", is_rollout=False, clean=True
        )
    # Shares of several ReplicaSets mean nothing to a Recreate, which makes an end of the old ones
    # anyway.
    if is_scaled(picture) and not (is_recreate and len(picture.active) > 1):
        return Decision(
            scale(picture),
            f"the Deployment was scaled to {picture.bounds.replicas}",
            is_rollout=False,
        )
    return decide_recreate(picture, view) if is_recreate else decide_rolling(picture)


def is_scaled(picture: Picture) -> bool:
    """Whether a ReplicaSet with pods was sized for another number of replicas (DEP-9)."""
    return any(_was_sized_for_another(rs, picture) for rs in picture.active)


def _was_sized_for_another(rs: ReplicaSet, picture: Picture) -> bool:
    desired = revisions.whole_number(rs.metadata.annotations, revisions.DESIRED_REPLICAS)
    return desired is not None and desired != picture.bounds.replicas


def scale(picture: Picture) -> Sizes:
    """Sizes after a change of replicas (DEP-9).

    The only one with pods, or else the latest, takes all; a saturated new one leaves nothing to the
    old ones; else each keeps its share.
    """
    wanted = picture.bounds.replicas
    active = picture.active
    if len(active) <= 1:
        only = active[0] if active else picture.latest
        # One of the right size may still say that it was sized for another number; left so, the
        # Deployment would pass for scaled for ever.
        if only is None or (
            only.spec.replicas == wanted and not _was_sized_for_another(only, picture)
        ):
            return {}
        return {only.metadata.name or "": wanted}
    if is_saturated(picture):
        return {rs.metadata.name or "": 0 for rs in picture.old if rs.spec.replicas}
    if picture.deployment.spec.strategy.type == rollout.RECREATE:
        return {}
    return rollout.spread(
        picture.bounds, [member(rs) for rs in active], picture.deployment.status.replicas or 0
    )


def is_saturated(picture: Picture) -> bool:
    """Whether the new ReplicaSet is all that is asked for: as large, sized for that, and
    available."""
    new, wanted = picture.new, picture.bounds.replicas
    return (
        new is not None
        and new.spec.replicas == wanted
        and (new.status.available_replicas or 0) == wanted
        and revisions.whole_number(new.metadata.annotations, revisions.DESIRED_REPLICAS) == wanted
    )


def decide_rolling(picture: Picture) -> Decision:
    """The new one up, else the old ones down (DEP-7, DEP-8)."""
    bounds = picture.bounds
    old = [member(rs) for rs in picture.old if rs.spec.replicas]
    new = member(picture.new) if picture.new is not None else Member("", 0)
    size = rollout.grow(bounds, new, old)
    if picture.new is None:
        return Decision(create=size)
    if size != new.replicas:
        return Decision({new.name: size}, f"there may be {bounds.most} pods in all")
    sizes = rollout.shrink(bounds, new, old)
    if sizes:
        return Decision(sizes, f"{bounds.fewest_available} available pods are enough")
    return Decision(clean=statuses.is_complete(picture.deployment, picture.deployment.status))


def decide_recreate(picture: Picture, view: View) -> Decision:
    """The old ones down, and only when the last of their pods is gone the new one up (DEP-10)."""
    wanted = picture.bounds.replicas
    shrinking = {rs.metadata.name or "": 0 for rs in picture.old if rs.spec.replicas}
    if shrinking:
        return Decision(shrinking, "old pods go before new ones come")
    if any(_has_pods(view, rs) for rs in picture.old):
        return Decision()
    if picture.new is None:
        return Decision(create=wanted)
    if picture.new.spec.replicas != wanted:
        return Decision({picture.new.metadata.name or "": wanted}, "the last old pod is gone")
    return Decision(clean=statuses.is_complete(picture.deployment, picture.deployment.status))


def _has_pods(view: View, rs: ReplicaSet) -> bool:
    """Whether it may still have pods that run. Before its controller has seen the newest size it
    may be making some."""
    status = rs.status
    if (
        (status.observed_generation or 0) < (rs.metadata.generation or 0)
        or status.replicas > 0
        or status.terminating_replicas
    ):
        return True
    return any(not is_finished(pod) for pod in view.indexed(PODS, "owner", rs.metadata.uid or ""))


# --- act ------------------------------------------------------------------------------------------


def create(picture: Picture, size: int, view: View, failure: Response | None, now: Instant) -> Plan:
    """Make the ReplicaSet of a template that none carries (DEP-2), under another name where its own
    is taken (DEP-20: refusals)."""
    deployment, status = picture.deployment, picture.deployment.status
    new = new_replica_set(picture, size)
    if view.get(REPLICA_SETS, f"{new.metadata.namespace}/{new.metadata.name}") is not None:
        if collisions(picture, view) < COLLISIONS_MAX:
            return Plan(
                (
                    report(
                        deployment,
                        replace(status, collision_count=(status.collision_count or 0) + 1),
                    ),
                )
            )
        refusal: str | None = (
            f"{COLLISIONS_MAX} ReplicaSets were made of this template, and the API server changed the template of each"
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
        deployment, picture.bounds, new, [*picture.old, new], conditions, now
    )
    status = statuses.compute_progress(deployment, status, new, [*picture.old, new], now)
    waves = ((creation(deployment, new),), report(deployment, status, new))
    return Plan(waves, wake_at=statuses.compute_wake(deployment, status), notes=notes)


def collisions(picture: Picture, view: View) -> int:
    """How many of the names tried last for this template belong to ReplicaSets that this Deployment
    controls (DEP-2)."""
    deployment = picture.deployment
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
    """What the refused creation of a ReplicaSet was told. A conflict is no refusal: the next look
    settles it; nor is a namespace's end."""
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
    """An empty selector would take every ReplicaSet of the namespace; nothing is done (DEP-1)."""
    text = "This deployment is selecting all pods. A non-empty selector is required."
    status = deployment.status
    if (status.observed_generation or 0) < (deployment.metadata.generation or 0):
        status = replace(status, observed_generation=deployment.metadata.generation)
    return Plan(
        (report(deployment, status),), notes=(Note(deployment, "SelectingAll", text, "Warning"),)
    )
