"""The machine that enforces the network policies of one node. Rules POLICY-1, POLICY-12, POLICY-15
(spec/network_policy.md).

A fold keeps what is enforced (`policy_state.py`), so a change costs the work that depends on it.
One reconciler gives the set to the node's adapter when it has changed. Pods and namespaces are
watched only after the first policy exists: a cluster without policies costs one watch.
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.core.api.networking_v1 import NetworkPolicy
from refk8s.core.api.resources import NAMESPACES, NETWORK_POLICIES, PODS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import SECOND, Instant
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Fold, View
from refk8s.core.network.policies import PEERS_MAX
from refk8s.core.network.policy_state import PolicyState, apply
from refk8s.core.ports import PolicySet
from refk8s.core.value import Value, evolve, field

USER = service_account_user("kube-system", "network-policy")
ALL = "all"
STATE = "policies"
# the adapter gets the set again after this time: other programs may have changed the host
REFRESH: Instant = 300 * SECOND
NOTES_MAX = 25
"""Policies that get an Event if a node cannot enforce them."""


class Memory(Value, frozen=True, eq=False):
    """The set that the adapter got last, when, and the problems that were reported."""

    handed: PolicySet | None = None
    handed_at: Instant = 0
    reported: str = ""
    too_large: Map[Key, None] = field(default_factory=Map)  # policies with an Event about that


def _all(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    return (ALL,)


class EnforcePolicies(Reconciler):
    """Gives the policy set to the adapter. Changes during that time are in the next set."""

    name = "enforce-policies"
    user = USER
    initial_keys = (ALL,)
    interests = (
        Interest(NETWORK_POLICIES, _all),
        Interest(NAMESPACES, _all, while_any=NETWORK_POLICIES),
        Interest(PODS, _all, while_any=NETWORK_POLICIES),
    )

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        resources = (NETWORK_POLICIES, NAMESPACES, PODS)
        self.folds = (Fold(STATE, resources, PolicyState(node_name), apply),)

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        state: PolicyState = view.fold(STATE)
        enforced = state.enforced

        # Decide
        failure = str(local.failure.body) if local.failure is not None else ""
        is_new = bool(failure) and failure != memory.reported
        notes = self._notes(view, failure) if is_new else ()
        if state.too_large is not memory.too_large:
            notes += _notes_of_size(view, [k for k in state.too_large if k not in memory.too_large])
        is_due = now >= memory.handed_at + REFRESH
        if memory.handed is enforced and not local.failures and not is_due:
            memory = evolve(memory, too_large=state.too_large)
            return Plan(wake_at=memory.handed_at + REFRESH, memory=memory, notes=notes)

        # Report
        return Plan(
            rules=enforced,
            memory=Memory(enforced, now, failure, state.too_large),
            wake_at=now + REFRESH,
            notes=notes,
        )

    def _notes(self, view: View, failure: str) -> tuple[Note, ...]:
        """POLICY-12: an Event about each policy."""
        policies: list[NetworkPolicy] = view.list(NETWORK_POLICIES)
        message = f"node {self.node_name} does not enforce this policy: {failure}"
        return tuple(
            Note(policy, "NotEnforced", message, "Warning") for policy in policies[:NOTES_MAX]
        )


def _notes_of_size(view: View, keys: list[Key]) -> tuple[Note, ...]:
    """POLICY-14: an Event about each policy that is too large."""
    message = f"it has more than {PEERS_MAX} peers, so it allows nothing"
    policies = [view.get(NETWORK_POLICIES, key) for key in sorted(keys)[:NOTES_MAX]]
    return tuple(Note(policy, "TooManyPeers", message, "Warning") for policy in policies if policy)


def network_policy(node_name: str) -> Loop:
    """The machine of one node's policies; its name is "network-policy/NODE"."""
    return Loop(
        f"network-policy/{node_name}",
        (EnforcePolicies(node_name),),
        component="network-policy",
        host=node_name,
        user=USER,
    )
