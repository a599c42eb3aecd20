"""Logs a warning only once, although the operation that causes it is retried."""

import logging
from collections.abc import Callable

log = logging.getLogger("refk8s")


class WarnOnce:
    """Passes each distinct text to `warn` once."""

    def __init__(self, warn: Callable[[str], None] = log.warning) -> None:
        self._warn = warn
        self._given: set[str] = set()

    def __call__(self, words: str) -> None:
        if words not in self._given:
            self._given.add(words)
            self._warn(words)
