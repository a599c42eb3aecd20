"""StatefulSet: pods with an ordinal, a name of their own and volume claims of their own. Rules
STS-1 to STS-14 (spec/workloads/stateful_set.md).

`stateful_set_pods.py` has the identity of pods, `stateful_set_claims.py` their claims,
`stateful_set_steps.py` the order of creations and deletions, `controller_revisions.py` the history
of templates.

Source: Kubernetes documentation, "StatefulSets"; KEP-961 (maxUnavailable), KEP-1847 (retention of
claims), KEP-3335 (start ordinal), KEP-2599 (minReadySeconds).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ControllerRevision, StatefulSet, StatefulSetStatus
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)
from refk8s.core.context import Instant
from refk8s.core.controllers.controller_revisions import (
    DATA_HASH,
    History,
    by_revision,
    claim_revisions,
    compute_history,
    surplus,
)
from refk8s.core.controllers.owners import (
    claim,
    claim_waves,
    dependent_keys,
    list_orphans,
    orphan_index,
    selects,
    why_not_created,
)
from refk8s.core.controllers.stateful_set_claims import sets_of_claim
from refk8s.core.controllers.stateful_set_pods import (
    Layout,
    becomes_available_at,
    compute_layout,
    is_member_of,
    is_running_and_ready,
    is_terminating,
    replaced_at,
    revision_of,
)
from refk8s.core.controllers.stateful_set_steps import (
    ROLLING_UPDATE,
    Situation,
    Steps,
    compute_steps,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, namespace_index, owner_index
from refk8s.core.pods.status import is_finished


class StatefulSetReconciler(Reconciler):
    """Reconciles one StatefulSet."""

    name = component = "statefulset-controller"

    def __init__(self) -> None:
        dependents = dependent_keys("StatefulSet", STATEFUL_SETS, lambda obj: obj.spec.selector)
        self.interests = (
            Interest(STATEFUL_SETS, own_key),
            Interest(PODS, dependents),
            Interest(CONTROLLER_REVISIONS, dependents),
            Interest(PERSISTENT_VOLUME_CLAIMS, sets_of_claim),
        )
        self.indexes = (
            namespace_index(STATEFUL_SETS),
            owner_index(PODS),
            orphan_index(PODS),
            owner_index(CONTROLLER_REVISIONS),
            orphan_index(CONTROLLER_REVISIONS),
        )

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Take the next steps towards spec.replicas pods of the set's template (STS-1). O(owned
        pods and revisions + orphans with one of the selector's labels)."""
        # Observe
        stateful_set: StatefulSet | None = view.get(STATEFUL_SETS, key)
        if stateful_set is None:
            return NOTHING  # The garbage collector deletes its dependents.
        selector = stateful_set.spec.selector
        selected = selects(selector)
        uid, namespace = stateful_set.metadata.uid or "", stateful_set.metadata.namespace or ""
        pods = claim(
            stateful_set,
            view.indexed(PODS, "owner", uid),
            list_orphans(view, PODS, namespace, selector),
            selected,
            is_member_of(stateful_set),
        )
        revisions = claim_revisions(view, stateful_set, selected)
        for claimed, resource in ((pods, PODS), (revisions, CONTROLLER_REVISIONS)):
            if not claimed.is_settled:
                return Plan(claim_waves(stateful_set, STATEFUL_SETS, resource, claimed))

        # Decide
        listed = by_revision(revisions.owned)
        history = compute_history(view, stateful_set, listed, DATA_HASH)
        current = current_revision(stateful_set, listed, history)
        layout = compute_layout(stateful_set, pods.owned)
        labels = stateful_set.spec.template.metadata.labels
        refusal = why_not_created(selected, labels)
        is_terminating = stateful_set.metadata.deletion_timestamp is not None
        steps = Steps()
        if not is_terminating and refusal is None:  # STS-12
            steps = compute_steps(Situation(view, stateful_set, layout, history, current, now))

        # Act
        # STS-12: the garbage collector would delete a new revision at once
        renewal = () if history.request is None or is_terminating else (history.request,)
        status, wake_at = compute_status(stateful_set, layout, history, current, now)
        used = {history.update.metadata.name, current.metadata.name, *map(revision_of, pods.owned)}
        unused = [one for one in listed if one.metadata.name not in used]
        cleaning = surplus(stateful_set, unused, len(unused))

        # Report
        notes = failure_notes(stateful_set, steps, local.failure, refusal)
        return Plan(
            (renewal, cleaning, *steps.waves),
            report(stateful_set, status),
            wake_at,
            notes,
            failed=bool(steps.obstacle),
        )


def current_revision(
    stateful_set: StatefulSet, revisions: Sequence[ControllerRevision], history: History
) -> ControllerRevision:
    """The revision that the pods had before the update: that of the status (STS-7)."""
    name = stateful_set.status.current_revision
    if name == history.update.metadata.name:
        return history.update
    return next((one for one in revisions if one.metadata.name == name), history.update)


# --- report ---------------------------------------------------------------------------------------


def compute_status(
    stateful_set: StatefulSet,
    layout: Layout,
    history: History,
    current: ControllerRevision,
    now: Instant,
) -> tuple[StatefulSetStatus, Instant | None]:
    """The status (STS-11), and when the next ready pod becomes available or the next finished one
    may be deleted (STS-14)."""
    seconds = stateful_set.spec.min_ready_seconds or 0
    now_name, next_name = current.metadata.name or "", history.update.metadata.name or ""
    pods = layout.everyone()
    ready = available = of_current = of_update = 0
    wake_at: Instant | None = None
    for pod in pods:
        if is_running_and_ready(pod):
            ready += 1
            at = becomes_available_at(pod, seconds)
            if at is not None and at <= now:
                available += 1
            elif at is not None and (wake_at is None or at < wake_at):
                wake_at = at
        elif is_finished(pod) and not is_terminating(pod):
            at = replaced_at(pod, now)
            if at > now and (wake_at is None or at < wake_at):
                wake_at = at
        if not is_terminating(pod):
            of_current += revision_of(pod) == now_name
            of_update += revision_of(pod) == next_name
    wanted = layout.replicas
    is_complete = (
        stateful_set.spec.update_strategy.type == ROLLING_UPDATE
        and of_update == len(pods) == ready == wanted
    )
    if is_complete:
        now_name, of_current = next_name, of_update
    status = replace(
        stateful_set.status,
        observed_generation=stateful_set.metadata.generation,
        replicas=len(pods),
        ready_replicas=ready or None,
        available_replicas=available,
        current_replicas=of_current or None,
        updated_replicas=of_update or None,
        current_revision=now_name,
        update_revision=next_name,
        collision_count=history.collision_count,
    )
    return status, wake_at


def report(stateful_set: StatefulSet, status: StatefulSetStatus) -> tuple[Request, ...]:
    """Write the status if it differs (STS-11)."""
    if status == stateful_set.status:
        return ()
    metadata = stateful_set.metadata
    because = (
        f"{status.replicas} pods exist, {status.ready_replicas or 0} ready, "
        f"{status.updated_replicas or 0} of revision {status.update_revision}"
    )
    return (
        Request(
            "update",
            STATEFUL_SETS,
            metadata.namespace or "",
            metadata.name or "",
            "status",
            body=replace(stateful_set, status=status),
            because=because,
        ),
    )


def failure_notes(
    stateful_set: StatefulSet, steps: Steps, response: Response | None, refusal: str | None
) -> tuple[Note, ...]:
    """Events for what was refused (STS-13): a pod, a claim, or a template that the selector does
    not select."""
    name = stateful_set.metadata.name
    if refusal is not None:
        return (Note(stateful_set, "FailedCreate", f"Error creating: {refusal}", "Warning"),)
    if steps.obstacle:
        words = f'pods "{steps.obstacle}" already exists'
        text = f"create Pod {steps.obstacle} in StatefulSet {name} failed error: {words}"
        return (Note(stateful_set, "FailedCreate", text, "Warning"),)
    details = getattr(response.body, "details", None) if response is not None else None
    if response is None or details is None:
        return ()
    message = response.body.message or f"the API server answered {response.code}"
    for request in [request for wave in steps.waves for request in wave]:
        subject = request.body.metadata.name if request.verb == "create" else request.name
        if subject != details.name or details.kind not in (
            request.resource.plural,
            request.resource.kind,
        ):
            continue
        verb = request.verb
        if request.resource is PERSISTENT_VOLUME_CLAIMS:
            pod = f"{name}-{subject.rpartition('-')[2]}"  # the claim has the pod's ordinal
            text = (
                f"{verb} Claim {subject} for Pod {pod} in StatefulSet {name} failed "
                f"error: {message}"
            )
        else:
            text = f"{verb} Pod {subject} in StatefulSet {name} failed error: {message}"
        return (Note(stateful_set, f"Failed{verb.title()}", text, "Warning"),)
    return ()
