"""In which order images are pulled. Rules RT-4, RT-33.

First the engine is asked whether it has the image, which takes a moment and waits for no pull. What
must be fetched is fetched once for all pods that wait for it. A registry that does not answer holds
up its own images only: at most a few are fetched from one registry at a time. A pod that is removed
waits no longer, and an image for which no pod waits is not fetched.

Lives in the event loop's thread; the two kinds of work are done in threads.
"""

from collections.abc import Callable
from typing import Any, Protocol

from refk8s.core.ports import Failed, PullImage, Result

PER_REGISTRY_MAX = 3
FETCHES_MAX = 48
"""So many images are fetched at a time, from one registry and in all."""
DEFAULT_REGISTRY = "docker.io"

Then = Callable[[Result], None]


class Aside(Protocol):
    """Work in a thread, and then something in the event loop's."""

    def put_aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None: ...


class Fetch:
    """An image that is to be fetched, and who waits for it: (pod uid, what to do with the
    result)."""

    __slots__ = ("begun", "operation", "waiting")

    def __init__(self, operation: PullImage) -> None:
        self.operation = operation
        self.waiting: list[tuple[str, Then]] = []
        self.begun = False


class Pulls:
    """The pulls of one node. `look` answers what needs no registry, or None; `fetch` asks the
    registry."""

    def __init__(
        self,
        lookers: Aside,
        fetchers: Aside,
        look: Callable[[PullImage], Result | None],
        fetch: Callable[[PullImage], Result],
    ) -> None:
        self._lookers = lookers
        self._fetchers = fetchers
        self._look = look
        self._fetch = fetch
        self._fetches: list[Fetch] = []  # in the order in which they were asked for

    def pull(self, operation: PullImage, done: Then) -> None:
        """Have the image; `done` gets the result, once."""
        self._lookers.put_aside(
            lambda: self._look(operation),
            lambda result: self._wait(operation, done) if result is None else done(result),
        )

    def forget(self, pod_uid: str) -> None:
        """The pod is gone: its pulls are answered at once."""
        gone = []
        for fetch in self._fetches:
            gone += [done for uid, done in fetch.waiting if uid == pod_uid]
            fetch.waiting = [(uid, done) for uid, done in fetch.waiting if uid != pod_uid]
        self._fetches = [fetch for fetch in self._fetches if fetch.begun or fetch.waiting]
        for done in gone:
            done(Failed("ErrImagePull", "the pod was deleted"))

    def _wait(self, operation: PullImage, done: Then) -> None:
        """Join a fetch of this image. With policy Always one that has begun is too old."""
        for fetch in self._fetches:
            if fetch.operation.image == operation.image and (
                not fetch.begun or operation.policy != "Always"
            ):
                break
        else:
            fetch = Fetch(operation)
            self._fetches.append(fetch)
        fetch.waiting.append((operation.pod_uid, done))
        self._begin()

    def _begin(self) -> None:
        """Begin what may be begun, in the order in which it was asked for."""
        busy: dict[str, int] = {}
        for fetch in self._fetches:
            if fetch.begun:
                registry = registry_of(fetch.operation.image)
                busy[registry] = busy.get(registry, 0) + 1
        for fetch in self._fetches:
            registry = registry_of(fetch.operation.image)
            if (
                fetch.begun
                or busy.get(registry, 0) >= PER_REGISTRY_MAX
                or sum(busy.values()) >= FETCHES_MAX
            ):
                continue
            fetch.begun = True
            busy[registry] = busy.get(registry, 0) + 1
            self._fetchers.put_aside(
                lambda operation=fetch.operation: self._fetch(operation),  # type: ignore[misc]
                lambda result, fetch=fetch: self._fetched(fetch, result),  # type: ignore[misc]
            )

    def _fetched(self, fetch: Fetch, result: Any) -> None:
        self._fetches.remove(fetch)
        self._begin()
        for _, done in fetch.waiting:
            done(result)


def registry_of(image: str) -> str:
    """The registry that an image is fetched from: the first part of its name where that is a
    host."""
    first, slash, _ = image.partition("/")
    return (
        first
        if slash and (first == "localhost" or "." in first or ":" in first)
        else DEFAULT_REGISTRY
    )
