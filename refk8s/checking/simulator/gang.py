"""A plugin of simulated runs that binds the pods of a group together. Rules SCHED-62 to SCHED-64
(spec/scheduler_profiles.md).

A pod waits on its node until as many pods of its group have a node as its label says. When one of
them gives up its node, the others that wait give up theirs.
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.context import SECOND
from refk8s.core.scheduler.plugin import ExternalPlugins, Wait
from refk8s.core.scheduler.profile import Profile, make_profile
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo, Snapshot

GROUP, SIZE = "gang", "gang-size"
"""The labels of a pod: the name of its group, and how many of its pods are bound together."""
TIMEOUT_SECONDS = 60


class Gang:
    """Extension points `reserve` and `permit`."""

    name = "Gang"

    def permit(self, pod: PodInfo, node: NodeFacts, snapshot: Snapshot) -> Wait | None:
        """O(pods) for a pod of a group."""
        if GROUP not in pod.labels:
            return None
        there = sum(
            _is_together(pod, other)
            for load in snapshot.loads.values()
            for other in load.pods.values()
            if not other.is_terminating
        )
        size = int(pod.labels[SIZE])
        if there >= size:
            return None
        return Wait(f"{there} of {size} pods have a node", TIMEOUT_SECONDS * SECOND)

    def reserve(self, pod: PodInfo, node: NodeFacts, reserved: Mapping[str, Any]) -> None:
        """The snapshot has the pod on its node: nothing more is kept."""

    def unreserve(
        self, pod: PodInfo, node: str, waiting: Mapping[str, PodInfo]
    ) -> Mapping[str, str]:
        """The others that wait go back to the queue."""
        return {
            key: "a pod of its group gave up its node"
            for key, other in waiting.items()
            if _is_together(pod, other)
        }


def _is_together(pod: PodInfo, other: PodInfo) -> bool:
    group = pod.labels.get(GROUP)
    return group is not None and (pod.namespace, group) == (
        other.namespace,
        other.labels.get(GROUP),
    )


def profile() -> Profile:
    """The default profile with the plugin."""
    gang = Gang()
    return make_profile(plugins=ExternalPlugins(reserve=(gang,), permit=(gang,)))
