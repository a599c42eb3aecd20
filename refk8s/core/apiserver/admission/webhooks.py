"""Admission webhooks: which are asked about a request, in which order, and what follows from their
answers. Rules HOOK-5 to HOOK-12 (spec/webhooks.md).

    mutate      one after the other, each with the object of the previous one; then, if the object
                has changed, those that ask for it once more (reinvocationPolicy IfNeeded)
    validate    all at the same time

Source: Kubernetes documentation, "Dynamic Admission Control".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api import resources, status
from refk8s.core.api.codec import DecodeError, encode, to_tree
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import matching
from refk8s.core.apiserver.admission.conditions import (
    Conditions,
    ConditionsFailed,
    variables_of,
)
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.admission.matching import AdmissionRequest, Criteria, compile_criteria
from refk8s.core.apiserver.admission.review import (
    MUTATING,
    VALIDATING,
    Admitted,
    WebhookDenied,
    WebhookFailed,
    apply_patch,
    read_answer,
    refuse_dry_run,
    remarks_in,
    write_review,
)
from refk8s.core.apiserver.admission.versioned import in_version, record_of
from refk8s.core.apiserver.calls import (
    AskedWebhook,
    Call,
    Calls,
    Client,
    Result,
    ask,
    client_of,
    timed,
)
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

TIMEOUT_SECONDS: Final = 10
Remake = Callable[[Any, Any], Any]
"""(object after a patch, object before it) -> the object with its defaults, and with the fields
that only the API server sets."""


def same(changed: Any, before: Any) -> Any:
    """The object as the webhook has changed it."""
    return changed


class Webhook(Value, frozen=True, eq=False):
    """One webhook of a configuration, compiled."""

    configuration: str
    name: str
    is_mutating: bool
    criteria: Criteria
    conditions: Conditions
    fails_closed: bool
    has_side_effects: bool
    is_reinvoked: bool
    version: str
    client: Client
    seconds: float


class Index(Value, frozen=True, eq=False):
    """Webhooks by the plural of the resources that they name; `others`: those for every
    resource."""

    by_plural: Mapping[str, tuple[Webhook, ...]]
    others: tuple[Webhook, ...]

    def of(self, plural: str) -> tuple[Webhook, ...]:
        """The webhooks that may be for this resource, in their order. O(1)."""
        return self.by_plural.get(plural, self.others)


Indexes = tuple[Index, Index]
"""The mutating webhooks, and the validating ones."""

RESOURCES: Final = (
    resources.MUTATING_WEBHOOK_CONFIGURATIONS,
    resources.VALIDATING_WEBHOOK_CONFIGURATIONS,
)


def compile_webhooks(objects: Sequence[Sequence[Any]]) -> Indexes:
    """The webhooks of all configurations of both kinds."""
    mutating, validating = objects
    return _index(mutating, is_mutating=True), _index(validating, is_mutating=False)


def _index(configurations: Sequence[Any], *, is_mutating: bool) -> Index:
    """Configurations by name; the webhooks of one in their order (HOOK-5)."""
    hooks = [
        _compile(one.metadata.name, webhook, is_mutating)
        for one in sorted(configurations, key=lambda one: str(one.metadata.name))
        for webhook in one.webhooks or ()
    ]
    named = {plural for hook in hooks for plural in hook.criteria.plurals()}
    return Index(
        {
            plural: tuple([hook for hook in hooks if hook.criteria.plurals() & {plural, "*"}])
            for plural in sorted(named)
        },
        tuple([hook for hook in hooks if "*" in hook.criteria.plurals()]),
    )


def _compile(configuration: str, webhook: Any, is_mutating: bool) -> Webhook:
    client = client_of(webhook.client_config)
    versions = [one for one in webhook.admission_review_versions if one in ("v1", "v1beta1")]
    return Webhook(
        configuration=configuration,
        name=webhook.name,
        is_mutating=is_mutating,
        criteria=compile_criteria(
            webhook.rules,
            webhook.match_policy,
            webhook.namespace_selector,
            webhook.object_selector,
        ),
        conditions=Conditions(webhook.match_conditions),
        fails_closed=webhook.failure_policy != "Ignore",
        has_side_effects=webhook.side_effects not in ("None", "NoneOnDryRun"),
        is_reinvoked=is_mutating and webhook.reinvocation_policy == "IfNeeded",
        version=versions[0] if versions else "",
        client=client,
        seconds=float(webhook.timeout_seconds or TIMEOUT_SECONDS),
    )


_KEPT: Final[Kept[Indexes]] = Kept(RESOURCES, compile_webhooks)
"""The webhooks of the last store. Only a cache: another store is read anew."""


def _webhooks(exchange: Exchange, *, is_mutating: bool) -> tuple[Webhook, ...]:
    """The webhooks that may be for the resource of the request. None for configurations (MATCH-4).
    About a microsecond if there are none."""
    request = exchange.request
    indexes = _KEPT.of(exchange.store)
    found = indexes[0 if is_mutating else 1].of(request.resource.plural)
    if not found or request.resource.prefix in matching.EXEMPT:
        return ()
    return found


# --- mutating webhooks


def mutate(
    exchange: Exchange,
    new: Any,
    request_of: Callable[[Any], AdmissionRequest],
    remake: Remake,
    rerun: Callable[[Any], Any],
) -> Any:
    """The object after the mutating webhooks (HOOK-9, HOOK-10). `request_of`: the request for
    admission of an object; `rerun`: the built-in stages once more, after a change."""
    waiting = _webhooks(exchange, is_mutating=True)
    if not waiting:
        return new
    again: set[int] = set()
    invoked: set[int] = set()
    has_changed = False
    for is_second in (False, True):
        for number, webhook in enumerate(waiting):
            if is_second and number not in again:
                continue
            patched = _mutate_by(exchange, webhook, request_of(new), new, remake, is_second)
            if patched is None:
                continue
            if patched is not new:
                new, has_changed = patched, True
                again |= invoked
            if webhook.is_reinvoked:
                invoked.add(number)
        if is_second or not has_changed:
            break
        after = rerun(new)
        if after != new:
            again |= invoked
        new = after
    return new


def _mutate_by(
    exchange: Exchange,
    webhook: Webhook,
    request: AdmissionRequest,
    new: Any,
    remake: Remake,
    is_second: bool,
) -> Any:
    """The object after this webhook; None if it is not asked."""
    found = _match(exchange, webhook, request)
    if found is None:
        return None
    asked, resource = found
    (result,) = ask(exchange.calls, lambda calls: _call(calls, webhook, asked, resource, is_second))
    admitted = _outcome(
        exchange, webhook, _uid(exchange, webhook, asked, resource, is_second), result
    )
    if admitted is None or not admitted.patch:
        return new
    tree = to_tree(asked.object)
    changed = apply_patch(webhook.name, tree, admitted)
    if changed == tree and encode(changed) == encode(tree):
        return new
    try:
        record = record_of(exchange, request, resource, changed)
    except DecodeError as error:
        raise ApiError(status.internal_error(str(error))) from None
    return remake(record, new)


# --- validating webhooks


def validate(exchange: Exchange, request_of: Callable[[], AdmissionRequest]) -> None:
    """Ask all validating webhooks (HOOK-11). Raises ApiError if one denies the request, or fails
    and its policy is Fail; that of the first of them, in their order."""
    waiting = _webhooks(exchange, is_mutating=False)
    if not waiting:
        return
    request = request_of()
    found = [
        (webhook, *match)
        for webhook in waiting
        if (match := _match(exchange, webhook, request)) is not None
    ]
    if not found:
        return

    def maker(webhook: Webhook, asked: AdmissionRequest, resource: Resource) -> Any:
        return lambda calls: _call(calls, webhook, asked, resource, False)

    results = ask(exchange.calls, *[maker(*one) for one in found])
    problems: list[ApiError] = []
    for (webhook, asked, resource), result in zip(found, results, strict=True):
        uid = _uid(exchange, webhook, asked, resource, False)
        try:
            _outcome(exchange, webhook, uid, result)
        except ApiError as error:
            problems.append(error)
    if problems:
        raise problems[0]


# --- one webhook


def _match(
    exchange: Exchange, webhook: Webhook, request: AdmissionRequest
) -> tuple[AdmissionRequest, Resource] | None:
    """The request as this webhook sees it, and the resource by which it matches; None if it does
    not. Raises ApiError 403 for a condition without a value, if the policy is Fail (MATCH-5)."""
    resource = matching.match(webhook.criteria, request, exchange.store)
    if resource is None:
        return None
    asked = in_version(exchange, request, resource)
    if webhook.conditions.texts:
        # loaded with the first condition, as all of CEL
        from refk8s.core.apiserver.admission.authorizer import authorizer_of

        variables = variables_of(asked, resource)
        variables["authorizer"] = authorizer_of(asked, exchange.store, exchange.config)
        try:
            if not webhook.conditions.hold(variables):
                return None
        except ConditionsFailed as failed:
            if not webhook.fails_closed:
                return None
            why = status.forbidden(request.resource, request.name, str(failed))
            raise ApiError(why) from None
    if request.dry_run and webhook.has_side_effects:
        raise refuse_dry_run(webhook.name)
    return asked, resource


def _uid(
    exchange: Exchange,
    webhook: Webhook,
    asked: AdmissionRequest,
    resource: Resource,
    is_second: bool,
) -> str:
    assert exchange.calls is not None
    return _identify(exchange.calls, webhook, asked, resource, is_second)


def _identify(
    calls: Calls, webhook: Webhook, asked: AdmissionRequest, resource: Resource, is_second: bool
) -> str:
    """The uid of a review. A webhook that is asked the same twice is asked once; one that has been
    configured anew is another one."""
    parts = (
        webhook.configuration.encode(),
        webhook.name.encode(),
        webhook.client.url.encode(),
        b"mutating" if webhook.is_mutating else b"validating",
        b"2" if is_second else b"1",
        write_review(webhook.version, "", asked, resource),
    )
    return calls.id_of(*parts)


def _call(
    calls: Calls, webhook: Webhook, asked: AdmissionRequest, resource: Resource, is_second: bool
) -> Call:
    uid = _identify(calls, webhook, asked, resource, is_second)
    return Call(
        uid,
        timed(webhook.client.url, webhook.seconds),
        webhook.client.service,
        webhook.client.ca_bundle,
        write_review(webhook.version, uid, asked, resource),
        webhook.seconds,
        asked=AskedWebhook(
            webhook.name,
            MUTATING if webhook.is_mutating else VALIDATING,
            asked.operation,
            webhook.version,
            webhook.fails_closed,
        ),
    )


def _outcome(exchange: Exchange, webhook: Webhook, uid: str, result: Result) -> Admitted | None:
    """What the webhook has decided; None if it has failed and its policy is Ignore (HOOK-8)."""
    assert exchange.calls is not None
    warnings, annotations = remarks_in(webhook.name, result)
    exchange.calls.warn(warnings)
    exchange.calls.annotate(annotations)
    try:
        return read_answer(
            webhook.name, webhook.version, uid, result, is_mutating=webhook.is_mutating
        )
    except WebhookDenied as denied:
        raise ApiError(denied.status) from None
    except WebhookFailed as failed:
        if webhook.fails_closed:
            words = f'failed calling webhook "{webhook.name}": {failed}'
            raise ApiError(status.internal_error(words)) from None
        if exchange.calls.is_late:
            words = "Timeout: request did not complete within requested timeout"
            raise ApiError(status.failure(504, "Timeout", words)) from None
        return None


__all__ = ["Webhook", "compile_webhooks", "mutate", "validate"]
