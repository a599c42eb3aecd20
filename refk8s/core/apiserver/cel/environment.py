"""The variables of expressions about a request for admission, and the compilation of a text. Rule
MATCH-5 (spec/webhooks.md).

Source: Kubernetes documentation, "Dynamic Admission Control" (Matching requests: matchConditions),
"Common Expression Language in Kubernetes".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refk8s.core.apiserver.cel.check import CelTypeError, check
from refk8s.core.apiserver.cel.syntax import CelSyntaxError, Node, parse
from refk8s.core.apiserver.cel.types import (
    BOOL,
    DYN,
    STRING,
    Type,
    list_of,
    map_of,
    object_of,
)


class InvalidExpression(ValueError):
    """The text is no expression of the wanted type. The message says why."""


def compile_text(text: str, variables: Mapping[str, Type], wanted: Type) -> tuple[Node, int]:
    """The tree of an expression of the wanted type, and the most that it costs. Raises
    InvalidExpression."""
    try:
        node = parse(text)
        checked = check(node, variables)
    except (CelSyntaxError, CelTypeError) as error:
        raise InvalidExpression(f"compilation failed: {error}") from None
    if checked.type.name not in (wanted.name, "dyn"):
        raise InvalidExpression(f"must evaluate to a {wanted.name}")
    return node, checked.cost


_KIND: Final = object_of({"group": STRING, "version": STRING, "kind": STRING})
_RESOURCE: Final = object_of({"group": STRING, "version": STRING, "resource": STRING})
_USER: Final = object_of({
    "username": STRING, "uid": STRING, "groups": list_of(STRING),
    "extra": map_of(STRING, list_of(STRING)),
})  # fmt: skip
REQUEST: Final = object_of({
    "kind": _KIND, "resource": _RESOURCE, "subResource": STRING,
    "requestKind": _KIND, "requestResource": _RESOURCE, "requestSubResource": STRING,
    "name": STRING, "namespace": STRING, "operation": STRING, "userInfo": _USER,
    "dryRun": BOOL, "options": DYN,
})  # fmt: skip
"""The attributes of a request for admission, as the AdmissionReview has them."""

VARIABLES: Final = {"object": DYN, "oldObject": DYN, "request": REQUEST}
"""The variables of match conditions. Policies have further ones."""
