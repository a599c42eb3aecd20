"""A user-space proxy for service rules. Rules NET-17, NET-20 (spec/network.md).

For a machine without nft, or a user without the right to use it. Node ports are served at every
address of the node, and cluster IPs if they can be added to this machine. The rules and the
selection of endpoints are the kernel's (core/network/balance.py); an endpoint that refuses the
connection is skipped. Not supported: the client's address at the pod, SCTP, external addresses of
other machines, and services while this process does not run.
"""

import asyncio
import errno
import ipaddress
import logging
import random
import time
from collections.abc import Callable

from refk8s.adapters.linux.loopback import LoopbackAddresses
from refk8s.adapters.linux.relay import TcpListener, UdpListener
from refk8s.adapters.warn_once import WarnOnce
from refk8s.core.network.balance import NONE_HELD, Held, order_of_trying, pick
from refk8s.core.network.fronts import NO_FRONTS, Front, change_fronts
from refk8s.core.ports import RuleSet, Target

log = logging.getLogger("refk8s")

ANY, ANY6 = "0.0.0.0", "::"


class UserspaceRules:
    """The service rules of one node, served by this process."""

    def __init__(self, node_ip: str, pod_cidr: str, cluster_id: str) -> None:
        self.node_ips = tuple(node_ip.split(","))
        self._pods = [ipaddress.ip_network(each) for each in pod_cidr.split(",")]
        self._addresses = LoopbackAddresses(cluster_id)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock | None = None
        self._fronts = NO_FRONTS
        self._listeners: dict[Front, TcpListener | UdpListener] = {}
        self._held: Held = NONE_HELD
        self._warn_once = WarnOnce()
        self._tasks: set[asyncio.Task[None]] = set()

    def program(self, rules: RuleSet, done: Callable[[str], None]) -> None:
        """Listen as these rules require, then call `done` with "".

        A port that is in use is logged once and retried later.
        """
        self._loop = asyncio.get_running_loop()
        self._lock = self._lock or asyncio.Lock()
        task = self._loop.create_task(self._change(rules, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def remove(self) -> None:
        """Stop listening and remove the addresses (NET-19). Called in a worker thread."""
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
        # Also those without endpoints: a connection to an address of this machine is refused at
        # once if no socket listens.
        addresses = sorted({front[0] for front in self._fronts.rules if self._is_cluster_ip(front)})
        await asyncio.to_thread(self._addresses.set, addresses)
        for front in wanted:
            if front not in self._listeners:
                listener = (TcpListener if front[1] == "TCP" else UdpListener)(self.choose, front)
                try:
                    await listener.open(front[0] or ANY, front[2])
                except OSError as error:
                    # an address of another machine: no client can use it
                    if error.errno != errno.EADDRNOTAVAIL:
                        self._warn_once(
                            f"{front[1]} port {front[2]} of a service cannot be served here: "
                            f"{error.strerror or error}"
                        )
                    continue
                self._listeners[front] = listener

    def _is_cluster_ip(self, front: Front) -> bool:
        rule = self._fronts.rules[front]
        return front[0] not in ("", ANY6) and not rule.local and not rule.masquerade

    # --- what listeners ask

    def choose(self, front: Front, client: str, here: str) -> tuple[Target, ...]:
        """The targets in the order of attempts; empty: refuse the connection.

        `here` is the address of this machine to which the client connected.
        """
        rule = self._fronts.rules.get(front)
        if rule is None:
            return ()
        address = ipaddress.ip_address(client)
        is_pod = any(address in each for each in self._pods)
        within = client in (here, *self.node_ips) or address.is_loopback or is_pod
        target, self._held = pick(
            rule, client, within, random.getrandbits(32), self._held, time.time_ns() // 1000
        )
        return tuple(order_of_trying(rule, within, target)) if target is not None else ()
