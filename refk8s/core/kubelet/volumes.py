"""Volumes."""

from refk8s.core.api.core_v1 import Pod
from refk8s.core.kubelet.sync import Sync


def plan_volumes(sync: Sync, pod: Pod) -> bool:
    return not pod.spec.volumes
