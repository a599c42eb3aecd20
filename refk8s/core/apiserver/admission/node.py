"""A new node is tainted until the node controller has found it ready. Rule ADM-9
(spec/admission.md).

Source: Kubernetes documentation, "Taints and Tolerations" (taint based evictions;
TaintNodesByCondition).
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node, Taint
from refk8s.core.api.request import Request
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context

NOT_READY = "node.kubernetes.io/not-ready"


def admit_node(request: Request, new: Node, old: Any, store: Reader, context: Context) -> Node:
    """ADM-9: on create a node gets the taint not-ready:NoSchedule, which the node lifecycle
    controller removes."""
    taints = new.spec.taints or ()
    if old is not None or any(
        taint.key == NOT_READY and taint.effect == "NoSchedule" for taint in taints
    ):
        return new
    return replace(
        new, spec=replace(new.spec, taints=(*taints, Taint(key=NOT_READY, effect="NoSchedule")))
    )
