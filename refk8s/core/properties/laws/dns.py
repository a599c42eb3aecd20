"""Laws of DNS records. Rules DNS-1, DNS-11 (spec/dns.md)."""

from collections.abc import Iterable

from refk8s.core.actions import Action
from refk8s.core.api.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.loop.view import key_of
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.predicates.dns import dns_1_answers_follow_from_the_objects

DOMAIN = "cluster.local"


def new_records_match_the_view(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """DNS-11: records that a machine gives to its name server follow from its view of services,
    slices and namespaces."""
    if before.records is after.records:
        return None
    found: list[str] = []
    for name in sorted(after.records):
        state = after.components[name].state
        if before.records.get(name) is not after.records[name] and isinstance(state, LoopState):
            view = state.view
            found += dns_1_answers_follow_from_the_objects(
                after.records[name],
                view.list(SERVICES),
                view.list(ENDPOINT_SLICES),
                view.keys(NAMESPACES),
                DOMAIN,
            )
    return found


def records_match_the_store(cluster: Cluster) -> Iterable[str] | None:
    """DNS-1, for every name server of a settled cluster."""
    services, slices = objects(cluster, SERVICES.prefix), objects(cluster, ENDPOINT_SLICES.prefix)
    namespaces = [key_of(namespace) for namespace in objects(cluster, NAMESPACES.prefix)]
    return [
        words
        for name in sorted(cluster.records)
        for words in dns_1_answers_follow_from_the_objects(
            cluster.records[name], services, slices, namespaces, DOMAIN
        )
    ]


OF_STEPS = (Law("DNS-11", new_records_match_the_view),)
OF_REST = (Law("DNS-1", records_match_the_store),)
