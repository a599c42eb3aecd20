"""Laws of the way from bytes to a request and back, rules API-10 ... API-15 and API-21 ... API-25
(spec/api.md)."""

from __future__ import annotations

import json

import pytest
from api_world import START, World, populated
from hypothesis import given
from hypothesis import strategies as st
from test_api import PATHS, a_token

from refk8s.core.api import resources
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver import protobuf, protobuf_encode
from refk8s.core.apiserver.accept import PROTOBUF, accept
from refk8s.core.apiserver.authenticate import authenticate
from refk8s.core.apiserver.config import DEFAULT_CONFIG
from refk8s.core.apiserver.http import Connection
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.route import Plain, route

# --- who asks, and for what


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic dXNlcjpwYXNz", "Bearer a.b.c", "Bearer ü.ü.ü"]
)
def test_api_15_without_a_token_of_ours_nobody_comes_in(header):
    assert authenticate(header, DEFAULT_CONFIG, START) is None
    world = World()
    assert world.http("GET", PATHS, user=None).code == 401
    for path in ("/healthz", "/livez", "/readyz", "/readyz?verbose", "/version"):
        assert world.http("GET", path, user=None).code == 200


def test_api_13_whoever_is_somebody_may_do_everything():
    token, now = a_token()
    user = authenticate(f"Bearer {token}", DEFAULT_CONFIG, now)
    assert World().http("GET", "/api/v1/nodes", user=user).code == 200


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "FOO")
SERVED = {
    "GET": ("get", "list"),
    "POST": ("create",),
    "PUT": ("update",),
    "PATCH": ("patch",),
    "DELETE": ("delete", "deletecollection"),
}


@pytest.mark.parametrize("resource", resources.ALL, ids=repr)
def test_api_10_api_11_every_path_of_the_table_is_served_and_no_other(resource):
    """API-10, API-11."""
    # Shows API-10.a API-10.b.
    base = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    there = (
        f"{base}/namespaces/default/{resource.plural}"
        if resource.namespaced
        else f"{base}/{resource.plural}"
    )
    for method in METHODS:
        for path, on in (
            (there, ("list", "create", "deletecollection")),
            (f"{there}/name", ("get", "update", "patch", "delete")),
        ):
            verbs = [
                verb for verb in SERVED.get(method, ()) if verb in on and verb in resource.verbs
            ]
            target = outcome_of(method, path)
            assert (
                target == 405
                if not verbs
                else (target.verb, target.resource, target.name)
                == (verbs[0], resource, "name" if path != there else "")
            )
    elsewhere = (
        f"{base}/{resource.plural}/name"
        if resource.namespaced
        else f"{base}/namespaces/default/{resource.plural}"
    )
    assert outcome_of("GET", elsewhere) == 404
    assert outcome_of("GET", f"{there}/name/nothing") == 404
    for part in resource.subresources:
        target = outcome_of("GET", f"{there}/name/{part.name}")
        assert target == 405 if "get" not in part.verbs else target.subresource == part.name


def outcome_of(method, path, query=""):
    try:
        return route(method, path, query)
    except ApiError as error:
        return error.status.code


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/apis/nothing.example.com/v1/things",
        "/api",
        "/apis",
        "/openapi/v2",
        "/apis/apps",
        "/apis/apps/v1",
    ],
)
def test_api_10_what_is_no_resource_is_plain(path):
    assert isinstance(outcome_of("GET", path), Plain)


@pytest.mark.parametrize("name", [".", "..", "a%25b"])
def test_api_10_what_can_be_no_name_is_refused(name):
    # Shows API-10.c.
    assert World().http("GET", f"{PATHS}/{name}").code == 400


def test_api_10_streams_to_containers_are_handed_on_with_all_that_they_need():
    world = populated()
    connect = world.http(
        "POST",
        "/api/v1/namespaces/default/pods/a/exec?command=sh&command=-c&stdin=true&container=c",
        b"",
    )
    assert isinstance(connect, Connect)
    asked: Connection = connect.request.body
    assert (
        asked.all("command") == ("sh", "-c")
        and asked.get("container") == "c"
        and asked.get("tty") == ""
    )
    assert world.http("GET", "/api/v1/namespaces/default/pods/none/log").code == 404


# --- forms and bodies


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", ("application/json", "")),
        ("*/*", ("application/json", "")),
        ("application/yaml", ("application/yaml", "")),
        (f"{PROTOBUF},application/json", (PROTOBUF, "")),
        (f"{PROTOBUF};q=0.5,application/json", ("application/json", "")),
        (f"*/*,{PROTOBUF}", (PROTOBUF, "")),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,application/json", ("application/json", "")),
        (
            f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            (PROTOBUF, "PartialObjectMetadata"),
        ),
        (f"{PROTOBUF};stream=watch", (PROTOBUF, "")),
        ("application/yaml;stream=watch,application/json;stream=watch", ("application/json", "")),
        ("application/cbor,application/yaml", ("application/yaml", "")),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            ("application/json", "Table"),
        ),
        (
            "application/json;as=Nothing;v=v1;g=meta.k8s.io,application/json",
            ("application/json", ""),
        ),
        ("application/json;q=0.1,application/yaml;q=0.9", ("application/yaml", "")),
    ],
)
def test_api_21_the_first_form_that_there_is(header, form):
    # Shows API-21.a.
    found = accept(header)
    assert (found.media_type, found.shown) == form


@pytest.mark.parametrize(
    "header",
    [
        "text/html",
        f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io",
        f"{PROTOBUF};stream=other",
        "application/yaml;stream=watch",
        "application/json;as=Nothing",
        ";",
        "application/json;q=0",
        "application/cbor",
    ],
)
def test_api_21_none_that_there_is_is_406(header):
    # Shows API-21.b.
    reply = World().http("GET", PATHS, headers={"accept": header})
    assert reply.code == 406 and json.loads(reply.content)["reason"] == "NotAcceptable"


def test_api_21_metadata_alone_and_of_what():
    # Shows API-21.a API-21.b.
    world = populated()
    one, many = (
        {"accept": f"application/json;as={kind};v=v1;g=meta.k8s.io"}
        for kind in ("PartialObjectMetadata", "PartialObjectMetadataList")
    )
    assert set(json.loads(world.http("GET", f"{PATHS}/a", headers=one).content)) == {
        "kind",
        "apiVersion",
        "metadata",
    }
    assert [
        set(item) for item in json.loads(world.http("GET", PATHS, headers=many).content)["items"]
    ] == [{"kind", "apiVersion", "metadata"}]
    assert (
        world.http("GET", f"{PATHS}/a", headers=many).code
        == 406
        == world.http("GET", PATHS, headers=one).code
    )


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/cbor", ";;;", "application/merge-patch+json"]
)
def test_api_22_a_body_of_another_media_type_is_415(media_type):
    # Shows API-22.b API-22.c PATCH-2.b.
    world = World()
    assert (
        world.http("POST", PATHS, {"metadata": {"name": "a"}}, {"content-type": media_type}).code
        == 415
    )
    assert world.http("PATCH", f"{PATHS}/a", {}, {"content-type": "application/json"}).code == 415


@pytest.mark.parametrize(
    ("method", "path", "media_type", "listed"),
    [
        ("POST", PATHS, "application/cbor", "application/json, application/yaml, application/vnd.kubernetes.protobuf"),
        ("DELETE", f"{PATHS}/a", "application/cbor", "application/json, application/yaml, application/vnd.kubernetes.protobuf"),
        ("PATCH", f"{PATHS}/a", "application/apply-patch+cbor", "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"),
    ],
)  # fmt: skip
def test_api_22_cbor_is_refused_with_what_is_accepted(method, path, media_type, listed):
    reply = populated().http(method, path, b"\xd9\xd9\xf7\xa0", {"content-type": media_type})
    words = "the body of the request was in an unknown format - accepted media types include: "
    assert reply.code == 415 and json.loads(reply.content)["message"] == words + listed


@pytest.mark.parametrize("query", ["", "?watch=1"])
def test_api_21_cbor_is_not_answered(query):
    for accepted in ("application/cbor", "application/cbor-seq"):
        world = populated()
        reply = world.http("GET", PATHS + query, headers={"accept": accepted})
        assert reply.code == 406
        listed = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        if query:
            listed = (
                "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
            )
        words = f"only the following media types are accepted: {listed}"
        assert json.loads(reply.content)["message"] == words
        both = {"accept": f"{accepted},application/json"}
        assert world.http("GET", PATHS + query, headers=both).code == 200


def test_api_22_json_and_protobuf_make_the_same_object():
    # Shows API-22.a.
    tree = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "data": {"k": "v"},
    }
    worlds = World(), World()
    plain = worlds[0].http("POST", PATHS, tree, {"content-type": "application/json; charset=utf-8"})
    other = worlds[1].http(
        "POST", PATHS, protobuf_encode.encode(tree), {"content-type": protobuf.MEDIA_TYPE}
    )
    assert plain.code == other.code == 201 and plain.content == other.content


def test_api_22_too_much_is_413():
    # Shows API-22.b.
    assert World().http("POST", PATHS, b" " * (3 * 1024 * 1024 + 1)).code == 413


@pytest.mark.parametrize(
    ("validation", "code", "warnings"),
    [("Strict", 400, 0), ("Warn", 201, 2), ("", 201, 2), ("Ignore", 201, 0), ("Else", 422, 0)],
)
def test_api_23_unknown_and_repeated_fields_are_dropped_told_or_refused(validation, code, warnings):
    # Shows API-23.a API-23.b API-23.c.
    body = b'{"metadata": {"name": "a", "nothing": 1}, "data": {"k": "v", "k": "w"}}'
    reply = World().http("POST", f"{PATHS}?fieldValidation={validation}", body)
    assert reply.code == code and len(reply.warnings) == warnings
    assert len([name for name, _ in reply.headers() if name == b"warning"]) == warnings


def test_api_25_discovery_and_health_stand_beside_the_resources():
    # Shows API-25.a API-25.b.
    world = World()
    assert json.loads(world.http("GET", "/apis/apps/v1").content)["kind"] == "APIResourceList"
    assert world.http("GET", "/apis/nothing.example.com").content == b"404 page not found\n"
    assert b"readyz check passed" in world.http("GET", "/readyz?verbose").content
    assert world.http("POST", "/version").code == 405


# --- whatever comes over the wire (API-14)

WORDS = [
    "-1",
    "abc",
    "%00",
    "a%3D%3D%3Db",
    "a in (",
    "!",
    "999999999999999999999",
    "9" * 5000,
    "true",
    "..",
    "%ff",
    "",
    "{}",
    "None,All",
    "0",
    "1",
    "Foreground",
]
PARAMETERS = [
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "watch",
    "timeoutSeconds",
    "fieldValidation",
    "dryRun",
    "propagationPolicy",
    "gracePeriodSeconds",
    "pretty",
    "fieldManager",
    "force",
    "orphanDependents",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "includeObject",
]
COLLECTIONS = [
    "/api/v1/namespaces/default/configmaps",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/api/v1/nodes",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/replicasets",
    "/api/v1/namespaces",
    "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "/api/v1/events",
    "/apis/events.k8s.io/v1/namespaces/default/events",
    "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers",
    "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    "/apis/authentication.k8s.io/v1/tokenreviews",
    "/api/v1/componentstatuses",
    "/api/v1/namespaces/default/bindings",
    "/apis",
    "/watch",
    "/",
]
ENDS = [
    "",
    "/a",
    "/a/status",
    "/a/scale",
    "/%2e%2e",
    "/none",
    "/" + "n" * 300,
    "/UPPER",
    "/a/binding",
    "/a/eviction",
    "/a/token",
    "/a/finalize",
    "/a/log",
    "/a/ephemeralcontainers",
    "/a/resize",
    "/a/proxy/x/y",
    "//",
    "/a/b/c/d",
]
TYPES = [
    "",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
]
junk = st.sampled_from(
    [
        None,
        0,
        -1,
        1.5,
        "",
        "x" * 5000,
        "\0",
        "ü/..",
        [],
        {},
        [[]],
        {"a": {"b": []}},
        True,
        "2020-13-45",
        "-1Gi",
        [None],
        2**70,
    ]
)
bodies = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[" * 20000,
            b'{"a":' * 5000,
            b"k8s\0",
            b"null",
            b"--- \n- : [",
            b'{"kind":"A","kind":"B"}',
        ]
    ),
    st.recursive(
        junk,
        lambda inner: st.dictionaries(
            st.sampled_from(["metadata", "spec", "status", "name", "data", "kind", "target", "op"]),
            inner,
        ),
        max_leaves=6,
    ).map(lambda tree: json.dumps(tree).encode()),
    st.fixed_dictionaries(
        {
            "metadata": st.dictionaries(
                st.sampled_from(
                    ["name", "labels", "finalizers", "ownerReferences", "uid", "resourceVersion"]
                ),
                junk,
            ),
            "spec": junk,
        }
    ).map(
        lambda tree: json.dumps({**tree, "metadata": {"name": "a", **tree["metadata"]}}).encode()
    ),
)


@pytest.mark.parametrize("parameter", ["limit", "timeoutSeconds", "gracePeriodSeconds"])
@pytest.mark.parametrize(
    "text", ["", "abc", "1.5", "--1", "9" * 19, "-" + "9" * 19, "9" * 5000, "٣"]
)
def test_api_14_a_number_that_is_none_is_refused(parameter, text):
    method = "DELETE" if parameter == "gracePeriodSeconds" else "GET"
    assert populated().http(method, f"{PATHS}?{parameter}={text}").code == 400


@given(
    st.sampled_from(METHODS),
    st.sampled_from(COLLECTIONS),
    st.sampled_from(ENDS),
    st.lists(st.tuples(st.sampled_from(PARAMETERS), st.sampled_from(WORDS)), max_size=3),
    st.sampled_from(TYPES),
    st.sampled_from(
        [
            "",
            "*/*",
            "application/json;as=Table;g=meta.k8s.io;v=v1",
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            ";",
            "text/html",
        ]
    ),
    bodies,
)
def test_api_14_whatever_comes_over_the_wire_is_answered(
    method, collection, end, parameters, content_type, accepted, body
):
    # Shows API-14.a API-14.b.
    world = populated()
    query = "&".join(f"{key}={value}" for key, value in parameters)
    reply = world.http(
        method,
        f"{collection}{end}?{query}",
        body,
        {"content-type": content_type, "accept": accepted},
    )
    if isinstance(reply, Connect):
        return
    assert reply.code < 500
    if reply.code >= 400 and reply.media_type == "application/json":
        said = json.loads(reply.content)
        assert (
            said["kind"] == "Status"
            and said["reason"]
            and said["message"]
            and said["code"] == reply.code
        )
