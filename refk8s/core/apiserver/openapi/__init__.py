"""OpenAPI documents, made from the records and the table of resources. Rules DISC-7 to DISC-12 and
DISC-18 (spec/discovery.md).

kubectl reads from them how lists merge before it builds a patch (apply, diff), whether the server
checks fields (--validate), and which fields a kind has (explain). There is one document for each
group version. It is made at the first request and kept as bytes. Source: Kubernetes documentation,
"The Kubernetes API" (OpenAPI interface definition); KEP-2896 "OpenAPI V3"; OpenAPI Specification
3.0.0 and 2.0. Left out: descriptions of most fields; the protobuf form of the documents (clients
accept JSON for version 3).
"""

from functools import lru_cache
from typing import Any, TypeAlias

import msgspec

from refk8s.core.api.meta_v1 import APIGroupList, APIResourceList, APIVersions
from refk8s.core.api.resources import ALL, METRICS, Resource
from refk8s.core.api.status import ApiError, not_acceptable
from refk8s.core.apiserver.discovery import VERSION, digest_of, groups, versions
from refk8s.core.apiserver.openapi import protobuf_v2
from refk8s.core.apiserver.openapi.paths import paths_of
from refk8s.core.apiserver.openapi.root import INFO as INFO_SCHEMA
from refk8s.core.apiserver.openapi.root import INFO_NAME, list_items, root_items
from refk8s.core.apiserver.openapi.schemas import VERSION_2, VERSION_3, closure, schemas_of

__all__ = ["openapi"]

Tree: TypeAlias = dict[str, Any]
Resources: TypeAlias = tuple[Resource, ...]

JSON_RANGES = ("application/json", "application/*", "*/*")
INFO = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
SECURITY = {
    "type": "apiKey",
    "name": "authorization",
    "in": "header",
    "description": "Bearer token",
}


def openapi(path: str, accept: str = "", resources: Resources = ALL) -> bytes | None:
    """The document at `path` as JSON; None if there is none: /openapi/v2, /openapi/v3,
    /openapi/v3/api/v1, /openapi/v3/apis/G/V, /openapi/v3/apis/G and the others of DISC-15.

    `accept` is the Accept header. Raises ApiError 406 for a client that does not accept JSON
    (DISC-7), because it would read the document as protobuf.
    """
    resources = _documented(resources)
    wanted = [part.partition(";")[0].strip() for part in accept.split(",")]
    if protobuf_v2.MEDIA_TYPE in wanted and path.strip("/") == "openapi/v2":
        return document_v2_protobuf(resources)
    if accept and not any(part in JSON_RANGES for part in wanted):
        raise ApiError(
            not_acceptable("only the following media types are accepted: application/json")
        )
    match path.strip("/").split("/"):
        case ["openapi", "v2"]:
            return document_v2(resources)
        case ["openapi", "v3"]:
            return index_v3(resources)
        case ["openapi", "v3", "api", version] if version in versions(resources, ""):
            return document_v3(resources, "", version)
        case ["openapi", "v3", "apis", group, version] if group and version in versions(
            resources, group
        ):
            return document_v3(resources, group, version)
        case ["openapi", "v3", *rest] if "/".join(rest) in root_items(resources, VERSION_3):
            return root_document(resources, "/".join(rest))
    return None


@lru_cache(maxsize=4)
def _documented(resources: Resources) -> Resources:
    """Those with schemas: the published definitions do not have metrics.k8s.io (STREAM-17)."""
    return tuple([one for one in resources if one not in METRICS])


@lru_cache(maxsize=4)
def index_v3(resources: Resources) -> bytes:
    """The paths of the documents, each with a hash of its bytes, by which a client recognises that
    its copy is current (DISC-8)."""
    found: dict[str, bytes] = {
        name: root_document(resources, name) for name in root_items(resources, VERSION_3)
    }
    for group in ("", *groups(resources)):
        for version in versions(resources, group):
            name = f"apis/{group}/{version}" if group else f"api/{version}"
            found[name] = document_v3(resources, group, version)
    entries = {
        name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest_of(document)}"}
        for name, document in sorted(found.items())
    }
    return msgspec.json.encode({"paths": entries})


@lru_cache(maxsize=256)
def root_document(resources: Resources, name: str) -> bytes:
    """The document of one path that is not of resources (DISC-15)."""
    path, item, answer = root_items(resources, VERSION_3)[name]
    schemas = (
        {INFO_NAME: INFO_SCHEMA}
        if answer == INFO_NAME
        else closure((answer,), VERSION_3)
        if answer
        else {}
    )
    return _version_3({path: item}, schemas)


@lru_cache(maxsize=256)
def document_v3(resources: Resources, group: str, version: str) -> bytes:
    """The paths and schemas of one group version (DISC-9)."""
    chosen = tuple(
        resource
        for resource in resources
        if resource.group == group and resource.version == version
    )
    lists = list_items(chosen, VERSION_3)
    paths = dict(sorted((lists | paths_of(chosen, VERSION_3)).items()))
    return _version_3(paths, schemas_of(chosen, VERSION_3) | closure((APIResourceList,), VERSION_3))


def _version_3(paths: Tree, schemas: Tree) -> bytes:
    components = {
        "schemas": dict(sorted(schemas.items())),
        "securitySchemes": {"BearerToken": SECURITY},
    }
    tree = {"openapi": "3.0.0", "info": INFO, "paths": paths, "components": components}
    return msgspec.json.encode(tree)


@lru_cache(maxsize=4)
def document_v2(resources: Resources) -> bytes:
    """All paths and schemas in one document (DISC-9)."""
    roots = {path: item for path, item, _ in root_items(resources, VERSION_2).values()}
    paths = roots | list_items(resources, VERSION_2) | paths_of(resources, VERSION_2)
    return msgspec.json.encode(
        {
            "swagger": "2.0",
            "info": INFO,
            "paths": dict(sorted(paths.items())),
            "definitions": _definitions_v2(resources),
            "securityDefinitions": {"BearerToken": SECURITY},
            "security": [{"BearerToken": []}],
        }
    )


def _definitions_v2(resources: Resources) -> Tree:
    answers = (APIVersions, APIGroupList, APIResourceList)
    definitions = schemas_of(resources, VERSION_2) | closure(answers, VERSION_2)
    return dict(sorted((definitions | {INFO_NAME: INFO_SCHEMA}).items()))


@lru_cache(maxsize=4)
def document_v2_protobuf(resources: Resources) -> bytes:
    """The paths and schemas of version 2, for clients that accept only protobuf (DISC-13)."""
    paths, definitions = paths_of(resources, VERSION_2), _definitions_v2(resources)
    return protobuf_v2.encode_document(INFO["title"], INFO["version"], paths, definitions)
