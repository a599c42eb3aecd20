"""The credentials of the API server at webhooks: HOOK-13 (spec/webhooks.md)."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.certificates import (
    AUTHORITY_NAME,
    make_client,
    make_key,
    make_self_signed,
    make_server,
)
from refk8s.components.files import CannotRun
from refk8s.components.outgoing_calls import OutgoingCalls
from refk8s.components.webhook_credentials import read_webhook_credentials
from refk8s.core.apiserver.admission.review import MUTATING, VALIDATING
from refk8s.core.apiserver.calls import Answered, AskedWebhook, Call
from refk8s.core.client.kubeconfig import Access, BadKubeconfig, Users, read_users

NOW = datetime.now(UTC)
LABELS = st.sampled_from(["a", "b", "svc", "*"])
NAMES = st.builds(
    str.__add__,
    st.lists(LABELS, min_size=1, max_size=3).map(".".join),
    st.sampled_from(["", ":443", ":8443"]),
)
SERVERS = st.builds(
    str.__add__,
    st.lists(st.sampled_from(["a", "b", "svc"]), min_size=1, max_size=3).map(".".join),
    st.sampled_from([":443", ":8443"]),
)


def _expected(names: list[str], server: str) -> str:
    """The reference: of all names that fit, the one with the fewest wildcards first."""

    def rank(name: str) -> tuple[int, int] | None:
        for turn, target in enumerate((server, server.removesuffix(":443"))):
            if turn and not server.endswith(":443"):
                return None
            if name == target:
                return turn, 0
            if name.startswith("*.") and target.endswith(name[1:]):
                cut = target[: -len(name[1:])]
                if cut:
                    return turn, 1 + cut.count(".")
        return None

    ranked = sorted((rank(name), name) for name in names if rank(name) is not None)
    return ranked[0][1] if ranked else "*" if "*" in names else ""


@given(st.lists(NAMES, max_size=6, unique=True), SERVERS)
def test_hook_13_the_most_exact_name_counts(names: list[str], server: str) -> None:
    # Shows HOOK-13.b.
    users = Users({name: Access("", token=name) for name in names})
    found = users.find(server)
    assert (found.token if found else "") == _expected(names, server)


def test_hook_13_the_user_of_the_context_is_the_last() -> None:
    users = Users({"mine": Access("", token="t")}, "mine")
    assert users.find("x.y:443") == users.by_name["mine"]
    assert Users({}, "").find("x.y:443") is None


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"users": [{"name": "a", "user": {"exec": {"command": "x"}}}]}, "exec is not supported"),
        ({"users": [{"name": "a", "user": {"auth-provider": {"name": "x"}}}]}, "auth-provider"),
        ({"users": [{"name": "a", "user": {"client-key": "k"}}]}, "require each other"),
        ({"users": [{"name": "a"}, {"name": "a"}]}, "2 users of the name"),
        ({"users": "a"}, "users is no list"),
        ({"users": [1]}, "users is no mapping"),
        ({"kind": "Pod"}, "it is a Pod"),
        ({"current-context": "c"}, "no contexts of the name"),
        ([], "no mapping"),
        ({"users": [{"name": "a", "user": {"token": "x\r\ny: z"}}]}, "token has a character"),
    ],
)
def test_hook_13_what_cannot_be_used_is_refused(tree: Any, words: str) -> None:
    with pytest.raises(BadKubeconfig, match=words):
        read_users(tree)


def test_hook_13_a_file_that_cannot_be_read_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="no such file"):
        read_webhook_credentials(str(tmp_path / "none"), "--flag")
    odd = tmp_path / "odd"
    odd.write_text("users: [{name: a, user: {token: [very secret]}}]")
    with pytest.raises(CannotRun) as refused:
        read_webhook_credentials(str(odd), "--flag")
    assert "secret" not in str(refused.value)


class Server:
    """A webhook that answers with the credentials that it saw."""

    def __init__(self, directory: Path) -> None:
        self.key, self.authority_key = make_key(), make_key()
        self.authority = make_self_signed(self.authority_key, AUTHORITY_NAME, NOW)
        made = make_server(self.key, self.authority_key, ["127.0.0.1"], NOW)
        (directory / "crt").write_bytes(made)
        (directory / "key").write_bytes(self.key)
        (directory / "ca").write_bytes(self.authority)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "crt", directory / "key")
        self.context.load_verify_locations(directory / "ca")
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.connections = 0

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        return int(self.server.sockets[0].getsockname()[1])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        peer = writer.get_extra_info("ssl_object").getpeercert() or {}
        subject = [value for part in peer.get("subject", ()) for _, value in part]
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            except asyncio.IncompleteReadError:
                return
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(lines.get("content-length", "0")))
            seen = [lines.get("authorization", ""), lines.get("impersonate-user", ""), *subject]
            body = "|".join(seen).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()


def a_call(port: int, authority: bytes, type_: str | None) -> Call:
    asked = AskedWebhook("w", type_, "CREATE", "v1", True) if type_ else None
    return Call("i", f"https://127.0.0.1:{port}/x", None, authority, b"{}", 5.0, asked=asked)


def test_hook_13_each_webhook_sees_the_credentials_for_its_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Shows HOOK-13.a HOOK-13.c HOOK-13.d.
    caplog.set_level(logging.DEBUG)

    async def run() -> list[str]:
        server = Server(tmp_path)
        port = await server.start()
        key = make_key()
        certificate = make_client(key, server.authority_key, "apiserver", "", NOW)
        (tmp_path / "client.crt").write_bytes(certificate)
        (tmp_path / "client.key").write_bytes(key)
        (tmp_path / "token").write_text("from-a-file\n")
        encoded = base64.b64encode(certificate).decode(), base64.b64encode(key).decode()
        users = {
            f"127.0.0.1:{port}": "{token: right-token, as: jane}",
            "*": "{token: wrong-token}",
        }
        lines = "\n".join(f'- {{name: "{name}", user: {user}}}' for name, user in users.items())
        (tmp_path / "one").write_text(f"users:\n{lines}\n")
        (tmp_path / "two").write_text(
            f'users: [{{name: "*", user: {{client-certificate-data: {encoded[0]}, '
            f"client-key-data: {encoded[1]}, username: u, password: p}}}}]"
        )
        paths = "tokenFile: token, client-certificate: client.crt, client-key: client.key"
        (tmp_path / "three").write_text(f'users: [{{name: "*.0.0.1:{port}", user: {{{paths}}}}}]')
        outgoing = OutgoingCalls()
        found = []
        for mutating, validating in (("one", "two"), ("three", "one")):
            outgoing.credentials = {
                MUTATING: read_webhook_credentials(str(tmp_path / mutating), "--flag"),
                VALIDATING: read_webhook_credentials(str(tmp_path / validating), "--flag"),
            }
            for type_ in (MUTATING, VALIDATING, None):
                for _ in range(2):
                    call = a_call(port, server.authority, type_)
                    [result] = await outgoing.make([call], 5.0)
                    assert isinstance(result, Answered), result
                    found.append(result.body.decode())
            outgoing.close()
        server.server.close()
        return found

    basic = base64.b64encode(b"u:p").decode()
    assert asyncio.run(run()) == [
        *["bearer right-token|jane"] * 2,
        *[f"basic {basic.lower()}||apiserver"] * 2,
        *["|"] * 2,
        *["bearer from-a-file||apiserver"] * 2,
        *["bearer right-token|jane"] * 2,
        *["|"] * 2,
    ]
    assert "token" not in caplog.text and "PRIVATE" not in caplog.text


def test_hook_13_a_certificate_that_cannot_be_read_fails_the_call(tmp_path: Path) -> None:
    async def run() -> str:
        server = Server(tmp_path)
        port = await server.start()
        (tmp_path / "one").write_text(
            'users: [{name: "*", user: {client-certificate: none, client-key: none}}]'
        )
        outgoing = OutgoingCalls()
        outgoing.credentials = {MUTATING: read_webhook_credentials(str(tmp_path / "one"), "--flag")}
        [result] = await outgoing.make([a_call(port, server.authority, MUTATING)], 5.0)
        server.server.close()
        assert not isinstance(result, Answered)
        return result.why

    assert "no such file" in asyncio.run(run())
