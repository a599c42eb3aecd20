"""The answers of metrics.k8s.io: from the summaries of kubelets to NodeMetrics and PodMetrics. Rule
STREAM-17 (spec/streams.md).

    nodes = nodes_of(request, store)            # whose kubelets are asked
    respond(request, store, summaries)          # Response

Source: Kubernetes documentation, "Resource metrics pipeline"; the answers of metrics-server.
"""

from collections.abc import Mapping
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.core_v1 import Node, Pod
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.metrics import (
    ContainerMetrics,
    NodeMetrics,
    NodeMetricsList,
    PodMetrics,
    PodMetricsList,
)
from refk8s.core.api.quantity import canonical
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import NODE_METRICS, NODES, PODS, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.selection import select
from refk8s.core.client.summary import Cpu, Memory, PodStats, Summary

PHASES = ("Running",)
"""Pods in other phases use nothing that could be measured."""


def nodes_of(request: Request, store: Reader) -> list[str]:
    """The names of the nodes that the answer needs, in order. Raises ApiError 400, 404."""
    if request.resource == NODE_METRICS:
        return [node.metadata.name or "" for node in _selected(request, NODES, store)]
    pods = _selected(request, PODS, store)
    return sorted({pod.spec.node_name for pod in pods if pod.spec.node_name})


def respond(request: Request, store: Reader, summaries: Mapping[str, Summary]) -> Response:
    """The answer. Nodes and pods that have not been measured are left out of a list (STREAM-17).
    Raises ApiError 404 for a single one."""
    items: list[Any] = []
    if request.resource == NODE_METRICS:
        for node in _selected(request, NODES, store):
            summary = summaries.get(node.metadata.name or "")
            if summary is not None:
                items.append(_node_metrics(node, summary))
    else:
        measured = {
            pod.pod_ref.uid: (pod, summary)
            for summary in summaries.values()
            for pod in summary.pods
        }
        for pod in _selected(request, PODS, store):
            found = measured.get(pod.metadata.uid or "")
            if found is not None:
                items.append(_pod_metrics(pod, *found))
    if request.name:
        if not items:
            raise ApiError(_not_measured(request))
        return Response(200, items[0])
    list_type: Any = NodeMetricsList if request.resource == NODE_METRICS else PodMetricsList
    return Response(200, list_type(metadata=ListMeta(), items=tuple(items)))


def _selected(request: Request, resource: Resource, store: Reader) -> list[Any]:
    """The nodes, or the running pods, that the request selects, in the order of keys."""
    if request.name:
        record = store.get(resource.key(request.namespace, request.name))
        if record is None:
            raise ApiError(_not_measured(request))
        return [record.value]
    options = request.options
    selection = select(resource, request.namespace, options.label_selector, options.field_selector)
    matches = selection.matches
    found = [record.value for record in store.list(selection.prefix).records]
    return [
        one
        for one in found
        if (matches is None or matches(one))
        and (resource == NODES or (one.status is not None and one.status.phase in PHASES))
    ]


def _not_measured(request: Request) -> Any:
    name = f"{request.namespace}/{request.name}" if request.namespace else request.name
    return status.not_found(request.resource, name)


def _metadata(one: Node | Pod, at: str) -> ObjectMeta:
    metadata = one.metadata
    return ObjectMeta(
        name=metadata.name,
        namespace=metadata.namespace,
        labels=metadata.labels,
        creation_timestamp=at,
    )


def _node_metrics(node: Node, summary: Summary) -> NodeMetrics:
    at = _second(summary.node.cpu.time)
    return NodeMetrics(
        metadata=_metadata(node, at),
        timestamp=at,
        window=_window(summary),
        usage=_usage(summary.node.cpu, summary.node.memory),
    )


def _pod_metrics(pod: Pod, measured: PodStats, summary: Summary) -> PodMetrics:
    at = _second(summary.node.cpu.time)
    containers = tuple(
        [
            ContainerMetrics(name=one.name, usage=_usage(one.cpu, one.memory))
            for one in measured.containers
        ]
    )
    return PodMetrics(
        metadata=_metadata(pod, at), timestamp=at, window=_window(summary), containers=containers
    )


def _usage(cpu: Cpu, memory: Memory) -> dict[str, str]:
    kib = -(-max(0, memory.working_set_bytes) // 1024)
    return {
        "cpu": canonical(f"{max(0, cpu.usage_nano_cores)}n"),
        "memory": canonical(f"{kib}Ki") if kib else "0",
    }


def _second(stamp: str) -> str:
    return f"{stamp.partition('.')[0].removesuffix('Z')}Z"


def _window(summary: Summary) -> str:
    return f"{max(0.0, summary.window_seconds):.3f}s"
