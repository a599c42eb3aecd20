"""The question whose token it is, for a webhook, and what its answer means. Rules OIDC-7, OIDC-8
(spec/oidc.md).

The question is a TokenReview. `components/token_webhook.py` sends it and keeps the answers. Source:
Kubernetes documentation, "Authenticating" (Webhook Token Authentication).
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from refk8s.core.api.codec import encode
from refk8s.core.api.user import AUTHENTICATED, UNAUTHENTICATED, User
from refk8s.core.apiserver.review_answer import (
    BadReview,
    as_mapping,
    as_text,
    as_texts,
    read_status,
)
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
    status = read_status(text, "TokenReview", f"{GROUP}/{version}")
    audiences = as_texts(status.get("audiences")) or own
    common = tuple([one for one in wanted if one in audiences])
    if not common:
        return Checked()
    if status.get("authenticated") is not True:
        return Checked(problem=as_text(status.get("error")))
    return Checked(_user(as_mapping(status.get("user"))), common)


def _user(tree: Mapping[str, Any]) -> User:
    name = as_text(tree.get("username"))
    if not name:
        raise BadReview("the user has no name")
    groups = as_texts(tree.get("groups"))
    if UNAUTHENTICATED in groups:
        raise BadReview(f"the user is in the group {UNAUTHENTICATED}")
    if AUTHENTICATED not in groups:
        groups += (AUTHENTICATED,)
    extra = [(key, as_texts(values)) for key, values in as_mapping(tree.get("extra")).items()]
    return User(name, as_text(tree.get("uid")), groups, tuple(extra))
