"""A run as it is written down and shortened: actions, and stretches of which only the length is
said. Rule SIM-1 (spec/simulation.md).

Most of what happens in a run that breaks a rule happens as it would have anyway. A stretch of it is
said in one word, `Fairly`, so that what is left to read is what matters: what the user did, what
failed, and which deliveries came in an unusual order.
"""

from collections.abc import Iterator
from typing import TypeAlias

from refk8s.checking.simulator.ready import Ready
from refk8s.core.actions import Action
from refk8s.core.cluster.enabled import is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.value import Value


class Fairly(Value, frozen=True, order=True):
    """So many actions without a fault, in the fair order: all that is enabled happens before what
    it leads to."""

    count: int


Entry: TypeAlias = Action | Fairly


class Order:
    """The fair order, from any state on: `next_action` says what comes next in this state."""

    def __init__(self) -> None:
        self._round: Iterator[Action] = iter(())

    def next_action(self, cluster: Cluster, ready: Ready) -> Action | None:
        """None where nothing will ever happen again."""
        for action in self._round:
            if is_enabled(cluster, action):
                return action
        self._round = iter(ready.actions(cluster))
        return next(self._round, None)
