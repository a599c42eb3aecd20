"""Laws of steps: what components know, and what nodes run. Rules WATCH-1, WATCH-2, KUBELET-2, KUBELET-4."""

from collections.abc import Iterable
from typing import Any

from refk8s.core.actions import Action, Operate
from refk8s.core.cluster import Cluster
from refk8s.core.ports import ListPods, PodsListed
from refk8s.core.properties.kubelet import at_most_one_of_each
from refk8s.core.properties.law import Law
from refk8s.core.properties.watch import views_never_go_back


def no_view_goes_back(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """WATCH-2, of a step in which some component heard something."""
    return None if before.components is after.components else views_never_go_back(before, after)


def one_of_each_runs(before: Cluster, action: Action, after: Cluster) -> Iterable[str] | None:
    """KUBELET-2 and KUBELET-4, of a step in which a runtime did something."""
    if not isinstance(action, Operate) or before.worlds is after.worlds:
        return None
    return at_most_one_of_each(listed(after.worlds[action.operation[0]]))


def listed(world: Any) -> PodsListed:
    """All that a runtime has."""
    found: PodsListed = world.carry_out(ListPods(), 0, None)[1]
    return found


LAWS = (Law("WATCH-2", no_view_goes_back), Law("KUBELET-4", one_of_each_runs))
