"""The view: what a component has received of the cluster's state so far, indexed. Rules WATCH-1,
WATCH-7 (spec/watch.md).

A view is an immutable value; `Viewer` makes the next one from a burst of changes. Each table has
the store revision that it has reached. Iteration is always in key order, because the order of a
persistent map depends on the interpreter's hash seed.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeAlias

from immutables import Map

from refk8s.core.api.resources import Resource
from refk8s.core.loop.plan import Key
from refk8s.core.value import Value, field


def key_of(obj: Any) -> Key:
    """The key of an API object: "namespace/name", or the name alone."""
    metadata = obj.metadata
    return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else str(metadata.name)


def split_key(key: Key) -> tuple[str, str]:
    """(namespace, name) of a key; the namespace of a cluster-scoped object is empty."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def controller_of(obj: Any) -> Any | None:
    """The owner reference with controller=true, or None."""
    for reference in obj.metadata.owner_references or ():
        if reference.controller:
            return reference
    return None


class Index(Value, frozen=True, eq=False):
    """An index of one resource: `values` returns the values under which an object is found.

    `part` returns what of the object the values depend on, besides its namespace and name. While it
    is equal, they are not computed again: most changes are of a status.
    """

    name: str
    resource: Resource
    values: Callable[[Any], Iterable[str]]
    part: Callable[[Any], Any] | None = None


class Fold(Value, frozen=True, eq=False):
    """An aggregate over one or more resources, updated with each change. O(changed).

    `apply(summary, resource, old, new) -> summary`.
    """

    name: str
    resources: tuple[Resource, ...]
    initial: Any
    apply: Callable[[Any, Resource, Any, Any], Any]
    custom: bool = False  # also over the objects of every custom resource (LOOP-15)


def _by_namespace(obj: Any) -> tuple[str, ...]:
    return (obj.metadata.namespace or "",)


def _nothing(obj: Any) -> None:
    """The namespace of the object of a key never changes."""


def _by_owner(obj: Any) -> list[str]:
    return [reference.uid for reference in obj.metadata.owner_references or ()]


def namespace_index(resource: Resource) -> Index:
    """Objects by namespace, under the name "namespace"."""
    return Index("namespace", resource, _by_namespace, _nothing)


def owner_index(resource: Resource) -> Index:
    """Objects by the uid of each of their owners, under the name "owner"."""
    return Index("owner", resource, _by_owner, attrgetter("metadata.owner_references"))


class Table(Value, frozen=True, eq=False):
    """The objects of one resource as of a revision. `synced`: listed at least once."""

    objects: Map[Key, Any] = field(default_factory=Map)
    indexes: Map[str, Map[str, Map[Key, None]]] = field(default_factory=Map)
    revision: int = 0
    synced: bool = False


_EMPTY = Table()


Keys: TypeAlias = list[Key]
Objects: TypeAlias = list[Any]
Problems: TypeAlias = list[tuple[Key, Exception]]


class View(Value, frozen=True, eq=False):
    """All tables and folds of a component."""

    tables: Map[str, Table] = field(default_factory=Map)  # by resource prefix
    folds: Map[str, Any] = field(default_factory=Map)
    # (fold, prefix, key): the fold raised on this object (LOOP-10)
    left_out: Map[tuple[str, str, Key], None] = field(default_factory=Map)

    def table(self, resource: Resource) -> Table:
        return self.tables.get(resource.prefix, _EMPTY)

    def get(self, resource: Resource, key: Key) -> Any | None:
        """The object, or None."""
        return self.tables.get(resource.prefix, _EMPTY).objects.get(key)

    def list(self, resource: Resource) -> Objects:
        """All objects of a resource in key order. O(n log n)."""
        objects = self.table(resource).objects
        return [objects[key] for key in sorted(objects)]

    def keys(self, resource: Resource) -> Keys:
        return sorted(self.table(resource).objects)

    def count(self, resource: Resource) -> int:
        return len(self.table(resource).objects)

    def indexed_keys(self, resource: Resource, index: str, value: str) -> Keys:
        """Keys of the objects under this value of the index, sorted."""
        entries = self.table(resource).indexes.get(index)
        found = entries.get(value) if entries is not None else None
        return sorted(found) if found is not None else []

    def indexed(self, resource: Resource, index: str, value: str) -> Objects:
        """The objects under this value of the index, in key order."""
        table = self.tables.get(resource.prefix, _EMPTY)
        entries = table.indexes.get(index)
        found = entries.get(value) if entries is not None else None
        if found is None:
            return []
        objects = table.objects
        return [objects[key] for key in sorted(found)]

    def fold(self, name: str) -> Any:
        return self.folds[name]


class Viewer:
    """Makes views with the indexes and folds that a component needs."""

    def __init__(
        self, resources: Iterable[Resource], indexes: Iterable[Index], folds: Iterable[Fold]
    ) -> None:
        self._indexes: Mapping[str, dict[str, Index]] = {
            resource.prefix: {} for resource in resources
        }
        for index in indexes:
            self._indexes[index.resource.prefix][index.name] = index
        self._folds: dict[str, list[Fold]] = {}
        self._custom_folds: list[Fold] = []
        self._initial: dict[str, Any] = {}
        for fold in dict.fromkeys(folds):  # several reconcilers may share one
            if fold.custom:
                self._custom_folds.append(fold)
            self._initial[fold.name] = fold.initial
            for resource in fold.resources:
                self._folds.setdefault(resource.prefix, []).append(fold)

    def empty(self) -> View:
        """The view of a component that has received nothing."""
        tables = {
            prefix: Table(indexes=Map({name: Map() for name in indexes}))
            for prefix, indexes in self._indexes.items()
        }
        return View(Map(tables), Map(self._initial))

    def apply(
        self,
        view: View,
        resource: Resource,
        changes: Iterable[tuple[Key, Any | None]],
        revision: int,
        synced: bool = True,
        problems: Problems | None = None,
    ) -> tuple[View, list[tuple[Key, Any | None, Any | None]]]:
        """The view after these changes up to the revision, and the changed (key, old, new).

        O(changed). A change to None removes the object. `problems` collects the exceptions of an
        index or a fold, with the object's key; without it they are raised here. An index that
        raised does not have the object, and a fold continues as if the object were absent
        (LOOP-10).
        """
        table = view.tables[resource.prefix]
        own_indexes = self._indexes.get(resource.prefix, {})
        objects = table.objects.mutate()
        indexes = [
            (index.values, index.part, table.indexes[name].mutate())
            for name, index in own_indexes.items()
        ]
        summaries = self._folds.get(
            resource.prefix, self._custom_folds if resource.is_custom else ()
        )
        folds = {fold.name: view.folds[fold.name] for fold in summaries}
        # an error about the old object has been reported
        reported: Problems | None = [] if problems is not None else None
        changed: list[tuple[Key, Any | None, Any | None]] = []
        left_out = view.left_out
        for key, new in changes:
            old = objects.get(key)
            if old is None and new is None:
                continue
            if new is None:
                del objects[key]
            else:
                objects[key] = new
            for values, part, entries in indexes:
                if old is not None and new is not None and part is not None:
                    try:
                        if part(old) == part(new):
                            continue
                    except Exception:  # `values` raises it too, and then it is reported
                        pass
                before = _entries(values, key, old, reported) if old is not None else ()
                after = _entries(values, key, new, problems) if new is not None else ()
                if before != after:
                    _reindex(entries, key, before, after)
            for fold in summaries:
                known = old
                if left_out and (place := (fold.name, resource.prefix, key)) in left_out:
                    known, left_out = None, left_out.delete(place)
                if known is None and new is None:
                    continue
                try:
                    folds[fold.name] = fold.apply(folds[fold.name], resource, known, new)
                except Exception as problem:
                    if problems is None:
                        raise
                    problems.append((key, problem))
                    if new is not None:
                        left_out = left_out.set((fold.name, resource.prefix, key), None)
                    if known is not None and new is not None:
                        folds[fold.name] = fold.apply(folds[fold.name], resource, known, None)
            changed.append((key, old, new))
        following = Table(
            objects.finish(),
            Map(
                zip(
                    own_indexes,
                    [entries.finish() for _, _, entries in indexes],
                    strict=True,
                )
            ),
            max(revision, table.revision),
            synced or table.synced,
        )
        tables = view.tables.set(resource.prefix, following)
        return View(tables, view.folds.update(folds) if folds else view.folds, left_out), changed


def _entries(
    values: Callable[[Any], Iterable[str]], key: Key, obj: Any, problems: Problems | None
) -> tuple[str, ...]:
    try:
        return tuple(values(obj))
    except Exception as problem:
        if problems is None:
            raise
        problems.append((key, problem))
        return ()


def _reindex(entries: Any, key: Key, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    for value in before:
        if value not in after:
            rest = entries[value].delete(key)
            if rest:
                entries[value] = rest
            else:
                del entries[value]
    for value in after:
        if value not in before:
            entries[value] = entries.get(value, Map()).set(key, None)
