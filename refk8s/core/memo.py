"""A cache for functions of strings, bounded in bytes. Rule HTTP-7."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

TEXT_LENGTH_MAX = 512


def remember(maxsize: int) -> Callable[[F], F]:
    """As `lru_cache(maxsize)`, except that results for long strings are not cached."""

    def decorate(function: F) -> F:
        remembered = lru_cache(maxsize)(function)

        def call_with_one(argument: Any) -> Any:
            if type(argument) is str and len(argument) > TEXT_LENGTH_MAX:
                return function(argument)
            return remembered(argument)

        def call(*arguments: Any) -> Any:
            length = 0
            for argument in arguments:
                if type(argument) is str:
                    length += len(argument)
            return remembered(*arguments) if length <= TEXT_LENGTH_MAX else function(*arguments)

        # Most of these functions have one argument and are called for every name of every object.
        found = wraps(function)(call_with_one if function.__code__.co_argcount == 1 else call)
        found.cache_info = remembered.cache_info  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    return decorate
