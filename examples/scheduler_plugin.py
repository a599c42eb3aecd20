"""A scheduler plugin: pods with the label `team` run only on nodes with the same label, and nodes
with fewer pods are preferred. Rule SCHED-56 (spec/scheduler_profiles.md).

A package offers it as an entry point, in its pyproject.toml:

    [project.entry-points."refk8s.scheduler_plugins"]
    Team = "scheduler_plugin:Team"

and a profile in the file of `refk8s scheduler --config FILE` enables it:

    apiVersion: kubescheduler.config.k8s.io/v1
    kind: KubeSchedulerConfiguration
    profiles:
    - schedulerName: default-scheduler
      plugins:
        multiPoint: {enabled: [{name: Team, weight: 3}]}
      pluginConfig:
      - name: Team
        args: {label: team}

`refk8s explain pod NAME --config FILE` shows what it says about each node.
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.scheduler.snapshot import Load, NodeFacts, PodInfo


class Team:
    """Pure functions of their arguments: no clock, no random numbers, no I/O."""

    name = "Team"

    def __init__(self, args: Any) -> None:
        """`args`: those of the file; None without any."""
        self.label = (args or {}).get("label", "team")

    def filter(self, pod: PodInfo, node: NodeFacts, load: Load) -> str:
        """Why the node cannot run the pod; empty if it can."""
        team = pod.labels.get(self.label)
        if team is None or node.labels.get(self.label) == team:
            return ""
        return "node(s) of another team"

    def score(self, pod: PodInfo, node: NodeFacts, load: Load) -> int:
        """Any number: here the number of pods on the node."""
        return len(load.pods)

    def normalize(self, scores: Mapping[str, int]) -> Mapping[str, int]:
        """Points from 0 to 100: 100 for the node with the fewest pods, 0 for the one with most."""
        least, most = min(scores.values()), max(scores.values())
        if least == most:
            return dict.fromkeys(scores, 0)
        return {name: 100 * (most - count) // (most - least) for name, count in scores.items()}
