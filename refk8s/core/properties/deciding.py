"""Laws of decisions: what owners' controllers and the scheduler ask for, judged on what they saw.
Rules OWN-1, OWN-2, OWN-4, OWN-6, RS-2, RS-3, DEP-7, DEP-8, DEP-10, DEP-11, DEP-18, SCHED-28,
LOOP-1, LOOP-3, LOOP-4 (spec/workloads/, scheduler.md, loop.md).

A decision is a view and the requests made from it (law.py); it is judged when it is made, since a
watch may be late. The predicates are those of workloads.py and scheduler.py, which know nothing of
how ours decide.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    Resource,
)
from refk8s.core.api.selector import from_label_selector
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.view import View, controller_of, key_of
from refk8s.core.properties import workloads
from refk8s.core.properties.law import Decision, Law, name_of
from refk8s.core.properties.oracle import is_active, is_finished, takes_room
from refk8s.core.properties.scheduler import why_not, why_not_among

OWNERS: Mapping[str, tuple[Resource, Resource]] = {
    "replicaset-controller": (REPLICA_SETS, PODS),
    "replication-controller": (REPLICATION_CONTROLLERS, PODS),
    "deployment-controller": (DEPLOYMENTS, REPLICA_SETS),
}
"""By reconciler: what owns, and what is owned."""

Check = Callable[[Decision, Cluster, Cluster], Iterable[str] | None]


class _Selected:
    """The selector of an owner: of a ReplicationController a map of labels."""

    def __init__(self, owner: Any) -> None:
        selector = owner.spec.selector
        self._labels = selector if isinstance(selector, Mapping) else None
        self._selector = from_label_selector(selector) if self._labels is None else None

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        if self._selector is not None:
            return self._selector.matches(labels)
        assert self._labels is not None
        return self._labels.items() <= (labels or {}).items()


def _of_owner(check: Callable[[View, Any, Resource, Decision], Iterable[str] | None]) -> Check:
    @wraps(check)
    def law(decision: Decision, before: Cluster, after: Cluster) -> Iterable[str] | None:
        if decision.reconciler not in OWNERS:
            return None
        resource, dependents = OWNERS[decision.reconciler]
        owner = decision.view.get(resource, decision.key)
        if owner is None:
            return [f"{decision.reconciler} acts for {decision.key}, which its view does not show"]
        return check(decision.view, owner, dependents, decision)

    return law


def _about(decision: Decision, resource: Resource, *verbs: str) -> list[Request]:
    return [
        request
        for request in decision.requests
        if request.resource is resource and request.verb in verbs
    ]


def acts_on_its_own(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-1."""
    if not _about(decision, dependents, "create", "update", "patch", "delete"):
        return None
    return workloads.own_1_acts_only_on_its_own(view, owner, dependents, decision.plan)


def adopts_what_is_free(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-2."""
    if not any(workloads.is_adoption(request) for request in _about(decision, dependents, "patch")):
        return None
    return workloads.own_2_adopts_only_free_ones_it_selects(
        view, owner, dependents, _Selected(owner), decision.plan
    )


def claims_nothing_while_dying(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-4."""
    return (
        None
        if owner.metadata.deletion_timestamp is None
        else workloads.own_4_claims_nothing_while_dying(owner, decision.plan)
    )


def names_the_uid(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """OWN-6."""
    if not _about(decision, dependents, "patch", "delete"):
        return None
    return workloads.own_6_names_the_uid(view, dependents, decision.plan)


def makes_no_more_than_asked_for(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """RS-2: what it sees, what it has on its way unseen, and what it asks for now, together."""
    resource, dependents = OWNERS[decision.reconciler]
    owner = decision.view.get(resource, decision.key)
    creations = _about(decision, PODS, "create")
    if dependents is not PODS or owner is None or not creations:
        return None
    uid, replicas = owner.metadata.uid, owner.spec.replicas or 0
    active = [pod for pod in workloads.controlled(decision.view.list(PODS), uid) if is_active(pod)]
    unseen = unseen_creations(decision, uid, after)
    if len(active) + len(unseen) + len(creations) <= replicas:
        return []
    return [
        f"{len(active)} active pods seen, {len(unseen)} unseen and {len(creations)} more, where {replicas} are asked for"
    ]


def unseen_creations(decision: Decision, uid: str, after: Cluster) -> list[str]:
    """Pods that this life of the controller has asked for and does not see: on their way, or (in a
    first life, where nobody else can have asked for them) in the store."""
    now = {id(request) for request in decision.requests}
    waiting = [*decision.state.flights.values(), *decision.state.resends.values()]
    names = {
        name_of(flight.request): None
        for flight in waiting
        if flight.request.verb == "create"
        and flight.request.resource is PODS
        and id(flight.request) not in now
        if (reference := controller_of(flight.request.body)) is not None and reference.uid == uid
    }
    if decision.life == 1:
        stored = [record.value for record in after.history.list(PODS.prefix).records]
        names.update(
            dict.fromkeys(
                key_of(pod) for pod in workloads.controlled(stored, uid) if is_active(pod)
            )
        )
    return sorted(name for name in names if decision.view.get(PODS, name) is None)


def ends_no_more_than_too_many(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """RS-2, downwards."""
    if dependents is not PODS or not _about(decision, PODS, "delete"):
        return None
    return workloads.rs_2_never_below_replicas(view, owner, decision.plan)


def dying_makes_nothing(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """RS-3, DEP-18."""
    if owner.metadata.deletion_timestamp is None:
        return None
    if dependents is PODS:
        return workloads.rs_3_dying_makes_and_ends_nothing(owner, decision.plan)
    return workloads.dep_18_dying_reports_only(owner, decision.plan)


def surge_is_bounded(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-7."""
    if dependents is not REPLICA_SETS or not _about(decision, REPLICA_SETS, "create", "update"):
        return None
    return workloads.dep_7_never_above_surge(view, owner, decision.plan)


def availability_is_kept(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-8."""
    if dependents is not REPLICA_SETS or owner.spec.strategy.type == "Recreate":
        return None
    sizes, _ = workloads.sizes_after(view, owner, decision.plan)
    if all(after >= before for before, after, _ in sizes):
        return None
    return workloads.dep_8_never_below_available(view, owner, decision.plan)


def recreate_has_no_old_and_new(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-10: no ReplicaSet is made, or made larger, while another has pods that run."""
    if dependents is not REPLICA_SETS or owner.spec.strategy.type != "Recreate":
        return None
    known = {
        key_of(rs): rs for rs in workloads.controlled(view.list(REPLICA_SETS), owner.metadata.uid)
    }
    growing = [
        name_of(request) for request in _about(decision, REPLICA_SETS, "create", "update")
        if (request.body.spec.replicas or 0) > (known[name_of(request)].spec.replicas or 0 if name_of(request) in known else 0)
    ]  # fmt: skip
    if not growing or len(growing) == len(known) == 1:
        return None
    others = [rs.metadata.uid for key, rs in sorted(known.items()) if key not in growing]
    there = [pod for uid in others for pod in workloads.controlled(view.list(PODS), uid)]
    return [
        f"{', '.join(growing)} grows while {key_of(pod)} is there"
        for pod in there
        if not is_finished(pod)
    ]


def paused_starts_nothing(
    view: View, owner: Any, dependents: Resource, decision: Decision
) -> Iterable[str] | None:
    """DEP-11."""
    if dependents is not REPLICA_SETS or not owner.spec.paused:
        return None
    return workloads.dep_11_paused_starts_no_rollout(owner, decision.plan)


# --- the loop -------------------------------------------------------------------------------------


def everything_has_been_listed(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-1."""
    unknown = [prefix for prefix, table in sorted(decision.view.tables.items()) if not table.synced]
    return [
        f"{decision.reconciler} decides about {decision.key}, and has never listed {prefix}"
        for prefix in unknown
    ]


def nothing_is_under_way(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-3: of what was asked for a key before, everything has been answered."""
    past, item = decision.past, (decision.reconciler, decision.key)
    if past is None:
        return None
    state = decision.state
    waiting = [flight for id, flight in sorted(state.flights.items()) if id <= past.counter] + [
        f for _, f in sorted(state.resends.items())
    ]
    open_ones = [flight.request for flight in waiting if flight.item == item and not flight.ask]
    words = f"{decision.reconciler} decides about {decision.key}, and has no answer yet to its"
    return [f"{words} {request.verb} of {name_of(request)}" for request in open_ones]


def what_it_wrote_is_seen(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """LOOP-4: the view has come to every write that the last decision about the key has made."""
    busy = (
        decision.past.busy.get((decision.reconciler, decision.key))
        if decision.past is not None
        else None
    )
    if busy is None:
        return None
    tables = decision.view.tables
    words = f"{decision.reconciler} decides about {decision.key} on the view of"
    late = [
        (prefix, at) for prefix, at in sorted(busy.reached.items()) if tables[prefix].revision < at
    ]
    found = [
        f"{words} {prefix} at {tables[prefix].revision}, and wrote at {at}" for prefix, at in late
    ]
    for prefix, key, uid, version in busy.gone:
        there = tables[prefix].objects.get(key)
        if there is not None and (there.metadata.uid, there.metadata.resource_version) == (
            uid,
            version,
        ):
            found.append(f"{words} {prefix} that shows {key} as it was before its deletion")
    return found


# --- the scheduler --------------------------------------------------------------------------------


def a_binding_satisfies_every_filter(
    decision: Decision, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """SCHED-28: on what the scheduler sees, with what it has bound and does not see yet."""
    found: list[str] | None = None
    for request in decision.requests:
        if request.subresource == "binding":
            what = f"{name_of(request)} to {request.body.target.name}"
            found = (found or []) + [
                f"{what}: {words}" for words in _against(decision, request, after)
            ]
    return found


def _against(decision: Decision, request: Request, after: Cluster) -> list[str]:
    view = decision.view
    node, pod = view.get(NODES, request.body.target.name), view.get(PODS, name_of(request))
    if node is None or pod is None:
        return [f"the view shows no such {'node' if node is None else 'pod'}"]
    if pod.spec.node_name:
        return [f"it is on {pod.spec.node_name}"]
    others = [_as_assumed(other, decision, after) for other in view.list(PODS) if other is not pod]
    others = [other for other in others if takes_room(other)]
    here = [other for other in others if other.spec.node_name == node.metadata.name]
    labels = {
        name: namespace.metadata.labels or {}
        for name, namespace in view.table(NAMESPACES).objects.items()
    }
    # What must be near another pod, or evenly spread, may be so by a pod that is assumed where
    # nobody else can tell.
    keeping_away = [
        words
        for words in why_not_among(pod, node, view.list(NODES), others, labels)
        if words.startswith("SCHED-31")
    ]
    return why_not(pod, node, here) + keeping_away


def _as_assumed(pod: Any, decision: Decision, after: Cluster) -> Any:
    """The pod with the node that it was given, seen or not: it is stored, or this life of the
    scheduler has it on its way."""
    if pod.spec.node_name:
        return pod
    stored = after.history.get(f"{PODS.prefix}{key_of(pod)}")
    if (
        stored is not None
        and stored.value.metadata.uid == pod.metadata.uid
        and stored.value.spec.node_name
    ):
        return stored.value
    for flight in (*decision.state.flights.values(), *decision.state.resends.values()):
        request = flight.request
        if (
            request.subresource == "binding"
            and name_of(request) == key_of(pod)
            and request.body.metadata.uid == pod.metadata.uid
        ):
            return workloads.on_node(pod, request.body.target.name)
    return pod


OF_DECISIONS = (
    Law("LOOP-1", everything_has_been_listed),
    Law("LOOP-3", nothing_is_under_way),
    Law("LOOP-4", what_it_wrote_is_seen),
    Law("OWN-1", _of_owner(acts_on_its_own)),
    Law("OWN-2", _of_owner(adopts_what_is_free)),
    Law("OWN-4", _of_owner(claims_nothing_while_dying)),
    Law("OWN-6", _of_owner(names_the_uid)),
    Law("RS-2", makes_no_more_than_asked_for, "repli"),
    Law("RS-2", _of_owner(ends_no_more_than_too_many), "repli"),
    Law("RS-3", _of_owner(dying_makes_nothing), "repli"),
    Law("DEP-18", _of_owner(dying_makes_nothing), "deployment-controller"),
    Law("DEP-7", _of_owner(surge_is_bounded), "deployment-controller"),
    Law("DEP-8", _of_owner(availability_is_kept), "deployment-controller"),
    Law("DEP-10", _of_owner(recreate_has_no_old_and_new), "deployment-controller"),
    Law("DEP-11", _of_owner(paused_starts_nothing), "deployment-controller"),
    Law("SCHED-28", a_binding_satisfies_every_filter),
)
