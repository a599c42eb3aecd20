"""Discovery: the groups, versions and resources that this API server serves. Rules DISC-1 to DISC-6
and DISC-14 (spec/discovery.md).

A client that has only the server's address gets from these documents the groups, versions and
resources, with their kinds, verbs and short names. Current clients request everything at once
(aggregated discovery), older ones each group. Source: Kubernetes documentation, "The Kubernetes
API" (Discovery API) and "Kubernetes API Concepts"; KEP-3352 "Aggregated Discovery". Left out: the
beta form of aggregated discovery, for which clients fall back to the other.
"""

from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any, TypeAlias

from refk8s.core.api.resources import SERVED, Resource, Subresource
from refk8s.core.api.status import ApiError, path_not_found
from refk8s.core.value import Value

Tree: TypeAlias = dict[str, Any]
Resources: TypeAlias = tuple[Resource, ...]

JSON = "application/json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

VERSION: Tree = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": "v1.37.0+refk8s",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "",
}
"""The version of Kubernetes whose API this is; clients adapt their requests to it."""


class Answer(Value, frozen=True):
    """A discovery document (a JSON tree that must not be changed) and the media type of the
    answer."""

    tree: Tree
    media_type: str = JSON
    vary: str = ""  # the request header that selected one of two forms
    is_cached: bool = False  # whether clients keep it by its hash (DISC-16)


def discover(
    path: str, accept: str = "", resources: Resources = SERVED, server_address: str = ""
) -> Answer | None:
    """The discovery document at `path`; None if there is none: another kind of path, or a group
    that is not served (DISC-1).

    `accept` is the Accept header: if it names the aggregated form, /api and /apis answer in it
    (DISC-5). `server_address` ("host:port") is in the document at /api. Raises ApiError 404 for a
    version that a served group does not have (DISC-2).
    """
    match path.strip("/").split("/"):
        case ["version"]:
            return Answer(VERSION)
        case ["api"] if is_aggregated(accept):
            return Answer(aggregated(resources, core=True), AGGREGATED, "Accept", True)
        case ["apis"] if is_aggregated(accept):
            return Answer(aggregated(resources, core=False), AGGREGATED, "Accept", True)
        case ["api"]:
            return Answer(core_versions(server_address), vary="Accept")
        case ["apis"]:
            return Answer(group_list(resources), vary="Accept")
        case ["api", version]:
            return Answer(resource_list(resources, "", version))
        case ["apis", group] if group in groups(resources):
            return Answer({"kind": "APIGroup", "apiVersion": "v1", **group_entry(resources, group)})
        case ["apis", group, version] if group in groups(resources):
            return Answer(resource_list(resources, group, version))
    return None


def is_aggregated(accept: str) -> bool:
    """Whether the aggregated form is requested: a media range names it with its group and version
    (DISC-5)."""
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        if name in (JSON, "application/*", "*/*") and {
            "g=apidiscovery.k8s.io",
            "v=v2",
            "as=APIGroupDiscoveryList",
        } <= set(parameters):
            return True
    return False


@lru_cache(maxsize=64)
def groups(resources: Resources = SERVED) -> tuple[str, ...]:
    """The named groups, in the order of the table."""
    return tuple(dict.fromkeys(resource.group for resource in resources if resource.group))


@lru_cache(maxsize=64)
def versions(resources: Resources, group: str) -> tuple[str, ...]:
    """The versions of a group, the preferred one first (DISC-3)."""
    return tuple(
        dict.fromkeys(resource.version for resource in resources if resource.group == group)
    )


def core_versions(server_address: str) -> Tree:
    """The versions of the core group, at /api."""
    addresses = (
        [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}] if server_address else []
    )
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def group_entry(resources: Resources, group: str) -> Tree:
    """One group with its versions and the preferred one (DISC-3)."""
    entries = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for version in versions(resources, group)
    ]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


@lru_cache(maxsize=64)
def group_list(resources: Resources) -> Tree:
    """All named groups, at /apis."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [group_entry(resources, group) for group in groups(resources)],
    }


@lru_cache(maxsize=64)
def resource_list(resources: Resources, group: str, version: str) -> Tree:
    """The resources of one group version with their subresources, by name (DISC-4). Raises ApiError
    404 if there are none (DISC-2)."""
    entries = []
    for resource in _of(resources, group, version):
        entries.append(_resource_entry(resource))
        entries.extend(_subresource_entry(resource, part) for part in resource.subresources)
    if not entries:
        raise ApiError(path_not_found())
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }


def _of(resources: Resources, group: str, version: str) -> Sequence[Resource]:
    found = (
        resource
        for resource in resources
        if resource.group == group and resource.version == version
    )
    return sorted(found, key=lambda resource: resource.plural)


def _resource_entry(resource: Resource) -> Tree:
    entry: Tree = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _verbs(resource),
    }
    stored = (
        {"storageVersionHash": storage_version_hash(resource)} if "watch" in resource.verbs else {}
    )
    return entry | _names(resource) | stored


def _verbs(resource: Resource) -> list[str]:
    return sorted(resource.definition.listed_verbs if resource.is_custom else resource.verbs)


def storage_version_hash(resource: Resource) -> str:
    """A hash of the version in which objects are stored; it changes when they must be written again
    (DISC-6)."""
    group, _, version = (resource.storage_api_version or resource.api_version).rpartition("/")
    if resource.is_custom:
        version = resource.definition.storage_version
    return b64encode(sha256(f"{group}/{version}/{resource.kind}".encode()).digest()[:8]).decode()


def _names(resource: Resource) -> Tree:
    """Short names and categories, if there are any."""
    names = {"shortNames": list(resource.short_names), "categories": list(resource.categories)}
    return {key: value for key, value in names.items() if value}


def _subresource_entry(resource: Resource, part: Subresource) -> Tree:
    """A subresource. It has group and version only if its body is of another group than the
    resource."""
    entry: Tree = {
        "name": f"{resource.plural}/{part.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": part.kind,
        "verbs": sorted(part.verbs),
    }
    return entry | {"group": part.group, "version": part.version} if part.version else entry


# --- aggregated discovery


@lru_cache(maxsize=64)
def aggregated(resources: Resources, core: bool) -> Tree:
    """All groups with all their resources in one document (DISC-5): the core group at /api, the
    named groups at /apis."""
    items = []
    for group in ("",) if core else groups(resources):
        entries = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_aggregated_entry(one) for one in _of(resources, group, version)],
            }
            for version in versions(resources, group)
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_entry(resource: Resource) -> Tree:
    entry: Tree = {
        "resource": resource.plural,
        "responseKind": _response_kind("", "", resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": _verbs(resource),
        **_names(resource),
    }
    parts = [
        {
            "subresource": part.name,
            "responseKind": _response_kind(
                part.group if part.version else "", part.version, part.kind
            ),
            "verbs": sorted(part.verbs),
        }
        for part in resource.subresources
    ]
    return entry | {"subresources": parts} if parts else entry


def _response_kind(group: str, version: str, kind: str) -> Tree:
    """The kind of a response; group and version are empty if they are the resource's own, as in the
    lists (DISC-5)."""
    return {"group": group, "version": version, "kind": kind}


@lru_cache(maxsize=64)
def paths(resources: Resources = SERVED) -> tuple[str, ...]:
    """The paths of the discovery documents (DISC-14)."""
    found = [
        "/version",
        "/api",
        "/apis",
        *(f"/api/{version}" for version in versions(resources, "")),
    ]
    for group in groups(resources):
        found += [
            f"/apis/{group}",
            *(f"/apis/{group}/{version}" for version in versions(resources, group)),
        ]
    return tuple(found)


@lru_cache(maxsize=64)
def digest_of(document: bytes) -> str:
    """The hash by which a client recognises a document (DISC-8, DISC-16)."""
    return blake2b(document, digest_size=32).hexdigest().upper()
