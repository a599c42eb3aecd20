"""The cost of network policies on a node, and what it would be with a chain for each policy. Prints
ratios measured in one run.

Usage: python benchmarks/policies.py [--policies N] [--pods N]. Needs root and nft; works in a
network namespace of its own. All pods are on this node, which is more than a node ever has.
"""

from __future__ import annotations

import argparse
import gc
import sys
from typing import Any

import msgspec
from in_namespace import run_in_namespace, seconds

from refk8s.adapters.linux.nft import remove_table, run_nft
from refk8s.core.api.core_v1 import Namespace, Pod
from refk8s.core.api.networking_v1 import NetworkPolicy
from refk8s.core.api.resources import NAMESPACES, NETWORK_POLICIES, PODS
from refk8s.core.network.policy_script import change_script, load_script
from refk8s.core.network.policy_state import PolicyState, apply
from refk8s.core.network.policy_table import NO_TABLE, change_policies

NAMESPACES_COUNT = 50
RANGE = "10.244.0.0/16"
NODE = "node"


def address(number: int) -> str:
    return f"10.244.{number >> 8}.{number & 255}"


def make_pod(number: int, policies: int) -> Pod:
    """Pod i is of application i modulo the number of policies."""
    app = number % policies
    return msgspec.convert(
        {
            "metadata": {
                "name": f"pod-{number}",
                "namespace": f"ns-{app % NAMESPACES_COUNT}",
                "uid": f"uid-{number}",
                "labels": {"app": f"app-{app}"},
            },
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": NODE},
            "status": {"phase": "Running", "podIPs": [{"ip": address(number + 2)}]},
        },
        Pod,
    )


def make_policy(number: int, policies: int, port: int = 8080) -> NetworkPolicy:
    """Application i is reached by the application before it in its namespace, and by namespace
    0."""
    before = (number - NAMESPACES_COUNT) % policies
    peers = [
        {"podSelector": {"matchLabels": {"app": f"app-{before}"}}},
        {"namespaceSelector": {"matchLabels": {"name": "ns-0"}}},
    ]
    return msgspec.convert(
        {
            "metadata": {
                "name": f"policy-{number}",
                "namespace": f"ns-{number % NAMESPACES_COUNT}",
            },
            "spec": {
                "podSelector": {"matchLabels": {"app": f"app-{number}"}},
                "ingress": [{"from": peers, "ports": [{"port": port}, {"port": 9090}]}],
                "policyTypes": ["Ingress"],
            },
        },
        NetworkPolicy,
    )


def chain_per_policy(policies: int, pods: int) -> str:
    """The same with a chain and a set for each policy."""
    of_namespace = [address(i + 2) for i in range(pods) if i % policies % NAMESPACES_COUNT == 0]
    lines = [
        f"table ip chains {{ set ns0 {{ type ipv4_addr; "
        f"elements = {{ {', '.join(of_namespace)} }}; }};"
    ]
    targets = [f"{address(i + 2)} : goto policy-{i % policies}" for i in range(pods)]
    for number in range(policies):
        before = (number - NAMESPACES_COUNT) % policies
        members = ", ".join(address(i + 2) for i in range(before, pods, policies))
        lines.append(f"set peer-{number} {{ type ipv4_addr; elements = {{ {members} }}; }};")
        lines.append(f"chain policy-{number} {{ {chain_rules(number)}; drop; }};")
    lines.append(
        f"map pods {{ type ipv4_addr : verdict; elements = {{ {', '.join(targets)} }}; }};"
    )
    lines.append(
        "chain forward { type filter hook forward priority 0; ip daddr vmap @pods; };\n}\n"
    )
    return "\n".join(lines)


def chain_rules(number: int, port: int = 8080) -> str:
    return "; ".join(
        f"ip saddr @{name} tcp dport {{ {port}, 9090 }} accept"
        for name in (f"peer-{number}", "ns0")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=int, default=1_000)
    parser.add_argument("--pods", type=int, default=2_000)
    arguments = parser.parse_args()
    return run_in_namespace(lambda: measure(arguments.policies, arguments.pods))


def measure(policies: int, pods: int) -> None:
    gc.disable()
    objects: list[tuple[Any, Any]] = [
        (
            NAMESPACES,
            msgspec.convert(
                {"metadata": {"name": f"ns-{i}", "labels": {"name": f"ns-{i}"}}}, Namespace
            ),
        )
        for i in range(NAMESPACES_COUNT)
    ]
    objects += [(NETWORK_POLICIES, make_policy(i, policies)) for i in range(policies)]
    objects += [(PODS, make_pod(i, policies)) for i in range(pods)]

    def state_of_all() -> PolicyState:
        state = PolicyState(NODE)
        for resource, obj in objects:
            state = apply(state, resource, None, obj)
        return state

    state = state_of_all()
    compute = seconds(state_of_all, 3)
    start = seconds(lambda: run_nft(""))
    table, whole = change_policies(NO_TABLE, state.enforced)
    text = load_script("t", RANGE, whole)
    elements = seconds(lambda: change_policies(NO_TABLE, state.enforced), 3)
    load = seconds(lambda: run_nft(text), 3)
    print(f"{policies} policies, {pods} pods of one node: {len(whole.added)} elements")
    print(f"  the start of nft alone                     {start * 1000:8.1f} ms")
    print(f"  all objects, one after another             {compute * 1000:8.1f} ms")
    print(f"  elements of all                            {elements * 1000:8.1f} ms")
    print(f"  load of all                                {load * 1000:8.1f} ms")

    old, new = make_policy(7, policies), make_policy(7, policies, 8081)
    pod = make_pod(pods, policies)

    def one(resource: Any, old: Any, new: Any) -> tuple[float, float]:
        """(seconds to compute, seconds to program and to program the reverse, halved)."""

        def change() -> tuple[str, str]:
            after = apply(state, resource, old, new)
            following, there = change_policies(table, after.enforced)
            before = apply(after, resource, new, old)
            _, back = change_policies(following, before.enforced)
            return change_script("t", there), change_script("t", back)

        there, back = change()
        both = seconds(lambda: (run_nft(there), run_nft(back)))
        return seconds(change) / 2, both / 2

    policy = one(NETWORK_POLICIES, old, new)
    member = one(PODS, None, pod)
    print(
        f"  one policy changed: computed, programmed   {policy[0] * 1000:8.1f} ms "
        f"{policy[1] * 1000:8.1f} ms"
    )
    print(
        f"  one pod more: computed, programmed         {member[0] * 1000:8.1f} ms "
        f"{member[1] * 1000:8.1f} ms"
    )
    remove_table("t")

    chains = "add table ip chains\ndelete table ip chains\n" + chain_per_policy(policies, pods)
    load_chains = seconds(lambda: run_nft(chains), 3)
    texts = [
        "flush chain ip chains policy-7\nadd rule ip chains policy-7 "
        f"{chain_rules(7, port).replace('; ', chr(10) + 'add rule ip chains policy-7 ')}\nadd "
        "rule ip chains policy-7 drop\n"
        for port in (8081, 8080)
    ]
    change_chains = seconds(lambda: [run_nft(text) for text in texts]) / 2
    print("a chain for each policy")
    print(
        f"  load of all                                {load_chains * 1000:8.1f} ms, "
        f"{load_chains / load:.1f} times ours"
    )
    print(
        f"  one policy changed, programmed             {change_chains * 1000:8.1f} ms, "
        f"{change_chains / policy[1]:.1f} times ours"
    )


if __name__ == "__main__":
    sys.exit(main())
