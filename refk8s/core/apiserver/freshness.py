"""How new the state must be on which a request is decided. Rule LIST-14 (spec/watch_api.md).

The reads of an API server may be older than a store that other API servers write to too
(core/store_port.py). A transaction compares what it read, so a write may be decided on any state;
an answer without a transaction has nothing that would notice an older one.
"""

from refk8s.core.api.request import Request, Response
from refk8s.core.apiserver.outcome import Outcome, Stream

_READS = ("get", "list", "watch")


def reads_latest(request: Request) -> bool:
    """Whether the request reads the most recent state, so that it needs a refresh in any case."""
    options = request.options
    return request.verb in _READS and not options.resource_version and not options.continue_


def is_final(request: Request, outcome: Outcome) -> bool:
    """Whether this outcome stands although the store may have gone on since the state on which it
    was decided."""
    if isinstance(outcome, Response):
        return outcome.ok and request.verb in _READS and not reads_latest(request)
    return not isinstance(outcome, Stream) or not reads_latest(request)


__all__ = ["is_final", "reads_latest"]
