"""The answer of a webhook to a review: JSON of another program. Rules OIDC-7 (spec/oidc.md),
AUTHZ-10 (spec/authorization.md)."""

import json
from collections.abc import Mapping
from typing import Any


class BadReview(ValueError):
    """Why the answer of the webhook cannot be used, in one line."""


def read_status(text: bytes, kind: str, api_version: str) -> Mapping[str, Any]:
    """The status of the review, which must be of this kind and version. Raises BadReview."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise BadReview("it is no JSON") from None
    head = (as_mapping(tree).get("kind"), as_mapping(tree).get("apiVersion"))
    if head != (kind, api_version):
        raise BadReview(f"it is no {kind} of {api_version}")
    return as_mapping(tree.get("status"))


def as_mapping(value: Any) -> Mapping[str, Any]:
    """An object; empty if it is missing. Raises BadReview."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadReview("a part of it is no object")
    return value


def as_text(value: Any) -> str:
    """A text without control characters; empty if it is missing. Raises BadReview."""
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise BadReview("a part of it is no text")
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Texts; none if they are missing. Raises BadReview."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadReview("a part of it is no list")
    return tuple([as_text(one) for one in value])
