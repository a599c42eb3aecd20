"""Scripts of runs: single actions, and stretches in the fair order with their length.

Rule SIM-1 (spec/simulation.md). Most actions of a run that breaks a rule are in the fair order. A
stretch of them is one entry, `Fairly`. The other entries are those that matter to a reader: the
user's requests, the faults, and deliveries in an unusual order.
"""

from collections.abc import Iterator
from typing import TypeAlias

from refk8s.checking.simulator.ready import Ready
from refk8s.core.actions import Action
from refk8s.core.cluster.enabled import is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.value import Value


class Fairly(Value, frozen=True, order=True):
    """A number of actions without a fault, in the fair order.

    In the fair order, all enabled actions are taken before those that they enable.
    """

    count: int


Entry: TypeAlias = Action | Fairly


class Order:
    """The fair order, from any state: `next_action` selects the next action."""

    def __init__(self) -> None:
        self._round: Iterator[Action] = iter(())

    def next_action(self, cluster: Cluster, ready: Ready) -> Action | None:
        """The next action; None if no action will ever be enabled again."""
        for action in self._round:
            if is_enabled(cluster, action):
                return action
        self._round = iter(ready.actions(cluster))
        return next(self._round, None)
