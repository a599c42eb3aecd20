"""Start, size, throughput and a thousand replicas of `refk8s run`, beside an empty application
under the same server library.

    python benchmarks/control_plane.py            needs wrk (Debian) and openssl; about a minute
    python benchmarks/control_plane.py --etcd     the same with objects in an etcd on this machine

Every figure of speed is also given as a ratio in this one run: requests to the empty application
over TLS, and for the start and the thousand replicas the seconds of a real control plane (v1.20
with etcd 3.4 on a machine of this kind: 2.5 s and 10.5 s). The rate of requests means something
only where nothing else runs; the processor time of a request is nearly the same on a busy machine.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
REAL_READY_SECONDS, REAL_THOUSAND_SECONDS = 2.5, 10.5
CREATE = (
    "local n = 0\nlocal id = tostring(math.random(1e9)) .. '-' .. tostring({}):gsub('[^%w]', "
    "'')\nrequest = function()\n n = n + 1\n"
    " return wrk.format('POST', nil, nil, "
    '\'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w-\' .. id .. \'-\' .. n .. \'"},'
    '"data":{"key":"' + "value" * 20 + "\"}}')\nend\n"
)
EMPTY = """
SMALL, LARGE = b"x" * {small}, b"x" * {large}
async def application(scope, receive, send):
    body = SMALL if scope.get("path") == "/small" else LARGE
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}})
    await send({{"type": "http.response.body", "body": body}})
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """`refk8s run --adapter fake` as a process of its own."""

    def __init__(self, nodes: int, *more: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="refk8s-benchmark-"))
        self.port = free_port()
        begin = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "refk8s.cli.main", "run", "--adapter", "fake", "--nodes", str(nodes), "--port", str(self.port),
             "--data-dir", str(self.directory), *more],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not (self.directory / "kubeconfig").exists():
            time.sleep(0.002)
        self.token = (self.directory / "pki/admin.token").read_text().strip()
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=ssl._create_unverified_context()
        )
        while self.call("GET", "/readyz")[0] != 200:
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - begin

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.request(
            method, path, json.dumps(body) if body is not None else None, headers
        )
        answer = self.connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else text

    def resident_mb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024  # type: ignore[index]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.directory)


class Load(NamedTuple):
    """The load that a server handled."""

    rate: float  # requests a second
    spent: float  # microseconds of the server's processor time for each request

    def beside(self, empty: "Load") -> str:
        """This load in words, as ratios to an empty application."""
        return (
            f"{self.rate:6.0f}/s {self.spent:6.0f} µs    {self.rate / empty.rate:.2f} of "
            f"{empty.rate:.0f}/s,"
            f" {empty.spent / self.spent:.2f} by processor time ({empty.spent:.0f} µs)"
        )


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wrk(server: int, url: str, token: str, connections: int, *more: str) -> Load:
    """Four seconds of requests to the process `server`."""
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        "-d4s",
        *more,
        "-H",
        f"Authorization: Bearer {token}",
        "-H",
        "Content-Type: application/json",
        url,
    ]
    before = processor_seconds(server)
    said = subprocess.run(command, capture_output=True, text=True).stdout
    spent = processor_seconds(server) - before
    assert "Non-2xx" not in said, said
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    return Load(rate, spent * 1e6 / int(re.search(r"(\d+) requests in", said)[1]))  # type: ignore[index]


def throughput(*store: str) -> None:
    cluster = Running(1, *store)
    time.sleep(3)
    ratio = cluster.ready_seconds / REAL_READY_SECONDS
    print(
        f"ready to serve          {cluster.ready_seconds * 1000:6.0f} ms      {ratio:.2f} of a "
        "real control plane's"
    )
    print(f"resident, idle          {cluster.resident_mb():6d} MB")
    for number in range(500):
        body = {
            "metadata": {"name": f"one-{number}", "labels": {"set": "many"}},
            "data": {"key": "value" * 20},
        }
        assert cluster.call("POST", CONFIG_MAPS, body)[0] == 201
    listed = f"{CONFIG_MAPS}?labelSelector=set%3Dmany"
    large = len(json.dumps(cluster.call("GET", listed)[1], separators=(",", ":")))
    small = len(json.dumps(cluster.call("GET", f"{CONFIG_MAPS}/one-1")[1], separators=(",", ":")))
    (cluster.directory / "bare.py").write_text(EMPTY.format(small=small, large=large))
    (cluster.directory / "create.lua").write_text(CREATE)
    port, pki = free_port(), cluster.directory / "pki"
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bare:application",
        "--port",
        str(port),
        "--ssl-keyfile",
        str(pki / "server.key"),
    ]
    command += [
        "--ssl-certfile",
        str(pki / "server.crt"),
        "--log-level",
        "error",
        "--no-access-log",
        "--lifespan",
        "off",
    ]
    floor = subprocess.Popen(command, cwd=cluster.directory)
    time.sleep(2)
    bare, ours = f"https://127.0.0.1:{port}", f"https://127.0.0.1:{cluster.port}"
    try:
        served, token = cluster.process.pid, cluster.token
        big = wrk(floor.pid, f"{bare}/large", "", 4)
        lists = wrk(served, ours + listed, token, 4)
        empty = wrk(floor.pid, f"{bare}/small", "", 16)
        gets = wrk(served, f"{ours}{CONFIG_MAPS}/one-1", token, 16)
        script = str(cluster.directory / "create.lua")
        creates = wrk(served, ours + CONFIG_MAPS, token, 16, "-s", script)
    finally:
        floor.terminate()
        floor.wait()
        cluster.stop()
    print(f"gets, 16 connections    {gets.beside(empty)}")
    print(f"durable creates         {creates.beside(empty)}")
    print(f"lists of 500, {large // 1000} kB    {lists.beside(big)}")


def thousand(*store: str) -> None:
    cluster = Running(100, *store)
    while len(cluster.call("GET", "/api/v1/nodes")[1]["items"]) < 100:
        time.sleep(0.05)
    time.sleep(1)
    template = {
        "metadata": {"labels": {"app": "big"}},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }
    spec = {"replicas": 1000, "selector": {"matchLabels": {"app": "big"}}, "template": template}
    path, begin, seen = "/apis/apps/v1/namespaces/default/deployments", time.monotonic(), {}
    assert cluster.call("POST", path, {"metadata": {"name": "big"}, "spec": spec})[0] == 201
    while "ready" not in seen:
        status = cluster.call("GET", f"{path}/big")[1].get("status", {})
        for word, field in (("created", "replicas"), ("ready", "readyReplicas")):
            if status.get(field) == 1000:
                seen.setdefault(word, time.monotonic() - begin)
        time.sleep(0.02)
    cluster.stop()
    ratio = seen["ready"] / REAL_THOUSAND_SECONDS
    words = f"{ratio:.2f} of a real control plane's; created after {seen['created']:.2f} s"
    print(f"1,000 on 100 nodes      {seen['ready'] * 1000:6.0f} ms      {words}")


if __name__ == "__main__":
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    if "--etcd" not in sys.argv:
        throughput()
        thousand()
    else:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from etcd_server import etcd_server

        with tempfile.TemporaryDirectory() as directory, etcd_server(Path(directory)) as etcd:
            for number, measure in enumerate((throughput, thousand)):
                measure("--store", f"etcd://{etcd.endpoint}?prefix=/registry-{number}")
