"""Service rules without the kernel's help: this process listens and passes on. Rules NET-17, NET-20 (spec/network.md).

For a machine that has no nft, or a user who may not use it. Node ports are served at every address of the node, cluster IPs where they may
be added to the loopback device. The same rules and the same choice as the kernel's (core/network/balance.py); an endpoint that does not
take the connection is passed over. What cannot be had this way: the client's address at the pod, SCTP, external addresses that are not
this machine's, and service while this process does not run.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import random
import socket
import struct
import subprocess
import time
from asyncio import DatagramTransport, Protocol, Server, Transport
from collections.abc import Callable
from typing import Any, TypeAlias

from refk8s.core.network.balance import NOBODY_HELD, Held, order_of_trying, pick, targets_for
from refk8s.core.network.fronts import NO_FRONTS, Front, change_fronts
from refk8s.core.ports import Rule, RuleSet, Target

log = logging.getLogger("refk8s")

CONNECT_SECONDS_MAX = 3.0
UDP_IDLE_SECONDS = 60.0
UDP_CLIENTS_MAX = 4096  # of one front
UDP_TURN_MAX = 64  # datagrams that are read before others have their turn
IP_PKTINFO = 8  # <linux/in.h>; Python names it only from 3.14 on
_PKTINFO = struct.Struct("=i4s4s")  # interface, address of ours, address in the header

UdpClient: TypeAlias = tuple[str, int, bytes]
"""Its address and port, and the address of ours that it asked."""
DEVICE = "lo"


class UserspaceRules:
    """The service rules of one node, served by this process."""

    def __init__(self, node_ip: str, pod_cidr: str, cluster_id: str) -> None:
        self.node_ip = node_ip
        self._pods = ipaddress.IPv4Network(pod_cidr)
        self._addresses = LoopbackAddresses(f"{DEVICE}:rfk-{cluster_id[:8]}")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock | None = None
        self._fronts = NO_FRONTS
        self._listeners: dict[Front, TcpListener | UdpListener] = {}
        self._held: Held = NOBODY_HELD
        self._said: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Listen where these rules say; `done` hears "" when it is so. A port that cannot be had is said once, and tried again later."""
        self._loop = asyncio.get_running_loop()
        self._lock = self._lock or asyncio.Lock()
        task = self._loop.create_task(self._change(rules, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self) -> None:
        """Stop listening, take the addresses away (NET-19). Called from a thread beside the event loop's."""
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._change(RuleSet({}), lambda _: None), self._loop).result(10)
        self._addresses.remove_all()

    async def _change(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        assert self._lock is not None
        error = ""
        async with self._lock:
            try:
                self._fronts, differing = change_fronts(self._fronts, rules)
                for front in differing:
                    if not self._serves(front) and (listener := self._listeners.pop(front, None)) is not None:
                        listener.close()
                    elif isinstance(listener := self._listeners.get(front), UdpListener):
                        listener.rule_changed(self._fronts.rules[front])
                await self._listen_where_needed()
            except Exception as bug:
                log.exception("the service proxy met a bug of ours")
                error = f"{type(bug).__name__}: {bug}"
        done(error)

    def _serves(self, front: Front) -> bool:
        rule = self._fronts.rules.get(front)
        return rule is not None and bool(rule.targets or rule.inside) and rule.protocol in ("TCP", "UDP")

    async def _listen_where_needed(self) -> None:
        wanted = [front for front in sorted(self._fronts.rules) if self._serves(front)]
        # Also those without endpoints: at an address of its own this machine refuses at once what nobody listens for.
        addresses = sorted({front[0] for front in self._fronts.rules if front[0] and self._is_cluster_ip(front)})
        await asyncio.to_thread(self._addresses.have, addresses)
        for front in wanted:
            if front not in self._listeners:
                listener = (TcpListener if front[1] == "TCP" else UdpListener)(self, front)
                try:
                    await listener.open(front[0] or "0.0.0.0", front[2])
                except OSError as error:
                    if error.errno != errno.EADDRNOTAVAIL:  # an address that is not this machine's: nobody comes by it
                        self._say_once(f"{front[1]} port {front[2]} of a service cannot be served here: {error.strerror or error}")
                    continue
                self._listeners[front] = listener

    def _is_cluster_ip(self, front: Front) -> bool:
        rule = self._fronts.rules[front]
        return not rule.local and not rule.masquerade

    # --- what listeners ask

    def choose(self, front: Front, client: str, here: str) -> tuple[Target, ...]:
        """The targets in the order in which they are to be tried; none: refuse. `here` is the address of ours that the client came to."""
        rule = self._fronts.rules.get(front)
        if rule is None:
            return ()
        address = ipaddress.ip_address(client)
        within = client in (here, self.node_ip) or address.is_loopback or address in self._pods
        target, self._held = pick(rule, client, within, random.getrandbits(32), self._held, time.time_ns() // 1000)
        return tuple(order_of_trying(rule, within, target)) if target is not None else ()

    def _say_once(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            log.warning("%s", words)


# --- TCP -----------------------------------------------------------------------------------------------------------------


class TcpListener:
    """One front by TCP. Closing it leaves what is established alone: an endpoint that goes ends its connections itself."""

    def __init__(self, rules: UserspaceRules, front: Front) -> None:
        self._rules = rules
        self._front = front
        self._server: Server | None = None

    async def open(self, address: str, port: int) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._accept, address, port)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def _accept(self) -> "Side":
        return Side(self._connect)

    async def _connect(self, client: "Side") -> None:
        assert client.transport is not None
        peer, here = client.transport.get_extra_info("peername"), client.transport.get_extra_info("sockname")
        loop = asyncio.get_running_loop()
        for target in self._rules.choose(self._front, peer[0], here[0]) if peer else ():
            try:
                async with asyncio.timeout(CONNECT_SECONDS_MAX):
                    _, other = await loop.create_connection(Side, target.address, target.port)
            except (OSError, TimeoutError):
                continue
            client.join(other)
            return
        client.transport.abort()


class Side(Protocol):
    """One of the two connections of a client; what comes in here goes out at the other. The slower one sets the pace."""

    def __init__(self, connect: Callable[["Side"], Any] | None = None) -> None:
        self._connect = connect
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # came before there was another side; uvloop reads on although it was asked not to
        self._ended = False
        self._lost = False
        self.transport: Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.pause_reading()
        if self._connect is not None:
            self._task = asyncio.get_running_loop().create_task(self._connect(self))

    def join(self, other: "Side") -> None:
        """Pass on from now on, both ways."""
        self.other, other.other = other, self
        for side in (self, other):
            side._catch_up()
        if self._ended and other._ended:
            for side in (self, other):
                assert side.transport is not None
                side.transport.close()

    def _catch_up(self) -> None:
        assert self.transport is not None and self.other is not None and self.other.transport is not None
        for data in self._early:
            self.other.transport.write(data)
        self._early.clear()
        if self._lost:
            self.other.transport.close()
            return
        if self._ended:
            self._pass_end_on()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Stay half open while the other still speaks."""
        self._ended = True
        if self.other is None:
            return True
        self._pass_end_on()
        return not self.other._ended

    def _pass_end_on(self) -> None:
        assert self.other is not None
        transport = self.other.transport
        if transport is not None and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


# --- UDP -----------------------------------------------------------------------------------------------------------------


class UdpListener:
    """One front by UDP: every client has a socket of its own to its target, until it is silent or the target leaves.

    A node port listens at every address, so the answer must say by itself which of them the client asked (ip(7), IP_PKTINFO).
    """

    def __init__(self, rules: UserspaceRules, front: Front) -> None:
        self._rules = rules
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._clients: dict[UdpClient, UdpFlow] = {}

    async def open(self, address: str, port: int) -> None:
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        try:
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        for flow in list(self._clients.values()):
            flow.close()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def rule_changed(self, rule: Rule) -> None:
        """Flows to targets that left are over (NET-16)."""
        stay = {*targets_for(rule, True), *targets_for(rule, False)}
        for flow in list(self._clients.values()):
            if flow.target not in stay:
                flow.close()

    def _read(self) -> None:
        for _ in range(UDP_TURN_MAX):
            try:
                data, ancillary, _, (address, port) = self._socket.recvmsg(1 << 16, socket.CMSG_SPACE(_PKTINFO.size))
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier answer of ours found nobody
            here = next((_PKTINFO.unpack(info)[1] for level, kind, info in ancillary if kind == IP_PKTINFO), b"")
            self._datagram_received(data, (address, port, here))

    def _datagram_received(self, data: bytes, client: "UdpClient") -> None:
        flow = self._clients.get(client)
        if flow is None:
            targets = self._rules.choose(self._front, client[0], socket.inet_ntoa(client[2]) if client[2] else "")
            if not targets or len(self._clients) >= UDP_CLIENTS_MAX:
                return
            flow = self._clients[client] = UdpFlow(self, client, targets[0])
        flow.send(data)

    def answer(self, data: bytes, client: "UdpClient") -> None:
        """What does not go out at once is lost, as datagrams may be."""
        address, port, here = client
        origin = (socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, here or bytes(4), bytes(4)))
        with contextlib.suppress(OSError):
            self._socket.sendmsg([data], [origin], 0, (address, port))

    def over(self, client: "UdpClient") -> None:
        self._clients.pop(client, None)


class UdpFlow(asyncio.DatagramProtocol):
    """One client's way to its target."""

    def __init__(self, listener: UdpListener, client: UdpClient, target: Target) -> None:
        self.target = target
        self._listener = listener
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._transport: DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self._closed = False
        self._last = self._loop.time()
        self._timer = self._loop.call_later(UDP_IDLE_SECONDS, self._look)
        self._task = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            transport, _ = await self._loop.create_datagram_endpoint(
                lambda: self, remote_addr=(self.target.address, self.target.port)
            )
        except OSError:
            self.close()
            return
        if self._closed:
            transport.close()
            return
        self._transport = transport
        for data in self._waiting:
            transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        self._last = self._loop.time()
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < 16:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, address: Any) -> None:
        self._last = self._loop.time()
        self._listener.answer(data, self._client)

    def error_received(self, error: Exception) -> None:
        self.close()  # nobody is there: the next datagram picks anew

    def _look(self) -> None:
        rest = self._last + UDP_IDLE_SECONDS - self._loop.time()
        if rest <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(rest, self._look)

    def close(self) -> None:
        """Forget the client."""
        self._closed = True
        self._timer.cancel()
        self._listener.over(self._client)
        if self._transport is not None:
            self._transport.close()


# --- cluster IPs ---------------------------------------------------------------------------------------------------------


class LoopbackAddresses:
    """Cluster IPs as addresses of the loopback device, under a label of this cluster, by which a later process finds them again."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._had: list[str] | None = None
        self.refused = ""  # why addresses may not be added

    def have(self, addresses: list[str]) -> None:
        """These, and no others of this label."""
        if self._had is None:
            self._had = self._found()
        for address in self._had:
            if address not in addresses:
                self._ip("del", address)
        for address in addresses:
            if address not in self._had and not self.refused:
                self.refused = self._ip("add", address)
                if self.refused:
                    log.warning("cluster IPs are not served on this machine, only node ports: %s", self.refused)
        self._had = [] if self.refused else list(addresses)

    def remove_all(self) -> None:
        """Also those of an earlier process."""
        for address in self._found():
            self._ip("del", address)
        self._had = None

    def _found(self) -> list[str]:
        try:
            ran = subprocess.run(["ip", "-o", "-4", "addr", "show", "label", self._label], capture_output=True, text=True, check=False)
        except OSError:
            return []
        return [words[3].partition("/")[0] for line in ran.stdout.splitlines() if len(words := line.split()) > 3]

    def _ip(self, verb: str, address: str) -> str:
        command = ["ip", "addr", verb, f"{address}/32", "dev", DEVICE, *(["label", self._label] if verb == "add" else [])]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return "there is no ip program here"
        words = ran.stderr.strip().splitlines() or ["it was refused"]
        return "" if ran.returncode == 0 or "exists" in words[0] else words[0]
