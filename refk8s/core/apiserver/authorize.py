"""Whether a user may do what is asked, before anything answers. Rules API-13 and HTTP-8.

An authorizer is part of the API server's configuration. Without one every authenticated user may do everything.
Source: Kubernetes documentation, "Authorization" (request attributes, AlwaysAllow).
"""

from refk8s.core.api import status
from refk8s.core.api.request import Request, User
from refk8s.core.api.status import ApiError, failure
from refk8s.core.apiserver.authenticate import Attributes, Config


def authorize(request: Request, config: Config) -> None:
    """ApiError 403 where the request's user may not send it. Runs before the store is looked at."""
    if config.authorizer is None:
        return
    resource = request.resource
    asked = Attributes(
        request.user, request.verb, resource.group, resource.plural, request.subresource, request.namespace, request.name
    )
    if config.authorizer(asked):
        return
    part = f"{resource.plural}/{request.subresource}" if request.subresource else resource.plural
    words = f'User "{request.user.name}" cannot {request.verb} resource "{part}" in API group "{resource.group}"'
    where = f' in the namespace "{request.namespace}"' if request.namespace else " at the cluster scope"
    raise ApiError(status.forbidden(resource, request.name, words + where))


def authorize_path(user: User, method: str, path: str, config: Config) -> None:
    """As `authorize`, for a path that is no resource's."""
    if config.authorizer is None or config.authorizer(Attributes(user, method.lower(), path=path)):
        return
    words = f'forbidden: User "{user.name}" cannot {method.lower()} path "{path}"'
    raise ApiError(failure(403, "Forbidden", words))
