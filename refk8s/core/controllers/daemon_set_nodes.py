"""Which nodes a DaemonSet's pods run on, and the pod of a node. Rules DS-2 to DS-4
(spec/workloads/daemon_set.md).

    node                                     gets a pod    keeps its pod
    not matched by the pod's node affinity   -             -
    untolerated taint NoExecute              -             -
    untolerated taint NoSchedule             -             keeps
    any other                                gets          keeps

Source: Kubernetes documentation, "DaemonSet" (How Daemon Pods are scheduled; Taints and
tolerations).
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import DaemonSet
from refk8s.core.api.core_v1 import (
    Affinity,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    Toleration,
)
from refk8s.core.api.integer import int64
from refk8s.core.controllers.controller_revisions import REVISION_HASH
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.pods.node_affinity import NAME_FIELD, matches_node, required_terms
from refk8s.core.pods.template import pod_from_template
from refk8s.core.pods.tolerations import EXISTS, NO_EXECUTE, NO_SCHEDULE, is_tolerated
from refk8s.core.value import Value

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"

_TOLERATED = (
    ("not-ready", NO_EXECUTE),
    ("unreachable", NO_EXECUTE),
    ("disk-pressure", NO_SCHEDULE),
    ("memory-pressure", NO_SCHEDULE),
    ("pid-pressure", NO_SCHEDULE),
    ("unschedulable", NO_SCHEDULE),
)
_TOLERATED_ON_HOST_NETWORK = ("network-unavailable", NO_SCHEDULE)


class Fit(Value, frozen=True):
    """Whether a node gets a pod, and whether it keeps one."""

    gets: bool
    keeps: bool


NO_FIT = Fit(False, False)


def compute_tolerations(daemon_set: DaemonSet) -> tuple[Toleration, ...]:
    """The tolerations of the template, and those that every daemon pod has (DS-3)."""
    spec = daemon_set.spec.template.spec
    present = spec.tolerations or ()
    wanted = (*_TOLERATED, *((_TOLERATED_ON_HOST_NETWORK,) if spec.host_network else ()))
    added = [
        Toleration(key=f"node.kubernetes.io/{name}", operator=EXISTS, effect=effect)
        for name, effect in wanted
    ]
    return (*present, *[one for one in added if one not in present])


def compute_fit(daemon_set: DaemonSet, tolerations: Iterable[Toleration], node: Node) -> Fit:
    """The row of the table above for this node (DS-2). O(taints * tolerations)."""
    name = node.metadata.name or ""
    spec = daemon_set.spec.template.spec
    if spec.node_name and spec.node_name != name:
        return NO_FIT
    if not matches_node(spec, node.metadata.labels or {}, name):
        return NO_FIT
    untolerated = [
        taint.effect
        for taint in (node.spec.taints if node.spec is not None else None) or ()
        if taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not is_tolerated(taint, tolerations)
    ]
    return Fit(not untolerated, NO_EXECUTE not in untolerated)


def is_alike(one: Node, other: Node) -> bool:
    """Whether two states of a node are the same for every DaemonSet. Most changes are
    heartbeats."""
    return one.metadata.labels == other.metadata.labels and (
        one.spec is other.spec
        or (one.spec and one.spec.taints) == (other.spec and other.spec.taints)
    )


def target_node(pod: Pod) -> str:
    """The node of a pod, or the one to which its node affinity pins it; empty without one."""
    if pod.spec.node_name:
        return pod.spec.node_name
    for term in required_terms(pod.spec.affinity) or ():
        for field in term.match_fields or ():
            if field.key == NAME_FIELD and field.operator == "In" and len(field.values or ()) == 1:
                return field.values[0]  # type: ignore[index]
    return ""


def template_generation(daemon_set: DaemonSet) -> str:
    """The counter of the template in the set's annotation; empty if it is no number."""
    text = (daemon_set.metadata.annotations or {}).get(TEMPLATE_GENERATION, "")
    number = int64(text)
    return "" if number is None else str(number)


def new_pod(
    daemon_set: DaemonSet, tolerations: tuple[Toleration, ...], hash: str, node: str
) -> Pod:
    """The pod for this node (DS-3, DS-4)."""
    pod = pod_from_template(daemon_set.spec.template, controller_reference(daemon_set))
    labels = {**(pod.metadata.labels or {}), REVISION_HASH: hash}
    generation = template_generation(daemon_set)
    if generation:
        labels[GENERATION_LABEL] = generation
    spec = replace(pod.spec, tolerations=tolerations, affinity=pinned(pod.spec.affinity, node))
    return replace(pod, metadata=replace(pod.metadata, labels=labels), spec=spec)


def pinned(affinity: Affinity | None, node: str) -> Affinity:
    """The affinity with a required node affinity for this node, in place of the template's, which
    the node satisfies already (DS-4)."""
    name = NodeSelectorRequirement(key=NAME_FIELD, operator="In", values=(node,))
    required = NodeSelector(node_selector_terms=(NodeSelectorTerm(match_fields=(name,)),))
    of_nodes = (affinity.node_affinity if affinity is not None else None) or NodeAffinity()
    return replace(
        affinity or Affinity(),
        node_affinity=replace(
            of_nodes, required_during_scheduling_ignored_during_execution=required
        ),
    )


def is_updated(pod: Any, hash: str, generation: str) -> bool:
    """Whether the pod has the template of the set: by the hash of its revision, or by the counter
    of templates."""
    labels = pod.metadata.labels or {}
    return labels.get(REVISION_HASH) == hash or bool(
        generation and labels.get(GENERATION_LABEL) == generation
    )
