"""How a machine joins: rules TRUST-11 to TRUST-15 (spec/trust.md)."""

import asyncio
import json
import ssl
import subprocess
import sys
import threading
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from certificate_world import file_authority, signer_of
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NO_MEMORY, view_of

from refk8s.components.certificates import (
    AUTHORITY_NAME,
    make_key,
    make_self_signed,
    make_server,
)
from refk8s.components.cluster_info import ClusterInfo, certificates_of, key_hash, write_info
from refk8s.components.files import CannotRun
from refk8s.components.kubelet import certificates as kubelet_certificates
from refk8s.components.kubelet.certificates import (
    CertificateKeeper,
    Held,
    client_certificate,
    read_held,
    request_certificate,
    serving_certificate,
)
from refk8s.components.node_join import discovery
from refk8s.components.node_join.credentials import NodeCredentials
from refk8s.components.node_join.discovery import check_invitation, discover, verify
from refk8s.core.api.bootstrap_token import sign_detached
from refk8s.core.api.certificates_v1 import CertificateSigningRequestCondition
from refk8s.core.api.meta_v1 import Status
from refk8s.core.api.request import Request, Response
from refk8s.core.context import SECOND

ID, WORD = "abcdef", "9876543210fedcba"
TOKEN = f"{ID}.{WORD}"
SERVER = "https://192.0.2.1:6443"
ZEROS = f"sha256:{'0' * 64}"
DAY = 86_400 * SECOND


class Authority:
    def __init__(self) -> None:
        self.key = make_key()
        self.pem = make_self_signed(self.key, AUTHORITY_NAME, datetime.now(UTC))
        self.hash = key_hash(certificates_of(self.pem)[0])


@pytest.fixture(scope="module")
def authorities() -> tuple[Authority, Authority]:
    return Authority(), Authority()


# --- TRUST-11


@pytest.mark.parametrize(
    ("server", "token", "hashes", "words"),
    [
        ("http://192.0.2.1", TOKEN, (ZEROS,), "not the URL of an API server"),
        ("192.0.2.1:6443", TOKEN, (ZEROS,), "not the URL of an API server"),
        ("https://192.0.2.1:6443/path", TOKEN, (ZEROS,), "not the URL of an API server"),
        ("https://a:b@192.0.2.1", TOKEN, (ZEROS,), "not the URL of an API server"),
        ("https://192.0.2.1:99999", TOKEN, (ZEROS,), "not the URL of an API server"),
        (SERVER, "abcdef", (ZEROS,), "not a bootstrap token"),
        (SERVER, TOKEN, (), "--ca-hash is missing"),
        (SERVER, TOKEN, (ZEROS, "sha256:12"), "not sha256:"),
        (SERVER, TOKEN, ("sha1:" + "0" * 64,), "not sha256:"),
    ],
)
def test_trust_11_an_invitation_is_checked_before_anything_is_sent(server, token, hashes, words):
    with pytest.raises(CannotRun) as found:
        check_invitation((server,), token, hashes)
    assert words in str(found.value) and WORD not in str(found.value)


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_trust_11_only_signed_information_about_the_authority_of_the_hash_is_used(
    authorities, is_signed, is_altered, is_own_token, is_pinned, has_two
):
    # Shows TRUST-11.b.
    ours, theirs = authorities
    pem = ours.pem + (theirs.pem if has_two else b"")
    content = write_info(ClusterInfo(SERVER, pem))
    word = WORD if is_own_token else "f" * 16
    signature = sign_detached(content, ID, word) if is_signed else ""
    if is_altered:
        content = content.replace("192.0.2.1", "192.0.2.2")
    hashes = (ours.hash,) if is_pinned else (theirs.hash,)
    invitation = check_invitation((SERVER,), TOKEN, hashes)
    is_good = is_signed and not is_altered and is_own_token and is_pinned and not has_two
    try:
        found = verify(content, signature, invitation)
    except CannotRun as error:
        assert not is_good and WORD not in str(error)
    else:
        assert is_good and found.authority == pem


class FakeServer:
    """An API server that has nothing but cluster-info, and remembers what it was sent."""

    def __init__(
        self, authority: Authority, directory: Path, contents: list[dict[str, str]]
    ) -> None:
        key = make_key()
        (directory / "s.key").write_bytes(key)
        (directory / "s.crt").write_bytes(
            make_server(key, authority.key, ("127.0.0.1",), datetime.now(UTC))
        )
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append((self.path, self.headers.get("Authorization")))
                data = contents[min(len(seen), len(contents)) - 1]
                body = json.dumps({"data": data}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "s.crt", directory / "s.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "FakeServer":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def signed(authority: Authority, server: str = SERVER) -> dict[str, str]:
    content = write_info(ClusterInfo(server, authority.pem))
    return {"kubeconfig": content, f"jws-kubeconfig-{ID}": sign_detached(content, ID, WORD)}


def test_trust_11_the_token_is_not_sent_and_the_url_of_the_user_is_used(authorities, tmp_path):
    # Shows TRUST-11.a, TRUST-11.c, TRUST-11.f.
    ours, _ = authorities
    late = [{"kubeconfig": "x"}, signed(ours)]  # the signature comes later
    with FakeServer(ours, tmp_path, late) as server:
        found = discover(check_invitation((server.url,), TOKEN, (ours.hash,)))
    assert found == ClusterInfo(server.url, ours.pem)
    assert len(server.seen) == 3 and all(sent is None for _, sent in server.seen)


def test_trust_11_the_first_server_that_can_be_reached_is_asked(authorities, tmp_path):
    # Shows TRUST-11.g.
    ours, _ = authorities
    closed = "https://127.0.0.1:1"
    with FakeServer(ours, tmp_path, [signed(ours)]) as server:
        invited = check_invitation((closed, server.url, closed), TOKEN, (ours.hash,))
        assert invited.servers == (closed, server.url)
        assert discover(invited) == ClusterInfo(server.url, ours.pem)
        seen = len(server.seen)
        with pytest.raises(CannotRun, match="cannot reach"):
            discover(check_invitation((closed, "https://127.0.0.1:2"), TOKEN, (ours.hash,)))
        # another cluster is refused, whichever server comes after it
        with pytest.raises(CannotRun, match="not the one of --ca-hash"):
            discover(check_invitation((server.url, closed), TOKEN, (ZEROS,)))
    assert seen == 2
    with pytest.raises(CannotRun, match="at most 16"):
        check_invitation(tuple(f"https://h{n}:6443" for n in range(17)), TOKEN, (ours.hash,))


def test_trust_11_a_server_without_a_certificate_of_the_authority_is_refused(authorities, tmp_path):
    # Shows TRUST-11.c. A server in between passes on what the cluster has signed.
    ours, theirs = authorities
    with FakeServer(theirs, tmp_path, [signed(ours)]) as server, pytest.raises(CannotRun) as found:
        discover(check_invitation((server.url,), TOKEN, (ours.hash,)))
    assert "is not valid" in str(found.value)


def test_trust_11_another_content_the_second_time_is_refused(authorities, tmp_path):
    # Shows TRUST-11.c.
    ours, _ = authorities
    contents = [signed(ours), signed(ours, "https://192.0.2.66:6443")]
    with FakeServer(ours, tmp_path, contents) as server, pytest.raises(CannotRun, match="changed"):
        discover(check_invitation((server.url,), TOKEN, (ours.hash,)))


def test_trust_11_a_token_that_the_cluster_does_not_know_is_refused(
    authorities, tmp_path, monkeypatch
):
    # Shows TRUST-11.e.
    ours, _ = authorities
    monkeypatch.setattr(discovery, "SIGNATURE_SECONDS", 0.6)
    info = {"kubeconfig": "x", "jws-kubeconfig-zzzzzz": "y"}
    with FakeServer(ours, tmp_path, [info]) as server, pytest.raises(CannotRun) as found:
        discover(check_invitation((server.url,), TOKEN, (ours.hash,)))
    assert "does not know the bootstrap token abcdef" in str(found.value)
    assert WORD not in str(found.value) and len(server.seen) >= 2


# --- TRUST-12, TRUST-13


class Cluster:
    """Approves and signs requests; some answers are lost, or are errors."""

    def __init__(self, directory: Path, now: int, faults: list[str] | None = None) -> None:
        begin = datetime.fromtimestamp(now // SECOND, UTC)
        self.signer = signer_of(file_authority(directory, begin), 100 * DAY)
        self.now = now
        self.requests: dict[str, Any] = {}
        self.faults = faults or []
        self.verdict = "Approved"

    async def call(self, request: Request) -> Response | None:
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "lost":
            return None
        if fault == "busy":
            return Response(503, Status(message="busy"))
        if request.verb == "create":
            if request.name in self.requests:
                return Response(409, Status(message="exists"))
            self.requests[request.name] = request.body
        answer = None if fault == "answer lost" else Response(200, self.requests[request.name])
        if self.verdict:
            self._decide(request.name)
        return answer

    def _decide(self, name: str) -> None:
        found = self.requests[name]
        if found.status.conditions:
            return
        condition = CertificateSigningRequestCondition(
            type=self.verdict, status="True", message="no"
        )
        found = replace(found, status=replace(found.status, conditions=(condition,)))
        view = view_of(self.signer, replace(found, metadata=replace(found.metadata, name="c")))
        plan = self.signer.reconcile(view, "c", self.now, NO_MEMORY)
        status = plan.requests[0].body.status if plan.requests else found.status
        self.requests[name] = replace(found, status=status)


NOW = 1_790_000_000 * SECOND


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_sleep(seconds: float) -> None:
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)

    monkeypatch.setattr(kubelet_certificates.asyncio, "sleep", no_sleep)


def say_nothing(line: str) -> None:
    pass


@pytest.mark.parametrize("faults", [[], ["lost"], ["answer lost"], ["busy", "lost"], ["", "lost"]])
def test_trust_12_a_node_gets_the_certificate_of_its_name_whatever_answers_are_lost(
    faults, tmp_path
):
    # Shows TRUST-12.a, TRUST-12.b.
    cluster = Cluster(tmp_path, NOW, list(faults))
    pem = asyncio.run(request_certificate(client_certificate("a"), cluster.call, say_nothing))
    [sent] = cluster.requests.values()
    assert sent.spec.signer_name == "kubernetes.io/kube-apiserver-client-kubelet"
    assert sent.spec.usages == ("digital signature", "client auth")
    (tmp_path / "a.pem").write_bytes(pem)
    held = read_held(tmp_path / "a.pem")
    assert held is not None and {"system:node:a", "system:nodes"} == held.names
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "a.pem", tmp_path / "a.pem")  # they fit each other


@pytest.mark.parametrize("verdict", ["Denied", "Failed"])
def test_trust_12_a_refused_request_says_why(verdict, tmp_path):
    cluster = Cluster(tmp_path, NOW)
    cluster.verdict = verdict
    with pytest.raises(CannotRun, match=rf"refused \({verdict}\): no"):
        asyncio.run(request_certificate(client_certificate("a"), cluster.call, say_nothing))


def test_trust_12_the_credentials_of_a_node_are_its_own_and_private(tmp_path, authorities):
    # Shows TRUST-12.b, TRUST-12.d, TRUST-12.e, TRUST-14.a.
    ours, theirs = authorities
    data = tmp_path / "data"
    data.mkdir()
    credentials = NodeCredentials(data)
    assert credentials.node_name() == "" and not credentials.are_valid(NOW)
    cluster = Cluster(tmp_path, NOW)
    pem = asyncio.run(request_certificate(client_certificate("a"), cluster.call, say_nothing))
    credentials.write(ClusterInfo(SERVER, ours.pem), (SERVER,), pem)
    assert credentials.node_name() == "a" and credentials.servers() == (SERVER,)
    assert credentials.are_valid(NOW) and not credentials.are_valid(NOW + 101 * DAY)
    assert credentials.is_of((ours.hash, theirs.hash)) and not credentials.is_of((theirs.hash,))
    for path in (credentials.kubeconfig, credentials.client):
        assert path.stat().st_mode & 0o077 == 0
    assert b"PRIVATE KEY" not in credentials.kubeconfig.read_bytes()
    others = ("https://192.0.2.9:6443", SERVER, "https://[2001:db8::9]:6443")
    credentials.write_kubeconfig(others)
    assert credentials.servers() == others
    for damaged in (b"", pem[:100], pem.replace(b"MI", b"MM", 1)):
        credentials.client.write_bytes(damaged)
        assert credentials.node_name() == "" and not credentials.are_valid(NOW)
    credentials.remove()
    assert not any(data.iterdir())


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.floats(0.7, 0.9))
def test_trust_13_a_certificate_is_renewed_when_its_part_is_over(begin, length, part):
    # Shows TRUST-13.a.
    held = Held(begin, begin + length, frozenset())
    at = held.renewal(part)
    assert begin + int(length * 0.69) <= at <= begin + length


def keeper_of(path: Path, cluster: Cluster, clock: list[int], wanted: Any, used: list[bytes]):
    def use(changed: Path) -> None:
        used.append(changed.read_bytes())

    return CertificateKeeper(path, wanted, cluster.call, lambda: clock[0], use)


def test_trust_13_a_certificate_is_renewed_in_time_and_again_and_again(tmp_path):
    # Shows TRUST-13.a, TRUST-13.c, TRUST-13.d.
    cluster, clock, used = Cluster(tmp_path, NOW), [NOW], []
    path = tmp_path / "server.pem"
    keeper = keeper_of(path, cluster, clock, serving_certificate("a", "192.0.2.1"), used)

    async def main() -> None:
        for life in range(1, 4):
            await keeper.round()  # there is none, or it is due
            assert len(cluster.requests) == len(used) == life
            held = read_held(path)
            assert held is not None and {"a", "192.0.2.1"} <= held.names
            clock[0] = held.not_before + int((held.not_after - held.not_before) * 0.69)
            assert await keeper.round() >= 1.0
            assert len(cluster.requests) == life  # too early
            clock[0] = held.not_before + int((held.not_after - held.not_before) * 0.91)
            cluster.now = clock[0]

    asyncio.run(main())
    assert len(set(used)) == 3


def test_trust_13_a_failure_leaves_the_old_certificate_and_another_address_gets_another_one(
    tmp_path,
):
    # Shows TRUST-13.c, TRUST-13.f.
    cluster, clock, used = Cluster(tmp_path, NOW), [NOW], []
    path = tmp_path / "server.pem"
    asyncio.run(
        keeper_of(path, cluster, clock, serving_certificate("a", "192.0.2.1"), used).round()
    )
    before = path.read_bytes()
    clock[0] = NOW + 95 * DAY
    cluster.verdict = "Denied"
    keeper = keeper_of(path, cluster, clock, serving_certificate("a", "192.0.2.1"), used)
    waits = [asyncio.run(keeper.round()) for _ in range(8)]
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900]
    assert path.read_bytes() == before
    clock[0], cluster.verdict = NOW, "Approved"
    moved = keeper_of(path, cluster, clock, serving_certificate("a", "192.0.2.2"), used)
    asyncio.run(moved.round())
    held = read_held(path)
    assert held is not None and "192.0.2.2" in held.names and "192.0.2.1" not in held.names


def test_trust_13_a_request_that_waits_is_reported_once_with_the_command(tmp_path, monkeypatch):
    # Shows TRUST-13.g.
    cluster = Cluster(tmp_path, NOW)
    cluster.verdict = ""
    monkeypatch.setattr(kubelet_certificates, "POLL_SECONDS", (0.0, 0.001))
    told: list[str] = []
    with pytest.raises(CannotRun, match="has not been issued"):
        asyncio.run(request_certificate(client_certificate("a"), cluster.call, told.append, 0.2))
    [line] = told
    [name] = cluster.requests
    assert line.endswith(f"kubectl certificate approve {name}")


# --- TRUST-14


def test_trust_14_a_token_in_the_arguments_is_overwritten():
    # Shows TRUST-14.c.
    script = (
        "import sys; from refk8s.components.process_list import hide_argument; "
        "hide_argument(sys.argv[2]); print(open('/proc/self/cmdline').read()); print(sys.argv[2])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, "--token", TOKEN, f"--x={TOKEN}", "end"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert found[0].endswith(f"--token\0{'x' * 23}\0--x={'x' * 23}\0end\0")
    assert found[1] == TOKEN  # the process itself still has it


def test_trust_14_no_request_of_a_join_has_the_key(tmp_path):
    # Shows TRUST-14.b.
    cluster = Cluster(tmp_path, NOW)
    pem = asyncio.run(request_certificate(client_certificate("a"), cluster.call, say_nothing))
    key = pem[pem.index(b"-----BEGIN PRIVATE KEY") :]
    [sent] = cluster.requests.values()
    assert b64encode(key).decode()[40:80] not in repr(sent)
    assert b"PRIVATE" not in b64decode(sent.spec.request)
