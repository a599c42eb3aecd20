"""The message why no node can run a pod, as upstream writes it. Rules SCHED-10, SCHED-11
(spec/scheduler.md).

Source: Kubernetes documentation, "Debug Pods" (my pod stays pending), and the messages of
kube-scheduler.
"""

from collections.abc import Mapping

from refk8s.core.value import Value

NO_NODES = "no nodes available to schedule pods"
UNHELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER_PREEMPTS = "not eligible due to preemptionPolicy=Never."
VICTIMS_TERMINATING = "not eligible due to a terminating pod on the nominated node."


class Refusal(Value, frozen=True, cache_hash=True):
    """Why a node cannot run a pod: the plugin that rejects it, its messages, and whether the
    deletion of other pods could help."""

    plugin: str
    messages: tuple[str, ...]
    resolvable: bool


NO_REFUSALS: Mapping[str, Refusal] = {}


def histogram(counts: Mapping[str, int], nodes: int) -> str:
    """`0/5 nodes are available: 2 Insufficient cpu, 3 Too many pods.`: each reason with the number
    of nodes, sorted as text."""
    parts = sorted(f"{count} {message}" for message, count in counts.items() if count)
    return f"0/{nodes} nodes are available:" + (f" {', '.join(parts)}." if parts else "")


def explain_block(why: str) -> str:
    """SCHED-40: the end of the message for a pod that can run on no node because of its claims, in
    upstream's words; empty without a reason."""
    return f" {why}. not found" if why else ""


def blocked_in(message: str) -> str:
    """The part of a message that `explain_block` wrote; empty if it has none."""
    return message.partition(":")[2] if message.endswith(". not found") else ""


def explain(refusals: Mapping[Refusal, int], nodes: int, preemption: str) -> str:
    """SCHED-10: the message for a pod that no node can run. `preemption`: why no pod is preempted
    for it; empty if one is.

    A node is counted for each message of the filter that rejected it.
    """
    if not nodes:
        return NO_NODES
    counts: dict[str, int] = {}
    for refusal, count in refusals.items():
        for message in refusal.messages:
            counts[message] = counts.get(message, 0) + count
    words = histogram(counts, nodes)
    return f"{words} no new claims to deallocate, preemption: {preemption}" if preemption else words
