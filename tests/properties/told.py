"""A run of a whole cluster that tells itself when something is wrong: its story, a file with it,
and the command that replays it."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refk8s.checking import actions_file
from refk8s.checking.simulator.script import Order
from refk8s.checking.simulator.simulate import Run, Setup
from refk8s.checking.story import story_of
from refk8s.core.actions import Action, Elapse
from refk8s.core.cluster.state import Cluster
from refk8s.core.context import SECOND

STORY_LINES = 25


class Life:
    """A cluster and all that has happened to it. A value's past is kept: `fork` goes on from here,
    and this one stays what it is."""

    def __init__(self, setup: Setup, run: Run | None = None) -> None:
        self.run = run or Run(setup, setup.first_cluster())

    def fork(self) -> "Life":
        return Life(self.run.setup, Run(self.run.setup, self.run.cluster, list(self.run.actions)))

    @property
    def cluster(self) -> Cluster:
        return self.run.cluster

    def take(self, action: Action, check: Callable[[Cluster, Cluster], Iterable[str]]) -> None:
        """One step, judged by all laws (refk8s/core/properties/laws/) and by `check`."""
        before = self.cluster
        self.run.take(action)
        wrong = [*map(str, self.run.broken), *check(before, self.cluster)]
        assert not wrong, wrong[0]

    def settle(
        self, check: Callable[[Cluster, Cluster], Iterable[str]], steps_max: int, seconds_max: int
    ) -> None:
        """Go on fairly and without faults until nothing but time is left for so many virtual
        seconds."""
        end, order, steps = self.cluster.now + seconds_max * SECOND, Order(), 0
        while (action := order.next_action(self.cluster, self.run.ready)) is not None:
            if isinstance(action, Elapse) and action.to > end:
                return
            self.take(action, check)
            steps += 1
            assert steps < steps_max, f"not quiet after {steps_max} steps"

    @contextmanager
    def told(self) -> Iterator[None]:
        """What is asserted here and does not hold is told."""
        try:
            yield
        except AssertionError as error:
            words = str(error).splitlines()[0] if str(error) else "something is wrong"
            path = Path(tempfile.gettempdir()) / f"refk8s-{self.run.digest.hexdigest()[:8]}.run"
            actions_file.write(path, self.run.setup, self.run.actions, words)
            story = story_of(self.run.setup.first_cluster(), self.run.actions, self.run.broken)
            lines = "\n".join(story[-STORY_LINES:])
            raise AssertionError(
                f"{words}\n{lines}\nreplay it:  refk8s sim --replay {path}"
            ) from error
