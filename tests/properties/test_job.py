"""Jobs (spec/workloads/job.md): every pod is counted once, whatever happens, and the Job ends."""

import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    NOW,
    ago,
    broken_by,
    change,
    choices,
    create,
    get,
    live,
    make_ready,
    new_cluster,
    patch,
    plan_for,
    pod,
    pods_of,
    remove,
    sent,
    settle,
    stored,
    template,
)

from refk8s.core.api.batch_v1 import (
    Job,
    JobCondition,
    JobSpec,
    PodFailurePolicy,
    PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
    SuccessPolicy,
    SuccessPolicyRule,
    UncountedTerminatedPods,
)
from refk8s.core.api.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    PodCondition,
)
from refk8s.core.api.index_ranges import (
    contains,
    first_missing,
    format_ranges,
    intersection_size,
    parse_ranges,
    size,
    with_indexes,
)
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.resources import EVENTS, JOBS, PODS
from refk8s.core.cluster.step import start_all
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.job import BURST_MAX, JobReconciler
from refk8s.core.controllers.job_pods import (
    COMPLETION_INDEX,
    INDEX_FAILURES,
    INDEX_IGNORED_FAILURES,
    TRACKING_FINALIZER,
)
from refk8s.core.controllers.job_status import UNCOUNTED_MAX
from refk8s.core.pods.status import is_active
from refk8s.core.properties.laws import job as laws_of_jobs
from refk8s.core.properties.predicates.job import (
    job_2_never_above_parallelism,
    job_6_one_pod_for_each_index,
)
from refk8s.core.value import evolve

JOB = JobReconciler()
LABELS = {"app": "web"}


def job(name="work", completions=1, parallelism=1, restart="Never", **parts):
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}", generation=1)
    pods = template()
    spec = JobSpec(
        completions=completions,
        parallelism=parallelism,
        backoff_limit=6,
        completion_mode="NonIndexed",
        suspend=False,
        manual_selector=True,
        pod_replacement_policy="TerminatingOrFailed",
        selector=LabelSelector(match_labels=LABELS),
        template=replace(pods, spec=replace(pods.spec, restart_policy=restart)),
    )
    return change(Job(metadata=metadata, spec=spec), **parts)


def indexed(completions=3, parallelism=3, **parts):
    return job(completions=completions, parallelism=parallelism, completion_mode="Indexed", **parts)


def its_pod(name, owner, index=None, tracked=True, **parts):
    more = {COMPLETION_INDEX: str(index)} if index is not None else {}
    annotations = {**more, **parts.pop("annotations", {})}
    return pod(
        name,
        owner,
        finalizers=(TRACKING_FINALIZER,) if tracked else None,
        annotations=annotations or None,
        resource_version="3",
        **parts,
    )


def failed_pod(name, owner, index=None, code=1, **parts):
    ended = ContainerStateTerminated(exit_code=code, finished_at=parts.pop("at", ago(3600)))
    status = ContainerStatus(name="c", state=ContainerState(terminated=ended))
    return its_pod(name, owner, index, phase="Failed", container_statuses=(status,), **parts)


def status_of(plan):
    [update] = sent(plan, "update", JOBS, "status")
    return update.body.status


def statuses(plan):
    return [r.body.status for r in sent(plan, "update", JOBS, "status")]


def condition(status, kind):
    return next((c for c in status.conditions or () if c.type == kind and c.status == "True"), None)


def untracked(plan):
    """The pods whose finalizer the plan removes."""
    return [
        r.name
        for r in sent(plan, "patch", PODS)
        if r.body.document["metadata"].get("$deleteFromPrimitiveList/finalizers")
    ]


def ending(owner, kind, reason="CompletionsReached"):
    return change(owner, conditions=(JobCondition(type=kind, status="True", reason=reason, message="m"),))  # fmt: skip


# --- runs -----------------------------------------------------------------------------------------


def nature(cluster, which):
    """A pod runs, succeeds or fails, or its deletion ends."""
    options = []
    for one in stored(cluster, PODS):
        if one.status.phase in ("Succeeded", "Failed"):
            continue
        options += [(one, "Succeeded"), (one, "Failed")]
    if not options:
        return cluster
    one, phase = options[which % len(options)]
    return patch(cluster, PODS, one.metadata.name, {"status": {"phase": phase}}, "status")


def counted_once(before, after):
    """JOB-3, JOB-11."""
    return broken_by(laws_of_jobs.OF_CHANGES, before, after)


def never_too_many(before, after):
    """JOB-2, JOB-6, for one running controller; JOB-3, JOB-11."""
    yield from counted_once(before, after)
    for owner in stored(after, JOBS):
        alive = [p for p in pods_of(after, owner) if is_active(p)]
        yield from job_2_never_above_parallelism(owner, len(alive), 0)
        yield from job_6_one_pod_for_each_index(owner, alive)


def suspend(cluster, which):
    """A user suspends or resumes the Job, or changes its parallelism."""
    changed = ({"suspend": True}, {"suspend": False}, {"parallelism": 1}, {"parallelism": 3})[
        which % 4
    ]
    [owner] = stored(cluster, JOBS)
    if changed.get("parallelism", 9) < (owner.spec.parallelism or 0):
        return cluster  # more pods than that may be active for a while
    return patch(cluster, JOBS, "work", {"spec": changed})


def finish_all(cluster, check):
    """Let every pod succeed until nothing happens any more."""
    cluster = suspend(cluster, 1)
    for _ in range(40):
        cluster = runs.settle(cluster, check, seconds_max=700)
        alive = [p for p in stored(cluster, PODS) if p.status.phase not in ("Succeeded", "Failed")]
        if not alive:
            return cluster
        for one in alive:
            if get(cluster, PODS, one.metadata.name) is not None:
                cluster = patch(
                    cluster, PODS, one.metadata.name, {"status": {"phase": "Succeeded"}}, "status"
                )
    raise AssertionError("the Job makes pods without end")


JOBS_OF_RUNS = st.sampled_from(
    [
        job(completions=3, parallelism=2),
        job(completions=None, parallelism=2),
        job(completions=2, parallelism=2, backoff_limit=1),
        indexed(3, 2),
        indexed(3, 3, backoff_limit_per_index=1, backoff_limit=100),
        indexed(3, 3, success_policy=SuccessPolicy(rules=(SuccessPolicyRule(succeeded_indexes="1"),))),
    ]
)  # fmt: skip


@settings(deadline=None)
@given(JOBS_OF_RUNS, choices)
def test_job_1_job_2_job_3_job_6_job_11_a_job_ends_and_counts_each_pod_once_whatever_is_late(
    owner, drawn
):
    """JOB-1, JOB-2, JOB-3, JOB-6, JOB-11: views are late, answers are lost, requests arrive
    twice."""
    cluster = start_all(create(new_cluster(JOB), owner))
    users = [
        *[lambda c, w=w: nature(c, w) for w in range(6)],
        *[lambda c, w=w: suspend(c, w) for w in range(4)],
    ]
    cluster = live(cluster, drawn, never_too_many, (), ("lose", "twice", "cut"), users)
    assert_ended(finish_all(cluster, never_too_many))


@settings(deadline=None)
@given(JOBS_OF_RUNS, choices)
def test_job_1_job_3_each_pod_is_counted_once_although_the_controller_crashes(owner, drawn):
    """JOB-1, JOB-3."""
    cluster = start_all(create(new_cluster(JOB), owner))
    users = [
        *[lambda c, w=w: nature(c, w) for w in range(6)],
        *[lambda c, w=w: suspend(c, w) for w in range(4)],
    ]
    cluster = live(cluster, drawn, counted_once, (), ("crash", "lose", "twice"), users)
    assert_ended(finish_all(cluster, counted_once))


def assert_ended(cluster):
    [owner] = stored(cluster, JOBS)
    status = owner.status
    assert (condition(status, "Complete") is None) != (condition(status, "Failed") is None)
    assert bool(status.completion_time) == bool(condition(status, "Complete"))
    assert not status.active and status.terminating == 0
    assert status.uncounted_terminated_pods == UncountedTerminatedPods()
    mine = pods_of(cluster, owner)
    assert not any(p.metadata.finalizers for p in mine)
    # pods that were deleted as surplus or at the end are gone; those that finished are here
    done = [p for p in mine if p.status.phase == "Succeeded"]
    lost = [p for p in mine if p.status.phase == "Failed"]
    assert (status.failed or 0) >= len(lost)
    if owner.spec.completion_mode == "Indexed":
        indexes = {int(p.metadata.annotations[COMPLETION_INDEX]) for p in done}
        assert parse_ranges(status.completed_indexes or "", 3) == with_indexes((), indexes)
        assert (status.succeeded or 0) == len(indexes)
    else:
        assert (status.succeeded or 0) == len(done)


# --- the number of pods ---------------------------------------------------------------------------


@given(
    st.none() | st.integers(0, 9), st.integers(0, 9), st.integers(0, 12), st.integers(0, 9)
)  # fmt: skip
def test_job_2_creates_what_is_missing_and_deletes_what_is_surplus(
    completions, parallelism, active, done
):
    owner = job(completions=completions, parallelism=parallelism, succeeded=done or None)
    plan = plan_for(JOB, owner, *[its_pod(f"p{n}", owner) for n in range(active)])
    if completions is None:
        wanted = parallelism if not done else active
    else:
        wanted = max(min(parallelism, completions - done), 0)
    made, gone = sent(plan, "create", PODS), sent(plan, "delete", PODS)
    ends = any(condition(s, "SuccessCriteriaMet") for s in statuses(plan))
    if ends:
        assert not made and not gone and not active
        assert done >= (completions if completions is not None else 1)
    else:
        assert len(made) == max(wanted - active, 0) and len(gone) == max(active - wanted, 0)
        assert len(untracked(plan)) == len(gone)


def test_job_2_a_plan_changes_at_most_five_hundred_pods():
    assert len(sent(plan_for(JOB, job(completions=9999, parallelism=9999)), "create")) == BURST_MAX


def test_job_2_a_job_that_is_being_deleted_creates_nothing():
    assert not sent(plan_for(JOB, job(deletion_timestamp=ago(1))), "create")


# --- counting -------------------------------------------------------------------------------------


def test_job_3_a_finished_pod_is_written_first_then_freed_then_counted():
    owner = job(completions=2, parallelism=1)
    done = its_pod("p0", owner, phase="Succeeded")
    plan = plan_for(JOB, owner, done)
    assert status_of(plan).uncounted_terminated_pods.succeeded == ("uid-p0",)
    assert status_of(plan).succeeded is None and not untracked(plan)
    recorded = change(owner, uncounted_terminated_pods=UncountedTerminatedPods(succeeded=("uid-p0",)))  # fmt: skip
    plan = plan_for(JOB, recorded, done)
    assert untracked(plan) == ["p0"] and all(s.succeeded is None for s in statuses(plan))
    for rest in ((change(done, finalizers=None),), ()):
        status = status_of(plan_for(JOB, recorded, *rest))
        assert status.succeeded == 1 and not status.uncounted_terminated_pods.succeeded


def test_job_3_a_pod_that_was_recorded_as_failed_stays_failed():
    """Shows JOB-3: it was being deleted, and has succeeded all the same."""
    owner = job(completions=2, uncounted_terminated_pods=UncountedTerminatedPods(failed=("uid-p0",)))  # fmt: skip
    plan = plan_for(JOB, owner, its_pod("p0", owner, phase="Succeeded", deletion_timestamp=ago(1)))
    status = status_of(plan)
    assert status.uncounted_terminated_pods.failed == ("uid-p0",)
    assert not status.uncounted_terminated_pods.succeeded and untracked(plan) == ["p0"]


def test_job_3_at_most_five_hundred_pods_are_counted_at_a_time():
    owner = job(completions=2000, parallelism=2000)
    done = [its_pod(f"p{n}", owner, phase="Succeeded") for n in range(UNCOUNTED_MAX + 3)]
    plan = plan_for(JOB, owner, *done)
    assert len(status_of(plan).uncounted_terminated_pods.succeeded) == UNCOUNTED_MAX


def test_job_3_an_index_is_freed_when_the_status_has_it():
    owner = indexed()
    done = its_pod("p0", owner, 0, phase="Succeeded")
    plan = plan_for(JOB, owner, done)
    assert status_of(plan).completed_indexes == "0" and status_of(plan).succeeded == 1
    assert not untracked(plan) and not status_of(plan).uncounted_terminated_pods.succeeded
    plan = plan_for(JOB, change(owner, completed_indexes="0", succeeded=1), done)
    assert untracked(plan) == ["p0"]


def test_job_4_a_surplus_pod_loses_its_finalizer_before_it_is_deleted():
    owner = job(parallelism=0)
    plan = plan_for(JOB, owner, its_pod("p0", owner))
    kinds = [[r.verb for r in wave] for wave in plan.waves if wave[0].resource is PODS]
    assert kinds == [["patch"], ["delete"]]
    [freed] = sent(plan, "patch", PODS)
    assert freed.body.document["metadata"]["resourceVersion"] == "3"
    assert freed.body.document["metadata"]["uid"] == "uid-p0"


def test_job_4_pods_without_a_job_that_counts_them_lose_the_finalizer():
    cluster = settle(start_all(create(new_cluster(JOB), job(completions=1))))
    [one] = stored(cluster, PODS)
    assert one.metadata.finalizers == (TRACKING_FINALIZER,)
    orphaned = settle(remove(cluster, JOBS, "work", propagation_policy="Background"))
    assert [p.metadata.finalizers for p in stored(orphaned, PODS)] == [None]
    finished = patch(cluster, PODS, one.metadata.name, {"status": {"phase": "Succeeded"}}, "status")
    finished = settle(finished)
    again = {"metadata": {"finalizers": [TRACKING_FINALIZER]}}
    finished = settle(patch(finished, PODS, one.metadata.name, again))
    assert [p.metadata.finalizers for p in stored(finished, PODS)] == [None]
    assert get(finished, JOBS, "work").status.succeeded == 1


def test_job_4_an_adopted_pod_gets_the_finalizer_and_a_released_one_loses_it():
    cluster = settle(start_all(create(new_cluster(JOB), job(completions=1))))
    [one] = stored(cluster, PODS)
    name = one.metadata.name
    freed = patch(cluster, PODS, name, {"metadata": {"ownerReferences": None, "finalizers": None}})
    [one] = stored(settle(freed), PODS)
    assert one.metadata.owner_references and one.metadata.finalizers == (TRACKING_FINALIZER,)
    released = settle(patch(cluster, PODS, name, {"metadata": {"labels": None}}))
    old = get(released, PODS, name)
    assert not old.metadata.owner_references and not old.metadata.finalizers
    assert len(stored(released, PODS)) == 2


def test_job_3_a_pod_without_owner_reference_is_not_counted_before_it_has_no_finalizer():
    owner = job(completions=3, uncounted_terminated_pods=UncountedTerminatedPods(succeeded=("uid-p0",), failed=("uid-p1",)))  # fmt: skip
    owner = change(owner, deletion_timestamp=ago(1))
    lost = its_pod("p0", None, phase="Succeeded"), its_pod("p1", None, phase="Failed")
    found = statuses(plan_for(JOB, owner, *lost))[0]
    assert found.uncounted_terminated_pods == owner.status.uncounted_terminated_pods
    assert not found.succeeded and not found.failed
    free = [change(one, finalizers=None) for one in lost]
    found = statuses(plan_for(JOB, owner, *free))[0]
    assert (found.succeeded, found.failed) == (1, 1)


def test_job_3_a_pod_that_was_counted_is_not_counted_again_when_it_is_adopted_again():
    cluster = settle(start_all(create(new_cluster(JOB), job(completions=2))))
    [one] = stored(cluster, PODS)
    name = one.metadata.name
    cluster = settle(patch(cluster, PODS, name, {"status": {"phase": "Succeeded"}}, "status"))
    assert get(cluster, JOBS, "work").status.succeeded == 1
    cluster = settle(patch(cluster, PODS, name, {"metadata": {"labels": None}}))
    cluster = settle(patch(cluster, PODS, name, {"metadata": {"labels": LABELS}}))
    again = get(cluster, PODS, name)
    assert again.metadata.owner_references and not again.metadata.finalizers
    assert get(cluster, JOBS, "work").status.succeeded == 1


# --- failures -------------------------------------------------------------------------------------


@given(st.integers(0, 4), st.integers(0, 6))
def test_job_5_job_12_more_failures_than_the_limit_end_the_job(limit, failures):
    owner = job(completions=9, parallelism=1, backoff_limit=limit)
    plan = plan_for(JOB, owner, *[failed_pod(f"p{n}", owner) for n in range(failures)])
    target = condition(statuses(plan)[0], "FailureTarget") if statuses(plan) else None
    assert (target is not None) == (failures > limit)
    if target is not None:
        assert target.reason == "BackoffLimitExceeded" and not sent(plan, "create")


@pytest.mark.parametrize(
    ("limit", "restarts", "ends"), [(0, 0, False), (0, 1, True), (3, 2, False), (3, 3, True)]
)
def test_job_5_local_restarts_count_with_on_failure(limit, restarts, ends):
    owner = job(restart="OnFailure", backoff_limit=limit)
    container = ContainerStatus(name="c", restart_count=restarts)
    plan = plan_for(JOB, owner, its_pod("p0", owner, phase="Running", container_statuses=(container,)))  # fmt: skip
    assert (condition(status_of(plan), "FailureTarget") is not None) == ends


def test_job_5_job_11_pods_of_a_failing_job_count_as_failed_and_of_a_succeeding_one_not():
    pods = {"deletion_timestamp": ago(1), "phase": "Running"}
    failing = ending(job(completions=2), "FailureTarget", "BackoffLimitExceeded")
    plan = plan_for(JOB, failing, its_pod("p0", failing, **pods))
    assert status_of(plan).uncounted_terminated_pods.failed == ("uid-p0",)
    succeeding = ending(job(completions=2), "SuccessCriteriaMet")
    plan = plan_for(JOB, succeeding, its_pod("p0", succeeding, **pods))
    assert untracked(plan) == ["p0"]
    assert status_of(plan).uncounted_terminated_pods == UncountedTerminatedPods()


def exit_rule(action, *values, operator="In", container=None):
    codes = PodFailurePolicyOnExitCodesRequirement(container_name=container, operator=operator, values=values)  # fmt: skip
    return PodFailurePolicyRule(action=action, on_exit_codes=codes)


@pytest.mark.parametrize(
    ("rules", "message", "counted"),
    [
        ((exit_rule("FailJob", 42),), "Container c for pod default/p0 failed with exit code 42 matching FailJob rule at index 0", True),
        ((exit_rule("Count", 42), exit_rule("FailJob", 42)), None, True),
        ((exit_rule("Ignore", 42),), None, False),
        ((exit_rule("Ignore", 1, operator="NotIn"),), None, False),
        ((exit_rule("Ignore", 42, operator="NotIn"),), None, True),
        ((exit_rule("FailJob", 42, container="other"),), None, True),
        ((exit_rule("FailJob", 1), exit_rule("FailJob", 42, container="c")), "Container c for pod default/p0 failed with exit code 42 matching FailJob rule at index 1", True),
        ((PodFailurePolicyRule(action="FailJob", on_pod_conditions=(PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="True"),)),), "Pod default/p0 has condition DisruptionTarget matching FailJob rule at index 0", True),
        ((PodFailurePolicyRule(action="FailJob", on_pod_conditions=(PodFailurePolicyOnPodConditionsPattern(type="DisruptionTarget", status="False"),)),), None, True),
    ],
)  # fmt: skip
def test_job_7_the_first_matching_rule_decides(rules, message, counted):
    owner = job(completions=2, pod_failure_policy=PodFailurePolicy(rules=rules), backoff_limit=3)
    there = (PodCondition(type="DisruptionTarget", status="True"),)
    plan = plan_for(JOB, owner, failed_pod("p0", owner, code=42, conditions=there))
    status = statuses(plan)[0]
    target = condition(status, "FailureTarget")
    assert (target.message if target is not None else None) == message
    assert target is None or target.reason == "PodFailurePolicy"
    assert (status.uncounted_terminated_pods.failed == ("uid-p0",)) == counted
    assert (untracked(plan) == ["p0"]) == (not counted)


def test_job_7_exit_code_zero_is_no_failure():
    rules = (exit_rule("Ignore", 1, operator="NotIn"),)
    owner = job(pod_failure_policy=PodFailurePolicy(rules=rules))
    plan = plan_for(JOB, owner, failed_pod("p0", owner, code=0))
    assert statuses(plan)[0].uncounted_terminated_pods.failed == ("uid-p0",)


# --- indexes --------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(0, 8))
def test_job_6_sets_of_indexes_are_sets(left, right, count):
    ours, theirs = with_indexes((), left), with_indexes((), right)
    assert parse_ranges(format_ranges(ours), 31) == ours
    assert {n for n in range(40) if contains(ours, n)} == left and size(ours) == len(left)
    assert with_indexes(ours, right) == with_indexes((), left | right)
    assert intersection_size(ours, theirs) == len(left & right)
    assert first_missing(ours, count, 31) == sorted(set(range(31)) - left)[:count]
    assert parse_ranges(format_ranges(ours), 10) == with_indexes((), {n for n in left if n < 10})


@pytest.mark.parametrize(
    ("text", "indexes"),
    [("", ()), ("0", (0,)), ("1,3-5", (1, 3, 4, 5)), ("x,2,-1,4-3,9", (2,)), ("1-2-3", ()), ("２", ())],
)  # fmt: skip
def test_job_6_what_is_no_index_is_left_out(text, indexes):
    assert parse_ranges(text, 9) == with_indexes((), indexes)


def test_job_6_two_neighbours_are_written_as_two_numbers():
    assert format_ranges(with_indexes((), [0, 1, 3, 5, 6, 7])) == "0,1,3,5-7"


def test_job_6_a_pod_has_its_index_in_five_places():
    owner = indexed(3, 2, completed_indexes="0", succeeded=1)
    made = sent(plan_for(JOB, owner), "create", PODS)
    assert [r.body.metadata.annotations[COMPLETION_INDEX] for r in made] == ["1", "2"]
    one = made[0].body
    assert one.metadata.labels == {**LABELS, COMPLETION_INDEX: "1"}
    assert one.metadata.generate_name == "work-1-" and one.spec.hostname == "work-1"
    [variable] = one.spec.containers[0].env
    assert variable.name == "JOB_COMPLETION_INDEX"
    assert variable.value_from.field_ref.field_path == f"metadata.labels['{COMPLETION_INDEX}']"
    assert one.metadata.finalizers == (TRACKING_FINALIZER,)


def test_job_6_long_names_keep_their_index():
    [made] = sent(plan_for(JOB, indexed(1, 1, name="n" * 63)), "create")
    assert made.body.metadata.generate_name == "n" * 55 + "-0-"


def test_job_6_a_pod_without_a_valid_index_is_surplus_and_not_counted():
    owner = indexed(2, 2)
    odd = [its_pod("a", owner, 2), its_pod("b", owner), its_pod("c", owner, "x")]
    plan = plan_for(JOB, owner, *odd)
    assert sorted(r.name for r in sent(plan, "delete")) == ["a", "b", "c"]
    done = [replace(one, status=replace(one.status, phase="Failed")) for one in odd]
    plan = plan_for(JOB, owner, *done)
    assert sorted(untracked(plan)) == ["a", "b", "c"]
    assert not statuses(plan)[0].uncounted_terminated_pods.failed


@pytest.mark.parametrize(("failures", "lost"), [("0", None), ("1", "0")])
def test_job_8_an_index_fails_at_its_own_limit(failures, lost):
    owner = indexed(2, 2, backoff_limit_per_index=1, backoff_limit=99)
    last = failed_pod("p0", owner, 0, annotations={INDEX_FAILURES: failures})
    plan = plan_for(JOB, owner, last, its_pod("p1", owner, 1))
    assert statuses(plan)[0].failed_indexes == (lost or "")
    made = sent(plan, "create")
    if lost is None:  # its failures go over to the next pod before it is counted
        assert [r.body.metadata.annotations[INDEX_FAILURES] for r in made] == ["1"]
        assert not statuses(plan)[0].uncounted_terminated_pods.failed
        following = its_pod("p2", owner, 0)
        plan = plan_for(JOB, owner, last, following, its_pod("p1", owner, 1))
        assert statuses(plan)[0].uncounted_terminated_pods.failed == ("uid-p0",)
    else:
        assert not made and statuses(plan)[0].uncounted_terminated_pods.failed == ("uid-p0",)


def test_job_8_ignored_failures_of_an_index_are_counted_by_themselves():
    policy = PodFailurePolicy(rules=(exit_rule("Ignore", 1), exit_rule("FailIndex", 2)))
    owner = indexed(2, 2, backoff_limit_per_index=1, pod_failure_policy=policy, backoff_limit=99)
    [made] = sent(plan_for(JOB, owner, failed_pod("p0", owner, 0), its_pod("p1", owner, 1)), "create")  # fmt: skip
    annotations = made.body.metadata.annotations
    assert (annotations[INDEX_FAILURES], annotations[INDEX_IGNORED_FAILURES]) == ("0", "1")
    plan = plan_for(JOB, owner, failed_pod("p0", owner, 0, code=2), its_pod("p1", owner, 1))
    assert statuses(plan)[0].failed_indexes == "0" and not sent(plan, "create")


@pytest.mark.parametrize(
    ("failed", "completed", "limit", "reason"),
    [
        ("0-1", "", 1, "MaxFailedIndexesExceeded"),
        ("0", "", 1, None),
        ("0", "1-2", None, "FailedIndexes"),
        ("0", "1", None, None),
    ],
)
def test_job_12_failed_indexes_end_the_job(failed, completed, limit, reason):
    owner = indexed(3, 3, backoff_limit_per_index=0, max_failed_indexes=limit)
    owner = change(owner, failed_indexes=failed, completed_indexes=completed)
    found = [condition(s, "FailureTarget") for s in statuses(plan_for(JOB, owner))]
    assert [c.reason if c is not None else None for c in found] == [reason]


@pytest.mark.parametrize(
    ("rules", "done", "message"),
    [
        ((SuccessPolicyRule(succeeded_indexes="0,2"),), "0,2", "Matched rules at index 0"),
        ((SuccessPolicyRule(succeeded_indexes="0,2"),), "0-1", None),
        ((SuccessPolicyRule(succeeded_indexes="0,2", succeeded_count=1),), "2", "Matched rules at index 0"),
        ((SuccessPolicyRule(succeeded_count=2),), "1", None),
        ((SuccessPolicyRule(succeeded_count=3), SuccessPolicyRule(succeeded_count=2)), "1-2", "Matched rules at index 1"),
    ],
)  # fmt: skip
def test_job_10_the_success_policy_completes_the_job(rules, done, message):
    owner = indexed(4, 4, success_policy=SuccessPolicy(rules=rules), completed_indexes=done)
    found = condition(statuses(plan_for(JOB, owner))[0], "SuccessCriteriaMet")
    assert (found.message if found is not None else None) == message
    assert found is None or found.reason == "SuccessPolicy"


# --- replacement and ends -------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "made"), [("Failed", 0), ("TerminatingOrFailed", 1)])
def test_job_9_a_pod_that_is_being_deleted_is_replaced_by_policy(policy, made):
    owner = job(completions=2, pod_replacement_policy=policy)
    plan = plan_for(JOB, owner, its_pod("p0", owner, deletion_timestamp=ago(60)))
    assert len(sent(plan, "create")) == made and status_of(plan).terminating == 1
    assert (status_of(plan).uncounted_terminated_pods.failed or ()) == (("uid-p0",) if made else ())


def test_job_11_the_end_is_stored_then_pods_are_deleted_then_it_is_reported():
    owner = job(completions=2, parallelism=2, backoff_limit=0)
    pods = failed_pod("p0", owner), its_pod("p1", owner)
    plan = plan_for(JOB, owner, *pods)
    assert condition(status_of(plan), "FailureTarget") and not sent(plan, "delete")
    decided = replace(owner, status=status_of(plan))
    plan = plan_for(JOB, decided, *pods)
    assert [r.name for r in sent(plan, "delete")] == ["p1"] and untracked(plan) == ["p0"]
    for rest in (
        its_pod("p1", owner, tracked=False, deletion_timestamp=ago(1)),
        its_pod("p1", owner, phase="Failed"),
    ):
        plan = plan_for(JOB, decided, rest)
        assert not any(condition(s, "Failed") for s in statuses(plan))
    status = status_of(plan_for(JOB, decided))
    assert condition(status, "Failed").reason == "BackoffLimitExceeded" and status.failed == 1
    assert status.completion_time is None


def test_job_11_a_complete_job_has_a_completion_time_and_does_not_change():
    owner = job(completions=0)
    plan = plan_for(JOB, owner)
    assert condition(status_of(plan), "SuccessCriteriaMet").reason == "CompletionsReached"
    plan = plan_for(JOB, replace(owner, status=status_of(plan)))
    status = status_of(plan)
    assert condition(status, "Complete").message == "Reached expected number of succeeded pods"
    assert status.completion_time == timestamp(NOW)
    assert plan_for(JOB, replace(owner, status=status)).requests == []


@pytest.mark.parametrize(("seconds", "ends"), [(9, False), (10, True)])
def test_job_12_the_deadline_ends_the_job_and_is_waited_for(seconds, ends):
    owner = job(active_deadline_seconds=10, start_time=ago(seconds))
    plan = plan_for(JOB, owner, its_pod("p0", owner))
    found = [condition(s, "FailureTarget") for s in statuses(plan)]
    assert any(c is not None and c.reason == "DeadlineExceeded" for c in found) == ends
    assert plan.wake_at == (None if ends else NOW + SECOND)
    suspended = change(owner, suspend=True)
    assert not any(condition(s, "FailureTarget") for s in statuses(plan_for(JOB, suspended)))


def test_job_13_a_suspended_job_has_no_pods_and_a_resumed_one_starts_anew():
    owner = job(suspend=True)
    status = status_of(plan_for(JOB, owner))
    assert condition(status, "Suspended").reason == "JobSuspended" and status.start_time is None
    running = job(suspend=True, start_time=ago(50))
    plan = plan_for(JOB, running, its_pod("p0", running))
    assert [r.name for r in sent(plan, "delete")] == ["p0"] and untracked(plan) == ["p0"]
    assert status_of(plan).start_time is None
    resumed = change(owner, suspend=False, conditions=status.conditions, start_time=ago(50))
    after = statuses(plan_for(JOB, resumed))[0]
    [found] = [c for c in after.conditions if c.type == "Suspended"]
    assert (found.status, found.reason) == ("False", "JobResumed")
    assert after.start_time == timestamp(NOW)
    assert statuses(plan_for(JOB, job()))[0].conditions is None


def test_job_13_a_job_that_ran_is_suspended_and_resumed():
    cluster = settle(start_all(create(new_cluster(JOB), job())))
    first = get(cluster, JOBS, "work").status.start_time
    cluster = settle(suspend(cluster, 0))
    assert not get(cluster, JOBS, "work").status.active
    cluster = runs.settle(cluster, lambda a, b: (), seconds_max=60)
    cluster = settle(suspend(replace_time(cluster, MINUTE), 1))
    status = get(cluster, JOBS, "work").status
    assert status.active == 1, f"JOB-13: {status} of a Job that is resumed"
    assert status.start_time not in (None, first)


def replace_time(cluster, more):
    return evolve(cluster, now=cluster.now + more)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"node_name": None}, {"node_name": "n"}),
        ({"phase": "Pending"}, {"phase": "Running"}),
        ({}, {"conditions": (PodCondition(type="Ready", status="True", last_transition_time=ago(5)),)}),
        ({"conditions": (PodCondition(type="Ready", status="True", last_transition_time=ago(5)),)}, {"conditions": (PodCondition(type="Ready", status="True", last_transition_time=ago(6)),)}),
        ({"container_statuses": (ContainerStatus(name="c", restart_count=2),)}, {"container_statuses": (ContainerStatus(name="c", restart_count=1),)}),
        ({"creation_timestamp": ago(5)}, {"creation_timestamp": ago(6)}),
    ],
)  # fmt: skip
def test_job_14_surplus_pods_go_in_order(first, second):
    common = {"node_name": "n", "phase": "Running", "creation_timestamp": ago(9)}
    owner = job(completions=5)
    pods = its_pod("b", owner, **{**common, **first}), its_pod("a", owner, **{**common, **second})
    assert [r.name for r in sent(plan_for(JOB, owner, *pods), "delete")] == ["b"]


def test_job_14_of_a_repeated_index_one_pod_stays():
    owner = indexed(2, 2)
    pods = [its_pod("a", owner, 0, phase="Running"), its_pod("b", owner, 0), its_pod("c", owner, 1)]
    plan = plan_for(JOB, owner, *pods)
    assert [r.name for r in sent(plan, "delete")] == ["b"] and not sent(plan, "create")


def test_job_14_an_elastic_job_deletes_the_highest_indexes():
    owner = indexed(1, 1)
    pods = [its_pod("a", owner, 0), its_pod("b", owner, 1)]
    assert [r.name for r in sent(plan_for(JOB, owner, *pods), "delete")] == ["b"]


@pytest.mark.parametrize(("manager", "ours"), [(None, True), ("kubernetes.io/job-controller", True), ("a.example/b", False)])  # fmt: skip
def test_job_15_another_manager_is_left_alone(manager, ours):
    assert bool(plan_for(JOB, job(managed_by=manager)).requests) == ours


# --- back-off -------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 700))
def test_job_16_the_next_pod_waits_twice_as_long_after_each_failure(failures, seconds):
    owner = job(completions=9, backoff_limit=99)
    pods = [failed_pod(f"p{n}", owner, at=ago(seconds), tracked=False) for n in range(failures)]
    plan = plan_for(JOB, owner, *pods)
    wait = min(10 * 2 ** (failures - 1), 600)
    assert len(sent(plan, "create")) == (seconds >= wait)
    if seconds < wait:
        assert plan.wake_at == NOW + (wait - seconds) * SECOND
    after = its_pod("ok", owner, phase="Succeeded", tracked=False, creation_timestamp=ago(0))
    assert len(sent(plan_for(JOB, owner, *pods, after), "create")) == 1


def test_job_16_indexes_wait_by_themselves():
    owner = indexed(2, 2, backoff_limit_per_index=5, backoff_limit=99)
    last = failed_pod("p0", owner, 0, at=ago(15), annotations={INDEX_FAILURES: "1"})
    plan = plan_for(JOB, owner, last)
    assert [r.body.spec.hostname for r in sent(plan, "create")] == ["work-1"]
    plan = plan_for(JOB, owner, last, its_pod("p1", owner, 1))
    assert not sent(plan, "create") and plan.wake_at == NOW + 5 * SECOND


@pytest.mark.parametrize(
    ("parts", "since"),
    [
        ({"conditions": (PodCondition(type="Ready", status="False", last_transition_time=ago(4)),)}, 4),
        ({"creation_timestamp": ago(3)}, 3),
    ],
)  # fmt: skip
def test_job_16_a_failure_without_containers_is_dated_otherwise(parts, since):
    owner = job(completions=2)
    plan = plan_for(JOB, owner, its_pod("p0", owner, phase="Failed", **parts))
    assert plan.wake_at == NOW + (10 - since) * SECOND


# --- events ---------------------------------------------------------------------------------------


def test_job_17_events_tell_what_happened():
    cluster = settle(start_all(create(new_cluster(JOB), job())))
    [one] = stored(cluster, PODS)
    cluster = make_ready(cluster, one.metadata.name)
    cluster = settle(cluster)
    assert get(cluster, JOBS, "work").status.ready == 1
    cluster = patch(cluster, PODS, one.metadata.name, {"status": {"phase": "Succeeded"}}, "status")
    cluster = runs.settle(cluster, lambda a, b: (), seconds_max=MINUTE // SECOND)
    told = [(e.reason, e.message) for e in stored(cluster, EVENTS)]
    assert ("SuccessfulCreate", f"Created pod: {one.metadata.name}") in told
    assert ("Completed", "Job completed") in told
