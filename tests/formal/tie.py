"""What ties a model to the code: a twin does in the real core what the model's actions say, and
shows itself in the model's words.

    the model's traces    every action is done in the core too, and after each the core must show what the model shows      replay
    the core's histories  every step becomes a line of a Quint test: the model must allow it and come to show the same      walk, judge

Neither side is asked what the other would do: a trace is drawn by the model's own choices, a
history by the core's.
"""

import random
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import quint
from quint import Record, Trace, write_value

Picture = Record
"""What both sides show: the model's variables, as far as the core has them, by name."""


class Act(NamedTuple):
    """An action of the model with its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()


class Impossible(Exception):
    """The core cannot do what the model did."""


class CoreBug(NamedTuple):
    """A bug to be planted in a function of the core, and to be found by the tie."""

    name: str
    function: Any
    old: str
    new: str


class ModelBug(NamedTuple):
    """A bug to be planted in the model. `unsafe`: the model's own invariants meet it too."""

    name: str
    old: str
    new: str
    unsafe: bool = False


class Twin(ABC):
    """The core in the part of a model. Made anew for every run."""

    model: ClassVar[str]
    """The file's name without its ending."""
    witnesses: ClassVar[tuple[str, ...]] = ()
    """What a good sample of runs must have met: values of the model that are true in some state."""
    core_bugs: ClassVar[tuple[CoreBug, ...]] = ()
    model_bugs: ClassVar[tuple[ModelBug, ...]] = ()

    @classmethod
    @abstractmethod
    def act_of(cls, action: str, picks: dict[str, Any], before: dict[str, Any]) -> Act:
        """What a step of a trace did, with its arguments."""

    @abstractmethod
    def do(self, act: Act) -> None:
        """Do the same in the core. Raises Impossible where the core cannot."""

    @abstractmethod
    def choices(self, chance: random.Random) -> list[Act]:
        """What could happen next, as the core sees it."""

    @abstractmethod
    def show(self) -> Picture:
        """What the core shows."""

    @classmethod
    @abstractmethod
    def shown(cls, state: dict[str, Any]) -> Picture:
        """What the model shows in this state."""


def replay(twin: type[Twin], trace: Trace) -> str | None:
    """Do all of the trace in the core. None: they agree in every step; else where and how they
    differ."""
    core = twin()
    for number, step in enumerate(trace):
        if number:
            act = twin.act_of(step.action, step.picks, trace[number - 1].state)
            try:
                core.do(act)
            except Impossible as impossible:
                return (
                    f"step {number}, {_call(act)}: the model does it, "
                    f"and the core cannot: {impossible}"
                )
        else:
            act = Act("init")
        if (wrong := _difference(core.show(), twin.shown(step.state))) is not None:
            return f"step {number}, {_call(act)}: {wrong}"
    return None


def _difference(core: Picture, model: Picture) -> str | None:
    for name in sorted({*core, *model}):
        if core.get(name) != model.get(name):
            return f"{name} is {core.get(name)} in the core and {model.get(name)} in the model"
    return None


History = list[tuple[Act, Picture]]


def walk(twin: type[Twin], seed: int, steps: int) -> History:
    """A random run of the core: what happened, and what it showed afterwards."""
    chance = random.Random(seed)
    core = twin()
    history = [(Act("init"), core.show())]
    for _ in range(steps):
        choices = core.choices(chance)
        if not choices:
            break
        kind = chance.choice(sorted({act.name for act in choices}))
        act = chance.choice([act for act in choices if act.name == kind])
        core.do(act)
        history.append((act, core.show()))
    return history


HISTORY = "history_"


def judge(
    twin: type[Twin], model: Path, histories: list[History], folder: Path, samples: int
) -> tuple[list[str | None], dict[str, bool]]:
    """Let the model take every step of the histories. For each, None: it allows all of them and
    comes to show the same; else what is wrong.

    The histories become tests of a module that imports the model: chains of its actions. Quint runs
    them all at once and writes down the states that they lead to; and it runs the model's own tests
    so many times, since it has been started anyway.
    """
    tests = "".join(
        f"  run {HISTORY}{n}Test = " + _chain(history) for n, history in enumerate(histories)
    )
    if model.parent != folder:
        shutil.copy(model, folder)
    file = folder / f"{model.stem}_histories.qnt"
    file.write_text(
        f"module {model.stem}_histories {{\n  import {model.stem}.* from "
        f'"./{model.stem}"\n\n{tests}}}\n'
    )
    tested = quint.test(file, folder, seed=1, samples=samples)
    verdicts = [
        _verdict(twin, history, tested, f"{HISTORY}{n}Test") for n, history in enumerate(histories)
    ]
    return verdicts, {name: name in tested.passed for name in tested.passed | tested.failed}


def _chain(history: History) -> str:
    return (
        "\n    .then(".join([_call(history[0][0]), *(f"{_call(act)})" for act, _ in history[1:])])
        + "\n"
    )


def _verdict(twin: type[Twin], history: History, tested: quint.Tested, name: str) -> str | None:
    states = next((states for test, states in tested.states.items() if test == name), [])
    for number, ((act, picture), state) in enumerate(zip(history, states, strict=False)):
        if (wrong := _difference(picture, twin.shown(state))) is not None:
            return f"step {number}, {_call(act)}: {wrong}"
    if name not in tested.passed or len(states) != len(history):
        place = len(states)
        words = _call(history[place][0]) if place < len(history) else "?"
        return f"step {place}, {words}: the core does it, and the model does not allow it"
    return None


def _call(act: Act) -> str:
    return act.name + (f"({', '.join(map(write_value, act.arguments))})" if act.arguments else "")
