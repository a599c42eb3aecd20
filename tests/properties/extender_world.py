"""An extender in virtual time: what a test makes it answer, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from immutables import Map
from sched_worlds import NAME, new_cluster
from test_sched import quiet

from refk8s.core.cluster.state import Cluster
from refk8s.core.context import Chance, Instant
from refk8s.core.ports import Failed, Post, Posted
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.scheduler.extenders import Extender
from refk8s.core.value import Value, evolve

URL = "http://127.0.0.1:8888/scheduler"
Answer = Callable[[dict[str, Any]], Any]


class World(Value, frozen=True, eq=False):
    """`answers`: by verb, a function of the question whose result is sent as JSON, bytes as they
    are, a number as a status code, and an exception as a failure."""

    answers: dict[str, Answer]
    asked: tuple[tuple[str, dict[str, Any]], ...] = ()

    def carry_out(self, operation: Post, now: Instant, chance: Chance):
        verb, question = operation.url.rpartition("/")[2], msgspec.json.decode(operation.body)
        world = evolve(self, asked=(*self.asked, (verb, question)))
        found = self.answers[verb](question)
        if isinstance(found, Exception):
            return world, Failed("Unanswered", str(found))
        if isinstance(found, int) and not isinstance(found, bool):
            return world, Posted(found, b"")
        return world, Posted(200, found if isinstance(found, bytes) else msgspec.json.encode(found))

    def advance(self, now: Instant):
        return self, ()

    def next_change(self) -> None:
        return None

    def disturb(self, what: str, which: str, now: Instant):
        return self, ()


def extended(answers: dict[str, Answer], *extenders: Extender, **fields: Any) -> Cluster:
    """A cluster whose scheduler has these extenders (or one with these fields)."""
    verbs = {f"{verb}_verb": verb for verb in answers}
    given = extenders or (Extender(URL, has_node_cache=True, **{**verbs, **fields}),)
    cluster = new_cluster(scheduler(extenders=given))
    return quiet(evolve(cluster, worlds=Map({NAME: World(answers)})))


def asked(cluster: Cluster) -> list[tuple[str, dict[str, Any]]]:
    return list(cluster.worlds[NAME].asked)


def answering(cluster: Cluster, **answers: Answer) -> Cluster:
    """From now on the extender answers so."""
    world = evolve(cluster.worlds[NAME], answers={**cluster.worlds[NAME].answers, **answers})
    return evolve(cluster, worlds=cluster.worlds.set(NAME, world))


def only(*names: str, **more: Any) -> Answer:
    """Let these of the nodes pass that it is asked about."""

    def answer(question: dict[str, Any]) -> Any:
        return {"NodeNames": [one for one in question["NodeNames"] if one in names], **more}

    return answer
