"""Parses a method, a path and a query. Rules API-10, API-11, API-12 (spec/api.md).

    /api/v1                         [/watch] [/namespaces/NAMESPACE] /PLURAL [/NAME [/SUBRESOURCE [/PATH]]]
    /apis/GROUP/VERSION             the same
    everything else                 discovery, schemas, health: not a resource

| method | on a collection | on an object | on a part of an object |
|---|---|---|---|
| GET | list, watch | get | get, connect |
| POST | create | - | create, connect |
| PUT, PATCH | - | update, patch | update, patch |
| DELETE | deletecollection | delete | - |

Source: Kubernetes documentation, "Kubernetes API Concepts"; API reference, "Common Parameters".
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from refk8s.core.api import resources, status
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import NO_OPTIONS, Options
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.parameters import get_number, get_seconds, is_true
from refk8s.core.apiserver.read import invalid_options
from refk8s.core.memo import remember
from refk8s.core.value import Value, evolve, field

FIELD_VALIDATIONS = ("", "Ignore", "Warn", "Strict")
FIELD_MANAGER_LENGTH_MAX = 128
CONNECTABLE = ("attach", "exec", "log", "portforward", "proxy")

_ON_COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_ON_OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ON_PART = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Target(Value, frozen=True):
    """The verb, the resource and the options of a request line. `include_object` is for tables.
    `path` and `parameters` are for streams to a container; a delete has its `parameters` too.
    `problem`: an error in the options of the query, which is answered after the user is authorized
    (HTTP-8)."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    options: Options = field(default_factory=Options)
    include_object: str = ""
    pretty: bool = False
    path: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    problem: ApiError | None = None


class Plain(Value, frozen=True):
    """A path that is not a resource: discovery, schemas, health, or unknown."""

    path: str
    parameters: tuple[tuple[str, str], ...] = ()


def find_target(method: str, path: str, query: str, store: Reader) -> Target | Plain:
    """The target of a request line, on this state of the store: a built-in resource, else a custom
    one that it defines (CRD-2). Raises ApiError 4xx as `route`."""
    try:
        found = route(method, path, query)
    except ApiError as error:
        if error.status.code == 404 and (custom := _custom(method, path, query, store)) is not None:
            return custom
        raise
    if type(found) is Target or not path.startswith("/apis/"):
        return found
    return _custom(method, path, query, store) or found


def _custom(method: str, path: str, query: str, store: Reader) -> Target | None:
    segments = _segments(path)
    if len(segments) < 4:
        return None
    _, group, version, *rest = segments
    plural = _plural(rest)
    resource = find_custom(group, version, plural, store) if plural else None
    if resource is None:
        return None
    return _custom_target(resource, method, path, query)


def _plural(rest: list[str]) -> str:
    """The plural in the segments after the version, or empty."""
    if rest[0] == "watch":
        rest = rest[1:]
    if len(rest) >= 3 and rest[0] == "namespaces":
        rest = rest[2:]
    return rest[0] if rest else ""


@remember(1024)
def _custom_target(resource: Resource, method: str, path: str, query: str) -> Target | None:
    """The target; None if the path has another scope than the resource."""
    _, _, _, *rest = _segments(path)
    watched = rest[0] == "watch"
    try:
        place = _place(resource.group, resource.version, rest[watched:], resource)
    except ApiError:
        return None
    if resource.namespaced and not place[1] and method not in ("GET", "HEAD"):
        return None  # of all namespaces at once, there are only lists and watches
    return _target(method, place, query, watched)


def _segments(path: str) -> list[str]:
    segments = unquote(path, errors="replace").split("/")[1:]
    while segments and not segments[-1]:
        segments.pop()
    return segments


@remember(4096)
def route(method: str, path: str, query: str) -> Target | Plain:
    """The target of a request line for built-in resources; path and query are percent-encoded.
    Raises ApiError 4xx for an unknown path or method. O(length)."""
    segments = _segments(path)
    match segments:
        case ["api", "v1", first, *rest]:
            group, version, rest = "", "v1", [first, *rest]
        case ["api", _, _, *_]:
            raise ApiError(status.path_not_found())
        case ["apis", group, version, first, *rest] if group in resources.GROUPS:
            rest = [first, *rest]
        case _:
            parameters = tuple(parse_qsl(query, keep_blank_values=True, errors="replace"))
            return Plain("/" + "/".join(segments), parameters)
    watched = rest[0] == "watch"
    return _target(method, _place(group, version, rest[watched:]), query, watched)


Place = tuple[Resource, str, str, str, str]
"""(resource, namespace, name, subresource, path after it)"""


def _target(method: str, place: Place, query: str, watched: bool) -> Target:
    resource, namespace, name, subresource, more = place
    parameters = tuple(parse_qsl(query, keep_blank_values=True, errors="replace"))
    values = _first_values(parameters)
    verb = _verb(method, resource, name, subresource, values, watched)
    if resource.namespaced and not namespace and verb not in ("list", "watch"):
        raise ApiError(status.method_not_allowed(resource))
    if verb == "connect":
        return Target(
            verb, resource, namespace, name, subresource, path=more, parameters=parameters
        )
    try:
        options = _options(verb, values, parameters)
    except ApiError as error:
        return Target(verb, resource, namespace, name, subresource, problem=error)
    return Target(
        verb,
        resource,
        namespace,
        name,
        subresource,
        options,
        values.get("includeObject", ""),
        is_true(values.get("pretty")),
        parameters=parameters if verb in ("delete", "deletecollection") else (),
    )


def _place(group: str, version: str, rest: list[str], custom: Resource | None = None) -> Place:
    """What a path names. `custom`: the resource, if it is a custom one. Raises ApiError 404 for an
    unknown path."""
    namespace = ""
    if (
        len(rest) >= 3
        and rest[0] == "namespaces"
        and not (group == "" and _is_part_of_namespace(rest[2:]))
    ):
        namespace, rest = rest[1], rest[2:]
        if not namespace:
            raise ApiError(status.path_not_found())
    if not rest or "" in rest[:3]:
        raise ApiError(status.path_not_found())
    resource = custom or resources.by_path(group, version, rest[0])
    if resource is None:
        raise ApiError(status.path_not_found())
    name, subresource = (*rest[1:3], "", "")[:2]
    more = "/".join(rest[3:])
    if resource.namespaced != bool(namespace) and (
        name or not resource.namespaced or "list" not in resource.verbs
    ):
        # only lists and watches are possible in all namespaces at once
        raise ApiError(status.path_not_found())
    if subresource and resource.subresource(subresource) is None and custom is None:
        raise ApiError(status.path_not_found())
    if more and subresource != "proxy":
        raise ApiError(status.path_not_found())
    return resource, namespace, name, subresource, more


def _is_part_of_namespace(rest: list[str]) -> bool:
    return len(rest) == 1 and resources.NAMESPACES.subresource(rest[0]) is not None


def _verb(
    method: str,
    resource: Resource,
    name: str,
    subresource: str,
    values: Mapping[str, str],
    watched: bool,
) -> str:
    """The verb. Raises ApiError 405 for a method that the path does not serve (API-11)."""
    if watched:
        verb = "watch" if method == "GET" else ""
    elif subresource:
        part = resource.subresource(subresource)
        if subresource == "proxy" and method in ("HEAD", "OPTIONS"):
            return "connect"  # STREAM-11
        if part is None and resource.is_custom:
            raise ApiError(status.not_found(resource, name))
        verb = _ON_PART.get(method, "")
        if part is None or verb not in part.verbs:
            verb = ""
        elif subresource in CONNECTABLE:
            return "connect"
        else:
            return verb
    elif name:
        verb = _ON_OBJECT.get(method, "")
    else:
        verb = _ON_COLLECTION.get(method, "")
        if verb == "list" and is_true(values.get("watch")):
            verb = "watch"
    if verb not in resource.verbs:
        raise ApiError(status.method_not_allowed(resource))
    return verb


# --- the query


def _first_values(parameters: tuple[tuple[str, str], ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for key, value in parameters:
        values.setdefault(key, value)
    return values


def _flag(values: Mapping[str, str], key: str) -> bool | None:
    return is_true(values.get(key)) if key in values else None


def _options(
    verb: str, values: Mapping[str, str], parameters: tuple[tuple[str, str], ...]
) -> Options:
    if not values:
        return NO_OPTIONS
    return _READERS[verb](values, parameters)


def _get_options(values: Mapping[str, str], parameters: Any) -> Options:
    return Options(resource_version=values.get("resourceVersion", ""))


def _list_options(values: Mapping[str, str], parameters: Any) -> Options:
    selection = _collection_options(values, parameters)
    return evolve(
        selection,
        timeout_seconds=get_number(values, "timeoutSeconds"),
        allow_watch_bookmarks=is_true(values.get("allowWatchBookmarks")),
        send_initial_events=_flag(values, "sendInitialEvents"),
    )


def _collection_options(
    values: Mapping[str, str], parameters: tuple[tuple[str, str], ...]
) -> Options:
    """The selectors of a deletecollection. Its delete options are in the body or from
    `delete_options` (DEL-10)."""
    return Options(
        label_selector=values.get("labelSelector", ""),
        field_selector=values.get("fieldSelector", ""),
        limit=get_number(values, "limit") or 0,
        continue_=values.get("continue", ""),
        resource_version=values.get("resourceVersion", ""),
        resource_version_match=values.get("resourceVersionMatch", ""),
    )


def delete_options(verb: str, parameters: tuple[tuple[str, str], ...]) -> DeleteOptions | None:
    """The DeleteOptions in a query, for a request without a body (DEL-10); None if it has none.

    `uid` and `resourceVersion` are preconditions; for a collection, resourceVersion is that of the
    list. Raises ApiError 400 for a number that cannot be parsed; delete.py checks the rest.
    """
    values = _first_values(parameters)
    if not any(key in values for key in _OF_A_DELETE):
        return None
    uid, revision = (
        values.get("uid") or None,
        values.get("resourceVersion") or None if verb == "delete" else None,
    )
    stages = tuple(value for key, value in parameters if key == "dryRun")
    return DeleteOptions(
        dry_run=stages or None,
        grace_period_seconds=get_number(values, "gracePeriodSeconds"),
        propagation_policy=values.get("propagationPolicy"),
        orphan_dependents=_flag(values, "orphanDependents"),
        preconditions=Preconditions(uid=uid, resource_version=revision)
        if uid or revision
        else None,
    )


_OF_A_DELETE = (
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "uid",
)


def _write_options(
    kind: str,
) -> Callable[[Mapping[str, str], tuple[tuple[str, str], ...]], Options]:
    def read(values: Mapping[str, str], parameters: tuple[tuple[str, str], ...]) -> Options:
        validation, manager, force = (
            values.get("fieldValidation", ""),
            values.get("fieldManager", ""),
            is_true(values.get("force")),
        )
        causes = []
        if validation not in FIELD_VALIDATIONS:
            supported = 'supported values: "", "Ignore", "Strict", "Warn"'
            causes.append(Cause(status.NOT_SUPPORTED, "fieldValidation", supported, validation))
        if len(manager) > FIELD_MANAGER_LENGTH_MAX:
            causes.append(
                Cause(
                    status.TOO_LONG,
                    "fieldManager",
                    f"may not be more than {FIELD_MANAGER_LENGTH_MAX} bytes",
                )
            )
        if not manager.isprintable():
            causes.append(
                Cause(
                    status.INVALID,
                    "fieldManager",
                    "should only contain printable characters",
                    manager,
                )
            )
        if causes:
            raise ApiError(invalid_options(kind, causes))
        return Options(
            dry_run=_dry_run(kind, parameters),
            field_manager=manager,
            field_validation=validation,
            force=force,
            timeout_seconds=get_seconds(values, "timeout"),
        )

    return read


def _dry_run(kind: str, parameters: tuple[tuple[str, str], ...]) -> bool:
    """Whether nothing is stored. Raises ApiError 422 for any value but All (API-12)."""
    stages = [value for key, value in parameters if key == "dryRun"]
    if not stages:
        return False
    if any(stage != "All" for stage in stages):
        raise ApiError(
            invalid_options(
                kind, [Cause(status.NOT_SUPPORTED, "dryRun", 'supported values: "All"', stages)]
            )
        )
    return True


_READERS: dict[str, Callable[[Mapping[str, str], tuple[tuple[str, str], ...]], Options]] = {
    "get": _get_options,
    "list": _list_options,
    "watch": _list_options,
    "create": _write_options("CreateOptions"),
    "update": _write_options("UpdateOptions"),
    "patch": _write_options("PatchOptions"),
    "delete": lambda values, parameters: NO_OPTIONS,
    "deletecollection": _collection_options,
}
