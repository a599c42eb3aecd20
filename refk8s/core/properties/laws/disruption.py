"""Laws of disruption budgets. Rule PDB-6 (spec/workloads/disruption.md)."""

from collections.abc import Iterable

from refk8s.core.api import selector
from refk8s.core.api.resources import POD_DISRUPTION_BUDGETS
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties.law import Arrived, Law, objects
from refk8s.core.properties.oracle import is_active, is_ready
from refk8s.core.properties.predicates.disruption import pdb_6_takes_an_allowed_disruption


def takes_an_allowed_disruption(
    arrived: Arrived, before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """PDB-6, for a ready pod that is evicted. An API server whose memory is behind may not know a
    new budget, so nothing is checked while one is."""
    change = arrived.target if arrived.request.subresource == "eviction" else None
    if change is None or change.previous is None or before.caches:
        return None
    pod = change.previous.value
    if not is_active(pod) or not is_ready(pod):
        return None
    prefix = f"{POD_DISRUPTION_BUDGETS.prefix}{pod.metadata.namespace}/"
    known = {budget.metadata.uid: budget for budget in objects(after, prefix)}
    budgets = [
        budget
        for budget in objects(before, prefix)
        if selector.from_label_selector(budget.spec.selector).matches(pod.metadata.labels)
    ]
    if not budgets:
        return None
    return [
        words
        for budget in budgets
        for words in pdb_6_takes_an_allowed_disruption(pod, budget, known[budget.metadata.uid])
    ]


OF_REQUESTS = (Law("PDB-6", takes_an_allowed_disruption),)
