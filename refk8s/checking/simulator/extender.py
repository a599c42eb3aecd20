"""A scheduler extender of simulated runs: slow, unreachable or wrong at times. Rules CLUSTER-19
(spec/cluster.md), SCHED-57 to SCHED-59 (spec/scheduler_profiles.md).

It rejects one of the nodes for every other pod, by the name of the pod. What goes wrong is a
function of the seed and of the question's channel, so it never lasts.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from refk8s.core.context import MILLISECOND, SECOND, Chance, Instant
from refk8s.core.ports import Failed, Post, Posted, Result
from refk8s.core.scheduler.extenders import Extender

EXTENDER: Final = Extender(
    "http://extender.example",
    filter_verb="filter",
    prioritize_verb="prioritize",
    weight=2,
    has_node_cache=True,
)
AVOIDED: Final = "node-1"
MILLISECONDS_MAX: Final = 50


class SimulatedExtender:
    """`faults`: the share of questions, of 256, that go wrong."""

    def __init__(self, faults: int = 96) -> None:
        self._faults = faults

    def post(self, post: Post, now: Instant, chance: Chance) -> tuple[Instant, Result]:
        """When the question that is sent now is answered, and how."""
        draw = chance.draw(4)
        soon = now + draw[1] % MILLISECONDS_MAX * MILLISECOND
        late = now + int(post.seconds * SECOND)
        question = msgspec.json.decode(post.body)
        good = Posted(200, msgspec.json.encode(_answer(post.url, question)))
        if draw[0] >= self._faults:
            return soon, good
        match draw[2] % 5:
            case 0:
                return now + draw[3] % 4 * SECOND, good  # slow
            case 1:
                return late, Failed("Unanswered", f'Post "{post.url}": context deadline exceeded')
            case 2:
                return soon, Posted(500, b"")
            case 3:
                return soon, Posted(200, b"oops")
        strange = {"NodeNames": ["nowhere"]} if post.url.endswith("filter") else {}
        return soon, Posted(200, msgspec.json.encode(strange))

    def rejects(self, name: str, node: str) -> bool:
        """Whether it rejects the node for the pod of this name."""
        return node == AVOIDED and blake2b(name.encode(), digest_size=1).digest()[0] % 2 == 0

    def is_asked_about(self, pod: Any) -> bool:
        """Whether the scheduler must ask about this pod: every one."""
        return EXTENDER.is_interested(pod)


def _answer(url: str, question: dict[str, Any]) -> Any:
    names, pod = question["NodeNames"], question["Pod"]["metadata"]["name"]
    if url.endswith("prioritize"):
        return [{"Host": name, "Score": number % 11} for number, name in enumerate(names)]
    rejected = {name: "not here" for name in names if SimulatedExtender().rejects(pod, name)}
    return {"NodeNames": [one for one in names if one not in rejected], "FailedNodes": rejected}
