"""The paths of discovery, of the version and of the issuer's keys, as OpenAPI describes them. Rule
DISC-15 (spec/discovery.md)."""

from typing import Any, TypeAlias

from refk8s.core.api.meta_v1 import APIGroup, APIGroupList, APIResourceList, APIVersions
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.discovery import VERSION, groups, versions
from refk8s.core.apiserver.issuer import CONFIGURATION, KEYS
from refk8s.core.apiserver.openapi.schemas import Flavour, name_of, reference

Tree: TypeAlias = dict[str, Any]

INFO_NAME = "io.k8s.apimachinery.pkg.version.Info"
_REQUIRED = (
    "buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "major",
    "minor", "platform",
)  # fmt: skip
INFO: Tree = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in sorted(VERSION)},
    "required": list(_REQUIRED),
}
"""The schema of the answer at /version."""

_TEXTS = {
    CONFIGURATION.strip("/"): "getServiceAccountIssuerOpenIDConfiguration",
    KEYS.strip("/"): "getServiceAccountIssuerOpenIDKeyset",
}


def capital(group: str) -> str:
    """Core, Apps, RbacAuthorization: a group in operation identifiers."""
    return "".join(
        part.capitalize() for part in (group.removesuffix(".k8s.io") or "core").split(".")
    )


def root_items(
    resources: tuple[Resource, ...], flavour: Flavour
) -> dict[str, tuple[str, Tree, Any]]:
    """By the name of its document ("apis/apps"): the path, its operation, and the record of its
    answer (None: not a record)."""
    found = {
        "version": _item("version", "getCodeVersion", INFO_NAME, flavour),
        "api": _item("api", "getCoreAPIVersions", APIVersions, flavour),
        "apis": _item("apis", "getAPIVersions", APIGroupList, flavour),
    }
    for group in groups(resources):
        name = f"apis/{group}"
        found[name] = _item(name, f"get{capital(group)}APIGroup", APIGroup, flavour)
    for name, identifier in _TEXTS.items():
        found[name] = _item(name, identifier, None, flavour)
    return found


def list_items(resources: tuple[Resource, ...], flavour: Flavour) -> Tree:
    """The paths of the resource lists of these resources."""
    found = {}
    for group in dict.fromkeys(one.group for one in resources):
        for version in versions(resources, group):
            name = f"apis/{group}/{version}" if group else f"api/{version}"
            identifier = f"get{capital(group)}{version.capitalize()}APIResources"
            path, operation, _ = _item(name, identifier, APIResourceList, flavour)
            found[path] = operation
    return found


def _item(name: str, identifier: str, answer: Any, flavour: Flavour) -> tuple[str, Tree, Any]:
    shown = {"type": "string"} if answer is None else reference(name_of(answer), flavour)
    content = (
        {"schema": shown}
        if flavour.number == 2
        else {"content": {"application/json": {"schema": shown}}}
    )
    responses = {"200": {"description": "OK", **content}, "401": {"description": "Unauthorized"}}
    operation: Tree = {"operationId": identifier, "responses": responses}
    if flavour.number == 2:
        operation |= {"consumes": ["application/json"], "produces": ["application/json"]}
    return f"/{name}/", {"get": operation}, answer
