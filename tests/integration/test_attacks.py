"""What a client can do to the server with sockets alone. Rules HTTP-1 ... HTTP-6, HTTP-14, HTTP-18
and HTTP-21 (spec/http.md)."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, until

from refk8s.components import certificates
from refk8s.components.connection import HEAD_BYTES_MAX, HEADERS_MAX, LINE_BYTES_MAX
from refk8s.core.apiserver.decode import BODY_BYTES_MAX

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(name: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    return {
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path_factory.mktemp("attacked"), nodes=1).start()
    yield cluster
    cluster.stop()
    assert "Traceback" not in cluster.log.read_text()


def opened(cluster: FakeCluster, certificate: tuple[Path, Path] | None = None) -> ssl.SSLSocket:
    context = ssl._create_unverified_context()
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", cluster.port), timeout=30))


def head(
    cluster: FakeCluster, method: str, path: str, *headers: str, token: str | None = None
) -> bytes:
    named = cluster.token if token is None else token
    authorization = [f"Authorization: Bearer {named}"] if named else []
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: x", *authorization, *headers, "", ""]
    ).encode()


def answered(client: ssl.SSLSocket) -> tuple[int, Any]:
    """Code and body of the answer that comes without anything more being sent."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, json.loads(response.read())


def send_all_that_is_taken(client: ssl.SSLSocket, piece: bytes, times: int) -> None:
    with contextlib.suppress(OSError):
        for _ in range(times):
            client.sendall(piece)


def leave(client: ssl.SSLSocket) -> None:
    """Close our side, and wait until the server has closed its own: then it knows."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    client.close()


def is_said(code: int, answer: Any, expected: int) -> None:
    assert (
        code == expected and answer["kind"] == "Status" and answer["reason"] and answer["message"]
    ), answer


OPTIONS = json.dumps(
    {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "dryRun": ["All"],
        "preconditions": {"uid": "another"},
    }
)
OBJECT = json.dumps(
    {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "kept"},
        "data": {"k": "changed"},
    }
)
CUT = {
    "DELETE": (f"{CONFIG_MAPS}/kept", OPTIONS),
    "DELETE collection": (CONFIG_MAPS, OPTIONS),
    "POST": (CONFIG_MAPS, OBJECT.replace("kept", "new")),
    "PUT": (f"{CONFIG_MAPS}/kept", OBJECT),
    "PATCH": (f"{CONFIG_MAPS}/kept", '{"data": {"k": "changed"}}'),
}


def ours(cluster: FakeCluster) -> list[Any]:
    """The config maps but for the one that a controller publishes."""
    return [
        item
        for item in cluster.call("GET", CONFIG_MAPS)[1]["items"]
        if item["metadata"]["name"] != "kube-root-ca.crt"
    ]


@pytest.mark.parametrize("framing", ["length", "chunks", "nothing"])
@pytest.mark.parametrize("request_name", CUT)
def test_http_1_a_request_that_is_cut_off_changes_nothing(
    cluster: FakeCluster, request_name: str, framing: str
) -> None:
    """In each case what has arrived is a whole JSON document, or nothing at all, which a DELETE
    takes for default options."""
    cluster.call("POST", CONFIG_MAPS, {"metadata": {"name": "kept"}, "data": {"k": "v"}})
    before = ours(cluster)
    path, body = CUT[request_name]
    kind = "application/merge-patch+json" if request_name == "PATCH" else "application/json"
    client = opened(cluster)
    method = request_name.split()[0]
    if framing == "chunks":
        begin = head(cluster, method, path, f"Content-Type: {kind}", "Transfer-Encoding: chunked")
        client.sendall(begin + f"{len(body):x}\r\n{body}\r\n".encode())
    else:
        begin = head(
            cluster, method, path, f"Content-Type: {kind}", f"Content-Length: {len(body) + 1}"
        )
        client.sendall(begin + (body.encode() if framing == "length" else b""))
    leave(client)
    assert ours(cluster) == before


@pytest.mark.parametrize("protocol", ["h2c", "SPDY/3.1", "websocket"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_http_1_a_body_is_not_lost_where_another_protocol_is_asked_for(
    cluster: FakeCluster, protocol: str, framing: str
) -> None:
    """The parser ends such a request with its headers: the preconditions in the body would not be
    seen."""
    cluster.call("POST", CONFIG_MAPS, {"metadata": {"name": "kept"}, "data": {"k": "v"}})
    before = ours(cluster)
    asked = ["Content-Type: application/json", "Connection: Upgrade", f"Upgrade: {protocol}"]
    client = opened(cluster)
    if framing == "chunks":
        begin = head(cluster, "DELETE", f"{CONFIG_MAPS}/kept", *asked, "Transfer-Encoding: chunked")
        client.sendall(begin + f"{len(OPTIONS):x}\r\n{OPTIONS}\r\n0\r\n\r\n".encode())
    else:
        client.sendall(
            head(
                cluster, "DELETE", f"{CONFIG_MAPS}/kept", *asked, f"Content-Length: {len(OPTIONS)}"
            )
            + OPTIONS.encode()
        )
    is_said(*answered(client), 400)
    assert ours(cluster) == before


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("piece", [b"X: " + b"y" * (64 << 10) + b"\r\n", b"y" * (64 << 10)])
@pytest.mark.parametrize("begin", [b"0\r\nX: ", b"1;x="])
def test_http_2_what_is_around_a_body_is_bounded(
    cluster: FakeCluster, token: str | None, piece: bytes, begin: bytes
) -> None:
    """Trailers and chunk extensions without end: the connection is closed while they are sent."""
    client = opened(cluster)
    client.sendall(
        head(cluster, "GET", "/version", "Transfer-Encoding: chunked", token=token) + begin
    )
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 64 << 20:
            sent += client.send(piece)
    assert sent < 32 << 20


def test_http_2_a_trailer_is_no_header(cluster: FakeCluster) -> None:
    """A token that comes after the body authenticates nobody."""
    client = opened(cluster)
    body = json.dumps({"metadata": {"name": "smuggled"}})
    begin = head(
        cluster,
        "POST",
        CONFIG_MAPS,
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        token="",
    )
    end = f"{len(body):x}\r\n{body}\r\n0\r\nAuthorization: Bearer {cluster.token}\r\n\r\n"
    client.sendall(begin + end.encode())
    is_said(*answered(client), 403)


@pytest.mark.parametrize("key", ["", "x"])
def test_http_2_a_websocket_that_is_none_is_answered(cluster: FakeCluster, key: str) -> None:
    """The end of the module's fixture looks for tracebacks."""
    client = opened(cluster)
    asked = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    client.sendall(head(cluster, "GET", CONFIG_MAPS, *asked))
    assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_http_2_headers_without_end_are_refused(cluster: FakeCluster) -> None:
    client = opened(cluster)
    client.sendall(head(cluster, "GET", "/api")[:-2] + b"X-Long: ")
    send_all_that_is_taken(client, b"x" * (64 << 10), HEAD_BYTES_MAX // (64 << 10) + 8)
    is_said(*answered(client), 431)


def test_http_2_a_header_of_64_mb_does_not_reach_the_servers_memory(cluster: FakeCluster) -> None:
    client = opened(cluster)
    client.sendall(head(cluster, "GET", "/api")[:-2] + b"X-Long: ")
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 64 << 20:
            sent += client.send(b"x" * (64 << 10))
    assert sent < 32 << 20, "the connection is closed while the header is sent"


def test_http_2_many_headers_and_long_lines_are_refused(cluster: FakeCluster) -> None:
    client = opened(cluster)
    client.sendall(
        head(cluster, "GET", "/api", *[f"X-{number}: y" for number in range(HEADERS_MAX)])
    )
    is_said(*answered(client), 431)
    client = opened(cluster)
    client.sendall(head(cluster, "GET", "/api?" + "x" * LINE_BYTES_MAX))
    is_said(*answered(client), 414)
    client = opened(cluster)
    client.sendall(head(cluster, "GET", "/api?" + "x" * (LINE_BYTES_MAX - 100)))
    assert answered(client)[0] == 200


@pytest.mark.parametrize(("token", "code"), [("", 403), ("wrong", 401)])
def test_http_3_who_is_nobody_is_told_before_any_body(
    cluster: FakeCluster, token: str, code: int
) -> None:
    client = opened(cluster)
    client.sendall(
        head(
            cluster,
            "POST",
            CONFIG_MAPS,
            "Content-Length: 250000000",
            "Content-Type: application/json",
            token=token,
        )
    )
    is_said(*answered(client), code)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 250_000_000:
            sent += client.send(b"x" * (64 << 10))
    assert sent < 32 << 20


def test_api_15_a_wrong_token_is_refused_on_every_path(cluster: FakeCluster) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/version", "/api", CONFIG_MAPS, "/nothing"):
        assert cluster.call("GET", path, headers={"Authorization": "Bearer wrong"})[0] == 401, path
    client = opened(cluster)
    client.sendall(head(cluster, "GET", "/version", token=""))
    assert answered(client)[0] == 200


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_http_4_a_body_that_is_too_long_is_refused(cluster: FakeCluster, framing: str) -> None:
    client = opened(cluster)
    if framing == "length":
        client.sendall(head(cluster, "POST", CONFIG_MAPS, f"Content-Length: {BODY_BYTES_MAX + 1}"))
    else:
        client.sendall(head(cluster, "POST", CONFIG_MAPS, "Transfer-Encoding: chunked"))
        piece = b"x" * (64 << 10)
        send_all_that_is_taken(
            client,
            f"{len(piece):x}\r\n".encode() + piece + b"\r\n",
            BODY_BYTES_MAX // len(piece) + 8,
        )
    is_said(*answered(client), 413)


def test_http_6_silent_connections_lock_nobody_out(tmp_path: Path) -> None:
    """A limit of 400 open files, 500 connections that say nothing, half of them after their
    handshake."""
    cluster = FakeCluster(tmp_path, nodes=1)
    cluster.prefix = ("prlimit", "--nofile=400:400")
    cluster.start()
    silent: list[socket.socket] = []
    try:
        before = cluster.connect()
        before.request("GET", "/api", headers={"Authorization": f"Bearer {cluster.token}"})
        assert before.getresponse().read()
        for number in range(500):
            connection = socket.create_connection(("127.0.0.1", cluster.port), timeout=30)
            with contextlib.suppress(OSError):
                if number % 5 == 0:
                    connection = ssl._create_unverified_context().wrap_socket(connection)
            silent.append(connection)
        before.request("GET", "/api", headers={"Authorization": f"Bearer {cluster.token}"})
        assert before.getresponse().status == 200, "who has authenticated stays connected"
        assert cluster.call("POST", CONFIG_MAPS, {"metadata": {"name": "a"}})[0] == 201, (
            "and a new client comes in"
        )
        assert "Traceback" not in cluster.log.read_text()
    finally:
        for connection in silent:
            connection.close()
        cluster.stop()


def test_http_14_health_is_what_is_checked_and_nothing_else(cluster: FakeCluster) -> None:
    until(lambda: cluster.call("GET", "/readyz") == (200, b"ok"), "it is ready")
    shown = cluster.call("GET", "/readyz?verbose")[1].decode().splitlines()
    assert shown[:5] == [f"[+]{one} ok" for one in ("ping", "log", "etcd", "etcd-readiness", "informer-sync")]  # fmt: skip
    assert shown[-2:] == ["[+]shutdown ok", "readyz check passed"]
    assert "[+]poststarthook/rbac/bootstrap-roles ok" in shown
    assert cluster.call("GET", "/livez/poststarthook/rbac/bootstrap-roles") == (200, b"ok")
    assert cluster.call("GET", "/livez/etcd") == (200, b"ok")
    assert [
        cluster.call("GET", path)[0]
        for path in ("/healthz/anything", "/livez/shutdown", "/livez/poststarthook", "/healthzfoo")
    ] == [404, 404, 404, 404]


def test_http_15_the_host_header_is_in_no_answer(cluster: FakeCluster) -> None:
    code, answer = cluster.call("GET", "/api", headers={"Host": "evil.example.com"})
    assert (
        code == 200
        and answer["serverAddressByClientCIDRs"][0]["serverAddress"] == f"127.0.0.1:{cluster.port}"
    )


def test_http_18_a_certificate_of_the_cluster_names_the_user(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    pki = cluster.directory / "data/pki"
    key = certificates.make_key()
    made = certificates.make_client(
        key, (pki / "ca.key").read_bytes(), "jane", "team", datetime.now(UTC)
    )
    (tmp_path / "crt").write_bytes(made)
    (tmp_path / "key").write_bytes(key)
    body = b'{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}'
    client = opened(cluster, (tmp_path / "crt", tmp_path / "key"))
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    client.sendall(
        head(
            cluster,
            "POST",
            path,
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            token="",
        )
        + body
    )
    code, answer = answered(client)
    said = answer["status"]["userInfo"]
    assert (
        code == 201
        and said["username"] == "jane"
        and said["groups"] == ["team", "system:authenticated"]
    )
    assert said["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


def test_http_18_a_certificate_of_another_authority_ends_the_handshake(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    key = certificates.make_key()
    (tmp_path / "crt").write_bytes(
        certificates.make_self_signed(key, "kubernetes-admin", datetime.now(UTC))
    )
    (tmp_path / "key").write_bytes(key)
    # in TLS 1.3 the client learns it with the first bytes that it reads
    with pytest.raises(OSError):
        client = opened(cluster, (tmp_path / "crt", tmp_path / "key"))
        client.sendall(head(cluster, "GET", "/api", token=""))
        if not client.recv(1):
            raise ConnectionResetError


def test_http_21_a_yaml_bomb_is_refused_and_long_yaml_is_read(cluster: FakeCluster) -> None:
    yaml = {"Content-Type": "application/yaml"}
    lines = [
        f"a{number}: &a{number} [{','.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 12)
    ]
    is_said(
        *cluster.call("POST", CONFIG_MAPS, "\n".join(["a0: &a0 [x,x,x]", *lines]).encode(), yaml),
        400,
    )
    is_said(
        *cluster.call(
            "POST",
            CONFIG_MAPS,
            b"metadata: {name: t, creationTimestamp: 2001-99-99T99:99:99Z}",
            yaml,
        ),
        400,
    )
    is_said(*cluster.call("POST", CONFIG_MAPS, b"a: " + b"1:" * 200_000 + b"1", yaml), 422)
    is_said(*cluster.call("POST", CONFIG_MAPS, b"a: [" + b"x, " * 300_000 + b"x]", yaml), 400)
    code, answer = cluster.call(
        "POST",
        CONFIG_MAPS,
        b"metadata: {name: times}\ndata: {a: '1', time: 12:30:45, day: 2001-01-01}",
        yaml,
    )
    assert code == 201 and answer["data"] == {"a": "1", "day": "2001-01-01", "time": "12:30:45"}


def test_http_22_a_long_answer_in_yaml_is_what_the_json_says(cluster: FakeCluster) -> None:
    code, text = cluster.call("GET", "/api/v1/namespaces", headers={"Accept": "application/yaml"})
    assert code == 200 and b"kind: NamespaceList" in text


@pytest.mark.parametrize("reader", ["leaves", "stalls"])
def test_host_9_a_reader_of_the_story_stops_nothing(tmp_path: Path, reader: str) -> None:
    """The reader of the output goes away after the first line, or never reads at all."""
    cluster = FakeCluster(tmp_path, "--nodes", "1", "--story")
    cluster.output = subprocess.PIPE
    try:
        cluster.start()
        output = cluster.process.stdout
        assert output is not None
        if reader == "leaves":
            output.readline()
            output.close()
        for number in range(1_000):
            code, _ = cluster.call(
                "POST", CONFIG_MAPS, {"metadata": {"name": f"c{number}"}, "data": {"x": "y"}}
            )
            assert code == 201
        assert cluster.call("GET", "/readyz")[0] == 200
        code, _ = cluster.call("POST", DEPLOYMENTS, deployment("web"))
        assert code == 201
        until(
            lambda: (
                cluster.call("GET", f"{DEPLOYMENTS}/web")[1].get("status", {}).get("readyReplicas")
                == 1
            ),
            "controllers go on",
        )
    finally:
        cluster.stop()
        if cluster.process.stdout is not None:
            cluster.process.stdout.close()
    assert "Traceback" not in cluster.log.read_text()
