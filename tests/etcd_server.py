"""A real etcd on loopback, with ports and a directory of its own, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 30.0


def etcd_program(name: str = "etcd") -> str:
    """The installed program. Raises AssertionError if it is missing: etcd tests never skip."""
    found = shutil.which(name)
    assert found is not None, f"no {name} here: apt-get install etcd-server etcd-client"
    return found


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class EtcdServer:
    """One member. `stop` ends it as a power failure would, `start` starts it on its data again."""

    def __init__(self, directory: Path, *flags: str, name: str = "m0"):
        self.directory = directory
        self.port, own_peer = free_ports(2)
        self.name = name
        self.peer_port = own_peer
        self.flags = flags
        self.scheme = "https" if "--cert-file" in flags else "http"
        self.ctl_flags: tuple[str, ...] = ()
        self.inside: tuple[str, ...] = ()  # what enters a network namespace
        self.process: subprocess.Popen[bytes] | None = None
        self.cluster = f"{name}=http://127.0.0.1:{own_peer}"

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> None:
        client, peer = f"{self.scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.inside,
                    etcd_program(),
                    *("--name", self.name, "--data-dir", str(self.directory / "data")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", self.cluster, "--log-level", "error"),
                    *self.flags,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers, which it does once the cluster has a leader."""
        end = time.monotonic() + START_SECONDS
        etcdctl = [*self.inside, etcd_program("etcdctl"), "--endpoints", self.endpoint]
        while subprocess.run(
            [*etcdctl, *self.ctl_flags, "get", "x"],
            env={**os.environ, "ETCDCTL_API": "3"},
            capture_output=True,
        ).returncode:
            assert self.process is not None and self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()

    def log(self) -> str:
        return (self.directory / "log").read_text()[-2000:]

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None

    def ctl(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Run etcdctl."""
        return subprocess.run(
            [etcd_program("etcdctl"), "--endpoints", self.endpoint, *self.ctl_flags, *arguments],
            env={**os.environ, "ETCDCTL_API": "3"},
            input=stdin,
            check=True,
            capture_output=True,
        ).stdout


@contextmanager
def etcd_server(directory: Path, *flags: str) -> Iterator[EtcdServer]:
    """One member that runs until the end of the block."""
    server = EtcdServer(directory, *flags)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def etcd_cluster(directory: Path, count: int = 3) -> Iterator[list[EtcdServer]]:
    """A cluster of so many members."""
    members = [EtcdServer(directory / f"m{n}", name=f"m{n}") for n in range(count)]
    together = ",".join(member.cluster for member in members)
    try:
        for member in members:
            member.cluster = together
            member.start(wait=False)
        for member in members:
            member.wait()
        yield members
    finally:
        for member in members:
            member.kill()
