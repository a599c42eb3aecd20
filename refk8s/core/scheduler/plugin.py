"""The interface of scheduler plugins of other packages. Rule SCHED-56 (spec/scheduler_profiles.md).

A package offers a plugin as an entry point of the group `refk8s.scheduler_plugins`; the
configuration file of the scheduler enables it by the name of the entry point. A plugin is an object
with the methods below. They are pure functions of their arguments: no clock, no random numbers, no
I/O, because a decision may be repeated and must be the same (SCHED-29). See
examples/scheduler_plugin.py.
"""

from collections.abc import Mapping
from typing import Protocol

from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts, PodInfo

GROUP = "refk8s.scheduler_plugins"
POINTS_MIN, POINTS_MAX = 0, 100


class Plugin(Protocol):
    """A plugin. `name` is the one in the configuration file."""

    name: str

    def filter(self, pod: PodInfo, node: NodeFacts, load: Load) -> str:
        """Why the node cannot run the pod, as part of the message of FailedScheduling; empty if it
        can. `load`: the pods of the node and the sums of their requests."""

    def score(self, pod: PodInfo, node: NodeFacts, load: Load) -> int:
        """How well the node is suited: any number; `normalize` scales it."""

    def normalize(self, scores: Mapping[str, int]) -> Mapping[str, int]:
        """The points of each node, 0 to 100, from the scores of all nodes that can run the pod."""


class BadPoints(Exception):
    """A plugin gave points that are not a number from 0 to 100."""


def refusal_of(plugin: Plugin, pod: PodInfo, node: NodeFacts, load: Load) -> Refusal | None:
    """The refusal of the plugin for this node; the deletion of pods may help."""
    message = plugin.filter(pod, node, load)
    return Refusal(plugin.name, (message,), resolvable=True) if message else None


def points_of(
    plugin: Plugin, pod: PodInfo, nodes: Mapping[str, tuple[NodeFacts, Load]]
) -> dict[str, int]:
    """The points of the plugin for each node. Raises BadPoints. O(nodes)."""
    found = dict(
        plugin.normalize(
            {name: plugin.score(pod, facts, load) for name, (facts, load) in nodes.items()}
        )
    )
    for name in nodes:
        points = found.get(name)
        if not isinstance(points, int) or not POINTS_MIN <= points <= POINTS_MAX:
            raise BadPoints(
                f"plugin {plugin.name!r} returns an invalid score {points!r} for node {name}, it "
                f"should in the range of [{POINTS_MIN}, {POINTS_MAX}] after normalizing"
            )
    return found
