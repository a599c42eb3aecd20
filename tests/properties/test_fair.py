"""Fair shares between users (spec/fair_shares.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_world import an_object
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.fair_queues import FairQueues, Ticket
from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import AUTHENTICATED, MASTERS, User
from refk8s.core.apiserver.borrowing import (
    Bounds,
    Demand,
    Need,
    Observed,
    assign,
    divide,
    smooth,
)
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.fair_shares import (
    SEATS,
    Flow,
    Level,
    compile_shares,
    compute_width,
)
from refk8s.core.apiserver.flow_control import default_flow_control
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import EMPTY, History, Put, Txn, commit

JANE = User("jane", groups=(AUTHENTICATED,))
DEFAULTS = default_flow_control()
SCHEMAS = [one for one in DEFAULTS if one.kind == "FlowSchema"]
LEVELS = [one for one in DEFAULTS if one.kind != "FlowSchema"]


def stored_defaults() -> History[Any]:
    """A store with the schemas and levels that every cluster has."""
    store: History[Any] = EMPTY
    for one in DEFAULTS:
        kind = resources.by_kind(one.api_version, one.kind)
        assert kind is not None
        store, _ = commit(store, Txn((), (Put(kind.key("", one.metadata.name), one),)), stamp)
    return store


def schema(name: str, rules: list[Any], level: str = "global-default", precedence: int = 50) -> Any:
    spec = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": rules}  # fmt: skip
    return from_tree(resources.FLOW_SCHEMAS.type, {"metadata": {"name": name, "uid": f"u-{name}"}, "spec": spec})  # fmt: skip


def flow_of(attributes: Attributes, *more: Any) -> Flow | None:
    return compile_shares((SCHEMAS + list(more), LEVELS)).flow_of(attributes)


def level_of(attributes: Attributes, *more: Any) -> str:
    found = flow_of(attributes, *more)
    return "" if found is None else found.level.name


PODS = {"resource": "pods", "namespace": "n"}


@pytest.mark.parametrize(
    ("attributes", "level"),
    [
        (Attributes(User("a", groups=(MASTERS, AUTHENTICATED)), "get", **PODS), "exempt"),
        (Attributes(JANE, "get", path="/healthz"), "exempt"),
        (Attributes(JANE, "get", **PODS), "global-default"),
        (Attributes(User("system:node:n", groups=("system:nodes", AUTHENTICATED)), "get", **PODS), "system"),
        (Attributes(User("system:node:n", groups=("system:nodes", AUTHENTICATED)), "update", resource="nodes", subresource="status"), "node-high"),
        (Attributes(User("system:kube-scheduler", groups=(AUTHENTICATED,)), "list", **PODS), "workload-high"),
        (Attributes(User("system:serviceaccount:kube-system:x", groups=("system:serviceaccounts", AUTHENTICATED)), "list", **PODS), "workload-high"),
        (Attributes(User("system:serviceaccount:n:x", groups=("system:serviceaccounts", AUTHENTICATED)), "list", **PODS), "workload-low"),
        (Attributes(User("x"), "list", **PODS), ""),
    ],
)  # fmt: skip
def test_fair_1_the_default_schemas_classify_as_upstream(attributes, level):
    assert level_of(attributes) == level


@pytest.mark.parametrize(
    ("rule", "attributes", "matches"),
    [
        ({"resources": ["pods"]}, PODS, True),
        ({"resources": ["pods"]}, {**PODS, "subresource": "log"}, False),
        ({"resources": ["*"]}, {**PODS, "subresource": "log"}, True),
        ({"verbs": ["list"]}, PODS, False),
        ({"apiGroups": ["apps"]}, PODS, False),
        ({"namespaces": ["m"]}, PODS, False),
        ({"namespaces": []}, {"resource": "pods"}, False),
        ({"namespaces": [], "clusterScope": True}, {"resource": "pods"}, True),
    ],
)
def test_fair_1_a_rule_names_requests(rule, attributes, matches):
    whole = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], **rule}
    mine = schema("mine", [{"subjects": [{"kind": "User", "user": {"name": "jane"}}], "resourceRules": [whole]}])  # fmt: skip
    found = flow_of(Attributes(JANE, "get", **attributes), mine)
    assert found is not None and (found.schema_uid == "u-mine") is matches
    assert flow_of(Attributes(User("joe", groups=(AUTHENTICATED,)), "get", **attributes), mine) != found or not matches  # fmt: skip


def test_fair_1_answers_name_the_schema_and_the_level():
    store = stored_defaults()
    mine = schema("mine", [{"subjects": [{"kind": "User", "user": {"name": "jane"}}], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/x/*"]}]}])  # fmt: skip
    queues = FairQueues()
    request = Request("get", resources.PODS, "n", "p", user=JANE)
    first = queues.ticket_of(request, "GET", store)
    assert first is queues.ticket_of(request, "GET", store) and first is not None
    assert [name for name, _ in first.headers] == [b"x-kubernetes-pf-flowschema-uid", b"x-kubernetes-pf-prioritylevel-uid"]  # fmt: skip
    store, _ = commit(store, Txn((), (Put(resources.FLOW_SCHEMAS.key("", "mine"), mine),)), stamp)
    path = queues.ticket_of_path(JANE, "GET", "/x/y", store)
    assert path is not None and path.headers[0][1] == b"u-mine"
    assert queues.ticket_of(request, "GET", store) is not first


def test_fair_2_levels_have_their_parts_of_all_seats():
    # Shows FAIR-2.b FAIR-2.c.
    levels = compile_shares((SCHEMAS, LEVELS)).levels
    assert levels["catch-all"].bounds == Bounds(13, 13, 13 + SEATS)
    assert levels["workload-low"].bounds == Bounds(245, 24, 245 + SEATS)
    assert levels["exempt"].is_exempt and levels["exempt"].bounds.nominal == 0
    everything = sum(level.bounds.nominal for level in levels.values())
    assert SEATS <= everything <= SEATS + len(levels)


@given(st.lists(st.tuples(st.integers(-3, 5), st.floats(0, 20)), max_size=30), st.floats(0, 20))
def test_fair_2_demand_is_a_mean_over_time(steps, pause):
    """The reference integrates each stretch of a constant demand."""
    now, demand, seats, stretches = 100.0, Demand(100.0), 0, []
    highest = 0
    for change, seconds in steps:
        change = max(change, -seats)
        demand.add(change, now)
        seats += change
        highest = max(highest, seats)
        stretches.append((seats, seconds))
        now += seconds
    stretches.append((seats, pause))
    now += pause
    found = demand.observe(now)
    whole = now - 100.0
    assert found.highest == highest and abs(found.seconds - whole) < 1e-6
    if whole > 1e-6:
        mean = sum(value * seconds for value, seconds in stretches) / whole
        spread = sum((value - mean) ** 2 * seconds for value, seconds in stretches) / whole
        assert abs(found.average - mean) < 1e-6
        assert abs(found.deviation**2 - spread) < 1e-4
    again = demand.observe(now + 5)
    assert (again.average, again.highest, again.seconds) == (seats, seats, 5)


def test_fair_2_a_rise_counts_at_once_and_a_fall_slowly():
    # Shows FAIR-2.g.
    need = smooth(Need(), Observed(100.0, 0.0, 100, 10.0))
    assert need.smoothed == 100
    for _ in range(30):  # five minutes
        need = smooth(need, Observed(0.0, 0.0, 0, 10.0))
    assert 49 < need.smoothed < 51


ITEMS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 60), st.floats(0, 90)).map(
        lambda one: (float(one[0]), float(one[0] + one[1]), max(float(one[0]), one[2]))
    ),
    min_size=1,
    max_size=6,
)


def _by_bisection(total, items):
    """The reference: the sum of the parts grows with the factor, so it is found by halving."""

    def parts(factor):
        return [max(low, min(high, factor * max(aim, 0.001))) for low, high, aim in items]

    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(parts(middle)) >= total else (middle, high)
    return parts(high)


@given(ITEMS, st.integers(0, 400))
def test_fair_2_all_levels_have_the_same_part_of_their_targets(items, total):
    # Shows FAIR-2.f.
    divided = divide(total, items)
    possible = sum(one[0] for one in items) <= total <= sum(one[1] for one in items)
    assert (divided is not None) is possible
    if divided is not None:
        parts, factor = divided
        assert abs(sum(parts) - total) < 1e-3
        assert all(
            abs(a - b) < 1e-3 for a, b in zip(parts, _by_bisection(total, items), strict=True)
        )
        for (low, high, aim), part in zip(items, parts, strict=True):
            assert low <= part <= high
            assert part in (low, high) or abs(part - factor * max(aim, 0.001)) < 1e-6


@given(st.lists(st.integers(0, 700), min_size=len(LEVELS), max_size=len(LEVELS)), st.booleans())
def test_fair_2_what_is_assigned_is_within_the_bounds(demands, is_steady):
    # Shows FAIR-2.e.
    levels = compile_shares((SCHEMAS, LEVELS)).levels
    bounds = {name: level.bounds for name, level in levels.items()}
    needs = {
        name: smooth(Need(), Observed(float(seats if is_steady else 0), 0.0, seats, 10.0))
        for name, seats in zip(levels, demands, strict=True)
    }
    assigned = assign(bounds, needs)
    assert assigned is not None
    whole = sum(one.nominal for one in bounds.values())
    assert abs(sum(assigned.limits.values()) - whole) <= len(levels)
    for name, limit in assigned.limits.items():
        one, seats = bounds[name], needs[name].observed.highest
        assert max(one.least, min(one.nominal, seats)) <= limit <= one.most


def test_fair_2_an_idle_level_lends_and_takes_back():
    # Shows FAIR-2.d.
    clock = [0.0]
    queues = FairQueues(now=lambda: clock[0])
    queues._shares = compile_shares((SCHEMAS, LEVELS))
    queues._reconfigure(queues._shares)
    low = queues._shares.levels["workload-low"]
    queues._seats["catch-all"].demand.add(500, 0.0)
    clock[0] += 10
    queues.adjust()
    assert queues._seats["catch-all"].limit > 13 and queues._seats["workload-low"].limit >= 24
    for _ in range(low.bounds.nominal):
        queues._seats["workload-low"].demand.add(1, clock[0])
    clock[0] += 10
    queues.adjust()
    assert queues._seats["workload-low"].limit >= low.bounds.nominal


def test_fair_2_more_seats_are_given_to_requests_that_wait():
    async def run() -> None:
        clock = [0.0]
        queues = FairQueues(now=lambda: clock[0])
        queues._shares = compile_shares((SCHEMAS, LEVELS))
        queues._reconfigure(queues._shares)
        level = queues._shares.levels["global-default"]
        one = ticket("a", tuple(range(6)), level)
        running = 0
        while queues.enters(one):
            running += 1
        waiting = [asyncio.create_task(queues.enter(one)) for _ in range(40)]
        await asyncio.sleep(0)
        clock[0] += 10
        queues.adjust()
        await asyncio.sleep(0)
        assert queues._seats["global-default"].used > running
        for _ in range(running + 40):
            queues.leave(one)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert queues._seats["global-default"].demand.value == 0

    asyncio.run(run())


def test_fair_2_a_level_that_is_gone_keeps_its_seats_until_they_are_free():
    async def run() -> None:
        queues = FairQueues(now=lambda: 0.0)
        queues._shares = compile_shares((SCHEMAS, LEVELS))
        queues._reconfigure(queues._shares)
        one = ticket("a", (), queues._shares.levels["system"])
        await queues.enter(one)
        queues._shares = compile_shares(
            (SCHEMAS, [n for n in LEVELS if n.metadata.name != "system"])
        )
        queues._reconfigure(queues._shares)
        assert queues._seats["system"].used == 1
        queues.leave(one)
        queues.adjust()
        assert "system" not in queues._seats

    asyncio.run(run())


LEVEL = Level("l", "u", Bounds(2, 2, 2), queues=8, hand_size=2, queue_length=3)


def ticket(name: str, hand: tuple[int, ...] = (0, 1), level: Level = LEVEL) -> Ticket:
    return Ticket(Flow(name, level, hand))


def queues_with(wait_seconds: float = 5) -> FairQueues:
    found = FairQueues(wait_seconds)
    found._shares = compile_shares(((), ()))
    return found


async def _is_refused(queues: FairQueues, one: Ticket) -> bool:
    try:
        await queues.enter(one)
    except ApiError as error:
        assert error.status.code == 429 and error.status.reason == "TooManyRequests"
        return True
    return False


def test_fair_4_what_finds_no_seat_and_no_place_is_429():
    async def run() -> None:
        queues = queues_with()
        one = ticket("a")
        assert not await _is_refused(queues, one) and not await _is_refused(queues, one)
        waiting = [asyncio.create_task(queues.enter(one)) for _ in range(6)]
        await asyncio.sleep(0)
        assert await _is_refused(queues, one)  # both queues of its hand have three
        bare = Level("bare", "v", Bounds(1, 1, 1))
        assert not await _is_refused(queues, ticket("b", (), bare))
        assert await _is_refused(queues, ticket("b", (), bare))
        for _ in range(8):
            queues.leave(one)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_fair_4_a_request_waits_for_a_bounded_time():
    async def run() -> None:
        queues = queues_with(wait_seconds=0.01)
        one = ticket("a")
        await queues.enter(one)
        await queues.enter(one)
        assert await _is_refused(queues, one)
        queues.leave(one)
        assert not await _is_refused(queues, one)

    asyncio.run(run())


def test_fair_3_queues_are_served_in_turn():
    async def run() -> list[str]:
        queues = queues_with()
        order: list[str] = []
        busy, rare = ticket("busy", (0,)), ticket("rare", (1,))

        async def serve(one: Ticket, name: str) -> None:
            await queues.enter(one)
            order.append(name)
            queues.leave(one)

        await queues.enter(busy)
        await queues.enter(busy)
        tasks = [asyncio.create_task(serve(busy, "busy")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(serve(rare, "rare")))
        await asyncio.sleep(0)
        queues.leave(busy)
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()).index("rare") <= 1


@given(st.lists(st.sampled_from(["enter", "leave", "cancel"]), max_size=40))
def test_fair_5_seats_are_given_back_however_requests_end(steps):
    async def run() -> None:
        queues = queues_with()
        one = ticket("a")
        running, waiting = 0, []
        for step in steps:
            if step == "enter":
                waiting.append(asyncio.create_task(queues.enter(one)))
            elif step == "leave" and running:
                queues.leave(one)
                running -= 1
            elif step == "cancel" and waiting:
                waiting.pop(0).cancel()
            for _ in range(6):
                await asyncio.sleep(0)
            done = [task for task in waiting if task.done()]
            running += sum(1 for task in done if not task.cancelled() and task.exception() is None)
            waiting = [task for task in waiting if not task.done()]
            seats = queues._seats.get("l")
            assert running <= 2 and (seats is None or seats.used == running)
            assert not waiting or running == 2
        for task in waiting:
            task.cancel()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("stored", "level", "width"),
    [
        (0, "global-default", 1),
        (100, "global-default", 1),
        (101, "global-default", 2),
        (450, "global-default", 5),
        (10**6, "global-default", 8),  # 49 nominal seats: 15 % of them
        (10**6, "workload-low", 10),
        (10**6, "leader-election", 4),  # 25 nominal seats: 15 %
    ],
)
def test_fair_6_a_list_takes_a_seat_for_each_hundred_objects(stored, level, width):
    found = compile_shares((SCHEMAS, LEVELS)).levels[level]
    assert compute_width(stored, found, is_single=False) == width
    assert compute_width(stored, found, is_single=True) == 1


def test_fair_6_a_list_is_as_wide_as_its_resource_is_large():
    store = stored_defaults()
    maps = [an_object(resources.CONFIG_MAPS, ObjectMeta(name=f"m{n}", namespace="n")) for n in range(250)]  # fmt: skip
    puts = tuple([Put(resources.CONFIG_MAPS.key("n", one.metadata.name), one) for one in maps])
    store, _ = commit(store, Txn((), puts), stamp)
    queues = FairQueues()

    def width(verb: str, namespace: str, field_selector: str = "", user: User = JANE) -> int:
        options = Options(field_selector=field_selector)
        request = Request(verb, resources.CONFIG_MAPS, namespace, user=user, options=options)
        found = queues.ticket_of(request, "GET", store)
        assert found is not None and found is queues.ticket_of(request, "GET", store)
        return found.width

    assert width("list", "n") == width("list", "") == width("list", "none") == 3
    assert width("get", "n") == width("watch", "n") == width("list", "n", "metadata.name=m1") == 1
    assert width("list", "n", user=User("a", groups=(MASTERS, AUTHENTICATED))) == 1


def test_fair_6_a_list_that_is_wider_than_its_level_runs_alone():
    async def run() -> None:
        queues = queues_with()
        one, wide = ticket("a"), ticket("w").of_width(5)
        await queues.enter(one)
        waiting = asyncio.create_task(queues.enter(wide))
        await asyncio.sleep(0)
        assert not waiting.done()
        queues.leave(one)
        await waiting
        assert queues._seats["l"].used == 5 and not queues.enters(one)
        queues.leave(wide)
        assert queues._seats["l"].used == 0 and queues.enters(one)

    asyncio.run(run())


@given(st.lists(st.sampled_from(["enter", "leave", "wait", "refused"]), max_size=12))
def test_fair_2_each_request_is_counted_once_for_its_schema(acts):
    async def test() -> None:
        clock = [0.0]
        queues = FairQueues(0.01, now=lambda: clock[0])
        level = Level("l", "u", Bounds(2, 2, 2), queues=1, hand_size=1, queue_length=2)
        ticket = Ticket(Flow("s", level, (0,), "schema"), counts=queues._counts_of(Flow("s", level, (0,), "schema")))  # fmt: skip
        ran = inside = refused = 0
        waiting: list[asyncio.Task[None]] = []
        for act in acts:
            if act == "enter" and queues.enters(ticket):
                ran, inside = ran + 1, inside + 1
            elif act == "leave" and inside:
                queues.leave(ticket)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                inside -= 1
                done = [one for one in waiting if one.done()]
                waiting = [one for one in waiting if not one.done()]
                ran, inside = ran + len(done), inside + len(done)
            elif act == "wait" and inside == 2 and len(waiting) < 2:
                waiting.append(asyncio.ensure_future(queues.enter(ticket)))
                await asyncio.sleep(0)
            elif act == "refused" and inside == 2 and len(waiting) == 2:
                with pytest.raises(ApiError):
                    await queues.enter(ticket)
                refused += 1
        found = {one.name: {tuple(s.labels.values()): s.value for s in one.samples if not s.name.endswith(("_bucket", "_sum"))} for one in queues.collect(EMPTY)}  # fmt: skip
        key = ("schema", "l")
        at = "apiserver_flowcontrol_"
        assert found[f"{at}dispatched_requests"][key] == ran
        assert found[f"{at}current_executing_requests"][key] == inside
        assert sum(found[f"{at}rejected_requests"].values()) == refused
        assert found[f"{at}request_wait_duration_seconds"][(*key, "true")] == ran
        for one in waiting:
            one.cancel()

    asyncio.run(test())


def test_fair_2_metrics_have_upstreams_names():
    found = {one.name: one for one in FairQueues().collect(stored_defaults())}
    limits = found["apiserver_flowcontrol_nominal_limit_seats"]
    assert {s.labels["priority_level"]: s.value for s in limits.samples}["catch-all"] == 13
    assert "apiserver_flowcontrol_current_limit_seats" in found
    assert "apiserver_flowcontrol_rejected_requests" in found
