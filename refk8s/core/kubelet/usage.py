"""The rates of a node and its containers from two measurements, and the pages that show them. Rule
STREAM-17 (spec/streams.md).

Source: Kubernetes documentation, "Resource metrics pipeline", "Node metrics data"; Kubernetes
Metrics Reference (`/metrics/resource`).
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import Pod
from refk8s.core.client.summary import (
    ContainerStats,
    Cpu,
    Memory,
    NodeStats,
    PodReference,
    PodStats,
    Summary,
    stamp_of,
)
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.ports import ContainerUsage, Usage

NANO = 1_000_000_000


def compute_summary(
    node_name: str, pods: Iterable[Pod], before: Usage | None, now: Usage
) -> Summary:
    """The summary of the node. A container that was not measured before counts from its start, and
    one whose counter went back (it was restarted) too. Containers of no known pod are left out.
    O(containers)."""
    earlier = {(one.pod_uid, one.name): one for one in before.containers} if before else {}
    by_pod: dict[str, list[ContainerStats]] = {}
    for one in now.containers:
        last = earlier.get((one.pod_uid, one.name))
        since, used = one.started_at, one.cpu_nanoseconds
        if before is not None and before.at < now.at and last is not None and _continues(last, one):
            since, used = before.at, one.cpu_nanoseconds - last.cpu_nanoseconds
        rate = one.cpu_nanocores if one.cpu_nanocores >= 0 else _rate(used, now.at - since)
        by_pod.setdefault(one.pod_uid, []).append(_container(one, rate, now.at))
    rate = now.cpu_nanocores
    if rate < 0:
        began = before if before is not None else now
        rate = _rate(now.cpu_nanoseconds - began.cpu_nanoseconds, now.at - began.at)
    stamp = stamp_of(now.at)
    found = []
    for pod in pods:
        metadata = pod.metadata
        containers = by_pod.get(metadata.uid or "")
        if containers:
            reference = PodReference(
                metadata.name or "", metadata.namespace or "", metadata.uid or ""
            )
            found.append(PodStats(reference, tuple(sorted(containers, key=lambda one: one.name))))
    # a rate that the runtime knows is that of the present second
    window = 1.0 if before is None or now.cpu_nanocores >= 0 else (now.at - before.at) / SECOND
    node = NodeStats(
        node_name, Cpu(stamp, rate, now.cpu_nanoseconds), Memory(stamp, now.memory_bytes)
    )
    return Summary(node, tuple(found), window)


def _continues(last: ContainerUsage, one: ContainerUsage) -> bool:
    return last.started_at == one.started_at and last.cpu_nanoseconds <= one.cpu_nanoseconds


def _container(one: ContainerUsage, rate: int, at: Instant) -> ContainerStats:
    stamp = stamp_of(at)
    started = stamp_of(one.started_at) if one.started_at else ""
    cpu, memory = Cpu(stamp, rate, one.cpu_nanoseconds), Memory(stamp, one.memory_bytes)
    return ContainerStats(one.name, cpu, memory, started)


def _rate(nanoseconds: int, microseconds: Instant) -> int:
    """Nanocores; none for a time that has not passed, and never negative."""
    if microseconds <= 0:
        return 0
    return max(0, nanoseconds) * SECOND // microseconds


def write_metrics(summary: Summary) -> bytes:
    """The page `/metrics/resource`. Names are those of Kubernetes, so no value needs an escape."""
    families: dict[str, tuple[str, list[str]]] = {}

    def add(name: str, kind: str, labels: str, value: float) -> None:
        text = f"{value:.9f}".rstrip("0").rstrip(".")
        families.setdefault(name, (kind, []))[1].append(f"{name}{labels} {text}")

    node = summary.node
    for pod in summary.pods:
        reference = pod.pod_ref
        whole = f'namespace="{reference.namespace}",pod="{reference.name}"'
        for one in pod.containers:
            labels = f'{{container="{one.name}",{whole}}}'
            seconds = one.cpu.usage_core_nano_seconds / NANO
            add("container_cpu_usage_seconds_total", "counter", labels, seconds)
            add("container_memory_working_set_bytes", "gauge", labels, one.memory.working_set_bytes)
            if one.start_time:
                start = parse_timestamp(one.start_time) / SECOND
                add("container_start_time_seconds", "gauge", labels, start)
        seconds = sum(one.cpu.usage_core_nano_seconds for one in pod.containers) / NANO
        add("pod_cpu_usage_seconds_total", "counter", f"{{{whole}}}", seconds)
        used = sum(one.memory.working_set_bytes for one in pod.containers)
        add("pod_memory_working_set_bytes", "gauge", f"{{{whole}}}", used)
    add("node_cpu_usage_seconds_total", "counter", "", node.cpu.usage_core_nano_seconds / NANO)
    add("node_memory_working_set_bytes", "gauge", "", node.memory.working_set_bytes)
    add("resource_scrape_error", "gauge", "", 0)
    lines = []
    for name, (kind, samples) in sorted(families.items()):
        lines += [f"# TYPE {name} {kind}", *samples]
    return ("\n".join(lines) + "\n").encode()
