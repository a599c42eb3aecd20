"""Laws of what takes things away: the garbage collector, namespaces, lost nodes. Rules GC-1, GC-2,
GC-5, GC-7, NS-1, NS-3, NODE-4, NODE-6, NODE-8, PODGC-1, PODGC-2
(spec/workloads/garbage_collector.md, namespace.md, node.md).

A request is judged when it takes effect, where what it says must still be true then; a decision
when it is made, where it rests on what was seen.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.meta_v1 import OwnerReference
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, NODES, PODS, by_kind
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.loop.view import View, key_of
from refk8s.core.properties.law import Arrived, Decision, Law, name_of, shown
from refk8s.core.properties.oracle import is_finished
from refk8s.core.store import History

SERVICE_ACCOUNTS = "system:serviceaccount:kube-system:"
COLLECTOR = "generic-garbage-collector"
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
NO_EXECUTE = {"node.kubernetes.io/not-ready": "False", "node.kubernetes.io/unreachable": "Unknown"}
"""Taints that empty a node, and what its condition Ready says then."""


# --- the garbage collector ------------------------------------------------------------------------


def only_this_very_object(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-1."""
    request = arrived.request
    if request.verb != "delete":
        return None
    wanted = request.body.preconditions if request.body is not None else None
    named = wanted is not None and wanted.uid and wanted.resource_version
    return (
        []
        if named
        else [
            f"the deletion of {name_of(request)} does not say which object it means, or in which state"
        ]
    )


def no_owner_is_there(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """GC-2: what the collector deletes has no owner but such as are going themselves."""
    change = arrived.target
    if arrived.request.verb != "delete" or change is None or change.previous is None:
        return None
    obj = change.previous.value
    if not obj.metadata.owner_references:
        return [f"{change.key} has no owner, and was deleted for the lack of one"]
    owners = [
        (reference, owner_of(before.history, obj, reference))
        for reference in obj.metadata.owner_references
    ]
    there = [
        reference.name for reference, owner in owners if owner is not None and not _is_going(owner)
    ]
    return [f"{change.key} was deleted, and its owner {name} is there" for name in there]


def no_owner_is_seen(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """GC-2, of what the collector sees: an owner that is there waits for its dependents to go."""
    found: list[str] | None = None
    for request in decision.requests:
        obj = shown(decision.view, request.resource, request) if request.verb == "delete" else None
        if obj is None:
            continue
        found = found or []
        for reference in obj.metadata.owner_references or ():
            kind = by_kind(reference.api_version, reference.kind)
            namespace = f"{obj.metadata.namespace}/" if kind is not None and kind.namespaced else ""
            owner = (
                decision.view.get(kind, f"{namespace}{reference.name}")
                if kind is not None
                else None
            )
            if owner is not None and owner.metadata.uid == reference.uid and not _waits(owner):
                found.append(
                    f"{name_of(request)} is to be deleted, and its owner {reference.name} is in view"
                )
    return found


def owner_of(history: History[Any], obj: Any, reference: OwnerReference) -> Any | None:
    """The very owner that the reference names, if it is there."""
    kind = by_kind(reference.api_version, reference.kind)
    if kind is None:
        return None
    namespace = f"{obj.metadata.namespace or ''}/" if kind.namespaced else ""
    record = history.get(f"{kind.prefix}{namespace}{reference.name}")
    return (
        record.value if record is not None and record.value.metadata.uid == reference.uid else None
    )


def _is_going(owner: Any) -> bool:
    return owner.metadata.deletion_timestamp is not None


def _waits(owner: Any) -> bool:
    return _is_going(owner) and FOREGROUND in (owner.metadata.finalizers or ())


def owners_outlive_their_blocking_dependents(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-5: the finalizer goes when the collector sees no dependent that blocks, or none that does
    not wait for the owner (GC-10)."""
    circle = {
        place
        for request in decision.requests
        for place in _circle(decision.view, shown(decision.view, request.resource, request))
    }
    return _unbound(decision, FOREGROUND, _blocks, circle)


def _blocks(reference: OwnerReference) -> bool:
    return bool(reference.block_owner_deletion)


def _circle(view: View, owner: Any | None) -> list[tuple[str, str]]:
    """What the owner waits for, directly or not, where all of that waits in turn and the owner is
    among it; else nothing."""
    found: dict[tuple[str, str], Any] = {}
    left = [owner] if owner is not None and _waits(owner) else []
    while left:
        for prefix, obj in _dependents(view, left.pop().metadata.uid, _blocks):
            if not _waits(obj):
                return []
            if (prefix, key_of(obj)) not in found:
                found[prefix, key_of(obj)] = obj
                left.append(obj)
    return (
        list(found)
        if owner is not None
        and any(obj.metadata.uid == owner.metadata.uid for obj in found.values())
        else []
    )


def dependents_lose_the_reference_first(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """GC-7: the finalizer goes last, after every dependent that the collector sees has been let
    go."""
    earlier = {
        (request.resource.prefix, name_of(request))
        for wave in decision.plan.waves[:-1]
        for request in wave
    }
    return _unbound(decision, ORPHAN, lambda reference: True, earlier)


def _unbound(
    decision: Decision, finalizer: str, counts: Any, settled: set[tuple[str, str]]
) -> list[str] | None:
    for request in decision.requests:
        owner = shown(decision.view, request.resource, request)
        has = owner is not None and finalizer in (owner.metadata.finalizers or ())
        if owner is None or not has or finalizer in _patched(request, "finalizers", (finalizer,)):
            continue
        held = [
            (prefix, key_of(obj))
            for prefix, obj in _dependents(decision.view, owner.metadata.uid, counts)
        ]
        words = f"{owner.kind} {name_of(request)} loses {finalizer}, and its own is still"
        return [f"{words} {prefix}{key}" for prefix, key in held if (prefix, key) not in settled]
    return None


def _patched(request: Request, field: str, otherwise: Any) -> Any:
    """What a patch makes of a list of the metadata; `otherwise` where it does not touch it."""
    document = (
        request.body.document if request.verb == "patch" and isinstance(request.body, Patch) else {}
    )
    metadata = document.get("metadata") or {}
    return (metadata[field] or ()) if field in metadata else otherwise


def _dependents(view: View, uid: str, counts: Any) -> Iterator[tuple[str, Any]]:
    for prefix in sorted(view.tables):
        objects = view.tables[prefix].objects
        for key in sorted(objects):
            if any(
                reference.uid == uid and counts(reference)
                for reference in objects[key].metadata.owner_references or ()
            ):
                yield prefix, objects[key]


# --- namespaces -----------------------------------------------------------------------------------


def only_a_terminating_namespace_is_emptied(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NS-1."""
    request = arrived.request
    if request.verb != "deletecollection" or not arrived.changes:
        return None
    namespace = before.history.get(f"{NAMESPACES.prefix}{request.namespace}")
    if namespace is not None and namespace.value.metadata.deletion_timestamp is None:
        return [
            f"namespace {request.namespace} is in use, and its {request.resource.plural} were deleted"
        ]
    return []


def pods_go_first(arrived: Arrived, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """NS-3."""
    request = arrived.request
    if request.verb != "deletecollection" or request.resource is PODS or not arrived.changes:
        return None
    left = [
        record.key for record in before.history.list(f"{PODS.prefix}{request.namespace}/").records
    ]
    return (
        [
            f"the {request.resource.plural} of {request.namespace} were deleted, and {', '.join(left)} remain"
        ]
        if left
        else []
    )


# --- nodes ----------------------------------------------------------------------------------------


def _no_execute(node: Node | None) -> set[str]:
    taints = node.spec.taints or () if node is not None and node.spec is not None else ()
    return {taint.key for taint in taints if taint.effect == "NoExecute"}


def _ready(node: Node) -> str:
    conditions = node.status.conditions or () if node.status is not None else ()
    return next((condition.status for condition in conditions if condition.type == "Ready"), "")


def nodes_are_emptied_for_a_reason(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NODE-4: who gets the taint that ends pods says itself that it is not ready, or has been
    silent."""
    change = arrived.target
    if change is None or change.record is None or not change.key.startswith(NODES.prefix):
        return None
    node = change.record.value
    added = _no_execute(node) - _no_execute(
        change.previous.value if change.previous is not None else None
    )
    said = _ready(node)
    if not added:
        return None
    return [
        f"node {node.metadata.name} is Ready {said} and gets {key}"
        for key in sorted(added)
        if NO_EXECUTE.get(key, said) != said
    ]


def nobody_is_emptied_when_nobody_is_well(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NODE-6: a taint that ends pods is put on only while some node of the view is ready."""
    found: list[str] | None = None
    for request in decision.requests:
        is_update = (
            request.resource is NODES and request.verb == "update" and not request.subresource
        )
        if is_update and _no_execute(request.body) - _no_execute(
            decision.view.get(NODES, request.name)
        ):
            well = any(_ready(node) == "True" for node in decision.view.list(NODES))
            found = (found or []) + (
                [] if well else [f"node {request.name} is to be emptied, and no node is ready"]
            )
    return found


def who_tolerates_stays(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """NODE-8: an eviction has a taint that the pod does not tolerate (any longer), and leaves it
    its own time."""
    now = after.now + after.components[decision.component].skew
    found: list[str] | None = None
    for request in decision.requests:
        if request.resource is not PODS or request.verb != "delete":
            continue
        found = found or []
        pod: Pod | None = decision.view.get(PODS, name_of(request))
        node = (
            decision.view.get(NODES, pod.spec.node_name)
            if pod is not None and pod.spec.node_name
            else None
        )
        if (
            pod is None
            or node is None
            or all(_tolerates(pod, taint, now) for taint in node.spec.taints or ())
        ):
            found.append(f"pod {name_of(request)} is evicted, and no taint of its node asks for it")
        if request.body is None or request.body.grace_period_seconds is not None:
            found.append(f"pod {name_of(request)} is evicted, and has not its own time to end")
    return found


def _tolerates(pod: Pod, taint: Any, now: Instant) -> bool:
    """Whether the pod may still stay with this taint."""
    if taint.effect != "NoExecute":
        return True
    matching = [
        each for each in pod.spec.tolerations or ()
        if each.effect in (None, "", taint.effect) and each.key in (None, "", taint.key)
        and (each.operator == "Exists" or (each.value or "") == (taint.value or ""))
    ]  # fmt: skip
    seconds = [each.toleration_seconds for each in matching if each.toleration_seconds is not None]
    if not matching or not seconds:
        return bool(matching)
    return (
        taint.time_added is not None
        and now < parse_timestamp(taint.time_added) + max(0, min(seconds)) * SECOND
    )


def forced_when_the_node_is_gone(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """PODGC-1: a pod that has not ended is removed by force only where the node that it was given
    is not there any more."""
    change = arrived.target
    if arrived.request.verb != "delete" or change is None or change.previous is None:
        return None
    pod = change.previous.value
    node = before.history.get(f"{NODES.prefix}{pod.spec.node_name}")
    # A node of the same name that came after the pod is another one.
    if node is None or node.create_revision > change.previous.create_revision:
        return []
    return [
        f"pod {name_of(arrived.request)} was removed by force, and its node {pod.spec.node_name} is there"
    ]


def gone_is_looked_up(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
    """PODGC-2, as far as a view can tell: the node of a pod that has not ended is not even seen."""
    forced = [
        request
        for request in decision.requests
        if request.resource is PODS and request.verb == "delete"
    ]
    if not forced:
        return None
    pods = [
        pod for request in forced if (pod := decision.view.get(PODS, name_of(request))) is not None
    ]
    # Those that have ended may be too many (PODGC-3).
    pods = [pod for pod in pods if not is_finished(pod)]
    there = [pod for pod in pods if decision.view.get(NODES, pod.spec.node_name or "") is not None]
    return [
        f"pod {key_of(pod)} is removed by force, and its node {pod.spec.node_name} is in view"
        for pod in there
    ]


OF_REQUESTS = (
    Law("GC-1", only_this_very_object, SERVICE_ACCOUNTS + COLLECTOR),
    Law("GC-2", no_owner_is_there, SERVICE_ACCOUNTS + COLLECTOR),
    Law("NS-1", only_a_terminating_namespace_is_emptied, SERVICE_ACCOUNTS + "namespace-controller"),
    Law("NS-3", pods_go_first, SERVICE_ACCOUNTS + "namespace-controller"),
    Law("NODE-4", nodes_are_emptied_for_a_reason, SERVICE_ACCOUNTS + "node-controller"),
    Law("PODGC-1", forced_when_the_node_is_gone, SERVICE_ACCOUNTS + "pod-garbage-collector"),
)
OF_DECISIONS = (
    Law("GC-2", no_owner_is_seen, COLLECTOR),
    Law("GC-5", owners_outlive_their_blocking_dependents, COLLECTOR),
    Law("GC-7", dependents_lose_the_reference_first, COLLECTOR),
    Law("NODE-6", nobody_is_emptied_when_nobody_is_well, "node-controller"),
    Law("NODE-8", who_tolerates_stays, "taint-eviction-controller"),
    Law("PODGC-2", gone_is_looked_up, "pod-garbage-collector"),
)
