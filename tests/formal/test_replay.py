"""The core follows the models: recorded traces of spec/formal, replayed. Needs no Quint;
test_models.py draws fresh ones."""

import re
from typing import Any

import pytest
import recorded
import tie
from quint import MODELS
from twins import TWINS

BUGS = [
    pytest.param(twin, bug, id=f"{twin.model}: {bug.name}")
    for twin in TWINS.values()
    for bug in twin.core_bugs
]


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


def test_models_stand_in_their_readme_and_on_the_pages_of_the_rules_that_they_name() -> None:
    readme = (MODELS / "README.md").read_text()
    headings = {
        path: set(re.findall(r"^### ([A-Z]+-\d+) ", path.read_text(), re.MULTILINE))
        for path in MODELS.parent.rglob("*.md")
    }
    models = sorted(MODELS.glob("*.qnt"))
    assert [path.stem for path in models] == sorted(TWINS), "every model has a twin"
    for path in models:
        named = set(re.findall(r"\b([A-Z]+-\d+)\b", path.read_text()))
        unknown = named - set().union(*headings.values())
        assert not unknown, f"{path.name} names rules that no page has: {sorted(unknown)}"
        assert f"({path.name})" in readme, f"{path.name} is not in spec/formal/README.md"
        assert any(
            f"formal/{path.name})" in page.read_text()
            for page, rules in headings.items()
            if rules & named
        ), f"no page with rules of {path.name} links to it"
