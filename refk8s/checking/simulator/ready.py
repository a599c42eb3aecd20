"""The enabled actions, computed incrementally: faster than refk8s/core/cluster/enabled.py.

`enabled` spends most of its time on finding the watches that have changes to deliver. A step
changes this only for the watches of a written resource and for the watch that delivered, so only
these are examined again. For all other actions, `enabled` is called.
"""

from refk8s.core.actions import Action, Arrive, Channel, Notify
from refk8s.core.cluster.enabled import enabled, is_behind
from refk8s.core.cluster.state import Cluster
from refk8s.core.store import resource_prefix


class Ready:
    """The enabled actions of one run. Every step must be passed to `took`."""

    def __init__(self, cluster: Cluster) -> None:
        self._survey(cluster)

    def _survey(self, cluster: Cluster) -> None:
        self._watchers: dict[str, list[Channel]] = {}
        self._behind: set[Channel] = set()
        for channel in cluster.watches:
            self._add(cluster, channel)

    def _add(self, cluster: Cluster, channel: Channel) -> None:
        self._watchers.setdefault(
            resource_prefix(cluster.watches[channel].stream.prefix), []
        ).append(channel)
        self._examine(cluster, channel)

    def took(self, before: Cluster, action: Action, after: Cluster) -> None:
        """Update after a step of the run."""
        more = len(after.watches) - len(before.watches)
        if more == 1 and isinstance(action, Arrive) and action.flying in after.watches:
            self._add(after, action.flying)
        elif (
            more
            or after.caches is not before.caches
            or after.history.compacted != before.history.compacted
        ):
            self._survey(after)
            return
        if isinstance(action, Notify):
            self._examine(after, action.watch)
        if after.last_commit is not None:
            for change in after.last_commit.changes:
                for channel in self._watchers.get(resource_prefix(change.key), ()):
                    self._examine(after, channel)

    def _examine(self, cluster: Cluster, channel: Channel) -> None:
        if is_behind(cluster, channel, cluster.watches[channel]):
            self._behind.add(channel)
        else:
            self._behind.discard(channel)

    def actions(self, cluster: Cluster) -> list[Action]:
        """The enabled actions: the same as `enabled`."""
        return list(enabled(cluster, sorted(self._behind)))
