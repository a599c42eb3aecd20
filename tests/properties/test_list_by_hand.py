"""What reads and watches answer in full: refusals word for word, tokens, bookmarks, streams: LIST-2
to LIST-10, WATCHAPI-1 to WATCHAPI-8.

(spec/watch_api.md)
"""

from __future__ import annotations

import base64
import json

import pytest
from api_world import World, an_object, populated
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import integer, resources
from refk8s.core.api.core_v1 import ObjectReference
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import read, watch
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.apiserver.selection import select
from refk8s.core.store import compact

CONFIG_MAPS = resources.CONFIG_MAPS
PREFIX = CONFIG_MAPS.prefix


def do(world, verb, name="", kind=CONFIG_MAPS, namespace="default", **options):
    return world.do(
        Request(verb, kind, namespace, name, options=Options(**options), user=ADMIN)
    ).response


def said(response):
    """(code, reason, message, [(reason of the cause, field, message)])."""
    body = response.body
    causes = [
        (cause.reason, cause.field, cause.message)
        for cause in (body.details.causes if body.details else None) or ()
    ]
    return response.code, body.reason, body.message, causes


# --- options that mean nothing --------------------------------------------------------------------

MATCH = "resourceVersionMatch"
matches = st.sampled_from(["", "Exact", "NotOlderThan", "odd"])
revisions = st.sampled_from(["", "0", "1"])
tokens = st.sampled_from(["", "token"])


def refused(causes):
    """What is said of these (reason, field, message), as of an object ListOptions."""
    words = [f"{field}: {text}" for _, field, text in causes]
    message = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    return 422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {message}', causes


def about(reason, field, value, detail):
    text = {
        "FieldValueForbidden": f"Forbidden: {detail}",
        "FieldValueNotSupported": f'Unsupported value: "{value}": {detail}',
    }[reason]
    return reason, field, text


@given(matches, revisions, tokens, st.sampled_from([None, True, False]))
def test_list_10_every_combination_that_means_nothing_is_told_with_all_its_causes(
    match, revision, token, initial
):
    # Shows LIST-10.a.
    causes = []

    def forbidden(field, detail):
        causes.append(about("FieldValueForbidden", field, "", detail))

    if match and not revision:
        forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")
    if match and token:
        forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided")
    if match == "odd":
        causes.append(
            about(
                "FieldValueNotSupported",
                MATCH,
                match,
                'supported values: "Exact", "NotOlderThan", ""',
            )
        )
    if match == "Exact" and revision == "0":
        forbidden(MATCH, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
    if initial is not None:
        forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    options = Options(
        resource_version_match=match,
        resource_version=revision,
        continue_=token,
        send_initial_events=initial,
    )
    if not causes:
        assert read.check_list_options(options) is None
        return
    with pytest.raises(ApiError) as error:
        read.check_list_options(options)
    status = error.value.status
    assert (status.code, status.reason, status.details.kind, status.details.group) == (
        422,
        "Invalid",
        "ListOptions",
        "meta.k8s.io",
    )
    assert [(cause.reason, cause.field, cause.message) for cause in status.details.causes] == causes
    assert status.message == refused(causes)[2]


@given(matches, tokens, st.sampled_from([None, True, False]))
def test_watchapi_2_so_it_is_for_watches(match, token, initial):
    causes = []

    def forbidden(detail):
        causes.append(about("FieldValueForbidden", MATCH, "", detail))

    if initial is not None and match != "NotOlderThan":
        forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")
    if match and initial is None:
        forbidden(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        )
    if match and match != "NotOlderThan":
        causes.append(
            about("FieldValueNotSupported", MATCH, match, 'supported values: "NotOlderThan"')
        )
    if match and token:
        forbidden("resourceVersionMatch is forbidden when continue is provided")
    options = Options(resource_version_match=match, continue_=token, send_initial_events=initial)
    if not causes:
        assert read.check_watch_options(options) is None
        return
    with pytest.raises(ApiError) as error:
        read.check_watch_options(options)
    assert [
        (cause.reason, cause.field, cause.message) for cause in error.value.status.details.causes
    ] == causes
    assert error.value.status.message == refused(causes)[2]


# --- names, revisions, tokens ---------------------------------------------------------------------


@given(st.sampled_from(["", "a/b", "/", "a%b", "%", ".", "..", "...", "a.b", "a"]))
def test_list_2_what_can_be_no_name_is_refused(name):
    response = do(populated(), "get", name)
    if name in ("...", "a.b"):
        assert said(response)[:3] == (404, "NotFound", f'configmaps "{name}" not found')
    elif name == "a":
        assert response.code == 200
    else:
        assert said(response) == (
            400,
            "BadRequest",
            f"Name parameter invalid: {json.dumps(name)}",
            [],
        )


@given(
    st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**19, 10**20 - 1, 10**20, 10**30])
)
def test_list_8_a_revision_has_a_largest_value(number):
    text = str(number)
    if number <= integer.UINT64_MAX:
        assert read.parse_revision(text) == number
        return
    words = (
        f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": '
        "value out of range"
    )
    for of_list, code, before in ((False, 400, ""), (True, 400, "invalid resource version: ")):
        with pytest.raises(ApiError) as error:
            read.parse_revision(text, of_list=of_list)
        assert (error.value.status.code, error.value.status.message) == (code, before + words)


def test_list_9_a_revision_of_the_future_says_what_is_wrong_and_when_to_come_again():
    # Shows API-14.c.
    world = populated()
    current = world.history.revision
    message = f"Too large resource version: {current + 5}, current: {current}"
    causes = [("ResourceVersionTooLarge", None, "Too large resource version")]
    for response in (
        do(world, "get", "a", resource_version=str(current + 5)),
        do(world, "list", resource_version=str(current + 5)),
    ):
        assert said(response) == (504, "Timeout", message, causes)
        assert response.body.details.retry_after_seconds == 1


def encoded(tree):
    return (
        base64.urlsafe_b64encode(json.dumps(tree, separators=(",", ":")).encode())
        .rstrip(b"=")
        .decode()
    )


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("!", "continue key is not valid"),
        (encoded({"v": "meta.k8s.io/v1"}), "continue key is not valid"),
        (
            encoded({"v": "v2", "rv": 1, "start": "a"}),
            'continue key is not valid: server does not recognize this encoded version "v2"',
        ),
        *[
            (
                encoded({"v": "meta.k8s.io/v1", "rv": revision, "start": "a"}),
                "continue key is not valid: incorrect encoded start resourceVersion (version "
                "meta.k8s.io/v1)",
            )
            for revision in (0, -2, "1", True, 2**64)
        ],
        *[
            (
                encoded({"v": "meta.k8s.io/v1", "rv": 1, "start": start}),
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            )
            for start in ("", None, 7)
        ],
        (
            encoded({"v": "meta.k8s.io/v1", "rv": 1, "start": "a/../b"}),
            'continue key is not valid: "a/../b"',
        ),
    ],
)
def test_list_8_a_token_that_is_none_is_refused_in_these_words(token, words):
    assert said(do(populated(), "list", limit=1, continue_=token)) == (400, "BadRequest", words, [])


@given(st.sampled_from([-1, 1, 77]), st.text("ab/", min_size=1, max_size=8))
def test_list_5_a_token_is_this_text(revision, name):
    token = read.make_continue(revision, PREFIX, PREFIX + name)
    assert token == encoded({"v": "meta.k8s.io/v1", "rv": revision, "start": name + "\0"})
    if ".." not in name:
        assert read.parse_continue(token, PREFIX) == (
            None if revision == -1 else revision,
            PREFIX + name,
        )


def test_list_7_a_chain_that_is_too_old_says_how_to_go_on():
    world = populated()
    for name in "bcd":
        body = an_object(CONFIG_MAPS, ObjectMeta(name=name))
        world.do(Request("create", CONFIG_MAPS, "default", body=body, user=ADMIN))
    first = do(world, "list", limit=1, namespace="").body
    do(world, "delete", "d")
    world.history = compact(world.history, world.history.revision)
    response = do(world, "list", limit=1, namespace="", continue_=first.metadata.continue_)
    code, reason, message, _ = said(response)
    assert (code, reason, response.body.status) == (410, "Expired", "Failure")
    assert message.startswith(
        "The provided continue parameter is too old to display a consistent list result."
    )
    rest = do(world, "list", limit=1, namespace="", continue_=response.body.metadata.continue_).body
    assert rest.metadata.resource_version == str(world.history.revision)
    assert [item.metadata.name for item in rest.items] == ["b"]
    assert read.parse_continue(rest.metadata.continue_, PREFIX)[0] == world.history.revision
    exact = do(world, "list", resource_version="1", resource_version_match="Exact")
    assert said(exact)[:3] == (
        410,
        "Expired",
        "The resourceVersion for the provided list is too old.",
    )


@given(
    st.integers(0, 3), st.sampled_from(["a", "gone"]), st.sampled_from(["", "app=x", "app=nothing"])
)
def test_list_12_one_object_by_its_name_as_it_was(back, name, labels):
    """A list of one name is a point, and a point of that revision."""
    world = populated()
    at = max(world.history.revision - back, 1)
    by_name = do(
        world,
        "list",
        resource_version=str(at),
        resource_version_match="Exact",
        field_selector=f"metadata.name={name}",
        label_selector=labels,
    ).body
    everything = do(
        world,
        "list",
        resource_version=str(at),
        resource_version_match="Exact",
        label_selector=labels,
    ).body
    assert by_name.items == tuple(item for item in everything.items if item.metadata.name == name)
    assert (
        by_name.metadata.resource_version == str(at)
        and by_name.metadata.remaining_item_count is None
    )


class Keyed:
    """A store that can be read by key only."""

    def __init__(self, history):
        self.get, self.revision, self.reads = history.get, history.revision, 0

    def list(self, *arguments):
        raise AssertionError("a range is read")


@given(st.sampled_from(["a", "gone"]), st.sampled_from(["", "app=x"]), st.integers(0, 2))
def test_list_15_a_list_of_one_name_reads_no_range(name, labels, limit):
    """Also with other selectors, a limit, and of a resource of the cluster."""
    history = populated().history
    for kind, namespace, fields in (
        (CONFIG_MAPS, "default", f"metadata.name={name}"),
        (CONFIG_MAPS, "", f"metadata.namespace=default,metadata.name={name}"),
        (resources.NODES, "", f"metadata.name={name}"),
    ):
        selection = select(kind, namespace, labels, fields)
        page = read.read(selection, Options(limit=limit), Keyed(history))
        everything = read.read(selection, Options(), history).records
        assert page.records == everything and not page.more


# --- watches --------------------------------------------------------------------------------------


@given(
    st.sampled_from(["", "default"]),
    st.sampled_from(["", "a"]),
    st.sampled_from(["", "metadata.name!=b"]),
    st.sampled_from(["", "app=x"]),
    st.booleans(),
    st.sampled_from([None, 0, 5, 10**9]),
)
def test_watchapi_1_a_stream_is_what_was_asked_for(
    namespace, name, field, labels, bookmarks, timeout
):
    if name and not namespace:
        namespace = "default"
    world = populated()
    options = {
        "field_selector": field,
        "label_selector": labels,
        "allow_watch_bookmarks": bookmarks,
        "timeout_seconds": timeout,
    }
    stream = do(world, "watch", name, namespace=namespace, resource_version="1", **options)
    assert isinstance(stream, Stream)
    assert (stream.resource, stream.namespace, stream.name, stream.bookmarks) == (
        CONFIG_MAPS,
        namespace,
        name,
        bookmarks,
    )
    assert stream.timeout_seconds == (min(timeout, watch.TIMEOUT_SECONDS_MAX) if timeout else None)
    assert (stream.revision, stream.initial, stream.initial_events_end) == (1, (), False)
    assert stream.labels.matches({"app": "x"}) and stream.labels.matches({"app": "y"}) == (
        not labels
    )
    chosen = sorted(
        requirement.key + requirement.operator + requirement.value
        for requirement in stream.fields.requirements
    )
    assert chosen == sorted(
        ([f"metadata.name={name}"] if name else []) + ([field] if field else [])
    )
    whole = f"{PREFIX}{namespace}/" if namespace else PREFIX
    assert watch.prefix_of(stream).startswith(whole)


def test_watchapi_3_a_past_that_is_compacted_says_which():
    world = populated()
    world.history = compact(world.history, world.history.revision)
    response = do(world, "watch", resource_version="1")
    assert said(response)[:3] == (
        410,
        "Expired",
        f"too old resource version: 1 ({world.history.compacted})",
    )


@given(st.booleans(), st.booleans())
def test_watchapi_4_watchapi_8_initial_events_and_bookmarks_in_full(bookmarks, asked):
    world = populated()
    options = (
        {"send_initial_events": True, "resource_version_match": "NotOlderThan"} if asked else {}
    )
    stream = do(world, "watch", allow_watch_bookmarks=bookmarks, **options)
    events = watch.initial_events(stream)
    records = world.history.list(f"{PREFIX}default/").records
    assert [(e.type, e.object, e.revision, e.record) for e in events if e.type != "BOOKMARK"] == [
        ("ADDED", record.value, record.mod_revision, record) for record in records
    ]
    revision = world.history.revision
    marks = [event for event in events if event.type == "BOOKMARK"]
    assert len(marks) == (asked and bookmarks)
    for mark in marks:
        metadata = {
            "resourceVersion": str(revision),
            "creationTimestamp": None,
            "annotations": {"k8s.io/initial-events-end": "true"},
        }
        assert (mark.object, mark.revision) == (
            {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata},
            revision,
        )
    metadata = {"resourceVersion": "7", "creationTimestamp": None}
    assert watch.bookmark(stream, 7) == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": metadata,
    }


def test_watchapi_6_objects_are_told_in_the_version_that_was_asked_for():
    """Events are kept as core/v1, and served as events.k8s.io/v1 too."""
    world = World()
    body = resources.EVENTS.type(
        metadata=ObjectMeta(name="e", namespace="default"),
        reason="Reason",
        message="words",
        involved_object=ObjectReference(kind="Pod", namespace="default", name="p"),
        type="Normal",
    )
    assert world.do(
        Request("create", resources.EVENTS, "default", body=body, user=ADMIN)
    ).response.ok
    for kind, attribute in ((resources.EVENTS, "message"), (resources.EVENTS_V1, "note")):
        stream = do(world, "watch", kind=kind)
        [event] = watch.initial_events(stream)
        assert (event.type, event.object.api_version, getattr(event.object, attribute)) == (
            "ADDED",
            kind.api_version,
            "words",
        )
        changes = world.history.changes(watch.prefix_of(stream), 0)
        later = do(world, "watch", kind=kind, resource_version="1")
        [heard] = watch.events(later, changes)
        assert (heard.type, heard.object, heard.revision) == ("ADDED", event.object, event.revision)


@pytest.mark.parametrize("kind", [CONFIG_MAPS, resources.PODS, resources.EVENTS, resources.LEASES])
def test_list_3_a_field_that_cannot_be_selected_is_named(kind):
    code, reason, message, _ = said(do(populated(), "list", kind=kind, field_selector="spec.odd=1"))
    assert (code, reason) == (400, "BadRequest") and "spec.odd" in message
    assert message in (
        "field label not supported: spec.odd",
        '"spec.odd" is not a known field selector: only "metadata.name", "metadata.namespace"',
    )
