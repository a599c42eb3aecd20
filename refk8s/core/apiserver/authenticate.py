"""Authentication by client certificate or bearer token, and tokens of service accounts. Rules
API-15, API-16, HTTP-18, HTTP-19.

A token is one of the configuration (the administrator's), a bootstrap token (TRUST-1), or a JSON
Web Token that this API server has signed for a service account. Its claims are the account, the
audiences, the lifetime and the object that it is bound to. It is valid while the objects that it
names exist with the same uid. Source: Kubernetes documentation, "Authenticating", "Managing Service
Accounts"; RFC 7519. Tokens of other issuers are those of OpenID Connect (oidc/), and those that a
webhook knows (token_webhook.py).
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from refk8s.core.api import bootstrap_token, resources
from refk8s.core.api.bootstrap_token import split_token
from refk8s.core.api.codec import encode
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import AUTHENTICATED, User, service_account_groups
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.legacy_tokens import LegacyUse, legacy_use, why_invalid
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.token_key import (
    PublicKey,
    RsaKey,
    TokenKey,
    algorithm,
    is_signed,
    key_id,
    sign_plainly,
)
from refk8s.core.apiserver.token_webhook import Checked
from refk8s.core.context import SECOND, Context, Instant, parse_timestamp

TOKEN_BYTES_MAX: Final = 8 << 10
"""The longest token that is examined."""

GONE_SECONDS: Final = 60
"""How long a token stays valid after its object was marked for deletion, as upstream."""


INVALID = Checked(problem="invalid bearer token")


def authenticate(
    authorization: str, config: Config, now: Instant, objects: Reader | None = None
) -> User | None:
    """The user of an Authorization header; None for a header without a valid token (API-15)."""
    token = token_of(authorization)
    if not token:
        return None
    if config.audiences and (user := config.users.get(token)) is not None:
        return user  # as `check_token`, at a third of its cost
    return check_token(token, config, now, objects).user


def token_of(authorization: str) -> str:
    """The bearer token of an Authorization header; empty if it has none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_token(
    token: str,
    config: Config,
    now: Instant,
    objects: Reader | None = None,
    audiences: tuple[str, ...] = (),
) -> Checked:
    """The user of a token, and for which of the `audiences` (default: the API server's) it is valid
    (API-16). `objects`: the store with accounts, pods, secrets and nodes; without it they are
    assumed to exist. A token that nothing else accepts is one that the webhook knows, if there is
    one (OIDC-7)."""
    wanted = audiences or config.audiences
    found = _check_own(token, config, now, objects, wanted)
    if found.user is None and config.webhook is not None and len(token) <= TOKEN_BYTES_MAX:
        reviewed = config.webhook.find(token, wanted)
        if reviewed is not None and (reviewed.user is not None or not found.problem):
            return reviewed
    return found


def _check_own(
    token: str,
    config: Config,
    now: Instant,
    objects: Reader | None,
    wanted: tuple[str, ...],
) -> Checked:
    """The same of the tokens that this API server can check itself."""
    # The tokens are looked up in a hash table, so the time of the look-up depends on a hash and
    # does not reveal a prefix of a token.
    if (user := config.users.get(token)) is not None:
        common = tuple([one for one in wanted if one in config.audiences])
        return Checked(user, common) if common else Checked()
    if len(token) > TOKEN_BYTES_MAX:
        return INVALID
    id, secret = split_token(token)
    if id:
        return _check_bootstrap_token(id, secret, config, now, objects, wanted)
    if config.issuers and (found := _check_issued(token, config, now, wanted)) is not None:
        return found
    try:
        claims = _read_token(token, config)
    except ValueError:
        return INVALID
    if not claims["nbf"] * SECOND <= now < claims["exp"] * SECOND:
        late = now >= claims["exp"] * SECOND
        return Checked(
            problem=(
                "[invalid bearer token, service account token "
                f"{'has expired' if late else 'is not valid yet'}]"
            )
        )
    if claims["iss"] != config.issuer:
        return INVALID
    common = tuple([one for one in wanted if one in claims["aud"]])
    if not common:
        return Checked()
    private = claims["kubernetes.io"]
    if objects is not None and not _bound_objects_exist(private, now, objects):
        return Checked(problem="[invalid bearer token, service account token has been invalidated]")
    if objects is not None and (problem := _why_secret_is_invalid(token, private, objects)):
        return Checked(problem=f"[invalid bearer token, {problem}]")
    return Checked(_user_of(claims), common)


def _why_secret_is_invalid(token: str, private: Mapping[str, Any], objects: Reader) -> str:
    """SA-8: why the token of a Secret is refused; empty for every other token."""
    use = legacy_use(token, private, objects)
    return "" if use is None else why_invalid(use, private["serviceaccount"]["name"])


def legacy_use_of(
    authorization: str, config: Config, objects: Reader, *, is_refused: bool
) -> LegacyUse | None:
    """The use of a token secret, valid or refused, by an Authorization header (SA-6). A refused
    token is only verified if a Secret has it, so a forged one costs one verification in all."""
    token = token_of(authorization)
    if not token or len(token) > TOKEN_BYTES_MAX or token in config.users:
        return None
    if is_refused and not _may_be_of_secret(token, objects):
        return None
    try:
        claims = _read_token(token, config)
    except ValueError:
        return None
    if claims["iss"] != config.issuer:
        return None
    return legacy_use(token, claims["kubernetes.io"], objects)


def _may_be_of_secret(token: str, objects: Reader) -> bool:
    """Whether the Secret that the token names has it. Its claims may be forged."""
    try:
        claims = _decoded(token.split(".")[1])
        return legacy_use(token, claims["kubernetes.io"], objects) is not None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _read_token(token: str, config: Config) -> dict[str, Any]:
    """The claims of a token that the key of the cluster signed, or an earlier one (HTTP-30). Raises
    ValueError."""
    try:
        return read_token(token, config.token_key, config.verify)
    except ValueError:
        for key in config.earlier_keys:
            try:
                return read_token(token, key, key.verify)
            except ValueError:
                continue
        raise


def _check_issued(
    token: str, config: Config, now: Instant, wanted: tuple[str, ...]
) -> Checked | None:
    """The user of a token of a configured issuer (OIDC-2); None for a token of another one."""
    # imported here: a start without such an issuer does not load it
    from refk8s.core.apiserver.oidc import tokens as oidc

    issued = oidc.read_token(token)
    issuer = None if issued is None else issued.claims.get("iss")
    trusted = config.issuers.get(issuer) if isinstance(issuer, str) else None
    if issued is None or trusted is None:
        return None
    try:
        user = oidc.user_of_token(trusted, issued, now // SECOND)
    except oidc.Refused as refused:
        return Checked(problem=f"[invalid bearer token, {refused}]")
    common = tuple([one for one in wanted if one in config.audiences])
    return Checked(user, common) if common else Checked()


def _check_bootstrap_token(
    id: str,
    secret: str,
    config: Config,
    now: Instant,
    objects: Reader | None,
    wanted: tuple[str, ...],
) -> Checked:
    """The user of a bootstrap token while its Secret allows it (TRUST-1)."""
    key = resources.SECRETS.key(bootstrap_token.NAMESPACE, f"{bootstrap_token.SECRET_PREFIX}{id}")
    record = None if objects is None else objects.get(key)
    if record is None or record.value.metadata.deletion_timestamp is not None:
        return INVALID
    known = bootstrap_token.read_token(record.value)
    if (
        known is None
        or not compare_digest(known.secret, secret)
        or not known.is_for(bootstrap_token.AUTHENTICATION, now)
        or not all(bootstrap_token.is_group(group) for group in known.groups)
    ):
        return INVALID
    common = tuple([one for one in wanted if one in config.audiences])
    if not common:
        return Checked()
    groups = tuple(dict.fromkeys((*sorted(known.groups), bootstrap_token.GROUP, AUTHENTICATED)))
    return Checked(User(f"{bootstrap_token.USER_PREFIX}{id}", groups=groups), common)


_BOUND: Final = (
    ("serviceaccount", resources.SERVICE_ACCOUNTS),
    ("pod", resources.PODS),
    ("secret", resources.SECRETS),
)


def _bound_objects_exist(private: Mapping[str, Any], now: Instant, objects: Reader) -> bool:
    """Whether the account and the objects to which the token is bound exist with their uids, and
    were not marked for deletion more than a minute ago (HTTP-19)."""
    namespace = private["namespace"]
    for name, resource in _BOUND:
        if name in private and not _exists(resource, namespace, private[name], now, objects):
            return False
    # The node of a pod is only information: the token is bound to the pod.
    return (
        "node" not in private
        or "pod" in private
        or _exists(resources.NODES, "", private["node"], now, objects)
    )


def _exists(
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
    """A token for a service account with this lifetime (API-16). `bound`: the object that it is
    bound to, as {kind: {name, uid}}."""
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
    token: str, key: TokenKey | PublicKey, verify: Callable[[bytes, bytes], bool] | None
) -> dict[str, Any]:
    """The claims of a token that this key signed; callers must not change them. Raises ValueError
    for any other token. Failures are not cached, so only valid tokens displace others from the
    cache."""
    signed, _, signature = token.rpartition(".")
    head, _, payload = signed.partition(".")
    try:
        # The key decides the algorithm; the header of the token must name the same one.
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


def _header(key: TokenKey | PublicKey) -> dict[str, str]:
    if isinstance(key, PublicKey):
        return {"alg": key.algorithm, "kid": key.id}
    return {"alg": algorithm(key), "kid": key_id(key)}


@lru_cache(maxsize=8)
def _encoded_header(key: TokenKey) -> str:
    return _encoded(_header(key))


def _encoded(tree: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(encode(tree)).rstrip(b"=").decode()


def _decoded(text: str) -> Any:
    return json.loads(_from_base64(text))


def _from_base64(text: str) -> bytes:
    # Only the canonical encoding of these bytes is accepted, so a token with any changed character
    # is invalid.
    data = base64.b64decode(
        text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
    )
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("no base64url")
    return data


def user_of_subject(subject: Iterable[tuple[str, str]], certificate: bytes) -> User | None:
    """The user of a verified client certificate: common name and organizations (HTTP-18); None
    without a common name. `subject`: its (attribute, value) pairs; `certificate`: the whole
    certificate in DER."""
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
