"""What a Deployment says and counts, beside a plain reading of its rules: DEP-2, DEP-4, DEP-6,
DEP-9 to DEP-15, DEP-20.

(spec/workloads/deployment.md)
"""

import re
from fractions import Fraction
from math import ceil, floor

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import (
    NOW,
    ago,
    change,
    deployment,
    plan_for,
    pod,
    replica_set,
    sent,
    template,
    view_of,
)

from refk8s.core.api.apps_v1 import (
    DeploymentCondition,
    DeploymentSpec,
    DeploymentStatus,
    DeploymentStrategy,
    ReplicaSetCondition,
)
from refk8s.core.api.meta_v1 import LabelSelector, StatusCause, StatusDetails
from refk8s.core.api.request import Response
from refk8s.core.api.resources import DEPLOYMENTS, REPLICA_SETS
from refk8s.core.api.status import failure
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers import deployment_status as statuses
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers import rollout
from refk8s.core.controllers.deployment import DeploymentReconciler, creation_failure, decide
from refk8s.core.controllers.deployment_observed import member, observe
from refk8s.core.controllers.rollout import Bounds, Member
from refk8s.core.loop.plan import Local, Note

DEP = DeploymentReconciler()
few = st.integers(0, 3)
maybe = st.none() | few


def progressing(status, reason, seconds=50, message="m"):
    return DeploymentCondition(
        type="Progressing",
        status=status,
        reason=reason,
        message=message,
        last_update_time=ago(seconds),
        last_transition_time=ago(seconds + 20),
    )


def said(before, type, status, reason, message):
    """What a condition is after somebody has said this now: the same again leaves it, the same
    status keeps its transition."""
    if before is not None and (before.status, before.reason) == (status, reason):
        return before
    since = (
        before.last_transition_time
        if before is not None and before.status == status
        else timestamp(NOW)
    )
    return DeploymentCondition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_update_time=timestamp(NOW),
        last_transition_time=since,
    )


def of_type(conditions, type):
    found = [condition for condition in conditions or () if condition.type == type]
    assert len(found) <= 1
    return found[0] if found else None


# --- conditions -----------------------------------------------------------------------------------

currents = st.none() | st.builds(
    progressing,
    st.sampled_from(["True", "False", "Unknown"]),
    st.sampled_from(
        [
            "NewReplicaSetCreated",
            "ReplicaSetUpdated",
            "NewReplicaSetAvailable",
            "ProgressDeadlineExceeded",
            "DeploymentPaused",
            "DeploymentResumed",
        ]
    ),
    st.sampled_from([9, 10, 11, 50]),
)
others = (DeploymentCondition(type="Other", status="True"),)


@given(
    st.lists(st.tuples(few, maybe, maybe, maybe), max_size=3),
    st.integers(0, 4),
    st.none() | st.sampled_from(["True", "False"]),
)
def test_dep_12_dep_13_counts_are_sums_and_available_says_whether_they_are_enough(
    drawn, fewest, before
):
    """Each ReplicaSet is (asked for, its replicas, ready, available)."""
    sets = [replica_set(f"rs{n}", asked) for n, (asked, *_) in enumerate(drawn)]
    sets = [
        replace(
            rs,
            status=replace(
                rs.status, replicas=there or 0, ready_replicas=ready, available_replicas=available
            ),
        )
        for rs, (_, there, ready, available) in zip(sets, drawn, strict=True)
    ]
    standing = () if before is None else (replace(progressing(before, "x"), type="Available"),)
    new = sets[-1] if sets else None
    status = statuses.compute_counts(
        deployment(), Bounds(fewest, 0, 0), new, sets, (*others, *standing), NOW
    )
    ready, available = (sum(one[column] or 0 for one in drawn) for column in (2, 3))
    assert (status.replicas or 0, status.ready_replicas or 0) == (
        sum(one[1] or 0 for one in drawn),
        ready,
    )
    assert (status.available_replicas or 0, status.updated_replicas or 0) == (
        available,
        (drawn[-1][1] or 0) if drawn else 0,
    )
    assert (status.unavailable_replicas or 0) == max(sum(one[0] for one in drawn) - available, 0)
    words = (
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        if available >= fewest
        else (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    )
    assert of_type(status.conditions, "Available") == said(
        standing[0] if standing else None, "Available", *words
    )
    assert others[0] in status.conditions


@settings(max_examples=4 * settings.default.max_examples)
@given(currents, st.booleans(), st.sampled_from([600, None, 2**31 - 1]))
def test_dep_11_what_pausing_and_resuming_say(current, paused, deadline):
    standing = (*others, *(() if current is None else (current,)))
    owner = change(
        deployment(), conditions=standing, paused=paused, progress_deadline_seconds=deadline
    )
    found = of_type(statuses.compute_pause(owner, NOW), "Progressing")
    reason = current.reason if current is not None else ""
    watched = deadline == 600 and reason != "ProgressDeadlineExceeded"
    if watched and paused and reason != "DeploymentPaused":
        assert found == said(
            current, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"
        )
    elif watched and not paused and reason == "DeploymentPaused":
        assert found == said(
            current, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed"
        )
    else:
        assert found == current


@settings(max_examples=4 * settings.default.max_examples)
@given(currents, st.booleans(), st.booleans(), st.sampled_from([600, None]))
def test_dep_14_how_a_rollout_begins(current, created, there, deadline):
    standing = () if current is None else (current,)
    owner = change(deployment(), progress_deadline_seconds=deadline)
    new = replica_set("web-1") if there else None
    found = of_type(statuses.compute_beginning(owner, standing, new, NOW, created), "Progressing")
    if deadline and there and created:
        assert found == said(
            current,
            "Progressing",
            "True",
            "NewReplicaSetCreated",
            'Created new replica set "web-1"',
        )
    elif deadline and there and current is None:
        assert found == said(
            None, "Progressing", "True", "FoundNewReplicaSet", 'Found new replica set "web-1"'
        )
    else:
        assert found == current


counts = st.builds(
    DeploymentStatus,
    replicas=maybe,
    updated_replicas=maybe,
    ready_replicas=maybe,
    available_replicas=maybe,
    observed_generation=st.integers(0, 2),
)


MEANINGS = {
    "NewReplicaSetCreated": "True", "FoundNewReplicaSet": "True", "ReplicaSetUpdated": "True", "NewReplicaSetAvailable": "True",
    "ProgressDeadlineExceeded": "False", "ReplicaSetCreateError": "False", "DeploymentPaused": "Unknown", "DeploymentResumed": "Unknown",
}  # fmt: skip
"""The table of the page: which status each reason of Progressing has."""


def is_all_there(status, wanted):
    """Everything that is asked for is there, new and available, nothing else is, and the status is
    of this generation."""
    numbers = {status.replicas or 0, status.updated_replicas or 0, status.available_replicas or 0}
    return numbers == {wanted} and status.observed_generation >= 1


def went_forward(before, after):
    """Some number that a rollout raises is higher, or some old pod is gone."""
    pairs = [(b or 0, a or 0) for b, a in zip(numbers_of(before), numbers_of(after), strict=True)]
    (all_before, all_after), (new_before, new_after) = pairs[0], pairs[1]
    return any(a > b for b, a in pairs[1:]) or all_after - new_after < all_before - new_before


def numbers_of(status):
    return (
        status.replicas,
        status.updated_replicas,
        status.ready_replicas,
        status.available_replicas,
    )


progress_steps = st.tuples(currents, counts, counts, st.integers(1, 2), st.booleans())
"""The condition so far, what the last status and this one count, how many are wanted, and whether
there is a new ReplicaSet. Generation 1; the deadline is 10 seconds; the condition was last written
9, 10, 11 or 50 seconds ago."""


def judged_progress(step, deadline=10):
    """(the condition before, the condition after, the status after) of one judgement."""
    current, before, after, wanted, there = step
    owner = replace(
        change(deployment(replicas=wanted), progress_deadline_seconds=deadline), status=before
    )
    standing = (*others, *(() if current is None else (current,)))
    result = statuses.compute_progress(
        owner, replace(after, conditions=standing), replica_set("web-1") if there else None, [], NOW
    )
    assert others[0] in result.conditions, "conditions of others stay"
    again = statuses.compute_progress(
        replace(owner, status=result), result, replica_set("web-1") if there else None, [], NOW
    )
    assert again == result, "the same look says the same"
    return current, of_type(result.conditions, "Progressing"), result


@given(progress_steps)
def test_dep_14_without_a_deadline_nothing_is_said_of_progress(step):
    assert judged_progress(step, deadline=None)[1] is None


@settings(max_examples=4 * settings.default.max_examples)
@given(progress_steps)
def test_dep_14_the_words_fit_each_other_and_the_times_fit_the_words(step):
    current, found, _ = judged_progress(step)
    if found is None or found == current:
        return
    assert found.status == MEANINGS[found.reason] and found.last_update_time == timestamp(NOW)
    is_same_status = current is not None and current.status == found.status
    assert found.last_transition_time == (
        current.last_transition_time if is_same_status else timestamp(NOW)
    )
    about = 'ReplicaSet "web-1"' if step[4] else 'Deployment "web"'
    ends = {
        "NewReplicaSetAvailable": "has successfully progressed.",
        "ReplicaSetUpdated": "is progressing.",
    }
    assert found.message == f"{about} {ends.get(found.reason, 'has timed out progressing.')}"


@settings(max_examples=4 * settings.default.max_examples)
@given(progress_steps)
def test_dep_14_complete_is_said_of_what_is_all_there_and_is_not_taken_back_by_a_pod_that_dies(
    step,
):
    current, found, _ = judged_progress(step)
    _, _, after, wanted, _ = step
    was_complete = current is not None and current.reason == "NewReplicaSetAvailable"
    says_complete = found is not None and found.reason == "NewReplicaSetAvailable"
    if is_all_there(after, wanted):
        assert says_complete
    elif says_complete:
        assert was_complete and found == current
    if was_complete and after.replicas == after.updated_replicas:
        assert found == current, "no rollout is under way"


@settings(max_examples=4 * settings.default.max_examples)
@given(progress_steps)
def test_dep_14_dep_15_every_step_forward_starts_the_deadline_anew_and_nothing_else_does(step):
    current, found, _ = judged_progress(step)
    _, before, after, wanted, _ = step
    at_rest = (
        current is not None
        and current.reason == "NewReplicaSetAvailable"
        and after.replicas == after.updated_replicas
    )
    if is_all_there(after, wanted) or at_rest:
        return
    if went_forward(before, after):
        assert (found.reason, found.last_update_time) == ("ReplicaSetUpdated", timestamp(NOW))
    else:
        assert found == current or found.reason == "ProgressDeadlineExceeded"


@settings(max_examples=4 * settings.default.max_examples)
@given(progress_steps)
def test_dep_15_a_deadline_is_missed_when_it_has_passed_and_stays_missed_until_something_moves(
    step,
):
    current, found, _ = judged_progress(step)
    _, before, after, wanted, _ = step
    is_missed = found is not None and found.reason == "ProgressDeadlineExceeded"
    was_missed = current is not None and current.reason == "ProgressDeadlineExceeded"
    if is_missed and not was_missed:
        assert current.last_update_time < ago(10) and current.reason != "NewReplicaSetAvailable"
    moves = is_all_there(after, wanted) or went_forward(before, after)
    if was_missed:
        assert is_missed == (not moves)
    elif current is not None and current.reason != "NewReplicaSetAvailable" and not moves:
        assert is_missed == (current.last_update_time < ago(10))


@settings(max_examples=4 * settings.default.max_examples)
@given(currents, counts, st.booleans(), st.sampled_from([10, None]))
def test_dep_15_when_to_look_again_for_a_missed_deadline(current, status, paused, deadline):
    owner = change(deployment(replicas=1), paused=paused, progress_deadline_seconds=deadline)
    status = replace(status, conditions=(current,) if current is not None else None)
    at = statuses.compute_wake(owner, status)
    runs = current is not None and current.reason not in (
        "NewReplicaSetAvailable",
        "ProgressDeadlineExceeded",
    )
    done = (status.replicas, status.updated_replicas, status.available_replicas) == (
        1,
        1,
        1,
    ) and status.observed_generation >= 1
    if paused or done or not runs or deadline is None:
        assert at is None
    else:
        seconds = next(n for n in (9, 10, 11, 50) if ago(n) == current.last_update_time)
        assert at == NOW + (10 - seconds + 1) * SECOND


failures = st.none() | st.builds(
    lambda status, reason: ReplicaSetCondition(
        type="ReplicaFailure",
        status=status,
        reason=reason,
        message="quota",
        last_transition_time=ago(5),
    ),
    st.sampled_from(["True", "False"]),
    st.sampled_from(["FailedCreate", "FailedDelete"]),
)


@settings(max_examples=4 * settings.default.max_examples)
@given(
    failures,
    failures,
    st.none()
    | st.tuples(
        st.sampled_from(["True", "False"]), st.sampled_from(["FailedCreate", "FailedDelete"])
    ),
)
def test_dep_14_a_failure_of_pods_is_the_new_ones_else_another_ones(of_new, of_old, before):
    def carrying(name, found):
        rs = replica_set(name)
        ready = ReplicaSetCondition(type="Other", status="True")
        return replace(
            rs, status=replace(rs.status, conditions=(ready, *(() if found is None else (found,))))
        )

    new, old = carrying("new", of_new), carrying("old", of_old)
    standing = None if before is None else replace(progressing(*before), type="ReplicaFailure")
    status = DeploymentStatus(conditions=(*others, *(() if standing is None else (standing,))))
    result = statuses.compute_progress(deployment(), status, new, [old, new], NOW)
    found, wanted = of_type(result.conditions, "ReplicaFailure"), of_new or of_old
    if wanted is None:
        assert found is None
    elif standing is not None and (standing.status, standing.reason) == (
        wanted.status,
        wanted.reason,
    ):
        assert found == standing
    else:
        since = (
            standing.last_transition_time
            if standing is not None and standing.status == wanted.status
            else ago(5)
        )
        assert (found.status, found.reason, found.message) == (
            wanted.status,
            wanted.reason,
            "quota",
        )
        assert (found.last_update_time, found.last_transition_time) == (ago(5), since)


# --- refusals -------------------------------------------------------------------------------------


@given(
    st.sampled_from([400, 403, 409, 500]),
    st.sampled_from(["none", "another", "namespace"]),
    st.booleans(),
)
def test_dep_20_what_counts_as_a_refusal(code, cause, has_body):
    causes = {
        "none": None,
        "another": (StatusCause(reason="Other"),),
        "namespace": (StatusCause(reason="NamespaceTerminating"),),
    }[cause]
    body = (
        failure(code, "Reason", "no", StatusDetails(kind="replicasets", causes=causes))
        if has_body
        else None
    )
    found = creation_failure(Response(code, body))
    if code == 409 or (has_body and cause == "namespace"):
        assert found is None
    else:
        assert found == ("no" if has_body else f"the API server answered {code}")
    assert creation_failure(None) is None


def test_dep_20_a_refusal_is_told_and_so_is_a_selector_of_everything():
    owner = deployment()
    plan = plan_for(
        DEP,
        owner,
        local=Local(failures=1, failure=Response(403, failure(403, "Forbidden", "quota"))),
    )
    [note] = plan.notes
    assert (note.type, note.reason) == ("Warning", "ReplicaSetCreateError")
    assert re.fullmatch(r'Failed to create new replica set "web-\w+": quota', note.message)
    everything = change(
        owner, selector=replace(owner.spec.selector, match_labels=None), generation=2
    )
    plan = plan_for(DEP, everything)
    words = "This deployment is selecting all pods. A non-empty selector is required."
    assert plan.notes == (Note(everything, "SelectingAll", words, "Warning"),)
    [report] = sent(plan, "update", DEPLOYMENTS, "status")
    assert report.body.status.observed_generation == 2
    assert not sent(plan_for(DEP, report.body), "update")


# --- one after the other --------------------------------------------------------------------------


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 1),
    maybe,
    st.lists(st.sampled_from(["Running", "Pending", "Failed", "Succeeded"]), max_size=2),
    st.booleans(),
)
def test_dep_10_a_recreate_waits_for_the_last_pod_that_may_run(
    asked, there, behind, terminating, phases, has_new
):
    """The old ReplicaSet: its size, its status' count, by how many generations that is behind, what
    ends, and pods that there still are."""
    owner = change(
        deployment(replicas=2), strategy=DeploymentStrategy(type="Recreate"), template=template("2")
    )
    old = replica_set("old", asked, template=template("1"), generation=2)
    old = replace(
        old,
        status=replace(
            old.status,
            replicas=there,
            observed_generation=2 - behind,
            terminating_replicas=terminating,
        ),
    )
    pods = [pod(f"p{n}", old, phase=phase) for n, phase in enumerate(phases)]
    owned = [old]
    if has_new:
        owned.append(replica_set("new", 0, template=template("2")))
    decision = decide(observe(owner, owned), view_of(DEP, owner, *owned, *pods))
    held = (
        there or behind or terminating or any(phase in ("Running", "Pending") for phase in phases)
    )
    if asked:
        assert decision.sizes == {"old": 0} and decision.create is None
    elif held:
        assert decision.sizes == {} and decision.create is None
    elif has_new:
        assert decision.sizes == {"new": 2}
    else:
        assert decision.create == 2


@given(
    st.sampled_from([None, ago(9)]),
    st.sampled_from([None, "", "7", "x"]),
    st.none() | st.integers(0, 5),
    maybe,
)
def test_dep_9_a_member_is_what_the_replica_set_says(created, most, replicas, available):
    annotations = None if most is None else {revisions.MAX_REPLICAS: most}
    rs = change(
        replica_set("rs"), creation_timestamp=created, annotations=annotations, replicas=replicas
    )
    rs = replace(rs, status=replace(rs.status, available_replicas=available))
    assert member(rs) == Member(
        "rs", replicas or 0, available or 0, created or "", 7 if most == "7" else None
    )


def test_dep_14_a_rollout_is_told_to_have_begun_with_its_replica_set():
    plan = plan_for(DEP, deployment())
    [report] = sent(plan, "update", DEPLOYMENTS, "status")
    [request] = sent(plan, "create", REPLICA_SETS)
    found = of_type(report.body.status.conditions, "Progressing")
    words = f'Created new replica set "{request.body.metadata.name}"'
    assert (found.status, found.reason, found.message) == ("True", "NewReplicaSetCreated", words)


def test_own_7_a_free_replica_set_is_news_to_the_deployment_that_selects_it():
    keys_of = next(interest.keys for interest in DEP.interests if interest.resource is REPLICA_SETS)
    view = view_of(
        DEP,
        deployment(),
        deployment("other", selector=LabelSelector(match_labels={"app": "other"})),
    )
    assert list(keys_of(view, None, replica_set("free"))) == ["default/web"]


# --- numbers and names ----------------------------------------------------------------------------


def test_dep_6_what_is_not_said_is_a_quarter_and_one():
    for spec in (
        replace(
            deployment(replicas=7).spec,
            strategy=DeploymentStrategy(type="RollingUpdate", rolling_update=None),
        ),
        deployment(replicas=7, surge=None, unavailable=None).spec,
    ):
        assert rollout.compute_bounds(spec) == Bounds(7, 2, 1)
        assert rollout.compute_bounds(replace(spec, replicas=None)) == Bounds(1, 1, 0)
    assert isinstance(spec, DeploymentSpec)


@given(st.none() | st.text("0123456789+-x ", max_size=21))
def test_dep_4_a_revision_is_a_whole_number_or_none(text):
    annotations = None if text is None else {"n": text, "other": "1"}
    plain = re.fullmatch(r"[+-]?[0-9]+", text or "") and -(2**63) <= int(text) < 2**63
    assert revisions.whole_number(annotations, "n") == (int(text) if plain else None)


def test_dep_4_revisions_have_64_bits_and_end_there():
    owner = deployment()

    def rs(text):
        return replica_set("rs", annotations={revisions.REVISION: text})

    assert revisions.next_revision([rs("3546343826724305832")]) == 3546343826724305833
    assert revisions.next_revision([rs("9223372036854775807")]) == 9223372036854775807
    assert revisions.next_revision([rs("9223372036854775808")]) == 1, (
        "more than 64 bits is no number"
    )
    assert (
        revisions.compute_annotations(owner, None, 2**63 - 1)[revisions.REVISION]
        == "9223372036854775807"
    )


@given(
    st.lists(st.integers(0, 10**9).map(str), max_size=8),
    st.integers(1, 9),
    st.integers(1_950, 2_010) | st.just(0),
)
def test_dep_4_a_history_is_cut_in_front_to_what_fits(entries, revision, length):
    """`length` is that of a first entry, so that the whole comes close to 2,000 characters."""
    before = [*(["9" * length] if length else []), *entries]
    found = revisions.compute_history(",".join(before), str(revision))
    fitting = [*before, str(revision)]
    while len(",".join(fitting)) > revisions.HISTORY_LENGTH_MAX:
        fitting = fitting[1:]
    assert found == ",".join(fitting)
    assert revisions.compute_history("1", "2" * 2001) is None


def test_dep_2_hashes_stay_what_they_are():
    """A release that changed them would find its ReplicaSets by their templates still, but no name
    that somebody has written down."""
    hashes = [revisions.template_hash(template("1"), collisions) for collisions in (None, 0, 1)]
    assert hashes == ["7f6d797c45", "7495c7fd87", "544c55fdf5"]


def test_dep_5_a_new_replica_set_has_the_minimum_of_its_deployment():
    plan = plan_for(DEP, change(deployment(), min_ready_seconds=7))
    [request] = sent(plan, "create", REPLICA_SETS)
    assert request.body.spec.min_ready_seconds == 7


# --- the arithmetic of rollouts -------------------------------------------------------------------

shares = st.one_of(st.integers(0, 12), st.integers(0, 120).map(lambda n: f"{n}%"))


@given(st.integers(0, 200), shares, shares)
def test_dep_6_bounds_are_exactly_these(replicas, surge, unavailable):
    def exact(share):
        return (
            Fraction(share) if isinstance(share, int) else Fraction(int(share[:-1]) * replicas, 100)
        )

    most, fewer = ceil(exact(surge)), floor(exact(unavailable))
    if most == fewer == 0:
        fewer = 1
    bounds = rollout.compute_bounds(
        deployment(replicas=replicas, surge=surge, unavailable=unavailable).spec
    )
    assert bounds == Bounds(replicas, most, min(fewer, replicas))


sizes_before = st.lists(
    st.builds(
        Member,
        st.sampled_from("abcdef"),
        st.integers(1, 9),
        st.integers(0, 9),
        st.sampled_from([ago(9), ago(8)]),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.name,
)


def exact_share(one, allowed, there):
    """The size at which it has its share of the whole that it knows, else of the pods that there
    are; None: no whole is known."""
    whole = one.max_replicas_before or there
    return (
        Fraction(0) if allowed == 0 else Fraction(one.replicas * allowed, whole) if whole else None
    )


@settings(max_examples=5 * settings.default.max_examples)
@given(sizes_before, st.integers(0, 20), st.integers(0, 20))
def test_dep_9_each_gets_its_share_rounded_as_far_as_there_is_something_left_and_the_largest_the_rest(
    members, allowed, there
):
    sizes, total = (
        rollout.spread(Bounds(allowed, 0, 0), members, there),
        sum(one.replicas for one in members),
    )
    assert set(sizes) == {one.name for one in members}
    largest = max(one.replicas for one in members)
    if allowed == total:
        assert all(sizes[one.name] == one.replicas for one in members), (
            "nothing is to be given or taken"
        )
        return
    assert sum(sizes.values()) == allowed or any(
        sizes[one.name] == 0 for one in members if one.replicas == largest
    )
    off = []  # that did not get their share, rounded
    for one in members:
        exact = exact_share(one, allowed, there)
        wanted, got = (
            (exact if exact is not None else Fraction(one.replicas)) - one.replicas,
            sizes[one.name] - one.replicas,
        )
        if abs(got - wanted) > Fraction(1, 2):
            off.append(one)
            if one.replicas < largest:
                assert min(wanted, 0) <= got <= max(wanted, 0), (
                    "one that is not the largest never gets more than its share"
                )
    short = [one for one in off if one.replicas < largest]
    for one in short:
        for smaller in members:
            if smaller.replicas < one.replicas:
                left_out = exact_share(smaller, allowed, there)
                towards = 0 if left_out is None else left_out - smaller.replicas
                got = sizes[smaller.name] - smaller.replicas
                assert got == 0 or (towards < 0) == (allowed > total), (
                    "what comes later gets nothing of what ran out before"
                )


@given(sizes_before, st.integers(0, 20), st.integers(0, 20), st.randoms(use_true_random=False))
def test_dep_9_the_order_in_which_replica_sets_are_listed_does_not_matter(
    members, allowed, there, chance
):
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert rollout.spread(Bounds(allowed, 0, 0), shuffled, there) == rollout.spread(
        Bounds(allowed, 0, 0), members, there
    )


@given(st.integers(1, 9), st.integers(0, 30), st.permutations("abcd"))
def test_dep_9_of_equals_the_younger_grows_first_and_the_older_shrinks_first(size, allowed, names):
    """Four of one size that know the whole; what is given or taken goes to the younger or the older
    first."""
    members = [Member(name, size, size, ago(9 - at), 4 * size) for at, name in enumerate(names)]
    sizes = rollout.spread(Bounds(allowed, 0, 0), members, 0)
    by_age = [sizes[name] for name in names]
    assert by_age == sorted(by_age), "of equals no older one is larger in the end"


olds = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4)


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.integers(0, 8),
    st.integers(0, 4),
    st.integers(0, 8),
    olds,
    st.tuples(st.integers(0, 8), st.integers(0, 8)),
)
def test_dep_7_dep_8_one_step_of_a_rollout(replicas, surge, unavailable, drawn, of_new):
    """Each ReplicaSet is (asked for, available); the old ones from the oldest on."""
    bounds = Bounds(replicas, surge, min(unavailable, replicas))
    old, new = [Member(f"o{n}", *sizes) for n, sizes in enumerate(drawn)], Member("new", *of_new)
    grown, before = rollout.grow(bounds, new, old), sum(asked for asked, _ in drawn)
    room = max(bounds.most - new.replicas - before, 0)
    assert grown == (replicas if new.replicas > replicas else min(new.replicas + room, replicas))
    sizes = rollout.shrink(bounds, new, old)
    left = [sizes.get(one.name, one.replicas) for one in old]
    assert sum(left) + new.surely_available >= min(
        before + new.surely_available, bounds.fewest_available
    ), "what is left would be enough, were it all available"
    # In words: pods that are not available go first, the oldest's before others'; then available
    # ones, as long as enough stay.
    spare, expected = max(before + new.surely_available - bounds.fewest_available, 0), []
    for one in old:
        gone = min(one.replicas - one.surely_available, spare)
        spare -= gone
        expected.append(one.replicas - gone)
    spare = max(
        new.surely_available + sum(one.surely_available for one in old) - bounds.fewest_available, 0
    )
    for number, size in enumerate(expected):
        gone = min(size, spare)
        spare -= gone
        expected[number] = size - gone
    assert left == expected
    assert all(sizes[one.name] < one.replicas for one in old if one.name in sizes), (
        "only what changes is named"
    )
