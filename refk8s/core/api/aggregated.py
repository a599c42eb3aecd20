"""The resources of other API servers, which an APIService names, and whether these are available.
Rules APISVC-5, APISVC-9, APISVC-11 (spec/api_services.md).

Nothing is known of them but what a request or the discovery of the other server says, so an object
has the attributes of every object, and the rest of it is a JSON tree, as a custom object.
"""

from __future__ import annotations

from typing import Any, Final

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.resources import EVERY_VERB, GROUPS, Resource
from refk8s.core.value import Value

REPLACEABLE: Final = frozenset(("metrics.k8s.io",))
"""The built-in groups that another server may serve instead of this one."""


LOCAL_GROUPS: Final = frozenset(GROUPS) - REPLACEABLE
"""The groups that this server always serves itself (D-200)."""
AVAILABLE: Final = "Available"


class AggregatedDefinition:
    """What stands for the definition of a resource of another API server."""

    __slots__ = ("list_kind",)

    def __init__(self, list_kind: str) -> None:
        self.list_kind = list_kind

    @property
    def listed_verbs(self) -> tuple[str, ...]:
        """The verbs that a component may use."""
        return EVERY_VERB

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AggregatedDefinition) and other.list_kind == self.list_kind

    def __hash__(self) -> int:
        return hash(self.list_kind)


def aggregated_resource(
    group: str, version: str, plural: str, kind: str = "", *, namespaced: bool = True
) -> Resource:
    """A resource of another API server."""
    return Resource(
        group=group,
        version=version,
        plural=plural,
        singular=kind.lower(),
        kind=kind,
        namespaced=namespaced,
        definition=AggregatedDefinition(f"{kind}List"),
    )


def is_aggregated(resource: Resource) -> bool:
    """Whether only another API server can serve this resource."""
    return type(resource.definition) is AggregatedDefinition


def is_of_another_server(api_service: Any) -> bool:
    """Whether an APIService leads to another API server (APISVC-5)."""
    group = api_service.spec.group
    return api_service.spec.service is not None and bool(group) and group not in LOCAL_GROUPS


def is_available(api_service: Any) -> bool:
    """Whether its condition Available is True."""
    found = get_condition(api_service.status.conditions, AVAILABLE)
    return found is not None and found.status == "True"


class RemoteResource(Value, frozen=True):
    """A resource, or a part of one ("pods/status"), as the other server lists it."""

    name: str
    singular: str
    kind: str
    namespaced: bool
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class Availability(Value, frozen=True):
    """Whether the other server is available, with upstream's reason. `resources`: what it serves;
    None if that is not known. `schema_hash`: of its OpenAPI document, if it has one."""

    is_available: bool
    reason: str
    message: str
    resources: tuple[RemoteResource, ...] | None = None
    schema_hash: str = ""


LOCAL: Final = Availability(True, "Local", "Local APIServices are always available")
