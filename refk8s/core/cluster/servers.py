"""The API servers of a cluster: on which state each of them decides a request. Rules CLUSTER-10,
CLUSTER-15 ... CLUSTER-18 (spec/cluster.md), LIST-14 (spec/watch_api.md).

An API server has the store's state in memory, and this memory may be behind the store
(`Cluster.caches`). It decides a request as refk8s/components/apiserver.py does on a shared store:

    a read of the newest state        after its memory has caught up
    any other request                 on its memory; again after it has caught up, if no transaction
                                      comes of it and the answer is not final, or if the transaction
                                      is a conflict

The network between API servers and the store is not modelled, because a transaction that reaches
the store later is the same as a request that arrives later.
"""

from typing import Any

from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.calls import Ask
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.freshness import is_final, reads_latest
from refk8s.core.apiserver.handle import again, handle, resume
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit, Outcome
from refk8s.core.cluster.messages import refusal
from refk8s.core.cluster.state import Asked, Cache, Cluster
from refk8s.core.context import SECOND, Instant
from refk8s.core.machine import Impossible
from refk8s.core.store import Committed, History, commit
from refk8s.core.value import Value, evolve

REFRESH_SECONDS_MAX = 15
"""How long an API server waits for its memory to catch up, before it answers 503 (ETCD-6)."""


class Decided(Value, frozen=True, eq=False):
    """The cluster after a decision, and its outcome.

    None: the request waits until the instant `at`. The answer of a request that is decided is not
    sent before `at`.
    """

    cluster: Cluster
    outcome: Outcome | None
    at: Instant = 0


def submit(cluster: Cluster, request: Request, server: int = 0) -> tuple[Cluster, Response]:
    """An API server carries out a request at once, also if other servers must be asked. If this one
    cannot, another one does whose memory is current."""
    asked: Asked | None = None
    while True:
        if not is_able(cluster, server):
            decided = _carry_out_on_newest(cluster, server, request, asked)
        else:
            decided = carry_out(cluster, request, server, asked)
        if not isinstance(decided.outcome, Ask):
            break
        asked = call(decided.cluster, decided.outcome)[0]
    if not isinstance(decided.outcome, Response):
        raise Impossible(f"{request.verb} of {request.resource.plural} is not answered at once")
    return decided.cluster, decided.outcome


def is_able(cluster: Cluster, server: int) -> bool:
    """Whether an API server runs, and its memory can catch up with the store now."""
    cache = cluster.caches.get(server)
    return server not in cluster.down and (cache is None or cache.until <= cluster.now)


def call(cluster: Cluster, ask: Ask) -> tuple[Asked, Instant]:
    """The calls of a request are made: their results, and when the last of them is there."""
    if cluster.webhooks is None:
        raise Impossible("a request needs webhooks, and there are none")
    answers = [cluster.webhooks.answer(one, cluster.now) for one in ask.calls]
    until = max([cluster.now, *[at for at, _ in answers]])
    return Asked(ask, tuple([result for _, result in answers])), until


def carry_out(
    cluster: Cluster, request: Request, server: int, asked: Asked | None = None
) -> Decided:
    """Decide the request at this API server, and commit its transaction. `asked`: what other
    servers have answered."""
    decided = decide(cluster, request, server, asked)
    outcome = decided.outcome
    if not isinstance(outcome, Commit):
        return decided
    cache = cluster.caches.get(server)
    if cache is None or server not in decided.cluster.caches:
        return _commit(decided.cluster, outcome, server)
    if cache.until > cluster.now:
        if cache.is_cut_off:
            return _refused(cluster)  # the transaction was not sent
        if outcome.rest is not None:
            return _wait(cluster, cache)  # for the outcome of the first transaction
    history, result = commit(cluster.history, outcome.txn, stamp)
    if not isinstance(result, Committed):  # API-9: it is decided again on the newer state
        known = None if outcome.calls is None else Asked(again(request, outcome.calls), ())
        decided = _refresh(cluster, request, server, known)
        if isinstance(decided.outcome, Commit):
            return _commit(decided.cluster, decided.outcome, server)
        return decided
    return _conclude(cluster, outcome, server, history, result)


def decide(cluster: Cluster, request: Request, server: int, asked: Asked | None = None) -> Decided:
    """LIST-14: decide the request on a state that is new enough."""
    cache = cluster.caches.get(server)
    if cache is None:
        return _decide_on_newest(cluster, request, asked)
    if not reads_latest(request):
        outcome = _decide_on(cluster, cache.history, request, asked)
        if isinstance(outcome, Commit) or is_final(request, outcome):
            return Decided(cluster, outcome)
    return _refresh(cluster, request, server, asked)


def _decide_on(
    cluster: Cluster, history: History[Any], request: Request, asked: Asked | None
) -> Outcome:
    if asked is None:
        return handle(Exchange(request, history, cluster.context(), cluster.config))
    return resume(asked.ask, asked.results, history, cluster.config, cluster.now)


def _refresh(cluster: Cluster, request: Request, server: int, asked: Asked | None) -> Decided:
    """Decide the request after the memory of the API server has caught up with the store."""
    cache = cluster.caches[server]
    if cache.until <= cluster.now:
        return _decide_on_newest(catch_up(cluster, server), request, asked)
    return _refused(cluster) if cache.is_cut_off else _wait(cluster, cache)


def _wait(cluster: Cluster, cache: Cache) -> Decided:
    last = cluster.now + REFRESH_SECONDS_MAX * SECOND
    if cache.until > last:
        return Decided(cluster, refusal(503), last)
    return Decided(cluster, None, cache.until)


def _refused(cluster: Cluster) -> Decided:
    return Decided(cluster, refusal(503))


def catch_up(cluster: Cluster, server: int) -> Cluster:
    """The memory of the API server shows the newest state."""
    if server not in cluster.caches:
        return cluster
    return evolve(cluster, caches=cluster.caches.delete(server))


def _decide_on_newest(cluster: Cluster, request: Request, asked: Asked | None) -> Decided:
    return Decided(cluster, _decide_on(cluster, cluster.history, request, asked))


def _carry_out_on_newest(
    cluster: Cluster, server: int, request: Request, asked: Asked | None = None
) -> Decided:
    decided = _decide_on_newest(cluster, request, asked)
    if isinstance(decided.outcome, Commit):
        return _commit(cluster, decided.outcome, server)
    return decided


def _commit(cluster: Cluster, outcome: Commit, server: int) -> Decided:
    """Commit a transaction that was decided on the newest state; so there is no conflict."""
    history, result = commit(cluster.history, outcome.txn, stamp)
    if not isinstance(result, Committed):
        raise Impossible(f"a request handled on the newest state met a conflict: {result}")
    return _conclude(cluster, outcome, server, history, result)


def _conclude(
    cluster: Cluster, outcome: Commit, server: int, history: History[Any], result: Committed[Any]
) -> Decided:
    """A transaction has taken effect: the memory of the other API servers is now behind.

    Its outcome is reported once the memory of this one shows it (ETCD-5).
    """
    caches = cluster.caches
    for other in range(cluster.apiservers) if cluster.apiservers > 1 else ():
        if other not in caches and other not in cluster.down:
            caches = caches.set(other, Cache(cluster.history))
    at = 0
    if (own := caches.get(server)) is not None:
        at = own.until
        if at <= cluster.now:
            caches = caches.delete(server)
    cluster = evolve(cluster, history=history, last_commit=result, caches=caches)
    if outcome.rest is None:
        return Decided(cluster, outcome.respond(result), at)
    decided = _carry_out_on_newest(cluster, server, outcome.rest)
    if (last := decided.cluster.last_commit) is None or last is result:
        return decided
    result = Committed(last.revision, (*result.changes, *last.changes))
    return evolve(decided, cluster=evolve(decided.cluster, last_commit=result))
