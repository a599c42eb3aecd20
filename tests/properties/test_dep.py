"""Deployments (spec/workloads/deployment.md): the arithmetic of rollouts, single decisions, and
whole rollouts among all that happens."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    ago,
    change,
    choices,
    create,
    deployment,
    get,
    live,
    make_ready,
    new_cluster,
    patch,
    plan_for,
    pod,
    pods_of,
    reference_to,
    remove,
    replica_set,
    sent,
    settle,
    started,
    stored,
    template,
    view_of,
    with_status,
)

from refk8s.core.api.apps_v1 import DeploymentStrategy, ReplicaSetCondition
from refk8s.core.api.meta_v1 import LabelSelector, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import DEPLOYMENTS, EVENTS, PODS, REPLICA_SETS
from refk8s.core.api.selector import from_label_selector
from refk8s.core.api.status import failure
from refk8s.core.cluster.step import start_all
from refk8s.core.context import SECOND, SUFFIX_ALPHABET, parse_timestamp
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers import rollout
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.controllers.rollout import Bounds, Member
from refk8s.core.loop.plan import Local
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.predicates.deployment import (
    dep_7_never_above_surge,
    dep_8_never_below_available,
    dep_11_paused_starts_no_rollout,
    dep_18_only_status_while_being_deleted,
    dep_19_settled,
)
from refk8s.core.properties.predicates.owners import (
    controlled,
    own_1_acts_only_on_its_own,
    own_2_adopts_selected_objects_without_controller,
    own_4_adopts_nothing_while_being_deleted,
    own_6_names_the_uid,
)

DEP = DeploymentReconciler()

# --- arithmetic -----------------------------------------------------------------------------------

shares = st.one_of(st.integers(0, 12), st.integers(0, 120).map(lambda n: f"{n}%"))


@given(st.integers(0, 1000), shares, shares)
def test_dep_6_the_surge_rounds_up_the_unavailable_down_and_never_both_to_nothing(
    replicas, surge, unavailable
):
    bounds = rollout.compute_bounds(
        deployment(replicas=replicas, surge=surge, unavailable=unavailable).spec
    )

    def exact(share):
        return share if isinstance(share, int) else int(share[:-1]) * replicas / 100

    assert exact(surge) <= bounds.max_surge < exact(surge) + 1
    if replicas and (bounds.max_surge or exact(unavailable) >= 1):
        assert (
            min(exact(unavailable), replicas) - 1
            < bounds.max_unavailable
            <= min(exact(unavailable), replicas)
        )
    assert not replicas or bounds.max_surge + bounds.max_unavailable > 0
    assert 0 <= bounds.max_unavailable <= replicas


def test_dep_6_outside_a_rolling_update_nothing_is_above_or_missing():
    recreate = deployment(strategy=DeploymentStrategy(type="Recreate"), replicas=4)
    assert rollout.compute_bounds(recreate.spec) == Bounds(4, 0, 0)
    assert rollout.compute_bounds(deployment(replicas=4).spec) == Bounds(4, 1, 1)
    assert rollout.compute_bounds(deployment(replicas=1).spec) == Bounds(1, 1, 0)


@st.composite
def members(draw, least=1, most=4, empty=False):
    """ReplicaSets as the arithmetic sees them; their statuses may be older than their sizes."""
    return [
        Member(
            f"rs{n}",
            draw(st.integers(0 if empty else 1, 12)),
            draw(st.integers(0, 12)),
            draw(st.sampled_from([ago(9), ago(8)])),
        )
        for n in range(draw(st.integers(least, most)))
    ]


@st.composite
def all_bounds(draw):
    replicas = draw(st.integers(0, 12))
    surge, unavailable = draw(st.integers(0, 6)), draw(st.integers(0, replicas))
    return Bounds(replicas, surge, unavailable if surge or unavailable else min(1, replicas))


@given(all_bounds(), members(empty=True), st.integers(0, 14))
def test_dep_7_the_new_one_grows_as_far_as_the_surge_leaves_room(bounds, old, size):
    new = Member("new", size)
    result = rollout.grow(bounds, new, old)
    others = sum(member.replicas for member in old)
    if size > bounds.replicas:
        assert result == bounds.replicas
    else:
        assert size <= result <= bounds.replicas
        assert result == size or result + others <= bounds.most
        assert result == bounds.replicas or result + others >= bounds.most  # no room is left unused


@given(all_bounds(), members(), st.integers(0, 12), st.integers(0, 12))
def test_dep_8_the_old_ones_shrink_as_far_as_availability_leaves_room(bounds, old, size, available):
    new = Member("new", size, available)
    sizes = rollout.shrink(bounds, new, old)
    assert all(0 <= sizes[m.name] < m.replicas for m in old if m.name in sizes)

    def sure(after):
        return min(size, available) + sum(min(after(m), m.available) for m in old)

    before, after = sure(lambda m: m.replicas), sure(lambda m: sizes.get(m.name, m.replicas))
    assert after >= min(before, bounds.fewest_available)
    if before >= bounds.fewest_available:  # and as far as that: nothing stays that could go
        kept = sum(sizes.get(m.name, m.replicas) for m in old)
        assert after == bounds.fewest_available or kept == 0 or after <= bounds.fewest_available


@given(all_bounds(), members())
def test_dep_8_what_is_not_available_goes_before_what_is(bounds, old):
    sizes = rollout.shrink(bounds, Member("new", 0), old)
    for m in old:
        taken = m.replicas - sizes.get(m.name, m.replicas)
        dead = m.replicas - min(m.replicas, m.available)
        # an available pod went: then no pod that is not available was spared for lack of room
        if taken > dead:
            spare = sum(n.replicas for n in old) - bounds.fewest_available
            assert spare >= sum(n.replicas - min(n.replicas, n.available) for n in old) or spare > 0


@st.composite
def rollouts_in_progress(draw):
    """Sizes that a rollout may have: within the surge of the bounds that they were made for."""
    before = draw(all_bounds())
    assume(before.replicas > 0)
    left, found = before.most, []
    for n in range(draw(st.integers(2, 4))):
        if left:
            size = draw(st.integers(1, left))
            left -= size
            found.append(
                Member(f"rs{n}", size, size, draw(st.sampled_from([ago(9), ago(8)])), before.most)
            )
    assume(len(found) > 1)
    return found


@given(rollouts_in_progress(), all_bounds())
def test_dep_9_shares_sum_up_to_exactly_what_is_allowed(found, bounds):
    sizes = rollout.spread(bounds, found, 0)
    allowed = bounds.most if bounds.replicas else 0
    assert set(sizes) == {m.name for m in found}
    assert all(size >= 0 for size in sizes.values())
    largest = max(found, key=lambda m: m.replicas).replicas
    # only where roundings were more than the largest could give up
    if sum(sizes.values()) != allowed:
        assert sum(sizes.values()) > allowed and any(
            sizes[m.name] == 0 for m in found if m.replicas == largest
        )
    if bounds.replicas == 0:
        assert not any(sizes.values())


@given(rollouts_in_progress(), all_bounds())
def test_dep_9_no_share_is_off_by_more_than_the_roundings(found, bounds):
    assume(bounds.replicas > 0)
    sizes = rollout.spread(bounds, found, 0)
    # nothing was missing from the whole
    assume(sum(m.replicas for m in found) == found[0].max_replicas_before)
    for m in found:
        exact = m.replicas * bounds.most / m.max_replicas_before
        assert abs(sizes[m.name] - exact) <= max(1, len(found))


def test_dep_9_the_documented_example():
    """Ten replicas in the middle of a rollout, 8 old and 5 new; scaled to fifteen: three of the
    five go to the old."""
    found = [Member("old", 8, 8, ago(9), 13), Member("new", 5, 0, ago(5), 13)]
    assert rollout.spread(Bounds(15, 3, 2), found, 13) == {"old": 11, "new": 7}


@pytest.mark.parametrize(("change", "first"), [(1, "young"), (-1, "old")])
def test_dep_9_among_equals_growing_favours_the_young_and_shrinking_the_old(change, first):
    found = [Member("old", 4, 4, ago(9), 8), Member("young", 4, 4, ago(5), 8)]
    sizes = rollout.spread(Bounds(8 + change, 0, 1), found, 8)
    assert sizes[first] == 4 + change and sum(sizes.values()) == 8 + change


def test_dep_9_a_member_that_does_not_know_the_whole_takes_the_status_for_it():
    found = [Member("a", 4, 4, ago(9), None), Member("b", 2, 2, ago(8), 0)]
    assert rollout.spread(Bounds(9, 0, 1), found, 6) == {"a": 6, "b": 3}
    # nobody knows it: the largest takes all
    assert rollout.spread(Bounds(9, 0, 1), found, 0) == {"a": 7, "b": 2}


# --- templates and revisions ----------------------------------------------------------------------

versions = st.sampled_from("123")


def carrying(
    owner,
    version,
    replicas=0,
    name=None,
    available=0,
    revision=None,
    created=None,
    desired=None,
    **parts,
):
    """A ReplicaSet of the Deployment that carries this version."""
    its = template(version)
    hash = revisions.template_hash(its, owner.status.collision_count)
    labels = revisions.with_hash(LABELS, hash)
    annotations = {revisions.REVISION: str(revision)} if revision else {}
    if desired is not None:
        annotations |= {
            revisions.DESIRED_REPLICAS: str(desired),
            revisions.MAX_REPLICAS: str(desired + 1),
        }
    rs = replica_set(
        name or f"{owner.metadata.name}-{hash}",
        replicas,
        labels=labels,
        selector=LabelSelector(match_labels=labels),
        template=replace(its, metadata=replace(its.metadata, labels=labels)),
        owner_references=(reference_to(owner),),
        annotations=annotations or None,
        creation_timestamp=created or ago(60),
    )
    return with_status(
        change(rs, **parts),
        replicas=replicas,
        available_replicas=available or None,
        observed_generation=1,
    )


@given(versions, versions, st.sampled_from([None, 1, 2]), st.sampled_from([None, 1, 2]))
def test_dep_2_the_hash_is_a_function_of_template_and_collisions(a, b, collisions_a, collisions_b):
    one, other = (
        revisions.template_hash(template(a), collisions_a),
        revisions.template_hash(template(b), collisions_b),
    )
    assert (one == other) == ((a, collisions_a) == (b, collisions_b))
    assert set(one) <= set(SUFFIX_ALPHABET) and 1 <= len(one) <= 10


def test_dep_2_the_order_of_labels_does_not_show():
    a = replace(template(), metadata=replace(template().metadata, labels={"a": "1", "b": "2"}))
    b = replace(template(), metadata=replace(template().metadata, labels={"b": "2", "a": "1"}))
    assert revisions.template_hash(a, None) == revisions.template_hash(b, None)


def test_dep_2_the_new_replica_set_carries_template_hash_and_owner():
    cluster = started(
        deployment("web", 1, uid=None, labels={"team": "x"}, annotations={"note": "n"})
    )
    owner = get(cluster, DEPLOYMENTS, "web")
    [rs] = stored(cluster, REPLICA_SETS)
    hash = rs.metadata.labels[revisions.TEMPLATE_HASH]
    assert rs.metadata.name == f"web-{hash}"
    assert rs.metadata.labels == {**LABELS, revisions.TEMPLATE_HASH: hash}
    assert rs.metadata.labels == rs.spec.template.metadata.labels == rs.spec.selector.match_labels
    assert rs.metadata.owner_references == (reference_to(owner),)
    assert rs.metadata.generation == 1 and owner.metadata.generation == 1
    assert rs.metadata.annotations == {
        "note": "n", revisions.REVISION: "1", revisions.DESIRED_REPLICAS: "1", revisions.MAX_REPLICAS: "2",
    }  # fmt: skip
    assert owner.metadata.annotations == {"note": "n", revisions.REVISION: "1"}
    assert [p.metadata.generate_name for p in stored(cluster, PODS)] == [f"web-{hash}-"]


def test_dep_2_a_name_that_a_stranger_has_is_not_taken():
    owner = deployment("web")
    stranger = change(carrying(owner, "1"), owner_references=None, labels={"other": "label"})
    plan = plan_for(DEP, owner, stranger)
    assert not sent(plan, "create")
    [report] = sent(plan, "update", DEPLOYMENTS, "status")
    assert report.body.status.collision_count == 1
    [creation] = sent(plan_for(DEP, report.body, stranger), "create", REPLICA_SETS)
    assert creation.body.metadata.name != stranger.metadata.name


def test_dep_2_a_long_name_is_cut_and_still_a_name():
    name = revisions.replica_set_name("d" * 253, "bcdfg")
    assert len(name) == 253 and name.endswith("d-bcdfg")


@given(versions, st.lists(versions, max_size=4), st.permutations(range(4)))
def test_dep_3_the_new_one_is_the_oldest_that_carries_the_template(wanted, carried, ages):
    owner = deployment("web", template=template(wanted))
    owned = [
        carrying(owner, version, name=f"rs{n}", created=ago(10 * ages[n]))
        for n, version in enumerate(carried)
    ]
    new = revisions.find_new(owner, owned)
    matching = [rs for n, rs in enumerate(owned) if carried[n] == wanted]
    assert (new is None) == (not matching)
    if new is not None:
        assert new in matching and all(
            new.metadata.creation_timestamp <= rs.metadata.creation_timestamp for rs in matching
        )


numbers = st.sampled_from([None, 1, 2, 5, 3546343826724305832, 2**63 - 2])


@given(versions, st.lists(st.tuples(versions, numbers), max_size=4, unique_by=lambda pair: pair[0]))
def test_dep_4_the_template_in_use_has_the_highest_revision(wanted, carried):
    owner = deployment("web", 2, template=template(wanted))
    owned = [carrying(owner, version, revision=revision) for version, revision in carried]
    plan = plan_for(DEP, owner, *owned)
    written = {
        r.body.metadata.name: r.body
        for r in [*sent(plan, "update", REPLICA_SETS), *sent(plan, "create", REPLICA_SETS)]
    }
    final = {**{rs.metadata.name: rs for rs in owned}, **written}
    new = revisions.find_new(owner, list(final.values()))
    others = [revisions.revision_of(rs) for rs in final.values() if rs is not new]
    assert revisions.revision_of(new) > max(others, default=0)
    for report in sent(plan, "update", DEPLOYMENTS, "status"):
        assert report.body.metadata.annotations[revisions.REVISION] == str(
            revisions.revision_of(new)
        )


def test_dep_4_a_rollback_raises_the_revision_and_keeps_the_old_one_as_history():
    owner = deployment("web", 2)
    old, other = carrying(owner, "1", revision=1), carrying(owner, "2", 2, revision=2)
    [update] = [
        r
        for r in sent(plan_for(DEP, owner, old, other), "update", REPLICA_SETS)
        if r.name == old.metadata.name
    ]
    annotations = update.body.metadata.annotations
    assert (annotations[revisions.REVISION], annotations[revisions.REVISION_HISTORY]) == ("3", "1")
    again = revisions.compute_annotations(owner, annotations, 7)
    assert (again[revisions.REVISION], again[revisions.REVISION_HISTORY]) == ("7", "1,3")
    assert (
        revisions.compute_annotations(owner, {revisions.REVISION: "mine"}, 7)[revisions.REVISION]
        == "mine"
    )


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=800))
def test_dep_4_the_history_stays_short_and_keeps_the_newest(numbers):
    history = ""
    for number in numbers:
        history = revisions.compute_history(history, str(number)) or history
    kept = history.split(",")
    assert len(history) <= revisions.HISTORY_LENGTH_MAX
    assert kept == [str(number) for number in numbers[-len(kept) :]]


def test_dep_5_annotations_are_copied_except_those_that_are_not_for_copying():
    mine = {
        "a": "1",
        revisions.LAST_APPLIED: "{}",
        revisions.REVISION: "9",
        revisions.DESIRED_REPLICAS: "8",
    }
    cluster = started(deployment("web", 0, uid=None, annotations=mine))
    [rs] = stored(cluster, REPLICA_SETS)
    expected = {
        "a": "1",
        revisions.REVISION: "1",
        revisions.DESIRED_REPLICAS: "0",
        revisions.MAX_REPLICAS: "0",
    }
    assert rs.metadata.annotations == expected
    cluster = settle(
        patch(cluster, DEPLOYMENTS, "web", {"metadata": {"annotations": {"a": "2", "b": "3"}}})
    )
    [rs] = stored(cluster, REPLICA_SETS)
    assert rs.metadata.annotations == {**expected, "a": "2", "b": "3"}  # and no new revision
    assert rs.metadata.generation == 1


def test_dep_5_min_ready_seconds_follow():
    cluster = started(deployment("web", 1, uid=None))
    cluster = settle(patch(cluster, DEPLOYMENTS, "web", {"spec": {"minReadySeconds": 7}}))
    assert [rs.spec.min_ready_seconds for rs in stored(cluster, REPLICA_SETS)] == [7]


# --- single decisions -----------------------------------------------------------------------------


def test_dep_1_an_empty_selector_is_refused():
    plan = plan_for(DEP, deployment("web", selector=LabelSelector()), replica_set("free"))
    assert [note.reason for note in plan.notes] == ["SelectingAll"]
    [report] = [request for wave in plan.waves for request in wave]
    assert report.subresource == "status" and report.body.status.observed_generation == 1
    assert not sent(plan_for(DEP, report.body), "update", DEPLOYMENTS, "status")


@st.composite
def worlds(draw):
    """A Deployment and ReplicaSets of its, in any state that the API allows."""
    owner = deployment(
        "web",
        draw(st.integers(0, 6)),
        surge=draw(st.sampled_from([0, 1, 2, "25%"])),
        unavailable=draw(st.sampled_from([0, 1, 2, "25%"])),
        template=template(draw(versions)),
        paused=draw(st.sampled_from([None, None, True])),
        deletion_timestamp=draw(st.sampled_from([None, None, None, ago(2)])),
    )
    if draw(st.integers(0, 4)) == 0:
        owner = change(owner, strategy=DeploymentStrategy(type="Recreate"))
    owned = []
    for version in draw(st.lists(versions, max_size=3, unique=True)):
        size = draw(st.integers(0, 7))
        rs = carrying(
            owner,
            version,
            size,
            available=draw(st.integers(0, 7)),
            revision=draw(st.sampled_from([None, 1, 2])),
            desired=draw(st.sampled_from([None, owner.spec.replicas, owner.spec.replicas, 3])),
        )
        rs = with_status(rs, replicas=draw(st.integers(0, 7)))
        owned.append(
            change(
                rs,
                owner_references=draw(st.sampled_from([rs.metadata.owner_references] * 3 + [None])),
            )
        )
    return owner, owned


def is_scaling(owner, owned):
    """Whether the step is one that the user asked for by changing replicas."""
    for rs in owned:
        desired = (rs.metadata.annotations or {}).get(revisions.DESIRED_REPLICAS)
        if rs.spec.replicas and desired is not None and int(desired) != owner.spec.replicas:
            return True
    return bool(owner.spec.paused)


def broken(view, owner, plan):
    owned = controlled(view.list(REPLICA_SETS), owner.metadata.uid)
    selector = from_label_selector(owner.spec.selector)
    wrong = [
        *own_1_acts_only_on_its_own(view, owner, REPLICA_SETS, plan),
        *own_2_adopts_selected_objects_without_controller(
            view, owner, REPLICA_SETS, selector, plan
        ),
        *own_4_adopts_nothing_while_being_deleted(owner, plan),
        *own_6_names_the_uid(view, REPLICA_SETS, plan),
        *dep_11_paused_starts_no_rollout(owner, plan),
        *dep_18_only_status_while_being_deleted(owner, plan),
    ]
    if not is_scaling(owner, owned):
        wrong += [
            *dep_7_never_above_surge(view, owner, plan),
            *dep_8_never_below_available(view, owner, plan),
        ]
    return wrong


@given(worlds())
def test_dep_7_dep_8_dep_11_dep_18_every_step_keeps_within_its_bounds(world):
    owner, owned = world
    assert not broken(view_of(DEP, owner, *owned), owner, plan_for(DEP, owner, *owned))


def contradictory():
    """Two ReplicaSets whose annotations state fewer replicas than there are, and one without."""
    owner = deployment("web", 5, surge=2, unavailable=0, template=template("1"))
    return owner, [
        carrying(owner, "1", 4, desired=3),
        carrying(owner, "2", 4, desired=3),
        carrying(owner, "3", 5),
    ]


@given(worlds())
@example(contradictory())
def test_dep_7_what_grows_waits_for_what_shrinks(world):
    """After each wave, and with only the growing half of a wave done, no more replicas are
    requested than the bound allows or than there were before. Scaling in proportion may end above
    both, if the annotations contradict one another (DEP-9), but no step before the last is
    higher."""
    owner, owned = world
    plan = plan_for(DEP, owner, *owned)
    sizes = {rs.metadata.name: rs.spec.replicas for rs in controlled(owned, owner.metadata.uid)}
    most = max(sum(sizes.values()), rollout.compute_bounds(owner.spec).most)
    waves = [
        {
            r.name: r.body.spec.replicas
            for r in wave
            if r.resource is REPLICA_SETS and r.verb == "update"
        }
        for wave in plan.waves
    ]
    if is_scaling(owner, owned):
        after = sizes | {name: size for asked in waves for name, size in asked.items()}
        most = max(most, sum(after.values()))
    for asked in waves:
        assert sum(max(size, asked.get(name, 0)) for name, size in sizes.items()) <= most
        sizes |= asked


@given(worlds())
def test_dep_16_a_report_is_not_written_twice(world):
    """What the next turn reports on the same ReplicaSets, if anything, is something else."""
    owner, owned = world
    plan = plan_for(DEP, owner, *owned)
    assume(not sent(plan, "patch"))  # then the status is only the guard of an adoption (OWN-5)
    for report in sent(plan, "update", DEPLOYMENTS, "status"):
        for again in sent(plan_for(DEP, report.body, *owned), "update", DEPLOYMENTS, "status"):
            assert (
                again.body.status != report.body.status
                or again.body.metadata != report.body.metadata
            )


@given(worlds())
def test_dep_12_dep_13_the_status_is_the_sum_of_what_there_is(world):
    """DEP-12, DEP-13."""
    owner, owned = world
    plan = plan_for(DEP, owner, *owned)
    assume(not sent(plan, "create") and not sent(plan, "patch"))
    [report] = sent(plan, "update", DEPLOYMENTS, "status")
    status, owned = report.body.status, controlled(owned, owner.metadata.uid)
    new = revisions.find_new(owner, owned)
    available = sum(rs.status.available_replicas or 0 for rs in owned)
    assert (status.replicas or 0) == sum(rs.status.replicas for rs in owned)
    assert (status.updated_replicas or 0) == (new.status.replicas if new is not None else 0)
    assert (status.available_replicas or 0) == available
    assert (status.unavailable_replicas or 0) == max(
        0, sum(rs.spec.replicas for rs in owned) - available
    )
    assert status.observed_generation == 1
    [condition] = [c for c in status.conditions if c.type == "Available"]
    enough = available >= rollout.compute_bounds(owner.spec).fewest_available
    assert condition.status == str(enough)
    assert condition.reason == (
        "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    )


def test_dep_12_what_is_being_deleted_is_counted_where_everybody_counts_it():
    owner = deployment("web", 1)
    known, unknown = (
        with_status(carrying(owner, "1", 1), terminating_replicas=2),
        carrying(owner, "2"),
    )
    fresh = with_status(unknown, observed_generation=None)

    def told(*owned):
        [report] = sent(plan_for(DEP, owner, *owned), "update", DEPLOYMENTS, "status")
        return report.body.status.terminating_replicas

    assert told(known) == 2
    assert told(known, fresh) == 2  # its controller has not looked at it yet
    assert told(known, unknown) is None


REFUSED = Response(
    403,
    failure(
        403,
        "Forbidden",
        "replicasets is forbidden: quota",
        StatusDetails(kind="replicasets", group="apps"),
    ),
)


def test_dep_20_a_refused_replica_set_is_told_and_tried_again():
    owner = deployment("web")
    plan = plan_for(DEP, owner, local=Local(failures=1, failure=REFUSED))
    [report] = [request for wave in plan.waves for request in wave]
    [condition] = report.body.status.conditions
    assert (condition.type, condition.status, condition.reason) == (
        "Progressing",
        "False",
        "ReplicaSetCreateError",
    )
    assert REFUSED.body.message in condition.message
    assert [note.reason for note in plan.notes] == ["ReplicaSetCreateError"]
    again = plan_for(DEP, report.body, local=Local(failures=2, failure=REFUSED))
    assert len(sent(again, "create", REPLICA_SETS)) == 1
    conflict = Response(409, failure(409, "AlreadyExists", "it exists"))
    assert not plan_for(DEP, owner, local=Local(failures=1, failure=conflict)).notes


def test_dep_14_a_failure_of_pods_is_passed_on_and_taken_back():
    owner = deployment("web", 1)
    condition = ReplicaSetCondition(
        type="ReplicaFailure",
        status="True",
        reason="FailedCreate",
        message="quota",
        last_transition_time=ago(5),
    )
    failing = with_status(carrying(owner, "1", 1, revision=1, desired=1), conditions=(condition,))
    [report] = sent(plan_for(DEP, owner, failing), "update", DEPLOYMENTS, "status")
    [passed] = [c for c in report.body.status.conditions if c.type == "ReplicaFailure"]
    assert (passed.reason, passed.message, passed.last_transition_time) == (
        "FailedCreate",
        "quota",
        ago(5),
    )
    [report] = sent(
        plan_for(DEP, report.body, with_status(failing, conditions=None)),
        "update",
        DEPLOYMENTS,
        "status",
    )
    assert not [c for c in report.body.status.conditions if c.type == "ReplicaFailure"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 4))
def test_dep_17_only_old_ones_without_pods_go_and_the_newest_stay(sizes, limit):
    owner = deployment("web", 0, revision_history_limit=limit)
    owner = with_status(owner, observed_generation=1)
    new = carrying(owner, "1", revision=99)
    old = [carrying(owner, f"old{n}", 0, revision=n + 1) for n, size in enumerate(sizes)]
    old = [with_status(rs, replicas=size) for rs, size in zip(old, sizes, strict=True)]
    doomed = [r.name for r in sent(plan_for(DEP, owner, new, *old), "delete", REPLICA_SETS)]
    beyond = old[: max(0, len(old) - limit)]
    assert doomed == [rs.metadata.name for rs in beyond if not rs.status.replicas]


def test_dep_17_one_whose_controller_has_not_seen_its_size_yet_stays():
    owner = with_status(deployment("web", 0, revision_history_limit=0), observed_generation=1)
    old = carrying(owner, "2", 0, revision=1)
    assert sent(plan_for(DEP, owner, carrying(owner, "1", revision=2), old), "delete")
    assert not sent(
        plan_for(DEP, owner, carrying(owner, "1", revision=2), change(old, generation=2)), "delete"
    )


# --- whole rollouts -------------------------------------------------------------------------------


class Judged(DeploymentReconciler):
    """Decides like a Deployment's controller, and every decision is judged on what it saw."""

    def reconcile(self, view, key, now, local):
        plan = super().reconcile(view, key, now, local)
        owner = view.get(DEPLOYMENTS, key)
        if owner is not None:
            wrong = broken(view, owner, plan)
            assert not wrong, wrong[0]
        return plan


def judged(*objects):
    return settle(start_all(create(new_cluster(Judged(), ReplicaSetReconciler()), *objects)))


def edit(**spec):
    return lambda cluster: patch(cluster, DEPLOYMENTS, "web", {"spec": spec})


def roll(version):
    return edit(template={"spec": {"containers": [{"name": "c", "image": f"app:{version}"}]}})


def nothing(before, after):
    return ()


def carries(owner, rs):
    return revisions.without_hash(rs.spec.template) == owner.spec.template


def all_become_ready(cluster, check=nothing, rounds=60):
    """Peace: whatever is dying goes, whatever is not ready gets ready, until nothing is left to
    do."""
    for _ in range(rounds):
        cluster = settle(cluster, check)
        dying = [p for p in stored(cluster, PODS) if p.metadata.deletion_timestamp is not None]
        waiting = [
            p
            for p in stored(cluster, PODS)
            if not is_ready(p) and p not in dying and p.status.phase != "Failed"
        ]
        if not waiting and not dying:
            return cluster
        for p in dying:
            cluster = remove(cluster, PODS, p.metadata.name, grace_period_seconds=0)
        for p in waiting:
            cluster = make_ready(cluster, p.metadata.name)
    raise AssertionError("the rollout does not come to an end")


def is_ready(p):
    return any(c.type == "Ready" and c.status == "True" for c in p.status.conditions or ())


def is_settled(cluster):
    owner = get(cluster, DEPLOYMENTS, "web")
    assert not list(dep_19_settled(owner, stored(cluster, REPLICA_SETS), carries))
    revision = cluster.history.revision
    assert settle(cluster, seconds_max=3600).history.revision == revision, "not silent"


USERS = [
    *[roll(v) for v in "123"],
    *[edit(replicas=n) for n in (0, 2, 5)],
    edit(paused=True),
    edit(paused=None),
    edit(strategy={"type": "Recreate", "rollingUpdate": None}),
    edit(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    edit(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}),
    edit(minReadySeconds=1),
    edit(revisionHistoryLimit=1),
]


@given(choices, st.sampled_from(["", "n1"]))
def test_dep_19_one_replica_set_has_all_in_the_end_whatever_happened(drawn, node):
    """Users change their minds, pods come, go, fail and finish, controllers crash and hear late:
    then peace."""
    cluster = judged(deployment("web", 3, uid=None, template=template(node=node)))
    kinds = ["ready", "unready", "finish", "die", "vanish"]
    cluster = live(
        cluster, drawn, nothing, kinds, ["crash", "lose", "give up", "cut", "compact"], USERS
    )
    cluster = patch(
        cluster, DEPLOYMENTS, "web", {"spec": {"paused": None, "minReadySeconds": None}}
    )
    cluster = all_become_ready(settle(cluster, seconds_max=30))
    is_settled(cluster)


class Bounded:
    """DEP-7, DEP-8 over a whole run in which pods only get ready: what the store holds, not what
    anybody believes."""

    def __init__(self, bounds, least):
        self.bounds, self.least = bounds, least

    def __call__(self, before, after):
        asked = sum(rs.spec.replicas for rs in stored(after, REPLICA_SETS))
        if asked > self.bounds.most:
            yield f"DEP-7: {asked} pods are asked for, where {self.bounds.most} may be"
        available = sum(
            1 for p in stored(after, PODS) if is_ready(p) and p.metadata.deletion_timestamp is None
        )
        if available < self.least:
            yield f"DEP-8: {available} pods are available, where {self.least} are asked for"


strategies = st.sampled_from(
    [(1, 0), (0, 1), ("25%", "25%"), (2, 1), (3, 3), ("100%", 0), (0, "100%")]
)


@given(choices, st.integers(1, 6), strategies, st.sampled_from(["", "n1"]))
def test_dep_7_dep_8_a_rolling_update_keeps_its_bounds_at_every_moment(
    drawn, replicas, strategy, node
):
    """In one life of the controller: what a crashed one has sent may still land, and a creation has
    no precondition to stop it."""
    cluster = judged(deployment("web", replicas, *strategy, uid=None, template=template("1", node)))
    cluster = all_become_ready(cluster)
    bounds = rollout.compute_bounds(get(cluster, DEPLOYMENTS, "web").spec)
    check = Bounded(bounds, bounds.fewest_available)
    cluster = roll("2")(cluster)
    users = [roll("3"), roll("1"), roll("2")]
    cluster = live(
        cluster, drawn, check, ["ready", "vanish"], ["lose", "give up", "cut", "compact"], users
    )
    cluster = all_become_ready(settle(cluster, check, seconds_max=30), check)
    is_settled(cluster)


def rolled(cluster, version):
    return all_become_ready(roll(version)(cluster))


def test_dep_4_sometimes_a_rollback_reuses_the_old_replica_set():
    cluster = all_become_ready(started(deployment("web", 3, uid=None)))
    [first] = stored(cluster, REPLICA_SETS)
    cluster = rolled(rolled(cluster, "2"), "1")
    back = get(cluster, REPLICA_SETS, first.metadata.name)
    assert back.metadata.uid == first.metadata.uid and len(stored(cluster, REPLICA_SETS)) == 2
    assert (
        back.metadata.annotations[revisions.REVISION],
        back.metadata.annotations[revisions.REVISION_HISTORY],
    ) == ("3", "1")
    assert get(cluster, DEPLOYMENTS, "web").metadata.annotations[revisions.REVISION] == "3"
    is_settled(cluster)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "old", "new"),
    [(4, "25%", "25%", 3, 2), (3, 2, 0, 3, 2), (10, 3, 2, 8, 5), (1, "25%", "25%", 1, 1)],
)
def test_dep_7_dep_8_sometimes_a_rollout_is_stuck_exactly_at_its_bounds(
    replicas, surge, unavailable, old, new
):
    """The new pods never get ready."""
    cluster = all_become_ready(judged(deployment("web", replicas, surge, unavailable, uid=None)))
    [before] = stored(cluster, REPLICA_SETS)
    cluster = settle(roll("2")(cluster))
    sizes = {rs.metadata.uid == before.metadata.uid: rs for rs in stored(cluster, REPLICA_SETS)}
    assert (sizes[True].spec.replicas, sizes[False].spec.replicas) == (old, new)
    status = get(cluster, DEPLOYMENTS, "web").status
    assert (
        status.replicas,
        status.updated_replicas,
        status.available_replicas,
        status.unavailable_replicas,
    ) == (old + new, new, old, new)
    if replicas == 10:  # DEP-9: scaled in the middle
        cluster = settle(edit(replicas=15)(cluster))
        for p in pods_of(cluster, before):
            cluster = make_ready(cluster, p.metadata.name)
        cluster = settle(cluster)
        assert sorted(rs.spec.replicas for rs in stored(cluster, REPLICA_SETS)) == [7, 11]
        for rs in stored(cluster, REPLICA_SETS):
            assert rs.metadata.annotations[revisions.DESIRED_REPLICAS] == "15"
            assert rs.metadata.annotations[revisions.MAX_REPLICAS] == "18"
    is_settled(all_become_ready(cluster))


@given(choices, st.sampled_from(["", "n1"]))
def test_dep_10_a_recreate_never_has_old_and_new_pods_at_once(drawn, node):
    """In one life of the controllers, like DEP-7."""
    owner = deployment(
        "web",
        2,
        uid=None,
        strategy=DeploymentStrategy(type="Recreate"),
        template=template("1", node),
    )
    cluster = all_become_ready(judged(owner))

    def one_version_at_a_time(before, after):
        found = {
            p.spec.containers[0].image
            for p in stored(after, PODS)
            if p.status.phase not in ("Failed", "Succeeded")
        }
        if len(found) > 1:
            yield f"DEP-10: pods of {sorted(found)} at once"

    cluster = roll("2")(cluster)
    cluster = live(
        cluster,
        drawn,
        one_version_at_a_time,
        ["ready", "die", "vanish"],
        ["lose", "give up", "cut", "compact"],
    )
    cluster = all_become_ready(
        settle(cluster, one_version_at_a_time, seconds_max=30), one_version_at_a_time
    )
    is_settled(cluster)


def test_dep_10_sometimes_the_last_old_pod_is_held_by_a_finalizer():
    made = template("1", finalizers=("example.com/hold",))
    cluster = all_become_ready(
        started(
            deployment(
                "web", 1, uid=None, strategy=DeploymentStrategy(type="Recreate"), template=made
            )
        )
    )
    [held] = stored(cluster, PODS)
    cluster = settle(
        patch(
            roll("2")(cluster),
            DEPLOYMENTS,
            "web",
            {"spec": {"template": {"metadata": {"finalizers": None}}}},
        )
    )
    assert len(stored(cluster, REPLICA_SETS)) == 1 and len(stored(cluster, PODS)) == 1
    cluster = settle(patch(cluster, PODS, held.metadata.name, {"metadata": {"finalizers": None}}))
    assert len(stored(cluster, REPLICA_SETS)) == 2
    assert [p.spec.containers[0].image for p in stored(cluster, PODS)] == ["app:2"]


def progressing(cluster):
    return next(
        (
            c
            for c in get(cluster, DEPLOYMENTS, "web").status.conditions or ()
            if c.type == "Progressing"
        ),
        None,
    )


def test_dep_11_sometimes_a_paused_deployment_scales_and_rolls_out_only_when_resumed():
    cluster = started(deployment("web", 1, uid=None))
    cluster = settle(edit(paused=True)(cluster))
    assert (progressing(cluster).status, progressing(cluster).reason) == (
        "Unknown",
        "DeploymentPaused",
    )
    cluster = settle(roll("2")(cluster))
    assert len(stored(cluster, REPLICA_SETS)) == 1
    cluster = settle(edit(replicas=2)(cluster))
    [only] = stored(cluster, REPLICA_SETS)
    assert only.spec.replicas == 2 and only.metadata.annotations[revisions.MAX_REPLICAS] == "3"
    assert get(cluster, DEPLOYMENTS, "web").status.updated_replicas is None
    cluster = settle(roll("3")(cluster))
    cluster = settle(edit(paused=None)(cluster))
    assert len(stored(cluster, REPLICA_SETS)) == 2  # version 2 never was
    assert progressing(cluster).reason == "ReplicaSetUpdated"
    is_settled(all_become_ready(cluster))


def test_dep_14_a_rollout_begins_progresses_and_completes():
    cluster = started(deployment("web", 1, uid=None))
    assert (progressing(cluster).status, progressing(cluster).reason) == (
        "True",
        "ReplicaSetUpdated",
    )
    cluster = all_become_ready(cluster)
    assert (progressing(cluster).status, progressing(cluster).reason) == (
        "True",
        "NewReplicaSetAvailable",
    )
    [one] = stored(cluster, PODS)
    cluster = settle(make_ready(cluster, one.metadata.name, ready=False), seconds_max=3600)
    # what dies later is not the rollout's
    assert progressing(cluster).reason == "NewReplicaSetAvailable"
    assert [
        c.status
        for c in get(cluster, DEPLOYMENTS, "web").status.conditions
        if c.type == "Available"
    ] == ["False"]


def test_dep_14_without_a_deadline_nothing_is_said_of_progress():
    cluster = settle(
        edit(progressDeadlineSeconds=2**31 - 1)(started(deployment("web", 1, uid=None)))
    )
    assert progressing(cluster) is None
    cluster = settle(edit(progressDeadlineSeconds=60)(cluster))
    assert progressing(cluster).reason == "FoundNewReplicaSet"


def test_dep_15_sometimes_the_deadline_passes_and_the_rollout_recovers():
    cluster = started(deployment("web", 1, uid=None, progress_deadline_seconds=20))
    since = parse_timestamp(progressing(cluster).last_update_time)
    cluster = settle(cluster, seconds_max=10)
    assert progressing(cluster).reason == "ReplicaSetUpdated"
    cluster = settle(cluster, seconds_max=60)
    assert (progressing(cluster).status, progressing(cluster).reason) == (
        "False",
        "ProgressDeadlineExceeded",
    )
    late = parse_timestamp(progressing(cluster).last_update_time) - since
    assert 20 * SECOND <= late <= 22 * SECOND
    cluster = all_become_ready(cluster)
    assert (progressing(cluster).status, progressing(cluster).reason) == (
        "True",
        "NewReplicaSetAvailable",
    )


def test_dep_15_no_deadline_runs_while_paused():
    cluster = settle(
        edit(paused=True)(started(deployment("web", 1, uid=None, progress_deadline_seconds=20))),
        seconds_max=600,
    )
    assert progressing(cluster).reason == "DeploymentPaused"


def test_dep_17_sometimes_the_history_is_cut():
    cluster = started(deployment("web", 0, uid=None, revision_history_limit=1))
    for version in "2345":
        cluster = settle(roll(version)(cluster))
    kept = sorted(stored(cluster, REPLICA_SETS), key=revisions.revision_of)
    assert [revisions.revision_of(rs) for rs in kept] == [4, 5]


def test_dep_18_sometimes_a_deployment_dies_in_the_foreground():
    cluster = all_become_ready(started(deployment("web", 2, uid=None)))
    cluster = remove(roll("2")(cluster), DEPLOYMENTS, "web", propagation_policy="Foreground")
    before = {
        rs.metadata.name: rs.metadata.resource_version for rs in stored(cluster, REPLICA_SETS)
    }
    cluster = settle(cluster)
    assert {
        rs.metadata.name: rs.metadata.resource_version for rs in stored(cluster, REPLICA_SETS)
    } == before
    owner = get(cluster, DEPLOYMENTS, "web")
    assert owner.status.observed_generation == owner.metadata.generation


def test_dep_16_scaling_is_told():
    cluster = all_become_ready(started(deployment("web", 3, uid=None)))
    [rs] = stored(cluster, REPLICA_SETS)
    cluster = settle(edit(replicas=1)(cluster))
    told = [e.message for e in stored(cluster, EVENTS) if e.reason == "ScalingReplicaSet"]
    name = rs.metadata.name
    assert sorted(told) == [
        f"Scaled down replica set {name} from 3 to 1",
        f"Scaled up replica set {name} from 0 to 3",
    ]


def test_dep_9_scaling_moves_the_annotations_and_neither_name_nor_revision():
    cluster = started(deployment("web", 3, uid=None))
    [before] = stored(cluster, REPLICA_SETS)
    cluster = settle(edit(replicas=5)(cluster))
    [after] = stored(cluster, REPLICA_SETS)
    assert after.metadata.name == before.metadata.name and after.metadata.generation == 2
    assert after.metadata.annotations == {
        revisions.REVISION: "1",
        revisions.DESIRED_REPLICAS: "5",
        revisions.MAX_REPLICAS: "7",
    }


def test_dep_9_a_saturated_new_one_leaves_nothing_to_the_old():
    owner = deployment("web", 3)
    new, old = (
        carrying(owner, "1", 3, available=3, revision=2, desired=3),
        carrying(owner, "2", 2, available=2, revision=1, desired=2),
    )
    [update] = sent(plan_for(DEP, owner, new, old), "update", REPLICA_SETS)
    assert (update.name, update.body.spec.replicas) == (old.metadata.name, 0)


def test_dep_19_an_orphan_with_another_template_becomes_an_old_one():
    cluster = started(replica_set("orphan", 2, uid=None, template=template("0")))
    cluster = settle(create(cluster, deployment("web", 1, 0, 1, uid=None)))
    orphan = get(cluster, REPLICA_SETS, "orphan")
    assert controller_of(orphan).name == "web" and (
        orphan.spec.replicas,
        orphan.status.replicas,
    ) == (0, 0)
    assert get(cluster, DEPLOYMENTS, "web").metadata.annotations[revisions.REVISION] == "1"


def test_dep_10_what_a_recreate_wants_to_hear_of_pods():
    owner = deployment("web", strategy=DeploymentStrategy(type="Recreate"))
    rs = carrying(owner, "1", 1)
    view, keys = view_of(DEP, owner, rs), DEP.interests[2].keys
    running, finished = pod("p", rs, ready=True), pod("p", rs, phase="Failed")
    assert keys(view, running, None) == ("default/web",)
    assert keys(view, running, finished) == ("default/web",)
    assert (
        keys(view, None, running)
        == keys(view, running, running)
        == keys(view, finished, finished)
        == ()
    )
    assert keys(view_of(DEP, deployment("web"), rs), running, None) == ()
    assert keys(view, pod("p"), None) == ()
