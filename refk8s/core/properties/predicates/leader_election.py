"""Predicates of leader election. Rules ELECT-1, ELECT-4, ELECT-5 (spec/leader_election.md).

They read the Lease as it is stored, and not the state of an elector.
"""

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.context import Instant, parse_timestamp

TRANSITIONS_MAX = 2**31 - 1


def elect_1_the_holder_is_recorded(old: LeaseSpec | None, new: LeaseSpec) -> list[str]:
    """ELECT-1: what an instance wrote into the Lease, after `old` (None: it was created)."""
    wrong: list[str] = []
    before, after = (old.holder_identity if old else None) or "", new.holder_identity or ""
    transitions = (old.lease_transitions if old else None) or 0
    if old is None:
        expected = 0
    elif after in ("", before):
        expected = transitions
    else:
        expected = min(transitions + 1, TRANSITIONS_MAX)
    if new.lease_transitions != expected:
        wrong.append(
            f"the holder was {before!r} and is {after!r}, "
            f"and leaseTransitions {new.lease_transitions}"
        )
    if new.renew_time is None or new.acquire_time is None or not new.lease_duration_seconds:
        wrong.append("a time of the Lease is missing")
    elif after == before and after and old is not None and new.acquire_time != old.acquire_time:
        wrong.append(f"{after} renews the Lease with another acquireTime")
    elif after != before and new.acquire_time != new.renew_time:
        wrong.append(f"{after or '(none)'} acquires the Lease with an acquireTime of the past")
    return wrong


def elect_4_the_lease_has_not_ended(
    identity: str, lease: Lease | None, renew_deadline: Instant, now: Instant
) -> list[str]:
    """ELECT-4: the renew deadline has not passed since the last renewal. `now`: by its own
    clock."""
    if lease is None or lease.spec.holder_identity != identity or not lease.spec.renew_time:
        return []
    late = now - parse_timestamp(lease.spec.renew_time) - renew_deadline
    return [f"{identity} acts {late} us after its lease has ended"] if late >= 0 else []


def elect_5_the_lease_names_it(identity: str, lease: Lease | None) -> list[str]:
    """ELECT-5: the stored Lease names the instance that acts."""
    holder = (lease.spec.holder_identity if lease is not None else None) or ""
    return [f"{identity} acts, and the holder of the Lease is {holder or '(none)'}"] * (
        holder != identity
    )
