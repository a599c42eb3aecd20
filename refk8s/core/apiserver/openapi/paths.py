"""The paths of resources with their operations, as OpenAPI describes them. Rules DISC-9, DISC-12
(spec/discovery.md)."""

from collections.abc import Iterator
from typing import Any, TypeAlias

from refk8s.core.api.meta_v1 import DeleteOptions, Status
from refk8s.core.api.resources import Resource, Subresource
from refk8s.core.apiserver.openapi.custom import custom_name
from refk8s.core.apiserver.openapi.root import capital
from refk8s.core.apiserver.openapi.schemas import Flavour, body_type, name_of, reference

Tree: TypeAlias = dict[str, Any]

JSON = "application/json"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
)

_OBJECT_VERBS = {
    "get": ("get", "get"),
    "update": ("put", "put"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
}
_LIST_VERBS = {
    "list": ("get", "list"),
    "create": ("post", "post"),
    "deletecollection": ("delete", "deletecollection"),
}
_CONNECT_METHODS = {
    "get": "get",
    "create": "post",
    "update": "put",
    "patch": "patch",
    "delete": "delete",
}

_QUERY: dict[str, tuple[str, ...]] = {
    "get": ("pretty",),
    "list": ("pretty", "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
             "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch"),
    "post": ("pretty", "dryRun", "fieldManager", "fieldValidation"),
    "put": ("pretty", "dryRun", "fieldManager", "fieldValidation"),
    "patch": ("pretty", "dryRun", "fieldManager", "fieldValidation", "force"),
    "delete": ("pretty", "dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"),
    "deletecollection": ("pretty", "continue", "dryRun", "fieldSelector", "gracePeriodSeconds", "labelSelector", "limit",
                         "orphanDependents", "propagationPolicy", "resourceVersion", "resourceVersionMatch", "timeoutSeconds"),
    "connect": (),
}  # fmt: skip
"""The query parameters of each action. From `fieldValidation` of patch, kubectl learns that the
server checks fields (DISC-12)."""
_INTEGERS = {"limit", "timeoutSeconds", "gracePeriodSeconds"}
_BOOLEANS = {"allowWatchBookmarks", "sendInitialEvents", "watch", "force", "orphanDependents"}


def paths_of(resources: tuple[Resource, ...], flavour: Flavour) -> Tree:
    """Every path of these resources, in order."""
    found: Tree = {}
    for resource in resources:
        for path, operations in _resource_paths(resource, flavour):
            if operations:
                found.setdefault(path, {}).update(operations)
    return dict(sorted(found.items()))


def _resource_paths(resource: Resource, flavour: Flavour) -> Iterator[tuple[str, Tree]]:
    root = (
        f"/apis/{resource.group}/{resource.version}"
        if resource.group
        else f"/api/{resource.version}"
    )
    everywhere = f"{root}/{resource.plural}"
    home = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else everywhere
    )
    common = [_path_parameter("namespace", flavour)] if resource.namespaced else []
    name = [*common, _path_parameter("name", flavour)]

    yield home, _item(_operations(resource, _LIST_VERBS, "", flavour), common)
    if resource.namespaced and "list" in resource.verbs:
        yield (
            everywhere,
            _operations(resource, {"list": _LIST_VERBS["list"]}, "ForAllNamespaces", flavour),
        )
    yield f"{home}/{{name}}", _item(_operations(resource, _OBJECT_VERBS, "", flavour), name)
    for part in resource.subresources:
        yield f"{home}/{{name}}/{part.name}", _item(_part_operations(resource, part, flavour), name)


def _item(operations: Tree, parameters: list[Tree]) -> Tree:
    return operations | {"parameters": parameters} if operations and parameters else operations


def _operations(
    resource: Resource, verbs: dict[str, tuple[str, str]], suffix: str, flavour: Flavour
) -> Tree:
    found: Tree = {}
    kind = {"group": resource.group, "kind": resource.kind, "version": resource.version}
    for verb, (method, action) in verbs.items():
        if verb not in resource.verbs:
            continue
        body: Any
        answer: Any
        if resource.is_custom:
            own, listed = custom_name(resource), custom_name(resource, is_list=True)
            body = DeleteOptions if method == "delete" else own
            answer = listed if verb == "list" else Status if method == "delete" else own
        else:
            body = DeleteOptions if method == "delete" else resource.type
            answer = (
                resource.list_type
                if verb == "list"
                else Status
                if method == "delete"
                else resource.type
            )
        operation_id = f"{action}{_capital(resource)}{resource.kind}{suffix}"
        found[method] = _operation(
            action, operation_id, kind, body, answer, flavour, custom=resource.is_custom
        )
    return found


def _part_operations(resource: Resource, part: Subresource, flavour: Flavour) -> Tree:
    found: Tree = {}
    kind = {
        "group": part.group if part.version else resource.group,
        "kind": part.kind,
        "version": part.version or resource.version,
    }
    body = (
        custom_name(resource)
        if resource.is_custom and not part.version
        else body_type(resource, part)
    )
    for verb in part.verbs:
        is_stream = body is None and not resource.is_custom
        method = _CONNECT_METHODS[verb]
        action = "connect" if is_stream else method
        operation_id = f"{action}{method.capitalize() if is_stream else ''}{_capital(resource)}{resource.kind}{part.name.capitalize()}"
        found[method] = _operation(
            action, operation_id, kind, body, body, flavour, custom=resource.is_custom
        )
    return found


def _capital(resource: Resource) -> str:
    """CoreV1, AppsV1, RbacAuthorizationV1: a part of operation identifiers."""
    return capital(resource.group) + resource.version.capitalize()


def _operation(
    action: str,
    operation_id: str,
    kind: Tree,
    body: Any,
    answer: Any,
    flavour: Flavour,
    *,
    custom: bool,
) -> Tree:
    """One operation: its body, its answer, and its kind and action, by which clients find it."""
    parameters = [_query_parameter(name, flavour) for name in _QUERY[action]]
    operation: Tree = {"operationId": operation_id}
    takes = PATCHES[:3] if custom else PATCHES
    media_types = takes if action == "patch" else (JSON,)
    if action in ("post", "put", "patch", "delete", "deletecollection"):
        schema: Tree = (
            {"type": "object"}
            if body is None or action == "patch"
            else reference(name_of(body), flavour)
        )
        is_required = action in ("post", "put", "patch")
        if flavour.number == 2:
            operation["consumes"] = list(media_types)
            parameters.append(
                {"name": "body", "in": "body", "required": is_required, "schema": schema}
            )
        else:
            operation["requestBody"] = {
                "content": {name: {"schema": schema} for name in media_types},
                "required": is_required,
            }
    shown: Tree = (
        {"type": "string" if action == "connect" else "object"}
        if answer is None
        else reference(name_of(answer), flavour)
    )
    if flavour.number == 2:
        operation["produces"] = [JSON]
        operation["responses"] = {
            "200": {"description": "OK", "schema": shown},
            "401": {"description": "Unauthorized"},
        }
    else:
        operation["responses"] = {
            "200": {"description": "OK", "content": {JSON: {"schema": shown}}},
            "401": {"description": "Unauthorized"},
        }
    if parameters:
        operation["parameters"] = parameters
    return operation | {"x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind}


def _query_parameter(name: str, flavour: Flavour) -> Tree:
    kind = "integer" if name in _INTEGERS else "boolean" if name in _BOOLEANS else "string"
    return _parameter(name, "query", kind, flavour)


def _path_parameter(name: str, flavour: Flavour) -> Tree:
    return _parameter(name, "path", "string", flavour) | {"required": True}


def _parameter(name: str, place: str, kind: str, flavour: Flavour) -> Tree:
    schema = {"type": kind, "uniqueItems": True}
    return {"name": name, "in": place} | (schema if flavour.number == 2 else {"schema": schema})
