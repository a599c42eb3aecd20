"""The alphabet of a cluster: everything that can happen, as data. Rules CLUSTER-1 ... CLUSTER-12
(spec/cluster.md).

Three kinds: what happens by itself, what somebody outside asks for, and faults. An action names
what it is about by words that do not depend on what else has happened (a `Channel`), so the same
list means the same after one action has been taken out of it, and can be written to a file.
"""

from typing import TypeAlias

from refk8s.core.api.request import Request
from refk8s.core.context import Instant
from refk8s.core.value import Value

Channel: TypeAlias = tuple[str, int, int]
"""A request, a watch or an operation: (the machine that began it, in which life, under which
id)."""


# --- what happens by itself -----------------------------------------------------------------------


class Arrive(Value, frozen=True, order=True):
    """A request reaches the API server and takes effect (or is refused); its answer sets out."""

    flying: Channel


class Answer(Value, frozen=True, order=True):
    """An answer reaches the component that asked."""

    flying: Channel


class Notify(Value, frozen=True, order=True):
    """A watch delivers its next changes (CLUSTER-2), up to `limit` of them (or a bookmark where
    there are none that match)."""

    watch: Channel
    limit: int = 1_000_000


class Operate(Value, frozen=True, order=True):
    """A node's runtime carries out an operation and answers."""

    operation: Channel


class Wake(Value, frozen=True, order=True):
    """A component's timer goes off."""

    machine: str


class Start(Value, frozen=True, order=True):
    """A component that was stopped starts again."""

    machine: str


class CatchUp(Value, frozen=True, order=True):
    """A stale API server's cache has everything again that the store has."""

    server: int


class Elapse(Value, frozen=True, order=True):
    """Time passes up to this instant."""

    to: Instant


# --- what somebody outside does -------------------------------------------------------------------


class Submit(Value, frozen=True):
    """Somebody outside (a user, a test) sends a request; it takes effect at once."""

    request: Request


# --- faults ---------------------------------------------------------------------------------------


class Crash(Value, frozen=True, order=True):
    """A component loses its state and starts again.

    Its requests stay in transit, and the responses to them are dropped (CLUSTER-3).
    """

    machine: str


class Stop(Value, frozen=True, order=True):
    """A component loses its state and starts again only at the instant `until`."""

    machine: str
    until: Instant


class CutWatch(Value, frozen=True, order=True):
    """A watch stream breaks off."""

    watch: Channel


class LoseRequest(Value, frozen=True, order=True):
    """A request never arrives; whoever sent it hears nothing (unknown, CLUSTER-5)."""

    flying: Channel


class LoseAnswer(Value, frozen=True, order=True):
    """An answer never arrives: the request took effect, and whoever sent it does not know."""

    flying: Channel


class GiveUp(Value, frozen=True, order=True):
    """The sender of a request stops waiting for it: the outcome is unknown.

    The request is still in transit and may take effect later.
    """

    flying: Channel


class Duplicate(Value, frozen=True, order=True):
    """A request arrives once more than it was sent; the response to the duplicate is dropped
    (CLUSTER-7)."""

    flying: Channel


class Refuse(Value, frozen=True, order=True):
    """The API server cannot do what a request asks for (its store does not answer): nothing
    happens, and it says so."""

    flying: Channel
    code: int = 500


class Delay(Value, frozen=True, order=True):
    """What this channel carries stays where it is until that instant (CLUSTER-8)."""

    channel: Channel
    until: Instant


class Partition(Value, frozen=True, order=True):
    """Nothing passes between a component and the API server, either way, until that instant
    (CLUSTER-8)."""

    machine: str
    until: Instant


class RestartServer(Value, frozen=True, order=True):
    """The API server starts again: every connection breaks. Requests are lost or done and
    unanswered, watches are cut (CLUSTER-9)."""


class Stale(Value, frozen=True, order=True):
    """An API server's cache stops following the store, until that instant (CLUSTER-10). Server 0 is
    the one that all begin with."""

    server: int
    until: Instant


class Switch(Value, frozen=True, order=True):
    """A component's connections break, and it goes on with another API server (CLUSTER-10)."""

    machine: str
    server: int


class Skew(Value, frozen=True, order=True):
    """From now on a component's clock (and its node's) shows so many microseconds more than the API
    server's (CLUSTER-11)."""

    machine: str
    by: Instant


class Compact(Value, frozen=True, order=True):
    """The store forgets the changes up to this revision."""

    revision: int


class Disturb(Value, frozen=True, order=True):
    """A node's world changes by force: `what` is one of the words that it knows, `which` says of
    which container, image or pod."""

    machine: str
    what: str
    which: str = ""


Happening: TypeAlias = Arrive | Answer | Notify | Operate | Wake | Start | CatchUp | Elapse
Fault: TypeAlias = (
    Crash | Stop | CutWatch | LoseRequest | LoseAnswer | GiveUp | Duplicate | Refuse | Delay | Partition | RestartServer | Stale | Switch
    | Skew | Compact | Disturb
)  # fmt: skip
Action: TypeAlias = Happening | Submit | Fault
