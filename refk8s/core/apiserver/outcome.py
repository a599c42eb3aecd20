"""What the API server decides about a request: an answer, a transaction with its answer, or a stream.

`handle` is pure: it reads the store, and whoever called it commits the transaction. Where the commit meets a conflict (another request
got there first), the same request is handled again on the newer state, as upstream retries an update (API-9).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.selector import FieldSelector, Selector
from refk8s.core.store import Committed, Txn


@frozen
class Commit:
    """Commit this; then `respond` makes the answer from what was committed (it knows the revision)."""

    txn: Txn[Any]
    respond: Callable[[Committed[Any]], Response]


@frozen
class Stream:
    """A watch: everything of this resource, namespace and these selectors after `revision`, as WatchEvents.

    `initial` are events to send first (an empty resourceVersion, "0", or sendInitialEvents); after them a bookmark with the annotation
    `k8s.io/initial-events-end` where `initial_events_end` is set. The watch ends after `timeout_seconds`.
    """

    resource: Resource
    namespace: str
    name: str  # from the field selector metadata.name, or empty: an index for whoever dispatches
    labels: Selector
    fields: FieldSelector
    revision: int
    initial: tuple[Any, ...] = ()
    initial_events_end: bool = False
    bookmarks: bool = False
    timeout_seconds: int | None = None


@frozen
class Connect:
    """A stream to a container (exec, attach, port-forward, log, proxy), which the driver and adapter carry out."""

    request: Request


Outcome: TypeAlias = Response | Commit | Stream | Connect
