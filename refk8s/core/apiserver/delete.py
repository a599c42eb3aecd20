"""Delete: an object goes at once, or is marked and goes when nothing holds it any longer. Rules
DEL-1 ... DEL-10 (spec/api.md).

    held by          marked how                                               goes when
    a finalizer      deletionTimestamp now, grace 0                           the last finalizer is removed
    a grace period   deletionTimestamp in so many seconds (pods)              the kubelet deletes it again, with grace 0
    its content      deletionTimestamp now, phase Terminating (namespaces)    spec.finalizers are emptied
    its dependents   finalizer foregroundDeletion or orphan                   the garbage collector removes that finalizer
    nothing          -                                                        at once

Source: Kubernetes documentation, "Garbage Collection", "Finalizers", "Pod Lifecycle" (termination),
"Namespaces". Left out: upstream marks a pod in one write and removes it in the next even when
nothing holds it; here it goes in one.
"""

from functools import partial
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import DeleteOptions, StatusDetails
from refk8s.core.api.request import Request, Response
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver import lifecycle
from refk8s.core.apiserver.admission import removed
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.outcome import Commit, Reader
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
from refk8s.core.apiserver.write import respond_with
from refk8s.core.context import Context, timestamp
from refk8s.core.pods.status import is_finished
from refk8s.core.store import Committed, Compare, Delete, Put, Txn
from refk8s.core.value import Value, evolve

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
NO_DELETE_OPTIONS = DeleteOptions()
PORTION_MAX = 256
"""So many objects of a collection are deleted in one transaction: other writes get their turn in
between."""


def delete(exchange: Exchange) -> Response | Commit:
    """Delete one object."""
    request, store, context = exchange.request, exchange.store, exchange.context
    options = delete_options(request)
    record = find(request, store)
    strategy = strategy_of(request.resource)
    check_deletable(request, record.value)
    check_preconditions(strategy, record.value, options)
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
    """An object is answered as of its deletion (DEL-5)."""
    if answer.body.kind == "Status":
        return answer
    return Response(answer.code, lifecycle.stamp(answer.body, committed.revision))


class Collection(Value, frozen=True, eq=False):
    """A deletecollection under way: the (key, uid) of everything that was listed, and from where on
    it is still to be deleted (DEL-9)."""

    options: DeleteOptions
    listed: tuple[tuple[str, str], ...]
    answer: Response
    at: int = 0
    portion: int = PORTION_MAX


def delete_collection(exchange: Exchange) -> Response | Commit:
    """Delete all that the selectors choose; answers with them as they were (DEL-9)."""
    request, store, context = exchange.request, exchange.store, exchange.context
    if type(request.body) is Collection:
        return _delete_portion(request, request.body, store, context)
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
        return answer
    listed = tuple([(record.key, record.value.metadata.uid) for record in page.records])
    return _delete_portion(request, Collection(options, listed, answer), store, context)


def _delete_portion(
    request: Request, collection: Collection, store: Reader, context: Context
) -> Response | Commit:
    """The next objects of a collection in one transaction. After a conflict the portion is halved,
    so that in the end it is one object."""
    options, strategy = collection.options, strategy_of(request.resource)
    compares: list[Compare] = []
    writes: list[Put[Any] | Delete] = []
    at, count = collection.at, 0
    while at < len(collection.listed) and count < collection.portion:
        key, uid = collection.listed[at]
        at += 1
        record = store.get(key)
        if record is None or record.value.metadata.uid != uid:
            continue  # gone meanwhile
        check_preconditions(strategy, record.value, options)
        left = after_delete(strategy, record.value, options, context)
        if left is not None and left == record.value:
            continue
        count += 1
        compares.append(Compare(record.key, record.mod_revision))
        writes.append(Delete(record.key) if left is None else Put(record.key, left))
        if left is None:
            more_compares, more_writes = removed(request.resource, record.value, store)
            compares.extend(more_compares)
            writes.extend(more_writes)
    if not writes:
        return collection.answer
    rest = evolve(request, body=evolve(collection, at=at)) if at < len(collection.listed) else None
    again = evolve(request, body=evolve(collection, portion=max(1, collection.portion // 2)))
    return Commit(
        Txn(tuple(compares), tuple(writes)), lambda committed: collection.answer, rest, again
    )


# --- What is asked


def delete_options(request: Request) -> DeleteOptions:
    """The options of a delete (DEL-10). ApiError 422 for a policy that is none."""
    options: DeleteOptions = request.body if request.body is not None else NO_DELETE_OPTIONS
    # of a component in this process: over the wire it is in the body by now
    if request.options.dry_run:
        options = replace(options, dry_run=(*(options.dry_run or ()), "All"))
    if options is not NO_DELETE_OPTIONS:
        _check_options(options)
    return options


def _check_options(options: DeleteOptions) -> None:
    causes = []
    policy = options.propagation_policy
    if options.orphan_dependents is not None and policy:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(Cause(status.INVALID, "propagationPolicy", detail, policy))
    if policy and policy not in (FOREGROUND, BACKGROUND, ORPHAN_DEPENDENTS):
        supported = 'supported values: "Foreground", "Background", "Orphan", "nil"'
        causes.append(Cause(status.NOT_SUPPORTED, "propagationPolicy", supported, policy))
    if options.dry_run and any(stage != "All" for stage in options.dry_run):
        causes.append(dry_run_cause(options.dry_run))
    if causes:
        raise ApiError(invalid_options("DeleteOptions", causes))


def dry_run_cause(stages: tuple[str, ...]) -> Cause:
    """The only stage of a dry run is All (API-12)."""
    return Cause(status.NOT_SUPPORTED, "dryRun", 'supported values: "All"', list(stages))


def check_deletable(request: Request, obj: Any) -> None:
    """ApiError 403 for the namespaces that the cluster itself lives in (DEL-8)."""
    if request.resource == resources.NAMESPACES and obj.metadata.name in PROTECTED_NAMESPACES:
        raise ApiError(
            status.forbidden(
                request.resource, obj.metadata.name, "this namespace may not be deleted"
            )
        )


def check_preconditions(strategy: Strategy, obj: Any, options: DeleteOptions) -> None:
    """ApiError 409 where the client means another object of that name, or another state of it
    (DEL-3)."""
    wanted = options.preconditions
    if wanted is None:
        return
    metadata = obj.metadata
    if wanted.uid is not None and wanted.uid != metadata.uid:
        why = (
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record ({metadata.uid}). "
            "The object might have been deleted and then recreated"
        )
    elif (
        wanted.resource_version is not None and wanted.resource_version != metadata.resource_version
    ):
        why = (
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match the ResourceVersion in record "
            f"({metadata.resource_version}). The object might have been modified"
        )
    else:
        return
    resource = strategy.resource
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = StatusDetails(name=metadata.name, group=resource.group or None, kind=resource.kind)
    message = f'Operation cannot be fulfilled on {kind} "{metadata.name}": {why}'
    raise ApiError(status.failure(409, "Conflict", message, details))


# --- What becomes of the object


def after_delete(strategy: Strategy, obj: Any, options: DeleteOptions, context: Context) -> Any:
    """The object as it stays behind, marked; None where nothing holds it and it goes (DEL-1,
    DEL-4)."""
    metadata = obj.metadata
    if strategy.resource == resources.NAMESPACES:
        if metadata.deletion_timestamp is None:
            return _terminating_namespace(obj, options, context)
        if obj.spec is not None and obj.spec.finalizers:
            return obj  # its content holds it still (DEL-7)
    seconds = grace_period_seconds(strategy, obj, options)
    pending = metadata.deletion_timestamp is not None and bool(
        metadata.deletion_grace_period_seconds
    )
    if pending and (seconds is None or seconds >= metadata.deletion_grace_period_seconds):
        return obj  # going already, and not later than this asks (DEL-2)
    finalizers = collection_finalizers(strategy, metadata.finalizers or (), options)
    if metadata.deletion_timestamp is not None and not pending:
        seconds = 0  # its time is over: only finalizers hold it yet
    if not finalizers and not seconds:
        return None
    if metadata.deletion_timestamp is not None and not pending:
        marked = replace(metadata, finalizers=finalizers or None, deletion_grace_period_seconds=0)
        return obj if marked == metadata else replace(obj, metadata=marked)
    return replace(
        obj, metadata=lifecycle.mark_deleted(metadata, context.now, seconds or 0, finalizers)
    )


def grace_period_seconds(strategy: Strategy, obj: Any, options: DeleteOptions) -> int | None:
    """How long a pod may take to end (DEL-11); None for everything else, and for a pod that is
    going and of which nothing is asked.

    Given by the client, else by the pod; none at all for a pod that is on no node or has ended.
    """
    if strategy.resource != resources.PODS:
        return None
    asked = options.grace_period_seconds
    if obj.metadata.deletion_timestamp is not None:
        return asked if asked is None or asked >= 0 else 1
    if not obj.spec.node_name or is_finished(obj):
        return 0
    seconds = asked if asked is not None else obj.spec.termination_grace_period_seconds or 0
    return int(seconds) if seconds >= 0 else 1


def collection_finalizers(
    strategy: Strategy, present: tuple[str, ...], options: DeleteOptions
) -> tuple[str, ...]:
    """The finalizers as they must be for the garbage collector to do what is asked of it
    (DEL-6)."""
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
    """What becomes of the dependents: as asked, else as an earlier delete said, else as is usual
    for the kind (DEL-6)."""
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
    """DEL-7: a namespace is marked, and its content is deleted before it."""
    finalizers = collection_finalizers(
        strategy_of(resources.NAMESPACES), obj.metadata.finalizers or (), options
    )
    metadata = replace(
        obj.metadata, deletion_timestamp=timestamp(context.now), finalizers=finalizers or None
    )
    return replace(obj, metadata=metadata, status=replace(obj.status, phase="Terminating"))


def _removed(strategy: Strategy, obj: Any, context: Context) -> Response:
    """The answer when an object is gone: what it was and its uid, so that the client knows that it
    waits for nothing (DEL-5)."""
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
    """Whether this change takes away the last thing that held an object which is going (DEL-4)."""
    if old.kind == "Namespace" and new.spec is not None and new.spec.finalizers:
        return False
    return lifecycle.is_due(old.metadata, new.metadata.finalizers)
