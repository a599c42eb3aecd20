"""Evaluates an expression within a budget. Rules CEL-2 and CEL-3 (spec/cel.md).

Every step costs one unit, and work on texts and lists a tenth of their length. An evaluation ends
with BudgetExceeded when its budget is used up, so no expression keeps the server busy. Source:
Common Expression Language specification, "Evaluation"; Kubernetes documentation, "Common Expression
Language in Kubernetes" (Runtime cost budget).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from refk8s.core.cel.functions import FUNCTIONS
from refk8s.core.cel.signatures import FREE
from refk8s.core.cel.syntax import (
    Call,
    Identifier,
    ListOf,
    Literal,
    Macro,
    MapOf,
    Message,
    Node,
    Select,
)
from refk8s.core.cel.values import (
    NONE,
    BudgetExceeded,
    CelError,
    Duration,
    MessageValue,
    Optional,
    Timestamp,
    TypeValue,
    UInt,
    Unordered,
    type_name,
    unsigned,
    whole,
)

TYPES: Mapping[str, TypeValue] = {
    name: TypeValue(full)
    for name, full in (
        ("bool", "bool"), ("int", "int"), ("uint", "uint"), ("double", "double"),
        ("string", "string"), ("bytes", "bytes"), ("list", "list"), ("map", "map"),
        ("null_type", "null_type"), ("type", "type"),
    )
}  # fmt: skip
_NO_FIELD = object()


class Budget:
    """What an evaluation may still cost."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise BudgetExceeded("operation cancelled: actual cost limit exceeded")


def evaluate(node: Node, variables: Mapping[str, Any], budget: Budget) -> Any:
    """The value. Raises CelError if there is none, and BudgetExceeded."""
    try:
        return _Evaluation(budget).value(node, dict(variables))
    except RecursionError:
        raise CelError("expression is nested too deep") from None


class _Evaluation:
    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def value(self, node: Node, scope: dict[str, Any]) -> Any:
        self.budget.spend(1)
        kind = type(node)
        if kind is Select:
            return self.select(node, scope)  # type: ignore[arg-type]
        if kind is Identifier:
            name = node.name  # type: ignore[attr-defined]
            if name in scope:
                return scope[name]
            if name in TYPES:
                return TYPES[name]
            raise CelError(f"no such attribute(s): {name}")
        if kind is Literal:
            value = node.value  # type: ignore[attr-defined]
            return UInt(value) if node.is_unsigned else value  # type: ignore[attr-defined]
        if kind is Call:
            return self.call(node, scope)  # type: ignore[arg-type]
        if kind is Macro:
            return self.macro(node, scope)  # type: ignore[arg-type]
        if kind is ListOf:
            return self.items(node, scope)  # type: ignore[arg-type]
        if kind is Message:
            return self.message(node, scope)  # type: ignore[arg-type]
        assert isinstance(node, MapOf)
        made: dict[Any, Any] = {}
        for at, (key_node, item) in enumerate(node.entries):
            key = self.value(key_node, scope)
            if not isinstance(key, str | int):
                raise CelError("unsupported key type")
            self.put(made, key, self.value(item, scope), at in node.optional)
        return made

    def items(self, node: ListOf, scope: dict[str, Any]) -> list[Any]:
        values = [self.value(item, scope) for item in node.items]
        if not node.optional:
            return values
        made: dict[int, Any] = {}
        for at, value in enumerate(values):
            self.put(made, at, value, at in node.optional)
        return [*made.values()]

    def message(self, node: Message, scope: dict[str, Any]) -> MessageValue:
        made: dict[str, Any] = {}
        for at, (name, item) in enumerate(node.fields):
            self.put(made, name, self.value(item, scope), at in node.optional)
        return MessageValue(node.name, made)

    def put(self, made: dict[Any, Any], key: Any, value: Any, is_optional: bool) -> None:
        """Add an entry; an optional one only if it has a value."""
        if is_optional:
            if not isinstance(value, Optional):
                raise CelError(f"cannot initialize optional entry '{key}' from non-optional")
            if not value.is_present:
                return
            value = value.value
        made[key] = value

    def select(self, node: Select, scope: dict[str, Any]) -> Any:
        operand = self.value(node.operand, scope)
        is_optional = node.is_optional
        if isinstance(operand, Optional):
            if not operand.is_present:
                return False if node.is_test else NONE
            operand, is_optional = operand.value, not node.is_test
        found = operand.get(node.field, _NO_FIELD) if isinstance(operand, dict) else _NO_FIELD
        if node.is_test:
            if not isinstance(operand, dict):
                raise CelError(f"no such overload: has() on {type_name(operand)}")
            return found is not _NO_FIELD
        if is_optional:
            return NONE if found is _NO_FIELD else Optional(found, True)
        if found is _NO_FIELD:
            if not isinstance(operand, dict):
                raise CelError("no such overload")
            raise CelError(f"no such key: {node.field}")
        return found

    # --- functions

    def call(self, node: Call, scope: dict[str, Any]) -> Any:
        name, arguments = node.function, node.arguments
        if name in ("_&&_", "_||_"):
            return self.junction(name == "_||_", arguments, scope)
        if name == "_?_:_":
            condition = self.value(arguments[0], scope)
            if not isinstance(condition, bool):
                raise CelError("no such overload")
            return self.value(arguments[1 if condition else 2], scope)
        if node.target is not None:
            target = self.value(node.target, scope)
            if isinstance(target, Optional) and name in ("orValue", "or"):
                if target.is_present:
                    return target.value if name == "orValue" else target
                return self.value(arguments[0], scope)
            values = [target, *[self.value(one, scope) for one in arguments]]
        else:
            values = [self.value(one, scope) for one in arguments]
        is_free = name in FREE
        if not is_free:
            self.budget.spend(_work(name, values) // 10)
        operator = _OPERATORS.get(name)
        if operator is not None:
            result = operator(*values)
        else:
            result = self.function(name, values)
        if not is_free:
            self.budget.spend(_weight(result) // 10)
        return result

    def function(self, name: str, values: list[Any]) -> Any:
        function = FUNCTIONS.get(name)
        if function is None:
            raise CelError(f"undeclared reference to '{name}'")
        try:
            return function(*values)
        except TypeError:
            kinds = ", ".join(type_name(one) for one in values)
            raise CelError(f"no such overload: {name}({kinds})") from None
        except (ValueError, ArithmeticError, OverflowError, IndexError, AttributeError) as error:
            raise CelError(f"{name}: {str(error)[:200]}") from None

    def junction(self, is_or: bool, arguments: tuple[Node, ...], scope: dict[str, Any]) -> bool:
        """A side that decides wins over an error of the other."""
        failure: CelError | None = None
        for one in arguments:
            try:
                value = self.value(one, scope)
                if not isinstance(value, bool):
                    raise CelError("no such overload")
            except CelError as error:
                failure = error
                continue
            if value is is_or:
                return is_or
        if failure is not None:
            raise failure
        return not is_or

    # --- macros

    def macro(self, node: Macro, scope: dict[str, Any]) -> Any:
        operand = self.value(node.operand, scope)
        kind, names, bodies = node.kind, node.variables, node.bodies
        if kind == "bind":
            return self.value(bodies[0], {**scope, names[0]: operand})
        if kind in ("optMap", "optFlatMap"):
            if not isinstance(operand, Optional):
                raise CelError("no such overload")
            if not operand.is_present:
                return NONE
            made = self.value(bodies[0], {**scope, names[0]: operand.value})
            return made if kind == "optFlatMap" else Optional(made, True)
        if not isinstance(operand, list | dict):
            raise CelError("expression of type is not a list or a map")
        scope = dict(scope)
        pairs = enumerate(operand) if isinstance(operand, list) else operand.items()
        is_pair = len(names) == 2

        def bound(key: Any, item: Any, body: Node) -> Any:
            if is_pair:
                scope[names[0]], scope[names[1]] = key, item
            else:
                scope[names[0]] = item if isinstance(operand, list) else key
            return self.value(body, scope)

        if kind in ("all", "exists"):
            return self.quantified(kind == "exists", pairs, bound, bodies[0])
        if kind in ("exists_one", "existsOne"):
            return sum(bound(key, item, bodies[0]) is True for key, item in pairs) == 1
        if kind == "filter":
            return [
                item if isinstance(operand, list) else key
                for key, item in list(pairs)
                if bound(key, item, bodies[0]) is True
            ]
        if kind == "transformMap":
            return {
                key: bound(key, item, bodies[-1])
                for key, item in list(pairs)
                if len(bodies) == 1 or bound(key, item, bodies[0]) is True
            }
        return [
            bound(key, item, bodies[-1])
            for key, item in list(pairs)
            if len(bodies) == 1 or bound(key, item, bodies[0]) is True
        ]

    def quantified(
        self, is_exists: bool, pairs: Any, bound: Callable[[Any, Any, Node], Any], body: Node
    ) -> bool:
        failure: CelError | None = None
        for key, item in pairs:
            try:
                value = bound(key, item, body)
                if not isinstance(value, bool):
                    raise CelError("no such overload")
            except CelError as error:
                failure = error
                continue
            if value is is_exists:
                return is_exists
        if failure is not None:
            raise failure
        return not is_exists


SIZE_MAX = 1 << 40

_COMPARED = frozenset(
    ("@in", "indexOf", "lastIndexOf", "sets.contains", "sets.equivalent",
     "sets.intersects", "distinct", "flatten")
)  # fmt: skip
"""Functions whose work depends on all that is within their arguments."""


def _work(name: str, values: list[Any]) -> int:
    """The length of what a function reads."""
    if name == "@in" and isinstance(values[1], dict):
        return 0
    if name in ("_==_", "_!=_"):
        return 2 * _least_size(values[0], values[1])
    if name in ("startsWith", "endsWith"):
        values = values[1:]
    weigh = _size if name in _COMPARED else _weight
    return sum(map(weigh, values))


def _least_size(one: Any, other: Any) -> int:
    """The size of the smaller of two values, where a comparison ends at the latest. O(it)."""
    limit = 64
    while True:
        least = min(_size(one, limit), _size(other, limit))
        if least < limit:
            return least
        limit *= 8


def _size(value: Any, limit: int = SIZE_MAX) -> int:
    """The number of values and characters within a value, counted up to a limit. O(it)."""
    count, waiting = 0, [value]
    while waiting and count < limit:
        one = waiting.pop()
        count += 1 + (len(one) if isinstance(one, str | bytes) else 0)
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
    return count


def _weight(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | dict) else 0


# --- operators


def equals(one: Any, other: Any) -> bool:
    """Equality of values: numbers by value, other types only with their own."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    if isinstance(one, Unordered) and isinstance(other, Unordered):
        return len(one) == len(other) and _unordered(one) == _unordered(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equals, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        if type(one) is MessageValue and one.name != other.name:
            return False
        return one.keys() == other.keys() and all(equals(one[key], other[key]) for key in one)
    return bool(one == other)


def _unordered(values: list[Any]) -> list[Any]:
    """The items in an order that depends only on their values. O(n log n)."""
    return sorted(map(_ordered_key, values))


def _ordered_key(value: Any) -> tuple[Any, ...]:
    """A key that is equal for equal values. Its first part tells types apart, so all keys can be
    compared."""
    if isinstance(value, dict):
        return ("map", tuple(sorted((str(key), _ordered_key(one)) for key, one in value.items())))
    if isinstance(value, Unordered):
        return ("list", tuple(_unordered(value)))
    if isinstance(value, list):
        return ("list", tuple(map(_ordered_key, value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value)
    return (type_name(value), value if isinstance(value, str | bytes) else repr(value))


def _no_overload(name: str, *values: Any) -> CelError:
    kinds = ", ".join(type_name(one) for one in values)
    return CelError(f"no such overload: {name} applied to ({kinds})")


def _arithmetic(name: str, one: Any, other: Any) -> Any:
    kind = type(one)
    if kind is not type(other) or kind not in (int, UInt, float):
        raise _no_overload(name, one, other)
    if kind is float:
        return _float_arithmetic(name, one, other)
    if name in ("_/_", "_%_"):
        if other == 0:
            raise CelError("division by zero" if name == "_/_" else "modulus by zero")
        quotient = abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
        result = quotient if name == "_/_" else one - quotient * other
    else:
        result = {"_+_": one + other, "_-_": one - other, "_*_": one * other}[name]
    return unsigned(result) if kind is UInt else whole(result)


def _float_arithmetic(name: str, one: float, other: float) -> float:
    try:
        match name:
            case "_+_":
                return one + other
            case "_-_":
                return one - other
            case "_*_":
                return one * other
            case "_/_":
                if other == 0:
                    return math.nan if one == 0 or math.isnan(one) else math.copysign(math.inf, one)
                return one / other
    except OverflowError:
        return math.inf
    raise _no_overload(name, one, other)


def add(one: Any, other: Any) -> Any:
    kinds = (type(one), type(other))
    if kinds in ((str, str), (bytes, bytes)):
        return one + other
    if isinstance(one, Unordered) and isinstance(other, list):
        return _joined(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *other]
    try:
        if kinds == (Timestamp, Duration):
            return Timestamp(one.moment + other.span)
        if kinds == (Duration, Timestamp):
            return Timestamp(other.moment + one.span)
        if kinds == (Duration, Duration):
            return Duration(one.span + other.span)
    except OverflowError:
        raise CelError("timestamp overflow") from None
    return _arithmetic("_+_", one, other)


def _joined(one: Unordered, other: list[Any]) -> Unordered:
    """A set or a list of type map with the items of another list: an item of the other one takes
    the place of the item with the same keys, and new ones follow. O(n log n) in all that is
    within."""
    found: dict[Any, Any] = {}
    for item in (*one, *other):
        identity = item if one.keys is None else [item.get(key) for key in one.keys]
        found[_ordered_key(identity)] = item
    return Unordered(found.values(), one.keys)


def _subtract(one: Any, other: Any) -> Any:
    kinds = (type(one), type(other))
    try:
        if kinds == (Timestamp, Timestamp):
            return Duration(one.moment - other.moment)
        if kinds == (Timestamp, Duration):
            return Timestamp(one.moment - other.span)
        if kinds == (Duration, Duration):
            return Duration(one.span - other.span)
    except OverflowError:
        raise CelError("timestamp overflow") from None
    return _arithmetic("_-_", one, other)


def _ordered(name: str, compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def operator(one: Any, other: Any) -> bool:
        numbers = (int, UInt, float)
        same = type(one) is type(other) and type(one) in (str, bytes, bool, Timestamp, Duration)
        if not same and not (type(one) in numbers and type(other) in numbers):
            raise _no_overload(name, one, other)
        return compare(one, other)

    return operator


def _index(container: Any, key: Any) -> Any:
    if isinstance(container, Optional):
        return _optional_index(container, key)
    if isinstance(container, list):
        if isinstance(key, bool) or not isinstance(key, int | float) or key != int(key):
            raise _no_overload("_[_]", container, key)
        if not 0 <= key < len(container):
            raise CelError(f"index out of bounds: {int(key)}")
        return container[int(key)]
    if not isinstance(container, dict):
        raise _no_overload("_[_]", container, key)
    if isinstance(key, list | dict):
        raise CelError(f"no such key: {key}")
    try:
        return container[key]
    except KeyError:
        raise CelError(f"no such key: {key}") from None


def _optional_index(container: Any, key: Any) -> Optional:
    if isinstance(container, Optional):
        if not container.is_present:
            return NONE
        container = container.value
    try:
        return Optional(_index(container, key), True)
    except CelError as error:
        if "overload" in str(error):
            raise
        return NONE


def _contains(item: Any, container: Any) -> bool:
    if isinstance(container, dict):
        return not isinstance(item, list | dict) and item in container
    if isinstance(container, list):
        return any(equals(item, one) for one in container)
    raise _no_overload("@in", item, container)


def _negate(value: Any) -> Any:
    if type(value) is int:
        return whole(-value)
    if type(value) is float:
        return -value
    raise _no_overload("-_", value)


def _not(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _no_overload("!_", value)
    return not value


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "_+_": add,
    "_-_": _subtract,
    "_*_": lambda one, other: _arithmetic("_*_", one, other),
    "_/_": lambda one, other: _arithmetic("_/_", one, other),
    "_%_": lambda one, other: _arithmetic("_%_", one, other),
    "_==_": equals,
    "_!=_": lambda one, other: not equals(one, other),
    "_<_": _ordered("_<_", lambda one, other: one < other),
    "_<=_": _ordered("_<=_", lambda one, other: one <= other),
    "_>_": _ordered("_>_", lambda one, other: one > other),
    "_>=_": _ordered("_>=_", lambda one, other: one >= other),
    "_[_]": _index,
    "_[?_]": _optional_index,
    "@in": _contains,
    "-_": _negate,
    "!_": _not,
}

__all__ = ["TYPES", "Budget", "add", "equals", "evaluate"]
