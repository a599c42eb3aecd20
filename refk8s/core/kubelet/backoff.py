"""Back-off: the wait before an attempt is repeated. Rules KUBELET-20, KUBELET-21 (spec/kubelet.md).

Restarts and image pulls of a container have separate back-offs: 10 s, doubled each time, at most
300 s. A container that ran for more than 10 minutes since its last restart starts again at 10 s.
The first restart does not wait. Source: Kubernetes documentation, "Pod Lifecycle" (container
restarts) and "Images" (ImagePullBackOff). Left out: jitter, which upstream adds to neither of the
two.
"""

from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.value import Value

BACKOFF_FIRST: Instant = 10 * SECOND
BACKOFF_MAX: Instant = 300 * SECOND
BACKOFF_RESET_AFTER: Instant = 2 * BACKOFF_MAX
"""A container that exits so long after its last restart ran well: the back-off is reset."""

assert BACKOFF_RESET_AFTER == 10 * MINUTE


class Backoff(Value, frozen=True):
    """The current wait, and the instant of the last attempt."""

    delay: Instant
    tried_at: Instant


def restart_at(backoff: Backoff | None, finished_at: Instant) -> Instant:
    """When a container that exited at `finished_at` may be restarted (KUBELET-20).

    0: at once, whatever the clock shows.
    """
    if backoff is None or finished_at - backoff.tried_at > BACKOFF_RESET_AFTER:
        return 0
    return finished_at + backoff.delay


def restarted(backoff: Backoff | None, finished_at: Instant, now: Instant) -> Backoff:
    """The back-off after a restart at `now` of a container that exited at `finished_at`.

    10 s at first, then twice the last.
    """
    if backoff is None or finished_at - backoff.tried_at > BACKOFF_RESET_AFTER:
        return Backoff(BACKOFF_FIRST, now)
    return Backoff(min(2 * backoff.delay, BACKOFF_MAX), now)


def pull_at(backoff: Backoff | None) -> Instant:
    """When an image may be pulled again after a failure (KUBELET-21)."""
    return 0 if backoff is None else backoff.tried_at + backoff.delay


def pull_failed(backoff: Backoff | None, now: Instant) -> Backoff:
    """The back-off after a failed pull: 10 s, then twice the last.

    It is reset when the last failure is long past.
    """
    if backoff is None or now - backoff.tried_at > BACKOFF_RESET_AFTER:
        return Backoff(BACKOFF_FIRST, now)
    return Backoff(min(2 * backoff.delay, BACKOFF_MAX), now)
