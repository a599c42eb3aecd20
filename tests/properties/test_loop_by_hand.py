"""The loop driven by hand, one event at a time (spec/loop.md): LOOP-2 to LOOP-9 and EVENT-3, for
any order of answers and changes.

In test_loop.py the same loop runs in a cluster; here each answer and each change is the test's own
choice, so that it can be said exactly when a key may be decided again, what is sent again and when.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api.core_v1 import ConfigMap, ConfigMapList, Node, NodeList, Secret
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.request import Options, Patch, Request, Response, WatchEvent
from refk8s.core.api.resources import CONFIG_MAPS, EVENTS, NODES, PODS, SECRETS
from refk8s.core.api.selector import parse_fields
from refk8s.core.api.user import ADMIN, User, component_user, service_account_user
from refk8s.core.context import MILLISECOND, SECOND
from refk8s.core.loop.draft import TIMERS_SEARCHED_MAX
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Note, Plan, slow_start
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import key_of
from refk8s.core.machine import (
    Answered,
    Call,
    Impossible,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    WakeAt,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import Done, ListPods, RuleSet
from refk8s.core.value import evolve

NOW = 1_790_000_000 * SECOND
ME = service_account_user("kube-system", "scripted")
LISTED = 10  # the revision of the first lists


def shown(view, old, new):
    """A key for whatever changes; the view shows the change already."""
    obj = new if new is not None else old
    resource = NODES if isinstance(obj, Node) else CONFIG_MAPS
    assert view.get(resource, key_of(obj)) is new
    return ("k",)


class Scripted(Reconciler):
    """Decides what the test has written down, one plan after another, and remembers all that it was
    told."""

    name = "scripted"
    interests = (Interest(CONFIG_MAPS, shown), Interest(NODES, shown))
    initial_keys = ("k",)

    def __init__(self, *plans):
        self.plans = plans

    def start_memory(self, now):
        return (("began", now),)

    def reconcile(self, view, key, now, local):
        turn = sum(1 for entry in local.memory if entry[0] == "decided")
        told = ("decided", key, now, local.failures, local.failure.code if local.failure else 0)
        if local.failure and isinstance(local.failure.body, str):
            told = (*told[:-1], local.failure.body)
        plan = self.plans[turn] if turn < len(self.plans) else NOTHING
        return evolve(plan, memory=(*local.memory, told))

    def ran(self, memory, key, operation, result, now):
        return (*memory, ("ran", key, operation, result, now)), (key,)

    def answered(self, memory, key, request, response, now):
        return (*memory, ("answered", key, request, response, now)), (key,)

    def runtime_changed(self, memory, pod_uids, now):
        return (*memory, ("changed", pod_uids, now)), pod_uids


class Bench:
    """A loop that has listed these objects at LISTED, and everything that it asked for."""

    def __init__(self, *plans, objects=(), reconcilers=None, **names):
        self.loop = Loop("scripted", reconcilers or [Scripted(*plans)], **names)
        self.now = NOW
        self.watches, self.effects = {}, []
        self.state, effects = self.loop.start(NOW, b"seed")
        self._take(effects)
        for call in self.new(Call):
            many, kind = (
                (NodeList, Node) if call.request.resource is NODES else (ConfigMapList, ConfigMap)
            )
            body = many(
                metadata=ListMeta(resource_version=str(LISTED)),
                items=tuple(obj for obj in objects if isinstance(obj, kind)),
            )
            self.hear(Answered(call.id, Response(200, body)))

    def _take(self, effects):
        self.effects += effects
        self.watches |= {
            effect.request.resource.prefix: effect.id
            for effect in effects
            if isinstance(effect, Watch)
        }

    def hear(self, *events):
        self.state, effects = self.loop.step(self.state, events, self.now)
        self._take(effects)

    def wait_until(self, at):
        self.now = at
        self.hear()

    def new(self, kind):
        """The effects of this kind since somebody last asked."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def answer(self, call, code=200, body=None):
        self.hear(Answered(call.id, Response(code, body)))

    def told(self, word):
        """What the reconciler of that name was told, in this respect."""
        return [entry[1:] for entry in self.state.memories["scripted"] if entry[0] == word]

    @property
    def decisions(self):
        return len(self.told("decided"))

    def reach(self, revision, resource=CONFIG_MAPS):
        """The watch says that it has got so far, and nothing else."""
        self.hear(Watched(self.watches[resource.prefix], (WatchEvent("BOOKMARK", None, revision),)))

    def change(self, kind, obj, revision, resource=CONFIG_MAPS):
        self.hear(Watched(self.watches[resource.prefix], (WatchEvent(kind, obj, revision),)))


def config_map(name="a", version=LISTED, uid="u", **more):
    return ConfigMap(
        metadata=ObjectMeta(
            name=name, namespace="ns", uid=uid, resource_version=str(version), **more
        )
    )


def create(name, **more):
    return Request(
        "create",
        CONFIG_MAPS,
        "ns",
        name,
        body=ConfigMap(metadata=ObjectMeta(name=name, namespace="ns")),
        **more,
    )


WRITES = {
    "create": create("a"),
    "update": Request("update", CONFIG_MAPS, "ns", "a", body=config_map()),
    "patch": Request(
        "patch", CONFIG_MAPS, "ns", "a", "status", body=Patch("application/merge-patch+json", {})
    ),
    "delete": Request("delete", CONFIG_MAPS, "ns", "a"),
}


# --- own writes are seen first --------------------------------------------------------------------


@given(st.permutations([11, 12, 13]), st.lists(st.booleans(), min_size=6, max_size=6))
def test_loop_3_loop_4_loop_9_a_key_rests_until_all_is_answered_and_the_view_has_the_last_of_its_writes(
    revisions, tells
):
    """Answers come in this order; before each of them, and after, the watch may go one revision
    further, without a change in it."""
    bench = Bench(Plan((tuple(create(f"c{n}") for n in range(3)),)))
    calls, reached, left = bench.new(Call), LISTED, list(revisions)
    assert [call.request.name for call in calls] == ["c0", "c1", "c2"]
    for tell in (*tells, True, True, True):
        assert bench.decisions == (2 if not left and reached >= 13 else 1)
        if tell and reached < 13:
            reached += 1
            bench.reach(reached)
        elif left:
            revision = left.pop(0)
            bench.answer(calls.pop(), 201, config_map(version=revision))
    while reached < 13:
        reached += 1
        bench.reach(reached)
    assert bench.decisions == 2
    assert not bench.new(Call)


@given(
    st.sampled_from(["marked", "gone", "replaced"]),
    st.booleans(),
    st.sampled_from([200, 404]),
    st.booleans(),
)
def test_loop_4_after_a_deletion_a_key_rests_until_that_very_object_is_seen_otherwise(
    how, is_node, code, early
):
    """Of a namespace or not; `early`: the watch tells of it before the answer comes."""
    metadata = ObjectMeta(
        name="a", namespace=None if is_node else "ns", uid="u", resource_version="7"
    )
    resource, kind = (NODES, Node) if is_node else (CONFIG_MAPS, ConfigMap)
    obj, other = (
        kind(metadata=metadata),
        kind(metadata=replace(metadata, name="b", resource_version="11")),
    )
    bench = Bench(
        Plan(((Request("delete", resource, metadata.namespace or "", "a"),),)),
        objects=(obj,),
    )
    [call] = bench.new(Call)
    # Its revision is not waited for: nobody may ever tell of it.
    answered = kind(metadata=replace(metadata, resource_version="999"))

    def show():
        if how == "gone":
            bench.change("DELETED", obj, 12, resource)
        else:
            part = (
                {"uid": "v"}
                if how == "replaced"
                else {"resource_version": "12", "deletion_timestamp": "2026-01-01T00:00:00Z"}
            )
            bench.change("MODIFIED", kind(metadata=replace(metadata, **part)), 12, resource)

    bench.change("ADDED", other, 11, resource)
    if early:
        show()
        assert bench.decisions == 1
        bench.answer(call, code, answered)
    else:
        bench.answer(call, code, answered)
        bench.reach(100, CONFIG_MAPS if is_node else NODES)
        assert bench.decisions == 1
        # Somebody changed it before it was deleted, and that is told first: the explorer found two
        # pods deleted where one was too many.
        bench.change(
            "MODIFIED", kind(metadata=replace(metadata, resource_version="11")), 11, resource
        )
        assert bench.decisions == 1
        show()
    assert bench.decisions == 2


@given(st.none() | st.integers(1, 20), st.integers(1, 20))
def test_loop_2_a_plan_makes_another_key_due_at_an_instant_unless_its_timer_is_earlier(own, other):
    """The key "j" asks for "k" at an instant; "k" has a timer of its own, or none."""

    class Two(Scripted):
        initial_keys = ("k", "j")

        def reconcile(self, view, key, now, local):
            if now > NOW or key == "k":
                plan = Plan(wake_at=NOW + own if own and now == NOW else None)
            else:
                plan = Plan(enqueue=(("scripted", "k"),), enqueue_at=NOW + other)
            return evolve(plan, memory=(*local.memory, ("decided", key, now)))

    bench = Bench(reconcilers=[Two()])
    for at in range(NOW + 1, NOW + 25):
        bench.wait_until(at)
    due = NOW + min(other, own or other)
    assert bench.told("decided") == [("k", NOW), ("j", NOW), ("k", due)]


def test_loop_14_a_resource_is_listed_once_an_object_of_the_other_exists_and_then_kept():
    class Waiting(Scripted):
        interests = (Interest(CONFIG_MAPS, shown), Interest(NODES, shown, while_any=CONFIG_MAPS))

    loop = Loop("scripted", [Waiting()])

    def requests(effects):
        return [(type(e).__name__, e.request.resource) for e in effects if type(e) in (Call, Watch)]

    state, effects = loop.start(NOW, b"seed")
    assert requests(effects) == [("Call", CONFIG_MAPS)]
    listed = ConfigMapList(metadata=ListMeta(resource_version=str(LISTED)), items=())
    answer = Answered(next(e.id for e in effects if type(e) is Call), Response(200, listed))
    state, effects = loop.step(state, (answer,), NOW)
    watch = next(e for e in effects if type(e) is Watch)
    assert requests(effects) == [("Watch", CONFIG_MAPS)]
    added = Watched(watch.id, (WatchEvent("ADDED", config_map(version=11), 11),))
    state, effects = loop.step(state, (added,), NOW)
    assert requests(effects) == [("Call", NODES)]
    nodes = NodeList(metadata=ListMeta(resource_version="11"), items=())
    answer = Answered(next(e.id for e in effects if type(e) is Call), Response(200, nodes))
    state, effects = loop.step(state, (answer,), NOW)
    assert requests(effects) == [("Watch", NODES)]
    ended = WatchEnded(next(e.id for e in effects if type(e) is Watch), 0)
    deleted = Watched(watch.id, (WatchEvent("DELETED", config_map(version=12), 12),))
    state, effects = loop.step(state, (deleted, ended), NOW)
    state, effects = loop.step(state, (), NOW + SECOND)
    assert requests(effects) == [("Watch", NODES)], "it is watched from its revision"


def test_loop_4_what_is_not_watched_is_not_waited_for():
    for verb in ("create", "delete"):
        bench = Bench(Plan(((Request(verb, EVENTS, "ns", "e", body=config_map()),),)))
        [call] = bench.new(Call)
        bench.answer(call, 200, config_map(version=99))
        assert bench.decisions == 2


# --- no answer ------------------------------------------------------------------------------------


@given(
    st.sampled_from(sorted(WRITES)),
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.sampled_from([403, 404, 409, 422, 201]),
)
def test_loop_6_loop_7_the_same_is_sent_ever_later_until_it_is_answered_and_a_refusal_is_looked_up(
    verb, losses, code
):
    """Each loss is no answer at all, or a 503."""
    bench = Bench(Plan(((WRITES[verb],),)), objects=(config_map(),))
    [call] = bench.new(Call)
    first, delay = call.request, 50 * MILLISECOND
    for silent in losses:
        bench.hear(Answered(call.id, None if silent else Response(503, None)))
        [wake] = bench.new(WakeAt)[-1:]
        assert wake.at == bench.now + delay and not bench.new(Call)
        bench.wait_until(wake.at - 1)
        assert not bench.new(Call)
        bench.wait_until(wake.at)
        [again] = bench.new(Call)
        assert again.request == first and again.id != call.id
        call, delay = again, min(2 * delay, 10 * SECOND)
    if code == 201 or (verb, code) == ("delete", 404):
        bench.answer(call, code, config_map(version=20))
        assert not bench.new(Call)
    else:
        bench.answer(call, code)
        [lookup] = bench.new(Call)
        assert lookup.request == look_up_of(first, bench.loop.user)
        bench.answer(lookup, 200, ConfigMapList(items=(config_map(version=20),)))
    assert bench.decisions == 1
    bench.change("DELETED" if verb == "delete" else "MODIFIED", config_map(version=19), 19)
    bench.reach(20)
    assert bench.decisions == 2
    assert bench.told("decided")[-1] == ("k", bench.now, 0, 0), "what is in doubt is no failure"


@given(
    st.sampled_from(sorted(WRITES)),
    st.lists(st.sampled_from([500, 502, 504]), min_size=1, max_size=4),
)
def test_loop_6_a_server_that_fails_says_nothing_of_an_earlier_sending(verb, codes):
    """Nor does it about what is looked up: both are asked again until there is an answer."""
    bench = Bench(Plan(((WRITES[verb],),)), objects=(config_map(),))
    [call] = bench.new(Call)
    first = call.request
    bench.hear(Answered(call.id, None))
    for code in codes:
        bench.wait_until(bench.new(WakeAt)[-1].at)
        [call] = bench.new(Call)
        assert call.request == first
        bench.hear(Answered(call.id, Response(code, None)))
    bench.wait_until(bench.new(WakeAt)[-1].at)
    [call] = bench.new(Call)
    bench.answer(call, 403)
    [lookup] = bench.new(Call)
    bench.hear(Answered(lookup.id, Response(500, None)))
    bench.wait_until(bench.new(WakeAt)[-1].at)
    [again] = bench.new(Call)
    assert again.request == lookup.request and bench.decisions == 1


def look_up_of(request, user):
    """LOOP-7: the request that reads the object of `request`."""
    options = Options(field_selector=f"metadata.name={request.name}", limit=1)
    return Request("list", request.resource, request.namespace, options=options, user=user)


@given(
    st.text("a,=\\.:", min_size=1),
    st.sampled_from(["", "spec.nodeName=n1"]),
    st.sampled_from(["", "app=x"]),
)
def test_loop_7_a_look_up_is_the_list_of_the_informer_and_the_name(name, fields, labels):
    """Names of some kinds may have the characters that a field selector escapes."""
    informer = Informer(PODS, fields, labels)
    request = informer.look_up_request(Request("update", PODS, "ns", name), ADMIN)
    listed = {one.key: one.value for one in parse_fields(fields).requirements}
    found = parse_fields(request.options.field_selector).requirements
    assert {one.key: (one.operator, one.value) for one in found} == {
        key: ("=", value) for key, value in {**listed, "metadata.name": name}.items()
    }
    assert request.options.label_selector == labels and not request.options.resource_version


def test_loop_7_what_the_loop_does_not_list_is_not_looked_up():
    """The view never shows it, so there is nothing to wait for."""
    secret = Request("update", SECRETS, "ns", "a", body=Secret(metadata=ObjectMeta(name="a")))
    bench = Bench(Plan(((secret,),)))
    [call] = bench.new(Call)
    bench.hear(Answered(call.id, None))
    bench.wait_until(bench.new(WakeAt)[-1].at)
    [call] = bench.new(Call)
    bench.answer(call, 409)
    assert not bench.new(Call)
    assert bench.told("decided")[1:] == [("k", bench.now, 0, 0)]


def test_loop_7_a_doubtful_write_that_left_nothing_is_decided_anew():
    bench = Bench(Plan(((WRITES["update"],),)))
    [call] = bench.new(Call)
    bench.hear(Answered(call.id, None))
    bench.wait_until(bench.new(WakeAt)[-1].at)
    [call] = bench.new(Call)
    bench.answer(call, 409)
    [lookup] = bench.new(Call)
    bench.answer(lookup, 200, ConfigMapList(metadata=ListMeta(resource_version="30")))
    assert bench.told("decided")[1:] == [("k", bench.now, 0, 0)]


@given(
    st.sampled_from([verb for verb in sorted(WRITES) if verb != "delete"]),
    st.sampled_from([400, 403, 404, 409, 500]),
)
def test_loop_5_a_refusal_of_the_first_sending_is_a_failure(verb, code):
    bench = Bench(Plan(((WRITES[verb],),)))
    [call] = bench.new(Call)
    bench.answer(call, code)
    assert not bench.new(Call) and bench.decisions == 1
    bench.wait_until(NOW + 5 * MILLISECOND - 1)
    assert bench.decisions == 1
    bench.wait_until(NOW + 5 * MILLISECOND)
    assert bench.told("decided")[1:] == [("k", bench.now, 1, code)]


# --- waves, failures, timers ----------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=4), st.integers(0, 2), st.none() | st.integers(0, 11))
def test_loop_5_waves_one_after_another_the_last_one_always_and_nothing_after_a_refusal(
    sizes, last, refused
):
    """The waves are of these sizes; the request of that number, if there is one, is refused."""
    names = iter(f"c{number}" for number in range(20))
    waves = tuple(tuple(create(next(names)) for _ in range(size)) for size in sizes)
    bench = Bench(Plan(waves, tuple(create(f"last{n}") for n in range(last))))
    expected, failed, count = [], False, 0
    for size in sizes:
        if size and not failed:
            expected.append([f"c{count + n}" for n in range(size)])
            failed = refused is not None and count <= refused < count + size
            count += size
    expected += [[f"last{n}" for n in range(last)]] if last else []
    for wave in expected:
        calls = bench.new(Call)
        assert [call.request.name for call in calls] == wave
        for call in calls:
            bench.answer(call, 403 if call.request.name == f"c{refused}" else 201)
    assert not bench.new(Call)
    assert bench.decisions == (2 if expected and not failed else 1)
    bench.wait_until(NOW + 1_000 * SECOND)
    assert bench.told("decided")[1:] == (
        [("k", bench.now, 1, 403)] if failed else [("k", NOW, 0, 0)] if expected else []
    )


@given(st.integers(0, 40), st.integers(1, 4))
def test_loop_5_a_slow_start_doubles_its_waves_and_leaves_nothing_out(count, first):
    requests = tuple(create(f"c{n}") for n in range(count))
    waves = slow_start(requests, first)
    assert [request for wave in waves for request in wave] == list(requests)
    assert [len(wave) for wave in waves[:-1]] == [first * 2**n for n in range(len(waves) - 1)]
    assert all(1 <= len(wave) <= first * 2**n for n, wave in enumerate(waves))
    assert not requests or len(slow_start(requests)[0]) == 1


@given(st.integers(1, 20))
def test_loop_5_the_back_off_doubles_up_to_1000_seconds_and_success_ends_it(failures):
    """A plan that says that it failed is a failure too, without a request."""
    bench = Bench(*[Plan(failed=True)] * failures, Plan(wake_at=NOW + 10**13), Plan(failed=True))
    for number in range(failures):
        at = bench.now + min(5 * MILLISECOND * 2**number, 1_000 * SECOND)
        assert bench.new(WakeAt)[-1].at == at
        bench.wait_until(at - 1)
        assert bench.decisions == number + 1
        bench.wait_until(at)
        assert bench.told("decided")[-1] == ("k", at, number + 1, 0)
    bench.wait_until(NOW + 10**13)
    assert bench.told("decided")[-1][2] == 0
    assert bench.new(WakeAt)[-1].at == bench.now + 5 * MILLISECOND


@given(
    st.lists(st.none() | st.integers(1, 50), min_size=1, max_size=8),
    st.lists(st.integers(0, 60), min_size=1, max_size=12),
)
def test_loop_2_a_key_is_looked_at_when_its_last_decision_said_so(offsets, instants):
    """Each plan asks for this many seconds later; at these instants time has passed."""
    bench = Bench(
        *[Plan(wake_at=None if offset is None else NOW + offset * SECOND) for offset in offsets]
    )
    expected, plans = 1, iter([*offsets, *[None] * 20])
    due = next(plans)
    for instant in sorted(instants):
        bench.wait_until(NOW + instant * SECOND)
        while due is not None and due <= instant:
            expected, due, passed = expected + 1, next(plans), due
            if due is not None and due <= instant and passed is not None:
                # A plan that asks for the past is looked at in the next turn, not in this one.
                break
        assert bench.decisions == expected
        if due is not None:
            assert bench.state.asked == NOW + due * SECOND


def test_loop_2_a_change_looks_at_a_key_before_its_time_and_its_time_is_forgotten():
    bench = Bench(Plan(wake_at=NOW + 9 * SECOND), NOTHING)
    bench.change("ADDED", config_map(version=11), 11)
    assert bench.decisions == 2
    bench.wait_until(NOW + 20 * SECOND)
    assert bench.decisions == 2


def test_loop_2_whoever_has_asked_to_be_woken_does_not_ask_again():
    bench = Bench(Plan(wake_at=NOW + 9 * SECOND))
    [wake] = bench.new(WakeAt)[-1:]
    assert wake.at == NOW + 9 * SECOND
    bench.reach(20)
    assert not bench.new(WakeAt)


class Alarm(Reconciler):
    """Each ConfigMap has the seconds at which it is reconciled again, or none."""

    name = "alarm"
    interests = (Interest(CONFIG_MAPS, lambda view, old, new: (new.metadata.name,)),)

    def reconcile(self, view, key, now, local):
        seconds = (view.get(CONFIG_MAPS, f"ns/{key}").data or {}).get("at")
        return Plan(wake_at=NOW + int(seconds) * SECOND if seconds else None)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(1, 50)), min_size=1, max_size=20),
    st.sampled_from([0, 0, TIMERS_SEARCHED_MAX - 2, TIMERS_SEARCHED_MAX + 1]),
)
def test_loop_2_the_loop_is_woken_at_the_earliest_timer_that_still_counts(changes, others):
    """`others`: timers that are later than all of these. Once there were more than the limit, a
    wake may be early."""
    bench = Bench(reconcilers=[Alarm()])
    wanted: dict[str, int] = {}
    version, most = LISTED, 0
    later = [(str(10 + n), 100) for n in range(others)]
    for number, at in [*later, *changes]:
        version += 1
        made = config_map(name=str(number), version=version)
        made = replace(made, data={"at": str(at)} if at else None)
        bench.change("MODIFIED", made, version)
        wanted.pop(str(number), None)
        if at:
            wanted[str(number)] = NOW + at * SECOND
        earliest = min(wanted.values(), default=None)
        most = max(most, len(wanted))
        if most <= TIMERS_SEARCHED_MAX:
            assert bench.state.asked == earliest
        else:
            assert bench.state.asked <= earliest


@given(st.integers(1, 30), st.sampled_from([CONFIG_MAPS, NODES]))
def test_watch_6_a_cut_watch_is_opened_again_in_its_time_whatever_else_is_waited_for(
    milliseconds, resource
):
    """Ten milliseconds after the cut; a key wants to be looked at after so many."""
    bench = Bench(Plan(wake_at=NOW + milliseconds * MILLISECOND))
    before = dict(bench.watches)
    bench.new(WakeAt)
    bench.hear(WatchEnded(bench.watches[resource.prefix]))
    assert bench.state.asked == NOW + min(milliseconds, 10) * MILLISECOND
    bench.wait_until(NOW + 10 * MILLISECOND - 1)
    assert bench.watches == before
    bench.wait_until(NOW + 10 * MILLISECOND)
    assert {prefix for prefix, id in bench.watches.items() if id != before[prefix]} == {
        resource.prefix
    }


# --- what a decider asks for and hears of ---------------------------------------------------------


@pytest.mark.parametrize("lost", [True, False])
def test_loop_3_results_and_answers_reach_the_decider_under_the_key_that_asked(lost):
    ask = Request("get", NODES, name="n")
    bench = Bench(Plan(runs=(ListPods(),), queries=(ask,)))
    [run], [call] = bench.new(Run), bench.new(Call)
    assert run.operation == ListPods()
    assert call.request == evolve(ask, user=ME)
    bench.now += SECOND
    bench.hear(Ran(run.id, Done()), Ran(run.id, Done()), Ran(12345, Done()))
    assert bench.told("ran") == [("k", ListPods(), Done(), bench.now)]
    assert bench.decisions == 2
    response = None if lost else Response(404, None)
    bench.hear(Answered(call.id, response))
    bench.hear(Answered(call.id, Response(200, None)))
    assert bench.told("answered") == [("k", call.request, response, bench.now)], (
        "an ask is answered once, and not sent again"
    )
    assert bench.decisions == 3
    assert bench.told("began") == [(NOW,)]


def test_loop_2_a_runtime_that_changes_by_itself_is_told_to_every_decider():
    bench = Bench()
    bench.now += SECOND
    bench.hear(RuntimeChanged(("x", "y")))
    assert bench.told("changed") == [(("x", "y"), bench.now)]
    assert [key for key, *_ in bench.told("decided")] == ["k", "x", "y"]


@given(st.booleans(), st.booleans())
def test_loop_3_loop_5_rules_are_waited_for_like_requests(takes, changes):
    """A change meanwhile makes the key due, so that it does not wait for its back-off, as in
    upstream's work queues."""
    rules = RuleSet({"ns/a": ()})
    bench = Bench(Plan(rules=rules))
    [program] = bench.new(Program)
    assert program.rules == rules
    if changes:
        bench.change("ADDED", config_map(version=11), 11)
    bench.hear(Programmed(program.id + 1000))
    assert bench.decisions == 1
    bench.hear(Programmed(program.id, "" if takes else "the kernel said no"))
    if not takes and not changes:
        assert bench.decisions == 1
        bench.wait_until(NOW + 5 * MILLISECOND)
    assert bench.told("decided")[1:] == [
        ("k", bench.now, 0, 0) if takes else ("k", bench.now, 1, "the kernel said no")
    ]


def test_loop_2_a_plan_may_make_other_keys_due_at_once():
    bench = Bench(Plan(enqueue=(("scripted", "x"), ("scripted", "y"), ("scripted", "x"))))
    assert [key for key, *_ in bench.told("decided")] == ["k", "x", "y"]


class Sharing(Scripted):
    name = "sharing"
    memory_name = "scripted"
    interests = ()
    initial_keys = ("s",)

    def start_memory(self, now):
        return None


@pytest.mark.parametrize("first", [True, False])
def test_loop_2_deciders_may_share_a_memory(first):
    both = [Sharing(), Scripted()] if first else [Scripted(), Sharing()]
    bench = Bench(reconcilers=both)
    assert sorted(key for key, *_ in bench.told("decided")) == ["k", "s"]
    assert dict(bench.state.memories).keys() == {"scripted"}


def test_loop_2_two_deciders_of_a_loop_share_one_watch_and_must_agree_on_it():
    class Other(Scripted):
        name = "other"

    class Choosy(Scripted):
        name = "choosy"
        interests = (
            Interest(CONFIG_MAPS, lambda view, old, new: (), field_selector="metadata.name=x"),
        )

    assert len(Bench(reconcilers=[Scripted(), Other()]).watches) == 2
    for wrong in ([Scripted(), Scripted()], [Scripted(), Choosy()]):
        with pytest.raises(Impossible):
            Loop("scripted", wrong)


# --- requests as they are sent --------------------------------------------------------------------


@given(st.text("abc-", max_size=70), st.integers(1, 3))
def test_loop_6_a_generated_name_is_chosen_before_the_first_sending_and_each_intent_has_its_own(
    base, count
):
    body = ConfigMap(metadata=ObjectMeta(generate_name=base, namespace="ns"))
    bench = Bench(
        Plan((tuple(Request("create", CONFIG_MAPS, "ns", body=body) for _ in range(count)),))
    )
    calls = bench.new(Call)
    names = [call.request.name for call in calls]
    assert {call.request.user for call in calls} == {ME}
    assert [call.request.body.metadata.name or "" for call in calls] == names
    assert {call.request.body.metadata.generate_name for call in calls} == {base}
    if not base:
        assert names == [""] * count
        return
    assert len(set(names)) == count
    for name in names:
        assert name[:-5] == base[:58] and len(name) <= 63


def test_loop_6_names_of_later_intents_are_others_too():
    body = ConfigMap(metadata=ObjectMeta(generate_name="web-", namespace="ns"))
    make = Plan(
        ((Request("create", CONFIG_MAPS, "ns", body=body),),),
        notes=(Note(config_map("owner"), "Odd", "it is odd"),),
    )
    bench, names, events = (
        Bench(*[evolve(make, notes=(evolve(make.notes[0], message=str(n)),)) for n in range(5)]),
        [],
        [],
    )
    for _ in range(5):
        calls = bench.new(Call)
        [call] = [call for call in calls if not call.background]
        events += [call.request.body.metadata.name for call in calls if call.background]
        assert len({call.id for call in calls}) == len(calls) and all(
            isinstance(call.id, int) for call in calls
        )
        names.append(call.request.name)
        bench.answer(call, 201, config_map(version=LISTED))
    assert len(set(names)) == 5 and all(len(name) == len("web-") + 5 for name in names)
    assert len(set(events)) == 5 and all(len(name) == len("owner.") + 26 for name in events)
    # EVENT-5: the letters of this instance, then a number of each Event
    assert {name[-10:-5] for name in events} == {bench.state.suffix}
    assert len({name[-5:] for name in events}) == 5


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=9, unique=True))
def test_event_5_every_instance_has_its_own_letters(seeds):
    loop = Loop("scripted", [Scripted()])
    found = [loop.start(NOW, seed)[0].suffix for seed in seeds]
    assert len(set(found)) == len(seeds) and {len(suffix) for suffix in found} == {5}


def test_loop_3_each_operation_is_told_apart():
    bench = Bench(Plan(runs=(ListPods(("a",)), ListPods(("b",)))))
    first, second = bench.new(Run)
    bench.hear(Ran(second.id, Done()))
    bench.hear(Ran(first.id, Done()))
    assert [operation.pod_uids for _, operation, _, _ in bench.told("ran")] == [("b",), ("a",)]


class Timed(Scripted):
    """Each key is looked at again after its own number of seconds, three times."""

    def reconcile(self, view, key, now, local):
        turns = [entry for entry in local.memory if entry[:2] == ("decided", key)]
        wake_at = now + int(key) * SECOND if key.isdigit() and len(turns) < 3 else None
        waves = ((create("lost"),),) if key == "k" and not turns else ()
        return Plan(waves, wake_at=wake_at, memory=(*local.memory, ("decided", key, now)))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True),
    st.booleans(),
    st.lists(st.integers(0, 30), max_size=12),
)
def test_loop_2_every_key_has_its_own_time(seconds, lose, losses):
    """While one request goes unanswered so often, and the loop is woken for nothing at these
    instants."""

    class Some(Timed):
        initial_keys = ("k", *map(str, seconds))

    bench = Bench(reconcilers=[Some()])
    [call] = bench.new(Call)
    if lose:
        bench.hear(Answered(call.id, None))
    expected = {(str(n), NOW + turn * n * SECOND) for n in seconds for turn in range(4)}
    idle = sorted(NOW + instant * SECOND for instant in losses)
    for _ in range(200):
        asked = bench.new(WakeAt)
        at = asked[-1].at if asked else bench.state.asked
        if at is None or at > NOW + 30 * SECOND:
            break
        assert asked, "whoever was woken asks anew"
        while idle and idle[0] < at:
            bench.now = max(bench.now, idle.pop(0))
            bench.hear(Woken())
            assert bench.new(WakeAt)[-1].at == at, "woken for nothing it asks for the same again"
        bench.now = at
        bench.hear(Woken())
        for again in bench.new(Call):
            bench.hear(Answered(again.id, None))
    decided = [(key, at) for key, at in bench.told("decided") if key != "k"]
    assert set(decided) == expected and len(decided) == len(expected)


def test_loop_6_a_name_that_stands_is_kept_and_everything_is_sent_in_the_deciders_name():
    both = ConfigMap(metadata=ObjectMeta(name="own", generate_name="gen-", namespace="ns"))
    eviction = Request("create", CONFIG_MAPS, "ns", "p", "eviction", body=both)
    bench = Bench(
        Plan(
            (
                (
                    Request("create", CONFIG_MAPS, "ns", body=both),
                    eviction,
                    WRITES["delete"],
                ),
            )
        )
    )
    calls = bench.new(Call)
    assert [call.request.name for call in calls] == ["own", "p", "a"]
    assert [call.request.body for call in calls[:2]] == [both, both]
    assert {call.request.user for call in calls} == {ME}

    class Named(Scripted):
        user = component_user("kube-scheduler")

    bench = Bench(reconcilers=[Named(Plan(((WRITES["delete"],),)))])
    assert bench.new(Call)[0].request.user == User(
        "system:kube-scheduler", groups=("system:authenticated",)
    )


def test_watch_4_lists_and_watches_ask_for_what_interests_and_in_the_components_name():
    class Choosy(Scripted):
        interests = (
            Interest(
                CONFIG_MAPS,
                lambda view, old, new: ("k",),
                field_selector="metadata.name=x",
                label_selector="a=b",
            ),
        )

    me = User("system:node:n", groups=("system:nodes", "system:authenticated"))
    loop = Loop("kubelet/n", [Choosy()], user=me)
    state, [call] = loop.start(NOW, b"x")
    options = Options(field_selector="metadata.name=x", label_selector="a=b")
    assert call.request == Request("list", CONFIG_MAPS, options=options, user=me)
    nothing = ConfigMapList(metadata=ListMeta(resource_version="5"), items=())
    state, effects = loop.step(state, [Answered(call.id, Response(200, nothing))], NOW)
    [watch] = [effect for effect in effects if isinstance(effect, Watch)]
    options = evolve(options, resource_version="5", allow_watch_bookmarks=True)
    assert watch.request == Request("watch", CONFIG_MAPS, options=options, user=me)


@given(st.lists(st.booleans(), min_size=1, max_size=16))
def test_watch_6_a_change_that_comes_through_ends_the_row_of_failures(cuts):
    """The watch is cut so often; before each cut something may have come through."""
    bench, failures = Bench(), 0
    for number, through in enumerate(cuts):
        if through:
            bench.reach(20 + number)
            failures = 0
        bench.new(WakeAt)
        bench.hear(WatchEnded(bench.watches[CONFIG_MAPS.prefix]))
        [wake] = bench.new(WakeAt)
        assert wake.at - bench.now == min(10 * MILLISECOND * 2**failures, 30 * SECOND)
        failures += 1
        bench.wait_until(wake.at)


# --- what is told ---------------------------------------------------------------------------------


@given(st.sampled_from([201, 403, None]), st.sampled_from(["", "replicaset-controller"]))
def test_event_3_what_was_done_is_told_when_it_was_answered_well(code, component):
    about = config_map("owner", uid="o")
    note = Note(about, "SuccessfulCreate", "Created: {name}")

    class Telling(Scripted):
        pass

    Telling.component = component
    bench = Bench(
        reconcilers=[Telling(Plan(((create("child", note=note),),)))],
        component="manager",
        host="host-1",
    )
    [call] = bench.new(Call)
    bench.hear(Answered(call.id, Response(code, config_map("child", version=11)) if code else None))
    told = bench.new(Call)
    if code != 201:
        assert not told
        return
    [telling] = told
    assert telling.background and telling.request.resource is EVENTS and telling.request.user == ME
    event = telling.request.body
    assert (event.reason, event.message, event.involved_object.uid) == (
        "SuccessfulCreate",
        "Created: child",
        "o",
    )
    assert (event.source.component, event.source.host) == (component or "manager", "host-1")


def test_event_1_notes_of_plans_are_told_and_counted_over_decisions():
    note = Note(config_map("owner", uid="o"), "Odd", "it is odd")
    bench = Bench(Plan(notes=(note, note)), Plan(notes=(note,)))
    bench.change("ADDED", config_map(version=11), 11)
    requests = [call.request for call in bench.new(Call)]
    assert [request.verb for request in requests] == ["create", "patch", "patch"]
    assert [request.body.document["count"] for request in requests[1:]] == [2, 3]
    assert (Loop("alone", [Scripted()]).component, Loop("alone", [Scripted()]).host) == (
        "alone",
        "",
    )
