"""Warnings that are logged the first time only, about what stays as it is while it is tried again."""

import logging
from collections.abc import Callable

log = logging.getLogger("refk8s")


class WarnOnce:
    """Gives each text to `warn` the first time."""

    def __init__(self, warn: Callable[[str], None] = log.warning) -> None:
        self._warn = warn
        self._given: set[str] = set()

    def __call__(self, words: str) -> None:
        if words not in self._given:
            self._given.add(words)
            self._warn(words)
