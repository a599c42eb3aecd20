"""Writes and reads histories of a model. Rule EXPLORE-6 (spec/explorer.md).

The first line of a file names the model. Every other line is one action, in the format of
refk8s/checking/actions_file.py.
"""

import json
from pathlib import Path

from refk8s.checking.actions_file import from_tree, to_tree
from refk8s.checking.explorer.model import Model
from refk8s.checking.explorer.models import MODELS
from refk8s.checking.explorer.replay import begin_model, take
from refk8s.checking.simulator.script import Fairly
from refk8s.core.actions import Action
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.machine import Impossible
from refk8s.core.properties.law import Broken
from refk8s.core.properties.laws import OF_REST, judge

FORMAT = "refk8s-explored-1"


class BadFile(Exception):
    """The file is not a history of a model; the message is the reason, in one line."""


class Outdated(Exception):
    """The current code does not allow this history."""


def write(path: Path, model: str, actions: list[Action], because: str) -> None:
    """Write a history of a model. `because`: the rule that it breaks."""
    head = {"format": FORMAT, "model": model, "because": because}
    path.write_text(
        "\n".join([json.dumps(head), *[json.dumps(to_tree(action)) for action in actions]]) + "\n"
    )


def read(path: Path) -> tuple[str, list[Action]]:
    """The name of the model and the actions. Raises BadFile with the line and the reason."""
    number = 1
    try:
        lines = path.read_text().splitlines()
        head = json.loads(lines[0])
        if head.get("format") != FORMAT or head.get("model") not in MODELS:
            raise ValueError(
                f"the first line must have the format {FORMAT} and the name of a model"
            )
        found: list[Action] = []
        for line in lines[1:]:
            number += 1
            action = from_tree(json.loads(line))
            if isinstance(action, Fairly):
                raise ValueError("an explored history has single actions only")
            found.append(action)
    except Exception as error:
        raise BadFile(f"{path}, line {number}: {error}") from None
    return head["model"], found


def replay(model: Model, actions: list[Action]) -> tuple[Cluster, list[Broken]]:
    """The real cluster after these actions, and the rules that a step or the settled state
    breaks."""
    cluster = begin_model(model)
    broken: list[Broken] = []
    for number, action in enumerate(actions, 1):
        try:
            after = take(cluster, action)
        except Impossible as error:
            raise Outdated(
                f"action {number} is not possible with the current code: {error}"
            ) from None
        broken += judge(cluster, action, after)
        for change in after.last_commit.changes if after.last_commit is not None else ():
            for law in model.laws:
                if change.key.startswith(law.prefix):
                    broken += [
                        Broken(law.rule, words) for words in law.check(change, cluster, after) or ()
                    ]
        cluster = after
    if not broken:
        broken = at_rest(model, cluster)
    return cluster, broken


def at_rest(model: Model, cluster: Cluster) -> list[Broken]:
    """The rules that a cluster at rest breaks.

    Deliveries that the explorer leaves out (EXPLORE-11) are made first.
    """
    for _ in range(1_000):
        action = next(iter(enabled(cluster)), None)
        if action is None or type(action).__name__ == "Elapse":
            break
        cluster = take(cluster, action)
    else:
        raise Impossible("this history does not settle")
    return [
        Broken(law.rule, words)
        for law in (*OF_REST, *model.laws_of_rest)
        for words in law.check(cluster) or ()
    ]
