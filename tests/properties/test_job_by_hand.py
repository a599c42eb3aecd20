"""Jobs (spec/workloads/job.md): whole plans, requests and statuses against plain counts, and the
boundaries of the rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_job import (
    JOB,
    condition,
    ending,
    exit_rule,
    failed_pod,
    indexed,
    its_pod,
    job,
    status_of,
    statuses,
    untracked,
)
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    plan_for,
    reference_to,
    replica_set,
    sent,
    view_of,
    without_reasons,
)

from refk8s.core.api.batch_v1 import (
    JobCondition,
    PodFailurePolicy,
    PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
    UncountedTerminatedPods,
)
from refk8s.core.api.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    PodCondition,
)
from refk8s.core.api.index_ranges import first_missing, parse_ranges, with_indexes
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    ObjectMeta,
    Preconditions,
    Status,
    StatusCause,
    StatusDetails,
)
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import JOBS, PODS
from refk8s.core.context import SECOND, parse_timestamp, timestamp
from refk8s.core.controllers.job import BURST_MAX
from refk8s.core.controllers.job_pods import (
    COMPLETION_INDEX,
    INDEX_FAILURES,
    INDEX_IGNORED_FAILURES,
    TRACKING_FINALIZER,
    finished_at,
)
from refk8s.core.controllers.job_status import UNCOUNTED_MAX
from refk8s.core.loop.plan import NOTHING, Local, Note, Plan
from refk8s.core.pods.template import pod_from_template

OLD = ago(5000)
SUCCESS, FAILURE = "SuccessCriteriaMet", "FailureTarget"


def at(instant, **parts):
    """A condition of a Job that was set at this instant."""
    return JobCondition(
        last_probe_time=timestamp(instant), last_transition_time=timestamp(instant), **parts
    )


def freeing(one):
    """The request that removes the finalizer from this pod as it is."""
    document = {
        "uid": one.metadata.uid,
        "resourceVersion": "3",
        "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER],
    }
    body = Patch("application/strategic-merge-patch+json", {"metadata": document})
    return Request("patch", PODS, "default", one.metadata.name, body=body)


def deleting(owner, one):
    options = DeleteOptions(preconditions=Preconditions(uid=one.metadata.uid))
    note = Note(owner, "SuccessfulDelete", "Deleted pod: {name}")
    return Request("delete", PODS, "default", one.metadata.name, body=options, note=note)


def waves_of(plan):
    """The requests of the plan by wave, without their reasons; each has one."""
    return [without_reasons(wave) for wave in plan.waves]


# --- a whole plan ---------------------------------------------------------------------------------

PODS_OF_A_JOB = st.lists(
    st.tuples(
        st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
        st.booleans(),  # it is being deleted
        st.booleans(),  # it has the finalizer
        st.sampled_from([None, None, "succeeded", "failed"]),  # the status records it
    ),
    max_size=6,
)


@given(
    PODS_OF_A_JOB,
    st.integers(0, 4),
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
)
def test_job_2_job_3_job_4_job_5_job_17_a_plan_is_what_a_plain_count_says(
    drawn, parallelism, left, succeeded, failed, has_failed_before
):
    """For a Job with some completions left, and as many failures as it may have."""
    base = job(completions=99, parallelism=parallelism, backoff_limit=99, start_time=OLD)
    pods, recorded = [], {"succeeded": ["uid-gone"] * bool(failed), "failed": []}
    for n, (phase, is_dying, is_tracked, known) in enumerate(drawn):
        ready = PodCondition(type="Ready", status="True", last_transition_time=OLD)
        one = its_pod(
            f"p{n}",
            base,
            tracked=is_tracked,
            phase=phase,
            creation_timestamp=OLD,
            conditions=(ready,),
        )
        pods.append(change(one, deletion_timestamp=OLD) if is_dying else one)
        if known is not None:
            recorded[known].append(f"uid-p{n}")
    lists = {kind: tuple(uids) or None for kind, uids in recorded.items()}
    owner = change(
        base,
        succeeded=succeeded or None,
        failed=failed or None,
        uncounted_terminated_pods=UncountedTerminatedPods(**lists),
    )

    # who is what
    phase_of = {one.metadata.uid: one.status.phase for one in pods}
    tracked = [one.metadata.uid for one in pods if one.metadata.finalizers]
    known = recorded["succeeded"] + recorded["failed"]
    dying = [one.metadata.uid for one in pods if one.metadata.deletion_timestamp]
    over = ("Succeeded", "Failed")
    active = [one for one in pods if one.metadata.uid not in dying and one.status.phase not in over]
    new = [uid for uid in tracked if uid not in known]
    done = [uid for uid in new if phase_of[uid] == "Succeeded"]
    lost = [uid for uid in new if phase_of[uid] == "Failed" or (uid in dying and uid not in done)]
    failures = failed + len(recorded["failed"]) + len(lost)
    if failures:
        above = change(owner, backoff_limit=failures - 1)
        [target] = statuses(plan_for(JOB, above, *pods))[0].conditions
        assert (target.type, target.reason) == (FAILURE, "BackoffLimitExceeded")
    # what is missing or too many
    reached = succeeded + len(recorded["succeeded"]) + len(done)
    owner = change(owner, completions=reached + left, backoff_limit=failures)
    local = Local(failures=1) if has_failed_before else Local()
    plan = plan_for(JOB, owner, *pods, local=local)
    wanted = min(parallelism, left)
    missing, too_many = max(wanted - len(active), 0), max(len(active) - wanted, 0)

    kept = {kind: [uid for uid in recorded[kind] if uid in tracked] for kind in recorded}
    status = replace(
        owner.status,
        succeeded=succeeded + len(recorded["succeeded"]) - len(kept["succeeded"]) or None,
        failed=failed + len(recorded["failed"]) - len(kept["failed"]) or None,
        uncounted_terminated_pods=UncountedTerminatedPods(
            succeeded=tuple(kept["succeeded"] + done) or None,
            failed=tuple(kept["failed"] + lost) or None,
        ),
        active=len(active) + (0 if has_failed_before else missing) or None,
        ready=len(active),
        terminating=len([uid for uid in dying if phase_of[uid] not in over]),
    )
    [update] = sent(plan, "update", JOBS, "status")
    assert update.body == replace(owner, status=status)
    assert sorted(untracked(plan)) == sorted(
        [uid.removeprefix("uid-") for uid in tracked if uid in known]
        + [name for name in [r.name for r in sent(plan, "delete")] if f"uid-{name}" in tracked]
    )
    assert len(sent(plan, "create")) == missing and len(sent(plan, "delete")) == too_many
    # the status follows its creations, unless the last plan has failed
    verbs = [wave[0].verb for wave in plan.waves]
    is_last = bool(missing) and not has_failed_before
    assert verbs.index("update") == (len(verbs) - 1 if is_last else 0)
    assert verbs.count("create") == len(bin(missing)) - 2 if missing else True
    assert plan.notes == ()
    assert plan.wake_at is None


def test_job_2_a_plan_deletes_at_most_five_hundred_pods():
    owner = job(completions=9999, parallelism=0, start_time=OLD)
    many = [its_pod(f"p{n}", owner) for n in range(BURST_MAX + 2)]
    assert len(sent(plan_for(JOB, owner, *many), "delete")) == BURST_MAX
    failing = ending(owner, FAILURE)
    assert len(sent(plan_for(JOB, failing, *many), "delete")) == BURST_MAX
    assert not sent(plan_for(JOB, failing, *many), "create")


def test_job_2_without_parallelism_one_pod_runs():
    assert len(sent(plan_for(JOB, job(completions=5, parallelism=None)), "create")) == 1


# --- whole requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "finalizers", [None, ("a.example/x",), (TRACKING_FINALIZER, "a.example/x")]
)
def test_job_3_a_pod_is_made_from_the_template_with_the_finalizer(finalizers):
    base = job(completions=2)
    shape = replace(
        base.spec.template, metadata=replace(base.spec.template.metadata, finalizers=finalizers)
    )
    owner = change(base, template=shape)
    made = without_reasons(sent(plan_for(JOB, owner), "create"))
    expected = pod_from_template(shape, reference_to(owner))
    all_of_them = (
        finalizers
        if TRACKING_FINALIZER in (finalizers or ())
        else (*(finalizers or ()), TRACKING_FINALIZER)
    )
    body = change(expected, finalizers=all_of_them)
    note = Note(owner, "SuccessfulCreate", "Created pod: {name}")
    assert made == [Request("create", PODS, "default", body=body, note=note)]


def test_job_6_a_pod_of_an_index_is_made_from_the_template():
    base = indexed(3, 1, completed_indexes="0", succeeded=1)
    mine = EnvVar(name="JOB_COMPLETION_INDEX", value="mine")
    other = EnvVar(name="OTHER", value="1")
    containers = Container(name="c", env=(other,)), Container(name="d", env=(mine,))
    shape = replace(
        base.spec.template,
        metadata=ObjectMeta(labels=LABELS, annotations={"note": "n"}),
        spec=replace(
            base.spec.template.spec, containers=containers, init_containers=(Container(name="i"),)
        ),
    )
    owner = change(base, template=shape)
    [made] = without_reasons(sent(plan_for(JOB, owner), "create"))
    path = "metadata.labels['batch.kubernetes.io/job-completion-index']"
    added = EnvVar(
        name="JOB_COMPLETION_INDEX",
        value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path=path)),
    )
    plain = pod_from_template(shape, reference_to(owner))
    body = replace(
        plain,
        metadata=replace(
            plain.metadata,
            generate_name="work-1-",
            finalizers=(TRACKING_FINALIZER,),
            annotations={"note": "n", COMPLETION_INDEX: "1"},
            labels={**LABELS, COMPLETION_INDEX: "1"},
        ),
        spec=replace(
            plain.spec,
            hostname="work-1",
            containers=(replace(containers[0], env=(other, added)), containers[1]),
            init_containers=(Container(name="i", env=(added,)),),
        ),
    )
    note = Note(owner, "SuccessfulCreate", "Created pod: {name}")
    assert made == Request("create", PODS, "default", body=body, note=note)


def test_job_4_a_surplus_pod_is_freed_and_deleted_as_it_was_seen():
    owner = job(completions=9, parallelism=0, start_time=OLD)
    mine, free = its_pod("a", owner), its_pod("b", owner, tracked=False, node_name="n")
    status, freed, deleted = waves_of(plan_for(JOB, owner, mine, free))
    assert (freed, deleted) == ([freeing(mine)], [deleting(owner, mine), deleting(owner, free)])
    body = replace(
        owner,
        status=replace(
            owner.status,
            active=2,
            ready=0,
            terminating=0,
            uncounted_terminated_pods=UncountedTerminatedPods(),
        ),
    )
    assert status == [Request("update", JOBS, "default", "work", "status", body=body)]


def test_job_4_of_a_repeated_index_all_pods_but_one_go_before_others():
    owner = indexed(9, 2, start_time=OLD)
    older = {"creation_timestamp": ago(90)}
    pods = [
        its_pod("a", owner, 1),
        its_pod("b", owner, 1, **older),
        its_pod("c", owner, 0, **older),
        its_pod("d", owner, 0),
        its_pod("e", owner, 2, node_name="n"),
        its_pod("f", owner, 3, node_name="n", **older),
        its_pod("g", owner, 4),
    ]
    # d and a repeat indexes; of the five others the three without a node and the youngest go
    plan = plan_for(JOB, owner, *pods)
    assert [r.name for r in sent(plan, "delete")] == ["d", "a", "g", "b", "c"]
    # where the repeated ones are enough, no other goes
    plan = plan_for(JOB, change(owner, parallelism=5), *pods)
    assert [r.name for r in sent(plan, "delete")] == ["d", "a"]


# --- who is due -----------------------------------------------------------------------------------


def keys_of(resource):
    return next(each.keys for each in JOB.interests if each.resource is resource)


def test_job_4_a_pod_that_no_job_will_count_is_due_by_itself():
    owner = job()
    mine, keys = its_pod("p", owner), keys_of(PODS)
    by_itself = ["default/work", "pod: default/p"]
    assert keys(view_of(JOB, owner), None, mine) == ["default/work"]
    assert keys(view_of(JOB), None, mine) == by_itself
    assert keys(view_of(JOB), None, change(mine, finalizers=None)) == ["default/work"]
    assert keys(view_of(JOB), mine, None) == ["default/work"]
    assert keys(view_of(JOB, change(owner, uid="later")), None, mine) == by_itself
    for kind in ("Complete", "Failed"):
        assert keys(view_of(JOB, ending(owner, kind)), None, mine) == by_itself
    assert keys(view_of(JOB, ending(owner, SUCCESS)), None, mine) == ["default/work"]
    of_another = change(mine, owner_references=(replace(reference_to(owner), kind="Other"),))
    assert keys(view_of(JOB, owner), None, of_another) == ["pod: default/p"]


def test_job_4_an_orphan_that_a_job_will_adopt_is_not_due_by_itself():
    owner, keys = job(), keys_of(PODS)
    orphan = its_pod("p", None)
    assert keys(view_of(JOB, owner), None, orphan) == ["default/work"]
    going = change(owner, deletion_timestamp=ago(1))
    assert keys(view_of(JOB, going), None, orphan) == ["default/work", "pod: default/p"]
    dying = change(orphan, deletion_timestamp=ago(1))
    assert keys(view_of(JOB, owner), None, dying) == ["default/work", "pod: default/p"]
    for labels in ({"app": "other"}, None):
        assert keys(view_of(JOB, owner), None, change(orphan, labels=labels)) == ["pod: default/p"]
    elsewhere = change(owner, namespace="elsewhere")
    assert keys(view_of(JOB, elsewhere), None, orphan) == ["pod: default/p"]


def test_job_4_the_pods_of_a_job_that_is_gone_or_has_finished_are_due():
    owner, keys = job(), keys_of(JOBS)
    pods = its_pod("a", owner), its_pod("b", owner, tracked=False), its_pod("c", replica_set())
    view = view_of(JOB, *pods)
    assert keys(view, None, owner) == keys(view, owner, owner) == ["default/work"]
    both = ["default/work", "pod: default/a"]
    assert keys(view, owner, None) == both
    assert keys(view, owner, ending(owner, "Failed")) == both


def test_job_4_a_pod_that_is_due_by_itself_loses_its_finalizer():
    owner = job()
    one = its_pod("p", owner)

    def planned(*objects):
        return JOB.reconcile(view_of(JOB, *objects), "pod: default/p", NOW, Local())

    assert waves_of(planned(one)) == [[freeing(one)]]
    assert planned(one, owner) == NOTHING
    assert planned(change(one, finalizers=None)) == planned() == NOTHING


@pytest.mark.parametrize("kind", ["Complete", "Failed"])
def test_job_11_a_finished_job_and_one_that_is_gone_need_nothing(kind):
    owner = job()
    assert plan_for(JOB, ending(owner, kind), its_pod("p", owner)) == NOTHING
    assert JOB.reconcile(view_of(JOB), "default/work", NOW, Local()) == NOTHING
    was = change(owner, conditions=(JobCondition(type=kind, status="False"),))
    assert plan_for(JOB, was) != NOTHING


# --- one pod --------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Failed", "TerminatingOrFailed", "rules"])
@pytest.mark.parametrize("phase", ["Pending", "Running", "Succeeded", "Failed"])
@pytest.mark.parametrize("is_dying", [True, False])
def test_job_9_what_counts_as_failed(policy, phase, is_dying):
    waits = policy != "TerminatingOrFailed"
    rules = PodFailurePolicy(rules=()) if policy == "rules" else None
    owner = job(
        completions=9,
        pod_failure_policy=rules,
        pod_replacement_policy="Failed" if policy == "Failed" else "TerminatingOrFailed",
    )
    one = its_pod("p", owner, phase=phase, creation_timestamp=OLD)
    one = change(one, deletion_timestamp=OLD) if is_dying else one
    plan = plan_for(JOB, owner, one)
    counted = status_of(plan).uncounted_terminated_pods
    has_failed = phase == "Failed" or (is_dying and phase != "Succeeded" and not waits)
    assert counted.failed == (("uid-p",) if has_failed else None)
    assert counted.succeeded == (("uid-p",) if phase == "Succeeded" else None)
    takes_place = phase in ("Pending", "Running") and (waits or not is_dying)
    assert len(sent(plan, "create")) == (not takes_place)


@pytest.mark.parametrize("text", ["3", "２", "-1", "", "12345678901", "1.0", None])
def test_job_6_what_is_no_index_of_the_job_counts_for_nothing(text):
    owner = indexed(3, 0)
    one = its_pod("p", owner, text, phase="Succeeded")
    plan = plan_for(JOB, owner, one)
    assert untracked(plan) == ["p"] and status_of(plan).succeeded is None
    assert status_of(plan).completed_indexes is None


def test_job_6_the_highest_index_is_one_below_completions():
    huge = 2**31 - 1
    owner = indexed(huge, 0)
    plan = plan_for(JOB, owner, its_pod("p", owner, huge - 1, phase="Succeeded"))
    assert status_of(plan).completed_indexes == str(huge - 1)
    assert parse_ranges(f"{huge - 1}", huge) == ((huge - 1, huge - 1),)


@given(st.sets(st.integers(0, 12)), st.integers(0, 9), st.integers(0, 12))
def test_job_6_the_lowest_missing_indexes_come_first(taken, count, completions):
    expected = sorted(set(range(completions)) - taken)[:count]
    assert first_missing(with_indexes((), taken), count, completions) == expected


def ended(code, name="c"):
    state = ContainerState(terminated=ContainerStateTerminated(exit_code=code, finished_at=OLD))
    return ContainerStatus(name=name, state=state)


RUNNING = ContainerStatus(name="r", state=ContainerState(running=ContainerStateRunning()))


@pytest.mark.parametrize(
    ("rule", "containers", "init", "found"),
    [
        (exit_rule("FailJob", 7), (RUNNING, ended(0), ended(7, "d")), (), ("d", 7)),
        (exit_rule("FailJob", 7), (ended(7),), (ended(7, "i"),), ("c", 7)),
        (exit_rule("FailJob", 7), (ended(3),), (ended(7, "i"),), ("i", 7)),
        (exit_rule("FailJob", 7), None, (ended(7, "i"),), ("i", 7)),
        (exit_rule("FailJob", 7), (ended(7),), None, ("c", 7)),
        (exit_rule("FailJob", 7, container="d"), (ended(7), ended(7, "d")), (), ("d", 7)),
        (exit_rule("FailJob", 7, container="d"), (ended(7), ended(8, "d")), (), None),
        (exit_rule("FailJob", 0, operator="NotIn"), (ended(0), ended(4, "d")), (), ("d", 4)),
        (exit_rule("FailJob", 4, operator="NotIn"), (ended(0), ended(4, "d")), (), None),
    ],
)
def test_job_7_the_first_container_with_such_a_code_is_named(rule, containers, init, found):
    owner = job(completions=9, pod_failure_policy=PodFailurePolicy(rules=(rule,)))
    one = its_pod(
        "p", owner, phase="Failed", container_statuses=containers, init_container_statuses=init
    )
    target = condition(statuses(plan_for(JOB, owner, one))[0], FAILURE)
    words = (
        f"Container {found[0]} for pod default/p failed with exit code {found[1]} matching FailJob rule at index 0"
        if found
        else None
    )
    assert (target.message if target else None) == words


def test_job_7_a_condition_matches_by_type_and_status_and_true_is_meant_without_one():
    there = PodCondition(type="X", status="False"), PodCondition(type="Y", status="True")
    for kind, status, is_found in (
        ("X", None, False),
        ("Y", None, True),
        ("X", "False", True),
        ("Y", "False", False),
    ):
        pattern = PodFailurePolicyOnPodConditionsPattern(type=kind, status=status)
        other = PodFailurePolicyOnPodConditionsPattern(type="Z", status="True")
        rule = PodFailurePolicyRule(action="FailJob", on_pod_conditions=(other, pattern))
        owner = job(completions=9, pod_failure_policy=PodFailurePolicy(rules=(rule,)))
        one = its_pod("p", owner, phase="Failed", conditions=there)
        target = condition(statuses(plan_for(JOB, owner, one))[0], FAILURE)
        words = f"Pod default/p has condition {kind} matching FailJob rule at index 0"
        assert (target.message if target else None) == (words if is_found else None)
    # what has not failed is not judged
    healthy = its_pod("p", owner, conditions=(PodCondition(type="Y", status="False"),))
    assert condition(statuses(plan_for(JOB, owner, healthy))[0], FAILURE) is None


# --- back-off limits of indexes -------------------------------------------------------------------


def limited(limit=1, **parts):
    return indexed(3, 3, backoff_limit_per_index=limit, backoff_limit=99, start_time=OLD, **parts)


def test_job_8_the_first_pod_of_an_index_has_no_failures_before_it():
    made = sent(plan_for(JOB, limited()), "create")
    assert [r.body.metadata.annotations for r in made] == [
        {COMPLETION_INDEX: str(n), INDEX_FAILURES: "0"} for n in range(3)
    ]


@pytest.mark.parametrize(
    ("counted", "ignored", "code", "after"),
    [
        ("0", None, 1, ("1", None)),
        ("1", "2", 1, ("2", "2")),
        ("1", "2", 9, ("1", "3")),
        ("0", None, 9, ("0", "1")),
        ("x", "y", 1, ("1", None)),
        ("12345678901", "12345678901", 9, ("0", "1")),
        (str(2**31 - 1), str(2**31 - 1), 9, (str(2**31 - 1), str(2**31 - 1))),
    ],
)
def test_job_8_the_next_pod_of_an_index_knows_the_failures_before_it(counted, ignored, code, after):
    """Exit code 9 is ignored."""
    policy = PodFailurePolicy(rules=(exit_rule("Ignore", 9),))
    owner = limited(2**31 - 1, pod_failure_policy=policy)
    before = {INDEX_FAILURES: counted} | ({INDEX_IGNORED_FAILURES: ignored} if ignored else {})
    pods = (
        failed_pod("a", owner, 0, code, annotations=before),
        its_pod("b", owner, 1),
        its_pod("c", owner, 2),
    )
    [made] = sent(plan_for(JOB, owner, *pods), "create")
    kinds = (INDEX_FAILURES, INDEX_IGNORED_FAILURES)
    assert tuple(made.body.metadata.annotations.get(kind) for kind in kinds) == after


def test_job_8_of_several_failed_pods_of_an_index_the_last_one_tells_the_failures():
    owner = limited(9)
    rest = its_pod("0", owner, 1), its_pod("z", owner, 2)

    def told(*pods):
        """The pods are seen in the order of their names."""
        plan = plan_for(JOB, owner, *pods, *rest)
        [made] = sent(plan, "create")
        # the last one keeps its finalizer, and the others are counted
        failed = status_of(plan).uncounted_terminated_pods.failed
        return made.body.metadata.annotations[INDEX_FAILURES], failed

    few = failed_pod("a", owner, 0, annotations={INDEX_FAILURES: "1"}, at=ago(3700))
    many = failed_pod("b", owner, 0, annotations={INDEX_FAILURES: "2"}, at=ago(3800))
    assert told(few, many) == ("3", ("uid-a",))
    assert told(change(few, name="c"), many) == ("3", ("uid-a",))
    late = failed_pod("c", owner, 0, annotations={INDEX_FAILURES: "2"}, at=ago(3600))
    assert told(many, late) == told(many, change(late, name="a")) == ("3", ("uid-b",))
    ignored = {INDEX_FAILURES: "1", INDEX_IGNORED_FAILURES: "5"}
    assert told(many, failed_pod("d", owner, 0, annotations=ignored)) == ("2", ("uid-b",))


def test_job_8_an_index_that_runs_has_succeeded_or_has_failed_waits_for_no_pod():
    last = failed_pod("p", limited(), 0)
    for parts, others in (
        ({}, [its_pod("q", limited(), 0)]),
        ({"completed_indexes": "0"}, []),
        ({"failed_indexes": "0"}, []),
        ({}, [its_pod("q", limited(), 0, phase="Succeeded")]),
    ):
        owner = limited(**parts)
        status = statuses(plan_for(JOB, owner, last, *others))[0]
        assert status.uncounted_terminated_pods.failed == ("uid-p",), parts
    # a pod whose failure is counted already tells nothing
    free = failed_pod("p", limited(), 0, tracked=False, annotations={INDEX_FAILURES: "1"})
    made = sent(plan_for(JOB, limited(), free), "create")
    assert [r.body.metadata.annotations[INDEX_FAILURES] for r in made] == ["0", "0", "0"]


def test_job_8_an_index_waits_until_its_last_pod_may_be_replaced():
    owner = limited(99)

    def last(name, index, seconds, failures, ignored="0"):
        before = {INDEX_FAILURES: failures, INDEX_IGNORED_FAILURES: ignored}
        return failed_pod(name, owner, index, at=ago(seconds), annotations=before)

    # 10, 20 and 40 seconds after their failures
    pods = last("a", 0, 5, "0"), last("b", 1, 17, "0", "1"), last("c", 2, 36, "1", "1")
    plan = plan_for(JOB, owner, *pods)
    assert not sent(plan, "create") and plan.wake_at == NOW + 3 * SECOND
    pods = last("a", 0, 10, "0"), last("b", 1, 19, "0", "1"), last("c", 2, 40, "1", "1")
    plan = plan_for(JOB, owner, *pods)
    assert [r.body.spec.hostname for r in sent(plan, "create")] == ["work-0", "work-2"]
    assert plan.wake_at == NOW + 1 * SECOND


def test_job_9_an_index_whose_pod_is_being_deleted_is_taken():
    owner = indexed(3, 2, pod_replacement_policy="Failed")
    dying = its_pod("p", owner, 0, deletion_timestamp=ago(9))
    made = sent(plan_for(JOB, owner, dying), "create")
    assert [r.body.spec.hostname for r in made] == ["work-1"]


# --- when -----------------------------------------------------------------------------------------


def test_job_16_when_a_pod_has_failed():
    """The end of its last container, else when it became unready, else when its deletion began,
    else its creation."""
    owner = job()
    one = its_pod("p", owner, phase="Failed", creation_timestamp=ago(90))
    both = (*failed_pod("p", owner, at=ago(30)).status.container_statuses, ended(1))
    unready = PodCondition(type="Ready", status="False", last_transition_time=ago(40))
    others = PodCondition(type="Other", status="False", last_transition_time=ago(1))
    dying = {"deletion_timestamp": ago(50), "deletion_grace_period_seconds": 10}

    def when(**parts):
        return (NOW - finished_at(change(one, **parts))) // SECOND

    conditions = (others, unready)
    assert when(container_statuses=both, conditions=conditions, **dying) == 30
    assert when(container_statuses=tuple(reversed(both)), conditions=conditions, **dying) == 30
    assert when(container_statuses=(*both, RUNNING), conditions=conditions, **dying) == 40
    assert when(container_statuses=(), conditions=conditions, **dying) == 40
    assert when(conditions=conditions, **dying) == 40
    for odd in (replace(unready, status="True"), replace(unready, last_transition_time=None)):
        assert when(conditions=(odd,), **dying) == 60
    assert when(deletion_timestamp=ago(50)) == 50
    assert when() == 90
    assert finished_at(change(one, creation_timestamp=None)) == 0


@pytest.mark.parametrize(("success", "left"), [(6, 20 - 5), (5, None), (4, None), (None, 20 - 5)])
def test_job_16_only_failures_after_the_last_success_count(success, left):
    owner = job(completions=9, backoff_limit=99)
    pods = [failed_pod("a", owner, at=ago(5)), failed_pod("b", owner, at=ago(5))]
    if success is not None:
        state = ContainerState(
            terminated=ContainerStateTerminated(exit_code=0, finished_at=ago(success))
        )
        fine = ContainerStatus(name="c", state=state)
        pods.append(its_pod("s", owner, phase="Succeeded", container_statuses=(fine,)))
        pods.append(its_pod("t", owner, phase="Succeeded", creation_timestamp=ago(600)))
    plan = plan_for(JOB, owner, *pods)
    assert plan.wake_at == (NOW + left * SECOND if left is not None else None)
    assert len(sent(plan, "create")) == (left is None)


def test_job_4_job_16_a_surplus_pod_that_is_being_deleted_has_not_failed():
    owner = job(completions=9)
    dying = {"deletion_timestamp": ago(1), "phase": "Running"}
    assert sent(plan_for(JOB, owner, its_pod("p", owner, tracked=False, **dying)), "create")
    assert not sent(plan_for(JOB, owner, its_pod("p", owner, **dying)), "create")


def test_job_16_nobody_waits_while_no_pod_is_missing():
    owner = job(completions=9, parallelism=1)
    plan = plan_for(JOB, owner, failed_pod("a", owner, at=ago(1)), its_pod("b", owner))
    assert plan.wake_at is None


def test_job_12_job_16_the_earlier_of_back_off_and_deadline_wakes():
    for deadline, expected in ((100, 4), (103, 7), (200, 9)):
        owner = job(completions=9, active_deadline_seconds=deadline, start_time=ago(96))
        plan = plan_for(JOB, owner, failed_pod("a", owner, at=ago(1)))
        assert plan.wake_at == NOW + expected * SECOND
    over = change(owner, active_deadline_seconds=96)
    assert plan_for(JOB, over, failed_pod("a", owner, at=ago(1))).wake_at is None
    stopped = change(owner, suspend=True)
    assert plan_for(JOB, stopped).wake_at is None


# --- why a Job ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "main", "phase", "ends"),
    [
        ((2,), (1,), "Running", True), ((1,), (1,), "Running", False), ((), (1, 2), "Pending", True),
        ((3,), (), "Succeeded", False), ((), (3,), "Failed", False),
    ],
)  # fmt: skip
def test_job_5_restarts_of_all_containers_of_pods_that_run_are_added(init, main, phase, ends):
    def counts(restarts):
        return tuple([ContainerStatus(name=f"c{n}", restart_count=n) for n in restarts]) or None

    owner = job(completions=9, restart="OnFailure", backoff_limit=4)
    one = its_pod(
        "a",
        owner,
        phase=phase,
        init_container_statuses=counts(init),
        container_statuses=counts(main),
    )
    more = its_pod("b", owner, phase="Running", container_statuses=counts((1,)))
    found = condition(statuses(plan_for(JOB, owner, one, more))[0], FAILURE)
    assert (found is not None) == ends
    never = job(completions=9, backoff_limit=4)
    assert condition(statuses(plan_for(JOB, never, one, more))[0], FAILURE) is None


def test_job_5_the_limit_is_six_if_none_is_given():
    owner = job(completions=9, backoff_limit=None)
    for failed, ends in ((6, False), (7, True)):
        status = statuses(plan_for(JOB, change(owner, failed=failed)))[0]
        assert (condition(status, FAILURE) is not None) == ends


REASONS = {
    "PodFailurePolicy": "Container c for pod default/p failed with exit code 1 matching FailJob rule at index 0",
    "BackoffLimitExceeded": "Job has reached the specified backoff limit",
    "DeadlineExceeded": "Job was active longer than specified deadline",
    "MaxFailedIndexesExceeded": "Job has exceeded the specified maximal number of failed indexes",
    "FailedIndexes": "Job has failed indexes",
}  # fmt: skip


@given(st.sets(st.sampled_from(list(REASONS))))
def test_job_12_the_first_reason_counts(holds):
    policy = PodFailurePolicy(
        rules=(exit_rule("FailJob", 1 if "PodFailurePolicy" in holds else 5),)
    )
    owner = indexed(
        3,
        0,
        backoff_limit_per_index=0,
        start_time=OLD,
        pod_failure_policy=policy,
        backoff_limit=0 if "BackoffLimitExceeded" in holds else 9,
        active_deadline_seconds=5000 if "DeadlineExceeded" in holds else 5001,
        max_failed_indexes=0 if "MaxFailedIndexesExceeded" in holds else 1,
    )
    # index 0 fails now; the others have succeeded, or one is left
    owner = change(owner, completed_indexes="1,2" if "FailedIndexes" in holds else "1")
    status = statuses(plan_for(JOB, owner, failed_pod("p", owner, 0)))[0]
    reason = next((reason for reason in REASONS if reason in holds), None)
    expected = at(NOW, type=FAILURE, status="True", reason=reason, message=REASONS.get(reason))
    assert status.conditions == ((expected,) if reason else None)
    assert status.failed_indexes == "0"


def test_job_12_one_failed_index_ends_the_job_when_all_others_have_ended_too():
    owner = indexed(2, 2, backoff_limit_per_index=0, failed_indexes="0-1", start_time=OLD)
    found = condition(statuses(plan_for(JOB, owner))[0], FAILURE)
    assert found.reason == "FailedIndexes"
    fine = indexed(2, 2, backoff_limit_per_index=0, completed_indexes="0-1", start_time=OLD)
    assert condition(statuses(plan_for(JOB, fine))[0], FAILURE) is None
    assert condition(statuses(plan_for(JOB, fine))[0], SUCCESS).reason == "CompletionsReached"


@pytest.mark.parametrize("completions", [None, 1, 2])
@pytest.mark.parametrize("phase", [None, "Running", "Succeeded"])
def test_job_1_enough_successes_and_no_active_pod_decide_the_success(completions, phase):
    owner = job(completions=completions, parallelism=1, succeeded=1, start_time=OLD)
    pods = [its_pod("p", owner, phase=phase)] if phase else []
    count = 1 + (phase == "Succeeded")
    enough = count >= (completions or 1) and phase != "Running"
    plan = plan_for(JOB, owner, *pods)
    found = condition(statuses(plan)[0], SUCCESS) if statuses(plan) else None
    words = "Reached expected number of succeeded pods"
    assert found == (
        at(NOW, type=SUCCESS, status="True", reason="CompletionsReached", message=words)
        if enough
        else None
    )


# --- how pods are counted at the end --------------------------------------------------------------


@pytest.mark.parametrize("phase", ["Pending", "Succeeded", "Failed"])
@pytest.mark.parametrize("is_dying", [True, False])
@pytest.mark.parametrize("target", ["", SUCCESS, FAILURE])
@pytest.mark.parametrize("policy", ["Failed", "TerminatingOrFailed"])
@pytest.mark.parametrize("is_job_dying", [True, False])
def test_job_5_how_a_pod_is_counted(phase, is_dying, target, policy, is_job_dying):
    owner = job(completions=9, pod_replacement_policy=policy, start_time=OLD)
    owner = ending(owner, target) if target else owner
    owner = change(owner, deletion_timestamp=ago(1)) if is_job_dying else owner
    one = its_pod("p", owner, phase=phase)
    one = change(one, deletion_timestamp=ago(1)) if is_dying else one
    counted = UncountedTerminatedPods()
    is_freed = False
    if phase == "Succeeded":
        counted = UncountedTerminatedPods(succeeded=("uid-p",))
    elif target == SUCCESS and is_dying:
        is_freed = True  # it is deleted because it is not needed
    elif phase == "Failed" or (is_dying and (policy != "Failed" or target == FAILURE)):
        counted = UncountedTerminatedPods(failed=("uid-p",))
    else:
        is_freed = is_job_dying
    plan = plan_for(JOB, owner, one)
    assert status_of(plan).uncounted_terminated_pods == counted
    assert (untracked(plan) == ["p"]) == is_freed


def test_job_11_the_end_is_reported_when_nothing_is_left():
    for kind, last, reason in (
        (SUCCESS, "Complete", "CompletionsReached"),
        (FAILURE, "Failed", "X"),
    ):
        owner = ending(job(completions=2, start_time=OLD, failed=1), kind, reason)
        old = owner.status.conditions
        other = JobCondition(type=last, status="False")
        owner = change(owner, conditions=(other, *old))
        plan = plan_for(JOB, owner)
        end = at(NOW, type=last, status="True", reason=reason, message="m")
        expected = replace(
            owner.status,
            conditions=(*old, end),
            ready=0,
            terminating=0,
            uncounted_terminated_pods=UncountedTerminatedPods(),
            completion_time=timestamp(NOW) if last == "Complete" else None,
        )
        [update] = without_reasons(plan.requests)
        note = (
            Note(owner, "Completed", "Job completed")
            if last == "Complete"
            else Note(owner, "X", "m", "Warning")
        )
        body = replace(owner, status=expected)
        assert update == Request("update", JOBS, "default", "work", "status", body=body, note=note)
        assert plan == replace(plan, wake_at=None, notes=())
        uid = UncountedTerminatedPods(failed=("uid-p",))
        for left in (
            [its_pod("p", owner)],
            [its_pod("p", owner, tracked=False)],
            [its_pod("p", owner, tracked=False, deletion_timestamp=ago(1))],
            [its_pod("p", owner, phase="Failed")],
        ):
            found = [condition(s, last) for s in statuses(plan_for(JOB, owner, *left))]
            assert found in ([], [None])
        kept = change(owner, uncounted_terminated_pods=uid)
        lost = its_pod("p", None, phase="Failed")
        dying = change(kept, deletion_timestamp=ago(1))
        assert all(condition(s, last) is None for s in statuses(plan_for(JOB, dying, lost)))


def test_job_11_a_job_that_never_started_gets_a_start_unless_it_needs_no_pods():
    for completions, start in ((1, timestamp(NOW)), (0, None)):
        owner = ending(job(completions=completions, suspend=True), SUCCESS)
        assert status_of(plan_for(JOB, owner)).start_time == start


# --- suspension -----------------------------------------------------------------------------------


def test_job_13_suspending_and_resuming_change_the_condition_and_the_start():
    other = JobCondition(type="Other", status="True")
    words = {True: ("JobSuspended", "Job suspended"), False: ("JobResumed", "Job resumed")}
    for before in (None, "True", "False"):
        for suspend in (True, False):
            known = JobCondition(type="Suspended", status=before) if before else None
            first = (known, other) if known else (other,)
            owner = job(completions=9, suspend=suspend, start_time=OLD, conditions=first)
            plan = plan_for(JOB, owner, *[its_pod("p", owner)] * (not suspend))
            status = statuses(plan)[0]
            if (before == "True") == suspend:
                assert status.conditions == first and status.start_time == OLD
                continue
            reason, message = words[suspend]
            new = at(NOW, type="Suspended", status=str(suspend), reason=reason, message=message)
            assert status.conditions == ((new, other) if known else (other, new))
            assert status.start_time == (None if suspend else timestamp(NOW))
            [update] = sent(plan, "update", JOBS, "status")
            told = "Suspended" if suspend else "Resumed"
            assert update.note == Note(owner, told, f"Job {told.lower()}")


def test_job_13_a_job_starts_when_its_first_plan_is_made():
    assert statuses(plan_for(JOB, job()))[0].start_time == timestamp(NOW)
    assert statuses(plan_for(JOB, job(suspend=True)))[0].start_time is None
    [update] = sent(plan_for(JOB, job()), "update", JOBS, "status")
    assert update.note is None and update.body.status.conditions is None


# --- events ---------------------------------------------------------------------------------------


def refused(message="no", **details):
    body = Status(message=message, details=StatusDetails(**details) if details else None)
    return Local(failures=1, failure=Response(403, body))


@pytest.mark.parametrize(
    ("local", "words"),
    [
        (refused(), "Error creating: no"),
        (refused(kind="pods"), "Error creating: no"),
        (refused(kind="jobs"), None),
        (refused(kind="Job"), None),
        (refused(causes=(StatusCause(reason="NamespaceTerminating"),)), None),
        (refused(causes=(StatusCause(reason="Other"),)), "Error creating: no"),
        (refused(""), "Error creating: the API server answered 403"),
        (Local(failures=1, failure=Response(500, None)), "Error creating: the API server answered 500"),
        (Local(failures=1), None),
        (Local(), None),
    ],
)  # fmt: skip
def test_job_17_a_refused_creation_is_told(local, words):
    owner = job(start_time=OLD)
    expected = (Note(owner, "FailedCreate", words, "Warning"),) if words else ()
    assert plan_for(JOB, owner, local=local).notes == expected
    assert plan_for(JOB, owner, its_pod("p", owner), local=local).notes == ()


@pytest.mark.parametrize(("succeeded", "completions", "told"), [(2, 2, False), (3, 2, True), (1, None, False)])  # fmt: skip
def test_job_17_more_successes_than_completions_are_told(succeeded, completions, told):
    owner = ending(job(completions=completions, succeeded=succeeded, start_time=OLD), SUCCESS)
    words = "Too many succeeded pods running after completion count reached"
    note = Note(owner, "TooManySucceededPods", words, "Warning")
    assert plan_for(JOB, owner).notes == ((note,) if told else ())
    failing = ending(job(completions=2, succeeded=succeeded, start_time=OLD), FAILURE)
    assert plan_for(JOB, failing).notes == ()


def test_job_17_a_status_that_is_right_is_not_written():
    owner = job(
        completions=2,
        start_time=OLD,
        active=1,
        ready=0,
        terminating=0,
        uncounted_terminated_pods=UncountedTerminatedPods(),
    )
    assert plan_for(JOB, owner, its_pod("p", owner)) == Plan()
    assert parse_timestamp(OLD) < NOW


# --- boundaries -----------------------------------------------------------------------------------


def test_job_2_without_completions_one_success_is_enough():
    owner = job(completions=None, parallelism=2, succeeded=1, start_time=OLD)
    assert not sent(plan_for(JOB, owner, its_pod("p", owner)), "create")
    fresh = job(completions=None, parallelism=2, start_time=OLD)
    assert len(sent(plan_for(JOB, fresh, its_pod("p", fresh)), "create")) == 1


def test_job_16_the_next_pod_is_made_at_the_end_of_the_back_off():
    owner = job(completions=9)
    for seconds, made in ((9, 0), (10, 1)):
        plan = plan_for(JOB, owner, failed_pod("p", owner, at=ago(seconds)))
        assert len(sent(plan, "create")) == made


def test_job_11_the_pods_of_a_job_that_ends_are_deleted_in_full():
    owner = ending(job(completions=9, start_time=OLD), FAILURE)
    one = its_pod("p", owner)
    assert [deleting(owner, one)] in waves_of(plan_for(JOB, owner, one))


def test_job_17_an_end_without_words_is_told_without_them():
    target = JobCondition(type=FAILURE, status="True")
    owner = job(start_time=OLD, conditions=(target,))
    [update] = sent(plan_for(JOB, owner), "update", JOBS, "status")
    assert update.note == Note(owner, "", "", "Warning")
    none = ending(job(completions=0, start_time=OLD), SUCCESS)
    assert plan_for(JOB, none).notes == ()


PODS_OF_INDEXES = st.lists(
    st.tuples(
        st.sampled_from(["Pending", "Succeeded", "Failed"]),
        st.sampled_from(["0", "1", "2", "3", "4", "x"]),
        st.booleans(),  # it has the finalizer
    ),
    max_size=6,
)


@given(PODS_OF_INDEXES, st.sets(st.integers(0, 3)), st.integers(0, 2))
def test_job_3_job_6_the_counts_of_indexes_are_those_of_a_plain_count(drawn, completed, failed):
    """For a Job with four indexes, which runs no further pods."""
    text = ",".join(map(str, sorted(completed))) or None
    base = indexed(4, 0, backoff_limit=99, start_time=OLD, failed=failed or None)
    owner = change(base, completed_indexes=text, succeeded=len(completed) or None)
    pods = [
        its_pod(f"p{n}", owner, index, tracked, phase=phase, creation_timestamp=OLD)
        for n, (phase, index, tracked) in enumerate(drawn)
    ]
    plan = plan_for(JOB, owner, *pods)
    new = [(f"p{n}", *one) for n, one in enumerate(drawn) if one[2]]
    done = {int(i) for _, phase, i, _ in new if phase == "Succeeded" and i in ("0", "1", "2", "3")}
    lost = [f"uid-{n}" for n, phase, i, _ in new if phase == "Failed" and i not in ("4", "x")]
    [status] = statuses(plan)
    assert parse_ranges(status.completed_indexes or "", 4) == with_indexes((), completed | done)
    assert status.succeeded == (len(completed | done) or None) and status.failed == (failed or None)
    assert status.uncounted_terminated_pods == UncountedTerminatedPods(failed=tuple(lost) or None)
    assert (status.failed_indexes, status.ready, status.terminating) == (None, 0, 0)
    # who is of no index is let go at once, who has completed one when the status has it
    free = [n for n, phase, i, _ in new if i in ("4", "x") and phase != "Pending"]
    free += [n for n, phase, i, _ in new if phase == "Succeeded" and i.isdigit() and int(i) in completed]  # fmt: skip
    active = [(f"p{n}", one[2]) for n, one in enumerate(drawn) if one[0] == "Pending"]
    ends = condition(status, SUCCESS) is not None
    assert ends == (len(completed | done) == 4 and not active)
    assert sorted(r.name for r in sent(plan, "delete")) == [name for name, _ in active]
    assert sorted(untracked(plan)) == sorted(free + [name for name, tracked in active if tracked])


def test_job_3_pods_of_all_kinds_together_are_at_most_five_hundred():
    half = UNCOUNTED_MAX // 2 + 1
    for base, index in ((job(completions=9999, parallelism=0, backoff_limit=9999), False), (indexed(9999, 0, backoff_limit=9999), True)):  # fmt: skip
        owner = change(base, start_time=OLD)
        done = [its_pod(f"a{n}", owner, n if index else None, phase="Succeeded") for n in range(half)]  # fmt: skip
        lost = [its_pod(f"b{n}", owner, n if index else None, phase="Failed") for n in range(half)]
        status = status_of(plan_for(JOB, owner, *done, *lost))
        counted = status.uncounted_terminated_pods
        successes = status.succeeded if index else len(counted.succeeded)
        assert (successes, len(counted.failed)) == (half, half - 2)


def test_job_3_the_index_of_a_pod_counts_only_for_an_indexed_job():
    """A template may have any annotation."""
    owner = job(completions=3, parallelism=0)
    status = status_of(plan_for(JOB, owner, its_pod("p", owner, 0, phase="Succeeded")))
    assert status.uncounted_terminated_pods.succeeded == ("uid-p",)
    assert status.completed_indexes is None


def test_job_8_the_last_pod_of_an_index_is_kept_although_its_failure_is_ignored():
    owner = limited(pod_failure_policy=PodFailurePolicy(rules=(exit_rule("Ignore", 1),)))
    rest = its_pod("b", owner, 1), its_pod("c", owner, 2)
    plan = plan_for(JOB, owner, failed_pod("a", owner, 0), *rest)
    assert untracked(plan) == [] and len(sent(plan, "create")) == 1
    plan = plan_for(JOB, owner, failed_pod("a", owner, 0), its_pod("d", owner, 0), *rest)
    assert untracked(plan) == ["a"]


def test_job_11_an_end_has_the_words_of_its_decision():
    owner = job(start_time=OLD, conditions=(JobCondition(type=FAILURE, status="True"),))
    end = status_of(plan_for(JOB, owner)).conditions[-1]
    assert (end.type, end.reason, end.message) == ("Failed", None, None)


def test_job_6_pods_without_an_index_are_passed_over():
    owner = indexed(1, 1, start_time=OLD)
    pods = its_pod("a", owner, "x", phase="Succeeded"), its_pod("b", owner, 0, phase="Succeeded")
    found = condition(status_of(plan_for(JOB, owner, *pods)), SUCCESS)
    assert found.reason == "CompletionsReached"
