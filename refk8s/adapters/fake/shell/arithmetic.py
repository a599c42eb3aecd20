"""Whole numbers of 64 bits in $((...)), as a shell computes them. Rule SHELL-2."""

import ast
import operator
from collections.abc import Mapping
from typing import Any

CHARACTERS_MAX = 200


class ArithmeticProblem(Exception):
    """An expression has no value; the message is the reason."""


_BINARY: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    ast.Mod: lambda a, b: abs(a) % abs(b) * (-1 if a < 0 else 1),
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: lambda a, b: a << (b & 63),
    ast.RShift: lambda a, b: a >> (b & 63),
}
_UNARY: dict[type, Any] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: lambda a: int(not a),
    ast.Invert: operator.invert,
}
_COMPARE: dict[type, Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def compute(text: str, variables: Mapping[str, str]) -> int:
    """The value of an expression; a variable that is not a number counts as 0."""
    if len(text) > CHARACTERS_MAX:
        raise ArithmeticProblem("the expression is too long")
    text = (
        text.strip()
        .replace("&&", " and ")
        .replace("||", " or ")
        .replace("!=", "\0")
        .replace("!", " not ")
        .replace("\0", "!=")
    )
    try:
        return _value(ast.parse(text or "0", mode="eval").body, variables)
    except ZeroDivisionError:
        raise ArithmeticProblem("divide by zero") from None
    except (SyntaxError, ValueError, KeyError, RecursionError, MemoryError):
        raise ArithmeticProblem(f"syntax error in {text.strip()[:40]!r}") from None


def _value(node: ast.expr, variables: Mapping[str, str]) -> int:
    match node:
        case ast.Constant(value) if type(value) is int:
            return _wrapped(value)
        case ast.Name(name):
            value = variables.get(name, "").strip()
            digits = value[1:] if value[:1] in ("-", "+") else value
            return (
                _wrapped(int(value))
                if digits.isascii() and digits.isdigit() and len(digits) < 20
                else 0
            )
        case ast.UnaryOp(op, operand):
            value = _value(operand, variables)
            return _wrapped(_UNARY[type(op)](value))
        case ast.BinOp(left, op, right):
            return _wrapped(_BINARY[type(op)](_value(left, variables), _value(right, variables)))
        case ast.BoolOp(op, values):
            found = [bool(_value(value, variables)) for value in values]
            return int(all(found) if isinstance(op, ast.And) else any(found))
        case ast.Compare(left, [op], [right]):
            return int(_COMPARE[type(op)](_value(left, variables), _value(right, variables)))
        case ast.IfExp(test, body, orelse):
            return _value(body if _value(test, variables) else orelse, variables)
    raise ValueError(node)


def _wrapped(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
