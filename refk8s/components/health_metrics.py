"""Counts the results of health checks, for /metrics/slis. Rule HTTP-31 (spec/http.md)."""

from collections.abc import Iterator, Mapping
from typing import Any

from refk8s.core.apiserver.health import checks_of


class HealthMetrics:
    """The last result of each check at each path, and how many there were."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], bool] = {}
        self._counts: dict[tuple[str, str, str], int] = {}

    def observe(self, path: str, query: str, checks: Mapping[str, str]) -> None:
        """Count the checks of a request. One for a single check is not counted, as upstream."""
        kind, _, name = path.strip("/").partition("/")
        if name:
            return
        for check, wrong in checks_of(kind, query, checks).items():
            self._last[check, kind] = not wrong
            place = (check, "error" if wrong else "success", kind)
            self._counts[place] = self._counts.get(place, 0) + 1

    def collect(self) -> Iterator[Any]:
        """The metrics as prometheus_client has them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        last = GaugeMetricFamily(
            "kubernetes_healthcheck", "Whether the last check passed.", labels=("name", "type")
        )
        for (name, kind), passed in sorted(self._last.items()):
            last.add_metric((name, kind), int(passed))
        yield last
        total = CounterMetricFamily(
            "kubernetes_healthchecks_total",
            "Checks by their result.",
            labels=("name", "status", "type"),
        )
        for names, count in sorted(self._counts.items()):
            total.add_metric(names, count)
        yield total
