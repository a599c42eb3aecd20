"""Renumbers the revisions of changes that every watcher has received.

Rule EXPLORE-8 (spec/explorer.md).

For each resource there is a revision up to which all its watchers have received every change. Only
the precondition of an update still compares such revisions, for one object at a time. So the
current versions are renumbered in the order of their names, older versions become one, `OLD`, and
later changes keep their order. Histories that differ only in the number or order of earlier writes
then lead to the same state, and an endless loop returns to an earlier state.
"""

from bisect import bisect_right
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any

import attrs
from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from refk8s.checking.explorer.bundle import Bundle
from refk8s.checking.explorer.parts import Parts
from refk8s.checking.explorer.store import ResourceState
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import by_kind
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.state import Busy, Flight, LoopState
from refk8s.core.loop.view import Table
from refk8s.core.store import Delete, History, Put, Txn, commit, compact
from refk8s.core.value import evolve

OLD = 1
BASE = 1_000
"""Renumbered current versions start here. No store of a model reaches this revision by its writes,
so a revision shows whether it was renumbered."""


@cache
def _prefix_of(cls: type) -> str | None:
    """The resource of this type; None if it is not an API object."""
    if not issubclass(cls, Struct) or not {"metadata", "kind", "api_version"} <= set(
        cls.__struct_fields__
    ):
        return None
    empty: Any = cls()
    resource = by_kind(empty.api_version, empty.kind)
    return resource.prefix if resource is not None else None


_revision_of = attrgetter("revision")
_LEAVES = frozenset((str, int, bool, float, bytes, type(None)))


class RevisionMap:
    """New revisions for one resource: `versions` maps resourceVersions of objects, `revisions`
    those of the history from the one that every watcher has reached, in their order."""

    def __init__(
        self, prefix: str, versions: dict[str, str], revisions: list[tuple[int, int]]
    ) -> None:
        self.prefix = prefix
        self.versions = versions
        self.old = [old for old, _ in revisions]
        self.new = [new for _, new in revisions]
        self._done: dict[int, tuple[Any, Any]] = {}

    def version(self, old: str | None) -> str | None:
        """The new resourceVersion of an object."""
        return old if not old else self.versions.get(old, str(OLD))

    def revision(self, old: int) -> int:
        """The new number of a revision that a machine has reached."""
        at = bisect_right(self.old, old) - 1
        return self.new[at] if at >= 0 else OLD

    def of(self, value: Any) -> Any:
        """The value with its revisions replaced; the same object if it has none."""
        cls = value.__class__
        if cls in _LEAVES:
            return value
        if cls is tuple:
            renamed = [self.of(each) for each in value]
            return (
                value
                if all(a is b for a, b in zip(renamed, value, strict=True))
                else tuple(renamed)
            )
        known = self._done.get(id(value))
        if known is None:
            known = self._done[id(value)] = (value, self._renamed(cls, value))
        return known[1]

    def _renamed(self, cls: type, value: Any) -> Any:
        prefix = _prefix_of(cls)
        if prefix is not None:
            return self.object(value) if prefix == self.prefix else value
        if cls is Map:
            changed = {key: new for key, old in value.items() if (new := self.of(old)) is not old}
            return value.update(changed) if changed else value
        if cls is dict:
            changed = {key: self.of(old) for key, old in value.items()}
            return value if all(changed[key] is value[key] for key in value) else changed
        if cls is list:
            return [self.of(each) for each in value]
        if cls is LoopState:
            value = self._tables(value)
        elif cls is Informer and value.resource.prefix == self.prefix:
            return replace(value, revision=self.revision(value.revision) if value.revision else 0)
        elif cls is Busy:
            value = self._waits(value)
        elif cls is Flight:
            value = replace(value, seen=self._seen(value.seen)) if value.seen else value
        elif cls is Request:
            return self.request(value)
        if issubclass(cls, Struct):
            if hasattr(value, "items") and hasattr(value, "metadata"):  # a list of objects
                return self._list(value)
            fields = {
                name: new
                for name in cls.__struct_fields__
                if (new := self.of(old := getattr(value, name))) is not old
            }
            return replace(value, **fields) if fields else value
        if attrs.has(cls):
            fields = {
                each.name: new
                for each in attrs.fields(cls)
                if (new := self.of(old := getattr(value, each.name))) is not old
            }
            return attrs.evolve(value, **fields) if fields else value
        return value

    def object(self, obj: Any) -> Any:
        """An object of the resource with its new version."""
        metadata: ObjectMeta = obj.metadata
        return replace(
            obj,
            metadata=replace(metadata, resource_version=self.version(metadata.resource_version)),
        )

    def request(self, request: Request) -> Request:
        """A request for the resource, with its preconditions and the start of its watch
        replaced."""
        if request.resource.prefix != self.prefix:
            return request
        body, options = request.body, request.options
        if isinstance(body, Patch):
            metadata = body.document.get("metadata") if isinstance(body.document, dict) else None
            if metadata and metadata.get("resourceVersion"):
                document = {
                    **body.document,
                    "metadata": {
                        **metadata,
                        "resourceVersion": self.version(metadata["resourceVersion"]),
                    },
                }
                body = replace(body, document=document)
        elif isinstance(body, DeleteOptions):
            if body.preconditions is not None and body.preconditions.resource_version:
                wanted = replace(
                    body.preconditions,
                    resource_version=self.version(body.preconditions.resource_version),
                )
                body = replace(body, preconditions=wanted)
        elif body is not None:
            kind: Any = type(body)
            body = self.object(body) if _prefix_of(kind) == self.prefix else body
        if options.resource_version not in ("", "0"):
            options = replace(
                options, resource_version=str(self.revision(int(options.resource_version)))
            )
        return replace(request, body=body, options=options)

    def _tables(self, state: LoopState) -> LoopState:
        table = state.view.tables.get(self.prefix)
        if table is None:
            return state
        renamed: Table = replace(
            table, revision=self.revision(table.revision) if table.revision else 0
        )
        return replace(
            state, view=replace(state.view, tables=state.view.tables.set(self.prefix, renamed))
        )

    def _waits(self, busy: Busy) -> Busy:
        reached = busy.reached
        if self.prefix in reached:
            reached = reached.set(self.prefix, self.revision(reached[self.prefix]))
        return replace(busy, reached=reached, gone=self._seen(busy.gone))

    def _seen(self, seen: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            [
                (p, key, uid, self.version(old) if p == self.prefix else old)
                for p, key, uid, old in seen
            ]
        )

    def _list(self, listed: Any) -> Any:
        items = tuple([self.of(item) for item in listed.items])
        kind: Any = type(items[0]) if items else None
        is_ours = bool(items) and _prefix_of(kind) == self.prefix
        metadata = listed.metadata
        if is_ours and metadata.resource_version:
            metadata = replace(
                metadata, resource_version=str(self.revision(int(metadata.resource_version)))
            )
        return replace(listed, items=items, metadata=metadata)


class Renumberer:
    """Renumbers the revisions of a resource, in the store and in every bundle."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._renamings: dict[int, tuple[RevisionMap, int] | None] = {}
        self._bundles: dict[tuple[int, int, int], int] = {}

    def of_resource(self, position: int, resource_state: int) -> tuple[RevisionMap, int] | None:
        """The new revisions and the resource state with them; None if it is unchanged."""
        if resource_state not in self._renamings:
            self._renamings[resource_state] = self._make(position, resource_state)
        return self._renamings[resource_state]

    def _make(self, position: int, number: int) -> tuple[RevisionMap, int] | None:
        store_states = self.parts.store_states
        old = store_states.resource_states[number]
        prefix = store_states.prefixes[position]
        floor = old.history.compacted
        history: History[Any] = History(BASE, BASE, Map())
        versions: dict[str, str] = {}
        for record in old.history.list(prefix, at=floor).records:
            versions[record.value.metadata.resource_version] = str(history.revision + 1)
            history, _ = commit(history, Txn((), (Put(record.key, record.value),)), stamp)
        history = compact(history, history.revision)
        revisions = [(floor, history.revision)]
        for revision, changes in groupby(old.history.changes(prefix, floor), key=_revision_of):
            writes: list[Put[Any] | Delete] = []
            for change in changes:
                if change.record is None:
                    writes.append(Delete(change.key))
                else:
                    versions[change.record.value.metadata.resource_version] = str(
                        history.revision + 1
                    )
                    writes.append(Put(change.key, change.record.value))
            history, _ = commit(history, Txn((), tuple(writes)), stamp)
            revisions.append((revision, history.revision))
        # the last writes were to other resources, and have raised the revision
        if revisions[-1][0] != old.history.revision:
            revisions.append((old.history.revision, history.revision))
        if all(before == after for before, after in revisions) and all(
            before == after for before, after in versions.items()
        ):
            return None
        return RevisionMap(prefix, versions, revisions), store_states.keep(
            prefix, ResourceState(history, old.deletions)
        )

    def of_bundle(self, number: int, position: int, resource_state: int) -> int:
        """The bundle with the new revisions of this resource state."""
        key = (number, position, resource_state)
        found = self._bundles.get(key)
        if found is None:
            renaming = self.of_resource(position, resource_state)
            assert renaming is not None
            found = self._bundles[key] = self._rename(
                self.parts.bundles[number], renaming[0], position
            )
        return found

    def _rename(self, bundle: Bundle, renaming: RevisionMap, position: int) -> int:
        parts = self.parts

        def of(number: int) -> int:
            if number < 0:
                return number
            value = parts.values[number]
            renamed = renaming.of(value)
            return number if renamed is value else parts.keep(renamed)

        watches = []
        for id, stream, revision, initial in bundle.watches:
            is_ours = parts.values[stream].resource.prefix == renaming.prefix
            watches.append(
                (id, stream, renaming.revision(revision) if is_ours else revision, of(initial))
            )
        flying = []
        for id, is_watch, request, answer in bundle.flying:
            asked = parts.values[request]
            is_list = (
                answer >= 0 and asked.verb == "list" and asked.resource.prefix == renaming.prefix
            )
            flying.append(
                (
                    id,
                    is_watch,
                    of(request),
                    self._answer(renaming, answer) if is_list else of(answer),
                )
            )
        return parts.keep_bundle(
            evolve(
                bundle,
                state=of(bundle.state),
                flying=tuple(flying),
                abandoned=tuple(sorted([of(request) for request in bundle.abandoned])),
                watches=tuple(watches),
                jobs=tuple([(job[0], of(job[1]), *job[2:]) for job in bundle.jobs]),
                world=of(bundle.world),
                rules=of(bundle.rules),
            )
        )

    def _answer(self, renaming: RevisionMap, answer: int) -> int:
        """The answer to a list; an empty list has a revision too."""
        response = self.parts.values[answer]
        if not response.ok:
            return answer
        listed = response.body
        metadata = replace(
            listed.metadata,
            resource_version=str(renaming.revision(int(listed.metadata.resource_version))),
        )
        items = tuple([renaming.of(item) for item in listed.items])
        return self.parts.keep(
            replace(response, body=replace(listed, items=items, metadata=metadata))
        )
