"""Laws of API servers whose memory is behind the store. Rules LIST-14 (spec/watch_api.md),
CLUSTER-15 (spec/cluster.md)."""

from collections.abc import Iterable

from refk8s.core.actions import Action, Arrive, Submit
from refk8s.core.api.request import Response
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.outcome import Commit, Outcome
from refk8s.core.cluster.servers import is_able
from refk8s.core.cluster.state import Cluster, server_of
from refk8s.core.properties.law import Arrived, Law, arrived
from refk8s.core.properties.predicates.apiservers import (
    cluster_15_a_transaction_is_of_the_newest_state,
    list_14_an_answer_is_of_the_newest_state,
)


def answers_are_of_the_newest_state(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """LIST-14: a request at an API server that is behind, and that writes nothing on the newest
    state."""
    found, expected = _on_both(before, action, after)
    if found is None or not isinstance(expected, Response):
        return None
    return list_14_an_answer_is_of_the_newest_state(
        found.request, found.answer, found.changes, expected
    )


def transactions_are_of_the_newest_state(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """CLUSTER-15: a request at an API server that is behind, and that writes."""
    found, expected = _on_both(before, action, after)
    if found is None or not isinstance(expected, Commit) or expected.rest is not None:
        return None
    keys = [write.key for write in expected.txn.writes]
    exists = [key for key in keys if before.history.get(key) is not None]
    return cluster_15_a_transaction_is_of_the_newest_state(
        found.request, found.changes, expected, exists
    )


def _on_both(
    before: Cluster, action: Action, after: Cluster
) -> tuple[Arrived | None, Outcome | None]:
    """The request that an API server has carried out which was behind, and its outcome on the
    newest state; (None, None) if an older state is new enough for it, or it waits."""
    assert isinstance(action, (Arrive, Submit))
    if isinstance(action, Submit):
        server = action.server
    else:
        server = server_of(before, action.flying)
    found = arrived(before, action, after) if server in before.caches else None
    if found is None or (found.answer is None and isinstance(action, Arrive)):
        return None, None
    request, options = found.request, found.request.options
    if request.verb in ("get", "list") and (options.resource_version or options.continue_):
        return None, None
    if found.answer is not None and found.answer.code == 503 and not is_able(before, server):
        return None, None
    return found, handle(Exchange(request, before.history, before.context(), before.config))


OF_STEPS = (
    Law("LIST-14", answers_are_of_the_newest_state, actions=(Arrive, Submit)),
    Law("CLUSTER-15", transactions_are_of_the_newest_state, actions=(Arrive, Submit)),
)
