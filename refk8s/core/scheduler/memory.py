"""The scheduler's memory: the queue, the decisions and the assumed pods. Rules SCHED-4, SCHED-22,
SCHED-37 (spec/scheduler.md).

It is lost in a crash, and rebuilt from a list of pods and nodes.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from immutables import Map

from refk8s.core.context import Instant
from refk8s.core.loop.plan import Key
from refk8s.core.ports import Operation, Result
from refk8s.core.scheduler.nominated import Nomination
from refk8s.core.scheduler.queue import EMPTY as EMPTY_QUEUE
from refk8s.core.scheduler.queue import Queue, Waiting
from refk8s.core.scheduler.reservations import NOTHING_RESERVED, Reserved, without
from refk8s.core.scheduler.snapshot import EMPTY, Change, PodInfo, Snapshot
from refk8s.core.value import Value, evolve, field

if TYPE_CHECKING:
    from refk8s.core.scheduler.consult import Question


class Decision(Value, frozen=True, eq=False):
    """The node chosen for a pod. The pod is assumed there until the outcome is seen (SCHED-22)."""

    waiting: Waiting
    node: str
    truth: Change | None  # the last change of the truth when it was decided
    sent: bool = False
    since: Instant = 0  # when the first write for its volumes was sent
    reply: Result | None = None  # of the extender that binds the pod (SCHED-61)
    replied_at: Instant = 0
    allocated: tuple[Any, ...] = ()  # the allocations of its claims for devices (DRA-8)
    waits: bool = False  # whether an Event says that its devices are not ready (DRA-19)
    permitted: bool = True  # whether all plugins have approved that it is bound (SCHED-63)
    reserves: bool = False  # whether plugins may have reserved something for it (SCHED-62)

    @property
    def pod(self) -> PodInfo:
        return self.waiting.pod


class Waits(Value, frozen=True):
    """A pod waits for a plugin: why, until when at most, and for how long that is."""

    reason: str
    until: Instant
    timeout: Instant


class Permits(Value, frozen=True):
    """Which plugins have approved a pod that is not permitted yet, and for which it waits
    (SCHED-63)."""

    approved: tuple[str, ...] = ()
    waits: Mapping[str, Waits] = field(default_factory=dict)


NOT_ASKED = Permits()


class Memory(Value, frozen=True, eq=False):
    """The scheduler's memory."""

    queue: Queue = EMPTY_QUEUE
    decisions: Map[Key, Decision] = field(default_factory=Map)
    assumed: Map[str, Map[str, PodInfo]] = field(default_factory=Map)  # node -> uid -> pod
    working: Snapshot = EMPTY
    truth: Change | None = None  # the last change of the truth that `working` includes
    # nodes whose assumed pods have changed since
    touched: Map[str, None] = field(default_factory=Map)
    # pods that wait until their victims have ended
    nominations: Map[Key, Nomination] = field(default_factory=Map)
    # the allocations of devices that are decided, by claim (DRA-8)
    in_flight: Map[Key, Any] = field(default_factory=Map)
    question: "Question | None" = None  # what extenders are asked (SCHED-57)
    reserved: Reserved = NOTHING_RESERVED  # by plugins of other packages (SCHED-62)
    waits: Map[Key, Permits] = field(default_factory=Map)  # decided pods that are not permitted
    # pods that were not bound to these nodes, of which plugins are not told yet (SCHED-62)
    released: tuple[tuple[PodInfo, str], ...] = ()

    def assume(
        self,
        decided: Iterable[Decision],
        queue: Queue,
        working: Snapshot,
        nominated: Mapping[Key, Nomination],
        in_flight: Map[Key, Any],
        reserved: Reserved,
        released: Iterable[tuple[PodInfo, str]],
    ) -> "Memory":
        """The memory after a batch of decisions; the decided pods are in `working` already."""
        decisions, assumed = self.decisions.mutate(), self.assumed.mutate()
        waits = self.waits.mutate()
        for decision in decided:
            decisions[decision.waiting.key] = decision
            assumed[decision.node] = assumed.get(decision.node, _NO_PODS).set(
                decision.pod.uid, decision.pod
            )
            if not decision.permitted:
                waits[decision.waiting.key] = NOT_ASKED
        nominations = Map(nominated) if nominated or len(self.nominations) else self.nominations
        return Memory(
            queue,
            decisions.finish(),
            assumed.finish(),
            working,
            self.truth,
            self.touched,
            nominations,
            in_flight,
            self.question,
            reserved,
            waits.finish(),
            (*self.released, *released),
        )

    def with_result(self, key: Key, operation: Operation, result: Result, now: Instant) -> "Memory":
        """The memory with what an extender has answered: to a question, or about the binding of the
        pod with this key."""
        decision = self.decisions.get(key)
        if decision is not None and decision.sent:
            decision = evolve(decision, reply=result, replied_at=now)
            return evolve(self, decisions=self.decisions.set(key, decision))
        if self.question is None:
            return self
        return evolve(self, question=self.question.with_result(operation, result))

    def with_queue(self, queue: Queue) -> "Memory":
        return evolve(self, queue=queue)

    def nominate(self, key: Key, nomination: Nomination | None) -> "Memory":
        """Set the nomination of the pod; None removes it."""
        if nomination is not None:
            return evolve(self, nominations=self.nominations.set(key, nomination))
        return (
            evolve(self, nominations=self.nominations.delete(key))
            if key in self.nominations
            else self
        )

    def settle(self, key: Key, *, is_bound: bool = False) -> "Memory":
        """The pod is no longer assumed: its outcome has been seen (SCHED-22), or it goes back to
        the queue. Nothing stays reserved for it (SCHED-62)."""
        decision = self.decisions[key]
        rest = self.assumed[decision.node].delete(decision.pod.uid)
        assumed = (
            self.assumed.set(decision.node, rest)
            if len(rest)
            else self.assumed.delete(decision.node)
        )
        touched = self.touched.set(decision.node, None)
        in_flight: Any = self.in_flight
        for one in decision.allocated:
            if in_flight.get(one.claim) is one:
                in_flight = in_flight.delete(one.claim)
        released = self.released
        if decision.reserves and not is_bound:
            released = (*released, (decision.pod, decision.node))
        return evolve(
            self,
            decisions=self.decisions.delete(key),
            assumed=assumed,
            touched=touched,
            in_flight=in_flight,
            reserved=without(self.reserved, key) if decision.reserves else self.reserved,
            waits=self.waits.delete(key) if key in self.waits else self.waits,
            released=released,
        )


_NO_PODS: Map[str, PodInfo] = Map()
_NOT_TOUCHED: Map[str, None] = Map()


def catch_up(memory: Memory, truth: Snapshot) -> Memory:
    """Update the working snapshot: the truth, and the assumed pods that it does not show yet
    (SCHED-4, SCHED-22). O(changed)."""
    changed = truth.changed_since(memory.truth)
    if changed is None:
        changed = [*truth.nodes, *truth.loads, *memory.working.nodes, *memory.working.loads]
    if not changed and not len(memory.touched):
        return memory
    working = memory.working
    for name in sorted({*changed, *memory.touched}):
        working = working.with_node(name, truth.nodes.get(name))
        load = truth.load(name)
        for uid, pod in memory.assumed.get(name, _NO_PODS).items():
            if uid not in load.pods:
                load = load.plus(pod)
        if load is not working.load(name):
            working = working.with_load(name, load)
    return evolve(memory, working=working, truth=truth.last_change, touched=_NOT_TOUCHED)
