"""Startup, liveness and readiness probes of containers. Rules PROBE-1 ... PROBE-8
(spec/kubelet.md).

| probe | runs while | without a result | after a failure |
|---|---|---|---|
| startup | it has not succeeded | not started: the other two wait | the container is stopped and restarted |
| liveness | the pod is not ending | alive | the container is stopped and restarted |
| readiness | the container runs | not ready | not ready |

A probe fails or succeeds after `failureThreshold` or `successThreshold` equal results in a row; its
result applies to one attempt of the container. Source: Kubernetes documentation, "Configure
Liveness, Readiness and Startup Probes"; "Pod Lifecycle" (container probes, lifecycle hooks). Left
out: the random delay of the first probe, with which upstream spreads the load after a restart of
the kubelet.
"""

from msgspec.structs import replace

from refk8s.core.api import core_v1
from refk8s.core.api.core_v1 import Container, HTTPGetAction, LifecycleHandler, Pod
from refk8s.core.api.integer import int64
from refk8s.core.context import SECOND, Instant
from refk8s.core.kubelet.draft import Draft, bounded_grace
from refk8s.core.kubelet.memory import ContainerMemory, Note, PodMemory, ProbeMemory
from refk8s.core.pods.containers import field_path, find_container, is_sidecar
from refk8s.core.ports import ContainerStatus, Probe, Probed, Result, RunHook
from refk8s.core.value import evolve

STARTUP, LIVENESS, READINESS = "startup", "liveness", "readiness"


Probes = tuple[tuple[str, core_v1.Probe], ...]


def probes_of(container: Container) -> Probes:
    """(kind, probe) of each probe that the container has."""
    startup, liveness, readiness = (
        container.startup_probe,
        container.liveness_probe,
        container.readiness_probe,
    )
    if startup is None and liveness is None and readiness is None:
        return ()
    found = ((STARTUP, startup), (LIVENESS, liveness), (READINESS, readiness))
    return tuple([(kind, probe) for kind, probe in found if probe is not None])


def plan_probes(draft: Draft) -> None:
    """Run the due probes, and reconcile again for the next (PROBE-1, PROBE-2). O(containers)."""
    pod = draft.pod
    if pod is None:
        return
    for container in pod.spec.containers:
        if found := probes_of(container):
            plan_container_probes(draft, container, found)
    for container in pod.spec.init_containers or ():
        if is_sidecar(container) and (found := probes_of(container)):
            plan_container_probes(draft, container, found)


def plan_container_probes(draft: Draft, container: Container, found: Probes) -> None:
    """Run those of the container's probes that are due."""
    memory = draft.memory.container(container.name)
    current = memory.current
    if current is None or not memory.running:
        return
    started = is_started(container, memory)
    held = dict(memory.probes)
    for kind, probe in found:
        state = held.get(kind)
        # PROBE-3: results apply only to the attempt that was probed
        if state is None or state.container_id != current.id:
            begin = current.started_at + (probe.initial_delay_seconds or 0) * SECOND
            state = held[kind] = ProbeMemory(current.id, None, due=begin)
        if (
            not should_run(kind, state, started, memory, draft.memory.ending != "")
            or state.asking is not None
        ):
            continue
        if draft.now < state.due:
            draft.wake(state.due)
            continue
        operation = compute_probe(container, probe, current)
        if operation is None:
            continue
        draft.operations.append(operation)
        period = (probe.period_seconds or 10) * SECOND
        due = state.due + period if state.due + period > draft.now else draft.now + period
        held[kind] = replace(state, asking=operation, due=due)
    if held != memory.probes:
        draft.set_container(container.name, replace(memory, probes=held))


def should_run(
    kind: str, state: ProbeMemory, started: bool, memory: ContainerMemory, ending: bool
) -> bool:
    """Whether this probe runs at present, by the table above (PROBE-4)."""
    if kind == READINESS:
        return started
    if ending or memory.stop_reason or state.result is False:
        return False
    return state.result is None if kind == STARTUP else started


def probed(memory: PodMemory, operation: Probe, result: Result, now: Instant) -> PodMemory:
    """The memory after a probe. One that could not run counts neither way (PROBE-6)."""
    for name, container in memory.containers.items():
        if container.current is None or container.current.id != operation.container_id:
            continue
        for kind, state in container.probes.items():
            if state.asking is operation:
                following, note = _judge(memory.pod, name, kind, state, result)
                memory = memory.with_container(
                    name, replace(container, probes={**container.probes, kind: following})
                )
                return memory.with_notes(note) if note is not None else memory
    return memory


def _judge(
    pod: Pod | None, name: str, kind: str, state: ProbeMemory, result: Result
) -> tuple[ProbeMemory, Note | None]:
    """PROBE-5: a probe fails or succeeds only after enough equal results in a row."""
    state = replace(state, asking=None)
    container = find_container(pod.spec, name) if pod is not None else None
    probe = dict(probes_of(container)).get(kind) if container is not None else None
    if pod is None or probe is None or not isinstance(result, Probed) or result.unknown:
        return state, None
    streak = state.streak + 1 if state.last == result.success else 1
    state = replace(state, last=result.success, streak=streak)
    enough = (probe.success_threshold or 1) if result.success else (probe.failure_threshold or 3)
    if streak >= enough:
        state = replace(state, result=result.success)
    if result.success:
        return state, None
    words = f"{kind.capitalize()} probe failed: {result.output}"
    return state, Note("Unhealthy", words, "Warning", field_path(pod.spec, name))


# --- results of probes ----------------------------------------------------------------------------


def _verdict(memory: ContainerMemory, kind: str) -> bool | None:
    state = memory.probes.get(kind)
    if state is None or memory.current is None or state.container_id != memory.current.id:
        return None
    return state.result


def is_failing(memory: ContainerMemory, kind: str) -> bool:
    """Whether the startup or liveness probe of the running attempt has failed (PROBE-5)."""
    return _verdict(memory, kind) is False


def is_started(container: Container, memory: ContainerMemory) -> bool:
    """Whether it runs, its postStart hook is over, and its startup probe (if any) has succeeded."""
    if not memory.running or memory.post_start_pending or memory.operation == "postStart":
        return False
    return container.startup_probe is None or _verdict(memory, STARTUP) is True


def is_ready(container: Container, memory: ContainerMemory) -> bool:
    """Whether it has started and passes its readiness probe, if any (PROBE-7)."""
    return is_started(container, memory) and (
        container.readiness_probe is None or _verdict(memory, READINESS) is True
    )


def grace_seconds(pod: Pod, container: Container, why: str) -> int:
    """The grace period after a failed probe: the probe's own, else the pod's (PROBE-8)."""
    seconds = pod.spec.termination_grace_period_seconds
    probe = {LIVENESS: container.liveness_probe, STARTUP: container.startup_probe}.get(why)
    if probe is not None and probe.termination_grace_period_seconds is not None:
        seconds = probe.termination_grace_period_seconds
    return bounded_grace(seconds)


# --- operations -----------------------------------------------------------------------------------


def compute_probe(
    container: Container, probe: core_v1.Probe, current: ContainerStatus
) -> Probe | None:
    """The operation that runs a probe; None if the container has no port of that name."""
    base = Probe(current.pod_uid, current.id, "exec", timeout_seconds=probe.timeout_seconds or 1)
    if probe.exec is not None:
        return evolve(base, command=probe.exec.command or ())
    if probe.http_get is not None:
        return _http(container, probe.http_get, base)
    if probe.tcp_socket is not None:
        port = port_number(container, probe.tcp_socket.port)
        return (
            evolve(base, action="tcp", host=probe.tcp_socket.host or "", port=port)
            if port
            else None
        )
    if probe.grpc is not None:
        return evolve(base, action="grpc", port=probe.grpc.port, path=probe.grpc.service or "")
    return None


def _http(container: Container, action: HTTPGetAction, base: Probe) -> Probe | None:
    port = port_number(container, action.port)
    if not port:
        return None
    return evolve(
        base,
        action="http",
        host=action.host or "",
        port=port,
        path=action.path or "/",
        scheme=action.scheme or "HTTP",
        headers=tuple([(header.name, header.value) for header in action.http_headers or ()]),
    )


def port_number(container: Container, port: int | str) -> int:
    """The number of a port given by number or name; 0 if the container has none of that name."""
    if isinstance(port, int):
        return port
    for candidate in container.ports or ():
        if candidate.name == port:
            return candidate.container_port
    return int64(port) or 0


def compute_hook(
    container: Container, handler: LifecycleHandler, current: ContainerStatus, timeout_seconds: int
) -> RunHook:
    """The lifecycle hook to run. An unknown port becomes 0, and the hook fails."""
    base = RunHook(current.pod_uid, current.id, "exec", timeout_seconds)
    if handler.exec is not None:
        return evolve(base, command=handler.exec.command or ())
    if handler.http_get is not None:
        action = handler.http_get
        return evolve(
            base,
            action="http",
            host=action.host or "",
            port=port_number(container, action.port),
            path=action.path or "/",
            scheme=action.scheme or "HTTP",
            headers=tuple([(header.name, header.value) for header in action.http_headers or ()]),
        )
    if handler.sleep is not None:
        return evolve(base, action="sleep", seconds=handler.sleep.seconds)
    return base
