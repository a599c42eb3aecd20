"""What `sim` and `explore` share: usage errors, and counts as text."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from refk8s.checking.story import titles


class BadUse(Exception):
    """A usage error, in one line."""


def check_place(save: str | None) -> None:
    """Raise BadUse before the run if its file could not be written."""
    if save is not None and not Path(save).absolute().parent.is_dir():
        raise BadUse(f"{save} cannot be written: there is no such folder")


def counts(counter: "Counter[str]") -> str:
    """Each name with its count, by name."""
    return ", ".join(f"{name} {counter[name]}" for name in sorted(counter))


def tested_rules(counter: "Counter[str]") -> list[str]:
    """One line for each tested rule: how often, and its title."""
    width = max((len(rule) for rule in counter), default=0)
    often = max((len(f"{count:,}") for count in counter.values()), default=0)
    return [
        f"    {rule:<{width}} {counter[rule]:>{often},}  {titles().get(rule, '')}".rstrip()
        for rule in by_number(counter)
    ]


def by_number(rules: Iterable[str]) -> list[str]:
    """Rules by prefix, and those of one prefix by number: RS-2 before RS-10."""
    return sorted(rules, key=lambda rule: (rule.rpartition("-")[0], int(rule.rpartition("-")[2])))


def verdict(tested: "Counter[str]", every: set[str]) -> str:
    """The line if no rule broke: how many rules were tested, and which were not."""
    missing = by_number(every - set(tested))
    tests, count = tested.total(), len(every) - len(missing)
    words = f"every rule held: {count} of {len(every)} rules were tested, {tests:,} times in all"
    return words + (f"; not {', '.join(missing)}" if 0 < len(missing) <= MISSING_NAMED else "")


MISSING_NAMED = 12
