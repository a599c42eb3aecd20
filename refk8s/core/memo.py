"""Caches for pure functions, bounded in bytes. Rules HTTP-7 (spec/http.md), SCHED-17
(spec/scheduler.md)."""

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
        found.cache_clear = remembered.cache_clear  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    return decorate


def remember_identical(maxsize: int) -> Callable[[F], F]:
    """A cache for a pure function of immutable values that are found by their identity. It keeps
    the last `maxsize` arguments, so they are few.

    Pods of one template share the parts of their specs, and so what follows from a part is computed
    once. A hit takes the same time for a value of any size: a thirtieth of that for the JSON of a
    small pod spec.
    """

    def decorate(function: F) -> F:
        kept: dict[Any, tuple[Any, Any]] = {}

        def remember_it(key: Any, arguments: tuple[Any, ...]) -> Any:
            result = function(*arguments)
            if len(kept) >= maxsize:
                del kept[next(iter(kept))]
            # the arguments stay alive with the entry, so no other value has their identity
            kept[key] = (arguments, result)
            return result

        def call_with_one(argument: Any) -> Any:
            found = kept.get(id(argument))
            return remember_it(id(argument), (argument,)) if found is None else found[1]

        def call(*arguments: Any) -> Any:
            key = tuple(map(id, arguments))
            found = kept.get(key)
            return remember_it(key, arguments) if found is None else found[1]

        found = wraps(function)(call_with_one if function.__code__.co_argcount == 1 else call)
        found.cache_clear = kept.clear  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    return decorate


def remember_within(bytes_max: int, size_of: Callable[..., int]) -> Callable[[F], F]:
    """A cache for a function whose arguments are as long as a user makes them. The arguments that
    it keeps have at most `bytes_max` bytes together, as `size_of` counts them.

    It has two generations. When the younger one is full, the older one is dropped, and what is used
    again moves to the younger one. O(1).
    """

    def decorate(function: F) -> F:
        young: dict[Any, Any] = {}
        old: dict[Any, Any] = {}
        size = 0  # of the younger generation

        def call(*arguments: Any) -> Any:
            nonlocal young, old, size
            if arguments in young:
                return young[arguments]
            result = old[arguments] if arguments in old else function(*arguments)
            more = size_of(*arguments)
            if size + more > bytes_max // 2:
                if more > bytes_max // 2:
                    return result
                young, old, size = {}, young, 0
            young[arguments] = result
            size += more
            return result

        def clear() -> None:
            nonlocal young, old, size
            young, old, size = {}, {}, 0

        found = wraps(function)(call)
        found.kept = lambda: (*young, *old)  # type: ignore[attr-defined]
        found.cache_clear = clear  # type: ignore[attr-defined]
        return found  # type: ignore[return-value]

    return decorate
