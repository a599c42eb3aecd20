"""The queue: which pods are to be tried, in which order, and when again. Rules SCHED-18 to SCHED-21 (spec/scheduler.md).

| a pod is | since | leaves when |
|---|---|---|
| active | it came, or its spec changed, or its assignment failed | it is tried, not before its back-off is over |
| parked | no node would take it | some node would take its kind, or it has been parked for five minutes |

Source: Kubernetes documentation, "Pod Priority and Preemption" (effect of pod priority on scheduling order), "Scheduling Framework"
(queue sort); the kube-scheduler reference for the back-off (1 s to 10 s) and the flush of five minutes.
"""

from collections.abc import Callable

from attrs import evolve, field, frozen
from immutables import Map

from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.needs import Needs

BACKOFF_FIRST: Instant = SECOND
BACKOFF_MAX: Instant = 10 * SECOND
PARKED_MAX: Instant = 5 * MINUTE


@frozen(eq=False)
class Waiting:
    """A pod that waits for a node. `number` counts arrivals; `parked_at` None: active."""

    key: Key
    uid: str
    priority: int
    number: int
    needs: Needs
    attempts: int = 0
    not_before: Instant = 0
    parked_at: Instant | None = None
    message: str = ""  # why it was refused last

    @property
    def rank(self) -> tuple[int, int]:
        """SCHED-18: the higher priority first, then who came first."""
        return -self.priority, self.number

    def after_attempt(self, now: Instant) -> "Waiting":
        """SCHED-20: not again before 1 s has passed, doubling with every attempt, at most 10 s."""
        delay = min(BACKOFF_FIRST << min(self.attempts, 20), BACKOFF_MAX)
        return evolve(self, attempts=self.attempts + 1, not_before=now + delay)


@frozen(eq=False)
class Queue:
    """All pods that wait. A value."""

    pods: Map[Key, Waiting] = field(factory=Map)
    active: Map[Key, None] = field(factory=Map)
    parked: Map[bytes, Map[Key, None]] = field(factory=Map)  # by kind: Needs.key
    arrivals: int = 0
    alarm: Instant | None = None  # at or before the first instant at which a parked pod has been parked for too long

    def admit(self, key: Key, uid: str, priority: int, needs: Needs) -> "Queue":
        """A pod comes, or comes anew because it changed: active, at the end of its priority."""
        waiting = Waiting(key, uid, priority, self.arrivals + 1, needs)
        return evolve(self.drop(key).put(waiting), arrivals=self.arrivals + 1)

    def put(self, waiting: Waiting) -> "Queue":
        """The pod is active."""
        waiting = evolve(waiting, parked_at=None)
        queue = self.drop(waiting.key)
        return evolve(queue, pods=queue.pods.set(waiting.key, waiting), active=queue.active.set(waiting.key, None))

    def park(self, waiting: Waiting, message: str, now: Instant) -> "Queue":
        """No node would take the pod (SCHED-19)."""
        waiting = evolve(waiting.after_attempt(now), parked_at=now, message=message)
        queue = self.drop(waiting.key)
        kind = waiting.needs.key
        parked = queue.parked.set(kind, queue.parked.get(kind, _NO_KEYS).set(waiting.key, None))
        alarm = now + PARKED_MAX if queue.alarm is None else min(queue.alarm, now + PARKED_MAX)
        return evolve(queue, pods=queue.pods.set(waiting.key, waiting), parked=parked, alarm=alarm)

    def drop(self, key: Key) -> "Queue":
        """The pod waits no more."""
        waiting = self.pods.get(key)
        if waiting is None:
            return self
        active, parked = self.active, self.parked
        if waiting.parked_at is None:
            active = active.delete(key)
        else:
            kind = waiting.needs.key
            rest = parked[kind].delete(key)
            parked = parked.set(kind, rest) if len(rest) else parked.delete(kind)
        return evolve(self, pods=self.pods.delete(key), active=active, parked=parked)

    def flush(self, now: Instant) -> "Queue":
        """SCHED-21: what has been parked for five minutes is active again. O(1) until then."""
        if self.alarm is None or now < self.alarm:
            return self
        queue, alarm = evolve(self, alarm=None), None
        for kind in sorted(self.parked):
            for key in sorted(self.parked[kind]):
                waiting = self.pods[key]
                until = (waiting.parked_at or 0) + PARKED_MAX
                if until <= now:
                    queue = queue.put(waiting)
                else:
                    alarm = until if alarm is None else min(alarm, until)
        return evolve(queue, alarm=alarm)

    def ready(self, now: Instant, is_welcome: Callable[[Needs], bool]) -> tuple[list[Waiting], Instant | None]:
        """The pods to try now, in order (SCHED-18), and the instant at which the next one's back-off is over.

        Parked pods are among them when their kind is welcome somewhere (SCHED-19). O(active + kinds + welcome).
        """
        keys = list(self.active)
        for kind in sorted(self.parked):
            among = self.parked[kind]
            if is_welcome(self.pods[next(iter(among))].needs):
                keys += among
        found = [self.pods[key] for key in keys]
        later = [waiting.not_before for waiting in found if waiting.not_before > now]
        ready = sorted((waiting for waiting in found if waiting.not_before <= now), key=lambda waiting: waiting.rank)
        return ready, min(later, default=None)


_NO_KEYS: Map[Key, None] = Map()
EMPTY = Queue()
