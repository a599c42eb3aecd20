"""Terms of a pod about other pods: affinity, anti-affinity and spread constraints. Rules SCHED-30
to SCHED-34 (spec/scheduler.md).

A term selects pods (by labels and namespaces) in a domain of a topology key (host name, zone). The
namespace and labels of its pod are filled in here, so a term can be matched without its pod.
Source: Kubernetes documentation, "Assigning Pods to Nodes" (inter-pod affinity and anti-affinity,
namespace selector, matchLabelKeys), "Pod Topology Spread Constraints".
"""

from collections.abc import Iterable, Mapping
from typing import Any

from refk8s.core.api.core_v1 import PodAffinityTerm, TopologySpreadConstraint
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement
from refk8s.core.api.selector import Selector, SelectorError, from_label_selector
from refk8s.core.memo import remember_within
from refk8s.core.scheduler.needs import CACHED_BYTES_MAX, Needs
from refk8s.core.value import Value

HARD = "DoNotSchedule"
_NOTHING = from_label_selector(None)
# stands for the weight of a required affinity term of an existing pod, which the profile of the
# new pod has (SCHED-34)
REQUIRED = 0


class Term(Value, frozen=True, cache_hash=True):
    """Pods with these labels in these namespaces, within one domain of the topology key."""

    topology_key: str
    selector: Selector
    namespaces: tuple[str, ...]
    namespace_selector: Selector | None

    def matches(
        self, namespace: str, labels: Mapping[str, str], namespaces: Mapping[str, Any]
    ) -> bool:
        """Whether a pod with these labels in this namespace matches; `namespaces`: the Namespace
        objects by name."""
        return self.selector.matches(labels) and (
            namespace in self.namespaces or self._selects(namespaces.get(namespace))
        )

    def _selects(self, namespace: Any) -> bool:
        return (
            self.namespace_selector is not None
            and namespace is not None
            and self.namespace_selector.matches(namespace.metadata.labels)
        )

    def resolve(self, namespaces: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the namespaces that it selects at this moment."""
        if self.namespace_selector is None:
            return self.namespaces
        return tuple(
            sorted(
                {
                    *self.namespaces,
                    *(name for name in namespaces if self._selects(namespaces[name])),
                }
            )
        )


class Constraint(Value, frozen=True, cache_hash=True):
    """A topology spread constraint: at most `max_skew` more pods with these labels in one domain
    than in another."""

    topology_key: str
    selector: Selector
    max_skew: int
    min_domains: int
    honors_affinity: bool
    honors_taints: bool


class InterPodTerms(Value, frozen=True, eq=False):
    """All terms of one pod about others. Weights of preferred anti-affinity are negative."""

    affinity: tuple[Term, ...]
    anti_affinity: tuple[Term, ...]
    preferred: tuple[tuple[int, Term], ...]
    hard: tuple[Constraint, ...]
    soft: tuple[Constraint, ...]

    @property
    def preferences(self) -> tuple[tuple[int, Term], ...]:
        """The terms that give points to nodes in its domains, for later pods (SCHED-34)."""
        return self.preferred + tuple((REQUIRED, term) for term in self.affinity)


def _size(key: bytes, namespace: str, labels: tuple[tuple[str, str], ...]) -> int:
    return len(key) + sum([len(name) + len(value) for name, value in labels])


@remember_within(CACHED_BYTES_MAX, _size)
def _resolve(key: bytes, namespace: str, labels: tuple[tuple[str, str], ...]) -> InterPodTerms:
    needs, own = Needs.of(key), dict(labels)
    near, far = needs.pod_affinity, needs.pod_anti_affinity
    preferred = [
        (each.weight, each)
        for each in (near.preferred_during_scheduling_ignored_during_execution if near else None)
        or ()
    ]
    repelled = [
        (-each.weight, each)
        for each in (far.preferred_during_scheduling_ignored_during_execution if far else None)
        or ()
    ]
    required_near = (
        near.required_during_scheduling_ignored_during_execution if near else None
    ) or ()
    required_far = (far.required_during_scheduling_ignored_during_execution if far else None) or ()
    return InterPodTerms(
        tuple(_term(each, namespace, own) for each in required_near),
        tuple(_term(each, namespace, own) for each in required_far),
        tuple(
            (weight, _term(each.pod_affinity_term, namespace, own))
            for weight, each in [*preferred, *repelled]
        ),
        tuple(
            _constraint(each, own) for each in needs.constraints if each.when_unsatisfiable == HARD
        ),
        tuple(
            _constraint(each, own) for each in needs.constraints if each.when_unsatisfiable != HARD
        ),
    )


def inter_pod_terms(
    needs: Needs, namespace: str, labels: Mapping[str, str]
) -> InterPodTerms | None:
    """The terms of a pod about other pods; None without any."""
    return (
        _resolve(needs.key, namespace, tuple(sorted(labels.items())))
        if needs.has_inter_pod_terms
        else None
    )


def _term(term: PodAffinityTerm, namespace: str, labels: Mapping[str, str]) -> Term:
    named = tuple(sorted(term.namespaces or ()))
    if not named and term.namespace_selector is None:
        named = (namespace,)
    chosen = _selector(term.namespace_selector) if term.namespace_selector is not None else None
    selector = _with_keys(
        term.label_selector, labels, term.match_label_keys or (), term.mismatch_label_keys or ()
    )
    return Term(term.topology_key, selector, named, chosen)


def _constraint(constraint: TopologySpreadConstraint, labels: Mapping[str, str]) -> Constraint:
    return default_constraint(
        constraint,
        _with_keys(constraint.label_selector, labels, constraint.match_label_keys or (), ()),
    )


def default_constraint(constraint: TopologySpreadConstraint, selector: Selector) -> Constraint:
    """A constraint of a profile, which has no selector of its own."""
    return Constraint(
        constraint.topology_key,
        selector,
        constraint.max_skew,
        constraint.min_domains or 1,
        constraint.node_affinity_policy != "Ignore",
        constraint.node_taints_policy == "Honor",
    )


def _with_keys(
    selector: LabelSelector | None,
    labels: Mapping[str, str],
    same: Iterable[str],
    other: Iterable[str],
) -> Selector:
    """The selector with matchLabelKeys (`same`) and mismatchLabelKeys (`other`)."""
    if selector is None:
        return _NOTHING
    more = [
        LabelSelectorRequirement(key=key, operator="In", values=(labels[key],))
        for key in same
        if key in labels
    ]
    more += [
        LabelSelectorRequirement(key=key, operator="NotIn", values=(labels[key],))
        for key in other
        if key in labels
    ]
    expressions = (*(selector.match_expressions or ()), *more)
    return _selector(
        LabelSelector(match_labels=selector.match_labels, match_expressions=expressions or None)
    )


def _selector(selector: LabelSelector) -> Selector:
    """The selector; an invalid one selects nothing (LOOP-12)."""
    try:
        return from_label_selector(selector)
    except SelectorError:
        return _NOTHING
