"""The nodes of `refk8s run`: which adapter, and for each node a runtime and the rules of its
services."""

import logging
import socket
from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from refk8s.components.clock import CHANCE, Clock
from refk8s.components.driver import Rules, Runtime
from refk8s.components.pod_streams import Containers
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.ports import RuleSet

log = logging.getLogger("refk8s")


class NoEngine(Exception):
    """Why no Docker engine can be used, in one line."""


@frozen
class RunningNode:
    """One node: its name, settings, runtime, service rules, and the streams of its containers."""

    name: str
    config: KubeletConfig
    runtime: Runtime
    rules: Rules
    containers: Containers


class Nodes(Protocol):
    """What an adapter gives: the nodes, and a way to take down what is left on the host."""

    words: str

    def nodes(self) -> list[RunningNode]: ...

    async def bridge(self) -> tuple[str, str]:
        """Where pods reach this machine: an address of it, and the device that it belongs to; empty
        where pods have no network."""

    async def close(self, keep: bool) -> None: ...


class FakeNodes:
    """Simulated nodes: nothing on this machine is touched."""

    def __init__(self, count: int, clock: Clock) -> None:
        self._count = count
        self._clock = clock
        self.words = f"{count} simulated node{'' if count == 1 else 's'}"

    def nodes(self) -> list[RunningNode]:
        from refk8s.adapters.fake.runtime import FakeRuntime
        from refk8s.adapters.fake.streams import SimulatedContainers
        from refk8s.adapters.fake.world import make_world

        def node(name: str, number: int) -> RunningNode:
            runtime = FakeRuntime(make_world(name, number), self._clock.now, CHANCE)
            return RunningNode(
                name, KubeletConfig(), runtime, NoRules(), SimulatedContainers(runtime, name)
            )

        return [node(f"node-{number}", number) for number in range(1, self._count + 1)]

    async def bridge(self) -> tuple[str, str]:
        return "", ""

    async def close(self, keep: bool) -> None:
        return None


class NoRules:
    """Simulated nodes have no kernel: the rules are taken and that is all."""

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        done("")


def hostname() -> str:
    """This machine's name as a node name."""
    return socket.gethostname().lower().rstrip(".") or "localhost"
