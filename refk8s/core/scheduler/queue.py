"""The queue: which pods are tried, in which order and when. Rules SCHED-18 to SCHED-21
(spec/scheduler.md).

| a pod is | since | until |
|---|---|---|
| active | it was created, its spec changed, or its binding was rejected | it is tried, after its back-off |
| parked | no node could run it | a node can run a pod of its kind, or five minutes have passed |

Source: Kubernetes documentation, "Pod Priority and Preemption" (effect of pod priority on
scheduling order), "Scheduling Framework" (queue sort); the kube-scheduler reference for the
back-off (1 s to 10 s) and the flush of five minutes.
"""

from collections.abc import Callable, Collection, Iterable

import msgspec
from immutables import Map

from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.snapshot import Change, PodInfo
from refk8s.core.value import Value, evolve, field

PARKED_MAX: Instant = 5 * MINUTE


class Backoff(Value, frozen=True):
    """The back-off of a pod after its first attempt, and the longest one (SCHED-20)."""

    first: Instant = SECOND
    longest: Instant = 10 * SECOND


DEFAULT_BACKOFF = Backoff()

_KINDS = msgspec.msgpack.Encoder()


class Waiting(Value, frozen=True, eq=False):
    """A pod in the queue. `number`: the order of arrival; `parked_at` None: active."""

    key: Key
    pod: PodInfo
    number: int
    attempts: int = 0
    not_before: Instant = 0
    parked_at: Instant | None = None
    message: str = ""  # the last reason why no node could run it
    blocked: str = ""  # the part of it about its claims, if they keep it from every node
    is_error: bool = False  # the message is that of an extender without a usable answer (SCHED-58)
    # of the snapshot in which an extender rejected nodes: not tried again before another change
    seen: Change | None = None
    release: tuple[Key, ...] = ()  # the claims that are freed for it (DRA-11)

    @property
    def rank(self) -> tuple[int, int]:
        """SCHED-18: descending priority, then the order of arrival."""
        return -self.pod.priority, self.number

    def is_about(self, pod: PodInfo) -> bool:
        """Whether it is this pod, with the same requirements."""
        mine = self.pod
        return (
            mine.uid == pod.uid
            and mine.needs.key == pod.needs.key
            and mine.labels == pod.labels
            and mine.devices == pod.devices
        )

    @property
    def kind(self) -> bytes:
        """Equal for pods that the same nodes can run (SCHED-19)."""
        return _KINDS.encode(
            (
                self.pod.needs.key,
                self.pod.namespace,
                sorted(self.pod.labels.items()),
                self.pod.priority,
                self.pod.claims,
                self.pod.devices,
                self.pod.scheduler_name,
                self.pod.owner[1] if self.pod.owner is not None else None,
            )
        )

    def after_attempt(self, now: Instant, backoff: Backoff = DEFAULT_BACKOFF) -> "Waiting":
        """SCHED-20: the back-off is 1 s, doubles with every attempt, and is at most 10 s."""
        delay = min(backoff.first << min(self.attempts, 20), backoff.longest)
        return evolve(self, attempts=self.attempts + 1, not_before=now + delay)


class Queue(Value, frozen=True, eq=False):
    """All pods that wait for a node. A value."""

    pods: Map[Key, Waiting] = field(default_factory=Map)
    active: Map[Key, None] = field(default_factory=Map)
    parked: Map[bytes, Map[Key, None]] = field(default_factory=Map)  # by kind
    arrivals: int = 0
    # at or before the first instant at which a parked pod has been parked for too long
    alarm: Instant | None = None

    def admit(self, key: Key, pod: PodInfo) -> "Queue":
        """Add a new or changed pod: active, last of its priority."""
        queue = self.without((key,)) if key in self.pods else self
        waiting = Waiting(key, pod, self.arrivals + 1)
        return Queue(
            queue.pods.set(key, waiting),
            queue.active.set(key, None),
            queue.parked,
            self.arrivals + 1,
            self.alarm,
        )

    def activate(self, pods: Iterable[Waiting]) -> "Queue":
        """Make these pods active, whatever their state."""
        again = [evolve(waiting, parked_at=None) for waiting in pods]
        queue = self.without(waiting.key for waiting in again)
        entries = {waiting.key: waiting for waiting in again}
        return Queue(
            queue.pods.update(entries),
            queue.active.update(dict.fromkeys(entries)),
            queue.parked,
            self.arrivals,
            self.alarm,
        )

    def park(
        self, pods: Iterable[Waiting], now: Instant, backoff: Backoff = DEFAULT_BACKOFF
    ) -> "Queue":
        """Park these pods, which no node can run (SCHED-19), after another attempt."""
        tried = [evolve(waiting.after_attempt(now, backoff), parked_at=now) for waiting in pods]
        if not tried:
            return self
        queue = self.without(waiting.key for waiting in tried)
        parked = queue.parked.mutate()
        for waiting in tried:
            parked[waiting.kind] = parked.get(waiting.kind, _NO_KEYS).set(waiting.key, None)
        alarm = now + PARKED_MAX if self.alarm is None else self.alarm
        return Queue(
            queue.pods.update({waiting.key: waiting for waiting in tried}),
            queue.active,
            parked.finish(),
            self.arrivals,
            alarm,
        )

    def without(self, keys: Iterable[Key]) -> "Queue":
        """Remove these pods."""
        pods, active, parked = self.pods.mutate(), self.active.mutate(), self.parked
        for key in keys:
            waiting = pods.pop(key, None)
            if waiting is None:
                continue
            if waiting.parked_at is None:
                del active[key]
            else:
                rest = parked[waiting.kind].delete(key)
                parked = (
                    parked.set(waiting.kind, rest) if len(rest) else parked.delete(waiting.kind)
                )
        return Queue(pods.finish(), active.finish(), parked, self.arrivals, self.alarm)

    def flush(self, now: Instant) -> "Queue":
        """SCHED-21: pods that were parked for five minutes become active. O(1) until then."""
        if self.alarm is None or now < self.alarm:
            return self
        parked = [self.pods[key] for keys in self.parked.values() for key in keys]
        since = [(waiting.parked_at or 0) + PARKED_MAX for waiting in parked]
        queue = self.activate(
            waiting for waiting, until in zip(parked, since, strict=True) if until <= now
        )
        return evolve(queue, alarm=min((until for until in since if until > now), default=None))

    def ready(
        self, now: Instant, has_node: Callable[[PodInfo], bool], nominated: Collection[Key] = ()
    ) -> tuple[list[Waiting], Instant | None]:
        """The pods to try now, in order (SCHED-18), and the instant at which the next one's
        back-off is over.

        Parked pods are included if a node can run a pod of their kind (SCHED-19). Nominated pods
        are checked one by one. O(active + kinds + pods included).
        """
        keys = list(self.active)
        for kind in sorted(self.parked):
            among = self.parked[kind]
            one = next((key for key in among if key not in nominated), None)
            if one is not None and has_node(self.pods[one].pod):
                keys += [key for key in among if key not in nominated]
        keys += [
            key
            for key in nominated
            if key in self.pods and key not in self.active and has_node(self.pods[key].pod)
        ]
        found = [self.pods[key] for key in keys]
        later = [waiting.not_before for waiting in found if waiting.not_before > now]
        ready = sorted(
            (waiting for waiting in found if waiting.not_before <= now),
            key=lambda waiting: waiting.rank,
        )
        return ready, min(later, default=None)


_NO_KEYS: Map[Key, None] = Map()
EMPTY = Queue()
