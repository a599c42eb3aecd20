"""Counts what admission webhooks answer, for /metrics. Rule HTTP-25 (spec/http.md)."""

from collections.abc import Iterator
from typing import Any, Final

from refk8s.core.apiserver.admission.review import verdict_of
from refk8s.core.apiserver.calls import Call, Result
from refk8s.core.durations import Durations

SERIES_MAX: Final = 1_000
OTHERS: Final = ("", "", "", "")
_LABELS: Final = ("name", "operation", "rejected", "type")
_PREFIX: Final = "apiserver_admission_webhook"

Key = tuple[str, str, str, str]


class WebhookMetrics:
    """The answers of admission webhooks by name, operation, whether they reject the request, and
    type."""

    def __init__(self) -> None:
        self._durations: dict[Key, Durations] = {}
        self._codes: dict[tuple[str, Key], int] = {}
        self._rejections: dict[tuple[str, str, Key], int] = {}
        self._open: dict[tuple[str, str], int] = {}  # that failed and reject nothing

    def add(self, call: Call, result: Result, seconds: float) -> None:
        """Count the answer to a call; nothing, if it is not that of a webhook."""
        about = call.asked
        if about is None:
            return
        verdict = verdict_of(about, call.id, call.body, result)
        word = "true" if verdict.is_rejected else "false"
        key = (about.name, about.operation, word, about.type)
        if key not in self._durations and len(self._durations) >= SERIES_MAX:
            key = OTHERS
        self._durations.setdefault(key, Durations()).add(seconds)
        code = str(verdict.code)
        self._codes[code, key] = self._codes.get((code, key), 0) + 1
        if verdict.is_rejected:
            place = (verdict.error_type, code, key)
            self._rejections[place] = self._rejections.get(place, 0) + 1
        if verdict.is_ignored:
            self._open[key[0], key[3]] = self._open.get((key[0], key[3]), 0) + 1

    def collect(self) -> Iterator[Any]:
        """The metrics as prometheus_client has them."""
        if not self._durations:
            return
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        duration = HistogramMetricFamily(
            f"{_PREFIX}_admission_duration_seconds", "How long webhooks took.", labels=_LABELS
        )
        for key, durations in sorted(self._durations.items()):
            duration.add_metric(key, durations.buckets(), durations.seconds)
        yield duration
        total = CounterMetricFamily(
            f"{_PREFIX}_request_total", "Calls of webhooks.", labels=("code", *_LABELS)
        )
        for (code, key), count in sorted(self._codes.items()):
            total.add_metric((code, *key), count)
        yield total
        labels = ("error_type", "name", "operation", "rejection_code", "type")
        # upstream's name has no suffix _total, which a counter would get
        rejected = _Plain(f"{_PREFIX}_rejection_count", "Requests that webhooks reject.", labels)
        for (error_type, code, key), count in sorted(self._rejections.items()):
            rejected.add_metric((error_type, key[0], key[1], code, key[3]), count)
        yield rejected.family
        opened = _Plain(f"{_PREFIX}_fail_open_count", "Failures that reject nothing.", ("name", "type"))  # fmt: skip
        for names, count in sorted(self._open.items()):
            opened.add_metric(names, count)
        yield opened.family


class _Plain:
    """A counter whose name ends as it is given."""

    def __init__(self, name: str, words: str, labels: tuple[str, ...]) -> None:
        from prometheus_client.core import Metric

        self.family = Metric(name, words, "unknown")
        self._name, self._labels = name, labels

    def add_metric(self, values: tuple[str, ...], count: int) -> None:
        """Add the count of one combination of labels."""
        self.family.add_sample(self._name, dict(zip(self._labels, values, strict=True)), count)
