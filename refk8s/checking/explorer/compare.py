"""Compares a state of the explorer with the state of the reference after the same actions.

Rules EXPLORE-2 and EXPLORE-12 (spec/explorer.md).
"""

from typing import Any

from refk8s.checking.explorer.bundle import READS, SILENT
from refk8s.checking.explorer.ids import canonical, live_ids, target_of
from refk8s.checking.explorer.moves import FIRST, NOW, STORE, State, to_action
from refk8s.checking.explorer.replay import RealNames, describe, is_awaited
from refk8s.checking.explorer.transitions import Transitions
from refk8s.core.actions import Action, Answer, Arrive, Notify
from refk8s.core.cluster.enabled import happenings, upcoming
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.elector import ElectorState, inner_state
from refk8s.core.loop.state import LoopState


def differences(moves: Transitions, state: State, cluster: Cluster) -> list[str]:
    """The observable differences of the two states: none if the explorer is correct (EXPLORE-2)."""
    found: list[str] = []

    def same(what: str, ours: Any, real: Any) -> None:
        if ours != real:
            found.append(f"{what}: {ours} in the explorer, {real} in the cluster")

    parts = moves.parts
    same("now", state[NOW], cluster.now)
    reader = parts.reader(state[STORE])
    for prefix in parts.store_states.prefixes:
        if prefix not in SILENT:
            ours = {record.key: describe(record.value) for record in reader.list(prefix).records}
            real = {
                record.key: describe(record.value)
                for record in cluster.history.list(prefix).records
                if "/elsewhere-" not in record.key
            }
            same(prefix, ours, real)
    for machine, name in enumerate(parts.names):
        bundle, component = parts.bundles[state[FIRST + machine]], cluster.components[name]
        same(
            f"{name}: life and timer",
            (bundle.life, bundle.wake_at),
            (component.life, component.wake_at),
        )
        mine = {
            c: f
            for c, f in cluster.flying.items()
            if c[0] == name and f.request.resource.prefix not in SILENT
        }
        current = [f for c, f in mine.items() if is_awaited(cluster, c)]
        same(f"{name}: in transit", sorted([(f[1], target_of(parts.values[f[2]]), _code(parts.values.get(f[3]))) for f in bundle.flying]),
             sorted([(f.watch, target_of(f.request), _code(f.answer)) for f in current]))  # fmt: skip
        lost = [
            f
            for c, f in mine.items()
            if (c[1] != component.life or f.given_up)
            and f.answer is None
            and f.request.verb not in READS
        ]
        abandoned = sorted([target_of(parts.values[number]) for number in bundle.abandoned])
        same(
            f"{name}: operations",
            sorted([(job[3], describe(parts.values[job[1]]), job[2]) for job in bundle.jobs]),
            sorted(
                [
                    (channel[1], describe(pending.operation), pending.due)
                    for channel, pending in cluster.operations.items()
                    if channel[0] == name
                ]
            ),
        )
        same(f"{name}: abandoned", abandoned, sorted([target_of(f.request) for f in lost]))
        lags = []
        for opened in bundle.watches:
            position = parts.store_states.position(parts.values[opened[1]].resource.prefix)
            lags.append(
                (
                    parts.store_states.prefixes[position],
                    parts.lag(
                        opened,
                        parts.store_states.resource_state(parts.stores[state[STORE]], position),
                    ),
                )
            )
        real_lags = []
        for channel, cursor in cluster.watches.items():
            if channel[:2] == (name, component.life):
                behind = -1
                if cursor.revision >= cluster.history.compacted:
                    behind = len(cluster.history.changes(cursor.stream.prefix, cursor.revision))
                real_lags.append((cursor.stream.resource.prefix, behind))
        same(f"{name}: watches", sorted(lags), sorted(real_lags))
        same(
            f"{name}: view and waits",
            _loop_state(parts.values.get(bundle.state)),
            _loop_state(component.state),
        )
        if bundle.world >= 0:
            same(f"{name}: running containers", describe(sorted(parts.values[bundle.world].running(), key=describe)), describe(
                sorted(cluster.worlds[name].running(), key=describe)))  # fmt: skip
    same("possible", *_compare_actions(moves, state, cluster))
    if moves.is_quiet(state):
        same("next instant", moves.upcoming(state), upcoming(cluster))
    return found


def _compare_actions(moves: Transitions, state: State, cluster: Cluster) -> list[list[str]]:
    """The actions that can happen in the explorer's state, and in the reference (EXPLORE-12)."""
    names = RealNames(moves, state, cluster)
    ours = {str(_any_limit(to_action(move, names))) for move in moves.happenings(state)}
    real = {
        str(names.first_of(action))
        for action in happenings(cluster)
        if _is_explored(cluster, action)
    }
    return [sorted(ours), sorted(real)]


def _any_limit(action: Action) -> Action:
    """The action without the number of changes that a watch delivers."""
    return Notify(action.watch) if isinstance(action, Notify) else action


def _is_explored(cluster: Cluster, action: Action) -> bool:
    """Whether the explorer has a move for this action.

    It has none for Events (EXPLORE-11), for answers that no machine waits for, and for reads whose
    answer no machine waits for.
    """
    match action:
        case Arrive(channel) | Answer(channel):
            request = cluster.flying[channel].request
            if request.resource.prefix in SILENT:
                return False
            is_write = isinstance(action, Arrive) and request.verb not in READS
            return is_write or is_awaited(cluster, channel)
        case _:
            return True


def _code(answer: Any) -> int:
    return 0 if answer is None else answer.code


def _loop_state(state: Any) -> Any:
    """A loop's tables, resting keys, timers, and the answers for which it waits."""
    if isinstance(state, ElectorState):
        lease = describe(state.lease)
        sent = state.sent.purpose if state.sent is not None else ""
        return lease, state.renewed_at, sent, _loop_state(inner_state(state))
    if not isinstance(state, LoopState):
        return None
    state, _ = canonical(state)
    tables = {
        p: (t.synced, {key: describe(obj) for key, obj in sorted(t.objects.items())})
        for p, t in sorted(state.view.tables.items())
    }
    busy = {
        item: (b.outstanding, b.due, len(b.waves), len(b.last))
        for item, b in sorted(state.busy.items())
    }
    waits = sorted([(about[0], str(about[1:-1])) for about in live_ids(state).values()])
    return tables, busy, waits, sorted(state.timers.items()), sorted(state.due), state.names
