"""Times to live (spec/workloads/ttl.md): of finished Jobs, and of what kubelets cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_helpers import NOW, ago, change, plan_for, sent, view_of

from refk8s.core.api.batch_v1 import Job, JobCondition
from refk8s.core.api.core_v1 import Node
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import JOBS, NODES
from refk8s.core.context import SECOND
from refk8s.core.controllers.node_ttl import ANNOTATION, NodeTTL, fold_size
from refk8s.core.controllers.ttl_after_finished import TTLAfterFinished
from refk8s.core.loop.plan import NOTHING

TTL = TTLAfterFinished()
NODE_TTL = NodeTTL()


def job(end="Complete", finished=100, ttl=100, status="True", **parts):
    metadata = ObjectMeta(name="work", namespace="default", uid="uid-work", resource_version="9")
    found = JobCondition(type=end, status=status, last_transition_time=ago(finished))
    return change(Job(metadata=metadata), ttl_seconds_after_finished=ttl, conditions=(found,), **parts)  # fmt: skip


@given(st.sampled_from(["Complete", "Failed"]), st.integers(0, 300), st.integers(0, 300))
def test_ttl_1_a_finished_job_is_deleted_when_its_time_has_passed(end, finished, ttl):
    plan = plan_for(TTL, job(end, finished, ttl))
    found = sent(plan, "delete", JOBS)
    assert len(found) == (finished >= ttl)
    if not found:
        assert plan.wake_at == NOW + (ttl - finished) * SECOND
    else:
        [asked] = found
        assert asked.name == "work" and asked.body.propagation_policy == "Foreground"
        assert asked.body.preconditions.uid == "uid-work"
        assert asked.body.preconditions.resource_version == "9"


@pytest.mark.parametrize(
    "one",
    [
        job(end="FailureTarget"), job(status="False"), job(ttl=None), job(deletion_timestamp=ago(1)),
        change(job(), conditions=None), change(job(), conditions=(JobCondition(type="Complete", status="True"),)),
    ],
)  # fmt: skip
def test_ttl_1_other_jobs_stay(one):
    assert plan_for(TTL, one) is NOTHING or plan_for(TTL, one) == NOTHING


def test_ttl_1_only_jobs_with_a_time_to_live_are_looked_at():
    keys = TTL.interests[0].keys
    assert list(keys(view_of(TTL), None, job())) == ["default/work"]
    assert not keys(view_of(TTL), None, job(ttl=None)) and not keys(view_of(TTL), job(), None)


def node(name="n", ttl=None, **parts):
    annotations = {ANNOTATION: ttl} if ttl is not None else None
    return change(Node(metadata=ObjectMeta(name=name, uid=f"uid-{name}", annotations=annotations)), **parts)  # fmt: skip


@pytest.mark.parametrize(("before", "asked"), [(None, 1), ("77", 1), ("0", 0)])
def test_ttl_2_a_node_is_annotated(before, asked):
    one = node(ttl=before)
    found = sent(plan_for(NODE_TTL, one), "patch", NODES)
    assert len(found) == asked
    for request in found:
        assert request.body.document == {"metadata": {"uid": "uid-n", "annotations": {ANNOTATION: "0"}}}  # fmt: skip
    keys = NODE_TTL.interests[0].keys
    assert list(keys(view_of(NODE_TTL, one), None, one)) == ["n"] * asked
    assert not keys(view_of(NODE_TTL), one, None)
    assert not plan_for(NODE_TTL, change(one, deletion_timestamp=ago(1))).requests


GROWING = (
    (1, 0),
    (100, 0),
    (101, 1),
    (500, 1),
    (501, 2),
    (1000, 2),
    (1001, 3),
    (2001, 4),
    (10001, 5),
)
SHRINKING = (
    (9000, 5),
    (8999, 4),
    (1800, 4),
    (1799, 3),
    (900, 3),
    (899, 2),
    (449, 1),
    (90, 1),
    (89, 0),
)


def test_ttl_2_the_time_grows_with_the_cluster_and_shrinks_later():
    size, made = (0, 0), {}
    for count in range(1, 10_002):
        size = fold_size(size, NODES, None, node())
        made[count] = size
    assert all(made[count] == (count, position) for count, position in GROWING)
    made = {}
    for count in range(10_000, 0, -1):
        size = fold_size(size, NODES, node(), None)
        made[count] = size
    assert all(made[count] == (count, position) for count, position in SHRINKING)
    assert fold_size(size, NODES, node(), node("m")) == size
