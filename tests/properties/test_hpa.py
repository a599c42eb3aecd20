"""Autoscalers (spec/workloads/autoscaler.md): as many replicas as the load needs, within bounds."""

from fractions import Fraction
from math import ceil

import pytest
import runs
from hypothesis import assume, given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from workload_helpers import (
    NOW,
    ago,
    change,
    create,
    deployment,
    get,
    new_cluster,
    pod,
    stored,
    view_of,
)

from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec, ScaleStatus
from refk8s.core.api.autoscaling_v2 import (
    ContainerResourceMetricSource,
    CrossVersionObjectReference,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerSpec,
    HPAScalingPolicy,
    HPAScalingRules,
    MetricSpec,
    MetricTarget,
    ResourceMetricSource,
)
from refk8s.core.api.core_v1 import Container, PodCondition, ResourceRequirements
from refk8s.core.api.meta_v1 import ObjectMeta, StatusDetails
from refk8s.core.api.metrics import ContainerMetrics, PodMetrics, PodMetricsList
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    EVENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    POD_METRICS,
)
from refk8s.core.api.status import failure
from refk8s.core.cluster.step import start_all
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.autoscaler_behavior import limit, remembered, remembered_changes
from refk8s.core.controllers.autoscaler_replicas import (
    Sample,
    Tolerances,
    Uncomputable,
    by_average,
    by_utilization,
    group_pods,
    pod_request,
)
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.horizontal_pod_autoscaler import (
    ANSWER_MAX,
    PERIOD,
    HorizontalPodAutoscalerController,
)
from refk8s.core.loop.plan import Local
from refk8s.core.properties.predicates.autoscaler import Scaling, hpa_8_does_not_flap

HPA = HorizontalPodAutoscalerController()
KEY = "default/web"
READY = (PodCondition(type="Ready", status="True", last_transition_time=ago(3000)),)


def cpu(target=50):
    of = MetricTarget(type="Utilization", average_utilization=target)
    return MetricSpec(type="Resource", resource=ResourceMetricSource(name="cpu", target=of))


def memory(value="100"):
    of = MetricTarget(type="AverageValue", average_value=value)
    return MetricSpec(type="Resource", resource=ResourceMetricSource(name="memory", target=of))


def hpa(name="web", least=1, most=10, metrics=None, behavior=None, **parts):
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=1)
    spec = HorizontalPodAutoscalerSpec(
        scale_target_ref=CrossVersionObjectReference(kind="Deployment", name="web", api_version="apps/v1"),
        min_replicas=least,
        max_replicas=most,
        metrics=(cpu(),) if metrics is None else metrics,
        behavior=behavior,
    )  # fmt: skip
    return change(HorizontalPodAutoscaler(metadata=metadata, spec=spec), **parts)


def a_pod(name, request="100m", **parts):
    container = Container(name="c", image="i", resources=ResourceRequirements(requests={"cpu": request} if request else None))  # fmt: skip
    one = change(pod(name), phase="Running", conditions=READY, start_time=ago(4000))
    return change(change(one, containers=(container,)), **parts)


def used(**millis):
    return {name: Sample(value, NOW) for name, value in millis.items()}


# --- one metric -----------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(1, 200))
def test_hpa_4_hpa_7_the_product_of_ratio_and_pods_is_rounded_up(uses, target):
    pods = [a_pod(f"p{n}") for n in range(len(uses))]
    samples = used(**{f"p{n}": use for n, use in enumerate(uses)})
    found = by_utilization(pods, samples, len(pods), target, Tolerances(), "cpu", "", NOW)
    percent = sum(uses) // len(uses) if len(uses) == 1 else sum(uses) * 100 // (100 * len(uses))
    assert found.percent == percent
    ratio = Fraction(percent, target)
    assume(ratio not in (Fraction(9, 10), Fraction(11, 10)))
    if Fraction(9, 10) <= ratio <= Fraction(11, 10):
        assert found.replicas == len(pods)
    else:
        assert abs(found.replicas - ratio * len(pods)) < 1 and found.replicas in (
            ceil(ratio * len(pods)), ceil(ratio * len(pods)) + 1
        )  # fmt: skip


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(1, 200))
def test_hpa_4_a_target_value_is_the_average_of_a_pod(uses, target):
    pods = [a_pod(f"p{n}", request=None) for n in range(len(uses))]
    samples = used(**{f"p{n}": use for n, use in enumerate(uses)})
    found = by_average(pods, samples, len(pods), target, Tolerances(0, 0), "memory", NOW)
    average = sum(uses) // len(uses)
    assert found.average == average
    expected = ceil(Fraction(average, target) * len(pods))
    assert found.replicas in (expected, expected + 1)


def test_hpa_4_a_request_is_missing():
    with pytest.raises(Uncomputable, match="missing request for cpu in container c of Pod p"):
        pod_request(a_pod("p", request=None), "cpu")
    assert pod_request(a_pod("p", request="1500m"), "cpu", "c") == 1500
    both = a_pod("p", resources=ResourceRequirements(requests={"cpu": "3"}))
    assert pod_request(both, "cpu") == 3000 and pod_request(both, "cpu", "c") == 100
    sidecar = Container(name="s", restart_policy="Always", resources=ResourceRequirements(requests={"cpu": "1"}))  # fmt: skip
    assert pod_request(a_pod("p", init_containers=(sidecar, Container(name="i"))), "cpu") == 1100


def at(seconds, status="True"):
    return (PodCondition(type="Ready", status=status, last_transition_time=ago(seconds)),)


@pytest.mark.parametrize(
    ("parts", "measured", "resource", "group"),
    [
        ({}, 0, "cpu", "ready"),
        ({"deletion_timestamp": ago(1)}, 0, "cpu", "ignored"),
        ({"phase": "Failed"}, 0, "cpu", "ignored"),
        ({"phase": "Pending"}, 0, "memory", "unready"),
        ({}, None, "cpu", "missing"),
        ({"conditions": None}, 0, "cpu", "unready"),
        ({"conditions": None}, 0, "memory", "ready"),
        ({"start_time": None}, 0, "cpu", "unready"),
        ({"start_time": ago(299), "conditions": at(100)}, 0, "cpu", "ready"),
        ({"start_time": ago(299), "conditions": at(100, "False")}, 0, "cpu", "unready"),
        ({"start_time": ago(299), "conditions": at(40)}, 11, "cpu", "unready"),
        ({"start_time": ago(299), "conditions": at(40)}, 10, "cpu", "ready"),
        ({"start_time": ago(300), "conditions": at(100, "False")}, 0, "cpu", "ready"),
        ({"start_time": ago(300), "conditions": at(271, "False")}, 0, "cpu", "unready"),
        ({"start_time": ago(300), "conditions": at(270, "False")}, 0, "cpu", "ready"),
    ],
)  # fmt: skip
def test_hpa_5_pods_are_grouped_by_what_is_known_of_them(parts, measured, resource, group):
    samples = {} if measured is None else {"p": Sample(1, NOW - measured * SECOND, 30 * SECOND)}
    found = group_pods([a_pod("p", **parts)], samples, resource, NOW)
    assert found.ready == (group == "ready")
    for name in ("unready", "missing", "ignored"):
        assert getattr(found, name) == ({"p"} if name == group else set())


@pytest.mark.parametrize(
    ("uses", "others", "replicas"),
    [
        ((10,), {"missing": 1}, 2),  # it may use all of its request
        ((10, 10, 10), {"missing": 1}, 4),  # (30 + 100) / 400 = 32 %: 0.64 * 4 = 2.56, so 3
        ((200,), {"missing": 1}, 4),  # 200 / 200 = 100 %: 2 * 2
        ((90,), {"missing": 1}, 2),  # 1.8 becomes 0.9
        ((200,), {"unready": 1}, 4),
        ((90,), {"unready": 1}, 2),
        ((10,), {"unready": 1}, 1),  # unready pods do not stop a removal
        ((150,), {"ignored": 3}, 3),
    ],
)  # fmt: skip
def test_hpa_6_what_is_not_known_makes_the_change_smaller(uses, others, replicas):
    pods = [a_pod(f"p{n}") for n in range(len(uses))]
    pods += [a_pod(f"m{n}") for n in range(others.get("missing", 0))]
    pods += [a_pod(f"u{n}", phase="Pending") for n in range(others.get("unready", 0))]
    pods += [a_pod(f"i{n}", phase="Failed") for n in range(others.get("ignored", 0))]
    samples = used(**{f"p{n}": use for n, use in enumerate(uses)})
    current = len(pods) - others.get("ignored", 0)
    found = by_utilization(pods, samples, current, 50, Tolerances(), "cpu", "", NOW)
    expected = 3 if uses == (10, 10, 10) else replicas
    assert found.replicas == expected


@given(st.lists(st.sampled_from(["ready", "missing", "unready"]), min_size=1, max_size=7), st.integers(0, 300))  # fmt: skip
def test_hpa_6_the_unknown_never_leads_to_a_larger_change(kinds, use):
    """Compared with the same pods, all of them known to use as much as those that are known."""
    pods = [
        a_pod(f"p{n}", phase="Pending" if kind == "unready" else "Running")
        for n, kind in enumerate(kinds)
    ]
    samples = used(**{f"p{n}": use for n, kind in enumerate(kinds) if kind == "ready"})
    assume(samples)
    current = len(pods)
    found = by_utilization(pods, samples, current, 50, Tolerances(), "cpu", "", NOW).replicas
    ready = [a_pod(f"p{n}") for n in range(current)]
    whole = by_utilization(ready, used(**{f"p{n}": use for n in range(current)}), current, 50, Tolerances(), "cpu", "", NOW).replicas  # fmt: skip
    if whole > current:
        assert current <= found <= whole
    if whole < current and "unready" not in kinds:
        assert whole <= found <= current


@pytest.mark.parametrize(
    ("pods", "samples", "words"),
    [
        ([], used(p=1), "no pods returned by selector while calculating replica count"),
        ([a_pod("p")], {}, "did not receive metrics for targeted pods (pods might be unready)"),
        ([a_pod("p", phase="Pending")], used(p=1), "did not receive metrics for targeted pods (pods might be unready)"),
        ([a_pod("p")], used(q=1), "no metrics returned matched known pods"),
    ],
)  # fmt: skip
def test_hpa_3_without_a_known_pod_there_is_no_number(pods, samples, words):
    with pytest.raises(Uncomputable) as error:
        by_utilization(pods, samples, 1, 50, Tolerances(), "cpu", "", NOW)
    assert str(error.value) == words


# --- limits ---------------------------------------------------------------------------------------

RULES = st.builds(
    HPAScalingRules,
    select_policy=st.sampled_from(["Max", "Min", "Disabled"]),
    stabilization_window_seconds=st.sampled_from([None, 0, 60, 300]),
    policies=st.lists(
        st.builds(
            HPAScalingPolicy,
            type=st.sampled_from(["Pods", "Percent"]),
            value=st.integers(1, 200),
            period_seconds=st.sampled_from([15, 60]),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
BEHAVIORS = st.none() | st.builds(HorizontalPodAutoscalerBehavior, scale_up=RULES, scale_down=RULES)
RECORDS = st.lists(st.tuples(st.integers(0, 400).map(lambda s: NOW - s * SECOND), st.integers(1, 20)), max_size=5)  # fmt: skip


@given(BEHAVIORS, st.integers(1, 20), st.integers(0, 40), st.integers(1, 5), st.integers(5, 20), RECORDS, RECORDS, RECORDS)  # fmt: skip
def test_hpa_8_hpa_9_hpa_10_limits_hold_whatever_was_before(
    behavior, current, desired, least, most, past, ups, downs
):
    """HPA-8, HPA-9, HPA-10, for a target within its bounds."""
    assume(least <= current <= most)
    found = limit(behavior, current, desired, least, most, past, ups, downs, NOW)
    assert least <= found.replicas <= most
    assert min(current, desired) <= found.stabilized or behavior is None
    if behavior is None:
        assert found.replicas <= max(2 * current, 4)
        recent = [n for since, n in past if since > NOW - 300 * SECOND]
        assert found.stabilized == max([desired, *recent])
    else:
        low, high = sorted((current, found.stabilized))
        assert low <= found.replicas <= max(high, least)
        if desired > current:
            assert current <= found.stabilized <= desired or found.stabilized > current
            if behavior.scale_up.select_policy == "Disabled":
                assert found.replicas <= current
        if found.replicas < current:
            window = behavior.scale_down.stabilization_window_seconds
            since = NOW - (300 if window is None else window) * SECOND
            assert all(n <= found.stabilized for moment, n in past if moment > since)
            assert behavior.scale_down.select_policy != "Disabled"


@pytest.mark.parametrize(
    ("choice", "policies", "ups", "downs", "desired", "replicas"),
    [
        ("Max", [("Pods", 1, 60)], [], [], 1, 9),
        ("Max", [("Pods", 1, 60)], [], [(NOW - 59 * SECOND, 1)], 1, 10),
        ("Max", [("Pods", 1, 60)], [], [(NOW - 60 * SECOND, 1)], 1, 9),
        ("Max", [("Pods", 1, 60)], [(NOW - SECOND, 2)], [], 1, 7),
        ("Max", [("Percent", 15, 60)], [], [], 1, 8),
        ("Max", [("Percent", 15, 60), ("Pods", 4, 60)], [], [], 1, 6),
        ("Min", [("Percent", 15, 60), ("Pods", 4, 60)], [], [], 1, 8),
        ("Disabled", [("Pods", 4, 60)], [], [], 1, 10),
        ("Max", [("Percent", 100, 15)], [], [], 1, 2),
        ("Max", [("Pods", 3, 15)], [], [], 30, 13),
        ("Max", [("Pods", 3, 15)], [(NOW - 14 * SECOND, 2)], [], 30, 11),
        ("Max", [("Pods", 3, 15)], [(NOW - 14 * SECOND, 5)], [], 30, 10),
        ("Max", [("Percent", 11, 15), ("Pods", 1, 15)], [], [], 30, 12),
        ("Min", [("Percent", 11, 15), ("Pods", 1, 15)], [], [], 30, 11),
        ("Disabled", [("Pods", 3, 15)], [], [], 30, 10),
        ("Max", [("Percent", 900, 15)], [], [], 30, 20),
    ],
)
def test_hpa_9_policies_count_from_the_start_of_their_period(
    choice, policies, ups, downs, desired, replicas
):
    rules = HPAScalingRules(
        select_policy=choice,
        stabilization_window_seconds=0,
        policies=tuple(
            [HPAScalingPolicy(type=t, value=v, period_seconds=s) for t, v, s in policies]
        ),
    )
    both = HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules)
    assert limit(both, 10, desired, 2, 20, (), ups, downs, NOW).replicas == replicas


def test_hpa_8_what_is_older_than_every_window_is_forgotten():
    records = [(NOW - 300 * SECOND, 1), (NOW - 299 * SECOND, 2)]
    assert remembered(None, records, NOW) == ((NOW - 299 * SECOND, 2),)
    assert len(remembered(None, [(NOW, 1)] * 5000, NOW)) == 1024
    long = HorizontalPodAutoscalerBehavior(
        scale_up=HPAScalingRules(stabilization_window_seconds=600)
    )
    assert len(remembered(long, records, NOW)) == 2
    rules = HPAScalingRules(policies=(HPAScalingPolicy(type="Pods", value=1, period_seconds=60),))
    changes = [(NOW - 60 * SECOND, 1), (NOW - 59 * SECOND, 1)]
    assert remembered_changes(rules, changes, NOW) == ((NOW - 59 * SECOND, 1),)
    assert remembered_changes(None, changes, NOW) == ()


@given(st.integers(1, 4000), st.integers(1, 20), st.integers(10, 90))
def test_hpa_7_hpa_8_a_constant_load_is_followed_once_and_never_flaps(load, start, target):
    """The load is shared by all pods. Without a window the number settles, and stays."""
    rules = HPAScalingRules(
        stabilization_window_seconds=0,
        policies=(HPAScalingPolicy(type="Percent", value=100, period_seconds=15),),
    )
    behavior = HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules)
    history = [start]
    for _ in range(20):
        count = history[-1]
        pods = [a_pod(f"p{n}") for n in range(count)]
        samples = used(**{f"p{n}": load // count for n in range(count)})
        found = by_utilization(pods, samples, count, target, Tolerances(), "cpu", "", NOW)
        history.append(limit(behavior, count, found.replicas, 1, 20, (), (), (), NOW).replicas)
    assert len(set(history[-4:])) == 1, history


# --- rounds ---------------------------------------------------------------------------------------


def scale(replicas, selector="app=web", current=None):
    status = ScaleStatus(replicas=replicas if current is None else current, selector=selector)
    metadata = ObjectMeta(name="web", namespace="default", uid="uid-d", resource_version="5")
    return Response(200, Scale(metadata=metadata, spec=ScaleSpec(replicas=replicas or None), status=status))  # fmt: skip


def measured(**uses):
    items = tuple(
        [
            PodMetrics(metadata=ObjectMeta(name=name, namespace="default"), timestamp=timestamp(NOW), window="10.000s", containers=(ContainerMetrics(name="c", usage=use if isinstance(use, dict) else {"cpu": f"{use}m"}),))
            for name, use in uses.items()
        ]
    )  # fmt: skip
    return Response(200, PodMetricsList(items=items))


class Rounds:
    """An autoscaler whose questions are answered by hand."""

    def __init__(self, one, *others):
        self.hpa, self.others, self.now = one, others, NOW - PERIOD
        self.memory, self.failure = Map(), None
        assert self.reconcile().wake_at == NOW
        self.now = NOW

    def reconcile(self):
        view = view_of(HPA, self.hpa, *self.others)
        local = Local(self.memory, 1 if self.failure else 0, self.failure)
        plan = HPA.reconcile(view, KEY, self.now, local)
        if isinstance(plan.memory, Map):
            self.memory = plan.memory
        return plan

    def answer(self, request, response):
        self.memory, keys = HPA.answered(self.memory, KEY, request, response, self.now)
        assert list(keys) == [KEY]

    def round(self, scale, metrics=None):
        """One round; returns the plan that decides."""
        plan = self.reconcile()
        [question] = plan.queries
        assert (question.verb, question.subresource, question.name) == ("get", "scale", "web")
        self.answer(question, scale)
        plan = self.reconcile()
        if plan.queries:
            [question] = plan.queries
            assert (
                question.resource == POD_METRICS
                and question.options.label_selector == scale.body.status.selector
            )
            self.answer(question, metrics)
            plan = self.reconcile()
        return plan

    def later(self, seconds=15):
        self.now += seconds * SECOND
        return self


def new_size(plan):
    found = [r for r in plan.requests if r.subresource == "scale"]
    return found[0].body.spec.replicas if found else None


def status_of(plan):
    [found] = [r.body.status for r in plan.requests if r.resource is HORIZONTAL_POD_AUTOSCALERS]
    return found


def why(plan):
    return {c.type: (c.status, c.reason) for c in status_of(plan).conditions or ()}


PODS_OF_TWO = (a_pod("p0"), a_pod("p1"))


def test_hpa_1_a_round_asks_decides_and_rests():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    plan = rounds.round(scale(2), measured(p0=100, p1=100))
    assert new_size(plan) == 4 and plan.wake_at == NOW + PERIOD
    assert [r.subresource for r in plan.requests] == ["scale", "status"]
    status = status_of(plan)
    assert (status.current_replicas, status.desired_replicas) == (2, 4)
    assert status.current_metrics[0].resource.current.average_utilization == 100
    assert status.current_metrics[0].resource.current.average_value == "100m"
    assert status.last_scale_time == timestamp(NOW) and status.observed_generation == 1
    assert why(plan) == {
        "AbleToScale": ("True", "SucceededRescale"), "ScalingActive": ("True", "ValidMetricFound"),
        "ScalingLimited": ("False", "DesiredWithinRange"),
    }  # fmt: skip
    assert not rounds.reconcile().requests
    rest = rounds.later(14).reconcile()
    assert not rest.queries and rest.wake_at == NOW + PERIOD
    assert rounds.later(1).reconcile().queries


def test_hpa_1_neither_a_new_autoscaler_nor_a_change_begins_a_round_and_silence_ends_one():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    rounds.memory, rounds.now = Map(), NOW - PERIOD
    assert not rounds.reconcile().queries and not rounds.later(14).reconcile().queries
    rounds.later(1).round(scale(2), measured(p0=50, p1=50))
    rounds.hpa = change(rounds.hpa, generation=2)
    assert not rounds.later(1).reconcile().queries
    assert rounds.later(14).reconcile().queries
    assert not rounds.later(ANSWER_MAX // SECOND - 1).reconcile().queries
    assert rounds.later(1).reconcile().queries
    keys = HPA.interests[0].keys
    assert not keys(None, rounds.hpa, with_replicas(rounds.hpa, 3))
    assert list(keys(None, hpa(), rounds.hpa)) == [KEY] == list(keys(None, hpa(), None))


def with_replicas(one, count):
    return replace(one, status=replace(one.status, current_replicas=count))


def test_hpa_1_a_deleted_autoscaler_is_forgotten():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    rounds.reconcile()
    plan = HPA.reconcile(view_of(HPA), KEY, NOW, Local(rounds.memory))
    assert KEY not in plan.memory
    late = HPA.answered(plan.memory, KEY, Request("get", DEPLOYMENTS), scale(1), NOW)
    assert late == (plan.memory, ())


@pytest.mark.parametrize(
    ("kind", "version", "words"),
    [
        ("DaemonSet", "apps/v1", "the server could not find the requested resource"),
        ("Thing", "example.com/v1", 'unable to determine resource for scale target reference: no matches for kind "Thing" in group "example.com"'),
    ],
)  # fmt: skip
def test_hpa_2_a_target_without_a_scale_is_reported(kind, version, words):
    one = hpa()
    target = CrossVersionObjectReference(kind=kind, name="web", api_version=version)
    one = replace(one, spec=replace(one.spec, scale_target_ref=target))
    plan = Rounds(one).reconcile()
    [found] = status_of(plan).conditions
    assert (found.type, found.status, found.reason) == ("AbleToScale", "False", "FailedGetScale")
    assert (
        found.message == f"the HPA controller was unable to get the target's current scale: {words}"
    )
    assert [n.reason for n in plan.notes] == ["FailedGetScale"] and plan.wake_at == NOW + PERIOD


def test_hpa_2_a_target_that_does_not_exist_is_reported():
    gone = failure(404, "NotFound", 'deployments.apps "web" not found', StatusDetails())
    plan = Rounds(hpa()).round(Response(404, gone))
    assert status_of(plan).conditions[0].message.endswith(': deployments.apps "web" not found')
    silent = Rounds(hpa())
    silent.reconcile()
    silent.answer(Request("get", DEPLOYMENTS, "default", "web", "scale"), None)
    assert why(silent.reconcile()) == {"AbleToScale": ("False", "FailedGetScale")}


def test_hpa_3_the_metric_that_asks_for_most_decides():
    both = hpa(metrics=(cpu(), memory("100")))
    use = {"cpu": "50m", "memory": "300"}
    plan = Rounds(both, *PODS_OF_TWO).round(scale(2), measured(p0=use, p1=use))
    assert new_size(plan) == 4
    assert [m.type for m in status_of(plan).current_metrics] == ["Resource", "Resource"]
    [request] = [r for r in plan.requests if r.subresource == "scale"]
    assert request.note.message == "New size: 4; reason: memory resource above target"


@given(st.sampled_from([("300", 4), ("10", None)]))
def test_hpa_3_a_metric_that_fails_stops_only_removals(drawn):
    """The pods have no cpu request."""
    use, size = drawn
    pods = a_pod("p0", request=None), a_pod("p1", request=None)
    one = hpa(metrics=(cpu(), memory("100")))
    plan = Rounds(one, *pods).round(scale(2), measured(p0={"cpu": "1", "memory": use}, p1={"cpu": "1", "memory": use}))  # fmt: skip
    assert new_size(plan) == size
    active = next(c for c in status_of(plan).conditions if c.type == "ScalingActive")
    if size is None:
        assert active.reason == "FailedGetResourceMetric"
        assert (
            active.message
            == "the HPA was unable to compute the replica count: failed to get cpu utilization: missing request for cpu in container c of Pod p0"
        )
        assert [n.reason for n in plan.notes] == [
            "FailedGetResourceMetric",
            "FailedComputeMetricsReplicas",
        ]
    else:
        assert active.status == "True"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(503, None), "unable to fetch metrics from resource metrics API: the server is currently unable to handle the request"),
        (measured(), "no metrics returned from resource metrics API"),
        (measured(q=1), None),
    ],
)  # fmt: skip
def test_hpa_3_hpa_12_metrics_that_are_not_there_are_reported(answer, words):
    plan = Rounds(hpa(), *PODS_OF_TWO).round(scale(2), answer)
    assert new_size(plan) is None and why(plan)["ScalingActive"] == (
        "False",
        "FailedGetResourceMetric",
    )
    found = next(c.message for c in status_of(plan).conditions if c.type == "ScalingActive")
    if words is not None:
        assert found.endswith(
            f"failed to get cpu utilization: unable to get metrics for resource cpu: {words}"
        )
    assert status_of(plan).current_replicas == 2


def test_hpa_4_a_container_is_measured_alone():
    target = MetricTarget(type="Utilization", average_utilization=50)
    for name, size, reason in (
        ("c", 4, "ValidMetricFound"),
        ("x", None, "FailedGetContainerResourceMetric"),
    ):
        source = ContainerResourceMetricSource(name="cpu", container=name, target=target)
        one = hpa(metrics=(MetricSpec(type="ContainerResource", container_resource=source),))
        plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=100, p1=100))
        assert new_size(plan) == size and why(plan)["ScalingActive"][1] == reason
        if size:
            assert status_of(plan).current_metrics[0].container_resource.container == "c"


def test_hpa_4_a_pod_without_a_value_of_each_container_is_missing():
    plan = Rounds(hpa(), *PODS_OF_TWO).round(scale(2), measured(p0=10, p1={"memory": "1"}))
    assert new_size(plan) is None and why(plan)["AbleToScale"][1] == "ReadyForNewScale"


@pytest.mark.parametrize(
    ("tolerance", "size"), [(None, None), ("0.03", 3), ("40m", None), ("39m", 3)]
)
def test_hpa_7_the_tolerance_is_given_by_the_behavior(tolerance, size):
    rules = HPAScalingRules(tolerance=tolerance, stabilization_window_seconds=0, policies=(HPAScalingPolicy(type="Pods", value=4, period_seconds=15),))  # fmt: skip
    one = hpa(behavior=HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules))
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=52, p1=52))
    assert new_size(plan) == size


def test_hpa_8_nothing_is_removed_for_five_minutes_after_a_higher_recommendation():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    plan = rounds.round(scale(2), measured(p0=50, p1=50))
    passed = 0
    while new_size(plan) is None:
        passed += PERIOD
        plan = rounds.later().round(scale(2), measured(p0=10, p1=10))
        if new_size(plan) is None:
            assert why(plan)["AbleToScale"][1] == "ScaleDownStabilized"
    assert new_size(plan) == 1 and passed == 5 * MINUTE


def test_hpa_9_a_change_counts_for_the_policies_once_it_has_taken_effect():
    rules = HPAScalingRules(stabilization_window_seconds=0, select_policy="Max", policies=(HPAScalingPolicy(type="Pods", value=1, period_seconds=60),))  # fmt: skip
    rounds = Rounds(hpa(behavior=HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules)), *PODS_OF_TWO)  # fmt: skip
    assert new_size(rounds.round(scale(2), measured(p0=100, p1=100))) == 3
    rounds.reconcile()
    plan = rounds.later().round(scale(3), measured(p0=100, p1=100))
    assert new_size(plan) is None and why(plan)["ScalingLimited"] == ("True", "ScaleUpLimit")
    assert new_size(rounds.later(60).round(scale(3), measured(p0=100, p1=100))) == 4


@pytest.mark.parametrize(
    ("current", "least", "most", "size", "words"),
    [
        (1, 3, 5, 3, "Current number of replicas below Spec.MinReplicas"),
        (9, 3, 5, 5, "Current number of replicas above Spec.MaxReplicas"),
    ],
)
def test_hpa_10_a_target_out_of_its_bounds_is_brought_back_without_metrics(current, least, most, size, words):  # fmt: skip
    plan = Rounds(hpa(least=least, most=most)).round(scale(current))
    assert new_size(plan) == size and status_of(plan).current_metrics is None
    [request] = [r for r in plan.requests if r.subresource == "scale"]
    assert request.note.message == f"New size: {size}; reason: {words}"
    assert request.body.metadata.resource_version == "5"


def test_hpa_10_a_target_without_replicas_is_off():
    plan = Rounds(hpa(least=2)).round(scale(0))
    assert new_size(plan) is None and why(plan)["ScalingActive"] == ("False", "ScalingDisabled")


def test_hpa_10_more_load_than_the_bounds_allow_is_reported():
    plan = Rounds(hpa(most=3), *PODS_OF_TWO).round(scale(2), measured(p0=300, p1=300))
    assert new_size(plan) == 3 and why(plan)["ScalingLimited"] == ("True", "TooManyReplicas")


def test_hpa_11_a_rejected_change_is_reported():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    rounds.round(scale(2), measured(p0=100, p1=100))
    rounds.failure = Response(
        403, failure(403, "Forbidden", "no", StatusDetails(kind="deployments"))
    )
    plan = rounds.reconcile()
    assert why(plan) == {"AbleToScale": ("False", "FailedUpdateScale")}
    assert [n.message for n in plan.notes] == ["New size: 4; reason: cpu resource utilization (percentage of request) above target; error: no"]  # fmt: skip
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    rounds.round(scale(2), measured(p0=100, p1=100))
    rounds.failure = Response(409, failure(409, "Conflict", "old", StatusDetails(kind="horizontalpodautoscalers")))  # fmt: skip
    assert not rounds.reconcile().requests


def test_hpa_12_two_autoscalers_for_the_same_pods_both_stop():
    rounds = Rounds(hpa(), hpa("other"), *PODS_OF_TWO)
    assert new_size(rounds.round(scale(2), measured(p0=100, p1=100))) == 4
    rounds.reconcile()
    rounds.memory = rounds.memory.set("default/other", rounds.memory[KEY])
    plan = rounds.later().round(scale(4), measured(p0=100, p1=100))
    assert new_size(plan) is None and why(plan)["ScalingActive"] == ("False", "AmbiguousSelector")
    [found] = [c.message for c in status_of(plan).conditions if c.type == "ScalingActive"]
    assert (
        found
        == "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
    )


@pytest.mark.parametrize("selector", [None, "a in b"])
def test_hpa_12_a_scale_without_a_usable_selector_is_reported(selector):
    plan = Rounds(hpa(), *PODS_OF_TWO).round(scale(2, selector), measured(p0=1))
    assert why(plan)["ScalingActive"] == ("False", "InvalidSelector")


def test_hpa_12_times_change_only_with_the_status():
    old = hpa()
    plan = Rounds(old, *PODS_OF_TWO).round(scale(2), measured(p0=50, p1=50))
    known = replace(old, status=status_of(plan))
    rounds = Rounds(known, *PODS_OF_TWO).later(100)
    assert not rounds.round(scale(2), measured(p0=50, p1=50)).requests
    rounds.later()
    plan = rounds.round(scale(2), Response(503, None))
    times = {c.type: c.last_transition_time for c in status_of(plan).conditions}
    assert times["AbleToScale"] == timestamp(NOW) != times["ScalingActive"]


def test_hpa_1_hpa_10_a_cluster_scales_to_the_bounds():
    """No metrics are served in a simulated cluster."""
    cluster = create(new_cluster(HPA, DeploymentReconciler()), deployment("web", 1), hpa(least=3))
    cluster = runs.settle(start_all(cluster), lambda a, b: (), seconds_max=40)
    assert get(cluster, DEPLOYMENTS, "web").spec.replicas == 3
    status = get(cluster, HORIZONTAL_POD_AUTOSCALERS, "web").status
    assert status.desired_replicas == 3
    reasons = {(c.type, c.reason) for c in status.conditions}
    assert ("ScalingActive", "FailedGetResourceMetric") in reasons
    assert "SuccessfulRescale" in {e.reason for e in stored(cluster, EVENTS)}


# --- the law of HPA-8 -----------------------------------------------------------------------------

TO_FIVE = Scaling(1_000 * SECOND, 1, 5)


@pytest.mark.parametrize(
    ("window", "scalings", "replicas", "after_seconds", "flaps"),
    [
        (60, [TO_FIVE], 4, 59, True),
        (60, [TO_FIVE], 4, 60, False),
        (60, [TO_FIVE], 5, 59, False),
        (60, [Scaling(TO_FIVE.at, 7, 5)], 4, 59, False),
        (60, [Scaling(900 * SECOND, 1, 9), Scaling(TO_FIVE.at, 9, 5)], 4, 30, False),
        (60, [Scaling(TO_FIVE.at, 1, 30)], 20, 59, False),  # maxReplicas is 20
        (60, [Scaling(TO_FIVE.at, 1, 30)], 19, 59, True),
        (None, [TO_FIVE], 4, 299, True),
        (None, [TO_FIVE], 4, 300, False),
        (None, [Scaling(700 * SECOND, 9, 1), TO_FIVE], 4, 299, False),  # an earlier recommendation
        (None, [Scaling(699 * SECOND, 9, 1), TO_FIVE], 4, 299, True),
    ],
)
def test_hpa_8_a_law_says_when_an_autoscaler_flaps(
    window, scalings, replicas, after_seconds, flaps
):
    behavior = None
    if window is not None:
        rules = HPAScalingRules(stabilization_window_seconds=window)
        behavior = HorizontalPodAutoscalerBehavior(scale_down=rules)
    now = TO_FIVE.at + after_seconds * SECOND
    assert (
        bool(list(hpa_8_does_not_flap(hpa(most=20, behavior=behavior), scalings, replicas, now)))
        == flaps
    )
