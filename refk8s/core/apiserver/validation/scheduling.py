"""Scheduling constraints of a pod: tolerations, affinity, topology spread, gates. Rules VAL-13,
VAL-14 (spec/validation.md).

Source: Kubernetes documentation, "Taints and Tolerations", "Assigning Pods to Nodes", "Pod Topology
Spread Constraints", "Pod Scheduling Readiness".
"""

from refk8s.core.api.core_v1 import (
    Affinity,
    NodeAffinity,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PodSchedulingGate,
    Taint,
    Toleration,
    TopologySpreadConstraint,
)
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_label, label_value, qualified_name
from refk8s.core.apiserver.validation.selectors import (
    validate_node_selector,
    validate_node_selector_term,
    validate_selector,
)
from refk8s.core.pods.tolerations import EFFECTS, EQUAL, EXISTS, NO_EXECUTE, OPERATORS

WHEN_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
NODE_POLICIES = ("Honor", "Ignore")
ABOVE_ZERO = "must be greater than zero"


def validate_tolerations(tolerations: tuple[Toleration, ...], at: str) -> Causes:
    """VAL-13: Exists has no value, an empty key needs Exists, and tolerationSeconds needs
    NoExecute."""
    causes: Causes = []
    for position, toleration in enumerate(tolerations):
        key, operator, value, effect = (
            toleration.key,
            toleration.operator,
            toleration.value or "",
            toleration.effect,
        )
        if key:
            words = qualified_name(key)
            if words:
                causes += [invalid(f"{at}[{position}].key", key, word) for word in words]
        elif operator != EXISTS:
            words = (
                "operator must be Exists when `key` is empty, "
                'which means "match all values and all keys"',
            )
            causes.append(invalid(f"{at}[{position}].operator", operator or "", words[0]))
        if toleration.toleration_seconds is not None and effect != NO_EXECUTE:
            words = ("effect must be 'NoExecute' when `tolerationSeconds` is set",)
            causes.append(invalid(f"{at}[{position}].effect", effect or "", words[0]))
        if operator == EXISTS:
            if value:
                causes.append(
                    invalid(
                        f"{at}[{position}].operator",
                        value,
                        "value must be empty when `operator` is 'Exists'",
                    )
                )
        elif not operator or operator == EQUAL:
            words = label_value(value)
            if words:
                causes.append(invalid(f"{at}[{position}].operator", value, ";".join(words)))
        else:  # also Gt and Lt: their feature is disabled (POD-20)
            causes.append(not_supported(f"{at}[{position}].operator", operator, OPERATORS))
        if effect and effect not in EFFECTS:
            causes.append(not_supported(f"{at}[{position}].effect", effect, EFFECTS))
    return causes


def validate_taints(taints: tuple[Taint, ...], at: str) -> Causes:
    """VAL-13: a key and a known effect; each pair of them once."""
    causes: Causes = []
    seen: set[tuple[str, str]] = set()
    for position, taint in enumerate(taints):
        here = f"{at}[{position}]"
        causes += malformed(f"{here}.key", taint.key, qualified_name)
        if words := label_value(taint.value or ""):
            causes.append(invalid(f"{here}.value", taint.value, ";".join(words)))
        if not taint.effect:
            causes.append(required(f"{here}.effect"))
        elif taint.effect not in EFFECTS:
            causes.append(not_supported(f"{here}.effect", taint.effect, EFFECTS))
        if taint.effect and (taint.key, taint.effect) in seen:
            cause = duplicate(here, taint)
            causes.append(
                type(cause)(
                    cause.reason, here, "taints must be unique by key and effect pair", taint
                )
            )
        seen.add((taint.key, taint.effect))
    return causes


def validate_affinity(affinity: Affinity, at: str) -> Causes:
    """VAL-14."""
    causes: Causes = []
    if affinity.node_affinity is not None:
        causes += validate_node_affinity(affinity.node_affinity, f"{at}.nodeAffinity")
    if affinity.pod_affinity is not None:
        causes += _validate_pod_affinity(affinity.pod_affinity, f"{at}.podAffinity")
    if affinity.pod_anti_affinity is not None:
        causes += _validate_pod_affinity(affinity.pod_anti_affinity, f"{at}.podAntiAffinity")
    return causes


def validate_node_affinity(affinity: NodeAffinity, at: str) -> Causes:
    causes: Causes = []
    demand = affinity.required_during_scheduling_ignored_during_execution
    if demand is not None:
        causes += validate_node_selector(
            demand, f"{at}.requiredDuringSchedulingIgnoredDuringExecution"
        )
    for position, term in enumerate(
        affinity.preferred_during_scheduling_ignored_during_execution or ()
    ):
        here = f"{at}.preferredDuringSchedulingIgnoredDuringExecution[{position}]"
        if not 1 <= term.weight <= 100:
            causes.append(invalid(f"{here}.weight", term.weight, "must be in the range 1-100"))
        causes += validate_node_selector_term(term.preference, f"{here}.preference", any_value=True)
    return causes


def _validate_pod_affinity(affinity: PodAffinity | PodAntiAffinity, at: str) -> Causes:
    causes: Causes = []
    for position, term in enumerate(
        affinity.required_during_scheduling_ignored_during_execution or ()
    ):
        causes += _validate_term(
            term, f"{at}.requiredDuringSchedulingIgnoredDuringExecution[{position}]"
        )
    for position, weighted in enumerate(
        affinity.preferred_during_scheduling_ignored_during_execution or ()
    ):
        here = f"{at}.preferredDuringSchedulingIgnoredDuringExecution[{position}]"
        if not 1 <= weighted.weight <= 100:
            causes.append(invalid(f"{here}.weight", weighted.weight, "must be in the range 1-100"))
        causes += _validate_term(weighted.pod_affinity_term, f"{here}.podAffinityTerm")
    return causes


def _validate_term(term: PodAffinityTerm, at: str) -> Causes:
    causes = validate_selector(term.label_selector, f"{at}.labelSelector")
    causes += validate_selector(term.namespace_selector, f"{at}.namespaceSelector")
    for name in term.namespaces or ():
        causes += malformed(f"{at}.namespace", name, dns_label)
    for keys, name in (
        (term.match_label_keys, "matchLabelKeys"),
        (term.mismatch_label_keys, "mismatchLabelKeys"),
    ):
        if keys and term.label_selector is None:
            causes.append(
                forbidden(f"{at}.{name}", "must not be specified when labelSelector is not set")
            )
        elif keys:
            for position, key in enumerate(keys):
                causes += malformed(f"{at}.{name}[{position}]", key, qualified_name)
    if term.label_selector is not None and term.match_label_keys:
        causes += _validate_keys_of(term.label_selector, term.match_label_keys, at)
    for position, key in enumerate(term.match_label_keys or ()):
        if key in (term.mismatch_label_keys or ()):
            causes.append(
                invalid(
                    f"{at}.matchLabelKeys[{position}]",
                    key,
                    "exists in both matchLabelKeys and mismatchLabelKeys",
                )
            )
    if not term.topology_key:
        causes.append(required(f"{at}.topologyKey", "can not be empty"))
    causes += malformed(f"{at}.topologyKey", term.topology_key, qualified_name)
    return causes


def _validate_keys_of(selector: LabelSelector, keys: tuple[str, ...], at: str) -> Causes:
    """A key that the API server adds to the selector (ADM-30) is not in the selector already."""
    causes: Causes = []
    seen = set(selector.match_labels or ())
    for expression in selector.match_expressions or ():
        if expression.key in keys and expression.key in seen:
            last = len(keys) - 1 - keys[::-1].index(expression.key)
            causes.append(
                invalid(
                    f"{at}[{last}]",
                    expression.key,
                    "exists in both matchLabelKeys and labelSelector",
                )
            )
        seen.add(expression.key)
    return causes


def validate_spread(constraints: tuple[TopologySpreadConstraint, ...], at: str) -> Causes:
    """VAL-14: a positive maxSkew; each pair of topologyKey and whenUnsatisfiable once."""
    causes: Causes = []
    for position, constraint in enumerate(constraints):
        here = f"{at}[{position}]"
        if constraint.max_skew <= 0:
            causes.append(invalid(f"{here}.maxSkew", constraint.max_skew, ABOVE_ZERO))
        if not constraint.topology_key:
            causes.append(required(f"{here}.topologyKey", "can not be empty"))
        if constraint.when_unsatisfiable not in WHEN_UNSATISFIABLE:
            causes.append(
                not_supported(
                    f"{here}.whenUnsatisfiable", constraint.when_unsatisfiable, WHEN_UNSATISFIABLE
                )
            )
        pair = (constraint.topology_key, constraint.when_unsatisfiable)
        if any(
            (other.topology_key, other.when_unsatisfiable) == pair
            for other in constraints[position + 1 :]
        ):
            causes.append(
                duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", f"{{{pair[0]}, {pair[1]}}}")
            )
        if constraint.min_domains is not None:
            if constraint.min_domains <= 0:
                causes.append(invalid(f"{here}.minDomains", constraint.min_domains, ABOVE_ZERO))
            if constraint.when_unsatisfiable != "DoNotSchedule":
                words = (
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, "
                    f"not {constraint.when_unsatisfiable}"
                )
                causes.append(invalid(f"{here}.minDomains", constraint.min_domains, words))
        for policy, name in (
            (constraint.node_affinity_policy, "nodeAffinityPolicy"),
            (constraint.node_taints_policy, "nodeTaintsPolicy"),
        ):
            if policy is not None and policy not in NODE_POLICIES:
                causes.append(not_supported(f"{here}.{name}", policy, NODE_POLICIES))
        if constraint.match_label_keys and constraint.label_selector is None:
            causes.append(
                forbidden(
                    f"{here}.matchLabelKeys", "must not be specified when labelSelector is not set"
                )
            )
        for number, key in enumerate(constraint.match_label_keys or ()):
            causes += malformed(f"{here}.matchLabelKeys[{number}]", key, qualified_name)
            if constraint.label_selector and _has_already(constraint.label_selector, key):
                causes.append(
                    invalid(
                        f"{here}.matchLabelKeys[{number}]",
                        key,
                        "exists in both matchLabelKeys and labelSelector",
                    )
                )
        causes += validate_selector(constraint.label_selector, f"{here}.labelSelector")
    return causes


def _has_already(selector: LabelSelector, key: str) -> bool:
    """Whether a selector has the key, apart from the requirement that the API server adds to a
    pod's (ADM-30)."""
    return (
        key in (selector.match_labels or ())
        or [one.key for one in selector.match_expressions or ()].count(key) > 1
    )


def validate_gates(gates: tuple[PodSchedulingGate, ...], at: str) -> Causes:
    causes: Causes = []
    seen: set[str] = set()
    for position, gate in enumerate(gates):
        causes += malformed(f"{at}[{position}]", gate.name, qualified_name)
        if gate.name in seen:
            causes.append(duplicate(f"{at}[{position}]", gate.name))
        seen.add(gate.name)
    return causes
