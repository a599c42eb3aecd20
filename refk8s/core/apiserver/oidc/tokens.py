"""From a token of an issuer to a user. Rules OIDC-2 to OIDC-5 (spec/oidc.md).

Source: OpenID Connect Core 1.0 (ID Token Validation); Kubernetes documentation, "Authenticating"
(OpenID Connect Tokens; Using Authentication Configuration).
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from refk8s.core.api.user import AUTHENTICATED, User
from refk8s.core.apiserver.oidc.issuers import Attribute, Issuer, Trusted
from refk8s.core.value import Value

LEEWAY_SECONDS: Final = 300
"""How much later than this clock says a token may begin to be valid."""

UNITS_MAX: Final = 100_000
"""What the expressions of one token may cost, each."""


class Refused(ValueError):
    """The token is not one of a user. The message says why; it is for the log."""


class Token(Value, frozen=True):
    """A JSON Web Token, whose signature has not been checked."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def read_token(text: str) -> Token | None:
    """The token of a text; None if it is no JSON Web Token."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        header, claims = json.loads(_decoded(parts[0])), json.loads(_decoded(parts[1]))
        signature = _decoded(parts[2])
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        return None
    return Token(header, claims, f"{parts[0]}.{parts[1]}".encode(), signature)


def _decoded(text: str) -> bytes:
    return base64.b64decode(
        text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
    )


def user_of_token(trusted: Trusted, token: Token, seconds: int) -> User:
    """The user of a token of this issuer at this time, in seconds since 1970. Raises Refused."""
    issuer, claims = trusted.issuer, token.claims
    if token.header.get("alg") not in issuer.algorithms:
        raise Refused(f"oidc: algorithm {token.header.get('alg')!r} is not allowed")
    if not trusted.keys.is_signed(token.header, token.signed, token.signature):
        raise Refused("oidc: failed to verify signature")
    _check_times(claims, seconds)
    audiences = claims.get("aud")
    listed = audiences if isinstance(audiences, list) else [audiences]
    if not set(issuer.audiences) & {one for one in listed if isinstance(one, str)}:
        raise Refused(f"oidc: expected audience in {list(issuer.audiences)} got {listed}")
    for name, value in issuer.required:
        if claims.get(name) != value:
            raise Refused(f"oidc: required claim {name} has not the required value")
    for rule in issuer.rules:
        _require(rule.expression, {"claims": dict(claims)}, rule.message)
    user = _user_of(issuer, claims)
    shown = {
        "username": user.name,
        "uid": user.uid,
        "groups": [one for one in user.groups if one != AUTHENTICATED],
        "extra": {key: list(values) for key, values in user.extra},
    }
    for rule in issuer.user_rules:
        _require(rule.expression, {"user": shown}, rule.message)
    return user


def _check_times(claims: Mapping[str, Any], seconds: int) -> None:
    """A token ends with `exp`, which it must have, and begins with `nbf` or with its issue."""
    expiry = claims.get("exp")
    if expiry is None or not _is_number(expiry) or seconds >= expiry:
        raise Refused("oidc: token is expired")
    begin = claims.get("nbf")
    if begin is not None and (not _is_number(begin) or seconds + LEEWAY_SECONDS < begin):
        raise Refused("oidc: token is not valid yet")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _user_of(issuer: Issuer, claims: Mapping[str, Any]) -> User:
    name = _text(issuer.username, claims, "username")
    if not name:
        raise Refused("oidc: the username is empty")
    if issuer.username.claim == "email" and claims.get("email_verified", True) is not True:
        raise Refused("oidc: email not verified")
    groups = _texts(issuer.groups, claims, "groups")
    uid = _text(issuer.uid, claims, "uid") if issuer.uid != Attribute() else ""
    extra = [
        (key, found)
        for key, expression in issuer.extra
        if (found := tuple(_texts(Attribute(expression=expression), claims, key)))
    ]
    member = tuple(dict.fromkeys((*groups, AUTHENTICATED)))
    return User(name, uid, member, tuple(sorted(extra)))


def _text(attribute: Attribute, claims: Mapping[str, Any], what: str) -> str:
    if attribute.expression:
        found = _value(attribute.expression, {"claims": dict(claims)})
    else:
        found = claims.get(attribute.claim)
    if not isinstance(found, str):
        raise Refused(f"oidc: the {what} is no text")
    return attribute.prefix + found


def _texts(attribute: Attribute, claims: Mapping[str, Any], what: str) -> list[str]:
    """Several texts: a list of them, one, or none."""
    if attribute.expression:
        found = _value(attribute.expression, {"claims": dict(claims)})
    else:
        found = claims.get(attribute.claim) if attribute.claim else None
    if found is None or found == "":
        return []
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(one, str) for one in listed):
        raise Refused(f"oidc: the {what} are no texts")
    return [attribute.prefix + one for one in listed if one or not attribute.expression]


# --- expressions


def _require(text: str, values: dict[str, Any], message: str) -> None:
    if _value(text, values) is not True:
        raise Refused(f"oidc: validation expression '{text}' failed: {message}")


def _value(text: str, values: dict[str, Any]) -> Any:
    # imported here: a start without such an issuer loads no expressions
    from refk8s.core.apiserver.oidc.configuration import compiled
    from refk8s.core.cel.evaluate import Budget, evaluate
    from refk8s.core.cel.values import BudgetExceeded, CelError

    try:
        return evaluate(compiled(text), values, Budget(UNITS_MAX))
    except (CelError, BudgetExceeded) as error:
        raise Refused(f"oidc: expression '{text}' resulted in error: {error}") from None
