"""Bugs on purpose: a function of the core, or a model, with one piece of its text replaced.

A tie that holds proves nothing unless it breaks when one side is wrong. So every model names bugs
for both sides, and the tests plant each and expect to be told.
"""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

from patched_source import patched


@contextmanager
def planted(function: Any, old: str, new: str) -> Iterator[None]:
    """While this lasts, the function's text has `new` where it had `old` (once). Whoever holds the
    function sees it."""
    if not isinstance(function, FunctionType):
        raise TypeError(f"{function!r} is no plain function")
    source = textwrap.dedent(inspect.getsource(function))
    assert not function.__closure__, f"{function.__qualname__} refers to what surrounds it"
    space: dict[str, Any] = {}
    code = compile(
        patched(source, old, new), inspect.getsourcefile(function) or "?", "exec", dont_inherit=True
    )
    exec(code, function.__globals__, space)
    made = space[function.__name__]
    before, function.__code__ = (
        function.__code__,
        (made.fget if isinstance(made, property) else made).__code__,
    )
    try:
        yield
    finally:
        function.__code__ = before


def planted_model(model: Path, old: str, new: str, folder: Path) -> Path:
    """A copy of the model with `new` where it had `old` (once)."""
    text = model.read_text()
    assert text.count(old) == 1, (
        f"{model.name} has {text.count(old)} times {old!r}, not once: name another place"
    )
    copy = folder / model.name
    copy.write_text(text.replace(old, new))
    return copy
