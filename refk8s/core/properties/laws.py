"""The laws of a cluster: rules of spec/ as predicates over states and steps of
refk8s/core/cluster/step.py, in lists.

The simulator, the explorer and the properties judge every step by them. There are five kinds:

    of a change     what one write did to one object: `check(change, before, after)`
    of a request    what a request that arrived did, and whether it might: `check(arrived, before, after)`
    of a decision   what a component asks for, on what it saw: `check(decision, before, after)`
    of a step       what one action did to the cluster: `check(before, action, after)`
    of a rest       what is there once faults have stopped and nothing moves: `check(cluster)`

A check answers None where its rule has nothing to say (so that a report can tell how often a rule
was put to the test), else with a sentence for every way in which the rule is broken: none is good.
It looks at what is stored, sent, seen and running, and not at how ours decides; what it must
remember of the past it reads in the history. Its cost is that of what changed.
"""

from collections import Counter
from collections.abc import Iterable

from refk8s.core.actions import Action
from refk8s.core.cluster.state import Cluster
from refk8s.core.properties import (
    api,
    at_rest,
    bounded,
    collecting,
    deciding,
    pods,
    running,
    services,
    serving,
    stored,
    views,
    writes,
)
from refk8s.core.properties.law import Broken, Law, arrived, decisions

OF_CHANGES: tuple[Law, ...] = (
    *api.LAWS, *pods.LAWS, *stored.OF_CHANGES, *writes.OF_CHANGES, *serving.OF_CHANGES, *services.OF_CHANGES, *bounded.OF_CHANGES,
)  # fmt: skip
OF_REQUESTS: tuple[Law, ...] = (
    *stored.OF_REQUESTS,
    *writes.OF_REQUESTS,
    *collecting.OF_REQUESTS,
    *running.OF_REQUESTS,
)
OF_DECISIONS: tuple[Law, ...] = (*deciding.OF_DECISIONS, *collecting.OF_DECISIONS)
OF_STEPS: tuple[Law, ...] = (
    *stored.OF_STEPS,
    *views.OF_STEPS,
    *running.OF_STEPS,
    *serving.OF_STEPS,
)
OF_REST: tuple[Law, ...] = (*at_rest.LAWS, *serving.OF_REST, *writes.OF_REST)


def all_laws() -> tuple[Law, ...]:
    """Every law of every kind."""
    return (*OF_CHANGES, *OF_REQUESTS, *OF_DECISIONS, *OF_STEPS, *OF_REST)


def judge(
    before: Cluster, action: Action, after: Cluster, tested: Counter[str] | None = None
) -> list[Broken]:
    """What is wrong with a step. `tested` counts, by rule, how often a law had something to say."""
    found: list[Broken] = []
    if after.last_commit is not None:
        for change in after.last_commit.changes:
            for law in OF_CHANGES:
                if change.key.startswith(law.prefix):
                    _note(found, law, law.check(change, before, after), tested)
    request = arrived(before, action, after)
    if request is not None:
        for law in OF_REQUESTS:
            if request.request.user.name.startswith(law.prefix):
                _note(found, law, law.check(request, before, after), tested)
    if before.components is not after.components:
        for decision in decisions(before, after):
            for law in OF_DECISIONS:
                if decision.reconciler.startswith(law.prefix):
                    _note(found, law, law.check(decision, before, after), tested)
    kind = type(action)
    for law in OF_STEPS:
        if not law.actions or kind in law.actions:
            _note(found, law, law.check(before, action, after), tested)
    return found


def judge_rest(cluster: Cluster, tested: Counter[str] | None = None) -> list[Broken]:
    """What is wrong with a cluster in which nothing moves."""
    found: list[Broken] = []
    for law in OF_REST:
        _note(found, law, law.check(cluster), tested)
    return found


def _note(
    found: list[Broken], law: Law, wrong: Iterable[str] | None, tested: Counter[str] | None
) -> None:
    if wrong is None:
        return
    if tested is not None:
        tested[law.rule] += 1
    found += [Broken(law.rule, words) for words in wrong]
