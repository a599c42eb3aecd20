"""Objects as the bytes that a store keeps. Rules STORE-27 (spec/store.md), ETCD-3 (spec/etcd.md).

The bytes are the JSON of the object without its resourceVersion, which is the revision of the last
write and therefore known without them. Values that upstream's API server wrote to etcd can be read
too: protobuf, and fields that are newer than this version.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import codec, resources
from refk8s.core.api.codec import DecodeError
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.managed_fields import with_shared_entries
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.ledger import NODE_PORT_PREFIX
from refk8s.core.store import resource_prefix

_PROTOBUF = b"k8s\0"


def encode_stored(value: Any) -> bytes:
    """The bytes of an object."""
    metadata = value.metadata
    if metadata.resource_version is not None:
        value = replace(value, metadata=replace(metadata, resource_version=None))
    return codec.encode(value)


def decode_stored(key: str, data: bytes) -> Any:
    """The object of these bytes, without resourceVersion if they have none. Raises ValueError for
    bytes that are no object of this key."""
    resource = _by_prefix().get(resource_prefix(key))
    if resource is None:
        return _decode_custom(key, data)
    if data.startswith(_PROTOBUF):
        value = _from_protobuf(resource, data)
    else:
        try:
            value = codec.decode(resource.type, data)
        except DecodeError:
            value, _ = codec.decode_tolerant(resource.type, codec.parse(data))
    metadata = value.metadata
    if (value.api_version, value.kind) != (resource.api_version, resource.kind):
        raise ValueError(f"is a {value.kind} of {value.api_version}")
    name = resource.key(metadata.namespace or "", metadata.name or "").removeprefix(resource.prefix)
    if key.removeprefix(resource_prefix(key)) != name:
        raise ValueError(f"is the object {metadata.namespace or ''}/{metadata.name}")
    return with_shared_entries(value)


def _decode_custom(key: str, data: bytes) -> CustomObject:
    """The object of a custom resource. It is read without its definition, which may be read later;
    requests see it as the definition shows it (CRD-5)."""
    obj = codec.custom_object(codec.parse(data))
    found = obj.metadata
    group, _, *rest = key.removeprefix("/").split("/")
    if not obj.api_version.startswith(f"{group}/"):
        raise ValueError(f"is a {obj.kind} of {obj.api_version}")
    if rest != [part for part in (found.namespace, found.name) if part]:
        raise ValueError(f"is the object {found.namespace or ''}/{found.name}")
    return with_shared_entries(obj)


def _from_protobuf(resource: Resource, data: bytes) -> Any:
    from refk8s.core.apiserver import protobuf  # only after another API server

    try:
        tree = protobuf.decode(data)
    except ApiError as error:
        raise ValueError(str(error)) from None
    return codec.decode_tolerant(resource.type, tree)[0]


@cache
def _by_prefix() -> dict[str, Resource]:
    """For the prefix of a key the resource that is stored below it."""
    found = {each.prefix: each for each in resources.ALL if not each.storage_api_version}
    # an allocated node port is stored in the same form as an address
    found[NODE_PORT_PREFIX] = resources.IP_ADDRESSES
    return found
