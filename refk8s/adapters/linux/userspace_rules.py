"""Service rules without the kernel's help: this process listens and passes on. Rules NET-17, NET-20
(spec/network.md).

For a machine that has no nft, or a user who may not use it. Node ports are served at every address
of the node, cluster IPs where they may be added to the loopback device. The same rules and the same
choice as the kernel's (core/network/balance.py); an endpoint that does not take the connection is
passed over. What cannot be had this way: the client's address at the pod, SCTP, external addresses
that are not this machine's, and service while this process does not run.
"""

import asyncio
import errno
import ipaddress
import logging
import random
import time
from collections.abc import Callable

from refk8s.adapters.linux.loopback import DEVICE, LoopbackAddresses
from refk8s.adapters.linux.relay import TcpListener, UdpListener
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.network.balance import NONE_HELD, Held, order_of_trying, pick
from refk8s.core.network.fronts import NO_FRONTS, Front, change_fronts
from refk8s.core.ports import RuleSet, Target

log = logging.getLogger("refk8s")


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
        self._held: Held = NONE_HELD
        self._warn_once = WarnOnce()
        self._tasks: set[asyncio.Task[None]] = set()

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Listen where these rules say; `done` hears "" when it is so. A port that cannot be had is
        said once, and tried again later."""
        self._loop = asyncio.get_running_loop()
        self._lock = self._lock or asyncio.Lock()
        task = self._loop.create_task(self._change(rules, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self) -> None:
        """Stop listening, take the addresses away (NET-19). Called from a thread beside the event
        loop's."""
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(
                self._change(RuleSet({}), lambda _: None), self._loop
            ).result(10)
        self._addresses.remove_all()

    async def _change(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        assert self._lock is not None
        error = ""
        async with self._lock:
            try:
                self._fronts, differing = change_fronts(self._fronts, rules)
                for front in differing:
                    if (
                        not self._serves(front)
                        and (listener := self._listeners.pop(front, None)) is not None
                    ):
                        listener.close()
                    elif isinstance(listener := self._listeners.get(front), UdpListener):
                        listener.rule_changed(self._fronts.rules[front])
                await self._listen_where_needed()
            except Exception as bug:
                log.exception("the service proxy failed with an internal error")
                error = f"{type(bug).__name__}: {bug}"
        done(error)

    def _serves(self, front: Front) -> bool:
        rule = self._fronts.rules.get(front)
        return (
            rule is not None
            and bool(rule.targets or rule.inside)
            and rule.protocol in ("TCP", "UDP")
        )

    async def _listen_where_needed(self) -> None:
        wanted = [front for front in sorted(self._fronts.rules) if self._serves(front)]
        # Also those without endpoints: at an address of its own this machine refuses at once what
        # nobody listens for.
        addresses = sorted(
            {front[0] for front in self._fronts.rules if front[0] and self._is_cluster_ip(front)}
        )
        await asyncio.to_thread(self._addresses.have, addresses)
        for front in wanted:
            if front not in self._listeners:
                listener = (TcpListener if front[1] == "TCP" else UdpListener)(self.choose, front)
                try:
                    await listener.open(front[0] or "0.0.0.0", front[2])
                except OSError as error:
                    # an address that is not this machine's: nobody comes by it
                    if error.errno != errno.EADDRNOTAVAIL:
                        self._warn_once(
                            f"{front[1]} port {front[2]} of a service cannot be served here: {error.strerror or error}"
                        )
                    continue
                self._listeners[front] = listener

    def _is_cluster_ip(self, front: Front) -> bool:
        rule = self._fronts.rules[front]
        return not rule.local and not rule.masquerade

    # --- what listeners ask

    def choose(self, front: Front, client: str, here: str) -> tuple[Target, ...]:
        """The targets in the order in which they are to be tried; none: refuse. `here` is the
        address of ours that the client came to."""
        rule = self._fronts.rules.get(front)
        if rule is None:
            return ()
        address = ipaddress.ip_address(client)
        within = client in (here, self.node_ip) or address.is_loopback or address in self._pods
        target, self._held = pick(
            rule, client, within, random.getrandbits(32), self._held, time.time_ns() // 1000
        )
        return tuple(order_of_trying(rule, within, target)) if target is not None else ()
