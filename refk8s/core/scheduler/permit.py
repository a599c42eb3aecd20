"""Permission to bind: pods that have a node and wait until plugins of other packages approve them.
Rules SCHED-62 to SCHED-64 (spec/scheduler_profiles.md).

    decided -> each plugin approves            -> the pod's key binds it
               one denies, or a timeout ends   -> back to the queue, and nothing stays reserved
               one waits                       -> asked again after a change, until its timeout

One key of the reconciler, `permit`, is about all waiting pods. It also calls `unreserve` for pods
that were not bound. Source: Kubernetes documentation, "Scheduling Framework" (reserve, permit).
"""

from collections.abc import Callable, Iterable, Mapping

from refk8s.core.api.core_v1 import Pod
from refk8s.core.context import SECOND, Instant, duration_text
from refk8s.core.loop.plan import NOTHING, Key, Note, Plan
from refk8s.core.pods.requests import patch_status
from refk8s.core.scheduler.hints import SCHEDULE
from refk8s.core.scheduler.memory import Decision, Memory, Permits, Waits, catch_up
from refk8s.core.scheduler.nominated import key_of_info
from refk8s.core.scheduler.plugin import WAIT_MAX, Denied, PermitPlugin, Wait
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.queue import Backoff
from refk8s.core.scheduler.reasons import Refusal, explain
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo, Snapshot
from refk8s.core.scheduler.writes import note
from refk8s.core.value import evolve

PERMIT: Key = "permit"


class Rejection(Exception):
    """The pod is not bound to its node. `is_error`: a plugin has failed."""

    def __init__(self, reason: str, *, is_error: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.is_error = reason, is_error


class Permission:
    """One reconciliation of the key `permit`; not kept afterwards."""

    def __init__(
        self,
        memory: Memory,
        truth: Snapshot,
        profiles: Mapping[str, Profile],
        pod_of: Callable[[Key], Pod | None],
        now: Instant,
        backoff: Backoff,
        name: str,
    ) -> None:
        self._memory, self._truth, self._profiles = memory, truth, profiles
        self._pod_of, self._now, self._backoff, self._name = pod_of, now, backoff, name
        self._notes: list[Note] = []
        self._due: dict[Key, None] = {}  # the keys to reconcile next
        self._problems: list[Exception] = []

    def plan(self) -> Plan:
        """O(waiting pods · (1 + rejected ones)) and the time of the plugins."""
        while True:
            self._unreserve()
            asked, rejected = self._ask_all()
            if not rejected:
                break
            # the others are decided again without these
            for key, rejection in rejected.items():
                self._reject(key, rejection)
        waits = self._memory.waits.mutate()
        decisions = self._memory.decisions.mutate()
        alarms = []
        for key, permits in asked.items():
            if permits.waits:
                waits[key] = permits
                alarms += [one.until for one in permits.waits.values()]
            else:
                del waits[key]
                decisions[key] = evolve(decisions[key], permitted=True)
            if permits != self._memory.waits[key]:
                self._due[key] = None
        memory = evolve(self._memory, waits=waits.finish(), decisions=decisions.finish())
        return Plan(
            memory=memory,
            notes=tuple(self._notes),
            enqueue=tuple([(self._name, key) for key in self._due]),
            wake_at=min(alarms, default=None),
            problems=tuple(self._problems),
        )

    # --- unreserve

    def _unreserve(self) -> None:
        """SCHED-62: tell the plugins which pods are not bound, the last plugin first; they may
        reject waiting pods."""
        while self._memory.released:
            (pod, node), *rest = self._memory.released
            self._memory = evolve(self._memory, released=tuple(rest))
            for plugin in reversed(self._profiles[pod.scheduler_name].plugins.reserve):
                waiting = {key: self._memory.decisions[key].pod for key in self._waiting()}
                try:
                    found = dict(plugin.unreserve(pod, node, waiting))
                except Exception as error:  # LOOP-10
                    self._problems.append(error)
                    continue
                for key in waiting:
                    if key in found:
                        self._reject(key, Rejection(str(found[key])))

    def _waiting(self) -> list[Key]:
        """The keys of the waiting pods, as they were decided (SCHED-18)."""
        decisions = self._memory.decisions
        return sorted(self._memory.waits, key=lambda key: (decisions[key].waiting.rank, key))

    # --- permit

    def _ask_all(self) -> tuple[dict[Key, Permits], dict[Key, Rejection]]:
        """What the plugins say about each waiting pod."""
        self._memory = catch_up(self._memory, self._truth)
        asked: dict[Key, Permits] = {}
        rejected: dict[Key, Rejection] = {}
        for key in self._waiting():
            try:
                asked[key] = self._ask(self._memory.decisions[key], self._memory.waits[key])
            except Rejection as rejection:
                rejected[key] = rejection
        return asked, rejected

    def _ask(self, decision: Decision, permits: Permits) -> Permits:
        """The permits of one pod. Raises Rejection."""
        for name, one in permits.waits.items():
            if self._now >= one.until:
                waited = duration_text(one.timeout // SECOND)
                raise Rejection(f"rejected due to timeout after waiting {waited} at plugin {name}")
        facts = self._memory.working.nodes.get(decision.node)
        if facts is None:
            raise Rejection(f'node "{decision.node}" not found')
        approved, waits = permits.approved, dict(permits.waits)
        for plugin in self._profiles[decision.pod.scheduler_name].plugins.permit:
            if plugin.name in approved:
                continue
            answer = self._answer(plugin, decision.pod, facts)
            if isinstance(answer, Denied):
                raise Rejection(answer.reason)
            if answer is None:
                approved = (*approved, plugin.name)
                waits.pop(plugin.name, None)
            else:
                timeout = max(0, min(answer.timeout, WAIT_MAX))
                first = waits.get(plugin.name) or Waits("", self._now + timeout, timeout)
                waits[plugin.name] = evolve(first, reason=answer.reason)
        return Permits(approved, waits)

    def _answer(self, plugin: PermitPlugin, pod: PodInfo, facts: NodeFacts) -> Denied | Wait | None:
        try:
            return answer_of(plugin, pod, facts, self._memory.working)
        except Exception as error:  # LOOP-10: only this pod goes back to the queue
            why = f'running Permit plugin "{plugin.name}": {error}'
            raise Rejection(why, is_error=True) from None

    # --- rejection

    def _reject(self, key: Key, rejection: Rejection) -> None:
        pod = self._pod_of(key)
        self._memory, notes = reject(self._memory, key, rejection, pod, self._now, self._backoff)
        self._notes += notes
        self._due |= dict.fromkeys((key, SCHEDULE))


def expect(memory: Memory, key: Key, pod: Pod, decision: Decision) -> Plan:
    """SCHED-63: while the pod waits, `nominatedNodeName` is its node, for other components and for
    the next process of the scheduler."""
    nominated = pod.status.nominated_node_name if pod.status is not None else None
    if not memory.waits[key].waits or nominated == decision.node:
        return NOTHING
    names = ", ".join(memory.waits[key].waits)
    because = f"it waits for {names} on {decision.node}"
    return Plan(((patch_status(pod, {"nominatedNodeName": decision.node}, because),),))


def reject_preempted(
    memory: Memory,
    victims: Iterable[tuple[PodInfo, PodInfo, str]],
    pod_of: Callable[[Key], Pod | None],
    now: Instant,
    backoff: Backoff,
) -> tuple[Memory, tuple[Note, ...], list[Key]]:
    """SCHED-64: the victims of preemption that wait are rejected, and not deleted. Returns their
    keys."""
    keys: list[Key] = []
    notes: tuple[Note, ...] = ()
    for victim, by, _ in victims:
        key = key_of_info(victim)
        decision = memory.decisions.get(key)
        if key not in memory.waits or decision is None or decision.pod.uid != victim.uid:
            continue
        memory, more = reject(memory, key, Rejection("preempted"), pod_of(key), now, backoff)
        nomination = memory.nominations.get(key_of_info(by))
        if nomination is not None:
            rest = tuple([one for one in nomination.victims if one.uid != victim.uid])
            memory = memory.nominate(key_of_info(by), evolve(nomination, victims=rest))
        keys.append(key)
        notes += more
    return memory, notes, keys


def give_up(
    memory: Memory, key: Key, pod: Pod, error: Exception, now: Instant, backoff: Backoff, name: str
) -> Plan:
    """A plugin has failed before the pod was bound: it goes back to the queue with the error as the
    reason."""
    rejection = Rejection(str(error), is_error=True)
    memory, notes = reject(memory, key, rejection, pod, now, backoff)
    enqueue = ((name, key), (name, SCHEDULE))
    return Plan(memory=memory, notes=notes, enqueue=enqueue)


class BadAnswer(Exception):
    """A plugin returned something else than its protocol says."""


def answer_of(
    plugin: PermitPlugin, pod: PodInfo, facts: NodeFacts, snapshot: Snapshot
) -> Denied | Wait | None:
    """The plugin's answer. Raises BadAnswer, and whatever the plugin raises."""
    answer = plugin.permit(pod, facts, snapshot)
    if answer is not None and not isinstance(answer, Denied | Wait):
        raise BadAnswer(f"{answer!r} is neither None nor Denied nor Wait")
    return answer


def reject(
    memory: Memory, key: Key, rejection: Rejection, pod: Pod | None, now: Instant, backoff: Backoff
) -> tuple[Memory, tuple[Note, ...]]:
    """The memory in which the decided pod is back in the queue, and the Event with the reason.
    `pod`: as the view shows it."""
    decision = memory.decisions[key]
    message = rejection.reason
    if not rejection.is_error:
        refusal = Refusal("", (rejection.reason,), resolvable=False)
        message = explain({refusal: 1}, 1, "")
    waiting = evolve(
        decision.waiting, message=message, blocked="", release=(), is_error=rejection.is_error,
        seen=None,
    )  # fmt: skip
    memory = memory.settle(key)
    memory = memory.with_queue(memory.queue.park((waiting,), now, backoff))
    if pod is None or message == decision.waiting.message:
        return memory, ()
    words = note(pod, decision.pod, "FailedScheduling", message, "Scheduling", type="Warning")
    return memory, (words,)
