"""When a client that knows several API servers checks the one in use, and when it leaves it. Rule
CLIENT-17 (spec/client.md).

Source: Kubernetes documentation, "Kubernetes API health endpoints". Load balancers before API
servers check `/readyz` every few seconds too, and leave a server after two or three failures.
"""

from typing import Final, NamedTuple

CHECK_SECONDS: Final = 10.0
SUSPECT_SECONDS: Final = 1.0  # between checks of a server that may not be ready
FAILURES_MAX: Final = 3  # in a row, after which another server is looked for
UNREADY_CODE: Final = 500  # and above


class Readiness(NamedTuple):
    """What is known of the server in use."""

    checked_at: float = 0.0  # when the last check began, in seconds
    failures: int = 0  # of checks in a row
    is_suspect: bool = False  # whether a request has failed since the last check


def after_answer(state: Readiness, code: int) -> Readiness:
    """After a request to the server was answered with this code; 0: not at all."""
    return state._replace(is_suspect=True) if not 0 < code < UNREADY_CODE else state


def is_due(state: Readiness, now: float) -> bool:
    """Whether the server is to be checked. Once another one has been looked for in vain, all are
    checked at the slower rate."""
    is_soon = (state.is_suspect or state.failures > 0) and state.failures < FAILURES_MAX
    return now - state.checked_at >= (SUSPECT_SECONDS if is_soon else CHECK_SECONDS)


def after_check(state: Readiness, began: float, is_ready: bool) -> Readiness:
    """After a check that began then."""
    failures = 0 if is_ready else min(state.failures + 1, FAILURES_MAX)
    return Readiness(began, failures)


def is_to_be_left(state: Readiness) -> bool:
    """Whether a server that is ready is used instead, if there is one."""
    return state.failures >= FAILURES_MAX
