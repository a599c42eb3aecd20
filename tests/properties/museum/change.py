"""A patch of the core: in one function, some lines are replaced by others.

The function keeps its identity and gets another code object, so every module that has imported it
has the change too. Afterwards the code is restored. If the function does not have the old lines
exactly once, the patch is out of date, and applying it raises an error.
"""

import __future__

import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import CodeType, FunctionType
from typing import Any

from attrs import frozen
from patched_source import patched


@frozen
class Change:
    """In `function`, `old` becomes `new`. Both are lines of its source, without the indentation
    that they have in common."""

    function: Callable[..., Any]
    old: str
    new: str

    @property
    def where(self) -> str:
        """For example "refk8s/core/loop/requests.py, release"."""
        function = _plain(self.function)
        return f"{function.__module__.replace('.', '/')}.py, {function.__qualname__}"

    def source(self) -> str:
        """The function's source with the change in it. Raises ValueError unless it has `old`
        once."""
        source = textwrap.dedent(inspect.getsource(_plain(self.function)))
        try:
            return patched(source, self.old, self.new)
        except ValueError as error:
            raise ValueError(f"the patch of {self.where} is out of date: {error}") from None

    def code(self) -> CodeType:
        """The changed function's code."""
        function = _plain(self.function)
        namespace: dict[str, Any] = dict(function.__globals__)
        # a module with this import may annotate with names that only the type checker has
        flags = function.__code__.co_flags & __future__.annotations.compiler_flag
        exec(compile(self.source(), f"<museum: {self.where}>", "exec", flags), namespace)
        made = _plain(namespace[function.__name__])
        if made.__code__.co_freevars != function.__code__.co_freevars:
            raise ValueError(f"{self.where} is a closure")
        code: CodeType = made.__code__
        return code.replace(co_qualname=function.__code__.co_qualname)


def _plain(function: Any) -> FunctionType:
    """The function itself, where it is a property's or wrapped in others."""
    plain = inspect.unwrap(function.fget if isinstance(function, property) else function)
    assert isinstance(plain, FunctionType), f"{function} is no function"
    return plain


@contextmanager
def applied(changes: Sequence[Change]) -> Iterator[None]:
    """The core with these changes; without them again afterwards, whatever happened."""
    with ExitStack() as stack:
        for change in changes:
            function = _plain(change.function)
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = change.code()
        yield
