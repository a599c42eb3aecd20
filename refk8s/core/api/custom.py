"""Custom resources: their objects, and the resources that a CustomResourceDefinition defines. Rules
CRD-1 to CRD-3 (spec/custom_resources.md).

A custom object has the attributes of every object (`kind`, `api_version`, `metadata`), and the rest
of it is a JSON tree. So metadata, deletion, watches and garbage collection treat it like a record.
Source: Kubernetes documentation, "Custom Resources", "Extend the Kubernetes API with
CustomResourceDefinitions".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from refk8s.core.api import resources
from refk8s.core.api.conditions import get_condition
from refk8s.core.api.meta_v1 import ListMeta, Object, ObjectMeta
from refk8s.core.api.resources import EVERY_VERB, PART_VERBS, Resource, Subresource

if TYPE_CHECKING:  # the records of definitions are loaded when there is one
    from refk8s.core.api.apiextensions_v1 import (
        CustomResourceDefinition,
        CustomResourceDefinitionSpec,
        CustomResourceDefinitionVersion,
    )

ESTABLISHED, NAMES_ACCEPTED, TERMINATING = "Established", "NamesAccepted", "Terminating"
CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
SHARED_KEYS: Final = ("apiVersion", "kind", "metadata")
"""The fields that every object has, and no schema declares."""

TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
DEFINITIONS_MAX: Final = 1024
"""How many definitions have their resources kept; of a further one they are computed again."""

Tree = dict[str, Any]


class CustomObject(Object, frozen=True, kw_only=True, eq=False):
    """An object of a custom resource. `content` has its fields besides `SHARED_KEYS`; it must not
    be changed."""

    content: Tree

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CustomObject)
            and self.kind == other.kind
            and self.api_version == other.api_version
            and self.metadata == other.metadata
            and self.content == other.content
            # In Python 1 equals true; in JSON it does not.
            and _ordered(self.content) == _ordered(other.content)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]


def _ordered(tree: Tree) -> bytes:
    return _ordered_encoder.encode(tree)


_ordered_encoder = msgspec.json.Encoder(order="sorted")


class CustomList(msgspec.Struct, frozen=True, kw_only=True):
    """A list of custom objects."""

    kind: str
    api_version: str
    metadata: ListMeta
    items: tuple[CustomObject, ...]


def shallow_tree(value: CustomObject | CustomList) -> Tree:
    """The fields as they are written: kind and apiVersion first, then the metadata (a record), then
    the content in the order of its keys."""
    head: Tree = {"kind": value.kind, "apiVersion": value.api_version, "metadata": value.metadata}
    if isinstance(value, CustomList):
        head["items"] = [shallow_tree(item) for item in value.items]
        return head
    content = value.content
    for key in sorted(content):
        head[key] = content[key]
    return head


class Definition:
    """One version of one state of a CustomResourceDefinition. Two are equal only if they are the
    same, so what is computed from one (its schema) can be kept beside it."""

    __slots__ = ("crd", "version")

    def __init__(
        self, crd: CustomResourceDefinition, version: CustomResourceDefinitionVersion
    ) -> None:
        self.crd = crd
        self.version = version

    @property
    def storage_version(self) -> str:
        """The name of the version in which objects are stored."""
        return storage_version(self.crd)

    @property
    def is_stored(self) -> bool:
        return self.version.storage

    @property
    def listed_verbs(self) -> tuple[str, ...]:
        """The verbs in discovery: fewer while its objects are being deleted."""
        return TERMINATING_VERBS if has_condition(self.crd, TERMINATING) else EVERY_VERB

    @property
    def list_kind(self) -> str:
        """The kind of a list of its objects."""
        names = self.crd.status.accepted_names
        if not names.kind:
            names = self.crd.spec.names
        return names.list_kind or names.kind + "List"


def storage_version(crd: CustomResourceDefinition) -> str:
    """The name of the version in which objects are stored."""
    return next((one.name for one in crd.spec.versions if one.storage), "")


class _Same:
    """A value that is compared by identity. It holds the value, so that the identity is not used
    for another one."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def has_condition(crd: CustomResourceDefinition, kind: str) -> bool:
    """Whether a condition of the definition is True."""
    found = get_condition(crd.status.conditions, kind)
    return found is not None and found.status == "True"


def bundle_of(spec: CustomResourceDefinitionSpec) -> str | None:
    """The authorities of the conversion webhook, in base64."""
    webhook = spec.conversion.webhook if spec.conversion is not None else None
    client = webhook.client_config if webhook is not None else None
    return client.ca_bundle if client is not None else None


def resources_of(crd: CustomResourceDefinition) -> tuple[Resource, ...]:
    """The served resources of a definition, one for each served version, in the order of their
    priority (CRD-2). None before it is established, and none if a built-in resource has its
    name."""
    return _resources_of(_Same(crd))


@lru_cache(maxsize=DEFINITIONS_MAX)
def _resources_of(same: _Same) -> tuple[Resource, ...]:
    crd: CustomResourceDefinition = same.value
    if not has_condition(crd, ESTABLISHED):
        return ()
    is_terminating = has_condition(crd, TERMINATING)  # all its objects must be reachable
    return tuple(
        resource
        for resource in stored_resources(crd)
        if resource.definition.version.served
        or (is_terminating and resource.definition.version.storage)
    )


def resource_to_list(crd: CustomResourceDefinition) -> Resource | None:
    """The served resource for a component that reads only metadata: in the storage version if that
    is served, so that no object need be converted; else the preferred one. None if none is
    served."""
    served = resources_of(crd)
    return next((one for one in served if one.definition.is_stored), served[0] if served else None)


def stored_resources(crd: CustomResourceDefinition) -> tuple[Resource, ...]:
    """A resource for every version of a definition, whether it is served or not."""
    return _stored_resources(_Same(crd))


@lru_cache(maxsize=DEFINITIONS_MAX)
def _stored_resources(same: _Same) -> tuple[Resource, ...]:
    crd: CustomResourceDefinition = same.value
    names, group = crd.status.accepted_names, crd.spec.group
    if not names.kind:  # not accepted yet
        names = crd.spec.names
    plural = crd.spec.names.plural
    if is_builtin(group, plural):
        return ()
    found = [
        Resource(
            group=group,
            version=version.name,
            plural=plural,
            singular=names.singular or names.kind.lower(),
            kind=names.kind,
            namespaced=crd.spec.scope == "Namespaced",
            short_names=tuple(names.short_names or ()),
            categories=tuple(names.categories or ()),
            verbs=EVERY_VERB,
            subresources=_subresources(version, names.kind),
            definition=Definition(crd, version),
        )
        for version in crd.spec.versions
        if resources.by_path(group, version.name, plural) is None
    ]
    return tuple(sorted(found, key=lambda resource: version_order(resource.version)))


def _subresources(version: CustomResourceDefinitionVersion, kind: str) -> tuple[Subresource, ...]:
    declared = version.subresources
    if declared is None:
        return ()
    found = []
    if declared.scale is not None:
        found.append(Subresource("scale", "Scale", PART_VERBS, group="autoscaling", version="v1"))
    if declared.status is not None:
        found.append(Subresource("status", kind, PART_VERBS))
    return tuple(found)


def is_builtin(group: str, plural: str) -> bool:
    """Whether a built-in resource is stored at this place, which no definition may take over
    (CRD-20)."""
    return f"/{group}/{plural}/" in _BUILTIN_PREFIXES


_BUILTIN_PREFIXES = frozenset(resource.prefix for resource in resources.ALL)

_VERSION = re.compile(r"v([1-9][0-9]{0,17})(?:(alpha|beta)([1-9][0-9]{0,17}))?", re.ASCII)
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def version_order(name: str) -> tuple[Any, ...]:
    """The sort key of a version: v10, v2, v1, v1beta2, v1beta1, v1alpha1, then other names in the
    order of their letters (CRD-2)."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return (1, name)
    major, stage, minor = match.groups()
    return (0, _STAGES[stage], -int(major), -int(minor or 0))


def make(resource: Resource, metadata: ObjectMeta, content: Tree) -> CustomObject:
    """An object of a custom resource."""
    return CustomObject(
        kind=resource.kind,
        api_version=resource.api_version,
        metadata=metadata,
        content=content,
    )
