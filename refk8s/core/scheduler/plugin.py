"""The interface of scheduler plugins of other packages. Rules SCHED-56, SCHED-62 to SCHED-66
(spec/scheduler_profiles.md).

A package offers a plugin as an entry point of the group `refk8s.scheduler_plugins`; the
configuration file of the scheduler enables it by the name of the entry point. A plugin is an object
with the methods of one or more of the protocols below. They are pure functions of their arguments:
no clock, no random numbers, no I/O, because a decision may be repeated and must be the same
(SCHED-29). What a plugin reserves, and how long a pod waits, is state of the scheduler.
See examples/scheduler_plugin.py and examples/coscheduling.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request
from refk8s.core.context import MINUTE, Instant
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import View
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts, PodInfo, Snapshot
from refk8s.core.value import Value

GROUP = "refk8s.scheduler_plugins"
POINTS_MIN, POINTS_MAX = 0, 100
WAIT_MAX: Instant = 15 * MINUTE
"""A pod waits at most so long for one plugin (SCHED-63)."""


class Denied(Value, frozen=True):
    """The plugin does not let the pod run on the node; the reason is a part of the message of
    FailedScheduling."""

    reason: str


class Wait(Value, frozen=True):
    """The pod waits on its node until the plugin approves or denies it, or for the timeout in
    microseconds."""

    reason: str
    timeout: Instant


class Plugin(Protocol):
    """A plugin. `name` is the one in the configuration file."""

    name: str


class FilterPlugin(Plugin, Protocol):
    """Extension point `filter`."""

    def filter(self, pod: PodInfo, node: NodeFacts, load: Load) -> str:
        """Why the node cannot run the pod, as part of the message of FailedScheduling; empty if it
        can. `load`: the pods of the node and the sums of their requests."""


class ScorePlugin(Plugin, Protocol):
    """Extension point `score`."""

    def score(self, pod: PodInfo, node: NodeFacts, load: Load) -> int:
        """How well the node is suited: any number; `normalize` scales it."""

    def normalize(self, scores: Mapping[str, int]) -> Mapping[str, int]:
        """The points of each node, 0 to 100, from the scores of all nodes that can run the pod."""


class ReservePlugin(Plugin, Protocol):
    """Extension point `reserve`."""

    def reserve(self, pod: PodInfo, node: NodeFacts, reserved: Mapping[Key, Any]) -> Any:
        """The value to keep for the pod until it is bound or goes back to the queue, or Denied.
        `reserved`: the values that this plugin has returned for other pods."""

    def unreserve(
        self, pod: PodInfo, node: str, waiting: Mapping[Key, PodInfo]
    ) -> Mapping[Key, str]:
        """The pod is not bound to the node after all, and its value is dropped. Returns those of
        the waiting pods that are rejected with it, with the reason."""


class PermitPlugin(Plugin, Protocol):
    """Extension point `permit`."""

    def permit(self, pod: PodInfo, node: NodeFacts, snapshot: Snapshot) -> Denied | Wait | None:
        """Whether the pod may be bound to the node; None approves. `snapshot`: all nodes and their
        pods, with this pod and all others that have a node and are not bound yet. It is asked again
        after changes of pods and nodes, until it approves or denies."""


class PreBindPlugin(Plugin, Protocol):
    """Extension point `preBind`."""

    def pre_bind(self, pod: Pod, node: str, view: View) -> Sequence[Request]:
        """The requests that are to succeed before the pod is bound and that have not been sent, by
        what the view shows; empty if the pod can be bound."""


class BindPlugin(Plugin, Protocol):
    """Extension point `bind`."""

    def bind(self, pod: Pod, node: str) -> Request | None:
        """The request that creates the Binding of the pod to the node; None leaves it to the next
        plugin."""


class PostBindPlugin(Plugin, Protocol):
    """Extension point `postBind`."""

    def post_bind(self, pod: Pod, node: str) -> Sequence[Request]:
        """Requests to send after the pod was bound; a refused one is not sent again."""


POINTS = ("filter", "score", "reserve", "permit", "pre_bind", "bind", "post_bind")
"""The extension points of plugins of other packages: the names of their methods."""


class ExternalPlugins(Value, frozen=True):
    """The plugins of other packages of a profile, by extension point, in the order in which they
    are called."""

    filter: tuple[FilterPlugin, ...] = ()
    score: tuple[ScorePlugin, ...] = ()
    reserve: tuple[ReservePlugin, ...] = ()
    permit: tuple[PermitPlugin, ...] = ()
    pre_bind: tuple[PreBindPlugin, ...] = ()
    bind: tuple[BindPlugin, ...] = ()  # those before DefaultBinder
    has_default_binder: bool = True
    post_bind: tuple[PostBindPlugin, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether the choice of a node depends on them."""
        return bool(self.filter or self.score)


NO_PLUGINS = ExternalPlugins()


def implemented_by(plugin: Plugin) -> tuple[str, ...]:
    """The extension points of which the plugin has the method."""
    return tuple([point for point in POINTS if callable(getattr(plugin, point, None))])


class BadPoints(Exception):
    """A plugin gave points that are not a number from 0 to 100."""


def refusal_of(plugin: FilterPlugin, pod: PodInfo, node: NodeFacts, load: Load) -> Refusal | None:
    """The refusal of the plugin for this node; the deletion of pods may help."""
    message = plugin.filter(pod, node, load)
    return Refusal(plugin.name, (message,), resolvable=True) if message else None


def points_of(
    plugin: ScorePlugin, pod: PodInfo, nodes: Mapping[str, tuple[NodeFacts, Load]]
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
