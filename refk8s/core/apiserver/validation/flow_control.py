"""Flow schemas and priority levels. Rule VAL-68 (spec/validation.md).

Source: Kubernetes documentation, "API Priority and Fairness"; API reference.
"""

from math import ceil, log2
from typing import Any

from refk8s.core.api.flowcontrol_v1 import (
    ExemptPriorityLevelConfiguration,
    FlowSchema,
    FlowSchemaSpec,
    LimitedPriorityLevelConfiguration,
    LimitResponse,
    NonResourcePolicyRule,
    PolicyRulesWithSubjects,
    PriorityLevelConfiguration,
    QueuingConfiguration,
    ResourcePolicyRule,
    Subject,
)
from refk8s.core.apiserver.flow_control import (
    ANY,
    CATCH_ALL,
    EXEMPT,
    MANDATORY_LEVELS,
    MANDATORY_SCHEMAS,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain

DISTINGUISHERS = ("ByNamespace", "ByUser")
LEVEL_TYPES = ("Exempt", "Limited")
RESPONSES = ("Queue", "Reject")
SUBJECTS = ("Group", "ServiceAccount", "User")
VERBS = (
    ANY,
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
)
PRECEDENCE_MAX = 10_000
QUEUES_MAX = 10_000_000
HASH_BITS_MAX = 60
_NOT_NEGATIVE = "must be a non-negative integer"


# --- flow schemas ---------------------------------------------------------------------------------


def validate_flow_schema(schema: FlowSchema) -> Causes:
    """VAL-68: a precedence, a priority level, and rules with subjects."""
    spec, name = schema.spec, schema.metadata.name
    causes = _validate_schema_spec(spec, name or "")
    fixed = MANDATORY_SCHEMAS.get(name or "")
    if fixed is not None and spec != fixed:
        causes.append(invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return causes


def _validate_schema_spec(spec: FlowSchemaSpec, name: str) -> Causes:
    causes: Causes = []
    precedence, at = spec.matching_precedence, "spec.matchingPrecedence"
    if precedence <= 0:
        causes.append(invalid(at, precedence, "must be a positive value"))
    if precedence > PRECEDENCE_MAX:
        causes.append(invalid(at, precedence, f"must not be greater than {PRECEDENCE_MAX}"))
    if precedence == 1 and name != EXEMPT:
        words = "only the schema named 'exempt' may have matchingPrecedence 1"
        causes.append(invalid(at, precedence, words))
    method = spec.distinguisher_method
    if method is not None and method.type not in DISTINGUISHERS:
        shown = {"Type": method.type}
        causes.append(not_supported("spec.distinguisherMethod.type", shown, DISTINGUISHERS))
    level, at = spec.priority_level_configuration.name, "spec.priorityLevelConfiguration.name"
    if level:
        causes += malformed(at, level, dns_subdomain)
    else:
        causes.append(required(at, "must reference a priority level"))
    for position, rule in enumerate(spec.rules or ()):
        causes += _validate_rule(rule, f"spec.rules[{position}]")
    return causes


def _validate_rule(rule: PolicyRulesWithSubjects, at: str) -> Causes:
    causes: Causes = []
    for position, subject in enumerate(rule.subjects or ()):
        causes += _validate_subject(subject, f"{at}.subjects[{position}]")
    if not rule.subjects:
        causes.append(required(f"{at}.subjects", "subjects must contain at least one value"))
    if not rule.resource_rules and not rule.non_resource_rules:
        words = "at least one of resourceRules and nonResourceRules has to be non-empty"
        causes.append(required(at, words))
    for position, resource in enumerate(rule.resource_rules or ()):
        causes += _validate_resource_rule(resource, f"{at}.resourceRules[{position}]")
    for position, urls in enumerate(rule.non_resource_rules or ()):
        causes += _validate_url_rule(urls, f"{at}.nonResourceRules[{position}]")
    return causes


def _validate_subject(subject: Subject, at: str) -> Causes:
    """VAL-68: the part of its kind, and no other part."""
    if subject.kind not in SUBJECTS:
        return [not_supported(f"{at}.kind", subject.kind, SUBJECTS)]
    causes: Causes = []
    for kind, field, part in (
        ("User", "user", subject.user),
        ("ServiceAccount", "serviceAccount", subject.service_account),
        ("Group", "group", subject.group),
    ):
        here = f"{at}.{field}"
        if kind != subject.kind and part is not None:
            words = f"{field} is forbidden when subject kind is not '{kind}'"
            causes.append(forbidden(here, words))
        elif kind == subject.kind and part is None:
            words = f"{field} is required when subject kind is '{kind}'"
            causes.append(required(here, words))
    account = subject.service_account
    if subject.kind == "ServiceAccount" and account is not None:
        here = f"{at}.serviceAccount"
        if not account.name:
            causes.append(required(f"{here}.name"))
        elif account.name != ANY:
            causes += malformed(f"{here}.name", account.name, dns_subdomain)
        if account.namespace:
            causes += malformed(f"{here}.namespace", account.namespace, dns_label)
        else:
            words = "must specify namespace for service account"
            causes.append(required(f"{here}.namespace", words))
    if subject.kind == "User" and subject.user is not None and not subject.user.name:
        causes.append(required(f"{at}.user.name"))
    if subject.kind == "Group" and subject.group is not None and not subject.group.name:
        causes.append(required(f"{at}.group.name"))
    return causes


def _validate_verbs(verbs: tuple[str, ...], at: str) -> Causes:
    if not verbs:
        return [required(f"{at}.verbs", "verbs must contain at least one value")]
    if ANY in verbs:
        words = "if '*' is present, must not specify other verbs"
        return [invalid(f"{at}.verbs", list(verbs), words)] if len(verbs) > 1 else []
    if not {*VERBS}.issuperset(verbs):
        return [not_supported(f"{at}.verbs", list(verbs), VERBS)]
    return []


def _validate_resource_rule(rule: ResourcePolicyRule, at: str) -> Causes:
    causes = _validate_verbs(rule.verbs, at)
    for field, values, noun, nouns in (
        ("apiGroups", rule.api_groups, "api group", "api groups"),
        ("resources", rule.resources, "resource", "resources"),
    ):
        here = f"{at}.{field}"
        if not values:
            causes.append(required(here, f"resource rules must supply at least one {noun}"))
        elif len(values) > 1 and ANY in values:
            words = f"if '*' is present, must not specify other {nouns}"
            causes.append(invalid(here, list(values), words))
    namespaces, here = rule.namespaces or (), f"{at}.namespaces"
    if not namespaces and not rule.cluster_scope:
        words = "resource rules that are not cluster scoped must supply at least one namespace"
        causes.append(required(here, words))
    elif ANY in namespaces:
        if len(namespaces) > 1:
            words = "if '*' is present, must not specify other namespaces"
            causes.append(invalid(here, list(namespaces), words))
    else:
        for position, namespace in enumerate(namespaces):
            causes += malformed(f"{here}[{position}]", namespace, dns_label)
    return causes


def _validate_url_rule(rule: NonResourcePolicyRule, at: str) -> Causes:
    causes = _validate_verbs(rule.verbs, at)
    urls, here = rule.non_resource_urls, f"{at}.nonResourceURLs"
    if not urls:
        causes.append(required(here, "nonResourceURLs must contain at least one value"))
    elif ANY in urls:
        if len(urls) > 1:
            words = "if '*' is present, must not specify other non-resource URLs"
            causes.append(invalid(here, list(urls), words))
    else:
        for position, url in enumerate(urls):
            words = _why_no_path(url)
            if words:
                causes.append(invalid(f"{here}[{position}]", url, words))
    return causes


def _why_no_path(path: str) -> str:
    if not path:
        return "must not be empty"
    if path == "/":
        return ""
    if path[0] != "/":
        return "must start with slash"
    if " " in path:
        return "must not contain white-space"
    if "//" in path:
        return "must not contain double slash"
    wildcards = path.count(ANY)
    if wildcards > 1 or (wildcards == 1 and not path.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


# --- priority levels ------------------------------------------------------------------------------


def validate_priority_level(level: PriorityLevelConfiguration) -> Causes:
    """VAL-68: the fields of its type, and no others."""
    spec, name = level.spec, level.metadata.name or ""
    causes: Causes = []
    if (name == EXEMPT) != (spec.type == "Exempt"):
        words = "must be 'Exempt' if and only if `name` is 'exempt'"
        if spec.type in LEVEL_TYPES or name == EXEMPT:
            causes.append(invalid("spec.type", spec.type, words))
    if spec.type == "Exempt":
        if spec.limited is not None:
            causes.append(forbidden("spec.limited", "must be nil if the type is not Limited"))
        if spec.exempt is not None:
            causes += _validate_exempt(spec.exempt, "spec.exempt")
    elif spec.type == "Limited":
        if spec.exempt is not None:
            causes.append(forbidden("spec.exempt", "must be nil if the type is Limited"))
        if spec.limited is None:
            words = "must not be empty when type is Limited"
            causes.append(required("spec.limited", words))
        else:
            causes += _validate_limited(spec.limited, "spec.limited")
    else:
        causes.append(not_supported("spec.type", spec.type, LEVEL_TYPES))
    fixed = MANDATORY_LEVELS.get(name)
    if fixed is not None and name == CATCH_ALL and spec != fixed:
        causes.append(invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return causes


def _validate_exempt(exempt: ExemptPriorityLevelConfiguration, at: str) -> Causes:
    return _validate_shares(exempt.nominal_concurrency_shares, exempt.lendable_percent, at)


def _validate_shares(shares: int | None, lendable: int | None, at: str) -> Causes:
    causes: Causes = []
    if shares is not None and shares < 0:
        causes.append(invalid(f"{at}.nominalConcurrencyShares", shares, _NOT_NEGATIVE))
    if lendable is not None and not 0 <= lendable <= 100:
        words = "must be between 0 and 100, inclusive"
        causes.append(invalid(f"{at}.lendablePercent", lendable, words))
    return causes


def _validate_limited(limited: LimitedPriorityLevelConfiguration, at: str) -> Causes:
    causes = _validate_shares(limited.nominal_concurrency_shares, limited.lendable_percent, at)
    borrowing = limited.borrowing_limit_percent
    if borrowing is not None and borrowing < 0:
        words = f"if specified, {_NOT_NEGATIVE}"
        causes.append(invalid(f"{at}.borrowingLimitPercent", borrowing, words))
    return causes + _validate_response(limited.limit_response, f"{at}.limitResponse")


def _validate_response(response: LimitResponse, at: str) -> Causes:
    queuing, here = response.queuing, f"{at}.queuing"
    if response.type == "Reject":
        words = "must be nil if limited.limitResponse.type is not Limited"
        return [] if queuing is None else [forbidden(here, words)]
    if response.type != "Queue":
        return [not_supported(f"{at}.type", response.type, RESPONSES)]
    if queuing is None:
        words = "must not be empty if limited.limitResponse.type is Limited"
        return [required(here, words)]
    return _validate_queuing(queuing, here)


def _validate_queuing(queuing: QueuingConfiguration, at: str) -> Causes:
    """VAL-68: a hand is dealt from a deck of queues by a hash of at most 60 bits."""
    causes: Causes = []
    queues, hand = queuing.queues, queuing.hand_size
    if queuing.queue_length_limit <= 0:
        at_limit = f"{at}.queueLengthLimit"
        causes.append(invalid(at_limit, queuing.queue_length_limit, "must be positive"))
    if queues <= 0:
        causes.append(invalid(f"{at}.queues", queues, "must be positive"))
    elif queues > QUEUES_MAX:
        causes.append(invalid(f"{at}.queues", queues, f"must not be greater than {QUEUES_MAX}"))
    if hand <= 0:
        causes.append(invalid(f"{at}.handSize", hand, "must be positive"))
    elif hand > queues:
        words = f"should not be greater than queues ({queues})"
        causes.append(invalid(f"{at}.handSize", hand, words))
    elif ceil(log2(queues) * hand) > HASH_BITS_MAX:
        words = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be "
            f"greater than {HASH_BITS_MAX}"
        )
        causes.append(invalid(f"{at}.handSize", hand, words))
    return causes


# --- status


def validate_conditions(new: Any, old: Any) -> Causes:
    """VAL-68: the conditions of both have types, each once."""
    causes: Causes = []
    seen: set[str] = set()
    for position, condition in enumerate(new.status.conditions or ()):
        here = f"status.conditions[{position}].type"
        kind = condition.type or ""
        if kind in seen:
            causes.append(duplicate(here, kind))
        seen.add(kind)
        if not kind:
            causes.append(required(here, "must not be empty"))
    return causes
