"""What plugins of other packages reserve for pods that have a node and are not bound yet. Rule
SCHED-62 (spec/scheduler_profiles.md).

A reservation is a value that the scheduler keeps with its decision. It is dropped together with the
decision, so none remains of a pod that goes back to the queue.
"""

from typing import Any

from immutables import Map

from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.plugin import Denied
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo

Reserved = Map[tuple[str, str], Map[Key, Any]]
"""By the name of the profile and of the plugin, the value for each pod."""

NOTHING_RESERVED: Reserved = Map()
_NO_VALUES: Map[Key, Any] = Map()


def reserve(
    profile: Profile, key: Key, pod: PodInfo, node: NodeFacts, reserved: Reserved
) -> Reserved | Refusal:
    """The reservations with those of the pod; or the refusal of a plugin, and then none of the pod
    are kept."""
    for plugin in profile.plugins.reserve:
        place = (profile.scheduler_name, plugin.name)
        others = reserved.get(place, _NO_VALUES)
        value = plugin.reserve(pod, node, others)
        if isinstance(value, Denied):
            return Refusal(plugin.name, (value.reason,), resolvable=False)
        reserved = reserved.set(place, others.set(key, value))
    return reserved


def without(reserved: Reserved, key: Key) -> Reserved:
    """The reservations without those of the pod. O(plugins)."""
    for place, values in reserved.items():
        if key in values:
            rest = values.delete(key)
            reserved = reserved.set(place, rest) if len(rest) else reserved.delete(place)
    return reserved
