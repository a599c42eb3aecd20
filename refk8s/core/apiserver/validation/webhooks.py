"""Webhook configurations. Rules HOOK-2 to HOOK-4 (spec/webhooks.md).

Source: API reference, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"; Kubernetes
documentation, "Dynamic Admission Control" (Webhook configuration).
"""

from typing import Any, Final

from refk8s.core.api.admissionregistration_v1 import MutatingWebhook
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.match_conditions import validate_match_conditions
from refk8s.core.apiserver.validation.names import dns_subdomain
from refk8s.core.apiserver.validation.selectors import validate_selector
from refk8s.core.apiserver.validation.webhook_client import (
    REVIEW_VERSIONS,
    check_webhook_client,
    validate_review_versions,
)
from refk8s.core.apiserver.validation.webhook_rules import validate_rule

FAILURE_POLICIES: Final = ("Fail", "Ignore")
MATCH_POLICIES: Final = ("Equivalent", "Exact")
REINVOCATION_POLICIES: Final = ("IfNeeded", "Never")
SIDE_EFFECTS: Final = ("None", "NoneOnDryRun")
TIMEOUT_SECONDS_MAX: Final = 30


def validate_webhook_configuration(obj: Any) -> Causes:
    """The causes of a new configuration of either kind."""
    return _validate(obj, check_conditions=True)


def validate_webhook_configuration_update(new: Any, old: Any) -> Causes:
    """As a new one. Match conditions that are unchanged are not compiled again."""
    before = [one.match_conditions for one in old.webhooks or ()]
    after = [one.match_conditions for one in new.webhooks or ()]
    return _validate(new, check_conditions=before != after)


def _validate(obj: Any, *, check_conditions: bool) -> Causes:
    causes: Causes = []
    names: set[str] = set()
    for place, webhook in enumerate(obj.webhooks or ()):
        at = f"webhooks[{place}]"
        causes += _webhook(webhook, at, check_conditions=check_conditions)
        causes += _review_versions(webhook.admission_review_versions, at)
        if webhook.name and webhook.name in names:
            causes.append(duplicate(f"{at}.name", webhook.name))
        names.add(webhook.name)
    return causes


def _webhook(webhook: Any, at: str, *, check_conditions: bool) -> Causes:
    causes = _name(webhook.name, f"{at}.name")
    for place, rule in enumerate(webhook.rules or ()):
        causes += validate_rule(rule, f"{at}.rules[{place}]")
    causes += _one_of(webhook.failure_policy, f"{at}.failurePolicy", FAILURE_POLICIES)
    causes += _one_of(webhook.match_policy, f"{at}.matchPolicy", MATCH_POLICIES)
    if webhook.side_effects is None:
        words = f"must specify one of {', '.join(SIDE_EFFECTS)}"
        causes.append(required(f"{at}.sideEffects", words))
    else:
        causes += _one_of(webhook.side_effects, f"{at}.sideEffects", SIDE_EFFECTS)
    seconds = webhook.timeout_seconds
    if seconds is not None and not 1 <= seconds <= TIMEOUT_SECONDS_MAX:
        words = f"the timeout value must be between 1 and {TIMEOUT_SECONDS_MAX} seconds"
        causes.append(invalid(f"{at}.timeoutSeconds", seconds, words))
    causes += validate_selector(webhook.namespace_selector, f"{at}.namespaceSelector")
    causes += validate_selector(webhook.object_selector, f"{at}.objectSelector")
    if isinstance(webhook, MutatingWebhook):
        policy = webhook.reinvocation_policy
        causes += _one_of(policy, f"{at}.reinvocationPolicy", REINVOCATION_POLICIES)
    causes += check_webhook_client(webhook.client_config, f"{at}.clientConfig")
    if check_conditions:
        causes += validate_match_conditions(webhook.match_conditions, f"{at}.matchConditions")
    return causes


def _name(name: str, at: str) -> Causes:
    """A name with at least three segments."""
    if not name:
        return [required(at)]
    if problems := dns_subdomain(name):
        return [invalid(at, name, ",".join(problems))]
    if name.count(".") < 2:
        words = "should be a domain with at least three segments separated by dots"
        return [invalid(at, name, words)]
    return []


def _one_of(value: str | None, at: str, supported: tuple[str, ...]) -> Causes:
    return [] if value is None or value in supported else [not_supported(at, value, supported)]


def _review_versions(versions: tuple[str, ...], at: str) -> Causes:
    here = f"{at}.admissionReviewVersions"
    if not versions:
        return [required(here, f"must specify one of {', '.join(REVIEW_VERSIONS)}")]
    return validate_review_versions(versions, here)
