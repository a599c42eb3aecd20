"""Which requests belong to another API server. Rule APISVC-5 (spec/api_services.md).

A path names a group and a version, and so one APIService. So one read of the store decides, and a
path of a built-in group costs a look-up in a set.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from refk8s.core.api.aggregated import LOCAL_GROUPS, is_available, is_of_another_server
from refk8s.core.api.resources import API_SERVICES
from refk8s.core.apiserver.calls import PORT, ServicePort
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.outcome import Reader

_RESOURCES, _SCHEMAS = "/apis/", "/openapi/v3/apis/"


class Remote(Value, frozen=True):
    """Another API server as an APIService names it. `ca_bundle`: PEM certificates of authorities,
    empty for those of the system. `is_verified`: whether its certificate is verified.
    `is_available`: the condition Available is True."""

    name: str
    group: str
    version: str
    service: ServicePort
    ca_bundle: bytes
    is_verified: bool
    is_available: bool
    group_priority: int
    version_priority: int

    @property
    def host(self) -> str:
        """The name that its certificate must have (APISVC-7)."""
        return f"{self.service.name}.{self.service.namespace}.svc"

    @property
    def root(self) -> str:
        """The path of its discovery document."""
        return f"/apis/{self.group}/{self.version}"

    def url(self, target: str) -> str:
        """The URL of a path with a query."""
        return f"https://{self.host}:{self.service.port}{target}"


def remote_of(api_service: Any) -> Remote | None:
    """The other API server of an APIService; None if this one serves the group version."""
    if not is_of_another_server(api_service):
        return None
    spec = api_service.spec
    service = spec.service
    return Remote(
        api_service.metadata.name,
        spec.group,
        spec.version or "",
        ServicePort(service.namespace or "", service.name or "", service.port or PORT),
        b64decode(spec.ca_bundle or ""),
        not spec.insecure_skip_tls_verify,
        is_available(api_service),
        spec.group_priority_minimum,
        spec.version_priority,
    )


def remote_for(group: str, version: str, store: Reader) -> Remote | None:
    """The other API server that serves this group version, or None. O(1)."""
    if not group or not version or group in LOCAL_GROUPS:
        return None
    record = store.get(API_SERVICES.key("", f"{version}.{group}"))
    found = None if record is None else remote_of(record.value)
    # v1.a of b.com has the same name as v1 of a.b.com
    return found if found is not None and (found.group, found.version) == (group, version) else None


def find_remote(path: str, store: Reader) -> Remote | None:
    """The other API server to which a path (percent-encoded) belongs: that of its resources, of its
    discovery document or of its schemas. None if this server answers."""
    if path.startswith(_RESOURCES):
        rest = path[len(_RESOURCES) :]
    elif path.startswith(_SCHEMAS):
        rest = path[len(_SCHEMAS) :]
    else:
        return None
    group, _, rest = rest.partition("/")
    if group in LOCAL_GROUPS:
        return None
    return remote_for(unquote(group), unquote(rest.partition("/")[0]), store)


def list_remotes(store: Reader) -> tuple[Remote, ...]:
    """Every other API server, by the name of its APIService. O(APIServices)."""
    found = [remote_of(record.value) for record in store.list(API_SERVICES.prefix).records]
    return tuple([one for one in found if one is not None])


def is_plain(path: str) -> bool:
    """Whether a path means the same to every server: without empty segments and dots, which some
    servers resolve."""
    segments = unquote(path, errors="replace").split("/")[1:]
    if segments and not segments[-1]:
        segments.pop()
    return not any(segment in ("", ".", "..") for segment in segments)
