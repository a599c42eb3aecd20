"""The fields that a path does not write, and that its managers do not own. Rule APPLY-7
(spec/apply.md).

Source: Kubernetes documentation, "Server-Side Apply"; KEP-555 "Server-side Apply".
"""

from functools import lru_cache

import msgspec

from refk8s.core.api import resources
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.apply.field_set import EMPTY, FieldSet, of_paths
from refk8s.core.apiserver.strategy import strategy_of

RESET_BY_ALL = frozenset((resources.CERTIFICATE_SIGNING_REQUESTS,))
"""The kinds for which also creates and updates do not own what they reset. For all others an update
changes none of these fields."""


@lru_cache(maxsize=1024)
def reset_fields(resource: Resource, subresource: str) -> FieldSet:
    """The status on the main path; the spec, and the metadata that it keeps, on /status."""
    strategy = strategy_of(resource)
    if not subresource:
        found = [("f:status",)] if resource.has_status else []
        return of_paths(*found, *([("f:spec",)] if strategy.spec_is_final else []))
    if subresource == "approval":
        return of_paths(("f:spec",))
    if subresource != "status":
        return EMPTY
    if resource.is_custom or len(strategy.status_keeps) > 1:
        return of_paths(("f:spec",), ("f:metadata",))
    kept = [("f:metadata", "f:" + _wire(name)) for name in strategy.status_keeps]
    return of_paths(("f:spec",), *kept)


def _wire(attribute: str) -> str:
    return next(
        part.encode_name for part in msgspec.structs.fields(ObjectMeta) if part.name == attribute
    )
