"""One list and watch of a resource for all simulated nodes of a process. Rule CLIENT-12
(spec/client.md).

    nodes ── list, watch ──> SharedWatch ── one list, one watch ──> API server
          <── objects and events of each node ──

Each node selects its own objects by one value (the pods by `spec.nodeName`). The shared watch has
the objects of all nodes, and each event goes only to the watchers of its value. Complexity:
O(events and the watchers that they concern); a list is O(objects).
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from refk8s.core.api.request import Options, Request, Response, WatchEvent
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
    Resource,
)
from refk8s.core.value import Value

EVENTS_KEPT: Final = 1_000
"""For watchers that begin a little before the shared watch."""


class Share(Value, frozen=True):
    """How a resource is shared. `field`: the field by which a node selects its objects; without it
    every watcher gets all objects. `selector`: of the shared list and watch."""

    resource: Resource
    field: str = ""
    selector: str = ""
    value_of: Callable[[Any], str] = lambda obj: ""

    def value_in(self, options: Options) -> str | None:
        """The value that the options select; None if they select anything else."""
        field, _, value = options.field_selector.partition("=")
        is_own = field == self.field and value.isascii() and not set(value) & set("=!,\\")
        return value if is_own and bool(value) == bool(self.field) else None


SHARES: Final = {
    share.resource.prefix: share
    for share in (
        Share(PODS, "spec.nodeName", "spec.nodeName!=", lambda pod: pod.spec.node_name or ""),
        Share(NODES, "metadata.name", "", lambda node: node.metadata.name or ""),
        Share(SERVICES),
    )
}


def shared_value(request: Request) -> str | None:
    """The value of a list or watch that is shared; None if the request is for the API server."""
    options = request.options
    share = SHARES.get(request.resource.prefix)
    if share is None or request.namespace or request.name:
        return None
    plain = Options(field_selector=options.field_selector)
    if request.verb == "watch":
        if not options.resource_version.isdigit() or options.resource_version == "0":
            return None
        revision = options.resource_version
        plain = replace(plain, resource_version=revision, allow_watch_bookmarks=True)
    return share.value_in(options) if options == plain else None


def is_shared_get(request: Request) -> bool:
    """Whether the request reads an object that pods of many nodes have as a volume."""
    if request.verb != "get" or request.resource not in (CONFIG_MAPS, SECRETS):
        return False
    revision = request.options.resource_version
    is_plain = request.options == Options(resource_version=revision) and not request.subresource
    return is_plain and (not revision or revision.isdigit())


def joined_get(requests: Sequence[Request]) -> Request:
    """The request whose answer is one to each of these: not older than the newest revision that
    one of them names, and current if one of them names none."""
    revisions = [request.options.resource_version for request in requests]
    newest = "" if "" in revisions else max(revisions, key=int)
    return replace(requests[0], options=Options(resource_version=newest))


class List(Value, frozen=True):
    """Send the shared list, in the next turn of the event loop."""


class Open(Value, frozen=True):
    """Open the shared watch after this revision."""

    revision: int


class Close(Value, frozen=True):
    """Close the shared watch."""


class Answer(Value, frozen=True):
    """The response to the list of this id."""

    id: int
    response: Response | None


class Deliver(Value, frozen=True):
    """Events for the watcher of this id."""

    id: int
    events: tuple[WatchEvent, ...]


class End(Value, frozen=True):
    """The watch of this id has ended with this code."""

    id: int
    code: int


Effect: TypeAlias = List | Open | Close | Answer | Deliver | End


class SharedWatch:
    """The lists and watches of one resource. Every method returns what is to be done, in order."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self._waiting: list[tuple[int, str]] = []  # lists for which no request has been sent
        self._asked: list[tuple[int, str]] = []  # lists that the request in transit answers
        self._is_listing = False
        self._watchers: dict[int, tuple[str, int]] = {}  # id: (value, revision after which)
        self._by_value: dict[str, dict[int, None]] = {}
        self._is_open = False
        self._start = self._revision = 0  # every change between these two is in _recent
        self._recent: deque[WatchEvent] = deque()

    # --- lists

    def join_list(self, id: int, value: str) -> list[Effect]:
        """A node lists. A list in transit may be older than this request, so it waits for the next
        one (WATCH-4)."""
        self._waiting.append((id, value))
        if self._is_listing:
            return []
        self._is_listing = True
        return [List()]

    def begin(self) -> None:
        """The list is sent: it answers all that wait now."""
        self._asked, self._waiting = self._waiting, []

    def answered(self, response: Response | None) -> list[Effect]:
        """The response to the shared list."""
        asked, self._asked = self._asked, []
        effects: list[Effect] = [Answer(id, answer) for id, answer in self._split(asked, response)]
        self._is_listing = bool(self._waiting)
        return [*effects, List()] if self._is_listing else effects

    def _split(
        self, asked: Iterable[tuple[int, str]], response: Response | None
    ) -> Iterable[tuple[int, Response | None]]:
        if response is None or not response.ok or not self.share.field:
            return [(id, response) for id, _ in asked]
        items: dict[str, list[Any]] = {}
        for item in response.body.items:
            items.setdefault(self.share.value_of(item), []).append(item)
        return [
            (id, Response(response.code, replace(response.body, items=tuple(items.get(value, ())))))
            for id, value in asked
        ]

    # --- watches

    def join_watch(self, id: int, value: str, revision: int) -> list[Effect]:
        """A node watches after a revision."""
        effects: list[Effect] = []
        if not self._is_open:
            self._is_open = True
            self._start = self._revision = revision
            self._recent.clear()
            effects.append(Open(revision))
        elif revision < self._start:
            return [End(id, 410)]  # the node lists again (WATCH-3)
        self._watchers[id] = (value, revision)
        self._by_value.setdefault(value, {})[id] = None
        missed = [
            event
            for event in self._recent
            if event.revision > revision and self.share.value_of(event.object) == value
        ]
        return [*effects, Deliver(id, tuple(missed))] if missed else effects

    def forget(self, id: int) -> list[Effect]:
        """A node has closed its watch."""
        found = self._watchers.pop(id, None)
        if found is None:
            return []
        of_value = self._by_value[found[0]]
        del of_value[id]
        if not of_value:
            del self._by_value[found[0]]
        if self._watchers:
            return []
        self._is_open = False
        return [Close()]

    def received(self, events: tuple[WatchEvent, ...]) -> list[Effect]:
        """Events of the shared watch."""
        value_of = self.share.value_of
        own: dict[int, list[WatchEvent]] = {}
        for event in events:
            self._revision = max(self._revision, event.revision)
            if event.type == "BOOKMARK":
                continue  # passed on when the watch ends
            self._recent.append(event)
            for id in self._by_value.get(value_of(event.object), ()):
                if event.revision > self._watchers[id][1]:
                    own.setdefault(id, []).append(event)
        while len(self._recent) > EVENTS_KEPT:
            self._start = max(self._start, self._recent.popleft().revision)
        return [Deliver(id, tuple(of_one)) for id, of_one in own.items()]

    def ended(self, code: int) -> list[Effect]:
        """The shared watch has ended, and so have all others, which have received everything up to
        one revision."""
        effects: list[Effect] = []
        bookmark = WatchEvent("BOOKMARK", None, self._revision)
        for id, (_, after) in self._watchers.items():
            if code != 410 and after < self._revision:
                effects.append(Deliver(id, (bookmark,)))
            effects.append(End(id, code))
        self._watchers.clear()
        self._by_value.clear()
        self._is_open = False
        return effects
