"""Keys of the store, and the keys in etcd. Rule ETCD-2 (spec/etcd.md).

    /core/pods/default/web-1        /registry/pods/default/web-1
    /core/nodes/node-1              /registry/minions/node-1
    /example.com/foos/default/a     /registry/example.com/foos/default/a

The keys in etcd are those of upstream's API server, so either can be started on the other's data.
Source: the storage paths that Kubernetes' integration test of etcd lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import uuid4

from refk8s.core.api import resources
from refk8s.core.store import resource_prefix

IRREGULAR: Final[Mapping[str, str]] = {
    "/core/endpoints/": "services/endpoints/",
    "/core/nodes/": "minions/",
    "/core/replicationcontrollers/": "controllers/",
    "/core/services/": "services/specs/",
    "/networking.k8s.io/ingresses/": "ingress/",
    "/apiextensions.k8s.io/customresourcedefinitions/": "apiextensions.k8s.io/customresourcedefinitions/",
    "/apiregistration.k8s.io/apiservices/": "apiregistration.k8s.io/apiservices/",
    "/internal/nodeports/": "refk8s/nodeports/",
}
"""Resources whose folder in etcd is not their plural. The last one is ours alone."""

KEY_LENGTH_MAX: Final = 1024
"""The longest key that is read: a name and a namespace have at most 253 and 63 characters."""


def folders() -> dict[str, str]:
    """For the prefix of each built-in resource its folder below the prefix in etcd."""
    found = dict(IRREGULAR)
    for resource in resources.ALL:
        if not resource.storage_api_version:
            found.setdefault(resource.prefix, f"{resource.plural}/")
    return found


class Keys:
    """Converts keys, below a prefix in etcd."""

    def __init__(self, prefix: str, places: Mapping[str, str] | None = None) -> None:
        self.prefix: Final = f"{prefix}/".encode()
        self.end: Final = f"{prefix}0".encode()  # the first key after all with this prefix
        self.cluster: Final = self.prefix + b"refk8s/cluster"  # holds the cluster's id
        self.progress: Final = self.prefix + b"refk8s/progress"  # is written to see an event
        # this server's, which its creates compare (ETCD-5)
        self.fence: Final = self.prefix + b"refk8s/fence/" + uuid4().hex.encode()
        self._to_folder: Final = dict(folders() if places is None else places)
        self._from_folder: Final = {
            folder: resource for resource, folder in self._to_folder.items()
        }

    def to_etcd(self, key: str) -> bytes:
        """The key in etcd. Raises ValueError if it is not a key of the store."""
        resource = resource_prefix(key)
        folder = self._to_folder.get(resource)
        if folder is None:
            folder = resource[1:]  # a custom resource: its group and plural
            if "." not in folder.partition("/")[0]:
                raise ValueError(f"no resource has the key {key!r}")
        return self.prefix + (folder + key[len(resource) :]).encode()

    def from_etcd(self, key: bytes) -> str | None:
        """The key of the store; None for keys that are not objects of a resource here."""
        try:
            path = key.removeprefix(self.prefix).decode()
        except UnicodeDecodeError:
            return None
        if len(key) > KEY_LENGTH_MAX or not key.startswith(self.prefix):
            return None
        first, _, rest = path.partition("/")
        folder = f"{first}/"
        resource = self._from_folder.get(folder)
        if resource is None:
            second, _, rest = rest.partition("/")
            folder = f"{first}/{second}/"
            resource = self._from_folder.get(folder)
            if resource is None:
                if "." not in first or not second:
                    return None
                resource = f"/{folder}"
        parts = rest.split("/")
        return resource + rest if len(parts) <= 2 and all(parts) else None
