"""Controllers act as their service accounts over HTTPS: rules PROC-20 and PROC-21
(spec/processes.md)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.certificates import Pair, problem_of_client
from refk8s.components.client.access import read_kubeconfig
from refk8s.components.client.account_tokens import (
    RENEWAL_SECONDS,
    TOKEN_SECONDS,
    AccountApi,
    without_credentials,
)
from refk8s.components.component_kubeconfigs import COMPONENTS, write_component_kubeconfigs
from refk8s.components.credentials import load_credentials
from refk8s.core.api import resources, status
from refk8s.core.api.authentication_v1 import TokenRequest, TokenRequestStatus
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import component_user, service_account_user
from refk8s.core.client.kubeconfig import Access, Pem
from refk8s.core.context import SECOND

OWN = component_user("kube-controller-manager")
ACCOUNTS = ("replicaset-controller", "node-controller")


class FakeServer:
    """An API server: `own` has the credentials of the process, `bare` has none of its own."""

    def __init__(self, answers: list[str]) -> None:
        self.answers: Any = {}  # counted by the clients
        self.log: list[tuple[str, str, str]] = []  # (who, account or verb, token)
        self.fate, self.made, self.seconds = answers, 0, 0.0
        self.exists: set[str] = set()
        self.valid: set[str] = set()

    def now(self) -> int:
        return int(self.seconds * SECOND)

    def submit(
        self, request: Request, answer: Any, background: bool = False, authorization: str = ""
    ) -> None:
        if authorization:
            token = authorization.removeprefix("Bearer ")
            self.log.append(("token", request.user.name, token))
            answer(Response(200 if token in self.valid else 401, status.success(200)))
            return
        if request.resource != resources.SERVICE_ACCOUNTS:
            self.log.append(("own", request.verb, ""))
            answer(Response(200, None))
            return
        fate = self.fate.pop() if self.fate else "fine"
        if fate == "lost":
            answer(None)
        elif fate == "refused":
            answer(Response(403, status.failure(403, "Forbidden", "no")))
        elif not request.subresource:
            self.exists.add(request.name)
            answer(Response(201, request.body))
        elif request.name not in self.exists:
            answer(Response(404, status.not_found(resources.SERVICE_ACCOUNTS, request.name)))
        else:
            self.made += 1
            text = f"{request.name}-{self.made}"
            self.valid.add(text)
            assert request.body.spec.expiration_seconds == TOKEN_SECONDS
            answer(Response(201, TokenRequest(status=TokenRequestStatus(token=text))))


def of(account: str, verb: str = "create") -> Request:
    user = service_account_user("kube-system", account)
    return Request(verb, resources.PODS, "default", "p", user=user)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(ACCOUNTS),
        st.sampled_from(("own", "revoke", "deleted")),
        st.integers(1, 2 * TOKEN_SECONDS),
    ),
    max_size=20,
)


@given(STEPS, st.lists(st.sampled_from(("fine", "lost", "refused")), max_size=6))
def test_proc_20_a_controller_is_sent_with_a_young_token_of_its_own_account(
    steps: Any, fates: list[str]
) -> None:
    # Shows PROC-20.b PROC-20.c.
    server: Any = FakeServer(list(fates))
    api, ages = AccountApi(server, server, server), {}
    for step in (*steps, *ACCOUNTS, *ACCOUNTS):
        if isinstance(step, int):
            server.seconds += step
        elif step == "revoke":
            server.valid.clear()
        elif step == "deleted":
            server.exists.clear()
            server.valid.clear()
        else:
            before, answers = len(server.log), []
            request = Request("list", resources.PODS, user=OWN) if step == "own" else of(step)
            api.submit(request, answers.append)
            assert len(answers) == 1, "each request is answered once"
            for who, name, token in server.log[before:]:
                assert who == ("own" if step == "own" else "token")
                if who == "token":
                    assert name.endswith(f":{step}") and token.startswith(step)
                    made = ages.setdefault(token, server.seconds)
                    assert server.seconds - made < RENEWAL_SECONDS
            if step != "own" and answers[0] is None:
                assert len(server.log) == before, "without a token nothing is sent"
    server.fate.clear()
    for account in ACCOUNTS:
        codes: list[Any] = []
        for _ in range(2):  # the first may find that its token is refused
            api.submit(of(account), codes.append)
        assert codes[1].code == 200


def test_proc_20_requests_with_tokens_have_no_certificate():
    """It would take precedence over the token (HTTP-18)."""
    # Shows PROC-20.a.
    whole = Access(
        "https://x", Pem("ca"), certificate=Pem("c"), key=Pem("k"), token="t",
        token_file="f", basic=("a", "b"), impersonation=(("Impersonate-User", "x"),),
    )  # fmt: skip
    assert without_credentials(whole) == Access("https://x", Pem("ca"))


def test_proc_21_the_kubeconfigs_have_certificates_of_the_components(tmp_path: Path) -> None:
    # Shows PROC-21.a PROC-21.b.
    credentials = load_credentials(tmp_path / "pki", ("127.0.0.1",))
    server = "https://127.0.0.1:6443"
    kept: dict[str, bytes] = {}
    for turn in range(3):
        if turn == 2:
            (tmp_path / "pki/scheduler.crt").write_bytes(b"damaged")
        write_component_kubeconfigs(tmp_path, tmp_path / "pki", server, credentials)
        for name, user in COMPONENTS.items():
            path = tmp_path / f"{name}.kubeconfig"
            access = read_kubeconfig(path)
            assert access.server == server and not access.token
            assert path.stat().st_mode & 0o077 == 0
            pair = Pair(tmp_path / f"pki/{name}.crt", tmp_path / f"pki/{name}.key")
            ours = Pair(credentials.certificate, credentials.key)
            now = datetime.now(UTC)
            assert not problem_of_client(pair, ours, credentials.authority, user, "", now)
            assert problem_of_client(pair, ours, credentials.authority, "system:x", "", now)
            same = kept.setdefault(name, access.certificate.content) == access.certificate.content
            assert same is (turn < 2 or name != "scheduler")
