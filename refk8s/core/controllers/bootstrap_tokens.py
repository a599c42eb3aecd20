"""Bootstrap tokens: the expired ones are deleted, and cluster-info is signed with the others. Rules
TRUST-2, TRUST-3 (spec/trust.md).

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens" (token cleaner, bootstrap
signer).
"""

from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api.bootstrap_token import (
    INFO_KEY,
    INFO_NAME,
    INFO_NAMESPACE,
    SECRET_TYPE,
    SIGNATURE_PREFIX,
    SIGNING,
    expiration_of,
    read_token,
    sign_detached,
)
from refk8s.core.api.bootstrap_token import NAMESPACE as TOKENS_NAMESPACE
from refk8s.core.api.core_v1 import ConfigMap, Secret
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS, SECRETS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, key_of

INFO: Final = f"{INFO_NAMESPACE}/{INFO_NAME}"


def _is_token(secret: Secret) -> bool:
    return secret.type == SECRET_TYPE and secret.metadata.namespace == TOKENS_NAMESPACE


def _own(view: View, old: Secret | None, new: Secret | None) -> tuple[Key, ...]:
    secret = new if new is not None else old
    assert secret is not None
    return (key_of(secret),) if _is_token(secret) else ()


def _info_of_token(view: View, old: Secret | None, new: Secret | None) -> tuple[Key, ...]:
    return (INFO,) if any(each is not None and _is_token(each) for each in (old, new)) else ()


def _info(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    changed = new if new is not None else old
    return (INFO,) if key_of(changed) == INFO else ()


class TokenCleaner(Reconciler):
    """TRUST-2: deletes a bootstrap token when it has expired."""

    name = "token-cleaner-controller"
    user = service_account_user("kube-system", "token-cleaner")
    interests = (Interest(SECRETS, _own),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        secret: Secret | None = view.get(SECRETS, key)
        if secret is None or secret.metadata.deletion_timestamp is not None:
            return NOTHING
        expires_at = expiration_of(secret)

        # Decide
        if expires_at is None:
            return NOTHING
        if now < expires_at:
            return Plan(wake_at=expires_at)

        # Act
        metadata = secret.metadata
        preconditions = Preconditions(uid=metadata.uid, resource_version=metadata.resource_version)
        request = Request(
            "delete",
            SECRETS,
            metadata.namespace or "",
            metadata.name or "",
            body=DeleteOptions(preconditions=preconditions),
            because="the token has expired",
        )
        return Plan(((request,),))


class BootstrapSigner(Reconciler):
    """TRUST-3: signs cluster-info with every token for signing, and removes other signatures."""

    name = "bootstrap-signer-controller"
    user = service_account_user("kube-system", "bootstrap-signer")
    interests = (Interest(SECRETS, _info_of_token), Interest(CONFIG_MAPS, _info))
    indexes = (
        Index("bootstrap-token", SECRETS, lambda secret: ("token",) if _is_token(secret) else ()),
    )

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        info: ConfigMap | None = view.get(CONFIG_MAPS, key)
        if info is None or info.metadata.deletion_timestamp is not None:
            return NOTHING
        found = [read_token(each) for each in view.indexed(SECRETS, "bootstrap-token", "token")]
        tokens = [each for each in found if each is not None and each.is_for(SIGNING, now)]

        # Decide
        data = info.data or {}
        content = data.get(INFO_KEY)
        kept = {name: text for name, text in data.items() if not name.startswith(SIGNATURE_PREFIX)}
        signatures = {
            f"{SIGNATURE_PREFIX}{token.id}": sign_detached(content, token.id, token.secret)
            for token in tokens
            if content is not None
        }
        ends = [token.expires_at for token in tokens if token.expires_at is not None]
        wake_at = min(ends, default=None)
        if kept | signatures == data:
            return Plan(wake_at=wake_at)

        # Act
        body = replace(info, data=kept | signatures)
        request = Request(
            "update",
            CONFIG_MAPS,
            INFO_NAMESPACE,
            INFO_NAME,
            body=body,
            because=f"it is signed with {len(tokens)} bootstrap token{'s' if len(tokens) != 1 else ''}",
        )
        return Plan(((request,),), wake_at=wake_at)
