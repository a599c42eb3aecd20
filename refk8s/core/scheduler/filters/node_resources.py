"""The requests of a node's pods never exceed its allocatable resources. Rules SCHED-1, SCHED-9
(spec/scheduler.md).

Requests count, not usage, and allocatable resources, not capacity. A resource that the pod does not
request is not checked, even if it is overcommitted. Source: Kubernetes documentation, "Resource
Management for Pods and Containers" (how pods with resource requests are scheduled).
"""

from msgspec.structs import replace

from refk8s.core.pods.resources import CPU, EPHEMERAL_STORAGE, MEMORY, Amounts
from refk8s.core.scheduler.needs import Needs
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts


def check_besides(
    resources: tuple[str, ...], groups: tuple[str, ...], needs: Needs, facts: NodeFacts, load: Load
) -> Refusal | None:
    """SCHED-53: as `check`, without these extended resources and those of these groups."""
    checked = {
        name: much
        for name, much in needs.extended.items()
        if name not in resources and name.partition("/")[0] not in groups
    }
    return check(replace(needs, extended=checked), facts, load)


def _asked_of_node(needs: Needs, facts: NodeFacts) -> Amounts:
    """DRA-23: the extended resources of the pod that are counted on this node."""
    if not needs.backed:
        return needs.extended
    return {
        name: much
        for name, much in needs.extended.items()
        if name not in needs.backed or facts.extended.get(name)
    }


def check(needs: Needs, facts: NodeFacts, load: Load) -> Refusal | None:
    """SCHED-9: the refusal names every resource that is not enough."""
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
    } | _asked_of_node(needs, facts)
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
    # More than the empty node has: preemption cannot help.
    resolvable = all(wanted[name] <= given.get(name, 0) for name in short)
    return Refusal("NodeResourcesFit", tuple(messages), resolvable)
