"""A custom object in its stored version and in the version of a request. Rules CRD-4 and CRD-5
(spec/custom_resources.md).

Objects are stored in the storage version of their definition. A request in another version is
decided on the store as that version shows it (`Shown`), and what it writes is converted back
(`as_stored`). So the stages of a request treat all versions alike. With the conversion strategy
None, versions differ in apiVersion alone, and each drops the fields that its schema does not have.
With the strategy Webhook another server converts (conversion.py).
Source: Kubernetes documentation, "Versions in CustomResourceDefinitions".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.custom import CustomList, CustomObject, stored_resources
from refk8s.core.api.request import Response
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.calls import Calls
from refk8s.core.apiserver.custom.conversion import convert, is_by_webhook
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


def shown(resource: Resource, obj: CustomObject, calls: Calls | None = None) -> CustomObject:
    """A stored object in the version of `resource`; the same object if nothing changes. Fields that
    the definition has lost since the write are dropped, and its defaults are added (CRD-5). Raises
    ApiError 500 if a webhook converts it and fails; Needed."""
    return shown_all(resource, (obj,), calls)[0]


def shown_all(
    resource: Resource, found: Sequence[CustomObject], calls: Calls | None
) -> Sequence[CustomObject]:
    """The same for several objects, which are converted by one call (CRD-26)."""
    if not is_by_webhook(resource):
        return [_shown(resource, obj) for obj in found]
    whole = [_with_defaults(resource, obj) for obj in found]
    return [
        made if made is obj else _pruned(resource, made)
        for obj, made in zip(whole, convert(calls, resource, whole), strict=True)
    ]


def _shown(resource: Resource, obj: CustomObject) -> CustomObject:
    storage = storage_resource(resource)
    content = prune(schema_of(storage.definition), obj.content)
    if storage.version != resource.version:
        content = prune(schema_of(resource.definition), content, defaults=False)
    if content is obj.content and obj.api_version == resource.api_version:
        return obj
    return replace(obj, api_version=resource.api_version, kind=resource.kind, content=content)


def _with_defaults(resource: Resource, obj: CustomObject) -> CustomObject:
    """A stored object as its own version now describes it."""
    for one in stored_resources(resource.definition.crd):
        if one.api_version == obj.api_version:
            content = prune(schema_of(one.definition), obj.content)
            return obj if content is obj.content else replace(obj, content=content)
    return obj


def _pruned(resource: Resource, obj: CustomObject) -> CustomObject:
    """A converted object without the fields that its version does not have."""
    content = prune(schema_of(resource.definition), obj.content, defaults=False)
    return obj if content is obj.content else replace(obj, content=content)


def as_stored(resource: Resource, obj: CustomObject, calls: Calls | None = None) -> CustomObject:
    """An object of the version of `resource` in the storage version, whose schema drops the fields
    that it does not have (CRD-4). Raises ApiError 500; Needed."""
    return between(resource, storage_resource(resource), obj, calls)


def between(
    source: Resource, target: Resource, obj: CustomObject, calls: Calls | None = None
) -> CustomObject:
    """An object of one version in another one. Raises ApiError 500; Needed."""
    if source.version == target.version:
        return obj
    if is_by_webhook(target):
        return _pruned(target, convert(calls, target, (obj,))[0])
    content = prune(schema_of(target.definition), obj.content, defaults=False)
    return replace(obj, api_version=target.api_version, content=content)


class Shown:
    """The store as a version of a custom resource shows it: the reads of another store, with the
    objects of this resource in this version."""

    def __init__(self, store: Reader, resource: Resource, calls: Calls | None = None) -> None:
        self._store = store
        self._resource = resource
        self._calls = calls

    @property
    def stored(self) -> Reader:
        """The store itself."""
        return self._store

    @property
    def revision(self) -> Revision:
        return self._store.revision

    @property
    def compacted(self) -> Revision:
        return self._store.compacted

    def get(self, key: str, at: Revision | None = None) -> Record[Any] | None:
        record = self._store.get(key, at)
        return None if record is None else shown_records(self._resource, (record,), self._calls)[0]

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
        records = shown_records(self._resource, page.records, self._calls)
        return replace(page, records=records)

    def changes(
        self, prefix: str, after: Revision, limit: int | None = None
    ) -> tuple[Change[Any], ...]:
        return self._store.changes(prefix, after, limit)

    def prefix_revision(self, prefix: str) -> Revision:
        return self._store.prefix_revision(prefix)


def shown_records(
    resource: Resource, records: Sequence[Record[Any]], calls: Calls | None = None
) -> tuple[Record[Any], ...]:
    """Records with their objects in the version of `resource`; the same record if nothing changes.
    A record of another resource is returned as it is. Raises ApiError 500; Needed."""
    mine = [
        one
        for one in records
        if type(one.value) is CustomObject and one.key.startswith(resource.prefix)
    ]
    made = iter(shown_all(resource, [one.value for one in mine], calls))
    found = []
    for one in records:
        if type(one.value) is CustomObject and one.key.startswith(resource.prefix):
            value = next(made)
            one = one if value is one.value else replace(one, value=value, wire=None)
        found.append(one)
    return tuple(found)


def shown_changes(
    resource: Resource, changes: Sequence[Change[Any]], calls: Calls | None = None
) -> tuple[Change[Any], ...]:
    """Changes with their objects in the version of `resource`. Raises ApiError 500; Needed."""
    records = [
        record
        for change in changes
        for record in (change.record, change.previous)
        if record is not None
    ]
    made = iter(shown_records(resource, records, calls))
    return tuple(
        [
            Change(
                change.revision,
                change.key,
                None if change.record is None else next(made),
                None if change.previous is None else next(made),
            )
            for change in changes
        ]
    )


def outcome_of(resource: Resource, outcome: Outcome, calls: Calls | None = None) -> Outcome:
    """The outcome of a request that was decided on the store as `Shown`: its writes are converted
    to the storage version, and its answer to the version of the request. Both before the commit, so
    that a conversion that fails writes nothing (CRD-26). Raises ApiError 500; Needed."""
    if type(outcome) is not Commit:
        return outcome
    txn, respond = outcome.txn, outcome.respond
    writes: list[Any] = []
    answers: dict[str, CustomObject] = {}
    for write in txn.writes:
        if type(write) is Put and type(write.value) is CustomObject:
            stored = as_stored(resource, write.value, calls)
            if is_by_webhook(resource):
                answers[write.value.metadata.uid or ""] = shown(resource, stored, calls)
            write = Put(write.key, stored)
        writes.append(write)

    def answer(committed: Committed[Any]) -> Response:
        return _shown_response(resource, respond(committed), answers)

    return evolve(outcome, txn=evolve(txn, writes=tuple(writes)), respond=answer)


def _shown_response(
    resource: Resource, response: Response, answers: dict[str, CustomObject]
) -> Response:
    body = response.body
    if type(body) is not CustomObject:
        return response
    known = answers.get(body.metadata.uid or "")
    if known is not None:
        revision = body.metadata.resource_version
        metadata = replace(known.metadata, resource_version=revision)
        made = replace(known, metadata=metadata)
        return evolve(response, body=made, records=())
    if is_by_webhook(resource):
        return response  # it is in this version already
    made = shown(resource, body)
    return response if made is body else evolve(response, body=made, records=())


__all__ = [
    "CustomList",
    "Shown",
    "as_stored",
    "between",
    "outcome_of",
    "shown",
    "shown_all",
    "shown_changes",
    "shown_records",
    "storage_resource",
]
