"""DaemonSet (spec/workloads/daemon_set.md): one pod on every node that is meant."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    choices,
    create,
    daemon_set,
    get,
    live,
    new_cluster,
    node,
    patch,
    plan_for,
    pod,
    reference_to,
    sent,
    settle,
    settle_with_nodes,
    stored,
    template,
    view_of,
    with_status,
)

from refk8s.core.api.apps_v1 import ControllerRevision
from refk8s.core.api.core_v1 import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinity,
    PreferredSchedulingTerm,
    Taint,
    Toleration,
)
from refk8s.core.api.meta_v1 import ObjectMeta, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from refk8s.core.api.status import failure
from refk8s.core.cluster.step import start_all
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.controllers.controller_revisions import template_data
from refk8s.core.controllers.daemon_set import BURST_MAX, DaemonSetReconciler, sets_of_node
from refk8s.core.controllers.daemon_set_nodes import (
    Fit,
    compute_fit,
    compute_tolerations,
    new_pod,
    target_node,
)
from refk8s.core.controllers.daemon_set_steps import BACKOFF_MAX
from refk8s.core.loop.plan import Local
from refk8s.core.properties.predicates.daemon_set import (
    ds_1_settled,
    ds_5_one_pod_on_a_node,
    ds_8_updates_within_bounds,
    ds_9_two_pods_at_most,
    pinned_to,
)
from refk8s.core.properties.predicates.owners import own_1_acts_only_on_its_own

DS = DaemonSetReconciler()
HASH = "controller-revision-hash"
OURS = daemon_set()
SURGE = daemon_set(max_unavailable=0, max_surge=1)
START = Local(memory=Map())


def a_revision(version, number, owner=OURS):
    return ControllerRevision(
        metadata=ObjectMeta(
            name=f"agent-{version}", namespace="default", uid=f"uid-{version}", labels={**LABELS, HASH: version},
            owner_references=(reference_to(owner),),
        ),
        data=template_data(template("1" if version == "new" else "0")), revision=number,
    )  # fmt: skip


OLD, NEW = a_revision("old", 1), a_revision("new", 2)


def a_pod(name, where, version="new", ready=True, owner=OURS, **parts):
    made = pod(name, owner, ready=ready, labels={**LABELS, HASH: version}, node_name=where)
    return change(made, **parts)


def waiting(name, where, owner=OURS):
    """A pod that the scheduler has not bound."""
    made = new_pod(owner, (), "new", where)
    return change(made, name=name, namespace="default", uid=f"uid-{name}", phase="Pending")


def planned(owner, *others, now=NOW, local=START):
    return plan_for(DS, owner, OLD, NEW, *others, now=now, local=local)


def made(plan):
    return [pinned_to(request.body) for request in sent(plan, "create", PODS)]


def deleted(plan):
    return [request.name for request in sent(plan, "delete", PODS)]


def tainted(name, effect="NoSchedule", key="late"):
    return node(name, taints=(Taint(key=key, effect=effect),))


NAMES = ("n1", "n2", "n3", "n4")


@st.composite
def worlds(draw):
    """Nodes with taints, and pods in every state."""
    nodes = []
    for name in NAMES[: draw(st.integers(1, 4))]:
        effect = draw(st.sampled_from([None] * 4 + ["NoSchedule", "NoExecute", "PreferNoSchedule"]))
        nodes.append(tainted(name, effect) if effect else node(name))
    pods = []
    for n in range(draw(st.integers(0, 7))):
        state = draw(st.sampled_from(["ready"] * 4 + ["pending", "Failed", "Succeeded"]))
        one = a_pod(
            f"p{n}", draw(st.sampled_from(NAMES)), draw(st.sampled_from(["new", "old"])), state == "ready",
            creation_timestamp=ago(draw(st.integers(1, 60))),
        )  # fmt: skip
        if state in ("Failed", "Succeeded"):
            one = change(one, phase=state)
        if draw(st.integers(0, 6)) == 0:
            one = change(one, deletion_timestamp=ago(1))
        pods.append(one)
    return nodes, pods


strategies = st.sampled_from([(1, None), (2, 0), ("50%", None), (0, 1), (0, "50%"), (0, 2), (1, 0)])


@given(strategies, st.sampled_from([None, 10, 60]), worlds())
def test_ds_5_ds_8_ds_9_whatever_the_pods_are_a_plan_stays_within_bounds(bounds, seconds, found):
    owner = daemon_set("agent", *bounds, min_ready_seconds=seconds)
    nodes, pods = found
    plan = planned(owner, *nodes, *pods)
    view = view_of(DS, owner, OLD, NEW, *nodes, *pods)
    assert not list(ds_5_one_pod_on_a_node(view, owner, plan))
    assert not list(ds_8_updates_within_bounds(view, owner, plan, NOW))
    assert not list(ds_9_two_pods_at_most(view, owner, plan))
    assert not list(own_1_acts_only_on_its_own(view, owner, PODS, plan))
    assert len(set(deleted(plan))) == len(deleted(plan))


# --- runs -----------------------------------------------------------------------------------------


def upgrade(version):
    document = {"spec": {"template": {"metadata": {"labels": {**LABELS, "v": version}}}}}
    return lambda cluster: patch(cluster, DAEMON_SETS, "agent", document)


def taint(name, effect):
    """A node without other taints: a new one has not-ready."""
    taints = [{"key": "late", "effect": effect}] if effect else None
    return lambda cluster: patch(cluster, NODES, name, {"spec": {"taints": taints}})


def with_nodes(cluster, *names):
    for name in names:
        cluster = taint(name, "")(create(cluster, node(name)))
    return cluster


@given(strategies, choices)
def test_ds_1_after_any_run_every_node_has_one_pod_of_the_template(bounds, drawn):
    owner = daemon_set("agent", *bounds)
    cluster = start_all(create(with_nodes(new_cluster(DS), "n1", "n2", "n3"), owner))
    users = [
        upgrade("2"),
        upgrade("3"),
        taint("n1", "NoExecute"),
        taint("n2", "NoSchedule"),
        taint("n1", ""),
    ]
    kinds = ("ready", "unready", "finish", "die", "vanish")
    cluster = live(cluster, drawn, lambda a, b: (), kinds, ("crash", "lose", "twice"), users)
    cluster = settle_with_nodes(cluster, 2000)
    one = get(cluster, DAEMON_SETS, "agent")
    pods = stored(cluster, PODS)
    assert not list(ds_1_settled(one, stored(cluster, NODES), pods))
    places = [target_node(each) for each in pods]
    assert len(places) == len(set(places))
    assert one.status.updated_number_scheduled == (one.status.desired_number_scheduled or None)


# --- nodes ----------------------------------------------------------------------------------------


def fit_of(owner, one):
    return compute_fit(owner, compute_tolerations(owner), one)


def with_spec(owner=OURS, **parts):
    return change(owner, template=replace(template(), spec=replace(template().spec, **parts)))


@pytest.mark.parametrize(
    ("key", "effect", "fit"),
    [
        ("late", "NoSchedule", (False, True)), ("late", "NoExecute", (False, False)), ("late", "PreferNoSchedule", (True, True)),
        ("node.kubernetes.io/not-ready", "NoSchedule", (False, True)),
        ("node.kubernetes.io/not-ready", "NoExecute", (True, True)),
        ("node.kubernetes.io/unreachable", "NoExecute", (True, True)),
        ("node.kubernetes.io/unschedulable", "NoSchedule", (True, True)),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", (True, True)),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", (True, True)),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", (True, True)),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", (False, True)),
    ],
)  # fmt: skip
def test_ds_2_taints_decide_which_nodes_get_and_keep_a_pod(key, effect, fit):
    one = tainted("n1", effect, key)
    assert fit_of(OURS, one) == Fit(*fit)
    tolerant = with_spec(tolerations=(Toleration(key=key, operator="Exists"),))
    assert fit_of(tolerant, one) == Fit(True, True)


def required(*names):
    term = NodeSelectorTerm(
        match_expressions=(
            NodeSelectorRequirement(key="kubernetes.io/hostname", operator="In", values=names),
        )
    )
    return NodeAffinity(
        required_during_scheduling_ignored_during_execution=NodeSelector(
            node_selector_terms=(term,)
        )
    )


def test_ds_2_a_node_must_match_the_template():
    for parts in (
        {"node_name": "n1"},
        {"node_selector": {"kubernetes.io/hostname": "n1"}},
        {"affinity": Affinity(node_affinity=required("n1", "n9"))},
    ):
        owner = with_spec(**parts)
        assert fit_of(owner, node("n1")) == Fit(True, True)
        assert fit_of(owner, node("n2")) == Fit(False, False)
        assert made(planned(owner, node("n1"), node("n2"))) == ["n1"]


def test_ds_2_a_node_with_a_new_taint_keeps_its_pod():
    here = a_pod("p", "n1")
    plan = planned(OURS, tainted("n1"), here)
    assert not made(plan) and not deleted(plan)
    (write,) = sent(plan, "update", DAEMON_SETS, "status")
    status = write.body.status
    assert (status.number_misscheduled, status.desired_number_scheduled) == (1, 0)
    assert deleted(planned(OURS, tainted("n1", "NoExecute"), here)) == ["p"]
    assert deleted(planned(with_spec(node_name="n2"), node("n1"), here)) == ["p"]


def test_ds_2_a_heartbeat_of_a_node_concerns_no_set():
    view = view_of(DS, OURS, daemon_set("b", template=with_spec(node_name="n9").spec.template))
    one = node("n1")
    beaten = change(one, annotations={"beat": "1"})
    assert list(sets_of_node(view, one, beaten)) == []
    assert list(sets_of_node(view, one, tainted("n1"))) == ["default/agent"]
    assert list(sets_of_node(view, one, tainted("n1", "PreferNoSchedule"))) == []
    assert list(sets_of_node(view, None, one)) == ["default/agent", "default/b"]
    assert list(sets_of_node(view, one, None)) == ["default/agent", "default/b"]


def test_ds_3_the_tolerations_of_the_template_come_first_and_none_is_there_twice():
    own = Toleration(key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule")
    found = compute_tolerations(with_spec(tolerations=(own,), host_network=True))
    assert [(one.key.rpartition("/")[2], one.effect) for one in found] == [
        ("unschedulable", "NoSchedule"), ("not-ready", "NoExecute"), ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"), ("memory-pressure", "NoSchedule"), ("pid-pressure", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ]  # fmt: skip
    assert len(compute_tolerations(OURS)) == 6
    (creation,) = sent(planned(OURS, node("n1")), "create", PODS)
    assert creation.body.spec.tolerations == compute_tolerations(OURS)


def test_ds_4_a_pod_is_pinned_to_its_node():
    likes = (PreferredSchedulingTerm(weight=1, preference=NodeSelectorTerm()),)
    affinity = Affinity(
        node_affinity=replace(
            required("n1"), preferred_during_scheduling_ignored_during_execution=likes
        ),
        pod_affinity=PodAffinity(),
    )
    owner = change(
        with_spec(affinity=affinity), annotations={"deprecated.daemonset.template.generation": "7"}
    )
    (creation,) = sent(planned(owner, node("n1"), node("n2")), "create", PODS)
    one = creation.body
    assert target_node(one) == "n1" and one.spec.node_name is None
    (term,) = (
        one.spec.affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    )
    assert term.match_expressions is None
    assert (
        one.spec.affinity.node_affinity.preferred_during_scheduling_ignored_during_execution
        == likes
    )
    assert one.spec.affinity.pod_affinity == PodAffinity()
    assert one.metadata.generate_name == "agent-"
    assert one.metadata.labels["pod-template-generation"] == "7"
    odd = change(owner, annotations={"deprecated.daemonset.template.generation": "seven"})
    (creation,) = sent(planned(odd, node("n1")), "create", PODS)
    assert "pod-template-generation" not in creation.body.metadata.labels
    assert target_node(pod("p")) == ""


# --- one pod --------------------------------------------------------------------------------------


def test_ds_5_of_several_pods_the_oldest_stays():
    young = a_pod("a", "n1", creation_timestamp=ago(1))
    older = a_pod("b", "n1", creation_timestamp=ago(9))
    unbound = change(waiting("c", "n1"), creation_timestamp=ago(99))
    assert sorted(deleted(planned(OURS, node("n1"), young, older, unbound))) == ["a", "c"]
    of_yesterday = change(a_pod("z", "n1", "old"), creation_timestamp=ago(9))
    assert deleted(planned(OURS, node("n1"), older, of_yesterday)) == ["b"]


def test_ds_5_no_pod_beside_one_that_is_going():
    going = a_pod("a", "n1", deletion_timestamp=ago(1))
    assert made(planned(OURS, node("n1"), going)) == []
    assert made(
        planned(SURGE, node("n1"), change(going, owner_references=(reference_to(SURGE),)))
    ) == ["n1"]
    over = change(going, phase="Failed")
    assert made(planned(OURS, node("n1"), over)) == ["n1"]


def test_ds_5_a_plan_has_a_bound_and_deletes_first():
    many = [node(f"n{n}") for n in range(BURST_MAX + 2)]
    plan = planned(OURS, *many)
    assert len(made(plan)) == BURST_MAX
    assert [len(wave) for wave in plan.waves if wave][:3] == [1, 2, 4]
    bad = [tainted(f"x{n}", "NoExecute") for n in range(BURST_MAX + 2)]
    there = [a_pod(f"p{n}", f"x{n}") for n in range(BURST_MAX + 2)]
    plan = planned(OURS, *bad, *there, node("n1"))
    assert len(deleted(plan)) == BURST_MAX and made(plan) == ["n1"]
    assert [request.verb for request in plan.requests[:2]] == ["delete", "delete"]


def test_ds_6_a_pod_whose_node_is_gone_is_deleted():
    assert deleted(planned(OURS, node("n1"), waiting("a", "n9"), a_pod("b", "n1"))) == ["a"]
    assert deleted(planned(OURS, node("n1"), a_pod("a", "n9"), a_pod("b", "n1"))) == []


def test_ds_7_failed_pods_are_replaced_with_a_growing_back_off():
    now, memory, times = NOW, Map(), []
    for _ in range(14):
        failed = a_pod("p", "n1", phase="Failed", ready=False)
        plan = planned(OURS, node("n1"), failed, now=now, local=Local(memory=memory))
        if plan.wake_at is not None and not deleted(plan):
            assert made(plan) == [] and not plan.notes
            now, memory = plan.wake_at, plan.memory
            plan = planned(OURS, node("n1"), failed, now=now, local=Local(memory=memory))
        assert deleted(plan) == ["p"] and plan.notes[0].reason == "FailedDaemonPod"
        assert (
            plan.notes[0].message
            == "Found failed daemon pod default/p on node n1, will try to kill it"
        )
        times.append(now)
        memory = plan.memory
    waits = [(b - a) // SECOND for a, b in itertools.pairwise(times)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    later = now + 2 * BACKOFF_MAX + MINUTE
    plan = planned(OURS, node("n1"), failed, now=later, local=Local(memory=memory))
    assert deleted(plan) == ["p"] and plan.memory["default/agent"]["n1"] == (later, SECOND)
    healthy = planned(OURS, node("n1"), a_pod("p", "n1"), now=later, local=Local(memory=memory))
    assert healthy.memory == Map()


def test_ds_7_a_failed_pod_holds_its_place_also_with_a_surge():
    failed = change(a_pod("p", "n1", ready=False, owner=SURGE), phase="Failed")
    memory = Map({"default/agent": Map({"n1": (NOW, MINUTE)})})
    plan = planned(SURGE, node("n1"), failed, local=Local(memory=memory))
    assert made(plan) == [] and deleted(plan) == [] and plan.wake_at == NOW + MINUTE


def test_ds_7_the_memory_ends_with_the_set():
    memory = Map({"default/agent": Map({"n1": (NOW, SECOND)})})
    plan = DS.reconcile(view_of(DS), "default/agent", NOW, Local(memory=memory))
    assert plan.memory == Map()


def test_ds_7_a_pod_that_succeeded_is_replaced():
    done = change(a_pod("p", "n1"), phase="Succeeded")
    plan = planned(OURS, node("n1"), done)
    assert deleted(plan) == ["p"]
    (note,) = plan.notes
    assert (note.type, note.reason) == ("Normal", "SucceededDaemonPod")
    assert note.message == "Found succeeded daemon pod default/p on node n1, will try to delete it"


# --- rolling updates ------------------------------------------------------------------------------

THREE = [node(f"n{n}") for n in (1, 2, 3)]


def old(number, ready=True, owner=OURS):
    return a_pod(f"old{number}", f"n{number}", "old", ready, owner)


def new(number, ready=True, owner=OURS):
    return a_pod(f"new{number}", f"n{number}", "new", ready, owner)


@pytest.mark.parametrize(
    ("most", "gone"), [(1, 1), (2, 2), ("10%", 1), ("50%", 2), (9, 3), ("x", 1), (None, 1)]
)
def test_ds_8_old_pods_are_replaced_within_max_unavailable(most, gone):
    owner = daemon_set(max_unavailable=most)
    assert (
        deleted(planned(owner, *THREE, old(1), old(2), old(3))) == ["old1", "old2", "old3"][:gone]
    )
    waits = deleted(planned(owner, *THREE, new(1, ready=False), old(2), old(3)))
    assert waits == ["old2", "old3"][: gone - 1]
    lost = deleted(planned(owner, *THREE, old(1, ready=False), old(2), old(3)))
    assert lost == ["old1", "old2", "old3"][: max(1, gone)]


def test_ds_8_nothing_is_replaced_while_a_node_waits_or_on_delete():
    plan = planned(OURS, *THREE, old(1), old(2))
    assert made(plan) == ["n3"] and deleted(plan) == []
    on_delete = change(OURS, update_strategy=type(OURS.spec.update_strategy)(type="OnDelete"))
    assert deleted(planned(on_delete, *THREE, old(1), old(2), old(3))) == []
    slow = change(OURS, min_ready_seconds=60)
    plan = planned(slow, *THREE, new(1), old(2), old(3))
    assert plan.wake_at == NOW + 30 * SECOND
    both_zero = daemon_set(max_unavailable=0, max_surge=0)
    assert deleted(planned(both_zero, *THREE, old(1), old(2), old(3))) == ["old1"]


def test_ds_8_a_pod_of_the_template_generation_is_new():
    owner = change(OURS, annotations={"deprecated.daemonset.template.generation": "3"})
    adopted = change(old(1), labels={**LABELS, "pod-template-generation": "3"})
    assert deleted(planned(owner, node("n1"), adopted)) == []


def test_ds_9_with_surge_the_new_pod_comes_first():
    def surged(*pods, owner=SURGE):
        plan = planned(owner, *THREE, *pods)
        return made(plan), deleted(plan)

    def o(n, ready=True):
        return old(n, ready, SURGE)

    def w(n, ready=True):
        return new(n, ready, SURGE)

    assert surged(o(1), o(2), o(3)) == (["n1"], [])
    assert surged(o(1), o(2), o(3), w(1, False)) == ([], [])
    assert surged(o(1), o(2), o(3), w(1)) == ([], ["old1"])
    assert surged(o(1, False), o(2), o(3), w(1, False)) == ([], ["old1"])
    assert surged(o(1), o(2, False), o(3), w(1, False)) == (["n2"], [])
    assert surged(w(1), o(2), o(3), change(o(2), name="more", uid="uid-more")) == ([], ["old2"])
    many = daemon_set(max_unavailable=0, max_surge="60%")
    found = planned(many, *THREE, *[old(n, True, many) for n in (1, 2, 3)])
    assert made(found) == ["n1", "n2"]
    # a node that only keeps its pod gets no new one
    plan = planned(SURGE, tainted("n1"), o(1))
    assert (made(plan), deleted(plan)) == ([], [])


# --- history, status, ends ------------------------------------------------------------------------


def test_ds_10_revisions_of_pods_are_kept():
    more = replace(
        OLD,
        metadata=replace(OLD.metadata, name="agent-x", uid="x", labels={**LABELS, HASH: "x"}),
        data={"spec": 1},
    )
    owner = daemon_set(revision_history_limit=1)
    plan = planned(owner, node("n1"), more, a_pod("p", "n1", "x"))
    assert [each.name for each in sent(plan, "delete", CONTROLLER_REVISIONS)] == ["agent-old"]
    assert not sent(planned(owner, node("n1")), "delete", CONTROLLER_REVISIONS)
    unlabelled = replace(NEW, metadata=replace(NEW.metadata, labels=LABELS))
    plan = plan_for(DS, OURS, unlabelled, node("n1"), local=START)
    (creation,) = sent(plan, "create", PODS)
    assert creation.body.metadata.labels[HASH] == "agent-new"


def test_ds_11_the_status_counts_nodes():
    nodes = [*THREE, tainted("n4")]
    pods = [new(1), new(2, ready=False), a_pod("p4", "n4")]
    plan = planned(OURS, *nodes, *pods)
    (write,) = sent(plan, "update", DAEMON_SETS, "status")
    status = write.body.status
    assert (status.desired_number_scheduled, status.current_number_scheduled) == (3, 2)
    assert (status.number_ready, status.number_available, status.number_unavailable) == (1, 1, 2)
    assert (status.number_misscheduled, status.updated_number_scheduled) == (1, 2)
    assert (status.observed_generation, status.collision_count) == (1, None)
    again = planned(
        with_status(OURS, **{n: getattr(status, n) for n in status.__struct_fields__}),
        *nodes,
        *pods,
    )
    assert not again.last
    surging = planned(SURGE, node("n1"), old(1, True, SURGE), new(1, False, SURGE))
    (write,) = sent(surging, "update", DAEMON_SETS, "status")
    assert write.body.status.updated_number_scheduled is None
    slow = change(SURGE, min_ready_seconds=60)
    both = planned(slow, node("n1"), change(old(1, True, slow)), new(1, True, slow))
    assert both.wake_at == NOW + 30 * SECOND


def test_ds_12_a_set_that_is_going_is_left_alone():
    going = change(OURS, deletion_timestamp=ago(1), finalizers=("foregroundDeletion",))
    assert not planned(going, node("n1"), a_pod("p", "n2")).requests


def test_ds_13_what_was_refused_is_recorded():
    def refused(owner, kind, *others):
        body = failure(403, "Forbidden", "exceeded quota", StatusDetails(kind=kind))
        plan = planned(owner, *others, local=Local(memory=Map(), failure=Response(403, body)))
        return [(note.reason, note.message) for note in plan.notes]

    assert refused(OURS, "pods", node("n1")) == [("FailedCreate", "Error creating: exceeded quota")]
    gone = a_pod("p", "n1")
    assert refused(OURS, "pods", tainted("n1", "NoExecute"), gone) == [
        ("FailedDelete", "Error deleting: exceeded quota")
    ]
    assert refused(OURS, "daemonsets", node("n1")) == []
    said = [request.note.message for request in planned(OURS, node("n1")).requests if request.note]
    assert said == ["Created pod: {name}"]
    unselected = change(
        OURS, template=replace(template(), metadata=ObjectMeta(labels={"other": "x"}))
    )
    plan = planned(unselected, node("n1"))
    assert made(plan) == [] and plan.notes[0].reason == "FailedCreate"


def test_a_set_and_its_pods_in_a_cluster():
    cluster = settle(start_all(create(with_nodes(new_cluster(DS), "n1", "n2"), OURS)))
    assert sorted(map(target_node, stored(cluster, PODS))) == ["n1", "n2"]
    assert get(cluster, DAEMON_SETS, "agent").status.current_number_scheduled == 2
