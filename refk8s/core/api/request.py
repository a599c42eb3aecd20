"""A request to the API server and its answer, as the core sees them: no bytes, no sockets.

Components in the same process hand over objects; what comes by HTTP is first a `WireRequest` and
becomes a `Request` by `core/apiserver`. Both are then the same thing to every later stage. Source:
Kubernetes documentation, "Kubernetes API Concepts".
"""

from typing import Any

from refk8s.core.api.resources import Resource
from refk8s.core.api.user import ANONYMOUS, User
from refk8s.core.value import Value


class Options(Value, frozen=True):
    """The query parameters of ListOptions, CreateOptions, UpdateOptions and PatchOptions. Those of
    a delete are its body (DEL-10)."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    timeout_seconds: int | None = None
    allow_watch_bookmarks: bool = False
    send_initial_events: bool | None = None
    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = ""
    force: bool = False


NO_OPTIONS = Options()


class Patch(Value, frozen=True):
    """A patch body: its media type (without parameters) and its document, still as bytes or already
    as a JSON tree."""

    media_type: str
    document: Any


class Request(Value, frozen=True):
    """One call of the API.

    `verb` is one of get, list, watch, create, update, patch, delete, deletecollection, connect.
    `body` is an API object (create, update), a `Patch` (patch), or a DeleteOptions or None
    (delete). A request that names no user is anonymous. `because` says in a few words why a component sends it; it is told in the story and
    never leaves the process. `note` is what a component wants recorded once the request has taken
    effect (a `Note` of core/loop/plan, in whose message "{name}" stands for the object's name).
    `asked` is the resource in the version that the client wrote, where another version is stored
    (API-28).
    """

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    body: Any = None
    options: Options = NO_OPTIONS
    user: User = ANONYMOUS
    because: str = ""
    note: Any = None
    asked: Resource | None = None

    @property
    def key(self) -> str:
        """The object that the path names: "namespace/name", or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Response(Value, frozen=True):
    """The answer: an HTTP status code and an API object (on failure a Status).

    `records` are the store's records behind the body, for whoever writes it as bytes: their encoded
    form is kept there. `warnings` are for the person at the client; they become Warning headers.
    `prefix`: of a list, what the keys of all that it can hold begin with.
    """

    code: int
    body: Any
    records: tuple[Any, ...] = ()
    warnings: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def ok(self) -> bool:
        return self.code < 300


class WatchEvent(Value, frozen=True):
    """ADDED, MODIFIED, DELETED or BOOKMARK, with the object and the store revision of the change.

    The object of a DELETED event is the last state with the revision of the deletion. A BOOKMARK
    has no object. `record` is the store's record of the object, if it is one, for whoever writes it
    as bytes.
    """

    type: str
    object: Any
    revision: int
    record: Any = None
