"""Which schemas are structural. Rule CRD-6 (spec/custom_resources.md).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions"
(Specifying a structural schema).
"""

from collections.abc import Iterator
from typing import Any

from refk8s.core.apiserver.validation.field import Causes, forbidden, invalid, required
from refk8s.core.apiserver.validation.rule_texts import VALIDATIONS
from refk8s.core.cel.patterns import InvalidPattern, compile_pattern

Tree = dict[str, Any]

X = "x-kubernetes-"
PRESERVE, EMBEDDED, INT_OR_STRING = (
    f"{X}preserve-unknown-fields",
    f"{X}embedded-resource",
    f"{X}int-or-string",
)
LIST_TYPE, LIST_MAP_KEYS, MAP_TYPE = f"{X}list-type", f"{X}list-map-keys", f"{X}map-type"

_ONLY_OUTSIDE = (
    "type", "title", "description", "default", "nullable", "additionalProperties",
    PRESERVE, EMBEDDED, INT_OR_STRING, LIST_TYPE, LIST_MAP_KEYS, MAP_TYPE,
)  # fmt: skip
_JUNCTORS = ("allOf", "anyOf", "oneOf")
_INTEGER_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_OF_METADATA = frozenset(("type", "properties", "default", "externalDocs", "example"))
"""What a definition may say of the metadata of its objects; the last two have no effect."""

ROOT, ITEM, FIELD = "at the root", "for specified array items", "for specified object fields"


def check_structure(schema: Tree, at: str) -> Causes:
    """The causes of a schema that is not structural."""
    causes: Causes = []
    _check(schema, at, ROOT, causes)
    _check_declared(schema, schema, at, at, causes)
    return causes


def junctors(schema: Tree, at: str) -> Iterator[tuple[str, Tree]]:
    """The schemas of allOf, anyOf, oneOf and not, with their places."""
    for key in _JUNCTORS:
        for place, one in enumerate(schema.get(key, ())):
            yield f"{at}.{key}[{place}]", one
    if "not" in schema:
        yield f"{at}.not", schema["not"]


# --- outside of junctors


def _check(schema: Tree, at: str, level: str, causes: Causes) -> None:
    """The causes of a schema outside of junctors, and of those within it."""
    kind = schema.get("type", "")
    if kind == "array" and schema.get("items") is None:
        causes.append(required(f"{at}.items", "must be specified"))
    if level == ROOT and kind and kind != "object":
        causes.append(invalid(f"{at}.type", kind, "must be object at the root"))
    if level == ROOT and schema.get("additionalProperties") is not None:
        causes.append(forbidden(f"{at}.additionalProperties", "must not be used at the root"))
    _check_extensions(schema, at, causes)
    is_known = kind or schema.get(INT_OR_STRING) or schema.get(PRESERVE)
    if not is_known and not schema.get(EMBEDDED):
        causes.append(required(f"{at}.type", f"must not be empty {level}"))
    if level == ROOT or schema.get(EMBEDDED):
        _check_shared(schema, at, causes)
    if level == ROOT and (metadata := schema.get("properties", {}).get("metadata")) is not None:
        _check_metadata(metadata, f"{at}.properties[metadata]", causes)
    for key, child in schema.get("properties", {}).items():
        _check(child, f"{at}.properties[{key}]", FIELD, causes)
    if isinstance(items := schema.get("items"), dict):
        _check(items, f"{at}.items", ITEM, causes)
    if isinstance(additional := schema.get("additionalProperties"), dict):
        _check(additional, f"{at}.additionalProperties", FIELD, causes)
    _check_values(schema, at, causes, is_outside=True)


def _check_extensions(schema: Tree, at: str, causes: Causes) -> None:
    """Which keywords the extensions of Kubernetes allow."""
    kind = schema.get("type", "")
    if schema.get(INT_OR_STRING):
        causes += [
            invalid(f"{at}.{key}", True, f"must be false if {INT_OR_STRING} is true")
            for key in (PRESERVE, EMBEDDED)
            if schema.get(key)
        ]
    if not schema.get(EMBEDDED):
        return
    if kind != "object":
        words = f"must be object if {EMBEDDED} is true"
        causes.append(invalid(f"{at}.type", kind, words) if kind else required(f"{at}.type", words))
    if schema.get("additionalProperties") is not None:
        words = f"must not be used if {EMBEDDED} is set"
        causes.append(forbidden(f"{at}.additionalProperties", words))
    if not schema.get("properties") and not schema.get(PRESERVE):
        words = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        causes.append(required(f"{at}.properties", words))


def _check_shared(schema: Tree, at: str, causes: Causes) -> None:
    """The types of kind, apiVersion and metadata, which every object has."""
    for key, kind in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
        child = schema.get("properties", {}).get(key)
        if child is not None and child.get("type", "") != kind:
            place = f"{at}.properties[{key}].type"
            causes.append(invalid(place, child.get("type", ""), f"must be {kind}"))


def _check_metadata(metadata: Tree, at: str, causes: Causes) -> None:
    """Of the metadata of objects, name and generateName may be restricted."""
    others = {key for key, value in metadata.items() if value not in (None, "", False, [], {})}
    if others - _OF_METADATA or set(metadata.get("properties", {})) - {"name", "generateName"}:
        words = (
            "must not specify anything other than name and generateName, but metadata is "
            "implicitly specified"
        )
        causes.append(forbidden(at, words))


# --- within junctors


def _check_values(schema: Tree, at: str, causes: Causes, *, is_outside: bool) -> None:
    """The junctors of a schema, and its pattern. Outside of junctors, `anyOf` may give an integer
    and a string as the types of a value; so may the `anyOf` that is first in `allOf`."""
    places = dict(junctors(schema, at))
    if is_outside and schema.get("anyOf") == _INTEGER_OR_STRING:
        places = {place: one for place, one in places.items() if ".anyOf[" not in place[len(at) :]}
    first = schema.get("allOf", [{}])[:1]
    is_typed = is_outside and bool(first) and first[0].get("anyOf") == _INTEGER_OR_STRING
    for place, one in places.items():
        if is_typed and place == f"{at}.allOf[0]":
            one = {key: value for key, value in one.items() if key != "anyOf"}
        _check_junctor(one, place, causes)
    if schema.get("pattern"):
        try:
            compile_pattern(schema["pattern"])
        except InvalidPattern as error:
            words = f"must be a valid regular expression, but isn't: {error}"
            causes.append(invalid(f"{at}.pattern", schema["pattern"], words))


def _check_junctor(schema: Tree, at: str, causes: Causes) -> None:
    """A schema within a junctor restricts values, and declares nothing."""
    for key in _ONLY_OUTSIDE:
        value = schema.get(key)
        if value is not None and (value not in ("", False, [], {}) or key == "default"):
            causes.append(forbidden(f"{at}.{key}", "must be empty to be structural"))
    if schema.get(VALIDATIONS):
        causes.append(forbidden(f"{at}.{VALIDATIONS}", "must be empty to be structural"))
    if "metadata" in schema.get("properties", {}):
        words = "must not be specified in a nested context"
        causes.append(forbidden(f"{at}.properties[metadata]", words))
    _check_values(schema, at, causes, is_outside=False)
    if isinstance(items := schema.get("items"), dict):
        _check_junctor(items, f"{at}.items", causes)
    for key, child in schema.get("properties", {}).items():
        _check_junctor(child, f"{at}.properties[{key}]", causes)


def _check_declared(
    restriction: Tree, schema: Tree | None, at: str, place: str, causes: Causes
) -> None:
    """What the junctors of the root restrict is declared outside too. `place`: of the restriction,
    `at`: of the declaration."""
    if schema is None:
        causes.append(required(at, f"because it is defined in {place}"))
        return
    for where, junctor in junctors(restriction, place):
        _check_declared(junctor, schema, at, where, causes)
    if restriction is schema:
        return
    if isinstance(items := restriction.get("items"), dict):
        declared = schema.get("items")
        inner = declared if isinstance(declared, dict) else None
        _check_declared(items, inner, f"{at}.items", f"{place}.items", causes)
    for key, child in restriction.get("properties", {}).items():
        part = f".properties[{key}]"
        known = schema.get("properties", {}).get(key)
        _check_declared(child, known, at + part, place + part, causes)
