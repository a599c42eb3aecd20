"""The compilation of a text to an expression of a wanted type. Rules CEL-1, CEL-4 (spec/cel.md).

Source: Kubernetes documentation, "Common Expression Language in Kubernetes".
"""

from __future__ import annotations

from collections.abc import Mapping

from refk8s.core.cel.check import CelTypeError, check
from refk8s.core.cel.syntax import CelSyntaxError, Node, parse
from refk8s.core.cel.types import Type


class InvalidExpression(ValueError):
    """The text is no expression of the wanted type. The message says why."""


def compile_text(text: str, variables: Mapping[str, Type], wanted: Type) -> tuple[Node, int]:
    """The tree of an expression of the wanted type, and the most that it costs. Raises
    InvalidExpression."""
    try:
        node = parse(text)
        checked = check(node, variables, text)
    except (CelSyntaxError, CelTypeError) as error:
        raise InvalidExpression(f"compilation failed: {error}") from None
    if checked.type.name not in (wanted.name, "dyn"):
        raise InvalidExpression(f"must evaluate to a {wanted.name}")
    return node, checked.cost
