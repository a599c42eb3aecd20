"""The condition Available of APIServices. Rules APISVC-9, APISVC-10 (spec/api_services.md).

    due ──> asked ──> answered ──> the condition is written ──> due again
             │ no answer for a minute                            after 30 s if available,
             └──> due                                            else after 1, 2, 4, 5 ... s

The API server runs it, as upstream, and asks itself: the answer is a function of its store and of
the other server (core/apiserver/aggregation/availability.py). What the other server said it serves
is kept in the reconciler's memory, for discovery. Source: Kubernetes documentation, "Kubernetes API
Aggregation Layer"; upstream's availability controllers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.aggregated import AVAILABLE, LOCAL, Availability
from refk8s.core.api.apiregistration_v1 import APIService, APIServiceCondition
from refk8s.core.api.conditions import get_condition, transition_time
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import API_SERVICES
from refk8s.core.api.user import API_SERVER
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View
from refk8s.core.value import Value, evolve

NAME: Final = "api-service-availability"
PERIOD: Instant = 30 * SECOND
RETRY_FIRST: Instant = 1 * SECOND
RETRY_MAX: Instant = 5 * SECOND
ANSWER_MAX: Instant = 60 * SECOND
"""How long an answer is waited for."""


class Entry(Value, frozen=True, eq=False):
    """What is known of one other API server besides its APIService. `answer`: the last one.
    `known`: the last one that said what the other server serves, and `is_stale`: a later one did
    not. `failures`: of the last questions, in a row."""

    uid: str
    spec: Any
    due_at: Instant
    is_asked: bool = False
    answer: Availability | None = None
    known: Availability | None = None
    is_stale: bool = True
    failures: int = 0


Memory = Map[Key, Entry]


class ApiServiceAvailability(Reconciler):
    """Reconciles the status of one APIService."""

    name = NAME
    user = API_SERVER
    interests = (Interest(API_SERVICES, own_key),)

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Ask, report, or wait."""
        # Observe
        memory: Memory = local.memory
        api_service: APIService | None = view.get(API_SERVICES, key)
        if api_service is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        if api_service.spec.service is None:
            forgotten = memory.delete(key) if key in memory else memory
            return Plan(_report(api_service, LOCAL, now), memory=forgotten)
        entry, uid = memory.get(key), api_service.metadata.uid or ""
        if entry is None or entry.uid != uid or entry.spec != api_service.spec:
            entry = Entry(uid, api_service.spec, now)

        # Decide
        is_due = now >= entry.due_at
        if is_due:
            entry = evolve(entry, is_asked=True, due_at=now + ANSWER_MAX)

        # Act
        question = Request(
            "get", API_SERVICES, "", key, "discovery", because="whether it is available"
        )

        # Report
        return Plan(
            _report(api_service, entry.answer, now) if entry.answer is not None else (),
            queries=(question,) if is_due else (),
            memory=memory.set(key, entry),
            wake_at=entry.due_at,
        )

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep the answer."""
        entry = memory.get(key)
        if entry is None or not entry.is_asked:
            return memory, ()
        found = response.body if response is not None else None
        if not isinstance(found, Availability):  # the API server itself could not answer
            entry = evolve(entry, is_asked=False, due_at=now + RETRY_FIRST)
        else:
            entry = _after(entry, found, now)
        return memory.set(key, entry), (key,)


def _after(entry: Entry, answer: Availability, now: Instant) -> Entry:
    """The entry after an answer."""
    uid, spec = entry.uid, entry.spec
    if answer.is_available and answer.resources is not None:
        return Entry(uid, spec, now + PERIOD, answer=answer, known=answer, is_stale=False)
    rest = min(RETRY_FIRST << min(entry.failures, 8), RETRY_MAX)
    failures = entry.failures + 1
    return Entry(uid, spec, now + rest, answer=answer, known=entry.known, failures=failures)


def _report(
    api_service: APIService, found: Availability, now: Instant
) -> tuple[tuple[Request, ...], ...]:
    """Write the condition if it differs; other conditions stay."""
    conditions = api_service.status.conditions or ()
    known = get_condition(conditions, AVAILABLE)
    word = "True" if found.is_available else "False"
    condition = APIServiceCondition(
        type=AVAILABLE,
        status=word,
        reason=found.reason,
        message=found.message,
        last_transition_time=transition_time(known, word, timestamp(now)),
    )
    if known == condition:
        return ()
    if known is None:
        conditions = (*conditions, condition)
    else:
        conditions = tuple([condition if one is known else one for one in conditions])
    body = replace(api_service, status=replace(api_service.status, conditions=conditions))
    name = api_service.metadata.name or ""
    because = f"it is {'' if found.is_available else 'not '}available: {found.reason}"
    return ((Request("update", API_SERVICES, "", name, "status", body=body, because=because),),)
