"""A crash after every write, every watch held back, every change unheard of (spec/simulation.md).

A few of them here; all of them in the nightly profile, and by `refk8s sim --pattern all`.
"""

from collections import Counter
from functools import cache

import pytest
import sim_trials
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.checking.simulator import patterns
from refk8s.checking.simulator.end_state import difference, end_state
from refk8s.checking.simulator.pattern_scenarios import SCENARIOS, scenario_of
from refk8s.checking.simulator.scenario import creation, deployment
from refk8s.checking.simulator.simulate import Setup
from refk8s.cli.main import main
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.loop import turn, watching
from refk8s.core.value import evolve

NIGHTLY = settings().max_examples >= 1_000
SETUP = Setup(seed=0, nodes=1, faults={}, user=False)


@cache
def undisturbed():
    return patterns.begin_scenario("web", SETUP)


@pytest.mark.parametrize(("pattern", "stride"), [("crash", 97), ("lag", 31), ("skip", 79)])
def test_sim_5_sim_6_sim_7_every_disturbed_run_ends_as_the_undisturbed_one(pattern, stride):
    """SIM-5, SIM-6, SIM-7."""
    sim_trials.judge(undisturbed(), pattern, stride)


@given(st.integers(1, 2**32))
@settings(max_examples=3, deadline=None)
def test_sim_5_the_end_does_not_depend_on_what_chance_has_chosen(seed):
    """Another seed gives other names, uids and addresses, and the same end state."""
    base, other = (
        undisturbed(),
        patterns.begin_scenario("web", Setup(seed=seed, nodes=1, faults={}, user=False)),
    )
    assert not difference(base.end, other.end)
    assert base.run.digest.hexdigest() != other.run.digest.hexdigest()


def test_sim_5_what_ends_otherwise_is_named():
    base = undisturbed()
    smaller = Counter(base.end)
    line = next(
        line
        for line in sorted(smaller)
        if '"kind": "ReplicaSet"' in line and '"replicas": 1' in line
    )
    del smaller[line]
    assert difference(base.end, smaller) == [f"missing: ReplicaSet default/web-{_hash(line)}"]
    smaller[line.replace('"readyReplicas": 1', '"readyReplicas": 7')] = 1
    assert difference(base.end, smaller) == [
        f"ReplicaSet default/web-{_hash(line)}: status.readyReplicas is 7, "
        "where the undisturbed run has 1"
    ]
    assert not difference(base.end, end_state(base.run.cluster))


def _hash(line):
    return line.partition('"pod-template-hash": "')[2].partition('"')[0]


def keep_deleted_objects(draft, prefix, id, response):
    """A relist that keeps the objects that are missing in the list."""
    TAKE_LIST(draft, prefix, id, response)
    table = draft.view.tables[prefix]
    objects = table.objects
    for key, obj in draft.before.view.tables[prefix].objects.items():
        if key not in objects:
            objects = objects.set(key, obj)
    draft.view = evolve(
        draft.view, tables=draft.view.tables.set(prefix, evolve(table, objects=objects))
    )


TAKE_LIST = watching.take_list


def release_at_once(draft):
    """Without LOOP-4: a key is reconciled again as soon as its requests are answered, whatever the
    view shows."""
    for item in sorted(draft.waiting):
        busy = draft.busy[item]
        draft.waiting = draft.waiting.delete(item)
        del draft.busy[item]
        if busy.due:
            draft.make_due(item)


@pytest.mark.parametrize(
    ("pattern", "function", "mistake"),
    [("skip", "take_list", keep_deleted_objects), ("lag", "release", release_at_once)],
)
def test_sim_6_sim_7_a_mistake_is_found(monkeypatch, pattern, function, mistake):
    """A relist that keeps deleted objects, and a decision that does not wait for its own writes,
    are found by some place of the pattern."""
    monkeypatch.setattr(turn, function, mistake)
    base = patterns.begin(SETUP, STORY)
    rule, _, trials = patterns.PATTERNS[pattern]
    of_pods = (
        trial
        for trial in trials(base)
        if "controller-manager" in trial.words and trial.words.endswith("/core/pods/")
    )
    assert base.run.broken or any(
        patterns.judge_trial(base, trial, rule).broken for trial in of_pods
    )


STORY = (
    scenario_of((creation(codec.from_tree(Deployment, deployment("web", 2))),))
    + SCENARIOS["web"]().story[3:]
)


def test_sim_7_the_command_counts_its_trials_and_ends_with_the_line_that_all_runs_end_with(
    tmp_path,
):
    path = tmp_path / "one.yaml"
    path.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: one}}\n")
    done = CliRunner().invoke(main, ["sim", "--pattern", "skip", str(path)])
    assert done.exit_code == 0, done.output
    first, verdict, last = done.stdout.splitlines()
    assert (
        first.startswith("skip: ")
        and "changes unheard of, each ends as the undisturbed run" in first
    )
    assert verdict.startswith("every rule held: ")
    assert last.startswith("seed 0 steps ") and " digest " in last
