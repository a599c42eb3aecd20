"""Defaults of webhook configurations. Rule HOOK-1 (spec/webhooks.md).

Source: API reference, "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"."""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.admissionregistration_v1 import MutatingWebhook
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.apiserver.defaults.definitions import WEBHOOK_PORT

TIMEOUT_SECONDS = 10
_EVERYTHING = LabelSelector()


def default_webhook_configuration(obj: Any) -> Any:
    """Of both kinds: what every webhook that names no other value gets."""
    webhooks = tuple([_default_webhook(one) for one in obj.webhooks or ()])
    return obj if webhooks == (obj.webhooks or ()) else replace(obj, webhooks=webhooks)


def _default_webhook(webhook: Any) -> Any:
    changes: dict[str, Any] = {}
    if webhook.failure_policy is None:
        changes["failure_policy"] = "Fail"
    if webhook.match_policy is None:
        changes["match_policy"] = "Equivalent"
    if webhook.namespace_selector is None:
        changes["namespace_selector"] = _EVERYTHING
    if webhook.object_selector is None:
        changes["object_selector"] = _EVERYTHING
    if webhook.timeout_seconds is None:
        changes["timeout_seconds"] = TIMEOUT_SECONDS
    if isinstance(webhook, MutatingWebhook) and webhook.reinvocation_policy is None:
        changes["reinvocation_policy"] = "Never"
    if any(rule.scope is None for rule in webhook.rules or ()):
        changes["rules"] = tuple([
            replace(rule, scope="*") if rule.scope is None else rule for rule in webhook.rules
        ])  # fmt: skip
    service = webhook.client_config.service
    if service is not None and service.port is None:
        target = replace(service, port=WEBHOOK_PORT)
        changes["client_config"] = replace(webhook.client_config, service=target)
    return replace(webhook, **changes)
