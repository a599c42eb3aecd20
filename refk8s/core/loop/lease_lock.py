"""The Lease of a leader election as a value: its fields, and which instance may write it. Rules
ELECT-1, ELECT-2, ELECT-11 (spec/leader_election.md).

Source: Kubernetes documentation, "Leases" and "Coordinated Leader Election" (the fields); client-go
documentation of leader election (when a candidate may acquire the Lease).
"""

from msgspec.structs import replace

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.context import MILLISECOND, SECOND, Instant, micro_timestamp
from refk8s.core.value import Value

JITTER_FACTOR = 1.2
TRANSITIONS_MAX = 2**31 - 1
SECONDS_MAX = 86_400


class BadElection(ValueError):
    """The configuration of a leader election is invalid; the message is the reason."""


class ElectionConfig(Value, frozen=True):
    """The Lease that instances compete for, and the times; the defaults are upstream's."""

    name: str
    namespace: str = "kube-system"
    lease_duration: Instant = 15 * SECOND
    renew_deadline: Instant = 10 * SECOND
    retry_period: Instant = 2 * SECOND

    def __post_init__(self) -> None:
        """ELECT-11."""
        if self.lease_duration % SECOND or not self.lease_duration >= SECOND:
            raise BadElection("the lease duration is a whole number of seconds, at least 1 s")
        if self.lease_duration > SECONDS_MAX * SECOND:
            raise BadElection(f"the lease duration is at most {SECONDS_MAX} s")
        if self.lease_duration <= self.renew_deadline:
            raise BadElection("the lease duration must be greater than the renew deadline")
        if self.retry_period < MILLISECOND:
            raise BadElection("the retry period is at least 1 ms")
        if self.renew_deadline <= JITTER_FACTOR * self.retry_period:
            raise BadElection(
                f"the renew deadline must be greater than {JITTER_FACTOR} times the retry period"
            )

    @property
    def request_timeout(self) -> Instant:
        """After so long a request of the election without a response counts as unknown
        (ELECT-3)."""
        return self.renew_deadline // 2


def holder_of(lease: Lease | None) -> str:
    """The identity of the holder; empty where the Lease is absent or released."""
    return (lease.spec.holder_identity or "") if lease is not None else ""


def may_acquire(lease: Lease, observed_at: Instant, identity: str, now: Instant) -> bool:
    """ELECT-2: whether this instance may write itself into the Lease.

    `observed_at` is the time of its own clock at which it saw the spec change.
    """
    if holder_of(lease) in ("", identity):
        return True
    return now >= observed_at + (lease.spec.lease_duration_seconds or 0) * SECOND


def acquired(lease: Lease | None, identity: str, config: ElectionConfig, now: Instant) -> Lease:
    """ELECT-1: the Lease as its next holder writes it, to acquire or to renew it."""
    metadata = ObjectMeta(name=config.name, namespace=config.namespace)
    acquire_time, transitions = micro_timestamp(now), 0
    if lease is not None:
        metadata, transitions = lease.metadata, lease.spec.lease_transitions or 0
        if holder_of(lease) == identity:
            acquire_time = lease.spec.acquire_time or acquire_time
        else:
            transitions = min(transitions + 1, TRANSITIONS_MAX)
    return Lease(
        metadata=metadata,
        spec=LeaseSpec(
            holder_identity=identity,
            lease_duration_seconds=config.lease_duration // SECOND,
            acquire_time=acquire_time,
            renew_time=micro_timestamp(now),
            lease_transitions=transitions,
        ),
    )


def released(lease: Lease, now: Instant) -> Lease:
    """ELECT-8: the Lease as its holder writes it at a clean stop."""
    spec = LeaseSpec(
        holder_identity="",
        lease_duration_seconds=1,
        acquire_time=micro_timestamp(now),
        renew_time=micro_timestamp(now),
        lease_transitions=lease.spec.lease_transitions or 0,
    )
    return replace(lease, spec=spec)
