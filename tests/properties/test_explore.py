"""The explorer (spec/explorer.md): what it says it has seen it has seen, as the reference would
have it, and bugs do not escape it."""

import re
from typing import get_args

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from museum.change import Change, applied

from refk8s.checking.explorer import history_file
from refk8s.checking.explorer import moves as explorer_moves
from refk8s.checking.explorer.compare import differences
from refk8s.checking.explorer.interning import Interner
from refk8s.checking.explorer.judge import Judge
from refk8s.checking.explorer.liveness import Graph, components
from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.moves import (
    ACTIONS,
    FIRST,
    STORE,
    Crash,
    Move,
    Notify,
    OpenWatch,
    Operate,
    User,
)
from refk8s.checking.explorer.replay import (
    begin_model,
    history_actions,
    prologue,
    take,
    to_actions,
)
from refk8s.checking.explorer.search import BROKE, HELD, UNDETERMINED, Bounds, explore
from refk8s.checking.explorer.transitions import FAULTS, Transitions
from refk8s.cli.main import main
from refk8s.core import actions
from refk8s.core.actions import Answer, Arrive
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import EVENTS, LEASES, PODS
from refk8s.core.cluster.enabled import pod_of
from refk8s.core.controllers import replica_set
from refk8s.core.loop import requests
from refk8s.core.loop.lease_lock import may_acquire
from refk8s.core.properties.law import Law
from refk8s.core.value import evolve

SMALL = ("endpoints", "garbage", "namespace", "scheduler")


def found(name, reduced=True, **faults):
    return explore(
        MODELS[name](),
        Bounds({fault.replace("_", "-"): count for fault, count in faults.items()}),
        reduced=reduced,
    )


@pytest.mark.parametrize("name", SMALL)
def test_explore_1_a_small_model_is_exhausted_and_every_rule_holds(name):
    result = found(name)
    assert (result.verdict, result.broken) == (HELD, [])
    assert result.expanded == result.states > 100 and result.resting > 0 and result.depth > 10
    assert (
        result.taken["user"]
        and result.taken["notify"]
        and result.taken["answer"]
        and result.tested["WATCH-2"]
    )


def test_explore_1_elect_5_of_two_instances_the_holder_acts_in_every_run_with_a_crash():
    """Until the other instance has taken over."""
    model = evolve(MODELS["election"](), horizon_seconds=22)
    result = explore(model, Bounds({"crash": 1}))
    assert (result.verdict, result.broken) == (HELD, [])
    assert result.tested["ELECT-4"] > 100 and result.tested["ELECT-5"] > 100
    leases = [result.moves.parts.reader(rest[STORE]).list(LEASES.prefix) for rest in result.rests]
    holders = {page.records[0].value.spec.holder_identity for page in leases}
    assert {holder.partition("_")[0] for holder in holders} == {"host-1", "host-2"}
    assert len(holders) == 4, "of each host before and after its crash"


def test_explore_1_elect_2_a_candidate_that_does_not_wait_is_found():
    waits = "now >= observed_at + (lease.spec.lease_duration_seconds or 0) * SECOND"
    with applied([Change(may_acquire, f"return {waits}", "return True")]):
        result = found("election")
    assert result.verdict == BROKE and {each.rule for each in result.broken} <= {
        "ELECT-4",
        "ELECT-5",
    }


@settings(deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.integers(0, 2**16), max_size=50),
    st.booleans(),
    st.booleans(),
)
def test_explore_2_what_the_explorer_does_on_numbers_the_reference_does_on_values(
    name, choices, with_faults, reduced
):
    """Also EXPLORE-3, EXPLORE-4, EXPLORE-6 and EXPLORE-12: `differences` compares the possible
    actions too."""
    model = MODELS[name]()
    moves = Transitions(model, dict.fromkeys(FAULTS, 2 * with_faults), reduced=reduced)
    state, cluster = moves.first(), begin_model(model)
    for action in prologue(model, cluster):
        cluster = take(cluster, action)
    assert differences(moves, state, cluster) == []
    for choice in choices:
        options = list(moves.of(state))
        if not options:
            break
        move, after = options[choice % len(options)]
        for action in to_actions(moves, state, move, cluster):
            cluster = take(cluster, action)
        state = moves.normal(after)
        assert differences(moves, state, cluster) == [], f"after {move}"


def walk(moves, state, cluster, is_wanted, most=1_000):
    """Take the first possible move that is wanted, until there is none; compare after each."""
    for _ in range(most):
        wanted = [(move, after) for move, after in moves.of(state) if is_wanted(move)]
        if not wanted:
            break
        move, after = wanted[0]
        for action in to_actions(moves, state, move, cluster):
            cluster = take(cluster, action)
        state = moves.normal(after)
        assert differences(moves, state, cluster) == []
    return state, cluster


@pytest.mark.parametrize("crashes", [1, 2])
def test_explore_12_operations_on_a_pod_begin_in_the_order_of_the_kubelets_lives(crashes):
    """CLUSTER-13: while an operation of an earlier life has not begun, those of later lives on the
    same pod are no moves."""
    model = MODELS["kubelet"]()
    moves = Transitions(model, {"crash": crashes})
    parts = moves.parts
    state, cluster = moves.first(), begin_model(model)
    for action in prologue(model, cluster):
        cluster = take(cluster, action)

    def begins_on_a_pod(move):
        return (
            isinstance(move, Operate)
            and move.job[2] == 0
            and bool(pod_of(parts.values[move.job[1]]))
        )

    def is_about_no_pod(move):
        kinds = OpenWatch | explorer_moves.Arrive | explorer_moves.Answer | Notify | Operate
        return isinstance(move, kinds) and not begins_on_a_pod(move)

    def is_kind(kind):
        return lambda move: isinstance(move, kind)

    for kind in (User, *[Crash] * crashes):
        state, cluster = walk(moves, state, cluster, is_kind(kind), most=1)
        state, cluster = walk(moves, state, cluster, is_about_no_pod)
    jobs = parts.bundles[state[FIRST]].jobs
    assert len(Judge(moves).whole(state).operations) == len(jobs)
    lives = {job[3] for job in jobs}
    assert lives == set(range(1, crashes + 2))
    for life in sorted(lives):
        for _ in range(2):  # the pull of the image and the sandbox
            begun = [move for move in moves.happenings(state) if begins_on_a_pod(move)]
            assert {move.job[3] for move in begun} == {life}
            state, cluster = walk(moves, state, cluster, begins_on_a_pod, most=1)


def test_explore_6_every_kind_of_move_is_an_action_and_what_is_left_out_is_known():
    kinds, waiting = set(), [Move]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "word" in vars(kind):
            kinds.add(kind)
    assert kinds == set(ACTIONS)
    left_out = set(get_args(actions.Action)) - set(ACTIONS.values())
    assert left_out == {
        actions.Delay, actions.Partition, actions.Stop, actions.Start, actions.Stale, actions.CatchUp, actions.Switch, actions.Skew,
        actions.Suspend, actions.Resume, actions.StopServer, actions.StartServer, actions.CutOff,
    }  # fmt: skip
    assert {kind.fault for kind in kinds if kind.fault} == set(FAULTS) - {"slow"}


few = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=4)


@given(few, few)
def test_explore_3_equal_values_and_only_these_have_one_number(one, other):
    interner = Interner()
    made = [
        tuple(Pod(metadata=ObjectMeta(name=name, generation=number)) for name, number in each)
        for each in (one, other)
    ]
    assert (interner.number(made[0]) == interner.number(made[1])) == (one == other)
    assert interner.number(dict(one)) == interner.number(dict(sorted(dict(one).items())))
    assert interner.number(1) != interner.number(True) != interner.number("1")


def stored(result):
    """What the store holds in each state of rest, without uids and revisions."""
    seen = set()
    for state in result.rests:
        reader = result.moves.parts.reader(state[STORE])
        records = [
            record.value
            for prefix in sorted(result.moves.parts.store_states.prefixes)
            for record in reader.list(prefix).records
        ]
        seen.add(re.sub(r"resource_version='\d+'|[0-9a-f]{8}-[0-9a-f-]{27}", "", repr(records)))
    return seen


@pytest.mark.parametrize("name", SMALL)
def test_explore_8_explore_9_reduced_or_not_the_same_states_of_rest_are_found(name):
    """EXPLORE-8 and EXPLORE-9: nor does either test fewer rules."""
    reduced, full = found(name, lose=1), found(name, reduced=False, lose=1)
    assert reduced.verdict == full.verdict == HELD
    assert stored(reduced) == stored(full)
    assert reduced.states <= full.states and reduced.depth <= full.depth
    assert set(reduced.tested) == set(full.tested)


def broke(name, rule, reduced=True, **faults):
    """The shortest history that breaks this rule, which breaks it on the reference too."""
    result = found(name, reduced=reduced, **faults)
    assert result.verdict == BROKE and rule in {broken.rule for broken in result.broken}, result
    actions = history_actions(result.moves, result.history)
    _, again = history_file.replay(result.model, actions)
    assert rule in {broken.rule for broken in again}
    return result


TRAP = Change(
    requests.take_answer,
    "if response is None or response.code == 503:  # LOOP-6: unknown, so the same again\n"
    "    delay = min(RESEND_FIRST << min(flight.tries, 20), RESEND_MAX)\n",
    "if response is None:\n"
    "    answer_for(draft, flight.item, Response(500, None))\n"
    "    return\n"
    "if response.code == 503:\n"
    "    delay = min(RESEND_FIRST << min(flight.tries, 20), RESEND_MAX)\n",
)
IMPATIENT = Change(
    requests.release,
    "for item in sorted(draft.waiting):\n    busy = draft.busy[item]\n",
    "for item in sorted(draft.waiting):\n    busy = draft.busy[item]\n"
    "    busy = replace(busy, reached=type(busy.reached)(), gone=())\n",
)
ANY_CHANGE = Change(
    requests._is_gone,
    "return obj.metadata.deletion_timestamp is not None and "
    "obj.metadata.resource_version != version",
    "return obj.metadata.resource_version != version",
)
ALWAYS_REPORTS = Change(replica_set.report, "if status == owner.status:\n    return ()\n", "")


def test_explore_1_a_lost_answer_that_is_taken_for_a_failure_makes_a_pod_too_many():
    """The trap of LOOP-6: without the loss all is well, with it there is a history of a dozen
    moves."""
    with applied([TRAP]):
        result = broke("replicaset", "RS-2", lose=1)
    kinds = [move.word for _, move in result.history if move]
    assert "lose answer" in kinds or "lose request" in kinds
    assert len(kinds) <= 12


def test_explore_1_without_loop_4_a_late_watch_makes_a_pod_too_many():
    with applied([IMPATIENT]):
        assert len(broke("replicaset", "RS-2").history) <= 12


def test_explore_1_an_older_change_that_is_taken_for_the_deletion_ends_a_pod_too_many():
    """What the explorer found here first, without any fault (LOOP-4)."""
    with applied([ANY_CHANGE]):
        reduced, full = broke("replicaset", "RS-2"), broke("replicaset", "RS-2", reduced=False)
    assert len(reduced.history) == len(full.history)


def test_explore_10_a_controller_that_reports_for_ever_is_found_to_go_round():
    with applied([ALWAYS_REPORTS]):
        result = found("replicaset")
    assert result.verdict == BROKE and result.broken[0].rule == "EXPLORE-10"
    first = next(state for state, move in result.history if move)
    assert result.history[-1][1] and first != result.history[-1][0]


def test_explore_10_strongly_connected_parts_are_found():
    graph = Graph()
    for targets in ([1], [2, 3], [1], [4], [], [5], [7], [6, 4]):
        graph.targets.extend(targets)
        graph.close()
    assert sorted(components(graph)) == [[1, 2], [5], [6, 7]]


def test_explore_7_a_law_that_asks_for_the_whole_cluster_is_given_it():
    """And finds in the same step what a law of the store finds."""

    def none_is_bound(change, before, after):
        return (
            [f"{change.key} is bound"]
            if change.record is not None and change.record.value.spec.node_name
            else []
        )

    def none_is_bound_while_anything_flies(change, before, after):
        assert len(after.components) == 1 and after.watches is not None
        return none_is_bound(change, before, after)

    for check in (none_is_bound, none_is_bound_while_anything_flies):
        model = evolve(MODELS["scheduler"](), laws=(Law("BOUND", check, PODS.prefix),))
        result = explore(model, Bounds())
        assert (result.verdict, result.broken[0].rule, len(result.history)) == (BROKE, "BOUND", 4)


@pytest.mark.parametrize("bounds", [Bounds(depth=5), Bounds(states=50), Bounds(seconds=0.0)])
def test_explore_5_a_search_that_stopped_early_says_that_it_does_not_know(bounds):
    result = explore(MODELS["garbage"](), bounds)
    assert result.verdict == UNDETERMINED and result.why and result.expanded < result.states


def test_explore_5_the_exit_status_says_what_came_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    held = run(main, ["explore", "garbage"])
    assert (
        held.exit_code == 0 and "exhausted: " in held.output and "UNDETERMINED" not in held.output
    )
    stopped = run(main, ["explore", "garbage", "--states", "20", "--faults", "crash=1,lose"])
    assert (
        stopped.exit_code == 3
        and "UNDETERMINED: " in stopped.output
        and "exhausted" not in stopped.output
    )
    with applied([IMPATIENT]):
        broken = run(main, ["explore", "replicaset"])
        assert (
            broken.exit_code == 1
            and "RS-2 is broken" in broken.output
            and "on the reference, action by action: " in broken.output
        )
        again = run(main, ["explore", "--replay", "refk8s-explore-replicaset.run"])
        assert again.exit_code == 1 and "RS-2 is broken" in again.output
    outdated = run(main, ["explore", "--replay", "refk8s-explore-replicaset.run"])
    assert outdated.exit_code in (0, 3) and "broken" not in outdated.output
    assert all(name in run(main, ["explore"]).output for name in MODELS)


@pytest.mark.parametrize(
    "words", [["nothing"], ["garbage", "--faults", "rain=1"], ["--replay", "nowhere.run"]]
)
def test_explore_5_bad_use_is_told_in_one_line(words, capsys):
    result = CliRunner().invoke(main, ["explore", *words])
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1


@given(st.sampled_from(sorted(MODELS)), st.lists(st.integers(0, 2**16), max_size=40))
def test_explore_11_events_that_arrive_after_all_change_nothing_but_events(name, choices):
    moves = Transitions(MODELS[name](), {})
    state, cluster = moves.first(), begin_model(moves.model)
    for action in prologue(moves.model, cluster):
        cluster = take(cluster, action)
    for choice in choices:
        options = list(moves.of(state))
        if options:
            move, after = options[choice % len(options)]
            for action in to_actions(moves, state, move, cluster):
                cluster = take(cluster, action)
            state = moves.normal(after)
    if any(
        component.wake_at is not None and component.wake_at <= cluster.now
        for component in cluster.components.values()
    ):
        return  # whatever a machine hears lets its timer go off, which is a move of its own
    for channel in [
        channel
        for channel, flying in sorted(cluster.flying.items())
        if flying.request.resource == EVENTS
    ]:
        cluster = take(take(cluster, Arrive(channel)), Answer(channel))
        assert differences(moves, state, cluster) == []
