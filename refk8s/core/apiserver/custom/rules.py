"""The validation rules of schemas (x-kubernetes-validations). Rules CRD-23 to CRD-25
(spec/custom_resources.md).

A rule is an expression about the value at its place (`self`). A rule that names `oldSelf` is about
a change: it is evaluated only if there is an old value, unless `optionalOldSelf` is set. Source:
Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions" (Validation
rules); KEP-2876 "CRD Validation Expression Language".
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import Any, Final

from attrs import frozen

from refk8s.core.api.custom import CustomObject
from refk8s.core.api.json_text import equal
from refk8s.core.api.status import DUPLICATE, FORBIDDEN, INVALID, OMITTED, REQUIRED, Cause
from refk8s.core.apiserver.custom.paths import FIELD_STEP
from refk8s.core.apiserver.custom.schema import Schema
from refk8s.core.apiserver.custom.validate import ABSENT, CAUSES_MAX, by_keys, key_of
from refk8s.core.cel.environment import InvalidExpression, compile_text
from refk8s.core.cel.evaluate import Budget, evaluate
from refk8s.core.cel.syntax import (
    RESERVED,
    Call,
    Identifier,
    ListOf,
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
    REQUEST_BYTES_MAX,
    STRING,
    TIMESTAMP,
    Type,
    list_of,
    map_of,
    object_of,
    optional_of,
)
from refk8s.core.cel.values import (
    NONE,
    BudgetExceeded,
    CelError,
    Optional,
    Unordered,
    parse_duration,
    parse_time,
)

RULE_UNITS_MAX: Final = 100_000
"""What one evaluation of a rule may cost: about a tenth of a second."""

OBJECT_UNITS_MAX: Final = 300_000
"""What the rules of one object may cost together."""

RULE_COST_MAX: Final = 10_000_000
TOTAL_COST_MAX: Final = 100_000_000
"""The most that a rule, and all rules of a schema, can be estimated to cost."""

REASONS: Final = {
    "FieldValueInvalid": INVALID,
    "FieldValueForbidden": FORBIDDEN,
    "FieldValueRequired": REQUIRED,
    "FieldValueDuplicate": DUPLICATE,
}
MESSAGE_LENGTH_MAX: Final = 2_048


class InvalidMessage(InvalidExpression):
    """The rule can be evaluated, and its message expression cannot."""


@frozen(eq=False)
class Rule:
    """A rule, compiled. `is_transition`: it names oldSelf. `cost`: the most of one evaluation."""

    text: str
    node: Node
    message: str
    message_node: Node | None
    reason: str
    field_path: str
    is_transition: bool
    is_optional: bool
    cost: int


def compile_rule(tree: dict[str, Any], self_type: Type) -> Rule:
    """The rule of a tree for values of this type. Raises InvalidExpression."""
    is_optional = bool(tree.get("optionalOldSelf"))
    old_type = optional_of(self_type) if is_optional else self_type
    variables = {"self": self_type, "oldSelf": old_type}
    text = tree.get("rule") or ""
    node, cost = compile_text(text, variables, BOOL)
    message_node = None
    if expression := tree.get("messageExpression"):
        try:
            message_node, more = compile_text(expression, variables, STRING)
        except InvalidExpression as error:
            raise InvalidMessage(str(error)) from None
        cost += more
    return Rule(
        text,
        node,
        tree.get("message", ""),
        message_node,
        REASONS.get(tree.get("reason") or "", INVALID),
        tree.get("fieldPath", ""),
        _names_old(node),
        is_optional,
        cost,
    )


def _names_old(node: Node) -> bool:
    """Whether an expression names oldSelf. O(size), without recursion."""
    waiting: list[Node] = [node]
    while waiting:
        match waiting.pop():
            case Identifier(name=name):
                if name == "oldSelf":
                    return True
            case Select(operand=operand):
                waiting.append(operand)
            case Call(target=target, arguments=arguments):
                waiting += arguments if target is None else (target, *arguments)
            case ListOf(items=items):
                waiting += items
            case MapOf(entries=entries):
                waiting += [one for entry in entries for one in entry]
            case Macro(operand=operand, bodies=bodies):
                waiting += (operand, *bodies)
            case Message(fields=fields):
                waiting += [one for _, one in fields]
    return False


# --- types and values


_METADATA = object_of({"name": STRING, "generateName": STRING})
_SHARED = {"apiVersion": STRING, "kind": STRING, "metadata": _METADATA}


def escaped(key: str) -> str | None:
    """The name of a property in expressions; None if it has none."""
    if key in RESERVED:
        return f"__{key}__"
    name = key.replace("__", "__underscores__").replace(".", "__dot__")
    name = name.replace("-", "__dash__").replace("/", "__slash__")
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII) else None


def type_of(schema: Schema, *, is_root: bool = False) -> Type:
    """The type of the values of a schema, with their greatest sizes."""
    if schema.is_int_or_string:
        return DYN
    match schema.type:
        case "object":
            return _object_type(schema, is_root)
        case "array":
            items = type_of(schema.items) if schema.items is not None else DYN
            most = REQUEST_BYTES_MAX // (_least(schema.items) + 1)
            return list_of(items, schema.max_items if schema.max_items is not None else most)
        case "string":
            return _string_type(schema)
        case "integer":
            return INT
        case "number":
            return DOUBLE
        case "boolean":
            return BOOL
    return DYN


def _object_type(schema: Schema, is_root: bool) -> Type:
    if isinstance(schema.additional, Schema):
        most = REQUEST_BYTES_MAX // (_least(schema.additional) + 6)
        size = schema.max_properties if schema.max_properties is not None else most
        return map_of(STRING, type_of(schema.additional), size)
    fields = {
        name: type_of(child)
        for key, child in schema.properties.items()
        if (name := escaped(key)) is not None
    }
    return object_of({**fields, **_SHARED} if is_root or schema.is_embedded else fields)


def _string_type(schema: Schema) -> Type:
    match schema.format:
        case "byte":
            return BYTES
        case "date" | "date-time" | "datetime":
            return TIMESTAMP
        case "duration":
            return DURATION
    if schema.enum:
        return Type("string", size=max(len(str(one)) for one in schema.enum))
    if schema.max_length is not None:
        return Type("string", size=schema.max_length)
    return STRING


def _least(schema: Schema | None) -> int:
    """The fewest bytes of a value in a request."""
    if schema is None:
        return 1
    match schema.type:
        case "object":
            required = [
                schema.properties[key] for key in schema.required if key in schema.properties
            ]
            return 2 + sum(4 + _least(child) for child in required)
        case "array" | "string":
            return 2
        case "boolean":
            return 4
    return 1


def value_of(schema: Schema, value: Any, *, is_root: bool = False) -> Any:
    """A JSON value as expressions see it: properties by their escaped names, texts with a format as
    what they say. Raises CelError for a text without its format."""
    if isinstance(value, dict):
        if isinstance(schema.additional, Schema):
            additional = schema.additional
            return {key: value_of(additional, item) for key, item in value.items()}
        if schema.nullable and not schema.properties:
            return value
        found = {}
        for key, item in value.items():
            child = schema.properties.get(key)
            name = escaped(key)
            if child is not None and name is not None:
                found[name] = value_of(child, item)
        if is_root or schema.is_embedded:
            found |= {key: value[key] for key in _SHARED if key in value}
        return found
    if isinstance(value, list):
        items = schema.items
        if items is None:
            return value
        made = [value_of(items, item) for item in value]
        if schema.list_type not in ("set", "map"):
            return made
        keys = [escaped(key) or key for key in schema.list_map_keys]
        return Unordered(made, tuple(keys) if schema.list_type == "map" else None)
    if isinstance(value, str) and schema.type == "string" and schema.format:
        match schema.format:
            case "byte":
                return base64.b64decode(value)
            case "date" | "date-time" | "datetime":
                return parse_time(value)
            case "duration":
                return parse_duration(value)
    if schema.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if schema.type == "integer" and isinstance(value, float):
        return int(value)
    return value


# --- objects


@lru_cache(maxsize=4096)
def _rules_of(schema: Schema, is_root: bool) -> tuple[Rule, ...]:
    """The rules of a place of a stored definition; one that is not valid here is left out."""
    found = []
    for tree in schema.rules:
        try:
            found.append(compile_rule(tree, type_of(schema, is_root=is_root)))
        except InvalidExpression:
            continue
    return tuple(found)


def rule_causes(schema: Schema, new: CustomObject, old: CustomObject | None) -> list[Cause]:
    """The causes of the rules that an object breaks (CRD-23)."""
    if not schema.has_rules:
        return []
    before = ABSENT if old is None else _root(old)
    return _evaluated(schema, _root(new), (before,), "", is_root=True)


def default_causes(schema: Schema, value: Any, at: str, *, is_root: bool) -> list[Cause]:
    """The causes of the rules that a default breaks (CRD-6): as a new value, and as one that has
    not changed."""
    return [] if value is None else _evaluated(schema, value, (value, ABSENT), at, is_root=is_root)


def _evaluated(
    schema: Schema, value: Any, befores: tuple[Any, ...], at: str, *, is_root: bool
) -> list[Cause]:
    """The causes of a value, with each of these as the value before it, within one budget."""
    found: list[Cause] = []
    evaluation = _Evaluation(found)
    try:
        for before in befores:
            evaluation.walk(schema, value, before, at, is_root=is_root)
    except BudgetExceeded as error:
        words = (
            "validation failed due to running out of cost budget, "
            f"no further validation rules will be run: {error}"
        )
        found.append(Cause(INVALID, at or "<nil>", words, OMITTED))
    return found


def _root(obj: CustomObject) -> dict[str, Any]:
    """The object with its kind, apiVersion and the metadata that rules may read."""
    metadata = {"name": obj.metadata.name, "generateName": obj.metadata.generate_name}
    shown = {key: text for key, text in metadata.items() if text}
    return {"apiVersion": obj.api_version, "kind": obj.kind, "metadata": shown, **obj.content}


class _Evaluation:
    def __init__(self, found: list[Cause]) -> None:
        self.found = found
        self.left = OBJECT_UNITS_MAX

    def walk(
        self, schema: Schema, value: Any, old: Any, path: str, *, is_root: bool = False
    ) -> None:
        if len(self.found) >= CAUSES_MAX or not schema.has_rules:
            return
        is_same = old is not ABSENT and equal(value, old)
        if value is not None:
            for rule in _rules_of(schema, is_root):
                self.apply(rule, schema, value, old, path, is_same, is_root)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                child, at = schema.properties.get(key), f"{path}.{key}" if path else key
                if child is None and isinstance(schema.additional, Schema):
                    child, at = schema.additional, f"{path}[{key}]"
                if child is not None:
                    self.walk(child, item, before.get(key, ABSENT), at)
        elif isinstance(value, list) and schema.items is not None:
            known = by_keys(schema, old)
            for place, item in enumerate(value):
                was = ABSENT if known is None else known.get(key_of(schema, item), ABSENT)
                if is_same:
                    was = item
                self.walk(schema.items, item, was, f"{path}[{place}]")

    def apply(
        self,
        rule: Rule,
        schema: Schema,
        value: Any,
        old: Any,
        path: str,
        is_same: bool,
        is_root: bool,
    ) -> None:
        if rule.is_transition and old is ABSENT and not rule.is_optional:
            return
        if is_same and not rule.is_transition:
            return  # CRD-11
        budget = Budget(min(RULE_UNITS_MAX, self.left))
        at = path or "<nil>"
        shown = value if not isinstance(value, dict | list) else OMITTED
        try:
            variables = {"self": value_of(schema, value, is_root=is_root)}
            if rule.is_transition or rule.message_node is not None:
                variables["oldSelf"] = self.old_value(rule, schema, old, is_root)
            budget.spend(1)
            holds = evaluate(rule.node, variables, budget)
            if holds is not True:
                words = self.message(rule, variables, budget)
                reason = rule.reason
                self.found.append(
                    Cause(
                        reason, at + self.field(rule), words, shown if reason == INVALID else value
                    )
                )
        except CelError as error:
            words = f"rule evaluation error: {error}, rule: {rule.text[:200]}"
            self.found.append(Cause(INVALID, at, words, shown))
        finally:
            self.left -= min(RULE_UNITS_MAX, self.left) - max(budget.left, 0)

    def old_value(self, rule: Rule, schema: Schema, old: Any, is_root: bool) -> Any:
        if old is ABSENT:
            return NONE
        made = value_of(schema, old, is_root=is_root)
        return Optional(made, True) if rule.is_optional else made

    def message(self, rule: Rule, variables: dict[str, Any], budget: Budget) -> str:
        if rule.message_node is not None:
            try:
                text = evaluate(rule.message_node, variables, budget)
            except CelError:
                text = ""
            if isinstance(text, str) and text.strip() and "\n" not in text:
                return text.strip()[:MESSAGE_LENGTH_MAX]
        return rule.message.strip() or f"failed rule: {rule.text}"

    def field(self, rule: Rule) -> str:
        found = ""
        for name, key in FIELD_STEP.findall(rule.field_path):
            found += f".{name}" if name else f"[{key}]"
        return found


# --- definitions


def check_rules(
    tree_rules: list[dict[str, Any]],
    schema: Schema,
    at: str,
    *,
    is_root: bool,
    is_correlatable: bool,
    count: int,
    total: list[int],
) -> list[Cause]:
    """The causes of the expressions of one place of a schema (CRD-24); their texts are valid.
    `count`: the most values at this place of an object. `total` sums the estimated costs."""
    found: list[Cause] = []
    self_type = type_of(schema, is_root=is_root)
    for place, tree in enumerate(tree_rules):
        where = f"{at}.x-kubernetes-validations[{place}]"
        text = tree.get("rule", "")
        try:
            rule = compile_rule(tree, self_type)
        except InvalidMessage as error:
            found.append(Cause(INVALID, f"{where}.messageExpression", str(error), text))
            continue
        except InvalidExpression as error:
            found.append(Cause(INVALID, f"{where}.rule", str(error), text))
            continue
        if rule.is_transition and not is_correlatable:
            words = "oldSelf cannot be used on the uncorrelatable portion of the schema"
            found.append(Cause(INVALID, f"{where}.rule", words, text))
        if tree.get("optionalOldSelf") is not None and not rule.is_transition:
            words = "may not be set if oldSelf is not used in rule"
            found.append(Cause(INVALID, f"{where}.optionalOldSelf", words, rule.is_optional))
        cost = rule.cost * count
        total[0] += cost
        if cost > RULE_COST_MAX:
            found.append(
                Cause(FORBIDDEN, f"{where}.rule", _too_expensive("rule cost", cost / RULE_COST_MAX))
            )
    return found


def _too_expensive(what: str, factor: float) -> str:
    shown = "more than 100x" if factor > 100 else f"{factor:.1f}x"
    return (
        f"estimated {what} exceeds budget by factor of {shown} (try simplifying the "
        "rule, or adding "
        "maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )


def check_total(total: int, at: str) -> list[Cause]:
    """The cause of a schema whose rules cost too much together."""
    if total <= TOTAL_COST_MAX:
        return []
    what = "rule cost total for entire OpenAPIv3 schema"
    return [
        Cause(
            FORBIDDEN,
            at,
            "x-kubernetes-validations " + _too_expensive(what, total / TOTAL_COST_MAX),
        )
    ]
