"""Fair shares between users (spec/fair_shares.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.fair_queues import FairQueues, Ticket
from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import AUTHENTICATED, MASTERS, User
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.fair_shares import SEATS, Flow, Level, compile_shares
from refk8s.core.apiserver.flow_control import default_flow_control
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import EMPTY, History, Put, Txn, commit

JANE = User("jane", groups=(AUTHENTICATED,))
DEFAULTS = default_flow_control()
SCHEMAS = [one for one in DEFAULTS if one.kind == "FlowSchema"]
LEVELS = [one for one in DEFAULTS if one.kind != "FlowSchema"]


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
    store: History[Any] = EMPTY
    for one in DEFAULTS:
        kind = resources.by_kind(one.api_version, one.kind)
        assert kind is not None
        store, _ = commit(store, Txn((), (Put(kind.key("", one.metadata.name), one),)), stamp)
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
    shares = compile_shares((SCHEMAS, LEVELS))
    levels = {level.name: level for _, level in shares.schemas}
    assert levels["catch-all"].own == 13 and levels["exempt"].is_exempt
    assert levels["workload-low"].own == 25 and levels["workload-low"].most == SEATS
    everything = sum(level.own for level in levels.values()) + shares.lent
    assert SEATS <= everything <= SEATS + len(levels)


LEVEL = Level("l", "u", own=2, most=2, queues=8, hand_size=2, queue_length=3)


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
        bare = Level("bare", "v", own=1, most=1)
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
