"""The engine's event stream: the cluster's containers that end or are started elsewhere.

Rule RT-2. One thread reads the events and reconnects.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine, Refused, Unreachable

log = logging.getLogger("refk8s")

BACKOFF_SECONDS = 0.1
BACKOFF_SECONDS_MAX = 5.0


class EventStream:
    """Follows the engine's events. `on_event(action, id, labels)` and `reconnected()` are called in
    this thread."""

    def __init__(
        self,
        connect: Callable[[], Engine],
        cluster: str,
        on_event: Callable[[str, str, dict[str, str]], None],
        reconnected: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._cluster = cluster
        self._on_event = on_event
        self._reconnected = reconnected
        self._closed = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow, name="refk8s-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop reading events; no function is called afterwards."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def _follow(self) -> None:
        delay = BACKOFF_SECONDS
        lost = False
        filters = {
            "type": ["container"],
            "label": [f"{labels.CLUSTER}={self._cluster}"],
            "event": ["die", "start"],
        }
        while not self._closed.is_set():
            try:
                self._stream = self._connect().stream(
                    lambda api: api.events(filters=filters, decode=True)
                )
                if lost:
                    log.warning("the engine answers again")
                lost, delay = False, BACKOFF_SECONDS
                self._reconnected()  # Earlier events may have been missed.
                for event in self._stream:
                    actor = event.get("Actor") or {}
                    self._on_event(
                        event.get("Action", ""), actor.get("ID", ""), actor.get("Attributes") or {}
                    )
            except (Unreachable, Refused, OSError, ValueError) as error:
                if not lost and not self._closed.is_set():
                    log.warning("the engine does not tell of its containers any more: %s", error)
                lost = True
            except Exception as error:  # The library passes on whatever its sockets raise.
                if not self._closed.is_set():
                    log.warning("the engine's events ended: %s", error)
                lost = True
            if self._closed.wait(delay):
                return
            delay = min(2 * delay, BACKOFF_SECONDS_MAX)
