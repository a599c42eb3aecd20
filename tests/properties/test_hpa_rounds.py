"""Rounds of an autoscaler in full: what it asks, writes, says and remembers (HPA-1 to HPA-14,
spec/workloads/autoscaler.md)."""

import pytest
from custom_world import CustomWorld, a_definition, a_version
from immutables import Map
from lies import decides
from lies import view_of as seen_by
from msgspec.structs import replace
from test_hpa import (
    HPA,
    KEY,
    PODS_OF_TWO,
    Rounds,
    a_pod,
    cpu,
    hpa,
    measured,
    memory,
    new_size,
    scale,
    status_of,
)
from test_hpa_custom import (
    SELECTOR,
    Metrics,
    external,
    of_average,
    of_object,
    of_value,
    pods,
    registered,
    values,
)
from workload_helpers import NOW, ago, change, view_of, without_reasons

from refk8s.core.api.aggregated import aggregated_resource
from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec
from refk8s.core.api.autoscaling_v2 import (
    ContainerResourceMetricSource,
    ContainerResourceMetricStatus,
    CrossVersionObjectReference,
    ExternalMetricStatus,
    HorizontalPodAutoscalerBehavior,
    HorizontalPodAutoscalerCondition,
    HorizontalPodAutoscalerStatus,
    HPAScalingPolicy,
    HPAScalingRules,
    MetricIdentifier,
    MetricSpec,
    MetricStatus,
    MetricTarget,
    MetricValueStatus,
    ObjectMetricStatus,
    PodsMetricStatus,
    ResourceMetricStatus,
)
from refk8s.core.api.codec import custom_object
from refk8s.core.api.core_v1 import Container, PodCondition, ResourceRequirements
from refk8s.core.api.meta_v1 import (
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    StatusDetails,
)
from refk8s.core.api.metrics import ContainerMetrics, PodMetrics, PodMetricsList
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    POD_METRICS,
)
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.autoscaler_custom import (
    WINDOW,
    _samples,
    question_key,
    question_of,
    selector_words,
)
from refk8s.core.controllers.autoscaler_metrics import compute_metric
from refk8s.core.controllers.autoscaler_replicas import (
    Sample,
    Tolerances,
    Uncomputable,
    by_ratio,
    by_sum,
    group_pods,
)
from refk8s.core.controllers.horizontal_pod_autoscaler import (
    ANSWER_MAX,
    PERIOD,
    Entry,
    Wanted,
    with_condition,
)
from refk8s.core.loop.plan import NOTHING, Local, Note, Plan
from refk8s.core.properties.law import decisions
from refk8s.core.properties.laws.autoscaler import scales_within_its_bounds
from refk8s.core.properties.predicates.autoscaler import hpa_10_scales_within_its_bounds
from refk8s.core.value import evolve

GOT = ("AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale")  # fmt: skip
FITS = ("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range")  # fmt: skip
CPU = "cpu resource utilization (percentage of request)"
READY = ("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")


def computed(name):
    words = f"the HPA was able to successfully calculate a replica count from {name}"
    return ("ScalingActive", "True", "ValidMetricFound", words)


def conditions(*parts, at=NOW):
    return tuple(
        HorizontalPodAutoscalerCondition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=timestamp(at),
        )
        for kind, status, reason, message in parts
    )


def use_of(average, percent=None, name="cpu"):
    current = MetricValueStatus(average_value=average, average_utilization=percent)
    return MetricStatus(type="Resource", resource=ResourceMetricStatus(name=name, current=current))


def written(one, **parts):
    status = HorizontalPodAutoscalerStatus(observed_generation=1, **parts)
    body = replace(one, status=status)
    return Request(
        "update", HORIZONTAL_POD_AUTOSCALERS, "default", one.metadata.name, "status", body=body
    )


# --- a round in full ------------------------------------------------------------------------------


def test_hpa_1_what_a_round_asks_for_in_full():
    rounds = Rounds(hpa(metrics=(cpu(), memory())), *PODS_OF_TWO)
    first = rounds.reconcile()
    assert without_reasons(first.queries) == [
        Request("get", DEPLOYMENTS, "default", "web", "scale")
    ]
    assert first.wake_at == NOW + ANSWER_MAX and not first.requests
    rounds.now = NOW + SECOND
    waits = rounds.reconcile()
    assert not waits.queries and waits.wake_at == NOW + ANSWER_MAX
    rounds.answer(first.queries[0], scale(2))
    second = rounds.reconcile()
    options = Options(label_selector="app=web")
    assert without_reasons(second.queries) == [
        Request("list", POD_METRICS, "default", options=options)
    ]
    assert second.wake_at == NOW + SECOND + ANSWER_MAX
    # without an answer the round begins anew, and late answers belong to no question
    rounds.now += ANSWER_MAX
    again = rounds.reconcile()
    assert [each.subresource for each in again.queries] == ["scale"]
    before = rounds.memory[KEY]
    rounds.answer(second.queries[0], measured(p0=1))
    assert rounds.memory[KEY].answers == before.answers == Map()
    assert rounds.memory[KEY].scale is None


def test_hpa_1_answers_that_nobody_waits_for_change_nothing():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    for question in (
        Request("get", DEPLOYMENTS, "default", "web", "scale"),
        Request("list", POD_METRICS, "default"),
    ):
        before = rounds.memory[KEY]
        rounds.answer(question, scale(1))
        assert (rounds.memory[KEY].scale, rounds.memory[KEY].answers) == (before.scale, Map())


def test_hpa_1_a_new_autoscaler_rests_first_and_so_does_one_of_the_same_name():
    plan = HPA.reconcile(view_of(HPA, hpa()), KEY, NOW, Local(Map()))
    assert plan == Plan(wake_at=NOW + PERIOD, memory=plan.memory)
    entry = plan.memory[KEY]
    assert (entry.uid, entry.due_at, entry.asked, entry.wanted) == (
        "uid-web",
        NOW + PERIOD,
        "",
        None,
    )
    assert (entry.recommendations, entry.ups, entry.downs, entry.pods) == ((), (), (), "")
    old = Map({KEY: Entry("earlier", recommendations=((NOW, 9),))})
    later = HPA.reconcile(view_of(HPA, hpa()), KEY, NOW + 1, Local(old))
    assert later.memory[KEY].uid == "uid-web" and later.memory[KEY].recommendations == ()
    assert later.wake_at == NOW + 1 + PERIOD
    going = hpa(deletion_timestamp=ago(1))
    gone = HPA.reconcile(view_of(HPA, going), KEY, NOW, Local(old))
    assert gone.memory == Map() and not gone.requests and gone.wake_at is None
    assert HPA.reconcile(view_of(HPA, going), KEY, NOW, Local(Map())) == NOTHING


def test_hpa_4_hpa_11_hpa_12_a_change_in_full():
    one = hpa()
    rounds = Rounds(one, *PODS_OF_TWO)
    plan = rounds.round(scale(2), measured(p0=100, p1=100))
    said = f"New size: 4; reason: {CPU} above target"
    body = replace(scale(2).body, spec=ScaleSpec(replicas=4))
    resize = Request(
        "update",
        DEPLOYMENTS,
        "default",
        "web",
        "scale",
        body=body,
        note=Note(one, "SuccessfulRescale", said),
    )
    able = (
        "AbleToScale",
        "True",
        "SucceededRescale",
        "the HPA controller was able to update the target scale to 4",
    )
    status = written(
        one,
        current_replicas=2,
        desired_replicas=4,
        current_metrics=(use_of("100m", 100),),
        last_scale_time=timestamp(NOW),
        conditions=conditions(able, computed(CPU), FITS),
    )
    assert [without_reasons(wave) for wave in plan.waves] == [[resize], [status]]
    assert plan.notes == () and plan.wake_at == NOW + PERIOD
    assert plan.requests[0].because == f"{CPU} above target"
    entry = plan.memory[KEY]
    assert entry.wanted == Wanted(2, 4, f"{CPU} above target")
    assert (entry.asked, entry.scale, entry.questions, entry.answers) == ("", None, (), Map())
    assert entry.recommendations == ((NOW, 2), (NOW, 4)) and entry.pods == "app=web"
    assert entry.due_at == NOW + PERIOD


def test_hpa_4_hpa_8_a_removal_in_full():
    rules = HPAScalingRules(
        stabilization_window_seconds=0,
        policies=(HPAScalingPolicy(type="Pods", value=9, period_seconds=15),),
    )
    one = hpa(behavior=HorizontalPodAutoscalerBehavior(scale_up=rules, scale_down=rules))
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=10, p1=10))
    assert new_size(plan) == 1
    assert plan.requests[0].note == Note(
        one, "SuccessfulRescale", "New size: 1; reason: All metrics below target"
    )


def test_hpa_10_hpa_12_nothing_to_change_in_full():
    one = hpa()
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=51, p1=51))
    status = written(
        one,
        current_replicas=2,
        desired_replicas=2,
        current_metrics=(use_of("51m", 51),),
        conditions=conditions(READY, computed(CPU), FITS),
    )
    assert without_reasons(plan.requests) == [status]
    assert plan.notes == () and plan.memory[KEY].wanted is None


@pytest.mark.parametrize(
    ("least", "current", "size", "reason"),
    [
        (3, 2, 3, "Current number of replicas below Spec.MinReplicas"),
        (1, 11, 10, "Current number of replicas above Spec.MaxReplicas"),
    ],
)
def test_hpa_10_a_target_out_of_its_bounds_in_full(least, current, size, reason):
    one = hpa(least=least)
    plan = Rounds(one, *PODS_OF_TWO).round(scale(current))
    able = (
        "AbleToScale",
        "True",
        "SucceededRescale",
        f"the HPA controller was able to update the target scale to {size}",
    )
    assert without_reasons(plan.requests)[1:] == [
        written(
            one,
            current_replicas=current,
            desired_replicas=size,
            last_scale_time=timestamp(NOW),
            conditions=conditions(able),
        )
    ]
    assert new_size(plan) == size and plan.memory[KEY].wanted == Wanted(current, size, reason)


def test_hpa_10_at_its_bounds_a_target_is_decided_by_its_metrics():
    for current, least, most in ((1, 1, 5), (2, 2, 5), (5, 1, 5), (1, None, 5)):
        rounds = Rounds(hpa(least=least, most=most), *PODS_OF_TWO)
        rounds.answer(rounds.reconcile().queries[0], scale(current))
        assert [each.verb for each in rounds.reconcile().queries] == ["list"]
    rounds = Rounds(hpa(least=None), *PODS_OF_TWO)
    assert new_size(rounds.round(scale(0))) is None


def test_hpa_10_a_target_without_replicas_in_full():
    one = hpa(least=2)
    plan = Rounds(one, *PODS_OF_TWO).round(scale(0))
    words = "scaling is disabled since the replica count of the target is zero"
    off = ("ScalingActive", "False", "ScalingDisabled", words)
    assert without_reasons(plan.requests) == [
        written(one, desired_replicas=0, conditions=conditions(GOT, off))
    ]


def test_hpa_12_the_bounds_are_told_in_full():
    words = "the desired replica count is more than the maximum replica count"
    plan = Rounds(hpa(most=3), *PODS_OF_TWO).round(scale(3), measured(p0=300, p1=300))
    many = ("ScalingLimited", "True", "TooManyReplicas", words)
    assert status_of(plan).conditions == conditions(READY, computed(CPU), many)
    assert new_size(plan) is None


# --- what does not work ---------------------------------------------------------------------------


def test_hpa_2_a_target_without_a_scale_in_full():
    one = hpa()
    body = failure(404, "NotFound", "not there", StatusDetails())
    for answer, words in (
        (Response(404, body), "not there"),
        (Response(200, body), "not there"),
        (Response(500, None), "the server could not find the requested resource"),
    ):
        plan = Rounds(one, *PODS_OF_TWO).round(answer)
        said = f"the HPA controller was unable to get the target's current scale: {words}"
        unable = ("AbleToScale", "False", "FailedGetScale", said)
        assert plan.notes == (Note(one, "FailedGetScale", words, "Warning"),)
        status = replace(one.status, conditions=conditions(unable))
        assert [each.body.status for each in plan.requests] == [status]
        assert plan.wake_at == NOW + PERIOD


def test_hpa_2_a_target_of_no_kind_and_no_group():
    target = CrossVersionObjectReference(kind="Thing", name="web", api_version=None)
    one = hpa()
    one = replace(one, spec=replace(one.spec, scale_target_ref=target))
    plan = Rounds(one).reconcile()
    assert plan.notes[0].message.endswith('no matches for kind "Thing" in group ""')


@pytest.mark.parametrize(
    ("selector", "reason", "note", "words"),
    [
        (None, "InvalidSelector", ("SelectorRequired", "selector is required"), "the HPA target's scale is missing a selector"),
        ("a in b", "InvalidSelector", None, None),
    ],
)  # fmt: skip
def test_hpa_12_a_selector_that_cannot_be_used_in_full(selector, reason, note, words):
    one = hpa()
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2, selector), measured(p0=1))
    [told] = plan.notes
    if note is None:
        begin = "couldn't convert selector into a corresponding internal selector object: "
        assert told.reason == "InvalidSelector" and told.message.startswith(begin)
        words = told.message
    else:
        assert (told.reason, told.message) == note
    assert told == Note(one, told.reason, told.message, "Warning")
    off = ("ScalingActive", "False", reason, words)
    metrics = status_of(plan).current_metrics
    assert metrics is None
    assert status_of(plan).conditions == conditions(GOT, off)
    assert (status_of(plan).current_replicas, status_of(plan).desired_replicas) == (2, 0)


def test_hpa_12_several_autoscalers_for_the_same_pods_in_full():
    one = hpa()
    rounds = Rounds(
        one, hpa("other"), hpa("third"), hpa("far", namespace="elsewhere"), *PODS_OF_TWO
    )
    rounds.memory = rounds.memory.update(
        {
            "default/third": Entry("uid-third", pods="app=web"),
            "default/other": Entry("uid-other", pods="app"),
            "elsewhere/far": Entry("uid-far", pods="app=web"),
            "default/gone": Entry("uid-gone", pods="app=web"),
        }
    )
    plan = rounds.round(scale(2), measured(p0=1, p1=1))
    words = (
        "pods by selector app=web are controlled by multiple HPAs: "
        "[default/other default/third default/web]"
    )
    assert plan.notes == (Note(one, "AmbiguousSelector", words, "Warning"),)
    off = ("ScalingActive", "False", "AmbiguousSelector", words)
    assert status_of(plan).conditions == conditions(GOT, off)
    # one that selects no pod of the target, or nothing yet, is in nobody's way
    for text in ("app=x", "", "a in b"):
        rounds = Rounds(one, hpa("other"), *PODS_OF_TWO)
        rounds.memory = rounds.memory.set("default/other", Entry("uid-other", pods=text))
        plan = rounds.round(scale(2), measured(p0=100, p1=100))
        assert new_size(plan) == 4
    rounds = Rounds(one, hpa("other"), hpa("third"), *PODS_OF_TWO)
    rounds.memory = rounds.memory.update(
        {"default/other": Entry("o", pods="a in b"), "default/third": Entry("t", pods="app=web")}
    )
    plan = rounds.round(scale(2), measured(p0=100, p1=100))
    assert "[default/third default/web]" in plan.notes[0].message


def test_hpa_3_metrics_that_fail_in_full():
    one = hpa(metrics=(cpu(), memory("100")))
    bare = a_pod("p0", request=None), a_pod("p1", request=None)
    use = {"cpu": "1", "memory": "10"}
    plan = Rounds(one, *bare).round(scale(2), measured(p0=use, p1=use))
    words = "failed to get cpu utilization: missing request for cpu in container c of Pod p0"
    said = (
        "invalid metrics (1 invalid out of 2), first error is: "
        f"failed to get cpu resource metric value: {words}"
    )
    assert plan.notes == (
        Note(one, "FailedGetResourceMetric", words, "Warning"),
        Note(one, "FailedComputeMetricsReplicas", said, "Warning"),
    )
    off = (
        "ScalingActive",
        "False",
        "FailedGetResourceMetric",
        f"the HPA was unable to compute the replica count: {words}",
    )
    status = written(
        one,
        current_replicas=2,
        desired_replicas=0,
        conditions=conditions(GOT, off),
        current_metrics=(MetricStatus(type=""), use_of("10", name="memory")),
    )
    assert without_reasons(plan.requests) == [status]
    # where the other metric asks for as many as there are, it decides
    use = {"cpu": "1", "memory": "100"}
    plan = Rounds(one, *bare).round(scale(2), measured(p0=use, p1=use))
    assert [note.reason for note in plan.notes] == ["FailedGetResourceMetric"]
    assert status_of(plan).conditions == conditions(READY, computed("memory resource"), FITS)


def test_hpa_3_the_first_of_equal_metrics_is_named():
    same = hpa(metrics=(cpu(), memory("100")))
    use = {"cpu": "100m", "memory": "200"}
    plan = Rounds(same, *PODS_OF_TWO).round(scale(2), measured(p0=use, p1=use))
    assert new_size(plan) == 4 and plan.requests[0].because == f"{CPU} above target"
    pair = hpa(metrics=(memory("100"), cpu()))
    plan = Rounds(pair, *PODS_OF_TWO).round(scale(2), measured(p0=use, p1=use))
    assert plan.requests[0].because == "memory resource above target"


@pytest.mark.parametrize("kind", ["deployments", None])
def test_hpa_11_a_rejected_change_in_full(kind):
    one = hpa()
    rounds = Rounds(one, *PODS_OF_TWO)
    rounds.round(scale(2), measured(p0=100, p1=100))
    details = StatusDetails(kind=kind) if kind else None
    rounds.failure = Response(403, failure(403, "Forbidden", "no", details))
    plan = rounds.reconcile()
    said = f"New size: 4; reason: {CPU} above target; error: no"
    assert plan.notes == (Note(one, "FailedRescale", said, "Warning"),)
    unable = (
        "AbleToScale",
        "False",
        "FailedUpdateScale",
        "the HPA controller was unable to update the target scale: no",
    )
    status = replace(one.status, conditions=conditions(unable))
    body = replace(one, status=status)
    assert without_reasons(plan.requests) == [
        Request("update", HORIZONTAL_POD_AUTOSCALERS, "default", "web", "status", body=body)
    ]
    assert plan.wake_at == NOW + PERIOD and rounds.memory[KEY].wanted is None
    assert (rounds.memory[KEY].ups, rounds.memory[KEY].downs) == ((), ())
    # it is told once: the status has it already
    rounds = Rounds(body, *PODS_OF_TWO)
    rounds.memory = rounds.memory.set(KEY, Entry("uid-web", NOW + PERIOD, wanted=Wanted(2, 4, "r")))
    rounds.failure = Response(403, failure(403, "Forbidden", "no", details))
    assert not rounds.reconcile().requests
    rounds = Rounds(one, *PODS_OF_TWO)
    rounds.memory = rounds.memory.set(KEY, Entry("uid-web", NOW + PERIOD, wanted=Wanted(2, 4, "r")))
    rounds.failure = Response(500, None)
    assert rounds.reconcile().notes[0].message.endswith("; error: the scale could not be updated")


@pytest.mark.parametrize("kind", [None, "horizontalpodautoscalers", "HorizontalPodAutoscaler"])
@pytest.mark.parametrize(("before", "after"), [(2, 5), (5, 2)])
@pytest.mark.parametrize("has_behavior", [True, False])
def test_hpa_9_hpa_11_a_change_is_remembered_when_it_took_effect(kind, before, after, has_behavior):
    """Also if only the status of the autoscaler could not be written."""

    def rules(seconds):
        return HPAScalingRules(
            policies=(HPAScalingPolicy(type="Pods", value=1, period_seconds=seconds),)
        )

    behavior = HorizontalPodAutoscalerBehavior(scale_up=rules(60), scale_down=rules(30))
    rounds = Rounds(hpa(behavior=behavior if has_behavior else None))
    earlier = tuple((NOW - seconds * SECOND, 1) for seconds in (61, 59, 31, 29))
    wanted = Wanted(before, after, "r")
    entry = Entry("uid-web", NOW + 7, ups=earlier, downs=earlier, wanted=wanted)
    rounds.memory = rounds.memory.set(KEY, entry)
    rounds.failure = (
        None
        if kind is None
        else Response(409, failure(409, "Conflict", "x", StatusDetails(kind=kind)))
    )
    plan = rounds.reconcile()
    assert plan == Plan(wake_at=NOW + 7, memory=plan.memory)
    found = plan.memory[KEY]
    assert found.wanted is None
    if not has_behavior:
        assert (found.ups, found.downs) == (earlier, earlier)
        return
    change_of = ((NOW, 3),)
    assert found.ups == earlier[1:] + (change_of if after > before else ())
    assert found.downs == earlier[3:] + (change_of if after < before else ())


def test_hpa_12_a_condition_keeps_its_place_and_its_time():
    old, early = conditions(GOT, FITS, at=NOW - 9 * SECOND), NOW - 9 * SECOND
    found = with_condition(old, "AbleToScale", "True", "R", "M", NOW)
    assert found == (*conditions(("AbleToScale", "True", "R", "M"), at=early), old[1])
    found = with_condition(old, "AbleToScale", "False", "R", "M", NOW)
    assert found == (*conditions(("AbleToScale", "False", "R", "M")), old[1])
    timeless = (replace(old[0], last_transition_time=None),)
    found = with_condition(timeless, "AbleToScale", "True", "R", "M", NOW)
    assert found == conditions(("AbleToScale", "True", "R", "M"))
    found = with_condition(old, "ScalingActive", "True", "R", "M", NOW)
    assert found == (*old, *conditions(("ScalingActive", "True", "R", "M")))


# --- resource metrics -----------------------------------------------------------------------------


def container_cpu(name="c", target=None):
    of = target or MetricTarget(type="Utilization", average_utilization=50)
    source = ContainerResourceMetricSource(name="cpu", container=name, target=of)
    return MetricSpec(type="ContainerResource", container_resource=source)


def uses(pod, containers, at=NOW, window="10s"):
    """What metrics.k8s.io says of a pod: the use of each container, as texts."""
    found = tuple([ContainerMetrics(name=name, usage=usage) for name, usage in containers.items()])
    time = at if isinstance(at, str) else timestamp(at)
    return PodMetrics(
        metadata=ObjectMeta(name=pod, namespace="default"),
        timestamp=time,
        window=window,
        containers=found,
    )


def answer(*items):
    return Response(200, PodMetricsList(items=items))


def test_hpa_4_a_containers_metric_in_full():
    one = hpa(metrics=(container_cpu(),))
    plan = Rounds(one, *PODS_OF_TWO).round(
        scale(2),
        answer(*[uses(name, {"c": {"cpu": "60m"}, "d": {"cpu": "1"}}) for name in ("p0", "p1")]),
    )
    value = MetricValueStatus(average_value="60m", average_utilization=60)
    shown = ContainerResourceMetricStatus(name="cpu", container="c", current=value)
    assert status_of(plan).current_metrics == (
        MetricStatus(type="ContainerResource", container_resource=shown),
    )
    name = "cpu container resource utilization (percentage of request)"
    assert plan.requests[0].because == f"{name} above target" and new_size(plan) == 3
    # a target value is compared with the use of the container
    one = hpa(
        metrics=(container_cpu(target=MetricTarget(type="AverageValue", average_value="20m")),)
    )
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=30, p1=30))
    assert plan.requests[0].because == "cpu container resource above target"
    assert status_of(plan).current_metrics[0].container_resource.current == MetricValueStatus(
        average_value="30m"
    )


def test_hpa_3_hpa_4_a_container_that_is_nowhere_in_full():
    one = hpa(metrics=(container_cpu("x"),))
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=1, p1=1))
    words = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: "
        "container x not present in metrics for pod default/p0"
    )
    said = (
        "invalid metrics (1 invalid out of 1), first error is: "
        f"failed to get x container metric value: {words}"
    )
    assert [note.message for note in plan.notes] == [words, said]
    usage = hpa(metrics=(memory(),))
    plan = Rounds(usage, *PODS_OF_TWO).round(scale(2), Response(503, failure(503, "S", "down")))
    words = (
        "failed to get memory usage: unable to get metrics for resource memory: "
        "unable to fetch metrics from resource metrics API: down"
    )
    assert plan.notes[0].message == words
    plan = Rounds(usage, *PODS_OF_TWO).round(scale(2), answer())
    words = (
        "failed to get memory usage: unable to get metrics for resource memory: "
        "no metrics returned from resource metrics API"
    )
    assert plan.notes[0].message == words


def test_hpa_4_hpa_5_the_use_of_a_pod_is_the_sum_of_its_containers():
    both = {"c": {"cpu": "30m"}, "d": {"cpu": "40m", "memory": "1"}}
    for containers, expected in (
        (both, "70m"),
        ({"c": {"cpu": "30m"}, "d": {"memory": "1"}}, None),
        ({"c": {"memory": "1"}, "d": {"cpu": "1"}}, None),
        ({"c": {"cpu": "odd"}}, "0"),
        ({}, None),
    ):
        plan = Rounds(hpa(), a_pod("p0")).round(scale(1), answer(uses("p0", containers)))
        metric = status_of(plan).current_metrics[0]
        found = metric.resource.current.average_value if metric.resource else None
        assert found == expected, containers


@pytest.mark.parametrize(
    ("at", "window", "size"),
    [(NOW - 30 * SECOND, "10s", 2), (NOW - 31 * SECOND, "10s", None), (NOW - 40 * SECOND, "odd", 2), (NOW - 41 * SECOND, "odd", None), ("odd", "0s", None)],
)  # fmt: skip
def test_hpa_5_a_measurement_has_its_time_and_its_window(at, window, size):
    """The pod has been ready for 40 seconds, and was measured over the window before."""
    fresh = change(
        a_pod("p0"),
        start_time=ago(60),
        conditions=(replace(a_pod("p").status.conditions[0], last_transition_time=ago(40)),),
    )
    item = uses("p0", {"c": {"cpu": "90m"}}, at, window)
    assert new_size(Rounds(hpa(), fresh).round(scale(1), answer(item))) == size


def test_hpa_7_each_direction_has_its_own_tolerance():
    policy = (HPAScalingPolicy(type="Pods", value=4, period_seconds=15),)

    def both(up, down):
        rules = [
            HPAScalingRules(tolerance=each, stabilization_window_seconds=0, policies=policy)
            for each in (up, down)
        ]
        return hpa(
            metrics=(memory("100"),),
            behavior=HorizontalPodAutoscalerBehavior(scale_up=rules[0], scale_down=rules[1]),
        )

    def sized(one, text):
        return new_size(
            Rounds(one, *PODS_OF_TWO).round(
                scale(2), measured(p0={"memory": text}, p1={"memory": text})
            )
        )

    assert sized(both("0.3", "0.05"), "125") is None and sized(both("0.2", "0.05"), "125") == 3
    assert sized(both("0.05", "0.6"), "50") is None and sized(both("0.05", "0.4"), "50") == 1
    assert sized(both(None, None), "109") is None and sized(both(None, None), "112") == 3
    only = HorizontalPodAutoscalerBehavior(scale_up=HPAScalingRules(policies=policy))
    assert sized(hpa(metrics=(memory("100"),), behavior=only), "109") is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [(MetricTarget(type="Utilization", average_utilization=None), 10), (MetricTarget(type="AverageValue", average_value="0"), 10)],
)  # fmt: skip
def test_hpa_4_a_target_of_nothing_counts_as_one(target, expected):
    of = replace(cpu().resource, target=target)
    one = hpa(
        metrics=(replace(cpu(), resource=of),),
        most=10,
        behavior=HorizontalPodAutoscalerBehavior(
            scale_up=HPAScalingRules(
                policies=(HPAScalingPolicy(type="Pods", value=99, period_seconds=15),)
            )
        ),
    )
    plan = Rounds(one, *PODS_OF_TWO).round(scale(2), measured(p0=5, p1=5))
    assert new_size(plan) == expected


# --- metrics of other servers ---------------------------------------------------------------------

ONE = MetricIdentifier(name="hits")


def test_hpa_13_the_questions_in_full():
    view = view_of(HPA, hpa(), *registered("v1beta2"))
    asked = question_of(view, pods(selector=SELECTOR), "ns", "app=web")
    place = aggregated_resource("custom.metrics.k8s.io", "v1beta2", "pods")
    options = Options(label_selector="app=web", metric_label_selector="queue=a")
    assert without_reasons([asked]) == [Request("get", place, "ns", "*", "hits", options=options)]
    assert question_key(asked) == "custom.metrics.k8s.io/v1beta2/pods/*/hits?app=web&queue=a"
    asked = question_of(view, external(of_value("1"), selector=SELECTOR), "ns", "app=web")
    place = aggregated_resource("external.metrics.k8s.io", "v1beta1", "queue")
    assert without_reasons([asked]) == [
        Request("get", place, "ns", options=Options(label_selector="queue=a"))
    ]
    named = of_object(of_value("1"))
    named = replace(
        named, object=replace(named.object, metric=MetricIdentifier(name="hits", selector=SELECTOR))
    )
    asked = question_of(view, named, "ns", "app=web")
    place = aggregated_resource("custom.metrics.k8s.io", "v1beta2", "services")
    options = Options(metric_label_selector="queue=a")
    assert without_reasons([asked]) == [Request("get", place, "ns", "s", "hits", options=options)]
    for version in ("v1", None):
        whole = of_object(of_value("1"), "Namespace", version, name="other")
        whole = replace(whole, object=replace(whole.object, metric=named.object.metric))
        asked = question_of(view, whole, "ns", "app=web")
        place = aggregated_resource("custom.metrics.k8s.io", "v1beta2", "metrics")
        assert without_reasons([asked]) == [Request("get", place, "ns", "hits", options=options)]
    odd = of_object(of_value("1"), "Namespace", "example.com/v1")
    assert (
        question_of(view, odd, "ns", "") == 'no matches for kind "Namespace" in group "example.com"'
    )
    plain = of_object(of_value("1"), "Odd", None)
    assert question_of(view, plain, "ns", "") == 'no matches for kind "Odd" in group ""'


def current_of(plan):
    [found] = status_of(plan).current_metrics
    return found


def test_hpa_13_hpa_14_the_statuses_of_metrics_in_full():
    world = (*PODS_OF_TWO, *registered("v1beta2"))
    plan = Metrics(hpa(metrics=(pods("10"),)), *world).round(
        scale(2), values(("p0", "20"), ("p1", "20"))
    )
    average = MetricValueStatus(average_value="20")
    assert current_of(plan) == MetricStatus(
        type="Pods", pods=PodsMetricStatus(metric=ONE, current=average)
    )
    for target, value, name in (
        (of_value("10"), MetricValueStatus(value="30"), "Service metric hits"),
        (of_average("10"), MetricValueStatus(average_value="15"), "external metric hits(nil)"),
    ):
        one = of_object(target)
        plan = Metrics(hpa(metrics=(one,)), *world).round(scale(2), values("30"))
        shown = ObjectMetricStatus(
            metric=ONE, described_object=one.object.described_object, current=value
        )
        assert current_of(plan) == MetricStatus(type="Object", object=shown)
        assert plan.requests[0].because == f"{name} above target"
    for target, value in (
        (of_value("10"), MetricValueStatus(value="30")),
        (of_average("10"), MetricValueStatus(average_value="15")),
    ):
        plan = Metrics(hpa(metrics=(external(target),)), *world).round(scale(2), values("10", "20"))
        shown = ExternalMetricStatus(metric=MetricIdentifier(name="queue"), current=value)
        assert current_of(plan) == MetricStatus(type="External", external=shown)
        assert plan.requests[0].because == "external metric queue(nil) above target"


def test_hpa_14_present_replicas_share_a_value():
    """The replicas of the status count, not those that are wanted."""
    rounds = Metrics(hpa(metrics=(external(of_average("10")),)), *PODS_OF_TWO)
    plan = rounds.round(scale(2, current=4), values("40"))
    assert new_size(plan) == 4 and current_of(plan).external.current.average_value == "10"


def test_hpa_13_odd_items_count_as_nothing():
    rounds = Metrics(hpa(metrics=(external(of_value("10")),)), *PODS_OF_TWO)
    plan = rounds.round(scale(2), values({"value": "odd"}, {}, {"value": "30"}, {"value": None}))
    assert current_of(plan).external.current.value == "30"
    most = str(2**63 - 1) + "m"
    for text, shown in (("9" * 30, most), ("-" + "9" * 30, f"-{most}")):
        rounds = Metrics(hpa(metrics=(external(of_value("10")),)), *PODS_OF_TWO)
        found = status_of(rounds.round(scale(2), values(text))).current_metrics[0]
        assert found.external.current.value == shown
    rounds = Metrics(hpa(metrics=(external(of_value("10")),)), *PODS_OF_TWO)
    tree = {"kind": "L", "apiVersion": "x/v1", "metadata": {}, "items": ["odd", {"value": "30"}]}
    plan = rounds.round(scale(2), Response(200, custom_object(tree)))
    assert current_of(plan).external.current.value == "30"


@pytest.mark.parametrize(
    ("item", "sample"),
    [
        ({"windowSeconds": 5}, Sample(2000, NOW, 5 * SECOND)),
        ({"windowSeconds": 0}, Sample(2000, NOW, 0)),
        ({"windowSeconds": 86_400}, Sample(2000, NOW, 86_400 * SECOND)),
        ({"windowSeconds": 86_401}, Sample(2000, NOW, WINDOW)),
        ({"windowSeconds": -1}, Sample(2000, NOW, WINDOW)),
        ({"windowSeconds": True}, Sample(2000, NOW, WINDOW)),
        ({"window": 7}, Sample(2000, NOW, 7 * SECOND)),
        ({"windowSeconds": 5, "window": 7}, Sample(2000, NOW, 5 * SECOND)),
        ({}, Sample(2000, NOW, WINDOW)),
        ({"timestamp": "odd"}, Sample(2000, 0, WINDOW)),
        ({"timestamp": 5}, Sample(2000, 0, WINDOW)),
    ],
)
def test_hpa_13_the_time_and_the_window_of_a_value(item, sample):
    full = {"describedObject": {"name": "p"}, "value": "2", "timestamp": timestamp(NOW), **item}
    assert _samples([full]) == {"p": sample}
    assert _samples([{**full, "describedObject": odd} for odd in (None, {}, {"name": 5})]) == {}


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(404, failure(404, "NotFound", "")), "{lost} (get {what})"),
        (Response(404, failure(404, "NotFound", "gone")), "gone"),
        (Response(500, failure(500, "I", "the server could not find the requested resource")), "the server could not find the requested resource"),
        (Response(503, failure(503, "S", "")), "{busy} (get {what})"),
        (Response(503, failure(503, "S", "own words")), "own words"),
        (Response(500, failure(500, "I", "service unavailable")), "service unavailable"),
        (Response(500, failure(500, "I", "")), ""),
    ],
)  # fmt: skip
def test_hpa_3_hpa_13_the_words_for_an_answer_that_is_none(response, words):
    view = view_of(HPA, hpa(), *registered("v1beta2"))
    where = {
        external(of_value("1")): (
            "unable to get external metric default/queue/nil: "
            "unable to fetch metrics from external metrics API: ",
            "queue.external.metrics.k8s.io",
        ),
        pods(): (
            "unable to get metric hits: unable to fetch metrics from custom metrics API: ",
            "pods.custom.metrics.k8s.io *",
        ),
    }
    lost, busy = (
        "the server could not find the requested resource",
        "the server is currently unable to handle the request",
    )
    for spec, (begin, what) in where.items():
        question = question_of(view, spec, "default", "app=web")
        with pytest.raises(Uncomputable) as error:
            compute_metric(
                hpa(),
                spec,
                question,
                {question_key(question): response},
                list(PODS_OF_TWO),
                scale(2).body,
                NOW,
            )
        assert str(error.value) == begin + words.format(lost=lost, busy=busy, what=what)


def test_hpa_13_selectors_are_shown_in_the_order_of_their_keys():
    term = LabelSelectorRequirement(key="k", operator="Exists")
    both = LabelSelector(match_labels={"b": "2", "a": "1"}, match_expressions=(term, term))
    one = "LabelSelectorRequirement{Key:k,Operator:Exists,Values:[],},"
    assert (
        selector_words(both)
        == "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{"
        + one
        + one
        + "},}"
    )
    assert (
        selector_words(LabelSelector())
        == "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"
    )


def test_hpa_14_a_value_without_ready_pods_asks_for_none():
    assert by_ratio(5, 1, [change(a_pod("p"), phase="Pending")], 3, Tolerances()) == 0


# --- boundaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [of_average("1m"), of_average("0"), MetricTarget(type="Value")])
def test_hpa_14_the_least_target_is_a_thousandth(target):
    rounds = Metrics(hpa(metrics=(external(target),)), a_pod("p0"))
    assert new_size(rounds.round(scale(1), values("3m"))) == 3


def test_hpa_7_hpa_14_a_value_within_the_tolerance_changes_nothing():
    world = (*PODS_OF_TWO, *registered("v1beta2"))
    for spec in (external(of_value("10")), of_object(of_value("10"))):
        plan = Metrics(hpa(metrics=(spec,)), *world).round(scale(2), values("10"))
        assert new_size(plan) is None and status_of(plan).desired_replicas == 2
    for spec in (external(of_average("10")), of_object(of_average("10"))):
        plan = Metrics(hpa(metrics=(spec,)), *world).round(scale(2), values("30"))
        assert new_size(plan) == 3


def test_hpa_3_an_answer_without_metrics_has_none():
    rounds = Metrics(hpa(metrics=(external(of_value("1")),)), *PODS_OF_TWO)
    for body in (None, scale(1).body, failure(200, "", "")):
        plan = rounds.round(scale(2), Response(200, body))
        words = "unable to get external metric default/queue/nil: no metrics returned from external metrics API"
        assert plan.notes[0].message == words
        rounds.later()


def test_hpa_13_a_question_that_was_not_asked_has_no_answer():
    """The view has changed since the questions of the round."""
    question = question_of(view_of(HPA, hpa()), external(of_value("1")), "default", "app=web")
    spec = external(of_value("1"))
    with pytest.raises(Uncomputable) as error:
        compute_metric(hpa(), spec, question, {}, list(PODS_OF_TWO), scale(2).body, NOW)
    words = (
        "the server is currently unable to handle the request (get queue.external.metrics.k8s.io)"
    )
    assert str(error.value).endswith(words)


def test_hpa_2_hpa_13_targets_and_objects_of_custom_kinds():
    world, key = CustomWorld(a_definition()), "gadgets.example.com"
    definition = world.history.get(CUSTOM_RESOURCE_DEFINITIONS.key("", key)).value
    gadget = of_object(of_value("1"), "Gadget", "example.com/v1")
    view = view_of(HPA, hpa(), *registered("v1beta2"), definition)
    asked = question_of(view, gadget, "ns", "app=web")
    assert asked.resource.plural == "gadgets.example.com"
    plain = of_object(of_value("1"), "Odd", "v1")
    assert question_of(view, plain, "ns", "") == 'no matches for kind "Odd" in group ""'


def test_hpa_5_the_processor_time_of_an_unready_pod_is_not_trusted():
    target = MetricTarget(type="AverageValue", average_value="20m")
    one = hpa(metrics=(replace(cpu(), resource=replace(cpu().resource, target=target)),))
    unready = change(a_pod("p1"), conditions=None)
    plan = Rounds(one, a_pod("p0"), unready).round(scale(2), measured(p0=40, p1=200))
    assert new_size(plan) is None and current_of(plan) == use_of("40m")


def test_hpa_1_each_question_has_its_own_time():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    first = rounds.reconcile().queries
    rounds.later(1).answer(first[0], scale(2))
    rounds.reconcile()
    rounds.now = NOW + ANSWER_MAX
    waits = rounds.reconcile()
    assert not waits.queries and waits.wake_at == NOW + SECOND + ANSWER_MAX


def test_hpa_10_nothing_is_asked_about_a_target_without_replicas():
    rounds = Rounds(hpa(), *PODS_OF_TWO)
    rounds.answer(rounds.reconcile().queries[0], scale(0))
    plan = rounds.reconcile()
    assert plan.queries == () and plan.memory[KEY].due_at == NOW + PERIOD


def test_hpa_2_a_target_without_a_scale_rests_too():
    target = CrossVersionObjectReference(kind="DaemonSet", name="web", api_version="apps/v1")
    one = hpa()
    one = replace(one, spec=replace(one.spec, scale_target_ref=target))
    plan = Rounds(one).reconcile()
    assert list(plan.memory) == [KEY] and plan.memory[KEY].due_at == NOW + PERIOD


def test_hpa_4_a_pod_that_is_measured_in_part_is_missing_and_the_others_count():
    fine = uses("p0", {"c": {"cpu": "50m"}})
    for one in (hpa(), hpa(metrics=(container_cpu(),))):
        for odd in ({"c": {"memory": "1"}}, {} if one.spec.metrics == (cpu(),) else {"c": {}}):
            plan = Rounds(one, *PODS_OF_TWO).round(scale(2), answer(fine, uses("p1", odd)))
            assert plan.notes == () and status_of(plan).desired_replicas == 2
    words = "unable to fetch metrics from resource metrics API: the server is currently unable to handle the request"
    with pytest.raises(Uncomputable) as error:
        compute_metric(hpa(), cpu(), None, {}, list(PODS_OF_TWO), scale(2).body, NOW)
    assert str(error.value).endswith(words)


def test_hpa_4_the_request_of_the_container_counts():
    def with_request(name, text):
        return Container(name=name, resources=ResourceRequirements(requests={"cpu": text}))

    both = (with_request("c", "100m"), with_request("d", "300m"))
    world = [change(a_pod(name), containers=both) for name in ("p0", "p1")]
    plan = Rounds(hpa(metrics=(container_cpu(),)), *world).round(scale(2), measured(p0=50, p1=50))
    current = current_of(plan).container_resource.current
    assert current.average_utilization == 50 and status_of(plan).desired_replicas == 2


def test_hpa_5_a_condition_without_a_time_was_always_so():
    ready = change(a_pod("p0"), conditions=(PodCondition(type="Ready", status="True"),))
    assert group_pods([ready], {"p0": Sample(1, NOW)}, "cpu", NOW).ready == 1
    fresh = change(ready, start_time=ago(10))
    assert group_pods([fresh], {"p0": Sample(1, NOW, SECOND)}, "cpu", NOW).ready == 1


def test_hpa_14_a_share_within_the_tolerance_changes_nothing():
    assert by_sum(21, 10, 2, Tolerances()) == (2, 11)
    assert by_sum(11, 10, 1, Tolerances()) == (1, 11)
    assert by_sum(23, 10, 2, Tolerances()) == (3, 12)


def test_hpa_2_a_target_of_a_custom_kind_is_scaled():
    parts = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}  # fmt: skip
    world = CustomWorld(a_definition(a_version(subresources={"scale": parts})))
    name = CUSTOM_RESOURCE_DEFINITIONS.key("", "gadgets.example.com")
    definition = world.history.get(name).value
    target = CrossVersionObjectReference(kind="Gadget", name="g", api_version="example.com/v1")
    one = hpa()
    one = replace(one, spec=replace(one.spec, scale_target_ref=target))
    rounds = Rounds(one, *PODS_OF_TWO, definition)
    for _ in range(2):  # also after a round without an answer
        [question] = rounds.reconcile().queries
        assert (question.resource.plural, question.name, question.subresource) == ("gadgets", "g", "scale")  # fmt: skip
        rounds.now += ANSWER_MAX
    rounds.answer(question, scale(2))
    rounds.answer(rounds.reconcile().queries[0], measured(p0=100, p1=100))
    [change_of, _] = rounds.reconcile().requests
    assert change_of.resource is question.resource and change_of.body.spec.replicas == 4


@pytest.mark.parametrize(("version", "group"), [("v1", ""), ("a.b/v1", "a.b")])
def test_hpa_2_the_group_of_an_unknown_kind(version, group):
    target = CrossVersionObjectReference(kind="Thing", name="web", api_version=version)
    one = hpa()
    one = replace(one, spec=replace(one.spec, scale_target_ref=target))
    assert Rounds(one).reconcile().notes[0].message.endswith(f'"Thing" in group "{group}"')


def test_hpa_8_hpa_11_a_change_by_an_earlier_recommendation_has_no_metric():
    one = hpa()
    rounds = Rounds(one, *PODS_OF_TWO)
    entry = rounds.memory[KEY]
    rounds.memory = rounds.memory.set(KEY, evolve(entry, recommendations=((NOW - SECOND, 3),)))
    plan = rounds.round(scale(2), measured(p0=50, p1=50))
    assert plan.requests[0].note == Note(one, "SuccessfulRescale", "New size: 3; reason: ")
    assert plan.requests[0].because and plan.memory[KEY].wanted == Wanted(2, 3, "")


def test_hpa_8_recommendations_are_remembered_for_the_window_of_the_behavior():
    rules = HPAScalingRules(stabilization_window_seconds=600)
    behavior = HorizontalPodAutoscalerBehavior(scale_down=rules)
    old = (NOW - 599 * SECOND, 2)
    for one, expected in ((hpa(behavior=behavior), (old, (NOW, 2))), (hpa(), ((NOW, 2),))):
        rounds = Rounds(one, *PODS_OF_TWO)
        entry = rounds.memory[KEY]
        records = ((NOW - 600 * SECOND, 2), old)
        rounds.memory = rounds.memory.set(KEY, evolve(entry, recommendations=records))
        plan = rounds.round(scale(2), measured(p0=50, p1=50))
        assert plan.memory[KEY].recommendations == expected


def test_hpa_12_an_autoscaler_of_a_later_name_is_ambiguous_too():
    rounds = Rounds(hpa(), hpa("zebra"), *PODS_OF_TWO)
    rounds.memory = rounds.memory.set("default/zebra", Entry("uid-zebra", pods="app=web"))
    plan = rounds.round(scale(2), measured(p0=1, p1=1))
    assert plan.notes[0].message.endswith("[default/web default/zebra]")


def test_hpa_13_a_question_of_a_round_has_the_namespace_of_the_autoscaler():
    """Several metrics: each is answered by its own question."""
    specs = (pods("10"), external(of_value("1")))
    rounds = Metrics(hpa(metrics=specs), *PODS_OF_TWO, *registered("v1beta2"))
    plan = rounds.round(scale(2), Response(404, failure(404, "NotFound", "gone")))
    assert [note.message for note in plan.notes][:2] == [
        "unable to get metric hits: unable to fetch metrics from custom metrics API: gone",
        "unable to get external metric default/queue/nil: unable to fetch metrics from external metrics API: gone",
    ]


# --- the law --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "asked", "bound"),
    [(2, 1, 2), (2, 2, None), (2, 10, None), (2, 11, 2), (None, 1, None), (None, 0, 1)],
)
def test_hpa_10_the_law_of_bounds(least, asked, bound):
    one, other = hpa(least=least), hpa("other")
    said = [f"web asks for {asked} replicas; its bounds are {bound} and 10"] if bound else []
    assert list(hpa_10_scales_within_its_bounds(one, asked)) == said

    def judged(*requests, seen=one):
        who = "horizontal-pod-autoscaler"
        before, _, after = decides(who, KEY, seen_by(seen), requests)
        [decision] = decisions(before, after)
        found = scales_within_its_bounds(decision, before, after)
        return None if found is None else list(found)

    body = Scale(spec=ScaleSpec(replicas=asked or None))
    resize = Request("update", DEPLOYMENTS, "default", "web", "scale", body=body)
    assert judged(resize) == said and judged(resize, resize) == said * 2
    assert judged(replace(resize, verb="patch")) is None
    assert judged(replace(resize, subresource="status")) is None
    assert judged(resize, seen=other) is None
