"""What is written for a pod between its decision and its binding: claims for volumes and devices.
Rules SCHED-42, SCHED-43 (spec/scheduler.md), DRA-8, DRA-19, DRA-25 (spec/devices.md).

Each function returns the plan of the pod's key; None if nothing is missing.
"""

from collections.abc import Callable

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.resources import PODS
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Key, Note, Plan
from refk8s.core.loop.view import View
from refk8s.core.scheduler.claimed import PLUGIN
from refk8s.core.scheduler.memory import Decision, Memory
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.volumes import bindings, volumes_of
from refk8s.core.scheduler.writes import note
from refk8s.core.value import evolve

Again = Callable[[], Plan]
"""The plan with which the pod goes back to the queue."""


def bind_volumes(
    view: View, memory: Memory, key: Key, decision: Decision, now: Instant, profile: Profile,
    again: Again,
) -> Plan | None:  # fmt: skip
    """Bind the claims of the pod on its node, and wait for them (SCHED-42); None if all are
    bound. The pod goes back to the queue if its volumes no longer fit, and after ten minutes
    (SCHED-43)."""
    facts = memory.working.nodes.get(decision.node)
    volumes = volumes_of(view, decision.pod, profile.filters)
    timeout = profile.arguments.bind_timeout
    choices = volumes.choose(facts) if facts is not None else None
    is_late = bool(decision.since) and now >= decision.since + timeout
    if (
        volumes.blocked
        or facts is None
        or choices is None
        or is_late
        or volumes.refusal(facts, memory.working.load(decision.node)) is not None
    ):
        return again()
    if not choices:
        return None
    since = decision.since or now
    waits = memory.decisions.set(key, evolve(decision, since=since))
    requests = bindings(choices, decision.node)
    return Plan(
        (requests,) if requests else (),
        memory=evolve(memory, decisions=waits),
        wake_at=since + timeout,
    )


def bind_devices(
    view: View, memory: Memory, key: Key, decision: Decision, now: Instant, profile: Profile,
    again: Again,
) -> Plan | None:  # fmt: skip
    """Allocate and reserve the claims of the pod on its node, and wait for them (DRA-8), and for
    its devices (DRA-19); None if all are ready. The pod goes back to the queue if it cannot have
    them any more."""
    if PLUGIN not in profile.filters:
        return None
    from refk8s.core.scheduler.claims import DEVICES, given_back, readiness, reservations
    from refk8s.core.scheduler.extended_devices import extended_writes

    facts = memory.working.nodes.get(decision.node)
    requests = (
        reservations(view, decision.pod, facts, decision.allocated, now)
        if facts is not None
        else None
    )
    if requests == () and decision.pod.needs.backed:
        inventory = view.fold(DEVICES)
        requests = extended_writes(view, decision.pod, decision.allocated, inventory, now)
    if requests is None:
        return again()
    if requests:
        return Plan((requests,))
    ready = readiness(view, decision.pod, now, profile.arguments.device_timeout)
    if ready.failure:
        wave = given_back(view, decision.pod)
        return evolve(again(), waves=(wave,) if wave else ())
    if ready.is_ready:
        return None
    notes: tuple[Note, ...] = ()
    pod: Pod | None = view.get(PODS, key)
    if pod is not None and not decision.waits:
        words = f"waiting for binding conditions for device on node {decision.node}"
        notes = (note(pod, decision.pod, "BindingConditionsPending", words, "Scheduling"),)
    waits = memory.decisions.set(key, evolve(decision, waits=True))
    memory = evolve(memory, decisions=waits)
    return Plan(memory=memory, wake_at=ready.until, notes=notes)
