"""Reads an AuthorizationConfiguration. Rule AUTHZ-12 (spec/authorization.md).

Whatever cannot be followed is refused, with the field and the reason. Source: Kubernetes
documentation, "Authorization" (configuring the API server using an authorization config file); API
reference, "kube-apiserver Configuration (v1)".
"""

from __future__ import annotations

from typing import Any, Final

from refk8s.core.api.cron_schedule import ScheduleError, parse_duration
from refk8s.core.apiserver.authorize.modes import WEBHOOK
from refk8s.core.apiserver.authorize.webhook import VERSIONS, compiled
from refk8s.core.apiserver.configuration_part import BadConfiguration, Part
from refk8s.core.apiserver.validation.names import dns_subdomain
from refk8s.core.cel.environment import InvalidExpression
from refk8s.core.context import SECOND
from refk8s.core.value import Value

API_VERSIONS: Final = tuple(
    [f"apiserver.config.k8s.io/{one}" for one in ("v1", "v1beta1", "v1alpha1")]
)
KIND: Final = "AuthorizationConfiguration"
TYPES: Final = ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", WEBHOOK)
AUTHORIZERS_MAX: Final = 32
CONDITIONS_MAX: Final = 64
TIMEOUT_SECONDS_MAX: Final = 30.0


class WebhookEntry(Value, frozen=True):
    """One webhook. The kubeconfig at the path names its server."""

    name: str
    kubeconfig: str
    version: str
    authorized_seconds: float
    unauthorized_seconds: float
    timeout_seconds: float = TIMEOUT_SECONDS_MAX
    fails_closed: bool = False
    conditions: tuple[str, ...] = ()


class Authorization(Value, frozen=True):
    """The modes in their order, and the webhooks of those that are Webhook."""

    modes: tuple[str, ...]
    webhooks: tuple[WebhookEntry, ...] = ()


def read_authorization(tree: Any) -> Authorization:
    """What the document says. Raises BadConfiguration."""
    whole = Part(tree, "")
    if whole.text("apiVersion") not in API_VERSIONS or whole.text("kind") != KIND:
        raise BadConfiguration(f"must be of kind {KIND}, {API_VERSIONS[0]}")
    parts = whole.parts("authorizers")
    if not parts:
        raise BadConfiguration("authorizers: at least one authorization mode must be defined")
    if len(parts) > AUTHORIZERS_MAX:
        raise BadConfiguration(f"authorizers: must have at most {AUTHORIZERS_MAX} items")
    whole.close("apiVersion", "kind")
    modes: list[str] = []
    names: list[str] = []
    webhooks: list[WebhookEntry] = []
    for part in parts:
        type_, name = part.required("type"), part.required("name")
        if type_ not in TYPES:
            known = ", ".join(f'"{one}"' for one in TYPES)
            raise BadConfiguration(
                f'{part.at}.type: Unsupported value: "{type_}": supported values: {known}'
            )
        if type_ in modes and type_ != WEBHOOK:
            raise BadConfiguration(f'{part.at}.type: Duplicate value: "{type_}"')
        if name in names:
            raise BadConfiguration(f'{part.at}.name: Duplicate value: "{name}"')
        if problem := dns_subdomain(name):
            words = f"authorizer name is invalid: {problem}"
            raise BadConfiguration(f'{part.at}.name: Invalid value: "{name}": {words}')
        modes.append(type_)
        names.append(name)
        webhook = part.part("webhook")
        if type_ != WEBHOOK and webhook is not None:
            raise BadConfiguration(f"{webhook.at}: may only be specified when type=Webhook")
        if type_ == WEBHOOK:
            if webhook is None:
                raise BadConfiguration(f"{part.at}.webhook: required when type=Webhook")
            webhooks.append(_read_webhook(name, webhook))
        part.close()
    return Authorization(tuple(modes), tuple(webhooks))


def _read_webhook(name: str, part: Part) -> WebhookEntry:
    timeout = _seconds(part, "timeout")
    if timeout > TIMEOUT_SECONDS_MAX:
        raise BadConfiguration(f"{part.at}.timeout: must be > 0s and <= 30s")
    version = _one_of(part, "subjectAccessReviewVersion", VERSIONS)
    authorized = _seconds(part, "authorizedTTL") * _is_cached(part, "cacheAuthorizedRequests")
    refused = _seconds(part, "unauthorizedTTL") * _is_cached(part, "cacheUnauthorizedRequests")
    policy = _one_of(part, "failurePolicy", ("NoOpinion", "Deny"))
    conditions = _read_conditions(part)
    if conditions or part.has("matchConditionSubjectAccessReviewVersion"):
        _one_of(part, "matchConditionSubjectAccessReviewVersion", ("v1",))
    connection = part.part("connectionInfo") or part.missing("connectionInfo")
    _one_of(connection, "type", ("KubeConfigFile",))
    kubeconfig = connection.required("kubeConfigFile")
    if not kubeconfig.startswith("/"):
        raise BadConfiguration(f"{connection.at}.kubeConfigFile: must be an absolute path")
    connection.close()
    part.close("matchConditionSubjectAccessReviewVersion")
    return WebhookEntry(
        name, kubeconfig, version, authorized, refused, timeout, policy == "Deny", conditions
    )


def _is_cached(part: Part, name: str) -> bool:
    """Whether such answers are kept; they are by default."""
    return part.flag(name) if part.has(name) else True


def _one_of(part: Part, name: str, values: tuple[str, ...]) -> str:
    value = part.required(name)
    if value not in values:
        known = ", ".join(f'"{one}"' for one in values)
        words = f'Unsupported value: "{value}": supported values: {known}'
        raise BadConfiguration(f"{part.at}.{name}: {words}")
    return value


def _seconds(part: Part, name: str) -> float:
    text = part.required(name)
    try:
        seconds = parse_duration(text) / SECOND
    except ScheduleError as error:
        raise BadConfiguration(f"{part.at}.{name}: {error}") from None
    if seconds <= 0:
        raise BadConfiguration(f"{part.at}.{name}: must be > 0s")
    return seconds


def _read_conditions(part: Part) -> tuple[str, ...]:
    parts = part.parts("matchConditions")
    if len(parts) > CONDITIONS_MAX:
        raise BadConfiguration(
            f"{part.at}.matchConditions: must have at most {CONDITIONS_MAX} items"
        )
    found: list[str] = []
    for one in parts:
        text = one.required("expression")
        if text in found:
            raise BadConfiguration(f'{one.at}.expression: Duplicate value: "{text}"')
        try:
            compiled(text)
        except InvalidExpression as error:
            raise BadConfiguration(f"{one.at}.expression: {error}") from None
        one.close()
        found.append(text)
    return tuple(found)
