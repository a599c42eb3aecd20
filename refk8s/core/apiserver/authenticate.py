"""Who asks: a client certificate or a bearer token to a user, and tokens for service accounts.
Rules API-15, API-16, HTTP-18, HTTP-19.

A token is either one that the cluster was given (the administrator's), or a signed statement (JSON
Web Token) that this API server made for a service account: whose it is, for whom, until when
and to which object it is bound. A signed token is valid while the objects that it names exist under
the same uid. Source: Kubernetes documentation, "Authenticating", "Managing Service Accounts"; RFC
7519. Left out: OpenID Connect, webhooks.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.codec import encode
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import AUTHENTICATED, User, service_account_groups
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.token_key import (
    RsaKey,
    TokenKey,
    algorithm,
    is_signed,
    key_id,
    sign_plainly,
)
from refk8s.core.context import SECOND, Context, Instant, parse_timestamp
from refk8s.core.value import Value

TOKEN_BYTES_MAX: Final = 8 << 10
"""The longest token that is looked at."""

GONE_SECONDS: Final = 60
"""How long a token stays good after its object was marked for deletion, as upstream."""


class Checked(Value, frozen=True):
    """What a token is worth. `user` is None for a token of another audience, or, with a `problem`,
    an invalid one."""

    user: User | None = None
    audiences: tuple[str, ...] = ()
    problem: str = ""


INVALID = Checked(problem="invalid bearer token")


def authenticate(
    authorization: str, config: Config, now: Instant, objects: Reader | None = None
) -> User | None:
    """The user of an Authorization header; None for a header without a valid token (API-15)."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if not token or scheme.lower() != "bearer":
        return None
    return check_token(token, config, now, objects).user


def check_token(
    token: str,
    config: Config,
    now: Instant,
    objects: Reader | None = None,
    audiences: tuple[str, ...] = (),
) -> Checked:
    """Whose token it is, and for which of the `audiences` (else the API server's) it is good
    (API-16).

    `objects`: where accounts, pods, secrets and nodes are; without it they are taken to be there.
    """
    wanted = audiences or config.audiences
    # The tokens are looked up in a hash table: what its timing tells is a hash and no prefix.
    if (user := config.users.get(token)) is not None:
        common = tuple([one for one in wanted if one in config.audiences])
        return Checked(user, common) if common else Checked()
    if len(token) > TOKEN_BYTES_MAX:
        return INVALID
    try:
        claims = read_token(token, config.token_key, config.verify)
    except ValueError:
        return INVALID
    if not claims["nbf"] * SECOND <= now < claims["exp"] * SECOND:
        late = now >= claims["exp"] * SECOND
        return Checked(
            problem=f"[invalid bearer token, service account token {'has expired' if late else 'is not valid yet'}]"
        )
    if claims["iss"] != config.issuer:
        return INVALID
    common = tuple([one for one in wanted if one in claims["aud"]])
    if not common:
        return Checked()
    if objects is not None and not _is_bound_to_what_is(claims["kubernetes.io"], now, objects):
        return Checked(problem="[invalid bearer token, service account token has been invalidated]")
    return Checked(_user_of(claims), common)


_BOUND: Final = (
    ("serviceaccount", resources.SERVICE_ACCOUNTS),
    ("pod", resources.PODS),
    ("secret", resources.SECRETS),
)


def _is_bound_to_what_is(private: Mapping[str, Any], now: Instant, objects: Reader) -> bool:
    """Whether the account and what the token is bound to are there, under their uids, and not
    deleted for a minute (HTTP-19)."""
    namespace = private["namespace"]
    for name, resource in _BOUND:
        if name in private and not _is_there(resource, namespace, private[name], now, objects):
            return False
    # A pod's node is told for information: it is the pod that the token is bound to.
    return (
        "node" not in private
        or "pod" in private
        or _is_there(resources.NODES, "", private["node"], now, objects)
    )


def _is_there(
    resource: Resource, namespace: str, named: Mapping[str, str], now: Instant, objects: Reader
) -> bool:
    record = objects.get(resource.key(namespace, named["name"]))
    if record is None or record.value.metadata.uid != named["uid"]:
        return False
    deleted = record.value.metadata.deletion_timestamp
    return deleted is None or now < parse_timestamp(deleted) + GONE_SECONDS * SECOND


def _user_of(claims: Mapping[str, Any]) -> User:
    private = claims["kubernetes.io"]
    groups = (*service_account_groups(private["namespace"]), AUTHENTICATED)
    extra = [("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",))]
    for kind in ("node", "pod"):
        if kind in private:
            extra += [
                (f"authentication.kubernetes.io/{kind}-{what}", (private[kind][what],))
                for what in ("name", "uid")
            ]
    return User(claims["sub"], private["serviceaccount"]["uid"], groups, tuple(extra))


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
    """A token for a service account, good for so long (API-16). `bound`: the object it is tied to,
    as {kind: {name, uid}}."""
    now = context.now // SECOND
    private = {
        "namespace": namespace,
        **(bound or {}),
        "serviceaccount": {"name": name, "uid": uid},
    }
    claims = {
        "aud": list(audiences),
        "exp": now + expiration_seconds,
        "iat": now,
        "iss": config.issuer,
        "jti": context.uid(),
        "kubernetes.io": dict(sorted(private.items())),
        "nbf": now,
        "sub": f"system:serviceaccount:{namespace}:{name}",
    }
    signed = f"{_encoded_header(config.token_key)}.{_encoded(claims)}".encode()
    if config.sign is not None:
        signature = config.sign(signed)
    else:
        assert isinstance(config.token_key, RsaKey), "an EC key needs Config.sign"
        signature = sign_plainly(config.token_key, signed)
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@lru_cache(maxsize=1024)
def read_token(
    token: str, key: TokenKey, verify: Callable[[bytes, bytes], bool] | None
) -> dict[str, Any]:
    """The claims of a token that this key signed; callers must not change them. ValueError for any
    other, which is not remembered: only tokens that were given out push others out."""
    signed, _, signature = token.rpartition(".")
    head, _, payload = signed.partition(".")
    try:
        # The key decides the algorithm; what the token says about it must be just that.
        if _decoded(head) != _header(key):
            raise ValueError("not for this key")
        data, mark = signed.encode("ascii"), _from_base64(signature)
        if verify is None:
            assert isinstance(key, RsaKey), "an EC key needs Config.verify"
            is_ours = is_signed(key, data, mark)
        else:
            is_ours = verify(data, mark)
        if not is_ours:
            raise ValueError("not signed by this key")
        claims = _decoded(payload)
    except (binascii.Error, UnicodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(claims, dict):
        raise ValueError("no claims")
    return claims


def _header(key: TokenKey) -> dict[str, str]:
    return {"alg": algorithm(key), "kid": key_id(key)}


@lru_cache(maxsize=8)
def _encoded_header(key: TokenKey) -> str:
    return _encoded(_header(key))


def _encoded(tree: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(encode(tree)).rstrip(b"=").decode()


def _decoded(text: str) -> Any:
    return json.loads(_from_base64(text))


def _from_base64(text: str) -> bytes:
    # Only the one way to write these bytes is taken: a token that was changed in any character is
    # another token.
    data = base64.b64decode(
        text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
    )
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("no base64url")
    return data


def user_of_subject(subject: Iterable[tuple[str, str]], certificate: bytes) -> User | None:
    """The user of a verified client certificate: common name and organizations (HTTP-18); None for
    one without a name.

    `subject`: its (attribute, value) pairs; `certificate`: the whole in DER.
    """
    pairs = list(subject)
    name = next((value for attribute, value in reversed(pairs) if attribute == "commonName"), "")
    groups = tuple([value for attribute, value in pairs if attribute == "organizationName"])
    if not name:
        return None
    extra = (
        (
            "authentication.kubernetes.io/credential-id",
            (f"X509SHA256={sha256(certificate).hexdigest()}",),
        ),
    )
    return User(name, groups=(*groups, AUTHENTICATED), extra=extra)
