"""The laws of refk8s/core/properties put to the steps of an exploration, each as seldom as possible. Rule EXPLORE-7 (spec/explorer.md).

A law of a change that reads only the store is asked once for each store and request; a law of a step that reads only one machine and what
is under way for it, once for each pair of bundles. A law that reaches for more is seen to do so, and then asked at every such step, of the
whole cluster. So what is asked seldom is answered as if it had been asked every time.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.checking.explore_moves import FIRST, NOW, ROW, Move, Moves, State
from refk8s.checking.explore_parts import Bundle
from refk8s.core.actions import Action, Answer, Arrive, Crash, CutWatch, Disturb, Elapse, LoseAnswer, LoseRequest, Notify, Operate, Wake
from refk8s.core.cluster import Cluster, Component, Cursor, Flying, Pending
from refk8s.core.properties import laws
from refk8s.core.properties.law import Broken, Law
from refk8s.core.store import Committed
from refk8s.core.value import evolve

COMMITTING = ("arrive", "orphan", "environment", "user", "duplicate")


class NeedsMore(Exception):
    """A law has asked for a part of the cluster that it was not given."""


class Glimpse:
    """A part of a cluster, for laws that need no more."""

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)

    def __getattr__(self, name: str) -> Any:
        raise NeedsMore(name)


Verdict = tuple[tuple[Broken, ...], tuple[Law, ...]]
"""What is broken, and which laws must see the whole cluster."""


class Judge:
    """Asks the laws. `tested` counts how often each had something to say."""

    def __init__(self, moves: Moves) -> None:
        self.moves = moves
        self.parts = moves.parts
        self.tested: Counter[str] = Counter()
        self.of_changes = (*laws.OF_CHANGES, *moves.model.laws)
        self._local: dict[Any, Verdict] = {}
        self._wholes: dict[State, Cluster] = {}
        self.parts.judge = self._of_commit

    def of_move(self, state: State, move: Move, after: State) -> list[Broken]:
        """What is wrong with a step."""
        kind = move[0]
        found: list[Broken] = []
        if kind in COMMITTING:
            request = move[-1] if isinstance(move[-1], int) else move[-1][2]
            verdict: Verdict | None = self.parts.decide(state[ROW], request, state[NOW])[2]
            if verdict is not None:
                found += verdict[0]
                if verdict[1]:
                    found += self._whole_changes(state, after, request, verdict[1])
        if len(move) > 1 and kind not in ("environment", "user", "elapse"):
            place = FIRST + move[1]
            key = (state[place], after[place], kind)
            local = self._local.get(key)
            if local is None:
                here, there = self._glimpse(state, move[1]), self._glimpse(after, move[1])
                local = self._local[key] = self._ask(laws.OF_STEPS, here, self.action(state, move), there)
            found += local[0]
            if local[1]:
                found += self._ask(local[1], self.whole(state), self.action(state, move), self.whole(after))[0]
        return found

    def at_rest(self, state: State) -> list[Broken]:
        """What is wrong with a state in which nothing moves."""
        whole = self.whole(state)
        found: list[Broken] = []
        for law in (*laws.OF_REST, *self.moves.model.laws_of_rest):
            found += self._note(law, law.check(whole))
        return found

    def _of_commit(self, before: int, after: int, committed: Committed[Any]) -> Verdict:
        reader = self.parts.reader
        old, new = Glimpse(history=reader(before)), Glimpse(history=reader(after))
        return self._changes(self.of_changes, committed, old, new)

    def _whole_changes(self, state: State, after: State, request: int, wanting: tuple[Law, ...]) -> tuple[Broken, ...]:
        _, _, committed = self.parts.book.decide(self.parts.rows[state[ROW]], self.parts.values[request], state[NOW])
        assert committed is not None
        return self._changes(wanting, committed, self.whole(state), self.whole(after))[0]

    def _changes(self, asked: Iterable[Law], committed: Committed[Any], before: Any, after: Any) -> Verdict:
        broken: list[Broken] = []
        more: list[Law] = []
        for change in committed.changes:
            for law in asked:
                if change.key.startswith(law.prefix):
                    try:
                        broken += self._note(law, law.check(change, before, after))
                    except NeedsMore:
                        more.append(law)
        return tuple(broken), tuple(dict.fromkeys(more))

    def _ask(self, asked: Iterable[Law], before: Any, action: Action, after: Any) -> Verdict:
        broken: list[Broken] = []
        more: list[Law] = []
        for law in asked:
            try:
                broken += self._note(law, law.check(before, action, after))
            except NeedsMore:
                more.append(law)
        return tuple(broken), tuple(more)

    def _note(self, law: Law, wrong: Iterable[str] | None) -> list[Broken]:
        if wrong is None:
            return []
        found = [Broken(law.rule, words) for words in wrong]
        self.tested[law.rule] += 1
        return found

    # --- clusters from numbers -------------------------------------------------------------------------------------------

    def _glimpse(self, state: State, machine: int) -> Any:
        parts = self._bundle_as_maps(self.parts.bundles[state[FIRST + machine]])
        return Glimpse(now=state[NOW], **parts)

    def whole(self, state: State) -> Cluster:
        """The state as a Cluster, with ids counted anew; its history tells each resource's own revisions."""
        maps: dict[str, dict[Any, Any]] = {}
        for number in state[FIRST:]:
            for name, entries in self._bundle_as_maps(self.parts.bundles[number]).items():
                maps.setdefault(name, {}).update(entries)
        cluster = Cluster(machines=self.moves.machines, seed=self.parts.seed, now=state[NOW], **{n: Map(m) for n, m in maps.items()})
        return evolve(cluster, history=self.parts.reader(state[ROW]))

    def _bundle_as_maps(self, bundle: Bundle) -> dict[str, "Map[Any, Any]"]:
        values, name = self.parts.values, self.parts.names[bundle.machine]
        life = bundle.life
        flying = {(name, life, f[0]): Flying(values[f[2]], values.get(f[3]), watch=f[1]) for f in bundle.flying}
        flying |= {(name, 0, n): Flying(values[request]) for n, request in enumerate(bundle.orphans)}
        return {
            "components": Map({name: Component(values.get(bundle.state), life, bundle.wake_at)}),
            "flying": Map(flying),
            "watches": Map({(name, life, w[0]): Cursor(values[w[1]], w[2], values.get(w[3], ())) for w in bundle.watches}),
            "operations": Map({(name, life, j[0]): Pending(values[j[1]], j[2]) for j in bundle.jobs}),
            "worlds": Map({name: values[bundle.world]}) if bundle.world >= 0 else Map(),
            "rules": Map({name: values[bundle.rules]}) if bundle.rules >= 0 else Map(),
        }

    def action(self, state: State, move: Move) -> Action:
        """The move as an action on `whole` (its ids are the explorer's own)."""
        kind = move[0]
        if kind == "elapse":
            return Elapse(move[1])
        name = self.parts.names[move[1]]
        channel = (name, self.parts.bundles[state[FIRST + move[1]]].life, move[2][0] if len(move) > 2 and isinstance(move[2], tuple) else 0)
        made: dict[str, Any] = {
            "arrive": Arrive, "open": Arrive, "orphan": Arrive, "answer": Answer, "notify": Notify, "operate": Operate, "cut": CutWatch,
            "lose answer": LoseAnswer,
        }  # fmt: skip
        if kind in made:
            action: Action = made[kind](channel)
            return action
        if kind == "wake":
            return Wake(name)
        if kind == "crash":
            return Crash(name)
        if kind == "disturb":
            return Disturb(name, move[2], move[3])
        return LoseRequest(channel)
