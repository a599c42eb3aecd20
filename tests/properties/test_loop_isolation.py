"""One key or effect that raises stops no other: LOOP-10 and LOOP-11 (spec/loop.md). test_hostile.py
shows that ours raise about nothing."""

import asyncio
from functools import partial
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from sched_worlds import a_node, a_pod, placed
from test_loop_by_hand import LISTED, NOW, WRITES, Bench, config_map

from refk8s.components.driver import Driver
from refk8s.core.api.request import Response
from refk8s.core.api.resources import CONFIG_MAPS, NODES, PODS
from refk8s.core.context import SECOND
from refk8s.core.loop.draft import BACKOFF_FIRST, BACKOFF_MAX
from refk8s.core.loop.plan import NOTHING, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, Index, Viewer, key_of
from refk8s.core.machine import (
    Answered,
    Call,
    Problem,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    WakeAt,
    Watch,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import Done, Failed, ListPods, RuleSet
from refk8s.core.scheduler.cycle import SCHEDULE, Scheduler


class Odd(Exception):
    """What the deciders of this file raise."""


class Fragile(Reconciler):
    """Raises about the keys in `bad`, and counts the decisions about each key in its memory."""

    name = "fragile"
    interests = (Interest(CONFIG_MAPS, lambda view, old, new: (key_of(new or old),)),)

    def __init__(self, bad):
        self.bad = set(bad)
        self.tried = []

    def start_memory(self, now):
        return ()

    def reconcile(self, view, key, now, local):
        self.tried.append((key, now, local.failures))
        if key in self.bad:
            raise Odd(key)
        return Plan(memory=(*local.memory, key))

    def ran(self, memory, key, operation, result, now):
        raise Odd("ran")

    def answered(self, memory, key, request, response, now):
        raise Odd("answered")

    def runtime_changed(self, memory, pod_uids, now):
        raise Odd("changed")


def bench_of(reconciler, *names):
    return Bench(reconcilers=[reconciler], objects=[config_map(name) for name in names])


@given(st.sets(st.sampled_from("abcdef")), st.integers(1, 12))
def test_loop_10_a_key_that_raises_backs_off_and_all_others_are_decided(bad, tries):
    reconciler = Fragile({f"ns/{name}" for name in bad})
    bench = bench_of(reconciler, *"abcdef")
    assert sorted(bench.state.memories["fragile"]) == sorted(
        f"ns/{name}" for name in set("abcdef") - bad
    )
    assert sorted(problem.key for problem in bench.new(Problem)) == sorted(reconciler.bad)
    for turn in range(tries):
        before, delay = len(reconciler.tried), min(BACKOFF_FIRST << turn, BACKOFF_MAX)
        bench.wait_until(bench.now + delay - 1)
        assert len(reconciler.tried) == before
        bench.wait_until(bench.now + 1)
        again = reconciler.tried[before:]
        assert sorted(again) == [(key, bench.now, turn + 1) for key in sorted(reconciler.bad)]
    reconciler.bad.clear()
    bench.wait_until(bench.now + BACKOFF_MAX)
    assert set(bench.state.memories["fragile"]) == {f"ns/{name}" for name in "abcdef"} and not len(
        bench.state.failures
    )


def test_loop_10_a_result_that_cannot_be_taken_in_is_reported_and_the_machine_goes_on():
    class Asking(Fragile):
        def reconcile(self, view, key, now, local):
            return (
                NOTHING if local.failures else Plan(runs=(ListPods(),), queries=(WRITES["update"],))
            )

    bench = bench_of(Asking(()), "a")
    (run,), (call,) = bench.new(Run), bench.new(Call)
    bench.hear(Ran(run.id, Done()), RuntimeChanged(("u",)))
    bench.answer(call)
    assert [str(problem.error) for problem in bench.new(Problem)] == ["ran", "changed", "answered"]
    assert bench.state.memories["fragile"] == () and not len(bench.state.runs)
    bench.change("ADDED", config_map("b", LISTED + 1, "ub"), LISTED + 1)
    assert bench.new(Run)


def test_loop_10_a_change_that_cannot_be_mapped_to_keys_is_reported_and_other_changes_are_not_lost():
    def keys(view, old, new):
        if (new or old).metadata.name == "bad":
            raise Odd("keys")
        return (key_of(new or old),)

    class Mapping(Fragile):
        interests = (Interest(CONFIG_MAPS, keys),)

    bench = bench_of(Mapping(()), "bad", "good")
    assert bench.state.memories["fragile"] == ("ns/good",)
    assert [(problem.reconciler, problem.key) for problem in bench.new(Problem)] == [
        ("fragile", "ns/bad")
    ]


def fragile_values(obj):
    if "bad" in (obj.metadata.labels or {}):
        raise Odd("index")
    return (obj.metadata.name[0],)


def fragile_count(total, resource, old, new):
    """The sum of the lengths of the names; it raises about what is bad."""
    for obj in (old, new):
        if obj is not None and "bad" in (obj.metadata.labels or {}):
            raise Odd("fold")
    return (
        total
        + (len(new.metadata.name) if new is not None else 0)
        - (len(old.metadata.name) if old is not None else 0)
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "ab", "b", "cde"]), st.sampled_from(["good", "bad", "gone"])
        ),
        max_size=20,
    )
)
def test_loop_10_an_index_or_fold_that_raises_about_an_object_has_all_others(changes):
    viewer = Viewer(
        [CONFIG_MAPS],
        [Index("first", CONFIG_MAPS, fragile_values)],
        [Fold("sum", (CONFIG_MAPS,), 0, fragile_count)],
    )
    view, model = viewer.empty(), {}
    for revision, (name, what) in enumerate(changes, LISTED):
        labels = {"bad": ""} if what == "bad" else None
        obj = None if what == "gone" else config_map(name, revision, labels=labels)
        problems = []
        view, _ = viewer.apply(
            view, CONFIG_MAPS, [(f"ns/{name}", obj)], revision, problems=problems
        )
        model[name] = what
        assert bool(problems) == (what == "bad")
        good = {name for name, what in model.items() if what == "good"}
        assert view.fold("sum") == sum(map(len, good))
        for letter in "abc":
            assert view.indexed_keys(CONFIG_MAPS, "first", letter) == sorted(
                f"ns/{name}" for name in good if name[0] == letter
            )


def test_loop_10_the_scheduler_parks_the_pod_it_fails_on_and_places_the_others():
    scheduler = Scheduler()
    resources = [interest.resource for interest in scheduler.interests]
    viewer = Viewer(resources, scheduler.indexes, scheduler.folds)
    view = viewer.empty()
    for resource, objects in (
        (NODES, [a_node("n1")]),
        (PODS, [placed(a_pod("bad"), "", "u1"), placed(a_pod("good"), "", "u2")]),
    ):
        view, _ = viewer.apply(view, resource, [(key_of(obj), obj) for obj in objects], 1)
    memory = scheduler.start_memory(NOW)
    keys = [key_of(pod) for pod in view.list(PODS)]
    for key in keys:
        memory = scheduler.reconcile(view, key, NOW, Local(memory)).memory
    choose = scheduler._choosers[scheduler.name].choose

    def fragile(pod, *rest):
        if pod.name == "bad":
            raise Odd(pod.name)
        return choose(pod, *rest)

    scheduler._choosers[scheduler.name].choose = fragile
    plan = scheduler.reconcile(view, SCHEDULE, NOW, Local(memory))
    assert [str(problem) for problem in plan.problems] == ["bad"]
    assert [key.rpartition("/")[2] for key in plan.memory.decisions] == ["good"]
    (waiting,) = plan.memory.queue.pods.values()
    assert (
        waiting.parked_at == NOW and waiting.message == "the scheduler failed on this pod: Odd: bad"
    )


# --- the driver -----------------------------------------------------------------------------------


class Machine:
    """Asks for everything at the start, and records what it is told."""

    name = "machine"

    def __init__(self, effects):
        self.effects, self.told = effects, []

    def start(self, now, seed):
        return None, self.effects

    def step(self, state, events, now):
        self.told += events
        return None, ()


class Raising:
    """An API, runtime and rules that raise about the ids in `bad` and answer all others."""

    def __init__(self, bad):
        self.bad, self.count = bad, 0

    def _turn(self):
        self.count += 1
        if self.count in self.bad:
            raise Odd(str(self.count))

    def submit(self, request, answer, background=False):
        self._turn()
        answer(Response(200, None))

    def watch(self, request, deliver, ended):
        self._turn()
        ended(0)
        return lambda: None

    def run(self, operation, done):
        self._turn()
        done(Done())

    def listen(self, changed):
        pass

    def program(self, rules, done):
        self._turn()
        done("")


class Still:
    def now(self):
        return NOW


@given(st.sets(st.integers(1, 5)), st.booleans())
def test_loop_11_every_effect_is_answered_whatever_raises(bad, listener_raises):
    request = WRITES["create"]
    effects = (
        Call(1, request),
        Watch(2, request),
        Run(3, ListPods()),
        Program(4, RuleSet({})),
        Call(5, request),
    )

    async def drive():
        machine, rest = Machine(effects), Raising(bad)
        driver = Driver(machine, rest, Still(), rest, rest)
        if listener_raises:
            driver.on_run = driver.on_program = lambda what: 1 // 0
        driver.start()
        for _ in range(3):
            await asyncio.sleep(0)
        driver.stop()
        return machine.told

    told = {event.id: event for event in asyncio.run(drive())}
    assert sorted(told) == [1, 2, 3, 4, 5]
    for id, event in told.items():
        failed = id in bad
        match event:
            case Answered(_, response):
                assert response.code == (500 if failed else 200)
            case WatchEnded(_, code):
                assert code == (500 if failed else 0)
            case Ran(_, result):
                assert isinstance(result, Failed if failed else Done)
            case Programmed(_, error):
                assert bool(error) == failed


def test_loop_11_a_problem_is_logged_with_its_key_and_the_machine_keeps_its_state(caplog):
    async def drive():
        machine = Machine((Problem("web", "ns/bad", Odd("why")),))
        driver = Driver(machine, Raising(()), Still())
        driver.start()
        await asyncio.sleep(0)
        driver.stop()

    asyncio.run(drive())
    (entry,) = caplog.records
    assert "web raised Odd about 'ns/bad'" in entry.getMessage() and entry.exc_info[1].args == (
        "why",
    )


@given(st.sets(st.integers(1, 3)))
def test_event_8_a_background_request_costs_the_machine_no_step(bad):
    """Whether the API server accepts it, refuses it or raises: only the response to 2 arrives."""
    request = WRITES["create"]
    effects = (Call(1, request, True), Call(2, request), Call(3, request, True))

    async def drive():
        machine = Machine(effects)
        driver = Driver(machine, Raising(bad), Still())
        driver.start()
        for _ in range(3):
            await asyncio.sleep(0)
        driver.stop()
        return machine.told

    assert [event.id for event in asyncio.run(drive())] == [2]


class Timers:
    """An event loop whose time a test sets; `set` counts the timers that were created."""

    def __init__(self):
        self.now, self.set, self.pending, self.soon = 0.0, 0, [], []

    def call_later(self, delay, callback, *arguments):
        self.set += 1
        timer = SimpleNamespace(at=self.now + delay, run=partial(callback, *arguments), open=True)
        timer.cancel = lambda: setattr(timer, "open", False)
        self.pending.append(timer)
        return timer

    def call_soon(self, callback, *arguments):
        self.soon.append(partial(callback, *arguments))

    def pass_to(self, now):
        """Let time pass, and run what is due."""
        while due := [t for t in self.pending if t.open and t.at <= now]:
            timer = min(due, key=lambda timer: timer.at)
            self.now = max(self.now, timer.at)
            self.pending.remove(timer)
            timer.run()
            self.run_soon()
        self.now = now
        self.run_soon()

    def run_soon(self):
        while self.soon:
            self.soon.pop(0)()


@given(
    st.lists(st.tuples(st.integers(1, 20), st.none() | st.integers(1, 60)), min_size=1, max_size=12)
)
def test_loop_2_the_driver_wakes_the_machine_at_the_last_instant_it_asked_for(steps):
    """After so many seconds the machine asks to be woken at that second, or not at all."""

    async def drive():
        timers, machine, woken = Timers(), Machine(()), []
        clock = SimpleNamespace(now=lambda: round(timers.now * SECOND))
        driver = Driver(machine, Raising(()), clock)
        driver._loop = timers
        driver.start()
        machine.step = lambda state, events, now: (woken.append((now, list(events))), ())
        wanted, expected = None, []
        for pause, at in steps:
            now = timers.now + pause
            timers.pass_to(now)
            if wanted is not None and wanted <= now:
                expected.append((wanted * SECOND, [Woken()]))
            wanted = None if at is None else max(at, now)
            driver._carry_out((WakeAt(None if at is None else at * SECOND),))
        assert woken == expected
        assert timers.set <= len(steps) + len(expected)
        driver.stop()
        timers.pass_to(1000)
        assert woken == expected

    asyncio.run(drive())


def test_loop_2_a_timer_that_moves_to_later_instants_is_not_set_again():
    async def drive():
        timers = Timers()
        driver = Driver(Machine(()), Raising(()), SimpleNamespace(now=lambda: 0))
        driver._loop = timers
        driver.start()
        driver._carry_out(tuple(WakeAt(at * SECOND) for at in range(1, 100)))
        assert timers.set == 1
        driver.stop()

    asyncio.run(drive())
