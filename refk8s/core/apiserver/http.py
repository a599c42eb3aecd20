"""Converts HTTP requests to requests and answers to replies, and answers paths that are not
resources. Rules API-10, API-15, API-25 (spec/api.md).

The HTTP front, which handles bytes, uses it like this:

    user = user_of(wire, config, now, store)                    # from the headers; ApiError 401
    received = receive(wire, user, read_yaml, config=config, store=store)
                                                                # Received: authorized; or a Reply
    outcome = decide(Exchange(received.request, store, context, config))
    reply = reply_to(received, response, now)

Source: Kubernetes documentation, "Kubernetes API Concepts", "Kubernetes API health endpoints".
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.aggregated import aggregated_resource
from refk8s.core.api.codec import encode, parse
from refk8s.core.api.request import NO_OPTIONS, Options, Request, Response
from refk8s.core.api.resources import PODS
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ANONYMOUS, User
from refk8s.core.apiserver.accept import PROTOBUF, TABLE, YAML, Form, accept, error_type
from refk8s.core.apiserver.aggregation.discovery import (
    discover,
    paths_of,
    served_by_others,
    with_schemas,
)
from refk8s.core.apiserver.aggregation.remotes import Remote, find_remote, is_plain
from refk8s.core.apiserver.apply.managers import program_of
from refk8s.core.apiserver.authenticate import authenticate
from refk8s.core.apiserver.authorize import (
    OPEN_PATHS,
    AuthorizerFailed,
    authorize,
    authorize_path,
    is_open,
)
from refk8s.core.apiserver.authorize.paths import attributes_of_path
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.custom.definitions import served
from refk8s.core.apiserver.decode import ReadYaml, decode_body
from refk8s.core.apiserver.discovery import digest_of, paths
from refk8s.core.apiserver.health import HEALTH_PATHS, Checks, health, no_checks
from refk8s.core.apiserver.impersonate import impersonate
from refk8s.core.apiserver.issuer import ISSUER_PATHS, issuer_document
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.respond import (
    Reply,
    check_watch_form,
    no_watch_form,
    respond,
    stream_type,
    write_error,
)
from refk8s.core.apiserver.reviews import REVIEWS
from refk8s.core.apiserver.route import Plain, Target, find_target
from refk8s.core.apiserver.warnings import deprecated
from refk8s.core.context import Instant
from refk8s.core.memo import remember
from refk8s.core.store import EMPTY
from refk8s.core.value import Value, evolve, field

PATHS = (*OPEN_PATHS, *ISSUER_PATHS, "/openapi/v2", "/openapi/v3", "/metrics", "/metrics/slis")
"""The paths at the root besides those of discovery (DISC-14)."""


class WireRequest(Value, frozen=True):
    """An HTTP request. `path` and `query` are percent-encoded; header names are in lower case.
    `impersonation`: all headers that name another user, repeated ones included. `named`: those in
    which a proxy may name the user (HTTP-29)."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    impersonation: tuple[tuple[str, str], ...] = ()
    named: tuple[tuple[bytes, bytes], ...] = ()


class Received(Value, frozen=True):
    """An authorized request, and the parameters of its answer: the form, the part of the object in
    each row of a table, indentation, and warnings."""

    request: Request
    form: Form
    include_object: str = ""
    pretty: bool = False
    warnings: tuple[str, ...] = ()


class Forward(Value, frozen=True):
    """An authorized request that another API server answers (APISVC-5). `request`: what it asks
    for; None for a path that is no resource."""

    remote: Remote
    user: User
    request: Request | None


class Connection(Value, frozen=True):
    """The body of a connect request: the parameters of the stream."""

    method: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes

    def get(self, key: str, default: str = "") -> str:
        """The first value of a parameter."""
        return next((value for name, value in self.parameters if name == key), default)

    def all(self, key: str) -> tuple[str, ...]:
        """Every value of a parameter, in order: `command`."""
        return tuple(value for name, value in self.parameters if name == key)


def user_of(
    wire: WireRequest,
    config: Config,
    now: Instant,
    objects: Reader | None = None,
    certificate_user: User | None = None,
) -> User | None:
    """The user, from the headers alone: the body need not have been read.

    None for an anonymous user. Raises ApiError 401 for invalid credentials on every path, and for
    missing ones without an authorizer, unless the path is open (API-15, AUTHZ-6). A client
    certificate takes precedence over a token, as upstream. Raises ApiError 403 and 500 for an
    impersonation that is not allowed (HTTP-23).
    """
    user = certificate_user or _user_of_token(wire, config, now, objects)
    if not wire.impersonation:
        return user
    store = EMPTY if objects is None else objects
    return impersonate(user or ANONYMOUS, wire.impersonation, store, config)


def _user_of_token(
    wire: WireRequest, config: Config, now: Instant, objects: Reader | None
) -> User | None:
    authorization = wire.headers.get("authorization", "")
    user = authenticate(authorization, config, now, objects) if authorization else None
    if user is None and (authorization or not _may_be_anonymous(wire, config)):
        raise ApiError(status.unauthorized())
    return user


def _may_be_anonymous(wire: WireRequest, config: Config) -> bool:
    """Whether a request without credentials is one of system:anonymous (AUTHZ-6, OIDC-6)."""
    if not config.anonymous.may(wire.path):
        return False
    return config.authorizer is not None or is_open(wire.path)


def receive(
    wire: WireRequest,
    user: User | None,
    read_yaml: ReadYaml | None = None,
    server_address: str = "",
    config: Config = DEFAULT_CONFIG,
    checks: Checks = no_checks,
    store: Reader = EMPTY,
    known: Callable[[], Mapping[str, Any]] = dict,
) -> Received | Forward | Reply:
    """The request, or a reply if there is none to handle. Never raises because of a client's
    mistake (API-14).

    The user is authorized before anything else answers (HTTP-8). `server_address`: where clients
    reach the server, for discovery. `checks`: the health checks. `known`: what other API servers
    serve, for discovery (APISVC-10).
    """
    try:
        target = authorized(wire, user, config, store)
        if type(target) is Plain:
            return plain(wire, target, server_address, config, checks, store, known)
        if type(target) is Remote:
            return _forward(wire, target, user or ANONYMOUS)
        assert type(target) is Target
        if target.problem is not None:
            raise target.problem
        return _received(wire, target, user or ANONYMOUS, read_yaml)
    except ApiError as error:
        return failure(error, wire)


def authorized(
    wire: WireRequest, user: User | None, config: Config, store: Reader
) -> Target | Plain | Remote:
    """What the request line asks for, if the user may (HTTP-8). Does not read the body. Raises
    ApiError."""
    if user is None and not _may_be_anonymous(wire, config):
        raise ApiError(status.unauthorized())
    caller = user or ANONYMOUS
    if (remote := find_remote(wire.path, store)) is not None:
        authorize_path(caller, wire.method, wire.path, store, config, wire.query)
        return remote
    try:
        target = find_target(wire.method, wire.path, wire.query, store)
    except ApiError:
        authorize_path(caller, wire.method, wire.path, store, config, wire.query)
        raise
    if type(target) is Plain:
        authorize_path(caller, wire.method, target.path, store, config, wire.query)
    else:
        assert type(target) is Target
        authorize(caller, target, store, config, wire.method)
    return target


def _forward(wire: WireRequest, remote: Remote, user: User) -> Forward | Reply:
    """A request for another API server, if that is available (APISVC-8)."""
    if not is_plain(wire.path):
        raise ApiError(status.path_not_found())
    if not remote.is_available:
        return text_reply(503, "service unavailable")
    named = attributes_of_path(user, wire.method, wire.path, wire.query)
    if not named.resource:
        return Forward(remote, user, None)
    resource = aggregated_resource(named.group, remote.version, named.resource)
    place = (resource, named.namespace, named.name, named.subresource)
    return Forward(remote, user, Request(named.verb, *place, user=user))


def _received(
    wire: WireRequest, target: Target, user: User, read_yaml: ReadYaml | None
) -> Received:
    verb = target.verb
    if verb == "connect":
        connection = Connection(
            wire.method, target.path, target.parameters, wire.headers, wire.body
        )
        return Received(_request(target, connection, user, target.options), Form())
    accepted = wire.headers.get("accept", "")
    try:
        form = (
            accept(accepted)
            if TABLE not in accepted and PROTOBUF not in accepted
            else accept(accepted, target.resource not in REVIEWS, _has_protobuf(target))
        )
    except ApiError as error:
        raise (no_watch_form() if verb == "watch" else error) from None
    body: Any = None
    warnings = deprecated(target.resource)  # WARN-1
    if verb == "watch":
        check_watch_form(form)
    elif verb != "get" and verb != "list":
        body, odd = decode_body(target, wire.headers.get("content-type", ""), wire.body, read_yaml)
        warnings += odd
    options = target.options
    if verb in ("create", "update", "patch") and not options.field_manager:
        options = _of_agent(options, wire.headers.get("user-agent", ""))
    request = _request(target, body, user, options)
    return Received(request, form, target.include_object, target.pretty, warnings)


def _of_agent(options: Options, agent: str) -> Options:
    """The options with the program of the user agent as the manager (APPLY-12)."""
    if options is NO_OPTIONS:  # most requests
        return _of_agent_only(agent)
    return evolve(options, field_manager=program_of(agent))


def _has_protobuf(target: Target) -> bool:
    """Whether the answer has a protobuf message (PROTO-9). An answer that is a Status always
    has."""
    from refk8s.core.apiserver.protobuf import has_message  # imported here: few clients request it

    resource = target.resource
    part = resource.subresource(target.subresource) if target.subresource else None
    if part is None or part.kind == resource.kind:
        return has_message(resource.api_version, resource.kind)
    version = f"{part.group}/{part.version}" if part.group else part.version
    return has_message(version or resource.api_version, part.kind)


@remember(256)
def _of_agent_only(agent: str) -> Options:
    return Options(field_manager=program_of(agent))


def _request(target: Target, body: Any, user: User, options: Options) -> Request:
    return Request(
        target.verb,
        target.resource,
        target.namespace,
        target.name,
        target.subresource,
        body,
        options,
        user,
    )


def reply_to(received: Received, response: Response, now: Instant) -> Reply:
    """The reply to a received request. A watch that cannot start at the requested revision gets a
    stream of one ERROR event (WATCHAPI-3)."""
    request = received.request
    if request.verb == "watch" and response.code == 410:
        content = write_error(response.body, received.form)
        return Reply(200, content, stream_type(received.form))
    if received.warnings:
        response = evolve(response, warnings=received.warnings + response.warnings)
    return respond(
        response,
        received.form,
        request.resource,
        now,
        include_object=received.include_object,
        pretty=received.pretty,
    )


def failure(error: ApiError, wire: WireRequest | None = None) -> Reply:
    """An error as bytes, in the media type that the client prefers. It is JSON for a client that
    accepts none."""
    code = error.status.code or 500
    if isinstance(error, AuthorizerFailed) and wire is not None:  # AUTHZ-11
        where = f"{wire.path}?{wire.query}" if wire.query else wire.path
        where = where.replace("\\", "\\\\").replace('"', '\\"')
        return text_reply(500, escape(f'Internal Server Error: "{where}": {error.why}', False))
    accepted = "" if wire is None else wire.headers.get("accept", "")
    if YAML in accepted or PROTOBUF in accepted:
        media_type = error_type(accepted)
        form = Form(media_type, of_errors=media_type)
        # the resource and the time matter only to tables
        return respond(Response(code, error.status), form, PODS, 0)
    return Reply(code, encode(error.status) + b"\n")


# --- paths that are not resources


def plain(
    wire: WireRequest,
    target: Plain,
    server_address: str = "",
    config: Config = DEFAULT_CONFIG,
    checks: Checks = no_checks,
    store: Reader = EMPTY,
    known: Callable[[], Mapping[str, Any]] = dict,
) -> Reply:
    """Discovery, schemas, health and keys (API-25); for other paths 404 in plain text, as
    upstream."""
    path = target.path
    if path.split("/")[1] in HEALTH_PATHS:
        return health(wire.method, path, target.parameters, checks)
    if wire.method == "GET" and (keys := issuer_document(path, config)) is not None:
        return keys
    resources, others = served(store), served_by_others(store, known())
    if wire.method != "GET":
        is_known = (
            path == "/"
            or path.startswith(("/openapi", "/version"))
            or discover(path, "", resources, "", others) is not None
        )
        if not is_known and path.startswith("/apis/"):  # as for a resource that is not served
            return _NO_PAGE
        raise ApiError(status.method_not_allowed() if is_known else status.path_not_found())
    found = discover(path, wire.headers.get("accept", ""), resources, server_address, others)
    if found is not None:
        document = encode(found.tree) + b"\n"
        if found.is_cached:
            return _cached(wire, target, document, found.media_type, found.vary)
        return Reply(200, document, found.media_type, vary=found.vary)
    if path.startswith("/openapi/"):
        # imported here, because it reads every record class and is rarely requested
        from refk8s.core.apiserver.openapi import openapi, protobuf_v2

        shown = openapi(path, wire.headers.get("accept", ""), resources)
        if shown is not None:
            if others and path == "/openapi/v3":
                shown = encode(with_schemas(parse(shown), others))
            is_text = shown.startswith(b"{")
            media_type = "application/json" if is_text else protobuf_v2.ANSWERED_AS
            return _cached(wire, target, shown, media_type, "Accept")
    if path == "/":
        return Reply(
            200, encode({"paths": sorted({*PATHS, *paths(resources), *paths_of(others)})}) + b"\n"
        )
    return _NO_PAGE


def _cached(wire: WireRequest, target: Plain, document: bytes, media_type: str, vary: str) -> Reply:
    """DISC-16: a document with the hash of its bytes; 304 if the client has it, and 301 if it asks
    for another one by `hash`."""
    digest = digest_of(document)
    asked = next((value for name, value in target.parameters if name == "hash"), "")
    if asked and asked != digest:
        return Reply(301, b"", media_type, location=f"{target.path}?hash={digest}")
    cache = "public, immutable" if asked else "no-cache, private"
    known = {part.strip() for part in wire.headers.get("if-none-match", "").split(",")}
    is_known = f'"{digest}"' in known
    code, content = (304, b"") if is_known else (200, document)
    return Reply(code, content, media_type, vary=vary, cache=cache, etag=digest)


def text_reply(code: int, text: str) -> Reply:
    """A line of plain text."""
    return Reply(code, f"{text}\n".encode(), "text/plain; charset=utf-8")


_NO_PAGE = text_reply(404, "404 page not found")
