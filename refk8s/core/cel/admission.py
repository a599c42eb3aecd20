"""Expressions of admission: their variables, and the texts of their errors. Rule CEL-7
(spec/cel.md).

    object, oldObject   the object after and before the operation; null where there is none
    request             who asks for what
    namespaceObject     the namespace of the object; null for a cluster-scoped one
    params              the parameter of a binding, if the policy has a kind of parameters
    variables           the policy's own variables
    authorizer          what the user may do

Source: Kubernetes documentation, "Validating Admission Policy", "Mutating Admission Policy",
"Dynamic Admission Control" (Matching requests: matchConditions).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from attrs import frozen

from refk8s.core.cel.check import CelTypeError, check, no_messages
from refk8s.core.cel.environment import InvalidExpression
from refk8s.core.cel.syntax import CelSyntaxError, Node, parse
from refk8s.core.cel.types import (
    BOOL,
    DYN,
    INT,
    NULL,
    SCALARS,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
)


def _fields(name: str, fields: Mapping[str, Type]) -> Type:
    return Type(name, fields=fields, size=len(fields))


_KIND = _fields("kubernetes.GroupVersionKind", {"group": STRING, "version": STRING, "kind": STRING})
_RESOURCE = _fields(
    "kubernetes.GroupVersionResource", {"group": STRING, "version": STRING, "resource": STRING}
)
_USER = _fields(
    "kubernetes.UserInfo",
    {
        "username": STRING,
        "uid": STRING,
        "groups": list_of(STRING),
        "extra": map_of(STRING, list_of(STRING)),
    },
)
REQUEST: Final = _fields(
    "kubernetes.AdmissionRequest",
    {
        "kind": _KIND,
        "resource": _RESOURCE,
        "subResource": STRING,
        "requestKind": _KIND,
        "requestResource": _RESOURCE,
        "requestSubResource": STRING,
        "name": STRING,
        "namespace": STRING,
        "operation": STRING,
        "userInfo": _USER,
        "dryRun": BOOL,
        "options": DYN,
    },
)
_LABELS = map_of(STRING, STRING)
_METADATA = {
    "name": STRING,
    "generateName": STRING,
    "namespace": STRING,
    "labels": _LABELS,
    "annotations": _LABELS,
    "UID": STRING,
    "creationTimestamp": TIMESTAMP,
    "deletionGracePeriodSeconds": INT,
    "deletionTimestamp": TIMESTAMP,
    "generation": INT,
    "resourceVersion": STRING,
    "finalizers": list_of(STRING),
}
_CONDITION = dict.fromkeys(("status", "type", "message", "reason"), STRING)
NAMESPACE: Final = _fields(
    "kubernetes.Namespace",
    {
        "metadata": _fields("kubernetes.NamespaceMetadata", _METADATA),
        "spec": _fields("kubernetes.NamespaceSpec", {"finalizers": list_of(STRING)}),
        "status": _fields(
            "kubernetes.NamespaceStatus",
            {
                "conditions": list_of(
                    _fields(
                        "kubernetes.NamespaceCondition",
                        {**_CONDITION, "lastTransitionTime": TIMESTAMP},
                    )
                ),
                "phase": STRING,
            },
        ),
    },
)
_AUTHORIZER = _fields(SCALARS["authorizer"].name, {"requestResource": SCALARS["resource_check"]})

OBJECT: Final = Type("Object")
JSON_PATCH: Final = _fields(
    "JSONPatch", {"op": STRING, "path": STRING, "from": STRING, "value": DYN}
)
_PATCHES = list_of(JSON_PATCH)

Variables = tuple[tuple[str, Type], ...]
"""The policy's own variables that an expression sees, with their types."""


@frozen
class Expression:
    """A compiled expression of a policy."""

    text: str
    node: Node
    type: Type


@frozen
class Environment:
    """What an expression sees besides the object and the request. `has_variables`: the policy has
    variables; `is_mutation`: it may make objects and JSON patches."""

    has_params: bool = False
    has_authorizer: bool = True
    has_variables: bool = False
    is_mutation: bool = False


MATCH_CONDITION: Final = Environment()
"""The environment of the match conditions of webhooks."""


def compile_condition(text: str, environment: Environment, variables: Variables = ()) -> Expression:
    """An expression that is true or false. Raises InvalidExpression."""
    return _compile(text, environment, variables, (BOOL,))


def compile_message(text: str, environment: Environment, variables: Variables = ()) -> Expression:
    """An expression that makes a text. Raises InvalidExpression."""
    return _compile(text, environment, variables, (STRING,))


def compile_annotation(
    text: str, environment: Environment, variables: Variables = ()
) -> Expression:
    """An expression that makes a text or null. Raises InvalidExpression."""
    return _compile(text, environment, variables, (STRING, NULL))


def compile_variable(text: str, environment: Environment, variables: Variables = ()) -> Expression:
    """An expression of any type. Raises InvalidExpression."""
    return _compile(text, environment, variables, ())


def compile_apply_configuration(
    text: str, environment: Environment, variables: Variables = ()
) -> Expression:
    """An expression that makes an Object. Raises InvalidExpression."""
    return _compile(text, environment, variables, (OBJECT,))


def compile_json_patch(
    text: str, environment: Environment, variables: Variables = ()
) -> Expression:
    """An expression that makes a list of JSONPatch. Raises InvalidExpression."""
    return _compile(text, environment, variables, (_PATCHES,))


EXPRESSIONS_MAX: Final = 2_048
"""How many compiled expressions are kept."""


@lru_cache(maxsize=EXPRESSIONS_MAX)
def _compile(
    text: str, environment: Environment, variables: Variables, wanted: tuple[Type, ...]
) -> Expression:
    messages = _mutation_message if environment.is_mutation else no_messages
    try:
        node = parse(text)
        kind = check(node, variable_types(environment, variables), text, messages).type
    except (CelSyntaxError, CelTypeError) as error:
        raise InvalidExpression(f"compilation failed: {error}") from None
    if (
        wanted
        and kind not in wanted
        and not (kind.items and kind.items[0].is_dyn and _PATCHES in wanted)
    ):
        names = [str(one) for one in wanted]
        shown = names[0] if len(names) == 1 else f"one of [{' '.join(names)}]"
        raise InvalidExpression(f"must evaluate to {shown} but got {kind}")
    return Expression(text, node, kind)


def variable_types(environment: Environment, variables: Variables) -> dict[str, Type]:
    types = {"object": DYN, "oldObject": DYN, "request": REQUEST, "namespaceObject": NAMESPACE}
    if environment.has_params:
        types["params"] = DYN
    if environment.has_authorizer:
        types["authorizer"] = _AUTHORIZER
    if environment.has_variables:
        types["variables"] = _fields("kubernetes.variables", dict(variables))
    return types


def _mutation_message(name: str) -> Type | None:
    """The type of a message that a mutation may make. The fields of an Object are checked when it
    is made."""
    if name == "JSONPatch":
        return JSON_PATCH
    return Type(name) if name == "Object" or name.startswith("Object.") else None
