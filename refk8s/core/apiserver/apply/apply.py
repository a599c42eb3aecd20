"""Server-side apply: from an applied configuration to the object and its managers. Rules APPLY-7 to
APPLY-10, APPLY-15 to APPLY-17 (spec/apply.md).

    read_configuration    the body as a JSON tree
    apply                 checked, merged, pruned; conflicts; the object with its managedFields

Source: Kubernetes documentation, "Server-Side Apply"; KEP-555 "Server-side Apply".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec, status
from refk8s.core.api.codec import DecodeError
from refk8s.core.api.json_text import MalformedJson
from refk8s.core.api.meta_v1 import Status, StatusCause, StatusDetails
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.apply import last_applied, managers
from refk8s.core.apiserver.apply.check import message_of, problems
from refk8s.core.apiserver.apply.compare import Comparison, applied_paths, compare, is_equal
from refk8s.core.apiserver.apply.field_set import (
    EMPTY,
    NEVER_OWNED,
    FieldSet,
    difference,
    paths,
    recursive_difference,
    text_of,
    union,
)
from refk8s.core.apiserver.apply.managers import APPLY, UPDATE, Managed, Owned, Owner
from refk8s.core.apiserver.apply.merge import dropped, merge, with_owned, without_last
from refk8s.core.apiserver.apply.reset import reset_fields
from refk8s.core.apiserver.apply.types import Type, type_of
from refk8s.core.apiserver.apply.versions import converted_tree, in_version
from refk8s.core.apiserver.custom import objects
from refk8s.core.context import Context, timestamp
from refk8s.core.value import Value

Tree = dict[str, Any]

FIELD_MANAGER_CONFLICT = "FieldManagerConflict"
APPLY_YAML = "application/apply-patch+yaml"


class Applied(Value, frozen=True):
    """The result of an apply: the object with its managedFields, to be written."""

    object: Any


def read_configuration(resource: Resource, document: Any) -> Tree:
    """The configuration in a body (APPLY-10). Raises ApiError 400 if it is no object, or of
    another kind or version than the path."""
    tree = document
    if isinstance(document, bytes | bytearray | memoryview):
        try:
            tree = codec.parse(bytes(document))
        except MalformedJson as error:
            raise ApiError(status.bad_request(f"error decoding YAML: {error}")) from None
    if not isinstance(tree, dict):
        found = "null" if tree is None else type(tree).__name__
        words = f"error decoding YAML: cannot unmarshal {found} into an object"
        raise ApiError(status.bad_request(words))
    kind, version = _text(tree.get("kind")), _text(tree.get("apiVersion"))
    if (kind, version) != (resource.kind, resource.api_version):
        raise ApiError(status.bad_request(f"invalid object type: {_gvk(version, kind)}"))
    metadata = tree.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise ApiError(status.bad_request("metadata.managedFields must be nil"))
    return tree


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _gvk(api_version: str, kind: str) -> str:
    """A kind as upstream's messages show it."""
    group, _, version = api_version.rpartition("/")
    return f"{group}/{version}, Kind={kind}"


def apply(request: Request, resource: Resource, live: Any, config: Tree, context: Context) -> Any:
    """The object after the apply, with its managedFields; `live` is None if it does not exist yet
    (APPLY-15). Raises ApiError 409 for conflicts, 500 for a configuration of the wrong type."""
    type_ = type_of(resource)
    found = problems(type_, config)
    if found:
        words = f"failed to create typed patch object ({_named(config, resource)}): "
        raise ApiError(status.unexplained(words + message_of(found)))
    work = _Work(request, resource, type_, _live_tree(resource, live), live, context)
    try:
        tree, managed = work.applied(config, force=request.options.force)
    except Conflict as conflict:
        tree, managed = _retried(work, config, conflict)
    obj = live if tree is None and live is not None else _object(resource, tree or work.tree)
    obj = last_applied.kept_up(request.options.field_manager, obj, config)
    return replace(obj, metadata=replace(obj.metadata, managed_fields=managers.encode(managed)))


def _retried(work: "_Work", config: Tree, conflict: "Conflict") -> tuple[Tree | None, Managed]:
    """kubectl takes over what it has applied on the client's side (APPLY-17)."""
    allowed: FieldSet = EMPTY
    if work.request.options.field_manager == last_applied.KUBECTL and work.live is not None:
        allowed = last_applied.taken_over(work.type, work.tree, work.resource, work.live)
    left = {
        who: found
        for who, fields in conflict.fields.items()
        if (found := difference(fields, allowed))
    }
    if left:
        raise ApiError(conflict_status(left))
    return work.applied(config, force=True)


def _named(config: Tree, resource: Resource) -> str:
    """The configuration in upstream's messages: namespace/name; kind."""
    metadata = config.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    name, namespace = _text(metadata.get("name")), _text(metadata.get("namespace"))
    return f"{namespace}/{name}; {_gvk(resource.api_version, resource.kind)}"


def _live_tree(resource: Resource, live: Any) -> Tree:
    """The object as a tree, without managedFields; an empty one of its kind if there is none."""
    if live is None:
        return {} if resource.is_custom else codec.to_tree(resource.type())
    metadata = replace(live.metadata, managed_fields=None)
    tree: Tree = codec.to_tree(replace(live, metadata=metadata))
    return tree


def _object(resource: Resource, tree: Tree) -> Any:
    """The merged object. Raises ApiError 500 if a value does not fit its field."""
    tree = {**tree, "kind": resource.kind, "apiVersion": resource.api_version}
    try:
        if resource.is_custom:
            return objects.decoded(resource, tree)[0]
        return codec.decode_merged(resource.type, tree).object
    except DecodeError as error:
        gvk = _gvk(resource.api_version, resource.kind)
        words = (
            f"failed to convert new object ({_named(tree, resource)}) to proper version: "
            f"unable to convert unstructured object to {gvk.removeprefix('/')}: {error}"
        )
        raise ApiError(status.unexplained(words)) from None


class Conflict(Exception):
    """Fields of other managers would change."""

    def __init__(self, fields: dict[Owner, FieldSet]) -> None:
        super().__init__("conflict")
        self.fields = fields


class _Work(Value, frozen=True, eq=False):
    """One apply: the request, the live object and its tree."""

    request: Request
    resource: Resource
    type: Type
    tree: Tree
    live: Any
    context: Context

    def applied(self, config: Tree, *, force: bool) -> tuple[Tree | None, Managed]:
        """The merged object, None if it is the live one; and its managers. Raises Conflict."""
        request, version = self.request, self.resource.api_version
        who = managers.owner(request.options.field_manager, APPLY, version, request.subresource)
        managed = self._before()
        last = managed.get(who)
        fields = recursive_difference(
            applied_paths(self.type, config), reset_fields(request.resource, request.subresource)
        )
        mine = Owned(fields, version, None if last is None else last.time)
        now_managed = {**managed, who: mine}
        merged: Tree = merge(self.type, self.tree, config)
        if last is not None and last.fields:
            merged = self._pruned(merged, last, now_managed)
        compared = self._comparisons(merged)
        others = managers.conflicts(now_managed, compared, who)
        if others and not force:
            raise Conflict(others)
        after = dict(managers.after_change(now_managed, compared, who))
        owned_now = difference(fields, NEVER_OWNED)
        after.pop(who, None)
        is_changed = not is_equal(merged, self.tree)
        if owned_now:
            time = timestamp(self.context.now) if is_changed else mine.time
            after[who] = Owned(owned_now, version, time)
        return (merged if is_changed else None), after

    def _before(self) -> Managed:
        """The managers before the apply. What an object has whose fields nobody owns belongs to
        before-first-apply (APPLY-16)."""
        if self.live is None:
            return managers.NOBODY
        managed = managers.decode_or_nobody(self.live.metadata.managed_fields)
        if managed:
            return managed
        empty = _live_tree(self.resource, None)
        hidden = reset_fields(self.request.resource, self.request.subresource)
        change = compare(self.type, empty, self.tree).without(hidden)
        version = self.resource.api_version
        who = Owner(managers.BEFORE_FIRST_APPLY, UPDATE, version, self.request.subresource)
        return managers.updated(
            managed, who, version, lambda _: change, timestamp(self.context.now)
        )

    def _pruned(self, merged: Tree, last: Owned, managed: Managed) -> Tree:
        """The merged object without what was dropped from the configuration (APPLY-9). It is
        compared in the version of the last apply."""
        target = in_version(self.resource, last.api_version)
        if target is None:
            return merged
        tree = converted_tree(self.resource, target, merged)
        owned: dict[str, FieldSet] = {}
        for one in managed.values():
            owned[one.api_version] = union(owned.get(one.api_version, EMPTY), one.fields)
        pruned = self._with_owned(target, tree, last.fields, owned)
        left: Tree = dropped(type_of(target), tree, pruned, last.fields)
        return converted_tree(target, self.resource, left)

    def _with_owned(
        self, target: Resource, merged: Tree, last: FieldSet, owned: dict[str, FieldSet]
    ) -> Tree:
        """The object without what was applied last, but with all that has an owner in any
        version."""
        pruned: Tree = without_last(type_of(target), merged, last)
        for api_version in sorted(owned, key=lambda one: one != target.api_version):
            other = in_version(target, api_version)
            if other is None:
                continue
            whole = converted_tree(target, other, merged)
            left = converted_tree(target, other, pruned)
            kept = with_owned(type_of(other), whole, left, owned[api_version])
            pruned = converted_tree(other, target, kept)
        return pruned

    def _comparisons(self, merged: Tree) -> managers.Compared:
        """What the apply changes, in each version; the path does not write the fields that it
        resets (APPLY-7)."""
        found: dict[str, Comparison | None] = {}

        def compared(api_version: str) -> Comparison | None:
            if api_version not in found:
                target = in_version(self.resource, api_version)
                found[api_version] = (
                    None
                    if target is None
                    else compare(
                        type_of(target),
                        converted_tree(self.resource, target, self.tree),
                        converted_tree(self.resource, target, merged),
                    ).without(reset_fields(target, self.request.subresource))
                )
            return found[api_version]

        return compared


# --- conflicts


def conflict_status(found: dict[Owner, FieldSet]) -> Status:
    """409 with a cause for every field that another manager owns (APPLY-15)."""
    items = [
        (shown_manager(who), text_of(path))
        for who in sorted(found, key=lambda one: (one.manager, one.operation, one.api_version))
        for path in paths(found[who])
    ]
    causes = tuple(
        StatusCause(reason=FIELD_MANAGER_CONFLICT, message=f"conflict with {who}", field=path)
        for who, path in items
    )
    if len(items) == 1:
        who, path = items[0]
        words = f"Apply failed with 1 conflict: conflict with {who}: {path}"
    else:
        lines: list[str] = []
        for who, path in items:
            if f"conflicts with {who}:" not in lines:
                lines.append(f"conflicts with {who}:")
            lines.append(f"- {path}")
        words = f"Apply failed with {len(items)} conflicts: " + "\n".join(lines)
    return status.failure(409, "Conflict", words, StatusDetails(causes=causes))


def shown_manager(who: Owner) -> str:
    """A manager as it is shown to users."""
    text = status.show(who.manager)
    if who.subresource:
        text += f" with subresource {status.show(who.subresource)}"
    return f"{text} using {who.api_version}" if who.operation == UPDATE else text


__all__ = ["APPLY_YAML", "Applied", "apply", "conflict_status", "read_configuration"]
