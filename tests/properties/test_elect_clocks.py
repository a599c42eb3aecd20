"""Leader election with clocks that run at different rates, late and lost messages, and pauses
(ELECT-5, ELECT-9 of spec/leader_election.md).

The cluster of test_elect.py has one time, so its clocks differ by offsets only. Here each instance
has a clock of its own rate, and every message takes a random time.
"""

import heapq
from random import Random
from typing import Any

from election_world import START, elector, new_cluster, stored_lease
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.core.api.resources import EVENTS, LEASES
from refk8s.core.cluster.step import submit
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.machine import Answered, Call, Effects, Event, WakeAt, Woken
from refk8s.core.value import evolve

SECONDS = 150


class Instance:
    """One instance: its machine, its state and its clock."""

    def __init__(self, number: int, rate: float, offset: Instant) -> None:
        self.machine = elector(f"host-{number}")
        self.rate, self.offset = rate, offset
        self.state: Any = None
        self.wakings = 0
        self.paused_until = 0

    def clock(self, real: Instant) -> Instant:
        return START + self.offset + int(real * self.rate)

    def real(self, own: Instant) -> Instant:
        return -int(-(own - START - self.offset) / self.rate) + 1


class World:
    """Some instances and one API server, in real time from 0."""

    def __init__(self, chance: Random, rates: list[float]) -> None:
        self.chance = chance
        self.cluster = new_cluster(0)
        self.now = 0
        self.wrong: list[str] = []
        self.changes = 0
        self.holder = ""
        self.faults = True
        self._queue: list[tuple[Instant, int, Any]] = []
        self._count = 0
        self.instances = [
            Instance(number, rate, chance.randrange(-1_000, 1_000) * SECOND)
            for number, rate in enumerate(rates)
        ]
        for instance in self.instances:
            own = instance.clock(0)
            instance.state, effects = instance.machine.start(own, chance.randbytes(8))
            self._carry_out(instance, effects)

    def run(self, seconds: int, faults: bool = True) -> "World":
        self.faults = faults
        end = self.now + seconds * SECOND
        while self._queue and self._queue[0][0] <= end:
            self.now, _, happening = heapq.heappop(self._queue)
            happening()
        self.now = end
        return self

    def _later(self, delay: Instant, happening: Any) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, happening))

    def _latency(self) -> Instant:
        if not self.faults:
            return self.chance.randrange(1, 20) * MILLISECOND
        return int(MILLISECOND * 8_000 ** self.chance.random())

    def _carry_out(self, instance: Instance, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Call):
                self._send(instance, effect)
            elif isinstance(effect, WakeAt):
                instance.wakings += 1
                if effect.at is not None:
                    self._wake(instance, effect.at, instance.wakings)

    def _wake(self, instance: Instance, at: Instant, number: int) -> None:
        delay = max(0, instance.real(at) - self.now)

        def happening() -> None:
            if number == instance.wakings:
                self._step(instance, Woken())

        self._later(delay, happening)

    def _send(self, instance: Instance, call: Call) -> None:
        if call.request.resource not in (LEASES, EVENTS):
            lease = stored_lease(self.cluster)
            holder = lease.spec.holder_identity if lease is not None else ""
            if holder != instance.state.identity:
                self.wrong.append(f"{instance.state.identity} acts, {holder} holds the Lease")

        def arrive() -> None:
            if self.faults and self.chance.random() < 0.1:
                self._later(5 * SECOND, lambda: self._step(instance, Answered(call.id, None)))
                return
            self.cluster, response = submit(self.cluster, call.request)
            self._count_changes()
            is_lost = self.faults and self.chance.random() < 0.1
            answer = Answered(call.id, None if is_lost else response)
            self._later(self._latency(), lambda: self._step(instance, answer))

        self._later(self._latency(), arrive)

    def _count_changes(self) -> None:
        lease = stored_lease(self.cluster)
        if lease is not None and lease.spec.holder_identity != self.holder:
            self.holder = lease.spec.holder_identity
            self.changes += 1

    def _step(self, instance: Instance, event: Event) -> None:
        """Handle the event, or keep it until the end of a pause."""
        if self.faults and self.chance.random() < 0.01:
            instance.paused_until = self.now + self.chance.randrange(30) * SECOND
        if instance.paused_until > self.now:
            delay = instance.paused_until - self.now
            self._later(delay, lambda: self._step(instance, event))
            return
        own = instance.clock(self.now)
        before = instance.state
        instance.state, effects = instance.machine.step(before, (event,), own)
        self._carry_out(instance, effects)


def world(seed: int, instances: int, ratio: float) -> World:
    """The fastest clock runs `ratio` times as fast as the slowest."""
    chance = Random(seed)
    rates = [1.0, ratio, *[chance.uniform(1.0, ratio) for _ in range(instances - 2)]]
    return World(chance, rates)


@given(st.integers(0, 2**32), st.integers(2, 4), st.floats(1.0, 1.49))
@settings(deadline=None, max_examples=30)
def test_elect_5_rates_up_to_one_and_a_half_never_have_two_leaders(seed, instances, ratio):
    found = world(seed, instances, ratio).run(SECONDS)
    assert not found.wrong, found.wrong[0]


def test_elect_5_sometimes_leaders_change_and_sometimes_greater_rates_have_two():
    changes, wrong = 0, 0
    for seed in range(30):
        changes += world(seed, 3, 1.4).run(SECONDS).changes
        wrong += bool(world(seed, 3, 3.0).run(SECONDS).wrong)
    assert changes > 30 and wrong > 0


@given(st.integers(0, 2**32), st.integers(2, 4), st.floats(1.0, 1.49))
@settings(deadline=None, max_examples=15)
def test_elect_9_after_faults_one_leads_whatever_the_rates(seed, instances, ratio):
    found = world(seed, instances, ratio).run(SECONDS).run(80, faults=False)
    leading = [each.state.identity for each in found.instances if each.state.leading is not None]
    assert leading == [stored_lease(found.cluster).spec.holder_identity]


def test_elect_9_a_killed_leader_is_replaced_within_the_bound():
    """One lease duration and 2.2 retry periods, and the time of the messages."""
    for seed in range(10):
        found = world(seed, 3, 1.0).run(30, faults=False)
        [leader] = [each for each in found.instances if each.state.leading is not None]
        renewed = found.now
        leader.state = evolve(leader.state, leading=None, sent=None)
        leader.paused_until = 10**15
        before, begin = found.holder, found.now
        while found.holder == before:
            found.run(1, faults=False)
            assert found.now <= begin + 21 * SECOND
        assert found.now >= renewed + 12 * SECOND
