"""Nodes are annotated with how long kubelets may cache Secrets and ConfigMaps. Rule TTL-2
(spec/workloads/ttl.md).

Source: the behaviour of upstream's ttl controller; API reference, annotation
`node.alpha.kubernetes.io/ttl`. Left out: nothing.
"""

from typing import Any

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES
from refk8s.core.context import Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View, key_of

ANNOTATION = "node.alpha.kubernetes.io/ttl"
BOUNDARIES = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 10000, 300), (9000, 2**31 - 1, 600))  # fmt: skip
"""(with fewer nodes the shorter time holds, with more the longer one, seconds). The numbers of two
neighbours overlap, so a cluster at a boundary does not change all its nodes again and again."""

Size = tuple[int, int]
"""The number of nodes, and the position in BOUNDARIES."""


def fold_size(size: Size, resource: Any, old: Node | None, new: Node | None) -> Size:
    """The size of the cluster after a change of a Node. O(1)."""
    count, position = size
    count += (new is not None) - (old is not None)
    while count > BOUNDARIES[position][1]:
        position += 1
    while count < BOUNDARIES[position][0]:
        position -= 1
    return count, position


def _wanted(view: View) -> str:
    return str(BOUNDARIES[view.fold("node_ttl")[1]][2])


def _keys(view: View, old: Node | None, new: Node | None) -> tuple[Key, ...]:
    """The Node, if its annotation is wrong."""
    if new is None or (new.metadata.annotations or {}).get(ANNOTATION) == _wanted(view):
        return ()
    return (key_of(new),)


class NodeTTL(Reconciler):
    """Reconciles one Node."""

    name = component = "ttl-controller"
    interests = (Interest(NODES, _keys),)
    folds = (Fold("node_ttl", (NODES,), (0, 0), fold_size),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Annotate the Node (TTL-2)."""
        # Observe
        node: Node | None = view.get(NODES, key)
        if node is None or node.metadata.deletion_timestamp is not None:
            return NOTHING

        # Decide
        wanted = _wanted(view)
        metadata = node.metadata
        if (metadata.annotations or {}).get(ANNOTATION) == wanted:
            return NOTHING

        # Act
        document = {"metadata": {"uid": metadata.uid, "annotations": {ANNOTATION: wanted}}}
        body = Patch("application/strategic-merge-patch+json", document)
        because = f"number of nodes in the cluster: {view.fold('node_ttl')[0]}"
        return Plan(
            ((Request("patch", NODES, "", metadata.name or "", body=body, because=because),),)
        )
