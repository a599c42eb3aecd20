"""The metrics of admission webhooks and of APIServices under upstream's names: HTTP-25
(spec/http.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hook_world import HookWorld
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from test_hook import MUTATING, VALIDATING

from refk8s.components.exposition import exposition
from refk8s.components.webhook_metrics import SERIES_MAX, WebhookMetrics
from refk8s.core.apiserver.admission.review import verdict_of
from refk8s.core.apiserver.calls import Answered, AskedWebhook, Call, Result, Unanswered

PREFIX = "apiserver_admission_webhook_"


def shown(metrics: WebhookMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = exposition(lambda: metrics.collect()).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


def a_call(name: str = "x.example.com", kind: str = "validating", *, closed: bool = True) -> Call:
    asked = AskedWebhook(name, kind, "CREATE", "v1", closed)
    return Call("uid", f"https://{name}/", None, b"", b"{}", 1.0, asked=asked)


def answered(code: int = 200, **response: Any) -> Answered:
    tree = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "uid", **response}}  # fmt: skip
    return Answered(code, json.dumps(tree).encode())


CASES: list[tuple[Result, bool, tuple[bool, int, str, bool]]] = [
    (answered(allowed=True), True, (False, 200, "", False)),
    (answered(allowed=False), True, (True, 400, "no_error", False)),
    (answered(allowed=False, status={"code": 418}), True, (True, 418, "no_error", False)),
    (answered(500, allowed=True), True, (True, 500, "calling_webhook_error", False)),
    (answered(allowed=True, uid="other"), True, (True, 500, "calling_webhook_error", False)),
    (Unanswered("dead"), True, (True, 500, "calling_webhook_error", False)),
    (Unanswered("dead"), False, (False, 500, "", True)),
]


@pytest.mark.parametrize(("result", "closed", "wanted"), CASES)
def test_http_25_the_verdict_of_an_answer_is_that_of_the_request(result, closed, wanted):
    found = verdict_of(AskedWebhook("x.example.com", "validating", "CREATE", "v1", closed), "uid", b"{}", result)  # fmt: skip
    assert (found.is_rejected, found.code, found.error_type, found.is_ignored) == wanted
    metrics = WebhookMetrics()
    metrics.add(a_call(closed=closed), result, 0.3)
    is_rejected, code, error_type, is_ignored = wanted
    word = "true" if is_rejected else "false"
    labels = {"name": "x.example.com", "operation": "CREATE", "rejected": word, "type": "validating"}  # fmt: skip
    values = shown(metrics)
    assert values[f"{PREFIX}request_total", frozenset({**labels, "code": str(code)}.items())] == 1
    sum_ = values[f"{PREFIX}admission_duration_seconds_sum", frozenset(labels.items())]
    assert sum_ == pytest.approx(0.3)
    rejection = {"error_type": error_type, "name": "x.example.com", "operation": "CREATE", "rejection_code": str(code), "type": "validating"}  # fmt: skip
    assert ((f"{PREFIX}rejection_count", frozenset(rejection.items())) in values) == is_rejected
    opened = frozenset({"name": "x.example.com", "type": "validating"}.items())
    assert ((f"{PREFIX}fail_open_count", opened) in values) == is_ignored


@given(st.lists(st.sampled_from(["allow", "deny", "fail"]), max_size=6))
def test_http_25_what_is_counted_as_rejected_was_rejected(plan):
    """The request of a world is rejected exactly if the verdict says so."""
    for kind, word in ((MUTATING, "admit"), (VALIDATING, "validating")):
        world = HookWorld()
        metrics, wishes = WebhookMetrics(), iter(plan)
        results = {
            "allow": {"allowed": True}, "deny": {"allowed": False}, "fail": Unanswered("dead"),
        }  # fmt: skip
        world.hook(kind, "x", lambda _: results[next(wishes)])  # noqa: B023
        answer = world.answer

        def count(call: Call) -> Result:
            result = answer(call)  # noqa: B023
            metrics.add(call, result, 0.01)  # noqa: B023
            return result

        world.answer = count  # type: ignore[method-assign]
        rejected = sum(world.create(f"a{n}")[0] >= 400 for n in range(len(plan)))
        values = shown(metrics)
        total = sum(v for (name, labels), v in values.items() if name == f"{PREFIX}request_total" and ("rejected", "true") in labels)  # fmt: skip
        assert total == rejected
        assert all(("type", word) in labels for _, labels in values)


def test_http_25_other_calls_are_not_counted_and_series_are_bounded():
    metrics = WebhookMetrics()
    metrics.add(Call("uid", "https://x/", None, b"", b"{}", 1.0), answered(allowed=True), 1)
    assert shown(metrics) == {}
    for number in range(SERIES_MAX + 50):
        metrics.add(a_call(f"w{number}.example.com"), answered(allowed=True), 1)
    totals = [v for (name, _), v in shown(metrics).items() if name == f"{PREFIX}request_total"]
    assert sum(totals) == SERIES_MAX + 50
    assert len(totals) == SERIES_MAX + 1
