"""The cluster as a transition system (spec/cluster.md): with machines that only listen and speak,
and whole in another process."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import with_default_namespace

from refk8s.adapters.fake.world import make_world
from refk8s.core import components
from refk8s.core.actions import (
    Answer,
    Arrive,
    CatchUp,
    Compact,
    Crash,
    CutWatch,
    Delay,
    Duplicate,
    Elapse,
    GiveUp,
    LoseAnswer,
    LoseRequest,
    Notify,
    Partition,
    Refuse,
    RestartServer,
    Resume,
    Skew,
    Stale,
    Start,
    Stop,
    Submit,
    Suspend,
    Switch,
    Wake,
)
from refk8s.core.api import codec
from refk8s.core.api.apps_v1 import Deployment
from refk8s.core.api.core_v1 import ConfigMap, Service
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    SERVICES,
    by_kind,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.state import Cluster, Flying, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.machine import (
    Answered,
    Call,
    Event,
    Impossible,
    WakeAt,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.value import evolve

START = 1_790_000_000 * SECOND
MADE = 6  # config maps, by one life of the speaker
ROOT = Path(__file__).resolve().parents[2]


class Speaker:
    """Watches config maps from the beginning, makes two at each of its first wakings, and remembers
    all that it hears in this life."""

    name = "speaker"

    def start(self, now: int, seed: bytes) -> tuple[Any, tuple[Any, ...]]:
        watch = Request(
            "watch",
            CONFIG_MAPS,
            options=Options(resource_version="1", allow_watch_bookmarks=True),
            user=ADMIN,
        )
        return (seed.hex()[:8], 0, (), now), (Watch(0, watch), WakeAt(now))

    @staticmethod
    def clock(state: Any) -> int:
        """What time it was when it last heard anything, by its own clock."""
        return state[3]

    def step(self, state: Any, events: Sequence[Event], now: int) -> tuple[Any, tuple[Any, ...]]:
        me, count, heard, _ = state
        effects: tuple[Any, ...] = ()
        for event in events:
            heard = (*heard, event)
            if isinstance(event, Woken) and count < MADE:
                for count in (count + 1, count + 2):  # noqa: B020
                    body = ConfigMap(metadata=ObjectMeta(name=f"c{count}-{me}"))
                    effects += (
                        Call(
                            count,
                            Request(
                                "create",
                                CONFIG_MAPS,
                                "default",
                                body.metadata.name,
                                body=body,
                                user=ADMIN,
                            ),
                        ),
                    )
                effects += (WakeAt(now + count * SECOND),)
        return (me, count, heard, now), effects


def quiet(apiservers: int = 1) -> Cluster:
    cluster = begin({"speaker": Speaker()}, {}, b"seed", START, apiservers)
    return start_all(with_default_namespace(cluster))


def heard(cluster: Cluster) -> tuple[Event, ...]:
    return cluster.components["speaker"].state[2]


def names(cluster: Cluster) -> list[str]:
    return [record.key for record in cluster.history.list(CONFIG_MAPS.prefix).records]


def outcome(action: Any, cluster: Cluster, limit: int) -> Any:
    return Notify(action.watch, limit) if isinstance(action, Notify) else action


drawn = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 99)), max_size=50)


def wander(
    cluster: Cluster, choices: Any, see: Any = lambda before, action, after: None
) -> tuple[Cluster, list[Any]]:
    """A run of normal actions (changes one or two at a time) and faults."""
    taken = []
    for kind, which in choices:
        normal = list(enabled(cluster))
        actions = [outcome(action, cluster, which % 2 + 1) for action in normal]
        flying = [id for id in sorted(cluster.flying) if not cluster.flying[id].watch]
        if kind == 13:
            actions = [Crash("speaker")]
        elif kind == 14 and flying:
            id = flying[which % len(flying)]
            is_request, waits = cluster.flying[id].answer is None, not cluster.flying[id].given_up
            actions = [
                GiveUp(id)
                if is_request and waits and which % 3
                else LoseRequest(id)
                if is_request
                else LoseAnswer(id)
            ]
        elif kind == 15 and cluster.watches:
            actions = [CutWatch(sorted(cluster.watches)[0])]
        if not actions:
            break
        action = actions[which % len(actions)]
        after = step(cluster, action)
        see(cluster, action, after)
        taken.append(action)
        cluster = after
    return cluster, taken


@given(drawn)
def test_cluster_2_a_watch_tells_every_change_once_and_in_order_however_many_at_a_time(choices):
    cluster, _ = wander(quiet(), [(kind % 13, which) for kind, which in choices])
    for _ in range(200):
        cut = [
            Notify(action.watch, 1) if isinstance(action, Notify) else action
            for action in enabled(cluster)
        ]
        if not cut:
            break
        cluster = step(cluster, cut[0])
    told = [
        event
        for one in heard(cluster)
        if isinstance(one, Watched)
        for event in one.events
        if event.type != "BOOKMARK"
    ]
    made = cluster.history.changes(CONFIG_MAPS.prefix, 1)
    assert [(event.object.metadata.name, event.revision) for event in told] == [
        (c.record.value.metadata.name, c.revision) for c in made
    ]
    assert len(told) == MADE


@given(drawn)
def test_cluster_3_nothing_that_was_asked_in_an_earlier_life_is_heard_in_a_later_one(choices):
    def see(before: Cluster, action: Any, after: Cluster) -> None:
        if isinstance(action, Crash):
            assert heard(after) == () and len(after.flying) >= len(before.flying)
        if (
            isinstance(action, (Answer, LoseAnswer, LoseRequest, GiveUp))
            and action.flying[1] != after.components["speaker"].life
        ):
            assert heard(after) == heard(before)
        calls = after.components["speaker"].state[1]
        assert all(event.id <= calls for event in heard(after) if isinstance(event, Answered))

    cluster, _ = wander(quiet(), choices, see)
    me = cluster.components["speaker"].state[0]
    for event in heard(cluster):
        if isinstance(event, Answered) and event.response is not None:
            assert event.response.body.metadata.name.endswith(me)


def test_cluster_3_what_was_sent_before_a_crash_still_takes_effect():
    cluster = quiet()
    while not any(not flying.watch for flying in cluster.flying.values()):
        cluster = step(cluster, list(enabled(cluster))[-1])
    id = min(id for id in sorted(cluster.flying) if not cluster.flying[id].watch)
    cluster = step(step(cluster, Crash("speaker")), Arrive(id))
    assert len(names(cluster)) == 1 and cluster.components["speaker"].life == 2
    assert heard(step(cluster, Answer(id))) == ()


@given(drawn)
def test_cluster_4_time_passes_only_when_nothing_else_can_and_never_back(choices):
    def see(before: Cluster, action: Any, after: Cluster) -> None:
        actions = list(enabled(before))
        assert len(actions) == 1 or not any(isinstance(one, Elapse) for one in actions)
        assert after.now == (action.to if isinstance(action, Elapse) else before.now)
        assert after.now >= before.now

    cluster, _ = wander(quiet(), choices, see)
    with pytest.raises(Impossible):
        step(cluster, Elapse(cluster.now - 1))


@given(drawn)
def test_cluster_5_a_request_takes_effect_at_most_once_and_silence_says_nothing(choices):
    sent, effects, unknown = set(), [], 0

    def see(before: Cluster, action: Any, after: Cluster) -> None:
        nonlocal unknown
        sent.update(f.request.name for f in after.flying.values() if not f.watch)
        changed = after.history.revision - before.history.revision
        assert changed == 0 or isinstance(action, Arrive), f"{action} wrote"
        if changed:
            effects.append(before.flying[action.flying].request.name)
        if isinstance(action, (LoseRequest, LoseAnswer, GiveUp)):
            new = heard(after)[len(heard(before)) :]
            assert all(event == Answered(event.id, None) for event in new) and len(new) <= 1
            unknown += len(new)

    cluster, _ = wander(quiet(), choices, see)
    assert len(effects) == len(set(effects)) and set(effects) <= sent
    assert sorted(key.rpartition("/")[2] for key in names(cluster)) == sorted(effects)
    answers = [event.id for event in heard(cluster) if isinstance(event, Answered)]
    assert len(answers) == len(set(answers)), (
        "an answer was heard twice, or after it had been given up"
    )


def test_cluster_5_sometimes_what_was_given_up_takes_effect_later():
    cluster = quiet()
    while not any(not flying.watch for flying in cluster.flying.values()):
        cluster = step(cluster, list(enabled(cluster))[-1])
    id = min(id for id in sorted(cluster.flying) if not cluster.flying[id].watch)
    cluster = step(cluster, GiveUp(id))
    assert heard(cluster)[-1] == Answered(1, None) and names(cluster) == []
    cluster = step(step(cluster, Arrive(id)), Answer(id))
    assert len(names(cluster)) == 1 and heard(cluster)[-1] == Answered(1, None)


@given(drawn)
def test_cluster_1_cluster_6_the_same_actions_give_the_same_states_and_leave_the_old_ones_alone(
    choices,
):
    """CLUSTER-1, CLUSTER-6."""
    states: list[tuple[Cluster, Any]] = []
    first = quiet()
    _, taken = wander(
        first, choices, lambda before, action, after: states.append((before, picture(before)))
    )
    again = quiet()
    for (before, then), action in zip(states, taken, strict=True):
        assert picture(before) == then == picture(again)
        again = step(again, action)


def told(change: Any) -> tuple[int, str, bytes]:
    return (
        change.revision,
        change.key,
        codec.encode(change.record.value) if change.record is not None else b"",
    )


def picture(cluster: Cluster) -> Any:
    """All that can be told of a state, as plain values."""
    changes = cluster.history.changes("/", 0) if not cluster.history.compacted else ()
    return (
        cluster.now, [told(change) for change in changes],
        [(n, c.life, c.wake_at, repr(c.state)) for n, c in sorted(cluster.components.items())],
        [(id, f.request, f.given_up, repr(f.answer)) for id, f in sorted(cluster.flying.items(), key=lambda item: item[0])],
        [(id, c.revision) for id, c in sorted(cluster.watches.items(), key=lambda item: item[0])],
    )  # fmt: skip


def test_cluster_2_a_watch_that_is_cut_or_compacted_away_says_so():
    cluster = quiet()
    while not cluster.watches:
        cluster = step(cluster, next(iter(enabled(cluster))))
    [id] = cluster.watches
    assert heard(step(cluster, CutWatch(id)))[-1] == WatchEnded(0, 0)
    for n in range(2):
        cluster = step(
            cluster,
            Submit(
                Request(
                    "create",
                    CONFIG_MAPS,
                    "default",
                    body=ConfigMap(metadata=ObjectMeta(name=f"x{n}")),
                    user=ADMIN,
                )
            ),
        )
    cluster = step(cluster, Compact(cluster.history.revision))
    assert heard(step(cluster, Notify(id)))[-1] == WatchEnded(0, 410)


# --- the wider faults -----------------------------------------------------------------------------


def speaking(apiservers: int = 1) -> tuple[Cluster, Any]:
    """A cluster whose watch is open, and the channel of a create that has been sent."""
    cluster = quiet(apiservers)
    while not cluster.watches or not any(not flying.watch for flying in cluster.flying.values()):
        cluster = step(
            cluster,
            next(
                action
                for action in enabled(cluster)
                if not isinstance(action, (Arrive, Answer)) or is_watch(cluster, action)
            ),
        )
    return cluster, min(channel for channel in cluster.flying if not cluster.flying[channel].watch)


def is_watch(cluster: Cluster, action: Any) -> bool:
    return cluster.flying[action.flying].watch


def test_cluster_7_what_arrives_twice_is_decided_twice_and_answered_once():
    cluster, channel = speaking()
    cluster = step(cluster, Duplicate(channel))
    assert len(names(cluster)) == 1 and channel in cluster.flying
    cluster = step(cluster, Arrive(channel))
    assert len(names(cluster)) == 1 and cluster.flying[channel].answer.code == 409
    assert [
        e.response.code for e in heard(step(cluster, Answer(channel))) if isinstance(e, Answered)
    ] == [409]


@given(st.sampled_from([500, 503]))
def test_cluster_7_a_refusal_does_nothing_and_says_so(code):
    cluster, channel = speaking()
    before = cluster.history
    cluster = step(cluster, Refuse(channel, code))
    assert cluster.history is before and not is_enabled(cluster, Refuse(channel, code))
    assert heard(step(cluster, Answer(channel)))[-1].response.code == code


@given(st.integers(1, 10**7), st.booleans())
def test_cluster_8_what_is_held_back_comes_at_its_instant_and_not_before(wait, all_of_it):
    cluster, channel = speaking()
    until = cluster.now + wait
    held = step(cluster, Partition("speaker", until) if all_of_it else Delay(channel, until))
    while held.now < until:
        assert not is_enabled(held, Arrive(channel)) and Arrive(channel) not in list(enabled(held))
        if all_of_it:
            assert not any(isinstance(action, (Arrive, Answer, Notify)) for action in enabled(held))
        held = step(held, next(enabled(held)))
    assert is_enabled(held, Arrive(channel)) and held.now == until
    assert len(names(step(held, Arrive(channel)))) == len(names(held)) + 1


@given(drawn)
def test_cluster_9_a_server_that_restarts_breaks_every_connection_and_keeps_what_is_stored(choices):
    cluster, _ = wander(quiet(), choices)
    after = step(cluster, RestartServer())
    assert after.history is cluster.history and not any(
        channel in after.watches for channel in cluster.watches
    )
    life = cluster.components["speaker"].life
    told = heard(after)[len(heard(cluster)) :]
    waiting = [
        channel
        for channel, f in cluster.flying.items()
        if channel[1] == life and not f.given_up and not f.watch
    ]
    assert sorted(e.id for e in told if isinstance(e, Answered)) == sorted(
        channel[2] for channel in waiting
    )
    assert all(e.response is None for e in told if isinstance(e, Answered))


@given(st.integers(0, 4), st.integers(0, 4))
def test_cluster_10_a_watch_hears_only_what_its_server_has_and_all_of_it_in_the_end(before, since):
    cluster, _ = speaking()

    def write(cluster: Cluster, n: int) -> Cluster:
        return step(
            cluster,
            Submit(
                Request(
                    "create",
                    CONFIG_MAPS,
                    "default",
                    body=ConfigMap(metadata=ObjectMeta(name=f"x{n}")),
                    user=ADMIN,
                )
            ),
        )

    for n in range(before):
        cluster = write(cluster, n)
    cluster = step(cluster, Stale(0, cluster.now + SECOND))
    stood = cluster.history.revision
    for n in range(before, before + since):
        cluster = write(cluster, n)
    [channel] = cluster.watches
    told = 0
    while is_enabled(cluster, Notify(channel)):
        cluster = step(cluster, Notify(channel, 1))
    told = [e.revision for one in heard(cluster) if isinstance(one, Watched) for e in one.events]
    assert len(told) == before and all(revision <= stood for revision in told)
    fresh = handle(
        Exchange(Request("list", CONFIG_MAPS, user=ADMIN), cluster.history, cluster.context())
    )
    assert len(fresh.body.items) == before + since
    cluster = step(cluster, CatchUp(0))
    while is_enabled(cluster, Notify(channel)):
        cluster = step(cluster, Notify(channel, 1))
    assert (
        sum(len(one.events) for one in heard(cluster) if isinstance(one, Watched)) == before + since
    )


def test_cluster_10_who_asks_for_any_state_may_get_an_old_one_and_who_asks_for_the_newest_never():
    for version, seen in (("", None), ("0", 0)):
        cluster, _ = speaking(2)
        if CatchUp(1) in enabled(cluster):
            cluster = step(cluster, CatchUp(1))
        cluster = step(cluster, Stale(1, cluster.now + SECOND))
        cluster = step(
            cluster,
            Submit(
                Request(
                    "create",
                    CONFIG_MAPS,
                    "default",
                    body=ConfigMap(metadata=ObjectMeta(name="x")),
                    user=ADMIN,
                )
            ),
        )
        cluster = step(cluster, Switch("speaker", 1))
        channel = ("speaker", 1, 99)
        asked = Flying(
            Request("list", CONFIG_MAPS, options=Options(resource_version=version), user=ADMIN)
        )
        cluster = step(evolve(cluster, flying=cluster.flying.set(channel, asked)), Arrive(channel))
        answer = cluster.flying[channel].answer
        assert seen == (None if answer is None else len(answer.body.items))
        cluster = step(cluster, Elapse(cluster.now + SECOND))
        if answer is None:  # it waits for the server
            cluster = step(cluster, Arrive(channel))
            assert len(cluster.flying[channel].answer.body.items) == 1


@given(st.integers(-(10**9), 10**9))
def test_cluster_11_a_wrong_clock_moves_what_a_component_thinks_and_not_when_its_timers_go_off(by):
    right = quiet()
    wrong = step(right, Skew("speaker", by))
    while (actions := list(enabled(right))) and len(names(right)) < MADE:
        assert actions == list(enabled(wrong)) and right.now == wrong.now
        right, wrong = step(right, actions[0]), step(wrong, actions[0])
    assert names(right) == names(wrong) and len(names(right)) == MADE
    told = [Speaker.clock(one.components["speaker"].state) for one in (right, wrong)]
    assert told[1] - told[0] == by


@given(drawn)
def test_cluster_12_two_things_that_have_nothing_to_do_with_each_other_may_change_places(choices):
    cluster, _ = wander(quiet(), choices)
    actions = [action for action in enabled(cluster) if isinstance(action, (Notify, Wake))]
    arrivals = [
        action
        for action in enabled(cluster)
        if isinstance(action, Arrive) and not cluster.flying[action.flying].watch
    ]
    for arrival in arrivals:
        for other in actions:
            if isinstance(other, Notify):  # what a watch tells then depends on what has arrived
                continue
            one, two = step(step(cluster, arrival), other), step(step(cluster, other), arrival)
            assert picture(one) == picture(two)


def test_cluster_3_a_stopped_component_hears_nothing_and_starts_at_its_instant():
    cluster, channel = speaking()
    until = cluster.now + 5 * SECOND
    cluster = step(step(cluster, Stop("speaker", until)), Arrive(channel))
    assert not cluster.watches and cluster.components["speaker"].state is None
    while not isinstance(action := next(enabled(cluster)), Elapse):
        assert isinstance(action, (Arrive, Answer))
        cluster = step(cluster, action)
    assert action == Elapse(until)
    cluster = step(step(cluster, Elapse(until)), Start("speaker"))
    assert cluster.components["speaker"].life == 2 and heard(cluster) == ()


@given(drawn, drawn, st.integers(1, 90))
def test_cluster_14_a_suspended_component_handles_at_once_and_in_order_what_waited(
    choices, later, seconds
):
    cluster, _ = wander(quiet(), [(kind % 13, which) for kind, which in choices])
    before, until = cluster, cluster.now + seconds * SECOND
    cluster = step(cluster, Suspend("speaker", until))
    assert not is_enabled(cluster, Suspend("speaker", until + SECOND))
    waited = 0
    for kind, which in later:
        actions = [one for one in enabled(cluster) if not isinstance(one, Resume)]
        assert not any(isinstance(one, Wake) for one in actions)
        if actions:
            action = outcome(actions[(kind + which) % len(actions)], cluster, 1)
            cluster = step(cluster, action)
            waited += isinstance(action, (Answer, Notify))
    assert cluster.components["speaker"].state is before.components["speaker"].state
    sent = set(before.flying) | set(before.watches)
    assert set(cluster.flying) | set(cluster.watches) <= sent, "it sends something"
    inbox = cluster.components["speaker"].inbox
    assert len(inbox) == waited
    crashed = step(cluster, Crash("speaker"))
    assert crashed.components["speaker"].inbox == () and heard(crashed) == ()
    while Resume("speaker") not in enabled(cluster):
        assert cluster.now < until
        cluster = step(cluster, next(enabled(cluster)))
    assert cluster.now == until
    inbox = cluster.components["speaker"].inbox
    cluster = step(cluster, Resume("speaker"))
    assert heard(cluster) == (*heard(before), *inbox)
    if inbox:
        assert Speaker.clock(cluster.components["speaker"].state) == until


# --- a whole cluster, in this process and in others -----------------------------------------------


def whole_run(steps: int = 3_000) -> str:
    """The digest of what the store has seen after so many steps of a whole cluster, in an order
    drawn from a fixed hash, with faults."""
    machines = components.machines([(name, KubeletConfig()) for name in ("node-1", "node-2")])
    worlds = {
        components.kubelet_name(name): make_world(name, i)
        for i, name in enumerate(("node-1", "node-2"))
    }
    cluster = begin(machines, worlds, b"replay", START)
    for obj in bootstrap_objects("127.0.0.1", 6443):
        resource = by_kind(obj.api_version, obj.kind)
        cluster = step(
            cluster,
            Submit(
                Request(
                    "create",
                    resource,
                    obj.metadata.namespace or "",
                    obj.metadata.name,
                    body=obj,
                    user=ADMIN,
                )
            ),
        )
    tree = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 5, "selector": {"matchLabels": {"app": "web", "tier": "x"}},
            "template": {"metadata": {"labels": {"app": "web", "tier": "x"}}, "spec": {"containers": [{"name": "c", "image": "app:1"}]}},
        },
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }  # fmt: skip
    cluster = step(
        cluster,
        Submit(
            Request(
                "create",
                SERVICES,
                "default",
                "web",
                body=codec.from_tree(Service, service),
                user=ADMIN,
            )
        ),
    )
    cluster = start_all(
        step(
            cluster,
            Submit(
                Request(
                    "create",
                    DEPLOYMENTS,
                    "default",
                    "web",
                    body=codec.from_tree(Deployment, tree),
                    user=ADMIN,
                )
            ),
        )
    )
    for number in range(steps):
        draw = int.from_bytes(hashlib.sha256(number.to_bytes(4, "big")).digest()[:4], "big")
        actions: list[Any] = list(enabled(cluster))
        if draw % 701 == 0:
            actions = [Crash(name) for name in sorted(cluster.components)]
        elif draw % 101 == 0 and cluster.watches:
            actions = [CutWatch(id) for id in sorted(cluster.watches)]
        cluster = step(cluster, actions[draw // 4096 % min(len(actions), 8)])
    digest = hashlib.sha256()
    for change in cluster.history.changes("/", 0):
        digest.update(repr(told(change)).encode())
    slices = [record.value for record in cluster.history.list(ENDPOINT_SLICES.prefix).records]
    endpoints = sum(len(slice.endpoints or ()) for slice in slices)
    return f"{cluster.history.revision} revisions, {endpoints} endpoints, {digest.hexdigest()}"


def test_cluster_1_a_run_of_the_whole_cluster_replays_byte_for_byte_under_another_hash_seed():
    here = whole_run()
    assert " 5 endpoints" in here, (
        f"the run should get as far as the endpoints of five pods: {here}"
    )
    code = "import test_cluster; print(test_cluster.whole_run())"
    for seed in ("1", "20260101"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests/properties")]),
        }
        there = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here
