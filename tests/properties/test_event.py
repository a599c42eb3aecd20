"""What is told about what happened (spec/loop.md, EVENT-1, EVENT-2 and EVENT-7)."""

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NOW, pod

from refk8s.core.api.core_v1 import Event, EventSeries, EventSource, Node, ObjectReference
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch
from refk8s.core.api.resources import EVENTS
from refk8s.core.api.user import User
from refk8s.core.apiserver.validation.events import validate_new_event, validate_new_event_update
from refk8s.core.context import MINUTE, micro_timestamp, timestamp
from refk8s.core.loop.plan import Note
from refk8s.core.loop.recorder import (
    BURST_MAX,
    MESSAGE_BYTES_MAX,
    REFILL,
    REMEMBERED_MAX,
    Recorder,
    record,
)

SOMEBODY = User("somebody")


def tell(notes, pauses):
    """The requests that these notes become, one pause (in minutes) after another."""
    recorder, now, requests = Recorder(), NOW, []
    for number, (note, pause) in enumerate(zip(notes, pauses, strict=True)):
        recorder, request = record(recorder, note, "kubelet", "node-1", SOMEBODY, f"u{number}", now)
        requests.append((now, request))
        now += pause * MINUTE
    return requests


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=20))
def test_event_1_the_same_again_is_counted_and_not_repeated(messages):
    notes = [Note(pod("p"), "Reason", message) for message in messages]
    requests = [request for _, request in tell(notes, [0] * len(notes))]
    for message in set(messages):
        mine = [
            request for request, told in zip(requests, messages, strict=True) if told == message
        ]
        assert mine[0].verb == "create" and mine[0].body.count == 1
        assert [r.body.document["count"] for r in mine[1:]] == list(range(2, len(mine) + 1))
        assert {r.name for r in mine[1:]} <= {mine[0].body.metadata.name}


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=80)
    | st.lists(st.sampled_from([0, 0, 0, 1, 4, 5, 6, 11]), min_size=30, max_size=80)
)
@example([7, *[0] * 24, 3, 2, 0])  # full again after 7 minutes: the next is added 5 minutes later
@example([*[0] * 24, 6, 1, 0])  # one is added at 5 minutes, and the next at 10
def test_event_2_an_object_says_at_most_a_burst_and_one_more_every_five_minutes(pauses):
    notes = [Note(pod("p"), "Reason", f"message {n}") for n in range(len(pauses))]
    times = [now for now, request in tell(notes, pauses) if request is not None]
    for i, start in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= BURST_MAX + (times[j] - start) // REFILL + 1
    tokens, since, expected = BURST_MAX, NOW, []
    now = NOW
    # A bucket that gains one for every whole interval since it was last full or last gained.
    for pause in pauses:
        gained = (now - since) // REFILL
        tokens, since = (
            (BURST_MAX, now)
            if tokens + gained >= BURST_MAX
            else (tokens + gained, since + gained * REFILL)
        )
        if tokens:
            tokens -= 1
            expected.append(now)
        now += pause * MINUTE
    assert times == expected
    others = [Note(pod(f"p{n}"), "Reason", "m") for n in range(60)]
    others += [Note(pod("p", uid=f"u{n}"), "Reason", "m") for n in range(60)]
    others += [Note(Node(metadata=ObjectMeta(name=f"n{n}")), "Reason", "m") for n in range(60)]
    assert all(request is not None for _, request in tell(others, [0] * len(others))), (
        "one object's silence is not another's"
    )


@given(
    st.booleans(),
    st.sampled_from(["", "spec.containers{c}"]),
    st.sampled_from(["", "node-1"]),
    st.integers(0, 3),
)
def test_event_1_an_event_says_about_whom_what_and_when(is_node, path, host, repeats):
    """All of the Event, and all of the patches that count it."""
    about = Node(metadata=ObjectMeta(name="p")) if is_node else pod("p", resource_version="7")
    note = Note(about, "Reason", "it happened", "Warning", path)
    recorder, request = record(Recorder(), note, "kubelet", host, SOMEBODY, "abc", NOW)
    namespace, uid = ("default", None) if is_node else ("default", "uid-p")
    involved = ObjectReference(
        api_version="v1",
        kind="Node" if is_node else "Pod",
        namespace=None if is_node else "default",
        name="p",
        uid=uid,
        resource_version=None if is_node else "7",
        field_path=path or None,
    )
    at = timestamp(NOW)
    name = f"p.{NOW * 1000:016x}abc"
    assert request.body == Event(
        metadata=ObjectMeta(name=name, namespace=namespace),
        involved_object=involved,
        reason="Reason",
        message="it happened",
        type="Warning",
        source=EventSource(component="kubelet", host=host or None),
        first_timestamp=at,
        last_timestamp=at,
        count=1,
        reporting_component="kubelet",
        reporting_instance=host,
    )
    assert (request.verb, request.resource, request.namespace, request.user) == (
        "create",
        EVENTS,
        namespace,
        SOMEBODY,
    )
    assert request.because
    for number in range(repeats):
        later = NOW + (number + 1) * MINUTE
        recorder, again = record(recorder, note, "kubelet", host, SOMEBODY, "other", later)
        assert (again.verb, again.resource, again.namespace, again.name) == (
            "patch",
            EVENTS,
            namespace,
            name,
        )
        assert again.body == Patch(
            "application/merge-patch+json", {"count": number + 2, "lastTimestamp": timestamp(later)}
        )
        assert again.user == SOMEBODY and again.because


@given(
    st.text(max_size=1500),
    st.sampled_from(["", "node-1", "ü" * 100]),
    st.booleans(),
    st.integers(0, 3),
)
def test_event_7_an_event_with_an_action_is_valid_in_both_groups_and_repeats_as_a_series(
    message, host, is_related, repeats
):
    other = pod("other") if is_related else None
    note = Note(pod("p"), "Reason", message, action="Binding", related=other)
    recorder, request = record(Recorder(), note, "default-scheduler", host, SOMEBODY, "abc", NOW)
    event = request.body
    assert validate_new_event(event) == []
    assert (event.event_time, event.action, event.reporting_component) == (
        micro_timestamp(NOW),
        "Binding",
        "default-scheduler",
    )
    assert event.reporting_instance.startswith("default-scheduler")
    assert (event.related.name if event.related else None) == ("other" if is_related else None)
    if len(message.encode("utf-8", "replace")) <= 1024:
        assert event.message == message
    for number in range(repeats):
        recorder, again = record(
            recorder, note, "default-scheduler", host, SOMEBODY, "abc", NOW + (number + 1) * MINUTE
        )
        series = again.body.document.pop("series")
        assert (
            again.verb == "patch" and again.name == event.metadata.name and not again.body.document
        )
        assert series == {
            "count": number + 2,
            "lastObservedTime": micro_timestamp(NOW + (number + 1) * MINUTE),
        }
        counted = replace(
            event,
            series=EventSeries(
                count=series["count"], last_observed_time=series["lastObservedTime"]
            ),
        )
        assert validate_new_event_update(counted, event) == []


@given(st.sampled_from(["", "spec.containers{c}"]), st.sampled_from(["", "node-1"]), st.booleans())
def test_event_7_an_event_with_an_action_has_exactly_these_fields(path, host, is_related):
    other = pod("other") if is_related else None
    note = Note(pod("p"), "Reason", "text", "Warning", path, "Binding", other)
    _, request = record(Recorder(), note, "default-scheduler", host, SOMEBODY, "abc", NOW)
    reference = ObjectReference(
        api_version="v1", kind="Pod", namespace="default", name="other", uid="uid-other"
    )
    assert request.body == Event(
        metadata=ObjectMeta(name=f"p.{NOW * 1000:016x}abc", namespace="default"),
        involved_object=replace(reference, name="p", uid="uid-p", field_path=path or None),
        reason="Reason",
        message="text",
        type="Warning",
        source=EventSource(),
        event_time=micro_timestamp(NOW),
        action="Binding",
        related=reference if is_related else None,
        reporting_component="default-scheduler",
        reporting_instance=f"default-scheduler-{host}" if host else "default-scheduler",
    )
    assert (request.body.api_version, request.body.kind) == ("v1", "Event")


@given(st.integers(0, 8), st.sampled_from(["a", "ü", "€", "🙂"]), st.integers(0, 3))
def test_event_7_a_message_that_is_too_long_is_cut_at_the_last_whole_character(over, letter, shift):
    size = len(letter.encode())
    message = "x" * shift + letter * ((MESSAGE_BYTES_MAX + over - shift) // size)
    note = Note(pod("p"), "Reason", message, action="Binding")
    _, request = record(Recorder(), note, "default-scheduler", "", SOMEBODY, "abc", NOW)
    if len(message.encode()) <= MESSAGE_BYTES_MAX:
        assert request.body.message == message
    else:
        kept = "x" * shift + letter * ((MESSAGE_BYTES_MAX - 3 - shift) // size)
        assert request.body.message == kept + "..."


def test_event_7_a_message_with_half_a_surrogate_pair_is_recorded():
    note = Note(pod("p"), "Reason", "\ud83d" * 2000, action="Binding")
    _, request = record(Recorder(), note, "default-scheduler", "", SOMEBODY, "abc", NOW)
    assert request.body.message == "?" * (MESSAGE_BYTES_MAX - 3) + "..."


@given(st.integers(2, BURST_MAX))
def test_event_5_events_of_one_instant_have_names_in_the_order_of_recording(count):
    notes = [Note(pod("p"), "Reason", f"message {number}") for number in range(count)]
    names = [request.body.metadata.name for _, request in tell(notes, [0] * count)]
    assert names == sorted(names)
    stems = [name.partition("u")[0] for name in names]
    assert stems == [f"p.{NOW * 1000 + number:016x}" for number in range(count)]
    _, request = record(Recorder(1000), notes[0], "kubelet", "", SOMEBODY, "u", NOW)
    assert request.body.metadata.name == f"p.{NOW * 1000:016x}u", "three digits count"


def test_event_2_a_repeated_event_uses_the_budget_too():
    notes = [Note(pod("p"), "Reason", "the same")] * (BURST_MAX + 1)
    requests = [request for _, request in tell(notes, [0] * len(notes))]
    assert None not in requests[:BURST_MAX] and requests[BURST_MAX] is None


def test_event_1_what_is_remembered_is_bounded_and_forgetting_begins_a_new_event():
    recorder = Recorder()
    for number in range(REMEMBERED_MAX + 1):
        assert len(recorder.seen) <= REMEMBERED_MAX
        recorder, request = record(
            recorder,
            Note(pod(f"p{number}"), "Reason", "m"),
            "kubelet",
            "",
            SOMEBODY,
            f"u{number}",
            NOW,
        )
        assert request.verb == "create"
    assert len(recorder.seen) == 1
