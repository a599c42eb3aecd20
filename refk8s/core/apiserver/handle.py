"""One request, from asked to answered: the page to read first. Rules API-1 ... API-28, DEL-
(spec/api.md), LIST-, WATCHAPI-.

    request -> authorize -> by verb:
        get, list        read.py                                                                 -> Response
        watch            watch.py                                                                -> Stream
        create           identify -> begin -> default -> admit -> validate -> conclude           -> Commit
        update, patch    guard -> propose -> default -> admit -> carry -> validate -> conclude   -> Commit, or Response: no change
        delete           preconditions -> mark or remove                                         -> Commit
        connect          (exec, attach, port-forward, log, proxy)                                -> Connect

Nothing here changes anything: a `Commit` says what is to be written if the store is still as it was
read, and how to answer then. Where it is not, the same request is handled again on the newer state
(API-9). What the client did wrong comes back as a Status and never as an exception.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from refk8s.core.api import resources, status
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import delete as deleting
from refk8s.core.apiserver import read, reviews, subresources, versions, watch, write
from refk8s.core.apiserver.admission import admit, removed
from refk8s.core.apiserver.admission import check as admission_check
from refk8s.core.apiserver.authenticate import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.authorize import authorize
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.disabled import drop_disabled
from refk8s.core.apiserver.outcome import Commit, Connect, Outcome, Reader
from refk8s.core.apiserver.strategy import Strategy, strategy_of
from refk8s.core.apiserver.validation import (
    validate_approval_update,
    validate_create,
    validate_status_update,
    validate_update,
)
from refk8s.core.apiserver.warnings import warnings_of
from refk8s.core.context import Context
from refk8s.core.store import Record

Written: TypeAlias = Response | Commit


def handle(
    request: Request, store: Reader, context: Context, config: Config = DEFAULT_CONFIG
) -> Outcome:
    """What becomes of a request on this state of the store. Never raises for what a client can do
    wrong (API-14)."""
    try:
        authorize(request, config)
        if request.resource.storage_api_version:  # API-28
            return versions.as_asked(
                _decide(versions.as_stored(request, store), store, context, config),
                request.resource,
            )
        return _decide(request, store, context, config)
    except ApiError as error:
        return Response(error.status.code or 500, error.status)


def _decide(request: Request, store: Reader, context: Context, config: Config) -> Outcome:
    act = _ACTS.get((request.verb, request.subresource)) or _act_on_part(request)
    return act(request, store, context, config)


# --- the verbs


def _get(request: Request, store: Reader, context: Context, config: Config) -> Response:
    return read.get(request, store)


def _list(request: Request, store: Reader, context: Context, config: Config) -> Response:
    return read.list_objects(request, store)


def _watch(request: Request, store: Reader, context: Context, config: Config) -> Outcome:
    return watch.watch(request, store)


def _create(request: Request, store: Reader, context: Context, config: Config) -> Written:
    """POST: a new object, with a status that nobody has written yet."""
    resource = request.resource
    if (kept_by_nobody := _KEPT_BY_NOBODY.get(resource)) is not None:
        return kept_by_nobody(request, store, context, config)
    strategy = strategy_of(resource)
    obj = write.identify_new(request)
    name = write.name_new(request, obj, store, context)
    return _create_as(request, strategy, obj, name, store, context, config)


def _create_as(
    request: Request,
    strategy: Strategy,
    obj: Any,
    name: str,
    store: Reader,
    context: Context,
    config: Config,
) -> Written:
    resource = request.resource
    obj = write.begin(strategy, obj, request.namespace, name, context)
    obj = drop_disabled(resource, default(resource, obj), None)
    admission = admit(request, resource, obj, None, store, context, config.admission)
    obj = admission.object
    write.check(resource, name, validate_create(request.asked or resource, obj))
    admission_check(request, resource, obj, None, store)
    if request.verb == "create":
        write.refuse_revision(request, request.body.metadata)
    key = resource.key(request.namespace, name)
    if (taken := store.get(key)) is not None:
        write.refuse_existing(resource, taken)
    warnings = warnings_of(request.asked or resource, obj, None)  # WARN-2
    return write.conclude_create(request, key, obj, admission.compares, admission.writes, warnings)


def _update(request: Request, store: Reader, context: Context, config: Config) -> Written:
    """PUT: the object, or the part of it that the path names, as the body has it."""
    strategy = strategy_of(request.resource)
    body = request.body
    write.identify(request, body.metadata)
    record = store.get(request.resource.key(request.namespace, request.name))
    write.guard(request, strategy, record, body.metadata)
    if record is None:
        if strategy.create_on_update and not request.subresource:  # API-7
            return _create_as(
                request, strategy, write.identify_new(request), request.name, store, context, config
            )
        raise ApiError(status.not_found(request.resource, request.name))
    return _change(request, strategy, record, body, (), store, context, config)


def _patch(request: Request, store: Reader, context: Context, config: Config) -> Written:
    """PATCH: the object as it is, under a change."""
    resource = request.resource
    strategy = strategy_of(resource)
    record = read.find(request, store)
    body, warnings = write.patched(
        resource, resource.type, record.value, _patch_of(request), request.options.field_validation
    )
    write.identify(request, body.metadata)
    write.guard(request, strategy, record, body.metadata)
    return _change(request, strategy, record, body, warnings, store, context, config)


def _change(
    request: Request,
    strategy: Strategy,
    record: Record[Any],
    body: Any,
    warnings: tuple[str, ...],
    store: Reader,
    context: Context,
    config: Config,
) -> Written:
    """What update and patch have in common, once it is known what the client wants."""
    resource, old = request.resource, record.value
    new = write.propose(request, strategy, old, body)
    if request.subresource not in ("status", "approval"):
        new = drop_disabled(resource, default(resource, new), old)  # DEF-22
    admission = admit(request, resource, new, old, store, context, config.admission)
    new = write.carry(
        strategy, old, admission.object, is_status=request.subresource in ("status", "approval")
    )
    validate = _VALIDATE.get(request.subresource, validate_update)
    write.check(resource, request.name, validate(request.asked or resource, new, old))
    admission_check(request, resource, new, old, store)
    if not request.subresource:
        warnings += warnings_of(request.asked or resource, new, old)  # WARN-2
    if deleting.is_emptied(old, new):  # DEL-4
        return write.conclude_removal(
            request, record, new, *removed(resource, old, store), warnings
        )
    return write.conclude_update(
        request, record, new, admission.compares, admission.writes, warnings
    )


_VALIDATE = {"status": validate_status_update, "approval": validate_approval_update}


def _delete(request: Request, store: Reader, context: Context, config: Config) -> Written:
    return deleting.delete(request, store, context)


def _delete_collection(
    request: Request, store: Reader, context: Context, config: Config
) -> Written:
    return deleting.delete_collection(request, store, context)


def _connect(request: Request, store: Reader, context: Context, config: Config) -> Outcome:
    """A stream to a container: only whether the pod is there is decided here."""
    read.find(request, store)
    return Connect(request)


# --- parts of objects


def _bind(request: Request, store: Reader, context: Context, config: Config) -> Written:
    return subresources.bind(request, store, context)


def _evict(request: Request, store: Reader, context: Context, config: Config) -> Written:
    return subresources.evict(request, store, context)


def _review(request: Request, store: Reader, context: Context, config: Config) -> Response:
    return reviews.review(request, store, context, config)


def _request_token(request: Request, store: Reader, context: Context, config: Config) -> Written:
    return subresources.request_token(request, store, context, config)


def _get_scale(request: Request, store: Reader, context: Context, config: Config) -> Response:
    return Response(200, subresources.scale_of(read.find(request, store).value))


def _update_scale(request: Request, store: Reader, context: Context, config: Config) -> Written:
    write.identify(request, request.body.metadata)
    return _rescale(request, read.find(request, store), request.body, (), store, context, config)


def _patch_scale(request: Request, store: Reader, context: Context, config: Config) -> Written:
    record = read.find(request, store)
    current = subresources.scale_of(record.value)
    scale, warnings = write.patched(
        request.resource,
        type(current),
        current,
        _patch_of(request),
        request.options.field_validation,
    )
    write.identify(request, scale.metadata)
    return _rescale(request, record, scale, warnings, store, context, config)


def _rescale(
    request: Request,
    record: Record[Any],
    scale: Any,
    warnings: tuple[str, ...],
    store: Reader,
    context: Context,
    config: Config,
) -> Written:
    """API-19: a change of scale is a change of spec.replicas and of nothing else."""
    strategy = strategy_of(request.resource)
    body = subresources.scaled(record.value, scale)
    write.guard(request, strategy, record, body.metadata)
    asked = Request(
        "update",
        request.resource,
        request.namespace,
        request.name,
        options=request.options,
        user=request.user,
    )
    return subresources.answer_scale(
        _change(asked, strategy, record, body, warnings, store, context, config)
    )


def _patch_of(request: Request) -> Patch:
    if not isinstance(request.body, Patch):
        raise ApiError(status.bad_request("a patch is needed"))
    return request.body


Act = Callable[[Request, Reader, Context, Config], Outcome]

# (verb, subresource) -> what is done. A subresource that only shows or changes a part of its object
# stands in _PARTS.
_ACTS: dict[tuple[str, str], Act] = {
    ("get", ""): _get,
    ("list", ""): _list,
    ("watch", ""): _watch,
    ("create", ""): _create,
    ("update", ""): _update,
    ("patch", ""): _patch,
    ("delete", ""): _delete,
    ("deletecollection", ""): _delete_collection,
    ("create", "binding"): _bind,
    ("create", "eviction"): _evict,
    ("create", "token"): _request_token,
    ("get", "scale"): _get_scale,
    ("update", "scale"): _update_scale,
    ("patch", "scale"): _patch_scale,
    ("connect", "attach"): _connect,
    ("connect", "exec"): _connect,
    ("connect", "log"): _connect,
    ("connect", "portforward"): _connect,
    ("connect", "proxy"): _connect,
}
# What is created and not kept: the answer is all there is to it (API-17, API-27).
_KEPT_BY_NOBODY: dict[Resource, Callable[[Request, Reader, Context, Config], Written]] = {
    resources.BINDINGS: _bind,
    **dict.fromkeys(reviews.REVIEWS, _review),
}
_PARTS: dict[str, Act] = {"get": _get, "update": _update, "patch": _patch}


def _act_on_part(request: Request) -> Act:
    """The act on a part of an object, such as its status; ApiError 405 for what this part does not
    do."""
    part = request.resource.subresource(request.subresource)
    act = _PARTS.get(request.verb)
    if part is None:
        raise ApiError(status.path_not_found())
    if act is None or request.verb not in part.verbs:
        raise ApiError(status.method_not_allowed(request.resource))
    return act


__all__ = ["Resource", "authorize", "handle", "resources"]
