"""Metrics of autoscalers from other API servers: HPA-3, HPA-13, HPA-14
(spec/workloads/autoscaler.md)."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_hpa import PODS_OF_TWO, Rounds, a_pod, cpu, hpa, measured, new_size, scale, status_of, why
from workload_helpers import NOW, change

from refk8s.core.api.apiregistration_v1 import APIService, APIServiceSpec
from refk8s.core.api.autoscaling_v2 import (
    CrossVersionObjectReference,
    ExternalMetricSource,
    MetricIdentifier,
    MetricSpec,
    MetricTarget,
    ObjectMetricSource,
    PodsMetricSource,
)
from refk8s.core.api.codec import custom_object
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.quantity import parse
from refk8s.core.api.request import Response
from refk8s.core.api.resources import POD_METRICS
from refk8s.core.api.status import failure, path_not_found, unavailable
from refk8s.core.client.request import to_http
from refk8s.core.context import timestamp
from refk8s.core.controllers.autoscaler_custom import selector_words
from refk8s.core.controllers.autoscaler_replicas import (
    Tolerances,
    Uncomputable,
    by_ratio,
    by_sum,
)

SELECTOR = LabelSelector(match_labels={"queue": "a"})


def of_value(text: str) -> MetricTarget:
    return MetricTarget(type="Value", value=text)


def of_average(text: str) -> MetricTarget:
    return MetricTarget(type="AverageValue", average_value=text)


def external(target: MetricTarget, name: str = "queue", selector: Any = None) -> MetricSpec:
    metric = MetricIdentifier(name=name, selector=selector)
    return MetricSpec(type="External", external=ExternalMetricSource(metric=metric, target=target))


def pods(target: str = "10", name: str = "hits", selector: Any = None) -> MetricSpec:
    metric = MetricIdentifier(name=name, selector=selector)
    return MetricSpec(type="Pods", pods=PodsMetricSource(metric=metric, target=of_average(target)))


def of_object(target: MetricTarget, kind: str = "Service", version: str = "v1", name: str = "s") -> MetricSpec:  # fmt: skip
    described = CrossVersionObjectReference(kind=kind, name=name, api_version=version)
    source = ObjectMetricSource(metric=MetricIdentifier(name="hits"), described_object=described, target=target)  # fmt: skip
    return MetricSpec(type="Object", object=source)


def registered(*versions: str, **priorities: int) -> tuple[APIService, ...]:
    return tuple(
        APIService(
            metadata=ObjectMeta(name=f"{one}.custom.metrics.k8s.io", uid=one),
            spec=APIServiceSpec(group="custom.metrics.k8s.io", version=one, version_priority=priorities.get(one, 100)),
        )
        for one in versions
    )  # fmt: skip


def values(*items: Any, kind: str = "MetricValueList") -> Response:
    """An answer; a text is the value of one item, a pair that of a pod."""
    found = []
    for item in items:
        if isinstance(item, tuple):
            name, text = item
            described = {"kind": "Pod", "name": name, "namespace": "default"}
            found.append({"describedObject": described, "value": text, "timestamp": timestamp(NOW)})
        else:
            found.append({"value": item} if isinstance(item, str) else item)
    tree = {"kind": kind, "apiVersion": "x/v1", "metadata": {}, "items": found}
    return Response(200, custom_object(tree))


class Metrics(Rounds):
    """Rounds with other API servers: `answers` are theirs, by the path of the question."""

    def __init__(self, one: Any, *others: Any) -> None:
        super().__init__(one, *others)
        self.asked: list[str] = []

    def round(self, scale: Any, answers: Any = None) -> Any:
        plan = self.reconcile()
        [question] = plan.queries
        self.answer(question, scale)
        plan = self.reconcile()
        for question in plan.queries:
            target = to_http(question).target
            self.asked.append(target)
            own = question.resource == POD_METRICS
            found = answers if isinstance(answers, Response) else (answers or {}).get("metrics" if own else target)  # fmt: skip
            self.answer(question, found)
        return self.reconcile() if plan.queries else plan


def message(plan: Any) -> str:
    [found] = [c.message for c in status_of(plan).conditions if c.type == "ScalingActive"]
    return str(found)


# --- what is asked

PLACES = [
    (pods(), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/hits?labelSelector=app%3Dweb"),
    (pods(selector=SELECTOR), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/%2A/hits?labelSelector=app%3Dweb&metricLabelSelector=queue%3Da"),
    (of_object(of_value("1")), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/services/s/hits"),
    (of_object(of_value("1"), "Ingress", "networking.k8s.io/v1"), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/ingresses.networking.k8s.io/s/hits"),
    (of_object(of_value("1"), "Namespace", name="other"), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/metrics/hits"),
    (external(of_value("1")), "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue"),
    (external(of_value("1"), "a?b#/..\r\nc"), "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/a%3Fb%23%2F..%0D%0Ac"),
    (external(of_value("1"), selector=SELECTOR), "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue?labelSelector=queue%3Da"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "target"), PLACES)
def test_hpa_13_each_type_has_its_path(spec, target):
    rounds = Metrics(hpa(metrics=(spec,)), *PODS_OF_TWO, *registered("v1beta1", "v1beta2"))
    rounds.round(scale(2))
    assert rounds.asked == [target]


@pytest.mark.parametrize(
    ("versions", "priorities", "used"),
    [
        (("v1beta1",), {}, "v1beta1"),
        (("v1beta1", "v1beta2"), {"v1beta1": 200}, "v1beta1"),
        (("v1beta1", "v1beta2"), {}, "v1beta2"),
    ],
)
def test_hpa_13_the_version_is_the_preferred_one(versions, priorities, used):
    rounds = Metrics(hpa(metrics=(pods(),)), *PODS_OF_TWO, *registered(*versions, **priorities))
    rounds.round(scale(2))
    assert f"/{used}/" in rounds.asked[0]


def test_hpa_13_all_questions_of_a_round_are_asked_at_once_and_equal_ones_once():
    specs = (cpu(), external(of_value("1")), external(of_average("7")), pods())
    rounds = Metrics(hpa(metrics=specs), *PODS_OF_TWO, *registered("v1beta2"))
    plan = rounds.round(scale(2), {"metrics": measured(p0=50, p1=50)})
    assert len(rounds.asked) == 3
    assert why(plan)["ScalingActive"] == ("True", "ValidMetricFound")


def test_hpa_13_a_round_waits_for_every_answer():
    rounds = Metrics(hpa(metrics=(external(of_value("1")), pods())), *PODS_OF_TWO, *registered("v1beta2"))  # fmt: skip
    [question] = rounds.reconcile().queries
    rounds.answer(question, scale(2))
    first, second = rounds.reconcile().queries
    rounds.answer(first, values("2"))
    plan = rounds.reconcile()
    assert not plan.requests and not plan.queries
    rounds.answer(second, values(("p0", "20"), ("p1", "20")))
    assert new_size(rounds.reconcile()) == 4


# --- what an answer leads to


def test_hpa_13_a_metric_of_pods_is_their_average():
    rounds = Metrics(hpa(metrics=(pods("10"),)), *PODS_OF_TWO, *registered("v1beta2"))
    plan = rounds.round(scale(2), values(("p0", "20"), ("p1", "5500m")))
    assert new_size(plan) == 3  # 12.75 of 10 for each of 2
    current = status_of(plan).current_metrics[0]
    assert (current.type, current.pods.metric.name) == ("Pods", "hits")
    assert current.pods.current.average_value == "12750m"
    assert "pods metric hits above target" in plan.requests[0].because


def test_hpa_13_hpa_6_a_pod_without_a_value_is_missing():
    rounds = Metrics(hpa(metrics=(pods("10"),)), *PODS_OF_TWO, *registered("v1beta2"))
    assert new_size(rounds.round(scale(2), values(("p0", "1")))) is None


def test_hpa_14_a_value_of_an_object_multiplies_the_ready_pods():
    unready = change(a_pod("p1"), conditions=())
    rounds = Metrics(hpa(metrics=(of_object(of_value("10")),)), a_pod("p0"), unready, *registered("v1beta2"))  # fmt: skip
    plan = rounds.round(scale(2), values("35"))
    assert new_size(plan) == 4  # 3.5 times the one that is ready
    current = status_of(plan).current_metrics[0].object
    assert (current.current.value, current.described_object.name) == ("35", "s")
    assert "Service metric hits above target" in plan.requests[0].because


def test_hpa_14_an_average_value_is_divided_among_the_pods():
    """Shows HPA-14.c: the values of an external metric are added."""
    rounds = Metrics(hpa(metrics=(external(of_average("10"), selector=SELECTOR),)), *PODS_OF_TWO)
    plan = rounds.round(scale(2), values("40", "5"))
    assert new_size(plan) == 4  # at most twice as many at once
    current = status_of(plan).current_metrics[0].external.current
    assert current.average_value == "22500m"
    words = "external metric queue(&LabelSelector{MatchLabels:map[string]string{queue: a,},MatchExpressions:[]LabelSelectorRequirement{},})"  # fmt: skip
    assert f"{words} above target" in plan.requests[0].because


amounts = st.integers(0, 10**7)
counts = st.integers(0, 60)


@given(amounts, st.integers(1, 10**5), counts, st.integers(1, 60))
def test_hpa_14_by_ratio_equals_exact_arithmetic(value, target, ready, current):
    found = [a_pod(f"p{n}") for n in range(ready)] + [change(a_pod("x"), conditions=())]
    ratio = Fraction(value, target)
    if abs(ratio - 1) in (Fraction(1, 10),):
        return  # on the border floating point decides
    wanted = current if Fraction(9, 10) < ratio < Fraction(11, 10) else ratio * ready
    got = by_ratio(value, target, found, current, Tolerances())
    assert got in (ceil(wanted), min(ceil(wanted * (1 + Fraction(1, 10**12))), 2**31 - 1))
    assert got >= 0


@given(amounts, st.integers(1, 10**5), counts)
def test_hpa_14_by_sum_gives_each_pod_its_share(value, target, present):
    replicas, average = by_sum(value, target, present, Tolerances())
    within = present and 9 * target * present < 10 * value < 11 * target * present
    beyond = not present or not (9 * target * present <= 10 * value <= 11 * target * present)
    if within:
        assert replicas == present
    elif beyond:
        assert (replicas - 1) * target < value <= replicas * target or value == replicas == 0
    assert (average - 1) * max(present, 1) < value <= average * max(present, 1) or value == 0


def test_hpa_14_without_pods_there_is_no_number_for_a_value():
    with pytest.raises(Uncomputable, match="unable to calculate ready pods: no pods returned"):
        by_ratio(10, 1, [], 1, Tolerances())


# --- what is not there

ON = (
    "unable to get metric hits: Service on default s/unable to fetch metrics from "
    "custom metrics API: "
)
OF_PODS = "unable to get metric hits: unable to fetch metrics from custom metrics API: "
OF_QUEUE = (
    "unable to get external metric default/queue/nil: "
    "unable to fetch metrics from external metrics API: "
)
LOST = "the server could not find the requested resource"
BUSY = "the server is currently unable to handle the request"
ANSWERS = [
    (external(of_value("1")), Response(404, path_not_found()), f"{OF_QUEUE}{LOST} (get queue.external.metrics.k8s.io)"),
    (external(of_value("1")), None, f"{OF_QUEUE}{BUSY} (get queue.external.metrics.k8s.io)"),
    (external(of_value("1")), Response(503, unavailable("service unavailable")), f"{OF_QUEUE}{BUSY} (get queue.external.metrics.k8s.io)"),
    (external(of_value("1")), values(), "unable to get external metric default/queue/nil: no metrics returned from external metrics API"),
    (pods(), Response(404, failure(404, "NotFound", "could not find the metric hits for pods")), f"{OF_PODS}could not find the metric hits for pods"),
    (pods(), Response(404, path_not_found()), f"{OF_PODS}{LOST} (get pods.custom.metrics.k8s.io *)"),
    (pods(), values(), "unable to get metric hits: no metrics returned from custom metrics API"),
    (of_object(of_value("1")), values("1", "2"), f"{ON}the custom metrics API server returned 2 results when we asked for exactly one"),
    (of_object(of_value("1")), Response(503, unavailable("error trying to reach service: x")), f"{ON}{BUSY} (get services.custom.metrics.k8s.io s)"),
    (of_object(of_value("1"), "Odd", "a.b/v1"), None, 'unable to get metric hits: Odd on default s/unable to fetch metrics from custom metrics API: no matches for kind "Odd" in group "a.b"'),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "answer", "words"), ANSWERS)
def test_hpa_3_hpa_13_a_metric_that_is_not_there_is_reported_in_upstreams_words(spec, answer, words):  # fmt: skip
    rounds = Metrics(hpa(metrics=(spec,)), *PODS_OF_TWO, *registered("v1beta2"))
    plan = rounds.round(scale(2), answer)
    assert why(plan)["ScalingActive"] == ("False", f"FailedGet{spec.type}Metric")
    assert message(plan) == f"the HPA was unable to compute the replica count: {words}"
    assert next(note.message for note in plan.notes) == words
    assert new_size(plan) is None


def test_hpa_13_without_the_api_nothing_is_asked():
    rounds = Metrics(hpa(metrics=(pods(),)), *PODS_OF_TWO)
    plan = rounds.round(scale(2))
    assert not rounds.asked
    words = "no custom metrics API (custom.metrics.k8s.io) registered"
    assert message(plan).endswith(f"{OF_PODS}{words}")


def test_hpa_3_the_first_of_several_failures_has_upstreams_prefix():
    specs = {
        external(of_value("1")): "failed to get queue external metric value: failed to get queue external metric: ",
        pods(): "failed to get pods metric value: ",
        of_object(of_value("1")): "failed to get object metric value: ",
        cpu(): "failed to get cpu resource metric value: failed to get cpu utilization: ",
    }  # fmt: skip
    for spec, prefix in specs.items():
        rounds = Metrics(hpa(metrics=(spec,)), *PODS_OF_TWO)
        plan = rounds.round(scale(2), Response(404, path_not_found()))
        said = f"invalid metrics (1 invalid out of 1), first error is: {prefix}"
        assert any(note.message.startswith(said) for note in plan.notes), prefix


def test_hpa_3_a_metric_that_fails_still_lets_others_add_replicas():
    target = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue"
    for value, size in (("2", 4), ("100m", None)):
        one = hpa(metrics=(pods(), external(of_value("1"))))
        rounds = Metrics(one, *PODS_OF_TWO, *registered("v1beta2"))
        assert new_size(rounds.round(scale(2), {target: values(value)})) == size


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["1e400", "-1", "9" * 200, "1E", "p0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["items", "value", "describedObject", "name", "timestamp", "windowSeconds"]), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(st.sampled_from([pods(), of_object(of_value("1")), of_object(of_average("1")), external(of_value("1")), external(of_average("1"))]), st.lists(hostile, max_size=3), hostile)  # fmt: skip
def test_hpa_10_hpa_13_whatever_the_other_server_says_the_bounds_hold(spec, items, content):
    tree = {"kind": "L", "apiVersion": "x/v1", "metadata": {}, "items": items or content}
    rounds = Metrics(hpa(metrics=(spec,), least=1, most=5), *PODS_OF_TWO, *registered("v1beta2"))
    size = new_size(rounds.round(scale(2), Response(200, custom_object(tree))))
    assert size is None or 1 <= size <= 5


def test_hpa_13_selectors_are_shown_as_upstream_shows_them():
    assert selector_words(None) == "nil"
    term = LabelSelectorRequirement(key="k", operator="In", values=("a", "b"))
    both = replace(SELECTOR, match_expressions=(term,))
    assert selector_words(both) == "&LabelSelector{MatchLabels:map[string]string{queue: a,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[a b],},},}"  # fmt: skip
    assert parse("12750m").milli == 12750
