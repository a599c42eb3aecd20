"""Records in managedFields what a write changed. Rules APPLY-3, APPLY-6, APPLY-12 (spec/apply.md).

Every create, update and patch passes here, between the defaults and the admission stages, as
upstream: what admission adds belongs to no manager. Only the parts of the object that differ are
compared (records.py). Source: Kubernetes documentation, "Server-Side Apply", "Managers".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import NODE_PREFIX, SERVICE_ACCOUNT_PREFIX, User
from refk8s.core.apiserver.apply import managers
from refk8s.core.apiserver.apply.compare import Comparison, compare
from refk8s.core.apiserver.apply.field_set import EMPTY, FieldSet
from refk8s.core.apiserver.apply.managers import NOBODY, UPDATE, InvalidEntry, Managed
from refk8s.core.apiserver.apply.records import compare_new, compare_records, fields_of_new
from refk8s.core.apiserver.apply.reset import RESET_BY_ALL, reset_fields
from refk8s.core.apiserver.apply.types import type_of
from refk8s.core.context import Context, timestamp


def with_managers(request: Request, old: Any, new: Any, context: Context) -> Any:
    """The new object with its managedFields (APPLY-12). `old` is None for a create. Both are in
    the version of `request.resource`; the manager knows the requested one (APPLY-19)."""
    resource = request.resource
    hidden = reset_fields(resource, request.subresource) if resource in RESET_BY_ALL else EMPTY
    before = NOBODY if old is None else managers.decode_or_nobody(old.metadata.managed_fields)
    managed = _managed(request, before, old, new)
    if not managed and old is not None:  # nobody owns a field: nothing is recorded (APPLY-14)
        return _with_entries(new, None)
    version = (request.requested_resource or resource).api_version
    who = managers.owner(manager_of(request), UPDATE, version, request.subresource)
    now = timestamp(context.now)
    is_plain = version == resource.api_version and not (hidden or resource.is_custom)
    if old is None and not managed and is_plain:
        return _with_entries(new, managers.first_entry(who, version, now, fields_of_new(new)))
    compared = comparisons(resource, old, new, hidden)
    after = managers.updated(managed, who, version, compared, now)
    return _with_entries(new, managers.encode(after))


def _managed(request: Request, before: Managed, old: Any, new: Any) -> Managed:
    """The owners to begin with: those in the request's object, if it has valid ones, else those of
    the stored object (APPLY-14)."""
    given = new.metadata.managed_fields
    if given is None or request.subresource:
        return before
    if old is not None and given is old.metadata.managed_fields:
        return before
    if managers.is_reset(given):
        return NOBODY
    try:
        return managers.decode(given) or before
    except InvalidEntry:
        return before


def _with_entries(obj: Any, entries: Any) -> Any:
    if obj.metadata.managed_fields == entries:
        return obj
    return replace(obj, metadata=replace(obj.metadata, managed_fields=entries))


def without_new_times(old: Any, new: Any) -> Any:
    """The changed object; the old one if only times in managedFields differ (APPLY-12): what a
    write asks for may be what is there already, after admission and normalisation."""
    before, after = old.metadata.managed_fields, new.metadata.managed_fields
    if before is after or before is None or after is None or len(before) != len(after):
        return new
    if replace(new, metadata=replace(new.metadata, managed_fields=before)) != old:
        return new
    same = all(
        replace(one, time=None) == replace(other, time=None)
        for one, other in zip(before, after, strict=True)
    )
    return old if same else new


def manager_of(request: Request) -> str:
    """The name of the manager: that of the request, else the program of the component that sends
    it. Over HTTP it follows from the user agent (http.py)."""
    return request.options.field_manager or _program_of(request.user)


def _program_of(user: User) -> str:
    name = user.name
    if name.startswith(NODE_PREFIX):
        return "kubelet"
    if name.startswith(SERVICE_ACCOUNT_PREFIX + "kube-system:"):
        return "kube-controller-manager"
    if name == "system:apiserver":
        return "kube-apiserver"
    return name.removeprefix("system:") if name.startswith("system:kube-") else ""


# --- comparisons


def comparisons(
    resource: Resource, old: Any, new: Any, hidden: FieldSet = EMPTY
) -> managers.Compared:
    """What differs between two objects in terms of each version, without hidden fields; computed
    when it is needed."""
    found: dict[str, Comparison | None] = {}

    def compared(api_version: str) -> Comparison | None:
        if api_version not in found:
            change = _compared_in(resource, api_version, old, new)
            found[api_version] = change.without(hidden) if change and hidden else change
        return found[api_version]

    return compared


def _compared_in(resource: Resource, api_version: str, old: Any, new: Any) -> Comparison | None:
    if api_version == resource.api_version:
        return _compared(resource, old, new)
    from refk8s.core.apiserver.apply.versions import converted, in_version  # rarely needed

    target = in_version(resource, api_version)
    if target is None:
        return None
    before = None if old is None else converted(resource, target, old)
    return _compared(target, before, converted(resource, target, new))


def _compared(resource: Resource, old: Any, new: Any) -> Comparison:
    if isinstance(new, CustomObject):
        type_ = type_of(resource)
        return compare(type_, {} if old is None else _custom_tree(old), _custom_tree(new))
    if old is None:
        return compare_new(new)
    return compare_records(old, new)


def _custom_tree(obj: CustomObject) -> dict[str, Any]:
    return {**obj.content, "metadata": metadata_tree(obj.metadata)}


def metadata_tree(metadata: ObjectMeta) -> dict[str, Any]:
    """The metadata as a tree, without managedFields."""
    tree: dict[str, Any] = codec.to_tree(replace(metadata, managed_fields=None))
    return tree
