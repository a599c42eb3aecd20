"""The simulator (spec/simulation.md): the same run twice, faults within budgets, and a cluster that
comes to rest after all of them."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.checking import actions_file
from refk8s.checking.simulator.faults import FAULTS, BadFaults, Rate, parse_faults
from refk8s.checking.simulator.ready import Ready
from refk8s.checking.simulator.scenario import BadManifest, default_manifests, read_manifests
from refk8s.checking.simulator.script import Fairly, Order
from refk8s.checking.simulator.simulate import Setup, replay, simulate
from refk8s.checking.story import story_of
from refk8s.cli.main import main
from refk8s.core.actions import Crash, Delay, Disturb, Skew, Submit
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.kubelet import sync_pod
from refk8s.core.ports import RunPodSandbox

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = read_manifests(default_manifests())


def a_run(seed, steps=400, **more):
    return simulate(Setup(seed=seed, steps=steps, requests=REQUESTS, **more))


@given(st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_sim_3_sim_4_whatever_failed_what_was_wanted_comes_true_and_then_there_is_silence(seed):
    """SIM-3, SIM-4."""
    run = a_run(seed, 1_000)
    assert not run.broken, f"{run.broken[0]} (refk8s sim --seed {seed} --steps 1000)"


@given(st.integers(0, 2**32), st.integers(1, 2))
@settings(max_examples=4, deadline=None)
def test_sim_1_the_actions_of_a_run_give_the_run_again_from_a_file_too(
    tmp_path_factory, seed, instances
):
    run = a_run(seed, instances=instances)
    path = tmp_path_factory.mktemp("runs") / "a.run"
    actions_file.write(path, run.setup, run.actions)
    setup, actions = actions_file.read(path)
    assert actions == run.actions
    assert replay(setup, actions, is_whole=False).digest.hexdigest() == run.digest.hexdigest()


def test_sim_1_the_same_words_give_the_same_last_line_in_any_process():
    lines = set()
    for seed in ("1", "77"):
        command = [sys.executable, "-m", "refk8s.cli.main", "sim", "--seed", "5", "--steps", "800"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        lines.add(done.stdout.splitlines()[-1])
    [line] = lines
    assert line == a_run(5, 800).last_line
    assert line.startswith("seed 5 steps 800 virtual ") and len(line.rsplit(" ", 1)[1]) == 64


@given(st.integers(0, 2**32), st.integers(2, 3))
@settings(max_examples=4, deadline=None)
def test_sim_11_elect_9_several_instances_keep_every_rule_and_one_of_each_leads(seed, instances):
    run = a_run(seed, 1_000, instances=instances)
    assert not run.broken, (
        f"{run.broken[0]} (refk8s sim --seed {seed} --steps 1000 --instances {instances})"
    )
    assert set(run.elected) == {"kube-controller-manager", "kube-scheduler"}
    assert run.tested["ELECT-4"] and run.tested["ELECT-5"] and run.tested["ELECT-9"]


def test_sim_11_sometimes_leaders_change():
    elected = Counter()
    for seed in range(3):
        elected += a_run(seed, 900, instances=2, faults={"down": Rate(0.01, 9)}).elected
    assert min(elected.values()) > 3


rates = st.builds(Rate, st.floats(0, 0.02), st.integers(0, 4))


@given(st.dictionaries(st.sampled_from(sorted(FAULTS)), rates, max_size=4), st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_sim_2_no_fault_strikes_beyond_its_budget_or_unasked(faults, seed):
    run = a_run(seed, faults=faults)
    assert all(run.faults[name] <= faults[name].budget for name in run.faults) and set(
        run.faults
    ) <= set(faults)


def test_sim_2_every_fault_finds_something_to_strike():
    struck = Counter()
    for seed in range(6):
        struck += a_run(seed, 900, faults={name: Rate(0.01, 5) for name in FAULTS}).faults
    assert set(FAULTS) == set(struck), f"never made: {sorted(set(FAULTS) - set(struck))}"


def test_sim_1_what_a_run_did_not_find_is_left_out_when_it_is_replayed():
    run = a_run(3, 200)
    shorter = [action for action in run.actions if not isinstance(action, Crash)][::2]
    assert len(replay(run.setup, shorter, is_whole=False).actions) <= len(shorter)


@given(st.integers(0, 2**32))
@settings(max_examples=3, deadline=None)
def test_cluster_4_what_is_ready_is_what_is_enabled(seed):
    """Ready keeps up to date, step by step, what `enabled` computes afresh (CLUSTER-4)."""
    often = {name: Rate(min(4 * rate.chance, 0.05), 99) for name, (_, rate) in FAULTS.items()}
    run, ready = a_run(seed, 500, faults=often), None
    cluster = run.setup.first_cluster()
    for action in run.actions:
        ready = ready or Ready(cluster)
        assert ready.actions(cluster) == list(enabled(cluster))
        before, cluster = cluster, step(cluster, action)
        ready.took(before, action, cluster)


KUBELET = "kubelet/node-2"
CLOCK_SET_BACK = (
    *map(Submit, REQUESTS),
    Fairly(500),
    Disturb(KUBELET, "container dies", "0"),
    Skew(KUBELET, -102 * SECOND),
)
MET = {
    "KUBELET-20: whoever need not wait waited until a clock that was set back had caught up, and had no back-off to name": CLOCK_SET_BACK,
    "NODE-2: nodes were taken for silent by a clock that had jumped, their kubelets denied it, and so on without end": (
        Fairly(223), Skew("kube-controller-manager", 165 * SECOND),
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", MET)
def test_sim_3_sim_8_what_runs_have_found_before(words):
    """Short runs, as the simulator left them, that broke a rule (KUBELET-20, NODE-2)."""
    run = replay(Setup(nodes=2 if KUBELET in str(MET[words]) else 1, apiservers=1), MET[words])
    assert not run.broken, run.broken


@given(st.integers(0, 40), st.integers(1, 60), st.booleans())
@settings(max_examples=8, deadline=None)
def test_cluster_13_a_sandbox_that_a_dead_kubelet_asked_for_comes_late_and_is_the_only_one(
    others, seconds, dies
):
    """CLUSTER-13, KUBELET-2: found by simulation, two live sandboxes of one pod."""
    run = replay(Setup(nodes=1, apiservers=1), [Submit(REQUESTS[2])], is_whole=False)
    order, kubelet = Order(), "kubelet/node-1"

    def go_on(until):
        while not run.broken and not until():
            run.take(order.next_action(run.cluster, run.ready))

    def asked():
        return [
            c for c, p in run.cluster.operations.items() if isinstance(p.operation, RunPodSandbox)
        ]

    go_on(asked)
    [channel] = asked()
    run.take(Delay(channel, run.cluster.now + seconds * SECOND))
    run.take(Crash(kubelet))
    order = Order()
    start = run.cluster.now
    go_on(lambda: run.cluster.now > start + others * SECOND)
    if dies:
        run.take(Disturb(kubelet, "pause container dies", "0"))
    order = Order()
    go_on(lambda: run.cluster.now > start + 150 * SECOND)
    assert not run.broken, run.broken
    [pod] = run.cluster.worlds[kubelet].pods.values()
    assert [sandbox.ready for sandbox in pod.sandboxes] == [True]


def wait_for_the_clock(backoff, finished_at):
    """The first of these mistakes, grosser: nobody is restarted within a minute, and the first time
    there is no back-off to name."""
    return finished_at + 60 * SECOND


def test_sim_9_sim_10_what_breaks_a_rule_is_told_in_few_words_and_replayed_by_one_command(
    monkeypatch, tmp_path
):
    """A mistake is found in a run of some hundred actions, and shrinks to the few that matter."""
    monkeypatch.setattr(sync_pod, "restart_at", wait_for_the_clock)
    path = tmp_path / "short.run"
    faults = "container=0.02:50,skew=0.01:50,lag=0.01:9,crash=0.01:9"
    found = CliRunner().invoke(
        main, ["sim", "--steps", "800", "--runs", "9", "--faults", faults, "--save", str(path)]
    )
    assert found.exit_code == 1, found.output
    lines = found.output.splitlines()
    assert lines[-1].startswith("seed ") and lines[-2] == f"replay it:  refk8s sim --replay {path}"
    setup, script = actions_file.read(path)
    assert len(script) <= 8, script

    told = CliRunner().invoke(main, ["sim", "--replay", str(path)])
    assert told.exit_code == 1
    story = told.output
    assert re.search(r"user creates Deployment default/\w+  \[revision ", story)
    assert "because no ReplicaSet has this template  [revision " in story
    assert "container dies" in story and "has exited with code 137" in story
    assert (
        "SIM-8 is broken." in story
        and "spec/simulation.md: SIM-8 (inv) No step raises an exception" in story
    )
    assert story.splitlines()[-1] == replay(setup, script).last_line


@given(st.integers(0, 2**32))
@settings(max_examples=4, deadline=None)
def test_sim_10_every_write_is_told_with_what_its_author_had_not_seen(seed):
    """Told of any run: a revision stands once, in order, and nobody had read what was not written
    yet."""
    run = a_run(seed, 500)
    lines = story_of(run.setup.first_cluster(), run.actions[:900])
    revisions = [int(number) for line in lines for number in re.findall(r"\[revision (\d+)", line)]
    assert revisions == sorted(set(revisions)) and len(revisions) > 5
    for line in lines:
        for read, newest in re.findall(r"[A-Z]\w+ (\d+) of (\d+)", line.partition("[revision")[2]):
            assert int(read) < int(newest) < int(re.search(r"\[revision (\d+)", line)[1])
    quiet = story_of(run.setup.first_cluster(), [Fairly(300)])
    assert not any("--" in line for line in quiet)


@pytest.mark.parametrize("words", ["no-such", "crash=often", "crash=2", "crash=0.1:-1", ""])
def test_sim_2_faults_that_nobody_knows_are_named(words):
    with pytest.raises(BadFaults):
        parse_faults(words)


@pytest.mark.parametrize(
    ("documents", "words"),
    [([{"kind": "Pod"}], "apiVersion"), ([[1]], "apiVersion"), ([{"apiVersion": "v9", "kind": "Pod"}], "not served"),
     ([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 5}}], "Pod")],
)  # fmt: skip
def test_manifests_that_make_no_sense_are_named(documents, words):
    with pytest.raises(BadManifest, match=words):
        read_manifests(documents)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--faults", "x"],
        ["--replay", "/does/not/exist"],
        ["/does/not/exist.yaml"],
        ["--steps", "-1"],
        ["--nodes", "0"],
    ],
)
def test_bad_use_is_one_line_and_status_2(arguments):
    done = CliRunner().invoke(main, ["sim", *arguments])
    assert done.exit_code == 2
    assert len(done.output.strip().splitlines()) == 1


REFUSED = """apiVersion: v1
kind: Pod
metadata: {name: X_bad}
spec: {containers: []}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [(REFUSED, "the API server refuses Pod X_bad"), ("", "has no object"),
     ("apiVersion: v1\nkind: Pod\nmetadata: hello\n", "metadata must be a map"),
     ("apiVersion: v1\nkind: List\nitems: 3\n", "the items of a List must be a list")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_ends_in_one_line_before_anything_runs(tmp_path, text, words):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for more in ([], ["--pattern", "skip"]):
        done = CliRunner().invoke(main, ["sim", str(path), *more])
        assert (
            done.exit_code == 2
            and words in done.output
            and len(done.output.strip().splitlines()) == 1
        )


def test_sim_1_a_run_that_cannot_happen_any_more_is_not_called_held(tmp_path):
    path = tmp_path / "a.run"
    actions_file.write(path, Setup(), [Crash("nobody")])
    done = CliRunner().invoke(main, ["sim", "--replay", str(path)])
    assert done.exit_code == 3 and "1 of 1 entries are no longer possible" in done.output
    path.write_text(
        path.read_text().replace('["Crash", "nobody"]', '["Crash", {"component": "nobody"}]')
    )
    assert CliRunner().invoke(main, ["sim", "--replay", str(path)]).exit_code == 2


def test_a_place_that_cannot_be_written_is_named_before_anything_runs():
    for command in (["sim"], ["explore", "garbage"]):
        done = CliRunner().invoke(main, [*command, "--save", "/does/not/exist/a.run"])
        assert done.exit_code == 2 and "cannot be written" in done.output


def test_sim_10_a_run_without_a_fault_ends_with_what_was_put_to_the_test(monkeypatch):
    """The verdict stands before the last line, with rules by name; where nobody looks at a bar,
    lines say how far it is."""
    from refk8s.cli import sim

    monkeypatch.setattr(sim, "PROGRESS_SECONDS", 0.0)
    told = CliRunner().invoke(main, ["sim", "--seed", "5", "--steps", "300"])
    assert told.exit_code == 0, told.output
    lines = told.stdout.splitlines()
    run = a_run(5, 300)
    assert lines[-1] == run.last_line
    assert (
        lines[-2].startswith("every rule held: ")
        and f"{run.tested.total():,} times in all" in lines[-2]
    )
    [titled] = [line for line in lines if line.startswith("    CLUSTER-2 ")]
    assert titled.split()[1] == f"{run.tested['CLUSTER-2']:,}" and len(titled.split()) > 4
    numbers = [line.split()[0] for line in lines if line.startswith("    ")]
    assert len(numbers) == len(run.tested) and numbers.index("STORE-5") < numbers.index("STORE-11")
    assert any(
        line.startswith("simulating: ") and line.endswith(" of 300 actions")
        for line in told.stderr.splitlines()
    )
