"""The tables of metrics.k8s.io, with the columns of metrics-server (STREAM-17)."""

from typing import Any

from refk8s.core.api.quantity import add
from refk8s.core.apiserver.table.layout import NAME, Cells, Column, Layout
from refk8s.core.context import Instant

_COLUMNS = (
    NAME,
    Column("cpu", "The use of processors, in cores."),
    Column("memory", "The working set, in bytes."),
    Column("window", "The time over which they were measured."),
)


def node_metrics(one: Any, now: Instant) -> Cells:
    return one.metadata.name, one.usage["cpu"], one.usage["memory"], one.window


def pod_metrics(one: Any, now: Instant) -> Cells:
    sums = {"cpu": "0", "memory": "0"}
    for container in one.containers:
        for name in sums:
            sums[name] = add(sums[name], container.usage[name])
    return one.metadata.name, sums["cpu"], sums["memory"], one.window


LAYOUTS = {
    ("metrics.k8s.io", "NodeMetrics"): Layout(_COLUMNS, node_metrics),
    ("metrics.k8s.io", "PodMetrics"): Layout(_COLUMNS, pod_metrics),
}
