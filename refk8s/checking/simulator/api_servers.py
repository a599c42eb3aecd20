"""Another API server of simulated runs, which at times is slow or unavailable, or answers wrongly.
Rules CLUSTER-18 (spec/cluster.md), APISVC-9, APISVC-11 (spec/api_services.md).

It serves one external metric, which an autoscaler follows. Whatever goes wrong is a function of the
seed and of the call. From an instant on nothing goes wrong, so that the cluster can come to rest.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from refk8s.core.apiserver.calls import Answered, Call, Result, Unanswered
from refk8s.core.context import MILLISECOND, SECOND, Instant

GROUP, VERSION, METRIC = "external.metrics.k8s.io", "v1beta1", "queue"
ROOT: Final = f"/apis/{GROUP}/{VERSION}"
TARGET, VALUE, VALUE_MAX = 10, 35, 80
"""What each pod should have of the metric; its value at rest, and the highest one before."""
CALL_MILLISECONDS_MAX: Final = 50


class SimulatedApiServer:
    """`faults`: the share of calls, of 256, that go wrong before the instant `works_from`."""

    def __init__(self, seed: int, works_from: Instant, faults: int = 128) -> None:
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._works_from = works_from
        self._faults = faults

    def answer(self, call: Call, now: Instant) -> tuple[Instant, Result]:
        """When the call ends, and how."""
        draw = blake2b(call.id.encode(), key=self._seed, digest_size=4).digest()
        soon = now + draw[1] % CALL_MILLISECONDS_MAX * MILLISECOND
        late = now + int(call.seconds * SECOND)
        if now >= self._works_from:
            return soon, _good(call, VALUE)
        if draw[0] >= self._faults:
            return soon, _good(call, draw[3] % (VALUE_MAX + 1))
        match draw[2] % 5:
            case 0:
                return late, Unanswered(f'Get "{call.url}": context deadline exceeded')
            case 1:
                return soon, Unanswered(f'Get "{call.url}": connection refused')
            case 2:
                return soon, Answered(500, b"oops")
            case 3:
                return soon, Answered(302, b"")
        return soon, Answered(
            200, b'{"kind": "Odd", "apiVersion": "v1", "items": 7, "resources": 7}'
        )

    def complaints(self, obj: Any) -> tuple[str, ...]:
        """It stores nothing of the cluster."""
        return ()


def _good(call: Call, value: int) -> Result:
    path = urlsplit(call.url).path
    if path == ROOT:
        tree: Any = {"kind": "APIResourceList", "apiVersion": "v1", "resources": []}
    elif path == f"{ROOT}/namespaces/default/{METRIC}":
        items = [{"metricName": METRIC, "value": str(value)}]
        tree = {
            "kind": "ExternalMetricValueList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "items": items,
        }
    else:
        return Answered(404, b"404 page not found")
    return Answered(200, msgspec.json.encode(tree))


def registration(window_seconds: int = 0) -> tuple[dict[str, Any], ...]:
    """The manifests by which the cluster knows the server, and an autoscaler that follows it. It
    removes replicas after this window."""
    service = {"name": "metrics", "namespace": "default"}
    metric = {
        "metric": {"name": METRIC},
        "target": {"type": "AverageValue", "averageValue": str(TARGET)},
    }
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "followed"}
    labels = {"app": "followed"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "app:1"}]},
    }
    return (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics"},
            "spec": {"type": "ExternalName", "externalName": "metrics.example.com"},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}"},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "service": service,
                "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "followed"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "followed"},
            "spec": {
                "scaleTargetRef": target,
                "minReplicas": 1,
                "maxReplicas": 5,
                "metrics": [{"type": "External", "external": metric}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": window_seconds}},
            },
        },
    )
