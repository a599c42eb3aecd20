"""The actions of a cluster: everything that can happen, as data. Rules CLUSTER-1 to CLUSTER-17
(spec/cluster.md).

There are three kinds: ordinary actions, requests from outside the cluster, and faults. An action
names its request, watch or operation by a `Channel`, which does not depend on other actions. So a
list of actions keeps its meaning when one is removed, and can be written to a file.
"""

from typing import TypeAlias

from refk8s.core.api.request import Request
from refk8s.core.context import Instant
from refk8s.core.value import Value

Channel: TypeAlias = tuple[str, int, int]
"""A request, a watch or an operation: (the machine that began it, the machine's life, a number)."""


# --- ordinary actions -----------------------------------------------------------------------------


class Arrive(Value, frozen=True, order=True):
    """A request reaches the API server, which carries it out or refuses it; the response is in
    transit."""

    flying: Channel


class Answer(Value, frozen=True, order=True):
    """A response reaches the component that sent the request."""

    flying: Channel


class Notify(Value, frozen=True, order=True):
    """A watch delivers its next changes, at most `limit`; a bookmark if none of them match
    (CLUSTER-2)."""

    watch: Channel
    limit: int = 1_000_000


class Operate(Value, frozen=True, order=True):
    """The container runtime of a node executes an operation and returns its result."""

    operation: Channel


class Wake(Value, frozen=True, order=True):
    """The timer of a component fires."""

    machine: str


class Start(Value, frozen=True, order=True):
    """A stopped component starts again."""

    machine: str


class Resume(Value, frozen=True, order=True):
    """A suspended component goes on, and handles everything that it has received meanwhile."""

    machine: str


class CatchUp(Value, frozen=True, order=True):
    """An API server whose memory was behind the store has caught up with it (CLUSTER-10)."""

    server: int


class StartServer(Value, frozen=True, order=True):
    """A stopped API server starts again, and reads the state of the store (CLUSTER-16)."""

    server: int


class Elapse(Value, frozen=True, order=True):
    """Time passes up to this instant."""

    to: Instant


# --- requests from outside the cluster ------------------------------------------------------------


class Submit(Value, frozen=True):
    """A user, a test or another program sends a request to an API server; it takes effect
    immediately."""

    request: Request
    server: int = 0


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


class Suspend(Value, frozen=True, order=True):
    """A component's process does not run until that instant, and keeps its state (CLUSTER-14).

    As with SIGSTOP, or while its virtual machine is moved.
    """

    machine: str
    until: Instant


class CutWatch(Value, frozen=True, order=True):
    """A watch is cut."""

    watch: Channel


class LoseRequest(Value, frozen=True, order=True):
    """A request never arrives. The sender gets no response, so the outcome is unknown
    (CLUSTER-5)."""

    flying: Channel


class LoseAnswer(Value, frozen=True, order=True):
    """The request has taken effect, but its response never arrives: unknown to the sender
    (CLUSTER-5)."""

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
    """The API server answers a request with a 5xx, because its store does not respond. Nothing
    changes (CLUSTER-7)."""

    flying: Channel
    code: int = 500


class Delay(Value, frozen=True, order=True):
    """Nothing in this channel is delivered before that instant (CLUSTER-8)."""

    channel: Channel
    until: Instant


class Partition(Value, frozen=True, order=True):
    """Nothing is delivered between a component and the API server before that instant
    (CLUSTER-8)."""

    machine: str
    until: Instant


class RestartServer(Value, frozen=True, order=True):
    """Every API server restarts, which breaks every connection. Requests in transit are lost,
    responses in transit too, and watches are cut (CLUSTER-9)."""


class StopServer(Value, frozen=True, order=True):
    """One API server stops until that instant, which breaks its connections (CLUSTER-16)."""

    server: int
    until: Instant


class CutOff(Value, frozen=True, order=True):
    """An API server cannot reach the store until that instant (CLUSTER-17)."""

    server: int
    until: Instant


class Stale(Value, frozen=True, order=True):
    """The memory of an API server stops following the store until that instant (CLUSTER-10)."""

    server: int
    until: Instant


class Switch(Value, frozen=True, order=True):
    """The connections of a component break, and it switches to another API server (CLUSTER-10)."""

    machine: str
    server: int


class Skew(Value, frozen=True, order=True):
    """From now on the clock of a component, and of its node, is so many microseconds ahead of the
    API server's (CLUSTER-11)."""

    machine: str
    by: Instant


class Compact(Value, frozen=True, order=True):
    """The store discards the changes up to this revision."""

    revision: int


class Disturb(Value, frozen=True, order=True):
    """A fault of a node. `what` is one of the faults that its runtime supports; `which` names the
    container, image or pod."""

    machine: str
    what: str
    which: str = ""


Happening: TypeAlias = (
    Arrive | Answer | Notify | Operate | Wake | Start | Resume | CatchUp | StartServer | Elapse
)  # fmt: skip
Fault: TypeAlias = (
    Crash | Stop | Suspend | CutWatch | LoseRequest | LoseAnswer | GiveUp | Duplicate | Refuse | Delay | Partition | RestartServer | StopServer
    | CutOff | Stale | Switch | Skew | Compact | Disturb
)  # fmt: skip
Action: TypeAlias = Happening | Submit | Fault
