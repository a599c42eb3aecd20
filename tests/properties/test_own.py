"""Owners (spec/workloads/owners.md): who may act on what. Shown with ReplicaSets and pods;
Deployments own by the same code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_helpers import (
    ago,
    change,
    choices,
    create,
    deployment,
    get,
    live,
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
    view_of,
)

from refk8s.core.actions import Answer, Arrive
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from refk8s.core.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from refk8s.core.api.selector import from_label_selector
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import start_all, step
from refk8s.core.controllers.deployment import DeploymentReconciler
from refk8s.core.controllers.owners import dependent_keys, selects
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.loop.view import controller_of
from refk8s.core.properties.predicates.owners import (
    own_1_acts_only_on_its_own,
    own_2_adopts_selected_objects_without_controller,
    own_4_adopts_nothing_while_being_deleted,
    own_6_names_the_uid,
)
from refk8s.core.value import evolve

RS = ReplicaSetReconciler()
OURS = replica_set("web")
OTHER = replica_set("other")
NAMESAKE = change(OURS, uid="uid-of-an-earlier-web")  # had our name before us

references = st.sampled_from(
    [
        None,
        (reference_to(OURS),),
        (reference_to(OTHER),),
        (reference_to(NAMESAKE),),
        (reference_to(OURS, controller=False),),
        (reference_to(OURS, controller=False), reference_to(NAMESAKE)),
        (reference_to(OTHER, controller=False), reference_to(OURS)),
    ]
)
labels = st.sampled_from([{"app": "web"}, {"app": "web", "more": "m"}, {"app": "away"}, None])


@st.composite
def dependents(draw, most=8):
    """Pods in every relation to OURS."""
    return [
        pod(
            f"p{n}",
            owner_references=draw(references),
            labels=draw(labels),
            phase=draw(st.sampled_from(["Pending", "Running", "Running", "Failed", "Succeeded"])),
            deletion_timestamp=draw(st.sampled_from([None, None, ago(1)])),
        )
        for n in range(draw(st.integers(0, most)))
    ]


@st.composite
def owners(draw):
    """OURS, of any size, being deleted or not."""
    return change(
        replica_set("web", draw(st.integers(0, 5))),
        deletion_timestamp=draw(st.sampled_from([None, None, ago(5)])),
    )


def broken(owner, pods, plan):
    view = view_of(RS, owner, *pods)
    selector = from_label_selector(owner.spec.selector)
    return [
        *own_1_acts_only_on_its_own(view, owner, PODS, plan),
        *own_2_adopts_selected_objects_without_controller(view, owner, PODS, selector, plan),
        *own_4_adopts_nothing_while_being_deleted(owner, plan),
        *own_6_names_the_uid(view, PODS, plan),
    ]


@given(owners(), dependents())
def test_own_1_own_2_own_4_own_6_every_act_meets_only_what_the_owner_may_touch(owner, pods):
    assert not broken(owner, pods, plan_for(RS, owner, *pods))


@given(owners(), dependents())
def test_own_2_own_3_the_claims_are_exactly_those_of_the_table(owner, pods):
    plan = plan_for(RS, owner, *pods)
    patches = {
        r.name: r.body.document["metadata"]["ownerReferences"][0] for r in sent(plan, "patch", PODS)
    }
    expected = {}
    for one in pods:
        active = (
            one.status.phase in ("Pending", "Running") and one.metadata.deletion_timestamp is None
        )
        is_selected = (one.metadata.labels or {}).get("app") == "web"
        controller = next(
            (r.uid for r in one.metadata.owner_references or () if r.controller), None
        )
        if owner.metadata.deletion_timestamp is None and active:
            if controller is None and is_selected:
                expected[one.metadata.name] = "adopt"
            elif controller == owner.metadata.uid and not is_selected:
                expected[one.metadata.name] = "release"
    assert {
        name: "release" if "$patch" in reference else "adopt" for name, reference in patches.items()
    } == expected
    if expected:
        # first it becomes true, then it is counted
        assert not sent(plan, "create", PODS) and not sent(plan, "delete", PODS)


def test_own_3_sometimes_a_pod_leaves_by_its_labels_and_another_takes_its_place():
    cluster = started(replica_set("web", 2, uid=None))
    left = stored(cluster, PODS)[0]
    cluster = settle(
        patch(cluster, PODS, left.metadata.name, {"metadata": {"labels": {"app": "away"}}})
    )
    assert controller_of(get(cluster, PODS, left.metadata.name)) is None
    assert len(pods_of(cluster, get(cluster, REPLICA_SETS, "web"))) == 2
    assert len(stored(cluster, PODS)) == 3


def test_own_2_sometimes_an_orphan_is_adopted_and_counts():
    cluster = started(pod("mine", uid=None), replica_set("web", 2, uid=None))
    owner = get(cluster, REPLICA_SETS, "web")
    [reference] = get(cluster, PODS, "mine").metadata.owner_references
    assert reference == reference_to(owner)
    assert len(stored(cluster, PODS)) == 2


def test_own_2_two_owners_with_one_selector_share_nothing():
    cluster = started(replica_set("one", 2, uid=None), replica_set("two", 1, uid=None))
    assert [len(pods_of(cluster, get(cluster, REPLICA_SETS, name))) for name in ("one", "two")] == [
        2,
        1,
    ]


@given(choices)
def test_own_1_own_2_two_owners_and_free_pods_however_the_news_travels(drawn):
    """Two owners want the same orphans; whoever gets one keeps it, and nothing else is touched."""
    objects = [pod(f"p{n}", uid=None) for n in range(3)] + [
        replica_set("one", 1, uid=None),
        replica_set("two", 2, uid=None),
    ]
    cluster = start_all(create(new_cluster(RS), *objects))

    def nobody_is_robbed(before, after):
        held = {p.metadata.uid: controller_of(p) for p in stored(before, PODS)}
        for one in stored(after, PODS):
            was, now = held.get(one.metadata.uid), controller_of(one)
            if was is not None and was != now:
                yield f"{one.metadata.name} went from {was.name} to {now}"

    cluster = live(
        cluster, drawn, nobody_is_robbed, ["ready"], ["lose", "give up", "cut", "compact", "crash"]
    )
    cluster = settle(cluster, nobody_is_robbed, seconds_max=30)
    assert [len(pods_of(cluster, get(cluster, REPLICA_SETS, name))) for name in ("one", "two")] == [
        1,
        2,
    ]


def test_own_4_a_dying_owner_takes_nothing_and_lets_nothing_go():
    owner = change(OURS, deletion_timestamp=ago(1))
    free, strayed = pod("free"), pod("strayed", OURS, labels={"app": "away"})
    assert not sent(plan_for(RS, owner, free, strayed), "patch")
    assert len(sent(plan_for(RS, OURS, free, strayed), "patch")) == 2


def orphaned_behind_the_back():
    """A cluster whose ReplicaSet is being deleted with its pods to be orphaned, and whose
    controller knows only of the orphans."""
    cluster = started(replica_set("web", 1, uid=None))
    [kept] = stored(cluster, PODS)
    cluster = remove(cluster, REPLICA_SETS, "web", propagation_policy="Orphan")
    assert get(cluster, REPLICA_SETS, "web").metadata.deletion_timestamp is not None
    # the garbage collector lets it go
    cluster = patch(cluster, PODS, kept.metadata.name, {"metadata": {"ownerReferences": None}})
    [news] = [id for id in cluster.watches if cluster.watches[id].stream.resource is PODS]
    return cluster, news, kept.metadata.name


def test_own_5_an_owner_with_an_old_view_of_itself_adopts_nothing():
    from refk8s.core.actions import Notify

    cluster, news, name = orphaned_behind_the_back()
    cluster = step(cluster, Notify(news))
    codes = []
    for _ in range(20):
        actions = [action for action in enabled(cluster) if isinstance(action, Arrive | Answer)]
        if not actions:
            break
        if isinstance(actions[0], Answer):
            flying = cluster.flying[actions[0].flying]
            codes.append((flying.request.verb, flying.request.resource, flying.answer.code))
        cluster = step(cluster, actions[0])
    # the guard met the deletion; the adoption was never sent
    assert codes == [("update", REPLICA_SETS, 409)]
    cluster = settle(cluster)
    assert controller_of(get(cluster, PODS, name)) is None


def test_own_5_the_guard_changes_nothing_where_the_view_is_fresh():
    cluster = started(replica_set("web", 1, uid=None))
    before = get(cluster, REPLICA_SETS, "web").metadata.resource_version
    plan = plan_for(RS, get(cluster, REPLICA_SETS, "web"), pod("free"))
    [guard] = plan.waves[0]
    assert [r.verb for r in plan.waves[1]] == ["patch"]
    from workload_helpers import ask

    assert (
        get(ask(cluster, evolve(guard, user=ADMIN)), REPLICA_SETS, "web").metadata.resource_version
        == before
    )


def test_own_6_a_pod_made_anew_under_the_same_name_survives_a_deletion_meant_for_the_first():
    from refk8s.core.cluster.step import submit

    cluster = started(replica_set("web", 1, uid=None))
    owner = get(cluster, REPLICA_SETS, "web")
    [first] = stored(cluster, PODS)
    [deletion] = sent(plan_for(RS, change(owner, replicas=0), first), "delete")
    cluster = create(
        remove(new_cluster_like(cluster), PODS, first.metadata.name),
        pod(first.metadata.name, uid=None),
    )
    cluster, response = submit(cluster, evolve(deletion, user=ADMIN))
    assert response.code == 409 and get(cluster, PODS, first.metadata.name) is not None


def new_cluster_like(cluster):
    """The cluster without its components, so that nobody interferes."""
    from immutables import Map

    return evolve(cluster, components=Map(), watches=Map(), flying=Map())


@given(
    st.lists(st.sampled_from(["web", "other"]), max_size=2), references, references, labels, labels
)
def test_own_7_every_owner_hears_of_what_changes_its_claim(
    names, before, after, labels_before, labels_after
):
    """Whoever would plan something else after a pod's change is told of it, unless a free pod has
    only ceased to be wanted."""
    kinds = [replica_set(name) for name in dict.fromkeys(names)]
    old, new = (
        pod("p", owner_references=before, labels=labels_before),
        pod("p", owner_references=after, labels=labels_after),
    )
    keys = RS.interests[1].keys(view_of(RS, new, *kinds), old, new)
    assert len(keys) == len(set(keys))
    for owner in kinds:
        ceased = controller_of(old) is None and plan_for(RS, owner) == plan_for(RS, owner, new)
        if plan_for(RS, owner, old) != plan_for(RS, owner, new) and not ceased:
            assert f"default/{owner.metadata.name}" in keys


@given(references, labels, st.booleans())
def test_own_7_every_owner_hears_of_what_comes_and_goes(reference, its_labels, comes):
    one = pod("p", owner_references=reference, labels=its_labels)
    view = view_of(RS, OURS, OTHER, *([one] if comes else []))
    keys = RS.interests[1].keys(view, None if comes else one, one if comes else None)
    for owner in (OURS, OTHER):
        if (comes or controller_of(one) is not None) and plan_for(RS, owner) != plan_for(
            RS, owner, one
        ):
            assert f"default/{owner.metadata.name}" in keys


def test_own_7_a_pod_that_keeps_its_controller_concerns_nobody_else():
    keys = dependent_keys("ReplicaSet", REPLICA_SETS, lambda owner: owner.spec.selector)
    old, new = pod("p", OURS), pod("p", OURS, ready=True)
    assert keys(view_of(RS, OURS, OTHER, new), old, new) == ["default/web"]


# --- Deployments own ReplicaSets by the same rules ------------------------------------------------


def test_own_2_own_3_a_deployment_adopts_and_releases_replica_sets():
    reconciler = DeploymentReconciler()
    owner = deployment("web")
    free = replica_set("free")
    strayed = change(
        replica_set("strayed"), labels={"app": "away"}, owner_references=(reference_to(owner),)
    )
    plan = plan_for(reconciler, owner, free, strayed)
    assert [r.name for r in sent(plan, "patch", REPLICA_SETS)] == ["free", "strayed"]
    assert [r.name for r in plan.waves[0]] == ["web"]  # OWN-5: the guard
    assert sent(plan, "update", DEPLOYMENTS, "status") == list(plan.waves[0])


# --- selectors ------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"), max_size=3),
    st.booleans(),
)
def test_own_2_the_fast_way_of_selecting_is_the_plain_one(required, its_labels, with_expression):
    expressions = (
        (LabelSelectorRequirement(key="c", operator="NotIn", values=("z",)),)
        if with_expression
        else None
    )
    selector = LabelSelector(match_labels=required or None, match_expressions=expressions)
    plain = from_label_selector(selector).matches(its_labels)
    assert selects(selector)(its_labels) == (plain and bool(required or expressions))


def test_own_2_a_selector_without_requirements_selects_nothing():
    assert not selects(LabelSelector())({"app": "web"})


@pytest.mark.parametrize(
    "expressions", [None, (LabelSelectorRequirement(key="app", operator="Exists"),)]
)
def test_own_2_orphans_are_found_by_labels_and_by_expressions(expressions):
    selector = LabelSelector(
        match_labels=None if expressions else {"app": "web"}, match_expressions=expressions
    )
    plan = plan_for(
        RS, change(OURS, selector=selector), pod("free"), pod("far", namespace="elsewhere")
    )
    assert [r.name for r in sent(plan, "patch")] == ["free"]
