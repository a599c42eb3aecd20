"""DaemonSet: one pod on every node that is meant. Rules DS-1 to DS-13
(spec/workloads/daemon_set.md).

`daemon_set_nodes.py` decides which nodes get a pod, `daemon_set_steps.py` the next creations and
deletions, `controller_revisions.py` keeps the templates.

Source: Kubernetes documentation, "DaemonSet"; KEP-1591 (maxSurge).
"""

from collections.abc import Iterable
from typing import TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ControllerRevision, DaemonSet, DaemonSetStatus
from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from refk8s.core.context import Instant
from refk8s.core.controllers.controller_revisions import (
    REVISION_HASH,
    History,
    by_revision,
    claim_revisions,
    compute_history,
    surplus,
)
from refk8s.core.controllers.daemon_set_nodes import (
    compute_fit,
    compute_tolerations,
    is_alike,
    is_updated,
    new_pod,
    target_node,
    template_generation,
)
from refk8s.core.controllers.daemon_set_steps import (
    BACKOFF_MAX,
    Backoffs,
    Situation,
    Steps,
    compute_steps,
)
from refk8s.core.controllers.owners import (
    claim,
    claim_waves,
    deletion,
    dependent_keys,
    list_orphans,
    orphan_index,
    selects,
    why_not_created,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan, slow_start
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, key_of, namespace_index, owner_index
from refk8s.core.pods.status import available_at, is_finished, ready_condition

BURST_MAX = 250
"""The most pods that one plan creates, and the most that it deletes; the next plan does the
rest."""

Memory: TypeAlias = Map[Key, Backoffs]


def sets_of_node(view: View, old: Node | None, new: Node | None) -> Iterable[Key]:
    """The DaemonSets for which a change of a node matters. O(1) for a heartbeat, else O(sets)."""
    if old is not None and new is not None and is_alike(old, new):
        return
    for daemon_set in view.list(DAEMON_SETS):
        if old is not None and new is not None:
            tolerations = compute_tolerations(daemon_set)
            before, after = (compute_fit(daemon_set, tolerations, node) for node in (old, new))
            if before == after:
                continue
        yield key_of(daemon_set)


class DaemonSetReconciler(Reconciler):
    """Reconciles one DaemonSet. The memory has the back-offs of failed pods."""

    name = "daemon-set-controller"
    component = "daemonset-controller"

    def __init__(self) -> None:
        dependents = dependent_keys("DaemonSet", DAEMON_SETS, lambda obj: obj.spec.selector)
        self.interests = (
            Interest(DAEMON_SETS, own_key),
            Interest(PODS, dependents),
            Interest(CONTROLLER_REVISIONS, dependents),
            Interest(NODES, sets_of_node),
        )
        self.indexes = (
            namespace_index(DAEMON_SETS),
            owner_index(PODS),
            orphan_index(PODS),
            owner_index(CONTROLLER_REVISIONS),
            orphan_index(CONTROLLER_REVISIONS),
        )

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Take the next steps towards one pod on every node that gets one (DS-1). O(nodes + owned
        pods and revisions)."""
        # Observe
        memory: Memory = local.memory
        daemon_set: DaemonSet | None = view.get(DAEMON_SETS, key)
        if daemon_set is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        if daemon_set.metadata.deletion_timestamp is not None:  # DS-12
            return NOTHING
        selector = daemon_set.spec.selector
        selected = selects(selector)
        pods = claim(
            daemon_set,
            view.indexed(PODS, "owner", daemon_set.metadata.uid or ""),
            list_orphans(view, PODS, daemon_set.metadata.namespace or "", selector),
            selected,
        )
        revisions = claim_revisions(view, daemon_set, selected)
        for claimed, resource in ((pods, PODS), (revisions, CONTROLLER_REVISIONS)):
            if not claimed.is_settled:
                return Plan(claim_waves(daemon_set, DAEMON_SETS, resource, claimed))

        # Decide
        listed = by_revision(revisions.owned)
        history = compute_history(view, daemon_set, listed, REVISION_HASH)
        tolerations = compute_tolerations(daemon_set)
        fits = {
            node.metadata.name or "": compute_fit(daemon_set, tolerations, node)
            for node in view.list(NODES)
        }
        hash, generation = hash_of(history.update), template_generation(daemon_set)
        members = by_node(pods.owned, hash, generation)
        situation = Situation(daemon_set, fits, members, hash, generation, now)
        refusal = why_not_created(selected, daemon_set.spec.template.metadata.labels)
        backoffs = {
            node: entry
            for node, entry in memory.get(key, Map()).items()
            if now - entry[0] <= 2 * BACKOFF_MAX
        }
        steps = (
            compute_steps(situation, Map(backoffs))
            if refusal is None
            else Steps([], [], [], Map(backoffs))
        )

        # Act
        renewal = (history.request,) if history.request is not None else ()
        making = tuple(
            [
                creation(daemon_set, new_pod(daemon_set, tolerations, situation.hash, node), node)
                for node in steps.create[:BURST_MAX]
            ]
        )
        used = {(pod.metadata.labels or {}).get(REVISION_HASH) for pod in pods.owned}
        old = [one for one in listed if one.metadata.name != history.update.metadata.name]
        unused = [one for one in old if hash_of(one) not in used]  # DS-10
        cleaning = surplus(daemon_set, unused, len(old))

        # Report
        status, wake_at = compute_status(situation, history)
        if steps.wake_at is not None:
            wake_at = steps.wake_at if wake_at is None else min(wake_at, steps.wake_at)
        return Plan(
            (renewal, cleaning, deletions(daemon_set, steps), *slow_start(making)),
            report(daemon_set, status),
            wake_at,
            (
                *finished_notes(daemon_set, steps),
                *failure_notes(daemon_set, steps, local.failure, refusal),
            ),
            memory=remembered(memory, key, steps.backoffs),
        )


def remembered(memory: Memory, key: Key, backoffs: Backoffs) -> Memory:
    """The memory with the back-offs of this set; without an entry if there are none."""
    if backoffs:
        return memory.set(key, backoffs)
    return memory.delete(key) if key in memory else memory


def hash_of(revision: ControllerRevision) -> str:
    """The hash in the revision's label; its name, if another program made it without one."""
    labels = revision.metadata.labels or {}
    return labels.get(REVISION_HASH) or revision.metadata.name or ""


def by_node(pods: Iterable[Pod], hash: str, generation: str) -> dict[str, list[Pod]]:
    """The pods of each node, assigned first, then the oldest. Of pods of the same second those of
    an earlier template are older. Pods that have finished and are being deleted are left out:
    nothing is left to do for them. O(n log n)."""

    def by_age(pod: Pod) -> tuple[bool, str, bool, str]:
        metadata = pod.metadata
        return (
            not pod.spec.node_name,
            metadata.creation_timestamp or "",
            is_updated(pod, hash, generation),
            metadata.name or "",
        )

    found: dict[str, list[Pod]] = {}
    for pod in pods:
        if is_finished(pod) and pod.metadata.deletion_timestamp is not None:
            continue
        node = target_node(pod)
        if node:
            found.setdefault(node, []).append(pod)
    for each in found.values():
        if len(each) > 1:
            each.sort(key=by_age)
    return found


# --- act ------------------------------------------------------------------------------------------


def creation(daemon_set: DaemonSet, pod: Pod, node: str) -> Request:
    return Request(
        "create",
        PODS,
        daemon_set.metadata.namespace or "",
        body=pod,
        because=f"node {node} has none",
        note=Note(daemon_set, "SuccessfulCreate", "Created pod: {name}"),
    )


def deletions(daemon_set: DaemonSet, steps: Steps) -> tuple[Request, ...]:
    """Delete the pods, in one wave. They are sent first, so that a quota which refuses the
    creations does not hold them back."""
    note = Note(daemon_set, "SuccessfulDelete", "Deleted pod: {name}")
    return tuple([deletion(PODS, pod, because, note) for pod, because in steps.delete[:BURST_MAX]])


# --- report ---------------------------------------------------------------------------------------


def finished_notes(daemon_set: DaemonSet, steps: Steps) -> tuple[Note, ...]:
    """Events for the finished pods that are deleted (DS-7)."""
    notes: list[Note] = []
    for pod, node in steps.finished:
        state, type_, verb = "failed", "Warning", "kill"
        if pod.status.phase != "Failed":
            state, type_, verb = "succeeded", "Normal", "delete"
        words = f"Found {state} daemon pod {key_of(pod)} on node {node}, will try to {verb} it"
        notes.append(Note(daemon_set, f"{state.title()}DaemonPod", words, type_))
    return tuple(notes)


def failure_notes(
    daemon_set: DaemonSet, steps: Steps, response: Response | None, refusal: str | None
) -> tuple[Note, ...]:
    """The Event for a refused creation or deletion (DS-13)."""
    if refusal is None:
        details = getattr(response.body, "details", None) if response is not None else None
        if response is None or details is None or details.kind not in (PODS.plural, PODS.kind):
            return ()
        refusal = response.body.message or f"the API server answered {response.code}"
        if not steps.create:
            return (Note(daemon_set, "FailedDelete", f"Error deleting: {refusal}", "Warning"),)
    return (Note(daemon_set, "FailedCreate", f"Error creating: {refusal}", "Warning"),)


def compute_status(
    situation: Situation, history: History
) -> tuple[DaemonSetStatus, Instant | None]:
    """The status (DS-11), and when the next ready pod becomes available."""
    daemon_set = situation.daemon_set
    desired = current = misscheduled = ready = available = updated = 0
    wake_at: Instant | None = None
    seconds = daemon_set.spec.min_ready_seconds or 0
    for node, fit in situation.fits.items():
        pods = situation.pods.get(node)
        if not fit.gets:
            misscheduled += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        pod = pods[0]
        updated += situation.is_updated(pod)
        condition = ready_condition(pod)
        if condition is not None:
            ready += 1
            at = available_at(condition, seconds)
            if at is not None and at <= situation.now:
                available += 1
            elif at is not None and (wake_at is None or at < wake_at):
                wake_at = at
        for other in pods[1:]:  # a new pod of a surge
            wake_at = _earlier(wake_at, other, seconds, situation.now)
    status = replace(
        daemon_set.status,
        observed_generation=daemon_set.metadata.generation,
        desired_number_scheduled=desired,
        current_number_scheduled=current,
        number_misscheduled=misscheduled,
        number_ready=ready,
        updated_number_scheduled=updated or None,
        number_available=available or None,
        number_unavailable=desired - available or None,
        collision_count=history.collision_count or daemon_set.status.collision_count,
    )
    return status, wake_at


def _earlier(wake_at: Instant | None, pod: Pod, seconds: int, now: Instant) -> Instant | None:
    condition = ready_condition(pod)
    at = available_at(condition, seconds) if condition is not None else None
    if at is None or at <= now:
        return wake_at
    return at if wake_at is None else min(wake_at, at)


def report(daemon_set: DaemonSet, status: DaemonSetStatus) -> tuple[Request, ...]:
    """Write the status if it differs (DS-11)."""
    if status == daemon_set.status:
        return ()
    metadata = daemon_set.metadata
    because = (
        f"{status.current_number_scheduled} of {status.desired_number_scheduled} nodes have a pod, "
        f"{status.number_ready} ready, {status.updated_number_scheduled or 0} of the template"
    )
    return (
        Request(
            "update",
            DAEMON_SETS,
            metadata.namespace or "",
            metadata.name or "",
            "status",
            body=replace(daemon_set, status=status),
            because=because,
        ),
    )
