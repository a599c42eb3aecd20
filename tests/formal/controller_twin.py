"""spec/formal/controller.qnt in the core: a cluster whose only component is the ReplicaSet
controller (refk8s/core/loop, replica_set.py).

The model knows pods. What else the controller does (its ReplicaSet's status, Events, timers) is
done at once after every act.
"""

import random
from bisect import bisect_right
from typing import Any

from msgspec.structs import replace
from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core.actions import (
    Answer,
    Arrive,
    Channel,
    Compact,
    Crash,
    Duplicate,
    Elapse,
    GiveUp,
    LoseAnswer,
    LoseRequest,
    Notify,
    Wake,
)
from refk8s.core.api.apps_v1 import ReplicaSet, ReplicaSetSpec
from refk8s.core.api.core_v1 import Container, Namespace, PodSpec, PodTemplateSpec
from refk8s.core.api.meta_v1 import DeleteOptions, LabelSelector, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NAMESPACES, PODS, REPLICA_SETS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, step, submit
from refk8s.core.context import SECOND
from refk8s.core.controllers import replica_set
from refk8s.core.controllers.deletion_order import DELETION_COST
from refk8s.core.loop import loop as loops
from refk8s.core.loop import requests, turn
from refk8s.core.loop.informer import LISTING
from refk8s.core.loop.state import LoopState
from refk8s.core.value import evolve

NAME = "controllers"
ITEM = ("replicaset-controller", "default/web")
LABELS = {"app": "web"}
START = 1_700_000_000 * SECOND
WORK = ("arrive", "answer", "deliver", "list", "expire")
QUIET_MAX = 200  # steps


class ControllerTwin(Twin):
    model = "controller"
    witnesses = ("some_lookup", "some_surplus", "some_late_view", "some_pod_of_an_earlier_life")
    core_bugs = (
        CoreBug("a lost answer is taken for a failure", requests.take_answer, "if response is None or response.code == 503:",
                "if response is None:\n    answer_for(draft, flight.item, Response(500, "
                "''))\n    return\n"
                "if response.code == 503:"),
        CoreBug("a key is decided before the view shows its writes", requests.release, "revision >= revision", "revision >= 0"),
        CoreBug("a key is decided before its deletions are seen", requests.release, "_is_gone(draft, *gone)", "True"),
        CoreBug("what is in doubt is not looked up", requests.take_answer, "elif flight.is_retry or", "elif False and"),
        CoreBug("all waves are sent at once", replica_set.ReplicaSetReconciler.reconcile, "slow_start(making)", "(making,)"),
        CoreBug("one pod too many is made", replica_set.ReplicaSetReconciler.reconcile, "wanted - replicas.active", "wanted + 1 - replicas.active"),
        CoreBug("the dearest pods go first", replica_set.ReplicaSetReconciler.reconcile, "[: min(-missing, BURST_MAX)]", "[missing:]"),
        CoreBug("nothing is listed before deciding", turn._reconcile_due, "is_synced(draft.informers, draft.view)", "True"),
    )  # fmt: skip
    model_bugs = (
        ModelBug("the same again under another name", "pure def again(s: State, f: Flight): State = send(s, f.verb, f.name, f.seen, true)",
                 "pure def again(s: State, f: Flight): State = if (f.verb == Create) send({ ...s, "
                 "made: s.made + 1, "
                 "lifeOfName: s.lifeOfName.put(s.made + 1, f.life) }, f.verb, s.made + 1, 0, "
                 "true) else send(s, f.verb, f.name, f.seen, true)",
                 unsafe=True),
        ModelBug("a key is decided before the view shows its writes", "s.controller.cursor >= s.controller.reached,", "", unsafe=True),
    )  # fmt: skip

    def __init__(self) -> None:
        cluster = begin(
            {NAME: loops.Loop(NAME, [replica_set.ReplicaSetReconciler()])}, {}, b"seed", START
        )
        template = PodTemplateSpec(
            metadata=ObjectMeta(labels=LABELS),
            spec=PodSpec(containers=(Container(name="c", image="app"),)),
        )
        spec = ReplicaSetSpec(
            replicas=2, selector=LabelSelector(match_labels=LABELS), template=template
        )
        owner = ReplicaSet(metadata=ObjectMeta(name="web", namespace="default"), spec=spec)
        for request in (
            Request("create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="default"))),
            Request("create", REPLICA_SETS, "default", body=owner),
        ):
            cluster, response = submit(cluster, evolve(request, user=ADMIN))
            assert response.ok, response.body
        self.cluster: Cluster = start_all(cluster)
        self.names: dict[str, int] = {}  # the model's name of a pod, by its own
        self.channels: dict[int, Channel] = {}  # of the requests, by their number in the model
        self.log: list[Record] = []
        self.revisions: list[int] = []  # of the changes in the log
        self.known = self.cluster.history.revision
        self._quiet()

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        arguments = {
            "arrive": "id",
            "answer": "id",
            "lose": "id",
            "give_up": "id",
            "duplicate": "id",
            "kill": "name",
            "scale": "number",
        }
        return Act(action, (picks[arguments[action]],) if action in arguments else ())

    def do(self, act: Act) -> None:
        match act:
            case Act("arrive", (number,)):
                self._arrive(number)
            case Act("answer", (number,)):
                self._step(Answer(self._channel(number)))
            case Act("lose", (number,)):
                channel = self._channel(number)
                self._step(
                    LoseRequest(channel)
                    if self.cluster.flying[channel].answer is None
                    else LoseAnswer(channel)
                )
            case Act("give_up", (number,)):
                self._step(GiveUp(self._channel(number)))
            case Act("duplicate", (number,)):
                self._mark_cost(number)
                self._step(Duplicate(self._channel(number)))
            case Act("deliver", ()):
                self._step(Notify(self._watch(), 1))
            case Act("expire", ()):
                self._step(Notify(self._watch(), 1))
            case Act("list", ()):
                self._list()
            case Act("compact", ()):
                self._step(Compact(self.revisions[-1]))
            case Act("crash", ()):
                self._step(Crash(NAME))
            case Act("kill", (name,)):
                self._submit(
                    Request("delete", PODS, "default", self._real(name), body=DeleteOptions())
                )
            case Act("scale", (number,)):
                patch = Patch("application/merge-patch+json", {"spec": {"replicas": number}})
                self._submit(Request("patch", REPLICA_SETS, "default", "web", body=patch))
        self._quiet()

    def _arrive(self, number: int) -> None:
        channel = self._channel(number)
        self._mark_cost(number)
        self._step(Arrive(channel))
        if not self._hears(channel):
            self._step(Answer(channel))

    def _mark_cost(self, number: int) -> None:
        """Names that were chosen last go first in the model; in the core the pod's cost says so."""
        channel = self._channel(number)
        flying = self.cluster.flying[channel]
        if flying.request.verb == "create":
            metadata = replace(
                flying.request.body.metadata,
                annotations={DELETION_COST: str(-self.names[flying.request.name])},
            )
            request = evolve(flying.request, body=replace(flying.request.body, metadata=metadata))
            self.cluster = evolve(
                self.cluster,
                flying=self.cluster.flying.set(channel, evolve(flying, request=request)),
            )

    def _list(self) -> None:
        flying = self.cluster.flying
        for channel in sorted(flying):
            if channel[1] == self._life() and _is_pod_list(flying[channel]):
                self._step(Arrive(channel))
                self._step(Answer(channel))
                return
        raise Impossible("it lists no pods")

    def _step(self, action: Any) -> None:
        self.cluster = step(self.cluster, action)
        for change in self.cluster.history.changes(
            PODS.prefix, max(self.known, self.cluster.history.compacted)
        ):
            self.revisions.append(change.revision)
            self.log.append(
                Record(name=self.names[change.key.rpartition("/")[2]], gone=change.record is None)
            )
        self.known = self.cluster.history.revision

    def _submit(self, request: Request) -> None:
        self.cluster, response = submit(self.cluster, evolve(request, user=ADMIN))
        assert response.ok, response.body
        self._step(Elapse(self.cluster.now))

    def _quiet(self) -> None:
        """All that the model leaves out happens: other requests, the ReplicaSet's watch, timers;
        then new requests get their numbers."""
        for _ in range(QUIET_MAX):
            action = self._next_hidden()
            if action is None:
                break
            self._step(action)
        else:
            raise AssertionError(f"not quiet after {QUIET_MAX} steps")
        for channel in sorted(self.cluster.flying):
            request = self.cluster.flying[channel].request
            if channel not in self.channels.values() and not _is_pod_list(
                self.cluster.flying[channel]
            ):
                self.channels[len(self.channels) + 1] = channel
                if request.verb == "create":
                    self.names.setdefault(request.name, len(self.names) + 1)

    def _next_hidden(self) -> Any:
        for channel in sorted(self.cluster.flying):
            flying = self.cluster.flying[channel]
            if flying.watch or flying.request.resource != PODS:
                return Arrive(channel) if flying.answer is None else Answer(channel)
        for channel in sorted(self.cluster.watches):
            cursor = self.cluster.watches[channel]
            lags = cursor.revision < max(
                self.cluster.history.prefix_revision(REPLICA_SETS.prefix),
                self.cluster.history.compacted,
            )
            if cursor.stream.resource == REPLICA_SETS and lags:
                return Notify(channel)
        at = self.cluster.components[NAME].wake_at
        if at is not None:
            return Elapse(at) if at > self.cluster.now else Wake(NAME)
        return None

    # --- what is where

    def _life(self) -> int:
        return self.cluster.components[NAME].life

    def _state(self) -> LoopState:
        state: LoopState = self.cluster.components[NAME].state
        return state

    def _channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None or channel not in self.cluster.flying:
            raise Impossible(f"no request {number} is on its way")
        return channel

    def _hears(self, channel: Channel) -> bool:
        return channel[1] == self._life() and not self.cluster.flying[channel].given_up

    def _watch(self) -> Channel:
        found = [
            channel
            for channel, cursor in self.cluster.watches.items()
            if cursor.stream.resource == PODS
        ]
        if len(found) != 1:
            raise Impossible(f"{len(found)} watches of pods are open")
        return found[0]

    def _real(self, name: int) -> str:
        return next(real for real, number in self.names.items() if number == name)

    def _index(self, revision: int) -> int:
        """How many changes of pods there were up to a revision of the store."""
        return bisect_right(self.revisions, revision)

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        found = []
        for number, channel in self.channels.items():
            flying = self.cluster.flying.get(channel)
            if flying is None:
                continue
            found += [
                Act("arrive", (number,)) if flying.answer is None else Act("answer", (number,)),
                Act("lose", (number,)),
            ]
            if flying.answer is None:
                found.append(Act("duplicate", (number,)))
                if self._hears(channel):
                    found.append(Act("give_up", (number,)))
        if self._state().informers[PODS.prefix].phase == LISTING:
            found.append(Act("list"))
        else:
            cursor = self.cluster.watches[self._watch()].revision
            if cursor < self.cluster.history.compacted:
                found.append(Act("expire"))
            elif self._index(cursor) < len(self.log):
                found.append(Act("deliver"))
        if self._index(self.cluster.history.compacted) < len(self.log):
            found.append(Act("compact"))
        if chance.randrange(4):  # The controller's own work, mostly.
            found = [act for act in found if act.name in WORK] or found
            return found
        if chance.randrange(4) == 0:
            found.append(Act("crash"))
        found += [Act("kill", (self.names[name],)) for name in self._stored()]
        found += [Act("scale", (number,)) for number in range(5) if number != self._wanted()]
        return found

    def _stored(self) -> list[str]:
        return [
            record.value.metadata.name for record in self.cluster.history.list(PODS.prefix).records
        ]

    def _wanted(self) -> int:
        record = self.cluster.history.get(f"{REPLICA_SETS.prefix}default/web")
        assert record is not None
        return int(record.value.spec.replicas)

    # --- pictures

    def show(self) -> Picture:
        flights = {
            number: self._show_flight(c)
            for number, c in self.channels.items()
            if c in self.cluster.flying
        }
        return Record(
            log=tuple(self.log),
            compacted=self._index(self.cluster.history.compacted),
            wanted=self._wanted(),
            pods=frozenset(self.names[name] for name in self._stored()),
            view=frozenset(self.names[pod.metadata.name] for pod in self._state().view.list(PODS)),
            flights=flights,
            made=len(self.names),
            sent=len(self.channels),
            controller=self._show_controller(),
        )

    def _show_flight(self, channel: Channel) -> Record:
        flying = self.cluster.flying[channel]
        answer, wanted = flying.answer, _looked_up(flying.request)
        verb = "Get" if wanted else flying.request.verb.capitalize()
        if answer is None:
            phase = Variant("Asked")
        elif not answer.ok:
            phase = Variant(
                "Absent" if answer.code == 404 else "Exists" if verb == "Create" else "Another"
            )
        elif wanted and not answer.body.items:
            phase = Variant("Absent")
        else:
            found = answer.body.items[0] if wanted else answer.body
            phase = Variant(
                "Answered",
                0 if verb == "Delete" else self._index(int(found.metadata.resource_version)),
            )
        name = self.names[wanted or flying.request.name]
        return Record(
            verb=Variant(verb), name=name, life=channel[1], deaf=flying.given_up, phase=phase
        )

    def _show_controller(self) -> Record:
        state = self._state()
        table, busy = state.view.table(PODS), state.busy.get(ITEM)
        return Record(
            life=self._life(),
            synced=table.synced,
            listing=state.informers[PODS.prefix].phase == LISTING,
            cursor=self._index(table.revision),
            busy=busy is not None,
            waves=tuple(len(wave) for wave in busy.waves) if busy is not None else (),
            outstanding=busy.outstanding if busy is not None else 0,
            reached=self._index(busy.reached.get(PODS.prefix, 0)) if busy is not None else 0,
            gone=frozenset(self._show_gone(*gone) for gone in busy.gone)
            if busy is not None
            else frozenset(),
        )

    def _show_gone(self, prefix: str, key: str, uid: str, version: str) -> Record:
        return Record(name=self.names[key.rpartition("/")[2]], seen=self._index(int(version)))

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        s = state["s"]
        view: set[int] = set()
        pods: set[int] = set()
        for index, change in enumerate(s["log"]):
            for names in (pods, view) if index < s["controller"]["cursor"] else (pods,):
                (names.discard if change["gone"] else names.add)(change["name"])
        flights = {number: cls._shown_flight(flight) for number, flight in s["flights"].items()}
        fields = {
            name: s[name] for name in ("log", "compacted", "wanted", "made", "sent", "controller")
        }
        return Record(fields, pods=frozenset(pods), view=frozenset(view), flights=flights)

    @classmethod
    def _shown_flight(cls, flight: Record) -> Record:
        phase = (
            Variant("Answered", 0)
            if flight["verb"].tag == "Delete" and flight["phase"].tag == "Answered"
            else flight["phase"]
        )
        return Record(
            {name: flight[name] for name in ("verb", "name", "life", "deaf")}, phase=phase
        )


def _is_pod_list(flying: Any) -> bool:
    request = flying.request
    return request.resource == PODS and request.verb == "list" and not _looked_up(request)


def _looked_up(request: Request) -> str:
    """The name in a list of one pod, which the model calls Get (LOOP-7); empty for other
    requests."""
    before, _, name = request.options.field_selector.partition("metadata.name=")
    return "" if before else name
