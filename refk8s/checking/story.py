"""Describes a run as text: each write with its author and reason, each fault, each broken rule.

Rule SIM-10 (spec/simulation.md).

    12.304 s  replicaset controller creates Pod default/web-x, because 1 of 3 pods is missing  [revision 61, read Pods 54 of 60]

The controller decided when its view was at revision 54. The API server committed the write when the
newest change of a Pod was revision 60, so the controller had not seen the changes between them.
A line without numbers means that the view was current. Every line is computed from the states
before and after an action.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import refk8s
from refk8s.checking.simulator.ready import Ready
from refk8s.checking.simulator.script import Entry, Fairly, Order
from refk8s.components.story import Names, operation_sentence, rules_sentence, sentence, short_name
from refk8s.core import actions
from refk8s.core.actions import Action, Channel
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, Resource
from refk8s.core.cluster.enabled import is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.state import LoopState
from refk8s.core.ports import RemovePodSandbox, RunPodSandbox, SandboxConfig
from refk8s.core.properties.law import Broken
from refk8s.core.store import Committed, Record

SPEC = Path(refk8s.__file__).resolve().parent.parent / "spec"

_COMPONENTS = {
    "kube-controller-manager": "the controller manager",
    "kube-scheduler": "the scheduler",
}


Take: TypeAlias = Callable[[Cluster, Action], Cluster]


def story_of(
    first: Cluster, script: Iterable[Entry], broken: Sequence[Broken] = (), take: Take = step
) -> list[str]:
    """The story of these entries on this cluster, one line each, and the broken rules at its end.

    An entry that is not enabled has no line.
    """
    story = Story(first)
    cluster, ready = first, Ready(first)
    for entry in script:
        order, count = (Order(), entry.count) if isinstance(entry, Fairly) else (None, 1)
        for _ in range(count):
            action = order.next_action(cluster, ready) if order is not None else entry
            if action is None or not is_enabled(cluster, action):  # type: ignore[arg-type]
                break
            before = cluster
            try:
                cluster = take(before, action)  # type: ignore[arg-type]
            except Exception as error:
                story.add(before.now, f"!! {error_words(error)}, when {describe(before, action)}")  # type: ignore[arg-type]
                break
            ready.took(before, action, cluster)  # type: ignore[arg-type]
            story.add_step(before, action, cluster)  # type: ignore[arg-type]
    return [*story.lines, *ending(broken)]


def ending(broken: Sequence[Broken]) -> list[str]:
    """The rules that broke, each once: its statement and how it broke."""
    lines: list[str] = []
    for rule in dict.fromkeys(one.rule for one in broken):
        lines.append(f"{rule} is broken.")
        lines += [
            f"    {one.words.removeprefix(rule + ': ')}" for one in broken if one.rule == rule
        ][:FINDINGS_MAX]
        lines += [f"    | {line}" for line in statement(rule)]
    return lines


FINDINGS_MAX = 5


@cache
def titles() -> Mapping[str, str]:
    """The title of every rule of spec/, without its kind; empty if the pages are not installed."""
    pages = sorted(SPEC.rglob("*.md")) if SPEC.is_dir() else ()
    return {rule: title for page in pages for rule, title in _TITLE.findall(page.read_text())}


_TITLE = re.compile(r"^### ([A-Z]{2,12}-\d+) (?:\(\w+\) )?(.+)$", re.M)


def statement(rule: str) -> list[str]:
    """The rule in spec/: its page, title and first paragraph; empty without the pages."""
    heading = f"### {rule} "
    for page in sorted(SPEC.rglob("*.md")) if SPEC.is_dir() else ():
        lines = page.read_text().splitlines()
        for number, line in enumerate(lines):
            if line.startswith(heading):
                paragraph = []
                for following in lines[number + 2 :]:
                    if not following or following.startswith(("#", "Source:", "Example:")):
                        break
                    paragraph.append(following)
                return [f"spec/{page.relative_to(SPEC)}: {line.removeprefix('### ')}", *paragraph]
    return []


class Story:
    """The lines of text for the steps of a run."""

    def __init__(self, first: Cluster) -> None:
        self.lines: list[str] = []
        self._start = first.now
        self._names = Names()
        self._last = ""
        self._decided: dict[Channel, Cluster] = {}  # a request -> the state in which it was sent
        for name in sorted(first.worlds):
            for uid in sorted(getattr(first.worlds[name], "pods", ())):
                for sandbox in first.worlds[name].pods[uid].sandboxes:
                    self._names.record(
                        RunPodSandbox(SandboxConfig(uid, sandbox.namespace, sandbox.name))
                    )
        for channel in sorted(first.flying):
            self._decided[channel] = first

    def add(self, now: Instant, words: str | None) -> None:
        """Add a line, unless it is equal to the last one."""
        if words and words != self._last:
            self._last = words
            self.lines.append(f"{(now - self._start) / SECOND:9.3f} s  {words}")

    def add_step(self, before: Cluster, action: Action, after: Cluster) -> None:
        """Add the lines of one step."""
        if after.flying is not before.flying:
            for channel in after.flying:
                if channel not in before.flying:
                    self._decided[channel] = after
        match action:
            case actions.Arrive(channel) | actions.Duplicate(channel):
                self._arrived(before, channel, after, isinstance(action, actions.Duplicate))
            case actions.Submit(request):
                committed = after.last_commit
                self.add(
                    after.now,
                    sentence(request, committed)
                    if committed is not None
                    else f"{_request_words(request)} changes nothing",
                )
            case actions.Operate(channel):
                self._operated(before, channel, after)
            case actions.Notify(channel):
                if channel in before.watches and channel not in after.watches:
                    what = _kinds(before.watches[channel].stream.resource)
                    self.add(
                        after.now,
                        f"the watch of {component(channel[0])} on {what} ends, "
                        "because its changes are compacted (410)",
                    )
            case actions.Answer(channel):
                self._decided.pop(channel, None)
            case actions.Elapse() | actions.Wake():
                pass
            case actions.CatchUp(server) if before.caches[server].until == 0:
                pass  # after each write of another server
            case _:
                self.add(after.now, describe(before, action))
        self._changed(before, after)

    def _arrived(self, before: Cluster, channel: Channel, after: Cluster, is_surplus: bool) -> None:
        flying = before.flying[channel]
        request = flying.request
        if flying.watch:
            return
        again = " (a second time)" if is_surplus else ""
        if after.last_commit is not None:
            words = sentence(request, after.last_commit) or _node_sentence(
                request, after.last_commit
            )
            if words is not None:
                read = self._read(channel, request, before)
                self.add(after.now, f"{words.removesuffix(']')}{read}]{again}")
            return
        answer = after.flying[channel].answer if channel in after.flying else None
        if answer is not None and not answer.ok and request.verb not in ("list", "watch"):
            reason = getattr(answer.body, "reason", "") or ""
            self.add(
                after.now,
                f"{_request_words(request)} is refused: {answer.code} {reason}{again}".rstrip(),
            )

    def _read(self, channel: Channel, request: Request, now: Cluster) -> str:
        """The resources that changed after the state on which the request was decided."""
        then = self._decided.get(channel)
        if then is None or channel[0] not in then.components:
            return ""
        component = then.components[channel[0]]
        if component.life != channel[1] or not isinstance(component.state, LoopState):
            return ""
        machine = now.machines[channel[0]]
        mine = {
            interest.resource.prefix
            for r in _reconcilers(machine)
            if _is_sender(machine, r, request)
            for interest in r.interests
        }
        found = []
        for prefix, table in component.state.view.tables.items():
            newest = now.history.prefix_revision(prefix)
            if prefix in mine and newest > table.revision and table.synced:
                found.append(
                    f"{_kinds(component.state.informers[prefix].resource)} "
                    f"{table.revision} of {newest}"
                )
        return f", read {', '.join(sorted(found))}" if found else ""

    def _operated(self, before: Cluster, channel: Channel, after: Cluster) -> None:
        operation = before.operations[channel].operation
        node = channel[0].rpartition("/")[2]
        self._names.record(operation)
        words = operation_sentence(node, operation, self._names)
        if words is None:
            return
        if channel in after.operations:
            self.add(
                after.now,
                f"{words}: it takes {_seconds(after.operations[channel].due - after.now)}",
            )
            return
        late = (
            ", requested by an earlier instance of the kubelet"
            if before.components[channel[0]].life != channel[1]
            else ""
        )
        self.add(after.now, words + late)
        if isinstance(operation, RemovePodSandbox):
            self._names.forget(operation.pod_uid)

    def _changed(self, before: Cluster, after: Cluster) -> None:
        if after.rules is not before.rules:
            for name in sorted(after.rules):
                if after.rules[name] is not before.rules.get(name):
                    self.add(after.now, rules_sentence(name.rpartition("/")[2], after.rules[name]))
        if after.worlds is not before.worlds:
            for name in sorted(after.worlds):
                was, is_ = before.worlds[name], after.worlds[name]
                if was is not is_ and hasattr(is_, "running"):
                    ran = {status.id: status for status in was.running()}
                    for id in sorted(set(ran) - {status.id for status in is_.running()}):
                        fake = is_.containers.get(id)
                        code = f" with code {fake.status.exit_code}" if fake is not None else ""
                        pod = self._names.pod(ran[id].pod_uid)
                        self.add(
                            after.now,
                            f"container {ran[id].name} of pod {pod} on {name.rpartition('/')[2]} "
                            f"has exited{code}",
                        )


# --- words ----------------------------------------------------------------------------------------


def component(machine: str) -> str:
    """The name of a machine in the story."""
    kind, slash, node = machine.partition("/")
    return f"the {kind} of {node}" if slash else _COMPONENTS.get(machine, machine)


def describe(cluster: Cluster, action: Action) -> str:
    """A fault, or another action without a write, in words; `cluster` is the state before it."""
    match action:
        case actions.Crash(name):
            return f"-- {component(name)} crashes and restarts"
        case actions.Stop(name, until):
            return f"-- {component(name)} stops for {_seconds(until - cluster.now)}"
        case actions.Start(name):
            return f"-- {component(name)} starts again"
        case actions.Suspend(name, until):
            return f"-- {component(name)} is suspended for {_seconds(until - cluster.now)}"
        case actions.Resume(name):
            return f"-- {component(name)} goes on"
        case actions.CutWatch(channel):
            return f"-- the watch of {component(channel[0])} on {_watched(cluster, channel)} is cut"
        case actions.LoseRequest(channel):
            return f"-- the request is lost: {_of(cluster, channel)}"
        case actions.LoseAnswer(channel):
            return f"-- the response is lost: {_of(cluster, channel)}"
        case actions.GiveUp(channel):
            return (
                "-- the client times out, and the request may still arrive: "
                f"{_of(cluster, channel)}"
            )
        case actions.Duplicate(channel):
            return f"-- the request arrives twice: {_of(cluster, channel)}"
        case actions.Refuse(channel, code):
            return f"-- the store is not available ({code}): {_of(cluster, channel)}"
        case actions.Delay(channel, until):
            what = (
                f"the watch on {_watched(cluster, channel)}"
                if channel in cluster.watches
                else _of(cluster, channel)
            )
            return (
                f"-- delayed for {_seconds(until - cluster.now)}: {what} ({component(channel[0])})"
            )
        case actions.Partition(name, until):
            return (
                f"-- {component(name)} is partitioned from the API server for "
                f"{_seconds(until - cluster.now)}"
            )
        case actions.RestartServer():
            return "-- every API server restarts, and every connection breaks"
        case actions.StopServer(server, until):
            return f"-- API server {server} stops for {_seconds(until - cluster.now)}"
        case actions.StartServer(server):
            return f"-- API server {server} starts again"
        case actions.CutOff(server, until):
            return (
                f"-- API server {server} cannot reach the store for {_seconds(until - cluster.now)}"
            )
        case actions.Stale(server, until):
            return (
                f"-- the memory of API server {server} is not updated for "
                f"{_seconds(until - cluster.now)}"
            )
        case actions.CatchUp(server):
            return f"-- the memory of API server {server} is current again"
        case actions.Switch(name, server):
            return f"-- {component(name)} connects to API server {server}"
        case actions.Skew(name, by):
            return (
                f"-- the clock of {component(name)} is set {_seconds(abs(by))} "
                f"{'ahead' if by >= 0 else 'behind'}"
            )
        case actions.Compact(revision):
            return f"-- the store discards all changes up to revision {revision}"
        case actions.Disturb(name, what, which):
            which = (
                f" ({which})"
                if which and not which.isdigit()
                else f" (now {which} s)"
                if "slow" in what
                else ""
            )
            return f"-- on {name.rpartition('/')[2]}: {what}{which}"
        case actions.Operate(channel):
            return (
                f"{component(channel[0])} gets the result of "
                f"{type(cluster.operations[channel].operation).__name__}"
            )
        case actions.Answer(channel):
            return f"{component(channel[0])} gets the response to {_of(cluster, channel)}"
        case actions.Notify(channel):
            return f"{component(channel[0])} gets changes of {_watched(cluster, channel)}"
        case actions.Wake(name):
            return f"the timer of {component(name)} expires"
        case _:
            return str(action)


def _node_sentence(request: Request, committed: Committed[Any]) -> str | None:
    """A node status that changes whether the node is ready; all others are heartbeats."""
    if request.resource != NODES or request.subresource != "status":
        return None
    for change in committed.changes:
        was, is_ = (_readiness(record) for record in (change.previous, change.record))
        if was != is_:
            because = f", because {request.because}" if request.because else ""
            name = request.name
            return (
                f"{_user_words(request.user.name)} reports Node {name} as Ready: "
                f"{is_}{because}  [revision {committed.revision}]"
            )
    return None


def _readiness(record: Record[Any] | None) -> str:
    conditions = (
        record.value.status.conditions or ()
        if record is not None and record.value.status is not None
        else ()
    )
    return next(
        (condition.status for condition in conditions if condition.type == "Ready"), "no condition"
    )


def error_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _seconds(span: Instant) -> str:
    return f"{span / SECOND:.3f} s" if span < SECOND else f"{span / SECOND:.1f} s"


def _request_words(request: Request) -> str:
    name = (
        f"{request.namespace}/{request.name}"
        if request.namespace and request.name
        else request.name
    )
    what = f"{request.resource.kind} {name}" if name else _kinds(request.resource)
    part = f" ({request.subresource})" if request.subresource else ""
    return f"{request.verb} of {what}{part} by {_user_words(request.user.name)}"


def _user_words(user: str) -> str:
    return component(user) if user in _COMPONENTS or "/" in user else short_name(user)


def _kinds(resource: Resource) -> str:
    """The plural of a kind: Pods, StorageClasses, NetworkPolicies, Endpoints."""
    return (
        resource.kind + resource.plural[len(resource.kind) :]
        if not resource.kind.endswith("y")
        else f"{resource.kind[:-1]}ies"
    )


def _of(cluster: Cluster, channel: Channel) -> str:
    if channel in cluster.flying:
        flying = cluster.flying[channel]
        return (
            f"watch of {_kinds(flying.request.resource)} by {component(channel[0])}"
            if flying.watch
            else _request_words(flying.request)
        )
    if channel in cluster.operations:
        return (
            f"operation {type(cluster.operations[channel].operation).__name__} of "
            f"{component(channel[0])}"
        )
    return str(channel)


def _watched(cluster: Cluster, channel: Channel) -> str:
    return (
        _kinds(cluster.watches[channel].stream.resource)
        if channel in cluster.watches
        else "something"
    )


def _reconcilers(machine: Any) -> list[Any]:
    return list(getattr(machine, "reconcilers", {}).values())


def _is_sender(machine: Any, reconciler: Any, request: Request) -> bool:
    return bool(machine.users[reconciler.name].name == request.user.name)
