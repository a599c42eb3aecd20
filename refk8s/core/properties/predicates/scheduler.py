"""Predicates of the scheduler, over pods and nodes in the API. Rules SCHED-1, SCHED-25, SCHED-28
(spec/scheduler.md).

This is a second implementation of the filters, as simple as possible and without the scheduler's
code. So these predicates check any scheduler, and the recorded history of any cluster. Each returns
a sentence for every way in which a rule is broken.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node, Pod, Taint
from refk8s.core.api.selector import from_label_selector
from refk8s.core.properties.oracle import (
    Amounts,
    amount,
    have_conflict,
    host_ports,
    requests,
    takes_room,
    term_matches,
    tolerates,
)


def _counted(pod: Pod, given: Mapping[str, str]) -> Amounts:
    """The requests of the pod that are counted on a node with these allocatable resources: without
    those for which it has devices of a claim instead (DRA-23)."""
    extended = pod.status.extended_resource_claim_status if pod.status else None
    as_devices = {one.resource_name for one in extended.request_mappings} if extended else set()
    return {
        name: much
        for name, much in requests(pod).items()
        if name not in as_devices or amount(name, given.get(name, "0"))
    }


def sched_1_no_node_over_capacity(nodes: Iterable[Node], pods: Iterable[Pod]) -> list[str]:
    """SCHED-1: the requests of the pods of a node fit its allocatable resources, and so does their
    number."""
    wrong = []
    by_node: dict[str, list[Pod]] = {}
    for pod in pods:
        if takes_room(pod):
            by_node.setdefault(pod.spec.node_name or "", []).append(pod)
    for node in nodes:
        there = by_node.get(node.metadata.name or "", [])
        given = (node.status.allocatable if node.status else None) or {}
        taken: Amounts = {"pods": len(there)}
        for pod in there:
            for name, much in _counted(pod, given).items():
                taken[name] = taken.get(name, 0) + much
        for name, much in sorted(taken.items()):
            if much > amount(name, given.get(name, "0")):
                wrong.append(
                    f"SCHED-1: node {node.metadata.name} has {given.get(name, 0)} {name}, "
                    f"and its pods request {much}"
                )
    return wrong


def sched_25_no_pod_moves(before: Mapping[str, Pod], after: Mapping[str, Pod]) -> list[str]:
    """SCHED-25: a pod that has a node keeps it. Both are pods by uid."""
    return [
        f"SCHED-25: pod {pod.metadata.name} went from node {pod.spec.node_name} to "
        f"{after[uid].spec.node_name}"
        for uid, pod in sorted(before.items())
        if pod.spec.node_name and uid in after and after[uid].spec.node_name != pod.spec.node_name
    ]


def sched_58_the_extender_let_it_pass(pod: Pod, rejects: Callable[[str, str], bool]) -> list[str]:
    """SCHED-58: the extender does not reject the pod's node. `rejects`: a pod's name and a
    node's."""
    name, node = pod.metadata.name or "", pod.spec.node_name or ""
    words = f"SCHED-58: pod {name} was bound to {node}, which its extender rejects"
    return [words] if rejects(name, node) else []


def sched_25_bound_once(old: Pod, new: Pod) -> Iterable[str]:
    """SCHED-25, for two versions of one pod: a node, once set, stays."""
    if old.spec.node_name and old.spec.node_name != new.spec.node_name:
        yield f"pod {new.metadata.name} went from node {old.spec.node_name} to {new.spec.node_name}"


def why_not(pod: Pod, node: Node, others: Iterable[Pod]) -> list[str]:
    """SCHED-28: every reason why the node cannot run the pod, with these other pods on it (SCHED-5
    to SCHED-9)."""
    others = list(others)
    wrong = []
    tolerations = pod.spec.tolerations or ()
    taints = list((node.spec.taints if node.spec else None) or ())
    if node.spec is not None and node.spec.unschedulable:
        taints.append(Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule"))
    for taint in taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not any(
            tolerates(toleration, taint) for toleration in tolerations
        ):
            wrong.append(
                f"SCHED-5/6: it does not tolerate {taint.key}={taint.value or ''}:{taint.effect}"
            )
    labels = node.metadata.labels or {}
    for key, text in sorted((pod.spec.node_selector or {}).items()):
        if labels.get(key) != text:
            wrong.append(f"SCHED-7: the node is not labelled {key}={text}")
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if required is not None and not any(
        term_matches(term, labels, node.metadata.name or "")
        for term in required.node_selector_terms
    ):
        wrong.append("SCHED-7: no term of the required node affinity matches")
    theirs = [port for other in others for port in host_ports(other)]
    for port in host_ports(pod):
        if have_conflict([port], theirs):
            wrong.append(f"SCHED-8: host port {port[0]}/{port[1]} is taken")
    given = (node.status.allocatable if node.status else None) or {}
    if len(others) + 1 > amount("pods", given.get("pods", "0")):
        wrong.append("SCHED-9: too many pods")
    for name, much in sorted(_counted(pod, given).items()):
        taken = sum(requests(other).get(name, 0) for other in others)
        if much and taken + much > amount(name, given.get(name, "0")):
            wrong.append(
                f"SCHED-9: it requests {much} {name}, and of {given.get(name, 0)} are {taken} taken"
            )
    return wrong


# --- filters that depend on other pods ------------------------------------------------------------


def why_not_among(
    pod: Pod,
    node: Node,
    nodes: Sequence[Node],
    pods: Iterable[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Every reason why the other pods keep the pod off that node (SCHED-30 to SCHED-32). `pods`:
    those that count on a node, without this one."""
    where = {each.metadata.name: each.metadata.labels or {} for each in nodes}
    there = [
        (other, where[other.spec.node_name]) for other in pods if other.spec.node_name in where
    ]
    here, wrong = node.metadata.labels or {}, []
    near, far = _terms(pod, near=True), _terms(pod, near=False)
    if near:
        group = [
            labels
            for other, labels in there
            if all(_means(term, pod, other, namespaces) for term in near)
        ]
        anywhere = any(term.topology_key in labels for labels in group for term in near)
        alone = not anywhere and all(_means(term, pod, pod, namespaces) for term in near)
        for term in near:
            key = term.topology_key
            if key not in here or (
                not alone and not any(labels.get(key) == here[key] for labels in group)
            ):
                wrong.append(f"SCHED-30: no pod of {term.label_selector} in the domain of {key}")
    for term in far:
        key = term.topology_key
        if key in here and any(
            _means(term, pod, other, namespaces) and labels.get(key) == here[key]
            for other, labels in there
        ):
            wrong.append(f"SCHED-31: a pod of {term.label_selector} in the domain of {key}")
    for other, labels in there:
        for term in _terms(other, near=False):
            key = term.topology_key
            if (
                key in here
                and labels.get(key) == here[key]
                and _means(term, other, pod, namespaces)
            ):
                wrong.append(f"SCHED-31: {other.metadata.name} has anti-affinity to it by {key}")
    constraints = [
        each
        for each in pod.spec.topology_spread_constraints or ()
        if each.when_unsatisfiable == "DoNotSchedule"
    ]
    keys = {each.topology_key for each in constraints}
    for each in constraints:
        if each.topology_key not in here:
            wrong.append(f"SCHED-32: the node has no label {each.topology_key}")
            continue
        domains: dict[str, int] = {}
        for candidate in nodes:
            if keys - set(candidate.metadata.labels or {}) or not _counts_for(each, pod, candidate):
                continue
            domain = (candidate.metadata.labels or {})[each.topology_key]
            domains[domain] = domains.get(domain, 0) + sum(
                other.spec.node_name == candidate.metadata.name and _alike(each, pod, other)
                for other, _ in there
            )
        least = min(domains.values(), default=0) if len(domains) >= (each.min_domains or 1) else 0
        if domains.get(here[each.topology_key], 0) + _alike(each, pod, pod) - least > each.max_skew:
            wrong.append(f"SCHED-32: too many in {each.topology_key}={here[each.topology_key]}")
    return wrong


def _terms(pod: Pod, near: bool) -> Sequence[Any]:
    affinity = pod.spec.affinity
    part = (affinity.pod_affinity if near else affinity.pod_anti_affinity) if affinity else None
    return (part.required_during_scheduling_ignored_during_execution if part else None) or ()


def _means(term: Any, of: Pod, other: Pod, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    namespace = other.metadata.namespace or ""
    named = term.namespaces or (
        () if term.namespace_selector is not None else (of.metadata.namespace,)
    )
    chosen = term.namespace_selector is not None and from_label_selector(
        term.namespace_selector
    ).matches(namespaces.get(namespace))
    labels, own = other.metadata.labels or {}, of.metadata.labels or {}
    return (
        (namespace in named or chosen)
        and from_label_selector(term.label_selector).matches(labels)
        and all(labels.get(key) == own[key] for key in term.match_label_keys or () if key in own)
        and all(labels.get(key) != own[key] for key in term.mismatch_label_keys or () if key in own)
    )


def _alike(constraint: Any, pod: Pod, other: Pod) -> bool:
    labels, own = other.metadata.labels or {}, pod.metadata.labels or {}
    return (
        other.metadata.namespace == pod.metadata.namespace
        and (other is pod or other.metadata.deletion_timestamp is None)
        and from_label_selector(constraint.label_selector).matches(labels)
        and all(
            labels.get(key) == own[key] for key in constraint.match_label_keys or () if key in own
        )
    )


def _counts_for(constraint: Any, pod: Pod, node: Node) -> bool:
    """Whether the constraint counts the node, by its policies."""
    refusals = why_not(pod, node, [])
    if constraint.node_affinity_policy != "Ignore" and any(
        reason.startswith("SCHED-7") for reason in refusals
    ):
        return False
    return constraint.node_taints_policy != "Honor" or not any(
        reason.startswith("SCHED-5") for reason in refusals
    )


def on_node(pod: Any, node: str) -> Any:
    """The pod after it is bound to this node."""
    return replace(pod, spec=replace(pod.spec, node_name=node))
