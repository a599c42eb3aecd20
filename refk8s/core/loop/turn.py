"""The loop, the state machine that runs every reconciler: one step of it. Rules LOOP-1 to LOOP-10,
WATCH-1 (spec/loop.md).

A turn applies the events in order and lets time pass. It then releases the keys whose writes the
view now shows, and reconciles the due keys. `watching.py` has the lists and watches, `requests.py`
the requests of plans:

1. LOOP-1  No key is reconciled before every watched resource has been listed once.
2. LOOP-2  A change makes only the keys that it concerns due; a due key is reconciled once.
3. LOOP-3  A key with unanswered requests is not reconciled.
4. LOOP-4  A key is not reconciled before the view shows its own writes.
5. LOOP-5  Waves are sent one after another. A refused request ends the plan, and the key backs off.
6. LOOP-6  A request without a response is sent again, unchanged, until it is answered. The loop
           chooses a generated name once, so that a repeated create makes no second object.
7. LOOP-7  A retried request that is refused is followed by a list of its object.
10. LOOP-10 An exception about one key is reported; that key backs off, and all others continue.

Source: design proposal "Controller reference" and the client-go documentation of informers and work
queues, for the guarantees; ARCHITECTURE.md explains the problem of lost responses.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from refk8s.core.api.request import Request, Response
from refk8s.core.context import Instant
from refk8s.core.loop import informer as informers
from refk8s.core.loop.draft import Draft
from refk8s.core.loop.plan import UNCHANGED, Local, Plan
from refk8s.core.loop.requests import answer_for, release, resend, send, take_answer
from refk8s.core.loop.state import Busy, Flight, Item, LoopState, is_synced
from refk8s.core.loop.watching import end_watch, run_informers, take_changes, take_list
from refk8s.core.machine import (
    Answered,
    Effects,
    Event,
    Program,
    Programmed,
    Ran,
    Run,
    RuntimeChanged,
    WakeAt,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.ports import NodeRules

GENERATED_BASE_LENGTH_MAX = 58
NO_FAILURES: tuple[int, Response | None] = (0, None)


def take(draft: Draft, events: Iterable[Event]) -> tuple[LoopState, Effects]:
    """One step: the state after these events, and its effects."""
    for event in events:
        _apply(draft, event)
    _let_time_pass(draft)
    resend(draft)
    run_informers(draft)
    release(draft)
    _reconcile_due(draft)
    _set_wake_up(draft)
    return draft.to_state(), tuple(draft.effects)


def _apply(draft: Draft, event: Event) -> None:
    """Apply one event; an id without an open request (closed watch, Event) is ignored."""
    match event:
        case Ran():
            if event.id in draft.runs:
                item, operation = draft.runs.pop(event.id)
                reconciler = draft.loop.reconcilers[item[0]]
                draft.pass_result(item, reconciler.ran, item[1], operation, event.result)
        case Answered():
            if event.id in draft.flights:
                take_answer(draft, event.id, event.response)
            elif (prefix := draft.sources.get(event.id)) is not None:
                take_list(draft, prefix, event.id, event.response)
        case Watched():
            if (prefix := draft.sources.get(event.id)) is not None:
                take_changes(draft, prefix, event.events)
        case WatchEnded(id, code):
            if (prefix := draft.sources.get(id)) is not None:
                end_watch(draft, prefix, id, code)
        case RuntimeChanged(pod_uids):
            for reconciler in draft.loop.reconcilers.values():
                draft.pass_result((reconciler.name, ""), reconciler.runtime_changed, pod_uids)
        case Programmed(id, error):
            if id in draft.programs:
                item = draft.programs[id]
                draft.programs = draft.programs.delete(id)
                answer_for(draft, item, Response(500, error) if error else None)
        case Woken():
            draft.asked = None


def _let_time_pass(draft: Draft) -> None:
    """Make the keys due whose timers have expired, in the order of the timers."""
    if draft.timer_next is not None and draft.timer_next <= draft.now:
        rest: Instant | None = None
        ripe: list[tuple[Instant, Item]] = []
        for item, at in draft.timers.items():
            if at <= draft.now:
                ripe.append((at, item))
            elif rest is None or at < rest:
                rest = at
        for _, item in sorted(ripe):
            draft.timers = draft.timers.delete(item)
            draft.make_due(item)
        draft.timer_next = rest


def _set_wake_up(draft: Draft) -> None:
    """Ask for the next wake-up: the earliest timer, retry or list."""
    at = draft.timer_next
    for flight in draft.resends.values():
        at = flight.due if at is None else min(at, flight.due)
    for informer in () if draft.is_watching else draft.informers.values():
        if informer.phase == informers.RESTING and not informer.is_dormant(draft.view):
            at = informer.due if at is None else min(at, informer.due)
    if at != draft.asked:
        draft.asked = at
        draft.effects.append(WakeAt(at))


# --- reconciling ----------------------------------------------------------------------------------


def _reconcile_due(draft: Draft) -> None:
    # LOOP-1
    if not draft.due or not (draft.is_watching or is_synced(draft.informers, draft.view)):
        return
    while draft.due:  # A plan may make other keys due at once (Plan.enqueue).
        item, _ = draft.due.popitem(last=False)
        _decide(draft, item)


def _decide(draft: Draft, item: Item) -> None:
    """Reconcile one key, and start what its plan requests."""
    name, key = item
    memory_name = draft.loop.memory_names[name]
    failures, failure = draft.failures.get(item, NO_FAILURES)
    local = Local(draft.memory_of(memory_name), failures, failure)
    try:
        plan = draft.loop.reconcilers[name].reconcile(draft.view, key, draft.now, local)
        waves, last = plan.waves, plan.last
        if waves or last:  # most plans have no requests
            waves = tuple([_named_all(draft, wave, name) for wave in waves if wave])
            last = _named_all(draft, last, name) if last else ()
    except Exception as error:  # LOOP-10
        draft.report(item, error)
        draft.end_plan(item, failure, failed=True)
        return
    if plan.memory is not UNCHANGED:
        draft.memories[memory_name] = plan.memory
    if plan.wake_at is not None or item in draft.timers:
        draft.set_timer(item, plan.wake_at)
    if waves or last or plan.rules is not None:
        _start_plan(draft, item, plan, waves, last)
    elif failures or plan.failed:
        draft.end_plan(item, None, plan.failed)
    for request in plan.queries:
        send(draft, Flight(item, replace(request, user=draft.loop.users[name]), query=True))
    for operation in plan.runs:
        id = draft.next_id()
        draft.runs[id] = (item, operation)
        draft.effects.append(Run(id, operation))
    for problem in plan.problems:
        draft.report(item, problem)
    for note in plan.notes:
        draft.record(note, name)
    for other in plan.enqueue:
        if plan.enqueue_at is None:
            draft.make_due(other)
        else:
            draft.wake_at(other, plan.enqueue_at)


def _start_plan(
    draft: Draft,
    item: Item,
    plan: Plan,
    waves: tuple[tuple[Request, ...], ...],
    last: tuple[Request, ...],
) -> None:
    if not waves:
        waves, last = ((last,), ()) if last else ((), ())
    first = waves[0] if waves else ()
    if first or plan.rules is not None:
        outstanding = len(first) + (plan.rules is not None)
        draft.busy[item] = Busy(waves[1:], last, outstanding)
        for request in first:
            send(draft, Flight(item, request))
        if plan.rules is not None:
            _program(draft, item, plan.rules)
    else:
        draft.end_plan(item, None, plan.failed)


def _program(draft: Draft, item: Item, rules: NodeRules) -> None:
    id = draft.next_id()
    draft.programs = draft.programs.set(id, item)
    draft.effects.append(Program(id, rules))


def _named_all(draft: Draft, requests: tuple[Request, ...], reconciler: str) -> tuple[Request, ...]:
    return tuple([_named(draft, request, reconciler) for request in requests])


def _named(draft: Draft, request: Request, reconciler: str) -> Request:
    """The request as it is sent: with the user of its component, and a generated name (LOOP-6).

    The loop chooses the name that the API server would generate from generateName.
    """
    user = draft.loop.users[reconciler]
    if request.verb == "create" and not request.subresource:
        metadata = request.body.metadata
        if metadata.generate_name and not metadata.name:
            name = metadata.generate_name[:GENERATED_BASE_LENGTH_MAX] + draft.new_name()
            body = replace(request.body, metadata=replace(metadata, name=name))
            return replace(request, body=body, user=user, name=name)
        return replace(request, user=user, name=metadata.name or "")
    return replace(request, user=user)
