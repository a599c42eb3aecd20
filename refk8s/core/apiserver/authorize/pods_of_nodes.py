"""Which objects the pods of each node refer to. Rule NAUTH-2 (spec/authorization.md)."""

from typing import Any

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Pod
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.pods.references import MIRROR_ANNOTATION, references
from refk8s.core.store import Compacted

_PODS = resources.PODS.prefix

Edge = tuple[str, str, str, str]
"""Node, plural of the resource, namespace and name of an object."""


class PodsOfNodes:
    """Counts the references from the pods of a node to an object. It reads the pods of a store
    once, and then their changes; most changes of a pod change no reference and cost nothing."""

    def __init__(self) -> None:
        self._store: Reader | None = None
        self._revision = -1
        self._seen = -1
        self._counts: dict[Edge, int] = {}

    def refer(self, node: str, plural: str, namespace: str, name: str, store: Reader) -> bool:
        """Whether a pod of the node refers to this object. O(1 + changed pods)."""
        self._refresh(store)
        return (node, plural, namespace, name) in self._counts

    def _refresh(self, store: Reader) -> None:
        if store is self._store and store.revision == self._revision:
            return
        newest = store.prefix_revision(_PODS)
        try:
            if store is not self._store:
                raise Compacted(0)
            if newest != self._seen:
                for change in store.changes(_PODS, self._seen):
                    self._change(change.previous, change.record)
        except Compacted:
            self._store, self._counts = store, {}
            for record in store.list(_PODS).records:
                self._change(None, record)
        self._seen, self._revision = newest, store.revision

    def _change(self, before: Any, after: Any) -> None:
        old = None if before is None else before.value
        new = None if after is None else after.value
        if old is not None and new is not None and _refers_alike(old, new):
            return
        for pod, step in ((old, -1), (new, 1)):
            if pod is None:
                continue
            for edge in _edges(pod):
                count = self._counts.get(edge, 0) + step
                if count:
                    self._counts[edge] = count
                else:
                    del self._counts[edge]


def _refers_alike(old: Pod, new: Pod) -> bool:
    """Whether both have the same references: a status has none but those of generated claims."""
    if (old.spec is not new.spec and old.spec != new.spec) or _is_mirror(old) != _is_mirror(new):
        return False
    if not new.spec or not new.spec.resource_claims:
        return True
    return (old.status and old.status.resource_claim_statuses) == (
        new.status and new.status.resource_claim_statuses
    )


def _is_mirror(pod: Pod) -> bool:
    return MIRROR_ANNOTATION in (pod.metadata.annotations or {})


def _edges(pod: Pod) -> list[Edge]:
    node = pod.spec.node_name if pod.spec is not None else None
    if not node or _is_mirror(pod):
        return []
    namespace = pod.metadata.namespace or ""
    return [(node, plural, namespace, name) for plural, name in references(pod)]
