"""Validation of the schemas in CustomResourceDefinitions: they must be structural. Rules CRD-6
and CRD-22 (spec/custom_resources.md).

A structural schema declares the type of every field outside of allOf, anyOf, oneOf and not, so
pruning and defaulting need no case distinctions. Source: Kubernetes documentation, "Extend the
Kubernetes API with CustomResourceDefinitions" (Specifying a structural schema).
"""

from collections.abc import Iterator
from typing import Any, Final

from refk8s.core.apiserver.custom.prune import prune
from refk8s.core.apiserver.custom.schema import Schema, compile_schema
from refk8s.core.apiserver.custom.validate import validate
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.rule_texts import VALIDATIONS, validate_rule_texts
from refk8s.core.apiserver.validation.structural import (
    EMBEDDED,
    LIST_MAP_KEYS,
    LIST_TYPE,
    MAP_TYPE,
    PRESERVE,
    check_structure,
    junctors,
)

Tree = dict[str, Any]

DEPTH_MAX: Final = 80
"""The most levels of a schema. Upstream has no bound besides that of JSON."""

NODES_MAX: Final = 20_000
"""The most schemas within one schema; each of them is applied to a value that is written."""

TYPES = ("array", "boolean", "integer", "number", "object", "string")
_UNSUPPORTED = ("$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties")
_POINTERS = ("$ref", "additionalItems", "dependencies")
"""Of these, also what is empty is refused."""
_SHARED = ("apiVersion", "kind", "metadata")


def validate_schema(schema: Tree, at: str, *, has_status: bool = False) -> Causes:
    """The causes of the schema of a version. `has_status`: the version has a status subresource."""
    if not is_bounded(schema):
        words = f"must have at most {DEPTH_MAX} levels and {NODES_MAX} schemas"
        return [invalid(at, "", words)]
    causes = _check_root(schema, at) if has_status else []
    if schema.get("nullable"):
        causes.append(forbidden(f"{at}.nullable", "nullable cannot be true at the root"))
    keywords: Causes = []
    _check_words(schema, at, keywords, is_root=True)
    if words := unreadable_part(schema):
        causes += keywords
        # as upstream, a cause of the whole schema, if there is no other
        return causes or [invalid(at, "", words)]
    structure = check_structure(schema, at)
    if not structure:
        _check_defaults(schema, at, structure, is_root=True)
    causes += structure + keywords
    return causes if structure else causes + _rules(schema, at, keywords)


def _check_root(schema: Tree, at: str) -> Causes:
    """With a status subresource, the root has few keywords: the part for the status is used on its
    own. The first cause counts."""
    if schema.keys() & _UNSUPPORTED_BEFORE_TYPE:
        return [invalid(at, schema, _ROOT_ONLY)]
    if schema.get("type", "object") != "object":
        words = (
            "only object is allowed as the type at the root of the schema if the status "
            "subresource is enabled"
        )
        return [invalid(f"{at}.type", schema.get("type"), words)]
    if any(key not in _AT_ROOT for key, value in schema.items() if value not in (None, False, "")):
        return [invalid(at, schema, _ROOT_ONLY)]
    return []


_UNSUPPORTED_BEFORE_TYPE = frozenset(("id", "$schema", "$ref"))
_AT_ROOT = frozenset(
    (
        "description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum",
        "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems",
        "multipleOf", "required", "items", "properties", "externalDocs", "example", PRESERVE, VALIDATIONS,
    )
)  # fmt: skip
_ROOT_ONLY = (
    "only some fields are allowed at the root of the schema if the status subresource is enabled"
)


def _rules(schema: Tree, at: str, keywords: Causes) -> Causes:
    """The causes of validation rules. Those of a place with a cause at it, or below it, are not
    compiled."""
    compiled = compile_schema(schema)
    if not compiled.has_rules:
        return []
    # imported here: a start without such a schema loads no expressions
    from refk8s.core.apiserver.custom.rules import check_total

    causes: Causes = []
    total = [0]
    wrong = tuple([cause.field for cause in keywords])
    _check_rules(compiled, at, causes, total, 1, wrong, is_root=True, is_correlatable=True)
    return causes + check_total(total[0], at)


def _check_words(
    schema: Tree, at: str, causes: Causes, *, is_root: bool = False, shared: str = ""
) -> None:
    """The causes of the keywords of a schema and of all within it. `shared`: the field that every
    object has, and of whose schema this one is a part."""
    _check_keywords(schema, at, causes)
    if shared and schema.get("default") is not None:
        causes.append(forbidden(f"{at}.default", f"must not be set in top-level {shared}"))
    _check_extensions(schema, at, causes)
    causes += validate_rule_texts(schema, at, is_readable=not unreadable_part(schema))
    if schema.get(PRESERVE) is False:
        causes.append(invalid(f"{at}.{PRESERVE}", False, "must be true or undefined"))
    for place, child in (*_children(schema, at), *_ignored_children(schema, at)):
        _check_words(child, place, causes, shared=shared or (_shared(at, place) if is_root else ""))


def _shared(at: str, place: str) -> str:
    """The field that every object has, if the place is its schema within that of the object."""
    return next((key for key in _SHARED if place == f"{at}.properties[{key}]"), "")


def _ignored_children(schema: Tree, at: str) -> Iterator[tuple[str, Tree]]:
    """Schemas within keywords that are refused; they are checked all the same."""
    for key in ("definitions", "dependencies"):
        for name, child in schema.get(key, {}).items():
            if isinstance(child, dict):
                yield f"{at}.{key}[{name}]", child
    if isinstance(items := schema.get("items"), list):
        for place, child in enumerate(items):
            if isinstance(child, dict):
                yield f"{at}.items[{place}]", child


def unreadable_part(schema: Tree) -> str:
    """Why this schema, or one within it, cannot be read as structural; empty if it can."""
    for key in ("$schema", *_UNSUPPORTED):
        if schema.get(key) or (key == "additionalItems" and schema.get(key) is not None):
            return f"OpenAPIV3Schema '{key.lstrip('$')}' is not supported"
    if isinstance(schema.get("items"), list):
        return "OpenAPIV3Schema 'items' must be a schema, but is an array"
    if schema.get(PRESERVE) is False:
        return f"OpenAPIV3Schema '{PRESERVE}' must be true or undefined"
    return next(
        (words for _, child in _children(schema, "") if (words := unreadable_part(child))), ""
    )


def _check_defaults(schema: Tree, at: str, causes: Causes, *, is_root: bool = False) -> None:
    """The causes of defaults outside of junctors."""
    _check_default(schema, at, causes, is_root)
    for place, child in _children(schema, at):
        if not place.endswith("]") or place.startswith(f"{at}.properties["):
            _check_defaults(child, place, causes)


def _check_rules(
    schema: Schema,
    at: str,
    causes: Causes,
    total: list[int],
    count: int,
    wrong: tuple[str, ...],
    *,
    is_root: bool = False,
    is_correlatable: bool,
) -> None:
    """The causes of validation rules (CRD-24). `count`: the most values at this place of an
    object. `wrong`: the places with causes."""
    if not schema.has_rules:
        return
    from refk8s.core.apiserver.custom.rules import check_rules, type_of

    if schema.rules and not any(place.startswith(at) for place in wrong):
        causes += check_rules(
            list(schema.rules),
            schema,
            at,
            is_root=is_root,
            is_correlatable=is_correlatable,
            count=count,
            total=total,
        )
    for key, child in schema.properties.items():
        place = f"{at}.properties[{key}]"
        _check_rules(child, place, causes, total, count, wrong, is_correlatable=is_correlatable)
    more = count * type_of(schema).size
    if isinstance(schema.additional, Schema):
        place = f"{at}.additionalProperties"
        _check_rules(
            schema.additional, place, causes, total, more, wrong, is_correlatable=is_correlatable
        )
    if schema.items is not None:
        known = is_correlatable and schema.list_type == "map"
        _check_rules(schema.items, f"{at}.items", causes, total, more, wrong, is_correlatable=known)


def is_bounded(schema: Tree) -> bool:
    """Whether the schema has few enough levels and parts. O(size), without recursion."""
    level, count = [schema], 0
    for _ in range(DEPTH_MAX):
        count += len(level)
        if count > NODES_MAX:
            return False
        level = [
            child
            for one in level
            for _, child in (*_children(one, ""), *_ignored_children(one, ""))
        ]
        if not level:
            return True
    return False


def _children(schema: Tree, at: str) -> Iterator[tuple[str, Tree]]:
    """The schemas directly within a schema, with their places."""
    for key, child in schema.get("properties", {}).items():
        yield f"{at}.properties[{key}]", child
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield f"{at}.{key}", schema[key]
    yield from junctors(schema, at)


def _check_keywords(schema: Tree, at: str, causes: Causes) -> None:
    for key in _UNSUPPORTED:
        if schema.get(key) if key not in _POINTERS else schema.get(key) is not None:
            causes.append(forbidden(f"{at}.{key}", f"{key} is not supported"))
    kind = schema.get("type", "")
    if kind == "null":
        words = "type cannot be set to null, use nullable as an alternative"
        causes.append(forbidden(f"{at}.type", words))
    elif kind and kind not in TYPES:
        causes.append(not_supported(f"{at}.type", kind, TYPES))
    if schema.get("uniqueItems"):
        words = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(forbidden(f"{at}.uniqueItems", words))
    if schema.get("additionalProperties") not in (None, True) and schema.get("properties"):
        words = "additionalProperties and properties are mutual exclusive"
        causes.append(forbidden(f"{at}.additionalProperties", words))
    items = schema.get("items")
    if isinstance(items, list):
        words = "items must be a schema object and not an array"
        causes.append(forbidden(f"{at}.items", words))


def _check_extensions(schema: Tree, at: str, causes: Causes) -> None:
    kind = schema.get("type", "")
    if (map_type := schema.get(MAP_TYPE)) is not None:
        if kind != "object":
            words = f"must be object if {MAP_TYPE} is specified"
            causes.append(
                invalid(f"{at}.type", kind, words) if kind else required(f"{at}.type", words)
            )
        if map_type not in ("atomic", "granular"):
            causes.append(not_supported(f"{at}.{MAP_TYPE}", map_type, ("atomic", "granular")))
    if schema.get(LIST_TYPE) is not None or schema.get(LIST_MAP_KEYS):
        _check_list(schema, at, causes)


def _check_list(schema: Tree, at: str, causes: Causes) -> None:
    kind, list_type = schema.get("type", ""), schema.get(LIST_TYPE)
    keys, items = schema.get(LIST_MAP_KEYS, []), schema.get("items")
    if list_type is not None:
        if kind != "array":
            words = f"must be array if {LIST_TYPE} is specified"
            causes.append(
                invalid(f"{at}.type", kind, words) if kind else required(f"{at}.type", words)
            )
        if list_type not in ("atomic", "set", "map"):
            causes.append(not_supported(f"{at}.{LIST_TYPE}", list_type, ("atomic", "map", "set")))
    if keys and list_type != "map":
        words = f"must be map if {LIST_MAP_KEYS} is non-empty"
        place = f"{at}.{LIST_TYPE}"
        causes.append(
            required(place, words) if list_type is None else invalid(place, list_type, words)
        )
    if list_type == "map":
        _check_list_map(schema, at, causes)
    if list_type in ("map", "set") and isinstance(items, dict) and items.get("nullable"):
        words = f"cannot be nullable when {LIST_TYPE} is {list_type}"
        causes.append(forbidden(f"{at}.items.nullable", words))
    if list_type == "set" and kind == "array" and isinstance(items, dict):
        words = f"must be atomic as item of a list with {LIST_TYPE}=set"
        if items.get("type") == "object" and items.get(MAP_TYPE) != "atomic":
            causes.append(invalid(f"{at}.items.{MAP_TYPE}", items.get(MAP_TYPE), words))
        if items.get("type") == "array" and items.get(LIST_TYPE, "atomic") != "atomic":
            causes.append(invalid(f"{at}.items.{LIST_TYPE}", items.get(LIST_TYPE), words))


def _check_list_map(schema: Tree, at: str, causes: Causes) -> None:
    keys, items = schema.get(LIST_MAP_KEYS, []), schema.get("items")
    if not keys:
        words = f"must not be empty if {LIST_TYPE} is map"
        causes.append(required(f"{at}.{LIST_MAP_KEYS}", words))
    if items is None:
        causes.append(required(f"{at}.items", f"must have a schema if {LIST_TYPE} is map"))
    elif not isinstance(items, dict):
        words = f"must only have a single schema if {LIST_TYPE} is map"
        causes.append(invalid(f"{at}.items", items, words))
    else:
        _check_item_keys(items, keys, at, causes)


def _check_item_keys(items: Tree, keys: list[str], at: str, causes: Causes) -> None:
    """The causes of the keys of a list of type map."""
    properties = items.get("properties", {})
    if items.get("type") != "object":
        words = f"must be object if parent array's {LIST_TYPE} is map"
        causes.append(invalid(f"{at}.items.type", items.get("type", ""), words))
    else:
        for place, key in enumerate(keys):
            kind = properties.get(key, {}).get("type")
            if key not in properties:
                words = "entries must all be names of item properties"
                causes.append(invalid(f"{at}.{LIST_MAP_KEYS}", keys, words))
            elif kind in ("array", "object"):
                words = f"must be a scalar type if parent array's {LIST_TYPE} is map"
                causes.append(invalid(f"{at}.items.properties[{key}].type", kind, words))
            if key in keys[:place]:
                words = "must not contain duplicate entries"
                causes.append(invalid(f"{at}.{LIST_MAP_KEYS}", keys, words))
    for key in keys:
        field, child = f"{at}.items.properties[{key}]", properties.get(key)
        if child is None:
            continue
        named = f"this property is in {LIST_MAP_KEYS}, so it"
        if "default" not in child and key not in items.get("required", ()):
            words = f"{named} must have a default or be a required property"
            causes.append(required(f"{field}.default", words))
        if child.get("nullable"):
            causes.append(forbidden(f"{field}.nullable", f"{named} cannot be nullable"))


def _check_default(schema: Tree, at: str, causes: Causes, is_root: bool) -> None:
    if "default" not in schema:
        return
    place, value = f"{at}.default", schema["default"]
    # the default of the root is a whole object
    compiled = compile_schema({**schema, EMBEDDED: True} if is_root else schema)
    if prune(compiled, value, defaults=False) is not value:
        causes.append(invalid(place, value, "must be pruned"))
    wrong = validate(compiled, prune(compiled, value), place)
    if not wrong and compiled.has_rules:
        # imported here: a start without such a schema loads no expressions
        from refk8s.core.apiserver.custom.rules import default_causes

        wrong = default_causes(compiled, value, place, is_root=is_root)
    causes += wrong
