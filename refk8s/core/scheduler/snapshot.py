"""The snapshot: each node with its pods and their requests, updated with each change. Rules
SCHED-3, SCHED-4 (spec/scheduler.md).

There are two snapshots. The *truth* is a fold over the view. The *working* snapshot is the truth
plus the assumed pods that the view does not show as bound yet; decisions use this one. Both are
values. A change costs O(1), whatever the number of pods and nodes. Each change adds a link to the
chain of changes, so a cache computed from an earlier snapshot finds the nodes that have changed.
Source: Kubernetes documentation, "Scheduling Framework" (the scheduling cycle's snapshot).
"""

from collections.abc import Iterable
from typing import Any

from immutables import Map

from refk8s.core.api.core_v1 import ContainerImage, Node, Pod, Taint
from refk8s.core.api.resources import (
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Resource,
)
from refk8s.core.api.selector import Selector
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import controller_of
from refk8s.core.memo import remember_within
from refk8s.core.pods import resources
from refk8s.core.pods.devices import UsedClaim, used_claims
from refk8s.core.pods.host_ports import HostPort
from refk8s.core.pods.resize import requests_in_use
from refk8s.core.pods.resources import CPU, EPHEMERAL_STORAGE, MEMORY, Amounts, amount
from refk8s.core.pods.status import FINAL_PHASES
from refk8s.core.pods.volumes import claims_of
from refk8s.core.scheduler.inter_pod import InterPodTerms, inter_pod_terms
from refk8s.core.scheduler.needs import CACHED_BYTES_MAX, DEFAULT_SCHEDULER, Needs, needs_of
from refk8s.core.value import Value

ZONE_LABEL, HOSTNAME_LABEL = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
SPREAD_OWNERS = {
    ("apps/v1", "ReplicaSet"): REPLICA_SETS,
    ("v1", "ReplicationController"): REPLICATION_CONTROLLERS,
    ("apps/v1", "StatefulSet"): STATEFUL_SETS,
}
"""The owners whose pods are spread (SCHED-27)."""
KNOWN_MAX = 4096  # kinds of labels whose match is kept for a group
CHAIN_LENGTH_MAX = 4096  # links; a cache that is further behind reads every node


class NodeFacts(Value, frozen=True):
    """The fields of a Node that the scheduler needs. A heartbeat does not change them."""

    name: str
    labels: dict[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    cpu: int
    memory: int
    ephemeral_storage: int
    pods: int
    extended: Amounts
    images: tuple[ContainerImage, ...] = ()

    @property
    def zone(self) -> str:
        """The zone label of the node, or empty."""
        return self.labels.get(ZONE_LABEL, "")

    @property
    def has_hostname(self) -> bool:
        return HOSTNAME_LABEL in self.labels


class Kin(Value, frozen=True, cache_hash=True):
    """The namespace and the labels of pods, which all pods of one template have in common."""

    namespace: str
    labels: tuple[tuple[str, str], ...]


def _size(namespace: str, labels: tuple[tuple[str, str], ...]) -> int:
    return len(namespace) + sum([len(name) + len(value) for name, value in labels])


# one object for equal values, which a map finds faster
_kin = remember_within(CACHED_BYTES_MAX, _size)(Kin)


class Group:
    """The pods that are spread together by default: those of the namespace that the selector
    matches (SCHED-27). Equal by these two."""

    __slots__ = ("_hash", "_known", "namespace", "selector")

    def __init__(self, namespace: str, selector: Selector) -> None:
        self.namespace, self.selector = namespace, selector
        self._hash = hash((namespace, selector))
        self._known: dict[Kin, bool] = {}  # whether the selector matches

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Group)
            and self.namespace == other.namespace
            and self.selector == other.selector
        )

    def __hash__(self) -> int:
        return self._hash

    def count(self, load: "Load") -> int:
        """The pods of the group on a node, without those that are being deleted. O(kinds of labels
        on the node)."""
        known, count = self._known, 0
        for kin, number in load.kin.items():
            found = known.get(kin)
            if found is None:
                if len(known) >= KNOWN_MAX:
                    known.clear()
                found = known[kin] = self._has(kin)
            if found:
                count += number
        return count

    def _has(self, kin: Kin) -> bool:
        return kin.namespace == self.namespace and self.selector.matches(dict(kin.labels))


class PodInfo(Value, frozen=True, eq=False):
    """The fields of a pod that the scheduler needs."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    owner: tuple[Resource, Key] | None  # the controller whose pods are spread (SCHED-27)
    kin: Kin
    is_terminating: bool
    priority: int
    needs: Needs
    inter_pod: InterPodTerms | None
    claims: tuple[str, ...] = ()  # the keys of the claims of its volumes
    scheduler_name: str = DEFAULT_SCHEDULER
    devices: tuple[UsedClaim, ...] = ()  # its ResourceClaims
    group: Group | None = None  # set when it is decided

    @property
    def has_claims(self) -> bool:
        """Whether it uses volumes or devices of claims."""
        return bool(self.claims or self.devices or self.needs.backed)


class Load(Value, frozen=True, eq=False):
    """The pods of a node and the sums of their requests. Finished pods are not included."""

    pods: Map[str, PodInfo]  # by uid
    cpu: int
    memory: int
    ephemeral_storage: int
    extended: Amounts
    scored_cpu: int
    scored_memory: int
    ports: tuple[HostPort, ...]
    kin: Map[Kin, int]  # the number of pods that are not being deleted
    bound: Map[str, PodInfo]  # pods with inter-pod terms, by uid

    def plus(self, pod: PodInfo) -> "Load":
        return self._with(pod, self.pods.set(pod.uid, pod), 1)

    def minus(self, pod: PodInfo) -> "Load":
        return self._with(pod, self.pods.delete(pod.uid), -1)

    def _with(self, pod: PodInfo, pods: Map[str, PodInfo], sign: int) -> "Load":
        needs = pod.needs
        extended, ports, kin, bound = self.extended, self.ports, self.kin, self.bound
        if needs.extended:
            extended = {
                name: self.extended.get(name, 0) + sign * needs.extended.get(name, 0)
                for name in self.extended | needs.extended
            }
            extended = {name: extended[name] for name in sorted(extended) if extended[name]}
        if needs.ports:
            remaining = list(ports)
            for port in needs.ports:
                if sign > 0:
                    remaining.append(port)
                else:
                    remaining.remove(port)
            ports = tuple(sorted(remaining))
        if not pod.is_terminating:
            count = kin.get(pod.kin, 0) + sign
            kin = kin.set(pod.kin, count) if count else kin.delete(pod.kin)
        if pod.inter_pod is not None:
            bound = bound.set(pod.uid, pod) if sign > 0 else bound.delete(pod.uid)
        return Load(
            pods,
            self.cpu + sign * needs.cpu,
            self.memory + sign * needs.memory,
            self.ephemeral_storage + sign * needs.ephemeral_storage,
            extended,
            self.scored_cpu + sign * needs.scored_cpu,
            self.scored_memory + sign * needs.scored_memory,
            ports,
            kin,
            bound,
        )


def is_alike(one: Load, other: Load) -> bool:
    """Whether every filter and local score has the same result for both, even with other pods."""
    return one is other or (
        one.cpu == other.cpu
        and one.memory == other.memory
        and one.scored_cpu == other.scored_cpu
        and one.scored_memory == other.scored_memory
        and len(one.pods) == len(other.pods)
        and one.ephemeral_storage == other.ephemeral_storage
        and one.extended == other.extended
        and one.ports == other.ports
    )


IDLE = Load(Map(), 0, 0, 0, {}, 0, 0, (), Map(), Map())


_NO_NAMES: Map[str, None] = Map()
_NO_IMAGES: Map[str, int] = Map()


class Change(Value, frozen=True, eq=False):
    """A link of the chain of changes: this node changed. Compared by identity."""

    node: str
    before: "Change | None"
    length: int


def changes_since(link: Change | None, seen: Change | None) -> list[str] | None:
    """The names of the nodes that changed after the link `seen`, newest first; None if the chain
    that ends with `link` no longer has it."""
    names: dict[str, None] = {}
    if seen is None and link is not None:
        return None  # The chain may have been cut, so its end is not the beginning.
    while link is not seen:
        if link is None:
            return None
        names[link.node] = None
        link = link.before
    return list(names)


class Snapshot(Value, frozen=True, eq=False):
    """Nodes and loads at one moment. A load may exist without its node, if the view shows the pods
    first."""

    nodes: Map[str, NodeFacts]
    loads: Map[str, Load]
    last_change: Change | None = None
    bound: Map[str, None] = _NO_NAMES  # nodes with pods that have inter-pod terms
    images: Map[str, int] = _NO_IMAGES  # the number of nodes that have each image, by name

    def load(self, node: str) -> Load:
        return self.loads.get(node, IDLE)

    def with_node(self, name: str, facts: NodeFacts | None) -> "Snapshot":
        """The snapshot with this node (None: without it)."""
        before = self.nodes.get(name)
        if before == facts:
            return self
        nodes = self.nodes.set(name, facts) if facts is not None else self.nodes.delete(name)
        images = self.images
        if (before is not None and before.images) or (facts is not None and facts.images):
            images = _recount(images, before, facts)
        return Snapshot(nodes, self.loads, _link(name, self.last_change), self.bound, images)

    def with_load(self, name: str, load: Load) -> "Snapshot":
        """The snapshot with this load on that node."""
        loads = (
            self.loads.set(name, load)
            if load.pods
            else self.loads.delete(name)
            if name in self.loads
            else self.loads
        )
        bound = self.bound
        if len(load.bound):
            bound = bound.set(name, None)
        elif len(bound) and name in bound:
            bound = bound.delete(name)
        return Snapshot(self.nodes, loads, _link(name, self.last_change), bound, self.images)

    def changed_since(self, seen: Change | None) -> list[str] | None:
        """As `changes_since`, of this snapshot."""
        return changes_since(self.last_change, seen)


EMPTY = Snapshot(Map(), Map())


def _recount(
    images: Map[str, int], before: NodeFacts | None, after: NodeFacts | None
) -> Map[str, int]:
    """The number of nodes that have each image, after one node has changed. O(its images)."""
    counts = images.mutate()
    for facts, sign in ((before, -1), (after, 1)):
        for name in image_names(facts.images) if facts is not None else ():
            count = counts.get(name, 0) + sign
            if count:
                counts[name] = count
            else:
                del counts[name]
    return counts.finish()


def image_names(images: Iterable[ContainerImage]) -> list[str]:
    """All names of these images."""
    return sorted({name for image in images for name in image.names or ()})


def _link(node: str, before: Change | None) -> Change:
    if before is None or before.length >= CHAIN_LENGTH_MAX:
        # The chain is cut, so that memory stays bounded; older links are no longer found.
        return Change(node, None, 1)
    return Change(node, before, before.length + 1)


def facts_of(node: Node) -> NodeFacts:
    """The facts of a node. They do not include the `timeAdded` of taints."""
    allocatable = node.status.allocatable or {} if node.status else {}
    spec = node.spec
    known = (CPU, MEMORY, EPHEMERAL_STORAGE, resources.PODS)
    return NodeFacts(
        name=node.metadata.name or "",
        labels=node.metadata.labels or {},
        taints=tuple(
            Taint(key=t.key, value=t.value, effect=t.effect)
            for t in (spec.taints if spec else None) or ()
        ),
        unschedulable=bool(spec and spec.unschedulable),
        cpu=amount(CPU, allocatable.get(CPU, "0")),
        memory=amount(MEMORY, allocatable.get(MEMORY, "0")),
        ephemeral_storage=amount(EPHEMERAL_STORAGE, allocatable.get(EPHEMERAL_STORAGE, "0")),
        pods=amount(resources.PODS, allocatable.get(resources.PODS, "0")),
        extended={
            name: amount(name, allocatable[name])
            for name in sorted(allocatable)
            if name not in known
        },
        images=(node.status.images or ()) if node.status else (),
    )


def info_of(pod: Pod) -> PodInfo:
    metadata, needs = pod.metadata, needs_of(pod)
    namespace, labels = metadata.namespace or "", metadata.labels or {}
    return PodInfo(
        metadata.uid or "",
        namespace,
        metadata.name or "",
        labels,
        _spread_owner(pod),
        _kin(namespace, tuple(labels.items())),
        metadata.deletion_timestamp is not None,
        pod.spec.priority or 0,
        needs,
        inter_pod_terms(needs, namespace, labels),
        claims_of(pod) if pod.spec.volumes else (),
        pod.spec.scheduler_name or DEFAULT_SCHEDULER,
        used_claims(pod) if pod.spec.resource_claims else (),
    )


def _spread_owner(pod: Pod) -> tuple[Resource, Key] | None:
    owner = controller_of(pod)
    if owner is None:
        return None
    resource = SPREAD_OWNERS.get((owner.api_version, owner.kind))
    return (resource, f"{pod.metadata.namespace}/{owner.name}") if resource is not None else None


def node_taken(pod: Pod | None) -> str:
    """The node on which the pod counts, also while it is being deleted; or empty (SCHED-4)."""
    if pod is None or pod.spec is None or pod.status.phase in FINAL_PHASES:
        return ""
    return pod.spec.node_name or ""


def is_same_load(old: Pod, new: Pod) -> bool:
    """Whether two versions of a pod give the same load; the generation shows other specs."""
    before, after = old.metadata, new.metadata
    return (
        before.uid == after.uid
        and before.labels == after.labels
        and (before.deletion_timestamp is None) == (after.deletion_timestamp is None)
        and (
            before.generation == after.generation
            if before.generation and after.generation
            else old.spec == new.spec
        )
        and ((after.generation or 0) <= 1 or requests_in_use(old) == requests_in_use(new))
    )


def fold(snapshot: Snapshot, resource: Resource, old: Any, new: Any) -> Snapshot:
    """The truth after one more change of a pod or node (SCHED-3). O(1)."""
    if resource != PODS:
        return snapshot.with_node(
            (new or old).metadata.name, facts_of(new) if new is not None else None
        )
    before, after = node_taken(old), node_taken(new)
    if before == after and (not before or is_same_load(old, new)):
        return snapshot
    if before:
        load = snapshot.load(before)
        snapshot = snapshot.with_load(before, load.minus(load.pods[old.metadata.uid]))
    if after:
        snapshot = snapshot.with_load(after, snapshot.load(after).plus(info_of(new)))
    return snapshot


def fold_starts(last: Change | None, resource: Resource, old: Any, new: Any) -> Change | None:
    """The chain of the nodes where a start time of a pod has changed, besides its load. O(1)."""
    if old is None or new is None or old.status is new.status:
        return last
    before = old.status.start_time if old.status is not None else None
    after = new.status.start_time if new.status is not None else None
    return last if before == after or not new.spec.node_name else _link(new.spec.node_name, last)


def recompute(nodes: Iterable[Node], pods: Iterable[Pod]) -> Snapshot:
    """The truth computed from scratch, equal to the fold (SCHED-3). O(nodes + pods)."""
    snapshot = EMPTY
    for node in nodes:
        snapshot = snapshot.with_node(node.metadata.name or "", facts_of(node))
    for pod in pods:
        if name := node_taken(pod):
            snapshot = snapshot.with_load(name, snapshot.load(name).plus(info_of(pod)))
    return snapshot
