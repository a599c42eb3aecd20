"""The custom resources that are served: they follow from the state of the store. Rules CRD-2, CRD-3
(spec/custom_resources.md).

A request names its resource by group, version and plural, and the name of the definition is the
plural and the group. So one read of the store finds it, however many definitions there are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

from refk8s.core.api import status
from refk8s.core.api.custom import resources_of, version_order
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS, SERVED, Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.store import Record

Resources: TypeAlias = tuple[Resource, ...]


def definition_key(group: str, plural: str) -> str:
    """The store key of the definition of a custom resource."""
    return CUSTOM_RESOURCE_DEFINITIONS.key("", f"{plural}.{group}")


def custom_prefix(key: str) -> str:
    """The prefix of the objects of a definition with this store key."""
    plural, _, group = key.removeprefix(CUSTOM_RESOURCE_DEFINITIONS.prefix).partition(".")
    return f"/{group}/{plural}/"


def definition_of(resource: Resource, store: Reader) -> Record[Any] | None:
    """The record of a custom resource's definition; None if it is gone."""
    return store.get(definition_key(resource.group, resource.plural))


def find_custom(group: str, version: str, plural: str, store: Reader) -> Resource | None:
    """The custom resource that is served at this path, or None (CRD-2). O(versions)."""
    record = store.get(definition_key(group, plural))
    if record is None:
        return None
    return next(
        (resource for resource in resources_of(record.value) if resource.version == version), None
    )


def current(resource: Resource, store: Reader) -> Resource:
    """The custom resource as this state of the store defines it. Raises ApiError 404 if it is no
    longer served."""
    found = find_custom(resource.group, resource.version, resource.plural, store)
    if found is None:
        raise ApiError(status.path_not_found())
    return found


def custom_resources(store: Reader) -> Resources:
    """Every custom resource that is served, by group, version and plural; the preferred version of
    each group first. O(definitions)."""
    page = store.list(CUSTOM_RESOURCE_DEFINITIONS.prefix)
    found = [resource for record in page.records for resource in resources_of(record.value)]
    found.sort(key=lambda one: (one.group, version_order(one.version), one.plural))
    return tuple(found)


def served(store: Reader) -> Resources:
    """Every resource that is served: the built-in ones, and then the custom ones. Between two
    changes of definitions the same tuple is returned."""
    return _joined(custom_resources(store))


@lru_cache(maxsize=4)
def _joined(custom: Resources) -> Resources:
    return (*SERVED, *custom)
