"""The requests of `test_fuzz.py` over TLS to a running cluster: a Status that says what is wrong,
never a 5xx code that upstream does not give, a traceback, a cut connection or memory that grows
(API-14, HTTP-7)."""

import http.client
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, running_cluster, until
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "properties"))

from openapi_cases import (
    DEFINITION,
    Case,
    Operation,
    a_world,
    first_objects,
    operations,
    raw_requests,
    requests,
    what_is_wrong,
)

from refk8s.core.apiserver.respond import Reply

LISTS = 4 * settings.default.max_examples  # type: ignore[union-attr]
"""Of each kind of requests, so many lists of at most four are drawn."""
GROWTH_BYTES_MAX = 12 << 20
"""How much memory the same requests may take when they are sent again: the changes that the history
keeps."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("fuzz"), nodes=1) as cluster:
        yield cluster


def cases() -> list[Case]:
    """Requests of every operation, also of streams, and bytes of no form. A watch is left out,
    since it ends after minutes."""
    among = [one for one in operations(a_world()) if not _may_destroy(one)]
    found: list[Case] = []

    @settings(
        max_examples=LISTS,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(among, 30), max_size=4), st.lists(raw_requests(among), max_size=4))
    def draw(odd: list[Case], raw: list[Case]) -> None:
        found.extend(case for case in (*odd, *raw) if "watch" not in case.target)

    draw()
    return found


def _may_destroy(operation: Operation) -> bool:
    """Whether an operation takes away what the cluster runs on."""
    kept = (
        "Namespace",
        "Node",
        "ServiceAccount",
        "ClusterRoleBinding",
        "ClusterRole",
        "FlowSchema",
    )
    return operation.method == "DELETE" and operation.kind in kept


class Kept:
    """A connection that stays open."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.connection = cluster.connect()
        self.opened = 0

    def ask(self, case: Case) -> Reply:
        """Fails if the connection is closed before the answer is there, or after it although the
        answer does not say so."""
        if self.connection.sock is None:
            self.opened += 1
        headers = {"Authorization": f"Bearer {self.cluster.token}", **dict(case.headers)}
        method, target = case.operation.method, case.target
        try:
            self.connection.request(method, target, case.body or None, headers)
            answer = self.connection.getresponse()
            content = answer.read()
        except (http.client.HTTPException, OSError) as error:
            raise AssertionError(f"{case!r:.2000}\n{error!r}") from error
        return Reply(answer.status, content, answer.headers.get("content-type", ""))


def memory_of(cluster: FakeCluster) -> int:
    """Bytes in the memory of the process."""
    lines = Path(f"/proc/{cluster.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) << 10


def test_http_7_the_same_odd_requests_again_do_not_take_more_memory(cluster: FakeCluster) -> None:
    # Shows API-14.a API-14.b.
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert cluster.call("POST", definitions, DEFINITION)[0] == 201
    gadgets = "/apis/example.com/v1/namespaces/default/gadgets"
    until(lambda: cluster.call("GET", gadgets)[0] == 200, "the custom kind is served")
    for path, body in first_objects(operations(a_world())):
        cluster.call("POST", path, body)
    kept, drawn, memory = Kept(cluster), cases(), [0, 0]
    for turn in range(2):
        for case in drawn:
            wrong = what_is_wrong(case.operation, kept.ask(case))
            assert not wrong, f"{case!r:.3000}\n{wrong}"
        memory[turn] = memory_of(cluster)
    assert cluster.call("GET", "/readyz")[0] == 200
    assert memory[1] - memory[0] < GROWTH_BYTES_MAX, memory
    # bodies that are too long or of no length end their connection, and few are
    assert kept.opened < len(drawn) // 10


FRAMES = (
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: 9999\r\n\r\n{{}}",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: 1\r\n\r\n{{}}{{}}{{}}\r\n\r\n",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: -1\r\n\r\n{{}}",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: 99999999999999999999999\r\n\r\n{{}}",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{{}}",
    b"POST {} HTTP/1.1\r\nhost: x\r\n{}transfer-encoding: gzip\r\n\r\n{{}}",
    b"POST {} HTTP/9.9\r\nhost: x\r\n{}\r\n",
    b"FOO {} HTTP/1.1\r\n{}\r\n",
    b"GET {} HTTP/1.1\r\nhost: x\r\n{}a b: c\r\n\r\n",
    b"GET {} HTTP/1.1\r\nhost: x\r\n{}\x00: c\r\n\r\n",
    b"GET {} HTTP/1.1\nhost: x\n{}\n\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"\r\n" * 50,
    b"GET " + b"/a" * 60_000 + b" HTTP/1.1\r\n\r\n",
    b"GET {} HTTP/1.1\r\n{}" + b"x: y\r\n" * 9_000 + b"\r\n",
)  # fmt: skip


def test_http_2_requests_of_no_form_are_refused_and_others_go_on(cluster: FakeCluster) -> None:
    path = b"/api/v1/namespaces/default/configmaps"
    token = f"authorization: Bearer {cluster.token}\r\n".encode()
    before = cluster.call("GET", path.decode())[1]["items"]
    for frame in FRAMES:
        text = frame.replace(b"{{}}", b"\x01").replace(b"{}", path, 1).replace(b"{}", token, 1)
        code = _answer_to(cluster, text.replace(b"\x01", b"{}"))
        assert code is None or code == 200 or 400 <= code < 500 or code == 501, (frame[:200], code)
    assert cluster.call("GET", path.decode())[1]["items"] == before
    assert cluster.call("GET", "/readyz")[0] == 200


def _answer_to(cluster: FakeCluster, text: bytes) -> int | None:
    """The code of the first answer to these bytes; None if the connection is closed without one."""
    connection: Any = cluster.connect()
    connection.connect()
    try:
        connection.sock.sendall(text)
        connection.sock.shutdown(socket.SHUT_WR)
        connection.sock.settimeout(20)
        answer = connection.sock.recv(65_536)
    except OSError:
        return None
    finally:
        connection.close()
    parts = answer.split(b" ", 2)
    return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/") else None
