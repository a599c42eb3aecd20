"""The arithmetic of a rollout: how large each ReplicaSet of a Deployment shall be. Rules DEP-6 to
DEP-9 (spec/workloads/deployment.md).

Plain numbers in, plain numbers out: a function here knows sizes and bounds and neither views nor
requests. A result names only those ReplicaSets that are to be touched.

    bounds          how many more than asked may exist, how many fewer may be available
    grow            the new ReplicaSet, as far as the surge leaves room
    shrink          the old ones: first what is not available anyway, then as far as availability leaves room
    spread          all of them in proportion, when the Deployment was scaled in the middle of a rollout

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
    """One ReplicaSet as the arithmetic sees it."""

    name: str
    replicas: int  # asked for
    available: int = 0  # as its status says
    created_at: str = ""
    # replicas + surge of the Deployment when this size was set
    max_replicas_before: int | None = None

    @property
    def sure(self) -> int:
        """How many stay available while it has this size. Its status may still count pods that it
        has been told to give up."""
        return min(self.replicas, self.available)


class Bounds(Value, frozen=True):
    """How many pods in all and how many available ones a Deployment asks for."""

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
    """The bounds of a Deployment (DEP-6): the surge rounds up, what may be unavailable rounds down;
    both nothing would be no way forward.

    Outside a rolling update nothing may exceed, and nothing is missed.
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
    """The count or percentage, never below zero; the default share where there is none, or a string
    that is no percentage."""
    try:
        return max(
            0, scaled(DEFAULT_SHARE if value is None else value, replicas, round_up=round_up)
        )
    except IntOrStringError:
        # Validation refuses it; a Deployment that is stored all the same goes on with the default.
        return max(0, scaled(DEFAULT_SHARE, replicas, round_up=round_up))


def total(members: Iterable[Member]) -> int:
    """How many pods they ask for."""
    return sum(member.replicas for member in members)


def grow(bounds: Bounds, new: Member, old: Sequence[Member]) -> int:
    """The size of the new ReplicaSet: as large as asked, as far as all together stay within the
    surge (DEP-7). Never smaller than it is, unless it is larger than asked."""
    if new.replicas >= bounds.replicas:
        return bounds.replicas
    room = bounds.most - new.replicas - total(old)
    return new.replicas + max(0, min(room, bounds.replicas - new.replicas))


def shrink(bounds: Bounds, new: Member, old: Sequence[Member]) -> Sizes:
    """Smaller sizes for the old ReplicaSets (oldest first), as far as enough pods stay available
    (DEP-8).

    The new ReplicaSet's pods that are not available yet count as missing, so that they cannot be an
    excuse to go on shrinking. What is not available goes first: it would only stand in the way.
    """
    spare = total(old) + new.sure - bounds.fewest_available
    sizes: Sizes = {}
    if spare <= 0:
        return sizes
    left = {member.name: member.replicas for member in old}
    for member in old:
        dead = min(left[member.name] - member.sure, spare)
        if dead > 0:
            left[member.name] -= dead
            spare -= dead
            sizes[member.name] = left[member.name]
    spare = new.sure + sum(member.sure for member in old) - bounds.fewest_available
    for member in old:
        given = min(left[member.name], spare)
        if given > 0:
            left[member.name] -= given
            spare -= given
            sizes[member.name] = left[member.name]
    return sizes


def spread(bounds: Bounds, members: Sequence[Member], status_replicas: int) -> Sizes:
    """Sizes in proportion after scaling in the middle of a rollout (DEP-9): each keeps its share,
    roundings go to the largest.

    The members all have pods. Growing favours the newer among equals, shrinking the older.
    `status_replicas` (how many pods there are) stands in for what the whole was, where a member
    does not know it. The sum is exactly what is allowed, unless the largest would have to go below
    nothing to make up for roundings.
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
    """How many pods more (or fewer) keep the member's share of the whole."""
    if bounds.replicas == 0:
        return -member.replicas
    before = member.max_replicas_before or status_replicas
    if before <= 0:
        return 0
    return _rounded(member.replicas * bounds.most, before) - member.replicas


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, halves away from zero; both are positive."""
    return (2 * numerator + denominator) // (2 * denominator)
