"""What the commands that check have in common: bad use, and counts in words."""

from collections import Counter
from pathlib import Path


class BadUse(Exception):
    """What is wrong with what the user asked for, in one line."""


def check_place(save: str | None) -> None:
    """BadUse where a file could not be written: found before anything has run, not when there is something to lose."""
    if save is not None and not Path(save).absolute().parent.is_dir():
        raise BadUse(f"{save} cannot be written: there is no such folder")


def counts(counter: "Counter[str]") -> str:
    """Each name with its number, in the order of names."""
    return ", ".join(f"{name} {counter[name]}" for name in sorted(counter))
