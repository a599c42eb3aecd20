"""Laws of service rules. Rules NET-1, NET-3 (spec/network.md)."""

from collections.abc import Iterable

from refk8s.core.actions import Action
from refk8s.core.api.resources import ENDPOINT_SLICES, SERVICES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.network import net_1_rules_match_the_services


def new_rules_match_the_view(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """NET-1, NET-3: a rule set that a proxy gives to its adapter follows from its view of services
    and slices."""
    if before.rules is after.rules:
        return None
    found: list[str] = []
    for name in sorted(after.rules):
        state = after.components[name].state
        if before.rules.get(name) is not after.rules[name] and isinstance(state, LoopState):
            found += net_1_rules_match_the_services(
                after.rules[name], state.view.list(SERVICES), state.view.list(ENDPOINT_SLICES), name
            )
    return found


def rules_match_the_store(cluster: Cluster) -> Iterable[str] | None:
    """NET-1, for every node of a settled cluster."""
    services, slices = objects(cluster, SERVICES.prefix), objects(cluster, ENDPOINT_SLICES.prefix)
    return [
        words
        for name in sorted(cluster.rules)
        for words in net_1_rules_match_the_services(cluster.rules[name], services, slices, name)
    ]


OF_STEPS = (Law("NET-3", new_rules_match_the_view),)
OF_REST = (Law("NET-1", rules_match_the_store),)
