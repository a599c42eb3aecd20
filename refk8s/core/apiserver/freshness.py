"""How new the state must be on which a request is decided. Rule LIST-14 (spec/watch_api.md).

The reads of an API server may be older than a store that other API servers write to too
(core/store_port.py). A transaction compares what it read, so a write may be decided on any state;
an answer without a transaction has nothing that would notice an older one.
"""

from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.delete import Collection
from refk8s.core.apiserver.outcome import Outcome, Stream

_READS = ("get", "list", "watch")


def reads_latest(request: Request) -> bool:
    """Whether the request reads the most recent state, so that it needs a refresh in any case.

    A deletecollection does: its transactions compare the objects that it has found, but not that
    there are no others. It has found them before the first transaction."""
    options = request.options
    if options.resource_version or options.continue_:
        return False
    if request.verb == "deletecollection":
        return type(request.body) is not Collection
    return request.verb in _READS


def is_final(request: Request, outcome: Outcome) -> bool:
    """Whether this outcome stands although the store may have gone on since the state on which it
    was decided."""
    if isinstance(outcome, Response):
        return outcome.ok and request.verb in _READS and not reads_latest(request)
    return not isinstance(outcome, Stream) or not reads_latest(request)


__all__ = ["is_final", "reads_latest"]
