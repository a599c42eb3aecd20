"""Processes of refk8s as a user starts them, and kubectl against them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fake_cluster import need_kubectl

READY_SECONDS = 60


class Process:
    """One command of refk8s below a directory of its own. `inside`: what enters a namespace."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *arguments: str,
        inside: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.name = name
        self.command = [*inside, sys.executable, "-m", "refk8s.cli.main", *arguments]
        self.environment = {**os.environ, **environment}
        self.log = directory / f"{name}.log"
        self.process: subprocess.Popen[bytes]

    def begin(self) -> "Process":
        """Start it; returns at once."""
        with open(self.log, "ab") as log:
            self._seen = log.tell()
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=self.environment,
            )
        return self

    def start(self) -> "Process":
        """Start it, and wait for its ready line."""
        return self.begin().wait_until_ready()

    def wait_until_ready(self) -> "Process":
        end = time.monotonic() + READY_SECONDS
        while " is ready" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"{self.name} is not ready: {self.said()}"
            time.sleep(0.02)
        return self

    def said(self) -> str:
        """What it has written since its last start."""
        return self.log.read_bytes()[self._seen :].decode(errors="replace")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


Start = Callable[..., Process]
"""Makes a process by its name and arguments."""


def kubectl(kubeconfig: Path, *arguments: str, fine: bool = True) -> str:
    """What kubectl prints; with `fine` off also its errors."""
    done = subprocess.run(
        [need_kubectl(), "--request-timeout=20s", *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or not fine, (
        f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
    )
    return (done.stdout + ("" if fine else done.stderr)).strip()
