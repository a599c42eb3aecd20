"""The stages of a request. Read this file first. Rules API-1 to API-28, DEL- (spec/api.md), LIST-,
WATCHAPI- (spec/watch_api.md).

    request -> authorize -> decode the body (http.py) -> by verb:
        get, list        read.py                                                                 -> Response
        watch            watch.py                                                                -> Stream
        create           identify -> begin -> default -> admit -> validate -> conclude           -> Commit
        update, patch    guard -> propose -> default -> admit -> carry -> validate -> conclude   -> Commit, or Response: no change
        delete           preconditions -> mark or remove                                         -> Commit
        connect          (exec, attach, port-forward, log, proxy)                                -> Connect

Every stage gets the same value, an `Exchange`. A request over HTTP is authorized before its body is
read (http.py), and then passed to `decide`.

If a stage needs the answer of another server, such as a webhook, the outcome is `Ask`, and `resume`
decides the request again with the answer (calls.py).

No stage changes the store. A `Commit` has a transaction, which is conditional on what was read, and
the answer for the case that it is committed. After a conflict the same request is handled again on
the newer state (API-9). A client's mistake is returned as a Status and never raised as an
exception.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import delete as deleting
from refk8s.core.apiserver import patch, read, reviews, subresources, versions, watch, write
from refk8s.core.apiserver.admission import admit, admit_body, admit_scale, removed
from refk8s.core.apiserver.admission import check as admission_check
from refk8s.core.apiserver.admission.matching import CONNECT, CREATE
from refk8s.core.apiserver.admission.versioned import connect_options
from refk8s.core.apiserver.aggregation.remotes import Remote, remote_for
from refk8s.core.apiserver.apply.track import with_managers, without_new_times
from refk8s.core.apiserver.authorize import authorize
from refk8s.core.apiserver.authorize.further import check_further, require_create
from refk8s.core.apiserver.calls import (
    QUESTIONS_MAX,
    Ask,
    Calls,
    Needed,
    Result,
    answered,
    begun,
)
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.custom import definitions, objects
from refk8s.core.apiserver.custom import versions as custom_versions
from refk8s.core.apiserver.defaults import default, default_status
from refk8s.core.apiserver.disabled import drop_disabled
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.outcome import Commit, Connect, Measure, Outcome, Reader
from refk8s.core.apiserver.strategy import Strategy, strategy_of
from refk8s.core.apiserver.validation import (
    validate_approval_update,
    validate_create,
    validate_ephemeral_update,
    validate_resize_update,
    validate_status_update,
    validate_update,
)
from refk8s.core.apiserver.warnings import warnings_of
from refk8s.core.context import Instant
from refk8s.core.store import Record
from refk8s.core.value import evolve

Written: TypeAlias = Response | Commit


def handle(exchange: Exchange) -> Outcome:
    """The outcome of a component's request on this state of the store (HTTP-8). Never raises
    because of a client's mistake (API-14)."""
    try:
        authorize(exchange.request.user, exchange.request, exchange.store, exchange.config)
    except ApiError as error:
        return Response(error.status.code or 500, error.status)
    except Needed as needed:
        if exchange.calls is None:
            return handle(begun(exchange))
        return _asking(exchange, exchange.calls, needed, is_authorized=False)
    return decide(exchange)


def decide(exchange: Exchange) -> Outcome:
    """The stages after `authorize`, for requests that `http.receive` has authorized before it read
    the body."""
    try:
        outcome = _decide(exchange)
    except Needed as needed:
        if exchange.calls is None:
            exchange.notes.clear()
            return decide(begun(exchange))
        return _asking(exchange, exchange.calls, needed)
    if exchange.notes.warnings or exchange.notes.annotations:
        outcome = _with(outcome, exchange.notes.warnings, exchange.notes.annotations)
    return outcome if exchange.calls is None else _after_calls(outcome, exchange.calls)


def _asking(
    exchange: Exchange, known: Calls, needed: Needed, is_authorized: bool = True
) -> Ask | Response:
    """The outcome of a request that needs the answer of another server."""
    if known.questions >= QUESTIONS_MAX:
        words = f"authorizers ask more than {QUESTIONS_MAX} questions about this request"
        return Response(500, status.internal_error(words))
    return Ask(needed.calls, exchange.request, known, needed.question, is_authorized)


def resume(
    ask: Ask, results: Sequence[Result], store: Reader, config: Config, now: Instant
) -> Outcome:
    """The outcome of the request on this state of the store, with the results of its calls
    (CALL-1)."""
    calls = answered(ask.known, ask.calls, results, now)
    if ask.question is not None:
        calls = evolve(calls, questions=calls.questions + 1)
    exchange = Exchange(ask.request, store, calls.context(), config, calls)
    return decide(exchange) if ask.is_authorized else handle(exchange)


def again(request: Request, calls: Calls) -> Ask:
    """The request after a conflict: what other servers have answered is still known (CALL-3)."""
    return Ask((), request, calls)


def _after_calls(outcome: Outcome, calls: Calls) -> Outcome:
    """The outcome with the warnings and annotations of other servers."""
    outcome = _with(outcome, calls.warnings, calls.annotations)
    return evolve(outcome, calls=calls) if isinstance(outcome, Commit) else outcome


def _with(outcome: Outcome, warnings: Sequence[str], annotations: Mapping[str, str]) -> Outcome:
    """The outcome with these warnings and annotations before its own."""
    if not (warnings or annotations):
        return outcome
    texts, pairs = tuple(warnings), tuple(annotations.items())

    def with_those(response: Response) -> Response:
        return evolve(
            response,
            warnings=texts + response.warnings,
            annotations=pairs + response.annotations,
        )

    if isinstance(outcome, Response):
        return with_those(outcome)
    if not isinstance(outcome, Commit):
        return outcome
    inner = outcome.respond
    return evolve(outcome, respond=lambda committed: with_those(inner(committed)))


def _decide(exchange: Exchange) -> Outcome:
    request = exchange.request
    try:
        if request.resource.is_custom:
            return _decide_custom(exchange)
        if not request.resource.storage_api_version:
            return _act(exchange)
        stored = versions.as_stored(request, exchange.store)  # API-28
        return versions.as_requested(_act(evolve(exchange, request=stored)), request.resource)
    except ApiError as error:
        return Response(error.status.code or 500, error.status)


def _decide_custom(exchange: Exchange) -> Outcome:
    """A request for a custom resource is decided on the definition and the objects of this state
    (CRD-3, CRD-4). Another API server may serve it (APISVC-11)."""
    store, request = exchange.store, exchange.request
    group, version = request.resource.group, request.resource.version
    if (remote := remote_for(group, version, store)) is not None:
        return _forward(exchange, remote)
    resource = definitions.current(request.resource, store)
    shown: Any = custom_versions.Shown(store, resource, exchange.calls)
    request = evolve(request, resource=resource)
    outcome = _act(evolve(exchange, request=request, store=shown))
    return custom_versions.outcome_of(resource, outcome, exchange.calls)


def _act(exchange: Exchange) -> Outcome:
    request = exchange.request
    if request.resource.prefix in _NOT_IN_STORE:
        return _measured(exchange)
    act = _ACTS.get((request.verb, request.subresource)) or _act_on_part(request)
    return act(exchange)


_NOT_IN_STORE = frozenset(one.prefix for one in (*resources.METRICS, resources.COMPONENT_STATUSES))


def _measured(exchange: Exchange) -> Outcome:
    """A read of what no store has."""
    request = exchange.request
    if request.resource == resources.COMPONENT_STATUSES:
        # imported here, because it is rarely requested
        from refk8s.core.apiserver import component_statuses

        is_list = request.verb == "list"
        return (component_statuses.list_statuses if is_list else component_statuses.get)(exchange)
    group, version = request.resource.group, request.resource.version
    if (remote := remote_for(group, version, exchange.store)) is not None:
        return _forward(exchange, remote)
    if not exchange.config.has_metrics:
        raise ApiError(status.unavailable("no kubelet can be asked for its metrics"))
    return Measure(request)


def _forward(exchange: Exchange, remote: Remote) -> Outcome:
    # imported here, because few clusters have another API server
    from refk8s.core.apiserver.aggregation.component import forward

    return forward(exchange, remote)


# --- the verbs


def _create(exchange: Exchange) -> Outcome:
    """POST: a new object with the initial status of its kind."""
    request, resource = exchange.request, exchange.request.resource
    if (answered_alone := _NOT_STORED.get(resource)) is not None:
        return answered_alone(exchange)
    obj = write.identify_new(request)
    name = write.name_new(request, obj, exchange.store, exchange.context)
    return _create_as(exchange, strategy_of(resource), obj, name)


def _create_as(
    exchange: Exchange, strategy: Strategy, obj: Any, name: str, *, is_applied: bool = False
) -> Written:
    request, store, context = exchange.request, exchange.store, exchange.context
    resource = request.resource
    obj = write.begin(strategy, obj, request.namespace, name, context)
    obj = _defaulted(resource, obj, None)
    if is_applied:  # as upstream, an apply keeps this field of the configuration
        seconds = request.body.metadata.deletion_grace_period_seconds
        obj = replace(obj, metadata=replace(obj.metadata, deletion_grace_period_seconds=seconds))
    else:
        obj = with_managers(request, None, obj, context)  # APPLY-12

    def remake(changed: Any, before: Any) -> Any:
        made = write.remake_new(request, strategy, changed, before)
        return _defaulted(resource, made, None)

    admission = admit(exchange, obj, None, remake)
    obj = admission.object
    name = obj.metadata.name or ""
    check_further(exchange, obj, None)
    write.check(resource, name, validate_create(request.requested_resource or resource, obj))
    charged = admission_check(exchange, obj, None)
    if request.verb == "create":
        write.refuse_revision(request, request.body.metadata)
    key = resource.key(request.namespace, name)
    if (taken := store.get(key)) is not None:
        write.refuse_existing(resource, taken)
    warnings = warnings_of(request.requested_resource or resource, obj, None)  # WARN-2
    warnings += charged.warnings
    return write.conclude_create(
        request,
        key,
        obj,
        admission.compares + charged.compares,
        admission.writes + charged.writes,
        warnings,
    )


def _update(exchange: Exchange) -> Written:
    """PUT: the object, or the part of it that the path names, is replaced by the body."""
    request = exchange.request
    strategy = strategy_of(request.resource)
    body = request.body
    write.identify(request, body.metadata)
    record = exchange.store.get(request.resource.key(request.namespace, request.name))
    write.guard(request, strategy, record, body.metadata)
    if record is None:
        if strategy.create_on_update and not request.subresource:  # API-7
            require_create(exchange)
            return _create_as(exchange, strategy, write.identify_new(request), request.name)
        raise ApiError(status.not_found(request.resource, request.name))
    return _change(exchange, strategy, record, body, ())


def _patch(exchange: Exchange) -> Written:
    """PATCH: the object is changed by a patch, or a configuration is applied."""
    request, resource = exchange.request, exchange.request.resource
    if _patch_of(request).media_type == patch.APPLY_PATCH:
        return _apply(exchange)
    strategy = strategy_of(resource)
    record = read.find(request, exchange.store)
    body, warnings = write.patched(
        resource,
        None if resource.is_custom else resource.type,
        record.value,
        _patch_of(request),
        request.options.field_validation,
    )
    write.identify(request, body.metadata)
    write.guard(request, strategy, record, body.metadata)
    return _change(exchange, strategy, record, body, warnings)


def _apply(exchange: Exchange) -> Written:
    """PATCH: a configuration is applied; the object is created if it does not exist
    (APPLY-15)."""
    request, resource = exchange.request, exchange.request.resource
    record = read.find_or_none(request, exchange.store)
    if record is None and request.subresource:
        raise ApiError(status.not_found(resource, request.name))
    body = _applied(exchange, None if record is None else record.value)
    strategy = strategy_of(resource)
    if record is not None:
        write.identify(request, body.metadata)
        write.guard(request, strategy, record, body.metadata)
        return _change(exchange, strategy, record, body, (), is_applied=True)
    if body.metadata.uid:
        raise ApiError(status.conflict(resource, request.name, _no_such_uid(body.metadata.uid)))
    if body.metadata.resource_version:
        write.number_of(body.metadata.resource_version)
    require_create(exchange)
    # the namespace is that of a create
    write.identify(request, replace(body.metadata, namespace=None))
    creation = evolve(exchange, request=evolve(request, body=body))
    obj = write.identify_new(creation.request)
    return _create_as(creation, strategy, obj, request.name, is_applied=True)


def _applied(exchange: Exchange, live: Any) -> Any:
    """The object after the apply, in the version of the store (APPLY-19)."""
    from refk8s.core.apiserver.apply.apply import apply, read_configuration

    request, context = exchange.request, exchange.context
    requested = request.requested_resource or request.resource
    config = read_configuration(requested, _patch_of(request).document)
    if requested == request.resource:
        return apply(request, requested, live, config, context)
    shown = None if live is None else versions.from_stored(requested, live)
    return versions.to_stored(requested, apply(request, requested, shown, config, context), live)


def _no_such_uid(uid: str) -> str:
    return (
        f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
    )


def _change(
    exchange: Exchange,
    strategy: Strategy,
    record: Record[Any],
    body: Any,
    warnings: tuple[str, ...],
    *,
    is_applied: bool = False,
) -> Written:
    """The common stages of update and patch, given the requested object. `is_applied`: it has its
    managedFields already."""
    request, store = exchange.request, exchange.store
    resource, old = request.resource, record.value
    new = write.propose(request, strategy, old, body)
    is_status = request.subresource in ("status", "approval")
    new = default_status(resource, new) if is_status else _defaulted(resource, new, old)
    if not is_applied:
        new = with_managers(request, old, new, exchange.context)  # APPLY-12

    def remake(changed: Any, before: Any) -> Any:
        write.identify(request, changed.metadata)
        made = write.propose(request, strategy, old, changed)
        metadata = replace(made.metadata, managed_fields=before.metadata.managed_fields)
        made = replace(made, metadata=metadata)
        return default_status(resource, made) if is_status else _defaulted(resource, made, old)

    admission = admit(exchange, new, old, remake)
    check_further(exchange, admission.object, old)
    new = write.carry(strategy, old, admission.object, is_status=is_status)
    validate = _VALIDATE.get(request.subresource, validate_update)
    write.check(resource, request.name, validate(request.requested_resource or resource, new, old))
    charged = admission_check(exchange, new, old)
    new = without_new_times(old, new)
    if not request.subresource:
        warnings += warnings_of(request.requested_resource or resource, new, old)  # WARN-2
    warnings += charged.warnings
    if deleting.is_emptied(old, new):  # DEL-4
        return write.conclude_removal(
            request, record, new, *removed(resource, old, store), warnings
        )
    return write.conclude_update(
        request,
        record,
        new,
        admission.compares + charged.compares,
        admission.writes + charged.writes,
        warnings,
        is_stale=record.key in exchange.config.stale,
    )


def _defaulted(resource: Resource, new: Any, old: Any) -> Any:
    """The object with its defaults, without fields that are dropped (DEF-22, CRD-8)."""
    if resource.is_custom:
        return objects.defaulted(resource, new)
    return drop_disabled(resource, default(resource, new), old)


_VALIDATE = {
    "status": validate_status_update,
    "approval": validate_approval_update,
    "ephemeralcontainers": validate_ephemeral_update,
    "resize": validate_resize_update,
}


def _connect(exchange: Exchange) -> Outcome:
    """A stream to a container: this only checks that the pod exists. The name of a proxy has a
    scheme and a port too (STREAM-11)."""
    request = exchange.request
    if request.subresource == "log":
        read.find(request, exchange.store)
        return Connect(request)
    admit_body(exchange, CONNECT, connect_options(request))  # HOOK-12
    if request.subresource != "proxy":
        read.find(request, exchange.store)
    return Connect(request)


def _check_availability(exchange: Exchange) -> Outcome:
    """What the API server asks itself of another one (APISVC-9); no path leads here."""
    from refk8s.core.apiserver.aggregation.availability import check

    if exchange.request.resource != resources.API_SERVICES:
        raise ApiError(status.path_not_found())
    return check(exchange)


def _admitted(act: "Act") -> "Act":
    """The same for a body that is not stored as it is: webhooks are asked about it first
    (HOOK-12)."""

    def act_on_admitted(exchange: Exchange) -> Outcome:
        request = exchange.request
        body = admit_body(exchange, CREATE, request.body)
        if body is not request.body:
            exchange = evolve(exchange, request=evolve(request, body=body))
        return act(exchange)

    return act_on_admitted


# --- scale


def _get_scale(exchange: Exchange) -> Response:
    record = read.find(exchange.request, exchange.store)
    return Response(200, subresources.scale_of(exchange.request.resource, record.value))


def _update_scale(exchange: Exchange) -> Written:
    request = exchange.request
    write.identify(request, request.body.metadata)
    return _rescale(exchange, read.find(request, exchange.store), request.body, ())


def _patch_scale(exchange: Exchange) -> Written:
    request = exchange.request
    record = read.find(request, exchange.store)
    current = subresources.scale_of(request.resource, record.value)
    if _patch_of(request).media_type == patch.APPLY_PATCH:
        from refk8s.core.apiserver.apply.scale import applied_scale

        scale, managed = applied_scale(request, record.value, current, exchange.context)
        write.identify(request, scale.metadata)
        return _rescale(exchange, record, scale, (), managed, is_applied=True)
    scale, warnings = write.patched(
        request.resource,
        type(current),
        current,
        _patch_of(request),
        request.options.field_validation,
    )
    write.identify(request, scale.metadata)
    return _rescale(exchange, record, scale, warnings)


def _rescale(
    exchange: Exchange,
    record: Record[Any],
    scale: Any,
    warnings: tuple[str, ...],
    managed: Any = None,
    *,
    is_applied: bool = False,
) -> Written:
    """API-19: a write of a Scale changes spec.replicas and nothing else. `managed`: the
    managedFields of the object after an apply (APPLY-18)."""
    request, old = exchange.request, record.value
    strategy = strategy_of(request.resource)
    scale = admit_scale(exchange, scale, subresources.scale_of(request.resource, old))
    exchange = evolve(exchange, is_admitted=True)
    body = subresources.scaled(request.resource, old, scale)
    write.guard(request, strategy, record, body.metadata)
    if not is_applied:
        changed = with_managers(request, old, body, exchange.context)
        managed = changed.metadata.managed_fields
    body = replace(body, metadata=replace(body.metadata, managed_fields=managed))
    update = Request(
        "update",
        request.resource,
        request.namespace,
        request.name,
        options=request.options,
        user=request.user,
    )
    return subresources.answer_scale(
        request.resource,
        _change(
            evolve(exchange, request=update), strategy, record, body, warnings, is_applied=True
        ),
    )


def _patch_of(request: Request) -> Patch:
    if not isinstance(request.body, Patch):
        raise ApiError(status.bad_request("a patch is needed"))
    return request.body


Act = Callable[[Exchange], Outcome]

# (verb, subresource) -> the function. Subresources that only show or change a part of their object
# are in _PARTS.
_ACTS: dict[tuple[str, str], Act] = {
    ("get", ""): read.get,
    ("list", ""): read.list_objects,
    ("watch", ""): watch.watch,
    ("create", ""): _create,
    ("update", ""): _update,
    ("patch", ""): _patch,
    ("delete", ""): deleting.delete,
    ("deletecollection", ""): deleting.delete_collection,
    ("create", "binding"): _admitted(subresources.bind),
    ("create", "eviction"): _admitted(subresources.evict),
    ("create", "token"): _admitted(subresources.request_token),
    ("get", "discovery"): _check_availability,
    ("get", "scale"): _get_scale,
    ("update", "scale"): _update_scale,
    ("patch", "scale"): _patch_scale,
    ("connect", "attach"): _connect,
    ("connect", "exec"): _connect,
    ("connect", "log"): _connect,
    ("connect", "portforward"): _connect,
    ("connect", "proxy"): _connect,
}
# Bodies that are answered and not stored (API-17, API-27).
_NOT_STORED: dict[Resource, Act] = {
    resources.BINDINGS: _admitted(subresources.bind),
    **dict.fromkeys(reviews.REVIEWS, reviews.review),
}
_PARTS: dict[str, Act] = {"get": read.get, "update": _update, "patch": _patch}


def _act_on_part(request: Request) -> Act:
    """The function for a subresource, such as the status; raises ApiError 405 for a verb that it
    does not support."""
    part = request.resource.subresource(request.subresource)
    act = _PARTS.get(request.verb)
    if part is None:
        raise ApiError(status.path_not_found())
    if act is None or request.verb not in part.verbs:
        raise ApiError(status.method_not_allowed(request.resource))
    return act


__all__ = ["again", "authorize", "decide", "handle", "resume"]
