"""The museum (spec/museum.md): every real bug that is made again is found, by the rule that it breaks; without it nothing is."""

import museum.exhibit as museum
import pytest


@pytest.mark.parametrize("name", museum.names())
def test_a_real_bug_is_found_by_the_rule_that_it_breaks_and_the_core_as_it_is_keeps_that_rule(name):
    exhibit = museum.load(name)
    found = exhibit.search()
    assert found.wrong, f"{name} is not found"
    assert exhibit.breaks_its_rule(found), f"{name} ought to break {exhibit.rule}, and what was found is: {found.wrong}"
    assert not (clean := exhibit.finder.search(found)).wrong, f"{name}: {clean.wrong} is found without the bug"
