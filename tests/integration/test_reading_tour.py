"""The reading tour of ARCHITECTURE.md is the order in which its functions run.

A Deployment is created over HTTP in a cluster with a simulated node. The calls of the functions of
the tour are recorded until the pod runs, and have to contain the tour in its order.
"""

import asyncio
import http.client
import importlib
import json
import re
import ssl
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fake_cluster import free_port

from refk8s.components.options import RunOptions
from refk8s.components.running_cluster import RunningCluster
from refk8s.core.api.resources import PODS

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| \d+ \| `(\S+\.py)` \| `(\S+)` \|", re.M)
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
    },
}


def read_tour() -> list[tuple[str, str]]:
    """(file, function) of each row."""
    return ROW.findall((ROOT / "ARCHITECTURE.md").read_text())


def code_of(file: str, function: str) -> CodeType:
    found: Any = importlib.import_module("refk8s." + file.removesuffix(".py").replace("/", "."))
    for part in function.split("."):
        found = getattr(found, part)
    code: CodeType = found.__code__
    return code


def create_deployment(port: int, token: str) -> int:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, context=ssl._create_unverified_context(), timeout=30
    )
    path = "/apis/apps/v1/namespaces/default/deployments"
    body = json.dumps(DEPLOYMENT)
    lines = [
        f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}",
        "Content-Type: application/json", f"Content-Length: {len(body)}", "", body,
    ]  # fmt: skip
    connection.connect()
    # in one piece, as kubectl sends it; http.client sends the body after the head
    connection.sock.sendall("\r\n".join(lines).encode())
    response = http.client.HTTPResponse(connection.sock, method="POST")
    response.begin()
    return response.status


async def record_calls(codes: set[CodeType], directory: Path) -> list[CodeType]:
    """The calls of these functions between the request and the pod's phase Running, in order."""
    options = RunOptions(
        adapter="fake",
        nodes=1,
        port=free_port(),
        data_dir=str(directory),
        kubeconfig=str(directory / "kubeconfig"),
    )
    cluster = RunningCluster(options, lambda line: None)
    await cluster.start()
    calls: list[CodeType] = []

    def record(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code in codes:
            calls.append(frame.f_code)

    def is_running() -> bool:
        return any(
            record.value.status.phase == "Running"
            for record in cluster.served.api.store.list(PODS.prefix).records
        )

    try:
        await asyncio.sleep(2)  # the node becomes ready
        token = (directory / "pki/admin.token").read_text().strip()
        sys.settrace(record)
        assert await asyncio.to_thread(create_deployment, options.port, token) == 201
        async with asyncio.timeout(30):
            while not is_running():
                await asyncio.sleep(0.05)
    finally:
        sys.settrace(None)
        await cluster.stop()
    return calls


def test_the_reading_tour_is_the_order_in_which_its_functions_run(tmp_path: Path) -> None:
    tour = read_tour()
    files = [file for file, _ in tour]
    assert len(files) == len(set(files)) >= 20
    codes = {code_of(*row): row for row in tour}
    calls = iter([codes[code] for code in asyncio.run(record_calls(set(codes), tmp_path))])
    missing = next((row for row in tour if row not in calls), None)
    assert missing is None, f"{missing} does not run after the rows before it"
