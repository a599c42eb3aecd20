"""The objects of a request for admission, in the version that a webhook or policy matches. Rules
MATCH-2, HOOK-6 (spec/webhooks.md).

Source: Kubernetes documentation, "Dynamic Admission Control" (Matching requests: matchPolicy).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.codec import decode_tolerant, to_tree
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource, type_of_kind
from refk8s.core.apiserver.admission.matching import (
    CONNECT,
    CREATE,
    DELETE,
    UPDATE,
    AdmissionRequest,
)
from refk8s.core.apiserver.calls import name_of
from refk8s.core.apiserver.custom import objects as custom_objects
from refk8s.core.apiserver.custom import versions as custom_versions
from refk8s.core.value import evolve

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

_OPTIONS: Final = {
    CREATE: "CreateOptions",
    UPDATE: "UpdateOptions",
    DELETE: "DeleteOptions",
}


def admission_request(
    exchange: Exchange, operation: str, new: Any, old: Any, name: str | None = None
) -> AdmissionRequest:
    """The request for admission of these objects, which are those that the handler decides on;
    they are shown in the client's version. `name`: if it is not that of the request."""
    request, client = exchange.request, exchange.request.requested_resource
    resource = client or request.resource
    if client is not None and client != request.resource:
        new, old = [_shown(request, client, obj) for obj in (new, old)]
    if name is None:
        name = request.name or name_of(new)
    namespace = request.namespace
    if request.resource == resources.NAMESPACES:
        namespace = name
    elif not request.resource.namespaced:
        namespace = ""
    return AdmissionRequest(
        operation,
        resource,
        request.subresource,
        namespace,
        name,
        _kind_of(resource, request.subresource),
        new,
        old,
        _options_of(request, operation),
        request.user,
        request.options.dry_run or _is_dry_delete(request),
    )


def as_sent(obj: Any, is_named: bool) -> Any:
    """A new object as its client has sent it: without uid and time; without its name, if that is
    generated."""
    metadata = obj.metadata
    name = metadata.name if is_named else None
    metadata = replace(metadata, name=name, uid=None, creation_timestamp=None, generation=None)
    return replace(obj, metadata=metadata)


def _is_dry_delete(request: Request) -> bool:
    return bool(getattr(request.body, "dry_run", None))


def _kind_of(resource: Resource, subresource: str) -> tuple[str, str, str]:
    part = resource.subresource(subresource)
    if part is None:
        return resource.group, resource.version, resource.kind
    if part.version:
        return part.group, part.version, part.kind
    return resource.group, resource.version, part.kind


def _options_of(request: Request, operation: str) -> Any:
    """The options as a JSON tree. A stream has none."""
    if operation == CONNECT:
        return None
    head = {"kind": _OPTIONS[operation], "apiVersion": "meta.k8s.io/v1"}
    options = request.options
    if operation == DELETE:
        body = request.body
        tree = {} if body is None or not hasattr(body, "dry_run") else to_tree(body)
        return {**tree, **head}
    if options.dry_run:
        head["dryRun"] = ["All"]  # type: ignore[assignment]
    if options.field_manager:
        head["fieldManager"] = options.field_manager
    if options.field_validation:
        head["fieldValidation"] = options.field_validation
    return head


# --- versions


def in_version(
    exchange: Exchange, request: AdmissionRequest, resource: Resource
) -> AdmissionRequest:
    """The request with its objects in the version of `resource`. The body of a subresource with a
    kind of its own is the same in all versions."""
    if resource == request.resource or request.kind[2] != request.resource.kind:
        return request
    new, old = [
        None if obj is None else _converted(exchange, request.resource, resource, obj)
        for obj in (request.object, request.old_object)
    ]
    return evolve(request, object=new, old_object=old)


def _shown(request: Request, client: Resource, obj: Any) -> Any:
    """A stored object in the client's version; the body of a subresource as it is."""
    from refk8s.core.apiserver.versions import from_stored  # that module imports this package

    if obj is None or obj.kind != request.resource.kind:
        return obj
    return from_stored(client, obj)


def _converted(exchange: Exchange, source: Resource, target: Resource, obj: Any) -> Any:
    if source.is_custom:
        return custom_versions.between(source, target, obj, exchange.calls)
    from refk8s.core.apiserver.versions import from_stored, to_stored

    if source.storage_api_version:
        obj = to_stored(source, obj, None)
    return from_stored(target, obj) if target.storage_api_version else obj


def record_of(
    exchange: Exchange, request: AdmissionRequest, resource: Resource, tree: dict[str, Any]
) -> Any:
    """The record of a changed tree in `resource`'s version, as the handler decides on it. Raises
    DecodeError."""
    handled = exchange.request.resource
    if request.kind[2] != request.resource.kind:
        group, version, kind = request.kind
        found = type_of_kind(f"{group}/{version}" if group else version, kind)
        return tree if found is None else decode_tolerant(found, tree)[0]
    made: Any
    if resource.is_custom:
        made, _ = custom_objects.decoded(resource, tree)
    else:
        made, _ = decode_tolerant(resource.type, tree)
    return _converted(exchange, resource, handled, made)


# --- streams

_STREAM_KINDS: Final = {
    "exec": "PodExecOptions",
    "attach": "PodAttachOptions",
    "portforward": "PodPortForwardOptions",
}
_FLAGS: Final = ("stdin", "stdout", "stderr", "tty")


def connect_options(request: Request) -> dict[str, Any]:
    """The object of a CONNECT: the options of the stream, as a tree."""
    part, parameters = request.subresource, request.body
    if part == "proxy":
        kind = {"pods": "PodProxyOptions", "services": "ServiceProxyOptions"}
        tree: dict[str, Any] = {"kind": kind.get(request.resource.plural, "NodeProxyOptions")}
        path = parameters.path.partition("/proxy/")[2]
        return {**tree, "apiVersion": "v1", **({"path": f"/{path}"} if path else {})}
    tree = {"kind": _STREAM_KINDS[part], "apiVersion": "v1"}
    if part == "portforward":
        ports = [int(one) for one in parameters.all("ports") if one.isdigit() and len(one) <= 5]
        return {**tree, **({"ports": ports} if ports else {})}
    # as upstream: attaching reads the output unless the client says otherwise
    for flag in _FLAGS:
        given = parameters.get(flag)
        if given.lower() in ("1", "t", "true"):
            tree[flag] = True
    if container := parameters.get("container"):
        tree["container"] = container
    if part == "exec":
        tree["command"] = list(parameters.all("command"))
    return tree


__all__ = ["admission_request", "connect_options", "in_version", "record_of"]
