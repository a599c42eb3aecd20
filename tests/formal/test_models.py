"""The models of spec/formal with Quint: types, invariants, what comes true, and the ties to the
core both ways. See spec/formal/README.md.

Needs Quint: `npm ci` in spec/formal. HYPOTHESIS_PROFILE=nightly draws more and from a fresh seed,
FORMAL_SEED repeats one.
"""

import os
import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import quint
import recorded
import tie
from planting import planted, planted_model
from twins import TWINS


class Effort(NamedTuple):
    seed: int
    samples: int  # random runs of the model
    steps: int  # of each
    traces: int  # of them replayed
    settlings: int  # random runs to the end
    histories: int  # random runs of the core


IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SEED = int(os.environ.get("FORMAL_SEED", 0)) or (
    random.SystemRandom().randrange(1, 2**31) if IS_NIGHTLY else 1
)
EFFORT = Effort(SEED, 2_000, 40, 300, 300, 200) if IS_NIGHTLY else Effort(SEED, 60, 30, 40, 10, 8)
SMALL = Effort(1, 24, 25, 24, 0, 6)  # enough to meet a planted bug
HUNT = 400  # runs at most, until an invariant breaks

MODEL_BUGS = [
    pytest.param(twin, bug, id=f"{twin.model}: {bug.name}")
    for twin in TWINS.values()
    for bug in twin.model_bugs
]


def file_of(model: str) -> Path:
    return quint.MODELS / f"{model}.qnt"


def histories_of(twin: Any, effort: Effort) -> list[tie.History]:
    return [
        tie.walk(twin, effort.seed * 1_000_003 + number, effort.steps)
        for number in range(effort.histories)
    ]


def test_the_models_type_check(tmp_path: Path) -> None:
    for model in TWINS:
        shutil.copy(file_of(model), tmp_path)
    everything = tmp_path / "everything.qnt"
    everything.write_text(
        "module everything {\n"
        + "".join(f'  import {model} from "./{model}"\n' for model in TWINS)
        + "}\n"
    )
    done = quint.typecheck(everything)
    assert done.ok, done.words


@pytest.mark.parametrize("model", TWINS)
def test_the_invariants_hold_and_every_run_of_the_model_is_one_of_the_core(
    model: str, tmp_path: Path
) -> None:
    twin = TWINS[model]
    simulation = quint.simulate(
        file_of(model),
        tmp_path,
        EFFORT.seed,
        EFFORT.samples,
        EFFORT.steps,
        EFFORT.traces,
        witnesses=twin.witnesses,
    )
    assert simulation.ok, f"seed {EFFORT.seed}:\n{simulation.words}"
    unmet = [name for name in twin.witnesses if not simulation.witnesses.get(name)]
    assert not unmet, (
        f"seed {EFFORT.seed}: no run met {unmet}: an invariant that is never put to the "
        "test says nothing"
    )
    assert simulation.traces
    for number, trace in enumerate(quint.decode(simulation.traces)):
        assert (wrong := tie.replay(twin, trace)) is None, (
            f"seed {EFFORT.seed}, trace {number}: {wrong}"
        )
    if os.environ.get("REFK8S_RECORD"):
        recorded.write(twin, simulation.traces)
    if not IS_NIGHTLY and EFFORT.seed == 1:
        left = [
            line
            for line in recorded.path_of(model).read_text().splitlines()
            if line not in simulation.traces
        ]
        assert not left, (
            "the recorded traces are not the model's any more: "
            "REFK8S_RECORD=1 pytest tests/formal/test_models.py"
        )


@pytest.mark.parametrize("model", TWINS)
def test_every_history_of_the_core_is_a_run_of_the_model_and_what_is_to_come_true_comes_true(
    model: str, tmp_path: Path
) -> None:
    twin, bug = TWINS[model], TWINS[model].core_bugs[0]
    good = histories_of(twin, EFFORT)
    with planted(bug.function, bug.old, bug.new):
        bad = histories_of(twin, SMALL)
    verdicts, tested = tie.judge(twin, file_of(model), good + bad, tmp_path, EFFORT.settlings)
    for number, wrong in enumerate(verdicts[: len(good)]):
        assert wrong is None, f"seed {EFFORT.seed}, history {number}: {wrong}"
    assert any(verdicts[len(good) :]), f"a core in which {bug.name} passes for a good one"
    settlings = {
        name: result for name, result in tested.items() if not name.startswith(tie.HISTORY)
    }
    assert settlings, "the model says nothing of what comes true"
    assert all(settlings.values()), f"seed {EFFORT.seed}: {settlings}"


@pytest.mark.parametrize(("twin", "bug"), MODEL_BUGS)
def test_a_run_of_a_model_with_a_bug_is_no_run_of_the_core(
    twin: Any, bug: tie.ModelBug, tmp_path: Path
) -> None:
    model = planted_model(file_of(twin.model), bug.old, bug.new, tmp_path)
    invariant, samples = ("safe", HUNT) if bug.unsafe else ("true", SMALL.samples)
    simulation = quint.simulate(
        model, tmp_path, SMALL.seed, samples, SMALL.steps, SMALL.traces, invariant=invariant
    )
    assert simulation.ok != bug.unsafe, simulation.words
    assert any(tie.replay(twin, trace) for trace in quint.decode(simulation.traces)), bug.name


@pytest.mark.parametrize("model", TWINS)
def test_a_history_of_the_core_is_no_run_of_a_model_with_a_bug(model: str, tmp_path: Path) -> None:
    twin, bug = TWINS[model], TWINS[model].model_bugs[0]
    wrong_model = planted_model(file_of(model), bug.old, bug.new, tmp_path)
    verdicts, _ = tie.judge(twin, wrong_model, histories_of(twin, SMALL), tmp_path, 1)
    assert any(verdicts), bug.name
