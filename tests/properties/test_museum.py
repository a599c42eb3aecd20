"""The museum (spec/evidence/museum.md): every real bug that is made again is found, by the rule
that it breaks; without it nothing is."""

import subprocess
import sys
from pathlib import Path

import museum.exhibit as museum
import pytest

WAYS = [
    (name, number) for name in museum.names() for number, _ in enumerate(museum.load(name).ways)
]


@pytest.mark.parametrize(
    "name,number", WAYS, ids=[f"{name}-{number}" if number else name for name, number in WAYS]
)
def test_a_real_bug_is_found_by_the_rule_that_it_breaks_and_the_core_as_it_is_keeps_that_rule(
    name, number
):
    exhibit = museum.load(name)
    way = exhibit.ways[number]
    found = exhibit.search(way)
    assert found.wrong, f"{name} is not found"
    assert way.is_right(found), (
        f"{name} ought to break {way.rule}, and what was found is: {found.wrong}"
    )
    assert not (clean := way.finder.search(found)).wrong, (
        f"{name}: {clean.wrong} is found without the bug"
    )


def test_the_page_tells_of_every_exhibit_as_it_is():
    tool = Path(__file__).parents[2] / "tools" / "museum.py"
    assert (
        subprocess.run([sys.executable, str(tool), "--check"], capture_output=True).returncode == 0
    ), "run tools/museum.py"
