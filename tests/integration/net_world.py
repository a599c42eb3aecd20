"""A small world for packets: a node, its pods, and a client outside, each a network namespace of
this test. No way out of it.

    client 192.0.2.9 ---- 192.0.2.11 node 10.244.77.1 (bridge, hairpin) ---- pods 10.244.77.2, .3
    ...

Every namespace has one thread of this process; sockets stay in the namespace in which they were
made, so one server answers for all pods.
"""

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from refk8s.adapters.linux.kernel_rules import KernelRules
from refk8s.core.ports import Rule, RuleSet

T = TypeVar("T")

NODE, CLIENT, PODS = "192.0.2.11", "192.0.2.9", "10.244.77.0/24"
NODE6, CLIENT6, PODS6 = "fd00:192::11", "fd00:192::9", "fd00:244::/64"
CLONE_NEWNET = 0x40000000
CLUSTER = "c0ffee00-0000"


def skip_or_fail_on_ci(lacking: str) -> None:
    """Skip the test if this machine lacks something that it needs; on CI that is a failure."""
    if lacking:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"needs {lacking}")


def needs_kernel_rules() -> None:
    """Skip if this process cannot make namespaces and kernel rules; on CI that is a failure."""
    lacking = [tool for tool in ("nft", "ip") if shutil.which(tool) is None]
    skip_or_fail_on_ci(", ".join([*(["root"] if os.geteuid() != 0 else []), *lacking]))


class Namespace:
    """A network namespace with a thread that lives in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)
        self._thread = self.thread()
        self.ip("link set lo up")

    def thread(self) -> ThreadPoolExecutor:
        """One more thread in this namespace."""
        return ThreadPoolExecutor(1, self.name, initializer=self._enter)

    def _enter(self) -> None:
        with open(f"/var/run/netns/{self.name}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def ip(self, *lines: str) -> None:
        subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines), text=True, check=True
        )

    def do(self, work: Callable[[], T]) -> T:
        """Do it in this namespace."""
        return self._thread.submit(work).result(60)

    def run(self, *command: str) -> str:
        """A program's words."""
        return self.do(
            lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )

    def close(self) -> None:
        self._thread.shutdown()
        subprocess.run(["ip", "netns", "delete", self.name], check=False)


class World:
    """Three pods that answer with their address and that of who asks, at TCP and UDP port 8080; at
    9090 they send back what they get."""

    def __init__(self, pods: int = 3) -> None:
        prefix = f"refk8s-{os.getpid() % 100_000}"
        self._spaces: list[Namespace] = []
        self._selector = selectors.DefaultSelector()
        self._stop = os.pipe()
        self._server = threading.Thread(target=self._serve, daemon=True)
        try:
            self.node = self._space(f"{prefix}-node")
            self.client = self._space(f"{prefix}-client")
            self.pods = {f"10.244.77.{2 + i}": self._space(f"{prefix}-pod{i}") for i in range(pods)}
            self._wire()
            self.pods6 = {f"fd00:244::{2 + i:x}": pod for i, pod in enumerate(self.pods.values())}
            for address, pod in (self.pods | self.pods6).items():
                pod.do(lambda address=address: self._listen(address))
            self._selector.register(self._stop[0], selectors.EVENT_READ, None)
            self._server.start()
        except BaseException:
            self.close()
            raise

    def _space(self, name: str) -> Namespace:
        space = Namespace(name)
        self._spaces.append(space)
        return space

    def _wire(self) -> None:
        self.node.ip(
            "link add br0 type bridge",
            "addr add 10.244.77.1/24 dev br0",
            "addr add fd00:244::1/64 dev br0 nodad",
            "link set br0 up",
            f"link add eth0 type veth peer name eth0 netns {self.client.name}",
            f"addr add {NODE}/24 dev eth0",
            f"addr add {NODE6}/64 dev eth0 nodad",
            "link set eth0 up",
            "route add default dev eth0",
            "route add fd00:10:96::/112 dev eth0",
        )
        self.client.ip(
            f"addr add {CLIENT}/24 dev eth0",
            f"addr add {CLIENT6}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {NODE}",
            f"route add default via {NODE6}",
        )
        for i, (address, pod) in enumerate(self.pods.items()):
            self.node.ip(
                f"link add pod{i} type veth peer name eth0 netns {pod.name}",
                f"link set pod{i} master br0",
                f"link set pod{i} type bridge_slave hairpin on",
                f"link set pod{i} up",
            )
            pod.ip(
                f"addr add {address}/24 dev eth0",
                "link set eth0 up",
                "route add default via 10.244.77.1",
                f"addr add fd00:244::{2 + i:x}/64 dev eth0 nodad",
                "route add default via fd00:244::1",
            )
        self.node.do(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        self.node.do(lambda: Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1"))

    def _listen(self, address: str) -> None:
        for kind, port in (
            (socket.SOCK_STREAM, 8080),
            (socket.SOCK_DGRAM, 8080),
            (socket.SOCK_STREAM, 9090),
        ):
            is_six = ":" in address
            server = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, kind)
            if is_six:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind(("::" if is_six else "0.0.0.0", port))
            if kind == socket.SOCK_STREAM:
                server.listen(64)
            work = {
                (socket.SOCK_DGRAM, 8080): self._answer_udp,
                (socket.SOCK_STREAM, 8080): self._answer,
            }.get((kind, port), self._accept)
            self._selector.register(server, selectors.EVENT_READ, (work, address))

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    return
                work, address = key.data
                with contextlib.suppress(OSError):
                    work(key.fileobj, address)

    def _answer(self, server: socket.socket, address: str) -> None:
        connection, peer = server.accept()
        with connection:
            connection.sendall(f"{address} {peer[0]}".encode())

    def _answer_udp(self, server: socket.socket, address: str) -> None:
        _, peer = server.recvfrom(100)
        server.sendto(f"{address} {peer[0]}".encode(), peer)

    def _accept(self, server: socket.socket, address: str) -> None:
        connection, _ = server.accept()
        self._selector.register(connection, selectors.EVENT_READ, (self._echo, address))

    def _echo(self, connection: socket.socket, address: str) -> None:
        data = connection.recv(1 << 16)
        if data:
            connection.sendall(data)
        else:
            connection.sendall(b"." + address.encode())
            self._selector.unregister(connection)
            connection.close()

    def close(self) -> None:
        if self._server.is_alive():
            os.write(self._stop[1], b"x")
            self._server.join(5)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.fileobj.close()
        self._selector.close()
        for end in self._stop:
            os.close(end)
        for space in self._spaces:
            space.close()


def ask(address: str, port: int, seconds: float = 3.0) -> tuple[str, str]:
    """(who answered, whom it saw) by TCP, or ("refused", ""), ("nothing", "")."""
    try:
        with socket.create_connection((address, port), seconds) as connection:
            connection.settimeout(seconds)
            answer = connection.recv(100).decode()
    except ConnectionRefusedError:
        return "refused", ""
    except OSError as error:
        return "nothing", str(error)
    pod, _, seen = answer.partition(" ")
    return pod, seen


def ask_udp(address: str, port: int, seconds: float = 2.0, source_port: int = 0) -> tuple[str, str]:
    """The same by UDP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(seconds)
        if source_port:
            asker.bind(("", source_port))
        asker.connect((address, port))
        try:
            asker.send(b"?")
            pod, _, seen = asker.recv(100).decode().partition(" ")
        except ConnectionRefusedError:
            return "refused", ""
        except OSError as error:
            return "nothing", str(error)
    return pod, seen


def times(
    space: Namespace, count: int, address: str, port: int, by: Callable[..., Any] = ask
) -> Counter[tuple[str, str]]:
    """How often each answer of `ask` comes, of so many requests from this namespace."""
    return Counter(space.do(lambda: [by(address, port) for _ in range(count)]))


def program(world: World, rules: KernelRules, **services: tuple[Rule, ...]) -> None:
    """Give the node the rules of these services."""
    found = RuleSet({f"ns/{name}": found for name, found in services.items()})
    world.node.do(lambda: rules.program_now(found))


@contextlib.contextmanager
def removed_at_the_end(world: World, make: Callable[[], T]) -> Iterator[T]:
    """Rules or policies that are made on the node. At the end they are removed, and the node must
    have no table left."""
    made = world.node.do(make)
    yield made
    world.node.do(made.remove)
    assert world.node.run("nft", "list", "ruleset") == ""


def kernel_elements(world: World, name: str, family: str = "ip") -> dict[str, dict[str, str]]:
    """The elements of each set and map of a table, in the text in which they were written."""
    found: dict[str, dict[str, str]] = {}
    listing = world.node.run("nft", "-j", "list", "table", family, name)
    for item in json.loads(listing)["nftables"]:
        listed = item.get("map") or item.get("set")
        if listed is None or "sticky" in listed["name"]:
            continue
        elements = {}
        for element in listed.get("elem", []):
            key, value = element if "map" in item else (element, "")
            elements[_as_text(key)] = _as_text(value)
        if elements:
            found[listed["name"]] = elements
    return found


def _as_text(value: Any) -> str:
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(_as_text(part) for part in value["concat"])
    if isinstance(value, dict) and "range" in value:
        return "-".join(_as_text(part) for part in value["range"])
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    if isinstance(value, dict) and "goto" in value:
        return f"goto {value['goto']['target']}"
    if isinstance(value, dict):
        return next(iter(value))  # drop
    return str(value)
