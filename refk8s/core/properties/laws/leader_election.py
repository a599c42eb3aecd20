"""Laws of leader election. Rules ELECT-1, ELECT-4, ELECT-5, ELECT-9 (spec/leader_election.md)."""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.actions import Action
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.request import Request
from refk8s.core.api.resources import EVENTS, LEASES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.elector import Elector, ElectorState
from refk8s.core.properties.law import Law
from refk8s.core.properties.predicates.leader_election import (
    elect_1_the_holder_is_recorded,
    elect_4_the_lease_has_not_ended,
    elect_5_the_lease_names_it,
)
from refk8s.core.store import Change


def the_holder_is_recorded(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """ELECT-1, for a Lease that machines of this cluster compete for."""
    key = change.key.removeprefix(LEASES.prefix)
    if change.record is None or key not in {_key(each) for _, each in electors(after)}:
        return None
    old = change.previous.value.spec if change.previous is not None else None
    return elect_1_the_holder_is_recorded(old, change.record.value.spec)


def a_former_leader_is_silent(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """ELECT-4, for every request that a component behind an election sends in this step."""
    found = list(_acting(before, after))
    if not found:
        return None
    return [
        words
        for name, elector, identity in found
        for words in elect_4_the_lease_has_not_ended(
            identity,
            _lease(after, elector),
            elector.config.renew_deadline,
            after.now + after.components[name].skew,
        )
    ]


def the_holder_acts(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """ELECT-5, for every request that a component behind an election sends in this step."""
    found = list(_acting(before, after))
    if not found:
        return None
    return [
        words
        for _, elector, identity in found
        for words in elect_5_the_lease_names_it(identity, _lease(after, elector))
    ]


def one_leads(cluster: Cluster) -> Iterable[str] | None:
    """ELECT-9: of the instances of a component, the holder of the Lease leads, and no other."""
    leaders: dict[str, list[str]] = {}
    holders: dict[str, str] = {}
    for name, elector in electors(cluster):
        state = cluster.components[name].state
        lease = _lease(cluster, elector)
        holders[_key(elector)] = (lease.spec.holder_identity if lease is not None else None) or ""
        leading = leaders.setdefault(_key(elector), [])
        if isinstance(state, ElectorState) and state.leading is not None:
            leading.append(state.identity)
    if not leaders:
        return None
    return [
        f"{key} names {holders[key] or 'nobody'}, and these instances lead: {', '.join(found) or 'none'}"
        for key, found in sorted(leaders.items())
        if found != [holders[key]]
    ]


def electors(cluster: Cluster) -> Iterator[tuple[str, Elector]]:
    """The machines of the cluster that run behind an election."""
    for name in sorted(cluster.machines):
        machine = cluster.machines[name]
        if isinstance(machine, Elector):
            yield name, machine


def _acting(before: Cluster, after: Cluster) -> Iterator[tuple[str, Elector, str]]:
    """Whose component sends a request in this step: the machine, its election, its identity.

    O(requests in transit).
    """
    if before.flying is after.flying:
        return
    for name, elector in electors(after):
        state = after.components[name].state
        if before.components.get(name) is after.components[name] or state is None:
            continue
        if any(
            channel[0] == name
            and channel not in before.flying
            and not _is_of_election(flying.request, elector)
            for channel, flying in after.flying.items()
        ):
            yield name, elector, state.identity


def _is_of_election(request: Request, elector: Elector) -> bool:
    """Whether the request concerns the Lease, or is an Event about it."""
    if request.resource == EVENTS and request.namespace == elector.config.namespace:
        name = request.name or request.body.metadata.name
        return name.startswith(f"{elector.config.name}.")
    return request.resource == LEASES and request.key == _key(elector)


def _key(elector: Elector) -> str:
    return f"{elector.config.namespace}/{elector.config.name}"


def _lease(cluster: Cluster, elector: Elector) -> Lease | None:
    record = cluster.history.get(LEASES.prefix + _key(elector))
    return record.value if record is not None else None


OF_CHANGES = (Law("ELECT-1", the_holder_is_recorded, prefix=LEASES.prefix),)
OF_STEPS = (
    Law("ELECT-4", a_former_leader_is_silent),
    Law("ELECT-5", the_holder_acts),
)
OF_REST = (Law("ELECT-9", one_leads),)
