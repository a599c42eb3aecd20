"""The core follows the models: recorded traces of spec/formal, replayed. Needs no Quint; test_models.py draws fresh ones."""

from typing import Any

import pytest
import recorded
import tie
from twins import TWINS

BUGS = [pytest.param(twin, bug, id=f"{twin.model}: {bug.name}") for twin in TWINS.values() for bug in twin.core_bugs]


@pytest.mark.parametrize("model", TWINS)
def test_recorded_traces_of_the_model_are_runs_of_the_core(model: str) -> None:
    traces = recorded.read(model)
    assert traces
    for number, trace in enumerate(traces):
        assert (wrong := tie.replay(TWINS[model], trace)) is None, f"trace {number}: {wrong}"


@pytest.mark.parametrize(("twin", "bug"), BUGS)
def test_a_bug_planted_in_the_core_breaks_the_tie(twin: Any, bug: tie.CoreBug) -> None:
    lines = recorded.path_of(twin.model).read_text().splitlines()
    assert any(recorded.is_met(twin, bug, line) for line in lines), "no trace tells the two apart"
