"""Laws of leader election. Rules ELECT-1, ELECT-4, ELECT-5, ELECT-9 (spec/leader_election.md)."""

from collections.abc import Iterable, Iterator
from typing import Any

from refk8s.core.actions import Action
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.request import Request
from refk8s.core.api.resources import EVENTS, LEASES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.elector import Elector, ElectorState
from refk8s.core.loop.lease_lock import ElectionConfig, holder_of
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
    locks = {_key(each.config) for each in after.machines.values() if isinstance(each, Elector)}
    if change.record is None or key not in locks:
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
        for name, state in found
        for words in elect_4_the_lease_has_not_ended(
            state.identity,
            _lease(after, state.config),
            state.config.renew_deadline,
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
        for _, state in found
        for words in elect_5_the_lease_names_it(state.identity, _lease(after, state.config))
    ]


def one_leads(cluster: Cluster) -> Iterable[str] | None:
    """ELECT-9: of the instances of a component, the holder of the Lease leads, and no other."""
    leaders: dict[ElectionConfig, list[str]] = {}
    for name in sorted(cluster.machines):
        machine = cluster.machines[name]
        if isinstance(machine, Elector):
            found = leaders.setdefault(machine.config, [])
            state = cluster.components[name].state
            if isinstance(state, ElectorState) and state.leading is not None:
                found.append(state.identity)
    if not leaders:
        return None
    return [
        f"{_key(config)} has the holder {holder or '(none)'}, and the leaders are: "
        f"{', '.join(found) or '(none)'}"
        for config, found in leaders.items()
        if found != [holder := holder_of(_lease(cluster, config))]
    ]


def _acting(before: Cluster, after: Cluster) -> Iterator[tuple[str, ElectorState]]:
    """The machines behind an election whose component sends a request in this step.

    O(requests in transit).
    """
    if before.flying is after.flying:
        return
    for name, component in sorted(after.components.items()):
        state = component.state
        if not isinstance(state, ElectorState) or before.components.get(name) is component:
            continue
        if any(
            channel[:2] == (name, component.life)
            and channel not in before.flying
            and not _is_of_election(flying.request, state.config)
            for channel, flying in after.flying.items()
        ):
            yield name, state


def _is_of_election(request: Request, config: ElectionConfig) -> bool:
    """Whether the request concerns the Lease, or is an Event about it."""
    if request.resource == EVENTS and request.namespace == config.namespace:
        name = request.name or request.body.metadata.name
        return name.startswith(f"{config.name}.")
    return request.resource == LEASES and request.key == _key(config)


def _key(config: ElectionConfig) -> str:
    return f"{config.namespace}/{config.name}"


def _lease(cluster: Cluster, config: ElectionConfig) -> Lease | None:
    record = cluster.history.get(LEASES.prefix + _key(config))
    return record.value if record is not None else None


OF_CHANGES = (Law("ELECT-1", the_holder_is_recorded, prefix=f"{LEASES.prefix}kube-system/"),)
OF_STEPS = (
    Law("ELECT-4", a_former_leader_is_silent),
    Law("ELECT-5", the_holder_acts),
)
OF_REST = (Law("ELECT-9", one_leads),)
