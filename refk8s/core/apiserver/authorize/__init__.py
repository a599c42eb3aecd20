"""Authorization, before a request is answered. Rules AUTHZ-1 to AUTHZ-4 (spec/authorization.md),
API-13, HTTP-8. What has begun is not authorized again (AUTHZ-7).

An authorizer is part of the API server's configuration. Without one every authenticated user may do
everything. Source: Kubernetes documentation, "Authorization" (request attributes, modes).
"""

from typing import Final

from refk8s.core.api import status
from refk8s.core.api.bootstrap_token import INFO_NAME, INFO_NAMESPACE
from refk8s.core.api.meta_v1 import StatusDetails
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.api.selector import SelectorError, parse_fields
from refk8s.core.api.status import ApiError, failure
from refk8s.core.api.user import MASTERS, UNAUTHENTICATED, User
from refk8s.core.apiserver.authorize.paths import attributes_of_path
from refk8s.core.apiserver.config import ALLOWED, NO_OPINION, Attributes, Config, Decision
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.route import Target

OPEN_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
"""Paths that need no authentication: load balancers and installers have no token (API-15)."""

CLUSTER_INFO_PATH: Final = f"/api/v1/namespaces/{INFO_NAMESPACE}/configmaps/{INFO_NAME}"

_ON_MANY: Final = ("list", "watch", "deletecollection")
_OF_METHOD: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update"}
_STREAMS: Final = ("attach", "exec", "portforward")


def is_open(path: str) -> bool:
    """Whether the path needs no authentication."""
    return (
        path in OPEN_PATHS
        or path == CLUSTER_INFO_PATH  # TRUST-4
        or path.startswith(("/healthz/", "/livez/", "/readyz/"))
    )


def _is_cluster_info(attributes: Attributes) -> bool:
    """Whether it is the one object that is read without authentication (TRUST-4)."""
    return (
        attributes.verb == "get"
        and attributes.resource == CONFIG_MAPS.plural
        and attributes.name == INFO_NAME
        and attributes.namespace == INFO_NAMESPACE
        and not attributes.group
        and not attributes.subresource
    )


def authorize(
    user: User, request: Request | Target, store: Reader, config: Config, method: str = ""
) -> None:
    """Raise ApiError 403 if the user may not do this: a request, or a request line whose body has
    not been read. It runs before anything that can answer (HTTP-8). Only the authorizer reads the
    store. `method`: that of an HTTP request."""
    if config.authorizer is None and UNAUTHENTICATED not in user.groups:
        return  # API-13, without creating the attributes
    if MASTERS in user.groups:
        return  # AUTHZ-1, likewise
    attributes = attributes_of(user, request, method)
    require(attributes, store, config)
    if attributes.verb == "get" and attributes.subresource in _STREAMS:
        # AUTHZ-3: a stream may change a container, by whatever method it was opened
        require(_with_verb(attributes, "create"), store, config)


def attributes_of(user: User, request: Request | Target, method: str = "") -> Attributes:
    """The attributes of a request (AUTHZ-2)."""
    resource, verb, name = request.resource, request.verb, request.name
    namespace, fields = request.namespace, request.options.field_selector
    if verb == "connect":
        verb = _OF_METHOD.get(method, method.lower() or "get")
    elif verb == "create" and not request.subresource:
        name = ""
    elif fields and not name and verb in _ON_MANY:
        name = _named(fields)
    if resource.plural == "namespaces" and not resource.group:
        namespace = name
    return Attributes(
        user,
        verb,
        resource.group,
        resource.plural,
        request.subresource,
        namespace,
        name,
        fields=fields,
        labels=request.options.label_selector if verb in _ON_MANY else "",
        version=resource.version,
    )


def _with_verb(attributes: Attributes, verb: str) -> Attributes:
    return Attributes(
        attributes.user,
        verb,
        attributes.group,
        attributes.resource,
        attributes.subresource,
        attributes.namespace,
        attributes.name,
        version=attributes.version,
    )


def _named(fields: str) -> str:
    """The one name that a field selector selects; else empty."""
    return selected(fields).get("metadata.name", "")


def selected(fields: str) -> dict[str, str]:
    """The fields that the selector requires to be equal to a value, and these values."""
    try:
        requirements = parse_fields(fields).requirements
    except SelectorError:
        return {}  # the request is refused after it is authorized
    return {one.key: one.value for one in requirements if one.operator == "="}


class AuthorizerFailed(ApiError):
    """A webhook could not be asked, and nothing else allows the request (AUTHZ-11). `why`: the
    errors."""

    def __init__(self, why: str) -> None:
        super().__init__(status.internal_error(why))
        self.why = why


def require(attributes: Attributes, store: Reader, config: Config) -> None:
    """Raise ApiError 403 if the user may not do this to a resource (AUTHZ-4), and AuthorizerFailed.
    A resource of an impersonation is not in the table (HTTP-23)."""
    decision = decide(attributes, store, config)
    if decision.allowed:
        return
    if decision.problem:
        raise AuthorizerFailed(decision.problem)
    raise forbidden(attributes, decision)


def forbidden(attributes: Attributes, decision: Decision) -> ApiError:
    """The answer to a request for a resource that is not allowed (AUTHZ-4)."""
    part = (
        f"{attributes.resource}/{attributes.subresource}"
        if attributes.subresource
        else attributes.resource
    )
    where = (
        f'in the namespace "{attributes.namespace}"'
        if attributes.namespace
        else "at the cluster scope"
    )
    action = f'{attributes.verb} resource "{part}" in API group "{attributes.group}" {where}'
    words = f'User "{attributes.user.name}" cannot {action}'
    subject = status.qualified_name(attributes.group, attributes.resource) + (
        f' "{attributes.name}"' if attributes.name else ""
    )
    details = StatusDetails(
        name=attributes.name or None, group=attributes.group or None, kind=attributes.resource
    )
    message = _with_reason(f"{subject} is forbidden: {words}", decision)
    return ApiError(failure(403, "Forbidden", message, details))


def authorize_path(
    user: User, method: str, path: str, store: Reader, config: Config, query: str = ""
) -> None:
    """As `authorize`, for a path that leads to no resource that is served. A path that looks like
    that of a resource is authorized as one (AUTHZ-2)."""
    attributes = attributes_of_path(user, method, path, query)
    if attributes.resource:
        require(attributes, store, config)
        return
    decision = decide(attributes, store, config)
    if decision.allowed:
        return
    if decision.problem:
        raise AuthorizerFailed(decision.problem)
    words = f'forbidden: User "{user.name}" cannot {attributes.verb} path "{path}"'
    raise ApiError(failure(403, "Forbidden", _with_reason(words, decision)))


def _with_reason(message: str, decision: Decision) -> str:
    return f"{message}: {decision.reason}" if decision.reason else message


def decide(attributes: Attributes, store: Reader, config: Config) -> Decision:
    """Whether the user may do this."""
    if config.authorizer is not None:
        if MASTERS in attributes.user.groups:
            return ALLOWED  # AUTHZ-1
        return config.authorizer(attributes, store)
    if UNAUTHENTICATED not in attributes.user.groups or is_open(attributes.path):
        return ALLOWED  # API-13
    return ALLOWED if _is_cluster_info(attributes) else NO_OPINION
