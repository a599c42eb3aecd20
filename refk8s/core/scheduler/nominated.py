"""Nominated pods, and the snapshots in which their room counts as used. Rule SCHED-37
(spec/scheduler.md).

For a pod of priority p the nominated pods of priority p and above count. Each such snapshot is
updated with the decisions of a batch, so a further decision costs O(1), whatever the number of
nominations.
"""

from collections.abc import Mapping

from refk8s.core.loop.plan import Key
from refk8s.core.scheduler.snapshot import PodInfo, Snapshot
from refk8s.core.value import Value


class Nomination(Value, frozen=True, eq=False):
    """A pod that waits until its victims have ended. Until it is bound, the room counts as used for
    pods of its priority or lower (SCHED-37)."""

    pod: PodInfo
    node: str
    victims: tuple[PodInfo, ...] = ()


class Nominated:
    """The working snapshot and the nominations, while decisions are made."""

    def __init__(self, working: Snapshot, nominations: Mapping[Key, Nomination]) -> None:
        self.working = working
        self.nominations = dict(nominations.items())
        self._on: dict[str, dict[Key, None]] = {}  # keys by node
        for key, nomination in self.nominations.items():
            self._on.setdefault(nomination.node, {})[key] = None
        self._bases: dict[int, Snapshot] = {}  # with the nominated pods, by priority

    def base(self, priority: int) -> Snapshot:
        """The snapshot for pods of this priority that are not nominated. O(nominations) at the
        first use of a priority."""
        if not self.nominations:
            return self.working
        base = self._bases.get(priority)
        if base is None:
            base = self.working
            for key in sorted(self.nominations):
                base = _with(base, self.nominations[key], priority)
            self._bases[priority] = base
        return base

    def around(self, pod: PodInfo) -> Snapshot:
        """The snapshot for this pod: its own nomination does not count. O(1)."""
        base = self.base(pod.priority)
        own = self.nominations.get(key_of_info(pod))
        return _without(base, own) if own is not None and own.pod.uid == pod.uid else base

    def keys_on(self, node: str) -> list[Key]:
        """The pods that are nominated for this node, sorted."""
        return sorted(self._on.get(node, ()))

    def nominate(self, key: Key, nomination: Nomination) -> None:
        """Replace the nomination of this pod."""
        self.remove(key)
        self.nominations[key] = nomination
        self._on.setdefault(nomination.node, {})[key] = None
        for priority, base in self._bases.items():
            self._bases[priority] = _with(base, nomination, priority)

    def remove(self, key: Key) -> None:
        """Remove the nomination of this pod, if it has one."""
        old = self.nominations.pop(key, None)
        if old is not None:
            del self._on[old.node][key]
            for priority, base in self._bases.items():
                if old.pod.uid not in self.working.load(old.node).pods:
                    self._bases[priority] = _without(base, old)

    def place(self, pod: PodInfo, node: str) -> None:
        """The pod is decided for this node, and no longer nominated. O(priorities)."""
        self.remove(key_of_info(pod))
        self.working = self.working.with_load(node, self.working.load(node).plus(pod))
        for priority, base in self._bases.items():
            self._bases[priority] = base.with_load(node, base.load(node).plus(pod))


def _with(snapshot: Snapshot, nomination: Nomination, priority: int) -> Snapshot:
    load = snapshot.load(nomination.node)
    if nomination.pod.priority < priority or nomination.pod.uid in load.pods:
        return snapshot
    return snapshot.with_load(nomination.node, load.plus(nomination.pod))


def _without(snapshot: Snapshot, nomination: Nomination) -> Snapshot:
    load = snapshot.load(nomination.node)
    if nomination.pod.uid not in load.pods:
        return snapshot
    return snapshot.with_load(nomination.node, load.minus(nomination.pod))


def key_of_info(pod: PodInfo) -> Key:
    """The key of the pod."""
    return f"{pod.namespace}/{pod.name}"
