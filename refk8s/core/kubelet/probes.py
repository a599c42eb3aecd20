"""Probes: asking containers whether they have started, live, and are ready. Rules PROBE-1 ... PROBE-7 (spec/kubelet.md)."""

from refk8s.core.api.core_v1 import Container, LifecycleHandler, Pod
from refk8s.core.context import Instant
from refk8s.core.kubelet.memory import ContainerMemory, PodMemory
from refk8s.core.kubelet.sync import Sync
from refk8s.core.ports import ContainerStatus, Probe, Result, RunHook


def plan_probes(sync: Sync) -> None: ...


def is_failing(memory: ContainerMemory, kind: str) -> bool:
    probe = memory.probes.get(kind)
    return probe is not None and probe.result is False and memory.current is not None and probe.container_id == memory.current.id


def is_started(container: Container, memory: ContainerMemory) -> bool:
    """It runs, its postStart hook is over, and its startup probe (if any) has succeeded."""
    if not memory.running or memory.hook or memory.doing == "postStart":
        return False
    if container.startup_probe is None:
        return True
    probe = memory.probes.get("startup")
    return probe is not None and memory.current is not None and probe.container_id == memory.current.id and probe.result is True


def grace_seconds(pod: Pod, container: Container, why: str) -> int:
    seconds = pod.spec.termination_grace_period_seconds
    probe = {"liveness": container.liveness_probe, "startup": container.startup_probe}.get(why)
    if probe is not None and probe.termination_grace_period_seconds is not None:
        seconds = probe.termination_grace_period_seconds
    return max(30 if seconds is None else seconds, 1)


def compute_hook(container: Container, handler: LifecycleHandler, current: ContainerStatus, timeout_seconds: int) -> RunHook:
    return RunHook(current.pod_uid, current.id, "exec", timeout_seconds)


def is_ready(container: Container, memory: ContainerMemory) -> bool:
    """Its readiness probe (if any) has succeeded."""
    if container.readiness_probe is None:
        return memory.running
    probe = memory.probes.get("readiness")
    return probe is not None and memory.current is not None and probe.container_id == memory.current.id and probe.result is True


def probed(memory: PodMemory, operation: Probe, result: Result, now: Instant) -> PodMemory:
    return memory
