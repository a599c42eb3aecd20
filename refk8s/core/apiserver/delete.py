"""Delete: an object is removed at once, or marked for deletion and removed when nothing keeps it.
Rules DEL-1 to DEL-11 (spec/api.md).

    kept by              marked with                             removed when
    a finalizer          deletionTimestamp now, grace 0          the last finalizer is removed
    a grace period (pod) deletionTimestamp after that time       the kubelet deletes it with grace 0
    content (namespace)  deletionTimestamp now, Terminating      spec.finalizers are emptied
    dependents           foregroundDeletion or orphan            that finalizer is removed
    nothing              -                                       at once

Source: Kubernetes documentation, "Garbage Collection", "Finalizers", "Pod Lifecycle" (termination),
"Namespaces". Left out: upstream marks a pod in one write and removes it in the next, even if
nothing keeps it; here both are one write.
"""

from functools import partial
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import DeleteOptions, StatusDetails
from refk8s.core.api.request import Request, Response
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver import lifecycle
from refk8s.core.apiserver.admission import admit_delete, removed
from refk8s.core.apiserver.admission.node_restriction import restrict_delete
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.read import find, invalid_options, list_response, meta_of, read
from refk8s.core.apiserver.selection import select
from refk8s.core.apiserver.strategy import (
    BACKGROUND,
    FOREGROUND,
    NO_COLLECTION,
    ORPHAN_DEPENDENTS,
    Strategy,
    strategy_of,
)
from refk8s.core.apiserver.validation.cluster import SYSTEM_PRIORITIES
from refk8s.core.apiserver.write import respond_with
from refk8s.core.context import Context, timestamp
from refk8s.core.pods.status import is_finished
from refk8s.core.store import Committed, Compare, Delete, Put, Txn
from refk8s.core.value import Value, evolve

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
NO_DELETE_OPTIONS = DeleteOptions()


def delete(exchange: Exchange) -> Response | Commit:
    """Delete one object."""
    request, store, context = exchange.request, exchange.store, exchange.context
    options = delete_options(request)
    record = find(request, store)
    strategy = strategy_of(request.resource)
    check_deletable(request, record.value)
    _check_single(request, record.value)
    restrict_delete(request, record.value)
    check_preconditions(strategy, record.value, options)
    admit_delete(exchange, record.value)
    left = after_delete(strategy, record.value, options, context)
    if left is not None:
        code = 202 if options.orphan_dependents is False else 200
        if left == record.value:
            return Response(code, record.value, (record,))
        if options.dry_run:
            return Response(code, left)
        condition = Compare(record.key, record.mod_revision)
        return Commit(Txn((condition,), (Put(record.key, left),)), respond_with(record.key, code))
    answer = _removed(strategy, record.value, context)
    if options.dry_run:
        return answer
    compares, writes = removed(request.resource, record.value, store)
    condition = Compare(record.key, record.mod_revision)
    return Commit(
        Txn((condition, *compares), (Delete(record.key), *writes)),
        partial(_respond_removed, answer),
    )


def _respond_removed(answer: Response, committed: Committed[Any]) -> Response:
    """The `resourceVersion` of a removed object in the answer is that of the deletion (DEL-5)."""
    if answer.body.kind == "Status":
        return answer
    return Response(answer.code, lifecycle.stamp(answer.body, committed.revision))


class Collection(Value, frozen=True, eq=False):
    """A deletecollection in progress: the (key, uid) of every listed object, and the position of
    the next one to delete (DEL-9)."""

    options: DeleteOptions
    listed: tuple[tuple[str, str], ...]
    answer: Response
    at: int = 0


def delete_collection(exchange: Exchange) -> Response | Commit:
    """Delete every object that the selectors match; the answer is the list of them as they were
    (DEL-9)."""
    request, store = exchange.request, exchange.store
    if type(request.body) is Collection:
        return _delete_next(exchange, request.body)
    options = delete_options(request)
    strategy = strategy_of(request.resource)
    selection = select(
        request.resource,
        request.namespace,
        request.options.label_selector,
        request.options.field_selector,
    )
    page = read(selection, request.options, store)
    for record in page.records:
        check_deletable(request, record.value)
        check_preconditions(strategy, record.value, options)
    answer = list_response(
        request.resource, page.records, meta_of(page, selection, request.options)
    )
    if options.dry_run:
        for record in page.records:
            admit_delete(exchange, record.value, is_one_of_many=True)
        return answer
    listed = tuple([(record.key, record.value.metadata.uid) for record in page.records])
    return _delete_next(exchange, Collection(options, listed, answer))


def _delete_next(exchange: Exchange, collection: Collection) -> Response | Commit:
    """Delete the next object of a collection. After a conflict it is decided again."""
    request, store, context = exchange.request, exchange.store, exchange.context
    options, strategy = collection.options, strategy_of(request.resource)
    for at in range(collection.at, len(collection.listed)):
        key, uid = collection.listed[at]
        record = store.get(key)
        if record is None or record.value.metadata.uid != uid:
            continue  # removed or replaced meanwhile
        check_preconditions(strategy, record.value, options)
        asked = evolve(exchange, request=evolve(request, body=options))
        admit_delete(asked, record.value, is_one_of_many=True)
        left = after_delete(strategy, record.value, options, context)
        if left is not None and left == record.value:
            continue
        compares: tuple[Compare, ...] = (Compare(record.key, record.mod_revision),)
        writes: tuple[Put[Any] | Delete, ...] = (Put(record.key, left),)
        if left is None:
            more_compares, more_writes = removed(request.resource, record.value, store)
            compares = (*compares, *more_compares)
            writes = (Delete(record.key), *more_writes)
        following = evolve(request, body=evolve(collection, at=at + 1))
        rest = following if at + 1 < len(collection.listed) else None
        again = evolve(request, body=evolve(collection, at=at))
        return Commit(Txn(compares, writes), lambda committed: collection.answer, rest, again)
    return collection.answer


# --- the options


def delete_options(request: Request) -> DeleteOptions:
    """The options of a delete (DEL-10). Raises ApiError 422 for invalid ones."""
    options: DeleteOptions = request.body if request.body is not None else NO_DELETE_OPTIONS
    # from a component in this process; for a request over HTTP it is in the body already
    if request.options.dry_run:
        options = replace(options, dry_run=(*(options.dry_run or ()), "All"))
    if options is not NO_DELETE_OPTIONS:
        _check_options(options)
    return options


def _check_options(options: DeleteOptions) -> None:
    causes = []
    policy = options.propagation_policy
    if options.orphan_dependents is not None and policy is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(Cause(status.INVALID, "propagationPolicy", detail, policy))
    if policy is not None and policy not in (FOREGROUND, BACKGROUND, ORPHAN_DEPENDENTS):
        supported = 'supported values: "Foreground", "Background", "Orphan", "nil"'
        causes.append(Cause(status.NOT_SUPPORTED, "propagationPolicy", supported, policy))
    if options.dry_run and any(stage != "All" for stage in options.dry_run):
        causes.append(dry_run_cause(options.dry_run))
    if causes:
        raise ApiError(invalid_options("DeleteOptions", causes))


def dry_run_cause(stages: tuple[str, ...]) -> Cause:
    """The only value of dryRun is All (API-12)."""
    return Cause(status.NOT_SUPPORTED, "dryRun", 'supported values: "All"', list(stages))


def check_deletable(request: Request, obj: Any) -> None:
    """Raise ApiError 403 for the cluster's own namespaces (DEL-8)."""
    if request.resource == resources.NAMESPACES and obj.metadata.name in PROTECTED_NAMESPACES:
        raise ApiError(
            status.forbidden(
                request.resource, obj.metadata.name, "this namespace may not be deleted"
            )
        )


def _check_single(request: Request, obj: Any) -> None:
    """Raise ApiError 403 for the priority classes of the system (DEL-8). Upstream looks only at the
    delete of one object."""
    if request.resource == resources.PRIORITY_CLASSES and obj.metadata.name in SYSTEM_PRIORITIES:
        words = "this is a system priority class and cannot be deleted"
        raise ApiError(status.forbidden(request.resource, obj.metadata.name, words))


def check_preconditions(strategy: Strategy, obj: Any, options: DeleteOptions) -> None:
    """Raise ApiError 409 if `uid` or `resourceVersion` of the preconditions differ from those of
    the object (DEL-3)."""
    wanted = options.preconditions
    if wanted is None:
        return
    metadata = obj.metadata
    if wanted.uid is not None and wanted.uid != metadata.uid:
        why = (
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record "
            f"({metadata.uid}). "
            "The object might have been deleted and then recreated"
        )
    elif (
        wanted.resource_version is not None and wanted.resource_version != metadata.resource_version
    ):
        why = (
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match "
            "the ResourceVersion in record "
            f"({metadata.resource_version}). The object might have been modified"
        )
    else:
        return
    resource = strategy.resource
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = StatusDetails(name=metadata.name, group=resource.group or None, kind=resource.kind)
    message = f'Operation cannot be fulfilled on {kind} "{metadata.name}": {why}'
    raise ApiError(status.failure(409, "Conflict", message, details))


# --- the object after the delete


def after_delete(strategy: Strategy, obj: Any, options: DeleteOptions, context: Context) -> Any:
    """The object, marked for deletion; None if nothing keeps it and it is removed (DEL-1,
    DEL-4)."""
    metadata = obj.metadata
    if strategy.resource == resources.NAMESPACES:
        if metadata.deletion_timestamp is None:
            return _terminating_namespace(obj, options, context)
        if obj.spec is not None and obj.spec.finalizers:
            return obj  # its content still keeps it (DEL-7)
    if (
        strategy.resource == resources.CUSTOM_RESOURCE_DEFINITIONS
        and metadata.deletion_timestamp is None
    ):
        from refk8s.core.apiserver.admission.definitions import marked_for_deletion

        return marked_for_deletion(obj, context)  # CRD-15
    seconds = grace_period_seconds(strategy, obj, options)
    pending = metadata.deletion_timestamp is not None and bool(
        metadata.deletion_grace_period_seconds
    )
    if pending and (seconds is None or seconds >= metadata.deletion_grace_period_seconds):
        return obj  # its deletion is not later than the requested one (DEL-2)
    finalizers = collection_finalizers(strategy, metadata.finalizers or (), options)
    if metadata.deletion_timestamp is not None and not pending:
        seconds = 0  # its grace period is over: only finalizers keep it
    if not finalizers and not seconds:
        return None
    if metadata.deletion_timestamp is not None and not pending:
        marked = replace(metadata, finalizers=finalizers or None, deletion_grace_period_seconds=0)
        return obj if marked == metadata else replace(obj, metadata=marked)
    return replace(
        obj, metadata=lifecycle.mark_deleted(metadata, context.now, seconds or 0, finalizers)
    )


def grace_period_seconds(strategy: Strategy, obj: Any, options: DeleteOptions) -> int | None:
    """The grace period of a pod (DEL-11). None for any other object, and for a pod that is being
    deleted if the request names no period.

    It is that of the request, else that of the pod; 0 for a pod without a node and for a finished
    one.
    """
    if strategy.resource != resources.PODS:
        return None
    requested = options.grace_period_seconds
    if obj.metadata.deletion_timestamp is not None:
        return requested if requested is None or requested >= 0 else 1
    if not obj.spec.node_name or is_finished(obj):
        return 0
    seconds = requested if requested is not None else obj.spec.termination_grace_period_seconds or 0
    return int(seconds) if seconds >= 0 else 1


def collection_finalizers(
    strategy: Strategy, present: tuple[str, ...], options: DeleteOptions
) -> tuple[str, ...]:
    """The finalizers, including the one of the propagation policy, which the garbage collector
    carries out (DEL-6)."""
    others = tuple(
        [f for f in present if f not in (lifecycle.ORPHAN, lifecycle.FOREGROUND_DELETION)]
    )
    match propagation(strategy, present, options):
        case "Orphan":
            return (*others, lifecycle.ORPHAN)
        case "Foreground":
            return (*others, lifecycle.FOREGROUND_DELETION)
    return others


def propagation(strategy: Strategy, present: tuple[str, ...], options: DeleteOptions) -> str:
    """The propagation policy: the requested one, else that of an earlier delete, else the default
    of the kind (DEL-6)."""
    if strategy.propagation == NO_COLLECTION:
        return BACKGROUND
    if options.orphan_dependents is not None:
        return ORPHAN_DEPENDENTS if options.orphan_dependents else BACKGROUND
    if options.propagation_policy:
        return options.propagation_policy
    if lifecycle.ORPHAN in present:
        return ORPHAN_DEPENDENTS
    if lifecycle.FOREGROUND_DELETION in present:
        return FOREGROUND
    return strategy.propagation


def _terminating_namespace(obj: Any, options: DeleteOptions, context: Context) -> Any:
    """DEL-7: a namespace is marked for deletion, and removed after its content."""
    finalizers = collection_finalizers(
        strategy_of(resources.NAMESPACES), obj.metadata.finalizers or (), options
    )
    metadata = replace(
        obj.metadata, deletion_timestamp=timestamp(context.now), finalizers=finalizers or None
    )
    return replace(obj, metadata=metadata, status=replace(obj.status, phase="Terminating"))


def _removed(strategy: Strategy, obj: Any, context: Context) -> Response:
    """The answer for a removed object: the object, or a Status with its uid (DEL-5)."""
    if strategy.answers_deleted:
        if strategy.resource == resources.PODS:
            seconds = 0
            metadata = lifecycle.mark_deleted(
                obj.metadata, context.now, seconds, obj.metadata.finalizers
            )
            return Response(200, replace(obj, metadata=metadata))
        return Response(200, obj)
    resource = strategy.resource
    details = StatusDetails(
        name=obj.metadata.name,
        group=resource.group or None,
        kind=resource.plural,
        uid=obj.metadata.uid,
    )
    return Response(200, status.success(details=details))


def is_emptied(old: Any, new: Any) -> bool:
    """Whether this change removes the last thing that kept an object which is being deleted
    (DEL-4)."""
    if old.kind == "Namespace" and new.spec is not None and new.spec.finalizers:
        return False
    return lifecycle.is_due(old.metadata, new.metadata.finalizers)
