"""Nothing answers a user whom the authorizer refuses (HTTP-8): every method on every path of every
resource, with bodies, queries and headers that would be refused for themselves, and every request
of a component. The store is for the authorizer alone."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import User
from refk8s.core.apiserver.config import Attributes, Config, Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.http import Received, WireRequest, receive
from refk8s.core.apiserver.respond import Reply
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import Page

EVE = User("eve", groups=("system:authenticated",))
CONNECTED = ("attach", "exec", "log", "portforward", "proxy")
"""Parts that are a stream to a container, whatever the method."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


KNOWN = (resources.CUSTOM_RESOURCE_DEFINITIONS.prefix, resources.API_SERVICES.prefix)


class Untouched:
    """A store of which nothing may be read but the definitions of custom resources and the
    APIServices: they tell what a path names, and whose it is (CRD-2, APISVC-5)."""

    revision = 1

    def list(self, prefix: str, *arguments: Any, **named: Any) -> Page[Any]:
        assert prefix in KNOWN, prefix
        return Page((), 1, False, 0)

    def get(self, key: str) -> None:
        assert key.startswith(KNOWN), key

    def prefix_revision(self, prefix: str) -> int:
        assert prefix in KNOWN, prefix
        return 1

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the store was asked for its {name} before the user was authorized")


class Doorkeeper:
    """An authorizer that refuses or allows everything, and remembers what it was asked."""

    def __init__(self, allows: bool = False) -> None:
        self.store: Any = Untouched()
        self.asked: list[Attributes] = []
        self.allows = allows
        self.config = Config(authorizer=self)

    def __call__(self, asked: Attributes, store: Any) -> Decision:
        assert store is self.store, "the authorizer gets the store of the request"
        self.asked.append(asked)
        return Decision(self.allows)

    def receive(self, wire: WireRequest) -> Received | Reply:
        return receive(wire, EVE, config=self.config, store=self.store)


def paths(resource: Resource) -> Iterable[str]:
    """The paths under which this resource and its parts are found."""
    root = f"/apis/{resource.group}" if resource.group else "/api"
    root = f"{root}/{resource.version}"
    if resource.namespaced:
        yield f"{root}/{resource.plural}"
        root += "/namespaces/default"
    yield f"{root}/{resource.plural}"
    yield f"{root}/{resource.plural}/x"
    for part in resource.subresources:
        yield f"{root}/{resource.plural}/x/{part.name}"


def acts(resource: Resource) -> set[tuple[str, str, str, str]]:
    """What an authorizer can be asked about this resource: (group, plural, verb, subresource)."""
    found = {(resource.group, resource.plural, verb, "") for verb in resource.verbs}
    for part in resource.subresources:
        found |= {(resource.group, resource.plural, verb, part.name) for verb in part.verbs}
    return found


def asked_of(door: Doorkeeper) -> set[tuple[str, str, str, str]]:
    return {(a.group, a.resource, a.verb, a.subresource) for a in door.asked if not a.path}


@pytest.mark.parametrize("resource", resources.ALL, ids=str)
def test_http_8_no_method_on_any_path_of_a_resource_answers_who_is_refused(resource: Resource):
    door = Doorkeeper()
    for path in paths(resource):
        for method in METHODS:
            for query in ("", "watch=true", "limit=x&timeoutSeconds=y&dryRun=z"):
                headers = {"accept": "text/nonsense", "content-type": "text/nonsense"}
                before = len(door.asked)
                reply = door.receive(WireRequest(method, path, query, headers, b"{nonsense"))
                assert isinstance(reply, Reply) and reply.code == 403, (method, path, query)
                assert json.loads(reply.content)["reason"] == "Forbidden"
                assert len(door.asked) == before + 1, "each request is authorized once"
    assert all(asked.user == EVE for asked in door.asked)
    assert acts(resource) <= asked_of(door)


@pytest.mark.parametrize("resource", resources.ALL, ids=str)
def test_http_8_no_request_of_a_component_is_answered_where_its_user_is_refused(resource: Resource):
    for _, _, verb, subresource in sorted(acts(resource)):
        door = Doorkeeper()
        request = Request(verb, resource, "default", "x", subresource, user=EVE)
        exchange = Exchange(request, door.store, Context(0, SeededChance(b"")), door.config)
        response = handle(exchange)
        assert isinstance(response, Response) and response.code == 403, (verb, subresource)
        assert len(door.asked) == 1 and asked_of(door) == {
            (resource.group, resource.plural, verb, subresource)
        }


@given(
    method=st.sampled_from(METHODS),
    path=st.lists(
        st.sampled_from(
            ("", "api", "apis", "v1", "apps", "namespaces", "watch", "pods", "nodes", "x", "log",
             "version", "healthz", "openapi", "v2", ".well-known", "scale", "%2e%2e", "foo.io")
        ),
        max_size=7,
    ).map(lambda parts: "/" + "/".join(parts)),
    query=st.sampled_from(("", "watch=1", "limit=x", "fieldSelector=a%3Db")),
)  # fmt: skip
def test_http_8_no_path_at_all_answers_who_is_refused(method: str, path: str, query: str):
    door = Doorkeeper()
    reply = door.receive(WireRequest(method, path, query))
    assert isinstance(reply, Reply) and reply.code == 403 and len(door.asked) == 1


def test_http_8_who_is_allowed_learns_what_is_wrong_with_the_request():
    """Sometimes: the same requests are refused for themselves where the user is allowed."""
    door = Doorkeeper(allows=True)
    pods = "/api/v1/namespaces/default/pods"
    for method, path, query, code in (
        ("GET", "/nothing", "", 404),
        ("PUT", pods, "", 405),
        ("GET", pods, "limit=x", 400),
        ("POST", pods, "", 400),
    ):
        reply = door.receive(WireRequest(method, path, query, {}, b"{nonsense"))
        assert isinstance(reply, Reply) and reply.code == code, (method, path, reply)
    assert isinstance(door.receive(WireRequest("GET", pods)), Received)
