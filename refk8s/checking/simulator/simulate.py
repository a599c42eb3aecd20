"""Runs of a cluster in virtual time, with faults, from one seed. Rules SIM-1 ... SIM-4, SIM-8
(spec/simulation.md).

A run has two parts. The first has a given number of steps: enabled actions in an order drawn from
the seed, requests of a user, and faults. The second has no faults: delays end, stopped components
start, and failures are repaired. The cluster must then come to rest within a bound of virtual time
with the desired state reached (SIM-3), and make no further writes (SIM-4). The laws of
refk8s/core/properties are evaluated in every step.

Left out: real time, sockets, disks (tests/integration has those).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random

from attrs import define, field, frozen

from refk8s.checking.simulator import user
from refk8s.checking.simulator.api_servers import SimulatedApiServer
from refk8s.checking.simulator.extender import SimulatedExtender
from refk8s.checking.simulator.faults import FAULTS, Rate, mend
from refk8s.checking.simulator.ready import Ready
from refk8s.checking.simulator.scenario import CPU_MILLI, START, new_cluster
from refk8s.checking.simulator.script import Entry, Fairly, Order
from refk8s.checking.simulator.webhooks import SimulatedWebhooks
from refk8s.core.actions import Action, Answer, Arrive, CatchUp, Elapse, Notify, Operate, Submit
from refk8s.core.api import codec
from refk8s.core.api.request import Request
from refk8s.core.api.resources import EVENTS, EVENTS_V1, LEASES, NODES
from refk8s.core.cluster.enabled import is_enabled
from refk8s.core.cluster.state import Cluster, Webhooks
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.lease_lock import holder_of
from refk8s.core.properties.law import Broken
from refk8s.core.properties.laws import judge, judge_rest

NOISE = (LEASES.prefix, EVENTS.prefix, EVENTS_V1.prefix, NODES.prefix)
"""Resources that may be written for ever: heartbeats and Events."""

ELECTIONS = f"{LEASES.prefix}kube-system/"
"""The Leases of leader elections."""

SETTLE_SECONDS = 1_500
QUIET_SECONDS = 60
STEPS_AT_ONCE = 10_000
"""The most actions per node at one instant of virtual time; more are an endless loop."""
LAST_WRITES = 30
USER_CHANCE = 0.004
LULL_CHANCE = 0.002
LULL_STEPS_MAX = 400
"""The length of a quiet period, without user requests and faults: the cluster comes to rest, and
minutes pass."""
MOOD_STEPS_MAX = 300
NEAR_STEPS = 200
"""Two faults at most this many actions apart count as a pair, since they can interact."""


@frozen
class Setup:
    """Everything that determines a run."""

    seed: int = 0
    steps: int = 3_000
    nodes: int = 2
    cpu_milli: int = CPU_MILLI  # of each node
    instances: int = 1  # of the controller manager and the scheduler; several elect a leader
    apiservers: int = 2  # each with its own memory of the store
    faults: dict[str, Rate] = field(
        factory=lambda: {name: rate for name, (_, rate) in FAULTS.items()}
    )
    requests: tuple[Request, ...] = ()
    user: bool = True  # whether a simulated user acts
    webhooks: bool = False  # whether there are servers that `webhooks.configurations` name
    # how long another API server fails at times, which `api_servers.registration` names; 0: there
    # is none
    other_server_seconds: int = 0
    extender: bool = False  # whether the scheduler has one
    has_gangs: bool = False  # whether the scheduler binds the pods of a group together
    lists_servers: bool = False  # whether the API servers keep Leases (HOST-20)
    is_dual_stack: bool = False  # whether Services and pods may have addresses of both families

    def first_cluster(self) -> Cluster:
        """The first state: components have started, and no request has arrived."""
        seed = self.seed.to_bytes(8, "big", signed=True)
        servers: Webhooks | None = SimulatedWebhooks(self.seed) if self.webhooks else None
        has_other = self.other_server_seconds > 0
        if has_other:
            works_from = START + self.other_server_seconds * SECOND
            servers = SimulatedApiServer(self.seed, works_from)
        return new_cluster(
            self.nodes, seed, self.cpu_milli, self.instances, self.apiservers, servers,
            has_api_services=has_other, is_dual_stack=self.is_dual_stack,
            extender=SimulatedExtender() if self.extender else None, has_gangs=self.has_gangs,
            lists_servers=self.lists_servers,
        )  # fmt: skip


@define
class Run:
    """A run up to its current state. Its setup and actions reproduce it exactly (SIM-1)."""

    setup: Setup
    cluster: Cluster
    actions: list[Action] = field(factory=list)
    broken: list[Broken] = field(factory=list)
    tested: Counter[str] = field(factory=Counter)
    taken: Counter[str] = field(factory=Counter)
    faults: Counter[str] = field(factory=Counter)
    pairs: Counter[tuple[str, str]] = field(factory=Counter)
    elected: Counter[str] = field(factory=Counter)  # acquisitions of each Lease of an election
    recent: list[tuple[int, str]] = field(factory=list)
    digest: "hashlib._Hash" = field(factory=hashlib.sha256)
    ready: Ready = field(init=False)
    settled_from: int | None = None  # how many actions had been taken when faults stopped
    settled_after: Instant = 0
    left_out: int = 0  # actions of a script that were not enabled
    # whether a rule broke in the check at rest, and not in a step
    at_rest: bool = False

    def __attrs_post_init__(self) -> None:
        self.ready = Ready(self.cluster)

    @property
    def virtual_seconds(self) -> float:
        return (self.cluster.now - START_OF_TIME) / SECOND

    @property
    def last_line(self) -> str:
        return (
            f"seed {self.setup.seed} steps {self.setup.steps} virtual {self.virtual_seconds:.3f} "
            f"digest {self.digest.hexdigest()}"
        )

    def take(self, action: Action) -> None:
        """Take one step and evaluate the laws. A step that breaks a law ends the run (`broken`)."""
        before = self.cluster
        self.actions.append(action)
        self.taken[type(action).__name__] += 1
        self.tested["SIM-8"] += 1
        try:
            after = step(before, action)
        except Exception as error:
            # an exception is an internal error, and the run that shows it is a finding (SIM-8)
            self.broken.append(Broken("SIM-8", f"{action} ends in {type(error).__name__}: {error}"))
            return
        self.cluster = after
        self.ready.took(before, action, after)
        self.broken += judge(before, action, after, self.tested)
        if after.last_commit is not None:
            for change in after.last_commit.changes:
                value = codec.encode(change.record.value) if change.record is not None else b""
                self.digest.update(b"%d %s %s\n" % (change.revision, change.key.encode(), value))
                if change.record is not None and change.key.startswith(ELECTIONS):
                    old = change.previous.value if change.previous is not None else None
                    if holder_of(change.record.value) not in ("", holder_of(old)):
                        self.elected[change.key.removeprefix(ELECTIONS)] += 1

    def strike(self, name: str, actions: Iterable[Action]) -> bool:
        """Inject a fault. False if it is not possible in this state."""
        struck = False
        for action in actions:
            if is_enabled(self.cluster, action):
                self.take(action)
                struck = True
        if struck:
            self.faults[name] += 1
            now = len(self.actions)
            self.recent = [(at, other) for at, other in self.recent if now - at <= NEAR_STEPS]
            for _, other in self.recent:
                self.pairs[min(name, other), max(name, other)] += 1
            self.recent.append((now, name))
        return struck


START_OF_TIME: Instant = new_cluster(0, b"").now


def begin_run(setup: Setup) -> Run:
    """The first state, then the creation of the user's objects."""
    run = Run(setup, setup.first_cluster())
    for request in setup.requests:
        run.take(Submit(request))
    return run


def simulate(setup: Setup, progress: Callable[[int], None] = lambda steps: None) -> Run:
    """Simulate a whole run; it ends at the first step that breaks a law.

    `progress` is called with the number of steps taken.
    """
    run = begin_run(setup)
    chance = Random(setup.seed)
    budgets = {name: rate.budget for name, rate in setup.faults.items()}
    order, lull, mood = Order(), 0, Mood()
    acts = user.acts_of(setup.requests)
    while len(run.actions) < setup.steps and not run.broken:
        if len(run.actions) % 64 == 0:
            progress(len(run.actions))
        if lull and (action := order.next_action(run.cluster, run.ready)) is not None:
            run.take(action)
            lull -= 1
            continue
        draw = chance.random()
        if draw > 1 - LULL_CHANCE:
            order, lull = Order(), chance.randrange(LULL_STEPS_MAX)
            continue
        for name, rate in setup.faults.items():
            if draw < rate.chance:
                if budgets[name] > 0 and run.strike(name, FAULTS[name][0](run.cluster, chance)):
                    budgets[name] -= 1
                break
            draw -= rate.chance
        else:
            if (
                setup.user
                and draw < USER_CHANCE
                and (wish := user.act(acts, run.cluster, chance)) is not None
            ):
                server = chance.randrange(setup.apiservers)
                run.take(Submit(wish.request, server))
            elif ready := run.ready.actions(run.cluster):
                run.take(chance.choice(mood.choose(ready, run.cluster, chance)))
            else:
                break  # no action will ever be enabled again
    if not run.broken:
        settle(run)
    return run


@define
class Mood:
    """Slows down one machine or one kind of action for some hundred actions.

    Its actions are taken only when no other action is enabled. Random choice alone can produce any
    order, but hardly ever one in which a component is far behind all others.
    """

    slow: object = None
    left: int = 0

    def choose(self, ready: list[Action], cluster: Cluster, chance: Random) -> list[Action]:
        """The actions to choose from."""
        if self.left == 0:
            self.left = chance.randrange(20, MOOD_STEPS_MAX)
            self.slow = chance.choice(
                (None, None, *sorted(cluster.components), Answer, Arrive, CatchUp, Notify, Operate)
            )
        self.left -= 1
        if self.slow is None:
            return ready
        return [
            action
            for action in ready
            if type(action) is not self.slow and _machine_of(action) != self.slow
        ] or ready


def _machine_of(action: Action) -> object:
    about = getattr(action, action.__struct_fields__[0])
    return about[0] if isinstance(about, tuple) else about


def settle(
    run: Run, stuck_seconds: int = SETTLE_SECONDS, steps_at_once: int = STEPS_AT_ONCE
) -> None:
    """Run the second part, without faults and in the fair order, until rest; check the result.

    Optional limits end the run earlier: a cluster without a change for `stuck_seconds` counts as
    stuck, and a number of steps without time passing counts as an endless loop.
    """
    run.settled_from = len(run.actions)
    for first in (*mend(run.cluster), *user.resume(run.cluster)):
        if run.broken:
            return
        run.take(first)
    begin = last = run.cluster.now
    order = Order()
    moved = len(run.actions)
    is_late = False
    while not run.broken and (action := order.next_action(run.cluster, run.ready)) is not None:
        if isinstance(action, Elapse):
            moved = len(run.actions)
        elif len(run.actions) - moved > steps_at_once * run.setup.nodes:
            run.broken.append(
                Broken(
                    "SIM-4",
                    "no time passes, and these are written again and again: "
                    f"{_last_written(run.cluster)}",
                )
            )
            break
        if (
            isinstance(action, Elapse)
            and action.to >= last + QUIET_SECONDS * SECOND
            and not judge_rest(run.cluster)
        ):
            break
        is_late = run.cluster.now > begin + SETTLE_SECONDS * SECOND
        if is_late or run.cluster.now > last + stuck_seconds * SECOND:
            break
        run.take(action)
        if is_news(run.cluster):
            last = run.cluster.now
    if run.broken:
        run.at_rest = run.broken[0].rule == "SIM-4"
        return
    run.settled_after = last - begin
    run.broken += judge_rest(run.cluster, run.tested)  # SIM-3
    run.tested["SIM-3"] += 1
    run.tested["SIM-4"] += 1
    if is_late and run.cluster.now < last + QUIET_SECONDS * SECOND:
        words = (
            f"no silence {(run.cluster.now - begin) // SECOND} s after the last fault, "
            "and these are still written: "
        )
        run.broken.append(Broken("SIM-4", words + _last_written(run.cluster)))
    run.at_rest = bool(run.broken)


def _last_written(cluster: Cluster) -> str:
    since = max(cluster.history.revision - LAST_WRITES, cluster.history.compacted)
    return ", ".join(
        sorted(
            {
                change.key
                for change in cluster.history.changes("/", since)
                if not change.key.startswith(NOISE)
            }
        )
    )


def is_news(cluster: Cluster) -> bool:
    """Whether the last step wrote a resource that must become quiet."""
    commit = cluster.last_commit
    return commit is not None and any(not change.key.startswith(NOISE) for change in commit.changes)


def replay(setup: Setup, script: Sequence[Entry], is_whole: bool = True) -> Run:
    """Execute the enabled ones of these actions, with all checks; settle if `is_whole`."""
    run = Run(setup, setup.first_cluster())
    for entry in script:
        if isinstance(entry, Fairly):
            order = Order()
            for _ in range(entry.count):
                if run.broken or (following := order.next_action(run.cluster, run.ready)) is None:
                    break
                run.take(following)
        elif is_enabled(run.cluster, entry):
            run.take(entry)
        else:
            run.left_out += 1
        if run.broken:
            return run
    if is_whole:
        settle(run)
    return run
