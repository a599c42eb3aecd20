"""The discovery documents of this API server and of all others together. Rule APISVC-10
(spec/api_services.md).

Groups and versions are ordered by the priorities of their APIServices. Without another API server
the documents are those of core/apiserver/discovery.py. Source: Kubernetes documentation, "The
Kubernetes API" (Discovery API); API reference, "APIServiceSpec"; KEP-3352.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from refk8s.core.api.aggregated import Availability, RemoteResource
from refk8s.core.api.custom import version_order
from refk8s.core.apiserver import discovery
from refk8s.core.apiserver.admission.api_services import (
    GROUP_PRIORITIES,
    VERSION_PRIORITIES,
    VERSION_PRIORITY,
)
from refk8s.core.apiserver.aggregation.remotes import Remote, list_remotes
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.apiserver.outcome import Reader

Tree: TypeAlias = dict[str, Any]
Known: TypeAlias = Mapping[str, Any]
"""What other API servers said they serve, by the name of the APIService: the memory of the
availability controller."""

FIRST: Final = 20_000
"""The priority of a built-in group without an APIService."""
CUSTOM_GROUP, CUSTOM_VERSION = 1_000, 100


class Served(Value, frozen=True):
    """A group version of another API server. `resources`: what it serves as far as that is known;
    `is_stale`: perhaps not any more."""

    remote: Remote
    resources: tuple[RemoteResource, ...]
    is_stale: bool
    schema_hash: str


Others: TypeAlias = tuple[Served, ...]


def served_by_others(store: Reader, known: Known) -> Others:
    """Every group version of another API server. O(APIServices)."""
    found = []
    for remote in list_remotes(store):
        entry = known.get(remote.name)
        said: Availability | None = entry.known if entry is not None else None
        is_stale = entry is None or entry.is_stale or not remote.is_available
        resources = said.resources or () if said is not None else ()
        hash_ = said.schema_hash if said is not None else ""
        found.append(Served(remote, resources, is_stale, hash_))
    return tuple(found)


def discover(
    path: str, accept: str, resources: discovery.Resources, server_address: str, others: Others
) -> discovery.Answer | None:
    """As `discovery.discover`, with the group versions of other API servers."""
    is_aggregated = discovery.is_aggregated(accept)
    match path.strip("/").split("/"):
        case ["apis"] if others and is_aggregated:
            tree = discovery.aggregated(_local(resources, others), core=False)
            items = _ordered(tree["items"], lambda item: item["metadata"]["name"], others, _item)
            answer = {**tree, "items": items}
            return discovery.Answer(answer, discovery.AGGREGATED, "Accept", True)
        case ["apis"] if others:
            tree = discovery.group_list(_local(resources, others))
            items = _ordered(tree["groups"], lambda item: item["name"], others, _entry)
            return discovery.Answer({**tree, "groups": items}, vary="Accept")
        case ["apis", group] if any(one.remote.group == group for one in others):
            groups = discovery.group_list(_local(resources, others))["groups"]
            items = _ordered(groups, lambda item: item["name"], others, _entry)
            item = next(item for item in items if item["name"] == group)
            return discovery.Answer({"kind": "APIGroup", "apiVersion": "v1", **item})
    return discovery.discover(path, accept, resources, server_address)


def paths_of(others: Others) -> list[str]:
    """The paths of the discovery documents of other API servers (DISC-14)."""
    return [path for one in others for path in (f"/apis/{one.remote.group}", one.remote.root)]


def with_schemas(index: Tree, others: Others) -> Tree:
    """The index of OpenAPI documents with those of other API servers (DISC-8)."""
    paths = dict(index["paths"])
    for one in others:
        if one.schema_hash:
            name = one.remote.root[1:]
            query = "" if one.schema_hash == "none" else f"?hash={one.schema_hash}"
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}{query}"}
    return {**index, "paths": dict(sorted(paths.items()))}


# --- groups and versions in order


def _local(resources: discovery.Resources, others: Others) -> discovery.Resources:
    """The resources that this server itself serves."""
    theirs = {(one.remote.group, one.remote.version) for one in others}
    return tuple([one for one in resources if (one.group, one.version) not in theirs])


def _ordered(
    local: list[Tree],
    name_of: Callable[[Tree], str],
    others: Others,
    make: Callable[[str, list[Tree], list[Served]], Tree],
) -> list[Tree]:
    """The entries of all groups: those with a higher priority first, then as they come."""
    theirs: dict[str, list[Served]] = {}
    for one in others:
        theirs.setdefault(one.remote.group, []).append(one)
    entries: dict[str, Tree] = {}
    for item in local:
        name = name_of(item)
        found = theirs.get(name)
        entries[name] = make(name, item["versions"], found) if found else item
    for name in sorted(set(theirs) - set(entries)):
        entries[name] = make(name, [], theirs[name])
    found_names = sorted(entries, key=lambda name: -_group_priority(name, theirs.get(name, [])))
    return [entries[name] for name in found_names]


def _group_priority(name: str, theirs: list[Served]) -> int:
    """The highest one of the group's APIServices."""
    numbers = [one.remote.group_priority for one in theirs]
    if name in discovery.groups():
        numbers.append(GROUP_PRIORITIES.get(name, FIRST))
    elif not theirs:
        numbers.append(CUSTOM_GROUP)
    return max(numbers)


def _versions(name: str, local: list[Tree], theirs: list[tuple[Served, Tree]]) -> list[Tree]:
    """The versions of a group: those with a higher priority first."""
    is_builtin = name in discovery.groups()
    default = VERSION_PRIORITY if is_builtin else CUSTOM_VERSION
    found = [(VERSION_PRIORITIES.get((name, one["version"]), default), one) for one in local]
    found += [(served.remote.version_priority, one) for served, one in theirs]
    found.sort(key=lambda pair: (-pair[0], version_order(pair[1]["version"])))
    return [one for _, one in found]


def _entry(name: str, local: list[Tree], theirs: list[Served]) -> Tree:
    """A group of the list of groups."""
    made = [
        (one, {"groupVersion": f"{name}/{one.remote.version}", "version": one.remote.version})
        for one in theirs
    ]
    versions = _versions(name, local, made)
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _item(name: str, local: list[Tree], theirs: list[Served]) -> Tree:
    """A group of the aggregated form."""
    made = [
        (
            one,
            {
                "version": one.remote.version,
                "freshness": "Stale" if one.is_stale else "Current",
                "resources": _resources(one),
            },
        )
        for one in theirs
    ]
    return {"metadata": {"name": name}, "versions": _versions(name, local, made)}


def _resources(served: Served) -> list[Tree]:
    """The resources of a group version with their parts."""
    found: dict[str, Tree] = {}
    for one in served.resources:
        name, _, part = one.name.partition("/")
        if not part:
            found[name] = {
                "resource": name,
                "responseKind": _kind(served, one),
                "scope": "Namespaced" if one.namespaced else "Cluster",
                "singularResource": one.singular,
                "verbs": list(one.verbs),
                **({"shortNames": list(one.short_names)} if one.short_names else {}),
                **({"categories": list(one.categories)} if one.categories else {}),
            }
        elif name in found:  # they are sorted, so a resource comes before its parts
            entry = {"subresource": part, "responseKind": _kind(served, one), "verbs": list(one.verbs)}  # fmt: skip
            found[name].setdefault("subresources", []).append(entry)
    return list(found.values())


def _kind(served: Served, one: RemoteResource) -> Tree:
    """The kind of a response; of another group only if the other server says so."""
    remote = served.remote
    return {
        "group": one.group or remote.group,
        "version": one.version or remote.version,
        "kind": one.kind,
    }
