"""What a DaemonSet counts, writes and replaces, beside a plain reading of its rules: DS-2, DS-4 to
DS-9, DS-11, DS-13 (spec/workloads/daemon_set.md)."""

from hypothesis import example, given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from test_ds import (
    DS,
    HASH,
    NEW,
    OLD,
    OURS,
    START,
    SURGE,
    a_pod,
    deleted,
    made,
    planned,
    tainted,
    waiting,
    with_spec,
)
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    daemon_set,
    node,
    plan_for,
    pod,
    sent,
    template,
    view_of,
    with_status,
    without_reasons,
)

from refk8s.core.api.apps_v1 import DaemonSetStatus
from refk8s.core.api.core_v1 import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodCondition,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions, StatusDetails
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONTROLLER_REVISIONS, DAEMON_SETS, PODS
from refk8s.core.api.status import failure
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.controllers.controller_revisions import data_hash, template_data
from refk8s.core.controllers.daemon_set import sets_of_node
from refk8s.core.controllers.daemon_set_nodes import new_pod, target_node
from refk8s.core.controllers.daemon_set_steps import BACKOFF_MAX
from refk8s.core.loop.plan import NOTHING, Local, Note

GENERATION = "deprecated.daemonset.template.generation"


def ready_since(one, seconds):
    """The pod, ready for so many seconds; None: since nobody knows when."""
    since = None if seconds is None else ago(seconds)
    ready = PodCondition(type="Ready", status="True", last_transition_time=since)
    return change(one, conditions=(ready,), phase="Running")


# --- the status -----------------------------------------------------------------------------------

ages = st.sampled_from([None, "unready", 0, 5, 30, 59, 60, 61])
kept = st.lists(st.tuples(st.sampled_from(["new", "old"]), ages), max_size=2)


@given(
    st.lists(st.tuples(kept, st.integers(0, 3)), min_size=1, max_size=4),
    st.sampled_from([None, 1, 60]),
)
def test_ds_11_the_status_is_what_the_nodes_and_their_oldest_pods_say(drawn, seconds):
    owner = daemon_set(max_unavailable=0, max_surge=1, min_ready_seconds=seconds)
    nodes, pods, instants = [], [], []
    desired = current = misscheduled = ready = available = updated = 0
    for number, (there, taint) in enumerate(drawn):
        name, gets = f"n{number}", taint > 0
        nodes.append(node(name) if gets else tainted(name))
        for place, (version, age) in enumerate(there):
            one = a_pod(f"p{number}-{place}", name, version, ready=False, owner=owner)
            one = change(one, creation_timestamp=ago(90 - place))
            pods.append(one if age == "unready" else ready_since(one, age))
        misscheduled += bool(there) and not gets
        desired += gets
        current += bool(there) and gets
        updated += bool(there) and gets and there[0][0] == "new"
        for place, (_, age) in enumerate(there if gets else ()):
            left = (seconds or 0) - age if isinstance(age, int) else None
            if not seconds and age is None:
                left = 0
            ready += place == 0 and age != "unready"
            available += place == 0 and left is not None and left <= 0
            instants += [NOW + left * SECOND] if left is not None and left > 0 else []
    plan = planned(owner, *nodes, *pods)
    written = sent(plan, "update", DAEMON_SETS, "status")
    status = DaemonSetStatus(
        current_number_scheduled=current,
        number_misscheduled=misscheduled,
        desired_number_scheduled=desired,
        number_ready=ready,
        observed_generation=1,
        updated_number_scheduled=updated or None,
        number_available=available or None,
        number_unavailable=desired - available or None,
    )
    (request,) = without_reasons(written)
    body = replace(owner, status=status)
    assert request == Request("update", DAEMON_SETS, "default", "agent", "status", body=body)
    assert plan.wake_at == min(instants, default=None)


def test_ds_11_the_next_instant_is_that_of_the_first_pod_or_of_the_first_back_off():
    owner = daemon_set(min_ready_seconds=60)
    pods = [ready_since(a_pod("a", "n1", owner=owner), 50), a_pod("b", "n2", phase="Failed")]
    for held, at in ((20, 10), (5, 5)):
        memory = Map({"default/agent": Map({"n2": (NOW, held * SECOND)})})
        plan = planned(owner, node("n1"), node("n2"), *pods, local=Local(memory=memory))
        assert plan.wake_at == NOW + at * SECOND and plan.memory == memory
    failed = [a_pod("a", "n1", phase="Failed"), a_pod("b", "n2", phase="Failed")]
    for first, second in ((20, 7), (7, 20)):
        both = Map({"n1": (NOW, first * SECOND), "n2": (NOW, second * SECOND)})
        local = Local(memory=Map({"default/agent": both}))
        plan = planned(OURS, node("n1"), node("n2"), *failed, local=local)
        assert plan.wake_at == NOW + 7 * SECOND


# --- requests in full -----------------------------------------------------------------------------


def removal(name, owner=OURS):
    options = DeleteOptions(preconditions=Preconditions(uid=f"uid-{name}"))
    note = Note(owner, "SuccessfulDelete", "Deleted pod: {name}")
    return Request("delete", PODS, "default", name, body=options, note=note)


def test_ds_5_a_plan_in_full():
    """A node without a pod, one with two, and a pod that waits for a node that does not exist."""
    pods = [
        change(a_pod("late", "n1"), creation_timestamp=ago(5)),
        change(a_pod("early", "n1"), creation_timestamp=ago(9)),
        waiting("lost", "n9"),
    ]
    plan = planned(OURS, node("n1"), node("n2"), *pods)
    created = Request(
        "create",
        PODS,
        "default",
        body=new_pod(OURS, new_pod_tolerations(), "new", "n2"),
        note=Note(OURS, "SuccessfulCreate", "Created pod: {name}"),
    )
    (status,) = sent(plan, "update", DAEMON_SETS, "status")
    assert without_reasons(plan.requests) == [
        removal("late"),
        removal("lost"),
        created,
        replace(status, because=""),
    ]


def new_pod_tolerations():
    (creation,) = sent(planned(OURS, node("n1")), "create", PODS)
    return creation.body.spec.tolerations


def test_ds_5_dependents_are_adopted_and_a_new_template_gets_a_revision():
    """REV-2, REV-4, OWN-1: pods first, then revisions; nothing else is done before that."""
    orphan = pod("p")
    plan = planned(OURS, node("n1"), orphan)
    assert [(each.verb, each.resource, each.name) for each in plan.requests] == [
        ("update", DAEMON_SETS, "agent"),
        ("patch", PODS, "p"),
    ]
    assert not sent(planned(OURS, node("n1"), change(orphan, namespace="other")), "patch")
    lost = replace(NEW, metadata=replace(NEW.metadata, owner_references=None))
    plan = plan_for(DS, OURS, OLD, lost, node("n1"), local=START)
    assert [(each.verb, each.resource, each.name) for each in plan.requests] == [
        ("update", DAEMON_SETS, "agent"),
        ("patch", CONTROLLER_REVISIONS, "agent-new"),
    ]
    plan = plan_for(DS, OURS, node("n1"), local=START)
    (creation,) = sent(plan, "create", CONTROLLER_REVISIONS)
    assert plan.requests[0] is creation
    assert creation.body.metadata.labels[HASH] == data_hash(template_data(template()), 0)
    taken = replace(OLD, metadata=replace(OLD.metadata, name=creation.body.metadata.name))
    plan = plan_for(DS, OURS, taken, node("n1"), local=START)
    (write,) = sent(plan, "update", DAEMON_SETS, "status")
    assert write.body.status.collision_count == 1


def test_ds_13_events_in_full():
    def refused(owner, *others, message="exceeded quota", kind="pods"):
        body = failure(403, "Forbidden", message, StatusDetails(kind=kind))
        local = Local(memory=Map(), failure=Response(403, body))
        return list(planned(owner, *others, local=local).notes)

    gone, bad = a_pod("p", "n1"), tainted("n1", "NoExecute")
    quota = "Error creating: exceeded quota"
    assert refused(OURS, node("n1")) == [Note(OURS, "FailedCreate", quota, "Warning")]
    assert refused(OURS, bad, gone) == [
        Note(OURS, "FailedDelete", "Error deleting: exceeded quota", "Warning")
    ]
    silent = "Error creating: the API server answered 403"
    assert refused(OURS, node("n1"), message="") == [Note(OURS, "FailedCreate", silent, "Warning")]
    for response in (Response(500, None), Response(500, failure(500, "InternalError", "x"))):
        local = Local(memory=Map(), failure=response)
        assert planned(OURS, node("n1"), local=local).notes == ()
    failed = a_pod("p", "n1", phase="Failed", ready=False)
    words = "Found failed daemon pod default/p on node n1, will try to kill it"
    (note,) = planned(OURS, node("n1"), failed).notes
    assert note == Note(OURS, "FailedDaemonPod", words, "Warning")


def test_ds_13_a_selector_that_does_not_select_the_template_keeps_the_back_offs():
    metadata = ObjectMeta(labels={"other": "x"})
    owner = change(OURS, template=replace(template(), metadata=metadata))
    memory = Map({"default/agent": Map({"n1": (NOW, SECOND)})})
    plan = planned(owner, node("n1"), local=Local(memory=memory))
    (note,) = plan.notes
    assert (note.regarding, note.reason, note.type) == (owner, "FailedCreate", "Warning")
    assert plan.memory == memory


# --- which nodes ----------------------------------------------------------------------------------


def by_field(operator, *values):
    term = NodeSelectorTerm(
        match_fields=(
            NodeSelectorRequirement(key="metadata.name", operator=operator, values=values),
        )
    )
    return Affinity(
        node_affinity=NodeAffinity(
            required_during_scheduling_ignored_during_execution=NodeSelector(
                node_selector_terms=(term,)
            )
        )
    )


def test_ds_2_a_node_is_selected_by_its_name_and_needs_no_spec():
    owner = with_spec(affinity=by_field("In", "n1"))
    assert made(planned(owner, node("n1"), node("n2"))) == ["n1"]
    assert made(planned(OURS, replace(node("n1"), spec=None))) == ["n1"]


def test_ds_4_only_one_name_pins_a_pod():
    for affinity in (by_field("NotIn", "n1"), by_field("In", "n1", "n2")):
        assert target_node(replace(pod("p"), spec=replace(pod("p").spec, affinity=affinity))) == ""
    labels = NodeSelectorRequirement(key="other", operator="In", values=("n1",))
    affinity = by_field("In", "n1")
    (term,) = (
        affinity.node_affinity.required_during_scheduling_ignored_during_execution.node_selector_terms
    )
    other = replace(
        affinity,
        node_affinity=NodeAffinity(
            required_during_scheduling_ignored_during_execution=NodeSelector(
                node_selector_terms=(replace(term, match_fields=(labels,)),)
            )
        ),
    )
    assert target_node(replace(pod("p"), spec=replace(pod("p").spec, affinity=other))) == ""


def test_ds_2_every_set_that_a_change_of_a_node_concerns_is_due():
    picky = daemon_set("b", template=with_spec(node_selector={"disk": "ssd"}).spec.template)
    fixed = daemon_set("a", template=with_spec(node_name="n9").spec.template)
    view = view_of(DS, fixed, picky)
    labelled = change(node("n1"), labels={"disk": "ssd"})
    assert list(sets_of_node(view, node("n1"), labelled)) == ["default/b"]
    assert list(sets_of_node(view, labelled, labelled)) == []


def test_a_set_that_is_gone_and_was_unknown_needs_nothing():
    assert DS.reconcile(view_of(DS), "default/agent", NOW, START) == NOTHING


# --- one pod --------------------------------------------------------------------------------------


def test_ds_5_the_oldest_stays_whatever_else_is_on_the_node():
    over = change(a_pod("a", "n1", phase="Failed"), deletion_timestamp=ago(1))
    going = change(a_pod("b", "n1", creation_timestamp=ago(80)), deletion_timestamp=ago(1))
    pods = [a_pod(name, "n1", creation_timestamp=ago(9)) for name in "edc"]
    assert deleted(planned(OURS, node("n1"), over, going, *pods)) == ["d", "e"]
    # of the same second those of an earlier template stay, by either mark of the template
    owner = change(OURS, annotations={GENERATION: "3"})
    marked = change(pods[2], labels={**LABELS, "pod-template-generation": "3"})
    earlier = a_pod("z", "n1", "old", creation_timestamp=ago(9))
    assert deleted(planned(owner, node("n1"), marked, earlier)) == ["c"]
    assert deleted(planned(owner, node("n1"), change(earlier, labels=LABELS))) == ["z"]


def test_ds_7_a_pod_that_is_kept_for_a_while_holds_nothing_else_back():
    failed = change(a_pod("a", "n1", phase="Failed"), creation_timestamp=ago(80))
    done = change(a_pod("b", "n1", phase="Succeeded"), creation_timestamp=ago(70))
    local = Local(memory=Map({"default/agent": Map({"n1": (NOW, SECOND)})}))
    assert deleted(planned(OURS, node("n1"), failed, done, local=local)) == ["b"]


def test_ds_7_the_back_off_is_remembered_for_thirty_minutes():
    failed = a_pod("a", "n1", phase="Failed")
    for past, next_one in ((2 * BACKOFF_MAX, 8 * MINUTE), (2 * BACKOFF_MAX + 1, SECOND)):
        memory = Map({"default/agent": Map({"n1": (NOW - past, 4 * MINUTE)})})
        plan = planned(OURS, node("n1"), failed, local=Local(memory=memory))
        assert plan.memory == Map({"default/agent": Map({"n1": (NOW, next_one)})})


def test_ds_10_the_revision_of_a_pod_is_kept_also_if_it_is_the_lowest():
    more = replace(
        OLD,
        metadata=replace(OLD.metadata, name="agent-x", uid="x", labels={**LABELS, HASH: "x"}),
        data={"spec": 1},
        revision=0,
    )
    owner = daemon_set(revision_history_limit=1)
    plan = planned(owner, node("n1"), more, a_pod("p", "n1", "x"))
    assert [each.name for each in sent(plan, "delete", CONTROLLER_REVISIONS)] == ["agent-old"]


# --- rolling updates ------------------------------------------------------------------------------

states = st.sampled_from(["new", "new waits", "old", "old", "old waits", "going"])


def on_node(number, state, owner):
    version, _, waits = state.partition(" ")
    if version == "going":
        return [change(a_pod(f"p{number}", f"n{number}"), deletion_timestamp=ago(1))]
    if version == "both":
        return [*on_node(number, "old", owner), *on_node(number, "new waits", owner)]
    return [a_pod(f"{version}{number}", f"n{number}", version, ready=not waits, owner=owner)]


@given(
    st.lists(states, min_size=1, max_size=6),
    st.sampled_from([1, 2, 3, "50%"]),
    st.sampled_from([None, 30]),
)
def test_ds_8_as_many_old_pods_are_replaced_as_max_unavailable_leaves(drawn, most, seconds):
    owner = daemon_set(max_unavailable=most, min_ready_seconds=seconds)
    nodes = [node(f"n{number}") for number in range(len(drawn))]
    pods = [one for number, state in enumerate(drawn) for one in on_node(number, state, owner)]
    found = deleted(planned(owner, *nodes, *pods))

    room = -(-len(drawn) // 2) if most == "50%" else most
    without = sum(state not in ("new", "old") for state in drawn)
    lost = [f"old{number}" for number, state in enumerate(drawn) if state == "old waits"]
    replaceable = [f"old{number}" for number, state in enumerate(drawn) if state == "old"]
    assert found == lost + replaceable[: max(0, room - without)]


def test_ds_8_a_pod_is_available_after_min_ready_seconds_and_at_once_without():
    ready = [ready_since(a_pod("p", "n1", "new"), 0), a_pod("q", "n2", "old")]
    for seconds, known, gone in ((None, 0, ["q"]), (1, 0, []), (1, 1, ["q"]), (1, None, [])):
        owner = daemon_set(min_ready_seconds=seconds)
        pods = [ready_since(ready[0], known), ready[1]]
        assert deleted(planned(owner, node("n1"), node("n2"), *pods)) == gone


def test_ds_8_one_pod_without_bounds():
    strategy = replace(OURS.spec.update_strategy, rolling_update=None)
    pods = [a_pod(f"old{n}", f"n{n}", "old") for n in (1, 2, 3)]
    owner = change(OURS, update_strategy=strategy)
    plan = planned(owner, *[node(f"n{n}") for n in (1, 2, 3)], *pods)
    assert (deleted(plan), made(plan)) == (["old1"], [])


@given(
    st.lists(st.sampled_from(["new", "new waits", "old", "old", "old waits", "both"]), max_size=6),
    st.sampled_from([1, 2, "50%"]),
    st.booleans(),
)
@example(["both", "old", "old"], 2, True)
@example(["new", "new", "new", "new", "old"], 2, True)
@example(["both", "both", "old"], 2, False)
def test_ds_9_as_many_new_pods_are_made_as_max_surge_leaves(drawn, most, odd):
    """`odd`: a node has a failed pod that is kept for a while beside an old one, and counts."""
    owner = daemon_set(max_unavailable=0, max_surge=most)
    nodes = [node(f"n{number}") for number in range(len(drawn))]
    pods = [one for number, state in enumerate(drawn) for one in on_node(number, state, owner)]
    local = START
    if odd:
        nodes.append(node("n3x"))
        failed = change(a_pod("failed", "n3x", "old", owner=owner), phase="Failed")
        pods += [failed, a_pod("stays", "n3x", "old", owner=owner)]
        local = Local(memory=Map({"default/agent": Map({"n3x": (NOW, MINUTE)})}))
    plan = planned(owner, *nodes, *pods, local=local)

    room = -(-len(nodes) // 2) if most == "50%" else most
    surging = drawn.count("both") + odd
    lost = [f"n{number}" for number, state in enumerate(drawn) if state == "old waits"]
    more = [f"n{number}" for number, state in enumerate(drawn) if state == "old"]
    assert made(plan) == lost + more[: max(0, room - surging)]
    assert deleted(plan) == []


def test_ds_9_of_two_new_pods_beside_an_old_one_the_later_goes():
    first = change(a_pod("a", "n1", "new", ready=False, owner=SURGE), creation_timestamp=ago(9))
    later = change(a_pod("b", "n1", "new", ready=False, owner=SURGE), creation_timestamp=ago(5))
    plan = planned(SURGE, node("n1"), first, later, a_pod("o", "n1", "old", owner=SURGE))
    assert deleted(plan) == ["b"]


def test_ds_11_a_collision_count_is_kept():
    owner = with_status(OURS, collision_count=3)
    (write,) = sent(planned(owner, node("n1")), "update", DAEMON_SETS, "status")
    assert write.body.status.collision_count == 3


def test_own_7_an_orphan_that_the_set_selects_makes_it_due():
    view = view_of(DS, OURS)
    keys = {interest.resource: interest.keys for interest in DS.interests}
    orphan = replace(NEW, metadata=replace(NEW.metadata, owner_references=None))
    assert list(keys[PODS](view, None, pod("p"))) == ["default/agent"]
    assert list(keys[PODS](view, None, pod("p", labels={"x": "y"}))) == []
    assert list(keys[CONTROLLER_REVISIONS](view, None, orphan)) == ["default/agent"]
    assert list(keys[PODS](view, None, a_pod("p", "n1"))) == ["default/agent"]


def test_ds_11_the_new_pod_of_a_surge_may_be_the_next_to_become_available():
    owner = daemon_set(max_unavailable=0, max_surge=1, min_ready_seconds=60)
    first = change(a_pod("a", "n1", "old", owner=owner), creation_timestamp=ago(90))
    second = change(a_pod("b", "n1", "new", owner=owner), creation_timestamp=ago(80))
    for ages, left in (
        ((50, 40), 10),
        ((40, 50), 10),
        ((60, 60), None),
        ((61, 40), 20),
        ((40, None), 20),
    ):
        pods = [ready_since(one, age) for one, age in zip((first, second), ages, strict=True)]
        at = None if left is None else NOW + left * SECOND
        assert planned(owner, node("n1"), *pods).wake_at == at


def test_ds_8_a_node_with_two_pods_of_the_template_counts_as_unavailable():
    """One of them has failed and is kept for a while."""
    runs = change(a_pod("a", "n1"), creation_timestamp=ago(90))
    failed = change(a_pod("b", "n1", phase="Failed"), creation_timestamp=ago(80))
    local = Local(memory=Map({"default/agent": Map({"n1": (NOW, MINUTE)})}))
    pods = [runs, failed, a_pod("old2", "n2", "old")]
    for most, gone in ((1, []), (2, ["old2"])):
        owner = daemon_set(max_unavailable=most)
        assert deleted(planned(owner, node("n1"), node("n2"), *pods, local=local)) == gone


def test_ds_9_a_failed_pod_goes_when_the_new_one_is_available():
    """Although it would be kept for a while by DS-7."""
    failed = change(a_pod("a", "n1", "old", owner=SURGE), phase="Failed")
    local = Local(memory=Map({"default/agent": Map({"n1": (NOW, MINUTE)})}))
    new = a_pod("b", "n1", "new", owner=SURGE)
    assert deleted(planned(SURGE, node("n1"), failed, new, local=local)) == ["a"]
