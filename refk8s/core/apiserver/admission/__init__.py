"""Admission: the values that the cluster adds to an object, and valid objects that it rejects.
Rules ADM-1 ..., ALLOC-1 ...

    admit       create and update, after defaulting and before validation
    check       create and update, after validation
    removed     delete: frees the addresses and ports that the object held

Every stage takes an object and returns the same or a changed one, or raises ApiError. Whatever must
be written together with the object (the address of a service) is returned as writes and compares
for the same transaction, so two API servers on one store cannot both commit it (ADM-1). A stage
does not change an object that it cannot interpret (ADM-11); validation, which follows, rejects it.

plugins.py has the plugins as one list, in upstream's order (ADM-45). Source: Kubernetes
documentation, "Admission Control in Kubernetes".
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api import resources
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.admission import allocate, namespace, resource_quota, webhooks
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.admission.matching import CREATE, DELETE, UPDATE, AdmissionRequest
from refk8s.core.apiserver.admission.outcome import Admission, AdmissionConfig
from refk8s.core.apiserver.admission.plugins import Stage, stages_of
from refk8s.core.apiserver.admission.versioned import admission_request, as_sent
from refk8s.core.apiserver.admission.webhooks import Remake, same
from refk8s.core.apiserver.custom.definitions import definition_of
from refk8s.core.apiserver.custom.objects import guard_definition
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.store import Compare, Delete, Put

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

__all__ = [
    "Admission",
    "AdmissionConfig",
    "admit",
    "admit_body",
    "admit_delete",
    "admit_scale",
    "check",
    "removed",
]


def admit(exchange: "Exchange", new: Any, old: Any, remake: Remake = same) -> Admission:
    """The object to store, and what is written with it. Raises ApiError 403, 404 or 422 to reject
    it; Needed, if a webhook must be asked.

    `old` is None on create. `new` is defaulted and has its name and uid. `remake` makes such an
    object of one that a webhook has changed.
    """
    request, store = exchange.request, exchange.store
    resource = request.resource
    compares: tuple[Compare, ...] = ()
    if old is None and resource.namespaced:
        compares = namespace.check_namespace(request, resource, new, store)  # ADM-2
    if resource.is_custom:
        record = definition_of(resource, store)
        name = new.metadata.name or ""
        compares += guard_definition(resource, name, record, is_new=old is None)
    stages = stages_of(resource, request.subresource, exchange.config.admission.plugins)
    if stages.mutating:
        new = _plugged(exchange, new, old, stages.mutating)
    if _ASKED.of(store) and not exchange.is_admitted:
        new = _mutated(exchange, new, old, remake, stages.mutating)
    if stages.preparing:
        new = _plugged(exchange, new, old, stages.preparing)
    if resource == resources.SERVICES and not request.subresource:
        config, is_dry_run = exchange.config.admission, request.options.dry_run
        admission = allocate.allocate(
            new, old, store, exchange.context, config, is_dry_run=bool(is_dry_run)
        )
        return Admission(admission.object, compares + admission.compares, admission.writes)
    return Admission(new, compares)


def _plugged(exchange: "Exchange", new: Any, old: Any, stages: tuple[Stage, ...]) -> Any:
    """The object after these stages."""
    request, store, context = exchange.request, exchange.store, exchange.context
    for stage in stages:
        new = stage(request, new, old, store, context)
    return new


def _mutated(
    exchange: "Exchange", new: Any, old: Any, remake: Remake, stages: tuple[Stage, ...]
) -> Any:
    """The object after the mutating policies and webhooks (POL-12, HOOK-9). The stages run once
    more after one of them has changed it."""
    is_new, request = old is None, exchange.request
    operation = CREATE if is_new else UPDATE
    metadata = getattr(request.body, "metadata", None)
    is_named = bool(request.name or getattr(metadata, "name", None))

    def request_of(obj: Any) -> AdmissionRequest:
        shown = as_sent(obj, is_named) if is_new else obj
        return admission_request(exchange, operation, shown, old)

    def rerun(obj: Any) -> Any:
        return _plugged(exchange, obj, old, stages)

    return _changed(exchange, new, request_of, remake, rerun)


def _changed(
    exchange: "Exchange",
    new: Any,
    request_of: Callable[[Any], AdmissionRequest],
    remake: Remake,
    rerun: Callable[[Any], Any],
) -> Any:
    """The object after the policies and then the webhooks. After a change, `rerun` and those that
    ask for it once more (POL-14, HOOK-10)."""
    if not _ASKED.of(exchange.store):
        return new
    if not _has_bindings(exchange, resources.MUTATING_ADMISSION_POLICY_BINDINGS):
        return webhooks.mutate(exchange, new, request_of, remake, rerun)
    # imported here: a start without policies loads no expressions
    from refk8s.core.apiserver.admission.policies.mutating import Mutation

    policies = Mutation(exchange, request_of, remake)
    first = policies.first(new)
    last = webhooks.mutate(
        exchange, first, request_of, remake, lambda obj: policies.second(rerun(obj))
    )
    # if a webhook has changed it, the second pass was made already
    return policies.second(rerun(first)) if last is first and first is not new else last


def admit_scale(exchange: "Exchange", new: Any, old: Any) -> Any:
    """A Scale to write, after webhooks have been asked about it. Raises ApiError."""
    return _asked(exchange, UPDATE, new, old)


def admit_body(exchange: "Exchange", operation: str, body: Any) -> Any:
    """The body of a request that stores no object of its own (a Binding, an Eviction, the options
    of a stream), after webhooks have been asked about it. Raises ApiError."""
    return _asked(exchange, operation, body, None)


def admit_delete(exchange: "Exchange", old: Any, *, is_one_of_many: bool = False) -> None:
    """Ask the webhooks about the deletion of an object (HOOK-12). Raises ApiError. As upstream, one
    of a collection has no name in the request."""
    _asked(exchange, DELETE, None, old, "" if is_one_of_many else None)


def _asked(
    exchange: "Exchange", operation: str, new: Any, old: Any, name: str | None = None
) -> Any:
    new = _changed(
        exchange,
        new,
        lambda obj: admission_request(exchange, operation, obj, old, name),
        same,
        lambda obj: obj,
    )
    _validated(exchange, lambda: admission_request(exchange, operation, new, old, name))
    return new


def _is_any(kept: tuple[Sequence[Any], ...]) -> bool:
    return any(kept)


_ASKED: Final[Kept[bool]] = Kept(
    (
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
        resources.MUTATING_ADMISSION_POLICY_BINDINGS,
        *webhooks.RESOURCES,
    ),
    _is_any,
)
"""Whether there is a policy in force or a webhook at all. A cluster without any, which is the usual
one, pays this look-up instead of four (0.5 of 3 µs of a write)."""

_BINDINGS: Final[dict[str, Kept[bool]]] = {
    kind.plural: Kept((kind,), _is_any)
    for kind in (
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
        resources.MUTATING_ADMISSION_POLICY_BINDINGS,
    )
}


def _has_bindings(exchange: "Exchange", bindings: Resource) -> bool:
    """Whether a policy may take effect (POL-6). About a microsecond."""
    return _BINDINGS[bindings.plural].of(exchange.store)


def _validated(exchange: "Exchange", request_of: Callable[[], AdmissionRequest]) -> None:
    """Ask the validating policies, and then the validating webhooks (POL-6, HOOK-11)."""
    if not _ASKED.of(exchange.store):
        return
    if _has_bindings(exchange, resources.VALIDATING_ADMISSION_POLICY_BINDINGS):
        from refk8s.core.apiserver.admission.policies import validating

        validating.validate(exchange, request_of)
    webhooks.validate(exchange, request_of)


def check(exchange: "Exchange", new: Any, old: Any) -> Admission:
    """Raise ApiError 403 if the cluster rejects a valid object (ADM-20, ADM-22, ADM-31, ADM-41,
    ADM-44, PSA-4), or what a policy or webhook says (POL-10, HOOK-11). Returns warnings, and the
    compares and writes that charge it to quotas (QUOTA-2), which comes last."""
    request = exchange.request
    warnings: tuple[str, ...] = ()
    enabled = exchange.config.admission.plugins
    for refuse in stages_of(request.resource, request.subresource, enabled).validating:
        warnings += refuse(exchange, new, old) or ()
    if _ASKED.of(exchange.store) and not exchange.is_admitted:
        operation = CREATE if old is None else UPDATE
        _validated(exchange, lambda: admission_request(exchange, operation, new, old))
    limited = exchange.config.admission.limited
    compares, writes = resource_quota.charge(request, new, old, exchange.store, limited)
    return Admission(new, compares, writes, warnings)


def removed(
    resource: Resource, obj: Any, store: Reader
) -> tuple[tuple[Compare, ...], tuple[Put[Any] | Delete, ...]]:
    """The compares and writes of the transaction that removes this object (ALLOC-6)."""
    if resource == resources.SERVICES:
        return allocate.release(obj, store)
    return (), ()
