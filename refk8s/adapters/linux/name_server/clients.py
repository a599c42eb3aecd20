"""Whose queries are answered, and how many at a time. Rules DNS-14, DNS-15 (spec/dns.md)."""

import socket
from collections import Counter
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network

QUERIES_MAX = 100  # of one pod that wait for other resolvers
CONNECTIONS_MAX = 256
CONNECTIONS_PER_POD_MAX = 20
"""The node itself may have more, because a user-space proxy asks for all pods."""
ANSWERS_PER_POD_MAX = 500
ANSWERS_FOR_NODE_MAX = 2000
"""Answers in one second that must be computed. Each takes some 400 µs of a processor that the other
components of the process need too; kept answers take 4 µs and do not count."""


class Clients:
    """The pods of this node, and the node itself."""

    def __init__(self, pods: IPv4Network) -> None:
        self._pods = pods
        self.waiting: Counter[str] = Counter()
        self.connected: Counter[str] = Counter()
        self._computed: Counter[str] = Counter()
        self._second = 0

    def is_served(self, address: str) -> bool:
        """Whether the address is of this node or one of its pods (DNS-14)."""
        try:
            return IPv4Address(address) in self._pods or is_local(address)
        except AddressValueError:
            return False

    def may_compute(self, client: str, now: float) -> bool:
        """Whether one more answer is computed for this client in this second (DNS-15)."""
        if int(now) != self._second:
            self._second = int(now)
            self._computed.clear()
        self._computed[client] += 1
        count = self._computed[client]
        return count <= ANSWERS_PER_POD_MAX or (count <= ANSWERS_FOR_NODE_MAX and is_local(client))

    def may_ask(self, client: str) -> bool:
        """Whether one more query of this client may wait."""
        return self.waiting[client] < QUERIES_MAX or is_local(client)

    def may_connect(self, client: str) -> bool:
        """Whether this client may have one more connection (DNS-15)."""
        return (
            self.is_served(client)
            and self.connected.total() < CONNECTIONS_MAX
            and (self.connected[client] < CONNECTIONS_PER_POD_MAX or is_local(client))
        )


def release(counted: Counter[str], client: str) -> None:
    """One less; clients without any are forgotten."""
    counted[client] -= 1
    if counted[client] <= 0:
        del counted[client]


@lru_cache(256)
def is_local(address: str) -> bool:
    """Whether this machine has the address: the kernel lets a socket be bound to no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True
