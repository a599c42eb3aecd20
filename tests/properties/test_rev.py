"""ControllerRevisions (spec/workloads/controller_revision.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    change,
    create,
    get,
    patch,
    plan_for,
    reference_to,
    remove,
    sent,
    settle,
    started,
    stateful_set,
    stored,
    template,
    with_status,
    without_reasons,
)

from refk8s.core.api.apps_v1 import ControllerRevision
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONTROLLER_REVISIONS, PODS, STATEFUL_SETS
from refk8s.core.controllers.controller_revisions import (
    COLLISIONS_MAX,
    DATA_HASH,
    by_revision,
    data_hash,
    revision_name,
    template_data,
    template_of,
)
from refk8s.core.controllers.stateful_set import StatefulSetReconciler

STS = StatefulSetReconciler()


def a_revision(version, number, owner=None, name=None, data=None):
    owner = owner or stateful_set("web", replicas=0)
    return ControllerRevision(
        metadata=ObjectMeta(
            name=name or f"web-{version}", namespace="default", uid=f"uid-{version}", labels=LABELS,
            owner_references=(reference_to(owner),),
        ),
        data=data or template_data(template(str(version))), revision=number,
    )  # fmt: skip


def owner_of(version, **parts):
    return stateful_set("web", replicas=0, template=template(str(version)), **parts)


def test_rev_1_the_data_restores_the_template():
    data = template_data(template("5"))
    assert data["spec"]["template"]["$patch"] == "replace"
    assert template_of(a_revision(5, 1)) == template("5")


@pytest.mark.parametrize(
    "data",
    [None, {}, {"spec": None}, {"spec": {"template": []}}, {"spec": {"template": {"spec": 3}}}, []],
)
def test_rev_1_other_data_has_no_template(data):
    assert template_of(replace(a_revision(5, 1), data=data)) is None


def test_rev_2_the_hash_is_upstreams():
    """The name that an API server and controller manager of v1.36.2 gave this template."""
    data = {
        "spec": {"template": {
            "$patch": "replace", "metadata": {"labels": {"app": "web", "ver": "v1"}},
            "spec": {
                "containers": [{
                    "image": "example.invalid/app:1", "imagePullPolicy": "IfNotPresent", "name": "c", "resources": {},
                    "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                }],
                "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "nobody", "securityContext": {},
                "terminationGracePeriodSeconds": 0,
            },
        }},
    }  # fmt: skip
    assert data_hash(data, 0) == "5dffc9ffdf"
    assert data_hash(data, 1) != "5dffc9ffdf"
    backwards = {"spec": {"template": dict(reversed(data["spec"]["template"].items()))}}
    assert data_hash(backwards, 0) == "5dffc9ffdf"


def test_rev_2_go_escapes_characters_of_html():
    assert data_hash({"a": "<&>"}, 0) == data_hash_of_text(rb'{"a":"\u003c\u0026\u003e"}0')
    assert data_hash({"a": "\u2028é"}, 0) == data_hash_of_text('{"a":"\\u2028é"}0'.encode())


def data_hash_of_text(text):
    """FNV-1 as it is published, on the text itself."""
    number = 2166136261
    for byte in text:
        number = (number * 16777619) % 2**32
        number ^= byte
    return "".join("bcdfghjklmnpqrstvwxz2456789"[ord(digit) % 27] for digit in str(number))


@given(st.text("ab-", min_size=1, max_size=300))
def test_rev_2_a_name_fits(owner):
    name = revision_name(owner, "5dffc9ffdf")
    assert len(name) <= 253 and name.endswith("-5dffc9ffdf") and name.startswith(owner[:223])


def test_rev_2_a_new_template_gets_the_next_number():
    owner = change(owner_of(1), annotations={"note": "x"})
    (creation,) = sent(plan_for(STS, owner), "create", CONTROLLER_REVISIONS)
    made = creation.body
    hash = data_hash(template_data(template("1")), 0)
    assert made.revision == 1 and made.metadata.name == f"web-{hash}"
    assert made.metadata.labels == {**LABELS, DATA_HASH: hash}
    assert made.metadata.annotations == {"note": "x"}
    plan = plan_for(STS, owner, a_revision(7, 4), a_revision(8, 9))
    (creation,) = sent(plan, "create", CONTROLLER_REVISIONS)
    assert creation.body.revision == 10
    assert next(wave for wave in plan.waves if wave) == (creation,)


def test_rev_2_a_collision_is_counted():
    owner = owner_of(1)
    hash = data_hash(template_data(template("1")), 0)
    taken = a_revision(2, 1, name=f"web-{hash}")
    plan = plan_for(STS, owner, taken)
    (creation,) = sent(plan, "create", CONTROLLER_REVISIONS)
    assert creation.body.metadata.name == f"web-{data_hash(template_data(template('1')), 1)}"
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    assert write.body.status.collision_count == 1
    other = change(a_revision(1, 1, name=f"web-{hash}"), owner_references=None, labels={"x": "y"})
    assert not sent(plan_for(STS, owner, other), "create", CONTROLLER_REVISIONS)


def test_rev_3_an_earlier_template_gets_the_highest_number():
    plan = plan_for(STS, owner_of(1), a_revision(1, 1), a_revision(2, 2))
    (update,) = sent(plan, "update", CONTROLLER_REVISIONS)
    assert (update.name, update.body.revision) == ("web-1", 3)
    assert not sent(plan, "create", CONTROLLER_REVISIONS)
    plan = plan_for(STS, owner_of(2), a_revision(1, 1), a_revision(2, 2))
    assert not sent(plan, "update", CONTROLLER_REVISIONS)


def test_rev_3_a_number_has_an_end():
    plan = plan_for(STS, owner_of(1), a_revision(2, 2**63 - 1))
    (creation,) = sent(plan, "create", CONTROLLER_REVISIONS)
    assert creation.body.revision == 2**63 - 1


def test_rev_4_orphans_are_adopted_and_nothing_is_released():
    orphan = change(a_revision(1, 1), owner_references=None)
    (adoption,) = sent(plan_for(STS, owner_of(1), orphan), "patch", CONTROLLER_REVISIONS)
    assert adoption.name == "web-1"
    other = change(a_revision(2, 2), labels={"x": "y"})
    assert not sent(plan_for(STS, owner_of(1), a_revision(1, 1), other), "patch")


def test_rev_5_unused_revisions_beyond_the_limit_are_deleted():
    history = [a_revision(n, n) for n in (4, 1, 3, 2)]
    plan = plan_for(STS, owner_of(4, revision_history_limit=1), *history)
    assert [r.name for r in sent(plan, "delete", CONTROLLER_REVISIONS)] == ["web-1", "web-2"]
    plan = plan_for(STS, owner_of(4, revision_history_limit=0), *history)
    assert len(sent(plan, "delete", CONTROLLER_REVISIONS)) == 3
    assert not sent(plan_for(STS, owner_of(4, revision_history_limit=3), *history), "delete")


def test_rev_5_refused_pods_do_not_hold_it_back():
    """The first request that is refused ends a plan (LOOP-5)."""
    owner = change(owner_of(9, revision_history_limit=0), replicas=1)
    plan = plan_for(STS, owner, a_revision(1, 1), a_revision(9, 2))
    order = [(request.verb, request.resource) for request in plan.requests]
    assert order.index(("delete", CONTROLLER_REVISIONS)) < order.index(("create", PODS))


def test_rev_2_rev_3_the_writes_in_full():
    owner = change(owner_of(1), annotations={"note": "x"})
    hash = data_hash(template_data(template("1")), 0)
    metadata = ObjectMeta(
        name=f"web-{hash}",
        namespace="default",
        labels={**LABELS, DATA_HASH: hash},
        annotations={"note": "x"},
        owner_references=(reference_to(owner),),
    )
    made = ControllerRevision(metadata=metadata, data=template_data(template("1")), revision=1)
    (creation,) = without_reasons(sent(plan_for(STS, owner), "create", CONTROLLER_REVISIONS))
    assert creation == Request("create", CONTROLLER_REVISIONS, "default", body=made)
    before = a_revision(1, 1)
    plan = plan_for(STS, with_status(owner, collision_count=4), before, a_revision(2, 2))
    (update,) = without_reasons(sent(plan, "update", CONTROLLER_REVISIONS))
    body = replace(before, revision=3)
    assert update == Request("update", CONTROLLER_REVISIONS, "default", "web-1", body=body)
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    assert write.body.status.collision_count == 4


def test_rev_2_collisions_are_counted_up_to_a_bound():
    def hashed(count):
        return data_hash(template_data(template("1")), count)

    taken = [a_revision(n + 2, n, name=f"web-{hashed(n)}") for n in (0, 1)]
    plan = plan_for(STS, owner_of(1), *taken)
    (creation,) = sent(plan, "create", CONTROLLER_REVISIONS)
    assert creation.body.metadata.name == f"web-{hashed(2)}"
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    assert write.body.status.collision_count == 2
    full = with_status(owner_of(1), collision_count=COLLISIONS_MAX)
    last = a_revision(2, 1, name=f"web-{hashed(COLLISIONS_MAX)}")
    plan = plan_for(STS, full, last)
    assert not sent(plan, "create", CONTROLLER_REVISIONS)
    (write,) = sent(plan, "update", STATEFUL_SETS, "status")
    assert write.body.status.collision_count == COLLISIONS_MAX


def test_rev_5_of_equal_numbers_the_older_is_lower_then_the_name_decides():
    def one(name, number, created):
        return change_revision(a_revision(name, number), created)

    found = [one("a", 2, "2026-01-03T00:00:00Z"), one("b", 2, "2026-01-01T00:00:00Z")]
    found += [one("d", 2, "2026-01-03T00:00:00Z"), one("c", 2, "2026-01-03T00:00:00Z")]
    found += [one("e", 1, "2026-01-09T00:00:00Z")]
    ordered = [each.metadata.name for each in by_revision(found)]
    assert ordered == ["web-e", "web-b", "web-a", "web-c", "web-d"]
    assert by_revision(reversed(found)) == by_revision(found)


def change_revision(revision, created):
    return replace(revision, metadata=replace(revision.metadata, creation_timestamp=created))


def test_rev_3_rev_5_a_story():
    cluster = started(owner_of(1, revision_history_limit=1), reconcilers=[STS])
    for version in ("2", "3", "1"):
        tree = {
            "spec": {
                "template": {"spec": {"containers": [{"name": "c", "image": f"app:{version}"}]}}
            }
        }
        cluster = settle(patch(cluster, STATEFUL_SETS, "web", tree))
    found = by_revision(stored(cluster, CONTROLLER_REVISIONS))
    images = [each.data["spec"]["template"]["spec"]["containers"][0]["image"] for each in found]
    assert images == ["app:3", "app:1"] and [each.revision for each in found] == [3, 4]
    status = get(cluster, STATEFUL_SETS, "web").status
    assert status.update_revision == found[1].metadata.name


def test_rev_4_a_set_that_comes_again_finds_its_history():
    cluster = started(owner_of(1), reconcilers=[STS])
    (before,) = stored(cluster, CONTROLLER_REVISIONS)
    cluster = remove(cluster, STATEFUL_SETS, "web")
    cluster = patch(
        cluster, CONTROLLER_REVISIONS, before.metadata.name, {"metadata": {"ownerReferences": None}}
    )
    cluster = settle(create(cluster, change(owner_of(1), uid="uid-again")))
    (after,) = stored(cluster, CONTROLLER_REVISIONS)
    assert after.metadata.uid == before.metadata.uid and after.metadata.owner_references
