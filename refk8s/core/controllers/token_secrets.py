"""Token secrets: a Secret of the type `kubernetes.io/service-account-token` has a token of its
ServiceAccount. Rules SA-3, SA-4 (spec/workloads/service_account.md).

Source: Kubernetes documentation, "Managing Service Accounts" (manual Secret management).
Left out: a Secret for every ServiceAccount, which upstream no longer creates.
"""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from refk8s.core.api.core_v1 import Secret
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import SECRETS, SERVICE_ACCOUNTS
from refk8s.core.api.token_secret import ACCOUNT_NAME, ACCOUNT_UID, TOKEN_SECRET
from refk8s.core.api.user import component_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.service_account import CERTIFICATE_KEY
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.value import Value, evolve

EXPIRATION_SECONDS: Final = 2**32
"""The longest duration of a TokenRequest: the token is valid as long as its Secret (HTTP-19)."""
RETRY: Final = 30 * SECOND


class Known(Value, frozen=True):
    """The API server's answer about one secret: a token for it, or that its account does not exist.

    `account_uid`: the uid in the secret's annotation; empty without the annotation.
    """

    uid: str
    account_uid: str = ""
    token: str = ""
    is_lost: bool = False


Memory = Map[Key, Known]


def account_of(secret: Secret) -> tuple[Key, ...]:
    """The account that a token secret names; none for any other Secret."""
    name = (
        (secret.metadata.annotations or {}).get(ACCOUNT_NAME)
        if secret.type == TOKEN_SECRET
        else None
    )
    return (f"{secret.metadata.namespace}/{name}",) if name else ()


def _own(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    secret = new if new is not None else old
    assert secret is not None
    return (key_of(secret),) if secret.type == TOKEN_SECRET else ()


def _of_account(view: View, old: Any | None, new: Any | None) -> tuple[Key, ...]:
    account = new if new is not None else old
    return tuple([key_of(secret) for secret in view.indexed(SECRETS, "account", key_of(account))])


class TokenSecretController(Reconciler):
    """SA-3, SA-4: sets the token of a secret whose account exists, and deletes a secret whose
    account does not."""

    name = "serviceaccount-token-controller"
    user = component_user("kube-controller-manager")
    interests = (Interest(SECRETS, _own), Interest(SERVICE_ACCOUNTS, _of_account))
    indexes = (Index("account", SECRETS, account_of),)

    def __init__(self, certificate: str) -> None:
        self.certificate = b64encode(certificate.encode()).decode()

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        secret: Secret | None = view.get(SECRETS, key)
        if (
            secret is None
            or secret.metadata.deletion_timestamp is not None
            or not (named := account_of(secret))
        ):
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        metadata, annotations = secret.metadata, secret.metadata.annotations or {}
        namespace, uid = metadata.namespace or "", metadata.uid or ""
        account_uid = annotations.get(ACCOUNT_UID, "")
        known = memory.get(key)
        if known is None or (known.uid, known.account_uid) != (uid, account_uid):
            known = Known(uid, account_uid)
        account = view.get(SERVICE_ACCOUNTS, named[0])
        is_lost = account is None or account_uid not in ("", account.metadata.uid)

        # Decide
        if is_lost and not known.is_lost:
            return Plan(
                queries=(_account_query(secret),),
                memory=memory.set(key, known),
                wake_at=now + RETRY,
            )
        if not is_lost and secret.immutable:
            return NOTHING
        token = (secret.data or {}).get("token") or known.token
        if not is_lost and not token:
            return Plan(
                queries=(_token_query(secret),), memory=memory.set(key, known), wake_at=now + RETRY
            )

        # Act
        if account is None or is_lost:  # SA-4: a secret that still exists is reconciled again
            return Plan(((_deletion(secret),),), memory=memory.delete(key))
        data = self._data(secret, token)
        if data == secret.data:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        annotated = replace(
            metadata, annotations={**annotations, ACCOUNT_UID: account.metadata.uid or ""}
        )
        body = replace(secret, metadata=annotated, data=data)
        name, because = metadata.name or "", "it has no token"
        return Plan(
            ((Request("update", SECRETS, namespace, name, body=body, because=because),),)  # SA-3
        )

    def _data(self, secret: Secret, token: str) -> dict[str, str]:
        """The data of the secret with this token. Further keys, and a namespace, are kept."""
        data = dict(secret.data or {})
        data["token"] = token
        namespace = (secret.metadata.namespace or "").encode()
        data["namespace"] = data.get("namespace") or b64encode(namespace).decode()
        if self.certificate:
            data[CERTIFICATE_KEY] = self.certificate
        return data

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep the token, or whether the account exists with the uid in the view."""
        known = memory.get(key)
        if response is None or known is None:
            return memory, ()
        if request.verb == "get":
            found = response.body.metadata.uid if response.ok else ""
            is_lost = response.code == 404 or (response.ok and known.account_uid not in ("", found))
            # The account exists; when the view shows it, the secret is reconciled again.
            return memory.set(key, evolve(known, is_lost=is_lost)), (key,) if is_lost else ()
        if not response.ok:
            return memory, ()
        return memory.set(
            key, evolve(known, token=b64encode(response.body.status.token.encode()).decode())
        ), (key,)


def _account_query(secret: Secret) -> Request:
    """The view may be behind, so the account is read before the secret is deleted."""
    metadata = secret.metadata
    account = (metadata.annotations or {})[ACCOUNT_NAME]
    because = f"secret {key_of(secret)} belongs to it"
    return Request("get", SERVICE_ACCOUNTS, metadata.namespace or "", account, because=because)


def _token_query(secret: Secret) -> Request:
    """The request for a token that is bound to this secret."""
    metadata = secret.metadata
    bound = BoundObjectReference(
        kind="Secret", api_version="v1", name=metadata.name, uid=metadata.uid
    )
    spec = TokenRequestSpec(bound_object_ref=bound, expiration_seconds=EXPIRATION_SECONDS)
    return Request(
        "create",
        SERVICE_ACCOUNTS,
        metadata.namespace or "",
        (metadata.annotations or {})[ACCOUNT_NAME],
        "token",
        TokenRequest(spec=spec),
        because=f"secret {metadata.name} needs a token",
    )


def _deletion(secret: Secret) -> Request:
    metadata = secret.metadata
    preconditions = Preconditions(uid=metadata.uid, resource_version=metadata.resource_version)
    return Request(
        "delete",
        SECRETS,
        metadata.namespace or "",
        metadata.name or "",
        body=DeleteOptions(preconditions=preconditions),
        because="its ServiceAccount does not exist",
    )
