"""Other API servers behind this one: APISVC-5 to APISVC-12 (spec/api_services.md)."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_apisvc import PATH, Registering, an_api_service

from refk8s.core.api.aggregated import aggregated_resource
from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.api.custom import CustomList, CustomObject
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    GROUPS,
    NAMESPACES,
    POD_METRICS,
    SERVICES,
)
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.aggregation.availability import (
    ATTEMPTS,
    RESOURCES_MAX,
    read_resources,
)
from refk8s.core.apiserver.aggregation.forwarding import compute_head, is_redirect
from refk8s.core.apiserver.aggregation.identity import identity_headers
from refk8s.core.apiserver.aggregation.remotes import find_remote, is_plain, remote_for
from refk8s.core.apiserver.authorize.modes import authorizers
from refk8s.core.apiserver.calls import Answered, Call, Result, Unanswered
from refk8s.core.apiserver.http import Forward, WireRequest, receive
from refk8s.core.apiserver.respond import Reply
from refk8s.core.components import controller_manager
from refk8s.core.context import SECOND
from refk8s.core.controllers.api_service_availability import NAME as AVAILABILITY
from refk8s.core.value import evolve

GROUP, VERSION, NAME = "wardle.example.com", "v1alpha1", "v1alpha1.wardle.example.com"
ROOT = f"/apis/{GROUP}/{VERSION}"
SERVICE = {"namespace": "default", "name": "s", "port": 7443}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FLUNDERS = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list"]}  # fmt: skip


class Behind(Registering):
    """A world with another API server. `answers` are its answers by path; the component of the API
    server runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.answers: dict[str, Result] = {}
        self.serve(ROOT, {"resources": [FLUNDERS]})

    def serve(self, path: str, tree: Any, code: int = 200) -> None:
        self.answers[path] = Answered(code, json.dumps(tree).encode())

    def answer(self, call: Call) -> Result:
        self.calls.append(call)
        path = call.url.partition(".svc:")[2].partition("/")[2].partition("?")[0]
        return self.answers.get(f"/{path}", Answered(404, b"{}"))

    def register(self, name: str = NAME, **spec: Any) -> None:
        version, _, group = name.partition(".")
        body = an_api_service(name, **{"group": group, "version": version, "service": SERVICE, **spec})  # fmt: skip
        code, answer = self.send("POST", PATH, body)
        assert code == 201, answer

    def add_service(self, kind: str = "ClusterIP", port: int = 7443) -> None:
        spec = ServiceSpec(type=kind, ports=(ServicePort(port=port),), external_name="x.example.com" if kind == "ExternalName" else None)  # fmt: skip
        made = Service(metadata=ObjectMeta(name="s"), spec=spec)
        assert self.do(Request("create", SERVICES, "default", body=made, user=ADMIN)).response.ok

    def add_slice(self, *, ready: bool | None = True, port: str = "", name: str = "e") -> None:
        labels = {"kubernetes.io/service-name": "s"}
        made = EndpointSlice(
            metadata=ObjectMeta(name=name, labels=labels),
            address_type="IPv4",
            endpoints=(Endpoint(addresses=("10.1.2.3",), conditions=EndpointConditions(ready=ready)),),
            ports=(EndpointPort(name=port, port=443),),
        )  # fmt: skip
        request = Request("create", ENDPOINT_SLICES, "default", body=made, user=ADMIN)
        assert self.do(request).response.ok

    def condition(self, name: str = NAME) -> Any:
        conditions = self.names()[name].status.conditions or ()
        return next((one for one in conditions if one.type == "Available"), None)

    def receive(self, method: str, target: str, user: User | None = ADMIN, accept: str = "") -> Any:
        path, _, query = target.partition("?")
        wire = WireRequest(method, path, query, {"accept": accept})
        known = self.state.memories[AVAILABILITY]
        return receive(wire, user, config=self.config, store=self.history, known=lambda: known)

    def show(self, path: str, accept: str = "") -> Any:
        reply = self.receive("GET", path, accept=accept)
        assert reply.code == 200, reply
        return json.loads(reply.content)


@pytest.fixture
def available() -> Behind:
    world = Behind()
    world.add_service()
    world.add_slice()
    world.register()
    world.run(3)
    assert world.condition().status == "True"
    return world


# --- which requests

segments = st.text(st.sampled_from("ab./%2eF-"), max_size=6)


@given(st.lists(segments, max_size=4), st.sampled_from([GROUP, *GROUPS]), st.sampled_from(["v1", VERSION]))  # fmt: skip
def test_apisvc_5_a_path_belongs_to_the_api_service_of_its_group_and_version(rest, group, version):
    """A naive reference: the decoded path, segment by segment."""
    world = Behind()
    world.register()
    path = "/".join(["/apis", group, version, *rest])
    found = find_remote(path, world.history)
    assert (found is not None) == ((group, version) == (GROUP, VERSION))
    assert find_remote(f"/openapi/v3{path}", world.history) == found
    plain = unquote(path).split("/")[1:]
    while plain and not plain[-1]:
        plain.pop()
    if is_plain(path):
        assert not {"", ".", ".."} & set(plain)


@given(st.lists(segments, max_size=4))
def test_apisvc_5_every_other_path_is_answered_here(parts):
    world = Behind()
    world.register()
    path = "/" + "/".join(parts)
    # another group and version with the same name together
    assert find_remote(f"/apis/example.com/{VERSION}.wardle", world.history) is None
    assert find_remote(path, world.history) is None
    assert find_remote(quote(ROOT, safe=""), world.history) is None
    assert find_remote(f"/apis/{quote(GROUP, safe='')}", world.history) is None


def test_apisvc_5_of_the_built_in_groups_only_metrics_may_be_served_by_another():
    """Shows APISVC-5.c."""
    world = Behind()
    for group in ("apps", "metrics.k8s.io"):
        world.register(f"v1beta1.{group}")
    assert find_remote("/apis/apps/v1beta1/deployments", world.history) is None
    found = find_remote("/apis/metrics.k8s.io/v1beta1/nodes", world.history)
    assert found is not None
    assert remote_for("", "v1", world.history) is None


def test_apisvc_5_the_user_is_authorized_first(available):
    """A user who may not gets 403, whether the other server is available or not; the attributes are
    those of the path."""
    authorizer, roles = authorizers(("RBAC",))
    available.config = evolve(available.config, authorizer=authorizer, roles=roles)
    jane = User("jane", groups=("system:authenticated",))
    for one in (available, Behind()):
        one.config = available.config
        if NAME not in one.names():
            one.register()
        reply = one.receive("GET", f"{ROOT}/namespaces/default/flunders/a", jane)
        assert isinstance(reply, Reply)
        message = json.loads(reply.content)["message"]
        words = f'cannot get resource "flunders" in API group "{GROUP}" in the namespace "default"'
        assert (reply.code, words in message) == (403, True)
    forward = available.receive("DELETE", f"{ROOT}/namespaces/default/flunders?labelSelector=a")
    assert isinstance(forward, Forward)
    request = forward.request
    assert request is not None
    where = request.verb, request.resource.plural, request.namespace, request.name
    assert where == ("deletecollection", "flunders", "default", "")
    assert available.receive("GET", ROOT).request is None
    assert available.receive("GET", f"{ROOT}/../v1").code == 404


# --- who asks

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8)
users = st.builds(
    User,
    texts,
    uid=texts,
    groups=st.lists(texts, max_size=3).map(tuple),
    extra=st.dictionaries(texts, st.lists(texts, max_size=2).map(tuple), max_size=2).map(
        lambda found: tuple(sorted(found.items()))
    ),
)
client_headers = st.lists(
    st.tuples(
        st.sampled_from([b"X-Remote-User", b"x-remote-group", b"x-remote-uid", b"x-remote-extra-a", b"authorization", b"impersonate-user", b"connection", b"accept", b"Host"]),
        st.sampled_from([b"root", b"x-remote-user", b"x-remote-group, host"]),
    ),
    max_size=6,
)  # fmt: skip


@given(users, client_headers)
def test_apisvc_6_the_user_is_named_whole_and_by_this_server_alone(user, sent):
    world = Behind()
    world.register()
    remote = find_remote(ROOT, world.history)
    assert remote is not None
    try:
        head = compute_head(remote, user, "GET", ROOT, sent, "10.0.0.9")
    except ValueError:
        everything = [user.name, user.uid, *user.groups, *(v for _, vs in user.extra for v in vs)]
        assert any(
            (ord(c) < 32 and c != "\t") or ord(c) == 127 for text in everything for c in text
        )
        return
    lines = [line.partition(b": ")[::2] for line in head.split(b"\r\n")[1:-2]]
    found = [(name.lower().decode(), value.decode("utf-8")) for name, value in lines]
    assert [value for name, value in found if name == "x-remote-user"] == [user.name]
    assert [value for name, value in found if name == "x-remote-group"] == list(user.groups)
    assert [value for name, value in found if name == "x-remote-uid"] == [user.uid] * bool(user.uid)
    extra = [
        (unquote(name.removeprefix("x-remote-extra-")), value)
        for name, value in found
        if name.startswith("x-remote-extra-")
    ]
    assert extra == [(key.lower(), value) for key, values in user.extra for value in values]
    names = {name for name, _ in found}
    assert not names & {"authorization", "impersonate-user"}
    assert [value for name, value in found if name == "host"] == ["s.default.svc:7443"]
    assert ("x-forwarded-for", "10.0.0.9") in found


@pytest.mark.parametrize("name", ["a\r\nx-remote-group: system:masters", "a\nb", "a\0"])
def test_apisvc_6_no_header_can_be_smuggled_in_a_name(name):
    with pytest.raises(ValueError):
        identity_headers(User(name))


def test_apisvc_8_what_leads_elsewhere_is_not_followed():
    assert is_redirect(302, b"https://elsewhere/")
    assert not is_redirect(304, b"")
    assert not is_redirect(200, b"https://elsewhere/")


def test_apisvc_8_an_unavailable_server_is_503(available):
    path = f"{ROOT}/namespaces/default/flunders"
    assert isinstance(available.receive("GET", path), Forward)
    available.answers.clear()
    available.run(8)
    reply = available.receive("GET", path)
    assert (reply.code, reply.content) == (503, b"service unavailable\n")
    taken = available.do(Request("list", aggregated_resource(GROUP, VERSION, "flunders"), "default", user=ADMIN))  # fmt: skip
    assert (taken.response.code, taken.response.body.message) == (503, "service unavailable")


# --- whether it is available


def test_apisvc_9_the_condition_says_what_is_wrong():
    """Shows APISVC-9.a to APISVC-9.d."""
    world = Behind()
    world.register()
    assert world.condition() is None
    world.run(2)
    found = world.condition()
    assert (found.status, found.reason) == ("False", "ServiceNotFound")
    assert found.message == 'service/s in "default" is not present'
    since = found.last_transition_time
    world.add_service(port=1)
    world.run(2)
    assert world.condition().reason == "ServicePortError"
    assert world.condition().last_transition_time == since
    assert world.do(Request("delete", SERVICES, "default", "s", user=ADMIN)).response.ok
    world.add_service()
    world.run(2)
    assert world.condition().reason == "EndpointsNotFound"
    world.add_slice(port="other", name="e1")
    world.run(2)
    assert world.condition().reason == "MissingEndpoints"
    world.add_slice(ready=False, name="e2")
    world.run(2)
    assert world.condition().reason == "MissingEndpoints"
    assert not world.calls
    world.add_slice(ready=None, name="e3")
    world.serve(ROOT, {}, 403)
    world.run(2)
    url = f"https://s.default.svc:7443{ROOT}"
    words = f"failing or missing response from {url}: bad status from {url}: 403"
    assert (world.condition().reason, world.condition().message) == ("FailedDiscoveryCheck", words)
    world.answers[ROOT] = Unanswered("Get: connection refused")
    world.run(2)
    assert world.condition().message == f"failing or missing response from {url}: Get: connection refused"  # fmt: skip
    world.serve(ROOT, {"resources": [FLUNDERS]})
    world.run(3)
    found = world.condition()
    assert (found.status, found.reason, found.message) == ("True", "Passed", "all checks passed")
    assert found.last_transition_time != since


def test_apisvc_9_one_of_several_answers_suffices(available):
    """Endpoints are chosen at random, and one that is dead does not make the server unavailable."""
    good = available.answers[ROOT]
    number = 0

    def answer(call: Call) -> Result:
        nonlocal number
        number += 1
        return good if number % ATTEMPTS == 0 else Unanswered("dead")

    available.answer = answer
    available.run(8)
    assert number >= ATTEMPTS
    assert available.condition().status == "True"


def test_apisvc_9_other_conditions_stay_and_a_changed_one_is_restored(available):
    path = f"{PATH}/{NAME}"
    _, tree = available.send("GET", path)
    tree["status"]["conditions"] = [{"type": "Mine", "status": "True"}]
    assert available.send("PUT", f"{path}/status", tree)[0] == 200
    available.run(2)
    conditions = available.names()[NAME].status.conditions
    assert [(one.type, one.status) for one in conditions] == [("Mine", "True"), ("Available", "True")]  # fmt: skip
    # without its service it is this server's
    merge = "application/merge-patch+json"
    patch = {"spec": {"service": None, "caBundle": None}}
    assert available.send("PATCH", path, patch, merge)[0] == 200
    available.run(2)
    assert available.condition().reason == "Local"
    assert available.condition().message == "Local APIServices are always available"


def test_apisvc_9_a_changed_api_service_is_asked_at_once(available):
    """What is known of the server before is forgotten."""
    available.run(1)
    before = len(available.calls)
    merge = "application/merge-patch+json"
    patch = {"spec": {"versionPriority": 77}}
    assert available.send("PATCH", f"{PATH}/{NAME}", patch, merge)[0] == 200
    available.answers.clear()
    available.run(1)
    assert len(available.calls) > before
    assert available.state.memories[AVAILABILITY][NAME].known is None
    assert available.condition().reason == "FailedDiscoveryCheck"


def test_apisvc_9_the_question_is_that_of_an_administrator_and_trusts_any_certificate(available):
    probes = [call for call in available.calls if not call.is_verified]
    others = [call for call in available.calls if call.is_verified]
    assert len(probes) == ATTEMPTS
    assert probes[0].headers[:2] == (
        (b"x-remote-user", b"system:kube-aggregator"),
        (b"x-remote-group", b"system:masters"),
    )
    assert {call.headers for call in others} == {((b"x-remote-user", b"system:kube-aggregator"),)}
    assert all(call.is_of_proxy and call.method == "GET" for call in available.calls)


def test_apisvc_7_the_authority_is_that_of_the_api_service():
    world = Behind()
    world.register(caBundle=b64encode(b"pem").decode())
    remote = find_remote(ROOT, world.history)
    assert remote is not None
    assert (remote.ca_bundle, remote.is_verified, remote.host) == (b"pem", True, "s.default.svc")
    world = Behind()
    world.register(insecureSkipTLSVerify=True)
    remote = find_remote(ROOT, world.history)
    assert remote is not None
    assert not remote.is_verified


FAULTS = ("good", "dead", "late", "broken", "lying", "redirect", "refusing")


@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=40), st.integers(0, 3))
def test_apisvc_9_whatever_the_other_server_does_this_one_goes_on_and_finds_it_again(plan, lists):
    """A server that is slow, dead or lies: its own requests fail, others are answered, it is not
    asked more often than once in a second, and it is available soon after it works."""
    world = Behind()
    world.add_service()
    world.add_slice()
    world.register()
    good = world.answers[ROOT]
    answers: dict[str, Result] = {
        "good": good,
        "dead": Unanswered("connection refused"),
        "late": Unanswered("context deadline exceeded"),
        "broken": Answered(500, b"oops"),
        "lying": Answered(200, b'{"resources": [{"name": 7}]}'),
        "redirect": Answered(302, b""),
        "refusing": Answered(401, b"{}"),
    }
    wishes = iter(plan * 20)
    world.answer = lambda call: answers[next(wishes, "good")]  # type: ignore[method-assign]
    flunders = Request("list", aggregated_resource(GROUP, VERSION, "flunders"), "default", user=ADMIN)  # fmt: skip
    for number in range(4):
        world.run(1)
        assert world.show("/apis")["groups"]
        assert world.show("/apis", AGGREGATED)["items"]
        assert world.do(flunders).response.code in (200, 401, 500, 503)
        path = "/api/v1/namespaces/default/configmaps"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}}
        assert world.send("POST", path, body)[0] == 201
        condition = world.condition()
        assert condition is None or condition.status in ("True", "False")
    calls: list[Any] = []

    def well(call: Call) -> Result:
        calls.append((world.now, call.url))
        return good

    world.answer = well  # type: ignore[method-assign]
    world.run(6 + lists)
    assert world.condition().reason == "Passed"
    entry = world.state.memories[AVAILABILITY][NAME]
    assert not entry.is_stale
    assert [one.name for one in entry.known.resources] == ["flunders"]
    rounds = {now for now, _ in calls}
    assert len(calls) <= len(rounds) * (ATTEMPTS + 2)


# --- discovery


def test_apisvc_10_the_documents_have_what_the_other_server_serves(available):
    group = next(one for one in available.show("/apis")["groups"] if one["name"] == GROUP)
    entry = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    assert group == {"name": GROUP, "versions": [entry], "preferredVersion": entry}
    assert available.show(f"/apis/{GROUP}") == {"kind": "APIGroup", "apiVersion": "v1", **group}
    item = next(one for one in available.show("/apis", AGGREGATED)["items"] if one["metadata"] == {"name": GROUP})  # fmt: skip
    kind = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
    resource = {"resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get", "list"]}  # fmt: skip
    assert item["versions"] == [{"version": VERSION, "freshness": "Current", "resources": [resource]}]  # fmt: skip
    assert {ROOT, f"/apis/{GROUP}"} <= set(available.show("/")["paths"])
    # a server that fails keeps its place, and what it served is stale
    available.answers.clear()
    available.run(8)
    item = next(one for one in available.show("/apis", AGGREGATED)["items"] if one["metadata"] == {"name": GROUP})  # fmt: skip
    assert item["versions"] == [{"version": VERSION, "freshness": "Stale", "resources": [resource]}]
    assert GROUP in [one["name"] for one in available.show("/apis")["groups"]]


priorities = st.integers(1, 20_000)


@given(st.dictionaries(st.sampled_from(["a.example.com", "b.example.com", "metrics.k8s.io"]), st.dictionaries(st.sampled_from(["v1", "v2beta1", "v3"]), st.tuples(priorities, st.integers(1, 1000)), min_size=1), min_size=1))  # fmt: skip
def test_apisvc_10_groups_and_versions_are_in_the_order_of_their_priorities(wanted):
    world = Behind()
    for group, versions in wanted.items():
        for version, (of_group, of_version) in versions.items():
            world.register(f"{version}.{group}", groupPriorityMinimum=of_group, versionPriority=of_version)  # fmt: skip
    groups = world.show("/apis")["groups"]
    names = [one["name"] for one in groups]
    assert len(names) == len(set(names))
    assert set(GROUPS) <= set(names)
    assert [one["metadata"]["name"] for one in world.show("/apis", AGGREGATED)["items"]] == names
    highest = {name: max(one for one, _ in found.values()) for name, found in wanted.items() if name != "metrics.k8s.io"}  # fmt: skip
    own = [name for name in names if name in highest]
    assert [highest[name] for name in own] == sorted(highest.values(), reverse=True)
    for name, found in highest.items():
        assert (names.index(name) < names.index("apps")) == (found > 17_800)
    for group, versions in wanted.items():
        shown = [one["version"] for one in next(one for one in groups if one["name"] == group)["versions"]]  # fmt: skip
        numbers = [versions[one][1] for one in shown if one in versions]
        assert numbers == sorted(numbers, reverse=True)
        assert set(versions) <= set(shown)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["resources", "name", "kind", "verbs", "namespaced", "shortNames"]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(json_values | st.binary(max_size=20))
def test_apisvc_10_whatever_the_other_server_says_discovery_is_well_formed(said):
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    found = read_resources(Answered(200, body))
    for one in found or ():
        assert one.name and one.kind
        assert all(isinstance(verb, str) for verb in one.verbs)


def test_apisvc_10_a_document_that_is_too_long_is_not_taken():
    many = [{**FLUNDERS, "name": f"a{number}"} for number in range(RESOURCES_MAX + 1)]
    assert read_resources(Answered(200, json.dumps({"resources": many}).encode())) is None
    assert read_resources(Answered(200, json.dumps({"resources": many[1:]}).encode())) is not None
    long = [{**FLUNDERS, "kind": "K" * 300}]
    assert read_resources(Answered(200, json.dumps({"resources": long}).encode())) is None
    assert read_resources(Answered(500, json.dumps({"resources": []}).encode())) is None


def test_apisvc_10_the_index_of_schemas_has_those_of_the_other_server(available):
    url = {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=XYZ"}
    assert ROOT[1:] not in available.show("/openapi/v3")["paths"]
    available.serve("/openapi/v3", {"paths": {ROOT[1:]: url}})
    available.run(6)
    paths = available.show("/openapi/v3")["paths"]
    assert paths[ROOT[1:]] == url
    assert "apis/apps/v1" in paths
    assert isinstance(available.receive("GET", f"/openapi/v3{ROOT}"), Forward)


def test_d_201_version_2_has_no_schemas_of_other_servers(available):
    """D-201 (spec/divergences.md): nor has version 3, if the other server has none."""
    assert "wardle" not in json.dumps(available.show("/openapi/v2"))
    assert ROOT[1:] not in available.show("/openapi/v3")["paths"]


def test_d_202_a_server_is_asked_again_soon_after_a_failure(available):
    """D-202 (spec/divergences.md)."""

    def waits(rounds: int) -> list[int]:
        found = []
        for _ in range(rounds):
            available.run(1)
            due_at = available.state.memories[AVAILABILITY][NAME].due_at
            found.append((due_at - available.now) // SECOND)
        return found

    assert max(waits(6)) > 10
    available.answers.clear()
    waits(6)
    assert 0 < max(waits(8)) <= 5


# --- components


def test_apisvc_11_a_component_reads_and_writes_at_the_other_server(available):
    resource = aggregated_resource(GROUP, VERSION, "flunders", "Flunder")
    path = f"{ROOT}/namespaces/default/flunders"
    one = {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"name": "a"}, "size": 3}  # fmt: skip
    available.serve(path, {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"resourceVersion": "7"}, "items": [one]})  # fmt: skip
    available.serve(f"{path}/a", one)
    available.calls.clear()
    jane = User("jane", groups=("dev",))
    options = Options(label_selector="a=b")
    found = available.do(Request("list", resource, "default", options=options, user=jane)).response
    assert isinstance(found.body, CustomList)
    assert found.body.items[0].content == {"size": 3}
    (call,) = available.calls
    assert (call.method, call.url) == ("GET", f"https://s.default.svc:7443{path}?labelSelector=a%3Db")  # fmt: skip
    assert call.headers == ((b"x-remote-user", b"jane"), (b"x-remote-group", b"dev"))
    assert call.is_of_proxy and call.is_verified
    found = available.do(Request("delete", resource, "default", "a", user=jane)).response
    assert isinstance(found.body, CustomObject)
    assert available.calls[-1].method == "DELETE"
    missing = available.do(Request("get", resource, "default", "b", user=jane)).response
    assert missing.code == 404
    assert available.do(Request("watch", resource, "default", user=jane)).response.code == 405


@pytest.mark.parametrize(
    "answer",
    [Unanswered("refused"), Answered(200, b"no json"), Answered(302, b""), Answered(502, b"")],
)
def test_apisvc_11_a_server_that_gives_no_answer_is_503(available, answer):
    available.answers[f"{ROOT}/namespaces/default/flunders/a"] = answer
    resource = aggregated_resource(GROUP, VERSION, "flunders", "Flunder")
    response = available.do(Request("get", resource, "default", "a", user=ADMIN)).response
    assert response.code == 503
    assert response.body.message.startswith("error trying to reach service: ")


def test_apisvc_11_without_an_api_service_there_is_no_resource():
    resource = aggregated_resource(GROUP, VERSION, "flunders", "Flunder")
    assert Behind().do(Request("list", resource, "default", user=ADMIN)).response.code == 404


def test_apisvc_11_metrics_come_from_another_server_if_there_is_one():
    world = Behind()
    world.add_service()
    world.add_slice()
    world.register("v1beta1.metrics.k8s.io")
    root = "/apis/metrics.k8s.io/v1beta1"
    world.serve(root, {"resources": []})
    used = {"metadata": {"name": "p", "namespace": "default"}, "timestamp": "2026-01-01T00:00:00Z", "window": "10s", "containers": [{"name": "c", "usage": {"cpu": "7m"}}]}  # fmt: skip
    world.serve(f"{root}/namespaces/default/pods", {"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [used]})  # fmt: skip
    world.run(3)
    found = world.do(Request("list", POD_METRICS, "default", user=ADMIN)).response
    assert found.body.items[0].containers[0].usage == {"cpu": "7m"}
    versions = next(one for one in world.show("/apis", AGGREGATED)["items"] if one["metadata"] == {"name": "metrics.k8s.io"})["versions"]  # fmt: skip
    assert versions == [{"version": "v1beta1", "freshness": "Current", "resources": []}]


# --- the end of a namespace


class Ending(Behind):
    """The same with the controller manager, and with the condition set by hand."""

    component: Any = staticmethod(controller_manager)

    def set_available(self, status: str) -> None:
        _, tree = self.send("GET", f"{PATH}/{NAME}")
        tree["status"] = {"conditions": [{"type": "Available", "status": status}]}
        assert self.send("PUT", f"{PATH}/{NAME}/status", tree)[0] == 200

    def end(self) -> Any:
        self.run(3)
        code, answer = self.send("DELETE", "/api/v1/namespaces/other")
        assert code == 200, answer
        self.run(8)
        return self.get(NAMESPACES, "other", "")


LIST = {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}}
DELETABLE = {**FLUNDERS, "verbs": ["deletecollection", "list"]}
DISCOVERY = {"kind": "APIResourceList", "apiVersion": "v1"}


def discovery_failure(namespace: Any) -> tuple[str, str, str]:
    conditions = namespace.status.conditions or ()
    found = next(one for one in conditions if one.type == "NamespaceDeletionDiscoveryFailure")
    return found.status, found.reason, found.message


def test_ns_7_objects_of_another_server_are_deleted_with_their_namespace():
    world = Ending()
    world.register()
    world.set_available("True")
    path = f"{ROOT}/namespaces/other/flunders"
    world.serve(ROOT, {**DISCOVERY, "resources": [DELETABLE, {**DELETABLE, "name": "flunders/status"}]})  # fmt: skip
    item = {"kind": "Flunder", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {"name": "a"}}
    world.serve(path, {**LIST, "items": [item]})
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert world.send("POST", "/api/v1/namespaces/other/configmaps", config_map)[0] == 201
    namespace = world.end()
    methods = [call.method for call in world.calls if path in call.url]
    assert "DELETE" in methods
    assert world.get(CONFIG_MAPS, "c", "other") is None
    remaining = next(one for one in namespace.status.conditions if one.type == "NamespaceContentRemaining")  # fmt: skip
    assert f"flunders.{GROUP} has 1 resource instances" in remaining.message
    assert discovery_failure(namespace)[0] == "False"
    world.serve(path, {**LIST, "items": []})
    world.run(8)
    assert world.get(NAMESPACES, "other", "") is None


@pytest.mark.parametrize("how", ["unavailable", "silent", "lying", "no list"])
def test_ns_7_a_server_that_fails_keeps_the_namespace_and_nothing_else(how):
    world = Ending()
    world.register()
    world.set_available("False" if how == "unavailable" else "True")
    if how == "silent":
        world.answers[ROOT] = Unanswered("dead")
    elif how == "lying":
        world.serve(ROOT, {**DISCOVERY, "resources": 7})
    else:
        world.serve(ROOT, {**DISCOVERY, "resources": [DELETABLE]})
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert world.send("POST", "/api/v1/namespaces/other/configmaps", config_map)[0] == 201
    namespace = world.end()
    assert world.get(CONFIG_MAPS, "c", "other") is None
    version = f"{GROUP}/{VERSION}"
    words = f"Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: {version}: stale GroupVersion discovery: {version}"  # fmt: skip
    assert discovery_failure(namespace) == ("True", "DiscoveryFailed", words)
    # without its APIService nothing keeps the namespace
    assert world.send("DELETE", f"{PATH}/{NAME}")[0] == 200
    world.run(6)
    assert world.get(NAMESPACES, "other", "") is None


def test_d_203_only_collections_of_another_server_are_deleted():
    """D-203 (spec/divergences.md)."""
    world = Ending()
    world.register()
    world.set_available("True")
    one_by_one = {**FLUNDERS, "verbs": ["delete", "list"]}
    world.serve(ROOT, {**DISCOVERY, "resources": [one_by_one, {**DELETABLE, "namespaced": False}]})
    assert world.end() is None
    assert {call.url.rpartition("7443")[2] for call in world.calls} == {ROOT}
