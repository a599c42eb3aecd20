"""The laws of a cluster: rules of spec/ as predicates over states and steps of refk8s/core/cluster.py, in one list.

The simulator, the explorer and the properties judge every step by them. There are three kinds:

    of a change     what one write did to one object: `check(change, before, after)`
    of a step       what one action did to the cluster: `check(before, action, after)`
    of a rest       what is there once faults have stopped and nothing moves: `check(cluster)`

A check answers None where its rule has nothing to say (so that a report can tell how often a rule was put to the test), else with a
sentence for every way in which the rule is broken: none is good. It looks at what is stored, sent and running, and not at how ours
decides; what it must remember of the past it reads in the history. Its cost is that of what changed.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from refk8s.core.actions import Action
from refk8s.core.cluster import Cluster
from refk8s.core.properties import api, at_rest, pods, views
from refk8s.core.properties.law import Broken, Law
from refk8s.core.store import Change

OfChange: TypeAlias = Callable[[Change[Any], Cluster, Cluster], Iterable[str] | None]

OF_CHANGES: tuple[Law, ...] = (*api.LAWS, *pods.LAWS)
OF_STEPS: tuple[Law, ...] = views.LAWS
OF_REST: tuple[Law, ...] = at_rest.LAWS


def judge(before: Cluster, action: Action, after: Cluster, tested: Counter[str] | None = None) -> list[Broken]:
    """What is wrong with a step. `tested` counts, by rule, how often a law had something to say."""
    found: list[Broken] = []
    if after.last_commit is not None:
        for change in after.last_commit.changes:
            for law in OF_CHANGES:
                if change.key.startswith(law.prefix):
                    _note(found, law, law.check(change, before, after), tested)
    for law in OF_STEPS:
        _note(found, law, law.check(before, action, after), tested)
    return found


def judge_rest(cluster: Cluster, tested: Counter[str] | None = None) -> list[Broken]:
    """What is wrong with a cluster in which nothing moves."""
    found: list[Broken] = []
    for law in OF_REST:
        _note(found, law, law.check(cluster), tested)
    return found


def _note(found: list[Broken], law: Law, wrong: Iterable[str] | None, tested: Counter[str] | None) -> None:
    if wrong is None:
        return
    if tested is not None:
        tested[law.rule] += 1
    found += [Broken(law.rule, words) for words in wrong]
