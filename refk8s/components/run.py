"""`refk8s run`: opens the store, serves the API, and starts every component in one process.

Order of starting: what can fail (engine, port, directory, store) comes first, and leaves nothing behind when it does. Order of stopping:
the components, then their containers and rules unless they are to be kept, then the server, then the store.
"""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

from attrs import frozen

log = logging.getLogger("refk8s")

LOCAL = "127.0.0.1"
SERVICE_ADDRESS = "10.96.0.1"  # of the service default/kubernetes
NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost")


class CannotRun(Exception):
    """Why the cluster cannot start, in one line that names the next step."""


@frozen
class RunOptions:
    """The flags of `refk8s run`."""

    adapter: str = "auto"
    nodes: int | None = None
    store: str | None = None
    port: int = 6443
    data_dir: str | None = None
    kubeconfig: str | None = None
    story: bool = False
    keep: bool = False
    manifests: tuple[str, ...] = ()

    @property
    def data(self) -> Path:
        return Path(self.data_dir or "~/.refk8s").expanduser().absolute()

    @property
    def kubeconfig_path(self) -> Path:
        return Path(self.kubeconfig).expanduser().absolute() if self.kubeconfig else self.data / "kubeconfig"

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:{self.data / 'store.db'}"


def run_cluster(options: RunOptions) -> int:
    """Run until a signal; returns the exit status. Raises CannotRun, and then has made nothing."""
    # States are values: most garbage is young and free of cycles, so looking at everything old again and again finds nothing.
    gc.set_threshold(50_000, 20, 100)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="refk8s: %(message)s")
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what it says at the end of a watch is no news
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(options))


def listen(port: int) -> socket.socket:
    """The API server's socket, on every address of this machine; CannotRun where the port is taken."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("0.0.0.0", port))
        server.listen(1024)
    except OSError as error:
        server.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotRun(f"port {port} is in use: choose another with --port, or 0 for any free one") from None
        raise CannotRun(f"cannot listen on port {port}: {error.strerror}; choose another with --port") from None
    server.setblocking(False)
    return server


def make_directory(path: Path, flag: str) -> list[Path]:
    """Make the directory where it is not there; returns what was made, innermost first. CannotRun where it cannot be written."""
    made = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CannotRun(f"cannot make the directory {path}: {error.strerror}; choose another with {flag}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise CannotRun(f"the directory {path} is not writable; choose another with {flag}")
    return made


async def _run(options: RunOptions) -> int:
    from refk8s.components.cluster import RunningCluster

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    cluster = RunningCluster(options)
    try:
        await cluster.start()
        print(cluster.ready_line, flush=True)
        for manifest in options.manifests:
            print(await cluster.apply(Path(manifest)), flush=True)
        await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # A second signal while stopping ends the process at once.
            loop.remove_signal_handler(number)
        await cluster.stop()
    return 0
