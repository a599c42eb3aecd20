"""Several Docker hosts on one machine, for the tests of a cluster of several machines.

    switch 192.0.2.1 --- 192.0.2.11 node 1 (engine)
           (bridge)  --- 192.0.2.12 node 2 (engine)
                     --- 192.0.2.13 node 3 (engine)

Each node is a network namespace with an engine of its own. The switch is a namespace with a bridge;
there is no way out of it. Programs of the control plane and kubectl run there (`switch.popen`,
`switch.run`), or on a node. A node whose link is 2 is at 198.51.100.N, and reaches the others
through the switch, which forwards packets.

Everything is named after this process, and ended by its own number.
"""

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from docker_host import Host

LINKS = {1: "192.0.2", 2: "198.51.100"}
"""The first three bytes of the addresses of each link; the switch is .1 on all of them."""


class Switch:
    """The namespace in which the nodes meet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = ["nsenter", f"--net=/var/run/netns/{name}"]
        self.address = f"{LINKS[1]}.1"

    def start(self) -> None:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link set lo up")
        for number, prefix in LINKS.items():
            self.ip(
                f"link add link{number} type bridge",
                f"addr add {prefix}.1/24 dev link{number}",
                f"link set link{number} up",
            )
        self.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def ip(self, *settings: str) -> None:
        """Commands of `ip`, in this namespace."""
        for setting in settings:
            subprocess.run(["ip", "-n", self.name, *setting.split()], check=True)

    def run(self, *command: str, **more: Any) -> str:
        """What a program prints that runs in this namespace; it must succeed."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, **more)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def popen(self, *command: str, **more: Any) -> "subprocess.Popen[bytes]":
        """Start a program in this namespace; the caller ends it."""
        return subprocess.Popen([*self.inside, *command], stdin=subprocess.DEVNULL, **more)

    def stop(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


class DockerNode(Host):
    """A node at the switch. `pull_out` and `plug_in`: its wire."""

    def __init__(self, switch: Switch, number: int, link: int = 1, *flags: str) -> None:
        super().__init__(100 + number, *flags)
        self.switch = switch
        self.number = number
        self.link = link
        self.name = f"node-{number}"
        self.node_ip = f"{LINKS[link]}.{10 + number}"
        self.port = f"node{number}"  # of the switch

    def wire(self) -> None:
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        self.ip("link set lo up")
        self.switch.ip(
            f"link add {self.port} type veth peer name node0 netns {self.namespace}",
            f"link set {self.port} master link{self.link} up",
        )
        self.ip(
            f"addr add {self.node_ip}/24 dev node0",
            "link set node0 up",
            f"route add default via {LINKS[self.link]}.1",
        )

    def unwire(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.namespace], check=False)

    def ip(self, *settings: str) -> None:
        """Commands of `ip`, in this namespace."""
        for setting in settings:
            subprocess.run(["ip", "-n", self.namespace, *setting.split()], check=True)

    def pull_out(self) -> None:
        """From now on no packet reaches the node, and none leaves it."""
        self.switch.ip(f"link set {self.port} down")

    def plug_in(self) -> None:
        self.switch.ip(f"link set {self.port} up")

    def run(self, *command: str, **more: Any) -> str:
        """What a program prints that runs on the node, with its engine; it must succeed."""
        done = subprocess.run(
            [*self.inside, *command], capture_output=True, text=True, env=self.environment(), **more
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def popen(self, *command: str, **more: Any) -> "subprocess.Popen[bytes]":
        """Start a program on the node, with its engine; the caller ends it."""
        return subprocess.Popen(
            [*self.inside, *command], stdin=subprocess.DEVNULL, env=self.environment(), **more
        )

    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.address, "NO_COLOR": "1"}


class DockerNodes:
    """A switch and its nodes; the engines are started at the same time. `links`: that of each
    node."""

    def __init__(self, links: Sequence[int] = (1, 1, 1), *engine_flags: str) -> None:
        kind = "".join(map(str, links))
        self.switch = Switch(f"refk8s-test-{os.getpid()}-switch-{kind}")
        first = 1 if kind == "111" else 11  # two of these may exist at the same time
        self.nodes = [
            DockerNode(self.switch, first + i, link, *engine_flags) for i, link in enumerate(links)
        ]

    def __enter__(self) -> "DockerNodes":
        try:
            self.switch.start()
            with ThreadPoolExecutor(len(self.nodes)) as threads:
                list(threads.map(lambda node: node.start(), self.nodes))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Stop what was started."""
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(lambda node: node.stop(), self.nodes))
        self.switch.stop()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
