"""spec/formal/store.qnt in the core: a History, and three loops that watch it
(refk8s/core/store.py, loop/informer.py, loop/view.py)."""

import random
from typing import Any

from quint import Record, Variant
from tie import Act, CoreBug, Impossible, ModelBug, Picture, Twin

from refk8s.core import store
from refk8s.core.actions import Answer, Arrive, Compact, CutWatch, Elapse, Notify, Wake
from refk8s.core.api.core_v1 import ConfigMap, Secret
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import CONFIG_MAPS, SECRETS
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.loop import informer, watching
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.value import evolve

RESOURCES = {"x": CONFIG_MAPS, "y": SECRETS}
KEYS = {"a": "x", "b": "x", "c": "y"}
WATCHES = {"w1": "x", "w2": "x", "w3": "y"}
START = 1_700_000_000 * SECOND


class Onlooker(Reconciler):
    """Watches and decides nothing."""

    name = "onlooker"

    def __init__(self, resource: Any) -> None:
        self.interests = (Interest(resource, lambda view, old, new: ()),)


class StoreTwin(Twin):
    model = "store"
    witnesses = ("some_watcher_expired", "some_conflict", "some_deletion", "some_stream_cut")
    core_bugs = (
        CoreBug(
            "a conflict is let through",
            store.evaluate,
            "!= compare.mod_revision",
            "> compare.mod_revision",
        ),
        CoreBug(
            "deleting what does not exist is a change",
            store.evaluate,
            "elif previous is not None:",
            "else:",
        ),
        CoreBug(
            "a key that is made again keeps its old age",
            store.evaluate,
            "previous.version + 1",
            "previous.version",
        ),
        CoreBug(
            "the past is undone in the wrong order",
            store.History.list,
            "in reversed(data.log.after(at))",
            "in data.log.after(at)",
        ),
        CoreBug(
            "compaction forgets one change too many",
            store.compact,
            "data.log.after(revision)",
            "data.log.after(revision + 1)",
        ),
        CoreBug(
            "a watch resumes one revision late",
            store.History.changes,
            "data.log.after(after)",
            "data.log.after(after + 1)",
        ),
        CoreBug("410 is taken for a cut", Informer.gone, "revision=0", "revision=self.revision"),
        CoreBug(
            "a relist keeps what is gone",
            watching.take_list,
            "if key not in listed]",
            "if key in listed and False]",
        ),
    )
    model_bugs = (
        ModelBug(
            "a conflict is let through",
            "modified(state, k) != compares.get(k)",
            "modified(state, k) > compares.get(k)",
        ),
        ModelBug(
            "a watch that is too late is resumed",
            "if (watcher.cursor < compacted) Listing else Watching",
            "Watching",
        ),
    )

    def __init__(self) -> None:
        machines = {
            name: Loop(name, [Onlooker(RESOURCES[resource])]) for name, resource in WATCHES.items()
        }
        self.cluster: Cluster = start_all(begin(machines, {}, b"seed", START))
        self.answer = Variant("Nothing")

    # --- acts

    @classmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        if action == "transact":
            present = before["past"][before["revision"]]
            compares = picks.get("compares")
            if compares is None:
                compares = {
                    key: present[key]["modified"] if key in present else 0
                    for key in picks["guarded"]
                }
            return Act("transact", (compares, picks["writes"]))
        names = {"compact": ("r",), "deliver": ("w", "upto")}.get(action, ("w",))
        return Act(action, tuple(picks[name] for name in names))

    def do(self, act: Act) -> None:
        match act:
            case Act("transact", (compares, writes)):
                self._transact(compares, writes)
            case Act("compact", (revision,)):
                self.cluster = step(self.cluster, Compact(revision))
            case Act("list", (name,)):
                self._need(name, informer.LISTING)
                self._pass(name)  # the list
                self._arrive(name)  # the watch that follows it
            case Act("deliver", (name, upto)):
                changes = [c for c in self._changes(name, self._cursor(name)) if c.revision <= upto]
                self._notify(name, len(changes))
            case Act("bookmark", (name,)) | Act("expire", (name,)):
                self._notify(name, 1)
            case Act("cut", (name,)):
                self.cluster = step(self.cluster, CutWatch(self._watch(name)))
            case Act("reopen", (name,)):
                self._need(name, informer.RESTING)
                self.cluster = step(step(self.cluster, Elapse(self._wake_at(name))), Wake(name))
                self._arrive(name)

    def _transact(self, compares: dict[str, int], writes: dict[str, Variant]) -> None:
        puts = [
            store.Put(_key(key), _value(key, write.value))
            for key, write in writes.items()
            if write.tag == "Put"
        ]
        removals = [
            store.Delete(_key(key)) for key, write in writes.items() if write.tag == "Remove"
        ]
        txn = store.Txn(
            tuple(store.Compare(_key(key), revision) for key, revision in compares.items()),
            (*puts, *removals),
        )
        history, outcome = store.commit(self.cluster.history, txn, stamp)
        self.cluster = evolve(self.cluster, history=history)
        if isinstance(outcome, store.Conflict):
            self.answer = Variant("Conflict", frozenset(map(_name, outcome.failed)))
        else:
            self.answer = Variant("Committed", outcome.revision)

    def _need(self, name: str, phase: str) -> None:
        if self._informer(name).phase != phase:
            raise Impossible(f"{name} is {self._informer(name).phase}")

    def _informer(self, name: str) -> informer.Informer:
        return self.cluster.components[name].state.informers[RESOURCES[WATCHES[name]].prefix]

    def _flying(self, name: str) -> Any:
        found = [channel for channel in self.cluster.flying if channel[0] == name]
        if len(found) != 1:
            raise Impossible(f"{name} has {len(found)} requests on their way")
        return found[0]

    def _arrive(self, name: str) -> None:
        self.cluster = step(self.cluster, Arrive(self._flying(name)))

    def _pass(self, name: str) -> None:
        self._arrive(name)
        self.cluster = step(self.cluster, Answer(self._flying(name)))

    def _watch(self, name: str) -> Any:
        found = [channel for channel in self.cluster.watches if channel[0] == name]
        if len(found) != 1:
            raise Impossible(f"{name} has {len(found)} open watches")
        return found[0]

    def _notify(self, name: str, limit: int) -> None:
        self.cluster = step(self.cluster, Notify(self._watch(name), limit))

    def _wake_at(self, name: str) -> int:
        at = self.cluster.components[name].wake_at
        if at is None:
            raise Impossible(f"{name} has no timer")
        return max(at, self.cluster.now)

    def _cursor(self, name: str) -> int:
        return self.cluster.watches[self._watch(name)].revision

    def _changes(self, name: str, after: int) -> tuple[Any, ...]:
        return self.cluster.history.changes(RESOURCES[WATCHES[name]].prefix, after)

    # --- choices

    def choices(self, chance: random.Random) -> list[Act]:
        history = self.cluster.history
        found = [self._random_transaction(chance) for _ in range(3)]
        found.append(Act("compact", (chance.randint(0, history.revision),)))
        for name in WATCHES:
            phase = self._informer(name).phase
            if phase == informer.LISTING:
                found.append(Act("list", (name,)))
            elif phase == informer.RESTING:
                found.append(Act("reopen", (name,)))
            else:
                found.append(Act("cut", (name,)))
                try:
                    news = sorted(
                        {change.revision for change in self._changes(name, self._cursor(name))}
                    )
                    found += [Act("deliver", (name, revision)) for revision in news]
                    if not news and self._cursor(name) < history.revision:
                        found.append(Act("bookmark", (name,)))
                except store.Compacted:
                    found.append(Act("expire", (name,)))
        return found

    def _random_transaction(self, chance: random.Random) -> Act:
        history = self.cluster.history
        compares = {}
        for key in KEYS:
            record = history.get(_key(key))
            known = record.mod_revision if record is not None else 0
            if (luck := chance.randrange(10)) < 5:
                compares[key] = known if luck else chance.randint(0, history.revision)
        writes = {
            key: chance.choice(
                [Variant("Keep"), Variant("Remove"), Variant("Put", 1), Variant("Put", 2)]
            )
            for key in KEYS
        }
        return Act("transact", (compares, writes))

    # --- pictures

    def show(self) -> Picture:
        history = self.cluster.history
        past = {}
        for revision in range(history.revision + 2):
            try:
                past[revision] = {
                    _name(record.key): _record(record)
                    for record in history.list("/", at=revision).records
                }
            except store.Compacted:
                assert revision < history.compacted
            except store.FutureRevision:
                assert revision > history.revision
        known = [
            Record(revision=change.revision, key=_name(change.key), gone=change.record is None)
            for change in history.changes("/", history.compacted)
        ]
        return Record(
            revision=history.revision,
            compacted=history.compacted,
            past=past,
            answer=self.answer,
            known=tuple(known),
            last={
                name: history.prefix_revision(resource.prefix)
                for name, resource in RESOURCES.items()
            },
            watchers={name: self._show_watcher(name) for name in WATCHES},
        )

    def _show_watcher(self, name: str) -> Record:
        phase = {
            informer.LISTING: "Listing",
            informer.WATCHING: "Watching",
            informer.RESTING: "Cut",
        }[self._informer(name).phase]
        table = self.cluster.components[name].state.view.table(RESOURCES[WATCHES[name]])
        view = {
            obj.metadata.name: Record(
                value=_number(obj), modified=int(obj.metadata.resource_version)
            )
            for obj in table.objects.values()
        }
        return Record(phase=Variant(phase), cursor=table.revision, view=view)

    @classmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        compacted, ever = state["compacted"], state["allChanges"]
        return Record(
            {name: state[name] for name in ("revision", "compacted", "past", "answer")},
            known=tuple(
                Record(revision=c["revision"], key=c["key"], gone=c["gone"])
                for c in ever
                if c["revision"] > compacted
            ),
            last={
                resource: max(
                    [compacted, *(c["revision"] for c in ever if KEYS[c["key"]] == resource)]
                )
                for resource in RESOURCES
            },
            watchers={
                name: Record(
                    phase=watcher["phase"],
                    cursor=watcher["cursor"],
                    view={
                        key: Record(value=seen["value"], modified=seen["modified"])
                        for key, seen in watcher["view"].items()
                    },
                )
                for name, watcher in state["watchers"].items()
            },
        )


def _key(name: str) -> str:
    return f"{RESOURCES[KEYS[name]].prefix}default/{name}"


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _value(name: str, number: int) -> Any:
    metadata = ObjectMeta(name=name, namespace="default", uid=f"uid-{name}")
    if KEYS[name] == "x":
        return ConfigMap(metadata=metadata, data={"value": str(number)})
    return Secret(metadata=metadata, string_data={"value": str(number)})


def _number(obj: Any) -> int:
    return int((obj.data if isinstance(obj, ConfigMap) else obj.string_data)["value"])


def _record(record: Any) -> Record:
    return Record(
        value=_number(record.value),
        created=record.create_revision,
        modified=record.mod_revision,
        version=record.version,
    )
