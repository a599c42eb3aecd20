"""The attributes of a request whose path leads to nothing that is served: they follow from the
path alone, as for a resource. Rule AUTHZ-2 (spec/authorization.md).

    /api/VERSION                    [/watch] [/namespaces/NAMESPACE] /RESOURCE [/NAME [/SUBRESOURCE]]
    /apis/GROUP/VERSION             the same
    everything else                 the method and the path

Source: Kubernetes documentation, "Authorization" (request attributes, request verbs).
"""

from typing import Final
from urllib.parse import parse_qs, unquote

from refk8s.core.api.user import User
from refk8s.core.apiserver.config import Attributes

_OF_METHOD: Final = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_PARTS_OF_NAMESPACE: Final = ("status", "finalize")


def attributes_of_path(user: User, method: str, path: str, query: str) -> Attributes:
    """The attributes of this request line."""
    plain = Attributes(user, method.lower(), path=path)
    parts = unquote(path, errors="replace").strip("/").split("/")
    match parts:
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return plain
    verb = _OF_METHOD.get(method, "")
    if rest[0] == "watch" and len(rest) > 1:
        verb, rest = "watch", rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _PARTS_OF_NAMESPACE:
            rest = rest[2:]
    resource, name, subresource = (*rest[:3], "", "")[:3]
    if not name and verb == "get":
        watched = parse_qs(query).get("watch", [""])[0] in ("1", "true")
        verb = "watch" if watched else "list"
    elif not name and verb == "delete":
        verb = "deletecollection"
    return Attributes(user, verb, group, resource, subresource, namespace, name, version=version)
