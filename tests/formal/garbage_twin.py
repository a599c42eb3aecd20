"""spec/formal/garbage.qnt in the core: the collector (refk8s/core/controllers/garbage_collector.py)
against the real API server.

The collector is asked directly, on a picture that the twin keeps from the watches' changes: any
object, any time, however late.
"""

import random
from typing import Any, NamedTuple

from immutables import Map
from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core.api.core_v1 import ConfigMap, Namespace, Secret
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES, SECRETS, Resource
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import delete as deleting
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import submit
from refk8s.core.context import SECOND
from refk8s.core.controllers import garbage_collector
from refk8s.core.controllers.garbage_collector import MERGE_PATCH, GarbageCollector
from refk8s.core.loop.plan import UNCHANGED, Local, Plan
from refk8s.core.loop.view import View, Viewer, key_of
from refk8s.core.store import Change
from refk8s.core.value import evolve

RESOURCES = {"x": CONFIG_MAPS, "y": SECRETS}
PLACES = {"a": "x", "b": "x", "c": "y", "d": "y"}
FINALIZERS = [(), (), ("example.com/hold",), ("orphan",), ("foregroundDeletion",)]
POLICIES = ["Background", "Foreground", "Orphan"]
WORK = ("deliver", "decide", "arrive", "hear")
START = 1_700_000_000 * SECOND


class Flight(NamedTuple):
    """A request on its way, for a key of one life. `answer`: to a question, on its way back."""

    key: str
    life: int
    last: bool
    request: Request
    answer: Response | None = None


class GarbageTwin(Twin):
    model = "garbage"
    witnesses = ("some_lookup", "some_owner_waits", "some_orphan_is_released", "some_late_write")
    core_bugs = (
        CoreBug("what is not shown is gone", GarbageCollector.reconcile, "questions.append(question)", "absent.append(reference)"),
        CoreBug("what waits is let go at once", garbage_collector._wait_for_dependents, "if not _blocking(view, graph, uid):", "if True:"),
        CoreBug("one owner is enough to go", GarbageCollector.reconcile, "if solid:", "if solid and not absent and not waiting:"),
        CoreBug("a deletion carries no version", garbage_collector._deletion, "resource_version=metadata.resource_version",
                "resource_version=None"),
        CoreBug("an orphan keeps its reference", garbage_collector._orphan_dependents, "if gone:", "if not gone:"),
        CoreBug("leaves go last", GarbageCollector.reconcile, '"Foreground" if waiting and has_dependents', '"Foreground" if False'),
        CoreBug("what was looked up is forgotten", GarbageCollector.answered, "memory.set(wanted, False)", "memory"),
        CoreBug("what is marked goes in spite of its finalizers", deleting.after_delete, "if not finalizers and not seconds:",
                "if not seconds and (not finalizers or 'orphan' in finalizers):"),
        CoreBug("a new finalizer leaves the old one", deleting.collection_finalizers, "not in (lifecycle.ORPHAN,", "not in ("),
    )  # fmt: skip
    model_bugs = (
        ModelBug("what is not shown is taken for gone", "if (unknown != Set()) {", "if (false) {", unsafe=True),
        ModelBug("a deletion carries no version", "| Erase(e) => if (not(isCurrent(s, e.target))) refused",
                 "| Erase(e) => if (not(s.objects.keys().contains(e.target.name))) refused", unsafe=True),
    )  # fmt: skip

    def __init__(self) -> None:
        cluster: Cluster = begin({}, {}, b"seed", START)
        self.cluster, response = submit(
            cluster,
            Request(
                "create",
                NAMESPACES,
                body=Namespace(metadata=ObjectMeta(name="default")),
                user=ADMIN,
            ),
        )
        assert response.ok, response.body
        self.known = self.cluster.history.revision
        self.collector = GarbageCollector()
        self.viewer = Viewer(
            [interest.resource for interest in self.collector.interests], (), self.collector.folds
        )
        self.view: View = self.viewer.empty()
        self.memory: Any = self.collector.start_memory(START)
        self.news: dict[str, list[Change[Any]]] = {"x": [], "y": []}
        self.life = 1
        self.flights: list[Flight] = []
        self.uids: dict[str, int] = {}  # the model's uid, by the real one
        self.versions: dict[str, int] = {}  # the model's revision, by the real one

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        arguments = {
            "create": ("name", "parents", "blocks", "finalizers"), "create_for": ("name", "owner", "uid"), "adopt": ("name", "owner"),
            "delete": ("name", "policy"), "release": ("name",), "deliver": ("resource",), "decide": ("name",), "arrive": ("f",),
            "hear": ("f",),
        }  # fmt: skip
        return Act(action, tuple(picks[argument] for argument in arguments.get(action, ())))

    def do(self, act: Act) -> None:
        match act:
            case Act("create", (name, parents, blocks, finalizers)):
                owners = [
                    _reference(parent, self._stored(parent).metadata.uid, blocks)
                    for parent in sorted(parents)
                ]
                self._create(name, owners, finalizers)
            case Act("create_for", (name, owner, uid)):
                self._create(name, [_reference(owner, self._real(uid), True)], ())
            case Act("adopt", (name, owner)):
                references = [*(self._stored(name).metadata.owner_references or ())]
                references.append(_reference(owner, self._stored(owner).metadata.uid, True))
                self._patch(
                    name,
                    {
                        "ownerReferences": [
                            garbage_collector._tree(reference) for reference in references
                        ]
                    },
                )
            case Act("delete", (name, policy)):
                self._ask(_request("delete", name, DeleteOptions(propagation_policy=policy.tag)))
            case Act("release", (name,)):
                kept = [
                    finalizer
                    for finalizer in self._stored(name).metadata.finalizers
                    if finalizer != "example.com/hold"
                ]
                self._patch(name, {"finalizers": kept or None})
            case Act("deliver", (resource,)):
                self._deliver(resource)
            case Act("decide", (name,)):
                self._decide(name)
            case Act("arrive", (shown,)):
                self._arrive(self._flight(shown))
            case Act("hear", (shown,)):
                self._hear(self._flight(shown))
            case Act("crash", ()):
                self._crash()

    def _create(self, name: str, owners: list[OwnerReference], finalizers: Any) -> None:
        metadata = ObjectMeta(
            name=name,
            namespace="default",
            owner_references=tuple(owners) or None,
            finalizers=tuple(sorted(finalizers)) or None,
        )
        body = ConfigMap(metadata=metadata) if PLACES[name] == "x" else Secret(metadata=metadata)
        self._ask(Request("create", _resource(name), "default", name, body=body))
        self.uids[self._stored(name).metadata.uid] = len(self.uids) + 1

    def _patch(self, name: str, metadata: dict[str, Any]) -> None:
        self._ask(_request("patch", name, Patch(MERGE_PATCH, {"metadata": metadata})))

    def _ask(self, request: Request) -> None:
        response = self._send(request)
        assert response.ok, response.body

    def _send(self, request: Request) -> Response:
        self.cluster, response = submit(self.cluster, evolve(request, user=ADMIN))
        for change in self.cluster.history.changes("/", self.known):
            name = change.key.rpartition("/")[2]
            self.versions[str(change.revision)] = len(self.versions) + 1
            self.news[PLACES[name]].append(change)
        self.known = self.cluster.history.revision
        return response

    def _deliver(self, resource: str) -> None:
        if not self.news[resource]:
            raise Impossible("there is no news")
        change = self.news[resource].pop(0)
        key = f"default/{change.key.rpartition('/')[2]}"
        obj = change.record.value if change.record is not None else None
        self.view, _ = self.viewer.apply(
            self.view, RESOURCES[resource], [(key, obj)], change.revision
        )

    def _plan(self, name: str) -> tuple[str, Plan]:
        """What the collector would do about an object of its picture, and under which key; nothing
        where that key is busy (LOOP-3)."""
        obj = self.view.get(_resource(name), f"default/{name}")
        if obj is None:
            return "", Plan()
        key = obj.metadata.uid
        if any((flight.key, flight.life) == (key, self.life) for flight in self.flights):
            return key, Plan()
        return key, self.collector.reconcile(self.view, key, START, Local(self.memory))

    def _is_idle(self, plan: Plan) -> bool:
        return (
            not any(plan.waves)
            and not plan.queries
            and (plan.memory is UNCHANGED or plan.memory == self.memory)
        )

    def _decide(self, name: str) -> None:
        key, plan = self._plan(name)
        if self._is_idle(plan):
            raise Impossible("the collector leaves it as it is")
        if plan.memory is not UNCHANGED:
            self.memory = plan.memory
        waves = [wave for wave in plan.waves if wave] or [plan.queries]
        for number, wave in enumerate(waves):
            self.flights += [
                Flight(key, self.life, number > 0 or self._is_second(plan), request)
                for request in wave
            ]

    def _is_second(self, plan: Plan) -> bool:
        """A plan whose first wave is empty has only its last."""
        return len(plan.waves) == 2 and not plan.waves[0]

    def _arrive(self, flight: Flight) -> None:
        plan = [
            other for other in self.flights if (other.key, other.life) == (flight.key, flight.life)
        ]
        if flight.answer is not None or (flight.last and any(not other.last for other in plan)):
            raise Impossible("it has not been sent yet, or has arrived")
        self.flights.remove(flight)
        response = self._send(flight.request)
        if flight.request.verb == "get":
            if flight.life == self.life:
                self.flights.append(flight._replace(answer=response))
        elif not response.ok:
            self.flights = [other for other in self.flights if other not in plan or not other.last]

    def _hear(self, flight: Flight) -> None:
        if flight.answer is None:
            raise Impossible("it has not been answered")
        self.flights.remove(flight)
        if flight.life == self.life:
            self.memory, _ = self.collector.answered(
                self.memory, flight.key, flight.request, flight.answer, START
            )

    def _crash(self) -> None:
        self.life += 1
        self.memory = self.collector.start_memory(START)
        self.news = {"x": [], "y": []}
        self.view = self.viewer.empty()
        for resource in RESOURCES.values():
            page = self.cluster.history.list(resource.prefix)
            changes = [(key_of(record.value), record.value) for record in page.records]
            self.view, _ = self.viewer.apply(self.view, resource, changes, page.revision)

    # --- what is where

    def _stored(self, name: str) -> Any:
        record = self.cluster.history.get(f"{_resource(name).prefix}default/{name}")
        if record is None:
            raise Impossible(f"there is no {name}")
        return record.value

    def _exists(self, name: str) -> bool:
        return self.cluster.history.get(f"{_resource(name).prefix}default/{name}") is not None

    def _real(self, uid: int) -> str:
        return next(real for real, number in self.uids.items() if number == uid)

    def _flight(self, shown: Record) -> Flight:
        for flight in self.flights:
            if self._show_flight(flight) == shown:
                return flight
        raise Impossible(f"no such request is on its way: {shown}")

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        found = [Act("deliver", (resource,)) for resource, news in self.news.items() if news]
        found += [
            Act("decide", (name,)) for name in PLACES if not self._is_idle(self._plan(name)[1])
        ]
        for flight in self.flights:
            if flight.answer is not None:
                found.append(Act("hear", (self._show_flight(flight),)))
            elif not flight.last or not any(
                (other.key, other.life, other.last) == (flight.key, flight.life, False)
                for other in self.flights
            ):
                found.append(Act("arrive", (self._show_flight(flight),)))
        if found and chance.randrange(5) < 3:
            return found
        if chance.randrange(8) == 0:
            found.append(Act("crash"))
        return found + self._choices_of_users(chance)

    def _choices_of_users(self, chance: random.Random) -> list[Act]:
        found = []
        present = [name for name in PLACES if self._exists(name)]
        for name in PLACES:
            if name not in present:
                parents = frozenset(parent for parent in present if chance.randrange(2))
                found.append(
                    Act(
                        "create",
                        (
                            name,
                            parents,
                            chance.random() < 0.5,
                            frozenset(chance.choice(FINALIZERS)),
                        ),
                    )
                )
                if self.uids:
                    found.append(
                        Act(
                            "create_for",
                            (name, chance.choice(list(PLACES)), chance.randint(1, len(self.uids))),
                        )
                    )
                continue
            metadata = self._stored(name).metadata
            found.append(Act("delete", (name, Variant(chance.choice(POLICIES)))))
            if "example.com/hold" in (metadata.finalizers or ()):
                found.append(Act("release", (name,)))
            if metadata.deletion_timestamp is None:
                uids = {reference.uid for reference in metadata.owner_references or ()}
                found += [
                    Act("adopt", (name, o))
                    for o in present
                    if o != name and self._stored(o).metadata.uid not in uids
                ]
        return found

    # --- pictures

    def show(self) -> Picture:
        return Record(
            objects={name: self._show_object(self._stored(name)) for name in PLACES if self._exists(name)},
            view={
                name: self._show_object(obj)
                for name in PLACES
                if (obj := self.view.get(_resource(name), f"default/{name}")) is not None
            },
            uids=len(self.uids),
            revision=len(self.versions),
            unheard={resource: len(news) for resource, news in self.news.items()},
            lookedUp={self._show_place(wanted): there for wanted, there in Map(self.memory).items()},
            life=self.life,
            due=frozenset(name for name in PLACES if not self._is_idle(self._plan(name)[1])),
            flights=frozenset(map(self._show_flight, self.flights)),
        )  # fmt: skip

    def _show_object(self, obj: Any) -> Record:
        metadata = obj.metadata
        return Record(
            uid=self.uids[metadata.uid],
            version=self.versions[metadata.resource_version],
            owners=frozenset(map(self._show_owner, metadata.owner_references or ())),
            deleting=metadata.deletion_timestamp is not None,
            finalizers=frozenset(metadata.finalizers or ()),
        )

    def _show_owner(self, reference: Any) -> Record:
        return Record(
            name=reference.name,
            uid=self.uids[reference.uid],
            blocks=bool(reference.block_owner_deletion),
        )

    def _show_place(self, wanted: str) -> Record:
        uid, place = wanted.split(" ")
        return Record(name=place.rpartition("/")[2], uid=self.uids[uid])

    def _show_flight(self, flight: Flight) -> Record:
        return Record(
            key=self.uids[flight.key],
            life=flight.life,
            last=flight.last,
            act=self._show_act(flight),
        )

    def _show_act(self, flight: Flight) -> Variant:
        request = flight.request
        if request.verb == "get":
            place = Record(name=request.name, uid=self.uids[request.options.field_manager])
            if flight.answer is None:
                return Variant("Ask", place)
            uid = flight.answer.body.metadata.uid if flight.answer.ok else None
            return Variant("Told", Record(place, found=uid == request.options.field_manager))
        if request.verb == "delete":
            wanted = request.body.preconditions
            target = Record(
                name=request.name,
                uid=self.uids[wanted.uid],
                version=self.versions.get(wanted.resource_version, 0),
            )
            return Variant(
                "Erase", Record(target=target, policy=Variant(request.body.propagation_policy))
            )
        metadata = request.body.document["metadata"]
        target = Record(
            name=request.name,
            uid=self.uids[metadata["uid"]],
            version=self.versions[metadata["resourceVersion"]],
        )
        if "finalizers" in metadata:
            return Variant(
                "Finalizers", Record(target=target, kept=frozenset(metadata["finalizers"] or ()))
            )
        owners = frozenset(
            Record(
                name=tree["name"],
                uid=self.uids[tree["uid"]],
                blocks=bool(tree.get("blockOwnerDeletion")),
            )
            for tree in metadata["ownerReferences"] or ()
        )
        return Variant("Owners", Record(target=target, kept=owners))

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        s = state["s"]
        fields = {
            name: s[name]
            for name in (
                "objects",
                "view",
                "uids",
                "revision",
                "lookedUp",
                "life",
                "due",
                "flights",
            )
        }
        return Record(fields, unheard={resource: len(news) for resource, news in s["news"].items()})


def _resource(name: str) -> Resource:
    return RESOURCES[PLACES[name]]


def _request(verb: str, name: str, body: Any) -> Request:
    return Request(verb, _resource(name), "default", name, body=body)


def _reference(name: str, uid: str, blocks: bool) -> OwnerReference:
    return OwnerReference(
        api_version="v1",
        kind=_resource(name).kind,
        name=name,
        uid=uid,
        block_owner_deletion=blocks or None,
    )
