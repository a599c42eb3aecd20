"""The stages of a write, one function each, in the order in which handle.py calls them. Rules API-1
to API-14 (spec/api.md).

    identify     the object of the request: name, namespace, kind                     API-2, API-3
    propose      the part of the object that this path changes                        API-8
    guard        the preconditions uid and resourceVersion                            API-6
    carry        fields of the API server are kept; generation                        API-1, API-5
    (defaults/, admission/, validation/)
    conclude     no change, a change, or the removal of an object being deleted       API-4, DEL-4

Source: API conventions, "Concurrency Control and Consistency", "Spec and Status"; Kubernetes
documentation, "Kubernetes API Concepts".
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.codec import DecodeError, decode_merged, decode_tree, encode, to_tree
from refk8s.core.api.integer import parse_uint64
from refk8s.core.api.meta_v1 import StatusDetails
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver import lifecycle, patch
from refk8s.core.apiserver.custom import objects
from refk8s.core.apiserver.outcome import Commit, Reader
from refk8s.core.apiserver.strategy import Strategy
from refk8s.core.context import Context
from refk8s.core.pods.containers import every_container
from refk8s.core.store import ABSENT, Committed, Compare, Delete, Put, Record, Txn
from refk8s.core.value import evolve

GENERATE_TRIES_MAX = 8
"""How many generated names are tried before the answer is 409."""


# --- identify


def identify_new(request: Request) -> Any:
    """The object to create, in the namespace of the path (API-3). Raises ApiError 400 if the body
    has another namespace."""
    obj = request.body
    metadata = obj.metadata
    if request.resource.namespaced:
        if not request.namespace:
            raise ApiError(status.bad_request("an object of this kind needs a namespace"))
        check_namespace(request, metadata)
    if request.name and metadata.name and request.name != metadata.name:
        raise ApiError(_other_name(metadata.name, request.name))
    return obj


def name_new(request: Request, obj: Any, store: Reader, context: Context) -> str:
    """The name of the object to create: its own, or a generated one that is free (API-2). Empty if
    it has neither, which validation rejects. As upstream, a LimitRange without a name is named by a
    uid."""
    metadata = obj.metadata
    if name := metadata.name or request.name:
        return str(name)
    resource = request.resource
    if not metadata.generate_name:
        return context.uid() if resource == resources.LIMIT_RANGES else ""
    for _ in range(GENERATE_TRIES_MAX):
        name = lifecycle.generate_name(metadata.generate_name, context)
        if store.get(resource.key(request.namespace, name)) is None:
            return str(name)
    failure = status.already_exists(resource, name)
    details = replace(failure.details or StatusDetails(), retry_after_seconds=1)
    words = f"{failure.message}, the server was not able to generate a unique name for the object"
    raise ApiError(replace(failure, message=words, details=details))


def identify(request: Request, metadata: Any) -> None:
    """Raise ApiError 400 if the body of an update has another name or namespace than the path
    (API-3)."""
    if not metadata.name:
        words = f"the name of the object ({request.name} based on URL) was undeterminable: name must be provided"
        raise ApiError(status.bad_request(words))
    if metadata.name != request.name:
        raise ApiError(_other_name(metadata.name, request.name))
    if request.resource.namespaced:
        check_namespace(request, metadata)


def check_namespace(request: Request, metadata: Any) -> None:
    """Raise ApiError 400 if the body has another namespace than the path (API-3)."""
    if metadata.namespace and metadata.namespace != request.namespace:
        raise ApiError(status.bad_request(_OTHER_NAMESPACE))


_OTHER_NAMESPACE = (
    "the namespace of the provided object does not match the namespace sent on the request"
)


def _other_name(name: str, expected: str) -> Any:
    return status.bad_request(
        f"the name of the object ({name}) does not match the name on the URL ({expected})"
    )


# --- propose


Merge = Callable[[Strategy, Any, Any], Any]
"""(strategy, stored object, body) -> the object with the changes that this path allows."""


def _main(strategy: Strategy, old: Any, body: Any) -> Any:
    """Everything except the status."""
    if strategy.spec_is_final:
        body = replace(body, spec=old.spec)
    if strategy.resource.has_status:
        return replace(body, status=old.status)
    return body


def _status(strategy: Strategy, old: Any, body: Any) -> Any:
    """The status, and the metadata that clients may write."""
    kept = {name: getattr(old.metadata, name) for name in strategy.status_keeps}
    return replace(old, metadata=replace(body.metadata, **kept), status=body.status)


def _approval(strategy: Strategy, old: Any, body: Any) -> Any:
    """The conditions of a CertificateSigningRequest."""
    return replace(
        old, metadata=body.metadata, status=replace(old.status, conditions=body.status.conditions)
    )


def _namespace(strategy: Strategy, old: Any, body: Any) -> Any:
    """A namespace without spec.finalizers, which only /finalize changes."""
    return replace(
        body,
        spec=replace(body.spec, finalizers=old.spec.finalizers) if body.spec else old.spec,
        status=old.status,
    )


def _finalize(strategy: Strategy, old: Any, body: Any) -> Any:
    """A namespace's spec.finalizers."""
    finalizers = (body.spec.finalizers if body.spec else None) or None
    return replace(body, spec=replace(old.spec, finalizers=finalizers), status=old.status)


def _ephemeral_containers(strategy: Strategy, old: Any, body: Any) -> Any:
    return replace(
        old,
        metadata=body.metadata,
        spec=replace(old.spec, ephemeral_containers=body.spec.ephemeral_containers),
    )


def _resize(strategy: Strategy, old: Any, body: Any) -> Any:
    """The resources of the existing containers, by name (RESIZE-1)."""
    wanted = {container.name: container for container in every_container(body.spec)}

    def resized(containers: Any) -> Any:
        return tuple([
            replace(c, resources=wanted[c.name].resources, resize_policy=wanted[c.name].resize_policy) if c.name in wanted else c
            for c in containers
        ])  # fmt: skip

    spec = replace(old.spec, containers=resized(old.spec.containers))
    if old.spec.init_containers:
        spec = replace(spec, init_containers=resized(old.spec.init_containers))
    return replace(old, metadata=body.metadata, spec=spec)


_PARTS: dict[str, Merge] = {
    "": _main,
    "status": _status,
    "approval": _approval,
    "finalize": _finalize,
    "ephemeralcontainers": _ephemeral_containers,
    "resize": _resize,
}


def propose(request: Request, strategy: Strategy, old: Any, body: Any) -> Any:
    """The requested object, with only the changes that this path allows (API-8)."""
    if request.resource.is_custom:
        return objects.propose(request.resource, request.subresource, old, body)
    if request.resource == resources.NAMESPACES and not request.subresource:
        return _namespace(strategy, old, body)
    return _PARTS[request.subresource](strategy, old, body)


def patched(
    resource: Resource, record: type | None, current: Any, change: Patch, validation: str
) -> tuple[Any, tuple[str, ...]]:
    """The object after the patch, and warnings of unknown fields (PATCH-1). Raises ApiError 4xx if
    the patch does not apply or the result is not an object."""
    document = change.document
    if change.media_type == patch.MERGE_PATCH and type(document) is dict and record is not None:
        merged = patch.merge_record(current, document)  # a component's
        if merged is not None:
            return merged, ()
    tree = patch.apply(record, to_tree(_without_managers(current, change)), change)
    # PATCH-1: its kind and apiVersion are ignored
    if change.media_type == patch.STRATEGIC_MERGE_PATCH:
        tree = {**tree, "kind": current.kind, "apiVersion": current.api_version}
    if tree.get("kind") not in (None, current.kind) or tree.get("apiVersion") not in (
        None,
        current.api_version,
    ):
        kind, version = tree.get("kind"), tree.get("apiVersion")
        raise ApiError(
            _unpatchable(
                tree,
                f"converting ({version}.{kind}) to ({current.api_version}.{current.kind}): unknown conversion",
            )
        )
    tree = {**tree, "kind": current.kind, "apiVersion": current.api_version}
    made: Any
    try:
        if record is None:
            made, unknown = objects.decoded(resource, tree)
        else:
            is_merged = change.media_type == patch.STRATEGIC_MERGE_PATCH
            decoded = (decode_merged if is_merged else decode_tree)(record, tree)
            made, unknown = decoded.object, decoded.warnings
    except DecodeError as error:
        raise ApiError(_unpatchable(tree, str(error))) from None
    if validation != "Ignore":
        unknown = patch.repeated_keys(change.document) + unknown
    if unknown and validation == "Strict":
        raise ApiError(_unpatchable(tree, "strict decoding error: " + ", ".join(unknown)))
    return made, unknown if validation in ("", "Warn") else ()


def _without_managers(current: Any, change: Patch) -> Any:
    """The object without managedFields, unless the patch names them: they are as long as the rest
    of it, and the API server adds them again (APPLY-12)."""
    document = change.document
    if current.metadata.managed_fields is None:
        return current
    # a heartbeat names no metadata
    if not (type(document) is dict and document.keys() <= _NOT_METADATA):
        text = document if isinstance(document, bytes) else encode(document)
        if b"managedFields" in text or b"\\u" in text:
            return current
    return replace(current, metadata=replace(current.metadata, managed_fields=None))


_NOT_METADATA = frozenset(["spec", "status"])


def _unpatchable(tree: Any, detail: str) -> Any:
    """422 about a patch whose result is not an object. Upstream's Status has no name and kind for
    it."""
    nothing = Resource("", "v1", "", "", "", False)
    try:
        shown = encode(tree).decode()
    except (TypeError, ValueError):
        shown = repr(tree)
    return status.invalid(nothing, "", [Cause(status.INVALID, "patch", detail, shown)])


# --- guard


def guard(request: Request, strategy: Strategy, record: Record[Any] | None, metadata: Any) -> None:
    """Raise ApiError 409 if `uid` or `resourceVersion` do not match; 422 if the kind requires a
    resourceVersion and the body has none (API-6)."""
    resource, name = request.resource, request.name
    there = record.value.metadata.uid if record is not None else ""
    if metadata.uid and metadata.uid != there and not isinstance(request.body, Patch):
        why = (
            f"Precondition failed: UID in precondition: {metadata.uid}, UID in object meta: {there}"
        )
        raise ApiError(status.conflict(resource, name, why))
    if record is None:
        return
    revision = metadata.resource_version
    if revision and revision != record.value.metadata.resource_version and number_of(revision):
        raise ApiError(status.conflict(resource, name))
    if revision and revision.strip("0"):
        return
    if not strategy.unconditional_update:
        # upstream names the resource here, not the kind
        named = evolve(resource, kind=resource.plural)
        raise ApiError(status.invalid(named, name, [_NO_REVISION]))


def number_of(revision: str) -> int:
    """A resourceVersion in a body as a number. Raises ApiError 500 without a reason for any other
    text, as upstream."""
    try:
        return parse_uint64(revision)
    except ValueError as error:
        raise ApiError(status.unexplained(str(error))) from None


_NO_REVISION = Cause(
    status.INVALID, "metadata.resourceVersion", "must be specified for an update", 0
)


# --- carry


def begin(strategy: Strategy, obj: Any, namespace: str, name: str, context: Context) -> Any:
    """A new object: the API server's metadata, generation 1 if the kind has one, the initial status
    (API-1, API-5, API-8)."""
    namespace = namespace if strategy.resource.namespaced else ""
    generation = 1 if strategy.has_generation else obj.metadata.generation
    metadata = lifecycle.begin(obj.metadata, namespace, name, generation, context)
    if strategy.resource.is_custom:
        return objects.begin(strategy.resource, obj, metadata)
    if strategy.resource.has_status and not strategy.created_with_status:
        return replace(obj, metadata=metadata, status=strategy.new_status())
    return replace(obj, metadata=metadata)


def remake_new(request: Request, strategy: Strategy, obj: Any, before: Any) -> Any:
    """A new object that a webhook has changed: it has the fields again that only the API server
    sets, as before (HOOK-9). Raises ApiError 400 for another namespace or name than the request
    has."""
    resource, own = request.resource, before.metadata
    identify_new(evolve(request, body=obj))
    metadata = replace(
        obj.metadata,
        name=obj.metadata.name or own.name,
        namespace=own.namespace,
        **{field: getattr(own, field) for field in _SET_BY_THE_SERVER},
    )
    if resource.is_custom:
        return objects.begin(resource, obj, metadata)
    if resource.has_status and not strategy.created_with_status:
        return replace(obj, metadata=metadata, status=before.status)
    return replace(obj, metadata=metadata)


_SET_BY_THE_SERVER = (
    "uid",
    "creation_timestamp",
    "generation",
    "resource_version",
    "deletion_timestamp",
    "deletion_grace_period_seconds",
    "self_link",
    "managed_fields",
)


def carry(strategy: Strategy, old: Any, new: Any, is_status: bool = False) -> Any:
    """A changed object: the API server's metadata are kept, and the generation is raised if the
    desired state changes (API-1, API-5). A write of the status never raises it, although a
    Deployment's controller writes the revision annotation with the status."""
    metadata = lifecycle.carry_over(old.metadata, new.metadata)
    if strategy.generation and not is_status and _desires_else(strategy, old, new):
        metadata = replace(metadata, generation=(old.metadata.generation or 0) + 1)
    return replace(new, metadata=metadata)


def _desires_else(strategy: Strategy, old: Any, new: Any) -> bool:
    if strategy.resource.is_custom:
        return objects.desires_else(strategy.resource, old, new)
    for attribute in strategy.generation:
        if attribute.startswith("metadata."):
            name = attribute.removeprefix("metadata.")
            if (getattr(old.metadata, name) or None) != (getattr(new.metadata, name) or None):
                return True
        elif getattr(old, attribute) != getattr(new, attribute):
            return True
    return False


def check(resource: Resource, name: str, causes: Sequence[Cause]) -> None:
    """Raise ApiError 422 if there are causes."""
    if causes:
        raise ApiError(status.invalid(resource, name, list(causes)))


# --- conclude


def refuse_revision(request: Request, metadata: Any) -> None:
    """Raise ApiError 500 for a new object with a resourceVersion, as upstream's storage does
    (API-2). "0", and text that is not a number, count as absent. A dry run does not reach the
    storage, so it is accepted."""
    if not metadata.resource_version:
        return
    try:
        revision = parse_uint64(metadata.resource_version)
    except ValueError:
        return
    if revision and not request.options.dry_run:
        raise ApiError(
            status.unexplained("resourceVersion should not be set on objects to be created")
        )


def refuse_existing(resource: Resource, record: Record[Any]) -> None:
    """Raise ApiError 409: the name is taken (API-2)."""
    failure = status.already_exists(resource, record.value.metadata.name)
    if record.value.metadata.deletion_timestamp is not None:
        failure = replace(failure, message=f"object is being deleted: {failure.message}")
    raise ApiError(failure)


def conclude_create(
    request: Request,
    key: str,
    obj: Any,
    compares: tuple[Compare, ...] = (),
    writes: tuple[Put[Any] | Delete, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Response | Commit:
    """Store a new object. If another request takes the name meanwhile, this one is handled again
    (API-9)."""
    if request.options.dry_run:
        return Response(201, obj, warnings=warnings)
    return Commit(
        Txn((Compare(key, ABSENT), *compares), (Put(key, obj), *writes)),
        respond_with(key, 201, warnings),
    )


def conclude_update(
    request: Request,
    record: Record[Any],
    obj: Any,
    compares: tuple[Compare, ...] = (),
    writes: tuple[Put[Any] | Delete, ...] = (),
    warnings: tuple[str, ...] = (),
    *,
    is_stale: bool = False,
) -> Response | Commit:
    """Store a changed object; without a change, nothing is written (API-4), unless the stored bytes
    are stale (CRYPT-4)."""
    if obj == record.value and not is_stale:
        return Response(200, record.value, (record,), warnings)
    if request.options.dry_run:
        return Response(200, obj, warnings=warnings)
    condition = Compare(record.key, record.mod_revision)
    return Commit(
        Txn((condition, *compares), (Put(record.key, obj), *writes)),
        respond_with(record.key, 200, warnings),
    )


def conclude_removal(
    request: Request,
    record: Record[Any],
    obj: Any,
    compares: tuple[Compare, ...],
    writes: tuple[Put[Any] | Delete, ...],
    warnings: tuple[str, ...] = (),
) -> Response | Commit:
    """Remove an object that only waited for this change (DEL-4). The answer is the object after the
    change."""
    answer = Response(200, obj, warnings=warnings)
    if request.options.dry_run:
        return answer
    condition = Compare(record.key, record.mod_revision)
    return Commit(
        Txn((condition, *compares), (Delete(record.key), *writes)), lambda committed: answer
    )


def respond_with(
    key: str, code: int, warnings: tuple[str, ...] = ()
) -> Callable[[Committed[Any]], Response]:
    """An answer with the committed object."""

    def respond(committed: Committed[Any]) -> Response:
        for change in committed.changes:
            if change.key == key and change.record is not None:
                return Response(code, change.record.value, (change.record,), warnings)
        raise AssertionError(f"{key} is not among the changes")

    return respond
