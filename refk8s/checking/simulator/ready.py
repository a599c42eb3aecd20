"""What can happen next, kept up to date step by step: the same list as `happenings` of
refk8s/core/cluster/step.py, at a fraction of its cost.

Most of that cost is asking every open watch whether something has been written that it has not
told. A step changes the answer for few of them: those of a resource that was written, and the one
that told something. So only these are asked again.
"""

from refk8s.core.actions import (
    Action,
    Answer,
    Arrive,
    CatchUp,
    Channel,
    Elapse,
    Notify,
    Operate,
    Start,
    Wake,
)
from refk8s.core.cluster.enabled import is_behind, is_held, is_operable, upcoming
from refk8s.core.cluster.state import Cluster
from refk8s.core.store import resource_prefix


class Ready:
    """Follows one run. Every step must be told (`took`)."""

    def __init__(self, cluster: Cluster) -> None:
        self._survey(cluster)

    def _survey(self, cluster: Cluster) -> None:
        self._watchers: dict[str, list[Channel]] = {}
        self._behind: set[Channel] = set()
        for channel in cluster.watches:
            self._meet(cluster, channel)

    def _meet(self, cluster: Cluster, channel: Channel) -> None:
        self._watchers.setdefault(
            resource_prefix(cluster.watches[channel].stream.prefix), []
        ).append(channel)
        self._ask(cluster, channel)

    def took(self, before: Cluster, action: Action, after: Cluster) -> None:
        """Take in a step."""
        more = len(after.watches) - len(before.watches)
        if more == 1 and isinstance(action, Arrive) and action.flying in after.watches:
            self._meet(after, action.flying)
        elif (
            more
            or after.caches is not before.caches
            or after.history.compacted != before.history.compacted
        ):
            self._survey(after)
            return
        if isinstance(action, Notify):
            self._ask(after, action.watch)
        if after.last_commit is not None:
            for change in after.last_commit.changes:
                for channel in self._watchers.get(resource_prefix(change.key), ()):
                    self._ask(after, channel)

    def _ask(self, cluster: Cluster, channel: Channel) -> None:
        if is_behind(cluster, channel, cluster.watches[channel]):
            self._behind.add(channel)
        else:
            self._behind.discard(channel)

    def actions(self, cluster: Cluster) -> list[Action]:
        """What can happen, in the order of `enabled`; where nothing else can, that time passes."""
        held, now = cluster.held, cluster.now
        found: list[Action] = []
        for channel, flying in sorted(cluster.flying.items(), key=_channel):
            if not (held and is_held(cluster, channel)):
                found.append(Arrive(channel) if flying.answer is None else Answer(channel))
        found += [
            Notify(channel)
            for channel in sorted(self._behind)
            if not (held and is_held(cluster, channel))
        ]
        if cluster.operations:
            found += [
                Operate(channel)
                for channel in sorted(cluster.operations)
                if is_operable(cluster, channel)
            ]
        turns: list[tuple[str, Action]] = []
        for name, component in cluster.components.items():
            if component.back_at is not None:
                if component.back_at <= now:
                    turns.append((name, Start(name)))
            elif component.wake_at is not None and component.wake_at <= now:
                turns.append((name, Wake(name)))
        found += [action for _, action in sorted(turns, key=_name)]
        if cluster.caches:
            found += [
                CatchUp(server)
                for server in sorted(cluster.caches)
                if cluster.caches[server].until <= now
            ]
        if not found and (instant := upcoming(cluster)) is not None:
            found.append(Elapse(instant))
        return found


def _channel(entry: tuple[Channel, object]) -> Channel:
    return entry[0]


def _name(entry: tuple[str, Action]) -> str:
    return entry[0]
