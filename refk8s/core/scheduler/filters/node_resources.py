"""What the pods of a node request never exceeds what the node has to give. Rules SCHED-1, SCHED-9
(spec/scheduler.md).

What is requested counts, not what is used, and against what is allocatable, not against the
capacity. A resource of which the pod requests nothing does not matter, however much others have
taken of it. Source: Kubernetes documentation, "Resource Management for Pods and Containers" (how
pods with resource requests are scheduled).
"""

from refk8s.core.pods.resources import CPU, EPHEMERAL_STORAGE, MEMORY
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts


def check(needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """SCHED-9: every resource that is short is named."""
    if (
        len(load.pods) < facts.pods
        and (not needs.cpu or needs.cpu <= facts.cpu - load.cpu)
        and (not needs.memory or needs.memory <= facts.memory - load.memory)
        and not needs.ephemeral_storage
        and not needs.extended
    ):
        return None
    wanted = {
        CPU: needs.cpu,
        MEMORY: needs.memory,
        EPHEMERAL_STORAGE: needs.ephemeral_storage,
    } | needs.extended
    given = {
        CPU: facts.cpu,
        MEMORY: facts.memory,
        EPHEMERAL_STORAGE: facts.ephemeral_storage,
    } | facts.extended
    taken = {
        CPU: load.cpu,
        MEMORY: load.memory,
        EPHEMERAL_STORAGE: load.ephemeral_storage,
    } | load.extended
    short = [
        name
        for name, much in wanted.items()
        if much and much > given.get(name, 0) - taken.get(name, 0)
    ]
    messages = ["Too many pods"] if len(load.pods) >= facts.pods else []
    messages += [f"Insufficient {name}" for name in short]
    if not messages:
        return None
    # More than the whole node has: no pod that goes away could help.
    resolvable = all(wanted[name] <= given.get(name, 0) for name in short)
    return Refusal("NodeResourcesFit", tuple(messages), resolvable)
