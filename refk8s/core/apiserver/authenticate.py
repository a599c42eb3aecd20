"""Who asks: a bearer token to a user, and tokens for service accounts. Rules API-15, API-16 (spec/api.md).

A token is either one that the cluster was given (the admin's), or a signed statement (JSON Web Token, HS256) that this API server made for
a service account: whose it is, for whom and until when. Source: Kubernetes documentation, "Authenticating"; RFC 7519.
Left out: client certificates, OpenID Connect, webhooks; whether the account or pod that a token names still exists.
"""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

from refk8s.core.api.request import User
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.context import SECOND, Context, Instant
from refk8s.core.value import Value, field

AUTHENTICATED = "system:authenticated"
_HEADER = {"alg": "HS256", "typ": "JWT"}


class Config(Value, frozen=True):
    """What this API server has of its own: the key that signs tokens, its name in them, for whom they are by default; and what
    addresses and ports it gives to services."""

    token_key: bytes = b"refk8s"
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    audiences: tuple[str, ...] = ("https://kubernetes.default.svc.cluster.local",)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)


DEFAULT_CONFIG = Config()


def authenticate(
    authorization: str, users: Mapping[str, User], config: Config, now: Instant, audiences: tuple[str, ...] = ()
) -> User | None:
    """The user of an Authorization header; None for a header that names nobody (API-15).

    `users`: token -> user. `audiences`: for whom a signed token must be, if not for this API server.
    """
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if not token or scheme.lower() != "bearer":
        return None
    # The tokens are looked up in a hash table: what its timing tells is a hash and no prefix.
    if (user := users.get(token)) is not None:
        return user
    claims = read_token(token, config, now)
    if claims is None or not set(claims.get("aud", ())) & set(audiences or config.audiences):
        return None
    return _user_of(claims)


def _user_of(claims: Mapping[str, Any]) -> User:
    name = claims["sub"]
    namespace = name.split(":")[2]
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(name, claims["kubernetes.io"]["serviceaccount"]["uid"], groups)


def make_token(
    namespace: str,
    name: str,
    uid: str,
    audiences: tuple[str, ...],
    expiration_seconds: int,
    bound: Mapping[str, Any] | None,
    config: Config,
    context: Context,
) -> str:
    """A token for a service account, good for so long (API-16). `bound`: the object it is tied to, as {kind: {name, uid}}."""
    now = context.now // SECOND
    claims = {
        "aud": list(audiences),
        "exp": now + expiration_seconds,
        "iat": now,
        "iss": config.issuer,
        "jti": context.uid(),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, **(bound or {})},
        "nbf": now,
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }
    signed = f"{_encoded(_HEADER)}.{_encoded(claims)}"
    return f"{signed}.{_signature(signed, config)}"


def read_token(token: str, config: Config, now: Instant) -> dict[str, Any] | None:
    """The claims of a token that we signed and that is still good; None for any other."""
    signed, _, signature = token.rpartition(".")
    if not token.isascii() or not hmac.compare_digest(signature, _signature(signed, config)):
        return None
    payload = signed.rpartition(".")[2]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims if claims["nbf"] * SECOND <= now < claims["exp"] * SECOND else None


def _encoded(tree: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(tree, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _signature(signed: str, config: Config) -> str:
    digest = hmac.new(config.token_key, signed.encode(), "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
