"""A scheduler plugin that binds the pods of a group together or not at all. Rules SCHED-62 to
SCHED-64 (spec/scheduler_profiles.md).

A pod belongs to a group by two labels, its name and the number of pods that must have a node before
any of them is bound:

    pod-group.scheduling.sigs.k8s.io/name: training
    pod-group.scheduling.sigs.k8s.io/min-available: "3"

A package offers the plugin as an entry point, in its pyproject.toml:

    [project.entry-points."refk8s.scheduler_plugins"]
    Coscheduling = "coscheduling:Coscheduling"

and a profile in the file of `refk8s scheduler --config FILE` enables it:

    apiVersion: kubescheduler.config.k8s.io/v1
    kind: KubeSchedulerConfiguration
    profiles:
    - schedulerName: default-scheduler
      plugins:
        reserve: {enabled: [{name: Coscheduling}]}
        permit: {enabled: [{name: Coscheduling}]}
      pluginConfig:
      - name: Coscheduling
        args: {permitWaitingTimeSeconds: 60}

`refk8s explain pod NAME --config FILE` shows for which pods a pod waits.
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.context import SECOND
from refk8s.core.scheduler.plugin import Denied, Wait
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo, Snapshot

NAME_LABEL = "pod-group.scheduling.sigs.k8s.io/name"
MIN_LABEL = "pod-group.scheduling.sigs.k8s.io/min-available"


class Coscheduling:
    """Pure functions of their arguments: no clock, no random numbers, no I/O."""

    name = "Coscheduling"

    def __init__(self, args: Any) -> None:
        """`args`: those of the file; None without any."""
        self.timeout = int((args or {}).get("permitWaitingTimeSeconds", 60)) * SECOND

    def group(self, pod: PodInfo) -> tuple[str, str] | None:
        """The namespace and the name of the pod's group, if it has one."""
        name = pod.labels.get(NAME_LABEL)
        return (pod.namespace, name) if name else None

    def wanted(self, pod: PodInfo) -> str:
        """How many pods of the group must have a node, as its label says."""
        return pod.labels.get(MIN_LABEL, "")

    def permit(self, pod: PodInfo, node: NodeFacts, snapshot: Snapshot) -> Denied | Wait | None:
        """Approve the pod when enough pods of its group have a node. O(pods)."""
        group = self.group(pod)
        if group is None:
            return None
        wanted = self.wanted(pod)
        if not (wanted.isdecimal() and len(wanted) <= 9):
            return Denied(f"label {MIN_LABEL} is not a number")
        there = [
            other
            for load in snapshot.loads.values()
            for other in load.pods.values()
            if self.group(other) == group and not other.is_terminating
        ]
        if len(there) >= int(wanted):
            return None
        return Wait(f"{len(there)} of {wanted} pods of group {group[1]} have a node", self.timeout)

    def reserve(self, pod: PodInfo, node: NodeFacts, reserved: Mapping[str, Any]) -> None:
        """Nothing has to be kept for the pod: the snapshot has it on its node."""

    def unreserve(
        self, pod: PodInfo, node: str, waiting: Mapping[str, PodInfo]
    ) -> Mapping[str, str]:
        """Give up the pods of the group that wait, so that other pods can use their nodes."""
        group = self.group(pod)
        if group is None:
            return {}
        why = f"a pod of group {group[1]} gave up its node"
        return {key: why for key, other in waiting.items() if self.group(other) == group}
