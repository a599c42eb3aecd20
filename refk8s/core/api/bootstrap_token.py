"""Bootstrap tokens, and the signature of cluster-info with them. Rules TRUST-1, TRUST-3
(spec/trust.md).

A token is ID.SECRET; the Secret `bootstrap-token-ID` in kube-system has both, and what the token
may be used for. Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens"; RFC 7515
(JSON Web Signature, appendix F: detached content).
"""

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, urlsafe_b64encode
from typing import Final

from refk8s.core.api.core_v1 import Secret
from refk8s.core.context import Instant, parse_timestamp
from refk8s.core.value import Value

NAMESPACE: Final = "kube-system"
SECRET_TYPE: Final = "bootstrap.kubernetes.io/token"
SECRET_PREFIX: Final = "bootstrap-token-"
ID_KEY, SECRET_KEY, EXPIRATION_KEY = "token-id", "token-secret", "expiration"
GROUPS_KEY, DESCRIPTION_KEY = "auth-extra-groups", "description"
USAGE_PREFIX: Final = "usage-bootstrap-"
AUTHENTICATION, SIGNING = "authentication", "signing"
USER_PREFIX: Final = "system:bootstrap:"
GROUP: Final = "system:bootstrappers"

INFO_NAMESPACE, INFO_NAME, INFO_KEY = "kube-public", "cluster-info", "kubeconfig"
SIGNATURE_PREFIX: Final = "jws-kubeconfig-"

_TOKEN: Final = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})", re.ASCII)
_GROUP: Final = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]", re.ASCII)


class BootstrapToken(Value, frozen=True):
    """What the Secret of a bootstrap token says. `expires_at` is 0 if its expiration cannot be
    read, so such a token has expired; None: it does not expire."""

    id: str
    secret: str
    usages: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    expires_at: Instant | None = None
    description: str = ""

    def is_for(self, usage: str, now: Instant) -> bool:
        """Whether the token may be used for this now."""
        return usage in self.usages and not self.has_expired(now)

    def has_expired(self, now: Instant) -> bool:
        return self.expires_at is not None and now >= self.expires_at


def split_token(text: str) -> tuple[str, str]:
    """(id, secret) of a bootstrap token; ("", "") for any other text."""
    found = _TOKEN.fullmatch(text)
    return (found[1], found[2]) if found else ("", "")


def is_group(text: str) -> bool:
    """Whether a bootstrap token may have this group."""
    return _GROUP.fullmatch(text) is not None


def read_token(secret: Secret) -> BootstrapToken | None:
    """The token of a Secret; None if it is not a complete one of a bootstrap token under its own
    name. Groups that a token cannot have are kept: it does not authenticate then (TRUST-1)."""
    metadata, data = secret.metadata, secret.data or {}
    if secret.type != SECRET_TYPE or metadata.namespace != NAMESPACE:
        return None
    values = {key: _decoded(text) for key, text in data.items()}
    id, word = values.get(ID_KEY, ""), values.get(SECRET_KEY, "")
    if split_token(f"{id}.{word}") != (id, word) or metadata.name != f"{SECRET_PREFIX}{id}":
        return None
    usages = [
        key.removeprefix(USAGE_PREFIX)
        for key in sorted(values)
        if key.startswith(USAGE_PREFIX) and values[key] == "true"
    ]
    groups = [each for each in values.get(GROUPS_KEY, "").split(",") if each]
    return BootstrapToken(
        id,
        word,
        tuple(usages),
        tuple(groups),
        expiration_of(secret),
        values.get(DESCRIPTION_KEY, ""),
    )


def expiration_of(secret: Secret) -> Instant | None:
    """When the token of a Secret expires; None if it does not, and 0 if its time cannot be read."""
    text = _decoded((secret.data or {}).get(EXPIRATION_KEY, ""))
    if not text:
        return None
    try:
        return max(0, parse_timestamp(text))
    except ValueError:
        return 0


def _decoded(text: str) -> str:
    try:
        return b64decode(text).decode()
    except (binascii.Error, ValueError):
        return ""


# --- the signature of cluster-info ----------------------------------------------------------------


def sign_detached(content: str, id: str, secret: str) -> str:
    """The JSON Web Signature of the content, without the content: HEADER..SIGNATURE (HS256, with
    the token's secret as the key)."""
    header = _encoded(f'{{"alg":"HS256","kid":"{id}"}}'.encode())
    signed = f"{header}.{_encoded(content.encode())}".encode()
    return f"{header}..{_encoded(hmac.digest(secret.encode(), signed, hashlib.sha256))}"


def is_signed(content: str, signature: str, id: str, secret: str) -> bool:
    """Whether it is the signature of the content with this token. The time does not depend on how
    much of it is right."""
    return hmac.compare_digest(sign_detached(content, id, secret).encode(), signature.encode())


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
