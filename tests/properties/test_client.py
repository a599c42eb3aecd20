"""Requests as HTTP, and answers as records: the pure part of the client of an API server. Rules
CLIENT-1, CLIENT-2, CLIENT-3, CLIENT-5, CLIENT-7, CLIENT-14 (spec/client.md)."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from api_world import KINDS, Step, World, histories, populated
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import names, objects
from test_watchapi import stream_of, told

from refk8s.core.api import resources, status
from refk8s.core.api.codec import encode, from_tree, parse, to_tree
from refk8s.core.api.core_v1 import ConfigMap, Pod, PodSpec, PodStatus
from refk8s.core.api.meta_v1 import DeleteOptions, ManagedFieldsEntry, ObjectMeta
from refk8s.core.api.request import Options, Patch, Request, Response, WatchEvent
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.accept import Form
from refk8s.core.apiserver.apply.managers import UNKNOWN_MANAGER
from refk8s.core.apiserver.http import Received, WireRequest, receive
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Connect
from refk8s.core.apiserver.respond import write_error, write_events
from refk8s.core.client import kept_objects
from refk8s.core.client.request import HttpRequest, can_be_brief, to_http
from refk8s.core.client.response import Unreadable, to_response
from refk8s.core.client.watch_lines import WatchLines
from refk8s.core.store import Put, Txn, commit
from refk8s.core.value import evolve


def arrives(request: Request) -> Request:
    """The request that an API server reads from what the client sends."""
    sent = to_http(request)
    path, _, query = sent.target.partition("?")
    headers = {"content-type": sent.content_type} if sent.content_type else {}
    received = receive(WireRequest(sent.method, path, query, headers, sent.body), request.user)
    assert isinstance(received, Received), received
    return received.request


def plain(request: Request) -> Request:
    """The request without what never leaves the process, with the tree of a patch, and an object
    in its canonical form (OBJ-4). The API server names the manager of a write (APPLY-11)."""
    body = request.body
    if isinstance(body, Patch):
        document = body.document
        tree = parse(document) if isinstance(document, bytes) else to_tree(document)
        body = evolve(body, document=tree)
    elif body is not None:
        body = from_tree(type(body), to_tree(body))
    name = "" if request.verb == "create" and not request.subresource else request.name
    options = request.options
    if options.field_manager == UNKNOWN_MANAGER:
        options = evolve(options, field_manager="")
    return evolve(request, because="", note=None, body=body, name=name, options=options)


# --- CLIENT-1


@given(histories(size=12))
def test_client_1_an_api_server_reads_the_request_that_was_sent(sequence: list[Step]) -> None:
    # Shows CLIENT-1.a, CLIENT-1.c, CLIENT-1.d.
    world = populated()
    for step in sequence:
        request = step.request(world)
        told = evolve(request, because="a reason", note="a note")
        if isinstance(request.body, DeleteOptions):
            told = evolve(told, options=evolve(request.options, dry_run=False))
        assert plain(arrives(told)) == plain(told)
        world.do(request)


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
selectors = st.sampled_from(["", "a=b", "a in (b, c),!d", "spec.nodeName=node-1&x", "a=b%20+ü"])
reads = st.builds(
    Options,
    label_selector=selectors,
    field_selector=selectors,
    limit=st.integers(0, 500),
    continue_=st.sampled_from(["", "token+/=&"]),
    resource_version=st.sampled_from(["", "0", "17"]),
    resource_version_match=st.sampled_from(["", "NotOlderThan"]),
    timeout_seconds=st.sampled_from([None, 0, 300]),
    allow_watch_bookmarks=st.booleans(),
    send_initial_events=st.sampled_from([None, True, False]),
)
writes = st.builds(
    Options,
    dry_run=st.booleans(),
    field_manager=st.sampled_from(["", "kubectl edit", "a&b=c"]),
    field_validation=st.sampled_from(["", "Strict", "Ignore"]),
)
BY_VERB = {
    "get": st.builds(Options, resource_version=st.sampled_from(["", "0", "17"])),
    "list": reads,
    "watch": reads,
    "deletecollection": st.builds(Options, label_selector=selectors, limit=st.integers(0, 5)),
    "delete": st.just(Options()),
    "create": writes,
    "update": writes,
    "patch": writes,
}


@given(st.sampled_from(resources.ALL), st.data())
def test_client_1_names_and_options_of_every_resource_arrive(
    resource: resources.Resource, data: st.DataObject
) -> None:
    # Shows CLIENT-1.a, CLIENT-1.b, CLIENT-1.c.
    verb = data.draw(st.sampled_from(resource.verbs))
    on_collection = verb in ("list", "watch", "deletecollection")
    everywhere = verb in ("list", "watch") and data.draw(st.booleans())
    namespace = data.draw(names) if resource.namespaced and not everywhere else ""
    name = (
        "" if on_collection or verb == "create" else data.draw(names | texts.filter(_can_be_named))
    )
    body = None
    if verb in ("create", "update"):
        body = data.draw(objects(resource.type))
    elif verb == "patch":
        body = Patch("application/merge-patch+json", {"metadata": {"labels": {"a": name}}})
    request = Request(
        verb, resource, namespace, name, body=body, options=data.draw(BY_VERB[verb]), user=ADMIN
    )
    assert plain(arrives(request)) == request


def _can_be_named(name: str) -> bool:
    return "/" not in name and name.strip(" .") == name and name != ""


def test_client_1_the_urls_are_those_of_the_documentation() -> None:
    bind = Request("create", resources.PODS, "default", "web", "binding", body=Pod())
    assert to_http(bind).target == "/api/v1/namespaces/default/pods/web/binding"
    watch = Request("watch", resources.DEPLOYMENTS, options=Options(resource_version="7"))
    assert to_http(watch).target == "/apis/apps/v1/deployments?watch=true&resourceVersion=7"
    scale = Request("update", resources.DEPLOYMENTS, "a", "b", "scale", body=Pod())
    assert to_http(scale) == HttpRequest(
        "PUT", "/apis/apps/v1/namespaces/a/deployments/b/scale", "application/json", encode(Pod())
    )


# --- CLIENT-14


OTHERS_FIELDS = ManagedFieldsEntry(
    manager="other", operation="Update", api_version="v1", fields_type="FieldsV1"
)
managed_fields = st.sampled_from([None, (), (OTHERS_FIELDS,)])


def test_client_14_has_what_is_not_read_or_not() -> None:
    pod = Pod(
        metadata=ObjectMeta(name="a", labels={"a": "b"}, managed_fields=(OTHERS_FIELDS,)),
        spec=PodSpec(node_name="node-1"),
        status=PodStatus(phase="Running"),
    )
    request = Request("update", resources.PODS, "default", "a", "status", pod)
    sent = parse(to_http(request, is_brief=True).body)
    assert sent["metadata"] == {"name": "a", "labels": {"a": "b"}}
    assert sent["spec"] == {"containers": []} and sent["status"] == {"phase": "Running"}
    for other in (
        evolve(request, subresource=""),
        evolve(request, verb="create", subresource=""),
        evolve(request, resource=STORED_IN_ANOTHER_VERSION[0]),
    ):
        assert to_http(other, is_brief=True) == to_http(other)


STORED_IN_ANOTHER_VERSION = [
    one for one in resources.ALL if one.storage_api_version and one.has_status
]


@given(histories(size=12), st.lists(managed_fields, min_size=12, max_size=12))
def test_client_14_a_history_is_the_same_without_what_is_not_read(
    sequence: list[Step], owners: list[Any]
) -> None:
    # Shows CLIENT-14.a, CLIENT-14.b.
    whole, brief = populated(), populated()
    for step, given_owners in zip(sequence, owners, strict=False):
        request = step.request(whole)
        if can_be_brief(request):
            metadata = replace(request.body.metadata, managed_fields=given_owners)
            request = evolve(request, body=replace(request.body, metadata=metadata))
        assert over_http(whole, request) == over_http(brief, request, is_brief=True)
        assert whole.history == brief.history


@given(
    st.sampled_from(
        [one for one in resources.ALL if one.has_status and one not in STORED_IN_ANOTHER_VERSION]
    ),
    st.data(),
)
def test_client_14_the_status_of_any_kind_is_the_same_without_what_is_not_read(
    resource: resources.Resource, data: st.DataObject
) -> None:
    # Shows CLIENT-14.a, CLIENT-14.b.
    namespace = "default" if resource.namespaced else ""
    named = ObjectMeta(name="a", namespace=namespace or None, uid="1-2-3", labels={"a": "b"})
    there, wanted = data.draw(objects(resource.type)), data.draw(objects(resource.type))
    there = replace(there, metadata=named)
    body = replace(wanted, metadata=replace(named, managed_fields=data.draw(managed_fields)))
    found = []
    for is_brief in (False, True):
        world = World()
        put = Txn((), (Put(resource.key(namespace, "a"), there),))
        world.history = commit(world.history, put, stamp)[0]
        revision = world.get(resource, "a", namespace).metadata.resource_version
        changed = replace(body, metadata=replace(body.metadata, resource_version=revision))
        request = Request("update", resource, namespace, "a", "status", changed, user=ADMIN)
        found.append((over_http(world, request, is_brief=is_brief), world.history))
    assert found[0] == found[1]
    event(f"{found[0][0][0]}")


# --- CLIENT-2, CLIENT-3


def over_http(world: World, request: Request, *, is_brief: bool = False) -> tuple[int, bytes]:
    """Code and body of the answer to the request, as bytes."""
    sent = to_http(request, is_brief)
    headers = {"content-type": sent.content_type} if sent.content_type else {}
    reply = world.http(sent.method, sent.target, sent.body, headers, request.user)
    assert not isinstance(reply, Connect)
    return reply.code, reply.content


@given(histories(size=12))
def test_client_2_the_answer_is_the_one_that_a_component_in_the_process_gets(
    sequence: list[Step],
) -> None:
    # Shows CLIENT-2.a.
    by_wire, inside = populated(), populated()
    for step in sequence:
        asked = [plain(step.request(inside))]
        asked.append(Request("get", step.resource, step.namespace, step.name, user=ADMIN))
        asked.append(Request("list", step.resource, step.namespace, user=ADMIN))
        for request in asked:
            if isinstance(request.body, DeleteOptions):
                request = evolve(request, options=evolve(request.options, dry_run=False))
            response = inside.do(request).response
            answer = to_response(request, *over_http(by_wire, request))
            if response.code == 500 and not response.body.reason:
                assert answer is None  # CLIENT-3
                continue
            assert answer == Response(response.code, response.body)
            assert type(answer.body) is type(response.body)


REQUEST = Request("get", resources.PODS, "default", "web")


@given(objects(Pod), st.sampled_from([b"", b"\n"]))
def test_client_7_the_answer_to_a_write_and_its_event_are_one_object(pod: Pod, end: bytes) -> None:
    # Shows CLIENT-7.m.
    pod = replace(pod, metadata=replace(pod.metadata, resource_version="7"))
    text = encode(pod)
    answer = to_response(REQUEST, 200, text + end)
    line = b'{"type":"MODIFIED","object":' + text + b"}\n"
    (found,), over = WatchLines(resources.PODS).feed(line)
    assert answer is not None and over is None
    assert found.object is answer.body and to_tree(found.object) == to_tree(pod)


def test_client_7_the_kept_texts_are_bounded() -> None:
    # Shows CLIENT-7.m.
    for number in range(3_000):
        obj = ConfigMap(metadata=ObjectMeta(name=f"a{number}"), data={"key": "v" * 4_000})
        assert kept_objects.decode_object(ConfigMap, encode(obj)).data == obj.data
    kept: Any = kept_objects._decode
    assert 0 < sum(len(text) for _, text in kept.kept()) <= kept_objects.TEXTS_BYTES_MAX


def test_client_2_fields_of_a_newer_version_are_dropped_and_other_texts_become_a_status() -> None:
    # Shows CLIENT-2.b, CLIENT-2.c, CLIENT-2.d.
    newer = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "colour": "blue"}}
    response = to_response(REQUEST, 200, json.dumps(newer).encode())
    assert response == Response(200, Pod(metadata=ObjectMeta(name="web")))
    html = to_response(REQUEST, 413, b"<html>too large</html>")
    assert html is not None and html.body.kind == "Status"
    assert (html.code, html.body.code, html.body.reason) == (413, 413, "RequestEntityTooLarge")
    assert "too large" in html.body.message
    for unreadable in (b"", b"{", b"[]", b"\xff", b'{"kind":"Unknown"}', b'{"kind":"Pod"}', b"1"):
        with pytest.raises(Unreadable):
            to_response(REQUEST, 200, unreadable)


@given(st.sampled_from([400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504]), st.binary())
def test_client_2_no_answer_raises_another_error(code: int, body: bytes) -> None:
    answer = to_response(REQUEST, code, body)
    assert answer is None or (answer.code == code and answer.body.code == code)
    with contextlib.suppress(Unreadable):
        to_response(REQUEST, 200, body)


@pytest.mark.parametrize(
    ("code", "body", "is_known"),
    [
        (504, encode(status.failure(504, "Timeout", "")), False),
        (502, b"bad gateway", False),
        (500, encode(status.unexplained("etcdserver: request timed out")), False),
        (500, b"", False),
        (500, encode(status.internal_error("failed calling webhook")), True),
        (503, encode(status.unavailable("")), True),  # the loop sends it again (LOOP-6)
        (409, encode(status.already_exists(resources.PODS, "web")), True),
    ],
)
def test_client_3_an_answer_that_says_not_to_know_is_no_answer(
    code: int, body: bytes, is_known: bool
) -> None:
    # Shows CLIENT-3.b.
    assert (to_response(REQUEST, code, body) is not None) == is_known


# --- CLIENT-5, CLIENT-7


@given(histories(size=12), st.sampled_from(KINDS), st.data())
def test_client_5_the_events_are_those_of_the_server_however_the_stream_is_cut(
    sequence: list[Step], kind: resources.Resource, data: st.DataObject
) -> None:
    # Shows CLIENT-5.a.
    world = populated()
    for step in sequence:
        world.do(step.request(world))
    events = told(world, stream_of(world, kind, "default", resource_version="1"))
    events += (WatchEvent("BOOKMARK", None, world.history.revision),)
    text = write_events(events, Form(), kind, world.now)
    lines, found = WatchLines(kind), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        some, over = lines.feed(text[start:end])
        assert over is None
        found += some
    assert found == [WatchEvent(each.type, each.object, each.revision) for each in events]
    incomplete = WatchLines(kind)
    shortened = data.draw(st.integers(0, max(0, len(text) - 1)))
    some, over = incomplete.feed(text[:shortened])
    assert over is None and list(some) == found[: text[:shortened].count(b"\n")]


CONFIG_MAP = ConfigMap(metadata=ObjectMeta(name="a", resource_version="5"))
LINE = b'{"type":"ADDED","object":%s}\n' % encode(CONFIG_MAP)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (write_error(status.expired("")), 410),
        (write_error(status.too_many_requests("")), 429),
        (b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"x"}}}\n', 0),
        (b'{"type":"ADDED","object":{"metadata":{}}}\n', 0),
        (b'{"type":"BOOKMARK","object":{}}\n', 0),
        (b'{"type":"SOMETHING","object":{}}\n', 0),
        (b"[]\n", 0),
        (b"\xff\n", 0),
    ],
)
def test_client_5_an_error_ends_a_watch_after_the_events_before_it(line: bytes, code: int) -> None:
    # Shows CLIENT-5.b.
    events, over = WatchLines(resources.CONFIG_MAPS).feed(LINE + line + LINE)
    assert events == (WatchEvent("ADDED", CONFIG_MAP, 5),)
    assert over is not None and over.code == code


@given(st.binary())
def test_client_5_no_stream_raises(data: bytes) -> None:
    WatchLines(resources.CONFIG_MAPS).feed(data + b"\n" + data)


def test_client_7_a_line_without_end_ends_the_watch() -> None:
    # Shows CLIENT-7.a.
    lines = WatchLines(resources.CONFIG_MAPS, line_bytes_max=len(LINE))
    assert lines.feed(LINE)[1] is None
    assert lines.feed(LINE[:-1])[1] is None
    assert lines.feed(b"  ")[1] is not None
