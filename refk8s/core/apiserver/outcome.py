"""What the API server decides about a request: an answer, a transaction with its answer, or a
stream.

`handle` is pure: it reads the store, and whoever called it commits the transaction. Where the
commit meets a conflict (another request got there first), the same request is handled again on the
newer state, as upstream retries an update (API-9).
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from refk8s.core import store
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.selector import FieldSelector, Selector
from refk8s.core.store import Committed, Record, Txn
from refk8s.core.value import Value

Reader: TypeAlias = store.Reader[Any]
"""What a decision may ask the store."""


class Commit(Value, frozen=True):
    """Commit this; then `respond` makes the answer from what was committed (it knows the revision).

    A long act is committed in portions (DEL-9): `rest` is the request that goes on with it, and its
    answer is the answer. Where the commit meets a conflict, `again` is handled on the newer state,
    or the same request where there is none.
    """

    txn: Txn[Any]
    respond: Callable[[Committed[Any]], Response]
    rest: Request | None = None
    again: Request | None = None


class Stream(Value, frozen=True):
    """A watch: everything of this resource, namespace and these selectors after `revision`, as
    WatchEvents (core/apiserver/watch.py).

    `initial` are the records to announce first (an empty resourceVersion, "0", or
    sendInitialEvents); after them a bookmark with the annotation `k8s.io/initial-events-end` where
    `initial_events_end` is set. The watch ends after `timeout_seconds`.
    """

    resource: Resource
    namespace: str
    name: str  # from the field selector metadata.name, or empty: an index for whoever dispatches
    labels: Selector
    fields: FieldSelector
    revision: int
    initial: tuple[Record[Any], ...] = ()
    initial_events_end: bool = False
    bookmarks: bool = False
    timeout_seconds: int | None = None
    # what the selectors say of an object; None: all match
    matches: Callable[[Any], bool] | None = None
    prefix: str = ""  # what the keys of the namespace's objects begin with
    # the watcher has seen everything up to here: not less than `revision`, more only for a revision
    # of the future
    floor: int = 0


class Connect(Value, frozen=True):
    """A stream to a container (exec, attach, port-forward, log, proxy), which the driver and
    adapter carry out."""

    request: Request


Outcome: TypeAlias = Response | Commit | Stream | Connect
