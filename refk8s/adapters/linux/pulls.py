"""The order of image pulls. Rules RT-4, RT-33.

The node first checks whether the engine has the image, which waits for no pull. A missing image is
fetched once for all pods that wait for it with the same credentials. The number of concurrent
fetches from one registry is limited, so a registry that does not answer delays only its own images.
The removal of a pod cancels its pulls, and an image that no pod waits for is not fetched.

Used in the event loop's thread; worker threads do the checks and fetches.
"""

from collections.abc import Callable
from typing import Any, Protocol

from refk8s.core.ports import Failed, PullImage, Result

PER_REGISTRY_MAX = 3
FETCHES_MAX = 48
"""The most concurrent fetches, from one registry and in total."""
DEFAULT_REGISTRY = "docker.io"

Then = Callable[[Result], None]


class Aside(Protocol):
    """Work in a thread, and then something in the event loop's."""

    def put_aside(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None: ...


class Fetch:
    """An image to fetch, and its waiting pulls: (pod uid, function for the result)."""

    __slots__ = ("begun", "operation", "waiting")

    def __init__(self, operation: PullImage) -> None:
        self.operation = operation
        self.waiting: list[tuple[str, Then]] = []
        self.begun = False


class Pulls:
    """The pulls of one node.

    `look` returns the result if no registry is needed, else None; `fetch` pulls from the registry.
    """

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
        """Pull the image; `done` is called once, with the result."""
        self._lookers.put_aside(
            lambda: self._look(operation),
            lambda result: self._wait(operation, done) if result is None else done(result),
        )

    def forget(self, pod_uid: str) -> None:
        """The pod was removed: end its pulls at once."""
        gone = []
        for fetch in self._fetches:
            gone += [done for uid, done in fetch.waiting if uid == pod_uid]
            fetch.waiting = [(uid, done) for uid, done in fetch.waiting if uid != pod_uid]
        self._fetches = [fetch for fetch in self._fetches if fetch.begun or fetch.waiting]
        for done in gone:
            done(Failed("ErrImagePull", "the pod was deleted"))

    def _wait(self, operation: PullImage, done: Then) -> None:
        """Join a fetch of this image with the same credentials; with policy Always only one that
        has not started."""
        for fetch in self._fetches:
            if (
                fetch.operation.image == operation.image
                and fetch.operation.credentials == operation.credentials
                and (not fetch.begun or operation.policy != "Always")
            ):
                break
        else:
            fetch = Fetch(operation)
            self._fetches.append(fetch)
        fetch.waiting.append((operation.pod_uid, done))
        self._begin()

    def _begin(self) -> None:
        """Start the fetches that the limits allow, in the order of the requests."""
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
    """The registry of an image: the first part of its name if that is a host."""
    first, slash, _ = image.partition("/")
    return (
        first
        if slash and (first == "localhost" or "." in first or ":" in first)
        else DEFAULT_REGISTRY
    )
