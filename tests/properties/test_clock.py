"""The clock of a process (spec/host.md, HOST-15)."""

from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.clock import Clock
from refk8s.core.context import SECOND

START = 1_790_000_000 * SECOND

steps = st.lists(
    st.tuples(st.integers(0, 100 * SECOND), st.just(0) | st.integers(-4_000 * SECOND, 60 * SECOND)),
    max_size=30,
)


class System:
    """The time since boot and the system clock, in microseconds."""

    def __init__(self) -> None:
        self.elapsed, self.offset = 0, START
        self.clock = Clock(lambda: 1000 * self.wall, lambda: 1000 * self.elapsed)

    @property
    def wall(self) -> int:
        return self.elapsed + self.offset

    def now(self) -> int:
        return self.clock.now()


@given(steps)
def test_host_15_the_clock_never_goes_back_and_never_stands_still(changes):
    system = System()
    last = system.now()
    assert last == START
    for passed, moved in changes:
        system.elapsed += passed
        system.offset += moved
        now = system.now()
        assert now >= last + passed * 9 // 10 - 1
        assert now <= max(system.wall, last + passed)
        assert now >= system.wall
        last = now


@given(steps)
def test_host_15_it_shows_the_system_clock_again_when_that_has_caught_up(changes):
    system = System()
    for passed, moved in changes:
        system.elapsed += passed
        system.offset += moved
        ahead = system.now() - system.wall
    ahead = system.now() - system.wall
    system.elapsed += 10 * ahead + 10
    assert system.now() == system.wall


@given(st.lists(st.integers(0, 3), min_size=50, max_size=200))
def test_host_15_reading_it_often_does_not_make_it_slower(gaps):
    """A reading after every microsecond, after the system clock was set back."""
    system = System()
    system.now()
    system.offset -= 3_600 * SECOND
    for gap in gaps:
        system.elapsed += gap
        system.now()
    assert system.now() == START + sum(gaps) * 9 // 10
