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
from refk8s.core.api.user import component_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.service_account import CERTIFICATE_KEY
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.value import Value, evolve

TOKEN_SECRET: Final = "kubernetes.io/service-account-token"
ACCOUNT_NAME: Final = "kubernetes.io/service-account.name"
ACCOUNT_UID: Final = "kubernetes.io/service-account.uid"
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
        # The view may be behind, so the account is read before the secret is deleted.
        if is_lost and not known.is_lost:
            question = Request(
                "get",
                SERVICE_ACCOUNTS,
                namespace,
                annotations[ACCOUNT_NAME],
                because=f"secret {key} belongs to it",
            )
            return Plan(queries=(question,), memory=memory.set(key, known), wake_at=now + RETRY)
        data = dict(secret.data or {})
        if not is_lost:
            if secret.immutable:
                return NOTHING
            if not data.get("token") and not known.token:
                return Plan(
                    queries=(self._query(secret),),
                    memory=memory.set(key, known),
                    wake_at=now + RETRY,
                )
            data["token"] = data.get("token") or known.token
            data["namespace"] = data.get("namespace") or b64encode(namespace.encode()).decode()
            if self.certificate:
                data[CERTIFICATE_KEY] = self.certificate
            if data == secret.data:
                return Plan(memory=memory.delete(key)) if key in memory else NOTHING

        # Act
        if is_lost:  # SA-4
            options = DeleteOptions(
                preconditions=Preconditions(uid=uid, resource_version=metadata.resource_version)
            )
            request = Request(
                "delete",
                SECRETS,
                namespace,
                metadata.name or "",
                body=options,
                because="its ServiceAccount does not exist",
            )
            # A secret that still exists is reconciled again.
            return Plan(((request,),), memory=memory.delete(key))
        assert account is not None
        annotated = replace(
            metadata, annotations={**annotations, ACCOUNT_UID: account.metadata.uid or ""}
        )
        body = replace(secret, metadata=annotated, data=data)
        # SA-3
        return Plan(
            (
                (
                    Request(
                        "update",
                        SECRETS,
                        namespace,
                        metadata.name or "",
                        body=body,
                        because="it has no token",
                    ),
                ),
            )
        )

    def _query(self, secret: Secret) -> Request:
        """The request for a token that is bound to this secret."""
        metadata = secret.metadata
        bound = BoundObjectReference(
            kind="Secret", api_version="v1", name=metadata.name, uid=metadata.uid
        )
        spec = TokenRequestSpec(bound_object_ref=bound, expiration_seconds=EXPIRATION_SECONDS)
        account = (metadata.annotations or {})[ACCOUNT_NAME]
        because = f"secret {metadata.name} needs a token"
        return Request(
            "create",
            SERVICE_ACCOUNTS,
            metadata.namespace or "",
            account,
            "token",
            TokenRequest(spec=spec),
            because=because,
        )

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
