"""The type of an expression, its errors, and a bound of its cost. Rules CEL-4 and CEL-5
(spec/cel.md).

Fields that a schema does not declare, functions that do not exist, and operators between types that
do not fit are errors. The cost is that of `evaluate`, for the largest values of the types. Source:
Common Expression Language specification, "Gradual Type Checking"; Kubernetes documentation, "Extend
the Kubernetes API with CustomResourceDefinitions" (Type checking, Resource use by validation
functions).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from refk8s.core.cel.problems import CelProblem, Problem
from refk8s.core.cel.signatures import FREE, SIGNATURES
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
from refk8s.core.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    REQUEST_BYTES_MAX,
    SCALARS,
    STRING,
    TIMESTAMP,
    UINT,
    Type,
    fits,
    list_of,
    map_of,
    optional_of,
)

COST_MAX = 10**18
_TYPE_NAMES = (
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
)
_ORDER = ("_<_", "_<=_", "_>_", "_>=_")
_NUMBERS = ("int", "uint", "double")
_CLOSED = (*_NUMBERS, "string", "bytes", "list")
"""Types with which an operator joins only values of the same type."""


class CelTypeError(CelProblem):
    """The expression is not well typed. The message says where and why."""


class _Mismatch(Exception):
    """An error at a node; the expressions around it are checked nevertheless."""

    def __init__(self, node: Node, why: str) -> None:
        super().__init__(why)
        self.problem = Problem(node.at, why)


@frozen
class Checked:
    """The type of an expression, and the most that its evaluation costs."""

    type: Type
    cost: int


Messages = Callable[[str], Type | None]
"""The type of a message by its name; None if there is none."""


def no_messages(name: str) -> Type | None:
    return None


def check(
    node: Node,
    variables: Mapping[str, Type],
    text: str = "",
    messages: Messages = no_messages,
) -> Checked:
    """Check an expression whose variables have these types. Raises CelTypeError with every error
    that was found; `text` is shown in it. O(size)."""
    scope = Scope(dict(variables), [], messages)
    try:
        kind, cost = _type(node, scope)
    except RecursionError:
        raise CelTypeError(text, [Problem(node.at, "expression is nested too deep")]) from None
    if scope.problems:
        raise CelTypeError(text, scope.problems)
    return Checked(kind, min(cost, COST_MAX))


@frozen
class Scope:
    """The variables at a place, and the errors found so far in the whole expression."""

    variables: dict[str, Type]
    problems: list[Problem]
    messages: Messages

    def within(self, variables: dict[str, Type]) -> Scope:
        return Scope({**self.variables, **variables}, self.problems, self.messages)


Typed = tuple[Type, int]


def _type(node: Node, scope: Scope) -> Typed:
    """The type and cost. What is wrong is noted, and its type is then dyn, so that each error is
    reported once."""
    try:
        return _typed(node, scope)
    except _Mismatch as mismatch:
        scope.problems.append(mismatch.problem)
        return DYN, 1


def _typed(node: Node, scope: Scope) -> Typed:
    match node:
        case Literal(value=value, is_unsigned=is_unsigned):
            return _of_literal(value, is_unsigned), 1
        case Identifier(name=name):
            if name in scope.variables:
                return scope.variables[name], 1
            if name in _TYPE_NAMES:
                return SCALARS["type"], 1
            raise _Mismatch(node, f"undeclared reference to '{name}' (in container '')")
        case Select():
            return _select(node, scope)
        case Call():
            return _call(node, scope)
        case Macro():
            return _macro(node, scope)
        case Message():
            return _message(node, scope)
        case ListOf(items=items, optional=optional):
            typed = [_item(one, scope, at in optional) for at, one in enumerate(items)]
            return list_of(_join([kind for kind, _ in typed]), len(items)), 1 + _sum(typed)
        case MapOf(entries=entries, optional=optional):
            keys = [_type(key, scope) for key, _ in entries]
            values = [_item(value, scope, at in optional) for at, (_, value) in enumerate(entries)]
            kind = map_of(_join([k for k, _ in keys]), _join([v for v, _ in values]), len(entries))
            return kind, 1 + _sum(keys) + _sum(values)
    raise AssertionError(f"no such node: {node}")


def _item(node: Node, scope: Scope, is_optional: bool) -> Typed:
    """The type of an item; of an optional one that of its value."""
    kind, cost = _type(node, scope)
    if not is_optional or kind.is_dyn:
        return kind, cost
    if kind.name != "optional_type":
        expected = optional_of(kind)
        raise _Mismatch(node, f"expected type '{expected}' but found '{kind}'")
    return (kind.items[0] if kind.items else DYN), cost


def _message(node: Message, scope: Scope) -> Typed:
    typed = [_item(value, scope, at in node.optional) for at, (_, value) in enumerate(node.fields)]
    kind = scope.messages(node.name)
    if kind is None:
        raise _Mismatch(node, f"undeclared reference to '{node.name}' (in container '')")
    for (name, value), (found, _) in zip(node.fields, typed, strict=True):
        if kind.fields is None:
            continue
        if name not in kind.fields:
            raise _Mismatch(value, f"undefined field '{name}'")
        if not fits(kind.fields[name], found):
            words = f"expected type of field '{name}' is '{kind.fields[name]}'"
            raise _Mismatch(value, f"{words} but provided type is '{found}'")
    return kind, 1 + _sum(typed)


def _of_literal(value: object, is_unsigned: bool) -> Type:
    match value:
        case None:
            return NULL
        case bool():
            return BOOL
        case int():
            return UINT if is_unsigned else INT
        case float():
            return DOUBLE
        case bytes():
            return Type("bytes", size=len(value))
    return Type("string", size=len(str(value)))


def _sum(typed: list[Typed]) -> int:
    return sum(cost for _, cost in typed)


def _join(kinds: list[Type]) -> Type:
    """The common type of the items of a list, else dyn."""
    if not kinds or any(not fits(kinds[0], kind) for kind in kinds):
        return DYN
    return kinds[0]


def _select(node: Select, scope: Scope) -> Typed:
    operand, cost = _type(node.operand, scope)
    is_optional = node.is_optional
    if operand.name == "optional_type":
        operand, is_optional = operand.items[0] if operand.items else DYN, True
    if operand.is_dyn:
        found = DYN
    elif operand.fields is not None:
        if node.field not in operand.fields:
            raise _Mismatch(node, f"undefined field '{node.field}'")
        found = operand.fields[node.field]
    elif operand.name.partition(".")[0] == "Object":
        found = DYN  # a message whose fields are not declared
    elif operand.name == "map":
        found = operand.items[1] if operand.items else DYN
    else:
        raise _Mismatch(node, f"type '{operand}' does not support field selection")
    if node.is_test:
        return BOOL, cost + 1
    return (optional_of(found) if is_optional else found), cost + 1


def _call(node: Call, scope: Scope) -> Typed:
    nodes = node.arguments if node.target is None else (node.target, *node.arguments)
    typed = [_type(one, scope) for one in nodes]
    kinds, cost = [kind for kind, _ in typed], 1 + _sum(typed)
    name = node.function
    if name == "_?_:_":
        _expect(node, fits(kinds[0], BOOL) and fits(kinds[1], kinds[2]), kinds)
        cost = 1 + typed[0][1] + max(typed[1][1], typed[2][1])
        return (kinds[2] if kinds[1].is_dyn or kinds[1] == NULL else kinds[1]), cost
    if name in ("_&&_", "_||_"):
        _expect(node, all(fits(kind, BOOL) for kind in kinds), kinds)
        return BOOL, cost
    if name in ("_==_", "_!=_"):
        _expect(node, fits(*kinds) or _both_numbers(kinds) or _may_be_null(kinds), kinds)
        return BOOL, cost + 2 * _deep(min(kinds, key=_deep)) // 10
    if name in ("_[_]", "_[?_]"):
        found = _index(node, kinds)
        return (optional_of(found) if name == "_[?_]" else found), cost
    if name == "@in":
        container = kinds[1]
        _expect(node, container.is_dyn or container.name in ("list", "map", "object"), kinds)
        if container.name == "list" and container.items:
            _expect(node, fits(kinds[0], container.items[0]), kinds)
        is_searched = container.name in ("list", "dyn")
        return BOOL, cost + (_deep(container) + _deep(kinds[0]) if is_searched else 0) // 10
    if name in ("!_", "-_"):
        wanted = (BOOL,) if name == "!_" else (INT, DOUBLE)
        _expect(node, any(fits(kinds[0], one) for one in wanted), kinds)
        return kinds[0], cost
    if name in _ORDER:
        ordered = ("string", "bytes", "bool", TIMESTAMP.name, DURATION.name)
        same = kinds[0].name == kinds[1].name and kinds[0].name in ordered
        is_dyn = kinds[0].is_dyn or kinds[1].is_dyn
        _expect(node, is_dyn or same or _both_numbers(kinds), kinds)
        return BOOL, cost + (min(one.size for one in kinds) // 10 if same else 0)
    if name.startswith("_") and name.endswith("_") and len(name) == 3:
        return _arithmetic(node, kinds), cost + _sizes(kinds) // 5
    return _function(node, kinds, cost)


def _expect(node: Call, condition: bool, kinds: list[Type]) -> None:
    if not condition:
        shown = ", ".join(map(str, kinds))
        words = f"found no matching overload for '{node.function}' applied to '({shown})'"
        raise _Mismatch(node, words)


def _both_numbers(kinds: list[Type]) -> bool:
    return all(kind.name in _NUMBERS or kind.is_dyn for kind in kinds)


def _may_be_null(kinds: list[Type]) -> bool:
    """Whether one is null, and the other an object or a time."""
    names = {kind.name for kind in kinds}
    return NULL.name in names and bool(names & {"object", TIMESTAMP.name, DURATION.name})


def _deep(kind: Type) -> int:
    """The most values within a value of a type."""
    if kind.name in ("string", "bytes"):
        return kind.size
    if kind.name == "list" and kind.items:
        return min(kind.size * (1 + _deep(kind.items[0])), REQUEST_BYTES_MAX)
    if kind.name == "map" and kind.items:
        return min(kind.size * (1 + _deep(kind.items[1])), REQUEST_BYTES_MAX)
    if kind.fields is not None:
        total = sum(1 + _deep(one) for one in kind.fields.values())
        return min(total, REQUEST_BYTES_MAX)
    return REQUEST_BYTES_MAX if kind.name in ("dyn", "list", "map") else 1


def _sizes(kinds: list[Type]) -> int:
    sized = ("string", "bytes", "list", "map", "dyn")
    return sum(kind.size for kind in kinds if kind.name in sized)


def _index(node: Call, kinds: list[Type]) -> Type:
    container = kinds[0]
    if container.name == "optional_type":
        container = container.items[0] if container.items else DYN
    if container.is_dyn:
        return DYN
    if container.name == "list":
        _expect(node, kinds[1].is_dyn or kinds[1].name in _NUMBERS, kinds)
        return container.items[0] if container.items else DYN
    _expect(node, container.name == "map", kinds)
    if container.items:
        _expect(node, fits(kinds[1], container.items[0]) or _both_numbers(kinds[1:]), kinds)
        return container.items[1]
    return DYN


def _arithmetic(node: Call, kinds: list[Type]) -> Type:
    one, other = kinds
    name = node.function
    if one.is_dyn or other.is_dyn:
        known = other if one.is_dyn else one
        _expect(node, name == "_+_" or known.name not in ("string", "bytes", "list"), kinds)
        return known if known.name in _CLOSED else DYN
    names = (one.name, other.name)
    if names[0] == names[1] and names[0] in _NUMBERS:
        _expect(node, name != "_%_" or names[0] != "double", kinds)
        return one
    time, span = TIMESTAMP.name, DURATION.name
    if name == "_+_":
        if names[0] == names[1] and names[0] in ("string", "bytes", "list"):
            items = (_join([*one.items, *other.items]),) if names[0] == "list" else ()
            return Type(names[0], items, size=one.size + other.size)
        if names in ((time, span), (span, time)):
            return TIMESTAMP
        _expect(node, names == (span, span), kinds)
        return DURATION
    results = {(time, time): DURATION, (time, span): TIMESTAMP, (span, span): DURATION}
    _expect(node, name == "_-_" and names in results, kinds)
    return results[names]


def _function(node: Call, kinds: list[Type], cost: int) -> Typed:
    name = node.function
    signatures = SIGNATURES.get(name)
    if signatures is None:
        raise _Mismatch(node, f"undeclared reference to '{name}' (in container '')")
    for arguments, result in signatures:
        if _takes(arguments, kinds):
            return _result(result, kinds, _sizes(kinds)), cost + _work(name, kinds)
    shown = ", ".join(map(str, kinds[1:] if node.target is not None else kinds))
    place = f"{kinds[0]}.({shown})" if node.target is not None else f"({shown})"
    words = f"found no matching overload for '{name}' applied to '{place}'"
    raise _Mismatch(node, words)


def _work(name: str, kinds: list[Type]) -> int:
    """The most work of a function: a tenth of the length of what it reads, or more."""
    if name in FREE:
        return 0
    sizes = [_sizes([kind]) for kind in kinds]
    match name:
        case "startsWith" | "endsWith":
            return sizes[1] // 10
        case "matches" | "find" | "findAll":
            return sizes[0] // 10 * max(1, sizes[1] // 4) + sizes[1]
        case "contains" | "indexOf" | "lastIndexOf":
            scanned = sizes[0] if kinds[0].name == "string" else _deep(kinds[0]) + _deep(kinds[1])
            return scanned // 10 * max(1, sizes[1] // 10) + sizes[1]
        case "sets.contains" | "sets.equivalent" | "sets.intersects" | "distinct" | "flatten":
            return sum(map(_deep, kinds)) + sum(sizes)
    return sum(sizes) // 5 + 1


def _takes(arguments: tuple[tuple[str, ...], ...], kinds: list[Type]) -> bool:
    if arguments and arguments[-1] == ("...",):
        return bool(kinds)
    if len(arguments) != len(kinds):
        return False
    return all(
        kind.is_dyn or any(one == "dyn" or _named(one) == kind.name for one in alternatives)
        for alternatives, kind in zip(arguments, kinds, strict=True)
    )


def _named(word: str) -> str:
    return SCALARS[word].name if word in SCALARS else word


def _result(word: str, kinds: list[Type], size: int) -> Type:
    outer, _, inner = word.partition("(")
    if inner:
        item = _result(inner.removesuffix(")"), kinds, size)
        return optional_of(item) if outer == "optional" else list_of(item, size)
    if word == "same":
        return kinds[0]
    if word == "item":
        return kinds[0].items[0] if kinds[0].items else DYN
    found = SCALARS[word]
    if found.name in ("string", "bytes", "list"):
        return Type(found.name, found.items, size=min(max(size, 32), REQUEST_BYTES_MAX))
    return found


def _macro(node: Macro, scope: Scope) -> Typed:
    operand, cost = _type(node.operand, scope)
    kind = node.kind
    if kind == "bind":
        made, more = _type(node.bodies[0], scope.within({node.variables[0]: operand}))
        return made, cost + more + 1
    if kind in ("optMap", "optFlatMap"):
        if not (operand.is_dyn or operand.name == "optional_type"):
            words = f"found no matching overload for '{kind}' applied to '{operand}'"
            raise _Mismatch(node, words)
        inner = operand.items[0] if operand.items else DYN
        made, more = _type(node.bodies[0], scope.within({node.variables[0]: inner}))
        return (made if kind == "optFlatMap" else optional_of(made)), cost + more + 1
    if not (operand.is_dyn or operand.name in ("list", "map")):
        words = (
            f"expression of type '{operand}' cannot be range of a comprehension (must be list, "
            "map, or dynamic)"
        )
        raise _Mismatch(node, words)
    is_map, items = operand.name == "map", operand.items
    key = (items[0] if items else DYN) if is_map else DYN if operand.is_dyn else INT
    value = DYN if not items else items[1] if is_map else items[0]
    if len(node.variables) == 2:
        inside = scope.within({node.variables[0]: key, node.variables[1]: value})
    else:
        inside = scope.within({node.variables[0]: key if is_map else value})
    typed = [_type(body, inside) for body in node.bodies]
    cost += 1 + operand.size * (1 + _sum(typed))
    conditions = typed[:-1] if kind in ("map", "transformList", "transformMap") else typed
    for condition, _ in conditions:
        if not fits(condition, BOOL):
            words = f"expected type 'bool' but found '{condition}'"
            raise _Mismatch(node.bodies[0], words)
    if kind in ("all", "exists", "exists_one", "existsOne"):
        return BOOL, cost
    if kind == "filter":
        return list_of(key if is_map else value, operand.size), cost
    if kind == "transformMap":
        return map_of(key, typed[-1][0], operand.size), cost
    return list_of(typed[-1][0], operand.size), cost


__all__ = ["BYTES", "STRING", "CelTypeError", "Checked", "check"]
