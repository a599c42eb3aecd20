"""The node agent: it registers the Node, writes its status and renews its Lease. Rules KUBELET-60
... KUBELET-64 (spec/kubelet.md).

It has four keys, so that none waits for another's response: "register", "status", "lease", and
"network", which configures the runtime with the podCIDR of the Node. A Node that is deleted is not
registered again before the kubelet restarts. Source: Kubernetes documentation, "Nodes"
(self-registration, heartbeats), "Leases" (node heartbeats); CRI (UpdateRuntimeConfig).
"""

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Node
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import LEASES, NODES
from refk8s.core.api.user import node_user
from refk8s.core.context import Instant, micro_timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import NodeMemory
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.kubelet.node_status import (
    LEASE_NAMESPACE,
    compute_lease,
    compute_node,
    compute_node_status,
    is_same_but_heartbeats,
    own_labels,
)
from refk8s.core.kubelet.pod_worker import NODE_KEY, STATUS, WORKER, pod_key
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View
from refk8s.core.pods.node import pod_cidrs
from refk8s.core.ports import (
    DescribeNode,
    Failed,
    NodeDescribed,
    Operation,
    Result,
    UpdateRuntimeConfig,
)

AGENT = "node-agent"
BEATS_APART = 40
"""The instants at which a node may have its heartbeat, in the time between two of them."""
REGISTER, NODE_STATUS, LEASE, NETWORK = "register", "status", "lease", "network"


def _keys_of_node(view: View, old: Node | None, new: Node | None) -> tuple[Key, ...]:
    """The keys that a change of the Node concerns. The Lease is not renewed while there is no Node,
    so a new Node also concerns the Lease."""
    keys = (NETWORK, REGISTER, NODE_STATUS)
    return keys if old is not None else (*keys, LEASE)


class NodeAgent(Reconciler):
    """Writes the Node and the Lease of one node."""

    name = AGENT
    memory_name = "kubelet"
    initial_keys = (NODE_STATUS,)

    def __init__(self, node_name: str, config: KubeletConfig) -> None:
        self.user = node_user(node_name)
        self.node_name = node_name
        self.config = config
        self.interests = (
            Interest(
                NODES,
                _keys_of_node,
                field_selector=f"metadata.name={node_name}",
            ),
        )

    def start_memory(self, now: Instant) -> NodeMemory:
        return NodeMemory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        """Register once, then heartbeats."""
        memory: NodeMemory = local.memory
        node = view.get(NODES, self.node_name)
        if key == REGISTER:
            return self._register(node, memory, now)
        if key == LEASE:
            return self._renew(node, memory, now, local)
        if key == NETWORK:
            return self._configure(node, memory, now)
        return self._report(node, memory, now)

    def _register(self, node: Node | None, memory: NodeMemory, now: Instant) -> Plan:
        """KUBELET-60: create the Node, or correct the labels of an existing one."""
        facts = memory.described
        if facts is None:
            return NOTHING
        if node is None:
            if memory.registered:
                return NOTHING
            body = compute_node(self.node_name, self.config, facts, now)
            request = Request(
                "create",
                NODES,
                name=self.node_name,
                body=body,
                because="its machine has no Node yet",
            )
            return Plan(
                waves=((request,),),
                memory=replace(memory, status_at=now),
                enqueue=((WORKER, NODE_KEY),),
            )
        labels = own_labels(self.node_name, facts)
        held = node.metadata.labels or {}
        missing = {name: value for name, value in sorted(labels.items()) if held.get(name) != value}
        notes = () if memory.registered else (Note(node, "Starting", "Starting kubelet."),)
        memory = replace(memory, registered=True)
        others = ((AGENT, LEASE), (AGENT, NODE_STATUS), (WORKER, NODE_KEY))
        if not missing:
            return Plan(memory=memory, notes=notes, enqueue=others if notes else ())
        patch = Patch("application/merge-patch+json", {"metadata": {"labels": missing}})
        request = Request(
            "patch",
            NODES,
            name=self.node_name,
            body=patch,
            because="the labels of its machine are wrong",
        )
        return Plan(
            waves=((request,),), memory=memory, notes=notes, enqueue=others if notes else ()
        )

    def _configure(self, node: Node | None, memory: NodeMemory, now: Instant) -> Plan:
        """KUBELET-64: give the runtime the range of the Node; again after a failure."""
        cidr = ",".join(pod_cidrs(node))
        if not cidr or memory.configuring or cidr == memory.pod_cidr:
            return NOTHING
        due = memory.configured_at + self.config.retry_after
        if memory.network_error and now < due:
            return Plan(wake_at=due)
        memory = replace(memory, configuring=cidr)
        return Plan(runs=(UpdateRuntimeConfig(cidr),), memory=memory)

    def _report(self, node: Node | None, memory: NodeMemory, now: Instant) -> Plan:
        """KUBELET-61, KUBELET-63: write the status if it has changed, or every five minutes.

        Each renewal of the Lease describes the machine too, so that a heartbeat takes one timer
        and one step. It is described here before the first renewal, and while renewals fail.
        """
        is_renewed = memory.renewed_at and not memory.renewal_fails
        wake = None if is_renewed else now + self.config.heartbeat_every
        if self._is_description_due(memory, now):
            return Plan(runs=(DescribeNode(),), memory=_describing(memory, now), wake_at=wake)
        facts = memory.described
        if facts is not None and node_ips(self.config, facts) != memory.host_ips:
            return self._new_addresses(node_ips(self.config, facts), memory, wake)
        if node is None or facts is None or not memory.registered:
            return Plan(wake_at=wake)
        if facts.network_error and memory.configuring:
            return Plan(wake_at=wake)  # a restarted kubelet is about to have the range
        status = compute_node_status(self.config, facts, memory.describe_error, node.status, now)
        if (
            is_same_but_heartbeats(status, node.status)
            and now < memory.status_at + self.config.node_status_every
        ):
            return Plan(wake_at=wake)
        because = (
            "it lives" if is_same_but_heartbeats(status, node.status) else "the machine changed"
        )
        request = Request(
            "update",
            NODES,
            name=self.node_name,
            subresource="status",
            body=replace(node, status=status),
            because=because,
        )
        return Plan(waves=((request,),), memory=replace(memory, status_at=now), wake_at=wake)

    def _new_addresses(
        self, ips: tuple[str, ...], memory: NodeMemory, wake: Instant | None
    ) -> Plan:
        """KUBELET-119: the status of every pod shows the addresses of the node. O(pods).

        After a start no status shows others, as each is computed after the first description.
        """
        pods = sorted([pod_key(pod) for pod in memory.pods.values()]) if memory.host_ips else []
        return Plan(
            memory=replace(memory, host_ips=ips, sent=Map()),
            wake_at=wake,
            enqueue=(*[(STATUS, key) for key in pods], (AGENT, NODE_STATUS)),
        )

    def _is_description_due(self, memory: NodeMemory, now: Instant) -> bool:
        return not memory.describing and now >= self._beat_after(memory.described_at)

    def _beat_after(self, at: Instant) -> Instant:
        """The instant of the next heartbeat, ten seconds later or up to 0.25 s less.

        Nodes have theirs at the same instants, so that the renewals of many simulated nodes become
        one write of the store.
        """
        every = self.config.heartbeat_every
        return (at + every) // (every // BEATS_APART) * (every // BEATS_APART)

    def _renew(self, node: Node | None, memory: NodeMemory, now: Instant, local: Local) -> Plan:
        """KUBELET-62: renew the Lease every ten seconds, and describe the machine (KUBELET-63).

        The Lease is created if it is missing.
        """
        if node is None:
            return NOTHING
        fails = local.failure is not None
        is_news = fails != memory.renewal_fails
        if is_news:
            memory = replace(memory, renewal_fails=fails)
        enqueue = ((AGENT, NODE_STATUS),) if is_news and fails else ()
        due = self._beat_after(memory.renewed_at)
        if now < due and not fails:
            return Plan(wake_at=due, memory=memory if is_news else UNCHANGED)
        runs: tuple[Operation, ...] = ()
        if self._is_description_due(memory, now):
            runs, memory = (DescribeNode(),), _describing(memory, now)
        return Plan(
            waves=((self._renewal(node, memory, now, local.failure),),),
            runs=runs,
            memory=replace(memory, renewed_at=now),
            wake_at=self._beat_after(now),
            enqueue=enqueue,
        )

    def _renewal(
        self, node: Node, memory: NodeMemory, now: Instant, failure: Response | None
    ) -> Request:
        """The request that creates the Lease, or renews it."""
        code = failure.code if failure is not None else 0
        name, because = self.node_name, "a heartbeat"
        if (memory.renewed_at == 0 or code == 404) and code != 409:
            body = compute_lease(node, self.config, now)
            return Request("create", LEASES, LEASE_NAMESPACE, name, body=body, because=because)
        spec = {"holderIdentity": name, "renewTime": micro_timestamp(now)}
        patch = Patch("application/merge-patch+json", {"spec": spec})
        return Request("patch", LEASES, LEASE_NAMESPACE, name, body=patch, because=because)

    def ran(
        self, memory: NodeMemory, key: Key, operation: Operation, result: Result, now: Instant
    ) -> tuple[NodeMemory, tuple[Key, ...]]:
        """Handle the description of the machine, or the end of the configuration of its network.

        The status is reconciled only if the description is new or a write is due: otherwise a
        heartbeat would cost two more reconciles.
        """
        if isinstance(operation, UpdateRuntimeConfig):
            error = result.message if isinstance(result, Failed) else ""
            configured = memory.pod_cidr if error else operation.pod_cidr
            memory = replace(
                memory, pod_cidr=configured, configuring="", network_error=error, configured_at=now
            )
            # the next description tells whether pods have a network
            return replace(memory, described_at=0), (NETWORK, NODE_STATUS)
        following = _described(memory, result)
        is_same = (
            following.described == memory.described
            and following.describe_error == memory.describe_error
        )
        # without an instant, it was requested again meanwhile
        if (
            is_same
            and memory.described_at
            and now < memory.status_at + self.config.node_status_every
        ):
            return following, ()
        return following, (REGISTER, NODE_STATUS)


def _describing(memory: NodeMemory, now: Instant) -> NodeMemory:
    return replace(memory, describing=True, described_at=now)


def _described(memory: NodeMemory, result: Result) -> NodeMemory:
    """The memory after the machine's description, or after the failure to get one."""
    if isinstance(result, NodeDescribed):
        return replace(memory, described=result, describe_error="", describing=False)
    return replace(
        memory,
        describe_error=result.message if isinstance(result, Failed) else "",
        describing=False,
    )
