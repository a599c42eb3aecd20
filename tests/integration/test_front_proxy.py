"""A served cluster whose users an authenticating proxy names in headers. Rule HTTP-29
(spec/http.md)."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, until

from refk8s.components import certificates

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
BODY = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
SECRETS = "/api/v1/secrets"
AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""


class Proxied(FakeCluster):
    """A cluster, and the authority of its proxies."""

    def __init__(self, directory: Path) -> None:
        self.key = certificates.make_key()
        self.authority = directory / "proxies.crt"
        now = datetime.now(UTC)
        self.authority.write_bytes(certificates.make_self_signed(self.key, "proxies", now))
        (directory / "audit.yaml").write_text(AUDIT)
        self.flags = (
            "--nodes", "1",
            "--requestheader-client-ca-file", str(self.authority),
            "--requestheader-allowed-names", "front-proxy-client,other-proxy",
            "--requestheader-username-headers", "X-Remote-User",
            "--requestheader-uid-headers", "X-Remote-Uid",
            "--requestheader-group-headers", "X-Remote-Group",
            "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
            "--audit-policy-file", str(directory / "audit.yaml"),
            "--audit-log-path", str(directory / "audit.log"),
        )  # fmt: skip
        super().__init__(directory, *self.flags)

    def context(self, name: str, of_cluster: bool = False) -> ssl.SSLContext:
        """With the certificate of a client of this name."""
        made, now = certificates.make_key(), datetime.now(UTC)
        signing, issuer = self.key, "proxies"
        if of_cluster:
            signing = (self.directory / "data/pki/ca.key").read_bytes()
            issuer = certificates.AUTHORITY_NAME
        files = self.directory / "client.crt", self.directory / "client.key"
        group = "system:masters"
        files[0].write_bytes(certificates.make_client(made, signing, name, group, now, issuer))
        files[1].write_bytes(made)
        context = ssl._create_unverified_context()
        context.load_cert_chain(*files)
        return context

    def ask(
        self, context: ssl.SSLContext, method: str, path: str, body: Any = None,
        lines: tuple[tuple[str, str], ...] = (),
    ) -> tuple[int, Any]:  # fmt: skip
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=30
        )
        with contextlib.closing(connection):
            data = b"" if body is None else json.dumps(body).encode()
            connection.putrequest(method, path)
            for name, value in (*lines, ("Content-Type", "application/json")):
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else text

    def user(self, context: ssl.SSLContext, *lines: tuple[str, str]) -> Any:
        code, answer = self.ask(context, "POST", REVIEW, BODY, lines)
        return answer["status"]["userInfo"] if code == 201 else code


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    running = Proxied(tmp_path_factory.mktemp("proxy"))
    running.start()
    yield running
    running.stop()
    assert "Traceback" not in running.log.read_text()


JANE = ("X-Remote-User", "jane")
MASTER = ("X-Remote-Group", "system:masters")


def test_http_29_the_proxy_names_users(cluster: Proxied) -> None:
    proxy = cluster.context("front-proxy-client")
    said = cluster.user(
        proxy, JANE, ("X-Remote-Uid", "7"), ("X-Remote-Group", "dev"), ("X-Remote-Group", "ops"),
        ("X-Remote-Extra-Acme.com%2fProject", "a"),
    )  # fmt: skip
    assert said == {
        "username": "jane", "uid": "7", "groups": ["dev", "ops", "system:authenticated"],
        "extra": {"acme.com/project": ["a"]},
    }  # fmt: skip
    assert cluster.ask(proxy, "GET", SECRETS, lines=(JANE,))[0] == 403
    assert cluster.ask(proxy, "GET", SECRETS, lines=(JANE, MASTER))[0] == 200
    assert cluster.ask(proxy, "GET", "/version", lines=(JANE,))[0] == 200
    # one connection serves many users
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=proxy, timeout=30)
    with contextlib.closing(connection):
        for name in ("jane", "bob", "jane"):
            connection.request("GET", SECRETS, headers={"X-Remote-User": name})
            answer = connection.getresponse()
            assert f'User \\"{name}\\" cannot list' in answer.read().decode()


def test_http_29_a_named_user_may_impersonate_if_it_may(cluster: Proxied) -> None:
    proxy = cluster.context("other-proxy")
    as_bob = ("Impersonate-User", "bob")
    assert cluster.user(proxy, JANE, as_bob) == 403
    assert cluster.user(proxy, JANE, MASTER, as_bob)["username"] == "bob"
    log = cluster.directory / "audit.log"

    def recorded() -> list[Any]:
        events = [json.loads(line) for line in log.read_text().splitlines()]
        return [one for one in events if one["requestURI"] == REVIEW][-2:]

    until(lambda: [one["responseStatus"]["code"] for one in recorded()] == [403, 201], "recorded")
    refused, done = recorded()
    assert refused["user"]["username"] == done["user"]["username"] == "jane"
    assert "impersonatedUser" not in refused and done["impersonatedUser"]["username"] == "bob"


def test_http_29_nobody_else_names_users(cluster: Proxied) -> None:
    spoofed = (JANE, MASTER, ("X-Remote-Uid", "1"))
    bare = ssl._create_unverified_context()
    code, answer = cluster.ask(bare, "GET", SECRETS, lines=spoofed)
    assert code == 403 and "system:anonymous" in answer["message"]
    admin = cluster.context("carol", of_cluster=True)
    assert cluster.user(admin, *spoofed)["username"] == "carol"
    same_name = cluster.context("front-proxy-client", of_cluster=True)
    assert cluster.user(same_name, *spoofed)["username"] == "front-proxy-client"
    token = ("Authorization", f"Bearer {cluster.token}")
    assert cluster.user(bare, *spoofed, token)["username"] == "kubernetes-admin"


@pytest.mark.parametrize("name", ["front-proxy-client", "kubernetes-admin", "Front-Proxy-Client"])
def test_http_29_a_certificate_of_the_proxies_is_no_users(cluster: Proxied, name: str) -> None:
    context = cluster.context(name)  # its subject is in system:masters
    for path in (SECRETS, "/api", "/readyz", "/version"):
        assert cluster.ask(context, "GET", path)[0] == 401
    assert cluster.user(context, ("X-Remote-User", "")) == 401
    assert cluster.user(context, MASTER) == 401
    if name != "front-proxy-client":
        assert cluster.user(context, JANE, MASTER) == 401
    token = ("Authorization", f"Bearer {cluster.token}")
    assert cluster.user(context, token)["username"] == "kubernetes-admin"
    assert cluster.user(context, ("Authorization", "Bearer wrong")) == 401


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_http_29_a_resumed_session_gives_no_other_rights(
    cluster: Proxied, version: ssl.TLSVersion
) -> None:
    context = cluster.context("kubernetes-admin")
    context.maximum_version = version
    host = f"Host: 127.0.0.1:{cluster.port}\r\n\r\n".encode()
    session: ssl.SSLSession | None = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", cluster.port), timeout=30) as plain,
            context.wrap_socket(plain, session=session) as connection,
        ):
            connection.sendall(b"GET /api/v1/secrets HTTP/1.1\r\n" + host)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
            session = connection.session
