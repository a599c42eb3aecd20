"""Random runs of a cluster: which action comes next is Hypothesis' choice, so a failing run shrinks
to a short one."""

from collections.abc import Callable, Iterable, Sequence

from hypothesis import strategies as st

from refk8s.core.actions import (
    Action,
    Answer,
    Arrive,
    Compact,
    Crash,
    CutWatch,
    Duplicate,
    Elapse,
    GiveUp,
    LoseAnswer,
    LoseRequest,
    Notify,
    Partition,
    Skew,
    Submit,
    Suspend,
)
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NAMESPACES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import step

Check = Callable[[Cluster, Cluster], Iterable[str]]


def with_default_namespace(cluster: Cluster) -> Cluster:
    """The cluster with the namespace `default`, as a user creates it."""
    namespace = Namespace(metadata=ObjectMeta(name="default"))
    return step(cluster, Submit(Request("create", NAMESPACES, body=namespace, user=ADMIN)))


def _pairs(tape: bytes) -> list[tuple[int, int]]:
    return [(kind % 12, which) for kind, which in zip(tape[::2], tape[1::2], strict=False)]


choices = st.binary(min_size=50, max_size=120).map(_pairs) | st.binary(max_size=120).map(_pairs)
"""What a run is made of: (what kind of thing happens, which one). From bytes, whose lengths and
values Hypothesis spreads more evenly than those of lists, and half of the runs at least 25 steps
long: what goes wrong needs several watches and answers to cross."""


def faults(cluster: Cluster, allowed: Sequence[str]) -> list[Action]:
    """The faults that can strike now, in a fixed order."""
    found: list[Action] = []
    if "crash" in allowed:
        found += [Crash(name) for name in sorted(cluster.components)]
    for id in sorted(cluster.flying):
        flying = cluster.flying[id]
        if "lose" in allowed:
            found.append(LoseRequest(id) if flying.answer is None else LoseAnswer(id))
        if "twice" in allowed and flying.answer is None and not flying.watch:
            found.append(Duplicate(id))
        if (
            "give up" in allowed
            and flying.answer is None
            and not flying.given_up
            and not flying.watch
        ):
            found.append(GiveUp(id))
    if "suspend" in allowed:
        found += [
            Suspend(name, cluster.now + seconds * 1_000_000)
            for name, component in sorted(cluster.components.items())
            for seconds in (3, 9, 30)
            if component.resumes_at is None
        ]
    if "partition" in allowed:
        found += [
            Partition(name, cluster.now + seconds * 1_000_000)
            for name in sorted(cluster.components)
            for seconds in (3, 9, 30)
        ]
    if "skew" in allowed:
        found += [
            Skew(name, seconds * 1_000_000)
            for name in sorted(cluster.components)
            for seconds in (-60, 0, 60)
        ]
    if "cut" in allowed:
        found += [CutWatch(id) for id in sorted(cluster.watches)]
    if "compact" in allowed and cluster.history.revision > cluster.history.compacted + 1:
        found.append(Compact(cluster.history.revision - 1))
    return found


def run(
    cluster: Cluster, drawn: Sequence[tuple[int, int]], check: Check, allowed: Sequence[str] = ()
) -> Cluster:
    """Take one step for each choice (kinds 0 to 8 the normal ones, else a fault, where allowed) and
    check each.

    With an odd kind a watch tells one change only, so that views stand still between the writes of
    one wave.
    """
    for kind, which in drawn:
        normal = list(enabled(cluster))
        odd = faults(cluster, allowed) if kind >= 9 else []
        actions = odd or normal
        if not actions:
            break
        action = actions[which % len(actions)]
        if isinstance(action, Notify) and kind % 2:
            action = Notify(action.watch, limit=1)
        cluster = checked(cluster, action, check)
    return cluster


def settle(
    cluster: Cluster, check: Check, steps_max: int = 5_000, seconds_max: int = 120
) -> Cluster:
    """Go on without faults, fairly, until nothing but time is left for so many virtual seconds.

    Fair: everything that is enabled happens before anything that it leads to.
    """
    end = cluster.now + seconds_max * 1_000_000
    steps = 0
    while steps < steps_max:
        actions = list(enabled(cluster))
        if not actions or (isinstance(actions[0], Elapse) and actions[0].to > end):
            return cluster
        for action in actions:
            if is_enabled(cluster, action):
                cluster = checked(cluster, action, check)
                steps += 1
    raise AssertionError(f"not quiet after {steps_max} steps")


def checked(cluster: Cluster, action: Action, check: Check) -> Cluster:
    after = step(cluster, action)
    wrong = [*check(cluster, after), *unexplained(after)]
    assert not wrong, f"{wrong[0]} (after {action})"
    return after


def unexplained(cluster: Cluster) -> list[str]:
    """Every write of a component says why, for people who are told the story (`refk8s run
    --story`)."""
    return [
        f"{channel} gives no reason for {flying.request.verb} {flying.request.resource.plural}"
        for channel, flying in cluster.flying.items()
        if flying.request.verb not in ("list", "watch") and not flying.request.because
    ]


__all__ = ["Answer", "Arrive", "checked", "choices", "faults", "run", "settle"]
