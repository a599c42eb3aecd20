"""A memory of functions of texts, bounded in bytes. Rule HTTP-7."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

TEXT_LENGTH_MAX = 512


def remember(maxsize: int) -> Callable[[F], F]:
    """As `lru_cache(maxsize)`, but that the results for long strings are computed anew each
    time."""

    def decorate(function: F) -> F:
        remembered = lru_cache(maxsize)(function)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            length = 0
            for argument in arguments:
                if type(argument) is str:
                    length += len(argument)
            return remembered(*arguments) if length <= TEXT_LENGTH_MAX else function(*arguments)

        call.cache_info = remembered.cache_info  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return decorate
