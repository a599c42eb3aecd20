"""The values that one reconciliation of a Deployment observes and decides. Rule DEP-3
(spec/workloads/deployment.md)."""

from collections.abc import Sequence

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.controllers import revision as revisions
from refk8s.core.controllers.rollout import Bounds, Member, Sizes, compute_bounds
from refk8s.core.value import Value, field


class Observed(Value, frozen=True, eq=False):
    """A Deployment and its ReplicaSets as the view shows them."""

    deployment: Deployment
    bounds: Bounds
    new: ReplicaSet | None  # the oldest one with the Deployment's template
    old: list[ReplicaSet]  # the others, the oldest first
    revision: int  # the least revision that the new one may have

    @property
    def all(self) -> list[ReplicaSet]:
        return self.old if self.new is None else [*self.old, self.new]

    @property
    def active(self) -> list[ReplicaSet]:
        return [rs for rs in self.all if rs.spec.replicas]

    @property
    def latest(self) -> ReplicaSet | None:
        """The new ReplicaSet, or else the youngest old one."""
        return self.new if self.new is not None else self.old[-1] if self.old else None

    @property
    def is_terminating(self) -> bool:
        return self.deployment.metadata.deletion_timestamp is not None


class Decision(Value, frozen=True):
    """One step: new sizes by ReplicaSet name, and why; or the size of a new ReplicaSet."""

    sizes: Sizes = field(default_factory=dict)
    because: str = ""
    create: int | None = None
    is_rollout: bool = True  # whether the condition Progressing is computed
    clean: bool = False  # whether old ReplicaSets beyond the history limit are deleted


def observe(deployment: Deployment, owned: Sequence[ReplicaSet]) -> Observed:
    """Separate the new ReplicaSet from the old ones (DEP-3)."""
    new = revisions.find_new(deployment, owned)
    old = revisions.by_age(rs for rs in owned if rs is not new)
    return Observed(
        deployment, compute_bounds(deployment.spec), new, old, revisions.next_revision(old)
    )


def member(rs: ReplicaSet) -> Member:
    """The ReplicaSet as `rollout.py` needs it."""
    metadata = rs.metadata
    return Member(
        name=metadata.name or "",
        replicas=rs.spec.replicas or 0,
        available=rs.status.available_replicas or 0,
        created_at=metadata.creation_timestamp or "",
        max_replicas_before=revisions.whole_number(metadata.annotations, revisions.MAX_REPLICAS),
    )
