"""The queue: which pods are to be tried, in which order, and when again. Rules SCHED-18 to SCHED-21
(spec/scheduler.md).

| a pod is | since | leaves when |
|---|---|---|
| active | it came, or its spec changed, or its assignment failed | it is tried, not before its back-off is over |
| parked | no node would take it | some node would take its kind, or it has been parked for five minutes |

Source: Kubernetes documentation, "Pod Priority and Preemption" (effect of pod priority on
scheduling order), "Scheduling Framework" (queue sort); the kube-scheduler reference for the
back-off (1 s to 10 s) and the flush of five minutes.
"""

from collections.abc import Callable, Collection, Iterable

import msgspec
from immutables import Map

from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.snapshot import PodInfo
from refk8s.core.value import Value, evolve, field

BACKOFF_FIRST: Instant = SECOND
BACKOFF_MAX: Instant = 10 * SECOND
PARKED_MAX: Instant = 5 * MINUTE


_KINDS = msgspec.msgpack.Encoder()


class Waiting(Value, frozen=True, eq=False):
    """A pod that waits for a node. `number` counts arrivals; `parked_at` None: active."""

    key: Key
    pod: PodInfo
    number: int
    attempts: int = 0
    not_before: Instant = 0
    parked_at: Instant | None = None
    message: str = ""  # why it was refused last

    @property
    def rank(self) -> tuple[int, int]:
        """SCHED-18: the higher priority first, then who came first."""
        return -self.pod.priority, self.number

    @property
    def kind(self) -> bytes:
        """Pods of one kind are welcome on the same nodes."""
        return _KINDS.encode(
            (
                self.pod.needs.key,
                self.pod.namespace,
                sorted(self.pod.labels.items()),
                self.pod.priority,
            )
        )

    def after_attempt(self, now: Instant) -> "Waiting":
        """SCHED-20: not again before 1 s has passed, doubling with every attempt, at most 10 s."""
        delay = min(BACKOFF_FIRST << min(self.attempts, 20), BACKOFF_MAX)
        return evolve(self, attempts=self.attempts + 1, not_before=now + delay)


class Queue(Value, frozen=True, eq=False):
    """All pods that wait. A value."""

    pods: Map[Key, Waiting] = field(default_factory=Map)
    active: Map[Key, None] = field(default_factory=Map)
    parked: Map[bytes, Map[Key, None]] = field(default_factory=Map)  # by kind
    arrivals: int = 0
    # at or before the first instant at which a parked pod has been parked for too long
    alarm: Instant | None = None

    def admit(self, key: Key, pod: PodInfo) -> "Queue":
        """A pod comes, or comes anew because it changed: active, at the end of its priority."""
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
        """These are active, whatever they were."""
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

    def park(self, pods: Iterable[Waiting], now: Instant) -> "Queue":
        """No node would take these (SCHED-19): each has been tried once more, and says why it was
        refused."""
        tried = [evolve(waiting.after_attempt(now), parked_at=now) for waiting in pods]
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
        """These wait no more."""
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
        """SCHED-21: what has been parked for five minutes is active again. O(1) until then."""
        if self.alarm is None or now < self.alarm:
            return self
        parked = [self.pods[key] for keys in self.parked.values() for key in keys]
        since = [(waiting.parked_at or 0) + PARKED_MAX for waiting in parked]
        queue = self.activate(
            waiting for waiting, until in zip(parked, since, strict=True) if until <= now
        )
        return evolve(queue, alarm=min((until for until in since if until > now), default=None))

    def ready(
        self, now: Instant, is_welcome: Callable[[PodInfo], bool], special: Collection[Key] = ()
    ) -> tuple[list[Waiting], Instant | None]:
        """The pods to try now, in order (SCHED-18), and the instant at which the next one's
        back-off is over.

        Parked pods are among them when their kind is welcome somewhere (SCHED-19); those that are
        `special` (the nominated) are asked for one by one. O(active + kinds + welcome).
        """
        keys = list(self.active)
        for kind in sorted(self.parked):
            among = self.parked[kind]
            one = next((key for key in among if key not in special), None)
            if one is not None and is_welcome(self.pods[one].pod):
                keys += [key for key in among if key not in special]
        keys += [
            key
            for key in special
            if key in self.pods and key not in self.active and is_welcome(self.pods[key].pod)
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
