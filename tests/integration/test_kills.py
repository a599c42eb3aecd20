"""Kills of API servers and of etcd under clients that write, and whether what the clients have seen
is linearizable. Rules ETCD-5, ETCD-10, API-8 (spec/etcd.md, spec/api.md)."""

from __future__ import annotations

import http.client
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from etcd_server import EtcdServer
from register_history import OK, REFUSED, UNKNOWN, Operation, State, violations
from test_etcd_cluster import CONFIG_MAPS, Server, etcd, servers

__all__ = ["etcd", "servers"]  # fixtures

KILLS = 20
CLIENTS = 6
KEYS = ("a", "b")


class Client:
    """Increments objects until it is stopped, at one server or the other."""

    def __init__(self, number: int, servers: tuple[Server, Server], seed: int) -> None:
        self.number = number
        self.servers = servers
        self.chance = random.Random(seed + number)
        self.history: list[Operation] = []

    def run(self, stopping: threading.Event) -> None:
        count = 0
        while not stopping.is_set():
            count += 1
            key = self.chance.choice(KEYS)
            found = self.read(self.chance.choice(self.servers), key)
            if found is None or self.chance.random() < 0.3:
                continue
            self.write(self.chance.choice(self.servers), key, found, f"{self.number}-{count}")

    def read(self, server: Server, key: str) -> dict[str, Any] | None:
        begin = time.monotonic()
        status, body = call(server, "GET", key)
        if status != 200:
            time.sleep(0.05)
            return None
        state = state_of(body)
        self.history.append(Operation(key, begin, time.monotonic(), OK, state))
        return body

    def write(self, server: Server, key: str, found: dict[str, Any], mark: str) -> None:
        state, number = state_of(found), int(found["data"]["n"]) + 1
        body = {**found, "data": {"n": str(number), "by": mark}}
        begin = time.monotonic()
        status, answer = call(server, "PUT", key, body)
        outcome = OK if status == 200 else REFUSED if 400 <= status < 500 else UNKNOWN
        made = int(answer["metadata"]["resourceVersion"]) if outcome == OK else 0
        end = time.monotonic()
        self.history.append(Operation(key, begin, end, outcome, state, number, mark, made))


def call(server: Server, method: str, key: str, body: Any = None) -> tuple[int, Any]:
    """The answer; (0, None) without one."""
    try:
        return server.call(method, f"{CONFIG_MAPS}/{key}", body)
    except (OSError, http.client.HTTPException, ValueError):
        return 0, None


def state_of(body: dict[str, Any]) -> State:
    data = body["data"]
    return State(int(body["metadata"]["resourceVersion"]), int(data["n"]), data["by"])


def test_etcd_5_and_10_twenty_kills_of_servers_and_of_etcd_leave_a_linearizable_history(
    servers: tuple[Server, Server], etcd: EtcdServer
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance, stopping = random.Random(seed), threading.Event()
    for key in KEYS:
        servers[0].create(CONFIG_MAPS, key, data={"n": "0", "by": "created"})
    clients = [Client(number, servers, seed) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(client.run, stopping) for client in clients]
        try:
            for number in range(KILLS):
                stopping.wait(0.2 + chance.random() * 0.3)
                if number % 2:
                    etcd.kill()
                    etcd.start()
                else:  # it starts again while the other one serves
                    victim = servers[number // 2 % 2].process
                    if number > 2:
                        victim.wait_until_ready()
                    victim.kill()
                    victim.begin()
            for server in servers:
                server.process.wait_until_ready()
            stopping.wait(0.5)
        finally:
            stopping.set()
        for each in work:
            each.result()
    history = [operation for client in clients for operation in client.history]
    for server in servers:
        for key in KEYS:
            begin = time.monotonic()
            body = server.get(f"{CONFIG_MAPS}/{key}")
            history.append(Operation(key, begin, time.monotonic(), OK, state_of(body)))
    assert list(violations(history)) == []
    writes = [each.outcome for each in history if each.mark]
    counts = {outcome: writes.count(outcome) for outcome in (OK, REFUSED, UNKNOWN)}
    print(counts, f"{len(history)} operations")
    assert counts[OK] > 10 and counts[REFUSED] and counts[UNKNOWN], counts
