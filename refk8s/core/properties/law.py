"""What a law is (see laws.py, which has them all)."""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.value import Value


class Law(Value, frozen=True, eq=False):
    """A rule of spec/ and the predicate that judges by it; `prefix` says which changes it is asked about (all, where it is empty)."""

    rule: str
    check: Callable[..., Iterable[str] | None]
    prefix: str = ""


class Broken(Value, frozen=True):
    """A rule that did not hold, and how."""

    rule: str
    words: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.words.removeprefix(self.rule + ': ')}"


def objects(cluster: Any, prefix: str) -> list[Any]:
    """What the store holds below this prefix, in the order of keys."""
    return [record.value for record in cluster.history.list(prefix).records]
