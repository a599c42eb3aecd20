"""Simulated nodes for `refk8s run --adapter fake`: they change nothing on this machine."""

from collections.abc import Callable

from refk8s.core.context import Chance, Instant
from refk8s.core.ports import Containers, Node, RuleSet


class FakeNodes:
    """The nodes node-1 ... node-N."""

    cluster_cidr = "10.128.0.0/9"  # 32,768 ranges
    receive_packets = False
    simulates_devices = True

    def __init__(self, count: int, now: Callable[[], Instant], chance: Chance) -> None:
        self._count = count
        self._now = now
        self._chance = chance
        self._nodes: dict[str, Node] = {}
        self.words = f"{count} simulated node{'' if count == 1 else 's'}"

    def start(self, cluster_id: str) -> list[Node]:
        """Start the nodes; an earlier process leaves nothing of a simulated node."""
        from refk8s.adapters.fake.runtime import FakeRuntime
        from refk8s.adapters.fake.streams import SimulatedContainers
        from refk8s.adapters.fake.world import make_world

        for number in range(1, self._count + 1):
            name = f"node-{number}"
            runtime = FakeRuntime(make_world(name, number), self._now, self._chance)
            containers = SimulatedContainers(runtime, name)
            self._nodes[name] = Node(name, runtime, NoRules(), containers)
        return list(self._nodes.values())

    def used_networks(self, cluster_id: str) -> tuple[()]:
        """Simulated pods have no network, so their addresses may be anything."""
        return ()

    def containers_of(self, node_name: str) -> Containers | None:
        """The containers of a simulated node."""
        node = self._nodes.get(node_name)
        return None if node is None else node.containers

    async def bridge(self) -> tuple[str, str]:
        """Simulated pods have no network."""
        return "", ""

    async def close(self, keep: bool) -> None:
        """Nothing is left on the machine."""


class NoRules:
    """Accepts rules without effect, since simulated nodes have no kernel."""

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Accept the rules."""
        done("")
