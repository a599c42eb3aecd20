"""A request as HTTP: method, URL and body. Rules CLIENT-1, CLIENT-14 (spec/client.md).

    /api/v1  or  /apis/GROUP/VERSION      [/namespaces/NAMESPACE] /PLURAL [/NAME [/SUBRESOURCE]]

The inverse is core/apiserver/route.py and decode.py. Source: Kubernetes documentation, "Kubernetes
API Concepts"; API reference, "Common Parameters". Left out: `connect`, which no component sends.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from msgspec.structs import replace

from refk8s.core.api.codec import encode
from refk8s.core.api.request import NO_OPTIONS, Options, Patch, Request
from refk8s.core.value import Value

JSON = "application/json"

_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
}

Parameters = list[tuple[str, str]]


class HttpRequest(Value, frozen=True):
    """`target` is the path with the query, percent-encoded. Without a body there is no
    `content_type`."""

    method: str
    target: str
    content_type: str = ""
    body: bytes = b""


def to_http(request: Request, is_brief: bool = False) -> HttpRequest:
    """The request as HTTP; `is_brief`: without what a refk8s server does not read (CLIENT-14).
    O(length of the body)."""
    target = _path(request)
    options = request.options
    if options != NO_OPTIONS or request.verb == "watch":
        parameters = _PARAMETERS[request.verb](options)
        if parameters:
            target += "?" + urlencode(parameters, quote_via=quote)
    content_type, body = _body(_brief(request) if is_brief else request.body)
    return HttpRequest(_METHODS[request.verb], target, content_type, body)


def _path(request: Request) -> str:
    resource = request.resource
    parts = ["/apis" if resource.group else "/api", resource.api_version]
    if resource.namespaced and request.namespace:
        parts += ("namespaces", _quoted(request.namespace))
    if not resource.plural:
        return "/".join(parts)  # the discovery document of another server
    # another server's name of a resource, such as that of a metric, is any segment (APISVC-11)
    parts.append(quote(resource.plural, safe="") if resource.is_custom else resource.plural)
    # a create without a subresource names its object in the body alone
    if request.name and (request.verb != "create" or request.subresource):
        parts.append(_quoted(request.name))
        if request.subresource:
            parts.append(_quoted(request.subresource))
    return "/".join(parts)


_PLAIN = re.compile(r"[a-z0-9.-]*", re.ASCII)


def _quoted(segment: str) -> str:
    """A segment of a path, percent-encoded; most are names of objects, which need no encoding."""
    return segment if _PLAIN.fullmatch(segment) else quote(segment, safe="")


def can_be_brief(request: Request) -> bool:
    """Whether a refk8s server reads only a part of the body: that of the update of a status."""
    resource = request.resource
    return (
        request.subresource == "status"
        and request.verb == "update"
        and not resource.is_custom
        and not resource.storage_api_version
    )


def _brief(request: Request) -> Any:
    """The body without what the server does not read (CLIENT-14)."""
    body = request.body
    if not can_be_brief(request):
        return body
    metadata = replace(body.metadata, managed_fields=None)
    return replace(body, metadata=metadata, spec=_empty_spec(_class_of(body)))


def _class_of(value: Any) -> Any:
    return type(value)


@cache
def _empty_spec(kind: Callable[[], Any]) -> Any:
    return kind().spec


def _body(body: Any) -> tuple[str, bytes]:
    if body is None:
        return "", b""
    if isinstance(body, Patch):
        document = body.document
        return body.media_type, document if isinstance(document, bytes) else encode(document)
    return JSON, encode(body)


# --- the query


def _get(options: Options) -> Parameters:
    return _given(
        ("resourceVersion", options.resource_version),
        ("labelSelector", options.label_selector),
        ("metricLabelSelector", options.metric_label_selector),
    )


def _list(options: Options) -> Parameters:
    return [
        *_collection(options),
        *_given(
            (
                "timeoutSeconds",
                "" if options.timeout_seconds is None else str(options.timeout_seconds),
            ),
            ("allowWatchBookmarks", "true" if options.allow_watch_bookmarks else ""),
            (
                "sendInitialEvents",
                ""
                if options.send_initial_events is None
                else str(options.send_initial_events).lower(),
            ),
        ),
    ]


def _watch(options: Options) -> Parameters:
    return [("watch", "true"), *_list(options)]


def _collection(options: Options) -> Parameters:
    return _given(
        ("labelSelector", options.label_selector),
        ("fieldSelector", options.field_selector),
        ("limit", str(options.limit) if options.limit else ""),
        ("continue", options.continue_),
        ("resourceVersion", options.resource_version),
        ("resourceVersionMatch", options.resource_version_match),
    )


def _write(options: Options) -> Parameters:
    return _given(
        ("dryRun", "All" if options.dry_run else ""),
        ("fieldManager", options.field_manager),
        ("fieldValidation", options.field_validation),
    )


def _patch(options: Options) -> Parameters:
    return [*_write(options), *_given(("force", "true" if options.force else ""))]


def _none(options: Options) -> Parameters:
    return []


def _given(*parameters: tuple[str, str]) -> Parameters:
    return [(name, value) for name, value in parameters if value]


_PARAMETERS: dict[str, Callable[[Options], Parameters]] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": _write,
    "update": _write,
    "patch": _patch,
    "delete": _none,
    "deletecollection": _collection,
}
