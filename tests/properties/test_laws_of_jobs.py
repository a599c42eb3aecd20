"""The laws of Jobs and CronJobs, one by one: what each lets pass, and what it says of what it does
not (spec/workloads/job.md, spec/workloads/cron_job.md)."""

import pytest
from lies import decides, put, request, take, view_of, world
from msgspec.structs import replace
from test_cron import cron_job
from test_cron import its_job as of_cron_job
from test_job import failed_pod, indexed, its_pod, job
from workload_helpers import NOW, change, reference_to, replica_set

from refk8s.core.api.batch_v1 import JobCondition, UncountedTerminatedPods
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CRON_JOBS, JOBS, PODS
from refk8s.core.context import MINUTE, timestamp
from refk8s.core.properties.law import Arrived, decisions
from refk8s.core.properties.laws import cron_job as cron_laws
from refk8s.core.properties.laws import job as laws
from refk8s.core.properties.predicates.cron_job import (
    cron_3_deletes_what_is_written,
    cron_3_keeps_the_last_time,
    cron_3_runs_each_time_once,
    cron_5_forbids_a_second_job,
)
from refk8s.core.properties.predicates.job import (
    job_1_settled,
    job_2_never_above_parallelism,
    job_3_counts_each_pod_once,
    job_3_forgets_no_success,
    job_6_one_pod_for_each_index,
    job_11_an_end_stays,
)


def counts(owner, won=(), lost=(), **parts):
    """The Job whose status has these uids, which it has not counted."""
    recorded = UncountedTerminatedPods(succeeded=won or None, failed=lost or None)
    return change(owner, uncounted_terminated_pods=recorded, **parts)


def ended(owner, *kinds, status="True", **parts):
    conditions = tuple([JobCondition(type=kind, status=status) for kind in kinds])
    return change(owner, conditions=conditions, **parts)


# --- predicates -----------------------------------------------------------------------------------

OWNER = job(completions=3)
MANY = indexed(3)
A, B = its_pod("a", OWNER), its_pod("b", OWNER, tracked=False)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OWNER, OWNER, []),
        (counts(OWNER, ("uid-b",)), change(OWNER, succeeded=1), []),
        (counts(OWNER, ("uid-a",)), change(OWNER, succeeded=1), ["a is counted, and has its finalizer"]),
        (counts(OWNER, ("uid-a",)), counts(OWNER, ("uid-a",)), []),
        (counts(OWNER, ("uid-b",)), OWNER, ["status.succeeded grows by 0, and 1 of its uids are counted"]),
        (OWNER, change(OWNER, succeeded=1), ["status.succeeded grows by 1, and 0 of its uids are counted"]),
        (change(OWNER, succeeded=1), change(OWNER, succeeded=1), []),
        (change(OWNER, failed=1), change(OWNER, failed=1), []),
        (change(OWNER, failed=1), OWNER, ["status.failed grows by -1, and 0 of its uids are counted"]),
        (change(OWNER, succeeded=1), OWNER, ["status.succeeded grows by -1, and 0 of its uids are counted"]),
        (OWNER, change(OWNER, failed=2), ["status.failed grows by 2, and 0 of its uids are counted"]),
        (counts(OWNER, (), ("uid-b", "uid-c")), counts(OWNER, (), ("uid-c",), failed=1), []),
        (OWNER, counts(OWNER, ("uid-b",), ("uid-b",)), ["['uid-b', 'uid-b'] has a uid twice"]),
        (MANY, change(MANY, succeeded=2), []),
        (MANY, change(MANY, failed=1), ["status.failed grows by 1, and 0 of its uids are counted"]),
    ],
)  # fmt: skip
def test_job_3_a_count_grows_by_the_uids_that_are_given_up(old, new, words):
    assert list(job_3_counts_each_pod_once(old, new, [A, B])) == words


DONE = its_pod("p", OWNER, phase="Succeeded")
LOST = ["p has succeeded and loses its finalizer, and the status does not have it"]


@pytest.mark.parametrize(
    ("pod", "owner", "words"),
    [
        (DONE, OWNER, LOST),
        (DONE, None, []),
        (DONE, ended(OWNER, "Complete"), []),
        (DONE, ended(OWNER, "Failed"), []),
        (DONE, ended(OWNER, "Failed", status="False"), LOST),
        (DONE, ended(OWNER, "Suspended"), LOST),
        (DONE, change(OWNER, deletion_timestamp=timestamp(NOW)), []),
        (DONE, counts(OWNER, ("uid-p",)), []),
        (DONE, counts(OWNER, (), ("uid-p",)), []),
        (DONE, counts(OWNER, ("uid-q",)), LOST),
        (its_pod("p", MANY, 1), MANY, LOST),
        (its_pod("p", MANY, 1), change(MANY, completed_indexes="0,2"), LOST),
        (its_pod("p", MANY, 1), change(MANY, completed_indexes="0-2"), []),
        (its_pod("p", MANY, 2), change(MANY, completed_indexes="0-2"), []),
        (its_pod("p", MANY, 1), change(MANY, completed_indexes="1"), []),
        (its_pod("p", MANY, 1), counts(MANY, (), ("uid-p",)), []),
        (its_pod("p", MANY), MANY, []),
        (its_pod("p", MANY, 3), MANY, []),
        (its_pod("p", MANY, 2), MANY, LOST),
    ],
)
def test_job_3_a_success_is_known_before_its_pod_is_let_go(pod, owner, words):
    assert list(job_3_forgets_no_success(pod, owner)) == words


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (OWNER, ended(OWNER, "Complete"), []),
        (OWNER, ended(OWNER, "Complete", "Failed"), ["work has ended as Complete and Failed"]),
        (ended(OWNER, "Failed"), ended(OWNER, "Failed"), []),
        (ended(OWNER, "Failed"), OWNER, ["work has ended as Failed, and its status changes"]),
        (ended(OWNER, "Failed"), ended(OWNER, "Complete"), ["work has ended as Failed, and its status changes"]),
        (ended(OWNER, "Failed"), ended(OWNER, "Failed", ready=1), ["work has ended as Failed, and its status changes"]),
        (OWNER, change(OWNER, active=1), []),
    ],
)  # fmt: skip
def test_job_11_an_end_is_one_and_stays(old, new, words):
    assert list(job_11_an_end_stays(old, new)) == words


def test_job_2_active_pods_and_creations_are_at_most_parallelism():
    said = "2 active pods and 1 creations; spec.parallelism is 2"
    assert list(job_2_never_above_parallelism(job(parallelism=2), 2, 1)) == [said]
    assert list(job_2_never_above_parallelism(job(parallelism=2), 1, 1)) == []
    assert list(job_2_never_above_parallelism(job(parallelism=None), 0, 1)) == []
    said = "1 active pods and 1 creations; spec.parallelism is 1"
    assert list(job_2_never_above_parallelism(job(parallelism=None), 1, 1)) == [said]
    going = job(deletion_timestamp=timestamp(NOW))
    said = "work is being deleted, and pods are created"
    assert list(job_2_never_above_parallelism(going, 0, 1)) == [said]


def test_job_6_no_two_pods_have_one_index():
    twice = [its_pod("a", MANY, 1), its_pod("b", MANY, 0), its_pod("c", MANY, 1)]
    assert list(job_6_one_pod_for_each_index(MANY, twice)) == [
        "pods of work have the indexes 1, 0, 1"
    ]
    assert list(job_6_one_pod_for_each_index(MANY, twice[:2])) == []
    assert list(job_6_one_pod_for_each_index(OWNER, twice)) == []
    nameless = [its_pod("a", MANY), its_pod("b", MANY)]
    assert list(job_6_one_pod_for_each_index(MANY, nameless)) == [
        "pods of work have the indexes , "
    ]


@pytest.mark.parametrize(
    ("owner", "pods", "words"),
    [
        (change(OWNER, active=1), [A], []),
        (OWNER, [], ["work has not ended, and no pod is active"]),
        (job(parallelism=None), [], ["work has not ended, and no pod is active"]),
        (job(parallelism=0), [], []),
        (job(suspend=True), [], []),
        (OWNER, [its_pod("f", OWNER, tracked=False, phase="Failed")], []),
        (OWNER, [failed_pod("f", OWNER)], ["finished pods of work have their finalizer"]),
        (OWNER, [A], ["status.active of work is None, and 1 pods are active"]),
        (change(OWNER, active=2), [A], ["status.active of work is 2, and 1 pods are active"]),
        (counts(OWNER, ("u",), ("v",), active=1), [A], ["work has not counted u, v"]),
        (ended(OWNER, "Complete"), [], []),
        (ended(OWNER, "Failed", active=1), [A], ["work has ended, and 1 pods are active"]),
    ],
)
def test_job_1_what_is_wrong_with_a_job_at_rest(owner, pods, words):
    assert list(job_1_settled(owner, pods)) == words


# --- which steps are judged -----------------------------------------------------------------------


def changed(before, after):
    return after.last_commit.changes[0]


def says(law, was, now, *others):
    """What the law says of a write that makes one of the other (None: there is none)."""
    before = world(*[one for one in (was, *others) if one is not None])
    after = put(before, now) if now is not None else take(before, was)
    found = law(changed(before, after), before, after)
    return None if found is None else list(found)


def test_job_3_writes_of_a_status_of_ours_are_judged():
    law, more = laws.counts_each_pod_once, change(OWNER, succeeded=1)
    assert says(law, OWNER, more) == ["status.succeeded grows by 1, and 0 of its uids are counted"]
    assert says(law, counts(OWNER, ("uid-a",)), more, A) == ["a is counted, and has its finalizer"]
    assert says(law, None, more) is says(law, OWNER, None) is None
    assert says(law, OWNER, change(OWNER, labels={"a": "b"})) is None
    others = job(managed_by="a.example/b")
    assert says(law, others, change(others, succeeded=1)) is None


def test_job_3_finalizers_that_succeeded_pods_lose_are_judged():
    law, free = laws.forgets_no_success, change(DONE, finalizers=None)
    assert says(law, DONE, free, OWNER) == says(law, DONE, None, OWNER) == LOST
    assert says(law, DONE, free, counts(OWNER, ("uid-p",))) == []
    assert says(law, DONE, free) is None
    assert says(law, DONE, free, change(OWNER, uid="later")) is None
    assert says(law, None, DONE, OWNER) is None
    assert says(law, free, free, OWNER) is None
    assert says(law, DONE, change(DONE, labels=None), OWNER) is None
    running = change(DONE, phase="Running")
    assert says(law, running, change(running, finalizers=None), OWNER) is None
    assert says(law, DONE, change(free, owner_references=None), OWNER) is None  # it is released
    orphan = change(DONE, owner_references=None)
    assert says(law, orphan, change(orphan, finalizers=None), OWNER) is None


def test_job_11_writes_of_a_job_that_has_ended_are_judged():
    law, over = laws.an_end_stays, ended(OWNER, "Failed")
    assert says(law, over, OWNER) == ["work has ended as Failed, and its status changes"]
    assert says(law, OWNER, over) == []
    assert says(law, None, over) is says(law, over, None) is None


def judged(law, view, *requests, earlier=()):
    """What the law says of these requests; `earlier`: those that are on their way already."""
    seen = view_of(*view, resources=(PODS,))
    before, _, after = decides("job-controller", "default/work", seen, requests, earlier=earlier)
    [decision] = decisions(before, after)
    found = law(decision, before, after)
    return None if found is None else list(found)


def test_job_2_job_6_decisions_that_create_pods_are_judged():
    owner = indexed(3, 2)
    zero, one = its_pod("z", owner, 0), its_pod("o", owner, 1)
    create = request("create", its_pod("n", owner, 0))
    many, same = laws.creates_no_more_than_parallelism, laws.creates_one_pod_for_each_index
    assert judged(many, (owner, zero), create) == []
    assert judged(many, (owner, zero, one), create) == [
        "2 active pods and 1 creations; spec.parallelism is 2"
    ]
    on_its_way = [request("create", one), request("create", its_pod("x", replica_set()))]
    assert judged(many, (owner, zero), create, earlier=on_its_way) == [
        "2 active pods and 1 creations; spec.parallelism is 2"
    ]
    assert judged(same, (owner, one), create) == []
    assert judged(same, (owner, zero), create) == ["pods of work have the indexes 0, 0"]
    assert judged(same, (owner, change(zero, phase="Failed")), create) == []
    foreign = its_pod("f", replica_set(), 0)
    assert judged(same, (owner, foreign), create) == []
    for law in (many, same):
        assert judged(law, (owner, zero, one), request("delete", zero)) is None
        assert judged(law, (job(name="other"), zero), create) is None


def test_job_1_jobs_that_this_controller_manages_are_judged_at_rest():
    law = laws.ends_or_runs
    said = ["work has not ended, and no pod is active"]
    assert list(law(world(OWNER))) == list(law(world(OWNER, its_pod("x", replica_set())))) == said
    assert list(law(world(change(OWNER, active=1), A))) == []
    assert law(world()) is law(world(job(managed_by="a.example/b"))) is None
    assert list(law(world(job(deletion_timestamp=timestamp(NOW))))) == []


# --- CronJobs -------------------------------------------------------------------------------------

CRON = cron_job()
AT = NOW // MINUTE * MINUTE
FIRST = of_cron_job(CRON, AT)


def test_cron_3_each_time_is_run_once():
    def said(last, *others):
        owner = change(CRON, last_schedule_time=timestamp(last) if last else None)
        return list(cron_3_runs_each_time_once(FIRST, owner, others))

    name, text = FIRST.metadata.name, timestamp(AT)
    assert said(None) == said(AT - MINUTE) == []
    assert said(AT) == [f"{name} is created for {text}, and lastScheduleTime is {text}"]
    later = change(CRON, last_schedule_time=timestamp(AT + MINUTE))
    assert list(cron_3_runs_each_time_once(FIRST, later, (), 1)) == []
    assert list(cron_3_runs_each_time_once(FIRST, later, ())) != []
    written = change(CRON, last_schedule_time=text)
    assert list(cron_3_runs_each_time_once(FIRST, written, (), 1)) == said(AT)
    twin = change(FIRST, name="twin")
    assert said(None, of_cron_job(CRON, AT - MINUTE), twin) == [f"{name} and twin are for {text}"]
    by_hand = change(FIRST, annotations=None)
    assert (
        list(cron_3_runs_each_time_once(by_hand, change(CRON, last_schedule_time=text), [twin]))
        == []
    )


def test_cron_3_the_last_time_is_not_set_back():
    def said(was, now):
        owners = [change(CRON, last_schedule_time=at and timestamp(at)) for at in (was, now)]
        return list(cron_3_keeps_the_last_time(*owners))

    name, text = CRON.metadata.name, timestamp(AT)
    assert said(None, None) == said(None, AT) == said(AT, AT) == said(AT - MINUTE, AT) == []
    assert said(AT, None) == [f"lastScheduleTime of {name} becomes None, and was {text}"]
    back = timestamp(AT - MINUTE)
    assert said(AT, AT - MINUTE) == [f"lastScheduleTime of {name} becomes {back}, and was {text}"]


def test_cron_3_a_job_is_deleted_after_its_time_is_written():
    def said(last, job=FIRST):
        owner = change(CRON, last_schedule_time=last and timestamp(last))
        return list(cron_3_deletes_what_is_written(job, owner))

    words = f"{FIRST.metadata.name} is deleted, and lastScheduleTime is "
    assert said(None) == [words + "None"]
    assert said(AT - MINUTE) == [words + timestamp(AT - MINUTE)]
    assert said(AT) == said(AT + MINUTE) == said(None, change(FIRST, name="copied")) == []


def test_cron_3_requests_of_the_controller_are_judged():
    def says_of(law, verb, resource, was, now, *others):
        before = world(*[one for one in (was, *others) if one is not None])
        after = put(before, now) if now is not None else take(before, was)
        done = Request(verb, resource, "default", (was or now).metadata.name)
        found = law(Arrived(done, None, after.last_commit.changes), before, after)
        return None if found is None else list(found)

    law, ran = cron_laws.keeps_the_last_time, change(CRON, last_schedule_time=timestamp(AT))
    assert says_of(law, "update", CRON_JOBS, ran, CRON) and not says_of(law, "update", CRON_JOBS, CRON, ran)  # fmt: skip
    assert says_of(law, "create", CRON_JOBS, None, CRON) is None
    assert says_of(law, "delete", CRON_JOBS, CRON, None) is None
    assert says_of(law, "update", JOBS, FIRST, change(FIRST, labels={"a": "b"})) is None
    law = cron_laws.deletes_what_is_written
    assert says_of(law, "delete", JOBS, FIRST, None, CRON)
    assert says_of(law, "delete", JOBS, FIRST, None, ran) == []
    assert says_of(law, "delete", JOBS, FIRST, None) is None
    assert says_of(law, "delete", JOBS, change(FIRST, annotations=None), None, CRON) is None
    assert says_of(law, "update", JOBS, FIRST, change(FIRST, labels={"a": "b"}), CRON) is None
    assert says_of(law, "delete", CRON_JOBS, CRON, None) is None


def test_cron_5_none_is_created_while_another_runs():
    def said(policy, *others):
        return list(
            cron_5_forbids_a_second_job(FIRST, change(CRON, concurrency_policy=policy), others)
        )

    one, two = of_cron_job(CRON, AT - MINUTE), of_cron_job(CRON, AT - 2 * MINUTE)
    words = f"{FIRST.metadata.name} is created while {one.metadata.name}, {two.metadata.name} runs"
    assert said("Forbid", one, two) == [words]
    assert said("Allow", one, two) == said("Replace", one) == said("Forbid") == []
    assert said("Forbid", of_cron_job(CRON, AT - MINUTE, "Complete")) == []
    assert said("Forbid", change(one, annotations=None)) == []
    forbids = change(CRON, concurrency_policy="Forbid")
    late = [list(cron_5_forbids_a_second_job(FIRST, forbids, (one, two), n)) for n in (1, 2)]
    assert late == [[words], []]


@pytest.mark.parametrize("law", [cron_laws.runs_each_time_once, cron_laws.forbids_a_second_job])
def test_cron_3_cron_5_the_jobs_that_the_controller_creates_are_judged(law):
    owner = change(CRON, concurrency_policy="Forbid")
    twin = change(FIRST, name="twin", uid="uid-twin")
    found = says(law, None, FIRST, owner, twin)
    assert found and all("twin" in words for words in found)
    assert says(law, None, FIRST, owner) == []
    assert says(law, None, FIRST, twin) is None
    assert says(law, None, FIRST, change(owner, uid="later"), twin) is None
    assert says(law, FIRST, change(FIRST, labels={"a": "b"}), owner, twin) is None
    assert says(law, FIRST, None, owner, twin) is None
    for odd in (change(FIRST, annotations=None), change(FIRST, owner_references=None)):
        assert says(law, None, odd, owner, twin) is None
    of_another = change(twin, owner_references=(replace(reference_to(owner), uid="other"),))
    assert says(law, None, FIRST, owner, of_another) == []
