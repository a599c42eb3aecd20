"""The policies of one node, kept current change by change. Rules POLICY-1 to POLICY-7
(spec/network_policy.md).

The state is a fold over pods, namespaces and policies: `apply` takes one change. It keeps
`PolicySet`, which is what the adapter enforces.

| change | work |
|---|---|
| of a pod of the node | the policies of its namespace, and the pods in peers that become used |
| of another pod | the peers that are used on this node |
| of a namespace's labels | its pods, as above |
| of a policy | the pods of the node that it selects, as above |

A peer is used while a rule of an isolated pod of this node refers to it. So a node with few pods
keeps few peers, whatever the number of policies.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from immutables import Map

from refk8s.core.api.resources import NAMESPACES, NETWORK_POLICIES, PODS, Resource
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import key_of
from refk8s.core.network.policies import (
    CompiledPolicy,
    Peer,
    PodFacts,
    allowances,
    compile_policy,
    facts_of,
)
from refk8s.core.ports import Allowances, Entry, LocalPod, Member, PolicySet
from refk8s.core.value import Value, evolve, field

Labels = Mapping[str, str]


class Used(Value, frozen=True):
    """A peer, and how many pods of the node refer to it."""

    peer: Peer
    count: int


class PolicyState(Value, frozen=True, eq=False):
    """Everything that policies depend on. The outer keys are namespaces."""

    node_name: str
    namespaces: Map[str, Labels] = field(default_factory=Map)
    pods: Map[str, Map[Key, PodFacts]] = field(default_factory=Map)
    policies: Map[str, Map[Key, CompiledPolicy]] = field(default_factory=Map)
    # peers of pods, by the namespace of which they have pods ("": of all) and their name
    used: Map[str, Map[str, Used]] = field(default_factory=Map)
    referred: Map[Key, tuple[Peer, ...]] = field(default_factory=Map)  # by pod of the node
    too_large: Map[Key, None] = field(default_factory=Map)  # policies that allow nothing
    enforced: PolicySet = PolicySet()


def apply(state: PolicyState, resource: Resource, old: Any, new: Any) -> PolicyState:
    """The state after one change of a pod, namespace or policy."""
    if resource == PODS:
        return _apply_pod(state, key_of(new if new is not None else old), facts_of(new))
    if resource == NAMESPACES:
        return _apply_namespace(state, old, new)
    assert resource == NETWORK_POLICIES
    return _apply_policy(state, old, new)


# --- changes --------------------------------------------------------------------------------------


def _apply_pod(state: PolicyState, key: Key, facts: PodFacts | None) -> PolicyState:
    namespace = key.partition("/")[0]
    old = state.pods.get(namespace, _NONE).get(key)
    if facts == old:
        return state
    state = evolve(state, pods=_put(state.pods, namespace, key, facts))
    state = _judge(state, key, facts)
    return _join(state, [(key, facts)])


def _apply_namespace(state: PolicyState, old: Any, new: Any) -> PolicyState:
    name = (new if new is not None else old).metadata.name
    before = state.namespaces.get(name)
    labels = None if new is None else new.metadata.labels or {}
    if before == labels:
        return state
    namespaces = (
        state.namespaces.delete(name) if labels is None else state.namespaces.set(name, labels)
    )
    state = evolve(state, namespaces=namespaces)
    if (before or {}) == (labels or {}):
        return state
    return _join(state, sorted(state.pods.get(name, _NONE).items()))


def _apply_policy(state: PolicyState, old: Any, new: Any) -> PolicyState:
    key = key_of(new if new is not None else old)
    namespace = key.partition("/")[0]
    before = state.policies.get(namespace, _NONE).get(key)
    after = None if new is None else compile_policy(new)
    if before == after:
        return state
    state = evolve(state, policies=_put(state.policies, namespace, key, after))
    if after is not None and after.is_too_large:
        state = evolve(state, too_large=state.too_large.set(key, None))
    elif key in state.too_large:
        state = evolve(state, too_large=state.too_large.delete(key))
    active = bool(state.policies)
    if state.enforced.active != active:
        state = evolve(state, enforced=evolve(state.enforced, active=active))
    for pod, facts in sorted(state.pods.get(namespace, _NONE).items()):
        if facts.node_name == state.node_name and (
            (before is not None and before.pods.matches(facts.labels))
            or (after is not None and after.pods.matches(facts.labels))
        ):
            state = _judge(state, pod, facts)
    return state


# --- a pod of this node: what isolates it and what is allowed -------------------------------------


def _judge(state: PolicyState, key: Key, facts: PodFacts | None) -> PolicyState:
    """The rules of one pod, and the peers to which they refer (POLICY-2, POLICY-3)."""
    here = facts if facts is not None and facts.node_name == state.node_name else None
    local, peers = (None, ()) if here is None else _local_pod(state, here)
    known = state.enforced.local.get(key)
    if local != known:
        entries = state.enforced.local
        entries = entries.delete(key) if local is None else entries.set(key, local)
        state = evolve(state, enforced=evolve(state.enforced, local=entries))
    before = state.referred.get(key, ())
    if peers == before:
        return state
    referred = state.referred.set(key, peers) if peers else state.referred.delete(key)
    state = evolve(state, referred=referred)
    for peer in peers:
        state = _count(state, peer, 1)
    for peer in before:
        state = _count(state, peer, -1)
    return state


def _local_pod(state: PolicyState, facts: PodFacts) -> tuple[LocalPod, tuple[Peer, ...]]:
    peers: dict[str, Peer] = {}
    found: list[Allowances | None] = []
    selecting = [
        policy
        for _, policy in sorted(state.policies.get(facts.namespace, _NONE).items())
        if policy.pods.matches(facts.labels)
    ]
    for is_egress in (False, True):
        rules = [policy.egress if is_egress else policy.ingress for policy in selecting]
        isolating = [each for each in rules if each is not None]
        if not isolating:
            found.append(None)
            continue
        mine, allowed = allowances([rule for each in isolating for rule in each], facts, is_egress)
        peers |= mine
        found.append(allowed)
    pod = LocalPod(facts.uid, facts.addresses, found[0], found[1])
    return pod, tuple([peers[name] for name in sorted(peers)])


def _count(state: PolicyState, peer: Peer, step: int) -> PolicyState:
    """Count a pod that refers to a peer; the first one adds its members, the last removes them."""
    name, namespace = peer.name, peer.namespace
    known = state.used.get(namespace, _NONE).get(name)
    count = (known.count if known is not None else 0) + step
    used = _put(state.used, namespace, name, Used(peer, count) if count else None)
    state = evolve(state, used=used)
    if count and known is not None:
        return state
    if not peer.is_of_pods:
        assert peer.block is not None
        blocks = state.enforced.blocks
        blocks = blocks.set(name, peer.block) if count else blocks.delete(name)
        return evolve(state, enforced=evolve(state.enforced, blocks=blocks))
    names = (peer.namespace,) if peer.namespace else sorted(state.pods)
    members = state.enforced.members
    changed: dict[Key, Member | None] = {}
    for each in names:
        labels = state.namespaces.get(each, _NONE)
        for key, facts in state.pods.get(each, _NONE).items():
            mine = {(name, number) for number in peer.numbers(facts, labels)}
            if mine:
                held = members.get(key) or Member(facts.addresses)
                before = {*(held.wide if peer.is_wide else held.entries)}
                after = tuple(sorted(before | mine if count else before - mine))
                held = evolve(held, wide=after) if peer.is_wide else evolve(held, entries=after)
                changed[key] = held
    return _set_members(state, changed)


# --- every pod: the peers to which it belongs -----------------------------------------------------


def _join(state: PolicyState, pods: Iterable[tuple[Key, PodFacts | None]]) -> PolicyState:
    """Compute the memberships of these pods anew (POLICY-4)."""
    changed: dict[Key, Member | None] = {}
    for key, facts in pods:
        changed[key] = None if facts is None else _member(state, facts)
    return _set_members(state, changed)


def _member(state: PolicyState, facts: PodFacts) -> Member:
    """O(peers of pods that are used on this node)."""
    entries: list[Entry] = []
    wide: list[Entry] = []
    labels = state.namespaces.get(facts.namespace, _NONE)
    for scope in ("", facts.namespace):
        for name, used in state.used.get(scope, _NONE).items():
            if used.peer.is_of_pods:
                found = wide if used.peer.is_wide else entries
                found += [(name, number) for number in used.peer.numbers(facts, labels)]
    return Member(facts.addresses, tuple(sorted(entries)), tuple(sorted(wide)))


def _set_members(state: PolicyState, changed: Mapping[Key, Member | None]) -> PolicyState:
    """The state with these members; the same value if they do not differ."""
    members = state.enforced.members
    for key, found in changed.items():
        member = found if found is not None and (found.entries or found.wide) else None
        if members.get(key) != member:
            members = members.delete(key) if member is None else members.set(key, member)
    if members is state.enforced.members:
        return state
    return evolve(state, enforced=evolve(state.enforced, members=members))


_NONE: Map[Any, Any] = Map()


def _put(outer: Map[str, Map[str, Any]], first: str, second: str, value: Any) -> Any:
    """The nested map with this value; None removes it."""
    inner = outer.get(first, _NONE)
    inner = inner.delete(second) if value is None else inner.set(second, value)
    return outer.set(first, inner) if inner else outer.delete(first)
