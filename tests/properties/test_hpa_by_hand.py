"""The limits and the numbers of replicas of an autoscaler, beside a plain reading of HPA-4 to
HPA-10 and HPA-14 (spec/workloads/autoscaler.md)."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_hpa import BEHAVIORS, RECORDS, a_pod, used
from workload_helpers import NOW, change

from refk8s.core.api.autoscaling_v2 import (
    HorizontalPodAutoscalerBehavior,
    HPAScalingPolicy,
    HPAScalingRules,
)
from refk8s.core.api.core_v1 import Container, PodCondition, ResourceRequirements
from refk8s.core.context import SECOND
from refk8s.core.controllers import autoscaler_behavior as behaviors
from refk8s.core.controllers.autoscaler_behavior import (
    Limited,
    limit,
    remembered,
    remembered_changes,
    window_of,
)
from refk8s.core.controllers.autoscaler_replicas import (
    Proposal,
    Tolerances,
    Uncomputable,
    by_average,
    by_ratio,
    by_sum,
    by_utilization,
    pod_request,
)

DOWN = (
    "recent recommendations were higher than current one, "
    "applying the highest recent recommendation"
)
UP = "recent recommendations were lower than current one, applying the lowest recent recommendation"
ABLE = {
    "same": ("ReadyForNewScale", "recommended size matches current size"),
    "down": ("ScaleDownStabilized", DOWN),
    "up": ("ScaleUpStabilized", UP),
}
LIMITS = {
    "within": ("DesiredWithinRange", "the desired count is within the acceptable range"),
    "few": ("TooFewReplicas", "the desired replica count is less than the minimum replica count"),
    "many": ("TooManyReplicas", "the desired replica count is more than the maximum replica count"),
    "up": (
        "ScaleUpLimit",
        "the desired replica count is increasing faster than the maximum scale rate",
    ),
    "down": (
        "ScaleDownLimit",
        "the desired replica count is decreasing faster than the maximum scale rate",
    ),
}


def recent(records, seconds):
    return [number for at, number in records if at > NOW - seconds * SECOND]


def furthest(rules, current, ups, downs, sign):
    """Where the policies of a direction end (HPA-9)."""
    if rules.select_policy == "Disabled" or not rules.policies:
        return current
    found = []
    for policy in rules.policies:
        added, removed = (sum(recent(one, policy.period_seconds)) for one in (ups, downs))
        start = current - added + removed
        if policy.type == "Pods":
            found.append(start + sign * policy.value)
        else:
            exact = Fraction(start) * (100 + sign * policy.value) / 100
            # upstream's arithmetic is in floating point
            number = start * (1.0 + sign * policy.value / 100.0)
            assert abs(exact - Fraction(number)) < Fraction(1, 10**6)
            found.append(ceil(number) if sign > 0 else int(number))
    choose = max if (rules.select_policy == "Min") == (sign < 0) else min
    return min(choose(found), 2**31 - 1)


@given(
    BEHAVIORS, st.integers(0, 20), st.integers(0, 60), st.integers(0, 5), st.integers(5, 50), RECORDS, RECORDS, RECORDS,
)  # fmt: skip
def test_hpa_8_hpa_9_hpa_10_the_number_and_the_reasons(
    behavior, current, desired, least, most, past, ups, downs
):
    found = limit(behavior, current, desired, least, most, past, ups, downs, NOW)
    if behavior is None:
        stabilized = max([desired, *recent(past, 300)])
        able = "same" if stabilized == desired else "down"
        fastest = max(2 * current, 4)
        if stabilized < least:
            number, why = least, "few"
        elif stabilized > min(fastest, most):
            number, why = min(fastest, most), "up" if most > fastest else "many"
        else:
            number, why = stabilized, "within"
    else:
        up, down = behavior.scale_up, behavior.scale_down
        windows = [one.stabilization_window_seconds for one in (up, down)]
        lowest = min([desired, *recent(past, windows[0] or 0)])
        highest = max([desired, *recent(past, 300 if windows[1] is None else windows[1])])
        stabilized = current
        if stabilized < lowest:
            stabilized = lowest
        if stabilized > highest:
            stabilized = highest
        able = "same" if stabilized == desired else "up" if desired >= current else "down"
        number, why = stabilized, "within"
        if stabilized > current:
            top = max(furthest(up, current, ups, downs, 1), current)
            if stabilized > min(top, most):
                number, why = min(top, most), "up" if most > top else "many"
        elif stabilized < current:
            bottom = min(furthest(down, current, ups, downs, -1), current)
            if stabilized < max(bottom, least):
                number, why = max(bottom, least), "down" if least < bottom else "few"
    assert found == Limited(number, stabilized, *ABLE[able], *LIMITS[why])


def test_hpa_8_the_windows_of_a_behavior_without_rules():
    empty = HorizontalPodAutoscalerBehavior()
    past = [(NOW - 299 * SECOND, 9), (NOW - 300 * SECOND, 99), (NOW, 1)]
    found = limit(empty, 9, 2, 1, 20, past, (), (), NOW)
    assert (found.replicas, found.able_reason) == (9, "ScaleDownStabilized")
    assert limit(empty, 3, 7, 1, 20, [(NOW, 1)], (), (), NOW).stabilized == 7, "no window for up"
    rules = HPAScalingRules(stabilization_window_seconds=7)
    assert window_of(None, 5) == window_of(HPAScalingRules(), 5) == 5
    assert window_of(rules, 5) == 7 * SECOND
    assert window_of(replace(rules, stabilization_window_seconds=0), 5) == 0


@given(st.none() | st.integers(0, 500), st.none() | st.integers(0, 500), RECORDS)
def test_hpa_8_recommendations_are_kept_as_long_as_the_longest_window(up, down, records):
    behavior = HorizontalPodAutoscalerBehavior(
        scale_up=HPAScalingRules(stabilization_window_seconds=up),
        scale_down=HPAScalingRules(stabilization_window_seconds=down),
    )
    seconds = max(up or 0, 300 if down is None else down)
    kept = tuple(one for one in records if one[0] > NOW - seconds * SECOND)
    assert remembered(behavior, records, NOW) == kept
    only = HorizontalPodAutoscalerBehavior(scale_down=behavior.scale_down)
    seconds = 300 if down is None else down
    kept = tuple(one for one in records if one[0] > NOW - seconds * SECOND)
    assert remembered(only, records, NOW) == kept


@given(st.lists(st.sampled_from([15, 60, 120]), max_size=3), RECORDS)
def test_hpa_9_changes_are_kept_as_long_as_the_longest_period(periods, records):
    policies = [HPAScalingPolicy(type="Pods", value=1, period_seconds=each) for each in periods]
    rules = HPAScalingRules(policies=tuple(policies) or None)
    seconds = max(periods, default=0)
    kept = tuple(one for one in records if one[0] > NOW - seconds * SECOND)
    assert remembered_changes(rules, records, NOW) == kept
    many = [(NOW, n) for n in range(1500)]
    if periods:
        assert remembered_changes(rules, many, NOW) == tuple(many[-behaviors.RECORDS_MAX :])


# --- replicas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("down", "up", "ratio", "covered"),
    [
        (0.1, 0.1, 0.9, True), (0.1, 0.1, 0.89, False), (0.1, 0.1, 1.1, True), (0.1, 0.1, 1.11, False), (0.1, 0.1, 1.0, True),
        (0.5, 0.0, 0.5, True), (0.5, 0.0, 1.01, False), (0.0, 0.5, 0.99, False), (0.0, 0.5, 1.5, True), (0.0, 0.0, 1.0, True),
    ],
)  # fmt: skip
def test_hpa_7_the_tolerances_of_both_directions(down, up, ratio, covered):
    assert Tolerances(down, up).covers(ratio) == covered
    assert Tolerances() == Tolerances(0.1, 0.1)


@given(st.integers(0, 4000), st.integers(1, 1000), st.integers(0, 9), st.lists(st.sampled_from(["ready", "unready", "Pending", "Failed"]), max_size=5))  # fmt: skip
def test_hpa_14_one_value_multiplies_the_ready_pods(value, target, current, kinds):
    unready = (PodCondition(type="Ready", status="False"),)
    pods = []
    for number, kind in enumerate(kinds):
        one = a_pod(f"p{number}")
        if kind == "unready":
            one = change(one, conditions=unready)
        elif kind != "ready":
            one = change(one, phase=kind)
        pods.append(one)
    ratio = value / target
    if 1.0 - 0.1 <= ratio <= 1.0 + 0.1:
        assert by_ratio(value, target, pods, current, Tolerances()) == current
    elif not pods:
        with pytest.raises(Uncomputable) as error:
            by_ratio(value, target, pods, current, Tolerances())
        assert str(error.value) == (
            "unable to calculate ready pods: no pods returned by selector while "
            "calculating replica "
            "count"
        )
    else:
        expected = ceil(ratio * kinds.count("ready"))
        assert by_ratio(value, target, pods, current, Tolerances()) == expected


@given(st.integers(0, 10_000), st.integers(1, 1000), st.integers(0, 9))
def test_hpa_14_one_value_is_shared_by_the_replicas(value, target, present):
    replicas, average = by_sum(value, target, present, Tolerances())
    assert average == ceil(Fraction(value, max(present, 1)))
    ratio = value / (target * present) if present else None
    is_covered = ratio is not None and 1.0 - 0.1 <= ratio <= 1.0 + 0.1
    assert replicas == (present if is_covered else ceil(value / target))


def with_resources(request, name="c"):
    requests = {"cpu": request} if request else None
    return Container(name=name, resources=ResourceRequirements(requests=requests))


def test_hpa_4_the_request_of_a_container_by_its_name():
    both = a_pod("p", containers=(with_resources("100m"), with_resources("200m", "d")))
    assert pod_request(both, "cpu") == 300
    assert pod_request(both, "cpu", "d") == 200 and pod_request(both, "cpu", "z") == 0
    half = a_pod("p", containers=(with_resources("100m"), with_resources(None, "d")))
    assert pod_request(half, "cpu", "c") == 100
    for container in ("", "d"):
        with pytest.raises(Uncomputable) as error:
            pod_request(half, "cpu", container)
        assert str(error.value) == "missing request for cpu in container d of Pod p"
    whole = a_pod("p", resources=ResourceRequirements(requests={"memory": "1"}))
    assert pod_request(whole, "memory") == 1000 and pod_request(whole, "cpu") == 100


kinds_of_pods = st.lists(
    st.tuples(
        st.sampled_from(["known", "known", "missing", "pending", "failed"]), st.integers(0, 400)
    ),
    min_size=1,
    max_size=6,
)


@given(
    kinds_of_pods,
    st.integers(1, 200),
    st.integers(0, 8),
    st.sampled_from(["cpu", "memory"]),
    st.booleans(),
)
def test_hpa_5_hpa_6_unknown_pods_are_filled_in(drawn, target, current, resource, by_percent):
    """Missing pods count as using all that is wanted when the number falls, and nothing when it
    grows; pods that are not ready count as using nothing when it grows. If the change turns or
    vanishes with them, nothing changes."""
    pods = []
    for number, (kind, _) in enumerate(drawn):
        phase = {"pending": "Pending", "failed": "Failed"}.get(kind, "Running")
        pods.append(a_pod(f"p{number}", phase=phase))
    if resource == "memory":
        full = ResourceRequirements(requests={"memory": "100m"})
        pods = [change(one, containers=(Container(name="c", resources=full),)) for one in pods]
    known = {f"p{n}": use for n, (kind, use) in enumerate(drawn) if kind == "known"}
    assume(known)
    samples = used(**known)
    missing = [f"p{n}" for n, (kind, _) in enumerate(drawn) if kind == "missing"]
    unready = [f"p{n}" for n, (kind, _) in enumerate(drawn) if kind == "pending"]
    args = (pods, samples, current, target, Tolerances(), resource)
    found = by_utilization(*args, "", NOW) if by_percent else by_average(*args, NOW)

    def ratio_of(values):
        if by_percent:
            return (sum(values.values()) * 100 // (100 * len(values))) / target
        return sum(values.values()) // len(values) / target

    first = ratio_of(known)
    average = sum(known.values()) // len(known)
    percent = sum(known.values()) * 100 // (100 * len(known)) if by_percent else None
    if not missing and not (unready and first > 1.0):
        covered = 0.9 <= first <= 1.1
        replicas = current if covered else ceil(first * len(known))
        assert found == Proposal(replicas, average, percent)
        return
    values = dict(known)
    wanted = (100 * max(100, target) // 100) if by_percent else target
    for name in missing:
        if first < 1.0:
            values[name] = wanted
        elif first > 1.0:
            values[name] = 0
    for name in unready if first > 1.0 else ():
        values[name] = 0
    second = ratio_of(values)
    if 0.9 <= second <= 1.1 or (first < 1.0 < second) or (second < 1.0 < first):
        replicas = current
    else:
        replicas = ceil(second * len(values))
        if (second < 1.0 and replicas > current) or (second > 1.0 and replicas < current):
            replicas = current
    assert found == Proposal(replicas, average, percent)


def allowing(pods=3, kind="Pods"):
    policy = HPAScalingPolicy(type=kind, value=pods, period_seconds=15)
    rules = HPAScalingRules(stabilization_window_seconds=0, policies=(policy,))
    return HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules)


@pytest.mark.parametrize(
    ("behavior", "current", "desired", "bounds", "number", "reason"),
    [
        (None, 5, 11, (1, 10), 10, "TooManyReplicas"),
        (None, 5, 10, (1, 10), 10, "DesiredWithinRange"),
        (None, 5, 11, (1, 11), 10, "ScaleUpLimit"),
        (None, 5, 2, (2, 10), 2, "DesiredWithinRange"),
        (allowing(), 5, 8, (1, 20), 8, "DesiredWithinRange"),
        (allowing(), 5, 9, (1, 8), 8, "TooManyReplicas"),
        (allowing(), 5, 1, (2, 20), 2, "TooFewReplicas"),
        (allowing(), 5, 2, (1, 20), 2, "DesiredWithinRange"),
        (allowing(), 5, 1, (1, 20), 2, "ScaleDownLimit"),
        (allowing(50, "Percent"), 1000, 1, (1, 2000), 500, "ScaleDownLimit"),
        (allowing(50, "Percent"), 1000, 1999, (1, 2000), 1500, "ScaleUpLimit"),
    ],
)
def test_hpa_9_hpa_10_the_reason_at_each_bound(behavior, current, desired, bounds, number, reason):
    found = limit(behavior, current, desired, *bounds, (), (), (), NOW)
    assert (found.replicas, found.limit_reason) == (number, reason)


def test_hpa_8_hpa_9_a_window_of_nothing_remembers_nothing():
    none = HPAScalingRules(stabilization_window_seconds=0)
    only = HorizontalPodAutoscalerBehavior(scale_down=none)
    assert remembered(only, [(NOW, 1)], NOW) == ()
    assert remembered_changes(None, [(NOW, 1)], NOW) == ()


@pytest.mark.parametrize(
    ("request_of", "uses", "missing", "target", "current", "replicas"),
    [
        ("10", (0,), 2, 99, 5, 2),  # 0 + 200 of 300 percent: 66 of 99, of three
        ("1", (0,), 1, 50, 3, 3),  # 100 of 200 percent: as wanted
        ("1m", (0,), 4, 150, 9, 3),  # each of four is taken to use 1m: 80 of 150, of five
        ("10m", (60,), 4, 50, 5, 12),  # 120 percent, of five
        ("100m", (40,), 1, 50, 2, 2),  # 80 percent of the target becomes 140
    ],
)
def test_hpa_6_what_missing_pods_are_taken_to_use(
    request_of, uses, missing, target, current, replicas
):
    names = [f"p{n}" for n in range(len(uses) + missing)]
    pods = [a_pod(name, request=request_of) for name in names]
    samples = used(**dict(zip(names, uses, strict=False)))
    args = (pods, samples, current, target, Tolerances(0, 0), "cpu", "", NOW)
    assert by_utilization(*args).replicas == replicas


def test_hpa_5_hpa_6_unready_pods_count_only_when_replicas_would_be_added():
    pods = [a_pod("p0"), a_pod("p1", phase="Pending")]
    args = (pods, used(p0=100), 2, 100, Tolerances(0, 0), "cpu", NOW)
    assert by_average(*args).replicas == 2
