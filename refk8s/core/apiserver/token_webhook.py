"""The question whose token it is, for a webhook, and what its answer means. Rules OIDC-7, OIDC-8
(spec/oidc.md).

The question is a TokenReview. `components/token_webhook.py` sends it and keeps the answers. Source:
Kubernetes documentation, "Authenticating" (Webhook Token Authentication).
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from refk8s.core.api.codec import encode
from refk8s.core.api.user import AUTHENTICATED, UNAUTHENTICATED, User
from refk8s.core.value import Value

GROUP: Final = "authentication.k8s.io"
VERSIONS: Final = ("v1beta1", "v1")
"""The versions in which a webhook can be asked; the default of the flag comes first, as
upstream."""


class Checked(Value, frozen=True):
    """The result of checking a token. `user` is None for a token of another audience, and for an
    invalid token, which has a `problem`."""

    user: User | None = None
    audiences: tuple[str, ...] = ()
    problem: str = ""


class ReviewedTokens(Protocol):
    """The answers of the webhook that still hold."""

    def find(self, token: str, audiences: tuple[str, ...]) -> Checked | None:
        """What the webhook said of the token for these audiences; None if it must be asked."""


class BadReview(ValueError):
    """Why the answer of the webhook cannot be used, in one line."""


def write_review(version: str, token: str, audiences: tuple[str, ...]) -> bytes:
    """The question: a TokenReview as JSON."""
    spec = {"token": token, "audiences": list(audiences)}
    return encode({"kind": "TokenReview", "apiVersion": f"{GROUP}/{version}", "spec": spec})


def read_review(
    text: bytes, version: str, wanted: tuple[str, ...], own: tuple[str, ...]
) -> Checked:
    """The result of an answer: the user of the token, for those of the `wanted` audiences that the
    webhook names. `own`: those of this API server, which count if it names none. Raises
    BadReview."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise BadReview("it is no JSON") from None
    head = (_mapping(tree).get("kind"), _mapping(tree).get("apiVersion"))
    if head != ("TokenReview", f"{GROUP}/{version}"):
        raise BadReview(f"it is no TokenReview of {GROUP}/{version}")
    status = _mapping(tree.get("status"))
    audiences = _texts(status.get("audiences")) or own
    common = tuple([one for one in wanted if one in audiences])
    if not common:
        return Checked()
    if status.get("authenticated") is not True:
        return Checked(problem=_text(status.get("error")))
    return Checked(_user(_mapping(status.get("user"))), common)


def _user(tree: Mapping[str, Any]) -> User:
    name = _text(tree.get("username"))
    if not name:
        raise BadReview("the user has no name")
    groups = _texts(tree.get("groups"))
    if UNAUTHENTICATED in groups:
        raise BadReview(f"the user is in the group {UNAUTHENTICATED}")
    if AUTHENTICATED not in groups:
        groups += (AUTHENTICATED,)
    extra = [(key, _texts(values)) for key, values in _mapping(tree.get("extra")).items()]
    return User(name, _text(tree.get("uid")), groups, tuple(extra))


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadReview("a part of it is no object")
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise BadReview("a part of it is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadReview("a part of it is no list")
    return tuple([_text(one) for one in value])
