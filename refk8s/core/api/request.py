"""A request to the API server and its answer, without bytes and sockets.

Components in the same process pass a `Request` directly. A request over HTTP is a `WireRequest`
first, and `core/apiserver` converts it to a `Request`. Every later stage handles both in the same
way. Source: Kubernetes documentation, "Kubernetes API Concepts".
"""

from typing import Any

from refk8s.core.api.resources import Resource
from refk8s.core.api.user import ANONYMOUS, User
from refk8s.core.value import Value


class Options(Value, frozen=True):
    """The query parameters of ListOptions, CreateOptions, UpdateOptions and PatchOptions. The
    options of a delete are in its body (DEL-10). `metric_label_selector`: of a get at
    custom.metrics.k8s.io, which another server has (HPA-13)."""

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
    metric_label_selector: str = ""


NO_OPTIONS = Options()


class Patch(Value, frozen=True):
    """A patch body: its media type (without parameters) and its document, as bytes or as a JSON
    tree."""

    media_type: str
    document: Any


class Request(Value, frozen=True):
    """One call of the API.

    `verb` is one of get, list, watch, create, update, patch, delete, deletecollection, connect.
    `body` is an API object (create, update), a `Patch` (patch), or a DeleteOptions or None
    (delete). A request without a user is anonymous. `because`: the component's reason in a few
    words, for the story; it never leaves the process. `note`: an Event to record once the request
    has taken effect (a `Note` of core/loop/plan; "{name}" in its message is replaced by the
    object's name). `requested_resource`: the resource in the version of the client, if objects
    are stored in another version (API-28).
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
    requested_resource: Resource | None = None

    @property
    def key(self) -> str:
        """The key of the object in the path: "namespace/name", or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def update_of(resource: Resource, body: Any, because: str, subresource: str = "") -> Request:
    """The update of an object of a namespaced or cluster-wide resource; its metadata name it."""
    metadata = body.metadata
    return Request(
        "update",
        resource,
        metadata.namespace or "",
        metadata.name or "",
        subresource,
        body=body,
        because=because,
    )


class Response(Value, frozen=True):
    """The answer: an HTTP status code and an API object (a Status on failure).

    `records`: the store's records of the body, in which the encoder keeps their encoded form.
    `warnings`: texts for the user; they become Warning headers. `prefix`: for a list, the prefix of
    the keys of all objects that it can contain. `annotations`: of admission, for the audit log.
    """

    code: int
    body: Any
    records: tuple[Any, ...] = ()
    warnings: tuple[str, ...] = ()
    prefix: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        return self.code < 300


class WatchEvent(Value, frozen=True):
    """ADDED, MODIFIED, DELETED or BOOKMARK, with the object and the store revision of the change.

    The object of a DELETED event is the last state, with the revision of the deletion. A BOOKMARK
    has no object. `record`: the store's record of the object, if any, in which the encoder keeps
    its encoded form.
    """

    type: str
    object: Any
    revision: int
    record: Any = None
