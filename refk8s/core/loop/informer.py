"""The informer: list, then watch, and list again when the past is gone. Rules WATCH-2 to WATCH-6
(spec/watch.md).

| phase | heard | next | asks for |
|---|---|---|---|
| resting | start, or its instant has come | listing | Call(list) |
| listing | the list | watching | Watch from the list's revision |
| listing | an error, or no answer | resting | WakeAt, backing off |
| watching | changes | watching | - |
| watching | 410 Gone | listing | Call(list): what was missed is compacted |
| watching | cut | resting, then watching | WakeAt, then Watch from the last revision |

Source: Kubernetes documentation, "Kubernetes API Concepts", "Efficient detection of changes".
"""

from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import User
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.value import Value, evolve

RESTING, LISTING, WATCHING = "resting", "listing", "watching"

BACKOFF_FIRST: Instant = 10 * MILLISECOND
BACKOFF_MAX: Instant = 30 * SECOND


class Informer(Value, frozen=True):
    """Where the list-and-watch of one resource stands."""

    resource: Resource
    field_selector: str = ""
    label_selector: str = ""
    phase: str = RESTING
    revision: int = 0  # 0: list first
    failures: int = 0
    due: Instant = 0  # while resting

    def list_request(self, user: User) -> Request:
        """A consistent list: the newest state, never a cache's (so a restarted component never goes
        back in time, WATCH-4)."""
        options = Options(field_selector=self.field_selector, label_selector=self.label_selector)
        return Request("list", self.resource, options=options, user=user)

    def watch_request(self, user: User) -> Request:
        """Everything after the revision that has been reached, with bookmarks."""
        options = Options(
            field_selector=self.field_selector,
            label_selector=self.label_selector,
            resource_version=str(self.revision),
            allow_watch_bookmarks=True,
        )
        return Request("watch", self.resource, options=options, user=user)

    def listing(self) -> "Informer":
        return evolve(self, phase=LISTING)

    def watching(self, revision: int) -> "Informer":
        return evolve(self, phase=WATCHING, revision=revision)

    def heard(self, revision: int) -> "Informer":
        """Changes came: the stream works, so the back-off starts anew."""
        return evolve(self, revision=max(revision, self.revision), failures=0)

    def failed(self, now: Instant) -> "Informer":
        """Rest before the next try: 10 ms, doubling, at most 30 s (WATCH-6)."""
        delay = min(BACKOFF_FIRST << min(self.failures, 20), BACKOFF_MAX)
        return evolve(self, phase=RESTING, failures=self.failures + 1, due=now + delay)

    def gone(self, now: Instant) -> "Informer":
        """410: list again, at once (WATCH-3)."""
        return evolve(self, phase=RESTING, revision=0, due=now)
