"""PodDisruptionBudgets: how many pods may be evicted now. Rules PDB-1 to PDB-5
(spec/workloads/disruption.md).

The controller computes `disruptionsAllowed` and an eviction decrements it (API-18). The eviction
also adds the pod to `disruptedPods`, and the controller does not count such a pod as healthy. So it
allows no disruption too many on a view that does not show the deletion yet.

Source: Kubernetes documentation, "Specifying a Disruption Budget for your Application",
"Disruptions"; KEP-3017 (unhealthy pods), KEP-3329 (DisruptionTarget); API reference,
"PodDisruptionBudget". Left out: scale subresources of custom resources, which are not served here.
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.disruption import with_allowed
from refk8s.core.api.intstr import IntOrStringError, scaled
from refk8s.core.api.policy_v1 import PodDisruptionBudget
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
    by_kind,
)
from refk8s.core.api.selector import NOTHING as NO_PODS
from refk8s.core.api.selector import Selector, SelectorError, from_label_selector
from refk8s.core.context import MINUTE, Instant, parse_timestamp, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View, controller_of, key_of, namespace_index, split_key
from refk8s.core.pods.requests import patch_status
from refk8s.core.pods.status import DISRUPTION_TARGET, is_finished, is_ready

DELETION_TIMEOUT: Instant = 2 * MINUTE
"""How long an evicted pod that is not deleted counts as unhealthy (PDB-3)."""
STALE_AFTER: Instant = 2 * MINUTE
"""How long a pod that is not deleted keeps the condition DisruptionTarget (PDB-5)."""

COUNT_MAX = 2**31 - 1
BY_KUBELET = "TerminationByKubelet"
POD = "pod: "  # prefix of the keys of pods (PDB-5)

_SCALED: dict[str, tuple[Resource, tuple[str, ...]]] = {
    "ReplicationController": (REPLICATION_CONTROLLERS, ("",)),
    "ReplicaSet": (REPLICA_SETS, ("apps", "extensions")),
    "StatefulSet": (STATEFUL_SETS, ("apps",)),
}
"""Kind of a pod's controller -> its resource, and the API groups that a reference may name."""


class _Incomputable(Exception):
    """Why `expectedPods` cannot be computed (PDB-4)."""


# --- which budgets a change concerns


def selector_of(budget: PodDisruptionBudget) -> Selector:
    """The budget's selector. An absent or invalid one selects nothing, an empty one every pod."""
    try:
        return from_label_selector(budget.spec.selector)
    except SelectorError:
        return NO_PODS


def _keys_of_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """The budgets that select the pod, before or after; the pod itself if it has a condition
    DisruptionTarget that may have to become False."""
    found: dict[Key, None] = {}
    if new is not None and _stale_at(new) is not None:
        found[POD + key_of(new)] = None
    if view.count(POD_DISRUPTION_BUDGETS) and (
        old is None or new is None or _counted(old) != _counted(new)
    ):
        for pod in (old, new):
            if pod is None:
                continue
            namespace = pod.metadata.namespace or ""
            for budget in view.indexed(POD_DISRUPTION_BUDGETS, "namespace", namespace):
                if selector_of(budget).matches(pod.metadata.labels):
                    found[key_of(budget)] = None
    return list(found)


def _counted(pod: Pod) -> tuple[Any, ...]:
    """Everything about a pod on which a budget's status depends."""
    metadata = pod.metadata
    return (
        metadata.uid,
        metadata.labels,
        metadata.deletion_timestamp is None,
        controller_of(pod),
        is_ready(pod),
    )


def _keys_of_scale(view: View, old: Any | None, new: Any | None) -> list[Key]:
    """The budgets of the namespace, if a controller was created, removed or scaled."""
    if old is not None and new is not None and _scale_of(old) == _scale_of(new):
        return []
    namespace = (new if new is not None else old).metadata.namespace or ""  # type: ignore[union-attr]
    return view.indexed_keys(POD_DISRUPTION_BUDGETS, "namespace", namespace)


def _scale_of(owner: Any) -> tuple[Any, ...]:
    return owner.metadata.uid, owner.spec.replicas, controller_of(owner)


# --- the controller


class DisruptionController(Reconciler):
    """Reconciles one budget, or one pod with the condition DisruptionTarget."""

    name = "disruption-controller"
    component = "controllermanager"
    interests = (
        Interest(POD_DISRUPTION_BUDGETS, own_key),
        Interest(PODS, _keys_of_pod),
        *(
            Interest(one, _keys_of_scale)
            for one in (DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS)
        ),
    )
    indexes = (namespace_index(POD_DISRUPTION_BUDGETS), namespace_index(PODS))

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Write the budget's status (PDB-1), or set a stale DisruptionTarget to False (PDB-5)."""
        if key.startswith(POD):
            return _end_disruption(view.get(PODS, key.removeprefix(POD)), now)
        # Observe
        budget: PodDisruptionBudget | None = view.get(POD_DISRUPTION_BUDGETS, key)
        if budget is None:
            return NOTHING
        selector = selector_of(budget)
        namespace, name = split_key(key)
        pods = [
            pod
            for pod in view.indexed(PODS, "namespace", namespace)
            if selector.matches(pod.metadata.labels)
        ]

        # Decide
        disrupted, overdue, wake_at = compute_disrupted(budget, pods, now)
        notes = [
            _note(pod, "NotDeleted", f"the budget {key} expected this pod to be deleted")
            for pod in overdue
        ]
        try:
            expected, desired, unmanaged = compute_expected(view, budget, pods)
        except _Incomputable as failure:
            why = str(failure)
            status = with_allowed(budget.status, 0, timestamp(now), why)
            words = f"Failed to calculate the number of expected pods: {why}"
            notes.append(_note(budget, "CalculateExpectedPodCountFailed", words))
        else:
            healthy = count_healthy(pods, disrupted)
            status = replace(
                budget.status,
                current_healthy=healthy,
                desired_healthy=desired,
                expected_pods=expected,
                disrupted_pods=disrupted or None,
                observed_generation=budget.metadata.generation,
            )
            status = with_allowed(
                status, max(healthy - desired, 0) if expected > 0 else 0, timestamp(now)
            )
            if not pods:
                notes.append(_note(budget, "NoPods", "No matching pods found", "Normal"))
            if unmanaged:
                notes.append(_note(budget, "UnmanagedPods", _UNMANAGED))

        # Act
        if status == budget.status:
            return Plan(wake_at=wake_at)
        body = replace(budget, status=status)
        because = f"{status.disruptions_allowed} of its pods may be evicted"
        request = Request(
            "update", POD_DISRUPTION_BUDGETS, namespace, name, "status", body=body, because=because
        )

        # Report
        return Plan(((request,),), wake_at=wake_at, notes=tuple(notes))


_UNMANAGED = (
    "some of the selected pods have no controller, so that their number is not known: "
    "give spec.minAvailable as a number to count them"
)


def _note(about: Any, reason: str, message: str, kind: str = "Warning") -> Note:
    return Note(about, reason, message, kind)


# --- counting


def compute_expected(
    view: View, budget: PodDisruptionBudget, pods: list[Pod]
) -> tuple[int, int, bool]:
    """(expectedPods, desiredHealthy, whether some pods have no controller) (PDB-2). Raises
    _Incomputable."""
    spec = budget.spec
    unavailable, available = spec.max_unavailable, spec.min_available
    try:
        if unavailable is not None:
            expected, unmanaged = _expected_scale(view, pods)
            desired = expected - scaled(unavailable, expected, round_up=True)
        elif available is None:
            expected, unmanaged, desired = 0, False, 0
        elif isinstance(available, str):
            expected, unmanaged = _expected_scale(view, pods)
            desired = scaled(available, expected, round_up=True)
        else:
            expected, unmanaged, desired = len(pods), False, available
    except IntOrStringError as error:
        raise _Incomputable(str(error)) from None
    return min(expected, COUNT_MAX), min(max(desired, 0), COUNT_MAX), unmanaged


def _expected_scale(view: View, pods: list[Pod]) -> tuple[int, bool]:
    """The sum of `spec.replicas` over the pods' controllers, each counted once, and whether some
    pods have no controller."""
    scales: dict[str, int] = {}
    unmanaged = False
    seen: set[str] = set()  # for membership only
    for pod in pods:
        reference = controller_of(pod)
        if reference is None:
            unmanaged = True
        elif reference.uid not in seen:
            seen.add(reference.uid)
            owner = _scaled_owner(view, pod, reference)
            scales[owner.metadata.uid] = 1 if owner.spec.replicas is None else owner.spec.replicas
    return sum(scales.values()), unmanaged


def _scaled_owner(view: View, pod: Pod, reference: Any) -> Any:
    """The object with the `spec.replicas`: the pod's controller, or the Deployment above it."""
    namespace = pod.metadata.namespace or ""
    resource, groups = _SCALED.get(reference.kind, (None, ()))
    owner = None
    if resource is not None and _group_of(reference) in groups:
        owner = _same(view.get(resource, f"{namespace}/{reference.name}"), reference.uid)
        above = controller_of(owner) if owner is not None and resource == REPLICA_SETS else None
        if (
            above is not None
            and above.kind == "Deployment"
            and _group_of(above) in ("apps", "extensions")
        ):
            owner = _same(view.get(DEPLOYMENTS, f"{namespace}/{above.name}"), above.uid)
    elif (other := by_kind(reference.api_version, reference.kind)) is not None:
        name = f"{other.plural}.{other.group}" if other.group else other.plural
        raise _Incomputable(f"{name} does not implement the scale subresource")
    if owner is None:
        raise _Incomputable(f'found no controllers for pod "{pod.metadata.name}"')
    return owner


def _group_of(reference: Any) -> str:
    return str(reference.api_version.rpartition("/")[0])


def _same(owner: Any | None, uid: str) -> Any | None:
    return owner if owner is not None and owner.metadata.uid == uid else None


def compute_disrupted(
    budget: PodDisruptionBudget, pods: Iterable[Pod], now: Instant
) -> tuple[dict[str, str], list[Pod], Instant | None]:
    """(evicted pods whose deletion is not in view yet, those that were not deleted in time,
    when to reconcile again) (PDB-3)."""
    evicted = budget.status.disrupted_pods or {}
    disrupted: dict[str, str] = {}
    overdue: list[Pod] = []
    wake_at: Instant | None = None
    for pod in pods:
        at = evicted.get(pod.metadata.name or "")
        if at is None or pod.metadata.deletion_timestamp is not None:
            continue
        until = parse_timestamp(at) + DELETION_TIMEOUT
        if until < now:
            overdue.append(pod)
            continue
        disrupted[pod.metadata.name or ""] = at
        wake_at = until + 1 if wake_at is None else min(wake_at, until + 1)
    return disrupted, overdue, wake_at


def count_healthy(pods: Iterable[Pod], disrupted: dict[str, str]) -> int:
    """The number of pods that are ready, not being deleted and not evicted (PDB-1, PDB-3)."""
    return sum(
        1
        for pod in pods
        if pod.metadata.deletion_timestamp is None
        and pod.metadata.name not in disrupted
        and is_ready(pod)
    )


# --- stale conditions


def _stale_at(pod: Pod) -> Instant | None:
    """When the pod's condition DisruptionTarget becomes False; None if it has none, or one that is
    kept (PDB-5)."""
    if pod.metadata.deletion_timestamp is not None or is_finished(pod):
        return None
    for condition in pod.status.conditions or ():
        if (
            condition.type == DISRUPTION_TARGET
            and condition.status == "True"
            and condition.reason != BY_KUBELET
        ):
            since = condition.last_transition_time
            return parse_timestamp(since) + STALE_AFTER if since is not None else 0
    return None


def _end_disruption(pod: Pod | None, now: Instant) -> Plan:
    """PDB-5: set the condition DisruptionTarget to False when it is stale."""
    stale_at = _stale_at(pod) if pod is not None else None
    if pod is None or stale_at is None:
        return NOTHING
    if now < stale_at:
        return Plan(wake_at=stale_at)
    condition = {
        "type": DISRUPTION_TARGET, "status": "False", "reason": None, "message": None, "lastTransitionTime": timestamp(now),
    }  # fmt: skip
    because = "it was not deleted within two minutes of its DisruptionTarget"
    return Plan(((patch_status(pod, {"conditions": [condition]}, because),),))
