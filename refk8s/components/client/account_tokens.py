"""Requests of controllers with the tokens of their service accounts. Rule PROC-20
(spec/processes.md).

A controller manager lists and watches as itself. Every other request has the user of a controller
(LOOP-13), a service account in kube-system. `AccountApi` requests a token for each of these
accounts with the credentials of the process, renews it, and sends the requests of the controller
with it.

Source: Kubernetes documentation, "Using RBAC Authorization" (controller roles), the flag
--use-service-account-credentials.
"""

import logging
from collections.abc import Callable
from typing import Final

from attrs import frozen

from refk8s.components.client.http_api import Answer, Deliver, HttpApi
from refk8s.components.clock import Clock
from refk8s.core.api.authentication_v1 import TokenRequest, TokenRequestSpec
from refk8s.core.api.core_v1 import ServiceAccount
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import SERVICE_ACCOUNTS
from refk8s.core.api.user import SERVICE_ACCOUNT_PREFIX
from refk8s.core.client.kubeconfig import Access, Pem
from refk8s.core.context import SECOND, Instant
from refk8s.core.value import evolve

log = logging.getLogger("refk8s")

TOKEN_SECONDS: Final = 3600
RENEWAL_SECONDS: Final = TOKEN_SECONDS * 4 // 5
"""The age at which a token is replaced."""

Waiting = tuple[Request, Answer, bool]
Account = tuple[str, str]
"""Namespace and name."""


@frozen
class _Token:
    text: str
    made_at: Instant


def without_credentials(access: Access) -> Access:
    """The same API server, for requests that have their own tokens: a client certificate would take
    precedence over them (HTTP-18)."""
    return evolve(
        access,
        certificate=Pem(),
        key=Pem(),
        token="",
        token_file="",
        basic=("", ""),
        plugin=None,
        impersonation=(),
    )


class AccountApi:
    """The `Api` of a controller manager (core/ports)."""

    def __init__(self, own: HttpApi, bare: HttpApi, clock: Clock) -> None:
        """`own` has the credentials of the process, `bare` has none."""
        self._own, self._bare, self._clock = own, bare, clock
        bare.answers = own.answers  # counted together, for /metrics
        self._tokens: dict[Account, _Token] = {}
        self._waiting: dict[Account, list[Waiting]] = {}

    def submit(self, request: Request, answer: Answer, background: bool = False) -> None:
        """Send the request with the token of its service account, if it has one."""
        account = _account_of(request)
        if account is None:
            self._own.submit(request, answer, background)
            return
        token = self._tokens.get(account)
        if token is not None and self._clock.now() < token.made_at + RENEWAL_SECONDS * SECOND:
            self._send(account, token, request, answer, background)
            return
        waiting = self._waiting.setdefault(account, [])
        waiting.append((request, answer, background))
        if len(waiting) == 1:
            self._request_token(account, may_create=True)

    def watch(
        self, request: Request, deliver: Deliver, ended: Callable[[int], None]
    ) -> Callable[[], None]:
        """Open a watch as the process itself."""
        return self._own.watch(request, deliver, ended)

    def _send(
        self, account: Account, token: _Token, request: Request, answer: Answer, background: bool
    ) -> None:
        def answered(response: Response | None) -> None:
            if response is not None and response.code == 401 and self._tokens.get(account) is token:
                del self._tokens[account]  # its account was deleted; the next request gets another
            answer(response)

        self._bare.submit(request, answered, background, f"Bearer {token.text}")

    # --- tokens

    def _request_token(self, account: Account, may_create: bool) -> None:
        namespace, name = account
        spec = TokenRequestSpec(expiration_seconds=TOKEN_SECONDS)
        request = Request(
            "create", SERVICE_ACCOUNTS, namespace, name, "token", body=TokenRequest(spec=spec)
        )

        def answered(response: Response | None) -> None:
            if response is not None and response.code == 404 and may_create:
                self._create_account(account)
            elif response is not None and response.ok:
                self._have_token(account, response.body.status.token)
            else:
                self._fail(account, response)

        self._own.submit(request, answered)

    def _create_account(self, account: Account) -> None:
        namespace, name = account
        body = ServiceAccount(metadata=ObjectMeta(name=name, namespace=namespace))
        request = Request("create", SERVICE_ACCOUNTS, namespace, name, body=body)

        def answered(response: Response | None) -> None:
            if response is not None and (response.ok or response.code == 409):
                self._request_token(account, may_create=False)
            else:
                self._fail(account, response)

        self._own.submit(request, answered)

    def _have_token(self, account: Account, text: str) -> None:
        token = self._tokens[account] = _Token(text, self._clock.now())
        for request, answer, background in self._waiting.pop(account, ()):
            self._send(account, token, request, answer, background)

    def _fail(self, account: Account, response: Response | None) -> None:
        """Nothing was sent; the loop sends the requests again (LOOP-6)."""
        why = "no answer" if response is None else response.body.message
        log.warning("no token for the service account %s/%s: %s", *account, why)
        for _, answer, _ in self._waiting.pop(account, ()):
            answer(None)


def _account_of(request: Request) -> Account | None:
    name = request.user.name
    if not name.startswith(SERVICE_ACCOUNT_PREFIX):
        return None
    namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    return namespace, account
