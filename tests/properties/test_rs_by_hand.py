"""The arithmetic of a ReplicaSet beside a plain reading of its rules: RS-4, RS-5, RS-7 to RS-11,
OWN-1 to OWN-4 (spec/workloads)."""

from functools import cmp_to_key

from hypothesis import given, settings
from hypothesis import strategies as st
from workload_helpers import (
    LABELS,
    NOW,
    ago,
    change,
    plan_for,
    pod,
    reference_to,
    replica_set,
    sent,
)

from refk8s.core.api.core_v1 import Container, ContainerStatus, PodCondition, PodTemplateSpec
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.request import Response
from refk8s.core.api.resources import PODS, REPLICA_SETS
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, parse_timestamp, timestamp
from refk8s.core.controllers.deletion_order import DELETION_COST, rank_for_deletion
from refk8s.core.controllers.owners import claim, deletion, selects
from refk8s.core.controllers.replica_set import REPLICA_SET, ReplicaSetReconciler, compute_status
from refk8s.core.controllers.replicas import known_replicas, read_replicas
from refk8s.core.loop.plan import Local, Note
from refk8s.core.loop.recorder import BURST_MAX as NOTES_MAX
from refk8s.core.loop.view import Viewer
from refk8s.core.pods.status import (
    available_at,
    is_active,
    is_finished,
    ready_condition,
    split,
)

RS = ReplicaSetReconciler()
OURS = replica_set("web")

# --- which go first -------------------------------------------------------------------------------

# 2**53 nanoseconds lie between the first two, so they are of different ages by the rule although a
# second apart.
instants = st.sampled_from(
    [
        None,
        ago(9_007_199),
        ago(9_007_200),
        ago(-60),
        ago(0),
        ago(1),
        ago(2),
        ago(3),
        ago(70),
        ago(71),
    ]
)
costs = st.sampled_from(
    [None, "0", "1", "-1", "2147483647", "-2147483648", "2147483648", "-2147483649", "01", "x"]
)
counts = st.sampled_from([0, 0, 1, 2])


@st.composite
def any_pods(draw):
    """Pods that differ in one or two respects only, so that every rung gets its turn."""
    fixed = {
        "node": draw(st.sampled_from([None, "n1"])),
        "phase": draw(st.sampled_from(["Pending", "Running"])),
        "ready": draw(st.sampled_from(["True", None])),
        "since": draw(instants),
        "cost": None,
        "restarts": (0,),
        "sidecar": 0,
        "init": 0,
        "created": draw(instants),
    }
    choices = {
        "node": st.sampled_from([None, "", "n1", "n2", "n3"]),
        "phase": st.sampled_from(["Pending", "Unknown", "Running", "Odd", None]),
        "ready": st.sampled_from(["True", "False", None]),
        "since": instants,
        "cost": costs,
        "restarts": st.lists(counts, max_size=2).map(tuple),
        "sidecar": counts,
        "init": counts,
        "created": instants,
    }
    varied = draw(st.lists(st.sampled_from(sorted(choices)), min_size=1, max_size=3, unique=True))
    found = []
    for number in range(draw(st.integers(2, 5))):
        its = {**fixed, **{name: draw(choices[name]) for name in varied}}
        ready = PodCondition(
            type="Ready", status=its["ready"] or "", last_transition_time=its["since"]
        )
        inits = (
            Container(name="s", restart_policy="Always"),
            Container(name="i"),
        )
        found.append(
            pod(
                f"p{number}",
                OURS,
                node_name=its["node"],
                phase=its["phase"],
                conditions=(ready,) if its["ready"] else None,
                annotations={DELETION_COST: its["cost"]} if its["cost"] is not None else None,
                container_statuses=tuple(
                    ContainerStatus(name=f"c{n}", restart_count=c)
                    for n, c in enumerate(its["restarts"])
                )
                or None,
                init_containers=inits,
                init_container_statuses=(
                    ContainerStatus(name="s", restart_count=its["sidecar"]),
                    ContainerStatus(name="i", restart_count=its["init"]),
                ),
                creation_timestamp=its["created"],
            )
        )
    return draw(st.permutations(found))


def goes_before(relatives):
    """RS-5 in its own words, one rung after another."""

    def on_node(one):
        return sum(
            1 for other in relatives if (other.spec.node_name or "") == (one.spec.node_name or "")
        )

    def is_ready(one):
        return any((c.type, c.status) == ("Ready", "True") for c in one.status.conditions or ())

    def cost(one):
        text = (one.metadata.annotations or {}).get(DELETION_COST, "0")
        return (
            int(text)
            if text.lstrip("-").isdigit()
            and str(int(text)) == text
            and -(2**31) <= int(text) < 2**31
            else 0
        )

    def power(text):
        if text is None:
            return -2
        nanoseconds, reached = (NOW - parse_timestamp(text)) * 1_000, -1
        while 2 ** (reached + 1) <= nanoseconds:
            reached += 1
        return reached

    def rungs(one):
        statuses = one.status.container_statuses or ()
        ready = next((c for c in one.status.conditions or ()), None)
        return [
            0 if not one.spec.node_name else 1,
            {"Pending": 0, None: 0, "Unknown": 1}.get(one.status.phase, 2),
            int(is_ready(one)),
            cost(one),
            -on_node(one),
            power(ready.last_transition_time) if is_ready(one) else None,
            -max([status.restart_count for status in statuses] or [0]),
            -one.status.init_container_statuses[0].restart_count,
            power(one.metadata.creation_timestamp),
            one.metadata.uid,
        ]

    def compare(one, other):
        for mine, its in zip(rungs(one), rungs(other), strict=True):
            if mine != its:
                return -1 if mine < its else 1
        return 0

    return compare


@settings(max_examples=5 * settings.default.max_examples)
@given(
    any_pods(),
    st.lists(st.tuples(st.sampled_from([None, "n1", "n1", "n2"]), st.booleans()), max_size=4),
)
def test_rs_5_the_order_is_that_of_the_rungs(pods, others):
    """`others` are relatives: their node, and whether they are being deleted."""
    relatives = [
        pod(f"r{n}", node_name=node, deletion_timestamp=ago(1) if dying else None)
        for n, (node, dying) in enumerate(others)
    ]
    expected = sorted(
        pods,
        key=cmp_to_key(
            goes_before([one for one in relatives if one.metadata.deletion_timestamp is None])
        ),
    )
    assert [p.metadata.name for p in rank_for_deletion(pods, relatives, NOW)] == [
        p.metadata.name for p in expected
    ]


def test_rs_5_ages_are_powers_of_two_nanoseconds_exactly():
    """Between these two, one second apart, lie 2**53 nanoseconds; between the second and a third
    there is no power."""
    ages = {"a": 9_007_200, "b": 9_007_199, "c": 9_007_201}
    pods = [pod(name, OURS, creation_timestamp=ago(age)) for name, age in ages.items()]
    assert [p.metadata.name for p in rank_for_deletion(pods, [], NOW)] == ["b", "a", "c"]


def test_rs_5_a_node_without_relatives_has_none_and_a_pod_without_sidecars_no_restarts():
    ready = (PodCondition(type="Ready", status="True", last_transition_time=ago(9)),)
    alone, near = (
        pod(name, OURS, node_name=node, conditions=ready)
        for name, node in (("a", "n1"), ("b", "n2"))
    )
    assert rank_for_deletion([alone, near], [pod("r", node_name="n2")], NOW) == [near, alone]
    sidecar = (Container(name="s", restart_policy="Always"),)
    plain, beside = (
        pod("b", OURS),
        pod(
            "a", OURS, init_containers=sidecar, init_container_statuses=(ContainerStatus(name="s"),)
        ),
    )
    assert rank_for_deletion([plain, beside], [], NOW) == [beside, plain], "equals: the uid decides"


# --- the status -----------------------------------------------------------------------------------

label_maps = [None, {}, LABELS, {**LABELS, "more": "m"}]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(label_maps),
            st.none() | st.integers(-3, 40),
            st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
        ),
        max_size=6,
    ),
    st.sampled_from([0, 10, 20]),
    st.sampled_from(label_maps),
)
def test_rs_7_rs_8_rs_9_the_status_of_any_pods(drawn, min_ready, wanted_labels):
    """Each pod is (labels, for how many seconds it has been ready, phase); they need not match any
    selector here."""
    owner = replica_set(
        "web",
        min_ready_seconds=min_ready or None,
        template=PodTemplateSpec(metadata=ObjectMeta(labels=wanted_labels)),
    )
    pods = []
    for number, (labels, seconds, phase) in enumerate(drawn):
        ready = (
            None
            if seconds is None
            else (PodCondition(type="Ready", status="True", last_transition_time=ago(seconds)),)
        )
        pods.append(pod(f"p{number}", owner, labels=labels, conditions=ready, phase=phase))
    active, _ = split(pods)
    assert active == [p for p in pods if p.status.phase in ("Pending", "Running")]
    assert [is_active(p) != is_finished(p) for p in pods] == [True] * len(pods)
    replicas = read_replicas(owner, active, [], NOW)
    status, wake_at = (
        compute_status(REPLICA_SET, owner, replicas, 0, None, NOW),
        replicas.available_at,
    )
    mine = [one for one in drawn if one[2] in ("Pending", "Running")]
    labeled = [
        labels for labels, _, _ in mine if (wanted_labels or {}).items() <= (labels or {}).items()
    ]
    assert status.fully_labeled_replicas == (len(labeled) or None)
    available = [
        seconds
        for _, seconds, _ in mine
        if seconds is not None and (not min_ready or seconds >= min_ready)
    ]
    assert (status.available_replicas or 0) == len(available)
    waiting = [
        seconds
        for _, seconds, _ in mine
        if seconds is not None and min_ready and seconds < min_ready
    ]
    assert wake_at == (NOW + (min_ready - max(waiting)) * SECOND if waiting else None)


@given(st.none() | st.integers(0, 100), st.integers(0, 50))
def test_rs_8_available_is_ready_for_so_long(seconds, min_ready):
    condition = ready_condition(
        pod(
            "p",
            conditions=(
                PodCondition(
                    type="Ready",
                    status="True",
                    last_transition_time=None if seconds is None else ago(seconds),
                ),
            ),
        )
    )
    expected = (
        0 if not min_ready else None if seconds is None else NOW + (min_ready - seconds) * SECOND
    )
    assert available_at(condition, min_ready) == expected


# --- requests and notes ---------------------------------------------------------------------------


@given(st.none() | st.integers(1, 60))
def test_rs_4_rs_6_all_creations_are_alike_but_for_what_is_told(replicas):
    """No number asks for one. What is told of them is no more than anybody would hear (EVENT-2)."""
    requests = sent(plan_for(RS, change(OURS, replicas=replicas)), "create", PODS)
    assert len(requests) == (1 if replicas is None else replicas)
    assert {
        (r.verb, r.resource.plural, r.namespace, r.subresource, r.because) for r in requests
    } == {("create", "pods", "default", "", f"{len(requests)} of {len(requests)} pods are missing")}
    assert all(r.body is requests[0].body for r in requests)
    notes = [r.note for r in requests if r.note is not None]
    assert len(notes) == min(len(requests), NOTES_MAX)
    assert all(
        note == Note(change(OURS, replicas=replicas), "SuccessfulCreate", "Created pod: {name}")
        for note in notes
    )


@given(st.sampled_from([0, 2]))
def test_rs_11_a_refusal_is_told_as_what_it_was(replicas):
    owner = change(OURS, replicas=replicas)
    response = Response(403, failure(403, "Forbidden", "no"))
    plan = plan_for(RS, owner, pod("p", OURS), local=Local(failures=1, failure=response))
    reason, words = (
        ("FailedDelete", "Error deleting: no")
        if replicas == 0
        else ("FailedCreate", "Error creating: no")
    )
    assert plan.notes == (Note(owner, reason, words, "Warning"),)
    [report] = sent(plan, "update", REPLICA_SETS, "status")
    [condition] = report.body.status.conditions
    assert (condition.reason, condition.message, condition.last_transition_time) == (
        reason,
        "no",
        timestamp(NOW),
    )


@given(st.sampled_from([None, "a body that says nothing"]), st.sampled_from([0, 1, 2]))
def test_rs_11_an_answer_without_words_is_told_by_its_code_and_only_while_pods_are_missing(
    body, replicas
):
    plan = plan_for(
        RS,
        change(OURS, replicas=replicas),
        pod("p", OURS),
        local=Local(failures=1, failure=Response(500, body)),
    )
    words = {
        0: "Error deleting: the API server answered 500",
        2: "Error creating: the API server answered 500",
    }
    assert [note.message for note in plan.notes] == ([words[replicas]] if replicas in words else [])
    [report] = sent(plan, "update", REPLICA_SETS, "status")
    assert bool(report.body.status.conditions) == (replicas in words)


changes_of_pods = st.lists(
    st.tuples(
        st.integers(0, 3),  # which pod
        st.none()  # it is deleted
        | st.fixed_dictionaries(
            {
                "labels": st.sampled_from(label_maps),
                "conditions": st.sampled_from(
                    [
                        None,
                        (PodCondition(type="Ready", status="True", last_transition_time=ago(9)),),
                    ]
                ),
                "phase": st.sampled_from(["Running", "Running", "Pending", "Failed"]),
                "deletion_timestamp": st.sampled_from([None, None, ago(3)]),
                "owner_references": st.sampled_from(
                    [
                        *3 * [(reference_to(OURS),)],
                        None,
                        (reference_to(OURS, controller=False),),
                        (reference_to(replica_set("other")),),
                        (reference_to(change(OURS, uid="earlier")),),
                    ]
                ),
            }
        ),
    ),
    max_size=12,
)


@given(changes_of_pods, st.sampled_from(label_maps), st.sampled_from([None, ago(3)]))
@settings(max_examples=300)
def test_rs_7_rs_8_rs_9_rs_10_the_numbers_of_groups_are_those_of_the_pods(
    changes, wanted_labels, deleted_at
):
    owner = change(
        OURS,
        deletion_timestamp=deleted_at,
        template=PodTemplateSpec(metadata=ObjectMeta(labels=wanted_labels)),
    )
    viewer = Viewer([PODS], [], RS.folds)
    view = viewer.empty()
    for number, parts in changes:
        one = None if parts is None else pod(f"p{number}", **parts)
        view, _ = viewer.apply(view, PODS, [(f"default/p{number}", one)], 1)
    selected = selects(owner.spec.selector)
    running, terminating = split(view.list(PODS))
    claimed = claim(owner, running, (), selected)
    ending = claim(owner, terminating, (), selected).owned
    read = read_replicas(owner, claimed.owned, ending, NOW)
    known = known_replicas(view, owner, selected)
    assert known == (None if claimed.release else read)
    assert known_replicas(view, change(owner, min_ready_seconds=1), selected) is None
    emptied, _ = viewer.apply(view, PODS, [(key, None) for key in view.keys(PODS)], 2)
    assert not emptied.fold("replicas"), "nothing remains of owners without pods"


def test_rs_9_without_a_template_there_is_nothing_to_label_and_nothing_to_create():
    owner = change(OURS, template=None)
    replicas = read_replicas(owner, [pod("p", owner)], [], NOW)
    status = compute_status(REPLICA_SET, owner, replicas, 0, None, NOW)
    assert status.fully_labeled_replicas == 1
    assert not sent(plan_for(RS, owner), "create")


def test_rs_4_a_deletion_names_its_object_and_says_why():
    owner = change(OURS, replicas=0)
    note = Note(owner, "SuccessfulDelete", "Deleted pod: {name}")
    [request] = sent(plan_for(RS, owner, pod("p", OURS)), "delete", PODS)
    assert (request.namespace, request.name, request.note, request.because) == (
        "default",
        "p",
        note,
        "1 too many pods",
    )
    assert deletion(PODS, change(pod("p"), namespace=None), "why").namespace == ""


# --- claims ---------------------------------------------------------------------------------------

owner_references = st.sampled_from(
    [
        None,
        (reference_to(OURS),),
        (reference_to(OURS, controller=False),),
        (reference_to(replica_set("other")),),
        (reference_to(change(OURS, uid="another")),),
        (
            OwnerReference(
                api_version="apps/v1",
                kind="ReplicaSet",
                name="renamed",
                uid=OURS.metadata.uid,
                controller=True,
            ),
        ),
    ]
)
shared = [{"app": "web"}, {"app": "away"}]


@settings(max_examples=3 * settings.default.max_examples)
@given(
    st.lists(
        st.tuples(
            owner_references,
            st.sampled_from([*shared, {"app": "web", "x": "y"}, None]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_own_1_own_2_own_3_own_4_a_claim_is_the_table_for_any_dependents(drawn, dying):
    """Whatever is handed in, as controlled or as free: (references, labels, is it being deleted,
    has it another namespace)."""
    owner = change(OURS, deletion_timestamp=ago(1)) if dying else OURS
    pods = [
        change(
            pod(f"p{n}"),
            owner_references=r,
            labels=labels,
            deletion_timestamp=ago(1) if gone else None,
            namespace="far" if far else "default",
        )
        for n, (r, labels, gone, far) in enumerate(drawn)
    ]
    claimed = claim(owner, pods, pods, lambda labels: labels.get("app") == "web")

    def controls(reference, p):
        its = (reference.uid, bool(reference.controller), reference.name, p.metadata.namespace)
        return its == (OURS.metadata.uid, True, "web", "default")

    mine = [p for p in pods if any(controls(r, p) for r in p.metadata.owner_references or ())]
    matching = [p for p in pods if (p.metadata.labels or {}).get("app") == "web"]
    free = [p for p in pods if not any(r.controller for r in p.metadata.owner_references or ())]
    assert claimed.owned == [p for p in mine if p in matching]
    assert claimed.release == ([] if dying else [p for p in mine if p not in matching])
    assert claimed.adopt == (
        []
        if dying
        else [p for p in free if p in matching and p.metadata.deletion_timestamp is None]
    )
    assert claimed.is_settled == (not claimed.adopt and not claimed.release)
