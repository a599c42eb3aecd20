"""Traces of the models, recorded, so that the core can be held against them where there is no
Quint.

A file per model in `traces/`: for each step its action, what was drawn, and those variables that
are not as they were. `REFK8S_RECORD=1 pytest tests/formal/test_models.py` writes them anew.
"""

from pathlib import Path

from planting import planted
from quint import Trace, decode
from tie import CoreBug, Twin, replay

FOLDER = Path(__file__).parent / "traces"


def path_of(model: str) -> Path:
    return FOLDER / f"{model}.jsonl"


def read(model: str) -> list[Trace]:
    return decode(path_of(model).read_text().splitlines())


def write(twin: type[Twin], lines: list[str]) -> None:
    """Keep a few of the traces: the longest story, and as many as it takes to meet every bug that
    is to be planted in the core."""
    kept = [lines[0]]
    for bug in twin.core_bugs:
        if not any(is_met(twin, bug, line) for line in kept):
            kept += [line for line in lines if is_met(twin, bug, line)][:1]
    FOLDER.mkdir(exist_ok=True)
    path_of(twin.model).write_text("\n".join(kept) + "\n")


def is_met(twin: type[Twin], bug: CoreBug, line: str) -> bool:
    """Whether this trace tells a core with the bug from the model."""
    with planted(bug.function, bug.old, bug.new):
        try:
            return replay(twin, decode([line])[0]) is not None
        except Exception:  # A core with a bug may fall over as well.
            return True
