"""Views made of lists and watches (spec/watch.md): one loop, told what a server would tell it; and the Events it records (spec/loop.md)."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.core_v1 import ConfigMap, ConfigMapList
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.request import Response, User, WatchEvent
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.recorder import BURST_MAX, Recorder, record
from refk8s.core.loop.view import View
from refk8s.core.machine import Answered, Call, Watch, Watched, WatchEnded

START = 1_790_000_000 * SECOND


class Listener(Reconciler):
    """Remembers which keys it was asked about."""

    name = "listener"
    interests = (Interest(CONFIG_MAPS, own_key),)

    def start_memory(self, now: int) -> tuple[str, ...]:
        return ()

    def reconcile(self, view: View, key: str, now: int, local: Local) -> Plan:
        return Plan(memory=(*local.memory, key))


def config_map(name: str, revision: int, value: str = "") -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default", resource_version=str(revision)), data={"v": value})


def answer(revision: int, *items: ConfigMap) -> Response:
    return Response(200, ConfigMapList(metadata=ListMeta(resource_version=str(revision)), items=items))


class Conversation:
    """A loop and the one who answers it."""

    def __init__(self) -> None:
        self.loop = Loop("listener", [Listener()])
        self.now = START
        self.state, self.effects = self.loop.start(START, b"seed")

    def tell(self, event: Any) -> None:
        self.state, self.effects = self.loop.step(self.state, (event,), self.now)

    def asked(self, kind: type) -> Any:
        [effect] = [effect for effect in self.effects if isinstance(effect, kind)]
        return effect

    def list(self, revision: int, *items: ConfigMap) -> Any:
        """Answer the list that was just asked for; returns the watch that follows."""
        self.tell(Answered(self.asked(Call).id, answer(revision, *items)))
        return self.asked(Watch)

    @property
    def seen(self) -> dict[str, str]:
        return {obj.metadata.name: obj.data["v"] for obj in self.state.view.list(CONFIG_MAPS)}

    @property
    def due(self) -> tuple[str, ...]:
        return self.state.memories["listener"]


values = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"))


@given(values, values)
def test_watch_3_watch_4_after_410_a_fresh_list_says_what_is_and_what_went_missing_is_news(before, after):
    talk = Conversation()
    first = talk.asked(Call).request
    assert first.verb == "list" and first.options.resource_version == ""  # WATCH-4: the newest state, not any
    watch = talk.list(10, *(config_map(name, 5 if after.get(name) == value else 6, value) for name, value in sorted(before.items())))
    assert watch.request.options.resource_version == "10" and talk.seen == before
    already = len(talk.due)
    talk.tell(WatchEnded(watch.id, 410))
    again = talk.asked(Call).request
    assert again.verb == "list" and again.options.resource_version == ""
    watch = talk.list(20, *(config_map(name, 5 if before.get(name) == value else 15, value) for name, value in sorted(after.items())))
    assert talk.seen == after and watch.request.options.resource_version == "20"
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed <= {key.removeprefix("default/") for key in talk.due[already:]}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz-")), min_size=1, max_size=8), st.data())
def test_watch_5_what_has_been_heard_is_not_heard_again(changes, data):
    talk = Conversation()
    watch = talk.list(10)
    events, there = [], {}
    for number, (name, value) in enumerate(changes):
        kind = "DELETED" if value == "-" else "MODIFIED" if name in there else "ADDED"
        if kind == "DELETED" and name not in there:
            continue
        there = {k: v for k, v in there.items() if k != name} if kind == "DELETED" else {**there, name: value}
        events.append(WatchEvent(kind, config_map(name, 11 + number, value), 11 + number))
    if not events:
        return
    talk.tell(Watched(watch.id, tuple(events)))
    heard = talk.due
    repeated = data.draw(st.integers(0, len(events) - 1))
    talk.tell(Watched(watch.id, tuple(events[repeated:-1])))
    assert talk.seen == there and talk.due == heard


# --- Events --------------------------------------------------------------------------------------------------------------


def note(message: str = "Created pod: a") -> Note:
    return Note(ConfigMap(metadata=ObjectMeta(name="web", namespace="default", uid="u")), "SuccessfulCreate", message)


def told(recorder: Recorder, one: Note, number: int, now: int) -> Any:
    return record(recorder, one, "controller", "", User("c"), f"n{number}", now)


@given(st.lists(st.sampled_from(["a", "b"]), max_size=20))
def test_event_1_the_same_again_is_counted_and_not_repeated(messages):
    recorder, counts = Recorder(), dict.fromkeys("ab", 0)
    for number, message in enumerate(messages):
        recorder, request = told(recorder, note(message), number, START + number)
        counts[message] += 1
        if counts[message] == 1:
            assert (request.verb, request.body.count, request.body.message) == ("create", 1, message)
        else:
            assert (request.verb, request.body.document["count"]) == ("patch", counts[message])


@given(st.integers(0, 60), st.integers(0, 30))
def test_event_2_an_object_says_at_most_25_things_at_once_and_one_more_every_five_minutes(many, pauses):
    recorder, said = Recorder(), 0
    for number in range(many):
        recorder, request = told(recorder, note(f"m{number}"), number, START)
        said += request is not None
    assert said == min(many, BURST_MAX) and BURST_MAX == 25
    later = START + pauses * 5 * MINUTE
    for number in range(100):
        recorder, request = told(recorder, note(f"later {number}"), number, later)
        said += request is not None
    assert said == min(many, BURST_MAX) + min(BURST_MAX, BURST_MAX - min(many, BURST_MAX) + pauses)
