"""What the scheduler would decide about one pod now: for each node which plugins reject it, or the
points of each plugin. Rules EXPLAIN-1, EXPLAIN-2, EXPLAIN-6 (spec/explain.md).

The filters, scores and victims are those of the scheduler (`core/scheduler/`), evaluated on the
view of a scheduler that starts now.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition
from refk8s.core.api.core_v1 import Pod, PodCondition
from refk8s.core.api.resources import NAMESPACES, POD_DISRUPTION_BUDGETS, PODS
from refk8s.core.context import SECOND
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import View
from refk8s.core.pods.status import is_finished
from refk8s.core.scheduler import scores
from refk8s.core.scheduler.budgets import budgets_of
from refk8s.core.scheduler.claimed import PLUGIN, Claimed, claimed_by
from refk8s.core.scheduler.cycle import TRUTH
from refk8s.core.scheduler.extenders import Extender
from refk8s.core.scheduler.needs import DEFAULT_SCHEDULER
from refk8s.core.scheduler.nominated import Nominated, Nomination
from refk8s.core.scheduler.permit import answer_of
from refk8s.core.scheduler.placement import (
    Survey,
    plugin_points,
    sizes_of,
    survey,
)
from refk8s.core.scheduler.plugin import WAIT_MAX, Denied, PermitPlugin, refusal_of
from refk8s.core.scheduler.preempt import (
    Eviction,
    Started,
    evictions,
)
from refk8s.core.scheduler.profile import Profile
from refk8s.core.scheduler.reasons import (
    NEVER_PREEMPTS,
    Refusal,
    explain,
    explain_block,
    histogram,
)
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo, Snapshot, info_of, node_taken
from refk8s.core.scheduler.spreading import Groups
from refk8s.core.scheduler.writes import started_of
from refk8s.core.value import Value

PENDING, BOUND, GATED, FINISHED, FOREIGN = "pending", "bound", "gated", "finished", "foreign"
PRIORITY_MIN = -(2**31)


class Points(Value, frozen=True):
    """The points of one plugin for a node, and the weight of the plugin."""

    plugin: str
    points: int
    weight: int


class NodeAccount(Value, frozen=True):
    """One node: the plugins that reject it, the first of which is the reason; or its points."""

    name: str
    refusals: tuple[Refusal, ...] = ()
    points: tuple[Points, ...] = ()
    total: int = 0
    pods: int = 0


class Permission(Value, frozen=True):
    """What a plugin says about binding the pod to its node (EXPLAIN-6): approve, deny or wait,
    why, and for how long at most."""

    plugin: str
    answer: str
    reason: str = ""
    timeout_seconds: int = 0


class Candidate(Value, frozen=True):
    """A node where the deletion of pods would help: the victims (key and priority), the most
    important first, and how many of them a budget protects."""

    node: str
    victims: tuple[tuple[Key, int], ...]
    violations: int


class PodAccount(Value, frozen=True):
    """What the scheduler would decide about a pod now."""

    pod: Key
    state: str
    scheduler_name: str
    priority: int
    node: str = ""  # of a pod that has one
    gates: tuple[str, ...] = ()
    condition: str = ""  # the message of its condition PodScheduled
    blocked: str = ""  # why its claims keep it from every node
    nodes: tuple[NodeAccount, ...] = ()  # the best first, then those that reject it, by name
    message: str = ""  # that of FailedScheduling; empty if a node can run it
    candidates: tuple[Candidate, ...] = ()  # of preemption, the best first
    preemption: str = ""  # why there are none
    permissions: tuple[Permission, ...] = ()  # for the best node
    is_reserved: bool = False  # whether the pod is nominated for the best node
    extenders: tuple[str, ...] = ()  # those that a scheduler would ask, by their URLs

    @property
    def best(self) -> str:
        """The node that would be chosen; empty without one."""
        first = self.nodes[0] if self.nodes else None
        return first.name if first is not None and not first.refusals else ""


def explain_pod(
    view: View,
    key: Key,
    profiles: Mapping[str, Profile],
    extenders: Sequence[Extender] = (),
) -> PodAccount | None:
    """EXPLAIN-1: the account of the pod with this key; None without the pod. `view`: of a
    scheduler; `profiles`: its profiles by name. Its extenders are named, not asked (EXPLAIN-5).
    O(nodes · plugins + pods)."""
    pod: Pod | None = view.get(PODS, key)
    if pod is None:
        return None
    info = Groups().of(view, info_of(pod))
    account = PodAccount(
        key,
        _state(pod, profiles),
        pod.spec.scheduler_name or DEFAULT_SCHEDULER,
        info.priority,
        node_taken(pod),
        tuple([gate.name for gate in pod.spec.scheduling_gates or ()]),
        _condition(pod),
        extenders=tuple([one.url for one in extenders if one.is_interested(pod)]),
    )
    profile = profiles.get(account.scheduler_name)
    if profile is None or account.state == FINISHED:
        return account
    if info.needs.extended:
        from refk8s.core.scheduler.extended_devices import with_backed

        info = with_backed(view, info, profile)
    around = _without(view.fold(TRUTH), info, account.node)
    around = Nominated(around, _nominations(view)).around(info)
    claimed = claimed_by(view, info, profile, around)
    if claimed.blocked:
        message = explain_block(
            claimed.blocked, len(around.nodes), is_about_devices=claimed.is_about_devices
        )
        return replace(account, blocked=claimed.blocked, message=message)
    return _decide(account, pod, info, profile, around, claimed, view)


def _state(pod: Pod, profiles: Mapping[str, Profile]) -> str:
    if is_finished(pod):
        return FINISHED
    if pod.spec.node_name:
        return BOUND
    if (pod.spec.scheduler_name or DEFAULT_SCHEDULER) not in profiles:
        return FOREIGN
    return GATED if pod.spec.scheduling_gates else PENDING


def _condition(pod: Pod) -> str:
    conditions = pod.status.conditions if pod.status is not None else None
    found: PodCondition | None = get_condition(conditions, "PodScheduled")
    return (found.message or "") if found is not None else ""


def _without(snapshot: Snapshot, pod: PodInfo, node: str) -> Snapshot:
    """The snapshot without the pod, if it is on that node."""
    load = snapshot.load(node)
    return snapshot.with_load(node, load.minus(pod)) if pod.uid in load.pods else snapshot


def _nominations(view: View) -> dict[Key, Nomination]:
    """The nominations that a scheduler reads from the pods when it starts (SCHED-37)."""
    found: dict[Key, Nomination] = {}
    for key in view.keys(PODS):
        pod = view.get(PODS, key)
        assert pod is not None
        node = (pod.status.nominated_node_name or "") if pod.status is not None else ""
        if node and not pod.spec.node_name and not is_finished(pod):
            found[key] = Nomination(info_of(pod), node)
    return found


def _decide(
    account: PodAccount,
    pod: Pod,
    info: PodInfo,
    profile: Profile,
    around: Snapshot,
    claimed: Claimed,
    view: View,
) -> PodAccount:
    """The account with all nodes, the message, and the candidates of preemption."""
    namespaces = view.table(NAMESPACES).objects
    found = survey(info, around, namespaces, profile=profile, claimed=claimed)
    nodes = _ranked(info, profile, around, found, claimed) + tuple(
        [
            NodeAccount(name, _refusals(info, profile, around, found, claimed, name))
            for name in sorted(around.nodes)
            if name not in found.offers
        ]
    )
    account = replace(account, nodes=nodes)
    if found.offers and account.state == PENDING and profile.plugins.permit:
        return _permitted(account, pod, info, profile, view)
    if found.offers or account.state == BOUND:
        return account
    refusing = {one.name: one.refusals[0] for one in nodes}
    pods = view.table(PODS).objects
    started: Started = lambda other: started_of(pods, other)  # noqa: E731
    budgets = budgets_of(view.table(POD_DISRUPTION_BUDGETS).objects.values())
    tried = list(
        evictions(info, refusing.items(), around, namespaces, started, budgets, profile, claimed)
        if profile.has_preemption and pod.spec.preemption_policy != "Never"
        else ()
    )
    helpful = sorted([one for one in tried if isinstance(one, Eviction)], key=lambda one: one.rank)
    reason = _why_no_victims(pod, profile, tried, len(nodes))
    return replace(
        account,
        message=explain(found.refusals, len(nodes), "" if helpful else reason, claimed.outcome),
        candidates=tuple([_candidate(one) for one in helpful]),
        preemption="" if helpful else reason,
    )


def _permitted(
    account: PodAccount, pod: Pod, info: PodInfo, profile: Profile, view: View
) -> PodAccount:
    """EXPLAIN-6: the account with what the plugins say about the node of the pod: the one for which
    it is nominated if that can run it, else the best."""
    nominations = _nominations(view)
    mine = nominations.get(account.pod)
    able = [one for one in account.nodes if not one.refusals]
    chosen = next((one for one in able if mine is not None and one.name == mine.node), able[0])
    is_reserved = mine is not None and chosen.name == mine.node
    nominations[account.pod] = Nomination(info, chosen.name)
    snapshot = Nominated(view.fold(TRUTH), nominations).base(PRIORITY_MIN)
    node = snapshot.nodes[chosen.name]
    permissions = tuple([_permission(one, info, node, snapshot) for one in profile.plugins.permit])
    others = tuple([one for one in account.nodes if one is not chosen])
    return replace(
        account, nodes=(chosen, *others), permissions=permissions, is_reserved=is_reserved
    )


def _permission(
    plugin: PermitPlugin, pod: PodInfo, node: NodeFacts, snapshot: Snapshot
) -> Permission:
    try:
        answer = answer_of(plugin, pod, node, snapshot)
    except Exception as error:  # of another package
        return Permission(plugin.name, "fail", str(error))
    if answer is None:
        return Permission(plugin.name, "approve")
    if isinstance(answer, Denied):
        return Permission(plugin.name, "deny", answer.reason)
    return Permission(
        plugin.name, "wait", answer.reason, max(0, min(answer.timeout, WAIT_MAX)) // SECOND
    )


def _why_no_victims(
    pod: Pod, profile: Profile, tried: Sequence[Eviction | tuple[str, ...]], nodes: int
) -> str:
    if not profile.has_preemption or not nodes:
        return ""
    if pod.spec.preemption_policy == "Never":
        return NEVER_PREEMPTS
    counts: dict[str, int] = {}
    for messages in tried:
        for message in messages if isinstance(messages, tuple) else ():
            counts[message] = counts.get(message, 0) + 1
    return histogram(counts, nodes)


def _candidate(eviction: Eviction) -> Candidate:
    victims = [(f"{one.namespace}/{one.name}", one.priority) for one in eviction.victims]
    return Candidate(eviction.node, tuple(victims), eviction.violations)


def _refusals(
    pod: PodInfo,
    profile: Profile,
    around: Snapshot,
    found: Survey,
    claimed: Claimed,
    name: str,
) -> tuple[Refusal, ...]:
    """The refusals of all plugins for one node, in the order in which they are evaluated."""
    facts, load = around.nodes[name], around.load(name)
    refusals: list[Refusal | None] = []
    refusals += [check(pod.needs, facts) for _, check in profile.by_node]
    refusals += [check(pod.needs, facts, load) for _, check in profile.by_load]
    if claimed.volumes is not None:
        refusals += [check(claimed.volumes, facts, load) for _, check in claimed.volumes.checks]
    if found.relations is not None:
        refusals += [check(found.relations, facts) for _, check in profile.related]
    refusals += [refusal_of(plugin, pod, facts, load) for plugin in profile.plugins.filter]
    refusals.append(claimed.late(name))
    by_plugin: dict[str, Refusal] = {}
    for refusal in refusals:
        if refusal is not None:
            by_plugin.setdefault(refusal.plugin, refusal)
    return tuple(by_plugin.values())


def _ranked(
    pod: PodInfo, profile: Profile, around: Snapshot, found: Survey, claimed: Claimed
) -> tuple[NodeAccount, ...]:
    """The nodes that can run the pod, the best first (SCHED-16), with the points of each plugin."""
    if not found.offers:
        return ()
    points: dict[str, list[Points]] = {name: [] for name in found.offers}
    for plugin, weight, local in profile.local:
        for name in found.offers:
            much = local(pod.needs, around.nodes[name], around.load(name))
            points[name].append(Points(plugin, much, weight))
    sizes = sizes_of(found.offers)
    for plugin, weight, of_kind in scores.relative_scores(profile.weights, sizes, found.crowd):
        for name, offer in found.offers.items():
            points[name].append(Points(plugin, of_kind[offer.raw], weight))
    if found.relations is not None:
        nodes = {name: around.nodes[name] for name in found.offers}
        related = scores.related_scores(profile.weights, found.relations, nodes)
        for plugin, weight, of_node in related:
            for name in found.offers:
                points[name].append(Points(plugin, of_node[name], weight))
    for one in profile.plugins.score:
        if own_weight := profile.weights.get(one.name):
            for name, much in plugin_points(one, pod, around, found).items():
                points[name].append(Points(one.name, much, own_weight))
    if own_weight := profile.weights.get(PLUGIN):
        for name, much in claimed.points(found.offers).items():
            points[name].append(Points(PLUGIN, much, own_weight))
    accounts = [
        _account(name, points[name], profile, found.offers[name].pods) for name in found.offers
    ]
    return tuple(sorted(accounts, key=lambda one: (-one.total, one.pods, one.name)))


def _account(name: str, points: Sequence[Points], profile: Profile, pods: int) -> NodeAccount:
    """The node with one entry for each plugin that scores: a plugin may give points for two
    reasons, of which at most one applies to a pod."""
    sums = dict.fromkeys(profile.weights, 0)
    for one in points:
        sums[one.plugin] += one.points
    entries = [Points(plugin, sums[plugin], profile.weights[plugin]) for plugin in sums]
    total = sum([one.points * one.weight for one in entries])
    return NodeAccount(name, (), tuple(entries), total, pods)


def tree_of(account: PodAccount) -> dict[str, Any]:
    """The account as a JSON tree."""
    return {
        "pod": account.pod,
        "state": account.state,
        "schedulerName": account.scheduler_name,
        "priority": account.priority,
        "node": account.node,
        "schedulingGates": list(account.gates),
        "condition": account.condition,
        "best": account.best,
        "message": account.message,
        "reserved": account.is_reserved,
        "permit": [
            {
                "plugin": one.plugin,
                "answer": one.answer,
                "reason": one.reason,
                "timeoutSeconds": one.timeout_seconds,
            }
            for one in account.permissions
        ],
        "extenders": [{"url": url, "asked": False} for url in account.extenders],
        "nodes": [_node_tree(one) for one in account.nodes],
        "preemption": {
            "message": account.preemption,
            "candidates": [
                {
                    "node": one.node,
                    "victims": [{"pod": key, "priority": much} for key, much in one.victims],
                    "violatedBudgets": one.violations,
                }
                for one in account.candidates
            ],
        },
    }


def _node_tree(node: NodeAccount) -> dict[str, Any]:
    return {
        "name": node.name,
        "filters": [
            {
                "plugin": one.plugin,
                "messages": list(one.messages),
                "preemptionMayHelp": one.resolvable,
            }
            for one in node.refusals
        ],
        "scores": [
            {
                "plugin": one.plugin,
                "score": one.points,
                "weight": one.weight,
                "weighted": one.points * one.weight,
            }
            for one in node.points
        ],
        "total": node.total if not node.refusals else None,
    }
