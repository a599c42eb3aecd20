"""Reads patch documents, and bounds the cost of hostile ones. Rules PATCH-3, PATCH-4
(spec/patch.md)."""

from typing import Any, TypeAlias

import msgspec

from refk8s.core.api import json_text
from refk8s.core.api.status import ApiError, bad_request

Tree: TypeAlias = dict[str, Any]
"""A JSON object as Python dicts, lists and scalars. One that was passed to a function must not be
changed."""

DEPTH_MAX = 200
"""The most levels of nesting in a patch and in its result: many more than any kind has, far fewer
than Python's stack."""


def parse(document: Any) -> Any:
    """The document as a JSON value. Raises ApiError 400 if it is invalid (PATCH-3) or nested deeper
    than DEPTH_MAX (PATCH-4)."""
    if isinstance(document, bytes | bytearray | memoryview):
        try:
            document = msgspec.json.decode(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError(bad_request(f"error decoding patch: {error}")) from None
    if is_deeper(document, DEPTH_MAX):
        raise ApiError(
            bad_request(f"error decoding patch: it is nested deeper than {DEPTH_MAX} levels")
        )
    return document


def repeated_keys(document: Any) -> tuple[str, ...]:
    """`duplicate field "..."` for each key that is repeated in the text of a patch (API-23)."""
    if not isinstance(document, bytes) or _is_plain(document):
        return ()
    try:
        tree = json_text.parse(document)
    except json_text.MalformedJson:
        return ()
    prefix = "json patch " if isinstance(tree, list) else ""
    return tuple([f'{prefix}duplicate field "{at}"' for at in json_text.repeated_fields(tree)])


def _is_plain(text: bytes) -> bool:
    """True only if no key is repeated: most patches are as short as they can be."""
    try:
        return bool(msgspec.json.encode(msgspec.json.decode(text)) == text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def as_object(document: Any) -> Tree:
    """The document of a merge patch, which must be an object. Raises ApiError 400 if it is not
    (PATCH-3)."""
    if not isinstance(document, dict):
        raise ApiError(
            bad_request(
                f"error decoding patch: a merge patch is a JSON object, not {name_of(document)}"
            )
        )
    return document


def is_deeper(value: Any, levels: int) -> bool:
    """Whether containers are nested in more than so many levels. O(size), without recursion,
    because the value may be hostile."""
    level = [value]
    for _ in range(levels + 1):
        level = [one for one in level if type(one) is dict or type(one) is list]
        if not level:
            return False
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one)]
    return True


def name_of(value: Any) -> str:
    """The JSON type of a value, with its article, for messages."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")
