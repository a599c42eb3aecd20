"""The structural schema of a custom resource, compiled from its definition. Rules CRD-6 to CRD-9
(spec/custom_resources.md).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions"
(Specifying a structural schema).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api import codec
from refk8s.core.api.custom import SHARED_KEYS, Definition
from refk8s.core.cel.patterns import Pattern, compile_pattern
from refk8s.core.value import Value, evolve, field

if TYPE_CHECKING:
    from refk8s.core.api.apiextensions_v1 import JSONSchemaProps

Tree = dict[str, Any]
SCHEMAS_MAX: Final = 512
"""How many compiled schemas are kept. A further one is compiled again when it is needed."""

JSON_PREFIX: Final = "x-kubernetes-"


class Schema(Value, frozen=True, eq=False):
    """The schema of one value. `items`, `additional` and the junctors are schemas too; an
    `additional` of True allows every value."""

    type: str = ""
    properties: Mapping[str, Schema] = field(default_factory=dict)
    additional: Schema | bool | None = None
    items: Schema | None = None
    required: tuple[str, ...] = ()
    nullable: bool = False
    enum: tuple[Any, ...] | None = None
    format: str = ""
    pattern: Pattern | None = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    min_properties: int | None = None
    max_properties: int | None = None
    all_of: tuple[Schema, ...] = ()
    any_of: tuple[Schema, ...] = ()
    one_of: tuple[Schema, ...] = ()
    not_: Schema | None = None
    default: Any = None
    is_int_or_string: bool = False
    preserves_unknown: bool = False
    is_embedded: bool = False
    list_type: str = ""
    list_map_keys: tuple[str, ...] = ()
    map_type: str = ""
    rules: tuple[Tree, ...] = ()
    has_rules: bool = False
    """Whether there are rules here or below."""


def schema_of(definition: Definition) -> Schema:
    """The compiled schema of a version; one that allows every field if it has none. O(its size) at
    the first use."""
    return _schema_of(definition)


@lru_cache(maxsize=SCHEMAS_MAX)
def _schema_of(definition: Definition) -> Schema:
    tree = tree_of(definition)
    if tree is None:
        return Schema(type="object", preserves_unknown=True)
    return compile_schema({**tree, "properties": _without_shared(tree.get("properties", {}))})


def tree_of(definition: Definition) -> Tree | None:
    """The schema of a version as it was written."""
    validation = definition.version.schema
    if validation is None or validation.open_api_v3_schema is None:
        return None
    return schema_tree(validation.open_api_v3_schema)


def schema_tree(record: JSONSchemaProps) -> Tree:
    """The tree of a schema. What is in `items` and `additionalProperties`, which may be other
    things than schemas, is normalised too. Raises DecodeError if it is not a schema."""
    tree: Tree = codec.to_tree(record)
    return _normalised(tree)


def _normalised(tree: Tree) -> Tree:
    # imported here, since few clusters have definitions when they start
    from refk8s.core.api.apiextensions_v1 import JSONSchemaProps

    for key in ("items", "additionalProperties"):
        value = tree.get(key)
        if isinstance(value, dict):
            tree[key] = _normalised(codec.to_tree(codec.decode_tolerant(JSONSchemaProps, value)[0]))
        elif value is not None and not isinstance(value, bool if key != "items" else list):
            raise codec.DecodeError("boolean or JSON schema expected")
    if not isinstance(tree.get("additionalItems", False), bool | dict):
        raise codec.DecodeError("boolean or JSON schema expected")
    # keywords that no structural schema has are read too: they must be schemas
    for key in ("properties", "patternProperties", "definitions"):
        for child in tree.get(key, {}).values():
            _normalised(child)
    raw = [tree.get("additionalItems"), *tree.get("dependencies", {}).values()]
    items = tree.get("items")
    for one in (*raw, *(items if isinstance(items, list) else ())):
        if isinstance(one, dict):
            _normalised(codec.to_tree(codec.decode_tolerant(JSONSchemaProps, one)[0]))
    for key in ("allOf", "anyOf", "oneOf"):
        for child in tree.get(key, ()):
            _normalised(child)
    if "not" in tree:
        _normalised(tree["not"])
    return tree


def _without_shared(properties: Tree) -> Tree:
    """The properties besides kind, apiVersion and metadata, which the API server checks."""
    return {key: value for key, value in properties.items() if key not in SHARED_KEYS}


def compile_schema(tree: Tree) -> Schema:
    """The schema of a JSON tree. O(size)."""
    additional = tree.get("additionalProperties")
    items = tree.get("items")
    enum = tree.get("enum")
    rules = tuple(tree.get(JSON_PREFIX + "validations", ()))
    made = _compiled(tree, additional, items, enum, rules)
    below = (*made.properties.values(), made.items, made.additional)
    has_rules = any(isinstance(one, Schema) and one.has_rules for one in below)
    return evolve(made, has_rules=True) if rules or has_rules else made


def _compiled(
    tree: Tree, additional: Any, items: Any, enum: Any, rules: tuple[Tree, ...]
) -> Schema:
    return Schema(
        type=tree.get("type", ""),
        properties={
            key: compile_schema(value) for key, value in tree.get("properties", {}).items()
        },
        additional=compile_schema(additional) if isinstance(additional, dict) else additional,
        items=compile_schema(items) if isinstance(items, dict) else None,
        required=tuple(tree.get("required", ())),
        nullable=tree.get("nullable", False),
        enum=None if enum is None else tuple(enum),
        format=tree.get("format", ""),
        pattern=compile_pattern(tree["pattern"]) if "pattern" in tree else None,
        minimum=tree.get("minimum"),
        maximum=tree.get("maximum"),
        exclusive_minimum=tree.get("exclusiveMinimum", False),
        exclusive_maximum=tree.get("exclusiveMaximum", False),
        multiple_of=tree.get("multipleOf"),
        min_length=tree.get("minLength"),
        max_length=tree.get("maxLength"),
        min_items=tree.get("minItems"),
        max_items=tree.get("maxItems"),
        min_properties=tree.get("minProperties"),
        max_properties=tree.get("maxProperties"),
        all_of=tuple(compile_schema(one) for one in tree.get("allOf", ())),
        any_of=tuple(compile_schema(one) for one in tree.get("anyOf", ())),
        one_of=tuple(compile_schema(one) for one in tree.get("oneOf", ())),
        not_=compile_schema(tree["not"]) if "not" in tree else None,
        default=tree.get("default"),
        is_int_or_string=tree.get(JSON_PREFIX + "int-or-string", False),
        preserves_unknown=tree.get(JSON_PREFIX + "preserve-unknown-fields") or False,
        is_embedded=tree.get(JSON_PREFIX + "embedded-resource", False),
        list_type=tree.get(JSON_PREFIX + "list-type") or "",
        list_map_keys=tuple(tree.get(JSON_PREFIX + "list-map-keys", ())),
        map_type=tree.get(JSON_PREFIX + "map-type") or "",
        rules=rules,
    )
