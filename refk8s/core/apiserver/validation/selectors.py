"""Label selectors and node selectors. Rule VAL-6 (spec/validation.md).

Source: Kubernetes documentation, "Labels and Selectors", "Assigning Pods to Nodes".
"""

from refk8s.core.api.core_v1 import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.selector import SelectorError, from_label_selector
from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid, malformed, required
from refk8s.core.apiserver.validation.metadata import validate_labels
from refk8s.core.apiserver.validation.names import dns_subdomain, label_value, qualified_name

_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


def is_empty(selector: LabelSelector | None) -> bool:
    return selector is None or not (selector.match_labels or selector.match_expressions)


def matches(selector: LabelSelector | None, labels: dict[str, str] | None) -> bool:
    """Whether the labels satisfy every requirement. True for an invalid selector, which another
    check reports. An absent selector matches nothing."""
    try:
        return from_label_selector(selector).matches(labels or {})
    except SelectorError:
        return True


def is_unusable(selector: LabelSelector | None) -> bool:
    """Whether the selector has an invalid requirement."""
    try:
        from_label_selector(selector)
    except SelectorError:
        return True
    return False


def validate_selector(selector: LabelSelector | None, at: str) -> Causes:
    """VAL-6: keys and values are those of labels, and each operator has the values that it
    needs."""
    if selector is None:
        return []
    causes: Causes = []
    if selector.match_labels:
        causes += validate_labels(selector.match_labels, f"{at}.matchLabels")
    for position, requirement in enumerate(selector.match_expressions or ()):
        here = f"{at}.matchExpressions[{position}]"
        if requirement.operator in _WITH_VALUES:
            if not requirement.values:
                causes.append(
                    required(
                        f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'"
                    )
                )
        elif requirement.operator in _WITHOUT_VALUES:
            if requirement.values:
                causes.append(
                    forbidden(
                        f"{here}.values",
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    )
                )
        else:
            causes.append(
                invalid(f"{here}.operator", requirement.operator, "not a valid selector operator")
            )
        causes += malformed(f"{here}.key", requirement.key, qualified_name)
        for number, value in enumerate(requirement.values or ()):
            causes += malformed(f"{here}.values[{number}]", value, label_value)
    return causes


def validate_node_selector(selector: NodeSelector, at: str) -> Causes:
    """VAL-6: at least one term."""
    terms = selector.node_selector_terms
    if not terms:
        return [required(f"{at}.nodeSelectorTerms", "must have at least one node selector term")]
    causes: Causes = []
    for position, term in enumerate(terms):
        causes += validate_node_selector_term(term, f"{at}.nodeSelectorTerms[{position}]")
    return causes


def validate_node_selector_term(term: NodeSelectorTerm, at: str, any_value: bool = False) -> Causes:
    """VAL-6. `any_value`: values need not be those of labels (upstream does not check them in
    preferred terms)."""
    causes: Causes = []
    for position, requirement in enumerate(term.match_expressions or ()):
        causes += _validate_expression(requirement, f"{at}.matchExpressions[{position}]", any_value)
    for position, requirement in enumerate(term.match_fields or ()):
        causes += _validate_field(requirement, f"{at}.matchFields[{position}]")
    return causes


def _validate_expression(requirement: NodeSelectorRequirement, at: str, any_value: bool) -> Causes:
    causes: Causes = []
    values = requirement.values or ()
    if requirement.operator in _WITH_VALUES:
        if not values:
            causes.append(
                required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
            )
    elif requirement.operator in _WITHOUT_VALUES:
        if values:
            causes.append(
                forbidden(
                    f"{at}.values",
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )
            )
    elif requirement.operator in ("Gt", "Lt"):
        if len(values) != 1:
            causes.append(
                required(
                    f"{at}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'"
                )
            )
    else:
        causes.append(
            invalid(f"{at}.operator", requirement.operator, "not a valid selector operator")
        )
    causes += malformed(f"{at}.key", requirement.key, qualified_name)
    for position, value in enumerate(() if any_value else values):
        causes += malformed(f"{at}.values[{position}]", value, label_value)
    return causes


def _validate_field(requirement: NodeSelectorRequirement, at: str) -> Causes:
    """The only field of a node that can be selected is its name, with one value."""
    causes: Causes = []
    values = requirement.values or ()
    if requirement.operator not in _WITH_VALUES:
        causes.append(
            invalid(f"{at}.operator", requirement.operator, "not a valid selector operator")
        )
    elif len(values) != 1:
        causes.append(
            required(
                f"{at}.values",
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )
        )
    if requirement.key != "metadata.name":
        causes.append(invalid(f"{at}.key", requirement.key, "not a valid field selector key"))
    else:
        for position, value in enumerate(values):
            causes += malformed(f"{at}.values[{position}]", value, dns_subdomain)
    return causes
