"""The outcome of a request: an answer, a transaction with its answer, or a stream.

`handle` only reads the store; its caller commits the transaction. If the commit is a conflict,
because another request was committed first, the same request is handled again on the newer state,
as upstream retries an update (API-9).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from refk8s.core import store
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.selector import FieldSelector, Selector
from refk8s.core.apiserver.calls import Ask, Calls
from refk8s.core.store import Committed, Record, Txn
from refk8s.core.value import Value

Reader: TypeAlias = store.Reader[Any]
"""The reads of the store that a decision needs: `History` and every engine have them."""


class Commit(Value, frozen=True):
    """A transaction, and `respond`, which makes the answer after the commit, when the revision is
    known.

    The deletion of a collection has one transaction for each object (DEL-9): `rest` is the request
    for the next one, and its answer is the answer. After a conflict `again` is handled on the newer
    state; None means the same request. `calls`: what other servers have answered already, for the
    case of a conflict.
    """

    txn: Txn[Any]
    respond: Callable[[Committed[Any]], Response]
    rest: Request | None = None
    again: Request | None = None
    calls: Calls | None = None


class Stream(Value, frozen=True):
    """A watch: every change of this resource, namespace and these selectors after `revision`, as
    WatchEvents (core/apiserver/watch.py).

    `initial` are the records of the initial events (for an empty resourceVersion, "0", or
    sendInitialEvents). If `initial_events_end` is set, a bookmark with the annotation
    `k8s.io/initial-events-end` follows them. The watch ends after `timeout_seconds`.
    """

    resource: Resource
    namespace: str
    name: str  # from the field selector metadata.name, or empty: an index for the dispatcher
    labels: Selector
    fields: FieldSelector
    revision: int
    initial: tuple[Record[Any], ...] = ()
    initial_events_end: bool = False
    bookmarks: bool = False
    timeout_seconds: int | None = None
    # whether an object matches the selectors; None: all match
    matches: Callable[[Any], bool] | None = None
    prefix: str = ""  # of the keys of the namespace's objects
    # The watcher has received everything up to here. It is `revision`, or more if that has not been
    # reached.
    floor: int = 0


class Connect(Value, frozen=True):
    """A stream to a container (exec, attach, port-forward, log, proxy), which the driver and the
    adapter serve."""

    request: Request


class Measure(Value, frozen=True):
    """A request for what nodes or pods use at present (STREAM-17): the kubelets are asked, and
    `metrics.py` makes the answer."""

    request: Request


Outcome: TypeAlias = Response | Commit | Stream | Connect | Measure | Ask
