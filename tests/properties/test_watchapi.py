"""Laws of watches as the API server serves them, rules WATCHAPI-1 ... WATCHAPI-9
(spec/watch_api.md)."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from api_world import KINDS, World, an_object, histories, populated, run, steps
from hypothesis import given, settings
from hypothesis import strategies as st
from test_list import fields, matches_labels, selectors

from refk8s.core.api import resources
from refk8s.core.api.codec import encode
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request, WatchEvent
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import watch
from refk8s.core.apiserver.accept import Form
from refk8s.core.apiserver.outcome import Stream
from refk8s.core.apiserver.respond import write_events
from refk8s.core.apiserver.strategy import index_values
from refk8s.core.store import compact

PATH = "/api/v1/namespaces/default/configmaps"
kinds = st.sampled_from(KINDS)
FEW = (resources.CONFIG_MAPS, resources.LEASES)
"""So few kinds that the same objects change again and again."""
namespaces = st.sampled_from(["", "default", "other"])


def stream_of(world: World, kind=resources.CONFIG_MAPS, namespace="default", **options) -> Stream:
    outcome = world.do(
        Request("watch", kind, namespace, options=Options(**options), user=ADMIN)
    ).response
    assert isinstance(outcome, Stream), outcome
    return outcome


def told(world: World, stream: Stream) -> tuple[WatchEvent, ...]:
    """Everything that the watcher hears up to now."""
    return (
        *watch.initial_events(stream),
        *watch.events(stream, world.history.changes(watch.prefix_of(stream), stream.revision)),
    )


def replayed(items, events) -> dict[str, object]:
    """What a watcher holds that began with these objects and heard these events; it is strict about
    what it hears."""
    held = {f"{item.metadata.namespace}/{item.metadata.name}": item for item in items}
    for event in events:
        if event.type == "BOOKMARK":
            continue
        key = f"{event.object.metadata.namespace}/{event.object.metadata.name}"
        assert (key in held) == (event.type != "ADDED"), f"{event.type} of {key}"
        if event.type == "DELETED":
            del held[key]
        else:
            held[key] = event.object
    return held


def listed(world: World, kind, namespace, labels, field):
    options = Options(label_selector=labels, field_selector=field)
    return world.do(Request("list", kind, namespace, options=options, user=ADMIN)).response.body


@given(
    histories(FEW, size=10),
    st.lists(steps(FEW), max_size=25),
    st.sampled_from(FEW),
    namespaces,
    selectors,
    fields,
)
def test_watchapi_1_watchapi_5_watchapi_6_a_list_and_what_is_told_after_it_are_any_later_list(
    sequence, later, kind, namespace, labels, field
):
    # Shows WATCHAPI-1.a WATCHAPI-6.a WATCHAPI-6.b.
    world = run(sequence)
    first = listed(world, kind, namespace, labels, field)
    start = first.metadata.resource_version
    for step in later:
        world.do(step.request(world))
    stream = stream_of(
        world, kind, namespace, resource_version=start, label_selector=labels, field_selector=field
    )
    events = told(world, stream)
    assert replayed(first.items, events) == replayed(
        listed(world, kind, namespace, labels, field).items, ()
    )
    assert all(one.revision <= other.revision for one, other in pairwise(events)) and all(
        event.revision > int(start) for event in events
    )
    assert len(
        {
            (event.revision, event.object.metadata.namespace, event.object.metadata.name)
            for event in events
        }
    ) == len(events)


WAYS = [None, {}, {"app": "x"}, {"app": "y"}]


@pytest.mark.parametrize("before", WAYS)
@pytest.mark.parametrize("after", WAYS)
@pytest.mark.parametrize("selector", ["app=x", "app!=x", ""])
def test_watchapi_5_watchapi_7_every_way_into_a_selection_and_out_of_it(before, after, selector):
    """From labels to labels; None: there is no object. All there is, so the table of watch.py holds
    as a whole."""
    # Shows WATCHAPI-5.a WATCHAPI-5.b WATCHAPI-5.c WATCHAPI-5.d WATCHAPI-7.a.
    if before is None and after is None:
        return
    world = World()

    def write(labels, number):
        body = an_object(resources.CONFIG_MAPS, ObjectMeta(name="a", labels=labels), number)
        there = world.get(resources.CONFIG_MAPS, "a") is not None
        verb = "delete" if labels is None else "update" if there else "create"
        assert world.do(
            Request(
                verb,
                resources.CONFIG_MAPS,
                "default",
                "a",
                body=None if labels is None else body,
                user=ADMIN,
            )
        ).response.ok

    if before is not None:
        write(before, 1)
    stream = stream_of(world, resource_version=str(world.history.revision), label_selector=selector)
    write(after, 2)
    was, is_ = (
        labels is not None and matches_labels(selector, labels) for labels in (before, after)
    )
    expected = {
        (False, True): "ADDED",
        (True, True): "MODIFIED",
        (True, False): "DELETED",
        (False, False): None,
    }[was, is_]
    (event,) = told(world, stream) or (None,)
    assert (event.type if event is not None else None) == expected
    if event is not None:
        assert event.object.data == {"number": "1" if expected == "DELETED" else "2"}
        assert (event.object.metadata.labels or {}) == (before if expected == "DELETED" else after)
        assert event.object.metadata.resource_version == str(world.history.revision)


@given(histories(size=25), st.integers(0, 40), kinds, selectors)
def test_watchapi_6_what_is_told_does_not_depend_on_how_it_is_cut(sequence, cut, kind, labels):
    # Shows WATCHAPI-6.b.
    world = run(sequence)
    stream = stream_of(world, kind, "", resource_version="1", label_selector=labels)
    changes = world.history.changes(kind.prefix, 1)
    cut = min(cut, len(changes))
    assert watch.events(stream, changes) == (
        *watch.events(stream, changes[:cut]),
        *watch.events(stream, changes[cut:]),
    )


@given(histories(size=25), kinds, namespaces, selectors)
def test_watchapi_1_watchapi_4_without_a_revision_what_is_there_comes_first(
    sequence, kind, namespace, labels
):
    # Shows WATCHAPI-1.b WATCHAPI-4.a.
    world = run(sequence)
    there = listed(world, kind, namespace, labels, "").items
    for version in ("", "0"):
        stream = stream_of(world, kind, namespace, resource_version=version, label_selector=labels)
        events = told(world, stream)
        assert [(event.type, event.object) for event in events] == [
            ("ADDED", item) for item in there
        ]


@pytest.mark.parametrize(
    ("options", "kinds_of_events"),
    [
        ({"send_initial_events": True, "allow_watch_bookmarks": True}, ["ADDED", "BOOKMARK"]),
        (
            {"send_initial_events": True, "allow_watch_bookmarks": True, "resource_version": "2"},
            ["ADDED", "BOOKMARK"],
        ),
        ({"send_initial_events": True}, ["ADDED"]),
        ({"send_initial_events": False}, []),
    ],
)
def test_watchapi_4_initial_events_and_their_end(options, kinds_of_events):
    # Shows WATCHAPI-4.b WATCHAPI-4.c.
    world = populated()
    stream = stream_of(world, resource_version_match="NotOlderThan", **options)
    events = told(world, stream)
    assert [event.type for event in events] == kinds_of_events
    if "BOOKMARK" in kinds_of_events:
        end = events[-1]
        assert (
            end.object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            and end.revision == world.history.revision
        )
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="b")),
            user=ADMIN,
        )
    )
    assert [event.type for event in told(world, stream)] == [*kinds_of_events, "ADDED"]


@pytest.mark.parametrize(
    "options",
    [
        {"send_initial_events": True},
        {"send_initial_events": True, "resource_version_match": "Exact", "resource_version": "2"},
        {"resource_version_match": "NotOlderThan", "resource_version": "2"},
    ],
)
def test_watchapi_2_send_initial_events_needs_not_older_than(options):
    # Shows WATCHAPI-2.a.
    said = (
        populated()
        .do(
            Request(
                "watch", resources.CONFIG_MAPS, "default", options=Options(**options), user=ADMIN
            )
        )
        .response
    )
    assert said.code == 422


@given(histories(size=15), st.integers(0, 20), st.integers(0, 20))
def test_watchapi_3_a_past_that_is_forgotten_is_410_and_any_other_is_told(
    sequence, compacted_back, start_back
):
    # Shows WATCHAPI-3.a WATCHAPI-3.b.
    world = run(sequence)
    compacted = max(world.history.revision - compacted_back, 1)
    start = max(world.history.revision - start_back, 1)
    world.history = compact(world.history, compacted)
    outcome = world.do(
        Request(
            "watch",
            resources.CONFIG_MAPS,
            "default",
            options=Options(resource_version=str(start)),
            user=ADMIN,
        )
    ).response
    if start < compacted:
        assert outcome.code == 410
        line = json.loads(world.http("GET", f"{PATH}?watch=true&resourceVersion={start}").content)
        assert (
            line["type"] == "ERROR"
            and line["object"]["code"] == 410
            and line["object"]["reason"] == "Expired"
        )
    else:
        assert told(world, outcome) is not None


def test_watchapi_1_a_watch_from_the_future_hears_what_comes_after_it():
    world = populated()
    stream = stream_of(world, resource_version=str(world.history.revision + 1))
    for name in ("b", "c"):
        world.do(
            Request(
                "create",
                resources.CONFIG_MAPS,
                "default",
                body=an_object(resources.CONFIG_MAPS, ObjectMeta(name=name)),
                user=ADMIN,
            )
        )
    assert [event.object.metadata.name for event in told(world, stream)] == ["c"]


@given(histories(size=30), kinds, selectors)
def test_watchapi_7_deleted_shows_the_last_state_that_matched_at_the_revision_of_its_end(
    sequence, kind, labels
):
    # Shows WATCHAPI-7.a.
    world = run(sequence)
    stream = stream_of(world, kind, "", resource_version="1", label_selector=labels)
    for change in world.history.changes(kind.prefix, 1):
        for event in watch.events(stream, (change,)):
            assert (
                event.object.metadata.resource_version
                == str(change.revision)
                == str(event.revision)
            )
            if event.type == "DELETED":
                before = change.previous.value
                restored = type(before).__struct_fields__
                assert all(
                    getattr(event.object, field) == getattr(before, field)
                    for field in restored
                    if field != "metadata"
                )
                assert (
                    event.object.metadata.uid == before.metadata.uid
                    and event.object.metadata.labels == before.metadata.labels
                )
                assert stream.matches is None or stream.matches(event.object)
            else:
                assert event.record is change.record and event.object is change.record.value


@given(histories(size=10), st.lists(steps(), max_size=12), kinds)
def test_watchapi_8_whoever_goes_on_from_a_bookmark_misses_nothing_and_hears_nothing_twice(
    sequence, later, kind
):
    # Shows WATCHAPI-8.a WATCHAPI-8.b.
    world = run(sequence)
    stream = stream_of(world, kind, "", resource_version="1", allow_watch_bookmarks=True)
    before = told(world, stream)
    line = json.loads(
        write_events(
            (WatchEvent("BOOKMARK", None, world.history.revision),), Form(), kind, world.now
        )
    )
    assert (
        set(line["object"]) == {"kind", "apiVersion", "metadata"}
        and line["object"]["kind"] == kind.kind
    )
    for step in later:
        world.do(step.request(world))
    after = told(
        world,
        stream_of(world, kind, "", resource_version=line["object"]["metadata"]["resourceVersion"]),
    )
    assert (*before, *after) == told(world, stream)


single_fields = st.sampled_from(
    [
        "metadata.name=a",
        "metadata.name=b",
        "spec.nodeName=node-1",
        "spec.nodeName=",
        "spec.nodeName=node-2,metadata.name=a",
        "",
    ]
)


@given(histories((resources.PODS, resources.CONFIG_MAPS), size=30), single_fields, namespaces)
def test_watchapi_9_an_index_finds_every_watcher_that_hears_of_a_change(sequence, field, namespace):
    # Shows WATCHAPI-9.a.
    world = run(sequence)
    for kind in (resources.PODS, resources.CONFIG_MAPS):
        if "spec" in field and kind != resources.PODS:
            continue
        stream = stream_of(world, kind, namespace, resource_version="1", field_selector=field)
        index = watch.index_of(stream)
        assert (index is None) == (not field)
        for change in world.history.changes(kind.prefix, 1):
            if watch.events(stream, (change,)):
                assert index is None or index in index_values(kind.prefix, change)


def test_sometimes_watchers_hear_of_everything():
    """Every type of event is reached, and so is leaving a selection without being deleted."""
    seen: Counter[str] = Counter()

    @settings(derandomize=True, max_examples=150)
    @given(histories(FEW, size=40), st.sampled_from(["app=x", "app!=x"]))
    def collect(sequence, labels):
        world = run(sequence)
        stream = stream_of(
            world, resources.CONFIG_MAPS, "", resource_version="1", label_selector=labels
        )
        for change in world.history.changes(resources.CONFIG_MAPS.prefix, 1):
            for event in watch.events(stream, (change,)):
                seen[
                    "left" if event.type == "DELETED" and change.record is not None else event.type
                ] += 1

    collect()
    assert seen["ADDED"] and seen["MODIFIED"] and seen["DELETED"] and seen["left"]


# --- over the wire


@given(histories(size=15), kinds)
def test_watchapi_6_the_lines_are_the_events(sequence, kind):
    # Shows API-10.a.
    world = run(sequence)
    stream = stream_of(world, kind, "default", resource_version="1")
    events = told(world, stream)
    base = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    for path in (
        f"{base}/namespaces/default/{kind.plural}?watch=1&resourceVersion=1",
        f"{base}/watch/namespaces/default/{kind.plural}?resourceVersion=1",
    ):
        lines = world.http("GET", path).content.splitlines()
        assert lines == [
            b'{"type":"%s","object":%s}' % (event.type.encode(), encode(event.object))
            for event in events
        ]


def test_watchapi_5_one_object_is_watched_by_its_name():
    world = populated()
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="b")),
            user=ADMIN,
        )
    )
    by_field = world.http("GET", f"{PATH}?watch=true&fieldSelector=metadata.name%3Da").content
    by_path = world.http("GET", "/api/v1/watch/namespaces/default/configmaps/a").content
    assert by_field == by_path and [
        json.loads(line)["object"]["metadata"]["name"] for line in by_field.splitlines()
    ] == ["a"]


def test_watchapi_6_tables_and_metadata_can_be_watched():
    world = populated()
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="b")),
            user=ADMIN,
        )
    )
    forms = {
        kind: {"accept": f"application/json;as={kind};v=v1;g=meta.k8s.io"}
        for kind in ("Table", "PartialObjectMetadata", "PartialObjectMetadataList")
    }
    lines = [
        json.loads(line)
        for line in world.http(
            "GET", f"{PATH}?watch=1", headers=forms["Table"]
        ).content.splitlines()
    ]
    assert [line["object"]["kind"] for line in lines] == ["Table", "Table"]
    assert [bool(line["object"]["columnDefinitions"]) for line in lines] == [True, False], (
        "the columns come once"
    )
    lines = [
        json.loads(line)
        for line in world.http(
            "GET", f"{PATH}?watch=1", headers=forms["PartialObjectMetadata"]
        ).content.splitlines()
    ]
    assert [set(line["object"]) for line in lines] == [{"kind", "apiVersion", "metadata"}] * 2
    assert (
        world.http("GET", f"{PATH}?watch=1", headers=forms["PartialObjectMetadataList"]).code == 406
    )
