"""spec/formal/scheduler.qnt in the core: the scheduler (refk8s/core/scheduler/cycle.py) against the
real API server.

The scheduler's decider is asked directly, on a view that the twin keeps; what was not answered is
sent again here as the loop does it. Back-off is no part of the model, so time passes before every
look at the queue.
"""

import random
from typing import Any, NamedTuple

from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    Namespace,
    Node,
    NodeAffinity,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    Pod,
    PodSpec,
    PreferredSchedulingTerm,
    ResourceRequirements,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import NAMESPACES, NODES, PODS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import subresources
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import submit
from refk8s.core.context import SECOND
from refk8s.core.loop.plan import UNCHANGED, Local, Plan
from refk8s.core.loop.view import View, Viewer, key_of
from refk8s.core.scheduler import memory as memories
from refk8s.core.scheduler.cycle import SCHEDULE, Scheduler
from refk8s.core.scheduler.memory import Memory
from refk8s.core.scheduler.queue import Waiting
from refk8s.core.store import Change
from refk8s.core.value import evolve

ROOM = {"n1": 3, "n2": 2}
NAMES = ("p1", "p2", "p3", "p4")
HOST = "kubernetes.io/hostname"
MERGE_PATCH = "application/merge-patch+json"
START = 1_700_000_000 * SECOND
PATIENCE = 11 * SECOND  # longer than any back-off


class Flight(NamedTuple):
    """A binding on its way. `answer`: on its way back."""

    request: Request
    life: int
    doubtful: bool = False
    deaf: bool = False
    answer: Response | None = None


class SchedulerTwin(Twin):
    model = "scheduler"
    witnesses = (
        "some_retried_binding_is_refused",
        "some_answered_binding_not_in_view",
        "some_node_is_full",
    )
    core_bugs = (
        CoreBug("who is bound stays assumed", Scheduler._conclude, "memory = memory.settle(key, is_bound=is_bound)", "pass"),
        CoreBug("who is assumed takes no room", memories.catch_up, "if uid not in load.pods:", "if False:"),
        CoreBug("a decision is not judged again", Scheduler._bind, "if truth.last_change is not decision.truth:", "if False:"),
        CoreBug("a bound pod is bound again", subresources.bind, "if pod.spec.node_name:", "if False:"),
        CoreBug("who came last is first", Waiting.rank.fget, "self.number", "-self.number"),
    )  # fmt: skip
    model_bugs = (
        ModelBug("no node is ever filled", "load(s, node, but) + cost <= ROOM.get(node)", "load(s, node, but) + cost < ROOM.get(node)"),
        ModelBug("who is assumed takes no room", "total(shown, n => s.view.get(n).cost) + total(assumed, n => s.decisions.get(n).cost)",
                 "total(shown, n => s.view.get(n).cost)", unsafe=True),
        ModelBug("a lost answer is taken for a refusal",
                 "become(if (hears(s, id)) again(without(s, id), "
                 "s.flights.get(id)) else without(s, id))",
                 "become(if (hears(s, id)) looked(without(s, id), s.flights.get(id).name, true) else without(s, id))"),
        ModelBug("a bound pod is bound again", 'and s.pods.get(f.name).node == ""\n', "\n", unsafe=True),
    )  # fmt: skip

    def __init__(self) -> None:
        self.cluster: Cluster = begin({}, {}, b"seed", START)
        self.news: list[Change[Any]] = []
        self.node_news: list[Change[Any]] = []
        self.known = 0
        self._ask(
            Request("create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="default")))
        )
        for name, room in ROOM.items():
            self._ask(
                Request(
                    "create", NODES, body=Node(metadata=ObjectMeta(name=name, labels={HOST: name}))
                )
            )
            amounts = {"cpu": str(room), "memory": "1Gi", "pods": "110"}
            patch = Patch(MERGE_PATCH, {"status": {"capacity": amounts, "allocatable": amounts}})
            self._ask(Request("patch", NODES, "", name, "status", body=patch))
            # A fresh node has one.
            self._ask(
                Request(
                    "patch", NODES, "", name, body=Patch(MERGE_PATCH, {"spec": {"taints": None}})
                )
            )
        self.scheduler = Scheduler()
        self.viewer = Viewer(
            [interest.resource for interest in self.scheduler.interests], (), self.scheduler.folds
        )
        self.uids: dict[str, int] = {}
        self.costs: dict[str, int] = {}
        self.flights: dict[int, Flight] = {}
        self.sent = 0
        self.life = 0
        self.now = START
        self._start()

    def _start(self) -> None:
        """A new life: nothing is remembered, and everything is listed."""
        self.life += 1
        self.memory: Memory = self.scheduler.start_memory(self.now)
        self.view: View = self.viewer.empty()
        self.news, self.node_news = [], []
        for resource in (NAMESPACES, NODES, PODS):
            page = self.cluster.history.list(resource.prefix)
            objects = [(key_of(record.value), record.value) for record in page.records]
            self.view, _ = self.viewer.apply(self.view, resource, objects, page.revision)

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        arguments = {
            "look": ("name",), "arrive": ("id",), "answer": ("id",), "lose": ("id",), "give_up": ("id",),
            "create": ("name", "cost", "likes"), "delete": ("name",), "cordon": ("node",),
        }  # fmt: skip
        return Act(action, tuple(picks[argument] for argument in arguments.get(action, ())))

    def do(self, act: Act) -> None:
        match act:
            case Act("look", (name,)):
                self._carry_out(self._plan_for(name))
            case Act("schedule", ()):
                self.now += PATIENCE
                self._carry_out(
                    self.scheduler.reconcile(self.view, SCHEDULE, self.now, Local(self.memory))
                )
            case Act("arrive", (number,)):
                self._arrive(number)
            case Act("answer", (number,)):
                self._answer(number)
            case Act("lose", (number,)):
                self._again(number, self.flights.pop(number))
            case Act("give_up", (number,)):
                flight = self._flight(number)
                self.flights[number] = flight._replace(deaf=True)
                self._again(number, flight)
            case Act("deliver", ()):
                self._deliver(self.news, PODS)
            case Act("deliver_node", ()):
                self._deliver(self.node_news, NODES)
            case Act("crash", ()):
                self._start()
            case Act("create", (name, cost, likes)):
                self._ask(Request("create", PODS, "default", name, body=_pod(name, cost, likes)))
                uid = self._stored(name).metadata.uid
                self.uids[uid], self.costs[uid] = len(self.uids) + 1, cost
            case Act("delete", (name,)):
                self._ask(
                    Request(
                        "delete", PODS, "default", name, body=DeleteOptions(grace_period_seconds=0)
                    )
                )
            case Act("cordon", (node,)):
                patch = Patch(
                    MERGE_PATCH, {"spec": {"unschedulable": node not in self._cordoned() or None}}
                )
                self._ask(Request("patch", NODES, "", node, body=patch))

    def _plan_for(self, name: str, failure: Response | None = None) -> Plan:
        """What a look at this pod leads to; nothing while a request for it is not answered
        (LOOP-3)."""
        if any(
            self._hears(flight) and flight.request.name == name for flight in self.flights.values()
        ):
            return Plan()
        return self.scheduler.reconcile(
            self.view, f"default/{name}", self.now, Local(self.memory, 0, failure)
        )

    def _bindings(self, plan: Plan) -> list[Request]:
        """The bindings that it asks for. (Conditions and victims are no part of the model.)"""
        return [
            request for wave in plan.waves for request in wave if request.subresource == "binding"
        ]

    def _carry_out(self, plan: Plan) -> None:
        if not self._changes_something(plan):
            raise Impossible("the scheduler has nothing to do here")
        if plan.memory is not UNCHANGED:
            self.memory = plan.memory
        for request in self._bindings(plan):
            self._send(Flight(request, self.life))

    def _changes_something(self, plan: Plan) -> bool:
        before = _show_memory(self.memory, self.uids, self.costs)
        after = (
            before if plan.memory is UNCHANGED else _show_memory(plan.memory, self.uids, self.costs)
        )
        return bool(self._bindings(plan)) or before != after

    def _send(self, flight: Flight) -> None:
        self.sent += 1
        self.flights[self.sent] = flight

    def _again(self, number: int, flight: Flight) -> None:
        if self._hears(flight):
            self._send(flight._replace(doubtful=True, answer=None))

    def _arrive(self, number: int) -> None:
        flight = self._flight(number)
        response = self._submit(flight.request)
        if self._hears(flight):
            self.flights[number] = flight._replace(answer=response)
        else:
            del self.flights[number]

    def _answer(self, number: int) -> None:
        flight = self.flights.pop(number)
        if flight.answer is None:
            raise Impossible("it has not been answered")
        if self._hears(flight) and not flight.answer.ok and not flight.doubtful:
            plan = self._plan_for(flight.request.name, flight.answer)
            if self._changes_something(plan):
                self._carry_out(plan)

    def _deliver(self, news: list[Change[Any]], resource: Any) -> None:
        if not news:
            raise Impossible("there is no news")
        change = news.pop(0)
        name = change.key.rpartition("/")[2]
        key = name if resource is NODES else f"default/{name}"
        self.view, _ = self.viewer.apply(
            self.view,
            resource,
            [(key, change.record.value if change.record else None)],
            change.revision,
        )

    def _ask(self, request: Request) -> None:
        response = self._submit(request)
        assert response.ok, response.body

    def _submit(self, request: Request) -> Response:
        self.cluster, response = submit(self.cluster, evolve(request, user=ADMIN))
        self.news += self.cluster.history.changes(PODS.prefix, self.known)
        self.node_news += self.cluster.history.changes(NODES.prefix, self.known)
        self.known = self.cluster.history.revision
        return response

    # --- what is where

    def _stored(self, name: str) -> Any:
        record = self.cluster.history.get(f"{PODS.prefix}default/{name}")
        return record.value if record is not None else None

    def _cordoned(self) -> frozenset[str]:
        nodes = [record.value for record in self.cluster.history.list(NODES.prefix).records]
        return frozenset(
            node.metadata.name
            for node in nodes
            if node.spec is not None and node.spec.unschedulable
        )

    def _flight(self, number: int) -> Flight:
        flight = self.flights.get(number)
        if flight is None or flight.answer is not None:
            raise Impossible(f"no binding {number} is on its way")
        return flight

    def _hears(self, flight: Flight) -> bool:
        return flight.life == self.life and not flight.deaf

    def _due(self) -> frozenset[str]:
        due = {name for name in NAMES if self._changes_something(self._plan_for(name))}
        if self._changes_something(
            self.scheduler.reconcile(self.view, SCHEDULE, self.now + PATIENCE, Local(self.memory))
        ):
            due.add(SCHEDULE)
        return frozenset(due)

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        found = [
            Act("schedule") if name == SCHEDULE else Act("look", (name,))
            for name in sorted(self._due())
        ]
        for number, flight in self.flights.items():
            found.append(Act("arrive" if flight.answer is None else "answer", (number,)))
        found += [Act("deliver")] * bool(self.news) + [Act("deliver_node")] * bool(self.node_news)
        if found and chance.randrange(10) < 7:
            return found
        for number, flight in self.flights.items():
            found.append(Act("lose", (number,)))
            if flight.answer is None and self._hears(flight):
                found.append(Act("give_up", (number,)))
        if chance.randrange(8) == 0:
            found.append(Act("crash"))
        for name in NAMES:
            if self._stored(name) is None:
                found.append(Act("create", (name, chance.randint(1, 2), chance.choice(list(ROOM)))))
            else:
                found.append(Act("delete", (name,)))
        return [*found, Act("cordon", (chance.choice(list(ROOM)),))]

    # --- pictures

    def show(self) -> Picture:
        return Record(
            _show_memory(self.memory, self.uids, self.costs),
            pods={
                name: self._show_pod(self._stored(name))
                for name in NAMES
                if self._stored(name) is not None
            },
            view={pod.metadata.name: self._show_pod(pod) for pod in self.view.list(PODS)},
            cordoned=self._cordoned(),
            unheard=(len(self.news), len(self.node_news)),
            uids=len(self.uids),
            life=self.life,
            flights={number: self._show_flight(flight) for number, flight in self.flights.items()},
            sent=self.sent,
            due=self._due(),
        )

    def _show_pod(self, pod: Any) -> Record:
        return Record(
            uid=self.uids[pod.metadata.uid],
            cost=self.costs[pod.metadata.uid],
            node=pod.spec.node_name or "",
        )

    def _show_flight(self, flight: Flight) -> Record:
        phase = "Asked" if flight.answer is None else "Bound" if flight.answer.ok else "Refused"
        binding = flight.request.body
        return Record(
            name=flight.request.name, uid=self.uids[binding.metadata.uid], node=binding.target.name, life=flight.life, phase=Variant(phase),
            deaf=flight.deaf, doubtful=flight.doubtful,
        )  # fmt: skip

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        s = state["s"]
        same = (
            "cordoned",
            "uids",
            "life",
            "flights",
            "sent",
            "due",
            "queue",
            "decisions",
            "arrivals",
        )
        pods = {
            table: {
                name: Record(uid=pod["uid"], cost=pod["cost"], node=pod["node"])
                for name, pod in s[table].items()
            }
            for table in ("pods", "view")
        }
        return Record(
            {name: s[name] for name in same}, **pods, unheard=(len(s["news"]), len(s["nodeNews"]))
        )


def _show_memory(memory: Memory, uids: dict[str, int], costs: dict[str, int]) -> Record:
    queue = {
        key.rpartition("/")[2]: Record(
            uid=uids[w.pod.uid],
            number=w.number,
            cost=costs[w.pod.uid],
            parked=w.parked_at is not None,
        )
        for key, w in memory.queue.pods.items()
    }
    decisions = {
        key.rpartition("/")[2]: Record(
            uid=uids[d.pod.uid],
            number=d.waiting.number,
            cost=costs[d.pod.uid],
            node=d.node,
            sent=d.sent,
        )
        for key, d in memory.decisions.items()
    }
    return Record(queue=queue, decisions=decisions, arrivals=memory.queue.arrivals)


def _pod(name: str, cost: int, likes: str) -> Pod:
    """A pod that takes so many CPUs, and likes one node best."""
    wish = NodeSelectorTerm(
        match_expressions=(NodeSelectorRequirement(key=HOST, operator="In", values=(likes,)),)
    )
    preferred = (PreferredSchedulingTerm(weight=100, preference=wish),)
    affinity = Affinity(
        node_affinity=NodeAffinity(preferred_during_scheduling_ignored_during_execution=preferred)
    )
    container = Container(
        name="c", image="app", resources=ResourceRequirements(requests={"cpu": str(cost)})
    )
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(containers=(container,), affinity=affinity),
    )
