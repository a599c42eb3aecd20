"""The informer: it lists, then watches, and lists again when its revision is compacted. Rules
WATCH-2 to WATCH-6 (spec/watch.md).

| phase | event | next phase | effect |
|---|---|---|---|
| resting | start, or its timer expires | listing | Call(list), unless the informer is dormant (LOOP-14) |
| listing | the list | watching | Watch from the list's revision |
| listing | an error, or no response | resting | WakeAt, after a back-off |
| listing | 404, of a later resource (LOOP-16) | resting | WakeAt, after five minutes |
| watching | changes | watching | - |
| watching | 410 Gone | listing | Call(list): the missed changes are compacted |
| watching | cut | resting, then watching | WakeAt, then Watch from the last revision |

Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes".
"""

from msgspec.structs import replace

from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import LATER, Resource
from refk8s.core.api.selector import FieldRequirement
from refk8s.core.api.user import User
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.loop.view import View
from refk8s.core.value import Value

RESTING, LISTING, WATCHING = "resting", "listing", "watching"

BACKOFF_FIRST: Instant = 10 * MILLISECOND
BACKOFF_MAX: Instant = 30 * SECOND
NOT_SERVED: Instant = 300 * SECOND
"""How long a resource that is not served is not listed again (LOOP-16)."""


class Informer(Value, frozen=True):
    """The state of the list and watch of one resource."""

    resource: Resource
    field_selector: str = ""
    label_selector: str = ""
    while_any: Resource | None = None
    phase: str = RESTING
    revision: int = 0  # 0: the resource has not been listed
    failures: int = 0
    due: Instant = 0  # while resting

    def is_dormant(self, view: View) -> bool:
        """Whether the resource is not listed yet because no object of `while_any` has existed
        (LOOP-14)."""
        return self.while_any is not None and not self.revision and not view.count(self.while_any)

    def list_request(self, user: User) -> Request:
        """A consistent list of the newest state, never of an API server's cache (WATCH-4).

        So a restarted component never reads a state older than one that it has read.
        """
        options = Options(field_selector=self.field_selector, label_selector=self.label_selector)
        return Request("list", self.resource, options=options, user=user)

    def look_up_request(self, request: Request, user: User) -> Request:
        """The list of LOOP-7: the object of `request`, if it is one of this list. It needs no other
        permission than this list, and is answered by key, in the newest state (LIST-15)."""
        named = str(FieldRequirement("metadata.name", "=", request.name))
        fields = f"{self.field_selector},{named}" if self.field_selector else named
        options = Options(field_selector=fields, label_selector=self.label_selector, limit=1)
        return Request(
            "list",
            self.resource,
            request.namespace,
            options=options,
            user=user,
            because=request.because,
        )

    def watch_request(self, user: User) -> Request:
        """A watch from the last received revision, with bookmarks."""
        options = Options(
            field_selector=self.field_selector,
            label_selector=self.label_selector,
            resource_version=str(self.revision),
            allow_watch_bookmarks=True,
        )
        return Request("watch", self.resource, options=options, user=user)

    def listing(self) -> "Informer":
        return replace(self, phase=LISTING)

    def watching(self, revision: int) -> "Informer":
        return replace(self, phase=WATCHING, revision=revision)

    def received(self, revision: int) -> "Informer":
        """Changes were received, so the stream works: reset the back-off."""
        return replace(self, revision=max(revision, self.revision), failures=0)

    def failed(self, now: Instant) -> "Informer":
        """Wait before the next attempt: 10 ms, doubled each time, at most 30 s (WATCH-6)."""
        delay = min(BACKOFF_FIRST << min(self.failures, 20), BACKOFF_MAX)
        return replace(self, phase=RESTING, failures=self.failures + 1, due=now + delay)

    def is_missing(self, code: int) -> bool:
        """Whether an answer with this code says that the API server does not serve the resource
        (LOOP-16)."""
        return code == 404 and self.resource in LATER

    def missing(self, now: Instant) -> "Informer":
        """The resource is not served: list it again later (LOOP-16)."""
        return replace(self, phase=RESTING, revision=0, failures=0, due=now + NOT_SERVED)

    def gone(self, now: Instant) -> "Informer":
        """410: list again at once (WATCH-3)."""
        return replace(self, phase=RESTING, revision=0, due=now)
