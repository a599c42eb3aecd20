"""The cost of DNS answers and records. Prints the processor time of each, measured in one run, and
ratios to the kept answer.

Usage: python benchmarks/name_server.py [--services N] [--endpoints N]. Needs no rights and no
network.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import dns.message

from refk8s.adapters.linux.name_server.server import NameServer
from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.api.discovery_v1 import Endpoint, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.network.dns_records import change_records, compute_names, records_of
from refk8s.core.ports import Records

DOMAIN = "cluster.local"
ROUNDS = 5
"""Each figure is the best of so many."""


def service(number: int, headless: bool = False) -> Service:
    address = "None" if headless else f"10.96.{number // 256}.{number % 256}"
    return Service(
        metadata=ObjectMeta(name=f"s{number}", namespace="default"),
        spec=ServiceSpec(cluster_ip=address, ports=(ServicePort(name="http", port=80),)),
    )


def slice_of(number: int, endpoints: int) -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name=f"s{number}-1", namespace="default"),
        address_type="IPv4",
        endpoints=tuple(
            Endpoint(addresses=(f"10.{number // 256}.{number % 256}.{place + 1}",))
            for place in range(endpoints)
        ),
        ports=(EndpointPort(name="http", port=8080, protocol="TCP"),),
    )


def seconds(work: Callable[[], Any], times: int = 1) -> float:
    """The processor time of one call, in the best of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        for _ in range(times):
            work()
        best = min(best, (time.process_time() - begin) / times)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=4)
    arguments = parser.parse_args()
    objects = [(service(n), slice_of(n, arguments.endpoints)) for n in range(arguments.services)]

    def compute() -> Records:
        return records_of(
            {
                f"default/{one.metadata.name}": compute_names(one, (slice,), DOMAIN)
                for one, slice in objects
            }
        )

    all_of_them = seconds(compute)
    records = compute()
    many = compute_names(service(0, headless=True), (slice_of(0, 50),), DOMAIN)
    change = seconds(lambda: change_records(records, "default/s0", many), 100)
    one = seconds(lambda: compute_names(*objects[0][:1], (objects[0][1],), DOMAIN), 1000)
    records = change_records(records, "default/s0", many)

    async def nowhere() -> tuple[str, IPv4Network]:
        raise OSError("not needed here")

    server = NameServer(DOMAIN, Path("/nowhere"), "10.96.0.10", nowhere)
    server.program(
        Records(records.services, records.namespaces.set("default", None), records.pointers),
        lambda error: None,
    )

    def asking(name: str, kept: bool) -> float:
        query = dns.message.make_query(f"{name}.default.svc.{DOMAIN}", "A", use_edns=0).to_wire()
        replies: list[bytes] = []

        def ask() -> None:
            if not kept:
                server._known.clear()
            server.handle_datagram(query, "127.0.0.1", replies.append)

        for _ in range(20):
            ask()
        return seconds(ask, 500)

    kept = asking("s1", kept=True)
    print(f"{arguments.services} services of {arguments.endpoints} endpoints")
    print(f"  all records            {all_of_them:8.2f} s")
    print(f"  names of one service   {one * 1e6:8.0f} µs")
    print(f"  change of one service  {change * 1e6:8.0f} µs, to 50 endpoints")
    print("answers")
    for words, name, is_kept in (
        ("kept", "s1", True),
        ("of one address", "s1", False),
        ("of no such name", "none", False),
        ("of 50 addresses, kept", "s0", True),
        ("of 50 addresses", "s0", False),
    ):
        found = asking(name, is_kept)
        print(f"  {words:22} {found * 1e6:8.1f} µs, {found / kept:6.1f} times the kept one")


if __name__ == "__main__":
    main()
