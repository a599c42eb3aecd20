"""All claims of one pod, for volumes and for devices, while it is decided. Rules SCHED-40, SCHED-41
(spec/scheduler.md), DRA-4 (spec/devices.md).

The refusals of volumes count before the filters that depend on other pods, those of devices after
them, as the order of the plugins is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from immutables import Map

from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import View
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.reasons import CLAIM_FREED, CLAIMS_KEPT, NO_CLAIMS, Refusal
from refk8s.core.scheduler.snapshot import Load, PodInfo, Snapshot
from refk8s.core.scheduler.volumes import Volumes, volumes_of

if TYPE_CHECKING:
    from refk8s.core.scheduler.claims import Devices, InFlight, Kept

PLUGIN = "DynamicResources"


class Claimed:
    """What the claims of a pod mean for the nodes of one snapshot; results are kept by node."""

    def __init__(
        self,
        volumes: Volumes | None,
        devices: Devices | None,
        snapshot: Snapshot | None,
        frees: bool = True,
    ) -> None:
        self.volumes, self.devices, self._snapshot = volumes, devices, snapshot
        self._frees = frees
        self._early: dict[str, Refusal | None] = {}

    @property
    def blocked(self) -> str:
        """Why the pod can run on no node; empty if it can."""
        blocked = self.volumes.blocked if self.volumes is not None else ""
        return blocked or (self.devices.blocked if self.devices is not None else "")

    @property
    def is_about_devices(self) -> bool:
        """Whether that is because of its devices."""
        return self.volumes is None or not self.volumes.blocked

    def __bool__(self) -> bool:
        return self.volumes is not None or self.devices is not None

    def early(self, name: str) -> Refusal | None:
        """The refusal because of volumes (SCHED-41, SCHED-44)."""
        if self.volumes is None or self._snapshot is None:
            return None
        if name not in self._early:
            facts = self._snapshot.nodes[name]
            self._early[name] = self.volumes.refusal(facts, self._snapshot.load(name))
        return self._early[name]

    def late(self, name: str) -> Refusal | None:
        """The refusal because of devices (DRA-4)."""
        if self.devices is None or self._snapshot is None:
            return None
        return self.devices.refusal(self._snapshot.nodes[name])

    def refusal(self, name: str) -> Refusal | None:
        """The refusal because of any claim."""
        return self.early(name) or self.late(name)

    def refusal_with(self, name: str, load: Load) -> Refusal | None:
        """The refusal because of any claim, if the node had this load (SCHED-35)."""
        if self.volumes is not None and self._snapshot is not None:
            early = self.volumes.refusal(self._snapshot.nodes[name], load)
            if early is not None:
                return early
        return self.late(name)

    def points(self, names: Any) -> dict[str, int]:
        """DRA-10: the points of these nodes; empty if the claims do not matter to them."""
        if self.devices is None or self._snapshot is None:
            return {}
        return self.devices.points([self._snapshot.nodes[name] for name in names])

    @property
    def outcome(self) -> str:
        """What the message says about the claims of a pod that no node can run (DRA-11)."""
        if not self._frees:
            return ""
        if self.devices is None or not self.devices.claims:
            return NO_CLAIMS
        return CLAIM_FREED if self.devices.releasable() else CLAIMS_KEPT

    @property
    def release(self) -> tuple[Key, ...]:
        """The claims to free for the pod, which no node can run (DRA-11)."""
        return self.devices.releasable() if self.devices is not None and self._frees else ()


NOTHING_CLAIMED = Claimed(None, None, None)
_NOTHING_FREED = Claimed(None, None, None, frees=False)

ClaimsOf = Callable[[PodInfo, Snapshot, Any], Claimed]
"""The claims of a pod on a snapshot, with the allocations that are decided."""


def claimed_by(
    view: View,
    pod: PodInfo,
    profile: Profile,
    snapshot: Snapshot,
    in_flight: Map[Key, InFlight] | None = None,
    kept: Kept | None = None,
) -> Claimed:
    """The claims of the pod, for the filters of its profile. O(its claims)."""
    volumes = volumes_of(view, pod, profile.filters) if pod.claims else None
    devices = None
    if (pod.devices or pod.needs.backed) and PLUGIN in profile.filters:
        # imported here: most clusters have no devices
        from refk8s.core.scheduler.claims import Devices, Kept

        decided = Map() if in_flight is None else in_flight
        devices = Devices(view, pod, decided, kept or Kept(), len(snapshot.nodes))
    if volumes is None and devices is None:
        return NOTHING_CLAIMED if profile.frees_claims else _NOTHING_FREED
    return Claimed(volumes, devices, snapshot, profile.frees_claims)
