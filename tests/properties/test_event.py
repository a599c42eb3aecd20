"""What is told about what happened (spec/loop.md, EVENT-1 and EVENT-2)."""

from hypothesis import given
from hypothesis import strategies as st
from workload_helpers import NOW, pod

from refk8s.core.api.request import User
from refk8s.core.context import MINUTE
from refk8s.core.loop.plan import Note
from refk8s.core.loop.recorder import BURST_MAX, REFILL, Recorder, record

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
        mine = [request for request, told in zip(requests, messages, strict=True) if told == message]
        assert mine[0].verb == "create" and mine[0].body.count == 1
        assert [r.body.document["count"] for r in mine[1:]] == list(range(2, len(mine) + 1))
        assert {r.name for r in mine[1:]} <= {mine[0].body.metadata.name}


@given(st.lists(st.integers(0, 7), min_size=1, max_size=80))
def test_event_2_an_object_says_at_most_a_burst_and_one_more_every_five_minutes(pauses):
    notes = [Note(pod("p"), "Reason", f"message {n}") for n in range(len(pauses))]
    times = [now for now, request in tell(notes, pauses) if request is not None]
    for i, start in enumerate(times):
        for j in range(i, len(times)):
            assert j - i + 1 <= BURST_MAX + (times[j] - start) // REFILL + 1
    others = [Note(pod(f"p{n}"), "Reason", "m") for n in range(60)]
    assert all(request is not None for _, request in tell(others, [0] * 60)), "one object's silence is not another's"
