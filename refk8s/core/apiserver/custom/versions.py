"""A custom object in its stored version and in the version of a request. Rules CRD-4 and CRD-5
(spec/custom_resources.md).

Objects are stored in the storage version of their definition. A request in another version is
decided on the store as that version shows it (`Shown`), and what it writes is converted back
(`as_stored`). So the stages of a request treat all versions alike. With the conversion strategy
None, versions differ in apiVersion alone, and each drops the fields that its schema does not have.
Source: Kubernetes documentation, "Versions in CustomResourceDefinitions".
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.custom import CustomList, CustomObject, stored_resources
from refk8s.core.api.request import Response
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.custom.prune import prune
from refk8s.core.apiserver.custom.schema import schema_of
from refk8s.core.apiserver.outcome import Commit, Outcome, Reader
from refk8s.core.store import Change, Committed, Page, Put, Record, Revision
from refk8s.core.value import evolve


def storage_resource(resource: Resource) -> Resource:
    """The custom resource in its storage version."""
    for one in stored_resources(resource.definition.crd):
        if one.definition.is_stored:
            return one
    return resource


def shown(resource: Resource, obj: CustomObject) -> CustomObject:
    """A stored object in the version of `resource`; the same object if nothing changes. Fields that
    the definition has lost since the write are dropped, and its defaults are added (CRD-5)."""
    storage = storage_resource(resource)
    content = prune(schema_of(storage.definition), obj.content)
    if storage.version != resource.version:
        content = prune(schema_of(resource.definition), content, defaults=False)
    if content is obj.content and obj.api_version == resource.api_version:
        return obj
    return replace(obj, api_version=resource.api_version, kind=resource.kind, content=content)


def as_stored(resource: Resource, obj: CustomObject) -> CustomObject:
    """An object of the version of `resource` in the storage version, whose schema drops the fields
    that it does not have (CRD-4)."""
    storage = storage_resource(resource)
    if storage.version == resource.version:
        return obj
    content = prune(schema_of(storage.definition), obj.content, defaults=False)
    return replace(obj, api_version=storage.api_version, content=content)


class Shown:
    """The store as a version of a custom resource shows it: the reads of another store, with the
    objects of this resource in this version."""

    def __init__(self, store: Reader, resource: Resource) -> None:
        self._store = store
        self._resource = resource

    @property
    def revision(self) -> Revision:
        return self._store.revision

    @property
    def compacted(self) -> Revision:
        return self._store.compacted

    def get(self, key: str, at: Revision | None = None) -> Record[Any] | None:
        record = self._store.get(key, at)
        return None if record is None else shown_record(self._resource, record)

    def list(
        self,
        prefix: str,
        at: Revision | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Page[Any]:
        page = self._store.list(prefix, at, after, limit)
        if not prefix.startswith(self._resource.prefix):
            return page
        records = tuple([shown_record(self._resource, record) for record in page.records])
        return replace(page, records=records)

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[Any], ...]:
        return self._store.changes(prefix, after, limit)

    def prefix_revision(self, prefix: str) -> Revision:
        return self._store.prefix_revision(prefix)


def shown_record(resource: Resource, record: Record[Any]) -> Record[Any]:
    """A record with its object in the version of `resource`; the same record if nothing changes. A
    record of another resource is returned as it is."""
    value = record.value
    if type(value) is not CustomObject or not record.key.startswith(resource.prefix):
        return record
    made = shown(resource, value)
    return record if made is value else replace(record, value=made, wire=None)


def shown_change(resource: Resource, change: Change[Any]) -> Change[Any]:
    """A change with its objects in the version of `resource`."""
    record, previous = change.record, change.previous
    return Change(
        change.revision,
        change.key,
        None if record is None else shown_record(resource, record),
        None if previous is None else shown_record(resource, previous),
    )


def outcome_of(resource: Resource, outcome: Outcome) -> Outcome:
    """The outcome of a request that was decided on the store as `Shown`: its writes are converted
    to the storage version, and its answer to the version of the request."""
    if type(outcome) is not Commit:
        return outcome
    txn, respond = outcome.txn, outcome.respond
    writes = tuple(
        [
            Put(write.key, as_stored(resource, write.value))
            if type(write) is Put and type(write.value) is CustomObject
            else write
            for write in txn.writes
        ]
    )

    def answer(committed: Committed[Any]) -> Response:
        return _shown_response(resource, respond(committed))

    return evolve(outcome, txn=evolve(txn, writes=writes), respond=answer)


def _shown_response(resource: Resource, response: Response) -> Response:
    body = response.body
    if type(body) is not CustomObject:
        return response
    made = shown(resource, body)
    return response if made is body else evolve(response, body=made, records=())


__all__ = [
    "CustomList",
    "Shown",
    "as_stored",
    "outcome_of",
    "shown",
    "shown_change",
    "shown_record",
    "storage_resource",
]
