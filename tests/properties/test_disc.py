"""Discovery and OpenAPI: they tell the whole truth about what is served, and nothing else. Rules
DISC-1 ... DISC-14."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from refk8s.core.api.resources import (
    ALL,
    GROUPS,
    METRICS,
    PODS,
    ROLES,
    SERVED,
    Resource,
    type_of_kind,
)
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.discovery import AGGREGATED, JSON, discover, is_aggregated, versions
from refk8s.core.apiserver.http import WireRequest, plain
from refk8s.core.apiserver.openapi import openapi
from refk8s.core.apiserver.openapi.field_descriptions import FIELDS, KINDS
from refk8s.core.apiserver.respond import Reply
from refk8s.core.apiserver.route import Plain


def group_root(group: str) -> str:
    return f"/apis/{group}" if group else "/api"


NAMED = [(group, version) for group in ("", *GROUPS) for version in versions(SERVED, group)]
# metrics.k8s.io has no schemas
GROUP_VERSIONS = [one for one in NAMED if one[0] != METRICS[0].group]
by_group_version = pytest.mark.parametrize(("group", "version"), GROUP_VERSIONS)


def told(path: str, accept: str = "") -> Any:
    answer = discover(path, accept)
    assert answer is not None
    return answer.tree


# --- discovery

words = st.sampled_from(
    ["api", "apis", "v1", "v2", "apps", "version", "openapi", "batch", "", "v3", "pods"]
)
segments = st.one_of(words, st.text(max_size=5))
accepts = st.sampled_from(["", JSON, AGGREGATED, "*/*", ";;,=", "a;g"])


@given(st.lists(segments, max_size=5).map(lambda parts: "/" + "/".join(parts)), accepts)
def test_disc_1_a_path_is_a_document_or_none_or_a_404_of_a_known_group(
    path: str, accept: str
) -> None:
    try:
        answer = discover(path, accept)
    except ApiError as error:
        assert error.status.code == 404
        assert re.match(r"/+(api/|apis/[^/]+/)", path)
        event("404")
    else:
        event("none" if answer is None else "document")
        assert answer is None or msgspec.json.encode(answer.tree)


def test_disc_1_an_unknown_group_is_no_document_of_ours() -> None:
    assert discover("/apis/nothing.example.com") is None
    assert discover("/apis/nothing.example.com/v1") is None
    assert discover("/apis/core") is None and discover("/apis/") is not None


def test_disc_2_an_unknown_version_of_a_known_group_is_not_found() -> None:
    for path in ("/apis/apps/v9", "/api/v2", "/apis/apps/v1beta1"):
        with pytest.raises(ApiError) as raised:
            discover(path)
        assert raised.value.status.code == 404 and raised.value.status.reason == "NotFound"


def test_disc_3_every_group_is_listed_once_with_its_preferred_version_first() -> None:
    listed = told("/apis")["groups"]
    assert [entry["name"] for entry in listed] == list(GROUPS)
    for entry in listed:
        assert entry["preferredVersion"] == entry["versions"][0]
        assert told(f"/apis/{entry['name']}") == {"kind": "APIGroup", "apiVersion": "v1", **entry}
    assert told("/apis/autoscaling")["preferredVersion"]["version"] == "v2"
    assert told("/api")["versions"] == ["v1"]


@by_group_version
def test_disc_4_a_resource_list_has_exactly_the_resources_and_subresources_of_the_table(
    group: str, version: str
) -> None:
    listed = told(f"{group_root(group)}/{version}")
    assert listed["groupVersion"] == (f"{group}/{version}" if group else version)
    names = [entry["name"] for entry in listed["resources"]]
    assert names == sorted(names) and len(set(names)) == len(names)
    expected = {}
    for resource in ALL:
        if (resource.group, resource.version) == (group, version):
            expected[resource.plural] = (resource.kind, sorted(resource.verbs), resource.namespaced)
            for part in resource.subresources:
                expected[f"{resource.plural}/{part.name}"] = (
                    part.kind,
                    sorted(part.verbs),
                    resource.namespaced,
                )
    assert {
        entry["name"]: (entry["kind"], entry["verbs"], entry["namespaced"])
        for entry in listed["resources"]
    } == expected


def test_disc_4_a_body_of_another_group_is_told_with_its_group() -> None:
    pods = {entry["name"]: entry for entry in told("/api/v1")["resources"]}
    assert (pods["pods/eviction"]["group"], pods["pods/eviction"]["version"]) == ("policy", "v1")
    assert "group" not in pods["pods/binding"] and "group" not in pods["pods/status"]
    assert pods["pods"]["shortNames"] == ["po"] and pods["pods"]["categories"] == ["all"]


def test_disc_5_the_aggregated_form_says_what_the_lists_say() -> None:
    lists: dict[tuple[str, str, str], Any] = {}
    for group, version in NAMED:
        for entry in told(f"{group_root(group)}/{version}")["resources"]:
            kind = (entry.get("group", group), entry.get("version", version), entry["kind"])
            lists[group, version, entry["name"]] = (
                kind,
                entry["verbs"],
                entry.get("shortNames"),
                entry.get("categories"),
            )
    found: dict[tuple[str, str, str], Any] = {}
    items = told("/api", AGGREGATED)["items"] + told("/apis", AGGREGATED)["items"]
    assert [item["metadata"].get("name", "") for item in items] == ["", *GROUPS]
    for item in items:
        group = item["metadata"].get("name", "")
        for version in item["versions"]:
            for one in version["resources"]:
                name, kind = one["resource"], one["responseKind"]
                assert (kind["group"], kind["version"]) == ("", "")
                triple = (group, version["version"], kind["kind"])
                found[group, version["version"], name] = (
                    triple,
                    one["verbs"],
                    one.get("shortNames"),
                    one.get("categories"),
                )
                for part in one.get("subresources", []):
                    kind = part["responseKind"]
                    is_own = not kind["version"]
                    triple = (
                        group if is_own else kind["group"],
                        version["version"] if is_own else kind["version"],
                        kind["kind"],
                    )
                    found[group, version["version"], f"{name}/{part['subresource']}"] = (
                        triple,
                        part["verbs"],
                        None,
                        None,
                    )
    assert found == lists


@pytest.mark.parametrize("accept", ["", AGGREGATED])
def test_disc_5_the_form_depends_on_the_accept_header_and_says_so(accept: str) -> None:
    for path, vary in (
        ("/api", "Accept"),
        ("/apis", "Accept"),
        ("/apis/apps", ""),
        ("/version", ""),
    ):
        reply = plain(WireRequest("GET", path, headers={"accept": accept}), Plain(path, ()))
        assert dict(reply.headers()).get(b"vary", b"") == vary.encode()


def test_disc_14_the_root_names_every_document_and_each_of_them_is_there() -> None:
    def get(path: str) -> Reply:
        return plain(WireRequest("GET", path), Plain(path, ()))

    told_there = json.loads(get("/").content)["paths"]
    assert told_there == sorted(set(told_there))
    expected = {f"{group_root(group)}/{version}" for group, version in GROUP_VERSIONS} | {
        group_root(group) for group in GROUPS
    }
    assert expected | {
        "/api",
        "/apis",
        "/version",
        "/healthz",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
    } <= set(told_there)
    of_process = {"/metrics", "/metrics/slis"}  # it answers them (test_apiserver_metrics.py)
    assert of_process <= set(told_there)
    assert all(get(path).code == 200 for path in told_there if path not in of_process)


@pytest.mark.parametrize(
    ("accept", "aggregated"),
    [
        (AGGREGATED, True),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
            True,
        ),
        (
            "application/json, application/json; as=APIGroupDiscoveryList; v=v2; g=apidiscovery.k8s.io",
            True,
        ),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            False,
        ),
        ("application/json;g=apidiscovery.k8s.io;v=v2", False),
        ("application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_disc_5_the_aggregated_form_is_for_those_who_name_it_and_says_so(
    accept: str, aggregated: bool
) -> None:
    assert is_aggregated(accept) == aggregated
    answer = discover("/apis", accept)
    assert answer is not None and answer.media_type == (AGGREGATED if aggregated else JSON)


def test_disc_6_the_storage_version_hash_names_the_version_in_which_objects_are_kept() -> None:
    """The first value is that of a real cluster."""
    hashes = {(group, version, entry["name"]): entry.get("storageVersionHash") for group, version in GROUP_VERSIONS
              for entry in told(f"{group_root(group)}/{version}")["resources"]}  # fmt: skip
    assert hashes[ROLES.group, "v1", "roles"] == "7FuwZcIIItM="
    assert hashes["", "v1", "events"] == hashes["events.k8s.io", "v1", "events"]
    assert (
        hashes["autoscaling", "v1", "horizontalpodautoscalers"]
        == hashes["autoscaling", "v2", "horizontalpodautoscalers"]
    )
    assert hashes["", "v1", "pods/status"] is None and hashes["", "v1", "bindings"] is None


# --- OpenAPI


@cache
def document(path: str) -> Any:
    text = openapi(path)
    assert text is not None
    return json.loads(text)


def v3(group: str, version: str) -> Any:
    return document(
        f"/openapi/v3/apis/{group}/{version}" if group else f"/openapi/v3/api/{version}"
    )


def schemas(group: str, version: str) -> Any:
    return v3(group, version)["components"]["schemas"]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(one) for one in value.values()))
    return (
        set().union(*(references(one) for one in value))
        if isinstance(value, list) and value
        else set()
    )


@given(st.lists(segments, max_size=5).map(lambda parts: "/openapi/" + "/".join(parts)))
def test_disc_7_a_path_is_a_document_or_none(path: str) -> None:
    text = openapi(path)
    event("none" if text is None else "document")
    assert text is None or json.loads(text)


def test_disc_7_who_takes_no_json_is_not_given_any() -> None:
    for accept in ("application/com.github.proto-openapi.spec.v3@v1.0+protobuf", "text/html"):
        with pytest.raises(ApiError) as raised:
            openapi("/openapi/v2", accept)
        assert raised.value.status.code == 406
    for accept in (
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf,application/json",
        "*/*",
        "application/json;q=0.9",
        "",
    ):
        assert openapi("/openapi/v3", accept) is not None


def test_disc_8_the_index_leads_to_every_document_and_its_hash_is_that_of_the_bytes() -> None:
    index = document("/openapi/v3")["paths"]
    versions = [
        f"apis/{group}/{version}" if group else f"api/{version}"
        for group, version in GROUP_VERSIONS
    ]
    others = ["api", "apis", "version", ".well-known/openid-configuration", "openid/v1/jwks"]
    assert sorted(index) == sorted(
        versions + others + sorted({f"apis/{group}" for group, _ in GROUP_VERSIONS if group})
    )
    for name, entry in index.items():
        path, _, query = entry["serverRelativeURL"].partition("?hash=")
        assert path == f"/openapi/v3/{name}"
        text = openapi(path)
        assert text is not None and query == blake2b(text, digest_size=32).hexdigest().upper()


def test_disc_15_the_documents_of_discovery_and_the_version_are_described() -> None:
    """Each describes one path, which is served and answers what its schema says."""
    for name in ("api", "apis", "apis/apps", "version", "openid/v1/jwks"):
        found = document(f"/openapi/v3/{name}")
        ((path, item),) = found["paths"].items()
        assert path == f"/{name}/"
        schema = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        if schema == {"type": "string"}:
            continue
        described = found["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        answer = json.loads(plain(WireRequest("GET", f"/{name}"), Plain(f"/{name}", ())).content)
        assert set(described["required"]) <= set(answer) <= set(described["properties"])
    old = document("/openapi/v2")
    assert {"/version/", "/apis/", "/apis/apps/", "/apis/apps/v1/", "/api/v1/"} <= set(old["paths"])
    assert references(old["paths"]) <= {f"#/definitions/{name}" for name in old["definitions"]}


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/openapi/v3", ""),
        ("/openapi/v3/apis/apps/v1", ""),
        ("/openapi/v2", ""),
        ("/apis", AGGREGATED),
    ],
)
def test_disc_16_a_client_asks_by_hash_whether_its_copy_is_current(path: str, accept: str) -> None:
    def get(headers: dict[str, str], *query: tuple[str, str]) -> tuple[Reply, dict[bytes, bytes]]:
        reply = plain(
            WireRequest("GET", path, headers={"accept": accept, **headers}), Plain(path, query)
        )
        return reply, dict(reply.headers())

    reply, headers = get({})
    digest = headers[b"etag"].decode()
    assert (
        reply.code == 200
        and digest.strip('"') == blake2b(reply.content, digest_size=32).hexdigest().upper()
    )
    again, headers = get({"if-none-match": digest})
    assert (again.code, again.content, headers[b"etag"]) == (304, b"", digest.encode())
    assert get({"if-none-match": '"0"'})[0].code == 200
    moved, headers = get({}, ("hash", "0"))
    right = digest.strip('"')
    assert (moved.code, headers[b"location"]) == (301, f"{path}?hash={right}".encode())
    named, headers = get({}, ("hash", right))
    assert (named.code, headers[b"cache-control"]) == (200, b"public, immutable")


def test_disc_11_the_map_type_of_a_reference_is_in_its_schema() -> None:
    found = schemas("apps", "v1")
    assert (
        found["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"]["x-kubernetes-map-type"]
        == "atomic"
    )
    assert (
        "x-kubernetes-map-type"
        not in found["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["selector"]
    )


def test_disc_11_a_default_of_a_schema_may_have_any_type() -> None:
    found = schemas("apiextensions.k8s.io", "v1")
    fields = found["io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"]
    for name in ("additionalProperties", "default", "example", "items"):
        assert "type" not in fields["properties"][name], name
    assert "type" not in fields["properties"]["enum"]["items"]
    assert fields["properties"]["dependencies"]["type"] == "object"
    data = schemas("apps", "v1")["io.k8s.api.apps.v1.ControllerRevision"]["properties"]["data"]
    assert data["type"] == "object"


@by_group_version
def test_disc_9_every_reference_leads_to_a_schema(group: str, version: str) -> None:
    found = v3(group, version)
    known = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert references(found) <= known
    assert references(document("/openapi/v2")) <= {
        f"#/definitions/{name}" for name in document("/openapi/v2")["definitions"]
    }


def expected_operations(resource: Resource) -> set[tuple[str, str, str]]:
    """(path, method, action) of a resource, from its verbs."""
    root = f"{group_root(resource.group)}/{resource.version}"
    home = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}"
        if resource.namespaced
        else f"{root}/{resource.plural}"
    )
    one = home + "/{name}"
    places = {
        "list": {(home, "get", "list"), (f"{root}/{resource.plural}", "get", "list")},
        "create": {(home, "post", "post")},
        "deletecollection": {(home, "delete", "deletecollection")},
        "get": {(one, "get", "get")},
        "update": {(one, "put", "put")},
        "patch": {(one, "patch", "patch")},
        "delete": {(one, "delete", "delete")},
        "watch": set(),
    }
    return set().union(*(places[verb] for verb in resource.verbs))


@by_group_version
def test_disc_9_the_paths_are_those_of_the_verbs_each_with_its_kind_and_action(
    group: str, version: str
) -> None:
    mine = [resource for resource in ALL if (resource.group, resource.version) == (group, version)]
    found = set()
    names = set()
    for path, item in v3(group, version)["paths"].items():
        for method, operation in item.items():
            if path in (f"/api/{version}/", f"/apis/{group}/{version}/"):
                continue  # DISC-15
            if method == "parameters":
                assert {one["name"] for one in operation} == set(re.findall(r"{(\w+)}", path))
                continue
            assert operation["operationId"] not in names
            names.add(operation["operationId"])
            resource = next(
                one
                for one in mine
                if one.plural in path.replace("/namespaces/{namespace}", "").split("/")[3:5]
            )
            if not re.search(r"{name}/", path):
                found.add((path, method, operation["x-kubernetes-action"]))
                assert operation["x-kubernetes-group-version-kind"] == {
                    "group": group,
                    "kind": resource.kind,
                    "version": version,
                }
    assert found == set().union(*(expected_operations(resource) for resource in mine))


@by_group_version
def test_disc_12_kubectl_learns_that_the_server_checks_fields_and_takes_strategic_merge_patches(
    group: str, version: str
) -> None:
    for item in v3(group, version)["paths"].values():
        if (operation := item.get("patch")) is not None and operation[
            "x-kubernetes-action"
        ] == "patch":
            assert "fieldValidation" in [
                one["name"] for one in operation["parameters"] if one["in"] == "query"
            ]
            taken = operation["requestBody"]["content"]
            assert {
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            } <= set(taken)


@by_group_version
def test_disc_10_every_kind_of_the_group_has_one_schema_that_bears_its_name(
    group: str, version: str
) -> None:
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for name, schema in schemas(group, version).items():
        for one in schema.get("x-kubernetes-group-version-kind", []):
            kinds.setdefault((one["group"], one["version"], one["kind"]), []).append(name)
    for resource in ALL:
        if (resource.group, resource.version) == (group, version):
            assert len(kinds[group, version, resource.kind]) == 1
            if "list" in resource.verbs:
                assert len(kinds[group, version, resource.list_kind]) == 1


@by_group_version
def test_disc_10_the_properties_are_the_fields_on_the_wire(group: str, version: str) -> None:
    for schema in schemas(group, version).values():
        for one in schema.get("x-kubernetes-group-version-kind", []):
            type_ = type_of_kind(
                f"{one['group']}/{one['version']}" if one["group"] else one["version"], one["kind"]
            )
            if type_ is not None:
                assert sorted(schema["properties"]) == sorted(type_.__struct_encode_fields__)


# --- held against the published definitions, from which the records were made


@cache
def published() -> dict[str, Any]:
    package = importlib.util.find_spec("kubernetes_validate")
    assert package is not None and package.origin is not None
    path = (
        Path(package.origin).parent
        / "kubernetes-json-schema"
        / "v1.37.0-local"
        / "_definitions.json"
    )
    found: dict[str, Any] = json.loads(path.read_text())["$defs"]
    return found


def kind_of(schema: dict[str, Any]) -> Any:
    """The type of a field, in a form that both sides have."""
    if "allOf" in schema:
        return kind_of(schema["allOf"][0])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        is_opaque = "properties" not in published().get(
            name, {"properties": ()}
        ) and not name.endswith(("Quantity", "IntOrString", "Time"))
        # a part that is not generally available is kept as it is
        is_early = re.search(r"v\d+(alpha|beta)\d+", name)
        return "any" if is_opaque or is_early else name
    one = schema.get("type", "any")
    if isinstance(one, list):
        one = next(name for name in one if name != "null")
    if one == "array":
        return ["list", kind_of(schema["items"])]
    if one == "object" and "additionalProperties" in schema:
        return ["map", kind_of(schema["additionalProperties"])]
    return "any" if one == "object" else one


FACTS = ("patch-strategy", "patch-merge-key", "list-type", "list-map-keys")


@by_group_version
def test_disc_11_types_required_fields_and_merge_keys_are_the_published_ones(
    group: str, version: str
) -> None:
    compared = 0
    for name, schema in schemas(group, version).items():
        definition = published().get(name)
        if definition is None or "properties" not in definition:
            continue
        assert sorted(schema["properties"]) == sorted(definition["properties"]), name
        assert sorted(schema.get("required", [])) == sorted(definition.get("required", [])), name
        for field, wanted in definition["properties"].items():
            mine = schema["properties"][field]
            assert kind_of(mine) == kind_of(wanted), (name, field)
            for fact in FACTS:
                assert mine.get("x-kubernetes-" + fact) == wanted.get("x-kubernetes-" + fact), (
                    name,
                    field,
                    fact,
                )
            compared += 1
    assert compared > 10


def test_disc_11_both_versions_of_openapi_say_the_same() -> None:
    old = document("/openapi/v2")["definitions"]
    for group, version in GROUP_VERSIONS:
        for name, schema in schemas(group, version).items():
            for field, mine in schema.get("properties", {}).items():
                theirs = old[name]["properties"][field]
                assert kind_of(mine) == kind_of(theirs)
                for fact in FACTS:
                    assert mine.get("x-kubernetes-" + fact) == theirs.get("x-kubernetes-" + fact)


def test_disc_11_containers_merge_by_name() -> None:
    field = schemas("", "v1")["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert (field["x-kubernetes-patch-strategy"], field["x-kubernetes-patch-merge-key"]) == (
        "merge",
        "name",
    )
    assert PODS.kind in {
        one["kind"]
        for one in schemas("", "v1")["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"]
    }


@pytest.mark.parametrize("path", ["/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1", "/openapi/v2"])
def test_disc_18_the_fields_that_every_object_has_are_described(path):
    document = json.loads(openapi(path) or b"")
    found = document["definitions"] if "v2" in path else document["components"]["schemas"]
    kinds = 0
    for name, schema in found.items():
        fields = schema.get("properties", {})
        if {"apiVersion", "kind", "metadata"} <= set(fields):
            kinds += 1
            assert all(fields[one]["description"] for one in ("apiVersion", "kind", "metadata"))
        if name.endswith((".ObjectMeta", ".ListMeta")):
            described = {one for one in fields if fields[one].get("description")}
            assert described == set(fields) - {"shardInfo"}
    assert kinds > 10
    if "v2" not in path:  # beside a reference, clients of version 3 ignore other keywords
        assert '"$ref":' in json.dumps(found) and not list(_beside_references(found))


def test_disc_18_every_kind_and_every_text_has_its_place():
    seen: set[tuple[str, str]] = set()
    kinds: set[str] = set()
    for resource in ALL:
        path = (
            f"/openapi/v3/api{'s/' + resource.group if resource.group else ''}/{resource.version}"
        )
        for name, schema in json.loads(openapi(path) or b"")["components"]["schemas"].items():
            short = name.rpartition(".")[2]
            for field, shape in schema.get("properties", {}).items():
                if shape.get("description"):
                    seen.add((short, field))
            if "description" in schema:
                kinds.add(short)
            if short == resource.kind:
                fields = schema["properties"]
                assert schema["description"], f"{name} has no description"
                assert all(
                    fields[one]["description"] for one in ("spec", "status") if one in fields
                )
    # no text is about a kind or a field that is not served
    assert {(name, field) for name, fields in FIELDS.items() for field in fields} <= seen
    assert set(KINDS) - {"Eviction", "Scale", "TokenRequest", "Binding"} <= kinds


def _beside_references(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        own = [tree] if "$ref" in tree and len(tree) > 1 else []
        return own + [one for value in tree.values() for one in _beside_references(value)]
    return [one for value in tree for one in _beside_references(value)] if isinstance(tree, list) else []  # fmt: skip
