"""The cost of service rules, as a ratio to the start of the tool that programs them, measured in
one run.

Usage: python benchmarks/rules.py [--services N] [--endpoints N]. Needs root and nft; works in a
network namespace of its own.
"""

from __future__ import annotations

import argparse
import gc
import sys
from ipaddress import IPv4Network

from immutables import Map
from in_namespace import ROUNDS, run_in_namespace, seconds

from refk8s.adapters.linux.kernel_rules import KernelRules
from refk8s.adapters.linux.nft import run_nft
from refk8s.core.network.nft_script import load_script
from refk8s.core.network.nftables import Table, change_table
from refk8s.core.ports import Rule, RuleSet, Target

PODS = "10.244.0.0/24"


def make_services(services: int, endpoints: int) -> Map[str, tuple[Rule, ...]]:
    rules = Map[str, tuple[Rule, ...]]().mutate()
    for i in range(services):
        targets = tuple(
            Target(f"10.{128 + (i >> 12 & 31)}.{i >> 4 & 255}.{(i & 15) * 16 + j}", 8080)
            for j in range(endpoints)
        )
        rules[f"ns/service-{i}"] = (Rule(f"10.96.{i >> 8}.{i & 255}", "TCP", 80, targets),)
    return rules.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=4)
    arguments = parser.parse_args()
    return run_in_namespace(lambda: measure(arguments.services, arguments.endpoints))


def measure(services: int, endpoints: int) -> None:
    gc.disable()
    start = seconds(lambda: run_nft(""))
    rules = make_services(services, endpoints)
    whole = RuleSet(rules)
    empty = Table(IPv4Network(PODS))
    table, change = change_table(empty, whole)
    compile_seconds = seconds(lambda: change_table(empty, whole), 3)
    words_seconds = seconds(lambda: load_script("refk8s_x", table, change), 3)

    loads = []
    for _ in range(3):
        kernel = KernelRules("192.0.2.11", PODS, "bench000")
        loads.append(seconds(lambda kernel=kernel: kernel.program_now(whole), 1))
        kernel.remove()
    load_seconds = min(loads)

    kernel = KernelRules("192.0.2.11", PODS, "bench000")
    kernel.program_now(whole)
    again = seconds(lambda: kernel.program_now(whole), 3)
    sets = [
        RuleSet(
            rules.set(
                "ns/service-7",
                (Rule("10.96.0.7", "TCP", 80, rules["ns/service-7"][0].targets[:n]),),
            )
        )
        for n in (2, 3)
    ]
    for rule_set in sets:  # the chains for so many endpoints are made once
        kernel.program_now(rule_set)
    turn = iter(sets * ROUNDS)
    one = seconds(lambda: kernel.program_now(next(turn)))
    compare = seconds(lambda: change_table(kernel._table, sets[0]))

    print(
        f"{services:,} services of {endpoints} endpoints; "
        f"nft's own start takes {start * 1000:.1f} ms"
    )
    for words, took in (
        ("compiled in Python", compile_seconds),
        ("written as words", words_seconds),
        ("compiled, written and loaded into an empty kernel", load_seconds),
        ("loaded over what is there", again),
        ("one service changed", one),
        ("  of which the comparison of the two sets", compare),
    ):
        print(f"  {words:52} {took * 1000:8.1f} ms  {took / start:7.1f} x nft's start")


if __name__ == "__main__":
    sys.exit(main())
