"""Pods that an extender binds. Rule SCHED-61 (spec/scheduler_profiles.md)."""

from collections.abc import Sequence

from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import Instant
from refk8s.core.loop.plan import Key, Plan
from refk8s.core.scheduler.extenders import BadAnswer, Extender, ask_to_bind, read_binding
from refk8s.core.scheduler.hints import SCHEDULE
from refk8s.core.scheduler.memory import Decision, Memory
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.queue import Backoff
from refk8s.core.scheduler.writes import note
from refk8s.core.value import evolve


def binder_of(extenders: Sequence[Extender], pod: Pod) -> Extender | None:
    """The extender that binds this pod."""
    return next((one for one in extenders if one.bind_verb and one.is_interested(pod)), None)


def ask_binder(binder: Extender, memory: Memory, key: Key, pod: Pod, decision: Decision) -> Plan:
    """Ask the extender to bind the pod to its node."""
    sent = memory.decisions.set(key, evolve(decision, sent=True))
    post = ask_to_bind(binder, pod, decision.node)
    return Plan(runs=(post,), memory=evolve(memory, decisions=sent))


def after_reply(
    extenders: Sequence[Extender], memory: Memory, key: Key, pod: Pod, decision: Decision,
    now: Instant, profile: Profile, backoff: Backoff, name: str,
) -> Plan | None:  # fmt: skip
    """What follows from the extender's answer; None: the scheduler binds the pod itself."""
    binder = binder_of(extenders, pod)
    if binder is not None and (why := _refusal(binder, decision)):
        if binder.is_ignorable:
            return None
        return _not_bound(memory, key, pod, decision, why, now, backoff, name)
    until = decision.replied_at + profile.arguments.bind_timeout
    if now < until:
        return Plan(wake_at=until)  # the view does not show it yet
    again = decision.waiting.after_attempt(now, backoff)
    memory = memory.settle(key)
    return Plan(
        memory=memory.with_queue(memory.queue.activate((again,))), enqueue=((name, SCHEDULE),)
    )


def _refusal(binder: Extender, decision: Decision) -> str:
    """Why the extender has not bound the pod; empty if it says that it has."""
    try:
        assert decision.reply is not None
        read_binding(binder, decision.reply)
    except BadAnswer as error:
        return str(error) or "the extender has not bound the pod"
    return ""


def _not_bound(
    memory: Memory, key: Key, pod: Pod, decision: Decision, why: str, now: Instant,
    backoff: Backoff, name: str,
) -> Plan:  # fmt: skip
    """The pod goes back to the queue, with the extender's error as the reason."""
    waiting = evolve(decision.waiting, message=why, blocked="", is_error=True, seen=None)
    memory = memory.settle(key)
    return Plan(
        memory=memory.with_queue(memory.queue.park((waiting,), now, backoff)),
        notes=(note(pod, decision.pod, "FailedScheduling", why, "Scheduling", type="Warning"),),
        enqueue=((name, key), (name, SCHEDULE)),
    )
