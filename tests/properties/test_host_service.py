"""Which address the service kubernetes leads to. Rule HOST-2 (spec/host.md)."""

import asyncio
from typing import Any

import pytest

from refk8s.components.kubernetes_service import UNREACHABLE, KubernetesService
from refk8s.components.listening import listen
from refk8s.core.api.user import ADMIN


class Nodes:
    """Nodes with this bridge; none where it is empty."""

    def __init__(self, address: str, device: str) -> None:
        self.at = address, device

    async def bridge(self) -> tuple[str, str]:
        if self.at[0] == "unknown":
            raise OSError("the engine does not answer")
        return self.at


class Front:
    """Remembers the sockets that it is given."""

    def __init__(self) -> None:
        self.sockets: list[Any] = []

    async def listen_also(self, socket: Any) -> Any:
        self.sockets.append(socket)
        return socket


def address_of(
    bind: str, bridge: tuple[str, str], node_address: str = "192.0.2.11"
) -> tuple[str, list[Any]]:
    front = Front()

    async def reconcile() -> str:
        nodes: Any = Nodes(*bridge)
        service = KubernetesService(None, front, nodes, None, ADMIN, bind, PORT, node_address)  # type: ignore[arg-type]
        first = await service._address()
        assert await service._address() == first
        return first

    found = asyncio.run(reconcile())
    return found, [socket.getsockname() for socket in front.sockets]


with listen("127.0.0.1", 0) as free:
    PORT = free.getsockname()[1]


@pytest.mark.parametrize(("bind", "bridge", "node_address", "address", "listens"), [
    ("192.0.2.7", ("127.0.0.9", "lo"), "192.0.2.11", "192.0.2.7", False),
    ("0.0.0.0", ("127.0.0.9", "lo"), "192.0.2.11", "192.0.2.11", False),
    ("0.0.0.0", ("127.0.0.9", "lo"), "127.0.0.1", "127.0.0.9", False),
    ("127.0.0.1", ("127.0.0.9", "lo"), "192.0.2.11", "127.0.0.9", True),
    ("::1", ("127.0.0.9", "lo"), "192.0.2.11", "127.0.0.9", True),
    ("127.0.0.1", ("", ""), "192.0.2.11", "192.0.2.11", False),
    ("127.0.0.1", ("", ""), "127.0.0.1", UNREACHABLE, False),
    ("127.0.0.1", ("unknown", ""), "192.0.2.11", "", False),
    ("127.0.0.1", ("127.0.0.9", "no-such-device"), "192.0.2.11", "", False),
])  # fmt: skip
def test_host_2_the_address_follows_from_bind_and_bridge(
    bind: str, bridge: tuple[str, str], node_address: str, address: str, listens: bool
) -> None:
    """The loopback device stands for a bridge. It listens there once, however often it looks."""
    # Shows HOST-2.b, HOST-2.c, HOST-2.d, HOST-2.g, HOST-2.h.
    assert address_of(bind, bridge, node_address) == (
        address,
        [("127.0.0.9", PORT)] if listens else [],
    )
