"""The arithmetic of a rollout: the size of each ReplicaSet of a Deployment. Rules DEP-6 to DEP-9
(spec/workloads/deployment.md).

The functions compute sizes from sizes and bounds; they use neither views nor requests. A result
contains only the ReplicaSets whose size changes.

    bounds    at most replicas + maxSurge pods, at least replicas - maxUnavailable available
    grow      scale the new ReplicaSet up, within the surge
    shrink    scale the old ones down: first unavailable pods, then within the second bound
    spread    scale all in proportion, when spec.replicas changed during a rollout

Source: Kubernetes documentation, "Deployments" ("Rolling Update Deployment", "Proportional
scaling").
"""

from collections.abc import Iterable, Sequence

from refk8s.core.api.apps_v1 import DeploymentSpec
from refk8s.core.api.intstr import IntOrStringError, scaled
from refk8s.core.value import Value

RECREATE, ROLLING_UPDATE = "Recreate", "RollingUpdate"
DEFAULT_SHARE = "25%"

Sizes = dict[str, int]
"""New sizes by ReplicaSet name."""


class Member(Value, frozen=True):
    """The numbers of one ReplicaSet."""

    name: str
    replicas: int  # spec.replicas
    available: int = 0  # status.availableReplicas
    created_at: str = ""
    # replicas + maxSurge of the Deployment when this size was set
    max_replicas_before: int | None = None

    @property
    def surely_available(self) -> int:
        """How many pods stay available with this size. The status may still count pods that will be
        deleted."""
        return min(self.replicas, self.available)


class Bounds(Value, frozen=True):
    """The replicas of a Deployment, and how far a rollout may deviate from them."""

    replicas: int
    max_surge: int
    max_unavailable: int

    @property
    def most(self) -> int:
        return self.replicas + self.max_surge

    @property
    def fewest_available(self) -> int:
        return self.replicas - self.max_unavailable


def compute_bounds(spec: DeploymentSpec) -> Bounds:
    """The bounds of a Deployment (DEP-6). Percentages of maxSurge are rounded up, of maxUnavailable
    down; if both are 0, one pod may be unavailable. With Recreate both are 0.
    """
    replicas = 1 if spec.replicas is None else spec.replicas
    if spec.strategy.type == RECREATE:
        return Bounds(replicas, 0, 0)
    parameters = spec.strategy.rolling_update
    surge = parameters.max_surge if parameters is not None else None
    unavailable = parameters.max_unavailable if parameters is not None else None
    max_surge = _share_of(surge, replicas, round_up=True)
    max_unavailable = _share_of(unavailable, replicas, round_up=False)
    if max_surge == 0 and max_unavailable == 0:
        max_unavailable = 1
    return Bounds(replicas, max_surge, min(max_unavailable, replicas))


def _share_of(value: int | str | None, replicas: int, *, round_up: bool) -> int:
    """The count or percentage, at least 0; the default if it is absent or not a percentage."""
    try:
        return max(
            0, scaled(DEFAULT_SHARE if value is None else value, replicas, round_up=round_up)
        )
    except IntOrStringError:
        # LOOP-12: validation rejects it, but an older version may have stored it.
        return max(0, scaled(DEFAULT_SHARE, replicas, round_up=round_up))


def total(members: Iterable[Member]) -> int:
    """The sum of their replicas."""
    return sum(member.replicas for member in members)


def grow(bounds: Bounds, new: Member, old: Sequence[Member]) -> int:
    """The size of the new ReplicaSet: `replicas`, as far as the sum stays within the surge (DEP-7).
    It is scaled down only if it is larger than `replicas`."""
    if new.replicas >= bounds.replicas:
        return bounds.replicas
    room = bounds.most - new.replicas - total(old)
    return new.replicas + max(0, min(room, bounds.replicas - new.replicas))


def shrink(bounds: Bounds, new: Member, old: Sequence[Member]) -> Sizes:
    """Smaller sizes for the old ReplicaSets (oldest first), as far as enough pods stay available
    (DEP-8).

    Unavailable pods of the new ReplicaSet count as missing. Unavailable pods of the old ones are
    deleted first, because that costs no availability.
    """
    spare = total(old) + new.surely_available - bounds.fewest_available
    sizes: Sizes = {}
    if spare <= 0:
        return sizes
    left = {member.name: member.replicas for member in old}
    for member in old:
        unavailable = min(left[member.name] - member.surely_available, spare)
        if unavailable > 0:
            left[member.name] -= unavailable
            spare -= unavailable
            sizes[member.name] = left[member.name]
    spare = (
        new.surely_available
        + sum(member.surely_available for member in old)
        - bounds.fewest_available
    )
    for member in old:
        given = min(left[member.name], spare)
        if given > 0:
            left[member.name] -= given
            spare -= given
            sizes[member.name] = left[member.name]
    return sizes


def spread(bounds: Bounds, members: Sequence[Member], status_replicas: int) -> Sizes:
    """Sizes in proportion after `spec.replicas` changed during a rollout (DEP-9). Each member keeps
    its share, and the largest gets the rounding difference.

    All members have replicas. Of equal ones, scaling up prefers the newer, scaling down the older.
    `status_replicas` is used as the former total for a member without that annotation. The sum is
    exactly the bound, unless the largest would become negative.
    """
    allowed = bounds.most if bounds.replicas > 0 else 0
    change = allowed - total(members)
    if change == 0:
        return {member.name: member.replicas for member in members}
    by_size = sorted(
        members, key=lambda member: (member.created_at, member.name), reverse=change > 0
    )
    by_size.sort(key=lambda member: -member.replicas)
    sizes: Sizes = {}
    left = change
    for member in by_size:
        share = _share(bounds, member, status_replicas)
        part = min(share, left) if change > 0 else max(share, left)
        part = part if left else 0
        sizes[member.name] = member.replicas + part
        left -= part
    largest = by_size[0].name
    sizes[largest] = max(0, sizes[largest] + left)
    return sizes


def _share(bounds: Bounds, member: Member, status_replicas: int) -> int:
    """The change (negative: fewer pods) that keeps the member's share of the total."""
    if bounds.replicas == 0:
        return -member.replicas
    before = member.max_replicas_before or status_replicas
    if before <= 0:
        return 0
    return _rounded(member.replicas * bounds.most, before) - member.replicas


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient of positive numbers, rounded half up."""
    return (2 * numerator + denominator) // (2 * denominator)
