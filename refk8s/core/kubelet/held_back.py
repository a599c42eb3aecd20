"""How long the status of a pod is held back. Rule KUBELET-31 (spec/kubelet.md).

The status of a pod that starts or ends changes again soon, so one write replaces several.
"""

from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import Instant
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import PodMemory


def held_back_until(config: KubeletConfig, pod: Pod, memory: PodMemory) -> Instant:
    """The instant from which the status may be written; 0 if it is not held back."""
    wait = config.status_held_back
    if pod.status.start_time is None and is_starting(pod, memory):
        return memory.seen_at + wait
    if memory.ending == "deleted" and not memory.removed:
        return memory.ending_at + wait
    return memory.busy_since + wait if memory.busy_since else 0


def is_starting(pod: Pod, memory: PodMemory) -> bool:
    """A container of the pod is still to be created, and nothing has failed so far."""
    if memory.ended or memory.rejected is not None:
        return False
    for container in pod.spec.containers:
        held = memory.container(container.name)
        if held.operation or (not held.running and not held.reason):
            return True
    return memory.sandbox is None
