"""Metrics as Prometheus reads them. Rules PROC-6 (spec/processes.md), HTTP-25 (spec/http.md)."""

from collections.abc import Callable
from typing import Any

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(collect: Callable[[], Any], *, of_process: bool = True) -> bytes:
    """The metrics of `collect`, after those of this process, as Prometheus reads them."""
    from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

    own = CollectorRegistry(auto_describe=False)
    own.register(_Collector(collect))
    return (generate_latest(REGISTRY) if of_process else b"") + generate_latest(own)


class _Collector:
    def __init__(self, collect: Callable[[], Any]) -> None:
        self.collect = collect
