"""Quint as a tool: run it, read its traces as Python values, write Python values as Quint.

| Quint | Python |
|---|---|
| int, str, bool | int, str, bool |
| Set, List, Map | frozenset, tuple, dict |
| { a: 1 } | Record(a=1) |
| Put(1), Keep | Variant("Put", 1), Variant("Keep") |
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

MODELS = Path(__file__).parents[2] / "spec" / "formal"
TOOL = MODELS / "node_modules" / ".bin" / "quint"
SECONDS_MAX = 600

NO_VALUE = ()


class Record(dict[str, Any]):
    """A record, which is not a map: its fields are names and not strings."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Variant(NamedTuple):
    """One case of a sum type."""

    tag: str
    value: Any = NO_VALUE


class Outcome(NamedTuple):
    """What a run of Quint ended with, and all that it said."""

    ok: bool
    words: str


def quint(command: str, model: Path, *arguments: str) -> Outcome:
    """Run `quint COMMAND MODEL ARGUMENTS`. A Quint that is not there is a failure that says what to
    do, never a skip."""
    if not TOOL.exists():
        raise AssertionError(
            "Quint is not installed: run `npm ci` in spec/formal (Node.js 18 or newer); "
            "tools/test does it by itself"
        )
    line = [str(TOOL), command, str(model), *arguments]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    return Outcome(done.returncode == 0, done.stdout + done.stderr)


def typecheck(model: Path) -> Outcome:
    return quint("typecheck", model)


class Simulation(NamedTuple):
    """What many random runs of a model came to."""

    ok: bool
    words: str
    witnesses: dict[str, int]  # how many runs met each
    traces: list[str]  # see `decode`


class Tested(NamedTuple):
    """What the tests of a model came to."""

    passed: set[str]
    failed: set[str]
    states: dict[str, list[dict[str, Any]]]  # of each test, as far as it went
    words: str


def simulate(
    model: Path,
    folder: Path,
    seed: int,
    samples: int,
    steps: int,
    traces: int,
    invariant: str = "safe",
    witnesses: tuple[str, ...] = (),
) -> Simulation:
    """Random runs of the model from one seed: whether the invariant held in every state, and some
    of the runs as traces."""
    done = quint(
        "run", model, "--backend", "typescript", "--invariant", invariant, "--seed", hex(seed), "--max-samples", str(samples),
        "--max-steps", str(steps), "--mbt", "--n-traces", str(traces), "--out-itf", str(folder / "trace_{seq}.itf.json"),
        "--verbosity", "1", *(("--witnesses", *witnesses) if witnesses else ()),
    )  # fmt: skip
    found = {
        name: int(count)
        for name, count in re.findall(r"(\w+) was witnessed in (\d+) trace", done.words)
    }
    kept = [
        encode(json.loads(path.read_text())) for path in sorted(folder.glob("trace_*.itf.json"))
    ]
    return Simulation(done.ok, done.words, found, kept)


def test(model: Path, folder: Path, seed: int, samples: int = 1, match: str = "Test$") -> Tested:
    """Run the model's tests, and those of a file that imports it."""
    done = quint("test", model, "--backend", "typescript", "--seed", hex(seed), "--max-samples", str(samples), "--match", match,
                 "--out-itf", str(folder / "{test}.itf.json"), "--verbosity", "3")  # fmt: skip
    passed = set(re.findall(r"^\s*ok (\w+) passed", done.words, re.MULTILINE))
    failed = set(re.findall(r"^\s*\d+\) (\w+) failed", done.words, re.MULTILINE))
    if not passed and not failed:
        raise AssertionError(f"quint test of {model.name} ran nothing:\n{done.words}")
    states = {path.name.removesuffix(".itf.json"): path for path in folder.glob("*.itf.json")}
    kept = {
        name: [read_state(raw) for raw in json.loads(path.read_text())["states"]]
        for name, path in states.items()
    }
    return Tested(passed, failed, kept, done.words)


# --- traces (ITF, "Informal Trace Format", of the Apalache documentation)


class Step(NamedTuple):
    """One state of a trace, the action that led to it and what was drawn for it."""

    action: str
    picks: dict[str, Any]
    state: dict[str, Any]


Trace = list[Step]


def read_state(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        name: read_value(value)
        for name, value in raw.items()
        if not name.startswith(("#", "mbt::"))
    }


def encode(trace: dict[str, Any]) -> str:
    """A trace as Quint wrote it (ITF), in one line: of each state what is not as it was."""
    steps: list[Any] = []
    before: Any = {}
    for state in trace["states"]:
        picks = {
            name: pick["value"]
            for name, pick in state["mbt::nondetPicks"].items()
            if pick["tag"] == "Some"
        }
        after = {
            name: value for name, value in state.items() if not name.startswith(("#", "mbt::"))
        }
        steps.append([state["mbt::actionTaken"], picks, _changes(before, after)])
        before = after
    return json.dumps(steps, separators=(",", ":"), sort_keys=True)


def decode(lines: Iterable[str]) -> list[Trace]:
    traces = []
    for line in lines:
        state: Any = {}
        trace = []
        for action, picks, changes in json.loads(line):
            state = _changed(state, changes)
            trace.append(
                Step(
                    action,
                    {name: read_value(value) for name, value in picks.items()},
                    read_state(state),
                )
            )
        traces.append(trace)
    return traces


CHANGED = "#changed"  # no word of ITF


def _is_record(raw: Any) -> bool:
    return (
        isinstance(raw, dict)
        and not any(name.startswith("#") for name in raw)
        and set(raw) != {"tag", "value"}
    )


def _changes(before: Any, after: Any) -> Any:
    """`after`; of a record that was one before, those fields only that are different."""
    if not (_is_record(before) and _is_record(after)):
        return after
    return {
        CHANGED: {
            name: _changes(before.get(name), value)
            for name, value in after.items()
            if before.get(name) != value
        }
    }


def _changed(before: Any, changes: Any) -> Any:
    if not isinstance(changes, dict) or CHANGED not in changes:
        return changes
    return before | {
        name: _changed(before.get(name), change) for name, change in changes[CHANGED].items()
    }


def read_value(raw: Any) -> Any:
    """The Python value of a value in ITF."""
    match raw:
        case {"#bigint": digits}:
            return int(digits)
        case {"#set": items}:
            return frozenset(map(read_value, items))
        case {"#map": pairs}:
            return {read_value(key): read_value(value) for key, value in pairs}
        case {"#tup": items}:
            return tuple(map(read_value, items))
        case {"tag": tag, "value": value}:
            return Variant(tag, read_value(value))
        case dict():
            return Record(
                {name: read_value(value) for name, value in raw.items() if not name.startswith("#")}
            )
        case list():
            return tuple(map(read_value, raw))
    return raw


def write_value(value: Any) -> str:
    """The Quint text of a Python value."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return json.dumps(value)
        case Variant(tag, inner):
            return tag if inner == NO_VALUE else f"{tag}({write_value(inner)})"
        case Record():
            return (
                "{ "
                + ", ".join(
                    f"{name}: {write_value(inner)}" for name, inner in sorted(value.items())
                )
                + " }"
            )
        case dict():
            return (
                "Map("
                + ", ".join(
                    f"{write_value(key)} -> {write_value(value[key])}" for key in sorted(value)
                )
                + ")"
            )
        case frozenset() | set():
            return "Set(" + ", ".join(sorted(map(write_value, value))) + ")"
        case tuple() | list():
            return "[" + ", ".join(map(write_value, value)) + "]"
    raise TypeError(f"no Quint for {value!r}")
