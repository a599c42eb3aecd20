"""Requests of components for resources of other API servers. Rule APISVC-11
(spec/api_services.md).

A component's request is a value, so it becomes a call, and the answer of the other server a
response. Requests over HTTP are passed on as they are (APISVC-5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from refk8s.core.api import status
from refk8s.core.api.request import Request, Response
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.aggregation.identity import identity_headers
from refk8s.core.apiserver.aggregation.remotes import Remote
from refk8s.core.apiserver.calls import Answered, Call, Calls, ask
from refk8s.core.client.request import to_http
from refk8s.core.client.response import Unreadable, to_response

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

SECONDS: Final = 30.0
"""How long a call for a component may take."""
UNAVAILABLE: Final = "service unavailable"
UNREACHABLE: Final = "error trying to reach service: "
VERBS: Final = frozenset(("create", "delete", "deletecollection", "get", "list", "patch", "update"))


def forward(exchange: Exchange, remote: Remote) -> Response:
    """The response of the other API server. Raises Needed, and ApiError 405 and 503."""
    request = exchange.request
    if request.verb not in VERBS:
        raise ApiError(status.method_not_allowed(request.resource))
    if not remote.is_available:
        raise ApiError(status.unavailable(UNAVAILABLE))
    (result,) = ask(exchange.calls, lambda calls: _call(request, remote, calls))
    if not isinstance(result, Answered):
        raise ApiError(status.unavailable(UNREACHABLE + result.why))
    if result.code < 200 or 300 <= result.code < 400:
        raise ApiError(status.unavailable(f"{UNREACHABLE}it answers {result.code}"))
    try:
        response = to_response(request, result.code, result.body)
    except Unreadable as error:
        raise ApiError(status.unavailable(f"{UNREACHABLE}{error}")) from None
    if response is None:
        raise ApiError(status.unavailable(f"{UNREACHABLE}it answers {result.code}"))
    return response


def _call(request: Request, remote: Remote, calls: Calls) -> Call:
    http = to_http(request)
    try:
        headers = tuple(identity_headers(request.user))
    except ValueError as error:
        raise ApiError(status.unavailable(f"{UNREACHABLE}{error}")) from None
    place = f"{http.method} {http.target}".encode()
    return Call(
        calls.id_of(b"aggregated", place, http.body, request.user.name.encode()),
        remote.url(http.target),
        remote.service,
        remote.ca_bundle,
        http.body,
        SECONDS,
        method=http.method,
        content_type=http.content_type,
        headers=headers,
        is_verified=remote.is_verified,
        is_of_proxy=True,
    )
