"""Authorization, before a request is answered. Rules API-13 and HTTP-8.

An authorizer is part of the API server's configuration. Without one every authenticated user may do
everything. Source: Kubernetes documentation, "Authorization" (request attributes, AlwaysAllow).
"""

from typing import Final

from refk8s.core.api import status
from refk8s.core.api.bootstrap_token import INFO_NAME, INFO_NAMESPACE
from refk8s.core.api.meta_v1 import StatusDetails
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.api.status import ApiError, failure
from refk8s.core.api.user import UNAUTHENTICATED, User
from refk8s.core.apiserver.config import Attributes, Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.route import Target

OPEN_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
"""Paths that need no authentication: load balancers and installers have no token (API-15)."""


CLUSTER_INFO_PATH: Final = f"/api/v1/namespaces/{INFO_NAMESPACE}/configmaps/{INFO_NAME}"


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


def authorize(user: User, request: Request | Target, store: Reader, config: Config) -> None:
    """Raise ApiError 403 if the user may not do this: a request, or a request line whose body has
    not been read. It runs before anything that can answer (HTTP-8). Only the authorizer reads the
    store."""
    if config.authorizer is None and UNAUTHENTICATED not in user.groups:
        return  # API-13, without creating the attributes
    resource = request.resource
    require(
        Attributes(
            user,
            request.verb,
            resource.group,
            resource.plural,
            request.subresource,
            request.namespace,
            request.name,
        ),
        store,
        config,
    )


def require(attributes: Attributes, store: Reader, config: Config) -> None:
    """Raise ApiError 403 if the user may not do this to a resource. A resource of an impersonation
    is not in the table (HTTP-23)."""
    if _may(attributes, store, config):
        return
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
    raise ApiError(failure(403, "Forbidden", f"{subject} is forbidden: {words}", details))


def authorize_path(user: User, method: str, path: str, store: Reader, config: Config) -> None:
    """As `authorize`, for a path that is not a resource."""
    if _may(Attributes(user, method.lower(), path=path), store, config):
        return
    words = f'forbidden: User "{user.name}" cannot {method.lower()} path "{path}"'
    raise ApiError(failure(403, "Forbidden", words))


def _may(attributes: Attributes, store: Reader, config: Config) -> bool:
    if _is_cluster_info(attributes):
        return True
    if config.authorizer is not None:
        return config.authorizer(attributes, store)
    return UNAUTHENTICATED not in attributes.user.groups or is_open(attributes.path)  # API-13
