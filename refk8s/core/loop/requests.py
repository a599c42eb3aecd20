"""The requests of plans: waves, retries, and the key's rest until the view shows the result. Rules
LOOP-4 to LOOP-7, LOOP-9 (spec/loop.md).
"""

from collections.abc import Iterable

from msgspec.structs import replace

from refk8s.core.api.request import Request, Response
from refk8s.core.context import MILLISECOND, SECOND, Instant
from refk8s.core.loop.draft import Draft
from refk8s.core.loop.plan import Key, Note
from refk8s.core.loop.state import Busy, Flight, Item, Seen
from refk8s.core.machine import Call

RESEND_FIRST: Instant = 50 * MILLISECOND
RESEND_MAX: Instant = 10 * SECOND


def send(draft: Draft, flight: Flight) -> None:
    """Send a request under a new id. A delete records the object as the view shows it (LOOP-4)."""
    id = draft.next_id()
    if flight.request.verb == "delete" and not flight.seen:
        flight = replace(flight, seen=_seen(draft, flight.request))
    draft.flights[id] = flight
    draft.effects.append(Call(id, flight.request))


def _seen(draft: Draft, request: Request) -> tuple[Seen, ...]:
    """The object of a delete, as the view shows it."""
    if request.verb != "delete" or request.resource.prefix not in draft.informers:
        return ()
    key = request.key
    known = draft.view.get(request.resource, key)
    return (
        ((request.resource.prefix, key, known.metadata.uid, known.metadata.resource_version),)
        if known is not None
        else ()
    )


def take_answer(draft: Draft, id: int, response: Response | None) -> None:
    """A request is answered; None: without a response, so it is not known whether it took effect.

    The key's plan goes on after a success, and ends with a failure. In doubt, the request is sent
    again, or the object is looked up.
    """
    flight = draft.flights.pop(id)
    if flight.query:
        reconciler = draft.loop.reconcilers[flight.item[0]]
        draft.pass_result(
            flight.item, reconciler.answered, flight.item[1], flight.request, response
        )
        return
    if response is not None and response.code >= 500 and (flight.is_retry or flight.lookup):
        response = None  # A 5xx response does not show whether an earlier attempt took effect.
    if response is None or response.code == 503:  # LOOP-6: unknown, so send it again
        delay = min(RESEND_FIRST << min(flight.tries, 20), RESEND_MAX)
        again = replace(flight, tries=flight.tries + 1, is_retry=True, due=draft.now + delay)
        draft.resends = draft.resends.set(draft.next_id(), again)
        return
    if flight.lookup:
        answer_for(draft, flight.item, None, _found(flight.request, response))
    elif response.ok or (flight.request.verb == "delete" and response.code == 404):
        if flight.request.note is not None and response.ok:
            _note_done(draft, flight)
        answer_for(draft, flight.item, None, _reached(draft, flight.request, response), flight.seen)
    elif flight.is_retry or _is_made_already(flight.request, response):  # LOOP-7
        _look_up(draft, flight)
    else:
        answer_for(draft, flight.item, response)


def _look_up(draft: Draft, flight: Flight) -> None:
    """LOOP-7: list the object of a request whose effect is not known. The view never shows an
    object of a resource that the loop does not list, so the key does not wait for it."""
    informer = draft.informers.get(flight.request.resource.prefix)
    if informer is None:
        answer_for(draft, flight.item, None)
        return
    request = informer.look_up_request(flight.request, draft.loop.user)
    send(draft, Flight(flight.item, request, lookup=True))


def _found(request: Request, response: Response) -> tuple[tuple[str, int], ...]:
    """The revision of the object that was looked up, if there is one."""
    items = response.body.items if response.ok else ()
    return tuple([(request.resource.prefix, int(one.metadata.resource_version)) for one in items])


def _is_made_already(request: Request, response: Response) -> bool:
    """Whether an earlier arrival (a duplicate) of this create made the object of this name."""
    return (
        response.code == 409
        and request.verb == "create"
        and not request.subresource
        and bool(request.body.metadata.generate_name)
    )


def _reached(draft: Draft, request: Request, response: Response) -> tuple[tuple[str, int], ...]:
    """The revision that the view must reach to show this write (LOOP-4)."""
    metadata = getattr(response.body, "metadata", None)
    version = getattr(metadata, "resource_version", None)
    if request.verb == "delete" or not version or request.resource.prefix not in draft.informers:
        return ()
    return ((request.resource.prefix, int(version)),)


def _note_done(draft: Draft, flight: Flight) -> None:
    """EVENT-3: the request of a note has succeeded, so its Event may be recorded."""
    note: Note = flight.request.note
    draft.record(
        replace(note, message=note.message.replace("{name}", flight.request.name)),
        flight.item[0],
    )


def answer_for(
    draft: Draft,
    item: Item,
    failure: Response | None,
    reached: Iterable[tuple[str, int]] = (),
    gone: tuple[Seen, ...] = (),
) -> None:
    """A request of the key (or its rules) is answered: send the next wave, or end the plan."""
    busy = draft.busy[item]
    waits = busy.reached
    for prefix, revision in reached:
        if revision > waits.get(prefix, 0):
            waits = waits.set(prefix, revision)
    failure = busy.failure or failure
    outstanding, waves, last, due = busy.outstanding - 1, busy.waves, busy.last, busy.due
    if outstanding == 0:
        if failure is not None:
            waves = ()  # LOOP-5
        if waves:
            wave, waves = waves[0], waves[1:]
        else:
            wave, last = last, ()
        outstanding = len(wave)
        for request in wave:
            send(draft, Flight(item, request))
        due = due or (outstanding == 0 and failure is None)  # LOOP-9
    gone = busy.gone + gone
    draft.busy[item] = Busy(waves, last, outstanding, failure, waits, gone, due)
    if outstanding == 0:
        draft.waiting = draft.waiting.set(item, None)
        draft.end_plan(item, failure)


def resend(draft: Draft) -> None:
    """LOOP-6: send again the requests without a response whose delay has passed."""
    if len(draft.resends):
        for id, flight in sorted(draft.resends.items()):
            if flight.due <= draft.now:
                draft.resends = draft.resends.delete(id)
                send(draft, flight)


def release(draft: Draft) -> None:
    """LOOP-4: make the resting keys due whose own writes the view now shows."""
    for item in sorted(draft.waiting):
        busy = draft.busy[item]
        if all(
            draft.view.tables[prefix].revision >= revision
            for prefix, revision in busy.reached.items()
            if prefix in draft.view.tables  # a custom resource may no longer be served
        ) and all(_is_gone(draft, *gone) for gone in busy.gone):
            draft.waiting = draft.waiting.delete(item)
            del draft.busy[item]
            if busy.due:
                draft.make_due(item)


def _is_gone(draft: Draft, prefix: str, key: Key, uid: str, version: str) -> bool:
    """Whether the view shows the deletion, and not only an earlier change of the object."""
    table = draft.view.tables.get(prefix)
    obj = table.objects.get(key) if table is not None else None
    if obj is None or obj.metadata.uid != uid:
        return True
    return obj.metadata.deletion_timestamp is not None and obj.metadata.resource_version != version
