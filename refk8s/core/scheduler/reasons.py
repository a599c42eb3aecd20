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
NO_CLAIMS = "no new claims to deallocate"
CLAIMS_KEPT, CLAIM_FREED = "still not schedulable", "deallocation of ResourceClaim completed"
NEVER_PREEMPTS = "not eligible due to preemptionPolicy=Never."
VICTIMS_TERMINATING = "not eligible due to a terminating pod on the nominated node."


class Refusal(Value, frozen=True, cache_hash=True):
    """Why a node cannot run a pod: the plugin that rejects it, its messages, and whether the
    deletion of other pods could help."""

    plugin: str
    messages: tuple[str, ...]
    resolvable: bool


def histogram(counts: Mapping[str, int], nodes: int) -> str:
    """`0/5 nodes are available: 2 Insufficient cpu, 3 Too many pods.`: each reason with the number
    of nodes, sorted as text."""
    parts = sorted(f"{count} {message}" for message, count in counts.items() if count)
    return f"0/{nodes} nodes are available:" + (f" {', '.join(parts)}." if parts else "")


def explain_block(why: str, nodes: int, *, is_about_devices: bool = False) -> str:
    """SCHED-40, DRA-4: the message for a pod that can run on no node because of its claims, in
    upstream's words."""
    if not nodes:
        return NO_NODES
    end = "not found"
    if is_about_devices:
        end = f"{NO_CLAIMS}, preemption: {histogram({UNHELPFUL: nodes}, nodes)}"
    return f"0/{nodes} nodes are available: {why}. {end}"


def explain(
    refusals: Mapping[Refusal, int], nodes: int, preemption: str, claims: str = NO_CLAIMS
) -> str:
    """SCHED-10: the message for a pod that no node can run. `preemption`: why no pod is preempted
    for it; empty if one is. `claims`: why no claim is freed for it (DRA-11).

    A node is counted for each message of the filter that rejected it.
    """
    if not nodes:
        return NO_NODES
    counts: dict[str, int] = {}
    for refusal, count in refusals.items():
        for message in refusal.messages:
            counts[message] = counts.get(message, 0) + count
    words = histogram(counts, nodes)
    if not preemption:
        return words
    before = f"{claims}, " if claims else ""
    return f"{words} {before}preemption: {preemption}"
