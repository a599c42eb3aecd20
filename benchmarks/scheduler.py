"""The duration of a decision, and of one that evaluates every node. Prints ratios measured in one
run; microseconds differ between machines.

Usage: python benchmarks/scheduler.py [--nodes N] [--pods P].
"""

from __future__ import annotations

import argparse
import time

from refk8s.core.api.core_v1 import (
    Container,
    Node,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    ResourceRequirements,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.selector import from_map
from refk8s.core.scheduler.placement import Chooser, choose
from refk8s.core.scheduler.snapshot import Group, PodInfo, Snapshot, info_of, recompute
from refk8s.core.value import evolve

ROUNDS = 3
"""Each figure is the best of so many."""


def node(number: int) -> Node:
    labels = {
        "kubernetes.io/hostname": f"n{number}",
        "topology.kubernetes.io/zone": f"z{number % 3}",
    }
    allocatable = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    return Node(
        metadata=ObjectMeta(name=f"n{number:04}", labels=labels),
        spec=NodeSpec(),
        status=NodeStatus(allocatable=allocatable),
    )


def pod(number: int, owner: str) -> PodInfo:
    labels = {"app": owner}
    container = Container(
        name="c",
        image="x",
        resources=ResourceRequirements(requests={"cpu": "10m", "memory": "16Mi"}),
    )
    metadata = ObjectMeta(name=f"p{number}", namespace="default", uid=f"u{number}", labels=labels)
    group = Group("default", from_map(labels)) if owner else None
    spec = PodSpec(containers=(container,))
    return evolve(info_of(Pod(metadata=metadata, spec=spec, status=PodStatus())), group=group)


def place(
    snapshot: Snapshot, pods: list[PodInfo], chooser: Chooser | None
) -> tuple[Snapshot, float]:
    """The snapshot with these pods, and the microseconds that each of them took."""
    started = time.process_time()
    for info in pods:
        name, _ = chooser.choose(info, snapshot) if chooser is not None else choose(info, snapshot)
        assert name is not None
        snapshot = snapshot.with_load(name, snapshot.load(name).plus(info))
    return snapshot, (time.process_time() - started) / len(pods) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--pods", type=int, default=1000)
    options = parser.parse_args()
    empty = recompute([node(number) for number in range(options.nodes)], [])
    for owner in ("", "replica-set"):
        pods = [pod(number, owner) for number in range(3 * options.pods)]
        best = {"plain": 1e9, "remembered": 1e9, "full": 1e9}
        for _ in range(ROUNDS):
            _, plain = place(empty, pods[: max(10, options.pods // 20)], None)
            chooser = Chooser()
            snapshot, remembered = place(empty, pods[: options.pods], chooser)
            snapshot, _ = place(snapshot, pods[options.pods : 2 * options.pods], chooser)
            _, full = place(snapshot, pods[2 * options.pods :], chooser)
            best = {
                name: min(best[name], took)
                for name, took in (("plain", plain), ("remembered", remembered), ("full", full))
            }
        kind = "pods of one ReplicaSet" if owner else "pods without an owner"
        print(f"{options.pods} {kind} on {options.nodes} nodes: {best['remembered']:.0f} us a pod")
        print(f"  asking every node takes {best['plain'] / best['remembered']:.0f} times as long")
        print(
            f"  with {2 * options.pods} pods placed before: "
            f"{best['full'] / best['remembered']:.2f} of that time"
        )


if __name__ == "__main__":
    main()
