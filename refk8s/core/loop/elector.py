"""Leader election: a machine that runs another machine only while its instance holds a Lease. Rules
ELECT-2 to ELECT-10 (spec/leader_election.md).

The elector reads and writes the Lease with requests of its own. While it leads, it passes events to
the inner machine, and effects of the inner machine to the driver. When the lease has ended by its
own clock, the inner machine is discarded, as in a crash of the component, and is started again when
the instance leads again. So neither the driver nor the inner machine depends on the election. As
nothing is sent without the Lease, two instances never act at once (ELECT-5); as every instance
keeps trying, one of them leads in the end (ELECT-9).

| state | event | next state | effect |
|---|---|---|---|
| candidate | its attempt is due | candidate | get the Lease |
| candidate | the Lease is free (ELECT-2) | candidate | write itself into the Lease |
| candidate | the write succeeded | leader | the effects of the inner machine's start |
| leader | renewal is due | leader | write the Lease with a new renewTime |
| leader | renew deadline, another holder, or its clock set back | candidate | close the watches |
| any | `Stopping` | stopping | release the Lease after the last response (ELECT-8) |

Source: client-go documentation of leader election (RunOrDie); Kubernetes documentation, "Leases".
Left out: coordinated leader election (LeaseCandidates), which is disabled by default.
"""

from collections.abc import Sequence
from typing import Any

from immutables import Map

from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import LEASES
from refk8s.core.api.user import User
from refk8s.core.context import Instant, SeededChance, format_suffix, format_uid
from refk8s.core.loop.lease_lock import (
    JITTER_FACTOR,
    ElectionConfig,
    acquired,
    holder_of,
    may_acquire,
    released,
)
from refk8s.core.loop.plan import Note
from refk8s.core.loop.recorder import Recorder, record
from refk8s.core.machine import (
    Answered,
    AnyMachine,
    Call,
    Effect,
    Effects,
    Event,
    Program,
    Programmed,
    Ran,
    Run,
    Stopping,
    Unwatch,
    WakeAt,
    Watch,
    Watched,
    WatchEnded,
    Woken,
)
from refk8s.core.value import Value, evolve, field

GET, RENEW, ACQUIRE, RELEASE = "get", "renew", "acquire", "release"
UNIQUE_LENGTH = 10


class Sent(Value, frozen=True):
    """The elector's own request in transit."""

    id: int
    purpose: str
    at: Instant


class Leading(Value, frozen=True, eq=False):
    """The inner machine while this instance leads. Its id n is id 2 * (base + n) + 1 outside."""

    state: Any
    base: int
    wake_at: Instant | None = None
    watches: Map[int, None] = field(default_factory=Map)  # open, by their ids outside


class ElectorState(Value, frozen=True, eq=False):
    """The state of an elector; `leading` is None while it is a candidate."""

    config: ElectionConfig
    seed: bytes
    identity: str
    latest: Instant  # of its clock
    due: Instant  # the next attempt
    lease: Lease | None = None  # as last read or written
    observed_at: Instant = 0  # when its spec was seen to change
    renewed_at: Instant | None = None  # when the last successful write was sent
    sent: Sent | None = None
    leading: Leading | None = None
    # requests of inner machines without a response, except Events, by their ids outside
    unanswered: Map[int, None] = field(default_factory=Map)
    base: int = 0  # of the next inner machine
    starts: int = 0  # of inner machines
    counter: int = 0  # of own ids and random values
    recorder: Recorder = field(default_factory=Recorder)
    stopping: bool = False
    asked: Instant | None = None


def inner_state(state: Any) -> Any:
    """The state of the machine inside an elector (None: it does not lead); others as they are."""
    if not isinstance(state, ElectorState):
        return state
    return state.leading.state if state.leading is not None else None


def inner_id(state: Any, id: int) -> int:
    """What an id outside is inside an elector; -1 if it is not of the machine that runs now."""
    if not isinstance(state, ElectorState):
        return id
    if state.leading is None or not id % 2 or id // 2 < state.leading.base:
        return -1
    return id // 2 - state.leading.base


def outer_id(base: int, id: int) -> int:
    """What an id of the machine inside an elector is outside."""
    return 2 * (base + id) + 1


def inner_starts(state: Any) -> int:
    """How often the machine inside an elector has been started; 0 without an election."""
    return state.starts if isinstance(state, ElectorState) else 0


class Elector:
    """Runs `inner` while its Lease is held.

    `host` begins the identity, as the host name does upstream. `user` sends the requests about the
    Lease, `component` is the source of its Events.
    """

    def __init__(
        self,
        inner: AnyMachine,
        config: ElectionConfig,
        host: str,
        user: User,
        component: str,
        name: str = "",
    ) -> None:
        self.inner = inner
        self.config = config
        self.host = host
        self.user = user
        self.component = component
        self.name = name or inner.name

    def start(self, now: Instant, seed: bytes) -> tuple[ElectorState, Effects]:
        identity = f"{self.host}_{format_uid(SeededChance(seed + b'identity').draw(16))}"
        state = ElectorState(self.config, seed, identity, latest=now, due=now)
        turn = _Turn(self, state, now)
        return turn.finish(())

    def step(
        self, state: ElectorState, events: Sequence[Event], now: Instant
    ) -> tuple[ElectorState, Effects]:
        turn = _Turn(self, state, now)
        turn.check_clock()
        for event in events:
            if isinstance(event, Answered) and not event.id % 2:
                turn.answered(event.id, event.response)
        return turn.finish(events)


class _Turn:
    """One step: the state so far, and the effects so far."""

    def __init__(self, elector: Elector, state: ElectorState, now: Instant) -> None:
        self.elector = elector
        self.config = elector.config
        self.state = state
        self.now = now
        self.effects: list[Effect] = []

    def finish(self, events: Sequence[Event]) -> tuple[ElectorState, Effects]:
        if any(isinstance(event, Stopping) for event in events):
            self._stop()
        self._let_time_pass()
        self._pass_events(events)
        self._release()
        self._ask_to_be_woken(any(isinstance(event, Woken) for event in events))
        return self.state, tuple(self.effects)

    def _set(self, **changes: Any) -> None:
        self.state = evolve(self.state, **changes)

    # --- time -------------------------------------------------------------------------------------

    def check_clock(self) -> None:
        """ELECT-7: a time that this clock cannot have measured counts as unknown.

        The clock was set back if it shows less than before, and may have been set forward if the
        step comes long after the machine wanted to be woken.
        """
        state, now = self.state, self.now
        if now < state.latest:
            self._end()
            self._set(sent=None, renewed_at=None, observed_at=now, due=now)
        elif state.asked is not None and now > state.asked + self.config.retry_period:
            self._set(observed_at=now)
        self._set(latest=now)

    def _let_time_pass(self) -> None:
        """ELECT-3, ELECT-4."""
        state, now = self.state, self.now
        if state.leading is not None and not self._is_held():
            self._end()
        if state.sent is not None and now >= state.sent.at + self.config.request_timeout:
            self._resolve(state.sent, None)
        state = self.state
        if state.sent is None and state.due <= now and not state.stopping:
            self._attempt()

    def _is_held(self) -> bool:
        """ELECT-4: whether the lease has not ended by this instance's own clock."""
        renewed_at = self.state.renewed_at
        return renewed_at is not None and self.now < renewed_at + self.config.renew_deadline

    def _ask_to_be_woken(self, is_woken: bool) -> None:
        state, config = self.state, self.config
        wishes: list[Instant] = []
        if state.sent is not None:
            wishes.append(state.sent.at + config.request_timeout)
        elif not state.stopping:
            wishes.append(state.due)
        if state.leading is not None:
            assert state.renewed_at is not None
            wishes.append(state.renewed_at + config.renew_deadline)
            if state.leading.wake_at is not None:
                wishes.append(state.leading.wake_at)
        at = min(wishes, default=None)
        if at != (None if is_woken else state.asked):
            self.effects.append(WakeAt(at))
        if at != state.asked:
            self._set(asked=at)

    # --- the Lease --------------------------------------------------------------------------------

    def answered(self, id: int, response: Response | None) -> None:
        """The response to a request of the elector; one that has timed out is ignored."""
        if self.state.sent is not None and self.state.sent.id == id:
            self._resolve(self.state.sent, response)

    def _attempt(self) -> None:
        """ELECT-3: the holder renews what it wrote last; a candidate reads the Lease first."""
        lease, now = self.state.lease, self.now
        identity = self.state.identity
        if (
            lease is not None
            and holder_of(lease) == identity
            and now < self.state.observed_at + self.config.lease_duration
        ):
            self._send(RENEW, "update", acquired(lease, identity, self.config, now))
        else:
            self._send(GET, "get")

    def _send(self, purpose: str, verb: str, body: Lease | None = None) -> None:
        config = self.config
        because = {GET: "to see the holder", RELEASE: "it stops"}.get(purpose, "it leads")
        request = Request(
            verb,
            LEASES,
            config.namespace,
            config.name,
            body=body,
            user=self.elector.user,
            because=because,
        )
        self._set(counter=self.state.counter + 1)
        id = 2 * self.state.counter
        self._set(sent=Sent(id, purpose, self.now))
        self.effects.append(Call(id, request))

    def _resolve(self, sent: Sent, response: Response | None) -> None:
        """The outcome of the elector's request; None: unknown."""
        self._set(sent=None)
        is_ok = response is not None and response.ok
        if sent.purpose == GET:
            self._read(response)
        elif sent.purpose == RELEASE:
            pass
        elif response is not None and is_ok:
            self._written(sent.at, response.body)
        elif sent.purpose == RENEW and not self.state.stopping:
            self._send(GET, "get")
        else:
            self._retry_later()

    def _read(self, response: Response | None) -> None:
        """ELECT-2: what the Lease allows this instance to do."""
        identity, config, now = self.state.identity, self.config, self.now
        if response is None or not (response.ok or response.code == 404):
            self._retry_later()
            return
        lease: Lease | None = response.body if response.ok else None
        known = self.state.lease
        if holder_of(lease) != identity:
            self._end()  # ELECT-4
            self._set(renewed_at=None)
        if lease is None or known is None or lease.spec != known.spec:
            self._set(observed_at=now)
        self._set(lease=lease)
        if self.state.stopping:
            return
        if lease is None:
            self._send(ACQUIRE, "create", acquired(None, identity, config, now))
        elif may_acquire(lease, self.state.observed_at, identity, now):
            self._send(ACQUIRE, "update", acquired(lease, identity, config, now))
        else:
            self._retry_later()

    def _written(self, sent_at: Instant, lease: Lease) -> None:
        """ELECT-6: a successful write makes a candidate the leader, from the time of sending."""
        now = self.now
        self._set(
            lease=lease, observed_at=now, renewed_at=sent_at, due=now + self.config.retry_period
        )
        state = self.state
        if state.leading is None and self._is_held() and not state.stopping:
            self._set(starts=state.starts + 1)
            seed = self._chance(b"inner", self.state.starts).draw(16)
            inner, effects = self.elector.inner.start(now, seed)
            self._set(leading=Leading(inner, state.base))
            self._note("became leader")
            self._pass_effects(effects)

    def _retry_later(self) -> None:
        """ELECT-3: a candidate waits up to 1.2 retry periods longer, by chance."""
        period = self.config.retry_period
        if self.state.leading is None:
            self._set(counter=self.state.counter + 1)
            drawn = self._chance(b"jitter", self.state.counter).draw(8)
            period += int.from_bytes(drawn, "big") % int(period * JITTER_FACTOR)
        self._set(due=self.now + period)

    def _chance(self, purpose: bytes, number: int) -> SeededChance:
        return SeededChance(self.state.seed + purpose + number.to_bytes(8, "big"))

    def _note(self, what: str) -> None:
        """ELECT-10."""
        state, elector = self.state, self.elector
        note = Note(state.lease, "LeaderElection", f"{state.identity} {what}")
        self._set(counter=state.counter + 1)
        unique = format_suffix(self._chance(b"event", self.state.counter).draw(UNIQUE_LENGTH))
        recorder, request = record(
            state.recorder, note, elector.component, "", elector.user, unique, self.now
        )
        self._set(recorder=recorder)
        if request is not None:
            self.effects.append(Call(2 * self.state.counter, request, background=True))

    # --- stopping ---------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._end()
        self._set(stopping=True)

    def _release(self) -> None:
        """ELECT-8: give up the Lease when no request of the inner machine is in transit."""
        state = self.state
        if (
            state.stopping
            and state.sent is None
            and not state.unanswered
            and state.lease is not None
            and self._is_held()
        ):
            self._set(renewed_at=None)
            self._send(RELEASE, "update", released(state.lease, self.now))

    # --- the inner machine ------------------------------------------------------------------------

    def _end(self) -> None:
        """ELECT-4: discard the inner machine; nothing of it is sent from now on."""
        leading = self.state.leading
        if leading is None:
            return
        self.effects += [Unwatch(id) for id in sorted(leading.watches)]
        self._set(leading=None)
        self._note("stopped leading")

    def _pass_events(self, events: Sequence[Event]) -> None:
        """Pass events to the inner machine; those for a discarded one are dropped (ELECT-12)."""
        passed: list[Event] = []
        for event in events:
            if isinstance(event, (Woken, Stopping)):
                continue
            id = getattr(event, "id", None)
            if id is None:
                passed.append(event)
                continue
            if not id % 2:
                continue
            if isinstance(event, Answered) and id in self.state.unanswered:
                self._set(unanswered=self.state.unanswered.delete(id))
            leading, number = self.state.leading, inner_id(self.state, id)
            if leading is None or number < 0:
                continue
            if isinstance(event, WatchEnded) and id in leading.watches:
                self._set(leading=evolve(leading, watches=leading.watches.delete(id)))
            assert isinstance(event, (Answered, Watched, WatchEnded, Ran, Programmed))
            passed.append(evolve(event, id=number))
        leading = self.state.leading
        if leading is None:
            return
        if leading.wake_at is not None and leading.wake_at <= self.now:
            leading = evolve(leading, wake_at=None)
            passed.append(Woken())
        if passed:
            inner, effects = self.elector.inner.step(leading.state, passed, self.now)
            self._set(leading=evolve(leading, state=inner))
            self._pass_effects(effects)

    def _pass_effects(self, effects: Effects) -> None:
        """Pass effects of the inner machine to the driver, with ids that no other machine uses."""
        leading = self.state.leading
        if leading is None or not effects:
            return
        base, wake_at = leading.base, leading.wake_at
        top = self.state.base
        watches, unanswered = leading.watches.mutate(), self.state.unanswered.mutate()
        for effect in effects:
            if isinstance(effect, WakeAt):
                wake_at = effect.at
                continue
            if isinstance(effect, (Call, Watch, Unwatch, Run, Program)):
                top = max(top, base + effect.id + 1)
                effect = evolve(effect, id=outer_id(base, effect.id))
                if isinstance(effect, Call) and not effect.background:
                    unanswered[effect.id] = None
                elif isinstance(effect, Watch):
                    watches[effect.id] = None
                elif isinstance(effect, Unwatch):
                    watches.pop(effect.id, None)
            self.effects.append(effect)
        leading = evolve(leading, wake_at=wake_at, watches=watches.finish())
        self._set(leading=leading, base=top, unanswered=unanswered.finish())
